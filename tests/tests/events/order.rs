//! One question of a connection at a time, in order; of all connections as many as there are (§4.5, §4.7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ringhub_tests::{Answer, Client, Endpoint, Gate, Handler, Server, masked_frame, wait_until};

use super::{NO_RETRIES, USER, agreeable, event, event_acked, gated, server, server_of};

/// A handler that answers `wait` when the gate opens, everything else with what was sent.
fn patient() -> (Handler, Gate) {
    gated(|call| call.text() == "wait", |call| Answer::text(call.text()))
}

#[test]
fn the_next_event_waits_for_the_answer_to_the_last() {
    for cores in [1, 2] {
        let (handler, gate) = patient();
        let section = handler.section(USER);
        let server = Server::with(|setup| setup.cores(cores).config(&section));
        let mut alice = server.connect(Client::json().may_all());
        let mut others: Vec<_> = (0..4).map(|_| server.connect(Client::json())).collect();
        alice.send(&event_acked("e", "wait", 1));
        alice.send(&event_acked("e", "second", 2));
        alice.send(&event_acked("e", "third", 3));
        handler.next();
        // Others are not held up.
        for other in &mut others {
            other.send(&event("e", "mine"));
            other.expect_server_text("mine");
        }
        assert_eq!(handler.calls_of(alice.id()).len(), 1);
        gate.open();
        for (n, text) in [(1, "wait"), (2, "second"), (3, "third")] {
            alice.expect_server_text(text);
            alice.expect_ack(n);
        }
    }
}

/// Events wait for events, and nothing else does: a client whose handler is slow still joins, publishes and is served.
#[test]
fn only_events_wait_behind_an_event() {
    let (handler, gate) = patient();
    let server = server_of(&handler, USER);
    let mut alice = server.connect(Client::json().may_all());
    let mut raw = server.open(Client::raw());
    alice.send(&event_acked("e", "wait", 1));
    alice.send(&event_acked("e", "behind", 2));
    alice.join("g");
    alice.publish("g", "x");
    alice.expect_group_text("g", None, "x");
    alice.expect_silence();
    raw.send("wait");
    raw.send("behind");
    handler.calls_at_least(2);
    server.rest("POST", "/api/hubs/chat/:send").text("by the way").expect(202);
    alice.expect_server_text("by the way");
    raw.expect("by the way");
    gate.open();
    for (n, text) in [(1, "wait"), (2, "behind")] {
        alice.expect_server_text(text);
        alice.expect_ack(n);
        raw.expect(text);
    }
}

