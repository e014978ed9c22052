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

/// Appends one unmasked close frame; `reason` is cut at a character boundary to [`REASON_BYTES_MAX`]. Without
/// a code the frame is empty.
pub fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let Some(code) = code else { return write_header(out, Opcode::Close, 0) };
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    write_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.get().to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(&mut out, Some(CloseCode::NORMAL), &"\u{20ac}".repeat(42));
        assert_eq!((out[0], usize::from(out[1]), out.len()), (0x88, 2 + 123, 4 + 123));
        out.clear();
        write_close(&mut out, Some(CloseCode::TOO_BIG), &format!("a{}", "\u{20ac}".repeat(42)));
        assert_eq!(std::str::from_utf8(&out[4..]).unwrap().chars().count(), 41);
        out.clear();
        write_close(&mut out, None, "unsaid");
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    fn codes_that_must_not_travel_are_refused() {
        let legal = |code| CloseCode::from_wire(code).is_some();
        assert!([1000, 1003, 1007, 1011, 1014, 3000, 4999].into_iter().all(legal));
        assert!(![0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].into_iter().any(legal));
    }
}
