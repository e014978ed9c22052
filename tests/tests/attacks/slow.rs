//! Peers that say little: each is given its time, told so where it can be told, and cut; who is in a hurry is served
//! meanwhile (`reliability` checks 1 to 3, 11, 28). `RINGHUB_SLOW_HEADS=2000`, `RINGHUB_SILENT_SOCKETS=5000` and
//! `RINGHUB_CAP=1000` are the sizes that the checks name.

use std::time::{Duration, Instant};

use ringhub_tests::{
    Client, Endpoint, RawSocket, Server, masked_frame, memory_bound, size_of_run, wait_until,
};

const A_SECOND: Duration = Duration::from_secs(1);
/// That for everything that has a deadline.
const HURRIED: &str = "[limits]\nhead_deadline_seconds = 1\nbody_grace_seconds = 1\nbody_bytes_per_second_min = 1000\n\
    http_idle_seconds = 1\nclose_deadline_seconds = 1\n";

fn hurried() -> Server {
    Server::with(|setup| setup.config(HURRIED))
}

/// Goes on trickling until the server has had enough, at its deadline; what it then says.
fn trickle(socket: &mut RawSocket, byte: &[u8], deadline: Duration) -> Vec<u8> {
    let patience = Instant::now() + deadline + ringhub_tests::DEADLINE;
    loop {
        assert!(Instant::now() < patience, "it may trickle for ever");
        if let Some(answer) = trickle_once(socket, byte, Duration::from_millis(50)) {
            return answer;
        }
    }
}

/// A pause, which ends early when there is an answer, else one byte more: all that the server then says. It is looked for
/// first, because a byte to a server that has answered and gone costs the answer (it resets).
fn trickle_once(socket: &mut RawSocket, byte: &[u8], pause: Duration) -> Option<Vec<u8>> {
    socket.set_deadline(pause);
    let is_over = socket.has_answer() || socket.try_write(byte).is_err();
    socket.set_deadline(ringhub_tests::DEADLINE);
    is_over.then(|| socket.read_to_end())
}

#[track_caller]
fn expect_timed_out(answer: &[u8]) {
    let answer = String::from_utf8_lossy(answer);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"), "{answer:?}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer:?}");
}

/// Heads that trickle in hold a socket for so long and no longer, and cost a few KiB each; good clients come in
/// meanwhile.
#[test]
fn trickling_heads_are_told_408_while_others_are_served() {
    let slow = size_of_run("RINGHUB_SLOW_HEADS", 200);
    // Time for all of them to be there before the first has to go.
    let deadline = Duration::from_secs(10 + slow as u64 / 200);
    let config = format!("[limits]\nhead_deadline_seconds = {}\n", deadline.as_secs());
    let mut server = Server::with(|setup| setup.config(&config));
    server.use_receive_buffers();
    let before = server.process().resident_bytes();
    let half_open = |_| {
        let opened = Instant::now();
        let mut socket = server.raw();
        socket.write("GET /client/hubs/chat HTTP/1.1\r\nHost: h\r\nX: ");
        (opened, socket)
    };
    let mut sockets: Vec<(Instant, RawSocket)> = (0..slow).map(half_open).collect();
    wait_until("all are there", || server.metric("ringhub_sockets") >= slow as u64);
    let each = server.process().resident_bytes().saturating_sub(before) / slow;
    println!("{each} bytes for each of {slow} half-open sockets");
    let most = if server.tls.is_some() { 64 << 10 } else { 8 << 10 };
    assert!(each < memory_bound(most), "{each} bytes for a half-open socket");
    let patience = Instant::now() + deadline + ringhub_tests::DEADLINE;
    while !sockets.is_empty() {
        assert!(Instant::now() < patience, "{} may trickle for ever", sockets.len());
        server.connect(Client::json()).expect_silence();
        server.http("GET", "/api/health").expect(200);
        sockets.retain_mut(|(opened, socket)| {
            let answer = trickle_once(socket, b"x", Duration::from_millis(1));
            if let Some(answer) = &answer {
                expect_timed_out(answer);
                assert!(opened.elapsed() >= deadline, "too early");
            }
            answer.is_none()
        });
    }
    assert_eq!(server.metric("ringhub_heads_refused_total"), slow as u64);
    // The head of a later request has the same time.
    let mut socket = server.raw();
    assert_eq!(server.http("GET", "/api/health").send_on(&mut socket).status, 200);
    socket.write("GET /");
    expect_timed_out(&trickle(&mut socket, b"x", deadline));
}

