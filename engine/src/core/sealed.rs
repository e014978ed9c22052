//! Sockets that speak TLS, on the ring: plaintext waits, records are made when a send is made (design §3 rule 7).
//!
//! What must stay true:
//! - a record is made once, goes out whole and before any made later: what the kernel does not take is kept in
//!   front (`unsent`) and at most one record of data is kept so;
//! - everything behind it waits as plaintext in the outbox, shared with other sockets;
//! - a socket with something waiting is in `pumping` (and has [`flag::DEFERRED`]) or has a write in flight;
//! - it has at most one of a fast send in this submit and a write in flight.

use crate::core::io::{Io, Outcome, lacks_memory};
use crate::core::ring::Ring;
use crate::core::socket::{End, Kind, Socket, Tls, flag};
use crate::core::turn::Core;
use crate::net::http::write_fault;
use crate::net::tls::{FailureClass, PLAIN_BYTES_MAX, Progress, TlsFault};
use bytes::{Buf, Bytes, BytesMut};
use ringhub_hub::{Chunk, SocketKey};
use socket2::SockRef;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Room for plaintext that is kept from turn to turn, in bytes.
const PLAIN_KEPT_MAX: usize = 64 << 10;

impl Io {
    /// Sends or queues a range of plain `bytes`; the ring has room for one send.
    pub(super) fn send_sealed(&mut self, key: SocketKey, bytes: &Chunk, mut range: Range<usize>) {
        let hot = self.sockets.hot[key.slot as usize];
        if hot.flags & (flag::SLOW | flag::DEFERRED) == 0 && hot.epoch != self.epoch {
            let first = range.start..range.end.min(range.start + PLAIN_BYTES_MAX);
            range.start = first.end;
            if !self.seal(key, &bytes[first]) {
                return self.lost(key);
            }
            self.send_record(key);
        }
        if range.is_empty() {
            return;
        }
        let Some(socket) = self.sockets.get(key) else { return };
        if socket.end == End::Dying {
            return;
        }
        let rest = bytes.keep(range);
        self.shared.counters.outbox_bytes.add(rest.len() as u64);
        let _ = socket.outbox.get_or_insert_default().push(rest, self.settings.outbox_bytes_max);
        if hot.flags & flag::SLOW != 0 {
            self.check_pressure(key);
        } else {
            self.pump_later(key);
        }
    }

    /// Makes one record in the arena. False if the connection cannot go on.
    fn seal(&mut self, key: SocketKey, plaintext: &[u8]) -> bool {
        let Some(Socket { tls: Some(tls), .. }) = self.sockets.get(key) else { return false };
        match tls.stream.encrypt(plaintext, &mut self.arena) {
            Ok(()) => true,
            Err(fault) => {
                tracing::debug!(reason = fault.reason, "a TLS connection cannot be written to");
                self.arena.clear();
                false
            }
        }
    }

    /// Makes the next record of a socket from the front of its outbox, in the arena. False if the connection
    /// cannot go on.
    fn seal_next(&mut self, key: SocketKey) -> bool {
        let Some(Socket { outbox: Some(outbox), .. }) = self.sockets.get(key) else { return false };
        let front = outbox.chunks().next().expect("an outbox that is kept is not empty");
        let record = if front.len() >= PLAIN_BYTES_MAX || front.len() == outbox.bytes() {
            front.slice(..front.len().min(PLAIN_BYTES_MAX))
        } else {
            // Small messages share a record.
            let mut record = BytesMut::with_capacity(outbox.bytes().min(PLAIN_BYTES_MAX));
            for chunk in outbox.chunks() {
                let room = PLAIN_BYTES_MAX - record.len();
                record.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if record.len() == PLAIN_BYTES_MAX {
                    break;
                }
            }
            record.freeze()
        };
        outbox.advance(record.len());
        if outbox.is_empty()
            && let Some(socket) = self.sockets.get(key)
        {
            socket.outbox = None;
        }
        self.shared.counters.outbox_bytes.sub(record.len() as u64);
        self.seal(key, &record)
    }

    /// Drops what has expired of what is not encrypted yet: nothing of that is in flight.
    fn drop_expired(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(key)
            && let Some(outbox) = &mut socket.outbox
        {
            self.shared.counters.expire(outbox, self.now);
            if outbox.is_empty() {
                socket.outbox = None;
            }
        }
    }

    /// A fast send of what stands in the arena.
    fn send_record(&mut self, key: SocketKey) {
        let record = self.arena.split().freeze();
        self.send_records(key, record);
    }

    fn send_records(&mut self, key: SocketKey, records: Bytes) {
        let hot = &mut self.sockets.hot[key.slot as usize];
        debug_assert!(hot.epoch != self.epoch);
        hot.epoch = self.epoch;
        let bytes = records.len() as u32;
        let buffer = self.ring.keep(records.into());
        self.ring.send(hot.fd, key.slot, buffer, 0, bytes);
    }

