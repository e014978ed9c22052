//! The protobuf subprotocols against bytes in `vectors/protobuf/*.txt` and against prost, which decodes and encodes
//! the same schema in its own way (`schema/mod.rs`).

mod common;
mod schema;

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message as _;
use ringhub_protocol::pubsub::metadata::TOTAL_BYTES_MAX;
use ringhub_protocol::pubsub::{AckError, Data, DataType, Form, Message, Metadata, Sender, protobuf};
use schema::{Downstream, Entry, MessageData, Pair, Payload, Request, Response, SystemEvent, Upstream};

#[test]
fn requests_of_clients() {
    let vectors = include_str!("vectors/protobuf/requests.txt");
    for (request, expected) in common::pairs(vectors) {
        let bytes = bytes(request);
        assert_eq!(common::describe(protobuf::parse(&bytes)), expected, "{request}");
        // prost takes no field of another wire type.
        if let Ok(message) = Upstream::decode(&*bytes) {
            let message = message.message.expect(request);
            assert_eq!(schema::meaning(&message), protobuf::parse(&bytes).ok(), "{request}");
        }
    }
}

#[test]
fn what_is_refused() {
    let vectors = include_str!("vectors/protobuf/refused.txt");
    for (request, expected) in common::pairs(vectors) {
        assert_eq!(common::describe(protobuf::parse(&bytes(request))), expected, "{request}");
    }
    let nothing = "1007 A message must be an UpstreamMessage with one of its known requests.";
    assert_eq!(common::describe(protobuf::parse(b"")), nothing);
}

#[test]
fn responses_to_clients() {
    let mut vectors: BTreeMap<&str, &str> =
        common::pairs(include_str!("vectors/protobuf/responses.txt")).into_iter().collect();
    for (name, written) in responses() {
        let expected = vectors.remove(name).expect(name);
        assert_eq!(written.escape_ascii().to_string(), bytes(expected).escape_ascii().to_string(), "{name}");
        assert!(Downstream::decode(&*written).expect(name).message.is_some(), "{name}");
    }
    assert!(vectors.is_empty(), "vectors without a writer: {vectors:?}");
}

