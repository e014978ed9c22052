//! Tokens as the SDKs sign them, and as nobody should (`client-protocols` §2).

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// A token to be signed: JOSE header, claims, key.
#[derive(Debug, Clone)]
pub struct Token {
    header: Value,
    claims: Map<String, Value>,
}

impl Token {
    /// For `audience`, valid for an hour.
    pub fn new(audience: &str) -> Self {
        let claims = json!({ "aud": audience, "iat": now_seconds(), "exp": now_seconds() + 3600 });
        Self { header: json!({ "alg": "HS256", "typ": "JWT" }), claims: object(claims) }
    }

    /// Replaces the JOSE header.
    pub fn header(mut self, header: Value) -> Self {
        self.header = header;
        self
    }

    /// Sets a claim; [`Value::Null`] takes it out.
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        if value.is_null() {
            self.claims.remove(name);
        } else {
            self.claims.insert(name.to_owned(), value);
        }
        self
    }

    /// Signs with HMAC-SHA-256 over the key's bytes as they are written, whatever the header claims.
    pub fn sign(&self, key: &str) -> String {
        let unsigned = self.unsigned();
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let signature = hmac::sign(&key, unsigned.as_bytes());
        format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode_to_string(signature.as_ref()))
    }

    /// Header and claims without a signature: `header.claims`.
    pub fn unsigned(&self) -> String {
        let claims = Value::Object(self.claims.clone());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode_to_string(value.to_string());
        format!("{}.{}", part(&self.header), part(&claims))
    }
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs()
}

/// Reads a JSON object; panics with the text when it is none.
#[track_caller]
pub fn json_object(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(value) => object(value),
        Err(error) => panic!("not JSON ({error}): {text}"),
    }
}

#[track_caller]
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515 appendix A.1, but with our key rule: the key's text is the key.
    #[test]
    fn the_signature_is_hs256_over_the_two_parts() {
        let token = Token::new("http://a/").claim("iat", Value::Null).claim("exp", json!(1));
        let signed = token.sign("secret");
        let (unsigned, signature) = signed.rsplit_once('.').unwrap();
        assert_eq!(unsigned, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJodHRwOi8vYS8iLCJleHAiOjF9");
        assert_eq!(signature, "TiLCyfJXf7J8Td-CsnGBaZYU7HTWVgBPxoZOcCQergE");
    }
}
