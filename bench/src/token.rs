//! Client tokens, made the way the SDKs make them (reference client-protocols §2): HS256 over the
//! UTF-8 bytes of the access key.

use std::time::{SystemTime, UNIX_EPOCH};

use base64_simd::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

/// How long a token lives, seconds. Longer than any run.
const LIFETIME_S: u64 = 3600;

/// The API version that current SDKs ask for.
const API_VERSION: &str = "2024-12-01";

/// Path and query of a send operation (reference rest-api §2) on `target`: empty for the whole hub, else
/// `users/…` or `groups/…`.
pub(crate) fn send_path(hub: &str, target: &str) -> String {
    let slash = if target.is_empty() { "" } else { "/" };
    format!("/api/hubs/{hub}{slash}{target}/:send?api-version={API_VERSION}")
}

/// Path and query of the question whether `target` exists: `users/…` or `groups/…`.
pub(crate) fn exists_path(hub: &str, target: &str) -> String {
    format!("/api/hubs/{hub}/{target}?api-version={API_VERSION}")
}

/// Signs the bearer token of one REST request as the SDKs do (reference rest-api §3.1): the audience is
/// the whole URL, query included. `now_s` is in seconds since 1970.
pub(crate) fn sign_request(key: &str, host: &str, path: &str, now_s: u64) -> String {
    sign_claims(
        key,
        &json!({ "aud": format!("http://{host}{path}"), "iat": now_s, "exp": now_s + LIFETIME_S }),
    )
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Signs a token for `hub` on the server that clients call `host` (`name:port`).
///
/// The holder may join, leave and publish; `groups` are joined by connecting, without a message.
pub(crate) fn sign(key: &str, host: &str, hub: &str, user: &str, groups: &[String]) -> String {
    let now = now_s();
    let claims = json!({
        "aud": format!("http://{host}/client/hubs/{hub}"),
        "iat": now,
        "exp": now + LIFETIME_S,
        "sub": user,
        "role": ["webpubsub.sendToGroup", "webpubsub.joinLeaveGroup"],
        "webpubsub.group": groups,
    });
    sign_claims(key, &claims)
}

fn sign_claims(key: &str, claims: &serde_json::Value) -> String {
    let head = URL_SAFE_NO_PAD.encode_to_string(br#"{"alg":"HS256","typ":"JWT"}"#);
    let mut token = format!("{head}.{}", URL_SAFE_NO_PAD.encode_to_string(claims.to_string().as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_append(mac.finalize().into_bytes(), &mut token);
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515 appendix A.1 has a vector for HS256 itself; here it is checked that we sign exactly
    /// what stands before the second dot and say what the server looks for.
    #[test]
    fn signature_covers_head_and_claims() {
        let token = sign("a key", "localhost:8080", "bench", "me", &["g0".into()]);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a key").unwrap();
        mac.update(signed.as_bytes());
        mac.verify_slice(&URL_SAFE_NO_PAD.decode_to_vec(signature).unwrap()).unwrap();

        let claims = URL_SAFE_NO_PAD.decode_to_vec(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], "http://localhost:8080/client/hubs/bench");
        assert_eq!(claims["webpubsub.group"], json!(["g0"]));
        assert_eq!(claims["sub"], "me");
    }

    #[test]
    fn a_requests_token_is_for_its_url() {
        let path = send_path("bench", "users/u1");
        assert_eq!(path, "/api/hubs/bench/users/u1/:send?api-version=2024-12-01");
        assert_eq!(send_path("bench", ""), "/api/hubs/bench/:send?api-version=2024-12-01");
        let token = sign_request("a key", "localhost:8080", &path, 1_000);
        let claims = URL_SAFE_NO_PAD.decode_to_vec(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            claims,
            json!({ "aud": format!("http://localhost:8080{path}"), "iat": 1_000, "exp": 4_600 })
        );
    }
}
