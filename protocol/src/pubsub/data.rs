//! Payloads: a type, a form and bytes (`client-protocols` §3.10).

use std::borrow::Cow;

/// What a payload is to the people at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// UTF-8 text.
    Text,
    /// A JSON value.
    Json,
    /// Bytes.
    Binary,
    /// A serialised `google.protobuf.Any`.
    Protobuf,
}

impl DataType {
    /// The value of `dataType`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Binary => "binary",
            Self::Protobuf => "protobuf",
        }
    }

    /// Reads a `dataType`, ignoring case (.NET sends enum names).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Json, Self::Text, Self::Binary, Self::Protobuf]
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
    }
}

/// How the bytes of a [`Data`] are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As they are: UTF-8 for text, the JSON text for JSON, bytes for the others.
    Plain,
    /// As a JSON string token, quotes included: escaped text, or base64 for binary and protobuf. JSON is
    /// never in this form. A token is known to decode.
    Token,
}

/// One payload, borrowed. The constructors check what [`Form`] promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    data_type: DataType,
    form: Form,
    bytes: &'a [u8],
}

impl<'a> Data<'a> {
    /// Text as it is.
    pub fn text(text: &'a str) -> Self {
        Self { data_type: DataType::Text, form: Form::Plain, bytes: text.as_bytes() }
    }

    /// Bytes as they are.
    pub fn binary(bytes: &'a [u8]) -> Self {
        Self { data_type: DataType::Binary, form: Form::Plain, bytes }
    }

    /// JSON as it is, except that `null` alone is no payload (clients cannot read it); `None` for text that
    /// is not one JSON value.
    pub fn json(text: &'a str) -> Option<Self> {
        let value: &serde_json::value::RawValue = serde_json::from_str(text).ok()?;
        Some(Self::from_json_value(value.get()))
    }

    /// A JSON value that a JSON parser has found.
    pub(super) fn from_json_value(text: &'a str) -> Self {
        Self { data_type: DataType::Json, form: Form::Plain, bytes: text.as_bytes() }
    }

    /// A JSON string token (found by a JSON parser, quotes included) as text, or as base64 of the others.
    /// `None` if it does not decode: a lone surrogate in text, base64 that is not standard and padded.
    pub(super) fn from_token(data_type: DataType, token: &'a str) -> Option<Self> {
        let data = Self { data_type, form: Form::Token, bytes: token.as_bytes() };
        let inside = token.strip_prefix('"')?.strip_suffix('"')?;
        let decodes = match data_type {
            DataType::Json => false,
            // Without an escape the token is its text.
            DataType::Text => !inside.contains('\\') || serde_json::from_str::<String>(token).is_ok(),
            DataType::Binary | DataType::Protobuf => {
                let inside = unescape(token)?;
                base64_simd::STANDARD.check(inside.as_bytes()).is_ok()
            }
        };
        decodes.then_some(data)
    }

    /// What it is.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// How it is written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The bytes in that form.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Rebuilds a payload from the parts another [`Data`] had (a payload that crossed between cores).
    pub fn from_parts(data_type: DataType, form: Form, bytes: &'a [u8]) -> Self {
        Self { data_type, form, bytes }
    }

    /// The payload as raw clients get it: text and JSON as text, the others as bytes; decoded if it is a token.
    pub fn plain(&self) -> Cow<'a, [u8]> {
        if self.form == Form::Plain {
            return Cow::Borrowed(self.bytes);
        }
        // A token was checked when it was made; if a caller of `from_parts` lied, nothing is delivered.
        let text = std::str::from_utf8(self.bytes).ok().and_then(unescape).unwrap_or_default();
        match (self.data_type, text) {
            (DataType::Binary | DataType::Protobuf, text) => {
                base64_simd::STANDARD.decode_to_vec(text.as_bytes()).unwrap_or_default().into()
            }
            (_, Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            (_, Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        }
    }
}

/// The text of a JSON string token.
fn unescape(token: &str) -> Option<Cow<'_, str>> {
    let inside = token.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str::<String>(token).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_decode_to_what_raw_clients_get() {
        for (data_type, token, plain) in [
            (DataType::Text, r#""plain""#, &b"plain"[..]),
            (DataType::Text, r#""a\n\u00e4\ud83d\ude00""#, "a\n\u{e4}\u{1f600}".as_bytes()),
            (DataType::Text, r#""""#, b""),
            (DataType::Binary, r#""AQID""#, &[1, 2, 3]),
            (DataType::Binary, r#""\u0041Q=\u003d""#, &[1]),
            (DataType::Protobuf, r#""""#, &[]),
        ] {
            assert_eq!(*Data::from_token(data_type, token).expect(token).plain(), *plain, "{token}");
        }
    }

    #[test]
    fn tokens_that_do_not_decode_are_refused() {
        for (data_type, token) in [
            (DataType::Text, r#""\ud800""#),
            (DataType::Text, r#""\ud800\u0041""#),
            (DataType::Text, "7"),
            (DataType::Binary, r#""AQI""#),
            (DataType::Binary, r#""AQ-D""#),
            (DataType::Binary, r#""A Q=""#),
            (DataType::Protobuf, "null"),
        ] {
            assert_eq!(Data::from_token(data_type, token), None, "{token}");
        }
    }

    #[test]
    fn json_is_one_value() {
        assert_eq!(Data::json(" {\"a\": 1e999} ").unwrap().bytes(), b"{\"a\": 1e999}");
        assert!(Data::json("{} x").is_none() && Data::json("").is_none() && Data::json("{'a':1}").is_none());
    }
}
