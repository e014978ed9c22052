//! Abuse protection: a handler must say that it wants events of us before it gets any (`event-handlers` §2).
//!
//! Each handler is asked once for each name that the server is called by (the origin), and again after
//! [`FRESH`], in the background. A handler that is not there, or says 5xx, has not said no: events then fail as
//! if it were not there for them, are tried again by their delays, and the question with them.

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use ringhub_protocol::uri::without_port;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

use crate::client::{Answer, Client, Outgoing};
use crate::headers;
use crate::kept::{self, Kept};

/// Origins of one handler that are remembered; the one that was not needed longest is forgotten for another. Where
/// no public endpoint is configured, clients choose origins by their `Host`.
pub(crate) const ORIGINS_MAX: usize = 64;
/// For one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// After that long a handler that said yes is asked again.
const FRESH: Duration = Duration::from_secs(60);
/// A handler that said no is asked again after this long, and after each further no twice as long.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// One that could not be asked is not asked again sooner. It does not grow: it is for the breaker to give a dead
/// handler rest, and an event's attempts are to find a handler that is back.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(1);

/// Of one handler.
#[derive(Debug)]
pub(crate) struct Validations {
    /// Where it is asked.
    uri: Uri,
    /// The last needed first.
    origins: Mutex<Vec<Origin>>,
}

/// An origin, and what is known of it.
type Origin = (Box<str>, Arc<Kept<Verdict>>);

/// What a handler says of an origin.
#[derive(Debug, Clone)]
struct Verdict {
    said: Result<(), Denial>,
    /// Times in a row that it did not say yes.
    failures: u32,
}

/// Why no event is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denial {
    /// It does not want them.
    Refused(Arc<str>),
    /// It could not be asked.
    Unreachable(Arc<str>),
}

impl Validations {
    /// Of a handler that is asked at `uri`.
    pub(crate) fn new(uri: Uri) -> Self {
        Self { uri, origins: Mutex::default() }
    }

    /// Whether the handler wants events of `origin`; asks it if that is not known.
    pub(crate) async fn check(&self, client: &Client, origin: &str) -> Result<(), Denial> {
        let kept = self.of(origin);
        let verdict = kept
            .get(|last| {
                let (client, uri, origin) = (client.clone(), self.uri.clone(), Box::from(origin));
                async move { verdict(ask(&client, &uri, &origin).await, last) }
            })
            .await;
        verdict.said
    }

    /// Origins that are remembered.
    pub(crate) fn origins(&self) -> usize {
        self.lock().len()
    }

    fn of(&self, origin: &str) -> Arc<Kept<Verdict>> {
        let mut origins = self.lock();
        let found = origins.iter().position(|(known, _)| **known == *origin);
        match found {
            Some(0) => {}
            Some(at) => origins[..=at].rotate_right(1),
            None => {
                origins.truncate(ORIGINS_MAX - 1);
                origins.insert(0, (origin.into(), Kept::new()));
            }
        }
        origins[0].1.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Origin>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of a question's outcome, after what was known before.
fn verdict(said: Result<(), Denial>, last: Option<kept::Answer<Verdict>>) -> kept::Answer<Verdict> {
    let now = Instant::now();
    let failures = last.as_ref().map_or(0, |last| last.value.failures) + 1;
    let until = |pause| kept::Answer {
        value: Verdict { said: said.clone(), failures },
        due: now + pause,
        usable_until: Some(now + pause),
    };
    match &said {
        Ok(()) => kept::Answer { value: Verdict { said, failures: 0 }, due: now + FRESH, usable_until: None },
        // It wanted events, and cannot be asked at present: that is no no.
        Err(Denial::Unreachable(_)) if last.is_some_and(|last| last.value.said.is_ok()) => kept::Answer {
            value: Verdict { said: Ok(()), failures },
            due: now + back_off(failures),
            usable_until: None,
        },
        Err(Denial::Unreachable(_)) => until(UNREACHABLE_PAUSE),
        Err(Denial::Refused(_)) => until(back_off(failures)),
    }
}

fn back_off(failures: u32) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1 << (failures - 1).min(10)).min(BACK_OFF_MAX)
}

async fn ask(client: &Client, uri: &Uri, origin: &str) -> Result<(), Denial> {
    let answer = request(client, Method::OPTIONS, uri, origin).await?;
    if answer.status != 404 {
        return judge(&answer, origin);
    }
    drop(answer);
    judge(&request(client, Method::GET, uri, origin).await?, origin)
}

