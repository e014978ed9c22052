//! Processes that must end because one of their threads panicked: each is the test's own executable again, told by a
//! variable which test, and which case of it, it is. The engine's tests have this file too.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, io, thread};

/// Names what a process of ours is to do.
const CHILD: &str = "RINGHUB_TEST_PANICS";
/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What `abort(3)` raises.
const SIGABRT: i32 = 6;

/// In the test of this name: runs it again, in a process that must end by itself, with a last line about `who` and,
/// above it, `why`; returns what it said on standard error. In that process: does `act`, and nothing more by itself.
#[track_caller]
pub(crate) fn ends_the_process(test: &str, case: &str, who: &str, why: &str, act: impl FnOnce()) -> String {
    let name = format!("{test} {case}");
    if let Ok(child) = env::var(CHILD) {
        if child == name {
            act();
            // Until the test gives up on it.
            let _ = io::stdin().read(&mut [0]);
        }
        return String::new();
    }
    let mut child = Command::new(env::current_exe().expect("a running test has a path"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, name)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("what runs can be run");
    let (input, mut said) = (child.stdin.take(), child.stderr.take().expect("it is piped"));
    let (ended, end) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut log = String::new();
        let read = said.read_to_string(&mut log);
        let _ = ended.send(());
        read.map(|_| log).expect("the log is text")
    });
    // One that does not end by itself does once nobody holds its input: without the signal that is asked for.
    let _ = end.recv_timeout(PATIENCE);
    drop(input);
    let status = child.wait().expect("it is ours");
    let log = reader.join().expect("it reads to the end");
    assert_eq!(status.signal(), Some(SIGABRT), "{case}: {log}");
    let last = log.lines().last().unwrap_or_default();
    let words = format!("{who} panicked; the process ends so that it can be restarted");
    assert!(last.contains(&words), "the last line is for the operator: {log}");
    assert!(log.contains(why), "above it stands why: {log}");
    log
}
