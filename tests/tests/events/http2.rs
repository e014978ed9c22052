//! Handlers that speak HTTP/2: by prior knowledge without TLS, by ALPN with it (§3).

use ringhub_tests::{Answer, Client, Gate, Handler, wait_until};

use super::{ALL, NO_RETRIES, USER, event_acked, order_of, server, server_of};

fn answering(tls: bool) -> Handler {
    Handler::http2(tls, |call| match call.event() {
        "connect" => Answer::json(r#"{"userId":"of-h2"}"#).header("ce-connectionState", "s"),
        "fail" => Answer::status(500),
        _ => Answer::text(call.text()),
    })
}

fn versions(handler: &Handler) -> Vec<String> {
    let mut versions: Vec<_> = handler.calls().into_iter().map(|call| call.version).collect();
    versions.dedup();
    versions
}

#[test]
fn everything_works_over_http_2() {
    for (tls, keys) in
        [(false, "http = \"2\"\n"), (true, "http = \"auto\"\n"), (true, "http = \"2\"\n"), (true, "")]
    {
        println!("tls {tls}, {keys}");
        let handler = answering(tls);
        let server = server_of(&handler, &format!("{ALL}{NO_RETRIES}{keys}"));
        let mut alice = server.connect(Client::json());
        assert_eq!(alice.user(), Some("of-h2"));
        for n in 0..20 {
            alice.send(&event_acked("e", &n.to_string(), n));
            alice.expect_server_text(&n.to_string());
            alice.expect_ack(n);
        }
        alice.send(&event_acked("fail", "", 20));
        alice.expect_failed_ack(20, "InternalServerError");
        alice.close(1000);
        handler.next_of("disconnected");
        let calls = handler.calls();
        let ids: Vec<_> = order_of(&calls);
        assert_eq!((ids[0].as_str(), ids[23].as_str()), ("connect/0", "disconnected/23"));
        assert_eq!(versions(&handler), ["HTTP/2.0"]);
        let look = &calls[2];
        assert_eq!(look.header("ce-connectionState"), Some("s"));
        assert_eq!(look.target, "/eventhandler/e");
        // RFC 9113 §8.2.2: nothing that belongs to a connection of HTTP/1.1.
        for name in ["connection", "host", "transfer-encoding", "keep-alive"] {
            assert_eq!(look.header(name), None, "{look:?}");
        }
        assert_eq!(handler.connections(), 1);
    }
}

/// Many events at once share one connection.
#[test]
fn one_connection_carries_many_events_at_a_time() {
    const EVENTS: usize = 250;
    let gate = Gate::default();
    let waited = gate.clone();
    let handler = Handler::http2(false, move |call| {
        waited.pass();
        Answer::text(call.text())
    });
    let server = server_of(&handler, &format!("{USER}http = \"2\"\n"));
    let mut clients: Vec<_> = (0..EVENTS).map(|_| server.open(Client::raw())).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&n.to_string());
    }
    // As many as hyper's server lets be open; the others wait for their turn.
    handler.calls_at_least(200);
    assert_eq!(handler.connections(), 1);
    gate.open();
    for (n, client) in clients.iter_mut().enumerate() {
        client.expect(&n.to_string());
    }
}

#[test]
fn http_1_can_be_insisted_on_and_is_what_plain_handlers_get() {
    let over_tls = answering(true);
    let plain = answering(false);
    for (handler, keys) in
        [(&over_tls, "http = \"1.1\"\n"), (&plain, "http = \"1.1\"\n"), (&plain, "http = \"auto\"\n")]
    {
        let server = server(&handler.section(&format!("{USER}{keys}")));
        let mut raw = server.open(Client::raw());
        raw.send("x");
        raw.expect("x");
        assert_eq!(versions(handler), ["HTTP/1.1"]);
    }
}

#[test]
fn a_handler_that_is_killed_and_restarted_is_found_again() {
    let handler = answering(false);
    let server = server_of(&handler, &format!("{USER}http = \"2\"\nretry_delays_seconds = [1, 1, 1]\n"));
    let mut raw = server.open(Client::raw());
    raw.send("1");
    raw.expect("1");
    handler.kill();
    raw.send("2");
    wait_until("it waits for another attempt", || {
        server.metric_of("ringhub_upstream_queued", &["hub=\"chat\""]) >= 1
    });
    handler.restart();
    raw.expect("2");
}
