//! What a WebSocket client says: bytes → frames → messages → hub input.
//!
//! Decoding and parsing run where a panic ends the one connection (rule 8); what comes out is plain values,
//! and the hub is called outside of that fence.

use ringhub_protocol::pubsub::{ClientMessage, Data, ProtocolError, Subprotocol, json, protobuf};
use ringhub_protocol::ws::{CloseCode, Decoder, DecoderLimits, Event, Inflater};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One thing a client said.
pub(crate) enum Said<'a> {
    /// A request of a PubSub client.
    Message(ClientMessage<'a>),
    /// A raw client's message.
    Raw(Data<'a>),
    /// A ping with this payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame.
    Close(Option<CloseCode>),
}

impl Said<'_> {
    /// Whether it takes memory, and nobody could be told that it was refused. What can be, the hub refuses.
    pub(crate) fn takes_memory_unasked(&self) -> bool {
        use ClientMessage::{Event, JoinGroup, SendToGroup};
        matches!(
            self,
            Self::Raw(_)
                | Self::Message(
                    SendToGroup { ack_id: None, .. }
                        | Event { ack_id: None, .. }
                        | JoinGroup { ack_id: None, .. }
                )
        )
    }
}

/// Why a client cannot be understood.
pub(crate) struct Broken {
    pub(crate) code: CloseCode,
    pub(crate) reason: Cow<'static, str>,
    /// Our fault, not the client's.
    pub(crate) panicked: bool,
}

/// Takes up to one thing from the front of `input`: how many bytes it was, and what it was if complete. After a panic
/// nothing of `decoder` and `inflater` may be used any more.
pub(crate) fn listen<'a>(
    decoder: &'a mut Decoder,
    input: &'a mut [u8],
    limits: &DecoderLimits,
    inflater: &'a mut Inflater,
    subprotocol: Subprotocol,
) -> Result<(usize, Option<Said<'a>>), Broken> {
    fenced(move || decode(decoder, input, limits, inflater, subprotocol))
}

/// Nothing half-changed survives a panic: the connection and its decoder end.
fn fenced<T>(decode: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err(Broken {
            code: CloseCode::INTERNAL_ERROR,
            reason: "The server failed to read the message.".into(),
            panicked: true,
        })
    })
}

fn decode<'a>(
    decoder: &'a mut Decoder,
    input: &'a mut [u8],
    limits: &DecoderLimits,
    inflater: &'a mut Inflater,
    subprotocol: Subprotocol,
) -> Result<(usize, Option<Said<'a>>), Broken> {
    let step = decoder.next_with(input, limits, inflater).map_err(|fault| Broken {
        code: fault.code,
        reason: fault.reason.into(),
        panicked: false,
    })?;
    #[cfg(test)]
    assert!(!matches!(step.event, Some(Event::Text(text)) if text == PANIC), "raised by a test");
    let said = match step.event {
        None => return Ok((step.consumed, None)),
        Some(Event::Ping(payload)) => Said::Ping(payload),
        Some(Event::Pong(_)) => Said::Pong,
        Some(Event::Close { code, .. }) => Said::Close(code),
        Some(Event::Text(text)) if subprotocol == Subprotocol::Raw => Said::Raw(Data::text(text)),
        Some(Event::Binary(bytes)) if subprotocol == Subprotocol::Raw => Said::Raw(Data::binary(bytes)),
        // `client-protocols` §1.5: protobuf clients must send binary frames.
        Some(Event::Text(_)) if subprotocol.is_protobuf() => {
            return Err(Broken {
                code: CloseCode::UNSUPPORTED_DATA,
                reason: "Protobuf messages are sent in binary frames.".into(),
                panicked: false,
            });
        }
        Some(Event::Binary(bytes)) if subprotocol.is_protobuf() => {
            Said::Message(parsed(protobuf::parse(bytes))?)
        }
        Some(Event::Text(text)) => Said::Message(parsed(json::parse(text))?),
        // `client-protocols` §1.5: JSON clients may send binary frames too.
        Some(Event::Binary(bytes)) => {
            Said::Message(parsed(json::parse(std::str::from_utf8(bytes).map_err(|_| Broken {
                code: CloseCode::INVALID_PAYLOAD,
                reason: "The message is not UTF-8.".into(),
                panicked: false,
            })?))?)
        }
    };
    Ok((step.consumed, Some(said)))
}

/// What a client says in tests to make decoding panic.
#[cfg(test)]
pub(crate) const PANIC: &str = "make the decoder panic";

fn parsed(message: Result<ClientMessage<'_>, ProtocolError>) -> Result<ClientMessage<'_>, Broken> {
    message.map_err(|error| Broken { code: error.code, reason: error.reason, panicked: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_decoding_ends_one_connection_with_1011() {
        let broken = fenced::<()>(|| panic!("raised by a test")).expect_err("the fence held");
        assert!(broken.panicked);
        assert_eq!(broken.code, CloseCode::INTERNAL_ERROR);
        assert!(fenced(|| Ok(1)).is_ok_and(|one| one == 1));
    }
}
