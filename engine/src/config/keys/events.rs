//! Who hears a hub's events: handlers, which answer, and listeners, which do not (`event-handlers` §1, §5, §9).

use super::{ANY, Key, SECONDS, Section, Shape, Sub, Unfit};
use crate::config::secrets::{SecretText, Template};
use crate::config::value::{PresenceEvents, Raw, Setting};
use hyper::header::HeaderValue;
use ringhub_protocol::events::{GroupPatterns, SystemEvents, UserEvents};
use ringhub_relay::listener::Destination;
use ringhub_relay::oidc::IssuerSettings;
use ringhub_relay::upstream::{HandlerAuth, HttpVersion};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Most handlers of one hub. Each event asks one after the other whether it wants it.
pub(super) const HANDLERS_MAX: usize = 64;
/// Most listeners of all hubs together.
pub(crate) const LISTENERS_MAX: usize = 10;

/// Bytes that may wait.
const BYTES: RangeInclusive<u64> = 1024..=(16 << 30);

section! {
    /// A web application that hears events of the hub and answers them. Of several, the first one that wants an event
    /// gets it, and no other does. How to write one: [event-handlers.md](event-handlers.md).
    EventHandler in "hubs.NAME.event_handlers" {
        /// Where events are sent. `{hub}` and `{event}` stand for the names of both.
        url_template: Option<Template> = None, ANY, "none; it must be given";
        /// The user events it wants; case does not matter.
        user_event_pattern: UserEvents = UserEvents::None, ANY, "none";
        /// The system events it wants. `connect` decides whether a client may come in.
        system_events: SystemEvents = SystemEvents::default(), ANY;
        /// Whether it has to say first that it wants events of this server: by `WebHook-Allowed-Origin` in its answer
        /// to OPTIONS. Off is for applications that answer no OPTIONS and that nobody else can put here.
        validate: bool = true, ANY;
        /// Which HTTP it is spoken to. `auto` is HTTP/2 for `https://` if it offers that, else HTTP/1.1; `2` over
        /// `http://` takes it for granted.
        http: HttpVersion = HttpVersion::Auto, ANY;
        /// Seconds until there must be an answer to a user event, over all attempts; also for events nobody waits
        /// for.
        timeout_seconds: u64 = 100, SECONDS;
        /// The same for `connect`, for which a client waits in its handshake.
        connect_timeout_seconds: u64 = 30, SECONDS;
        /// Seconds before the second attempt, the third and so on, after an answer 408 or 5xx or a fault of the
        /// network. Without any, there is one attempt only.
        retry_delays_seconds: Vec<u64> = vec![1, 3, 5], 0..=3600;
        /// Bytes of an answer's body; an answer with more is a failure.
        answer_bytes_max: u64 = 16 << 20, 1024..=(64 << 20);
        /// Requests at a time.
        concurrency_max: u64 = 256, 1..=100_000;
        /// Events that may wait for one of these; one more fails at once, unless it is `disconnected`.
        queue_max: u64 = 10_000, 0..=10_000_000;
        /// Bytes of the events that wait; more fail at once.
        queue_bytes_max: u64 = 64 << 20, BYTES;
        /// Events in a row that must fail, all attempts over, until it is left alone for a while and events fail
        /// without being sent. 0 for never.
        breaker_failures: u64 = 10, 0..=1_000_000;
        /// Certificate authorities (PEM) that are trusted for it besides the system's.
        ca_file: Option<PathBuf> = None, ANY, "none";
        /// Whether a client that it refuses is told the body of its answer too (the first 4 KiB), not just the status.
        forward_refusals: bool = true, ANY;
        /// Whether `/upstreams` of the admin listener shows bodies of its last calls (the first 4 KiB of each). They
        /// may hold what users say.
        inspect_bodies: bool = false, ANY;
    }
    tables {
        auth: Auth;
        group_presence: GroupPresence;
    }
    checked by handler_is_fit;
}

