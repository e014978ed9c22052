//! The upgrade: request head → accepted or refused (RFC 6455 §4.2).
//!
//! What must stay true: a request that asks for a WebSocket is either accepted in full or refused in full,
//! before anything about hubs or tokens is looked at, and what is echoed is spelled as the client spelled it
//! (Node's `ws` and browsers compare byte by byte; `client-protocols` §1.4).

use sha1::{Digest, Sha1};

use crate::http::Head;
use crate::pubsub::Subprotocol;
use crate::ws::extension::{DeflateOffer, MalformedExtensions, is_token};

/// Whether and how a request asks for a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade<'a> {
    /// It does not: an ordinary HTTP request.
    NotUpgrade,
    /// It does, correctly.
    Upgrade(UpgradeRequest<'a>),
    /// It does, wrongly: answer with this and close.
    Refused(UpgradeFault),
}

/// What an upgrade request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRequest<'a> {
    /// Base64 of 16 bytes; the argument of [`write_accept`].
    pub key: &'a str,
    /// The subprotocols offered, in the client's order and spelling; each is a token.
    pub subprotocols: Vec<&'a str>,
    /// What it offers of permessage-deflate, in its order.
    pub deflate: Vec<DeflateOffer>,
}

/// Why an upgrade is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct UpgradeFault {
    /// 400, or 426 for another version of the WebSocket protocol.
    pub status: u16,
    /// What is wrong, for the client's developer.
    pub reason: &'static str,
}

impl UpgradeFault {
    /// The headers that go with the answer: the version spoken here, with 426 (RFC 6455 §4.4).
    pub fn extra_headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.status {
            426 => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            _ => &[],
        }
    }

    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }
}

impl<'a> Head<'a> {
    /// Whether this request asks for a WebSocket: it names `websocket` in `Upgrade`, or has a header that
    /// only the opening handshake has. Then everything of RFC 6455 §4.2.1 must be right.
    pub fn upgrade(&self) -> Upgrade<'a> {
        let asks = self.lists_token("upgrade", "websocket")
            || self.header_values("sec-websocket-key").next().is_some()
            || self.header_values("sec-websocket-version").next().is_some();
        if !asks {
            return Upgrade::NotUpgrade;
        }
        match self.upgrade_request() {
            Ok(request) => Upgrade::Upgrade(request),
            Err(fault) => Upgrade::Refused(fault),
        }
    }

    fn upgrade_request(&self) -> Result<UpgradeRequest<'a>, UpgradeFault> {
        if self.method != "GET" {
            return Err(UpgradeFault::bad("a WebSocket is opened with GET"));
        }
        if !self.is_http_11 {
            return Err(UpgradeFault::bad("a WebSocket is opened with HTTP/1.1"));
        }
        if !self.lists_token("upgrade", "websocket") {
            return Err(UpgradeFault::bad("the Upgrade header does not name websocket"));
        }
        if !self.lists_token("connection", "upgrade") {
            return Err(UpgradeFault::bad("the Connection header does not name Upgrade"));
        }
        // What follows the head is frames; a body would be read as such by one side only.
        if self.body != crate::http::BodyLength::Known(0) {
            return Err(UpgradeFault::bad("a request for a WebSocket has no body"));
        }
        if !matches!(self.single("sec-websocket-version"), Ok(Some(b"13"))) {
            return Err(UpgradeFault {
                status: 426,
                reason: "the only version of the WebSocket protocol spoken here is 13",
            });
        }
        let key = self
            .single("sec-websocket-key")
            .map_err(|_| UpgradeFault::bad("there is more than one Sec-WebSocket-Key header"))?
            .ok_or(UpgradeFault::bad("the Sec-WebSocket-Key header is missing"))?;
        let key =
            parse_key(key).ok_or(UpgradeFault::bad("Sec-WebSocket-Key is not the base64 of 16 bytes"))?;
        let subprotocols = self
            .list("sec-websocket-protocol")
            .map(parse_token)
            .collect::<Option<_>>()
            .ok_or(UpgradeFault::bad("Sec-WebSocket-Protocol has a name that is not a token"))?;
        let deflate = self
            .list("sec-websocket-extensions")
            .filter_map(|element| DeflateOffer::parse(element).transpose())
            .collect::<Result<_, MalformedExtensions>>()
            .map_err(|_| UpgradeFault::bad("Sec-WebSocket-Extensions is malformed"))?;
        Ok(UpgradeRequest { key, subprotocols, deflate })
    }
}

