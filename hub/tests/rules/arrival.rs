//! What the hub keeps for the outside, how long a connection may last, and limits that change.

use crate::bench::{Bench, id_of};
use ringhub_hub::effect::{Arrival, CloseCategory, Connect, Effect, Input, Transport};
use ringhub_hub::{Limits, Time};
use ringhub_protocol::pubsub::Subprotocol;
use std::sync::{Arc, Weak};

const HOUR_MS: u64 = 3_600_000;

fn one_hour() -> Limits {
    Limits { lifetime_ms: HOUR_MS, ..Limits::default() }
}

fn wait_until(bench: &mut Bench, ms: u64) {
    bench.now = Time(ms);
    bench.hub.handle_timeout(bench.now, &mut bench.effects);
    bench.flush();
}

fn is_gone(bench: &mut Bench, of: Transport) -> bool {
    let listed = bench.hub.connections(0, 1000);
    !listed.iter().any(|row| row.id.slot == of.connection.slot)
}

/// A client with a pass and an address.
fn passed(bench: &mut Bench, subprotocol: Subprotocol) -> (Transport, Weak<u32>) {
    let pass = Arc::new(7_u32);
    let weak = Arc::downgrade(&pass);
    let socket = bench.socket();
    let address = Some([203, 0, 113, 9].into());
    bench.handle(Input::Connect(Box::new(Connect {
        socket,
        subprotocol,
        random: 1 + u128::from(socket.slot),
        prologue: Vec::new(),
        user: None,
        roles: Vec::new(),
        groups: Vec::new(),
        raw_group: None,
        arrival: Arrival { address, pass: Some(pass) },
        introduction: None,
        deflate: None,
    })));
    let opened = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::Opened(transport) if transport.socket == socket => Some(*transport),
        _ => None,
    });
    bench.flush();
    (opened.expect("nothing refuses it"), weak)
}

#[test]
fn a_connection_lasts_as_long_as_it_may() {
    let mut bench = Bench::new(one_hour());
    let (plain, reliable, away) = (bench.json(&[]), bench.reliable(&[]), bench.reliable(&[]));
    bench.handle(Input::SocketLost(away));
    bench.now = Time(1000);
    let later = bench.json(&[]);
    wait_until(&mut bench, HOUR_MS - 1);
    assert!(bench.texts(plain).is_empty() && bench.texts(reliable).is_empty());
    assert!(is_gone(&mut bench, away), "its recovery window ended long ago");
    assert_eq!(bench.hub.next_timeout(), Some(Time(HOUR_MS)));
    wait_until(&mut bench, HOUR_MS);
    let goodbye = r#"{"type":"system","event":"disconnected","message":"The connection has reached its maximum lifetime."}"#;
    assert_eq!(bench.texts(plain), [goodbye, "close 1001"]);
    assert_eq!(bench.texts(reliable), [goodbye, "close 1008"]);
    assert!(!is_gone(&mut bench, later));
    assert_eq!(bench.hub.counters().lifetimes_ended, 2);
    assert_eq!(bench.hub.next_timeout(), Some(Time(HOUR_MS + 1000)));
}

#[test]
fn a_session_is_not_recovered_past_its_lifetime() {
    let mut bench = Bench::new(Limits { recovery_window_ms: 2 * HOUR_MS, ..one_hour() });
    let client = bench.reliable(&[]);
    let id = id_of(&bench, client);
    bench.handle(Input::SocketLost(client));
    bench.flush();
    wait_until(&mut bench, HOUR_MS);
    bench.recover(id, Subprotocol::ReliableJson);
    assert!(matches!(bench.effects.last(), Some(Effect::RecoverRefused(..))));
    assert_eq!(bench.hub.counters().lifetimes_ended, 1);
}

#[test]
fn short_lived_connections_do_not_pile_up() {
    let mut bench = Bench::new(one_hour());
    for n in 0..10_000 {
        bench.now = Time(n);
        let client = bench.json(&[]);
        bench.handle(Input::SocketLost(client));
        bench.flush();
    }
    let last = bench.json(&[]);
    // Were all of them still in line, the first would be due an hour after it came.
    assert!(bench.hub.next_timeout() > Some(Time(HOUR_MS + 9000)), "{:?}", bench.hub.next_timeout());
    wait_until(&mut bench, HOUR_MS + 10_000);
    assert!(is_gone(&mut bench, last));
}

