//! The server.

pub mod core;
pub mod net;

fn main() {}
