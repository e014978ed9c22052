//! How much later others may be served while something goes on than while nothing does, and whether that can be told.
//!
//! What must stay true: a run that was to judge and could not fails as one that found something, for a check that
//! cannot fail says nothing. Who only wants to know whether everything arrives says so: `--unjudged`.

use clap::Args;
use hdrhistogram::Histogram;

use crate::measure::median;
use crate::report::Report;
use crate::server::Server;

/// A p99 below this is the scheduler's, and its multiples say nothing, ms.
const CALM_MS_MIN: f64 = 1.0;

/// Deliveries whose p99 is more than chance, with something going on and without.
pub(crate) const JUDGED_MIN: u64 = 5_000;

/// Options of workloads that judge times.
#[derive(Args, Clone)]
pub(crate) struct JudgeArgs {
    /// Show how long others wait for what is theirs, without judging it. For machines that are busy with other things,
    /// where it says little; without this, a run that cannot judge it fails.
    #[arg(long)]
    pub(crate) unjudged: bool,
}

/// How long others waited in a calm, and with something going on.
#[derive(Clone)]
pub(crate) struct Waits {
    pub(crate) calm: Histogram<u64>,
    pub(crate) shaken: Histogram<u64>,
}

/// What others' latency is held against.
pub(crate) struct Bar {
    /// Times that their p99 may be of what it is in a calm.
    pub(crate) ratio_max: f64,
    /// With a p99 above this though nothing happens, the machine has no time to spare for a judgement, ms. `None` where
    /// the calm is a load of its own, and its p99 says how much of it there is.
    pub(crate) calm_ms_max: Option<f64>,
}

impl JudgeArgs {
    /// Why times are not judged, if they are not: a server that waits for the generator's CPU is late on its behalf.
    pub(crate) fn why_not(&self, server: &Server) -> Option<&'static str> {
        if self.unjudged {
            Some("as asked by --unjudged")
        } else {
            server.cpus.contains(&server.own_cpu).then_some("server and generator share a CPU")
        }
    }

    /// Says how much later others were served while something went on than while nothing did, by the medians of the
    /// rounds' p99s: in one of them the machine may have been elsewhere. Too much is a violation, and so is not knowing.
    pub(crate) fn judge(&self, report: &mut Report, server: &Server, rounds: &[Waits], bar: &Bar) {
        let verdict = match self.why_not(server) {
            Some(why) => Verdict::Undecided(why.to_owned()),
            None => bar.verdict(rounds),
        };
        if rounds.iter().all(|round| !round.calm.is_empty() && !round.shaken.is_empty()) {
            let remark = match &verdict {
                Verdict::Undecided(why) => format!("(not judged: {why})"),
                _ => format!("(hold {}, from {CALM_MS_MIN} ms)", bar.ratio_max),
            };
            let ratio = ratio(rounds);
            report.figure("p99_ratio", "others' p99, over that of a calm", ratio, "x", &remark);
        }
        let slowed = u64::from(verdict == Verdict::Slowed);
        report.violation("others_slowed", "others served too slowly meanwhile", slowed);
        if !self.unjudged {
            let (label, undecided) = match &verdict {
                Verdict::Undecided(why) => (format!("undecided whether they were: {why}"), 1),
                _ => ("undecided whether they were".to_owned(), 0),
            };
            report.violation("undecided", &label, undecided);
        }
    }
}

/// Whether others were served in time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Holds,
    Slowed,
    /// And why.
    Undecided(String),
}

impl Bar {
    /// Of a server and a generator with CPUs of their own.
    fn verdict(&self, rounds: &[Waits]) -> Verdict {
        let calm: u64 = rounds.iter().map(|round| round.calm.len()).sum();
        let shaken: u64 = rounds.iter().map(|round| round.shaken.len()).sum();
        let fewest = calm.min(shaken);
        if fewest < JUDGED_MIN {
            Verdict::Undecided(format!("{fewest} deliveries are fewer than {JUDGED_MIN}: run longer"))
        } else if self.calm_ms_max.is_some_and(|max| calm_ms(rounds) > max) {
            Verdict::Undecided("the machine is busy with other things".into())
        } else if ratio(rounds) > self.ratio_max {
            Verdict::Slowed
        } else {
            Verdict::Holds
        }
    }
}

