//! Frame headers: parse and write (RFC 6455 §5.2).

use super::Fault;

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
    /// Close, ping and pong.
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The header of a frame from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last fragment.
    pub fin: bool,
    /// The type.
    pub opcode: Opcode,
    /// The masking key.
    pub key: [u8; 4],
    /// Bytes of payload.
    pub payload_len: u64,
}

/// Longest header from a client, in bytes.
pub const HEADER_LEN_MAX: usize = 14;

impl Header {
    /// Reads the header at the start of `bytes`: the header and its length, or `None` if more bytes are
    /// needed. Errors are 1002 and come as early as the offending byte.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let [first, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Fault::protocol("A reserved bit is set."));
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Fault::protocol("The opcode is reserved.")),
        };
        let fin = first & 0x80 != 0;
        if opcode.is_control() && !fin {
            return Err(Fault::protocol("A control frame is fragmented."));
        }
        let [second, rest @ ..] = rest else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Fault::protocol("A frame from a client is not masked."));
        }
        let short = second & 0x7f;
        if opcode.is_control() && short > 125 {
            return Err(Fault::protocol("A control frame is longer than 125 bytes."));
        }
        let (payload_len, rest) = match short {
            126 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let len = u64::from(u16::from_be_bytes(*len));
                if len < 126 {
                    return Err(Fault::protocol("A frame's length is not in its shortest form."));
                }
                (len, rest)
            }
            127 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let len = u64::from_be_bytes(*len);
                if len < 1 << 16 || len >> 63 != 0 {
                    return Err(Fault::protocol("A frame's length is not in its shortest form."));
                }
                (len, rest)
            }
            _ => (u64::from(short), rest),
        };
        let Some((key, rest)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some((Self { fin, opcode, key: *key, payload_len }, bytes.len() - rest.len())))
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
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    let (header, len) = header(opcode, payload_len);
    out.extend_from_slice(&header[..len]);
}

fn header(opcode: Opcode, payload_len: usize) -> ([u8; 10], usize) {
    let mut header = [0x80 | opcode as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let len = header_len(payload_len);
    match len {
        2 => header[1] = payload_len as u8,
        4 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    (header, len)
}

/// Appends one whole final unmasked frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends one final unmasked frame whose payload `write` appends and whose length is known only then.
/// `expected_len` is a guess; a right one (same header length) saves moving the payload.
pub fn write_frame_with(
    out: &mut Vec<u8>,
    opcode: Opcode,
    expected_len: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    let guess = header_len(expected_len);
    out.extend_from_slice(&[0; 10][..guess]);
    write(out);
    let payload_len = out.len() - start - guess;
    let (header, len) = header(opcode, payload_len);
    if len > guess {
        out.extend_from_slice(&[0; 8][..len - guess]);
    }
    if len != guess {
        out.copy_within(start + guess..start + guess + payload_len, start + len);
        out.truncate(start + len + payload_len);
    }
    out[start..start + len].copy_from_slice(&header[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_guess_makes_the_same_frame() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let mut expected = b"before".to_vec();
            write_frame(&mut expected, Opcode::Binary, &payload);
            for guess in [0, 126, 65_536] {
                let mut out = b"before".to_vec();
                write_frame_with(&mut out, Opcode::Binary, guess, |out| out.extend_from_slice(&payload));
                assert!(out == expected, "{len} guessed {guess}");
            }
        }
    }

    #[test]
    fn headers_come_in_three_lengths() {
        for (len, header) in [
            (5usize, &[0x81, 5][..]),
            (126, &[0x81, 126, 0, 126]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_header(&mut out, Opcode::Text, len);
            assert_eq!(out, header);
        }
    }

    #[test]
    fn a_client_header_reads_at_its_last_byte_and_not_before() {
        let bytes = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        for n in 0..bytes.len() {
            assert_eq!(Header::parse(&bytes[..n]).unwrap(), None);
        }
        let (header, len) = Header::parse(&bytes).unwrap().unwrap();
        assert_eq!((len, header.payload_len, header.key, header.fin), (14, 65_536, [1, 2, 3, 4], true));
    }

    #[test]
    fn what_the_rfc_forbids_is_refused_at_once() {
        for bad in [
            &[0xc1][..],           // reserved bit
            &[0x83],               // reserved opcode
            &[0x09],               // fragmented ping
            &[0x81, 0x05],         // not masked
            &[0x89, 0xfe],         // long control frame
            &[0x81, 0xfe, 0, 125], // not the shortest form
            &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], // top bit
        ] {
            assert_eq!(Header::parse(bad).unwrap_err().code.get(), 1002, "{bad:x?}");
        }
    }
}
