//! The harness of the black-box tests: the real binary, real sockets, four lines a test.
//!
//! ```no_run
//! use ringhub_tests::{Client, Server};
//!
//! let server = Server::start();
//! let mut alice = server.connect(Client::json().user("alice").group("g").role("webpubsub.sendToGroup.g"));
//! alice.send(r#"{"type":"sendToGroup","group":"g","dataType":"text","data":"hi"}"#);
//! alice.expect(r#"{"type":"message","from":"group","group":"g","fromUserId":"alice","dataType":"text","data":"hi"}"#);
//! ```
//!
//! | Type | Is |
//! |---|---|
//! | [`Server`] | one `ringhub serve` on free ports; its log is printed when the test fails |
//! | [`Endpoint`] | where to connect and with which key: the server itself, its admin listener, or a proxy before it |
//! | [`Client`] → [`Connection`] | what a client asks for; the client once upgraded |
//! | [`Request`] → [`Response`] | one HTTP exchange |
//! | [`RawSocket`] | hand-made bytes, and frames as they came |
//! | [`Issuer`] | an OIDC issuer on loopback, which can also answer badly |
//! | [`Handler`], [`Call`], [`Answer`] | an application server that records every request and answers as told |
//! | [`Certificate`] | what TLS servers show, and clients that trust it |
//! | [`History`] | what was published, acknowledged and received, held against the contract of reliable delivery |
//! | [`Proxy`] | a TCP proxy that cuts, stalls and points elsewhere |
//! | [`Script`] | one SDK scenario in Node or Python |
//!
//! With `RINGHUB_TESTS_TLS=1` in the environment every server speaks TLS, and so do its clients, the SDKs included.
//! With `RINGHUB_TESTS_SANDBOX=1` every server runs confined as its systemd unit confines it; `RINGHUB_TESTS_SERVER`
//! names another binary of it, such as one that a sanitizer watches (`.ci/sanitize`).
//!
//! What must stay true: nothing here knows the server's code; everything waits for a condition with
//! [`DEADLINE`], never for a time; a process is ended through its own handle; nothing leaves loopback
//! but the package managers that install the SDKs.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod client;
mod connection;
mod handler;
mod history;
mod http;
mod issuer;
mod process;
mod proxy;
mod raw;
mod sandbox;
mod script;
mod server;
mod stream;
mod token;

pub use client::Client;
pub use connection::Connection;
pub use handler::{Answer, Call, Gate, Handler, dead_address};
pub use history::{History, Violation};
pub use http::{Request, Response};
pub use issuer::{Answering, Issuer};
pub use process::{Process, ringhub};
pub use proxy::Proxy;
pub use raw::{Frame, RawSocket, masked_frame};
pub use script::{Script, npm_package};
pub use server::{Endpoint, Server, Setup, sum_of, write_config};
pub use stream::{Certificate, TlsClient};
pub use token::{Token, json_object, now_seconds};

/// How long anything is waited for before the test fails. Far above what a loaded two-core machine
/// needs, far below what a person waits.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How often [`wait_until`] asks. No test depends on it: longer is slower, shorter is busier.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// The access key of every server that a test does not give another one.
pub const KEY: &str = "harness-key-0123456789-0123456789-0123456789";

/// The REST version that the released SDKs send.
pub const API_VERSION: &str = "2024-12-01";

/// How much of a thing a test does: `usual`, or what this variable of the environment says, for a longer run by hand.
#[track_caller]
pub fn size_of_run(variable: &str, usual: usize) -> usize {
    match std::env::var(variable) {
        Ok(size) => size.parse().unwrap_or_else(|_| panic!("{variable} is a number: {size:?}")),
        Err(_) => usual,
    }
}

/// Sets what ends other threads of a test, also when it fails: otherwise it would wait for them for ever.
#[derive(Debug)]
pub struct AtEnd<'a>(pub &'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The most memory that a test lets the server hold where it is to hold no more than `bytes`: with
/// `RINGHUB_TESTS_WATCHED=1` the server watches itself (`.ci/sanitize`), and keeps as much again about each byte, and for
/// a while what it has freed.
pub fn memory_bound(bytes: usize) -> usize {
    match std::env::var_os("RINGHUB_TESTS_WATCHED") {
        Some(_) => 4 * bytes + (64 << 20),
        None => bytes,
    }
}

/// Asks again every few milliseconds, at most for [`DEADLINE`], until `holds`: for state of another process
/// that only asking shows. Everything else is awaited where it happens.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so after {DEADLINE:?}: {what}");
        thread::sleep(ASK_EVERY);
    }
}
