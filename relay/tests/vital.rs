//! A thread that panics ends the process (`reliability` check 82), and says so last.
//!
//! Nobody's log is set up here, so that line is written as it is.
#![allow(missing_docs)]

#[path = "support/last_words.rs"]
mod last_words;
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use ringhub_hub::Ticket;
use ringhub_protocol::name::HubName;
use ringhub_relay::exchange::{Ask, Exchange};
use ringhub_relay::listener::{Destination, Listener, ListenerSettings};
use ringhub_relay::sink::EventSink;
use ringhub_relay::upstream::Upstream;
use ringhub_relay::{Relay, Settings, Signer};
use std::io;
use std::sync::Arc;
use support::world::{CORE, Client, HUB, World, settings};

/// In the test of this name: runs it again, in a process that `act` must end, with a last line about `who`.
fn ends_the_process(test: &str, who: &str, act: impl FnOnce()) {
    let log = last_words::ends_the_process(test, "", who, "raised by a test", act);
    let last = format!("ringhub: {who} panicked; the process ends so that it can be restarted");
    assert!(log.is_empty() || log.lines().last() == Some(&*last), "{log}");
}

/// Before, the process lived on, and its events left as too old for ever.
#[test]
fn a_panic_of_a_listeners_thread_ends_the_process() {
    struct Panics;

    impl EventSink for Panics {
        fn deliver(&mut self, _: &[u8]) -> io::Result<()> {
            panic!("raised by a test")
        }
    }

    ends_the_process("a_panic_of_a_listeners_thread_ends_the_process", "thread ringhub-events", || {
        let hub = HubName::parse("chat").unwrap();
        let destination = Destination::Stdout;
        let listener =
            ListenerSettings { hub, place: 0, destination, queue_max: 9, queue_bytes_max: 1 << 20 };
        let listener = Listener::with_sink(listener, Box::new(Panics));
        let world = World::start();
        let upstream = Upstream::new(settings("http://127.0.0.1:1/")).unwrap();
        let mut event = Client::new(&upstream).connected();
        event.handler = None;
        event.listeners = vec![listener.clone()];
        world.send(vec![event]);
        // What is dropped here would wait for the listener's thread.
        std::mem::forget((world, listener));
    });
}

#[test]
fn a_panic_of_the_side_thread_ends_the_process() {
    ends_the_process("a_panic_of_the_side_thread_ends_the_process", "the side thread", || {
        let exchange = Arc::new(Exchange::new(1));
        exchange.set_bell(Box::new(|_| panic!("raised by a test")));
        let signer = Signer::new(&["first"]);
        let relay = Relay::start(Settings { issuers: Vec::new(), exchange: exchange.clone(), signer });
        let upstream = Upstream::new(settings("http://127.0.0.1:1/")).unwrap();
        let mut event = Client::new(&upstream).user("vote", "");
        // Answered at once, and not by a task: those are fenced.
        (event.handler, event.ticket) = (None, Some(Ticket(1)));
        assert!(exchange.ask(CORE, vec![Ask::Event(HUB, Box::new(event))]).is_ok());
        std::mem::forget(relay);
    });
}
