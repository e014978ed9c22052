//! Fan-outs too large for one flush: they are delivered in slices, and others are served in between.
//!
//! A stream with more members than the [`Budget`] has left becomes a *fan*: its bytes are frozen, end marks say
//! which members it is for, and each flush serves the next of them. Meanwhile the group goes on: joiners are
//! appended behind the end marks, leavers get their part at the next flush, and publications gather in a new
//! stream that is *held* until the fan is finished, so that under overload they reach the members coalesced.
//!
//! What must stay true: **who is served is served to the end of the log.** A receiver has a prefix of what is
//! for it, in log order, whatever is unfinished. So before a receiver is given anything that a fan or a held
//! stream of its groups may stand before, it is *pulled forward*: all that they still owe it goes into the same
//! send, in log order. It then moves to the end of those groups' members, behind the end marks of the fans and
//! into a segment of the held streams that begins with what is published next, so that no cursor meets it again
//! and nobody keeps a list of who has what. Receivers about whom anything is special (they left, or are excluded
//! from something) are pulled forward by the next flush; what stays unfinished is whole members only.
//!
//! Memory is bounded by serving more than the budget allows: [`HELD_BYTES_MAX`] finishes the fan in the way,
//! [`LOG_BYTES_MAX`] and [`POSITIONS_MAX`] everything. [`crate::hub::Counters::flushes_forced`] counts that.

use crate::connection::{Format, NONE};
use crate::effect::Sink;
use crate::flush::Flush;
use crate::group::{Membership, TOMBSTONE};
use crate::mixed::{What, note};
use crate::stamp::Arena;
use crate::turn::{Stage, Stream, Turn};
use std::ops::Range;

/// Publications that gather behind a fan beyond these bytes have it finished at once: members get them in one
/// send, and a client that reads well must not be taken for a slow consumer for the size of it.
pub(crate) const HELD_BYTES_MAX: usize = 256 << 10;
/// A log beyond these bytes, fans included, is finished at once.
pub(crate) const LOG_BYTES_MAX: usize = 16 << 20;
/// A log beyond this position is finished at once, so that positions never wrap.
pub(crate) const POSITIONS_MAX: u32 = 1 << 31;
/// For each so many bytes a member counts as one send more: the kernel copies them for each.
const SEND_BYTES: u32 = 32 << 10;

/// How much one flush may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Members that fan-outs may serve: for most of them that is one send each, and one more for each 32 KiB. Answers,
    /// messages to users and connections, members that left, and fan-outs of [`Budget::whole`] are always served.
    pub sends: u32,
    /// A fan-out to at most so many members is never cut.
    pub whole: u32,
}

impl Budget {
    /// No fan-out is cut.
    pub const UNLIMITED: Self = Self { sends: u32::MAX, whole: u32::MAX };
}

impl Turn {
    /// Whether what earlier flushes left unfinished is to be finished now, whatever the budget.
    pub(crate) fn is_over_bound(&self) -> bool {
        self.open > 0
            && self.streams[0].stage != Stage::Open
            && (self.bytes() > LOG_BYTES_MAX || self.position > POSITIONS_MAX)
    }
}

