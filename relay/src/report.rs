//! What can be seen of a handler: what became of its events, how long they took, and its last calls.

use bytes::Bytes;
use ringhub_hub::ConnectionId;
use ringhub_hub::event::EventSubject;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::breaker::BreakerState;

/// Calls that are kept of each handler.
pub const CALLS_KEPT: usize = 50;
/// What is kept of a body, in bytes.
pub const BODY_BYTES_KEPT: usize = 4096;
/// What is kept of a cause, in bytes.
const CAUSE_BYTES_MAX: usize = 400;

/// Kinds of events, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventClass {
    Connect,
    Connected,
    Disconnected,
    User,
    Presence,
}

impl EventClass {
    /// All, in the order of [`UpstreamReport::events`].
    pub const ALL: [Self; 5] =
        [Self::Connect, Self::Connected, Self::Disconnected, Self::User, Self::Presence];

    /// The class of an event.
    pub fn of(subject: &EventSubject) -> Self {
        match subject {
            EventSubject::Connect => Self::Connect,
            EventSubject::Connected => Self::Connected,
            EventSubject::Disconnected => Self::Disconnected,
            EventSubject::User(_) => Self::User,
            EventSubject::Joined(_) | EventSubject::Left(_) => Self::Presence,
        }
    }

    /// For labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::User => "user",
            Self::Presence => "presence",
        }
    }
}

/// What became of an event, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx that could be used.
    Success,
    /// A 4xx to `connect`: the handler refused the client.
    Refused,
    /// A 4xx to another event.
    ClientError,
    /// A 5xx, or a 408, after all attempts.
    ServerError,
    /// No connection, or one that broke off, after all attempts.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// An answer that is against the rules.
    Invalid,
    /// An answer over the bound.
    TooLarge,
    /// The handler does not want events of us.
    NotValidated,
    /// It was not asked: its breaker is open.
    Resting,
    /// It was not asked: too many events wait for it.
    Overloaded,
    /// Nobody waited for it any more.
    Cancelled,
    /// A fault of ours.
    Internal,
}

impl Outcome {
    /// All, in the order of [`UpstreamReport::events`].
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::Refused,
        Self::ClientError,
        Self::ServerError,
        Self::Unreachable,
        Self::Timeout,
        Self::Invalid,
        Self::TooLarge,
        Self::NotValidated,
        Self::Resting,
        Self::Overloaded,
        Self::Cancelled,
        Self::Internal,
    ];

    /// For labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::NotValidated => "not_validated",
            Self::Resting => "resting",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

/// Upper bounds of the latency histogram's buckets, in milliseconds; one more bucket is for all above.
pub const LATENCY_MS: [u64; 15] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 100_000];

