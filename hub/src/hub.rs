//! The hub: connections come, say things, and go.
//!
//! [`Hub::handle`] stands here with the life of connections and the requests of clients; REST calls are in
//! `operation.rs`, agreement with other cores in `interest.rs`, delivery in `flush.rs`.

use crate::connection::{Connection, Format, Hot, NONE};
use crate::directory::{Agreement, Directory, Hash};
use crate::effect::{CloseCategory, CloseHow, Connect, Effect, Recover, Transport};
use crate::flush::{Flush, Scratch};
use crate::group::{Group, Membership};
use crate::interest::Waiter;
use crate::operation::Pending;
use crate::permission::Permissions;
use crate::session::Session;
use crate::turn::Turn;
use crate::{ConnectionId, ConnectionKey, CoreId, Effects, Input, Limits, SocketKey, Ticket, Time};
use crate::{Envelope, MeshItem, Sink};
use hashbrown::HashMap;
use ringhub_protocol::auth::role::Action;
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{AckError, ClientMessage, Data, Sender, Subprotocol, json};
use ringhub_protocol::ws::close::write_close;
use ringhub_protocol::ws::{CloseCode, Opcode, frame};
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;

/// The group every connection is in; it has no name and other cores need not know of it.
pub(crate) const EVERYONE: u32 = 0;

/// Bytes sent to a session that catches up, per turn.
const PUMP_BYTES: usize = 64 << 10;

/// One hub's partition on one core.
pub struct Hub {
    pub(crate) name: HubName,
    pub(crate) core: CoreId,
    pub(crate) cores: u16,
    pub(crate) limits: Limits,
    reconnection_token: Box<dyn Fn(&ConnectionId) -> String>,
    pub(crate) connections: Slab<Connection>,
    /// By connection slot.
    pub(crate) hot: Vec<Hot>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) groups: Slab<Group>,
    pub(crate) group_index: HashMap<Arc<str>, u32, Hash>,
    pub(crate) users: HashMap<UserId, Vec<u32>, Hash>,
    pub(crate) directory: Directory,
    pub(crate) agreements: HashMap<Ticket, Agreement<Waiter>, Hash>,
    /// Clients that wait for agreement on their token's groups.
    connecting: Slab<(Box<Connect>, u32)>,
    pub(crate) pending: HashMap<Ticket, Pending, Hash>,
    next_ticket: u64,
    next_generation: u32,
    pub(crate) turn: Turn,
    scratch: Scratch,
    /// Groups that lost their last member this turn.
    emptied: Vec<u32>,
    /// Slots to free when the turn is flushed.
    ended: Vec<u32>,
    /// Reliable connections whose close frame is in the log: they lose the socket when it is flushed.
    detaching: Vec<u32>,
    /// Sessions that are sent from their log.
    catching_up: Vec<ConnectionKey>,
    overflowed: Vec<ConnectionKey>,
    /// Suspended sessions, first to end first (all wait equally long).
    suspended: VecDeque<(Time, ConnectionKey)>,
    pub(crate) counters: Counters,
}

/// What a hub counts; the engine copies them out at scrape time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections now (reliable sessions without a socket included).
    pub connections: u64,
    /// Sessions now without a socket.
    pub suspended: u64,
    /// Messages of clients and REST calls taken in.
    pub messages_in: u64,
    /// Data messages handed to sockets or replay logs.
    pub messages_out: u64,
    /// Requests refused for a missing role.
    pub forbidden: u64,
    /// Requests answered `Duplicate`.
    pub duplicates: u64,
    /// Events nobody handles.
    pub events_unhandled: u64,
    /// Joins refused because the connection is in too many groups.
    pub groups_refused: u64,
    /// Sessions recovered.
    pub recovered: u64,
    /// Recoveries refused.
    pub recover_refused: u64,
    /// Sessions ended because their replay log was full.
    pub replay_overflow: u64,
    /// Plain clients ended because their outbox was full.
    pub slow_consumers: u64,
    /// Connections refused because the hub is full.
    pub connections_refused: u64,
}

