//! Payloads: a type, a form and bytes.
//!
//! A [`Data`] keeps its promise by construction: text is UTF-8, JSON is one JSON value other than `null`, a
//! token decodes. So a payload that was accepted can be written to any receiver without a way to fail.

use std::borrow::Cow;

use bytes::Bytes;

use super::escape;
use super::protobuf::is_any;

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
    /// The value of `dataType` (`client-protocols` §3.3).
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Binary => "binary",
            Self::Protobuf => "protobuf",
        }
    }

    /// Matches a value of `dataType` ignoring case: .NET clients write `Json` (§3.1).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Json, Self::Text, Self::Binary, Self::Protobuf]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// Matches a media type without parameters, ignoring case (`rest-api` §1.3, `event-handlers` §4.5).
    pub fn from_media_type(name: &str) -> Option<Self> {
        let known = [
            ("application/json", Self::Json),
            ("text/plain", Self::Text),
            ("application/octet-stream", Self::Binary),
            ("application/x-protobuf", Self::Protobuf),
        ];
        known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, data_type)| data_type)
    }

    /// Whether raw clients get it in a text frame (§3.10).
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Json)
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

/// Why bytes are not the payload they claim to be; a full sentence without the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidData {
    /// Not one JSON value.
    #[error("The data is not valid JSON.")]
    NotJson,
    /// Receivers cannot tell it from no data; .NET clients drop their connection over it (§3.3).
    #[error("JSON data must not be null.")]
    Null,
    /// Deeper than [`JSON_DEPTH_MAX`], the envelope counted.
    #[error("The JSON is nested more than 64 levels deep.")]
    TooDeep,
    /// Not a JSON string of Unicode text.
    #[error("Text data must be a JSON string of valid Unicode.")]
    NotText,
    /// Not base64 in a JSON string.
    #[error("Binary data must be a JSON string of padded standard base64.")]
    NotBase64,
}

/// Deepest nesting of arrays and objects in a message, its envelope counted: what .NET clients can read.
pub const JSON_DEPTH_MAX: usize = 64;

impl<'a> Data<'a> {
    /// Text as it is.
    pub fn text(text: &'a str) -> Self {
        Self { data_type: DataType::Text, form: Form::Plain, bytes: text.as_bytes() }
    }

    /// Bytes as they are.
    pub fn binary(bytes: &'a [u8]) -> Self {
        Self { data_type: DataType::Binary, form: Form::Plain, bytes }
    }

    /// A serialised `Any`, if receivers can read the bytes as one; what is in it is between the clients.
    pub fn any(bytes: &'a [u8]) -> Option<Self> {
        is_any(bytes).then(|| Self::protobuf(bytes))
    }

    /// What is meant to be a serialised `Any`. Protobuf receivers get it as plain bytes if it is none.
    pub fn protobuf(bytes: &'a [u8]) -> Self {
        Self { data_type: DataType::Protobuf, form: Form::Plain, bytes }
    }

