//! HTTP/1.1 as such: what is ambiguous is refused and the connection closed, what is legal works
//! (`reliability` checks 4, 5).

use ringhub_tests::{Client, Server};

/// The head of a signed send, without anything about its body.
fn send_head(server: &Server) -> String {
    let bytes = server.rest("POST", "/api/hubs/chat/:send").header("Content-Type", "text/plain").bytes();
    String::from_utf8(bytes).unwrap().replace("Content-Length: 0\r\n\r\n", "")
}

#[test]
fn a_chunked_body_is_a_body() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let mut socket = server.raw();
    let head = send_head(&server);
    let request =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;name=value\r\nde\r\n0\r\n\r\n");
    // In one piece, and byte by byte; the connection stays open.
    socket.write(&request);
    assert_eq!(socket.read_response().status, 202);
    for byte in request.as_bytes() {
        socket.write([*byte]);
    }
    assert_eq!(socket.read_response().status, 202);
    alice.expect_server_text("abcde");
    alice.expect_server_text("abcde");
}

#[test]
fn a_chunked_body_has_the_same_limit() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let mut socket = server.raw();
    socket.write(format!("{}Transfer-Encoding: chunked\r\n\r\n", send_head(&server)));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // One MiB and one chunk; the server may answer and stop reading before it has all.
    for _ in 0..17 {
        if socket.try_write(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(socket.read_response().status, 400);
    alice.expect_silence();
}

#[test]
fn expect_continue_is_honoured() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let mut socket = server.raw();
    socket.write(format!("{}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", send_head(&server)));
    assert_eq!(socket.read_response().status, 100);
    socket.write("hi");
    assert_eq!(socket.read_response().status, 202);
    alice.expect_server_text("hi");
}

#[test]
fn connection_close_and_http_1_0_end_the_connection() {
    let server = Server::start();
    let mut socket = server.raw();
    socket.write("GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(socket.read_response().status, 200);
    socket.expect_end();
}

/// Each vector is followed by a canary on the same connection. Exactly one answer comes, 400, and then the
/// end: two parsers that disagree about where a request ends are how requests are smuggled.
#[test]
fn ambiguous_requests_get_400_and_the_end() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let canary =
        String::from_utf8(server.rest("POST", "/api/hubs/chat/:send").text("smuggled").bytes()).unwrap();
    let head = send_head(&server);
    let with = |rest: &str| format!("{head}{rest}");
    let get = |rest: &str| format!("GET /api/health HTTP/1.1\r\n{rest}\r\n\r\n");
    let vectors = [
        ("both lengths", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("both, other order", with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
        ("two equal lengths", with("Content-Length: 1\r\nContent-Length: 1\r\n\r\na")),
        ("a list of lengths", with("Content-Length: 1, 1\r\n\r\na")),
        ("a signed length", with("Content-Length: +1\r\n\r\na")),
        ("a negative length", with("Content-Length: -1\r\n\r\na")),
        ("a length in hex", with("Content-Length: 0x1\r\n\r\na")),
        ("a length with a space", with("Content-Length: 1 1\r\n\r\na")),
        ("an empty length", with("Content-Length: \r\n\r\na")),
        ("a length past 64 bits", with("Content-Length: 18446744073709551617\r\n\r\na")),
        ("two encodings", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("encoding identity", with("Transfer-Encoding: identity\r\n\r\n")),
        ("encoding gzip, chunked", with("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("chunked not last", with("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("encoding with a tab", with("Transfer-Encoding:\tx chunked\r\n\r\n0\r\n\r\n")),
        ("space before the colon", with("Content-Length : 1\r\n\r\na")),
        ("folded header", with("Content-Length: 1\r\nX: a\r\n b\r\n\r\na")),
        ("bare line feeds", with("Content-Length: 1\r\n\r\na").replace("\r\n", "\n")),
        ("one bare line feed", with("X: a\nContent-Length: 1\r\n\r\na")),
        ("a bare carriage return", with("X: a\rb\r\nContent-Length: 1\r\n\r\na")),
        ("NUL in a value", with("X: a\0b\r\nContent-Length: 1\r\n\r\na")),
        ("a header without a colon", with("X\r\nContent-Length: 1\r\n\r\na")),
        ("an empty name", with(": x\r\nContent-Length: 1\r\n\r\na")),
        ("no host", get("X: y")),
        ("two hosts", get("Host: a\r\nHost: b")),
        ("a host list", get("Host: a, b")),
        ("a host with a path", get("Host: a/b")),
        ("not HTTP", "hello\r\n\r\n".to_owned()),
        ("two spaces", "GET  /api/health HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (
            "an escaped line end",
            with("Content-Length: 1\r\n\r\na")
                .replacen(":send", ":send%0d%0aX", 1)
                .replacen(" HTTP", "\0 HTTP", 1),
        ),
        ("a bad chunk size", with("Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n")),
        ("a huge chunk size", with("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n")),
        ("a chunk without its end", with("Transfer-Encoding: chunked\r\n\r\n1\r\nabc0\r\n\r\n")),
    ];
    for (what, vector) in vectors {
        println!("{what}");
        let mut socket = server.raw();
        // It may refuse before all of it is written.
        let _ = socket.try_write(format!("{vector}{canary}"));
        let response = socket.read_response();
        assert_eq!(response.status, 400, "{what}: {response:?}");
        socket.expect_end();
    }
    let mut socket = server.raw();
    socket.write("GET /api/health HTTP/9.9\r\nHost: x\r\n\r\n");
    assert_eq!(socket.read_response().status, 505);
    socket.expect_end();
    alice.expect_silence();
}

#[test]
fn an_oversized_head_is_refused() {
    let server = Server::start();
    let of = |bytes: usize| {
        let head = "GET /api/health HTTP/1.1\r\nHost: x\r\nX: \r\n\r\n";
        head.replace("X: ", &format!("X: {}", "x".repeat(bytes - head.len())))
    };
    let mut socket = server.raw();
    socket.write(of(16 << 10));
    assert_eq!(socket.read_response().status, 200, "the longest");
    for (refused, what, request, status) in [
        (1, "one byte more", of((16 << 10) + 1), 431),
        (
            2,
            "many headers",
            format!("GET /api/health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(10_000)),
            431,
        ),
        (
            3,
            "a long target",
            format!("GET /api/health?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(64_000)),
            414,
        ),
        (4, "no end", "GET /".to_owned() + &"x".repeat(100_000), 414),
    ] {
        let mut socket = server.raw();
        let _ = socket.try_write(request);
        let response = socket.read_response();
        assert_eq!(response.status, status, "{what}: {response:?}");
        socket.expect_end();
        assert_eq!(server.metric("ringhub_heads_refused_total"), refused, "{what}");
    }
    // A token of a few KiB is no reason.
    server.connect(Client::json().claim("x", "x".repeat(6000).into()));
}

#[test]
fn a_peer_that_stops_in_the_middle_is_no_trouble() {
    let server = Server::start();
    let bytes = server.rest("POST", "/api/hubs/chat/:send").text("x").bytes();
    for split in (0..bytes.len()).step_by(7) {
        let mut socket = server.raw();
        socket.write(&bytes[..split]);
        if split % 2 == 0 {
            socket.half_close();
            socket.read_to_end();
        } else {
            socket.reset();
        }
    }
    server.http("GET", "/api/health").expect(200);
}
