//! REST calls: the part of each core, and the answer when all parts are done.
//!
//! A call is answered only after every core it concerns has handled it, so that two sends, the second after
//! the first's answer, arrive in order wherever they came in.

use crate::effect::CloseCategory;
use crate::envelope::{Audience, Content, EnvelopeTarget};
use crate::hub::{EVERYONE, Hub};
use crate::interest::Waiter;
use crate::lifecycle::Ending;
use crate::{Answer, ConnectionId, CoreSet, Effect, Effects, Envelope, MeshItem, RequestId, Ticket};
use ringhub_protocol::name::{GroupName, UserId};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::CloseCode;
use std::sync::Arc;

/// A call that arrived at this core and that other cores work on.
pub(crate) struct Pending {
    request: RequestId,
    remaining: u32,
    found: bool,
    needs_target: bool,
}

impl Hub {
    /// Carries out a call: here, on other cores, or both.
    pub(crate) fn operate(
        &mut self,
        request: RequestId,
        operation: &Operation,
        content: Option<Content<'_>>,
        effects: &mut Effects,
    ) {
        self.counters.messages_in += 1;
        let Some(target) = target_of(operation) else {
            // The engine answers these itself.
            return effects.push(Effect::Answer(request, Answer::NotFound));
        };
        let needs_target = matches!(operation, Operation::Exists { .. } | Operation::AddToGroup { .. });
        let (here, there) = self.cores_of(target);
        let send = match (operation, content) {
            (Operation::Send { target, excluded, filter, ttl_seconds: _ }, Some(content)) => {
                let excluded: Vec<_> = excluded.iter().filter_map(|id| ConnectionId::parse(id)).collect();
                let excluded = (!excluded.is_empty()).then(|| excluded.into());
                envelope_target(target)
                    .map(|target| (Audience { target, excluded, filter: filter.clone() }, content))
            }
            _ => None,
        };
        if there.is_empty() {
            let found = here && {
                let found = match &send {
                    Some((audience, content)) => Some(self.deliver(audience, *content)),
                    None => self.carry_out(operation, || Waiter::Answer(request), effects),
                };
                let Some(found) = found else { return };
                found
            };
            return effects.push(Effect::Answer(request, answer(found, needs_target)));
        }
        let ticket = self.ticket();
        let item = match &send {
            Some((audience, content)) => {
                MeshItem::Publish(Envelope::new(audience.clone(), *content), Some(ticket))
            }
            None => MeshItem::Operation(Arc::new(operation.clone()), ticket),
        };
        for core in there.iter() {
            effects.push(Effect::Forward(core, item.clone()));
        }
        let own = match &send {
            _ if !here => Some(false),
            Some((audience, content)) => Some(self.deliver(audience, *content)),
            None => self.carry_out(operation, || Waiter::Part(ticket), effects),
        };
        // This core's part is one more to wait for if it needs an agreement.
        let remaining = there.count() + u32::from(own.is_none());
        let found = own.unwrap_or_default();
        self.pending.insert(ticket, Pending { request, remaining, found, needs_target });
    }

    /// One part of a call is done.
    pub(crate) fn part_done(&mut self, ticket: Ticket, found: bool, effects: &mut Effects) {
        let Some(pending) = self.pending.get_mut(&ticket) else { return };
        pending.remaining -= 1;
        pending.found |= found;
        if pending.remaining == 0 {
            let Pending { request, found, needs_target, .. } =
                self.pending.remove(&ticket).expect("just seen");
            effects.push(Effect::Answer(request, answer(found, needs_target)));
        }
    }

