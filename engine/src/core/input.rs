//! What sockets say, by what they are: to the head's reader, to HTTP, to the client's hub. What cannot be taken now is
//! parked, and taken up again later.
//!
//! What must stay true: bytes are taken in the order they came; nothing is taken from a client while its input is
//! parked, held by its hub, or slowed because memory is short; no client is heard more than [`FRAMES_MAX`] frames at one
//! go, whatever it has sent, while others have something to say: they do not wait behind who says much.

use crate::core::socket::{Client, Kind, Socket, flag};
use crate::core::turn::{Core, Heard, TURN_BYTES};
use crate::net::client::{Said, listen};
use ringhub_hub::{Input, SocketKey, Transport};
use ringhub_protocol::ws::deflate::InflateCounts;
use ringhub_protocol::ws::frame::write_frame;
use ringhub_protocol::ws::{Event, Inflater, Opcode};

/// Frames, or parts of one, taken from a client at one go. What it sent beyond them is for the next, which is in the next
/// turn if anybody else has something to say. A burst of an application fits; of what floods, that is 30 to 150 µs.
pub(super) const FRAMES_MAX: u16 = 256;

impl Core {
    /// Bytes as they came over the wire. A PROXY header stands in front of TLS, in plain.
    pub(crate) fn raw_input(&mut self, key: SocketKey, bytes: &mut [u8]) {
        if self.io.sockets.hot[key.slot as usize].flags & flag::TLS == 0 || self.awaits_proxy_header(key) {
            self.input(key, bytes);
        } else {
            self.sealed_input(key, bytes);
        }
    }

    fn awaits_proxy_header(&self, key: SocketKey) -> bool {
        self.io.sockets.peek(key).is_some_and(|socket| matches!(socket.kind, Kind::Proxy))
    }

    /// Plain bytes of a socket.
    pub(crate) fn input(&mut self, key: SocketKey, bytes: &mut [u8]) {
        let Some(socket) = self.io.sockets.get(key) else { return };
        self.heard = match self.heard {
            Heard::Nobody => Heard::One(key),
            Heard::One(one) if one == key => Heard::One(key),
            _ => Heard::Others,
        };
        if !matches!(socket.kind, Kind::Client(_)) {
            self.turn_bytes += bytes.len();
        }
        match &mut socket.kind {
            // What came before it is not taken yet.
            Kind::Client(_) | Kind::Echo(_) if socket.unread.is_some() => self.io.park(key, bytes),
            Kind::Client(client) if client.is_paused() => self.io.park(key, bytes),
            Kind::Client(_) => {
                let mut taken = self.client_input(key, bytes);
                if taken < bytes.len() {
                    // Or looking for others would bring in all it has sent.
                    self.io.pause_receive(key);
                }
                while taken < bytes.len() && self.is_alone(key) {
                    self.go = self.go.wrapping_add(1);
                    taken += self.client_input(key, &mut bytes[taken..]);
                }
                if taken < bytes.len() {
                    self.io.park(key, &bytes[taken..]);
                    self.go_on_later(key);
                }
            }
            Kind::Echo(_) => self.echo_input(key, bytes),
            Kind::Proxy => self.proxy_input(key, bytes),
            Kind::Head => self.head_input(key, bytes),
            Kind::Http(_) => self.http_input(key, bytes),
            Kind::Closing(_) => self.closing_input(key, bytes),
            Kind::Opening => self.io.park(key, bytes),
        }
    }

    /// Takes what a socket sent earlier.
    pub(super) fn resume_input(&mut self, key: SocketKey) {
        let Some(socket) = self.io.sockets.get(key) else { return };
        if matches!(socket.kind, Kind::Head) {
            return self.read_head(key);
        }
        if matches!(&socket.kind, Kind::Client(client) if client.is_paused()) {
            // Its hub says when, or memory does.
            return;
        }
        if matches!(socket.kind, Kind::Http(_)) {
            return self.http_progress(key);
        }
        let is_client = matches!(socket.kind, Kind::Client(_));
        let Some(mut unread) = socket.unread.take() else { return self.io.arm(key) };
        if is_client {
            let taken = self.client_input(key, &mut unread);
            unread.advance(taken);
            if !unread.is_empty() {
                if let Some(socket) = self.io.sockets.get(key) {
                    socket.unread = Some(unread);
                }
                return self.go_on_later(key);
            }
        } else {
            self.input(key, &mut unread);
        }
        if let Some(socket) = self.io.sockets.get(key)
            && socket.unread.is_none()
        {
            if socket.ended { self.ended(key) } else { self.io.arm(key) }
        }
    }

    /// Whether a client that has had a go may have another at once: nobody else has said anything, heard or not.
    fn is_alone(&mut self, key: SocketKey) -> bool {
        self.admits()
            && !self.holding
            && self.turn_bytes < TURN_BYTES
            && self.heard == Heard::One(key)
            && self.put_off.is_empty()
            && self.resume.is_empty()
            && !self.others_wait(Some(key.slot))
    }

