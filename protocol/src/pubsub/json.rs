//! The JSON subprotocols: requests in, messages out (`client-protocols` §3.1 to §3.3).
//!
//! Writers append one JSON object to `out`, byte for byte as §3.3 has it: no spaces, properties in order.

use super::{AckError, ClientMessage, Data, ProtocolError, Sender};

/// Reads one request. Borrows from `text` wherever nothing has to be unescaped.
pub fn parse(text: &str) -> Result<ClientMessage<'_>, ProtocolError> {
    let _ = text;
    todo!()
}

/// A data message **without its closing brace**: plain receivers add `}`, reliable ones
/// [`sequence_id`] first.
pub fn open_message(out: &mut Vec<u8>, sender: Sender<'_>, data: Data<'_>) {
    let _ = (out, sender, data);
    todo!()
}

/// How [`sequence_id`] starts.
pub const SEQUENCE_ID_PREFIX: &[u8] = b",\"sequenceId\":";

/// What ends a reliable data message: `,"sequenceId":N}`.
pub fn sequence_id(out: &mut Vec<u8>, id: u64) {
    let _ = (out, id);
    todo!()
}

/// `connected`; `reconnection_token` for reliable clients.
pub fn connected(
    out: &mut Vec<u8>,
    user: Option<&str>,
    connection_id: &str,
    reconnection_token: Option<&str>,
) {
    let _ = (out, user, connection_id, reconnection_token);
    todo!()
}

/// `disconnected` with its reason.
pub fn disconnected(out: &mut Vec<u8>, reason: &str) {
    let _ = (out, reason);
    todo!()
}

/// An ack: success, or an error with its message.
pub fn ack(out: &mut Vec<u8>, ack_id: u64, result: Result<(), (AckError, &str)>) {
    let _ = (out, ack_id, result);
    todo!()
}

/// `pong`.
pub fn pong(out: &mut Vec<u8>) {
    let _ = out;
    todo!()
}

/// Refuses an invocation.
pub fn invoke_refused(out: &mut Vec<u8>, invocation_id: &str, error: AckError, message: &str) {
    let _ = (out, invocation_id, error, message);
    todo!()
}

/// Refuses a stream: clients wait for this answer without a timeout.
pub fn stream_closed(out: &mut Vec<u8>, stream_id: &str, name: &str, message: &str) {
    let _ = (out, stream_id, name, message);
    todo!()
}
