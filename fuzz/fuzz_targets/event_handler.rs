//! What operators, clients and handlers put into events. The first letter says what the lines after it are:
//! `t` a URL template, a hub, an event; `r` a request to connect; `e` an event's attributes and its body; `c` an answer
//! to `connect`; `u` an answer to a user event. URLs and headers are legal for the HTTP client that sends them, what is
//! written as JSON is read by another reader, and what is taken from an answer can be told to a client.
#![no_main]

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use ringhub_protocol::events::template::URL_BYTES_MAX;
use ringhub_protocol::events::{
    Attributes, ClientCertificate, ConnectRequest, SecretSource, Subject, UrlTemplate, connect_answer,
    user_answer,
};
use ringhub_protocol::pubsub::metadata::HEADER_PREFIX;
use ringhub_protocol::pubsub::{Data, DataType, Form, Message, Metadata, Sender, json};
use ringhub_protocol::uri::percent_decode;
use serde_json::Value;
use serde_json::value::RawValue;

const RAW_VALUE: &[u8] = b"$serde_json::private::RawValue";

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    let mut lines = Lines(rest);
    match kind {
        b't' => template(lines.text(), lines.text(), lines.text()),
        b'r' => request(&mut lines),
        b'e' => event(&mut lines),
        b'c' => connect(rest),
        b'u' => user(&mut lines),
        _ => {}
    }
});

/// What is left of the input.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| byte == b'\n').unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.next()).unwrap_or_default()
    }
}

fn template(text: &str, hub: &str, event: &str) {
    let mut secret = |source: SecretSource<'_>| match source {
        SecretSource::Env(name) => Ok(format!("SECRET{name}")),
        SecretSource::File(path) => Err(format!("there is no {path}")),
    };
    match UrlTemplate::parse(text, &mut secret) {
        Ok(template) => {
            let shown = template.shown();
            assert!(!shown.contains("SECRET") || text.contains("SECRET"), "{shown}");
            let url = template.expand(hub, event);
            assert!(hub.len() > 128 || event.len() > 128 || url.len() <= URL_BYTES_MAX);
            let (nothing, host) = (template.expand("", ""), text.split(['/', '?']).nth(2).expect("a host"));
            for url in [&url, &nothing] {
                let read: Uri = url.parse().expect(url);
                assert_eq!(read.authority().map(|host| host.as_str()), Some(host), "{url}");
                assert!(matches!(read.scheme_str(), Some("http" | "https")));
            }
        }
        Err(error) => assert!(!error.0.contains("SECRET") || text.contains("SECRET"), "{error}"),
    }
}

fn request(lines: &mut Lines<'_>) {
    let (claims, query, subprotocol) = (lines.next(), lines.text(), lines.text());
    let mut headers = Vec::new();
    while !lines.0.is_empty() {
        let name = lines.text();
        headers.push((name, lines.next()));
    }
    let certificate = ClientCertificate { thumbprint: [0x5a; 20], pem: subprotocol.to_owned() };
    let body = ConnectRequest {
        claims_json: Some(claims),
        query,
        headers: &headers,
        subprotocols: &[subprotocol],
        certificates: &[certificate],
    }
    .body();
    serde_json::from_slice::<&RawValue>(&body).expect("a body is JSON");
    // A `Value` takes an object for something else whose first name is the one it keeps for raw values.
    if body.windows(RAW_VALUE.len()).any(|name| name == RAW_VALUE) {
        return;
    }
    let read: Value = serde_json::from_slice(&body).expect("a body is a value");
    assert_eq!(read["subprotocols"][0], subprotocol);
    assert_eq!(read["clientCertificates"][0]["content"], subprotocol);
    for (map, secret) in [("claims", "-"), ("query", "access_token"), ("headers", "authorization")] {
        for (name, list) in read[map].as_object().expect("a map") {
            assert!(!name.eq_ignore_ascii_case(secret) || map == "claims", "{name}");
            assert!(list.as_array().expect("a list").iter().all(Value::is_string));
        }
    }
    if let Ok(claims) = serde_json::from_slice::<serde_json::Map<String, Value>>(claims) {
        assert_eq!(read["claims"].as_object().expect("a map").len(), claims.len());
    }
    let values: usize = read["headers"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
        .fold(0, |sum, list| sum + list.as_array().expect("a list").len());
    let kept = headers.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name != "authorization" && !name.starts_with("x-asrs-internal-")
    });
    assert_eq!(values, kept.count());
}

