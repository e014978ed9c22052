//! A handler says first that it wants events (`event-handlers` §2).

use ringhub_hub::event::{Event, Reply};
use ringhub_relay::report::{EventClass, Outcome};
use ringhub_relay::upstream::{Upstream, UpstreamSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::handler::{Action, Handler, Request, answer, status};
use crate::support::world::{Client, World, settings};

fn validated(handler: &Handler) -> Arc<Upstream> {
    Upstream::new(UpstreamSettings { validate: true, ..settings(&handler.url("/hook/{event}?code=1")) })
        .unwrap()
}

fn asked(handler: &Handler, method: &str) -> usize {
    handler.requests().iter().filter(|request| request.method == method).count()
}

/// A client that knows the server by another name.
fn of_origin(upstream: &Arc<Upstream>, origin: &str) -> Client {
    let mut client = Client::new(upstream);
    Arc::get_mut(&mut client.caller).unwrap().origin = origin.into();
    client
}

fn allowing(origins: &'static str) -> impl Fn(&Request) -> Action {
    move |request| match &*request.method {
        "OPTIONS" => answer(200, origins, ""),
        _ => status(204),
    }
}

#[test]
fn it_is_asked_once_by_options_with_nothing_of_the_event() {
    let handler = Handler::start_bare(allowing("WebHook-Allowed-Origin: *\r\n"));
    let world = World::start();
    let upstream = validated(&handler);
    let clients: Vec<Client> = (0..50).map(|_| Client::new(&upstream)).collect();
    let tickets: Vec<_> = clients.iter().map(|client| world.ask(client.user("a", "x"))).collect();
    for ticket in tickets {
        assert_eq!(world.reply(ticket), Reply::Answered(None));
    }
    let requests = handler.requests();
    let first = &requests[0];
    assert_eq!((&*first.method, &*first.path), ("OPTIONS", "/hook/validate?code=1"));
    let host = handler.address.to_string();
    let mut headers: Vec<_> = first.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    headers.sort_unstable();
    let expected =
        [("ce-awpsversion", "1.0"), ("host", &*host), ("webhook-request-origin", "pubsub.example")];
    assert_eq!((headers, first.body.len()), (expected.to_vec(), 0));
    assert!(requests[1..].iter().all(|request| request.method == "POST"));
}

#[test]
fn a_404_to_options_is_asked_again_by_get() {
    let handler = Handler::start_bare(|request| match &*request.method {
        "OPTIONS" => status(404),
        "GET" => answer(200, "webhook-allowed-origin: other.example, PubSub.example:8443\r\n", ""),
        _ => status(204),
    });
    let world = World::start();
    assert_eq!(world.call(Client::new(&validated(&handler)).user("a", "")), Reply::Answered(None));
    let requests = handler.requests();
    let methods: Vec<_> = requests.iter().map(|request| &*request.method).collect();
    assert_eq!(methods, ["OPTIONS", "GET", "POST"]);
    assert_eq!(requests[1].header("ce-awpsversion"), Some("1.0"));
}

#[test]
fn one_of_several_headers_is_enough() {
    let lines = "WebHook-Allowed-Origin: a.example\r\nWebHook-Allowed-Origin: pubsub.example\r\n";
    let handler = Handler::start_bare(allowing(lines));
    let world = World::start();
    assert_eq!(world.call(Client::new(&validated(&handler)).user("a", "")), Reply::Answered(None));
}

/// The event is not sent, it is not tried again, and the handler is not asked for each event.
#[test]
fn a_no_is_a_no_for_a_second() {
    let world = World::start();
    for no in ["", "WebHook-Allowed-Origin: other.example\r\n", "WebHook-Allowed-Origin: *.example\r\n"] {
        let handler = Handler::start_bare(allowing(no));
        let upstream = validated(&handler);
        for _ in 0..3 {
            assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(502));
        }
        assert_eq!((asked(&handler, "OPTIONS"), asked(&handler, "POST")), (1, 0));
        let report = upstream.report();
        assert_eq!(report.events[EventClass::User as usize][Outcome::NotValidated as usize], 3);
        assert!(report.calls[0].cause.starts_with("AbuseProtectionResponseMissingAllowedOrigin"));
    }
    let handler = Handler::start_bare(|_| status(401));
    let upstream = validated(&handler);
    // Before the first no, after which the pause is counted.
    let begin = Instant::now();
    assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(502));
    assert!(upstream.report().calls[0].cause.starts_with("AbuseProtectionResponseInvalidStatusCode"));
    eventually(|| {
        assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(502));
        asked(&handler, "OPTIONS") == 2
    });
    assert!(begin.elapsed() >= Duration::from_secs(1), "not before its pause is over");
}

#[test]
fn a_handler_that_cannot_be_asked_has_not_said_no() {
    let times = AtomicUsize::new(0);
    let handler =
        Handler::start_bare(move |request| match (&*request.method, times.fetch_add(1, Ordering::Relaxed)) {
            ("OPTIONS", 0) => status(503),
            ("OPTIONS", 1) => Action::Reset,
            ("OPTIONS", _) => answer(200, "WebHook-Allowed-Origin: *\r\n", ""),
            _ => status(204),
        });
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        validate: true,
        retry_delays: vec![Duration::from_millis(1010); 3],
        ..settings(&handler.url("/"))
    })
    .unwrap();
    assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Answered(None));
    assert_eq!((asked(&handler, "OPTIONS"), asked(&handler, "POST")), (3, 1));
}

#[test]
fn each_origin_is_asked_for_and_the_oldest_are_forgotten() {
    const ORIGINS_MAX: usize = 64;
    let handler = Handler::start_bare(allowing("WebHook-Allowed-Origin: *\r\n"));
    let world = World::start();
    let upstream = validated(&handler);
    let call = |origin: &str| {
        let event: Event = of_origin(&upstream, origin).user("a", "");
        assert_eq!(world.call(event), Reply::Answered(None));
    };
    let origins: Vec<String> = (0..ORIGINS_MAX).map(|n| format!("{n}.example")).collect();
    origins.iter().for_each(|origin| call(origin));
    call(&origins[0]);
    assert_eq!(asked(&handler, "OPTIONS"), ORIGINS_MAX);
    call("one more.example");
    call(&origins[0]);
    assert_eq!(asked(&handler, "OPTIONS"), ORIGINS_MAX + 1, "the one that was needed is kept");
    call(&origins[1]);
    assert_eq!(asked(&handler, "OPTIONS"), ORIGINS_MAX + 2, "the one that was not needed longest is not");
}
