//! What stands around the verifier at the door: whose pages may connect, and how many may share what.
//!
//! The order is origin → token → quota of the hub → rules on connections (`client-protocols` §1.3). Rules are of
//! the whole server, over hubs and cores (`service-model` §3: settings of the resource); quotas are a hub's.
//! What must stay true: a count is exact over all cores, for it is taken and checked under one lock; a connection
//! is counted from its admission until it ends for good, whatever ends it, for the hub keeps a [`Counted`] and its
//! drop gives back; no lock is taken for a message: traffic is one atomic number per key and window.
//!
//! Bound: a key is kept while a connection holds it, so there are never more than a connection can have (a quota
//! and 20 rules) times connections.

use crate::auth::{self, Verifier};
use crate::config::{Config, CountBy};
use crate::net::gate::{Admission, Admitted, Gate, UpgradeRequest};
use crate::process::ProcessCounts;
use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use ringhub_hub::{ConnectionId, Time};
use ringhub_protocol::name::{HubName, UserId};
use ringhub_protocol::origin::OriginPattern;
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The gate as the cores see it.
pub(crate) struct Doorkeeper {
    verifier: Arc<Verifier>,
    rules: ArcSwap<Rules>,
    counts: Arc<Counts>,
}

/// What the configuration asks for.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    origins: HashMap<HubName, Vec<OriginPattern>>,
    quotas: HashMap<HubName, u64>,
    connections: Vec<Rule>,
    traffic: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
struct Rule {
    by: By,
    /// Connections, or bytes in a window.
    max: u64,
    /// Length of a window, in milliseconds; 0 for connections.
    window_ms: u64,
}

/// What a rule counts by.
#[derive(Debug)]
enum By {
    User,
    Signature,
    Claim(Box<str>),
}

impl Rules {
    /// From the configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let by = |kind, claim: &Option<String>| match (kind, claim) {
            (CountBy::Claim, Some(claim)) => By::Claim(claim.as_str().into()),
            (CountBy::Signature, _) => By::Signature,
            // The configuration has no rule by a claim without one.
            (CountBy::User | CountBy::Claim, _) => By::User,
        };
        let hubs = || config.hubs().map(|(name, hub)| (name.clone(), hub));
        let firewall = &config.firewall;
        Self {
            origins: hubs()
                .filter(|(_, hub)| !hub.allowed_origins.is_empty())
                .map(|(name, hub)| (name, hub.allowed_origins.clone()))
                .collect(),
            quotas: hubs()
                .filter(|(_, hub)| hub.connections_max > 0)
                .map(|(name, hub)| (name, hub.connections_max))
                .collect(),
            connections: firewall
                .connection_count_rules
                .iter()
                .map(|rule| Rule { by: by(rule.kind, &rule.claim), max: rule.max_count, window_ms: 0 })
                .collect(),
            traffic: firewall
                .traffic_rules
                .iter()
                .map(|rule| Rule {
                    by: by(rule.kind, &rule.claim),
                    max: rule.max_inbound_bytes,
                    window_ms: rule.window_seconds * 1000,
                })
                .collect(),
        }
    }
}

impl Doorkeeper {
    /// A door without rules.
    pub(crate) fn new(verifier: Arc<Verifier>, rules: Rules, process: Arc<ProcessCounts>) -> Self {
        Self { verifier, rules: ArcSwap::from_pointee(rules), counts: Arc::new(Counts::new(process)) }
    }

