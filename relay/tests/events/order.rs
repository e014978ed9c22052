//! The order of a connection's events on the wire (`event-handlers` §4.2, §4.7).

use ringhub_hub::event::{EventSubject, Reply};
use ringhub_protocol::pubsub::DataType;
use ringhub_relay::upstream::{Upstream, UpstreamSettings};
use std::sync::Arc;
use std::time::Duration;

use crate::support::handler::{Action, Handler, status};
use crate::support::world::{Client, World, settings};
use crate::support::{Door, eventually};

fn paths(handler: &Handler, count: usize) -> Vec<String> {
    handler.wait_for_posts(count).into_iter().map(|post| post.path).collect()
}

#[test]
fn connect_connected_and_user_events_leave_in_order_though_connected_is_not_awaited() {
    let door = Arc::new(Door::default());
    let slow = door.clone();
    let handler = Handler::start(move |request| {
        if request.path == "/connected" {
            slow.pass();
        }
        status(204)
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/{event}"))).unwrap();
    let clients: Vec<Client> = (0..20).map(|_| Client::new(&upstream)).collect();
    for client in &clients {
        assert!(matches!(world.call(client.connect()), Reply::Accepted(_)));
        let mut user = client.user("first", "");
        let ticket = world.ticket();
        user.ticket = Some(ticket);
        world.send(vec![client.connected(), user]);
        // It is answered while `connected` is not.
        assert_eq!(world.reply(ticket), Reply::Answered(None));
    }
    door.open();
    let posts = handler.wait_for_posts(60);
    for client in &clients {
        let id = client.caller.id.to_string();
        let of_client: Vec<_> = posts
            .iter()
            .filter(|post| post.header("ce-connectionid") == Some(&id))
            .map(|post| (&*post.path, post.header("ce-id").unwrap()))
            .collect();
        // Two connections of the handler may have recorded the last two in either order.
        assert_eq!(of_client[0], ("/connect", "0"));
        assert!(of_client.contains(&("/connected", "1")) && of_client.contains(&("/first", "2")));
    }
}

/// One connection to the handler at a time: then its order is that of the wire.
#[test]
fn many_events_of_a_connection_leave_as_they_came() {
    let handler = Handler::start(|_| status(204));
    let world = World::start();
    let upstream =
        Upstream::new(UpstreamSettings { concurrency_max: 1, ..settings(&handler.url("/{event}")) }).unwrap();
    let client = Client::new(&upstream);
    let groups = (0..200).map(|n| {
        client.event(
            EventSubject::Joined(format!("g{n}").into()),
            DataType::Json,
            format!("{{\"group\":\"g{n}\"}}"),
        )
    });
    world.send(groups.collect());
    let ids: Vec<String> =
        handler.wait_for_posts(200).iter().map(|post| post.header("ce-id").unwrap().to_owned()).collect();
    assert_eq!(ids, (1..=200).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn one_that_fails_or_waits_for_another_attempt_holds_up_nobody() {
    let handler =
        Handler::start(|request| if request.path == "/connected" { Action::Reset } else { status(204) });
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        retry_delays: vec![Duration::from_secs(3600)],
        timeout: Duration::from_secs(7200),
        ..settings(&handler.url("/{event}"))
    })
    .unwrap();
    let client = Client::new(&upstream);
    world.send(vec![client.connected()]);
    assert_eq!(world.call(client.user("next", "")), Reply::Answered(None));
    assert!(paths(&handler, 2).contains(&"/connected".to_owned()));
    eventually(|| upstream.report().queued == 1);
}

/// Those that found the queue full were never told of.
#[test]
fn when_everybody_leaves_at_once_every_end_is_told() {
    let handler = Handler::start(|_| status(204));
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        concurrency_max: 2,
        queue_max: 3,
        queue_bytes_max: 100,
        ..settings(&handler.url("/{event}"))
    })
    .unwrap();
    let body = r#"{"reason":"The server is shutting down."}"#;
    let ends =
        (0..100).map(|_| Client::new(&upstream).event(EventSubject::Disconnected, DataType::Json, body));
    world.send(ends.collect());
    handler.wait_for_posts(100);
}

/// An event that waits for its turn takes nobody's place.
#[test]
fn who_waits_for_a_turn_holds_no_place() {
    let door = Arc::new(Door::default());
    let slow = door.clone();
    let blocked = Handler::start(move |_| {
        slow.pass();
        status(204)
    });
    let free = Handler::start(|_| status(204));
    let world = World::start();
    let one_place = |handler: &Handler| {
        Upstream::new(UpstreamSettings { concurrency_max: 1, ..settings(&handler.url("/{event}")) }).unwrap()
    };
    let (blocked_upstream, free_upstream) = (one_place(&blocked), one_place(&free));
    let (client, other) = (Client::new(&blocked_upstream), Client::new(&free_upstream));
    // The first takes the only place, the second waits for it, the third for the second's turn.
    let third = |event| {
        let mut event: ringhub_hub::event::Event = event;
        event.handler = Some(free_upstream.clone());
        event
    };
    world.send(vec![client.connected(), client.connected(), third(client.connected())]);
    blocked.wait_for_posts(1);
    assert_eq!(world.call(other.user("other", "")), Reply::Answered(None));
    assert_eq!(paths(&free, 1), ["/other"]);
    door.open();
    assert_eq!(paths(&free, 2), ["/other", "/connected"]);
}
