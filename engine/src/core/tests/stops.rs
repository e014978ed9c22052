//! What a stop lets come to its end.

use super::*;
use crate::core::faults::Faults;
use crate::core::ring::Op;
use crate::net::patience::{Awaits, Stage};
use crate::net::peer::Via;
use crate::net::{HttpAnswer, HttpFactory, HttpHandler, HttpProgress, Listener, Scheme};
use bytes::Bytes;
use ringhub_hub::CoreId;

/// More than the kernel keeps for a peer that does not read.
const ANSWER_BYTES: usize = 16 << 20;

/// Answers each request with so many bytes, and keeps the connection.
struct Answers(usize);

impl HttpFactory for Answers {
    fn open(&self, _: CoreId, _: Listener, _: Via) -> Box<dyn HttpHandler> {
        Box::new(AnswersHere { bytes: self.0, is_asked: false })
    }
}

struct AnswersHere {
    bytes: usize,
    is_asked: bool,
}

impl HttpHandler for AnswersHere {
    fn feed(&mut self, _: &[u8]) {
        self.is_asked = true;
    }

    fn poll(&mut self, _: u64) -> HttpProgress {
        let is_asked = std::mem::take(&mut self.is_asked);
        let output = if is_asked { vec![b'x'; self.bytes].into() } else { Bytes::new() };
        HttpProgress { output, ..HttpProgress::default() }
    }

    fn answer(&mut self, _: HttpAnswer) {}

    fn is_full(&self) -> bool {
        false
    }

    fn stage(&self) -> Stage {
        Stage { answered: 0, awaits: Awaits::Request, body_bytes: 0 }
    }
}

/// Who asks for an answer, in plain or over TLS.
trait Reader: Read + Write {
    fn ask(&mut self) {
        self.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
}

impl<S: Read + Write> Reader for S {}

/// A server that answers with so many bytes, and somebody who may ask it for them.
fn answering(bytes: usize, scheme: Scheme, change: impl FnOnce(&mut Settings)) -> (Running, Box<dyn Reader>) {
    let (store, config) = certificate();
    let running = Running::answering(Arc::new(Answers(bytes)), Some(store), |settings| {
        settings.listen.push(Address::parse("https://127.0.0.1:0").unwrap());
        change(settings);
    });
    let reader: Box<dyn Reader> = match scheme {
        Scheme::Plain => {
            let stream = TcpStream::connect(running.address()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Box::new(stream)
        }
        Scheme::Tls => Box::new(tls_stream(&running, 1, &config)),
    };
    (running, reader)
}

fn expect_whole(mut reader: Box<dyn Reader>, bytes: usize) {
    let mut answer = Vec::new();
    let read = reader.read_to_end(&mut answer);
    assert!(read.is_ok() && answer.len() == bytes, "{read:?} with {} of {bytes} bytes", answer.len());
}

/// A connection was busy only until its answer was made, so a stop cut what the peer had not read yet.
#[test]
fn an_answer_that_is_being_taken_is_taken_to_its_end() {
    for scheme in [Scheme::Plain, Scheme::Tls] {
        let (running, mut reader) = answering(ANSWER_BYTES, scheme, |_| {});
        reader.ask();
        running.wait(1, |counters| counters.sends_short.get());
        running.server.stop();
        expect_whole(reader, ANSWER_BYTES);
        running.stop();
    }
}

/// Of an answer over TLS whose last record was on its way, nothing waited in plain any more, and a stop cut it.
#[test]
fn the_last_record_of_an_answer_is_taken_to_its_end() {
    const BYTES: usize = 1000;
    for scheme in [Scheme::Plain, Scheme::Tls] {
        let faults = Faults::new();
        let (running, mut reader) = answering(BYTES, scheme, |settings| settings.ring.faults = Some(faults));
        // Behind this all of a handshake is said.
        reader.ask();
        reader.read_exact(&mut [0; BYTES]).unwrap();
        faults.cut(Op::Send, 7);
        hold_writes(faults);
        reader.ask();
        running.wait(1, |counters| counters.requests_without_memory.get());
        running.server.stop();
        // Once nobody is let in, the core has looked who is to be cut.
        while TcpStream::connect(running.address()).is_ok() {}
        faults.clear();
        expect_whole(reader, BYTES);
        running.stop();
    }
}

/// A drain took such a client for one that has everything, and closed it: its goodbye's deadline cut what was left.
#[test]
fn who_has_a_record_to_take_is_not_drained() {
    let faults = Faults::new();
    let (store, config) = certificate();
    let running = Running::with(Mode::Serve, Some(store), |settings| {
        settings.ring.faults = Some(faults);
        settings.listen = vec![Address::parse("https://127.0.0.1:0").unwrap()];
    });
    // Its slot is looked at first.
    let mut slow = connect_over_tls(&running, 0, &config);
    running.settle(1, |counters| counters.websockets.get());
    let mut other = connect_over_tls(&running, 0, &config);
    running.settle(2, |counters| counters.websockets.get());
    faults.cut(Op::Send, 7);
    hold_writes(faults);
    other.send(1, b"to the slow one");
    running.wait(1, |counters| counters.requests_without_memory.get());
    running.server.drain();
    let (opcode, payload) = other.next().expect("a goodbye");
    assert_eq!((opcode, &payload[..2]), (8, &1001u16.to_be_bytes()[..]));
    let closed = || running.shared[0].closes.iter().map(|closes| closes.get()).sum::<u64>();
    assert_eq!(closed(), 1, "the slow one has something to take");
    faults.clear();
    slow.expect(b"to the slow one");
    let (opcode, payload) = slow.next().expect("a goodbye");
    assert_eq!((opcode, &payload[..2]), (8, &1001u16.to_be_bytes()[..]));
    drop((slow, other));
    running.stop();
}

/// Until the faults are cleared no write comes to its end: each is made again after a pause.
fn hold_writes(faults: &Faults) {
    (0..10_000).for_each(|_| faults.fail(Op::Write, 0, libc::ENOMEM));
}
