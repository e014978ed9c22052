//! Webhook echo: clients send events, the server sends each to an event handler on the same machine, and what that
//! answers comes back to the client. Every answer is checked; order is a promise for each connection.
//!
//! The handler is a child of ours (module `handler`). Of several kinds of HTTP each has a server and a handler of its
//! own, and rounds alternate between them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::{Protocol, ServerArgs};
use crate::crowd::{Crowd, Plain, client_spec};
use crate::error::Error;
use crate::facts;
use crate::handler::{Handler, Http};
use crate::layout::{Layout, Source};
use crate::pace::{Stall, TURN_MAX};
use crate::report::Report;
use crate::server::{self, Server, Verb};
use crate::sys;

/// What design §4 holds and aims at: the hosted service's Unit20 and Unit100.
const AIM: &str = "(hold 10,000, aim 50,000)";

/// The server's thread that speaks to handlers.
const RELAY: &str = "ringhub-relay";

/// Options of `webhook`.
#[derive(Args, Clone)]
pub(crate) struct WebhookArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// Which HTTP the handler is spoken to; of both, as 1.1,2, rounds alternate.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Http::One])]
    pub(crate) http: Vec<Http>,
    /// A running server (`--url`) finds its handler at http://127.0.0.1:PORT/ and has no other for the hub; it is
    /// started here.
    #[arg(long, value_name = "PORT", requires = "url")]
    pub(crate) handler_port: Option<u16>,
    /// Connections.
    #[arg(long, default_value_t = 200)]
    pub(crate) connections: usize,
    /// Closed loop: events that are not answered yet, all connections together. They take turns; a connection has
    /// more than one on its way only if there are more of these than connections.
    #[arg(long, default_value_t = 64, conflicts_with = "rate")]
    pub(crate) in_flight: usize,
    /// Open loop instead: events a second, connections taking turns; latency counts from the scheduled time.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// How clients talk: raw, json or reliable.
    #[arg(long, value_enum, default_value_t = Protocol::Json)]
    pub(crate) protocol: Protocol,
    /// Events per round.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) messages: u32,
    /// Measured rounds; the figures are medians. One unmeasured round goes before.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
}

/// Everything for one run of `webhook`: a report for each kind of HTTP.
pub(crate) fn run(args: &WebhookArgs) -> Result<Vec<Report>, Error> {
    args.check()?;
    Server::check_room_for(args.connections * args.http.len())?;
    let mut found = Vec::new();
    for &http in &args.http {
        let port = args.handler_port.unwrap_or(0);
        let handler = Handler::start(http, port, &server::cpus_beside(&args.server)?)?;
        let config = handler.config(&args.hub);
        found.push((Server::configured(&args.server, Verb::Serve, &config)?, handler));
    }
    if let Some((server, _)) = found.first() {
        server.share_cpus()?;
    }
    let entrants: Vec<_> = found.iter().map(|(server, handler)| (server, handler)).collect();
    run_against(&entrants, args)
}

impl WebhookArgs {
    fn check(&self) -> Result<(), Error> {
        facts::check_key(&self.server)?;
        facts::check_size(self.size)?;
        let counts = [
            ("http", self.http.len() as u64),
            ("connections", self.connections as u64),
            ("in-flight", self.in_flight as u64),
            ("messages", u64::from(self.messages)),
            ("rounds", u64::from(self.rounds)),
        ];
        facts::check_counts(&counts, &[("rate", self.rate.unwrap_or(1.0))])?;
        facts::check_publishers(self.connections)?;
        if !self.protocol.is_own() {
            return Err(Error::Usage("only raw, json and reliable have events".into()));
        }
        if self.server.url.is_some() && (self.handler_port.is_none() || self.http.len() > 1) {
            return Err(Error::Usage("a running server needs --handler-port and one kind of --http".into()));
        }
        Ok(())
    }
}

/// The same against servers that have been found already, each with its handler.
pub(crate) fn run_against(found: &[(&Server, &Handler)], args: &WebhookArgs) -> Result<Vec<Report>, Error> {
    let open = |&(server, handler): &(_, _)| Entrant::open(server, handler, args);
    let mut entrants: Vec<_> = found.iter().map(open).collect::<Result<_, _>>()?;
    for entrant in &mut entrants {
        entrant.warm_up(args)?;
    }
    for _ in 0..args.rounds {
        for entrant in &mut entrants {
            entrant.round(args)?;
        }
    }
    entrants.iter_mut().map(|entrant| entrant.report(args)).collect()
}

/// A server with its handler, its clients and what was measured of it.
struct Entrant<'a> {
    server: &'a Server,
    handler: &'a Handler,
    crowd: Crowd,
    rounds: Vec<Round>,
    /// Answers stayed away: there are no further rounds, and what is missing is reported.
    stalled: bool,
}

struct Round {
    events: f64,
    seconds: f64,
    cpu_ns: Option<u64>,
    relay_ns: Option<u64>,
    handler_ns: u64,
    own_ns: u64,
}

struct Spent {
    cpu_ns: Option<u64>,
    relay_ns: Option<u64>,
    handler_ns: u64,
}

impl<'a> Entrant<'a> {
    fn open(server: &'a Server, handler: &'a Handler, args: &WebhookArgs) -> Result<Self, Error> {
        let layout = layout(args.protocol, args.size, args.connections);
        let specs = (0..args.connections).map(|connection| {
            client_spec(server, &args.hub, args.protocol, &format!("member-{connection}"), &[])
        });
        let patience = Duration::from_secs(args.server.timeout);
        let crowd = Crowd::open(server, layout, specs, patience, "webhook")?;
        Ok(Self { server, handler, crowd, rounds: Vec::new(), stalled: false })
    }