    /// What is left of a client's input is for a later go, or for when there is room for it; should its hub hold it, its
    /// hub says when.
    fn go_on_later(&mut self, key: SocketKey) {
        if self.holding {
            return;
        }
        if !self.admits() {
            return self.resume.push_back(key);
        }
        if let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key)
            && !std::mem::replace(&mut client.is_put_off, true)
        {
            self.put_off.push_back(key);
        }
    }

    /// One more go at what the client said that was put off first.
    pub(super) fn hear_next(&mut self) {
        let Some(key) = self.put_off.pop_front() else { return };
        if let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key) {
            client.is_put_off = false;
        }
        self.go = self.go.wrapping_add(1);
        self.resume_input(key);
    }

    /// What a client said; returns how many bytes were taken (all, unless another core is behind, or they are more than
    /// a turn takes: in frames, or in bytes when inflated).
    fn client_input(&mut self, key: SocketKey, bytes: &mut [u8]) -> usize {
        let limits = self.settings.sockets.decoder;
        let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key) else {
            return bytes.len();
        };
        client.heard = true;
        client.pings_missed = 0;
        if client.go != self.go {
            (client.go, client.frames) = (self.go, 0);
        }
        let Client { hub, connection, subprotocol, mut frames, .. } = *client;
        let mut decoder = std::mem::take(&mut client.decoder);
        let mut inflater = std::mem::take(&mut self.inflater);
        let from = Transport { connection, socket: key };
        let (mut taken, mut messages) = (0, 0);
        self.holding = false;
        // A few bytes can inflate to very many, and the turn's log must stay bounded.
        let is_deflated = decoder.is_deflated();
        let is_over = |inflater: &Inflater| is_deflated && inflater.has_inflated(TURN_BYTES);
        while taken < bytes.len()
            && frames < FRAMES_MAX
            && self.admits()
            && !self.holding
            && !is_over(&inflater)
        {
            frames += 1;
            match listen(&mut decoder, &mut bytes[taken..], &limits, &mut inflater, subprotocol) {
                Ok((consumed, said)) => {
                    taken += consumed;
                    let Some(said) = said else { continue };
                    messages += 1;
                    if self.short_of_memory && said.takes_memory_unasked() {
                        self.slow_down(key);
                    }
                    match said {
                        Said::Message(message) => self.feed(hub, Input::Message(from, message)),
                        Said::Raw(data) => self.feed(hub, Input::Raw(from, data)),
                        Said::Ping(payload) => {
                            let mut pong = Vec::with_capacity(2 + payload.len());
                            write_frame(&mut pong, Opcode::Pong, payload);
                            self.feed(hub, Input::Control(from, &pong));
                        }
                        Said::Pong => messages -= 1,
                        Said::Close(code) => self.feed(hub, Input::ClientClose(from, code)),
                    }
                }
                Err(broken) => {
                    let counters = &self.io.shared.counters;
                    // Those in front of it were good.
                    self.turn_bytes += taken;
                    counters.messages_in.add(messages);
                    if broken.panicked { &counters.panics } else { &counters.faults }.add(1);
                    if !broken.panicked {
                        self.inflater = inflater;
                        self.count_inflated();
                    }
                    self.feed(hub, Input::Fault(from, broken.code, &broken.reason));
                    self.hear_no_more(key);
                    return bytes.len();
                }
            }
        }
        self.turn_bytes += taken;
        self.io.shared.counters.messages_in.add(messages);
        self.inflater = inflater;
        let inflated = if is_deflated { self.count_inflated() } else { 0 };
        decoder.release();
        let is_put_off = taken < bytes.len() && frames == FRAMES_MAX;
        self.io.shared.counters.inputs_put_off.add(u64::from(is_put_off));
        if let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key) {
            client.frames = frames;
            client.decoder = decoder;
            if client.meter.as_ref().is_some_and(|meter| !meter.take(taken + inflated, self.now)) {
                self.feed(hub, Input::Throttled(from));
            }
        }
        taken
    }

    /// Counts what was inflated, and gives back the memory of a large message. Returns by how many bytes that was more
    /// than came in.
    pub(crate) fn count_inflated(&mut self) -> usize {
        let InflateCounts { messages, bytes_in, bytes_out, refused } = self.inflater.take_counts();
        let counters = &self.io.shared.counters;
        counters.messages_inflated.add(messages);
        counters.inflate_bytes_in.add(bytes_in);
        counters.inflate_bytes_out.add(bytes_out);
        counters.inflate_refused.add(refused);
        self.inflater.release();
        let grown = bytes_out.saturating_sub(bytes_in) as usize;
        self.turn_bytes += grown;
        grown
    }

    /// Waits for the peer's close frame.
    pub(super) fn closing_input(&mut self, key: SocketKey, mut bytes: &mut [u8]) {
        let limits = self.settings.sockets.decoder;
        let Some(socket) = self.io.sockets.get(key) else { return };
        let Kind::Closing(Some(decoder)) = &mut socket.kind else { return };
        while !bytes.is_empty() {
            let consumed = match decoder.next(bytes, &limits) {
                Ok(step) if matches!(step.event, Some(Event::Close { .. })) => return self.io.farewell(key),
                Ok(step) => step.consumed,
                Err(_) => return self.io.finish(key),
            };
            bytes = &mut bytes[consumed..];
        }
        decoder.release();
    }
}
