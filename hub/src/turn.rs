//! The turn's log: what was published since the last flush, in order.
//!
//! Every publication and every control message takes the next position. Publications to a group stand in
//! that group's [`Stream`], encoded once per format that has members, one after the other: whoever is reached
//! by this stream alone gets one range of one shared buffer. Membership is as of publication: a joiner opens
//! a new [`Segment`] (it gets the rest of the stream), a leaver becomes an [`Extra`] (it gets the part so
//! far). Everything else stands in `directs`.
//!
//! A flush empties the log, except for streams too large for one turn and what queues behind them
//! (`fan.rs`). While there are any, positions go on counting up.

use crate::batch::{Batch, Deflated};
use crate::connection::{Connection, Format, Formats};
use crate::envelope::Content;
use crate::group::Group;
use crate::press::Press;
use crate::{Chunk, Paged, Perishable, Time};
use bytes::Bytes;
use ringhub_protocol::pubsub::{Data, Message, Sender, json, protobuf};
use ringhub_protocol::ws::{Opcode, frame};
use std::ops::Range;
use std::rc::Rc;

/// Capacity of the scratch for bodies that is kept from turn to turn.
const BODY_BYTES_KEPT: usize = 64 << 10;

/// One hub's log on one core.
#[derive(Default)]
pub(crate) struct Turn {
    /// Counts turns, so that marks of earlier ones are void without being wiped.
    pub(crate) epoch: u32,
    /// The position of the next thing logged.
    pub(crate) position: u32,
    /// The first `open` are in use; the rest keeps its capacity for later turns. Those that earlier flushes
    /// left unfinished come first, oldest first.
    pub(crate) streams: Vec<Stream>,
    pub(crate) open: usize,
    pub(crate) directs: Vec<Direct>,
    /// Frames of [`Piece::Frames`] and [`Piece::Data`].
    pub(crate) frames: Vec<u8>,
    /// Those of them that lose their worth with time.
    pub(crate) perishable: Vec<Perishable>,
    /// Batches of [`Piece::Message`], one message each.
    pub(crate) batches: Vec<Rc<Batch>>,
    /// Scratch of [`encode`].
    pub(crate) body: Vec<u8>,
    pub(crate) press: Press,
}

/// Bytes for one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direct {
    pub(crate) slot: u32,
    pub(crate) position: u32,
    pub(crate) piece: Piece,
}

/// What a [`Direct`] carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece {
    /// Whole frames: a range of [`Turn::frames`].
    Frames(u32, u32),
    /// The same of a data message for a plain connection.
    Data(u32, u32),
    /// A data message for a reliable connection: an index of [`Turn::batches`].
    Message(u32),
}

/// How far along a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// Takes publications; the next flush delivers it whole, or makes it a fan.
    #[default]
    Open,
    /// Takes publications, and waits until the fan of its group is finished.
    Held,
    /// A fan-out in slices: it takes nothing any more, and members from the cursors to the end marks are
    /// still to get it.
    Fan,
}

/// One group's publications.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) group: u32,
    pub(crate) stage: Stage,
    /// Log positions.
    pub(crate) entries: Vec<u32>,
    /// Entries that are not worth sending any more from some time on.
    deadlines: Vec<(u32, Time)>,
    /// In which it is encoded.
    pub(crate) formats: Formats,
    pub(crate) encoded: [Encoded; Format::COUNT],
    pub(crate) segments: Vec<Segment>,
    pub(crate) extras: Vec<Extra>,
    /// (connection slot, entry) pairs that are not delivered.
    pub(crate) excluded: Vec<(u32, u32)>,
    /// Of a fan, by format: members before these places are served, or were served out of turn and moved.
    pub(crate) cursors: [u32; Format::COUNT],
    /// Of a fan, by format: members from these places on came later.
    pub(crate) end_marks: [u32; Format::COUNT],
    /// By format: the frames that receivers share, frozen by a flush; nothing of reliable ones.
    pub(crate) plain: [Chunk; Format::COUNT],
    /// By reliable format, for both who can inflate and who cannot: the same for replay logs, each with its first
    /// entry: one that has everything, or, while the stream is held, what each flush needed of it.
    batches: [Vec<(u32, Rc<Batch>)>; 2],
}

