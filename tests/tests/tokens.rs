//! Who is let in: client tokens, audiences, anonymous hubs (`client-protocols` §2, §1.7).

use ringhub_tests::{Client, KEY, Server, Token, now_seconds, wait_until};
use serde_json::{Value, json};

const OTHER_KEY: &str = "another-key-0123456789-0123456789-0123456789";

#[test]
fn bad_tokens_are_answered_401_before_the_upgrade() {
    let server = Server::start();
    let audience = format!("http://{}/client/hubs/chat", server.addr);
    let good = Token::new(&audience);
    let unsigned = good.clone().header(json!({ "alg": "none" })).unsigned();
    let signature = good.sign(KEY).rsplit_once('.').unwrap().1.to_owned();
    let cases = [
        ("empty", String::new()),
        ("no JWT", "garbage".to_owned()),
        ("three dots", "a.b.c".to_owned()),
        ("another key", good.sign(OTHER_KEY)),
        (
            "a signature from elsewhere",
            format!("{}.{signature}", good.clone().claim("sub", json!("u")).unsigned()),
        ),
        ("no signature", good.unsigned()),
        ("an empty signature", format!("{}.", good.unsigned())),
        ("alg none", format!("{unsigned}.")),
        ("alg none, signed", good.clone().header(json!({ "alg": "none" })).sign(KEY)),
        ("alg NoNe", good.clone().header(json!({ "alg": "NoNe" })).sign(KEY)),
        ("alg RS256", good.clone().header(json!({ "alg": "RS256", "typ": "JWT" })).sign(KEY)),
        ("alg HS512", good.clone().header(json!({ "alg": "HS512", "typ": "JWT" })).sign(KEY)),
        ("no exp", good.clone().claim("exp", Value::Null).sign(KEY)),
        ("exp as text", good.clone().claim("exp", json!("tomorrow")).sign(KEY)),
        ("expired", good.clone().claim("exp", json!(now_seconds() - 360)).sign(KEY)),
        ("not valid yet", good.clone().claim("nbf", json!(now_seconds() + 360)).sign(KEY)),
        ("no aud", good.clone().claim("aud", Value::Null).sign(KEY)),
        ("another hub", Token::new(&format!("{audience}2")).sign(KEY)),
        ("another host", Token::new("http://example.com/client/hubs/chat").sign(KEY)),
        ("another port", Token::new("http://127.0.0.1/client/hubs/chat").sign(KEY)),
        ("the MQTT family", Token::new(&format!("http://{}/clients/mqtt/hubs/chat", server.addr)).sign(KEY)),
        ("a REST audience", Token::new(&format!("http://{}/api/hubs/chat", server.addr)).sign(KEY)),
    ];
    for (what, token) in cases {
        for client in [Client::json(), Client::raw(), Client::reliable()] {
            println!("{what}");
            server.refuse(client.token(token.as_str()), 401);
        }
    }
    server.refuse(Client::json().no_token(), 401);
    // A good client right behind them: nothing of the refusals sticks.
    server.connect(Client::json().token(good.sign(KEY)));
}

#[test]
fn tokens_are_accepted_in_every_shape_the_sdks_write() {
    let server = Server::with(|setup| setup.secondary_key(OTHER_KEY));
    let addr = server.addr;
    let plain = format!("http://{addr}/client/hubs/chat");
    let audiences = [
        json!(plain),
        json!([plain]),
        json!(["https://elsewhere.example/", plain]),
        json!(format!("{plain}/")),
        json!(plain.replace("chat", "CHAT")),
        json!(plain.replace("http:", "https:")),
        json!(plain.replace("http:", "ws:")),
        json!(plain.replace("http:", "wss:")),
        json!(plain.replace("chat", "%63hat")),
    ];
    for audience in audiences {
        println!("{audience}");
        server.connect(Client::json().claim("aud", audience));
    }
    server.connect(Client::json().key(OTHER_KEY));
    server.connect(Client::json().bearer());
    server.connect(Client::json().claim("exp", json!(now_seconds() - 240)));
    server.connect(Client::json().claim("nbf", json!(now_seconds() + 240)));
    server.connect(Client::json().claim("iat", Value::Null));
    server.connect(Client::json().hub("Chat"));
    server.connect(Client::json().path("/client/?hub=chat"));
    server.connect(Client::json().path("/client?hub=chat"));
    let token = Token::new(&plain).header(json!({ "alg": "HS256", "typ": "JWT", "kid": "../1" })).sign(KEY);
    server.connect(Client::json().token(token));
    let token = Token::new(&plain).sign(KEY);
    server.connect(Client::json().no_token().header("authorization", &format!("bEARER {token}")));
}

#[test]
fn the_query_token_wins_over_the_header() {
    let server = Server::start();
    let token = Token::new(&format!("http://{}/client/hubs/chat", server.addr)).sign(KEY);
    server.connect(Client::json().token(token.as_str()).header("Authorization", "Bearer garbage"));
    server.refuse(Client::json().token("garbage").header("Authorization", &format!("Bearer {token}")), 401);
}

