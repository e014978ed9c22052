//! A group's members on this core.
//!
//! Members stand in dense vectors, one per format, so that a fan-out is a linear scan without a branch on
//! the format. While the log holds publications of the group, its vectors only grow: a leaver leaves a
//! tombstone, joiners are appended, and who is served ahead of a fan moves to the end. [`Group::compact`] runs
//! when a stream or a fan of the group is done.

use crate::connection::{Format, Formats, Hot};
use crate::directory::Interest;
use crate::turn::Segment;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// Stands where a member was.
pub(crate) const TOMBSTONE: u32 = u32::MAX;

/// One group.
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    /// Connection slots by [`Format`].
    pub(crate) members: Lanes,
    /// Members that are not tombstones, by format.
    pub(crate) live: [u32; Format::COUNT],
    /// Formats that some of them have.
    pub(crate) formats: Formats,
    /// Clients that will be members once the other cores agree.
    pub(crate) reserved: u32,
    /// The log's stream that takes its publications.
    pub(crate) stream: Option<u32>,
    /// The log's stream that is delivered to it in slices.
    pub(crate) fan: Option<u32>,
    pub(crate) interest: Interest,
}

/// A vector for each format. Most groups have nobody who can inflate, and keep no room for them.
#[derive(Default)]
pub(crate) struct Lanes {
    undeflated: [Vec<u32>; Format::UNDEFLATED],
    deflated: Option<Box<[Vec<u32>; Format::UNDEFLATED]>>,
}

impl Lanes {
    /// All that stands in them.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> {
        let deflated = self.deflated.as_deref().into_iter().flatten();
        self.undeflated.iter().chain(deflated).flatten().copied()
    }
}

impl Index<usize> for Lanes {
    type Output = Vec<u32>;

    #[inline]
    fn index(&self, f: usize) -> &Vec<u32> {
        static NOBODY: Vec<u32> = Vec::new();
        match self.undeflated.get(f) {
            Some(lane) => lane,
            None => self.deflated.as_ref().map_or(&NOBODY, |lanes| &lanes[f - Format::UNDEFLATED]),
        }
    }
}

impl IndexMut<usize> for Lanes {
    #[inline]
    fn index_mut(&mut self, f: usize) -> &mut Vec<u32> {
        match self.undeflated.get_mut(f) {
            Some(lane) => lane,
            None => &mut self.deflated.get_or_insert_default()[f - Format::UNDEFLATED],
        }
    }
}

/// A connection's place in a group's vector of its format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    pub(crate) group: u32,
    pub(crate) position: u32,
}

