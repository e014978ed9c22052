//! A set of public keys (RFC 7517), ready to check tokens with.
//!
//! What must stay true: only RSA keys of 2048 to 8192 bits and P-256 keys get in, each bound to the one
//! algorithm it is for, so no token can have a key used in another way (RFC 8725 §3.1); a key of a kind we do
//! not use is passed over; the set has a bound.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64_simd::URL_SAFE_NO_PAD;
use ringhub_protocol::auth::token::{Algorithm, KID_BYTES_MAX, Unverified};
use serde::Deserialize;
use serde_json::Value;
use std::ops::RangeInclusive;

/// Most keys of one set, counting those we cannot use; a set with more is refused.
pub const KEYS_MAX: usize = 64;

/// Sizes of an RSA key (RFC 7518 §3.3; above, checking a signature would be an attack).
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;
/// Sizes of its exponent, as the library takes them.
const EXPONENT_BITS: RangeInclusive<usize> = 2..=33;

/// Keys of one issuer as of one fetch. Never changes.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    fetched_unix: u64,
}

#[derive(Debug)]
struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

/// Why a document is no set of keys. For the operator's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not JSON, or not `{"keys":[…]}`.
    #[error("the keys are not a JSON Web Key Set")]
    Malformed,
    /// Over [`KEYS_MAX`].
    #[error("there are more than {KEYS_MAX} keys")]
    TooMany,
    /// Nothing that RS256 or ES256 could be checked with.
    #[error("there is no key for RS256 or ES256 among them")]
    NoneUsable,
}

/// Why a token is not believed. Answer 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// The set has no such key: the issuer may have a newer one.
    UnknownKey,
    /// The signature is not by the key that the token names.
    BadSignature,
}

/// The members of a key that matter; everything as optional as RFC 7517 has it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a document that was fetched at `fetched_unix` (seconds since 1970).
    ///
    /// # Errors
    ///
    /// See [`JwksError`].
    pub fn parse(document: &[u8], fetched_unix: u64) -> Result<Self, JwksError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let Set { keys } = serde_json::from_slice(document).map_err(|_| JwksError::Malformed)?;
        if keys.len() > KEYS_MAX {
            return Err(JwksError::TooMany);
        }
        let keys: Vec<Key> =
            keys.into_iter().filter_map(|key| serde_json::from_value(key).ok().and_then(Key::new)).collect();
        if keys.is_empty() {
            return Err(JwksError::NoneUsable);
        }
        Ok(Self { keys, fetched_unix })
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has none; never so.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// When it was fetched, seconds since 1970.
    pub fn fetched_unix(&self) -> u64 {
        self.fetched_unix
    }

    /// Checks a token's signature with the key it names, used as that key's own algorithm. A token that names
    /// none is checked with the only key of its algorithm, if there is only one.
    ///
    /// # Errors
    ///
    /// See [`Distrust`].
    pub fn verify(&self, token: &Unverified<'_>) -> Result<(), Distrust> {
        let mut candidates = self
            .keys
            .iter()
            .filter(|key| key.algorithm == token.algorithm && (token.kid.is_none() || key.kid == token.kid));
        let first = candidates.next().ok_or(Distrust::UnknownKey)?;
        let mut rest = candidates.peekable();
        if token.kid.is_none() && rest.peek().is_some() {
            return Err(Distrust::UnknownKey);
        }
        // Nothing forbids two keys of one name; there are few, so each is asked.
        let good = std::iter::once(first)
            .chain(rest)
            .any(|key| key.key.verify_sig(token.signing_input.as_bytes(), &token.signature).is_ok());
        if good { Ok(()) } else { Err(Distrust::BadSignature) }
    }
}

impl Key {
    /// `None` for a key that is not for checking RS256 or ES256.
    fn new(jwk: Jwk) -> Option<Self> {
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
            && jwk.kid.as_ref().is_none_or(|kid| kid.len() <= KID_BYTES_MAX);
        if !for_signatures {
            return None;
        }
        let is_for = |name: &str| jwk.alg.as_deref().is_none_or(|alg| alg == name);
        let (algorithm, key) = match jwk.kty.as_str() {
            "RSA" if is_for("RS256") => (Algorithm::Rs256, rsa(&jwk)?),
            "EC" if is_for("ES256") && jwk.crv.as_deref() == Some("P-256") => (Algorithm::Es256, p256(&jwk)?),
            _ => return None,
        };
        Some(Self { kid: jwk.kid.map(String::into_boxed_str), algorithm, key })
    }
}

fn rsa(jwk: &Jwk) -> Option<ParsedPublicKey> {
    let (n, e) = (number(jwk.n.as_deref()?)?, number(jwk.e.as_deref()?)?);
    // The library checks all this at each use; we do not keep what never passes, or an issuer with such keys only
    // would seem to have some. RFC 8017 §3.1: both are odd, and e = 1 would make a message its own signature.
    let bits =
        |number: &[u8]| number.first().map_or(0, |top| number.len() * 8 - top.leading_zeros() as usize);
    let is_odd = |number: &[u8]| number.last().is_some_and(|low| low & 1 == 1);
    let is_key =
        RSA_BITS.contains(&bits(&n)) && EXPONENT_BITS.contains(&bits(&e)) && is_odd(&n) && is_odd(&e);
    if !is_key {
        return None;
    }
    RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()
}

/// The uncompressed point, if it is on the curve.
fn p256(jwk: &Jwk) -> Option<ParsedPublicKey> {
    let (x, y) = (decode(jwk.x.as_deref()?)?, decode(jwk.y.as_deref()?)?);
    // RFC 7518 §6.2.1.2: as long as the curve's field, leading zeros kept.
    if x.len() != 32 || y.len() != 32 {
        return None;
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4][..], &x, &y].concat()).ok()
}

/// A big-endian number without leading zeros, which some issuers write.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = decode(text)?;
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    Some(bytes[zeros..].to_vec())
}

/// Base64url; padding, which some issuers write, is let through.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode_to_vec(text.trim_end_matches('=')).ok()
}
