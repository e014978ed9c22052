//! `/upstreams`: event handlers and listeners as JSON.

use crate::upstreams::{HandlerView, STATES, Views};
use bytes::Bytes;
use ringhub_protocol::events::{EventFilter, Subject, SystemEvents, UserEvents};
use ringhub_relay::listener::ListenerReport;
use ringhub_relay::report::{CallReport, EventClass, LATENCY_MS, LatencyReport, Outcome};
use ringhub_relay::upstream::{HandlerAuth, HttpVersion, UpstreamSettings};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// All of them, with the last calls of each handler, or of one: its hub and place.
pub(super) fn list(views: &Views, calls_of: Option<(&str, usize)>) -> Value {
    let has_calls = |handler: &HandlerView| {
        calls_of.is_none_or(|(hub, place)| handler.report.hub == hub && handler.report.place == place)
    };
    let handlers: Vec<Value> = views.handlers.iter().map(|view| handler(view, has_calls(view))).collect();
    let listeners: Vec<Value> = views.listeners.iter().map(listener).collect();
    json!({ "handlers": handlers, "listeners": listeners })
}

fn handler(HandlerView { settings, wants, report }: &HandlerView, with_calls: bool) -> Value {
    let events = EventClass::ALL.iter().zip(&report.events).filter_map(|(class, counts)| {
        let counted = Outcome::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
        let counted: Map<_, _> =
            counted.map(|(outcome, count)| (outcome.name().into(), (*count).into())).collect();
        (!counted.is_empty()).then(|| (class.name().to_owned(), Value::Object(counted)))
    });
    let events: Map<String, Value> = events.collect();
    json!({
        "hub": report.hub,
        "place": report.place,
        "url": report.url,
        "wants": wanted(wants),
        "settings": shown(settings),
        "state": STATES.iter().find(|(state, _)| *state == report.breaker).map(|(_, name)| name),
        "inFlight": report.in_flight,
        "queued": report.queued,
        "queuedBytes": report.queued_bytes,
        "events": events,
        "requests": report.attempts,
        "retries": report.retries,
        "latency": latency(&report.latency),
        "calls": with_calls.then(|| report.calls.iter().map(call).collect::<Vec<_>>()),
    })
}

fn listener(report: &ListenerReport) -> Value {
    json!({
        "hub": report.hub,
        "place": report.place,
        "destination": report.destination,
        "queued": report.queued,
        "queuedBytes": report.queued_bytes,
        "delivered": report.delivered,
        "dropped": report.dropped,
        "failed": report.failed,
    })
}

