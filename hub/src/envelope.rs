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
    /// Who of them; hardly any publication chooses, and what it costs to carry envelopes about is their size.
    choice: Option<Arc<Choice>>,
}

#[derive(Debug)]
struct Choice {
    /// Sorted.
    excluded: Box<[ConnectionId]>,
    filter: Option<Filter>,
}

impl Audience {
    /// Those of `target` that are not among `excluded` and that `filter`, if there is one, holds for.
    pub fn new(target: EnvelopeTarget, mut excluded: Vec<ConnectionId>, filter: Option<Filter>) -> Self {
        excluded.sort_unstable();
        let chooses = !excluded.is_empty() || filter.is_some();
        Self { target, choice: chooses.then(|| Arc::new(Choice { excluded: excluded.into(), filter })) }
    }

    /// Connections of the target that do not get it, sorted.
    pub fn excluded(&self) -> &[ConnectionId] {
        self.choice.as_ref().map_or(&[], |choice| &choice.excluded)
    }

    /// Which of the target's connections get it; all without one.
    pub fn filter(&self) -> Option<&Filter> {
        self.choice.as_ref()?.filter.as_ref()
    }
}

impl From<EnvelopeTarget> for Audience {
    fn from(target: EnvelopeTarget) -> Self {
        Self { target, choice: None }
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
    /// What hardly any has.
    extras: Option<Arc<Extras>>,
}

#[derive(Debug)]
struct Extras {
    metadata: Option<Metadata>,
    until: Option<Time>,
}

// A batch of the mesh is made of these.
const _: () = assert!(size_of::<Envelope>() <= 112);

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
            extras: (metadata.is_some() || until.is_some())
                .then(|| Arc::new(Extras { metadata: metadata.cloned(), until })),
        }
    }

    /// What it carries.
    pub fn content(&self) -> Content<'_> {
        let data = Data::from_parts(self.data_type, self.form, &self.payload);
        let extras = self.extras.as_deref();
        Content {
            data,
            metadata: extras.and_then(|extras| extras.metadata.as_ref()),
            until: extras.and_then(|extras| extras.until),
        }
    }

    /// What it weighs in a batch, in bytes.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.content().metadata.map_or(0, Metadata::bytes)
    }
}
