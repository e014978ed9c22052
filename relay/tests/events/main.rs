//! Events on the wire: real sockets, handlers made of bytes.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod http2;
mod listeners;
mod order;
mod stop;
mod token;
mod trouble;
mod validation;
mod wire;
