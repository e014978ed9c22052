//! The JSON subprotocols: requests in, messages out (`client-protocols` §3.1 to §3.3).
//!
//! Reading borrows from the text and allocates only where a string has to be unescaped or JSON data nests
//! twice. Properties come in any order; a known property that appears twice is a protocol error, so that two
//! readers of a message can never disagree about its `ackId`. Names of properties are case-sensitive, `type` and
//! `dataType` values are not.
//!
//! Writers append one JSON object to `out`, byte for byte as §3.3 has it: no spaces, properties in order.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::data::{InvalidData, JSON_DEPTH_MAX, is_deeper_than};
use super::escape::{unescape, write_string};
use super::{AckError, ClientMessage, Data, DataType, Message, Metadata, ProtocolError, Sender};
use crate::name::{EventName, GroupName};
use crate::ws::CloseCode;

/// What ends a reliable data message, up to the id and the closing brace: see [`sequence_id`].
pub const SEQUENCE_ID_PREFIX: &[u8] = b",\"sequenceId\":";

/// Longest invocation id and stream id, in bytes: they are echoed.
pub const CLIENT_ID_BYTES_MAX: usize = 1024;

/// Longest `ttlSeconds` (§7).
pub const TTL_SECONDS_MAX: u32 = 300;

/// Reads one request. Borrows from `text` wherever nothing has to be unescaped.
pub fn parse(text: &str) -> Result<ClientMessage<'_>, ProtocolError> {
    // Derived readers take an array for a struct; a request is an object.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(fault("A message must be one JSON object."));
    }
    if is_deeper_than(text.as_bytes(), JSON_DEPTH_MAX) {
        return Err(InvalidData::TooDeep.into());
    }
    let request: Request<'_> = serde_json::from_str(text).map_err(|error| explain(&error))?;
    request.into_message()
}

/// All properties of all requests, as raw tokens. Which ones count depends on `type`; the others are ignored
/// like unknown ones.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, rename = "type")]
    kind: Token<'a>,
    #[serde(borrow)]
    group: Token<'a>,
    #[serde(borrow)]
    event: Token<'a>,
    #[serde(borrow)]
    ack_id: Token<'a>,
    #[serde(borrow)]
    no_echo: Token<'a>,
    #[serde(borrow)]
    data_type: Token<'a>,
    #[serde(borrow)]
    data: Token<'a>,
    #[serde(borrow)]
    sequence_id: Token<'a>,
    #[serde(borrow)]
    ttl_seconds: Token<'a>,
    #[serde(borrow)]
    metadata: Token<'a>,
    #[serde(borrow)]
    stream: Token<'a>,
    #[serde(borrow)]
    stream_id: Token<'a>,
    #[serde(borrow)]
    invocation_id: Token<'a>,
    #[serde(borrow)]
    target: Token<'a>,
}

/// The raw text of a property's value; `None` when the property is absent. Unlike with `Option<&RawValue>`,
/// `null` is a value: `"data":null` is not the same as no data.
#[derive(Clone, Copy, Default)]
struct Token<'a>(Option<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Token<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw.get())))
    }
}

impl<'a> Token<'a> {
    /// The value, where `null` means absent.
    fn non_null(self) -> Option<&'a str> {
        self.0.filter(|token| *token != "null")
    }

    /// The value as a string; `Err` when it is something else.
    fn string(self) -> Result<Option<Cow<'a, str>>, NotAString> {
        self.non_null().map(|token| unescape(token).ok_or(NotAString)).transpose()
    }
}

struct NotAString;

