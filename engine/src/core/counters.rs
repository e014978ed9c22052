//! What each core counts, and how other threads read it.
//!
//! A counter has one writer, its core, so an increment is a relaxed load and store, not a locked instruction;
//! a reader may see counters of slightly different moments.

use crate::memory::Pressure;
use crate::net::tls::FailureClass;
use ringhub_hub::effect::CloseCategory;
use ringhub_hub::hub::{ConnectionRow, Counters as HubCounters};
use ringhub_hub::{ConnectionId, Outbox, Time};
use ringhub_protocol::name::{HubName, UserId};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the owning core may.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts; only the owning core may.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.get().wrapping_sub(n), Ordering::Relaxed);
    }

    /// Replaces; only the owning core may.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident,)+) => {
        /// One core's counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $($(#[doc = $doc])+ pub(crate) $name: Cell,)+ }

        impl Counters {
            /// Name, help text, kind and value of each, in the order above.
            pub(crate) fn rows(&self) -> Vec<(&'static str, &'static str, Kind, u64)> {
                vec![$((stringify!($name), concat!($($doc),+), Kind::$kind, self.$name.get()),)+]
            }
        }
    };
}

impl Counters {
    /// Drops what has expired from an outbox with nothing in flight.
    pub(crate) fn expire(&self, outbox: &mut Outbox, now: Time) {
        let before = outbox.bytes();
        self.messages_expired.add(outbox.expire(now));
        self.outbox_bytes.sub((before - outbox.bytes()) as u64);
    }
}

/// How a number moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Up only.
    Counter,
    /// Up and down.
    Gauge,
}

counters! {
    /// Sockets open now.
    sockets: Gauge,
    /// WebSocket clients open now.
    websockets: Gauge,
    /// Sockets accepted.
    accepts: Counter,
    /// Sockets accepted and closed at once because the core or the process has no room left.
    accepts_refused: Counter,
    /// Accepts that failed because the process or the system is out of file descriptors.
    accepts_out_of_files: Counter,
    /// Accepts that failed for another reason.
    accepts_failed: Counter,
    /// WebSocket upgrades answered 101.
    upgrades: Counter,
    /// Upgrades refused, for whatever reason; malformed ones are among the heads refused.
    upgrades_refused: Counter,
    /// Upgrades refused because the core has its maximum of sockets, or the process few file descriptors left.
    upgrades_without_room: Counter,
    /// Request heads that were malformed, too long or too slow.
    heads_refused: Counter,
    /// Sockets closed because no request had begun on them in time.
    sockets_silent: Counter,
    /// Bodies of requests that were malformed or came too slowly.
    bodies_refused: Counter,
    /// Sockets of trusted proxies that did not begin with a PROXY header.
    proxy_headers_refused: Counter,
    /// WebSocket messages received.
    messages_in: Counter,
    /// Bytes received.
    bytes_in: Counter,
    /// Messages received deflated (permessage-deflate).
    messages_inflated: Counter,
    /// Their bytes as they came.
    inflate_bytes_in: Counter,
    /// Their bytes inflated.
    inflate_bytes_out: Counter,
    /// Deflated messages refused: too large once inflated (1009), or broken (1007).
    inflate_refused: Counter,
    /// Sends handed to the kernel.
    sends: Counter,
    /// Bytes taken by the kernel.
    bytes_out: Counter,
    /// Sends the kernel took only in part or not at all.
    sends_short: Counter,
    /// Bytes that wait in outboxes.
    outbox_bytes: Gauge,
    /// Messages dropped from outboxes because their time was over.
    messages_expired: Counter,
    /// Bytes that wait for clients or to be taken from them; counted while memory is short, or a core may hold too
    /// much.
    queued_bytes: Gauge,
    /// Whether the core refuses new work, because memory is short or it holds more than its share: 1 then.
    core_memory_short: Gauge,
    /// Upgrades answered 503 because memory was short.
    memory_upgrades_refused: Counter,
    /// REST calls, sends and additions to groups, answered 503 because memory was short.
    memory_calls_refused: Counter,
    /// Clients closed because memory was short and bytes waited for them, or were kept of an unfinished message.
    clients_shed: Counter,
    /// Requests that had come in part and were answered 503 because memory was short.
    requests_shed: Counter,
    /// Clients closed because their outbox was over its bound.
    slow_consumers: Counter,
    /// Clients closed because they broke RFC 6455 or their subprotocol.
    faults: Counter,
    /// Clients closed because they did not answer pings.
    ping_timeouts: Counter,
    /// Clients closed because decoding their input panicked.
    panics: Counter,
    /// Filters of REST calls that were found compiled.
    filter_hits: Counter,
    /// Filters of REST calls that had to be compiled.
    filter_misses: Counter,
    /// Times a receive found no free buffer.
    buffers_exhausted: Counter,
    /// Reads, writes and submits made again after a pause because the kernel had no memory for them.
    requests_without_memory: Counter,
    /// Times the submission queue was full and was submitted early.
    submissions_full: Counter,
    /// Times the completion queue was full and completions waited in the kernel.
    completions_overflowed: Counter,
    /// Times a receive was paused because another core, a hub or the answer to an earlier request was behind.
    receive_pauses: Counter,
    /// Times a client's input was left for later because it was more than is taken at one go.
    inputs_put_off: Counter,
    /// Batches sent to other cores.
    mesh_batches: Counter,
    /// Bytes in unsent batches for other cores.
    mesh_unsent_bytes: Gauge,
    /// Times another core was woken.
    mesh_wakes: Counter,
    /// Times another core could not be woken by way of its ring and its bell was rung.
    mesh_wakes_failed: Counter,
    /// Events for event handlers that wait because the side thread is behind.
    events_unsent: Gauge,
    /// Sockets moved here from another core.
    sockets_moved_in: Counter,
    /// TLS handshakes completed.
    tls_handshakes: Counter,
    /// TLS handshakes that took up an earlier session by its ticket.
    tls_resumptions: Counter,
    /// TLS handshakes in which the client showed a certificate.
    tls_client_certificates: Counter,
    /// HTTP requests for which cores were asked; what is answered without them is not counted.
    http_requests: Counter,
    /// HTTP requests answered with a status from 400 on: what was asked for is wrong, not there, or over a bound; what
    /// is malformed, too slow or finds no memory is among the heads and bodies refused and the requests shed.
    http_requests_refused: Counter,
    /// Times no more of what a peer had asked for was answered before it had read what was.
    http_answers_held: Counter,
    /// Turns of the loop.
    turns: Counter,
    /// Turns of the loop that took longer than 10 ms.
    turns_long: Counter,
    /// Times a turn was flushed before all its input was read, because that was much.
    turns_flushed_early: Counter,
}

