//! Publications to thousands of members are delivered over several turns, and others are heard in between
//! (`design` §3, fan-out).

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ringhub_tests::{Client, Connection, DEADLINE, History, RawSocket, Server, masked_frame, wait_until};
use std::fs;
use std::os::fd::AsRawFd;

/// Several times what one turn may send, and well below what a process may open.
const MEMBERS: usize = 4_000;
const PUBLICATIONS: u64 = 40;

/// A member whose bytes are read by hand: thousands of full clients would take gigabytes.
fn member(server: &Server, hub: &str, n: usize) -> RawSocket {
    let client = if n.is_multiple_of(8) { Client::reliable() } else { Client::json() }.hub(hub);
    let mut socket = server.raw();
    socket.write(client.group("big").request(server));
    assert_eq!(socket.read_response().status, 101);
    assert!(socket.read_frame().text().contains(r#""event":"connected""#));
    socket
}

/// The next data message, keep-alive pings left out, is written down.
fn hear(history: &mut History, receiver: usize, member: &mut RawSocket) {
    let mut frame = member.read_frame();
    while frame.first_byte == 0x89 {
        frame = member.read_frame();
    }
    history.receive(receiver, frame.text());
}

#[test]
fn a_large_fan_out_holds_nobody_back_and_loses_nothing() {
    // Members read, and so answer pings, at the end only: on a slow machine two of them may be missed before.
    let server = Server::with(|setup| setup.config("[hubs.chat]\nwebsocket_keepalive_seconds = 120\n"));
    let mut members: Vec<_> = (0..MEMBERS).map(|n| member(&server, "chat", n)).collect();
    let mut history = History::new();
    // The last receiver is the publisher that is a member.
    (0..=MEMBERS).for_each(|receiver| history.joined(receiver));
    let publisher = |user| Client::json().user(user).may_all();
    let mut outside = server.connect(publisher("outside"));
    let mut inside = server.connect(publisher("inside").group("big"));
    let mut bystanders = [
        server.connect(Client::json()),
        server.connect(Client::json().hub("other")),
        server.connect(Client::raw().hub("other")),
    ];
    let mut small: Vec<Connection> = (0..3).map(|_| server.connect(Client::json().group("small"))).collect();
    let turns_before = server.metric("ringhub_turns_total");
    let mut sent_inside = 0;
    for n in 1..=PUBLICATIONS {
        outside.publish("big", &history.publish(0));
        if n % 4 == 0 {
            sent_inside += 1;
            let data = format!(r#""dataType":"text","data":"{}""#, history.publish(1));
            inside.send(&format!(r#"{{"type":"sendToGroup","group":"big","ackId":{sent_inside},{data}}}"#));
        }
        outside.publish("small", &n.to_string());
        // An answer comes whatever is still to be delivered to others.
        bystanders.iter_mut().for_each(Connection::expect_silence);
        for member in &mut small {
            member.expect_group_text("small", Some("outside"), &n.to_string());
        }
    }

    // An ack comes after what it acknowledges, and that after all that was published before.
    let all = PUBLICATIONS + sent_inside;
    let (mut heard, mut last_inside, mut acked) = (0, 0, 0);
    while heard < all || acked < sent_inside {
        let text = inside.next_text();
        if text.starts_with(r#"{"type":"ack""#) {
            acked += 1;
            assert_eq!(text, format!(r#"{{"type":"ack","ackId":{acked},"success":true}}"#));
            assert!(last_inside >= acked, "acknowledged before it came");
            continue;
        }
        heard += 1;
        if let (1, number) = history.receive(MEMBERS, &text) {
            last_inside = number;
        }
    }
    inside.expect_silence();
    // What the small group's members have had, which were sent to behind it, says that it was taken in.
    (0..2).for_each(|publisher| history.acknowledged(publisher));
    for (n, member) in members.iter_mut().enumerate() {
        (0..all).for_each(|_| hear(&mut history, n, member));
        // Nothing came twice.
        member.write(masked_frame(0x81, br#"{"type":"ping"}"#));
        let mut frame = member.read_frame();
        while frame.first_byte == 0x89 {
            frame = member.read_frame();
        }
        assert_eq!(frame.text(), r#"{"type":"pong"}"#);
    }
    history.check();

    // Each of them took several turns: counted, not timed.
    let sliced = |server: &Server| server.metric("ringhub_hub_flushes_sliced_total");
    wait_until("fan-outs were cut into slices", || sliced(&server) >= 3);
    let turns = server.metric("ringhub_turns_total") - turns_before;
    assert!(turns > sliced(&server), "{turns} turns for {} slices", sliced(&server));
    let forced = server.metric("ringhub_hub_flushes_forced_total");
    assert!(forced == 0, "so little never has to be forced: {forced}");
}

/// Nothing is timed: the kernel lists sockets in the order in which they became readable. Both hubs' publications wait
/// in the server's sockets before it can take either, and the large fan-out has several turns to go; were it finished
/// first, all its members would stand before those of the other hub.
#[test]
fn a_large_fan_out_of_one_hub_does_not_make_another_hub_wait() {
    const OTHERS: usize = 10;
    const ROUNDS: usize = 4;
    /// Of the members, how many may be served before the last of the other hub: what three turns may send.
    const FIRST_MAX: usize = 3 * 512;
    const { assert!(FIRST_MAX < MEMBERS * 4 / 5) };
    let keepalive = |hub| format!("[hubs.{hub}]\nwebsocket_keepalive_seconds = 120\n");
    let mut server = Server::with(|setup| setup.config(&(keepalive("one") + &keepalive("two"))));
    let mut members: Vec<_> = (0..MEMBERS).map(|n| member(&server, "one", n)).collect();
    members.extend((0..OTHERS).map(|n| member(&server, "two", n)));
    let mut publishers =
        ["one", "two"].map(|hub| server.connect(Client::json().hub(hub).user("outside").may_all()));

    let mut poll = Poll::new().expect("a list of ready sockets");
    for (n, member) in members.iter().enumerate() {
        let socket = member.as_raw_fd();
        poll.registry().register(&mut SourceFd(&socket), Token(n), Interest::READABLE).expect("a socket");
    }
    let mut events = Events::with_capacity(members.len());
    for round in 0..ROUNDS {
        server.process().signal("STOP");
        wait_until("the server stands still", || stands_still(server.process().id()));
        publishers.iter_mut().for_each(|publisher| publisher.publish("big", &format!("1 {round}")));
        server.process().signal("CONT");
        let (mut order, mut heard) = (Vec::new(), vec![false; members.len()]);
        while order.len() < members.len() {
            poll.poll(&mut events, Some(DEADLINE)).expect("ready sockets");
            assert!(!events.is_empty(), "{} of {} were served", order.len(), members.len());
            order.extend(
                events
                    .iter()
                    .map(|event| event.token().0)
                    .filter(|&n| !std::mem::replace(&mut heard[n], true)),
            );
        }
        let last_other = order.iter().rposition(|&n| n >= MEMBERS).expect("they were served");
        let first = order[..last_other].iter().filter(|&&n| n < MEMBERS).count();
        assert!(first <= FIRST_MAX, "round {round}: {first} members of a large group came first");
        for member in &mut members {
            let mut frame = member.read_frame();
            while frame.first_byte == 0x89 {
                frame = member.read_frame();
            }
            assert!(frame.text().contains(&format!("1 {round}")), "{frame:?}");
        }
    }
    wait_until("the fan-outs took several turns", || sliced(&server, "one") >= (3 * ROUNDS) as f64);
    assert!(sliced(&server, "two") < 1.0, "so few are never cut");
}

#[test]
fn hubs_share_what_a_turn_may_send() {
    let server = Server::start();
    const EACH: usize = 1_500;
    let hubs = ["one", "two"];
    let mut members = hubs.map(|hub| (0..EACH).map(|n| member(&server, hub, n)).collect::<Vec<_>>());
    let mut publishers = hubs.map(|hub| server.connect(Client::json().hub(hub).user("outside").may_all()));
    let mut histories = [History::new(), History::new()];
    histories.iter_mut().for_each(|history| (0..EACH).for_each(|receiver| history.joined(receiver)));
    for _ in 0..PUBLICATIONS {
        for (publisher, history) in publishers.iter_mut().zip(&mut histories) {
            publisher.publish("big", &history.publish(0));
        }
    }
    for ((publisher, history), members) in publishers.iter_mut().zip(&mut histories).zip(&mut members) {
        publisher.expect_silence();
        history.acknowledged(0);
        for (receiver, member) in members.iter_mut().enumerate() {
            (0..PUBLICATIONS).for_each(|_| hear(history, receiver, member));
        }
        history.check();
    }
    wait_until("both hubs were flushed in slices", || hubs.iter().all(|hub| sliced(&server, hub) >= 1.0));
}

/// Whether every thread of a process is stopped by a signal.
fn stands_still(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a running process");
    tasks.filter_map(Result::ok).all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.contains("State:\tT")
    })
}

/// How often a hub's fan-outs were cut.
fn sliced(server: &Server, hub: &str) -> f64 {
    let page = server.admin().http("GET", "/metrics").expect(200);
    let label = format!(r#"hub="{hub}""#);
    let row = page
        .text()
        .lines()
        .find(|line| line.starts_with("ringhub_hub_flushes_sliced_total{") && line.contains(&label));
    row.and_then(|row| row.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}
