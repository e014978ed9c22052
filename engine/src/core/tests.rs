//! Whole cores over real sockets, with rings so small that every limit is met.

mod bounds;
mod cuts;
mod faults;
mod harness;
pub(crate) mod panics;
mod pressure;
mod races;
mod stops;
mod turns;

use self::harness::*;
use crate::core::Mode;
use crate::core::settings::{HubSettings, Settings, SocketSettings};
use crate::net::Address;
use ringhub_hub::event::{Route, Routes};
use ringhub_protocol::events::{EventFilter, UserEvents};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

#[test]
fn echoes_every_size_through_eight_small_buffers() {
    let running = Running::new(Mode::Echo, tiny);
    let mut client = running.connect();
    for len in [0, 1, 125, 126, 255, 256, 257, 4095, 65_535, 65_536, 200_000] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        let frame = masked(2, &payload);
        let mut stream = client.stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || stream.write_all(&frame).unwrap());
        client.expect(&payload);
        writer.join().unwrap();
    }
    client.send(8, &1000u16.to_be_bytes());
    assert_eq!(client.next(), Some((8, 1000u16.to_be_bytes().to_vec())));
    assert_eq!(client.next(), None);
    running.stop();
}

#[test]
fn a_thousand_receivers_behind_eight_submissions() {
    let running = Running::new(Mode::Serve, tiny);
    let mut receivers: Vec<_> = (0..1000).map(|_| running.connect()).collect();
    let mut sender = running.connect();
    running.wait(1001, |counters| counters.websockets.get());
    // In one write, so that several land in one turn.
    let burst: Vec<u8> = (0..20).flat_map(|n| masked(1, format!("message {n}").as_bytes())).collect();
    sender.stream.write_all(&burst).unwrap();
    for receiver in &mut receivers {
        for n in 0..20 {
            receiver.expect(format!("message {n}").as_bytes());
        }
    }
    assert!(running.sum(|counters| counters.submissions_full.get()) > 100, "eight at a time");
    running.stop();
}

#[test]
fn everybody_at_once_and_nothing_is_lost() {
    let running = Running::new(Mode::Serve, tiny);
    let mut clients: Vec<_> = (0..100).map(|_| running.connect()).collect();
    running.wait(100, |counters| counters.websockets.get());
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(1, format!("from {n:03}").as_bytes());
    }
    for (me, client) in clients.iter_mut().enumerate() {
        let mut got: Vec<_> = (0..99).map(|_| client.next().unwrap().1).collect();
        got.sort();
        let others = (0..100).filter(|n| *n != me).map(|n| format!("from {n:03}").into_bytes());
        assert!(got.into_iter().eq(others), "client {me}");
    }
    running.stop();
}

#[test]
fn partial_sends_arrive_byte_for_byte() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets = SocketSettings {
            send_buffer_bytes: Some(4 << 10),
            outbox_bytes_max: 64 << 20,
            ..SocketSettings::default()
        };
    });
    let mut receivers: Vec<_> = (0..3).map(|_| running.connect()).collect();
    let mut sender = running.connect();
    running.wait(4, |counters| counters.websockets.get());
    // The last one is the largest there may be.
    let len = |n: usize| if n == 19 { 1 << 20 } else { 150_000 + n };
    let payload = |n: usize| -> Vec<u8> { (0..len(n)).map(|i| ((i + n) * 31 % 253) as u8).collect() };
    for n in 0..20 {
        sender.send(2, &payload(n));
    }
    running.wait(1, |counters| counters.sends_short.get());
    for n in 0..20 {
        for receiver in &mut receivers {
            receiver.expect(&payload(n));
        }
    }
    assert_eq!(running.sum(|counters| counters.slow_consumers.get()), 0);
    let shared = running.stop();
    assert_eq!(shared[0].counters.outbox_bytes.get(), 0);
}

#[test]
fn a_stalled_reader_is_cut_and_its_neighbour_gets_everything() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.send_buffer_bytes = Some(16 << 10);
        settings.sockets.outbox_bytes_max = 100 << 10;
    });
    let mut stalled = running.connect();
    let mut reader = running.connect();
    let mut sender = running.connect();
    running.wait(3, |counters| counters.websockets.get());
    let payload = vec![b'x'; 50_000];
    // The receiver's kernel buffer takes some megabytes before the stall shows.
    for _ in 0..400 {
        sender.send(1, &payload);
        reader.expect(&payload);
    }
    running.wait(1, |counters| counters.slow_consumers.get());
    while stalled.next().is_some() {}
    sender.send(1, b"after");
    reader.expect(b"after");
    assert_eq!(running.sum(|counters| counters.websockets.get()), 2);
    let closed = running.shared[0].closed.lock().unwrap()[0].clone();
    assert_eq!((closed.code, closed.category.name()), (1008, "SlowClient"));
    let shared = running.stop();
    assert_eq!(shared[0].counters.outbox_bytes.get(), 0);
}

