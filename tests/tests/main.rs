//! Black-box tests: the real binary over real sockets. One binary, one module per feature.

mod admin;
mod conversions;
mod cores;
mod handshake;
mod http;
mod json;
mod limits;
mod process;
mod raw;
mod recovery;
mod reliable;
mod rest;
mod sdk;
mod slices;
mod slow;
mod tls;
mod tokens;
