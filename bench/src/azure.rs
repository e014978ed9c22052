//! The hosted service's published workloads: how far up its unit columns does one server get?
//!
//! The service publishes, per unit count, rates at which 99 % of messages take less than a second, with
//! payloads of 2,048 bytes and every sender sending once a second (reference service-model §6). A column
//! with more connections than one process may open is scaled, and the report says how: outbound messages
//! a second stay as published; a message that reaches fewer members is sent more often instead.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;

use crate::cli::{Protocol, ServerArgs};
use crate::crowd::{Crowd, Plain, Workload, client_spec};
use crate::error::Error;
use crate::facts;
use crate::handler::{Handler, Http};
use crate::layout::{Layout, Source, group_name};
use crate::pace::{Stall, TURN_MAX};
use crate::report::Report;
use crate::rest::{Senders, Target, receiver_spec};
use crate::server::{self, Server, Verb};
use crate::sys;

/// Unmeasured seconds at the start of a column.
const WARM_UP_SECONDS: f64 = 1.0;

/// A column is given up when so many seconds of deliveries are outstanding.
const BACKLOG_SECONDS: u64 = 5;

/// The published definition of a rate that holds: p99 below it.
const P99_BELOW_NS: u64 = 1_000_000_000;

/// What design §4 aims at.
const AIM: &str = "(hold 1000, aim 50)";

/// The published workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Send to big group: 10 groups, each with a tenth of the connections.
    Big,
    /// Send to small group: 10 members per group.
    Small,
    /// Send to user through REST.
    RestUser,
    /// Broadcast through REST.
    RestAll,
    /// Upstream echo: an event handler gives every event back.
    Echo,
}

/// All of them, in the order of the published page but for the one that needs a handler.
const CASES: [Case; 5] = [Case::Big, Case::Small, Case::RestUser, Case::RestAll, Case::Echo];

impl Case {
    fn title(self) -> &'static str {
        match self {
            Self::Big => "send to big group",
            Self::Small => "send to small group",
            Self::RestUser => "send to user through REST",
            Self::RestAll => "broadcast through REST",
            Self::Echo => "upstream echo",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Big => "big",
            Self::Small => "small",
            Self::RestUser => "rest-user",
            Self::RestAll => "rest-all",
            Self::Echo => "echo",
        }
    }

    /// Published messages a second in one column: in and out.
    fn published(self, column: usize) -> (u32, u32) {
        match self {
            Self::Big => (30, [3_000, 6_000, 15_000, 30_000, 60_000, 150_000, 300_000][column]),
            Self::Small => {
                let inbound = [400, 800, 2_000, 4_000, 8_000, 15_000, 15_000][column];
                (inbound, inbound * 10)
            }
            Self::RestUser => {
                let both = [180, 360, 900, 1_800, 3_600, 9_000, 18_000][column];
                (both, both)
            }
            Self::Echo => {
                let both = [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000][column];
                (both, both)
            }
            Self::RestAll => (3, [3_000, 6_000, 15_000, 30_000, 60_000, 150_000, 300_000][column]),
        }
    }
}

/// The unit counts of the published columns; each stands for a thousand connections.
const UNITS: [u32; 7] = [1, 2, 5, 10, 20, 50, 100];

/// Options of `azure`.
#[derive(Args, Clone)]
pub(crate) struct AzureArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// Hub of the echo: only its events go to an event handler.
    #[arg(long, default_value = "bench_echo")]
    pub(crate) echo_hub: String,
    /// Which HTTP the event handler is spoken to. The published figures are of 1.1.
    #[arg(long, value_enum, default_value_t = Http::One)]
    pub(crate) http: Http,
    /// A running server (`--url`) finds the echo hub's event handler at http://127.0.0.1:PORT/; it is started here.
    #[arg(long, value_name = "PORT", requires = "url")]
    pub(crate) handler_port: Option<u16>,
    /// Workloads to climb, as big,rest-all. Default: all; without echo for a running server that has no
    /// --handler-port.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) workloads: Vec<Case>,
    /// Unit columns to climb, ascending, of 1,2,5,10,20,50,100. The climb ends at the first that does not
    /// hold.
    #[arg(long, value_delimiter = ',', default_values_t = UNITS)]
    pub(crate) units: Vec<u32>,
    /// Most WebSocket connections to open. A column with more of them published keeps its outbound rate:
    /// groups shrink (or, small ones, become fewer), and messages are sent more often to make up for it.
    #[arg(long, default_value_t = 18_000)]
    pub(crate) connections_max: usize,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 2048)]
    pub(crate) size: usize,
    /// Measured seconds per column; one unmeasured second goes before.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// HTTP/1.1 keep-alive connections that carry the REST sends.
    #[arg(long, default_value_t = 64)]
    pub(crate) senders: usize,
}

