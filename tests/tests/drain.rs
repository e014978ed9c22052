//! Leaving without a stampede and with nothing lost: `POST /drain`, SIGTERM, `ringhub drain` (reliability check 50).
//!
//! A reliable client that does not read holds a drain open for as long as a test wants: it cannot be closed without
//! losing what it is still to be sent.

use std::time::{Duration, Instant};

use ringhub_tests::{Client, Connection, DEADLINE, History, Process, Server, ringhub, wait_until};
use serde_json::Value;

use crate::reliable::numbered;

/// Far longer than any test: a drain does not end because its window is over.
const HOUR: &str = "[server]\ndrain_seconds = 3600\n";

/// How much more than the kernel's buffers and the socket's own queue hold.
const MESSAGES: u64 = 160;

fn text() -> String {
    "x".repeat(64 * 1024)
}

/// A reliable client of group `g` that is so far behind that it cannot be let go.
fn stalled(server: &Server) -> Connection {
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let stalled = server.connect_narrow(Client::reliable().group("g"));
    for _ in 0..MESSAGES {
        sender.publish_acked("g", &text());
    }
    sender.close(1000);
    stalled
}

/// What a client is sent until the server says goodbye to it.
fn texts_up_to_goodbye(client: &mut Connection) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let text = client.next_text();
        if text.starts_with(r#"{"type":"system""#) {
            client.expect_close(1001);
            return texts;
        }
        texts.push(text);
    }
}

fn progress(server: &Server) -> serde_json::Map<String, Value> {
    server.admin().http("GET", "/drain").expect(200).object()
}

#[test]
fn a_draining_server_takes_nobody_new_and_serves_who_is_there() {
    let mut server = Server::with(|setup| setup.cores(2).config(HOUR));
    let mut holder = stalled(&server);
    let mut kept_alive = server.raw();
    server.rest("HEAD", "/api/hubs/chat/groups/g").expect_on(&mut kept_alive, 200);
    let mut half_open = server.raw();
    half_open.write("GET /api/hea");
    assert_eq!(progress(&server)["draining"], false);
    assert_eq!(server.admin().http("POST", "/drain").expect(202).object()["draining"], true);

    server.admin().http("GET", "/readyz").expect(503);
    server.admin().http("GET", "/healthz").expect(200);
    server.http("GET", "/api/health").expect(503);
    let refused = server.refuse(Client::json(), 503);
    assert_eq!(refused.header("retry-after"), Some("1"), "{refused:?}");
    refused.expect_error("Error.ServiceUnavailable");
    // Calls are answered, for clients that are still there; each answer ends its connection.
    let send = server.rest("POST", "/api/hubs/chat/groups/g/:send").text("last words");
    let sent = send.expect_on(&mut kept_alive, 202);
    assert_eq!(sent.header("connection"), Some("close"), "{sent:?}");
    kept_alive.expect_end();
    half_open.write("lth HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(half_open.read_response().status, 503);

    // It goes on for as long as somebody is behind, and asking again changes nothing.
    server.admin().http("POST", "/drain").expect(202);
    let far = progress(&server);
    assert_eq!((&far["connections"], &far["connectionsLeft"]), (&1.into(), &1.into()), "{far:?}");
    wait_until("the metric says it", || server.metric("ringhub_draining") == 1);
    // Whoever was behind gets everything, then the goodbye.
    for n in 1..=MESSAGES {
        holder.expect(&numbered(n, &text()));
    }
    let last = holder.next_text();
    assert!(last.contains("last words"), "{last}");
    holder.expect_goodbye(1001);
    assert_eq!(server.process().wait().code(), Some(0));
    let log = server.process().log();
    assert!(log.contains("draining: 1 connections are closed over at most 3600 s"), "{log}");
    assert!(log.contains("drained in"), "{log}");
}

/// Nobody is closed earlier than its turn, however fast the machine; how much later depends on it.
#[test]
fn closes_are_spread_and_progress_is_shown() {
    const CLIENTS: usize = 30;
    let mut server = Server::with(|setup| setup.config(HOUR));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect(Client::json())).collect();
    let began = Instant::now();
    server.process().signal("TERM");
    wait_until("some are closed and some are not", || {
        let left = progress(&server)["connectionsLeft"].as_u64().expect("a number");
        0 < left && left < CLIENTS as u64
    });
    for client in &mut clients {
        client.expect_goodbye(1001);
    }
    // The last of them is closed in the last tenth of three seconds.
    assert!(began.elapsed() >= Duration::from_millis(2800), "{:?}", began.elapsed());
    assert_eq!(server.process().wait().code(), Some(0));
    let log = server.process().log();
    assert!(log.contains(&format!("of {CLIENTS} connections left")), "{log}");
}

