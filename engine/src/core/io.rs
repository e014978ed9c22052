//! Sockets on the ring: sending and ending; receiving is in [`crate::core::receive`].
//!
//! What must stay true:
//! - at most one fast send per socket between two settles; a second one waits in `deferred` (rule 1);
//! - a socket with an outbox gets no fast send, and has exactly one write in flight until it is empty, or, while
//!   the outbox may hold frames that expire, one wait for the socket, so that what is in flight cannot grow old, or,
//!   while the kernel has no memory for either, its place among those that are [`Io::paused`];
//! - a descriptor is closed when nothing of its socket is in flight or queued, and only in
//!   [`Io::submit`], right after the queue was emptied (rule 2).

use crate::core::counters::CoreShared;
use crate::core::ring::{CHUNKS_MAX, Completion, Ring, TurnBuffer};
use crate::core::settings::SocketSettings;
use crate::core::socket::{End, Kind, Receiving, Socket, Sockets, flag};
use crate::core::timer::Deadlines;
use bytes::{Bytes, BytesMut};
use ringhub_hub::outbox::Pressure;
use ringhub_hub::{Chunk, Part, Sink, SocketKey, Time};
use socket2::SockRef;
use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of one write, so that progress is seen in steps.
pub(super) const WRITE_BYTES: usize = 256 << 10;

/// After this time what the kernel had no memory for is asked again, in milliseconds. At once, a core would do nothing
/// else while memory is short.
pub(super) const PAUSE_MS: u64 = 10;

/// Whether a request failed for want of memory in the kernel: it says nothing of its socket.
pub(super) fn lacks_memory(result: i32) -> bool {
    matches!(-result, libc::ENOMEM | libc::ENOBUFS)
}

/// What a socket did that its owner must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It took less than it was given.
    Congested,
    /// It took everything.
    Writable,
    /// Its outbox is over the bound.
    Slow,
    /// It failed.
    Lost,
}

/// A core's ring and sockets.
pub(crate) struct Io {
    pub(crate) ring: Ring,
    pub(crate) sockets: Sockets,
    pub(crate) deadlines: Deadlines,
    pub(crate) outcomes: Vec<(SocketKey, Outcome)>,
    pub(crate) shared: Arc<CoreShared>,
    /// The time of this turn.
    pub(crate) now: Time,
    pub(super) settings: SocketSettings,
    /// Counts settles.
    pub(super) epoch: u32,
    /// Sends that wait for the next submit, in order.
    deferred: Vec<(SocketKey, Chunk)>,
    /// TLS sockets with something to encrypt or send, see [`crate::core::sealed`].
    pub(super) pumping: Vec<SocketKey>,
    /// Where records are made; those of one submit share it.
    pub(super) arena: BytesMut,
    /// Sockets that have said all.
    finishing: Vec<SocketKey>,
    /// Slots of dying sockets that may have nothing in flight any more.
    pub(super) dying: Vec<u32>,
    /// Sockets whose receive is to be armed (again).
    pub(super) arming: Vec<SocketKey>,
    /// Those of them that found no buffer since theirs was armed the last time: they come first. Or those who had
    /// emptied the buffers would be the first to find them full again.
    pub(super) starved: Vec<SocketKey>,
    /// And those that got some and then found none: they come last.
    pub(super) sated: Vec<SocketKey>,
    /// Sockets for a write or receive of which the kernel had no memory, and when they go on; the first is the next.
    paused: VecDeque<(Time, SocketKey)>,
}

impl Io {
    pub(crate) fn new(ring: Ring, settings: SocketSettings, shared: Arc<CoreShared>) -> Self {
        Self {
            ring,
            sockets: Sockets::default(),
            deadlines: Deadlines::default(),
            outcomes: Vec::new(),
            shared,
            now: Time::default(),
            settings,
            epoch: 1,
            deferred: Vec::new(),
            pumping: Vec::new(),
            arena: BytesMut::new(),
            finishing: Vec::new(),
            dying: Vec::new(),
            arming: Vec::new(),
            starved: Vec::new(),
            sated: Vec::new(),
            paused: VecDeque::new(),
        }
    }