/// Everything for one run of `azure`: per workload one report per column tried, then one with the
/// outcome.
pub(crate) fn run(args: &AzureArgs) -> Result<Vec<Report>, Error> {
    facts::check_key(&args.server)?;
    facts::check_size(args.size)?;
    let counts = [
        ("connections-max", args.connections_max as u64 / 10),
        ("senders", args.senders as u64),
        ("units", args.units.len() as u64),
    ];
    facts::check_counts(&counts, &[("seconds", args.seconds)])?;
    facts::check_publishers(args.connections_max)?;
    if args.units.iter().any(|units| !UNITS.contains(units)) || !args.units.is_sorted() {
        return Err(Error::Usage(format!("--units are some of {UNITS:?}, ascending")));
    }
    Server::check_room_for(args.connections_max + args.senders)?;
    let has_handler = args.server.url.is_none() || args.handler_port.is_some();
    if args.workloads.contains(&Case::Echo) && !has_handler {
        return Err(Error::Usage("the echo of a running server needs --handler-port".into()));
    }
    let start =
        || Handler::start(args.http, args.handler_port.unwrap_or(0), &server::cpus_beside(&args.server)?);
    let handler = if has_handler { Some(start()?) } else { None };
    let config = handler.as_ref().map(|handler| handler.config(&args.echo_hub)).unwrap_or_default();
    let server = Server::configured(&args.server, Verb::Serve, &config)?;
    server.share_cpus()?;
    run_against(&server, handler.as_ref(), args)
}

/// The same against a server that has been found already, with the handler of its echo hub.
pub(crate) fn run_against(
    server: &Server,
    handler: Option<&Handler>,
    args: &AzureArgs,
) -> Result<Vec<Report>, Error> {
    let mut cases = if args.workloads.is_empty() { CASES.to_vec() } else { args.workloads.clone() };
    cases.retain(|&case| case != Case::Echo || handler.is_some());
    let mut reports = Vec::new();
    for case in cases {
        let mut highest: Option<(u32, Outcome)> = None;
        for &units in &args.units {
            let column = Column::scaled(case, units, args.connections_max);
            let (outcome, report) = column.run(server, handler, args)?;
            let held = outcome.verdict == "holds";
            reports.push(report);
            if !held {
                break;
            }
            highest = Some((units, outcome));
        }
        reports.push(summary(args, case, highest.as_ref()));
    }
    Ok(reports)
}

fn summary(args: &AzureArgs, case: Case, highest: Option<&(u32, Outcome)>) -> Report {
    let column = highest.map_or_else(|| "none".to_owned(), |(units, _)| format!("Unit{units}"));
    let title = format!("hosted service's workload, {}: highest column {column}", case.title());
    let mut report = Report::new("azure", title);
    report.fact("case", "workload", case.name());
    report.fact("highest_column", "highest column that holds", column);
    report.fact("highest_units", "", highest.map_or(0, |(units, _)| *units));
    report.fact(
        "columns_tried_to",
        "columns tried up to",
        format!("Unit{}", args.units.last().unwrap_or(&0)),
    );
    if let Some((_, outcome)) = highest {
        report.figure("deliveries_per_second", "deliveries per second there", outcome.rate, "", "");
        facts::latency(&mut report, &outcome.latency, &facts::LATENCY);
        if let Some(cores) = outcome.cores {
            report.figure("cores_used", "cores the server used", cores, "", "");
        }
        if let Some(mib) = outcome.mib {
            report.figure("resident_mib", "server memory", mib, "MiB", "");
        }
    }
    report
}

