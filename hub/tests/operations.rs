//! REST calls over several cores: whoever takes a call in, it concerns everybody it should, and is answered once,
//! when all is done.

use ringhub_hub::effect::{Connect, Effect, Input};
use ringhub_hub::{
    Answer, Budget, Chunk, ConnectionId, CoreId, Effects, Hub, Limits, MemberPage, MeshItem, Part, RequestId,
    Sink, SocketKey, Time,
};
use ringhub_protocol::auth::role::Action;
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::rest::{Filter, GroupChange, Operation, Page, Permission, Target};
use std::collections::{BTreeMap, VecDeque};

const CORES: u16 = 3;

/// Three cores and the messages between them.
struct Cores {
    hubs: Vec<Hub>,
    mesh: VecDeque<(CoreId, CoreId, MeshItem)>,
    answers: Vec<Answer>,
    clients: BTreeMap<&'static str, ConnectionId>,
    wires: Wires,
}

/// Bytes by core and socket.
#[derive(Default)]
struct Wires {
    core: usize,
    sent: BTreeMap<(usize, u32), Vec<u8>>,
}

impl Sink for Wires {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        for socket in sockets {
            self.sent.entry((self.core, socket.slot)).or_default().extend_from_slice(bytes);
        }
    }
    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        for part in parts {
            let range = part.start as usize..part.end as usize;
            self.sent.entry((self.core, part.socket.slot)).or_default().extend_from_slice(&bytes[range]);
        }
    }
}

impl Cores {
    fn new(limits: Limits) -> Self {
        let name = HubName::parse("chat").unwrap();
        let hub = |core| Hub::new(name.clone(), CoreId(core), CORES, 7, limits, Box::new(|_| "t".into()));
        Self {
            hubs: (0..CORES).map(hub).collect(),
            mesh: VecDeque::new(),
            answers: Vec::new(),
            clients: BTreeMap::new(),
            wires: Wires::default(),
        }
    }