impl Stream {
    /// Which entries the member at `place` of `format` is still to get.
    pub(crate) fn due(&self, format: Format, place: u32) -> Option<Range<u32>> {
        let f = format as usize;
        if self.stage == Stage::Fan && !(self.cursors[f]..self.end_marks[f]).contains(&place) {
            return None;
        }
        // The first segment starts at 0.
        let segment = self.segments.partition_point(|segment| segment.members[f] <= place) - 1;
        let due = self.segments[segment].entry..self.entries.len() as u32;
        (!due.is_empty()).then_some(due)
    }

    /// From which entry on the members of a segment get the stream, and which places of a format's first
    /// `places` are theirs.
    pub(crate) fn segment(&self, at: usize, format: Format, places: u32) -> (u32, Range<u32>) {
        let f = format as usize;
        let segment = &self.segments[at];
        let end = self.segments.get(at + 1).map_or(places, |next| next.members[f].min(places));
        (segment.entry, segment.members[f]..end)
    }

    /// Whether every member it is for has it.
    pub(crate) fn is_finished(&self) -> bool {
        self.stage == Stage::Open || self.stage == Stage::Fan && self.cursors == self.end_marks
    }

    /// Freezes the bytes of a stream that takes no more.
    pub(crate) fn freeze(&mut self) {
        self.batches.iter_mut().for_each(Vec::clear);
        for format in self.formats.iter() {
            let f = format as usize;
            if !format.is_reliable() {
                let encoded = &mut self.encoded[f];
                encoded.fill(self.entries.len());
                self.plain[f] = encoded.chunk(&self.deadlines, share);
            } else if !format.is_deflated() {
                let batch = self.make_batch(format, 0, |bytes, _| share(bytes));
                self.batches[batches_of(format)].push((0, batch));
            }
        }
    }

    /// Copies what a receiver of `format` is to get ahead of the others from a stream that goes on.
    pub(crate) fn freeze_copy(&mut self, format: Format) {
        let format = if format.is_reliable() { format.undeflated() } else { format };
        let f = format as usize;
        let encoded = &mut self.encoded[f];
        encoded.fill(self.entries.len());
        if !format.is_reliable() {
            let plain = &mut self.plain[f];
            if plain.len() < encoded.bytes.len() {
                *plain = encoded.chunk(&self.deadlines, |bytes| Bytes::copy_from_slice(bytes));
            }
            return;
        }
        // Replay logs keep these for long, so no body is copied twice.
        let batches = &self.batches[batches_of(format)];
        let from = batches.last().map_or(0, |(from, batch)| from + batch.ends.len() as u32);
        if (from as usize) < encoded.ends.len() {
            let batch = self.make_batch(format, from, |bytes, start| Bytes::copy_from_slice(&bytes[start..]));
            self.batches[batches_of(format)].push((from, batch));
        }
    }

    /// The entries from `from` on for replay logs, deflated too if somebody can inflate. `take` makes the bytes from
    /// some place on into shared ones.
    fn make_batch(
        &mut self,
        format: Format,
        from: u32,
        take: impl Fn(&mut Vec<u8>, usize) -> Bytes,
    ) -> Rc<Batch> {
        let Self { entries, deadlines, encoded, formats, .. } = self;
        let mut ends_and_bytes = |format: Format| {
            let encoded = &mut encoded[format as usize];
            encoded.fill(entries.len());
            let start = encoded.start(from);
            let ends = encoded.ends[from as usize..].iter().map(|end| end - start).collect();
            (ends, take(&mut encoded.bytes, start as usize))
        };
        let (ends, bodies) = ends_and_bytes(format);
        let deflated = formats.contains(format.deflated()).then(|| {
            let (ends, payloads) = ends_and_bytes(format.deflated());
            Deflated { payloads, ends }
        });
        let deadlines = deadlines.iter().filter(|(entry, _)| *entry >= from);
        let deadlines = deadlines.map(|&(entry, until)| (entry - from, until)).collect();
        let encoding = format.encoding().expect("reliable formats have one");
        Rc::new(Batch::new(encoding, bodies, ends, deadlines).with(deflated))
    }

