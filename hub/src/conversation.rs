//! What connections have to do with event handlers: questions, one at a time and in order, and what is only told.
//!
//! A user event is a question: the next one of its connection goes out when the answer is there (`event-handlers`
//! §4.7). Those behind it wait here, up to a bound at which nothing more is read from the client. `connected`,
//! `disconnected` and presence are only told, at once, but for `disconnected`: that goes out behind everything the
//! client said, so a conversation outlives its connection until then.
//!
//! What must stay true: every ticket that goes out is in `questions` until its reply comes; a connection has at most
//! one there; whoever was let in by a handler, or told of as connected, is told of as disconnected, once.

use crate::effect::{CloseCategory, Effect};
use crate::encoding::Told;
use crate::envelope::Content;
use crate::event::{Caller, Event, Reply, Routes};
use crate::hub::Hub;
use crate::lifecycle::{CLIENT_CLOSED, Ending};
use crate::{ConnectionKey, Effects, Ticket};
use bytes::Bytes;
use ringhub_protocol::events::{Message, Subject, body};
use ringhub_protocol::pubsub::{AckError, Data, DataType, Form, Metadata, Sender};
use ringhub_protocol::ws::CloseCode;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// Room for waiting events that an idle connection keeps.
const WAITING_KEPT: usize = 2;

/// One connection's part in it.
pub(crate) struct Conversation {
    caller: Arc<Caller>,
    subprotocol: Option<Arc<str>>,
    /// What is asked at present.
    open: Option<(Ticket, Purpose)>,
    /// What is to be asked behind it, in order.
    waiting: VecDeque<(Purpose, Box<Event>)>,
    waiting_bytes: usize,
    /// Whether nothing is read from the client.
    held: bool,
}

/// What an answer is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// A raw client's message.
    Raw,
    /// A PubSub client's event, and the id of the ack it wants.
    Event(Option<u64>),
    /// An invocation.
    Invoke(Box<str>),
    /// An invocation that was given up.
    Nobody,
}

impl Purpose {
    fn is_invocation(&self, id: &str) -> bool {
        matches!(self, Self::Invoke(invocation) if **invocation == *id)
    }
}

/// Who waits for a reply.
pub(crate) enum Asked {
    /// A client that wants to connect: its entry in [`Hub::connecting`].
    Connecting(usize),
    /// A client that was refused while its handler was asked: if that lets it in, it is to hear of its end.
    Refused(Box<Event>),
    /// A connection.
    Connection(ConnectionKey),
    /// What is left of one.
    Departed(Box<Departed>),
}

/// What a connection left behind.
pub(crate) struct Departed {
    waiting: VecDeque<(Purpose, Box<Event>)>,
    /// `disconnected`, if somebody wants it.
    end: Option<Box<Event>>,
}

impl Conversation {
    pub(crate) fn new(caller: Arc<Caller>, subprotocol: Option<Arc<str>>) -> Self {
        Self { caller, subprotocol, open: None, waiting: VecDeque::new(), waiting_bytes: 0, held: false }
    }

    /// The subprotocol of the upgrade's answer.
    pub(crate) fn set_subprotocol(&mut self, subprotocol: Option<Arc<str>>) {
        self.subprotocol = subprotocol;
    }

    /// Bytes of what waits to be asked about.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether nothing is to be read from the client.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }
}

/// What clients say.
impl Hub {
    /// A user event. Its ack id is new.
    pub(crate) fn user_event(
        &mut self,
        slot: u32,
        purpose: Purpose,
        name: &str,
        data: Data<'_>,
        metadata: Option<Metadata>,
        effects: &mut Effects,
    ) {
        let body = || data.to_plain_bytes();
        let Some(event) = self.event(slot, Subject::User(name), data.data_type(), body, metadata) else {
            self.counters.events_unhandled += 1;
            return self.unhandled(slot, purpose, effects);
        };
        if event.handler.is_none() {
            // Whoever only listens has heard it, come what may (§9).
            self.counters.events += 1;
            effects.push(Effect::Event(event));
            return self.answered(slot, purpose, None);
        }
        if self.conversation(slot).open.is_none() {
            return self.ask(slot, purpose, event, effects);
        }
        let (socket, limits) = (self.hot[slot as usize].socket, self.limits);
        let conversation = self.conversation(slot);
        conversation.waiting_bytes += event.bytes();
        conversation.waiting.push_back((purpose, event));
        let is_full = conversation.waiting.len() >= limits.events_waiting_max
            || conversation.waiting_bytes >= limits.events_waiting_bytes_max;
        if is_full && !conversation.held {
            conversation.held = true;
            self.counters.events_held += 1;
            effects.push(Effect::Hold(socket));
        }
    }

