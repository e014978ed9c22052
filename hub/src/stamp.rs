//! The bytes of receivers that share none: gathered into chunks, and for reliable members stamped with their
//! sequence ids.

use crate::SocketKey;
use crate::effect::{Part, Sink};
use crate::session::{Batch, digits, tail_len, write_frame};
use crate::turn::share;
use ringhub_protocol::pubsub::json;
use ringhub_protocol::ws::{Opcode, frame};
use std::ops::Range;

/// Bytes of private frames that go to the sink at once.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// Pieces that together exceed this are sent by reference instead of being copied together.
pub(crate) const COPY_BYTES_MAX: usize = 32 << 10;

/// Private frames, gathered into chunks for the sink.
pub(crate) struct Arena<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) chunk: Vec<u8>,
    pub(crate) parts: Vec<Part>,
}

impl<S: Sink> Arena<'_, S> {
    /// Hands over what is gathered if `bytes` more would not fit.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if !self.chunk.is_empty() && self.chunk.len() + bytes > CHUNK_BYTES {
            self.emit();
        }
    }

    pub(crate) fn emit(&mut self) {
        if !self.parts.is_empty() {
            self.sink.each(&share(&mut self.chunk), &self.parts);
            self.parts.clear();
        }
        self.chunk.clear();
    }
}

/// Messages of a batch that several receivers get, each with ids of its own.
pub(crate) struct Frames<'a> {
    batch: &'a Batch,
    from: u32,
    count: u32,
    /// Of their bodies.
    bytes: usize,
}

impl<'a> Frames<'a> {
    /// `count` messages from place `from` on.
    pub(crate) fn new(batch: &'a Batch, from: u32, count: u32) -> Self {
        Self { batch, from, count, bytes: batch.bytes(from, count) }
    }

    /// Each message's id and where its body stands.
    fn numbered(&self, first: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
        (first..).zip((self.from..self.from + self.count).map(|index| self.batch.range(index)))
    }

    /// Large bodies are not copied: their frames go out in pieces.
    fn by_reference(&self, arena: &mut Arena<'_, impl Sink>, socket: SocketKey, first: u64) {
        for (id, body) in self.numbered(first) {
            let body = self.batch.bodies.slice(body);
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

/// Reliable frames of one stream's segment, made once per next id of its members.
///
/// A small table remembers where the bytes for a next id stand; a template per number of digits makes the
/// bytes for another id a copy and a patch.
#[derive(Default)]
pub(crate) struct Stamps {
    made: Vec<(u64, u32, u32)>,
    template: Vec<u8>,
    template_digits: usize,
    /// One past each id's last digit in the template.
    patches: Vec<u32>,
}

impl Stamps {
    /// Next ids remembered at a time.
    const TABLE: usize = 256;

    pub(crate) fn begin(&mut self) {
        self.made.clear();
        self.template_digits = 0;
    }

    /// Gives `socket` these frames with ids from `first` on.
    pub(crate) fn stamp(
        &mut self,
        arena: &mut Arena<'_, impl Sink>,
        socket: SocketKey,
        frames: &Frames<'_>,
        first: u64,
    ) {
        let &Frames { batch, count, bytes, .. } = frames;
        if bytes > COPY_BYTES_MAX {
            return frames.by_reference(arena, socket, first);
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
        let size = bytes + count as usize * (4 + tail_len(20));
        if !arena.chunk.is_empty() && arena.chunk.len() + size > CHUNK_BYTES {
            arena.emit();
            self.made.fill((0, 0, 0));
        }
        let start = arena.chunk.len();
        let width = digits(first);
        if width == digits(first + u64::from(count) - 1) {
            if self.template_digits != width {
                self.build(frames, width);
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
            for (id, body) in frames.numbered(first) {
                write_frame(&mut arena.chunk, &batch.bodies[body], id);
            }
        }
        let end = arena.chunk.len() as u32;
        self.made[cell] = (first, start as u32, end);
        arena.parts.push(Part { socket, start: start as u32, end });
    }

    fn build(&mut self, frames: &Frames<'_>, width: usize) {
        self.template.clear();
        self.patches.clear();
        self.template_digits = width;
        let placeholder = 10u64.pow(width as u32 - 1);
        for (_, body) in frames.numbered(0) {
            write_frame(&mut self.template, &frames.batch.bodies[body], placeholder);
            self.patches.push(self.template.len() as u32 - 1);
        }
    }
}
