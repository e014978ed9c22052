//! Abuse protection: a handler must say that it wants events of us before it gets any (`event-handlers` §2).
//!
//! Each handler is asked once for each name that the server is called by (the origin), and again after
//! [`FRESH`], in the background. A handler that is not there, or says 5xx, has not said no: events then fail as
//! if it were not there for them, are tried again by their delays, and the question with them.

use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, header::HeaderName, header::HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

use crate::client::{Client, EventBody, SendFault};
use crate::headers::{AWPS_VERSION, ORIGIN, VERSION};
use crate::kept::{Answer, Kept};

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

const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");

/// Of one handler.
#[derive(Debug)]
pub(crate) struct Validations {
    /// Where it is asked.
    uri: Uri,
    /// The last needed first.
    origins: Mutex<Vec<(Box<str>, Arc<Kept<Verdict>>)>>,
}

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

    fn of(&self, origin: &str) -> Arc<Kept<Verdict>> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
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
}

/// What is kept of a question's outcome, after what was known before.
fn verdict(said: Result<(), Denial>, last: Option<Answer<Verdict>>) -> Answer<Verdict> {
    let now = Instant::now();
    let failures = last.as_ref().map_or(0, |last| last.value.failures) + 1;
    let until = |pause| Answer {
        value: Verdict { said: said.clone(), failures },
        due: now + pause,
        usable_until: Some(now + pause),
    };
    match &said {
        Ok(()) => Answer { value: Verdict { said, failures: 0 }, due: now + FRESH, usable_until: None },
        // It wanted events, and cannot be asked at present: that is no no.
        Err(Denial::Unreachable(_)) if last.is_some_and(|last| last.value.said.is_ok()) => Answer {
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
    if answer.status() != StatusCode::NOT_FOUND {
        return judge(&answer, origin);
    }
    judge(&request(client, Method::GET, uri, origin).await?, origin)
}

/// One request; its answer without the body.
async fn request(client: &Client, method: Method, uri: &Uri, origin: &str) -> Result<Response<()>, Denial> {
    let unreachable = |text: String| Denial::Unreachable(format!("validation: {text}").into());
    let mut request = Request::new(EventBody::default());
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    let origin = HeaderValue::from_str(origin)
        .map_err(|_| Denial::Refused("validation: the server's name cannot stand in a header".into()))?;
    request.headers_mut().insert(ORIGIN, origin);
    request.headers_mut().insert(AWPS_VERSION, VERSION);
    match timeout(DEADLINE, client.send(request)).await {
        Ok(Ok(answer)) => Ok(answer.map(drop)),
        Ok(Err(SendFault::Unreachable(text) | SendFault::Nonsense(text))) => Err(unreachable(text)),
        Err(_) => Err(unreachable(format!("no answer within {} seconds", DEADLINE.as_secs()))),
    }
}

/// The names of the faults are the documented ones (`howto-troubleshoot-common-issues`).
fn judge(answer: &Response<()>, origin: &str) -> Result<(), Denial> {
    let status = answer.status();
    if status.is_success() {
        return if allows(answer.headers(), origin) {
            Ok(())
        } else {
            Err(Denial::Refused(
                format!(
                    "AbuseProtectionResponseMissingAllowedOrigin: no WebHook-Allowed-Origin of the handler is * or {}",
                    origin.escape_debug()
                )
                .into(),
            ))
        };
    }
    let text = format!("AbuseProtectionResponseInvalidStatusCode: the handler answered {}", status.as_u16());
    Err(if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        Denial::Unreachable(text.into())
    } else {
        Denial::Refused(text.into())
    })
}

fn allows(headers: &HeaderMap, origin: &str) -> bool {
    let values = headers.get_all(ALLOWED_ORIGIN).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| is_allowed(value.trim(), origin))
}

/// Handlers name hosts, some of them with a port (§2).
fn is_allowed(allowed: &str, origin: &str) -> bool {
    allowed == "*" || allowed.eq_ignore_ascii_case(origin) || host(allowed).eq_ignore_ascii_case(host(origin))
}

/// Without the port.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(is_allowed(allowed, origin), expected, "{allowed} {origin}");
        }
    }
}
