//! What is tried again, how often and when (§5).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringhub_tests::{Answer, Call, Client, Handler, wait_until};

use super::{ALL, CONNECT, USER, event, event_acked, server_of};

/// Answers the n-th request with the n-th answer, all further ones with 200 `done`.
fn answering(answers: Vec<Answer>) -> Handler {
    let at = AtomicUsize::new(0);
    Handler::start(move |_| {
        let at = at.fetch_add(1, Ordering::SeqCst);
        answers.get(at).cloned().unwrap_or_else(|| Answer::text("done"))
    })
}

/// A call without what may differ between attempts.
fn content(call: &Call) -> (String, String, Vec<(String, String)>, Vec<u8>) {
    (call.method.clone(), call.target.clone(), call.headers.clone(), call.body.clone())
}

#[test]
fn what_fails_for_a_moment_is_tried_again_unseen() {
    let handler = answering(vec![Answer::status(500), Answer::status(503)]);
    let server = server_of(&handler, &format!("{USER}retry_delays_seconds = [1, 1]\n"));
    let mut alice = server.connect(Client::json().user("alice"));
    let started = Instant::now();
    alice.send(&event_acked("e", "x", 1));
    alice.expect_server_text("done");
    alice.expect_ack(1);
    alice.expect_silence();
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    let calls = handler.calls();
    assert_eq!(calls.len(), 3);
    // The same event: id, time, everything.
    assert!(calls.iter().all(|call| content(call) == content(&calls[0])), "{calls:#?}");
}

#[test]
fn the_delays_are_one_three_and_five_seconds() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&times);
    let handler = Handler::start(move |_| {
        record.lock().expect("no test panics here").push(Instant::now());
        Answer::status(500)
    });
    let server = server_of(&handler, USER);
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "x", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    let times = times.lock().expect("no test panics here").clone();
    let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    assert_eq!(waits.len(), 3, "{waits:?}");
    // A loaded machine may be late, it is never early.
    for (wait, expected) in waits.iter().zip([1.0, 3.0, 5.0]) {
        assert!((expected - 0.05..expected + 2.0).contains(wait), "{waits:?}");
    }
}

#[test]
fn only_what_may_pass_is_tried_again() {
    for (answer, attempts) in [
        (Answer::status(408), 2),
        (Answer::status(500), 2),
        (Answer::status(502), 2),
        (Answer::status(599), 2),
        (Answer::reset(), 2),
        (Answer::raw("").then_close(), 2),
        (Answer::status(400), 1),
        (Answer::status(401), 1),
        (Answer::status(404), 1),
        (Answer::status(429), 1),
        (Answer::status(301).header("Location", "/"), 1),
        (Answer::text("x").header("ce-connectionState", &"s".repeat(10_000)), 1),
        (Answer::status(200).body("text/html", "x"), 1),
        (Answer::never(), 1),
    ] {
        println!("{answer:?}");
        let handler = Handler::start(move |_| answer.clone());
        let server = server_of(&handler, &format!("{USER}retry_delays_seconds = [1]\ntimeout_seconds = 3\n"));
        let mut alice = server.connect(Client::json());
        alice.send(&event_acked("e", "x", 1));
        alice.expect_failed_ack(1, "InternalServerError");
        assert_eq!(handler.calls().len(), attempts);
    }
}

/// The limit is for all attempts together.
#[test]
fn attempts_share_their_time() {
    let handler = Handler::start(|_| Answer::status(500));
    let keys = format!("{USER}retry_delays_seconds = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\ntimeout_seconds = 2\n");
    let server = server_of(&handler, &keys);
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "x", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    assert!(handler.calls().len() <= 3, "{}", handler.calls().len());
}

#[test]
fn connect_and_what_nobody_waits_for_are_tried_again_too() {
    let failed = Mutex::new(std::collections::BTreeSet::new());
    let handler = Handler::start(move |call| {
        let first = failed.lock().expect("no test panics here").insert(call.event().to_owned());
        if first { Answer::status(503) } else { Answer::no_content() }
    });
    let server = server_of(&handler, &format!("{ALL}retry_delays_seconds = [1]\n"));
    server.connect(Client::json()).close(1000);
    super::expect_told(
        &handler,
        &["connect/0", "connect/0", "connected/1", "connected/1", "disconnected/2", "disconnected/2"],
    );
}

/// A handler that is restarted while events are on their way: within the time of the retries, nothing is lost.
#[test]
fn a_handler_that_is_restarted_in_time_hears_everything() {
    let handler = Handler::start(|call| Answer::text(call.text()));
    let server = server_of(&handler, &format!("{USER}retry_delays_seconds = [1, 1, 1, 1]\n"));
    let mut clients: Vec<_> = (0..10).map(|_| server.connect(Client::json())).collect();
    for client in &mut clients {
        client.send(&event("e", "before"));
        client.expect_server_text("before");
    }
    handler.kill();
    for client in &mut clients {
        for n in 0..5 {
            client.send(&event_acked("e", &n.to_string(), n));
        }
    }
    wait_until("all of them wait for another attempt", || {
        server.metric_of("ringhub_upstream_queued", &["hub=\"chat\""]) >= 10
    });
    handler.restart();
    for client in &mut clients {
        for n in 0..5 {
            client.expect_server_text(&n.to_string());
            client.expect_ack(n);
        }
    }
}

#[test]
fn connect_waits_for_the_retries_and_no_longer_than_it_may() {
    let handler = answering(vec![Answer::status(500)]);
    let server = server_of(&handler, &format!("{CONNECT}retry_delays_seconds = [1]\n"));
    // 200 `done` is no JSON.
    server.refuse(Client::json(), 500);
    assert_eq!(handler.calls().len(), 2);
    server.refuse(Client::json(), 500);
    assert_eq!(handler.calls().len(), 3);
}
