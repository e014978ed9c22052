//! Requests (`client-protocols` §3.9).
//!
//! Proto3's rules hold: of a field that stands twice the last value counts, of a oneof the last member; an
//! embedded message that stands twice is merged; unknown fields, and known ones of another wire type, are skipped.
//! A bool is any varint but 0, a `uint32` the low 32 bits of one.
//!
//! Stricter than proto3 is what could make two readers of a message disagree or costs a copy: groups are
//! refused, a metadata name that stands twice too (§3.2), and two `protobuf_data` that would have to be merged.
//! Within requests that are refused anyway, only the fields that the refusal needs are read.

use std::borrow::Cow;

use super::super::json::{CLIENT_ID_BYTES_MAX, TTL_SECONDS_MAX, fault};
use super::super::metadata::TOTAL_BYTES_MAX;
use super::super::{ClientMessage, Data, Metadata, ProtocolError};
use super::wire::{Fields, Malformed, Value, is_any, text};
use crate::name::{EventName, GroupName};

/// Most metadata entries that are gathered before they are checked: each has a name of at least one byte.
const METADATA_ENTRIES_MAX: usize = TOTAL_BYTES_MAX;

/// Reads one request, an `UpstreamMessage`. Borrows from `bytes`; only metadata is copied.
///
/// # Errors
/// When `bytes` are not protobuf, or not a request that keeps the rules of §3.1, §3.2 and §7.
pub fn parse(bytes: &[u8]) -> Result<ClientMessage<'_>, ProtocolError> {
    let mut request: Option<(Kind, Request<'_>)> = None;
    for field in Fields::of(bytes) {
        let (number, Value::Bytes(message)) = field? else { continue };
        let Some(kind) = Kind::from_number(number) else { continue };
        match &mut request {
            Some((known, same)) if *known == kind => same.merge(kind, message)?,
            _ => {
                let mut fresh = Request::default();
                fresh.merge(kind, message)?;
                request = Some((kind, fresh));
            }
        }
    }
    match request {
        Some((kind, request)) => request.into_message(kind),
        None => Err(fault("A message must be an UpstreamMessage with one of its known requests.")),
    }
}

/// The members of `UpstreamMessage.message`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    SendToGroup,
    Event,
    JoinGroup,
    LeaveGroup,
    SequenceAck,
    Ping,
    Invoke,
    CancelInvocation,
    StreamData,
    StreamEnd,
    SetGroupState,
    SubscribeGroupState,
    UnsubscribeGroupState,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::SendToGroup,
            5 => Self::Event,
            6 => Self::JoinGroup,
            7 => Self::LeaveGroup,
            8 => Self::SequenceAck,
            9 => Self::Ping,
            10 => Self::Invoke,
            11 => Self::CancelInvocation,
            13 => Self::StreamData,
            14 => Self::StreamEnd,
            15 => Self::SetGroupState,
            16 => Self::SubscribeGroupState,
            17 => Self::UnsubscribeGroupState,
            _ => return None,
        })
    }
}

/// All fields of all requests, with proto3's defaults. Which ones can be set depends on the [`Kind`].
#[derive(Default)]
struct Request<'a> {
    group: &'a str,
    event: &'a str,
    ack_id: Option<u64>,
    no_echo: bool,
    ttl_seconds: u32,
    metadata: Vec<(&'a str, &'a str)>,
    data: Payload<'a>,
    sequence_id: u64,
    /// A `StreamStartInfo` is there.
    opens_stream: bool,
    stream_id: &'a str,
    invocation_id: &'a str,
}

