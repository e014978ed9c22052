//! Receiving: when a socket is received from, and who gets the buffers.
//!
//! What must stay true: nothing is armed for a socket that has a receive in flight, whose peer has ended, or whose
//! input waits to be taken (rule 3); every buffer is given back in the turn in which it came, so that receives armed at
//! the next submit find some.

use crate::core::buffers::Lent;
use crate::core::io::Io;
use crate::core::ring::Completion;
use crate::core::socket::{End, Kind, Receiving, flag};
use crate::net::tls::FailureClass;
use ringhub_hub::SocketKey;
use std::os::fd::AsRawFd;

/// What came in.
pub(crate) enum Received {
    /// Bytes; give them back with [`Io::recycle`].
    Bytes(SocketKey, Lent),
    /// The peer is done sending.
    End(SocketKey),
    /// The socket failed.
    Lost(SocketKey),
    /// Nothing to do, but to receive again.
    Nothing,
    /// Nothing to do: it is received again by and by.
    Later,
}

impl Io {
    /// Arms receives, before anything the kernel does in this submit can take the buffers that the last turn gave back.
    /// Coming last is not enough: who has emptied them gets what comes later too. But one that is alone may have all.
    pub(super) fn arm_all(&mut self) {
        let are_contended = self.starved.len() + self.sated.len() > 1;
        for key in std::mem::take(&mut self.starved) {
            self.arm_now(key);
        }
        for key in std::mem::take(&mut self.arming) {
            self.arm_now(key);
        }
        for key in std::mem::take(&mut self.sated) {
            if let Some(socket) = self.sockets.get(key) {
                socket.greedy |= are_contended;
            }
            self.arm_now(key);
        }
    }

    /// Takes in what a receive completed with.
    pub(crate) fn received(&mut self, completion: &Completion) -> Received {
        let slot = completion.slot;
        let buffer = completion
            .buffer()
            .map(|id| self.ring.buffers().lend(id, usize::try_from(completion.result()).unwrap_or(0)));
        let key = self.sockets.key(slot);
        let Some(socket) = self.sockets.at(slot) else { unreachable!("a slot is kept while it receives") };
        let before = socket.receiving;
        if !completion.more() {
            socket.receiving = Receiving::No;
            let is_full = buffer.as_ref().is_some_and(|buffer| buffer.len() == self.ring.buffers().bytes());
            // One that found no buffer may have as much to say as before.
            let has_failed = completion.result() < 0;
            socket.greedy &= is_full || has_failed || before != Receiving::Once;
        } else if before == Receiving::Multi {
            socket.receiving = Receiving::Fed;
        }
        let end = socket.end;
        if end == End::Dying {
            if let Some(buffer) = buffer {
                self.recycle(buffer);
            }
            self.dying.push(slot);
            return Received::Nothing;
        }
        match (completion.result(), buffer) {
            (1.., Some(buffer)) => {
                self.shared.counters.bytes_in.add(buffer.len() as u64);
                Received::Bytes(key, buffer)
            }
            (result, buffer) => {
                if let Some(buffer) = buffer {
                    self.recycle(buffer);
                }
                self.not_received(key, result, before)
            }
        }
    }

    /// A receive ended without bytes; `before` is what it was.
    fn not_received(&mut self, key: SocketKey, result: i32, before: Receiving) -> Received {
        match -result {
            0 => {
                self.peer_ended(key);
                Received::End(key)
            }
            // Every buffer is given back before receives are armed.
            libc::ENOBUFS => {
                self.shared.counters.buffers_exhausted.add(1);
                if before == Receiving::Fed { &mut self.sated } else { &mut self.starved }.push(key);
                Received::Later
            }
            // Whoever handles this arms it again, if it is to go on.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => Received::Nothing,
            libc::ENOMEM => {
                self.pause(key);
                Received::Later
            }
            _ => {
                self.peer_ended(key);
                Received::Lost(key)
            }
        }
    }

