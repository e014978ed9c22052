//! In which order the events of one connection leave (`event-handlers` §4.2, §4.7).
//!
//! Each event takes a [`Turn`](crate::memory::Turn) when it comes and gives it up when its request has been handed to an HTTP
//! connection, or will not be for now: it failed, or waits for another attempt. It may be sent when all turns
//! taken before it are given up. So events leave in the order in which they came, and none waits for another's
//! answer.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

/// The turns of one connection. Numbers count up from 0.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The number of the first in `turns`.
    first: u64,
    turns: VecDeque<Slot>,
}

#[derive(Debug)]
enum Slot {
    Taken,
    /// Taken, and somebody waits for it to be the first.
    Awaited(Waker),
    GivenUp,
}

/// More room than this is not kept for a connection that has no turn open.
const ROOM_KEPT: usize = 8;

impl Order {
    /// Takes the next turn.
    pub(crate) fn take(&mut self) -> u64 {
        self.turns.push_back(Slot::Taken);
        self.first + self.turns.len() as u64 - 1
    }

    /// Whether all before it are given up.
    pub(crate) fn is_first(&self, turn: u64) -> bool {
        turn == self.first
    }

    /// Ready once [`Order::is_first`]; wakes who polled last.
    pub(crate) fn poll_first(&mut self, turn: u64, waker: &Waker) -> Poll<()> {
        if self.is_first(turn) {
            return Poll::Ready(());
        }
        *self.slot(turn) = Slot::Awaited(waker.clone());
        Poll::Pending
    }

    /// Gives one up, once. Who is woken may go.
    #[must_use]
    pub(crate) fn give_up(&mut self, turn: u64) -> Option<Waker> {
        *self.slot(turn) = Slot::GivenUp;
        if !self.is_first(turn) {
            // What fails at once behind one that waits leaves nothing: only turns that are taken need room.
            while let Some(Slot::GivenUp) = self.turns.back() {
                self.turns.pop_back();
            }
            return None;
        }
        while let Some(Slot::GivenUp) = self.turns.front() {
            self.turns.pop_front();
            self.first += 1;
        }
        match self.turns.front_mut() {
            Some(slot @ Slot::Awaited(_)) => match std::mem::replace(slot, Slot::Taken) {
                Slot::Awaited(waker) => Some(waker),
                Slot::Taken | Slot::GivenUp => None,
            },
            Some(_) => None,
            None => {
                self.turns.shrink_to(ROOM_KEPT);
                None
            }
        }
    }

    fn slot(&mut self, turn: u64) -> &mut Slot {
        &mut self.turns[(turn - self.first) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_may_go_and_the_next_is_woken() {
        let mut order = Order::default();
        let [a, b, c, d] = [(); 4].map(|()| order.take());
        assert!(order.poll_first(a, Waker::noop()).is_ready());
        assert!(order.poll_first(c, Waker::noop()).is_pending());
        assert!(order.give_up(b).is_none(), "it is not the first: nobody may go because of it");
        assert!(!order.is_first(c));
        assert!(order.give_up(a).is_some());
        assert!(order.is_first(c) && !order.is_first(d));
        assert!(order.give_up(c).is_none(), "nobody waits for d");
        assert!(order.give_up(d).is_none());
        let e = order.take();
        assert!(order.is_first(e));
    }

    #[test]
    fn a_burst_leaves_no_room_behind() {
        let mut order = Order::default();
        let turns: Vec<u64> = (0..10_000).map(|_| order.take()).collect();
        for turn in turns.into_iter().rev() {
            let _ = order.give_up(turn);
        }
        assert!(order.turns.is_empty() && order.turns.capacity() <= 2 * ROOM_KEPT);
    }

    /// Events that only listeners hear, or that fail at once, are counted by nothing else.
    #[test]
    fn what_is_over_at_once_needs_no_room_behind_one_that_waits() {
        let mut order = Order::default();
        let waits = order.take();
        for _ in 0..10_000 {
            let over = order.take();
            assert!(order.give_up(over).is_none());
        }
        assert_eq!(order.turns.len(), 1);
        let next = order.take();
        assert!(order.poll_first(next, Waker::noop()).is_pending());
        assert!(order.give_up(waits).is_some() && order.is_first(next));
    }
}
