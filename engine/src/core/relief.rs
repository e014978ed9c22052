//! What a core does when memory is short ([`crate::memory`]), the process's or the core's share of it: clients publish
//! no faster than they must, and those for which most waits are closed.
//!
//! A look costs a walk over the core's sockets and sessions, twice a second at most and only while so much memory is
//! used that the core may hold too much. What must stay true: as long as anybody holds much, nobody who holds little
//! is closed; and nobody is closed who holds next to nothing, or while all who wait hold so little together that
//! memory must be short for another reason.

use crate::core::socket::{Kind, Socket};
use crate::core::turn::Core;
use crate::memory::give_back;
use ringhub_hub::{CloseHow, ConnectionKey, Input, SocketKey};
use std::cmp::Reverse;

/// What is much: while anybody holds so many bytes, nobody who holds less is closed.
const SHED_BYTES_MIN: usize = 64 << 10;
/// What is next to nothing: a connection costs as much while nothing waits.
const SHED_BYTES_FLOOR: usize = 1 << 10;
/// Many who hold little are closed only if they hold at least one part in so many of what is to be freed.
const SMALL_PART: u64 = 4;

/// Who holds something that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// A connection of the hub with this number, with a socket or without: what waits for it, is kept for replay, or
    /// came of a message that is not whole.
    Client(u32, u32, u32),
    /// A socket by slot and generation: the part of a request that came.
    Request(u32, u32),
}

/// What somebody holds, in bytes.
type Waiting = (Holder, usize);

impl Core {
    /// Does what the last look at memory asks for, once.
    pub(crate) fn heed_pressure(&mut self) {
        let look = self.io.shared.pressure.look();
        if look == self.pressure_look {
            return;
        }
        self.pressure_look = look;
        self.short_of_memory = self.io.shared.pressure.is_on();
        self.io.shared.counters.core_memory_short.set(u64::from(self.short_of_memory));
        for slot in &mut self.hubs.slots {
            slot.hub.set_short_of_memory(self.short_of_memory);
        }
        for key in std::mem::take(&mut self.slowed) {
            if let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key) {
                client.slowed = false;
                self.resume.push_back(key);
            }
        }
        if self.short_of_memory {
            // What the last look freed.
            give_back();
        }
        let waiting = if look > 0 { self.waiting() } else { Vec::new() };
        let all: usize = waiting.iter().map(|(_, bytes)| bytes).sum();
        self.io.shared.counters.queued_bytes.set(all as u64);
        for holder in heaviest(waiting, self.io.shared.pressure.relief_bytes()) {
            match holder {
                Holder::Client(hub, slot, generation) => {
                    self.io.shared.counters.clients_shed.add(1);
                    self.shed(hub, ConnectionKey { slot, generation });
                }
                Holder::Request(slot, generation) => {
                    self.io.shared.counters.requests_shed.add(1);
                    self.give_up_request(SocketKey { slot, generation });
                }
            }
        }
    }

    /// Ends a client. Of one that does not take what it is sent all is dropped at once; one that does is told why, and
    /// only what it has said in part is dropped.
    fn shed(&mut self, hub: u32, connection: ConnectionKey) {
        let decided = self.closing.len();
        self.feed(hub, Input::Shed(connection));
        // Without a socket there is nobody to close.
        if let Some(&mut (key, ref mut how)) = self.closing.get_mut(decided)
            && !self.io.is_slow(key)
        {
            *how = CloseHow::Handshake;
            self.hear_no_more(key);
        }
    }

    /// Reads nothing more from a client until the next look.
    pub(crate) fn slow_down(&mut self, key: SocketKey) {
        if let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key)
            && !client.slowed
        {
            client.slowed = true;
            self.holding = true;
            self.slowed.push(key);
        }
    }

    /// Everything that waits for clients, or to be taken from peers, each holder once.
    fn waiting(&self) -> Vec<Waiting> {
        let client = |hub, of: ConnectionKey| Holder::Client(hub, of.slot, of.generation);
        let sockets = self.io.sockets.entries().filter_map(|(key, socket)| {
            let unsent = socket.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
            let untaken = socket.unread.as_ref().map_or(0, |unread| unread.held_bytes());
            match &socket.kind {
                Kind::Client(of) => {
                    let bytes = unsent + untaken + of.decoder.held_bytes();
                    Some((client(of.hub, of.connection), bytes))
                }
                Kind::Head => Some((Holder::Request(key.slot, key.generation), untaken)),
                Kind::Http(http) if http.awaits_peer() => {
                    Some((Holder::Request(key.slot, key.generation), http.handler.held_bytes()))
                }
                // What else waits does so for a short time, and is bounded for each.
                _ => None,
            }
        });
        let logs = (0..).zip(&self.hubs.slots).flat_map(|(hub, slot)| {
            slot.hub.kept_bytes().map(move |(connection, bytes)| (client(hub, connection), bytes))
        });
        merged(sockets.chain(logs).filter(|(_, bytes)| *bytes > 0).collect())
    }
}

