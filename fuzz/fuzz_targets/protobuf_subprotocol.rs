//! Any bytes as a request. What is accepted means what prost reads in it, and can be delivered: as protobuf that
//! prost reads back, and as JSON. What is refused has a reason that fits a close frame. And any text can be said to a
//! client: as a name, an id, a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use ringhub_protocol::pubsub::{
    AckError, ClientMessage, Data, DataType, Message, Metadata, Sender, json, protobuf,
};
use schema::{Downstream, Entry, MessageData, Pair, Payload, Response, System, SystemEvent, Upstream};

#[path = "../../protocol/tests/schema/mod.rs"]
mod schema;

fuzz_target!(|bytes: &[u8]| {
    let read = protobuf::parse(bytes);
    // prost takes groups, but no field of another wire type.
    let second = Upstream::decode(bytes);
    match read {
        Ok(message) => {
            if let Ok(request) = &second {
                let request = request.message.as_ref().expect("a request");
                assert_eq!(Some(&message), schema::meaning(request).as_ref());
            }
            match &message {
                ClientMessage::SendToGroup { group, data, metadata, .. } => {
                    let sender = Sender::Group { group: group.as_str(), user: None };
                    check_delivery(sender, *data, metadata.as_ref());
                }
                ClientMessage::Event { data, metadata, .. } => {
                    check_delivery(Sender::Server, *data, metadata.as_ref());
                }
                ClientMessage::Invoke { invocation_id, data, metadata, .. } => {
                    check_delivery(Sender::Server, *data, metadata.as_ref());
                    check_response(invocation_id, *data, metadata.as_ref());
                }
                _ => {}
            }
        }
        Err(error) => {
            assert_eq!(error.code.get(), 1007);
            assert!(error.reason.len() <= 123, "{}", error.reason);
            if error.reason.contains("not valid protobuf") || error.reason.contains("UTF-8") {
                assert!(second.is_err(), "{}", error.reason);
            }
        }
    }
    // As a JSON client's bytes that it calls protobuf.
    check_delivery(Sender::Server, Data::protobuf(bytes), None);
    check_said(&String::from_utf8_lossy(bytes));
});

/// Whatever a name, an id or a reason has in it, prost sees it where it belongs.
fn check_said(text: &str) {
    let said = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        Downstream::decode(&*out).expect("what is written is protobuf").message
    };
    let failure =
        |pair: Option<Pair>| pair.is_some_and(|pair| pair.first == "Forbidden" && pair.second == text);
    for optional in [Some(text), None] {
        match said(&|out| protobuf::connected(out, optional, text, optional)) {
            Some(Response::System(System { message: Some(SystemEvent::Connected(connected)) })) => {
                assert_eq!(connected.connection_id, text);
                assert_eq!(connected.user_id, optional.unwrap_or_default());
                assert_eq!(connected.reconnection_token.as_deref(), optional);
            }
            other => panic!("{other:?}"),
        }
    }
    match said(&|out| protobuf::disconnected(out, text)) {
        Some(Response::System(System { message: Some(SystemEvent::Disconnected(disconnected)) })) => {
            assert_eq!(disconnected.reason, text);
        }
        other => panic!("{other:?}"),
    }
    let ack_id = text.bytes().fold(0, |id: u64, byte| id.rotate_left(8) ^ u64::from(byte));
    for error in [None, Some((AckError::Forbidden, text))] {
        match said(&|out| protobuf::ack(out, ack_id, error.map_or(Ok(()), Err))) {
            Some(Response::Ack(ack)) => {
                assert_eq!((ack.ack_id, ack.success), (ack_id, error.is_none()));
                assert_eq!(failure(ack.error), error.is_some());
            }
            other => panic!("{other:?}"),
        }
    }
    match said(&|out| protobuf::invoke_refused(out, text, AckError::Forbidden, text)) {
        Some(Response::Invoke(refused)) => {
            assert!(refused.invocation_id == text && !refused.success && failure(refused.error));
        }
        other => panic!("{other:?}"),
    }
    match said(&|out| protobuf::stream_closed(out, text, "Forbidden", text)) {
        Some(Response::StreamClosed(closed)) => {
            assert!(closed.stream_id == text && failure(closed.error));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(said(&|out| protobuf::pong(out)), Some(Response::Pong(_))));
}

/// A handler that says what it was told.
fn check_response(invocation_id: &str, data: Data<'_>, metadata: Option<&Metadata>) {
    let mut frame = Vec::new();
    protobuf::invoke_response(&mut frame, invocation_id, Some(data), metadata);
    let read = Downstream::decode(&*frame).expect("what is written is protobuf");
    let Some(Response::Invoke(read)) = read.message else { panic!("no invoke response") };
    assert_eq!((&*read.invocation_id, read.success, read.error), (invocation_id, true, None));
    assert!(read.data.is_some_and(|data| data.data.is_some()));
    assert_eq!(read.metadata.len(), metadata.into_iter().flat_map(Metadata::iter).count());
}

fn check_delivery(sender: Sender<'_>, data: Data<'_>, metadata: Option<&Metadata>) {
    let message = Message { sender, data, metadata };
    let (mut body, mut frame) = (Vec::new(), Vec::new());
    protobuf::data_body(&mut body, message);
    protobuf::data_message(&mut frame, &body, Some(300));
    assert_eq!(frame.len(), protobuf::data_message_len(body.len(), Some(300)));
    let read = Downstream::decode(&*frame).expect("what is written is protobuf");
    let Some(Response::Data(read)) = read.message else { panic!("no data message") };
    let (from, group) = match sender {
        Sender::Server => ("server", None),
        Sender::Group { group, .. } => ("group", Some(group.to_owned())),
    };
    let entry = |(key, value): (&str, &str)| Entry { key: key.to_owned(), value: value.to_owned() };
    assert_eq!(read.from, from);
    assert_eq!(read.group, group);
    assert_eq!(read.sequence_id, Some(300));
    assert_eq!(read.metadata, metadata.into_iter().flat_map(Metadata::iter).map(entry).collect::<Vec<_>>());
    let Some(MessageData { data: Some(payload) }) = read.data else { panic!("no payload") };
    let (data_type, bytes) = match &payload {
        Payload::Text(text) => (DataType::Text, text.as_bytes()),
        Payload::Json(text) => (DataType::Json, text.as_bytes()),
        Payload::Binary(bytes) => (DataType::Binary, &**bytes),
        Payload::Any(bytes) => {
            schema::Any::decode(&**bytes).expect("receivers can read an Any");
            (DataType::Protobuf, &**bytes)
        }
    };
    assert_eq!(bytes, data.bytes());
    assert!(
        data_type == data.data_type()
            || (data_type, data.data_type()) == (DataType::Binary, DataType::Protobuf)
    );

    let mut text = Vec::new();
    json::open_message(&mut text, message);
    text.push(b'}');
    serde_json::from_slice::<&serde_json::value::RawValue>(&text).expect("what is written is JSON");
}
