//! Before events flow, a handler says that it wants them (§2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ringhub_tests::{Answer, Call, Client, Gate, Handler, Server, wait_until};

use super::{ALL, CONNECT, NO_RETRIES, USER, agreeable, event_acked, server, server_of};

/// Names in lower case and values but those of HTTP itself, sorted.
fn headers(call: &Call) -> Vec<(String, String)> {
    let mut headers: Vec<_> =
        call.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    headers
        .retain(|(name, value)| name != "host" && (name.as_str(), value.as_str()) != ("content-length", "0"));
    headers.sort();
    headers
}

#[test]
fn the_question_is_asked_once_and_says_who_asks() {
    let handler = agreeable();
    let server = server_of(&handler, ALL);
    let mut clients: Vec<_> = (0..5).map(|_| server.connect(Client::json())).collect();
    for client in &mut clients {
        client.send(&event_acked("e", "", 1));
        client.expect_ack(1);
    }
    handler.calls_at_least(15);
    // The template's `{event}` is `validate`: one URL, one question.
    let asked = handler.validations();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("OPTIONS", "/eventhandler/validate"));
    let expected = [("ce-awpsversion", "1.0"), ("webhook-request-origin", "127.0.0.1")];
    assert_eq!(headers(&asked[0]), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(asked[0].body.is_empty());
}

#[test]
fn a_get_is_tried_where_there_are_no_options() {
    let handler = Handler::validated_by(
        |call| match call.method.as_str() {
            "OPTIONS" => Answer::status(404),
            _ => Answer::status(200).header("webhook-allowed-origin", "127.0.0.1"),
        },
        |_| Answer::no_content(),
    );
    let server = server_of(&handler, CONNECT);
    server.connect(Client::json());
    let asked = handler.validations();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[1].method.as_str(), asked[1].target.as_str()), ("GET", "/eventhandler/validate"));
    assert_eq!(headers(&asked[1]), headers(&asked[0]));
}

#[test]
fn yes_may_be_said_in_several_ways() {
    let named = |values: &'static [&'static str]| {
        let yes = |answer: Answer, value: &&str| answer.header("WebHook-Allowed-Origin", value);
        values.iter().fold(Answer::status(200), yes)
    };
    for yes in [
        named(&["*"]),
        named(&["PubSub.Example.com"]),
        named(&["other.example.com", "pubsub.example.com"]),
        named(&["other.example.com, pubsub.example.com"]),
        named(&["pubsub.example.com:8443"]),
        named(&["pubsub.example.com"]).body("text/html", "<p>welcome"),
        Answer::no_content().header("webhook-allowed-origin", "*"),
    ] {
        println!("{yes:?}");
        assert_eq!(connects(yes), 101);
    }
    for no in [
        Answer::status(200),
        named(&["other.example.com"]),
        named(&["example.com"]),
        named(&["https://pubsub.example.com"]),
        named(&["*.example.com"]),
        Answer::status(401).header("WebHook-Allowed-Origin", "*"),
        Answer::status(302).header("Location", "/").header("WebHook-Allowed-Origin", "*"),
        Answer::status(500).header("WebHook-Allowed-Origin", "*"),
        Answer::status(404),
        Answer::reset(),
        Answer::raw("nonsense\r\n\r\n").then_close(),
    ] {
        println!("{no:?}");
        assert_eq!(connects(no), 500);
    }
}

/// The status that a client gets from a handler that answers the question so.
fn connects(answer: Answer) -> u16 {
    let handler = Handler::validated_by(move |_| answer.clone(), |_| Answer::no_content());
    let server = server(&format!(
        "[server]\npublic_endpoints = [\"https://pubsub.example.com:8443\"]\n{}",
        handler.section(&format!("{CONNECT}{NO_RETRIES}"))
    ));
    let mut socket = server.raw();
    socket.write(Client::json().request(&server));
    let status = socket.read_response().status;
    assert_eq!(handler.calls().len(), usize::from(status == 101), "nothing goes where it is not wanted");
    status
}

#[test]
fn a_handler_that_says_no_is_sent_nothing_and_the_log_says_why() {
    for (answer, word) in [
        (Answer::status(200), "AbuseProtectionResponseMissingAllowedOrigin"),
        (Answer::status(403), "AbuseProtectionResponseInvalidStatusCode"),
    ] {
        let handler = Handler::validated_by(move |_| answer.clone(), |_| Answer::no_content());
        let mut server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
        let mut alice = server.connect(Client::json());
        alice.send(&event_acked("e", "", 1));
        alice.expect_failed_ack(1, "InternalServerError");
        let mut raw = server.open(Client::raw());
        raw.send("x");
        raw.expect_close(1011);
        assert!(handler.calls().is_empty());
        super::logged(&mut server, word);
    }
}

/// After a no, and when it could not say, it is asked again; in between, nothing is asked (§2).
#[test]
fn a_no_is_asked_again_after_a_while() {
    for no in [403, 503] {
        let welcome = Arc::new(AtomicBool::new(false));
        let is_welcome = Arc::clone(&welcome);
        let handler = Handler::validated_by(
            move |_| match is_welcome.load(Ordering::SeqCst) {
                true => Answer::status(200).header("WebHook-Allowed-Origin", "*"),
                false => Answer::status(no),
            },
            |_| Answer::no_content(),
        );
        let server = server_of(&handler, &format!("{CONNECT}{NO_RETRIES}breaker_failures = 0\n"));
        let begin = Instant::now();
        for _ in 0..20 {
            server.refuse(Client::json(), 500);
        }
        // The pause is a second, and longer after a plain no.
        let asked = handler.validations().len() as u64;
        assert!((1..=1 + begin.elapsed().as_secs()).contains(&asked), "{:?}", handler.validations());
        assert!(handler.calls().is_empty());
        welcome.store(true, Ordering::SeqCst);
        wait_until("it is welcome", || {
            let mut socket = server.raw();
            socket.write(Client::json().request(&server));
            socket.read_response().status == 101
        });
    }
}

#[test]
fn nothing_is_asked_where_that_is_off() {
    let handler = Handler::validated_by(|_| Answer::status(403), |_| Answer::no_content());
    let server = server_of(&handler, &format!("{ALL}validate = false\n"));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "", 1));
    alice.expect_ack(1);
    assert!(handler.validations().is_empty());
}

/// One question for all who wait for its answer.
#[test]
fn events_wait_for_the_answer_and_ask_once() {
    let gate = Gate::default();
    let waited = gate.clone();
    let handler = Handler::validated_by(
        move |_| {
            waited.pass();
            Answer::status(200).header("WebHook-Allowed-Origin", "*")
        },
        |_| Answer::no_content(),
    );
    let section = handler.section(USER);
    let server = Server::with(|setup| setup.cores(2).config(&section));
    let mut clients: Vec<_> = (0..20).map(|_| server.connect(Client::json())).collect();
    clients.iter_mut().for_each(|client| client.send(&event_acked("e", "", 1)));
    handler.validations_at_least(1);
    assert!(handler.calls().is_empty());
    gate.open();
    clients.iter_mut().for_each(|client| client.expect_ack(1));
    assert_eq!((handler.validations().len(), handler.calls().len()), (1, 20));
}
