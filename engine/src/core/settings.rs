//! What a core needs to know, as plain data: the configuration is turned into this at start, and anew when it is
//! reloaded: then each core takes it over in its next turn. What cores are built with (listeners, their number, sizes
//! of rings and meshes) stays as it was at start.
//!
//! Every bound of the data plane stands here with its unit; what happens at each is said with it.

use crate::net::Address;
use crate::net::peer::Proxies;
use ringhub_hub::Limits;
use ringhub_hub::event::Routes;
use ringhub_protocol::name::HubName;
use ringhub_protocol::ws::DecoderLimits;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// Settings of the whole data plane.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Service listeners; each core opens each of them with SO_REUSEPORT.
    pub(crate) listen: Vec<Address>,
    /// Admin listeners; opened by core 0 only.
    pub(crate) admin_listen: Vec<Address>,
    /// The proxies in front of the service listeners.
    pub(crate) proxies: Proxies,
    /// The host by which event handlers know the server; without one it is the one each client names.
    pub(crate) origin: Option<Box<str>>,
    /// Cores, 1 to 64.
    pub(crate) cores: u16,
    /// Bounds of sockets and messages.
    pub(crate) sockets: SocketSettings,
    /// Sizes of the ring and its buffers, per core.
    pub(crate) ring: RingSettings,
    /// Bounds between cores.
    pub(crate) mesh: MeshSettings,
    /// Hubs with settings of their own.
    pub(crate) hubs: HashMap<HubName, HubSettings>,
    /// What a hub without a section gets.
    pub(crate) hub_default: HubSettings,
    /// Most hubs one core keeps; a connect that would make one more is answered 503.
    pub(crate) hubs_max: usize,
    /// Over how long a drain closes the clients.
    pub(crate) drain: Duration,
    /// How long a stop waits for close frames to be taken and answered, before sockets are cut.
    pub(crate) stop_deadline: Duration,
    /// Last closed connections each core remembers.
    pub(crate) closed_max: usize,
    /// Files the process may have open. When few are left, they are kept for callers and for the admin listener, see
    /// [`crate::core::doors`].
    pub(crate) files_max: u64,
}

/// One hub's settings as far as a core needs them.
#[derive(Clone)]
pub(crate) struct HubSettings {
    /// Bounds of the hub.
    pub(crate) limits: Limits,
    /// Silence after which a client is pinged (`service-model` §5); two unanswered pings end it.
    pub(crate) keepalive: Duration,
    /// Who hears its events, if anybody does.
    pub(crate) routes: Option<Arc<Routes>>,
    /// Whether clients that offer permessage-deflate get it.
    pub(crate) compression: bool,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            keepalive: Duration::from_secs(20),
            routes: None,
            compression: false,
        }
    }
}