impl<'a> Request<'a> {
    fn into_message(self) -> Result<ClientMessage<'a>, ProtocolError> {
        let Ok(Some(kind)) = self.kind.string() else {
            return Err(fault("A message needs the string property 'type'."));
        };
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        // The busiest first.
        if is("sendToGroup") {
            if self.stream.non_null().is_some() {
                return self.stream_start();
            }
            return Ok(ClientMessage::SendToGroup {
                group: self.group()?,
                ack_id: self.ack_id()?,
                no_echo: self.no_echo()?,
                ttl_seconds: self.ttl_seconds()?,
                metadata: self.metadata()?,
                data: self.data()?,
            });
        }
        if is("sequenceAck") {
            return Ok(ClientMessage::SequenceAck { sequence_id: self.sequence_id()? });
        }
        if is("event") {
            return Ok(ClientMessage::Event {
                event: self.event()?,
                ack_id: self.ack_id()?,
                metadata: self.metadata()?,
                data: self.data()?,
            });
        }
        if is("joinGroup") {
            return Ok(ClientMessage::JoinGroup { group: self.group()?, ack_id: self.ack_id()? });
        }
        if is("leaveGroup") {
            return Ok(ClientMessage::LeaveGroup { group: self.group()?, ack_id: self.ack_id()? });
        }
        if is("ping") {
            return Ok(ClientMessage::Ping);
        }
        if is("invoke") {
            return self.invoke();
        }
        if is("cancelInvocation") {
            let invocation_id = client_id(self.invocation_id, "invocationId")?;
            return Ok(ClientMessage::CancelInvocation { invocation_id });
        }
        if is("streamData") || is("streamEnd") {
            return Ok(ClientMessage::Stream { stream_id: client_id(self.stream_id, "streamId")? });
        }
        if ["setGroupState", "subscribeGroupState", "unsubscribeGroupState"].into_iter().any(is) {
            self.group()?;
            return Ok(ClientMessage::GroupState { ack_id: self.ack_id()? });
        }
        Err(unknown_type(&kind))
    }

    /// An `invoke`, whose target is an event unless it says otherwise (§3.6).
    fn invoke(&self) -> Result<ClientMessage<'a>, ProtocolError> {
        let invocation_id = client_id(self.invocation_id, "invocationId")?;
        let Ok(target) = self.target.string() else { return Err(fault("'target' must be a string.")) };
        let is_event = target.is_none_or(|target| target.eq_ignore_ascii_case("event"));
        if !is_event || self.stream.non_null().is_some() {
            let data = Data::text("");
            return Ok(ClientMessage::Invoke { invocation_id, event: None, data, metadata: None });
        }
        Ok(ClientMessage::Invoke {
            invocation_id,
            event: Some(self.event()?),
            metadata: self.metadata()?,
            data: self.data()?,
        })
    }

    /// A `sendToGroup` that opens a stream (§3.7).
    fn stream_start(&self) -> Result<ClientMessage<'a>, ProtocolError> {
        #[derive(Deserialize)]
        struct Start<'a> {
            #[serde(default, borrow, rename = "streamId")]
            stream_id: Token<'a>,
        }
        self.group()?;
        let start = self.stream.non_null().filter(|token| token.starts_with('{'));
        match start.map(serde_json::from_str::<Start<'a>>) {
            Some(Ok(start)) => {
                Ok(ClientMessage::Stream { stream_id: client_id(start.stream_id, "stream.streamId")? })
            }
            _ => Err(fault("'stream' must be an object with a 'streamId'.")),
        }
    }

    fn group(&self) -> Result<GroupName<'a>, ProtocolError> {
        match self.group.string() {
            Ok(Some(name)) => GroupName::parse(name).map_err(|invalid| fault(invalid.rule)),
            _ => Err(fault("This message needs the string property 'group'.")),
        }
    }

    fn event(&self) -> Result<EventName<'a>, ProtocolError> {
        match self.event.string() {
            Ok(Some(name)) => EventName::parse(name).map_err(|invalid| fault(invalid.rule)),
            _ => Err(fault("This message needs the string property 'event'.")),
        }
    }

    fn ack_id(&self) -> Result<Option<u64>, ProtocolError> {
        let Some(token) = self.ack_id.non_null() else { return Ok(None) };
        digits(token).map(Some).ok_or_else(|| fault("'ackId' must be an unsigned 64-bit integer."))
    }

    fn no_echo(&self) -> Result<bool, ProtocolError> {
        match self.no_echo.non_null() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(fault("'noEcho' must be true or false.")),
        }
    }

    /// The id of a sequence ack; some clients write 64-bit numbers as strings.
    fn sequence_id(&self) -> Result<u64, ProtocolError> {
        let token = self.sequence_id.0.unwrap_or_default();
        let inside = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(token);
        digits(inside).ok_or_else(|| fault("'sequenceId' must be an unsigned 64-bit integer."))
    }

    /// Seconds to live; 0 is for ever (§3.2).
    fn ttl_seconds(&self) -> Result<u32, ProtocolError> {
        let Some(token) = self.ttl_seconds.non_null() else { return Ok(0) };
        digits(token)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .filter(|seconds| *seconds <= TTL_SECONDS_MAX)
            .ok_or_else(|| fault("'ttlSeconds' must be an integer from 0 to 300."))
    }

    fn metadata(&self) -> Result<Option<Metadata>, ProtocolError> {
        let Some(token) = self.metadata.non_null() else { return Ok(None) };
        Metadata::from_json(token)
            .map_err(|_| fault("'metadata' must be an object of ASCII strings within the size limits."))
    }

    fn data(&self) -> Result<Data<'a>, ProtocolError> {
        let data_type = match self.data_type.string() {
            Ok(None) => DataType::Json,
            Ok(Some(name)) => DataType::from_name(&name)
                .ok_or_else(|| fault("'dataType' must be json, text, binary or protobuf."))?,
            Err(NotAString) => return Err(fault("'dataType' must be a string.")),
        };
        match self.data.0 {
            // Metadata alone is a message: empty text (§3.1).
            None if self.metadata.non_null().is_some() => Ok(Data::text("")),
            None => Err(fault("This message needs the property 'data'.")),
            // Skipped by the reader and of legal depth: no need to read it again.
            Some(token) if data_type == DataType::Json => Ok(Data::json_value(token)?),
            Some(token) => Ok(Data::from_json_token(data_type, token)?),
        }
    }
}