/// Its goodbye stood behind what it had not taken yet, and was cut by the close deadline whatever the window.
#[test]
fn a_plain_client_that_is_behind_gets_everything_and_then_its_goodbye() {
    let limits = format!("[limits]\noutbox_bytes_max = {}\nclose_deadline_seconds = 1\n", 64 << 20);
    let mut server = Server::with(|setup| setup.config(&format!("{HOUR}{limits}")));
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut behind = server.connect_narrow(Client::json().group("g"));
    for _ in 0..MESSAGES {
        sender.publish_acked("g", &text());
    }
    server.process().signal("TERM");
    sender.expect_goodbye(1001);
    wait_until("it has had longer than a close may take", || {
        progress(&server)["elapsedSeconds"].as_u64() >= Some(3)
    });
    assert_eq!(progress(&server)["connectionsLeft"], 1);
    for _ in 0..MESSAGES {
        behind.expect_group_text("g", None, &text());
    }
    behind.expect_goodbye(1001);
    assert_eq!(server.process().wait().code(), Some(0));
}

/// With more clients than the slowest pace serves, the window decides: in no part of it are more closed than belong there.
/// Somebody who neither reads nor answers the goodbye is not waited for any longer than it and the stop last, here by
/// the deadline of [`Process::wait`].
#[test]
fn closes_keep_the_pace_of_their_window_and_nobody_holds_it_up() {
    const CLIENTS: usize = 60;
    const WINDOW: Duration = Duration::from_secs(3);
    let config =
        "[server]\ndrain_seconds = 3\n[limits]\nstop_deadline_seconds = 1\nclose_deadline_seconds = 3600\n";
    let mut server = Server::with(|setup| setup.config(config));
    let deaf = server.connect_narrow(Client::json().group("deaf"));
    let mut clients: Vec<_> = (1..CLIENTS).map(|_| server.connect(Client::json())).collect();
    let send = server.rest("POST", "/api/hubs/chat/groups/deaf/:send").text(&"x".repeat(500_000));
    wait_until("something waits for the deaf one", || {
        send.expect(202);
        server.metric("ringhub_outbox_bytes") > 0
    });
    let began = Instant::now();
    server.process().signal("TERM");
    // The deaf one is passed over, as long as something waits for it.
    for (number, client) in (0..).zip(&mut clients) {
        client.expect_goodbye(1001);
        let turn = WINDOW * number / CLIENTS as u32;
        assert!(began.elapsed() + Duration::from_millis(5) >= turn, "{number}: {:?}", began.elapsed());
    }
    assert_eq!(server.process().wait().code(), Some(0));
    drop(deaf);
}

/// Check 50's history: under load of clients and of REST each client has, of each publisher, a prefix of what was sent,
/// with no gap and nothing twice, and all that was answered by REST while nobody had been closed yet.
#[test]
fn reliable_clients_lose_and_double_nothing_up_to_their_goodbye() {
    const BEFORE: usize = 10;
    const PUBLISHERS: usize = 4;
    let mut server = Server::with(|setup| setup.cores(2).config(HOUR));
    let mut holder = stalled(&server);
    let mut history = History::new();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect(Client::reliable().group("h"))).collect();
    (0..clients.len()).for_each(|client| history.joined(client));
    let publisher = |number| (number, server.connect(Client::json().role("webpubsub.sendToGroup")));
    let mut publishers: Vec<(usize, Connection)> = (1..=PUBLISHERS).map(publisher).collect();
    let everybody = 1 + clients.len() + publishers.len();
    let endpoint = (*server).clone();
    let mut round = |history: &mut History| {
        let call = endpoint.rest("POST", "/api/hubs/chat/groups/h/:send");
        call.text(&history.publish(0)).expect(202);
        history.acknowledged(0);
        publishers.retain_mut(|(number, publisher)| {
            let is_taken = publisher.try_publish_acked("h", &history.publish(*number));
            if is_taken {
                history.acknowledged(*number);
            }
            is_taken
        });
    };
    (0..BEFORE).for_each(|_| round(&mut history));
    server.process().signal("TERM");
    let patience = Instant::now() + DEADLINE;
    // Rounds that everybody was still there for.
    let mut rounds = BEFORE;
    // Each reads all the while: one that does not may be so far behind when its turn comes that it cannot be let go.
    let received: Vec<Vec<String>> = std::thread::scope(|scope| {
        let readers: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(|| texts_up_to_goodbye(client))).collect();
        loop {
            round(&mut history);
            let left = progress(&server)["connectionsLeft"].clone();
            rounds += usize::from(left == everybody);
            if left == 1 {
                break;
            }
            assert!(Instant::now() < patience, "{left} are left");
        }
        readers.into_iter().map(|reader| reader.join().expect("it has said why")).collect()
    });
    for (number, texts) in received.iter().enumerate() {
        // Every core has handled what is answered 202; a client's ack says that of its own core only.
        let of_calls = texts.iter().filter(|text| history.receive(number, text).0 == 0).count();
        assert!(of_calls >= rounds, "{of_calls} messages of {rounds} rounds");
        history.left(number);
    }
    history.check();
    for n in 1..=MESSAGES {
        holder.expect(&numbered(n, &text()));
    }
    holder.expect_goodbye(1001);
    assert_eq!(server.process().wait().code(), Some(0));
}

