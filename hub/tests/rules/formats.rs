//! What each kind of client gets, byte for byte.

use crate::bench::{ALL, Bench, group, id_of, publish};
use ringhub_hub::effect::{Effect, Input, Transport};
use ringhub_hub::{Content, Limits, RequestId};
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::{Data, Message, Metadata, Sender, Subprotocol, protobuf};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::CloseCode;

/// A binary frame with a data message.
fn data(message: Message<'_>, id: Option<u64>) -> (u8, Vec<u8>) {
    let (mut body, mut payload) = (Vec::new(), Vec::new());
    protobuf::data_body(&mut body, message);
    protobuf::data_message(&mut payload, &body, id);
    (2, payload)
}

/// A binary frame.
fn told(write: impl FnOnce(&mut Vec<u8>)) -> (u8, Vec<u8>) {
    let mut payload = Vec::new();
    write(&mut payload);
    (2, payload)
}

fn from_group<'a>(text: &'a str) -> Message<'a> {
    Message::new(Sender::Group { group: "g", user: None }, Data::text(text))
}

#[test]
fn every_kind_of_client_gets_a_group_s_message_in_its_own_format() {
    let mut bench = Bench::new(Limits::default());
    let members = ALL.map(|kind| bench.connect(kind, &["g"]).unwrap());
    bench.send(Target::Group(group("g")), "hi");
    let json =
        r#"{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"text","data":"hi""#;
    let expected = [
        (1, b"hi".to_vec()),
        (1, format!("{json}}}").into_bytes()),
        data(from_group("hi"), None),
        (1, format!("{json},\"sequenceId\":1}}").into_bytes()),
        data(from_group("hi"), Some(1)),
    ];
    for (member, expected) in members.into_iter().zip(expected) {
        assert_eq!(bench.frames(member), [expected]);
    }
}

