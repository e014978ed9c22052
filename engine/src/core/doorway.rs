//! Who comes and who goes: so many in a turn, however many it is at once.
//!
//! After a failure of a network thousands leave in one moment and come back in the next. Each of them costs as much as
//! hundreds of messages, so what all of them want is done a few at a time, and who is there is heard in between. To
//! hear them they must be found: the kernel tells in order what has happened, a little at a time, and thousands of ends
//! may stand in front of a message.
//!
//! What must stay true: a core with anybody waiting here does not sleep; who leaves is not received from any more, and
//! is passed over should it be gone by then; what a client had said before it was lost is heard.

use crate::core::ring::Completion;
use crate::core::socket::{Kind, Socket};
use crate::core::turn::Core;
use ringhub_hub::SocketKey;
use std::collections::VecDeque;

/// Sockets let in in one turn. What they say next comes at that pace, too: 16 clients are 0.7 ms.
pub(super) const COMING_MAX: usize = 16;
/// Sockets whose end is seen to in one turn: 0.4 ms.
pub(super) const LEAVING_MAX: usize = 16;

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Its peer is done sending.
    Ended,
    /// It failed.
    Lost,
}

/// Who waits. There are no more of them than descriptors.
#[derive(Default)]
pub(crate) struct Doorway {
    /// Accepts, as they completed.
    coming: VecDeque<Completion>,
    leaving: VecDeque<(SocketKey, Leave)>,
    /// Somebody has come or left since that was asked for the last time.
    was_used: bool,
}

impl Doorway {
    /// A listener has a socket, or has none.
    pub(super) fn comes(&mut self, accept: Completion) {
        self.coming.push_back(accept);
        self.was_used = true;
    }

    /// A socket has ended.
    pub(super) fn leaves(&mut self, key: SocketKey, how: Leave) {
        self.leaving.push_back((key, how));
        self.was_used = true;
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.coming.is_empty() && self.leaving.is_empty()
    }

    /// Whether somebody waits, or has come or left since the last call.
    pub(super) fn was_used(&mut self) -> bool {
        std::mem::take(&mut self.was_used) || !self.is_empty()
    }
}

impl Core {
    /// Sees to as many as a turn may.
    pub(super) fn mind_the_doorway(&mut self) {
        for _ in 0..LEAVING_MAX {
            match self.doorway.leaving.pop_front() {
                Some((key, Leave::Ended)) => self.ended(key),
                Some((key, Leave::Lost)) => self.lost_in_its_time(key),
                None => break,
            }
        }
        for _ in 0..COMING_MAX {
            let Some(accept) = self.doorway.coming.pop_front() else { break };
            self.accept(accept);
        }
    }

    /// A socket failed. Of a client whose input is parked that is for later, as if it had ended.
    pub(super) fn lost_in_its_time(&mut self, key: SocketKey) {
        match self.io.sockets.get(key) {
            Some(Socket { kind: Kind::Client(_), unread: Some(_), .. }) => self.io.peer_ended(key),
            _ => self.lost(key),
        }
    }

    /// Lets in, or turns away, everybody who has come.
    pub(super) fn empty_the_doorway(&mut self) {
        for accept in std::mem::take(&mut self.doorway.coming) {
            self.accept(accept);
        }
    }
}
