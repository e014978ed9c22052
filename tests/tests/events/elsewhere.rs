//! Nobody sends this server somewhere else (`reliability` check 59): requests go to the addresses that the operator
//! wrote, whatever an answer says and whatever a client is called.

use ringhub_tests::{Answer, Client, Handler, Server};
use serde_json::json;

use super::{ALL, NO_RETRIES, agreeable, event_acked, server};

/// Ways to say that what one wants is at `target`.
fn ways(target: &str) -> Vec<Answer> {
    let mut ways: Vec<Answer> = [300, 301, 302, 303, 304, 305, 307, 308]
        .map(|status| Answer::status(status).header("Location", target).header("WebHook-Allowed-Origin", "*"))
        .into();
    ways.extend([
        Answer::status(201).header("Location", target),
        Answer::status(200).header("Refresh", &format!("0; url={target}")).header("Content-Location", target),
        Answer::status(200).header("Alt-Svc", &format!("h2=\"{target}\"; ma=1")),
        Answer::status(401).header("WWW-Authenticate", &format!("Bearer authorization_uri=\"{target}\"")),
        Answer::status(407).header("Proxy-Authenticate", "Basic").header("Location", target),
        Answer::status(421).header("Location", target),
        Answer::raw(format!("HTTP/1.1 103 Early Hints\r\nLink: <{target}>; rel=preload\r\n\r\nHTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n")),
    ]);
    ways
}

/// To an event, to the question whether events are welcome, and to the question for a token.
#[test]
fn no_answer_leads_elsewhere() {
    // It stands for an address of the cloud's own, which believes everybody on this machine.
    let metadata = Handler::plain(|_| Answer::text("a token"));
    let targets = [format!("{}/latest/meta-data/", metadata.url()), format!("//{}/", metadata.addr())];
    let ways: Vec<Answer> = targets.iter().flat_map(|target| ways(target)).collect();
    let keys = format!("user_event_pattern = \"*\"\n{NO_RETRIES}breaker_failures = 0\n");
    let (mut config, mut handlers) = (String::new(), Vec::new());
    for (number, way) in ways.into_iter().enumerate() {
        let (to_event, to_question, to_token) = (way.clone(), way.clone(), way);
        let handler = Handler::plain(move |_| to_event.clone());
        let unwelcome = Handler::validated_by(move |_| to_question.clone(), |_| Answer::no_content());
        let (issuer, tokenless) = (Handler::plain(move |_| to_token.clone()), agreeable());
        let auth = format!(
            "[hubs.token{number}.event_handlers.auth]\ntype = \"client_credentials\"\ntoken_url = \"{}/token\"\n\
             client_id = \"ringhub\"\nclient_secret = \"secret\"\n",
            issuer.url()
        );
        config += &handler.section_of(&format!("event{number}"), "/{event}", &keys);
        config += &unwelcome.section_of(&format!("question{number}"), "/{event}", &keys);
        config += &tokenless.section_of(&format!("token{number}"), "/{event}", &format!("{keys}{auth}"));
        handlers.push((handler, unwelcome, issuer, tokenless));
    }
    let server = server(&config);
    for (number, (handler, unwelcome, issuer, tokenless)) in handlers.iter().enumerate() {
        println!("{number}");
        for about in ["event", "question", "token"] {
            let mut client = server.connect(Client::json().hub(&format!("{about}{number}")));
            client.send(&event_acked("e", "x", 1));
            client.next_text();
        }
        assert_eq!(handler.calls().len(), 1, "as often as there are events");
        assert_eq!(handler.calls()[0].target, "/e");
        assert!(unwelcome.validations().iter().all(|call| call.target == "/validate"));
        assert!(tokenless.calls().is_empty(), "never without a token");
        assert!(issuer.calls().iter().all(|call| call.target == "/token"));
    }
    assert_eq!(metadata.connections(), 0, "{:?}", metadata.calls());
}

/// What clients choose stands behind the host, as text: names of users and groups are in no URL, and an event's name
/// has no letter that could mean anything in one.
#[test]
fn no_name_of_a_client_leads_elsewhere() {
    let (handler, metadata) = (agreeable(), Handler::plain(|_| Answer::no_content()));
    let section = handler.section_of("chat", "/in/{hub}/{event}?of={event}", &format!("{ALL}{NO_RETRIES}"));
    let server = server(&section);
    let addr = metadata.addr();
    let hostile = [
        format!("@{addr}/"),
        format!("http://{addr}/"),
        format!("\r\nHost: {addr}\r\n\r\nGET / HTTP/1.1"),
        format!("..//{addr}"),
        "/../../".to_owned(),
        "..%2f..%2f".to_owned(),
        "?#".to_owned(),
        "{event}{hub}{file:/etc/passwd}{env:PATH}".to_owned(),
    ];
    for name in &hostile {
        let mut client =
            server.connect(Client::json().user(name).group(name).header("Origin", "http://evil.example"));
        // No event has such a name.
        let event = json!({ "type": "event", "event": name, "ackId": 1, "dataType": "text", "data": name });
        client.send(&event.to_string());
        client.expect_thrown_out();
    }
    // These may be names, and mean nothing in a path.
    for name in ["a..", "a.b.c", "a-b_c", "validate"] {
        let mut client = server.connect(Client::json());
        client.send(&event_acked(name, "x", 1));
        client.expect_ack(1);
    }
    for call in handler.calls() {
        let event = call.event();
        assert_eq!(call.target, format!("/in/chat/{event}?of={event}"));
        assert_eq!(call.header("Host"), Some(&*handler.addr().to_string()));
    }
    assert_eq!(metadata.connections(), 0);
}

/// A hub without a handler of its own, or one whose section another hub has, asks nobody.
#[test]
fn a_hub_that_nobody_configured_calls_nobody() {
    let handler = agreeable();
    let server = Server::with(|setup| setup.config(&handler.section(ALL)));
    for hub in ["chat_", "chatx", "other"] {
        let mut client = server.connect(Client::json().hub(hub));
        client.send(&event_acked("e", "x", 1));
        client.expect_failed_ack(1, "InternalServerError");
    }
    assert!(handler.connections() == 0 && handler.validations().is_empty());
}
