//! Churn for hours: clients of every kind come, join, publish, leave and are cut at a stated rate, everything
//! received is checked, and at the end everybody leaves. Does memory grow, and is everything given back?
//!
//! What must stay true: the load is the same from the first minute to the last, so that a slope of memory is the
//! server's; and "given back" is not a list of ours but every gauge of the server's own metrics page, its open
//! descriptors, and the groups as REST sees them.

mod books;
mod churn;
pub(crate) mod metrics;
mod slope;

use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::ServerArgs;
use crate::error::Error;
use crate::facts;
use crate::pace::TURN_MAX;
use crate::random::Random;
use crate::report::{Progress, Report};
use crate::server::{Server, Verb};
use churn::Churn;
use metrics::Gauges;
use slope::{Trend, Verdict};

/// The server's recovery window and its grace: how long sessions of clients that never come back last, seconds.
const SESSION_LASTS_S: u64 = 5 + 2;

/// How often memory and descriptors are read.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// How long the server may take, after the last session's end, until its gauges are back.
const GIVE_BACK_WAIT: Duration = Duration::from_secs(20);

/// The least measured time that says anything about a slope, minutes.
const SLOPE_MINUTES_MIN: f64 = 5.0;

/// Options of `soak`.
#[derive(Args, Clone)]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Hub to use.
    #[arg(long, default_value = "soak")]
    pub(crate) hub: String,
    /// Minutes of churn, warm-up included. 20 is a check, 1440 (a day) the release's.
    #[arg(long, default_value_t = 20.0)]
    pub(crate) minutes: f64,
    /// Minutes before memory is looked at. Default: a quarter of all, at most 10.
    #[arg(long)]
    pub(crate) warm_up: Option<f64>,
    /// Operations a second: connects, joins, publications, leaves, closes, cuts, recoveries and REST sends.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// Places for clients: a third each are raw, JSON, and reliable JSON. Some are empty at any time.
    #[arg(long, default_value_t = 400)]
    pub(crate) clients: usize,
    /// Groups. Each has a publisher of its own that is never cut, whose messages nobody may miss, and so has
    /// REST.
    #[arg(long, default_value_t = 40)]
    pub(crate) groups: usize,
    /// Payload bytes, at least 30.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Most MiB an hour that resident memory may grow by after the warm-up.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) slope_max: f64,
    /// Seed of who does what. Default: from the clock; always printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

impl SoakArgs {
    fn warm_up_minutes(&self) -> f64 {
        self.warm_up.unwrap_or_else(|| (self.minutes / 4.0).min(10.0))
    }
}

/// Everything for one run of `soak`.
pub(crate) fn run(args: &SoakArgs) -> Result<Report, Error> {
    if args.server.server_bin.is_none() {
        return Err(Error::Usage(
            "soak counts what the server holds: give it one of its own, --server-bin".into(),
        ));
    }
    facts::check_size(args.size)?;
    let counts = [("clients", args.clients as u64), ("groups", args.groups as u64)];
    facts::check_counts(
        &counts,
        &[("rate", args.rate), ("minutes", args.minutes), ("slope-max", args.slope_max)],
    )?;
    if args.warm_up_minutes() >= args.minutes {
        return Err(Error::Usage("--warm-up must be shorter than --minutes".into()));
    }
    facts::check_publishers(2 * args.groups + args.clients)?;
    Server::check_room_for(
        args.clients + args.groups + churn::HTTP_CONNECTIONS + crate::client::ABANDONED_MAX,
    )?;
    let config = format!("[hubs.{}.reliable]\nrecovery_window_seconds = {}\n", args.hub, SESSION_LASTS_S - 2);
    let server = Server::configured(&args.server, Verb::Serve, &config)?;
    Soak::new(&server, args)?.run()
}

struct Soak<'a> {
    args: &'a SoakArgs,
    server: &'a Server,
    seed: u64,
    churn: Churn<'a>,
    progress: Progress,
    base: Held,
    trend: Trend,
    peak_mib: f64,
    first_mib: f64,
}

/// What the server holds.
struct Held {
    descriptors: usize,
    gauges: Gauges,
}

impl Held {
    fn now(server: &Server) -> Result<Self, Error> {
        Ok(Self { descriptors: open_descriptors(server)?, gauges: Gauges::read(server)? })
    }

    /// What `later` has more, or less, in words; empty if nothing.
    fn difference(&self, later: &Self) -> Vec<String> {
        let mut all = self.gauges.difference(&later.gauges);
        // A scrape's own connection may still be closing, in both readings.
        if later.descriptors > self.descriptors {
            all.push(format!("descriptors {} instead of {}", later.descriptors, self.descriptors));
        }
        all
    }
}

impl<'a> Soak<'a> {
    fn new(server: &'a Server, args: &'a SoakArgs) -> Result<Self, Error> {
        // The first scrape makes what later ones use again.
        Held::now(server)?;
        let base = Held::now(server)?;
        let seed = args.seed.unwrap_or_else(|| Random::new().below(1_000_000));
        let mut progress = Progress::new("soak");
        let churn = Churn::open(server, args, seed, &mut progress)?;
        Ok(Self {
            args,
            server,
            seed,
            churn,
            progress,
            base,
            trend: Trend::default(),
            peak_mib: 0.0,
            first_mib: 0.0,
        })
    }

