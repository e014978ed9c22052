//! What a stop lets come to its end.

use super::*;
use crate::net::patience::{Awaits, Stage};
use crate::net::peer::Via;
use crate::net::{HttpAnswer, HttpFactory, HttpHandler, HttpProgress, Listener};
use bytes::Bytes;
use ringhub_hub::CoreId;

/// More than the kernel keeps for a peer that does not read.
const ANSWER_BYTES: usize = 16 << 20;

/// Answers each request with [`ANSWER_BYTES`], and keeps the connection.
struct Large;

impl HttpFactory for Large {
    fn open(&self, _: CoreId, _: Listener, _: Via) -> Box<dyn HttpHandler> {
        Box::new(LargeHere { is_asked: false })
    }
}

struct LargeHere {
    is_asked: bool,
}

impl HttpHandler for LargeHere {
    fn feed(&mut self, _: &[u8]) {
        self.is_asked = true;
    }

    fn poll(&mut self, _: u64) -> HttpProgress {
        let is_asked = std::mem::take(&mut self.is_asked);
        let output = if is_asked { vec![b'x'; ANSWER_BYTES].into() } else { Bytes::new() };
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

/// A connection was busy only until its answer was made, so a stop cut what the peer had not read yet.
#[test]
fn an_answer_that_is_being_taken_is_taken_to_its_end() {
    let running = Running::answering(Arc::new(Large));
    let mut reader = TcpStream::connect(running.address()).unwrap();
    reader.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    reader.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    running.wait(1, |counters| counters.sends_short.get());
    running.server.stop();
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), ANSWER_BYTES);
    drop(reader);
    running.stop();
}