    fn feed(&mut self, core: usize, input: Input<'_>) {
        let mut effects = Effects::new();
        self.hubs[core].handle(Time(0), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Forward(to, item) => self.mesh.push_back((CoreId(core as u16), to, item)),
                Effect::Answer(RequestId(1), answer) => self.answers.push(answer),
                _ => {}
            }
        }
    }

    /// Delivers one message between cores.
    fn carry(&mut self) -> bool {
        let Some((from, to, item)) = self.mesh.pop_front() else { return false };
        self.feed(usize::from(to.0), Input::Mesh(from, item));
        true
    }

    fn settle(&mut self) {
        while self.carry() {}
        for (core, hub) in self.hubs.iter_mut().enumerate() {
            self.wires.core = core;
            hub.flush(Time(0), &mut self.wires, Budget::UNLIMITED);
        }
    }

    fn connect(
        &mut self,
        core: usize,
        name: &'static str,
        user: Option<&str>,
        groups: &[&str],
    ) -> ConnectionId {
        let slot = self.clients.len() as u32;
        // Spread, so that the order of ids is not the order of arrival.
        let random = u128::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let connect = Connect {
            socket: SocketKey { slot, generation: 1 },
            subprotocol: Subprotocol::Json,
            random,
            prologue: Vec::new(),
            user: user.map(|user| UserId::parse(user).unwrap()),
            roles: Vec::new(),
            groups: groups.iter().map(|name| group(name)).collect(),
            raw_group: None,
            arrival: Default::default(),
            introduction: None,
            deflate: None,
        };
        self.feed(core, Input::Connect(Box::new(connect)));
        self.settle();
        let rows = self.hubs[core].connections(0, usize::MAX);
        let id = rows.into_iter().map(|row| row.id).find(|id| id.random == random).expect("opened");
        self.clients.insert(name, id);
        self.wires.sent.clear();
        id
    }

    /// Makes a call on a core and returns its one answer.
    fn call(&mut self, core: usize, operation: &Operation) -> Answer {
        let content = matches!(operation, Operation::Send { .. }).then(|| Data::text("x").into());
        self.feed(core, Input::Operation(RequestId(1), operation, content));
        self.settle();
        let answer = self.answers.pop().expect("every call is answered");
        assert!(self.answers.is_empty(), "once");
        assert!(self.hubs.iter().all(|hub| !hub.is_dirty()));
        answer
    }

    /// Who was sent anything since the last call.
    fn heard(&mut self) -> Vec<&'static str> {
        let sent = std::mem::take(&mut self.wires.sent);
        let slots: Vec<u32> = sent.into_keys().map(|(_, slot)| slot).collect();
        // Clients got their sockets in the order they came.
        let mut by_slot: Vec<_> = self.clients.iter().map(|(name, id)| (*name, *id)).collect();
        by_slot.retain(|(_, id)| {
            let socket = self.socket_of(id);
            slots.contains(&socket)
        });
        by_slot.into_iter().map(|(name, _)| name).collect()
    }

    fn socket_of(&self, id: &ConnectionId) -> u32 {
        (0..)
            .find(|n: &u32| {
                u128::from(*n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) == id.random
            })
            .expect("the id was made from it")
    }

    fn send(&mut self, core: usize, target: Target, filter: &str) -> Vec<&'static str> {
        let filter = Filter::parse(filter).unwrap();
        let send = Operation::Send { target, excluded: Box::default(), filter, ttl_seconds: 0 };
        assert_eq!(self.call(core, &send), Answer::Done);
        self.heard()
    }

    fn change(&mut self, core: usize, change: GroupChange, groups: &[&str], filter: &str) {
        let groups = groups.iter().map(|name| group(name)).collect();
        let operation = Operation::ChangeGroups { change, groups, filter: Filter::parse(filter).unwrap() };
        assert_eq!(self.call(core, &operation), Answer::Done);
    }

    fn list(&mut self, core: usize, page: Page) -> MemberPage {
        match self.call(core, &Operation::ListMembers { group: group("g"), page }) {
            Answer::Members(page) => page,
            other => panic!("{other:?}"),
        }
    }
}

fn group(name: &str) -> GroupName<'static> {
    GroupName::parse(name.to_owned()).unwrap()
}

fn four(limits: Limits) -> Cores {
    let mut cores = Cores::new(limits);
    cores.connect(0, "ann", Some("u1"), &["g"]);
    cores.connect(1, "bob", Some("u2"), &["g", "h"]);
    cores.connect(2, "cid", Some("u1"), &["h"]);
    cores.connect(2, "dan", None, &[]);
    cores
}

#[test]
fn a_filter_chooses_among_the_receivers_on_every_core() {
    let mut cores = four(Limits::default());
    let ann = cores.clients["ann"];
    let by_id = format!("connectionId eq '{ann}' or connectionId eq '{}'", cores.clients["dan"]);
    for core in 0..3 {
        for (target, filter, expected) in [
            (Target::All, "", &["ann", "bob", "cid", "dan"][..]),
            (Target::All, "userId eq 'u1'", &["ann", "cid"]),
            (Target::All, "'h' in groups", &["bob", "cid"]),
            (Target::All, "userId eq null", &["dan"]),
            (Target::All, "not ('g' in groups)", &["cid", "dan"]),
            (Target::All, &by_id, &["ann", "dan"]),
            (Target::Group(group("g")), "'h' in groups", &["bob"]),
            (Target::Group(group("g")), "userId eq 'u1'", &["ann"]),
            (Target::Group(group("g")), &by_id, &["ann"]),
            (Target::Group(group("none")), "true", &[]),
            (Target::User(UserId::parse("u1").unwrap()), "'h' in groups", &["cid"]),
            (Target::User(UserId::parse("u1").unwrap()), "length(groups) eq 1", &["ann", "cid"]),
        ] {
            assert_eq!(cores.send(core, target.clone(), filter), expected, "{target:?} {filter}");
        }
        let send = Operation::Send {
            target: Target::All,
            excluded: [ann.to_string().into()].into(),
            filter: Filter::parse("userId eq 'u1'").unwrap(),
            ttl_seconds: 0,
        };
        cores.call(core, &send);
        assert_eq!(cores.heard(), ["cid"]);
    }
}