#[test]
fn metadata_reaches_everyone_but_raw_clients() {
    let metadata = Metadata::from_json(r#"{"a":"1","b":"2"}"#).unwrap();
    let json = |from: &str, id: u64| {
        let id = if id == 0 { String::new() } else { format!(",\"sequenceId\":{id}") };
        let rest = r#""dataType":"text","data":"hi","metadata":{"a":"1","b":"2"}"#;
        (1, format!("{{\"type\":\"message\",{from},{rest}{id}}}").into_bytes())
    };
    let group_of_u = r#""from":"group","group":"g","fromUserId":"u""#;
    let mut bench = Bench::new(Limits::default());
    let members = ALL.map(|kind| bench.connect(kind, &["g"]).unwrap());
    // Publications and direct messages are encoded apart.
    bench.say(members[1], &publish("g", "hi", r#","metadata":{"a":"1","b":"2"}"#));
    let sender = Sender::Group { group: "g", user: Some("u") };
    let message = Message { metadata: metadata.as_ref(), ..Message::new(sender, Data::text("hi")) };
    let server = Message { sender: Sender::Server, ..message };
    let expected = [
        [(1, b"hi".to_vec()), (1, b"hi".to_vec())],
        [json(group_of_u, 0), json(r#""from":"server""#, 0)],
        [data(message, None), data(server, None)],
        [json(group_of_u, 1), json(r#""from":"server""#, 2)],
        [data(message, Some(1)), data(server, Some(2))],
    ];
    let send = Operation::send(Target::User(UserId::parse("u").unwrap()));
    let mut content: Content<'_> = Data::text("hi").into();
    content.metadata = metadata.as_ref();
    bench.handle(Input::Operation(RequestId(1), &send, Some(content)));
    for (member, expected) in members.into_iter().zip(expected) {
        assert_eq!(bench.frames(member), expected);
    }
}

/// Ids grow by a byte at 128 and at 16,384, digits at other places: frames are stamped with either.
#[test]
fn ids_are_stamped_across_their_widths() {
    for kind in [Subprotocol::ReliableJson, Subprotocol::ReliableProtobuf] {
        let mut bench = Bench::new(Limits { replay_messages_max: 1_000, ..Limits::default() });
        let publisher = bench.json(&[]);
        // Members with three different next ids.
        let members: Vec<Transport> = (0..3)
            .map(|_| {
                let member = bench.connect(kind, &["g"]).unwrap();
                bench.say(publisher, &publish("g", "x", ""));
                member
            })
            .collect();
        let mut next: Vec<u64> = vec![1; 3];
        let mut check = |bench: &mut Bench, texts: &[&str]| {
            for (member, next) in members.iter().zip(&mut next) {
                for (frame, text) in bench.frames(*member).into_iter().zip(texts) {
                    let expected = match kind {
                        Subprotocol::ReliableProtobuf => {
                            let sender = Sender::Group { group: "g", user: Some("u") };
                            data(Message::new(sender, Data::text(text)), Some(*next))
                        }
                        _ => {
                            let json = r#"{"type":"message","from":"group","group":"g","fromUserId":"u","dataType":"text","data":"#;
                            (1, format!("{json}\"{text}\",\"sequenceId\":{next}}}").into_bytes())
                        }
                    };
                    assert_eq!(frame, expected);
                    *next += 1;
                }
                bench.say(*member, &format!(r#"{{"type":"sequenceAck","sequenceId":{}}}"#, *next - 1));
            }
        };
        check(&mut bench, &["x", "x", "x"]);
        for _ in 0..16_420 / 3 {
            for text in ["a", "b", "c"] {
                bench.say(publisher, &publish("g", text, ""));
            }
            check(&mut bench, &["a", "b", "c"]);
        }
        assert!(next.iter().all(|next| *next > 16_400), "{next:?}");
    }
}

#[test]
fn the_server_s_own_words_are_protobuf_for_protobuf_clients() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.connect(Subprotocol::ReliableProtobuf, &[]).unwrap();
    let id = id_of(&bench, a);
    for request in [
        r#"{"type":"joinGroup","group":"g","ackId":300}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"event","event":"e","ackId":2,"data":1}"#,
        r#"{"type":"invoke","event":"e","invocationId":"i","data":1}"#,
        r#"{"type":"streamEnd","streamId":"s"}"#,
    ] {
        bench.say(a, request);
    }
    let frames = bench.frames(a);
    assert_eq!(frames[..2], [told(|out| protobuf::ack(out, 300, Ok(()))), told(protobuf::pong)]);
    // Which of the downstream messages each of the others is (`client-protocols` §3.9).
    let kinds: Vec<_> = frames.iter().map(|(opcode, payload)| (*opcode, payload[0] >> 3)).collect();
    assert_eq!(kinds, [(2, 1), (2, 4), (2, 1), (2, 5), (2, 8)]);

    bench.handle(Input::SocketLost(a));
    let socket = bench.recover(id, Subprotocol::ReliableProtobuf);
    let back = Transport { socket, ..a };
    let connected = |out: &mut Vec<u8>| protobuf::connected(out, Some("u"), &id.to_string(), Some("token"));
    assert_eq!(bench.frames(back), [told(connected)]);
    bench.handle(Input::Fault(back, CloseCode::UNSUPPORTED_DATA, "why"));
    let frames = bench.frames(back);
    assert_eq!(frames[0], told(|out| protobuf::disconnected(out, "why")));
    assert_eq!(frames[1], (8, [&1003u16.to_be_bytes()[..], b"why"].concat()));
}

#[test]
fn a_session_is_recovered_in_the_subprotocol_it_speaks() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.connect(Subprotocol::ReliableProtobuf, &["g"]).unwrap();
    let id = id_of(&bench, a);
    bench.send(Target::Group(group("g")), "1");
    assert_eq!(bench.frames(a), [data(from_group("1"), Some(1))]);
    bench.handle(Input::SocketLost(a));
    bench.send(Target::Group(group("g")), "2");
    for subprotocol in ALL {
        let socket = bench.recover(id, subprotocol);
        match bench.effects.last() {
            Some(Effect::Opened(_)) => {
                assert_eq!(subprotocol, Subprotocol::ReliableProtobuf);
                let frames = bench.frames(Transport { socket, ..a });
                assert_eq!(frames[1..], [data(from_group("1"), Some(1)), data(from_group("2"), Some(2))]);
            }
            Some(Effect::RecoverRefused(refused, _)) => {
                assert_ne!(subprotocol, Subprotocol::ReliableProtobuf);
                assert_eq!(*refused, socket);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.hub.counters().recover_refused, 4);
}

#[test]
fn large_messages_are_whole_for_protobuf_clients_too() {
    let mut bench = Bench::new(Limits::default());
    let plain = bench.connect(Subprotocol::Protobuf, &["g", "h"]).unwrap();
    let reliable = bench.connect(Subprotocol::ReliableProtobuf, &["g"]).unwrap();
    let large = "x".repeat(70_000);
    bench.send(Target::Group(group("g")), &large);
    bench.send(Target::Group(group("g")), "small");
    assert_eq!(bench.frames(plain), [data(from_group(&large), None), data(from_group("small"), None)]);
    assert_eq!(
        bench.frames(reliable),
        [data(from_group(&large), Some(1)), data(from_group("small"), Some(2))]
    );
}

/// A format that has members for a while only, while the stream goes on.
#[test]
fn formats_come_and_go_within_a_turn() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.json(&["g"]);
    let brief = [Subprotocol::Protobuf, Subprotocol::ReliableProtobuf, Subprotocol::ReliableJson]
        .map(|kind| bench.connect(kind, &[]).unwrap());
    bench.say(a, &publish("g", "1", ""));
    for member in brief {
        bench.say(member, r#"{"type":"joinGroup","group":"g"}"#);
    }
    bench.say(a, &publish("g", "2", ""));
    for member in brief {
        bench.say(member, r#"{"type":"leaveGroup","group":"g"}"#);
    }
    bench.say(a, &publish("g", "3", ""));
    let late = bench.connect(Subprotocol::ReliableProtobuf, &[]).unwrap();
    bench.say(a, &publish("g", "4", ""));
    bench.say(late, r#"{"type":"joinGroup","group":"g"}"#);
    bench.say(a, &publish("g", "5", ""));
    let sender = Sender::Group { group: "g", user: Some("u") };
    let message = |text| Message::new(sender, Data::text(text));
    assert_eq!(bench.frames(brief[0]), [data(message("2"), None)]);
    assert_eq!(bench.frames(brief[1]), [data(message("2"), Some(1))]);
    assert!(bench.texts(brief[2])[0].contains(r#""data":"2","sequenceId":1"#));
    assert_eq!(bench.frames(late), [data(message("5"), Some(1))]);
    assert_eq!(bench.short(a), ["1", "2", "3", "4", "5"]);
}