/// One row of the list of connections.
#[derive(Debug, Clone)]
pub struct ConnectionRow {
    /// Its id.
    pub id: ConnectionId,
    /// Its user.
    pub user: Option<UserId>,
    /// What it speaks.
    pub subprotocol: Subprotocol,
    /// Groups it is in.
    pub groups: usize,
    /// Whether it has a socket now.
    pub attached: bool,
    /// When it opened.
    pub opened: Time,
    /// Messages kept for replay.
    pub unacknowledged: u64,
}

impl Hub {
    /// An empty partition of `name` on `core` of `cores`. `seed` seeds the hashes of names clients choose;
    /// `reconnection_token` makes the token a reliable client shows to recover (the engine's MAC; called once
    /// per connected or recovered session).
    pub fn new(
        name: HubName,
        core: CoreId,
        cores: u16,
        seed: u64,
        limits: Limits,
        reconnection_token: Box<dyn Fn(&ConnectionId) -> String>,
    ) -> Self {
        let hash = Hash::with_seed(seed);
        let mut groups = Slab::new();
        groups.insert(Group::new("".into()));
        Self {
            name,
            core,
            cores,
            limits,
            reconnection_token,
            connections: Slab::new(),
            hot: Vec::new(),
            sessions: Slab::new(),
            groups,
            group_index: HashMap::with_hasher(hash.clone()),
            users: HashMap::with_hasher(hash.clone()),
            directory: Directory::new(hash.clone()),
            agreements: HashMap::with_hasher(hash.clone()),
            connecting: Slab::new(),
            pending: HashMap::with_hasher(hash),
            next_ticket: 0,
            next_generation: 0,
            turn: Turn { epoch: 1, ..Turn::default() },
            scratch: Scratch::default(),
            emptied: Vec::new(),
            ended: Vec::new(),
            detaching: Vec::new(),
            catching_up: Vec::new(),
            overflowed: Vec::new(),
            suspended: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &HubName {
        &self.name
    }

    /// Feeds one input. Everything to be done as a result is appended to `effects`; deliveries go to the log.
    pub fn handle(&mut self, now: Time, input: Input<'_>, effects: &mut Effects) {
        match input {
            Input::Connect(connect) => self.connect(now, connect, effects),
            Input::Recover(recover) => self.recover(*recover, effects),
            Input::Message(from, message) => {
                if let Some(slot) = self.attached(from) {
                    self.counters.messages_in += 1;
                    self.message(now, slot, message, effects);
                }
            }
            Input::Raw(from, data) => {
                if let Some(slot) = self.attached(from) {
                    self.counters.messages_in += 1;
                    self.raw(now, slot, data, effects);
                }
            }
            Input::Control(to, bytes) => {
                if let Some(slot) = self.attached(to) {
                    self.turn.frames(slot, |out| out.extend_from_slice(bytes));
                }
            }
            Input::Fault(from, code, reason) => {
                if let Some(slot) = self.attached(from) {
                    let how = Ending { code, reason, category: CloseCategory::BadRequest };
                    self.end(slot, how, effects);
                }
            }
            Input::ClientClose(from, code) => self.client_close(now, from, code, effects),
            Input::SocketLost(from) => self.socket_lost(now, from, effects),
            Input::Congested(from) => {
                if let Some(slot) = self.attached(from)
                    && let Some(session) = self.session(slot)
                {
                    session.congested = true;
                }
            }
            Input::Writable(from) => {
                if let Some(slot) = self.attached(from)
                    && let Some(session) = self.session(slot)
                {
                    session.congested = false;
                    if session.behind() {
                        self.catching_up.push(from.connection);
                    }
                }
            }
            Input::SlowConsumer(from) => {
                if let Some(slot) = self.attached(from) {
                    self.counters.slow_consumers += 1;
                    let reason = "The client reads too slowly.";
                    let how = Ending {
                        code: CloseCode::POLICY_VIOLATION,
                        reason,
                        category: CloseCategory::SlowClient,
                    };
                    self.end_with(slot, how, CloseHow::Abort, effects);
                }
            }
            Input::Operation(request, operation, data) => self.operate(request, operation, data, effects),
            Input::Mesh(from, item) => self.mesh(now, from, item, effects),
            Input::Stop => {
                let reason = "The server is shutting down.";
                let how =
                    Ending { code: CloseCode::GOING_AWAY, reason, category: CloseCategory::ServiceReload };
                for slot in self.live_slots() {
                    self.end(slot, how, effects);
                }
            }
        }
    }

    /// When this hub next wants [`Hub::handle_timeout`], if at all.
    pub fn next_timeout(&self) -> Option<Time> {
        if !self.overflowed.is_empty() {
            return Some(Time::default());
        }
        self.suspended.front().map(|&(time, _)| time)
    }

    /// Runs whatever is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Effects) {
        for key in std::mem::take(&mut self.overflowed) {
            if let Some(slot) = self.find(key) {
                self.counters.replay_overflow += 1;
                let reason = "Too many messages are not acknowledged.";
                let how =
                    Ending { code: CloseCode::POLICY_VIOLATION, reason, category: CloseCategory::SlowClient };
                self.end(slot, how, effects);
            }
        }
        while let Some(&(time, key)) = self.suspended.front()
            && time <= now
        {
            self.suspended.pop_front();
            if let Some(slot) = self.find(key)
                && self.session(slot).is_some_and(|session| session.until == Some(time))
            {
                let reason = "The client did not come back in time.";
                let how = Ending { code: CloseCode::GOING_AWAY, reason, category: CloseCategory::Lost };
                self.end(slot, how, effects);
            }
        }
    }

    /// Whether [`Hub::flush`] has anything to do.
    pub fn is_dirty(&self) -> bool {
        !(self.turn.is_empty()
            && self.ended.is_empty()
            && self.emptied.is_empty()
            && self.detaching.is_empty()
            && self.catching_up.is_empty())
    }

    /// Roughly the bytes in the log: the caller flushes early when they grow large.
    pub fn log_bytes(&self) -> usize {
        self.turn.bytes()
    }

    /// Ends the turn: walks the receivers once and hands their bytes to `sink`.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        let mut flush = Flush {
            turn: &mut self.turn,
            scratch: &mut self.scratch,
            hot: &mut self.hot,
            connections: &mut self.connections,
            sessions: &mut self.sessions,
            groups: &mut self.groups,
            limits: &self.limits,
            counters: &mut self.counters,
            overflowed: &mut self.overflowed,
        };
        flush.run(sink);
        self.catch_up(sink);
        for slot in self.detaching.drain(..) {
            // Recovered meanwhile if the cut is gone.
            if let Some(connection) = self.connections.get_mut(slot as usize)
                && connection.cut != u32::MAX
            {
                connection.cut = u32::MAX;
                self.hot[slot as usize].socket = Hot::NO_SOCKET;
                self.sessions[self.hot[slot as usize].session as usize].detach();
            }
        }
        for stream in &self.turn.streams[..self.turn.open] {
            let group = &mut self.groups[stream.group as usize];
            group.stream = None;
            group.compact(stream.group, &mut self.connections);
        }
        self.turn.clear();
        for slot in self.ended.drain(..) {
            let session = self.hot[slot as usize].session;
            if session != NONE {
                self.sessions.remove(session as usize);
            }
            self.connections.remove(slot as usize);
            self.hot[slot as usize].socket = Hot::NO_SOCKET;
        }
        for index in self.emptied.drain(..) {
            if self.groups.get(index as usize).is_some_and(|group| index != EVERYONE && group.is_unused()) {
                let group = self.groups.remove(index as usize);
                self.group_index.remove(&group.name);
            }
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Groups with members on this core, and groups other cores have members of.
    pub fn group_counts(&self) -> (usize, usize) {
        (self.group_index.len(), self.directory.len())
    }

    /// Connections in slot order, at most `max`, from slot `from` on.
    pub fn connections(&self, from: u32, max: usize) -> Vec<ConnectionRow> {
        let from = self.connections.iter().skip_while(|(slot, _)| *slot < from as usize);
        let rows = from.filter(|(_, connection)| !connection.ended).take(max);
        rows.map(|(slot, connection)| ConnectionRow {
            id: connection.id,
            user: connection.user.clone(),
            subprotocol: connection.subprotocol(),
            groups: connection.memberships.len() - 1,
            attached: self.hot[slot].attached(),
            opened: connection.opened,
            unacknowledged: self
                .sessions
                .get(self.hot[slot].session as usize)
                .map_or(0, |s| u64::from(s.messages)),
        })
        .collect()
    }
}

/// What a client is told when it is closed, and how that is counted.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'a str,
    pub(crate) category: CloseCategory,
}