    /// Whether it has something to do without a completion.
    pub(crate) fn has_work(&self) -> bool {
        let ready = |key: &SocketKey| self.sockets.hot[key.slot as usize].flags & flag::SLOW == 0;
        self.ring.completions() > 0
            || !self.outcomes.is_empty()
            || !self.deferred.is_empty()
            || !self.pumping.is_empty()
            || !self.dying.is_empty()
            || self.finishing.iter().any(ready)
    }

    /// Whether something waits to be encrypted, which the next submit does.
    pub(crate) fn has_sealed(&self) -> bool {
        !self.pumping.is_empty()
    }

    /// When [`Io::submit`] has something to do that nothing else tells.
    pub(crate) fn next_resume(&self) -> Option<Time> {
        self.paused.front().map(|(at, _)| *at)
    }

    /// Arms receives, submits everything, waits if there is nothing to do, and settles: short sends get their
    /// outboxes, deferred sends are queued, ended sockets are closed.
    pub(crate) fn submit(&mut self, wait: bool, timeout: Option<Duration>) {
        while let Some((_, key)) = self.paused.pop_front_if(|(at, _)| *at <= self.now) {
            self.resume(key);
        }
        // Should that have found something to do, it is not slept on.
        let wait = wait && self.pumping.is_empty() && self.outcomes.is_empty();
        self.arm_all();
        self.ring.submit(wait, timeout);
        self.settle();
        self.bury();
        for (key, bytes) in std::mem::take(&mut self.deferred) {
            if let Some(hot) = self.sockets.hot.get_mut(key.slot as usize)
                && hot.generation == key.generation
                && hot.epoch != self.epoch
            {
                hot.flags &= !flag::DEFERRED;
            }
            self.send_chunk(key, bytes);
        }
        self.pump();
        self.shut_finished();
    }

    /// The kernel had no memory for a request of this socket.
    pub(super) fn pause(&mut self, key: SocketKey) {
        self.shared.counters.requests_without_memory.add(1);
        self.paused.push_back((self.now.after_ms(PAUSE_MS), key));
    }

    /// Asks again for what the kernel had no memory for, if that is still wanted.
    fn resume(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        if socket.end == End::Dying {
            return;
        }
        let (is_idle, is_sealed) = (!socket.writing, socket.tls.is_some());
        if is_idle && is_sealed && self.is_slow(key) {
            self.write_sealed(key);
        } else if is_idle && !is_sealed {
            self.write(key.slot);
        }
        self.arm(key);
    }

    /// Submits in the middle of a flush, to make room.
    pub(crate) fn submit_early(&mut self) {
        self.ring.submit(false, None);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        let mut shorts = Vec::new();
        self.ring.settle(|short| shorts.push(short));
        self.epoch = self.epoch.wrapping_add(1);
        for short in shorts {
            let key = self.sockets.key(short.slot);
            self.shared.counters.sends_short.add(1);
            if short.failed {
                self.lost(key);
            } else if self.sockets.hot[short.slot as usize].flags & flag::TLS != 0 {
                self.sealed_short(key, &short.rest);
            } else {
                // Not `queue`: a deferred send of the same socket must stay behind this.
                self.push_outbox(key, short.rest);
            }
        }
    }

    /// Sends or queues `bytes`.
    pub(crate) fn send(&mut self, key: SocketKey, bytes: Bytes) {
        self.send_chunk(key, bytes.into());
    }

    fn send_chunk(&mut self, key: SocketKey, bytes: Chunk) {
        if !bytes.is_empty() {
            self.shared(&bytes, &[key]);
        }
    }

