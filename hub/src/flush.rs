//! The end of a turn: receivers are walked once, and their bytes handed to the sink.
//!
//! First those whom more than one thing reaches are marked as mixed; then each stream's members are scanned:
//! the unmarked share its buffer, for the marked a reference is noted; last, each mixed receiver's pieces are
//! put in log order. A reliable receiver's bytes differ by the ids only, so equal next ids share bytes, and
//! others are stamped from a template.

use crate::connection::{Connection, Format, Hot, NONE};
use crate::effect::{Part, Sink};
use crate::group::{Group, TOMBSTONE};
use crate::hub::Counters;
use crate::session::{Batch, Session, digits, tail_len, write_frame};
use crate::turn::{Piece, Turn, share};
use crate::{ConnectionKey, Limits, SocketKey};
use bytes::Bytes;
use ringhub_protocol::pubsub::json;
use ringhub_protocol::ws::{Opcode, frame};
use slab::Slab;
use std::rc::Rc;

/// Bytes of private frames that go to the sink at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Pieces that together exceed this are sent by reference instead of being copied together.
const COPY_BYTES_MAX: usize = 32 << 10;

/// Scratch of the flush, kept from turn to turn.
#[derive(Default)]
pub(crate) struct Scratch {
    mixed: Vec<Mixed>,
    refs: Vec<Ref>,
    pieces: Vec<(u32, Source)>,
    skips: Vec<(u32, u32)>,
    sockets: Vec<SocketKey>,
    /// By stream: its shared bytes in the plain formats, its batch for the replay logs.
    shared: Vec<([Bytes; 2], Option<Rc<Batch>>)>,
    frames: Bytes,
    stamps: Stamps,
}

/// A receiver that several things reach.
struct Mixed {
    slot: u32,
    /// Head of its chain in [`Scratch::refs`].
    refs: u32,
}

struct Ref {
    next: u32,
    what: What,
}

enum What {
    Direct(u32),
    Entries { stream: u32, from: u32, to: u32 },
    Skip { stream: u32, entry: u32 },
}

/// Where a piece's bytes are.
#[derive(Clone, Copy)]
enum Source {
    Entry { stream: u32, entry: u32 },
    Direct(Piece),
}

/// Private frames, gathered into chunks for the sink.
struct Arena<'a, S> {
    sink: &'a mut S,
    chunk: Vec<u8>,
    parts: Vec<Part>,
}

impl<S: Sink> Arena<'_, S> {
    /// Hands over what is gathered if `bytes` more would not fit.
    fn reserve(&mut self, bytes: usize) {
        if !self.chunk.is_empty() && self.chunk.len() + bytes > CHUNK_BYTES {
            self.emit();
        }
    }

    fn emit(&mut self) {
        if !self.parts.is_empty() {
            self.sink.each(&share(&mut self.chunk), &self.parts);
            self.parts.clear();
        }
        self.chunk.clear();
    }
}

/// The parts of a hub a flush works on.
pub(crate) struct Flush<'a> {
    pub(crate) turn: &'a mut Turn,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) hot: &'a mut [Hot],
    pub(crate) connections: &'a mut Slab<Connection>,
    pub(crate) sessions: &'a mut Slab<Session>,
    pub(crate) groups: &'a mut Slab<Group>,
    pub(crate) limits: &'a Limits,
    pub(crate) counters: &'a mut Counters,
    /// Sessions over a bound, to be ended by the next timeout.
    pub(crate) overflowed: &'a mut Vec<ConnectionKey>,
}