/// One column of one workload, as it will be run.
#[derive(Debug, PartialEq)]
struct Column {
    case: Case,
    units: u32,
    connections: usize,
    groups: usize,
    /// Receivers of a message.
    fan_out: usize,
    /// Messages sent a second; each sender sends one.
    inbound: u32,
}

struct Outcome {
    verdict: String,
    latency: Histogram<u64>,
    rate: f64,
    cores: Option<f64>,
    own_cores: f64,
    handler_cores: Option<f64>,
    mib: Option<f64>,
}

impl Column {
    fn scaled(case: Case, units: u32, connections_max: usize) -> Self {
        let index = UNITS.iter().position(|&known| known == units).expect("checked with the options");
        let (inbound, outbound) = case.published(index);
        // Whole groups of every shape: ten big ones, or tens of small ones.
        let connections = (units as usize * 1_000).min(connections_max / 10 * 10);
        let (groups, fan_out) = match case {
            Case::Big => (10, connections / 10),
            Case::Small => (connections / 10, 10),
            Case::RestUser | Case::Echo => (connections, 1),
            Case::RestAll => (1, connections),
        };
        // Rounded up: never below what is published.
        let inbound = inbound.max(outbound.div_ceil(fan_out as u32));
        Self { case, units, connections, groups, fan_out, inbound }
    }

    fn outbound(&self) -> u64 {
        u64::from(self.inbound) * self.fan_out as u64
    }

    fn senders(&self) -> usize {
        (self.inbound as usize).min(self.connections)
    }

    /// What differs from the published column, in words.
    fn scaling(&self) -> String {
        let index = UNITS.iter().position(|&known| known == self.units).expect("made from one");
        let (inbound, outbound) = self.case.published(index);
        let published = self.units as usize * 1_000;
        if self.connections == published {
            return "nothing: as published".into();
        }
        let mut said = format!("{} connections instead of {published}", self.connections);
        match self.case {
            Case::Big => said += &format!(", 10 groups of {} instead of {}", self.fan_out, published / 10),
            Case::Small => said += &format!(", {} groups of 10 instead of {}", self.groups, published / 10),
            Case::RestUser => said += ", one user each",
            Case::RestAll | Case::Echo => {}
        }
        if self.inbound != inbound {
            said += &format!(", inbound {} messages/s instead of {inbound}", self.inbound);
        }
        if self.senders() < self.inbound as usize {
            said += &format!(" from {} senders", self.senders());
        }
        said + &format!(", outbound {} messages/s (published: {outbound})", self.outbound())
    }

    fn layout(&self, size: usize) -> Layout {
        let source = match self.case {
            Case::Big | Case::Small => Source::Members,
            Case::RestUser | Case::RestAll => Source::RestDirect,
            Case::Echo => Source::Events,
        };
        // To users, each is a stream of its own; else each sender is one, and not everybody need send to himself.
        let publishers = match self.case {
            Case::RestUser => self.groups,
            Case::Echo => self.senders(),
            Case::Big | Case::Small | Case::RestAll => self.senders().max(self.groups),
        };
        Layout {
            protocol: Protocol::Json,
            source,
            size,
            members: self.connections,
            groups: self.groups,
            publishers,
            skew: false,
        }
    }

