//! Handlers made of bytes or of hyper, and a core's side of the exchange.

pub(crate) mod handler;
pub(crate) mod hyper_handler;
pub(crate) mod world;
