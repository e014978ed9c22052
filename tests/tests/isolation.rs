//! Hubs and names are kept apart (`reliability` check 67): the same names in several hubs, names that look alike to
//! people, to paths or to careless comparisons, and random operations against a model.
//!
//! The simulation of `hub` checks the same of the state machine, on more steps; here routes, escapes, the mesh and the
//! numbers of hubs, calls and sockets are in it as well. `RINGHUB_ISOLATION_OPERATIONS=10000000` makes it long,
//! `RINGHUB_ISOLATION_SEED=n` repeats a run.

use std::collections::{BTreeMap, BTreeSet};

use ringhub_tests::{Client, Connection, RawSocket, Request, Server, json_object};
use serde_json::{Value, json};

/// Groups and users: each differs from all others in a way that somebody could miss.
fn names() -> Vec<String> {
    let long = "n".repeat(1023);
    let alike = [
        "g",
        "G",
        "g ",
        " g",
        "g\0",
        "g\0x",
        "g/",
        "/g",
        "g//",
        "g/h",
        "..",
        ".",
        "g%2F",
        "g%2f",
        "%67",
        "g?",
        "g#",
        "g&h=1",
        "g+",
        "g;",
        "g:send",
        ":send",
        "g\n",
        "g\r\n",
        "g\t",
        "'g'",
        "\"g\"",
        "g\\",
        "\\u0067",
        "*",
        "g*",
        "connections",
        "groups",
        // Latin, Cyrillic, fullwidth, a ligature's parts; a letter with its accent in one and in two; marks that take
        // no room; a direction turned; beyond the basic plane.
        "a",
        "а",
        "ａ",
        "fi",
        "ﬁ",
        "é",
        "e\u{301}",
        "g\u{200b}",
        "g\u{200d}",
        "\u{feff}g",
        "g\u{202e}",
        "𝐠",
        "ß",
        "ss",
        "ı",
        "i",
        "İ",
        "😀",
        "\u{10ffff}",
        "\u{fffd}",
    ];
    let ends = [format!("{long}a"), format!("{long}b"), long];
    alike.iter().map(|name| (*name).to_owned()).chain(ends).collect()
}

/// Everything a path segment can hold, escaped.
fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The texts a connection gets before `end`.
#[track_caller]
fn texts_before(connection: &mut Connection, end: &str) -> Vec<String> {
    let next = |connection: &mut Connection| match json_object(&connection.next_text()).remove("data") {
        Some(Value::String(text)) => text,
        other => panic!("no text: {other:?}"),
    };
    std::iter::repeat_with(|| next(connection)).take_while(|text| text != end).collect()
}

