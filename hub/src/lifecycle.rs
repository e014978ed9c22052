//! Connections come, are recovered, lose their sockets and go.

use crate::connection::{Connection, Format, Hot, NONE};
use crate::conversation::{Asked, Conversation};
use crate::effect::{CloseCategory, CloseHow, Connect, Effect, Question, Recover, RefusedBy, Transport};
use crate::encoding::Told;
use crate::event::{Caller, Reply};
use crate::group::Membership;
use crate::hub::{EVERYONE, Hub};
use crate::interest::Waiter;
use crate::permission::Permissions;
use crate::session::Session;
use crate::users::Beside;
use crate::{Chunk, ConnectionId, ConnectionKey, Effects, Sink, Ticket, Time};
use ringhub_protocol::events::{Acceptance, Subject};
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::{DataType, Subprotocol};
use ringhub_protocol::ws::CloseCode;
use ringhub_protocol::ws::close::write_close;
use ringhub_protocol::ws::handshake::write_accept;
use std::sync::{Arc, OnceLock};

/// Bytes sent to a session that catches up, per turn.
const PUMP_BYTES: usize = 64 << 10;

/// What a client is told when it is closed, and how that is counted.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'a str,
    pub(crate) category: CloseCategory,
}

/// What clients are told when the server drains or stops.
pub(crate) const SHUTTING_DOWN: Ending<'static> = Ending {
    code: CloseCode::GOING_AWAY,
    reason: "The server is shutting down.",
    category: CloseCategory::ServiceReload,
};

/// The reason of an end that was the client's own choice.
pub(crate) const CLIENT_CLOSED: &str = "The client closed the connection.";

/// A client on its way in.
pub(crate) struct Connecting {
    connect: Box<Connect>,
    /// Its place among the connections, where nobody finds it yet.
    slot: u32,
    /// Agreements on its groups that are still to come.
    agreements: u32,
    /// The event handler's answer is still to come.
    question: Option<(Ticket, Question)>,
    /// The event handler let it in.
    is_accepted: bool,
    /// It was refused while other cores were to hear of its groups; they still answer.
    is_refused: bool,
}

impl Hub {
    pub(crate) fn connect(&mut self, now: Time, mut connect: Box<Connect>, effects: &mut Effects) {
        if self.connections.len() >= self.limits.connections_max {
            self.counters.connections_refused += 1;
            return effects.push(Effect::ConnectRefused(connect.socket, RefusedBy::Limit));
        }
        let slot = self.reserve(now, &mut connect);
        let question = connect.introduction.as_mut().and_then(|introduction| introduction.question.take());
        let mut connecting = Connecting {
            connect,
            slot,
            agreements: 0,
            question: None,
            is_accepted: false,
            is_refused: false,
        };
        if let Some(question) = question {
            let body = || question.body.clone();
            if let Some(mut event) = self.event(slot, Subject::Connect, DataType::Json, body, None) {
                let ticket = self.ticket();
                event.ticket = Some(ticket);
                connecting.question = Some((ticket, question));
                let entry = self.connecting.insert(connecting);
                self.questions.insert(ticket, Asked::Connecting(entry));
                self.counters.events += 1;
                return effects.push(Effect::Event(event));
            }
            // Nobody wants to be asked any more.
            write_answer(&mut connecting.connect, &question);
        }
        self.agree(now, connecting, effects);
    }

