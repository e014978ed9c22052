//! The protobuf schema once more (`client-protocols` §3.9), for prost: a second opinion on what messages are, used
//! by the tests here and by the fuzz target. Maps are repeated entries, which is the same on the wire and keeps
//! their order.

use std::borrow::Cow;

use prost::{Message, Oneof};
use ringhub_protocol::name::{EventName, GroupName};
use ringhub_protocol::pubsub::{ClientMessage, Data, Metadata};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Upstream {
    #[prost(oneof = "Request", tags = "1, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17")]
    pub(crate) message: Option<Request>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Request {
    #[prost(message, tag = "1")]
    SendToGroup(SendToGroup),
    #[prost(message, tag = "5")]
    Event(Event),
    #[prost(message, tag = "6")]
    JoinGroup(OfGroup),
    #[prost(message, tag = "7")]
    LeaveGroup(OfGroup),
    #[prost(message, tag = "8")]
    SequenceAck(SequenceAck),
    #[prost(message, tag = "9")]
    Ping(Empty),
    #[prost(message, tag = "10")]
    Invoke(Invoke),
    #[prost(message, tag = "11")]
    CancelInvocation(CancelInvocation),
    #[prost(message, tag = "13")]
    StreamData(StreamData),
    #[prost(message, tag = "14")]
    StreamEnd(StreamEnd),
    #[prost(message, tag = "15")]
    SetGroupState(SetGroupState),
    #[prost(message, tag = "16")]
    SubscribeGroupState(OfGroup),
    #[prost(message, tag = "17")]
    UnsubscribeGroupState(OfGroup),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SendToGroup {
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) ack_id: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub(crate) data: Option<MessageData>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) no_echo: Option<bool>,
    #[prost(uint32, optional, tag = "5")]
    pub(crate) ttl_seconds: Option<u32>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) metadata: Vec<Entry>,
    #[prost(message, optional, tag = "7")]
    pub(crate) stream: Option<StreamStart>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    #[prost(string, tag = "1")]
    pub(crate) event: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) data: Option<MessageData>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) ack_id: Option<u64>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) metadata: Vec<Entry>,
    #[prost(message, optional, tag = "5")]
    pub(crate) stream: Option<StreamStart>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OfGroup {
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) ack_id: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SequenceAck {
    #[prost(uint64, tag = "1")]
    pub(crate) sequence_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Invoke {
    #[prost(string, tag = "1")]
    pub(crate) event: String,
    #[prost(string, tag = "2")]
    pub(crate) invocation_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) data: Option<MessageData>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) metadata: Vec<Entry>,
    #[prost(message, optional, tag = "5")]
    pub(crate) stream: Option<StreamStart>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CancelInvocation {
    #[prost(string, tag = "1")]
    pub(crate) invocation_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamStart {
    #[prost(string, tag = "1")]
    pub(crate) stream_id: String,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) idle_timeout_ms: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamData {
    #[prost(string, tag = "1")]
    pub(crate) stream_id: String,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) stream_sequence_id: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub(crate) data: Option<MessageData>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamEnd {
    #[prost(string, tag = "1")]
    pub(crate) stream_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetGroupState {
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) ack_id: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub(crate) state: Option<GroupState>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupState {
    #[prost(message, repeated, tag = "1")]
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MessageData {
    #[prost(oneof = "Payload", tags = "1, 2, 3, 4")]
    pub(crate) data: Option<Payload>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Payload {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bytes, tag = "2")]
    Binary(Vec<u8>),
    /// An [`Any`], as the bytes that it is on the wire.
    #[prost(bytes, tag = "3")]
    Any(Vec<u8>),
    #[prost(string, tag = "4")]
    Json(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes, tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// An entry of a `map<string, string>`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// All errors: a name or message first, a message or code second.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    pub(crate) first: String,
    #[prost(string, tag = "2")]
    pub(crate) second: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Downstream {
    #[prost(oneof = "Response", tags = "1, 2, 3, 4, 5, 8")]
    pub(crate) message: Option<Response>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Response {
    #[prost(message, tag = "1")]
    Ack(Ack),
    #[prost(message, tag = "2")]
    Data(DataMessage),
    #[prost(message, tag = "3")]
    System(System),
    #[prost(message, tag = "4")]
    Pong(Empty),
    #[prost(message, tag = "5")]
    Invoke(InvokeResponse),
    #[prost(message, tag = "8")]
    StreamClosed(StreamClosed),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ack {
    #[prost(uint64, tag = "1")]
    pub(crate) ack_id: u64,
    #[prost(bool, tag = "2")]
    pub(crate) success: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) error: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DataMessage {
    #[prost(string, tag = "1")]
    pub(crate) from: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) group: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) data: Option<MessageData>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) sequence_id: Option<u64>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct System {
    #[prost(oneof = "SystemEvent", tags = "1, 2")]
    pub(crate) message: Option<SystemEvent>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum SystemEvent {
    #[prost(message, tag = "1")]
    Connected(Connected),
    #[prost(message, tag = "2")]
    Disconnected(Disconnected),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Connected {
    #[prost(string, tag = "1")]
    pub(crate) connection_id: String,
    #[prost(string, tag = "2")]
    pub(crate) user_id: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) reconnection_token: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Disconnected {
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InvokeResponse {
    #[prost(string, tag = "1")]
    pub(crate) invocation_id: String,
    #[prost(bool, tag = "2")]
    pub(crate) success: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) data: Option<MessageData>,
    #[prost(message, optional, tag = "4")]
    pub(crate) error: Option<Pair>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamClosed {
    #[prost(string, tag = "1")]
    pub(crate) stream_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<Pair>,
}

/// What a request means by the rules of the types it is made of; `None` if it breaks one.
pub(crate) fn meaning(request: &Request) -> Option<ClientMessage<'_>> {
    Some(match request {
        Request::SendToGroup(SendToGroup { group, stream: Some(start), .. }) => {
            group_name(group)?;
            ClientMessage::Stream { stream_id: client_id(&start.stream_id)? }
        }
        Request::SendToGroup(message) => ClientMessage::SendToGroup {
            group: group_name(&message.group)?,
            ack_id: message.ack_id,
            no_echo: message.no_echo.unwrap_or_default(),
            data: data(message.data.as_ref(), &message.metadata)?,
            metadata: metadata(&message.metadata)?,
            ttl_seconds: Some(message.ttl_seconds.unwrap_or(0)).filter(|seconds| *seconds <= 300)?,
        },
        Request::Event(Event { event, stream: Some(start), .. }) => {
            EventName::parse(&**event).ok()?;
            ClientMessage::Stream { stream_id: client_id(&start.stream_id)? }
        }
        Request::Event(message) => ClientMessage::Event {
            event: EventName::parse(&*message.event).ok()?,
            ack_id: message.ack_id,
            data: data(message.data.as_ref(), &message.metadata)?,
            metadata: metadata(&message.metadata)?,
        },
        Request::JoinGroup(OfGroup { group, ack_id }) => {
            ClientMessage::JoinGroup { group: group_name(group)?, ack_id: *ack_id }
        }
        Request::LeaveGroup(OfGroup { group, ack_id }) => {
            ClientMessage::LeaveGroup { group: group_name(group)?, ack_id: *ack_id }
        }
        Request::SequenceAck(message) => ClientMessage::SequenceAck { sequence_id: message.sequence_id },
        Request::Ping(_) => ClientMessage::Ping,
        Request::Invoke(Invoke { invocation_id, stream: Some(_), .. }) => ClientMessage::Invoke {
            invocation_id: client_id(invocation_id)?,
            event: None,
            data: Data::text(""),
            metadata: None,
        },
        Request::Invoke(message) => ClientMessage::Invoke {
            invocation_id: client_id(&message.invocation_id)?,
            event: Some(EventName::parse(&*message.event).ok()?),
            data: data(message.data.as_ref(), &message.metadata)?,
            metadata: metadata(&message.metadata)?,
        },
        Request::CancelInvocation(message) => {
            ClientMessage::CancelInvocation { invocation_id: client_id(&message.invocation_id)? }
        }
        Request::StreamData(StreamData { stream_id, .. })
        | Request::StreamEnd(StreamEnd { stream_id, .. }) => {
            ClientMessage::Stream { stream_id: client_id(stream_id)? }
        }
        Request::SetGroupState(SetGroupState { group, ack_id, .. })
        | Request::SubscribeGroupState(OfGroup { group, ack_id })
        | Request::UnsubscribeGroupState(OfGroup { group, ack_id }) => {
            group_name(group)?;
            ClientMessage::GroupState { ack_id: *ack_id }
        }
    })
}

fn group_name(name: &str) -> Option<GroupName<'_>> {
    GroupName::parse(name).ok()
}

/// The outer `None` is a broken rule.
fn metadata(entries: &[Entry]) -> Option<Option<Metadata>> {
    Metadata::new(entries.iter().map(|entry| (&*entry.key, &*entry.value))).ok()
}

fn client_id(id: &str) -> Option<Cow<'_, str>> {
    (1..=1024).contains(&id.len()).then_some(Cow::Borrowed(id))
}

fn data<'a>(data: Option<&'a MessageData>, entries: &[Entry]) -> Option<Data<'a>> {
    match data.and_then(|data| data.data.as_ref()) {
        Some(Payload::Text(text)) => Some(Data::text(text)),
        Some(Payload::Binary(bytes)) => Some(Data::binary(bytes)),
        Some(Payload::Any(bytes)) => Some(Data::protobuf(bytes)),
        Some(Payload::Json(text)) => Data::json(text).ok(),
        None => (!entries.is_empty()).then_some(Data::text("")),
    }
}
