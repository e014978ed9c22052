//! A core's line to the side thread: questions for event handlers go out in one batch a turn, answers come back.
//!
//! What must stay true: a core never waits for the side thread. While a batch finds no room there, the core takes no
//! new input of clients, as with a batch for another core; answers are always taken. What is added meanwhile comes of
//! calls and connects under way, one to a socket, and of connections that end.

use crate::core::socket::{Client, Kind, Socket};
use crate::core::turn::Core;
use ringhub_hub::event::{Event, Reply};
use ringhub_hub::{CoreId, Input, SocketKey, Ticket};
use ringhub_relay::exchange::{Answer, Ask, Exchange};
use std::sync::Arc;

/// Answers taken in one turn; the rest is for the next.
pub(super) const ANSWERS_MAX: usize = 1024;

/// The line.
pub(crate) struct Line {
    exchange: Arc<Exchange>,
    core: CoreId,
    /// What is to be asked.
    batch: Vec<Ask>,
    /// It found no room the last time.
    stuck: bool,
}

impl Line {
    pub(crate) fn new(exchange: Arc<Exchange>, core: CoreId) -> Self {
        Self { exchange, core, batch: Vec::new(), stuck: false }
    }

    /// Adds an event of a hub to the batch.
    pub(crate) fn ask(&mut self, hub: u32, event: Box<Event>) {
        self.batch.push(Ask::Event(hub, event));
    }

    /// Adds that nobody waits for an answer any more.
    pub(crate) fn cancel(&mut self, hub: u32, ticket: Ticket) {
        self.batch.push(Ask::Cancel(hub, ticket));
    }

    /// Hands the batch over; it stays if there is no room.
    pub(crate) fn send(&mut self) {
        self.stuck = false;
        if !self.batch.is_empty()
            && let Err(batch) = self.exchange.ask(self.core, std::mem::take(&mut self.batch))
        {
            self.batch = batch;
            self.stuck = true;
        }
    }

    /// What waits because it found no room.
    pub(crate) fn unsent(&self) -> usize {
        if self.stuck { self.batch.len() } else { 0 }
    }

    /// Whether a batch found no room. One that is still being gathered holds nobody up: the turn's input bounds it.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Whether answers wait.
    pub(crate) fn has_answers(&self) -> bool {
        self.exchange.has_answers(self.core)
    }
}

impl Core {
    /// Feeds hubs the answers that have come.
    pub(crate) fn take_answers(&mut self) {
        for _ in 0..ANSWERS_MAX {
            let Some(Answer { hub, ticket, reply }) = self.line.exchange.next_answer(self.id) else { return };
            if let Reply::Answered(Some(message)) = &reply {
                self.turn_bytes += message.bytes.len();
            }
            self.feed(hub, Input::Reply(ticket, reply));
            self.flush_early();
        }
    }

    /// Whether new socket input may be taken.
    pub(crate) fn admits(&self) -> bool {
        self.mesh.admits() && !self.line.is_stuck()
    }

    /// Reads nothing more from a client.
    pub(crate) fn hold(&mut self, key: SocketKey) {
        if let Some(client) = self.client(key) {
            client.held = true;
            self.holding = true;
        }
    }

    /// Reads on.
    pub(crate) fn release(&mut self, key: SocketKey) {
        if let Some(client) = self.client(key) {
            client.held = false;
            self.resume.push_back(key);
        }
    }

    fn client(&mut self, key: SocketKey) -> Option<&mut Client> {
        match self.io.sockets.get(key) {
            Some(Socket { kind: Kind::Client(client), .. }) => Some(client),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_held_up_by_a_batch_without_room_not_by_one_it_gathers() {
        let exchange = Arc::new(Exchange::new(1));
        let mut line = Line::new(exchange.clone(), CoreId(0));
        let mut handed_over = 0;
        loop {
            line.cancel(0, Ticket(handed_over));
            assert!(!line.is_stuck(), "after {handed_over}");
            line.send();
            if line.is_stuck() {
                break;
            }
            handed_over += 1;
            assert!(handed_over < 10_000, "there is always room");
        }
        line.cancel(0, Ticket(handed_over + 1));
        line.send();
        assert!(line.is_stuck() && line.batch.len() == 2);
    }
}