    /// Gives up an invocation: if it is asked at present the outside is told; if it waits it is never asked.
    pub(crate) fn cancel_invocation(&mut self, slot: u32, id: &str, effects: &mut Effects) {
        let Some(conversation) = &mut self.connections[slot as usize].conversation else { return };
        match &mut conversation.open {
            Some((ticket, purpose)) if purpose.is_invocation(id) => {
                *purpose = Purpose::Nobody;
                effects.push(Effect::CancelEvent(*ticket));
            }
            _ => {
                let waiting = &mut conversation.waiting;
                let place = waiting.iter().position(|(purpose, _)| purpose.is_invocation(id));
                if let Some((_, event)) = place.and_then(|place| waiting.remove(place)) {
                    conversation.waiting_bytes -= event.bytes();
                    self.release_reading(slot, effects);
                }
            }
        }
    }

    fn unhandled(&mut self, slot: u32, purpose: Purpose, effects: &mut Effects) {
        let message = "No event handler is configured for this event.";
        match purpose {
            Purpose::Raw => {
                let category = CloseCategory::EventHandlerNotFound;
                let how = Ending { code: CloseCode::INTERNAL_ERROR, reason: message, category };
                self.end(slot, how, effects);
            }
            Purpose::Event(Some(id)) => self.nack(slot, Some(id), AckError::InternalServerError, message),
            Purpose::Event(None) => {
                self.give_up_on(slot, message, CloseCategory::EventHandlerNotFound, effects)
            }
            Purpose::Invoke(id) => {
                let error = AckError::NotFound;
                self.tell(slot, &Told::InvokeRefused { invocation_id: &id, error, message });
            }
            Purpose::Nobody => {}
        }
    }

    /// An event without an ack failed: what the hub's setting says (§5).
    fn give_up_on(&mut self, slot: u32, reason: &str, category: CloseCategory, effects: &mut Effects) {
        if self.routes.as_ref().is_some_and(|routes| routes.close_on_failure) {
            self.end(slot, Ending { code: CloseCode::INTERNAL_ERROR, reason, category }, effects);
        }
    }
}

/// What handlers answer.
impl Hub {
    /// What came of a question of a connection.
    pub(crate) fn event_replied(&mut self, key: ConnectionKey, reply: Reply, effects: &mut Effects) {
        let Some(slot) = self.find(key) else { return };
        let conversation = self.conversation(slot);
        let Some((_, purpose)) = conversation.open.take() else { return };
        match reply {
            Reply::Answered(message) => self.answered(slot, purpose, message),
            Reply::Failed(status) => self.failed(slot, purpose, status, effects),
            // These are answers to `connect`.
            Reply::Accepted(_) | Reply::Refused(_) => self.failed(slot, purpose, 502, effects),
        }
        self.ask_next(slot, effects);
    }

    /// Something is left of a conversation whose connection is gone: the answer is for nobody.
    pub(crate) fn departed_replied(&mut self, mut departed: Box<Departed>, effects: &mut Effects) {
        let Some((_, mut event)) = departed.waiting.pop_front() else {
            return effects.extend(departed.end.map(Effect::Event));
        };
        self.departed_bytes -= left_behind(&event);
        let ticket = self.ticket();
        event.ticket = Some(ticket);
        self.counters.events += 1;
        self.questions.insert(ticket, Asked::Departed(departed));
        effects.push(Effect::Event(event));
    }

    fn answered(&mut self, slot: u32, purpose: Purpose, message: Option<Message>) {
        let content = message.as_ref().map(|Message { data_type, bytes, metadata }| {
            let data = Data::from_parts(*data_type, Form::Plain, bytes);
            Content { data, metadata: metadata.as_ref(), until: None }
        });
        match purpose {
            Purpose::Invoke(id) => {
                self.tell(slot, &Told::InvokeResponse { invocation_id: &id, content });
            }
            Purpose::Raw | Purpose::Event(_) => {
                if let Some(content) = content {
                    self.turn.message_to(Sender::Server, content, [slot].into_iter(), &self.connections);
                }
                if let Purpose::Event(ack_id) = purpose {
                    self.ack(slot, ack_id);
                }
            }
            Purpose::Nobody => {}
        }
    }

