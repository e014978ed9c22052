//! The body of `connect` (`event-handlers` §4.1).
//!
//! Whatever a client sends ends up in valid JSON: what is not Unicode is replaced, an escape that is none stays as it
//! is. The body is a few times as long as the request's head and the token at most, so it needs no bound of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::pubsub::escape::{unescape, write_string};
use crate::uri::percent_decode;

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-1 of its DER form.
    pub thumbprint: [u8; 20],
    /// PEM.
    pub pem: String,
}

/// What is known of a client that wants to connect.
pub struct ConnectRequest<'a> {
    /// The payload of its token, verified; `None` without a token.
    pub claims_json: Option<&'a [u8]>,
    /// The query of its request, as sent.
    pub query: &'a str,
    /// The headers of its request, in order, values as sent.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The subprotocols it offers, in order.
    pub subprotocols: &'a [&'a str],
    /// Its TLS certificates.
    pub certificates: &'a [ClientCertificate],
}

impl ConnectRequest<'_> {
    /// The JSON body. `access_token` is not in it, nor are `Authorization` and headers the service reserves.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(br#"{"claims":"#);
        self.claims().write_json(&mut out);
        out.extend_from_slice(br#","query":"#);
        self.query().write_json(&mut out);
        out.extend_from_slice(br#","headers":"#);
        self.headers().write_json(&mut out);
        out.extend_from_slice(br#","subprotocols":"#);
        write_array(&mut out, self.subprotocols, |out, name| write_string(out, name));
        out.extend_from_slice(br#","clientCertificates":"#);
        write_array(&mut out, self.certificates, |out, certificate| {
            let thumbprint = certificate.thumbprint.map(|byte| format!("{byte:02X}")).concat();
            out.extend_from_slice(br#"{"thumbprint":"#);
            write_string(out, &thumbprint);
            out.extend_from_slice(br#","content":"#);
            write_string(out, &certificate.pem);
            out.push(b'}');
        });
        out.push(b'}');
        out
    }

    fn claims(&self) -> Lists<'_> {
        let payload = self.claims_json.and_then(|json| std::str::from_utf8(json).ok()).unwrap_or("{}");
        // A token that was taken has a payload that reads.
        let Claims(claims) = serde_json::from_str(payload).unwrap_or_default();
        let mut lists = Lists::default();
        for (name, value) in claims {
            let values = match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
                Ok(values) => values,
                Err(_) => vec![value],
            };
            // An empty array is a claim, too.
            let list = lists.list(name, Cow::clone);
            list.extend(values.into_iter().map(|value| claim_text(value.get())));
        }
        lists
    }

    /// Names and values decoded like a form's, as the service does it: `+` is a space.
    fn query(&self) -> Lists<'_> {
        let mut lists = Lists::default();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = form_decode(name);
            if !name.eq_ignore_ascii_case("access_token") {
                lists.list(name, Cow::clone).push(form_decode(value));
            }
        }
        lists
    }

    /// Under the spelling of its first line, as header names are matched ignoring case.
    fn headers(&self) -> Lists<'_> {
        let mut lists = Lists::default();
        for &(name, value) in self.headers.iter().filter(|(name, _)| !is_reserved(name)) {
            let list = lists.list(Cow::Borrowed(name), |name| name.to_ascii_lowercase().into());
            list.push(String::from_utf8_lossy(value));
        }
        lists
    }
}

/// Names with their values, both in the order in which they came.
#[derive(Default)]
struct Lists<'a> {
    lists: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>,
    /// Where a name's list is, so that thousands of names cost no search through all of them.
    index: BTreeMap<Cow<'a, str>, usize>,
}

impl<'a> Lists<'a> {
    /// The values of a name so far; `key` is what makes two names the same.
    fn list(
        &mut self,
        name: Cow<'a, str>,
        key: impl FnOnce(&Cow<'a, str>) -> Cow<'a, str>,
    ) -> &mut Vec<Cow<'a, str>> {
        let at = *self.index.entry(key(&name)).or_insert(self.lists.len());
        if at == self.lists.len() {
            self.lists.push((name, Vec::new()));
        }
        &mut self.lists[at].1
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (at, (name, values)) in self.lists.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(out, name);
            out.push(b':');
            write_array(out, values, |out, value| write_string(out, value));
        }
        out.push(b'}');
    }
}

