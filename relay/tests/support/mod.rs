//! Handlers made of bytes, and a core's side of the exchange.

pub(crate) mod handler;
pub(crate) mod world;
