//! Stops, reloads and slow handshakes, with questions open.

use std::fs;

use ringhub_tests::{
    Answer, Client, Connection, Gate, Handler, Server, masked_frame, memory_bound, wait_until,
};

use super::{ALL, CONNECT, USER, event_acked, expect_told, gated, order_of, server, server_of};

/// A handler that answers this event when the gate opens, and everything else at once.
fn gated_at(event: &'static str) -> (Handler, Gate) {
    gated(move |call| call.event() == event, |_| Answer::no_content())
}

/// What a client had asked is asked to its end, then its own end is told.
#[test]
fn a_stop_lets_an_open_question_come_to_its_end() {
    let (handler, gate) = gated_at("ask");
    let mut server = server_of(&handler, ALL);
    let mut alice = server.connect(Client::json());
    for n in 1..=3 {
        alice.send(&event_acked(if n == 1 { "ask" } else { "behind" }, "", n));
    }
    handler.next_of("ask");
    alice.expect_silence();
    server.process().signal("TERM");
    alice.expect_goodbye(1001);
    gate.open();
    assert!(server.process().wait().success());
    let calls = handler.calls();
    assert_eq!(
        order_of(&handler.calls_of(alice.id())),
        ["connect/0", "connected/1", "ask/2", "behind/3", "behind/4", "disconnected/5"],
        "{calls:?}"
    );
}

#[test]
fn a_stop_refuses_who_is_asked_about_and_tells_the_end_of_who_was_welcome() {
    for welcome in [true, false] {
        let (handler, gate) = gated(
            |_| true,
            move |call| Answer::status(if welcome || call.event() != "connect" { 204 } else { 403 }),
        );
        let mut server = server_of(&handler, ALL);
        let mut socket = server.raw();
        socket.write(Client::json().request(&server));
        handler.next_of("connect");
        server.process().signal("TERM");
        assert_eq!(socket.read_response().status, 503);
        gate.open();
        assert!(server.process().wait().success());
        let expected = if welcome { &["connect/0", "disconnected/1"][..] } else { &["connect/0"] };
        expect_told(&handler, expected);
    }
}

/// The answer to a question finds its client, whoever the hub's handlers are by then.
#[test]
fn a_reload_lets_an_open_question_come_to_its_end() {
    let (before, gate) = gated(|_| true, |call| Answer::text(call.text()));
    let after = Handler::start(|call| Answer::text(call.text()));
    let server = server_of(&before, USER);
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "old", 1));
    before.next();
    fs::write(server.config(), after.section(USER)).unwrap();
    assert!(server.reload().contains("the configuration was reloaded"));
    alice.send(&event_acked("e", "new", 2));
    alice.expect_silence();
    assert!(after.calls().is_empty(), "one question at a time, over reloads too");
    gate.open();
    for (n, text) in [(1, "old"), (2, "new")] {
        alice.expect_server_text(text);
        alice.expect_ack(n);
    }
    assert_eq!((before.calls().len(), after.calls().len()), (1, 1));
}

/// The bound on how long a request's head may take is not for how long a handler takes.
#[test]
fn a_handler_may_take_longer_than_the_head_of_a_request() {
    let (handler, gate) = gated_at("connect");
    let section = handler.section(CONNECT);
    let server = server(&format!("[limits]\nhead_deadline_seconds = 1\nhttp_idle_seconds = 1\n{section}"));
    let mut waiting = server.raw();
    waiting.write(Client::json().request(&server));
    handler.next();
    // Who says nothing is thrown out in that time.
    for _ in 0..2 {
        server.raw().read_to_end();
    }
    gate.open();
    assert_eq!(waiting.read_response().status, 101);
}

/// What comes behind a request that waits stays with the client beyond a bound, and none of it is lost.
#[test]
fn a_client_that_talks_before_it_is_let_in_is_held_back() {
    const FRAMES: usize = 300;
    let (handler, gate) = gated_at("connect");
    let mut server = server_of(&handler, ALL);
    let mut socket = server.raw();
    socket.write(Client::raw().request(&server));
    handler.next_of("connect");
    let memory = server.process().resident_bytes();
    let writer = std::thread::spawn(move || {
        let rest = "x".repeat(65_536);
        for n in 0..FRAMES {
            socket.write(masked_frame(0x81, format!("{n} {rest}").as_bytes()));
        }
        socket
    });
    let mut other = server.connect(Client::json().hub("other"));
    (0..50).for_each(|_| other.expect_silence());
    let grown = server.process().resident_bytes().saturating_sub(memory);
    assert!(!writer.is_finished() && grown < memory_bound(16 << 20), "{grown} bytes");
    gate.open();
    let mut socket = writer.join().unwrap();
    assert_eq!(socket.read_response().status, 101);
    handler.next_of("connected");
    for n in 0..FRAMES {
        let call = handler.next_of("message");
        assert!(call.text().starts_with(&format!("{n} ")), "{n}");
    }
}

/// A handler that comes and goes while everybody talks: each event is answered once, in order, whatever it took.
#[test]
fn a_handler_that_comes_and_goes_costs_no_event() {
    const CLIENTS: usize = 10;
    const EVENTS: u64 = 10;
    let handler = Handler::start(|call| Answer::text(call.text()));
    let config =
        handler.section(&format!("{USER}retry_delays_seconds = [0, 1, 1, 1]\nbreaker_failures = 0\n"));
    let server = Server::with(|setup| setup.cores(2).config(&config));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect(Client::json())).collect();
    let talk = |clients: &mut [Connection], from: u64| {
        for client in clients {
            (from..from + EVENTS).for_each(|n| client.send(&event_acked("e", &n.to_string(), n)));
        }
    };
    for round in 0..3 {
        let first = 2 * EVENTS * round;
        let calls = handler.calls().len();
        talk(&mut clients, first);
        handler.calls_at_least(calls + 1);
        handler.kill();
        talk(&mut clients, first + EVENTS);
        wait_until("it is missed", || server.metric("ringhub_upstream_queued") >= CLIENTS as u64);
        handler.restart();
        for client in &mut clients {
            for n in first..first + 2 * EVENTS {
                client.expect_server_text(&n.to_string());
                client.expect_ack(n);
            }
        }
    }
    for client in &clients {
        // Some were asked twice, for the handler was killed with the answer on its lips: under the same id.
        let mut calls = handler.calls_of(client.id());
        calls.dedup_by_key(|call| call.id());
        let texts: Vec<_> = calls.iter().map(|call| call.text().to_owned()).collect();
        assert_eq!(texts, (0..6 * EVENTS).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
