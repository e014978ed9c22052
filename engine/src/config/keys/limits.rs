//! Bounds of the whole server.

use super::{Key, SECONDS, Section, Shape, Unfit};
use crate::config::value::{Raw, Setting};
use std::path::PathBuf;

section! {
    /// Bounds of the whole server. Reaching one has the effect that is written here and is counted.
    Limits in "limits" {
        /// Connections of the whole server, shared out evenly among the cores; one more WebSocket is answered 503.
        connections_max: u64 = 1_000_000, 1..=100_000_000;
        /// Bytes of memory the process may hold; more than there is means as without. At more, new clients and REST
        /// sends are answered 503, publications with an ack id `InternalServerError`, other publications are taken more
        /// slowly, and clients for which the most bytes wait are closed with 1008, until it is a sixteenth less. A core
        /// in which more than its equal share of that waits does the same by itself.
        memory_bytes_max: Option<u64> = None, (1 << 20)..=(1 << 50),
            "nine tenths of what the control group may use, or of the machine's memory";
        /// Hubs one core keeps. A connection that would make one more is answered 503, a REST call 429.
        hubs_max: u64 = 1024, 1..=1_000_000;
        /// Bytes of one message from a client, after its fragments are joined; more closes with 1009.
        message_bytes_max: u64 = 1 << 20, 125..=(1 << 30);
        /// Frames one message may come in; more closes with 1009.
        message_fragments_max: u64 = 16_384, 1..=1_000_000;
        /// Bytes of a REST call's body; more is answered 400.
        rest_body_bytes_max: u64 = 1 << 20, 1..=(1 << 30);
        /// Compiled filters each core keeps; the one not used for the longest makes room.
        filters_max: u64 = 256, 0..=100_000;
        /// REST calls a second, shared out evenly among the cores; more are answered 429. 0 for no bound.
        rest_calls_per_second_max: u64 = 0, 0..=10_000_000;
        /// Bytes of a request line with its headers; more is answered 431.
        request_head_bytes_max: u64 = 16 << 10, 1024..=(1 << 20);
        /// Seconds a client has to send a whole request head, from its first byte or, on a new socket, from the
        /// start; then it is answered 408, or closed if it said nothing.
        head_deadline_seconds: u64 = 10, SECONDS;
        /// Seconds a request's body may take before its rate counts.
        body_grace_seconds: u64 = 5, SECONDS;
        /// Bytes a second that a request's body must bring, on average, once the grace is over; one that falls
        /// behind is answered 408.
        body_bytes_per_second_min: u64 = 1024, 1..=(1 << 30);
        /// Seconds a kept-alive HTTP connection may rest between requests, or over taking an answer.
        http_idle_seconds: u64 = 60, SECONDS;
        /// Unsent bytes kept for a plain client that reads too slowly; more closes with 1008. Shared
        /// buffers count once for each client that waits for them.
        outbox_bytes_max: u64 = 1 << 20, (64 << 10)..=(1 << 30);
        /// Bytes of acks and pongs kept for a reliable client that does not take them; more closes with 1008.
        control_bytes_max: u64 = 64 << 10, 4096..=(16 << 20);
        /// Groups one connection can be in; joining one more is refused.
        groups_per_connection_max: u64 = 10_000, 1..=1_000_000;
        /// Successful ack ids remembered per connection, to answer repetitions; the oldest is forgotten.
        ack_ids_max: u64 = 1_000, 1..=1_000_000;
        /// Groups a connection's roles can name literally, per action; more are ignored.
        permission_literals_max: u64 = 1_000, 1..=100_000;
        /// Wildcard patterns among a connection's roles, per action; more are ignored.
        permission_patterns_max: u64 = 10, 1..=1_000;
        /// Pings a client may leave unanswered before it is closed.
        missed_pings_max: u64 = 2, 1..=100;
        /// Seconds a peer may acknowledge, or take, nothing of what is sent to it before its socket is lost to it; a
        /// reliable client can recover its session then. Together with the keep-alive pings of a hub it is what finds
        /// peers that are gone without a word. For clients that come after a change.
        write_deadline_seconds: u64 = 15, SECONDS;
        /// Seconds a client has to answer the server's close frame before its socket is shut.
        close_deadline_seconds: u64 = 5, SECONDS;
        /// Seconds a graceful stop may take; then what is left is cut. What event handlers are told of the ends of
        /// connections has what remains of it, a second at least; listeners' files have ten more.
        stop_deadline_seconds: u64 = 10, SECONDS;
        /// Seconds by which the clocks of token makers may differ from this one.
        clock_skew_seconds: u64 = 300, 0..=3600;
        /// Rows of the admin listener's `/connections` and `/closed`, per core.
        admin_rows_max: u64 = 1_000, 1..=100_000;
    }
}
