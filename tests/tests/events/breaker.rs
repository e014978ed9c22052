//! A handler that fails again and again is given a rest, and asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringhub_tests::{Answer, Client, Handler, Server, wait_until};
use serde_json::Value;

use super::{NO_RETRIES, USER, event_acked, server_of};

/// The state that `/upstreams` and the metrics page show of the only handler.
fn state(server: &Server) -> String {
    let page = server.admin().http("GET", "/upstreams").expect(200);
    let page: Value = serde_json::from_str(page.text()).expect("JSON");
    let state = page["handlers"][0]["state"].as_str().expect("a state").to_owned();
    let label = format!("state=\"{state}\"");
    assert!(server.metric_of("ringhub_upstream_state", &["hub=\"chat\"", &label]) == 1);
    assert!(server.metric("ringhub_upstream_state") == 1, "in one state only");
    state
}

#[test]
fn it_opens_after_so_many_failures_fails_at_once_and_closes_again() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let handler = Handler::start(move |_| match is_well.load(Ordering::SeqCst) {
        true => Answer::no_content(),
        false => Answer::status(500),
    });
    let mut server = server_of(&handler, &format!("{USER}{NO_RETRIES}breaker_failures = 3\n"));
    let mut alice = server.connect(Client::json());
    let mut ack_id = 0;
    let mut send = || {
        ack_id += 1;
        alice.send(&event_acked("e", "x", ack_id));
        alice.next_text().contains(r#""success":true"#)
    };
    assert_eq!(state(&server), "working");
    for _ in 0..3 {
        assert!(!send());
    }
    assert_eq!(state(&server), "resting");
    // Nothing is asked now, and everything fails at once.
    assert!(!send());
    assert!(handler.calls().len() <= 4);
    well.store(true, Ordering::SeqCst);
    wait_until("it is asked again and well", &mut send);
    assert_eq!(state(&server), "working");
    let log = super::logged(&mut server, "the handler answers again");
    assert!(log.contains("the handler fails; its events fail at once"), "{log}");
}

#[test]
fn successes_in_between_keep_it_closed_and_zero_turns_it_off() {
    let handler = Handler::start(|call| match call.text() {
        "good" => Answer::no_content(),
        _ => Answer::status(500),
    });
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}breaker_failures = 3\n"));
    let mut alice = server.connect(Client::json());
    for (n, text) in (1..).zip(["bad", "bad", "good", "bad", "bad", "good"]) {
        alice.send(&event_acked("e", text, n));
        alice.next_text();
    }
    assert_eq!(state(&server), "working");
    assert_eq!(handler.calls().len(), 6);
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}breaker_failures = 0\n"));
    let mut alice = server.connect(Client::json());
    for n in 0..50 {
        alice.send(&event_acked("e", "bad", n));
        alice.expect_failed_ack(n, "InternalServerError");
    }
    assert_eq!(handler.calls().len(), 56);
}

/// What a handler refuses, it answered: that is not the trouble a rest is for.
#[test]
fn refusals_are_no_failures_of_the_handler() {
    let handler = Handler::start(|_| Answer::status(403));
    let server = server_of(
        &handler,
        &format!("{USER}{NO_RETRIES}system_events = [\"connect\"]\nbreaker_failures = 2\n"),
    );
    for _ in 0..6 {
        server.refuse(Client::json(), 403);
    }
    assert_eq!(state(&server), "working");
    assert_eq!(handler.calls().len(), 6);
}
