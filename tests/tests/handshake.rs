//! The upgrade: strict refusals, subprotocols, and bytes right behind it (RFC 6455 §4.2,
//! `client-protocols` §1).

use ringhub_tests::{Client, RawSocket, Server, masked_frame};

const CONNECTED: &str = r#"{"type":"system","event":"connected","userId":null,"connectionId":""#;

/// What a changed upgrade request is answered with.
fn status(server: &Server, change: impl FnOnce(String) -> String) -> ringhub_tests::Response {
    let request = String::from_utf8(Client::json().request(server)).unwrap();
    let changed = change(request.clone());
    assert_ne!(changed, request, "the case changes something");
    let mut socket = server.raw();
    socket.write(changed);
    socket.read_response()
}

#[test]
fn requests_that_are_no_upgrade_are_refused() {
    let server = Server::start();
    let cases: [(&str, &str, u16); 12] = [
        ("Upgrade: websocket\r\n", "", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 400),
        ("Connection: Upgrade\r\n", "", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "not base64!", 400),
        ("Sec-WebSocket-Version: 13\r\n", "", 400),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 99", 426),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("GET ", "POST ", 400),
    ];
    for (from, to, expected) in cases {
        let response = status(&server, |request| request.replace(from, to));
        // A missing version may be refused as either; the header says what to do (RFC 6455 §4.4).
        let also = if from.starts_with("Sec-WebSocket-Version") { 426 } else { expected };
        assert!([expected, also].contains(&response.status), "{from:?} → {to:?}: {response:?}");
        assert_eq!(response.header("x-ms-error-code"), Some("Error.BadRequest"), "{response:?}");
        assert_eq!(response.object()["code"], "Error.BadRequest", "{response:?}");
        if response.status == 426 {
            assert_eq!(response.header("sec-websocket-version"), Some("13"), "{response:?}");
        }
    }
    let twice = status(&server, |request| {
        request.replace(
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version",
        )
    });
    assert_eq!(twice.status, 400, "{twice:?}");
}

/// A head at fault is answered alike, first on its connection or not.
#[test]
fn a_bad_head_has_the_same_answer_on_any_request() {
    let server = Server::start();
    for bad in ["GET /x y HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        let mut first = server.raw();
        first.write(bad);
        let mut later = server.raw();
        assert_eq!(server.http("GET", "/api/health").send_on(&mut later).status, 200);
        later.write(bad);
        let (first, later) = (first.read_response(), later.read_response());
        assert_eq!(first.status, later.status);
        assert_eq!(first.object(), later.object());
        assert_eq!(first.header("x-ms-error-code"), Some("Error.BadRequest"), "{first:?}");
    }
}

#[test]
fn header_names_and_values_ignore_case_and_lists_are_lists() {
    let server = Server::start();
    for (from, to) in [
        ("Upgrade: websocket", "uPGRADE: WebSocket"),
        ("Connection: Upgrade", "connection: keep-alive, upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade"),
        ("Sec-WebSocket-Version", "sec-websocket-version"),
        ("Sec-WebSocket-Protocol", "SEC-WEBSOCKET-PROTOCOL"),
    ] {
        let response = status(&server, |request| request.replacen(from, to, 1));
        assert_eq!(response.status, 101, "{to:?}: {response:?}");
    }
}

#[test]
fn bad_hubs_are_400_and_unknown_paths_404() {
    let server = Server::start();
    for hub in ["1chat", "_chat", "ch at", "ch-at", "chät", &"c".repeat(129)] {
        server.refuse(Client::json().hub(hub), 400);
    }
    server.refuse(Client::json().path("/client/hubs/"), 400);
    server.refuse(Client::json().path("/client/"), 400);
    for path in ["/", "/client/hubs/chat/more", "/client/groups/chat", "/chat", "/clients/hubs/chat"] {
        server.refuse(Client::json().path(path), 404);
    }
    for path in ["/clients/mqtt/hubs/chat", "/clients/socketio/hubs/chat", "/server/tunnel"] {
        server.refuse(Client::json().path(path), 501);
    }
}

