//! What goes into a hub and what it asks for.

use crate::envelope::Content;
use crate::event::{Event, Refusal, Reply};
use crate::{Chunk, ConnectionId, ConnectionKey, CoreId, Envelope, RequestId, SocketKey, Ticket};
use bytes::Bytes;
use core::net::IpAddr;
use ringhub_protocol::name::{GroupName, UserId};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::rest::Operation;
use ringhub_protocol::ws::{CloseCode, DeflateOffer};
use std::any::Any;
use std::sync::Arc;

/// Everything that can happen to a hub.
pub enum Input<'a> {
    /// A client whose token is good. Answered by [`Effect::Opened`], in this turn or, if other cores must
    /// first hear of its groups, a later one; until then the engine reads nothing more from the socket.
    Connect(Box<Connect>),
    /// A client comes back for its session. Answered by [`Effect::Opened`] or [`Effect::RecoverRefused`].
    Recover(Box<Recover>),
    /// A decoded request. Ignored if the connection no longer holds the socket.
    Message(Transport, ClientMessage<'a>),
    /// A raw client's message.
    Raw(Transport, Data<'a>),
    /// Frame-level bytes for the client (a pong, a ping), to be sent in the order of the log.
    Control(Transport, &'a [u8]),
    /// The client broke a rule: `disconnected` with `reason` (PubSub clients), close with `code`, end for good.
    Fault(Transport, CloseCode, &'a str),
    /// The client sent a close frame. Final for 1000 and for clients that are not reliable.
    ClientClose(Transport, Option<CloseCode>),
    /// The socket is gone without a close frame.
    SocketLost(Transport),
    /// The socket took less than it was given. Plain clients: the engine queues the rest itself. Reliable
    /// ones: the engine keeps the rest of this one send, and the hub sends nothing more until
    /// [`Input::Writable`].
    Congested(Transport),
    /// The socket took all the engine had kept.
    Writable(Transport),
    /// A plain client's outbox is over its bound: close 1008.
    SlowConsumer(Transport),
    /// Memory is short, and much of it waits for this client, attached or not: close 1008 at once, end for good.
    Shed(ConnectionKey),
    /// The client sent more than it may: close 1008, end for good.
    Throttled(Transport),
    /// A REST call that arrived at this core, with the body of a send (when it expires is the operation's to
    /// say). Answered by [`Effect::Answer`].
    Operation(RequestId, &'a Operation, Option<Content<'a>>),
    /// What came of an event that was asked about ([`Effect::Event`] with a ticket).
    Reply(Ticket, Reply),
    /// From another core's hub of the same name, in the order it was sent.
    Mesh(CoreId, MeshItem),
    /// The server drains, and this client's turn has come: close it with 1001.
    Drain(Transport),
    /// The server stops: close everyone with 1001.
    Stop,
    /// A stop has lasted as long as it may: whoever waits for an event handler is told of without its answer.
    GiveUp,
}

/// A connection and the socket an input came over; the hub ignores inputs from a socket the connection no
/// longer holds (takeover).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// The connection.
    pub connection: ConnectionKey,
    /// The socket.
    pub socket: SocketKey,
}

/// A new client.
pub struct Connect {
    /// Its socket.
    pub socket: SocketKey,
    /// What it speaks.
    pub subprotocol: Subprotocol,
    /// From the system's random source; becomes part of the id.
    pub random: u128,
    /// The upgrade's answer (101), sent before everything else.
    pub prologue: Vec<u8>,
    /// `sub` of the token.
    pub user: Option<UserId>,
    /// `role` of the token, as given.
    pub roles: Vec<Box<str>>,
    /// `webpubsub.group` of the token.
    pub groups: Vec<GroupName<'static>>,
    /// Raw clients in `sendToGroup` mode: the group, and whether the sender is left out.
    pub raw_group: Option<(GroupName<'static>, bool)>,
    /// How it came here.
    pub arrival: Arrival,
    /// What event handlers may want to know of it; there if the hub has any.
    pub introduction: Option<Box<Introduction>>,
    /// The offer of permessage-deflate that the upgrade's answer takes up.
    pub deflate: Option<DeflateOffer>,
}

/// What a hub with event handlers has to know of a new client besides.
pub struct Introduction {
    /// How the server is called, as the applications' SDKs know it: a host.
    pub origin: Box<str>,
    /// The subprotocol of the upgrade's answer, as the client spelled it.
    pub subprotocol: Option<Arc<str>>,
    /// There if a handler may decide about the client.
    pub question: Option<Question>,
}

/// What is asked before a client comes in, and what its upgrade is answered with then. [`Connect::prologue`] is
/// written by the hub in this case, for a handler may choose the subprotocol.
pub struct Question {
    /// The body of the event.
    pub body: Bytes,
    /// `Sec-WebSocket-Key` of the upgrade.
    pub websocket_key: Box<str>,
    /// The subprotocols the client offers, in order.
    pub offered: Box<[Box<str>]>,
}

/// What the outside knows of a client and the hub only keeps: the hub's choices depend on none of it.
#[derive(Default)]
pub struct Arrival {
    /// The client's address, behind proxies if they are trusted.
    pub address: Option<IpAddr>,
    /// What counts it, if anything does.
    pub pass: Option<Pass>,
}

/// Something the outside holds for as long as the connection lasts, without a socket too: it is dropped when the
/// connection ends for good, or is refused.
pub type Pass = Arc<dyn Any + Send + Sync>;

/// A client that comes back (`client-protocols` §6.3). Its reconnection token has been verified.
pub struct Recover {
    /// Its new socket.
    pub socket: SocketKey,
    /// Whose session.
    pub id: ConnectionId,
    /// What it offered; refused if the session speaks something else.
    pub subprotocol: Subprotocol,
    /// The client's address now.
    pub address: Option<IpAddr>,
    /// The upgrade's answer (101), sent before everything else.
    pub prologue: Vec<u8>,
    /// Whether it takes up an offer of permessage-deflate; the socket before may have had it otherwise.
    pub deflate: bool,
}

/// What a hub asks the outside to do. Delivery is not among these: that is [`crate::Hub::flush`].
#[derive(Debug)]
pub enum Effect {
    /// The socket now belongs to this connection: deliver its input with this key.
    Opened(Transport),
    /// There is no such session: answer 101, then close 1008.
    RecoverRefused(SocketKey, Vec<u8>),
    /// Answer the upgrade with an error.
    ConnectRefused(SocketKey, RefusedBy),
    /// An event handler answered the upgrade instead of the hub.
    ConnectAnswered(SocketKey, Refusal),
    /// Hand this to event handlers and listeners; the order of one hub's events is kept.
    Event(Box<Event>),
    /// Nobody waits for the answer to this any more; it is still to come.
    CancelEvent(Ticket),
    /// Read nothing more from this client: as many of its events wait as may.
    Hold(SocketKey),
    /// Go on reading.
    Release(SocketKey),
    /// After this turn's flush, end the socket. Its connection forgot it already.
    Close(SocketKey, CloseHow),
    /// Hand this to another core's hub of the same name; order per core is kept.
    Forward(CoreId, MeshItem),
    /// Answer a REST call.
    Answer(RequestId, Answer),
    /// A connection ended for good (for the list of last closed ones and the metrics).
    Closed {
        /// Who.
        id: ConnectionId,
        /// Its user.
        user: Option<UserId>,
        /// Its address.
        address: Option<IpAddr>,
        /// What the client was told, or would have been.
        code: u16,
        /// Why, in words.
        reason: Box<str>,
        /// Why, as a metric's label.
        category: CloseCategory,
    },
}

/// Why an upgrade is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// The hub has as many connections as it may have: 503.
    Limit,
    /// The server stops: 503.
    Stop,
    /// The event handler could not be asked, or its answer makes no sense: 500.
    Handler,
}

/// How a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseHow {
    /// The close frame is in the log: wait for the peer's, with a deadline.
    Handshake,
    /// Nothing more to say (the peer's close was answered, or the peer is gone): shut down after the flush.
    Finish,
    /// Drop at once what is unsent (taken over, slow consumer).
    Abort,
}

/// Why a connection ended, as a metric's label (`service-model` §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CloseCategory {
    Normal,
    ClosedByAppServer,
    ServiceReload,
    PingTimeout,
    SlowClient,
    BadRequest,
    Unauthorized,
    EventHandlerNotFound,
    SendEventFailed,
    Lost,
    Throttled,
}