fn write_array<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Credentials, and what marks requests inside of the service.
fn is_reserved(header: &str) -> bool {
    let prefix = "x-asrs-internal-";
    header.eq_ignore_ascii_case("authorization")
        || header.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// `text` decoded; as it is if it does not decode.
fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('+') {
        return percent_decode(text).unwrap_or(Cow::Borrowed(text));
    }
    match percent_decode(&text.replace('+', " ")) {
        Some(decoded) => Cow::Owned(decoded.into_owned()),
        None => Cow::Borrowed(text),
    }
}

/// A string as its text, any other value as its JSON without white space.
fn claim_text(token: &str) -> Cow<'_, str> {
    // A string with half a surrogate pair has no text: its token must do.
    unescape(token).unwrap_or_else(|| compact(token))
}

fn compact(json: &str) -> Cow<'_, str> {
    let mut in_string = false;
    let mut is_escaped = false;
    let kept: String = json
        .chars()
        .filter(|&character| {
            if in_string {
                in_string = is_escaped || character != '"';
                is_escaped = !is_escaped && character == '\\';
                return true;
            }
            in_string = character == '"';
            !character.is_ascii_whitespace()
        })
        .collect();
    Cow::Owned(kept)
}

/// A token's claims in order.
#[derive(Default)]
struct Claims<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Claims<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Claims<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims<'de>, A::Error> {
                let mut claims = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    claims.push((Cow::Owned(name), value));
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOBODY: ConnectRequest<'_> =
        ConnectRequest { claims_json: None, query: "", headers: &[], subprotocols: &[], certificates: &[] };

    fn body(request: &ConnectRequest<'_>) -> Value {
        serde_json::from_slice(&request.body()).expect("a body is JSON")
    }

    #[test]
    fn a_client_of_which_nothing_is_known() {
        assert_eq!(
            String::from_utf8(NOBODY.body()).unwrap(),
            r#"{"claims":{},"query":{},"headers":{},"subprotocols":[],"clientCertificates":[]}"#
        );
    }

    /// §4.1's sample.
    #[test]
    fn everything_at_once() {
        let request = ConnectRequest {
            claims_json: Some(br#"{"sub":"u1","role":["webpubsub.sendToGroup"],"exp":1795411615}"#),
            query: "access_token=secret&room=1",
            headers: &[
                ("Origin", b"https://app.example"),
                ("Cookie", b"a=b"),
                ("Authorization", b"Bearer secret"),
            ],
            subprotocols: &["json.webpubsub.azure.v1", "custom"],
            certificates: &[ClientCertificate { thumbprint: [0xab; 20], pem: "-----BEGIN\n".to_owned() }],
        };
        assert_eq!(
            String::from_utf8(request.body()).unwrap(),
            concat!(
                r#"{"claims":{"sub":["u1"],"role":["webpubsub.sendToGroup"],"exp":["1795411615"]},"query":{"room":["1"]},"#,
                r#""headers":{"Origin":["https://app.example"],"Cookie":["a=b"]},"#,
                r#""subprotocols":["json.webpubsub.azure.v1","custom"],"clientCertificates":[{"thumbprint":"#,
                r#""ABABABABABABABABABABABABABABABABABABABAB","content":"-----BEGIN\n"}]}"#
            )
        );
    }

    /// Readers that hold JSON as serde_json's `Value` stumble over it, as the fuzz target did; other readers do not.
    #[test]
    fn a_name_that_serde_json_keeps_for_itself_is_like_any_other() {
        let request = ConnectRequest { query: "$serde_json::private::RawValue=\"", ..NOBODY };
        assert_eq!(
            String::from_utf8(request.body()).unwrap(),
            concat!(
                r#"{"claims":{},"query":{"$serde_json::private::RawValue":["\""]},"headers":{},"#,
                r#""subprotocols":[],"clientCertificates":[]}"#
            )
        );
    }

    #[test]
    fn claims_are_lists_of_texts() {
        let claims =
            br#" { "a" : [ "x", 1, {"k": [ null , "a \" b\\" ]}, [ ] ], "b": true, "c": 1.50e3, "d": null,
            "e": [], "f": {"x y": "\u00e4"}, "\u0067": "\u00e4\n", "a": "again", "h": "\ud800" } "#;
        assert_eq!(
            body(&ConnectRequest { claims_json: Some(claims), ..NOBODY })["claims"],
            json!({
                "a": ["x", "1", r#"{"k":[null,"a \" b\\"]}"#, "[]", "again"],
                "b": ["true"],
                "c": ["1.50e3"],
                "d": ["null"],
                "e": [],
                "f": [r#"{"x y":"\u00e4"}"#],
                "g": ["ä\n"],
                "h": [r#""\ud800""#],
            })
        );
        for unreadable in [&b""[..], b"[]", b"{", b"\xff", b"{\"a\":1"] {
            assert_eq!(
                body(&ConnectRequest { claims_json: Some(unreadable), ..NOBODY })["claims"],
                json!({})
            );
        }
    }

    #[test]
    fn queries_are_decoded_like_forms() {
        for (query, expected) in [
            ("", json!({})),
            ("room=1&room=2&id=x", json!({"room": ["1", "2"], "id": ["x"]})),
            ("a+b=c+d%2B&%C3%A4=%20", json!({"a b": ["c d+"], "ä": [" "]})),
            ("a&b=&=c&&d=e=f", json!({"a": [""], "b": [""], "": ["c"], "d": ["e=f"]})),
            ("a=%&%zz=1+&b=%ff", json!({"a": ["%"], "%zz": ["1 "], "b": ["%ff"]})),
            ("a=%+", json!({"a": ["%+"]})),
            (
                "access_token=s&Access_Token=s&access%5Ftoken=%&access_tokens=t",
                json!({"access_tokens": ["t"]}),
            ),
        ] {
            assert_eq!(body(&ConnectRequest { query, ..NOBODY })["query"], expected, "{query}");
        }
    }

    #[test]
    fn headers_keep_their_spelling_and_their_order() {
        let headers: &[(&str, &[u8])] = &[
            ("X-Forwarded-For", b"a"),
            ("cookie", b"a=b; c=d"),
            ("x-forwarded-for", b"b"),
            ("authorization", b"Basic secret"),
            ("AUTHORIZATION", b"Basic secret"),
            ("X-ASRS-Internal-Id", b"1"),
            ("x-bytes", b"a\xff\xc3\xa4\""),
        ];
        assert_eq!(
            body(&ConnectRequest { headers, ..NOBODY })["headers"],
            json!({"X-Forwarded-For": ["a", "b"], "cookie": ["a=b; c=d"], "x-bytes": ["a\u{fffd}ä\""]})
        );
    }

    /// Of a head of 16 KiB.
    #[test]
    fn thousands_of_names_are_each_looked_up_once() {
        let names: Vec<String> = (0..4096).map(|number| format!("{number:x}")).collect();
        let query = names.join("&");
        let body = body(&ConnectRequest { query: &query, ..NOBODY });
        assert_eq!(body["query"].as_object().map(serde_json::Map::len), Some(4096));
    }

    proptest! {
        #[test]
        fn the_body_is_always_json(
            claims in r#"\{("[a-c]{0,2}\\?"? ?: ?("[a-z\\" ]{0,3}"|[0-9.e]{0,3}|\[1?,? ?\]|null),?){0,3}\}?"#,
            query in "([a-c%+=&]|access_token|ä|%[0-9a-f]{2}){0,20}",
            header in "[a-cA-C]{1,3}",
            value in proptest::collection::vec(any::<u8>(), 0..8),
            subprotocol in any::<String>(),
        ) {
            let body = body(&ConnectRequest {
                claims_json: Some(claims.as_bytes()),
                query: &query,
                headers: &[(&header, &value), (&header.to_ascii_uppercase(), b"2")],
                subprotocols: &[&subprotocol],
                certificates: &[],
            });
            prop_assert_eq!(&body["subprotocols"], &json!([subprotocol]));
            prop_assert_eq!(&body["headers"], &json!({header: [String::from_utf8_lossy(&value), "2"]}));
            prop_assert!(body["query"].get("access_token").is_none());
            for map in ["claims", "query", "headers"] {
                let map = body[map].as_object().expect("a map");
                prop_assert!(map.values().all(|list| list.as_array().unwrap().iter().all(Value::is_string)));
            }
        }
    }
}
