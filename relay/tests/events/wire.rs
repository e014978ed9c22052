//! What a handler sees (`event-handlers` §3).

use ringhub_hub::event::Reply;
use ringhub_protocol::pubsub::{DataType, Metadata};
use ringhub_relay::upstream::Upstream;

use crate::support::handler::{Handler, answer, status};
use crate::support::world::{Client, World, settings};

#[test]
fn a_user_event_is_posted_with_every_header() {
    let handler = Handler::start(|_| answer(200, "Content-Type: text/plain\r\n", "hi"));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/hook/{event}?code=1"))).unwrap();
    let client = Client::new(&upstream);
    let mut event = client.user("vote", "yes");
    event.user = Some(ringhub_protocol::name::UserId::parse("ann").unwrap());
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

#[test]
fn a_204_says_nothing_to_the_client() {
    let handler = Handler::start(|_| status(204));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Answered(None));
}
