//! Close codes and their meaning here (RFC 6455 §7.4, `client-protocols` §6.5).

use super::frame::{Opcode, write_header};

/// A close code. [`CloseCode::from_wire`] refuses those that must not travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// Ordinary end.
    pub const NORMAL: Self = Self(1000);
    /// The server stops.
    pub const GOING_AWAY: Self = Self(1001);
    /// A frame breaks RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// Wrong frame type for the subprotocol.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// Text is not UTF-8, or a message breaks the subprotocol.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// Recovery refused, slow consumer, missing role of a raw client.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// Message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// Raw client whose event nobody handles.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// A code a peer may send: 1000–1003, 1007–1011 (1012–1014 registered), 3000–4999.
    pub fn from_wire(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Longest reason that fits a close frame, in bytes (RFC 6455 §5.5: 125 less the code).
pub const REASON_BYTES_MAX: usize = 123;

/// Appends one unmasked close frame; `reason` is cut at a character boundary to [`REASON_BYTES_MAX`].
///
/// Without a code the body is empty, and so is the reason: it cannot travel alone (RFC 6455 §5.5.1).
pub fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let Some(code) = code else {
        write_header(out, Opcode::Close, 0);
        return;
    };
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    write_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.get().to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_travel_exist() {
        let legal: Vec<u16> = (0..=5000).filter(|code| CloseCode::from_wire(*code).is_some()).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(legal, expected);
        assert_eq!(CloseCode::from_wire(u16::MAX), None);
    }

    #[test]
    fn writes_code_and_reason() {
        let mut out = Vec::new();
        write_close(&mut out, Some(CloseCode::GOING_AWAY), "bye");
        assert_eq!(out, b"\x88\x05\x03\xe9bye");
        out.clear();
        write_close(&mut out, Some(CloseCode::NORMAL), "");
        assert_eq!(out, b"\x88\x02\x03\xe8");
        out.clear();
        write_close(&mut out, None, "lost");
        assert_eq!(out, b"\x88\x00");
    }

    #[test]
    fn cuts_a_long_reason_between_characters() {
        for (reason, kept) in
            [("x".repeat(123), 123), ("x".repeat(500), 123), ("ä".repeat(80), 122), ("😀".repeat(40), 120)]
        {
            let mut out = Vec::new();
            write_close(&mut out, Some(CloseCode::NORMAL), &reason);
            assert_eq!(usize::from(out[1]), kept + 2);
            assert_eq!(&out[4..], &reason.as_bytes()[..kept]);
        }
    }
}
