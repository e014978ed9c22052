//! Every bound of a handler, reached.

use ringhub_hub::event::Reply;
use ringhub_relay::BreakerState;
use ringhub_relay::report::{CALLS_KEPT, EventClass, Outcome};
use ringhub_relay::upstream::{Upstream, UpstreamSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::Door;
use crate::support::handler::{Action, Handler, answer, status};
use crate::support::world::{Client, World, settings};

#[test]
fn so_many_requests_at_a_time_and_so_many_events_wait() {
    let handler = Handler::start(|_| Action::Hang);
    let world = World::start();
    let upstream =
        Upstream::new(UpstreamSettings { concurrency_max: 2, queue_max: 3, ..settings(&handler.url("/")) })
            .unwrap();
    let clients: Vec<Client> = (0..6).map(|_| Client::new(&upstream)).collect();
    let tickets: Vec<_> = clients.iter().map(|client| world.ask(client.user("a", "12345"))).collect();
    // The last finds no room, at once.
    assert_eq!(world.reply(tickets[5]), Reply::Failed(503));
    handler.wait_for_posts(2);
    let report = upstream.report();
    assert_eq!((report.in_flight, report.queued, report.queued_bytes), (2, 3, 15));
    // Nobody waits for this one: it is dropped, and counted.
    world.send(vec![clients[5].connected()]);
    world.cancel(tickets[4]);
    assert_eq!(world.reply(tickets[4]), Reply::Failed(499));
    let events = upstream.report().events;
    assert_eq!(events[EventClass::Connected as usize][Outcome::Overloaded as usize], 1);
    assert_eq!(events[EventClass::User as usize][Outcome::Overloaded as usize], 1);
    // There is room again, and who gets a place goes.
    world.send(vec![clients[5].connected()]);
    world.cancel(tickets[0]);
    assert_eq!(world.reply(tickets[0]), Reply::Failed(499));
    handler.wait_for_posts(3);
    assert_eq!(handler.posts()[2].header("ce-connectionid"), Some(&*clients[2].caller.id.to_string()));
}

#[test]
fn so_many_bytes_wait() {
    let handler = Handler::start(|_| Action::Hang);
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        concurrency_max: 1,
        queue_bytes_max: 100,
        ..settings(&handler.url("/"))
    })
    .unwrap();
    let ask = |bytes: usize| world.ask(Client::new(&upstream).user("a", &"x".repeat(bytes)));
    ask(1000);
    ask(99);
    assert_eq!(world.reply(ask(2)), Reply::Failed(503));
    ask(1);
    assert_eq!(world.reply(ask(1)), Reply::Failed(503));
    assert_eq!(upstream.report().queued_bytes, 100);
}

#[test]
fn an_event_that_finds_no_place_in_time_has_failed() {
    let handler = Handler::start(|_| Action::Hang);
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        concurrency_max: 1,
        timeout: Duration::from_millis(200),
        breaker_failures: 1,
        ..settings(&handler.url("/"))
    })
    .unwrap();
    // `connect` has another deadline: it keeps the place.
    world.ask(Client::new(&upstream).connect());
    assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(504));
    assert_eq!((upstream.report().in_flight, upstream.report().queued), (1, 0));
    assert_eq!(handler.posts().len(), 1);
    // What was not even sent says nothing of the handler.
    assert_eq!(upstream.report().breaker, BreakerState::Closed);
}

#[test]
fn a_handler_that_fails_is_given_a_rest_and_one_event_asks_whether_it_is_back() {
    let is_back = Arc::new(AtomicBool::new(false));
    let back = is_back.clone();
    let door = Arc::new(Door::default());
    let held = door.clone();
    let handler = Handler::start(move |request| match (back.load(Ordering::Relaxed), &*request.body) {
        (true, b"probe") => {
            held.pass();
            status(204)
        }
        (true, _) => status(204),
        (false, b"refuse") => status(400),
        (false, _) => status(500),
    });
    let world = World::start();
    let upstream =
        Upstream::new(UpstreamSettings { breaker_failures: 3, ..settings(&handler.url("/")) }).unwrap();
    let call = |body: &str| world.call(Client::new(&upstream).user("a", body));
    // A 4xx is an answer: it begins anew.
    for (body, reply) in [("", 500), ("", 500), ("refuse", 400), ("", 500), ("", 500)] {
        assert_eq!(call(body), Reply::Failed(reply));
        assert_eq!(upstream.report().breaker, BreakerState::Closed);
    }
    assert_eq!(call(""), Reply::Failed(500));
    assert_eq!(upstream.report().breaker, BreakerState::Open);
    let asked = handler.posts().len();
    assert_eq!(asked, 5 * 4 + 1, "each had all of its attempts");
    for _ in 0..10 {
        assert_eq!(call(""), Reply::Failed(503));
    }
    assert_eq!(handler.posts().len(), asked);
    is_back.store(true, Ordering::Relaxed);
    let client = Client::new(&upstream);
    let mut refused = 0;
    // While it rests each is refused at once; then one is sent.
    let probe = loop {
        let probe = world.ask(client.user("a", "probe"));
        let reply = loop {
            if handler.posts().len() > asked {
                break None;
            }
            if let Some(reply) = world.reply_within(probe, Duration::from_millis(5)) {
                break Some(reply);
            }
        };
        let Some(reply) = reply else { break probe };
        assert_eq!(reply, Reply::Failed(503));
        refused += 1;
    };
    assert_eq!(upstream.report().breaker, BreakerState::Probing);
    assert_eq!(call(""), Reply::Failed(503), "one at a time");
    door.open();
    assert_eq!(world.reply(probe), Reply::Answered(None));
    assert_eq!(upstream.report().breaker, BreakerState::Closed);
    assert_eq!(call(""), Reply::Answered(None));
    let user = upstream.report().events[EventClass::User as usize];
    assert_eq!((user[Outcome::Resting as usize], user[Outcome::ServerError as usize]), (11 + refused, 5));
}

