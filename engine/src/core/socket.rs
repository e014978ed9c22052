//! A core's sockets: slots, what each is doing, and the dense part that fan-out touches.

use crate::admission::Counted;
use crate::net::Listener;
use crate::net::patience::Http;
use crate::net::tls::TlsStream;
use bytes::Bytes;
use ringhub_hub::{ConnectionKey, Outbox, Paged, SocketKey};
use ringhub_protocol::pubsub::Subprotocol;
use ringhub_protocol::ws::Decoder;
use std::fmt;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// What a fan-out needs to know of a socket: 16 bytes, in an array of their own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hot {
    pub(crate) fd: RawFd,
    pub(crate) generation: u32,
    /// The submit epoch of its last fast send.
    pub(crate) epoch: u32,
    pub(crate) flags: u32,
}

/// Bits of [`Hot::flags`].
pub(crate) mod flag {
    /// There is a socket in the slot.
    pub(crate) const OPEN: u32 = 1;
    /// It has an outbox: sends go behind what is there.
    pub(crate) const SLOW: u32 = 2;
    /// A second send of this submit waits for the next one: sends go behind it. Of a TLS socket: something
    /// waits to be encrypted or sent, and its key is in the list of those.
    pub(crate) const DEFERRED: u32 = 4;
    /// Nothing is sent any more.
    pub(crate) const DEAF: u32 = 8;
    /// Over the outbox's bound it is a slow consumer.
    pub(crate) const BOUNDED: u32 = 16;
    /// It was found to be one.
    pub(crate) const PRESSED: u32 = 32;
    /// What is sent must be encrypted first.
    pub(crate) const TLS: u32 = 64;
    /// What matters to a fast send of plain bytes.
    pub(crate) const SENDABLE: u32 = OPEN | SLOW | DEFERRED | DEAF | TLS;
}

/// One socket.
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: Kind,
    /// What waits to be sent, in plain; of a TLS socket it is encrypted when its turn comes.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// There for sockets of TLS listeners.
    pub(crate) tls: Option<Box<Tls>>,
    /// Input that was received and not taken yet; boxed, for most sockets have none.
    pub(crate) unread: Option<Box<Unread>>,
    pub(crate) receiving: Receiving,
    /// A write is in flight, or the wait for one.
    pub(crate) writing: bool,
    /// It is the wait.
    pub(crate) polling: bool,
    pub(crate) cancels: u8,
    /// The peer will send nothing more.
    pub(crate) ended: bool,
    /// The peer has said goodbye: its end need not be awaited.
    pub(crate) farewell: bool,
    /// It emptied the buffers while others wanted some: one at a time until it says less than fits into one.
    pub(crate) greedy: bool,
    /// It came when the core had its maximum.
    pub(crate) surplus: bool,
    pub(crate) end: End,
    pub(crate) listener: Listener,
    /// The address in a PROXY header; boxed, for few sockets have one.
    pub(crate) proxied: Option<Box<IpAddr>>,
}

/// What a TLS socket has besides.
pub(crate) struct Tls {
    pub(crate) stream: TlsStream,
    /// Records the kernel has not taken yet, in order; they go out before anything is encrypted. At most one
    /// record of data (design §3 rule 7) and what a handshake says at one go.
    pub(crate) unsent: Bytes,
}

impl Tls {
    pub(crate) fn new(stream: TlsStream) -> Self {
        Self { stream, unsent: Bytes::new() }
    }

    /// Puts records behind those that wait.
    pub(crate) fn queue(&mut self, records: &[u8]) {
        if !records.is_empty() {
            self.unsent = [&self.unsent, records].concat().into();
        }
    }

    /// Puts the rest of what was sent in part before those that wait. A copy: the rest is a small part of a
    /// buffer that is shared with other sockets.
    pub(crate) fn put_back(&mut self, rest: &[u8]) {
        self.unsent = [rest, &self.unsent].concat().into();
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({} bytes unsent)", self.unsent.len())
    }
}

/// What a socket speaks.
pub(crate) enum Kind {
    /// Its PROXY header is not complete; it stands in `unread`.
    Proxy,
    /// Its first request head is not complete; it stands in `unread`.
    Head,
    /// HTTP.
    Http(Http),
    /// A client whose hub has not opened it yet; what it sends waits in `unread`.
    Opening,
    /// A client.
    Client(Client),
    /// A client of the conformance listener.
    Echo(Echo),
    /// The closing handshake: everything but a close frame is passed over. Without a decoder nothing the peer
    /// says makes sense any more.
    Closing(Option<Decoder>),
}

/// Input that was received and not taken yet. It derefs to that.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    bytes: Vec<u8>,
    /// So much in front is taken: what is taken in small parts is not moved for each of them.
    taken: usize,
}

impl Unread {
    /// Puts bytes behind what there is; what is taken gives them its place if that is half of it all.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.taken >= self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// So much of it is taken.
    pub(crate) fn advance(&mut self, taken: usize) {
        self.taken += taken;
    }

    /// What it costs, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl From<Vec<u8>> for Unread {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, taken: 0 }
    }
}

impl Deref for Unread {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

impl DerefMut for Unread {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.taken..]
    }
}