    /// The frozen batches of a reliable format.
    pub(crate) fn batches(&self, format: Format) -> &[(u32, Rc<Batch>)] {
        &self.batches[batches_of(format)]
    }

    /// The frozen batch an entry stands in, and its place there.
    pub(crate) fn batch(&self, format: Format, entry: u32) -> (&Rc<Batch>, u32) {
        let batches = self.batches(format);
        let (mut from, mut batch) = batches.last().map(|(from, batch)| (*from, batch)).expect(FROZEN);
        if entry < from {
            let at = batches.partition_point(|(from, _)| *from <= entry) - 1;
            (from, batch) = (batches[at].0, &batches[at].1);
        }
        (batch, entry - from)
    }

    /// Roughly its bytes, the frozen ones included.
    pub(crate) fn bytes(&self) -> usize {
        let open: usize = self.encoded.iter().map(|encoded| encoded.bytes.len()).sum();
        let frozen: usize = self.plain.iter().map(|chunk| chunk.len()).sum();
        open + frozen + self.batches.iter().flatten().map(|(_, batch)| batch.bodies.len()).sum::<usize>()
    }

    /// Forgets everything, keeping capacity.
    pub(crate) fn clear(&mut self) {
        self.stage = Stage::Open;
        self.entries.clear();
        self.deadlines.clear();
        self.segments.clear();
        self.extras.clear();
        self.excluded.clear();
        for batches in &mut self.batches {
            batches.clear();
        }
        for format in std::mem::take(&mut self.formats).iter() {
            let encoded = &mut self.encoded[format as usize];
            encoded.bytes.clear();
            encoded.ends.clear();
            self.plain[format as usize] = Chunk::default();
        }
    }
}

/// The place of a reliable format among [`Stream::batches`].
fn batches_of(format: Format) -> usize {
    format.undeflated() as usize - Format::ReliableJson as usize
}

/// Why a batch is there.
const FROZEN: &str = "a reliable member's publication was encoded for it";

/// Publications in one format: frames, or for reliable connections bodies without sequence ids. An entry
/// that no member needs in this format is empty; after the last that one needs there may be none.
#[derive(Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<u32>,
}

impl Encoded {
    /// Where entry `index` starts; `ends.len()` is past the last.
    pub(crate) fn start(&self, index: u32) -> u32 {
        if index == 0 { 0 } else { self.ends[index as usize - 1] }
    }

    /// Adds empty entries until there are `count`.
    fn fill(&mut self, count: usize) {
        if self.ends.len() < count {
            self.ends.resize(count, self.bytes.len() as u32);
        }
    }

    /// Frames to be shared, made of the bytes by `freeze`.
    fn chunk(&mut self, deadlines: &[(u32, Time)], freeze: impl FnOnce(&mut Vec<u8>) -> Bytes) -> Chunk {
        if deadlines.is_empty() {
            return freeze(&mut self.bytes).into();
        }
        let frame = |&(entry, until): &(u32, Time)| Perishable {
            start: self.start(entry),
            end: self.ends[entry as usize],
            until,
        };
        let mut perishable = deadlines.iter().map(frame).filter(|frame| frame.start < frame.end).collect();
        Chunk::new(freeze(&mut self.bytes), &mut perishable)
    }
}

/// Members from these positions on (up to the next segment's) get entries from `entry` on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Segment {
    pub(crate) entry: u32,
    pub(crate) members: [u32; Format::COUNT],
}

