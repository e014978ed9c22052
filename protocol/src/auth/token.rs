//! A token's compact form (RFC 7515 §7.1), taken apart but not believed: `header.payload.signature`.
//!
//! There is one spelling of a token and one reading of its header, or two programs could see two tokens in
//! one text (RFC 8725 §2.4, §3). What must stay true: [`Unverified`] is made only of canonical base64url
//! without padding, the header names one of three algorithms and no member twice, and nothing in it names a
//! key but `kid`, which is an index into keys the server has; embedded keys and addresses of keys are read
//! past. Who has an [`Unverified`] still knows nothing: the signature is checked outside.

use std::fmt;

use base64_simd::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// Longest token, in bytes. Issuers that list a person's groups make tokens of some KiB.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Longest header, in bytes as decoded; room for a chain of certificates, which is read past.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Most members of a header.
pub const HEADER_MEMBERS_MAX: usize = 32;
/// Longest `kid`, in bytes.
pub const KID_BYTES_MAX: usize = 512;
/// Longest signature, in bytes as decoded: RSA with 8192 bits.
pub const SIGNATURE_BYTES_MAX: usize = 1024;

/// How a token is signed. Everything else is refused, `none` first of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: access keys.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256: issuers.
    Rs256,
    /// ECDSA on P-256 with SHA-256: issuers.
    Es256,
}

/// A token in parts, before anybody has looked at its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified<'a> {
    /// `alg` of the header.
    pub algorithm: Algorithm,
    /// `kid` of the header, any text.
    pub kid: Option<Box<str>>,
    /// What the signature covers: header and payload as they came, with the dot between.
    pub signing_input: &'a str,
    /// The payload's bytes; nobody knows yet that they are JSON.
    pub payload: Vec<u8>,
    /// The signature's bytes, at most [`SIGNATURE_BYTES_MAX`].
    pub signature: Vec<u8>,
}

/// Why a text is no token that could be good. Answer 401. None of the texts quotes the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Over one of the bounds above.
    #[error("The token or a part of it is too long.")]
    TooLong,
    /// Not three parts, or a part is not canonical base64url.
    #[error("The token is not of the form header.payload.signature, each in base64url without padding.")]
    Malformed,
    /// Not one JSON object with the members a header has, each once.
    #[error("The token's header is not a JSON object with well-formed members.")]
    Header,
    /// `crit`, `b64`, `zip` or `enc`: the rest would have to be read in another way.
    #[error("The token's header asks for an extension that is not supported.")]
    Extension,
    /// An `alg` that is not taken, or none.
    #[error("The token must be signed with HS256, RS256 or ES256.")]
    Algorithm,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }
        // Encoded is longer than decoded, so these bounds hold before anything is decoded.
        if header.len() > HEADER_BYTES_MAX.div_ceil(3) * 4
            || signature.len() > SIGNATURE_BYTES_MAX.div_ceil(3) * 4
        {
            return Err(TokenError::TooLong);
        }
        let header = Header::parse(&decode(header)?)?;
        let signature = decode(signature)?;
        if signature.len() > SIGNATURE_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        Ok(Self {
            algorithm: header.algorithm,
            kid: header.kid,
            signing_input,
            payload: decode(payload)?,
            signature,
        })
    }
}

/// Base64url without padding, line ends, blanks or stray low bits (RFC 7515 §2, RFC 4648 §3.5).
fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode_to_vec(text).map_err(|_| TokenError::Malformed)
}

/// The members anybody here looks at.
struct Header {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let raw: RawHeader = serde_json::from_slice(bytes).map_err(|_| TokenError::Header)?;
        if raw.is_extended {
            return Err(TokenError::Extension);
        }
        // Exact: names of algorithms are case-sensitive (RFC 7515 §4.1.1).
        let algorithm = match raw.algorithm.as_deref() {
            Some("HS256") => Algorithm::Hs256,
            Some("RS256") => Algorithm::Rs256,
            Some("ES256") => Algorithm::Es256,
            _ => return Err(TokenError::Algorithm),
        };
        if raw.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(TokenError::TooLong);
        }
        Ok(Self { algorithm, kid: raw.kid.map(String::into_boxed_str) })
    }
}