/// Four answers of 16 MiB fill the room for large ones; the fifth waits until one of them is given up.
#[test]
fn who_finds_no_room_for_an_answer_waits_for_it() {
    let large = Arc::new(AtomicUsize::new(0));
    let seen = large.clone();
    let handler = Handler::start(move |request| {
        if request.body == b"large" {
            seen.fetch_add(1, Ordering::Relaxed);
            // More than is small, in one chunk of a body that does not end.
            let mut bytes = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n".to_vec();
            bytes.resize(bytes.len() + 0x30000, b'x');
            bytes.extend_from_slice(b"\r\n");
            Action::Answer(bytes)
        } else if request.body == b"medium" {
            answer(200, "Content-Type: text/plain\r\n", vec![b'x'; 0x30000])
        } else {
            answer(200, "Content-Type: text/plain\r\n", "small")
        }
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let ask = |body: &str| world.ask(Client::new(&upstream).user("a", body));
    let holders: Vec<_> = (0..4).map(|_| ask("large")).collect();
    // They have their room once the relay has nothing more to read; small answers show that it came so far.
    handler.wait_for_posts(4);
    let waits = loop {
        assert!(
            matches!(world.reply(ask("small")), Reply::Answered(Some(_))),
            "small ones have room of their own"
        );
        let waits = ask("medium");
        match world.reply_within(waits, Duration::from_millis(300)) {
            None => break waits,
            Some(reply) => assert!(matches!(reply, Reply::Answered(Some(_)))),
        }
    };
    world.cancel(holders[0]);
    assert_eq!(world.reply(holders[0]), Reply::Failed(499));
    let Reply::Answered(Some(message)) = world.reply(waits) else { panic!() };
    assert_eq!(message.bytes.len(), 0x30000);
    assert_eq!(large.load(Ordering::Relaxed), 4);
}

#[test]
fn the_inspector_keeps_the_last_calls_and_bodies_only_if_asked_to() {
    let handler = Handler::start(|request| answer(200, "Content-Type: text/plain\r\n", &request.body));
    let world = World::start();
    let url = handler.url("/?code={env:CODE}");
    let upstream = Upstream::new(settings(&url)).unwrap();
    let quiet = Upstream::new(UpstreamSettings { inspect_bodies: false, ..settings(&url) }).unwrap();
    let client = Client::new(&upstream);
    let long = "x".repeat(5000);
    for n in 0..CALLS_KEPT + 10 {
        world.call(client.user(&format!("e{n}"), &long));
    }
    world.call(Client::new(&quiet).user("a", "hidden"));
    let report = upstream.report();
    assert!(report.url.ends_with("/?code=…"), "{}", report.url);
    assert_eq!(report.calls.len(), CALLS_KEPT);
    let newest = &report.calls[0];
    assert_eq!(newest.subject.subject().name(), format!("e{}", CALLS_KEPT + 9));
    assert_eq!((newest.connection, newest.id), (client.caller.id, CALLS_KEPT as u64 + 10));
    assert_eq!((newest.request_bytes, newest.answer_bytes, newest.status), (5000, 5000, Some(200)));
    let (request, answer) = newest.bodies.as_ref().unwrap();
    assert_eq!((request.len(), answer.len()), (4096, 4096));
    assert!(newest.queue <= newest.first_byte.unwrap() && newest.first_byte.unwrap() <= newest.total);
    assert_eq!(quiet.report().calls[0].bodies, None);
    let latency = report.latency;
    assert_eq!(latency.buckets.iter().sum::<u64>(), CALLS_KEPT as u64 + 10);
    assert!(!latency.sum.is_zero());
}
