//! Handlers that are slow, dead, half-open or answer nonsense: the client is told, the next event goes on, and nothing
//! is left behind.

use ringhub_tests::{
    Answer, Client, Endpoint, Handler, Proxy, Server, dead_address, memory_bound, wait_until,
};

use super::{ALL, CONNECT, NO_RETRIES, USER, event, event_acked, gated, order_of, server, server_of};

/// A handler that answers so, behind a limit of a second.
fn short(keys: &str) -> String {
    format!("{keys}{NO_RETRIES}timeout_seconds = 1\nconnect_timeout_seconds = 1\n")
}

/// Everything that breaks HTTP, breaks off or never ends: a failed event and no more.
#[test]
fn whatever_comes_back_the_event_fails_and_the_next_goes_on() {
    let broken: Vec<(&str, Answer)> = vec![
        ("never", Answer::never()),
        ("reset", Answer::reset()),
        ("closed", Answer::raw("").then_close()),
        ("nonsense", Answer::raw("nonsense\r\n\r\n").then_close()),
        ("another protocol", Answer::raw("SSH-2.0-OpenSSH_9.6\r\n").then_silence()),
        ("bytes", Answer::raw(vec![0; 4096]).then_silence()),
        ("half a head", Answer::raw("HTTP/1.1 200 OK\r\nContent-Type: te").then_silence()),
        ("half a head, closed", Answer::raw("HTTP/1.1 200 OK\r\nContent-Type: te").then_close()),
        ("half a body", Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then_silence()),
        (
            "half a body, closed",
            Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then_close(),
        ),
        ("half a body, reset", Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").then_reset()),
        (
            "bad chunks",
            Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").then_silence(),
        ),
        (
            "chunks that end early",
            Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").then_close(),
        ),
        (
            "two lengths",
            Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").then_close(),
        ),
        (
            "a status of four digits",
            Answer::raw("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n").then_close(),
        ),
        (
            "a switch of protocols",
            Answer::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
                .then_silence(),
        ),
        (
            "a header of 1 MiB",
            Answer::raw(format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
                "x".repeat(1 << 20)
            )),
        ),
        (
            "endless headers",
            Answer::raw(format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000))).then_silence(),
        ),
        (
            "a state over its bound",
            Answer::no_content().header("ce-connectionState", &"s".repeat(8 * 1024 + 1)),
        ),
    ];
    let answers: std::collections::HashMap<String, Answer> =
        broken.iter().map(|(name, answer)| ((*name).to_owned(), answer.clone())).collect();
    let handler = Handler::start(move |call| match answers.get(call.text()) {
        Some(answer) => answer.clone(),
        None => Answer::text("fine"),
    });
    let mut server = server_of(&handler, &short(&format!("{USER}breaker_failures = 0\n")));
    let mut alice = server.connect(Client::json());
    let files = server.process().open_files();
    for (n, (name, _)) in (1..).zip(&broken) {
        println!("{name}");
        alice.send(&event_acked("e", name, 2 * n));
        alice.expect_failed_ack(2 * n, "InternalServerError");
        alice.send(&event_acked("e", "next", 2 * n + 1));
        alice.expect_server_text("fine");
        alice.expect_ack(2 * n + 1);
    }
    assert_eq!(handler.calls().len(), 2 * broken.len(), "none is asked twice");
    // At most the idle connections of the pool are left.
    wait_until("sockets of broken exchanges are closed", || handler.connections_open() <= 2);
    assert!(server.process().open_files() <= files + 2);
}

/// The largest answer and one byte more, announced and not.
#[test]
fn an_answer_of_16_mib_is_the_largest() {
    const MOST: usize = 16 << 20;
    let handler = Handler::start(|call| {
        let len: usize = call.text().trim_end_matches('c').parse().expect("a number");
        let body = vec![b'x'; len];
        match call.text().ends_with('c') {
            false => Answer::binary(&body),
            true => {
                let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len:x}\r\n");
                Answer::raw([head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat())
            }
        }
    });
    let mut server = server_of(&handler, &format!("{USER}{NO_RETRIES}"));
    for chunked in ["", "c"] {
        let mut raw = server.open(Client::raw());
        raw.send(&format!("{}{chunked}", MOST + 1));
        raw.expect_close(1011);
        let mut json = server.connect(Client::json());
        json.send(&event_acked("e", &format!("{}{chunked}", MOST + 1), 1));
        json.expect_failed_ack(1, "InternalServerError");
        json.expect_silence();
    }
    // A smaller bound is a key; what fits it arrives whole.
    let small = server_of(&handler, &format!("{USER}{NO_RETRIES}answer_bytes_max = 1024\n"));
    for chunked in ["", "c"] {
        let mut raw = small.open(Client::raw());
        raw.send(&format!("1024{chunked}"));
        raw.expect_binary(&[b'x'; 1024]);
        raw.send(&format!("1025{chunked}"));
        raw.expect_close(1011);
    }
    let memory = server.process().resident_bytes();
    assert!(memory < memory_bound(300 << 20), "{memory} bytes are held");
}

