//! Every workload, tiny: proof that server and generator work together, not a measurement.

use clap::Parser;

use crate::cli::{Cli, Command, EchoArgs, FanoutArgs, IdleArgs, ServerArgs, SmokeArgs};
use crate::error::Error;
use crate::report::Report;
use crate::server::{Server, Verb};
use crate::{echo, fanout, idle};

/// Runs in less than 20 seconds. `echo` takes part only with `--server-bin`, since it needs a listener
/// of its own.
pub(crate) fn run(args: &SmokeArgs) -> Result<Vec<Report>, Error> {
    let mut reports = Vec::new();
    {
        let server = Server::start(&args.server, Verb::Serve)?;
        for options in [
            "--protocol raw --members 100 --messages 50 --rounds 3 --floor",
            "--protocol raw --members 100 --mode burst --messages 640 --rounds 3 --floor",
            "--protocol json --members 100 --groups 10 --publishers 20 --messages 400 --rounds 2",
            "--protocol reliable --members 100 --distinct-ids --mode burst --messages 640 --rounds 3",
            "--protocol reliable --members 50 --mode rate --rate 100 --messages 100 --rounds 2",
        ] {
            reports.push(fanout::run_against(&server, &fanout_args(options, &args.server)?)?);
        }
        for protocol in ["raw", "json", "reliable"] {
            let options = format!("--connections 200 --protocol {protocol}");
            reports.push(idle::run_against(&server, &idle_args(&options, &args.server)?)?);
        }
    }
    if args.server.server_bin.is_some() {
        reports.push(echo::run(&echo_args("--connections 50 --messages 5000 --rounds 2", &args.server)?)?);
    }
    Ok(reports)
}

fn fanout_args(options: &str, server: &ServerArgs) -> Result<FanoutArgs, Error> {
    match parse("fanout", options)? {
        Command::Fanout(args) => {
            let args = FanoutArgs { server: server.clone(), ..args };
            args.check().map_err(Error::Usage)?;
            Ok(args)
        }
        _ => unreachable!("the verb decides the variant"),
    }
}

fn idle_args(options: &str, server: &ServerArgs) -> Result<IdleArgs, Error> {
    match parse("idle", options)? {
        Command::Idle(args) => Ok(IdleArgs { server: server.clone(), ..args }),
        _ => unreachable!("the verb decides the variant"),
    }
}

fn echo_args(options: &str, server: &ServerArgs) -> Result<EchoArgs, Error> {
    match parse("echo", options)? {
        Command::Echo(args) => Ok(EchoArgs { server: server.clone(), ..args }),
        _ => unreachable!("the verb decides the variant"),
    }
}

/// Options as a person would type them, so that the smoke test covers the command line too. The server
/// is put in afterwards.
fn parse(verb: &str, options: &str) -> Result<Command, Error> {
    let words = ["ringhub-bench", verb, "--server-bin", "-"];
    let words = words.into_iter().chain(options.split_ascii_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| Error::Usage(error.to_string()))
}
