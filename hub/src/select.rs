//! Which of this core's connections a call means.

use crate::envelope::EnvelopeTarget;
use crate::group::TOMBSTONE;
use crate::hub::Hub;
use crate::id::ConnectionIdText;
use crate::{ConnectionId, CoreId, CoreSet};
use ringhub_protocol::name::UserId;
use ringhub_protocol::rest::filter::{Lookup, Subject};
use ringhub_protocol::rest::{Filter, Target};
use std::cell::OnceCell;

impl Hub {
    /// This core's connections of a target.
    pub(crate) fn slots_of(&self, target: &Target) -> Vec<u32> {
        match target {
            Target::All => self.live_slots(),
            Target::Group(group) => self.members(group.as_str()).collect(),
            Target::User(user) => self.users.slots(user, &self.connections).collect(),
            Target::Connection(id) => {
                ConnectionId::parse(id).and_then(|id| self.by_id(&id)).into_iter().collect()
            }
        }
    }

    /// This core's connections of a target that a filter holds for, in slot order.
    pub(crate) fn matching(&self, target: &EnvelopeTarget, filter: &Filter) -> Vec<u32> {
        let of_group = match target {
            EnvelopeTarget::Group(group, _) => match self.group_index.get(&**group) {
                Some(&index) => Some(index),
                None => return Vec::new(),
            },
            _ => None,
        };
        let mut slots: Vec<u32> = match (target, filter.lookup()) {
            (_, Lookup::Connections(ids)) => {
                let ids = ids.iter().filter_map(|id| ConnectionId::parse(id));
                ids.filter_map(|id| self.by_id(&id)).collect()
            }
            (EnvelopeTarget::Connection(id), _) => self.by_id(id).into_iter().collect(),
            (EnvelopeTarget::User(user), _) => self.users.slots(user, &self.connections).collect(),
            (_, Lookup::Users(users)) => {
                let users = users.iter().filter_map(|user| UserId::parse(user).ok());
                users.flat_map(|user| self.users.slots(&user, &self.connections)).collect()
            }
            (EnvelopeTarget::Group(group, _), Lookup::All) => self.members(group).collect(),
            (EnvelopeTarget::Group(group, _), Lookup::Groups(groups)) => {
                let of_groups: u32 = groups.iter().map(|group| self.member_count(group)).sum();
                if of_groups < self.member_count(group) {
                    groups.iter().flat_map(|group| self.members(group)).collect()
                } else {
                    self.members(group).collect()
                }
            }
            (EnvelopeTarget::All, Lookup::Groups(groups)) => {
                groups.iter().flat_map(|group| self.members(group)).collect()
            }
            (EnvelopeTarget::All, Lookup::All) => self.live_slots(),
        };
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|&slot| self.is_of(slot, target, of_group) && filter.matches(&Row::new(self, slot)));
        slots
    }

    /// The cores that can have connections a filter holds for, or every one.
    pub(crate) fn cores_matching(&self, filter: Option<&Filter>) -> CoreSet {
        let mut all = CoreSet::others(self.core, self.cores);
        all.insert(self.core);
        let Some(Lookup::Connections(ids)) = filter.map(Filter::lookup) else { return all };
        let ids = ids.iter().filter_map(|id| ConnectionId::parse(id));
        let mut cores = CoreSet::default();
        ids.filter_map(|id| self.core_of(&id)).for_each(|core| cores.insert(core));
        cores
    }

    /// The core of a connection id, if there is such a core.
    pub(crate) fn core_of(&self, id: &ConnectionId) -> Option<CoreId> {
        (id.node == 0 && id.core.0 < self.cores).then_some(id.core)
    }

    /// A group's members here.
    pub(crate) fn members(&self, group: &str) -> impl Iterator<Item = u32> {
        let group = self.group_index.get(group).map(|&index| &self.groups[index as usize]);
        let members = group.into_iter().flat_map(|group| group.members.all());
        members.filter(|&slot| slot != TOMBSTONE)
    }

    fn member_count(&self, group: &str) -> u32 {
        self.group_index.get(group).map_or(0, |&index| self.groups[index as usize].len())
    }

    /// `of_group` is the target's group, if it is one.
    fn is_of(&self, slot: u32, target: &EnvelopeTarget, of_group: Option<u32>) -> bool {
        let connection = &self.connections[slot as usize];
        match target {
            EnvelopeTarget::All => true,
            EnvelopeTarget::Group(..) => of_group.is_some_and(|group| connection.membership(group).is_ok()),
            EnvelopeTarget::User(user) => connection.user.as_ref() == Some(user),
            EnvelopeTarget::Connection(id) => connection.id == *id,
        }
    }

    pub(crate) fn is_member(&self, slot: u32, group: &str) -> bool {
        let index = self.group_index.get(group);
        index.is_some_and(|&index| self.connections[slot as usize].membership(index).is_ok())
    }
}

/// A connection as a filter sees it.
struct Row<'a> {
    hub: &'a Hub,
    slot: u32,
    /// Written down when it is asked for.
    id: OnceCell<ConnectionIdText>,
}

impl<'a> Row<'a> {
    fn new(hub: &'a Hub, slot: u32) -> Self {
        Self { hub, slot, id: OnceCell::new() }
    }
}

impl Subject for Row<'_> {
    fn connection_id(&self) -> &str {
        self.id.get_or_init(|| self.hub.connections[self.slot as usize].id.text()).as_str()
    }

    fn user(&self) -> Option<&str> {
        self.hub.connections[self.slot as usize].user.as_ref().map(UserId::as_str)
    }

    fn protocol(&self) -> Option<&str> {
        self.hub.connections[self.slot as usize].subprotocol().name()
    }

    fn is_in(&self, group: &str) -> bool {
        self.hub.is_member(self.slot, group)
    }

    fn group_count(&self) -> usize {
        // The group of everyone has no name.
        self.hub.connections[self.slot as usize].memberships.len() - 1
    }
}
