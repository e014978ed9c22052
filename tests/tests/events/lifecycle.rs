//! `connected` and `disconnected`: once each, in order, whatever ends a connection (§4.2, §4.3).

use std::collections::BTreeMap;

use ringhub_tests::{Answer, Call, Client, Gate, Handler, Proxy, masked_frame};

use super::{ALL, NO_RETRIES, agreeable, event, event_acked, expect_told, order_of, server, server_of};

/// The reason that `disconnected` gives.
fn reason(call: &Call) -> String {
    let body = call.json();
    let fields: Vec<_> = body.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["reason"], "{call:?}");
    body["reason"].as_str().expect("a text").to_owned()
}

#[test]
fn a_connection_is_told_from_its_beginning_to_its_end() {
    let handler = agreeable();
    let server = server_of(&handler, ALL);
    for (client, names) in [
        (Client::json(), ["one", "two"]),
        (Client::reliable(), ["one", "two"]),
        (Client::raw(), ["message", "message"]),
    ] {
        let mut client = server.connect(client.user("u"));
        let [connect, connected] = [(); 2].map(|()| handler.next());
        assert_eq!(order_of(&[connect.clone(), connected.clone()]), ["connect/0", "connected/1"]);
        assert_eq!(connected.text(), "{}");
        client.send(&event("one", "1"));
        client.send(&event("two", "2"));
        let events = [handler.next(), handler.next()];
        assert_eq!(order_of(&events), [format!("{}/2", names[0]), format!("{}/3", names[1])]);
        client.close(1000);
        let disconnected = handler.next();
        assert_eq!(order_of(std::slice::from_ref(&disconnected)), ["disconnected/4"]);
        assert_eq!(reason(&disconnected), "");
        assert_eq!(disconnected.connection_id(), connect.connection_id());
    }
    assert_eq!(handler.calls().len(), 3 * 5);
}

/// Over one connection of HTTP/2, where requests cannot overtake each other, with events on the heels of the upgrade.
#[test]
fn the_order_on_the_wire_is_connect_connected_events_disconnected() {
    let handler = Handler::http2(false, |_| Answer::no_content());
    let server = server_of(&handler, &format!("{ALL}http = \"2\"\n"));
    for round in 0..20 {
        let mut socket = server.raw();
        let mut bytes = Client::raw().request(&server);
        for text in ["1", "2", "3"] {
            bytes.extend(masked_frame(0x81, text.as_bytes()));
        }
        bytes.extend(masked_frame(0x88, &1000u16.to_be_bytes()));
        socket.write(bytes);
        let calls = handler.calls_at_least(6 * (round + 1)).split_off(6 * round);
        let expected = ["connect/0", "connected/1", "message/2", "message/3", "message/4", "disconnected/5"];
        assert_eq!(order_of(&calls), expected);
    }
}

/// `connected` is for nobody to wait for: events go on while its answer is out, and whatever it is.
#[test]
fn nobody_waits_for_the_answer_to_connected() {
    let gate = Gate::default();
    let waited = gate.clone();
    let handler = Handler::start(move |call| match call.event() {
        "connected" => {
            waited.pass();
            Answer::status(500)
        }
        _ => Answer::no_content(),
    });
    let server = server_of(&handler, &format!("{ALL}{NO_RETRIES}"));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "", 1));
    alice.expect_ack(1);
    gate.open();
    alice.send(&event_acked("e", "", 2));
    alice.expect_ack(2);
    alice.close(1000);
    handler.next_of("disconnected");
}

#[test]
fn the_end_has_its_reason() {
    let handler = agreeable();
    let server = server_of(&handler, "system_events = [\"disconnected\"]\n");
    let connect = || server.connect(Client::json());

    connect().close(1000);
    assert_eq!(reason(&handler.next()), "");
    connect().close_without_code();
    assert_eq!(reason(&handler.next()), "");

    let mut kicked = connect();
    let path = format!("/api/hubs/chat/connections/{}", kicked.id());
    server.rest("DELETE", &path).query("reason", "no more").expect(204);
    kicked.expect_disconnected(1000);
    assert_eq!(reason(&handler.next()), "no more");

    let mut faulty = connect();
    faulty.send("this is not the subprotocol");
    let said = faulty.expect_disconnected(1007);
    assert_eq!(reason(&handler.next()), said);

    connect().cut();
    let lost = reason(&handler.next());
    assert!(!lost.is_empty(), "a socket that is lost is no normal close");
    connect().reset();
    assert_eq!(reason(&handler.next()), lost);
}

#[test]
fn everybody_who_is_kicked_is_told_of() {
    let handler = agreeable();
    let server = server_of(&handler, "system_events = [\"disconnected\"]\n");
    let clients: Vec<_> = (0..20).map(|_| server.connect(Client::json().group("g"))).collect();
    server.rest("POST", "/api/hubs/chat/groups/g/:closeConnections").query("reason", "all out").expect(204);
    let mut left: Vec<_> = (0..20).map(|_| handler.next()).collect();
    assert!(left.iter().all(|call| reason(call) == "all out"));
    left.sort_by_key(|call| call.connection_id().to_owned());
    left.dedup_by_key(|call| call.connection_id().to_owned());
    assert_eq!(left.len(), clients.len());
}