fn event(lines: &mut Lines<'_>) {
    let (what, connection_id, name, user, state) =
        (lines.next(), lines.text(), lines.text(), lines.text(), lines.text());
    let metadata = Metadata::from_json(lines.text()).ok().flatten();
    let body = lines.0;
    let digit = |at: usize| usize::from(what.get(at).copied().unwrap_or_default());
    let data_type = [DataType::Text, DataType::Json, DataType::Binary, DataType::Protobuf][digit(0) % 4];
    let subject = match digit(1) % 4 {
        0 => Subject::Connect,
        1 => Subject::Disconnected,
        2 => Subject::User(name),
        _ => Subject::Left(name),
    };
    let time_unix = what.iter().fold(0, |time: u64, &byte| time.wrapping_mul(257).wrapping_add(byte.into()));
    let attributes = Attributes {
        hub: "chat",
        connection_id,
        user: Some(user),
        subprotocol: Some(name),
        subject,
        id: time_unix / 7,
        time_unix,
        state: Some(state),
        data_type,
        metadata: metadata.as_ref(),
    };
    let mut seen = 0;
    attributes.headers(&mut |name, value| {
        HeaderName::from_static(name);
        arrives(value);
        let meant = match name {
            "ce-userid" => user,
            "ce-connectionstate" => state,
            _ => return,
        };
        assert!(value == meant || percent_decode(value).as_deref() == Some(meant), "{value}");
        seen += 1;
    });
    assert_eq!(seen, usize::from(!user.is_empty()) + usize::from(!state.is_empty()));
    attributes.metadata_headers(&mut |name, value| {
        assert_eq!(HeaderName::from_bytes(name.as_bytes()).expect(name).as_str(), name);
        arrives(value);
    });

    let is_its_type = match data_type {
        DataType::Text => std::str::from_utf8(body).is_ok(),
        DataType::Json => std::str::from_utf8(body).is_ok_and(|body| Data::json(body).is_ok()),
        DataType::Binary | DataType::Protobuf => true,
    };
    if !is_its_type {
        return;
    }
    let mut line = Vec::new();
    attributes.write_json(&mut line, body);
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
    let line = std::str::from_utf8(&line).expect("JSON is UTF-8");
    serde_json::from_str::<&RawValue>(line).expect("what is written is JSON");
    // JSON with half a surrogate pair is JSON, and no `Value`.
    if let Ok(read) = serde_json::from_str::<Value>(line) {
        assert_eq!(read["userid"].as_str().unwrap_or_default(), user);
        assert_eq!(read["source"], format!("/hubs/chat/client/{connection_id}"));
        match data_type {
            DataType::Text => assert_eq!(read["data"].as_str().map(str::as_bytes), Some(body)),
            DataType::Json => assert_eq!(Some(&read["data"]), serde_json::from_slice(body).ok().as_ref()),
            DataType::Binary | DataType::Protobuf => {
                let token = read["data_base64"].to_string();
                assert_eq!(&*Data::from_json_token(DataType::Binary, &token).expect("base64").plain(), body);
            }
        }
    }
}

/// A value of a header is legal, and nothing is trimmed from it on its way.
fn arrives(value: &str) {
    HeaderValue::from_str(value).expect(value);
    assert!(value.is_ascii() && value.trim_ascii() == value, "{value:?}");
}

fn connect(body: &[u8]) {
    let Ok(acceptance) = connect_answer(body) else { return };
    // A second reader takes names that repeat and knows one spelling; values it does not like are passed over.
    let Ok(read) = serde_json::from_slice::<Value>(body) else { return };
    let Some(read) = read.as_object() else { return };
    let property =
        |name: &str| read.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let user = acceptance.user.map(|user| user.map_or(String::new(), |user| user.as_str().to_owned()));
    assert_eq!(user.as_deref(), property("userId").and_then(Value::as_str));
    let list = |name: &str| property(name).and_then(Value::as_array).map(Vec::len);
    assert_eq!(acceptance.groups.len(), list("groups").unwrap_or_default());
    assert_eq!(acceptance.roles.map(|roles| roles.len()), list("roles"));
    let subprotocol = property("subprotocol").and_then(Value::as_str).filter(|name| !name.is_empty());
    assert_eq!(acceptance.subprotocol.as_deref(), subprotocol);
}

fn user(lines: &mut Lines<'_>) {
    let content_type = lines.text();
    let mut headers = Vec::new();
    loop {
        let line = lines.text();
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((format!("{HEADER_PREFIX}{name}"), value.as_bytes()));
    }
    let body = lines.0;
    let content_type = (content_type != "-").then_some(content_type);
    let headers = headers.iter().map(|(name, value)| (name.as_str(), *value));
    let Ok(Some(message)) = user_answer(content_type, Bytes::copy_from_slice(body), headers) else {
        return;
    };
    assert!(message.bytes == body || message.bytes.is_empty());
    assert!(!message.bytes.is_empty() || message.metadata.is_some());
    let data = Data::from_parts(message.data_type, Form::Plain, &message.bytes);
    let mut told = Vec::new();
    json::open_message(
        &mut told,
        Message { sender: Sender::Server, data, metadata: message.metadata.as_ref() },
    );
    told.push(b'}');
    serde_json::from_slice::<&RawValue>(&told).expect("what is told is JSON");
}
