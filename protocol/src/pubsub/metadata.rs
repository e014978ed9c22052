//! Message metadata: checked, not delivered yet (`client-protocols` §3.2).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// Largest name, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Largest value, in bytes.
const VALUE_BYTES_MAX: usize = 1024;
/// Largest sum of all names and values, in bytes.
const TOTAL_BYTES_MAX: usize = 8 * 1024;

/// Whether `json` is an object of strings within the rules: names are HTTP tokens of at most 256 bytes, each
/// once; values are ASCII of at most 1,024 bytes; 8 KiB together.
pub(super) fn is_valid(json: &str) -> bool {
    serde_json::from_str::<Checked>(json).is_ok()
}

struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CheckEntries)
    }
}

struct CheckEntries;

impl<'de> Visitor<'de> for CheckEntries {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Checked, A::Error> {
        let mut names = BTreeSet::new();
        let mut total = 0;
        while let Some((name, value)) = entries.next_entry::<Cow<'de, str>, Cow<'de, str>>()? {
            total += name.len() + value.len();
            let legal_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_token);
            let legal_value = value.len() <= VALUE_BYTES_MAX && value.is_ascii();
            if !legal_name || !legal_value || total > TOTAL_BYTES_MAX || !names.insert(name) {
                return Err(A::Error::custom("metadata breaks a rule"));
            }
        }
        Ok(Checked)
    }
}

/// A `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_have_rules() {
        let long =
            |name: usize, value: usize| format!("{{\"{}\":\"{}\"}}", "n".repeat(name), "v".repeat(value));
        let entries = |count: usize| {
            let entries: Vec<_> =
                (0..count).map(|i| format!("\"k{i:03}\":\"{}\"", "v".repeat(1020))).collect();
            format!("{{{}}}", entries.join(","))
        };
        for good in ["{}", r#"{"a":"1","A":"2"}"#, r#"{"!#$%&'*+-.^_`|~":""}"#, &long(256, 1024), &entries(8)]
        {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "[]",
            "1",
            "\"a\"",
            r#"{"":"x"}"#,
            r#"{"a b":"x"}"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":"ä"}"#,
            r#"{"a":"1","a":"1"}"#,
            r#"{"a":"1","\u0061":"1"}"#,
            &long(257, 1),
            &long(1, 1025),
            &entries(9),
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
