//! When a token is good (`reliability` check 62, RFC 7519 §4.1.4 to 4.1.6, RFC 8725 §3.8): every number that can
//! stand in `exp`, `nbf` and `iat`, at both doors.

use super::forge::universal;
use super::tests::{NAMED, NOW, PRIMARY, status_with, token_of, verifier};
use super::{Access, Verifier};

const HS256: &str = r#"{"alg":"HS256"}"#;

/// The payload that is good everywhere, with this text as a claim's value; `None` takes the claim out.
fn payload(claim: &str, value: Option<&str>) -> String {
    let mut payload = universal();
    payload.as_object_mut().unwrap().remove(claim);
    let rest = payload.to_string();
    match value {
        Some(value) => rest.replacen('{', &format!("{{\"{claim}\":{value},"), 1),
        None => rest,
    }
}

/// Whether it opens, and both doors agree.
#[track_caller]
fn opens(verifier: &Verifier, payload: &str) -> bool {
    let token = token_of(HS256, payload, PRIMARY);
    let header = format!("Bearer {token}");
    let rest = verifier.authorize_rest(NOW, Some(&header), &NAMED, "/api/hubs/chat/:send");
    let rest = rest.map_err(|body| body.code.status());
    match (rest, status_with(verifier, &token)) {
        (Ok(Access::Owner), 101) => true,
        (Err(401), 401) => false,
        both => panic!("the doors differ: {both:?} for {payload}"),
    }
}

fn with_skew(seconds: u64) -> Verifier {
    verifier(&format!("[limits]\nclock_skew_seconds = {seconds}\n"))
}

/// At the very second it runs out it has run out, and at the very second it begins it has begun.
#[test]
fn offsets_around_the_skew() {
    for skew in [0, 1, 300, 3600] {
        let verifier = with_skew(skew);
        for offset in [0, 1, 59, 240, 299, 300, 301, 360, 3599, 3600, 3601, 86_400] {
            let at = |claim: &str, time: u64| opens(&verifier, &payload(claim, Some(&time.to_string())));
            assert_eq!(at("exp", NOW - offset), offset < skew, "expired {offset} s ago, skew {skew}");
            assert!(at("exp", NOW + offset + 1), "expires in {offset} s, skew {skew}");
            assert_eq!(at("nbf", NOW + offset), offset <= skew, "begins in {offset} s, skew {skew}");
            assert!(at("nbf", NOW - offset), "began {offset} s ago, skew {skew}");
            // When it was made says nothing about when it is good.
            assert!(at("iat", NOW + offset) && at("iat", NOW - offset), "made {offset} s off, skew {skew}");
        }
    }
}

/// Whether a text as the value of `exp` is a time that has not come, and as that of `nbf` one that has.
#[test]
fn numbers_of_every_kind() {
    let verifier = with_skew(0);
    for (value, exp, nbf) in [
        // The ends of what machines count with.
        ("9223372036854775806", true, false),
        ("9223372036854775807", true, false),
        ("9223372036854775808", true, false),
        ("18446744073709551615", true, false),
        ("18446744073709551616", true, false),
        ("99999999999999999999999999999999", true, false),
        ("4294967295", true, false),
        ("4294967296", true, false),
        ("2147483648", true, false),
        ("-1", false, true),
        ("-2147483649", false, true),
        ("-9223372036854775808", false, true),
        ("-9223372036854775809", false, true),
        ("0", false, true),
        ("-0", false, true),
        // Fractions are cut, not rounded (RFC 7519 §2 allows them).
        ("1700000000.0", false, true),
        ("1700000000.999", false, true),
        ("1700000001.0", true, false),
        ("1.7e9", false, true),
        ("1.700000001e9", true, false),
        ("17e8", false, true),
        ("1e300", true, false),
        ("-1e300", false, true),
        ("1e-300", false, true),
        ("0.0", false, true),
        // No numbers, or none of JSON's.
        ("1e400", false, false),
        ("-1e400", false, false),
        ("\"1900000000\"", false, false),
        ("\"\"", false, false),
        ("\"2030-01-01T00:00:00Z\"", false, false),
        ("true", false, false),
        ("false", false, false),
        ("null", false, false),
        ("[]", false, false),
        ("[1900000000]", false, false),
        ("{}", false, false),
        ("{\"$numberLong\":\"1900000000\"}", false, false),
        ("01900000000", false, false),
        ("+1900000000", false, false),
        ("0x7fffffff", false, false),
        ("1900000000.", false, false),
        (".19e10", false, false),
        ("1_900_000_000", false, false),
        ("1,9", false, false),
        ("NaN", false, false),
        ("Infinity", false, false),
        ("1900000000 1", false, false),
    ] {
        assert_eq!(opens(&verifier, &payload("exp", Some(value))), exp, "exp {value}");
        assert_eq!(opens(&verifier, &payload("nbf", Some(value))), nbf, "nbf {value}");
    }
}

#[test]
fn what_is_missing_or_twice() {
    for skew in [0, 3600] {
        let verifier = with_skew(skew);
        assert!(!opens(&verifier, &payload("exp", None)), "without an end it is good for ever");
        assert!(opens(&verifier, &payload("nbf", None)) && opens(&verifier, &payload("iat", None)));
        for claim in ["exp", "nbf"] {
            let twice = payload(claim, Some(&format!("{NOW},\"{claim}\":{NOW}")));
            assert!(!opens(&verifier, &twice), "{twice}");
            let escaped =
                payload(claim, Some(&format!("{NOW},\"\\u{:04x}{}\":1", claim.as_bytes()[0], &claim[1..])));
            assert!(!opens(&verifier, &escaped), "{escaped}");
        }
        // Names are exact.
        for other in ["Exp", "EXP", " exp", "expires", "exp\\u0000"] {
            let named = payload("exp", None).replacen('{', &format!("{{\"{other}\":{},", NOW + 60), 1);
            assert!(!opens(&verifier, &named), "{named}");
        }
        // Nobody reads it, so nothing in it matters but that it is JSON.
        for value in ["\"x\"", "null", "{}", "1e300", "-1"] {
            assert!(opens(&verifier, &payload("iat", Some(value))), "{value}");
        }
        // Each end is judged by itself, so of a lifetime that ends before it begins the skew may leave a moment.
        let both = |exp: u64, nbf: u64| {
            let payload = payload("exp", Some(&exp.to_string())).replacen("\"nbf\":", "\"x\":", 1);
            opens(&verifier, &payload.replacen('{', &format!("{{\"nbf\":{nbf},"), 1))
        };
        assert!(both(NOW - skew + 1, NOW + skew));
        assert!(!both(NOW - skew, NOW + skew) && !both(NOW - skew + 1, NOW + skew + 1));
    }
}
