//! What a panic ends (`reliability` check 82): a connection, or the process, never half a core.

use super::*;
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

/// Set for the process of [`the_process_that_panics`].
const IS_CHILD: &str = "RINGHUB_TEST_PANICS";

/// Anywhere else in the loop: the process, at once, with a last line that says so.
#[test]
fn a_panic_in_the_loop_ends_the_process() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "core::tests::panics::the_process_that_panics", "--nocapture"])
        .env(IS_CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{log}");
    let mut lines = log.trim_end().lines().rev();
    let last = lines.next().unwrap_or_default();
    assert!(
        last.starts_with("ringhub: core ") && last.ends_with("so that it can be restarted"),
        "the last line is for the operator: {log}"
    );
    assert!(lines.any(|line| line.contains("raised by a test")), "and above it stands why: {log}");
}

/// A process of its own, or nothing.
#[test]
fn the_process_that_panics() {
    if std::env::var_os(IS_CHILD).is_none() {
        return;
    }
    let gate = |target: &str| assert!(!target.contains("panic"), "raised by a test");
    let running = Running::gated(Mode::Serve, None, gate, |settings| settings.cores = 2);
    let mut bystander = running.connect();
    let mut stream = TcpStream::connect(running.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&upgrade("/client/hubs/chat?panic", None)).unwrap();
    let _ = stream.read(&mut [0; 1]);
    // Nobody tells it anything: it waits for the end of the process.
    let _ = bystander.next();
}
