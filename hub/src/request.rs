//! Requests of clients: joining, leaving, publishing, and their acks.

use crate::connection::Formats;
use crate::conversation::Purpose;
use crate::effect::CloseCategory;
use crate::encoding::Told;
use crate::envelope::{Content, EnvelopeTarget};
use crate::hub::Hub;
use crate::interest::Waiter;
use crate::lifecycle::Ending;
use crate::{ConnectionKey, Effect, Effects, Envelope, MeshItem, Time};
use ringhub_protocol::auth::role::Action;
use ringhub_protocol::name::{GroupName, UserId};
use ringhub_protocol::pubsub::{AckError, ClientMessage, Data, Sender};
use ringhub_protocol::ws::CloseCode;

/// What is said to whoever is refused for that.
pub const SHORT_OF_MEMORY: &str = "The server is short of memory.";

impl Hub {
    pub(crate) fn message(
        &mut self,
        now: Time,
        slot: u32,
        message: ClientMessage<'_>,
        effects: &mut Effects,
    ) {
        match message {
            ClientMessage::JoinGroup { group, ack_id } => {
                if self.repeated(slot, ack_id) || self.denied(slot, Action::JoinLeaveGroup, &group, ack_id) {
                    return;
                }
                if self.is_short_of_memory
                    && !self.is_member(slot, group.as_str())
                    && self.refused_for_memory(slot, ack_id)
                {
                    return;
                }
                let index = self.group(group.as_str());
                if !self.may_join_one_more(slot, index) {
                    self.counters.groups_refused += 1;
                    self.release(index, effects);
                    return self.nack(
                        slot,
                        ack_id,
                        AckError::BadRequest,
                        "The connection is in too many groups.",
                    );
                }
                self.join(slot, index, effects);
                let key = ConnectionKey { slot, generation: self.connections[slot as usize].generation };
                if self.announce(index, Waiter::Ack(key, ack_id), effects).is_none() {
                    self.ack(slot, ack_id);
                }
            }
            ClientMessage::LeaveGroup { group, ack_id } => {
                if self.repeated(slot, ack_id) || self.denied(slot, Action::JoinLeaveGroup, &group, ack_id) {
                    return;
                }
                if let Some(&index) = self.group_index.get(group.as_str()) {
                    self.leave(slot, index, effects);
                }
                self.ack(slot, ack_id);
            }
            ClientMessage::SendToGroup { group, ack_id, no_echo, data, metadata, ttl_seconds } => {
                if self.repeated(slot, ack_id) || self.denied(slot, Action::SendToGroup, &group, ack_id) {
                    return;
                }
                if self.refused_for_memory(slot, ack_id) {
                    return;
                }
                let until = now.after_ttl(ttl_seconds);
                let content = Content { data, metadata: metadata.as_ref(), until };
                self.publish_from(slot, group.as_str(), no_echo, content, effects);
                self.ack(slot, ack_id);
            }
            ClientMessage::Event { event, ack_id, data, metadata } => {
                if !self.repeated(slot, ack_id) && !self.refused_for_memory(slot, ack_id) {
                    self.user_event(slot, Purpose::Event(ack_id), event.as_str(), data, metadata, effects);
                }
            }
            ClientMessage::SequenceAck { sequence_id } => {
                if let Some(session) = self.session(slot) {
                    session.acknowledge(sequence_id);
                }
            }
            ClientMessage::Ping => self.tell(slot, &Told::Pong),
            ClientMessage::Invoke { invocation_id, event: Some(_), .. } if self.is_short_of_memory => {
                self.counters.refused_for_memory += 1;
                let (error, message) = (AckError::InternalServerError, SHORT_OF_MEMORY);
                self.tell(slot, &Told::InvokeRefused { invocation_id: &invocation_id, error, message });
            }
            ClientMessage::Invoke { invocation_id, event: Some(event), data, metadata } => {
                let purpose = Purpose::Invoke(invocation_id.into());
                self.user_event(slot, purpose, event.as_str(), data, metadata, effects);
            }
            ClientMessage::Invoke { invocation_id, event: None, .. } => {
                let (error, message) = (AckError::BadRequest, "Only events can be invoked.");
                self.tell(slot, &Told::InvokeRefused { invocation_id: &invocation_id, error, message });
            }
            ClientMessage::CancelInvocation { invocation_id } => {
                self.cancel_invocation(slot, &invocation_id, effects);
            }
            ClientMessage::Stream { stream_id } => {
                let (name, message) = ("BadRequest", "Streams are not supported.");
                self.tell(slot, &Told::StreamClosed { stream_id: &stream_id, name, message });
            }
            ClientMessage::GroupState { ack_id } => {
                self.nack(slot, ack_id, AckError::BadRequest, "Group state is not supported.");
            }
        }
    }

