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

/// How a publication is encoded for a connection; those of clients that can inflate stand last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    Raw = 0,
    Json = 1,
    Protobuf = 2,
    ReliableJson = 3,
    ReliableProtobuf = 4,
    DeflatedRaw = 5,
    DeflatedJson = 6,
    DeflatedProtobuf = 7,
    DeflatedReliableJson = 8,
    DeflatedReliableProtobuf = 9,
}

impl Format {
    pub(crate) const COUNT: usize = 10;
    /// How many are of clients that cannot inflate.
    pub(crate) const UNDEFLATED: usize = 5;
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Raw,
        Self::Json,
        Self::Protobuf,
        Self::ReliableJson,
        Self::ReliableProtobuf,
        Self::DeflatedRaw,
        Self::DeflatedJson,
        Self::DeflatedProtobuf,
        Self::DeflatedReliableJson,
        Self::DeflatedReliableProtobuf,
    ];

    /// That of a client that speaks `subprotocol` and can inflate or cannot.
    pub(crate) fn of(subprotocol: Subprotocol, deflate: bool) -> Self {
        match (subprotocol, deflate) {
            (Subprotocol::Raw, false) => Self::Raw,
            (Subprotocol::Raw, true) => Self::DeflatedRaw,
            (Subprotocol::Json, false) => Self::Json,
            (Subprotocol::Json, true) => Self::DeflatedJson,
            (Subprotocol::Protobuf, false) => Self::Protobuf,
            (Subprotocol::Protobuf, true) => Self::DeflatedProtobuf,
            (Subprotocol::ReliableJson, false) => Self::ReliableJson,
            (Subprotocol::ReliableJson, true) => Self::DeflatedReliableJson,
            (Subprotocol::ReliableProtobuf, false) => Self::ReliableProtobuf,
            (Subprotocol::ReliableProtobuf, true) => Self::DeflatedReliableProtobuf,
        }
    }

    pub(crate) fn subprotocol(self) -> Subprotocol {
        match self {
            Self::Raw | Self::DeflatedRaw => Subprotocol::Raw,
            Self::Json | Self::DeflatedJson => Subprotocol::Json,
            Self::Protobuf | Self::DeflatedProtobuf => Subprotocol::Protobuf,
            Self::ReliableJson | Self::DeflatedReliableJson => Subprotocol::ReliableJson,
            Self::ReliableProtobuf | Self::DeflatedReliableProtobuf => Subprotocol::ReliableProtobuf,
        }
    }

    /// Whether its messages are numbered and kept for replay.
    pub(crate) fn is_reliable(self) -> bool {
        matches!(
            self,
            Self::ReliableJson
                | Self::ReliableProtobuf
                | Self::DeflatedReliableJson
                | Self::DeflatedReliableProtobuf
        )
    }

    /// Whether its clients can inflate.
    pub(crate) fn is_deflated(self) -> bool {
        self as usize >= Self::UNDEFLATED
    }

    /// The format of clients that cannot inflate and otherwise speak the same.
    pub(crate) fn undeflated(self) -> Self {
        Self::ALL[self as usize % Self::UNDEFLATED]
    }

    /// The format of clients that can inflate and otherwise speak the same.
    pub(crate) fn deflated(self) -> Self {
        Self::ALL[self as usize % Self::UNDEFLATED + Self::UNDEFLATED]
    }

    /// How its messages are written; raw clients get payloads only.
    pub(crate) fn encoding(self) -> Option<Encoding> {
        match self.undeflated() {
            Self::Json | Self::ReliableJson => Some(Encoding::Json),
            Self::Protobuf | Self::ReliableProtobuf => Some(Encoding::Protobuf),
            _ => None,
        }
    }
}

/// A set of formats: most groups have members of one, and walking the others for each of them would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Formats(u16);

impl Formats {
    pub(crate) fn insert(&mut self, format: Format) {
        self.0 |= 1 << format as u16;
    }

    pub(crate) fn remove(&mut self, format: Format) {
        self.0 &= !(1 << format as u16);
    }

    pub(crate) fn contains(self, format: Format) -> bool {
        self.0 & 1 << format as u16 != 0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With the formats that reliable messages are encoded in before they are deflated.
    pub(crate) fn with_undeflated(self) -> Self {
        const DEFLATED: u16 =
            1 << Format::DeflatedReliableJson as u16 | 1 << Format::DeflatedReliableProtobuf as u16;
        Self(self.0 | (self.0 & DEFLATED) >> Format::UNDEFLATED)
    }

    /// They, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Format> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let format = *Format::ALL.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(format)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_stand_in_their_order() {
        for (index, format) in Format::ALL.into_iter().enumerate() {
            assert_eq!(format as usize, index);
            assert_eq!(Format::of(format.subprotocol(), format.is_deflated()), format);
            assert_eq!(format.undeflated(), Format::of(format.subprotocol(), false));
            assert_eq!(format.deflated(), Format::of(format.subprotocol(), true));
            assert_eq!(format.undeflated().encoding(), format.encoding());
            assert_eq!(format.is_reliable(), format.subprotocol().is_reliable());
            let mut formats = Formats::default();
            formats.insert(format);
            assert!(formats.contains(format) && formats.iter().eq([format]));
            let encoded = formats.with_undeflated();
            assert_eq!(encoded.contains(format.undeflated()), format.is_reliable() || !format.is_deflated());
            assert!(encoded.contains(format));
            formats.remove(format);
            assert_eq!(formats, Formats::default());
            assert!(formats.union(encoded) == encoded && formats.iter().next().is_none());
        }
    }
}
