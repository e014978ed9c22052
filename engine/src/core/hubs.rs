//! The hubs of one core: finding them, feeding them, doing what they ask for.

use crate::admission::Counted;
use crate::core::counters::ClosedRow;
use crate::core::socket::{Client, Kind};
use crate::core::turn::Core;
use crate::net::HttpAnswer;
use crate::net::http::write_error;
use ringhub_hub::effect::{CloseCategory, RefusedBy};
use ringhub_hub::event::Refusal;
use ringhub_hub::{Budget, CloseHow, Effect, Hub, Input, RequestId, SocketKey, Time, Transport};
use ringhub_protocol::http::write_refusal;
use ringhub_protocol::name::HubName;
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_protocol::ws::close::write_close;
use ringhub_protocol::ws::{CloseCode, Decoder};
use std::collections::HashMap;
use std::sync::Arc;

/// Members that fan-outs may serve in one turn, all hubs together. A send costs the kernel 3 to 7 µs, so a turn
/// takes some 3 ms before others are heard (twice as many took more than 10 ms at times), and what a turn costs by
/// itself is lost in it: with 15,000 members a bystander's ping waits a fraction of what it waited without slices, at
/// the same cost per delivery.
const TURN_SENDS: u32 = 512;
/// Groups of at most so many members are never cut: there are only so many messages in a turn, and cutting
/// small fan-outs would cost more than it gives.
const WHOLE_MEMBERS: u32 = 128;

/// The hubs, by number.
#[derive(Default)]
pub(crate) struct Hubs {
    pub(crate) slots: Vec<HubSlot>,
    index: HashMap<HubName, u32>,
    /// Hubs that were fed since their last flush, or that it left unfinished.
    pub(crate) dirty: Vec<u32>,
    /// What is left of [`TURN_SENDS`].
    sends_left: u32,
    /// Who comes first changes from turn to turn.
    rotation: usize,
}

/// One hub.
pub(crate) struct HubSlot {
    pub(crate) hub: Hub,
    pub(crate) keepalive_ms: u64,
    is_dirty: bool,
    due: Option<Time>,
}

impl Hubs {
    /// A new turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.sends_left = TURN_SENDS;
        self.rotation = self.rotation.wrapping_add(1);
    }

    /// When the first hub wants its timeout.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.slots.iter().filter_map(|slot| slot.due).min()
    }
}

/// The number of the call a socket makes: an HTTP connection has one at a time, so the socket names it.
pub(crate) fn request_of(key: SocketKey) -> RequestId {
    RequestId(u64::from(key.slot) | u64::from(key.generation) << 32)
}

/// The socket that made a call.
pub(crate) fn socket_of(request: RequestId) -> SocketKey {
    SocketKey { slot: request.0 as u32, generation: (request.0 >> 32) as u32 }
}

impl Core {
    /// The number of hub `name`, made if there is none; `None` if that would be one too many.
    pub(crate) fn hub(&mut self, name: &HubName) -> Option<u32> {
        if let Some(&number) = self.hubs.index.get(name) {
            return Some(number);
        }
        (self.hubs.slots.len() < self.settings.hubs_max).then(|| self.make_hub(name))
    }

    /// The number of a hub another core has, whose bound was checked there.
    pub(crate) fn mesh_hub(&mut self, name: &HubName) -> u32 {
        match self.hubs.index.get(name) {
            Some(&number) => number,
            None => self.make_hub(name),
        }
    }

    fn make_hub(&mut self, name: &HubName) -> u32 {
        let settings = self.settings.hub(name).clone();
        let (gate, hub_name) = (self.gate.clone(), name.clone());
        let token = Box::new(move |id: &_| gate.reconnection_token(&hub_name, id));
        let mut hub =
            Hub::new(name.clone(), self.id, self.mesh.cores(), self.hash_seed, settings.limits, token);
        hub.set_routes(settings.routes);
        hub.set_deflater(self.deflater.clone());
        hub.set_short_of_memory(self.short_of_memory);
        let number = self.hubs.slots.len() as u32;
        let keepalive_ms = settings.keepalive.as_millis() as u64;
        self.hubs.slots.push(HubSlot { hub, keepalive_ms, is_dirty: false, due: None });
        self.hubs.index.insert(name.clone(), number);
        number
    }

