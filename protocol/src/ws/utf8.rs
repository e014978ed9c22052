//! Incremental UTF-8 validation across fragments and chunks.