/// One closed connection.
#[derive(Debug, Clone)]
pub(crate) struct ClosedRow {
    /// Its hub.
    pub(crate) hub: HubName,
    /// Its id.
    pub(crate) id: ConnectionId,
    /// Its user.
    pub(crate) user: Option<UserId>,
    /// Its address.
    pub(crate) address: Option<IpAddr>,
    /// Close code.
    pub(crate) code: u16,
    /// Why, in words.
    pub(crate) reason: Box<str>,
    /// Why, as a metric's label.
    pub(crate) category: CloseCategory,
    /// Seconds since 1970 when it closed.
    pub(crate) closed_unix: u64,
}

/// What a core shows to other threads. The locks are taken for closes and once a second, never per message.
#[derive(Debug, Default)]
pub(crate) struct CoreShared {
    /// The counters.
    pub(crate) counters: Counters,
    /// Connections closed, by category in the order of [`CloseCategory::ALL`].
    pub(crate) closes: [Cell; CloseCategory::ALL.len()],
    /// TLS handshakes that failed, by class in the order of [`FailureClass::ALL`].
    pub(crate) tls_failures: [Cell; FailureClass::ALL.len()],
    /// What it is told of memory.
    pub(crate) pressure: Pressure,
    /// 1 once a drain has nobody left to close or to wait for.
    pub(crate) drained: Cell,
    /// The last closed connections, oldest first.
    pub(crate) closed: Mutex<VecDeque<ClosedRow>>,
    /// Each hub's counters as of the last second.
    pub(crate) hubs: Mutex<Vec<(HubName, HubCounters)>>,
}

/// A page of the list of connections, one core's part.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionPage {
    /// Rows with their hub, at most as many as asked for.
    pub(crate) rows: Vec<(HubName, ConnectionRow)>,
    /// This core's clock when it answered, to make ages of [`ConnectionRow::opened`].
    pub(crate) now: Time,
}
