//! How many are heard who are too many, and how much is written at one go: bounds of a core that no load of a test's
//! size comes to, or that nothing outside would show.

use super::*;
use crate::core::doors::SURPLUS_MAX;
use crate::core::io::{Io, Outcome, WRITE_BYTES};
use crate::core::ring::{CHUNKS_MAX, Op, Ring};
use crate::core::settings::RingSettings;
use crate::core::socket::{Socket, Tls};
use crate::net::Listener;
use crate::net::tls::{PLAIN_BYTES_MAX, TlsStream};
use bytes::BytesMut;
use ringhub_hub::SocketKey;
use rustls::{ClientConnection, StreamOwned};
use std::os::unix::net::UnixStream;

/// Over the maximum so many are heard, so that they learn why they are not let in; of still more nobody is.
#[test]
fn sockets_over_the_surplus_are_closed_at_once() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.sockets_max = 1;
        // Who says nothing stays.
        settings.sockets.head_deadline = Duration::from_secs(3600);
    });
    let mut client = running.connect();
    let knock = || {
        let stream = TcpStream::connect(running.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let said = |mut stream: &TcpStream| {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    };
    let mut surplus: Vec<TcpStream> = (0..SURPLUS_MAX).map(|_| knock()).collect();
    let there = SURPLUS_MAX as u64 + 1;
    running.settle(there, |counters| counters.sockets.get());
    assert_eq!(running.sum(|counters| counters.accepts_refused.get()), 0);
    for more in 1..=3 {
        assert_eq!(said(&knock()), "", "closed without a word");
        running.settle(more, |counters| counters.accepts_refused.get());
    }
    // Of those that are heard one wants to be a client, and one calls.
    let mut last = surplus.pop().unwrap();
    last.write_all(&upgrade("/client/hubs/chat", None)).unwrap();
    assert!(said(&last).starts_with("HTTP/1.1 503 "));
    running.settle(1, |counters| counters.upgrades_without_room.get());
    let mut last = surplus.pop().unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(said(&last).starts_with("HTTP/1.1 404 "));
    drop(last);
    // They have made room.
    running.settle(there - 2, |counters| counters.sockets.get());
    let mut next = knock();
    next.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(said(&next).starts_with("HTTP/1.1 404 "));
    assert_eq!(running.sum(|counters| counters.accepts_refused.get()), 3);
    client.send(9, b"noticed nothing");
    assert_eq!(client.next(), Some((10, b"noticed nothing".to_vec())));
    running.stop();
}

/// A socket whose peer does not read yet.
struct Slow {
    io: Io,
    key: SocketKey,
    peer: UnixStream,
}

impl Slow {
    fn new(settings: SocketSettings, tls: Option<TlsStream>) -> Self {
        let mut io = Io::new(Ring::new(&RingSettings::default()).unwrap(), settings, Arc::default());
        let (peer, end) = UnixStream::pair().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket2::SockRef::from(&end).set_send_buffer_size(128 << 10).unwrap();
        let mut socket = Socket::new(end.into(), Listener::Service);
        socket.tls = tls.map(|stream| Box::new(Tls::new(stream)));
        let key = io.adopt(socket);
        Self { io, key, peer }
    }

    /// Now it reads: so many bytes, and what each write took of them.
    fn writes(mut self, bytes: usize, mut peer: impl Read + Send + 'static) -> (Vec<u8>, Vec<usize>) {
        let reader = std::thread::spawn(move || {
            let mut taken = vec![0; bytes];
            peer.read_exact(&mut taken).unwrap();
            taken
        });
        let mut writes = Vec::new();
        while self.io.is_slow(self.key) {
            self.io.outcomes.clear();
            self.io.submit(!self.io.has_work(), Some(Duration::from_secs(20)));
            while let Some(completion) = self.io.ring.next() {
                assert_eq!(completion.op, Op::Write);
                writes.push(completion.result() as usize);
                self.io.written(&completion);
            }
        }
        (reader.join().unwrap(), writes)
    }
}

/// What waits goes out in writes that are not too large, so that progress is seen, and in order.
#[test]
fn what_waits_is_written_so_many_pieces_and_bytes_at_a_time() {
    const FIRST: usize = 1 << 20;
    // Of bytes, the piece with which there are enough is the last.
    let enough = WRITE_BYTES.div_ceil(50_000) * 50_000;
    for (pieces, bytes, most) in [(3 * CHUNKS_MAX + 1, 10, 10 * CHUNKS_MAX), (20, 50_000, enough)] {
        let settings = SocketSettings { outbox_bytes_max: 4 << 20, ..SocketSettings::default() };
        let mut slow = Slow::new(settings, None);
        // More than the kernel takes: the rest is in flight, and all that comes now waits behind it.
        slow.io.send(slow.key, vec![0; FIRST].into());
        slow.io.submit(false, None);
        assert!(slow.io.is_slow(slow.key));
        let piece = |n: usize| vec![n as u8; bytes];
        (0..pieces).for_each(|n| slow.io.send(slow.key, piece(n).into()));
        let peer = slow.peer.try_clone().unwrap();
        let (taken, writes) = slow.writes(FIRST + pieces * bytes, peer);
        assert!(taken[FIRST..] == (0..pieces).flat_map(piece).collect::<Vec<u8>>());
        assert_eq!(writes[1..].iter().max(), Some(&most), "{writes:?}");
    }
}

/// However much a peer takes, its records are made a few at a time, and others have their turn.
#[test]
fn after_so_many_tls_records_a_socket_is_written_to_as_a_slow_one() {
    // Of these seven records one is the first, and two are as many as may follow it.
    let payload: Vec<u8> = (0..100_000).map(|i| (i * 7 % 251) as u8).collect();
    let (store, config) = certificate();
    let (mut client, mut stream) = (
        ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap(),
        TlsStream::new(store.current()),
    );
    while client.is_handshaking() || stream.is_handshaking() {
        let (mut said, mut answer) = (Vec::new(), BytesMut::new());
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        stream.receive(&mut said, &mut Vec::new(), &mut answer).unwrap();
        let mut answer = &answer[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let mut slow = Slow::new(SocketSettings { records_max: 2, ..SocketSettings::default() }, Some(stream));
    slow.io.send(slow.key, payload.clone().into());
    slow.io.submit(false, None);
    assert!(slow.io.is_slow(slow.key));
    assert_eq!(slow.io.outcomes, [(slow.key, Outcome::Congested)], "and its owner knows");
    let counters = &slow.io.shared.counters;
    assert_eq!(counters.sends_short.get(), 0, "the kernel would have taken more");
    // The fourth is made, and in flight.
    assert_eq!(counters.outbox_bytes.get(), (payload.len() - 4 * PLAIN_BYTES_MAX) as u64);
    let peer = StreamOwned::new(client, slow.peer.try_clone().unwrap());
    assert!(slow.writes(payload.len(), peer).0 == payload);
}
