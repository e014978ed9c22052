//! Several servers side by side: the same shapes, the same machine, the same minutes.
//!
//! What must stay true: rounds of all servers and of the floor alternate, in an order that changes, so
//! that a change of the machine's load meets all of them; a ratio is taken inside a round and its median
//! reported; every delivery of every server is verified, and what one server does wrong is said of it
//! alone while the others are still measured.

use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::builder::TypedValueParser;
use clap::{Args, Parser, ValueEnum};
use hdrhistogram::Histogram;
use serde_json::{Map, json};

use crate::cli::{Cli, Command, EchoArgs, FanoutArgs, Protocol, ServerArgs};
use crate::client::Swarm;
use crate::echo::Echo;
use crate::error::Error;
use crate::fanout::{Run, member_spec};
use crate::floor::Floor;
use crate::measure::{extremes, median};
use crate::publish::FLOOR;
use crate::report::{Progress, Report, grouped};
use crate::server::{Server, Verb};
use crate::stamp;
use crate::trace::Tracer;

/// Most messages of one round to a reliable member: with acknowledgements once a second, as SDKs make
/// them, a server that keeps 10,000 unacknowledged ones (design §2) may end the connection beyond.
const UNACKNOWLEDGED_MAX: u32 = 8_000;

/// From so many messages on, a round of reliable members begins with everything acknowledged.
const FEW_MESSAGES: u32 = 1_000;

/// In which every reliable member has had its turn to acknowledge.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_millis(1_050);

/// How long after the last delivery a doubled message may still come.
const LATE_WAIT: Duration = Duration::from_millis(50);

/// Options of `compare`.
#[derive(Args, Clone)]
pub(crate) struct CompareArgs {
    /// Start this ringhub binary, once per `--protocol`; several builds as NAME=PATH, repeated.
    #[arg(long = "server-bin", value_name = "[NAME=]PATH")]
    pub(crate) server_bins: Vec<String>,
    /// How clients talk to our own servers: raw, json, reliable.
    #[arg(long = "protocol", value_enum, value_delimiter = ',', default_values_t = [Protocol::Raw])]
    pub(crate) protocols: Vec<Protocol>,
    /// Another server that runs already; repeat for more. PROTOCOL is simple, nats, mqtt or nchan; the
    /// processes are read for CPU and memory. Pin them to the server's CPU yourself (taskset).
    #[arg(long = "peer", value_name = "NAME=PROTOCOL,URL,PID[+PID...]")]
    pub(crate) peers: Vec<Peer>,
    /// What is measured, one after the other. `echo` stands alone: our `ringhub echo` and `simple` peers
    /// met at a path that echoes.
    #[arg(long = "shape", value_enum, value_delimiter = ',',
          default_values_t = [Shape::Window1, Shape::Window4, Shape::Burst32, Shape::Rate])]
    pub(crate) shapes: Vec<Shape>,
    /// Receiving connections per server; with `--shape echo`, echoing ones.
    #[arg(long, default_value_t = 1000)]
    pub(crate) members: usize,
    /// What connections cost is taken first: so many are opened, unmeasured, and as many again, and all
    /// are closed. 0: not taken.
    #[arg(long, default_value_t = 2000, value_name = "CONNECTIONS")]
    pub(crate) idle: usize,
    #[command(flatten)]
    pub(crate) setup: Setup,
}

/// What `compare` and `sweep` share.
#[derive(Args, Clone)]
pub(crate) struct Setup {
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Measured rounds per shape; the figures are medians. One unmeasured round goes before.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Deliveries that a round aims at in closed loops; bursts, which cost less, make eight times as many.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) deliveries: u32,
    /// Shape rate: messages a second. Default: as many as make 25,000 deliveries, at most 500.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Leave the floor out.
    #[arg(long)]
    pub(crate) no_floor: bool,
    /// Count the servers' system calls in a further, unmeasured round of the closed loops (needs strace; at
    /// a fixed rate a traced server falls behind and the count says nothing).
    #[arg(long)]
    pub(crate) syscalls: bool,
    /// Cores of a started server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(crate) cores: usize,
    /// CPUs of the servers and the floor, as 0,1. Default: the first `--cores` of them.
    #[arg(long, value_delimiter = ',', value_name = "CPUS")]
    pub(crate) server_cpus: Vec<usize>,
    /// CPU of this generator. Default: the last one.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Give a server up when nothing arrives for so many seconds.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}

