//! What a run's members and publishers are to each other: who is in which group, who sends where.

use crate::cli::Protocol;

/// Where messages come from, which shows in their envelopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Connections of their own, after those of the members, that are in no group.
    Publishers,
    /// The members: publisher p is member p modulo their number, which the number of groups must divide.
    Members,
    /// The members, each to itself, by events that the server's event handler sends back. Every member is a group of
    /// its own.
    Events,
    /// REST, to groups.
    RestToGroup,
    /// REST, to users or to all; what is called a group here is then a user or everybody.
    RestDirect,
}

/// What a run's members and publishers are to each other.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) protocol: Protocol,
    pub(crate) source: Source,
    /// Payload bytes.
    pub(crate) size: usize,
    pub(crate) members: usize,
    pub(crate) groups: usize,
    /// Streams of messages, each with an order of its own.
    pub(crate) publishers: usize,
    /// Half of the members are in the first group, a quarter in the second, and so on; none is empty.
    pub(crate) skew: bool,
}

impl Layout {
    /// Group of a publisher: round robin.
    pub(crate) fn group_of(&self, publisher: usize) -> usize {
        publisher % self.groups
    }

    /// Group of a member: round robin, or by halves.
    pub(crate) fn group_of_member(&self, member: usize) -> usize {
        if !self.skew || member < self.groups {
            return member % self.groups;
        }
        let after = member - self.groups + 1;
        (after.trailing_zeros() as usize).min(self.groups - 1)
    }

    /// Members of a group.
    pub(crate) fn members_of(&self, group: usize) -> u32 {
        if !self.skew {
            return (self.members / self.groups + usize::from(group < self.members % self.groups)) as u32;
        }
        // How many of 1..=after have at least so many trailing zeros.
        let after = (self.members - self.groups) as u64;
        let with = |zeros: usize| after.checked_shr(zeros as u32).unwrap_or(0);
        let others = if group + 1 < self.groups { with(group) - with(group + 1) } else { with(group) };
        1 + others as u32
    }

    /// Publishers of a group, rounded up.
    pub(crate) fn publishers_per_group(&self) -> usize {
        self.publishers.div_ceil(self.groups)
    }
}

/// Name of a measured group on the wire.
pub(crate) fn group_name(group: usize) -> String {
    format!("g{group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_add_up() {
        for (members, groups) in [(1, 1), (3, 3), (1000, 10), (1000, 70), (17, 4)] {
            let (protocol, source) = (Protocol::Raw, Source::Publishers);
            let layout =
                Layout { protocol, source, size: 40, members, groups, publishers: groups, skew: true };
            let mut counted = vec![0; groups];
            (0..members).for_each(|member| counted[layout.group_of_member(member)] += 1);
            let told: Vec<u32> = (0..groups).map(|group| layout.members_of(group)).collect();
            assert_eq!(counted, told);
            assert!(told.is_sorted_by(|a, b| a + 1 >= *b), "{told:?}");
        }
    }
}
