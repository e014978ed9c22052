//! One client: what it is, what it may do, where it is a member.
//!
//! Two records per connection: [`Hot`] is what a fan-out touches, walked densely; [`Connection`] is the rest.
//! A connection that ended stays in its slot until the turn is flushed, because the log may still hold bytes
//! for it; by then nothing finds it any more. Nor does anything find one that has its slot, and so its id, while
//! others still decide whether it may come in.

use crate::ack::AckWindow;
use crate::conversation::Conversation;
use crate::encoding::Encoding;
use crate::group::Membership;
use crate::permission::Permissions;
use crate::users::Beside;
use crate::{Arrival, ConnectionId, SocketKey, Time};
use ringhub_protocol::name::{GroupName, UserId};
use ringhub_protocol::pubsub::Subprotocol;

/// How a publication is encoded for a connection. The plain ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    Raw = 0,
    Json = 1,
    Protobuf = 2,
    ReliableJson = 3,
    ReliableProtobuf = 4,
}

impl Format {
    pub(crate) const COUNT: usize = 5;
    /// How many are plain.
    pub(crate) const PLAIN: usize = 3;
    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::Raw, Self::Json, Self::Protobuf, Self::ReliableJson, Self::ReliableProtobuf];

    pub(crate) fn of(subprotocol: Subprotocol) -> Self {
        match subprotocol {
            Subprotocol::Raw => Self::Raw,
            Subprotocol::Json => Self::Json,
            Subprotocol::Protobuf => Self::Protobuf,
            Subprotocol::ReliableJson => Self::ReliableJson,
            Subprotocol::ReliableProtobuf => Self::ReliableProtobuf,
        }
    }

    pub(crate) fn subprotocol(self) -> Subprotocol {
        match self {
            Self::Raw => Subprotocol::Raw,
            Self::Json => Subprotocol::Json,
            Self::Protobuf => Subprotocol::Protobuf,
            Self::ReliableJson => Subprotocol::ReliableJson,
            Self::ReliableProtobuf => Subprotocol::ReliableProtobuf,
        }
    }

    /// Whether its messages are numbered and kept for replay.
    pub(crate) fn is_reliable(self) -> bool {
        self as usize >= Self::PLAIN
    }

    /// How its messages are written; raw clients get payloads only.
    pub(crate) fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Raw => None,
            Self::Json | Self::ReliableJson => Some(Encoding::Json),
            Self::Protobuf | Self::ReliableProtobuf => Some(Encoding::Protobuf),
        }
    }
}

/// No socket; no mixed record.
pub(crate) const NONE: u32 = u32::MAX;

/// What a fan-out touches of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hot {
    /// Where its bytes go; `slot` is [`NONE`] when it has no socket.
    pub(crate) socket: SocketKey,
    /// The turn in which [`Hot::mixed`] was set.
    pub(crate) epoch: u32,
    /// Its record among the turn's mixed receivers, or [`NONE`]: reached by one list so far.
    pub(crate) mixed: u32,
    /// Its session, or [`NONE`].
    pub(crate) session: u32,
}

impl Hot {
    pub(crate) const NO_SOCKET: SocketKey = SocketKey { slot: NONE, generation: 0 };

    pub(crate) fn attached(&self) -> bool {
        self.socket.slot != NONE
    }
}

/// The rest of a connection.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) generation: u32,
    pub(crate) format: Format,
    /// Not open yet, or ended: nobody finds it.
    pub(crate) absent: bool,
    pub(crate) user: Option<UserId>,
    /// Its neighbours among the connections of that user.
    pub(crate) beside: Beside,
    pub(crate) permissions: Permissions,
    /// Sorted by group; the group of everyone is among them.
    pub(crate) memberships: Vec<Membership>,
    pub(crate) acks: AckWindow,
    pub(crate) raw_group: Option<Box<(GroupName<'static>, bool)>>,
    pub(crate) arrival: Arrival,
    /// What it has to do with event handlers, if anything yet.
    pub(crate) conversation: Option<Box<Conversation>>,
    pub(crate) opened: Time,
    /// Log position of the recovery of this turn: own control messages before it are dropped, data before it
    /// is sent after the replay.
    pub(crate) floor: u32,
    /// Log position of the close frame of this turn: nothing after it is sent.
    pub(crate) cut: u32,
}

impl Connection {
    pub(crate) fn subprotocol(&self) -> Subprotocol {
        self.format.subprotocol()
    }

    /// Where it stands in `group`, if it is a member.
    pub(crate) fn membership(&self, group: u32) -> Result<usize, usize> {
        self.memberships.binary_search_by_key(&group, |membership| membership.group)
    }

    /// Its member entry of `group` stands at `position` now.
    pub(crate) fn moved(&mut self, group: u32, position: u32) {
        let at = self.membership(group).expect("a member knows its groups");
        self.memberships[at].position = position;
    }
}
