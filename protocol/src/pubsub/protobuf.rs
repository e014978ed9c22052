//! The protobuf subprotocols: requests in, messages out (`client-protocols` §3.9, §3.10).
//!
//! Writers mirror those of [`super::json`]. A data message is written in two steps, so that it can be shared by
//! receivers that number it differently: [`data_body`] makes what all of them get, [`data_message`] wraps it with
//! or without a sequence id.

use super::{AckError, ClientMessage, Message, ProtocolError};

/// Reads one request. Borrows from `bytes`.
pub fn parse(bytes: &[u8]) -> Result<ClientMessage<'_>, ProtocolError> {
    let _ = bytes;
    unimplemented!()
}

/// A `DataMessage` without its sequence id.
pub fn data_body(out: &mut Vec<u8>, message: Message<'_>) {
    let _ = (out, message);
    unimplemented!()
}

/// Length of what [`data_message`] appends for a body of `body_len` bytes.
pub fn data_message_len(body_len: usize, sequence_id: Option<u64>) -> usize {
    let _ = (body_len, sequence_id);
    unimplemented!()
}

/// A `DownstreamMessage` that holds a data message.
pub fn data_message(out: &mut Vec<u8>, body: &[u8], sequence_id: Option<u64>) {
    let _ = (out, body, sequence_id);
    unimplemented!()
}

/// `connected`; `reconnection_token` for reliable clients.
pub fn connected(
    out: &mut Vec<u8>,
    user: Option<&str>,
    connection_id: &str,
    reconnection_token: Option<&str>,
) {
    let _ = (out, user, connection_id, reconnection_token);
    unimplemented!()
}

/// `disconnected` with its reason.
pub fn disconnected(out: &mut Vec<u8>, reason: &str) {
    let _ = (out, reason);
    unimplemented!()
}

/// An ack: success, or an error with its message.
pub fn ack(out: &mut Vec<u8>, ack_id: u64, result: Result<(), (AckError, &str)>) {
    let _ = (out, ack_id, result);
    unimplemented!()
}

/// `pong`.
pub fn pong(out: &mut Vec<u8>) {
    let _ = out;
    unimplemented!()
}

/// Refuses an invocation.
pub fn invoke_refused(out: &mut Vec<u8>, invocation_id: &str, error: AckError, message: &str) {
    let _ = (out, invocation_id, error, message);
    unimplemented!()
}

/// Refuses a stream: clients wait for this answer without a timeout.
pub fn stream_closed(out: &mut Vec<u8>, stream_id: &str, name: &str, message: &str) {
    let _ = (out, stream_id, name, message);
    unimplemented!()
}
