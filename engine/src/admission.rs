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
use ringhub_protocol::auth::token::Unverified;
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
        let client = Client { admitted, request, token: OnceCell::new(), claims: OnceCell::new() };
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
            return Admission::Refuse(ErrorBody::new(ErrorCode::Forbidden, message));
        }
        match self.verifier.admit(now_unix, request) {
            Admission::Connect(mut admitted) => match self.count(&rules, &admitted, request) {
                Ok(pass) => {
                    admitted.pass = pass;
                    Admission::Connect(admitted)
                }
                Err(body) => Admission::Refuse(body),
            },
            other => other,
        }
    }

    fn reconnection_token(&self, hub: &HubName, id: &ConnectionId) -> String {
        self.verifier.reconnection_token(hub, id)
    }
}

/// What rules can ask of a client. Its token has been verified.
struct Client<'a> {
    admitted: &'a Admitted,
    request: &'a UpgradeRequest<'a>,
    /// Looked for, as the claims are, if a rule asks for it.
    token: OnceCell<Option<Cow<'a, str>>>,
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
                let (_, signature) = self.token()?.rsplit_once('.')?;
                Some(Cow::Borrowed(signature.as_bytes()))
            }
            By::Claim(name) => match self.claims.get_or_init(|| self.read_claims()).get(&**name)? {
                Value::Null => None,
                Value::String(text) => Some(Cow::Borrowed(text.as_bytes())),
                other => Some(Cow::Owned(other.to_string().into_bytes())),
            },
        }
    }

    fn token(&self) -> Option<&str> {
        self.token.get_or_init(|| auth::client_token_of(self.request)).as_deref()
    }

    fn read_claims(&self) -> Map<String, Value> {
        let token = self.token().and_then(|token| Unverified::parse(token).ok());
        token.and_then(|token| serde_json::from_slice(&token.payload).ok()).unwrap_or_default()
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
        self.meters.iter().filter(|meter| !meter.take(bytes as u64, now)).count() == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> (Arc<Counts>, Arc<ProcessCounts>) {
        let process = Arc::new(ProcessCounts::default());
        (Arc::new(Counts::new(process.clone())), process)
    }

    fn counted(counts: &Arc<Counts>) -> Counted {
        Counted { counts: counts.clone(), keys: Vec::new(), meters: Vec::new() }
    }

    fn key(value: &str) -> Key {
        Key::new(b"user", b"", value.as_bytes())
    }

    fn rule(max: u64, window_ms: u64) -> Rule {
        Rule { by: By::User, max, window_ms }
    }

    #[test]
    fn a_place_is_taken_once_and_given_back_at_the_end() {
        let (counts, process) = counts();
        let (mut a, mut b, mut c) = (counted(&counts), counted(&counts), counted(&counts));
        assert!(a.enter(key("ann"), 2) && a.enter(key("ann"), 2), "two rules, one connection");
        assert!(!a.enter(key("ann"), 0), "a rule that allows fewer is broken all the same");
        assert!(b.enter(key("ann"), 2) && !c.enter(key("ann"), 2));
        assert!(c.enter(key("bob"), 1));
        assert_eq!(process.counted_keys.get(), 2);
        drop(a);
        assert!(c.enter(key("ann"), 2));
        drop((b, c));
        assert_eq!(process.counted_keys.get(), 0);
        assert!(counts.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn what_is_counted_by_is_told_apart() {
        let all = [
            Key::new(b"user", b"", b"x"),
            Key::new(b"signature", b"", b"x"),
            Key::new(b"claim", b"a", b"x"),
            Key::new(b"claim", b"ax", b""),
            Key::new(b"claim", b"", b"ax"),
            Key::new(b"hub", b"", b"x"),
            Key::of_window(&rule(1, 10_000), b"x"),
            Key::of_window(&rule(1, 20_000), b"x"),
        ];
        for (n, key) in all.iter().enumerate() {
            assert!(!all[..n].contains(key), "{n}");
        }
    }

    #[test]
    fn bytes_of_all_who_share_a_key_count_in_one_window() {
        let (counts, _) = counts();
        let (mut a, mut b) = (counted(&counts), counted(&counts));
        a.measure(key("ann"), &rule(100, 10_000));
        b.measure(key("ann"), &rule(100, 10_000));
        b.measure(key("tenant"), &rule(500, 10_000));
        assert!(a.take(60, Time(0)) && b.take(40, Time(9_999)));
        assert!(!a.take(1, Time(9_999)) && !b.take(0, Time(9_999)));
        assert!(a.take(100, Time(10_000)), "a new window");
        assert!(!b.take(1, Time(9_998)), "a core that is a window behind adds to the present one");
        assert!(b.take(100, Time(25_000)) && a.take(0, Time(25_000)));
        assert!(!b.take(1000, Time(40_000)) && !b.take(0, Time(40_000)), "over both");
        // Five years later, the number of the window comes round.
        let round = Time((NUMBER_MASK + 1) * 10_000 + 40_000);
        assert!(b.take(1, Time(round.0 + 20_000)));
    }

    #[test]
    fn a_window_tells_no_more_than_it_can_and_threads_lose_nothing() {
        let window = Window::default();
        assert_eq!(window.add(3, u64::MAX), BYTES_MAX);
        assert_eq!(window.add(3, 1), BYTES_MAX);
        let window = Arc::new(Window::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| _ = window.add(7, 3)));
            }
        });
        assert_eq!(window.add(7, 0), 120_000);
    }
}
