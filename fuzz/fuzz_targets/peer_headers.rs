//! What a proxy and a browser say of a request: `X-Forwarded-*`, `Origin`, and the URL a token was made for. Each
//! agrees with a second reader, and a token that opens one place opens no other.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringhub_protocol::auth::audience::{
    Audience, RequestOrigin, client_audience_matches, rest_audience_matches,
};
use ringhub_protocol::forwarded::{client_address, host, is_secure};
use ringhub_protocol::name::HubName;
use ringhub_protocol::origin::OriginPattern;
use ringhub_protocol::rest::ClientType;
use ringhub_protocol::uri::percent_decode;
use std::net::{IpAddr, SocketAddr};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    forwarded_for: Vec<&'a [u8]>,
    value: &'a str,
    pattern: &'a str,
    origin: &'a str,
    claimed: &'a str,
    host: &'a str,
    forwarded_host: Option<&'a str>,
    endpoint: Option<&'a str>,
    paths: [&'a str; 2],
}

fuzz_target!(|input: Input<'_>| {
    check_address(&input.forwarded_for);
    check_host_and_scheme(input.value);
    check_origin(input.pattern, input.origin);
    check_audience(&input);
});

/// Everybody at home is a trusted proxy.
fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.is_loopback(),
    }
}

/// The second reader goes from the left: of all the places at which the chain could end it takes the first from which
/// on everything to the right is an address of a trusted proxy.
fn check_address(values: &[&[u8]]) {
    let peer: IpAddr = "10.0.0.1".parse().unwrap();
    let address = client_address(values, peer, is_trusted);
    let stranger: IpAddr = "203.0.113.7".parse().unwrap();
    assert_eq!(client_address(values, stranger, is_trusted), stranger, "a stranger is not believed");

    let joined = values.join(&b","[..]);
    let mut chain: Vec<Option<IpAddr>> = joined.split(|byte| *byte == b',').map(read_address).collect();
    if values.is_empty() {
        chain.clear();
    }
    chain.push(Some(peer));
    let is_believed = |from: &usize| chain[*from..].iter().all(|next| next.is_some_and(is_trusted));
    let believed = (0..chain.len()).find(is_believed).expect("the peer is");
    // Whom the first of them was called by, if it says so.
    let caller = believed.checked_sub(1).and_then(|before| chain[before]);
    assert_eq!(Some(address), caller.or(chain[believed]));
}

fn read_address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim();
    let bare = match (text.strip_prefix('['), text.strip_suffix(']')) {
        (Some(_), Some(_)) if text.len() > 1 => &text[1..text.len() - 1],
        _ => text,
    };
    let address = match (bare.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(address), _) => address,
        (_, Ok(address)) => address.ip(),
        _ => return None,
    };
    Some(match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        four => four,
    })
}

fn check_host_and_scheme(value: &str) {
    let last = value.split(',').next_back().expect("one at least").trim();
    if let Some(host) = host(value) {
        assert_eq!(host, last);
        // Others take no escapes in a host (RFC 3986 §3.2.2 does): they are looked at here, and put aside.
        let mut parts = host.split('%');
        let first = parts.next().unwrap_or_default().to_owned();
        let without = parts.fold(first, |all, part| {
            assert!(part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit), "{host}");
            all + "x" + &part[2..]
        });
        without.parse::<http::uri::Authority>().expect("an authority to others as well");
        assert!(host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#,\\".contains(&byte)));
    }
    let expected = match &*last.to_ascii_lowercase() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    };
    assert_eq!(is_secure(value), expected);
}

