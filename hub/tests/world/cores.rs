//! What cores do.

use super::client::{Member, Phase};
use super::socket::Writer;
use super::{Core, Fault, HUBS, World};
use ringhub_hub::effect::{CloseCategory, CloseHow, RefusedBy};
use ringhub_hub::{Budget, CoreId, Effect, Effects, Input, SocketKey, Time, Transport};

impl World {
    pub(super) fn feed(&mut self, core: usize, hub: usize, input: Input<'_>) {
        let mut effects = Effects::new();
        self.cores[core].hubs[hub].handle(self.now, input, &mut effects);
        self.carry_out(core, hub, effects);
    }

    pub(super) fn timeouts(&mut self, core: usize) {
        if self.sleeps(core) {
            return;
        }
        for hub in 0..HUBS {
            let mut effects = Effects::new();
            if self.cores[core].hubs[hub].next_timeout().is_some_and(|due| due <= self.now) {
                self.cores[core].hubs[hub].handle_timeout(self.now, &mut effects);
            }
            let Core { hubs, limits, .. } = &self.cores[core];
            let is_old =
                |opened: Time| limits.lifetime_ms > 0 && opened.after_ms(limits.lifetime_ms) <= self.now;
            let rows = hubs[hub].connections(0, usize::MAX);
            assert!(rows.iter().all(|row| !is_old(row.opened)), "a connection outlived its time");
            self.carry_out(core, hub, effects);
        }
    }

