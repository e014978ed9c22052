//! Data-plane REST calls as values (`rest-api` §1, §2).

pub mod body;
pub mod error;
pub mod filter;
pub mod filters;
pub mod group_change;
pub mod page;
pub mod query;
pub mod route;

pub use body::{Charset, Payload, payload, payload_type};
pub use error::{ErrorBody, ErrorCode};
pub use filter::Filter;
pub use filters::Filters;
pub use group_change::GroupChange;
pub use page::Page;
pub use route::{RouteError, route};

use crate::auth::role::Action;
use crate::name::{GroupName, HubName, UserId};

/// A routed call: which hub, what to do. Bodies are read later, by the operation's content rules.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// HEAD or GET `/api/health`.
    Health,
    /// Anything under `/api/hubs/{hub}`.
    Hub {
        /// The hub.
        hub: HubName,
        /// What to do there.
        operation: Operation,
    },
    /// POST `:addToGroups`, `:removeFromGroups`: the operation is in the body ([`group_change::read`]).
    ChangeGroups {
        /// The hub.
        hub: HubName,
        /// Which way.
        change: GroupChange,
    },
}

/// Whom a send or a close is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Every connection of the hub.
    All,
    /// The members of a group.
    Group(GroupName<'static>),
    /// The connections of a user.
    User(UserId),
    /// One connection, by its public id.
    Connection(Box<str>),
}

/// What a connection may do to one group, or to all of them (`rest-api` §2.4).
#[derive(Debug, Clone, PartialEq)]
pub struct Permission {
    /// Whose; always [`Target::Connection`].
    pub connection: Target,
    /// To do what.
    pub action: Action,
    /// To which group; `None`: to all.
    pub group: Option<GroupName<'static>>,
}

/// One data-plane operation (`rest-api` §2).
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Send the body to `target`; answered 202.
    Send {
        /// Receivers.
        target: Target,
        /// Connection ids that do not get it.
        excluded: Box<[Box<str>]>,
        /// Which of the receivers get it; all without one.
        filter: Option<Filter>,
        /// Seconds after which it is not worth delivering any more; 0: never.
        ttl_seconds: u32,
    },
    /// Close connections; answered 204.
    Close {
        /// Whose.
        target: Target,
        /// Connection ids that stay.
        excluded: Box<[Box<str>]>,
        /// Told to the clients.
        reason: Option<Box<str>>,
    },
    /// Whether there is such a connection, group member or user connection: 200 or 404.
    Exists {
        /// Of whom; never [`Target::All`].
        target: Target,
    },
    /// Put a connection or a user's current connections into a group: 200, 404 when there is none, 409 when one of
    /// them is in too many.
    AddToGroup {
        /// [`Target::Connection`] or [`Target::User`].
        member: Target,
        /// The group.
        group: GroupName<'static>,
    },
    /// Take a connection or a user's connections out of a group: 204.
    RemoveFromGroup {
        /// [`Target::Connection`] or [`Target::User`].
        member: Target,
        /// The group.
        group: GroupName<'static>,
    },
    /// Take a connection or a user's connections out of all groups: 204.
    RemoveFromAllGroups {
        /// [`Target::Connection`] or [`Target::User`].
        member: Target,
    },
    /// Put all connections that match into groups, or take them out: 200.
    ChangeGroups {
        /// Which way.
        change: GroupChange,
        /// Which groups: at least one, each once.
        groups: Box<[GroupName<'static>]>,
        /// Which connections; all without one.
        filter: Option<Filter>,
    },
    /// List a group's members: 200.
    ListMembers {
        /// The group.
        group: GroupName<'static>,
        /// Which part of the list.
        page: Page,
    },
    /// Allow a connection something: 200, 404 when there is no such connection, 409 when it has too many rules.
    Grant(Permission),
    /// Forbid it: 204, 409 when the connection has too many rules.
    Revoke(Permission),
    /// Whether it is allowed: 200 or 404.
    Check(Permission),
    /// Make a client token: 200.
    GenerateToken(GenerateToken),
    /// Known, answered 501: not built.
    NotYet {
        /// What it is called in `rest-api` §2.
        name: &'static str,
    },
}

impl Operation {
    /// A send to everyone in `target`.
    pub fn send(target: Target) -> Self {
        Self::Send { target, excluded: Box::default(), filter: None, ttl_seconds: 0 }
    }
}

/// Parameters of `:generateToken` (`rest-api` §3.4).
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateToken {
    /// `sub`.
    pub user: Option<UserId>,
    /// `role`, as given.
    pub roles: Box<[Box<str>]>,
    /// `webpubsub.group`.
    pub groups: Box<[GroupName<'static>]>,
    /// Life in minutes, at least 1; 60 by default.
    pub minutes_to_expire: u32,
    /// Which kind of client it is for.
    pub client_type: ClientType,
}

/// Which client endpoint a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientType {
    /// `/client/hubs/{hub}`.
    Default,
    /// `/clients/mqtt/hubs/{hub}`.
    Mqtt,
    /// `/clients/socketio/hubs/{hub}`.
    SocketIo,
}

impl ClientType {
    /// The path that tokens of this type name and clients connect to.
    pub fn path(self, hub: &HubName) -> String {
        let hub = hub.as_str();
        match self {
            Self::Default => format!("/client/hubs/{hub}"),
            Self::Mqtt => format!("/clients/mqtt/hubs/{hub}"),
            Self::SocketIo => format!("/clients/socketio/hubs/{hub}"),
        }
    }
}