    fn failed(&mut self, slot: u32, purpose: Purpose, status: u16, effects: &mut Effects) {
        self.counters.events_failed += 1;
        let message = "The event handler failed.";
        let category = CloseCategory::SendEventFailed;
        match purpose {
            Purpose::Raw => {
                // What it said behind that is not worth asking about: it is in order or not at all.
                self.conversation(slot).waiting.clear();
                self.end(
                    slot,
                    Ending { code: CloseCode::INTERNAL_ERROR, reason: message, category },
                    effects,
                );
            }
            Purpose::Event(Some(id)) => self.nack(slot, Some(id), AckError::InternalServerError, message),
            Purpose::Event(None) => self.give_up_on(slot, message, category, effects),
            Purpose::Invoke(id) => {
                let (error, message) = invoke_error(status);
                self.tell(slot, &Told::InvokeRefused { invocation_id: &id, error, message });
            }
            Purpose::Nobody => {}
        }
    }

    /// Asks what waits next, if the connection is still there and nothing is asked.
    fn ask_next(&mut self, slot: u32, effects: &mut Effects) {
        while !self.connections[slot as usize].absent
            && let Some(conversation) = &mut self.connections[slot as usize].conversation
            && conversation.open.is_none()
            && let Some((purpose, event)) = conversation.waiting.pop_front()
        {
            if conversation.waiting.is_empty() {
                // A burst that is over leaves no room behind in an idle connection.
                conversation.waiting.shrink_to(WAITING_KEPT);
            }
            conversation.waiting_bytes -= event.bytes();
            self.release_reading(slot, effects);
            // The same event may have succeeded since it came.
            match purpose {
                Purpose::Event(ack_id) if self.repeated(slot, ack_id) => {}
                purpose => self.ask(slot, purpose, event, effects),
            }
        }
    }

    fn ask(&mut self, slot: u32, purpose: Purpose, mut event: Box<Event>, effects: &mut Effects) {
        let ticket = self.ticket();
        let key = ConnectionKey { slot, generation: self.connections[slot as usize].generation };
        event.ticket = Some(ticket);
        self.counters.events += 1;
        self.questions.insert(ticket, Asked::Connection(key));
        self.conversation(slot).open = Some((ticket, purpose));
        effects.push(Effect::Event(event));
    }

    /// Nobody is asked about what waits any more: it is the memory that is to be free.
    pub(crate) fn drop_waiting_events(&mut self, slot: u32) {
        let Self { connections, counters, .. } = self;
        if let Some(conversation) = &mut connections[slot as usize].conversation {
            counters.events_dropped += conversation.waiting.len() as u64;
            (conversation.waiting, conversation.waiting_bytes) = (VecDeque::new(), 0);
        }
    }

    /// Half of what may wait is gone: more may come.
    fn release_reading(&mut self, slot: u32, effects: &mut Effects) {
        let Self { connections, limits, hot, .. } = self;
        let Some(conversation) = &mut connections[slot as usize].conversation else { return };
        if conversation.held
            && conversation.waiting.len() <= limits.events_waiting_max / 2
            && conversation.waiting_bytes < limits.events_waiting_bytes_max
        {
            conversation.held = false;
            effects.push(Effect::Release(hot[slot as usize].socket));
        }
    }
}

/// What is only told.
impl Hub {
    /// The connection is open.
    pub(crate) fn tell_connected(&mut self, slot: u32, effects: &mut Effects) {
        let body = || Bytes::from_static(body::CONNECTED);
        self.announce_event(slot, Subject::Connected, body, effects);
    }

    /// The connection joined a group.
    pub(crate) fn tell_joined(&mut self, slot: u32, group: u32, effects: &mut Effects) {
        if self.tells_presence {
            let group = Arc::clone(&self.groups[group as usize].name);
            let body = || body::presence(&group).into();
            self.announce_event(slot, Subject::Joined(&group), body, effects);
        }
    }

    /// The connection left a group.
    pub(crate) fn tell_left(&mut self, slot: u32, group: u32, effects: &mut Effects) {
        if self.tells_presence {
            let group = Arc::clone(&self.groups[group as usize].name);
            let body = || body::presence(&group).into();
            self.announce_event(slot, Subject::Left(&group), body, effects);
        }
    }

