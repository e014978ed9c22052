//! A rest for a handler that answers nothing: its events fail at once instead of piling up (`event-handlers` §10).
//!
//! ```text
//!            failures in a row                    rest is over: one event goes
//!   closed ─────────────────────▶ open (resting) ─────────────────────────────▶ probing
//!      ▲                             ▲                                             │
//!      │                             └── it failed: the rest doubles ──────────────┤
//!      └────────────────────────────────── it, or any other, got an answer ────────┘
//! ```
//!
//! What counts is what became of an event for good, so a rest never cuts short what another attempt would have saved.

use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The first rest; each further one is twice as long.
pub(crate) const REST_FIRST: Duration = Duration::from_secs(1);
/// The longest rest.
pub(crate) const REST_MAX: Duration = Duration::from_secs(30);

/// Of one handler.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// 0 for never.
    failures_max: u32,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, rest: Duration },
    Probing { rest: Duration },
}

/// What a handler is given at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Its events.
    Closed,
    /// A rest.
    Open,
    /// One event, to see whether it is back.
    Probing,
}

/// How an event may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As usual.
    Usual,
    /// It decides how the rest goes on: [`Breaker::end`] must be told.
    Probe,
    /// Not at all.
    Resting,
}

/// What became of an event, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// There was an answer, of whatever kind.
    Answered,
    /// There was none, or only errors of the server.
    Failed,
    /// It says nothing about the handler.
    Unknown,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32) -> Self {
        Self { failures_max, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Asks for an event.
    pub(crate) fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Admission::Usual,
            State::Open { until, rest } if until <= now => {
                *state = State::Probing { rest };
                Admission::Probe
            }
            State::Open { .. } | State::Probing { .. } => Admission::Resting,
        }
    }

    /// An event ended. The new state, if it is another now.
    pub(crate) fn end(&self, was_probe: bool, end: End, now: Instant) -> Option<BreakerState> {
        let mut state = self.lock();
        let before = state.public();
        *state = match (*state, end) {
            (_, End::Answered) => State::Closed { failures: 0 },
            (State::Closed { failures }, End::Failed) => {
                let failures = failures.saturating_add(1);
                if failures == self.failures_max {
                    State::Open { until: now + REST_FIRST, rest: REST_FIRST }
                } else {
                    State::Closed { failures }
                }
            }
            (State::Probing { rest }, End::Failed) if was_probe => {
                let rest = (rest * 2).min(REST_MAX);
                State::Open { until: now + rest, rest }
            }
            // The next event is the probe.
            (State::Probing { rest }, End::Unknown) if was_probe => State::Open { until: now, rest },
            (state, _) => state,
        };
        let after = state.public();
        (before != after).then_some(after)
    }

    /// As it is.
    pub(crate) fn state(&self) -> BreakerState {
        self.lock().public()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn public(self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::Probing { .. } => BreakerState::Probing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(failures: u32, now: Instant) -> Breaker {
        let breaker = Breaker::new(failures);
        for n in 1..=failures {
            assert_eq!(breaker.admit(now), Admission::Usual);
            let change = breaker.end(false, End::Failed, now);
            assert_eq!(change, (n == failures).then_some(BreakerState::Open));
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_only_those() {
        let now = Instant::now();
        let breaker = Breaker::new(3);
        for end in [End::Failed, End::Failed, End::Answered, End::Failed, End::Unknown, End::Failed] {
            assert_eq!(breaker.end(false, end, now), None);
        }
        assert_eq!(breaker.end(false, End::Failed, now), Some(BreakerState::Open));
        assert_eq!(breaker.admit(now), Admission::Resting);
    }

    #[test]
    fn one_probe_at_a_time_after_rests_that_double() {
        let mut now = Instant::now();
        let breaker = opened(2, now);
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.admit(now + Duration::from_millis(rest * 1000 - 1)), Admission::Resting);
            now += Duration::from_secs(rest);
            assert_eq!(breaker.admit(now), Admission::Probe);
            assert_eq!(breaker.admit(now), Admission::Resting);
            // One that was on its way when it opened says nothing new.
            assert_eq!(breaker.end(false, End::Failed, now), None);
            assert_eq!(breaker.end(true, End::Failed, now), Some(BreakerState::Open));
        }
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another_and_an_answer_closes() {
        let now = Instant::now();
        let breaker = opened(1, now);
        let later = now + REST_FIRST;
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert_eq!(breaker.end(true, End::Unknown, later), Some(BreakerState::Open));
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert_eq!(breaker.end(true, End::Answered, later), Some(BreakerState::Closed));
        assert_eq!(breaker.admit(later), Admission::Usual);
        assert_eq!(breaker.end(false, End::Failed, later), Some(BreakerState::Open), "it counts from 0");
    }

    #[test]
    fn never_is_never() {
        let now = Instant::now();
        let breaker = Breaker::new(0);
        for _ in 0..1000 {
            assert_eq!(breaker.end(false, End::Failed, now), None);
        }
        assert_eq!(breaker.admit(now), Admission::Usual);
    }
}
