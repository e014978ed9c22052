//! Tokens made to be believed wrongly, each with the answer it must get: after RFC 8725 and the ideas of public
//! suites of forged tokens.
//!
//! Most of them carry a payload that would be good everywhere, so the trick alone decides. Every one is tried
//! as a REST caller's and as a client's.

use super::Access;
use super::forge::{CONFIG, ES256, HS256, ISSUER, PATH, RS256, changed, resigned, universal, with, world};
use super::tests::{NAMED, NOW, PRIMARY, b64, status_with, token_of, verifier};
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use ringhub_protocol::auth::token::{HEADER_BYTES_MAX, TOKEN_BYTES_MAX};
use ringhub_relay::jwks::{Distrust, KeySet};
use serde_json::{Value, json};

#[test]
fn what_is_good_is_taken_for_what_it_is() {
    let world = world(CONFIG);
    let text = universal().to_string();
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let deep_payload = text.replacen('{', &format!("{{\"x\":{deep},"), 1);
    for (what, token, rest, client) in [
        // Passed over without recursion.
        ("a deep claim", token_of(HS256, &deep_payload, PRIMARY), 200, 101),
        ("RS256", world.rs256(RS256, &text), 200, 401),
        ("ES256", world.es256(ES256, &text), 200, 401),
        ("HS256", token_of(HS256, &text, PRIMARY), 200, 101),
        ("no kid, one key of the kind", world.rs256(r#"{"alg":"RS256"}"#, &text), 200, 401),
        (
            "an escape in the header",
            world.rs256(r#"{"\u0061lg":"RS256","kid":"rsa\u002d1"}"#, &text),
            200,
            401,
        ),
        (
            "HS256 with a kid of the issuer",
            token_of(r#"{"alg":"HS256","kid":"rsa-1"}"#, &text, PRIMARY),
            200,
            101,
        ),
        ("any typ", world.rs256(r#"{"alg":"RS256","kid":"rsa-1","typ":["x"]}"#, &text), 200, 401),
    ] {
        assert_eq!((world.rest(&token), world.client(&token)), (rest, client), "{what}");
    }
}

#[test]
fn forged_tokens_open_nothing() {
    let evil = world("");
    let world = world(CONFIG);
    let text = universal().to_string();
    let (rs, es, hs) =
        (world.rs256(RS256, &text), world.es256(ES256, &text), token_of(HS256, &text, PRIMARY));
    let unsigned = |header: &str| format!("{}.{}.", b64(header), b64(&text));
    let header = |header: Value| header.to_string();
    let mut cases: Vec<(String, String)> = Vec::new();
    let mut case = |what: &str, token: String| cases.push((what.to_owned(), token));

    for name in ["none", "None", "NONE", "nOnE", "NoNe", "", " ", "none ", "null", "HS256 ", "hs256", "Hs256"]
    {
        let named = header(json!({ "alg": name }));
        case(&format!("alg {name:?}, no signature"), unsigned(&named));
        case(&format!("alg {name:?}, HMAC"), token_of(&named, &text, PRIMARY));
        case(
            &format!("alg {name:?}, RSA"),
            world.rs256(&header(json!({ "alg": name, "kid": "rsa-1" })), &text),
        );
    }
    for alg in [json!(null), json!(true), json!(["HS256"]), json!({ "HS256": 1 }), json!(256)] {
        case(&format!("alg {alg}"), token_of(&header(json!({ "alg": alg })), &text, PRIMARY));
    }
    case("no alg", token_of(r#"{"typ":"JWT"}"#, &text, PRIMARY));

    // A public key is no secret: what is known of the issuer's, tried as an access key.
    let jwk = world.rsa_jwk("rsa-1");
    for secret in [
        String::new(),
        jwk["n"].as_str().unwrap().to_owned(),
        jwk.to_string(),
        world.jwks().to_string(),
        b64(world.rsa.public_key().as_ref()),
        base64_simd::STANDARD.encode_to_string(world.rsa.public_key().as_ref()),
        "rsa-1".to_owned(),
        ISSUER.to_owned(),
        "ringhub internal key for client tokens 1".to_owned(),
    ] {
        for named in [
            json!({ "alg": "HS256", "kid": "rsa-1" }),
            json!({ "alg": "HS256" }),
            json!({ "alg": "HS256", "kid": "ringhub-client-1" }),
        ] {
            case("key confusion", token_of(&header(named), &text, &secret));
        }
    }
    case("the key's DER as secret", {
        let message = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"rsa-1"}"#), b64(&text));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, world.rsa.public_key().as_ref());
        format!("{message}.{}", b64(aws_lc_rs::hmac::sign(&key, message.as_bytes()).as_ref()))
    });

    // One algorithm in the header, another in the signature or of the key.
    case("RS256 claimed, HMAC", token_of(RS256, &text, PRIMARY));
    case("ES256 claimed, HMAC", token_of(ES256, &text, PRIMARY));
    case("HS256 claimed, RSA", world.rs256(HS256, &text));
    case("ES256 claimed, RSA", world.rs256(ES256, &text));
    case("RS256 claimed, ECDSA", world.es256(RS256, &text));
    case("RS256 with the EC key's name", world.rs256(r#"{"alg":"RS256","kid":"ec-1"}"#, &text));
    case("ES256 with the RSA key's name", world.es256(r#"{"alg":"ES256","kid":"rsa-1"}"#, &text));
    case("SHA-512 under RS256", world.rsa_with(&RSA_PKCS1_SHA512, RS256, &text));
    case("PSS under RS256", world.rsa_with(&RSA_PSS_SHA256, RS256, &text));
    for alg in
        ["PS256", "RS384", "RS512", "ES384", "ES512", "ES256K", "EdDSA", "HS384", "HS512", "RSA1_5", "dir"]
    {
        let named = header(json!({ "alg": alg, "kid": "rsa-1" }));
        case(alg, world.rs256(&named, &text));
        case(alg, world.es256(&named, &text));
        case(alg, token_of(&named, &text, PRIMARY));
    }

    // The attacker's own key, offered in every way.
    case("another RSA key", evil.rs256(RS256, &text));
    case("another EC key", evil.es256(ES256, &text));
    for member in ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"] {
        let offer = match member {
            "jwk" => evil.rsa_jwk("rsa-1"),
            "x5c" => json!([base64_simd::STANDARD.encode_to_string(evil.rsa.public_key().as_ref())]),
            _ => json!("http://evil.example/keys"),
        };
        let mut named = json!({ "alg": "RS256", "kid": "rsa-1" });
        named[member] = offer;
        case(member, evil.rs256(&named.to_string(), &text));
        named["kid"] = json!("evil");
        case(member, evil.rs256(&named.to_string(), &text));
        named.as_object_mut().unwrap().remove("kid");
        case(member, evil.rs256(&named.to_string(), &text));
    }
    for kid in [
        "",
        "../../../../dev/null",
        "/dev/null",
        "' UNION SELECT 'secret'--",
        "rsa-1\0",
        " rsa-1",
        "RSA-1",
        "rsa-1,ec-1",
        "http://evil.example/",
        "${jndi:ldap://evil/}",
        "кључ",
        &"k".repeat(100_000),
    ] {
        case("kid", evil.rs256(&header(json!({ "alg": "RS256", "kid": kid })), &text));
        case("kid", world.rs256(&header(json!({ "alg": "RS256", "kid": kid })), &text));
        case("kid", token_of(&header(json!({ "alg": "HS256", "kid": kid })), &text, ""));
    }
    for kid in [json!(null), json!(1), json!(["rsa-1"]), json!({ "rsa-1": 1 })] {
        case("kid", world.rs256(&header(json!({ "alg": "RS256", "kid": kid })), &text));
        case("kid", token_of(&header(json!({ "alg": "HS256", "kid": kid })), &text, PRIMARY));
    }

    // Extensions, and members that are there twice.
    for (what, members) in [
        ("crit", r#""crit":["exp"]"#),
        ("crit, empty", r#""crit":[]"#),
        ("crit, unknown", r#""crit":["http://x/"],"http://x/":1"#),
        ("b64", r#""crit":["b64"],"b64":false"#),
        ("b64 alone", r#""b64":false"#),
        ("zip", r#""zip":"DEF""#),
        ("enc", r#""enc":"A128GCM""#),
        ("alg twice", r#""alg":"none""#),
        ("alg twice, alike", r#""alg":"HS256","alg":"HS256""#),
        ("typ twice", r#""typ":"JWT","typ":"JWT""#),
        ("kid twice", r#""kid":"rsa-1","kid":"ec-1""#),
        ("deep", &format!("\"x\":{}{}", "[".repeat(5000), "]".repeat(5000))),
        ("no character", r#""x":"\ud800""#),
        ("long", &format!("\"x\":\"{}\"", "x".repeat(HEADER_BYTES_MAX))),
    ] {
        case(what, token_of(&format!(r#"{{"alg":"HS256",{members}}}"#), &text, PRIMARY));
        case(what, world.rs256(&format!(r#"{{"alg":"RS256","kid":"rsa-1",{members}}}"#), &text));
    }
    case("unencoded payload", {
        let message = format!("{}.{text}", b64(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, PRIMARY.as_bytes());
        format!("{message}.{}", b64(aws_lc_rs::hmac::sign(&key, message.as_bytes()).as_ref()))
    });
    for bad in
        ["", "HS256", "[]", "null", r#"{"alg":"HS256""#, r#"{"alg":"HS256"}x"#, "\u{feff}{\"alg\":\"HS256\"}"]
    {
        case("header", token_of(bad, &text, PRIMARY));
    }

    // The text itself, for each kind of signature.
    for token in [&rs, &es, &hs] {
        case("no signature", token.rsplit_once('.').unwrap().0.to_owned());
        case("an empty signature", changed(token, 2, |_| String::new()));
        case("a signature short by a byte", resigned(token, |bytes| bytes[..bytes.len() - 1].to_vec()));
        case("a signature long by a byte", resigned(token, |bytes| [bytes, vec![0]].concat()));
        case("a signature with a leading zero", resigned(token, |bytes| [vec![0], bytes].concat()));
        case("half a signature", resigned(token, |bytes| bytes[..bytes.len() / 2].to_vec()));
        case("a signature of zeros", resigned(token, |bytes| vec![0; bytes.len()]));
        case("a signature of ones", resigned(token, |bytes| vec![0xff; bytes.len()]));
        case("a signature of one", resigned(token, |bytes| [vec![0; bytes.len() - 1], vec![1]].concat()));
        case(
            "a flipped bit",
            resigned(token, |mut bytes| {
                bytes[20] ^= 1;
                bytes
            }),
        );
        case("another payload", changed(token, 1, |_| b64(with("sub", json!("root")))));
        case("another header", changed(token, 0, |_| b64(r#"{"alg":"HS256","typ":"jwt"}"#)));
        case("an empty payload", changed(token, 1, |_| String::new()));
        for part in 0..3 {
            case("padding", changed(token, part, |text| format!("{text}=")));
            case("a line end", changed(token, part, |text| format!("{text}\n")));
            case("a blank", changed(token, part, |text| format!("{} {}", &text[..4], &text[4..])));
            case("a NUL", changed(token, part, |text| format!("{text}\0")));
            case("a letter that looks alike", changed(token, part, |text| format!("{}а", &text[1..])));
            case("a stray character", changed(token, part, |text| format!("{text}A")));
            case("another alphabet", changed(token, part, |text| format!("+/{}", &text[2..])));
        }
        case(
            "stray low bits",
            changed(token, 2, |text| {
                // 256, 64 and 32 bytes all end in a character with unused bits; the next letter has one of them set.
                let last = text.as_bytes()[text.len() - 1];
                format!("{}{}", &text[..text.len() - 1], char::from(last + 1))
            }),
        );
        case("a dot before", format!(".{token}"));
        case("a dot after", format!("{token}."));
        case("two dots", token.replacen('.', "..", 1));
        case("five parts", format!("{token}.{}.{}", b64("iv"), b64("tag")));
        case("twice", format!("{token}.{token}"));
        case("two with a comma", format!("{token},{token}"));
        let parts: Vec<&str> = token.split('.').collect();
        let (protected, payload, signature) = (parts[0], parts[1], parts[2]);
        let flat = json!({ "protected": protected, "payload": payload, "signature": signature });
        case("JSON, flat", flat.to_string());
        let signatures = json!([{ "protected": protected, "signature": signature }]);
        case("JSON, general", json!({ "payload": payload, "signatures": signatures }).to_string());
        case("JSON in base64", b64(flat.to_string()));
    }
    for text in
        ["", ".", "..", "...", "a", "a.b", "a.b.c", "e30.e30.e30", "=.=.=", "\u{1f980}.\u{1f980}.\u{1f980}"]
    {
        case("no token", text.to_owned());
    }
    case("huge", token_of(HS256, &with("x", json!("x".repeat(TOKEN_BYTES_MAX))), PRIMARY));

    // Payloads that are signed and are no claims.
    for payload in [
        "",
        "null",
        "[]",
        "\"text\"",
        "{",
        "{\"exp\":1}{\"exp\":2}",
        &format!("{{\"exp\":{},\"aud\":{}{}}}", NOW + 60, "[".repeat(5000), "]".repeat(5000)),
        &text.replacen("{", &format!("{{\"exp\":{},", NOW + 60), 1),
        &text.replacen("{", "{\"aud\":\"x\",", 1),
        &text.replacen("\"https://webpubsub.azure.com\"", "\"\\ud800\"", 1),
    ] {
        case("payload", token_of(HS256, payload, PRIMARY));
        case("payload", world.rs256(RS256, payload));
    }

    assert!(cases.len() > 300, "{}", cases.len());
    for (what, token) in &cases {
        assert_eq!(world.rest(token), 401, "{what}, REST: {token:.300}");
        assert_eq!(world.client(token), 401, "{what}, client: {token:.300}");
    }
    // And still: nothing of it sticks.
    assert_eq!((world.rest(&rs), world.rest(&es), world.rest(&hs), world.client(&hs)), (200, 200, 200, 101));
}

#[test]
fn claims_of_an_issuers_token_decide() {
    let world = world(CONFIG);
    let mut cases: Vec<(String, u16)> = Vec::new();
    let without = |name: &str| {
        let mut payload = universal();
        payload.as_object_mut().unwrap().remove(name);
        payload.to_string()
    };
    cases.push((without("exp"), 401));
    cases.push((without("iss"), 401));
    cases.push((without("aud"), 401));
    cases.push((without("roles"), 403));
    cases.push((without("nbf"), 200));
    cases.push((without("iat"), 200));
    for (name, value, status) in [
        ("exp", json!(null), 401),
        ("exp", json!((NOW + 60).to_string()), 401),
        ("exp", json!([NOW + 60]), 401),
        ("exp", json!(true), 401),
        ("exp", json!(-1), 401),
        ("exp", json!(0), 401),
        ("exp", json!(i64::MIN), 401),
        ("exp", json!(-1e300), 401),
        ("exp", json!(NOW as f64 + 0.5), 200),
        ("exp", json!(1e300), 200),
        ("exp", json!(u64::MAX), 200),
        ("exp", json!(NOW - 299), 200),
        ("exp", json!(NOW - 300), 401),
        ("nbf", json!(NOW + 300), 200),
        ("nbf", json!(NOW + 301), 401),
        ("nbf", json!(1e300), 401),
        ("nbf", json!("0"), 401),
        ("iss", json!("https://issuer.example/tenant/"), 401),
        ("iss", json!("https://issuer.example/Tenant"), 401),
        ("iss", json!("https://issuer.example"), 401),
        ("iss", json!("http://issuer.example/tenant"), 401),
        ("iss", json!(" https://issuer.example/tenant"), 401),
        ("iss", json!(["https://issuer.example/tenant"]), 200),
        ("iss", json!(["https://issuer.example/tenant", "https://evil/"]), 401),
        ("iss", json!(null), 401),
        ("iss", json!(""), 401),
        ("iss", json!({}), 401),
        ("aud", json!("https://webpubsub.azure.com"), 200),
        ("aud", json!("https://webpubsub.azure.com/"), 200),
        ("aud", json!("https://webpubsub.azure.com//"), 401),
        ("aud", json!("https://webpubsub.azure.com/.default"), 401),
        ("aud", json!("https://WebPubSub.azure.com"), 401),
        ("aud", json!("http://webpubsub.azure.com"), 401),
        ("aud", json!("https://webpubsub.azure.com.evil.example"), 401),
        ("aud", json!("api://ours"), 200),
        ("aud", json!(["x", "api://ours/"]), 200),
        ("aud", json!("http://localhost:8080/api/hubs/chat/:send"), 401),
        ("aud", json!([]), 401),
        ("aud", json!(""), 401),
        ("aud", json!(7), 401),
        ("aud", json!({ "api://ours": 1 }), 401),
        ("roles", json!("Owner"), 200),
        ("roles", json!("Reader"), 206),
        ("roles", json!(["Reader", "Owner"]), 200),
        ("roles", json!(["owner"]), 403),
        ("roles", json!(["Owner "]), 403),
        ("roles", json!([["Owner"]]), 403),
        ("roles", json!({ "Owner": true }), 403),
        ("roles", json!("Owner Reader"), 403),
        ("roles", json!([]), 403),
    ] {
        cases.push((with(name, value), status));
    }
    for (claim, value, status) in [
        ("sub", "8f3a", 200),
        ("sub", "8f3ab", 403),
        ("scp", "hub.read hub.write", 200),
        ("scp", "hub.writer", 403),
        ("azp", "reader-app", 206),
        ("azp", "Owner", 403),
    ] {
        let mut payload: Value = serde_json::from_str(&without("roles")).unwrap();
        payload[claim] = json!(value);
        cases.push((payload.to_string(), status));
    }
    cases.push((universal().to_string().replacen('{', "{\"roles\":[\"Owner\"],", 1), 401));
    cases.push((universal().to_string().replacen('{', &format!("{{\"iss\":\"{ISSUER}\","), 1), 401));
    for (payload, status) in &cases {
        assert_eq!(world.rest(&world.rs256(RS256, payload)), *status, "{payload}");
        assert_eq!(world.rest(&world.es256(ES256, payload)), *status, "{payload}");
        assert_eq!(world.client(&world.rs256(RS256, payload)), 401, "{payload}");
    }
}

/// What is for one door opens no other; the server's own tokens open clients' doors only.
#[test]
fn doors_are_not_mixed_up() {
    let world = world(CONFIG);
    let for_one =
        |audience: &str| token_of(HS256, &json!({ "aud": audience, "exp": NOW + 60 }).to_string(), PRIMARY);
    for (audience, rest, client) in [
        ("http://localhost:8080/api/hubs/chat/:send", 200, 401),
        ("http://localhost:8080/client/hubs/chat", 401, 101),
        ("http://localhost:8080/client/hubs/other", 401, 401),
        ("http://localhost:8080/clients/mqtt/hubs/chat", 401, 401),
        ("http://localhost:8080/clients/socketio/hubs/chat", 401, 401),
        ("http://localhost:8080/api/hubs/other/:send", 401, 401),
        ("http://localhost:8080/api/hubs/chat", 401, 401),
        ("http://localhost:8080/", 401, 401),
        ("https://webpubsub.azure.com", 401, 401),
        ("", 401, 401),
    ] {
        let token = for_one(audience);
        assert_eq!((world.rest(&token), world.client(&token)), (rest, client), "{audience}");
    }
    let terms = world.verifier.terms.load();
    let own = terms.keys.sign_client(&universal());
    assert_eq!((world.rest(&own), world.client(&own)), (401, 101), "an internal key is none for REST");
    let posing = token_of(r#"{"alg":"HS256","kid":"ringhub-client-1"}"#, &universal().to_string(), PRIMARY);
    assert_eq!(world.client(&posing), 401, "an access key is not the internal one");
    let without_kid = changed(&own, 0, |_| b64(HS256));
    assert_eq!(world.client(&without_kid), 401);
    // An issuer's key is good for that issuer alone.
    let issuers: Vec<_> = world.verifier.issuers().handles().collect();
    let others = self::world("");
    issuers[1].publish(KeySet::parse(others.jwks().to_string().as_bytes(), NOW).unwrap());
    let text = with("iss", json!("https://other.example/"));
    assert_eq!(world.rest(&world.rs256(RS256, &text)), 401);
    assert_eq!(world.rest(&others.rs256(RS256, &text)), 200);
    assert_eq!(world.rest(&others.rs256(RS256, &universal().to_string())), 401);
}

#[test]
fn keys_that_are_not_there_are_no_reason_to_give_up() {
    let world = world(CONFIG);
    let good = world.rs256(RS256, &universal().to_string());
    let issuer = world.verifier.issuers().handles().next().unwrap().clone();
    // A key nobody knows: fetched once, and until that is done, nobody is told to give up.
    let fresh = self::world(CONFIG);
    let new = world.rs256(r#"{"alg":"RS256","kid":"rsa-2"}"#, &universal().to_string());
    assert_eq!(world.rest(&new), 401, "resting");
    issuer.publish(
        KeySet::parse(json!({ "keys": [world.rsa_jwk("rsa-2")] }).to_string().as_bytes(), NOW).unwrap(),
    );
    assert_eq!((world.rest(&new), world.rest(&good)), (200, 401), "rotated");
    // Old keys count as none.
    let now = NOW + 86_400;
    let later = json!({ "iss": ISSUER, "roles": "Owner", "aud": "api://ours", "exp": now + 60 }).to_string();
    let later = world.rs256(r#"{"alg":"RS256","kid":"rsa-2"}"#, &later);
    assert_eq!((world.rest_at(now, &later), world.rest_at(now + 1, &later)), (200, 503));
    // None at all.
    let empty = verifier(CONFIG);
    let token = format!("Bearer {}", fresh.rs256(RS256, &universal().to_string()));
    let refusal = empty.authorize_rest(NOW, Some(&token), &NAMED, PATH).unwrap_err();
    assert_eq!(refusal.code.status(), 503);
    let reasons: Vec<_> = world.verifier.issuers().refused().filter(|(_, count)| *count > 0).collect();
    assert_eq!(reasons, [("no_keys", 1), ("key", 2)]);
}

#[test]
fn an_unknown_key_is_asked_for_once() {
    let world = world("");
    let trusting = verifier(CONFIG);
    let issuer = trusting.issuers().handles().next().unwrap();
    issuer.publish(KeySet::parse(world.jwks().to_string().as_bytes(), NOW).unwrap());
    let ask = |kid: &str| {
        let header = json!({ "alg": "RS256", "kid": kid }).to_string();
        let token = format!("Bearer {}", world.rs256(&header, &universal().to_string()));
        trusting.authorize_rest(NOW, Some(&token), &NAMED, PATH).map_err(|body| body.code.status())
    };
    assert_eq!((ask("new"), ask("newer")), (Err(503), Err(503)), "being fetched");
    issuer.rest();
    assert_eq!((ask("new"), ask("rsa-1")), (Err(401), Ok(Access::Owner)));
}

#[test]
fn switches() {
    let text = universal().to_string();
    let hs = token_of(HS256, &text, PRIMARY);
    for (switches, rest_hs, client_hs, rest_rs) in [
        ("", 200, 101, 200),
        ("[server]\naccess_keys = false", 403, 401, 200),
        ("[server]\noidc = false", 200, 101, 403),
        ("[server]\naccess_keys = false\noidc = false", 403, 401, 403),
    ] {
        let world = world(&format!("{switches}\n{CONFIG}"));
        let rs = world.rs256(RS256, &text);
        assert_eq!(
            (world.rest(&hs), world.client(&hs), world.rest(&rs)),
            (rest_hs, client_hs, rest_rs),
            "{switches}"
        );
        // What the server makes itself opens a connection all the same, after a restart too, and no more.
        let own = world.verifier.terms.load().keys.sign_client(&universal());
        let again = verifier(&format!("{switches}\n{CONFIG}"));
        assert_eq!((world.client(&own), status_with(&again, &own)), (101, 101), "{switches}");
        assert!([401, 403].contains(&world.rest(&own)), "{switches}");
        assert_eq!(world.client(&rs), 401, "{switches}");
    }
    // Without any issuer.
    let world = world("");
    assert_eq!(world.rest(&world.rs256(RS256, &text)), 401);
}

/// What signs elsewhere verifies here, and the other way round.
#[test]
fn a_second_opinion_on_signatures() {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
    let world = world(CONFIG);
    let key = EncodingKey::from_secret(PRIMARY.as_bytes());
    let theirs = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &universal(), &key).unwrap();
    assert_eq!((world.rest(&theirs), world.client(&theirs)), (200, 101));
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("ec-1".to_owned());
    let theirs =
        jsonwebtoken::encode(&header, &universal(), &EncodingKey::from_ec_der(&world.ec_pkcs8)).unwrap();
    assert_eq!(world.rest(&theirs), 200);
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let jwk = world.rsa_jwk("rsa-1");
    let key =
        DecodingKey::from_rsa_components(jwk["n"].as_str().unwrap(), jwk["e"].as_str().unwrap()).unwrap();
    let ours = world.rs256(RS256, &universal().to_string());
    assert_eq!(jsonwebtoken::decode::<Value>(&ours, &key, &validation).unwrap().claims, universal());
}

/// Keys that must not get into a set, or not for that.
#[test]
fn key_sets() {
    let world = world("");
    let text = universal().to_string();
    let rs = world.rs256(RS256, &text);
    let token = ringhub_protocol::auth::token::Unverified::parse(&rs).unwrap();
    let set = |keys: Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), NOW);
    let good = world.rsa_jwk("rsa-1");
    assert_eq!(set(json!([good])).unwrap().verify(&token), Ok(()));
    assert_eq!(
        set(json!([{ "kty": "oct", "k": "AA" }, 7, good])).unwrap().len(),
        1,
        "others are passed over"
    );
    // What can be wrong with one member of a key is in `vectors`.
    for key in [
        json!({ "kty": "EC", "crv": "P-256", "x": b64([1; 32]), "y": b64([1; 32]) }),
        json!({ "kty": "EC", "crv": "P-384", "x": b64([1; 48]), "y": b64([1; 48]) }),
        json!({ "kty": "oct", "k": b64(PRIMARY) }),
    ] {
        assert!(set(json!([key])).is_err(), "{key}");
    }
    assert!(set(json!(vec![good.clone(); 65])).is_err() && set(json!([])).is_err());
    for text in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[]}"] {
        assert!(KeySet::parse(text.as_bytes(), NOW).is_err(), "{text}");
    }
    // Two keys of one name: each is asked. Two of one kind, and no name: neither.
    let other = self::world("");
    let both = set(json!([other.rsa_jwk("rsa-1"), good])).unwrap();
    assert_eq!(both.verify(&token), Ok(()));
    let nameless = world.rs256(r#"{"alg":"RS256"}"#, &text);
    let nameless = ringhub_protocol::auth::token::Unverified::parse(&nameless).unwrap();
    assert_eq!(both.verify(&nameless), Err(Distrust::UnknownKey));
    assert_eq!(set(json!([world.rsa_jwk("x")])).unwrap().verify(&token), Err(Distrust::UnknownKey));
    assert_eq!(set(json!([other.rsa_jwk("rsa-1")])).unwrap().verify(&token), Err(Distrust::BadSignature));
}