    /// A JSON text, checked: one value, not `null`, at most [`JSON_DEPTH_MAX`] less the envelope deep. Its
    /// bytes are kept as they came.
    pub fn json(text: &'a str) -> Result<Self, InvalidData> {
        if is_deeper_than(text.as_bytes(), JSON_DEPTH_MAX - 1) {
            return Err(InvalidData::TooDeep);
        }
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| InvalidData::NotJson)?;
        Self::json_value(text)
    }

    /// JSON that a parser has just skipped: known to be one value of legal depth.
    pub(super) fn json_value(text: &'a str) -> Result<Self, InvalidData> {
        if text.trim_ascii() == "null" {
            return Err(InvalidData::Null);
        }
        Ok(Self { data_type: DataType::Json, form: Form::Plain, bytes: text.as_bytes() })
    }

    /// The value of a `data` property, as the raw text of its token.
    ///
    /// Text must decode to Unicode (a lone surrogate does not), binary and protobuf must be padded standard
    /// base64; escapes inside the base64 are fine, some JSON writers escape `/` and `+`.
    pub fn from_json_token(data_type: DataType, token: &'a str) -> Result<Self, InvalidData> {
        let ok = match data_type {
            DataType::Json => return Self::json(token),
            DataType::Text => escape::decodes(token),
            DataType::Binary | DataType::Protobuf => escape::unescape(token)
                .is_some_and(|base64| base64_simd::STANDARD.check(base64.as_bytes()).is_ok()),
        };
        match (ok, data_type) {
            (true, _) => Ok(Self { data_type, form: Form::Token, bytes: token.as_bytes() }),
            (false, DataType::Text) => Err(InvalidData::NotText),
            (false, _) => Err(InvalidData::NotBase64),
        }
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
        debug_assert!(!(data_type == DataType::Json && form == Form::Token), "JSON is never a string token");
        Self { data_type, form, bytes }
    }

    /// The payload as raw clients get it: text and JSON as text, the others as bytes; decoded if it is a token.
    /// Borrows unless something has to be decoded.
    pub fn plain(&self) -> Cow<'a, [u8]> {
        if self.form == Form::Plain {
            return Cow::Borrowed(self.bytes);
        }
        let decoded =
            std::str::from_utf8(self.bytes).ok().and_then(escape::unescape).and_then(|text| {
                match (self.data_type, text) {
                    (DataType::Binary | DataType::Protobuf, base64) => {
                        base64_simd::STANDARD.decode_to_vec(base64.as_bytes()).ok().map(Cow::Owned)
                    }
                    (_, Cow::Borrowed(text)) => Some(Cow::Borrowed(text.as_bytes())),
                    (_, Cow::Owned(text)) => Some(Cow::Owned(text.into_bytes())),
                }
            });
        debug_assert!(decoded.is_some(), "a token is known to decode");
        decoded.unwrap_or(Cow::Borrowed(self.bytes))
    }

    /// [`plain`](Self::plain) to keep: one copy, made by decoding if something has to be decoded.
    pub fn to_plain_bytes(&self) -> Bytes {
        match self.plain() {
            Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Cow::Owned(decoded) => decoded.into(),
        }
    }

    /// Appends the payload as the value of a JSON property (§3.3, §3.10).
    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        match (self.data_type, self.form) {
            (DataType::Json, _) | (_, Form::Token) => out.extend_from_slice(self.bytes),
            (DataType::Text, Form::Plain) => {
                // Lossy only for bytes that no constructor lets in.
                escape::write_string(out, &String::from_utf8_lossy(self.bytes));
            }
            (DataType::Binary | DataType::Protobuf, Form::Plain) => {
                out.push(b'"');
                base64_simd::STANDARD.encode_append(self.bytes, out);
                out.push(b'"');
            }
        }
    }
}

/// Whether arrays and objects in `json` nest more than `depth` deep. Exact for valid JSON; any answer does for
/// text that the parser will refuse anyway.
pub(crate) fn is_deeper_than(json: &[u8], depth: usize) -> bool {
    // Hardly any message has so many brackets at all, and counting runs at vector speed.
    let mut brackets = 0;
    for block in json.chunks(128) {
        brackets += usize::from(block.iter().map(|&b| u8::from((b == b'[') | (b == b'{'))).sum::<u8>());
    }
    brackets > depth && nests_deeper_than(json, depth)
}