/// Chooses what a connection speaks (`client-protocols` §1.4): the first supported name in the client's
/// order, ignoring case, and that name as the client spelled it, to be echoed. Without one the client is raw
/// and nothing is echoed.
pub fn choose<'a>(offered: &[&'a str]) -> (Subprotocol, Option<&'a str>) {
    offered
        .iter()
        .find_map(|name| Subprotocol::from_name(name).map(|subprotocol| (subprotocol, Some(*name))))
        .unwrap_or((Subprotocol::Raw, None))
}

/// Appends the 101 response that opens the WebSocket (RFC 6455 §4.2.2).
///
/// `key` is [`UpgradeRequest::key`]; `subprotocol` one of the names the client offered, as it spelled it; `deflate`
/// one of its offers.
pub fn write_accept(out: &mut Vec<u8>, key: &str, subprotocol: Option<&str>, deflate: Option<DeflateOffer>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept_value(key).as_bytes());
    if let Some(subprotocol) = subprotocol {
        debug_assert!(parse_token(subprotocol.as_bytes()).is_some(), "{subprotocol:?} is not a token");
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if let Some(offer) = deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        offer.write_answer(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// The value of `Sec-WebSocket-Accept` (RFC 6455 §4.2.2, item 5.4).
fn accept_value(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    base64_simd::STANDARD.encode_to_string(digest.as_slice())
}

/// The key, if it is the base64 of 16 bytes in its one canonical form.
fn parse_key(value: &[u8]) -> Option<&str> {
    // Length first: nothing longer is worth decoding, and 24 characters decode to at most 18 bytes.
    if value.len() != 24 {
        return None;
    }
    let mut decoded = [0; 18];
    let decoded = base64_simd::STANDARD.decode(value, base64_simd::Out::from_slice(&mut decoded)).ok()?;
    if decoded.len() != 16 {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// A token (RFC 9110 §5.6.2).
fn parse_token(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|_| is_token(value))
}

/// The constant of RFC 6455 §1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, parse_head};

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// The example of RFC 6455 §1.2 with one header changed; an empty value leaves it out.
    fn request(method: &str, changed: &[(&str, &str)]) -> String {
        let mut headers = vec![
            ("Host", "server.example.com"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ];
        headers.retain(|(name, _)| changed.iter().all(|(other, _)| name != other));
        headers.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{method} /client/hubs/chat HTTP/1.1\r\n{lines}\r\n")
    }

    fn check(text: &str, expect: impl FnOnce(Upgrade<'_>)) {
        let head = parse_head(text.as_bytes(), &HeadLimits::default()).expect("legal").expect("complete");
        expect(head.upgrade());
    }

    fn refused(method: &str, changed: &[(&str, &str)]) -> u16 {
        let mut status = 0;
        check(&request(method, changed), |upgrade| match upgrade {
            Upgrade::Refused(fault) => status = fault.status,
            other => panic!("{method} {changed:?}: {other:?}"),
        });
        status
    }

    #[test]
    fn accepts_the_example_of_the_rfc() {
        check(&request("GET", &[("Sec-WebSocket-Protocol", "chat, superchat")]), |upgrade| {
            let expected =
                UpgradeRequest { key: KEY, subprotocols: vec!["chat", "superchat"], deflate: Vec::new() };
            assert_eq!(upgrade, Upgrade::Upgrade(expected));
        });
        let mut out = Vec::new();
        write_accept(&mut out, KEY, Some("chat"), None);
        assert_eq!(
            std::str::from_utf8(&out),
            Ok("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
        );
        out.clear();
        write_accept(&mut out, KEY, None, None);
        assert!(out.ends_with(b"Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    }

    #[test]
    fn accepts_what_the_rfc_leaves_open() {
        for changed in [
            &[("Connection", "keep-alive, uPGRADE")][..],
            &[("Upgrade", "WebSocket")],
            &[("Upgrade", "h2c, websocket")],
            &[("Connection", "keep-alive"), ("Connection", "Upgrade")],
            &[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")],
            &[("Content-Length", "0")],
        ] {
            check(&request("GET", changed), |upgrade| {
                assert!(matches!(upgrade, Upgrade::Upgrade(_)), "{changed:?}: {upgrade:?}");
            });
        }
    }

    #[test]
    fn refuses_every_missing_or_wrong_piece() {
        assert_eq!(refused("POST", &[]), 400);
        assert_eq!(refused("get", &[]), 400);
        for changed in [
            &[("Upgrade", "")][..],
            &[("Upgrade", "websockets")],
            &[("Connection", "")],
            &[("Connection", "close")],
            &[("Connection", "NotUpgrade")],
            &[("Sec-WebSocket-Key", "")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQA=")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQAB")],
            &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j*Q==")],
            &[("Sec-WebSocket-Key", KEY), ("sec-websocket-key", KEY)],
            &[("Sec-WebSocket-Protocol", "a b")],
            &[("Sec-WebSocket-Protocol", "a/b")],
            &[("Sec-WebSocket-Extensions", "permessage-deflate; a=")],
            &[("Sec-WebSocket-Extensions", "permessage-deflate, b c")],
            &[("Content-Length", "5")],
            &[("Transfer-Encoding", "chunked")],
        ] {
            assert_eq!(refused("GET", changed), 400, "{changed:?}");
        }
        for changed in [
            &[("Sec-WebSocket-Version", "")][..],
            &[("Sec-WebSocket-Version", "8")],
            &[("Sec-WebSocket-Version", "14")],
            &[("Sec-WebSocket-Version", "013")],
            &[("Sec-WebSocket-Version", "13, 8")],
            &[("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "13")],
        ] {
            assert_eq!(refused("GET", changed), 426, "{changed:?}");
        }
        let http_10 = request("GET", &[]).replace("HTTP/1.1", "HTTP/1.0");
        check(&http_10, |upgrade| assert!(matches!(upgrade, Upgrade::Refused(fault) if fault.status == 400)));
        let fault = UpgradeFault { status: 426, reason: "" };
        assert!(fault.extra_headers().contains(&("Sec-WebSocket-Version", "13")));
    }

    #[test]
    fn leaves_other_requests_alone() {
        for text in [
            "GET /api/health HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\r\n",
        ] {
            check(text, |upgrade| assert_eq!(upgrade, Upgrade::NotUpgrade, "{text}"));
        }
    }

    #[test]
    fn lists_offers_in_order_and_spelling() {
        for (changed, expected) in [
            (&[][..], &[][..]),
            (&[("Sec-WebSocket-Protocol", "b,a , B")], &["b", "a", "B"]),
            (&[("Sec-WebSocket-Protocol", ",a,,")], &["a"]),
            (&[("Sec-WebSocket-Protocol", "b"), ("sec-websocket-protocol", "a")], &["b", "a"]),
        ] {
            check(&request("GET", changed), |upgrade| match upgrade {
                Upgrade::Upgrade(request) => assert_eq!(request.subprotocols, expected),
                other => panic!("{changed:?}: {other:?}"),
            });
        }
    }

    #[test]
    fn offers_of_deflate_are_read_from_all_headers_in_order() {
        let text = request(
            "GET",
            &[
                ("Sec-WebSocket-Extensions", "other, permessage-deflate; server_max_window_bits=10"),
                ("Sec-WebSocket-Extensions", "permessage-deflate; unknown, permessage-deflate"),
            ],
        );
        check(&text, |upgrade| {
            let Upgrade::Upgrade(request) = upgrade else { panic!("{upgrade:?}") };
            assert_eq!(request.deflate.iter().map(|offer| offer.window_bits()).collect::<Vec<_>>(), [10, 15]);
            let mut out = Vec::new();
            write_accept(&mut out, KEY, None, DeflateOffer::choose(&request.deflate, 15));
            let answer = "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                          client_no_context_takeover\r\n\r\n";
            assert!(out.ends_with(answer.as_bytes()), "{}", String::from_utf8_lossy(&out));
        });
    }

    #[test]
    fn chooses_the_first_supported_offer() {
        let (json, reliable) = ("JSON.webpubsub.azure.v1", "json.reliable.webpubsub.Azure.v1");
        for (offered, expected) in [
            (&[][..], (Subprotocol::Raw, None)),
            (&["custom", "mqtt"], (Subprotocol::Raw, None)),
            (&[json], (Subprotocol::Json, Some(json))),
            (&["custom", reliable, json], (Subprotocol::ReliableJson, Some(reliable))),
            (&[json, reliable], (Subprotocol::Json, Some(json))),
            (&["json.webpubsub.azure.v1 "], (Subprotocol::Raw, None)),
        ] {
            assert_eq!(choose(offered), expected, "{offered:?}");
        }
    }
}