/// `MessageData`.
#[derive(Default)]
enum Payload<'a> {
    #[default]
    Unset,
    Text(&'a str),
    Binary(&'a [u8]),
    Any(&'a [u8]),
    Json(&'a str),
}

impl<'a> Request<'a> {
    /// Takes the fields of one more message of the same kind.
    fn merge(&mut self, kind: Kind, message: &'a [u8]) -> Result<(), ProtocolError> {
        for field in Fields::of(message) {
            let (number, value) = field?;
            match kind {
                // The busiest first.
                Kind::SendToGroup => match (number, value) {
                    (1, Value::Bytes(group)) => self.group = text(group)?,
                    (2, Value::Varint(id)) => self.ack_id = Some(id),
                    (3, Value::Bytes(data)) => self.data.merge(data)?,
                    (4, Value::Varint(no_echo)) => self.no_echo = no_echo != 0,
                    (5, Value::Varint(seconds)) => self.ttl_seconds = seconds as u32,
                    (6, Value::Bytes(entry)) => self.metadata_entry(entry)?,
                    (7, Value::Bytes(start)) => self.stream_start(start)?,
                    _ => {}
                },
                Kind::SequenceAck => {
                    if let (1, Value::Varint(id)) = (number, value) {
                        self.sequence_id = id;
                    }
                }
                Kind::Event => match (number, value) {
                    (1, Value::Bytes(event)) => self.event = text(event)?,
                    (2, Value::Bytes(data)) => self.data.merge(data)?,
                    (3, Value::Varint(id)) => self.ack_id = Some(id),
                    (4, Value::Bytes(entry)) => self.metadata_entry(entry)?,
                    (5, Value::Bytes(start)) => self.stream_start(start)?,
                    _ => {}
                },
                Kind::JoinGroup
                | Kind::LeaveGroup
                | Kind::SetGroupState
                | Kind::SubscribeGroupState
                | Kind::UnsubscribeGroupState => match (number, value) {
                    (1, Value::Bytes(group)) => self.group = text(group)?,
                    (2, Value::Varint(id)) => self.ack_id = Some(id),
                    _ => {}
                },
                Kind::Invoke => match (number, value) {
                    (1, Value::Bytes(event)) => self.event = text(event)?,
                    (2, Value::Bytes(id)) => self.invocation_id = text(id)?,
                    (3, Value::Bytes(data)) => self.data.merge(data)?,
                    (4, Value::Bytes(entry)) => self.metadata_entry(entry)?,
                    (5, Value::Bytes(start)) => self.stream_start(start)?,
                    _ => {}
                },
                Kind::CancelInvocation => {
                    if let (1, Value::Bytes(id)) = (number, value) {
                        self.invocation_id = text(id)?;
                    }
                }
                Kind::StreamData | Kind::StreamEnd => {
                    if let (1, Value::Bytes(id)) = (number, value) {
                        self.stream_id = text(id)?;
                    }
                }
                Kind::Ping => {}
            }
        }
        Ok(())
    }

    /// One entry of a `map<string, string>`.
    fn metadata_entry(&mut self, entry: &'a [u8]) -> Result<(), ProtocolError> {
        if self.metadata.len() == METADATA_ENTRIES_MAX {
            return Err(invalid_metadata());
        }
        let (mut name, mut content) = ("", "");
        for field in Fields::of(entry) {
            match field? {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Bytes(bytes)) => content = text(bytes)?,
                _ => {}
            }
        }
        self.metadata.push((name, content));
        Ok(())
    }

    fn stream_start(&mut self, start: &'a [u8]) -> Result<(), ProtocolError> {
        self.opens_stream = true;
        for field in Fields::of(start) {
            if let (1, Value::Bytes(id)) = field? {
                self.stream_id = text(id)?;
            }
        }
        Ok(())
    }

    fn into_message(self, kind: Kind) -> Result<ClientMessage<'a>, ProtocolError> {
        Ok(match kind {
            Kind::SendToGroup if self.opens_stream => {
                self.group()?;
                ClientMessage::Stream { stream_id: client_id(self.stream_id, "stream_id")? }
            }
            Kind::SendToGroup => ClientMessage::SendToGroup {
                group: self.group()?,
                ack_id: self.ack_id,
                no_echo: self.no_echo,
                ttl_seconds: self.ttl_seconds()?,
                data: self.data()?,
                metadata: self.metadata()?,
            },
            Kind::Event if self.opens_stream => {
                self.event()?;
                ClientMessage::Stream { stream_id: client_id(self.stream_id, "stream_id")? }
            }
            Kind::Event => ClientMessage::Event {
                event: self.event()?,
                ack_id: self.ack_id,
                data: self.data()?,
                metadata: self.metadata()?,
            },
            Kind::JoinGroup => ClientMessage::JoinGroup { group: self.group()?, ack_id: self.ack_id },
            Kind::LeaveGroup => ClientMessage::LeaveGroup { group: self.group()?, ack_id: self.ack_id },
            Kind::SequenceAck => ClientMessage::SequenceAck { sequence_id: self.sequence_id },
            Kind::Ping => ClientMessage::Ping,
            Kind::Invoke if self.opens_stream => ClientMessage::Invoke {
                invocation_id: self.invocation_id()?,
                event: None,
                data: Data::text(""),
                metadata: None,
            },
            Kind::Invoke => ClientMessage::Invoke {
                invocation_id: self.invocation_id()?,
                event: Some(self.event()?),
                data: self.data()?,
                metadata: self.metadata()?,
            },
            Kind::CancelInvocation => {
                ClientMessage::CancelInvocation { invocation_id: self.invocation_id()? }
            }
            Kind::StreamData | Kind::StreamEnd => {
                ClientMessage::Stream { stream_id: client_id(self.stream_id, "stream_id")? }
            }
            Kind::SetGroupState | Kind::SubscribeGroupState | Kind::UnsubscribeGroupState => {
                self.group()?;
                ClientMessage::GroupState { ack_id: self.ack_id }
            }
        })
    }

    fn group(&self) -> Result<GroupName<'a>, ProtocolError> {
        GroupName::parse(self.group).map_err(|invalid| fault(invalid.rule))
    }

    fn event(&self) -> Result<EventName<'a>, ProtocolError> {
        EventName::parse(self.event).map_err(|invalid| fault(invalid.rule))
    }

    fn invocation_id(&self) -> Result<Cow<'a, str>, ProtocolError> {
        client_id(self.invocation_id, "invocation_id")
    }

    /// Seconds to live; 0 is for ever.
    fn ttl_seconds(&self) -> Result<u32, ProtocolError> {
        if self.ttl_seconds > TTL_SECONDS_MAX {
            return Err(fault("'ttl_seconds' must be at most 300."));
        }
        Ok(self.ttl_seconds)
    }

    fn metadata(&self) -> Result<Option<Metadata>, ProtocolError> {
        Metadata::new(self.metadata.iter().copied()).map_err(|_| invalid_metadata())
    }

    fn data(&self) -> Result<Data<'a>, ProtocolError> {
        match self.data.checked()? {
            Some(data) => Ok(data),
            // Metadata alone is a message: empty text (§3.9).
            None if !self.metadata.is_empty() => Ok(Data::text("")),
            None => Err(fault("This message needs 'data' with one of its members set.")),
        }
    }
}

