//! Requests of JSON clients against `vectors/json/*.txt`: a request on one line, what it reads as on the next.

mod common;

use ringhub_protocol::pubsub::json::{self, CLIENT_ID_BYTES_MAX};
use ringhub_protocol::ws::CloseCode;

#[test]
fn requests_of_clients() {
    check(include_str!("vectors/json/requests.txt"));
}

#[test]
fn numbers() {
    check(include_str!("vectors/json/numbers.txt"));
}

#[test]
fn strings() {
    check(include_str!("vectors/json/strings.txt"));
}

#[test]
fn what_is_refused() {
    check(include_str!("vectors/json/refused.txt"));
}

/// Ids that clients choose are kept, and sent back.
#[test]
fn ids_of_clients_have_a_bound() {
    let invoke = |bytes: usize| {
        format!(r#"{{"type":"invoke","invocationId":"{}","event":"a","data":1}}"#, "i".repeat(bytes))
    };
    assert!(json::parse(&invoke(CLIENT_ID_BYTES_MAX)).is_ok());
    let fault = json::parse(&invoke(CLIENT_ID_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(fault.code, CloseCode::INVALID_PAYLOAD);
    assert_eq!(fault.reason, "This message needs 'invocationId', a string of 1 to 1024 bytes.");
}

fn check(vectors: &str) {
    for (request, expected) in common::pairs(vectors) {
        assert_eq!(common::describe(json::parse(request)), expected, "{request}");
    }
}
