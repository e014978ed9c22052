//! Floods: a few connections do one thing as fast as the server takes it, while a small group in another hub goes on
//! (`reliability` checks 26 and 42). What do the bystanders notice?
//!
//! Calm and flood take turns, so that a change of the machine's load meets both. The flood comes from a thread that
//! gives way to the one that measures the bystanders; what it costs beyond that is in the ratio unless the generator has
//! a CPU of its own, so without one the ratio is shown and not judged.
//!
//! What must stay true: what bystanders were to get during a flood counts as of the flood, however late it comes; and a
//! flood that was none, since nothing of it got through or nobody was let in any more, is no proof of anything.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::bystanders::{Bystanders, CALM_MS_MAX};
use crate::cli::{Protocol, ServerArgs};
use crate::client::{Change, Greeting, Spec, Swarm};
use crate::crowd::client_spec;
use crate::cuts::recovery_spec;
use crate::error::Error;
use crate::facts::{self, Quantile, quantiles};
use crate::handler::{Handler, Http};
use crate::judgement::{Bar, JudgeArgs, Waits};
use crate::pace::TURN_MAX;
use crate::report::{Progress, Report};
use crate::server::{self, Server, Verb};
use crate::token;
use crate::wire::{self, opcode};

/// Of the bystanders beside a flood, against what is without.
const BAR: Bar = Bar { ratio_max: 2.0, calm_ms_max: Some(CALM_MS_MAX) };

/// Requests on their way of one flooding caller.
const CALLS_AHEAD: usize = 64;

/// Frames of one write.
const BLOCK_FRAMES: usize = 500;

/// How long what kernel and server still hold of a flood may take, once everything is written and answered.
const AFTERMATH: Duration = Duration::from_millis(500);

const CALM: [Quantile; 5] = quantiles!("calm", "others' latency without it");
const FLOODED: [Quantile; 5] = quantiles!("flooded", "others' latency beside it");

/// What is done without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FloodKind {
    /// WebSocket pings.
    Pings,
    /// Empty frames of a raw client, each a message to a group of nobody.
    Empty,
    /// The same, of one byte.
    Tiny,
    /// Joins and leaves of ever the same groups.
    Joins,
    /// Messages to a group of nobody.
    Nobody,
    /// Messages to a group of all who flood.
    Group,
    /// Events that no handler wants.
    Events,
    /// Events that a handler on this machine answers; only with --server-bin.
    Handled,
    /// Sends by REST.
    Rest,
    /// Connects with a token, cut as soon as they are open.
    Connects,
    /// Recoveries of reliable sessions, cut as soon as they are back.
    Recoveries,
}

/// Options of `flood`.
#[derive(Args, Clone)]
pub(crate) struct FloodArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub of the bystanders; the flood is in another.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// What floods; several as a,b. Default: all, one after the other.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) kind: Vec<FloodKind>,
    /// Connections that flood.
    #[arg(long, default_value_t = 2)]
    pub(crate) flooders: usize,
    /// Seconds of calm and of flood in each round.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Rounds of calm and flood.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) judging: JudgeArgs,
}

/// A report for each kind.
pub(crate) fn run(args: &FloodArgs) -> Result<Vec<Report>, Error> {
    facts::check_key(&args.server)?;
    let counts = [("flooders", args.flooders as u64), ("rounds", u64::from(args.rounds))];
    facts::check_counts(&counts, &[("seconds", args.seconds)])?;
    let is_ours = args.server.server_bin.is_some();
    if !is_ours && args.kind.contains(&FloodKind::Handled) {
        return Err(Error::Usage(
            "--kind handled needs a server that knows the handler: --server-bin".into(),
        ));
    }
    let handler = match is_ours {
        true => Some(Handler::start(Http::One, 0, &server::cpus_beside(&args.server)?)?),
        false => None,
    };
    let config = handler.as_ref().map(|handler| handler.config(&handled_hub(&args.hub)));
    let server = Server::configured(&args.server, Verb::Serve, &config.unwrap_or_default())?;
    run_against(&server, handler.is_some(), args)
}

/// The same against a server that has been found already.
pub(crate) fn run_against(server: &Server, is_handled: bool, args: &FloodArgs) -> Result<Vec<Report>, Error> {
    let kinds = match &args.kind[..] {
        [] => FloodKind::value_variants(),
        some => some,
    };
    let kinds = kinds.iter().filter(|kind| is_handled || **kind != FloodKind::Handled);
    kinds.map(|kind| Flood::open(server, args, *kind)?.run()).collect()
}

