//! REST senders: requests over keep-alive connections, every answer and every delivery checked.
//!
//! A stream of messages has one sender, and a sender has one request on its way, so the order of a stream
//! is a promise: two sends, the second after the first's 202, arrive in order (reference rest-api §2.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;

use crate::cli::{Protocol, ServerArgs};
use crate::client::Change;
use crate::crowd::{Crowd, Workload, client_spec};
use crate::error::Error;
use crate::facts::{self, Quantile, quantiles};
use crate::layout::{Layout, Source, group_name};
use crate::report::Report;
use crate::server::{Server, Verb};
use crate::stamp::Stamp;
use crate::token;

const REQUEST_LATENCY: [Quantile; 5] = quantiles!("request", "request");

/// Whom a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// One user of many, in turns.
    User,
    /// A group.
    Group,
    /// Everybody in the hub.
    All,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::All => "all",
        }
    }

    /// What the books call the source.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::Group => Source::RestToGroup,
            Self::User | Self::All => Source::RestDirect,
        }
    }
}

/// Options of `rest`.
#[derive(Args, Clone)]
pub(crate) struct RestArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// Whom each request sends to.
    #[arg(long, value_enum, default_value_t = Target::User)]
    pub(crate) target: Target,
    /// HTTP/1.1 keep-alive connections, each with one request on its way.
    #[arg(long, default_value_t = 8)]
    pub(crate) senders: usize,
    /// Receiving WebSocket connections.
    #[arg(long, default_value_t = 1000)]
    pub(crate) members: usize,
    /// Target user: connections of each user.
    #[arg(long, default_value_t = 1)]
    pub(crate) per_user: usize,
    /// Target group: groups, members spread evenly.
    #[arg(long, default_value_t = 1)]
    pub(crate) groups: usize,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// How members talk: raw, json or reliable.
    #[arg(long, value_enum, default_value_t = Protocol::Json)]
    pub(crate) protocol: Protocol,
    /// Closed loop: messages of one stream (a sender and its user, group or everybody) that are not yet
    /// with their receivers.
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    pub(crate) window: u32,
    /// Open loop instead: requests a second, all senders together; both latencies count from the
    /// scheduled time, so what waits for a free sender is late.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Requests per round, all senders together.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) messages: u32,
    /// Measured rounds; the figures are medians. One unmeasured round goes before.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
}

/// Everything for one run of `rest`.
pub(crate) fn run(args: &RestArgs) -> Result<Report, Error> {
    facts::check_key(&args.server)?;
    facts::check_size(args.size)?;
    let counts = [
        ("senders", args.senders as u64),
        ("members", args.members as u64),
        ("per-user", args.per_user as u64),
        ("groups", args.groups as u64),
        ("window", u64::from(args.window)),
        ("messages", u64::from(args.messages)),
        ("rounds", u64::from(args.rounds)),
    ];
    facts::check_counts(&counts, &[("rate", args.rate.unwrap_or(1.0))])?;
    let targets = args.targets();
    if targets > args.members {
        return Err(Error::Usage("every group needs at least one member".into()));
    }
    if !args.protocol.is_own() {
        return Err(Error::Usage("only raw, json and reliable have REST".into()));
    }
    facts::check_publishers(args.senders.max(targets))?;
    Server::check_room_for(args.members + args.senders)?;
    let server = Server::start(&args.server, Verb::Serve)?;
    run_against(&server, args)
}

impl RestArgs {
    fn targets(&self) -> usize {
        match self.target {
            Target::User => self.members.div_ceil(self.per_user),
            Target::Group => self.groups,
            Target::All => 1,
        }
    }
}

/// The same against a server that has been found already.
pub(crate) fn run_against(server: &Server, args: &RestArgs) -> Result<Report, Error> {
    let groups = args.targets();
    let layout = Layout {
        protocol: args.protocol,
        source: args.target.source(),
        size: args.size,
        members: args.members,
        groups,
        publishers: args.senders.max(groups),
        skew: false,
    };
    let patience = Duration::from_secs(args.server.timeout);
    let specs = (0..args.members)
        .map(|member| receiver_spec(server, &args.hub, args.protocol, args.target, groups, member));
    let mut crowd = Crowd::open(server, layout, specs, patience, "rest")?;
    let mut senders = Senders::open(&mut crowd, server, &args.hub, args.target, args.senders)?;
    senders.from_schedule = args.rate.is_some();
    let rounds = match measure(server, args, &mut crowd, &mut senders) {
        // A server that loses something is reported with the counts of what is missing.
        Err(Error::Stalled(_)) => Vec::new(),
        rounds => rounds?,
    };
    report(server, args, &crowd, &senders, &rounds)
}

