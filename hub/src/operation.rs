//! REST calls: the part of each core, and the answer when all parts are done.
//!
//! A call is answered only after every core it concerns has handled it, so that two sends, the second after
//! the first's answer, arrive in order wherever they came in. A part that makes this core a first member of a
//! group is done when the other cores know of it.

use crate::effect::{Answer, CloseCategory, Member, MemberPage, Outcome};
use crate::envelope::{Audience, Content, EnvelopeTarget};
use crate::hub::{EVERYONE, Hub};
use crate::interest::Waiter;
use crate::lifecycle::Ending;
use crate::{ConnectionId, CoreId, CoreSet, Effect, Effects, Envelope, MeshItem, RequestId, Ticket, Time};
use ringhub_protocol::name::{GroupName, UserId};
use ringhub_protocol::rest::{GroupChange, Operation, Page, Permission, Target};
use ringhub_protocol::ws::CloseCode;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Work in several parts, for somebody who waits for all of them.
pub(crate) struct Pending {
    asker: Asker,
    remaining: u32,
    outcome: Outcome,
}

/// Who waits.
enum Asker {
    /// A call that arrived at this core, and what its answer depends on.
    Request(RequestId, Expects),
    /// A core that gave this one its part of a call.
    Core(CoreId, Ticket),
}

/// How an outcome becomes an answer.
#[derive(Clone, Copy)]
enum Expects {
    /// It is done, whether there was a target or not.
    Nothing,
    /// Without a target it is a 404.
    Target,
    /// So many members at most.
    Members(usize),
}

impl Hub {
    /// Carries out a call: here, on other cores, or both.
    pub(crate) fn operate(
        &mut self,
        now: Time,
        request: RequestId,
        operation: &Operation,
        content: Option<Content<'_>>,
        effects: &mut Effects,
    ) {
        self.counters.messages_in += 1;
        let mut there = self.cores_of(operation);
        let here = there.contains(self.core);
        there.remove(self.core);
        let publication = publication(now, operation, content);
        let ticket = self.ticket();
        let mut pending = Pending {
            asker: Asker::Request(request, expects(operation)),
            remaining: there.count(),
            outcome: Outcome::default(),
        };
        if !there.is_empty() {
            let item = match &publication {
                Some((audience, content)) => {
                    MeshItem::Publish(Envelope::new(audience.clone(), *content), Some(ticket))
                }
                None => MeshItem::Operation(Arc::new(operation.clone()), ticket),
            };
            for core in there.iter() {
                effects.push(Effect::Forward(core, item.clone()));
            }
        }
        match publication {
            Some((audience, content)) if here => pending.outcome.found = self.deliver(&audience, content),
            None if here => self.carry_out(operation, ticket, &mut pending, effects),
            _ => {}
        }
        self.conclude(ticket, pending, effects);
    }

    /// Another core's call: this core's part of it.
    pub(crate) fn operate_for(
        &mut self,
        core: CoreId,
        theirs: Ticket,
        operation: &Operation,
        effects: &mut Effects,
    ) {
        let ticket = self.ticket();
        let asker = Asker::Core(core, theirs);
        let mut pending = Pending { asker, remaining: 0, outcome: Outcome::default() };
        self.carry_out(operation, ticket, &mut pending, effects);
        self.conclude(ticket, pending, effects);
    }

    /// One part of some work is done.
    pub(crate) fn part_done(&mut self, ticket: Ticket, outcome: Outcome, effects: &mut Effects) {
        let Some(mut pending) = self.pending.remove(&ticket) else { return };
        pending.remaining -= 1;
        pending.outcome.merge(outcome);
        self.conclude(ticket, pending, effects);
    }

    /// Tells the asker, or waits for the parts that are still to come.
    fn conclude(&mut self, ticket: Ticket, pending: Pending, effects: &mut Effects) {
        if pending.remaining > 0 {
            self.pending.insert(ticket, pending);
            return;
        }
        effects.push(match pending.asker {
            Asker::Request(request, expects) => Effect::Answer(request, answer(pending.outcome, expects)),
            Asker::Core(core, theirs) => Effect::Forward(core, MeshItem::Done(theirs, pending.outcome)),
        });
    }