/// The hub in which events are answered.
pub(crate) fn handled_hub(hub: &str) -> String {
    format!("{hub}_handled")
}

struct Flood<'a> {
    args: &'a FloodArgs,
    server: &'a Server,
    kind: FloodKind,
    swarm: Swarm,
    /// Flooders are connections `0..flooders`.
    specs: Vec<Spec>,
    /// What each of them writes.
    block: Vec<u8>,
    /// Frames or calls in a block.
    block_count: usize,
    /// By flooder, calls that are not answered, or frames that the socket has not taken.
    ahead: Vec<usize>,
    bystanders: Bystanders,
    judged: Vec<Waits>,
    /// What was due to bystanders in a flood and had not come when patience was at an end after it.
    starved: u64,
    /// Frames that a socket took, calls that were answered, connections that were opened.
    done: u64,
    /// Rounds in which nothing was done, or after which nobody who floods was let in any more.
    not_flooded: u64,
    flooded_s: f64,
    cpu_ns: Option<u64>,
    base_mib: Option<f64>,
    peak_mib: f64,
    /// Calls that were answered with something else than 202.
    refused: u64,
    /// Flooders that were ended: who floods may be, for who waits for a socket to take what it asked for has bounds.
    thrown_out: u64,
    first: Option<String>,
}

impl<'a> Flood<'a> {
    fn open(server: &'a Server, args: &'a FloodArgs, kind: FloodKind) -> Result<Self, Error> {
        let patience = Duration::from_secs(args.server.timeout);
        let mut progress = Progress::new("flood");
        let mut swarm = Swarm::new(server.address, &server.host)?;
        let hub = match kind {
            FloodKind::Handled => handled_hub(&args.hub),
            _ => format!("{}_flood", args.hub),
        };
        let specs: Vec<Spec> = (0..args.flooders).map(|flooder| kind.spec(server, &hub, flooder)).collect();
        match kind {
            FloodKind::Rest => swarm.open_http(args.flooders, patience, &mut progress)?,
            _ => swarm.open(specs.iter().cloned(), patience, &mut progress)?,
        }
        (0..args.flooders).for_each(|flooder| swarm.watch(flooder));
        let bystanders = Bystanders::open(server, &args.hub, patience, &mut progress)?;
        let (block, block_count) = kind.block(server, &hub);
        Ok(Self {
            args,
            server,
            kind,
            swarm,
            specs,
            block,
            block_count,
            ahead: vec![0; args.flooders],
            bystanders,
            judged: Vec::new(),
            starved: 0,
            done: 0,
            not_flooded: 0,
            flooded_s: 0.0,
            cpu_ns: None,
            base_mib: facts::resident_mib(server)?,
            peak_mib: 0.0,
            refused: 0,
            thrown_out: 0,
            first: None,
        })
    }

    fn run(mut self) -> Result<Report, Error> {
        let half = Duration::from_secs_f64(self.args.seconds);
        let patience = Duration::from_secs(self.args.server.timeout);
        for _ in 0..self.args.rounds {
            self.pass(half, false)?;
            let calm = self.bystanders.take_latency()?;
            let (cpu, start, done) = (facts::cpu_ns(self.server)?, Instant::now(), self.done);
            self.pass(half, true)?;
            self.flooded_s += start.elapsed().as_secs_f64();
            let spent = facts::spent(cpu, facts::cpu_ns(self.server)?);
            self.cpu_ns = spent.map(|spent| self.cpu_ns.unwrap_or(0) + spent);
            self.peak_mib = self.peak_mib.max(facts::resident_mib(self.server)?.unwrap_or(0.0));
            // Who connects without end is on the way in at any moment; in a moment it is in, or was refused.
            let was_out = self.is_everybody_out();
            self.reopen()?;
            self.starved += self.bystanders.settle(patience)?;
            self.judged.push(Waits { calm, shaken: self.bystanders.take_latency()? });
            self.settle()?;
            let is_shut_out = was_out && self.is_everybody_out();
            self.not_flooded += u64::from(self.done == done || is_shut_out);
        }
        self.bystanders.settle(patience)?;
        self.report()
    }

    /// Lets time pass, with the flood or without.
    fn pass(&mut self, time: Duration, is_flooding: bool) -> Result<(), Error> {
        let start = Instant::now();
        while start.elapsed() < time {
            if is_flooding {
                self.push()?;
            }
            // Not waiting while there is room for more.
            self.turn(if is_flooding { Duration::ZERO } else { TURN_MAX }, is_flooding)?;
        }
        Ok(())
    }

