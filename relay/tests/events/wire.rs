//! What a handler sees (`event-handlers` §3).

use ringhub_hub::event::{EventSubject, Refusal, Reply};
use ringhub_protocol::events::{Acceptance, Message};
use ringhub_protocol::name::{GroupName, UserId};
use ringhub_protocol::pubsub::{DataType, Metadata};
use ringhub_relay::report::{EventClass, Outcome};
use ringhub_relay::upstream::{Upstream, UpstreamSettings};
use std::collections::HashSet;

use crate::support::eventually;
use crate::support::handler::{Action, Handler, answer, status};
use crate::support::world::{Client, World, settings};

#[test]
fn a_user_event_is_posted_with_every_header() {
    let handler = Handler::start(|_| answer(200, "Content-Type: text/plain\r\n", "hi"));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/hook/{event}?code=1"))).unwrap();
    let client = Client::new(&upstream);
    let mut event = client.user("vote", "yes");
    event.user = UserId::parse("ann").ok();
    event.subprotocol = Some("json.webpubsub.azure.v1".into());
    event.metadata = Metadata::new([("Trace", "t")]).unwrap();
    let Reply::Answered(Some(message)) = world.call(event) else { panic!() };
    assert_eq!((message.data_type, &message.bytes[..]), (DataType::Text, &b"hi"[..]));

    let [request] = &handler.posts()[..] else { panic!() };
    assert_eq!(request.path, "/hook/vote?code=1");
    assert_eq!(request.body, b"yes");
    let id = client.caller.id.to_string();
    let mut headers: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    headers.sort_unstable();
    let source = format!("/hubs/chat/client/{id}");
    let host = handler.address.to_string();
    let variable = |name: &str| request.header(name).unwrap();
    assert_eq!(
        headers,
        [
            ("ce-awpsversion", "1.0"),
            ("ce-connectionid", &*id),
            ("ce-eventname", "vote"),
            ("ce-hub", "chat"),
            ("ce-id", "1"),
            ("ce-signature", variable("ce-signature")),
            ("ce-source", &*source),
            ("ce-specversion", "1.0"),
            ("ce-subprotocol", "json.webpubsub.azure.v1"),
            ("ce-time", variable("ce-time")),
            ("ce-type", "azure.webpubsub.user.vote"),
            ("ce-userid", "ann"),
            ("content-length", "3"),
            ("content-type", "text/plain; charset=utf-8"),
            ("host", &*host),
            ("webhook-request-origin", "pubsub.example"),
            ("x-ms-client-request-id", variable("x-ms-client-request-id")),
            ("x-webpubsub-metadata-trace", "t"),
        ]
    );
}

