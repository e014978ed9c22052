//! Frame headers: parse and write (RFC 6455 §5.2).

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
    let _ = (out, opcode, payload_len);
    todo!()
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
    let _ = (out, opcode, expected_len, write);
    todo!()
}
