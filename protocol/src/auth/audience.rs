//! Audience normalisation and matching (`client-protocols` §2.3, `rest-api` §3.1).
//!
//! A token is made for a URL, by software that knows the server under some name: the authority may be any name the
//! server is known to have, the scheme may be either one. What must be true whatever the
//! names: only the path that is being asked for matches, so a token for one hub or one kind of client never opens another.

use std::borrow::Cow;

use crate::name::HubName;
use crate::rest::ClientType;
use crate::uri::percent_decode;

/// The `aud` claim: what the token is for, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audience(Vec<String>);

impl Audience {
    /// From the strings of the claim.
    pub fn new(claimed: impl IntoIterator<Item = String>) -> Self {
        Self(claimed.into_iter().collect())
    }

    /// The strings of the claim, for a log line about a refusal.
    pub fn as_strs(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Under which names a request could have been meant for this server.
#[derive(Debug, Clone, Copy)]
pub struct RequestOrigin<'a> {
    /// The `Host` header.
    pub host: &'a str,
    /// The `X-Forwarded-Host` header, if the operator trusts it.
    pub forwarded_host: Option<&'a str>,
    /// Configured URLs of this server; a path in one is put before the request's.
    pub public_endpoints: &'a [String],
}

/// Whether a client token opens the endpoint for `client_type` of `hub`.
pub fn client_audience_matches(
    audience: &Audience,
    origin: &RequestOrigin<'_>,
    client_type: ClientType,
    hub: &HubName,
) -> bool {
    let path = client_type.path(hub);
    // The form with the hub in the query, for the default family only.
    let query_path = format!("/client?hub={}", hub.as_str());
    audience.as_strs().any(|claimed| {
        let Some(url) = ClaimedUrl::parse(claimed) else { return false };
        let Some(claimed_path) = percent_decode(url.target) else { return false };
        let claimed_path = claimed_path.to_lowercase();
        origin.bases(&url).any(|base| {
            let Some(claimed_path) = strip_base(&claimed_path, base) else { return false };
            let trimmed = claimed_path.strip_suffix('/').unwrap_or(claimed_path);
            trimmed == path.as_str()
                || client_type == ClientType::Default
                    && claimed_path.replacen("/client/?", "/client?", 1) == query_path
        })
    })
}

/// Whether a REST token is for the path of this request (`raw_path` as it came, without the query).
///
/// The claim may hold the query or not, and its path may be as sent or decoded once; query values do not narrow a token.
pub fn rest_audience_matches(audience: &Audience, origin: &RequestOrigin<'_>, raw_path: &str) -> bool {
    let expected = [Some(Cow::Borrowed(raw_path)), percent_decode(raw_path)];
    audience.as_strs().any(|claimed| {
        let Some(url) = ClaimedUrl::parse(claimed) else { return false };
        let path = url.target.split('?').next().unwrap_or_default();
        let decoded = percent_decode(path);
        // Whole as well: in a claim that was decoded before it was written, a name may hold a `?`.
        [Some(path), decoded.as_deref(), Some(url.target)].into_iter().flatten().any(|claimed_path| {
            let claimed_path = claimed_path.to_lowercase();
            origin.bases(&url).any(|base| {
                let Some(claimed_path) = strip_base(&claimed_path, base) else { return false };
                expected.iter().flatten().any(|path| {
                    let path = path.to_lowercase();
                    claimed_path.strip_suffix('/').unwrap_or(claimed_path)
                        == path.strip_suffix('/').unwrap_or(&path)
                })
            })
        })
    })
}

impl<'a> RequestOrigin<'a> {
    /// The base paths of this server's names that have the claim's authority; `""` for a bare name.
    fn bases(&self, claimed: &ClaimedUrl<'_>) -> impl Iterator<Item = &'a str> {
        let hosts = [Some(self.host), self.forwarded_host].into_iter().flatten();
        // A host header has no scheme: its port is default if it is the default of the claim's.
        let bare = hosts
            .filter(|host| claimed.is_authority(without_default_port(host.trim(), claimed.default_port)))
            .map(|_| "");
        let configured = self.public_endpoints.iter().filter_map(|endpoint| {
            let url = ClaimedUrl::parse(endpoint)?;
            let same = claimed.is_authority(url.authority);
            same.then(|| url.target.strip_suffix('/').unwrap_or(url.target))
        });
        bare.chain(configured).collect::<Vec<_>>().into_iter()
    }
}

/// An absolute `http`, `https`, `ws` or `wss` URL in parts.
struct ClaimedUrl<'a> {
    default_port: &'static str,
    /// Host and port, less the default port.
    authority: &'a str,
    /// Path and query; may be empty.
    target: &'a str,
}

impl<'a> ClaimedUrl<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => ":80",
            "https" | "wss" => ":443",
            _ => return None,
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return None;
        }
        Some(Self { default_port, authority: without_default_port(authority, default_port), target })
    }

    fn is_authority(&self, authority: &str) -> bool {
        self.authority.eq_ignore_ascii_case(authority)
    }
}

