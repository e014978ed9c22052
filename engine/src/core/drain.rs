//! Closing a core's clients over a window, so that they do not all come back at once.
//!
//! Clients are closed in the order of their slots, each in its own equal part of the window, at a point in it that a
//! seed decides. The slots are walked by a cursor, so many a turn: nobody looks at all sockets at once. Who cannot go
//! without losing something is passed over and met again on the next round. What must stay true: a core that drains
//! takes no new clients, but sessions may be recovered, for what they keep is to be had here only; whoever is left
//! when the window is over is closed by the stop.

use crate::core::socket::Kind;
use crate::core::turn::Core;
use ringhub_hub::{Input, Time, Transport};

/// Slots looked at in one turn.
pub(super) const LOOKS_MAX: usize = 1024;
/// Time between two rounds over the slots, and between two looks whether sessions are awaited, in milliseconds.
pub(super) const ROUND_MS: u64 = 100;
/// Longest time between two closes, in microseconds: a few clients are not kept waiting for the sake of a pace that
/// only many need.
const GAP_MAX_US: u64 = 100_000;

/// How far a core's drain is.
pub(crate) struct Drain {
    pace: Pace,
    /// Clients closed so far.
    closed: u64,
    /// The slot to look at next.
    cursor: usize,
    /// The next round begins then.
    round_at: Time,
}

/// When whose turn is.
#[derive(Debug, Clone, Copy)]
struct Pace {
    began: Time,
    gap_us: u64,
    seed: u64,
}

impl Pace {
    fn new(began: Time, clients: u64, window_ms: u64, seed: u64) -> Self {
        Self { began, gap_us: (window_ms * 1000 / clients.max(1)).min(GAP_MAX_US), seed }
    }

    /// When the client with this number is closed: somewhere in its own part of the window.
    fn at(&self, number: u64) -> Time {
        let chance = (self.seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        self.began.after_ms((number * self.gap_us + self.gap_us * chance / 256) / 1000)
    }
}

impl Drain {
    /// When there is something to do next.
    pub(crate) fn next(&self) -> Time {
        self.pace.at(self.closed).max(self.round_at)
    }
}

impl Core {
    /// Begins to close clients.
    pub(crate) fn begin_drain(&mut self) {
        let clients = self.io.shared.counters.websockets.get();
        let window_ms = self.settings.drain.as_millis() as u64;
        let pace = Pace::new(self.now, clients, window_ms, self.hash_seed);
        self.drain = Some(Drain { pace, closed: 0, cursor: 0, round_at: self.now });
        self.look_who_is_awaited();
    }

    /// Whether new clients are turned away because the server is on its way down.
    pub(crate) fn is_leaving(&self) -> bool {
        self.drain.is_some() || self.is_stopping()
    }

    /// Closes the clients whose turn has come.
    pub(crate) fn go_on_draining(&mut self) {
        let Some(mut drain) = self.drain.take() else { return };
        for _ in 0..LOOKS_MAX {
            if drain.next() > self.now {
                break;
            }
            if drain.cursor >= self.io.sockets.hot.len() {
                drain.cursor = 0;
                drain.round_at = self.now.after_ms(ROUND_MS);
                self.look_who_is_awaited();
                break;
            }
            let slot = drain.cursor as u32;
            drain.cursor += 1;
            drain.closed += u64::from(self.close_drained(slot));
        }
        self.drain = Some(drain);
    }

    /// Closes the client in this slot, if there is one that can go.
    fn close_drained(&mut self, slot: u32) -> bool {
        let key = self.io.sockets.key(slot);
        let is_slow = self.io.is_slow(key);
        let Some(socket) = self.io.sockets.get(key) else { return false };
        let Kind::Client(client) = &socket.kind else { return false };
        let from = Transport { connection: client.connection, socket: key };
        let hub = client.hub;
        // What it has said is still to be heard, or what it was sent is still to be taken: by its socket, or from its
        // session. A goodbye behind that would be cut by its deadline, however long the window is.
        let is_behind = is_slow
            || socket.outbox.is_some()
            || self.hubs.slots[hub as usize].hub.is_behind(client.connection);
        if socket.unread.is_some() || is_behind {
            return false;
        }
        self.feed(hub, Input::Drain(from));
        true
    }

    /// Once every client is gone there may be sessions that are worth waiting for.
    fn look_who_is_awaited(&self) {
        let is_empty = self.io.shared.counters.websockets.get() == 0;
        let is_drained = is_empty && !self.hubs.slots.iter().any(|slot| slot.hub.is_awaited(self.now));
        self.io.shared.drained.set(u64::from(is_drained));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_spread_over_the_window_and_no_two_seeds_alike() {
        let pace = Pace::new(Time(1_000), 500, 10_000, 7);
        let times: Vec<u64> = (0..500).map(|number| pace.at(number).0).collect();
        assert!(times.is_sorted());
        for (number, &at) in (0..).zip(&times) {
            assert!((1_000 + number * 20..1_020 + number * 20).contains(&at), "{number}: {at}");
        }
        let other = Pace::new(Time(1_000), 500, 10_000, 8);
        assert!((0..500).any(|number| other.at(number).0 != times[number as usize]));
        let chances: std::collections::HashSet<u64> =
            (0..).zip(&times).map(|(n, at)| at - 1_000 - n * 20).collect();
        assert!(chances.len() > 10, "{chances:?}");
    }

    #[test]
    fn few_clients_do_not_wait_and_nobody_waits_in_no_window() {
        let few = Pace::new(Time(0), 3, 60_000, 7);
        assert!(few.at(2) < Time(300));
        let none = Pace::new(Time(5), 100_000, 0, 7);
        assert_eq!((none.at(0), none.at(99_999)), (Time(5), Time(5)));
        assert!(Pace::new(Time(0), 0, 1_000, 7).at(0) < Time(100));
    }
}
