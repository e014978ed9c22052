//! The body of a send: media type → payload type, bytes → payload (`rest-api` §1.4).

use std::borrow::Cow;

use super::error::{ErrorBody, ErrorCode};
use super::route::RouteError;
use crate::pubsub::{Data, DataType, Form, InvalidData, InvalidMetadata, Metadata};

/// How the characters of a text body are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8, and so US-ASCII.
    Utf8,
    /// ISO-8859-1.
    Latin1,
    /// UTF-16; a byte order mark decides, big-endian without one (RFC 2781 §4.3).
    Utf16,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
}

/// A body as a payload; owned if it had another charset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'a> {
    data_type: DataType,
    bytes: Cow<'a, [u8]>,
}

impl Payload<'_> {
    /// The payload to send.
    pub fn data(&self) -> Data<'_> {
        Data::from_parts(self.data_type, Form::Plain, &self.bytes)
    }
}

/// What a `Content-Type` makes of a body: absent or empty is binary; 415 for a type or charset that is not known.
pub fn payload_type(content_type: Option<&str>) -> Result<(DataType, Charset), RouteError> {
    let content_type = content_type.unwrap_or_default().trim();
    if content_type.is_empty() {
        return Ok((DataType::Binary, Charset::Utf8));
    }
    let mut parts = content_type.split(';');
    let media_type = parts.next().unwrap_or_default().trim();
    let Some(data_type) = DataType::from_media_type(media_type) else {
        return Err(unsupported(
            "Content-Type must be application/json, text/plain, application/octet-stream or application/x-protobuf.",
        ));
    };
    let charset = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"'));
    let charset = match charset {
        // Bytes have no characters, whatever the header says.
        _ if !data_type.is_text() => Charset::Utf8,
        None | Some("") => Charset::Utf8,
        Some(name) => charset_from_name(name)
            .ok_or_else(|| unsupported("The charset must be utf-8, us-ascii, iso-8859-1 or utf-16."))?,
    };
    Ok((data_type, charset))
}

/// The payload in a body. 400 for JSON that does not parse, is `null` or nests too deep, for text that is not in its charset, and for
/// protobuf that is no `Any`.
pub fn payload(data_type: DataType, charset: Charset, body: &[u8]) -> Result<Payload<'_>, RouteError> {
    if data_type == DataType::Protobuf {
        let fault = || bad_body("The request body is not a serialised google.protobuf.Any.");
        Data::any(body).ok_or_else(fault)?;
    }
    if !data_type.is_text() {
        return Ok(Payload { data_type, bytes: Cow::Borrowed(body) });
    }
    let text = decode(charset, body).ok_or_else(|| {
        bad_body("The request body is not valid in its charset, which is UTF-8 unless named.")
    })?;
    if data_type == DataType::Json {
        Data::json(&text).map_err(|invalid| match invalid {
            // .NET clients drop their connection over these two (`client-protocols` §3.3).
            InvalidData::Null => bad_body("The request body must not be JSON null."),
            InvalidData::TooDeep => {
                bad_body("The JSON of the request body is nested more than 63 levels deep.")
            }
            _ => bad_body("The request body is not a valid JSON."),
        })?;
    }
    let bytes = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Ok(Payload { data_type, bytes })
}

/// The metadata in a request's headers (§1.4).
///
/// # Errors
/// 400 for a value that is not ASCII, and for metadata over its bounds.
pub fn metadata<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Option<Metadata>, RouteError> {
    Metadata::from_headers(headers).map_err(bad_metadata)
}

fn bad_metadata(error: InvalidMetadata) -> RouteError {
    ErrorBody::bad_parameter("X-WebPubSub-Metadata", error.to_string()).into()
}

fn charset_from_name(name: &str) -> Option<Charset> {
    let known = [
        ("utf-8", Charset::Utf8),
        ("utf8", Charset::Utf8),
        ("us-ascii", Charset::Utf8),
        ("iso-8859-1", Charset::Latin1),
        ("latin1", Charset::Latin1),
        ("utf-16", Charset::Utf16),
        ("utf-16le", Charset::Utf16Le),
        ("utf-16be", Charset::Utf16Be),
    ];
    known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, charset)| charset)
}

fn decode(charset: Charset, body: &[u8]) -> Option<Cow<'_, str>> {
    let utf16 = |body: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = body.as_chunks::<2>();
        let units = pairs.iter().map(|&pair| unit(pair));
        let text = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
        rest.is_empty().then_some(Cow::Owned(text))
    };
    match charset {
        Charset::Utf8 => simdutf8::basic::from_utf8(body).ok().map(Cow::Borrowed),
        Charset::Latin1 if body.is_ascii() => std::str::from_utf8(body).ok().map(Cow::Borrowed),
        Charset::Latin1 => Some(Cow::Owned(body.iter().copied().map(char::from).collect())),
        Charset::Utf16 => match body {
            [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
            [0xfe, 0xff, rest @ ..] | rest => utf16(rest, u16::from_be_bytes),
        },
        Charset::Utf16Le => utf16(body, u16::from_le_bytes),
        Charset::Utf16Be => utf16(body, u16::from_be_bytes),
    }
}