/// What a session keeps is to be had here only, so the server waits for its client, and takes it in.
#[test]
fn a_client_that_lost_its_socket_comes_back_for_its_messages_during_a_drain() {
    for cores in [1, 2] {
        let mut server = Server::with(|setup| setup.cores(cores).config(HOUR));
        let mut alice = server.connect(Client::reliable().group("g"));
        let back = Client::reliable().recover(alice.id(), alice.token());
        let send = server.rest("POST", "/api/hubs/chat/groups/g/:send").text("kept");
        send.expect(202);
        assert!(alice.next_text().contains("kept"));
        alice.reset();
        send.expect(202);
        wait_until("its loss is known", || server.metric("ringhub_hub_suspended") == 1);
        server.process().signal("TERM");
        wait_until("it drains", || progress(&server)["draining"] == true);
        send.expect(202);
        let mut alice = server.connect(back.clone());
        for n in 1..=3 {
            let text = alice.next_text();
            assert!(text.contains("kept") && text.contains(&format!(r#""sequenceId":{n}"#)), "{text}");
        }
        alice.expect_goodbye(1001);
        assert_eq!(server.process().wait().code(), Some(0));
    }
}

/// A session that keeps nothing is not waited for: its client is told 1008 when it comes back, or finds nobody.
#[test]
fn nobody_waits_for_a_session_with_nothing_in_it() {
    let mut server = Server::with(|setup| setup.config(HOUR));
    let mut alice = server.connect(Client::reliable().group("g"));
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("1").expect(202);
    assert!(alice.next_text().contains("sequenceId"));
    alice.acknowledge(1);
    alice.reset();
    wait_until("its loss is known", || server.metric("ringhub_hub_suspended") == 1);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    for first in ["TERM", "INT"] {
        let mut server = Server::with(|setup| setup.config(HOUR));
        let _holder = stalled(&server);
        server.process().signal(first);
        wait_until("it drains", || progress(&server)["draining"] == true);
        server.process().signal("TERM");
        assert_eq!(server.process().wait().code(), Some(128 + 15));
    }
}

/// The first signal after `POST /drain` is no second one: whatever started the drain, people get to see its end.
#[test]
fn a_signal_joins_a_drain_that_was_asked_for() {
    let mut server = Server::with(|setup| setup.config(HOUR));
    let mut holder = stalled(&server);
    server.admin().http("POST", "/drain").expect(202);
    server.process().signal("TERM");
    for n in 1..=MESSAGES {
        holder.expect(&numbered(n, &text()));
    }
    holder.expect_goodbye(1001);
    assert_eq!(server.process().wait().code(), Some(0));
}

#[test]
fn a_window_of_nothing_closes_all_at_once() {
    let mut server = Server::with(|setup| setup.cores(2).config("[server]\ndrain_seconds = 0\n"));
    let mut clients: Vec<_> = (0..20).map(|_| server.connect(Client::json())).collect();
    server.process().signal("TERM");
    for client in &mut clients {
        client.expect_goodbye(1001);
    }
    assert_eq!(server.process().wait().code(), Some(0));
}

/// Who cannot go without a loss is cut when the window is over: an end is an end.
#[test]
fn a_window_that_is_over_ends_a_drain() {
    let config = "[server]\ndrain_seconds = 1\n[limits]\nstop_deadline_seconds = 1\n";
    let mut server = Server::with(|setup| setup.config(config));
    let mut holder = stalled(&server);
    assert_eq!(server.stop().code(), Some(0));
    holder.expect_thrown_out();
    let log = server.process().log();
    assert!(log.contains("draining is over with 1 connections left"), "{log}");
}

#[test]
fn the_verb_shows_a_drain_to_its_end() {
    let mut server = Server::with(|setup| setup.config(HOUR));
    let mut clients: Vec<_> = (0..15).map(|_| server.connect(Client::json())).collect();
    let admin = server.admin().addr.to_string();
    let mut verb = Process::spawn(&mut ringhub(["drain", "--admin", &admin]));
    for client in &mut clients {
        client.expect_goodbye(1001);
    }
    assert!(verb.wait().success(), "{}", verb.log());
    assert!(verb.log().contains("of 15 connections left"), "{}", verb.log());
    assert_eq!(server.process().wait().code(), Some(0));
    let mut again = Process::spawn(&mut ringhub(["drain", "--admin", &admin]));
    assert_eq!(again.wait().code(), Some(1));
    assert!(
        again.log().contains(&format!("cannot reach the admin listener at http://{admin}")),
        "{}",
        again.log()
    );
}