impl CloseCategory {
    /// Every category, in the order of the metrics.
    pub const ALL: [Self; 11] = [
        Self::Normal,
        Self::ClosedByAppServer,
        Self::ServiceReload,
        Self::PingTimeout,
        Self::SlowClient,
        Self::BadRequest,
        Self::Unauthorized,
        Self::EventHandlerNotFound,
        Self::SendEventFailed,
        Self::Lost,
        Self::Throttled,
    ];

    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::ClosedByAppServer => "ClosedByAppServer",
            Self::ServiceReload => "ServiceReload",
            Self::PingTimeout => "PingTimeout",
            Self::SlowClient => "SlowClient",
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::EventHandlerNotFound => "EventHandlerNotFound",
            Self::SendEventFailed => "SendEventFailed",
            Self::Lost => "Lost",
            Self::Throttled => "Throttled",
        }
    }
}

/// The answer to a REST call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done: 200, 202 or 204, as the operation has it.
    Done,
    /// Nothing there: 404.
    NotFound,
    /// The connection has as many rules for single groups, or groups, as it may have: 409.
    Full,
    /// Part of a list: 200.
    Members(MemberPage),
}

/// Some of a group's members, in the order of their ids' texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberPage {
    /// They.
    pub members: Vec<Member>,
    /// Whether there are others behind them.
    pub more: bool,
}