    /// This core's part of a call other than a send; what it must wait for is counted in `pending`.
    fn carry_out(
        &mut self,
        operation: &Operation,
        ticket: Ticket,
        pending: &mut Pending,
        effects: &mut Effects,
    ) {
        match operation {
            Operation::Close { target, excluded, reason } => {
                self.close_all(target, excluded, reason.as_deref(), effects);
            }
            Operation::Exists { target } => pending.outcome.found = !self.slots_of(target).is_empty(),
            Operation::AddToGroup { member, group } => {
                let slots = self.slots_of(member);
                pending.outcome.found = !slots.is_empty();
                pending.outcome.full = !self.join_all(&slots, group, ticket, pending, effects);
            }
            Operation::RemoveFromGroup { member, group } => {
                self.leave_all(&self.slots_of(member), group, effects);
            }
            Operation::RemoveFromAllGroups { member } => {
                for slot in self.slots_of(member) {
                    let memberships = &self.connections[slot as usize].memberships;
                    let groups: Vec<u32> = memberships.iter().map(|membership| membership.group).collect();
                    for index in groups.into_iter().filter(|&index| index != EVERYONE) {
                        self.leave(slot, index, effects);
                    }
                }
            }
            Operation::ChangeGroups { change, groups, filter } => {
                // Chosen once: what the first group's change does to the filter's verdict changes nothing.
                let slots = match filter {
                    Some(filter) => self.matching(&EnvelopeTarget::All, filter),
                    None => self.live_slots(),
                };
                for group in groups {
                    match change {
                        // Whoever is in too many groups is passed over and counted: the others are meant as well.
                        GroupChange::Add => {
                            self.join_all(&slots, group, ticket, pending, effects);
                        }
                        GroupChange::Remove => self.leave_all(&slots, group, effects),
                    }
                }
            }
            Operation::ListMembers { group, page } => {
                pending.outcome.members = Some(Box::new(self.list_members(group, page)));
            }
            Operation::Grant(permission) => self.change_permission(permission, true, &mut pending.outcome),
            Operation::Revoke(permission) => self.change_permission(permission, false, &mut pending.outcome),
            Operation::Check(Permission { connection, action, group }) => {
                pending.outcome.found = self.slots_of(connection).iter().any(|&slot| {
                    let permissions = &self.connections[slot as usize].permissions;
                    match group {
                        Some(group) => permissions.allows(*action, group.as_str()),
                        None => permissions.allows_all(*action),
                    }
                });
            }
            // The engine answers these itself.
            Operation::GenerateToken(_) | Operation::NotYet { .. } => {}
            Operation::Send { .. } => debug_assert!(false, "a send has a body and is delivered"),
        }
    }

    fn close_all(
        &mut self,
        target: &Target,
        excluded: &[Box<str>],
        reason: Option<&str>,
        effects: &mut Effects,
    ) {
        let reason = reason.unwrap_or("Closed by REST API.");
        let mut excluded: Vec<_> = ids(excluded).collect();
        // Each of a hub's connections may be looked for among them.
        excluded.sort_unstable();
        for slot in self.slots_of(target) {
            let connection = &self.connections[slot as usize];
            if excluded.binary_search(&connection.id).is_ok() {
                continue;
            }
            // 1008 tells reliable clients not to try a recovery (client-protocols §6.4).
            let reliable = connection.subprotocol().is_reliable();
            let code = if reliable { CloseCode::POLICY_VIOLATION } else { CloseCode::NORMAL };
            let how = Ending { code, reason, category: CloseCategory::ClosedByAppServer };
            self.end(slot, how, effects);
        }
    }

    /// False if somebody is in as many groups as it may be and was passed over.
    fn join_all(
        &mut self,
        slots: &[u32],
        group: &GroupName<'_>,
        ticket: Ticket,
        pending: &mut Pending,
        effects: &mut Effects,
    ) -> bool {
        if slots.is_empty() {
            return true;
        }
        let index = self.group(group.as_str());
        let mut all = true;
        for &slot in slots {
            if self.may_join_one_more(slot, index) {
                self.join(slot, index, effects);
            } else {
                self.counters.groups_refused += 1;
                all = false;
            }
        }
        if self.groups[index as usize].is_unused() {
            self.release(index, effects);
        } else if self.announce(index, Waiter::Part(ticket), effects).is_some() {
            pending.remaining += 1;
        }
        all
    }

    fn leave_all(&mut self, slots: &[u32], group: &GroupName<'_>, effects: &mut Effects) {
        if let Some(&index) = self.group_index.get(group.as_str()) {
            for &slot in slots {
                self.leave(slot, index, effects);
            }
        }
    }

