//! A client of the simulation: what it asked for, what it may expect, what it has seen.

use super::changes::{JOIN, SEND};
use ringhub_hub::{ConnectionId, ConnectionKey, SocketKey, Time, Transport};
use ringhub_protocol::pubsub::Subprotocol;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A byte that a socket took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Byte {
    pub(crate) value: u8,
    /// When.
    pub(crate) taken: Time,
    /// Whether it did not take it at once.
    pub(crate) waited: bool,
}

/// Where a client stands with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    No,
    /// Asked, not acknowledged.
    Joining,
    /// Acknowledged: must get everything published from now on.
    Yes,
    /// Asked to leave: may still get what is under way.
    Leaving,
    /// An application changed it, or this and the client's own request crossed: only what is asked from now on tells.
    Unsure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody on this core yet.
    Away,
    /// The upgrade is under way.
    Connecting,
    Open,
    /// A reliable client whose socket is lost.
    Lost,
}

/// What an ack answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// These may be asked for, so they succeed.
    Join(usize),
    Leave(usize),
    /// Something else, with the name of the error that the ack must have, if it must have one.
    Other(Expected),
}

/// How a request must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Success,
    Error(&'static str),
    Either,
}

impl Asked {
    /// Whose membership it changes.
    pub(crate) fn group(self) -> Option<usize> {
        match self {
            Self::Join(group) | Self::Leave(group) => Some(group),
            Self::Other(_) => None,
        }
    }
}

pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) hub: usize,
    pub(crate) core: usize,
    pub(crate) subprotocol: Subprotocol,
    /// Its roles let it do nothing to this group.
    pub(crate) forbidden: usize,
    pub(crate) phase: Phase,
    incarnation: usize,
    pub(crate) socket: Option<SocketKey>,
    pub(crate) transport: Option<Transport>,
    pub(crate) id: Option<ConnectionId>,
    /// Its connection, or its last one.
    pub(crate) connection: Option<ConnectionKey>,
    pub(crate) groups: Vec<Member>,
    /// Whether it may join and leave, and send to, each group; unknown while an application changes it.
    pub(crate) may: [Vec<Option<bool>>; 2],
    pub(crate) next_ack: u64,
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// Publications it must get, by publisher.
    pub(crate) owed: BTreeMap<usize, BTreeSet<u64>>,
    /// The last publication seen, by publisher.
    pub(crate) seen: BTreeMap<usize, u64>,
    /// Of its own.
    pub(crate) published: u64,
    /// The last sequence id seen.
    pub(crate) sequence: u64,
    pub(crate) acknowledged: u64,
    /// Bytes read, not yet whole frames.
    pub(crate) inbox: VecDeque<Byte>,
    /// Whether the upgrade's answer and `connected` came.
    pub(crate) greeted: u8,
    /// Nothing is read from it for now.
    pub(crate) held: bool,
    /// It reads nothing before this step.
    pub(crate) deaf_until: u64,
    /// It takes deflated messages over its socket.
    pub(crate) inflates: bool,
    /// The last ping its socket was sent, and the last it read.
    pub(crate) pinged: u64,
    pub(crate) heard: u64,
    /// By ping: groups it was taken out of before, so whatever it reads behind that is not theirs.
    pub(crate) fences: Vec<(u64, usize)>,
    /// Invocations that are to be answered, and those it gave up when their answers were on their way.
    pub(crate) invoked: BTreeSet<u64>,
    pub(crate) cancelled: BTreeSet<u64>,
}

impl Client {
    pub(crate) fn new(index: usize, groups: usize) -> Self {
        let subprotocol = match index % 6 {
            0 => Subprotocol::Json,
            1 => Subprotocol::Raw,
            2 | 5 => Subprotocol::ReliableJson,
            3 => Subprotocol::ReliableProtobuf,
            _ => Subprotocol::Protobuf,
        };
        Self {
            index,
            hub: index / 2 % 2,
            may: base_permissions(index % groups, groups),
            connection: None,
            inflates: false,
            pinged: 0,
            heard: 0,
            fences: Vec::new(),
            invoked: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            core: 0,
            subprotocol,
            forbidden: index % groups,
            phase: Phase::Away,
            incarnation: 0,
            socket: None,
            transport: None,
            id: None,
            groups: vec![Member::No; groups],
            next_ack: 0,
            asked: BTreeMap::new(),
            owed: BTreeMap::new(),
            seen: BTreeMap::new(),
            published: 0,
            sequence: 0,
            acknowledged: 0,
            inbox: VecDeque::new(),
            greeted: 0,
            held: false,
            deaf_until: 0,
        }
    }

    /// Order is promised to one connection's publications, not across a client's connections.
    pub(crate) fn publisher(&self) -> usize {
        self.index + 1_000 * self.incarnation
    }

    /// Whether a filter holds for it; `counts` says which members of a group do.
    pub(crate) fn is_chosen(&self, chosen: &str, counts: impl Fn(Member) -> bool) -> bool {
        let is = |id: &str| self.id.is_some_and(|known| known.to_string() == id);
        match chosen.split_once(':') {
            Some(("not", id)) => !is(id),
            Some(("only", id)) => is(id),
            Some(("in", group)) => counts(self.groups[group.parse::<usize>().expect("a group")]),
            _ => match chosen {
                "all" => true,
                "user" => self.has_user(),
                "nouser" => !self.has_user(),
                "raw" => self.subprotocol == Subprotocol::Raw,
                other => panic!("{other}"),
            },
        }
    }

    /// Whether it is sure to be allowed to join and leave, or to send to, the group; `None` if that is not known.
    pub(crate) fn may_join(&self, group: usize) -> Option<bool> {
        self.may[JOIN][group]
    }

    pub(crate) fn may_send(&self, group: usize) -> Option<bool> {
        self.may[SEND][group]
    }

    /// Whether it is user u, or nobody.
    pub(crate) fn has_user(&self) -> bool {
        self.index.is_multiple_of(3)
    }

    /// A new connection: nothing is expected of it.
    pub(crate) fn reset(&mut self) {
        self.phase = Phase::Away;
        self.incarnation += 1;
        (self.socket, self.transport, self.id) = (None, None, None);
        self.groups.fill(Member::No);
        self.may = base_permissions(self.forbidden, self.groups.len());
        self.asked.clear();
        self.owed.clear();
        self.seen.clear();
        (self.sequence, self.acknowledged) = (0, 0);
        self.forget_socket();
    }

    /// What was under way over the socket.
    fn forget_socket(&mut self) {
        self.inbox.clear();
        self.greeted = 0;
        self.held = false;
        (self.pinged, self.heard) = (0, 0);
        self.fences.clear();
        self.invoked.clear();
        self.cancelled.clear();
    }

    /// The socket is gone: what was asked over it may or may not have happened.
    pub(crate) fn lose_socket(&mut self) {
        (self.socket, self.transport) = (None, None);
        self.forget_socket();
        for (_, asked) in std::mem::take(&mut self.asked) {
            if let Asked::Join(group) | Asked::Leave(group) = asked {
                self.groups[group] = Member::Leaving;
            }
        }
    }
}

/// What the roles of its token allow.
fn base_permissions(forbidden: usize, groups: usize) -> [Vec<Option<bool>>; 2] {
    let may: Vec<_> = (0..groups).map(|group| Some(group != forbidden)).collect();
    [may.clone(), may]
}