    fn warm_up(&mut self, args: &WebhookArgs) -> Result<(), Error> {
        self.send(args, args.messages.div_ceil(4))?;
        self.crowd.ledger.forget_latency();
        Ok(())
    }

    fn round(&mut self, args: &WebhookArgs) -> Result<(), Error> {
        let before = self.spent()?;
        let (start, own_before) = (Instant::now(), sys::thread_cpu_ns());
        self.send(args, args.messages)?;
        let (seconds, own_ns) = (start.elapsed().as_secs_f64(), sys::thread_cpu_ns() - own_before);
        if !self.stalled {
            let after = self.spent()?;
            self.rounds.push(Round {
                events: f64::from(args.messages),
                seconds,
                cpu_ns: facts::spent(before.cpu_ns, after.cpu_ns),
                relay_ns: facts::spent(before.relay_ns, after.relay_ns),
                handler_ns: after.handler_ns - before.handler_ns,
                own_ns,
            });
        }
        Ok(())
    }

    /// CPU time so far, once all is quiet.
    fn spent(&self) -> Result<Spent, Error> {
        let cpu_ns = facts::settled_cpu_ns(self.server)?;
        let relay_ns = self.server.processes.as_ref().and_then(|server| server.thread_cpu_ns(RELAY));
        Ok(Spent { cpu_ns, relay_ns, handler_ns: self.handler.processes.settled_cpu_ns()? })
    }

    fn send(&mut self, args: &WebhookArgs, events: u32) -> Result<(), Error> {
        if self.stalled {
            return Ok(());
        }
        let sent = match args.rate {
            Some(rate) => self.crowd.open_loop(events, rate, &mut Plain),
            None => closed_loop(&mut self.crowd, events, args.in_flight),
        };
        match sent {
            Err(Error::Stalled(_)) => self.stalled = true,
            sent => sent?,
        }
        Ok(())
    }

    fn report(&mut self, args: &WebhookArgs) -> Result<Report, Error> {
        self.crowd.linger()?;
        let (name, http) = (args.protocol.name(), self.handler.http().name());
        let pace = match args.rate {
            Some(rate) => format!("{rate} events/s"),
            None => format!("{} in flight", args.in_flight),
        };
        let title = format!(
            "webhook echo, HTTP/{http}, {name}, {} B, {} connections, {pace}",
            args.size, args.connections
        );
        let mut report = Report::new("webhook", title);
        report.fact("http", "HTTP", http);
        report.fact("protocol", "protocol", name);
        report.fact("pace", "pace", pace);
        report.fact("connections", "connections", args.connections);
        report.fact("payload_bytes", "payload, bytes", args.size);
        report.fact("rounds", "rounds", self.rounds.len());
        report.fact("answers", "verified answers", self.crowd.ledger.deliveries());
        self.crowd.ledger.report_violations(&mut report);
        let mut median_of = |fact, figure: &dyn Fn(&Round) -> Option<f64>| {
            facts::median_of(&mut report, &self.rounds, fact, figure);
        };
        median_of(("events_per_second", "events per second", "", AIM), &|round| {
            Some(round.events / round.seconds)
        });
        let us = |ns: u64, round: &Round| ns as f64 / 1e3 / round.events;
        median_of(("cpu_us_per_event", "server CPU per event", "µs", ""), &|round| {
            Some(us(round.cpu_ns?, round))
        });
        median_of(("relay_us_per_event", "of it the relay's thread", "µs", ""), &|round| {
            Some(us(round.relay_ns?, round))
        });
        median_of(("handler_us_per_event", "handler CPU per event", "µs", ""), &|round| {
            Some(us(round.handler_ns, round))
        });
        median_of(("generator_us_per_event", "generator CPU per event", "µs", ""), &|round| {
            Some(us(round.own_ns, round))
        });
        median_of(("cores_used", "cores the server used", "", ""), &|round| {
            Some(round.cpu_ns? as f64 / 1e9 / round.seconds)
        });
        let latency = self.crowd.ledger.latency();
        report.distribution(latency, "", "");
        facts::latency(&mut report, latency, &facts::LATENCY);
        if let Some(mib) = facts::resident_mib(self.server)? {
            report.figure("resident_mib", "server memory", mib, "MiB", "");
        }
        Ok(report)
    }
}

/// Every connection sends to itself.
fn layout(protocol: Protocol, size: usize, connections: usize) -> Layout {
    Layout {
        protocol,
        source: Source::Events,
        size,
        members: connections,
        groups: connections,
        publishers: connections,
        skew: false,
    }
}

/// At most `in_flight` events without an answer; the next is sent by the connection that has waited longest. Returns
/// when all `events` are answered.
fn closed_loop(crowd: &mut Crowd, events: u32, in_flight: usize) -> Result<(), Error> {
    let connections = crowd.ledger.layout().members;
    let mut idle: VecDeque<u32> = (0..in_flight.max(connections)).map(|n| (n % connections) as u32).collect();
    let mut left = events;
    let mut answered = Vec::new();
    let mut stall = Stall::new(crowd.patience);
    // Of the round before.
    crowd.ledger.take_completed(&mut Vec::new());
    loop {
        while left > 0 && crowd.ledger.outstanding() < in_flight as u64 {
            let connection = idle.pop_front().expect("there are as many as may be in flight");
            let now_ns = crowd.swarm.now_ns();
            crowd.publish(connection as usize, 1, now_ns)?;
            left -= 1;
        }
        if left == 0 && crowd.ledger.outstanding() == 0 {
            return Ok(());
        }
        crowd.turn(TURN_MAX)?;
        stall.check(&crowd.ledger)?;
        crowd.ledger.take_completed(&mut answered);
        idle.extend(answered.drain(..));
    }
}