impl Flush<'_> {
    /// Delivers the log; the caller then clears it.
    pub(crate) fn run(&mut self, sink: &mut impl Sink) {
        self.mark();
        self.share();
        let mut arena = Arena { sink, chunk: Vec::new(), parts: Vec::new() };
        for at in 0..self.turn.open {
            self.stream(at, &mut arena);
        }
        self.mixed(&mut arena);
        arena.emit();
        self.scratch.mixed.clear();
        self.scratch.refs.clear();
        self.scratch.shared.clear();
        self.scratch.frames = Bytes::new();
    }

    /// Finds the receivers that more than one list, or anything but a list, reaches.
    fn mark(&mut self) {
        let Self { turn, scratch, hot, groups, .. } = self;
        let epoch = turn.epoch;
        for (at, direct) in turn.directs.iter().enumerate() {
            note(hot, scratch, epoch, direct.slot, What::Direct(at as u32));
        }
        for (at, stream) in turn.streams[..turn.open].iter().enumerate() {
            let stream_at = at as u32;
            for extra in &stream.extras {
                note(
                    hot,
                    scratch,
                    epoch,
                    extra.slot,
                    What::Entries { stream: stream_at, from: extra.from, to: extra.to },
                );
            }
            for &(slot, entry) in &stream.excluded {
                note(hot, scratch, epoch, slot, What::Skip { stream: stream_at, entry });
            }
        }
        if turn.open < 2 {
            return;
        }
        for stream in &turn.streams[..turn.open] {
            for &slot in groups[stream.group as usize].members.iter().flatten() {
                let Some(hot) = hot.get_mut(slot as usize) else { continue }; // a tombstone
                if hot.epoch != epoch {
                    (hot.epoch, hot.mixed) = (epoch, NONE);
                } else if hot.mixed == NONE {
                    hot.mixed = scratch.mixed.len() as u32;
                    scratch.mixed.push(Mixed { slot, refs: NONE });
                }
            }
        }
    }

    /// Freezes this turn's buffers.
    fn share(&mut self) {
        self.scratch.frames = share(&mut self.turn.frames);
        for stream in &mut self.turn.streams[..self.turn.open] {
            let [raw, json, reliable] = &mut stream.encoded;
            let plain = [share(&mut raw.bytes), share(&mut json.bytes)];
            let batch = (!reliable.bytes.is_empty())
                .then(|| Rc::new(Batch { bodies: share(&mut reliable.bytes), ends: reliable.ends.clone() }));
            self.scratch.shared.push((plain, batch));
        }
    }

    /// Delivers one stream to the members it alone reaches; notes it for the mixed ones.
    fn stream(&mut self, at: usize, arena: &mut Arena<'_, impl Sink>) {
        let epoch = self.turn.epoch;
        let segments = self.turn.streams[at].segments.len();
        for segment_at in 0..segments {
            let stream = &self.turn.streams[at];
            let segment = stream.segments[segment_at];
            let entries = stream.entries.len() as u32;
            if segment.entry == entries {
                continue;
            }
            let what = || What::Entries { stream: at as u32, from: segment.entry, to: entries };
            let group = &self.groups[stream.group as usize];
            let ends: [usize; Format::COUNT] = match stream.segments.get(segment_at + 1) {
                Some(next) => next.members.map(|m| m as usize),
                None => std::array::from_fn(|f| group.members[f].len()),
            };
            for format in Format::PLAIN {
                let f = format as usize;
                let bytes = &self.scratch.shared[at].0[f];
                let start = stream.encoded[f].start(segment.entry) as usize;
                let bytes = if start == 0 { bytes.clone() } else { bytes.slice(start..) };
                self.scratch.sockets.clear();
                for &slot in &group.members[f][segment.members[f] as usize..ends[f]] {
                    let Some(hot) = self.hot.get_mut(slot as usize) else { continue }; // a tombstone
                    if hot.epoch == epoch && hot.mixed != NONE {
                        chain(self.scratch, hot.mixed, what());
                    } else if hot.attached() {
                        self.scratch.sockets.push(hot.socket);
                    }
                }
                if !self.scratch.sockets.is_empty() {
                    self.counters.messages_out +=
                        self.scratch.sockets.len() as u64 * u64::from(entries - segment.entry);
                    arena.sink.shared(&bytes, &self.scratch.sockets);
                }
            }
            let f = Format::Reliable as usize;
            let members = segment.members[f] as usize..ends[f];
            if members.is_empty() {
                continue;
            }
            let Some(batch) = self.scratch.shared[at].1.clone() else { continue };
            self.scratch.stamps.begin();
            for place in members {
                let slot = self.groups[self.turn.streams[at].group as usize].members[f][place];
                if slot == TOMBSTONE {
                    continue;
                }
                let hot = self.hot[slot as usize];
                if hot.epoch == epoch && hot.mixed != NONE {
                    chain(self.scratch, hot.mixed, what());
                    continue;
                }
                let session = &mut self.sessions[hot.session as usize];
                let sendable = hot.attached() && !session.congested && !session.behind();
                let count = entries - segment.entry;
                let first = session.append(&batch, segment.entry, count);
                self.counters.messages_out += u64::from(count);
                check_bounds(session, self.limits, &self.connections[slot as usize], slot, self.overflowed);
                if sendable {
                    let session = &mut self.sessions[hot.session as usize];
                    session.sent = session.last;
                    self.scratch.stamps.stamp(arena, hot.socket, &batch, segment.entry, count, first);
                }
            }
        }
    }

    /// Puts each mixed receiver's pieces in log order and delivers them.
    fn mixed(&mut self, arena: &mut Arena<'_, impl Sink>) {
        for at in 0..self.scratch.mixed.len() {
            let Mixed { slot, refs } = self.scratch.mixed[at];
            self.collect(refs);
            let hot = self.hot[slot as usize];
            match self.connections[slot as usize].format {
                Format::Reliable => self.reliable(slot, hot, arena),
                plain => self.plain(slot, hot, plain, arena),
            }
        }
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
        let Scratch { pieces, shared, frames, .. } = &*self.scratch;
        let range = |source: Source| match source {
            Source::Entry { stream, entry } => {
                let encoded = &self.turn.streams[stream as usize].encoded[format as usize];
                (stream, encoded.start(entry) as usize, encoded.ends[entry as usize] as usize)
            }
            Source::Direct(Piece::Frames(start, end)) => (NONE, start as usize, end as usize),
            Source::Direct(Piece::Message(_)) => unreachable!("plain connections are logged frames"),
        };
        let bytes =
            |stream: u32| if stream == NONE { frames } else { &shared[stream as usize].0[format as usize] };
        let sent = pieces
            .iter()
            .take_while(|&&(position, _)| position <= cut)
            .map(|&(_, source)| (source, range(source)));
        let total: usize = sent.clone().map(|(_, (_, start, end))| end - start).sum();
        self.counters.messages_out +=
            sent.clone().filter(|(source, _)| matches!(source, Source::Entry { .. })).count() as u64;
        if total <= COPY_BYTES_MAX {
            arena.reserve(total);
            let start = arena.chunk.len() as u32;
            for (_, (stream, from, to)) in sent {
                arena.chunk.extend_from_slice(&bytes(stream)[from..to]);
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
                        arena.sink.shared(&bytes(stream).slice(from..to), &[hot.socket]);
                    }
                }
            }
        }
        if let Some((stream, from, to)) = run {
            arena.sink.shared(&bytes(stream).slice(from..to), &[hot.socket]);
        }
    }

    fn reliable(&mut self, slot: u32, hot: Hot, arena: &mut Arena<'_, impl Sink>) {
        let connection = &self.connections[slot as usize];
        let session = &mut self.sessions[hot.session as usize];
        let sendable = hot.attached() && !session.congested && !session.behind();
        arena.reserve(COPY_BYTES_MAX);
        let start = arena.chunk.len() as u32;
        let (mut full, mut data_count) = (false, 0);
        for &(position, source) in &self.scratch.pieces {
            let (batch, index) = match source {
                Source::Entry { stream, entry } => (self.scratch.shared[stream as usize].1.as_ref(), entry),
                Source::Direct(Piece::Message(at)) => (Some(&self.turn.batches[at as usize]), 0),
                Source::Direct(Piece::Frames(from, to)) => {
                    // What was meant for a socket that a recovery has replaced is void.
                    if !hot.attached() || position > connection.cut || position <= connection.floor {
                        continue;
                    }
                    let frames = &self.scratch.frames[from as usize..to as usize];
                    // The last words do not wait for what the session still owes.
                    if sendable || connection.ended {
                        arena.chunk.extend_from_slice(frames);
                    } else {
                        full |= !session.queue_control(frames, self.limits.control_bytes_max);
                    }
                    continue;
                }
            };
            let batch = batch.expect("a reliable member's publication was encoded for it");
            let id = session.append(batch, index, 1);
            data_count += 1;
            if sendable && position <= connection.cut {
                write_frame(&mut arena.chunk, &batch.bodies[batch.range(index)], id);
                session.sent = id;
            }
        }
        self.counters.messages_out += data_count;
        let end = arena.chunk.len() as u32;
        if end > start {
            arena.parts.push(Part { socket: hot.socket, start, end });
        }
        if full {
            self.overflowed.push(ConnectionKey { slot, generation: connection.generation });
        }
        check_bounds(session, self.limits, connection, slot, self.overflowed);
    }
}