fn without_default_port<'a>(authority: &'a str, default_port: &str) -> &'a str {
    authority.strip_suffix(default_port).unwrap_or(authority)
}

/// What follows a configured base path; `lower_path` is in lower case.
fn strip_base<'a>(lower_path: &'a str, base: &str) -> Option<&'a str> {
    if base.is_empty() { Some(lower_path) } else { lower_path.strip_prefix(base.to_lowercase().as_str()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ENDPOINTS: &[String] = &[];

    fn client(claimed: &str, host: &str, client_type: ClientType, hub: &str) -> bool {
        let origin = RequestOrigin { host, forwarded_host: None, public_endpoints: NO_ENDPOINTS };
        client_audience_matches(
            &Audience::new([claimed.to_owned()]),
            &origin,
            client_type,
            &HubName::parse(hub).unwrap(),
        )
    }

    fn rest(claimed: &str, path: &str) -> bool {
        let origin =
            RequestOrigin { host: "localhost:8080", forwarded_host: None, public_endpoints: NO_ENDPOINTS };
        rest_audience_matches(&Audience::new([claimed.to_owned()]), &origin, path)
    }

    /// The SDKs' output (`client-protocols` §2.3) and what normalising makes of it.
    #[test]
    fn client_audiences_that_match() {
        use ClientType::{Default, Mqtt, SocketIo};
        for (claimed, host, kind, hub) in [
            ("http://localhost:8080/client/hubs/MyHub", "localhost:8080", Default, "myhub"),
            ("https://foo.example.com/client/hubs/MyHub", "foo.example.com", Default, "MyHub"),
            ("https://foo.example.com/client/hubs/MyHub", "FOO.example.com:443", Default, "MyHub"),
            ("https://foo.example.com:443/client/hubs/MyHub", "foo.example.com", Default, "MyHub"),
            ("http://foo.example.com:80/client/hubs/MyHub/", "foo.example.com", Default, "MyHub"),
            ("WSS://foo.example.com/client/hubs/a", "foo.example.com", Default, "a"),
            ("ws://foo/client/hubs/a%5B%5D", "foo", Default, "a[]"),
            ("http://foo/client/?hub=a", "foo", Default, "a"),
            ("http://foo/client?hub=A", "foo", Default, "a"),
            ("http://[::1]:8080/client/hubs/a", "[::1]:8080", Default, "a"),
            ("http://foo/clients/mqtt/hubs/a", "foo", Mqtt, "a"),
            ("http://foo/clients/socketio/hubs/a", "foo", SocketIo, "a"),
            ("https://foo.example.com:443/clients/mqtt/hubs/MyHub", "foo.example.com", Mqtt, "MyHub"),
            ("http://127.0.0.1:80/client/hubs/a", "127.0.0.1", Default, "a"),
            ("http://127.0.0.1/client/hubs/a", "127.0.0.1:80", Default, "a"),
            // TLS ends in front of us, the proxy passes the host on without or with its port.
            ("https://foo:8443/client/hubs/a", "foo:8443", Default, "a"),
            ("wss://foo:443/client/hubs/a", "foo", Default, "a"),
            ("ws://foo:80/client/hubs/a/", "FOO", Default, "a"),
            ("https://foo.example.com/client/hubs/MYHUB", "foo.example.com", Default, "myhub"),
            ("http://foo/client/hubs/a`b%2C[c].d", "foo", Default, "a`b,[c].d"),
            ("http://foo/%63lient/hubs/a", "foo", Default, "a"),
        ] {
            assert!(client(claimed, host, kind, hub), "{claimed} on {host}");
        }
    }

    #[test]
    fn client_audiences_that_do_not() {
        use ClientType::{Default, Mqtt};
        for (claimed, kind) in [
            ("http://foo/client/hubs/b", Default),
            ("http://foo/client/hubs/ab", Default),
            ("http://foo/client/hubs/a/b", Default),
            ("http://foo/client/hubs/a?x=1", Default),
            ("http://foo/client/hubs/a//", Default),
            ("http://foo/client/hubs/%2561", Default),
            ("http://foo/client/hubs/%zz", Default),
            ("http://bar/client/hubs/a", Default),
            ("http://foo:81/client/hubs/a", Default),
            ("http://foo:443/client/hubs/a", Default),
            ("https://foo:80/client/hubs/a", Default),
            ("ws://foo:443/client/hubs/a", Default),
            ("http://foo./client/hubs/a", Default),
            ("http://foo:/client/hubs/a", Default),
            ("http://foo/client/hubs/", Default),
            ("http://foo/client/hubs/*", Default),
            ("http://foo//client/hubs/a", Default),
            ("http://foo/x/../client/hubs/a", Default),
            ("http://foo/client/hubs/a#b", Default),
            ("http://foo/client/?hub=b", Default),
            ("http://foo/client/?hub=a&hub=b", Default),
            ("http://foo/client/hubs/a,http://foo/client/hubs/b", Default),
            ("http://foo@bar/client/hubs/a", Default),
            ("ftp://foo/client/hubs/a", Default),
            ("foo/client/hubs/a", Default),
            ("http:///client/hubs/a", Default),
            ("http://foo", Default),
            ("", Default),
            ("http://foo/client/hubs/a", Mqtt),
            ("http://foo/client/?hub=a", Mqtt),
            ("http://foo/clients/mqtt/hubs/a", Default),
            ("http://foo/clients/socketio/hubs/a", Mqtt),
        ] {
            assert!(!client(claimed, "foo", kind, "a"), "{claimed}");
        }
        let none = Audience::default();
        let origin = RequestOrigin { host: "foo", forwarded_host: None, public_endpoints: NO_ENDPOINTS };
        assert!(!client_audience_matches(&none, &origin, Default, &HubName::parse("a").unwrap()));
    }

    #[test]
    fn other_names_of_the_server() {
        let endpoints = ["https://pubsub.example.com:443/".to_owned(), "https://gateway/base/".to_owned()];
        let origin = RequestOrigin {
            host: "10.0.0.1",
            forwarded_host: Some("edge:8443"),
            public_endpoints: &endpoints,
        };
        let hub = HubName::parse("a").unwrap();
        for (claimed, expected) in [
            ("http://pubsub.example.com/client/hubs/a", true),
            ("https://edge:8443/client/hubs/a", true),
            ("https://gateway/Base/client/hubs/a", true),
            ("https://gateway/client/hubs/a", false),
            ("https://gateway/basement/client/hubs/a", false),
            ("https://other/client/hubs/a", false),
            ("https://PubSub.Example.com:443/client/hubs/a/", true),
            ("wss://pubsub.example.com/client/hubs/a", true),
            ("https://pubsub.example.com:8443/client/hubs/a", false),
            ("https://edge/client/hubs/a", false),
            ("http://10.0.0.1/client/hubs/a", true),
            ("http://10.0.0.1/base/client/hubs/a", false),
            ("https://gateway:443/base/client/hubs/a", true),
            ("https://gateway/base//client/hubs/a", false),
        ] {
            let audience = Audience::new(["x".to_owned(), claimed.to_owned()]);
            assert_eq!(
                client_audience_matches(&audience, &origin, ClientType::Default, &hub),
                expected,
                "{claimed}"
            );
            let rest = Audience::new([claimed.replace("client/hubs/a", "api/hubs/a/:send?api-version=1")]);
            assert_eq!(rest_audience_matches(&rest, &origin, "/api/hubs/a/:send"), expected, "{claimed}");
        }
    }

    #[test]
    fn rest_audiences() {
        let path = "/api/hubs/chat/groups/grp.%CE%B1%2F1/:send";
        for (claimed, expected) in [
            ("http://localhost:8080/api/hubs/chat/groups/grp.%CE%B1%2F1/:send?api-version=2024-12-01", true),
            ("https://LOCALHOST:8080/api/hubs/Chat/groups/grp.%CE%B1%2F1/:send/", true),
            ("http://localhost:8080/api/hubs/chat/groups/grp.α/1/:send?x=y%zz", true),
            ("http://localhost:8080/api/hubs/chat/groups/grp.%ce%b1%2f1/%3asend", true),
            ("http://localhost:8080/api/hubs/chat/groups/grp.%25CE%25B1%252F1/:send", true),
            ("http://localhost:8080/api/hubs/chat/groups/other/:send", false),
            ("http://localhost:8080/api/hubs/chat", false),
            ("http://localhost:8080", false),
            ("http://localhost/api/hubs/chat/groups/grp.%CE%B1%2F1/:send", false),
        ] {
            assert_eq!(rest(claimed, path), expected, "{claimed}");
        }
    }

    /// Names with every character that somebody escapes: the path as sent, and claims as the SDKs, the
    /// documentation and a caller that decodes first write them (`rest-api` §3.1).
    #[test]
    fn rest_audiences_of_names_with_odd_characters() {
        for (name, encoded) in [
            ("a b", "a%20b"),
            ("a/b", "a%2Fb"),
            ("a%b", "a%25b"),
            ("a%2Fb", "a%252Fb"),
            ("a+b", "a+b"),
            ("a+b", "a%2Bb"),
            ("a'b\"c", "a%27b%22c"),
            ("a?b", "a%3Fb"),
            ("a#b", "a%23b"),
            ("a&b=c", "a%26b%3Dc"),
            ("\u{1f980}", "%F0%9F%A6%80"),
            ("GRÜN", "GR%C3%9CN"),
        ] {
            let path = format!("/api/hubs/chat/groups/{encoded}/:send");
            let url = format!("http://localhost:8080{path}");
            for claimed in [
                url.clone(),
                format!("{url}?api-version=2024-12-01&excluded=x%20y"),
                format!("{url}/"),
                format!("{url}/?api-version=2024-12-01"),
                url.replace("http:", "https:"),
                url.replace(":send", "%3Asend"),
                url.to_lowercase(),
                format!("http://localhost:8080/api/hubs/chat/groups/{name}/:send"),
            ] {
                assert!(rest(&claimed, &path), "{claimed} for {path}");
            }
            for claimed in [
                url.replace(":send", ":closeConnections"),
                url.replace("/:send", ""),
                url.replace("/groups/", "/users/"),
                url.replace("/chat/", "/other/"),
                url.replace(":8080", ":8081"),
                format!("{url}/more"),
                format!("http://localhost:8080/api/hubs/chat/groups/x{name}/:send"),
            ] {
                assert!(!rest(&claimed, &path), "{claimed} for {path}");
            }
        }
    }

    /// The hub's name in a URL may be escaped on either side; a token for a page is one for the next.
    #[test]
    fn rest_audiences_of_hubs_and_pages() {
        for (claimed, path) in [
            ("http://localhost:8080/api/hubs/Chat/:send?api-version=2024-12-01", "/api/hubs/chat/:send"),
            ("http://localhost:8080/api/hubs/a[b]/:send", "/api/hubs/a%5Bb%5D/:send"),
            ("http://localhost:8080/api/hubs/a%5bb%5d/:send", "/api/hubs/a[b]/:send"),
            ("http://localhost:8080/api/hubs/chat/%3agenerateToken", "/api/hubs/chat/:generateToken"),
            (
                "http://localhost:8080/api/hubs/h/groups/g/connections?api-version=2024-12-01&top=2",
                "/api/hubs/h/groups/g/connections",
            ),
        ] {
            assert!(rest(claimed, path), "{claimed} for {path}");
        }
        let several = Audience::new(["".into(), "x".into(), "http://localhost:8080/api/hubs/h/:send".into()]);
        let origin =
            RequestOrigin { host: "LocalHost:8080", forwarded_host: None, public_endpoints: NO_ENDPOINTS };
        assert!(rest_audience_matches(&several, &origin, "/api/hubs/h/:send"));
        assert!(!rest_audience_matches(&Audience::default(), &origin, "/api/hubs/h/:send"));
    }
}