/// HMAC-SHA256 of the connection's id with either key; computed here with another implementation.
fn signature(key: &str, id: &str) -> String {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(id.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[test]
fn signatures_are_of_both_keys_and_follow_their_rotation() {
    let handler = Handler::start(|_| status(204));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    let id = client.caller.id.to_string();
    world.call(client.user("a", "1"));
    world.call(client.user("a", "2"));
    world.signer.set(&["third"]);
    world.call(client.user("a", "3"));
    let both = format!("{},{}", signature("first", &id), signature("second", &id));
    let posts = handler.posts();
    let signatures: Vec<_> = posts.iter().map(|post| post.header("ce-signature").unwrap()).collect();
    assert_eq!(signatures, [&both, &both, &signature("third", &id)]);
}

#[test]
fn ids_count_the_events_of_a_connection() {
    let handler = Handler::start(|_| status(204));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/{event}"))).unwrap();
    let (one, other) = (Client::new(&upstream), Client::new(&upstream));
    world.call(one.connect());
    world.send(vec![one.connected()]);
    world.call(one.user("a", ""));
    world.call(other.user("b", ""));
    world.send(vec![one.event(EventSubject::Disconnected, DataType::Json, r#"{"reason":""}"#)]);
    let posts = handler.wait_for_posts(5);
    let mut ids: Vec<_> = posts.iter().map(|post| (&*post.path, post.header("ce-id").unwrap())).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        [("/a", "2"), ("/b", "1"), ("/connect", "0"), ("/connected", "1"), ("/disconnected", "3")]
    );
    let request_ids: HashSet<_> = posts.iter().map(|post| post.header("x-ms-client-request-id")).collect();
    assert_eq!(request_ids.len(), 5);
}

#[test]
fn state_goes_round_and_only_good_answers_to_blocking_events_change_it() {
    let long = "x".repeat(8 * 1024 + 1);
    let handler = Handler::start(move |request| match &*request.path {
        "/connect" => answer(200, "ce-connectionState: one\r\nce-connectionState: two\r\n", ""),
        "/connected" => answer(200, "ce-connectionState: of-a-note\r\n", ""),
        "/error" => answer(400, "ce-connectionState: of-an-error\r\n", ""),
        "/nonsense" => answer(200, "ce-connectionState: of-nonsense\r\nContent-Type: image/png\r\n", "x"),
        "/long" => answer(200, &format!("ce-connectionState: {long}\r\n"), ""),
        "/opaque" => answer(200, "ce-connectionState: \u{fc}=%\r\n", ""),
        "/clear" => answer(200, "ce-connectionState:\r\n", ""),
        _ => status(204),
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/{event}"))).unwrap();
    let client = Client::new(&upstream);
    assert!(matches!(world.call(client.connect()), Reply::Accepted(_)));
    world.send(vec![client.connected()]);
    handler.wait_for_posts(2);
    assert_eq!(world.call(client.user("error", "")), Reply::Failed(400));
    assert_eq!(world.call(client.user("nonsense", "")), Reply::Failed(502));
    assert_eq!(world.call(client.user("long", "")), Reply::Failed(502));
    for event in ["opaque", "clear", "same"] {
        assert_eq!(world.call(client.user(event, "")), Reply::Answered(None));
    }
    let posts = handler.posts();
    let states: Vec<_> =
        posts.iter().map(|post| (&*post.path, post.header("ce-connectionstate").unwrap_or("-"))).collect();
    assert_eq!(
        states,
        [
            ("/connect", "-"),
            ("/connected", "two"),
            ("/error", "two"),
            ("/nonsense", "two"),
            ("/long", "two"),
            ("/opaque", "two"),
            // As it came, byte for byte.
            ("/clear", "\u{fc}=%"),
            ("/same", "-"),
        ]
    );
}

#[test]
fn cookies_come_back_to_where_they_are_from() {
    let handler = Handler::start(|request| match &*request.path {
        "/a/first" => answer(
            200,
            "Set-Cookie: node=1; Path=/\r\nSet-Cookie: deep=2\r\nSet-Cookie: tls=3; Secure\r\n\
             Set-Cookie: far=4; Domain=example.com\r\n",
            "",
        ),
        "/a/refused" => answer(400, "Set-Cookie: node=of-an-error; Path=/\r\n", ""),
        "/a/gone" => answer(204, "Set-Cookie: node=; Path=/; Max-Age=0\r\n", ""),
        _ => status(204),
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/a/{event}"))).unwrap();
    let elsewhere = Upstream::new(settings(&handler.url("/b"))).unwrap();
    let (client, other) = (Client::new(&upstream), Client::new(&upstream));
    for event in ["first", "refused", "gone", "last"] {
        world.call(client.user(event, ""));
        if event == "first" {
            let mut event = client.user("b", "");
            event.handler = Some(elsewhere.clone());
            world.call(event);
        }
    }
    world.call(other.user("other", ""));
    let posts = handler.posts();
    let cookies: Vec<_> =
        posts.iter().map(|post| (&*post.path, post.header("cookie").unwrap_or("-"))).collect();
    assert_eq!(
        cookies,
        [
            ("/a/first", "-"),
            ("/b", "node=1"),
            ("/a/refused", "deep=2; node=1"),
            ("/a/gone", "deep=2; node=1"),
            ("/a/last", "deep=2"),
            ("/a/other", "-"),
        ]
    );
}

#[test]
fn what_an_answer_to_connect_means() {
    let body = r#"{"userId":"ann","groups":["g"],"roles":[],"subProtocol":"p"}"#;
    let large = "x".repeat(5000);
    let handler = Handler::start(move |request| match &*request.body {
        b"accept" => answer(200, "Content-Type: text/html\r\n", body),
        b"nothing" => status(204),
        b"no-json" => answer(200, "Content-Type: application/json\r\n", "{"),
        b"refuse" => answer(401, "Content-Type: text/plain\r\n", "not you"),
        b"refuse-large" => answer(403, "", &large),
        b"redirect" => answer(302, "Location: /elsewhere\r\n", ""),
        b"error" => answer(503, "Content-Type: text/plain\r\n", "later"),
        _ => status(600),
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let quiet =
        Upstream::new(UpstreamSettings { forward_refusals: false, ..settings(&handler.url("/")) }).unwrap();
    let ask = |body: &'static str, upstream| {
        let client = Client::new(upstream);
        world.call(client.event(EventSubject::Connect, DataType::Json, body))
    };
    let accepted = Acceptance {
        user: Some(UserId::parse("ann").ok()),
        groups: vec![GroupName::parse("g").unwrap()],
        roles: Some(Vec::new()),
        subprotocol: Some("p".into()),
    };
    assert_eq!(ask("accept", &upstream), Reply::Accepted(Box::new(accepted)));
    assert_eq!(ask("nothing", &upstream), Reply::Accepted(Box::default()));
    assert_eq!(ask("no-json", &upstream), Reply::Failed(502));
    let refusal = |status, content_type: Option<&str>, body: &str| {
        let body = body.to_owned().into();
        Reply::Refused(Refusal { status, content_type: content_type.map(Box::from), body })
    };
    assert_eq!(ask("refuse", &upstream), refusal(401, Some("text/plain"), "not you"));
    assert_eq!(ask("refuse-large", &upstream), refusal(403, None, &"x".repeat(4096)));
    assert_eq!(ask("refuse", &quiet), refusal(401, None, ""));
    assert_eq!(ask("redirect", &upstream), Reply::Failed(502));
    assert_eq!(ask("error", &upstream), refusal(503, Some("text/plain"), "later"));
    assert_eq!(ask("what", &upstream), Reply::Failed(502));
    assert!(handler.posts().iter().all(|post| post.path == "/"), "redirects are not followed");
}

#[test]
fn what_an_answer_to_a_user_event_means() {
    let handler = Handler::start(|request| match &*request.body {
        b"nothing" => answer(200, "Content-Type: application/octet-stream\r\n", ""),
        b"json" => answer(200, "Content-Type: application/json; charset=utf-8\r\n", r#"{"a":1}"#),
        b"bytes" => answer(201, "", b"\xff"),
        b"metadata" => answer(204, "X-WebPubSub-Metadata-Trace: 1, 2\r\n", ""),
        b"type" => answer(200, "Content-Type: image/png\r\n", "x"),
        b"chunked" => Action::Answer(
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n\
              1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
                .to_vec(),
        ),
        _ => status(418),
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    let ask = |text| world.call(client.user("a", text));
    let message = |data_type, bytes: &'static [u8]| {
        Reply::Answered(Some(Message { data_type, bytes: bytes.into(), metadata: None }))
    };
    assert_eq!(ask("nothing"), Reply::Answered(None));
    assert_eq!(ask("json"), message(DataType::Json, br#"{"a":1}"#));
    assert_eq!(ask("bytes"), message(DataType::Binary, b"\xff"));
    assert_eq!(ask("chunked"), message(DataType::Text, b"abc"));
    assert_eq!(ask("type"), Reply::Failed(502));
    assert_eq!(ask("teapot"), Reply::Failed(418));
    let Reply::Answered(Some(Message { metadata, bytes, .. })) = ask("metadata") else { panic!() };
    assert_eq!((metadata, &*bytes), (Metadata::new([("trace", "2")]).unwrap(), &b""[..]));
}

#[test]
fn connections_are_kept_and_used_again() {
    let handler = Handler::start(|_| answer(200, "", "x"));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    for _ in 0..20 {
        assert!(matches!(world.call(client.user("a", "")), Reply::Answered(Some(_))));
    }
    assert_eq!(handler.connections(), 1);
    drop((client, upstream));
    handler.wait_for_no_connection();
}

#[test]
fn a_url_without_a_path_has_one_on_the_wire() {
    let handler = Handler::start(|_| status(204));
    let world = World::start();
    for url in ["", "?code=1", "/?code=1"] {
        let upstream = Upstream::new(settings(&handler.url(url))).unwrap();
        assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Answered(None));
    }
    let paths: Vec<String> = handler.posts().into_iter().map(|post| post.path).collect();
    assert_eq!(paths, ["/", "/?code=1", "/?code=1"]);
}

/// A long one does: to read it would cost more than another connection.
#[test]
fn an_answer_that_nobody_needs_costs_its_connection_if_it_is_long() {
    const PASSED_OVER_BYTES_MAX: usize = 64 * 1024;
    // What has come already when its head is read, and when it is given up, is passed over besides.
    for (bytes, connections) in [(PASSED_OVER_BYTES_MAX, 1), (8 * PASSED_OVER_BYTES_MAX, 3)] {
        let handler = Handler::start(move |_| {
            let head = format!("HTTP/1.1 200 X\r\nContent-Length: {bytes}\r\n\r\n");
            Action::Pieces(vec![head.into_bytes(), vec![b'x'; bytes]])
        });
        let world = World::start();
        let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
        let client = Client::new(&upstream);
        for told in 1..=3 {
            world.send(vec![client.connected()]);
            eventually(|| {
                let report = upstream.report();
                let events = report.events[EventClass::Connected as usize];
                events[Outcome::Success as usize] == told && report.in_flight == 0
            });
        }
        assert_eq!(handler.connections(), connections, "for three answers of {bytes} bytes");
    }
}

/// Also when the body of an answer comes later than its head, and nobody needs it.
#[test]
fn an_answer_that_nobody_needs_does_not_cost_its_connection() {
    let handler = Handler::start(|request| {
        let status = if request.path == "/refused" { "400 X" } else { "200 X" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
        Action::Pieces(vec![head.into_bytes(), b"12".to_vec(), b"345".to_vec()])
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/{event}"))).unwrap();
    let client = Client::new(&upstream);
    for _ in 0..3 {
        assert_eq!(world.call(client.user("refused", "")), Reply::Failed(400));
        // The answer to it comes before its connection is free: so many places are taken as connections are open.
        eventually(|| upstream.report().in_flight == 0);
        let told = || upstream.report().events[EventClass::Connected as usize][Outcome::Success as usize];
        let before = told();
        world.send(vec![client.connected()]);
        eventually(|| told() > before && upstream.report().in_flight == 0);
    }
    assert_eq!(handler.connections(), 1);
}
