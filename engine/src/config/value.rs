//! The kinds of values a key can have: how each is read from a file or from typed text, and how it is shown.
//!
//! Messages end a sentence that starts with the key and never repeat the value, which may be secret.

use crate::net::Address;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use toml::de::DeValue;

/// A value as it came.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// From the environment or a flag.
    Text(&'a str),
    /// From a file.
    Toml(&'a DeValue<'a>),
}

impl<'a> Raw<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Toml(DeValue::String(text)) => Some(text),
            Self::Toml(_) => None,
        }
    }
}

/// A kind of value.
pub(crate) trait Setting: Sized {
    /// What the reference page calls it.
    fn kind(range: &RangeInclusive<u64>) -> String;
    /// Reads it; the error is what it must be.
    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String>;
    /// As a TOML value, secrets masked.
    fn show(&self) -> String;
}

impl Setting for u64 {
    fn kind(range: &RangeInclusive<u64>) -> String {
        format!("whole number from {} to {}", range.start(), range.end())
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        let number = match raw {
            Raw::Text(text) => text.parse().ok(),
            Raw::Toml(DeValue::Integer(number)) => {
                Self::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
            }
            Raw::Toml(_) => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be a {}", Self::kind(range)))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number nobody has to give.
impl Setting for Option<u64> {
    fn kind(range: &RangeInclusive<u64>) -> String {
        u64::kind(range)
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        u64::read(raw, range).map(Some)
    }

    fn show(&self) -> String {
        self.map_or_else(String::new, |number| number.to_string())
    }
}

impl Setting for bool {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "true or false".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        match raw {
            Raw::Toml(DeValue::Boolean(flag)) => Ok(*flag),
            Raw::Text("true") => Ok(true),
            Raw::Text("false") => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// One address or several, at most [`ADDRESSES_MAX`].
impl Setting for Vec<Address> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "address and port, IPv4 or IPv6, with or without `http://` or `https://` in front; or a list of them, \
         separated by commas in the environment and the flag"
            .into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let parsed: Option<Self> = match raw {
            Raw::Toml(DeValue::Array(items)) => {
                items.iter().map(|item| Address::parse(item.get_ref().as_str()?)).collect()
            }
            _ => raw
                .text()
                .and_then(|text| text.split(',').map(|address| Address::parse(address.trim())).collect()),
        };
        parsed.filter(|addresses| (1..=ADDRESSES_MAX).contains(&addresses.len())).ok_or_else(|| {
            "must be an address and port such as \"127.0.0.1:8080\", \"0.0.0.0:80\" or \
             \"https://[::1]:8443\", or a list"
                .into()
        })
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(|address| quoted(&address.short())).collect();
        if let [only] = items.as_slice() { only.clone() } else { format!("[{}]", items.join(", ")) }
    }
}

/// A file nobody has to name.
impl Setting for Option<PathBuf> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "path of a file".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        match raw.text() {
            Some(path) if !path.is_empty() => Ok(Some(path.into())),
            _ => Err("must be the path of a file".into()),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, |path| quoted(&path.display().to_string()))
    }
}

/// Most addresses of one listener; each is a socket on every core.
const ADDRESSES_MAX: usize = 16;

/// An externally visible base URL: scheme and authority, lower case, no slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// The URL.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_suffix('/').unwrap_or(&text);
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        (!authority.is_empty() && authority.bytes().all(legal)).then(|| Self(text.to_owned()))
    }
}

impl Setting for Vec<Endpoint> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "list of URLs; separated by commas in the environment".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let parsed: Option<Self> = match raw {
            Raw::Text(text) => {
                text.split(',').filter(|part| !part.trim().is_empty()).map(Endpoint::parse).collect()
            }
            Raw::Toml(DeValue::Array(items)) => {
                items.iter().map(|item| item.get_ref().as_str().and_then(Endpoint::parse)).collect()
            }
            Raw::Toml(_) => None,
        };
        parsed.ok_or_else(|| {
            "must be a list of URLs with scheme and host only, such as [\"https://pubsub.example.com\"]"
                .into()
        })
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(|endpoint| quoted(&endpoint.0)).collect();
        format!("[{}]", items.join(", "))
    }
}

/// An access key. Its UTF-8 bytes are the key as they are; nothing prints it by accident.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Box<str>);

impl Secret {
    /// Wraps a key; the error is what it must be. The rules keep it usable in a connection string.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let legal =
            text.len() >= 32 && text.trim() == text && !text.contains(|c: char| c == ';' || c.is_control());
        if legal {
            Ok(Self(text.into()))
        } else {
            Err("must be at least 32 bytes, without `;`, control characters or outer spaces".into())
        }
    }

    /// The key. Callers sign with it, or print it where a person asked for it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Setting for Option<Secret> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "text of at least 32 bytes".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let text = raw.text().ok_or_else(|| "must be text".to_owned())?;
        Secret::parse(text).map(Some)
    }

    fn show(&self) -> String {
        if self.is_some() { quoted("(set, not shown)") } else { String::new() }
    }
}

/// Text that means something to somebody else (the log filter).
impl Setting for String {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "text".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        raw.text().map(str::to_owned).ok_or_else(|| "must be text".into())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
