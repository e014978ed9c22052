//! Every core's counters as one page of OpenMetrics text, labelled by core; what the relay counts, by issuer and by
//! event handler.
//!
//! Labels are cores, hubs, issuers, places of handlers and categories: few, and named by the operator. Names of users, groups and
//! connections are never labels. Reading takes no lock that a message would wait for.

mod upstreams;

use crate::auth::Issuers;
use crate::core::counters::{CoreShared, Kind};
use crate::net::tls::FailureClass;
use crate::process::ProcessCounts;
use crate::upstreams::Views;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use ringhub_hub::effect::CloseCategory;
use ringhub_hub::hub::Counters as HubCounters;
use ringhub_relay::{RelayReport, oidc};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The page's media type.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page, as of now; hubs' numbers are up to a second old.
pub(crate) fn page(
    cores: &[Arc<CoreShared>],
    process: &Arc<ProcessCounts>,
    issuers: &Arc<Issuers>,
    (upstreams, relay): (Views, RelayReport),
    now_unix: u64,
) -> String {
    let mut registry = Registry::with_prefix("ringhub");
    registry.register_collector(Box::new(Counts { cores: cores.to_vec(), process: process.clone() }));
    registry.register_collector(Box::new(Oidc { issuers: issuers.clone(), now_unix }));
    registry.register_collector(Box::new(upstreams::Events(upstreams, relay)));
    let mut text = String::new();
    encode(&mut text, &registry).expect("formatting into a string cannot fail");
    text
}

