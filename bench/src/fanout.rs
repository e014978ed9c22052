//! Fan-out: publishers send to groups, every member receives every message.
//!
//! Rounds of server and floor alternate, so that a change of the machine's load meets both; the ratio
//! is taken per round and its median reported. While a round runs, nothing is left out of the server's
//! CPU: reading, waking, keep-alive, and the acknowledgements of reliable members.

use std::time::{Duration, Instant};

use crate::cli::{FanoutArgs, Mode, Protocol};
use crate::crowd::{Crowd, Plain, member_spec};
use crate::error::Error;
use crate::facts;
use crate::floor::Floor;
use crate::layout::{Layout, Source, group_name};
use crate::measure::{extremes, median};
use crate::pace::TURN_MAX;
use crate::random::Random;
use crate::report::Report;
use crate::server::{Server, Verb};
use crate::stamp::{self, Stamp};

/// Warm-up groups for distinct ids; a member's first id is then 1 to 2^WARM_BITS.
const WARM_BITS: usize = 8;

/// Everything for one run of `fanout`.
pub(crate) fn run(args: &FanoutArgs) -> Result<Report, Error> {
    args.check().map_err(Error::Usage)?;
    let server = Server::start(&args.server, Verb::Serve)?;
    run_against(&server, args)
}

/// The same against a server that has been found already.
pub(crate) fn run_against(server: &Server, args: &FanoutArgs) -> Result<Report, Error> {
    let publishers = args.publishers.unwrap_or(args.groups);
    Server::check_room_for(args.members + publishers)?;
    let mut run = Run::open(server, args, publishers)?;
    let outcome = run.measure(server);
    match outcome {
        Ok(rounds) => Ok(run.report(server, &rounds)?),
        // A server that falls silent is reported with the counts of what is missing.
        Err(Error::Stalled(_)) => Ok(run.report(server, &[])?),
        Err(error) => Err(error),
    }
}

/// One server with its clients and their books; `compare` drives several of them in turn.
pub(crate) struct Run<'a> {
    args: &'a FanoutArgs,
    pub(crate) crowd: Crowd,
    publishers: usize,
    cpu_per_connect_ns: Option<f64>,
}

/// One round's figures.
struct Round {
    deliveries: u64,
    seconds: f64,
    cpu_ns: Option<u64>,
    floor_batch_ns: Option<f64>,
    floor_send_ns: Option<f64>,
}

impl Round {
    fn cpu_per_delivery(&self) -> Option<f64> {
        Some(self.cpu_ns? as f64 / self.deliveries as f64)
    }
}

impl<'a> Run<'a> {
    /// Opens all members and publishers.
    pub(crate) fn open(server: &Server, args: &'a FanoutArgs, publishers: usize) -> Result<Self, Error> {
        let layout = Layout {
            protocol: args.protocol,
            source: Source::Publishers,
            size: args.size,
            members: args.members,
            groups: args.groups,
            publishers,
            skew: args.skew,
        };
        let mut random = Random::new();
        // How many warm-up messages each member gets: bit b set means 2^b of them, from group b.
        let warm: Vec<usize> = (0..args.members)
            .map(|member| if args.distinct_ids && member % 2 == 1 { random.next() as usize % 256 } else { 0 })
            .collect();
        let before = facts::settled_cpu_ns(server)?;
        let specs = (0..args.members).map(|member| {
            let mut groups = vec![group_name(layout.group_of_member(member))];
            groups.extend((0..WARM_BITS).filter(|bit| warm[member] >> bit & 1 == 1).map(warm_group));
            member_spec(server, &args.hub, args.protocol, member, &groups)
        });
        let patience = Duration::from_secs(args.server.timeout);
        let mut crowd = Crowd::open(server, layout, specs, patience, "fanout")?;
        let cpu = facts::spent(before, facts::settled_cpu_ns(server)?);
        crowd.open_publishers(server, &args.hub)?;
        let cpu_per_connect_ns = cpu.map(|cpu| cpu as f64 / args.members as f64);
        let mut run = Self { args, crowd, publishers, cpu_per_connect_ns };
        if args.distinct_ids {
            run.spread_ids(&warm)?;
        }
        Ok(run)
    }

