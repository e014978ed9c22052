//! The payload of every benchmark message: who sent it, which one it is, and when.
//!
//! Plain ASCII without a character that JSON would escape, so that the same bytes travel in every
//! protocol: `rb`, publisher (4 hex digits), sequence number (8), time in ns (16), then one letter,
//! chosen by the sequence number, up to the wanted size.

/// Bytes before the filling; also the smallest payload there is.
pub(crate) const SIZE_MIN: usize = 30;

/// Publisher id of messages that only warm up and are not part of a measured stream.
pub(crate) const WARM_UP: u16 = u16::MAX;

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Index of the publisher, or [`WARM_UP`].
    pub(crate) publisher: u16,
    /// Position in the publisher's stream, from 0.
    pub(crate) sequence: u32,
    /// When it was sent, or was due in an open loop, ns since the generator's start.
    pub(crate) at_ns: u64,
}

impl Stamp {
    /// Appends a payload of exactly `size` bytes, at least [`SIZE_MIN`].
    pub(crate) fn write(self, out: &mut Vec<u8>, size: usize) {
        debug_assert!(size >= SIZE_MIN, "callers refuse smaller sizes at the command line");
        let end = out.len() + size;
        out.extend_from_slice(b"rb");
        push_hex(out, u64::from(self.publisher), 4);
        push_hex(out, u64::from(self.sequence), 8);
        push_hex(out, self.at_ns, 16);
        out.resize(end, self.filling());
    }

    /// Reads a payload back. `None` if it is not byte for byte what [`Stamp::write`] makes of `size`.
    pub(crate) fn parse(payload: &[u8], size: usize) -> Option<Self> {
        if payload.len() != size || !payload.starts_with(b"rb") {
            return None;
        }
        let stamp = Self {
            publisher: hex(payload.get(2..6)?)? as u16,
            sequence: hex(payload.get(6..14)?)? as u32,
            at_ns: hex(payload.get(14..30)?)?,
        };
        // The first is the filling and each equals its neighbour: one comparison of memory, 20 times as
        // fast as one of bytes.
        let rest = &payload[SIZE_MIN..];
        let whole =
            rest.first().is_none_or(|&first| first == stamp.filling() && rest[1..] == rest[..rest.len() - 1]);
        whole.then_some(stamp)
    }

    fn filling(self) -> u8 {
        b'a' + (self.sequence % 26) as u8
    }
}

fn push_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[(value >> (digit * 4) & 15) as usize]));
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 0xabc, sequence: 0xdead_beef, at_ns: 0x0123_4567_89ab_cdef };

    #[test]
    fn comes_back_as_written_at_every_size() {
        for size in [SIZE_MIN, 31, 64, 16 * 1024] {
            let mut payload = Vec::new();
            STAMP.write(&mut payload, size);
            assert_eq!(payload.len(), size);
            assert_eq!(Stamp::parse(&payload, size), Some(STAMP));
        }
    }

    #[test]
    fn any_changed_byte_is_seen() {
        let mut payload = Vec::new();
        STAMP.write(&mut payload, 40);
        for index in 0..payload.len() {
            let mut broken = payload.clone();
            broken[index] ^= 0x80;
            assert_eq!(Stamp::parse(&broken, 40), None, "byte {index}");
        }
        assert_eq!(Stamp::parse(&payload[..39], 40), None);
        assert_eq!(Stamp::parse(b"", 0), None);
    }
}