#[test]
fn a_bulk_change_is_answered_when_every_core_knows() {
    let mut cores = four(Limits::default());
    cores.change(1, GroupChange::Add, &["new", "newer"], "userId eq 'u1'");
    for core in 0..3 {
        assert_eq!(cores.send(core, Target::Group(group("new")), ""), ["ann", "cid"]);
        assert_eq!(cores.send(core, Target::Group(group("newer")), ""), ["ann", "cid"]);
    }
    // The filter is asked before anything changes.
    cores.change(0, GroupChange::Remove, &["new", "newer"], "'new' in groups");
    assert_eq!(cores.send(2, Target::Group(group("new")), ""), [""; 0]);
    assert_eq!(cores.send(2, Target::Group(group("newer")), ""), [""; 0]);
    cores.change(2, GroupChange::Add, &["all"], "");
    assert_eq!(cores.send(0, Target::Group(group("all")), ""), ["ann", "bob", "cid", "dan"]);
    cores.change(2, GroupChange::Add, &["nobody"], "userId eq 'nobody'");
    assert_eq!(cores.send(0, Target::Group(group("nobody")), ""), [""; 0]);
    assert!(cores.hubs.iter().all(|hub| hub.group_counts().0 <= 3), "no group is left without a member");

    // One message at a time: the answer must not come before the last agreement.
    let groups = [group("late 1"), group("late 2")].into();
    let operation = Operation::ChangeGroups { change: GroupChange::Add, groups, filter: None };
    cores.feed(0, Input::Operation(RequestId(1), &operation, None));
    while cores.answers.is_empty() {
        assert!(cores.carry(), "it is answered");
    }
    let knows = |hub: &Hub| hub.group_counts();
    assert!(cores.hubs.iter().all(|hub| knows(hub).1 >= 2), "every core knows of the others' members");
    while cores.carry() {}
}

#[test]
fn too_many_groups_are_refused_one_by_one() {
    let mut cores = four(Limits { groups_per_connection_max: 2, ..Limits::default() });
    cores.change(0, GroupChange::Add, &["one more"], "");
    // Bob was in two already.
    assert_eq!(cores.send(1, Target::Group(group("one more")), ""), ["ann", "cid", "dan"]);
    assert_eq!(cores.hubs.iter().map(|hub| hub.counters().groups_refused).sum::<u64>(), 1);
}

#[test]
fn a_group_too_many_was_answered_as_if_it_had_been_joined() {
    let mut cores = four(Limits { groups_per_connection_max: 2, ..Limits::default() });
    let bob = Target::Connection(cores.clients["bob"].to_string().into());
    let add = Operation::AddToGroup { member: bob, group: group("one more") };
    assert_eq!(cores.call(0, &add), Answer::Full);
}

#[test]
fn lists_are_ordered_and_complete_over_cores_and_pages() {
    let mut cores = Cores::new(Limits::default());
    const NAMES: [&str; 23] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t",
        "u", "v", "w",
    ];
    for (at, name) in NAMES.into_iter().enumerate() {
        cores.connect(at % 3, name, Some(name), &["g"]);
    }
    cores.connect(0, "outside", None, &[]);
    let mut expected: Vec<String> = NAMES.iter().map(|name| cores.clients[name].to_string()).collect();
    expected.sort_unstable();
    for size in [1, 2, 7, 22, 23, 24, 200] {
        let (mut after, mut listed, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = Page { size: Some(size), top: None, after: after.clone() };
            let MemberPage { members, more } = cores.list(pages % 3, page);
            pages += 1;
            assert!(members.len() <= size as usize && (!more || members.len() == size as usize));
            listed.extend(members.iter().map(|member| member.id.to_string()));
            if !more {
                break;
            }
            after = listed.last().map(|id| id.as_str().into());
        }
        assert_eq!(listed, expected, "pages of {size}");
        assert_eq!(pages, NAMES.len().div_ceil(size as usize), "no page is empty");
    }
    let nobody = Page { size: None, top: None, after: Some("no id".into()) };
    assert_eq!(cores.list(0, nobody), MemberPage::default());
    let first = cores.list(0, Page { size: None, top: Some(3), after: None });
    assert_eq!((first.members.len(), first.more), (3, true));
}