#[test]
fn limits_change_for_connections_that_are_there() {
    let mut bench = Bench::new(Limits::default());
    let first = bench.json(&[]);
    bench.now = Time(1000);
    let away = bench.reliable(&[]);
    bench.handle(Input::SocketLost(away));
    bench.flush();
    assert_eq!(bench.hub.next_timeout(), Some(Time(33_000)));
    bench.hub.set_limits(Limits { recovery_window_ms: 1000, recovery_grace_ms: 0, ..one_hour() });
    let soon = bench.reliable(&[]);
    bench.handle(Input::SocketLost(soon));
    bench.flush();
    assert_eq!(bench.hub.next_timeout(), Some(Time(2000)), "a shorter window does not wait for a longer one");
    wait_until(&mut bench, 2000);
    assert!(is_gone(&mut bench, soon) && !is_gone(&mut bench, away));
    wait_until(&mut bench, 33_000);
    assert!(is_gone(&mut bench, away));
    assert_eq!(bench.hub.next_timeout(), Some(Time(HOUR_MS)), "connections of before have a lifetime too");
    wait_until(&mut bench, HOUR_MS);
    assert!(is_gone(&mut bench, first));
    let second = bench.json(&[]);
    bench.hub.set_limits(Limits::default());
    assert_eq!(bench.hub.next_timeout(), None);
    wait_until(&mut bench, 10 * HOUR_MS);
    assert!(!is_gone(&mut bench, second));
}

#[test]
fn a_pass_is_kept_until_the_connection_ends_for_good() {
    let mut bench = Bench::new(Limits { connections_max: 2, ..Limits::default() });
    let (plain, plain_pass) = passed(&mut bench, Subprotocol::Json);
    let (reliable, pass) = passed(&mut bench, Subprotocol::ReliableJson);
    let held = bench.hub.pass(reliable.connection).expect("kept");
    assert_eq!(held.downcast_ref::<u32>(), Some(&7));
    assert_eq!(bench.hub.connections(0, 9)[0].address, Some([203, 0, 113, 9].into()));

    let refused = Arc::new(1);
    let weak = Arc::downgrade(&refused);
    let socket = bench.socket();
    bench.handle(Input::Connect(Box::new(Connect {
        socket,
        subprotocol: Subprotocol::Json,
        random: 99,
        prologue: Vec::new(),
        user: None,
        roles: Vec::new(),
        groups: Vec::new(),
        raw_group: None,
        arrival: Arrival { address: None, pass: Some(refused) },
        introduction: None,
        deflate: None,
    })));
    assert!(matches!(bench.effects.last(), Some(Effect::ConnectRefused(..))) && weak.upgrade().is_none());

    bench.handle(Input::SocketLost(plain));
    bench.handle(Input::SocketLost(reliable));
    bench.flush();
    assert!(plain_pass.upgrade().is_none() && pass.upgrade().is_some());
    wait_until(&mut bench, 32_000);
    assert!(pass.upgrade().is_none());
    let addresses = bench.effects.iter().filter_map(|effect| match effect {
        Effect::Closed { address, .. } => Some(*address),
        _ => None,
    });
    assert_eq!(addresses.collect::<Vec<_>>(), [Some([203, 0, 113, 9].into()); 2]);
}

#[test]
fn who_sends_more_than_it_may_is_closed_for_good() {
    for subprotocol in [Subprotocol::Json, Subprotocol::ReliableJson] {
        let mut bench = Bench::new(Limits::default());
        let client = bench.connect(subprotocol, &[]).unwrap();
        bench.handle(Input::Throttled(client));
        assert_eq!(bench.texts(client).last().unwrap(), "close 1008");
        assert!(is_gone(&mut bench, client));
        let throttled = bench.effects.iter().any(|effect| {
            matches!(effect, Effect::Closed { category: CloseCategory::Throttled, code: 1008, .. })
        });
        assert!(throttled);
    }
}

