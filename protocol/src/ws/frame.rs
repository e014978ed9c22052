//! Frame headers: parse and write (RFC 6455 §5.2).
//!
//! Parsing reads what a client may send and refuses, byte by byte, what it may not; the same header is
//! refused for the same reason however it is split. Writing makes what a server sends: final, unmasked
//! frames, each with the shortest length there is.

use super::message::Fault;

/// Frame types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// Ends the connection.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    /// Close, ping and pong: never fragmented, at most 125 bytes (RFC 6455 §5.5).
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    /// Whether it is of the first frame of a message.
    const fn begins_message(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }

    fn from_wire(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// The longest header: two bytes, a 64-bit length and the masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// The reserved bits of a frame's first byte.
const RESERVED: u8 = 0x70;
/// The one that marks a deflated message (RFC 7692 §6).
const DEFLATED: u8 = 0x40;

/// Largest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What the header of a client's frame says, except for the masking key, which ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Last frame of its message.
    pub fin: bool,
    /// Type; a control frame is final and at most [`CONTROL_BYTES_MAX`] bytes.
    pub opcode: Opcode,
    /// It begins a message of permessage-deflate (RFC 7692 §6).
    pub deflated: bool,
    /// At most 2^63 − 1.
    pub payload_len: u64,
}

impl Header {
    /// Reads a client's header up to its length, without the masking key: a length over the limit is to be
    /// refused before four more bytes arrive. `None` when the length is not there yet. With `deflate`, where
    /// permessage-deflate is negotiated, the first frame of a message may be marked as deflated (RFC 7692 §6).
    ///
    /// # Errors
    ///
    /// 1002 for reserved bits (but that mark), reserved opcodes, an unmasked frame, a control frame that is
    /// fragmented or over 125 bytes, a length that is not the shortest form or has its top bit set; each with
    /// the first byte that shows it.
    #[inline(always)]
    pub fn parse(bytes: &[u8], deflate: bool) -> Result<Option<Self>, Fault> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Self::parse_reserved(bytes, deflate);
        }
        Self::parse_plain(first, bytes)
    }

    /// The header of a frame with a reserved bit.
    #[cold]
    #[inline(never)]
    fn parse_reserved(bytes: &[u8], deflate: bool) -> Result<Option<Self>, Fault> {
        if !deflate || bytes[0] & RESERVED != DEFLATED {
            return Err(Fault::protocol("a reserved bit is set and no extension was negotiated"));
        }
        if matches!(Opcode::from_wire(bytes[0] & 0x0f), Some(opcode) if !opcode.begins_message()) {
            return Err(Fault::protocol("a frame that begins no message is marked as deflated"));
        }
        let header = Self::parse_plain(bytes[0] & !RESERVED, bytes)?;
        Ok(header.map(|header| Self { deflated: true, ..header }))
    }

    /// The header in `bytes`, as if `first` were its first byte.
    #[inline(always)]
    fn parse_plain(first: u8, bytes: &[u8]) -> Result<Option<Self>, Fault> {
        let fin = first & 0x80 != 0;
        let opcode =
            Opcode::from_wire(first & 0x0f).ok_or(Fault::protocol("the frame has a reserved opcode"))?;
        if opcode.is_control() && !fin {
            return Err(Fault::protocol("a control frame is fragmented"));
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Fault::protocol("a client's frame is not masked"));
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Fault::protocol("a control frame is longer than 125 bytes"));
        }

        let payload_len = match short {
            0..=125 => u64::from(short),
            126 => {
                let Some(length) = bytes[2..].first_chunk() else { return Ok(None) };
                let length = u64::from(u16::from_be_bytes(*length));
                if length < 126 {
                    return Err(Fault::protocol("a frame's length is not in its shortest form"));
                }
                length
            }
            _ => {
                // The top bit is in the first byte of eight, so it is refused with that byte.
                if bytes.get(2).is_some_and(|byte| byte & 0x80 != 0) {
                    return Err(Fault::protocol("a frame's length has its top bit set"));
                }
                let Some(length) = bytes[2..].first_chunk() else { return Ok(None) };
                let length = u64::from_be_bytes(*length);
                if length < 65_536 {
                    return Err(Fault::protocol("a frame's length is not in its shortest form"));
                }
                length
            }
        };
        Ok(Some(Self { fin, opcode, deflated: false, payload_len }))
    }

    /// Length of the whole header with its masking key, in bytes: 6, 8 or 14.
    pub const fn len_with_key(&self) -> usize {
        4 + match self.payload_len {
            0..126 => 2,
            126..65_536 => 4,
            _ => 10,
        }
    }
}

/// Length of the header of an unmasked frame with `payload_len` bytes: 2, 4 or 10.
pub const fn header_len(payload_len: usize) -> usize {
    if payload_len < 126 {
        2
    } else if payload_len < 65_536 {
        4
    } else {
        10
    }
}

/// Appends the header of one final unmasked frame.
#[inline]
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    let (header, len) = encode_header(opcode, payload_len);
    out.extend_from_slice(&header[..len]);
}

