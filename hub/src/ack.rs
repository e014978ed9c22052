//! The ack ids that succeeded lately, so that a repeated request is not carried out twice
//! (`client-protocols` §5).
//!
//! Kept as intervals in order of arrival: a client that counts upwards costs one interval, an idle one
//! nothing. The window forgets first in, first out, exactly as a queue of single ids would.

use std::collections::VecDeque;

/// The last successful ack ids of one connection.
#[derive(Debug, Default)]
pub(crate) struct AckWindow {
    /// Inclusive, oldest first; an id is in at most one.
    intervals: VecDeque<(u64, u64)>,
    count: u32,
}

impl AckWindow {
    /// Whether `id` is among them.
    pub(crate) fn contains(&self, id: u64) -> bool {
        // The newest interval is the likely one.
        self.intervals.iter().rev().any(|(first, last)| (*first..=*last).contains(&id))
    }

    /// Adds `id`, which must not be in the window, and forgets the oldest beyond `max`.
    pub(crate) fn insert(&mut self, id: u64, max: u32) {
        debug_assert!(!self.contains(id));
        match self.intervals.back_mut() {
            Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
            _ => self.intervals.push_back((id, id)),
        }
        self.count += 1;
        while self.count > max {
            let oldest = self.intervals.front_mut().expect("count is the intervals' sum");
            if oldest.0 == oldest.1 {
                self.intervals.pop_front();
            } else {
                oldest.0 += 1;
            }
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_queue_of_single_ids(ids in prop::collection::vec(prop_oneof![0u64..40, Just(u64::MAX), Just(u64::MAX - 1)], 0..200)) {
            let (mut window, mut oracle) = (AckWindow::default(), VecDeque::new());
            for id in ids {
                prop_assert_eq!(window.contains(id), oracle.contains(&id));
                if !oracle.contains(&id) {
                    window.insert(id, 7);
                    oracle.push_back(id);
                    if oracle.len() > 7 {
                        oracle.pop_front();
                    }
                }
            }
        }
    }

    #[test]
    fn counting_upwards_costs_one_interval() {
        let mut window = AckWindow::default();
        (1..5_000).for_each(|id| window.insert(id, 1_000));
        assert_eq!(window.intervals.len(), 1);
        assert!(!window.contains(3_999) && window.contains(4_000) && window.contains(4_999));
    }
}