    /// The peer will send nothing more.
    pub(super) fn peer_ended(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        socket.ended = true;
        if socket.tls.as_ref().is_some_and(|tls| !tls.stream.is_untouched()) {
            self.handshake_failed(key, FailureClass::Closed);
        }
    }

    /// Gives a receive buffer back.
    pub(crate) fn recycle(&mut self, buffer: Lent) {
        self.ring.buffers().recycle(buffer);
    }

    /// A cancel ended, or could not be made.
    pub(crate) fn cancelled(&mut self, completion: &Completion) {
        if let Some(socket) = self.sockets.at(completion.slot) {
            socket.cancels -= 1;
            if socket.end == End::Dying {
                self.dying.push(completion.slot);
            }
            if completion.result() < 0 && socket.receiving == Receiving::Ending {
                // It goes on: the next input that is to wait tries again.
                socket.receiving = Receiving::Multi;
            }
        }
    }

    /// Receives from this socket, from the next submit on.
    pub(crate) fn arm(&mut self, key: SocketKey) {
        self.arming.push(key);
    }

    /// Goes on receiving where a receive has ended and nothing holds it back.
    pub(crate) fn rearm(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(key)
            && socket.receiving == Receiving::No
            && socket.end != End::Dying
        {
            // Sockets with parked input are armed when it is taken.
            self.arming.push(key);
        }
    }

    fn arm_now(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        if socket.receiving != Receiving::No || socket.ended || socket.end == End::Dying {
            return;
        }
        let fd = socket.fd.as_raw_fd();
        match &socket.kind {
            Kind::Opening => {}
            Kind::Client(_) | Kind::Echo(_) if socket.unread.is_some() => {}
            Kind::Client(_) | Kind::Echo(_) if !socket.greedy => {
                socket.receiving = Receiving::Multi;
                self.ring.receive(fd, key.slot);
            }
            // Armed again when its request is answered.
            Kind::Http(http) if http.handler.is_full() => self.shared.counters.receive_pauses.add(1),
            Kind::Http(_) if socket.outbox.is_some() => {
                // A slow one tells when it has taken its answer; one that speaks TLS may have by the next submit.
                if self.sockets.hot[key.slot as usize].flags & flag::SLOW == 0 {
                    self.arming.push(key);
                }
            }
            Kind::Client(_) | Kind::Echo(_) | Kind::Proxy | Kind::Head | Kind::Http(_) | Kind::Closing(_) => {
                socket.receiving = Receiving::Once;
                self.ring.receive_once(fd, key.slot);
            }
        }
    }

    /// Keeps `rest` for later and stops receiving more (rule 3).
    pub(crate) fn park(&mut self, key: SocketKey, rest: &[u8]) {
        let Some(socket) = self.sockets.get(key) else { return };
        socket.unread.get_or_insert_default().push(rest);
        self.pause_receive(key);
    }