fn nests_deeper_than(json: &[u8], depth: usize) -> bool {
    let mut open = 0usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                open += 1;
                if open > depth {
                    return true;
                }
            }
            b']' | b'}' => open = open.saturating_sub(1),
            // Brackets in a string are text.
            b'"' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_payloads_are_borrowed_as_they_are() {
        for data in [
            Data::text("a\"b"),
            Data::binary(b"\x00\xff"),
            Data::protobuf(b"\x0a"),
            Data::json("{ \"a\" : 1.0 }").unwrap(),
        ] {
            assert_eq!(data.form(), Form::Plain);
            assert!(matches!(data.plain(), Cow::Borrowed(bytes) if bytes == data.bytes()));
            assert_eq!(data.to_plain_bytes(), data.bytes());
        }
    }

    #[test]
    fn text_tokens_decode() {
        let token = Data::from_json_token(DataType::Text, "\"hi ä\"").unwrap();
        assert_eq!((token.form(), token.bytes()), (Form::Token, "\"hi ä\"".as_bytes()));
        assert!(matches!(token.plain(), Cow::Borrowed(b"hi \xc3\xa4")));
        let token = Data::from_json_token(DataType::Text, r#""a\n\ud83d\ude00""#).unwrap();
        assert_eq!(&*token.plain(), "a\n😀".as_bytes());
        assert_eq!(token.to_plain_bytes(), "a\n😀");
        for bad in ["1", "null", "{}", "\"", "\"a\"b", r#""\ud83d""#] {
            assert_eq!(Data::from_json_token(DataType::Text, bad), Err(InvalidData::NotText), "{bad}");
        }
    }

    #[test]
    fn binary_tokens_are_padded_standard_base64() {
        for (token, bytes) in [
            ("\"\"", &b""[..]),
            ("\"AQID\"", &[1, 2, 3]),
            ("\"AQ==\"", &[1]),
            ("\"//8=\"", &[255, 255]),
            // PHP and .NET write these.
            (r#""\/\/8=""#, &[255, 255]),
            (r#""\u002B\u002b8=""#, &[0xfb, 0xef]),
        ] {
            for data_type in [DataType::Binary, DataType::Protobuf] {
                let data = Data::from_json_token(data_type, token).unwrap();
                assert_eq!((&*data.plain(), &*data.to_plain_bytes()), (bytes, bytes), "{token}");
            }
        }
        for bad in [
            "\"AQ\"",
            "\"AQ=\"",
            "\"A\"",
            "\"__8=\"",
            "\"AQ==AQ==\"",
            "\"AQ ==\"",
            "\"ä\"",
            "1",
            "[1]",
            "null",
        ] {
            assert_eq!(Data::from_json_token(DataType::Binary, bad), Err(InvalidData::NotBase64), "{bad}");
        }
    }

    #[test]
    fn json_is_one_value_but_not_null() {
        for good in ["1", "\"a\"", "[]", " {\"a\":[null]} \n", "-0.0e+5", "true", "\"\\ud800\""] {
            assert_eq!(Data::json(good).unwrap().bytes(), good.as_bytes());
        }
        for bad in ["", "{", "1 2", "01", "[1,]", "{'a':1}", "NaN", "\u{feff}1", "nul"] {
            assert_eq!(Data::json(bad), Err(InvalidData::NotJson), "{bad}");
        }
        assert_eq!(Data::json(" null"), Err(InvalidData::Null));
    }

    #[cfg_attr(miri, ignore = "takes too long there")]
    #[test]
    fn depth_counts_nesting_not_brackets() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Data::json(&nested(63)).is_ok());
        assert_eq!(Data::json(&nested(64)), Err(InvalidData::TooDeep));
        assert_eq!(Data::json(&"[".repeat(100_000)), Err(InvalidData::TooDeep));
        let wide = format!("[{}1]", "[],{},".repeat(500));
        assert!(Data::json(&wide).is_ok());
        let quoted = format!("\"{}\\\"{}\"", "[".repeat(100), "{".repeat(100));
        assert!(Data::json(&quoted).is_ok());
    }

    proptest! {
        #[test]
        fn base64_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut token = Vec::new();
            Data::binary(&bytes).write_json(&mut token);
            let token = String::from_utf8(token).unwrap();
            let data = Data::from_json_token(DataType::Binary, &token).unwrap();
            prop_assert_eq!(&*data.plain(), &bytes[..]);
        }

        #[test]
        fn what_is_accepted_as_base64_decodes(inside in "[A-Za-z0-9+/=]{0,12}") {
            let token = format!("\"{inside}\"");
            let accepted = Data::from_json_token(DataType::Binary, &token).is_ok();
            prop_assert_eq!(accepted, base64_simd::STANDARD.decode_to_vec(&inside).is_ok());
        }
    }
}
