//! How many events of one handler are on their way, and how many wait (`event-handlers` §10).
//!
//! What must stay true: no more requests at a time than there are places; no event waits that was not counted
//! against the bounds; whoever got in leaves, whatever becomes of it. An event that waits for another attempt gives
//! its place back and counts as waiting, without being judged again, so there are never more than places and bound
//! together. Only events that must not be lost wait over the bounds, counted as all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// The way into one handler. All counting is done on the relay's thread; others read it.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Semaphore,
    places_max: usize,
    waiting_max: usize,
    waiting_bytes_max: usize,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
}

/// An event that got in: in a place or waiting. Dropping it leaves.
#[derive(Debug)]
pub(crate) struct Inside {
    gate: Arc<Gate>,
    bytes: usize,
    has_place: bool,
}

impl Gate {
    pub(crate) fn new(places: usize, waiting_max: usize, waiting_bytes_max: usize) -> Arc<Self> {
        let places_max = places.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            places: Semaphore::new(places_max),
            places_max,
            waiting_max,
            waiting_bytes_max,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
        })
    }

    /// Lets an event in that takes so many bytes: into a place if it `may_go` and there is one, else to wait.
    /// `None` if too many wait.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize, may_go: bool) -> Option<Inside> {
        let fits =
            self.waiting() < self.waiting_max && self.waiting_bytes() + bytes <= self.waiting_bytes_max;
        let inside = self.enter_always(bytes, may_go);
        // One that does not fit is dropped, and so leaves.
        (fits || inside.has_place).then_some(inside)
    }

    /// Lets an event in that waits however many others do.
    pub(crate) fn enter_always(self: &Arc<Self>, bytes: usize, may_go: bool) -> Inside {
        let mut inside = Inside { gate: self.clone(), bytes, has_place: true };
        if may_go && let Ok(place) = self.places.try_acquire() {
            place.forget();
            return inside;
        }
        inside.has_place = false;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        inside
    }

    /// Events in a place.
    pub(crate) fn in_flight(&self) -> usize {
        self.places_max - self.places.available_permits()
    }

    /// Events that wait, for a place or for another attempt.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Their bytes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }
}

impl Inside {
    /// Whether it is in a place.
    pub(crate) fn has_place(&self) -> bool {
        self.has_place
    }

    /// Waits for a place; in the order of asking.
    pub(crate) async fn take_place(&mut self) {
        if !self.has_place {
            self.gate.places.acquire().await.expect("it is never closed").forget();
            self.stop_waiting();
            self.has_place = true;
        }
    }

    /// Gives the place back, and waits.
    pub(crate) fn give_back(&mut self) {
        if self.has_place {
            self.has_place = false;
            self.gate.places.add_permits(1);
            self.gate.waiting.fetch_add(1, Ordering::Relaxed);
            self.gate.waiting_bytes.fetch_add(self.bytes, Ordering::Relaxed);
        }
    }

    fn stop_waiting(&self) {
        self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
        self.gate.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.has_place {
            self.gate.places.add_permits(1);
        } else {
            self.stop_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    fn counts(gate: &Gate) -> [usize; 3] {
        [gate.in_flight(), gate.waiting(), gate.waiting_bytes()]
    }

    #[test]
    fn places_then_a_queue_bounded_by_events_and_bytes() {
        let gate = Gate::new(1, 2, 100);
        let first = gate.enter(1000, true).expect("a place has no bound of bytes");
        let second = gate.enter(60, true).expect("room to wait");
        assert_eq!(counts(&gate), [1, 1, 60]);
        assert!(gate.enter(41, true).is_none(), "too many bytes");
        let third = gate.enter(40, true).expect("just enough");
        assert!(gate.enter(0, true).is_none(), "too many events");
        assert_eq!(counts(&gate), [1, 2, 100]);
        let always = gate.enter_always(50, true);
        assert_eq!(counts(&gate), [1, 3, 150]);
        drop(always);
        assert_eq!(counts(&gate), [1, 2, 100]);
        drop(third);
        drop(first);
        assert_eq!(counts(&gate), [0, 1, 60]);
        let waits = gate.enter(1, false).expect("room to wait");
        assert!(!waits.has_place() && !second.has_place());
        drop((waits, second));
        assert_eq!(counts(&gate), [0, 0, 0]);
    }

    #[test]
    fn a_place_goes_to_who_waited_longest_and_one_given_back_is_waited_for_again() {
        let gate = Gate::new(1, 2, 100);
        let mut first = gate.enter(10, true).unwrap();
        let mut second = gate.enter(20, true).unwrap();
        runtime().block_on(async {
            first.give_back();
            first.give_back();
            assert_eq!(counts(&gate), [0, 2, 30]);
            second.take_place().await;
            second.take_place().await;
            assert_eq!(counts(&gate), [1, 1, 10]);
            let mut waits = Box::pin(first.take_place());
            let late = tokio::time::timeout(std::time::Duration::ZERO, &mut waits).await;
            assert!(late.is_err(), "there is no place");
            drop(second);
            waits.await;
        });
        assert_eq!(counts(&gate), [1, 0, 0]);
        drop(first);
        assert_eq!(counts(&gate), [0, 0, 0]);
    }
}
