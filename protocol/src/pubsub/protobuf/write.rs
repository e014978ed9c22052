//! Messages to clients (`client-protocols` §3.9): every writer appends one `DownstreamMessage` to `out`, in one
//! pass, with all lengths known before.

use std::borrow::Cow;

use super::super::{AckError, Data, DataType, Message, Metadata, Sender};
use super::wire::{field_len, is_any, number_len, open_field, write_bytes, write_number};

/// Field of a `DataMessage` that only reliable clients get.
const SEQUENCE_ID: u8 = 4;

/// Appends a `DataMessage` without its sequence id.
///
/// A payload of type protobuf that no receiver could read as an `Any` (a JSON client may send any bytes as one)
/// goes out as `binary_data`: it must not break the receiver's parser.
pub fn data_body(out: &mut Vec<u8>, message: Message<'_>) {
    let Message { sender, data, metadata } = message;
    let payload = Payload::of(data);
    let (from, group) = match sender {
        Sender::Server => ("server", None),
        // There is no `fromUserId` in protobuf.
        Sender::Group { group, .. } => ("group", Some(group)),
    };
    out.reserve(
        field_len(from.len())
            + group.map_or(0, |group| field_len(group.len()))
            + payload.field_len()
            + metadata.map_or(0, metadata_len),
    );
    write_bytes(out, 1, from.as_bytes());
    if let Some(group) = group {
        write_bytes(out, 2, group.as_bytes());
    }
    payload.write(out);
    write_metadata(out, metadata);
}

/// A `MessageData`, which is field 3 of all messages that have one.
struct Payload<'a> {
    member: u8,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Payload<'a> {
    fn of(data: Data<'a>) -> Self {
        let bytes = data.plain();
        let member = match data.data_type() {
            DataType::Text => 1,
            DataType::Protobuf if is_any(&bytes) => 3,
            DataType::Binary | DataType::Protobuf => 2,
            DataType::Json => 4,
        };
        Self { member, bytes }
    }

    fn field_len(&self) -> usize {
        field_len(field_len(self.bytes.len()))
    }

    fn write(&self, out: &mut Vec<u8>) {
        open_field(out, 3, field_len(self.bytes.len()));
        write_bytes(out, self.member, &self.bytes);
    }
}

/// Metadata is field 5 of all messages that have it.
fn write_metadata(out: &mut Vec<u8>, metadata: Option<&Metadata>) {
    for (name, value) in metadata.into_iter().flat_map(Metadata::iter) {
        open_field(out, 5, pair_len(name, value));
        write_pair(out, name, value);
    }
}

fn metadata_len(metadata: &Metadata) -> usize {
    metadata.iter().map(|(name, value)| field_len(pair_len(name, value))).sum()
}

/// Length of what [`data_message`] appends for a body of `body_len` bytes.
pub fn data_message_len(body_len: usize, sequence_id: Option<u64>) -> usize {
    field_len(body_len + sequence_id.map_or(0, number_len))
}

/// Appends a data message: a body of [`data_body`] with the sequence id of a reliable receiver.
pub fn data_message(out: &mut Vec<u8>, body: &[u8], sequence_id: Option<u64>) {
    out.reserve(data_message_len(body.len(), sequence_id));
    data_head(out, body.len(), sequence_id);
    out.extend_from_slice(body);
    if let Some(id) = sequence_id {
        data_tail(out, id);
    }
}

/// Appends what [`data_message`] appends before a body of `body_len` bytes.
pub fn data_head(out: &mut Vec<u8>, body_len: usize, sequence_id: Option<u64>) {
    open_field(out, 2, body_len + sequence_id.map_or(0, number_len));
}

/// Appends what [`data_message`] appends behind the body for a reliable receiver: the id is at the very end, as
/// the shortest varint.
pub fn data_tail(out: &mut Vec<u8>, sequence_id: u64) {
    write_number(out, SEQUENCE_ID, sequence_id);
}

