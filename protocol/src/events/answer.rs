//! What handlers answer (`event-handlers` §4.1, §4.5).

use crate::name::{GroupName, UserId};
use crate::pubsub::{DataType, Metadata};
use bytes::Bytes;

/// Why an answer cannot be used: a sentence for the operator's log, without payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAnswer(pub &'static str);

/// What a handler says about a client it lets in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acceptance {
    /// Overrides the token's user; `Some(None)` for an empty one.
    pub user: Option<Option<UserId>>,
    /// Replaces the token's groups, unless empty.
    pub groups: Vec<GroupName<'static>>,
    /// Replaces the token's roles.
    pub roles: Option<Vec<Box<str>>>,
    /// The subprotocol, as the handler spells it.
    pub subprotocol: Option<Box<str>>,
}

/// Reads the body of a 2xx to `connect`.
///
/// # Errors
/// When it is not what §4.1 describes.
pub fn connect_answer(body: &[u8]) -> Result<Acceptance, InvalidAnswer> {
    todo!("{body:?}")
}

/// What a handler says to the client. Its bytes are what `data_type` promises.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub data_type: DataType,
    /// In plain form.
    pub bytes: Bytes,
    /// Travels with it.
    pub metadata: Option<Metadata>,
}

/// Reads a 2xx to a user event; `None` if it says nothing to the client. `metadata` are the headers that begin with
/// `x-webpubsub-metadata-`, without that, in order.
///
/// # Errors
/// When it is not what §4.5 describes.
pub fn user_answer<'a>(
    content_type: Option<&str>,
    body: Bytes,
    metadata: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Option<Message>, InvalidAnswer> {
    let _ = metadata;
    todo!("{content_type:?} {body:?}")
}
