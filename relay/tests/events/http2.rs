//! Handlers that speak HTTP/2, and TLS.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, Version};
use ringhub_hub::event::Reply;
use ringhub_relay::report::Outcome;
use ringhub_relay::upstream::{HttpVersion, Upstream, UpstreamSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

use crate::support::eventually;
use crate::support::hyper_handler::{Answering, Asked, HyperHandler};
use crate::support::world::{Client, World, settings};

fn text(body: impl Into<Bytes>) -> Answering {
    let answer =
        Response::builder().header("content-type", "text/plain").body(Full::new(body.into())).unwrap();
    Box::pin(async move { answer })
}

fn over_http2(handler: &HyperHandler) -> Arc<Upstream> {
    let url = format!("http://{}/{{event}}", handler.address);
    Upstream::new(UpstreamSettings { http: HttpVersion::Http2, ..settings(&url) }).unwrap()
}

#[test]
fn many_events_share_one_connection_with_the_same_headers() {
    let handler = HyperHandler::start(|asked| text(asked.body.clone()));
    let world = World::start();
    let upstream = over_http2(&handler);
    let clients: Vec<Client> = (0..50).map(|_| Client::new(&upstream)).collect();
    let tickets: Vec<_> = clients.iter().map(|client| world.ask(client.user("echo", "hi"))).collect();
    for ticket in tickets {
        let Reply::Answered(Some(message)) = world.reply(ticket) else { panic!() };
        assert_eq!(message.bytes, "hi");
    }
    assert_eq!(handler.connections(), 1);
    let asked = handler.asked();
    let id = clients[0].caller.id.to_string();
    let first = asked.iter().find(|asked| asked.headers["ce-connectionid"] == id).unwrap();
    assert_eq!((&*first.method, &*first.path, first.version), ("POST", "/echo", Version::HTTP_2));
    let mut names: Vec<&str> = first.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "ce-awpsversion",
        "ce-connectionid",
        "ce-eventname",
        "ce-hub",
        "ce-id",
        "ce-signature",
        "ce-source",
        "ce-specversion",
        "ce-time",
        "ce-type",
        "content-length",
        "content-type",
        "webhook-request-origin",
        "x-ms-client-request-id",
    ];
    assert_eq!(names, expected);
    assert_eq!(first.headers["content-length"], "2");
}

/// All on one connection: the order of the heads is that of the wire.
#[test]
fn the_order_of_a_connection_is_that_of_its_events() {
    // What `connected` is answered comes after the event behind it has come.
    let firsts = Arc::new(Semaphore::new(0));
    let handler = HyperHandler::start(move |asked| {
        let firsts = firsts.clone();
        match &*asked.path {
            "/connected" => {
                return Box::pin(async move {
                    firsts.acquire().await.unwrap().forget();
                    Response::new(Full::default())
                });
            }
            "/first" => firsts.add_permits(1),
            _ => {}
        }
        text(Bytes::new())
    });
    let world = World::start();
    let upstream = over_http2(&handler);
    let clients: Vec<Client> = (0..20).map(|_| Client::new(&upstream)).collect();
    for client in &clients {
        world.call(client.connect());
        let (mut user, ticket) = (client.user("first", ""), world.ticket());
        user.ticket = Some(ticket);
        world.send(vec![client.connected(), user]);
        assert_eq!(world.reply(ticket), Reply::Answered(None));
    }
    assert_eq!(handler.connections(), 1);
    let paths: Vec<String> = handler.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/connect", "/connected", "/first"].repeat(20));
}

#[test]
fn a_connection_that_ended_is_followed_by_another() {
    let handler = HyperHandler::start(|_| text("hi"));
    let world = World::start();
    let upstream = over_http2(&handler);
    let client = Client::new(&upstream);
    for _ in 0..5 {
        assert!(matches!(world.call(client.user("a", "")), Reply::Answered(Some(_))));
        handler.close_connections();
    }
    assert!(handler.connections() > 1);
    let report = upstream.report();
    assert!(report.calls.iter().all(|call| call.outcome == Outcome::Success), "{report:?}");
}