/// Coming and going.
impl Hub {
    fn connect(&mut self, now: Time, connect: Box<Connect>, effects: &mut Effects) {
        if self.connections.len() + self.connecting.len() >= self.limits.connections_max {
            self.counters.connections_refused += 1;
            return effects.push(Effect::ConnectRefused(connect.socket));
        }
        let groups: Vec<u32> = connect.groups.iter().map(|group| self.group(group.as_str())).collect();
        let entry = self.connecting.vacant_key();
        let mut waiting = 0;
        for index in groups {
            self.groups[index as usize].reserved += 1;
            waiting += u32::from(self.announce(index, Waiter::Connect(entry), effects).is_some());
        }
        self.connecting.insert((connect, waiting));
        if waiting == 0 {
            self.open(now, entry, effects);
        }
    }

    /// One of the agreements a connecting client waits for has come.
    pub(crate) fn connect_agreed(&mut self, now: Time, entry: usize, effects: &mut Effects) {
        self.connecting[entry].1 -= 1;
        if self.connecting[entry].1 == 0 {
            self.open(now, entry, effects);
        }
    }

    fn open(&mut self, now: Time, entry: usize, effects: &mut Effects) {
        let connect = *self.connecting.remove(entry).0;
        let format = Format::of(connect.subprotocol);
        self.next_generation = self.next_generation.wrapping_add(1);
        let slot = self.connections.vacant_key() as u32;
        let key = ConnectionKey { slot, generation: self.next_generation };
        let id = ConnectionId { node: 0, core: self.core, slot, random: connect.random };
        let roles = connect.roles.iter().map(|role| &**role);
        self.connections.insert(Connection {
            id,
            generation: key.generation,
            format,
            ended: false,
            user: connect.user,
            permissions: Permissions::from_roles(roles, &self.limits),
            memberships: Vec::with_capacity(1 + connect.groups.len()),
            acks: Default::default(),
            raw_group: connect.raw_group.map(Box::new),
            opened: now,
            floor: 0,
            cut: u32::MAX,
        });
        let session = match format {
            Format::Reliable => self.sessions.insert(Session::new()) as u32,
            Format::Raw | Format::Json => NONE,
        };
        let hot = Hot { socket: connect.socket, epoch: 0, mixed: NONE, session };
        match self.hot.get_mut(slot as usize) {
            Some(place) => *place = hot,
            None => self.hot.push(hot),
        }
        let greeting = self.greeting(slot, connect.prologue);
        self.turn.frames(slot, |out| out.extend_from_slice(&greeting));
        if let Some(user) = &self.connections[slot as usize].user {
            self.users.entry(user.clone()).or_default().push(slot);
        }
        self.join(slot, EVERYONE);
        for group in &connect.groups {
            let index = self.group(group.as_str());
            self.groups[index as usize].reserved -= 1;
            if self.may_join_one_more(slot, index) {
                self.join(slot, index);
            } else {
                self.counters.groups_refused += 1;
                self.release(index, effects);
            }
        }
        self.counters.connections += 1;
        effects.push(Effect::Opened(Transport { connection: key, socket: connect.socket }));
    }

