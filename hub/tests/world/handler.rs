//! The application server of the simulation: it is asked and told, answers when it likes, and remembers what of each
//! connection it must never see.

use super::{Fault, World};
use ringhub_hub::event::{Event, EventSubject, Refusal, Reply, Route, Routes};
use ringhub_hub::{ConnectionId, Input, Ticket};
use ringhub_protocol::events::{EventFilter, Message, Presence, SystemEvents, UserEvents};
use ringhub_protocol::pubsub::DataType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A publisher's number no client has: answers to a connection's events.
const ANSWERS: usize = 2_000_000;

#[derive(Default)]
pub(crate) struct Handler {
    questions: Vec<Question>,
    connections: BTreeMap<ConnectionId, Record>,
    /// Questions answered.
    pub(crate) answered: u64,
    /// It answers nothing before this step.
    pub(crate) deaf_until: u64,
    /// What it was still asked after the stop was given up: ends are told without its answers.
    pub(crate) given_up: bool,
}

struct Question {
    core: usize,
    hub: usize,
    ticket: Ticket,
    id: ConnectionId,
    /// The event's number; none for `connect`.
    number: Option<u64>,
}

/// What the server knows of a connection.
#[derive(Default)]
struct Record {
    /// A question is open.
    open: bool,
    accepted: bool,
    connected: bool,
    ended: bool,
    /// The last event its client said, and the last that was asked about.
    said: u64,
    asked: u64,
    /// Events that are invocations: their client gets the answer and nothing else.
    invocations: BTreeSet<u64>,
    /// Those the client gave up: nobody need be asked about them.
    cancelled: BTreeSet<u64>,
    /// It was closed because memory was short: what waited was dropped.
    shed: bool,
}

impl Record {
    /// Whether nothing was passed over between the last event that was asked about and `number`.
    fn is_next(&self, number: u64) -> bool {
        number > self.asked && (self.asked + 1..number).all(|passed| self.cancelled.contains(&passed))
    }
}

impl Handler {
    /// What it wants to hear.
    pub(crate) fn routes() -> Arc<Routes> {
        let system = SystemEvents { connect: true, connected: true, disconnected: true };
        let filter = EventFilter { system, user: UserEvents::All, presence: Presence::default() };
        Arc::new(Routes { handlers: vec![Route { filter, target: Arc::new(()) }], ..Routes::default() })
    }

    /// The number of the next event a client says.
    pub(crate) fn said(&mut self, id: ConnectionId, invokes: bool) -> u64 {
        let record = self.connections.entry(id).or_default();
        record.said += 1;
        if invokes {
            record.invocations.insert(record.said);
        }
        record.said
    }

    /// A client gives up an invocation; returns whether the answer was given before, so that it may still come.
    pub(crate) fn cancelled(&mut self, id: ConnectionId, number: u64) -> bool {
        let record = self.connections.get_mut(&id).expect("it said it");
        record.cancelled.insert(number);
        let is_open = |question: &Question| question.id == id && question.number == Some(number);
        number <= record.asked && !self.questions.iter().any(is_open)
    }

    /// A connection is closed because memory is short.
    pub(crate) fn shed(&mut self, id: ConnectionId) {
        self.connections.entry(id).or_default().shed = true;
    }

    /// Whether nobody may wait for the answer to this any more: what was given up, and what a stop gave up.
    pub(crate) fn may_be_cancelled(&self, core: usize, hub: usize, ticket: Ticket) -> bool {
        let is = |question: &&Question| (question.core, question.hub, question.ticket) == (core, hub, ticket);
        let question = self.questions.iter().find(is).expect("only what is asked is given up");
        let cancelled = &self.connections[&question.id].cancelled;
        self.given_up || question.number.is_some_and(|number| cancelled.contains(&number))
    }

    pub(crate) fn take(&mut self, core: usize, hub: usize, event: &Event) {
        let id = event.caller.id;
        let record = self.connections.entry(id).or_default();
        assert!(!record.ended, "{id} has ended: {event:?}");
        let number = match &event.subject {
            EventSubject::Connect => None,
            EventSubject::Connected => {
                assert!(!std::mem::replace(&mut record.connected, true), "{id} connected twice");
                None
            }
            EventSubject::Disconnected => {
                let may_end = !record.open || self.given_up;
                assert!((record.connected || record.accepted) && may_end, "{id}: {event:?}");
                record.ended = true;
                None
            }
            EventSubject::User(_) => {
                assert!(!record.shed, "{id}: what waited was to be dropped");
                let number = std::str::from_utf8(&event.body).unwrap().parse().unwrap();
                assert!(
                    !record.cancelled.contains(&number),
                    "{id}: {number} was given up before it was asked"
                );
                assert!(record.connected && record.is_next(number), "{id}: {number} after {}", record.asked);
                record.asked = number;
                Some(number)
            }
            other => panic!("nobody wants to hear {other:?}"),
        };
        if let Some(ticket) = event.ticket {
            assert!(!std::mem::replace(&mut record.open, true), "{id} is asked about twice at a time");
            self.questions.push(Question { core, hub, ticket, id, number });
        }
    }

    /// Whether nothing is asked.
    pub(crate) fn is_idle(&self) -> bool {
        self.questions.is_empty()
    }

    /// Everybody has left. `nothing_dropped`: no bound and no stop kept it from being asked about all that was said.
    pub(crate) fn finish(&self, nothing_dropped: bool) {
        assert!(self.questions.is_empty());
        for (id, record) in &self.connections {
            assert!(!record.open, "{id}");
            assert_eq!(
                record.ended,
                record.accepted || record.connected,
                "{id} was told of and not of its end"
            );
            let is_all = record.is_next(record.said + 1);
            let may_lose = record.shed || !nothing_dropped;
            assert!(is_all || may_lose && record.asked < record.said, "{id}: events were lost");
        }
    }
}

impl World {
    /// One question, whichever, is answered.
    pub(crate) fn answer(&mut self) {
        let open = self.handler.questions.len();
        if open == 0
            || self.handler.deaf_until > self.tally.operations
                && !(self.calm && self.handler.deaf_until < u64::MAX)
        {
            return;
        }
        let chosen = self.random.below(open);
        let Question { core, hub, ticket, id, number } = self.handler.questions.swap_remove(chosen);
        let record = self.handler.connections.get_mut(&id).expect("it was asked about");
        record.open = false;
        self.handler.answered += 1;
        let dice = self.random.below(8);
        if dice == 0 {
            self.note(Fault::HandlerFailed);
        }
        let record = self.handler.connections.get_mut(&id).expect("it was asked about");
        let reply = match (number, dice) {
            (_, 0) => Reply::Failed(500),
            (None, 1) => Reply::Refused(Refusal { status: 403, content_type: None, body: "no".into() }),
            (None, _) => {
                // A hub that gave it up will not hear this.
                record.accepted |= !self.handler.given_up;
                Reply::Accepted(Box::default())
            }
            (Some(_), 1..4) => Reply::Answered(None),
            (Some(number), _) => {
                let publisher = ANSWERS + id.slot as usize;
                let is_invocation = record.invocations.contains(&number);
                let client = self.clients.iter_mut().find(|client| client.id == Some(id) && !is_invocation);
                if let Some(client) = client.filter(|client| client.greeted == 2) {
                    client.owed.entry(publisher).or_default().insert(number);
                }
                let text = format!("h{hub} - p{publisher} {number} t0");
                Reply::Answered(Some(Message {
                    data_type: DataType::Text,
                    bytes: text.into(),
                    metadata: None,
                }))
            }
        };
        self.feed(core, hub, Input::Reply(ticket, reply));
    }
}