/// The second reader compares whole texts, ports spelled out.
fn check_origin(pattern: &str, origin: &str) {
    let Some(parsed) = OriginPattern::parse(pattern) else { return };
    assert_eq!(
        OriginPattern::parse(&parsed.to_string()),
        Some(parsed.clone()),
        "it is written as it is read"
    );
    let matches = parsed.matches(origin);
    match &parsed {
        OriginPattern::Any => assert!(matches),
        OriginPattern::Null => assert_eq!(matches, origin == "null"),
        OriginPattern::Of { scheme, host, subdomains, port } => {
            let port = port.or(default_port(scheme)).map_or_else(String::new, |port| format!(":{port}"));
            let end = format!("{host}{port}");
            let Some(canonical) = canonical(origin) else { return assert!(!matches, "{origin} is none") };
            let expected = match canonical.strip_prefix(&format!("{scheme}://")) {
                Some(rest) if *subdomains => {
                    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*:[".contains(&byte);
                    rest.strip_suffix(&end)
                        .is_some_and(|sub| sub.len() > 1 && sub.ends_with('.') && sub.bytes().all(is_legal))
                }
                Some(rest) => rest == end,
                None => false,
            };
            assert_eq!(matches, expected, "{parsed} {origin}");
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    [("http", 80), ("ws", 80), ("https", 443), ("wss", 443)]
        .into_iter()
        .find(|known| known.0 == scheme)
        .map(|known| known.1)
}

/// An origin in lower case with its port, if that is known.
fn canonical(origin: &str) -> Option<String> {
    let lower = origin.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://")?;
    let colon = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| bracket + at),
        None => authority.find(':'),
    };
    let (host, port) = match colon {
        Some(colon) => {
            let digits = &authority[colon + 1..];
            let is_number = !digits.starts_with('+');
            (&authority[..colon], Some(digits.parse::<u16>().ok().filter(|_| is_number)?))
        }
        None => (authority, None),
    };
    let port = port.or(default_port(scheme)).map_or_else(String::new, |port| format!(":{port}"));
    (!scheme.is_empty() && !host.is_empty()).then(|| format!("{scheme}://{host}{port}"))
}

fn check_audience(input: &Input<'_>) {
    let endpoints: Vec<String> = input.endpoint.into_iter().map(str::to_owned).collect();
    let origin = RequestOrigin {
        host: input.host,
        forwarded_host: input.forwarded_host,
        public_endpoints: &endpoints,
    };
    let claim = Audience::new([input.claimed.to_owned()]);
    let families = [ClientType::Default, ClientType::Mqtt, ClientType::SocketIo];
    let hubs = ["chat", "chat2", "client"].map(|hub| HubName::parse(hub).unwrap());
    let places = hubs.iter().flat_map(|hub| families.map(|family| (hub, family)));
    let opened: Vec<_> =
        places.filter(|(hub, family)| client_audience_matches(&claim, &origin, *family, hub)).collect();
    // A second name for the server with a path before ours may make one claim read in two ways.
    if endpoints.is_empty() {
        assert!(opened.len() <= 1, "{:?} opens {opened:?}", input.claimed);
    }
    for (hub, family) in &opened {
        let lower = percent_decode(input.claimed).expect("it was decoded").to_lowercase();
        let ends = [family.path(hub), format!("?hub={}", hub.as_str())];
        assert!(ends.iter().any(|end| lower.trim_end_matches('/').ends_with(end.as_str())), "{lower}");
    }
    let rest = input.paths.map(|path| rest_audience_matches(&claim, &origin, path));
    if rest == [true, true] && endpoints.is_empty() {
        // Letters and one escape make no difference, and no other does.
        let [a, b] = input.paths.map(readings);
        assert!(a.iter().any(|reading| b.contains(reading)), "{:?} opens {:?}", input.claimed, input.paths);
    }
}

/// What a REST path may mean, in lower case.
fn readings(path: &str) -> Vec<String> {
    let mut readings = vec![path.to_owned()];
    readings.extend(percent_decode(path).map(String::from));
    readings.extend(percent_decode(&readings[readings.len() - 1]).map(String::from));
    readings
        .iter()
        .map(|path| path.to_lowercase())
        .map(|path| path.strip_suffix('/').map_or(path.clone(), str::to_owned))
        .collect()
}