#[test]
fn fifty_events_in_one_write_are_answered_in_order() {
    let handler = Handler::start(|call| Answer::text(call.text()));
    let server = server_of(&handler, USER);
    for client in [Client::json(), Client::raw(), Client::reliable()] {
        let is_raw = format!("{client:?}") == format!("{:?}", Client::raw());
        let mut socket = server.raw();
        socket.write(client.request(&server));
        assert_eq!(socket.read_response().status, 101);
        let frame = |n: usize| match is_raw {
            true => masked_frame(0x81, n.to_string().as_bytes()),
            false => masked_frame(0x81, event("e", &n.to_string()).as_bytes()),
        };
        socket.write((0..50).flat_map(frame).collect::<Vec<_>>());
        if !is_raw {
            assert!(socket.read_frame().text().contains("connected"));
        }
        for n in 0..50 {
            let frame = socket.read_frame();
            let text = frame.text();
            assert!(text == n.to_string() || text.contains(&format!(r#""data":"{n}""#)), "{n}: {text}");
        }
    }
    let bodies: Vec<_> = handler.calls().iter().map(|call| call.text().to_owned()).collect();
    let expected: Vec<_> = (0..50).map(|n: usize| n.to_string()).collect();
    assert_eq!(bodies, [expected.clone(), expected.clone(), expected].concat());
    let ids: Vec<_> = handler.calls().iter().map(ringhub_tests::Call::id).collect();
    assert!(ids.chunks(50).all(|ids| ids.windows(2).all(|pair| pair[1] == pair[0] + 1)), "{ids:?}");
}

/// Beyond the bound the server stops reading, the client's own socket fills, and all of it arrives in the end.
#[test]
fn reading_pauses_at_the_bound_and_nothing_is_lost() {
    const EVENTS: usize = 400;
    let gate = Gate::default();
    let waited = gate.clone();
    let handler = Handler::start(move |call| {
        let number = call.text().split(' ').next().expect("a number");
        if number == "0" {
            waited.pass();
        }
        Answer::text(number)
    });
    // No ping may come among the answers, however slow the machine is.
    let hub = "[hubs.chat]\nevents_queued_max = 4\nwebsocket_keepalive_seconds = 120\n";
    let server = server(&format!("{hub}{}", handler.section(USER)));
    let mut socket = server.raw();
    socket.write(Client::raw().request(&server));
    assert_eq!(socket.read_response().status, 101);
    let endpoint: &Endpoint = &server;
    thread::scope(|scope| {
        // 25 MiB, far more than two sockets' buffers.
        let written = scope.spawn(move || {
            let rest = "x".repeat(65_536);
            for n in 0..EVENTS {
                socket.write(masked_frame(0x81, format!("{n} {rest}").as_bytes()));
            }
            socket
        });
        handler.next();
        let mut other = endpoint.open(Client::raw());
        for n in 1..100 {
            other.send(&n.to_string());
            other.expect(&n.to_string());
        }
        assert!(!written.is_finished(), "the client is held back");
        wait_until("it is counted", || server.metric("ringhub_hub_events_held_total") == 1);
        gate.open();
        let mut socket = written.join().expect("the writer");
        for n in 0..EVENTS {
            assert_eq!(socket.read_frame().text(), n.to_string());
        }
    });
}

#[test]
fn an_ack_id_that_succeeded_is_not_asked_again_and_one_that_failed_is() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let handler = Handler::start(move |_| match counter.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => Answer::status(500),
        _ => Answer::text("done"),
    });
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
    let mut alice = server.connect(Client::json());
    let mut send = |ack_id| {
        alice.send(&event_acked("e", "x", ack_id));
        alice.next_text()
    };
    assert!(send(7).contains(r#""ackId":7,"success":false,"error":{"name":"InternalServerError""#));
    // Again, with success; then it is known.
    assert!(send(7).contains(r#""data":"done""#));
    alice.expect_ack(7);
    alice.send(&event_acked("e", "x", 7));
    alice.expect_failed_ack(7, "Duplicate");
    assert_eq!(handler.calls().len(), 2);
    alice.send(&event_acked("e", "x", 8));
    alice.expect_failed_ack(8, "InternalServerError");
    alice.send(&event_acked("e", "x", 8));
    alice.expect_server_text("done");
    alice.expect_ack(8);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

/// The same id while its first use is on its way: it waits like every other event, and is a duplicate then.
#[test]
fn an_ack_id_on_its_way_is_not_asked_twice() {
    let (handler, gate) = patient();
    let server = server_of(&handler, USER);
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "wait", 1));
    alice.send(&event_acked("e", "wait", 1));
    handler.next();
    gate.open();
    alice.expect_server_text("wait");
    alice.expect_ack(1);
    alice.expect_failed_ack(1, "Duplicate");
    assert_eq!(handler.calls().len(), 1);
}

/// A session that is away gets its answer when it comes back, message and ack.
#[test]
fn an_answer_finds_a_reliable_client_that_was_away() {
    let (handler, gate) = patient();
    let server = server_of(&handler, USER);
    let mut alice = server.connect(Client::reliable());
    let back = Client::reliable().recover(alice.id(), alice.token());
    alice.send(&event_acked("e", "wait", 1));
    handler.next();
    alice.cut();
    let mut alice = server.connect(back);
    gate.open();
    alice.expect(r#"{"type":"message","from":"server","dataType":"text","data":"wait","sequenceId":1}"#);
    alice.expect_ack(1);
    alice.send(&event_acked("e", "next", 2));
    alice.expect(r#"{"type":"message","from":"server","dataType":"text","data":"next","sequenceId":2}"#);
    alice.expect_ack(2);
}

/// Every client has its own question open: as many at a time as there are clients, up to the bound of the handler.
#[test]
fn many_connections_ask_at_the_same_time_up_to_the_bound() {
    let (handler, gate) = gated(|_| true, |call| Answer::text(call.text()));
    let server = server_of(&handler, &format!("{USER}concurrency_max = 8\n"));
    let mut clients: Vec<_> = (0..12).map(|_| server.open(Client::raw())).collect();
    for client in &mut clients {
        client.send("x");
    }
    handler.calls_at_least(8);
    // A round over the other side of the server: what was to come would have come.
    server.rest("POST", "/api/hubs/chat/:send").text("y").expect(202);
    clients.iter_mut().for_each(|client| client.expect("y"));
    assert_eq!(handler.calls().len(), 8);
    gate.open();
    clients.iter_mut().for_each(|client| client.expect("x"));
    assert_eq!(handler.calls().len(), 12);
}

#[test]
fn events_over_the_bound_of_the_queue_fail_at_once() {
    let (handler, gate) = gated(|_| true, |call| Answer::text(call.text()));
    let section = handler.section(&format!("{USER}{NO_RETRIES}concurrency_max = 1\nqueue_max = 2\n"));
    let server = server(&section);
    let mut first = server.connect(Client::json());
    first.send(&event_acked("e", "x", 1));
    handler.next();
    let mut clients: Vec<_> = (0..10).map(|_| server.connect(Client::json())).collect();
    for client in &mut clients {
        client.send(&event_acked("e", "x", 1));
    }
    // Two wait, eight are told at once.
    wait_until("eight fail", || {
        server.metric_of("ringhub_upstream_events_total", &["outcome=\"overloaded\""]) >= 8
    });
    gate.open();
    let mut served = 0;
    for client in &mut clients {
        let text = client.next_text();
        if text.contains(r#""from":"server""#) {
            client.expect_ack(1);
            served += 1;
        } else {
            assert!(text.contains(r#""success":false,"error":{"name":"InternalServerError""#), "{text}");
        }
    }
    assert_eq!(served, 2);
    first.expect_server_text("x");
    first.expect_ack(1);
}

/// Bytes are counted apart: a few large events are as bad as many small ones.
#[test]
fn events_over_the_bytes_of_the_queue_fail_at_once() {
    let (handler, gate) = patient();
    let section =
        handler.section(&format!("{USER}{NO_RETRIES}concurrency_max = 1\nqueue_bytes_max = 1024\n"));
    let server = server(&section);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect(Client::json())).collect();
    clients[0].send(&event_acked("e", "wait", 1));
    handler.next();
    clients[1].send(&event_acked("e", &"x".repeat(1025), 1));
    clients[1].expect_failed_ack(1, "InternalServerError");
    clients[2].send(&event_acked("e", &"x".repeat(1024), 1));
    gate.open();
    clients[0].expect_server_text("wait");
    clients[0].expect_ack(1);
    clients[2].expect_server_text(&"x".repeat(1024));
    clients[2].expect_ack(1);
}

/// Where there is no handler for it, an event costs nobody else's order.
#[test]
fn pings_and_joins_go_on_without_a_handler() {
    let handler = agreeable();
    let server = server_of(&handler, "user_event_pattern = \"other\"\n");
    let mut alice = server.connect(Client::json().may_all());
    alice.send(&event_acked("e", "x", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    alice.join("g");
    alice.expect_silence();
    assert!(handler.calls().is_empty());
}
