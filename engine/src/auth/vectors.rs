//! Vectors for signatures, headers and keys (RFC 7515 to 7518), made here one by one by rule rather than collected:
//! every bit, every length, every character, every shape (`reliability` check 60).
//!
//! A verdict is ours and that of a second library. We may be stricter, where it says so; never the other way round.

use super::Verifier;
use super::forge::{CONFIG, ES256, HS256, RS256, World, changed, resigned, universal, world};
use super::tests::{NOW, PRIMARY, b64, token_of};
use crate::config::{Config, Secret};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::KeyPair;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use ringhub_protocol::auth::token::Unverified;
use ringhub_relay::jwks::{Distrust, KeySet};
use serde_json::{Value, json};

/// The order of P-256 and its field, big-endian.
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const FIELD: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// `a - b` of numbers as long.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let digits = a.iter().zip(b).rev().map(|(a, b)| {
        let digit = 256 + u16::from(*a) - u16::from(*b) - borrow;
        borrow = u16::from(digit < 256);
        digit as u8
    });
    let mut digits: Vec<u8> = digits.collect();
    digits.reverse();
    digits
}

/// The second library, with the same keys.
struct Second {
    keys: [(jsonwebtoken::Algorithm, DecodingKey); 3],
}

impl Second {
    fn new(world: &World) -> Self {
        use jsonwebtoken::Algorithm;
        let text = |jwk: &Value, name: &str| jwk[name].as_str().unwrap().to_owned();
        let (rsa, ec) = (world.rsa_jwk("rsa-1"), world.ec_jwk("ec-1"));
        let rsa = DecodingKey::from_rsa_components(&text(&rsa, "n"), &text(&rsa, "e")).unwrap();
        let ec = DecodingKey::from_ec_components(&text(&ec, "x"), &text(&ec, "y")).unwrap();
        let hmac = DecodingKey::from_secret(PRIMARY.as_bytes());
        Self { keys: [(Algorithm::HS256, hmac), (Algorithm::RS256, rsa), (Algorithm::ES256, ec)] }
    }

    /// Whether it takes a token for what its header claims.
    fn takes(&self, token: &str) -> bool {
        self.keys.iter().any(|(algorithm, key)| {
            let mut validation = Validation::new(*algorithm);
            (validation.validate_exp, validation.validate_aud) = (false, false);
            jsonwebtoken::decode::<Value>(token, key, &validation).is_ok()
        })
    }
}

/// Asks both; a token that opens nothing here.
#[track_caller]
fn refused(world: &World, second: &Second, what: &str, token: &str) {
    assert_eq!(world.client(token), 401, "{what}: {token}");
    // Blanks around it are the header's there, not the token's.
    if token.trim_matches(' ') == token {
        assert_eq!(world.rest(token), 401, "{what}: {token}");
    }
    assert!(!second.takes(token), "the second library takes {what}: {token}");
}

/// One bit of a signature, or of what it signs: any of them.
#[test]
fn every_bit_counts() {
    let world = world(CONFIG);
    let second = Second::new(&world);
    let text = universal().to_string();
    let mut vectors = 0;
    for token in [token_of(HS256, &text, PRIMARY), world.rs256(RS256, &text), world.es256(ES256, &text)] {
        assert!(world.rest(&token) == 200 && second.takes(&token));
        let signature =
            base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token.rsplit('.').next().unwrap()).unwrap();
        for bit in 0..signature.len() * 8 {
            let flipped = resigned(&token, |mut bytes| {
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            });
            refused(&world, &second, "a bit of the signature", &flipped);
            vectors += 1;
        }
        // Seven bits: with the eighth it is no text.
        let signed = token.rfind('.').unwrap();
        for bit in (0..signed * 7).step_by(5) {
            let mut bytes = token.clone().into_bytes();
            bytes[bit / 7] ^= 1 << (bit % 7);
            refused(&world, &second, "a bit of what is signed", &String::from_utf8(bytes).unwrap());
            vectors += 1;
        }
    }
    assert!(vectors > 4000, "{vectors}");
}

