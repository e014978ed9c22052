//! What a reverse proxy says of the request it passes on, in `X-Forwarded-*`.
//!
//! Whether a proxy is believed is the caller's to say. Each proxy appends to `X-Forwarded-For` whom it was called
//! by, so only what trusted proxies appended counts: from the right, as long as the one that appended is trusted.
//! Of the other headers the last value counts, the one the nearest proxy wrote.

use core::net::{IpAddr, SocketAddr};

/// The address of the client behind `peer`, from all values of `X-Forwarded-For` in order. It is the rightmost
/// address that is not trusted; if all are, the leftmost.
pub fn client_address(values: &[&[u8]], peer: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    for element in values.iter().rev().flat_map(|value| value.rsplit(|&byte| byte == b',')) {
        if !is_trusted(client) {
            break;
        }
        // A proxy that does not know, or hides it, writes something else: it is as far as can be seen.
        let Some(address) = std::str::from_utf8(element).ok().and_then(|text| address(text.trim())) else {
            break;
        };
        client = address;
    }
    client
}

/// An address as proxies write it: bare, with a port, in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address| address.to_canonical())
}

/// The host the client named, from a value of `X-Forwarded-Host`, if it is one.
pub fn host(value: &str) -> Option<&str> {
    last(value).filter(|host| crate::http::is_authority(host.as_bytes()))
}

/// Whether the client spoke TLS, from a value of `X-Forwarded-Proto`.
pub fn is_secure(value: &str) -> Option<bool> {
    let scheme = last(value)?;
    let is = |names: [&str; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if is(["https", "wss"]) {
        Some(true)
    } else if is(["http", "ws"]) {
        Some(false)
    } else {
        None
    }
}

fn last(value: &str) -> Option<&str> {
    value.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rightmost_untrusted_address_counts() {
        let is_trusted = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.is_loopback(),
        };
        let client = |peer: &str, values: &[&str]| {
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            client_address(&values, peer.parse().unwrap(), is_trusted).to_string()
        };
        for (peer, values, expected) in [
            ("203.0.113.1", &["198.51.100.1"][..], "203.0.113.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1,10.0.0.2 , 10.0.0.3"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["1.1.1.1,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["\u{fc}"], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, values), expected, "{values:?} from {peer}");
        }
    }

    #[test]
    fn hosts_and_schemes() {
        assert_eq!(host("pubsub.example.com"), Some("pubsub.example.com"));
        assert_eq!(host("spoofed.example.com, edge:8443"), Some("edge:8443"));
        for bad in ["", "a b", "a/b", "a,", "u@h", "h:port"] {
            assert_eq!(host(bad), None, "{bad}");
        }
        assert_eq!(is_secure("https"), Some(true));
        assert_eq!(is_secure("https, HTTP"), Some(false));
        assert_eq!(is_secure("WSS"), Some(true));
        assert_eq!((is_secure(""), is_secure("gopher")), (None, None));
    }
}