    pub(crate) fn raw(&mut self, slot: u32, data: Data<'_>, effects: &mut Effects) {
        let Some((group, no_echo)) = self.connections[slot as usize].raw_group.as_deref().cloned() else {
            return self.user_event(slot, Purpose::Raw, "message", data, None, effects);
        };
        if !self.connections[slot as usize].permissions.allows(Action::SendToGroup, group.as_str()) {
            self.counters.forbidden += 1;
            let reason = "The client does not have permission to send to the group.";
            let category = CloseCategory::Unauthorized;
            return self.end(slot, Ending { code: CloseCode::POLICY_VIOLATION, reason, category }, effects);
        }
        self.publish_from(slot, group.as_str(), no_echo, data.into(), effects);
    }

    /// A client's publication: to the members here, and once to each core that has others.
    pub(crate) fn publish_from(
        &mut self,
        slot: u32,
        group: &str,
        no_echo: bool,
        content: Content<'_>,
        effects: &mut Effects,
    ) {
        let user = self.connections[slot as usize].user.clone();
        let sender = Sender::Group { group, user: user.as_ref().map(UserId::as_str) };
        if let Some(&index) = self.group_index.get(group) {
            let Self { turn, groups, connections, .. } = self;
            let group = &mut groups[index as usize];
            // It has members here.
            if group.formats != Formats::default() {
                let stream = turn.publish(index, group, sender, content);
                if no_echo && connections[slot as usize].membership(index).is_ok() {
                    stream.excluded.push((slot, stream.entries.len() as u32 - 1));
                }
            }
        }
        let cores = self.directory.cores(group);
        if !cores.is_empty() {
            let user = user.map(|user| user.as_str().into());
            let envelope = Envelope::new(EnvelopeTarget::Group(group.into(), user), content);
            for core in cores.iter() {
                effects.push(Effect::Forward(core, MeshItem::Publish(envelope.clone(), None)));
            }
        }
    }

    /// Whether the request has succeeded before; it then gets its `Duplicate`.
    pub(crate) fn repeated(&mut self, slot: u32, ack_id: Option<u64>) -> bool {
        let Some(id) = ack_id.filter(|&id| self.connections[slot as usize].acks.contains(id)) else {
            return false;
        };
        self.counters.duplicates += 1;
        self.nack(
            slot,
            ack_id,
            AckError::Duplicate,
            &format!("Message with ack-id: {id} has been processed"),
        );
        true
    }

    /// Whether a request that takes memory is refused because that is short, as it can be if it has an ack id.
    fn refused_for_memory(&mut self, slot: u32, ack_id: Option<u64>) -> bool {
        let is_refused = self.is_short_of_memory && ack_id.is_some();
        if is_refused {
            self.counters.refused_for_memory += 1;
            self.nack(slot, ack_id, AckError::InternalServerError, SHORT_OF_MEMORY);
        }
        is_refused
    }

    pub(crate) fn denied(
        &mut self,
        slot: u32,
        action: Action,
        group: &GroupName<'_>,
        ack_id: Option<u64>,
    ) -> bool {
        if self.connections[slot as usize].permissions.allows(action, group.as_str()) {
            return false;
        }
        self.counters.forbidden += 1;
        if ack_id.is_some() {
            let verb = match action {
                Action::JoinLeaveGroup => "join or leave",
                Action::SendToGroup => "send to",
            };
            let message =
                format!("The client does not have permission to {verb} group '{}'.", group.as_str());
            self.nack(slot, ack_id, AckError::Forbidden, &message);
        }
        true
    }

    /// The request succeeded; its effects are in the log already.
    pub(crate) fn ack(&mut self, slot: u32, ack_id: Option<u64>) {
        let Some(id) = ack_id else { return };
        if self.repeated(slot, ack_id) {
            return;
        }
        self.connections[slot as usize].acks.insert(id, self.limits.ack_ids_max);
        self.tell(slot, &Told::Ack(id, Ok(())));
    }

    pub(crate) fn nack(&mut self, slot: u32, ack_id: Option<u64>, error: AckError, message: &str) {
        if let Some(id) = ack_id {
            self.tell(slot, &Told::Ack(id, Err((error, message))));
        }
    }

    /// Logs what the server itself has to say to a PubSub client; raw clients are told nothing.
    pub(crate) fn tell(&mut self, slot: u32, told: &Told<'_>) {
        if let Some(encoding) = self.connections[slot as usize].format.encoding() {
            self.turn.frames(slot, |out| encoding.tell(out, told));
        }
    }
}