    /// The connection has ended for good: what it said is still to be asked about, then its end is told.
    pub(crate) fn tell_disconnected(&mut self, slot: u32, reason: &str, effects: &mut Effects) {
        let end = self.disconnected_event(slot, reason);
        let Some(conversation) = self.connections[slot as usize].conversation.take() else {
            return effects.extend(end.map(Effect::Event));
        };
        let Conversation { open, mut waiting, .. } = *conversation;
        let bytes: usize = waiting.iter().map(|(_, event)| left_behind(event)).sum();
        if self.departed_bytes + bytes > self.limits.departed_bytes_max {
            self.counters.events_dropped += waiting.len() as u64;
            waiting.clear();
        } else {
            self.departed_bytes += bytes;
        }
        let departed = Box::new(Departed { waiting, end });
        match open {
            Some((ticket, _)) => drop(self.questions.insert(ticket, Asked::Departed(departed))),
            None => self.departed_replied(departed, effects),
        }
    }

    /// `disconnected`, if somebody wants it.
    pub(crate) fn disconnected_event(&mut self, slot: u32, reason: &str) -> Option<Box<Event>> {
        let reason = if reason == CLIENT_CLOSED { "" } else { reason };
        let body = || body::disconnected(reason).into();
        self.event(slot, Subject::Disconnected, DataType::Json, body, None)
    }

    /// The stop is over: what is still asked is given up, and the ends that waited for an answer are told without it.
    pub(crate) fn give_up_questions(&mut self, effects: &mut Effects) {
        let mut given_up: Vec<_> = self.questions.drain().collect();
        self.departed_bytes = 0;
        // Effects never follow the order of a map.
        given_up.sort_unstable_by_key(|(ticket, _)| ticket.0);
        for (ticket, asked) in given_up {
            self.counters.events_failed += 1;
            effects.push(Effect::CancelEvent(ticket));
            if let Asked::Departed(departed) = asked {
                effects.extend(departed.end.map(Effect::Event));
            }
        }
    }

    fn announce_event(
        &mut self,
        slot: u32,
        subject: Subject<'_>,
        body: impl FnOnce() -> Bytes,
        effects: &mut Effects,
    ) {
        if let Some(event) = self.event(slot, subject, DataType::Json, body, None) {
            effects.push(Effect::Event(event));
        }
    }
}

impl Hub {
    /// An event of a connection; `None` if nobody wants it.
    pub(crate) fn event(
        &mut self,
        slot: u32,
        subject: Subject<'_>,
        data_type: DataType,
        body: impl FnOnce() -> Bytes,
        metadata: Option<Metadata>,
    ) -> Option<Box<Event>> {
        let (handler, listeners) = self.routes.as_ref()?.of(subject)?;
        let user = self.connections[slot as usize].user.clone();
        let Conversation { caller, subprotocol, .. } = self.conversation(slot);
        let (caller, subprotocol) = (Arc::clone(caller), subprotocol.clone());
        let body = body();
        Some(Box::new(Event {
            caller,
            user,
            subprotocol,
            subject: subject.into(),
            data_type,
            body,
            metadata,
            handler,
            listeners,
            ticket: None,
        }))
    }

    /// The connection's conversation. One that is older than the hub's handlers gets one when it first needs it.
    fn conversation(&mut self, slot: u32) -> &mut Conversation {
        let Self { connections, routes, name, .. } = self;
        let connection = &mut connections[slot as usize];
        let (id, format) = (connection.id, connection.format);
        connection.conversation.get_or_insert_with(|| {
            let origin = routes.as_ref().map_or_else(Box::default, |routes| routes.origin.clone());
            let caller = Caller { hub: name.clone(), id, origin, memory: OnceLock::new() };
            Box::new(Conversation::new(Arc::new(caller), format.subprotocol().name().map(Arc::from)))
        })
    }

    /// From now on these want to hear what happens.
    pub fn set_routes(&mut self, routes: Option<Arc<Routes>>) {
        self.tells_presence = routes.as_ref().is_some_and(|routes| routes.want_presence());
        self.routes = routes;
    }

    /// Whether an answer of an event handler is still to come.
    pub fn awaits_replies(&self) -> bool {
        !self.questions.is_empty()
    }
}

/// What an event takes besides what was said, about, in bytes.
const EVENT_BYTES: usize = 256;

/// What an event takes of [`crate::Limits::departed_bytes_max`].
fn left_behind(event: &Event) -> usize {
    EVENT_BYTES + event.bytes()
}

/// How a failed invocation is told (`client-protocols` §3.6).
fn invoke_error(status: u16) -> (AckError, &'static str) {
    match status {
        400 => (AckError::BadRequest, "The event handler refused the request."),
        401 | 403 => (AckError::Forbidden, "The event handler does not allow it."),
        404 => (AckError::NotFound, "The event handler found nothing."),
        408 | 504 => (AckError::Timeout, "The event handler did not answer in time."),
        _ => (AckError::InternalServerError, "The event handler failed."),
    }
}
