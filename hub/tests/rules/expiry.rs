//! Messages whose time is over: told to the sink, dropped from replay logs.

use crate::bench::{ALL, Bench, group, id_of, publish};
use ringhub_hub::effect::{Input, Transport};
use ringhub_hub::{Limits, RequestId, Time};
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::{Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};

impl Bench {
    fn send_for(&mut self, target: Target, ttl_seconds: u32, text: &str) {
        let send = Operation::Send { target, excluded: Box::default(), filter: None, ttl_seconds };
        self.handle(Input::Operation(RequestId(1), &send, Some(Data::text(text).into())));
    }

    /// What the sink was told about frames to a socket: a piece of their payload and the deadline.
    fn told(&mut self, of: Transport) -> Vec<(String, u64)> {
        self.flush();
        let frames = self.perishable.remove(&of.socket.slot).unwrap_or_default();
        let text = |payload: Vec<u8>| {
            let text = String::from_utf8_lossy(&payload).into_owned();
            let at = text.find("for ").expect("every perishable message of these tests says so");
            text[at..].chars().take(5).collect()
        };
        frames.into_iter().map(|(payload, until)| (text(payload), until.0)).collect()
    }
}

/// However a message gets to a receiver, the sink knows where its frame is and until when it is worth sending.
#[test]
fn the_sink_is_told_which_frames_expire() {
    let mut bench = Bench::new(Limits::default());
    bench.now = Time(100);
    let alone = ALL.map(|kind| bench.connect(kind, &["g"]).unwrap());
    // Reached by two groups, so that their frames are copied together.
    let mixed = ALL.map(|kind| bench.connect(kind, &["g", "h"]).unwrap());
    bench.say(alone[1], &publish("g", "kept", r#","ackId":1"#));
    bench.send_for(Target::Group(group("g")), 1, "for 1");
    bench.send(Target::Group(group("g")), "kept");
    bench.send_for(Target::Group(group("h")), 2, "for 2");
    bench.say(alone[1], &publish("g", "for 3", r#","ttlSeconds":3"#));
    bench.send_for(Target::User(UserId::parse("u").unwrap()), 4, "for 4");
    let row = |text: &str, until| (text.to_owned(), until);
    for member in alone {
        assert_eq!(bench.told(member), [row("for 1", 1_100), row("for 3", 3_100), row("for 4", 4_100)]);
    }
    for member in mixed {
        assert_eq!(
            bench.told(member),
            [row("for 1", 1_100), row("for 2", 2_100), row("for 3", 3_100), row("for 4", 4_100)]
        );
    }
    // One list alone, and a joiner that gets the rest of it.
    let joiner = bench.json(&[]);
    bench.send_for(Target::Group(group("g")), 1, "for 1");
    bench.say(joiner, r#"{"type":"joinGroup","group":"g"}"#);
    bench.send_for(Target::Group(group("g")), 2, "for 2");
    assert_eq!(bench.told(joiner), [row("for 2", 2_100)]);
    for member in alone {
        assert_eq!(bench.told(member), [row("for 1", 1_100), row("for 2", 2_100)]);
    }
}

#[test]
fn a_session_that_comes_back_too_late_finds_a_gap() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.reliable(&["g"]);
    let id = id_of(&bench, a);
    bench.handle(Input::SocketLost(a));
    for (ttl, text) in [(0, "1"), (2, "2"), (5, "3"), (2, "4"), (0, "5"), (2, "6")] {
        bench.send_for(Target::Group(group("g")), ttl, text);
        bench.flush();
    }
    bench.now = Time(2_000);
    let socket = bench.recover(id, Subprotocol::ReliableJson);
    let back = Transport { socket, ..a };
    let texts = bench.texts(back);
    assert_eq!(texts.len(), 4, "{texts:?}");
    for (text, id) in texts[1..].iter().zip([1, 3, 5]) {
        assert!(text.contains(&format!(r#""data":"{id}","sequenceId":{id}"#)), "{text}");
    }
    bench.send(Target::Group(group("g")), "7");
    assert!(bench.texts(back)[0].contains(r#""data":"7","sequenceId":7"#), "no id is given twice");
    assert_eq!(bench.hub.counters().messages_expired, 3);
}

#[test]
fn a_stuck_reliable_socket_is_not_sent_what_has_expired() {
    let mut bench = Bench::new(Limits::default());
    let a = bench.connect(Subprotocol::ReliableProtobuf, &["g"]).unwrap();
    bench.handle(Input::Congested(a));
    bench.send_for(Target::Group(group("g")), 1, "for 1");
    bench.handle(Input::Control(a, b"\x89\x00"));
    bench.flush();
    bench.now = Time(1_000);
    bench.handle(Input::Writable(a));
    assert_eq!(bench.frames(a), [(9, Vec::new())], "the ping waited for the message");
    assert_eq!(bench.hub.counters().messages_expired, 1);
    assert!(!bench.hub.is_dirty());
}

/// What has expired does not count against a session's bounds.
#[test]
fn a_session_over_its_bounds_drops_what_has_expired_first() {
    let mut bench = Bench::new(Limits { replay_messages_max: 3, ..Limits::default() });
    let a = bench.reliable(&["g"]);
    bench.handle(Input::SocketLost(a));
    for n in 0..20 {
        bench.now = Time(n * 500);
        bench.send_for(Target::Group(group("g")), 1, "x");
        bench.flush();
    }
    assert!(bench.closed().is_empty());
    assert_eq!(bench.hub.counters().replay_overflow, 0);
    assert!(bench.hub.connections(0, 1)[0].unacknowledged <= 3);
    for _ in 0..4 {
        bench.send(Target::Group(group("g")), "stays");
        bench.flush();
    }
    assert_eq!(bench.hub.counters().replay_overflow, 1);
}

/// Bytes that were none were told to expire, as a frame of no length.
#[test]
fn nothing_logged_before_a_message_does_not_expire_with_it() {
    let mut bench = Bench::new(Limits::default());
    let client = bench.json(&[]);
    bench.handle(Input::Control(client, b""));
    bench.send_for(Target::User(UserId::parse("u").unwrap()), 4, "for 4");
    assert_eq!(bench.told(client), [("for 4".to_owned(), 4_000)]);
}

/// A drain waited its whole window for a client that would have come back to nothing but a gap.
#[test]
fn nobody_is_awaited_for_messages_whose_time_is_over() {
    let mut bench = Bench::new(Limits::default());
    let away = bench.reliable(&["g"]);
    bench.handle(Input::SocketLost(away));
    for ttl_seconds in [5, 3, 9] {
        bench.send_for(Target::Group(group("g")), ttl_seconds, "x");
    }
    bench.flush();
    let is_awaited_at = |bench: &Bench, ms| bench.hub.is_awaited(bench.now.after_ms(ms));
    for (ms, expected) in [(0, true), (4_999, true), (8_999, true), (9_000, false)] {
        assert_eq!(is_awaited_at(&bench, ms), expected, "after {ms} ms");
    }
    // One that stays, among those that do not.
    bench.send(Target::Group(group("g")), "x");
    bench.flush();
    assert!(is_awaited_at(&bench, 9_000));
}
