//! The end of a turn: receivers are walked once, and their bytes handed to the sink.
//!
//! First the streams too large for the turn's budget are set apart (`fan.rs`). Then those whom more than one
//! thing reaches are marked as mixed; each stream's members are scanned: the unmarked share its buffer, for the
//! marked a reference is noted; the fans' next slices are scanned likewise; last, each mixed receiver's pieces
//! are put in log order. A reliable receiver's bytes differ by the ids only, so equal next ids share bytes, and
//! others are stamped from a template.

use crate::connection::{Connection, Format, Hot, NONE};
use crate::effect::Sink;
use crate::fan::Budget;
use crate::group::{Group, TOMBSTONE};
use crate::hub::Counters;
use crate::mixed::{Alike, Mixed, Ref, Source, What, chain, note};
use crate::session::Session;
use crate::stamp::{Arena, Frames, Stamps};
use crate::turn::{Stage, Turn, share};
use crate::{Chunk, ConnectionKey, Limits, Paged, SocketKey};
use std::ops::Range;

/// Scratch of the flush, kept from turn to turn.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) mixed: Vec<Mixed>,
    pub(crate) refs: Vec<Ref>,
    pub(crate) pieces: Vec<(u32, Source)>,
    pub(crate) skips: Vec<(u32, u32)>,
    pub(crate) sockets: Vec<SocketKey>,
    /// Groups with a fan in progress.
    pub(crate) fans: Vec<u32>,
    pub(crate) frames: Chunk,
    /// By format; nothing of reliable ones.
    pub(crate) alike: [Alike; Format::COUNT],
    pub(crate) stamps: Stamps,
}

/// The parts of a hub a flush works on.
pub(crate) struct Flush<'a> {
    pub(crate) turn: &'a mut Turn,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) hot: &'a mut [Hot],
    pub(crate) connections: &'a mut Paged<Connection>,
    pub(crate) sessions: &'a mut Paged<Session>,
    pub(crate) groups: &'a mut Paged<Group>,
    pub(crate) limits: &'a Limits,
    pub(crate) counters: &'a mut Counters,
    /// Sessions over a bound, to be ended by the next timeout.
    pub(crate) overflowed: &'a mut Vec<ConnectionKey>,
    /// Sends made so far, as [`Budget`] counts them.
    pub(crate) served: u32,
    /// Whether a bound made it serve more than the budget allows.
    pub(crate) forced: bool,
}

impl Flush<'_> {
    /// Delivers the log, as far as `budget` goes.
    pub(crate) fn run(&mut self, sink: &mut impl Sink, budget: Budget) {
        let sends = self.divide(budget);
        self.mark();
        if !self.scratch.fans.is_empty() {
            self.pull_served();
        }
        self.scratch.frames = Chunk::new(share(&mut self.turn.frames), &mut self.turn.perishable);
        let mut arena = Arena { sink, chunk: Vec::new(), perishable: Vec::new(), parts: Vec::new() };
        for at in 0..self.turn.open {
            if self.turn.streams[at].stage == Stage::Open {
                self.stream(at, &mut arena);
            }
        }
        if !self.scratch.fans.is_empty() {
            self.slices(sends, &mut arena);
        }
        self.mixed(&mut arena);
        arena.emit();
        self.served = self.served.saturating_add(self.scratch.mixed.len() as u32);
        self.scratch.mixed.clear();
        self.scratch.refs.clear();
        self.scratch.frames = Chunk::default();
        self.settle();
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
        let whole = || turn.streams[..turn.open].iter().filter(|stream| stream.stage == Stage::Open);
        if whole().nth(1).is_none() {
            return;
        }
        for stream in whole() {
            let members = &groups[stream.group as usize].members;
            for &slot in stream.formats.iter().flat_map(|format| &members[format as usize]) {
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

    /// Delivers one stream to the members it alone reaches; notes it for the mixed ones.
    fn stream(&mut self, at: usize, arena: &mut Arena<'_, impl Sink>) {
        for segment in 0..self.turn.streams[at].segments.len() {
            for format in self.turn.streams[at].formats.iter() {
                let stream = &self.turn.streams[at];
                let places = self.groups[stream.group as usize].members[format as usize].len() as u32;
                let (entry, members) = stream.segment(segment, format, places);
                if !members.is_empty() {
                    self.members(at, format, entry, members, arena);
                }
            }
        }
    }

    /// Delivers a stream's entries from `entry` on to some of its group's members.
    pub(crate) fn members(
        &mut self,
        at: usize,
        format: Format,
        entry: u32,
        members: Range<u32>,
        arena: &mut Arena<'_, impl Sink>,
    ) {
        let epoch = self.turn.epoch;
        let stream = &self.turn.streams[at];
        let entries = stream.entries.len() as u32;
        if entry == entries {
            return;
        }
        let (f, count) = (format as usize, entries - entry);
        let what = || What::Entries { stream: at as u32, from: entry, to: entries };
        let members =
            &self.groups[stream.group as usize].members[f][members.start as usize..members.end as usize];
        if !format.is_reliable() {
            self.scratch.sockets.clear();
            for &slot in members {
                let Some(hot) = self.hot.get_mut(slot as usize) else { continue }; // a tombstone
                if hot.epoch == epoch && hot.mixed != NONE {
                    chain(self.scratch, hot.mixed, what());
                } else if hot.attached() {
                    self.scratch.sockets.push(hot.socket);
                }
            }
            if !self.scratch.sockets.is_empty() {
                let start = stream.encoded[f].start(entry) as usize;
                self.counters.messages_out += self.scratch.sockets.len() as u64 * u64::from(count);
                let whole = &stream.plain[f];
                arena.sink.shared(&whole.slice(start..whole.len()), &self.scratch.sockets);
            }
            return;
        }
        let Some((_, batch)) = stream.batches(format).first() else { return };
        self.scratch.stamps.begin();
        let frames = Frames::new(batch, entry, count, format.is_deflated());
        for &slot in members {
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
            let first = session.append(batch, entry, count);
            self.counters.messages_out += u64::from(count);
            check_bounds(session, self.limits, &self.connections[slot as usize], slot, self.overflowed);
            if sendable {
                let session = &mut self.sessions[hot.session as usize];
                session.sent = session.last;
                self.scratch.stamps.stamp(arena, hot.socket, &frames, first);
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
    if session.is_over(limits) && !connection.absent {
        overflowed.push(ConnectionKey { slot, generation: connection.generation });
    }
}