/// Whom a drain may close, and whom it waits for.
#[test]
fn a_drain_knows_who_would_lose_something() {
    let mut bench = Bench::new(Limits::default());
    let (plain, reliable, away) = (bench.json(&["g"]), bench.reliable(&["g"]), bench.reliable(&["g"]));
    let publisher = bench.json(&[]);
    bench.handle(Input::SocketLost(away));
    assert!(!bench.hub.is_awaited(bench.now), "nothing is kept for it");
    bench.handle(Input::Congested(reliable));
    let publish = r#"{"type":"sendToGroup","group":"g","dataType":"text","data":"1"}"#;
    bench.say(publisher, publish);
    bench.flush();
    assert!(bench.hub.is_awaited(bench.now), "a client comes back for what it has not confirmed");
    let is_behind = |bench: &Bench, of: Transport| bench.hub.is_behind(of.connection);
    assert!(!is_behind(&bench, plain) && !is_behind(&bench, publisher) && !is_behind(&bench, away));
    assert!(is_behind(&bench, reliable), "its socket takes nothing");
    bench.handle(Input::Writable(reliable));
    bench.flush();
    assert!(!is_behind(&bench, reliable), "it was sent all");

    for client in [plain, reliable] {
        bench.texts(client);
        bench.say(publisher, publish);
        bench.handle(Input::Drain(client));
        // What was published before the goodbye comes before it.
        assert_eq!(bench.short(client)[..], ["1", "disconnected", "close 1001"]);
        bench.handle(Input::Drain(client));
        assert!(is_gone(&mut bench, client) && bench.texts(client).is_empty(), "once");
    }
    let id = id_of(&bench, away);
    let back = Transport { socket: bench.recover(id, Subprotocol::ReliableJson), ..away };
    assert!(!bench.hub.is_awaited(bench.now), "it is there");
    // Closed like everybody, once it was sent everything that was kept for it.
    assert!(is_behind(&bench, back));
    assert_eq!(bench.short(back)[1..], ["1", "1", "1"]);
    assert!(!is_behind(&bench, back));
    bench.handle(Input::Drain(back));
    assert_eq!(bench.short(back)[..], ["disconnected", "close 1001"]);
    assert!(is_gone(&mut bench, back));
}

/// What can be refused is refused by name, nothing else is, and what was refused can be sent again.
#[test]
fn short_of_memory_the_hub_refuses_what_takes_some_and_is_acknowledged() {
    let mut bench = Bench::new(Limits::default());
    let (publisher, member) = (bench.json(&[]), bench.json(&["g"]));
    let acked = r#"{"type":"sendToGroup","group":"g","ackId":7,"dataType":"text","data":"a"}"#;
    bench.hub.set_short_of_memory(true);
    bench.say(publisher, acked);
    let ack = bench.texts(publisher).concat();
    assert!(ack.contains(r#""success":false"#) && ack.contains("InternalServerError"), "{ack}");
    bench.say(publisher, r#"{"type":"sendToGroup","group":"g","dataType":"text","data":"b"}"#);
    bench.say(publisher, r#"{"type":"leaveGroup","group":"h","ackId":8}"#);
    assert_eq!(bench.short(publisher)[..], ["ack 8"]);
    // Events and joins took memory without bound. Who is a member may say so again.
    bench.say(member, r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    assert_eq!(bench.short(member)[..], ["b", "ack 1"]);
    for request in [
        r#"{"type":"joinGroup","group":"h","ackId":9}"#,
        r#"{"type":"event","event":"e","ackId":10,"dataType":"text","data":"x"}"#,
        r#"{"type":"invoke","target":"event","event":"e","invocationId":"i","dataType":"text","data":"x"}"#,
    ] {
        bench.say(publisher, request);
        let answer = bench.texts(publisher).concat();
        assert!(answer.contains("InternalServerError") && answer.contains("short of memory"), "{answer}");
    }
    assert_eq!(bench.hub.group_counts().0, 1, "the refused group is not there");
    assert_eq!(bench.hub.counters().refused_for_memory, 4);
    bench.hub.set_short_of_memory(false);
    bench.say(publisher, acked);
    assert_eq!(
        (&bench.short(publisher)[..], &bench.short(member)[..]),
        (&["ack 7".into()][..], &["a".into()][..])
    );
}

/// Attached or not, plain or reliable.
#[test]
fn whoever_is_shed_is_closed_at_once_and_its_log_is_gone() {
    let mut bench = Bench::new(Limits::default());
    let (plain, reliable, away) = (bench.json(&["g"]), bench.reliable(&["g"]), bench.reliable(&["g"]));
    let publisher = bench.json(&[]);
    bench.handle(Input::SocketLost(away));
    assert_eq!(bench.hub.kept_bytes().count(), 0);
    bench.say(publisher, r#"{"type":"sendToGroup","group":"g","dataType":"text","data":"1"}"#);
    bench.flush();
    let kept: Vec<_> = bench.hub.kept_bytes().collect();
    assert_eq!(kept.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [reliable.connection, away.connection]);
    assert!(kept.iter().all(|(_, bytes)| *bytes > 1));
    bench.effects.clear();
    for client in [plain, reliable, away] {
        bench.handle(Input::Shed(client.connection));
        bench.handle(Input::Shed(client.connection));
        assert!(is_gone(&mut bench, client));
    }
    let closed = bench.effects.iter().filter(|effect| {
        matches!(effect, Effect::Closed { code: 1008, category: CloseCategory::SlowClient, .. })
    });
    assert_eq!(closed.count(), 3, "each once");
    bench.flush();
    assert_eq!(bench.hub.kept_bytes().count(), 0);
}
