//! A token, a line feed, a payload: a token comes apart into parts that spell it again, letter for letter, and
//! no payload makes a parser of claims panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringhub_protocol::auth::claims::{ClientClaims, RestClaims};
use ringhub_protocol::auth::issued::{ClaimRule, IssuedClaims};
use ringhub_protocol::auth::token::{Algorithm, SIGNATURE_BYTES_MAX, Unverified};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let (token, payload) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(parsed) = Unverified::parse(token) {
        // One spelling: whoever re-encodes what was read gets the text that was signed.
        let (header, rest) = token.split_once('.').expect("a token has dots");
        let spelled = format!("{header}.{}.{}", encode(&parsed.payload), encode(&parsed.signature));
        assert_eq!(spelled, token);
        assert!(!rest.is_empty() && parsed.signature.len() <= SIGNATURE_BYTES_MAX);
        assert_eq!(parsed.signing_input, token.rsplit_once('.').expect("a token has dots").0);
        // A second reader, more lenient, sees the same algorithm and key in the header.
        let decoded = decode(header).expect("canonical base64url");
        let second: Value = serde_json::from_slice(&decoded).expect("a header is JSON");
        let algorithm = match parsed.algorithm {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
        };
        assert_eq!(second["alg"], algorithm);
        assert_eq!(second.get("kid").and_then(Value::as_str), parsed.kid.as_deref());
        for extension in ["crit", "b64", "zip", "enc"] {
            assert!(second.get(extension).is_none());
        }
        claims(&parsed.payload);
    }
    claims(payload.as_bytes());
});

fn claims(payload: &[u8]) {
    let rest = RestClaims::parse(payload);
    if let Ok(rest) = &rest {
        let _ = rest.lifetime.check_times(1_700_000_000, 300);
    }
    // A client's claims are a REST caller's and more.
    assert!(ClientClaims::parse(payload).is_err() || rest.is_ok());
    let wanted = ["roles", "scp", "sub"];
    if let Ok(issued) = IssuedClaims::parse(payload, |name| wanted.contains(&name)) {
        for claim in wanted {
            let rule = ClaimRule::parse(&format!("{claim}=Owner")).expect("a rule");
            // What fits is in the payload in so many words.
            // The second reader looks at claims that we pass over, and may not like them.
            if let (true, Ok(second)) = (issued.fits(&rule), serde_json::from_slice::<Value>(payload)) {
                assert!(second[claim].to_string().contains("Owner"), "{second}");
            }
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64url without padding, the slow way.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for (at, letter) in chunk.iter().enumerate() {
            bits |= (ALPHABET.iter().position(|known| known == letter)? as u32) << (18 - 6 * at);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}