/// What is done with the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// One message at a time: nothing can be coalesced.
    Window1,
    /// Four messages in flight.
    Window4,
    /// 32 messages in one write, the next when all are delivered.
    Burst32,
    /// Open loop; latency counts from the scheduled time.
    Rate,
    /// Ping-pong on every connection.
    Echo,
}

impl Shape {
    /// The name that `--shape` takes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Window1 => "window1",
            Self::Window4 => "window4",
            Self::Burst32 => "burst32",
            Self::Rate => "rate",
            Self::Echo => "echo",
        }
    }
}

/// A server that somebody else started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    name: String,
    protocol: Protocol,
    url: String,
    pids: Vec<u32>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text}: NAME=PROTOCOL,URL,PID[+PID...] is wanted");
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let (protocol, rest) = rest.split_once(',').ok_or_else(form)?;
        let (url, pids) = rest.rsplit_once(',').ok_or_else(form)?;
        let protocol = Protocol::from_str(protocol, false).ok().filter(|protocol| !protocol.is_own());
        let protocol = protocol.ok_or("the protocol of a peer is simple, nats, mqtt or nchan")?;
        let pids: Result<Vec<u32>, _> = pids.split('+').map(str::parse).collect();
        let pids = pids.map_err(|_| format!("{text}: process ids are joined by +"))?;
        if name.is_empty() || url.is_empty() {
            return Err(form());
        }
        Ok(Self { name: name.to_owned(), protocol, url: url.to_owned(), pids })
    }
}

/// One server that takes part.
pub(crate) struct Entrant {
    /// Its name in tables; no two are alike.
    pub(crate) name: String,
    /// How its clients talk.
    pub(crate) protocol: Protocol,
    server: Server,
    /// Memory and CPU of connecting, if they were taken.
    connecting: Option<Connecting>,
}

/// What connections cost one server.
#[derive(Clone, Copy)]
struct Connecting {
    mib_before_clients: f64,
    kib_per_connection: f64,
    us_per_connect: f64,
}

impl Entrant {
    /// Starts one of our own servers.
    pub(crate) fn own(
        bin: &str,
        name: String,
        protocol: Protocol,
        verb: Verb,
        setup: &Setup,
    ) -> Result<Self, Error> {
        let args = ServerArgs { server_bin: Some(bin.to_owned()), ..setup.server_args() };
        Ok(Self { name, protocol, server: Server::start(&args, verb)?, connecting: None })
    }

    /// Finds a server that runs.
    fn other(peer: &Peer, setup: &Setup) -> Result<Self, Error> {
        let args = ServerArgs { url: Some(peer.url.clone()), pid: peer.pids.clone(), ..setup.server_args() };
        let server = Server::start(&args, Verb::Serve)?;
        Ok(Self { name: peer.name.clone(), protocol: peer.protocol, server, connecting: None })
    }

    /// Opens idle members and closes them again: what does one cost? The first half is not counted, so
    /// that what a server sets up once does not become a price per connection.
    fn connect(&mut self, connections: usize, setup: &Setup) -> Result<(), Error> {
        let Some(processes) = &self.server.processes else { return Ok(()) };
        Server::check_room_for(2 * connections)?;
        let patience = Duration::from_secs(setup.timeout);
        let mut progress = Progress::new(&self.name);
        let mut swarm = Swarm::new(self.server.address, &self.server.host)?;
        let groups = ["g0".to_owned()];
        let specs = |from: usize, count: usize| {
            let (server, protocol, groups) = (&self.server, self.protocol, &groups);
            (from..from + count).map(move |index| member_spec(server, "bench", protocol, index, groups))
        };
        let mib_before_clients = processes.resident_bytes()? as f64 / 1_048_576.0;
        swarm.open(specs(0, connections), patience, &mut progress)?;
        let before = (processes.settled_cpu_ns()?, processes.resident_bytes()?);
        swarm.open(specs(connections, connections), patience, &mut progress)?;
        let after = (processes.settled_cpu_ns()?, processes.resident_bytes()?);
        let connections = connections as f64;
        self.connecting = Some(Connecting {
            mib_before_clients,
            kib_per_connection: (after.1 as f64 - before.1 as f64) / 1024.0 / connections,
            us_per_connect: (after.0 - before.0) as f64 / 1e3 / connections,
        });
        drop(swarm);
        // The server closes them now; that must not fall into the first measured round.
        processes.settled_cpu_ns()?;
        Ok(())
    }