/// A member that left: it gets entries `from..to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extra {
    pub(crate) slot: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Turn {
    /// Whether nothing was logged.
    pub(crate) fn is_empty(&self) -> bool {
        self.open == 0 && self.directs.is_empty()
    }

    /// Roughly the bytes logged, so that the caller can end a turn that grows large.
    pub(crate) fn bytes(&self) -> usize {
        let streams: usize = self.streams[..self.open].iter().map(Stream::bytes).sum();
        streams + self.frames.len() + self.batches.iter().map(|b| b.bodies.len()).sum::<usize>()
    }

    fn next_position(&mut self) -> u32 {
        self.position += 1;
        self.position
    }

    /// Logs frames for one connection: `write` appends them.
    pub(crate) fn frames(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.frames.len() as u32;
        write(&mut self.frames);
        let position = self.next_position();
        self.directs.push(Direct { slot, position, piece: Piece::Frames(start, self.frames.len() as u32) });
    }

    /// Logs one data message for several connections, encoded once per format.
    pub(crate) fn message_to(
        &mut self,
        sender: Sender<'_>,
        content: Content<'_>,
        slots: impl Iterator<Item = u32>,
        connections: &Paged<Connection>,
    ) {
        let position = self.next_position();
        let message = Message { sender, data: content.data, metadata: content.metadata };
        let mut pieces = [None; Format::COUNT];
        for slot in slots {
            let format = connections[slot as usize].format;
            let piece = *pieces[format as usize].get_or_insert_with(|| {
                if let Some(encoding) = format.encoding().filter(|_| format.is_reliable()) {
                    let mut body = Vec::new();
                    encode(&mut body, format.undeflated(), message, &mut self.body, &mut self.press);
                    let ends = |bytes: &[u8]| vec![bytes.len() as u32];
                    let payload = if format.is_deflated() { self.press.deflate(&body) } else { None };
                    let deflated = payload.map(|payload| Deflated {
                        payloads: Bytes::copy_from_slice(payload),
                        ends: ends(payload),
                    });
                    let deadline = content.until.map(|until| (0, until));
                    let (ends, deadlines) = (ends(&body), deadline.as_slice().into());
                    let batch = Batch::new(encoding, body.into(), ends, deadlines).with(deflated);
                    self.batches.push(Rc::new(batch));
                    return Piece::Message(self.batches.len() as u32 - 1);
                }
                let start = self.frames.len() as u32;
                encode(&mut self.frames, format, message, &mut self.body, &mut self.press);
                let end = self.frames.len() as u32;
                self.perishable.extend(content.until.map(|until| Perishable { start, end, until }));
                Piece::Data(start, end)
            });
            self.directs.push(Direct { slot, position, piece });
        }
    }

    /// Logs a publication to a group, encoded for the formats its members have; returns its stream.
    pub(crate) fn publish(
        &mut self,
        index: u32,
        group: &mut Group,
        sender: Sender<'_>,
        content: Content<'_>,
    ) -> &mut Stream {
        let position = self.next_position();
        let at = *group.stream.get_or_insert_with(|| {
            if self.open == self.streams.len() {
                self.streams.push(Stream::default());
            }
            let stream = &mut self.streams[self.open];
            stream.group = index;
            stream.segments.push(Segment::default());
            self.open += 1;
            self.open as u32 - 1
        });
        let message = Message { sender, data: content.data, metadata: content.metadata };
        let stream = &mut self.streams[at as usize];
        let entry = stream.entries.len();
        stream.entries.push(position);
        if let Some(until) = content.until {
            stream.deadlines.push((entry as u32, until));
        }
        let formats = group.formats.with_undeflated();
        stream.formats = stream.formats.union(formats);
        for format in formats.iter() {
            let (before, encoded) = stream.encoded.split_at_mut(format as usize);
            let encoded = &mut encoded[0];
            encoded.fill(entry);
            match format {
                Format::DeflatedReliableJson | Format::DeflatedReliableProtobuf => {
                    let plain = &before[format.undeflated() as usize];
                    let body = &plain.bytes[plain.start(entry as u32) as usize..];
                    encoded.bytes.extend_from_slice(self.press.deflate(body).unwrap_or_default());
                }
                _ => encode(&mut encoded.bytes, format, message, &mut self.body, &mut self.press),
            }
            encoded.ends.push(encoded.bytes.len() as u32);
        }
        stream
    }

    /// A member is about to be appended to `group`: it gets what is published from now on.
    pub(crate) fn before_join(&mut self, group: &Group) {
        let Some(at) = group.stream else { return };
        let stream = &mut self.streams[at as usize];
        let entry = stream.entries.len() as u32;
        if stream.segments.last().is_some_and(|segment| segment.entry < entry) {
            stream
                .segments
                .push(Segment { entry, members: std::array::from_fn(|f| group.members[f].len() as u32) });
        }
    }

    /// A member at `position` is about to leave `group`: it gets what was published so far.
    pub(crate) fn before_leave(&mut self, group: &Group, format: Format, position: u32, slot: u32) {
        for at in [group.fan, group.stream].into_iter().flatten() {
            let stream = &mut self.streams[at as usize];
            if let Some(Range { start: from, end: to }) = stream.due(format, position) {
                stream.extras.push(Extra { slot, from, to });
            }
        }
    }

    /// A flush is over; the streams it left unfinished are the first `open`.
    pub(crate) fn clear(&mut self) {
        self.directs.clear();
        self.frames.clear();
        self.perishable.clear();
        self.batches.clear();
        self.body.clear();
        self.body.shrink_to(BODY_BYTES_KEPT);
        self.press.release();
        if self.open == 0 {
            self.position = 0;
        }
        self.epoch = self.epoch.wrapping_add(1);
    }
}