    /// From now on these rules hold. What is counted already stays counted; a connection keeps the bounds on
    /// traffic it came in with, and is not counted by what nobody counted by when it came.
    pub(crate) fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// Whether the page that opens the connection may.
    fn is_welcome(&self, rules: &Rules, request: &UpgradeRequest<'_>) -> bool {
        let Some(origin) = request.origin else { return true };
        if rules.origins.is_empty() {
            return true;
        }
        // A request without a legal hub is refused as that.
        let hub = auth::requested_hub(request.target);
        let allowed = hub.and_then(|hub| rules.origins.get(&hub));
        allowed.is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(origin)))
    }

    /// Counts the client wherever it is to be counted.
    fn count(
        &self,
        rules: &Rules,
        admitted: &Admitted,
        request: &UpgradeRequest<'_>,
    ) -> Result<Option<Arc<Counted>>, ErrorBody> {
        let quota = rules.quotas.get(&admitted.hub);
        if quota.is_none() && rules.connections.is_empty() && rules.traffic.is_empty() {
            return Ok(None);
        }
        let process = &self.counts.process;
        let refusal = |message| Err(ErrorBody::new(ErrorCode::TooManyRequests, message));
        let mut counted = Counted { counts: self.counts.clone(), keys: Vec::new(), meters: Vec::new() };
        if let Some(&max) = quota
            && !counted.enter(Key::new(b"hub", &[], admitted.hub.as_str().as_bytes()), max)
        {
            process.quotas_refused.up();
            return refusal("The hub has as many connections as it may have.");
        }
        let client = Client { admitted, token: auth::client_token_of(request), claims: OnceCell::new() };
        for rule in &rules.connections {
            let Some(value) = client.value(&rule.by) else { continue };
            if !counted.enter(Key::new(rule.by.tag(), rule.by.claim(), &value), rule.max) {
                process.rules_refused.up();
                return refusal("There are too many connections of this client.");
            }
        }
        for rule in &rules.traffic {
            let Some(value) = client.value(&rule.by) else { continue };
            counted.measure(Key::of_window(rule, &value), rule);
        }
        Ok(Some(Arc::new(counted)))
    }
}

impl Gate for Doorkeeper {
    fn admit(&self, now_unix: u64, request: &UpgradeRequest<'_>) -> Admission {
        let rules = self.rules.load();
        if !self.is_welcome(&rules, request) {
            self.counts.process.origins_refused.up();
            let message = "Pages of this origin may not connect to the hub.";
            return refuse(&ErrorBody::new(ErrorCode::Forbidden, message));
        }
        match self.verifier.admit(now_unix, request) {
            Admission::Connect(mut admitted) => match self.count(&rules, &admitted, request) {
                Ok(pass) => {
                    admitted.pass = pass;
                    Admission::Connect(admitted)
                }
                Err(body) => refuse(&body),
            },
            other => other,
        }
    }

    fn reconnection_token(&self, hub: &HubName, id: &ConnectionId) -> String {
        self.verifier.reconnection_token(hub, id)
    }
}

fn refuse(body: &ErrorBody) -> Admission {
    let json = String::from_utf8(body.to_json()).expect("JSON is UTF-8");
    Admission::Refuse { status: body.code.status(), body: json.into() }
}

/// What rules can ask of a client. Its token has been verified.
struct Client<'a> {
    admitted: &'a Admitted,
    token: Option<Cow<'a, str>>,
    claims: OnceCell<Map<String, Value>>,
}

impl Client<'_> {
    /// What the rule counts by, if the client has it.
    fn value(&self, by: &By) -> Option<Cow<'_, [u8]>> {
        match by {
            By::User => {
                self.admitted.user.as_ref().map(|user| Cow::Borrowed(UserId::as_str(user).as_bytes()))
            }
            By::Signature => {
                let (_, signature) = self.token.as_deref()?.rsplit_once('.')?;
                Some(Cow::Borrowed(signature.as_bytes()))
            }
            By::Claim(name) => match self.claims.get_or_init(|| self.read_claims()).get(&**name)? {
                Value::Null => None,
                Value::String(text) => Some(Cow::Borrowed(text.as_bytes())),
                other => Some(Cow::Owned(other.to_string().into_bytes())),
            },
        }
    }

    fn read_claims(&self) -> Map<String, Value> {
        let payload = self.token.as_deref().and_then(|token| token.split('.').nth(1)).unwrap_or_default();
        let payload = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).unwrap_or_default();
        serde_json::from_slice(&payload).unwrap_or_default()
    }
}

impl By {
    fn tag(&self) -> &'static [u8] {
        match self {
            Self::User => b"user",
            Self::Signature => b"signature",
            Self::Claim(_) => b"claim",
        }
    }

    fn claim(&self) -> &[u8] {
        match self {
            Self::Claim(name) => name.as_bytes(),
            Self::User | Self::Signature => b"",
        }
    }
}

/// What is counted by, as 128 bits of a SHA-256: of one size however long a claim is, and nobody finds two alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u8; 16]);