fn wanted(EventFilter { system, user, presence }: &EventFilter) -> Value {
    let user = match user {
        UserEvents::None => json!([]),
        UserEvents::All => json!(["*"]),
        UserEvents::Named(names) => json!(names),
    };
    let SystemEvents { connect, connected, disconnected } = *system;
    let named = |events: &[(Subject<'_>, bool)]| -> Vec<Value> {
        events.iter().filter(|(_, wanted)| *wanted).map(|(subject, _)| subject.name().into()).collect()
    };
    json!({
        "user": user,
        "system": named(&[
            (Subject::Connect, connect),
            (Subject::Connected, connected),
            (Subject::Disconnected, disconnected),
        ]),
        "presence": named(&[(Subject::Joined(""), presence.joined), (Subject::Left(""), presence.left)]),
        "groups": presence.groups.iter().collect::<Vec<_>>(),
    })
}

/// Settings without secrets.
fn shown(settings: &UpstreamSettings) -> Value {
    json!({
        "auth": match settings.auth {
            HandlerAuth::None => "none",
            HandlerAuth::Header { .. } => "header",
            HandlerAuth::ClientCredentials { .. } => "client_credentials",
        },
        "validate": settings.validate,
        "http": match settings.http {
            HttpVersion::Auto => "auto",
            HttpVersion::Http1 => "1.1",
            HttpVersion::Http2 => "2",
        },
        "timeoutSeconds": settings.timeout.as_secs(),
        "connectTimeoutSeconds": settings.connect_timeout.as_secs(),
        "retryDelaysSeconds": settings.retry_delays.iter().map(Duration::as_secs).collect::<Vec<_>>(),
        "answerBytesMax": settings.answer_bytes_max,
        "concurrencyMax": settings.concurrency_max,
        "queueMax": settings.queue_max,
        "queueBytesMax": settings.queue_bytes_max,
        "breakerFailures": settings.breaker_failures,
        "caFile": settings.ca_file.as_ref().map(|file| file.to_string_lossy()),
        "forwardRefusals": settings.forward_refusals,
        "inspectBodies": settings.inspect_bodies,
    })
}

fn latency(latency: &LatencyReport) -> Value {
    json!({
        "count": latency.buckets.iter().sum::<u64>(),
        "sumSeconds": seconds(latency.sum),
        "p50Seconds": quantile(&latency.buckets, 0.5),
        "p99Seconds": quantile(&latency.buckets, 0.99),
    })
}

/// The time that a share of the events stayed under, taking those of a bucket as evenly spread; none without events.
/// Above the last bound there is nothing to go by, and it is that.
fn quantile(buckets: &[u64], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let wanted = all as f64 * share;
    let (mut below, mut lower_ms) = (0, 0);
    if all == 0 {
        return None;
    }
    for (count, upper_ms) in buckets.iter().zip(LATENCY_MS) {
        if *count > 0 && (below + count) as f64 >= wanted {
            let part = (wanted - below as f64) / *count as f64;
            return Some((lower_ms as f64 + part * (upper_ms - lower_ms) as f64) / 1000.0);
        }
        below += count;
        lower_ms = upper_ms;
    }
    Some(lower_ms as f64 / 1000.0)
}

fn call(call: &CallReport) -> Value {
    let subject = call.subject.subject();
    let group = match subject {
        Subject::Joined(group) | Subject::Left(group) => Some(group),
        _ => None,
    };
    let bodies = call.bodies.as_ref();
    json!({
        "timeUnix": call.time_unix_ms as f64 / 1000.0,
        "class": EventClass::of(&call.subject).name(),
        "event": subject.name(),
        "group": group,
        "connectionId": call.connection.text().as_str(),
        "id": call.id,
        "attempts": call.attempts,
        "status": call.status,
        "outcome": call.outcome.name(),
        "cause": call.cause,
        "queueSeconds": seconds(call.queue),
        "firstByteSeconds": call.first_byte.map(seconds),
        "totalSeconds": seconds(call.total),
        "requestBytes": call.request_bytes,
        "answerBytes": call.answer_bytes,
        "requestBody": bodies.map(|(request, _)| body(request)),
        "answerBody": bodies.map(|(_, answer)| body(answer)),
    })
}

/// The start of a body as text, if it is that; else in base64.
fn body(start: &Bytes) -> Value {
    match std::str::from_utf8(start) {
        Ok(text) => json!({ "text": text }),
        // It was cut in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            json!({ "text": String::from_utf8_lossy(&start[..error.valid_up_to()]) })
        }
        Err(_) => json!({ "base64": base64_simd::STANDARD.encode_to_string(start) }),
    }
}

/// To the microsecond.
fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstreams::tests::sample;

    #[test]
    fn a_handler_with_its_last_calls_and_a_listener() {
        let list = list(&sample(), Some(("a", 0)));
        insta::assert_snapshot!(serde_json::to_string_pretty(&list).unwrap());
    }

    #[test]
    fn calls_are_of_the_handler_that_was_asked_for() {
        for (calls_of, expected) in
            [(None, true), (Some(("a", 0)), true), (Some(("a", 1)), false), (Some(("b", 0)), false)]
        {
            assert_eq!(
                list(&sample(), calls_of)["handlers"][0]["calls"].is_array(),
                expected,
                "{calls_of:?}"
            );
        }
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let with = |counts: &[(usize, u64)]| {
            let mut buckets = [0; LATENCY_MS.len() + 1];
            counts.iter().for_each(|(bucket, count)| buckets[*bucket] = *count);
            buckets
        };
        assert_eq!(quantile(&with(&[]), 0.5), None);
        assert_eq!(quantile(&with(&[(0, 10)]), 0.5), Some(0.0005));
        assert_eq!(quantile(&with(&[(3, 1)]), 1.0), Some(0.01));
        // Between 10 and 25 ms, after the 98 below: the first of two.
        assert_eq!(quantile(&with(&[(1, 98), (4, 2)]), 0.99), Some(0.0175));
        assert_eq!(quantile(&with(&[(15, 3)]), 0.5), Some(100.0), "it is at least that");
    }

    #[test]
    fn bodies_are_text_or_base64() {
        for (start, expected) in [
            (&b"{}"[..], json!({ "text": "{}" })),
            (b"", json!({ "text": "" })),
            (b"a\xC3", json!({ "text": "a" })),
            (b"a\xC3a", json!({ "base64": "YcNh" })),
        ] {
            assert_eq!(body(&Bytes::from_static(start)), expected);
        }
    }
}