#[test]
fn nobody_at_the_other_end_is_a_failure_at_once() {
    let section = |url: &str| {
        format!("[[hubs.chat.event_handlers]]\nurl_template = \"{url}\"\nvalidate = false\n{ALL}{NO_RETRIES}")
    };
    for url in [format!("http://{}/", dead_address()), "http://does-not-exist.invalid/{event}".to_owned()] {
        let mut server = server(&section(&url));
        server.refuse(Client::json(), 500);
        super::logged(&mut server, "hub:chat,event:connect");
    }
}

/// A name in the certificate, an authority: without them no event leaves.
#[test]
fn a_handler_over_tls_must_be_who_it_says() {
    let handler = Handler::tls(|_| Answer::no_content());
    let with_authority = handler.section(&format!("{USER}{NO_RETRIES}"));
    let without: String = with_authority
        .lines()
        .filter(|line| !line.starts_with("ca_file"))
        .fold(String::new(), |text, line| text + line + "\n");
    let mut server = server(&without);
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "x", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    assert!(handler.calls().is_empty() && handler.validations().is_empty());
    super::logged(&mut server, "certificate");
    let trusting = super::server(&with_authority);
    let mut alice = trusting.connect(Client::json());
    alice.send(&event_acked("e", "x", 1));
    alice.expect_ack(1);
}