    /// Gives every second member its own number of messages, then takes it out of the warm-up groups
    /// again, so that it differs from its neighbours in nothing but its next id.
    fn spread_ids(&mut self, warm: &[usize]) -> Result<(), Error> {
        let publisher = self.args.members;
        let mut sequence = 0;
        for bit in 0..WARM_BITS {
            for _ in 0..1 << bit {
                let stamp = Stamp { publisher: stamp::WARM_UP, sequence, at_ns: 0 };
                self.crowd.queue(publisher, &warm_group(bit), stamp);
                sequence += 1;
            }
        }
        self.crowd.swarm.flush(publisher)?;
        self.crowd.wait("the warm-up messages of --distinct-ids", |crowd| {
            warm.iter().enumerate().all(|(member, &count)| crowd.ledger.warmed_up(member) == count as u32)
        })?;
        let mut leaves = 0;
        for (member, count) in warm.iter().enumerate() {
            for bit in (0..WARM_BITS).filter(|bit| count >> bit & 1 == 1) {
                let leave = format!(r#"{{"type":"leaveGroup","group":"{}","ackId":{bit}}}"#, warm_group(bit));
                self.crowd.swarm.queue(member, leave.as_bytes());
                leaves += 1;
            }
            self.crowd.swarm.flush(member)?;
        }
        self.crowd.wait("the acks for leaving the warm-up groups", |crowd| crowd.ledger.acks() == leaves)
    }

    fn measure(&mut self, server: &Server) -> Result<Vec<Round>, Error> {
        self.round(self.args.messages.div_ceil(4).max(self.publishers as u32))?;
        self.crowd.ledger.forget_latency();
        let deliveries = self.args.messages as usize * self.args.members / self.args.groups;
        let sends = match self.args.mode {
            Mode::Burst => deliveries / self.args.burst as usize,
            Mode::Window | Mode::Rate => deliveries,
        };
        let frame = self.crowd.ledger.frame_bytes();
        let mut floor = match self.args.floor {
            true => Some(Floor::start(server, self.args.members, frame, sends)?),
            false => None,
        };
        let mut rounds = Vec::new();
        for index in 0..self.args.rounds {
            let (deliveries, before) = (self.crowd.ledger.deliveries(), facts::settled_cpu_ns(server)?);
            let seconds = self.round(self.args.messages)?;
            let cpu_ns = facts::spent(before, facts::settled_cpu_ns(server)?);
            let mut round = Round {
                deliveries: self.crowd.ledger.deliveries() - deliveries,
                seconds,
                cpu_ns,
                floor_batch_ns: None,
                floor_send_ns: None,
            };
            if let Some(floor) = &mut floor {
                round.floor_batch_ns = Some(self.floor_round(floor, "batch")?);
                round.floor_send_ns = Some(self.floor_round(floor, "send")?);
            }
            rounds.push(round);
            self.crowd.progress.tick(|| format!("round {} of {} done", index + 1, self.args.rounds));
        }
        self.crowd.linger()?;
        Ok(rounds)
    }

    /// Publishes `messages` and waits until all are delivered. Returns the seconds it took.
    pub(crate) fn round(&mut self, messages: u32) -> Result<f64, Error> {
        let start = Instant::now();
        match self.args.mode {
            Mode::Window => self.crowd.closed_loop(messages, self.args.window, 1, &mut Plain)?,
            Mode::Burst => self.crowd.closed_loop(messages, self.args.burst, self.args.burst, &mut Plain)?,
            Mode::Rate => self.crowd.open_loop(messages, self.args.rate, &mut Plain)?,
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Runs the floor while the members stay served: acknowledgements that piled up meanwhile would
    /// all fall into the next round.
    fn floor_round(&mut self, floor: &mut Floor, variant: &str) -> Result<f64, Error> {
        floor.begin(variant)?;
        let mut stall = Instant::now();
        loop {
            if let Some(ns_per_send) = floor.poll()? {
                return Ok(ns_per_send);
            }
            if stall.elapsed() > self.crowd.patience.max(Duration::from_secs(30)) {
                stall = Instant::now();
                self.crowd.progress.tick(|| "still waiting for the floor".into());
            }
            self.crowd.turn(TURN_MAX)?;
        }
    }

    fn report(&self, server: &Server, rounds: &[Round]) -> Result<Report, Error> {
        let args = self.args;
        let pace = match args.mode {
            Mode::Window => format!("window {}", args.window),
            Mode::Burst => format!("bursts of {}", args.burst),
            Mode::Rate => format!("{} messages/s", args.rate),
        };
        let name = args.protocol.name();
        let title = format!("fan-out, {name}, {} B to {}, {pace}", args.size, args.members);
        let mut report = Report::new("fanout", title);
        report.fact("protocol", "protocol", name);
        report.fact("pace", "pace", pace);
        report.fact("members", "members", args.members);
        report.fact("groups", "groups", args.groups);
        if args.skew {
            report.fact("skew", "members in the largest", self.crowd.ledger.layout().members_of(0));
        }
        report.fact("publishers", "publishers", self.publishers);
        report.fact("payload_bytes", "payload, bytes", args.size);
        report.fact("frame_bytes", "frame at the member, bytes", self.crowd.ledger.frame_bytes());
        report.fact("rounds", "rounds", rounds.len());
        report.fact("deliveries", "verified deliveries", self.crowd.ledger.deliveries());
        if let Some(sent) = self.crowd.sequence_acks() {
            report.fact("sequence_acks", "sequence acks sent", sent);
        }
        self.crowd.ledger.report_violations(&mut report);

        if let Some(values) = facts::all(rounds, Round::cpu_per_delivery) {
            let [low, high] = extremes(&values);
            let range = format!("({low:.0} to {high:.0})");
            report.figure("cpu_ns_per_delivery", "server CPU per delivery", median(&values), "ns", &range);
        }
        let mut median_of = |fact, figure: &dyn Fn(&Round) -> Option<f64>| {
            facts::median_of(&mut report, rounds, fact, figure);
        };
        median_of(("floor_ns", "floor: one send, batched", "ns", ""), &|round| round.floor_batch_ns);
        median_of(("floor_send_ns", "one send, a call each", "ns", ""), &|round| round.floor_send_ns);
        median_of(("floor_ratio", "server / floor", "x", hold(args)), &|round| {
            Some(round.cpu_per_delivery()? / round.floor_batch_ns?)
        });
        median_of(("cores_used", "cores the server used", "", ""), &|round| {
            Some(round.cpu_ns? as f64 / 1e9 / round.seconds)
        });
        median_of(("deliveries_per_second", "deliveries per second", "", ""), &|round| {
            Some(round.deliveries as f64 / round.seconds)
        });
        report.distribution(self.crowd.ledger.latency(), "", "");
        facts::latency(&mut report, self.crowd.ledger.latency(), &facts::LATENCY);
        if let Some(cpu) = self.cpu_per_connect_ns {
            report.figure("cpu_us_per_connect", "server CPU per connect", cpu / 1e3, "µs", "");
        }
        if let Some(mib) = facts::resident_mib(server)? {
            report.figure("resident_mib", "server memory", mib, "MiB", "");
        }
        Ok(report)
    }
}

/// What design §4 wants held, for the rows it names.
fn hold(args: &FanoutArgs) -> &'static str {
    let plain = matches!(args.protocol, Protocol::Raw | Protocol::Json);
    match (args.mode, args.groups) {
        (Mode::Window, 1) if plain && args.window == 1 && args.size == 64 => "(hold 1.3, aim 1.1)",
        (Mode::Burst, 1) if plain && args.burst == 32 && args.size == 64 => "(hold 0.06, aim 0.04)",
        _ => "",
    }
}

fn warm_group(bit: usize) -> String {
    format!("warm{bit}")
}
