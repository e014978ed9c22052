//! `ce-signature`: how an application knows that an event comes from the server that holds its keys
//! (`event-handlers` §3).
//!
//! It covers the connection's id alone, so a connection's is made once and kept until the keys change.

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use hyper::header::HeaderValue;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Signs with the server's access keys; shared with who knows when they change.
pub struct Signer {
    keys: ArcSwap<Keys>,
    /// Of the next keys.
    generation: AtomicU64,
}

struct Keys {
    generation: u64,
    keys: Box<[hmac::Key]>,
}

/// A signature, and of which keys it is.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    generation: u64,
    value: HeaderValue,
}

impl Signer {
    /// With these access keys, the primary first.
    pub fn new(keys: &[&str]) -> Arc<Self> {
        let keys = ArcSwap::from_pointee(Keys::new(0, keys));
        Arc::new(Self { keys, generation: AtomicU64::new(1) })
    }

    /// From now on with these, the primary first. Without any, signatures are empty.
    pub fn set(&self, keys: &[&str]) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        self.keys.store(Arc::new(Keys::new(generation, keys)));
    }

    /// The header's value for a connection; `kept` is the last one that was made for it, if any.
    pub(crate) fn sign(&self, connection_id: &str, kept: &mut Option<Signature>) -> HeaderValue {
        let keys = self.keys.load();
        match kept {
            Some(kept) if kept.generation == keys.generation => kept.value.clone(),
            _ => {
                let value = keys.sign(connection_id);
                *kept = Some(Signature { generation: keys.generation, value: value.clone() });
                value
            }
        }
    }
}

impl Keys {
    fn new(generation: u64, keys: &[&str]) -> Self {
        let key = |key: &&str| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        Self { generation, keys: keys.iter().map(key).collect() }
    }

    fn sign(&self, connection_id: &str) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = Vec::with_capacity(self.keys.len() * 72);
        for key in &self.keys {
            text.extend_from_slice(if text.is_empty() { b"sha256=" } else { b",sha256=" });
            for byte in hmac::sign(key, connection_id.as_bytes()).as_ref() {
                text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("it is ASCII")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer with {} keys", self.keys.load().keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HMAC-SHA256 of RFC 4231 §4.3 (test case 2).
    const JEFE: &str = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn one_digest_for_each_key_the_primary_first() {
        let message = "what do ya want for nothing?";
        assert_eq!(Signer::new(&["Jefe"]).sign(message, &mut None), JEFE);
        let both = Signer::new(&["Jefe", "other"]).sign(message, &mut None);
        assert!(both.to_str().unwrap().starts_with(&format!("{JEFE},sha256=")), "{both:?}");
        assert_eq!(both.len(), 2 * JEFE.len() + 1);
    }

    #[test]
    fn a_kept_signature_ends_with_its_keys() {
        let signer = Signer::new(&["a"]);
        let mut kept = None;
        let first = signer.sign("id", &mut kept);
        // Taken from what was kept: the id is not looked at.
        assert_eq!(signer.sign("other", &mut kept), first);
        signer.set(&["b", "a"]);
        let rotated = signer.sign("id", &mut kept);
        assert_eq!(
            rotated,
            format!(
                "{},{}",
                Signer::new(&["b"]).sign("id", &mut None).to_str().unwrap(),
                first.to_str().unwrap()
            )
        );
        assert_eq!(signer.sign("other", &mut kept), rotated);
    }
}
