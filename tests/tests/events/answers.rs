//! What a handler answers to a user event, and how each kind of client is told (§4.5).

use ringhub_tests::{Answer, Client};
use serde_json::json;
use tungstenite::Message;

use super::{NO_RETRIES, USER, changeable, event, event_acked, server_of};
use crate::formats::{PROTOBUF, RELIABLE, ack, field};

/// Any { type_url: "t", value: "v" }, and in base64.
const ANY: (&[u8], &str) = (b"\x0a\x01t\x12\x01v", "CgF0EgF2");

/// Answer; a raw client's frame; a JSON client's `dataType` and `data`; a protobuf client's `MessageData`.
fn answers() -> Vec<(Answer, Message, &'static str, Vec<u8>)> {
    let ok = |content_type: &str, body: &[u8]| Answer::status(200).body(content_type, body);
    let bytes = [0, 1, 255];
    vec![
        (
            Answer::text("ü\""),
            Message::text("ü\""),
            r#""dataType":"text","data":"ü\"""#,
            field(1, "ü\"".as_bytes()),
        ),
        (ok("TEXT/PLAIN", b"x"), Message::text("x"), r#""dataType":"text","data":"x""#, field(1, b"x")),
        (
            Answer::json(r#"{"b": 1.0}"#),
            Message::text(r#"{"b": 1.0}"#),
            r#""dataType":"json","data":{"b": 1.0}"#,
            field(4, br#"{"b": 1.0}"#),
        ),
        (
            ok("application/json", b"\"text\""),
            Message::text("\"text\""),
            r#""dataType":"json","data":"text""#,
            field(4, b"\"text\""),
        ),
        (
            Answer::binary(&bytes),
            Message::binary(bytes.to_vec()),
            r#""dataType":"binary","data":"AAH/""#,
            field(2, &bytes),
        ),
        (
            Answer::status(201).untyped_body(bytes),
            Message::binary(bytes.to_vec()),
            r#""dataType":"binary","data":"AAH/""#,
            field(2, &bytes),
        ),
        (
            ok("application/x-protobuf", ANY.0),
            Message::binary(ANY.0.to_vec()),
            r#""dataType":"protobuf","data":"CgF0EgF2""#,
            field(3, ANY.0),
        ),
    ]
}

#[test]
fn an_answer_with_a_body_is_a_message_of_the_server_before_the_ack() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, USER);
    let mut raw = server.open(Client::raw());
    let mut json = server.connect(Client::json());
    let mut reliable = server.connect(Client::reliable());
    let protobufs = [PROTOBUF, RELIABLE];
    let mut protobufs = protobufs.map(|name| server.open(Client::raw().subprotocols(name)));
    for client in &mut protobufs {
        client.next_message();
    }
    for (n, (next, frame, data, message_data)) in (1..).zip(answers()) {
        println!("{next:?}");
        answer(next);
        raw.send("x");
        assert_eq!(raw.next_message(), frame);
        json.send(&event_acked("e", "x", n));
        json.expect(&format!(r#"{{"type":"message","from":"server",{data}}}"#));
        json.expect_ack(n);
        json.send(&event("e", "x"));
        json.expect(&format!(r#"{{"type":"message","from":"server",{data}}}"#));
        reliable.send(&event_acked("e", "x", n));
        reliable.expect(&format!(r#"{{"type":"message","from":"server",{data},"sequenceId":{n}}}"#));
        reliable.expect_ack(n);
        for (at, client) in protobufs.iter_mut().enumerate() {
            let data = field(2, &field(1, b"x"));
            client.send_binary(&field(5, &[field(1, b"e"), data, vec![3 << 3, n as u8]].concat()));
            let id = if at == 1 { vec![4 << 3, n as u8] } else { Vec::new() };
            client.expect_binary(&field(2, &[field(1, b"server"), field(3, &message_data), id].concat()));
            client.expect_binary(&ack(n as u8));
        }
    }
    raw.expect_silence();
    json.expect_silence();
}

/// Whatever type an empty body claims to have, it says nothing.
#[test]
fn an_empty_answer_is_an_ack_and_no_message() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, USER);
    let mut raw = server.open(Client::raw());
    let mut json = server.connect(Client::json());
    for (n, next) in (1..).zip([
        Answer::no_content(),
        Answer::status(200),
        Answer::status(202),
        Answer::text(""),
        Answer::json(""),
        Answer::binary(b""),
        Answer::status(200).header("Content-Type", "image/png"),
        Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ]) {
        println!("{next:?}");
        answer(next);
        json.send(&event_acked("e", "x", n));
        json.expect_ack(n);
        raw.send("x");
        handler.calls_at_least(2 * n as usize);
        raw.expect_silence();
    }
}

#[test]
fn an_answer_may_come_in_pieces() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, USER);
    let mut raw = server.open(Client::raw());
    for pieces in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        answer(Answer::raw(pieces));
        raw.send("x");
        raw.expect("abc");
    }
    // Until the end of the connection, as HTTP/1.0 did.
    answer(Answer::raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nabc").then_close());
    raw.send("x");
    raw.expect("abc");
    raw.send("x");
    raw.expect("abc");
}

#[test]
fn metadata_comes_back_with_the_answer() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, USER);
    let mut json = server.connect(Client::json());
    let mut raw = server.open(Client::raw());
    let mut protobuf = server.open(Client::raw().subprotocols(PROTOBUF));
    protobuf.next_message();
    let mut told = |next: Answer, expected: &str| {
        answer(next);
        json.send(&event("e", "x"));
        json.expect(&format!(r#"{{"type":"message","from":"server",{expected}}}"#));
    };
    told(
        Answer::text("x").header("X-WebPubSub-Metadata-Trace", "a, b").header("x-webpubsub-metadata-n", "1"),
        r#""dataType":"text","data":"x","metadata":{"trace":"b","n":"1"}"#,
    );
    // Nothing but metadata is an empty text (§4.5), which is a message.
    let only = Answer::no_content().header("X-WebPubSub-Metadata-Only", "this");
    told(only.clone(), r#""dataType":"text","data":"","metadata":{"only":"this"}"#);
    answer(only);
    raw.send("x");
    raw.expect("");
    let data = field(2, &field(1, b"x"));
    protobuf.send_binary(&field(5, &[field(1, b"e"), data].concat()));
    let metadata = field(5, &[field(1, b"only"), field(2, b"this")].concat());
    protobuf.expect_binary(&field(2, &[field(1, b"server"), field(3, &field(1, b"")), metadata].concat()));
}

/// Types that no client knows, and bodies that are not what their type says.
#[test]
fn an_answer_nobody_can_be_told_is_a_failure() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
    let mut json = server.connect(Client::json());
    let ok = |content_type: &str, body: &[u8]| Answer::status(200).body(content_type, body);
    for (n, bad) in (1..).zip([
        ok("text/html", b"<p>"),
        ok("application/problem+json", b"{}"),
        ok("image/png", b"x"),
        ok("text/plain", b"\xff"),
        ok("application/json", b"{"),
        ok("application/json", b"{} {}"),
        Answer::text("x").header("X-WebPubSub-Metadata-A", &"v".repeat(1025)),
    ]) {
        println!("{bad:?}");
        answer(bad.clone());
        json.send(&event_acked("e", "x", n));
        json.expect_failed_ack(n, "InternalServerError");
        let mut raw = server.open(Client::raw());
        raw.send("x");
        raw.expect_close(1011);
    }
    assert_eq!(handler.calls().len(), 2 * 7);
    answer(Answer::json(&json!({ "fine": true }).to_string()));
    json.send(&event("e", "x"));
    json.expect(r#"{"type":"message","from":"server","dataType":"json","data":{"fine":true}}"#);
}
