//! The hub: one core's share, and its four verbs.
//!
//! The verbs stand here, with looking things up. The life of connections is in `lifecycle.rs`, requests of
//! clients in `request.rs`, REST calls in `operation.rs`, agreement with other cores in `interest.rs`, delivery in
//! `flush.rs`.

use crate::Sink;
use crate::connection::{Connection, Hot, NONE};
use crate::conversation::Asked;
use crate::directory::{Agreement, Directory, Hash};
use crate::effect::{CloseCategory, CloseHow, Transport};
use crate::event::{Reply, Routes};
use crate::fan::Budget;
use crate::flush::{Flush, Scratch};
use crate::group::{Group, Membership};
use crate::interest::Waiter;
use crate::lifecycle::{Connecting, Ending, SHUTTING_DOWN};
use crate::operation::Pending;
use crate::press::{Press, Pressed, SharedDeflater};
use crate::session::Session;
use crate::turn::{Stage, Turn};
use crate::users::Users;
use crate::{
    ConnectionId, ConnectionKey, CoreId, Effect, Effects, Input, Limits, Paged, Pass, SocketKey, Ticket, Time,
};
use core::net::IpAddr;
use hashbrown::HashMap;
use ringhub_protocol::name::{HubName, UserId};
use ringhub_protocol::pubsub::Subprotocol;
use ringhub_protocol::ws::CloseCode;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The group every connection is in; it has no name and other cores need not know of it.
pub(crate) const EVERYONE: u32 = 0;