    /// Waits for what is on its way: a flood must not last into the calm.
    fn settle(&mut self) -> Result<(), Error> {
        let patience = Duration::from_secs(self.args.server.timeout);
        let start = Instant::now();
        while self.ahead.iter().any(|&ahead| ahead > 0) && start.elapsed() < patience {
            self.turn(TURN_MAX, false)?;
        }
        self.pass(AFTERMATH, false)?;
        self.bystanders.take_latency()?;
        Ok(())
    }

    /// A block more of everybody whose last one is gone.
    fn push(&mut self) -> Result<(), Error> {
        self.reopen()?;
        if self.kind.is_of_connections() {
            return Ok(());
        }
        for flooder in 0..self.args.flooders {
            if !self.swarm.is_ready(flooder) || self.swarm.has_queued(flooder) {
                continue;
            }
            if self.kind == FloodKind::Rest {
                let room = CALLS_AHEAD - self.ahead[flooder];
                self.swarm.queue_bytes(flooder, &self.block.repeat(room));
                self.ahead[flooder] += room;
            } else {
                self.swarm.queue_bytes(flooder, &self.block);
                self.ahead[flooder] = self.block_count;
            }
            self.swarm.flush(flooder)?;
        }
        Ok(())
    }

    fn turn(&mut self, wait: Duration, is_flooding: bool) -> Result<(), Error> {
        // What flooders are sent is theirs.
        self.swarm.pump(wait, &mut |_| {})?;
        let mut changes = Vec::new();
        self.swarm.take_changes(&mut changes);
        for change in changes {
            match change {
                Change::Ready { .. } => self.done += u64::from(self.kind.is_of_connections()),
                Change::Answer { connection, status, .. } => {
                    self.ahead[connection] -= 1;
                    self.done += 1;
                    self.refused += u64::from(status != 202);
                }
                Change::Ended { connection, ending } => {
                    self.thrown_out += 1;
                    self.first.get_or_insert_with(|| ending.into_error(connection).to_string());
                    self.ahead[connection] = 0;
                }
            }
        }
        for flooder in 0..self.args.flooders {
            if self.kind.is_of_connections() {
                if is_flooding && self.swarm.is_ready(flooder) {
                    self.come_again(flooder)?;
                }
            } else if self.kind != FloodKind::Rest && !self.swarm.has_queued(flooder) {
                self.done += std::mem::take(&mut self.ahead[flooder]) as u64;
            }
        }
        Ok(())
    }

    /// Opens those anew that were ended: nobody who floods stays away, and in the calm nobody comes.
    fn reopen(&mut self) -> Result<(), Error> {
        for flooder in 0..self.args.flooders {
            if self.swarm.has_ended(flooder) {
                match self.kind {
                    FloodKind::Rest => self.swarm.restart_http(flooder)?,
                    _ => self.swarm.restart(flooder, self.specs[flooder].clone())?,
                }
            }
        }
        Ok(())
    }

    fn is_everybody_out(&self) -> bool {
        (0..self.args.flooders).all(|flooder| !self.swarm.is_ready(flooder))
    }

    /// Cuts a connection and opens it anew.
    fn come_again(&mut self, flooder: usize) -> Result<(), Error> {
        let spec = match self.swarm.session(flooder) {
            Some(session) if self.kind == FloodKind::Recoveries => {
                recovery_spec(&self.specs[flooder], session)
            }
            _ => self.specs[flooder].clone(),
        };
        self.swarm.cut(flooder, true);
        self.swarm.restart(flooder, spec)
    }