/// What every route says of a name is about that name, and about that hub.
#[test]
fn names_that_look_alike_are_different_names() {
    const HUBS: [&str; 3] = ["chat", "chat_", "chat.chat"];
    let names = names();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "all are different");
    let server = Server::on_cores(2);
    let mut members: BTreeMap<(usize, usize), Connection> = BTreeMap::new();
    for (hub, hub_name) in HUBS.iter().enumerate().take(2) {
        for (at, name) in names.iter().enumerate() {
            let client = Client::json().hub(hub_name).user(name).group(name);
            members.insert((hub, at), server.connect(client));
        }
    }
    let mut socket = server.raw();
    let mut call = |method: &str, hub: &str, path: &str, text: Option<&str>| {
        let call = server.rest(method, &format!("/api/hubs/{hub}/{path}"));
        text.into_iter().fold(call, Request::text).send_on(&mut socket).status
    };
    for (at, name) in names.iter().enumerate() {
        let path = escaped(name);
        for kind in ["groups", "users"] {
            // To people of the first hub only; who looks like another must not hear it.
            assert_eq!(
                call("POST", HUBS[0], &format!("{kind}/{path}/:send"), Some(&format!("{kind} {at}"))),
                202
            );
            assert_eq!(call("HEAD", HUBS[0], &format!("{kind}/{path}"), None), 200, "{name:?}");
            assert_eq!(call("HEAD", HUBS[2], &format!("{kind}/{path}"), None), 404, "{name:?}");
        }
        // A user into a group of the same name with something behind it, and out of it.
        let beside = format!("{path}%20x");
        let id = members[&(0, at)].id().to_owned();
        if name.chars().count() < 1023 {
            assert_eq!(call("PUT", HUBS[0], &format!("users/{path}/groups/{beside}"), None), 200, "{name:?}");
            assert_eq!(
                call("POST", HUBS[0], &format!("groups/{beside}/:send"), Some(&format!("beside {at}"))),
                202
            );
            assert_eq!(call("HEAD", HUBS[1], &format!("groups/{beside}"), None), 404);
            assert_eq!(call("DELETE", HUBS[0], &format!("users/{path}/groups/{beside}"), None), 204);
            assert_eq!(call("HEAD", HUBS[0], &format!("groups/{beside}"), None), 404);
        }
        // By the other hub's name for the same connection: there is none.
        assert_eq!(call("HEAD", HUBS[1], &format!("connections/{id}"), None), 404);
        assert_eq!(call("PUT", HUBS[1], &format!("groups/{path}/connections/{id}"), None), 404);
        call("POST", HUBS[1], &format!("connections/{id}/:send"), Some("from the other hub"));
        call("DELETE", HUBS[1], &format!("connections/{id}"), None);
        call("DELETE", HUBS[1], &format!("connections/{id}/groups"), None);
        call("DELETE", HUBS[1], &format!("groups/{path}/connections/{id}"), None);
        // A permission for this group is none for those that look like it.
        let of = |hub: &str| {
            server.rest("PUT", &format!("/api/hubs/{hub}/permissions/sendToGroup/connections/{id}"))
        };
        of(HUBS[1]).query("targetName", name).expect(404);
        of(HUBS[0]).query("targetName", name).expect(200);
        // By filter, where quotes are doubled.
        let filter = format!("userId eq '{}'", name.replace('\'', "''"));
        server
            .rest("POST", &format!("/api/hubs/{}/:send", HUBS[0]))
            .query("filter", &filter)
            .text(&format!("filter {at}"))
            .expect(202);
    }
    for hub in HUBS {
        assert_eq!(call("POST", hub, ":send", Some("the end")), 202);
    }
    for ((hub, at), connection) in &mut members {
        let heard = texts_before(connection, "the end");
        let mut expected = Vec::new();
        if *hub == 0 {
            expected.extend([format!("groups {at}"), format!("users {at}")]);
            if names[*at].chars().count() < 1023 {
                expected.push(format!("beside {at}"));
            }
            expected.push(format!("filter {at}"));
        }
        assert_eq!(heard, expected, "hub {hub}, {:?}", names[*at]);
    }
    // What a grant was for.
    for at in [0, 1, 4, 7, 33, 34] {
        let connection = members.get_mut(&(0, at)).expect("it is there");
        for (other, name) in names.iter().enumerate() {
            let send = json!({ "type": "sendToGroup", "group": name, "ackId": other + 1, "noEcho": true, "data": 1 });
            connection.send(&send.to_string());
            match other == at {
                true => connection.expect_ack(other as u64 + 1),
                false => drop(connection.expect_failed_ack(other as u64 + 1, "Forbidden")),
            }
        }
    }
}

/// Names of hubs are of few letters; what else is in that place of a path is no other hub's, and no path of its own.
#[test]
fn what_is_no_hub_is_nobodys() {
    let server = Server::start();
    let mut here = server.connect(Client::json().hub("chat").group("g"));
    for hub in [
        "chat%00",
        "chat%2F",
        "chat/",
        "%2Fchat",
        "chat%20",
        "%20chat",
        "chat%0a",
        "..%2Fchat",
        "chat%2F..%2Fchat",
        "chаt",
        "ｃhat",
        "chat%ef%bb%bf",
        "chat%e2%80%8b",
        "ch%C3%A4t",
        "chat%25",
        "%63%68%61%74%00",
        "chat?",
        "chat%3F",
        "chat;x",
    ] {
        let path = format!("/api/hubs/{hub}/groups/g/:send");
        let status = server.rest("POST", &path).text("x").send().status;
        assert!([400, 404, 405].contains(&status), "{hub}: {status}");
        // For clients a slash at the end is none, and the query is the query.
        if !["chat/", "chat?"].contains(&hub) {
            let mut socket = server.raw();
            socket.write(Client::json().path(&format!("/client/hubs/{hub}")).request(&server));
            assert_ne!(socket.read_response().status, 101, "{hub}");
        }
    }
    // These are its name, however written.
    for hub in ["CHAT", "%63hat", "%43%48%41%54"] {
        server.rest("POST", &format!("/api/hubs/{hub}/groups/g/:send")).text(hub).expect(202);
        here.expect_group_text("g", None, hub);
    }
    here.expect_silence();
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

const HUBS: [&str; 3] = ["one", "one_", "two"];
const GROUPS: [&str; 6] = ["g", "G", "g\0", "g/", "а", "a"];
const USERS: [&str; 3] = ["u", "U", "u/"];
const CLIENTS_A_HUB: usize = 6;

/// One client, and what the model knows of it.
struct One {
    hub: usize,
    user: usize,
    groups: BTreeSet<usize>,
    connection: Connection,
    id: String,
    next_ack_id: u64,
    /// What it must hear in this round.
    owed: BTreeSet<String>,
}

struct World<'a> {
    server: &'a Server,
    random: Random,
    clients: Vec<One>,
    socket: RawSocket,
    sent: u64,
}

