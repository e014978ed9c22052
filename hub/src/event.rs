//! What a hub asks and tells application servers, and what they answer (`event-handlers`).
//!
//! The hub decides who hears an event, keeps a connection's events in order and at most one question of it open;
//! the rest (where servers are, how often they are tried, what is signed) is the outside's, which finds what it
//! needs behind [`Target`] and [`Caller::memory`].

use crate::effect::Pass;
use crate::{ConnectionId, Ticket};
use bytes::Bytes;
use ringhub_protocol::events::{Acceptance, EventFilter, Message, Subject};
use ringhub_protocol::name::{HubName, UserId};
use ringhub_protocol::pubsub::{DataType, Metadata};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Where an event goes: the outside's own record of a handler or a listener.
pub type Target = Pass;

/// Who wants to hear what of a hub, and what happens if they fail.
#[derive(Default)]
pub struct Routes {
    /// In order: the first that wants an event gets it, and answers.
    pub handlers: Vec<Route>,
    /// All that want an event get a copy.
    pub listeners: Vec<Route>,
    /// [`Caller::origin`] of connections that are older than the hub's handlers.
    pub origin: Box<str>,
    /// Whether a PubSub client is closed when an event fails for which it wants no ack; else that is only counted.
    pub close_on_failure: bool,
}

impl Routes {
    /// Whether the upgrade of a client is to be asked about.
    pub fn asks_on_connect(&self) -> bool {
        self.handlers.iter().any(|route| route.filter.matches(Subject::Connect))
    }

    /// Whether anybody wants to hear who joins and leaves groups.
    pub fn want_presence(&self) -> bool {
        self.handlers.iter().chain(&self.listeners).any(|route| route.filter.wants_presence())
    }

    /// Who is to handle an event, and who else hears it; `None` if nobody wants it.
    pub(crate) fn of(&self, subject: Subject<'_>) -> Option<(Option<Target>, Vec<Target>)> {
        let handler = self.handlers.iter().find(|route| route.filter.matches(subject));
        let handler = handler.map(|route| Target::clone(&route.target));
        // Never `connect`: whoever only listens hears of who is in (§9).
        let listeners = self
            .listeners
            .iter()
            .filter(|route| subject != Subject::Connect && route.filter.matches(subject));
        let listeners: Vec<Target> = listeners.map(|route| Target::clone(&route.target)).collect();
        (handler.is_some() || !listeners.is_empty()).then_some((handler, listeners))
    }
}

/// One of them.
pub struct Route {
    /// What it wants.
    pub filter: EventFilter,
    /// Where it is.
    pub target: Target,
}

/// The connection that events are of; the same for all of its events.
pub struct Caller {
    /// Its hub.
    pub hub: HubName,
    /// Its id.
    pub id: ConnectionId,
    /// How the server is called, as the applications' SDKs know it: a host.
    pub origin: Box<str>,
    /// What the outside remembers of it from event to event.
    pub memory: OnceLock<Pass>,
}

/// One event, on its way out.
pub struct Event {
    /// Whose.
    pub caller: Arc<Caller>,
    /// Its user.
    pub user: Option<UserId>,
    /// Its subprotocol, as it was negotiated.
    pub subprotocol: Option<Arc<str>>,
    /// What happened.
    pub subject: EventSubject,
    /// What the body is.
    pub data_type: DataType,
    /// The body, in plain form.
    pub body: Bytes,
    /// Travels with a user event.
    pub metadata: Option<Metadata>,
    /// Who is to handle it.
    pub handler: Option<Target>,
    /// Who else is to hear it.
    pub listeners: Vec<Target>,
    /// There if [`crate::Input::Reply`] is awaited: whatever happens, exactly one must come.
    pub ticket: Option<Ticket>,
}

/// A [`Subject`] that owns its text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventSubject {
    Connect,
    Connected,
    Disconnected,
    User(Box<str>),
    Joined(Arc<str>),
    Left(Arc<str>),
}

impl EventSubject {
    /// Borrows it.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Self::Connect => Subject::Connect,
            Self::Connected => Subject::Connected,
            Self::Disconnected => Subject::Disconnected,
            Self::User(name) => Subject::User(name),
            Self::Joined(group) => Subject::Joined(group),
            Self::Left(group) => Subject::Left(group),
        }
    }
}

impl Event {
    /// Bytes of what was said.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.metadata.as_ref().map_or(0, Metadata::bytes)
    }
}

impl From<Subject<'_>> for EventSubject {
    fn from(subject: Subject<'_>) -> Self {
        match subject {
            Subject::Connect => Self::Connect,
            Subject::Connected => Self::Connected,
            Subject::Disconnected => Self::Disconnected,
            Subject::User(name) => Self::User(name.into()),
            Subject::Joined(group) => Self::Joined(group.into()),
            Subject::Left(group) => Self::Left(group.into()),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:?} of {:?}, {:?})", self.subject, self.caller.id, self.ticket)
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To `connect`: the client may come in.
    Accepted(Box<Acceptance>),
    /// To `connect`: it may not, and is told this.
    Refused(Refusal),
    /// To a user event: done, and perhaps something for the client.
    Answered(Option<Message>),
    /// No usable answer. The number is what a gateway would say of it: the handler's own status, 502 for one that
    /// is not there or answers nonsense, 503 for one that is not asked at present, 504 for one that is too slow.
    Failed(u16),
}

/// An answer to a client's upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Not 1xx, not 2xx.
    pub status: u16,
    /// Of the body, a legal header value.
    pub content_type: Option<Box<str>>,
    /// Bounded by the outside.
    pub body: Bytes,
}
