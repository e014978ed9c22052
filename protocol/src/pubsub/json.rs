//! The JSON subprotocols: requests in, messages out (`client-protocols` §3.1 to §3.3).
//!
//! Writers append one JSON object to `out`, byte for byte as §3.3 has it: no spaces, properties in order.
//! A property that stands twice in a request is an error, so an ack id is never a matter of taste.

use super::{AckError, ClientMessage, Data, DataType, Form, ProtocolError, Sender};
use crate::name::{EventName, GroupName, InvalidName};
use crate::ws::CloseCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Bounds of `metadata` (`client-protocols` §3.2), in bytes.
const METADATA_KEY_MAX: usize = 256;
const METADATA_VALUE_MAX: usize = 1024;
const METADATA_TOTAL_MAX: usize = 8 << 10;
/// Longest `ttlSeconds`.
const TTL_SECONDS_MAX: u32 = 300;

/// Every property any request has; which ones count depends on `type`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    group: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(default)]
    ack_id: Option<u64>,
    #[serde(default)]
    no_echo: Option<bool>,
    #[serde(borrow, default)]
    data_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sequence_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    invocation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stream_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stream: Option<StreamStart<'a>>,
    #[serde(default)]
    ttl_seconds: Option<u32>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamStart<'a> {
    #[serde(borrow)]
    stream_id: Cow<'a, str>,
}

/// Reads one request. Borrows from `text` wherever nothing has to be unescaped.
///
/// # Errors
/// 1007, with a reason that says which property is wrong; no payload is in it.
pub fn parse(text: &str) -> Result<ClientMessage<'_>, ProtocolError> {
    let request: Request<'_> = serde_json::from_str(text).map_err(|error| {
        // serde_json's words may quote the text: only its position is passed on.
        fault(match error.classify() {
            serde_json::error::Category::Data => {
                format!(
                    "A property of the message is missing, repeated or of the wrong type, near column {}.",
                    error.column()
                )
            }
            _ => format!("The message is not a JSON object: see column {}.", error.column()),
        })
    })?;
    Kind::of(&request.kind)?.read(request)
}

#[derive(Clone, Copy)]
enum Kind {
    Join,
    Leave,
    Send,
    Event,
    SequenceAck,
    Ping,
    Invoke,
    CancelInvocation,
    Stream,
    GroupState,
}

impl Kind {
    const NAMES: [(&'static str, Self); 13] = [
        ("sendToGroup", Self::Send),
        ("sequenceAck", Self::SequenceAck),
        ("joinGroup", Self::Join),
        ("leaveGroup", Self::Leave),
        ("event", Self::Event),
        ("ping", Self::Ping),
        ("invoke", Self::Invoke),
        ("cancelInvocation", Self::CancelInvocation),
        ("streamData", Self::Stream),
        ("streamEnd", Self::Stream),
        ("setGroupState", Self::GroupState),
        ("subscribeGroupState", Self::GroupState),
        ("unsubscribeGroupState", Self::GroupState),
    ];

    fn of(name: &str) -> Result<Self, ProtocolError> {
        let known = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, kind)| *kind).ok_or_else(|| fault("The message has an unknown type."))
    }

    fn read(self, request: Request<'_>) -> Result<ClientMessage<'_>, ProtocolError> {
        let ack_id = request.ack_id;
        if request.ttl_seconds.is_some_and(|ttl| ttl > TTL_SECONDS_MAX) {
            return Err(fault("ttlSeconds is not between 0 and 300."));
        }
        Ok(match self {
            Self::Join => ClientMessage::JoinGroup { group: group(request.group)?, ack_id },
            Self::Leave => ClientMessage::LeaveGroup { group: group(request.group)?, ack_id },
            Self::Send => match request.stream {
                Some(stream) => ClientMessage::Stream { stream_id: stream.stream_id },
                None => {
                    let data = data(&request)?;
                    let no_echo = request.no_echo.unwrap_or_default();
                    ClientMessage::SendToGroup { group: group(request.group)?, ack_id, no_echo, data }
                }
            },
            Self::Event => {
                let data = data(&request)?;
                let event = required(request.event, "event is missing.")?;
                ClientMessage::Event { event: EventName::parse(event).map_err(name_fault)?, ack_id, data }
            }
            Self::SequenceAck => {
                let id = request.sequence_id.and_then(|raw| {
                    let text = raw.get();
                    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).parse().ok()
                });
                ClientMessage::SequenceAck {
                    sequence_id: required(id, "sequenceId is not an unsigned number.")?,
                }
            }
            Self::Ping => ClientMessage::Ping,
            Self::Invoke => ClientMessage::Invoke {
                invocation_id: required(request.invocation_id, "invocationId is missing.")?,
            },
            Self::CancelInvocation => ClientMessage::CancelInvocation,
            Self::Stream => {
                ClientMessage::Stream { stream_id: required(request.stream_id, "streamId is missing.")? }
            }
            Self::GroupState => ClientMessage::GroupState { ack_id },
        })
    }
}