/// A header as written, every member's name seen once (RFC 7515 §4).
#[derive(Default)]
struct RawHeader {
    algorithm: Option<String>,
    kid: Option<String>,
    is_extended: bool,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                let mut names: Vec<String> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if names.len() == HEADER_MEMBERS_MAX || names.contains(&name) {
                        return Err(Error::custom("a member twice, or too many"));
                    }
                    match name.as_str() {
                        "alg" => header.algorithm = Some(map.next_value()?),
                        "kid" => header.kid = Some(map.next_value()?),
                        // RFC 7515 §4.1.11, RFC 7797, RFC 7516: they change how the rest is read.
                        "crit" | "b64" | "zip" | "enc" => {
                            header.is_extended = true;
                            map.next_value::<Value>()?;
                        }
                        // Read, though nobody looks: what is only skipped may be no UTF-8 or no character, and
                        // the next reader says it is no header.
                        _ => drop(map.next_value::<Value>()?),
                    }
                    names.push(name);
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b64(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode_to_string(bytes.as_ref())
    }

    fn with_header(header: &str) -> Result<(Algorithm, Option<String>), TokenError> {
        let token = format!("{}.{}.{}", b64(header), b64("{}"), b64("sig"));
        Unverified::parse(&token).map(|token| (token.algorithm, token.kid.map(String::from)))
    }

