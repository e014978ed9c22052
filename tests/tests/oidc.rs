//! REST calls with tokens of an OIDC issuer, and the switches for them and for access keys (`rest-api` §3.2).

use ringhub_tests::{
    Answering, Client, Connection, Issuer, KEY, Request, Response, Server, Token, now_seconds, wait_until,
};
use serde_json::{Value, json};

const SEND: &str = "/api/hubs/chat/:send";

fn trusting(issuer: &Issuer, more: &str) -> Server {
    let section = issuer.section(more);
    Server::with(|setup| setup.config(&section))
}

fn send(server: &Server, token: &str) -> Response {
    server.rest("POST", SEND).token(token).text("hi").send()
}

/// Waits until calls with this token get that status; before, the keys are not there yet.
#[track_caller]
pub(crate) fn wait_for(server: &Server, token: &str, status: u16) {
    wait_until(&format!("a call is answered {status}"), || {
        let response = send(server, token);
        if response.status == 503 {
            response.expect_error("Error.ServiceUnavailable");
            assert_eq!(response.header("retry-after"), Some("1"));
        }
        response.status == status
    });
}

#[test]
fn an_owner_does_everything_and_a_reader_looks() {
    let issuer = Issuer::start();
    let server = trusting(&issuer, "");
    let owner = issuer.token("owner");
    wait_for(&server, &owner, 202);
    let member = server.connect(Client::json().group("g"));
    let id = member.id().to_owned();
    let reader = issuer.token("reader");
    let nobody = issuer.token("admin");
    for (method, path, done) in [
        ("POST", SEND.to_owned(), 202),
        ("POST", "/api/hubs/chat/groups/g/:send".into(), 202),
        ("POST", "/api/hubs/chat/:generateToken".into(), 200),
        ("HEAD", "/api/hubs/chat/groups/g".into(), 200),
        ("HEAD", format!("/api/hubs/chat/connections/{id}"), 200),
        ("HEAD", "/api/hubs/chat/users/nobody".into(), 404),
        ("PUT", format!("/api/hubs/chat/groups/h/connections/{id}"), 200),
        ("DELETE", format!("/api/hubs/chat/groups/h/connections/{id}"), 204),
        ("DELETE", "/api/hubs/chat/connections/x".into(), 204),
    ] {
        println!("{method} {path}");
        server.rest(method, &path).token(owner.as_str()).expect(done);
        let looks = method == "HEAD";
        server.rest(method, &path).token(reader.as_str()).expect(if looks { done } else { 403 });
        let refused = server.rest(method, &path).token(nobody.as_str()).expect(403);
        if !looks {
            refused.expect_error("Error.Forbidden");
        }
    }
}