fn responses() -> Vec<(&'static str, Vec<u8>)> {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let group = Sender::Group { group: "g1", user: Some("nobody sees it") };
    let token = |data_type, token| Data::from_json_token(data_type, token).unwrap();
    let any = b"\x0a\x2ftype.googleapis.com/azure.webpubsub.TestMessage\x12\x02\x08\x01";
    let metadata = Metadata::new([("k2", "v"), ("k1", "")]).unwrap();
    let with_metadata = Message { sender: group, data: Data::text("hi"), metadata: metadata.as_ref() };
    vec![
        ("ack", written(&|out| protobuf::ack(out, 1, Ok(())))),
        ("ack of the largest id", written(&|out| protobuf::ack(out, u64::MAX, Ok(())))),
        ("refused ack", written(&|out| protobuf::ack(out, 3, Err((AckError::Forbidden, "text"))))),
        ("connected", written(&|out| protobuf::connected(out, Some("u1"), "c1", None))),
        ("connected, anonymous", written(&|out| protobuf::connected(out, None, "c1", None))),
        ("connected, reliable", written(&|out| protobuf::connected(out, Some("u1"), "c1", Some("opaque")))),
        ("disconnected", written(&|out| protobuf::disconnected(out, "reason"))),
        ("pong", written(&protobuf::pong)),
        (
            "invocation refused",
            written(&|out| protobuf::invoke_refused(out, "1", AckError::NotFound, "text")),
        ),
        ("invocation answered", written(&|out| protobuf::invoke_response(out, "1", None, None))),
        (
            "invocation answered, json",
            written(&|out| protobuf::invoke_response(out, "1", Some(Data::json("[1.0]").unwrap()), None)),
        ),
        (
            "invocation answered, no Any",
            written(&|out| protobuf::invoke_response(out, "1", Some(Data::protobuf(b"\x0a\x2f")), None)),
        ),
        (
            "invocation answered, metadata",
            written(&|out| {
                protobuf::invoke_response(out, "1", Some(Data::text("")), metadata.as_ref());
            }),
        ),
        ("stream closed", written(&|out| protobuf::stream_closed(out, "s-1", "BadRequest", "text"))),
        ("server text", framed(Message::new(Sender::Server, Data::text("hi")), None)),
        ("server text, reliable", framed(Message::new(Sender::Server, Data::text("hi")), Some(7))),
        ("group json", framed(Message::new(group, Data::json("[1.0]").unwrap()), None)),
        ("group binary", framed(Message::new(group, Data::binary(b"\x01\x02\xff")), None)),
        ("group protobuf", framed(Message::new(group, Data::protobuf(any)), None)),
        ("group text token", framed(Message::new(group, token(DataType::Text, r#""a\nb""#)), None)),
        ("group binary token", framed(Message::new(group, token(DataType::Binary, r#""AQL\/""#)), None)),
        ("group protobuf token", framed(Message::new(group, token(DataType::Protobuf, r#""CgF0""#)), None)),
        (
            "group protobuf token that is no Any",
            framed(Message::new(group, token(DataType::Protobuf, r#""Ci8=""#)), None),
        ),
        ("group empty text", framed(Message::new(group, Data::text("")), None)),
        ("group empty binary", framed(Message::new(group, token(DataType::Binary, "\"\"")), None)),
        ("group empty protobuf", framed(Message::new(group, Data::protobuf(b"")), None)),
        ("group metadata, reliable", framed(with_metadata, Some(300))),
    ]
}

/// A data message as it is sent.
fn framed(message: Message<'_>, sequence_id: Option<u64>) -> Vec<u8> {
    let (mut body, mut frame) = (Vec::new(), Vec::new());
    protobuf::data_body(&mut body, message);
    protobuf::data_message(&mut frame, &body, sequence_id);
    assert_eq!(frame.len(), protobuf::data_message_len(body.len(), sequence_id));
    frame
}

/// The bytes of a vector: hex, and text in quotes.
fn bytes(vector: &str) -> Vec<u8> {
    let part = |part: &str| match part.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) => text.as_bytes().to_vec(),
        None => vec![u8::from_str_radix(part, 16).expect(part)],
    };
    vector.split(' ').flat_map(part).collect()
}

#[test]
fn nesting_costs_no_stack() {
    // Messages in messages, as deep as a megabyte holds, where the schema has a leaf and where it has messages.
    for tag in [0x0a, 0x12, 0x1a, 0x2a] {
        let mut message = Vec::new();
        let mut nested = Vec::new();
        for _ in 0..200_000 {
            nested.extend([tag, 0xff, 0xff, 0x3f]);
        }
        message.extend([0x0a, 0x80, 0xea, 0x30]);
        message.extend(&nested);
        assert!(protobuf::parse(&message).is_err());
    }
    let groups = vec![0x0b; 1 << 20];
    assert_eq!(protobuf::parse(&groups).unwrap_err().reason, "Protobuf groups are not supported.");
}

/// Entries are kept until all are there: as many as there may be bytes of metadata, for each has a name.
#[test]
fn metadata_that_is_not_checked_yet_has_a_bound() {
    // So many empty entries, and behind them what is no field.
    let reason = |entries: usize| {
        let body = [&b"\x0a\x01g"[..], &b"\x32\x00".repeat(entries), b"\x37"].concat();
        let mut message = vec![0x0a];
        prost::encoding::encode_varint(body.len() as u64, &mut message);
        message.extend(body);
        protobuf::parse(&message).unwrap_err().reason
    };
    assert!(!reason(TOTAL_BYTES_MAX).starts_with("'metadata' must be"), "that is still read");
    assert!(reason(TOTAL_BYTES_MAX + 1).starts_with("'metadata' must be"), "that is not");
}

fn pair(first: &str, second: &str) -> Pair {
    Pair { first: first.to_owned(), second: second.to_owned() }
}

fn encoded(request: &Request) -> Vec<u8> {
    Upstream { message: Some(request.clone()) }.encode_to_vec()
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    ("[a-z./]{0,20}", proptest::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(type_url, value)| schema::Any { type_url, value }.encode_to_vec())
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        any::<String>().prop_map(Payload::Text),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Payload::Binary),
        any_message().prop_map(Payload::Any),
        prop_oneof![r#"[\[{"a:1,}\]]{0,4}"#, r#"\{"[a-z]{0,3}": ?[0-9]{1,3}\}|null|"[a-z]*""#]
            .prop_map(Payload::Json),
    ]
}

fn data() -> impl Strategy<Value = Option<MessageData>> {
    proptest::option::weighted(
        0.9,
        proptest::option::weighted(0.9, payload()).prop_map(|data| MessageData { data }),
    )
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = ("[a-zA-Z!#]{0,3}|[a-z ]{2}", "[ -~]{0,5}|ä").prop_map(|(key, value)| Entry { key, value });
    proptest::collection::vec(entry, 0..4)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-zA-Z][a-zA-Z0-9_.-]{0,20}", 1 => any::<String>(), 1 => Just(String::new())]
}

fn stream() -> impl Strategy<Value = Option<schema::StreamStart>> {
    let start = (name(), any::<Option<u32>>())
        .prop_map(|(stream_id, idle_timeout_ms)| schema::StreamStart { stream_id, idle_timeout_ms });
    proptest::option::weighted(0.1, start)
}

fn request() -> impl Strategy<Value = Request> {
    let ack_id = any::<Option<u64>>;
    let of_group =
        || (name(), ack_id()).prop_map(|(group, ack_id)| schema::OfGroup { group, ack_id }).boxed();
    prop_oneof![
        4 => (name(), ack_id(), data(), any::<Option<bool>>(), proptest::option::of(0..310_u32), entries(), stream())
            .prop_map(|(group, ack_id, data, no_echo, ttl_seconds, metadata, stream)| {
                Request::SendToGroup(schema::SendToGroup {
                    group, ack_id, data, no_echo, ttl_seconds, metadata, stream,
                })
            }),
        4 => (name(), data(), ack_id(), entries(), stream())
            .prop_map(|(event, data, ack_id, metadata, stream)| {
                Request::Event(schema::Event { event, data, ack_id, metadata, stream })
            }),
        1 => of_group().prop_map(Request::JoinGroup),
        1 => of_group().prop_map(Request::LeaveGroup),
        1 => any::<u64>()
            .prop_map(|sequence_id| Request::SequenceAck(schema::SequenceAck { sequence_id })),
        1 => Just(Request::Ping(schema::Empty {})),
        1 => (name(), name(), data(), entries(), stream())
            .prop_map(|(event, invocation_id, data, metadata, stream)| {
                Request::Invoke(schema::Invoke { event, invocation_id, data, metadata, stream })
            }),
        1 => name().prop_map(|invocation_id| {
            Request::CancelInvocation(schema::CancelInvocation { invocation_id })
        }),
        1 => (name(), any::<Option<u64>>(), data()).prop_map(|(stream_id, stream_sequence_id, data)| {
            Request::StreamData(schema::StreamData { stream_id, stream_sequence_id, data })
        }),
        1 => (name(), any::<Option<String>>()).prop_map(|(stream_id, error)| {
            let error = error.map(|message| pair(&message, ""));
            Request::StreamEnd(schema::StreamEnd { stream_id, error })
        }),
        1 => (name(), ack_id(), entries()).prop_map(|(group, ack_id, entries)| {
            let state = Some(schema::GroupState { entries });
            Request::SetGroupState(schema::SetGroupState { group, ack_id, state })
        }),
        1 => of_group().prop_map(Request::SubscribeGroupState),
        1 => of_group().prop_map(Request::UnsubscribeGroupState),
    ]
}

/// What prost decodes from a data message, as our types' payload would be.
fn decoded(frame: &[u8]) -> schema::DataMessage {
    let message = Downstream::decode(frame).expect("what is written is protobuf");
    let Some(Response::Data(data)) = message.message else { panic!("no data message: {message:?}") };
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What prost encodes reads as it means, or is refused when it breaks a rule.
    #[test]
    fn requests_read_as_prost_wrote_them(request in request()) {
        let bytes = encoded(&request);
        let read = protobuf::parse(&bytes);
        if let Err(error) = &read {
            prop_assert!(!error.reason.contains("valid protobuf"), "{}", error.reason);
            prop_assert!(error.reason.len() <= 123);
        }
        prop_assert_eq!(read.ok(), schema::meaning(&request));
    }

    /// Two encoded messages in a row are one merged message, to prost as to us.
    #[test]
    fn requests_in_a_row_merge_as_prost_merges_them(first in request(), second in request()) {
        let bytes = [encoded(&first), encoded(&second)].concat();
        let merged = Upstream::decode(&*bytes).expect("both are protobuf").message.expect("a request");
        match protobuf::parse(&bytes) {
            // Any is bytes in our schema for prost: it takes the last.
            Err(error) if error.reason.contains("'protobuf_data'") => {}
            read => prop_assert_eq!(read.ok(), schema::meaning(&merged)),
        }
    }

    /// A request that is cut off, or has a byte changed, never panics; and what is then not protobuf is not to
    /// prost either.
    #[test]
    fn damaged_requests_are_no_protobuf_to_prost_either(
        request in request(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let mut bytes = encoded(&request);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Err(error) = protobuf::parse(&bytes) {
            let broken = error.reason.contains("not valid protobuf") || error.reason.contains("UTF-8");
            prop_assert!(!broken || Upstream::decode(&*bytes).is_err(), "{}", error.reason);
        }
    }

    /// Every payload of every form reads back through prost.
    #[test]
    fn data_messages_read_back(
        payload in payload(),
        token in any::<bool>(),
        group in proptest::option::of("[a-zä]{1,200}"),
        sequence_id in any::<Option<u64>>(),
        entries in entries(),
    ) {
        let mut json = Vec::new();
        let data = match &payload {
            Payload::Text(text) => Data::text(text),
            Payload::Json(text) => match Data::json(text) {
                Ok(data) => data,
                Err(_) => return Ok(()),
            },
            Payload::Binary(bytes) => Data::binary(bytes),
            Payload::Any(bytes) => Data::protobuf(bytes),
        };
        // As it comes from a JSON client.
        let data = if token && data.data_type() != DataType::Json {
            ringhub_protocol::pubsub::json::open_message(&mut json, Message::new(Sender::Server, data));
            let start = json.windows(8).position(|part| part == b",\"data\":").expect("data") + 8;
            Data::from_parts(data.data_type(), Form::Token, &json[start..])
        } else {
            data
        };
        let metadata = Metadata::new(entries.iter().map(|entry| (&*entry.key, &*entry.value))).ok().flatten();
        let sender = match &group {
            Some(group) => Sender::Group { group, user: None },
            None => Sender::Server,
        };
        let frame = framed(Message { sender, data, metadata: metadata.as_ref() }, sequence_id);
        let expected = schema::DataMessage {
            from: if group.is_some() { "group" } else { "server" }.to_owned(),
            group,
            data: Some(MessageData { data: Some(payload) }),
            sequence_id,
            metadata: if metadata.is_some() { entries } else { Vec::new() },
        };
        prop_assert_eq!(decoded(&frame), expected);
    }

    /// Any bytes that a JSON client calls protobuf reach protobuf clients as something they can read.
    #[test]
    fn no_payload_breaks_a_receiver(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
        let frame = framed(Message::new(Sender::Server, Data::protobuf(&bytes)), None);
        match decoded(&frame).data.and_then(|data| data.data) {
            Some(Payload::Any(same)) => {
                prop_assert_eq!(&same, &bytes);
                prop_assert!(schema::Any::decode(&*bytes).is_ok());
            }
            Some(Payload::Binary(same)) => prop_assert_eq!(same, bytes),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn system_messages_and_acks_read_back(
        id in any::<u64>(), first in any::<String>(), second in any::<String>(), third in any::<Option<String>>()
    ) {
        let read = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            Downstream::decode(&*out).expect("protobuf").message.expect("a message")
        };
        let error = Some(pair("Duplicate", &first));
        prop_assert_eq!(
            read(&|out| protobuf::ack(out, id, Err((AckError::Duplicate, &first)))),
            Response::Ack(schema::Ack { ack_id: id, success: false, error: error.clone() })
        );
        prop_assert_eq!(
            read(&|out| protobuf::ack(out, id, Ok(()))),
            Response::Ack(schema::Ack { ack_id: id, success: true, error: None })
        );
        let connected = schema::Connected {
            connection_id: first.clone(),
            user_id: second.clone(),
            reconnection_token: third.clone(),
        };
        prop_assert_eq!(
            read(&|out| protobuf::connected(out, Some(&second), &first, third.as_deref())),
            Response::System(schema::System { message: Some(SystemEvent::Connected(connected)) })
        );
        let disconnected = schema::Disconnected { reason: first.clone() };
        prop_assert_eq!(
            read(&|out| protobuf::disconnected(out, &first)),
            Response::System(schema::System { message: Some(SystemEvent::Disconnected(disconnected)) })
        );
        prop_assert_eq!(
            read(&|out| protobuf::invoke_refused(out, &second, AckError::Duplicate, &first)),
            Response::Invoke(schema::InvokeResponse {
                invocation_id: second.clone(),
                success: false,
                data: None,
                error,
                metadata: Vec::new(),
            })
        );
        let data = third.as_deref().map(Data::text);
        let metadata = Metadata::new([("k", "v")]).unwrap().filter(|_| id % 2 == 0);
        prop_assert_eq!(
            read(&|out| protobuf::invoke_response(out, &second, data, metadata.as_ref())),
            Response::Invoke(schema::InvokeResponse {
                invocation_id: second.clone(),
                success: true,
                data: third.map(|text| MessageData { data: Some(Payload::Text(text)) }),
                error: None,
                metadata: metadata.iter().map(|_| Entry { key: "k".to_owned(), value: "v".to_owned() }).collect(),
            })
        );
        prop_assert_eq!(
            read(&|out| protobuf::stream_closed(out, &second, "Name", &first)),
            Response::StreamClosed(schema::StreamClosed {
                stream_id: second.clone(),
                error: Some(pair("Name", &first)),
            })
        );
    }
}
