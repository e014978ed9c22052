//! The side thread: what the server asks of other servers, on tokio, away from the cores.
//!
//! One thread, "ringhub-relay", with a current-thread runtime; tokio lives there and nowhere else. It keeps the keys
//! of OIDC issuers ([`oidc`]) and carries events to application servers ([`exchange`], [`upstream`]).
//!
//! What must stay true: a core never waits for this thread. Cores read what it publishes through a swapped
//! pointer, and what they ask of it is a flag or an entry in a bounded queue. Everything it reads from the network
//! has a bound and a deadline. Nothing here is on the way between two clients.
//!
//! ```no_run
//! use ringhub_relay::exchange::Exchange;
//! use ringhub_relay::{Relay, Settings, Signer, oidc};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! let issuer = oidc::Issuer::new(oidc::IssuerSettings::new("https://login.example.com"));
//! let exchange = Arc::new(Exchange::new(2));
//! let signer = Signer::new(&["the primary access key"]);
//! let relay = Relay::start(Settings { issuers: vec![issuer.clone()], exchange, signer })?;
//! // Cores: None until the first keys are there.
//! let keys = issuer.keys(1_700_000_000);
//! relay.stop(Duration::from_secs(10));
//! relay.join();
//! # Ok::<(), ringhub_relay::StartError>(())
//! ```
#![forbid(unsafe_code)]

mod answer;
mod breaker;
mod call;
mod client;
mod cookies;
mod dispatch;
pub mod exchange;
mod gate;
mod headers;
mod http1;
mod https;
pub mod jwks;
mod kept;
pub mod listener;
mod lookup;
mod memory;
pub mod oidc;
mod order;
pub mod report;
mod seldom;
mod signature;
pub mod sink;
mod token;
pub mod upstream;
mod validation;
pub mod vital;

pub use breaker::BreakerState;
pub use signature::Signer;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

use dispatch::Desk;
use exchange::Exchange;
use https::Https;

/// What the side thread is to do.
#[derive(Debug)]
pub struct Settings {
    /// Whose keys to keep.
    pub issuers: Vec<Arc<oidc::Issuer>>,
    /// Where cores ask.
    pub exchange: Arc<Exchange>,
    /// Signs events.
    pub signer: Arc<Signer>,
}

/// The running side thread. Dropping it without [`Relay::stop`] leaves it running to the process's end.
#[derive(Debug)]
pub struct Relay {
    stop: watch::Sender<Option<Duration>>,
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

/// What all handlers share, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayReport {
    /// Events that have come and not ended.
    pub events: usize,
    /// Questions that may be cancelled.
    pub questions: usize,
    /// Answers that are being read; at most 1024.
    pub answers: usize,
    /// Bytes set aside for answers larger than 64 KiB; at most 64 MiB.
    pub large_answer_bytes: usize,
}

/// Why the side thread cannot start. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of certificate authorities cannot be used.
    #[error("{file}: {problem}")]
    CaFile {
        /// As configured.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A handler cannot be used as it is configured.
    #[error("{handler}: {problem}")]
    Handler {
        /// Its URL template, without secrets.
        handler: String,
        /// What is wrong.
        problem: String,
    },
    /// A file for events cannot be used.
    #[error("{file}: {problem}")]
    EventFile {
        /// As configured.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// No thread, or nothing to wait for sockets with.
    #[error("the relay's thread cannot start: {0}")]
    Thread(#[from] io::Error),
}

/// Threads for what has only a blocking call: looking up names, one at a time for each handler and issuer.
const BLOCKING_THREADS_MAX: usize = 16;
/// How long such a thread stays without work.
const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(5);

/// After a panic of a task it begins again this much later.
const AFTER_PANIC: Duration = Duration::from_secs(60);

impl Relay {
    /// Starts the thread. Files named in the settings are read before this returns.
    ///
    /// # Errors
    ///
    /// A file that cannot be used, or no thread.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let mut fresh = Vec::with_capacity(settings.issuers.len());
        if !settings.issuers.is_empty() {
            let roots = https::system_roots();
            for issuer in settings.issuers {
                fresh.push((Https::new(roots.clone(), issuer.settings().ca_file.as_deref())?, issuer));
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_keep_alive(BLOCKING_THREAD_IDLE)
            .thread_name("ringhub-lookup")
            .build()?;
        let (stop, stopped) = watch::channel(None);
        let desk = Desk::new(settings.exchange, settings.signer);
        let working = desk.clone();
        let run = move || {
            let work = async {
                for (https, issuer) in fresh {
                    tokio::spawn(keep_fresh(issuer, https));
                }
                working.work(stopped).await;
            };
            // Guarded in here: a panic that passed would first wait for names that are being looked up.
            vital::guarded("the side thread", || runtime.block_on(work));
            // Not waiting for a name that is being looked up.
            runtime.shutdown_background();
        };
        // Without it what cores ask would never be answered, and soon they would read nothing more from anybody.
        let thread = vital::spawn("ringhub-relay", run)?;
        Ok(Self { stop, desk, thread })
    }

    /// Tells, whenever it is called, what all handlers share at that moment.
    pub fn reporter(&self) -> impl Fn() -> RelayReport + Send + Sync + use<> {
        let desk = self.desk.clone();
        move || desk.report()
    }

    /// Asks the thread to end: events that were asked for before are sent, and those in flight have so long; what
    /// else it was fetching is dropped. Returns at once.
    pub fn stop(&self, grace: Duration) {
        self.stop.send_replace(Some(grace));
    }

    /// Waits until the thread has ended. A panic of it ends the process.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}

/// Keeps an issuer's keys fresh until the runtime ends, over a panic too: one bad answer must not leave the
/// server with the keys it has.
async fn keep_fresh(issuer: Arc<oidc::Issuer>, https: Https) {
    loop {
        let (issuer, https) = (issuer.clone(), https.clone());
        let task = tokio::spawn(async move { issuer.keep_fresh(&https).await });
        if let Err(ended) = task.await {
            tracing::error!("keeping an issuer's keys ended, beginning again: {ended}");
        }
        tokio::time::sleep(AFTER_PANIC).await;
    }
}

/// Seconds since 1970.
fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
