//! Message metadata: a few names with values that travel with a message to PubSub receivers
//! (`client-protocols` §3.2, §3.10).
//!
//! What must stay true: names are HTTP tokens, each once; values are ASCII. So metadata can be written to JSON,
//! to protobuf and to HTTP headers without a way to fail.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::escape::write_string;

/// Headers that carry metadata begin with this, ignoring case; the rest of the name is the entry's.
pub const HEADER_PREFIX: &str = "x-webpubsub-metadata-";
/// Largest name, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024;
/// Largest sum of all names and values, in bytes.
pub const TOTAL_BYTES_MAX: usize = 8 * 1024;

/// Names with their values, in the order given; never empty of entries. Clones share everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(Arc<[(Box<str>, Box<str>)]>);

/// A name, a value or their sum breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Metadata must be ASCII texts under HTTP token names, each once, within the size limits.")]
pub struct InvalidMetadata;

impl Metadata {
    /// Checks and takes entries; `None` if there are none.
    ///
    /// # Errors
    /// When an entry breaks a rule of this module, or a name stands twice.
    pub fn new<N, V>(entries: impl IntoIterator<Item = (N, V)>) -> Result<Option<Self>, InvalidMetadata>
    where
        N: AsRef<str> + Into<Box<str>>,
        V: AsRef<str> + Into<Box<str>>,
    {
        let mut checked: Vec<(Box<str>, Box<str>)> = Vec::new();
        let mut total = 0;
        for (name, value) in entries {
            let (n, v) = (name.as_ref(), value.as_ref());
            total += n.len() + v.len();
            let legal_name = !n.is_empty() && n.len() <= NAME_BYTES_MAX && n.bytes().all(is_token);
            let legal_value = v.len() <= VALUE_BYTES_MAX && v.is_ascii();
            if !legal_name || !legal_value || total > TOTAL_BYTES_MAX {
                return Err(InvalidMetadata);
            }
            checked.push((name.into(), value.into()));
        }
        // Not each with each: thousands of names fit in 8 KiB.
        let mut names: Vec<&str> = checked.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(InvalidMetadata);
        }
        Ok((!checked.is_empty()).then(|| Self(checked.into())))
    }

    /// Reads a JSON object of strings; `None` if it has no entries.
    ///
    /// # Errors
    /// When it is something else, or an entry breaks a rule.
    pub fn from_json(json: &str) -> Result<Option<Self>, InvalidMetadata> {
        let Entries(metadata) = serde_json::from_str(json).map_err(|_| InvalidMetadata)?;
        Ok(metadata)
    }

    /// Reads it from HTTP headers, given in order; others are passed over. Names are in lower case and keep their
    /// order; of a repeated one the last value counts, in the place of the first, and of a value with commas what
    /// follows the last of them (`rest-api` §1.4, `event-handlers` §4.5).
    ///
    /// # Errors
    /// When an entry breaks a rule.
    pub fn from_headers<'a>(
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Option<Self>, InvalidMetadata> {
        let mut entries: Vec<(String, &str)> = Vec::new();
        for (name, value) in headers {
            let Some((prefix, key)) = name.split_at_checked(HEADER_PREFIX.len()) else { continue };
            if prefix.eq_ignore_ascii_case(HEADER_PREFIX) {
                let value = std::str::from_utf8(value).map_err(|_| InvalidMetadata)?;
                let value = value.rsplit(',').next().unwrap_or_default().trim_ascii();
                let key = key.to_ascii_lowercase();
                match entries.iter_mut().find(|(known, _)| *known == key) {
                    Some(entry) => entry.1 = value,
                    None => entries.push((key, value)),
                }
            }
        }
        Self::new(entries)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Appends it as a JSON object, without spaces.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        for (at, (name, value)) in self.iter().enumerate() {
            out.push(if at == 0 { b'{' } else { b',' });
            write_string(out, name);
            out.push(b':');
            write_string(out, value);
        }
        out.push(b'}');
    }
}

struct Entries(Option<Metadata>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Entries, A::Error> {
                let mut fault = None;
                let read =
                    std::iter::from_fn(|| match entries.next_entry::<Cow<'de, str>, Cow<'de, str>>() {
                        Ok(entry) => entry,
                        Err(error) => {
                            fault = Some(error);
                            None
                        }
                    });
                let metadata = Metadata::new(read);
                match fault {
                    Some(error) => Err(error),
                    None => metadata.map(Entries).map_err(A::Error::custom),
                }
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A `tchar` of RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looking for a name among all before it took 8.5 million comparisons of such a message.
    #[cfg_attr(miri, ignore = "takes too long there")]
    #[test]
    fn as_many_names_as_fit_are_taken_and_each_once() {
        let name = |n: u32| format!("{}{}", char::from(b'a' + (n / 16 / 16) as u8), (n % 256));
        let mut names: Vec<String> = (0..26 * 256).map(name).filter(|name| name.len() < 4).collect();
        names.truncate(TOTAL_BYTES_MAX / 3);
        let entries = |names: &[String]| Metadata::new(names.iter().map(|name| (name.clone(), "")));
        assert_eq!(entries(&names).map(|all| all.unwrap().iter().count()), Ok(names.len()));
        assert!(names.len() > 2000);
        *names.last_mut().unwrap() = names[0].clone();
        assert_eq!(entries(&names), Err(InvalidMetadata));
    }

    #[test]
    fn names_and_values_have_rules() {
        let long =
            |name: usize, value: usize| format!("{{\"{}\":\"{}\"}}", "n".repeat(name), "v".repeat(value));
        let entries = |count: usize| {
            let entries: Vec<_> =
                (0..count).map(|i| format!("\"k{i:03}\":\"{}\"", "v".repeat(1020))).collect();
            format!("{{{}}}", entries.join(","))
        };
        for good in [r#"{"a":"1","A":"2"}"#, r#"{"!#$%&'*+-.^_`|~":""}"#, &long(256, 1024), &entries(8)] {
            let metadata = Metadata::from_json(good).expect(good).expect(good);
            let mut written = Vec::new();
            metadata.write_json(&mut written);
            assert_eq!(String::from_utf8(written).unwrap(), good);
        }
        assert_eq!(Metadata::from_json("{}"), Ok(None));
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
            assert_eq!(Metadata::from_json(bad), Err(InvalidMetadata), "{bad}");
        }
    }
}