impl<'a> Payload<'a> {
    /// Takes the fields of one more `MessageData`.
    fn merge(&mut self, message: &'a [u8]) -> Result<(), ProtocolError> {
        for field in Fields::of(message) {
            *self = match (field?, &*self) {
                ((1, Value::Bytes(bytes)), _) => Self::Text(text(bytes)?),
                ((2, Value::Bytes(bytes)), _) => Self::Binary(bytes),
                ((3, Value::Bytes(_)), Self::Any(_)) => {
                    return Err(fault("A message must not set 'protobuf_data' more than once."));
                }
                ((3, Value::Bytes(bytes)), _) if is_any(bytes) => Self::Any(bytes),
                ((3, Value::Bytes(_)), _) => {
                    return Err(fault("'protobuf_data' must be a google.protobuf.Any."));
                }
                ((4, Value::Bytes(bytes)), _) => Self::Json(text(bytes)?),
                _ => continue,
            };
        }
        Ok(())
    }

    /// The payload that counts; `None` when no member is set.
    fn checked(&self) -> Result<Option<Data<'a>>, ProtocolError> {
        Ok(match *self {
            Self::Unset => None,
            Self::Text(text) => Some(Data::text(text)),
            Self::Binary(bytes) => Some(Data::binary(bytes)),
            Self::Any(bytes) => Some(Data::protobuf(bytes)),
            Self::Json(text) => Some(Data::json(text)?),
        })
    }
}

/// An id that the client chose and gets back.
fn client_id<'a>(id: &'a str, field: &str) -> Result<Cow<'a, str>, ProtocolError> {
    if id.is_empty() || id.len() > CLIENT_ID_BYTES_MAX {
        return Err(ProtocolError {
            reason: format!("This message needs '{field}', a string of 1 to 1024 bytes.").into(),
            ..fault("")
        });
    }
    Ok(Cow::Borrowed(id))
}

fn invalid_metadata() -> ProtocolError {
    fault("'metadata' must be ASCII strings under HTTP token names, each once, within the size limits.")
}

impl From<Malformed> for ProtocolError {
    fn from(malformed: Malformed) -> Self {
        fault(match malformed {
            Malformed::Truncated => "The message is not valid protobuf: a field is cut off.",
            Malformed::Overflow => "The message is not valid protobuf: a number has more than 64 bits.",
            Malformed::Tag => "The message is not valid protobuf: there is no such field tag.",
            Malformed::Group => "Protobuf groups are not supported.",
            Malformed::NotUtf8 => "A string of the message is not valid UTF-8.",
        })
    }
}