/// A signature is as long as its algorithm says: no prefix is enough, and nothing may follow or go before.
#[test]
fn every_length_of_a_signature_but_its_own_is_refused() {
    let world = world(CONFIG);
    let second = Second::new(&world);
    let text = universal().to_string();
    for token in [token_of(HS256, &text, PRIMARY), world.rs256(RS256, &text), world.es256(ES256, &text)] {
        let length =
            base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token.rsplit('.').next().unwrap()).unwrap().len();
        for shorter in 0..length {
            refused(&world, &second, "a prefix", &resigned(&token, |bytes| bytes[..shorter].to_vec()));
            refused(
                &world,
                &second,
                "a suffix",
                &resigned(&token, |bytes| bytes[length - shorter..].to_vec()),
            );
            let padded = |bytes: Vec<u8>| [&bytes[..shorter], &vec![0; length - shorter]].concat();
            refused(&world, &second, "a prefix and zeros", &resigned(&token, padded));
        }
        for more in [1, 2, 3, 31, 32, 33, 64, 256, 1 << 10] {
            for byte in [0, 1, 0xff] {
                refused(
                    &world,
                    &second,
                    "bytes behind",
                    &resigned(&token, |bytes| [bytes, vec![byte; more]].concat()),
                );
                refused(
                    &world,
                    &second,
                    "bytes before",
                    &resigned(&token, |bytes| [vec![byte; more], bytes].concat()),
                );
            }
        }
    }
}

/// Base64url has one spelling of anything: no padding, no blanks, no other alphabet, no stray low bits (RFC 4648 §3).
#[test]
fn every_character_counts() {
    let world = world(CONFIG);
    let second = Second::new(&world);
    let text = universal().to_string();
    for token in [token_of(HS256, &text, PRIMARY), world.rs256(RS256, &text), world.es256(ES256, &text)] {
        let parts: Vec<&str> = token.split('.').collect();
        for (part, text) in parts.iter().enumerate() {
            // The last character holds two or four bits of nothing, or is whole: every other one is another token.
            for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
                if !text.ends_with(other) {
                    let last = changed(&token, part, |text| format!("{}{other}", &text[..text.len() - 1]));
                    refused(&world, &second, "another last character", &last);
                }
            }
            for code in (0..=0x7f_u8).filter(|code| !code.is_ascii_alphanumeric() && !b"-_".contains(code)) {
                let stray = char::from(code);
                for at in [0, 1, text.len() / 2, text.len() - 1, text.len()] {
                    let put = changed(&token, part, |text| format!("{}{stray}{}", &text[..at], &text[at..]));
                    refused(&world, &second, "a stray character", &put);
                }
            }
            for ending in ["=", "==", "===", "====", "\n", "\r\n", "\t", " ", "%3D", "\u{a0}", "\u{200b}"] {
                refused(
                    &world,
                    &second,
                    "an ending",
                    &changed(&token, part, |text| format!("{text}{ending}")),
                );
                refused(
                    &world,
                    &second,
                    "a beginning",
                    &changed(&token, part, |text| format!("{ending}{text}")),
                );
            }
            for cut in 1..4 {
                refused(
                    &world,
                    &second,
                    "cut off",
                    &changed(&token, part, |text| text[..text.len() - cut].to_owned()),
                );
            }
        }
        // The alphabet of certificates, where it says something else.
        let standard = token.replace('-', "+").replace('_', "/");
        if standard != token {
            refused(&world, &second, "the standard alphabet", &standard);
        }
    }
}

/// Keys and messages of many lengths: what one library signs, the other takes, with that key only.
#[test]
fn keys_and_messages_of_every_length_agree() {
    for key_length in [32, 33, 55, 56, 63, 64, 65, 100, 128, 129, 256] {
        let key: String = ('<'..='~').cycle().skip(key_length).take(key_length).collect();
        let verifier = Verifier::new(&Config::default(), &Secret::parse(&key).unwrap());
        let near =
            [key[1..].to_owned(), format!("{key} "), key.to_uppercase(), key.replace('<', "?"), b64(&key)];
        for length in [0, 1, 54, 55, 56, 63, 64, 65, 1000] {
            let mut payload = universal();
            payload["x"] = json!("x".repeat(length));
            let theirs = |key: &str| {
                let key = EncodingKey::from_secret(key.as_bytes());
                jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::HS256), &payload, &key).unwrap()
            };
            let ours = token_of(HS256, &payload.to_string(), &key);
            assert_eq!(super::tests::status_with(&verifier, &ours), 101, "{key_length}, {length}");
            assert_eq!(super::tests::status_with(&verifier, &theirs(&key)), 101, "{key_length}, {length}");
            for other in near.iter().filter(|other| **other != key) {
                assert_eq!(super::tests::status_with(&verifier, &theirs(other)), 401, "{other}");
            }
        }
    }
}

