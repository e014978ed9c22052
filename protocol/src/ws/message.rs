//! Bytes → messages: fragments joined, control frames in between (RFC 6455 §5.4, §5.5).

use super::CloseCode;

/// Bounds of what a peer may send.
#[derive(Debug, Clone, Copy)]
pub struct DecoderLimits {
    /// Largest message after reassembly, in bytes; checked at the frame header.
    pub message_bytes_max: usize,
    /// Most fragments of one message.
    pub fragments_max: u32,
}

/// One thing a peer said. Borrows from the input or from the decoder's reassembly buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message, valid UTF-8.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping; answer with a pong of the same payload (at most 125 bytes).
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The closing handshake; nothing after it is read.
    Close {
        /// `None` for an empty close frame (1005).
        code: Option<CloseCode>,
        /// At most 123 bytes.
        reason: &'a str,
    },
}

/// What one call of [`Decoder::next`] did.
#[derive(Debug)]
pub struct Step<'a> {
    /// Bytes of the input that are done with; never 0 unless the input is empty or the peer has closed.
    pub consumed: usize,
    /// What they completed, if anything.
    pub event: Option<Event<'a>>,
}

/// What a peer did that RFC 6455 forbids: close with `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// 1002, 1007 or 1009.
    pub code: CloseCode,
    /// What it did; at most 123 bytes.
    pub reason: &'static str,
}

/// A server's end of one WebSocket connection, fed with bytes in any split.
///
/// Idle it owns no heap memory; a frame that arrives in parts is collected in a buffer of its own, which is
/// given back when the message is complete. The payload is unmasked in place.
pub struct Decoder {
    _todo: (),
}

impl Decoder {
    /// A decoder for frames from a client (they must be masked).
    pub fn new() -> Self {
        Self { _todo: () }
    }

    /// Reads up to one event from `input`. Call again with the rest until the input is used up.
    pub fn next<'a>(&'a mut self, input: &'a mut [u8], limits: &DecoderLimits) -> Result<Step<'a>, Fault> {
        let _ = (input, limits);
        todo!()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}