/// Lists are for looking at, page by page; whatever would change something is not.
#[test]
fn a_reader_may_list_a_group_and_not_change_it() {
    const LIST: &str = "/api/hubs/chat/groups/g/connections";
    let issuer = Issuer::start();
    let server = trusting(&issuer, "");
    wait_for(&server, &issuer.token("owner"), 202);
    let mut members: Vec<_> = (0..2).map(|_| server.connect(Client::json().group("g"))).collect();
    let reader = issuer.token("reader");
    let page = |call: Request| call.token(reader.as_str()).expect(200).object();
    let first = page(server.rest("GET", LIST).query("maxpagesize", "1"));
    let next = first["nextLink"].as_str().and_then(|link| link.strip_prefix(&server.url()));
    let second = page(server.rest("GET", next.expect("a link to this server")).no_query());
    let mut listed = [&first, &second].map(|page| page["value"][0]["connectionId"].clone());
    listed.sort_by_key(Value::to_string);
    let mut ids: Vec<_> = members.iter().map(|member| json!(member.id())).collect();
    ids.sort_by_key(Value::to_string);
    assert_eq!((listed.to_vec(), &second["nextLink"]), (ids, &Value::Null));
    for way in ["groups/g/:send", "groups/g/:closeConnections", ":addToGroups", ":removeFromGroups"] {
        let call = server.rest("POST", &format!("/api/hubs/chat/{way}")).token(reader.as_str());
        call.json(r#"{"groups":["g"],"filter":null}"#).expect(403).expect_error("Error.Forbidden");
    }
    members.iter_mut().for_each(Connection::expect_silence);
    server.rest("GET", LIST).token(issuer.token("admin")).expect(403).expect_error("Error.Forbidden");
}

#[test]
fn rsa_keys_and_access_keys_work_side_by_side() {
    let issuer = Issuer::start();
    issuer.rotate_to_rsa("rsa-1");
    let server = trusting(&issuer, "audiences = [\"api://ringhub\"]");
    let mut claims = issuer.claims("owner");
    claims["aud"] = json!(["x", "api://ringhub/"]);
    wait_for(&server, &issuer.sign(&claims), 202);
    server.rest("POST", SEND).text("hi").expect(202);
    assert_eq!(send(&server, &issuer.token("owner")).status, 401, "audiences are this issuer's own");
}

#[test]
fn tokens_that_are_not_believed() {
    let (issuer, evil) = (Issuer::start(), Issuer::start());
    let server = trusting(&issuer, "");
    let good = issuer.token("owner");
    wait_for(&server, &good, 202);
    let with = |name: &str, value: Value| {
        let mut claims = issuer.claims("owner");
        claims[name] = value;
        claims
    };
    for (what, token) in [
        ("another issuer", evil.token("owner")),
        ("another issuer's key", evil.sign(&issuer.claims("owner"))),
        ("issuer with a slash", issuer.sign(&with("iss", json!(format!("{}/", issuer.url()))))),
        ("another audience", issuer.sign(&with("aud", json!("https://management.azure.com")))),
        ("this URL as audience", issuer.sign(&with("aud", json!(format!("http://{}{SEND}", server.addr))))),
        ("expired", issuer.sign(&with("exp", json!(now_seconds() - 360)))),
        ("not valid yet", issuer.sign(&with("nbf", json!(now_seconds() + 360)))),
        ("no expiry", issuer.sign(&with("exp", json!(null)))),
        ("the issuer's URL as secret", Token::new("https://webpubsub.azure.com").sign(&issuer.url())),
        ("cut", good[..good.len() - 8].to_owned()),
    ] {
        let response = send(&server, &token);
        assert_eq!(response.status, 401, "{what}: {response:?}");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        let message = response.expect_error("Error.Unauthorized");
        assert!(!message.contains(&token), "{message}");
    }
    // It opens no client connection, in no place.
    let mut for_client = issuer.claims("owner");
    for_client["aud"] =
        json!(["https://webpubsub.azure.com", format!("http://{}/client/hubs/chat", server.addr)]);
    let for_client = issuer.sign(&for_client);
    assert_eq!(send(&server, &for_client).status, 202);
    server.refuse(Client::json().token(for_client.as_str()), 401);
    server.refuse(Client::json().no_token().header("Authorization", &format!("Bearer {for_client}")), 401);
    assert!(server.metric_of("ringhub_oidc_refused_total", &["reason=\"audience\""]) >= 2);
}

#[test]
fn an_unknown_key_is_fetched_once_and_a_rotated_one_is_found() {
    let issuer = Issuer::start();
    let server = trusting(&issuer, "");
    let old = issuer.token("owner");
    wait_for(&server, &old, 202);
    assert_eq!(issuer.fetches(), 1);
    issuer.rotate_to("ec-2");
    assert_eq!(send(&server, &old).status, 202, "nothing has been fetched");
    // The first call with it makes the server look; until it has, nobody is told to give up.
    wait_for(&server, &issuer.token("owner"), 202);
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(send(&server, &old).status, 401, "the old key is gone");
    // Made-up names do not make it look again.
    for number in 0..50 {
        let made_up = issuer.sign_as(&format!("made-up-{number}"), &issuer.claims("owner"));
        assert_eq!(send(&server, &made_up).status, 401);
    }
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(server.metric("ringhub_oidc_refreshes_total"), 2);
    assert_eq!(server.metric("ringhub_oidc_refresh_failures_total"), 0);
}

#[test]
fn an_issuer_that_is_down_at_the_start_is_waited_for() {
    let issuer = Issuer::answering(Answering::Hanging);
    let mut server = trusting(&issuer, "");
    let token = issuer.token("owner");
    let response = send(&server, &token);
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("1"));
    response.expect_error("Error.ServiceUnavailable");
    server.rest("POST", SEND).text("hi").expect(202);
    wait_until("a failure is counted", || server.metric("ringhub_oidc_refresh_failures_total") > 0);
    issuer.answer(Answering::Well);
    wait_for(&server, &token, 202);
    wait_until("it is logged", || server.process().log().contains("keys not fetched"));
}

