//! `connect`: the handler decides who comes in, as whom and with which rights (§4.1).

use std::sync::Arc;

use aws_lc_rs::digest;
use ringhub_tests::{Answer, Certificate, Client, Endpoint, Gate, Handler, Server, wait_until};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::{
    ALL, CONNECT, NO_RETRIES, changeable, connecting, event_acked, gated, order_of, server, server_of,
};

#[test]
fn it_is_told_everything_about_the_request_but_its_secrets() {
    let handler = super::agreeable();
    let server = server_of(&handler, CONNECT);
    let client = Client::json().subprotocols("unknown, json.webpubsub.azure.v1").user("u1");
    let client = client.role("webpubsub.sendToGroup").role("webpubsub.joinLeaveGroup").group("g");
    let client = client.claim("n", json!(1.5)).claim("nested", json!({ "a": [true] }));
    let client = client.query("room", "1").query("room", "ü 2").query("empty", "");
    let client = client.header("Origin", "https://app.example").header("Cookie", "a=b; c=d");
    let client = client.header("X-Multi", "1").header("x-multi", "2");
    let mut connection = server.open(client);
    connection.expect_connected();
    let call = handler.next();
    let body = call.json();
    let claims = &body["claims"];
    assert_eq!(claims["sub"], json!(["u1"]));
    assert_eq!(claims["role"], json!(["webpubsub.sendToGroup", "webpubsub.joinLeaveGroup"]));
    assert_eq!(claims["webpubsub.group"], json!(["g"]));
    assert_eq!(claims["aud"], json!([format!("{}/client/hubs/chat", server.url())]));
    assert_eq!(claims["n"], json!(["1.5"]));
    assert_eq!(claims["nested"], json!([r#"{"a":[true]}"#]));
    let expires: u64 = claims["exp"][0].as_str().unwrap().parse().unwrap();
    assert!(expires > ringhub_tests::now_seconds());
    assert_eq!(body["query"], json!({ "room": ["1", "ü 2"], "empty": [""] }));
    assert_eq!(header(&body, "Origin"), json!(["https://app.example"]));
    assert_eq!(header(&body, "Cookie"), json!(["a=b; c=d"]));
    assert_eq!(header(&body, "X-Multi"), json!(["1", "2"]));
    assert_eq!(header(&body, "Host"), json!([server.addr.to_string()]));
    assert_eq!(body["subprotocols"], json!(["unknown", "json.webpubsub.azure.v1"]));
    assert_eq!(body["clientCertificates"], json!([]));
    let fields: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["claims", "clientCertificates", "headers", "query", "subprotocols"]);
    // What the client sent is in the body and not among the headers.
    assert_eq!(call.header("Cookie"), None);
    assert_eq!(call.header("Origin"), None);
    assert_eq!(call.header("ce-subprotocol"), None);
    assert_eq!(call.header("ce-userId"), Some("u1"));
}

/// A header of the body, whatever its case.
fn header(body: &Value, name: &str) -> Value {
    let headers = body["headers"].as_object().unwrap();
    let mut named = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let value = named.next().map_or(Value::Null, |(_, value)| value.clone());
    assert!(named.next().is_none(), "{name} twice in {headers:?}");
    value
}

/// What was shown in the handshake of TLS, for the handler to judge.
#[test]
fn a_clients_certificate_is_told() {
    let handler = super::agreeable();
    let config = format!("[tls]\nclient_certificates = \"request\"\n{}", handler.section(CONNECT));
    let server = Server::with(|setup| setup.tls().config(&config));
    let own = Certificate::make("told");
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&own.certificate).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&own.private_key).unwrap();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &chain[0]);
    let thumbprint: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let builder = Certificate::shared().builder(rustls::ALL_VERSIONS);
    let endpoint = server.with_tls(Arc::new(builder.with_client_auth_cert(chain.clone(), key).unwrap()));
    endpoint.connect(Client::json());
    let told = handler.next().json()["clientCertificates"].clone();
    assert_eq!(told[0]["thumbprint"].as_str().map(str::to_ascii_uppercase), Some(thumbprint));
    let pem = told[0]["content"].as_str().expect("PEM");
    assert_eq!(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(), chain[0]);
    // Who shows none has none.
    server.connect(Client::json());
    assert_eq!(handler.next().json()["clientCertificates"], json!([]));
}

