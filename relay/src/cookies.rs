//! Cookies of event handlers: one jar for each connection, so that load balancers in front of handlers can keep a
//! connection's events on one server (`event-handlers` §3; RFC 6265 §5).
//!
//! Every bound is one of a jar; what is over it makes the oldest cookies leave. There is no list of public suffixes:
//! a handler's hosts are the operator's choice, and a jar never meets another site.

use cookie::Cookie;
use hyper::Uri;
use hyper::header::HeaderValue;
use std::net::IpAddr;

/// Cookies of one jar.
pub(crate) const COOKIES_MAX: usize = 16;
/// Name and value of one, in bytes; a larger one is not taken.
pub(crate) const COOKIE_BYTES_MAX: usize = 4096;
/// All names and values of one jar, in bytes.
pub(crate) const JAR_BYTES_MAX: usize = 8 * 1024;

/// The cookies of one connection, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Jar(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    name: Box<str>,
    value: Box<str>,
    /// Lower case.
    host: Box<str>,
    /// Whether it is for hosts below `host` too.
    and_below: bool,
    path: Box<str>,
    secure: bool,
    /// Seconds since 1970.
    until_unix: Option<u64>,
}

impl Jar {
    /// Takes a `Set-Cookie` of an answer from `uri`; one that is none, or not for there, is passed over.
    pub(crate) fn set(&mut self, uri: &Uri, header: &HeaderValue, now_unix: u64) {
        let Some(cookie) = Kept::read(uri, header, now_unix) else { return };
        self.0.retain(|kept| !kept.is_replaced_by(&cookie) && !kept.is_over(now_unix));
        if cookie.is_over(now_unix) {
            return;
        }
        self.0.push(cookie);
        let mut bytes: usize = self.0.iter().map(Kept::bytes).sum();
        let mut leaving = self.0.len().saturating_sub(COOKIES_MAX);
        bytes -= self.0[..leaving].iter().map(Kept::bytes).sum::<usize>();
        while bytes > JAR_BYTES_MAX {
            bytes -= self.0[leaving].bytes();
            leaving += 1;
        }
        self.0.drain(..leaving);
    }

    /// `Cookie` of a request to `uri`, if any is for there: longer paths first, then older ones (§5.4).
    pub(crate) fn header(&self, uri: &Uri, now_unix: u64) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let mut cookies: Vec<&Kept> = self.0.iter().filter(|kept| kept.is_for(uri, now_unix)).collect();
        cookies.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        let mut text = String::new();
        for cookie in cookies {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&cookie.name);
            text.push('=');
            text.push_str(&cookie.value);
        }
        (!text.is_empty()).then(|| HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok())?
    }
}

impl Kept {
    fn read(uri: &Uri, header: &HeaderValue, now_unix: u64) -> Option<Self> {
        let text = std::str::from_utf8(header.as_bytes()).ok()?;
        let cookie = Cookie::parse(text).ok()?;
        let from = uri.host()?.to_ascii_lowercase();
        let (host, and_below) = match cookie.domain() {
            None | Some("") => (from, false),
            Some(domain) => {
                let domain = domain.to_ascii_lowercase();
                // §5.3, steps 5 and 6.
                if !is_below(&from, &domain) {
                    return None;
                }
                (domain, true)
            }
        };
        let path = match cookie.path() {
            Some(path) if path.starts_with('/') => path,
            _ => directory(uri.path()),
        };
        let until_unix = match (cookie.max_age(), cookie.expires_datetime()) {
            (Some(age), _) => Some(now_unix.saturating_add_signed(age.whole_seconds())),
            (None, Some(time)) => Some(u64::try_from(time.unix_timestamp()).unwrap_or(0)),
            (None, None) => None,
        };
        let kept = Self {
            name: cookie.name().into(),
            value: cookie.value().into(),
            host: host.into(),
            and_below,
            path: path.into(),
            secure: cookie.secure() == Some(true),
            until_unix,
        };
        (kept.bytes() <= COOKIE_BYTES_MAX).then_some(kept)
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.value.len()
    }

    fn is_over(&self, now_unix: u64) -> bool {
        self.until_unix.is_some_and(|until| until <= now_unix)
    }

    fn is_replaced_by(&self, other: &Self) -> bool {
        self.name == other.name && self.host == other.host && self.path == other.path
    }

    fn is_for(&self, uri: &Uri, now_unix: u64) -> bool {
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let host_fits = if self.and_below { is_below(&host, &self.host) } else { host == *self.host };
        let secure_fits = !self.secure || uri.scheme_str() == Some("https");
        // §5.1.4.
        let path_fits = uri
            .path()
            .strip_prefix(&*self.path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'));
        host_fits && secure_fits && path_fits && !self.is_over(now_unix)
    }
}

/// Whether `host` is `domain` or below it (§5.1.3); below an address there is nothing.
fn is_below(host: &str, domain: &str) -> bool {
    match host.strip_suffix(domain) {
        Some("") => true,
        Some(rest) => rest.ends_with('.') && host.parse::<IpAddr>().is_err(),
        None => false,
    }
}

/// The default path (§5.1.4).
fn directory(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}