/// How a receiver of `target` connects: as the user, or in the group, of its turn.
pub(crate) fn receiver_spec(
    server: &Server,
    hub: &str,
    protocol: Protocol,
    target: Target,
    groups: usize,
    member: usize,
) -> crate::client::Spec {
    let turn = member % groups;
    match target {
        Target::User => client_spec(server, hub, protocol, &user_name(turn), &[]),
        Target::Group => client_spec(server, hub, protocol, &user_name(member), &[group_name(turn)]),
        Target::All => client_spec(server, hub, protocol, &user_name(member), &[]),
    }
}

fn user_name(user: usize) -> String {
    format!("member-{user}")
}

struct Round {
    requests: u64,
    deliveries: u64,
    seconds: f64,
    cpu_ns: Option<u64>,
}

fn measure(
    server: &Server,
    args: &RestArgs,
    crowd: &mut Crowd,
    senders: &mut Senders,
) -> Result<Vec<Round>, Error> {
    let mut round = |messages: u32, crowd: &mut Crowd| {
        match args.rate {
            Some(rate) => crowd.open_loop(messages, rate, senders)?,
            None => crowd.closed_loop(messages, args.window, 1, senders)?,
        }
        senders.wait_for_answers(crowd)?;
        Ok(senders.answered)
    };
    let mut answered = round(args.messages.div_ceil(4), crowd)?;
    crowd.ledger.forget_latency();
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        let (deliveries, before) = (crowd.ledger.deliveries(), facts::settled_cpu_ns(server)?);
        let start = Instant::now();
        let now_answered = round(args.messages, crowd)?;
        rounds.push(Round {
            requests: now_answered - std::mem::replace(&mut answered, now_answered),
            deliveries: crowd.ledger.deliveries() - deliveries,
            seconds: start.elapsed().as_secs_f64(),
            cpu_ns: facts::spent(before, facts::settled_cpu_ns(server)?),
        });
    }
    crowd.linger()?;
    Ok(rounds)
}

fn report(
    server: &Server,
    args: &RestArgs,
    crowd: &Crowd,
    senders: &Senders,
    rounds: &[Round],
) -> Result<Report, Error> {
    let pace = match args.rate {
        Some(rate) => format!("{rate} requests/s"),
        None => format!("window {}", args.window),
    };
    let (name, target) = (args.protocol.name(), args.target.name());
    let title = format!(
        "REST send to {target}, {name}, {} B, {} senders, {} members, {pace}",
        args.size, args.senders, args.members
    );
    let mut report = Report::new("rest", title);
    report.fact("target", "target", target);
    report.fact("protocol", "protocol", name);
    report.fact("pace", "pace", pace);
    report.fact("senders", "senders", args.senders);
    report.fact("members", "members", args.members);
    report.fact("targets", "users or groups sent to", args.targets());
    report.fact("payload_bytes", "payload, bytes", args.size);
    report.fact("rounds", "rounds", rounds.len());
    report.fact("requests", "requests answered", senders.answered);
    report.fact("deliveries", "verified deliveries", crowd.ledger.deliveries());
    senders.report_violations(&mut report);
    crowd.ledger.report_violations(&mut report);
    let mut median_of = |fact, figure: &dyn Fn(&Round) -> Option<f64>| {
        facts::median_of(&mut report, rounds, fact, figure);
    };
    median_of(("requests_per_second", "requests per second", "", ""), &|round| {
        Some(round.requests as f64 / round.seconds)
    });
    median_of(("cpu_us_per_request", "server CPU per request", "µs", ""), &|round| {
        Some(round.cpu_ns? as f64 / 1e3 / round.requests as f64)
    });
    median_of(("cpu_ns_per_delivery", "server CPU per delivery", "ns", ""), &|round| {
        Some(round.cpu_ns? as f64 / round.deliveries as f64)
    });
    median_of(("cores_used", "cores the server used", "", ""), &|round| {
        Some(round.cpu_ns? as f64 / 1e9 / round.seconds)
    });
    report.distribution(crowd.ledger.latency(), "", "");
    facts::latency(&mut report, &senders.latency, &REQUEST_LATENCY);
    facts::latency(&mut report, crowd.ledger.latency(), &facts::LATENCY);
    if let Some(mib) = facts::resident_mib(server)? {
        report.figure("resident_mib", "server memory", mib, "MiB", "");
    }
    Ok(report)
}

/// The HTTP side: senders with one request on its way each, and what waits for them.
pub(crate) struct Senders {
    /// Connection of the first sender; the others follow.
    first: usize,
    waiting: Vec<VecDeque<Message>>,
    /// Per sender, when the request on its way was sent, or was due.
    busy: Vec<Option<u64>>,
    /// Per group of the books, where its requests go.
    heads: Vec<Head>,
    key: String,
    host: String,
    /// Whether times count from the schedule rather than from sending.
    pub(crate) from_schedule: bool,
    /// From sending, or the schedule, to the answer, ns.
    pub(crate) latency: Histogram<u64>,
    /// Requests with an answer.
    pub(crate) answered: u64,
    refused: u64,
    first_refusal: Option<u16>,
    body: Vec<u8>,
    changes: Vec<Change>,
}