impl Flush<'_> {
    /// Decides which streams are delivered whole, which become fans, and which wait behind one. Returns the
    /// sends left for fans.
    pub(crate) fn divide(&mut self, budget: Budget) -> u32 {
        let Self { turn, scratch, groups, connections, .. } = self;
        scratch.fans.clear();
        let in_progress = turn.streams[..turn.open].iter().filter(|stream| stream.stage == Stage::Fan);
        scratch.fans.extend(in_progress.map(|fan| fan.group));
        // A busy middling group must not keep fans from getting on.
        let reserved = if scratch.fans.is_empty() { 0 } else { budget.sends.div_ceil(2) };
        let mut left = budget.sends - reserved;
        for (at, stream) in turn.streams[..turn.open].iter_mut().enumerate() {
            if stream.stage == Stage::Fan {
                continue;
            }
            let group = &mut groups[stream.group as usize];
            let members = group.len();
            let sends = members.saturating_mul(weight(stream));
            if group.fan.is_some() {
                stream.stage = Stage::Held;
            } else if members <= budget.whole || sends <= left {
                stream.stage = Stage::Open;
                left = left.saturating_sub(sends);
                self.served = self.served.saturating_add(sends);
            } else {
                stream.stage = Stage::Fan;
                stream.cursors = [0; Format::COUNT];
                stream.end_marks = std::array::from_fn(|f| group.members[f].len() as u32);
                (group.stream, group.fan) = (None, Some(at as u32));
                scratch.fans.push(stream.group);
            }
            if stream.stage != Stage::Held {
                stream.freeze();
                continue;
            }
            // Those who left are served now.
            for at in 0..stream.extras.len() {
                let slot = stream.extras[at].slot as usize;
                stream.freeze_copy(connections[slot].format);
            }
        }
        left + reserved
    }

    /// Pulls forward whom this flush serves anyway: the mixed ones so far, and members of streams that are
    /// delivered whole.
    pub(crate) fn pull_served(&mut self) {
        for at in 0..self.scratch.mixed.len() {
            self.pull(self.scratch.mixed[at].slot);
        }
        for at in 0..self.turn.open {
            let stream = &self.turn.streams[at];
            if stream.stage != Stage::Open {
                continue;
            }
            let group = stream.group as usize;
            for f in 0..Format::COUNT {
                // Nobody moves in a group without a fan.
                for place in 0..self.groups[group].members[f].len() {
                    let slot = self.groups[group].members[f][place];
                    if slot != TOMBSTONE && self.is_owed(slot, NONE) {
                        self.pull(slot);
                    }
                }
            }
        }
    }

    /// Serves the next members of each fan: an equal part of `sends` each, oldest first, so that what one does
    /// not need goes to the next.
    pub(crate) fn slices(&mut self, sends: u32, arena: &mut Arena<'_, impl Sink>) {
        let mut left = sends;
        let mut waiting = self.scratch.fans.len() as u32;
        for at in 0..self.turn.open {
            let fan = &self.turn.streams[at];
            if fan.stage != Stage::Fan {
                continue;
            }
            let held = self.groups[fan.group as usize].stream.map(|held| &self.turn.streams[held as usize]);
            // One message is not more to take for having waited.
            let forced = held.is_some_and(|held| {
                held.entries.len() > 1 && held.encoded.iter().any(|e| e.bytes.len() > HELD_BYTES_MAX)
            });
            let weight = weight(fan);
            let share = if forced { u32::MAX } else { (left / waiting / weight).max(1).min(left) };
            self.forced |= forced;
            waiting -= 1;
            let sends = self.slice(at, share, arena).saturating_mul(weight);
            left = left.saturating_sub(sends);
            self.served = self.served.saturating_add(sends);
        }
    }

    /// Serves up to `share` members of one fan; returns how many.
    fn slice(&mut self, at: usize, share: u32, arena: &mut Arena<'_, impl Sink>) -> u32 {
        let mut served = 0;
        for format in Format::ALL {
            let f = format as usize;
            let fan = &self.turn.streams[at];
            let (group, start, end_mark) = (fan.group, fan.cursors[f], fan.end_marks[f]);
            let mut place = start;
            while place < end_mark {
                let slot = self.groups[group as usize].members[f][place as usize];
                if slot != TOMBSTONE {
                    if served == share {
                        break;
                    }
                    served += 1;
                    if self.scratch.fans.len() > 1 && self.is_owed(slot, group) {
                        self.pull(slot);
                    }
                }
                place += 1;
            }
            self.turn.streams[at].cursors[f] = place;
            for segment in 0..self.turn.streams[at].segments.len() {
                let (entry, members) = self.turn.streams[at].segment(segment, format, place);
                let members = members.start.max(start)..members.end;
                if !members.is_empty() {
                    self.members(at, format, entry, members, arena);
                }
            }
            if place < end_mark {
                break;
            }
        }
        served
    }

    /// Whether an unfinished stream of a group other than `but` owes the receiver anything.
    fn is_owed(&self, slot: u32, but: u32) -> bool {
        let connection = &self.connections[slot as usize];
        let owes = |membership: &Membership| {
            membership.group != but && self.due(connection.format, membership) != [None, None]
        };
        let fans = &self.scratch.fans;
        if fans.len() < connection.memberships.len() {
            let in_fans = fans.iter().filter_map(|&group| connection.membership(group).ok());
            in_fans.map(|at| &connection.memberships[at]).any(owes)
        } else {
            connection.memberships.iter().any(owes)
        }
    }

    /// What the fan of a member's group, and the stream held behind it, are still to give it.
    fn due(&self, format: Format, of: &Membership) -> [Option<(u32, Range<u32>)>; 2] {
        let group = &self.groups[of.group as usize];
        let due = |at: u32| Some((at, self.turn.streams[at as usize].due(format, of.position)?));
        match group.fan {
            Some(fan) => [due(fan), group.stream.and_then(due)],
            None => [None, None],
        }
    }

    /// Pulls a receiver forward: notes all it is owed, and moves it behind what is unfinished.
    fn pull(&mut self, slot: u32) {
        if self.scratch.fans.len() < self.connections[slot as usize].memberships.len() {
            for at in 0..self.scratch.fans.len() {
                let group = self.scratch.fans[at];
                if let Ok(membership) = self.connections[slot as usize].membership(group) {
                    self.pull_from(slot, membership);
                }
            }
        } else {
            for membership in 0..self.connections[slot as usize].memberships.len() {
                self.pull_from(slot, membership);
            }
        }
    }

    fn pull_from(&mut self, slot: u32, membership: usize) {
        let connection = &self.connections[slot as usize];
        let (format, membership) = (connection.format, connection.memberships[membership]);
        let due = self.due(format, &membership);
        if due == [None, None] {
            return;
        }
        for (stream, Range { start: from, end: to }) in due.into_iter().flatten() {
            let unfinished = &mut self.turn.streams[stream as usize];
            if unfinished.stage == Stage::Held {
                unfinished.freeze_copy(format);
            }
            note(self.hot, self.scratch, self.turn.epoch, slot, What::Entries { stream, from, to });
        }
        let group = &mut self.groups[membership.group as usize];
        self.turn.before_join(group);
        let position = group.relocate(format, membership.position);
        self.connections[slot as usize].moved(membership.group, position);
    }

    /// Takes what is finished out of the log.
    pub(crate) fn settle(&mut self) {
        let mut kept = 0;
        for at in 0..self.turn.open {
            let Self { turn, groups, connections, .. } = self;
            let stream = &mut turn.streams[at];
            let group = &mut groups[stream.group as usize];
            if stream.is_finished() {
                match stream.stage {
                    Stage::Fan => group.fan = None,
                    Stage::Open | Stage::Held => group.stream = None,
                }
                let index = stream.group;
                stream.clear();
                let going_on = group.stream.map(|held| &mut turn.streams[held as usize].segments[..]);
                group.compact(going_on.unwrap_or_default(), |slot, position| {
                    connections[slot as usize].moved(index, position);
                });
                continue;
            }
            stream.extras.clear();
            stream.excluded.clear();
            match stream.stage {
                Stage::Fan => group.fan = Some(kept as u32),
                Stage::Open | Stage::Held => group.stream = Some(kept as u32),
            }
            turn.streams.swap(at, kept);
            kept += 1;
        }
        self.turn.open = kept;
        self.turn.clear();
    }
}

