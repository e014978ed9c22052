//! Percent-decoding of request targets (RFC 3986 §2.1), once and strictly.
//!
//! Two things must stay true: a value is decoded exactly once (a name that reads `%2F` after decoding
//! stays those three characters), and an escape that cannot be decoded is an answer (400), never text
//! passed on as it came. `+` is an ordinary character everywhere, in queries too: the service's clients
//! write a space as `%20`, and access tokens in queries may hold none.

use std::borrow::Cow;

/// `text` with every `%XX` replaced by its byte.
///
/// `None` when an escape is cut short, is not two hexadecimal digits, or when the result is not UTF-8.
/// Borrows when there is nothing to replace.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let bytes = text.as_bytes();
    let Some(first) = bytes.iter().position(|&byte| byte == b'%') else {
        return Some(Cow::Borrowed(text));
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = tail;
            continue;
        }
        let (&[high, low], tail) = tail.split_first_chunk()?;
        decoded.push(hex_digit(high)? << 4 | hex_digit(low)?);
        rest = tail;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The `name=value` pairs of a query (what follows `?`, without it), in order, both sides decoded once.
///
/// An empty piece (`a=1&&b=2`) is passed over; a name without `=` has the value `""`. An item is
/// [`BadEscape`] when either side does not decode; the pairs after it can still be read.
pub fn query_pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), BadEscape>> {
    query.split('&').filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        Ok((percent_decode(name).ok_or(BadEscape)?, percent_decode(value).ok_or(BadEscape)?))
    })
}

/// A query pair holds an escape that is not `%` and two hexadecimal digits, or that does not decode to
/// UTF-8. For the caller of the server: answer 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed percent-encoding in the query")]
pub struct BadEscape;

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The host of an authority or of a `Host` header; an IPv6 address keeps its brackets (RFC 3986 §3.2).
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Result<Vec<(String, String)>, BadEscape> {
        query_pairs(query).map(|pair| pair.map(|(n, v)| (n.into_owned(), v.into_owned()))).collect()
    }

    #[test]
    fn decodes_once() {
        for (text, expected) in [
            ("", ""),
            ("chat", "chat"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("%2f%2F", "//"),
            ("%252F", "%2F"),
            ("%C3%A4", "ä"),
            ("%00", "\0"),
        ] {
            assert_eq!(percent_decode(text).as_deref(), Some(expected), "{text}");
        }
        assert!(matches!(percent_decode("plain"), Some(Cow::Borrowed("plain"))));
    }

    #[test]
    fn refuses_what_does_not_decode() {
        for text in ["%", "%2", "a%", "%zz", "%+1", "%2\u{e4}", "%ff", "%C3", "%ED%A0%80", "%C0%80"] {
            assert_eq!(percent_decode(text), None, "{text}");
        }
    }

    #[test]
    fn splits_a_query() {
        let expected = [("hub", "chat"), ("group", "a/b"), ("group", "c+d"), ("flag", ""), ("eq", "a=b")];
        let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        assert_eq!(pairs("hub=chat&group=a%2Fb&&group=c+d&flag&eq=a=b&"), Ok(expected));
        assert_eq!(pairs(""), Ok(vec![]));
        assert_eq!(pairs("a%26b=1"), Ok(vec![("a&b".to_owned(), "1".to_owned())]));
        assert_eq!(pairs("a=%"), Err(BadEscape));
        assert_eq!(query_pairs("a=%&b=1").filter(Result::is_ok).count(), 1);
    }

    #[test]
    fn a_host_loses_its_port_only() {
        for (authority, host) in [
            ("example.com", "example.com"),
            ("example.com:8080", "example.com"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }
}
