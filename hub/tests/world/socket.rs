//! Sockets between a core and its clients: what they took, what they keep, and whose they are.

use super::client::Byte;
use ringhub_hub::{Chunk, Outbox, Part, Sink, SocketKey, Time};
use ringhub_protocol::ws::Inflater;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Socket {
    pub(super) generation: u32,
    /// Whose it is.
    pub(super) client: Option<usize>,
    /// In the client's hands when it reads.
    pub(super) wire: VecDeque<Byte>,
    /// What the socket did not take.
    pub(super) kept: Outbox,
    pub(super) congested: bool,
}

impl Socket {
    /// The socket takes so many bytes of what was kept.
    pub(super) fn take(&mut self, bytes: usize, taken: Time, waited: bool) {
        let kept = self.kept.chunks().flat_map(|chunk| chunk.iter().copied());
        self.wire.extend(kept.take(bytes).map(|value| Byte { value, taken, waited }));
        self.kept.advance(bytes);
    }
}

/// Where hubs put bytes.
pub(super) struct Writer<'a> {
    pub(super) sockets: &'a mut [Socket],
    /// Slots that got some.
    pub(super) sent: Vec<usize>,
}

impl Sink for Writer<'_> {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        for key in sockets {
            self.write(*key, bytes.clone());
        }
    }

    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        for part in parts {
            self.write(part.socket, bytes.slice(part.start as usize..part.end as usize));
        }
    }
}

impl Writer<'_> {
    fn write(&mut self, key: SocketKey, bytes: Chunk) {
        let socket = &mut self.sockets[key.slot as usize];
        if socket.generation == key.generation {
            socket.kept.push(bytes, usize::MAX);
            self.sent.push(key.slot as usize);
        }
    }
}

/// Takes one whole frame: its opcode, its payload and its first byte.
pub(super) fn frame(inbox: &mut VecDeque<Byte>) -> Option<(u8, Vec<u8>, Byte)> {
    let at = |index: usize| Some(usize::from(inbox.get(index)?.value));
    let (len, header) = match at(1)? {
        126 => (at(2)? << 8 | at(3)?, 4),
        127 => ((2..10).try_fold(0, |len, index| Some(len << 8 | at(index)?))?, 10),
        len => (len, 2),
    };
    if inbox.len() < header + len {
        return None;
    }
    let first = inbox[0];
    inbox.drain(..header);
    let mut payload: Vec<u8> = inbox.drain(..len).map(|byte| byte.value).collect();
    if first.value & 0x40 != 0 {
        let mut inflater = Inflater::default();
        let message = inflater.inflate(&payload, 1 << 20, first.value & 15 == 1);
        payload = message.expect("a whole message").to_vec();
    }
    Some((first.value & 15, payload, first))
}
