//! Several servers side by side: the same shapes, the same machine, the same minutes.
//!
//! What must stay true: every delivery of every server is verified, and what one server does wrong is
//! said of it alone while the others are still measured. How rounds alternate: module `contest`.

use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, ValueEnum};

use crate::cli::{Cli, Command, EchoArgs, FanoutArgs, Protocol, ServerArgs};
use crate::client::Swarm;
use crate::contest::Contest;
use crate::crowd::member_spec;
use crate::error::Error;
use crate::pace::UNACKNOWLEDGED_MAX;
use crate::report::{Progress, Report};
use crate::server::{Server, Verb};
use crate::stamp;

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
    /// Groups of the fan-out shapes, members spread evenly, one publisher each. Of peers only simple ones can
    /// take part that tell rooms apart by path: the first group meets at the URL, others at URLg1, URLg2 ...
    #[arg(long, default_value_t = 1)]
    pub(crate) groups: usize,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Measured rounds per shape; the figures are medians. One unmeasured round goes before.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    /// Deliveries that a round aims at in closed loops; bursts, which cost less, make four times as many.
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
    /// Let every second reliable member receive a random number of messages first, so that sequence ids differ
    /// between members as they do in life.
    #[arg(long)]
    pub(crate) distinct_ids: bool,
    /// Cores of a started server; of several numbers, as 1,2, `compare` starts a server each.
    #[arg(long, default_values_t = [1], value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(crate) cores: Vec<usize>,
    /// CPUs of the servers and the floor, as 0,1. Default: as many as a server has cores, from the first on.
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
    /// The server itself, with its processes.
    pub(crate) server: Server,
    /// Memory and CPU of connecting, if they were taken.
    pub(crate) connecting: Option<Connecting>,
}

/// What connections cost one server.
#[derive(Clone, Copy)]
pub(crate) struct Connecting {
    /// Resident memory before the first client, MiB.
    pub(crate) mib_before_clients: f64,
    /// Resident memory that one idle member adds, KiB.
    pub(crate) kib_per_connection: f64,
    /// CPU of connecting and subscribing, µs.
    pub(crate) us_per_connect: f64,
}

impl Entrant {
    /// Starts one of our own servers.
    pub(crate) fn own(
        bin: &str,
        name: String,
        protocol: Protocol,
        verb: Verb,
        cores: usize,
        setup: &Setup,
    ) -> Result<Self, Error> {
        let args = ServerArgs { server_bin: Some(bin.to_owned()), cores, ..setup.server_args() };
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

    /// CPU time so far, once the server is quiet, ns; `None` if its processes are unknown.
    pub(crate) fn cpu_ns(&self) -> Result<Option<u64>, Error> {
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
        if self.rounds == 0 || self.deliveries == 0 || self.groups == 0 {
            return usage("--rounds, --deliveries and --groups must be at least 1");
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
            cores: self.cores.first().copied().unwrap_or(1),
            server_cpus: self.server_cpus.clone(),
            cpu: self.cpu,
            timeout: self.timeout,
        }
    }

    /// Messages of one round.
    pub(crate) fn messages(&self, shape: Shape, members: usize, protocol: Protocol) -> u32 {
        let per_message = self.deliveries / (members / self.groups).max(1) as u32;
        let messages = match shape {
            Shape::Window1 | Shape::Window4 => per_message.max(8),
            Shape::Burst32 => (4 * per_message / 32).max(4) * 32,
            // Two seconds, unless fewer deliveries are wanted.
            Shape::Rate => ((self.rate_for(members) * 2.0).ceil() as u32).min(per_message.max(8)).max(1),
            Shape::Echo => self.deliveries,
        };
        if protocol == Protocol::Reliable { messages.min(UNACKNOWLEDGED_MAX) } else { messages }
    }

    /// Messages a second of shape `rate`.
    pub(crate) fn rate_for(&self, members: usize) -> f64 {
        self.rate.unwrap_or_else(|| (25_000.0 / members as f64).clamp(1.0, 500.0))
    }

    /// Options of `fanout` as a person would type them; what is not named here has its default.
    pub(crate) fn fanout_args(
        &self,
        entrant: &Entrant,
        shape: Shape,
        members: usize,
    ) -> Result<FanoutArgs, Error> {
        let pace = match shape {
            Shape::Window1 => "--mode window --window 1".to_owned(),
            Shape::Window4 => "--mode window --window 4".to_owned(),
            Shape::Burst32 => "--mode burst --burst 32".to_owned(),
            Shape::Rate => format!("--mode rate --rate {}", self.rate_for(members)),
            Shape::Echo => return Err(Error::Usage("echo is no fan-out".into())),
        };
        let options = format!(
            "{pace} --members {members} --groups {} --size {} --protocol {} --messages {}",
            self.groups,
            self.size,
            entrant.protocol.name(),
            self.messages(shape, members, entrant.protocol)
        );
        let distinct = self.distinct_ids && entrant.protocol == Protocol::Reliable;
        let options = options + if distinct { " --distinct-ids" } else { "" };
        match parse("fanout", &options)? {
            Command::Fanout(args) => Ok(FanoutArgs { server: self.server_args(), ..args }),
            _ => Err(Error::Usage("the verb decides the variant".into())),
        }
    }

    /// The same for `echo`.
    pub(crate) fn echo_args(&self, connections: usize) -> Result<EchoArgs, Error> {
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
        for &cores in &args.setup.cores {
            let on = if args.setup.cores.len() > 1 { format!(" on {cores}") } else { String::new() };
            if is_echo {
                let name = format!("{name}{on}");
                entrants.push(Entrant::own(path, name, Protocol::Simple, Verb::Echo, cores, &args.setup)?);
                continue;
            }
            for &protocol in &args.protocols {
                let name = format!("{name} {}{on}", protocol.name());
                entrants.push(Entrant::own(path, name, protocol, Verb::Serve, cores, &args.setup)?);
            }
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
    if args.setup.cores.len() == 1 {
        warn_of_unequal_cpus(&entrants);
    }
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
    fn rounds_are_about_as_long_at_every_size() {
        let Ok(Command::Compare(args)) = parse("compare", "") else { panic!("defaults are sound") };
        for members in [10, 1_000, 18_000] {
            let deliveries = |shape| args.setup.messages(shape, members, Protocol::Raw) * members as u32;
            assert!((90_000..=200_000).contains(&deliveries(Shape::Window1)), "{members}");
            assert!((380_000..=2_400_000).contains(&deliveries(Shape::Burst32)), "{members}");
            assert!((9_000..=150_000).contains(&deliveries(Shape::Rate)), "{members}");
            let reliable = args.setup.messages(Shape::Burst32, members, Protocol::Reliable);
            assert!(reliable <= UNACKNOWLEDGED_MAX && reliable % 32 == 0, "{members}");
        }
    }
}
