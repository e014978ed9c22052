//! What a core does when the process is short of memory ([`crate::memory`]): it publishes no faster than it must, and
//! closes the clients for which most waits.
//!
//! A look costs a walk over the core's sockets and sessions, twice a second at most and only while memory is short.
//! What must stay true: a client for which little waits is not closed, however short memory is.

use crate::core::socket::{Kind, Socket};
use crate::core::turn::Core;
use ringhub_hub::{ConnectionKey, Input, SocketKey};

/// Closing a client for which less waits would free next to nothing.
const SHED_BYTES_MIN: usize = 64 << 10;

/// Something that waits, in bytes, and whose it is: the number of its hub, and the connection.
type Waiting = (usize, u32, ConnectionKey);

impl Core {
    /// Does what the last look at memory asks for, once.
    pub(crate) fn heed_pressure(&mut self) {
        let look = self.io.shared.pressure.look();
        if look == self.pressure_look {
            return;
        }
        self.pressure_look = look;
        for slot in &mut self.hubs.slots {
            slot.hub.set_short_of_memory(look > 0);
        }
        for key in std::mem::take(&mut self.slowed) {
            if let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key) {
                client.slowed = false;
                self.resume.push_back(key);
            }
        }
        let waiting = if look > 0 { self.waiting() } else { Vec::new() };
        let all: usize = waiting.iter().map(|(bytes, ..)| bytes).sum();
        self.io.shared.counters.queued_bytes.set(all as u64);
        for (hub, connection) in heaviest(waiting, self.io.shared.pressure.relief_bytes()) {
            self.io.shared.counters.clients_shed.add(1);
            self.feed(hub, Input::Shed(connection));
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

    /// Everything that waits for clients, or to be taken from them.
    fn waiting(&self) -> Vec<Waiting> {
        let sockets = self.io.sockets.iter().filter_map(|socket| {
            let Kind::Client(client) = &socket.kind else { return None };
            let unsent = socket.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
            let untaken = socket.unread.as_ref().map_or(0, |unread| unread.len());
            let bytes = unsent + untaken + client.decoder.held_bytes();
            (bytes > 0).then_some((bytes, client.hub, client.connection))
        });
        let logs = (0..).zip(&self.hubs.slots).flat_map(|(hub, slot)| {
            slot.hub.kept_bytes().map(move |(connection, bytes)| (bytes, hub, connection))
        });
        sockets.chain(logs).collect()
    }
}

/// Whom to close so that so many bytes are free, if that is enough: those for whom most waits.
fn heaviest(mut waiting: Vec<Waiting>, mut relief_bytes: u64) -> impl Iterator<Item = (u32, ConnectionKey)> {
    waiting
        .sort_unstable_by_key(|(bytes, hub, connection)| (std::cmp::Reverse(*bytes), *hub, connection.slot));
    let enough = move |(bytes, ..): &Waiting| {
        let goes = relief_bytes > 0 && *bytes >= SHED_BYTES_MIN;
        relief_bytes = relief_bytes.saturating_sub(*bytes as u64);
        goes
    };
    waiting.into_iter().take_while(enough).map(|(_, hub, connection)| (hub, connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_go_first_and_no_more_than_needed() {
        let waiting = |bytes: usize, slot| (bytes, 0, ConnectionKey { slot, generation: 1 });
        let all = vec![
            waiting(SHED_BYTES_MIN, 1),
            waiting(1 << 20, 2),
            waiting(3 << 20, 3),
            waiting(SHED_BYTES_MIN - 1, 4),
            waiting(1 << 20, 5),
        ];
        let of = |relief| heaviest(all.clone(), relief).map(|(_, key)| key.slot).collect::<Vec<_>>();
        assert_eq!(of(0), [] as [u32; 0]);
        assert_eq!(of(1), [3]);
        assert_eq!(of(3 << 20), [3]);
        assert_eq!(of((3 << 20) + 1), [3, 2]);
        assert_eq!(of(u64::MAX), [3, 2, 5, 1], "who has little waiting stays");
    }
}
