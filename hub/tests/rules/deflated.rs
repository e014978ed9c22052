//! Clients with permessage-deflate: deflated once for all who speak the same, and to each the same message as to
//! those without.

use crate::bench::{ALL, Bench, group, id_of, publish};
use ringhub_hub::effect::{Input, Transport};
use ringhub_hub::{Limits, RequestId, Time};
use ringhub_protocol::pubsub::{Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};

/// A text of about so many bytes that becomes shorter.
fn text(bytes: usize, mark: &str) -> String {
    format!("{mark} {}", "all work and no play ".repeat(bytes / 21))
}

/// Bytes that nothing can make shorter.
fn noise(bytes: usize) -> Vec<u8> {
    let mut seed = 1u32;
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// Members of every kind, once without and once with permessage-deflate.
fn members(bench: &mut Bench) -> [[Transport; 5]; 2] {
    [false, true].map(|deflate| {
        bench.deflate = deflate;
        ALL.map(|kind| bench.connect(kind, &["g"]).unwrap())
    })
}

/// That those with it got the same as those without, and how many frames of theirs were deflated.
fn compare(bench: &mut Bench, members: &[[Transport; 5]; 2]) -> usize {
    bench.flush();
    for (plain, deflated) in members[0].into_iter().zip(members[1]) {
        let before = bench.deflated;
        let expected = bench.frames(plain);
        assert_eq!(bench.deflated, before, "not for those who cannot inflate");
        assert!(!expected.is_empty());
        assert_eq!(bench.frames(deflated), expected);
    }
    std::mem::take(&mut bench.deflated)
}

#[test]
fn a_message_is_deflated_once_for_all_who_speak_the_same() {
    let mut bench = Bench::new(Limits::default());
    let (some, others) = (members(&mut bench), members(&mut bench));
    bench.send(Target::Group(group("g")), &text(2_000, "a"));
    assert_eq!(compare(&mut bench, &some), 5);
    assert_eq!(compare(&mut bench, &others), 5);
    let counters = *bench.hub.counters();
    assert_eq!(counters.messages_deflated, 5, "once a format");
    assert!(counters.deflate_bytes_in > 10_000 && counters.deflate_bytes_out < 1_500, "{counters:?}");
    // A message to each of them by itself is deflated once a format, too.
    bench.send(Target::All, &text(2_000, "b"));
    assert_eq!(compare(&mut bench, &some), 5);
    let user = ringhub_protocol::name::UserId::parse("u").unwrap();
    bench.send(Target::User(user), &text(2_000, "c"));
    assert_eq!(compare(&mut bench, &others), 10);
    assert_eq!(bench.hub.counters().messages_deflated, 15);
}

#[test]
fn what_is_not_worth_it_stays_as_it_is() {
    let mut bench = Bench::new(Limits::default());
    let members = members(&mut bench);
    bench.send(Target::Group(group("g")), "short");
    assert_eq!(compare(&mut bench, &members), 0);
    // Long, and no shorter deflated: bytes of which each is as good as any other. In JSON they stand as base64, and
    // six of eight bits are left of that.
    let noise = noise(600);
    let send = Operation::send(Target::Group(group("g")));
    bench.handle(Input::Operation(RequestId(1), &send, Some(Data::binary(&noise).into())));
    assert_eq!(compare(&mut bench, &members), 2, "in JSON, reliable or not");
    assert_eq!(bench.hub.counters().messages_deflated, 2);
    // Of several in one turn each goes its own way.
    for bytes in [100, 3_000, 0, 700] {
        bench.send(Target::Group(group("g")), &text(bytes, "m"));
    }
    assert_eq!(compare(&mut bench, &members), 10);
}

#[test]
fn numbered_messages_share_what_was_deflated() {
    let mut bench = Bench::new(Limits::default());
    let mut all = Vec::new();
    // Ids of one and of two digits, one of them changing its width within a burst.
    for before in [0, 3, 7, 99] {
        let members = members(&mut bench);
        for n in 0..before {
            bench.send(Target::Group(group("g")), &format!("{n}"));
        }
        bench.flush();
        bench.wires.clear();
        all.push(members);
    }
    let deflated = bench.hub.counters().messages_deflated;
    for n in 0..4 {
        bench.send(Target::Group(group("g")), &text(600, &n.to_string()));
    }
    for members in &all {
        assert_eq!(compare(&mut bench, members), 20);
    }
    assert_eq!(bench.hub.counters().messages_deflated - deflated, 20);
}

#[test]
fn large_messages_are_deflated_and_those_that_stay_large_are_not_copied() {
    let mut bench = Bench::new(Limits::default());
    let members = members(&mut bench);
    bench.send(Target::Group(group("g")), &text(200_000, "zip"));
    assert_eq!(compare(&mut bench, &members), 5);
    let noise: String = noise(90_000).into_iter().map(|byte| char::from(b'#' + byte % 64)).collect();
    // 64 letters need six bits each: a quarter less, and still over what is copied for each receiver.
    bench.send(Target::Group(group("g")), &noise);
    assert_eq!(compare(&mut bench, &members), 5);
    bench.send(Target::User(ringhub_protocol::name::UserId::parse("u").unwrap()), &noise);
    assert_eq!(compare(&mut bench, &members), 5);
}

#[test]
fn gathered_sends_and_what_expires_are_deflated_too() {
    let mut bench = Bench::new(Limits::default());
    let members = members(&mut bench);
    let [json, deflated_json] = members.map(|[_, json, ..]| json);
    // noEcho: the publishers get their ack, and each the other's message.
    let no_echo = r#","noEcho":true,"ackId":1"#;
    bench.say(json, &publish("g", &text(900, "one"), no_echo));
    bench.say(deflated_json, &publish("g", &text(900, "two"), no_echo));
    bench.flush();
    for (of, other) in [(json, "two"), (deflated_json, "one")] {
        let got = bench.short(of);
        assert_eq!(got.len(), 2);
        assert!(got.iter().any(|got| got == "ack 1") && got.iter().any(|got| got.starts_with(other)));
    }
    bench.wires.clear();
    // Excluded, and with a time to live: which frames may be dropped is known in the deflated form, too.
    bench.deflated = 0;
    bench.perishable.clear();
    let send = Operation::Send {
        target: Target::Group(group("g")),
        excluded: [id_of(&bench, json).text().as_str().into()].into(),
        filter: None,
        ttl_seconds: 5,
    };
    let text = text(900, "ttl");
    let content = Data::text(&text).into();
    bench.handle(Input::Operation(RequestId(1), &send, Some(content)));
    bench.flush();
    assert_eq!(bench.texts(json), [""; 0]);
    for (plain, deflated) in members[0].into_iter().zip(members[1]) {
        let (plain, deflated) = (plain.socket.slot, deflated.socket.slot);
        let whole = bench.perishable.remove(&deflated).unwrap_or_default();
        assert!(whole.iter().all(|(_, until)| *until == Time(5_000)) && whole.len() == 1);
        if plain != json.socket.slot {
            assert_eq!(Some(whole), bench.perishable.remove(&plain));
        }
    }
    assert!(bench.frames(deflated_json).len() == 1 && bench.deflated == 1);
}

#[test]
fn a_session_may_come_back_with_permessage_deflate_or_without() {
    for (first, then) in [(true, false), (false, true), (true, true)] {
        let mut bench = Bench::new(Limits::default());
        let members = members(&mut bench);
        for kind in [Subprotocol::ReliableJson, Subprotocol::ReliableProtobuf] {
            bench.deflate = first;
            let client = bench.connect(kind, &["g", "h"]).unwrap();
            let id = id_of(&bench, client);
            let never_lost = bench.connect(kind, &["g", "h"]).unwrap();
            bench.send(Target::Group(group("g")), &text(700, "1"));
            let got = bench.frames(client);
            assert_eq!(got.len(), 1);
            bench.send(Target::Group(group("h")), &text(700, "2"));
            bench.flush();
            bench.handle(Input::SocketLost(client));
            bench.send(Target::Group(group("g")), &text(700, "3"));
            bench.flush();
            // In one turn with publications before and after.
            bench.send(Target::Group(group("g")), &text(700, "4"));
            bench.deflate = then;
            let socket = bench.recover(id, kind);
            bench.send(Target::Group(group("g")), &text(700, "5"));
            bench.send(Target::Group(group("h")), &text(700, "6"));
            let expected = [got, bench.frames(never_lost)].concat();
            bench.deflated = 0;
            let back = Transport { socket, ..client };
            let mut got = bench.frames(back);
            got.remove(0); // `connected`
            assert_eq!(got, expected[expected.len() - 6..]);
            let expected = match (first, then) {
                (_, false) => 0,
                (true, true) => 6,
                // One went to a group in which nobody could inflate then.
                (false, true) => 5,
            };
            assert_eq!(bench.deflated, expected, "{first} {then}");
            bench.send(Target::Group(group("g")), &text(700, "7"));
            assert_eq!(bench.frames(back), bench.frames(never_lost));
            bench.handle(Input::ClientClose(back, Some(ringhub_protocol::ws::CloseCode::NORMAL)));
            bench.flush();
        }
        bench.wires.clear();
        bench.send(Target::Group(group("g")), "and the others are where they were");
        compare(&mut bench, &members);
    }
}