    fn cpu_ns(&self) -> Result<Option<u64>, Error> {
        self.server.processes.as_ref().map(|processes| processes.settled_cpu_ns()).transpose()
    }
}

impl Setup {
    /// What clap cannot say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let usage = |reason: &str| Err(Error::Usage(reason.to_owned()));
        if !(stamp::SIZE_MIN..=1024 * 1024).contains(&self.size) {
            return usage("--size must be from 30 to 1048576 bytes");
        }
        if self.rounds == 0 || self.deliveries == 0 {
            return usage("--rounds and --deliveries must be at least 1");
        }
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e6)) {
            return usage("--rate must be above 0 and at most 1000000");
        }
        Ok(())
    }

    fn server_args(&self) -> ServerArgs {
        ServerArgs {
            url: None,
            key: None,
            pid: Vec::new(),
            server_bin: None,
            cores: self.cores,
            server_cpus: self.server_cpus.clone(),
            cpu: self.cpu,
            timeout: self.timeout,
        }
    }

    /// Messages of one round.
    fn messages(&self, shape: Shape, members: usize, protocol: Protocol) -> u32 {
        let per_message = self.deliveries / members.max(1) as u32;
        let messages = match shape {
            Shape::Window1 | Shape::Window4 => per_message.max(8),
            Shape::Burst32 => (8 * per_message / 32).max(4) * 32,
            // Two seconds, unless fewer deliveries are wanted.
            Shape::Rate => ((self.rate_for(members) * 2.0).ceil() as u32).min(per_message.max(8)).max(1),
            Shape::Echo => self.deliveries,
        };
        if protocol == Protocol::Reliable { messages.min(UNACKNOWLEDGED_MAX) } else { messages }
    }

    fn rate_for(&self, members: usize) -> f64 {
        self.rate.unwrap_or((25_000.0 / members as f64).clamp(1.0, 500.0))
    }

    /// Options of `fanout` as a person would type them; what is not named here has its default.
    fn fanout_args(&self, entrant: &Entrant, shape: Shape, members: usize) -> Result<FanoutArgs, Error> {
        let pace = match shape {
            Shape::Window1 => "--mode window --window 1".to_owned(),
            Shape::Window4 => "--mode window --window 4".to_owned(),
            Shape::Burst32 => "--mode burst --burst 32".to_owned(),
            Shape::Rate => format!("--mode rate --rate {}", self.rate_for(members)),
            Shape::Echo => return Err(Error::Usage("echo is no fan-out".into())),
        };
        let options = format!(
            "{pace} --members {members} --size {} --protocol {} --messages {}",
            self.size,
            entrant.protocol.name(),
            self.messages(shape, members, entrant.protocol)
        );
        match parse("fanout", &options)? {
            Command::Fanout(args) => Ok(FanoutArgs { server: self.server_args(), ..args }),
            _ => Err(Error::Usage("the verb decides the variant".into())),
        }
    }

    fn echo_args(&self, connections: usize) -> Result<EchoArgs, Error> {
        let options = format!("--connections {connections} --size {}", self.size);
        match parse("echo", &options)? {
            Command::Echo(args) => Ok(EchoArgs { server: self.server_args(), ..args }),
            _ => Err(Error::Usage("the verb decides the variant".into())),
        }
    }
}

fn parse(verb: &str, options: &str) -> Result<Command, Error> {
    let words = ["ringhub-bench", verb, "--server-bin", "-"];
    let words = words.into_iter().chain(options.split_ascii_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| Error::Usage(error.to_string()))
}