#[test]
fn bad_answers_cost_nothing_but_freshness() {
    let issuer = Issuer::start();
    let mut server = trusting(&issuer, "refresh_seconds = 1");
    let token = issuer.token("owner");
    wait_for(&server, &token, 202);
    for answering in [
        Answering::Garbage,
        Answering::Huge,
        Answering::Elsewhere,
        Answering::Failing,
        Answering::Renamed,
        Answering::Keyless,
        Answering::Hanging,
    ] {
        println!("{answering:?}");
        let before = server.metric("ringhub_oidc_refresh_failures_total");
        issuer.answer(answering);
        // One may be on its way from before.
        wait_until("failures are counted", || {
            server.metric("ringhub_oidc_refresh_failures_total") >= before + 2
        });
        assert_eq!(send(&server, &token).status, 202, "the last good keys are kept");
    }
    assert_eq!(
        issuer.asked("/moved/tenant/.well-known/openid-configuration"),
        0,
        "redirects are not followed"
    );
    let log = server.process().log();
    for problem in ["not a document", "larger than", "answered 302", "answered 500", "/other", "no key for"] {
        assert!(log.contains(problem), "{problem}: {log}");
    }
    issuer.answer(Answering::Well);
    issuer.rotate_to("ec-2");
    wait_for(&server, &issuer.token("owner"), 202);
}

#[test]
fn an_issuer_that_says_nothing_holds_up_nobody() {
    let issuer = Issuer::answering(Answering::Silent);
    let mut server = trusting(&issuer, "");
    assert_eq!(send(&server, &issuer.token("owner")).status, 503);
    server.rest("POST", SEND).text("hi").expect(202);
    server.connect(Client::json());
    // The fetch is given up after ten seconds, and a stop does not wait for it either.
    assert!(server.stop().success());
}

#[test]
fn keys_that_are_too_old_are_none() {
    let issuer = Issuer::start();
    let server = trusting(&issuer, "refresh_seconds = 1\nkeys_age_max_seconds = 2");
    let token = issuer.token("owner");
    wait_for(&server, &token, 202);
    issuer.answer(Answering::Failing);
    wait_for(&server, &token, 503);
    issuer.answer(Answering::Well);
    wait_for(&server, &token, 202);
}

#[test]
fn without_access_keys_generated_tokens_still_open_connections() {
    let issuer = Issuer::start();
    let config = format!("[server]\naccess_keys = false\n{}", issuer.section(""));
    let mut server = Server::with(|setup| setup.config(&config));
    let owner = issuer.token("owner");
    wait_for(&server, &owner, 202);
    // Access keys open nothing.
    let refused = server.rest("POST", SEND).text("hi").expect(403);
    refused.expect_error("Error.Forbidden");
    server.refuse(Client::json(), 401);
    // What the server makes opens the hub it is for, with the user and roles that were asked for.
    let generate = |server: &Server| {
        let response = server
            .rest("POST", "/api/hubs/chat/:generateToken")
            .query("userId", "ann")
            .query("role", "webpubsub.sendToGroup.g")
            .query("group", "g")
            .token(owner.as_str())
            .expect(200);
        response.object()["token"].as_str().expect("a token").to_owned()
    };
    let token = generate(&server);
    let mut ann = server.connect(Client::json().token(token.as_str()));
    assert_eq!(ann.user(), Some("ann"));
    ann.publish("g", "to myself");
    ann.expect_group_text("g", Some("ann"), "to myself");
    server.refuse(Client::json().hub("other").token(token.as_str()), 401);
    assert_eq!(send(&server, &token).status, 403, "no REST call with it");
    // The same key, another process on the same address: the token is still good.
    let addr = server.addr.to_string();
    server.stop();
    let server = Server::with(|setup| setup.listen(&addr).config(&config));
    server.connect(Client::json().token(token.as_str()));
    // With access keys on again it is good, too, and an access key still cannot pose as the internal one.
    drop(server);
    let server = Server::with(|setup| setup.listen(&addr));
    server.connect(Client::json().token(token.as_str()));
    let audience = format!("http://{addr}/client/hubs/chat");
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "ringhub-client-1" });
    server.refuse(Client::json().token(Token::new(&audience).header(header).sign(KEY)), 401);
    assert_eq!(send(&server, &token).status, 401);
}

#[test]
fn issuers_can_be_switched_off() {
    let issuer = Issuer::start();
    let config = format!("[server]\noidc = false\n{}", issuer.section(""));
    let server = Server::with(|setup| setup.config(&config));
    let response = send(&server, &issuer.token("owner"));
    assert_eq!(response.status, 403);
    response.expect_error("Error.Forbidden");
    server.rest("POST", SEND).text("hi").expect(202);
    assert_eq!(issuer.fetches(), 0, "nothing is fetched");
}
