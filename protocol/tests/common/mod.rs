//! What the tests of both subprotocols share: vectors in text files, and requests as one line of text.

use std::fmt::Write;

use ringhub_protocol::pubsub::{ClientMessage, Data, Metadata, ProtocolError};

/// The vectors of a file: two lines each; empty lines and comments do not count.
pub(crate) fn pairs(vectors: &str) -> Vec<(&str, &str)> {
    let lines: Vec<&str> =
        vectors.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() >= 10 && lines.len().is_multiple_of(2), "a vector is two lines");
    lines.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// What a request reads as.
pub(crate) fn describe(request: Result<ClientMessage<'_>, ProtocolError>) -> String {
    match request {
        Ok(ClientMessage::JoinGroup { group, ack_id }) => {
            format!("join {:?}{}", group.as_str(), ack(ack_id))
        }
        Ok(ClientMessage::LeaveGroup { group, ack_id }) => {
            format!("leave {:?}{}", group.as_str(), ack(ack_id))
        }
        Ok(ClientMessage::SendToGroup { group, ack_id, no_echo, data, metadata, ttl_seconds }) => {
            let echo = if no_echo { " noEcho" } else { "" };
            let ttl = if ttl_seconds > 0 { format!(" ttl {ttl_seconds}") } else { String::new() };
            let head = format!("send {:?}{}{echo}{ttl}", group.as_str(), ack(ack_id));
            format!("{head} {}{}", payload(data), extra(metadata.as_ref()))
        }
        Ok(ClientMessage::Event { event, ack_id, data, metadata }) => {
            format!("event {}{} {}{}", event.as_str(), ack(ack_id), payload(data), extra(metadata.as_ref()))
        }
        Ok(ClientMessage::SequenceAck { sequence_id }) => format!("sequence ack {sequence_id}"),
        Ok(ClientMessage::Ping) => "ping".to_owned(),
        Ok(ClientMessage::Invoke { invocation_id, event: None, data, metadata }) => {
            assert!(data.bytes().is_empty() && metadata.is_none(), "neither is read");
            format!("invoke {invocation_id:?} something else")
        }
        Ok(ClientMessage::Invoke { invocation_id, event: Some(event), data, metadata }) => {
            let extra = extra(metadata.as_ref());
            format!("invoke {invocation_id:?} event {} {}{extra}", event.as_str(), payload(data))
        }
        Ok(ClientMessage::CancelInvocation { invocation_id }) => format!("cancel {invocation_id:?}"),
        Ok(ClientMessage::Stream { stream_id }) => format!("stream {stream_id:?}"),
        Ok(ClientMessage::GroupState { ack_id }) => format!("group state{}", ack(ack_id)),
        Err(error) => format!("{} {}", error.code.get(), error.reason),
    }
}

fn ack(id: Option<u64>) -> String {
    id.map(|id| format!(" ack {id}")).unwrap_or_default()
}

/// Type, the bytes kept (if they are text), and what raw clients get.
fn payload(data: Data<'_>) -> String {
    let mut text = data.data_type().name().to_owned();
    let kept = std::str::from_utf8(data.bytes()).ok().filter(|kept| !kept.contains(char::is_control));
    if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
        write!(text, " {kept}").expect("a String takes everything");
    }
    if kept.is_none() || *data.plain() != *data.bytes() {
        write!(text, " = {}", data.plain().escape_ascii()).expect("a String takes everything");
    }
    text.trim_end().to_owned()
}

fn extra(metadata: Option<&Metadata>) -> String {
    let Some(metadata) = metadata else { return String::new() };
    let mut json = Vec::new();
    metadata.write_json(&mut json);
    format!(" metadata {}", String::from_utf8_lossy(&json))
}
