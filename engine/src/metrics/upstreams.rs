//! Event handlers and listeners on the metrics page, by hub and place.
//!
//! Classes of events are labels, their names are not: clients choose those.

use super::{descriptor, value};
use crate::core::counters::Kind;
use crate::upstreams::{STATES, Views};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use ringhub_relay::RelayReport;
use ringhub_relay::listener::ListenerReport;
use ringhub_relay::report::{EventClass, LATENCY_MS, LatencyReport, Outcome, UpstreamReport};
use std::fmt;

/// Copies what is known of them into a scrape; nothing without any.
#[derive(Debug)]
pub(super) struct Events(pub(super) Views, pub(super) RelayReport);

impl Collector for Events {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let handlers: Vec<&UpstreamReport> = self.0.handlers.iter().map(|handler| &handler.report).collect();
        if !handlers.is_empty() {
            of_handlers(&mut encoder, &handlers)?;
            of_all(&mut encoder, self.1)?;
        }
        if !self.0.listeners.is_empty() {
            of_listeners(&mut encoder, &self.0.listeners)?;
        }
        Ok(())
    }
}

/// What handlers share.
fn of_all(encoder: &mut DescriptorEncoder<'_>, report: RelayReport) -> fmt::Result {
    let RelayReport { events, questions, answers, large_answer_bytes } = report;
    for (name, help, number) in [
        ("relay_events", "Events that have come to the side thread and not ended", events),
        ("relay_questions", "Those of them whose answer somebody waits for", questions),
        ("relay_answers", "Answers of event handlers that are being read", answers),
        ("relay_large_answer_bytes", "Bytes set aside for answers larger than 64 KiB", large_answer_bytes),
    ] {
        value(descriptor(encoder, name, help, Kind::Gauge)?, Kind::Gauge, number as u64)?;
    }
    Ok(())
}

fn of_handlers(encoder: &mut DescriptorEncoder<'_>, handlers: &[&UpstreamReport]) -> fmt::Result {
    use Kind::{Counter, Gauge};
    let help = "Events that event handlers were to be sent, by what became of them";
    let mut family = descriptor(encoder, "upstream_events", help, Counter)?;
    for report in handlers {
        for (class, counts) in EventClass::ALL.iter().zip(&report.events) {
            for (outcome, count) in Outcome::ALL.iter().zip(counts) {
                let [hub, handler] = labels(report);
                let labels = [
                    hub,
                    handler,
                    ("class", class.name().to_owned()),
                    ("outcome", outcome.name().to_owned()),
                ];
                value(family.encode_family(&labels)?, Counter, *count)?;
            }
        }
    }
    type Read = fn(&UpstreamReport) -> u64;
    let rows: [(&str, &str, Kind, Read); 5] = [
        ("upstream_requests", "Requests made for events", Counter, |report| report.attempts),
        ("upstream_retries", "Requests that were not an event's first", Counter, |report| report.retries),
        ("upstream_in_flight", "Requests on their way", Gauge, |report| report.in_flight as u64),
        ("upstream_queued", "Events that wait to be sent, first or again", Gauge, |report| {
            report.queued as u64
        }),
        ("upstream_queued_bytes", "Bytes of the events that wait to be sent", Gauge, |report| {
            report.queued_bytes as u64
        }),
    ];
    for (name, help, kind, read) in rows {
        let mut family = descriptor(encoder, name, help, kind)?;
        for report in handlers {
            value(family.encode_family(&labels(report))?, kind, read(report))?;
        }
    }
    let help = "1 for the state that a handler is in";
    let mut family = descriptor(encoder, "upstream_state", help, Gauge)?;
    for report in handlers {
        for (state, name) in STATES {
            let [hub, handler] = labels(report);
            let labels = [hub, handler, ("state", name.to_owned())];
            value(family.encode_family(&labels)?, Gauge, u64::from(state == report.breaker))?;
        }
    }
    let help = "From an event's coming to its end, for events that were sent";
    let mut family =
        encoder.encode_descriptor("upstream_seconds", help, None::<&Unit>, MetricType::Histogram)?;
    for report in handlers {
        let LatencyReport { buckets, sum } = &report.latency;
        let bounds = LATENCY_MS.iter().map(|ms| *ms as f64 / 1000.0).chain([f64::INFINITY]);
        let pairs: Vec<(f64, u64)> = bounds.zip(buckets.iter().copied()).collect();
        let (labels, count) = (labels(report), buckets.iter().sum());
        let mut histogram = family.encode_family(&labels)?;
        histogram.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &pairs, None)?;
    }
    Ok(())
}

fn of_listeners(encoder: &mut DescriptorEncoder<'_>, listeners: &[ListenerReport]) -> fmt::Result {
    use Kind::{Counter, Gauge};
    let labels =
        |report: &ListenerReport| [("hub", report.hub.clone()), ("listener", report.place.to_string())];
    let help = "Events that event listeners were to be given, by what became of them";
    let mut family = descriptor(encoder, "listener_events", help, Counter)?;
    for report in listeners {
        let counts =
            [("delivered", report.delivered), ("dropped", report.dropped), ("failed", report.failed)];
        for (outcome, count) in counts {
            let [hub, listener] = labels(report);
            value(family.encode_family(&[hub, listener, ("outcome", outcome.to_owned())])?, Counter, count)?;
        }
    }
    type Read = fn(&ListenerReport) -> usize;
    let rows: [(&str, &str, Read); 2] = [
        ("listener_queued", "Events that wait for an event listener", |report| report.queued),
        ("listener_queued_bytes", "Bytes of the events that wait for an event listener", |report| {
            report.queued_bytes
        }),
    ];
    for (name, help, read) in rows {
        let mut family = descriptor(encoder, name, help, Gauge)?;
        for report in listeners {
            value(family.encode_family(&labels(report))?, Gauge, read(report) as u64)?;
        }
    }
    Ok(())
}

fn labels(report: &UpstreamReport) -> [(&'static str, String); 2] {
    [("hub", report.hub.clone()), ("handler", report.place.to_string())]
}

#[cfg(test)]
mod tests {
    use super::super::page;
    use crate::auth::Issuers;
    use crate::config::Config;
    use crate::upstreams::tests::sample;
    use std::sync::Arc;

    #[test]
    fn handlers_and_listeners_on_the_metrics_page() {
        let issuers = Arc::new(Issuers::new(&Config::default()));
        let page = page(&[], &Arc::default(), &issuers, (sample(), Default::default()), 0);
        let at = page.find("# HELP ringhub_upstream_events").expect(&page);
        insta::assert_snapshot!(&page[at..]);
    }
}
