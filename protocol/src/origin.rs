//! Whose page opens a WebSocket: origins (RFC 6454) and what an operator allows.
//!
//! A browser lets any page open a WebSocket anywhere and names the page's origin; that header is the only word the
//! server has in it. What is not a browser sends none, or what it likes: this keeps pages out, not programs.

use std::fmt;

/// One element of an allow list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: every origin.
    Any,
    /// `null`: pages without an origin, such as files and sandboxed frames.
    Null,
    /// An origin, or all those of the subdomains of a host.
    Of {
        /// Lower case.
        scheme: String,
        /// Lower case, without the leading `*.` of a pattern.
        host: String,
        /// Whether subdomains of the host are meant, at any depth, and not the host itself.
        subdomains: bool,
        /// Without one, or with the scheme's own: `None`.
        port: Option<u16>,
    },
}

impl OriginPattern {
    /// Reads `scheme://host[:port]`, where the host may begin with `*.`; or `*`, or `null`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => return Some(Self::Any),
            "null" => return Some(Self::Null),
            _ => {}
        }
        let (scheme, host, port) = triple(text)?;
        let (host, subdomains) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (&*host, false),
        };
        (!host.is_empty() && !host.contains('*')).then(|| Self::Of {
            scheme,
            host: host.to_owned(),
            subdomains,
            port,
        })
    }

    /// Whether it covers the value of an `Origin` header.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Null => origin == "null",
            Self::Of { scheme, host, subdomains, port } => {
                let Some((claimed_scheme, claimed_host, claimed_port)) = triple(origin) else { return false };
                let same_host = if *subdomains {
                    claimed_host
                        .strip_suffix(host.as_str())
                        .is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
                } else {
                    claimed_host == *host
                };
                claimed_scheme == *scheme && same_host && claimed_port == *port
            }
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Null => f.write_str("null"),
            Self::Of { scheme, host, subdomains, port } => {
                write!(f, "{scheme}://{}{host}", if *subdomains { "*." } else { "" })?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// Scheme, host and port of an origin, compared as RFC 6454 §5 has it: letters in lower case, no default port.
fn triple(text: &str) -> Option<(String, String, Option<u16>)> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let scheme_is_legal = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let host_end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    let host_is_legal = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*:[]".contains(&byte));
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse::<u16>().ok()?),
        _ => return None,
    };
    let default = match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    (scheme_is_legal && host_is_legal)
        .then(|| (scheme.to_owned(), host.to_owned(), port.filter(|port| Some(*port) != default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pattern_covers() {
        for (pattern, origin, expected) in [
            ("https://app.example.com", "https://app.example.com", true),
            ("https://app.example.com", "HTTPS://App.Example.COM", true),
            ("https://app.example.com", "https://app.example.com:443", true),
            ("https://app.example.com:443", "https://app.example.com", true),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com:8443", "https://app.example.com:8443", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("http://app.example.com:443", "https://app.example.com", false),
            ("https://app.example.com", "https://app.example.com.evil.test", false),
            ("https://app.example.com", "https://evil.test/https://app.example.com", false),
            ("https://app.example.com", "https://app.example.com/", false),
            ("https://app.example.com", "https://user@app.example.com", false),
            ("https://app.example.com", "https://app.example.com https://evil.test", false),
            ("https://app.example.com", "null", false),
            ("https://app.example.com", "", false),
            ("https://*.example.com", "https://app.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://!.example.com", false),
            ("https://*.example.com", "https://evil.test/.example.com", false),
            ("https://*.example.com", "https://evil.test#.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://app.example.com:8443", false),
            ("https://*.example.com:8443", "https://app.example.com:8443", true),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("http://[::1]", "http://[::1]:80", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("null", "null", true),
            ("null", "https://app.example.com", false),
            ("*", "https://anything.test", true),
            ("*", "null", true),
        ] {
            let pattern = OriginPattern::parse(pattern).expect(pattern);
            assert_eq!(pattern.matches(origin), expected, "{pattern} {origin}");
            assert_eq!(OriginPattern::parse(&pattern.to_string()), Some(pattern));
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for text in [
            "",
            "app.example.com",
            "https://",
            "https://*",
            "https://*.",
            "https://a.*.example.com",
            "https://a/b",
            "https://a:x",
            "https://a:65536",
            "https://a:",
            "://a",
            "1http://a",
            "https://a b",
            "**",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }
}
