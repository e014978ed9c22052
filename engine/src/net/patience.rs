//! How long an HTTP connection may take, and how much it may be told before it reads.
//!
//! A request's head has one deadline however it trickles in, its body a lowest rate, and the pause between
//! requests one of its own: so a peer that says little holds a socket for a bounded time only (`reliability`
//! checks 1 and 3). Answers to pipelined requests are made only as fast as the peer takes them.

use crate::core::settings::SocketSettings;
use crate::net::HttpHandler;
use ringhub_hub::Time;

/// Bytes of answers that one submit may hold for a connection; requests behind them wait for the next, and for the
/// peer if it does not take those.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What an HTTP connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// A request; nothing of one has come.
    Request,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// Our own answer.
    Answer,
}

/// How far a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Requests answered so far.
    pub(crate) answered: u64,
    /// What is next.
    pub(crate) awaits: Awaits,
    /// Bytes of the current request's body that have come, without what frames them.
    pub(crate) body_bytes: u64,
}

/// An HTTP connection on its socket.
pub(crate) struct Http {
    /// The conversation.
    pub(crate) handler: Box<dyn HttpHandler>,
    /// What is awaited, of which request, and since when.
    awaits: (u64, Awaits),
    since: Time,
    /// The submit in which it was last answered, and the bytes of all answers in it.
    epoch: u32,
    answer_bytes: usize,
}

impl Http {
    /// A connection whose first request's head came `now`.
    pub(crate) fn new(handler: Box<dyn HttpHandler>, now: Time) -> Self {
        let stage = handler.stage();
        Self { handler, awaits: (stage.answered, stage.awaits), since: now, epoch: 0, answer_bytes: 0 }
    }

    /// Whether it is the peer that has to go on with what it has begun.
    pub(crate) fn awaits_peer(&self) -> bool {
        matches!(self.awaits.1, Awaits::Head | Awaits::Body)
    }

    /// Whether the body of a request is what has not come.
    pub(crate) fn awaits_body(&self) -> bool {
        self.awaits.1 == Awaits::Body
    }

    /// Until when the connection may stay as it is.
    pub(crate) fn deadline(&mut self, now: Time, settings: &SocketSettings) -> Time {
        let stage = self.handler.stage();
        let awaits = (stage.answered, stage.awaits);
        if awaits != self.awaits {
            (self.awaits, self.since) = (awaits, now);
        }
        let allowed = match stage.awaits {
            Awaits::Request | Awaits::Answer => settings.http_idle,
            Awaits::Head => settings.head_deadline,
            Awaits::Body => settings.body_deadline(stage.body_bytes),
        };
        self.since.after_ms(allowed.as_millis() as u64)
    }

    /// Counts an answer of the submit `epoch`.
    pub(crate) fn answered(&mut self, epoch: u32, bytes: usize) {
        if self.epoch != epoch {
            (self.epoch, self.answer_bytes) = (epoch, 0);
        }
        self.answer_bytes += bytes;
    }

    /// Whether the submit `epoch` holds as much for this connection as it may.
    pub(crate) fn has_said_enough(&self, epoch: u32) -> bool {
        self.epoch == epoch && self.answer_bytes >= ANSWER_BYTES_MAX
    }
}
