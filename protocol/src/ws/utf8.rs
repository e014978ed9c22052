//! Incremental UTF-8 validation across fragments and chunks (RFC 6455 §5.6, §8.1).
//!
//! What must stay true: the verdict over all chunks is that of [`std::str::from_utf8`] over their
//! concatenation, whatever the split; and an error shows with the first byte after which no continuation
//! could make the text valid, not when its character or its frame is complete. Between chunks at most
//! three bytes are held back: the start of a character that may still become whole.

/// Text that arrives in chunks: appends what is whole, holds back the start of a character.
#[derive(Debug, Clone, Default)]
pub struct Utf8Reader {
    held: [u8; 4],
    held_len: u8,
}

/// The text cannot be UTF-8, whatever follows. For the peer: close 1007.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("text is not UTF-8")]
pub struct InvalidUtf8;

impl Utf8Reader {
    /// Appends the whole characters of `chunk` to `text`, the held-back one first.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] as soon as the bytes so far are no prefix of any UTF-8 text; `text` then holds an
    /// unspecified valid prefix.
    pub fn append(&mut self, chunk: &[u8], text: &mut String) -> Result<(), InvalidUtf8> {
        let mut rest = chunk;
        while self.held_len > 0 {
            let Some((&byte, tail)) = rest.split_first() else { return Ok(()) };
            rest = tail;
            self.held[usize::from(self.held_len)] = byte;
            self.held_len += 1;
            match std::str::from_utf8(&self.held[..usize::from(self.held_len)]) {
                Ok(character) => {
                    text.push_str(character);
                    self.held_len = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        let (whole, start) = rest.split_at(whole_characters(rest));
        text.push_str(simdutf8::basic::from_utf8(whole).map_err(|_| InvalidUtf8)?);
        // `E0 80` has the shape of an unfinished character but can never become one.
        if std::str::from_utf8(start).is_err_and(|error| error.error_len().is_some()) {
            return Err(InvalidUtf8);
        }
        self.held[..start.len()].copy_from_slice(start);
        self.held_len = start.len() as u8;
        Ok(())
    }

    /// Whether the text may end here: no character is unfinished.
    pub fn is_complete(&self) -> bool {
        self.held_len == 0
    }
}

/// Where the unfinished last character of `bytes` starts, judged by its lead byte alone; else its length.
fn whole_characters(bytes: &[u8]) -> usize {
    for (trailing, &byte) in bytes.iter().rev().take(3).enumerate() {
        let width = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        if width > trailing + 1 {
            return bytes.len() - trailing - 1;
        }
        break;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Result<String, InvalidUtf8> {
        let (mut reader, mut text) = (Utf8Reader::default(), String::new());
        for chunk in chunks {
            reader.append(chunk, &mut text)?;
        }
        if reader.is_complete() { Ok(text) } else { Err(InvalidUtf8) }
    }

    /// Number of bytes taken before the reader refuses, fed byte by byte; `None` if it never does.
    fn refused_at(bytes: &[u8]) -> Option<usize> {
        let (mut reader, mut text) = (Utf8Reader::default(), String::new());
        bytes.iter().position(|byte| reader.append(&[*byte], &mut text).is_err())
    }

    #[test]
    fn refuses_at_the_offending_byte() {
        for (bytes, at) in [
            (&b"\xc0\xaf"[..], 0),
            (b"\xf5\x80", 0),
            (b"\xff", 0),
            (b"\x80", 0),
            (b"a\xf4\x90\x80\x80", 2),
            (b"\xed\xa0\x80", 1),
            (b"\xe0\x80\x80", 1),
            (b"\xf0\x80\x80\x80", 1),
            (b"\xc3\x28", 1),
            (b"\xf0\x9f\x98a", 3),
            (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited", 12),
        ] {
            assert_eq!(refused_at(bytes), Some(at), "{bytes:x?}");
            // The same when everything up to the offending byte comes in one piece, and no sooner.
            assert_eq!(Utf8Reader::default().append(&bytes[..at], &mut String::new()), Ok(()), "{bytes:x?}");
            assert_eq!(
                Utf8Reader::default().append(&bytes[..=at], &mut String::new()),
                Err(InvalidUtf8),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn every_split_gives_the_text() {
        let text = "aä€😀\u{10ffff}\u{d7ff}\u{e000}\0z";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let bytes = text.as_bytes();
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(read(&chunks).as_deref(), Ok(text), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_unfinished_character_is_not_an_end() {
        for text in ["ä", "€", "😀"] {
            for end in 1..text.len() {
                assert_eq!(refused_at(&text.as_bytes()[..end]), None);
                assert_eq!(read(&[&text.as_bytes()[..end]]), Err(InvalidUtf8));
            }
        }
    }

    #[test]
    fn verdicts_equal_the_standard_librarys_on_mutations() {
        // A multiplicative generator is random enough to flip bytes and choose cuts, and repeats exactly.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = move |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        let base =
            "The quick κόσμε €uro 😀 \u{d7ff}\u{e000}\u{10ffff} brown fox jumps over ångström äöü 日本語.";
        let (mut valid, mut invalid) = (0, 0);
        let texts = if cfg!(miri) { 300 } else { 1_000_000 };
        for _ in 0..texts {
            let mut bytes = base.as_bytes()[draw(20)..].to_vec();
            for _ in 0..draw(3) {
                let at = draw(bytes.len());
                match draw(3) {
                    0 => bytes[at] = draw(256) as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, draw(256) as u8),
                }
            }
            let (a, b) = (draw(bytes.len() + 1), draw(bytes.len() + 1));
            let (first, second) = (a.min(b), a.max(b));
            let verdict = read(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
            match std::str::from_utf8(&bytes) {
                Ok(text) => {
                    assert_eq!(verdict.as_deref(), Ok(text));
                    valid += 1;
                }
                Err(error) => {
                    assert_eq!(verdict, Err(InvalidUtf8), "{bytes:x?}");
                    // The reader stops where the standard library says the text stops being completable.
                    if error.error_len().is_some() {
                        let at = refused_at(&bytes).expect("refused");
                        assert!(at >= error.valid_up_to() && at < error.valid_up_to() + 4, "{bytes:x?}");
                    }
                    invalid += 1;
                }
            }
        }
        assert!(valid > texts / 8 && invalid > texts / 8, "{valid} valid, {invalid} invalid");
    }
}
