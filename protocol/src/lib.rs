//! Bytes in, values out; values in, bytes out.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or draws a random number, and nothing is
//! `unsafe`: the same code runs in the server, in the simulator and under the fuzzers.
//!
//! | Module | Layer |
//! |---|---|
//! | [`ws`] | WebSocket: upgrade, frames, masking, UTF-8, messages, close codes (RFC 6455) |
//! | [`pubsub`] | the subprotocols `json.webpubsub.azure.v1` and `json.reliable.webpubsub.azure.v1`, raw clients |
//! | [`auth`] | token claims, audiences, roles |
//! | [`rest`] | a data-plane call as a value, and its error body |
//! | [`http`] | request heads, read strictly (RFC 9112) |
//! | [`name`] | names that are legal once they exist |
//! | [`uri`] | percent-decoding of paths and queries |
#![forbid(unsafe_code)]

pub mod auth;
pub mod http;
pub mod name;
pub mod pubsub;
pub mod rest;
pub mod uri;
pub mod ws;
