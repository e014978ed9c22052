//! One deadline per socket, coarse, without a timer per socket: a dense array that is scanned when the
//! earliest may be due. Setting one costs a store; a scan of 10,000 sockets reads 40 KB.

use ringhub_hub::Time;

/// Resolution, in milliseconds.
const TICK_MS: u64 = 100;
/// Scans are at least this many ticks apart, so that many sockets with spread deadlines cost few scans.
const SCAN_TICKS: u32 = 5;
const NEVER: u32 = u32::MAX;

/// Deadlines by socket slot.
#[derive(Debug)]
pub(crate) struct Deadlines {
    ticks: Vec<u32>,
    /// No deadline is before this tick.
    earliest: u32,
    scanned: u32,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { ticks: Vec::new(), earliest: NEVER, scanned: 0 }
    }
}

fn tick(time: Time) -> u32 {
    // A process that runs for thirteen years sees its deadlines stop moving, not fire early.
    u32::try_from(time.0.div_ceil(TICK_MS)).unwrap_or(NEVER - 1).min(NEVER - 1)
}

impl Deadlines {
    /// Sets the deadline of `slot`; the one before is void.
    pub(crate) fn set(&mut self, slot: u32, at: Time) {
        let slot = slot as usize;
        if slot >= self.ticks.len() {
            self.ticks.resize(slot + 1, NEVER);
        }
        let at = tick(at);
        self.ticks[slot] = at;
        self.earliest = self.earliest.min(at);
    }

    /// Removes the deadline of `slot`.
    pub(crate) fn clear(&mut self, slot: u32) {
        if let Some(at) = self.ticks.get_mut(slot as usize) {
            *at = NEVER;
        }
    }

    /// When [`Deadlines::expire`] should be called next.
    pub(crate) fn next(&self) -> Option<Time> {
        (self.earliest != NEVER)
            .then(|| Time(u64::from(self.earliest.max(self.scanned.saturating_add(SCAN_TICKS))) * TICK_MS))
    }

    /// Moves the slots whose deadline has passed to `due`, clearing it.
    pub(crate) fn expire(&mut self, now: Time, due: &mut Vec<u32>) {
        if self.next().is_none_or(|next| now < next) {
            return;
        }
        let now = (now.0 / TICK_MS) as u32;
        self.scanned = now;
        self.earliest = NEVER;
        for (slot, at) in self.ticks.iter_mut().enumerate() {
            if *at <= now {
                *at = NEVER;
                due.push(slot as u32);
            } else if *at < self.earliest {
                self.earliest = *at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(deadlines: &mut Deadlines, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        deadlines.expire(Time(now), &mut due);
        due
    }

    #[test]
    fn a_deadline_fires_once_and_not_early() {
        let mut deadlines = Deadlines::default();
        deadlines.set(3, Time(10_050));
        assert!(due(&mut deadlines, 10_050).is_empty());
        assert_eq!(deadlines.next(), Some(Time(10_100)));
        assert_eq!(due(&mut deadlines, 10_100), [3]);
        assert_eq!((due(&mut deadlines, 99_000), deadlines.next()), (vec![], None));
    }

    #[test]
    fn a_moved_or_cleared_deadline_is_void() {
        let mut deadlines = Deadlines::default();
        deadlines.set(0, Time(1_000));
        deadlines.set(1, Time(1_000));
        deadlines.set(0, Time(5_000));
        deadlines.clear(1);
        assert!(due(&mut deadlines, 2_000).is_empty());
        assert_eq!(due(&mut deadlines, 5_000), [0]);
    }

    #[test]
    fn scans_are_spaced() {
        let mut deadlines = Deadlines::default();
        for slot in 0..10 {
            deadlines.set(slot, Time(1_000 + 100 * u64::from(slot)));
        }
        assert_eq!(due(&mut deadlines, 1_000), [0]);
        assert_eq!(deadlines.next(), Some(Time(1_500)));
        assert!(due(&mut deadlines, 1_400).is_empty());
        assert_eq!(due(&mut deadlines, 1_500), [1, 2, 3, 4, 5]);
    }
}
