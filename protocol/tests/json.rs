//! Requests of JSON clients against `vectors/json/*.txt`: a request on one line, what it reads as on the next.

use std::fmt::Write;

use ringhub_protocol::pubsub::{ClientMessage, Data, json};

#[test]
fn requests_of_clients() {
    check(include_str!("vectors/json/requests.txt"));
}

#[test]
fn numbers() {
    check(include_str!("vectors/json/numbers.txt"));
}

#[test]
fn strings() {
    check(include_str!("vectors/json/strings.txt"));
}

#[test]
fn what_is_refused() {
    check(include_str!("vectors/json/refused.txt"));
}

fn check(vectors: &str) {
    let lines: Vec<&str> =
        vectors.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() >= 10 && lines.len().is_multiple_of(2), "a vector is two lines");
    for pair in lines.chunks_exact(2) {
        assert_eq!(read(pair[0]), pair[1], "{}", pair[0]);
    }
}

fn read(request: &str) -> String {
    match json::parse(request) {
        Ok(ClientMessage::JoinGroup { group, ack_id }) => {
            format!("join {:?}{}", group.as_str(), ack(ack_id))
        }
        Ok(ClientMessage::LeaveGroup { group, ack_id }) => {
            format!("leave {:?}{}", group.as_str(), ack(ack_id))
        }
        Ok(ClientMessage::SendToGroup { group, ack_id, no_echo, data, .. }) => {
            let echo = if no_echo { " noEcho" } else { "" };
            format!("send {:?}{}{echo} {}", group.as_str(), ack(ack_id), payload(data))
        }
        Ok(ClientMessage::Event { event, ack_id, data, .. }) => {
            format!("event {}{} {}", event.as_str(), ack(ack_id), payload(data))
        }
        Ok(ClientMessage::SequenceAck { sequence_id }) => format!("sequence ack {sequence_id}"),
        Ok(ClientMessage::Ping) => "ping".to_owned(),
        Ok(ClientMessage::Invoke { invocation_id }) => format!("invoke {invocation_id:?}"),
        Ok(ClientMessage::CancelInvocation) => "cancel invocation".to_owned(),
        Ok(ClientMessage::Stream { stream_id }) => format!("stream {stream_id:?}"),
        Ok(ClientMessage::GroupState { ack_id }) => format!("group state{}", ack(ack_id)),
        Err(error) => format!("{} {}", error.code.get(), error.reason),
    }
}

fn ack(id: Option<u64>) -> String {
    id.map(|id| format!(" ack {id}")).unwrap_or_default()
}

/// Type, the bytes kept, and what raw clients get.
fn payload(data: Data<'_>) -> String {
    let mut text = format!("{} {}", data.data_type().name(), String::from_utf8_lossy(data.bytes()));
    if *data.plain() != *data.bytes() {
        write!(text, " = {}", data.plain().escape_ascii()).expect("a String takes everything");
    }
    text
}