/// The counters of hubs, summed over cores, by hub.
pub(crate) fn hubs(cores: &[Arc<CoreShared>]) -> BTreeMap<String, Vec<(&'static str, u64)>> {
    let mut hubs: BTreeMap<String, Vec<(&'static str, u64)>> = BTreeMap::new();
    for core in cores {
        for (name, counters) in &*core.hubs.lock().expect("nothing panics with the lock") {
            let rows = hub_rows(counters).map(|row| (row.name, row.value));
            match hubs.get_mut(name.as_str()) {
                Some(sums) => {
                    sums.iter_mut().zip(rows).for_each(|((_, sum), (_, value))| *sum += value);
                }
                None => drop(hubs.insert(name.as_str().to_owned(), rows.to_vec())),
            }
        }
    }
    hubs
}

/// One number of a hub.
struct HubRow {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    value: u64,
}

fn hub_rows(counters: &HubCounters) -> [HubRow; 26] {
    use Kind::{Counter, Gauge};
    [
        ("connections", "Connections now, sessions without a socket included", Gauge, counters.connections),
        ("suspended", "Reliable sessions now without a socket", Gauge, counters.suspended),
        ("messages_in", "Messages of clients and REST calls taken in", Counter, counters.messages_in),
        ("messages_out", "Messages handed to sockets or replay logs", Counter, counters.messages_out),
        ("forbidden", "Requests refused for a missing role", Counter, counters.forbidden),
        (
            "permissions_refused",
            "Permission changes refused for too many rules",
            Counter,
            counters.permissions_refused,
        ),
        ("duplicates", "Requests answered Duplicate", Counter, counters.duplicates),
        (
            "refused_for_memory",
            "Publications, events, invocations and joins of clients refused because memory was short",
            Counter,
            counters.refused_for_memory,
        ),
        (
            "events",
            "Events that handlers were asked about, or only listeners heard",
            Counter,
            counters.events,
        ),
        ("events_failed", "Events whose handler gave no usable answer", Counter, counters.events_failed),
        (
            "events_held",
            "Times nothing more was read from a client because as many of its events waited as may",
            Counter,
            counters.events_held,
        ),
        (
            "events_dropped",
            "Events nobody was asked about because their client left and others like it took all the room",
            Counter,
            counters.events_dropped,
        ),
        ("events_unhandled", "Events nobody handles", Counter, counters.events_unhandled),
        ("groups_refused", "Joins refused at the bound of groups", Counter, counters.groups_refused),
        ("recovered", "Sessions recovered", Counter, counters.recovered),
        ("recover_refused", "Recoveries refused", Counter, counters.recover_refused),
        (
            "messages_expired",
            "Messages dropped from replay logs unsent because their time was over",
            Counter,
            counters.messages_expired,
        ),
        (
            "replay_overflow",
            "Sessions ended at the bound of their replay log",
            Counter,
            counters.replay_overflow,
        ),
        ("slow_consumers", "Clients ended at the bound of their outbox", Counter, counters.slow_consumers),
        (
            "connections_refused",
            "Connections refused at the hub's bound",
            Counter,
            counters.connections_refused,
        ),
        (
            "lifetimes_ended",
            "Connections closed because they had lasted as long as they may",
            Counter,
            counters.lifetimes_ended,
        ),
        (
            "flushes_sliced",
            "Flushes that left a fan-out to many members unfinished for the next turn",
            Counter,
            counters.flushes_sliced,
        ),
        (
            "flushes_forced",
            "Flushes that finished fan-outs at once because too much had gathered behind them",
            Counter,
            counters.flushes_forced,
        ),
        (
            "messages_deflated",
            "Messages compressed, each once for all clients that speak the same",
            Counter,
            counters.messages_deflated,
        ),
        ("deflate_bytes_in", "Their bytes before", Counter, counters.deflate_bytes_in),
        ("deflate_bytes_out", "Their bytes afterwards", Counter, counters.deflate_bytes_out),
    ]
    .map(|(name, help, kind, value)| HubRow { name, help, kind, value })
}

/// Copies what the cores and the process count into a scrape.
struct Counts {
    cores: Vec<Arc<CoreShared>>,
    process: Arc<ProcessCounts>,
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counts of {} cores", self.cores.len())
    }
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, kind, count) in self.process.rows() {
            value(descriptor(&mut encoder, name, help, kind)?, kind, count)?;
        }
        let rows: Vec<_> = self.cores.iter().map(|core| core.counters.rows()).collect();
        let Some(first) = rows.first() else { return Ok(()) };
        for (index, (name, help, kind, _)) in first.iter().enumerate() {
            // What users call a connection; the word of the loop is the socket's protocol.
            let name = if *name == "websockets" { "connections" } else { name };
            let mut family = descriptor(&mut encoder, name, help, *kind)?;
            for (core, rows) in rows.iter().enumerate() {
                value(family.encode_family(&[("core", core.to_string())])?, *kind, rows[index].3)?;
            }
        }
        let mut family = descriptor(&mut encoder, "closes", "Connections closed", Kind::Counter)?;
        for (core, shared) in self.cores.iter().enumerate() {
            for (category, closes) in CloseCategory::ALL.iter().zip(&shared.closes) {
                let labels = [("core", core.to_string()), ("category", category.name().to_owned())];
                value(family.encode_family(&labels)?, Kind::Counter, closes.get())?;
            }
        }
        let help = "TLS handshakes that failed";
        let mut family = descriptor(&mut encoder, "tls_handshake_failures", help, Kind::Counter)?;
        for (core, shared) in self.cores.iter().enumerate() {
            for (class, failures) in FailureClass::ALL.iter().zip(&shared.tls_failures) {
                let labels = [("core", core.to_string()), ("reason", class.name().to_owned())];
                value(family.encode_family(&labels)?, Kind::Counter, failures.get())?;
            }
        }
        let hubs: Vec<_> = self
            .cores
            .iter()
            .map(|core| core.hubs.lock().expect("nothing panics with the lock").clone())
            .collect();
        for (index, row) in hub_rows(&HubCounters::default()).iter().enumerate() {
            let name = format!("hub_{}", row.name);
            let mut family = descriptor(&mut encoder, &name, row.help, row.kind)?;
            for (core, hubs) in hubs.iter().enumerate() {
                for (hub, counters) in hubs {
                    let labels = [("core", core.to_string()), ("hub", hub.as_str().to_owned())];
                    value(family.encode_family(&labels)?, row.kind, hub_rows(counters)[index].value)?;
                }
            }
        }
        Ok(())
    }
}

