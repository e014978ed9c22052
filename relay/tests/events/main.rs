//! Events on the wire: real sockets, handlers made of bytes.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod order;
mod trouble;
mod wire;
