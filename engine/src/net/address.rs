//! Where a listener is and what it speaks: `127.0.0.1:8080`, `https://[::]:8443`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether a listener's sockets are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `http://` and `ws://`.
    Plain,
    /// `https://` and `wss://`.
    Tls,
}

impl Scheme {
    /// As in a URL of HTTP.
    pub(crate) fn http(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls => "https",
        }
    }

    /// As in a URL of WebSocket.
    pub(crate) fn websocket(self) -> &'static str {
        match self {
            Self::Plain => "ws",
            Self::Tls => "wss",
        }
    }
}

/// A listener's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// What is spoken there.
    pub(crate) scheme: Scheme,
    /// Where.
    pub(crate) socket: SocketAddr,
}

impl Address {
    /// A plain one.
    pub(crate) fn plain(socket: impl Into<SocketAddr>) -> Self {
        Self { scheme: Scheme::Plain, socket: socket.into() }
    }

    /// Reads `ADDR`, `http://ADDR` or `https://ADDR`; a slash at the end is let pass.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Tls, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Plain, rest),
            Some(_) => return None,
            None => (Scheme::Plain, text),
        };
        let socket = rest.strip_suffix('/').unwrap_or(rest).parse().ok()?;
        Some(Self { scheme, socket })
    }

    /// One that a client on this machine can use: for "every address", loopback.
    pub(crate) fn reachable(mut self) -> Self {
        match self.socket.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => self.socket.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => self.socket.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        self
    }

    /// As a person writes it in the configuration: no scheme means `http`.
    pub(crate) fn short(&self) -> String {
        match self.scheme {
            Scheme::Plain => self.socket.to_string(),
            Scheme::Tls => self.to_string(),
        }
    }
}

/// As a URL.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.http(), self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_an_operator_writes() {
        for (text, url, short) in [
            ("127.0.0.1:80", "http://127.0.0.1:80", "127.0.0.1:80"),
            ("http://[::1]:80", "http://[::1]:80", "[::1]:80"),
            ("https://0.0.0.0:8443", "https://0.0.0.0:8443", "https://0.0.0.0:8443"),
            ("HTTPS://[::]:443/", "https://[::]:443", "https://[::]:443"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.to_string().as_str(), address.short().as_str()), (url, short));
            assert_eq!(Address::parse(&address.short()), Some(address));
        }
        for text in ["", "https://", "wss://127.0.0.1:1", "https://host:1", "127.0.0.1", "https//1.1.1.1:1"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_of_every_interface_is_reached_by_loopback() {
        for (bound, reached) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("https://[::]:80", "https://[::1]:80"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(Address::parse(bound).unwrap().reachable().to_string(), reached);
        }
    }
}
