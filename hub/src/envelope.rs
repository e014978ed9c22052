//! One publication travelling between cores: who it is for and what it carries.

use crate::{ConnectionId, Time};
use bytes::Bytes;
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::{Data, DataType, Form, Metadata};
use ringhub_protocol::rest::Filter;
use std::sync::Arc;

/// What a publication carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Content<'a> {
    /// The payload.
    pub data: Data<'a>,
    /// Travels with it.
    pub metadata: Option<&'a Metadata>,
    /// From then on it is not worth delivering any more.
    pub until: Option<Time>,
}

impl<'a> From<Data<'a>> for Content<'a> {
    fn from(data: Data<'a>) -> Self {
        Self { data, metadata: None, until: None }
    }
}

/// Whom a publication is for, apart from what it carries.
#[derive(Debug, Clone)]
pub struct Audience {
    /// Whom it is for.
    pub target: EnvelopeTarget,
    /// Connections of the target that do not get it.
    pub excluded: Option<Arc<[ConnectionId]>>,
    /// Which of the target's connections get it; all without one.
    pub filter: Option<Filter>,
}

impl From<EnvelopeTarget> for Audience {
    fn from(target: EnvelopeTarget) -> Self {
        Self { target, excluded: None, filter: None }
    }
}

/// A publication, immutable; clones share everything.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Whom it is for.
    pub audience: Audience,
    data_type: DataType,
    form: Form,
    payload: Bytes,
    metadata: Option<Metadata>,
    until: Option<Time>,
}

/// Whom an envelope is for, on the core it reaches.
#[derive(Debug, Clone)]
pub enum EnvelopeTarget {
    /// Everyone.
    All,
    /// A group's members, told the publishing client's user.
    Group(Arc<str>, Option<Arc<str>>),
    /// A user's connections.
    User(UserId),
    /// One connection.
    Connection(ConnectionId),
}

impl Envelope {
    /// Copies the payload once, so that every core can share it.
    pub fn new(audience: impl Into<Audience>, content: Content<'_>) -> Self {
        let Content { data, metadata, until } = content;
        Self {
            audience: audience.into(),
            data_type: data.data_type(),
            form: data.form(),
            payload: Bytes::copy_from_slice(data.bytes()),
            metadata: metadata.cloned(),
            until,
        }
    }

    /// What it carries.
    pub fn content(&self) -> Content<'_> {
        let data = Data::from_parts(self.data_type, self.form, &self.payload);
        Content { data, metadata: self.metadata.as_ref(), until: self.until }
    }

    /// What it weighs in a batch, in bytes.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.metadata.as_ref().map_or(0, Metadata::bytes)
    }
}
