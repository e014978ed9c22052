//! Application servers: what they are told, and what comes of what they answer (`event-handlers`).

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use ringhub_tests::{Answer, Call, Gate, Handler, Server, wait_until};

mod answers;
mod auth;
mod breaker;
mod connect;
mod crowd;
mod elsewhere;
mod failures;
mod http2;
mod inspector;
mod invoke;
mod lifecycle;
mod listeners;
mod order;
mod presence;
mod requests;
mod retries;
mod routing;
mod stops;
mod trouble;
mod validation;

/// Every event but those of group presence.
const ALL: &str =
    "user_event_pattern = \"*\"\nsystem_events = [\"connect\", \"connected\", \"disconnected\"]\n";
/// Every event of clients.
const USER: &str = "user_event_pattern = \"*\"\n";
/// The blocking system event.
const CONNECT: &str = "system_events = [\"connect\"]\n";
/// What failed once has failed.
const NO_RETRIES: &str = "retry_delays_seconds = []\n";

/// A server with this configuration.
fn server(config: &str) -> Server {
    Server::with(|setup| setup.config(config))
}

/// A server whose hub `chat` has this handler, with these keys.
fn server_of(handler: &Handler, keys: &str) -> Server {
    server(&handler.section(keys))
}

/// A handler that says yes to everything and nothing more.
fn agreeable() -> Handler {
    Handler::start(|_| Answer::no_content())
}

/// A handler that answers everything with what the second part was last given.
fn changeable(first: Answer) -> (Handler, impl Fn(Answer)) {
    let answer = Arc::new(Mutex::new(first));
    let shared = Arc::clone(&answer);
    let handler = Handler::start(move |_| shared.lock().expect("no test panics here").clone());
    (handler, move |next| *answer.lock().expect("no test panics here") = next)
}

/// A handler that answers `connect` with this, and everything else with nothing.
fn connecting(answer: Answer) -> Handler {
    Handler::start(move |call| if call.event() == "connect" { answer.clone() } else { Answer::no_content() })
}

/// A handler that answers so, but not before the gate is open where `waits` holds.
fn gated(
    waits: impl Fn(&Call) -> bool + Send + Sync + 'static,
    answer: impl Fn(&Call) -> Answer + Send + Sync + 'static,
) -> (Handler, Gate) {
    let gate = Gate::default();
    let waited = gate.clone();
    let handler = Handler::start(move |call| {
        if waits(call) {
            waited.pass();
        }
        answer(call)
    });
    (handler, gate)
}

/// An event of a JSON client, with text.
fn event(name: &str, text: &str) -> String {
    serde_json::json!({ "type": "event", "event": name, "dataType": "text", "data": text }).to_string()
}

/// The same with an `ackId`.
fn event_acked(name: &str, text: &str, ack_id: u64) -> String {
    serde_json::json!({ "type": "event", "event": name, "ackId": ack_id, "dataType": "text", "data": text })
        .to_string()
}

/// `ce-signature` (§3): of the connection's id, by each key.
fn signature(keys: &[&str], connection_id: &str) -> String {
    let sign = |key: &&str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let digest = hmac::sign(&key, connection_id.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256={hex}")
    };
    keys.iter().map(sign).collect::<Vec<_>>().join(",")
}

/// The log, once there is this in it: a reader of this process brings it, after the server's answers perhaps.
#[track_caller]
fn logged(server: &mut Server, text: &str) -> String {
    wait_until(&format!("{text:?} is logged"), || server.process().log().contains(text));
    server.process().log()
}

/// Events and numbers of calls, as `name/id`.
fn order_of(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| format!("{}/{}", call.event(), call.id())).collect()
}

/// Waits until a handler has been told so much, and compares it by the calls' numbers: which of two connections it reads
/// first is for the scheduler to say, and nobody waits for the answer to `connected`.
#[track_caller]
fn expect_told(handler: &Handler, expected: &[&str]) {
    let mut calls = handler.calls_at_least(expected.len());
    calls.sort_by_key(Call::id);
    assert_eq!(order_of(&calls), expected);
}
