//! Issuers of bearer tokens and their keys: OpenID Connect discovery, the key set, refreshing it.
//!
//! Each issuer has a task on the side thread that keeps its keys fresh, and a handle ([`Issuer`]) that cores
//! read. A refresh is discovery (`{issuer}/.well-known/openid-configuration`, whose `issuer` must be the
//! configured one, letter for letter) and then the document at its `jwks_uri`. What fails is tried again with
//! back-off, and the last good keys stay until they are too old. A token that names an unknown key starts a
//! refresh at once, but not more often than [`ASKED_REST`] allows: anybody can make up names.

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::https::{self, FetchError, Https};
use crate::jwks::{JwksError, KeySet};
use crate::now_unix;

/// After a refresh that an unknown key asked for, the next one waits at least this long.
pub const ASKED_REST: Duration = Duration::from_secs(10);
/// The first pause after a failure; each further one is twice as long.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// One issuer, as configured.
#[derive(Debug, Clone)]
pub struct IssuerSettings {
    /// Its identifier: `iss` of its tokens, and where its discovery document is.
    pub url: String,
    /// Certificate authorities to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// How often keys are fetched, with up to a tenth less as jitter.
    pub refresh: Duration,
    /// How old keys may be; older ones count as none.
    pub keys_age_max: Duration,
}

/// An issuer and what is known of its keys; shared between the side thread, which writes, and the cores.
#[derive(Debug)]
pub struct Issuer {
    settings: IssuerSettings,
    keys: ArcSwapOption<KeySet>,
    /// [`IDLE`], [`ASKED`] or [`RESTING`].
    state: AtomicU8,
    asked: Notify,
    refreshes: AtomicU64,
    failures: AtomicU64,
}

/// A core may ask for a refresh.
const IDLE: u8 = 0;
/// One has, and it is not done.
const ASKED: u8 = 1;
/// It is done, not long ago.
const RESTING: u8 = 2;

/// What the metrics page says of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Refreshes tried, failed ones included.
    pub refreshes: u64,
    /// Refreshes that failed.
    pub failures: u64,
    /// When the keys in use were fetched, seconds since 1970; `None` when there never were any.
    pub fetched_unix: Option<u64>,
    /// How many keys there are.
    pub keys: u64,
}

/// Why a refresh failed. For the operator's log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum RefreshError {
    #[error("discovery: {0}")]
    Discovery(FetchError),
    #[error("discovery: not a document with issuer and jwks_uri")]
    NotDiscovery,
    #[error("discovery: the document is of the issuer {0:?}; configure that, letter for letter")]
    OtherIssuer(String),
    #[error("keys: {0}")]
    Keys(FetchError),
    #[error("keys: {0}")]
    Jwks(#[from] JwksError),
}

impl IssuerSettings {
    /// With the defaults: refreshed hourly, keys used for a day.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca_file: None,
            refresh: Duration::from_secs(3600),
            keys_age_max: Duration::from_secs(86_400),
        }
    }

    /// Whether keys may be fetched from there: `https://`, or `http://` on loopback.
    pub fn is_legal_url(url: &str) -> bool {
        https::is_allowed(url) && !url.contains('?')
    }
}

impl Issuer {
    /// Without keys yet.
    pub fn new(settings: IssuerSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            keys: ArcSwapOption::empty(),
            state: AtomicU8::new(IDLE),
            asked: Notify::new(),
            refreshes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// As configured.
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// The keys in use at `now_unix`; `None` when there are none yet or they are too old. Takes no lock.
    pub fn keys(&self, now_unix: u64) -> Option<Arc<KeySet>> {
        let keys = self.keys.load_full()?;
        let age = now_unix.saturating_sub(keys.fetched_unix());
        (age <= self.settings.keys_age_max.as_secs()).then_some(keys)
    }

    /// Puts keys into use.
    pub fn publish(&self, keys: KeySet) {
        self.keys.store(Some(Arc::new(keys)));
    }

    /// A core met a key that is not in the set. Whether it may be in the next one: true while a refresh that
    /// was asked for is under way, which this call may begin; false when there was one a moment ago.
    pub fn ask(&self) -> bool {
        match self.state.compare_exchange(IDLE, ASKED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.asked.notify_one();
                true
            }
            Err(state) => state == ASKED,
        }
    }