/// Appends one whole final unmasked frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(header_len(payload.len()) + payload.len());
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends one final unmasked frame whose payload `write` appends and whose length is known only then.
/// `expected_len` is a guess; a right one (same header length) saves moving the payload.
///
/// `write` may only append: what `out` held before must stay as it is.
pub fn write_frame_with(
    out: &mut Vec<u8>,
    opcode: Opcode,
    expected_len: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    write_header(out, opcode, expected_len);
    let payload_start = out.len();
    write(out);
    let payload_end = out.len();
    let (header, len) = encode_header(opcode, payload_end - payload_start);
    let moved_start = start + len;
    if moved_start != payload_start {
        if moved_start > payload_start {
            out.resize(payload_end + moved_start - payload_start, 0);
        }
        out.copy_within(payload_start..payload_end, moved_start);
        out.truncate(moved_start + payload_end - payload_start);
    }
    out[start..moved_start].copy_from_slice(&header[..len]);
}

/// Marks the frame that begins at `start` as the whole of a deflated message (RFC 7692 §6).
pub fn mark_deflated(out: &mut [u8], start: usize) {
    debug_assert!(matches!(out[start], 0x81 | 0x82), "only messages are deflated");
    out[start] |= DEFLATED;
}

/// The header in the first bytes of the array, and how many they are. One well-predicted branch for small
/// payloads, none that depends on the opcode.
#[inline]
fn encode_header(opcode: Opcode, payload_len: usize) -> ([u8; 10], usize) {
    let first = 0x80 | opcode as u8;
    if payload_len < 126 {
        return ([first, payload_len as u8, 0, 0, 0, 0, 0, 0, 0, 0], 2);
    }
    let [a, b, c, d, e, f, g, h] = (payload_len as u64).to_be_bytes();
    if payload_len < 65_536 {
        ([first, 126, g, h, 0, 0, 0, 0, 0, 0], 4)
    } else {
        ([first, 127, a, b, c, d, e, f, g, h], 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_shortest_length() {
        for (payload_len, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (1 << 32, &[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_header(&mut out, Opcode::Binary, payload_len);
            assert_eq!(out, expected);
            assert_eq!(header_len(payload_len), expected.len());
        }
    }

    #[test]
    fn a_wrong_guess_gives_the_same_frame() {
        let lengths = [0, 1, 125, 126, 200, 65_535, 65_536, 70_000];
        for payload_len in lengths {
            let payload: Vec<u8> = (0..payload_len).map(|at| at as u8).collect();
            let mut expected = b"before".to_vec();
            write_frame(&mut expected, Opcode::Text, &payload);
            for guess in lengths {
                let mut out = b"before".to_vec();
                write_frame_with(&mut out, Opcode::Text, guess, |out| out.extend_from_slice(&payload));
                assert!(out == expected, "{payload_len} bytes, {guess} expected");
            }
        }
    }

    #[test]
    fn parses_what_it_writes_once_masked() {
        for payload_len in [0, 1, 125, 126, 65_535, 65_536, 1 << 62] {
            let mut bytes = Vec::new();
            write_header(&mut bytes, Opcode::Text, payload_len);
            bytes[1] |= 0x80;
            let expected =
                Header { fin: true, opcode: Opcode::Text, deflated: false, payload_len: payload_len as u64 };
            assert_eq!(Header::parse(&bytes, false), Ok(Some(expected)));
            assert_eq!(expected.len_with_key(), bytes.len() + 4);
            for cut in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..cut], false), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_mark_of_deflate_is_for_the_first_frame_of_a_message() {
        for (bytes, fin, opcode, payload_len) in [
            (&b"\xc1\x85"[..], true, Opcode::Text, 5),
            (b"\x42\x80", false, Opcode::Binary, 0),
            (b"\xc2\xff\0\0\0\0\0\x01\0\0", true, Opcode::Binary, 65_536),
        ] {
            let expected = Header { fin, opcode, deflated: true, payload_len };
            assert_eq!(Header::parse(bytes, true), Ok(Some(expected)));
            assert_eq!(Header::parse(bytes, false).expect_err("not negotiated").code.get(), 1002);
            for cut in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..cut], true), Ok(None), "cut at {cut}");
            }
        }
        // Continuations, control frames, reserved opcodes, and marked twice.
        for first in [0xc0, 0x40, 0xc8, 0xc9, 0xca, 0xc3, 0xcb, 0xe1, 0xd2, 0xf1, 0xa1, 0x91] {
            let fault = Header::parse(&[first], true).expect_err("refused");
            assert_eq!(fault.code.get(), 1002, "{first:x}");
        }
        let plain = [0x81, 0x85];
        assert_eq!(Header::parse(&plain, true), Header::parse(&plain, false));
        let mut frame = Vec::new();
        write_frame(&mut frame, Opcode::Binary, b"");
        mark_deflated(&mut frame, 0);
        assert_eq!(frame, [0xc2, 0]);
    }

    #[test]
    fn refuses_with_the_first_byte_that_shows_it() {
        for (bytes, shown_by) in [
            (&[0xc1, 0x80][..], 1),
            (&[0xa1, 0x80], 1),
            (&[0x91, 0x80], 1),
            (&[0x83, 0x80], 1),
            (&[0x8b, 0x80], 1),
            (&[0x8f, 0x80], 1),
            (&[0x09, 0x80], 1),
            (&[0x81, 0x05], 2),
            (&[0x89, 0xfe], 2),
            (&[0x88, 0xff], 2),
            (&[0x82, 0xfe, 0, 125], 4),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 10),
            (&[0x82, 0xff, 0x80], 3),
        ] {
            assert_eq!(Header::parse(&bytes[..shown_by - 1], false), Ok(None), "{bytes:x?}");
            let fault = Header::parse(&bytes[..shown_by], false).expect_err("refused");
            assert_eq!(fault.code.get(), 1002);
            assert_eq!(Header::parse(bytes, false), Err(fault), "{bytes:x?}");
        }
    }
}