impl Group {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            members: Default::default(),
            live: [0; Format::COUNT],
            formats: Formats::default(),
            reserved: 0,
            stream: None,
            fan: None,
            interest: Interest::None,
        }
    }

    /// Members here.
    pub(crate) fn len(&self) -> u32 {
        self.live.iter().sum()
    }

    /// Nobody is a member and nobody is about to be.
    pub(crate) fn is_unused(&self) -> bool {
        self.len() == 0 && self.reserved == 0
    }

    /// Whether the log holds publications of it.
    pub(crate) fn is_logged(&self) -> bool {
        self.stream.is_some() || self.fan.is_some()
    }

    /// Appends a member; returns its position.
    pub(crate) fn push(&mut self, format: Format, slot: u32) -> u32 {
        let members = &mut self.members[format as usize];
        members.push(slot);
        self.live[format as usize] += 1;
        self.formats.insert(format);
        members.len() as u32 - 1
    }

    /// Takes the member at `position` out. Without publications in the log the last member takes its place,
    /// and that member's slot is returned for its [`Membership`] to be mended.
    pub(crate) fn remove(&mut self, format: Format, position: u32) -> Option<u32> {
        let is_logged = self.is_logged();
        let members = &mut self.members[format as usize];
        self.live[format as usize] -= 1;
        if self.live[format as usize] == 0 {
            self.formats.remove(format);
        }
        if is_logged {
            members[position as usize] = TOMBSTONE;
            return None;
        }
        // Stops at `position` at the latest.
        while members.last() == Some(&TOMBSTONE) {
            members.pop();
        }
        members.swap_remove(position as usize);
        shrink(members);
        members.get(position as usize).copied()
    }

    /// Moves the member at `position` to the end; returns its new position.
    pub(crate) fn relocate(&mut self, format: Format, position: u32) -> u32 {
        let members = &mut self.members[format as usize];
        let slot = std::mem::replace(&mut members[position as usize], TOMBSTONE);
        members.push(slot);
        members.len() as u32 - 1
    }

    /// Closes the gaps that tombstones left, keeping the order, if they are a quarter of the places: so it
    /// costs each leaver a bounded part. `segments` are those of a stream that goes on. No fan is in progress.
    /// `moved` hears of each member that has a new position.
    pub(crate) fn compact(&mut self, segments: &mut [Segment], mut moved: impl FnMut(u32, u32)) {
        for (f, live) in self.live.into_iter().enumerate() {
            let len = self.members[f].len();
            if (len - live as usize) * 4 < len.max(1) {
                continue;
            }
            let members = &mut self.members[f];
            let mut segments = segments.iter_mut().map(|segment| &mut segment.members[f]).peekable();
            let mut kept = 0;
            for at in 0..members.len() {
                while let Some(start) = segments.next_if(|start| **start as usize == at) {
                    *start = kept as u32;
                }
                let slot = members[at];
                if slot == TOMBSTONE {
                    continue;
                }
                if kept != at {
                    members[kept] = slot;
                    moved(slot, kept as u32);
                }
                kept += 1;
            }
            segments.for_each(|start| *start = kept as u32);
            members.truncate(kept);
            shrink(members);
        }
    }
}

/// Gives back memory that a group which was much larger left behind.
fn shrink(members: &mut Vec<u32>) {
    if members.capacity() > 64 && members.len() * 4 < members.capacity() {
        members.shrink_to(members.len() * 2);
    }
}

// The scan of a fan-out touches these for every member.
const _: () = assert!(size_of::<Hot>() <= 40);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A member's slot and the first entry it gets.
    type Row = (u32, u32);

    proptest! {
        // The oracle is a list of members with what each segment gives them.
        #[test]
        fn compacting_changes_no_order_and_nobody_s_segment(ops in prop::collection::vec(0u8..4, 1..80)) {
            let mut group = Group::new("g".into());
            (group.stream, group.fan) = (Some(0), Some(1));
            let mut places: Vec<u32> = Vec::new();
            let mut segments = vec![Segment::default()];
            let (mut oracle, mut entry): (Vec<Row>, u32) = (Vec::new(), 0);
            for (at, op) in ops.into_iter().enumerate() {
                match op {
                    0 if !oracle.is_empty() => {
                        let (slot, _) = oracle.remove(at % oracle.len());
                        prop_assert_eq!(group.remove(Format::Json, places[slot as usize]), None);
                    }
                    1 => {
                        entry += 1;
                        let members = std::array::from_fn(|f| group.members[f].len() as u32);
                        segments.push(Segment { entry, members });
                    }
                    2 => group.compact(&mut segments, |slot, place| places[slot as usize] = place),
                    _ => {
                        let slot = places.len() as u32;
                        places.push(group.push(Format::Json, slot));
                        oracle.push((slot, entry));
                    }
                }
                let mut rows: Vec<Row> = Vec::new();
                for (place, &slot) in group.members[1].iter().enumerate().filter(|(_, s)| **s != TOMBSTONE) {
                    let segment = segments.iter().rev().find(|s| s.members[1] as usize <= place).unwrap();
                    rows.push((slot, segment.entry));
                    prop_assert_eq!(places[slot as usize] as usize, place);
                }
                prop_assert_eq!(&rows, &oracle);
                let gaps = group.members[1].len() - oracle.len();
                prop_assert!(op != 2 || gaps * 4 < group.members[1].len().max(1));
            }
        }
    }
}