    #[test]
    fn a_token_comes_apart() {
        let text =
            format!("{}.{}.{}", b64(r#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#), b64("{}"), b64("sig"));
        let token = Unverified::parse(&text).unwrap();
        assert_eq!(token.algorithm, Algorithm::Rs256);
        assert_eq!(token.kid.as_deref(), Some("k1"));
        assert_eq!((&token.payload[..], &token.signature[..]), (&b"{}"[..], &b"sig"[..]));
        assert_eq!(token.signing_input, text.rsplit_once('.').unwrap().0);
    }

    #[test]
    fn headers() {
        use TokenError::{Algorithm as Alg, Extension, Header as Bad, TooLong};
        let long_kid = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(KID_BYTES_MAX + 1));
        let long = format!(r#"{{"alg":"HS256","x":"{}"}}"#, "x".repeat(HEADER_BYTES_MAX));
        let members: Vec<String> = (0..HEADER_MEMBERS_MAX).map(|n| format!("\"m{n}\":1")).collect();
        let many = format!(r#"{{"alg":"HS256",{}}}"#, members.join(","));
        let deep = format!(r#"{{"alg":"HS256","x":{}"#, "[".repeat(8000));
        let closed = format!(r#"{{"alg":"HS256","x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        for (header, expected) in [
            (r#"{"alg":"HS256"}"#, Ok((Algorithm::Hs256, None))),
            (r#" {"typ":7,"alg":"ES256","kid":""} "#, Ok((Algorithm::Es256, Some(String::new())))),
            (r#"{"alg":"\u0048S256"}"#, Ok((Algorithm::Hs256, None))),
            (
                r#"{"alg":"HS256","jku":"http://evil","jwk":{"k":"AA"},"x5u":1,"x5c":[""]}"#,
                Ok((Algorithm::Hs256, None)),
            ),
            (r#"{"alg":"none"}"#, Err(Alg)),
            (r#"{"alg":"hs256"}"#, Err(Alg)),
            (r#"{"alg":" HS256"}"#, Err(Alg)),
            (r#"{"alg":"HS256\u0000"}"#, Err(Alg)),
            (r#"{"alg":"PS256"}"#, Err(Alg)),
            (r#"{"Alg":"HS256"}"#, Err(Alg)),
            ("{}", Err(Alg)),
            (r#"{"alg":null}"#, Err(Bad)),
            (r#"{"alg":["HS256"]}"#, Err(Bad)),
            (r#"{"alg":"HS256","alg":"HS256"}"#, Err(Bad)),
            (r#"{"alg":"HS256","\u0061lg":"none"}"#, Err(Bad)),
            (r#"{"alg":"HS256","typ":"JWT","typ":"JWT"}"#, Err(Bad)),
            (r#"{"alg":"HS256","kid":1}"#, Err(Bad)),
            (r#"{"alg":"HS256","kid":null}"#, Err(Bad)),
            (r#"{"alg":"HS256"}{}"#, Err(Bad)),
            (r#"["HS256"]"#, Err(Bad)),
            (r#"{"alg":"HS256","typ":"\ud800"}"#, Err(Bad)),
            (r#"{"alg":"HS256","x":1e999}"#, Err(Bad)),
            (&closed, Err(Bad)),
            ("", Err(Bad)),
            (r#"{"alg":"HS256","crit":["exp"]}"#, Err(Extension)),
            (r#"{"alg":"HS256","crit":[]}"#, Err(Extension)),
            (r#"{"alg":"HS256","b64":false}"#, Err(Extension)),
            (r#"{"alg":"HS256","zip":"DEF"}"#, Err(Extension)),
            (r#"{"alg":"HS256","enc":"A128GCM"}"#, Err(Extension)),
            (&long_kid, Err(TooLong)),
            (&long, Err(TooLong)),
            (&many, Err(Bad)),
            (&deep, Err(Bad)),
        ] {
            assert_eq!(with_header(header), expected, "{header:.80}");
        }
    }

    #[test]
    fn forms() {
        use TokenError::{Malformed, TooLong};
        let good = format!("{}.e30.QUI", b64(r#"{"alg":"HS256"}"#));
        assert!(Unverified::parse(&good).is_ok());
        let header = good.split('.').next().unwrap();
        for (text, error) in [
            (String::new(), Malformed),
            (".".into(), Malformed),
            ("a".into(), Malformed),
            (format!("{header}.e30"), Malformed),
            (format!("{good}."), Malformed),
            (format!(".{good}"), Malformed),
            (format!("{good}.QUI.QUI"), Malformed),
            (format!("{good}="), Malformed),
            (format!("{header}.e30=.QUI"), Malformed),
            // QUI is "AB"; QUJ decodes to the same two bytes where stray bits are let through.
            (format!("{header}.e30.QUJ"), Malformed),
            (format!("{header}.e31.QUI"), Malformed),
            (format!("{header}.e30.Q"), Malformed),
            (format!("{header}.e30.QU+/"), Malformed),
            (format!("{header}. e30.QUI"), Malformed),
            (format!("{header}.e30.QUI\n"), Malformed),
            (format!("{header}.e\r\n30.QUI"), Malformed),
            (format!("{header}.é30.QUI"), Malformed),
            (format!("{header}.e30.{}", b64([0; SIGNATURE_BYTES_MAX + 1])), TooLong),
            (format!("{header}.e30.{}", "A".repeat(4000)), TooLong),
            (format!("{header}.{}.QUI", "A".repeat(TOKEN_BYTES_MAX)), TooLong),
            (r#"{"payload":"e30","protected":"e30","signature":"QUI"}"#.into(), Malformed),
        ] {
            assert_eq!(Unverified::parse(&text), Err(error), "{text:.80}");
        }
        // No bytes are a legal payload and signature; what they mean is the verifier's to say.
        assert!(Unverified::parse(&format!("{header}..")).is_ok());
    }

    /// Found by fuzzing: a member that was skipped unread let through what is not UTF-8.
    #[test]
    fn bytes_that_are_no_text_are_no_header() {
        let header = b"{\"alg\":\"HS256\",\"typ\":\"at+j\xb0\"}";
        let token = format!("{}.e30.QUI", b64(header));
        assert_eq!(Unverified::parse(&token), Err(TokenError::Header));
    }
}