/// One hub's partition on one core.
pub struct Hub {
    pub(crate) name: HubName,
    pub(crate) core: CoreId,
    pub(crate) cores: u16,
    pub(crate) limits: Limits,
    pub(crate) reconnection_token: Box<dyn Fn(&ConnectionId) -> String>,
    pub(crate) connections: Paged<Connection>,
    /// By connection slot.
    pub(crate) hot: Vec<Hot>,
    pub(crate) sessions: Paged<Session>,
    pub(crate) groups: Paged<Group>,
    pub(crate) group_index: HashMap<Arc<str>, u32, Hash>,
    pub(crate) users: Users,
    pub(crate) directory: Directory,
    pub(crate) agreements: HashMap<Ticket, Agreement<Waiter>, Hash>,
    /// Clients that wait for an event handler, or for agreement on their groups.
    pub(crate) connecting: Paged<Connecting>,
    /// Who wants to hear what happens, if anybody does.
    pub(crate) routes: Option<Arc<Routes>>,
    /// Whether one of them wants to hear who joins and leaves.
    pub(crate) tells_presence: bool,
    /// Events whose answer is still to come.
    pub(crate) questions: HashMap<Ticket, Asked, Hash>,
    pub(crate) is_short_of_memory: bool,
    /// What waits of connections that are gone, about, in bytes.
    pub(crate) departed_bytes: usize,
    pub(crate) pending: HashMap<Ticket, Pending, Hash>,
    pub(crate) next_ticket: u64,
    pub(crate) next_generation: u32,
    pub(crate) turn: Turn,
    pub(crate) scratch: Scratch,
    /// Groups that lost their last member; they go when the log holds nothing of theirs.
    pub(crate) emptied: Vec<u32>,
    /// Slots to free when the turn is flushed.
    pub(crate) ended: Vec<u32>,
    /// Reliable connections whose close frame is in the log: they lose the socket when it is flushed.
    pub(crate) detaching: Vec<u32>,
    /// Sessions that are sent from their log.
    pub(crate) catching_up: Vec<ConnectionKey>,
    pub(crate) overflowed: Vec<ConnectionKey>,
    /// Suspended sessions, first to end first.
    pub(crate) suspended: VecDeque<(Time, ConnectionKey)>,
    /// When connections were opened, oldest first, if their lifetime is bounded; some may have ended.
    pub(crate) aging: VecDeque<(Time, ConnectionKey)>,
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
    /// Publications, events, invocations and joins of clients refused because memory was short.
    pub refused_for_memory: u64,
    /// Events that handlers were asked about, or only listeners heard.
    pub events: u64,
    /// Events whose handler gave no usable answer.
    pub events_failed: u64,
    /// Times nothing more was read from a client because as many of its events waited as may.
    pub events_held: u64,
    /// Events nobody was asked about because their client left and those of others like it took all the room.
    pub events_dropped: u64,
    /// Events nobody handles.
    pub events_unhandled: u64,
    /// Joins refused because the connection is in too many groups.
    pub groups_refused: u64,
    /// Permissions not changed because the connection has too many rules.
    pub permissions_refused: u64,
    /// Sessions recovered.
    pub recovered: u64,
    /// Recoveries refused.
    pub recover_refused: u64,
    /// Messages dropped from replay logs unsent because their time was over.
    pub messages_expired: u64,
    /// Sessions ended because their replay log was full.
    pub replay_overflow: u64,
    /// Plain clients ended because their outbox was full.
    pub slow_consumers: u64,
    /// Connections refused because the hub is full.
    pub connections_refused: u64,
    /// Connections closed because they had lasted as long as they may.
    pub lifetimes_ended: u64,
    /// Flushes that left a fan-out unfinished because it was too large for their budget.
    pub flushes_sliced: u64,
    /// Flushes that served more than their budget because too much had gathered behind unfinished fan-outs.
    pub flushes_forced: u64,
    /// Messages deflated: each once for all clients that speak the same.
    pub messages_deflated: u64,
    /// Their bytes before.
    pub deflate_bytes_in: u64,
    /// Their bytes afterwards.
    pub deflate_bytes_out: u64,
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
    /// The client's address.
    pub address: Option<IpAddr>,
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
        let mut groups = Paged::new();
        groups.insert(Group::new("".into()));
        Self {
            name,
            core,
            cores,
            limits,
            reconnection_token,
            connections: Paged::new(),
            hot: Vec::new(),
            sessions: Paged::new(),
            groups,
            group_index: HashMap::with_hasher(hash.clone()),
            users: Users::new(hash.clone()),
            directory: Directory::new(hash.clone()),
            agreements: HashMap::with_hasher(hash.clone()),
            connecting: Paged::new(),
            routes: None,
            tells_presence: false,
            questions: HashMap::with_hasher(hash.clone()),
            is_short_of_memory: false,
            departed_bytes: 0,
            pending: HashMap::with_hasher(hash),
            next_ticket: 0,
            next_generation: 0,
            turn: Turn { epoch: 1, press: Press::new(limits.deflate_bytes_min), ..Turn::default() },
            scratch: Scratch::default(),
            emptied: Vec::new(),
            ended: Vec::new(),
            detaching: Vec::new(),
            catching_up: Vec::new(),
            overflowed: Vec::new(),
            suspended: VecDeque::new(),
            aging: VecDeque::new(),
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
                    self.raw(slot, data, effects);
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
            Input::Shed(key) => {
                if let Some(slot) = self.find(key) {
                    let how = Ending {
                        code: CloseCode::POLICY_VIOLATION,
                        reason: "The server is short of memory, and too much waits for the client.",
                        category: CloseCategory::SlowClient,
                    };
                    self.drop_waiting_events(slot);
                    self.end_with(slot, how, CloseHow::Abort, effects);
                }
            }
            Input::Throttled(from) => {
                if let Some(slot) = self.attached(from) {
                    let how = Ending {
                        code: CloseCode::POLICY_VIOLATION,
                        reason: "The client sends more than it may.",
                        category: CloseCategory::Throttled,
                    };
                    self.end(slot, how, effects);
                }
            }
            Input::Operation(request, operation, content) => {
                self.operate(now, request, operation, content, effects);
            }
            Input::Reply(ticket, reply) => match self.questions.remove(&ticket) {
                Some(Asked::Connecting(entry)) => self.connect_replied(now, entry, reply, effects),
                Some(Asked::Refused(end)) if matches!(reply, Reply::Accepted(_)) => {
                    effects.push(Effect::Event(end));
                }
                Some(Asked::Connection(key)) => self.event_replied(key, reply, effects),
                Some(Asked::Departed(departed)) => self.departed_replied(departed, effects),
                Some(Asked::Refused(_)) | None => {}
            },
            Input::Mesh(from, item) => self.mesh(now, from, item, effects),
            Input::Drain(from) => {
                if let Some(slot) = self.attached(from) {
                    self.end(slot, SHUTTING_DOWN, effects);
                }
            }
            Input::Stop => {
                self.refuse_connecting(effects);
                for slot in self.live_slots() {
                    self.end(slot, SHUTTING_DOWN, effects);
                }
            }
            Input::GiveUp => self.give_up_questions(effects),
        }
    }

    /// When this hub next wants [`Hub::handle_timeout`], if at all.
    pub fn next_timeout(&self) -> Option<Time> {
        if !self.overflowed.is_empty() {
            return Some(Time::default());
        }
        let suspended = self.suspended.front().map(|&(time, _)| time);
        suspended.into_iter().chain(self.next_aged()).min()
    }

    /// Runs whatever is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Effects) {
        for key in std::mem::take(&mut self.overflowed) {
            let Some(slot) = self.find(key) else { continue };
            let session = &mut self.sessions[self.hot[slot as usize].session as usize];
            self.counters.messages_expired += session.purge(now);
            if session.is_over(&self.limits) {
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
        self.end_aged(now, effects);
    }

    /// From now on these bounds hold, for connections that are there too. What was counted or kept under larger
    /// ones stays; it only cannot grow.
    pub fn set_limits(&mut self, limits: Limits) {
        self.turn.press.bytes_min = limits.deflate_bytes_min;
        let lifetime_ms = std::mem::replace(&mut self.limits, limits).lifetime_ms;
        if (lifetime_ms == 0) != (limits.lifetime_ms == 0) {
            self.restart_aging();
        }
    }

    /// Deflates with what is given, so that all hubs of a core share one codec; before that a hub has its own.
    pub fn set_deflater(&mut self, deflater: SharedDeflater) {
        self.turn.press.deflater = deflater;
    }

    /// Whether memory is short from now on: then requests that take some are refused if they can be, those with an ack
    /// id and invocations.
    pub fn set_short_of_memory(&mut self, is_short: bool) {
        self.is_short_of_memory = is_short;
    }

    /// What is kept for connections, in bytes, for those that keep anything: the logs of sessions, and events that
    /// wait for their handler. Members of a group keep the same bytes in their logs, so all together may be far less
    /// than their sum.
    pub fn kept_bytes(&self) -> impl Iterator<Item = (ConnectionKey, usize)> {
        self.connections.iter().filter_map(|(slot, connection)| {
            let session = self.sessions.get(self.hot[slot].session as usize);
            let waiting =
                connection.conversation.as_ref().map_or(0, |conversation| conversation.waiting_bytes());
            let bytes = session.map_or(0, |session| session.bytes) + waiting;
            let key = ConnectionKey { slot: slot as u32, generation: connection.generation };
            (bytes > 0 && !connection.absent).then_some((key, bytes))
        })
    }

    /// What the outside holds for a connection.
    pub fn pass(&self, key: ConnectionKey) -> Option<&Pass> {
        self.connections[self.find(key)? as usize].arrival.pass.as_ref()
    }

    /// What a connection speaks.
    pub fn subprotocol(&self, key: ConnectionKey) -> Option<Subprotocol> {
        Some(self.connections[self.find(key)? as usize].subprotocol())
    }

    /// Whether a connection's client can inflate, and deflates itself if it likes.
    pub fn is_deflated(&self, key: ConnectionKey) -> bool {
        self.find(key).is_some_and(|slot| self.connections[slot as usize].format.is_deflated())
    }

    /// Whether a reliable client has a socket and is still to be sent some of what is kept for it: closed now, it
    /// would not get it.
    pub fn is_behind(&self, key: ConnectionKey) -> bool {
        let hot = self.find(key).map(|slot| self.hot[slot as usize]).filter(|hot| hot.attached());
        let session = hot.and_then(|hot| self.sessions.get(hot.session as usize));
        session.is_some_and(|session| session.congested || session.behind())
    }

    /// Whether a session without a socket keeps messages that its client has not confirmed and that are worth sending
    /// at `now`: it comes back for them.
    pub fn is_awaited(&self, now: Time) -> bool {
        self.suspended.iter().any(|&(until, key)| {
            let hot = self.find(key).map(|slot| self.hot[slot as usize]);
            let session = hot.and_then(|hot| self.sessions.get(hot.session as usize));
            session.is_some_and(|session| session.until == Some(until) && session.keeps_any(now))
        })
    }

    /// Whether [`Hub::flush`] has anything to do.
    pub fn is_dirty(&self) -> bool {
        !(self.turn.is_empty()
            && self.ended.is_empty()
            && self.emptied.is_empty()
            && self.detaching.is_empty()
            && self.catching_up.is_empty())
    }

    /// Whether a fan-out is unfinished: it was too large for the last flush.
    pub fn is_slicing(&self) -> bool {
        self.turn.open > 0 && self.turn.streams[0].stage != Stage::Open
    }

    /// Ends the turn: walks the receivers once and hands their bytes to `sink`. Fan-outs too large for `budget`
    /// are delivered in slices: until they are finished [`Hub::is_dirty`] holds, and each flush serves some.
    /// Returns roughly how many sends that was, as the budget counts them.
    pub fn flush(&mut self, now: Time, sink: &mut impl Sink, budget: Budget) -> u32 {
        if !self.turn.is_over_bound() {
            let (served, forced) = self.end_turn(now, sink, budget);
            self.counters.flushes_sliced += u64::from(self.is_slicing());
            self.counters.flushes_forced += u64::from(forced);
            return served;
        }
        self.counters.flushes_forced += 1;
        let mut served: u32 = 0;
        // The second time delivers what was held.
        while self.is_slicing() {
            served = served.saturating_add(self.end_turn(now, sink, Budget::UNLIMITED).0);
        }
        served
    }

    /// Returns how many receivers it served, and whether a bound made it serve more than `budget` allows.
    fn end_turn(&mut self, now: Time, sink: &mut impl Sink, budget: Budget) -> (u32, bool) {
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
            served: 0,
            forced: false,
        };
        flush.run(sink, budget);
        let outcome = (flush.served, flush.forced);
        let Pressed { messages, bytes_in, bytes_out } = self.turn.press.pressed;
        self.counters.messages_deflated = messages;
        (self.counters.deflate_bytes_in, self.counters.deflate_bytes_out) = (bytes_in, bytes_out);
        self.catch_up(now, sink);
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
        for slot in self.ended.drain(..) {
            let session = self.hot[slot as usize].session;
            if session != NONE {
                self.sessions.remove(session as usize);
            }
            self.connections.remove(slot as usize);
            self.hot[slot as usize].socket = Hot::NO_SOCKET;
        }
        let Self { emptied, groups, group_index, .. } = self;
        emptied.retain(|&index| {
            let Some(group) = groups.get(index as usize) else { return false };
            if group.is_logged() {
                return true;
            }
            if index != EVERYONE && group.is_unused() {
                group_index.remove(&group.name);
                groups.remove(index as usize);
            }
            false
        });
        outcome
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
        let rows = from.filter(|(_, connection)| !connection.absent).take(max);
        rows.map(|(slot, connection)| ConnectionRow {
            id: connection.id,
            user: connection.user.clone(),
            subprotocol: connection.subprotocol(),
            groups: connection.memberships.len() - 1,
            attached: self.hot[slot].attached(),
            address: connection.arrival.address,
            opened: connection.opened,
            unacknowledged: self
                .sessions
                .get(self.hot[slot].session as usize)
                .map_or(0, |s| u64::from(s.messages)),
        })
        .collect()
    }
}

