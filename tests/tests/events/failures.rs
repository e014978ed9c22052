//! What each kind of client sees of a handler that fails (§5).

use ringhub_tests::{Answer, Client, Handler, wait_until};
use tungstenite::Message;

use super::{NO_RETRIES, USER, agreeable, event, event_acked, server, server_of};
use crate::formats::{PROTOBUF, field};

fn failing() -> Handler {
    Handler::start(|_| Answer::status(500).body("text/plain", "a secret of the handler"))
}

#[test]
fn a_raw_client_is_closed_with_1011() {
    let handler = failing();
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
    let mut raw = server.open(Client::raw());
    raw.send("x");
    assert!(!raw.expect_close(1011).contains("secret"));
    let mut raw = server.open(Client::raw());
    raw.send_binary(b"x");
    raw.expect_close(1011);
}

#[test]
fn an_ack_says_so_and_the_connection_stays() {
    let handler = failing();
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
    for client in [Client::json(), Client::reliable()] {
        let mut client = server.connect(client);
        client.send(&event_acked("e", "x", 1));
        assert!(!client.expect_failed_ack(1, "InternalServerError").contains("secret"));
        client.expect_silence();
    }
    let mut client = server.open(Client::raw().subprotocols(PROTOBUF));
    client.next_message();
    client.send_binary(&field(5, &[field(1, b"e"), field(2, &field(1, b"x")), vec![3 << 3, 1]].concat()));
    let Message::Binary(ack) = client.next_message() else { panic!("a binary frame") };
    // ack_message { ack_id: 1, error { name, … } }, without a true `success`.
    assert!(ack.windows(19).any(|window| window == b"InternalServerError"), "{ack:?}");
    assert!(!ack.windows(2).any(|window| window == [2 << 3, 1]), "{ack:?}");
}

#[test]
fn without_an_ack_id_it_is_the_operator_who_is_told() {
    let handler = failing();
    let mut server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
    let mut alice = server.connect(Client::json());
    alice.send(&event("vote", "x"));
    alice.expect_silence();
    let log = super::logged(&mut server, "event:vote");
    let line = log.lines().find(|line| line.contains("vote")).unwrap_or_else(|| panic!("nothing in {log}"));
    assert!(line.contains("500") && line.contains("chat"), "{line}");
}

/// What the service's pages document, for those who rely on it.
#[test]
fn without_an_ack_id_it_may_be_the_end() {
    let handler = failing();
    let config = format!(
        "[hubs.chat]\non_user_event_failure = \"close\"\n{}",
        handler.section(&format!("{USER}{NO_RETRIES}"))
    );
    let server = server(&config);
    let mut alice = server.connect(Client::json());
    // Who asked for an ack has been told.
    alice.send(&event_acked("e", "x", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    alice.expect_silence();
    alice.send(&event("e", "x"));
    let reason = alice.expect_disconnected(1011);
    assert!(!reason.is_empty() && !reason.contains("secret"), "{reason}");
    let mut reliable = server.connect(Client::reliable());
    let again = Client::reliable().recover(reliable.id(), reliable.token());
    reliable.send(&event("e", "x"));
    reliable.expect_goodbye(1011);
    wait_until("it is over", || {
        let closed = server.admin().http("GET", "/closed").expect(200);
        closed.text().contains("1011")
    });
    drop(again);
    let mut raw = server.open(Client::raw());
    raw.send("x");
    raw.expect_close(1011);
}

#[test]
fn an_event_no_handler_wants_fails_too() {
    let handler = agreeable();
    let server = server_of(&handler, "user_event_pattern = \"wanted\"\n");
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("unwanted", "x", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    alice.send(&event("unwanted", "x"));
    alice.send(&event_acked("wanted", "x", 2));
    alice.expect_ack(2);
    assert_eq!(handler.calls().len(), 1);
    let mut raw = server.open(Client::raw());
    raw.send("x");
    raw.expect_close(1011);
}

#[test]
fn every_status_but_2xx_is_a_failure() {
    for status in [100, 300, 301, 304, 307, 400, 401, 404, 429, 500, 503] {
        let handler = Handler::start(move |_| match status {
            // Nothing comes behind it.
            100 => Answer::raw("HTTP/1.1 100 Continue\r\n\r\n").then_close(),
            _ => Answer::status(status).header("Location", "/elsewhere"),
        });
        let server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
        let mut alice = server.connect(Client::json());
        alice.send(&event_acked("e", "x", 1));
        alice.expect_failed_ack(1, "InternalServerError");
        // Redirects are not followed: the request's bytes are for whom the operator named.
        assert_eq!(handler.calls().len(), 1, "{status}");
    }
}
