//! So that what goes wrong for every event does not flood the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// At least this long between two records of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets the first record pass, and then one in each [`PAUSE`].
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Whether a record may pass now; how many did not since the last that did.
    pub(crate) fn admits(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now < last + PAUSE) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_and_then_one_a_second_that_counts_the_others() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let admitted: Vec<Option<u64>> =
            [0, 1, 999, 1000, 1500, 5000].map(|ms| seldom.admits(start + Duration::from_millis(ms))).into();
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
