//! One core, exact bytes: the rules of groups, acks and sessions, of fan-outs in slices, and every bound of
//! `limits.rs` reached.

mod arrival;
mod bench;
mod deflated;
mod events;
mod expiry;
mod fans;
mod formats;

use bench::{Bench, group, id_of, publish};
use ringhub_hub::effect::{CloseCategory, CloseHow, Effect, Input, Recover, Transport};
use ringhub_hub::{Answer, Limits, RequestId, Time};
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::{Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::CloseCode;

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
    let send =
        Operation::Send { target: Target::All, excluded: [id.into()].into(), filter: None, ttl_seconds: 0 };
    bench.handle(Input::Operation(RequestId(1), &send, Some(Data::text("3").into())));
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
    assert!(matches!(bench.effects.last(), Some(Effect::ConnectRefused(..))));
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
    bench.handle(Input::Recover(Box::new(Recover {
        socket,
        id,
        subprotocol: Subprotocol::ReliableJson,
        address: None,
        prologue: b"\x81\x03101".to_vec(),
        deflate: false,
    })));
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
    let socket = bench.recover(id, Subprotocol::ReliableJson);
    assert!(matches!(bench.effects.last(), Some(Effect::RecoverRefused(refused, _)) if *refused == socket));
    assert_eq!(bench.hub.group_counts(), (0, 0));
}

/// `reliability` check 46: as long as the window and its grace last, always; after that, never.
#[test]
fn a_session_is_recovered_until_the_last_millisecond_and_not_one_later() {
    for waited in [0, 1, 50, 99, 100, 101, 108, 109, 110, 111, 1000, 1_000_000] {
        let mut bench =
            Bench::new(Limits { recovery_window_ms: 100, recovery_grace_ms: 10, ..Limits::default() });
        let a = bench.reliable(&["g"]);
        let id = id_of(&bench, a);
        // Each time it comes back, the next wait is a new one.
        for _ in 0..3 {
            let lost = match bench.hub.socket_of(a.connection) {
                Some(socket) => Transport { socket, ..a },
                None => break,
            };
            bench.handle(Input::SocketLost(lost));
            bench.now = Time(bench.now.0 + waited);
            bench.flush();
            let socket = bench.recover(id, Subprotocol::ReliableJson);
            let came_back = bench.hub.socket_of(a.connection) == Some(socket);
            assert_eq!(came_back, waited < 110, "after {waited} ms");
        }
    }
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

/// Messages to a user or a connection, and those of filtered sends, were counted for reliable clients only.
#[test]
fn direct_messages_to_plain_clients_count_as_sent() {
    let mut bench = Bench::new(Limits::default());
    let kinds = [Subprotocol::Raw, Subprotocol::Json, Subprotocol::Protobuf, Subprotocol::ReliableJson];
    let clients = kinds.map(|kind| bench.connect(kind, &[]).unwrap());
    bench.say(clients[1], r#"{"type":"ping"}"#);
    let user = Target::User(UserId::parse("u").unwrap());
    bench.send(user, "to the user");
    bench.flush();
    assert_eq!(bench.hub.counters().messages_out, 4, "and not the pong");
    let filter = ringhub_protocol::rest::Filter::parse("userId ne 'x'").unwrap();
    let send = Operation::Send { target: Target::All, excluded: Box::default(), filter, ttl_seconds: 0 };
    bench.handle(Input::Operation(RequestId(1), &send, Some(Data::text("to all").into())));
    bench.send(Target::Connection(id_of(&bench, clients[0]).to_string().into()), "to one");
    bench.flush();
    assert_eq!(bench.hub.counters().messages_out, 9);
}
