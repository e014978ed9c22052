//! The bytes of receivers that share none: gathered into chunks, and for reliable members stamped with their
//! sequence ids.

use crate::batch::{Batch, Form};
use crate::effect::{Part, Sink};
use crate::encoding::Encoding;
use crate::turn::share;
use crate::{Chunk, Perishable, SocketKey};
use std::ops::Range;

/// Bytes of private frames that go to the sink at once.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// Pieces that together exceed this are sent by reference instead of being copied together.
pub(crate) const COPY_BYTES_MAX: usize = 32 << 10;

/// Private frames, gathered into chunks for the sink.
pub(crate) struct Arena<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) chunk: Vec<u8>,
    /// Frames of the chunk that are worth less with time.
    pub(crate) perishable: Vec<Perishable>,
    pub(crate) parts: Vec<Part>,
}

impl<S: Sink> Arena<'_, S> {
    /// Hands over what is gathered if `bytes` more would not fit.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if !self.chunk.is_empty() && self.chunk.len() + bytes > CHUNK_BYTES {
            self.emit();
        }
    }

    /// Copies one thing that was logged: data messages one by one, for each may be perishable.
    pub(crate) fn push(&mut self, from: &Chunk, range: Range<usize>) {
        // What is empty starts where the next thing does.
        if !range.is_empty()
            && let Some(until) = from.until(range.start)
        {
            let start = self.chunk.len() as u32;
            self.perishable.push(Perishable { start, end: start + range.len() as u32, until });
        }
        self.chunk.extend_from_slice(&from[range]);
    }

    pub(crate) fn emit(&mut self) {
        if !self.parts.is_empty() {
            let chunk = Chunk::new(share(&mut self.chunk), &mut self.perishable);
            self.sink.each(&chunk, &self.parts);
            self.parts.clear();
        }
        self.chunk.clear();
        self.perishable.clear();
    }
}

/// Messages of a batch that several receivers get, each with ids of its own.
pub(crate) struct Frames<'a> {
    batch: &'a Batch,
    from: u32,
    count: u32,
    /// Of their bodies, or payloads.
    bytes: usize,
    /// Whether the receivers can inflate.
    deflate: bool,
}

impl<'a> Frames<'a> {
    /// `count` messages from place `from` on, for receivers that can inflate or cannot.
    pub(crate) fn new(batch: &'a Batch, from: u32, count: u32, deflate: bool) -> Self {
        let bytes = if deflate {
            (from..from + count).map(|index| batch.written_len(index, true)).sum()
        } else {
            batch.bytes(from, count)
        };
        Self { batch, from, count, bytes, deflate }
    }

    /// Each message's id and form.
    fn numbered(&self, first: u64) -> impl Iterator<Item = (u64, Form<'a>)> {
        let &Self { batch, deflate, .. } = self;
        let forms = (self.from..self.from + self.count).map(move |index| batch.form(index, deflate));
        (first..).zip(forms)
    }

    /// Large bodies are not copied: their frames go out in pieces. Frames in pieces cannot be dropped, so these
    /// are not perishable; what waits in the replay log is.
    pub(crate) fn by_reference(&self, arena: &mut Arena<'_, impl Sink>, socket: SocketKey, first: u64) {
        let encoding = self.batch.encoding;
        for (id, form) in self.numbered(first) {
            let (mut head, mut tail) = (Vec::with_capacity(30), Vec::with_capacity(50));
            let shared = match form {
                Form::Plain(body) => {
                    encoding.write_head(&mut head, body.len(), id);
                    encoding.write_tail(&mut tail, id);
                    self.batch.bodies.slice(body)
                }
                Form::Deflated(payloads, payload, body_len) => {
                    encoding.write_head_deflated(&mut head, payload.len(), body_len, id);
                    encoding.write_tail_deflated(&mut tail, id);
                    payloads.slice(payload)
                }
            };
            for piece in [head.into(), shared.into(), tail.into()] {
                arena.sink.shared(&piece, &[socket]);
            }
        }
    }
}