impl Key {
    fn new(tag: &[u8], name: &[u8], value: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [tag, name, value] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let digest = context.finish();
        Self(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }

    /// Rules with windows of other lengths count bytes by themselves.
    fn of_window(rule: &Rule, value: &[u8]) -> Self {
        let name = [&rule.window_ms.to_le_bytes(), rule.by.claim()].concat();
        Self::new(&[b"bytes ", rule.by.tag()].concat(), &name, value)
    }
}

/// Locks the keys are spread over, so that cores rarely wait for each other.
const SHARDS: usize = 64;

/// Who holds what.
#[derive(Debug)]
struct Counts {
    shards: Vec<Mutex<HashMap<Key, Entry>>>,
    process: Arc<ProcessCounts>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Connections that hold the key.
    holders: u64,
    /// What they sent, for rules on traffic.
    window: Arc<Window>,
}

impl Counts {
    fn new(process: Arc<ProcessCounts>) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), process }
    }

    fn with<T>(&self, key: Key, act: impl FnOnce(&mut HashMap<Key, Entry>) -> T) -> T {
        let shard = &self.shards[usize::from(key.0[15]) % SHARDS];
        // Poisoned only by a panic, which ends the process.
        act(&mut shard.lock().expect("no panic is survived here"))
    }
}

/// What counts one connection, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Counted {
    counts: Arc<Counts>,
    keys: Vec<Key>,
    meters: Vec<Meter>,
}

impl Counted {
    /// Counts the connection under `key`, once. False if there are `max` already.
    fn enter(&mut self, key: Key, max: u64) -> bool {
        let is_new = !self.keys.contains(&key);
        let counts = &self.counts;
        let entered = counts.with(key, |entries| {
            let holders = entries.get(&key).map_or(0, |entry| entry.holders);
            if holders + u64::from(is_new) > max {
                return false;
            }
            if is_new {
                if holders == 0 {
                    counts.process.counted_keys.up();
                }
                entries.entry(key).or_default().holders += 1;
            }
            true
        });
        if entered && is_new {
            self.keys.push(key);
        }
        entered
    }

    /// Has the bytes the client sends counted under `key`.
    fn measure(&mut self, key: Key, rule: &Rule) {
        self.enter(key, u64::MAX);
        let window = self.counts.with(key, |entries| entries.entry(key).or_default().window.clone());
        self.meters.push(Meter { window, bytes_max: rule.max, window_ms: rule.window_ms });
    }

    /// Whether what the client sends is counted.
    pub(crate) fn is_metered(&self) -> bool {
        !self.meters.is_empty()
    }

    /// Counts bytes of the client; false if they are too many.
    pub(crate) fn take(&self, bytes: usize, now: Time) -> bool {
        // No short cut: every meter counts.
        self.meters.iter().fold(true, |fits, meter| meter.take(bytes as u64, now) && fits)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for &key in &self.keys {
            self.counts.with(key, |entries| {
                let Some(entry) = entries.get_mut(&key) else { return };
                entry.holders -= 1;
                if entry.holders == 0 {
                    entries.remove(&key);
                    self.counts.process.counted_keys.down();
                }
            });
        }
    }
}

/// A bound on bytes in a window.
#[derive(Debug)]
struct Meter {
    window: Arc<Window>,
    bytes_max: u64,
    window_ms: u64,
}

impl Meter {
    fn take(&self, bytes: u64, now: Time) -> bool {
        self.window.add(now.0 / self.window_ms, bytes) <= self.bytes_max
    }
}

/// Bytes of the present window: in one number, so that no two cores can disagree about which window it is.
#[derive(Debug, Default)]
struct Window(AtomicU64);

/// Bits of the bytes; the rest is the window's number, which comes round after five years of the shortest windows.
const BYTES_BITS: u32 = 40;
/// The numbers there are.
const NUMBER_MASK: u64 = u64::MAX >> BYTES_BITS;
/// Most bytes a window can tell; more count as so many.
const BYTES_MAX: u64 = (1 << BYTES_BITS) - 1;

impl Window {
    /// Adds to the window of this number; returns what it has then.
    fn add(&self, number: u64, bytes: u64) -> u64 {
        let added = |before: u64| {
            let stored = before >> BYTES_BITS;
            // A core whose turn began earlier may be a window behind: it adds to the present one.
            let ahead = (number & NUMBER_MASK).wrapping_sub(stored) & NUMBER_MASK;
            let is_present = ahead == 0 || ahead > NUMBER_MASK / 2;
            let (number, so_far) =
                if is_present { (stored, before & BYTES_MAX) } else { (number & NUMBER_MASK, 0) };
            number << BYTES_BITS | so_far.saturating_add(bytes).min(BYTES_MAX)
        };
        let update = |before| Some(added(before));
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(before) | Err(before) => added(before) & BYTES_MAX,
        }
    }
}