/// As how many sends each member of the stream counts.
fn weight(stream: &Stream) -> u32 {
    let bytes = stream.encoded.iter().filter_map(|encoded| encoded.ends.last()).max();
    1 + bytes.map_or(0, |bytes| bytes / SEND_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{Connect, Effect, Input, Part};
    use crate::{Chunk, CoreId, Effects, Hub, Limits, RequestId, SocketKey, Time};
    use ringhub_protocol::name::HubName;
    use ringhub_protocol::pubsub::{Data, Subprotocol};
    use ringhub_protocol::rest::{Operation, Target};

    #[derive(Default)]
    struct Sends(usize);

    impl Sink for Sends {
        fn shared(&mut self, _: &Chunk, sockets: &[SocketKey]) {
            self.0 += sockets.len();
        }
        fn each(&mut self, _: &Chunk, parts: &[Part]) {
            self.0 += parts.len();
        }
    }

    #[test]
    fn positions_start_anew_before_they_wrap() {
        let name = HubName::parse("h").unwrap();
        let mut hub = Hub::new(name, CoreId(0), 1, 1, Limits::default(), Box::new(|_| String::new()));
        let (mut effects, mut sends) = (Effects::new(), Sends::default());
        for slot in 0..3 {
            let connect = Connect {
                socket: SocketKey { slot, generation: 1 },
                subprotocol: Subprotocol::Json,
                random: 0,
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
            assert!(matches!(effects.pop(), Some(Effect::Opened(_))));
        }
        hub.flush(Time(0), &mut sends, Budget::UNLIMITED);
        let budget = Budget { sends: 1, whole: 0 };
        let mut publish = |hub: &mut Hub, sends: &mut Sends| {
            let send = Operation::send(Target::All);
            let input = Input::Operation(RequestId(1), &send, Some(Data::text("x").into()));
            hub.handle(Time(0), input, &mut effects);
            hub.flush(Time(0), sends, budget);
        };
        sends.0 = 0;
        publish(&mut hub, &mut sends);
        hub.turn.position = POSITIONS_MAX - 1;
        publish(&mut hub, &mut sends);
        assert_eq!((sends.0, hub.turn.position, hub.counters.flushes_forced), (2, POSITIONS_MAX, 0));
        publish(&mut hub, &mut sends);
        // The rest of the fan, and what was held, to each of the three.
        assert_eq!((sends.0, hub.turn.position, hub.counters.flushes_forced), (6, 0, 1));
        assert!(!hub.is_dirty());
    }
}
