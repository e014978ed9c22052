//! Any text as a request. What is accepted can be delivered: as JSON that parses and means the same, and decoded
//! for raw clients. What is refused has a reason that fits a close frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::pubsub::{ClientMessage, Data, DataType, Form, Message, Sender, json};
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
});

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
