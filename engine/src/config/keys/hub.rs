//! What may differ from hub to hub.

use super::events::{EventHandler, EventListener, HANDLERS_MAX, LISTENERS_MAX, OnUserEventFailure};
use super::{ANY, Key, Section, Shape, Sub, Unfit};
use crate::config::value::{Raw, Setting};
use ringhub_protocol::origin::OriginPattern;
use std::ops::RangeInclusive;
use std::path::PathBuf;

section! {
    /// One section for each hub that differs from the defaults; a hub with no section exists with these.
    Hub in "hubs.NAME" {
        /// Whether clients without a token may connect (with no user, roles or groups).
        anonymous_connect_policy: AnonymousPolicy = AnonymousPolicy::Deny, ANY;
        /// Seconds between WebSocket pings to a client.
        websocket_keepalive_seconds: u64 = 20, 1..=120;
        /// Origins of web pages whose browsers may connect, such as `https://app.example.com`, or
        /// `https://*.example.com` for every host below; others get 403. Without any, every page may. Clients that
        /// are no browsers name no origin and are not asked.
        allowed_origins: Vec<OriginPattern> = Vec::new(), 0..=100;
        /// Connections of the hub over all cores, reliable sessions without a socket included; one more is answered
        /// 429. 0 for no bound of its own.
        connections_max: u64 = 0, 0..=100_000_000;
        /// Seconds a connection may last; then it is closed and the client has to connect anew. 0 for no bound.
        connection_lifetime_seconds: u64 = 0, 0..=604_800;
        /// Whether messages are compressed for clients that offer permessage-deflate (RFC 7692), as browsers do: once
        /// for all clients that speak the same, and on their way here if the client likes. Nothing is kept between
        /// messages. A message in which a secret stands beside what others chose tells by its length how much they
        /// have in common: leave it off for such.
        compression: bool = false, ANY;
        /// Bytes from which on a message is compressed; shorter ones, and the server's own words, are sent as they are.
        compression_bytes_min: u64 = 512, 0..=(1 << 20);
        /// What becomes of a client with a subprotocol when nobody handles an event of it, or its handler fails, and it
        /// asked for no acknowledgement. `log`: it stays, and is told nothing. `close`: it is told `disconnected` and
        /// closed with 1011. A raw client is always closed with 1011; who asked for an acknowledgement gets one that
        /// says it failed, and stays.
        on_user_event_failure: OnUserEventFailure = OnUserEventFailure::Log, ANY;
        /// Events of one connection that wait while one is being handled; at so many, or at
        /// `limits.message_bytes_max` bytes of them, nothing more is read from its socket until half of them are gone.
        events_queued_max: u64 = 16, 1..=10_000;
    }
    tables {
        reliable: Reliable;
    }
    lists {
        event_handlers: EventHandler, HANDLERS_MAX;
        event_listeners: EventListener, LISTENERS_MAX;
    }
}

section! {
    /// What a reliable client of the hub can rely on.
    Reliable in "hubs.NAME.reliable" {
        /// Seconds a session waits for its client after the socket is lost; then it ends.
        recovery_window_seconds: u64 = 30, 1..=3600;
        /// Seconds of slack added before a session really ends.
        recovery_grace_seconds: u64 = 2, 0..=3600;
        /// Unacknowledged messages kept for a session; one more closes it with 1008. Clients acknowledge
        /// about once a second, so this is also a bound on messages a second.
        buffer_messages: u64 = 10_000, 1..=10_000_000;
        /// Their bytes; more closes with 1008.
        buffer_bytes: u64 = 16 << 20, 1024..=(4 << 30);
    }
}

choice! {
    /// Whether clients without a token may connect.
    AnonymousPolicy {
        /// They may, with no user, roles or groups.
        Allow = "allow",
        /// They get 401.
        Deny = "deny",
    }
}