#[test]
fn two_cores_deliver_to_each_others_clients_in_order() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.cores = 2;
        // One batch at a time, and a bound that is met: admission stops and goes on.
        settings.mesh.batches_max = 1;
        settings.mesh.batch_bytes_max = 2000;
    });
    let mut clients: Vec<_> = (0..40).map(|_| running.connect()).collect();
    running.wait(40, |counters| counters.websockets.get());
    assert!(running.shared.iter().all(|shared| shared.counters.websockets.get() > 0), "both cores have some");
    let (senders, receivers) = clients.split_at_mut(2);
    for (which, sender) in senders.iter_mut().enumerate() {
        let burst: Vec<u8> =
            (0..500).flat_map(|n| masked(1, format!("{which} {n} {:300}", "").as_bytes())).collect();
        sender.stream.write_all(&burst).unwrap();
    }
    for receiver in receivers {
        let mut next = [0, 0];
        for _ in 0..1000 {
            let (_, payload) = receiver.next().unwrap();
            let text = String::from_utf8(payload).unwrap();
            let mut parts = text.split(' ').map(|part| part.parse::<usize>().unwrap_or(0));
            let (which, n) = (parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(n, next[which]);
            next[which] += 1;
        }
    }
    assert!(running.sum(|counters| counters.mesh_batches.get()) > 0);
    running.stop();
}

#[test]
fn a_session_is_found_from_any_core() {
    let running = Running::new(Mode::Serve, |settings| settings.cores = 2);
    let connected = |client: &mut Client| {
        let (_, text) = client.next().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""event":"connected""#), "{text}");
        text.split_once(r#""connectionId":""#).unwrap().1[..32].to_owned()
    };
    let mut client = Client::connect(running.address(), "/client/hubs/chat", Some(RELIABLE));
    let id = connected(&mut client);
    // The kernel spreads connections over the cores; twenty attempts meet both but for one time in a million.
    for _ in 0..20 {
        let path = format!("/client/hubs/chat?id={id}");
        client = Client::connect(running.address(), &path, Some(RELIABLE));
        assert_eq!(connected(&mut client), id);
    }
    assert!(running.sum(|counters| counters.sockets_moved_in.get()) > 0);
    client.send(1, br#"{"type":"ping"}"#);
    assert_eq!(client.next().unwrap().1, br#"{"type":"pong"}"#);
    running.stop();
}

#[test]
fn a_stop_says_1001_and_ends() {
    let running = Running::new(Mode::Serve, |settings| settings.cores = 2);
    let mut clients: Vec<_> = (0..10).map(|_| running.connect()).collect();
    let mut half = TcpStream::connect(running.address()).unwrap();
    half.write_all(b"GET / HT").unwrap();
    running.wait(10, |counters| counters.websockets.get());
    running.server.stop();
    for client in &mut clients {
        let (opcode, payload) = client.next().unwrap();
        assert_eq!((opcode, &payload[..2]), (8, &1001u16.to_be_bytes()[..]));
        client.send(8, &1001u16.to_be_bytes());
        assert_eq!(client.next(), None);
    }
    let started = Instant::now();
    let shared = running.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "nobody had to be cut");
    for shared in shared {
        assert_eq!((shared.counters.sockets.get(), shared.counters.websockets.get()), (0, 0));
    }
}

/// A core without sockets ended at once when the server stopped. A call that came in over another one, whose body was
/// still on its way, then waited for an answer of it until all was cut.
#[test]
fn a_call_that_is_under_way_at_a_stop_is_answered_by_all_cores() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.cores = 2;
        // Nothing is to end by itself in this time.
        settings.stop_deadline = Duration::from_secs(3600);
        settings.sockets.body_grace = Duration::from_secs(3600);
    });
    let mut caller = TcpStream::connect(running.address()).unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let part = b"POST /all HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo";
    caller.write_all(part).unwrap();
    running.wait(part.len() as u64, |counters| counters.bytes_in.get());
    let turns = || running.shared.iter().map(|shared| shared.counters.turns.get());
    let before: Vec<u64> = turns().collect();
    running.server.stop();
    // The turn in which a core heeds it is the one in which it could end.
    let started = Instant::now();
    while turns().zip(&before).any(|(now, before)| now <= before + 1) {
        assert!(started.elapsed() < Duration::from_secs(20), "a core does not heed the stop");
        running.server.control().wake();
    }
    caller.write_all(b"dy").unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    running.stop();
}