/// Bounds of one socket and of what comes in over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketSettings {
    /// Sockets of one core, listeners not counted; of more, some are served, but for WebSockets, which are answered
    /// 503, and the rest is accepted and closed at once.
    pub(crate) sockets_max: usize,
    /// Longest request head, in bytes; a longer one is answered 431 and closed.
    pub(crate) head_bytes_max: usize,
    /// Time a client has to send its whole request head; then the socket is closed.
    pub(crate) head_deadline: Duration,
    /// Time a client has for a request's body before its rate counts.
    pub(crate) body_grace: Duration,
    /// Bytes a second in which a body has to come from then on; one that falls behind is answered 408 and closed.
    pub(crate) body_bytes_per_second_min: u64,
    /// Silence after which an HTTP connection without a request in progress is closed; also how long it may take
    /// over an answer.
    pub(crate) http_idle: Duration,
    /// Bounds of messages; over the size: 1009.
    pub(crate) decoder: DecoderLimits,
    /// Unsent bytes of a plain client; one more closes it with 1008.
    pub(crate) outbox_bytes_max: usize,
    /// TLS records of one socket that go out between two turns, after its first; one that has more is written to as a
    /// slow one.
    pub(crate) records_max: usize,
    /// Pings in a row that may stay unanswered; one more ends the client.
    pub(crate) pings_missed_max: u8,
    /// Time a client has to answer a close frame.
    pub(crate) close_deadline: Duration,
    /// How long a peer may take or acknowledge nothing of what is sent to it (`TCP_USER_TIMEOUT`); then it is lost.
    pub(crate) write_deadline: Duration,
    /// `TCP_NOTSENT_LOWAT` of client sockets, in bytes, so that the kernel does not hide a stalled reader.
    pub(crate) notsent_lowat_bytes: u32,
    /// `SO_SNDBUF` of client sockets, in bytes; the kernel's own choice by default.
    pub(crate) send_buffer_bytes: Option<u32>,
    /// `listen`'s backlog.
    pub(crate) backlog: i32,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self {
            sockets_max: 1 << 20,
            head_bytes_max: 16 << 10,
            head_deadline: Duration::from_secs(10),
            body_grace: Duration::from_secs(5),
            body_bytes_per_second_min: 1024,
            http_idle: Duration::from_secs(60),
            decoder: DecoderLimits { message_bytes_max: 1 << 20, fragments_max: 16_384 },
            outbox_bytes_max: 1 << 20,
            // Full ones are 1 MiB.
            records_max: 64,
            pings_missed_max: 2,
            close_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(15),
            notsent_lowat_bytes: 128 << 10,
            send_buffer_bytes: None,
            backlog: 4096,
        }
    }
}

impl SocketSettings {
    /// How long after its head a request may be unfinished, when so many bytes of its body have come.
    pub(crate) fn body_deadline(&self, body_bytes: u64) -> Duration {
        self.body_grace
            + Duration::from_millis(body_bytes.saturating_mul(1000) / self.body_bytes_per_second_min)
    }
}

/// Sizes of a core's ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingSettings {
    /// Submission entries (a power of two); a full queue is submitted early, nothing is lost.
    pub(crate) submissions: u32,
    /// Completion entries (a power of two); more completions wait in the kernel.
    pub(crate) completions: u32,
    /// Provided receive buffers (a power of two, at most 32,768); without a free one receiving waits.
    pub(crate) buffers: u16,
    /// Size of one of them, in bytes.
    pub(crate) buffer_bytes: u32,
    /// What goes wrong.
    #[cfg(test)]
    pub(crate) faults: Option<&'static crate::core::faults::Faults>,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self {
            submissions: 1024,
            completions: 8192,
            buffers: 1024,
            buffer_bytes: 4096,
            #[cfg(test)]
            faults: None,
        }
    }
}

/// Bounds between cores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeshSettings {
    /// Batches on their way from one core to another; more pile up at the sender as one batch.
    pub(crate) batches_max: usize,
    /// Bytes of one unsent batch; at more, the core takes no new socket input until it is sent.
    pub(crate) batch_bytes_max: usize,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self { batches_max: 64, batch_bytes_max: 4 << 20 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Address::plain((Ipv4Addr::LOCALHOST, 8080))],
            admin_listen: vec![Address::plain((Ipv4Addr::LOCALHOST, 8081))],
            proxies: Proxies::default(),
            origin: None,
            cores: 1,
            sockets: SocketSettings::default(),
            ring: RingSettings::default(),
            mesh: MeshSettings::default(),
            hubs: HashMap::new(),
            hub_default: HubSettings::default(),
            hubs_max: 1024,
            drain: Duration::from_secs(5),
            stop_deadline: Duration::from_secs(10),
            closed_max: 1000,
            files_max: u64::MAX,
        }
    }
}

impl Settings {
    /// The settings of `hub`.
    pub(crate) fn hub(&self, hub: &HubName) -> &HubSettings {
        self.hubs.get(hub).unwrap_or(&self.hub_default)
    }
}