fn data<'a>(request: &Request<'a>) -> Result<Data<'a>, ProtocolError> {
    if let Some(metadata) = request.metadata {
        check_metadata(metadata)?;
    }
    let data_type = match &request.data_type {
        None => DataType::Json,
        Some(name) => required(DataType::from_name(name), "dataType is not json, text, binary or protobuf.")?,
    };
    let raw = match request.data {
        Some(raw) => raw.get(),
        // Missing data is empty text if there is metadata instead (client-protocols §3.1).
        None if request.metadata.is_some() => return Ok(Data::text("")),
        None => return Err(fault("data is missing.")),
    };
    match data_type {
        DataType::Json if raw == "null" => Err(fault("data is null.")),
        DataType::Json => Ok(Data::from_json_value(raw)),
        DataType::Text => {
            required(Data::from_token(data_type, raw), "data is not a string, though dataType is text.")
        }
        DataType::Binary | DataType::Protobuf => {
            required(Data::from_token(data_type, raw), "data is not a string in base64.")
        }
    }
}

fn check_metadata(raw: &RawValue) -> Result<(), ProtocolError> {
    let wrong = || fault("metadata is not an object of short strings.");
    let map: BTreeMap<String, String> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    // A map keeps one of two equal keys: the raw text tells.
    let keys = serde_json::from_str::<Keys>(raw.get()).map_err(|_| wrong())?.0;
    let token = |key: &str| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let total: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    let legal = map.iter().all(|(key, value)| {
        token(key) && key.len() <= METADATA_KEY_MAX && value.is_ascii() && value.len() <= METADATA_VALUE_MAX
    });
    if keys == map.len() && legal && total <= METADATA_TOTAL_MAX { Ok(()) } else { Err(wrong()) }
}

