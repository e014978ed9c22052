//! What the operator is told of an event that failed, and of a handler that is given a rest.

use ringhub_hub::event::EventSubject;
use std::fmt::Write;
use tokio::time::Instant;
use tracing::Level;

use super::{Call, Verdict};
use crate::breaker::BreakerState;
use crate::report::Outcome;

/// What is shown of a cause, in characters.
const CAUSE_SHOWN_MAX: usize = 300;

impl Call {
    /// One record, in the words that the service's documentation has (`howto-troubleshoot-common-issues`).
    pub(super) fn log(&self, verdict: &Verdict) {
        let is_failure = match verdict.outcome {
            Outcome::Success => return,
            Outcome::Refused | Outcome::Cancelled => false,
            _ => true,
        };
        let left_out = match (is_failure, tracing::enabled!(Level::DEBUG)) {
            (true, _) => self.upstream.failures.admits(Instant::now()),
            (false, is_wanted) => is_wanted.then_some(0),
        };
        let Some(left_out) = left_out else { return };
        let (kind, category, request_type) = match self.event.subject {
            EventSubject::Connect => ("sys", "connections", "Connect"),
            EventSubject::Connected => ("sys", "connections", "Connected"),
            EventSubject::Disconnected => ("sys", "connections", "Disconnected"),
            EventSubject::User(_) => ("user", "messages", "Message"),
            EventSubject::Joined(_) | EventSubject::Left(_) => ("gp", "groups", "Presence"),
        };
        let mut message = format!(
            "Sending message during operation hub:{},event:{},type:{kind},category:{category},requestType:{request_type} ",
            self.event.caller.hub.as_str(),
            self.event.subject.subject().name(),
        );
        match (verdict.outcome, self.trace.status) {
            (Outcome::Success | Outcome::Timeout | Outcome::Unreachable, _) | (_, None) => {
                message.push_str("got no response that could be used.");
            }
            (_, Some(status)) => {
                let _ = write!(message, "got unexpected response with status code {status}.");
            }
        }
        let settings = self.upstream.settings();
        let cause = shown(&verdict.cause);
        let (handler, connection, attempts) = (settings.place, &self.event.caller.id, self.trace.attempts);
        let (url, outcome) = (&settings.template, verdict.outcome.name());
        if is_failure {
            tracing::warn!(handler, %url, %connection, id = self.id, attempts, outcome, cause, left_out, "{message}");
        } else {
            tracing::debug!(handler, %url, %connection, id = self.id, attempts, outcome, cause, "{message}");
        }
    }

    pub(super) fn log_breaker(&self, state: BreakerState) {
        let settings = self.upstream.settings();
        let (hub, handler, url) = (settings.hub.as_str(), settings.place, &settings.template);
        match state {
            BreakerState::Closed => tracing::info!(hub, handler, %url, "the handler answers again"),
            BreakerState::Open => {
                tracing::warn!(hub, handler, %url, "the handler fails; its events fail at once until it had a rest");
            }
            BreakerState::Probing => {}
        }
    }
}

/// A cause as it stands in the log: a part of it may be the handler's text, so on one line, and short.
fn shown(cause: &str) -> String {
    cause.chars().take(CAUSE_SHOWN_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cause_is_cut_and_stays_on_its_line() {
        let most = "ä".repeat(CAUSE_SHOWN_MAX);
        assert_eq!(shown(&most), most);
        assert_eq!(shown(&format!("{most}b")), most);
        assert_eq!(shown("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }
}
