//! Stalled readers: some members stop reading while publishing goes on. What do the others notice, what
//! does it cost the server, and what becomes of the stalled ones?
//!
//! Rounds alternate: everybody reads, then some do not, so that a change of the machine's load meets
//! both.

use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;

use crate::cli::{Protocol, ServerArgs};
use crate::client::{Change, Ending, Spec};
use crate::crowd::{Crowd, Plain, Workload, member_spec};
use crate::cuts::{recovery_spec, session_spec};
use crate::error::Error;
use crate::facts::{self, Quantile, quantiles};
use crate::judgement::{Bar, JudgeArgs, Waits};
use crate::layout::{Layout, Source, group_name};
use crate::pace::{Stall, TURN_MAX, UNACKNOWLEDGED_MAX};
use crate::report::Report;
use crate::server::{Server, Verb};
use crate::soak::metrics;

/// Most that kernel (4 MiB to send, some hundred KiB to receive) and server (1 MiB by default) hold for
/// one stalled reader, rounded up generously. A server that holds more has no bound.
const HELD_MAX: u64 = 16 * 1024 * 1024;

/// The bound of a plain client's outbox by default, MiB: what the server may keep for one stalled reader.
const OUTBOX_MIB: f64 = 1.0;

/// What the server may have more for all stalled readers together than for each of them: its allocator's, and the
/// messages that all wait for, MiB.
const HELD_TOGETHER_MIB: f64 = 16.0;

/// Of the others, against what is when all read: how long that takes is the load's, messages to all members in flight.
const BAR: Bar = Bar { ratio_max: 2.0, calm_ms_max: None };

/// How often the server's memory is read while some are stalled.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

const ALL_READ: [Quantile; 5] = quantiles!("latency_all_read", "latency, all reading,");
const HEALTHY: [Quantile; 5] = quantiles!("latency", "latency of the others");

/// Options of `stalled`.
#[derive(Args, Clone)]
pub(crate) struct StalledArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// Members of the one group.
    #[arg(long, default_value_t = 50)]
    pub(crate) members: usize,
    /// How many of them stop reading.
    #[arg(long, default_value_t = 5)]
    pub(crate) stalled: usize,
    /// How members talk: raw, json or reliable. Stalled ones must be closed with 1008, which may show as
    /// a reset, since a close frame cannot pass what is unread.
    #[arg(long, value_enum, default_value_t = Protocol::Json, conflicts_with = "resume")]
    pub(crate) protocol: Protocol,
    /// Reliable members that read again after each round and must catch up, in order, with nothing
    /// missing. Keep `--messages` times `--size` below the server's bounds for a session (10,000
    /// messages, 16 MiB by default).
    #[arg(long)]
    pub(crate) resume: bool,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 2048)]
    pub(crate) size: usize,
    /// Publishing connections.
    #[arg(long, default_value_t = 1)]
    pub(crate) publishers: usize,
    /// Messages in flight per publisher, to those who read.
    #[arg(long, default_value_t = 4)]
    pub(crate) window: u32,
    /// Messages per half round. Default: 10,000; with --resume so few that a whole run stays below what a
    /// server keeps unacknowledged.
    #[arg(long)]
    pub(crate) messages: Option<u32>,
    /// Rounds; the figures are medians.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) judging: JudgeArgs,
}

impl StalledArgs {
    fn protocol(&self) -> Protocol {
        if self.resume { Protocol::Reliable } else { self.protocol }
    }

    fn messages(&self) -> u32 {
        let all = if self.resume { UNACKNOWLEDGED_MAX / (2 * self.rounds + 1) } else { 10_000 };
        self.messages.unwrap_or_else(|| all.max(1))
    }

    fn readers(&self) -> usize {
        self.members - self.stalled
    }
}

/// Everything for one run of `stalled`.
pub(crate) fn run(args: &StalledArgs) -> Result<Report, Error> {
    facts::check_key(&args.server)?;
    facts::check_size(args.size)?;
    let counts = [
        ("stalled", args.stalled as u64),
        ("publishers", args.publishers as u64),
        ("window", u64::from(args.window)),
        ("messages", u64::from(args.messages())),
        ("rounds", u64::from(args.rounds)),
    ];
    facts::check_counts(&counts, &[])?;
    facts::check_publishers(args.publishers)?;
    if args.stalled >= args.members {
        return Err(Error::Usage("--stalled must leave members that read".into()));
    }
    if !args.protocol.is_own() {
        return Err(Error::Usage("only raw, json and reliable have a rule for stalled readers".into()));
    }
    Server::check_room_for(args.members + args.publishers)?;
    let server = Server::start(&args.server, Verb::Serve)?;
    run_against(&server, args)
}