    /// A place for the connection, so that it has an id; nobody finds it there until it is open.
    fn reserve(&mut self, now: Time, connect: &mut Connect) -> u32 {
        self.next_generation = self.next_generation.wrapping_add(1);
        let slot = self.connections.vacant_key() as u32;
        let id = ConnectionId { node: 0, core: self.core, slot, random: connect.random };
        let conversation = connect.introduction.as_mut().map(|introduction| {
            let origin = std::mem::take(&mut introduction.origin);
            let caller = Caller { hub: self.name.clone(), id, origin, memory: OnceLock::new() };
            Box::new(Conversation::new(Arc::new(caller), None))
        });
        self.connections.insert(Connection {
            id,
            generation: self.next_generation,
            format: Format::of(connect.subprotocol, connect.deflate.is_some()),
            absent: true,
            user: connect.user.clone(),
            beside: Beside::alone(slot),
            permissions: Permissions::default(),
            memberships: Vec::new(),
            acks: Default::default(),
            raw_group: None,
            arrival: std::mem::take(&mut connect.arrival),
            conversation,
            opened: now,
            floor: 0,
            cut: u32::MAX,
        });
        let hot = Hot { socket: Hot::NO_SOCKET, epoch: 0, mixed: NONE, session: NONE };
        match self.hot.get_mut(slot as usize) {
            Some(place) => *place = hot,
            None => self.hot.push(hot),
        }
        slot
    }

    /// The event handler has said what it thinks of a client.
    pub(crate) fn connect_replied(&mut self, now: Time, entry: usize, reply: Reply, effects: &mut Effects) {
        let mut connecting = self.connecting.remove(entry).expect("a question is answered once");
        let (_, question) = connecting.question.take().expect("it was asked");
        match reply {
            Reply::Accepted(acceptance) => {
                if accept(&mut connecting.connect, *acceptance, &question) {
                    self.connections[connecting.slot as usize].user.clone_from(&connecting.connect.user);
                    connecting.is_accepted = true;
                    return self.agree(now, connecting, effects);
                }
                effects.push(Effect::ConnectRefused(connecting.connect.socket, RefusedBy::Handler));
                effects.extend(self.disconnected_event(connecting.slot, REFUSED_LATER).map(Effect::Event));
            }
            Reply::Refused(refusal) => {
                effects.push(Effect::ConnectAnswered(connecting.connect.socket, refusal));
            }
            Reply::Failed(_) | Reply::Answered(_) => {
                self.counters.events_failed += 1;
                effects.push(Effect::ConnectRefused(connecting.connect.socket, RefusedBy::Handler));
            }
        }
        self.connections.remove(connecting.slot as usize);
    }

    /// Refuses clients that are not in yet. An entry that waits for other cores stays until they have answered. A
    /// handler that is asked is asked to the end if it wants to hear of ends: given up, it might think of the client as
    /// connected and never hear otherwise.
    pub(crate) fn refuse_connecting(&mut self, effects: &mut Effects) {
        let entries: Vec<usize> = self.connecting.iter().map(|(entry, _)| entry).collect();
        for entry in entries {
            let connecting = &mut self.connecting[entry];
            if std::mem::replace(&mut connecting.is_refused, true) {
                continue;
            }
            let (slot, is_accepted) = (connecting.slot, connecting.is_accepted);
            effects.push(Effect::ConnectRefused(connecting.connect.socket, RefusedBy::Stop));
            let Some((ticket, _)) = connecting.question.take() else {
                if is_accepted {
                    effects.extend(self.disconnected_event(slot, REFUSED_LATER).map(Effect::Event));
                }
                continue;
            };
            match self.disconnected_event(slot, REFUSED_LATER) {
                Some(end) => drop(self.questions.insert(ticket, Asked::Refused(end))),
                None => {
                    self.questions.remove(&ticket);
                    effects.push(Effect::CancelEvent(ticket));
                }
            }
            self.connecting.remove(entry);
            self.connections.remove(slot as usize);
        }
    }

    /// Other cores must know of the client's groups before it is in.
    fn agree(&mut self, now: Time, mut connecting: Connecting, effects: &mut Effects) {
        let groups: Vec<u32> =
            connecting.connect.groups.iter().map(|group| self.group(group.as_str())).collect();
        let entry = self.connecting.vacant_key();
        for index in groups {
            self.groups[index as usize].reserved += 1;
            connecting.agreements +=
                u32::from(self.announce(index, Waiter::Connect(entry), effects).is_some());
        }
        let waits = connecting.agreements > 0;
        self.connecting.insert(connecting);
        if !waits {
            self.open(now, entry, effects);
        }
    }