    fn run(mut self) -> Result<Report, Error> {
        let outcome = self.work();
        let left = match &outcome {
            Ok(left) => left.clone(),
            Err(Error::Stalled(_)) => Vec::new(),
            Err(_) => return outcome.map(|_| unreachable!("it is an error")),
        };
        let mut report = self.report(&left)?;
        if let Err(Error::Stalled(what)) = outcome {
            report.violation("stalled", &what, 1);
        }
        Ok(report)
    }

    /// All of it; returns what was not given back.
    fn work(&mut self) -> Result<Vec<String>, Error> {
        let start = Instant::now();
        let (mut sampled, seconds) = (start, self.args.minutes * 60.0);
        let warm_up = self.args.warm_up_minutes() * 60.0;
        while start.elapsed().as_secs_f64() < seconds {
            self.churn.turn(TURN_MAX)?;
            if sampled.elapsed() >= SAMPLE_EVERY {
                sampled = Instant::now();
                let at = start.elapsed().as_secs_f64();
                let mib = facts::resident_mib(self.server)?.expect("the server is ours");
                self.peak_mib = self.peak_mib.max(mib);
                if at >= warm_up {
                    self.trend.add(at / 3_600.0, mib);
                    self.first_mib = if self.first_mib > 0.0 { self.first_mib } else { mib };
                }
                let (operations, deliveries) = (self.churn.counts.all(), self.churn.books.deliveries);
                self.progress.tick(|| {
                    format!("{:.0} of {seconds:.0} s, {operations} operations, {deliveries} deliveries, {mib:.1} MiB", at)
                });
            }
        }
        self.churn.finish(Duration::from_secs(self.args.server.timeout))?;
        let patience = Duration::from_secs(SESSION_LASTS_S) + GIVE_BACK_WAIT;
        let end = Instant::now();
        loop {
            let left = self.base.difference(&Held::now(self.server)?);
            let (hub, groups) = (&self.args.hub, self.args.groups);
            let mut left = left;
            left.extend(metrics::groups_left(self.server, hub, groups)?);
            if left.is_empty() || end.elapsed() > patience {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn report(&self, left: &[String]) -> Result<Report, Error> {
        let (args, churn) = (self.args, &self.churn);
        let title = format!(
            "soak, {} min, {} operations/s, {} clients of 3 kinds, {} groups, seed {}",
            args.minutes, args.rate, args.clients, args.groups, self.seed
        );
        let mut report = Report::new("soak", title);
        report.fact("seed", "seed", self.seed);
        report.fact("minutes", "minutes", args.minutes);
        churn.counts.state(&mut report);
        report.fact("deliveries", "verified deliveries", churn.books.deliveries);
        report.fact("replayed", "messages replayed that were known", churn.books.replayed);
        churn.report_violations(&mut report);
        report.violation(
            "not_given_back",
            "gauges, descriptors and groups not back at their base",
            left.len() as u64,
        );
        if let Some(first) = left.first() {
            report.fact("first_not_given_back", "the first of them", first.as_str());
        }
        report.fact("gauges", "gauges compared", self.base.gauges.len());
        report.figure(
            "resident_after_warm_up_mib",
            "server memory after the warm-up",
            self.first_mib,
            "MiB",
            "",
        );
        report.figure("resident_peak_mib", "at most", self.peak_mib, "MiB", "");
        if let Some(mib) = facts::resident_mib(self.server)? {
            report.figure("resident_end_mib", "when everybody has left", mib, "MiB", "");
        }
        let measured = args.minutes - args.warm_up_minutes();
        if let (Some(slope), true) = (self.trend.slope(), measured >= SLOPE_MINUTES_MIN) {
            report.figure(
                "slope_mib_per_hour",
                "slope of memory after the warm-up",
                slope.per_hour,
                "MiB/h",
                "",
            );
            let remark = format!("(95 %, {} means of a minute; hold {})", slope.minutes, args.slope_max);
            report.figure("slope_error_mib_per_hour", "give or take", slope.error, "MiB/h", &remark);
            let verdict = slope.verdict(args.slope_max);
            let violation = |is: Verdict| u64::from(verdict == is);
            report.violation(
                "memory_grows",
                "memory that grows faster than it may",
                violation(Verdict::Grows),
            );
            report.violation(
                "slope_undecided",
                "undecided: by its scatter it may hold or not; run longer",
                violation(Verdict::Undecided),
            );
        }
        Ok(report)
    }
}

fn open_descriptors(server: &Server) -> Result<usize, Error> {
    let mut all = 0;
    for pid in server.processes.as_ref().map_or(&[][..], |processes| processes.pids()) {
        let path = format!("/proc/{pid}/fd");
        all += std::fs::read_dir(&path).map_err(Error::io(format!("read {path}")))?.count();
    }
    Ok(all)
}