    /// Something of this socket is to be sent at the next submit.
    pub(super) fn pump_later(&mut self, key: SocketKey) {
        if let Some(hot) = self.sockets.hot.get_mut(key.slot as usize)
            && hot.generation == key.generation
            && hot.flags & flag::DEFERRED == 0
        {
            hot.flags |= flag::DEFERRED;
            self.pumping.push(key);
        }
    }

    /// Sends record after record of every socket that has some, until all is sent or the kernel takes no more.
    pub(super) fn pump(&mut self) {
        for round in 0.. {
            if self.pumping.is_empty() {
                return;
            }
            let mut sent = false;
            for key in std::mem::take(&mut self.pumping) {
                sent |= self.pump_one(key, round == self.settings.records_max);
            }
            if sent {
                self.ring.submit(false, None);
                self.settle();
            }
        }
    }

    /// The next record of one socket; whether a send was queued. After its `last` one it is a slow one.
    fn pump_one(&mut self, key: SocketKey, last: bool) -> bool {
        self.drop_expired(key);
        let Some(socket) = self.sockets.get(key) else { return false };
        if socket.end == End::Dying {
            return false;
        }
        let writing = socket.writing;
        let Some(tls) = &mut socket.tls else { return false };
        let unsent = std::mem::take(&mut tls.unsent);
        let empty = unsent.is_empty() && socket.outbox.is_none();
        let flags = &mut self.sockets.hot[key.slot as usize].flags;
        if *flags & flag::DEAF != 0 {
            return false;
        }
        *flags &= !flag::DEFERRED;
        if empty && !writing {
            if *flags & flag::SLOW != 0 {
                *flags &= !flag::SLOW;
                self.outcomes.push((key, Outcome::Writable));
            }
            return false;
        }
        if writing || last {
            self.restore(key, unsent);
            self.stall(key);
            return false;
        }
        if !self.ring.has_room() {
            self.ring.submit(false, None);
            self.settle();
        }
        if !unsent.is_empty() {
            self.send_records(key, unsent);
        } else if self.seal_next(key) {
            self.send_record(key);
        } else {
            self.lost(key);
            return false;
        }
        self.pump_later(key);
        true
    }

    fn restore(&mut self, key: SocketKey, unsent: Bytes) {
        if let Some(Socket { tls: Some(tls), .. }) = self.sockets.get(key) {
            tls.unsent = unsent;
        }
    }

    /// The kernel did not take all of a record.
    pub(super) fn sealed_short(&mut self, key: SocketKey, rest: &[u8]) {
        let Some(socket) = self.sockets.get(key) else { return };
        let Some(tls) = &mut socket.tls else { return };
        tls.put_back(rest);
        self.stall(key);
    }

    /// From now on the socket takes what it can when it can, and its owner knows.
    fn stall(&mut self, key: SocketKey) {
        let flags = &mut self.sockets.hot[key.slot as usize].flags;
        if *flags & flag::SLOW == 0 {
            *flags |= flag::SLOW;
            self.outcomes.push((key, Outcome::Congested));
        }
        self.check_pressure(key);
        let Some(socket) = self.sockets.get(key) else { return };
        if !socket.writing {
            self.write_sealed(key);
        }
    }

    fn check_pressure(&mut self, key: SocketKey) {
        let is_over = |io: &mut Self| {
            let outbox = io.sockets.get(key).and_then(|socket| socket.outbox.as_ref());
            outbox.is_some_and(|outbox| outbox.is_over(io.settings.outbox_bytes_max))
        };
        if is_over(self) {
            self.drop_expired(key);
        }
        let is_over = is_over(self);
        let flags = &mut self.sockets.hot[key.slot as usize].flags;
        if is_over && *flags & (flag::BOUNDED | flag::PRESSED) == flag::BOUNDED {
            *flags |= flag::PRESSED;
            self.outcomes.push((key, Outcome::Slow));
        }
    }

    /// Puts what is unsent in flight, or the next record.
    pub(super) fn write_sealed(&mut self, key: SocketKey) {
        let Some(Socket { tls: Some(tls), outbox, .. }) = self.sockets.get(key) else { return };
        if tls.unsent.is_empty() {
            if outbox.is_none() {
                // All of it has expired: its owner is told.
                return self.pump_later(key);
            }
            if !self.seal_next(key) {
                return self.lost(key);
            }
            let record = Bytes::copy_from_slice(&self.arena);
            self.arena.clear();
            self.restore(key, record);
        }
        let Self { sockets, ring, .. } = self;
        if let Some(socket) = sockets.get(key) {
            write(ring, key.slot, socket);
        }
    }

    /// A write of a TLS socket ended.
    pub(super) fn sealed_written(&mut self, slot: u32, result: i32) {
        let key = self.sockets.key(slot);
        match result {
            sent if sent >= 0 => {
                if let Some(Socket { tls: Some(tls), .. }) = self.sockets.get(key) {
                    tls.unsent.advance(sent as usize);
                }
                self.pump_later(key);
            }
            error if matches!(-error, libc::EAGAIN | libc::EINTR) => self.write_sealed(key),
            error if lacks_memory(error) => self.pause(key),
            _ => self.lost(key),
        }
    }

