//! One core, exact bytes: the rules of groups, acks and sessions, and every bound of `limits.rs` reached.

use bytes::Bytes;
use ringhub_hub::effect::{CloseCategory, CloseHow, Connect, Effect, Input, Recover, Transport};
use ringhub_hub::{
    Answer, Budget, ConnectionId, CoreId, Effects, Hub, Limits, Part, RequestId, Sink, SocketKey, Time,
};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{Data, Subprotocol, json};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::CloseCode;
use std::collections::HashMap;

struct Bench {
    hub: Hub,
    now: Time,
    next_socket: u32,
    effects: Effects,
    /// What each socket was sent, as payloads of its frames (close frames as `close N`).
    wires: HashMap<u32, Vec<u8>>,
}

struct Wires<'a>(&'a mut HashMap<u32, Vec<u8>>);

impl Sink for Wires<'_> {
    fn shared(&mut self, bytes: &Bytes, sockets: &[SocketKey]) {
        for socket in sockets {
            self.0.entry(socket.slot).or_default().extend_from_slice(bytes);
        }
    }
    fn each(&mut self, bytes: &Bytes, parts: &[Part]) {
        for part in parts {
            let range = part.start as usize..part.end as usize;
            self.0.entry(part.socket.slot).or_default().extend_from_slice(&bytes[range]);
        }
    }
}

fn group(name: &str) -> GroupName<'static> {
    GroupName::parse(name.to_owned()).unwrap()
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let name = HubName::parse("chat").unwrap();
        let hub = Hub::new(name, CoreId(0), 1, 7, limits, Box::new(|_| "token".into()));
        Self { hub, now: Time(0), next_socket: 0, effects: Effects::new(), wires: HashMap::new() }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.hub.handle(self.now, input, &mut self.effects);
    }

    fn flush(&mut self) {
        loop {
            self.hub.flush(&mut Wires(&mut self.wires), Budget::UNLIMITED);
            if self.hub.next_timeout().is_some_and(|due| due <= self.now) {
                self.hub.handle_timeout(self.now, &mut self.effects);
            } else if !self.hub.is_dirty() {
                return;
            }
        }
    }

    fn socket(&mut self) -> SocketKey {
        self.next_socket += 1;
        SocketKey { slot: self.next_socket, generation: 1 }
    }

    fn connect(&mut self, subprotocol: Subprotocol, groups: &[&str]) -> Option<Transport> {
        let socket = self.socket();
        let roles = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroups.?*"].map(Into::into);
        self.handle(Input::Connect(Box::new(Connect {
            socket,
            subprotocol,
            random: 1 + u128::from(socket.slot),
            prologue: Vec::new(),
            user: UserId::parse("u").ok(),
            roles: roles.into(),
            groups: groups.iter().map(|g| group(g)).collect(),
            raw_group: None,
        })));
        let opened = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Opened(transport) if transport.socket == socket => Some(*transport),
            _ => None,
        })?;
        self.flush();
        self.wires.remove(&socket.slot);
        Some(opened)
    }

    fn json(&mut self, groups: &[&str]) -> Transport {
        self.connect(Subprotocol::Json, groups).expect("opened")
    }

    fn reliable(&mut self, groups: &[&str]) -> Transport {
        self.connect(Subprotocol::ReliableJson, groups).expect("opened")
    }

    fn say(&mut self, from: Transport, request: &str) {
        self.handle(Input::Message(from, json::parse(request).unwrap()));
    }

    fn send(&mut self, target: Target, text: &str) {
        let operation = Operation::Send { target, excluded: Box::default() };
        self.handle(Input::Operation(RequestId(1), &operation, Some(Data::text(text))));
    }

    /// The texts a socket got since the last call.
    fn texts(&mut self, of: Transport) -> Vec<String> {
        self.flush();
        let wire = self.wires.remove(&of.socket.slot).unwrap_or_default();
        let (mut rest, mut texts) = (&wire[..], Vec::new());
        while let [first, len, tail @ ..] = rest {
            let (len, tail) = match len {
                126 => (usize::from(tail[0]) << 8 | usize::from(tail[1]), &tail[2..]),
                127 => (u64::from_be_bytes(tail[..8].try_into().unwrap()) as usize, &tail[8..]),
                len => (usize::from(*len), tail),
            };
            let (payload, tail) = tail.split_at(len);
            texts.push(match first & 15 {
                8 if payload.is_empty() => "close".into(),
                8 => format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
                _ => String::from_utf8(payload.to_vec()).unwrap(),
            });
            rest = tail;
        }
        texts
    }

    /// Only the payloads of data messages and the ids of acks, for tests of order.
    fn short(&mut self, of: Transport) -> Vec<String> {
        let texts = self.texts(of);
        let short = texts.iter().map(|text| {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return text.clone() };
            match value["type"].as_str() {
                Some("ack") => format!("ack {}", value["ackId"]),
                Some("message") => value["data"].as_str().unwrap().to_owned(),
                _ => value["event"].as_str().unwrap_or_default().to_owned(),
            }
        });
        short.collect()
    }

    fn closed(&self) -> Vec<(u16, CloseCategory)> {
        let closed = self.effects.iter().filter_map(|effect| match effect {
            Effect::Closed { code, category, .. } => Some((*code, *category)),
            _ => None,
        });
        closed.collect()
    }
}