/// Capacity that [`share`] leaves behind for the next turn at most.
const SHARE_BYTES_KEPT: usize = 64 << 10;

/// Takes a buffer's bytes out to be shared, leaving as much capacity behind for the next turn. Receivers keep what
/// they share alive with all its capacity, which nothing counts: bytes with far more room than growing leaves, after
/// a larger turn, are copied out of it.
pub(crate) fn share(bytes: &mut Vec<u8>) -> Bytes {
    if bytes.is_empty() {
        return Bytes::new();
    }
    if bytes.capacity() / 2 > bytes.len() {
        let shared = Bytes::copy_from_slice(bytes);
        bytes.clear();
        bytes.shrink_to(shared.len().min(SHARE_BYTES_KEPT));
        return shared;
    }
    let next = Vec::with_capacity(bytes.len().min(SHARE_BYTES_KEPT));
    std::mem::replace(bytes, next).into()
}

/// Appends one data message in a format: a frame, or for reliable formats a body without sequence id. `body` is
/// scratch.
fn encode(out: &mut Vec<u8>, format: Format, message: Message<'_>, body: &mut Vec<u8>, press: &mut Press) {
    let data = message.data;
    match format {
        Format::Raw => frame::write_frame(out, raw_opcode(data), &data.plain()),
        Format::Json => frame::write_frame_with(out, Opcode::Text, data.bytes().len() + 90, |out| {
            json::open_message(out, message);
            out.push(b'}');
        }),
        Format::Protobuf => {
            body.clear();
            protobuf::data_body(body, message);
            frame::write_header(out, Opcode::Binary, protobuf::data_message_len(body.len(), None));
            protobuf::data_message(out, body, None);
        }
        Format::ReliableJson | Format::DeflatedReliableJson => json::open_message(out, message),
        Format::ReliableProtobuf | Format::DeflatedReliableProtobuf => protobuf::data_body(out, message),
        Format::DeflatedRaw => {
            press.write_frame(out, raw_opcode(data), |out| out.extend_from_slice(&data.plain()));
        }
        Format::DeflatedJson => press.write_frame(out, Opcode::Text, |out| {
            json::open_message(out, message);
            out.push(b'}');
        }),
        Format::DeflatedProtobuf => press.write_frame(out, Opcode::Binary, |out| {
            body.clear();
            protobuf::data_body(body, message);
            protobuf::data_message(out, body, None);
        }),
    }
}

/// The type of frames in which raw clients get data.
fn raw_opcode(data: Data<'_>) -> Opcode {
    if data.data_type().is_text() { Opcode::Text } else { Opcode::Binary }
}
