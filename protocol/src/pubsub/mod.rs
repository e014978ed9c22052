//! The subprotocol model: what clients say, what payloads are, how they are told things.
//!
//! [`ClientMessage`] borrows from the receive buffer. Payloads keep the form they arrived in ([`Form`]), so a
//! JSON client's `data` reaches other JSON clients as the very bytes it sent, and is only decoded for a
//! receiver that needs another form (`client-protocols` §3.10).

pub mod data;
pub(crate) mod escape;
pub mod json;
pub mod metadata;
pub mod protobuf;

pub use data::{Data, DataType, Form, InvalidData, JSON_DEPTH_MAX};
pub use metadata::{InvalidMetadata, Metadata};

use std::borrow::Cow;

use crate::name::{EventName, GroupName};

/// What a WebSocket connection speaks (`client-protocols` §1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subprotocol {
    /// No subprotocol: bare payloads.
    Raw,
    /// `json.webpubsub.azure.v1`.
    Json,
    /// `json.reliable.webpubsub.azure.v1`.
    ReliableJson,
    /// `protobuf.webpubsub.azure.v1`.
    Protobuf,
    /// `protobuf.reliable.webpubsub.azure.v1`.
    ReliableProtobuf,
}

impl Subprotocol {
    /// All that have a name.
    pub const NAMED: [Self; 4] = [Self::Json, Self::ReliableJson, Self::Protobuf, Self::ReliableProtobuf];

    /// The name in `Sec-WebSocket-Protocol`; `None` for raw clients.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Raw => None,
            Self::Json => Some("json.webpubsub.azure.v1"),
            Self::ReliableJson => Some("json.reliable.webpubsub.azure.v1"),
            Self::Protobuf => Some("protobuf.webpubsub.azure.v1"),
            Self::ReliableProtobuf => Some("protobuf.reliable.webpubsub.azure.v1"),
        }
    }

    /// Matches an offered name, ignoring case; `None` for a custom one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|known| known.name().is_some_and(|n| n.eq_ignore_ascii_case(name)))
    }

    /// Whether a session outlives its socket.
    pub fn is_reliable(self) -> bool {
        matches!(self, Self::ReliableJson | Self::ReliableProtobuf)
    }

    /// Whether its messages are protobuf, in binary frames.
    pub fn is_protobuf(self) -> bool {
        matches!(self, Self::Protobuf | Self::ReliableProtobuf)
    }
}

/// One request of a PubSub client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage<'a> {
    /// Join a group.
    JoinGroup {
        /// The group.
        group: GroupName<'a>,
        /// Asks for an ack with this id.
        ack_id: Option<u64>,
    },
    /// Leave a group.
    LeaveGroup {
        /// The group.
        group: GroupName<'a>,
        /// Asks for an ack with this id.
        ack_id: Option<u64>,
    },
    /// Publish to a group.
    SendToGroup {
        /// The group.
        group: GroupName<'a>,
        /// Asks for an ack with this id.
        ack_id: Option<u64>,
        /// Do not deliver to the sender.
        no_echo: bool,
        /// The payload.
        data: Data<'a>,
        /// Travels with it.
        metadata: Option<Metadata>,
        /// Seconds after which it is not worth delivering any more; 0: never.
        ttl_seconds: u32,
    },
    /// A user event for the application server.
    Event {
        /// The event's name.
        event: EventName<'a>,
        /// Asks for an ack with this id.
        ack_id: Option<u64>,
        /// The payload.
        data: Data<'a>,
        /// Travels with it.
        metadata: Option<Metadata>,
    },
    /// Everything up to and including this id has arrived.
    SequenceAck {
        /// The largest id seen.
        sequence_id: u64,
    },
    /// Application-level ping.
    Ping,
    /// Request to an event handler, answered by an invoke response (`client-protocols` §3.6).
    Invoke {
        /// Chosen by the client.
        invocation_id: Cow<'a, str>,
        /// The event; `None` when something else is asked for (another target, a stream), which is to be refused.
        /// Then neither payload nor metadata is read.
        event: Option<EventName<'a>>,
        /// The payload.
        data: Data<'a>,
        /// Travels with it.
        metadata: Option<Metadata>,
    },
    /// Gives up an invocation; no answer.
    CancelInvocation {
        /// Which.
        invocation_id: Cow<'a, str>,
    },
    /// Opens or continues a stream, which is refused with `streamClosed` (design §6).
    Stream {
        /// Chosen by the client.
        stream_id: Cow<'a, str>,
    },
    /// Group state, not supported: refused by an ack.
    GroupState {
        /// Asks for an ack with this id.
        ack_id: Option<u64>,
    },
}

/// Who a message is from, as receivers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender<'a> {
    /// The application server, to a connection, a user or all.
    Server,
    /// A group's member or the application server through a group.
    Group {
        /// The group.
        group: &'a str,
        /// The publishing client's user; `None` for the application server and for anonymous clients.
        user: Option<&'a str>,
    },
}

/// One data message for receivers: who it is from and what it carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Message<'a> {
    /// Who it is from.
    pub sender: Sender<'a>,
    /// The payload.
    pub data: Data<'a>,
    /// Travels with it; raw receivers do not see it.
    pub metadata: Option<&'a Metadata>,
}

impl<'a> Message<'a> {
    /// A message without metadata.
    pub fn new(sender: Sender<'a>, data: Data<'a>) -> Self {
        Self { sender, data, metadata: None }
    }
}

/// The names that the error of an ack or of an invoke response can have (`client-protocols` §3.4, §3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckError {
    /// A role is missing.
    Forbidden,
    /// This ack id succeeded before.
    Duplicate,
    /// Nobody handles the event, or its handler failed.
    InternalServerError,
    /// The request cannot be carried out as it is.
    BadRequest,
    /// The target does not exist.
    NotFound,
    /// The event's handler took too long.
    Timeout,
}

impl AckError {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate",
            Self::InternalServerError => "InternalServerError",
            Self::BadRequest => "BadRequest",
            Self::NotFound => "NotFound",
            Self::Timeout => "Timeout",
        }
    }
}

/// What a client did that its subprotocol does not allow: `disconnected` with `reason`, then close `code`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ProtocolError {
    /// 1007 for content, 1003 for the wrong frame type.
    pub code: crate::ws::CloseCode,
    /// For the person who wrote the client; no payload in it, at most 123 bytes.
    pub reason: Cow<'static, str>,
}