#[test]
fn silent_sockets_are_closed_without_a_word() {
    let server = hurried();
    let count = size_of_run("RINGHUB_SILENT_SOCKETS", 300);
    let open = |endpoint: &Endpoint| (Instant::now(), endpoint.raw());
    let mut silent: Vec<(Instant, RawSocket)> = (0..count).map(|_| open(&server)).collect();
    silent.extend((0..10).map(|_| open(server.admin())));
    // One that has had its answer and says no more, too.
    let mut idle = server.raw();
    assert_eq!(server.http("GET", "/api/health").send_on(&mut idle).status, 200);
    server.connect(Client::json()).expect_silence();
    for (opened, mut socket) in silent {
        socket.expect_end();
        assert!(opened.elapsed() >= A_SECOND, "too early");
    }
    idle.expect_end();
}

/// A body has a lowest rate, whether its length is known or not; what frames chunks does not count.
#[test]
fn trickling_bodies_are_told_408_and_slow_ones_within_the_rate_get_through() {
    let server = hurried();
    let mut alice = server.connect(Client::json());
    let send = server.rest("POST", "/api/hubs/chat/:send").header("Content-Type", "text/plain").bytes();
    let head = String::from_utf8(send).unwrap().replace("Content-Length: 0\r\n\r\n", "");
    for (framing, byte) in [
        ("Content-Length: 1000000\r\n\r\n", "x"),
        ("Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n1;", "x"),
    ] {
        let mut socket = server.raw();
        socket.write(format!("{head}{framing}"));
        expect_timed_out(&trickle(&mut socket, byte.as_bytes(), A_SECOND));
    }
    assert_eq!(server.metric("ringhub_bodies_refused_total"), 3);
    // Thirty seconds' worth at once give that much more than the grace: enough, here, to be slow about the rest.
    let mut socket = server.raw();
    socket.write(format!("{head}Content-Length: 30001\r\n\r\n{}", "x".repeat(30_000)));
    socket.set_deadline(Duration::from_millis(1700));
    assert!(!socket.has_answer(), "it may still send");
    socket.set_deadline(ringhub_tests::DEADLINE);
    socket.write("y");
    assert_eq!(socket.read_response().status, 202);
    alice.expect_server_text(&("x".repeat(30_000) + "y"));
    // The admin listener has the same patience.
    let mut socket = server.admin().raw();
    socket.write("GET /healthz HTTP/1.1\r\nHo");
    expect_timed_out(&trickle(&mut socket, b"x", A_SECOND));
}

/// What was asked for is answered though the peer has said it will say no more; half a request is not waited for.
#[test]
fn who_ends_sending_gets_answers_and_no_patience() {
    let server = Server::start();
    let request = "GET /api/health HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut socket = server.raw();
    socket.write(request.repeat(3));
    socket.half_close();
    (0..3).for_each(|_| assert_eq!(socket.read_response().status, 200));
    socket.expect_end();
    for half in
        ["GET /api/he", "POST /api/hubs/chat/:send HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc"]
    {
        let mut socket = server.raw();
        socket.write(format!("{request}{half}"));
        assert_eq!(socket.read_response().status, 200);
        socket.half_close();
        let rest = socket.read_to_end();
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 401"), "{rest}");
    }
}