    fn run(
        &self,
        server: &Server,
        handler: Option<&Handler>,
        args: &AzureArgs,
    ) -> Result<(Outcome, Report), Error> {
        let patience = Duration::from_secs(args.server.timeout);
        let what = format!("azure {} Unit{}", self.case.name(), self.units);
        let specs = (0..self.connections).map(|member| match self.case {
            Case::Big | Case::Small => {
                let group = [group_name(member % self.groups)];
                client_spec(server, &args.hub, Protocol::Json, &format!("member-{member}"), &group)
            }
            Case::RestUser => {
                receiver_spec(server, &args.hub, Protocol::Json, Target::User, self.groups, member)
            }
            Case::RestAll => receiver_spec(server, &args.hub, Protocol::Json, Target::All, 1, member),
            Case::Echo => {
                client_spec(server, &args.echo_hub, Protocol::Json, &format!("member-{member}"), &[])
            }
        });
        let mut crowd = Crowd::open(server, self.layout(args.size), specs, patience, &what)?;
        // The server shares our CPU: spinning would take from it.
        crowd.spin = false;
        crowd.outstanding_max = self.outbound() * BACKLOG_SECONDS;
        match self.case {
            Case::Big | Case::Small => {
                let outcome = self.drive(server, None, args, &mut crowd, &mut Plain, |_| {})?;
                let report = self.report(args, &crowd, &outcome, None);
                Ok((outcome, report))
            }
            Case::Echo => {
                let outcome = self.drive(server, handler, args, &mut crowd, &mut Plain, |_| {})?;
                let report = self.report(args, &crowd, &outcome, None);
                Ok((outcome, report))
            }
            Case::RestUser | Case::RestAll => {
                let target = if self.case == Case::RestUser { Target::User } else { Target::All };
                // One that has nothing to send for long would be closed by a server that means well.
                let count = args.senders.min(self.inbound as usize);
                let mut senders = Senders::open(&mut crowd, server, &args.hub, target, count)?;
                let forget = Senders::forget_latency;
                let outcome = self.drive(server, None, args, &mut crowd, &mut senders, forget)?;
                let report = self.report(args, &crowd, &outcome, Some(&senders));
                Ok((outcome, report))
            }
        }
    }

    fn drive<W: Workload>(
        &self,
        server: &Server,
        handler: Option<&Handler>,
        args: &AzureArgs,
        crowd: &mut Crowd,
        workload: &mut W,
        forget: impl FnOnce(&mut W),
    ) -> Result<Outcome, Error> {
        let rate = f64::from(self.inbound);
        let handler_ns = || handler.map(|handler| handler.processes.cpu_ns()).transpose();
        let mut measured = Measured::default();
        let outcome = (|| {
            crowd.open_loop((rate * WARM_UP_SECONDS).ceil() as u32, rate, workload)?;
            crowd.ledger.forget_latency();
            forget(workload);
            let before = (facts::cpu_ns(server)?, sys::thread_cpu_ns(), crowd.ledger.deliveries());
            let handler_before = handler_ns()?;
            let start = Instant::now();
            let run = crowd.open_loop((rate * args.seconds).ceil() as u32, rate, workload);
            let seconds = start.elapsed().as_secs_f64();
            let cores = |ns: u64| ns as f64 / 1e9 / seconds;
            measured = Measured {
                rate: (crowd.ledger.deliveries() - before.2) as f64 / seconds,
                cores: facts::spent(before.0, facts::cpu_ns(server)?).map(cores),
                own_cores: cores(sys::thread_cpu_ns() - before.1),
                handler_cores: facts::spent(handler_before, handler_ns()?).map(cores),
            };
            run
        })();
        let verdict = match outcome {
            Ok(()) => {
                let p99 = crowd.ledger.latency().value_at_quantile(0.99);
                match p99 < P99_BELOW_NS {
                    true => "holds".to_owned(),
                    false => format!("does not hold: p99 {:.0} ms", p99 as f64 / 1e6),
                }
            }
            Err(error @ Error::Overloaded(_)) => {
                // Late is not lost.
                let mut stall = Stall::new(crowd.patience);
                while crowd.ledger.outstanding() > 0 && stall.check(&crowd.ledger).is_ok() {
                    crowd.turn(TURN_MAX)?;
                    workload.tend(crowd)?;
                }
                format!("does not hold: {error}")
            }
            Err(error @ (Error::Stalled(_) | Error::Ended { .. })) => format!("does not hold: {error}"),
            Err(error) => return Err(error),
        };
        let Measured { rate, cores, own_cores, handler_cores } = measured;
        let mib = facts::resident_mib(server)?;
        let latency = crowd.ledger.latency().clone();
        Ok(Outcome { verdict, latency, rate, cores, own_cores, handler_cores, mib })
    }

