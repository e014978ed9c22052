//! HTTP as vectors, on both listeners, each followed by another request on the same connection (`reliability` checks 4
//! to 6): two readers that disagree about where a request ends are how requests are smuggled.

use ringhub_tests::{Client, Endpoint, RawSocket, Server, memory_bound, wait_until};

#[path = "../../vectors/http.rs"]
mod vectors;

use vectors::Vector;

/// Asks for what is nowhere, so that its answer cannot be taken for another's.
const CANARY: &str = "GET /canary HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// What vectors leave open, for the service.
struct Words {
    host: String,
    send: String,
    auth: String,
}

impl Words {
    fn of(server: &Server) -> Self {
        let bytes = server.rest("POST", "/api/hubs/chat/:send").bytes();
        let head = String::from_utf8(bytes).unwrap();
        let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        Self {
            host: line("Host: "),
            send: line("POST ").replace(" HTTP/1.1", ""),
            auth: format!("Authorization: {}\r\nContent-Type: text/plain\r\n", line("Authorization: ")),
        }
    }

    fn read(&self, text: &'static str) -> Vec<Vector> {
        let words = [("host", &*self.host), ("send", &self.send), ("auth", &self.auth)];
        vectors::read(text, &[&[("path", "/api/health")], &words[..]].concat())
    }
}

/// The same for the admin listener, where nothing takes bodies.
fn admin_words(text: &'static str) -> Vec<Vector> {
    vectors::read(text, &[("path", "/healthz"), ("send", "/healthz"), ("auth", ""), ("host", "h")])
}

/// Reads exactly the answers that a vector has, and the canary's if there is to be one, and the end.
fn expect_answers(socket: &mut RawSocket, vector: &Vector) {
    println!("{}", vector.name);
    let text = String::from_utf8_lossy(&vector.bytes);
    let mut heads = text.split("\r\n\r\n").map(str::trim_start);
    for &status in &vector.statuses {
        let is_head = heads.next().is_some_and(|head| head.starts_with("HEAD "));
        let response = socket.read_response_to(if is_head { "HEAD" } else { "GET" });
        assert_eq!(response.status, status, "{}: {response:?}", vector.name);
    }
    if vector.stays {
        assert_eq!(socket.read_response().status, 404, "{}", vector.name);
    }
    socket.expect_end();
}

fn check(endpoint: &Endpoint, vectors: &[Vector]) {
    for vector in vectors {
        let mut socket = endpoint.raw();
        // It may be refused before all of it is written.
        let _ = socket.try_write([&vector.bytes, CANARY.as_bytes()].concat());
        expect_answers(&mut socket, vector);
    }
}

/// A head may be so long, and costs that and not much more while the rest of it is awaited; a byte too many is 431.
#[test]
fn heads_of_the_largest_size_cost_what_they_are() {
    const SOCKETS: usize = 200;
    // None of them is to be timed out, however slow the machine.
    let mut server = Server::with(|setup| setup.config("[limits]\nhead_deadline_seconds = 60\n"));
    server.use_receive_buffers();
    let before = server.process().resident_bytes();
    let longest = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(16_300));
    let bytes_in = || server.metric("ringhub_bytes_in_total");
    let all = bytes_in() + (SOCKETS * longest.len()) as u64;
    let mut sockets: Vec<RawSocket> = (0..SOCKETS).map(|_| server.raw()).collect();
    sockets.iter_mut().for_each(|socket| socket.write(&longest));
    wait_until("all of it has come", || bytes_in() >= all);
    let each = server.process().resident_bytes().saturating_sub(before) / SOCKETS;
    println!("{each} bytes for each head of {}", longest.len());
    let tls = if server.tls.is_some() { 64 << 10 } else { 0 };
    assert!(each < memory_bound((32 << 10) + tls), "{each} bytes for a head");
    for mut socket in sockets {
        let _ = socket.try_write("x".repeat(1_000));
        assert_eq!(socket.read_response().status, 431);
        socket.expect_end();
    }
}

#[test]
fn legal_requests_are_answered_and_so_is_the_next() {
    let server = Server::start();
    check(&server, &Words::of(&server).read(vectors::TAKEN));
    check(server.admin(), &admin_words(vectors::TAKEN));
}

#[test]
fn legal_bodies_end_where_they_end() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    check(&server, &Words::of(&server).read(vectors::BODIES));
    let request = "GET /smuggled HTTP/1.1\r\nHost: abcd\r\n\r\n";
    for body in ["hello", "hello", "hello", request, "hello", "hello", "01234567890123456789a", "hello"] {
        alice.expect_server_text(body);
    }
    for body in ["0\r\n\r\n", "a", "b"] {
        alice.expect_server_text(body);
    }
    alice.expect_silence();
}

#[test]
fn what_is_no_request_has_one_answer_and_the_end() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    check(&server, &Words::of(&server).read(vectors::REFUSED));
    check(server.admin(), &admin_words(vectors::REFUSED));
    alice.expect_silence();
}

#[test]
fn a_broken_body_has_one_answer_and_the_end() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    check(&server, &Words::of(&server).read(vectors::BROKEN_BODIES));
    alice.expect_silence();
    // There the head is enough to be answered; what is behind it is not looked at either.
    let mut vectors = admin_words(vectors::BROKEN_BODIES);
    vectors.iter_mut().for_each(|vector| vector.statuses = vec![405]);
    check(server.admin(), &vectors);
}

/// A few over sockets; all of them in the codec's own tests.
#[test]
fn a_request_cut_anywhere_is_the_same_request() {
    let server = Server::start();
    let words = Words::of(&server);
    let (taken, bodies) = (words.read(vectors::TAKEN), words.read(vectors::BODIES));
    let named = |name: &str| taken.iter().chain(&bodies).find(|vector| vector.name == name).unwrap();
    for name in ["an empty line in front (RFC 9112 §2.2)", "two at a time", "chunk extensions"] {
        let vector = named(name);
        let bytes = [&vector.bytes, CANARY.as_bytes()].concat();
        for at in 0..vector.bytes.len() {
            let mut socket = server.raw();
            socket.write(&bytes[..at]);
            socket.write(&bytes[at..]);
            expect_answers(&mut socket, vector);
        }
    }
}
