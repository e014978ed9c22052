//! Connections that may last only so long.
//!
//! All of a hub's connections may last equally long, so they stand in the order they were opened and only the
//! first needs a look. Those that ended meanwhile are left in place and passed over; when they are more than half,
//! they are swept out, so the queue is never much longer than there are connections.

use crate::effect::CloseCategory;
use crate::hub::Hub;
use crate::lifecycle::Ending;
use crate::{ConnectionKey, Effects, Time};
use ringhub_protocol::ws::CloseCode;

/// A queue this short is not swept.
const SHORT: usize = 64;

impl Hub {
    /// A connection was opened.
    pub(crate) fn begin_aging(&mut self, now: Time, key: ConnectionKey) {
        if self.limits.lifetime_ms == 0 {
            return;
        }
        if self.aging.len() >= SHORT.max(2 * self.connections.len()) {
            let mut aging = std::mem::take(&mut self.aging);
            aging.retain(|(_, key)| self.find(*key).is_some());
            self.aging = aging;
        }
        self.aging.push_back((now, key));
    }

    /// When the first connection has lasted long enough.
    pub(crate) fn next_aged(&self) -> Option<Time> {
        self.aging.front().map(|(opened, _)| opened.after_ms(self.limits.lifetime_ms))
    }

    /// Closes what has lasted long enough.
    pub(crate) fn end_aged(&mut self, now: Time, effects: &mut Effects) {
        while let Some(until) = self.next_aged()
            && until <= now
            && let Some((_, key)) = self.aging.pop_front()
        {
            let Some(slot) = self.find(key) else { continue };
            self.counters.lifetimes_ended += 1;
            // 1008 is the one code after which a reliable client connects anew instead of trying to recover
            // (`client-protocols` §6.5).
            let is_reliable = self.session(slot).is_some();
            let code = if is_reliable { CloseCode::POLICY_VIOLATION } else { CloseCode::GOING_AWAY };
            let reason = "The connection has reached its maximum lifetime.";
            self.end(slot, Ending { code, reason, category: CloseCategory::Normal }, effects);
        }
    }

    /// The bound was put on or taken off.
    pub(crate) fn restart_aging(&mut self) {
        self.aging.clear();
        if self.limits.lifetime_ms == 0 {
            return self.aging.shrink_to_fit();
        }
        let live = self.connections.iter().filter(|(_, connection)| !connection.absent);
        self.aging.extend(live.map(|(slot, connection)| {
            (connection.opened, ConnectionKey { slot: slot as u32, generation: connection.generation })
        }));
        self.aging.make_contiguous().sort_by_key(|(opened, _)| *opened);
    }
}
