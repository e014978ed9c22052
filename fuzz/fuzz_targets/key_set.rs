//! An issuer's keys (RFC 7517) and a token that names one. The same keys are usable to a second reader, who does the
//! sums of a curve and of bit lengths himself; a set has a bound; and no key is used in another way than its own.
#![no_main]

use jwks::{Distrust, JwksError, KEYS_MAX, KeySet};
use libfuzzer_sys::fuzz_target;
use num_bigint::BigUint;
use ringhub_protocol::auth::token::{Algorithm, KID_BYTES_MAX, Unverified};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

// As it stands: the rest of the relay is not wanted here.
#[allow(dead_code)]
#[path = "../../relay/src/jwks.rs"]
mod jwks;

// A document, a line feed, a token.
fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().rposition(|byte| *byte == b'\n');
    let (document, token) = at.map_or((bytes, &b""[..]), |at| (&bytes[..at], &bytes[at + 1..]));
    let set = KeySet::parse(document, 7);
    let value: Option<Value> = serde_json::from_slice(document).ok();
    let Some(keys) = value.as_ref().and_then(|value| value.get("keys")).and_then(Value::as_array) else {
        return assert!(
            !matches!(set, Err(JwksError::TooMany)) || value.is_some_and(|value| value.is_array())
        );
    };
    let all_are_objects = keys.iter().all(Value::is_object);
    let usable: Vec<(Algorithm, Option<&str>)> = keys.iter().filter_map(usable).collect();
    match &set {
        Err(JwksError::TooMany) => assert!(keys.len() > KEYS_MAX),
        Err(JwksError::Malformed) => {
            let Names(names) = serde_json::from_slice(document).expect("an object, as it has keys");
            assert!(
                names.iter().filter(|name| *name == "keys").count() > 1,
                "one list of keys is well formed"
            );
        }
        Err(JwksError::NoneUsable) => assert!(usable.is_empty() || !all_are_objects),
        Ok(set) => {
            assert!(keys.len() <= KEYS_MAX && !set.is_empty() && set.fetched_unix() == 7);
            assert!(set.len() == usable.len() || !all_are_objects, "{} of {usable:?}", set.len());
        }
    }
    let token = std::str::from_utf8(token).ok().and_then(|token| Unverified::parse(token).ok());
    let (Ok(set), Some(token)) = (&set, token) else { return };
    let named = |(algorithm, kid): &&(Algorithm, Option<&str>)| {
        *algorithm == token.algorithm && (token.kid.is_none() || token.kid.as_deref() == *kid)
    };
    let candidates = usable.iter().filter(named).count();
    let verdict = set.verify(&token);
    if all_are_objects {
        let is_known = candidates == 1 || candidates > 1 && token.kid.is_some();
        assert_eq!(verdict == Err(Distrust::UnknownKey), !is_known);
    }
    if token.algorithm == Algorithm::Hs256 {
        assert_eq!(verdict, Err(Distrust::UnknownKey), "a public key is no secret");
    }
});

/// The names of an object's members, as often as they are there.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Names;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// What a key is good for, as RFC 7517 and 7518 have it.
fn usable(key: &Value) -> Option<(Algorithm, Option<&str>)> {
    let text = |name: &str| match key.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(()),
    };
    let members = ["kid", "use", "alg", "crv", "n", "e", "x", "y"].map(text);
    let [kid, usage, alg, crv, n, e, x, y] = members.map(Result::ok);
    let (kid, usage, alg, crv, n, e, x, y) = (kid?, usage?, alg?, crv?, n?, e?, x?, y?);
    let ops: Option<Vec<&str>> = match key.get("key_ops") {
        None | Some(Value::Null) => None,
        Some(ops) => Some(ops.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?),
    };
    if usage.is_some_and(|usage| usage != "sig")
        || ops.is_some_and(|ops| !ops.contains(&"verify"))
        || kid.is_some_and(|kid| kid.len() > KID_BYTES_MAX)
    {
        return None;
    }
    match key.get("kty")?.as_str()? {
        "RSA" if alg.is_none_or(|alg| alg == "RS256") => {
            let (n, e) = (number(n?)?, number(e?)?);
            let is_key =
                (2048..=8192).contains(&n.bits()) && (2..=33).contains(&e.bits()) && n.bit(0) && e.bit(0);
            is_key.then_some((Algorithm::Rs256, kid))
        }
        "EC" if alg.is_none_or(|alg| alg == "ES256") && crv == Some("P-256") => {
            let is_whole = |text: &str| decode(text).is_some_and(|bytes| bytes.len() == 32);
            let (x, y) = (x?, y?);
            let is_key = is_whole(x) && is_whole(y) && is_on_curve(&number(x)?, &number(y)?);
            is_key.then_some((Algorithm::Es256, kid))
        }
        _ => None,
    }
}

/// y² = x³ − 3x + b over the field of P-256 (SEC 2 §2.4.2).
fn is_on_curve(x: &BigUint, y: &BigUint) -> bool {
    let hex = |text: &[u8]| BigUint::parse_bytes(text, 16).expect("a number");
    let p = hex(b"ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
    let b = hex(b"5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b");
    let right = (x.pow(3) + &p * 3u32 - x * 3u32 + b) % &p;
    *x < p && *y < p && y.pow(2) % &p == right
}

fn number(text: &str) -> Option<BigUint> {
    Some(BigUint::from_bytes_be(&decode(text)?))
}

/// Base64url without padding, or with as much of it as one likes; what is left of the last letter must be zero.
fn decode(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=');
    let (mut bytes, mut bits, mut value) = (Vec::new(), 0, 0u32);
    for letter in letters.bytes() {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        (value, bits) = (value << 6 | u32::from(digit), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((value >> bits) as u8);
            value &= (1 << bits) - 1;
        }
    }
    (bits < 6 && value == 0).then_some(bytes)
}