/// Looking things up, joining and leaving.
impl Hub {
    pub(crate) fn find(&self, key: ConnectionKey) -> Option<u32> {
        let connection = self.connections.get(key.slot as usize)?;
        (connection.generation == key.generation && !connection.absent).then_some(key.slot)
    }

    /// The connection's slot, if it still holds the socket and its close frame is not yet in the log.
    pub(crate) fn attached(&self, from: Transport) -> Option<u32> {
        let slot = self.find(from.connection)?;
        let holds =
            self.hot[slot as usize].socket == from.socket && self.connections[slot as usize].cut == u32::MAX;
        holds.then_some(slot)
    }

    /// The connection with this id, if it is one of this core's.
    pub(crate) fn by_id(&self, id: &ConnectionId) -> Option<u32> {
        let connection = self.connections.get(id.slot as usize)?;
        (connection.id == *id && !connection.absent).then_some(id.slot)
    }

    pub(crate) fn session(&mut self, slot: u32) -> Option<&mut Session> {
        self.sessions.get_mut(self.hot[slot as usize].session as usize)
    }

    pub(crate) fn live_slots(&self) -> Vec<u32> {
        let live = self.connections.iter().filter(|(_, connection)| !connection.absent);
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
    pub(crate) fn join(&mut self, slot: u32, index: u32, effects: &mut Effects) {
        let connection = &mut self.connections[slot as usize];
        let Err(at) = connection.membership(index) else { return };
        let group = &mut self.groups[index as usize];
        self.turn.before_join(group);
        let position = group.push(connection.format, slot);
        connection.memberships.insert(at, Membership { group: index, position });
        if index != EVERYONE {
            self.tell_joined(slot, index, effects);
        }
    }

    /// Takes the connection out, if it is a member.
    pub(crate) fn leave(&mut self, slot: u32, index: u32, effects: &mut Effects) {
        let connection = &mut self.connections[slot as usize];
        let Ok(at) = connection.membership(index) else { return };
        let Membership { position, .. } = connection.memberships.remove(at);
        self.leave_at(slot, index, position, effects);
    }

    pub(crate) fn leave_at(&mut self, slot: u32, index: u32, position: u32, effects: &mut Effects) {
        let group = &mut self.groups[index as usize];
        let format = self.connections[slot as usize].format;
        self.turn.before_leave(group, format, position, slot);
        if let Some(moved) = group.remove(format, position) {
            self.connections[moved as usize].moved(index, position);
        }
        if index != EVERYONE {
            self.tell_left(slot, index, effects);
        }
        self.release(index, effects);
    }
}

/// What it knows, for tests and the simulator.
#[doc(hidden)]
impl Hub {
    /// Groups by name, each with its members here, and with the other cores that have some.
    pub fn known_groups(&self) -> BTreeMap<String, (BTreeSet<ConnectionId>, BTreeSet<CoreId>)> {
        let mut known = BTreeMap::<String, (BTreeSet<_>, BTreeSet<_>)>::new();
        for name in self.group_index.keys() {
            let members = self.members(name).map(|slot| self.connections[slot as usize].id);
            known.entry(name.to_string()).or_default().0.extend(members);
        }
        for (name, cores) in self.directory.iter() {
            known.entry(name.to_string()).or_default().1.extend(cores.iter());
        }
        known
    }

    /// The socket a connection holds.
    pub fn socket_of(&self, key: ConnectionKey) -> Option<SocketKey> {
        self.find(key).map(|slot| self.hot[slot as usize].socket)
    }
}