impl<'a> World<'a> {
    fn new(server: &'a Server, seed: u64) -> Self {
        let clients = (0..HUBS.len() * CLIENTS_A_HUB).map(|n| {
            let (hub, user) = (n % HUBS.len(), n / HUBS.len() % USERS.len());
            let connection = server.connect(Client::json().hub(HUBS[hub]).user(USERS[user]).may_all());
            let id = connection.id().to_owned();
            One { hub, user, groups: BTreeSet::new(), connection, id, next_ack_id: 1, owed: BTreeSet::new() }
        });
        Self { server, random: Random(seed), clients: clients.collect(), socket: server.raw(), sent: 0 }
    }

    fn rest(&self, method: &str, hub: usize, path: &str) -> Request {
        self.server.rest(method, &format!("/api/hubs/{}/{path}", HUBS[hub]))
    }

    /// Calls, one behind the other without waiting; their statuses.
    fn pipelined(&mut self, calls: &[(Request, &str)]) -> Vec<u16> {
        let bytes: Vec<u8> = calls.iter().flat_map(|(call, _)| call.bytes()).collect();
        self.socket.write(bytes);
        calls.iter().map(|(_, method)| self.socket.read_response_to(method).status).collect()
    }

    /// Who is in which group changes; everything is answered before the round goes on.
    fn change(&mut self, count: usize) {
        let mut acks: Vec<(usize, u64)> = Vec::new();
        let (mut calls, mut expected) = (Vec::new(), Vec::new());
        // What a client asks and what a call asks for it would race: in one round there is one of them.
        let (mut by_client, mut by_call) = (BTreeSet::<usize>::new(), BTreeSet::<usize>::new());
        for _ in 0..count {
            let (at, group) = (self.random.below(self.clients.len()), self.random.below(GROUPS.len()));
            let (path, joins) = (escaped(GROUPS[group]), self.random.below(2) == 0);
            let (id, hub, user) = (self.clients[at].id.clone(), self.clients[at].hub, self.clients[at].user);
            match self.random.below(8) {
                0..=5 if !by_call.contains(&at) => {
                    by_client.insert(at);
                    let client = &mut self.clients[at];
                    let kind = if joins { "joinGroup" } else { "leaveGroup" };
                    let ask = json!({ "type": kind, "group": GROUPS[group], "ackId": client.next_ack_id });
                    client.connection.send(&ask.to_string());
                    acks.push((at, client.next_ack_id));
                    client.next_ack_id += 1;
                    change(&mut client.groups, group, joins);
                }
                6 => {
                    let is_of_user =
                        |one: &usize| (self.clients[*one].hub, self.clients[*one].user) == (hub, user);
                    let of_user: Vec<usize> = (0..self.clients.len()).filter(is_of_user).collect();
                    if of_user.iter().any(|one| by_client.contains(one)) {
                        continue;
                    }
                    by_call.extend(&of_user);
                    let (method, status) = if joins { ("PUT", 200) } else { ("DELETE", 204) };
                    let path = format!("users/{}/groups/{path}", escaped(USERS[user]));
                    calls.push((self.rest(method, hub, &path), method));
                    expected.push(status);
                    of_user.iter().for_each(|&one| change(&mut self.clients[one].groups, group, joins));
                }
                // The id in another hub: nothing is there, and nothing comes of it.
                _ => {
                    let elsewhere = (hub + 1 + self.random.below(HUBS.len() - 1)) % HUBS.len();
                    let (method, path, status) = match self.random.below(5) {
                        0 => ("PUT", format!("groups/{path}/connections/{id}"), 404),
                        1 => ("DELETE", format!("groups/{path}/connections/{id}"), 204),
                        2 => ("DELETE", format!("connections/{id}/groups"), 204),
                        3 => ("DELETE", format!("connections/{id}"), 204),
                        _ => ("HEAD", format!("connections/{id}"), 404),
                    };
                    calls.push((self.rest(method, elsewhere, &path), method));
                    expected.push(status);
                }
            }
        }
        assert_eq!(self.pipelined(&calls), expected);
        // A join is acknowledged when every core knows; what was asked behind it may be sooner.
        let mut owed: BTreeSet<(usize, u64)> = acks.iter().copied().collect();
        for (at, _) in acks {
            let ack = json_object(&self.clients[at].connection.next_text());
            assert_eq!((&ack["type"], &ack["success"]), (&json!("ack"), &json!(true)), "{ack:?}");
            assert!(owed.remove(&(at, ack["ackId"].as_u64().expect("a number"))), "{ack:?}");
        }
    }

