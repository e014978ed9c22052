//! Fan-outs in slices: who gets what, in which order, while a fan is in progress.

use crate::bench::{Bench, group, id_of, publish};
use ringhub_hub::effect::{CloseCategory, Input, Transport};
use ringhub_hub::{Limits, RequestId};
use ringhub_protocol::pubsub::{Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::CloseCode;

const PING: &str = r#"{"type":"ping"}"#;

/// A publisher that is in no group, and so many members of `g`, reached in this order.
fn crowd(members: usize) -> (Bench, Transport, Vec<Transport>) {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.json(&[]);
    let members = (0..members).map(|_| bench.json(&["g"])).collect();
    (bench, publisher, members)
}

impl Bench {
    /// What each got since the last call, without a flush.
    fn each(&mut self, of: &[Transport]) -> Vec<String> {
        of.iter().map(|&member| self.short_so_far(member).join(" ")).collect()
    }

    /// The same when everything is finished.
    fn finish(&mut self, of: &[Transport]) -> Vec<String> {
        while self.hub.is_dirty() {
            self.slice(1);
        }
        self.each(of)
    }
}

#[test]
fn a_fan_goes_on_from_flush_to_flush_in_every_format() {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.json(&[]);
    let raw = bench.connect(Subprotocol::Raw, &["g"]).unwrap();
    let members =
        [raw, bench.json(&["g"]), bench.json(&["g"]), bench.reliable(&["g"]), bench.reliable(&["g"])];
    bench.say(publisher, &publish("g", "1", ""));
    bench.say(publisher, &publish("g", "2", ""));
    bench.slice(2);
    assert!(bench.hub.is_dirty() && bench.hub.is_slicing());
    assert_eq!(bench.each(&members), ["1 2", "1 2", "", "", ""]);
    bench.slice(0);
    assert_eq!(bench.each(&members), ["", "", "", "", ""]);
    bench.slice(2);
    assert_eq!(bench.short_so_far(members[2]), ["1", "2"]);
    let message = |n: u64| {
        let message = r#"{"type":"message","from":"group","group":"g","fromUserId":"u","dataType":"text""#;
        format!(r#"{message},"data":"{n}","sequenceId":{n}}}"#)
    };
    assert_eq!(bench.texts_so_far(members[3]), [message(1), message(2)]);
    bench.slice(2);
    assert_eq!(bench.texts_so_far(members[4]), [message(1), message(2)]);
    assert!(!bench.hub.is_dirty());
    assert_eq!(bench.hub.counters().flushes_sliced, 3);
    assert_eq!(bench.hub.counters().messages_out, 10);
}

#[test]
fn small_groups_and_answers_pass_a_fan() {
    let (mut bench, publisher, members) = crowd(4);
    let (bystander, other) = (bench.json(&["small"]), bench.json(&["small"]));
    bench.say(publisher, &publish("g", "big", ""));
    bench.slice(1);
    bench.say(bystander, PING);
    bench.say(publisher, &publish("small", "s", r#","ackId":1"#));
    bench.slice(4);
    assert_eq!(bench.each(&[bystander, other, publisher]), ["pong s", "s", "ack 1"]);
    assert_eq!(bench.finish(&members), ["big"; 4]);
}

#[test]
fn who_joins_during_a_fan_gets_what_comes_after() {
    let (mut bench, publisher, members) = crowd(4);
    let late = bench.json(&[]);
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(1);
    bench.say(late, r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    bench.slice(1);
    bench.say(publisher, &publish("g", "2", ""));
    bench.slice(0);
    assert_eq!(bench.each(&[late]), ["ack 1"]);
    assert_eq!(bench.finish(&members), ["1 2"; 4]);
    assert_eq!(bench.each(&[late]), ["2"]);
}

#[test]
fn who_leaves_during_a_fan_gets_its_part_first() {
    let (mut bench, publisher, members) = crowd(4);
    let reliable = bench.reliable(&["g"]);
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(1);
    bench.say(publisher, &publish("g", "2", ""));
    let leave = r#"{"type":"leaveGroup","group":"g","ackId":1}"#;
    bench.say(members[0], leave); // served
    bench.say(members[3], leave); // not yet
    bench.say(reliable, leave);
    bench.say(publisher, &publish("g", "3", ""));
    bench.slice(0);
    assert_eq!(bench.each(&members), ["1 2 ack 1", "", "", "1 2 ack 1"]);
    assert_eq!(bench.each(&[reliable]), ["1 2 ack 1"]);
    assert_eq!(bench.finish(&members), ["", "1 2 3", "1 2 3", ""]);
    assert!(bench.short(reliable).is_empty());
}

#[test]
fn a_group_that_everyone_left_during_a_fan_goes_when_it_is_done() {
    let (mut bench, publisher, members) = crowd(3);
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(1);
    for &member in &members {
        bench.say(member, r#"{"type":"leaveGroup","group":"g"}"#);
    }
    bench.slice(0);
    assert_eq!(bench.each(&members), ["1"; 3]);
    assert_eq!(bench.hub.group_counts(), (0, 0));
    assert!(!bench.hub.is_dirty());
}

#[test]
fn an_answer_pulls_its_receiver_forward() {
    let (mut bench, publisher, members) = crowd(5);
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(1);
    bench.say(members[4], PING);
    bench.handle(Input::Control(members[3], b"\x8a\x00"));
    bench.say(members[2], r#"{"type":"joinGroup","group":"h","ackId":7}"#);
    bench.slice(0);
    assert_eq!(bench.each(&members), ["1", "", "1 ack 7", "1 ", "1 pong"]);
    assert_eq!(bench.finish(&members), ["", "1", "", "", ""]);
}

#[test]
fn a_message_of_a_small_group_pulls_its_receivers_forward() {
    let (mut bench, publisher, mut members) = crowd(3);
    members.push(bench.json(&["g", "h"]));
    members.push(bench.reliable(&["g", "h"]));
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(0);
    bench.say(publisher, &publish("h", "2", ""));
    bench.slice(4);
    assert_eq!(bench.each(&members[3..]), ["1 2", "1 2"]);
    assert_eq!(bench.finish(&members), ["1", "1", "1", "", ""]);
}

#[test]
fn direct_messages_and_broadcasts_keep_their_place_too() {
    let (mut bench, publisher, mut members) = crowd(3);
    members.push(bench.reliable(&["g"]));
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(0);
    let id = id_of(&bench, members[3]).to_string().into();
    bench.send(Target::Connection(id), "2");
    bench.slice(0);
    assert_eq!(bench.each(&members), ["", "", "", "1 2"]);
    bench.send(Target::All, "3");
    bench.slice(1);
    bench.say(publisher, &publish("g", "4", ""));
    assert_eq!(bench.finish(&members), ["1 3 4", "1 3 4", "1 3 4", "3 4"]);
}

#[test]
fn what_is_published_during_a_fan_follows_in_one_send() {
    let (mut bench, publisher, members) = crowd(4);
    bench.say(publisher, &publish("g", "1", ""));
    for n in 2..5 {
        bench.slice(1);
        bench.say(publisher, &publish("g", &n.to_string(), ""));
    }
    bench.slice(1);
    assert_eq!(bench.each(&members), ["1"; 4]);
    for reached in 0..4 {
        bench.slice(1);
        let got = bench.each(&members);
        assert_eq!(got[reached], "2 3 4");
        assert_eq!(got.concat(), "2 3 4");
    }
    assert!(!bench.hub.is_dirty());
}

#[test]
fn who_is_served_is_served_to_the_end_of_the_log() {
    for subprotocol in [Subprotocol::Json, Subprotocol::ReliableJson] {
        let (mut bench, publisher, mut members) = crowd(3);
        members.push(bench.connect(subprotocol, &["g"]).unwrap());
        members.push(bench.connect(subprotocol, &["g"]).unwrap());
        bench.say(publisher, &publish("g", "1", ""));
        bench.slice(1);
        bench.say(publisher, &publish("g", "2", ""));
        bench.say(members[4], &publish("g", "3", r#","ackId":1"#));
        bench.slice(0);
        assert_eq!(bench.each(&members), ["1", "", "", "", "1 2 3 ack 1"], "from a fan and what it holds");
        bench.say(publisher, &publish("g", "4", ""));
        bench.say(members[4], PING);
        bench.say(members[3], PING);
        bench.say(publisher, &publish("g", "5", ""));
        bench.slice(0);
        assert_eq!(bench.each(&members), ["", "", "", "1 2 3 4 pong 5", "4 pong 5"]);
        bench.say(publisher, &publish("g", "6", ""));
        assert_eq!(bench.finish(&members), ["2 3 4 5 6", "1 2 3 4 5 6", "1 2 3 4 5 6", "6", "6"]);
    }
}

#[test]
fn fans_that_overlap_reach_each_member_in_the_order_of_the_log() {
    for subprotocol in [Subprotocol::Json, Subprotocol::ReliableJson] {
        let mut bench = Bench::new(Limits::default());
        let publisher = bench.json(&[]);
        let both: Vec<_> = (0..6).map(|_| bench.connect(subprotocol, &["g", "h"]).unwrap()).collect();
        let one = bench.connect(subprotocol, &["h"]).unwrap();
        for n in 0..4 {
            bench.say(publisher, &publish(if n % 2 == 0 { "g" } else { "h" }, &n.to_string(), ""));
        }
        bench.slice(2);
        // Each of the two fans served one member, which got everything.
        assert_eq!(bench.each(&both).concat(), "0 1 2 30 1 2 3");
        bench.say(publisher, &publish("h", "4", ""));
        bench.slice(2);
        assert_eq!(bench.each(&both).concat(), "0 1 2 3 40 1 2 3 4");
        bench.say(publisher, &publish("g", "5", ""));
        let got = bench.finish(&both);
        assert_eq!(got, ["4 5", "4 5", "5", "5", "0 1 2 3 4 5", "0 1 2 3 4 5"]);
        assert_eq!(bench.short(one), ["1", "3", "4"]);
    }
}

#[test]
fn fans_share_what_a_flush_may_send() {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.json(&[]);
    let g: Vec<_> = (0..9).map(|_| bench.json(&["g"])).collect();
    let h: Vec<_> = (0..3).map(|_| bench.json(&["h"])).collect();
    let k: Vec<_> = (0..2).map(|_| bench.json(&["k"])).collect();
    bench.say(publisher, &publish("g", "g", ""));
    bench.slice(2);
    bench.say(publisher, &publish("h", "h", ""));
    bench.slice(4);
    assert_eq!((bench.each(&g).concat(), bench.each(&h).concat()), ("gggg".into(), "hh".into()));
    bench.say(publisher, &publish("k", "k", ""));
    bench.slice(4);
    // A group that fits half of it is not cut, but leaves the other half to the fans.
    assert_eq!(bench.each(&k).concat(), "kk");
    assert_eq!((bench.each(&g).concat(), bench.each(&h).concat()), ("g".into(), "h".into()));
    bench.slice(9);
    assert!(!bench.hub.is_slicing());
}

#[test]
fn who_is_left_out_is_left_out_of_a_fan_and_of_what_it_holds() {
    let (mut bench, publisher, mut members) = crowd(3);
    members.push(bench.reliable(&["g"]));
    bench.say(members[2], &publish("g", "1", r#","noEcho":true"#));
    bench.say(publisher, &publish("g", "2", ""));
    bench.slice(0);
    // About whom there is anything special is served at once.
    assert_eq!(bench.each(&members), ["", "", "2", ""]);
    bench.say(members[3], &publish("g", "3", r#","noEcho":true"#));
    let id = id_of(&bench, members[1]).to_string().into();
    let send = Operation::Send {
        target: Target::Group(group("g")),
        excluded: [id].into(),
        filter: None,
        ttl_seconds: 0,
    };
    bench.handle(Input::Operation(RequestId(1), &send, Some(Data::text("4").into())));
    bench.slice(0);
    assert_eq!(bench.each(&members), ["", "1 2 3", "", "1 2 4"]);
    assert_eq!(bench.finish(&members), ["1 2 3 4", "", "3 4", ""]);
}

#[test]
fn a_close_comes_after_what_stands_before_it() {
    let (mut bench, publisher, mut members) = crowd(5);
    members.push(bench.reliable(&["g"]));
    members.push(bench.reliable(&["g"]));
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(1);
    bench.say(publisher, &publish("g", "2", ""));
    bench.handle(Input::ClientClose(members[1], Some(CloseCode::NORMAL)));
    bench.handle(Input::Fault(members[2], CloseCode::INVALID_PAYLOAD, "why"));
    bench.handle(Input::ClientClose(members[5], None)); // its session stays
    bench.say(publisher, &publish("g", "3", ""));
    bench.slice(0);
    let expected = ["1", "1 2 close 1000", "1 2 disconnected close 1007", "", "", "1 2 close", ""];
    assert_eq!(bench.each(&members), expected);
    bench.handle(Input::SocketLost(members[3]));
    let close =
        Operation::Close { target: Target::Group(group("g")), excluded: Box::default(), reason: None };
    bench.handle(Input::Operation(RequestId(1), &close, None));
    bench.slice(0);
    let all = "1 2 3 disconnected close 1000";
    assert_eq!(bench.each(&members[3..]), ["", all, "", "1 2 3 disconnected close 1008"]);
    assert_eq!(bench.each(&members[..1]), ["2 3 disconnected close 1000"]);
    bench.slice(0);
    assert!(!bench.hub.is_dirty(), "nobody is left to be served, not even by what was held");
    assert_eq!((bench.hub.counters().connections, bench.hub.group_counts()), (1, (0, 0)));
}

#[test]
fn a_stop_finishes_every_fan() {
    let (mut bench, publisher, mut members) = crowd(4);
    members.push(bench.reliable(&["g"]));
    bench.say(publisher, &publish("g", "1", ""));
    bench.send(Target::All, "2");
    bench.slice(1);
    bench.handle(Input::Stop);
    bench.slice(0);
    assert_eq!(bench.each(&members), ["1 2 disconnected close 1001"; 5]);
    assert!(!bench.hub.is_dirty());
    assert_eq!(bench.hub.counters().connections, 0);
}

#[test]
fn a_session_is_recovered_during_a_fan() {
    let (mut bench, publisher, mut members) = crowd(2);
    members.extend([bench.reliable(&["g"]), bench.reliable(&["g"]), bench.reliable(&["g"])]);
    let [.., early, late, suspended] = members[..] else { unreachable!() };
    bench.say(publisher, &publish("g", "1", ""));
    bench.flush();
    bench.each(&members);
    bench.say(publisher, &publish("g", "2", ""));
    bench.slice(2);
    let back = [early, late].map(|of| {
        let id = id_of(&bench, of);
        bench.handle(Input::SocketLost(of));
        bench.slice(0);
        let socket = bench.recover(id, Subprotocol::ReliableJson);
        Transport { socket, ..of }
    });
    bench.handle(Input::SocketLost(suspended));
    bench.say(publisher, &publish("g", "3", ""));
    // The first asks something right away, the other one waits for the fan.
    bench.say(back[0], r#"{"type":"joinGroup","group":"h","ackId":1}"#);
    bench.slice(0);
    assert_eq!(bench.each(&back), ["connected 1 2 3 ack 1", "connected 1"]);
    assert_eq!(bench.finish(&back), ["", "2 3"]);
    let id = id_of(&bench, suspended);
    let socket = bench.recover(id, Subprotocol::ReliableJson);
    let texts = bench.texts(Transport { socket, ..suspended });
    let ids: Vec<_> = texts[1..].iter().map(|text| text.split("sequenceId").nth(1).unwrap()).collect();
    assert_eq!(ids, ["\":1}", "\":2}", "\":3}"]);
    assert_eq!(bench.each(&members[..2]), ["2 3"; 2]);
}

#[test]
fn a_socket_that_is_taken_over_during_a_fan_gets_nothing_more() {
    let (mut bench, publisher, mut members) = crowd(2);
    members.push(bench.reliable(&["g"]));
    let id = id_of(&bench, members[2]);
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(1);
    bench.say(members[2], PING);
    let socket = bench.recover(id, Subprotocol::ReliableJson);
    bench.say(publisher, &publish("g", "2", ""));
    let back = Transport { socket, ..members[2] };
    assert_eq!(bench.finish(&[members[2], back]), ["", "connected 1 2"]);
}

#[test]
fn a_session_over_its_bounds_during_a_fan_ends() {
    let mut bench = Bench::new(Limits { replay_messages_max: 2, ..Limits::default() });
    let publisher = bench.json(&[]);
    let members = [bench.json(&["g"]), bench.reliable(&["g"]), bench.reliable(&["g"])];
    for n in 1..4 {
        bench.say(publisher, &publish("g", &n.to_string(), ""));
    }
    bench.slice(2);
    bench.flush();
    let closed = "1 2 3 disconnected close 1008";
    assert_eq!(bench.each(&members), ["1 2 3", closed, closed]);
    assert_eq!(bench.closed(), [(1008, CloseCategory::SlowClient); 2]);
}

#[test]
fn large_messages_are_pulled_forward_by_reference() {
    let (mut bench, publisher, mut members) = crowd(2);
    members.extend([bench.json(&["g", "h"]), bench.reliable(&["g", "h"])]);
    let (a, b) = ("a".repeat(70_000), "b".repeat(70_000));
    bench.say(publisher, &publish("g", &a, ""));
    bench.slice(0);
    bench.say(publisher, &publish("g", &b, ""));
    bench.say(publisher, &publish("h", "h", ""));
    bench.slice(4);
    assert_eq!(bench.each(&members[2..]), [format!("{a} {b} h"), format!("{a} {b} h")]);
    assert_eq!(bench.finish(&members[..2]), [format!("{a} {b}"), format!("{a} {b}")]);
}

#[test]
fn too_much_behind_a_fan_finishes_it() {
    let (mut bench, publisher, members) = crowd(4);
    let part = "x".repeat(100_000);
    for _ in 0..3 {
        bench.say(publisher, &publish("g", &part, ""));
        bench.slice(0);
    }
    assert_eq!(bench.hub.counters().flushes_forced, 0, "{:?}", bench.hub.counters());
    bench.say(publisher, &publish("g", &part, ""));
    bench.slice(1);
    assert_eq!(bench.hub.counters().flushes_forced, 1);
    assert_eq!(bench.each(&members), [part.as_str(); 4], "only what was in the way");
    bench.slice(1);
    let rest = format!("{part} {part} {part}");
    assert_eq!(bench.each(&members), [rest.as_str(), "", "", ""]);
    assert_eq!(bench.finish(&members[1..]), [rest.as_str(); 3]);
    assert_eq!(bench.hub.counters().flushes_forced, 1);
}

/// As many members of a large message as of a small one held up everybody else for tenths of a second.
#[test]
fn who_gets_a_large_message_counts_for_its_bytes_too() {
    let (mut bench, publisher, members) = crowd(6);
    bench.say(publisher, &publish("g", &"x".repeat(70_000), ""));
    for served in [2, 2, 1, 1] {
        bench.slice(if served == 2 { 6 } else { 1 });
        assert_eq!(bench.each(&members).iter().filter(|got| got.len() == 70_000).count(), served);
    }
    assert!(!bench.hub.is_dirty());
}

#[test]
fn one_large_message_behind_a_fan_waits() {
    let (mut bench, publisher, members) = crowd(3);
    let large = "x".repeat(400_000);
    bench.say(publisher, &publish("g", "1", ""));
    bench.slice(0);
    bench.say(publisher, &publish("g", &large, ""));
    bench.slice(1);
    assert_eq!(bench.each(&members), ["1", "", ""]);
    assert_eq!(bench.hub.counters().flushes_forced, 0);
    assert_eq!(bench.finish(&members)[1], format!("1 {large}"));
}

#[test]
fn a_log_over_its_bound_is_finished() {
    let mut bench = Bench::new(Limits::default());
    let publisher = bench.json(&[]);
    let names: Vec<String> = (0..10).map(|n| format!("g{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let members = [bench.json(&names), bench.json(&names)];
    let part = "x".repeat(1 << 20);
    let mut published = 0;
    while bench.hub.counters().flushes_forced == 0 {
        assert!(published < 40, "{published} publications and nothing was forced");
        bench.say(publisher, &publish(names[published % 10], &part, ""));
        published += 1;
        bench.slice(0);
    }
    assert!((16..20).contains(&published), "{published}");
    assert!(!bench.hub.is_dirty());
    for member in members {
        assert_eq!(bench.short_so_far(member).len(), published);
    }
}
