//! Close codes and their meaning here (RFC 6455 §7.4, `client-protocols` §6.5).

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
pub fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let _ = (out, code, reason);
    todo!()
}
