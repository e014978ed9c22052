//! `Set-Cookie` of event handlers, and what is sent to others afterwards. A second reader, who keeps every header and
//! reads them all again, says of each cookie that is sent whether it may be; a plain one that was set last is sent; and
//! the jar's bounds hold.
#![no_main]

use arbitrary::Arbitrary;
use cookies::{COOKIE_BYTES_MAX, COOKIES_MAX, JAR_BYTES_MAX, Jar};
use hyper::Uri;
use hyper::header::HeaderValue;
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

// As it stands: the rest of the relay is not wanted here.
#[path = "../../relay/src/cookies.rs"]
mod cookies;

#[derive(Arbitrary, Debug)]
struct Answer<'a> {
    from: u8,
    header: &'a [u8],
    /// Seconds that pass before it.
    wait: u8,
}

const URIS: [&str; 10] = [
    "http://app.example.com/hooks/chat",
    "https://app.example.com/hooks/chat",
    "https://APP.example.com/hooks/",
    "https://sub.app.example.com/hooks/chat",
    "https://example.com/",
    "https://badexample.com/hooks",
    "https://example.com:8443/hooks/chat/more",
    "http://127.0.0.1:8080/hooks",
    "http://10.127.0.0.1/hooks",
    "http://[::1]/hooks/chat",
];

fuzz_target!(|input: (Vec<Answer<'_>>, u8)| {
    let (answers, to) = input;
    let uri = |which: u8| -> Uri { URIS[usize::from(which) % URIS.len()].parse().unwrap() };
    let (mut jar, mut now, mut kept) = (Jar::default(), 1_700_000_000, Vec::new());
    for Answer { from, header, wait } in answers {
        // Others do not come off the wire.
        if HeaderValue::from_bytes(header).is_err() {
            continue;
        }
        now += u64::from(wait);
        let from = uri(from);
        jar.set(&from, header, now);
        let Some(read) = std::str::from_utf8(header).ok().and_then(Read::of) else { continue };
        if read.is_plain() {
            let sent = jar.header(&from, now).expect("a plain cookie is sent where it came from");
            let pair = [read.name, "=", read.value].concat();
            assert!(pairs(&sent).any(|sent| sent == pair), "{pair} was set: {sent:?}");
        }
        kept.push((from, read, now));
    }
    let to = uri(to);
    let Some(sent) = jar.header(&to, now) else { return };
    let pairs: Vec<&str> = pairs(&sent).collect();
    assert!(pairs.len() <= COOKIES_MAX && sent.len() <= JAR_BYTES_MAX + 3 * COOKIES_MAX);
    for pair in pairs {
        let may = kept
            .iter()
            .filter(|(from, read, _)| [read.name, "=", read.value].concat() == pair && read.may_go(from, &to))
            .any(|(_, read, set)| !read.is_over(now - set));
        assert!(may, "{pair} is not for {to}, or not any more");
    }
});

fn pairs(header: &HeaderValue) -> impl Iterator<Item = &str> {
    std::str::from_utf8(header.as_bytes()).expect("what was read as text").split("; ")
}

/// A header, read anew (RFC 6265 §5.2): of an attribute that stands there twice each counts.
struct Read<'a> {
    name: &'a str,
    value: &'a str,
    attributes: Vec<(String, &'a str)>,
}

impl<'a> Read<'a> {
    fn of(header: &'a str) -> Option<Self> {
        let mut parts = header.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let attributes = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.trim().to_ascii_lowercase(), value.trim())
        });
        let (name, value) = (name.trim(), value.trim());
        (!name.is_empty()).then(|| Self { name, value, attributes: attributes.collect() })
    }

    /// Nothing but a name and a value.
    fn is_plain(&self) -> bool {
        self.attributes.is_empty() && self.name.len() + self.value.len() <= COOKIE_BYTES_MAX
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let these = self.attributes.iter().filter(move |attribute| attribute.0 == name);
        these.map(|attribute| attribute.1).collect::<Vec<_>>().into_iter()
    }

    /// Whether its time is over after so many seconds: by every `Max-Age` it has, if each is a number.
    fn is_over(&self, age: u64) -> bool {
        let mut ages = self.all("max-age").peekable();
        let is_short = |max: &str| {
            let is_number = !max.is_empty() && max.bytes().all(|byte| byte.is_ascii_digit());
            is_number && max.parse().is_ok_and(|max: u64| max <= age)
        };
        ages.peek().is_some() && ages.all(is_short)
    }

    /// Whether what came from there may go there.
    fn may_go(&self, from: &Uri, to: &Uri) -> bool {
        let lower = |uri: &Uri| uri.host().unwrap().to_ascii_lowercase();
        let (from_host, to_host) = (lower(from), lower(to));
        let is_of = |host: &str, domain: &str| {
            host == domain || host.parse::<IpAddr>().is_err() && host.ends_with(&format!(".{domain}"))
        };
        let host_fits = from_host == to_host
            || self.all("domain").any(|domain| {
                let domain = domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase();
                !domain.is_empty() && is_of(&from_host, &domain) && is_of(&to_host, &domain)
            });
        let path = from.path();
        let default = path.rfind('/').filter(|end| *end > 0).map_or("/", |end| &path[..end]);
        let mut paths = self.all("path").filter(|path| path.starts_with('/')).chain([default]);
        let path_fits = paths.any(|path| {
            let rest = to.path().strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || path.ends_with('/') || rest.starts_with('/'))
        });
        let secure_fits = to.scheme_str() == Some("https") || self.all("secure").next().is_none();
        host_fits && path_fits && secure_fits
    }
}
