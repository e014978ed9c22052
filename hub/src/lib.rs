//! One core of pub/sub.
#![forbid(unsafe_code)]
