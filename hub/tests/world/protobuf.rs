//! A second reader of what protobuf clients are sent (`client-protocols` §3.9): as the JSON that others get.

use serde_json::{Value, json};

/// One field: its number, and a number or bytes.
struct Field<'a> {
    number: u64,
    value: u64,
    bytes: &'a [u8],
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a whole varint");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint has at most ten bytes");
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = varint(&mut bytes);
        let content = match tag & 7 {
            0 => &[],
            2 => {
                let (content, rest) = bytes.split_at(value as usize);
                bytes = rest;
                content
            }
            other => panic!("nothing has wire type {other}"),
        };
        fields.push(Field { number: tag >> 3, value, bytes: content });
    }
    fields
}

fn field<'a>(message: &'a [u8], number: u64) -> Option<Field<'a>> {
    let mut found = fields(message).into_iter().filter(|field| field.number == number);
    let field = found.next();
    assert!(found.next().is_none(), "field {number} twice");
    field
}

fn text(message: &[u8], number: u64) -> Value {
    match field(message, number) {
        Some(field) => std::str::from_utf8(field.bytes).expect("UTF-8").into(),
        None => Value::Null,
    }
}

/// One `DownstreamMessage`.
pub(crate) fn decode(payload: &[u8]) -> Value {
    let [Field { number, bytes: message, .. }] = fields(payload)[..] else { panic!("one of the messages") };
    let number_of = |at| field(message, at).map(|field| field.value);
    match number {
        1 => json!({
            "type": "ack",
            "ackId": number_of(1),
            "success": number_of(2) == Some(1),
            "error": field(message, 3).map(|error| json!({ "name": text(error.bytes, 1) })),
        }),
        2 => {
            let data = field(message, 3).expect("data");
            json!({ "type": "message", "data": text(data.bytes, 1), "sequenceId": number_of(4) })
        }
        3 => match field(message, 1) {
            Some(connected) => json!({
                "type": "system",
                "event": "connected",
                "connectionId": text(connected.bytes, 1),
            }),
            None => json!({ "type": "system", "event": "disconnected" }),
        },
        5 => json!({
            "type": "invokeResponse",
            "invocationId": text(message, 1),
            "success": number_of(2) == Some(1),
            "data": field(message, 3).map(|data| text(data.bytes, 1)),
        }),
        other => panic!("downstream message {other}"),
    }
}