    /// The members here with the smallest ids behind the page's start, at most as many as fit it.
    fn list_members(&self, group: &GroupName<'_>, page: &Page) -> MemberPage {
        let after = match page.after.as_deref().map(ConnectionId::parse) {
            None => None,
            Some(Some(id)) => Some(id.rank()),
            // Nobody's id, so nobody is behind it.
            Some(None) => return MemberPage::default(),
        };
        let len_max = page.len_max();
        // The largest is on top: one more than is wanted shows that there are more.
        let mut smallest = BinaryHeap::with_capacity(len_max + 2);
        for slot in self.members(group.as_str()) {
            let rank = self.connections[slot as usize].id.rank();
            if after.is_some_and(|after| rank <= after) {
                continue;
            }
            smallest.push((rank, slot));
            if smallest.len() > len_max + 1 {
                smallest.pop();
            }
        }
        let members = smallest.into_sorted_vec().into_iter().map(|(_, slot)| {
            let connection = &self.connections[slot as usize];
            Member { id: connection.id, user: connection.user.clone() }
        });
        let mut page = MemberPage { members: members.collect(), more: false };
        page.cut(len_max);
        page
    }

    fn change_permission(&mut self, permission: &Permission, allow: bool, outcome: &mut Outcome) {
        let Permission { connection, action, group } = permission;
        for slot in self.slots_of(connection) {
            outcome.found = true;
            let permissions = &mut self.connections[slot as usize].permissions;
            let changed = match (allow, group) {
                (true, Some(group)) => permissions.grant(*action, group.as_str(), &self.limits),
                (false, Some(group)) => permissions.revoke(*action, group.as_str(), &self.limits),
                (true, None) => {
                    permissions.grant_all(*action);
                    Ok(())
                }
                (false, None) => {
                    permissions.revoke_all(*action);
                    Ok(())
                }
            };
            if changed.is_err() {
                self.counters.permissions_refused += 1;
                outcome.full = true;
            }
        }
    }

    /// Which cores a call concerns, this one perhaps among them.
    fn cores_of(&self, operation: &Operation) -> CoreSet {
        let every = self.cores_matching(None);
        let of_target = |target: &Target| match target {
            Target::All | Target::User(_) => every,
            Target::Group(group) => {
                let mut cores = self.directory.cores(group.as_str());
                cores.insert(self.core);
                cores
            }
            Target::Connection(id) => ConnectionId::parse(id)
                .and_then(|id| self.core_of(&id))
                .map_or_else(CoreSet::default, CoreSet::only),
        };
        match operation {
            Operation::Send { target, filter, .. } => {
                of_target(target).intersection(self.cores_matching(filter.as_ref()))
            }
            Operation::Close { target, .. } | Operation::Exists { target } => of_target(target),
            Operation::AddToGroup { member, .. }
            | Operation::RemoveFromGroup { member, .. }
            | Operation::RemoveFromAllGroups { member } => of_target(member),
            Operation::ChangeGroups { filter, .. } => self.cores_matching(filter.as_ref()),
            Operation::ListMembers { group, .. } => of_target(&Target::Group(group.clone())),
            Operation::Grant(permission) | Operation::Revoke(permission) | Operation::Check(permission) => {
                of_target(&permission.connection)
            }
            Operation::GenerateToken(_) | Operation::NotYet { .. } => CoreSet::default(),
        }
    }
}

/// A send as a publication; `None` for other calls and for sends to a connection that cannot exist.
fn publication<'a>(
    now: Time,
    operation: &Operation,
    content: Option<Content<'a>>,
) -> Option<(Audience, Content<'a>)> {
    let (Operation::Send { target, excluded, filter, ttl_seconds }, Some(content)) = (operation, content)
    else {
        return None;
    };
    let target = match target {
        Target::All => EnvelopeTarget::All,
        Target::Group(group) => EnvelopeTarget::Group(group.as_str().into(), None),
        Target::User(user) => EnvelopeTarget::User(UserId::clone(user)),
        Target::Connection(id) => EnvelopeTarget::Connection(ConnectionId::parse(id)?),
    };
    let audience = Audience::new(target, ids(excluded).collect(), filter.clone());
    let until = now.after_ttl(*ttl_seconds);
    Some((audience, Content { until, ..content }))
}

/// The ids that can exist.
fn ids(texts: &[Box<str>]) -> impl Iterator<Item = ConnectionId> {
    texts.iter().filter_map(|id| ConnectionId::parse(id))
}

fn expects(operation: &Operation) -> Expects {
    match operation {
        Operation::Exists { .. }
        | Operation::AddToGroup { .. }
        | Operation::Grant(_)
        | Operation::Check(_) => Expects::Target,
        Operation::ListMembers { page, .. } => Expects::Members(page.len_max()),
        _ => Expects::Nothing,
    }
}

fn answer(outcome: Outcome, expects: Expects) -> Answer {
    match expects {
        _ if outcome.full => Answer::Full,
        Expects::Target if !outcome.found => Answer::NotFound,
        Expects::Target | Expects::Nothing => Answer::Done,
        Expects::Members(len_max) => {
            let mut page = outcome.members.map(|page| *page).unwrap_or_default();
            page.cut(len_max);
            Answer::Members(page)
        }
    }
}