    /// One range of `bytes` to one socket. `kept` is the turn's buffer for `bytes`, made at first need.
    fn send_range(
        &mut self,
        bytes: &Chunk,
        start: u32,
        end: u32,
        key: SocketKey,
        kept: &mut Option<TurnBuffer>,
    ) {
        if start == end {
            return;
        }
        let Some(hot) = self.sockets.hot.get_mut(key.slot as usize) else { return };
        if hot.generation != key.generation {
            return;
        }
        if hot.flags & flag::SENDABLE == flag::OPEN && hot.epoch != self.epoch {
            if !self.ring.has_room() {
                self.submit_early();
                *kept = None;
                return self.send_range(bytes, start, end, key, kept);
            }
            hot.epoch = self.epoch;
            let buffer = *kept.get_or_insert_with(|| self.ring.keep(bytes.clone()));
            self.ring.send(hot.fd, key.slot, buffer, start, end);
        } else if hot.flags & (flag::DEAF | flag::TLS) == flag::TLS {
            if !self.ring.has_room() {
                self.submit_early();
                *kept = None;
            }
            self.send_sealed(key, bytes, start as usize..end as usize);
        } else if hot.flags & flag::DEAF == 0 {
            let rest = bytes.keep(start as usize..end as usize);
            if hot.flags & flag::DEFERRED == 0 && hot.flags & flag::SLOW != 0 {
                self.push_outbox(key, rest);
            } else {
                hot.flags |= flag::DEFERRED;
                self.deferred.push((key, rest));
            }
        }
    }

    fn push_outbox(&mut self, key: SocketKey, rest: Chunk) {
        let Some(socket) = self.sockets.get(key) else { return };
        if socket.end == End::Dying {
            return;
        }
        let first = socket.outbox.is_none();
        self.shared.counters.outbox_bytes.add(rest.len() as u64);
        let outbox = socket.outbox.get_or_insert_default();
        let mut pressure = outbox.push(rest, self.settings.outbox_bytes_max);
        if pressure == Pressure::High {
            self.shared.counters.expire(outbox, self.now);
            if !outbox.is_over(self.settings.outbox_bytes_max) {
                pressure = Pressure::Low;
            }
        }
        let flags = &mut self.sockets.hot[key.slot as usize].flags;
        *flags |= flag::SLOW;
        if pressure == Pressure::High && *flags & (flag::BOUNDED | flag::PRESSED) == flag::BOUNDED {
            *flags |= flag::PRESSED;
            self.outcomes.push((key, Outcome::Slow));
        }
        if first {
            self.outcomes.push((key, Outcome::Congested));
            self.write(key.slot);
        }
    }

    /// Puts the front of the outbox in flight; if it may hold what expires, only once the socket takes something.
    fn write(&mut self, slot: u32) {
        let Some(socket) = self.sockets.at(slot) else { return };
        let Some(outbox) = &socket.outbox else { return };
        debug_assert!(!socket.writing);
        socket.writing = true;
        if outbox.is_perishable() {
            socket.polling = true;
            self.ring.poll_writable(socket.fd.as_raw_fd(), slot);
        } else {
            self.write_now(slot, true);
        }
    }

    /// Puts the front of the outbox in flight.
    fn write_now(&mut self, slot: u32, wait: bool) {
        let Some(socket) = self.sockets.at(slot) else { return };
        let Some(outbox) = &mut socket.outbox else { return };
        let mut bytes = 0;
        let chunks = outbox.chunks().take(CHUNKS_MAX).take_while(|chunk| {
            let within = bytes < WRITE_BYTES;
            bytes += if within { chunk.len() } else { 0 };
            within
        });
        self.ring.write(socket.fd.as_raw_fd(), slot, chunks, wait);
        outbox.put_in_flight(bytes);
    }

