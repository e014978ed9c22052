//! An issuer's private keys, a verifier that trusts them, and tokens signed in every way there is: what the tests of
//! forged tokens are made with.

use super::tests::{NAMED, NOW, b64, status_with, verifier};
use super::{Access, Verifier};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaEncoding, RsaKeyPair,
};
use ringhub_relay::jwks::KeySet;
use serde_json::{Value, json};

pub(super) const ISSUER: &str = "https://issuer.example/tenant";
pub(super) const PATH: &str = "/api/hubs/chat/:send";
pub(super) const CONFIG: &str = r#"
[[oidc.issuers]]
url = "https://issuer.example/tenant"
audiences = ["https://webpubsub.azure.com", "api://ours/"]
owner = ["roles=Owner", "sub=8f3a", "scp=hub.write"]
reader = ["roles=Reader", "azp=reader-app"]
[[oidc.issuers]]
url = "https://other.example/"
owner = ["roles=Owner"]
"#;

/// A verifier that trusts an issuer, and the issuer's private keys.
pub(super) struct World {
    pub(super) verifier: Verifier,
    pub(super) rsa: RsaKeyPair,
    pub(super) ec_pkcs8: Vec<u8>,
}

pub(super) fn world(config: &str) -> World {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let world = World { verifier: verifier(config), rsa, ec_pkcs8: ec.as_ref().to_vec() };
    for issuer in world.verifier.issuers().handles() {
        issuer.publish(KeySet::parse(world.jwks().to_string().as_bytes(), NOW - 60).unwrap());
        // No refresh is to be had: what is unknown, is unknown.
        issuer.rest();
    }
    world
}

impl World {
    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": [self.rsa_jwk("rsa-1"), self.ec_jwk("ec-1")] })
    }

    pub(super) fn rsa_jwk(&self, kid: &str) -> Value {
        let key = self.rsa.public_key();
        let (n, e) = (key.modulus(), key.exponent());
        json!({
            "kty": "RSA", "use": "sig", "kid": kid, "alg": "RS256",
            "n": b64(n.big_endian_without_leading_zero()), "e": b64(e.big_endian_without_leading_zero()),
        })
    }

    pub(super) fn ec_jwk(&self, kid: &str) -> Value {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.ec_pkcs8).unwrap();
        let point = key.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..]),
        })
    }

    /// Signed with the RSA key in any of its ways.
    pub(super) fn rsa_with(&self, way: &'static dyn RsaEncoding, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(payload));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(way, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", b64(signature))
    }

    pub(super) fn rs256(&self, header: &str, payload: &str) -> String {
        self.rsa_with(&RSA_PKCS1_SHA256, header, payload)
    }

    pub(super) fn es256(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(payload));
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.ec_pkcs8).unwrap();
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", b64(signature.as_ref()))
    }

    /// The signature as most libraries for certificates write it, instead of the two numbers.
    pub(super) fn es256_der(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(payload));
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.ec_pkcs8).unwrap();
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", b64(signature.as_ref()))
    }

    /// 200 for an owner, 206 for a reader, or the refusal's status.
    pub(super) fn rest(&self, token: &str) -> u16 {
        self.rest_at(NOW, token)
    }

    pub(super) fn rest_at(&self, now: u64, token: &str) -> u16 {
        match self.verifier.authorize_rest(now, Some(&format!("Bearer {token}")), &NAMED, PATH) {
            Ok(Access::Owner) => 200,
            Ok(Access::Reader) => 206,
            Err(body) => body.code.status(),
        }
    }

    pub(super) fn client(&self, token: &str) -> u16 {
        // Whatever is in it, it is one value of the query.
        let encoded: String = token
            .bytes()
            .map(|byte| match byte {
                b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
                _ => format!("%{byte:02x}"),
            })
            .collect();
        status_with(&self.verifier, &encoded)
    }
}

/// Good for every door.
pub(super) fn universal() -> Value {
    json!({
        "iss": ISSUER, "sub": "ann", "roles": ["Owner"], "iat": NOW, "nbf": NOW, "exp": NOW + 60,
        "aud": [
            "https://webpubsub.azure.com", "http://localhost:8080/client/hubs/chat",
            "http://localhost:8080/api/hubs/chat/:send",
        ],
    })
}

pub(super) fn with(name: &str, value: Value) -> String {
    let mut payload = universal();
    payload[name] = value;
    payload.to_string()
}

pub(super) const RS256: &str = r#"{"alg":"RS256","typ":"JWT","kid":"rsa-1"}"#;
pub(super) const ES256: &str = r#"{"alg":"ES256","typ":"at+jwt","kid":"ec-1"}"#;
pub(super) const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Parts of a token with one of them changed.
pub(super) fn changed(token: &str, part: usize, change: impl Fn(&str) -> String) -> String {
    let parts: Vec<String> = token
        .split('.')
        .enumerate()
        .map(|(at, text)| if at == part { change(text) } else { text.into() })
        .collect();
    parts.join(".")
}

/// A signature's bytes changed.
pub(super) fn resigned(token: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
    changed(token, 2, |text| b64(change(base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).unwrap())))
}
