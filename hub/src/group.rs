//! A group's members on this core.
//!
//! Members stand in dense vectors, one per format, so that a fan-out is a linear scan without a branch on
//! the format. While a turn's log holds publications of the group, its vectors only grow: a leaver leaves a
//! tombstone, joiners are appended; [`Group::compact`] runs when the turn is flushed.

use crate::connection::{Connection, Format, Hot};
use crate::directory::Interest;
use slab::Slab;
use std::sync::Arc;

/// Stands where a member was.
pub(crate) const TOMBSTONE: u32 = u32::MAX;

/// One group.
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    /// Connection slots by [`Format`].
    pub(crate) members: [Vec<u32>; Format::COUNT],
    /// Members that are not tombstones, by format.
    pub(crate) live: [u32; Format::COUNT],
    /// Clients that will be members once the other cores agree.
    pub(crate) reserved: u32,
    /// Its publications of this turn.
    pub(crate) stream: Option<u32>,
    pub(crate) interest: Interest,
    /// Whether the vectors hold tombstones.
    holes: bool,
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
            reserved: 0,
            stream: None,
            interest: Interest::None,
            holes: false,
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

    /// Appends a member; returns its position.
    pub(crate) fn push(&mut self, format: Format, slot: u32) -> u32 {
        let members = &mut self.members[format as usize];
        members.push(slot);
        self.live[format as usize] += 1;
        members.len() as u32 - 1
    }

    /// Takes the member at `position` out. Without publications this turn the last member takes its place,
    /// and that member's slot is returned for its [`Membership`] to be mended.
    pub(crate) fn remove(&mut self, format: Format, position: u32) -> Option<u32> {
        let members = &mut self.members[format as usize];
        self.live[format as usize] -= 1;
        if self.stream.is_some() || self.holes {
            members[position as usize] = TOMBSTONE;
            self.holes = true;
            return None;
        }
        members.swap_remove(position as usize);
        if members.capacity() > 64 && members.len() * 4 < members.capacity() {
            members.shrink_to(members.len() * 2);
        }
        members.get(position as usize).copied()
    }

    /// Closes the gaps tombstones left, keeping the order. The turn's publications must be flushed.
    pub(crate) fn compact(&mut self, index: u32, connections: &mut Slab<Connection>) {
        if !std::mem::take(&mut self.holes) {
            return;
        }
        for members in &mut self.members {
            let mut kept = 0;
            for at in 0..members.len() {
                let slot = members[at];
                if slot == TOMBSTONE {
                    continue;
                }
                if kept != at {
                    members[kept] = slot;
                    connections[slot as usize].moved(index, kept as u32);
                }
                kept += 1;
            }
            members.truncate(kept);
        }
    }
}

// The scan of a fan-out touches these for every member.
const _: () = assert!(size_of::<Hot>() <= 40);