    /// One of the agreements a connecting client waits for has come.
    pub(crate) fn connect_agreed(&mut self, now: Time, entry: usize, effects: &mut Effects) {
        let connecting = &mut self.connecting[entry];
        connecting.agreements -= 1;
        match (connecting.agreements, connecting.is_refused) {
            (0, false) => self.open(now, entry, effects),
            (0, true) => self.discard(entry, effects),
            _ => {}
        }
    }

    /// Forgets a client that was refused while other cores were to hear of its groups.
    fn discard(&mut self, entry: usize, effects: &mut Effects) {
        let Connecting { connect, slot, .. } =
            self.connecting.remove(entry).expect("a connect is discarded once");
        for group in &connect.groups {
            let index = self.group(group.as_str());
            self.groups[index as usize].reserved -= 1;
            self.release(index, effects);
        }
        self.connections.remove(slot as usize);
    }

    fn open(&mut self, now: Time, entry: usize, effects: &mut Effects) {
        let Connecting { connect, slot, .. } =
            self.connecting.remove(entry).expect("a connect is opened once");
        let connect = *connect;
        let format = Format::of(connect.subprotocol, connect.deflate.is_some());
        let roles = connect.roles.iter().map(|role| &**role);
        let permissions = Permissions::from_roles(roles, &self.limits);
        let connection = &mut self.connections[slot as usize];
        connection.absent = false;
        connection.format = format;
        connection.permissions = permissions;
        connection.memberships = Vec::with_capacity(1 + connect.groups.len());
        connection.raw_group = connect.raw_group.map(Box::new);
        connection.opened = now;
        let key = ConnectionKey { slot, generation: connection.generation };
        if let (Some(conversation), Some(introduction)) = (&mut connection.conversation, connect.introduction)
        {
            conversation.set_subprotocol(introduction.subprotocol);
        }
        let session = if format.is_reliable() {
            self.sessions.insert(Session::new(format.is_deflated())) as u32
        } else {
            NONE
        };
        self.hot[slot as usize] = Hot { socket: connect.socket, epoch: 0, mixed: NONE, session };
        let greeting = self.greeting(slot, connect.prologue);
        self.turn.frames(slot, |out| out.extend_from_slice(&greeting));
        self.users.insert(slot, &mut self.connections);
        self.tell_connected(slot, effects);
        self.join(slot, EVERYONE, effects);
        for group in &connect.groups {
            let index = self.group(group.as_str());
            self.groups[index as usize].reserved -= 1;
            if self.may_join_one_more(slot, index) {
                self.join(slot, index, effects);
            } else {
                self.counters.groups_refused += 1;
                self.release(index, effects);
            }
        }
        self.counters.connections += 1;
        self.begin_aging(now, key);
        effects.push(Effect::Opened(Transport { connection: key, socket: connect.socket }));
    }

    /// The upgrade's answer, and `connected` for PubSub clients.
    pub(crate) fn greeting(&self, slot: u32, mut prologue: Vec<u8>) -> Vec<u8> {
        let Connection { id, user, format, .. } = &self.connections[slot as usize];
        if let Some(encoding) = format.encoding() {
            let token = format.is_reliable().then(|| (self.reconnection_token)(id));
            let (user, id) = (user.as_ref().map(UserId::as_str), id.text());
            let reconnection_token = token.as_deref();
            encoding.tell(&mut prologue, &Told::Connected { user, id: id.as_str(), reconnection_token });
        }
        prologue
    }

