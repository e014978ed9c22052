//! Every bound of the hub in one place. What happens at each is said here; each has a counter in
//! [`crate::hub::Counters`] and a test that reaches it.

/// Bounds of one hub, from its configuration.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a reliable session waits for its client, in milliseconds; then it ends.
    pub recovery_window_ms: u64,
    /// Slack added to it before the session really ends, in milliseconds.
    pub recovery_grace_ms: u64,
    /// Unacknowledged messages a reliable session keeps; one more closes it with 1008.
    pub replay_messages_max: u32,
    /// Their bytes; one more closes the session with 1008.
    pub replay_bytes_max: usize,
    /// Groups one connection can be in; joining one more is refused with an ack error.
    pub groups_per_connection_max: usize,
    /// Successful ack ids a connection remembers; the oldest is forgotten.
    pub ack_ids_max: u32,
    /// How long a connection may last, in milliseconds; then it is closed for good. 0: as long as it likes.
    pub lifetime_ms: u64,
    /// Connections of this hub on this core; one more is refused with 503.
    pub connections_max: usize,
    /// Most bytes of control messages (acks, pongs) kept for a reliable socket that does not take them; more closes
    /// the session with 1008, as too many unacknowledged messages do.
    pub control_bytes_max: usize,
    /// Single groups a connection can have rules for, per action: more among its roles are ignored, one more by
    /// REST is answered 409.
    pub permission_literals_max: usize,
    /// Patterns a connection's roles can have per action; the rest is ignored.
    pub permission_patterns_max: usize,
    /// Events of one connection that wait behind the one that is asked about; then nothing more is read from it
    /// until half of them are gone.
    pub events_waiting_max: usize,
    /// Their bytes; at more, the same.
    pub events_waiting_bytes_max: usize,
    /// What clients that left said and nobody was asked about yet, of all connections of this hub on this core, in
    /// bytes. What one more leaves behind over that is dropped; its end is told all the same.
    pub departed_bytes_max: usize,
    /// Messages shorter than this, in bytes, are not deflated for clients that could inflate them.
    pub deflate_bytes_min: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recovery_window_ms: 30_000,
            recovery_grace_ms: 2_000,
            replay_messages_max: 10_000,
            replay_bytes_max: 16 << 20,
            groups_per_connection_max: 10_000,
            ack_ids_max: 1_000,
            lifetime_ms: 0,
            connections_max: 1_000_000,
            control_bytes_max: 64 << 10,
            permission_literals_max: 1_000,
            permission_patterns_max: 10,
            events_waiting_max: 16,
            events_waiting_bytes_max: 1 << 20,
            departed_bytes_max: 64 << 20,
            deflate_bytes_min: 512,
        }
    }
}