/// Everything for one run of `compare`.
pub(crate) fn run(args: &CompareArgs) -> Result<Vec<Report>, Error> {
    args.check()?;
    let is_echo = args.shapes == [Shape::Echo];
    let mut entrants = Vec::new();
    for bin in &args.server_bins {
        let (name, path) = bin.split_once('=').unwrap_or(("ringhub", bin));
        if is_echo {
            entrants.push(Entrant::own(path, name.to_owned(), Protocol::Simple, Verb::Echo, &args.setup)?);
            continue;
        }
        for &protocol in &args.protocols {
            let name = format!("{name} {}", protocol.name());
            entrants.push(Entrant::own(path, name, protocol, Verb::Serve, &args.setup)?);
        }
    }
    for peer in &args.peers {
        entrants.push(Entrant::other(peer, &args.setup)?);
    }
    let mut names: Vec<&str> = entrants.iter().map(|entrant| entrant.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::Usage("every server needs a name of its own".into()));
    }
    warn_of_unequal_cpus(&entrants);
    let mut reports = Vec::new();
    if !is_echo && args.idle > 0 {
        for entrant in &mut entrants {
            // What goes wrong here goes wrong again with the first shape, and is reported there.
            let _ = entrant.connect(args.idle, &args.setup);
        }
    }
    for &shape in &args.shapes {
        let contest = Contest { workload: "compare", setup: &args.setup, shape, members: args.members };
        reports.extend(contest.hold(&entrants.iter().collect::<Vec<_>>())?);
    }
    Ok(reports)
}

impl CompareArgs {
    fn check(&self) -> Result<(), Error> {
        self.setup.check()?;
        let usage = |reason: &str| Err(Error::Usage(reason.to_owned()));
        if self.server_bins.is_empty() && self.peers.is_empty() {
            return usage("name at least one server: --server-bin or --peer");
        }
        if self.members == 0 {
            return usage("--members must be at least 1");
        }
        if let Some(other) = self.protocols.iter().find(|protocol| !protocol.is_own()) {
            return Err(Error::Usage(format!(
                "--protocol {} is for --peer: ours is raw, json or reliable",
                other.name()
            )));
        }
        if self.shapes.contains(&Shape::Echo) && self.shapes.len() > 1 {
            return usage("--shape echo stands alone: its servers are met at other addresses");
        }
        if self.shapes == [Shape::Echo] && self.peers.iter().any(|peer| peer.protocol != Protocol::Simple) {
            return usage("--shape echo takes peers of protocol simple only");
        }
        Ok(())
    }
}

fn warn_of_unequal_cpus(entrants: &[Entrant]) {
    let cpus =
        |entrant: &Entrant| entrant.server.processes.as_ref().map(|processes| processes.allowed_cpus());
    let Some(first) = entrants.first().and_then(cpus) else { return };
    for entrant in &entrants[1..] {
        if let Some(other) = cpus(entrant).filter(|other| *other != first) {
            let (a, b) = (&entrants[0].name, &entrant.name);
            eprintln!(
                "ringhub-bench: {b} may run on CPU {other}, {a} on CPU {first}: the figures do not compare"
            );
        }
    }
}

/// One shape with one number of members.
pub(crate) struct Contest<'a> {
    /// `compare` or `sweep`; decides which plots the reports go into.
    pub(crate) workload: &'static str,
    pub(crate) setup: &'a Setup,
    pub(crate) shape: Shape,
    pub(crate) members: usize,
}

/// One server while it is measured.
struct Lane<'a> {
    entrant: &'a Entrant,
    /// `None` if its clients could not be opened.
    session: Option<Session<'a>>,
    rounds: Vec<Round>,
    /// Why it was given up.
    failed: Option<Error>,
}

/// The clients of one server.
enum Session<'a> {
    Fanout(Box<Run<'a>>),
    Echo(Box<Echo<'a>>),
}

/// One round's figures of one server, or of the floor.
#[derive(Clone, Copy)]
struct Round {
    index: u32,
    /// CPU per delivery, ns.
    cost: Option<f64>,
    per_second: f64,
}

impl Session<'_> {
    fn round(&mut self, messages: u32) -> Result<(), Error> {
        match self {
            Self::Fanout(run) => run.round(messages).map(drop),
            Self::Echo(echo) => echo.round(messages),
        }
    }

    fn turn(&mut self, wait: Duration) -> Result<(), Error> {
        match self {
            Self::Fanout(run) => run.turn(wait),
            Self::Echo(echo) => echo.turn(wait),
        }
    }

    fn deliveries(&self) -> u64 {
        match self {
            Self::Fanout(run) => run.ledger.deliveries(),
            Self::Echo(echo) => echo.back(),
        }
    }

    fn latency(&self) -> &Histogram<u64> {
        match self {
            Self::Fanout(run) => run.ledger.latency(),
            Self::Echo(echo) => echo.latency(),
        }
    }

    fn forget_latency(&mut self) {
        match self {
            Self::Fanout(run) => run.ledger.forget_latency(),
            Self::Echo(echo) => echo.forget_latency(),
        }
    }

    fn report_violations(&self, report: &mut Report) {
        match self {
            Self::Fanout(run) => run.ledger.report_violations(report),
            Self::Echo(echo) => report.violation("wrong_echoes", "wrong echoes", echo.wrong()),
        }
    }
}

