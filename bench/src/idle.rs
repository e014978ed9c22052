//! Idle connections: what one costs in memory, and what connecting costs in CPU, token included.

use std::time::Duration;

use crate::cli::{IdleArgs, Protocol};
use crate::client::Swarm;
use crate::crowd::member_spec;
use crate::error::Error;
use crate::report::{Progress, Report};
use crate::server::{Server, Verb};

/// Most connections opened before the first reading, so that what a server sets up once (receive buffers come
/// into use one by one) is not counted as a price per connection.
const FIRST_MAX: usize = 1_000;

/// Everything for one run of `idle`.
pub(crate) fn run(args: &IdleArgs) -> Result<Report, Error> {
    if args.connections == 0 {
        return Err(Error::Usage("--connections must be at least 1".into()));
    }
    if args.protocol.is_own() && args.server.url.is_some() && args.server.key.is_none() {
        return Err(Error::Usage("--key is needed to sign client tokens".into()));
    }
    Server::check_room_for(args.connections + FIRST_MAX.min(args.connections))?;
    let server = Server::start(&args.server, Verb::Serve)?;
    run_against(&server, args)
}

/// The same against a server that has been found already.
pub(crate) fn run_against(server: &Server, args: &IdleArgs) -> Result<Report, Error> {
    let patience = Duration::from_secs(args.server.timeout);
    let mut progress = Progress::new("idle");
    let mut swarm = Swarm::new(server.address, &server.host)?;
    let groups = ["g0".to_owned()];
    let specs = |from: usize, count: usize| {
        let groups = &groups;
        (from..from + count).map(move |index| member_spec(server, &args.hub, args.protocol, index, groups))
    };
    let read = || -> Result<Option<(u64, u64)>, Error> {
        let Some(processes) = &server.processes else { return Ok(None) };
        Ok(Some((processes.settled_cpu_ns()?, processes.resident_bytes()?)))
    };
    let first = FIRST_MAX.min(args.connections);
    swarm.open(specs(0, first), patience, &mut progress)?;
    let before = read()?;
    swarm.open(specs(first, args.connections), patience, &mut progress)?;
    let after = read()?;

    let name = args.protocol.name();
    let mut report = Report::new("idle", format!("{} idle connections, {name}", args.connections));
    report.fact("protocol", "protocol", name);
    report.fact("connections", "connections", args.connections);
    if let Some(((cpu_before, memory_before), (cpu_after, memory_after))) = before.zip(after) {
        let count = args.connections as f64;
        let kib = (memory_after as f64 - memory_before as f64) / 1024.0 / count;
        let us = (cpu_after - cpu_before) as f64 / 1e3 / count;
        let (kib_hold, us_hold) = match args.protocol {
            Protocol::Json => ("(hold 1, aim 0.5)", "(hold 60, aim 40)"),
            _ => ("", ""),
        };
        report.figure("resident_kib_per_connection", "memory per connection", kib, "KiB", kib_hold);
        report.figure("cpu_us_per_connect", "CPU per connect with token", us, "µs", us_hold);
        report.figure("resident_mib", "server memory", memory_after as f64 / 1_048_576.0, "MiB", "");
    }
    Ok(report)
}