pub(super) fn unsupported(message: &'static str) -> RouteError {
    let mut body = ErrorBody::new(ErrorCode::UnsupportedMediaType, message);
    body.target = Some("Content-Type");
    body.into()
}

fn bad_body(message: &'static str) -> RouteError {
    ErrorBody::new(ErrorCode::BadRequest, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        use Charset::{Latin1, Utf8, Utf16Le};
        use DataType::{Binary, Json, Protobuf, Text};
        for (content_type, expected) in [
            (None, (Binary, Utf8)),
            (Some(" "), (Binary, Utf8)),
            (Some("application/json"), (Json, Utf8)),
            (Some("Application/JSON; Charset=UTF-8"), (Json, Utf8)),
            (Some("text/plain;charset=\"iso-8859-1\""), (Text, Latin1)),
            (Some("text/plain; format=flowed; charset=utf-16LE"), (Text, Utf16Le)),
            (Some("application/octet-stream; charset=koi8-r"), (Binary, Utf8)),
            (Some("application/x-protobuf; charset=koi8-r"), (Protobuf, Utf8)),
        ] {
            assert_eq!(payload_type(content_type), Ok(expected), "{content_type:?}");
        }
        for content_type in ["application/protobuf", "text/html", "json", ";", "text/plain; charset=koi8-r"] {
            assert_eq!(payload_type(Some(content_type)).unwrap_err().status(), 415, "{content_type}");
        }
    }

    #[test]
    fn metadata_comes_in_headers() {
        let read = |headers: &[(&'static str, &'static str)]| {
            let found = metadata(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
            found.map(|found| {
                let found = found.iter().flat_map(Metadata::iter);
                found.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
            })
        };
        let headers = [
            ("host", "h"),
            ("x-webpubsub-metadata-a", "1"),
            ("X-WebPubSub-Metadata-B", "x, y ,  z "),
            ("x-webpubsub-metadata-A", "2"),
            ("x-webpubsub-metadat", "no"),
            ("x-webpubsub-metadata-c", ""),
        ];
        assert_eq!(read(&headers).unwrap(), ["a=2", "b=z", "c="]);
        assert!(read(&[("host", "h")]).unwrap().is_empty());
        for bad in [("x-webpubsub-metadata-", "1"), ("x-webpubsub-metadata-a", "ä")] {
            assert_eq!(read(&[bad]).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn bodies_are_checked_and_kept() {
        for (data_type, charset, body, expected) in [
            (DataType::Binary, Charset::Utf8, &b"\xff"[..], Some(&b"\xff"[..])),
            (DataType::Protobuf, Charset::Utf8, b"\x0a\x01t", Some(b"\x0a\x01t")),
            (DataType::Protobuf, Charset::Utf8, b"\x0a\x02t", None),
            (DataType::Text, Charset::Utf8, b"", Some(b"")),
            (DataType::Text, Charset::Utf8, b"\xc3\xa4", Some(b"\xc3\xa4")),
            (DataType::Text, Charset::Utf8, b"\xe4", None),
            (DataType::Text, Charset::Latin1, b"\xe4", Some(b"\xc3\xa4")),
            (DataType::Text, Charset::Utf16, b"\xff\xfea\0", Some(b"a")),
            (DataType::Text, Charset::Utf16, b"\xfe\xff\0a", Some(b"a")),
            (DataType::Text, Charset::Utf16Be, b"\xd8\x3d\xde\x00", Some("😀".as_bytes())),
            (DataType::Text, Charset::Utf16Be, b"\xd8\x3d", None),
            (DataType::Text, Charset::Utf16Le, b"a\0b", None),
            (DataType::Json, Charset::Utf8, b" {\"a\": 1.0}\n", Some(b" {\"a\": 1.0}\n")),
            (DataType::Json, Charset::Utf16Le, b"1\0", Some(b"1")),
            (DataType::Json, Charset::Utf8, b"", None),
            (DataType::Json, Charset::Utf8, b"{a:1}", None),
            (DataType::Json, Charset::Utf8, b"null", None),
            (DataType::Json, Charset::Utf8, b"\"\xff\"", None),
        ] {
            let payload = payload(data_type, charset, body);
            match expected {
                Some(bytes) => {
                    let payload = payload.unwrap();
                    assert_eq!((payload.data().data_type(), payload.data().bytes()), (data_type, bytes));
                }
                None => assert_eq!(payload.unwrap_err().status(), 400, "{body:?}"),
            }
        }
        assert_eq!(payload(DataType::Json, Charset::Utf8, &b"[".repeat(100_000)).unwrap_err().status(), 400);
    }

    /// What a client may not publish, because .NET clients cannot read it, was taken from REST.
    #[test]
    fn json_nests_no_deeper_than_a_client_s() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let read = |text: &str| payload(DataType::Json, Charset::Utf8, text.as_bytes()).map(|_| ());
        assert_eq!(read(&nested(63)), Ok(()));
        for deep in [nested(64), nested(200_000)] {
            let error = read(&deep).unwrap_err();
            assert_eq!(error.status(), 400);
            assert!(error.body.message.contains("63 levels"), "{}", error.body.message);
        }
    }
}
