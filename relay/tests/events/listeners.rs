//! Event listeners (`event-handlers` §9).

use ringhub_hub::event::Reply;
use ringhub_protocol::name::HubName;
use ringhub_relay::listener::{Destination, Listener, ListenerSettings};
use ringhub_relay::sink::EventSink;
use ringhub_relay::upstream::Upstream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{fs, io};

use crate::support::eventually;
use crate::support::handler::{Handler, PATIENCE, status};
use crate::support::world::{Client, World, settings};

fn listener_settings(destination: Destination) -> ListenerSettings {
    let hub = HubName::parse("chat").unwrap();
    ListenerSettings { hub, place: 0, destination, queue_max: 1000, queue_bytes_max: 1 << 20 }
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringhub-listener-{name}-{}", std::process::id()))
}

#[test]
fn copies_have_the_ids_of_the_webhooks_and_are_all_there_after_the_stop() {
    let file = path("copies");
    let _ = fs::remove_file(&file);
    let listener = Listener::new(listener_settings(Destination::File(file.clone()))).unwrap();
    let handler = Handler::start(|_| status(204));
    let mut world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    world.call(client.connect());
    for n in 0..10 {
        let mut event = client.user("vote", &format!("line\n{n}"));
        event.listeners = vec![listener.clone(), listener.clone()];
        assert_eq!(world.call(event), Reply::Answered(None));
    }
    // Without a handler there is nobody to wait for.
    let mut note = client.connected();
    note.handler = None;
    note.listeners = vec![listener.clone()];
    world.send(vec![note]);
    world.stop(Duration::from_secs(5));
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 21);
    let posts = handler.posts();
    for (pair, post) in lines[..20].chunks(2).zip(&posts[1..]) {
        assert_eq!(pair[0], pair[1]);
        assert_eq!(pair[0]["id"].as_str(), post.header("ce-id"));
        assert_eq!(pair[0]["time"].as_str(), post.header("ce-time"));
        assert_eq!(pair[0]["type"], "azure.webpubsub.user.vote");
        assert_eq!(pair[0]["data"].as_str().unwrap().as_bytes(), post.body);
    }
    assert_eq!((lines[20]["id"].as_str(), lines[20]["eventname"].as_str()), (Some("11"), Some("connected")));
    let report = listener.report();
    assert_eq!((report.delivered, report.dropped, report.failed, report.queued), (21, 0, 0, 0));
}

/// A sink whose door the test opens.
#[derive(Clone, Default)]
struct Stalled(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_open: bool,
    fails: bool,
    lines: Vec<u8>,
    calls: usize,
}

impl EventSink for Stalled {
    fn deliver(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        state.calls += 1;
        self.0.1.notify_all();
        let mut state = self.0.1.wait_while(state, |state| !state.is_open).unwrap();
        if state.fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.lines.extend_from_slice(lines);
        Ok(())
    }
}

impl Stalled {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn wait_for_calls(&self, calls: usize) {
        let state = self.0.0.lock().unwrap();
        let waited = self.0.1.wait_timeout_while(state, PATIENCE, |state| state.calls < calls).unwrap();
        assert!(!waited.1.timed_out());
    }
}

#[test]
fn a_stalled_sink_holds_up_no_event_and_its_oldest_are_dropped() {
    let stalled = Stalled::default();
    let queue_max = 10;
    let mut world = World::start();
    let listener = Listener::with_sink(
        ListenerSettings { queue_max, ..listener_settings(Destination::Stdout) },
        Box::new(stalled.clone()),
    );
    let handler = Handler::start(|_| status(204));
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    let call = |n: usize| {
        let mut event = client.user("a", &n.to_string());
        event.listeners = vec![listener.clone()];
        assert_eq!(world.call(event), Reply::Answered(None));
    };
    call(0);
    stalled.wait_for_calls(1);
    (1..=25).for_each(call);
    let report = listener.report();
    assert_eq!((report.delivered, report.dropped, report.queued), (0, 15, queue_max + 1));
    assert!(report.queued_bytes > 0);
    stalled.change(|state| state.is_open = true);
    world.stop(Duration::from_secs(5));
    let lines = stalled.0.0.lock().unwrap().lines.clone();
    let data: Vec<String> = String::from_utf8(lines)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["data"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected: Vec<String> = std::iter::once(0).chain(16..=25).map(|n| n.to_string()).collect();
    assert_eq!(data, expected);
    assert_eq!(listener.report().delivered, 11);
}

#[test]
fn bytes_are_bounded_too_and_one_event_that_is_too_large_drops_only_itself() {
    let stalled = Stalled::default();
    let world = World::start();
    let listener = Listener::with_sink(
        ListenerSettings { queue_bytes_max: 2000, ..listener_settings(Destination::Stdout) },
        Box::new(stalled.clone()),
    );
    let handler = Handler::start(|_| status(204));
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    let call = |bytes: usize| {
        let mut event = client.user("a", &"x".repeat(bytes));
        event.listeners = vec![listener.clone()];
        world.call(event);
    };
    call(1);
    stalled.wait_for_calls(1);
    call(500);
    call(500);
    let before = listener.report();
    assert_eq!((before.dropped, before.queued), (0, 3));
    call(1000);
    let after = listener.report();
    assert!(after.dropped >= 1 && after.queued_bytes <= 2000, "{after:?}");
    call(5000);
    assert_eq!(listener.report().queued, 1, "everything left for it, and it does not fit either");
    stalled.change(|state| state.is_open = true);
    eventually(|| listener.report().delivered == 1);
}

#[test]
fn a_sink_that_fails_is_counted_and_tried_again_with_what_comes() {
    let stalled = Stalled::default();
    stalled.change(|state| (state.is_open, state.fails) = (true, true));
    let world = World::start();
    let listener = Listener::with_sink(listener_settings(Destination::Stdout), Box::new(stalled.clone()));
    let handler = Handler::start(|_| status(204));
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    let call = || {
        let mut event = client.user("a", "");
        event.listeners = vec![listener.clone()];
        assert_eq!(world.call(event), Reply::Answered(None));
    };
    call();
    eventually(|| listener.report().failed == 1);
    stalled.change(|state| state.fails = false);
    call();
    eventually(|| listener.report().delivered == 1);
}

/// A reload drops the listener; its thread delivers what it has, and ends.
#[test]
fn a_listener_that_is_gone_delivers_what_it_has() {
    let stalled = Stalled::default();
    let world = World::start();
    let listener = Listener::with_sink(listener_settings(Destination::Stdout), Box::new(stalled.clone()));
    let handler = Handler::start(|_| status(204));
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    for _ in 0..5 {
        let mut event = client.user("a", "");
        event.listeners = vec![listener.clone()];
        world.call(event);
    }
    drop(listener);
    stalled.change(|state| state.is_open = true);
    // The sink is dropped with the thread: then only the test has it.
    eventually(|| Arc::strong_count(&stalled.0) == 1);
    assert_eq!(stalled.0.0.lock().unwrap().lines.iter().filter(|byte| **byte == b'\n').count(), 5);
}
