//! Random cuts: reliable clients lose their sockets while messages flow, come back as the SDKs do, and
//! must miss nothing (reference client-protocols §6).

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;

use crate::cli::{Protocol, ServerArgs};
use crate::client::{ABANDONED_MAX, Change, Ending, Greeting, Session, Spec};
use crate::crowd::{Crowd, Plain, Workload, member_spec};
use crate::error::Error;
use crate::facts::{self, Quantile, quantiles};
use crate::layout::{Layout, Source, group_name};
use crate::random::Random;
use crate::report::Report;
use crate::server::{Server, Verb};

/// How long the SDKs wait between two attempts to recover.
const RETRY_NS: u64 = 1_000_000_000;

/// Attempts before a client gives up; at one a second that is the recovery window.
const ATTEMPTS_MAX: u32 = 30;

const RECOVERY_LATENCY: [Quantile; 5] = quantiles!("recovery", "recovery");

/// Options of `cuts`.
#[derive(Args, Clone)]
pub(crate) struct CutsArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "bench")]
    pub(crate) hub: String,
    /// Reliable clients, spread evenly over the groups.
    #[arg(long, default_value_t = 200)]
    pub(crate) members: usize,
    /// Groups.
    #[arg(long, default_value_t = 2)]
    pub(crate) groups: usize,
    /// Publishing connections, spread evenly over the groups; they are not cut.
    #[arg(long, default_value_t = 4)]
    pub(crate) publishers: usize,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Messages a second, all publishers together.
    #[arg(long, default_value_t = 400.0)]
    pub(crate) rate: f64,
    /// Cuts a second, all members together, each behind a random byte of what the server sends. A third of them
    /// each: a reset, an end of stream, and a socket that the server still believes in.
    #[arg(long, default_value_t = 40.0)]
    pub(crate) cuts: f64,
    /// Longest time a cut client stays away, ms; chosen at random. Below --timeout and the server's
    /// recovery window.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) away: u64,
    /// Seconds with cuts. Half as many without go before, for comparison.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Seed of who is cut, when, how, and for how long. Default: from the clock; always printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// Everything for one run of `cuts`.
pub(crate) fn run(args: &CutsArgs) -> Result<Report, Error> {
    check(args)?;
    let server = Server::start(&args.server, Verb::Serve)?;
    run_against(&server, args)
}

fn check(args: &CutsArgs) -> Result<(), Error> {
    facts::check_key(&args.server)?;
    facts::check_size(args.size)?;
    let counts = [
        ("members", args.members as u64),
        ("groups", args.groups as u64),
        ("publishers", args.publishers as u64),
        ("away", args.away),
    ];
    facts::check_counts(&counts, &[("rate", args.rate), ("cuts", args.cuts), ("seconds", args.seconds)])?;
    facts::check_publishers(args.publishers)?;
    if args.groups > args.members || args.groups > args.publishers {
        return Err(Error::Usage("every group needs at least one member and one publisher".into()));
    }
    if args.away >= args.server.timeout * 1_000 {
        return Err(Error::Usage("--away must be below --timeout".into()));
    }
    // Abandoned sockets stay open for a while.
    Server::check_room_for(args.members + args.publishers + ABANDONED_MAX)
}

/// The same against a server that has been found already.
pub(crate) fn run_against(server: &Server, args: &CutsArgs) -> Result<Report, Error> {
    let layout = Layout {
        protocol: Protocol::Reliable,
        source: Source::Publishers,
        size: args.size,
        members: args.members,
        groups: args.groups,
        publishers: args.publishers,
        skew: false,
    };
    let specs: Vec<Spec> = (0..args.members)
        .map(|member| session_spec(server, &args.hub, member, &[group_name(member % args.groups)]))
        .collect();
    let patience = Duration::from_secs(args.server.timeout);
    let mut crowd = Crowd::open(server, layout, specs.iter().cloned(), patience, "cuts")?;
    crowd.open_publishers(server, &args.hub)?;
    (0..args.members).for_each(|member| crowd.swarm.watch(member));

    let seed = args.seed.unwrap_or_else(|| Random::new().below(1_000_000));
    let messages = |seconds: f64| (args.rate * seconds).ceil().max(1.0) as u32;
    let mut cuts = Cuts::new(args, specs, seed);
    let mut phases = Vec::new();
    let outcome = (|| {
        for with_cuts in [false, true] {
            let (deliveries, before) = (crowd.ledger.deliveries(), facts::settled_cpu_ns(server)?);
            crowd.ledger.forget_latency();
            if with_cuts {
                cuts.next_cut_ns = crowd.swarm.now_ns();
                crowd.open_loop(messages(args.seconds), args.rate, &mut cuts)?;
                cuts.bring_all_back(&mut crowd)?;
                crowd.linger()?;
            } else {
                crowd.open_loop(messages(args.seconds / 2.0), args.rate, &mut Plain)?;
            }
            let cpu = facts::spent(before, facts::settled_cpu_ns(server)?);
            phases.push(cpu.map(|cpu| cpu as f64 / (crowd.ledger.deliveries() - deliveries).max(1) as f64));
        }
        Ok(())
    })();
    match outcome {
        // A server that loses something is reported with the counts of what is missing.
        Ok(()) | Err(Error::Stalled(_)) => report(server, args, &crowd, &cuts, seed, &phases),
        Err(error) => Err(error),
    }
}