fn publish(group: &str, data: &str, rest: &str) -> String {
    format!(r#"{{"type":"sendToGroup","group":"{group}","dataType":"text","data":"{data}"{rest}}}"#)
}

#[test]
fn messages_and_acks_are_byte_for_byte() {
    let mut bench = Bench::new(Limits::default());
    let (a, b) = (bench.json(&["g"]), bench.reliable(&["g"]));
    bench.say(a, &publish("g", "hi", r#","ackId":1"#));
    let message =
        r#"{"type":"message","from":"group","group":"g","fromUserId":"u","dataType":"text","data":"hi""#;
    assert_eq!(bench.texts(a), [format!("{message}}}"), r#"{"type":"ack","ackId":1,"success":true}"#.into()]);
    assert_eq!(bench.texts(b), [format!(r#"{message},"sequenceId":1}}"#)]);
}

#[test]
fn membership_is_as_of_publication_within_one_turn() {
    let mut bench = Bench::new(Limits::default());
    let (a, b, c) = (bench.json(&["g"]), bench.json(&[]), bench.reliable(&["g"]));
    bench.say(a, &publish("g", "1", ""));
    bench.say(b, r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    bench.say(a, &publish("g", "2", ""));
    bench.say(c, r#"{"type":"leaveGroup","group":"g","ackId":2}"#);
    bench.say(a, &publish("g", "3", ""));
    bench.say(c, r#"{"type":"joinGroup","group":"g"}"#);
    bench.say(b, r#"{"type":"leaveGroup","group":"g"}"#);
    bench.say(a, &publish("g", "4", ""));
    assert_eq!(bench.short(a), ["1", "2", "3", "4"]);
    assert_eq!(bench.short(b), ["ack 1", "2", "3"]);
    assert_eq!(bench.short(c), ["1", "2", "ack 2", "4"]);
}

#[test]
fn one_publishers_order_holds_across_groups() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.json(&[]);
    let (both, reliable) = (bench.json(&["g", "h"]), bench.reliable(&["g", "h"]));
    for n in 0..6 {
        bench.say(
            a,
            &publish(if n % 2 == 0 { "g" } else { "h" }, &n.to_string(), &format!(r#","ackId":{n}"#)),
        );
    }
    assert_eq!(bench.short(both), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(bench.short(reliable), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(bench.short(a), ["ack 0", "ack 1", "ack 2", "ack 3", "ack 4", "ack 5"]);
}

#[test]
fn no_echo_and_excluded_leave_out_one_connection() {
    let mut bench = Bench::new(Limits::default());
    let (a, b) = (bench.json(&["g"]), bench.json(&["g"]));
    bench.say(a, &publish("g", "1", r#","noEcho":true"#));
    bench.say(a, &publish("g", "2", ""));
    assert_eq!((bench.short(a), bench.short(b)), (vec!["2".into()], vec!["1".to_owned(), "2".into()]));
    let id = bench.hub.connections(a.connection.slot, 1)[0].id.to_string();
    let send = Operation::Send { target: Target::All, excluded: [id.into()].into() };
    bench.handle(Input::Operation(RequestId(1), &send, Some(Data::text("3"))));
    assert_eq!((bench.short(a).len(), bench.short(b)), (0, vec!["3".to_owned()]));
}

#[test]
fn large_messages_reach_everyone_in_order_too() {
    let mut bench = Bench::new(Limits::default());
    let (a, both, reliable) = (bench.json(&["g"]), bench.json(&["g", "h"]), bench.reliable(&["g"]));
    let (large, other) = ("x".repeat(70_000), bench.reliable(&["g", "h"]));
    bench.send(Target::Group(group("g")), &large);
    bench.send(Target::Group(group("h")), "h");
    bench.send(Target::Group(group("g")), "g");
    assert_eq!(bench.short(a), [&large, "g"]);
    assert_eq!(bench.short(both), [&large, "h", "g"]);
    assert_eq!(bench.short(reliable), [&large, "g"]);
    assert_eq!(bench.short(other), [&large, "h", "g"]);
}

#[test]
fn repeated_requests_are_not_carried_out_and_old_ids_are_forgotten() {
    let mut bench = Bench::new(Limits { ack_ids_max: 2, ..Limits::default() });
    let a = bench.json(&["g"]);
    for id in [1, 1, 2, 3, 1] {
        bench.say(a, &publish("g", &format!("m{id}"), &format!(r#","ackId":{id}"#)));
    }
    assert_eq!(bench.short(a), ["m1", "ack 1", "ack 1", "m2", "ack 2", "m3", "ack 3", "m1", "ack 1"]);
    assert_eq!(bench.hub.counters().duplicates, 1);
}

#[test]
fn what_is_denied_does_not_happen_and_may_succeed_later() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.json(&["a.b"]);
    bench.say(a, &publish("a.b", "no", r#","ackId":1"#));
    bench.say(a, &publish("a.b", "no", ""));
    let texts = bench.texts(a);
    assert_eq!(texts.len(), 1);
    assert!(
        texts[0].starts_with(r#"{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden""#),
        "{texts:?}"
    );
    bench.say(a, &publish("ab", "yes", r#","ackId":1"#));
    assert_eq!(bench.texts(a), [r#"{"type":"ack","ackId":1,"success":true}"#]);
    assert_eq!(bench.hub.counters().forbidden, 2);
}

#[test]
fn a_full_hub_refuses_and_a_full_connection_joins_no_more() {
    let mut bench =
        Bench::new(Limits { connections_max: 1, groups_per_connection_max: 2, ..Limits::default() });
    let a = bench.json(&["g"]);
    assert_eq!(bench.connect(Subprotocol::Json, &[]), None);
    assert!(matches!(bench.effects.last(), Some(Effect::ConnectRefused(_))));
    for (id, name) in ["h", "i", "h"].into_iter().enumerate() {
        bench.say(a, &format!(r#"{{"type":"joinGroup","group":"{name}","ackId":{id}}}"#));
    }
    assert_eq!((bench.hub.counters().connections_refused, bench.hub.counters().groups_refused), (1, 1));
    bench.flush();
    assert_eq!(bench.hub.group_counts().0, 2, "the refused group is not left behind");
}

#[test]
fn a_session_over_its_bounds_ends_with_1008() {
    for limits in [
        Limits { replay_messages_max: 3, ..Limits::default() },
        Limits { replay_bytes_max: 400, ..Limits::default() },
    ] {
        let mut bench = Bench::new(limits);
        let (publisher, reader) = (bench.json(&[]), bench.reliable(&["g"]));
        for n in 1..=3 {
            bench.say(publisher, &publish("g", &n.to_string(), ""));
        }
        bench.flush();
        bench.say(reader, r#"{"type":"sequenceAck","sequenceId":3}"#);
        for n in 4..=8 {
            bench.say(publisher, &publish("g", &n.to_string(), ""));
            bench.flush();
        }
        let got = bench.short(reader);
        assert_eq!(got[got.len() - 2..], ["disconnected", "close 1008"], "{got:?}");
        assert_eq!(bench.closed(), [(1008, CloseCategory::SlowClient)]);
        assert_eq!(bench.hub.counters().replay_overflow, 1);
    }
}

#[test]
fn control_messages_for_a_stuck_reliable_socket_are_bounded() {
    let mut bench = Bench::new(Limits { control_bytes_max: 100, ..Limits::default() });
    let a = bench.reliable(&[]);
    bench.handle(Input::Congested(a));
    for _ in 0..10 {
        bench.say(a, r#"{"type":"ping"}"#);
    }
    bench.flush();
    assert_eq!(bench.closed(), [(1008, CloseCategory::SlowClient)]);
}

#[test]
fn a_stuck_reliable_socket_is_sent_the_rest_when_it_can_take_it() {
    let mut bench = Bench::new(Limits::default());
    let (a, b) = (bench.json(&[]), bench.reliable(&["g"]));
    bench.handle(Input::Congested(b));
    bench.say(a, &publish("g", "1", ""));
    bench.say(b, r#"{"type":"ping"}"#);
    bench.say(a, &publish("g", "2", ""));
    assert_eq!(bench.texts(b).len(), 0);
    bench.handle(Input::Writable(b));
    let got = bench.texts(b);
    assert_eq!(got.len(), 3);
    assert!(
        got[0].contains(r#""data":"1","sequenceId":1"#)
            && got[1].contains("pong")
            && got[2].contains(r#""sequenceId":2"#),
        "{got:?}"
    );
}

fn id_of(bench: &Bench, of: Transport) -> ConnectionId {
    bench.hub.connections(of.connection.slot, 1)[0].id
}

#[test]
fn a_session_is_recovered_with_what_was_not_acknowledged() {
    let mut bench = Bench::new(Limits::default());
    let (a, b) = (bench.json(&[]), bench.reliable(&["g"]));
    let id = id_of(&bench, b);
    for n in 1..=3 {
        bench.say(a, &publish("g", &n.to_string(), ""));
    }
    bench.flush();
    bench.say(b, r#"{"type":"sequenceAck","sequenceId":1}"#);
    bench.handle(Input::SocketLost(b));
    bench.say(a, &publish("g", "4", ""));
    bench.flush();
    let socket = bench.socket();
    bench.say(a, &publish("g", "5", ""));
    bench.handle(Input::Recover(Box::new(Recover { socket, id, prologue: b"\x81\x03101".to_vec() })));
    let back = Transport { socket, ..b };
    bench.say(back, r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    let got = bench.texts(back);
    assert_eq!(got[0], "101");
    assert!(got[1].contains(r#""event":"connected""#) && got[1].contains(&id.to_string()), "{got:?}");
    for (text, n) in got[2..6].iter().zip(2..) {
        assert!(text.contains(&format!(r#""data":"{n}","sequenceId":{n}"#)), "{got:?}");
    }
    assert_eq!(got[6], r#"{"type":"ack","ackId":1,"success":true}"#);
    bench.say(b, r#"{"type":"ping"}"#);
    assert_eq!(bench.texts(back).len(), 0, "the old socket has no say");
    assert_eq!(bench.hub.counters().recovered, 1);
}

#[test]
fn a_session_ends_when_nobody_comes_back_in_time() {
    let mut bench =
        Bench::new(Limits { recovery_window_ms: 100, recovery_grace_ms: 10, ..Limits::default() });
    let a = bench.reliable(&["g"]);
    let id = id_of(&bench, a);
    bench.handle(Input::ClientClose(a, None));
    assert_eq!(bench.texts(a), ["close"]);
    bench.now = Time(109);
    bench.flush();
    assert!(bench.closed().is_empty() && bench.hub.counters().suspended == 1);
    bench.now = Time(110);
    bench.flush();
    assert_eq!(bench.closed(), [(1001, CloseCategory::Lost)]);
    bench.flush();
    let socket = bench.socket();
    bench.handle(Input::Recover(Box::new(Recover { socket, id, prologue: Vec::new() })));
    assert!(matches!(bench.effects.last(), Some(Effect::RecoverRefused(refused, _)) if *refused == socket));
    assert_eq!(bench.hub.group_counts(), (0, 0));
}

#[test]
fn a_client_that_says_goodbye_is_gone_for_good() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.reliable(&[]);
    bench.handle(Input::ClientClose(a, Some(CloseCode::NORMAL)));
    assert_eq!(bench.texts(a), ["close 1000"]);
    assert_eq!(bench.closed(), [(1000, CloseCategory::Normal)]);
    assert_eq!(bench.hub.counters().connections, 0);
}

#[test]
fn a_fault_is_told_and_closes() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.json(&[]);
    bench.handle(Input::Fault(a, CloseCode::INVALID_PAYLOAD, "why"));
    assert_eq!(bench.texts(a), [r#"{"type":"system","event":"disconnected","message":"why"}"#, "close 1007"]);
    assert!(
        bench.effects.iter().any(|e| matches!(e, Effect::Close(s, CloseHow::Handshake) if *s == a.socket))
    );
}

#[test]
fn rest_answers_say_whether_there_was_a_target() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.json(&[]);
    let id: Box<str> = id_of(&bench, a).to_string().into();
    let mut ask = |operation: Operation| {
        bench.handle(Input::Operation(RequestId(9), &operation, None));
        match bench.effects.pop() {
            Some(Effect::Answer(RequestId(9), answer)) => answer,
            other => panic!("{other:?}"),
        }
    };
    let member = Target::Connection(id);
    assert_eq!(ask(Operation::Exists { target: Target::Group(group("g")) }), Answer::NotFound);
    assert_eq!(ask(Operation::AddToGroup { member: member.clone(), group: group("g") }), Answer::Done);
    assert_eq!(ask(Operation::Exists { target: Target::Group(group("g")) }), Answer::Done);
    assert_eq!(ask(Operation::RemoveFromAllGroups { member: member.clone() }), Answer::Done);
    assert_eq!(ask(Operation::Exists { target: Target::Group(group("g")) }), Answer::NotFound);
    assert_eq!(ask(Operation::Exists { target: Target::User(UserId::parse("u").unwrap()) }), Answer::Done);
    assert_eq!(
        ask(Operation::AddToGroup { member: Target::Connection("nobody".into()), group: group("g") }),
        Answer::NotFound
    );
    assert_eq!(
        ask(Operation::Close {
            target: Target::Connection("nobody".into()),
            excluded: Box::default(),
            reason: None
        }),
        Answer::Done
    );
    let close =
        Operation::Close { target: Target::All, excluded: Box::default(), reason: Some("bye".into()) };
    assert_eq!(ask(close), Answer::Done);
    assert_eq!(bench.texts(a), [r#"{"type":"system","event":"disconnected","message":"bye"}"#, "close 1000"]);
}
