//! Receivers that several things reach: what is for each of them is noted, put in log order, and delivered in
//! one send of its own.

use crate::SocketKey;
use crate::connection::{Format, Hot, NONE};
use crate::effect::{Part, Sink};
use crate::flush::{Flush, Scratch, check_bounds};
use crate::stamp::{Arena, COPY_BYTES_MAX, Frames};
use crate::turn::Piece;

/// Larger messages for reliable receivers are not copied for each: with a filter there can be very many of them in
/// one flush.
const DIRECT_COPY_BYTES_MAX: usize = 4 << 10;

/// A receiver that several things reach.
pub(crate) struct Mixed {
    pub(crate) slot: u32,
    /// Head of its chain in [`Scratch::refs`].
    pub(crate) refs: u32,
}

pub(crate) struct Ref {
    next: u32,
    what: What,
}

pub(crate) enum What {
    Direct(u32),
    Entries { stream: u32, from: u32, to: u32 },
    Skip { stream: u32, entry: u32 },
}

/// Where a piece's bytes are.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Entry { stream: u32, entry: u32 },
    Direct(Piece),
}

/// Plain receivers of one format, one after the other, that get one and the same message and nothing else: with a
/// filter there can be as many of them as with a fan-out.
#[derive(Default)]
pub(crate) struct Alike {
    /// The message in the turn's frames.
    start: u32,
    end: u32,
    sockets: Vec<SocketKey>,
}