impl MemberPage {
    /// Puts in order what came from several cores, and leaves out what is over `len_max`.
    pub(crate) fn cut(&mut self, len_max: usize) {
        self.members.sort_unstable_by_key(|member| member.id.rank());
        self.more |= self.members.len() > len_max;
        self.members.truncate(len_max);
    }
}

/// A row of such a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The connection.
    pub id: ConnectionId,
    /// Its user.
    pub user: Option<UserId>,
}

/// What came of one core's part of a call.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// It had a target here; a permission was there.
    pub found: bool,
    /// A rule could not be kept, or a group not joined, because there are too many.
    pub full: bool,
    /// The members here.
    pub members: Option<Box<MemberPage>>,
}

impl Outcome {
    /// Of a part that only had to find somebody.
    pub fn found(found: bool) -> Self {
        Self { found, ..Self::default() }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.found |= other.found;
        self.full |= other.full;
        match (&mut self.members, other.members) {
            (Some(ours), Some(theirs)) => {
                ours.members.extend(theirs.members);
                ours.more |= theirs.more;
            }
            (ours @ None, theirs) => *ours = theirs,
            (Some(_), None) => {}
        }
    }
}

/// The effects of one or more inputs, in order; reused from turn to turn.
pub type Effects = Vec<Effect>;

/// What cores tell each other. Immutable and shared by reference count.
#[derive(Debug, Clone)]
pub enum MeshItem {
    /// A publication for the receiver's members; answered by [`MeshItem::Done`] if a REST call waits for it.
    Publish(Envelope, Option<Ticket>),
    /// A REST call's part for this core, other than a send; answered by [`MeshItem::Done`].
    Operation(Arc<Operation>, Ticket),
    /// The ticket's part of this core is done.
    Done(Ticket, Outcome),
    /// This core has a first member of the group; answered by [`MeshItem::Agreed`].
    Interest(Arc<str>, Ticket),
    /// The receiver of this knows.
    Agreed(Ticket),
    /// This core has no member of the group any more.
    NoInterest(Arc<str>),
}

impl MeshItem {
    /// Roughly what it weighs in a batch, in bytes (shared payloads count in full).
    pub fn bytes(&self) -> usize {
        match self {
            Self::Publish(envelope, _) => 64 + envelope.bytes(),
            Self::Interest(name, _) | Self::NoInterest(name) => 64 + name.len(),
            Self::Operation(..) => 128,
            Self::Done(_, outcome) => {
                64 + outcome.members.as_ref().map_or(0, |page| page.members.len() * size_of::<Member>())
            }
            Self::Agreed(_) => 64,
        }
    }
}

/// Where `flush` puts bytes. Called at most a few times a group and turn.
///
/// The calls for one socket are in order. A sink keeps `bytes` by reference for as long as it needs them, and
/// may drop whole frames that [`Chunk::perishable`] names once their time is over.
pub trait Sink {
    /// The same bytes for every socket.
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]);
    /// One range of `bytes` for each part's socket.
    fn each(&mut self, bytes: &Chunk, parts: &[Part]);
}

/// A socket and its range of a shared buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The socket.
    pub socket: SocketKey,
    /// First byte.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}
