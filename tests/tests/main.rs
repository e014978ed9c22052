//! Black-box tests: the real binary over real sockets. One binary, one module per feature.

mod admin;
mod bulk;
mod compatibility;
mod conversions;
mod cores;
mod filters;
mod handshake;
mod http;
mod json;
mod limits;
mod lists;
mod metadata;
mod oidc;
mod permissions;
mod process;
mod raw;
mod recovery;
mod refusals;
mod reliable;
mod rest;
mod sdk;
mod slices;
mod slow;
mod tokens;