/// A WebSocket client of a hub.
pub(crate) struct Client {
    pub(crate) hub: u32,
    pub(crate) connection: ConnectionKey,
    pub(crate) subprotocol: Subprotocol,
    pub(crate) decoder: Decoder,
    /// Pings in a row it did not answer.
    pub(crate) pings_missed: u8,
    /// Whether it said anything since the last ping.
    pub(crate) heard: bool,
    /// As many of its events wait as may: nothing is read from it.
    pub(crate) held: bool,
    /// It published while memory is short: nothing is read from it until the next look.
    pub(crate) slowed: bool,
    /// It stands among those that said more than they are heard at one go.
    pub(crate) is_put_off: bool,
    /// Frames it was heard in the go of this number.
    pub(crate) frames: u16,
    pub(crate) go: u32,
    /// What counts the bytes it sends, if anything does.
    pub(crate) meter: Option<Arc<Counted>>,
}

/// A client of the conformance listener.
pub(crate) struct Echo {
    pub(crate) decoder: Decoder,
    /// The largest window for what it is sent deflated, as a power of two; none if it cannot inflate.
    pub(crate) window_bits: Option<u8>,
}

impl Client {
    /// Whether nothing is read from it for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.held || self.slowed
    }
}

/// What receive is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiving {
    No,
    Once,
    /// Until it is cancelled, or no buffer is free.
    Multi,
    /// The same, and it got something since it was armed.
    Fed,
    /// Cancelled; its end is still to come.
    Ending,
}

/// How far a socket is with ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Not at all.
    Open,
    /// Our close frame is sent or queued; the peer's is awaited.
    Handshake,
    /// All is said: shut down for writing once the outbox is empty.
    Finish,
    /// Shut down for writing; the peer's end is awaited.
    Shut,
    /// Shut down; closed when nothing of it is in flight (rule 2).
    Dying,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd, listener: Listener) -> Self {
        Self {
            fd,
            kind: Kind::Head,
            outbox: None,
            tls: None,
            unread: None,
            receiving: Receiving::No,
            writing: false,
            polling: false,
            cancels: 0,
            ended: false,
            farewell: false,
            greedy: false,
            surplus: false,
            end: End::Open,
            listener,
            proxied: None,
        }
    }

    /// Whether the kernel may still complete something for it.
    pub(crate) fn in_flight(&self) -> bool {
        self.receiving != Receiving::No || self.writing || self.cancels > 0
    }
}

/// The slots.
#[derive(Default)]
pub(crate) struct Sockets {
    pub(crate) hot: Vec<Hot>,
    slots: Paged<Socket>,
    generation: u32,
}

impl Sockets {
    /// Puts a socket into a slot.
    pub(crate) fn insert(&mut self, socket: Socket) -> SocketKey {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let tls = if socket.tls.is_some() { flag::TLS } else { 0 };
        let hot = Hot { fd: socket.fd.as_raw_fd(), generation, epoch: 0, flags: flag::OPEN | tls };
        let slot = self.slots.insert(socket);
        match self.hot.get_mut(slot) {
            Some(place) => *place = hot,
            None => self.hot.push(hot),
        }
        SocketKey { slot: slot as u32, generation }
    }

    /// Takes a socket out.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Socket> {
        let socket = self.slots.remove(slot as usize)?;
        self.hot[slot as usize] = Hot::default();
        Some(socket)
    }

    /// The socket of this key, if it is still there.
    pub(crate) fn get(&mut self, key: SocketKey) -> Option<&mut Socket> {
        let hot = self.hot.get(key.slot as usize)?;
        if hot.generation == key.generation { self.slots.get_mut(key.slot as usize) } else { None }
    }

    /// The same, to look at.
    pub(crate) fn peek(&self, key: SocketKey) -> Option<&Socket> {
        let hot = self.hot.get(key.slot as usize)?;
        if hot.generation == key.generation { self.slots.get(key.slot as usize) } else { None }
    }

    /// The socket in this slot, for completions (a slot is not reused while they can come).
    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Socket> {
        self.slots.get_mut(slot as usize)
    }

    /// The key of the socket in this slot.
    pub(crate) fn key(&self, slot: u32) -> SocketKey {
        SocketKey { slot, generation: self.hot[slot as usize].generation }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All sockets, with their keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (SocketKey, &Socket)> {
        self.slots.iter().map(|(slot, socket)| (self.key(slot as u32), socket))
    }

    /// Keys of all sockets.
    pub(crate) fn keys(&self) -> Vec<SocketKey> {
        self.slots.iter().map(|(slot, _)| self.key(slot as u32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Socket {
        Socket::new(std::os::unix::net::UnixStream::pair().unwrap().0.into(), Listener::Service)
    }

    /// What an idle connection costs here; the hub has its own part of the kibibyte (design §4).
    #[test]
    fn an_idle_socket_is_small() {
        let (hot, cold) = (size_of::<Hot>(), size_of::<Option<Socket>>());
        assert!(hot == 16 && cold <= 128, "{hot} and {cold} bytes");
    }

    #[test]
    fn a_reused_slot_does_not_answer_to_the_old_key() {
        let mut sockets = Sockets::default();
        let first = sockets.insert(socket());
        assert!(sockets.get(first).is_some());
        sockets.remove(first.slot).unwrap();
        assert!(sockets.get(first).is_none() && sockets.len() == 0);
        let second = sockets.insert(socket());
        assert_eq!(second.slot, first.slot);
        assert!(sockets.get(first).is_none() && sockets.get(second).is_some());
        assert_eq!(sockets.keys(), [second]);
    }
}