/// A core that had something for another one that took nothing waited for room there, beyond every deadline.
#[test]
fn a_stop_ends_a_core_whose_batches_nobody_takes() {
    let (release, released) = mpsc::channel::<()>();
    let (entered, released) = (Arc::new(AtomicUsize::new(0)), Mutex::new(released));
    let enter = entered.clone();
    let gate = move |target: &str| {
        // The core that this comes to stands still; the other one is left.
        if target.contains("hold") && enter.fetch_add(1, Ordering::SeqCst) == 0 {
            released.lock().unwrap().recv().unwrap();
        }
    };
    let running = Running::gated(Mode::Serve, None, gate, |settings| {
        settings.cores = 2;
        settings.mesh.batches_max = 1;
        settings.stop_deadline = Duration::from_millis(10);
    });
    // Both cores have some, so that what one sends is for the other too.
    let mut clients: Vec<_> = (0..20).map(|_| running.connect()).collect();
    running.settle(20, |counters| counters.websockets.get());
    running.settle(0, |counters| counters.mesh_unsent_bytes.get());
    let address = running.address();
    let holder = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&upgrade("/client/hubs/chat?hold", None));
        let _ = stream.read(&mut [0; 1]);
    });
    let started = Instant::now();
    while entered.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "no core stands still");
        std::thread::yield_now();
    }
    while running.sum(|counters| counters.mesh_unsent_bytes.get()) == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "no core is stuck");
        clients.iter_mut().for_each(|client| client.send(1, b"for all"));
    }
    running.server.stop();
    // A core that has ended lets go of its counters.
    while running.shared.iter().all(|shared| Arc::strong_count(shared) > 1) {
        assert!(started.elapsed() < Duration::from_secs(20), "no core has ended");
        std::thread::yield_now();
    }
    release.send(()).unwrap();
    running.stop();
    holder.join().unwrap();
}

#[test]
fn a_slow_head_and_a_silent_client_are_ended() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.head_deadline = Duration::from_millis(300);
        settings.hub_default =
            HubSettings { keepalive: Duration::from_millis(300), ..HubSettings::default() };
    });
    let mut slow = TcpStream::connect(running.address()).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    slow.write_all(b"GET /client/hubs/chat HTTP/1.1\r\n").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut silent = running.connect();
    let mut pings = 0;
    while let Some((opcode, _)) = silent.next() {
        assert_eq!(opcode, 9);
        pings += 1;
    }
    assert_eq!(pings, 3, "one to start with and two that were missed");
    assert_eq!(running.sum(|counters| counters.ping_timeouts.get()), 1);
    assert_eq!(running.shared[0].closed.lock().unwrap()[0].category.name(), "PingTimeout");
    running.stop();
}

#[test]
fn a_broken_frame_ends_one_client_only() {
    let running = Running::new(Mode::Serve, |_| {});
    let mut good = running.connect();
    let mut bad = running.connect();
    running.wait(2, |counters| counters.websockets.get());
    // A good message, then a reserved opcode: the message counts, the frame ends the connection.
    let mut bytes = masked(1, b"before");
    bytes.extend(masked(3, b"reserved"));
    bad.stream.write_all(&bytes).unwrap();
    good.expect(b"before");
    let (opcode, payload) = bad.next().unwrap();
    assert_eq!((opcode, &payload[..2]), (8, &1002u16.to_be_bytes()[..]));
    assert_eq!(bad.next(), None);
    good.send(9, b"still there");
    assert_eq!(good.next(), Some((10, b"still there".to_vec())));
    assert_eq!(running.sum(|counters| counters.websockets.get()), 1);
    running.stop();
}

/// They were not, if they had come in one buffer.
#[test]
fn messages_in_front_of_a_fault_are_counted() {
    let running = Running::new(Mode::Serve, |_| {});
    let mut client = running.connect();
    let bytes = [masked(1, b"one"), masked(1, b"two"), masked(3, b"reserved")].concat();
    client.stream.write_all(&bytes).unwrap();
    running.settle(1, |counters| counters.faults.get());
    assert_eq!(running.sum(|counters| counters.messages_in.get()), 2);
    running.stop();
}

