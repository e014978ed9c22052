//! What applications change by REST, and what is known of clients while it is under way and afterwards.
//!
//! A call is under way for as long as its parts are on their way between cores. What it may change is unsure from its
//! beginning on; at its answer it is sure again, but for clients whose own requests crossed it. Someone who was taken
//! out of a group may still have messages of it in front of it: a ping behind them says when it has read them all.

use super::client::{Client, Member, Phase};
use super::{Caller, World, name};
use ringhub_hub::{Answer, ConnectionId};
use ringhub_protocol::auth::role::Action;
use ringhub_protocol::name::UserId;
use ringhub_protocol::rest::{Filter, GroupChange, Operation, Permission, Target};

/// Places of permissions among a client's.
pub(super) const JOIN: usize = 0;
pub(super) const SEND: usize = 1;

/// What a call that is under way does.
pub(super) enum Doing {
    /// It changes nothing.
    Nothing,
    Membership {
        add: bool,
        places: Vec<Place>,
    },
    Permission {
        id: ConnectionId,
        action: usize,
        group: Option<usize>,
        allow: bool,
    },
    /// It asks whether a client may do something: whether it does is known, as only calls change it.
    Check {
        id: ConnectionId,
        expected: bool,
    },
    Close {
        target: Target,
        stay: Vec<ConnectionId>,
        go: Vec<ConnectionId>,
    },
}

/// A client's place in a group that may change.
pub(super) struct Place {
    client: usize,
    group: usize,
    /// Whose it was at the beginning; `None` if it cannot be told afterwards what came of it.
    id: Option<ConnectionId>,
}

impl Caller {
    /// The groups in which the client's place may be changing.
    pub(super) fn changing(&self, client: usize) -> impl Iterator<Item = usize> {
        let places = match &self.busy {
            Some((_, Doing::Membership { places, .. })) => &places[..],
            _ => &[],
        };
        places.iter().filter(move |place| place.client == client).map(|place| place.group)
    }

    /// The client asks to change its place itself: whether nobody can say which request was first.
    pub(super) fn crosses(&mut self, client: usize, group: usize) -> bool {
        let Some((_, Doing::Membership { places, .. })) = &mut self.busy else { return false };
        let place = places.iter_mut().find(|place| (place.client, place.group) == (client, group));
        place.map(|place| place.id = None).is_some()
    }

    /// Whether a call that is under way may have closed this one.
    pub(super) fn closes(&self, client: &Client) -> bool {
        let Some((_, Doing::Close { target, stay, .. })) = &self.busy else { return false };
        let id = client.id.expect("it was open");
        let is_of_target = match target {
            Target::All => true,
            Target::User(_) => client.has_user(),
            Target::Group(group) => {
                (0..client.groups.len()).any(|n| name(n) == *group && client.groups[n] != Member::No)
            }
            Target::Connection(text) => **text == *id.to_string(),
        };
        is_of_target && !stay.contains(&id)
    }
}

impl World {
    /// One change or question on a random core.
    pub(super) fn change(&mut self, hub: usize) {
        let (group, client) = (self.random.below(self.setup.groups), self.random.below(self.setup.clients));
        let id = self.clients[client].id.filter(|_| self.clients[client].hub == hub);
        let Some(id) = id else { return };
        let user = || Target::User(UserId::parse("u").unwrap());
        let connection = || Target::Connection(id.to_string().into());
        let (member, chosen) = if self.random.below(3) == 0 {
            (user(), "user".into())
        } else {
            (connection(), format!("only:{id}"))
        };
        match self.random.below(16) {
            0..4 => {
                self.tally.note("add to group");
                let doing = self.begin(hub, true, &[group], &chosen);
                self.request(hub, &Operation::AddToGroup { member, group: name(group) }, doing);
            }
            4..7 => {
                self.tally.note("remove from group");
                let doing = self.begin(hub, false, &[group], &chosen);
                self.request(hub, &Operation::RemoveFromGroup { member, group: name(group) }, doing);
            }
            7 => {
                self.tally.note("remove from all groups");
                self.remove_from_all(hub, member, &chosen);
            }
            8..10 => self.change_groups(hub),
            10..12 => self.close_some(hub, id, group),
            _ => {
                let action = self.random.below(2);
                let group = (self.random.below(8) > 0).then_some(group);
                self.change_permission(hub, client, id, action, group);
            }
        }
    }

    pub(super) fn remove_from_all(&mut self, hub: usize, member: Target, chosen: &str) {
        let all: Vec<usize> = (0..self.setup.groups).collect();
        let doing = self.begin(hub, false, &all, chosen);
        self.request(hub, &Operation::RemoveFromAllGroups { member }, doing);
    }

    fn change_groups(&mut self, hub: usize) {
        self.tally.note("change groups");
        let add = self.random.below(2) == 0;
        let change = if add { GroupChange::Add } else { GroupChange::Remove };
        let first = self.random.below(self.setup.groups);
        let second = (first + 1) % self.setup.groups;
        let groups = if self.random.below(2) == 0 { vec![first] } else { vec![first, second] };
        let (chosen, filter) = self.filter();
        let doing = self.begin(hub, add, &groups, &chosen);
        let groups = groups.into_iter().map(name).collect();
        let filter = Filter::parse(&filter).unwrap();
        self.request(hub, &Operation::ChangeGroups { change, groups, filter }, doing);
    }