#[test]
fn a_token_is_not_handed_on_wherever_it_stood() {
    let handler = super::agreeable();
    let server = server_of(&handler, CONNECT);
    let _bearer = server.connect(Client::json().bearer());
    let _query = server.connect(Client::json().query("x", "1"));
    let bearer = handler.next();
    assert_eq!(header(&bearer.json(), "Authorization"), Value::Null);
    let query = handler.next();
    assert_eq!(query.json()["query"], json!({ "x": ["1"] }));
    for call in [bearer, query] {
        assert_eq!(call.header("Authorization"), None);
        // The first part of every token of the harness.
        assert!(!call.text().contains("eyJ"), "{call:?}");
    }
}

#[test]
fn every_form_of_yes_lets_in_as_the_token_says() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, CONNECT);
    for yes in [
        Answer::no_content(),
        Answer::status(200),
        Answer::status(202),
        Answer::status(200).untyped_body("null"),
        Answer::json("{}"),
        Answer::json(r#"{"userId":null,"groups":null,"roles":null,"subprotocol":null}"#),
        Answer::json(r#"{"groups":[]}"#),
        Answer::text(r#" {"unknown":[{}]} "#),
    ] {
        println!("{yes:?}");
        answer(yes);
        let mut alice = server.connect(Client::json().user("alice").group("g").role("webpubsub.sendToGroup"));
        assert_eq!(alice.user(), Some("alice"));
        alice.publish("g", "x");
        alice.expect_group_text("g", Some("alice"), "x");
        alice.close(1000);
    }
}

#[test]
fn what_it_says_replaces_what_the_token_said() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, ALL);
    let client = || Client::json().user("alice").group("of-token").role("webpubsub.joinLeaveGroup");
    answer(Answer::json(
        r#"{"userId":"bob","groups":["g","h"],"roles":["webpubsub.sendToGroup.g"],"subprotocol":"json.webpubsub.azure.v1"}"#,
    ));
    let mut bob = server.connect(client());
    assert_eq!(bob.user(), Some("bob"));
    bob.publish("g", "x");
    bob.expect_group_text("g", Some("bob"), "x");
    bob.send(r#"{"type":"joinGroup","group":"other","ackId":1}"#);
    bob.expect_failed_ack(1, "Forbidden");
    server.rest("POST", "/api/hubs/chat/groups/of-token/:send").text("not for bob").expect(202);
    server.rest("POST", "/api/hubs/chat/groups/h/:send").text("y").expect(202);
    bob.expect_group_text("h", None, "y");
    server.rest("HEAD", "/api/hubs/chat/users/bob").expect(200);
    server.rest("HEAD", "/api/hubs/chat/users/alice").expect(404);
    assert_eq!(handler.next_of("connect").header("ce-userId"), Some("alice"));
    assert_eq!(handler.next_of("connected").header("ce-userId"), Some("bob"));

    // No roles at all is something else than nothing said about roles.
    answer(Answer::json(r#"{"roles":[]}"#));
    let mut alice = server.connect(client());
    alice.send(r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    alice.expect_failed_ack(1, "Forbidden");
    server.rest("POST", "/api/hubs/chat/groups/of-token/:send").text("z").expect(202);
    alice.expect_group_text("of-token", None, "z");

    // An empty user is nobody.
    answer(Answer::json(r#"{"userId":""}"#));
    let nobody = server.connect(client());
    assert_eq!(nobody.user(), None);

    // The reply's names are matched whatever their case (§4.1).
    answer(Answer::json(r#"{"UserID":"carol","Groups":["h"],"subProtocol":"json.webpubsub.azure.v1"}"#));
    let carol = server.connect(client());
    assert_eq!(carol.user(), Some("carol"));
}

#[test]
fn the_subprotocol_is_one_of_those_offered() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, &format!("{CONNECT}{NO_RETRIES}"));
    let choose = |name: &str| answer(Answer::json(&json!({ "subprotocol": name }).to_string()));
    // Custom ones make raw clients, and are echoed.
    choose("mine.v2");
    let mut raw = server.open(Client::raw().subprotocols("mine.v1, mine.v2").user("r"));
    assert_eq!(raw.subprotocol(), Some("mine.v2"));
    server.rest("POST", "/api/hubs/chat/users/r/:send").text("only the payload").expect(202);
    raw.expect("only the payload");
    // Of several known ones, the one that was named.
    choose("json.reliable.webpubsub.azure.v1");
    let offer = "json.webpubsub.azure.v1, json.reliable.webpubsub.azure.v1";
    let mut reliable = server.open(Client::raw().subprotocols(offer));
    assert_eq!(reliable.subprotocol(), Some("json.reliable.webpubsub.azure.v1"));
    assert!(reliable.expect_connected().1.is_some());
    // Nothing said: the first that is known, else none.
    answer(Answer::no_content());
    let first = server.open(Client::raw().subprotocols(&format!("mine.v1, {offer}")));
    assert_eq!(first.subprotocol(), Some("json.webpubsub.azure.v1"));
    let none = server.open(Client::raw().subprotocols("mine.v1"));
    assert_eq!(none.subprotocol(), None);
    // Not offered.
    choose("json.webpubsub.azure.v1");
    server.refuse(Client::raw(), 500);
    server.refuse(Client::raw().subprotocols("mine.v1"), 500);
    server.refuse(Client::reliable(), 500);
}

#[test]
fn a_refusal_reaches_the_client_as_it_was_said() {
    // What the handler does not name is bytes, for no browser to guess at.
    const BYTES: Option<&str> = Some("application/octet-stream");
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, CONNECT);
    for (no, status, content_type, body) in [
        (Answer::status(401), 401, BYTES, ""),
        (
            Answer::status(401).body("application/json", r#"{"why":"not you"}"#),
            401,
            Some("application/json"),
            r#"{"why":"not you"}"#,
        ),
        (
            Answer::status(403).body("text/plain; charset=utf-8", "verböten"),
            403,
            Some("text/plain; charset=utf-8"),
            "verböten",
        ),
        (Answer::status(409).untyped_body("taken"), 409, BYTES, "taken"),
        (Answer::status(404), 404, BYTES, ""),
        (Answer::status(429).header("Retry-After", "7"), 429, BYTES, ""),
    ] {
        println!("{no:?}");
        answer(no.header("Set-Cookie", "a=b").header("X-Own", "x"));
        let refused = server.refuse(Client::json().user("alice"), status);
        assert_eq!(refused.header("content-type"), content_type, "{refused:?}");
        assert_eq!(refused.text(), body);
        // Nothing else is handed on.
        assert_eq!(refused.header("set-cookie"), None);
        assert_eq!(refused.header("x-own"), None);
    }
    // Refused once is refused: none was asked twice.
    assert_eq!(handler.calls().len(), 6);
    server.rest("HEAD", "/api/hubs/chat/users/alice").expect(404);
}

#[test]
fn of_a_long_refusal_the_first_4_kib_are_forwarded_unless_that_is_off() {
    let body = "x".repeat(10_000);
    let handler = connecting(Answer::status(403).body("text/plain", body.clone()));
    let refused = server_of(&handler, CONNECT).refuse(Client::json(), 403);
    assert_eq!(refused.text(), &body[..4096]);
    let server = server_of(&handler, &format!("{CONNECT}forward_refusals = false\n"));
    let refused = server.refuse(Client::json(), 403);
    assert!(!refused.text().contains('x'), "{refused:?}");
}

/// Whatever is wrong, the client hears of it as a 500, the operator in the log.
#[test]
fn a_handler_that_fails_is_a_500() {
    let (handler, answer) = changeable(Answer::no_content());
    let server = server_of(&handler, &format!("{CONNECT}{NO_RETRIES}connect_timeout_seconds = 1\n"));
    for bad in [
        Answer::status(302).header("Location", "/elsewhere"),
        Answer::text("no JSON"),
        Answer::json("[]"),
        Answer::json(r#""text""#),
        Answer::json(r#"{"userId":1}"#),
        Answer::json(r#"{"groups":"g"}"#),
        Answer::json(r#"{"groups":[""]}"#),
        Answer::json(r#"{"groups":[null]}"#),
        Answer::json(&json!({ "groups": ["g".repeat(1025)] }).to_string()),
        Answer::json(r#"{"roles":[null]}"#),
        Answer::json(r#"{"roles":"webpubsub.sendToGroup"}"#),
        Answer::json(r#"{"userId":"a"} {"#),
        Answer::status(200).untyped_body(vec![0xff, 0xfe]),
        Answer::never(),
        Answer::reset(),
    ] {
        println!("{bad:?}");
        answer(bad);
        let refused = server.refuse(Client::json(), 500);
        assert!(!refused.text().contains("elsewhere"), "{refused:?}");
    }
    wait_until("what is broken is closed", || handler.connections_open() <= 1);
    answer(Answer::no_content());
    server.connect(Client::json());
}

/// 5xx of the handler's own are a refusal with that status: it said so.
#[test]
fn a_5xx_is_the_handlers_word_too() {
    let handler = connecting(Answer::status(503).body("text/plain", "later"));
    let server = server_of(&handler, &format!("{CONNECT}{NO_RETRIES}"));
    let refused = server.refuse(Client::json(), 503);
    assert_eq!(refused.text(), "later");
}

#[test]
fn without_a_token_the_handler_decides_where_that_is_allowed() {
    let (handler, answer) =
        changeable(Answer::json(r#"{"userId":"guest","roles":["webpubsub.joinLeaveGroup"]}"#));
    let server =
        server(&format!("[hubs.chat]\nanonymous_connect_policy = \"allow\"\n{}", handler.section(CONNECT)));
    let mut guest = server.connect(Client::json().no_token());
    assert_eq!(guest.user(), Some("guest"));
    guest.join("g");
    let call = handler.next();
    assert_eq!(call.json()["claims"], json!({}));
    assert_eq!(call.header("ce-userId"), None);
    answer(Answer::status(401));
    server.refuse(Client::json().no_token(), 401);
    // A bad token is no token; nobody is asked.
    server.refuse(Client::json().key("another-key-of-at-least-thirty-two-bytes"), 401);
    assert_eq!(handler.calls().len(), 2);
}

#[test]
fn who_has_no_good_token_is_refused_without_a_question() {
    let handler = super::agreeable();
    let server = server_of(&handler, CONNECT);
    server.refuse(Client::json().no_token(), 401);
    server.refuse(Client::json().key("another-key-of-at-least-thirty-two-bytes"), 401);
    server.connect(Client::json());
    assert_eq!(handler.calls().len(), 1);
}

/// While one hub's handler says nothing, its own REST calls and all of another hub go on.
#[test]
fn a_handler_that_takes_its_time_holds_up_nobody_else() {
    let gate = Gate::default();
    let waited = gate.clone();
    let handler = Handler::start(move |_| {
        waited.pass();
        Answer::no_content()
    });
    let server = server_of(&handler, CONNECT);
    let endpoint: &Endpoint = &server;
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..10)
            .map(|n| {
                scope.spawn(move || endpoint.connect(Client::json().user(&format!("w-{n}"))).close(1000))
            })
            .collect();
        handler.calls_at_least(10);
        let mut elsewhere = server.connect(Client::json().hub("other").group("g").may_all());
        elsewhere.publish("g", "x");
        elsewhere.expect_group_text("g", None, "x");
        server.rest("POST", "/api/hubs/chat/:send").text("x").expect(202);
        // Who is not let in yet is not there.
        server.rest("HEAD", "/api/hubs/chat/users/w-0").expect(404);
        assert!(waiting.iter().all(|thread| !thread.is_finished()));
        gate.open();
    });
}

/// Bytes that come behind the request wait until it is answered.
#[test]
fn frames_that_come_before_the_answer_are_kept() {
    let (handler, gate) = gated(|call| call.event() == "connect", |_| Answer::no_content());
    let server = server_of(&handler, ALL);
    let mut socket = server.raw();
    let frame = ringhub_tests::masked_frame(0x81, event_acked("early", "x", 1).as_bytes());
    socket.write([Client::json().request(&server), frame].concat());
    handler.next_of("connect");
    gate.open();
    assert_eq!(socket.read_response().status, 101);
    assert!(socket.read_frame().text().contains("connected"));
    assert_eq!(socket.read_frame().text(), r#"{"type":"ack","ackId":1,"success":true}"#);
    assert_eq!(handler.next_of("early").text(), "x");
}

#[test]
fn state_and_cookies_come_back_with_every_later_event_of_that_connection() {
    let handler = Arc::new(Handler::start(|call| match call.event() {
        "connect" => {
            let user = call.header("ce-userId").unwrap_or_default().to_owned();
            let answer = Answer::no_content().header("ce-connectionState", &format!("state-of-{user}"));
            let answer = answer.header("Set-Cookie", &format!("session={user}; Path=/; HttpOnly"));
            answer.header("Set-Cookie", "shard=7")
        }
        "change" => Answer::no_content()
            .header("ce-connectionState", "first")
            .header("ce-connectionState", "changed")
            .header("Set-Cookie", "shard=8"),
        "clear" => Answer::no_content().header("ce-connectionState", ""),
        _ => Answer::no_content(),
    }));
    let server = server_of(&handler, ALL);
    let mut alice = server.connect(Client::json().user("alice"));
    let mut bob = server.connect(Client::json().user("bob"));
    for (client, user) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        client.send(&event_acked("look", "", 1));
        client.expect_ack(1);
        let first = handler.next_of("connect");
        assert_eq!((first.header("ce-connectionState"), first.header("Cookie")), (None, None));
        for event in ["connected", "look"] {
            let call = handler.next_of(event);
            assert_eq!(call.header("ce-userId"), Some(user));
            assert_eq!(call.header("ce-connectionState"), Some(&*format!("state-of-{user}")), "{call:?}");
            assert_eq!(cookies(call.header("Cookie")), [format!("session={user}"), "shard=7".into()]);
        }
    }
    for (ack, event, state, shard) in [
        (2, "change", Some("state-of-alice"), "shard=7"),
        (3, "look", Some("changed"), "shard=8"),
        (4, "clear", Some("changed"), "shard=8"),
        (5, "look", None, "shard=8"),
    ] {
        alice.send(&event_acked(event, "", ack));
        alice.expect_ack(ack);
        let call = handler.next_of(event);
        // An empty state is as good as none.
        assert_eq!(call.header("ce-connectionState").filter(|state| !state.is_empty()), state, "{event}");
        assert_eq!(cookies(call.header("Cookie")), ["session=alice", shard]);
    }
    bob.close(1000);
    let call = handler.next_of("disconnected");
    assert_eq!(call.header("ce-connectionState"), Some("state-of-bob"));
    assert_eq!(cookies(call.header("Cookie")), ["session=bob", "shard=7"]);
}

fn cookies(header: Option<&str>) -> Vec<String> {
    let mut cookies: Vec<_> = header.unwrap_or_default().split("; ").map(str::to_owned).collect();
    cookies.sort();
    cookies
}

/// Of answers that say no, and of events nobody waits for, neither state nor cookies are taken.
#[test]
fn only_a_yes_to_a_question_sets_state() {
    let handler = Handler::start(|call| {
        let answer = match call.event() {
            "connect" | "look" => return Answer::no_content(),
            "connected" => Answer::no_content(),
            _ => Answer::status(400),
        };
        answer.header("ce-connectionState", "wrong")
    });
    let server = server_of(&handler, ALL);
    let mut alice = server.connect(Client::json());
    handler.next_of("connected");
    alice.send(&event_acked("fail", "", 1));
    alice.expect_failed_ack(1, "InternalServerError");
    alice.send(&event_acked("look", "", 2));
    alice.expect_ack(2);
    assert_eq!(handler.next_of("look").header("ce-connectionState"), None);
}

/// A client that does not wait for the handler's word is not let in; its place is free.
#[test]
fn a_client_that_goes_before_it_is_let_in_leaves_nothing() {
    let (handler, gate) = gated(|call| call.event() == "connect", |_| Answer::no_content());
    let server = server(&format!("[hubs.chat]\nconnections_max = 1\n{}", handler.section(ALL)));
    let mut socket = server.raw();
    socket.write(Client::json().user("gone").request(&server));
    let id = handler.next_of("connect").connection_id().to_owned();
    socket.reset();
    gate.open();
    wait_until("there is room again", || {
        let mut socket = server.raw();
        socket.write(Client::json().user("next").request(&server));
        socket.read_response().status == 101
    });
    server.rest("HEAD", "/api/hubs/chat/users/gone").expect(404);
    // The handler said yes, so it is told the end (§4.3), and perhaps that there was a beginning.
    wait_until("the end is told", || {
        let calls = handler.calls_of(&id);
        calls.last().is_some_and(|call| call.event() == "disconnected" && call.id() + 1 == calls.len() as u64)
    });
    let calls = order_of(&handler.calls_of(&id));
    assert!(
        calls == ["connect/0", "disconnected/1"] || calls == ["connect/0", "connected/1", "disconnected/2"],
        "{calls:?}"
    );
}
