//! Every core's counters as one page of OpenMetrics text, labelled by core.
//!
//! Labels are cores, hubs and categories: few, and named by the operator. Names of users, groups and
//! connections are never labels. Reading takes no lock that a message would wait for.

use crate::core::counters::{CoreShared, Kind};
use crate::net::tls::FailureClass;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use ringhub_hub::effect::CloseCategory;
use ringhub_hub::hub::Counters as HubCounters;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The page's media type.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page, as of now; hubs' numbers are up to a second old.
pub(crate) fn page(cores: &[Arc<CoreShared>]) -> String {
    let mut registry = Registry::with_prefix("ringhub");
    registry.register_collector(Box::new(Cores(cores.to_vec())));
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

fn hub_rows(counters: &HubCounters) -> [HubRow; 15] {
    use Kind::{Counter, Gauge};
    [
        ("connections", "Connections now, sessions without a socket included", Gauge, counters.connections),
        ("suspended", "Reliable sessions now without a socket", Gauge, counters.suspended),
        ("messages_in", "Messages of clients and REST calls taken in", Counter, counters.messages_in),
        ("messages_out", "Messages handed to sockets or replay logs", Counter, counters.messages_out),
        ("forbidden", "Requests refused for a missing role", Counter, counters.forbidden),
        ("duplicates", "Requests answered Duplicate", Counter, counters.duplicates),
        ("events_unhandled", "Events nobody handles", Counter, counters.events_unhandled),
        ("groups_refused", "Joins refused at the bound of groups", Counter, counters.groups_refused),
        ("recovered", "Sessions recovered", Counter, counters.recovered),
        ("recover_refused", "Recoveries refused", Counter, counters.recover_refused),
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
    ]
    .map(|(name, help, kind, value)| HubRow { name, help, kind, value })
}

/// Copies what the cores count into a scrape.
struct Cores(Vec<Arc<CoreShared>>);

impl fmt::Debug for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cores({})", self.0.len())
    }
}

impl Collector for Cores {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows: Vec<_> = self.0.iter().map(|core| core.counters.rows()).collect();
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
        for (core, shared) in self.0.iter().enumerate() {
            for (category, closes) in CloseCategory::ALL.iter().zip(&shared.closes) {
                let labels = [("core", core.to_string()), ("category", category.name().to_owned())];
                value(family.encode_family(&labels)?, Kind::Counter, closes.get())?;
            }
        }
        let help = "TLS handshakes that failed";
        let mut family = descriptor(&mut encoder, "tls_handshake_failures", help, Kind::Counter)?;
        for (core, shared) in self.0.iter().enumerate() {
            for (class, failures) in FailureClass::ALL.iter().zip(&shared.tls_failures) {
                let labels = [("core", core.to_string()), ("reason", class.name().to_owned())];
                value(family.encode_family(&labels)?, Kind::Counter, failures.get())?;
            }
        }
        let hubs: Vec<_> = self
            .0
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
    use ringhub_protocol::name::HubName;

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
        insta::assert_snapshot!(page(&cores));
        assert_eq!(hubs(&cores)["chat"][..2], [("connections", 4), ("suspended", 0)]);
    }
}