/// Appends `connected`; `reconnection_token` for reliable clients. Anonymous clients see an empty user id.
pub fn connected(
    out: &mut Vec<u8>,
    user: Option<&str>,
    connection_id: &str,
    reconnection_token: Option<&str>,
) {
    let optional_len = |text: Option<&str>| text.map_or(0, |text| field_len(text.len()));
    let len = field_len(connection_id.len()) + optional_len(user) + optional_len(reconnection_token);
    open_field(out, 3, field_len(len));
    open_field(out, 1, len);
    write_bytes(out, 1, connection_id.as_bytes());
    if let Some(user) = user {
        write_bytes(out, 2, user.as_bytes());
    }
    if let Some(token) = reconnection_token {
        write_bytes(out, 3, token.as_bytes());
    }
}

/// Appends `disconnected` with its reason.
pub fn disconnected(out: &mut Vec<u8>, reason: &str) {
    let len = field_len(reason.len());
    open_field(out, 3, field_len(len));
    open_field(out, 2, len);
    // Field 2: the schema has no field 1.
    write_bytes(out, 2, reason.as_bytes());
}

/// Appends an ack: success, or an error with its message.
pub fn ack(out: &mut Vec<u8>, ack_id: u64, result: Result<(), (AckError, &str)>) {
    match result {
        Ok(()) => {
            open_field(out, 1, number_len(ack_id) + number_len(1));
            write_number(out, 1, ack_id);
            write_number(out, 2, 1);
        }
        // `success` is not written: false is its default.
        Err((error, message)) => {
            let error_len = pair_len(error.name(), message);
            open_field(out, 1, number_len(ack_id) + field_len(error_len));
            write_number(out, 1, ack_id);
            open_field(out, 3, error_len);
            write_pair(out, error.name(), message);
        }
    }
}

/// Appends `pong`.
pub fn pong(out: &mut Vec<u8>) {
    open_field(out, 4, 0);
}

/// Appends an invoke response: what the handler says to the client, if it says something.
pub fn invoke_response(
    out: &mut Vec<u8>,
    invocation_id: &str,
    data: Option<Data<'_>>,
    metadata: Option<&Metadata>,
) {
    let payload = data.map(Payload::of);
    let len = field_len(invocation_id.len())
        + number_len(1)
        + payload.as_ref().map_or(0, Payload::field_len)
        + metadata.map_or(0, metadata_len);
    out.reserve(field_len(len));
    open_field(out, 5, len);
    write_bytes(out, 1, invocation_id.as_bytes());
    write_number(out, 2, 1);
    if let Some(payload) = payload {
        payload.write(out);
    }
    write_metadata(out, metadata);
}

/// Appends an invoke response that refuses the invocation.
pub fn invoke_refused(out: &mut Vec<u8>, invocation_id: &str, error: AckError, message: &str) {
    let error_len = pair_len(error.name(), message);
    open_field(out, 5, field_len(invocation_id.len()) + field_len(error_len));
    write_bytes(out, 1, invocation_id.as_bytes());
    open_field(out, 4, error_len);
    write_pair(out, error.name(), message);
}

/// Appends `streamClosed` with an error: clients wait for this answer without a timeout.
pub fn stream_closed(out: &mut Vec<u8>, stream_id: &str, name: &str, message: &str) {
    let error_len = pair_len(name, message);
    open_field(out, 8, field_len(stream_id.len()) + field_len(error_len));
    write_bytes(out, 1, stream_id.as_bytes());
    open_field(out, 2, error_len);
    write_pair(out, name, message);
}

/// Bytes of a message of two strings: an error's name and message, an entry of a map.
fn pair_len(first: &str, second: &str) -> usize {
    field_len(first.len()) + field_len(second.len())
}

fn write_pair(out: &mut Vec<u8>, first: &str, second: &str) {
    write_bytes(out, 1, first.as_bytes());
    write_bytes(out, 2, second.as_bytes());
}