#[test]
fn the_subprotocol_is_echoed_as_the_client_spelled_it() {
    let server = Server::start();
    for offered in ["json.webpubsub.azure.v1", "JSON.WebPubSub.Azure.V1", "Json.Reliable.webpubsub.azure.v1"]
    {
        assert_eq!(server.connect(Client::json().subprotocols(offered)).subprotocol(), Some(offered));
    }
    let several =
        Client::raw().subprotocols("custom, json.reliable.webpubsub.azure.v1,json.webpubsub.azure.v1");
    let mut several = server.open(several);
    assert_eq!(several.subprotocol(), Some("json.reliable.webpubsub.azure.v1"), "the first supported one");
    assert!(several.expect_connected().1.is_some());

    let mut plain =
        server.open(Client::raw().subprotocols("json.webpubsub.azure.v1, json.reliable.webpubsub.azure.v1"));
    assert_eq!(plain.subprotocol(), Some("json.webpubsub.azure.v1"));
    assert_eq!(plain.expect_connected().1, None, "no session on the plain subprotocol");
}

#[test]
fn custom_subprotocols_connect_as_raw_and_none_is_selected() {
    let server = Server::start();
    for client in [Client::raw().subprotocols("custom"), Client::raw().subprotocols("a, b"), Client::raw()] {
        let mut raw = server.open(client);
        assert_eq!(raw.subprotocol(), None);
        raw.expect_silence();
    }
}

#[test]
fn compression_is_declined() {
    let server = Server::start();
    let offer = "permessage-deflate; client_max_window_bits";
    let response = status(&server, |request| {
        request.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"))
    });
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-extensions"), None);
}

/// The first frame may be in the same segment as the request, and the cut between two segments may fall
/// anywhere; the frame is handled exactly once (`reliability` check 7).
#[test]
fn the_first_frame_is_handled_once_wherever_the_segments_end() {
    let server = Server::start();
    let mut bytes = Client::json().request(&server);
    bytes.extend(masked_frame(0x81, br#"{"type":"ping"}"#));
    for split in 0..=bytes.len() {
        let mut socket = server.raw();
        socket.write(&bytes[..split]);
        socket.write(&bytes[split..]);
        expect_connected_and_one_pong(&mut socket);
    }
}

#[test]
fn a_request_byte_by_byte_is_the_same_request() {
    let server = Server::start();
    let mut bytes = Client::json().request(&server);
    bytes.extend(masked_frame(0x81, br#"{"type":"ping"}"#));
    let mut socket = server.raw();
    for byte in &bytes {
        socket.write([*byte]);
    }
    expect_connected_and_one_pong(&mut socket);
}

#[test]
fn an_upgrade_may_follow_other_requests_on_the_connection() {
    let server = Server::start();
    let mut socket = server.raw();
    let health = server.http("GET", "/api/health");
    assert_eq!(health.send_on(&mut socket).status, 200);
    // Pipelined: a request, the upgrade and a frame in one segment.
    let mut bytes = health.bytes();
    bytes.extend(Client::json().request(&server));
    bytes.extend(masked_frame(0x81, br#"{"type":"ping"}"#));
    socket.write(bytes);
    assert_eq!(socket.read_response().status, 200);
    expect_connected_and_one_pong(&mut socket);
}

#[track_caller]
fn expect_connected_and_one_pong(socket: &mut RawSocket) {
    let response = socket.read_response();
    assert_eq!(response.status, 101, "{response:?}");
    let connected = socket.read_frame();
    assert!(connected.text().starts_with(CONNECTED), "connected comes first: {}", connected.text());
    assert_eq!(socket.read_frame().text(), r#"{"type":"pong"}"#);
    socket.write(masked_frame(0x88, &1000_u16.to_be_bytes()));
    assert_eq!(socket.read_frame().close_code(), Some(1000), "nothing before it: the ping was handled once");
    socket.expect_end();
}
