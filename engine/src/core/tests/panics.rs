//! What a panic ends (`reliability` check 82): a connection, or the process, never half a core.

use super::*;
use crate::core::faults::Faults;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

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

/// Set for the process of [`the_process_that_panics`], to why.
const IS_CHILD: &str = "RINGHUB_TEST_PANICS";

/// What a process said that panicked because of `why`: above its last line, which is for the operator.
fn last_words(why: &str) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "core::tests::panics::the_process_that_panics", "--nocapture"])
        .env(IS_CHILD, why)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&child.stderr).into_owned();
    assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{why}: {log}");
    let (above, last) = log.trim_end().rsplit_once('\n').unwrap_or_default();
    assert!(
        last.starts_with("ringhub: core ") && last.ends_with("so that it can be restarted"),
        "{why}: {log}"
    );
    above.to_owned()
}

/// Anywhere else in the loop: the process, at once, with a last line that says so.
#[test]
fn a_panic_in_the_loop_ends_the_process() {
    let log = last_words("a request");
    assert!(log.contains("raised by a test"), "{log}");
}

/// A ring that cannot be entered any more is of no use to anybody (io_uring_enter(2), "Errors"; check 80). What it may
/// fail with and be entered again is tried in `faults`.
#[test]
fn a_ring_that_cannot_be_entered_ends_the_process() {
    for errno in
        [libc::EBADF, libc::EBADFD, libc::EFAULT, libc::EINVAL, libc::ENXIO, libc::EEXIST, libc::EPERM]
    {
        let log = last_words(&errno.to_string());
        assert!(log.contains(&format!("io_uring_enter failed for good: errno Some({errno})")), "{log}");
    }
}

/// A process of its own, or nothing.
#[test]
fn the_process_that_panics() {
    let Ok(why) = std::env::var(IS_CHILD) else { return };
    let faults = Faults::new();
    let gate = |target: &str| assert!(!target.contains("panic"), "raised by a test");
    let running = Running::gated(Mode::Serve, None, gate, |settings| {
        settings.cores = 2;
        settings.ring.faults = Some(faults);
    });
    let _bystander = running.connect();
    let mut stream = TcpStream::connect(running.address()).unwrap();
    match why.parse() {
        Ok(errno) => faults.fail_enters(1, errno),
        Err(_) => stream.write_all(&upgrade("/client/hubs/chat?panic", None)).unwrap(),
    }
    running.server.control().wake();
    // Nobody tells it anything: it waits for the end of the process.
    std::thread::sleep(Duration::from_secs(20));
}
