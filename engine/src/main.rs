//! The server: command line → configuration → cores.
//!
//! [`core`] and [`net`] are the data plane; the rest is the cold side: it decides who may come in, answers
//! HTTP as a value-to-value function, and shows what the cores count.

mod admin;
mod auth;
mod cli;
mod config;
pub mod core;
mod metrics;
pub mod net;
mod probe;
mod rest;
mod server;
mod trace;

use clap::Parser;
use cli::Verb;
use std::process::ExitCode;

/// Small buffers of very many connections come and go on pinned threads: what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let verb = cli::Cli::parse().verb.unwrap_or_else(|| Verb::Serve(cli::Serve::from_environment()));
    let outcome = match &verb {
        Verb::Serve(arguments) => server::serve(arguments),
        Verb::Token(arguments) => server::token(arguments),
        Verb::Check(arguments) => server::check(arguments),
        Verb::Echo(arguments) => server::echo(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