async fn request(client: &Client, method: Method, uri: &Uri, origin: &str) -> Result<Answer, Denial> {
    if HeaderValue::from_str(origin).is_err() {
        return Err(Denial::Refused("validation: the server's name cannot stand in a header".into()));
    }
    let headers = |put: &mut dyn FnMut(&str, &[u8])| {
        put(headers::ORIGIN, origin.as_bytes());
        put(headers::AWPS_VERSION, b"1.0");
    };
    let mut request = Outgoing { method, uri, headers, body: Bytes::new(), turn: None };
    match timeout(DEADLINE, client.send(&mut request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(fault)) => Err(Denial::Unreachable(format!("validation: {}", fault.into_text()).into())),
        Err(_) => {
            let text = format!("validation: no answer within {} seconds", DEADLINE.as_secs());
            Err(Denial::Unreachable(text.into()))
        }
    }
}

/// The names of the faults are the documented ones (`howto-troubleshoot-common-issues`).
fn judge(answer: &Answer, origin: &str) -> Result<(), Denial> {
    let mut allows = false;
    answer.headers.each(|name, value| {
        allows |= name.eq_ignore_ascii_case(headers::ALLOWED_ORIGIN.as_bytes())
            && value.split(|&byte| byte == b',').any(|value| is_allowed(value.trim_ascii(), origin));
    });
    match answer.status {
        200..=299 if allows => Ok(()),
        200..=299 => Err(Denial::Refused(
            format!(
                "AbuseProtectionResponseMissingAllowedOrigin: no WebHook-Allowed-Origin of the handler is * or {}",
                origin.escape_debug()
            )
            .into(),
        )),
        status => {
            let text = format!("AbuseProtectionResponseInvalidStatusCode: the handler answered {status}").into();
            Err(if matches!(status, 408 | 500..=599) { Denial::Unreachable(text) } else { Denial::Refused(text) })
        }
    }
}

/// Handlers name hosts, some of them with a port (§2).
fn is_allowed(allowed: &[u8], origin: &str) -> bool {
    allowed == b"*"
        || std::str::from_utf8(allowed)
            .is_ok_and(|allowed| without_port(allowed).eq_ignore_ascii_case(without_port(origin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept after each of these was said, one after the other: what is used then, and the pause before the
    /// next question in seconds; 0 if it is not used at all.
    fn told(said: &[Result<(), Denial>]) -> Vec<(Result<(), Denial>, u64, bool)> {
        let mut last = None;
        let mut told = Vec::new();
        for said in said {
            let before = Instant::now();
            let kept = verdict(said.clone(), last.take());
            let pause = (kept.due - before).as_secs_f64().round() as u64;
            told.push((kept.value.said.clone(), pause, kept.usable_until.is_none()));
            last = Some(kept);
        }
        told
    }

    #[test]
    fn a_yes_lasts_until_a_no_and_pauses_after_a_no_double() {
        let no = Err(Denial::Refused("no".into()));
        let nobody = Err(Denial::Unreachable("nobody".into()));
        let nos: Vec<_> = told(&vec![no.clone(); 9]).into_iter().map(|(_, pause, _)| pause).collect();
        assert_eq!(nos, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let none: Vec<_> = told(&vec![nobody.clone(); 4]).into_iter().map(|(_, pause, _)| pause).collect();
        assert_eq!(none, [1, 1, 1, 1]);
        assert_eq!(
            told(&[Ok(()), nobody.clone(), nobody.clone(), Ok(()), nobody, no.clone(), Ok(())]),
            [
                (Ok(()), 60, true),
                (Ok(()), 1, true),
                (Ok(()), 2, true),
                (Ok(()), 60, true),
                (Ok(()), 1, true),
                (no, 2, false),
                (Ok(()), 60, true),
            ]
        );
    }

    #[test]
    fn hosts_match_ignoring_case_and_port() {
        for (allowed, origin, expected) in [
            ("*", "a.example", true),
            ("a.example", "a.example", true),
            ("A.Example", "a.example", true),
            ("a.example:8080", "a.example", true),
            ("a.example", "a.example:8080", true),
            ("[::1]:8080", "[::1]", true),
            ("[::1]", "[::2]", false),
            ("b.example", "a.example", false),
            ("sub.a.example", "a.example", false),
            ("*.example", "a.example", false),
            ("", "a.example", false),
            ("https://a.example", "a.example", false),
        ] {
            assert_eq!(is_allowed(allowed.as_bytes(), origin), expected, "{allowed} {origin}");
        }
    }
}
