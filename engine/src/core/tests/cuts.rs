//! Streams that the kernel takes in pieces, cut at every byte (`reliability` check 76).

use super::*;
use crate::core::faults::Faults;
use crate::core::ring::Op;

/// The payload of message `n`: no two are alike, and a byte that is lost, doubled or moved shows.
fn payload(n: usize) -> Vec<u8> {
    (0..150).map(|i| b'a' + ((i * 7 + n * 5) % 26) as u8).collect()
}

fn with_faults(faults: &'static Faults) -> impl FnOnce(&mut Settings) {
    move |settings| settings.ring.faults = Some(faults)
}

/// Each message is cut once as a fast send and its rest once more as a write: at every pair of places, in steps that
/// leave out none of the first header's.
#[test]
fn a_message_is_whole_wherever_it_is_cut_twice() {
    let faults = Faults::new();
    let running = Running::new(Mode::Serve, with_faults(faults));
    let mut sender = running.connect();
    let mut receiver = running.connect();
    running.settle(2, |counters| counters.websockets.get());
    let frame = 4 + payload(0).len();
    let mut n = 0;
    for first in 0..frame {
        for second in [0, 1, 2, 3, (first * 13) % frame, frame - 1 - first] {
            faults.cut(Op::Send, first);
            faults.cut(Op::Write, second);
            sender.send(1, &payload(n));
            receiver.expect(&payload(n));
            // Whole, it never came to a write.
            faults.clear();
            n += 1;
        }
    }
    running.settle(0, |counters| counters.outbox_bytes.get());
    assert!(running.sum(|counters| counters.sends_short.get()) >= n as u64, "all were cut");
    running.stop();
}

/// What waits is several messages, and the writes of it end in any of them.
#[test]
fn messages_that_wait_together_are_whole_wherever_they_are_cut() {
    let faults = Faults::new();
    let running = Running::new(Mode::Serve, with_faults(faults));
    let mut sender = running.connect();
    let mut receiver = running.connect();
    running.settle(2, |counters| counters.websockets.get());
    let burst: Vec<u8> = (0..4).flat_map(|n| masked(1, &payload(n))).collect();
    for cut in 0..4 * (4 + payload(0).len()) {
        faults.cut(Op::Send, cut % 5);
        for write in [cut, 0, 1, cut / 2] {
            faults.cut(Op::Write, write);
        }
        sender.stream.write_all(&burst).unwrap();
        (0..4).for_each(|n| receiver.expect(&payload(n)));
        faults.clear();
    }
    running.stop();
}

/// Messages that may expire are written only once the socket takes something, by another kind of send.
#[test]
fn a_message_that_may_expire_is_whole_wherever_it_is_cut() {
    let faults = Faults::new();
    let running = Running::new(Mode::Serve, with_faults(faults));
    let mut receiver = running.connect();
    running.settle(1, |counters| counters.websockets.get());
    for cut in 0..4 + payload(0).len() {
        let payload = payload(cut);
        let mut caller = TcpStream::connect(running.address()).unwrap();
        caller.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The caller's answer is cut as well; which of the two comes first does not matter.
        for _ in 0..2 {
            faults.cut(Op::Send, cut);
            [cut / 3, 0, cut].into_iter().for_each(|write| faults.cut(Op::Write, write));
        }
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", payload.len());
        caller.write_all(&[head.as_bytes(), &payload].concat()).unwrap();
        receiver.expect(&payload);
        caller.read_to_end(&mut Vec::new()).unwrap();
        faults.clear();
    }
    running.stop();
}

/// A record of TLS that is cut anywhere goes on where it was cut, before any other.
#[test]
fn a_record_is_whole_wherever_it_is_cut() {
    let faults = Faults::new();
    let (store, config) = certificate();
    let running = Running::with(Mode::Serve, Some(store), |settings| {
        settings.ring.faults = Some(faults);
        settings.listen = vec![Address::parse("https://127.0.0.1:0").unwrap()];
    });
    let connect = || connect_over_tls(&running, 0, &config);
    let (mut sender, mut receiver) = (connect(), connect());
    running.settle(2, |counters| counters.websockets.get());
    // 22 bytes around what is encrypted (RFC 8446 §5.2).
    let record = 22 + 4 + payload(0).len();
    let burst: Vec<u8> = (0..3).flat_map(|n| masked(1, &payload(n))).collect();
    for cut in 0..record {
        faults.cut(Op::Send, cut);
        for write in [record - 1 - cut, 0, cut / 2] {
            faults.cut(Op::Write, write);
        }
        sender.stream.write_all(&burst).unwrap();
        (0..3).for_each(|n| receiver.expect(&payload(n)));
        faults.clear();
    }
    running.stop();
}
