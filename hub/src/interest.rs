//! Agreement between cores: interest in groups, and what other cores ask of this one.
//!
//! A join, a connect with groups and a REST call about membership are acknowledged only after every other
//! core has confirmed that it knows of this core's first member. Messages between two cores keep their order,
//! so a withdrawal needs no answer.

use crate::directory::{Agreement, Interest};
use crate::effect::Outcome;
use crate::envelope::{Audience, Content, EnvelopeTarget};
use crate::hub::{EVERYONE, Hub};
use crate::{ConnectionKey, CoreId, CoreSet, Effect, Effects, MeshItem, Ticket, Time};
use ringhub_protocol::pubsub::Sender;
use ringhub_protocol::rest::Filter;
use std::sync::Arc;

/// Who is told when the other cores have agreed.
pub(crate) enum Waiter {
    /// A client's join.
    Ack(ConnectionKey, Option<u64>),
    /// A client whose token names the group.
    Connect(usize),
    /// Work of this core in several parts.
    Part(Ticket),
}

impl Hub {
    /// Makes sure the other cores know that this core has members of a group. `Some` if `waiter` will be
    /// told later; `None` if they know already.
    pub(crate) fn announce(&mut self, index: u32, waiter: Waiter, effects: &mut Effects) -> Option<Ticket> {
        let others = CoreSet::others(self.core, self.cores);
        let interest = self.groups[index as usize].interest;
        let ticket = match interest {
            _ if others.is_empty() => return None,
            Interest::Agreed => return None,
            Interest::Pending(ticket) => ticket,
            Interest::None => {
                let ticket = self.ticket();
                let group = &mut self.groups[index as usize];
                group.interest = Interest::Pending(ticket);
                for core in others.iter() {
                    effects.push(Effect::Forward(core, MeshItem::Interest(Arc::clone(&group.name), ticket)));
                }
                let agreement = Agreement { remaining: others.count(), waiters: Vec::new(), group: index };
                self.agreements.insert(ticket, agreement);
                ticket
            }
        };
        self.agreements.get_mut(&ticket).expect("pending means awaited").waiters.push(waiter);
        Some(ticket)
    }

    /// This core has no member of the group any more.
    pub(crate) fn withdraw(&mut self, index: u32, effects: &mut Effects) {
        let group = &mut self.groups[index as usize];
        if std::mem::replace(&mut group.interest, Interest::None) == Interest::None {
            return;
        }
        for core in CoreSet::others(self.core, self.cores).iter() {
            effects.push(Effect::Forward(core, MeshItem::NoInterest(Arc::clone(&group.name))));
        }
    }

    pub(crate) fn mesh(&mut self, now: Time, from: CoreId, item: MeshItem, effects: &mut Effects) {
        match item {
            MeshItem::Publish(envelope, ticket) => {
                let found = self.deliver(&envelope.audience, envelope.content());
                if let Some(ticket) = ticket {
                    effects.push(Effect::Forward(from, MeshItem::Done(ticket, Outcome::found(found))));
                }
            }
            MeshItem::Operation(operation, ticket) => {
                self.operate_for(from, ticket, &operation, effects);
            }
            MeshItem::Done(ticket, outcome) => self.part_done(ticket, outcome, effects),
            MeshItem::Interest(group, ticket) => {
                self.directory.add(group, from);
                effects.push(Effect::Forward(from, MeshItem::Agreed(ticket)));
            }
            MeshItem::Agreed(ticket) => self.agreed(now, ticket, effects),
            MeshItem::NoInterest(group) => self.directory.remove(&group, from),
        }
    }

    fn agreed(&mut self, now: Time, ticket: Ticket, effects: &mut Effects) {
        let Some(agreement) = self.agreements.get_mut(&ticket) else { return };
        agreement.remaining -= 1;
        if agreement.remaining > 0 {
            return;
        }
        let agreement = self.agreements.remove(&ticket).expect("just seen");
        if let Some(group) = self.groups.get_mut(agreement.group as usize)
            && group.interest == Interest::Pending(ticket)
        {
            group.interest = Interest::Agreed;
        }
        for waiter in agreement.waiters {
            match waiter {
                Waiter::Ack(key, ack_id) => {
                    if let Some(slot) = self.find(key) {
                        self.ack(slot, ack_id);
                    }
                }
                Waiter::Connect(entry) => self.connect_agreed(now, entry, effects),
                Waiter::Part(ticket) => self.part_done(ticket, Outcome::default(), effects),
            }
        }
    }

    /// Publishes to this core's connections of a target; returns whether it has any.
    pub(crate) fn deliver(&mut self, audience: &Audience, content: Content<'_>) -> bool {
        if let Some(filter) = audience.filter() {
            return self.deliver_filtered(audience, filter, content);
        }
        let (index, sender) = match &audience.target {
            EnvelopeTarget::All => (EVERYONE, Sender::Server),
            EnvelopeTarget::Group(name, user) => {
                let Some(&index) = self.group_index.get(&**name) else { return false };
                (index, Sender::Group { group: name, user: user.as_deref() })
            }
            EnvelopeTarget::User(user) => {
                let mut slots = self.users.slots(user, &self.connections).peekable();
                if slots.peek().is_none() {
                    return false;
                }
                self.turn.message_to(Sender::Server, content, slots, &self.connections);
                return true;
            }
            EnvelopeTarget::Connection(id) => {
                let Some(slot) = self.by_id(id) else { return false };
                self.turn.message_to(Sender::Server, content, [slot].into_iter(), &self.connections);
                return true;
            }
        };
        let group = &mut self.groups[index as usize];
        if group.len() == 0 {
            return false;
        }
        let stream = self.turn.publish(index, group, sender, content);
        let entry = stream.entries.len() as u32 - 1;
        for id in audience.excluded() {
            if let Some(connection) = self.connections.get(id.slot as usize)
                && connection.id == *id
                && connection.membership(index).is_ok()
            {
                stream.excluded.push((id.slot, entry));
            }
        }
        true
    }

    /// Publishes to those a filter holds for: each gets a message of its own, in its place in the log.
    fn deliver_filtered(&mut self, audience: &Audience, filter: &Filter, content: Content<'_>) -> bool {
        let (target, excluded) = (&audience.target, audience.excluded());
        let mut slots = self.matching(target, filter);
        slots.retain(|&slot| excluded.binary_search(&self.connections[slot as usize].id).is_err());
        let sender = match target {
            EnvelopeTarget::Group(group, user) => Sender::Group { group, user: user.as_deref() },
            _ => Sender::Server,
        };
        let found = !slots.is_empty();
        self.turn.message_to(sender, content, slots.into_iter(), &self.connections);
        found
    }
}