    fn close_some(&mut self, hub: usize, id: ConnectionId, group: usize) {
        self.tally.note("close");
        let target = match self.random.below(12) {
            0 => Target::All,
            1 => Target::User(UserId::parse("u").unwrap()),
            2 | 3 => Target::Group(name(group)),
            _ => Target::Connection(id.to_string().into()),
        };
        let spared = self.random.below(self.setup.clients);
        let stay: Vec<ConnectionId> = self.clients[spared].id.into_iter().collect();
        let excluded = stay.iter().map(|id| id.to_string().into()).collect();
        let is_meant = |who: &&Client| {
            let is_there = who.hub == hub && who.id.is_some_and(|id| !stay.contains(&id));
            is_there
                && match &target {
                    Target::All => true,
                    Target::User(_) => who.has_user(),
                    // It may leave before the call comes.
                    Target::Group(_) => false,
                    Target::Connection(text) => **text == *who.id.expect("it is there").to_string(),
                }
        };
        let go = self.clients.iter().filter(is_meant).filter_map(|who| who.id).collect();
        let close = Operation::Close { target: target.clone(), excluded, reason: None };
        self.request(hub, &close, Doing::Close { target, stay, go });
    }

    fn change_permission(
        &mut self,
        hub: usize,
        client: usize,
        id: ConnectionId,
        action: usize,
        group: Option<usize>,
    ) {
        let permission = Permission {
            connection: Target::Connection(id.to_string().into()),
            action: [Action::JoinLeaveGroup, Action::SendToGroup][action],
            group: group.map(name),
        };
        let may = &mut self.clients[client].may[action];
        let (operation, allow) = match self.random.below(4) {
            0 => {
                let Some(group) = group else { return };
                self.tally.note("check");
                // Unknown of a lost client that ended without knowing.
                let Some(expected) = may[group] else { return };
                return self.request(hub, &Operation::Check(permission), Doing::Check { id, expected });
            }
            1 => (Operation::Revoke(permission), false),
            _ => (Operation::Grant(permission), true),
        };
        self.tally.note(if allow { "grant" } else { "revoke" });
        may.iter_mut()
            .enumerate()
            .filter(|(n, _)| group.is_none_or(|group| *n == group))
            .for_each(|(_, may)| *may = None);
        self.request(hub, &operation, Doing::Permission { id, action, group, allow });
    }

    /// A change of places in groups begins, for whom a filter holds.
    fn begin(&mut self, hub: usize, add: bool, groups: &[usize], chosen: &str) -> Doing {
        // Who is in a group when the call comes cannot be told.
        let is_fixed = !chosen.starts_with("in:");
        let mut places = Vec::new();
        for who in self.clients.iter_mut().filter(|who| who.hub == hub) {
            if is_fixed && !who.is_chosen(chosen, |_| true) {
                // Its next connection has another id, and is chosen if it is there when the call comes.
                let is_next = chosen.starts_with("not:");
                let place = |&group| Place { client: who.index, group, id: None };
                places.extend(groups.iter().filter(|_| is_next).map(place));
                continue;
            }
            for &group in groups {
                match (add, who.groups[group]) {
                    (true, Member::Yes) | (false, Member::No) => {}
                    (_, place) => {
                        if place == Member::Yes {
                            // What is under way from other cores may miss it.
                            who.owed.clear();
                        }
                        who.groups[group] = Member::Unsure;
                        who.fences.retain(|&(_, fenced)| fenced != group);
                    }
                }
                places.push(Place { client: who.index, group, id: who.id.filter(|_| is_fixed) });
            }
        }
        Doing::Membership { add, places }
    }

    /// The call's answer: what it changed is known from now on.
    pub(super) fn conclude(&mut self, hub: usize, doing: Doing, answer: &Answer) {
        let found = *answer == Answer::Done;
        assert!(found || *answer == Answer::NotFound, "{answer:?}");
        match doing {
            Doing::Nothing => {}
            Doing::Membership { add, places } => self.conclude_places(add && found, !add, places),
            Doing::Permission { id, action, group, allow } => {
                assert!(found || allow, "a revocation is done in any case");
                let is_it = |who: &&mut Client| who.id == Some(id) && found;
                for who in self.clients.iter_mut().filter(is_it) {
                    for n in (0..self.setup.groups).filter(|n| group.is_none_or(|group| *n == group)) {
                        who.may[action][n] = Some(allow);
                    }
                }
            }
            Doing::Check { id, expected } => {
                let is_open = self.clients.iter().any(|who| who.id == Some(id) && who.phase == Phase::Open);
                assert!(!is_open || found == expected, "{id}: may, {expected}, and the answer is {found}");
            }
            Doing::Close { go, .. } => {
                let hubs = self.cores.iter().map(|core| &core.hubs[hub]);
                for row in hubs.flat_map(|hub| hub.connections(0, usize::MAX)) {
                    assert!(!go.contains(&row.id), "{} was to be closed", row.id);
                }
            }
        }
    }

    fn conclude_places(&mut self, added: bool, removed: bool, places: Vec<Place>) {
        let mut pinged = None;
        for Place { client, group, id } in places {
            let who = &mut self.clients[client];
            if id.is_none() || who.id != id {
                continue;
            }
            if added {
                who.groups[group] = Member::Yes;
                self.changed = Some((who.hub, group));
            } else if removed && who.groups[group] == Member::Unsure {
                let ping = match pinged {
                    Some((of, ping)) if of == client => ping,
                    _ => self.ping(client),
                };
                pinged = Some((client, ping));
                let who = &mut self.clients[client];
                who.fences.extend(ping.map(|ping| (ping, group)));
            }
        }
    }
}
