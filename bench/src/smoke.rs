//! Every workload, tiny: proof that server and generator work together, not a measurement. Times are not judged: a
//! machine that builds something else meanwhile must not fail it.

use clap::Parser;

use crate::cli::{self, Cli, Command, FanoutArgs, ServerArgs, SmokeArgs};
use crate::error::Error;
use crate::handler::{Handler, Http};
use crate::report::Report;
use crate::server::{self, Server, Verb};
use crate::{azure, cuts, echo, fanout, flood, idle, rest, stalled, storm, webhook};

/// The hub of bystanders beside floods.
const FLOOD_HUB: &str = "smoke_flood";

/// Runs in less than a minute. What needs a server of its own (`echo`) or event handlers takes part only
/// with `--server-bin`.
pub(crate) fn run(args: &SmokeArgs) -> Result<Vec<Report>, Error> {
    let mut reports = Vec::new();
    {
        let mut handlers = Vec::new();
        if args.server.server_bin.is_some() {
            for http in [Http::One, Http::Two] {
                handlers.push(Handler::start(http, 0, &server::cpus_beside(&args.server)?)?);
            }
        }
        let config = handlers.iter().map(|handler| handler.config(&echo_hub(handler.http())));
        let flooded = handlers.first().map(|handler| handler.config(&flood::handled_hub(FLOOD_HUB)));
        let server =
            Server::configured(&args.server, Verb::Serve, &config.chain(flooded).collect::<String>())?;
        for line in [
            "fanout --protocol raw --members 100 --messages 50 --rounds 3 --floor",
            "fanout --protocol raw --members 100 --mode burst --messages 640 --rounds 3 --floor",
            "fanout --protocol json --members 100 --groups 10 --publishers 20 --messages 400 --rounds 2",
            "fanout --protocol reliable --members 100 --distinct-ids --mode burst --messages 640 --rounds 3",
            "fanout --protocol reliable --members 50 --mode rate --rate 100 --messages 100 --rounds 2",
            "idle --connections 200 --protocol raw",
            "idle --connections 200 --protocol json",
            "idle --connections 200 --protocol reliable",
            "storm --connections 200 --rounds 2",
            "storm --connections 200 --rounds 2 --drop --unjudged",
            "rest --members 20 --messages 200 --rounds 2 --target user",
            "rest --members 20 --messages 100 --rounds 2 --target group --groups 4 --protocol raw",
            "rest --members 20 --messages 100 --rounds 2 --target all --protocol reliable --rate 400",
            "webhook --connections 20 --in-flight 8 --messages 400 --rounds 2",
            "webhook --connections 20 --in-flight 50 --messages 400 --rounds 2 --http 2 --protocol reliable",
            "webhook --connections 20 --rate 400 --messages 100 --rounds 2 --protocol raw",
            "stalled --members 5 --stalled 2 --size 30000 --messages 600 --rounds 1 --unjudged",
            "stalled --members 5 --stalled 2 --messages 1000 --rounds 1 --resume --unjudged",
            "flood --seconds 0.1 --rounds 1 --flooders 1 --unjudged",
            "cuts --members 40 --rate 200 --cuts 40 --away 200 --seconds 1",
            "azure --units 1 --connections-max 100 --senders 4 --seconds 0.3",
        ] {
            // A hub each: lost sockets of reliable members keep their sessions for a while.
            let line = format!("{line} --hub smoke{}", reports.len());
            reports.append(&mut run_line(&server, &handlers, &line, &args.server)?);
        }
    }
    if args.server.server_bin.is_some() {
        match parse("echo --connections 50 --messages 5000 --rounds 2")? {
            Command::Echo(echo) => {
                reports.push(echo::run(&cli::EchoArgs { server: args.server.clone(), ..echo })?)
            }
            _ => unreachable!("the verb decides the variant"),
        }
    }
    Ok(reports)
}

/// The hub whose events go to the handler that speaks this HTTP.
fn echo_hub(http: Http) -> String {
    match http {
        Http::One => "smoke_http1".to_owned(),
        Http::Two => "smoke_http2".to_owned(),
    }
}

/// Runs one line against `server`, whose options the line does not repeat; nothing, if it needs a handler and there
/// is none.
fn run_line(
    server: &Server,
    handlers: &[Handler],
    line: &str,
    found: &ServerArgs,
) -> Result<Vec<Report>, Error> {
    let handler = |http| handlers.iter().find(|handler| handler.http() == http);
    let timeout = found.timeout;
    let report = match parse(line)? {
        Command::Fanout(args) => {
            let args = FanoutArgs { server: found.clone(), ..args };
            args.check().map_err(Error::Usage)?;
            fanout::run_against(server, &args)?
        }
        Command::Idle(mut args) => {
            args.server.timeout = timeout;
            idle::run_against(server, &args)?
        }
        Command::Storm(mut args) => {
            args.server.timeout = timeout;
            storm::run_against(server, &args)?
        }
        Command::Rest(mut args) => {
            args.server.timeout = timeout;
            rest::run_against(server, &args)?
        }
        Command::Stalled(mut args) => {
            args.server.timeout = timeout;
            stalled::run_against(server, &args)?
        }
        Command::Flood(mut args) => {
            args.server.timeout = timeout;
            args.hub = FLOOD_HUB.to_owned();
            return flood::run_against(server, !handlers.is_empty(), &args);
        }
        Command::Cuts(mut args) => {
            args.server.timeout = timeout;
            cuts::run_against(server, &args)?
        }
        Command::Webhook(mut args) => {
            args.server.timeout = timeout;
            args.hub = echo_hub(args.http[0]);
            let Some(handler) = handler(args.http[0]) else { return Ok(Vec::new()) };
            return webhook::run_against(&[(server, handler)], &args);
        }
        Command::Azure(mut args) => {
            args.server.timeout = timeout;
            args.echo_hub = echo_hub(args.http);
            return azure::run_against(server, handler(args.http), &args);
        }
        _ => unreachable!("the lines above name no other"),
    };
    Ok(vec![report])
}

/// Options as a person would type them, so that the smoke test covers the command line too. The server
/// is put in afterwards.
fn parse(line: &str) -> Result<Command, Error> {
    let words = ["ringhub-bench"].into_iter().chain(line.split_ascii_whitespace());
    let words = words.chain(["--server-bin", "-"]);
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| Error::Usage(error.to_string()))
}
