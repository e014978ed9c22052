//! Which other cores have members of what, and what this core waits to be agreed.
//!
//! Interest is agreed before it is acknowledged: whoever is told "you are a member" can rely on every core
//! knowing so. Withdrawing needs no agreement, because the messages between two cores keep their order.

use crate::{CoreId, CoreSet, Ticket};
use hashbrown::HashMap;
use std::sync::Arc;

pub(crate) type Hash = foldhash::fast::FixedState;

/// Group interest of the other cores.
pub(crate) struct Directory {
    groups: HashMap<Arc<str>, CoreSet, Hash>,
}

impl Directory {
    pub(crate) fn new(hash: Hash) -> Self {
        Self { groups: HashMap::with_hasher(hash) }
    }

    /// `core` has a first member of `group`.
    pub(crate) fn add(&mut self, group: Arc<str>, core: CoreId) {
        self.groups.entry(group).or_default().insert(core);
    }

    /// `core` has no member of `group` any more.
    pub(crate) fn remove(&mut self, group: &str, core: CoreId) {
        if let Some(cores) = self.groups.get_mut(group) {
            cores.remove(core);
            if cores.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// The other cores with members of `group`.
    pub(crate) fn cores(&self, group: &str) -> CoreSet {
        self.groups.get(group).copied().unwrap_or_default()
    }

    /// Each group with the other cores that have members of it, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, CoreSet)> {
        self.groups.iter().map(|(group, cores)| (group, *cores))
    }

    /// How many groups other cores have members of.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }
}

/// Where a group's interest stands with the other cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// They do not know of this core.
    None,
    /// They were told; not all have answered.
    Pending(Ticket),
    /// All of them know.
    Agreed,
}

/// An answer of all other cores, awaited; then each waiter is told.
pub(crate) struct Agreement<W> {
    pub(crate) remaining: u32,
    pub(crate) waiters: Vec<W>,
    pub(crate) group: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #[test]
        fn is_a_map_of_sets(ops in prop::collection::vec((0u8..5, 0u16..4, any::<bool>()), 0..100)) {
            let mut directory = Directory::new(Hash::with_seed(1));
            let mut oracle: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
            for (group, core, add) in ops {
                let group = format!("g{group}");
                if add {
                    directory.add(group.as_str().into(), CoreId(core));
                    oracle.entry(group.clone()).or_default().insert(core);
                } else {
                    directory.remove(&group, CoreId(core));
                    oracle.entry(group.clone()).or_default().remove(&core);
                }
                oracle.retain(|_, cores| !cores.is_empty());
                let cores: Vec<u16> = directory.cores(&group).iter().map(|c| c.0).collect();
                prop_assert_eq!(cores, oracle.get(&group).map(|s| s.iter().copied().collect::<Vec<_>>()).unwrap_or_default());
                prop_assert_eq!(directory.len(), oracle.len());
            }
        }
    }
}