#[test]
fn permissions_reach_the_connection_s_core() {
    let mut cores = four(Limits { permission_literals_max: 1, ..Limits::default() });
    let cid: Box<str> = cores.clients["cid"].to_string().into();
    let permission = |connection: &str, name: Option<&str>| Permission {
        connection: Target::Connection(connection.into()),
        action: Action::SendToGroup,
        group: name.map(group),
    };
    for core in 0..3 {
        let mut ask = |operation: Operation| cores.call(core, &operation);
        assert_eq!(ask(Operation::Check(permission(&cid, Some("g")))), Answer::NotFound);
        assert_eq!(ask(Operation::Grant(permission(&cid, Some("g")))), Answer::Done);
        assert_eq!(ask(Operation::Check(permission(&cid, Some("g")))), Answer::Done);
        assert_eq!(ask(Operation::Check(permission(&cid, None))), Answer::NotFound);
        assert_eq!(ask(Operation::Grant(permission(&cid, Some("h")))), Answer::Full);
        assert_eq!(ask(Operation::Grant(permission(&cid, None))), Answer::Done);
        assert_eq!(ask(Operation::Check(permission(&cid, None))), Answer::Done);
        assert_eq!(ask(Operation::Revoke(permission(&cid, Some("g")))), Answer::Done);
        assert_eq!(ask(Operation::Revoke(permission(&cid, Some("h")))), Answer::Full);
        assert_eq!(ask(Operation::Check(permission(&cid, Some("g")))), Answer::NotFound);
        assert_eq!(ask(Operation::Revoke(permission(&cid, None))), Answer::Done);
        for nobody in ["nobody", &ConnectionId { node: 1, core: CoreId(1), slot: 0, random: 0 }.to_string()] {
            assert_eq!(ask(Operation::Grant(permission(nobody, None))), Answer::NotFound);
            assert_eq!(ask(Operation::Check(permission(nobody, None))), Answer::NotFound);
            assert_eq!(ask(Operation::Revoke(permission(nobody, None))), Answer::Done);
        }
    }
    assert_eq!(cores.hubs[2].counters().permissions_refused, 6);
}

/// A client that may not send is allowed to, and it is heard.
#[test]
fn a_granted_permission_holds_at_once() {
    let mut cores = four(Limits::default());
    let cid = cores.clients["cid"];
    let permission = Permission {
        connection: Target::Connection(cid.to_string().into()),
        action: Action::SendToGroup,
        group: Some(group("g")),
    };
    assert_eq!(cores.call(0, &Operation::Grant(permission)), Answer::Done);
    let row = cores.hubs[2].connections(0, usize::MAX).into_iter().position(|row| row.id == cid).unwrap();
    // Generations count up with the connections of a core.
    let connection = ringhub_hub::ConnectionKey { slot: cid.slot, generation: row as u32 + 1 };
    let socket = cores.hubs[2].socket_of(connection).expect("attached");
    let message = ClientMessage::SendToGroup {
        group: group("g"),
        ack_id: None,
        no_echo: false,
        data: Data::text("hi"),
        metadata: None,
        ttl_seconds: 0,
    };
    cores.feed(2, Input::Message(ringhub_hub::Transport { connection, socket }, message));
    cores.settle();
    assert_eq!(cores.heard(), ["ann", "bob"]);
}