/// Each holder once: a reliable client has a socket and a log.
fn merged(mut waiting: Vec<Waiting>) -> Vec<Waiting> {
    waiting.sort_unstable_by_key(|(holder, _)| *holder);
    waiting.dedup_by(|(holder, bytes), (before, sum)| {
        let is_same = holder == before;
        *sum += if is_same { *bytes } else { 0 };
        is_same
    });
    waiting
}

/// Whom to end so that so many bytes are free, if that is enough: those who hold most.
fn heaviest(mut waiting: Vec<Waiting>, mut relief_bytes: u64) -> impl Iterator<Item = Holder> {
    waiting.sort_unstable_by_key(|(holder, bytes)| (Reverse(*bytes), *holder));
    let all: usize = waiting.iter().map(|(_, bytes)| bytes).sum();
    let bytes_min = match waiting.first() {
        Some((_, most)) if *most >= SHED_BYTES_MIN => SHED_BYTES_MIN,
        _ if all as u64 >= relief_bytes / SMALL_PART => SHED_BYTES_FLOOR,
        _ => usize::MAX,
    };
    let enough = move |(_, bytes): &Waiting| {
        let goes = relief_bytes > 0 && *bytes >= bytes_min;
        relief_bytes = relief_bytes.saturating_sub(*bytes as u64);
        goes
    };
    waiting.into_iter().take_while(enough).map(|(holder, _)| holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32, bytes: usize) -> Waiting {
        (Holder::Client(0, slot, 1), bytes)
    }

    fn of(all: &[Waiting], relief: u64) -> Vec<u32> {
        let slot = |holder| match holder {
            Holder::Client(_, slot, _) | Holder::Request(slot, _) => slot,
        };
        heaviest(all.to_vec(), relief).map(slot).collect()
    }

    #[test]
    fn the_worst_go_first_and_no_more_than_needed() {
        let all = [
            client(1, SHED_BYTES_MIN),
            client(2, 1 << 20),
            (Holder::Request(3, 1), 3 << 20),
            client(4, SHED_BYTES_MIN - 1),
            client(5, 1 << 20),
        ];
        assert_eq!(of(&all, 0), [] as [u32; 0]);
        assert_eq!(of(&all, 1), [3]);
        assert_eq!(of(&all, 3 << 20), [3]);
        assert_eq!(of(&all, (3 << 20) + 1), [3, 2]);
        assert_eq!(of(&all, u64::MAX), [3, 2, 5, 1], "who holds little stays while others hold much");
    }

    /// Two thousand who held 60 KiB each were never closed, and carried the process over its bound.
    #[test]
    fn many_who_hold_little_go_once_nobody_holds_much() {
        let all: Vec<Waiting> = (0..2_000).map(|slot| client(slot, 60 << 10)).collect();
        assert_eq!(of(&all, 0), [] as [u32; 0]);
        assert_eq!(of(&all, (60 << 10) + 1), [0, 1]);
        assert_eq!(of(&all, u64::MAX).len(), 0, "this is not why memory is short");
        assert_eq!(of(&all, SMALL_PART * 2_000 * (60 << 10)).len(), 2_000);
        let few = [client(1, SHED_BYTES_FLOOR), client(2, SHED_BYTES_FLOOR - 1), client(3, 9_000)];
        assert_eq!(of(&few, 20_000), [3, 1], "who holds next to nothing stays");
    }

    /// A reliable client stood there twice: it was closed and counted twice, and half of what it held was little.
    #[test]
    fn who_has_a_socket_and_a_log_holds_both() {
        let other = (Holder::Client(1, 7, 1), 5);
        let merged = merged(vec![client(7, 40 << 10), other, client(8, 3), client(7, 40 << 10)]);
        assert_eq!(merged, [client(7, 80 << 10), client(8, 3), other]);
        assert_eq!(of(&merged, 1), [7]);
    }
}