/// The same against a server that has been found already.
pub(crate) fn run_against(server: &Server, args: &StalledArgs) -> Result<Report, Error> {
    let layout = Layout {
        protocol: args.protocol(),
        source: Source::Publishers,
        size: args.size,
        members: args.members,
        groups: 1,
        publishers: args.publishers,
        skew: false,
    };
    let group = [group_name(0)];
    let specs: Vec<Spec> = (0..args.members)
        .map(|member| match args.resume {
            true => session_spec(server, &args.hub, member, &group),
            false => member_spec(server, &args.hub, args.protocol, member, &group),
        })
        .collect();
    let patience = Duration::from_secs(args.server.timeout);
    let mut crowd = Crowd::open(server, layout, specs.iter().cloned(), patience, "stalled")?;
    crowd.open_publishers(server, &args.hub)?;
    let mut run = Run {
        args,
        server,
        long_turns: long_turns(server)?,
        long_turns_all_read: 0,
        crowd,
        specs,
        peak: Peak { server, mib: None, last: Instant::now() },
        base_mib: None,
        all_read: facts::latencies(),
        healthy: facts::latencies(),
        outcomes: Outcomes::default(),
    };
    let mut rounds = Vec::new();
    match run.measure(&mut rounds) {
        // A server that loses something is reported with the counts of what is missing.
        Ok(()) | Err(Error::Stalled(_)) => run.report(&rounds),
        Err(error) => Err(error),
    }
}

struct Run<'a> {
    args: &'a StalledArgs,
    server: &'a Server,
    /// Before anything; `None` of a server whose metrics are not known.
    long_turns: Option<u64>,
    /// How many more there were while all read.
    long_turns_all_read: u64,
    crowd: Crowd,
    specs: Vec<Spec>,
    peak: Peak<'a>,
    /// The server's memory before anybody stalled.
    base_mib: Option<f64>,
    all_read: Histogram<u64>,
    healthy: Histogram<u64>,
    outcomes: Outcomes,
}

/// One round's cost of a delivery to somebody who reads, ns, and the pace.
struct Round {
    all_read_ns: Option<f64>,
    healthy_ns: Option<f64>,
    deliveries_per_second: f64,
}

/// What became of the stalled members.
#[derive(Default)]
struct Outcomes {
    closed_1008: u64,
    reset: u64,
    caught_up: u64,
    recovered: u64,
    /// Closed in another way, or not at all although no bound allows it.
    wrong: u64,
    first_wrong: Option<String>,
}

/// Reads the server's memory now and then.
struct Peak<'a> {
    server: &'a Server,
    mib: Option<f64>,
    last: Instant,
}

impl Workload for Peak<'_> {
    fn tend(&mut self, _crowd: &mut Crowd) -> Result<(), Error> {
        if self.last.elapsed() >= SAMPLE_EVERY {
            self.last = Instant::now();
            let now = facts::resident_mib(self.server)?;
            self.mib = now.map(|now| self.mib.map_or(now, |before| before.max(now)));
        }
        Ok(())
    }
}

