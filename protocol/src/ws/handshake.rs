//! The upgrade: request head → accepted or refused (RFC 6455 §4.2).