    /// The refresh that was asked for is done, whatever came of it: what is unknown now, is unknown.
    pub fn rest(&self) {
        self.state.store(RESTING, Ordering::Release);
    }

    /// For the metrics page.
    pub fn counts(&self) -> Counts {
        let keys = self.keys.load();
        Counts {
            refreshes: self.refreshes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            fetched_unix: keys.as_ref().map(|keys| keys.fetched_unix()),
            keys: keys.as_ref().map_or(0, |keys| keys.len() as u64),
        }
    }

    /// Keeps the keys fresh, for ever.
    pub(crate) async fn keep_fresh(&self, https: &Https) {
        let mut failures_in_a_row = 0;
        let mut was_asked = false;
        loop {
            let result = self.refresh(https).await;
            self.refreshes.fetch_add(1, Ordering::Relaxed);
            let pause = match result {
                Ok(keys) => {
                    failures_in_a_row = 0;
                    tracing::info!(issuer = self.settings.url, keys = keys.len(), "keys fetched");
                    self.publish(keys);
                    jittered(self.settings.refresh)
                }
                Err(error) => {
                    failures_in_a_row += 1;
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    let pause = jittered(back_off(failures_in_a_row).min(self.settings.refresh));
                    tracing::warn!(issuer = self.settings.url, again_in = ?pause, "keys not fetched: {error}");
                    pause
                }
            };
            was_asked = self.pause(pause, was_asked).await;
        }
    }

    /// Waits for the next refresh; true if a core asked for it.
    async fn pause(&self, pause: Duration, after_asked: bool) -> bool {
        let begin = Instant::now();
        if after_asked {
            self.rest();
            sleep_until(begin + pause.min(ASKED_REST)).await;
        }
        self.state.store(IDLE, Ordering::Release);
        timeout_at(begin + pause, self.asked.notified()).await.is_ok()
    }

    async fn refresh(&self, https: &Https) -> Result<KeySet, RefreshError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let address = format!("{}/.well-known/openid-configuration", self.settings.url.trim_end_matches('/'));
        let document = https.get(&address).await.map_err(RefreshError::Discovery)?;
        let discovery: Discovery =
            serde_json::from_slice(&document).map_err(|_| RefreshError::NotDiscovery)?;
        // OpenID Connect Discovery 1.0 §4.3.
        if discovery.issuer != self.settings.url {
            let mut named = discovery.issuer;
            named.truncate(named.floor_char_boundary(200));
            return Err(RefreshError::OtherIssuer(named));
        }
        let document = https.get(&discovery.jwks_uri).await.map_err(RefreshError::Keys)?;
        Ok(KeySet::parse(&document, now_unix())?)
    }
}

fn back_off(failures: u32) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1 << (failures - 1).min(10)).min(BACK_OFF_MAX)
}

/// Up to a tenth less, so that many servers do not ask at once.
fn jittered(pause: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or(0);
    pause - (pause / 10).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refresh_is_asked_for_at_a_time() {
        let issuer = Issuer::new(IssuerSettings::new("https://a"));
        assert!(issuer.keys(0).is_none());
        assert!(issuer.ask() && issuer.ask(), "asked for, and on its way");
        issuer.rest();
        assert!(!issuer.ask(), "done a moment ago");
        assert_eq!(issuer.counts(), Counts { refreshes: 0, failures: 0, fetched_unix: None, keys: 0 });
    }

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let pauses: Vec<u64> = (1..=9).map(|failures| back_off(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(back_off(u32::MAX), BACK_OFF_MAX);
        let hour = Duration::from_secs(3600);
        for _ in 0..100 {
            let pause = jittered(hour);
            assert!(pause <= hour && pause >= hour * 9 / 10, "{pause:?}");
        }
    }

    /// With the clock of the runtime: no issuer is there, and none is waited for.
    #[test]
    fn a_task_asks_again_after_its_pause_or_when_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let issuer = Issuer::new(IssuerSettings::new("https://a"));
            let short = Duration::from_millis(5);
            assert!(!issuer.pause(short, false).await, "by itself");
            assert!(issuer.ask());
            assert!(issuer.pause(Duration::from_secs(600), false).await, "told to");
            assert!(!issuer.pause(short, true).await);
            assert!(issuer.ask(), "rested");
        });
    }
}