/// Reliable frames of one stream's segment, made once per next id of its members.
///
/// A small table remembers where the bytes for a next id stand; a template per width of ids makes the bytes for
/// another id a copy and a patch.
#[derive(Default)]
pub(crate) struct Stamps {
    made: Vec<(u64, u32, u32)>,
    template: Vec<u8>,
    template_width: usize,
    /// The first and the last id of that width.
    template_ids: (u64, u64),
    /// One past each id's last byte in the template.
    patches: Vec<u32>,
}

impl Stamps {
    /// Next ids remembered at a time.
    const TABLE: usize = 256;

    pub(crate) fn begin(&mut self) {
        self.made.clear();
        self.template_width = 0;
        self.template_ids = (u64::MAX, 0);
    }

    /// Gives `socket` these frames with ids from `first` on. Inlined: mostly others had the same next id.
    #[inline]
    pub(crate) fn stamp(
        &mut self,
        arena: &mut Arena<'_, impl Sink>,
        socket: SocketKey,
        frames: &Frames<'_>,
        first: u64,
    ) {
        if frames.bytes > COPY_BYTES_MAX {
            return frames.by_reference(arena, socket, first);
        }
        match self.made.get(first as usize % Self::TABLE) {
            Some(&(made, start, end)) if made == first && !arena.parts.is_empty() => {
                arena.parts.push(Part { socket, start, end });
            }
            _ => self.make(arena, socket, frames, first),
        }
    }

    /// Makes the frames for this next id.
    #[inline(never)]
    fn make(&mut self, arena: &mut Arena<'_, impl Sink>, socket: SocketKey, frames: &Frames<'_>, first: u64) {
        let &Frames { batch, from, count, bytes, deflate } = frames;
        if self.made.is_empty() {
            self.made.resize(Self::TABLE, (0, 0, 0));
        }
        let cell = first as usize % Self::TABLE;
        let size = bytes + count as usize * Encoding::OVERHEAD_MAX;
        if !arena.chunk.is_empty() && arena.chunk.len() + size > CHUNK_BYTES {
            arena.emit();
            self.made.fill((0, 0, 0));
        }
        let start = arena.chunk.len();
        let last = first + u64::from(count) - 1;
        if first < self.template_ids.0 || first > self.template_ids.1 {
            self.build(frames, batch.encoding.width(first));
        }
        if last <= self.template_ids.1 {
            arena.chunk.extend_from_slice(&self.template);
            // Not a branch per message.
            match batch.encoding {
                Encoding::Json => self.patch(Encoding::Json, &mut arena.chunk[start..], first),
                Encoding::Protobuf => self.patch(Encoding::Protobuf, &mut arena.chunk[start..], first),
            }
        } else {
            for (id, index) in (first..).zip(from..from + count) {
                batch.write_frame(&mut arena.chunk, index, id, deflate);
            }
        }
        let (start, end) = (start as u32, arena.chunk.len() as u32);
        batch.note_perishable(&mut arena.perishable, start, (from, count), first, deflate);
        self.made[cell] = (first, start, end);
        arena.parts.push(Part { socket, start, end });
    }

    #[inline(always)]
    fn patch(&self, encoding: Encoding, frames: &mut [u8], first: u64) {
        let width = self.template_width;
        for (id, &end) in (first..).zip(&self.patches) {
            encoding.patch(&mut frames[end as usize - width..end as usize], id);
        }
    }

    fn build(&mut self, frames: &Frames<'_>, width: usize) {
        self.template.clear();
        self.patches.clear();
        self.template_width = width;
        self.template_ids = frames.batch.encoding.ids_of_width(width);
        let &Frames { batch, from, count, deflate, .. } = frames;
        for index in from..from + count {
            batch.write_frame(&mut self.template, index, self.template_ids.0, deflate);
            self.patches.push((self.template.len() - batch.behind_id(index, deflate)) as u32);
        }
    }
}