    /// A write, or the wait for one, ended.
    pub(crate) fn written(&mut self, completion: &Completion) {
        let slot = completion.slot;
        let Some(socket) = self.sockets.at(slot) else { return };
        let polled = std::mem::take(&mut socket.polling);
        socket.writing = false;
        if socket.end == End::Dying {
            return self.dying.push(slot);
        }
        if socket.tls.is_some() {
            return self.sealed_written(slot, completion.result());
        }
        let Some(outbox) = &mut socket.outbox else { return };
        match completion.result() {
            done if done >= 0 => {
                if polled {
                    self.shared.counters.expire(outbox, self.now);
                } else {
                    self.shared.counters.outbox_bytes.sub(done as u64);
                    outbox.advance(done as usize);
                }
                if !outbox.is_empty() && polled {
                    socket.writing = true;
                    return self.write_now(slot, false);
                }
                if !outbox.is_empty() {
                    return self.write(slot);
                }
                socket.outbox = None;
                self.sockets.hot[slot as usize].flags &= !flag::SLOW;
                self.outcomes.push((self.sockets.key(slot), Outcome::Writable));
            }
            error if matches!(-error, libc::EAGAIN | libc::EINTR) => {
                outbox.advance(0);
                self.write(slot);
            }
            error if lacks_memory(error) => {
                outbox.advance(0);
                self.pause(self.sockets.key(slot));
            }
            _ => {
                let key = self.sockets.key(slot);
                self.lost(key);
            }
        }
    }

    pub(super) fn lost(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(key)
            && socket.end != End::Dying
        {
            self.sockets.hot[key.slot as usize].flags |= flag::DEAF;
            self.outcomes.push((key, Outcome::Lost));
        }
    }

    /// Whether something waits because the socket takes no more; [`Outcome::Writable`] says when it is gone.
    pub(crate) fn is_slow(&self, key: SocketKey) -> bool {
        self.sockets.hot.get(key.slot as usize).is_some_and(|hot| hot.flags & flag::SLOW != 0)
    }

    /// Whether the kernel has not taken yet all that the socket was sent. Its outbox does not say so: of one that speaks
    /// TLS a record may be under way without anything behind it, and what was sent in this turn is in none.
    pub(crate) fn has_unsent(&self, key: SocketKey) -> bool {
        let hot = self.sockets.hot[key.slot as usize];
        hot.flags & (flag::SLOW | flag::DEFERRED) != 0 || hot.epoch == self.epoch
    }

    /// Which submit comes next, as a number that changes with each.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Nothing more is to be said: shuts down for writing after what is queued, then waits for the peer's end. What
    /// is queued has to be taken in time: by the deadline HTTP or a closing handshake has anyway, or the one of closes.
    pub(crate) fn finish(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        if socket.end < End::Finish {
            socket.end = End::Finish;
            let kind = std::mem::replace(&mut socket.kind, Kind::Closing(None));
            socket.unread = None;
            self.finishing.push(key);
            if !matches!(kind, Kind::Http(_) | Kind::Closing(_)) {
                self.set_close_deadline(key);
            }
        }
    }

    /// From now on the peer has so long to take and answer our goodbye.
    pub(crate) fn set_close_deadline(&mut self, key: SocketKey) {
        let allowed = self.settings.close_deadline.as_millis() as u64;
        self.deadlines.set(key.slot, self.now.after_ms(allowed));
    }

    /// Both sides have said goodbye (RFC 6455 §7.1.1: the server closes first): closes after what is queued.
    pub(crate) fn farewell(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(key) {
            socket.farewell = true;
            self.finish(key);
        }
    }

    fn shut_finished(&mut self) {
        let mut finishing = std::mem::take(&mut self.finishing);
        finishing.retain(|&key| {
            if self.sockets.get(key).is_none_or(|socket| socket.end != End::Finish) {
                return false;
            }
            if self.has_unsent(key) || self.say_goodbye(key) {
                return true;
            }
            let Some(socket) = self.sockets.get(key) else { return false };
            let _ = SockRef::from(&socket.fd).shutdown(Shutdown::Write);
            socket.end = End::Shut;
            if socket.ended || socket.farewell {
                self.kill(key);
            } else {
                self.set_close_deadline(key);
                self.arm(key);
            }
            false
        });
        finishing.append(&mut self.finishing);
        self.finishing = finishing;
    }

