//! Connections come, are recovered, lose their sockets and go.

use crate::connection::{Connection, Format, Hot, NONE};
use crate::effect::{CloseCategory, CloseHow, Connect, Effect, Recover, Transport};
use crate::encoding::Told;
use crate::group::Membership;
use crate::hub::{EVERYONE, Hub};
use crate::interest::Waiter;
use crate::permission::Permissions;
use crate::session::Session;
use crate::users::Beside;
use crate::{Chunk, ConnectionId, ConnectionKey, Effects, Sink, Time};
use ringhub_protocol::name::UserId;
use ringhub_protocol::ws::CloseCode;
use ringhub_protocol::ws::close::write_close;

/// Bytes sent to a session that catches up, per turn.
const PUMP_BYTES: usize = 64 << 10;

/// What a client is told when it is closed, and how that is counted.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'a str,
    pub(crate) category: CloseCategory,
}

impl Hub {
    pub(crate) fn connect(&mut self, now: Time, connect: Box<Connect>, effects: &mut Effects) {
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

    pub(crate) fn open(&mut self, now: Time, entry: usize, effects: &mut Effects) {
        let (connect, _) = self.connecting.remove(entry).expect("a connect is opened once");
        let connect = *connect;
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
            beside: Beside::alone(slot),
            permissions: Permissions::from_roles(roles, &self.limits),
            memberships: Vec::with_capacity(1 + connect.groups.len()),
            acks: Default::default(),
            raw_group: connect.raw_group.map(Box::new),
            arrival: connect.arrival,
            opened: now,
            floor: 0,
            cut: u32::MAX,
        });
        let session = if format.is_reliable() { self.sessions.insert(Session::new()) as u32 } else { NONE };
        let hot = Hot { socket: connect.socket, epoch: 0, mixed: NONE, session };
        match self.hot.get_mut(slot as usize) {
            Some(place) => *place = hot,
            None => self.hot.push(hot),
        }
        let greeting = self.greeting(slot, connect.prologue);
        self.turn.frames(slot, |out| out.extend_from_slice(&greeting));
        self.users.insert(slot, &mut self.connections);
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
        let Recover { socket, id, subprotocol, prologue } = recover;
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
            let how =
                Ending { code, reason: "The client closed the connection.", category: CloseCategory::Normal };
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
        self.connections[slot as usize].ended = true;
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