#[test]
fn a_public_endpoint_is_an_audience_too() {
    let server =
        Server::with(|setup| setup.config("[server]\npublic_endpoints = [\"https://pubsub.example.com\"]\n"));
    for audience in
        ["https://pubsub.example.com/client/hubs/chat", "https://PubSub.example.com:443/client/hubs/Chat/"]
    {
        server.connect(Client::json().claim("aud", json!(audience)));
    }
    server.refuse(Client::json().claim("aud", json!("https://example.com/client/hubs/chat")), 401);
    server
        .refuse(Client::json().claim("aud", json!("https://pubsub.example.com:8443/client/hubs/chat")), 401);
}

#[test]
fn the_user_comes_from_sub_or_from_the_long_claim() {
    let server = Server::start();
    assert_eq!(server.connect(Client::json().user("ä \"1\"")).user(), Some("ä \"1\""));
    assert_eq!(server.connect(Client::json()).user(), None);
    let long = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";
    assert_eq!(server.connect(Client::json().claim(long, json!("u2"))).user(), Some("u2"));
}

#[test]
fn roles_and_groups_may_be_one_string_or_a_list() {
    let server = Server::start();
    let one =
        Client::json().claim("role", json!("webpubsub.sendToGroup")).claim("webpubsub.group", json!("g"));
    let mut one = server.connect(one);
    let mut list =
        server.connect(Client::json().group("g").group("h").role("webpubsub.sendToGroup.h").role("nonsense"));
    one.publish("g", "to both");
    one.expect_group_text("g", None, "to both");
    list.expect_group_text("g", None, "to both");
    list.publish("h", "to one");
    list.expect_group_text("h", None, "to one");
    one.expect_silence();
}

#[test]
fn a_bad_group_in_the_token_is_answered_400() {
    let server = Server::start();
    for group in [json!(""), json!(" "), json!(["ok", ""]), json!("x".repeat(1025))] {
        server.refuse(Client::json().claim("webpubsub.group", group), 400);
    }
}

#[test]
fn an_anonymous_hub_lets_in_who_has_no_token_but_nobody_with_a_bad_one() {
    let server = Server::with(|setup| setup.config("[hubs.open]\nanonymous_connect_policy = \"allow\"\n"));
    let mut nobody = server.connect(Client::json().hub("open").no_token());
    assert_eq!(nobody.user(), None);
    nobody.send(r#"{"type":"joinGroup","group":"g","ackId":1}"#);
    nobody.expect_failed_ack(1, "Forbidden");
    server.refuse(Client::json().hub("open").token("garbage"), 401);
    server.refuse(Client::json().hub("chat").no_token(), 401);
}

/// `role`: patterns, literals with dots and stars, one kind does not imply the other (§4).
#[test]
fn roles_grant_exactly_what_they_say() {
    let server = Server::start();
    let mut client = server.connect(
        Client::json()
            .role("webpubsub.joinLeaveGroup.a.b*")
            .role("webpubsub.sendToGroups.chat-*")
            .role("webpubsub.joinLeaveGroups.room.**"),
    );
    let may = |group: &str, kind: &str| match kind {
        "joinGroup" => group == "a.b*" || group.starts_with("room."),
        _ => group.starts_with("chat-") && !group.contains('.'),
    };
    let mut ack_id = 0;
    for group in ["a.b*", "a.bc", "chat-1", "chat.1", "chat-1.2", "room.1", "room.1.2", "room", "Chat-1"] {
        for kind in ["joinGroup", "sendToGroup"] {
            ack_id += 1;
            let data =
                if kind == "sendToGroup" { r#","noEcho":true,"dataType":"text","data":"x""# } else { "" };
            client.send(&format!(r#"{{"type":"{kind}","group":"{group}","ackId":{ack_id}{data}}}"#));
            println!("{kind} {group}");
            if may(group, kind) {
                client.expect_ack(ack_id);
            } else {
                client.expect_failed_ack(ack_id, "Forbidden");
            }
        }
    }
}

/// As with the service: a token is for coming in, and who is in stays (`reliability` check 64).
#[test]
fn a_connection_outlives_its_token() {
    let server = Server::with(|setup| setup.cores(2).config("[limits]\nclock_skew_seconds = 0\n"));
    let token =
        Token::new(&format!("{}/client/hubs/chat", server.url())).claim("exp", json!(now_seconds() + 5));
    let roles = json!(["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"]);
    let token = token.claim("role", roles).sign(KEY);
    let mut plain = server.connect(Client::json().token(token.as_str()));
    let mut reliable = server.connect(Client::reliable().token(token.as_str()));
    wait_until("it has run out", || {
        let mut socket = server.raw();
        socket.write(Client::json().token(token.as_str()).request(&server));
        socket.read_response().status == 401
    });
    for client in [&mut plain, &mut reliable] {
        client.join("g");
        client.publish_acked("g", "x");
    }
    // Neither does it need one to come back.
    let (id, secret) = (reliable.id().to_owned(), reliable.token().to_owned());
    reliable.cut();
    let mut reliable = server.open(Client::reliable().token(token.as_str()).recover(&id, &secret));
    reliable.expect_connected();
    plain.expect_group_text("g", None, "x");
}