    /// Ends a socket at once; what is unsent is dropped, what the kernel has is still sent.
    pub(crate) fn kill(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        if socket.end == End::Dying {
            return;
        }
        self.last_words(key);
        let Some(socket) = self.sockets.get(key) else { return };
        socket.end = End::Dying;
        socket.tls = None;
        socket.kind = Kind::Closing(None);
        socket.unread = None;
        if let Some(outbox) = socket.outbox.take() {
            self.shared.counters.outbox_bytes.sub(outbox.bytes() as u64);
        }
        if socket.in_flight() {
            let _ = SockRef::from(&socket.fd).shutdown(Shutdown::Both);
        }
        if socket.receiving != Receiving::No {
            socket.cancels += 1;
            self.ring.cancel_receive(key.slot);
        }
        if socket.writing {
            socket.cancels += 1;
            self.ring.cancel_write(key.slot);
        }
        self.deadlines.clear(key.slot);
        let hot = &mut self.sockets.hot[key.slot as usize];
        hot.flags = flag::OPEN | flag::DEAF;
        self.dying.push(key.slot);
    }

    /// Ends a socket at once and has the kernel drop what it holds.
    pub(crate) fn abort(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(key) {
            let _ = SockRef::from(&socket.fd).set_linger(Some(Duration::ZERO));
            self.kill(key);
        }
    }

    /// Closes dying sockets with nothing in flight. The submission queue was just emptied, so no send to
    /// their descriptors is queued.
    fn bury(&mut self) {
        for slot in std::mem::take(&mut self.dying) {
            if self.sockets.at(slot).is_some_and(|s| s.end == End::Dying && !s.in_flight()) {
                drop(self.sockets.remove(slot));
                self.shared.counters.sockets.set(self.sockets.len() as u64);
            }
        }
    }

    /// Takes a socket out to give it to another core; only between a one-shot receive and the next.
    pub(crate) fn release(&mut self, key: SocketKey) -> Option<Socket> {
        let hot = *self.sockets.hot.get(key.slot as usize)?;
        let socket = self.sockets.get(key)?;
        // Records of a TLS socket that wait for the next submit move with it.
        let waiting = flag::SLOW | flag::DEAF | if socket.tls.is_some() { 0 } else { flag::DEFERRED };
        let quiet = hot.flags & waiting == 0 && socket.outbox.is_none() && hot.epoch != self.epoch;
        if !quiet || socket.in_flight() || socket.end != End::Open {
            return None;
        }
        self.deadlines.clear(key.slot);
        let socket = self.sockets.remove(key.slot);
        self.shared.counters.sockets.set(self.sockets.len() as u64);
        socket
    }

    /// Takes a socket in; its receive is armed at the end of the turn.
    pub(crate) fn adopt(&mut self, socket: Socket) -> SocketKey {
        let has_records = socket.tls.as_ref().is_some_and(|tls| !tls.unsent.is_empty());
        let key = self.sockets.insert(socket);
        self.shared.counters.sockets.set(self.sockets.len() as u64);
        if has_records {
            self.pump_later(key);
        }
        key
    }

    /// From now on these bounds hold.
    pub(crate) fn set_bounds(&mut self, settings: SocketSettings) {
        self.settings = settings;
    }

    /// From now on the socket is a slow consumer when its outbox is over the bound.
    pub(crate) fn bound(&mut self, key: SocketKey) {
        if self.sockets.get(key).is_some() {
            self.sockets.hot[key.slot as usize].flags |= flag::BOUNDED;
        }
    }
}

impl Sink for Io {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        let mut kept = None;
        for &socket in sockets {
            self.send_range(bytes, 0, bytes.len() as u32, socket, &mut kept);
        }
        self.shared.counters.sends.add(sockets.len() as u64);
        self.shared.counters.bytes_out.add((bytes.len() * sockets.len()) as u64);
    }

    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        let mut kept = None;
        let mut total = 0;
        for part in parts {
            self.send_range(bytes, part.start, part.end, part.socket, &mut kept);
            total += u64::from(part.end - part.start);
        }
        self.shared.counters.sends.add(parts.len() as u64);
        self.shared.counters.bytes_out.add(total);
    }
}