#[test]
fn who_was_refused_is_not_told_of() {
    let handler = Handler::start(|call| match call.event() {
        "connect" if call.header("ce-userId") == Some("mallory") => Answer::status(403),
        _ => Answer::no_content(),
    });
    let server = server_of(&handler, ALL);
    server.refuse(Client::json().user("mallory"), 403);
    server.refuse(Client::json().no_token(), 401);
    server.connect(Client::json().user("alice")).close(1000);
    expect_told(&handler, &["connect/0", "connect/0", "connected/1", "disconnected/2"]);
}

/// The handler said yes, and then the server could not keep its promise: that is an end (§4.3).
#[test]
fn who_was_let_in_and_refused_by_the_server_is_told_of() {
    let handler = super::connecting(Answer::json(r#"{"subprotocol":"not offered"}"#));
    let server = server_of(&handler, ALL);
    server.refuse(Client::json(), 500);
    let connect = handler.next_of("connect");
    let disconnected = handler.next_of("disconnected");
    assert_eq!(disconnected.connection_id(), connect.connection_id());
    assert!(!reason(&disconnected).is_empty());
    expect_told(&handler, &["connect/0", "disconnected/1"]);
}

/// A reliable client that comes back was never away; one that does not is gone when its window ends.
#[test]
fn recovery_is_nobodys_business_and_its_end_is() {
    let handler = agreeable();
    let config = format!(
        "[hubs.chat.reliable]\nrecovery_window_seconds = 1\nrecovery_grace_seconds = 0\n{}",
        handler.section(ALL)
    );
    let server = server(&config);
    let proxy = Proxy::start(&server);
    let mut alice = proxy.endpoint().connect(Client::reliable().user("alice"));
    alice.send(&event_acked("before", "", 1));
    alice.expect_ack(1);
    let id = alice.id().to_owned();
    let mut back = Client::reliable().recover(&id, alice.token());
    for n in 2..5 {
        proxy.cut();
        let mut again = proxy.endpoint().connect(back);
        again.send(&event_acked("after", "", n));
        again.expect_ack(n);
        back = Client::reliable().recover(&id, again.token());
        drop(again);
    }
    proxy.cut();
    let disconnected = handler.next_of("disconnected");
    assert!(!reason(&disconnected).is_empty());
    let expected =
        ["connect/0", "connected/1", "before/2", "after/3", "after/4", "after/5", "disconnected/6"];
    expect_told(&handler, &expected);
    server.open(Client::reliable().recover(&id, "none")).expect_refused_recovery();
}

#[test]
fn a_stop_tells_the_end_of_everybody() {
    for cores in [1, 2] {
        let handler = agreeable();
        let config = handler.section(ALL);
        let mut server = ringhub_tests::Server::with(|setup| setup.cores(cores).config(&config));
        let clients: Vec<_> = (0..50)
            .map(|n| match n % 3 {
                0 => server.open(Client::raw()),
                1 => server.connect(Client::json()),
                _ => server.connect(Client::reliable()),
            })
            .collect();
        handler.calls_at_least(100);
        assert!(server.stop().success());
        drop(clients);
        let mut ends: BTreeMap<String, Vec<Call>> = BTreeMap::new();
        for call in handler.calls() {
            ends.entry(call.connection_id().to_owned()).or_default().push(call);
        }
        assert_eq!(ends.len(), 50);
        for calls in ends.values() {
            assert_eq!(order_of(calls), ["connect/0", "connected/1", "disconnected/2"]);
            assert!(!reason(&calls[2]).is_empty());
        }
    }
}

/// A handler that does not answer does not keep the server from stopping.
#[test]
fn a_stop_does_not_wait_for_ever() {
    let handler = Handler::start(|call| match call.event() {
        "disconnected" => Answer::never(),
        _ => Answer::no_content(),
    });
    let mut server = server_of(&handler, ALL);
    let _alice = server.connect(Client::json());
    handler.next_of("connected");
    assert!(server.stop().success());
    handler.next_of("disconnected");
}

/// Without `connect` among its events, a handler hears of clients that came in without it (§4.1).
#[test]
fn a_handler_hears_what_it_asked_for_and_nothing_else() {
    for (events, expected) in [
        ("[\"connected\"]", &["connected/1"][..]),
        ("[\"DisConnected\"]", &["disconnected/1"]),
        ("[\"connected\", \"disconnected\"]", &["connected/1", "disconnected/2"]),
    ] {
        let handler = agreeable();
        let more = format!("system_events = {events}\n");
        let mut server = server_of(&handler, &more);
        let client = server.connect(Client::json());
        let id = client.id().to_owned();
        client.close(1000);
        assert!(server.stop().success());
        assert_eq!(order_of(&handler.calls_of(&id)), expected, "{events}");
    }
}