    /// The upgrade's answer, and `connected` for PubSub clients.
    fn greeting(&self, slot: u32, mut prologue: Vec<u8>) -> Vec<u8> {
        let Connection { id, user, format, .. } = &self.connections[slot as usize];
        if *format != Format::Raw {
            let token = (*format == Format::Reliable).then(|| (self.reconnection_token)(id));
            let user = user.as_ref().map(UserId::as_str);
            frame::write_frame_with(&mut prologue, Opcode::Text, 300, |out| {
                json::connected(out, user, id.text().as_str(), token.as_deref());
            });
        }
        prologue
    }

    fn recover(&mut self, recover: Recover, effects: &mut Effects) {
        let Recover { socket, id, prologue } = recover;
        let slot = self.by_id(&id).filter(|&slot| self.hot[slot as usize].session != NONE);
        let Some(slot) = slot else {
            self.counters.recover_refused += 1;
            return effects.push(Effect::RecoverRefused(socket, prologue));
        };
        self.counters.recovered += 1;
        let old = std::mem::replace(&mut self.hot[slot as usize].socket, socket);
        let connection = &mut self.connections[slot as usize];
        (connection.floor, connection.cut) = (self.turn.position, u32::MAX);
        let key = ConnectionKey { slot, generation: connection.generation };
        if old.slot != NONE {
            effects.push(Effect::Close(old, CloseHow::Abort));
        }
        let greeting = self.greeting(slot, prologue);
        let session = &mut self.sessions[self.hot[slot as usize].session as usize];
        if session.until.take().is_some() {
            self.counters.suspended -= 1;
        }
        session.greet(greeting);
        self.catching_up.push(key);
        effects.push(Effect::Opened(Transport { connection: key, socket }));
    }

