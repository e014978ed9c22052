//! The server.

mod auth;
mod cli;
mod config;
pub mod core;
pub mod net;
mod probe;
mod rest;

fn main() {}
