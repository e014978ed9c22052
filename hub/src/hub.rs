//! The hub: every pub/sub rule of one core.

use crate::{ConnectionId, CoreId, Effects, Input, Limits, Sink, Time};
use ringhub_protocol::name::{HubName, UserId};
use ringhub_protocol::pubsub::Subprotocol;

/// One hub's partition on one core.
pub struct Hub {}

/// What a hub counts; the engine copies them out at scrape time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections now (reliable sessions without a socket included).
    pub connections: u64,
    /// Sessions now without a socket.
    pub suspended: u64,
    /// Messages of clients and REST calls taken in.
    pub messages_in: u64,
    /// Data messages handed to sockets or replay logs.
    pub messages_out: u64,
    /// Requests refused for a missing role.
    pub forbidden: u64,
    /// Requests answered `Duplicate`.
    pub duplicates: u64,
    /// Events nobody handles.
    pub events_unhandled: u64,
    /// Sessions recovered.
    pub recovered: u64,
    /// Recoveries refused.
    pub recover_refused: u64,
    /// Sessions ended because their replay log was full.
    pub replay_overflow: u64,
    /// Plain clients ended because their outbox was full.
    pub slow_consumers: u64,
    /// Connections refused because the hub is full.
    pub connections_refused: u64,
}

/// One row of the list of connections.
#[derive(Debug, Clone)]
pub struct ConnectionRow {
    /// Its id.
    pub id: ConnectionId,
    /// Its user.
    pub user: Option<UserId>,
    /// What it speaks.
    pub subprotocol: Subprotocol,
    /// Groups it is in.
    pub groups: usize,
    /// Whether it has a socket now.
    pub attached: bool,
    /// When it opened.
    pub opened: Time,
    /// Messages kept for replay.
    pub unacknowledged: u64,
}

impl Hub {
    /// An empty partition of `name` on `core` of `cores`. `reconnection_token` makes the token a reliable
    /// client shows to recover (the engine's MAC; called once per connected or recovered session).
    pub fn new(
        name: HubName,
        core: CoreId,
        cores: u16,
        limits: Limits,
        reconnection_token: Box<dyn Fn(&ConnectionId) -> String>,
    ) -> Self {
        let _ = (name, core, cores, limits, reconnection_token);
        todo!()
    }

    /// Its name.
    pub fn name(&self) -> &HubName {
        todo!()
    }

    /// Feeds one input. Everything to be done as a result is appended to `effects`; deliveries go to the log.
    pub fn handle(&mut self, now: Time, input: Input<'_>, effects: &mut Effects) {
        let _ = (now, input, effects);
        todo!()
    }

    /// When this hub next wants [`Hub::handle_timeout`], if at all.
    pub fn next_timeout(&self) -> Option<Time> {
        todo!()
    }

    /// Runs whatever is due.
    pub fn handle_timeout(&mut self, now: Time, effects: &mut Effects) {
        let _ = (now, effects);
        todo!()
    }

    /// Whether [`Hub::flush`] has anything to do.
    pub fn is_dirty(&self) -> bool {
        todo!()
    }

    /// Ends the turn: walks the receivers once and hands their bytes to `sink`.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        let _ = sink;
        todo!()
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        todo!()
    }

    /// Connections in slot order, at most `max`, from slot `from` on.
    pub fn connections(&self, from: u32, max: usize) -> Vec<ConnectionRow> {
        let _ = (from, max);
        todo!()
    }
}