/// The peer that never answers our close, or never closes, keeps its socket for the deadline of closes only.
#[test]
fn a_peer_that_never_closes_is_closed() {
    let server = hurried();
    let upgraded = || {
        let mut socket = server.raw();
        socket.write(Client::json().request(&server));
        assert_eq!(socket.read_response().status, 101);
        socket.read_frame();
        socket
    };
    // Ours first, for a fault; theirs first; and data where the close should be.
    let mut faulty = upgraded();
    faulty.write(masked_frame(0x83, b"x"));
    let mut polite = upgraded();
    polite.write(masked_frame(0x88, &1000_u16.to_be_bytes()));
    let mut chatty = upgraded();
    chatty.write(
        [masked_frame(0x88, &4000_u16.to_be_bytes()), masked_frame(0x81, br#"{"type":"ping"}"#)].concat(),
    );
    for (socket, code) in [(&mut faulty, 1002), (&mut polite, 1000), (&mut chatty, 4000)] {
        let mut frame = socket.read_frame();
        if frame.first_byte == 0x81 {
            assert!(frame.text().contains(r#""event":"disconnected""#), "{}", frame.text());
            frame = socket.read_frame();
        }
        assert_eq!(frame.close_code(), Some(code));
    }
    wait_until("their sockets are gone", || server.metric("ringhub_sockets") == 1);
    // Half-closed without a close frame is gone, too.
    let mut half = upgraded();
    half.half_close();
    half.read_to_end();
    wait_until("it is gone", || server.metric("ringhub_sockets") == 1);
}

/// Over the maximum clients are told so, at once, and application servers and the admin listener go on; who is there
/// notices nothing, and there is room again when somebody leaves.
#[test]
fn over_the_cap_clients_get_503_and_others_are_served() {
    let server = Server::with(|setup| setup.config("[limits]\nconnections_max = 20\n"));
    let mut clients: Vec<_> = (0..20).map(|_| server.connect(Client::json())).collect();
    let mut refused: Vec<RawSocket> = (0..30).map(|_| server.raw()).collect();
    for socket in &mut refused {
        socket.write(Client::json().request(&server));
    }
    for socket in &mut refused {
        let response = socket.read_response();
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
        response.expect_error("Error.ServiceUnavailable");
    }
    server.admin().http("GET", "/readyz").expect(200);
    server.rest("POST", "/api/hubs/chat/:send").text("still here").expect(202);
    for client in &mut clients {
        client.expect_server_text("still here");
    }
    assert!(server.metric("ringhub_upgrades_without_room_total") >= 30);
    drop(refused);
    // Three, for asking takes a socket, and its end a moment.
    clients.drain(..3).for_each(|client| client.close(1000));
    wait_until("there is room", || server.metric("ringhub_sockets") <= 18);
    server.connect(Client::json()).expect_silence();
}

/// On two cores each has half of the maximum, and the kernel deals out sockets by chance: twice as many as there may
/// be more fill both, nobody is left hanging, and the first ones notice nothing.
#[test]
fn more_than_may_be_fill_all_cores_and_no_more() {
    let cap = size_of_run("RINGHUB_CAP", 100);
    let config = format!("[limits]\nconnections_max = {cap}\n");
    let server = Server::with(|setup| setup.cores(2).config(&config));
    let mut first: Vec<_> = (0..cap / 4).map(|_| server.connect(Client::json())).collect();
    let mut others = Vec::new();
    let mut refused = 0;
    for _ in 0..2 * cap {
        let mut socket = server.raw();
        socket.write(Client::json().request(&server));
        let response = socket.read_response();
        match response.status {
            101 => others.push(socket),
            _ => {
                assert_eq!(
                    (response.status, response.header("retry-after")),
                    (503, Some("1")),
                    "{response:?}"
                );
                refused += 1;
            }
        }
    }
    println!("{refused} refused of {}", first.len() + 2 * cap);
    assert_eq!(first.len() + others.len(), cap, "all there is room for, and nobody more");
    server.rest("POST", "/api/hubs/chat/:send").text("still here").expect(202);
    for client in &mut first {
        client.expect_server_text("still here");
    }
}
