//! Bearer tokens for event handlers: the client credentials grant of OAuth 2.0 (RFC 6749 §4.4).
//!
//! One token for each handler, asked for by one event for all, refreshed in the background before it ends. A
//! handler that answers 401 makes it forgotten once, for what a token says may have been changed on its way.

use hyper::header::HeaderValue;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use crate::https::{FetchError, Https};
use crate::kept::{Answer, Kept};

/// A token is renewed this long before its end, or a tenth of its time, whatever is less.
const MARGIN_MAX: Duration = Duration::from_secs(60);
/// If the endpoint does not say for how long it is.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(300);
/// No token is kept longer, whatever the endpoint says.
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// After a failure the endpoint is not asked for this long.
const PAUSE: Duration = Duration::from_secs(1);

/// Of one handler.
#[derive(Debug)]
pub(crate) struct Tokens {
    endpoint: Arc<Endpoint>,
    kept: Arc<Kept<Known>>,
}

/// A token, or why there is none.
type Known = Result<HeaderValue, NoToken>;

struct Endpoint {
    https: Https,
    url: String,
    /// The request's body, ready.
    form: String,
}

/// Why there is no token; for the operator, without secrets.
#[derive(Debug, Clone)]
pub(crate) struct NoToken {
    /// What is wrong.
    pub(crate) cause: Arc<str>,
    /// Whether it may be right a moment later.
    pub(crate) may_pass: bool,
}

/// What is asked for.
pub(crate) struct Grant<'a> {
    pub(crate) token_url: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a str,
    pub(crate) scope: Option<&'a str>,
    pub(crate) resource: Option<&'a str>,
}

impl Tokens {
    pub(crate) fn new(https: Https, grant: &Grant<'_>) -> Self {
        let mut form = String::from("grant_type=client_credentials");
        let fields = [
            ("client_id", Some(grant.client_id)),
            ("client_secret", Some(grant.client_secret)),
            ("scope", grant.scope),
            ("resource", grant.resource),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                form.push('&');
                form.push_str(name);
                form.push('=');
                push_form_encoded(&mut form, value);
            }
        }
        let endpoint = Arc::new(Endpoint { https, url: grant.token_url.to_owned(), form });
        Self { endpoint, kept: Kept::new() }
    }

    /// `Authorization` for a request.
    pub(crate) async fn authorization(&self) -> Result<HeaderValue, NoToken> {
        self.kept
            .get(|last| {
                let endpoint = self.endpoint.clone();
                async move { kept(endpoint.fetch().await, last) }
            })
            .await
    }

    /// The handler did not take this one.
    pub(crate) fn forget(&self, refused: &HeaderValue) {
        self.kept.forget(|kept| kept.as_ref().is_ok_and(|token| token == refused));
    }
}

impl Endpoint {
    async fn fetch(&self) -> Result<(HeaderValue, Duration), NoToken> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            token_type: String,
            expires_in: Option<Seconds>,
        }
        // A number in RFC 6749 §5.1; some endpoints write it as a string.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Seconds {
            Number(u64),
            Text(String),
        }
        let no_token = |may_pass, cause: String| NoToken { cause: cause.into(), may_pass };
        let body = self.https.post_form(&self.url, self.form.clone()).await.map_err(|error| {
            let may_pass = match error {
                FetchError::Late | FetchError::Broken(_) => true,
                FetchError::Status(status) => status >= 500 || matches!(status, 408 | 429),
                FetchError::Address(_) | FetchError::TooLarge => false,
            };
            no_token(may_pass, format!("token endpoint: {error}"))
        })?;
        // The error of the parser could show what it stands at.
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| {
            no_token(false, "token endpoint: the answer is not one of RFC 6749 §5.1".to_owned())
        })?;
        if !granted.token_type.eq_ignore_ascii_case("bearer") {
            return Err(no_token(false, "token endpoint: the token is not a bearer token".to_owned()));
        }
        let token = Some(granted.access_token).filter(|token| is_token(token));
        let value = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let mut value = value.ok_or_else(|| {
            no_token(false, "token endpoint: the token cannot stand in a header".to_owned())
        })?;
        value.set_sensitive(true);
        let seconds = granted.expires_in.and_then(|seconds| match seconds {
            Seconds::Number(seconds) => Some(seconds),
            Seconds::Text(text) => text.parse().ok(),
        });
        let lifetime = seconds.map_or(LIFETIME_DEFAULT, Duration::from_secs);
        Ok((value, lifetime))
    }
}

/// Whether it is something, without blanks, that a header can hold.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What is kept of a fetch, after what was known before.
fn kept(fetched: Result<(HeaderValue, Duration), NoToken>, last: Option<Answer<Known>>) -> Answer<Known> {
    let now = Instant::now();
    match (fetched, last) {
        (Ok((token, lifetime)), _) => {
            let lifetime = lifetime.min(LIFETIME_MAX);
            let margin = MARGIN_MAX.min(lifetime / 10);
            let end = now + lifetime;
            Answer { value: Ok(token), due: end - margin, usable_until: Some(end - margin / 2) }
        }
        // Renewed too early to matter: the last one is good still.
        (Err(_), Some(last)) if last.value.is_ok() && last.usable_until.is_some_and(|until| now < until) => {
            Answer { due: now + PAUSE, ..last }
        }
        (Err(no_token), _) => {
            Answer { value: Err(no_token), due: now + PAUSE, usable_until: Some(now + PAUSE) }
        }
    }
}

/// `application/x-www-form-urlencoded`, as RFC 6749 appendix B has it.
fn push_form_encoded(out: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({:?})", self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_in_time_and_a_failure_keeps_the_last() {
        let now = Instant::now();
        let seconds = |instant: Instant| (instant - now).as_secs_f64().round();
        let token = |lifetime| Ok((HeaderValue::from_static("Bearer a"), Duration::from_secs(lifetime)));
        let no_token = || Err(NoToken { cause: "no".into(), may_pass: true });
        const DAY: u64 = 86_400;
        for (lifetime, due, end) in [
            (3600, 3540.0, 3570.0),
            (100, 90.0, 95.0),
            (0, 0.0, 0.0),
            (DAY, 86_340.0, 86_370.0),
            (DAY + 1, 86_340.0, 86_370.0),
            (u64::MAX, 86_340.0, 86_370.0),
        ] {
            let kept = kept(token(lifetime), None);
            assert_eq!((seconds(kept.due), seconds(kept.usable_until.unwrap())), (due, end), "{lifetime}");
        }
        let good = kept(token(3600), None);
        let after = kept(no_token(), Some(good.clone()));
        assert!(after.value.is_ok() && after.usable_until == good.usable_until);
        assert_eq!(seconds(after.due), 1.0);
        let ended = Answer { usable_until: Some(now), ..good };
        assert!(kept(no_token(), Some(ended)).value.is_err());
    }
}