    /// Carries out this core's part of a call other than a send. `None`: it is done when `waiter` is told.
    pub(crate) fn carry_out(
        &mut self,
        operation: &Operation,
        waiter: impl FnOnce() -> Waiter,
        effects: &mut Effects,
    ) -> Option<bool> {
        let slots = target_of(operation).map(|target| self.slots_of(target)).unwrap_or_default();
        let found = !slots.is_empty();
        match operation {
            Operation::Close { excluded, reason, .. } => {
                let reason = reason.as_deref().unwrap_or("Closed by REST API.");
                let excluded: Vec<_> = excluded.iter().filter_map(|id| ConnectionId::parse(id)).collect();
                for slot in slots {
                    let connection = &self.connections[slot as usize];
                    if excluded.contains(&connection.id) {
                        continue;
                    }
                    // 1008 tells reliable clients not to try a recovery (client-protocols §6.4).
                    let reliable = connection.subprotocol().is_reliable();
                    let code = if reliable { CloseCode::POLICY_VIOLATION } else { CloseCode::NORMAL };
                    let how = Ending { code, reason, category: CloseCategory::ClosedByAppServer };
                    self.end(slot, how, effects);
                }
            }
            Operation::AddToGroup { group, .. } if found => {
                let index = self.group(group.as_str());
                for slot in slots {
                    if self.may_join_one_more(slot, index) {
                        self.join(slot, index);
                    } else {
                        self.counters.groups_refused += 1;
                    }
                }
                if self.groups[index as usize].is_unused() {
                    self.release(index, effects);
                    return Some(found);
                }
                return match self.announce(index, waiter(), effects) {
                    Some(_) => None,
                    None => Some(found),
                };
            }
            Operation::RemoveFromGroup { group, .. } => {
                if let Some(&index) = self.group_index.get(group.as_str()) {
                    for slot in slots {
                        self.leave(slot, index, effects);
                    }
                }
            }
            Operation::RemoveFromAllGroups { .. } => {
                for slot in slots {
                    let groups: Vec<u32> =
                        self.connections[slot as usize].memberships.iter().map(|m| m.group).collect();
                    for index in groups.into_iter().filter(|&index| index != EVERYONE) {
                        self.leave(slot, index, effects);
                    }
                }
            }
            _ => {}
        }
        Some(found)
    }

    /// Whether this core is concerned, and which others are.
    fn cores_of(&self, target: &Target) -> (bool, CoreSet) {
        let others = CoreSet::others(self.core, self.cores);
        match target {
            Target::All | Target::User(_) => (true, others),
            Target::Group(group) => (true, self.directory.cores(group.as_str())),
            Target::Connection(id) => match ConnectionId::parse(id) {
                Some(id) if id.core == self.core => (true, CoreSet::default()),
                Some(id) if id.node == 0 && others.contains(id.core) => (false, CoreSet::only(id.core)),
                _ => (false, CoreSet::default()),
            },
        }
    }

    /// This core's connections of a target.
    fn slots_of(&self, target: &Target) -> Vec<u32> {
        match target {
            Target::All => self.live_slots(),
            Target::Group(group) => self.members(group),
            Target::User(user) => self.users.slots(user, &self.connections).collect(),
            Target::Connection(id) => {
                ConnectionId::parse(id).and_then(|id| self.by_id(&id)).into_iter().collect()
            }
        }
    }

    fn members(&self, group: &GroupName<'_>) -> Vec<u32> {
        let Some(&index) = self.group_index.get(group.as_str()) else { return Vec::new() };
        let members = self.groups[index as usize].members.iter().flatten().copied();
        members.filter(|&slot| slot != crate::group::TOMBSTONE).collect()
    }
}

/// Whom a call is about; `None` for calls that are not a hub's business.
fn target_of(operation: &Operation) -> Option<&Target> {
    match operation {
        Operation::Send { target, .. } | Operation::Close { target, .. } | Operation::Exists { target } => {
            Some(target)
        }
        Operation::AddToGroup { member, .. }
        | Operation::RemoveFromGroup { member, .. }
        | Operation::RemoveFromAllGroups { member } => Some(member),
        Operation::GenerateToken(_) | Operation::NotYet { .. } => None,
    }
}

/// `None` for a connection id that cannot exist.
fn envelope_target(target: &Target) -> Option<EnvelopeTarget> {
    Some(match target {
        Target::All => EnvelopeTarget::All,
        Target::Group(group) => EnvelopeTarget::Group(group.as_str().into(), None),
        Target::User(user) => EnvelopeTarget::User(UserId::clone(user)),
        Target::Connection(id) => EnvelopeTarget::Connection(ConnectionId::parse(id)?),
    })
}

fn answer(found: bool, needs_target: bool) -> Answer {
    if found || !needs_target { Answer::Done } else { Answer::NotFound }
}
