//! How an event is told: headers, body, signature (§3, §4.5).

use std::collections::BTreeMap;
use std::fs;

use ringhub_tests::{Call, Client, KEY, Server};

use super::{ALL, USER, agreeable, event_acked, server, server_of, signature};
use crate::formats::{PROTOBUF, RELIABLE, field};

/// Names in lower case and values, but for what differs from call to call, whose form is checked here.
#[track_caller]
fn headers(call: &Call) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in &call.headers {
        let known = headers.insert(name.to_ascii_lowercase(), value.clone());
        assert!(known.is_none(), "{name} twice in {call:?}");
    }
    let mut taken = |name: &str| headers.remove(name).unwrap_or_else(|| panic!("no {name} in {call:?}"));
    // 2026-11-26T20:37:51Z
    let time = taken("ce-time");
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00T00:00:00Z", "{time}");
    let request = taken("x-ms-client-request-id");
    let parts: Vec<_> = request.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{request}");
    assert!(request.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{request}");
    assert_eq!(taken("content-length"), call.body.len().to_string());
    assert!(!taken("host").is_empty());
    headers
}

fn expected(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_header_is_there_and_no_other() {
    let handler = agreeable();
    let server = server_of(&handler, ALL);
    let mut alice = server.connect(Client::json().user("alice"));
    let id = alice.id().to_owned();
    alice.send(&event_acked("Some.Event", "x", 1));
    alice.expect_ack(1);
    alice.close(1000);
    let (source, signature) = (format!("/hubs/chat/client/{id}"), signature(&[KEY], &id));
    let common = [
        ("webhook-request-origin", "127.0.0.1"),
        ("ce-specversion", "1.0"),
        ("ce-awpsversion", "1.0"),
        ("ce-source", &source),
        ("ce-signature", &signature),
        ("ce-userid", "alice"),
        ("ce-connectionid", &id),
        ("ce-hub", "chat"),
    ];
    let system = ("content-type", "application/json; charset=utf-8");
    let subprotocol = ("ce-subprotocol", "json.webpubsub.azure.v1");
    for (n, name, more) in [
        ("0", "connect", vec![("ce-type", "azure.webpubsub.sys.connect"), system]),
        ("1", "connected", vec![("ce-type", "azure.webpubsub.sys.connected"), system, subprotocol]),
        (
            "2",
            "Some.Event",
            vec![
                ("ce-type", "azure.webpubsub.user.Some.Event"),
                ("content-type", "text/plain; charset=utf-8"),
                subprotocol,
            ],
        ),
        ("3", "disconnected", vec![("ce-type", "azure.webpubsub.sys.disconnected"), system, subprotocol]),
    ] {
        let call = handler.next_of(name);
        assert_eq!((call.method.as_str(), call.version.as_str()), ("POST", "HTTP/1.1"));
        assert_eq!(call.target, format!("/eventhandler/{name}"));
        assert_eq!(call.header("host"), Some(&*handler.addr().to_string()));
        let own = [("ce-id", n), ("ce-eventname", name)];
        assert_eq!(headers(&call), expected(&[&common[..], &own, &more].concat()));
    }
    // Four events, four requests.
    let mut ids: Vec<_> =
        handler.calls().iter().map(|call| call.header("x-ms-client-request-id").map(str::to_owned)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn what_is_not_known_is_not_said() {
    let handler = agreeable();
    let server = server_of(&handler, USER);
    let mut raw = server.open(Client::raw());
    raw.send("x");
    let call = handler.next();
    let (id, source) =
        (call.connection_id().to_owned(), format!("/hubs/chat/client/{}", call.connection_id()));
    let expected = expected(&[
        ("webhook-request-origin", "127.0.0.1"),
        ("content-type", "text/plain; charset=utf-8"),
        ("ce-specversion", "1.0"),
        ("ce-awpsversion", "1.0"),
        ("ce-type", "azure.webpubsub.user.message"),
        ("ce-source", &source),
        ("ce-signature", &signature(&[KEY], &id)),
        ("ce-connectionid", &id),
        ("ce-hub", "chat"),
        ("ce-eventname", "message"),
        ("ce-id", call.header("ce-id").unwrap_or_default()),
    ]);
    assert_eq!(headers(&call), expected);
}

/// CloudEvents over HTTP §3.1.3.2: what is no printable ASCII is percent-encoded.
#[test]
fn a_user_of_any_characters_fits_a_header() {
    let handler = agreeable();
    let server = server_of(&handler, USER);
    let mut client = server.connect(Client::json().user("jürgen \u{1f600} 100%\"x\""));
    client.send(&event_acked("e", "", 1));
    client.expect_ack(1);
    let user = handler.next().header("ce-userId").unwrap().to_owned();
    assert_eq!(user, "j%C3%BCrgen%20%F0%9F%98%80%20100%25%22x%22");
    // What fits is left alone, and nothing gets out of its header.
    for (id, expected) in [("100% \"x\"", "100% \"x\""), ("a\r\nce-userId: b", "a%0D%0Ace-userId:%20b")] {
        let mut client = server.connect(Client::json().user(id));
        client.send(&event_acked("e", "", 1));
        client.expect_ack(1);
        assert_eq!(handler.next().header("ce-userId"), Some(expected));
    }
}

#[test]
fn the_origin_is_the_public_endpoint_if_there_is_one() {
    let handler = agreeable();
    let server = server(&format!(
        "[server]\npublic_endpoints = [\"https://pubsub.example.com:8443\"]\n{}",
        handler.section(ALL)
    ));
    let _alice = server.connect(Client::json());
    assert_eq!(
        handler.validations_at_least(1)[0].header("WebHook-Request-Origin"),
        Some("pubsub.example.com")
    );
    for call in handler.calls_at_least(2) {
        assert_eq!(call.header("WebHook-Request-Origin"), Some("pubsub.example.com"));
    }
}

/// Without one it is how the client calls the server, without the port.
#[test]
fn the_origin_is_the_host_that_the_client_asked_for() {
    let handler = agreeable();
    let server = server(&format!("[server]\naudience_check = false\n{}", handler.section(ALL)));
    for (host, origin) in [
        ("pubsub.example.com:8080", "pubsub.example.com"),
        ("PubSub.Example.org", "pubsub.example.org"),
        ("[::1]:80", "[::1]"),
    ] {
        let request = String::from_utf8(Client::raw().request(&server)).unwrap();
        let mut socket = server.raw();
        socket.write(request.replace(&format!("Host: {}", server.addr), &format!("Host: {host}")));
        assert_eq!(socket.read_response().status, 101);
        let call = handler.next_of("connect");
        let found = call.header("WebHook-Request-Origin").map(str::to_ascii_lowercase);
        assert_eq!(found.as_deref(), Some(origin));
        let asked = handler.validations().pop().expect("it was asked whether events are welcome");
        assert_eq!(
            asked.header("WebHook-Request-Origin").map(str::to_ascii_lowercase).as_deref(),
            Some(origin)
        );
    }
}

#[test]
fn both_keys_sign_and_a_new_one_at_once() {
    const SECOND: &str = "the-secondary-key-of-at-least-32-bytes";
    const THIRD: &str = "the-newest-key-of-at-least-thirty-two-bytes";
    let handler = agreeable();
    let keys = |primary: &str, secondary: &str| {
        format!("[keys]\nprimary = \"{primary}\"\nsecondary = \"{secondary}\"\n{}", handler.section(USER))
    };
    let server = Server::with(|setup| setup.keys_in_config().config(&keys(KEY, SECOND)));
    let mut alice = server.connect(Client::json());
    let mut signed = |ack_id: u64, keys: &[&str]| {
        alice.send(&event_acked("e", "", ack_id));
        alice.expect_ack(ack_id);
        assert_eq!(handler.next().header("ce-signature"), Some(&*signature(keys, alice.id())));
    };
    signed(1, &[KEY, SECOND]);
    fs::write(server.config(), keys(SECOND, THIRD)).unwrap();
    assert!(server.reload().contains("the configuration was reloaded"));
    signed(2, &[SECOND, THIRD]);
}

/// Every kind of client, every kind of data: type and body of the request.
#[test]
fn bodies_are_what_clients_meant() {
    const TEXT: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json; charset=utf-8";
    const BINARY: &str = "application/octet-stream";
    const ANY: &str = "application/x-protobuf";
    let handler = agreeable();
    let server = server_of(&handler, USER);

    let mut raw = server.open(Client::raw());
    for text in ["", "text", "ü\u{1f600}", "{\"a\":1}"] {
        raw.send(text);
        expect(&handler.next(), "message", TEXT, text.as_bytes());
    }
    for bytes in [&[][..], &[0, 1, 255]] {
        raw.send_binary(bytes);
        expect(&handler.next(), "message", BINARY, bytes);
    }

    // Any { type_url: "t", value: "v" }
    let any = [field(1, b"t"), field(2, b"v")].concat();
    let any_base64 = "CgF0EgF2";
    for client in [Client::json(), Client::reliable()] {
        let mut client = server.connect(client);
        for (data, content_type, body) in [
            (r#""dataType":"text","data":"ü \" \u00fc""#, TEXT, "ü \" ü".as_bytes()),
            (r#""dataType":"text","data":"""#, TEXT, b""),
            (r#""dataType":"json","data":{"b":1.0,"a":[null, 1e2]}"#, JSON, br#"{"b":1.0,"a":[null, 1e2]}"#),
            (r#""dataType":"json","data":"text""#, JSON, br#""text""#),
            (r#""data":[null]"#, JSON, b"[null]"),
            (r#""data":12345678901234567890.10"#, JSON, b"12345678901234567890.10"),
            (r#""dataType":"binary","data":"AAH/""#, BINARY, &[0, 1, 255]),
            (r#""dataType":"binary","data":"""#, BINARY, b""),
            (&format!(r#""dataType":"protobuf","data":"{any_base64}""#), ANY, &any),
        ] {
            client.send(&format!(r#"{{"type":"event","event":"e",{data}}}"#));
            expect(&handler.next(), "e", content_type, body);
        }
    }

    for name in [PROTOBUF, RELIABLE] {
        let mut client = server.open(Client::raw().subprotocols(name));
        // MessageData: text_data, binary_data, protobuf_data, json_data
        for (number, body, content_type) in [
            (1, &b"text"[..], TEXT),
            (1, b"", TEXT),
            (2, &[0, 255], BINARY),
            (2, b"", BINARY),
            (3, &any, ANY),
            (4, br#"{"a" : 1}"#, JSON),
        ] {
            client.send_binary(&field(5, &[field(1, b"e"), field(2, &field(number, body))].concat()));
            expect(&handler.next(), "e", content_type, body);
        }
    }
}

#[track_caller]
fn expect(call: &Call, event: &str, content_type: &str, body: &[u8]) {
    assert_eq!((call.event(), call.header("content-type")), (event, Some(content_type)));
    assert_eq!(call.body, body, "{call:?}");
}

#[test]
fn metadata_goes_along_in_headers() {
    let handler = agreeable();
    let server = server_of(&handler, USER);
    let mut alice = server.connect(Client::json());
    alice.send(
        r#"{"type":"event","event":"e","dataType":"text","data":"x","metadata":{"Trace-Id":"a, b","n":"1"}}"#,
    );
    // Metadata alone is an empty text.
    alice.send(r#"{"type":"event","event":"e","dataType":"text","metadata":{"only":"this"}}"#);
    let call = handler.next();
    assert_eq!(call.header("x-webpubsub-metadata-trace-id"), Some("a, b"));
    assert_eq!(call.header("x-webpubsub-metadata-n"), Some("1"));
    let call = handler.next();
    assert_eq!((call.header("x-webpubsub-metadata-only"), call.text()), (Some("this"), ""));
    assert_eq!(call.header("x-webpubsub-metadata-n"), None);

    let mut protobuf = server.open(Client::raw().subprotocols(PROTOBUF));
    let metadata = field(4, &[field(1, b"k"), field(2, b"v")].concat());
    let data = field(2, &field(1, b"x"));
    protobuf.send_binary(&field(5, &[field(1, b"e"), data, metadata].concat()));
    assert_eq!(handler.next().header("x-webpubsub-metadata-k"), Some("v"));
}

/// In that mode a raw client publishes, and says nothing to a handler.
#[test]
fn frames_to_a_group_are_no_events() {
    let handler = agreeable();
    let server = server_of(&handler, USER);
    let mut raw = server.open(Client::raw().group("g").may_all().sends_to("g"));
    raw.send("x");
    raw.expect("x");
    let mut other = server.open(Client::raw());
    other.send("y");
    assert_eq!(handler.next().text(), "y");
    assert_eq!(handler.calls().len(), 1);
}

/// The largest message a client may send, and nothing of it is lost.
#[test]
fn a_message_of_one_mebibyte_arrives_whole() {
    let handler = agreeable();
    let server = server_of(&handler, USER);
    let mut raw = server.open(Client::raw());
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    raw.send_binary(&bytes);
    assert!(handler.next().body == bytes);
}