    fn report(self) -> Result<Report, Error> {
        let value = self.kind.to_possible_value().expect("no kind is hidden");
        let name = value.get_name();
        let mut report = Report::new("flood", format!("flood of {name}, {} at a time", self.args.flooders));
        report.fact("kind", "kind", name);
        report.fact("flooders", "connections that flood", self.args.flooders);
        report.fact("rounds", "rounds", self.args.rounds);
        report.figure("flood_per_second", "done a second", self.done as f64 / self.flooded_s, "", "");
        if let Some(cpu_ns) = self.cpu_ns {
            let busy = cpu_ns as f64 / 1e9 / self.flooded_s;
            report.figure("server_cpus", "server CPUs busy beside it", busy, "", "");
        }
        let (mut calm, mut flooded) = (facts::latencies(), facts::latencies());
        for round in &self.judged {
            calm.add(&round.calm).expect("the same bounds");
            flooded.add(&round.shaken).expect("the same bounds");
        }
        facts::latency(&mut report, &calm, &CALM);
        report.distribution(&flooded, "", "");
        facts::latency(&mut report, &flooded, &FLOODED);
        self.args.judging.judge(&mut report, self.server, &self.judged, &BAR);
        report.violation("others_starved", "others' messages that did not come after it", self.starved);
        report.violation("not_flooded", "rounds in which the flood did not get through", self.not_flooded);
        report.violation(
            "bystanders_wrong",
            "others' messages lost or doubled",
            self.bystanders.settled.wrong + self.bystanders.settled.missing,
        );
        report.violation("refused_requests", "flooders answered wrongly", self.refused);
        report.fact("thrown_out", "flooders thrown out", self.thrown_out);
        if let Some(first) = &self.first {
            report.fact("first_thrown_out", "the first of them", first.as_str());
        }
        if let Some(base) = self.base_mib {
            report.figure("resident_before_mib", "server memory before", base, "MiB", "");
            report.figure("resident_flooded_mib", "at most beside it", self.peak_mib, "MiB", "");
        }
        Ok(report)
    }
}

impl FloodKind {
    fn is_of_connections(self) -> bool {
        matches!(self, Self::Connects | Self::Recoveries)
    }

    fn spec(self, server: &Server, hub: &str, flooder: usize) -> Spec {
        let protocol = match self {
            Self::Empty | Self::Tiny => Protocol::Raw,
            Self::Recoveries => Protocol::Reliable,
            _ => Protocol::Json,
        };
        let groups: &[String] = if self == Self::Group { &["flood".to_owned()] } else { &[] };
        let mut spec = client_spec(server, hub, protocol, &format!("flooder-{flooder}"), groups);
        match self {
            Self::Empty | Self::Tiny => spec.path += "&webpubsub_mode=sendToGroup&group=nobody",
            Self::Recoveries => spec.greeting = Greeting::Session,
            _ => {}
        }
        spec
    }

    /// What is written again and again, and how many things that are; nothing where connections are the flood.
    fn block(self, server: &Server, hub: &str) -> (Vec<u8>, usize) {
        let mut block = Vec::new();
        let mut frames = |opcode: u8, payload: &dyn Fn(usize) -> String| {
            for n in 0..BLOCK_FRAMES {
                wire::push_frame(&mut block, opcode, [1, 2, 3, 4], payload(n).as_bytes());
            }
        };
        let publish = |group: &str| {
            format!(r#"{{"type":"sendToGroup","group":"{group}","dataType":"text","data":""}}"#)
        };
        match self {
            Self::Pings => frames(opcode::PING, &|_| String::new()),
            Self::Empty => frames(opcode::TEXT, &|_| String::new()),
            Self::Tiny => frames(opcode::TEXT, &|_| "x".into()),
            Self::Joins => frames(opcode::TEXT, &|n| {
                let verb = if n % 2 == 0 { "joinGroup" } else { "leaveGroup" };
                format!(r#"{{"type":"{verb}","group":"group-{}"}}"#, n / 2)
            }),
            Self::Nobody => frames(opcode::TEXT, &|_| publish("nobody")),
            Self::Group => frames(opcode::TEXT, &|_| publish("flood")),
            Self::Events | Self::Handled => frames(opcode::TEXT, &|_| {
                r#"{"type":"event","event":"flood","dataType":"text","data":"x"}"#.into()
            }),
            Self::Connects | Self::Recoveries => {}
            Self::Rest => {
                let path = token::send_path(hub, "groups/nobody");
                let token = token::sign_request(&server.key, &server.host, &path, token::now_s());
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
                     Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx",
                    server.host
                );
                return (head.into_bytes(), 1);
            }
        }
        (block, BLOCK_FRAMES)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::bystanders::DELIVERIES_PER_SECOND;
    use crate::cli::{Cli, Command};
    use crate::judgement::JUDGED_MIN;

    #[test]
    fn a_flood_is_judged_by_default() {
        let line = "ringhub-bench flood --server-bin -";
        let Command::Flood(args) = Cli::parse_from(line.split(' ')).command else { panic!("another verb") };
        let halves_s = f64::from(args.rounds) * args.seconds;
        assert!(halves_s * DELIVERIES_PER_SECOND as f64 >= JUDGED_MIN as f64);
    }
}