/// Notes a session that is over a bound.
fn check_bounds(
    session: &Session,
    limits: &Limits,
    connection: &Connection,
    slot: u32,
    overflowed: &mut Vec<ConnectionKey>,
) {
    if (session.messages > limits.replay_messages_max || session.bytes > limits.replay_bytes_max)
        && !connection.ended
    {
        overflowed.push(ConnectionKey { slot, generation: connection.generation });
    }
}

/// Marks a receiver as mixed and notes what reaches it.
fn note(hot: &mut [Hot], scratch: &mut Scratch, epoch: u32, slot: u32, what: What) {
    let hot = &mut hot[slot as usize];
    if hot.epoch != epoch || hot.mixed == NONE {
        (hot.epoch, hot.mixed) = (epoch, scratch.mixed.len() as u32);
        scratch.mixed.push(Mixed { slot, refs: NONE });
    }
    chain(scratch, hot.mixed, what);
}

fn chain(scratch: &mut Scratch, mixed: u32, what: What) {
    let head = &mut scratch.mixed[mixed as usize].refs;
    scratch.refs.push(Ref { next: *head, what });
    *head = scratch.refs.len() as u32 - 1;
}

/// Reliable frames of one stream's segment, made once per next id of its members.
///
/// A small table remembers where the bytes for a next id stand; a template per number of digits makes the
/// bytes for another id a copy and a patch.
#[derive(Default)]
struct Stamps {
    made: Vec<(u64, u32, u32)>,
    template: Vec<u8>,
    template_digits: usize,
    /// One past each id's last digit in the template.
    patches: Vec<u32>,
}

