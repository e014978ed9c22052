//! What an operator sees of handlers and listeners: `/upstreams` of the admin listener.

use ringhub_tests::{Answer, Client, Handler, Server, wait_until};
use serde_json::{Value, json};

use super::{ALL, NO_RETRIES, USER, event, event_acked, server, server_of};

fn upstreams(server: &Server, query: &str) -> Value {
    let page = server.admin().http("GET", &format!("/upstreams{query}")).expect(200);
    serde_json::from_str(page.text()).expect("JSON")
}

#[test]
fn the_last_calls_are_shown_with_what_became_of_them() {
    let handler = Handler::start(|call| match call.event() {
        "fail" => Answer::status(500).body("text/plain", "no luck"),
        "vote" => Answer::text("thanks"),
        _ => Answer::no_content(),
    });
    let server = server_of(&handler, &format!("{ALL}retry_delays_seconds = [0]\n"));
    let mut alice = server.connect(Client::json());
    handler.next_of("connected");
    alice.send(&event_acked("vote", "yes", 1));
    alice.expect_server_text("thanks");
    alice.expect_ack(1);
    alice.send(&event_acked("fail", "yes", 2));
    alice.expect_failed_ack(2, "InternalServerError");
    let calls = || upstreams(&server, "")["handlers"][0]["calls"].clone();
    wait_until("all calls have ended", || calls().as_array().is_some_and(|calls| calls.len() == 4));
    let page = upstreams(&server, "");
    let shown = &page["handlers"][0];
    assert_eq!(shown["hub"], "chat");
    assert_eq!(shown["url"], json!(format!("{}/eventhandler/{{event}}", handler.url())));
    assert_eq!((&shown["requests"], &shown["retries"]), (&json!(5), &json!(1)));
    assert_eq!(shown["events"]["user"], json!({ "success": 1, "server_error": 1 }));
    assert_eq!(shown["latency"]["count"], 4);
    let calls = shown["calls"].as_array().expect("a list");
    let of = |event: &str| calls.iter().find(|call| call["event"] == event).expect("it was called");
    // The newest first.
    assert_eq!(calls[0], *of("fail"));
    let failed = of("fail");
    for (field, value) in [
        ("event", json!("fail")),
        ("connectionId", json!(alice.id())),
        ("id", json!(3)),
        ("attempts", json!(2)),
        ("status", json!(500)),
        ("outcome", json!("server_error")),
        ("requestBytes", json!(3)),
    ] {
        assert_eq!(failed[field], value, "{field}: {failed}");
    }
    assert!(failed["cause"].as_str().is_some_and(|cause| cause.contains("500")), "{failed}");
    let voted = of("vote");
    assert_eq!(
        (&voted["event"], &voted["outcome"], &voted["answerBytes"]),
        (&json!("vote"), &json!("success"), &json!(6))
    );
    // What people say is nobody's business unless somebody asks for it.
    let text = page.to_string();
    assert!(!text.contains("thanks") && !text.contains("no luck") && !text.contains("yes"), "{text}");
    // A page for it, and the calls of one handler only.
    assert!(server.admin().http("GET", "/").expect(200).text().contains("upstreams"));
    assert_eq!(upstreams(&server, "?hub=chat&handler=1")["handlers"][0]["calls"], Value::Null);
}

#[test]
fn bodies_are_shown_if_that_is_wanted_and_no_more_than_their_beginnings() {
    let handler = Handler::start(|_| Answer::text(&"a".repeat(10_000)));
    let server = server_of(&handler, &format!("{USER}inspect_bodies = true\n"));
    let mut alice = server.connect(Client::json());
    alice.send(&event("vote", &"q".repeat(10_000)));
    alice.next_text();
    let call = || upstreams(&server, "")["handlers"][0]["calls"][0].clone();
    wait_until("it is shown", || call() != Value::Null);
    let call = call();
    assert_eq!(call["requestBody"]["text"], json!("q".repeat(4096)));
    assert_eq!(call["answerBody"]["text"], json!("a".repeat(4096)));
    assert_eq!((&call["requestBytes"], &call["answerBytes"]), (&json!(10_000), &json!(10_000)));
}

/// Fifty of each handler, however many there were.
#[test]
fn old_calls_make_room() {
    let [first, second] = [(); 2].map(|()| super::agreeable());
    let config = first.section(&format!("user_event_pattern = \"a\"\n{NO_RETRIES}")) + &second.section(USER);
    let server = server(&config);
    let mut alice = server.connect(Client::json());
    for n in 0..120 {
        alice.send(&event_acked(if n % 2 == 0 { "a" } else { "b" }, "", n));
        alice.expect_ack(n);
    }
    let page = upstreams(&server, "");
    for (place, name, newest) in [(0, "a", 119), (1, "b", 120)] {
        let shown = &page["handlers"][place];
        assert_eq!((&shown["place"], &shown["requests"]), (&json!(place), &json!(60)));
        let calls = shown["calls"].as_array().expect("calls");
        assert_eq!((calls.len(), &calls[0]["event"], &calls[0]["id"]), (50, &json!(name), &json!(newest)));
    }
}

#[test]
fn listeners_are_shown_too() {
    let path = ringhub_tests::write_config("");
    let file = path.with_extension("ndjson");
    std::fs::remove_file(path).unwrap();
    let server = server(&format!(
        "[[hubs.chat.event_listeners]]\nfile = \"{}\"\nuser_event_pattern = \"*\"\n",
        file.display()
    ));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "x", 1));
    alice.expect_ack(1);
    wait_until("it is delivered", || upstreams(&server, "")["listeners"][0]["delivered"] == 1);
    let shown = upstreams(&server, "")["listeners"][0].clone();
    assert_eq!((&shown["hub"], &shown["destination"]), (&json!("chat"), &json!(file.display().to_string())));
    assert_eq!((&shown["dropped"], &shown["failed"], &shown["queued"]), (&json!(0), &json!(0), &json!(0)));
    std::fs::remove_file(file).unwrap();
}
