//! What applications are told of a hub and what they answer: CloudEvents over HTTP, as values
//! (`event-handlers` §1–6).
//!
//! [`EventFilter`] says who wants to hear what, [`UrlTemplate`] where it is sent, [`Attributes`] what is said with
//! every event, [`connect`] and [`answer`] what is in the bodies. No I/O, no clock, no keys: signatures are made by
//! who holds the keys.

pub mod answer;
pub mod body;
pub mod cloudevents;
pub mod connect;
pub mod filter;
pub mod template;

pub use answer::{Acceptance, InvalidAnswer, Message, connect_answer, user_answer};
pub use cloudevents::Attributes;
pub use connect::{ClientCertificate, ConnectRequest};
pub use filter::{EventFilter, GroupPatterns, Presence, SystemEvents, UserEvents};
pub use template::{InvalidTemplate, SecretSource, UrlTemplate};

/// What happened, as filters see it and as it is named on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A client is about to connect; the handler decides.
    Connect,
    /// A client has connected.
    Connected,
    /// A connection ended for good.
    Disconnected,
    /// A client sent this event.
    User(&'a str),
    /// A connection joined this group.
    Joined(&'a str),
    /// A connection left this group.
    Left(&'a str),
}

impl<'a> Subject<'a> {
    /// `{event}` of a template and `ce-eventName` (§1.1, §3).
    pub fn name(self) -> &'a str {
        match self {
            Self::Connect => "connect",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::User(name) => name,
            Self::Joined(_) => "joined",
            Self::Left(_) => "left",
        }
    }
}

/// Appends a byte as `%XX` (RFC 3986 §2.1).
fn push_escape(text: &mut String, byte: u8) {
    let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble & 15)]);
    text.extend(['%', digit(byte >> 4), digit(byte)]);
}
