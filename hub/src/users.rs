//! Whose connections are whose: a table of one slot per user, and a ring through that user's connections.
//!
//! A user has one connection almost always, so the table holds nothing but the slot (the name stands in the
//! connection), and a second one costs no more than the first. What must stay true: from a user's slot in the
//! table, [`Beside::next`] visits each of the user's connections once, oldest first, and comes back.

use crate::Paged;
use crate::connection::Connection;
use crate::directory::Hash;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ringhub_protocol::name::UserId;
use std::hash::BuildHasher;

/// A connection's neighbours among those of its user; itself if it is the only one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside {
    next: u32,
    before: u32,
}

impl Beside {
    pub(crate) fn alone(slot: u32) -> Self {
        Self { next: slot, before: slot }
    }
}

/// This core's connections by user.
pub(crate) struct Users {
    /// The oldest connection of each user.
    oldest: HashTable<u32>,
    hash: Hash,
}

impl Users {
    pub(crate) fn new(hash: Hash) -> Self {
        Self { oldest: HashTable::new(), hash }
    }

    /// Adds a connection that stands in its slot, alone, if it has a user.
    pub(crate) fn insert(&mut self, slot: u32, connections: &mut Paged<Connection>) {
        let Some(user) = &connections[slot as usize].user else { return };
        match entry(&mut self.oldest, &self.hash, user, connections) {
            Entry::Vacant(entry) => drop(entry.insert(slot)),
            Entry::Occupied(entry) => {
                let oldest = *entry.get();
                let newest = connections[oldest as usize].beside.before;
                connections[newest as usize].beside.next = slot;
                connections[oldest as usize].beside.before = slot;
                connections[slot as usize].beside = Beside { next: oldest, before: newest };
            }
        }
    }

    /// Takes a connection out; it still stands in its slot. Costs the same however many its user has.
    pub(crate) fn remove(&mut self, slot: u32, connections: &mut Paged<Connection>) {
        let Some(user) = &connections[slot as usize].user else { return };
        let Beside { next, before } = connections[slot as usize].beside;
        if let Entry::Occupied(mut entry) = entry(&mut self.oldest, &self.hash, user, connections) {
            if next == slot {
                entry.remove();
            } else if *entry.get() == slot {
                *entry.get_mut() = next;
            }
        }
        connections[before as usize].beside.next = next;
        connections[next as usize].beside.before = before;
        connections[slot as usize].beside = Beside::alone(slot);
    }

    /// The slots of a user's connections, oldest first.
    pub(crate) fn slots<'a>(
        &self,
        user: &UserId,
        connections: &'a Paged<Connection>,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let is_users = |slot: &u32| connections[*slot as usize].user.as_ref() == Some(user);
        let oldest = self.oldest.find(self.hash.hash_one(user), is_users).copied();
        std::iter::successors(oldest, move |&slot| {
            Some(connections[slot as usize].beside.next).filter(|next| Some(*next) != oldest)
        })
    }
}

fn entry<'a>(
    oldest: &'a mut HashTable<u32>,
    hash: &Hash,
    user: &UserId,
    connections: &Paged<Connection>,
) -> Entry<'a, u32> {
    let user_of = |slot: &u32| connections[*slot as usize].user.as_ref();
    oldest.entry(
        hash.hash_one(user),
        |slot| user_of(slot) == Some(user),
        |slot| hash.hash_one(user_of(slot).expect("only connections with a user stand in the table")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Format;
    use crate::{ConnectionId, CoreId, Time};
    use proptest::prelude::*;

    fn connection(slot: u32, user: Option<&str>) -> Connection {
        Connection {
            id: ConnectionId { node: 0, core: CoreId(0), slot, random: 0 },
            generation: 0,
            format: Format::Json,
            absent: false,
            user: user.map(|user| UserId::parse(user).unwrap()),
            beside: Beside::alone(slot),
            permissions: Default::default(),
            memberships: Vec::new(),
            acks: Default::default(),
            raw_group: None,
            arrival: Default::default(),
            conversation: None,
            opened: Time(0),
            floor: 0,
            cut: u32::MAX,
        }
    }

    proptest! {
        #[test]
        fn every_user_has_their_connections_oldest_first(steps in prop::collection::vec((0..5usize, 0..20usize), 0..200)) {
            const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];
            let mut users = Users::new(Hash::with_seed(1));
            let mut connections = Paged::new();
            let mut model: Vec<(u32, Option<&str>)> = Vec::new();
            for (user, leaver) in steps {
                if leaver < model.len() {
                    let (slot, _) = model.remove(leaver);
                    users.remove(slot, &mut connections);
                    connections.remove(slot as usize);
                } else {
                    let user = USERS.get(user).copied();
                    let slot = connections.vacant_key() as u32;
                    connections.insert(connection(slot, user));
                    users.insert(slot, &mut connections);
                    model.push((slot, user));
                }
                for user in USERS {
                    let of_user = model.iter().filter(|(_, theirs)| *theirs == Some(user)).map(|(slot, _)| *slot);
                    prop_assert!(users.slots(&UserId::parse(user).unwrap(), &connections).eq(of_user));
                }
            }
        }
    }
}