    pub(crate) fn recover(&mut self, recover: Recover, effects: &mut Effects) {
        let Recover { socket, id, subprotocol, address, prologue, deflate } = recover;
        let slot = self.by_id(&id).filter(|&slot| {
            self.hot[slot as usize].session != NONE
                && self.connections[slot as usize].subprotocol() == subprotocol
        });
        let Some(slot) = slot else {
            self.counters.recover_refused += 1;
            return effects.push(Effect::RecoverRefused(socket, prologue));
        };
        self.counters.recovered += 1;
        let old = std::mem::replace(&mut self.hot[slot as usize].socket, socket);
        let connection = &mut self.connections[slot as usize];
        (connection.floor, connection.cut) = (self.turn.position, u32::MAX);
        connection.arrival.address = address;
        let key = ConnectionKey { slot, generation: connection.generation };
        if old.slot != NONE {
            effects.push(Effect::Close(old, CloseHow::Abort));
        }
        self.refile(slot, Format::of(subprotocol, deflate));
        let greeting = self.greeting(slot, prologue);
        let session = &mut self.sessions[self.hot[slot as usize].session as usize];
        if session.until.take().is_some() {
            self.counters.suspended -= 1;
        }
        session.deflate = deflate;
        session.greet(greeting);
        self.catching_up.push(key);
        effects.push(Effect::Opened(Transport { connection: key, socket }));
        if self.connections[slot as usize].conversation.as_ref().is_some_and(|talk| talk.is_held()) {
            effects.push(Effect::Hold(socket));
        }
    }

    /// Makes the connection a member of its groups in another format: of what was published so far it gets its part as
    /// if it left, of the rest as if it joined.
    fn refile(&mut self, slot: u32, format: Format) {
        let Self { turn, groups, connections, .. } = self;
        let old = std::mem::replace(&mut connections[slot as usize].format, format);
        if old == format {
            return;
        }
        for at in 0..connections[slot as usize].memberships.len() {
            let Membership { group: index, position } = connections[slot as usize].memberships[at];
            let group = &mut groups[index as usize];
            turn.before_leave(group, old, position, slot);
            if let Some(moved) = group.remove(old, position) {
                connections[moved as usize].moved(index, position);
            }
            turn.before_join(group);
            connections[slot as usize].memberships[at].position = group.push(format, slot);
        }
    }

    pub(crate) fn client_close(
        &mut self,
        now: Time,
        from: Transport,
        code: Option<CloseCode>,
        effects: &mut Effects,
    ) {
        let Some(slot) = self.attached(from) else { return };
        self.turn.frames(slot, |out| write_close(out, code, ""));
        effects.push(Effect::Close(from.socket, CloseHow::Finish));
        if self.hot[slot as usize].session != NONE && code != Some(CloseCode::NORMAL) {
            self.connections[slot as usize].cut = self.turn.position;
            self.detaching.push(slot);
            self.suspend(now, slot);
        } else {
            let code = code.unwrap_or(CloseCode::NORMAL);
            let how = Ending { code, reason: CLIENT_CLOSED, category: CloseCategory::Normal };
            self.forget(slot, how, effects);
        }
    }

    pub(crate) fn socket_lost(&mut self, now: Time, from: Transport, effects: &mut Effects) {
        let Some(slot) = self.attached(from) else { return };
        self.hot[slot as usize].socket = Hot::NO_SOCKET;
        if self.hot[slot as usize].session != NONE {
            self.sessions[self.hot[slot as usize].session as usize].detach();
            self.suspend(now, slot);
        } else {
            let reason = "The client's socket was lost.";
            let how = Ending { code: CloseCode::GOING_AWAY, reason, category: CloseCategory::Lost };
            self.forget(slot, how, effects);
        }
    }

    pub(crate) fn suspend(&mut self, now: Time, slot: u32) {
        let until = now.after_ms(self.limits.recovery_window_ms + self.limits.recovery_grace_ms);
        let key = ConnectionKey { slot, generation: self.connections[slot as usize].generation };
        self.sessions[self.hot[slot as usize].session as usize].until = Some(until);
        // They end in the order they were suspended, unless the window was made shorter meanwhile.
        let at = self.suspended.partition_point(|(time, _)| *time <= until);
        self.suspended.insert(at, (until, key));
        self.counters.suspended += 1;
    }

    /// Ends a connection: `disconnected` and a close frame if it has a socket.
    pub(crate) fn end(&mut self, slot: u32, how: Ending<'_>, effects: &mut Effects) {
        self.end_with(slot, how, CloseHow::Handshake, effects);
    }