impl Stamps {
    /// Next ids remembered at a time.
    const TABLE: usize = 256;

    fn begin(&mut self) {
        self.made.clear();
        self.template_digits = 0;
    }

    /// Gives `socket` entries `from..from + count` with ids from `first` on.
    fn stamp(
        &mut self,
        arena: &mut Arena<'_, impl Sink>,
        socket: SocketKey,
        batch: &Batch,
        from: u32,
        count: u32,
        first: u64,
    ) {
        if batch.bytes(from, count) > COPY_BYTES_MAX {
            return Self::by_reference(arena, socket, batch, from, count, first);
        }
        if self.made.is_empty() {
            self.made.resize(Self::TABLE, (0, 0, 0));
        }
        let cell = first as usize % Self::TABLE;
        if self.made[cell].0 == first && !arena.parts.is_empty() {
            let (_, start, end) = self.made[cell];
            arena.parts.push(Part { socket, start, end });
            return;
        }
        let size = batch.bytes(from, count) + count as usize * (4 + tail_len(20));
        if !arena.chunk.is_empty() && arena.chunk.len() + size > CHUNK_BYTES {
            arena.emit();
            self.made.fill((0, 0, 0));
        }
        let start = arena.chunk.len();
        let width = digits(first);
        if width == digits(first + u64::from(count) - 1) {
            if self.template_digits != width {
                self.build(batch, from, count, width);
            }
            arena.chunk.extend_from_slice(&self.template);
            for (id, &end) in (first..).zip(&self.patches) {
                let mut id = id;
                for digit in arena.chunk[start + end as usize - width..start + end as usize].iter_mut().rev()
                {
                    *digit = b'0' + (id % 10) as u8;
                    id /= 10;
                }
            }
        } else {
            for (id, index) in (first..).zip(from..from + count) {
                write_frame(&mut arena.chunk, &batch.bodies[batch.range(index)], id);
            }
        }
        let end = arena.chunk.len() as u32;
        self.made[cell] = (first, start as u32, end);
        arena.parts.push(Part { socket, start: start as u32, end });
    }

    fn build(&mut self, batch: &Batch, from: u32, count: u32, width: usize) {
        self.template.clear();
        self.patches.clear();
        self.template_digits = width;
        let placeholder = 10u64.pow(width as u32 - 1);
        for index in from..from + count {
            write_frame(&mut self.template, &batch.bodies[batch.range(index)], placeholder);
            self.patches.push(self.template.len() as u32 - 1);
        }
    }

    /// Large bodies are not copied: their frames go out in pieces.
    fn by_reference(
        arena: &mut Arena<'_, impl Sink>,
        socket: SocketKey,
        batch: &Batch,
        from: u32,
        count: u32,
        first: u64,
    ) {
        for (id, index) in (first..).zip(from..from + count) {
            let body = batch.bodies.slice(batch.range(index));
            let mut header = Vec::with_capacity(10);
            frame::write_header(&mut header, Opcode::Text, body.len() + tail_len(digits(id)));
            let mut tail = Vec::with_capacity(40);
            json::sequence_id(&mut tail, id);
            for piece in [header.into(), body, tail.into()] {
                arena.sink.shared(&piece, &[socket]);
            }
        }
    }
}