/// A decimal number that is digits only: no sign, fraction or exponent. A JSON number has no leading zeros,
/// and a sequence id in a string may.
fn digits(token: &str) -> Option<u64> {
    if !token.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    token.parse().ok()
}

/// An id that the client chose and gets back.
fn client_id<'a>(token: Token<'a>, property: &str) -> Result<Cow<'a, str>, ProtocolError> {
    match token.string() {
        Ok(Some(id)) if !id.is_empty() && id.len() <= CLIENT_ID_BYTES_MAX => Ok(id),
        _ => Err(ProtocolError {
            code: CloseCode::INVALID_PAYLOAD,
            reason: format!("This message needs '{property}', a string of 1 to 1024 bytes.").into(),
        }),
    }
}

pub(super) fn fault(reason: &'static str) -> ProtocolError {
    ProtocolError { code: CloseCode::INVALID_PAYLOAD, reason: Cow::Borrowed(reason) }
}

impl From<InvalidData> for ProtocolError {
    fn from(invalid: InvalidData) -> Self {
        fault(match invalid {
            InvalidData::NotJson => "The data is not valid JSON.",
            InvalidData::Null => "JSON data must not be null.",
            InvalidData::TooDeep => "The JSON is nested more than 64 levels deep.",
            InvalidData::NotText => "Text data must be a JSON string of valid Unicode.",
            InvalidData::NotBase64 => "Binary data must be a JSON string of padded standard base64.",
        })
    }
}

/// Says where the JSON breaks, without any of it.
#[cold]
fn explain(error: &serde_json::Error) -> ProtocolError {
    let text = error.to_string();
    // All properties are raw tokens, so the one complaint about content that is left is a repeated name, and
    // that name is one of ours.
    let reason = match text.strip_prefix("duplicate field `").and_then(|rest| rest.split_once('`')) {
        Some((name, _)) => format!("The property '{name}' appears more than once."),
        None => format!("The message is not valid JSON (line {}, column {}).", error.line(), error.column()),
    };
    ProtocolError { code: CloseCode::INVALID_PAYLOAD, reason: reason.into() }
}

#[cold]
fn unknown_type(kind: &str) -> ProtocolError {
    const SHOWN_CHARS_MAX: usize = 16;
    // At most 16 × 4 bytes of it, and nothing that could confuse a log.
    let mut shown: String = kind.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
    if kind.chars().count() > SHOWN_CHARS_MAX {
        shown.push('…');
    }
    ProtocolError {
        code: CloseCode::INVALID_PAYLOAD,
        reason: format!("Unknown message type '{shown}'.").into(),
    }
}