/// What is known of the issuers' keys, and whose tokens were refused; nothing without issuers.
#[derive(Debug)]
struct Oidc {
    issuers: Arc<Issuers>,
    now_unix: u64,
}

impl Collector for Oidc {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use Kind::{Counter, Gauge};
        let issuers: Vec<_> =
            self.issuers.handles().map(|issuer| (issuer.settings().url.as_str(), issuer.counts())).collect();
        if issuers.is_empty() {
            return Ok(());
        }
        type Read = fn(&oidc::Counts, u64) -> Option<u64>;
        let rows: [(&str, &str, Kind, Read); 4] = [
            ("oidc_refreshes", "Fetches of an issuer's keys", Counter, |counts, _| Some(counts.refreshes)),
            ("oidc_refresh_failures", "Fetches that failed", Counter, |counts, _| Some(counts.failures)),
            ("oidc_keys", "Keys of an issuer in use", Gauge, |counts, _| Some(counts.keys)),
            ("oidc_keys_age_seconds", "Since the keys in use were fetched", Gauge, |counts, now| {
                counts.fetched_unix.map(|fetched| now.saturating_sub(fetched))
            }),
        ];
        for (name, help, kind, read) in rows {
            let mut family = descriptor(&mut encoder, name, help, kind)?;
            for (url, counts) in &issuers {
                let Some(number) = read(counts, self.now_unix) else { continue };
                value(family.encode_family(&[("issuer", (*url).to_owned())])?, kind, number)?;
            }
        }
        let mut family = descriptor(&mut encoder, "oidc_refused", "Tokens of issuers refused", Counter)?;
        for (reason, count) in self.issuers.refused() {
            value(family.encode_family(&[("reason", reason.to_owned())])?, Counter, count)?;
        }
        Ok(())
    }
}

fn descriptor<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
    kind: Kind,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    // The encoder ends the help with a full stop of its own.
    encoder.encode_descriptor(name, help.trim().trim_end_matches('.'), None::<&Unit>, metric_type)
}

fn value(mut encoder: MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    match kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        Kind::Gauge => encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Issuer as IssuerConfig};
    use ringhub_protocol::name::HubName;
    use ringhub_relay::jwks::KeySet;

    #[test]
    fn the_metrics_page() {
        let cores: Vec<Arc<CoreShared>> = (0..2).map(|_| Arc::default()).collect();
        cores[0].counters.messages_in.add(3);
        cores[1].counters.websockets.set(2);
        cores[1].closes[0].add(1);
        let hub = HubName::parse("chat").unwrap();
        let counters = HubCounters { connections: 2, messages_out: 5, ..HubCounters::default() };
        for core in &cores {
            core.hubs.lock().unwrap().push((hub.clone(), counters));
        }
        let process: Arc<ProcessCounts> = Arc::default();
        process.origins_refused.up();
        let issuers = Arc::new(Issuers::new(&Config::default()));
        insta::assert_snapshot!(page(&cores, &process, &issuers, Default::default(), 0));
        assert_eq!(hubs(&cores)["chat"][..2], [("connections", 4), ("suspended", 0)]);
    }

    #[test]
    fn issuers_on_the_metrics_page() {
        let mut config = Config::default();
        config
            .oidc
            .issuers
            .push(IssuerConfig { url: Some("https://a".to_owned()), ..IssuerConfig::default() });
        let issuers = Arc::new(Issuers::new(&config));
        let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256",
            "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
        issuers.handles().next().unwrap().publish(KeySet::parse(jwks.as_bytes(), 100).unwrap());
        let page = page(&[], &Arc::default(), &issuers, Default::default(), 130);
        for line in [
            "ringhub_oidc_refreshes_total{issuer=\"https://a\"} 0",
            "ringhub_oidc_refresh_failures_total{issuer=\"https://a\"} 0",
            "ringhub_oidc_keys{issuer=\"https://a\"} 1",
            "ringhub_oidc_keys_age_seconds{issuer=\"https://a\"} 30",
            "ringhub_oidc_refused_total{reason=\"signature\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