/// A handler that hangs behind a network that drops everything: the connection looks open and is not.
#[test]
fn a_half_open_connection_ends_with_its_time_and_a_new_one_is_made() {
    let handler = Handler::plain(|_| Answer::text("fine"));
    let proxy = Proxy::start(&Endpoint::plain(handler.addr(), ""));
    let url = proxy.endpoint().url();
    let server =
        server(&format!("[[hubs.chat.event_handlers]]\nurl_template = \"{url}/{{event}}\"\n{}", short(USER)));
    let mut alice = server.connect(Client::json());
    alice.send(&event("e", "x"));
    alice.expect_server_text("fine");
    proxy.stall();
    alice.send(&event_acked("e", "lost", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    proxy.cut();
    proxy.resume();
    alice.send(&event_acked("e", "x", 2));
    alice.expect_server_text("fine");
    alice.expect_ack(2);
}

/// A kept connection that the handler closed meanwhile is no failure of the event (RFC 9112 §9.3.1).
#[test]
fn a_kept_connection_that_was_closed_is_replaced_unseen() {
    let handler = Handler::start(|_| Answer::text("fine").then_close());
    let server = server_of(&handler, &format!("{USER}retry_delays_seconds = [0]\n"));
    let mut raw = server.open(Client::raw());
    for n in 1..=20 {
        raw.send("x");
        raw.expect("fine");
        assert_eq!(handler.calls().len(), n);
    }
}

#[test]
fn connections_are_kept_and_used_again() {
    let handler = Handler::start(|_| Answer::text("fine"));
    let server = server_of(&handler, USER);
    let mut raw = server.open(Client::raw());
    for _ in 0..50 {
        raw.send("x");
        raw.expect("fine");
    }
    assert!(handler.connections() <= 2, "{} connections for 50 events", handler.connections());
}

/// A client that leaves takes nothing with it: what it sent before goes out, then its end, in order (§4.7).
#[test]
fn a_client_that_leaves_while_its_event_is_out_is_told_of_in_order() {
    let (handler, gate) = gated(|call| call.text() == "wait", |_| Answer::text(&"x".repeat(1000)));
    let handler = std::sync::Arc::new(handler);
    let mut server =
        server_of(&handler, &format!("{USER}system_events = [\"connected\", \"disconnected\"]\n"));
    let files = server.process().open_files();
    let clients: Vec<_> = (0..10)
        .map(|n| {
            let mut client = match n % 2 {
                0 => server.open(Client::raw()),
                _ => server.connect(Client::json()),
            };
            match n % 2 {
                0 => ["wait", "second", "third"].iter().for_each(|text| client.send(text)),
                _ => ["wait", "second", "third"].iter().for_each(|text| client.send(&event("message", text))),
            }
            client
        })
        .collect();
    handler.calls_at_least(20);
    for (n, client) in clients.into_iter().enumerate() {
        if n % 3 == 0 { client.reset() } else { client.cut() }
    }
    let connections = || server.metric("ringhub_connections");
    wait_until("the sockets are gone", || connections() == 0);
    assert!(handler.calls().iter().all(|call| call.event() != "disconnected"));
    gate.open();
    let ids: Vec<_> = handler
        .calls()
        .iter()
        .filter(|call| call.event() == "connected")
        .map(|call| call.connection_id().to_owned())
        .collect();
    for _ in &ids {
        handler.next_of("disconnected");
    }
    for id in ids {
        let calls = handler.calls_of(&id);
        let names: Vec<_> = calls.iter().map(ringhub_tests::Call::event).collect();
        assert_eq!(names[..2], ["connected", "message"]);
        assert_eq!(names.last(), Some(&"disconnected"));
        let ids: Vec<_> = calls.iter().map(ringhub_tests::Call::id).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", order_of(&calls));
    }
    wait_until("descriptors are given back", || server.process().open_files() <= files + 12);
}

/// Of every cause there is a line in the log and a count that names it.
#[test]
fn every_failure_is_logged_and_counted_with_its_cause() {
    let dead = dead_address();
    for (answer, cause, word) in [
        (Some(Answer::status(500)), "server_error", "500"),
        (Some(Answer::status(404)), "client_error", "404"),
        (Some(Answer::never()), "timeout", "no answer in time"),
        (Some(Answer::raw("nonsense\r\n\r\n").then_close()), "invalid", ""),
        (Some(Answer::status(200).body("text/html", "<p>")), "invalid", ""),
        (None, "unreachable", "refused"),
    ] {
        println!("{answer:?}");
        let handler = answer.clone().map(|answer| Handler::start(move |_| answer.clone()));
        let section = match &handler {
            Some(handler) => handler.section(&short(USER)),
            None => format!(
                "[[hubs.chat.event_handlers]]\nurl_template = \"http://{dead}/\"\nvalidate = false\n{}",
                short(USER)
            ),
        };
        let mut server = server(&section);
        let mut alice = server.connect(Client::json());
        alice.send(&event_acked("vote", "payload", 1));
        alice.expect_failed_ack(1, "InternalServerError");
        let log = super::logged(&mut server, "event:vote");
        let line =
            log.lines().find(|line| line.contains("vote")).unwrap_or_else(|| panic!("nothing in {log}"));
        assert!(line.contains("chat") && line.to_lowercase().contains(word), "{word}: {line}");
        assert!(!log.contains("payload"), "{log}");
        assert_counted(&server, cause);
    }
}

fn assert_counted(server: &Server, outcome: &str) {
    let counted = server
        .metric_of("ringhub_upstream_events_total", &["hub=\"chat\"", &format!("outcome=\"{outcome}\"")]);
    let page = server.admin().http("GET", "/metrics").expect(200);
    let events: Vec<_> = page.text().lines().filter(|line| line.contains("event")).collect();
    assert_eq!(counted, 1, "{outcome} in {events:#?}");
}

/// A `connect` that waits for a handler that says nothing is over when its time is.
#[test]
fn a_silent_handler_costs_a_client_its_handshake_and_nothing_more() {
    let handler = Handler::start(|_| Answer::never());
    let mut server = server_of(&handler, &short(CONNECT));
    let files = server.process().open_files();
    let endpoint: &Endpoint = &server;
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| endpoint.refuse(Client::json(), 500));
        }
    });
    wait_until("everything is given back", || server.process().open_files() <= files);
    wait_until("the handler sees it", || handler.connections_open() == 0);
}