    /// Takes over settings that changed.
    pub(crate) fn take_settings(&mut self) {
        if Arc::ptr_eq(&self.live.load(), &self.settings) {
            return;
        }
        self.settings = self.live.load_full();
        self.io.set_bounds(self.settings.sockets);
        for door in &self.listeners {
            // For those who come from now on. The kernel refuses no value that the key can have.
            let deadline = Some(self.settings.sockets.write_deadline);
            let _ = socket2::SockRef::from(&door.socket).set_tcp_user_timeout(deadline);
        }
        for slot in &mut self.hubs.slots {
            let settings = self.settings.hub(slot.hub.name());
            slot.hub.set_limits(settings.limits);
            slot.hub.set_routes(settings.routes.clone());
            slot.keepalive_ms = settings.keepalive.as_millis() as u64;
            slot.due = slot.hub.next_timeout();
        }
    }

    /// Feeds a hub and does at once what needs no flush first.
    pub(crate) fn feed(&mut self, hub: u32, input: Input<'_>) {
        let slot = &mut self.hubs.slots[hub as usize];
        slot.hub.handle(self.now, input, &mut self.effects);
        self.mark(hub);
        self.apply(hub);
    }

    fn mark(&mut self, hub: u32) {
        let slot = &mut self.hubs.slots[hub as usize];
        if !slot.is_dirty {
            slot.is_dirty = true;
            self.hubs.dirty.push(hub);
        }
    }

    /// Runs the timeouts that are due.
    pub(crate) fn time_out_hubs(&mut self) {
        for hub in 0..self.hubs.slots.len() as u32 {
            let slot = &mut self.hubs.slots[hub as usize];
            if slot.due.is_some_and(|due| due <= self.now) {
                slot.due = None;
                slot.hub.handle_timeout(self.now, &mut self.effects);
                self.mark(hub);
                self.apply(hub);
            }
        }
    }

    /// Ends the turn of every hub that was fed. Those with unfinished fan-outs have equal parts of what the turn
    /// may send; what one does not use goes to the next.
    pub(crate) fn flush_hubs(&mut self) {
        let mut dirty = std::mem::take(&mut self.hubs.dirty);
        if dirty.len() > 1 {
            let first = self.hubs.rotation % dirty.len();
            dirty.rotate_left(first);
        }
        let is_slicing = |hubs: &Hubs, hub: u32| hubs.slots[hub as usize].hub.is_slicing();
        let mut slicing = dirty.iter().filter(|&&hub| is_slicing(&self.hubs, hub)).count() as u32;
        for hub in dirty {
            slicing -= u32::from(is_slicing(&self.hubs, hub));
            let slot = &mut self.hubs.slots[hub as usize];
            slot.is_dirty = false;
            if slot.hub.is_dirty() {
                let left = self.hubs.sends_left;
                let budget = Budget { sends: left.div_ceil(slicing + 1), whole: WHOLE_MEMBERS };
                self.hubs.sends_left = left.saturating_sub(slot.hub.flush(self.now, &mut self.io, budget));
            }
            slot.due = slot.hub.next_timeout();
            // A session that catches up, or a fan-out in slices, goes on next turn.
            if slot.hub.is_dirty() {
                self.mark(hub);
            }
        }
    }

