//! Requests of JSON clients against `vectors/json/*.txt`: a request on one line, what it reads as on the next.

mod common;

use ringhub_protocol::pubsub::json;

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

fn check(vectors: &str) {
    for (request, expected) in common::pairs(vectors) {
        assert_eq!(common::describe(json::parse(request)), expected, "{request}");
    }
}