/// Everything that is known of a handler at one moment.
#[derive(Debug, Clone)]
pub struct UpstreamReport {
    /// Its hub.
    pub hub: String,
    /// Its place among the hub's handlers, from 0.
    pub place: usize,
    /// Its URL template, without secrets.
    pub url: String,
    /// Its breaker.
    pub breaker: BreakerState,
    /// Events whose request is on its way.
    pub in_flight: usize,
    /// Events that wait for a place or for another attempt.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// HTTP/1.1 connections that wait for a request.
    pub idle_connections: usize,
    /// Names of the server that the handler has been asked about (§2); at most 64.
    pub origins: usize,
    /// Ended events: by [`EventClass::ALL`], then by [`Outcome::ALL`].
    pub events: [[u64; Outcome::ALL.len()]; EventClass::ALL.len()],
    /// Requests that were made for events.
    pub attempts: u64,
    /// Those of them that were not an event's first.
    pub retries: u64,
    /// From an event's coming to its end, for events that were sent.
    pub latency: LatencyReport,
    /// The last calls, newest first; at most [`CALLS_KEPT`].
    pub calls: Vec<CallReport>,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyReport {
    /// Events by [`LATENCY_MS`], and those above; not cumulated.
    pub buckets: [u64; LATENCY_MS.len() + 1],
    /// All of their times.
    pub sum: Duration,
}

/// One event's way.
#[derive(Debug, Clone)]
pub struct CallReport {
    /// When it came, milliseconds since 1970.
    pub time_unix_ms: u64,
    /// What happened.
    pub subject: EventSubject,
    /// Of which connection.
    pub connection: ConnectionId,
    /// `ce-id`.
    pub id: u64,
    /// Requests that were made for it.
    pub attempts: u32,
    /// Of the last attempt's answer, if there was one.
    pub status: Option<u16>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, for the operator; empty for a success.
    pub cause: Cow<'static, str>,
    /// Until its first attempt began.
    pub queue: Duration,
    /// Until the head of the last attempt's answer came.
    pub first_byte: Option<Duration>,
    /// Until its end.
    pub total: Duration,
    /// Of the request's body.
    pub request_bytes: usize,
    /// Of the answer's body.
    pub answer_bytes: usize,
    /// The beginnings of both bodies, if they are to be kept.
    pub bodies: Option<(Bytes, Bytes)>,
}

/// Where it is gathered.
#[derive(Debug, Default)]
pub(crate) struct Record {
    events: [[AtomicU64; Outcome::ALL.len()]; EventClass::ALL.len()],
    attempts: AtomicU64,
    retries: AtomicU64,
    buckets: [AtomicU64; LATENCY_MS.len() + 1],
    sum_us: AtomicU64,
    calls: Mutex<VecDeque<CallReport>>,
}

impl Record {
    /// An event ended.
    pub(crate) fn add(&self, mut call: CallReport) {
        let class = EventClass::of(&call.subject);
        self.events[class as usize][call.outcome as usize].fetch_add(1, Ordering::Relaxed);
        if call.attempts > 0 {
            self.attempts.fetch_add(call.attempts.into(), Ordering::Relaxed);
            self.retries.fetch_add(u64::from(call.attempts) - 1, Ordering::Relaxed);
            let ms = call.total.as_millis() as u64;
            let bucket = LATENCY_MS.iter().position(|bound| ms < *bound).unwrap_or(LATENCY_MS.len());
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            self.sum_us.fetch_add(call.total.as_micros() as u64, Ordering::Relaxed);
        }
        if let Cow::Owned(cause) = &mut call.cause {
            cause.truncate(cause.floor_char_boundary(CAUSE_BYTES_MAX));
        }
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = if calls.len() == CALLS_KEPT { calls.pop_front() } else { None };
        calls.push_back(call);
        drop(calls);
        drop(oldest);
    }

    pub(crate) fn events(&self) -> [[u64; Outcome::ALL.len()]; EventClass::ALL.len()] {
        self.events.each_ref().map(|row| row.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }

    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(crate) fn latency(&self) -> LatencyReport {
        LatencyReport {
            buckets: self.buckets.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
        }
    }

    /// Newest first.
    pub(crate) fn calls(&self) -> Vec<CallReport> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().rev().cloned().collect()
    }
}

/// What is kept of a body; a copy, so that nothing large stays because of it.
pub(crate) fn body_start(body: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&body[..body.len().min(BODY_BYTES_KEPT)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringhub_hub::CoreId;

    /// What is kept, and shown on the page, of a cause: whole characters.
    #[test]
    fn a_long_cause_is_cut_at_its_bound() {
        let kept = |cause: String| {
            let record = Record::default();
            record.add(CallReport {
                time_unix_ms: 0,
                subject: EventSubject::Connected,
                connection: ConnectionId { node: 0, core: CoreId(0), slot: 0, random: 0 },
                id: 1,
                attempts: 1,
                status: None,
                outcome: Outcome::Unreachable,
                cause: cause.into(),
                queue: Duration::ZERO,
                first_byte: None,
                total: Duration::ZERO,
                request_bytes: 0,
                answer_bytes: 0,
                bodies: None,
            });
            record.calls().remove(0).cause.into_owned()
        };
        let most = "x".repeat(CAUSE_BYTES_MAX);
        assert_eq!(kept(most.clone()), most);
        assert_eq!(kept(format!("{most}y")), most);
        assert_eq!(kept(format!("x{}", "ä".repeat(CAUSE_BYTES_MAX))).len(), CAUSE_BYTES_MAX - 1);
    }
}
