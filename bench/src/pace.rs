//! When things happen: the schedule of an open loop, and the end of patience.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::ledger::Ledger;

/// Longest wait in one turn: what is due by the clock (acknowledgements, patience) is late by at most
/// this.
pub(crate) const TURN_MAX: Duration = Duration::from_millis(10);

/// Most messages of one round to a reliable member: with acknowledgements once a second, as SDKs make
/// them, a server that keeps 10,000 unacknowledged ones (design §2) may end the connection beyond.
pub(crate) const UNACKNOWLEDGED_MAX: u32 = 8_000;

/// How long after the last delivery a doubled message may still come.
pub(crate) const LATE_WAIT: Duration = Duration::from_millis(50);

/// An open loop: event k is due at `start + k / rate`, whatever has or has not happened.
pub(crate) struct Schedule {
    start_ns: u64,
    rate: f64,
    count: u32,
    next: u32,
    spin: bool,
}

impl Schedule {
    /// `count` events at `rate` a second, the first at once. With `spin` the last two milliseconds before
    /// an event are spent polling, for events on time to some µs; without, events wait for a whole
    /// millisecond and the CPU is free for a server that shares it. Either way latency counts from the
    /// scheduled time.
    pub(crate) fn new(start_ns: u64, rate: f64, count: u32, spin: bool) -> Self {
        Self { start_ns, rate, count, next: 0, spin }
    }

    /// Whether every event has been taken.
    pub(crate) fn is_over(&self) -> bool {
        self.next >= self.count
    }

    /// The next event that is due at `now_ns`, with the time it was due.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let (index, due_ns) = (self.next, self.due_ns());
        if self.is_over() || due_ns > now_ns {
            return None;
        }
        self.next += 1;
        Some((index, due_ns))
    }

    /// How long a turn may wait now.
    pub(crate) fn wait(&self, now_ns: u64) -> Duration {
        if self.is_over() {
            return TURN_MAX;
        }
        let wait = Duration::from_nanos(self.due_ns().saturating_sub(now_ns));
        match self.spin {
            // Waits end on whole milliseconds.
            true if wait < Duration::from_millis(2) => Duration::ZERO,
            true => TURN_MAX.min(wait / 2),
            false => wait.clamp(Duration::from_millis(1), TURN_MAX),
        }
    }

    fn due_ns(&self) -> u64 {
        self.start_ns + (f64::from(self.next) * 1e9 / self.rate) as u64
    }
}

/// Ends a round in which nothing arrives although something is due.
pub(crate) struct Stall {
    patience: Duration,
    progress: u64,
    last: Instant,
}

impl Stall {
    /// Begins now.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, progress: 0, last: Instant::now() }
    }

    /// # Errors
    /// The books show no delivery since `patience`, although one is outstanding.
    pub(crate) fn check(&mut self, ledger: &Ledger) -> Result<(), Error> {
        let outstanding = ledger.outstanding();
        let so_far = ledger.deliveries() + ledger.aside_deliveries();
        self.check_that(so_far, outstanding > 0, || format!("{outstanding} deliveries are outstanding"))
    }

    /// # Errors
    /// `progress` has stood still since `patience` while something was `due`; `what` says what.
    pub(crate) fn check_that(
        &mut self,
        progress: u64,
        due: bool,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if progress != self.progress || !due {
            self.progress = progress;
            self.last = Instant::now();
        } else if self.last.elapsed() > self.patience {
            return Err(Error::Stalled(what()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_by_the_clock_and_none_is_left_out() {
        let mut schedule = Schedule::new(1_000, 1_000.0, 3, false);
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1_000), Some((0, 1_000)));
        assert_eq!((schedule.take(1_000), schedule.wait(1_000)), (None, Duration::from_millis(1)));
        assert_eq!(schedule.take(9_000_000), Some((1, 1_001_000)));
        assert!(!schedule.is_over());
        assert_eq!(schedule.take(9_000_000), Some((2, 2_001_000)));
        assert_eq!((schedule.take(9_000_000), schedule.wait(0)), (None, TURN_MAX));
        assert!(schedule.is_over());
    }

    #[test]
    fn waits_spin_only_when_asked() {
        let slow = |spin| Schedule::new(0, 1.0, 1, spin);
        assert_eq!(slow(true).wait(0), Duration::ZERO);
        assert_eq!(slow(false).wait(0), Duration::from_millis(1));
        let mut later = slow(true);
        later.start_ns = 6_000_000;
        assert_eq!(later.wait(0), Duration::from_millis(3));
    }

    #[test]
    fn patience_ends_only_while_something_is_due() {
        let mut stall = Stall::new(Duration::ZERO);
        let passed = |stall: &mut Stall, progress, due| {
            let before = Instant::now();
            while before.elapsed().is_zero() {}
            stall.check_that(progress, due, || "what".into()).is_ok()
        };
        assert!(passed(&mut stall, 0, false));
        assert!(passed(&mut stall, 1, true));
        assert!(!passed(&mut stall, 1, true));
    }
}
