//! What a panic ends (`reliability` check 82): a connection, or the process, never half a core.

#[path = "../../../../relay/tests/support/last_words.rs"]
mod last_words;

use super::*;
use crate::config::LogFormat;
use crate::core::faults::Faults;
use crate::trace;
use serde_json::Value;

/// While decoding: the one connection.
#[test]
fn a_panic_while_decoding_ends_one_client_with_1011() {
    let running = Running::new(Mode::Serve, |_| {});
    let mut victim = running.connect();
    let mut neighbour = running.connect();
    running.settle(2, |counters| counters.websockets.get());
    victim.send(1, crate::net::client::PANIC.as_bytes());
    let (opcode, payload) = victim.next().unwrap();
    assert_eq!((opcode, &payload[..2]), (8, &1011u16.to_be_bytes()[..]));
    assert_eq!(victim.next(), None);
    neighbour.send(9, b"still there");
    assert_eq!(neighbour.next(), Some((10, b"still there".to_vec())));
    assert_eq!(running.sum(|counters| counters.panics.get()), 1);
    running.settle(1, |counters| counters.websockets.get());
    running.stop();
}

/// [`last_words`] of a test without cases, whose panic says what all of these do.
pub(crate) fn ends_the_process(test: &str, who: &str, act: impl FnOnce()) -> String {
    last_words::ends_the_process(test, "", who, "raised by a test", act)
}

/// Anywhere else in the loop: the process, at once, with a last line that says so.
#[test]
fn a_panic_in_the_loop_ends_the_process() {
    ends_the_process(
        "core::tests::panics::a_panic_in_the_loop_ends_the_process",
        "core 0",
        panic_in_the_loop,
    );
}

/// A ring that cannot be entered any more is of no use to anybody (io_uring_enter(2), "Errors"; check 80). What it may
/// fail with and be entered again is tried in `faults`.
#[test]
fn a_ring_that_cannot_be_entered_ends_the_process() {
    let test = "core::tests::panics::a_ring_that_cannot_be_entered_ends_the_process";
    for errno in
        [libc::EBADF, libc::EBADFD, libc::EFAULT, libc::EINVAL, libc::ENXIO, libc::EEXIST, libc::EPERM]
    {
        let why = format!("io_uring_enter failed for good: errno Some({errno})");
        last_words::ends_the_process(test, &errno.to_string(), "core 0", &why, || {
            let faults = Faults::new();
            let running = Running::new(Mode::Serve, |settings| settings.ring.faults = Some(faults));
            let mut bystander = running.connect();
            faults.fail_enters(1, errno);
            running.server.control().wake();
            // Nobody tells it anything.
            let _ = bystander.next();
        });
    }
}

/// The standard hook wrote what peers may have had a part in as it was, and broke a log of JSON.
#[test]
fn a_panic_is_a_record_of_the_log_and_so_are_the_last_words() {
    let test = "core::tests::panics::a_panic_is_a_record_of_the_log_and_so_are_the_last_words";
    let log = ends_the_process(test, "core 0", || {
        // A filter that would keep them back.
        trace::start("ringhub::nothing=info", LogFormat::Json, Arc::default()).unwrap();
        panic_in_the_loop();
    });
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(&log)).collect();
    let messages: Vec<&str> = records.iter().map(|record| record["message"].as_str().unwrap()).collect();
    assert!(messages[0].ends_with("raised by a test\n\u{1b}[31m"), "{log}");
    assert!(records.iter().all(|record| record["level"] == "ERROR"), "{log}");
}

/// On one core, whose client waits for the end of the process.
fn panic_in_the_loop() {
    let gate = |target: &str| assert!(!target.contains("panic"), "raised by a test\n\u{1b}[31m");
    let running = Running::gated(Mode::Serve, None, gate, |_| {});
    let mut bystander = running.connect();
    let mut stream = TcpStream::connect(running.address()).unwrap();
    stream.write_all(&upgrade("/client/hubs/chat?panic", None)).unwrap();
    // Nobody tells it anything.
    let _ = bystander.next();
}
