//! Protobuf's wire format: tags, varints and lengths, without knowing any message.

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It ends within a field.
    Truncated,
    /// More than 64 bits.
    Overflow,
    /// A field number of 0 or of more than 29 bits, or a wire type that does not exist.
    Tag,
    /// Proto3 has no groups, so nothing but an attack on the depth of a parser needs them.
    Group,
    /// A `string` field that is none.
    NotUtf8,
}

/// What a field holds, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// All integers and bools.
    Varint(u64),
    /// Strings, bytes and embedded messages.
    Bytes(&'a [u8]),
    /// A number of four or eight bytes. No field of ours is one: it is there to be skipped.
    Fixed,
}

/// The fields of a message in the order they were written: number and value. Nothing follows an error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed::Tag)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed::Tag);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                // A length that no memory holds is cut off like any other that is too large.
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Value::Bytes(self.take(length)?)
            }
            3 | 4 => return Err(Malformed::Group),
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed::Tag),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
            self.rest = rest;
            // The tenth byte has room for one bit, and must be the last.
            if shift == 63 && byte > 1 {
                return Err(Malformed::Overflow);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The value of a `string` field.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)
}

/// Whether every receiver can read `bytes` as a `google.protobuf.Any`: whole fields, a type URL that is UTF-8, and
/// no known field of another wire type, over which some parsers fall. What the inner message is stays between the
/// clients.
pub(in crate::pubsub) fn is_any(bytes: &[u8]) -> bool {
    Fields::of(bytes).all(|field| match field {
        Ok((1, Value::Bytes(type_url))) => text(type_url).is_ok(),
        Ok((1 | 2, Value::Varint(_) | Value::Fixed)) | Err(_) => false,
        Ok(_) => true,
    })
}

/// Bytes that a varint takes.
pub fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Appends a varint.
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a field of a string, bytes or a message of `len` bytes takes. Like all writers here it takes a
/// field number below 16, whose tag is one byte.
pub(super) fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Appends what stands before the `len` bytes of a string, bytes or a message.
pub(super) fn open_field(out: &mut Vec<u8>, number: u8, len: usize) {
    debug_assert!((1..16).contains(&number), "the tag is one byte");
    out.push(number << 3 | 2);
    write_varint(out, len as u64);
}

/// Appends a field of a string, bytes or a message that is already written.
pub(super) fn write_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    open_field(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends an integer or a bool.
pub(super) fn write_number(out: &mut Vec<u8>, number: u8, value: u64) {
    debug_assert!((1..16).contains(&number), "the tag is one byte");
    out.push(number << 3);
    write_varint(out, value);
}

/// Bytes that an integer field takes.
pub(super) fn number_len(value: u64) -> usize {
    1 + varint_len(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        Fields::of(message).collect()
    }

    #[test]
    fn every_wire_type_is_read_or_refused() {
        for (message, expected) in [
            (&b""[..], Ok(vec![])),
            (b"\x08\x00", Ok(vec![(1, Value::Varint(0))])),
            // Longer than it needs to be, and legal.
            (b"\x08\x80\x80\x00", Ok(vec![(1, Value::Varint(0))])),
            (b"\x09abcdefgh", Ok(vec![(1, Value::Fixed)])),
            (b"\x0a\x02ab\x0a\x00", Ok(vec![(1, Value::Bytes(b"ab")), (1, Value::Bytes(b""))])),
            (b"\x0dabcd\x10\x05", Ok(vec![(1, Value::Fixed), (2, Value::Varint(5))])),
            (b"\xf8\xff\xff\xff\x0f\x01", Ok(vec![((1 << 29) - 1, Value::Varint(1))])),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Ok(vec![(1, Value::Varint(u64::MAX))])),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Err(Malformed::Overflow)),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", Err(Malformed::Overflow)),
            (b"\x08", Err(Malformed::Truncated)),
            (b"\x08\x80", Err(Malformed::Truncated)),
            (b"\x80", Err(Malformed::Truncated)),
            (b"\x09abcdefg", Err(Malformed::Truncated)),
            (b"\x0a\x03ab", Err(Malformed::Truncated)),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab", Err(Malformed::Truncated)),
            (b"\x0dabc", Err(Malformed::Truncated)),
            (b"\x0b\x0c", Err(Malformed::Group)),
            (b"\x0c", Err(Malformed::Group)),
            (b"\x0e\x00", Err(Malformed::Tag)),
            (b"\x0f\x00", Err(Malformed::Tag)),
            (b"\x00\x00", Err(Malformed::Tag)),
            (b"\x88\x80\x80\x80\x10\x00", Err(Malformed::Tag)),
        ] {
            assert_eq!(fields(message), expected, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn reading_ends_at_the_first_error() {
        let mut fields = Fields::of(b"\x08\x01\x0b\x08\x01");
        assert_eq!(fields.next(), Some(Ok((1, Value::Varint(1)))));
        assert_eq!(fields.next(), Some(Err(Malformed::Group)));
        assert_eq!(fields.next(), None);
    }

    #[test]
    fn an_any_is_whole_fields_and_a_type_url_of_utf8() {
        for good in [&b""[..], b"\x0a\x01a\x12\x02\xff\xfe", b"\x12\x00", b"\x18\x01", b"\x7a\x01\xff"] {
            assert!(is_any(good), "{}", good.escape_ascii());
        }
        for bad in
            [&b"\x0a\x2f"[..], b"\x0a\x01\xff", b"\x13", b"\x12\x01", b"\x00", b"\x08\x01", b"\x15abcd"]
        {
            assert!(!is_any(bad), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn varints_round_trip(value in prop_oneof![any::<u64>(), any::<u8>().prop_map(|bits| 1 << (bits % 64))]) {
            for value in [value, value - 1] {
                let mut out = Vec::new();
                write_number(&mut out, 1, value);
                prop_assert_eq!(out.len(), number_len(value));
                prop_assert_eq!(fields(&out), Ok(vec![(1, Value::Varint(value))]));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = fields(&bytes);
        }
    }
}