impl Contest<'_> {
    /// Measures all of `entrants`; one report each, and one of the floor.
    ///
    /// # Errors
    /// Only what stops the whole run: options, the floor, too few open files. What one server does wrong
    /// is in its report.
    pub(crate) fn hold(&self, entrants: &[&Entrant]) -> Result<Vec<Report>, Error> {
        // One publisher per server.
        Server::check_room_for((self.members + 1) * entrants.len())?;
        let echo_args = self.setup.echo_args(self.members)?;
        let fanout_args: Vec<FanoutArgs> = match self.shape {
            Shape::Echo => Vec::new(),
            shape => {
                let args =
                    entrants.iter().map(|entrant| self.setup.fanout_args(entrant, shape, self.members));
                args.collect::<Result<_, _>>()?
            }
        };
        let mut lanes: Vec<Lane<'_>> = Vec::new();
        for (index, &entrant) in entrants.iter().enumerate() {
            let session = match self.shape {
                Shape::Echo => {
                    Echo::open(&entrant.server, &echo_args).map(|echo| Session::Echo(Box::new(echo)))
                }
                _ => Run::open(&entrant.server, &fanout_args[index], 1)
                    .map(|run| Session::Fanout(Box::new(run))),
            };
            let (session, failed) = match session {
                Ok(session) => (Some(session), None),
                Err(error) => (None, Some(error)),
            };
            lanes.push(Lane { entrant, session, rounds: Vec::new(), failed });
        }
        let floor = self.measure(&mut lanes)?;
        // Before the calls are counted: latencies of a traced server are not its own.
        let mut reports = self.reports(&lanes, &floor);
        if self.setup.syscalls && self.shape != Shape::Rate {
            for (index, report) in reports.iter_mut().enumerate().take(lanes.len()) {
                self.keep_alive(&mut lanes, Duration::ZERO);
                self.count_calls(&mut lanes[index], report)?;
            }
        }
        Ok(reports)
    }

    /// All rounds of all lanes and of the floor; the floor's rounds.
    fn measure(&self, lanes: &mut [Lane<'_>]) -> Result<Vec<Round>, Error> {
        let messages = |lane: &Lane<'_>| self.setup.messages(self.shape, self.members, lane.entrant.protocol);
        let mut progress = Progress::new(self.workload);
        for lane in lanes.iter_mut() {
            let messages = messages(lane).div_ceil(4);
            lane.attempt(|session| {
                session.round(messages)?;
                session.forget_latency();
                Ok(())
            });
        }
        let mut floor = match (self.shape, lanes.first()) {
            (Shape::Echo, _) | (_, None) => None,
            _ if self.setup.no_floor => None,
            (_, Some(lane)) => {
                let sends = self.setup.deliveries as usize;
                Some(Floor::start(&lane.entrant.server, self.members, self.frame_bytes(), sends)?)
            }
        };
        let mut floor_rounds = Vec::new();
        for round in 0..self.setup.rounds {
            for turn in order(lanes.len() + 1, round as usize) {
                self.keep_alive(lanes, Duration::ZERO);
                match (turn, &mut floor) {
                    (turn, _) if turn < lanes.len() => {
                        let messages = messages(&lanes[turn]);
                        lanes[turn].measure(round, messages);
                    }
                    (_, Some(floor)) => floor_rounds.push(self.floor_round(round, floor, lanes)?),
                    (_, None) => {}
                }
                progress.tick(|| {
                    let (shape, members) = (self.shape.name(), self.members);
                    format!("{shape}, {members} members: round {} of {}", round + 1, self.setup.rounds)
                });
            }
        }
        let end = Instant::now();
        while end.elapsed() < LATE_WAIT {
            self.keep_alive(lanes, Duration::from_millis(1));
        }
        Ok(floor_rounds)
    }

    /// Answers pings and acknowledges on all connections, so that nobody is cut while others are measured
    /// and nothing that piled up falls into the next round.
    fn keep_alive(&self, lanes: &mut [Lane<'_>], wait: Duration) {
        for lane in lanes {
            lane.attempt(|session| session.turn(wait));
        }
    }

    fn floor_round(&self, index: u32, floor: &mut Floor, lanes: &mut [Lane<'_>]) -> Result<Round, Error> {
        let start = Instant::now();
        floor.begin("batch")?;
        loop {
            if let Some(cost) = floor.poll()? {
                return Ok(Round { index, cost: Some(cost), per_second: 0.0 });
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(Error::Child("the floor did not end a round in 60 s".into()));
            }
            self.keep_alive(lanes, Duration::ZERO);
            // The receiver shares our CPU: leave it to it.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One more, short round under strace, of which only the calls are used.
    fn count_calls(&self, lane: &mut Lane<'_>, report: &mut Report) -> Result<(), Error> {
        let Some(processes) = &lane.entrant.server.processes else { return Ok(()) };
        if lane.failed.is_some() {
            return Ok(());
        }
        let messages = match self.shape {
            Shape::Burst32 => 64,
            Shape::Echo => 2_000,
            _ => (20_000 / self.members).clamp(16, 500) as u32,
        };
        let tracer = Tracer::start(processes.pids())?;
        lane.attempt(|session| session.round(messages));
        let calls = tracer.finish()?.into_iter();
        let per_message = calls.map(|(name, calls)| (name, calls as f64 / f64::from(messages)));
        let calls: Vec<(String, f64)> = per_message.filter(|(_, calls)| *calls >= 0.01).collect();
        let value: Map<_, _> = calls.iter().map(|(name, calls)| (name.clone(), json!(calls))).collect();
        let shown: Vec<String> = calls.iter().map(|(name, calls)| format!("{name} {calls:.2}")).collect();
        report.note("syscalls_per_message", "system calls per message", value.into(), shown.join(", "));
        Ok(())
    }

    fn reports(&self, lanes: &[Lane<'_>], floor: &[Round]) -> Vec<Report> {
        let first = lanes.first().map_or(&[][..], |lane| &lane.rounds);
        let first_name = lanes.first().map_or("", |lane| lane.entrant.name.as_str());
        let mut reports: Vec<Report> =
            lanes.iter().map(|lane| self.report(lane, floor, first, first_name)).collect();
        if !floor.is_empty() {
            let mut report = self.new_report(FLOOR);
            let costs: Vec<f64> = floor.iter().filter_map(|round| round.cost).collect();
            report.column("cpu_ns_per_delivery", "CPU ns", median(&costs));
            report.range("cpu_ns_range", "rounds", extremes(&costs));
            self.plot_cost(&mut report, FLOOR, median(&costs));
            reports.push(report);
        }
        reports
    }

    fn report(&self, lane: &Lane<'_>, floor: &[Round], first: &[Round], first_name: &str) -> Report {
        let mut report = self.new_report(&lane.entrant.name);
        report.fact("protocol", "", lane.entrant.protocol.name());
        let costs: Vec<f64> = lane.rounds.iter().filter_map(|round| round.cost).collect();
        if !costs.is_empty() {
            report.column("cpu_ns_per_delivery", "CPU ns", median(&costs));
            report.range("cpu_ns_range", "rounds", extremes(&costs));
            self.plot_cost(&mut report, &lane.entrant.name, median(&costs));
        }
        if let Some(ratio) = median_ratio(&lane.rounds, floor) {
            report.column("floor_ratio", "/ floor", ratio);
        }
        if let Some(ratio) = median_ratio(&lane.rounds, first) {
            report.column("first_ratio", &format!("/ {first_name}"), ratio);
        }
        let rates: Vec<f64> = lane.rounds.iter().map(|round| round.per_second).collect();
        if !rates.is_empty() {
            report.column("deliveries_per_second", "per second", median(&rates));
        }
        if let Some(session) = &lane.session {
            report.fact("deliveries", "", session.deliveries());
            let latency = session.latency();
            if !latency.is_empty() {
                let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
                report.column("latency_p50_ms", "p50 ms", ms(0.5));
                report.column("latency_p99_ms", "p99 ms", ms(0.99));
                let shape = self.shape.name();
                match self.workload {
                    "sweep" => {
                        let plot = format!("latency-{shape}-{}", lane.entrant.protocol.name());
                        report.distribution(
                            latency,
                            &plot,
                            &format!("{} members", grouped(self.members as u64)),
                        );
                    }
                    _ => report.distribution(latency, &format!("latency-{shape}"), &lane.entrant.name),
                }
            }
            session.report_violations(&mut report);
        }
        if let Some(connecting) = &lane.entrant.connecting {
            report.column("cpu_us_per_connect", "connect µs", connecting.us_per_connect);
            report.column("resident_kib_per_connection", "KiB/conn", connecting.kib_per_connection);
            report.column("resident_mib_before_clients", "start MiB", connecting.mib_before_clients);
        }
        if let Some(error) = &lane.failed {
            report.violation("given_up", "given up", 1);
            report.note("error", "why", json!(error.to_string()), error.to_string());
        }
        report
    }

    fn new_report(&self, name: &str) -> Report {
        let (setup, members) = (self.setup, grouped(self.members as u64));
        let pace = match self.shape {
            Shape::Window1 => "one at a time".to_owned(),
            Shape::Window4 => "window 4".to_owned(),
            Shape::Burst32 => "bursts of 32".to_owned(),
            Shape::Rate => format!("{} messages/s, open loop", setup.rate_for(self.members)),
            Shape::Echo => "echo".to_owned(),
        };
        let title = match self.shape {
            Shape::Echo => {
                format!("echo, {} B on {members} connections, {} rounds", setup.size, setup.rounds)
            }
            _ => format!("fan-out, {} B to {members}, {pace}, {} rounds", setup.size, setup.rounds),
        };
        let mut report = Report::new(self.workload, format!("{title}: {name}")).in_table(&title, name);
        report.fact("server", "", name);
        report.fact("shape", "", self.shape.name());
        report.fact("pace", "", pace);
        report.fact("members", "", self.members);
        report.fact("payload_bytes", "", setup.size);
        report.fact("rounds", "", setup.rounds);
        report
    }

    fn plot_cost(&self, report: &mut Report, series: &str, ns: f64) {
        if self.workload == "sweep" {
            report.cost(&format!("cost-{}", self.shape.name()), series, self.members, ns);
        }
    }

    /// The bare payload in a server's frame (RFC 6455 section 5.2).
    fn frame_bytes(&self) -> usize {
        match self.setup.size {
            size @ ..=125 => size + 2,
            size @ 126..=0xffff => size + 4,
            size => size + 10,
        }
    }
}

impl Lane<'_> {
    /// Does `what` unless this server was given up; gives it up if `what` fails.
    fn attempt(&mut self, what: impl FnOnce(&mut Session<'_>) -> Result<(), Error>) {
        if let (None, Some(session)) = (&self.failed, &mut self.session) {
            self.failed = what(session).err();
        }
    }

    fn measure(&mut self, index: u32, messages: u32) {
        if self.entrant.protocol == Protocol::Reliable && messages > FEW_MESSAGES {
            let end = Instant::now() + ACKNOWLEDGE_WAIT;
            while Instant::now() < end && self.failed.is_none() {
                self.attempt(|session| session.turn(Duration::from_millis(10)));
            }
        }
        let (entrant, rounds) = (self.entrant, &mut self.rounds);
        let (None, Some(session)) = (&self.failed, &mut self.session) else { return };
        let mut round = || -> Result<Round, Error> {
            // Others had the caches meanwhile; and a CPU that rested is slow to come back.
            session.round(messages.div_ceil(8))?;
            let (deliveries, before) = (session.deliveries(), entrant.cpu_ns()?);
            let start = Instant::now();
            session.round(messages)?;
            let seconds = start.elapsed().as_secs_f64();
            let deliveries = (session.deliveries() - deliveries) as f64;
            let spent = entrant.cpu_ns()?.zip(before).map(|(after, before)| after.saturating_sub(before));
            let cost = spent.map(|spent| spent as f64 / deliveries.max(1.0));
            Ok(Round { index, cost, per_second: deliveries / seconds })
        };
        match round() {
            Ok(round) => rounds.push(round),
            Err(error) => self.failed = Some(error),
        }
    }
}

/// Who is measured when, of `count`: everybody once a round, and over `count` rounds everybody at every
/// place and, for an even count, right after everybody else (E. J. Williams's design of 1949): what one
/// leaves behind, in caches or by resting, must not always meet the same other.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let place = move |index: usize| if index % 2 == 1 { index.div_ceil(2) } else { count - index / 2 };
    (0..count).map(move |index| (place(index) + round) % count)
}

/// Median over the rounds that both have of the ratio of costs.
fn median_ratio(of: &[Round], to: &[Round]) -> Option<f64> {
    let ratios: Vec<f64> = of
        .iter()
        .filter_map(|round| {
            let other = to.iter().find(|other| other.index == round.index)?;
            Some(round.cost? / other.cost?).filter(|ratio| ratio.is_finite())
        })
        .collect();
    (!ratios.is_empty()).then(|| median(&ratios))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_on_the_command_line() {
        let peer: Peer = "nats=nats,ws://127.0.0.1:8222/a,b,12+13".parse().unwrap();
        let url = "ws://127.0.0.1:8222/a,b".to_owned();
        assert_eq!(peer, Peer { name: "nats".into(), protocol: Protocol::Nats, url, pids: vec![12, 13] });
        for wrong in
            ["nats,ws://x,1", "a=nats,ws://x", "a=json,ws://x,1", "a=nats,ws://x,1,2x", "=nats,ws://x,1"]
        {
            wrong.parse::<Peer>().unwrap_err();
        }
    }

    fn compare(options: &str) -> Result<(), String> {
        match parse("compare", options).map_err(|error| error.to_string())? {
            Command::Compare(args) => args.check().map_err(|error| error.to_string()),
            _ => panic!("compare was asked for"),
        }
    }

    #[test]
    fn contradictions_are_refused_with_a_reason() {
        assert_eq!(compare("--protocol raw,json --shape window1,burst32"), Ok(()));
        assert_eq!(compare("--shape echo --peer a=simple,ws://x/echo,1"), Ok(()));
        assert!(compare("--shape echo,rate").unwrap_err().contains("alone"));
        assert!(compare("--shape echo --peer a=nats,ws://x,1").unwrap_err().contains("simple"));
        assert!(compare("--protocol nats").unwrap_err().contains("--peer"));
        assert!(compare("--size 10").unwrap_err().contains("30"));
    }

    #[test]
    fn everybody_follows_everybody() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| order(4, round).collect()).collect();
        assert_eq!(rounds[0], [0, 1, 3, 2]);
        let mut pairs: Vec<(usize, usize)> =
            rounds.iter().flat_map(|round| round.windows(2).map(|pair| (pair[0], pair[1]))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        assert_eq!(pairs.len(), 4 * 3);
        for count in 1..9 {
            let mut once: Vec<usize> = order(count, 5).collect();
            once.sort_unstable();
            assert_eq!(once, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn ratios_pair_the_same_rounds() {
        let round = |index, cost| Round { index, cost: Some(cost), per_second: 0.0 };
        let ours = [round(0, 2.0), round(1, 9.0), round(2, 4.0)];
        let floor = [round(0, 1.0), round(2, 1.0), round(1, 3.0)];
        assert_eq!(median_ratio(&ours, &floor), Some(3.0));
        assert_eq!(median_ratio(&ours, &floor[..1]), Some(2.0));
        assert_eq!(median_ratio(&ours, &[]), None);
    }

    #[test]
    fn rounds_are_about_as_long_at_every_size() {
        let Ok(Command::Compare(args)) = parse("compare", "") else { panic!("defaults are sound") };
        for members in [10, 1_000, 18_000] {
            let deliveries = |shape| args.setup.messages(shape, members, Protocol::Raw) * members as u32;
            assert!((90_000..=200_000).contains(&deliveries(Shape::Window1)), "{members}");
            assert!((780_000..=2_400_000).contains(&deliveries(Shape::Burst32)), "{members}");
            assert!((9_000..=150_000).contains(&deliveries(Shape::Rate)), "{members}");
            let reliable = args.setup.messages(Shape::Burst32, members, Protocol::Reliable);
            assert!(reliable <= UNACKNOWLEDGED_MAX && reliable % 32 == 0, "{members}");
        }
    }
}
