//! The end of the relay.

use ringhub_hub::event::Reply;
use ringhub_relay::upstream::{Upstream, UpstreamSettings};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::Door;
use crate::support::handler::{Action, Handler, status};
use crate::support::world::{Client, World, settings};

#[test]
fn what_was_asked_before_is_sent_and_answered_within_the_grace() {
    let door = Arc::new(Door::default());
    let held = door.clone();
    let handler = Handler::start(move |_| {
        held.pass();
        status(204)
    });
    let mut world = World::start();
    let upstream =
        Upstream::new(UpstreamSettings { concurrency_max: 4, ..settings(&handler.url("/")) }).unwrap();
    let clients: Vec<Client> = (0..16).map(|_| Client::new(&upstream)).collect();
    let tickets: Vec<_> = clients.iter().map(|client| world.ask(client.user("a", ""))).collect();
    world.send(clients.iter().map(Client::connected).collect());
    handler.wait_for_posts(4);
    let begin = Instant::now();
    world.begin_stop(Duration::from_secs(20));
    door.open();
    world.stop(Duration::from_secs(20));
    assert!(begin.elapsed() < Duration::from_secs(10), "it does not wait longer than it has to");
    tickets.into_iter().for_each(|ticket| assert_eq!(world.reply(ticket), Reply::Answered(None)));
    assert_eq!(handler.posts().len(), 32);
}

#[test]
fn when_the_grace_ends_what_is_left_is_given_up_and_answered() {
    let handler = Handler::start(|request| if request.body == b"hang" { Action::Hang } else { status(503) });
    let mut world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        retry_delays: vec![Duration::from_secs(3600)],
        timeout: Duration::from_secs(7200),
        ..settings(&handler.url("/"))
    })
    .unwrap();
    let client = Client::new(&upstream);
    let hanging = world.ask(Client::new(&upstream).user("a", "hang"));
    // One that waits for another attempt, and nobody waits for it.
    world.send(vec![client.connected()]);
    handler.wait_for_posts(2);
    let begin = Instant::now();
    world.stop(Duration::from_millis(300));
    assert!(begin.elapsed() >= Duration::from_millis(300) && begin.elapsed() < Duration::from_secs(5));
    assert_eq!(world.reply(hanging), Reply::Failed(503));
    let report = upstream.report();
    assert_eq!((report.in_flight, report.queued, report.calls.len()), (0, 0, 2));
    drop((client, upstream));
    handler.wait_for_no_connection();
}

#[test]
fn what_is_asked_after_the_stop_is_refused_while_the_grace_lasts() {
    let door = Arc::new(Door::default());
    let held = door.clone();
    let handler = Handler::start(move |_| {
        held.pass();
        status(204)
    });
    let mut world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let first = world.ask(Client::new(&upstream).user("a", ""));
    handler.wait_for_posts(1);
    world.begin_stop(Duration::from_secs(20));
    // The stop is seen some time after it was asked for; then everything is refused, and can be cancelled still.
    loop {
        let (client, other) = (Client::new(&upstream), Client::new(&upstream));
        let ticket = world.ask(client.user("a", ""));
        match world.reply_within(ticket, Duration::from_millis(50)) {
            Some(reply) => {
                assert_eq!(reply, Reply::Failed(503));
                break;
            }
            None => world.cancel(ticket),
        }
        drop(other);
    }
    door.open();
    assert_eq!(world.reply(first), Reply::Answered(None));
    world.stop(Duration::ZERO);
}