/// A header is one JSON object (RFC 8259), however it is written, with every name once.
#[test]
fn headers_are_json_and_nothing_else() {
    let world = world(CONFIG);
    let second = Second::new(&world);
    let text = universal().to_string();
    let signed = |header: &[u8]| {
        let message = format!("{}.{}", b64(header), b64(&text));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, PRIMARY.as_bytes());
        format!("{message}.{}", b64(aws_lc_rs::hmac::sign(&key, message.as_bytes()).as_ref()))
    };
    for good in [
        r#"{"alg":"HS256"}"#,
        " {\n\t\"alg\" :\r\n \"HS256\" , \"typ\": null } ",
        r#"{"\u0061\u006c\u0067":"\u0048S256"}"#,
        r#"{"ALG":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","exp":0,"":[],"x":{"alg":"none"}}"#,
        r#"{"alg":"HS256","cty":"JWT","x5t":"AA","n":-0.0e-0}"#,
    ] {
        assert_eq!(world.client(&signed(good.as_bytes())), 101, "{good}");
    }
    let lone = "\\ud800";
    for bad in [
        r#"{"alg":"HS256",}"#,
        r#"{,"alg":"HS256"}"#,
        r#"{'alg':'HS256'}"#,
        r#"{alg:"HS256"}"#,
        r#"{"alg"="HS256"}"#,
        r#"{"alg":"HS256"}{}"#,
        r#"{"alg":"HS256"} x"#,
        r#"[{"alg":"HS256"}]"#,
        r#"{"alg":"HS256"/**/}"#,
        r#"{"alg":"HS256","x":NaN}"#,
        r#"{"alg":"HS256","x":01}"#,
        r#"{"alg":"HS256","x":+1}"#,
        r#"{"alg":"HS256","x":.5}"#,
        r#"{"alg":"HS256","x":0x10}"#,
        r#"{"alg":"HS256","x":tru}"#,
        r#"{"alg":"HS256","x":"\x41"}"#,
        r#"{"alg":"HS256","x":"\u12"}"#,
        "{\"alg\":\"HS256\",\"x\":\"\n\"}",
        "{\"alg\":\"HS256\",\"x\":\"\0\"}",
        "\"HS256\"",
        "HS256",
        "{}",
        " ",
    ] {
        refused(&world, &second, "no header", &signed(bad.as_bytes()));
    }
    let of_bytes: [&[u8]; 5] = [
        b"\xef\xbb\xbf{\"alg\":\"HS256\"}",
        b"{\0\"\0a\0l\0g\0\"\0:\0\"\0H\0S\x002\x005\x006\0\"\0}\0",
        b"{\"alg\":\"HS256\",\"typ\":\"\xff\"}",
        b"{\"alg\":\"HS256\xc0\x80\"}",
        b"{\"alg\":\"HS256\"}\0",
    ];
    for bad in of_bytes {
        refused(&world, &second, "no text", &signed(bad));
    }
    // Stricter than the second library, which skips what it does not know unread and unseen.
    let values = ["1", "\"x\"", "null", "[]", "{}", "true"];
    for name in [
        "alg", "typ", "kid", "cty", "jku", "jwk", "x5u", "x5c", "x5t", "crit", "b64", "zip", "enc", "epk",
        "x",
    ] {
        for (one, two) in values.iter().flat_map(|one| values.iter().map(move |two| (one, two))) {
            let twice = format!(r#"{{"alg":"HS256","{name}":{one},"{name}":{two}}}"#);
            assert_eq!(world.client(&signed(twice.as_bytes())), 401, "{twice}");
        }
        let escaped =
            format!(r#"{{"alg":"HS256","{name}":"a","\u{:04x}{}":"a"}}"#, name.as_bytes()[0], &name[1..]);
        assert_eq!(world.client(&signed(escaped.as_bytes())), 401, "{escaped}");
    }
    for value in values.iter().chain(&["[\"b64\"]", "[\"exp\",\"b64\"]", "false", "[1]"]) {
        for name in ["crit", "b64", "zip", "enc"] {
            let extended = format!(r#"{{"alg":"HS256","{name}":{value}}}"#);
            assert_eq!(world.client(&signed(extended.as_bytes())), 401, "{extended}");
        }
    }
    assert_eq!(world.client(&signed(format!(r#"{{"alg":"HS256","x":"{lone}"}}"#).as_bytes())), 401);
}

/// RFC 7518 §3.4: two numbers of 32 bytes, each between 0 and the order of the curve.
#[test]
fn numbers_of_an_ecdsa_signature_have_bounds() {
    let world = world(CONFIG);
    let second = Second::new(&world);
    let token = world.es256(ES256, &universal().to_string());
    let (order, field) = (hex(ORDER), hex(FIELD));
    let one = [vec![0; 31], vec![1]].concat();
    let values = [
        vec![0; 32],
        one.clone(),
        minus(&order, &one),
        order.clone(),
        minus(&order, &[0xff; 32]),
        field.clone(),
        minus(&field, &one),
        vec![0xff; 32],
    ];
    for r in &values {
        refused(&world, &second, "r", &resigned(&token, |bytes| [r, &bytes[32..]].concat()));
        refused(&world, &second, "s", &resigned(&token, |bytes| [&bytes[..32], r].concat()));
        for s in &values {
            refused(&world, &second, "both", &resigned(&token, |_| [&r[..], s].concat()));
        }
    }
    // In the other forms that there are: DER, with a recovery id, the numbers swapped or turned around.
    refused(&world, &second, "DER", &world.es256_der(ES256, &universal().to_string()));
    for id in [0, 1, 27, 28] {
        refused(&world, &second, "recovery id", &resigned(&token, |bytes| [bytes, vec![id]].concat()));
    }
    refused(&world, &second, "swapped", &resigned(&token, |bytes| [&bytes[32..], &bytes[..32]].concat()));
    let turned = |bytes: Vec<u8>| bytes.chunks(32).flat_map(|half| half.iter().rev()).copied().collect();
    refused(&world, &second, "little-endian", &resigned(&token, turned));
    // ECDSA has this second signature of the same message, by its mathematics. No token is known by its text here.
    let twin = resigned(&token, |bytes| [&bytes[..32], &minus(&order, &bytes[32..])].concat());
    assert!(world.rest(&twin) == 200 && second.takes(&twin));
}

fn set(key: &Value) -> Option<KeySet> {
    KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes(), NOW).ok()
}

fn verdict(set: &KeySet, token: &str) -> Result<(), Distrust> {
    set.verify(&Unverified::parse(token).unwrap())
}

/// A key that is to be used must be one; members that say otherwise are believed (RFC 7517 §4).
#[test]
fn keys_that_do_not_get_in() {
    let world = world("");
    let (rsa, ec) = (world.rsa_jwk("rsa-1"), world.ec_jwk("ec-1"));
    let text = universal().to_string();
    let (rs, es) = (world.rs256(RS256, &text), world.es256(ES256, &text));
    assert_eq!(verdict(&set(&rsa).unwrap(), &rs), Ok(()));
    assert_eq!(verdict(&set(&ec).unwrap(), &es), Ok(()));
    let changed = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        match value {
            Value::Null => drop(key.as_object_mut().unwrap().remove(name)),
            value => key[name] = value,
        }
        key
    };
    let n = world.rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let bits = |length: usize, top: u8, low: u8| {
        let mut n = n.iter().copied().cycle().take(length).collect::<Vec<_>>();
        (n[0], n[length - 1]) = (top, low);
        b64(n)
    };
    let point = |name: &str| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(ec[name].as_str().unwrap()).unwrap();
    let (x, y) = (point("x"), point("y"));
    let mut bad: Vec<(String, Value)> = Vec::new();
    let mut case = |what: &str, key: Value| bad.push((what.to_owned(), key));
    for (key, others) in
        [(&rsa, ["RS384", "RS512", "PS256", "ES256"]), (&ec, ["ES384", "ES512", "ES256K", "RS256"])]
    {
        for alg in others.into_iter().chain(["HS256", "none", "", "RSA-OAEP", "ECDH-ES", "dir"]) {
            case(alg, changed(key, "alg", json!(alg)));
        }
        for kty in ["oct", "OKP", "rsa", "ec", "", " RSA", "AKP"] {
            case(kty, changed(key, "kty", json!(kty)));
        }
        for usage in ["enc", "", "SIG", "sig ", "sig,enc"] {
            case(usage, changed(key, "use", json!(usage)));
        }
        for operations in
            [json!([]), json!(["sign"]), json!(["encrypt", "wrapKey"]), json!(["VERIFY"]), json!("verify")]
        {
            case("key_ops", changed(key, "key_ops", operations));
        }
        for name in ["kty", "kid", "use", "alg", "n", "e", "x", "y", "crv"] {
            for value in [json!(7), json!(true), json!(["sig"]), json!({ "a": 1 })] {
                case(name, changed(key, name, value));
            }
        }
        case("a long kid", changed(key, "kid", json!("k".repeat(513))));
    }
    case("kinds swapped", changed(&rsa, "kty", json!("EC")));
    case("kinds swapped", changed(&ec, "kty", json!("RSA")));
    // RFC 7518 §3.3: at least 2048 bits. Above 8192 the work is an attack.
    for (what, n) in [
        ("512 bits", bits(64, 0xc5, 0x01)),
        ("1024 bits", bits(128, 0xc5, 0x01)),
        ("2047 bits", bits(256, 0x7f, 0x01)),
        ("2041 bits", bits(256, 0x01, 0x01)),
        ("2040 bits", bits(255, 0xff, 0x01)),
        ("8200 bits", bits(1025, 0x80, 0x01)),
        ("16384 bits", bits(2048, 0x80, 0x01)),
        ("an even number", bits(256, 0xc5, 0x02)),
        ("zero", b64([0; 256])),
        ("nothing", String::new()),
        ("standard alphabet", "+/".repeat(171)),
        ("a blank", format!("{} ", b64(&n))),
    ] {
        case(what, changed(&rsa, "n", json!(n)));
    }
    // RFC 8017 §3.1: odd and at least 3; e = 1 makes every message its own signature.
    for (what, e) in [
        ("e 0", vec![0]),
        ("e 1", vec![1]),
        ("e 2", vec![2]),
        ("e 65536", vec![1, 0, 0]),
        ("e of 34 bits", vec![3, 0, 0, 0, 1]),
        ("e of 2048 bits", n.clone()),
        ("no e", Vec::new()),
    ] {
        case(what, changed(&rsa, "e", json!(b64(e))));
    }
    for name in ["n", "e"] {
        case("a member is not there", changed(&rsa, name, Value::Null));
    }
    for curve in ["P-384", "P-521", "secp256k1", "Ed25519", "X25519", "p-256", "P256", ""] {
        case(curve, changed(&ec, "crv", json!(curve)));
    }
    for name in ["x", "y", "crv"] {
        case("a member is not there", changed(&ec, name, Value::Null));
    }
    // RFC 7518 §6.2.1: a point of the curve, as long as the field.
    for name in ["x", "y"] {
        for bit in 0..256 {
            let mut value = point(name);
            value[bit / 8] ^= 1 << (bit % 8);
            let key = changed(&ec, name, json!(b64(value)));
            // Half of all x are those of a point, but never with this y; a y has no second x in general.
            assert!(set(&key).is_none(), "a point off the curve: {key}");
        }
        let value = point(name);
        for (what, value) in [
            ("short", value[1..].to_vec()),
            ("a leading zero", [vec![0], value.clone()].concat()),
            ("long", [value.clone(), vec![0]].concat()),
            ("zero", vec![0; 32]),
            ("the field", hex(FIELD)),
            ("the largest", vec![0xff; 32]),
            ("nothing", Vec::new()),
        ] {
            case(what, changed(&ec, name, json!(b64(value))));
        }
    }
    case("infinity", changed(&changed(&ec, "x", json!(b64([0; 32]))), "y", json!(b64([0; 32]))));
    case("compressed", changed(&ec, "x", json!(b64([&[2][..], &x].concat()))));
    for (what, key) in &bad {
        assert!(set(key).is_none(), "{what}: {key}");
    }
    assert!(bad.len() > 150, "{}", bad.len());

    // The point on the other side of the axis is one, and another key.
    let negated = changed(&ec, "y", json!(b64(minus(&hex(FIELD), &y))));
    assert_eq!(verdict(&set(&negated).unwrap(), &es), Err(Distrust::BadSignature));
    // What is said beside the key changes nothing.
    for (key, token) in [(&rsa, &rs), (&ec, &es)] {
        for (name, value) in [
            ("use", Value::Null),
            ("alg", Value::Null),
            ("key_ops", json!(["verify"])),
            ("key_ops", json!(["sign", "verify"])),
            ("x5c", json!(["AAAA"])),
            ("x5u", json!("http://evil.example/")),
            ("k", json!("AAAA")),
            ("exp", json!(1)),
            ("d", json!("AAAA")),
        ] {
            assert_eq!(verdict(&set(&changed(key, name, value)).unwrap(), token), Ok(()), "{name}");
        }
    }
}

/// What `e = 1` would mean: a signature that needs no key. The padded digest is the signature.
#[test]
fn a_signature_without_a_key_is_none() {
    let world = world("");
    let message = format!("{}.{}", b64(RS256), b64(universal().to_string()));
    let info = hex("3031300d060960864801650304020105000420");
    let hash = digest(&SHA256, message.as_bytes());
    let padding = vec![0xff; 256 - 3 - info.len() - 32];
    let signature = [&[0, 1][..], &padding, &[0], &info, hash.as_ref()].concat();
    let token = format!("{message}.{}", b64(signature));
    let mut key = world.rsa_jwk("rsa-1");
    assert_eq!(verdict(&set(&key).unwrap(), &token), Err(Distrust::BadSignature));
    key["e"] = json!("AQ");
    assert!(set(&key).is_none_or(|set| verdict(&set, &token).is_err()));
}
