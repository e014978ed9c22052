//! Who may come in: the question an upgrade asks before its 101 (`client-protocols` §1.3, §2, §6.3).

use crate::admission::Counted;
use ringhub_hub::ConnectionId;
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::Subprotocol;
use ringhub_protocol::rest::error::ErrorBody;
use std::net::IpAddr;
use std::sync::Arc;

/// The parts of an upgrade request that decide about it; the head they come from passed the strict check.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UpgradeRequest<'a> {
    /// The request target as sent: path and query.
    pub(crate) target: &'a str,
    /// The `Host` header.
    pub(crate) host: &'a str,
    /// The `Authorization` header.
    pub(crate) authorization: Option<&'a str>,
    /// The host the client named to a trusted proxy.
    pub(crate) forwarded_host: Option<&'a str>,
    /// The `Origin` header of a browser; empty if there are several or it is no text.
    pub(crate) origin: Option<&'a str>,
    /// Where the client is, behind trusted proxies.
    pub(crate) address: Option<IpAddr>,
    /// The offered subprotocols, in order, as the client spelled them.
    pub(crate) subprotocols: &'a [&'a str],
}

/// Answers upgrades. One for all cores.
pub(crate) trait Gate: Send + Sync {
    /// Decides about one upgrade at `now_unix` (seconds since 1970).
    fn admit(&self, now_unix: u64, request: &UpgradeRequest<'_>) -> Admission;

    /// The token a reliable client shows to come back for its session (design §3, Identity).
    fn reconnection_token(&self, hub: &HubName, id: &ConnectionId) -> String;
}

/// What is to be done with an upgrade. `echoed` is the value of `Sec-WebSocket-Protocol` in the 101, spelled
/// as the client did.
#[derive(Debug)]
pub(crate) enum Admission {
    /// A new client.
    Connect(Box<Admitted>),
    /// A client comes back for its session, with a good reconnection token.
    Recover {
        /// The hub.
        hub: HubName,
        /// The session.
        id: ConnectionId,
        /// What the client offered; the session must speak it.
        subprotocol: Subprotocol,
        /// See above.
        echoed: Option<Box<str>>,
    },
    /// A recovery that cannot be: answered 101, then closed with 1008 (`client-protocols` §6.3).
    RecoverBad {
        /// See above.
        echoed: Option<Box<str>>,
    },
    /// Answered with the status, headers and body of an error (`rest-api` §1.5).
    Refuse(ErrorBody),
}

/// A new client's facts.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The hub.
    pub(crate) hub: HubName,
    /// What it speaks.
    pub(crate) subprotocol: Subprotocol,
    /// `Sec-WebSocket-Protocol` of the 101.
    pub(crate) echoed: Option<Box<str>>,
    /// `sub` of the token.
    pub(crate) user: Option<UserId>,
    /// `role` of the token.
    pub(crate) roles: Vec<Box<str>>,
    /// `webpubsub.group` of the token.
    pub(crate) groups: Vec<GroupName<'static>>,
    /// Raw clients in `sendToGroup` mode: the group, and whether the sender is left out.
    pub(crate) raw_group: Option<(GroupName<'static>, bool)>,
    /// Where it is.
    pub(crate) address: Option<IpAddr>,
    /// What counts it, if anything does.
    pub(crate) pass: Option<Arc<Counted>>,
}