struct Message {
    publisher: u16,
    sequence: u32,
    at_ns: u64,
}

/// A request head, made anew every second as the SDKs' tokens are.
struct Head {
    path: String,
    signed_s: u64,
    bytes: Vec<u8>,
}

impl Senders {
    /// Opens `count` HTTP connections into the crowd.
    pub(crate) fn open(
        crowd: &mut Crowd,
        server: &Server,
        hub: &str,
        target: Target,
        count: usize,
    ) -> Result<Self, Error> {
        crowd.swarm.open_http(count, crowd.patience, &mut crowd.progress)?;
        let layout = crowd.ledger.layout();
        let path = |group| match target {
            Target::User => token::send_path(hub, &format!("users/{}", user_name(group))),
            Target::Group => token::send_path(hub, &format!("groups/{}", group_name(group))),
            Target::All => token::send_path(hub, ""),
        };
        Ok(Self {
            first: layout.members,
            waiting: (0..count).map(|_| VecDeque::new()).collect(),
            busy: vec![None; count],
            heads: (0..layout.groups)
                .map(|group| Head { path: path(group), signed_s: 0, bytes: Vec::new() })
                .collect(),
            key: server.key.clone(),
            host: server.host.clone(),
            from_schedule: true,
            latency: facts::latencies(),
            answered: 0,
            refused: 0,
            first_refusal: None,
            body: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// Takes turns until no request is on its way.
    pub(crate) fn wait_for_answers(&mut self, crowd: &mut Crowd) -> Result<(), Error> {
        let mut outcome = Ok(());
        crowd.wait("answers to requests", |crowd| {
            outcome = self.tend(crowd);
            outcome.is_err() || self.busy.iter().all(Option::is_none)
        })?;
        outcome
    }

    /// Forgets the latencies so far.
    pub(crate) fn forget_latency(&mut self) {
        self.latency.reset();
    }

    /// States what was answered with anything but 202.
    pub(crate) fn report_violations(&self, report: &mut Report) {
        report.violation("refused_requests", "answers other than 202", self.refused);
        if let Some(status) = self.first_refusal {
            report.fact("first_refusal", "the first of them", status);
        }
    }

    fn send_next(&mut self, crowd: &mut Crowd, sender: usize) -> Result<(), Error> {
        if self.busy[sender].is_some() {
            return Ok(());
        }
        let Some(message) = self.waiting[sender].pop_front() else { return Ok(()) };
        let layout = crowd.ledger.layout();
        let now_ns = crowd.swarm.now_ns();
        let at_ns = if self.from_schedule { message.at_ns } else { now_ns };
        self.body.clear();
        Stamp { publisher: message.publisher, sequence: message.sequence, at_ns }
            .write(&mut self.body, layout.size);
        let head = &mut self.heads[layout.group_of(usize::from(message.publisher))];
        let now_s = token::now_s();
        if head.signed_s != now_s {
            head.signed_s = now_s;
            let token = token::sign_request(&self.key, &self.host, &head.path, now_s);
            head.bytes = format!(
                "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                head.path, self.host, layout.size
            )
            .into_bytes();
        }
        let connection = self.first + sender;
        crowd.swarm.queue_bytes(connection, &head.bytes);
        crowd.swarm.queue_bytes(connection, &self.body);
        self.busy[sender] = Some(at_ns);
        crowd.swarm.flush(connection)
    }
}

impl Workload for Senders {
    fn publish(&mut self, crowd: &mut Crowd, publisher: usize, count: u32, due_ns: u64) -> Result<(), Error> {
        let sender = publisher % self.busy.len();
        for _ in 0..count {
            let sequence = crowd.ledger.publish(publisher);
            let message = Message { publisher: publisher as u16, sequence, at_ns: due_ns };
            self.waiting[sender].push_back(message);
        }
        self.send_next(crowd, sender)
    }

    fn tend(&mut self, crowd: &mut Crowd) -> Result<(), Error> {
        let mut changes = std::mem::take(&mut self.changes);
        crowd.swarm.take_changes(&mut changes);
        for change in changes.drain(..) {
            let Change::Answer { connection, status, now_ns } = change else { continue };
            let sender = connection - self.first;
            let Some(at_ns) = self.busy[sender].take() else {
                let reason = format!("an answer {status} to no request");
                return Err(Error::Ended { connection, reason });
            };
            self.answered += 1;
            self.latency.saturating_record(now_ns.saturating_sub(at_ns).max(1));
            if status != 202 {
                self.refused += 1;
                self.first_refusal.get_or_insert(status);
            }
            self.send_next(crowd, sender)?;
        }
        self.changes = changes;
        Ok(())
    }
}
