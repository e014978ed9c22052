//! Receivers that several things reach: what is for each of them is noted, put in log order, and delivered in
//! one send of its own.

use crate::connection::{Format, Hot, NONE};
use crate::effect::{Part, Sink};
use crate::flush::{Flush, Scratch, check_bounds};
use crate::stamp::{Arena, COPY_BYTES_MAX};
use crate::turn::Piece;

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
        let start = arena.chunk.len() as u32;
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
                    if sendable || connection.ended {
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
                let start = arena.chunk.len() as u32;
                batch.write_frame(&mut arena.chunk, index, id);
                batch.note_perishable(&mut arena.perishable, start, (index, 1), id);
                session.sent = id;
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