    /// Receives no more from this socket until what has come is taken.
    pub(crate) fn pause_receive(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get(key) else { return };
        if matches!(socket.receiving, Receiving::Multi | Receiving::Fed) {
            self.shared.counters.receive_pauses.add(1);
            socket.receiving = Receiving::Ending;
            socket.cancels += 1;
            self.ring.cancel_receive(key.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ring::Ring;
    use crate::core::settings::{RingSettings, SocketSettings};
    use crate::core::socket::{Echo, Socket};
    use crate::net::Listener;
    use ringhub_protocol::ws::Decoder;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    /// Buffers of the tests' rings, and the bytes of one.
    const BUFFERS: usize = 8;
    const BYTES: usize = 256;

    fn io() -> Io {
        let settings =
            RingSettings { buffers: BUFFERS as u16, buffer_bytes: BYTES as u32, ..RingSettings::default() };
        Io::new(Ring::new(&settings).unwrap(), SocketSettings::default(), Arc::default())
    }

    /// A socket that is received from without end, and its peer.
    fn socket(io: &mut Io) -> (SocketKey, UnixStream) {
        let (peer, end) = UnixStream::pair().unwrap();
        let mut socket = Socket::new(end.into(), Listener::Service);
        socket.kind = Kind::Echo(Echo { decoder: Decoder::new(), window_bits: None });
        let key = io.adopt(socket);
        io.arm(key);
        (key, peer)
    }

    /// A turn of a core that does nothing with what it gets; so many bytes each of `sockets` sent.
    fn turn<const N: usize>(io: &mut Io, sockets: [SocketKey; N]) -> [usize; N] {
        io.submit(false, None);
        let mut bytes = [0; N];
        while let Some(completion) = io.ring.next() {
            match io.received(&completion) {
                Received::Bytes(key, buffer) => {
                    bytes[sockets.iter().position(|socket| *socket == key).unwrap()] += buffer.len();
                    io.recycle(buffer);
                    io.rearm(key);
                }
                Received::Nothing => io.rearm(io.sockets.key(completion.slot)),
                Received::Later => {}
                Received::End(_) | Received::Lost(_) => panic!("nobody has left"),
            }
        }
        bytes
    }

    /// One that always had more to say got all the buffers in every turn, and who wanted one found one in every other.
    #[test]
    fn who_empties_the_buffers_leaves_some_to_others_from_then_on() {
        let mut io = io();
        let (flooder, mut flood) = socket(&mut io);
        let (other, mut drip) = socket(&mut io);
        flood.write_all(&[0; 64 * BYTES + 1]).unwrap();
        drip.write_all(b"x").unwrap();
        assert_eq!(turn(&mut io, [flooder, other]), [BUFFERS * BYTES, 0]);
        for _ in BUFFERS..64 {
            assert_eq!(turn(&mut io, [flooder, other]), [BYTES, 1]);
            drip.write_all(b"x").unwrap();
        }
        assert_eq!(io.shared.counters.buffers_exhausted.get(), 2, "once each");
        // Its last byte, and it is as free as before.
        assert_eq!(turn(&mut io, [flooder, other]), [1, 1]);
        flood.write_all(&[0; 3 * BYTES]).unwrap();
        assert_eq!(turn(&mut io, [flooder, other]), [3 * BYTES, 0]);
    }

    /// Who was to get one at a time was free to take all again as soon as it found none.
    #[test]
    fn more_flooders_than_buffers_take_turns() {
        const FLOODERS: usize = BUFFERS + BUFFERS / 2;
        let mut io = io();
        let (flooders, mut floods): (Vec<_>, Vec<_>) = (0..FLOODERS).map(|_| socket(&mut io)).unzip();
        let flooders: [_; FLOODERS] = flooders.try_into().unwrap();
        for flood in &mut floods {
            flood.write_all(&[0; 256 * BYTES]).unwrap();
        }
        // One after another shows that it wants all.
        for _ in 0..2 * FLOODERS {
            turn(&mut io, flooders);
        }
        let mut all = [0; FLOODERS];
        for _ in 0..FLOODERS {
            let bytes = turn(&mut io, flooders);
            assert!(bytes.iter().all(|bytes| *bytes <= BYTES), "one buffer each: {bytes:?}");
            all.iter_mut().zip(bytes).for_each(|(all, bytes)| *all += bytes);
        }
        assert_eq!(all, [BUFFERS * BYTES; FLOODERS], "all equally many");
    }

    #[test]
    fn who_is_alone_may_have_all_buffers_every_turn() {
        let mut io = io();
        let (idle, _peer) = socket(&mut io);
        let (flooder, mut flood) = socket(&mut io);
        flood.write_all(&[0; 4 * BUFFERS * BYTES]).unwrap();
        for _ in 0..4 {
            assert_eq!(turn(&mut io, [flooder, idle]), [BUFFERS * BYTES, 0]);
        }
    }
}
