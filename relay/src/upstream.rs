//! Event handlers: where they are and how they are asked (`event-handlers` §2–5).

use ringhub_protocol::events::UrlTemplate;
use ringhub_protocol::name::HubName;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One handler, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Whose.
    pub hub: HubName,
    /// Its place among the hub's handlers, from 0.
    pub place: usize,
    /// Where it is.
    pub template: UrlTemplate,
    /// How it knows that it is us.
    pub auth: HandlerAuth,
    /// Whether it has to say first that it wants events of us (§2).
    pub validate: bool,
    /// Which HTTP it is spoken to.
    pub http: HttpVersion,
    /// For a user event and for an event nobody waits for: until the answer is there, over all attempts.
    pub timeout: Duration,
    /// The same for `connect`.
    pub connect_timeout: Duration,
    /// Waits before the second, third and later attempt.
    pub retry_delays: Vec<Duration>,
    /// Largest answer, in bytes.
    pub answer_bytes_max: usize,
    /// Requests at a time.
    pub concurrency_max: usize,
    /// Events that may wait for one of these places; one more fails at once.
    pub queue_max: usize,
    /// Their bytes; more fail at once.
    pub queue_bytes_max: usize,
    /// Events in a row that must fail for good until it is given a rest; 0 for never.
    pub breaker_failures: u32,
    /// Authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether a client that is refused gets the handler's body.
    pub forward_refusals: bool,
    /// Whether the inspector keeps bodies (the first 4 KiB of each).
    pub inspect_bodies: bool,
}

/// How a handler knows that it is us. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum HandlerAuth {
    /// By the signature alone.
    None,
    /// By a header with a secret.
    Header {
        /// Its name.
        name: String,
        /// The secret.
        value: String,
    },
    /// By a bearer token that an OIDC token endpoint gives us (RFC 6749 §4.4).
    ClientCredentials {
        /// The endpoint.
        token_url: String,
        /// Who we are there.
        client_id: String,
        /// The secret.
        client_secret: String,
        /// `scope`, if it is to be asked for.
        scope: Option<String>,
        /// `resource` (RFC 8707), if it is to be asked for.
        resource: Option<String>,
    },
}

impl std::fmt::Debug for HandlerAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Header { .. } => "Header",
            Self::ClientCredentials { .. } => "ClientCredentials",
        })
    }
}

/// Which HTTP a handler is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// `https://`: HTTP/2 if it offers it, else 1.1. `http://`: 1.1.
    Auto,
    /// 1.1.
    Http1,
    /// HTTP/2, over `http://` without asking first (prior knowledge).
    Http2,
}

/// A handler: its pool, its state, what is known of its last calls. Behind [`ringhub_hub::event::Target`].
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
}

impl Upstream {
    /// A handler nobody has talked to yet.
    ///
    /// # Errors
    /// A file of authorities that cannot be used.
    pub fn new(settings: UpstreamSettings) -> Result<Arc<Self>, crate::StartError> {
        Ok(Arc::new(Self { settings }))
    }

    /// As configured.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }
}
