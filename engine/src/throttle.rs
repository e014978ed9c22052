//! How many REST calls a second are taken: a token bucket for each core, which has its share of the rate. A bucket
//! holds one second's worth, so callers may be uneven within a second.

use ringhub_hub::CoreId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The buckets.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Calls a second for one core; 0: no bound.
    share: AtomicU64,
    /// One for each core, so nobody waits for a lock.
    buckets: Box<[Mutex<Bucket>]>,
}

#[derive(Debug)]
struct Bucket {
    calls: f64,
    filled: Instant,
}

impl Throttle {
    /// `rate` calls a second over all `cores`; 0 for no bound.
    pub(crate) fn new(cores: u16, rate: u64) -> Self {
        let now = Instant::now();
        // The first call finds it full.
        let buckets = (0..cores).map(|_| Mutex::new(Bucket { calls: f64::INFINITY, filled: now })).collect();
        let throttle = Self { share: AtomicU64::new(0), buckets };
        throttle.set_rate(rate);
        throttle
    }

    /// From now on so many calls a second.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.share.store(rate.div_ceil(self.buckets.len().max(1) as u64), Ordering::Relaxed);
    }

    /// Whether one more call is taken on this core now.
    pub(crate) fn admits(&self, core: CoreId, now: impl FnOnce() -> Instant) -> bool {
        let share = self.share.load(Ordering::Relaxed);
        if share == 0 {
            return true;
        }
        let Some(bucket) = self.buckets.get(usize::from(core.0)) else { return true };
        // Poisoned only by a panic, which ends the process.
        let mut bucket = bucket.lock().expect("no panic is survived here");
        let now = now();
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.calls = (bucket.calls + passed * share as f64).min(share as f64);
        bucket.filled = now;
        let admits = bucket.calls >= 1.0;
        if admits {
            bucket.calls -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_core_has_its_share_and_no_more() {
        let throttle = Throttle::new(2, 20);
        let start = Instant::now();
        let taken = |core, ms| {
            let at = start + Duration::from_millis(ms);
            (0..100).filter(|_| throttle.admits(CoreId(core), || at)).count()
        };
        assert_eq!((taken(0, 0), taken(0, 0), taken(1, 0)), (10, 0, 10));
        assert_eq!((taken(0, 500), taken(0, 550), taken(0, 600)), (5, 0, 1));
        assert_eq!(taken(0, 60_000), 10, "one second's worth, however long it was quiet");
        throttle.set_rate(2);
        assert_eq!((taken(1, 61_000), taken(1, 62_000)), (1, 1));
        throttle.set_rate(0);
        assert_eq!(taken(1, 62_000), 100);
    }
}
