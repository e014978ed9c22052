//! ringhub-bench: what does a delivered message cost the server, and is every one of them delivered?
//!
//! The generator knows nothing of the server but its address and its process id: it talks WebSocket
//! over TCP, checks every delivery, and reads the server's CPU time and memory from `/proc`. One
//! thread, one readiness queue, pinned to the last CPU, so that the server keeps the others. What else a workload
//! needs (the floor, an event handler) is a child, so that its CPU time is told apart.
//!
//! What must stay true:
//! - every delivery is verified; a run with a violation ends with exit code 1,
//! - the figure is the server's CPU per delivery, the median of rounds, next to the floor of the same
//!   rounds; wall-clock figures are shown, but a shared machine moves them,
//! - all unsafe code of this crate is in `sys`.

mod azure;
mod bystanders;
mod cli;
mod client;
mod compare;
mod connection;
mod contest;
mod crowd;
mod cuts;
mod echo;
mod envelope;
mod error;
mod facts;
mod fanout;
mod flood;
mod floor;
mod handler;
mod idle;
mod judgement;
mod layout;
mod ledger;
mod measure;
mod pace;
mod peer;
mod plot;
mod publish;
mod random;
mod report;
mod rest;
mod server;
mod smoke;
mod soak;
mod stalled;
mod stamp;
mod storm;
mod sweep;
mod sys;
mod token;
mod trace;
mod webhook;
mod wire;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use error::Error;
use publish::Circumstances;
use report::{Report, Style};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let about = Circumstances::now();
    match run(&cli.command) {
        Ok(reports) => {
            let tables = || report::as_tables(&reports, Style::Plain);
            print!("{}", if cli.json { report::as_json(&reports) } else { tables() });
            if let Some(dir) = &cli.report
                && let Err(error) = publish::write(dir, &reports, &about)
            {
                eprintln!("ringhub-bench: {error}");
                return ExitCode::from(2);
            }
            // 1 is kept for "the server broke its promise".
            if reports.iter().all(Report::is_clean) { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("ringhub-bench: {error}");
            ExitCode::from(if error.is_violation() { 1 } else { 2 })
        }
    }
}

fn run(command: &Command) -> Result<Vec<Report>, Error> {
    match command {
        Command::Fanout(args) => fanout::run(args).map(|report| vec![report]),
        Command::Idle(args) => idle::run(args).map(|report| vec![report]),
        Command::Echo(args) => echo::run(args).map(|report| vec![report]),
        Command::Storm(args) => storm::run(args).map(|report| vec![report]),
        Command::Rest(args) => rest::run(args).map(|report| vec![report]),
        Command::Webhook(args) => webhook::run(args),
        Command::Stalled(args) => stalled::run(args).map(|report| vec![report]),
        Command::Flood(args) => flood::run(args),
        Command::Cuts(args) => cuts::run(args).map(|report| vec![report]),
        Command::Soak(args) => soak::run(args).map(|report| vec![report]),
        Command::Azure(args) => azure::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Sweep(args) => sweep::run(args),
        Command::Smoke(args) => smoke::run(args),
        Command::WebhookHandler(args) => handler::serve(args).map(|()| Vec::new()),
        Command::FloorServer(args) => floor::serve(args).map(|()| Vec::new()),
        Command::FloorDrain(args) => floor::drain(args).map(|()| Vec::new()),
    }
}
