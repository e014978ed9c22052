//! Fan-out: publishers send to groups, every member receives every message.
//!
//! Rounds of server and floor alternate, so that a change of the machine's load meets both; the ratio
//! is taken per round and its median reported. While a round runs, nothing is left out of the server's
//! CPU: reading, waking, keep-alive, and the acknowledgements of reliable members.

use std::time::{Duration, Instant};

use crate::cli::{FanoutArgs, Mode, Protocol};
use crate::client::{Greeting, Random, Spec, Swarm};
use crate::error::Error;
use crate::floor::Floor;
use crate::ledger::{Layout, Ledger, group_name};
use crate::measure::{extremes, median};
use crate::peer::{self, Role};
use crate::report::{Progress, Report};
use crate::server::{Server, Verb};
use crate::stamp::{self, Stamp};
use crate::token;

/// Longest wait in one turn: what is due by the clock (acknowledgements, patience) is late by at most
/// this.
const TURN_MAX: Duration = Duration::from_millis(10);

/// How long after the last delivery a doubled message may still come.
const LATE_WAIT: Duration = Duration::from_millis(50);

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
    swarm: Swarm,
    pub(crate) ledger: Ledger,
    publishers: usize,
    acker: Option<Acker>,
    message: Vec<u8>,
    patience: Duration,
    progress: Progress,
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
        let patience = Duration::from_secs(args.server.timeout);
        let layout = Layout {
            protocol: args.protocol,
            size: args.size,
            members: args.members,
            groups: args.groups,
            publishers,
        };
        let mut progress = Progress::new("fanout");
        let mut swarm = Swarm::new(server.address, &server.host)?;
        let mut random = Random::new();
        // How many warm-up messages each member gets: bit b set means 2^b of them, from group b.
        let warm: Vec<usize> = (0..args.members)
            .map(|member| if args.distinct_ids && member % 2 == 1 { random.next() as usize % 256 } else { 0 })
            .collect();
        let before = server.processes.as_ref().map(|server| server.settled_cpu_ns()).transpose()?;
        let members = (0..args.members).map(|member| {
            let mut groups = vec![group_name(layout.group_of(member))];
            groups.extend((0..WARM_BITS).filter(|bit| warm[member] >> bit & 1 == 1).map(warm_group));
            member_spec(server, &args.hub, args.protocol, member, &groups)
        });
        swarm.open(members, patience, &mut progress)?;
        let after = server.processes.as_ref().map(|server| server.settled_cpu_ns()).transpose()?;
        let specs =
            (0..publishers).map(|index| publisher_spec(server, args, &group_name(layout.group_of(index))));
        swarm.open(specs, patience, &mut progress)?;
        let mut run = Self {
            args,
            swarm,
            ledger: Ledger::new(layout),
            publishers,
            acker: (args.protocol == Protocol::Reliable).then(|| Acker::new(args.members)),
            message: Vec::new(),
            patience,
            progress,
            cpu_per_connect_ns: before.zip(after).map(|(a, b)| (b - a) as f64 / args.members as f64),
        };
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
                self.write_message(&warm_group(bit), Stamp { publisher: stamp::WARM_UP, sequence, at_ns: 0 });
                self.swarm.queue(publisher, &self.message);
                sequence += 1;
            }
        }
        self.swarm.flush(publisher)?;
        self.wait("the warm-up messages of --distinct-ids", |ledger| {
            warm.iter().enumerate().all(|(member, &count)| ledger.warmed_up(member) == count as u32)
        })?;
        let mut leaves = 0;
        for (member, count) in warm.iter().enumerate() {
            for bit in (0..WARM_BITS).filter(|bit| count >> bit & 1 == 1) {
                let leave = format!(r#"{{"type":"leaveGroup","group":"{}","ackId":{bit}}}"#, warm_group(bit));
                self.swarm.queue(member, leave.as_bytes());
                leaves += 1;
            }
            self.swarm.flush(member)?;
        }
        self.wait("the acks for leaving the warm-up groups", |ledger| ledger.acks() == leaves)
    }

    fn measure(&mut self, server: &Server) -> Result<Vec<Round>, Error> {
        self.round(self.args.messages.div_ceil(4).max(self.publishers as u32))?;
        self.ledger.forget_latency();
        let deliveries = self.args.messages as usize * self.args.members / self.args.groups;
        let sends = match self.args.mode {
            Mode::Burst => deliveries / self.args.burst as usize,
            Mode::Window | Mode::Rate => deliveries,
        };
        let frame = self.ledger.frame_bytes();
        let mut floor = match self.args.floor {
            true => Some(Floor::start(server, self.args.members, frame, sends)?),
            false => None,
        };
        let mut rounds = Vec::new();
        for index in 0..self.args.rounds {
            let cpu = |_: &Self| server.processes.as_ref().map(|server| server.settled_cpu_ns()).transpose();
            let (deliveries, before) = (self.ledger.deliveries(), cpu(self)?);
            let seconds = self.round(self.args.messages)?;
            let cpu_ns = cpu(self)?.zip(before).map(|(after, before)| after.saturating_sub(before));
            let mut round = Round {
                deliveries: self.ledger.deliveries() - deliveries,
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
            self.progress.tick(|| format!("round {} of {} done", index + 1, self.args.rounds));
        }
        let end = Instant::now();
        while end.elapsed() < LATE_WAIT {
            self.turn(TURN_MAX)?;
        }
        Ok(rounds)
    }

    /// Publishes `messages` and waits until all are delivered. Returns the seconds it took.
    pub(crate) fn round(&mut self, messages: u32) -> Result<f64, Error> {
        let start = Instant::now();
        match self.args.mode {
            Mode::Window => self.closed_loop(messages, self.args.window, 1)?,
            Mode::Burst => self.closed_loop(messages, self.args.burst, self.args.burst)?,
            Mode::Rate => self.open_loop(messages)?,
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Each publisher has at most `window` messages in flight, and sends when `batch` of them fit.
    fn closed_loop(&mut self, messages: u32, window: u32, batch: u32) -> Result<(), Error> {
        let mut left = messages;
        let mut ready: Vec<u32> = (0..self.publishers as u32).collect();
        let mut stall = Stall::new(self.patience);
        // What completed before this round must not count as room twice.
        self.ledger.take_completed(&mut Vec::new());
        loop {
            for publisher in ready.drain(..) {
                let publisher = publisher as usize;
                let room = window - self.ledger.in_flight(publisher).min(window);
                if room < batch || left == 0 {
                    continue;
                }
                let now = self.swarm.now_ns();
                let count = room.min(left);
                (0..count).for_each(|_| self.publish(publisher, now));
                left -= count;
                self.swarm.flush(self.args.members + publisher)?;
            }
            if left == 0 && self.ledger.outstanding() == 0 {
                return Ok(());
            }
            self.turn(TURN_MAX)?;
            stall.check(&self.ledger)?;
            self.ledger.take_completed(&mut ready);
        }
    }

    /// Message k is due at k / rate, whatever has or has not arrived.
    fn open_loop(&mut self, messages: u32) -> Result<(), Error> {
        let start_ns = self.swarm.now_ns();
        let due_ns = |index: u32, rate: f64| start_ns + (f64::from(index) * 1e9 / rate) as u64;
        let mut next = 0;
        let mut stall = Stall::new(self.patience);
        while next < messages || self.ledger.outstanding() > 0 {
            let now = self.swarm.now_ns();
            while next < messages && due_ns(next, self.args.rate) <= now {
                let publisher = next as usize % self.publishers;
                self.publish(publisher, due_ns(next, self.args.rate));
                self.swarm.flush(self.args.members + publisher)?;
                next += 1;
            }
            let wait = match next < messages {
                true => Duration::from_nanos(due_ns(next, self.args.rate).saturating_sub(now)),
                false => TURN_MAX,
            };
            // Waits end on whole milliseconds; the last stretch is spent polling, or messages were late.
            self.turn(if wait < Duration::from_millis(2) { Duration::ZERO } else { TURN_MAX.min(wait / 2) })?;
            if self.ledger.outstanding() == 0 {
                stall = Stall::new(self.patience);
            }
            stall.check(&self.ledger)?;
        }
        Ok(())
    }

    /// One step of everything: messages in, acknowledgements out.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<(), Error> {
        let ledger = &mut self.ledger;
        self.swarm.pump(wait, &mut |delivery| ledger.receive(&delivery))?;
        if let Some(acker) = &mut self.acker {
            acker.run(&mut self.swarm, ledger)?;
        }
        self.progress.tick(|| format!("{} deliveries", ledger.deliveries()));
        Ok(())
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Ledger) -> bool) -> Result<(), Error> {
        let start = Instant::now();
        while !done(&self.ledger) {
            if start.elapsed() > self.patience {
                return Err(Error::Stalled(format!("{what} did not come in {} s", self.patience.as_secs())));
            }
            // Nothing is awaited here that could be a violation unseen: the ledger still checks it.
            let ledger = &mut self.ledger;
            self.swarm.pump(TURN_MAX, &mut |delivery| ledger.receive(&delivery))?;
        }
        Ok(())
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
            if stall.elapsed() > self.patience.max(Duration::from_secs(30)) {
                stall = Instant::now();
                self.progress.tick(|| "still waiting for the floor".into());
            }
            self.turn(TURN_MAX)?;
        }
    }

    fn publish(&mut self, publisher: usize, at_ns: u64) {
        let sequence = self.ledger.publish(publisher);
        let group = group_name(publisher % self.args.groups);
        self.write_message(&group, Stamp { publisher: publisher as u16, sequence, at_ns });
        self.swarm.queue(self.args.members + publisher, &self.message);
    }

    fn write_message(&mut self, group: &str, stamp: Stamp) {
        let out = &mut self.message;
        out.clear();
        match self.args.protocol {
            Protocol::Raw => stamp.write(out, self.args.size),
            Protocol::Simple => {
                out.push(b'P');
                stamp.write(out, self.args.size);
            }
            Protocol::Json | Protocol::Reliable => {
                out.extend_from_slice(br#"{"type":"sendToGroup","group":""#);
                out.extend_from_slice(group.as_bytes());
                out.extend_from_slice(br#"","dataType":"text","data":""#);
                stamp.write(out, self.args.size);
                out.extend_from_slice(br#""}"#);
            }
            Protocol::Nats | Protocol::Mqtt | Protocol::Nchan => {
                peer::write_publication(self.args.protocol, out, stamp, self.args.size);
            }
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
        report.fact("publishers", "publishers", self.publishers);
        report.fact("payload_bytes", "payload, bytes", args.size);
        report.fact("frame_bytes", "frame at the member, bytes", self.ledger.frame_bytes());
        report.fact("rounds", "rounds", rounds.len());
        report.fact("deliveries", "verified deliveries", self.ledger.deliveries());
        if let Some(acker) = &self.acker {
            report.fact("sequence_acks", "sequence acks sent", acker.sent);
        }
        self.ledger.report_violations(&mut report);

        let over = |figure: &dyn Fn(&Round) -> Option<f64>| -> Option<Vec<f64>> {
            let values: Option<Vec<f64>> = rounds.iter().map(figure).collect();
            values.filter(|values| !values.is_empty())
        };
        if let Some(values) = over(&Round::cpu_per_delivery) {
            let [low, high] = extremes(&values);
            let range = format!("({low:.0} to {high:.0})");
            report.figure("cpu_ns_per_delivery", "server CPU per delivery", median(&values), "ns", &range);
        }
        if let Some(values) = over(&|round| round.floor_batch_ns) {
            report.figure("floor_ns", "floor: one send, batched", median(&values), "ns", "");
        }
        if let Some(values) = over(&|round| round.floor_send_ns) {
            report.figure("floor_send_ns", "one send, a call each", median(&values), "ns", "");
        }
        if let Some(values) = over(&|round| Some(round.cpu_per_delivery()? / round.floor_batch_ns?)) {
            report.figure("floor_ratio", "server / floor", median(&values), "x", hold(args));
        }
        if let Some(values) = over(&|round| Some(round.cpu_ns? as f64 / 1e9 / round.seconds)) {
            report.figure("cores_used", "cores the server used", median(&values), "", "");
        }
        if let Some(values) = over(&|round| Some(round.deliveries as f64 / round.seconds)) {
            report.figure("deliveries_per_second", "deliveries per second", median(&values), "", "");
        }
        let latency = self.ledger.latency();
        report.distribution(latency, "", "");
        if !latency.is_empty() {
            for (key, label, quantile) in [
                ("latency_p50_ms", "latency p50", 0.5),
                ("latency_p90_ms", "latency p90", 0.9),
                ("latency_p99_ms", "latency p99", 0.99),
                ("latency_p999_ms", "latency p99.9", 0.999),
                ("latency_max_ms", "latency max", 1.0),
            ] {
                report.figure(key, label, latency.value_at_quantile(quantile) as f64 / 1e6, "ms", "");
            }
        }
        if let Some(cpu) = self.cpu_per_connect_ns {
            report.figure("cpu_us_per_connect", "server CPU per connect", cpu / 1e3, "µs", "");
        }
        if let Some(processes) = &server.processes {
            let mib = processes.resident_bytes()? as f64 / 1_048_576.0;
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

/// Ends a round in which nothing arrives although something is due.
struct Stall {
    patience: Duration,
    deliveries: u64,
    last: Instant,
}

impl Stall {
    fn new(patience: Duration) -> Self {
        Self { patience, deliveries: 0, last: Instant::now() }
    }

    fn check(&mut self, ledger: &Ledger) -> Result<(), Error> {
        if ledger.deliveries() != self.deliveries {
            self.deliveries = ledger.deliveries();
            self.last = Instant::now();
        } else if self.last.elapsed() > self.patience {
            return Err(Error::Stalled(format!("{} deliveries are outstanding", ledger.outstanding())));
        }
        Ok(())
    }
}

/// Acknowledges for reliable members as the SDKs do: once a second, if the id moved. Members take their
/// turns evenly over the second, as clients that connected at different times would.
struct Acker {
    members: usize,
    acked: Vec<u64>,
    start: Instant,
    /// Turns taken since `start`; member `turns % members` is next.
    turns: u64,
    sent: u64,
}

impl Acker {
    fn new(members: usize) -> Self {
        Self { members, acked: vec![0; members], start: Instant::now(), turns: 0, sent: 0 }
    }

    fn run(&mut self, swarm: &mut Swarm, ledger: &Ledger) -> Result<(), Error> {
        let members = self.members as u64;
        let due = (self.start.elapsed().as_nanos() * u128::from(members) / 1_000_000_000) as u64;
        // After a pause nobody has more than one turn to catch up.
        self.turns = self.turns.max(due.saturating_sub(members));
        while self.turns < due {
            let member = (self.turns % members) as usize;
            let id = ledger.sequence_id(member);
            if id != self.acked[member] {
                let ack = format!(r#"{{"type":"sequenceAck","sequenceId":{id}}}"#);
                swarm.queue(member, ack.as_bytes());
                swarm.flush(member)?;
                self.acked[member] = id;
                self.sent += 1;
            }
            self.turns += 1;
        }
        Ok(())
    }
}

/// How a receiving client connects.
pub(crate) fn member_spec(
    server: &Server,
    hub: &str,
    protocol: Protocol,
    index: usize,
    groups: &[String],
) -> Spec {
    if protocol == Protocol::Simple {
        return Spec { path: server.path.clone(), subprotocol: None, greeting: Greeting::SubscribeOk };
    }
    if let Some(dialect) = protocol.dialect() {
        return dialect.spec(&server.path, Role::Member);
    }
    let token = token::sign(&server.key, &server.host, hub, &format!("member-{index}"), groups);
    web_pubsub_spec(protocol, format!("/client/hubs/{hub}?access_token={token}"))
}

fn publisher_spec(server: &Server, args: &FanoutArgs, group: &str) -> Spec {
    if args.protocol == Protocol::Simple {
        return Spec { path: server.path.clone(), subprotocol: None, greeting: Greeting::None };
    }
    if let Some(dialect) = args.protocol.dialect() {
        return dialect.spec(&server.path, Role::Publisher);
    }
    // One user for all publishers: members then see the same bytes before every payload of a group.
    let token = token::sign(&server.key, &server.host, &args.hub, "publisher", &[]);
    let mut path = format!("/client/hubs/{}?access_token={token}", args.hub);
    if args.protocol == Protocol::Raw {
        path += &format!("&webpubsub_mode=sendToGroup&group={group}");
    }
    web_pubsub_spec(args.protocol, path)
}

fn web_pubsub_spec(protocol: Protocol, path: String) -> Spec {
    let (subprotocol, greeting) = match protocol {
        Protocol::Json => (Some("json.webpubsub.azure.v1"), Greeting::Connected),
        Protocol::Reliable => (Some("json.reliable.webpubsub.azure.v1"), Greeting::Connected),
        // Of the service's protocols only this one has no subprotocol; foreign ones do not come here.
        _ => (None, Greeting::None),
    };
    Spec { path, subprotocol, greeting }
}