    pub(crate) fn end_with(
        &mut self,
        slot: u32,
        how: Ending<'_>,
        socket_how: CloseHow,
        effects: &mut Effects,
    ) {
        let hot = self.hot[slot as usize];
        if hot.attached() {
            self.tell(slot, &Told::Disconnected(how.reason));
            self.turn.frames(slot, |out| write_close(out, Some(how.code), how.reason));
            effects.push(Effect::Close(hot.socket, socket_how));
        }
        self.forget(slot, how, effects);
    }

    /// Takes a connection out of everything; its slot stays until the turn is flushed.
    pub(crate) fn forget(&mut self, slot: u32, how: Ending<'_>, effects: &mut Effects) {
        for Membership { group, position } in std::mem::take(&mut self.connections[slot as usize].memberships)
        {
            self.leave_at(slot, group, position, effects);
        }
        self.tell_disconnected(slot, how.reason, effects);
        self.connections[slot as usize].absent = true;
        self.users.remove(slot, &mut self.connections);
        if self.session(slot).is_some_and(|session| session.until.take().is_some()) {
            self.counters.suspended -= 1;
        }
        self.counters.connections -= 1;
        self.ended.push(slot);
        let connection = &mut self.connections[slot as usize];
        connection.arrival.pass = None;
        effects.push(Effect::Closed {
            id: connection.id,
            user: connection.user.clone(),
            address: connection.arrival.address,
            code: how.code.get(),
            reason: how.reason.into(),
            category: how.category,
        });
    }

    /// Sends sessions that are behind the next of their log.
    pub(crate) fn catch_up(&mut self, now: Time, sink: &mut impl Sink) {
        for key in std::mem::take(&mut self.catching_up) {
            let Some(slot) = self.find(key) else { continue };
            // Positions start anew with the next turn.
            self.connections[slot as usize].floor = 0;
            let hot = self.hot[slot as usize];
            let Some(session) = self.session(slot) else { continue };
            if !hot.attached() || session.congested || !session.behind() {
                continue;
            }
            let (mut bytes, mut perishable) = (Vec::new(), Vec::new());
            let expired = session.pump(now, &mut bytes, &mut perishable, PUMP_BYTES);
            let more = session.behind();
            self.counters.messages_expired += expired;
            if !bytes.is_empty() {
                sink.shared(&Chunk::new(bytes.into(), &mut perishable), &[hot.socket]);
            }
            if more && !self.catching_up.contains(&key) {
                self.catching_up.push(key);
            }
        }
    }
}

/// What a client is let in with, as its event handler has it; false if it cannot be let in so.
fn accept(connect: &mut Connect, acceptance: Acceptance, question: &Question) -> bool {
    let Acceptance { user, groups, roles, subprotocol } = acceptance;
    if let Some(user) = user {
        connect.user = user;
    }
    if let Some(roles) = roles {
        connect.roles = roles;
    }
    if !groups.is_empty() {
        connect.groups = groups;
    }
    if let Some(chosen) = subprotocol {
        let Some(offered) = question.offered.iter().find(|offered| offered.eq_ignore_ascii_case(&chosen))
        else {
            return false;
        };
        connect.subprotocol = Subprotocol::from_name(offered).unwrap_or(Subprotocol::Raw);
        if let Some(introduction) = &mut connect.introduction {
            introduction.subprotocol = Some(Arc::from(&**offered));
        }
    }
    write_answer(connect, question);
    true
}

/// The 101 of a client that was asked about.
fn write_answer(connect: &mut Connect, question: &Question) {
    let subprotocol =
        connect.introduction.as_ref().and_then(|introduction| introduction.subprotocol.as_deref());
    write_accept(&mut connect.prologue, &question.websocket_key, subprotocol, connect.deflate);
}

/// The reason of an end that came before the beginning.
const REFUSED_LATER: &str = "The connection was refused after the event handler had accepted it.";