    /// Publications of clients and callers, all on their way at once.
    fn publish(&mut self, count: usize) {
        let mut calls = Vec::new();
        for _ in 0..count {
            let (at, group) = (self.random.below(self.clients.len()), self.random.below(GROUPS.len()));
            let hub = self.clients[at].hub;
            self.sent += 1;
            let text = format!("{} {}", HUBS[hub], self.sent);
            let path = escaped(GROUPS[group]);
            let post = |world: &Self, path: &str| (world.rest("POST", hub, path).text(&text), "POST");
            match self.random.below(20) {
                0 => {
                    calls.push(post(self, ":send"));
                    self.owe(hub, &text, |_| true);
                }
                1 => {
                    calls.push(post(self, &format!("groups/{path}/:send")));
                    self.owe(hub, &text, |one| one.groups.contains(&group));
                }
                2 => {
                    let user = self.clients[at].user;
                    calls.push(post(self, &format!("users/{}/:send", escaped(USERS[user]))));
                    self.owe(hub, &text, |one| one.user == user);
                }
                3 => {
                    let (id, user) = (self.clients[at].id.clone(), self.clients[at].user);
                    let filter = format!("userId eq '{}' and not(connectionId eq '{id}')", USERS[user]);
                    let call = self.rest("POST", hub, ":send").query("filter", &filter).text(&text);
                    calls.push((call, "POST"));
                    self.owe(hub, &text, |one| one.user == user && one.id != id);
                }
                4 => {
                    // To somebody of another hub: nobody.
                    let id = self.clients[at].id.clone();
                    let elsewhere = (hub + 1) % HUBS.len();
                    calls.push((
                        self.rest("POST", elsewhere, &format!("connections/{id}/:send")).text(&text),
                        "POST",
                    ));
                }
                _ => {
                    let send = json!({ "type": "sendToGroup", "group": GROUPS[group], "dataType": "text", "data": text });
                    self.clients[at].connection.send(&send.to_string());
                    self.owe(hub, &text, |one| one.groups.contains(&group));
                }
            }
        }
        let statuses = self.pipelined(&calls);
        assert!(statuses.iter().all(|status| [202, 404].contains(status)), "{statuses:?}");
    }

    fn owe(&mut self, hub: usize, text: &str, is_for: impl Fn(&One) -> bool) {
        for one in self.clients.iter_mut().filter(|one| one.hub == hub && is_for(one)) {
            one.owed.insert(text.to_owned());
        }
    }

    /// Everybody hears what is owed, once, and nothing else.
    fn listen(&mut self) -> usize {
        let mut heard = 0;
        for one in &mut self.clients {
            while !one.owed.is_empty() {
                let message = json_object(&one.connection.next_text());
                let text = message["data"].as_str().expect("a text");
                assert!(one.owed.remove(text), "{} of hub {} got {text:?}", one.id, HUBS[one.hub]);
                heard += 1;
            }
        }
        heard
    }
}

fn change(groups: &mut BTreeSet<usize>, group: usize, joins: bool) {
    if joins {
        groups.insert(group);
    } else {
        groups.remove(&group);
    }
}

#[test]
fn random_operations_in_hubs_with_the_same_names() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let operations = number("RINGHUB_ISOLATION_OPERATIONS", 10_000);
    let seed = number("RINGHUB_ISOLATION_SEED", 67);
    println!("repeat with: RINGHUB_ISOLATION_SEED={seed} RINGHUB_ISOLATION_OPERATIONS={operations}");
    let server = Server::on_cores(2);
    let mut world = World::new(&server, seed as u64);
    let mut heard = 0;
    for _ in 0..operations.div_ceil(250) {
        world.change(50);
        world.publish(200);
        heard += world.listen();
    }
    for one in &mut world.clients {
        one.connection.expect_silence();
    }
    println!("{operations} operations, {heard} deliveries");
    assert!(heard > operations, "there was something to mix up");
}
