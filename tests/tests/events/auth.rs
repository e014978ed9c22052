//! How a handler knows that it is us: a header with a secret, or a bearer token (§1).

use std::sync::Mutex;

use ringhub_tests::{Answer, Client, Gate, Handler, Server, wait_until};
use serde_json::json;

use super::{ALL, NO_RETRIES, USER, agreeable, event_acked, server};

const SECRET: &str = "the-client-s-secret";

/// The section that goes behind a handler's.
fn credentials(issuer: &Handler, more: &str) -> String {
    format!(
        "[hubs.chat.event_handlers.auth]\ntype = \"client_credentials\"\ntoken_url = \"{}/token\"\n\
         client_id = \"ring hub\"\nclient_secret = \"{SECRET}\"\n{more}\n",
        issuer.url()
    )
}

/// A token endpoint whose tokens are `token-0`, `token-1`, … and last that long.
fn issuing(expires_in: u64) -> Handler {
    let next = Mutex::new(0);
    Handler::plain(move |_| {
        let mut next = next.lock().expect("no test panics here");
        let token = format!("token-{next}");
        *next += 1;
        Answer::json(
            &json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in }).to_string(),
        )
    })
}

#[test]
fn a_header_with_a_secret_goes_with_every_request() {
    let handler = agreeable();
    let auth = "[hubs.chat.event_handlers.auth]\ntype = \"header\"\nname = \"X-Functions-Key\"\nvalue = \"{env:KEY_OF_APP}\"\n";
    let config = handler.section(&format!("{ALL}{auth}"));
    let mut server = Server::with(|setup| setup.env("KEY_OF_APP", "s3cret/+").config(&config));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "", 1));
    alice.expect_ack(1);
    let calls = handler.calls_at_least(3);
    assert!(calls.iter().all(|call| call.header("X-Functions-Key") == Some("s3cret/+")), "{calls:?}");
    assert!(calls.iter().all(|call| call.header("Authorization").is_none()));
    // To be asked whether events are welcome is no event (§2).
    let mut shown = server.process().log();
    for page in ["/upstreams", "/metrics", "/"] {
        shown += server.admin().http("GET", page).expect(200).text();
    }
    assert!(!shown.contains("s3cret"), "{shown}");
}

/// RFC 6749 §4.4.2: a form, and who asks by Basic or in the form.
#[test]
fn a_token_is_fetched_once_and_goes_with_every_request() {
    let (issuer, handler) = (issuing(3600), agreeable());
    let more = "scope = \"api://app/.default\"\nresource = \"https://app.example\"";
    let config = handler.section(&format!("{ALL}{}", credentials(&issuer, more)));
    let mut server = server(&config);
    let mut clients: Vec<_> = (0..5).map(|_| server.connect(Client::json())).collect();
    for client in &mut clients {
        client.send(&event_acked("e", "", 1));
        client.expect_ack(1);
    }
    let calls = handler.calls_at_least(15);
    assert!(calls.iter().all(|call| call.header("Authorization") == Some("Bearer token-0")), "{calls:?}");
    assert!(handler.validations().iter().all(|call| call.header("Authorization").is_none()));
    let asked = issuer.next();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/token"));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    let form: Vec<_> = asked.text().split('&').collect();
    for field in [
        "grant_type=client_credentials",
        "scope=api%3A%2F%2Fapp%2F.default",
        "resource=https%3A%2F%2Fapp.example",
    ] {
        assert!(form.contains(&field), "{field}: {asked:?}");
    }
    let in_form = form.contains(&&*format!("client_secret={SECRET}"));
    let basic = asked.header("authorization").is_some_and(|value| value.starts_with("Basic "));
    assert!(in_form != basic, "one way of the two: {asked:?}");
    assert_eq!(issuer.calls().len(), 1);
    let mut shown = server.process().log();
    for page in ["/upstreams", "/metrics", "/"] {
        shown += server.admin().http("GET", page).expect(200).text();
    }
    assert!(!shown.contains(SECRET) && !shown.contains("token-0"), "{shown}");
}

#[test]
fn a_token_that_ran_out_is_replaced() {
    let (issuer, handler) = (issuing(1), agreeable());
    let server = server(&handler.section(&format!("{USER}{}", credentials(&issuer, ""))));
    let mut alice = server.connect(Client::json());
    let mut ack_id = 0;
    wait_until("another token", || {
        ack_id += 1;
        alice.send(&event_acked("e", "", ack_id));
        alice.expect_ack(ack_id);
        handler.calls().last().expect("a call").header("Authorization") == Some("Bearer token-1")
    });
}

/// Many events at once need one token, and none goes out without it.
#[test]
fn events_wait_for_the_token_that_is_on_its_way() {
    let gate = Gate::default();
    let waited = gate.clone();
    let issuer = Handler::plain(move |_| {
        waited.pass();
        Answer::json(r#"{"access_token":"late","token_type":"bearer","expires_in":"3600"}"#)
    });
    let handler = agreeable();
    let server = server(&handler.section(&format!("{USER}{}", credentials(&issuer, ""))));
    let mut clients: Vec<_> = (0..10).map(|_| server.connect(Client::json())).collect();
    clients.iter_mut().for_each(|client| client.send(&event_acked("e", "", 1)));
    issuer.next();
    assert!(handler.calls().is_empty());
    gate.open();
    clients.iter_mut().for_each(|client| client.expect_ack(1));
    assert_eq!(issuer.calls().len(), 1);
    assert!(handler.calls().iter().all(|call| call.header("Authorization") == Some("Bearer late")));
}

#[test]
fn without_a_token_nothing_is_sent_and_the_cause_is_said() {
    for bad in [
        Answer::status(401).body("application/json", r#"{"error":"invalid_client"}"#),
        Answer::status(302).header("Location", "/token2"),
        Answer::text("no JSON"),
        Answer::json("{}"),
        Answer::json(r#"{"access_token":"a b\r\n","token_type":"Bearer"}"#),
        Answer::json(r#"{"access_token":"","token_type":"Bearer"}"#),
        Answer::reset(),
    ] {
        println!("{bad:?}");
        let issuer = Handler::plain(move |_| bad.clone());
        let handler = agreeable();
        let keys = format!("{USER}{NO_RETRIES}{}", credentials(&issuer, ""));
        let mut server = server(&handler.section(&keys));
        let mut alice = server.connect(Client::json());
        alice.send(&event_acked("e", "", 1));
        alice.expect_failed_ack(1, "InternalServerError");
        assert!(handler.calls().is_empty());
        let log = super::logged(&mut server, "token endpoint");
        assert!(!log.contains(SECRET));
    }
}
