//! The kinds of values a key can have: how each is read from a file or from typed text, and how it is shown.
//!
//! Messages end a sentence that starts with the key and never repeat the value, which may be secret.

mod events;

pub(crate) use events::PresenceEvents;

use crate::net::Address;
use ipnet::IpNet;
use ringhub_protocol::origin::OriginPattern;
use ringhub_protocol::uri::without_port;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use toml::de::DeValue;

/// Finds a variable of the environment.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value as it came, and where variables that it names are found.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a> {
    form: Form<'a>,
    pub(super) environment: Environment<'a>,
}

/// What it came as.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// From the environment or a flag.
    Text(&'a str),
    /// From a file.
    Toml(&'a DeValue<'a>),
}

impl<'a> Raw<'a> {
    /// A variable or a flag.
    pub(super) fn typed(text: &'a str, environment: Environment<'a>) -> Self {
        Self { form: Form::Text(text), environment }
    }

    /// A value of a file.
    pub(super) fn of_file(value: &'a DeValue<'a>, environment: Environment<'a>) -> Self {
        Self { form: Form::Toml(value), environment }
    }

    /// It, if it is text.
    pub(super) fn text(self) -> Option<&'a str> {
        match self.form {
            Form::Text(text) => Some(text),
            Form::Toml(DeValue::String(text)) => Some(text),
            Form::Toml(_) => None,
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
    /// The same with secrets as they are, to be compared and never shown.
    fn reveal(&self) -> String {
        self.show()
    }
    /// The files it names that a change of is a change of the configuration.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

impl Setting for u64 {
    fn kind(range: &RangeInclusive<u64>) -> String {
        format!("whole number from {} to {}", range.start(), range.end())
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        let number = match raw.form {
            Form::Text(text) => text.parse().ok(),
            Form::Toml(DeValue::Integer(number)) => {
                Self::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
            }
            Form::Toml(_) => None,
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
        match raw.form {
            Form::Toml(DeValue::Boolean(flag)) => Ok(*flag),
            Form::Text("true") => Ok(true),
            Form::Text("false") => Ok(false),
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
        let parsed: Option<Self> = match raw.form {
            Form::Toml(DeValue::Array(items)) => {
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

/// Most addresses of one listener; each is a socket on every core.
const ADDRESSES_MAX: usize = 16;

/// An externally visible base URL: scheme and authority in lower case, perhaps a path, no slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// The URL.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Its host, without a port.
    pub(crate) fn host(&self) -> &str {
        let (_, rest) = self.0.split_once("://").expect("it was parsed");
        without_port(rest.split('/').next().unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (scheme, authority) = (scheme.to_ascii_lowercase(), authority.to_ascii_lowercase());
        let path = path.strip_suffix('/').unwrap_or(path);
        let in_authority = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_~%".contains(&byte);
        let legal = matches!(scheme.as_str(), "http" | "https")
            && !authority.is_empty()
            && authority.bytes().all(in_authority)
            && path.bytes().all(in_path);
        legal.then(|| Self(format!("{scheme}://{authority}{path}")))
    }
}

impl Setting for Vec<Endpoint> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "list of URLs; separated by commas in the environment".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        list(raw, Endpoint::parse).ok_or_else(|| {
            "must be a list of URLs without query, such as [\"https://pubsub.example.com\"]".into()
        })
    }

    fn show(&self) -> String {
        show_list(self.iter().map(Endpoint::as_str))
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

    fn reveal(&self) -> String {
        self.as_ref().map_or_else(String::new, |secret| secret.expose().to_owned())
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

/// Text nobody has to give; the range is its length in bytes.
impl Setting for Option<String> {
    fn kind(range: &RangeInclusive<u64>) -> String {
        if *range.end() == u64::MAX {
            "text".into()
        } else {
            format!("text of {} to {} bytes", range.start(), range.end())
        }
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        let text = raw.text().filter(|text| range.contains(&(text.len() as u64)));
        text.map(|text| Some(text.to_owned())).ok_or_else(|| format!("must be {}", Self::kind(range)))
    }

    fn show(&self) -> String {
        self.as_deref().map_or_else(String::new, quoted)
    }
}

/// Several texts; the range is how many.
impl Setting for Vec<String> {
    fn kind(range: &RangeInclusive<u64>) -> String {
        let most =
            if *range.end() == u64::MAX { String::new() } else { format!(" of at most {}", range.end()) };
        format!("list of texts{most}; separated by commas in the environment")
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        let listed = list(raw, |text| Some(text.to_owned()));
        listed
            .filter(|texts| range.contains(&(texts.len() as u64)))
            .ok_or_else(|| format!("must be a {}", Self::kind(range)))
    }

    fn show(&self) -> String {
        show_list(self.iter().map(String::as_str))
    }
}

/// A file nobody has to name. A path that is not absolute starts where the server was started.
impl Setting for Option<PathBuf> {
    fn kind(_: &RangeInclusive<u64>) -> String {
        "path of a file".into()
    }

    fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
        let text = raw.text().filter(|text| !text.is_empty());
        text.map(|text| Some(PathBuf::from(text))).ok_or_else(|| "must be the path of a file".into())
    }

    fn show(&self) -> String {
        self.as_deref().map_or_else(String::new, |path| quoted(&path.to_string_lossy()))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.iter().cloned().collect()
    }
}

/// Networks; the range is how many.
impl Setting for Vec<IpNet> {
    fn kind(range: &RangeInclusive<u64>) -> String {
        format!(
            "list of at most {} networks or addresses; separated by commas in the environment",
            range.end()
        )
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        let network = |text: &str| {
            let of_one = || Some(IpNet::from(text.parse::<IpAddr>().ok()?));
            text.parse().ok().or_else(of_one)
        };
        list(raw, network).filter(|networks| range.contains(&(networks.len() as u64))).ok_or_else(|| {
            format!("must be a list of at most {} networks, such as [\"10.0.0.0/8\", \"::1\"]", range.end())
        })
    }

    fn show(&self) -> String {
        let texts: Vec<String> = self.iter().map(ToString::to_string).collect();
        show_list(texts.iter().map(String::as_str))
    }
}

/// Origins; the range is how many.
impl Setting for Vec<OriginPattern> {
    fn kind(range: &RangeInclusive<u64>) -> String {
        format!("list of at most {} origins", range.end())
    }

    fn read(raw: Raw<'_>, range: &RangeInclusive<u64>) -> Result<Self, String> {
        list(raw, OriginPattern::parse).filter(|origins| range.contains(&(origins.len() as u64))).ok_or_else(|| {
            format!(
                "must be a list of at most {} origins, scheme and host only, such as [\"https://app.example.com\"]",
                range.end()
            )
        })
    }

    fn show(&self) -> String {
        let texts: Vec<String> = self.iter().map(ToString::to_string).collect();
        show_list(texts.iter().map(String::as_str))
    }
}

/// Each element of a list, or each part between commas of a text.
pub(super) fn list<T>(raw: Raw<'_>, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    match raw.form {
        Form::Text(text) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(parse).collect()
        }
        Form::Toml(DeValue::Array(items)) => {
            items.iter().map(|item| item.get_ref().as_str().and_then(&parse)).collect()
        }
        Form::Toml(_) => None,
    }
}

pub(super) fn show_list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<String> = texts.map(quoted).collect();
    format!("[{}]", items.join(", "))
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("https://Pubsub.Example.com/", Some("https://pubsub.example.com")),
            ("HTTP://h:8080", Some("http://h:8080")),
            (" https://[::1]:8443 ", Some("https://[::1]:8443")),
            ("https://gateway/Base/v1/", Some("https://gateway/Base/v1")),
            ("https://gateway/a%20b", Some("https://gateway/a%20b")),
            ("https://", None),
            ("https:///x", None),
            ("wss://h", None),
            ("h", None),
            ("https://h?x=1", None),
            ("https://h/#x", None),
            ("https://user@h", None),
            ("https://h/a b", None),
        ] {
            assert_eq!(Endpoint::parse(text).as_ref().map(Endpoint::as_str), expected, "{text}");
        }
    }
}
