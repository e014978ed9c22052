//! `invoke`: a question of a client and the handler's answer to it (§5.1, `client-protocols` §3.6).

use ringhub_tests::{Answer, Client, Connection, Handler, wait_until};
use tungstenite::Message;

use super::{ALL, NO_RETRIES, USER, agreeable, changeable, event_acked, gated, server_of};
use crate::formats::{PROTOBUF, field};

fn invoke(client: &mut Connection, id: &str, rest: &str) {
    client.send(&format!(r#"{{"type":"invoke","invocationId":"{id}","target":"event",{rest}}}"#));
}

fn expect_success(client: &mut Connection, id: &str, rest: &str) {
    client.expect(&format!(r#"{{"type":"invokeResponse","invocationId":"{id}","success":true{rest}}}"#));
}

#[track_caller]
fn expect_failure(client: &mut Connection, id: &str, name: &str) -> String {
    let text = client.next_text();
    let head = format!(
        r#"{{"type":"invokeResponse","invocationId":"{id}","success":false,"error":{{"name":"{name}","message":""#
    );
    let message = text.strip_prefix(&head).and_then(|rest| rest.strip_suffix(r#""}}"#));
    message.unwrap_or_else(|| panic!("expected {head}…, got {text}")).to_owned()
}

#[test]
fn the_handlers_answer_is_the_response() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, USER);
    for client in [Client::json(), Client::reliable()] {
        let mut client = server.connect(client.user("u"));
        for (next, data) in [
            (Answer::text("ü"), r#","dataType":"text","data":"ü""#),
            (Answer::json(r#"{"b": 1.0}"#), r#","dataType":"json","data":{"b": 1.0}"#),
            (Answer::binary(&[0, 255]), r#","dataType":"binary","data":"AP8=""#),
            (
                Answer::status(200).body("application/x-protobuf", b"\x0a\x01t"),
                r#","dataType":"protobuf","data":"CgF0""#,
            ),
        ] {
            println!("{next:?}");
            answer(next);
            invoke(&mut client, "a\\\"1", r#""event":"ask","dataType":"json","data":{"q":1}"#);
            expect_success(&mut client, "a\\\"1", data);
        }
        client.expect_silence();
    }
    let calls = handler.calls();
    assert_eq!(calls.len(), 8);
    for call in calls {
        assert_eq!(call.header("ce-type"), Some("azure.webpubsub.user.ask"));
        assert_eq!(call.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(call.text(), r#"{"q":1}"#);
    }
}

/// The released client needs no data in a response, and one without data is how nothing is said.
#[test]
fn an_empty_answer_is_a_response_without_data() {
    let handler = agreeable();
    let server = server_of(&handler, USER);
    let mut client = server.connect(Client::json());
    invoke(&mut client, "1", r#""event":"ask","dataType":"text","data":"x""#);
    let text = client.next_text();
    assert!(text.starts_with(r#"{"type":"invokeResponse","invocationId":"1","success":true"#), "{text}");
    client.expect_silence();
}

#[test]
fn every_failure_has_its_name() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}timeout_seconds = 1\n"));
    let mut client = server.connect(Client::json());
    for (n, (next, name)) in [
        (Answer::status(400), "BadRequest"),
        (Answer::status(401), "Forbidden"),
        (Answer::status(403), "Forbidden"),
        (Answer::status(404), "NotFound"),
        (Answer::status(408), "Timeout"),
        (Answer::status(504), "Timeout"),
        (Answer::status(409), "InternalServerError"),
        (Answer::status(500).body("text/plain", "a secret of the handler"), "InternalServerError"),
        (Answer::status(302).header("Location", "/"), "InternalServerError"),
        (Answer::reset(), "InternalServerError"),
        (Answer::json("{"), "InternalServerError"),
        (Answer::never(), "Timeout"),
    ]
    .into_iter()
    .enumerate()
    {
        println!("{next:?}");
        answer(next);
        invoke(&mut client, &n.to_string(), r#""event":"ask","dataType":"text","data":"x""#);
        assert!(!expect_failure(&mut client, &n.to_string(), name).contains("secret"));
    }
    answer(Answer::text("fine"));
    invoke(&mut client, "last", r#""event":"ask","dataType":"text","data":"x""#);
    expect_success(&mut client, "last", r#","dataType":"text","data":"fine""#);
}

#[test]
fn without_a_handler_it_is_not_found() {
    let handler = agreeable();
    let server = server_of(&handler, "user_event_pattern = \"other\"\n");
    let mut client = server.connect(Client::json());
    invoke(&mut client, "1", r#""event":"ask","dataType":"text","data":"x""#);
    expect_failure(&mut client, "1", "NotFound");
    assert!(handler.calls().is_empty());
}

/// The answer is nobody's any more, so the request is given up, and the next event goes on.
#[test]
fn a_cancelled_invocation_gives_up_its_request() {
    let handler =
        Handler::start(|call| if call.text() == "wait" { Answer::never() } else { Answer::text("next") });
    let server = server_of(&handler, USER);
    let mut client = server.connect(Client::json());
    invoke(&mut client, "1", r#""event":"ask","dataType":"text","data":"wait""#);
    let call = handler.next();
    client.send(r#"{"type":"cancelInvocation","invocationId":"another"}"#);
    client.send(r#"{"type":"cancelInvocation","invocationId":"1"}"#);
    handler.expect_hang_up(call.connection);
    invoke(&mut client, "2", r#""event":"ask","dataType":"text","data":"x""#);
    expect_success(&mut client, "2", r#","dataType":"text","data":"next""#);
    client.expect_silence();
}

/// One that still waits behind another event is never sent.
#[test]
fn an_invocation_that_waits_can_be_cancelled_too() {
    let (handler, gate) = gated(|call| call.text() == "wait", |call| Answer::text(call.text()));
    let server = server_of(&handler, USER);
    let mut client = server.connect(Client::json());
    client.send(&event_acked("e", "wait", 1));
    handler.next();
    invoke(&mut client, "1", r#""event":"ask","dataType":"text","data":"cancelled""#);
    client.send(r#"{"type":"cancelInvocation","invocationId":"1"}"#);
    client.send(&event_acked("e", "behind", 2));
    gate.open();
    client.expect_server_text("wait");
    client.expect_ack(1);
    client.expect_server_text("behind");
    client.expect_ack(2);
    assert_eq!(handler.calls().len(), 2);
}

/// What a client asked before it left is asked to the end, like its other events; then its end is told.
#[test]
fn the_end_of_a_client_is_told_behind_its_invocation() {
    let (handler, gate) = gated(|call| call.event() == "ask", |_| Answer::no_content());
    let server = server_of(&handler, ALL);
    let mut client = server.connect(Client::json());
    invoke(&mut client, "1", r#""event":"ask","dataType":"text","data":"x""#);
    let id = handler.next_of("ask").id();
    client.cut();
    wait_until("it is gone", || server.metric("ringhub_connections") == 0);
    assert!(handler.calls().iter().all(|call| call.event() != "disconnected"));
    gate.open();
    assert_eq!(handler.next_of("disconnected").id(), id + 1);
}

#[test]
fn only_events_can_be_invoked() {
    let handler = Handler::start(|_| Answer::text("x"));
    let server = server_of(&handler, USER);
    let mut client = server.connect(Client::json());
    client.send(
        r#"{"type":"invoke","invocationId":"1","target":"group","event":"ask","dataType":"text","data":"x"}"#,
    );
    let answer = client.next_text();
    assert!(
        answer.contains(r#""invocationId":"1","success":false,"error":{"name":"BadRequest""#),
        "{answer}"
    );
    assert!(handler.calls().is_empty());
    client.expect_silence();
}

#[test]
fn protobuf_clients_invoke_too() {
    let (handler, answer) = changeable(Answer::text("yes"));
    let server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
    let mut client = server.open(Client::raw().subprotocols(PROTOBUF));
    client.next_message();
    // invoke_event_message { event, invocation_id, data }
    let ask = field(10, &[field(1, b"ask"), field(2, b"7"), field(3, &field(1, b"?"))].concat());
    client.send_binary(&ask);
    // invoke_response_message { invocation_id, success, data }
    let data = field(3, &field(1, b"yes"));
    client.expect_binary(&field(5, &[field(1, b"7"), vec![2 << 3, 1], data].concat()));
    assert_eq!(handler.next().text(), "?");
    answer(Answer::status(404));
    client.send_binary(&ask);
    let Message::Binary(failed) = client.next_message() else { panic!("a binary frame") };
    assert!(failed.windows(8).any(|window| window == b"NotFound"), "{failed:?}");
}