section! {
    /// How the handler knows this server, besides the signature over the connection's id that every event has.
    Auth in "hubs.NAME.event_handlers.auth" {
        /// Nothing more; a header of one's own; or a bearer token from a token endpoint, by OAuth 2.0's client
        /// credentials.
        kind as "type": AuthKind = AuthKind::None, ANY;
        /// With `type = "header"`: the header's name, such as `x-functions-key`.
        name: Option<String> = None, 1..=256, "none";
        /// With `type = "header"`: its value.
        value: Option<SecretText> = None, ANY, "none";
        /// With `type = "client_credentials"`: the token endpoint, `https://`, or `http://` on loopback.
        token_url: Option<String> = None, 1..=1024, "none";
        /// With `type = "client_credentials"`: who this server is there.
        client_id: Option<String> = None, 1..=1024, "none";
        /// With `type = "client_credentials"`: its secret.
        client_secret: Option<SecretText> = None, ANY, "none";
        /// With `type = "client_credentials"`: the scopes to ask for, with spaces between them.
        scope: Option<String> = None, 1..=1024, "none";
        /// With `type = "client_credentials"`: the resource to ask for (RFC 8707).
        resource: Option<String> = None, 1..=1024, "none";
    }
    checked by auth_is_fit;
}

section! {
    /// Events of connections that join and leave groups, whoever made them. The hosted service has these as a preview.
    GroupPresence in "hubs.NAME.event_handlers.group_presence" {
        /// Which of the two.
        events: PresenceEvents = PresenceEvents::default(), ANY;
        /// Of which groups; without any, of all.
        groups: GroupPatterns = GroupPatterns::default(), 0..=100;
    }
    checked by |presence: &Self| match presence.events {
        PresenceEvents { joined: false, left: false } if presence.groups.iter().next().is_some() => Err(Unfit {
            key: "groups",
            problem: "there is no event that this could be about",
            fix: "Add events = [\"joined\", \"left\"], or remove it.",
        }),
        _ => Ok(()),
    };
}

section! {
    /// Somewhere that events are written to, besides the handlers, one JSON object a line (CloudEvents). All listeners
    /// that want an event get it, and an event that one gets counts as handled. At most 10 over all hubs.
    EventListener in "hubs.NAME.event_listeners" {
        /// The user events it wants; case does not matter.
        user_event_pattern: UserEvents = UserEvents::None, ANY, "none";
        /// The system events it wants: `connected` and `disconnected`. Nobody but a handler hears `connect`.
        system_events: SystemEvents = SystemEvents::default(), ANY;
        /// Where lines are written: the end of a file, which is made if need be, or standard output.
        file: Option<Destination> = None, ANY, "none; it must be given";
        /// Events that may wait to be written; the oldest make room for more and are lost.
        queue_max: u64 = 10_000, 1..=10_000_000;
        /// Their bytes; the oldest make room for more and are lost.
        queue_bytes_max: u64 = 16 << 20, BYTES;
    }
    checked by listener_is_fit;
}

choice! {
    /// How a handler knows this server.
    AuthKind {
        /// By the signature alone.
        None = "none",
        /// By a header.
        Header = "header",
        /// By a bearer token (RFC 6749 §4.4).
        ClientCredentials = "client_credentials",
    }
}

words! {
    HttpVersion {
        Auto = "auto",
        Http1 = "1.1",
        Http2 = "2",
    }
}

choice! {
    /// What becomes of a client with a subprotocol whose event failed without an acknowledgement to say so.
    OnUserEventFailure {
        /// It is not told.
        Log = "log",
        /// It is closed.
        Close = "close",
    }
}

fn unfit(key: &'static str, problem: &'static str, fix: &'static str) -> Result<(), Unfit> {
    Err(Unfit { key, problem, fix })
}

