//! The server: command line → configuration → cores.
//!
//! [`run`] is all of it; `main.rs` only calls it. The crate is a library so that its parts can be measured where
//! they are: [`measured`] is a door for this crate's own benches and nobody else's.
//!
//! `core` and `net` are the data plane; the rest is the cold side: it decides who may come in, answers HTTP as
//! a value-to-value function, shows what the cores count, and takes over a configuration that changed.

mod admin;
mod admission;
mod auth;
mod certificates;
mod cli;
mod config;
mod core;
mod drain;
#[doc(hidden)]
pub mod measured;
mod memory;
mod metrics;
mod net;
mod probe;
mod process;
mod reload;
mod rest;
mod server;
mod signals;
mod supervisor;
mod throttle;
mod trace;
mod upstreams;

use clap::Parser;
use cli::Verb;
use ringhub_relay::vital;
use std::process::ExitCode;

/// Carries out the verb of this process's command line, `serve` by default. Returns when the verb is done (a
/// server when it was told to stop); what went wrong has then been said on standard error.
pub fn run() -> ExitCode {
    let verb = cli::Cli::parse().verb.unwrap_or_else(|| Verb::Serve(cli::Serve::from_environment()));
    let outcome = match &verb {
        Verb::Serve(arguments) => vital::guarded("the main thread", || server::serve(arguments)),
        Verb::Drain(arguments) => server::drain(arguments),
        Verb::Token(arguments) => server::token(arguments),
        Verb::Check(arguments) => server::check(arguments),
        Verb::Echo(arguments) => vital::guarded("the main thread", || server::echo(arguments)),
        Verb::Cert(arguments) => server::cert(arguments),
    };
    trace::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