impl Run<'_> {
    fn measure(&mut self, rounds: &mut Vec<Round>) -> Result<(), Error> {
        let (messages, window) = (self.args.messages(), self.args.window);
        self.crowd.closed_loop(messages.div_ceil(4), window, 1, &mut Plain)?;
        self.base_mib = facts::resident_mib(self.server)?;
        for index in 0..self.args.rounds {
            self.crowd.ledger.forget_latency();
            let long_turns_before = long_turns(self.server)?;
            let (all_read_ns, _) = self.half(|run| run.crowd.closed_loop(messages, window, 1, &mut Plain))?;
            let long = facts::spent(long_turns_before, long_turns(self.server)?);
            self.long_turns_all_read += long.unwrap_or(0);
            self.all_read.add(self.crowd.ledger.latency()).expect("the same bounds");

            self.crowd.ledger.forget_latency();
            for member in self.args.readers()..self.args.members {
                self.crowd.swarm.watch(member);
                self.crowd.swarm.stall(member)?;
                self.crowd.ledger.set_aside(member);
            }
            let (healthy_ns, deliveries_per_second) =
                self.half(|run| run.crowd.closed_loop(messages, window, 1, &mut run.peak))?;
            self.healthy.add(self.crowd.ledger.latency()).expect("the same bounds");
            rounds.push(Round { all_read_ns, healthy_ns, deliveries_per_second });
            self.read_again()?;
            self.crowd.progress.tick(|| format!("round {} of {} done", index + 1, self.args.rounds));
        }
        self.crowd.linger()
    }

    /// CPU per delivery, ns, and deliveries a second, while `work` runs.
    fn half(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(Option<f64>, f64), Error> {
        let (before, start) = (facts::settled_cpu_ns(self.server)?, Instant::now());
        let deliveries = self.crowd.ledger.deliveries();
        work(self)?;
        let seconds = start.elapsed().as_secs_f64();
        let deliveries = (self.crowd.ledger.deliveries() - deliveries).max(1) as f64;
        let cpu = facts::spent(before, facts::settled_cpu_ns(self.server)?);
        Ok((cpu.map(|cpu| cpu as f64 / deliveries), deliveries / seconds))
    }

    /// Reads the stalled members to their end, or until they have everything; opens anew those that were
    /// closed, so that the next round begins like this one.
    fn read_again(&mut self) -> Result<(), Error> {
        let mut open: Vec<usize> = (self.args.readers()..self.args.members).collect();
        for &member in &open {
            self.crowd.swarm.unstall(member)?;
        }
        let held = u64::from(self.args.messages()) * self.args.size as u64;
        let must_close = !self.args.resume && held > HELD_MAX;
        let mut reopening = 0;
        let mut changes = Vec::new();
        let mut stall = Stall::new(self.crowd.patience);
        while !open.is_empty() || reopening > 0 {
            self.crowd.turn(TURN_MAX)?;
            self.crowd.swarm.take_changes(&mut changes);
            for change in changes.drain(..) {
                match change {
                    Change::Ready { .. } => reopening -= 1,
                    Change::Ended { connection, ending } => {
                        let back = self.ended(connection, ending, &mut open)?;
                        reopening += usize::from(back);
                    }
                    Change::Answer { .. } => unreachable!("there are no HTTP connections here"),
                }
            }
            let ledger = &self.crowd.ledger;
            open.retain(|&member| {
                let complete = ledger.missing(member) == 0;
                self.outcomes.caught_up += u64::from(complete);
                if complete && must_close {
                    self.outcomes
                        .wrong(|| format!("member {member} was sent {held} bytes unread and not closed"));
                }
                !complete
            });
            let ledger = &self.crowd.ledger;
            let progress = ledger.aside_deliveries() + ledger.deliveries();
            if let Err(error) = stall.check_that(progress, true, || "stalled members do not get on".into()) {
                open.iter().for_each(|&member| self.crowd.ledger.write_off(member));
                return Err(error);
            }
        }
        for member in self.args.readers()..self.args.members {
            self.crowd.ledger.take_back(member);
        }
        Ok(())
    }

    /// True if the member is being opened again.
    fn ended(&mut self, member: usize, ending: Ending, open: &mut Vec<usize>) -> Result<bool, Error> {
        if self.args.resume && matches!(ending, Ending::Lost(_)) {
            // As when its keep-alive ran out while it was stalled: it comes back for the rest.
            let session = self.crowd.swarm.session(member).expect("every member was greeted with one");
            let spec = recovery_spec(&self.specs[member], session);
            self.crowd.ledger.new_socket(member, true);
            self.outcomes.recovered += 1;
            self.crowd.swarm.restart(member, spec)?;
            return Ok(true);
        }
        open.retain(|&other| other != member);
        if self.args.resume {
            self.outcomes.wrong(|| ending.into_error(member).to_string());
            self.crowd.ledger.write_off(member);
        } else {
            match ending {
                Ending::Closed { code: Some(1008), .. } => self.outcomes.closed_1008 += 1,
                Ending::Lost(reason) if reason.contains("reset") => self.outcomes.reset += 1,
                other => self.outcomes.wrong(|| other.into_error(member).to_string()),
            }
        }
        self.crowd.ledger.new_socket(member, false);
        self.crowd.swarm.restart(member, self.specs[member].clone())?;
        Ok(true)
    }

    fn report(&self, rounds: &[Round]) -> Result<Report, Error> {
        let (args, outcomes) = (self.args, &self.outcomes);
        let name = args.protocol().name();
        let then = if args.resume { ", reading again" } else { "" };
        let title = format!(
            "stalled readers, {} of {} members{then}, {name}, {} B",
            args.stalled, args.members, args.size
        );
        let mut report = Report::new("stalled", title);
        report.fact("protocol", "protocol", name);
        report.fact("members", "members", args.members);
        report.fact("stalled", "of them stalled", args.stalled);
        report.fact("payload_bytes", "payload, bytes", args.size);
        report.fact("messages", "messages per half round", args.messages());
        report.fact("rounds", "rounds", rounds.len());
        report.fact("deliveries", "verified deliveries", self.crowd.ledger.deliveries());
        report.fact("stalled_deliveries", "of stalled ones, later", self.crowd.ledger.aside_deliveries());
        report.fact("closed_1008", "stalled: closed with 1008", outcomes.closed_1008);
        report.fact("closed_reset", "stalled: closed by reset", outcomes.reset);
        report.fact("caught_up", "stalled: caught up", outcomes.caught_up);
        if args.resume {
            report.fact("recovered", "stalled: recovered on a new socket", outcomes.recovered);
        }
        report.violation("wrong_endings", "stalled: ended wrongly, or kept without bound", outcomes.wrong);
        if let Some(first) = &outcomes.first_wrong {
            report.fact("first_wrong_ending", "the first of them", first.as_str());
        }
        self.crowd.ledger.report_violations(&mut report);
        let mut median_of = |fact, figure: &dyn Fn(&Round) -> Option<f64>| {
            facts::median_of(&mut report, rounds, fact, figure);
        };
        median_of(
            ("cpu_ns_per_delivery_all_read", "server CPU per delivery, all reading", "ns", ""),
            &|round| round.all_read_ns,
        );
        median_of(("cpu_ns_per_delivery", "to the others while some stall", "ns", ""), &|round| {
            round.healthy_ns
        });
        median_of(("stall_ratio", "ratio", "x", ""), &|round| Some(round.healthy_ns? / round.all_read_ns?));
        median_of(("deliveries_per_second", "deliveries per second while some stall", "", ""), &|round| {
            Some(round.deliveries_per_second)
        });
        facts::latency(&mut report, &self.all_read, &ALL_READ);
        report.distribution(&self.healthy, "", "");
        facts::latency(&mut report, &self.healthy, &HEALTHY);
        args.judging.judge(
            &mut report,
            self.server,
            &[Waits { calm: self.all_read.clone(), shaken: self.healthy.clone() }],
            &BAR,
        );
        self.judge_turns(&mut report)?;
        if let Some(mib) = self.peak.mib {
            report.figure("resident_peak_mib", "server memory, peak while some stall", mib, "MiB", "");
            if let Some(base) = self.base_mib {
                report.figure("resident_base_mib", "before anybody stalled", base, "MiB", "");
                let held = (mib - base).max(0.0) / args.stalled as f64;
                let remark = format!("(plain: hold {OUTBOX_MIB})");
                report.figure("held_mib_per_stalled", "more, for each that stalls", held, "MiB", &remark);
                let most = base + HELD_TOGETHER_MIB + OUTBOX_MIB * args.stalled as f64;
                // A server with other bounds, or other clients, is not judged by the default.
                let is_judged = self.server.admin.is_some() && args.protocol() != Protocol::Reliable;
                let is_over = is_judged && mib > most;
                report.violation("held_too_much", "more memory than the bounds allow", u64::from(is_over));
            }
        }
        if let Some(mib) = facts::resident_mib(self.server)? {
            report.figure("resident_mib", "server memory at the end", mib, "MiB", "");
        }
        Ok(report)
    }

    /// No turn of the server's may take long, whoever stalls (`reliability` check 34).
    fn judge_turns(&self, report: &mut Report) -> Result<(), Error> {
        let label = "turns of the server that took longer than 10 ms";
        let Some((before, after)) = self.long_turns.zip(long_turns(self.server)?) else {
            let why = "not known, and not judged: only a server that --server-bin started says where its metrics are";
            report.fact("turns_long", label, why);
            return Ok(());
        };
        match self.args.judging.why_not(self.server) {
            None => report.violation("turns_long", label, after - before),
            Some(why) => report.fact("turns_long", &format!("{label} (not judged: {why})"), after - before),
        }
        report.fact("turns_long_all_read", "of them while all read", self.long_turns_all_read);
        Ok(())
    }
}

/// How many turns of the server took long; `None` of one whose metrics are not known.
fn long_turns(server: &Server) -> Result<Option<u64>, Error> {
    server.admin.map(|admin| metrics::sum(admin, "ringhub_turns_long_total")).transpose()
}

impl Outcomes {
    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(what);
    }
}
