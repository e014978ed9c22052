//! The end of a turn: receivers are walked once, and their bytes handed to the sink.
//!
//! First those whom more than one thing reaches are marked as mixed; then each stream's members are scanned:
//! the unmarked share its buffer, for the marked a reference is noted; last, each mixed receiver's pieces are
//! put in log order. A reliable receiver's bytes differ by the ids only, so equal next ids share bytes, and
//! others are stamped from a template.

use crate::connection::{Connection, Format, Hot, NONE};
use crate::effect::Sink;
use crate::group::{Group, TOMBSTONE};
use crate::hub::Counters;
use crate::mixed::{Mixed, Ref, Source, What, chain, note};
use crate::session::{Batch, Session};
use crate::stamp::{Arena, Stamps};
use crate::turn::{Turn, share};
use crate::{ConnectionKey, Limits, SocketKey};
use bytes::Bytes;
use slab::Slab;
use std::rc::Rc;

/// Scratch of the flush, kept from turn to turn.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) mixed: Vec<Mixed>,
    pub(crate) refs: Vec<Ref>,
    pub(crate) pieces: Vec<(u32, Source)>,
    pub(crate) skips: Vec<(u32, u32)>,
    pub(crate) sockets: Vec<SocketKey>,
    /// By stream: its shared bytes in the plain formats, its batch for the replay logs.
    pub(crate) shared: Vec<([Bytes; 2], Option<Rc<Batch>>)>,
    pub(crate) frames: Bytes,
    pub(crate) stamps: Stamps,
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

}

/// Notes a session that is over a bound.
pub(crate) fn check_bounds(
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
