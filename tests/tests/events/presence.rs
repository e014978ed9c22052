//! Who is in which group, told as it changes (§4.6).

use ringhub_tests::{Answer, Call, Client, Handler};
use serde_json::json;

use super::{ALL, agreeable, server, server_of};

/// The section behind a handler's.
fn presence(rest: &str) -> String {
    format!("[hubs.chat.event_handlers.group_presence]\n{rest}\n")
}

const BOTH: &str = "events = [\"joined\", \"left\"]";

/// What a presence event says: which, of which group and whose.
fn said(call: &Call) -> (String, String, String) {
    let event = call.event().to_owned();
    assert_eq!(call.header("ce-type"), Some(&*format!("azure.webpubsub.gp.{event}")));
    assert_eq!(call.header("content-type"), Some("application/json; charset=utf-8"));
    let body = call.json();
    let group = body["group"].as_str().expect("a group").to_owned();
    assert_eq!(body, json!({ "group": group }));
    (event, group, call.connection_id().to_owned())
}

/// The next requests, all of one connection, by `ce-id`.
#[track_caller]
fn next_of_one(handler: &Handler, count: usize) -> Vec<Call> {
    let mut calls: Vec<_> = (0..count).map(|_| handler.next()).collect();
    calls.sort_by_key(Call::id);
    calls
}

#[track_caller]
fn expect(handler: &Handler, event: &str, group: &str, id: &str) {
    assert_eq!(said(&handler.next()), (event.to_owned(), group.to_owned(), id.to_owned()));
}

#[test]
fn what_a_client_does_is_told_when_it_changed_something() {
    let handler = agreeable();
    let server = server_of(&handler, &presence(BOTH));
    let mut alice = server.connect(Client::json().user("alice").may_all());
    let id = alice.id().to_owned();
    alice.join("g");
    expect(&handler, "joined", "g", &id);
    // Once more changes nothing.
    alice.join("g");
    alice.leave("other");
    alice.leave("g");
    expect(&handler, "left", "g", &id);
    for group in ["without ack", "ü \" \\ \n/%41"] {
        alice.send(&json!({ "type": "joinGroup", "group": group }).to_string());
        expect(&handler, "joined", group, &id);
    }
    let call = handler.calls()[0].clone();
    assert_eq!(call.target, "/eventhandler/joined");
    assert_eq!(call.header("ce-userId"), Some("alice"));
    assert_eq!(call.header("ce-subprotocol"), Some("json.webpubsub.azure.v1"));
    let ids: Vec<_> = handler.calls().iter().map(Call::id).collect();
    assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
}

#[test]
fn what_rest_does_is_told_too() {
    for cores in [1, 2] {
        let handler = agreeable();
        let config = handler.section(&presence(BOTH));
        let server = ringhub_tests::Server::with(|setup| setup.cores(cores).config(&config));
        let alice = server.connect(Client::json().user("alice"));
        let raw = server.open(Client::raw().user("r"));
        let (id, in_group) =
            (alice.id().to_owned(), format!("/api/hubs/chat/groups/g/connections/{}", alice.id()));
        server.rest("PUT", &in_group).expect(200);
        expect(&handler, "joined", "g", &id);
        server.rest("PUT", &in_group).expect(200);
        server.rest("DELETE", &in_group).expect(204);
        expect(&handler, "left", "g", &id);
        server.rest("PUT", "/api/hubs/chat/users/r/groups/g").expect(200);
        let (event, group, of_raw) = said(&handler.next());
        assert_eq!((event.as_str(), group.as_str()), ("joined", "g"));
        assert_ne!(of_raw, id);
        server.rest("DELETE", "/api/hubs/chat/users/r/groups").expect(204);
        expect(&handler, "left", "g", &of_raw);
        let bulk = json!({ "groups": ["a", "b"], "filter": "userId eq 'alice'" }).to_string();
        server.rest("POST", "/api/hubs/chat/:addToGroups").json(&bulk).expect(200);
        let mut joined = [said(&handler.next()), said(&handler.next())];
        joined.sort();
        assert_eq!(joined, ["a", "b"].map(|group| ("joined".to_owned(), group.to_owned(), id.clone())));
        drop(raw);
    }
}

#[test]
fn groups_of_token_and_handler_are_joined_and_all_are_left_at_the_end() {
    let handler = Handler::start(|call| match call.header("ce-userId") {
        Some("of-handler") if call.event() == "connect" => Answer::json(r#"{"groups":["x","y"]}"#),
        _ => Answer::no_content(),
    });
    let server = server_of(&handler, &format!("{ALL}{}", presence(BOTH)));
    for (user, groups) in [("of-token", ["a", "b"]), ("of-handler", ["x", "y"])] {
        let client = server.connect(Client::json().user(user).group("a").group("b"));
        let mut events = next_of_one(&handler, 4);
        assert_eq!(events.remove(0).event(), "connect");
        assert_eq!(events.remove(0).event(), "connected");
        let mut joined: Vec<_> = events.iter().map(said).collect();
        joined.sort();
        let expected =
            |event: &str| groups.map(|group| (event.to_owned(), group.to_owned(), client.id().to_owned()));
        assert_eq!(joined, expected("joined"));
        let left = expected("left");
        client.close(1000);
        let mut events = next_of_one(&handler, 3);
        // Nothing comes behind the end.
        assert_eq!(events.pop().expect("three").event(), "disconnected");
        let mut found: Vec<_> = events.iter().map(said).collect();
        found.sort();
        assert_eq!(found, left);
    }
}

#[test]
fn only_the_groups_and_changes_asked_for_are_told() {
    let handler = agreeable();
    let server = server_of(&handler, &presence("events = [\"left\"]\ngroups = [\"room-*\", \"lobby\"]"));
    let mut alice = server.connect(Client::json().may_all());
    for group in ["room-1", "room-", "lobby", "lobby-2", "broom-1", "Room-1"] {
        alice.join(group);
    }
    for group in ["lobby-2", "broom-1", "Room-1", "room-1", "room-", "lobby"] {
        alice.leave(group);
    }
    let left = next_of_one(&handler, 3);
    let left: Vec<_> = left.iter().map(|call| said(call).1).collect();
    assert_eq!(left, ["room-1", "room-", "lobby"]);
    alice.expect_silence();
    assert_eq!(handler.calls().len(), 3);
}

#[test]
fn nothing_is_told_unless_it_is_asked_for() {
    let handler = agreeable();
    let server = server_of(&handler, ALL);
    let mut alice = server.connect(Client::json().group("t").may_all());
    alice.join("g");
    alice.leave("g");
    alice.close(1000);
    super::expect_told(&handler, &["connect/0", "connected/1", "disconnected/2"]);
}

/// Presence is nobody's answer: it goes to the first handler that wants it, and failure changes nothing.
#[test]
fn a_handler_that_fails_holds_up_no_membership() {
    let failing = Handler::start(|_| Answer::status(400));
    let other = agreeable();
    let server = server(&(failing.section(&presence(BOTH)) + &other.section(&presence(BOTH))));
    let mut alice = server.connect(Client::json().may_all());
    alice.join("g");
    alice.publish("g", "x");
    alice.expect_group_text("g", None, "x");
    failing.next_of("joined");
    assert!(other.calls().is_empty());
}