#[test]
fn a_cancelled_question_ends_its_stream_and_a_large_answer_its_event() {
    struct Ended(Arc<AtomicUsize>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = ended.clone();
    let handler = HyperHandler::start(move |asked: &Asked| match &*asked.path {
        "/hang" => {
            let ended = Ended(seen.clone());
            Box::pin(async move {
                let _ended = ended;
                std::future::pending().await
            })
        }
        "/fits" => text(vec![b'x'; 100_000]),
        _ => text(vec![b'x'; 100_001]),
    });
    let world = World::start();
    let url = format!("http://{}/{{event}}", handler.address);
    let upstream = Upstream::new(UpstreamSettings {
        http: HttpVersion::Http2,
        answer_bytes_max: 100_000,
        ..settings(&url)
    })
    .unwrap();
    let client = Client::new(&upstream);
    let ticket = world.ask(client.user("hang", ""));
    eventually(|| !handler.asked().is_empty());
    world.cancel(ticket);
    assert_eq!(world.reply(ticket), Reply::Failed(499));
    assert!(matches!(world.call(client.user("fits", "")), Reply::Answered(Some(_))));
    assert_eq!(world.call(client.user("more", "")), Reply::Failed(502));
    eventually(|| ended.load(Ordering::Relaxed) == 1);
    assert_eq!(handler.connections(), 1, "the others on it go on");
}

/// `http` over TLS, with the certificate's authority trusted; the version that was spoken.
fn over_tls(protocols: &[&str], http: HttpVersion, is_trusted: bool) -> (Reply, Vec<Asked>, Arc<Upstream>) {
    let handler = HyperHandler::start_tls(protocols, |_| text("hi"));
    let file = std::env::temp_dir().join(format!(
        "ringhub-handler-{}-{}.pem",
        std::process::id(),
        handler.address.port()
    ));
    std::fs::write(&file, &handler.certificate).unwrap();
    let ca_file = is_trusted.then(|| file.clone());
    let url = format!("https://localhost:{}/", handler.address.port());
    let upstream =
        Upstream::new(UpstreamSettings { http, ca_file, retry_delays: Vec::new(), ..settings(&url) })
            .unwrap();
    std::fs::remove_file(&file).unwrap();
    let world = World::start();
    let client = Client::new(&upstream);
    let reply = world.call(client.user("a", "x"));
    world.call(client.user("a", "x"));
    assert!(handler.connections() <= 1, "it is kept");
    (reply, handler.asked(), upstream)
}

#[test]
fn tls_speaks_what_both_can_and_needs_an_authority_that_is_trusted() {
    use HttpVersion::{Auto, Http1, Http2};
    for (protocols, http, version) in [
        (&["h2", "http/1.1"][..], Auto, Version::HTTP_2),
        (&["http/1.1"], Auto, Version::HTTP_11),
        (&[], Auto, Version::HTTP_11),
        (&["h2", "http/1.1"], Http1, Version::HTTP_11),
        (&["h2", "http/1.1"], Http2, Version::HTTP_2),
    ] {
        let (reply, asked, _) = over_tls(protocols, http, true);
        assert!(matches!(reply, Reply::Answered(Some(_))), "{protocols:?} {http:?}: {reply:?}");
        assert!(
            asked.len() == 2 && asked.iter().all(|asked| asked.version == version),
            "{protocols:?} {http:?}"
        );
    }
    let (reply, asked, upstream) = over_tls(&["h2"], Auto, false);
    assert_eq!((reply, asked.len()), (Reply::Failed(502), 0));
    let call = &upstream.report().calls[0];
    assert!(call.outcome == Outcome::Unreachable && call.cause.contains("certificate"), "{}", call.cause);
}