    /// Reads records: plaintext is appended to `plain`; what there is to answer goes out at the next submit.
    fn unseal(
        &mut self,
        key: SocketKey,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Progress, TlsFault> {
        let Some(Socket { tls: Some(tls), .. }) = self.sockets.get(key) else {
            return Ok(Progress::default());
        };
        let result = tls.stream.receive(bytes, plain, &mut self.arena);
        let has_answer = !self.arena.is_empty();
        tls.queue(&self.arena);
        self.arena.clear();
        if result.as_ref().is_ok_and(|progress| progress.handshaken) {
            let counters = &self.shared.counters;
            counters.tls_handshakes.add(1);
            counters.tls_resumptions.add(u64::from(tls.stream.is_resumed()));
            counters.tls_client_certificates.add(u64::from(tls.stream.client_certificate().is_some()));
        }
        if has_answer {
            self.pump_later(key);
        }
        result
    }

    /// Counts a handshake that was not done, once.
    pub(crate) fn handshake_failed(&mut self, key: SocketKey, class: FailureClass) {
        if let Some(Socket { tls: Some(tls), .. }) = self.sockets.get(key)
            && tls.stream.is_handshaking()
        {
            tls.stream.give_up();
            self.count_failure(class);
        }
    }

    fn count_failure(&self, class: FailureClass) {
        let at = FailureClass::ALL.iter().position(|known| *known == class).expect("all are there");
        self.shared.tls_failures[at].add(1);
    }

    /// Queues our goodbye if it is still owed; the socket is shut when that is sent.
    pub(super) fn say_goodbye(&mut self, key: SocketKey) -> bool {
        let Some(Socket { tls: Some(tls), .. }) = self.sockets.get(key) else { return false };
        tls.stream.say_goodbye(&mut self.arena);
        let owed = !self.arena.is_empty();
        tls.queue(&self.arena);
        self.arena.clear();
        if owed {
            self.pump_later(key);
        }
        owed
    }

    /// What can still be said to a socket that ends at once: only where all before it is in the kernel's hands,
    /// and only what the kernel takes now.
    pub(super) fn last_words(&mut self, key: SocketKey) {
        let Some(hot) = self.sockets.hot.get(key.slot as usize).copied() else { return };
        let silent = flag::SLOW | flag::DEAF;
        if hot.flags & (flag::TLS | silent) != flag::TLS || hot.epoch == self.epoch {
            return;
        }
        let Some(socket) = self.sockets.get(key) else { return };
        let Some(tls) = &mut socket.tls else { return };
        if socket.writing || socket.outbox.is_some() {
            return;
        }
        tls.stream.say_goodbye(&mut self.arena);
        tls.queue(&self.arena);
        self.arena.clear();
        if !tls.unsent.is_empty() {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let _ = SockRef::from(&socket.fd).send_with_flags(&tls.unsent, flags);
        }
    }

    /// The socket speaks no TLS: what is sent from now on goes out as it is.
    fn unveil(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(key) {
            socket.tls = None;
            self.sockets.hot[key.slot as usize].flags &= !flag::TLS;
        }
    }
}

fn write(ring: &mut Ring, slot: u32, socket: &mut Socket) {
    let Some(Tls { unsent, .. }) = socket.tls.as_deref() else { return };
    ring.write(socket.fd.as_raw_fd(), slot, std::iter::once(unsent), true);
    socket.writing = true;
}

impl Core {
    /// Bytes of a TLS socket: what they say is taken as if it had come in plain.
    pub(crate) fn sealed_input(&mut self, key: SocketKey, bytes: &mut [u8]) {
        let mut plain = std::mem::take(&mut self.plain);
        let result = self.io.unseal(key, bytes, &mut plain);
        if !plain.is_empty() {
            self.input(key, &mut plain);
            plain.clear();
        }
        if plain.capacity() <= PLAIN_KEPT_MAX {
            self.plain = plain;
        }
        match result {
            Ok(Progress { ended: true, .. }) => {
                self.io.peer_ended(key);
                self.ended(key);
            }
            Ok(_) => {}
            Err(fault) => self.sealed_fault(key, &fault),
        }
    }

    fn sealed_fault(&mut self, key: SocketKey, fault: &TlsFault) {
        tracing::debug!(class = fault.class.name(), reason = fault.reason, "a TLS connection failed");
        let Some(socket) = self.io.sockets.get(key) else { return };
        let was_open = socket.tls.as_ref().is_some_and(|tls| tls.stream.was_open());
        if was_open || !matches!(socket.kind, Kind::Head) {
            return self.lost_in_its_time(key);
        }
        self.io.count_failure(fault.class);
        if fault.class == FailureClass::PlainHttp {
            let mut response = Vec::new();
            write_fault(&mut response, 400, &[], "this port speaks TLS: use https:// or wss://");
            self.io.unveil(key);
            self.io.shared.counters.heads_refused.add(1);
            self.io.send(key, response.into());
        }
        // The alert, if there is one, is on its way.
        self.io.finish(key);
    }
}
