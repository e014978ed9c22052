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
    pub(crate) fn set(&mut self, uri: &Uri, header: &[u8], now_unix: u64) {
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
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let mut cookies: Vec<&Kept> =
            self.0.iter().filter(|kept| kept.is_for(uri, &host, now_unix)).collect();
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
    fn read(uri: &Uri, header: &[u8], now_unix: u64) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
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

    /// `host` is the URI's, in lower case.
    fn is_for(&self, uri: &Uri, host: &str, now_unix: u64) -> bool {
        let host_fits = if self.and_below { is_below(host, &self.host) } else { *host == *self.host };
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    /// `Cookie` for the second URL after these were set by the first.
    fn sent(set: &[&str], from: &str, to: &str) -> String {
        let mut jar = Jar::default();
        set.iter().for_each(|text| jar.set(&from.parse().unwrap(), text.as_bytes(), NOW));
        header(&jar, to, NOW)
    }

    fn header(jar: &Jar, to: &str, now: u64) -> String {
        let header = jar.header(&to.parse().unwrap(), now);
        header.map_or_else(String::new, |value| String::from_utf8(value.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn hosts_paths_and_schemes_decide() {
        let from = "http://app.example.com/hooks/chat";
        for (set, to, expected) in [
            ("a=1", "http://app.example.com/hooks/other", "a=1"),
            ("a=1", "http://APP.example.com/hooks", "a=1"),
            ("a=1", "http://app.example.com/", ""),
            ("a=1", "http://app.example.com/hooksmith", ""),
            ("a=1", "http://sub.app.example.com/hooks/x", ""),
            ("a=1", "http://example.com/hooks/x", ""),
            ("a=1; Path=/", "http://app.example.com/x", "a=1"),
            ("a=1; Path=nonsense", "http://app.example.com/hooks", "a=1"),
            ("a=1; Path=/; Domain=.Example.com", "http://other.example.com/", "a=1"),
            ("a=1; Path=/; Domain=example.com", "http://badexample.com/", ""),
            ("a=1; Path=/; Domain=other.com", "http://other.com/", ""),
            ("a=1; Path=/; Domain=sub.app.example.com", "http://sub.app.example.com/", ""),
            ("a=1; Path=/; Secure", "http://app.example.com/", ""),
            ("a=1; Path=/; Secure", "https://app.example.com/", "a=1"),
            ("a=1; Path=/; HttpOnly; SameSite=Strict", "http://app.example.com/", "a=1"),
            ("a=\"q u\"; Path=/", "http://app.example.com/", "a=\"q u\""),
            ("nonsense", "http://app.example.com/hooks/x", ""),
            ("=x; Path=/", "http://app.example.com/", ""),
        ] {
            assert_eq!(sent(&[set], from, to), expected, "{set} to {to}");
        }
        let address = "http://127.0.0.1/";
        assert_eq!(sent(&["a=1; Domain=0.0.1"], address, address), "");
        assert_eq!(sent(&["a=1; Domain=127.0.0.1"], address, address), "a=1");
    }

    #[test]
    fn longer_paths_come_first_and_a_name_stands_once_for_each_place() {
        let url = "http://a.example/x/y";
        let set = ["a=1; Path=/", "b=2; Path=/x", "c=3; Path=/", "a=4; Path=/", "a=5; Path=/x/y"];
        assert_eq!(sent(&set, url, url), "a=5; b=2; c=3; a=4");
    }

    #[test]
    fn cookies_end() {
        let url = "http://a.example/";
        let mut jar = Jar::default();
        let mut set = |text: &str| jar.set(&url.parse().unwrap(), text.as_bytes(), NOW);
        set("short=1; Max-Age=10; Expires=Wed, 21 Oct 2099 07:28:00 GMT");
        set("long=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT");
        set("past=1; Expires=Wed, 21 Oct 2015 07:28:00 GMT");
        set("session=1");
        assert_eq!(header(&jar, url, NOW + 9), "short=1; long=1; session=1");
        assert_eq!(header(&jar, url, NOW + 10), "long=1; session=1");
        jar.set(&url.parse().unwrap(), b"session=; Max-Age=0", NOW + 10);
        assert_eq!(header(&jar, url, NOW + 10), "long=1");
        assert_eq!(jar.0.len(), 1, "what is over is not kept");
    }

    #[test]
    fn a_jar_is_bounded_and_the_oldest_leave() {
        let url = "http://a.example/";
        let many: Vec<String> = (0..COOKIES_MAX + 3).map(|n| format!("c{n}=1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(sent(&many, url, url), many[3..].join("; "));
        let large = |name: &str, bytes: usize| format!("{name}={}", "x".repeat(bytes - 1));
        let [a, b, c, d] =
            [("a", 3000), ("b", 3000), ("c", 4096), ("d", 4097)].map(|(name, bytes)| large(name, bytes));
        assert_eq!(sent(&[&a, &b, &c, &d], url, url), format!("{b}; {c}"));
        const { assert!(3000 + 4096 <= JAR_BYTES_MAX && 3000 + 3000 + 4096 > JAR_BYTES_MAX) };
    }
}