    fn client_close(&mut self, now: Time, from: Transport, code: Option<CloseCode>, effects: &mut Effects) {
        let Some(slot) = self.attached(from) else { return };
        self.turn.frames(slot, |out| write_close(out, code, ""));
        effects.push(Effect::Close(from.socket, CloseHow::Finish));
        if self.hot[slot as usize].session != NONE && code != Some(CloseCode::NORMAL) {
            self.connections[slot as usize].cut = self.turn.position;
            self.detaching.push(slot);
            self.suspend(now, slot);
        } else {
            let code = code.unwrap_or(CloseCode::NORMAL);
            let how =
                Ending { code, reason: "The client closed the connection.", category: CloseCategory::Normal };
            self.forget(slot, how, effects);
        }
    }

    fn socket_lost(&mut self, now: Time, from: Transport, effects: &mut Effects) {
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

    fn suspend(&mut self, now: Time, slot: u32) {
        let until = now.after_ms(self.limits.recovery_window_ms + self.limits.recovery_grace_ms);
        let key = ConnectionKey { slot, generation: self.connections[slot as usize].generation };
        self.sessions[self.hot[slot as usize].session as usize].until = Some(until);
        self.suspended.push_back((until, key));
        self.counters.suspended += 1;
    }

    /// Ends a connection: `disconnected` and a close frame if it has a socket.
    pub(crate) fn end(&mut self, slot: u32, how: Ending<'_>, effects: &mut Effects) {
        self.end_with(slot, how, CloseHow::Handshake, effects);
    }

    fn end_with(&mut self, slot: u32, how: Ending<'_>, socket_how: CloseHow, effects: &mut Effects) {
        let hot = self.hot[slot as usize];
        if hot.attached() {
            if self.connections[slot as usize].format != Format::Raw {
                self.turn.frames(slot, |out| {
                    frame::write_frame_with(out, Opcode::Text, how.reason.len() + 60, |out| {
                        json::disconnected(out, how.reason);
                    });
                });
            }
            self.turn.frames(slot, |out| write_close(out, Some(how.code), how.reason));
            effects.push(Effect::Close(hot.socket, socket_how));
        }
        self.forget(slot, how, effects);
    }

    /// Takes a connection out of everything; its slot stays until the turn is flushed.
    fn forget(&mut self, slot: u32, how: Ending<'_>, effects: &mut Effects) {
        for Membership { group, position } in std::mem::take(&mut self.connections[slot as usize].memberships)
        {
            self.leave_at(slot, group, position, effects);
        }
        let connection = &mut self.connections[slot as usize];
        connection.ended = true;
        if let Some(user) = &connection.user
            && let hashbrown::hash_map::EntryRef::Occupied(mut entry) = self.users.entry_ref(user)
        {
            entry.get_mut().retain(|&other| other != slot);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        if self.session(slot).is_some_and(|session| session.until.take().is_some()) {
            self.counters.suspended -= 1;
        }
        self.counters.connections -= 1;
        self.ended.push(slot);
        let connection = &self.connections[slot as usize];
        effects.push(Effect::Closed {
            id: connection.id,
            user: connection.user.clone(),
            code: how.code.get(),
            reason: how.reason.into(),
            category: how.category,
        });
    }

    fn catch_up(&mut self, sink: &mut impl Sink) {
        for key in std::mem::take(&mut self.catching_up) {
            let Some(slot) = self.find(key) else { continue };
            // Positions start anew with the next turn.
            self.connections[slot as usize].floor = 0;
            let hot = self.hot[slot as usize];
            let Some(session) = self.session(slot) else { continue };
            if !hot.attached() || session.congested || !session.behind() {
                continue;
            }
            let mut chunk = Vec::new();
            session.pump(&mut chunk, PUMP_BYTES);
            let more = session.behind();
            sink.shared(&chunk.into(), &[hot.socket]);
            if more && !self.catching_up.contains(&key) {
                self.catching_up.push(key);
            }
        }
    }
}

/// Requests of clients.
impl Hub {
    fn message(&mut self, now: Time, slot: u32, message: ClientMessage<'_>, effects: &mut Effects) {
        match message {
            ClientMessage::JoinGroup { group, ack_id } => {
                if self.repeated(slot, ack_id) || self.denied(slot, Action::JoinLeaveGroup, &group, ack_id) {
                    return;
                }
                let index = self.group(group.as_str());
                if !self.may_join_one_more(slot, index) {
                    self.counters.groups_refused += 1;
                    self.release(index, effects);
                    return self.nack(
                        slot,
                        ack_id,
                        AckError::BadRequest,
                        "The connection is in too many groups.",
                    );
                }
                self.join(slot, index);
                let key = ConnectionKey { slot, generation: self.connections[slot as usize].generation };
                if self.announce(index, Waiter::Ack(key, ack_id), effects).is_none() {
                    self.ack(slot, ack_id);
                }
            }
            ClientMessage::LeaveGroup { group, ack_id } => {
                if self.repeated(slot, ack_id) || self.denied(slot, Action::JoinLeaveGroup, &group, ack_id) {
                    return;
                }
                if let Some(&index) = self.group_index.get(group.as_str()) {
                    self.leave(slot, index, effects);
                }
                self.ack(slot, ack_id);
            }
            ClientMessage::SendToGroup { group, ack_id, no_echo, data } => {
                if self.repeated(slot, ack_id) || self.denied(slot, Action::SendToGroup, &group, ack_id) {
                    return;
                }
                self.publish_from(slot, group.as_str(), no_echo, data, effects);
                self.ack(slot, ack_id);
            }
            ClientMessage::Event { ack_id, .. } => {
                if self.repeated(slot, ack_id) {
                    return;
                }
                self.counters.events_unhandled += 1;
                self.nack(
                    slot,
                    ack_id,
                    AckError::InternalServerError,
                    "No event handler is configured for this event.",
                );
            }
            ClientMessage::SequenceAck { sequence_id } => {
                if let Some(session) = self.session(slot) {
                    session.acknowledge(sequence_id);
                }
            }
            ClientMessage::Ping => self.text(slot, 16, json::pong),
            ClientMessage::Invoke { invocation_id } => self.text(slot, 160, |out| {
                json::invoke_refused(
                    out,
                    &invocation_id,
                    AckError::NotFound,
                    "No event handler is configured.",
                );
            }),
            ClientMessage::CancelInvocation => {}
            ClientMessage::Stream { stream_id } => self.text(slot, 160, |out| {
                json::stream_closed(out, &stream_id, "BadRequest", "Streams are not supported.");
            }),
            ClientMessage::GroupState { ack_id } => {
                self.nack(slot, ack_id, AckError::BadRequest, "Group state is not supported.");
            }
        }
        let _ = now;
    }

    fn raw(&mut self, _now: Time, slot: u32, data: Data<'_>, effects: &mut Effects) {
        let Some((group, no_echo)) = self.connections[slot as usize].raw_group.as_deref().cloned() else {
            self.counters.events_unhandled += 1;
            let reason = "No event handler is configured for this event.";
            let category = CloseCategory::EventHandlerNotFound;
            return self.end(slot, Ending { code: CloseCode::INTERNAL_ERROR, reason, category }, effects);
        };
        if !self.connections[slot as usize].permissions.allows(Action::SendToGroup, group.as_str()) {
            self.counters.forbidden += 1;
            let reason = "The client does not have permission to send to the group.";
            let category = CloseCategory::Unauthorized;
            return self.end(slot, Ending { code: CloseCode::POLICY_VIOLATION, reason, category }, effects);
        }
        self.publish_from(slot, group.as_str(), no_echo, data, effects);
    }

    /// A client's publication: to the members here, and once to each core that has others.
    fn publish_from(&mut self, slot: u32, group: &str, no_echo: bool, data: Data<'_>, effects: &mut Effects) {
        let user = self.connections[slot as usize].user.clone();
        let sender = Sender::Group { group, user: user.as_ref().map(UserId::as_str) };
        if let Some(&index) = self.group_index.get(group) {
            let Self { turn, groups, connections, .. } = self;
            let group = &mut groups[index as usize];
            if group.len() > 0 {
                let stream = turn.publish(index, group, sender, data);
                if no_echo && connections[slot as usize].membership(index).is_ok() {
                    stream.excluded.push((slot, stream.entries.len() as u32 - 1));
                }
            }
        }
        let cores = self.directory.cores(group);
        if !cores.is_empty() {
            let user = user.map(|user| user.as_str().into());
            let envelope =
                Envelope::new(crate::envelope::EnvelopeTarget::Group(group.into(), user), None, data);
            for core in cores.iter() {
                effects.push(Effect::Forward(core, MeshItem::Publish(envelope.clone(), None)));
            }
        }
    }

    /// Whether the request has succeeded before; it then gets its `Duplicate`.
    fn repeated(&mut self, slot: u32, ack_id: Option<u64>) -> bool {
        let Some(id) = ack_id.filter(|&id| self.connections[slot as usize].acks.contains(id)) else {
            return false;
        };
        self.counters.duplicates += 1;
        self.nack(
            slot,
            ack_id,
            AckError::Duplicate,
            &format!("Message with ack-id: {id} has been processed"),
        );
        true
    }

    fn denied(&mut self, slot: u32, action: Action, group: &GroupName<'_>, ack_id: Option<u64>) -> bool {
        if self.connections[slot as usize].permissions.allows(action, group.as_str()) {
            return false;
        }
        self.counters.forbidden += 1;
        if ack_id.is_some() {
            let verb = match action {
                Action::JoinLeaveGroup => "join or leave",
                Action::SendToGroup => "send to",
            };
            let message =
                format!("The client does not have permission to {verb} group '{}'.", group.as_str());
            self.nack(slot, ack_id, AckError::Forbidden, &message);
        }
        true
    }

    /// The request succeeded; its effects are in the log already.
    pub(crate) fn ack(&mut self, slot: u32, ack_id: Option<u64>) {
        let Some(id) = ack_id else { return };
        if self.repeated(slot, ack_id) {
            return;
        }
        self.connections[slot as usize].acks.insert(id, self.limits.ack_ids_max);
        self.text(slot, 40, |out| json::ack(out, id, Ok(())));
    }

    pub(crate) fn nack(&mut self, slot: u32, ack_id: Option<u64>, error: AckError, message: &str) {
        if let Some(id) = ack_id {
            self.text(slot, message.len() + 100, |out| json::ack(out, id, Err((error, message))));
        }
    }

    /// Logs one text frame for one connection.
    fn text(&mut self, slot: u32, expected_len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.turn.frames(slot, |out| frame::write_frame_with(out, Opcode::Text, expected_len, write));
    }
}

/// Looking things up, joining and leaving.
impl Hub {
    pub(crate) fn find(&self, key: ConnectionKey) -> Option<u32> {
        let connection = self.connections.get(key.slot as usize)?;
        (connection.generation == key.generation && !connection.ended).then_some(key.slot)
    }

    /// The connection's slot, if it still holds the socket and its close frame is not yet in the log.
    fn attached(&self, from: Transport) -> Option<u32> {
        let slot = self.find(from.connection)?;
        let holds =
            self.hot[slot as usize].socket == from.socket && self.connections[slot as usize].cut == u32::MAX;
        holds.then_some(slot)
    }

    /// The connection with this id, if it is one of this core's.
    pub(crate) fn by_id(&self, id: &ConnectionId) -> Option<u32> {
        let connection = self.connections.get(id.slot as usize)?;
        (connection.id == *id && !connection.ended).then_some(id.slot)
    }

    pub(crate) fn session(&mut self, slot: u32) -> Option<&mut Session> {
        self.sessions.get_mut(self.hot[slot as usize].session as usize)
    }

    pub(crate) fn live_slots(&self) -> Vec<u32> {
        let live = self.connections.iter().filter(|(_, connection)| !connection.ended);
        live.map(|(slot, _)| slot as u32).collect()
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// The group of this name, made if there is none. The caller makes it used, or lists it as emptied.
    pub(crate) fn group(&mut self, name: &str) -> u32 {
        if let Some(&index) = self.group_index.get(name) {
            return index;
        }
        let name: Arc<str> = name.into();
        let index = self.groups.insert(Group::new(Arc::clone(&name))) as u32;
        self.group_index.insert(name, index);
        index
    }

    /// If nobody is or will be a member of the group, the other cores are told, and it goes when the turn is
    /// flushed unless it is used again by then.
    pub(crate) fn release(&mut self, index: u32, effects: &mut Effects) {
        if index != EVERYONE && self.groups[index as usize].is_unused() {
            self.withdraw(index, effects);
            self.emptied.push(index);
        }
    }

    /// Whether the bound on groups allows this connection to be in `group`.
    pub(crate) fn may_join_one_more(&self, slot: u32, group: u32) -> bool {
        let connection = &self.connections[slot as usize];
        connection.membership(group).is_ok()
            || connection.memberships.len() <= self.limits.groups_per_connection_max
    }

    /// Makes the connection a member, if it is not.
    pub(crate) fn join(&mut self, slot: u32, index: u32) {
        let connection = &mut self.connections[slot as usize];
        let Err(at) = connection.membership(index) else { return };
        let group = &mut self.groups[index as usize];
        self.turn.before_join(group);
        let position = group.push(connection.format, slot);
        connection.memberships.insert(at, Membership { group: index, position });
    }

    /// Takes the connection out, if it is a member.
    pub(crate) fn leave(&mut self, slot: u32, index: u32, effects: &mut Effects) {
        let connection = &mut self.connections[slot as usize];
        let Ok(at) = connection.membership(index) else { return };
        let Membership { position, .. } = connection.memberships.remove(at);
        self.leave_at(slot, index, position, effects);
    }

    fn leave_at(&mut self, slot: u32, index: u32, position: u32, effects: &mut Effects) {
        let group = &mut self.groups[index as usize];
        let format = self.connections[slot as usize].format;
        self.turn.before_leave(group, format, position, slot);
        if let Some(moved) = group.remove(format, position) {
            self.connections[moved as usize].moved(index, position);
        }
        self.release(index, effects);
    }
}

/// Whose socket this is, for tests and the simulator.
#[doc(hidden)]
impl Hub {
    /// The socket a connection holds.
    pub fn socket_of(&self, key: ConnectionKey) -> Option<SocketKey> {
        self.find(key).map(|slot| self.hot[slot as usize].socket)
    }
}
