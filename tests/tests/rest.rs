//! Sends, closes, questions, membership, tokens and audiences over real HTTP (`rest-api` §1-3). What has a file of
//! its own: lists, bulk changes, permissions, filters, metadata, refusals.

use std::iter::zip;

use ringhub_tests::{Client, KEY, Server, Token, now_seconds};
use serde_json::{Value, json};

#[test]
fn health_needs_no_token() {
    let server = Server::start();
    server.http("GET", "/api/health").expect(200);
    server.http("HEAD", "/api/health?api-version=2024-12-01").expect(200);
}

#[test]
fn sends_reach_all_group_user_and_connection_and_nobody_else() {
    let server = Server::start();
    let mut alice = server.connect(Client::json().user("alice").group("g"));
    let mut bob = server.connect(Client::json().user("bob"));
    let send = |path: &str, text: &str| {
        let response = server.rest("POST", &format!("/api/hubs/chat/{path}")).text(text).expect(202);
        response.expect_empty();
    };
    send(":send", "all");
    alice.expect_server_text("all");
    bob.expect_server_text("all");
    send("groups/g/:send", "group");
    alice.expect_group_text("g", None, "group");
    send("users/bob/:send", "user");
    bob.expect_server_text("user");
    send(&format!("connections/{}/:send", alice.id()), "connection");
    alice.expect_server_text("connection");
    for nobody in ["groups/none/:send", "users/none/:send", "connections/none/:send"] {
        send(nobody, "into the void");
    }
    alice.expect_silence();
    bob.expect_silence();
}