fn ratio(rounds: &[Waits]) -> f64 {
    let shaken_ms: Vec<f64> = rounds.iter().map(|round| p99_ms(&round.shaken)).collect();
    median(&shaken_ms) / calm_ms(rounds).max(CALM_MS_MIN)
}

fn calm_ms(rounds: &[Waits]) -> f64 {
    median(&rounds.iter().map(|round| p99_ms(&round.calm)).collect::<Vec<_>>())
}

fn p99_ms(latency: &Histogram<u64>) -> f64 {
    latency.value_at_quantile(0.99) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts;

    const BAR: Bar = Bar { ratio_max: 2.0, calm_ms_max: Some(5.0) };

    fn served(count: u64, ms: f64) -> Histogram<u64> {
        let mut latency = facts::latencies();
        latency.record_n((ms * 1e6) as u64, count).unwrap();
        latency
    }

    fn verdict(bar: &Bar, calm: &Histogram<u64>, shaken: &Histogram<u64>) -> Verdict {
        bar.verdict(&[Waits { calm: calm.clone(), shaken: shaken.clone() }])
    }

    #[track_caller]
    fn undecided(bar: &Bar, calm: &Histogram<u64>, shaken: &Histogram<u64>, why: &str) {
        match verdict(bar, calm, shaken) {
            Verdict::Undecided(said) => assert!(said.contains(why), "{said}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn later_than_allowed_is_found_from_the_least_that_means_anything() {
        let enough = |ms| served(JUDGED_MIN, ms);
        assert_eq!(verdict(&BAR, &enough(3.0), &enough(5.9)), Verdict::Holds);
        assert_eq!(verdict(&BAR, &enough(3.0), &enough(6.1)), Verdict::Slowed);
        assert_eq!(verdict(&BAR, &enough(0.1), &enough(1.9)), Verdict::Holds, "twice a whole millisecond");
        assert_eq!(verdict(&BAR, &enough(0.1), &enough(2.1)), Verdict::Slowed);
        // One in a hundred decides.
        let mut shaken = served(9_850, 1.0);
        shaken.record_n(9_000_000, 150).unwrap();
        assert_eq!(verdict(&BAR, &enough(1.0), &shaken), Verdict::Slowed);
    }

    /// A flood under which nobody was served left nothing to judge, and passed.
    #[test]
    fn too_few_deliveries_decide_nothing() {
        let (enough, few) = (served(JUDGED_MIN, 1.0), served(JUDGED_MIN - 1, 1.0));
        undecided(&BAR, &enough, &served(0, 1.0), "0 deliveries");
        undecided(&BAR, &enough, &few, "4999 deliveries");
        undecided(&BAR, &few, &enough, "4999 deliveries");
    }

    /// Thousands of members that wait for each other have a long p99 of their own: it was taken for a busy machine.
    #[test]
    fn a_slow_calm_decides_nothing_unless_it_is_a_load() {
        let (calm, shaken) = (served(JUDGED_MIN, 40.0), served(JUDGED_MIN, 90.0));
        undecided(&BAR, &calm, &shaken, "busy");
        let loaded = Bar { calm_ms_max: None, ..BAR };
        assert_eq!(verdict(&loaded, &calm, &shaken), Verdict::Slowed);
        assert_eq!(verdict(&loaded, &calm, &calm), Verdict::Holds);
    }

    /// For some milliseconds the host ran something else: one round of three decided.
    #[test]
    fn most_rounds_decide() {
        let round =
            |calm, shaken| Waits { calm: served(JUDGED_MIN, calm), shaken: served(JUDGED_MIN, shaken) };
        let (good, bad) = (round(1.0, 1.5), round(1.0, 9.0));
        assert_eq!(BAR.verdict(&[good.clone(), bad.clone(), good.clone()]), Verdict::Holds);
        assert_eq!(BAR.verdict(&[bad.clone(), good.clone(), bad]), Verdict::Slowed);
        // A calm that was none excuses nothing.
        assert_eq!(BAR.verdict(&[good.clone(), round(9.0, 1.5), round(1.0, 9.0)]), Verdict::Holds);
        assert_eq!(BAR.verdict(&[round(9.0, 9.0), round(1.0, 9.0), good]), Verdict::Slowed);
    }
}
