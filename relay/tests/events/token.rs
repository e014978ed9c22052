//! How a handler knows us: a header with a secret, or a token.

use ringhub_hub::event::Reply;
use ringhub_relay::upstream::{HandlerAuth, Upstream, UpstreamSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::eventually;
use crate::support::handler::{Action, Handler, answer, status};
use crate::support::world::{Client, World, settings};

fn bearer(handler: &Handler, endpoint: &Handler) -> Arc<Upstream> {
    let auth = HandlerAuth::ClientCredentials {
        token_url: endpoint.url("/token"),
        client_id: "ringhub".to_owned(),
        client_secret: "s&cr=t ä".to_owned(),
        scope: Some("api/.default".to_owned()),
        resource: None,
    };
    Upstream::new(UpstreamSettings { auth, ..settings(&handler.url("/")) }).unwrap()
}

/// Gives the tokens `1`, `2` and so on.
fn endpoint(expires_in: u64) -> Handler {
    let given = AtomicUsize::new(0);
    Handler::start_bare(move |_| token(given.fetch_add(1, Ordering::Relaxed) + 1, expires_in))
}

fn token(n: usize, expires_in: u64) -> Action {
    let body = format!(r#"{{"access_token":"{n}","token_type":"Bearer","expires_in":{expires_in}}}"#);
    answer(200, "Content-Type: application/json\r\n", body)
}

fn tokens_of(handler: &Handler) -> Vec<String> {
    handler.posts().iter().map(|post| post.header("authorization").unwrap_or("-").to_owned()).collect()
}

#[test]
fn a_header_with_a_secret_is_added() {
    let handler = Handler::start(|_| status(204));
    let world = World::start();
    let auth = HandlerAuth::Header { name: "X-Functions-Key".to_owned(), value: "secret".to_owned() };
    let upstream = Upstream::new(UpstreamSettings { auth, ..settings(&handler.url("/")) }).unwrap();
    world.call(Client::new(&upstream).user("a", ""));
    assert_eq!(handler.posts()[0].header("x-functions-key"), Some("secret"));
    assert!(!format!("{upstream:?}").contains("secret"));
}

#[test]
fn one_token_is_asked_for_and_serves_all() {
    let (handler, endpoint) = (Handler::start(|_| status(204)), endpoint(3600));
    let world = World::start();
    let upstream = bearer(&handler, &endpoint);
    let clients: Vec<Client> = (0..20).map(|_| Client::new(&upstream)).collect();
    let tickets: Vec<_> = clients.iter().map(|client| world.ask(client.user("a", ""))).collect();
    tickets.into_iter().for_each(|ticket| assert_eq!(world.reply(ticket), Reply::Answered(None)));
    assert!(tokens_of(&handler).iter().all(|token| token == "Bearer 1"));
    let [request] = &endpoint.requests()[..] else { panic!("more than one") };
    assert_eq!((&*request.method, &*request.path), ("POST", "/token"));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        String::from_utf8_lossy(&request.body),
        "grant_type=client_credentials&client_id=ringhub&client_secret=s%26cr%3Dt+%C3%A4&scope=api%2F.default"
    );
    assert!(!format!("{upstream:?}").contains("s&cr"));
}

#[test]
fn a_401_makes_the_token_forgotten_and_the_event_is_sent_once_more() {
    let handler = Handler::start(|request| match request.header("authorization") {
        Some("Bearer 2") => status(204),
        _ => status(401),
    });
    let endpoint = endpoint(3600);
    let world = World::start();
    let upstream = bearer(&handler, &endpoint);
    assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Answered(None));
    assert_eq!(tokens_of(&handler), ["Bearer 1", "Bearer 2"]);

    let strict = Handler::start(|_| status(401));
    let upstream = bearer(&strict, &endpoint);
    assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(401));
    assert_eq!(tokens_of(&strict), ["Bearer 3", "Bearer 4"], "once, not for ever");
}

#[test]
fn a_token_that_runs_out_is_replaced() {
    let (handler, endpoint) = (Handler::start(|_| status(204)), endpoint(1));
    let world = World::start();
    let client = Client::new(&bearer(&handler, &endpoint));
    eventually(|| {
        world.call(client.user("a", ""));
        tokens_of(&handler).len() > 1 && tokens_of(&handler).last().is_some_and(|token| token != "Bearer 1")
    });
    let mut tokens = tokens_of(&handler);
    tokens.dedup();
    assert_eq!(tokens, ["Bearer 1", "Bearer 2"]);
}

#[test]
fn without_a_token_nothing_is_sent_and_what_may_pass_is_tried_again() {
    let world = World::start();
    for (say, asked) in [
        ((|| status(401)) as fn() -> Action, 1),
        (|| answer(200, "", r#"{"access_token":"a\nb","token_type":"Bearer"}"#), 1),
        (|| answer(200, "", r#"{"access_token":"s3cret","token_type":"mac"}"#), 1),
        (|| answer(200, "", "s3cret"), 1),
        (|| status(503), 2),
        (|| Action::Reset, 2),
    ] {
        let handler = Handler::start(|_| status(204));
        let endpoint = Handler::start_bare(move |_| say());
        let upstream = Upstream::new(UpstreamSettings {
            retry_delays: vec![Duration::from_millis(1010)],
            ..bearer(&handler, &endpoint).settings().clone()
        })
        .unwrap();
        assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(502));
        assert_eq!((endpoint.requests().len(), handler.posts().len()), (asked, 0));
        let cause = &upstream.report().calls[0].cause;
        assert!(cause.starts_with("token endpoint: ") && !cause.contains("s3cret"), "{cause}");
    }
}