fn report(
    server: &Server,
    args: &CutsArgs,
    crowd: &Crowd,
    cuts: &Cuts<'_>,
    seed: u64,
    phases: &[Option<f64>],
) -> Result<Report, Error> {
    let title = format!(
        "random cuts, {} reliable members, {} messages/s, {} cuts/s, seed {seed}",
        args.members, args.rate, args.cuts
    );
    let mut report = Report::new("cuts", title);
    report.fact("seed", "seed", seed);
    report.fact("members", "members", args.members);
    report.fact("groups", "groups", args.groups);
    report.fact("publishers", "publishers", args.publishers);
    report.fact("payload_bytes", "payload, bytes", args.size);
    report.fact("away_ms", "away at most, ms", args.away);
    report.fact("cuts", "cuts", cuts.cut);
    report.fact("recoveries", "recoveries", cuts.recovered);
    report.fact("failed_attempts", "attempts that met no server", cuts.failed);
    report.fact("replayed", "messages replayed that were known", crowd.ledger.replayed());
    report.fact("deliveries", "verified deliveries", crowd.ledger.deliveries());
    report.fact("sequence_acks", "sequence acks sent", crowd.sequence_acks().unwrap_or(0));
    report.violation("refused_recoveries", "refused recoveries", cuts.refused);
    if let Some(first) = &cuts.first_refusal {
        report.fact("first_refusal", "the first of them", first.as_str());
    }
    crowd.ledger.report_violations(&mut report);
    if let [Some(without), with @ ..] = phases {
        report.figure("cpu_ns_per_delivery_uncut", "server CPU per delivery, no cuts", *without, "ns", "");
        if let [Some(with)] = with {
            report.figure("cpu_ns_per_delivery", "with cuts", *with, "ns", "");
        }
    }
    report.distribution(crowd.ledger.latency(), "", "");
    facts::latency(&mut report, crowd.ledger.latency(), &facts::LATENCY);
    facts::latency(&mut report, &cuts.latency, &RECOVERY_LATENCY);
    if let Some(mib) = facts::resident_mib(server)? {
        report.figure("resident_mib", "server memory", mib, "MiB", "");
    }
    Ok(report)
}

/// A reliable member that keeps what it needs to come back.
pub(crate) fn session_spec(server: &Server, hub: &str, member: usize, groups: &[String]) -> Spec {
    Spec { greeting: Greeting::Session, ..member_spec(server, hub, Protocol::Reliable, member, groups) }
}

/// The same URL again, with the two parameters that make it a recovery.
pub(crate) fn recovery_spec(first: &Spec, session: &Session) -> Spec {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    (byte as char).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let (id, token) = (encode(&session.connection_id), encode(&session.reconnection_token));
    let path = format!("{}&awps_connection_id={id}&awps_reconnection_token={token}", first.path);
    Spec { path, ..first.clone() }
}

/// A cut falls behind so many more bytes at most, chosen at random: several frames.
const CUT_BEHIND_MAX: u64 = 600;

/// How a socket that is cut ends.
#[derive(Clone, Copy)]
enum How {
    Reset,
    EndOfStream,
    /// The server still believes in it.
    Abandoned,
}

/// Who is cut, who is away, who is coming back.
struct Cuts<'a> {
    args: &'a CutsArgs,
    specs: Vec<Spec>,
    random: Random,
    next_cut_ns: u64,
    /// Per member, how the cut that is to come ends its socket, and how long it stays away then, ns.
    marked: Vec<Option<(How, u64)>>,
    /// Members away, by the time they come back.
    away: BTreeSet<(u64, usize)>,
    /// Per member that is on its way back: when it set out, and its attempts so far.
    returning: Vec<Option<u64>>,
    attempts: Vec<u32>,
    on_the_way: usize,
    cut: u64,
    recovered: u64,
    failed: u64,
    refused: u64,
    first_refusal: Option<String>,
    latency: Histogram<u64>,
    changes: Vec<Change>,
}

impl<'a> Cuts<'a> {
    fn new(args: &'a CutsArgs, specs: Vec<Spec>, seed: u64) -> Self {
        Self {
            args,
            specs,
            random: Random::seeded(seed),
            next_cut_ns: 0,
            marked: vec![None; args.members],
            away: BTreeSet::new(),
            returning: vec![None; args.members],
            attempts: vec![0; args.members],
            on_the_way: 0,
            cut: 0,
            recovered: 0,
            failed: 0,
            refused: 0,
            first_refusal: None,
            latency: facts::latencies(),
            changes: Vec::new(),
        }
    }