    fn apply(&mut self, hub: u32) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Opened(transport) => self.opened(hub, transport),
                Effect::RecoverRefused(socket, prologue) => self.refuse_recovery(socket, prologue),
                Effect::ConnectRefused(socket, by) => {
                    let (code, message) = match by {
                        RefusedBy::Limit => (ErrorCode::ServiceUnavailable, "The hub is full."),
                        RefusedBy::Stop => (ErrorCode::ServiceUnavailable, "The server is shutting down."),
                        RefusedBy::Handler => (ErrorCode::InternalServerError, "The event handler failed."),
                    };
                    self.refuse(socket, &ErrorBody::new(code, message));
                }
                Effect::ConnectAnswered(socket, refusal) => self.pass_on(socket, &refusal),
                Effect::Event(event) => self.line.ask(hub, event),
                Effect::CancelEvent(ticket) => self.line.cancel(hub, ticket),
                Effect::Hold(socket) => self.hold(socket),
                Effect::Release(socket) => self.release(socket),
                Effect::Close(socket, how) => self.closing.push((socket, how)),
                Effect::Forward(core, item) => {
                    let slot = &self.hubs.slots[hub as usize];
                    self.mesh.forward(core, slot.hub.name(), item);
                }
                Effect::Answer(request, answer) => {
                    self.answers.push_back((socket_of(request), HttpAnswer::Operation(answer)));
                }
                Effect::Closed { id, user, address, code, reason, category } => {
                    let (category, reason) = match self.lost_as {
                        Some((as_category, why)) if category == CloseCategory::Lost => {
                            (as_category, why.into())
                        }
                        _ => (category, reason),
                    };
                    let at = CloseCategory::ALL.iter().position(|known| *known == category);
                    self.io.shared.closes[at.expect("every category is listed")].add(1);
                    let hub = self.hubs.slots[hub as usize].hub.name().clone();
                    let closed_unix = self.clock.unix();
                    self.closed(ClosedRow { hub, id, user, address, code, reason, category, closed_unix });
                }
            }
        }
        debug_assert!(self.effects.is_empty(), "doing what a hub asks for feeds no hub");
        self.effects = effects;
    }

    fn closed(&self, row: ClosedRow) {
        // The lock is poisoned only by a panic, which ends the process.
        let mut closed = self.io.shared.closed.lock().expect("no panic is survived here");
        while closed.len() >= self.settings.closed_max.max(1) {
            closed.pop_front();
        }
        closed.push_back(row);
    }

    /// The hub took the client in; its greeting is in the log.
    fn opened(&mut self, hub: u32, transport: Transport) {
        let key = transport.socket;
        let slot = &self.hubs.slots[hub as usize];
        let keepalive_ms = slot.keepalive_ms;
        let Some(subprotocol) = slot.hub.subprotocol(transport.connection) else {
            // It has ended in the same turn.
            return self.late_losses.push((hub, transport));
        };
        let pass = slot.hub.pass(transport.connection).cloned();
        let is_deflated = slot.hub.is_deflated(transport.connection);
        let counted = pass.and_then(|pass| Arc::downcast::<Counted>(pass).ok());
        let Some(socket) = self.io.sockets.get(key) else {
            return self.late_losses.push((hub, transport));
        };
        if !matches!(socket.kind, Kind::Opening) {
            return self.late_losses.push((hub, transport));
        }
        socket.kind = Kind::Client(Client {
            hub,
            connection: transport.connection,
            subprotocol,
            decoder: if is_deflated { Decoder::deflated() } else { Decoder::new() },
            pings_missed: 0,
            heard: true,
            held: false,
            slowed: false,
            is_put_off: false,
            frames: 0,
            go: 0,
            meter: counted.filter(|counted| counted.is_metered()),
        });
        let has_unread = socket.unread.is_some();
        if !subprotocol.is_reliable() {
            self.io.bound(key);
        }
        self.io.deadlines.set(key.slot, self.now.after_ms(keepalive_ms));
        self.io.shared.counters.websockets.add(1);
        self.io.shared.counters.upgrades.add(1);
        if has_unread {
            self.resume.push_back(key);
        } else {
            self.io.arm(key);
        }
    }

    /// A recovery that cannot be: the client learns it by 1008, which only exists after a 101.
    pub(crate) fn refuse_recovery(&mut self, key: SocketKey, mut prologue: Vec<u8>) {
        let reason = "The connection cannot be recovered.";
        write_close(&mut prologue, Some(CloseCode::POLICY_VIOLATION), reason);
        self.io.send(key, prologue.into());
        if let Some(socket) = self.io.sockets.get(key) {
            // Whatever the 101 said of permessage-deflate.
            socket.kind = Kind::Closing(Some(Decoder::deflated()));
            self.closing.push((key, CloseHow::Handshake));
        }
    }

    /// Answers an upgrade with an error, and ends the socket.
    pub(crate) fn refuse(&mut self, key: SocketKey, body: &ErrorBody) {
        let mut out = Vec::new();
        write_error(&mut out, body);
        self.answer_upgrade(key, out);
    }

    /// Answers an upgrade as an event handler has it, and ends the socket.
    fn pass_on(&mut self, key: SocketKey, refusal: &Refusal) {
        let content_type = refusal.content_type.as_deref().unwrap_or("application/octet-stream");
        let mut out = Vec::new();
        write_refusal(&mut out, refusal.status, &[], content_type, &refusal.body);
        self.answer_upgrade(key, out);
    }

    fn answer_upgrade(&mut self, key: SocketKey, response: Vec<u8>) {
        self.io.shared.counters.upgrades_refused.add(1);
        self.io.send(key, response.into());
        self.io.finish(key);
    }
}