/// How many properties an object has, repeated ones counted each.
struct Keys(usize);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut count = 0;
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Keys(count))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn group(name: Option<Cow<'_, str>>) -> Result<GroupName<'_>, ProtocolError> {
    GroupName::parse(required(name, "group is missing.")?).map_err(name_fault)
}

fn required<T>(value: Option<T>, missing: &'static str) -> Result<T, ProtocolError> {
    value.ok_or_else(|| fault(missing))
}

fn name_fault(error: InvalidName) -> ProtocolError {
    fault(error.rule)
}

fn fault(reason: impl Into<Cow<'static, str>>) -> ProtocolError {
    ProtocolError { code: CloseCode::INVALID_PAYLOAD, reason: reason.into() }
}

/// A data message **without its closing brace**: plain receivers add `}`, reliable ones
/// [`sequence_id`] first.
pub fn open_message(out: &mut Vec<u8>, sender: Sender<'_>, data: Data<'_>) {
    match sender {
        Sender::Server => out.extend_from_slice(br#"{"type":"message","from":"server","dataType":""#),
        Sender::Group { group, user } => {
            out.extend_from_slice(br#"{"type":"message","from":"group","group":"#);
            string(out, group);
            out.extend_from_slice(br#","fromUserId":"#);
            optional_string(out, user);
            out.extend_from_slice(br#","dataType":""#);
        }
    }
    out.extend_from_slice(data.data_type().name().as_bytes());
    out.extend_from_slice(br#"","data":"#);
    match (data.form(), data.data_type()) {
        (Form::Token, _) | (Form::Plain, DataType::Json) => out.extend_from_slice(data.bytes()),
        (Form::Plain, DataType::Text) => string(out, &String::from_utf8_lossy(data.bytes())),
        (Form::Plain, DataType::Binary | DataType::Protobuf) => {
            out.push(b'"');
            let start = out.len();
            out.resize(start + base64_simd::STANDARD.encoded_length(data.bytes().len()), 0);
            let _ =
                base64_simd::STANDARD.encode(data.bytes(), base64_simd::Out::from_slice(&mut out[start..]));
            out.push(b'"');
        }
    }
}

/// How [`sequence_id`] starts.
pub const SEQUENCE_ID_PREFIX: &[u8] = b",\"sequenceId\":";

/// What ends a reliable data message: `,"sequenceId":N}`.
pub fn sequence_id(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(SEQUENCE_ID_PREFIX);
    number(out, id);
    out.push(b'}');
}

/// `connected`; `reconnection_token` for reliable clients.
pub fn connected(
    out: &mut Vec<u8>,
    user: Option<&str>,
    connection_id: &str,
    reconnection_token: Option<&str>,
) {
    out.extend_from_slice(br#"{"type":"system","event":"connected","userId":"#);
    optional_string(out, user);
    out.extend_from_slice(br#","connectionId":"#);
    string(out, connection_id);
    if let Some(token) = reconnection_token {
        out.extend_from_slice(br#","reconnectionToken":"#);
        string(out, token);
    }
    out.push(b'}');
}

/// `disconnected` with its reason.
pub fn disconnected(out: &mut Vec<u8>, reason: &str) {
    out.extend_from_slice(br#"{"type":"system","event":"disconnected","message":"#);
    string(out, reason);
    out.push(b'}');
}

/// An ack: success, or an error with its message.
pub fn ack(out: &mut Vec<u8>, ack_id: u64, result: Result<(), (AckError, &str)>) {
    out.extend_from_slice(br#"{"type":"ack","ackId":"#);
    number(out, ack_id);
    match result {
        Ok(()) => out.extend_from_slice(br#","success":true}"#),
        Err((name, message)) => {
            out.extend_from_slice(br#","success":false"#);
            error(out, name.name(), message);
        }
    }
}

/// `pong`.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"pong"}"#);
}

/// Refuses an invocation.
pub fn invoke_refused(out: &mut Vec<u8>, invocation_id: &str, name: AckError, message: &str) {
    out.extend_from_slice(br#"{"type":"invokeResponse","invocationId":"#);
    string(out, invocation_id);
    out.extend_from_slice(br#","success":false"#);
    error(out, name.name(), message);
}

/// Refuses a stream: clients wait for this answer without a timeout.
pub fn stream_closed(out: &mut Vec<u8>, stream_id: &str, name: &str, message: &str) {
    out.extend_from_slice(br#"{"type":"streamClosed","streamId":"#);
    string(out, stream_id);
    error(out, name, message);
}

/// `,"error":{…}}`: the error and the end of the message.
fn error(out: &mut Vec<u8>, name: &str, message: &str) {
    out.extend_from_slice(br#","error":{"name":"#);
    string(out, name);
    out.extend_from_slice(br#","message":"#);
    string(out, message);
    out.extend_from_slice(b"}}");
}

fn optional_string(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// A JSON string token.
fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Most texts need no escape: one pass that the compiler vectorises, one copy.
    if !bytes.iter().fold(false, |found, &b| found | (b < 0x20) | (b == b'"') | (b == b'\\')) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    serde_json::to_writer(out, text).expect("writing to memory cannot fail");
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
