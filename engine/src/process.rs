//! What the process counts as a whole: what no core has to itself. These are rare events, so each is one locked
//! addition, wherever it happens.

use crate::core::counters::Kind;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number with any number of writers.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn up(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// One less.
    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Replaces it.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident,)+) => {
        /// The process's counts.
        #[derive(Debug, Default)]
        pub(crate) struct ProcessCounts { $($(#[doc = $doc])+ pub(crate) $name: Count,)+ }

        impl ProcessCounts {
            /// Name, help text, kind and value of each, in the order above.
            pub(crate) fn rows(&self) -> Vec<(&'static str, &'static str, Kind, u64)> {
                vec![$((stringify!($name), concat!($($doc),+), Kind::$kind, self.$name.get()),)+]
            }
        }
    };
}

counts! {
    /// Upgrades refused because the page's origin is not allowed.
    origins_refused: Counter,
    /// Upgrades refused because the hub has all the connections it may have.
    quotas_refused: Counter,
    /// Upgrades refused by a rule on connections that share a user, token or claim.
    rules_refused: Counter,
    /// Users, tokens, claims and hubs whose connections or bytes are counted now.
    counted_keys: Gauge,
    /// REST calls refused because there were too many in a second.
    rest_throttled: Counter,
    /// Bytes of memory in use, by what bounds it: the process's own, or its control group's.
    memory_used_bytes: Gauge,
    /// Bytes at which new work is refused.
    memory_bytes_max: Gauge,
    /// Bytes that may wait in one core before it refuses new work.
    memory_core_bytes_max: Gauge,
    /// Whether memory is short and new work is refused: 1 then.
    memory_short: Gauge,
    /// Whether the server drains: 1 then. How many connections are left is `connections`, summed over the cores.
    draining: Gauge,
    /// Times the configuration was reloaded, changed or not.
    reloads: Counter,
    /// Times a reload was refused and changed nothing.
    reloads_refused: Counter,
    /// Lines of the log that were dropped because standard error did not take them.
    log_lines_dropped: Counter,
    /// When the configuration in effect was loaded, in seconds since 1970.
    configured_at_seconds: Gauge,
}