    /// No more cuts; takes turns until nobody is away.
    fn bring_all_back(&mut self, crowd: &mut Crowd) -> Result<(), Error> {
        self.next_cut_ns = u64::MAX;
        for member in 0..self.args.members {
            self.marked[member] = None;
            crowd.swarm.cut_after(member, None);
        }
        let mut outcome = Ok(());
        crowd.wait("recoveries", |crowd| {
            outcome = self.tend(crowd);
            outcome.is_err()
                || self.away.is_empty() && self.on_the_way == 0 && crowd.ledger.outstanding() == 0
        })?;
        outcome
    }

    /// Marks a member: the cut itself falls behind a random byte of what it is sent next.
    fn mark_one(&mut self, crowd: &mut Crowd) {
        let member = self.random.below(self.args.members as u64) as usize;
        let how = [How::Reset, How::EndOfStream, How::Abandoned][self.random.below(3) as usize];
        let away_ns = self.random.below(self.args.away * 1_000_000);
        let bytes = self.random.below(CUT_BEHIND_MAX) as usize;
        // The draws are made anyway, so that the rest does not depend on who is away.
        if crowd.swarm.is_ready(member) && self.marked[member].is_none() {
            self.marked[member] = Some((how, away_ns));
            crowd.swarm.cut_after(member, Some(bytes));
        }
    }

    fn cut(&mut self, crowd: &mut Crowd, member: usize) {
        let (how, away_ns) = self.marked[member].take().expect("only marked members are cut");
        match how {
            How::Reset => crowd.swarm.cut(member, true),
            How::EndOfStream => crowd.swarm.cut(member, false),
            How::Abandoned => crowd.swarm.abandon(member),
        }
        self.cut += 1;
        self.attempts[member] = 0;
        self.away.insert((crowd.swarm.now_ns() + away_ns, member));
    }

    fn set_out(&mut self, crowd: &mut Crowd, member: usize, now_ns: u64) -> Result<(), Error> {
        let session = crowd.swarm.session(member).expect("every member was greeted with one");
        let spec = recovery_spec(&self.specs[member], session);
        crowd.ledger.new_socket(member, true);
        self.returning[member] = Some(now_ns);
        self.attempts[member] += 1;
        self.on_the_way += 1;
        crowd.swarm.restart(member, spec)
    }

    fn ended(&mut self, crowd: &mut Crowd, member: usize, ending: Ending) -> Result<(), Error> {
        if self.returning[member].take().is_none() {
            return Err(ending.into_error(member));
        }
        self.on_the_way -= 1;
        if matches!(ending, Ending::Lost(_)) && self.attempts[member] < ATTEMPTS_MAX {
            self.failed += 1;
            self.away.insert((crowd.swarm.now_ns() + RETRY_NS, member));
            return Ok(());
        }
        self.refused += 1;
        self.first_refusal.get_or_insert_with(|| ending.into_error(member).to_string());
        crowd.ledger.set_aside(member);
        crowd.ledger.write_off(member);
        Ok(())
    }
}

impl Workload for Cuts<'_> {
    fn tend(&mut self, crowd: &mut Crowd) -> Result<(), Error> {
        let mut changes = std::mem::take(&mut self.changes);
        crowd.swarm.take_changes(&mut changes);
        for change in changes.drain(..) {
            match change {
                Change::Ready { connection, now_ns } => {
                    if let Some(began_ns) = self.returning[connection].take() {
                        self.on_the_way -= 1;
                        self.recovered += 1;
                        self.latency.saturating_record(now_ns.saturating_sub(began_ns).max(1));
                    }
                }
                Change::Ended { connection, ending: Ending::Cut } => self.cut(crowd, connection),
                Change::Ended { connection, ending } => self.ended(crowd, connection, ending)?,
                Change::Answer { .. } => unreachable!("there are no HTTP connections here"),
            }
        }
        self.changes = changes;
        let now_ns = crowd.swarm.now_ns();
        while self.next_cut_ns <= now_ns {
            self.mark_one(crowd);
            // From nothing to twice the mean: as irregular as life, and never a crowd at once.
            let mean_ns = (1e9 / self.args.cuts) as u64;
            self.next_cut_ns += self.random.below(2 * mean_ns + 1);
        }
        while let Some(&(back_ns, member)) = self.away.first()
            && back_ns <= now_ns
        {
            self.away.pop_first();
            self.set_out(crowd, member, now_ns)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_travel_in_the_query() {
        let first = Spec {
            path: "/client/hubs/h?access_token=x".into(),
            subprotocol: None,
            greeting: Greeting::None,
        };
        let session = Session { connection_id: "a_b-c".into(), reconnection_token: "tok+/=1".into() };
        assert_eq!(
            recovery_spec(&first, &session).path,
            "/client/hubs/h?access_token=x&awps_connection_id=a_b-c&awps_reconnection_token=tok%2B%2F%3D1"
        );
    }
}