/// A data message **without its closing brace**: plain receivers add `}`, reliable ones
/// [`sequence_id`] first.
pub fn open_message(out: &mut Vec<u8>, message: Message<'_>) {
    let Message { sender, data, metadata } = message;
    out.reserve(128 + data.bytes().len());
    match sender {
        Sender::Server => out.extend_from_slice(br#"{"type":"message","from":"server""#),
        Sender::Group { group, user } => {
            out.extend_from_slice(br#"{"type":"message","from":"group","group":"#);
            write_string(out, group);
            out.extend_from_slice(br#","fromUserId":"#);
            write_optional_string(out, user);
        }
    }
    write_data(out, data);
    if let Some(metadata) = metadata {
        out.extend_from_slice(br#","metadata":"#);
        metadata.write_json(out);
    }
}

/// What ends a reliable data message: `,"sequenceId":N}`.
pub fn sequence_id(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(SEQUENCE_ID_PREFIX);
    write_number(out, id);
    out.push(b'}');
}

/// `connected`; `reconnection_token` for reliable clients. `userId` is `null` for anonymous clients.
pub fn connected(
    out: &mut Vec<u8>,
    user: Option<&str>,
    connection_id: &str,
    reconnection_token: Option<&str>,
) {
    out.extend_from_slice(br#"{"type":"system","event":"connected","userId":"#);
    write_optional_string(out, user);
    out.extend_from_slice(br#","connectionId":"#);
    write_string(out, connection_id);
    if let Some(token) = reconnection_token {
        out.extend_from_slice(br#","reconnectionToken":"#);
        write_string(out, token);
    }
    out.push(b'}');
}

/// `disconnected` with its reason.
pub fn disconnected(out: &mut Vec<u8>, reason: &str) {
    out.extend_from_slice(br#"{"type":"system","event":"disconnected","message":"#);
    write_string(out, reason);
    out.push(b'}');
}

/// An ack: success, or an error with its message.
pub fn ack(out: &mut Vec<u8>, ack_id: u64, result: Result<(), (AckError, &str)>) {
    out.extend_from_slice(br#"{"type":"ack","ackId":"#);
    write_number(out, ack_id);
    match result {
        // Never `"error":null`: .NET clients insist on an object after `error`.
        Ok(()) => out.extend_from_slice(br#","success":true}"#),
        Err((error, message)) => write_failure(out, error.name(), message),
    }
}

/// `pong`.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"pong"}"#);
}

/// Answers an invocation: what the handler says to the client, if it says something.
pub fn invoke_response(out: &mut Vec<u8>, invocation_id: &str, data: Option<Data<'_>>) {
    out.extend_from_slice(br#"{"type":"invokeResponse","invocationId":"#);
    write_string(out, invocation_id);
    out.extend_from_slice(br#","success":true"#);
    if let Some(data) = data {
        write_data(out, data);
    }
    out.push(b'}');
}

/// Refuses an invocation.
pub fn invoke_refused(out: &mut Vec<u8>, invocation_id: &str, error: AckError, message: &str) {
    out.extend_from_slice(br#"{"type":"invokeResponse","invocationId":"#);
    write_string(out, invocation_id);
    write_failure(out, error.name(), message);
}

/// Refuses a stream: clients wait for this answer without a timeout.
pub fn stream_closed(out: &mut Vec<u8>, stream_id: &str, name: &str, message: &str) {
    out.extend_from_slice(br#"{"type":"streamClosed","streamId":"#);
    write_string(out, stream_id);
    write_error(out, name, message);
}

fn write_data(out: &mut Vec<u8>, data: Data<'_>) {
    out.extend_from_slice(match data.data_type() {
        DataType::Text => br#","dataType":"text","data":"#,
        DataType::Json => br#","dataType":"json","data":"#,
        DataType::Binary => br#","dataType":"binary","data":"#,
        DataType::Protobuf => br#","dataType":"protobuf","data":"#,
    });
    data.write_json(out);
}

fn write_failure(out: &mut Vec<u8>, name: &str, message: &str) {
    out.extend_from_slice(br#","success":false"#);
    write_error(out, name, message);
}

fn write_error(out: &mut Vec<u8>, name: &str, message: &str) {
    out.extend_from_slice(br#","error":{"name":"#);
    write_string(out, name);
    out.extend_from_slice(br#","message":"#);
    write_string(out, message);
    out.extend_from_slice(b"}}");
}

fn write_optional_string(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// §3.3, byte for byte.
    #[test]
    fn system_messages_and_acks() {
        assert_eq!(
            written(|out| connected(out, Some("u1"), "c1", None)),
            r#"{"type":"system","event":"connected","userId":"u1","connectionId":"c1"}"#
        );
        assert_eq!(
            written(|out| connected(out, None, "c\"", Some("opaque"))),
            r#"{"type":"system","event":"connected","userId":null,"connectionId":"c\"","reconnectionToken":"opaque"}"#
        );
        assert_eq!(
            written(|out| disconnected(out, "reason \"text\"")),
            r#"{"type":"system","event":"disconnected","message":"reason \"text\""}"#
        );
        assert_eq!(written(|out| ack(out, 1, Ok(()))), r#"{"type":"ack","ackId":1,"success":true}"#);
        assert_eq!(
            written(|out| ack(out, u64::MAX, Err((AckError::Forbidden, "text")))),
            r#"{"type":"ack","ackId":18446744073709551615,"success":false,"error":{"name":"Forbidden","message":"text"}}"#
        );
        assert_eq!(written(pong), r#"{"type":"pong"}"#);
        assert_eq!(
            written(|out| invoke_refused(out, "1", AckError::NotFound, "text")),
            r#"{"type":"invokeResponse","invocationId":"1","success":false,"error":{"name":"NotFound","message":"text"}}"#
        );
        for (data, expected) in [
            (Some(Data::json(r#"{"ok":true}"#).unwrap()), r#","dataType":"json","data":{"ok":true}"#),
            (Some(Data::text("a\"")), r#","dataType":"text","data":"a\"""#),
            (Some(Data::binary(b"Hello")), r#","dataType":"binary","data":"SGVsbG8=""#),
            (Some(Data::protobuf(b"\x0a\x01t")), r#","dataType":"protobuf","data":"CgF0""#),
            (None, ""),
        ] {
            assert_eq!(
                written(|out| invoke_response(out, "\"1", data)),
                format!(r#"{{"type":"invokeResponse","invocationId":"\"1","success":true{expected}}}"#)
            );
        }
        assert_eq!(
            written(|out| stream_closed(out, "s-1", "BadRequest", "text")),
            r#"{"type":"streamClosed","streamId":"s-1","error":{"name":"BadRequest","message":"text"}}"#
        );
    }

    /// §3.3 and §3.10: every type and form.
    #[test]
    fn data_messages() {
        let group = Sender::Group { group: "g1", user: Some("u1") };
        let token = |data_type, token| Data::from_json_token(data_type, token).unwrap();
        for (sender, data, expected) in [
            (Sender::Server, Data::text("He\"llo"), r#""from":"server","dataType":"text","data":"He\"llo""#),
            (
                Sender::Server,
                Data::json(r#"{"hello": 1.0}"#).unwrap(),
                r#""from":"server","dataType":"json","data":{"hello": 1.0}"#,
            ),
            (
                Sender::Server,
                Data::binary(b"Hello"),
                r#""from":"server","dataType":"binary","data":"SGVsbG8=""#,
            ),
            (
                group,
                token(DataType::Text, r#""\u0068i""#),
                r#""from":"group","group":"g1","fromUserId":"u1","dataType":"text","data":"\u0068i""#,
            ),
            (
                Sender::Server,
                Data::protobuf(b"\x0a\x01t\x12\x02\x08\x01"),
                r#""from":"server","dataType":"protobuf","data":"CgF0EgIIAQ==""#,
            ),
            (
                group,
                token(DataType::Protobuf, r#""Ci8=""#),
                r#""from":"group","group":"g1","fromUserId":"u1","dataType":"protobuf","data":"Ci8=""#,
            ),
            (
                Sender::Group { group: "g\\", user: None },
                token(DataType::Binary, r#""""#),
                r#""from":"group","group":"g\\","fromUserId":null,"dataType":"binary","data":"""#,
            ),
        ] {
            let open = format!("{{\"type\":\"message\",{expected}");
            assert_eq!(written(|out| open_message(out, Message::new(sender, data))), open);
            let reliable = written(|out| {
                open_message(out, Message::new(sender, data));
                sequence_id(out, 7);
            });
            assert_eq!(reliable, format!("{open},\"sequenceId\":7}}"));
            serde_json::from_str::<serde_json::Value>(&reliable).unwrap();
        }
    }

    /// §3.10: right after `data`, before a sequence id.
    #[test]
    fn metadata_follows_data() {
        let metadata = Metadata::new([("k2", "v\""), ("K1", "")]).unwrap();
        for (sender, data, expected) in [
            (
                Sender::Group { group: "g1", user: Some("u1") },
                Data::text("hi"),
                r#"{"type":"message","from":"group","group":"g1","fromUserId":"u1","dataType":"text","data":"hi","metadata":{"k2":"v\"","K1":""}"#,
            ),
            (
                Sender::Server,
                Data::protobuf(b"\x0a\x01t"),
                r#"{"type":"message","from":"server","dataType":"protobuf","data":"CgF0","metadata":{"k2":"v\"","K1":""}"#,
            ),
        ] {
            let message = Message { sender, data, metadata: metadata.as_ref() };
            assert_eq!(written(|out| open_message(out, message)), expected);
            let reliable = written(|out| {
                open_message(out, message);
                sequence_id(out, 7);
            });
            assert_eq!(reliable, format!("{expected},\"sequenceId\":7}}"));
        }
    }

    #[cfg_attr(miri, ignore = "takes too long there")]
    #[test]
    fn hostile_nesting_neither_recurses_nor_gets_through() {
        for open in ["[", "{\"a\":"] {
            for property in ["data", "unknown", "metadata", "stream"] {
                let text = format!("{{\"type\":\"ping\",\"{property}\":{}", open.repeat(100_000));
                let error = parse(&text).unwrap_err();
                assert_eq!(error.reason, "The JSON is nested more than 64 levels deep.");
            }
        }
        let nested = |depth: usize| {
            format!(
                "{{\"type\":\"sendToGroup\",\"group\":\"g\",\"data\":{}{}}}",
                "[".repeat(depth),
                "]".repeat(depth)
            )
        };
        assert!(parse(&nested(63)).is_ok());
        assert!(parse(&nested(64)).is_err());
    }

    #[test]
    fn reasons_are_short_and_quote_at_most_the_type() {
        let long = "😀".repeat(1000);
        let error = parse(&format!("{{\"type\":\"{long}\"}}")).unwrap_err();
        assert_eq!(error.reason, format!("Unknown message type '{}…'.", "😀".repeat(16)));
        for (text, reason) in [
            (r#"{"type":"a\nb"}"#, "Unknown message type 'ab'."),
            (r#"{"type":"ping","type":"ping"}"#, "The property 'type' appears more than once."),
            (
                r#"{"type":"joinGroup","group":{"secret":1}}"#,
                "This message needs the string property 'group'.",
            ),
            (r#"{"type":"ping" "secret"}"#, "The message is not valid JSON (line 1, column 16)."),
        ] {
            assert_eq!(parse(text).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn ordinary_requests_borrow() {
        let text = r#"{"type":"sendToGroup","group":"g1","ackId":3,"dataType":"text","data":"a\nb"}"#;
        let Ok(ClientMessage::SendToGroup { data, .. }) = parse(text) else { panic!() };
        assert!(text.as_bytes().as_ptr_range().contains(&data.bytes().as_ptr()));
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_rust_does(number in any::<u64>()) {
            prop_assert_eq!(written(|out| write_number(out, number)), number.to_string());
        }

        #[test]
        fn parsing_never_panics_and_reasons_fit_a_close_frame(
            text in r#"\{("(type|group|ackId|data|dataType|stream|noEcho|metadata)":("(sendToGroup|ping|text|\\u[dD]800|x)"|[0-9.eE-]{1,22}|null|true|\{\}|\[\]),?){0,5}\}?"#
        ) {
            if let Err(error) = parse(&text) {
                prop_assert!(error.reason.len() <= crate::ws::close::REASON_BYTES_MAX);
                prop_assert_eq!(error.code, CloseCode::INVALID_PAYLOAD);
            }
        }
    }
}