fn handler_is_fit(handler: &EventHandler) -> Result<(), Unfit> {
    let EventHandler { url_template, user_event_pattern, system_events, group_presence, .. } = handler;
    if url_template.is_none() {
        let fix = "Say where it is, such as url_template = \"http://127.0.0.1:3000/eventhandler/{event}\".";
        return unfit("url_template", "is missing", fix);
    }
    let hears_nothing = *user_event_pattern == UserEvents::None
        && *system_events == SystemEvents::default()
        && group_presence.events == PresenceEvents::default();
    if hears_nothing {
        let fix = "Say what it is to hear, such as user_event_pattern = \"*\".";
        return unfit("user_event_pattern", HEARS_NOTHING, fix);
    }
    Ok(())
}

const HEARS_NOTHING: &str = "there is no event that it wants, so it would hear nothing";

fn listener_is_fit(listener: &EventListener) -> Result<(), Unfit> {
    if listener.system_events.connect {
        let fix = "Remove it; a handler can have it, since connect waits for an answer.";
        return unfit("system_events", "\"connect\" is not for listeners", fix);
    }
    if listener.file.is_none() {
        let fix = "Say where lines are written, such as file = \"/var/log/ringhub/events.ndjson\".";
        return unfit("file", "is missing", fix);
    }
    if listener.user_event_pattern == UserEvents::None && listener.system_events == SystemEvents::default() {
        let fix = "Say what it is to hear, such as user_event_pattern = \"*\".";
        return unfit("user_event_pattern", HEARS_NOTHING, fix);
    }
    Ok(())
}

fn auth_is_fit(auth: &Auth) -> Result<(), Unfit> {
    let Auth { kind, name, value, token_url, client_id, client_secret, scope, resource } = auth;
    let of_header = [("name", name.is_some()), ("value", value.is_some())];
    let of_credentials = [
        ("token_url", token_url.is_some()),
        ("client_id", client_id.is_some()),
        ("client_secret", client_secret.is_some()),
    ];
    let optional = [("scope", scope.is_some()), ("resource", resource.is_some())];
    let given =
        |keys: &[(&'static str, bool)]| keys.iter().find(|(_, is_given)| *is_given).map(|(key, _)| *key);
    let missing =
        |keys: &[(&'static str, bool)]| keys.iter().find(|(_, is_given)| !is_given).map(|(key, _)| *key);
    let stray_credentials = given(&of_credentials).or_else(|| given(&optional));
    let needed = match kind {
        AuthKind::None => None,
        AuthKind::Header => missing(&of_header),
        AuthKind::ClientCredentials => missing(&of_credentials),
    };
    if let Some(key) = given(&of_header).filter(|_| *kind != AuthKind::Header) {
        return unfit(key, "goes with type = \"header\" only", "Remove it, or set type = \"header\".");
    }
    if let Some(key) = stray_credentials.filter(|_| *kind != AuthKind::ClientCredentials) {
        let fix = "Remove it, or set type = \"client_credentials\".";
        return unfit(key, "goes with type = \"client_credentials\" only", fix);
    }
    if let Some(key) = needed {
        return unfit(key, "is missing, and its type needs it", "Set it, or remove the table.");
    }
    if name.as_deref().is_some_and(|name| !HandlerAuth::is_free_header(name)) {
        let fix = "Choose another, such as \"x-api-key\" or \"authorization\".";
        return unfit("name", "must be the name of a header that events do not have already", fix);
    }
    if value.as_ref().is_some_and(|value| HeaderValue::from_str(value.expose()).is_err()) {
        return unfit("value", "cannot stand in a header", "Use ASCII without line ends.");
    }
    if token_url.as_deref().is_some_and(|url| !IssuerSettings::is_legal_url(url)) {
        let fix = "Copy it from the issuer's discovery document.";
        return unfit(
            "token_url",
            "must be an https:// URL without query, or an http:// one on loopback",
            fix,
        );
    }
    Ok(())
}
