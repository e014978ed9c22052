//! One shape measured on several servers: who is measured when, and what is said of each.
//!
//! What must stay true: rounds of all servers and of the floor alternate, in an order that changes, so
//! that a change of the machine's load meets all of them; a ratio is taken inside a round and its median
//! reported; between its rounds a server's clients stay alive but idle.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, json};

use crate::cli::{FanoutArgs, Protocol};
use crate::compare::{Entrant, Setup, Shape};
use crate::echo::Echo;
use crate::error::Error;
use crate::fanout::Run;
use crate::floor::Floor;
use crate::measure::{extremes, median};
use crate::publish::FLOOR;
use crate::report::{Progress, Report, grouped};
use crate::server::Server;
use crate::trace::Tracer;

/// From so many messages on, a round of reliable members begins with everything acknowledged.
const FEW_MESSAGES: u32 = 1_000;

/// In which every reliable member has had its turn to acknowledge.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_millis(1_050);

/// How long one round of the floor may take on a machine that others keep busy.
const FLOOR_PATIENCE: Duration = Duration::from_secs(300);

/// How long after the last delivery a doubled message may still come.
const LATE_WAIT: Duration = Duration::from_millis(50);

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
            Self::Fanout(run) => run.crowd.turn(wait),
            Self::Echo(echo) => echo.turn(wait),
        }
    }

    fn deliveries(&self) -> u64 {
        match self {
            Self::Fanout(run) => run.crowd.ledger.deliveries(),
            Self::Echo(echo) => echo.back(),
        }
    }

    fn latency(&self) -> &Histogram<u64> {
        match self {
            Self::Fanout(run) => run.crowd.ledger.latency(),
            Self::Echo(echo) => echo.latency(),
        }
    }

    fn forget_latency(&mut self) {
        match self {
            Self::Fanout(run) => run.crowd.ledger.forget_latency(),
            Self::Echo(echo) => echo.forget_latency(),
        }
    }

    fn report_violations(&self, report: &mut Report) {
        match self {
            Self::Fanout(run) => run.crowd.ledger.report_violations(report),
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
        let mut progress = Progress::new(self.workload);
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
                _ => Run::open(&entrant.server, &fanout_args[index], self.setup.groups)
                    .map(|run| Session::Fanout(Box::new(run))),
            };
            let (session, failed) = match session {
                Ok(session) => (Some(session), None),
                Err(error) => (None, Some(error)),
            };
            lanes.push(Lane { entrant, session, rounds: Vec::new(), failed });
        }
        let floor = self.measure(&mut lanes, &mut progress)?;
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
    fn measure(&self, lanes: &mut [Lane<'_>], progress: &mut Progress) -> Result<Vec<Round>, Error> {
        let messages = |lane: &Lane<'_>| self.setup.messages(self.shape, self.members, lane.entrant.protocol);
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
            if start.elapsed() > FLOOR_PATIENCE {
                let seconds = FLOOR_PATIENCE.as_secs();
                return Err(Error::Child(format!("the floor did not end a round in {seconds} s")));
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
        let first = lanes.first().filter(|_| lanes.len() > 1).map(|lane| &lane.rounds[..]);
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

    fn report(&self, lane: &Lane<'_>, floor: &[Round], first: Option<&[Round]>, first_name: &str) -> Report {
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
        // A server measured alone has nobody to be compared with.
        if let Some(ratio) = first.and_then(|first| median_ratio(&lane.rounds, first)) {
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
            _ => {
                let groups = match setup.groups {
                    1 => String::new(),
                    groups => format!(" in {} groups", grouped(groups as u64)),
                };
                format!("fan-out, {} B to {members}{groups}, {pace}, {} rounds", setup.size, setup.rounds)
            }
        };
        let mut report = Report::new(self.workload, format!("{title}: {name}")).in_table(&title, name);
        report.fact("server", "", name);
        report.fact("shape", "", self.shape.name());
        report.fact("pace", "", pace);
        report.fact("members", "", self.members);
        report.fact("groups", "", setup.groups);
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
}