    fn carry_out(&mut self, core: usize, hub: usize, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Opened(transport) => self.opened(core, hub, transport),
                Effect::RecoverRefused(socket, _) => {
                    self.note(Fault::RecoveryRefused);
                    self.refused(core, socket);
                }
                Effect::ConnectRefused(socket, by) => {
                    if by == RefusedBy::Limit {
                        self.note(Fault::ConnectRefused);
                    }
                    self.refused(core, socket);
                }
                Effect::ConnectAnswered(socket, _) => self.refused(core, socket),
                Effect::Event(event) => self.handler.take(core, hub, &event),
                Effect::CancelEvent(ticket) => assert!(self.handler.may_be_cancelled(core, hub, ticket)),
                Effect::Hold(socket) => self.set_held(core, socket, true),
                Effect::Release(socket) => self.set_held(core, socket, false),
                Effect::Close(socket, how) => self.cores[core].closing.push((socket, how)),
                Effect::Forward(to, item) => self.links[core][usize::from(to.0)].outgoing.push((hub, item)),
                Effect::Answer(request, answer) => {
                    let (asked, doing) = self.callers[hub].busy.take().expect("one answer for one call");
                    assert_eq!(asked, request);
                    self.conclude(hub, doing, &answer);
                }
                Effect::Closed { id, category, reason, .. } => {
                    let client = self.clients.iter().find(|who| who.id == Some(id));
                    let is_lost = client.is_some_and(|who| who.phase == Phase::Lost);
                    match category {
                        CloseCategory::ClosedByAppServer => {
                            let is_meant = client.is_none_or(|who| self.callers[hub].closes(who));
                            assert!(is_meant, "{id} was closed though no call says so");
                        }
                        CloseCategory::ServiceReload if !self.cores[core].stopped => {
                            self.note(Fault::Drained)
                        }
                        CloseCategory::SlowClient if &*reason == MEMORY_IS_SHORT => {
                            self.note(if is_lost { Fault::ShedLost } else { Fault::ShedOpen });
                        }
                        CloseCategory::SlowClient if &*reason == LOG_IS_FULL => self.note(Fault::LogFull),
                        CloseCategory::SlowClient => self.note(Fault::OutboxFull),
                        _ if &*reason == LIFETIME_IS_OVER => self.note(Fault::LifetimeOver),
                        _ => {}
                    }
                    for who in self.clients.iter_mut().filter(|who| who.id == Some(id)) {
                        match who.phase {
                            // It learns of it when it comes back.
                            Phase::Lost => who.owed.clear(),
                            _ => who.reset(),
                        }
                    }
                }
            }
        }
    }

    fn refused(&mut self, core: usize, socket: SocketKey) {
        if let Some(client) = self.cores[core].sockets[socket.slot as usize].client.take() {
            self.clients[client].reset();
        }
    }

    /// Whether the core does nothing now.
    fn sleeps(&self, core: usize) -> bool {
        !self.calm && self.cores[core].asleep_until > self.tally.operations
    }

    fn set_held(&mut self, core: usize, socket: SocketKey, held: bool) {
        let who = self.clients.iter_mut().find(|who| who.core == core && who.socket == Some(socket));
        if let Some(who) = who {
            who.held = held;
        }
    }

    fn opened(&mut self, core: usize, hub: usize, transport: Transport) {
        let key = transport.socket;
        let client = self.cores[core].sockets[key.slot as usize].client.expect("it waits to be opened");
        let row = self.cores[core].hubs[hub].connections(transport.connection.slot, 1).remove(0);
        let who = &mut self.clients[client];
        let came_back = who.id == Some(row.id);
        who.id = Some(row.id);
        who.phase = Phase::Open;
        who.transport = Some(transport);
        who.connection = Some(transport.connection);
        for state in &mut who.groups {
            if *state == Member::Joining {
                *state = Member::Yes;
            }
        }
        if came_back {
            self.note(Fault::Recovery);
        }
    }

    /// Moves one batch from one core to another, if there is one.
    pub(super) fn carry(&mut self, from: usize, to: usize) {
        if !self.calm && self.links[from][to].stalled_until > self.tally.operations {
            return;
        }
        for (hub, item) in self.links[from][to].ring.take().unwrap_or_default() {
            self.feed(to, hub, Input::Mesh(CoreId(from as u16), item));
        }
        let link = &mut self.links[from][to];
        if link.ring.is_none() && !link.outgoing.is_empty() {
            link.ring = Some(std::mem::take(&mut link.outgoing));
        }
    }

    pub(super) fn flush(&mut self, core: usize) {
        if self.sleeps(core) {
            return;
        }
        let closing = std::mem::take(&mut self.cores[core].closing);
        let Core { hubs, sockets, .. } = &mut self.cores[core];
        let mut sent = Vec::new();
        for hub in hubs {
            // Mostly so little that a fan-out to more than a few takes several flushes.
            let budget = match self.random.below(8) {
                0 => Budget::UNLIMITED,
                _ => Budget { sends: self.random.below(6) as u32, whole: self.random.below(2) as u32 },
            };
            let mut writer = Writer { sockets, sent: Vec::new() };
            hub.flush(self.now, &mut writer, budget);
            sent.append(&mut writer.sent);
        }
        sent.into_iter().for_each(|slot| self.send(core, slot));
        closing.into_iter().for_each(|(socket, how)| self.end_socket(core, socket, how));
    }

    /// Gives a socket what it is sent; now and then it does not take everything.
    fn send(&mut self, core: usize, slot: usize) {
        let socket = &mut self.cores[core].sockets[slot];
        let Some(client) = socket.client else { return };
        let key = SocketKey { slot: slot as u32, generation: socket.generation };
        let who = &self.clients[client];
        let (hub, is_plain, transport) = (who.hub, !who.subprotocol.is_reliable(), who.transport);
        if who.core != core || who.socket != Some(key) {
            // Left behind by its client.
            socket.client = None;
            return;
        }
        if socket.congested {
            self.tally.expired += socket.kept.expire(self.now);
        }
        if self.calm || !socket.congested && self.random.below(6) > 0 {
            socket.take(socket.kept.bytes(), self.now, socket.congested);
            return;
        }
        let take = self.random.below(socket.kept.bytes() + 1);
        socket.take(take, self.now, socket.congested);
        let kept = socket.kept.bytes();
        if kept == 0 {
            return;
        }
        let was_congested = std::mem::replace(&mut socket.congested, true);
        self.note(Fault::ShortSend);
        let Some(transport) = transport else { return };
        if is_plain && kept > self.outbox_max {
            self.feed(core, hub, Input::SlowConsumer(transport));
        } else if !was_congested {
            self.feed(core, hub, Input::Congested(transport));
        }
    }

    /// A socket ends, as its hub asked; its client knows unless it has gone elsewhere.
    fn end_socket(&mut self, core: usize, key: SocketKey, how: CloseHow) {
        let socket = &mut self.cores[core].sockets[key.slot as usize];
        if socket.generation != key.generation {
            return;
        }
        let Some(client) = socket.client else { return };
        let who = &self.clients[client];
        if who.core == core && who.socket == Some(key) && who.phase == Phase::Open {
            if how != CloseHow::Abort {
                self.read(client);
            }
            if self.clients[client].socket == Some(key) {
                self.after_loss(client);
            }
        }
        let socket = &mut self.cores[core].sockets[key.slot as usize];
        (socket.client, socket.generation) = (None, socket.generation + 1);
    }
}

/// How hubs word the ends that are counted here by their reason.
const LOG_IS_FULL: &str = "Too many messages are not acknowledged.";
const MEMORY_IS_SHORT: &str = "The server is short of memory, and too much waits for the client.";
const LIFETIME_IS_OVER: &str = "The connection has reached its maximum lifetime.";