impl Flush<'_> {
    /// Puts each mixed receiver's pieces in log order and delivers them.
    pub(crate) fn mixed(&mut self, arena: &mut Arena<'_, impl Sink>) {
        for at in 0..self.scratch.mixed.len() {
            let Mixed { slot, refs } = self.scratch.mixed[at];
            self.collect(refs);
            let hot = self.hot[slot as usize];
            let format = self.connections[slot as usize].format;
            if format.is_reliable() {
                self.reliable(slot, hot, format, arena);
            } else {
                self.plain(slot, hot, format, arena);
            }
        }
        (0..Format::COUNT).for_each(|f| self.emit_alike(f, arena));
    }

    /// Delivers what is gathered of one format.
    fn emit_alike(&mut self, f: usize, arena: &mut Arena<'_, impl Sink>) {
        let Scratch { alike, frames, .. } = &mut *self.scratch;
        let Alike { start, end, sockets } = &mut alike[f];
        let (start, end) = (*start as usize, *end as usize);
        match sockets[..] {
            [] => {}
            [socket] if end - start <= COPY_BYTES_MAX => {
                arena.reserve(end - start);
                let copied = arena.chunk.len() as u32;
                arena.push(frames, start..end);
                arena.parts.push(Part { socket, start: copied, end: arena.chunk.len() as u32 });
            }
            _ => arena.sink.shared(&frames.slice(start..end), sockets),
        }
        sockets.clear();
    }

    /// Fills `scratch.pieces` from a chain of references, in log order.
    fn collect(&mut self, mut at: u32) {
        let Scratch { refs, pieces, skips, .. } = &mut *self.scratch;
        pieces.clear();
        skips.clear();
        let head = at;
        while at != NONE {
            if let What::Skip { stream, entry } = refs[at as usize].what {
                skips.push((stream, entry));
            }
            at = refs[at as usize].next;
        }
        skips.sort_unstable();
        at = head;
        while at != NONE {
            match refs[at as usize].what {
                What::Skip { .. } => {}
                What::Direct(direct) => {
                    let direct = self.turn.directs[direct as usize];
                    pieces.push((direct.position, Source::Direct(direct.piece)));
                }
                What::Entries { stream, from, to } => {
                    let entries = &self.turn.streams[stream as usize].entries;
                    for entry in from..to {
                        if skips.binary_search(&(stream, entry)).is_err() {
                            pieces.push((entries[entry as usize], Source::Entry { stream, entry }));
                        }
                    }
                }
            }
            at = refs[at as usize].next;
        }
        // Positions are unique among one receiver's pieces.
        pieces.sort_unstable_by_key(|&(position, _)| position);
    }

    fn plain(&mut self, slot: u32, hot: Hot, format: Format, arena: &mut Arena<'_, impl Sink>) {
        if !hot.attached() {
            return;
        }
        let cut = self.connections[slot as usize].cut;
        if let &[(position, Source::Direct(Piece::Data(start, end)))] = &self.scratch.pieces[..]
            && position <= cut
        {
            self.counters.messages_out += 1;
            let alike = &self.scratch.alike[format as usize];
            if (alike.start, alike.end) != (start, end) {
                self.emit_alike(format as usize, arena);
            }
            let alike = &mut self.scratch.alike[format as usize];
            (alike.start, alike.end) = (start, end);
            return alike.sockets.push(hot.socket);
        }
        let Scratch { pieces, frames, .. } = &*self.scratch;
        let streams = &self.turn.streams;
        let range = |source: Source| match source {
            Source::Entry { stream, entry } => {
                let encoded = &streams[stream as usize].encoded[format as usize];
                (stream, encoded.start(entry) as usize, encoded.ends[entry as usize] as usize)
            }
            Source::Direct(Piece::Frames(start, end) | Piece::Data(start, end)) => {
                (NONE, start as usize, end as usize)
            }
            Source::Direct(Piece::Message(_)) => unreachable!("plain connections are logged frames"),
        };
        let chunk = |stream: u32| {
            if stream == NONE { frames } else { &streams[stream as usize].plain[format as usize] }
        };
        let sent = pieces
            .iter()
            .take_while(|&&(position, _)| position <= cut)
            .map(|&(_, source)| (source, range(source)));
        let total: usize = sent.clone().map(|(_, (_, start, end))| end - start).sum();
        self.counters.messages_out +=
            sent.clone().filter(|(source, _)| !matches!(source, Source::Direct(Piece::Frames(..)))).count()
                as u64;
        if total <= COPY_BYTES_MAX {
            arena.reserve(total);
            let start = arena.chunk.len() as u32;
            for (_, (stream, from, to)) in sent {
                arena.push(chunk(stream), from..to);
            }
            if total > 0 {
                arena.parts.push(Part { socket: hot.socket, start, end: arena.chunk.len() as u32 });
            }
            return;
        }
        let mut run: Option<(u32, usize, usize)> = None;
        for (_, (stream, from, to)) in sent {
            match &mut run {
                Some((at, _, end)) if *at == stream && *end == from => *end = to,
                _ => {
                    if let Some((stream, from, to)) = run.replace((stream, from, to)) {
                        arena.sink.shared(&chunk(stream).slice(from..to), &[hot.socket]);
                    }
                }
            }
        }
        if let Some((stream, from, to)) = run {
            arena.sink.shared(&chunk(stream).slice(from..to), &[hot.socket]);
        }
    }

    fn reliable(&mut self, slot: u32, hot: Hot, format: Format, arena: &mut Arena<'_, impl Sink>) {
        let connection = &self.connections[slot as usize];
        let session = &mut self.sessions[hot.session as usize];
        let sendable = hot.attached() && !session.congested && !session.behind();
        arena.reserve(COPY_BYTES_MAX);
        let mut start = arena.chunk.len() as u32;
        let mut data_count = 0;
        for &(position, source) in &self.scratch.pieces {
            let (batch, index) = match source {
                Source::Entry { stream, entry } => self.turn.streams[stream as usize].batch(format, entry),
                Source::Direct(Piece::Data(..)) => unreachable!("reliable connections are logged messages"),
                Source::Direct(Piece::Message(at)) => (&self.turn.batches[at as usize], 0),
                Source::Direct(Piece::Frames(from, to)) => {
                    // What was meant for a socket that a recovery has replaced is void.
                    if !hot.attached() || position > connection.cut || position <= connection.floor {
                        continue;
                    }
                    let frames = &self.scratch.frames[from as usize..to as usize];
                    // The last words do not wait for what the session still owes.
                    if sendable || connection.absent {
                        arena.chunk.extend_from_slice(frames);
                    } else {
                        session.queue_control(frames, self.limits.control_bytes_max);
                    }
                    continue;
                }
            };
            let id = session.append(batch, index, 1);
            data_count += 1;
            if sendable && position <= connection.cut {
                session.sent = id;
                if batch.written_len(index, session.deflate) > DIRECT_COPY_BYTES_MAX {
                    // Behind what was copied so far.
                    let end = arena.chunk.len() as u32;
                    if end > start {
                        arena.parts.push(Part { socket: hot.socket, start, end });
                    }
                    arena.emit();
                    start = 0;
                    Frames::new(batch, index, 1, session.deflate).by_reference(arena, hot.socket, id);
                    continue;
                }
                let start = arena.chunk.len() as u32;
                batch.write_frame(&mut arena.chunk, index, id, session.deflate);
                batch.note_perishable(&mut arena.perishable, start, (index, 1), id, session.deflate);
            }
        }
        self.counters.messages_out += data_count;
        let end = arena.chunk.len() as u32;
        if end > start {
            arena.parts.push(Part { socket: hot.socket, start, end });
        }
        check_bounds(session, self.limits, connection, slot, self.overflowed);
    }
}

