//! Any text as a request. What is accepted can be delivered: as JSON that parses and means the same, and decoded
//! for raw clients. What is refused has a reason that fits a close frame. And any text can be said to a client: as a
//! name, an id, a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::pubsub::{AckError, ClientMessage, Data, DataType, Form, Message, Sender, json};
use serde_json::Value;

fuzz_target!(|text: &str| {
    match json::parse(text) {
        Ok(message) => {
            let request: Value = serde_json::from_str(text).unwrap_or(Value::Null);
            match message {
                ClientMessage::SendToGroup { group, ack_id, data, .. } => {
                    check_ack_id(&request, ack_id);
                    check_delivery(Sender::Group { group: group.as_str(), user: None }, data);
                }
                ClientMessage::Event { ack_id, data, .. } => {
                    check_ack_id(&request, ack_id);
                    check_delivery(Sender::Server, data);
                }
                ClientMessage::Invoke { invocation_id, event, data, .. } => {
                    if request.is_object() {
                        assert_eq!(request["invocationId"].as_str(), Some(&*invocation_id));
                    }
                    if event.is_some() {
                        check_delivery(Sender::Server, data);
                    }
                    check_response(&invocation_id, data);
                }
                ClientMessage::CancelInvocation { invocation_id } if request.is_object() => {
                    assert_eq!(request["invocationId"].as_str(), Some(&*invocation_id));
                }
                ClientMessage::JoinGroup { ack_id, .. }
                | ClientMessage::LeaveGroup { ack_id, .. }
                | ClientMessage::GroupState { ack_id } => check_ack_id(&request, ack_id),
                _ => {}
            }
        }
        Err(error) => {
            assert_eq!(error.code.get(), 1007);
            assert!(error.reason.len() <= 123, "{}", error.reason);
        }
    }
    check_said(text);
});

/// Whatever a name, an id or a reason has in it, a reader of JSON sees it where it belongs.
fn check_said(text: &str) {
    let said = |write: &dyn Fn(&mut Vec<u8>)| -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).expect("what is written is JSON")
    };
    let failure = serde_json::json!({ "name": "Forbidden", "message": text });
    let connected = said(&|out| json::connected(out, Some(text), text, Some(text)));
    assert!(["userId", "connectionId", "reconnectionToken"].iter().all(|key| connected[key] == text));
    let connected = said(&|out| json::connected(out, None, text, None));
    assert!(connected["userId"].is_null() && connected.get("reconnectionToken").is_none());
    assert_eq!(said(&|out| json::disconnected(out, text))["message"], text);
    let ack_id = text.bytes().fold(0, |id: u64, byte| id.rotate_left(8) ^ u64::from(byte));
    let taken = said(&|out| json::ack(out, ack_id, Ok(())));
    assert!(taken["ackId"] == ack_id && taken["success"] == true && taken.get("error").is_none());
    let refused = said(&|out| json::ack(out, ack_id, Err((AckError::Forbidden, text))));
    assert!(refused["ackId"] == ack_id && refused["success"] == false && refused["error"] == failure);
    let refused = said(&|out| json::invoke_refused(out, text, AckError::Forbidden, text));
    assert!(refused["invocationId"] == text && refused["success"] == false && refused["error"] == failure);
    let closed = said(&|out| json::stream_closed(out, text, "Forbidden", text));
    assert!(closed["streamId"] == text && closed["error"] == failure);
    assert_eq!(said(&|out| json::pong(out))["type"], "pong");
}

/// An ack must never go to another id than the one an ordinary JSON reader sees.
fn check_ack_id(request: &Value, ack_id: Option<u64>) {
    // A request with lone surrogates in JSON data is one that only the raw reader takes.
    if request.is_object() {
        assert_eq!(request["ackId"].as_u64(), ack_id);
    }
}

/// A handler that says what it was told.
fn check_response(invocation_id: &str, data: Data<'_>) {
    for data in [Some(data), None] {
        let mut out = Vec::new();
        json::invoke_response(&mut out, invocation_id, data);
        serde_json::from_slice::<&serde_json::value::RawValue>(&out).expect("what is written is JSON");
        if let Ok(response) = serde_json::from_slice::<Value>(&out) {
            assert_eq!(
                (&response["invocationId"], &response["success"]),
                (&invocation_id.into(), &true.into())
            );
            assert_eq!(response.get("data").is_some(), data.is_some());
        }
    }
}

fn check_delivery(sender: Sender<'_>, data: Data<'_>) {
    let mut out = Vec::new();
    json::open_message(&mut out, Message::new(sender, data));
    json::sequence_id(&mut out, 7);
    let out = std::str::from_utf8(&out).expect("JSON is UTF-8");
    serde_json::from_str::<&serde_json::value::RawValue>(out).expect("what is written is JSON");
    if let Ok(message) = serde_json::from_str::<Value>(out) {
        assert_eq!(message["sequenceId"], 7);
        if data.data_type() == DataType::Text {
            assert_eq!(message["data"].as_str().map(str::as_bytes), Some(&*data.plain()));
        }
    }
    let plain = data.plain();
    match data.data_type() {
        DataType::Text | DataType::Json => assert!(std::str::from_utf8(&plain).is_ok()),
        DataType::Binary | DataType::Protobuf => {
            // Encoding the bytes again gives the same message up to escapes.
            let again = Data::from_parts(data.data_type(), Form::Plain, &plain);
            let mut reencoded = Vec::new();
            json::open_message(&mut reencoded, Message::new(sender, again));
            reencoded.push(b'}');
            let reencoded: Value = serde_json::from_slice(&reencoded).expect("what is written is JSON");
            let original: Value = serde_json::from_str(out).expect("what is written is JSON");
            assert_eq!(reencoded["data"], original["data"]);
        }
    }
}
