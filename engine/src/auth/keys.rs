//! Access keys, and the internal keys that are derived from them: who signs what, and which signature opens
//! what.
//!
//! Access keys sign REST calls and client tokens, as the SDKs do. What the server makes itself
//! (`:generateToken`, the console) it signs with an internal key, so that its clients can connect when access
//! keys are switched off (`rest-api` §3.4). An internal key is HMAC-SHA-256 of a fixed label under an access
//! key: the same after a restart and on every node. Its tokens name it as `kid` and open client connections
//! only, never REST.

use crate::config::{Config, Secret};
use aws_lc_rs::hmac;
use ringhub_protocol::auth::token::Unverified;
use serde::Serialize;

/// `kid` of what the internal keys sign.
const INTERNAL_KID: &str = "ringhub-client-1";
/// What the internal keys are made from; nothing an access key signs otherwise has a blank in it.
const INTERNAL_LABEL: &[u8] = b"ringhub internal key for client tokens 1";

/// The keys in use, ready to use.
pub(super) struct KeyRing {
    /// Primary, then secondary.
    access: Vec<hmac::Key>,
    /// Derived from each of them.
    internal: Vec<hmac::Key>,
    /// Whether access keys are switched on.
    access_on: bool,
}

/// Why a signature opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadKey {
    /// Not by a key that counts here.
    Signature,
    /// Access keys are switched off, and it claims to be by one.
    SwitchedOff,
}

impl KeyRing {
    /// The keys of `config`; `primary` is the configured or generated one.
    pub(super) fn new(config: &Config, primary: &Secret) -> Self {
        let keys: Vec<&Secret> =
            [Some(primary), config.keys.secondary.as_ref()].into_iter().flatten().collect();
        Self {
            access: keys.iter().map(|key| access_key(key)).collect(),
            internal: keys.iter().map(|key| internal_key(key)).collect(),
            access_on: config.server.access_keys,
        }
    }

    /// Whether an access key signed it.
    pub(super) fn verify_rest(&self, token: &Unverified<'_>) -> Result<(), BadKey> {
        if !self.access_on {
            return Err(BadKey::SwitchedOff);
        }
        verify_with(&self.access, token)
    }

    /// Whether it is signed by a key that opens client connections: the internal ones if it names them, else
    /// the access keys.
    pub(super) fn verify_client(&self, token: &Unverified<'_>) -> Result<(), BadKey> {
        match token.kid.as_deref() {
            Some(INTERNAL_KID) => verify_with(&self.internal, token),
            _ => self.verify_rest(token),
        }
    }

    /// Signs a client's token.
    pub(super) fn sign_client(&self, payload: &impl Serialize) -> String {
        sign(&self.internal[0], Some(INTERNAL_KID), payload)
    }
}

/// Signs a token as an application does, with an access key.
pub(crate) fn sign_with_access_key(key: &Secret, payload: &impl Serialize) -> String {
    sign(&access_key(key), None, payload)
}

/// Signs a client's token as a server with that primary key does.
pub(super) fn sign_with_internal_key(key: &Secret, payload: &impl Serialize) -> String {
    sign(&internal_key(key), Some(INTERNAL_KID), payload)
}

/// The text's bytes as they are (`client-protocols` §2.1).
fn access_key(key: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())
}

fn internal_key(key: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&access_key(key), INTERNAL_LABEL).as_ref())
}

fn verify_with(keys: &[hmac::Key], token: &Unverified<'_>) -> Result<(), BadKey> {
    let message = token.signing_input.as_bytes();
    let good = keys.iter().any(|key| hmac::verify(key, message, &token.signature).is_ok());
    if good { Ok(()) } else { Err(BadKey::Signature) }
}

fn sign(key: &hmac::Key, kid: Option<&str>, payload: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'static str,
        typ: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        kid: Option<&'a str>,
    }
    let b64 = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    let json = |error| -> Vec<u8> { unreachable!("texts and numbers serialize: {error}") };
    let header = serde_json::to_vec(&Header { alg: "HS256", typ: "JWT", kid }).unwrap_or_else(json);
    let payload = serde_json::to_vec(payload).unwrap_or_else(json);
    let message = format!("{}.{}", b64(&header), b64(&payload));
    let tag = hmac::sign(key, message.as_bytes());
    format!("{message}.{}", b64(tag.as_ref()))
}