    fn report(
        &self,
        args: &AzureArgs,
        crowd: &Crowd,
        outcome: &Outcome,
        senders: Option<&Senders>,
    ) -> Report {
        let title = format!(
            "hosted service's workload, {}, Unit{}: {}",
            self.case.title(),
            self.units,
            outcome.verdict
        );
        let mut report = Report::new("azure", title);
        report.fact("case", "workload", self.case.name());
        report.fact("units", "units", self.units);
        report.fact("holds", "", outcome.verdict == "holds");
        report.fact("verdict", "verdict", outcome.verdict.as_str());
        report.fact("scaled", "scaled", self.scaling());
        report.fact("connections", "connections", self.connections);
        report.fact("groups", "groups, or users", self.groups);
        report.fact("fan_out", "receivers of a message", self.fan_out);
        report.fact("inbound_per_second", "messages sent per second, one per sender", self.inbound);
        report.fact("outbound_per_second", "deliveries due per second", self.outbound());
        report.fact("payload_bytes", "payload, bytes", args.size);
        report.fact("deliveries", "verified deliveries", crowd.ledger.deliveries());
        if let Some(senders) = senders {
            report.fact("http_connections", "HTTP connections", args.senders.min(self.inbound as usize));
            senders.report_violations(&mut report);
        }
        crowd.ledger.report_violations(&mut report);
        report.figure("deliveries_per_second", "deliveries per second", outcome.rate, "", "");
        report.distribution(&outcome.latency, "", "");
        facts::latency(&mut report, &outcome.latency, &facts::LATENCY[..2]);
        if !outcome.latency.is_empty() {
            let p99 = outcome.latency.value_at_quantile(0.99) as f64 / 1e6;
            report.figure("latency_p99_ms", "latency p99", p99, "ms", AIM);
        }
        facts::latency(&mut report, &outcome.latency, &facts::LATENCY[3..]);
        if let Some(cores) = outcome.cores {
            report.figure("cores_used", "cores the server used", cores, "", "");
        }
        report.figure("generator_cores", "cores this generator used", outcome.own_cores, "", "");
        if let Some(cores) = outcome.handler_cores {
            report.figure("handler_cores", "cores the event handler used", cores, "", "");
        }
        if let Some(mib) = outcome.mib {
            report.figure("resident_mib", "server memory", mib, "MiB", "");
        }
        report
    }
}

#[derive(Default)]
struct Measured {
    rate: f64,
    cores: Option<f64>,
    own_cores: f64,
    handler_cores: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_fit_are_as_published() {
        let column = Column::scaled(Case::Big, 10, 18_000);
        assert_eq!(
            (column.connections, column.groups, column.fan_out, column.inbound),
            (10_000, 10, 1_000, 30)
        );
        assert_eq!(column.scaling(), "nothing: as published");
        let column = Column::scaled(Case::RestAll, 1, 18_000);
        assert_eq!((column.groups, column.fan_out, column.inbound, column.outbound()), (1, 1_000, 3, 3_000));
    }

    #[test]
    fn larger_ones_keep_their_outbound_rate() {
        for case in CASES {
            for (index, &units) in UNITS.iter().enumerate() {
                for connections_max in [18_000, 500, 18] {
                    let column = Column::scaled(case, units, connections_max);
                    let (inbound, outbound) = case.published(index);
                    assert!(column.connections <= connections_max, "{column:?}");
                    assert!(column.outbound() >= u64::from(outbound), "{column:?}");
                    assert!(column.outbound() < u64::from(outbound) + column.fan_out as u64, "{column:?}");
                    assert!(column.inbound >= inbound, "{column:?}");
                }
            }
        }
        let said = Column::scaled(Case::Big, 100, 18_000).scaling();
        assert!(
            said.contains("18000 connections instead of 100000, 10 groups of 1800 instead of 10000"),
            "{said}"
        );
        assert!(said.contains("inbound 167 messages/s instead of 30"), "{said}");
    }
}
