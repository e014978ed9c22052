//! JSON string tokens: text → token and back (RFC 8259 §7).
//!
//! A token that [`decodes`] accepts is a whole JSON string, quotes included, whose text is Unicode: a lone
//! surrogate escape has no UTF-8 and is refused. [`unescape`] succeeds on exactly those tokens.

use std::borrow::Cow;

/// Appends `text` as a JSON string token. Only what must be escaped is.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let run = plain_run(rest);
        out.extend_from_slice(&rest[..run]);
        let Some(&special) = rest.get(run) else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                let digits = b"0123456789abcdef";
                let (high, low) = (digits[usize::from(control >> 4)], digits[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = &rest[run + 1..];
    }
    out.push(b'"');
}

/// Whether `token` is one JSON string, nothing around it, that stands for Unicode text.
pub(crate) fn decodes(token: &str) -> bool {
    walk(token, |_| ()).is_some()
}

/// The text of a JSON string token, borrowed when nothing in it is escaped; `None` when it does not [decode](decodes).
pub(crate) fn unescape(token: &str) -> Option<Cow<'_, str>> {
    let inside = token.strip_prefix('"')?.strip_suffix('"')?;
    if plain_run(inside.as_bytes()) == inside.len() {
        return Some(Cow::Borrowed(inside));
    }
    let mut text = String::with_capacity(inside.len());
    walk(token, |part| match part {
        Part::Run(run) => text.push_str(run),
        Part::Escaped(character) => text.push(character),
    })?;
    Some(Cow::Owned(text))
}

/// A piece of a string token.
enum Part<'a> {
    /// Stands for itself.
    Run(&'a str),
    /// What an escape, or a pair of surrogate escapes, stands for.
    Escaped(char),
}

/// Visits the parts of a token in order; `None` as soon as it is not one.
fn walk<'a>(token: &'a str, mut visit: impl FnMut(Part<'a>)) -> Option<()> {
    let mut rest = token.strip_prefix('"')?;
    loop {
        // Runs end at ASCII bytes or at the end, so the slices are at character boundaries.
        let run = plain_run(rest.as_bytes());
        if run > 0 {
            visit(Part::Run(&rest[..run]));
        }
        rest = &rest[run..];
        match rest.as_bytes() {
            [b'"'] => return Some(()),
            [b'\\', b'u', ..] => {
                let (character, after) = unicode_escape(rest)?;
                visit(Part::Escaped(character));
                rest = after;
            }
            [b'\\', short, ..] => {
                let character = match short {
                    b'"' | b'\\' | b'/' => char::from(*short),
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    _ => return None,
                };
                visit(Part::Escaped(character));
                rest = &rest[2..];
            }
            // A bare control character, a quote before the end, or no quote at the end.
            _ => return None,
        }
    }
}

/// Reads `\u` and its four digits, or two of these that form a surrogate pair, from the start of `text`.
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| -> Option<u32> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        // `from_str_radix` would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    };
    let first = unit(text)?;
    let rest = &text[6..];
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let second = unit(rest).filter(|unit| (0xdc00..0xe000).contains(unit))?;
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(code)?, &rest[6..]))
}

/// Length of the leading run that needs no escaping: no quote, no backslash, no control character.
fn plain_run(bytes: &[u8]) -> usize {
    // No early exit inside a block, so that the compiler tests all of it with a few vector instructions.
    const BLOCK: usize = 16;
    let special = |b: u8| (b == b'"') | (b == b'\\') | (b < 0x20);
    let mut run = 0;
    for block in bytes.chunks_exact(BLOCK) {
        if block.iter().fold(false, |any, &b| any | special(b)) {
            break;
        }
        run += BLOCK;
    }
    run + bytes[run..].iter().position(|&b| special(b)).unwrap_or(bytes.len() - run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(text: &str) -> String {
        let mut out = Vec::new();
        write_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_what_must_be_is_escaped() {
        assert_eq!(token(""), r#""""#);
        assert_eq!(token("a\"b\\c/d"), r#""a\"b\\c/d""#);
        assert_eq!(token("\u{8}\u{c}\n\r\t\0\u{1f}"), r#""\b\f\n\r\t\u0000\u001f""#);
        assert_eq!(token("äß😀\u{7f}\u{2028}"), "\"äß😀\u{7f}\u{2028}\"");
        assert_eq!(token(&format!("{}\"", "x".repeat(40))), format!("\"{}\\\"\"", "x".repeat(40)));
    }

    #[test]
    fn escapes_decode() {
        for (token, text) in [
            (r#""\u0041\u00e4\/\b""#, "Aä/\u{8}"),
            (r#""\ud83d\ude00!""#, "😀!"),
            (r#""\uD83D\uDE00""#, "😀"),
            (r#""\u0000""#, "\0"),
            (r#""\uFFFF""#, "\u{ffff}"),
        ] {
            assert_eq!(unescape(token).as_deref(), Some(text), "{token}");
            assert!(decodes(token), "{token}");
        }
        assert!(matches!(unescape("\"plain ä\""), Some(Cow::Borrowed("plain ä"))));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for bad in [
            "",
            "\"",
            "a",
            "\"a",
            "a\"",
            "\"a\"b\"",
            "\"a\" ",
            " \"a\"",
            r#""\""#,
            r#""\x""#,
            r#""\u12""#,
            r#""\u+123""#,
            r#""\u12ä""#,
            "\"\n\"",
            "\"\0\"",
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00\ud800""#,
            "null",
            "1",
        ] {
            assert!(!decodes(bad), "{bad}");
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn writing_then_reading_is_the_identity(text in ".{0,80}|[\\x00-\\x7f]{0,80}") {
            let token = token(&text);
            prop_assert_eq!(serde_json::from_str::<String>(&token).unwrap(), text.as_str());
            prop_assert_eq!(unescape(&token).unwrap(), text.as_str());
        }

        #[test]
        fn agrees_with_serde_json(inside in r#"([a-z"\\ä]|\\[nu"/]|\\u[dD][89abcDEF][0-9a-f]{2}|\\u00[0-9a-g]{2}|\n){0,8}"#) {
            let token = format!("\"{inside}\"");
            let reference = serde_json::from_str::<String>(&token).ok();
            prop_assert_eq!(unescape(&token).map(Cow::into_owned), reference.clone());
            prop_assert_eq!(decodes(&token), reference.is_some());
        }
    }
}
