//! Incremental UTF-8 validation: text arrives in chunks and fragments, and the verdict falls at the first
//! byte that cannot be right (RFC 6455 §8.1), not at the end of the message.

/// The state between two chunks: the lead byte and what follows of a character that is not complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Utf8 {
    partial: [u8; 3],
    len: u8,
}

/// The text so far cannot be the start of valid UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

impl Utf8 {
    /// Checks the next bytes of the text.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            let mut sequence = [0; 4];
            let len = usize::from(self.len);
            sequence[..len].copy_from_slice(&self.partial[..len]);
            sequence[len] = byte;
            match std::str::from_utf8(&sequence[..=len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(Invalid),
                Err(_) => {
                    self.partial[len] = byte;
                    self.len += 1;
                }
            }
        }
        let Err(error) = simdutf8::compat::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        // Only an unfinished character at the end; the standard library's verdict on a prefix is exact, so a
        // prefix that nothing can complete was refused above.
        let tail = &bytes[error.valid_up_to()..];
        self.partial[..tail.len()].copy_from_slice(tail);
        self.len = tail.len() as u8;
        Ok(())
    }

    /// Whether the text may end here.
    pub fn is_complete(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first position after which no continuation is valid, by the standard library.
    fn oracle(bytes: &[u8]) -> Option<usize> {
        (1..=bytes.len()).find(|&n| std::str::from_utf8(&bytes[..n]).is_err_and(|e| e.error_len().is_some()))
    }

    fn byte_by_byte(bytes: &[u8]) -> Option<usize> {
        let mut utf8 = Utf8::default();
        bytes.iter().position(|byte| utf8.feed(&[*byte]).is_err()).map(|at| at + 1)
    }

    #[test]
    fn fails_at_the_offending_byte() {
        for (bytes, at) in [
            (&b"\xf4\x90"[..], 2),
            (b"a\xc0", 2),
            (b"\xed\xa0", 2),
            (b"\xf5", 1),
            (b"\xe2\x82x", 3),
            (b"\x80", 1),
        ] {
            assert_eq!(byte_by_byte(bytes), Some(at), "{bytes:x?}");
        }
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let bytes =
            prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xf0), Just(0xed), Just(0xa0), Just(b'a')];
        prop_oneof![prop::collection::vec(bytes, 0..80), any::<String>().prop_map(String::into_bytes)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]
        #[test]
        fn agrees_with_the_standard_library_in_any_split(bytes in texts(), cuts in prop::collection::vec(0usize..80, 0..4)) {
            prop_assert_eq!(byte_by_byte(&bytes), oracle(&bytes));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut utf8 = Utf8::default();
            let verdict = cuts.windows(2).try_for_each(|w| utf8.feed(&bytes[w[0]..w[1]]));
            prop_assert_eq!(verdict.is_err(), oracle(&bytes).is_some());
            prop_assert_eq!(verdict.is_ok() && utf8.is_complete(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