/// It was counted as one, as if somebody had attacked; browsers open sockets ahead of need.
#[test]
fn a_socket_that_says_nothing_is_no_refused_head() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.head_deadline = Duration::from_millis(100);
    });
    let mut silent = TcpStream::connect(running.address()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "it is closed without a word");
    assert_eq!(running.sum(|counters| counters.sockets_silent.get()), 1);
    assert_eq!(running.sum(|counters| counters.heads_refused.get()), 0);
    running.stop();
}

#[test]
fn refuses_what_is_no_request() {
    let running = Running::new(Mode::Serve, |_| {});
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("NONSENSE\r\n\r\n", "400"),
        (
            "GET /client/hubs/chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 12\r\n\r\n",
            "426",
        ),
    ] {
        let mut stream = TcpStream::connect(running.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {response}");
    }
    running.stop();
}

/// They were told so in plain text, where every other refusal has the API's body.
#[test]
fn malformed_heads_are_refused_with_the_api_s_body() {
    let running = Running::new(Mode::Serve, |_| {});
    for request in [
        &b"HEAD /api/hubs/h/groups/\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\r\nPOST /api/hubs/h/:send HTTP/1.1\r\n\r\n",
        b"GET /client/hubs/h HTTP/1.1\r\n\r\n",
        b"GET  /api/health HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(running.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains("x-ms-error-code: Error.BadRequest\r\n"), "{response}");
        assert!(response.contains("\r\n\r\n{\"code\":\"Error.BadRequest\",\"message\":\""), "{response}");
    }
    running.stop();
}

/// What was gathered for the side thread in a turn passed for a side thread that is behind: every other message of the
/// turn was parked, its receive cancelled, and each turn took one event.
#[test]
fn an_event_does_not_hold_up_what_comes_in_with_it() {
    let running = Running::new(Mode::Serve, |settings| {
        let filter = EventFilter { user: UserEvents::All, ..EventFilter::default() };
        let handlers = vec![Route { filter, target: Arc::new(()) }];
        settings.hub_default.routes = Some(Arc::new(Routes { handlers, ..Routes::default() }));
        // Nobody answers.
        settings.stop_deadline = Duration::from_millis(10);
    });
    let mut client = Client::connect(running.address(), "/client/hubs/chat", Some("json.webpubsub.azure.v1"));
    let event = br#"{"type":"event","event":"e","dataType":"text","data":"d"}"#;
    let burst: Vec<u8> = (0..10).flat_map(|_| masked(1, event)).collect();
    client.stream.write_all(&burst).unwrap();
    running.wait(10, |counters| counters.messages_in.get());
    assert_eq!(running.sum(|counters| counters.receive_pauses.get()), 0);
    running.stop();
}

/// Every member's records are its own, so eight submissions are soon full; messages larger than what one turn
/// makes records of wait as plaintext, and so does what a member reads late.
#[test]
fn members_over_tls_get_everything_through_a_tiny_ring() {
    let (store, config) = certificate();
    let running = Running::with(Mode::Serve, Some(store), |settings| {
        tiny(settings);
        settings.listen = vec![Address::parse("https://127.0.0.1:0").unwrap()];
        settings.sockets.outbox_bytes_max = 16 << 20;
    });
    let connect = || connect_over_tls(&running, 0, &config);
    let mut members: Vec<_> = (0..20).map(|_| connect()).collect();
    let mut sender = connect();
    let payloads: Vec<Vec<u8>> = [1, 1000, 16_380, 16_384, 16_385, 100_000, 1_000_000, 1_000_000, 7]
        .into_iter()
        .map(|len| (0..len).map(|i| b'a' + (i * 7 % 26) as u8).collect())
        .collect();
    for payload in &payloads {
        sender.send(1, payload);
    }
    // The last one reads last: all of it waits for it.
    for member in &mut members {
        payloads.iter().for_each(|payload| member.expect(payload));
    }
    assert!(running.sum(|counters| counters.sends_short.get()) > 0, "the kernel took only a part");
    assert_eq!(running.sum(|counters| counters.tls_handshakes.get()), 21);
    drop((members, sender));
    for shared in running.stop() {
        assert_eq!(shared.counters.outbox_bytes.get(), 0, "what waited is gone with its socket");
    }
}