/// Marks a receiver as mixed and notes what reaches it.
pub(crate) fn note(hot: &mut [Hot], scratch: &mut Scratch, epoch: u32, slot: u32, what: What) {
    let hot = &mut hot[slot as usize];
    if hot.epoch != epoch || hot.mixed == NONE {
        (hot.epoch, hot.mixed) = (epoch, scratch.mixed.len() as u32);
        scratch.mixed.push(Mixed { slot, refs: NONE });
    }
    chain(scratch, hot.mixed, what);
}

pub(crate) fn chain(scratch: &mut Scratch, mixed: u32, what: What) {
    let head = &mut scratch.mixed[mixed as usize].refs;
    scratch.refs.push(Ref { next: *head, what });
    *head = scratch.refs.len() as u32 - 1;
}

#[cfg(test)]
mod tests {
    use crate::effect::{Connect, Input, Part, Sink};
    use crate::{Budget, Chunk, CoreId, Effects, Hub, Limits, RequestId, SocketKey, Time};
    use ringhub_protocol::name::HubName;
    use ringhub_protocol::pubsub::{Data, Subprotocol};
    use ringhub_protocol::rest::{Filter, Operation, Target};
    use std::collections::HashMap;

    /// What sockets got, and how much memory there was to hold it.
    #[derive(Default)]
    struct Memory {
        bytes: usize,
        calls: usize,
        wires: HashMap<u32, Vec<u8>>,
    }

    impl Sink for Memory {
        fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
            self.calls += 1;
            // Pieces of replay logs, and frames: all of them are shared with others.
            self.bytes += bytes.len().min(64);
            for socket in sockets {
                self.wires.entry(socket.slot).or_default().extend_from_slice(bytes);
            }
        }
        fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
            self.calls += 1;
            self.bytes += bytes.len();
            for part in parts {
                let range = part.start as usize..part.end as usize;
                self.wires.entry(part.socket.slot).or_default().extend_from_slice(&bytes[range]);
            }
        }
    }

    /// A message chosen by a filter was copied for each of its receivers: 30 KB for 100,000 were 3 GB.
    #[test]
    fn a_filtered_send_is_not_copied_for_each_receiver() {
        let name = HubName::parse("h").unwrap();
        let mut hub = Hub::new(name, CoreId(0), 1, 1, Limits::default(), Box::new(|_| String::new()));
        let mut effects = Effects::new();
        let kinds = [Subprotocol::Json, Subprotocol::Raw, Subprotocol::Protobuf, Subprotocol::ReliableJson];
        for slot in 0..400 {
            let connect = Connect {
                socket: SocketKey { slot, generation: 1 },
                subprotocol: kinds[slot as usize % 4],
                random: u128::from(slot),
                prologue: Vec::new(),
                user: None,
                roles: Vec::new(),
                groups: Vec::new(),
                raw_group: None,
                arrival: Default::default(),
                introduction: None,
                deflate: None,
            };
            hub.handle(Time(0), Input::Connect(Box::new(connect)), &mut effects);
        }
        hub.flush(Time(0), &mut Memory::default(), Budget::UNLIMITED);
        for text_bytes in [20_000, 40_000] {
            let text = "x".repeat(text_bytes);
            let filter = Filter::parse("userId eq null").unwrap();
            let send =
                Operation::Send { target: Target::All, excluded: Box::default(), filter, ttl_seconds: 0 };
            let send = Input::Operation(RequestId(1), &send, Some(Data::text(&text).into()));
            hub.handle(Time(0), send, &mut effects);
            let mut memory = Memory::default();
            hub.flush(Time(0), &mut memory, Budget::UNLIMITED);
            assert_eq!(memory.wires.len(), 400);
            assert!(memory.wires.values().all(|wire| (text_bytes..text_bytes + 200).contains(&wire.len())));
            assert!(memory.bytes < 100 * 200 + text_bytes, "{} bytes to hold", memory.bytes);
            assert!(memory.calls <= 3 + 100 * 3, "{} calls", memory.calls);
        }
    }
}
