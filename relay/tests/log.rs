//! What the operator reads of a handler that fails. Alone in its process, for a log is for a whole one.
#![allow(missing_docs)]

#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use ringhub_hub::event::Reply;
use ringhub_relay::upstream::{Upstream, UpstreamSettings};
use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use support::eventually;
use support::handler::{Handler, answer};
use support::world::{Client, World, settings};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

#[test]
fn failures_are_said_in_the_documented_words_and_do_not_flood() {
    let lines = Lines::default();
    let made = lines.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || made.clone()).init();
    let handler = Handler::start(|request| match &*request.path {
        "/connect" => answer(401, "", ""),
        _ => answer(404, "", "a body\nthat is nobody's business"),
    });
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        retry_delays: Vec::new(),
        breaker_failures: 2,
        ..settings(&handler.url("/{event}?code={env:CODE}"))
    })
    .unwrap();
    let client = Client::new(&upstream);
    let begin = Instant::now();
    for _ in 0..200 {
        assert_eq!(world.call(client.user("vote", "payload")), Reply::Failed(404));
    }
    let seconds = begin.elapsed().as_secs() as usize;
    let first = lines.take();
    assert!((1..=2 + seconds).contains(&first.len()), "{first:#?}");
    let id = client.caller.id.to_string();
    for part in [
        "WARN",
        "Sending message during operation hub:chat,event:vote,type:user,category:messages,requestType:Message got \
         unexpected response with status code 404.",
        "handler=0",
        &format!("url={}", handler.url("/{event}?code=…")),
        &format!("connection={id} id=1 attempts=1"),
        "outcome=\"client_error\" cause=\"the handler answered 404\" left_out=0",
    ] {
        assert!(first[0].contains(part), "{part:?} is not in {}", first[0]);
    }
    let later = RefCell::new(Vec::new());
    eventually(|| {
        assert_eq!(world.call(client.user("vote", "payload")), Reply::Failed(404));
        later.borrow_mut().extend(lines.take());
        !later.borrow().is_empty()
    });
    let later = later.into_inner();
    assert!(later.len() == 1 && !later[0].contains("left_out=0"), "{later:#?}");

    // That a handler refuses a client is no failure of it.
    assert!(matches!(world.call(client.connect()), Reply::Refused(_)));
    assert_eq!(lines.take(), [""; 0]);

    // A handler that is not there: its failure, and once that it rests.
    let dead = Upstream::new(UpstreamSettings {
        retry_delays: Vec::new(),
        breaker_failures: 2,
        ..settings("http://127.0.0.1:1/")
    })
    .unwrap();
    let client = Client::new(&dead);
    for reply in [502, 502, 503, 503] {
        assert_eq!(world.call(client.user("vote", "payload")), Reply::Failed(reply));
    }
    let all = lines.take();
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(
        all[0].contains("got no response that could be used.") && all[0].contains("refused"),
        "{}",
        all[0]
    );
    assert!(all[1].contains("WARN") && all[1].contains("until it had a rest"), "{}", all[1]);
    assert!(
        [first, later, all]
            .iter()
            .flatten()
            .all(|line| !line.contains("payload") && !line.contains("s3cret"))
    );
}
