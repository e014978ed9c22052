//! One publication travelling between cores: who it is for and what it carries.

use crate::ConnectionId;
use bytes::Bytes;
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::{Data, DataType, Form};
use std::sync::Arc;

/// A publication, immutable; clones share everything.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Whom it is for.
    pub target: EnvelopeTarget,
    /// Connections of the target that do not get it.
    pub excluded: Option<Arc<[ConnectionId]>>,
    data_type: DataType,
    form: Form,
    payload: Bytes,
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
    pub fn new(target: EnvelopeTarget, excluded: Option<Arc<[ConnectionId]>>, data: Data<'_>) -> Self {
        Self {
            target,
            excluded,
            data_type: data.data_type(),
            form: data.form(),
            payload: Bytes::copy_from_slice(data.bytes()),
        }
    }

    /// The payload.
    pub fn data(&self) -> Data<'_> {
        Data::from_parts(self.data_type, self.form, &self.payload)
    }

    /// What it weighs in a batch, in bytes.
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }
}