#[test]
fn the_three_content_types_arrive_as_what_they_are() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let send = || server.rest("POST", "/api/hubs/chat/:send");
    let cases: [(&str, &[u8], &str); 10] = [
        ("text/plain", "ä".as_bytes(), r#""dataType":"text","data":"ä""#),
        ("text/plain; charset=utf-8", b"", r#""dataType":"text","data":"""#),
        ("TEXT/PLAIN;charset=\"UTF-8\"", b"x", r#""dataType":"text","data":"x""#),
        ("application/json", br#"{"a": 1}"#, r#""dataType":"json","data":{"a": 1}"#),
        ("application/json; charset=utf-8", b" [1]\n", r#""dataType":"json","data":[1]"#),
        ("application/json", b"\"x\"", r#""dataType":"json","data":"x""#),
        ("application/json", b"0.10", r#""dataType":"json","data":0.10"#),
        ("application/octet-stream", b"\0\xff", r#""dataType":"binary","data":"AP8=""#),
        ("Application/Octet-Stream", b"", r#""dataType":"binary","data":"""#),
        ("", b"x", r#""dataType":"binary","data":"eA==""#),
    ];
    for (content_type, body, expected) in cases {
        println!("{content_type} {body:?}");
        send().body(content_type, body).expect(202);
        let text = alice.next_text();
        // White space around a JSON value is not part of it; either is right.
        let text = text.replace("\"data\": [1]\n", "\"data\":[1]");
        assert_eq!(text, format!(r#"{{"type":"message","from":"server",{expected}}}"#));
    }
    send().untyped_body(*b"x").expect(202);
    alice.expect(r#"{"type":"message","from":"server","dataType":"binary","data":"eA=="}"#);
}

#[test]
fn bad_bodies_are_refused_and_nobody_hears_them() {
    let server = Server::start();
    let mut alice = server.connect(Client::json());
    let send = || server.rest("POST", "/api/hubs/chat/:send");
    for body in ["", "{", "nope", "{} {}", "[1,]", "\"\u{1}\""] {
        send().json(body).expect(400).expect_error("Error.BadRequest");
    }
    send().body("application/json", *b"\"\xff\"").expect(400).expect_error("Error.BadRequest");
    send().body("text/plain", *b"\xff").expect(400).expect_error("Error.BadRequest");
    for content_type in
        ["application/xml", "text/html", "nonsense", "application/protobuf", "text/plain; charset=klingon"]
    {
        send().body(content_type, "x").expect(415).expect_error("Error.UnsupportedMediaType");
    }
    alice.expect_silence();
}

/// A serialised `google.protobuf.Any`: JSON clients get it in base64, raw ones as it is.
#[test]
fn a_protobuf_body_is_an_any() {
    let server = Server::on_cores(2);
    let mut json = server.connect(Client::json());
    let mut raw = server.open(Client::raw());
    // Type URL "t", value 08 01 (`client-protocols` §3.10).
    let any = [0x0a, 1, b't', 0x12, 2, 8, 1];
    let send = || server.rest("POST", "/api/hubs/chat/:send");
    send().body("application/x-protobuf", any).expect(202);
    json.expect(r#"{"type":"message","from":"server","dataType":"protobuf","data":"CgF0EgIIAQ=="}"#);
    raw.expect_binary(&any);
    for bad in [&b"\xff"[..], b"\x0a\x05t", b"\x0a\x01\xff"] {
        send().body("application/x-protobuf", bad).expect(400).expect_error("Error.BadRequest");
    }
    json.expect_silence();
}

/// 1 MiB is the most; one byte more is 400 (`design` §6).
#[test]
fn a_body_may_have_one_mebibyte() {
    let server = Server::start();
    let mut alice = server.open(Client::raw());
    let most = "x".repeat(1 << 20);
    server.rest("POST", "/api/hubs/chat/:send").text(&most).expect(202);
    alice.expect(&most);
    // The refusal does not wait for the body.
    let mut socket = server.raw();
    let request = server.rest("POST", "/api/hubs/chat/:send").text(&format!("{most}x")).bytes();
    let head_end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    socket.write(&request[..head_end]);
    let response = socket.read_response();
    assert_eq!(response.status, 400, "{response:?}");
    response.expect_error("Error.BadRequest");
    alice.expect_silence();
}

#[test]
fn excluded_connections_hear_nothing() {
    let server = Server::start();
    let mut all: Vec<_> = (0..3).map(|_| server.connect(Client::json().group("g"))).collect();
    for path in ["/api/hubs/chat/:send", "/api/hubs/chat/groups/g/:send"] {
        server
            .rest("POST", path)
            .query("excluded", all[0].id())
            .query("excluded", all[2].id())
            .query("excluded", "nobody")
            .text("x")
            .expect(202);
        assert!(all[1].next_text().contains(r#""data":"x""#));
        for one in &mut all {
            one.expect_silence();
        }
    }
}

#[test]
fn closes_tell_the_reason() {
    let server = Server::start();
    let long = "ä".repeat(200);
    let close = |method: &str, path: &str| server.rest(method, &format!("/api/hubs/chat/{path}"));
    let mut alice = server.connect(Client::json().user("alice").group("g"));
    close("DELETE", &format!("connections/{}", alice.id())).query("reason", &long).expect(204).expect_empty();
    assert_eq!(alice.expect_disconnected(1000), long, "whole in the message, cut in the frame");

    let mut raw = server.open(Client::raw().user("alice"));
    close("POST", "users/alice/:closeConnections").query("reason", "user closed").expect(204);
    assert_eq!(raw.expect_close(1000), "user closed");

    let mut group = server.connect(Client::json().group("g"));
    let mut other = server.connect(Client::json());
    close("POST", "groups/g/:closeConnections").expect(204);
    assert!(!group.expect_disconnected(1000).is_empty(), "a default reason");
    other.expect_silence();
    let mut excluded = server.connect(Client::json());
    close("POST", ":closeConnections").query("excluded", excluded.id()).expect(204);
    other.expect_disconnected(1000);
    excluded.expect_silence();
    for nobody in ["users/none/:closeConnections", "groups/none/:closeConnections"] {
        close("POST", nobody).expect(204);
    }
    close("DELETE", "connections/none").expect(204);
}

#[test]
fn existence_is_200_or_404_without_a_body() {
    let server = Server::start();
    let alice = server.connect(Client::json().user("alice").group("g"));
    let paths = [format!("connections/{}", alice.id()), "users/alice".to_owned(), "groups/g".to_owned()];
    let head = |path: &str| server.rest("HEAD", &format!("/api/hubs/chat/{path}"));
    for path in &paths {
        head(path).expect(200);
    }
    for path in ["connections/none", "users/none", "groups/none", "users/ALICE", "groups/G"] {
        head(path).expect(404);
    }
    server.rest("HEAD", "/api/hubs/other/users/alice").expect(404);
    alice.close(1000);
    for path in &paths {
        ringhub_tests::wait_until("it is gone", || head(path).send().status == 404);
    }
}

/// A response to HEAD has no body: the next answer on the connection starts right behind its head.
#[test]
fn head_does_not_break_the_connection() {
    let server = Server::start();
    let mut socket = server.raw();
    for _ in 0..2 {
        let head = server.rest("HEAD", "/api/hubs/chat/users/none");
        assert_eq!(head.send_on(&mut socket).status, 404);
        assert_eq!(server.rest("POST", "/api/hubs/chat/:send").text("x").send_on(&mut socket).status, 202);
    }
}

#[test]
fn membership_of_connections_and_users_changes_by_rest() {
    let server = Server::start();
    let mut one = server.connect(Client::json().user("alice"));
    let mut two = server.connect(Client::json().user("alice"));
    let call = |method: &str, path: &str| server.rest(method, &format!("/api/hubs/chat/{path}"));
    let send = |group: &str| drop(call("POST", &format!("groups/{group}/:send")).text("x").expect(202));

    let member = format!("groups/g/connections/{}", one.id());
    call("PUT", &member).expect(200).expect_empty();
    call("PUT", &member).expect(200);
    send("g");
    one.expect_group_text("g", None, "x");
    two.expect_silence();
    call("DELETE", &member).expect(204).expect_empty();
    call("DELETE", &member).expect(204);
    send("g");
    one.expect_silence();

    call("PUT", "users/alice/groups/h").expect(200);
    send("h");
    one.expect_group_text("h", None, "x");
    two.expect_group_text("h", None, "x");
    // Only connections of now, not of later.
    let mut three = server.connect(Client::json().user("alice"));
    send("h");
    one.expect_group_text("h", None, "x");
    two.expect_group_text("h", None, "x");
    three.expect_silence();
    call("DELETE", "users/alice/groups/h").expect(204);
    call("HEAD", "groups/h").expect(404);

    for group in ["a", "b"] {
        call("PUT", &format!("users/alice/groups/{group}")).expect(200);
    }
    call("DELETE", &format!("connections/{}/groups", one.id())).expect(204);
    send("a");
    two.expect_group_text("a", None, "x");
    three.expect_group_text("a", None, "x");
    one.expect_silence();
    call("DELETE", "users/alice/groups").expect(204);
    call("HEAD", "groups/a").expect(404);
    call("HEAD", "groups/b").expect(404);

    call("PUT", "groups/g/connections/none").expect(404).expect_error("Error.NotFound");
    call("PUT", "users/none/groups/g").expect(404).expect_error("Error.NotFound");
    for nobody in
        ["groups/g/connections/none", "users/none/groups/g", "connections/none/groups", "users/none/groups"]
    {
        call("DELETE", nobody).expect(204);
    }
}

/// The others of the user are put in all the same.
#[test]
fn a_group_too_many_is_a_conflict() {
    for cores in [1, 2] {
        let server =
            Server::with(|setup| setup.cores(cores).config("[limits]\ngroups_per_connection_max = 2\n"));
        let full = server.connect(Client::json().user("u").group("a").group("b"));
        let mut other = server.connect(Client::json().user("u"));
        let path = format!("/api/hubs/chat/groups/c/connections/{}", full.id());
        server.rest("PUT", &path).expect(409).expect_error("Error.Conflict");
        server.rest("HEAD", "/api/hubs/chat/groups/c").expect(404);
        server.rest("PUT", "/api/hubs/chat/users/u/groups/c").expect(409).expect_error("Error.Conflict");
        server.rest("POST", "/api/hubs/chat/groups/c/:send").text("x").expect(202);
        other.expect_group_text("c", None, "x");
        server.rest("PUT", "/api/hubs/chat/users/u/groups/a").expect(200);
    }
}

/// Names arrive percent-encoded, every escape decoded exactly once, `+` never (`rest-api` §1.2).
#[test]
fn names_are_decoded_once() {
    let server = Server::start();
    for (name, encoded) in [
        ("grp.α/1", "grp.%CE%B1%2F1"),
        ("user/ä 1", "user%2F%C3%A4%201"),
        ("a+b", "a+b"),
        ("a%2Fb", "a%252Fb"),
        ("it's ?&#", "it's%20%3F%26%23"),
        (":send", ":send"),
        ("..", "%2e%2e"),
    ] {
        let mut client = server.connect(Client::json().user(name).group(name));
        server.rest("POST", &format!("/api/hubs/chat/groups/{encoded}/:send")).text("g").expect(202);
        client.expect_group_text(name, None, "g");
        server.rest("POST", &format!("/api/hubs/chat/users/{encoded}/%3Asend")).text("u").expect(202);
        client.expect_server_text("u");
        server.rest("HEAD", &format!("/api/hubs/chat/groups/{encoded}")).expect(200);
    }
    let mut bracket = server.connect(Client::json().hub("h[1]"));
    server.rest("POST", "/api/hubs/H%5B1%5D/:send").text("x").expect(202);
    bracket.expect_server_text("x");
}

#[test]
fn a_generated_token_opens_a_connection() {
    let server = Server::start();
    let generate = || server.rest("POST", "/api/hubs/Chat/:generateToken");
    let response = generate()
        .query("userId", "ä/1")
        .query("role", "webpubsub.sendToGroup.g")
        .query("role", "nonsense")
        .query("group", "g")
        .query("minutesToExpire", "7")
        .query("clientType", "default")
        .expect(200);
    assert_eq!(
        response.header("content-type").map(|value| value.split(';').next().unwrap()),
        Some("application/json")
    );
    let token = response.object()["token"].as_str().unwrap().to_owned();
    let mut client = server.connect(Client::json().token(token));
    assert_eq!(client.user(), Some("ä/1"));
    client.publish("g", "x");
    client.expect_group_text("g", Some("ä/1"), "x");

    let token = generate().expect(200).object()["token"].as_str().unwrap().to_owned();
    assert_eq!(server.connect(Client::json().token(token.as_str())).user(), None);
    server.refuse(Client::json().hub("other").token(token), 401);
    let mqtt =
        generate().query("clientType", "MQTT").expect(200).object()["token"].as_str().unwrap().to_owned();
    server.refuse(Client::json().token(mqtt), 401);
    for (name, value) in [
        ("minutesToExpire", "0"),
        ("minutesToExpire", "x"),
        ("minutesToExpire", "-1"),
        ("clientType", "fax"),
        ("group", " "),
    ] {
        generate().query(name, value).expect(400).expect_error("Error.BadRequest");
    }
}

#[test]
fn only_signed_calls_are_served() {
    let server = Server::start();
    let url = format!("http://{}/api/hubs/chat/:send", server.addr);
    let good = Token::new(&url);
    let elsewhere = format!("http://{}/api/hubs/chat/groups/g/:send", server.addr);
    let bad = [
        "garbage".to_owned(),
        good.sign("another-key-0123456789-0123456789"),
        format!("{}.", good.clone().header(json!({ "alg": "none" })).unsigned()),
        good.clone().claim("exp", Value::Null).sign(KEY),
        good.clone().claim("exp", json!(now_seconds() - 360)).sign(KEY),
        good.clone().claim("aud", Value::Null).sign(KEY),
        Token::new(&elsewhere).sign(KEY),
        Token::new("http://example.com/api/hubs/chat/:send").sign(KEY),
        Token::new(&format!("http://{}/client/hubs/chat", server.addr)).sign(KEY),
    ];
    let mut alice = server.connect(Client::json());
    for token in bad {
        let response = server.rest("POST", "/api/hubs/chat/:send").text("x").token(token).expect(401);
        response.expect_error("Error.Unauthorized");
        assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    }
    server.rest("POST", "/api/hubs/chat/:send").text("x").no_token().expect(401);
    // Before any look-up: no oracle for who is there.
    server.rest("HEAD", &format!("/api/hubs/chat/connections/{}", alice.id())).no_token().expect(401);
    server.rest("HEAD", "/api/hubs/chat/connections/none").no_token().expect(401);
    alice.expect_silence();
}

/// With the query, without it, with a slash, a list, another scheme, any case (`rest-api` §3.1).
#[test]
fn audiences_are_accepted_in_every_form() {
    let server = Server::with(|setup| {
        setup
            .secondary_key("second-key-0123456789-0123456789")
            .config("[server]\npublic_endpoints = [\"https://pubsub.example.com\"]\n")
    });
    let call = || server.rest("POST", "/api/hubs/chat/groups/a%2Fb/:send").text("x");
    let url = call().url();
    let path = url.split('?').next().unwrap().to_owned();
    let audiences = [
        json!(url),
        json!(path),
        json!(format!("{path}/")),
        json!([path]),
        json!(path.to_uppercase()),
        json!(path.replace("%2F", "/")),
        json!(path.replace("http:", "https:")),
        json!(path.replace(&format!("http://{}", server.addr), "https://pubsub.example.com")),
        json!(format!("{path}?api-version=another")),
    ];
    for audience in audiences {
        println!("{audience}");
        call().token(Token::new("").claim("aud", audience).sign(KEY)).expect(202);
    }
    call().token(Token::new(&url).sign("second-key-0123456789-0123456789")).expect(202);
}

#[test]
fn answers_come_in_the_order_of_pipelined_requests() {
    let server = Server::on_cores(2);
    let mut alice = server.connect(Client::json().group("g"));
    let calls: Vec<_> = (0..50)
        .map(|n| match n % 3 {
            0 => server.rest("POST", "/api/hubs/chat/groups/g/:send").text(&n.to_string()),
            1 => server.rest("HEAD", "/api/hubs/chat/users/none"),
            _ => server.http("GET", "/api/health"),
        })
        .collect();
    let mut socket = server.raw();
    socket.write(calls.iter().flat_map(|call| call.bytes()).collect::<Vec<_>>());
    for (n, method) in zip(0..50, ["POST", "HEAD", "GET"].into_iter().cycle()) {
        let expected = [202, 404, 200][n % 3];
        assert_eq!(socket.read_response_to(method).status, expected, "answer {n}");
    }
    for n in (0..50).step_by(3) {
        alice.expect_group_text("g", None, &n.to_string());
    }
}
