//! What the subprotocols write differently, in one place: the server's own words, and data messages for
//! receivers that number them.
//!
//! A numbered message is a head, a body and a tail. The body is the same for all receivers; head and tail depend
//! on the id. Ids of equal width ([`Encoding::width`]) give frames of equal length that differ in the id only.

use crate::envelope::Content;
use ringhub_protocol::pubsub::{AckError, json, protobuf};
use ringhub_protocol::ws::deflate::{stored_head_len, stored_tail_len, write_stored_head, write_stored_tail};
use ringhub_protocol::ws::{Opcode, frame};

/// How PubSub messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

/// What the server itself has to say.
pub(crate) enum Told<'a> {
    Connected { user: Option<&'a str>, id: &'a str, reconnection_token: Option<&'a str> },
    Disconnected(&'a str),
    Ack(u64, Result<(), (AckError, &'a str)>),
    Pong,
    InvokeResponse { invocation_id: &'a str, content: Option<Content<'a>> },
    InvokeRefused { invocation_id: &'a str, error: AckError, message: &'a str },
    StreamClosed { stream_id: &'a str, name: &'a str, message: &'a str },
}

impl Told<'_> {
    /// Roughly its length, right for what is said often.
    fn expected_len(&self) -> usize {
        match self {
            Self::Connected { .. } => 300,
            Self::Disconnected(reason) => reason.len() + 60,
            Self::Ack(_, Ok(())) => 40,
            Self::Ack(_, Err((_, message))) => message.len() + 100,
            Self::Pong => 16,
            Self::InvokeResponse { content, .. } => {
                content.map_or(0, |content| content.data.bytes().len()) + 120
            }
            Self::InvokeRefused { .. } | Self::StreamClosed { .. } => 160,
        }
    }
}

impl Encoding {
    /// The type of frames.
    pub(crate) fn opcode(self) -> Opcode {
        match self {
            Self::Json => Opcode::Text,
            Self::Protobuf => Opcode::Binary,
        }
    }

    /// Appends a frame with the server's own words.
    pub(crate) fn tell(self, out: &mut Vec<u8>, told: &Told<'_>) {
        frame::write_frame_with(out, self.opcode(), told.expected_len(), |out| match self {
            Self::Json => match *told {
                Told::Connected { user, id, reconnection_token } => {
                    json::connected(out, user, id, reconnection_token);
                }
                Told::Disconnected(reason) => json::disconnected(out, reason),
                Told::Ack(id, result) => json::ack(out, id, result),
                Told::Pong => json::pong(out),
                Told::InvokeResponse { invocation_id, content } => {
                    json::invoke_response(out, invocation_id, content.map(|content| content.data))
                }
                Told::InvokeRefused { invocation_id, error, message } => {
                    json::invoke_refused(out, invocation_id, error, message);
                }
                Told::StreamClosed { stream_id, name, message } => {
                    json::stream_closed(out, stream_id, name, message);
                }
            },
            Self::Protobuf => match *told {
                Told::Connected { user, id, reconnection_token } => {
                    protobuf::connected(out, user, id, reconnection_token);
                }
                Told::Disconnected(reason) => protobuf::disconnected(out, reason),
                Told::Ack(id, result) => protobuf::ack(out, id, result),
                Told::Pong => protobuf::pong(out),
                Told::InvokeResponse { invocation_id, content } => {
                    let data = content.map(|content| content.data);
                    let metadata = content.and_then(|content| content.metadata);
                    protobuf::invoke_response(out, invocation_id, data, metadata);
                }
                Told::InvokeRefused { invocation_id, error, message } => {
                    protobuf::invoke_refused(out, invocation_id, error, message);
                }
                Told::StreamClosed { stream_id, name, message } => {
                    protobuf::stream_closed(out, stream_id, name, message);
                }
            },
        });
    }

    /// Appends the frame of a numbered message.
    #[inline]
    pub(crate) fn write_numbered(self, out: &mut Vec<u8>, body: &[u8], id: u64) {
        frame::write_header(out, self.opcode(), self.numbered_len(body.len(), id));
        match self {
            Self::Json => {
                out.extend_from_slice(body);
                json::sequence_id(out, id);
            }
            Self::Protobuf => protobuf::data_message(out, body, Some(id)),
        }
    }

    /// Appends what stands before the body in such a frame, its header included.
    pub(crate) fn write_head(self, out: &mut Vec<u8>, body_len: usize, id: u64) {
        frame::write_header(out, self.opcode(), self.numbered_len(body_len, id));
        match self {
            Self::Json => {}
            Self::Protobuf => protobuf::data_head(out, body_len, Some(id)),
        }
    }

    /// Appends what stands behind it.
    pub(crate) fn write_tail(self, out: &mut Vec<u8>, id: u64) {
        match self {
            Self::Json => json::sequence_id(out, id),
            Self::Protobuf => protobuf::data_tail(out, id),
        }
    }

    /// The same of [`Encoding::write_head`] before a body's deflated payload: what stands before and behind it is
    /// written as it is, so that all receivers share the payload.
    pub(crate) fn write_head_deflated(self, out: &mut Vec<u8>, payload_len: usize, body_len: usize, id: u64) {
        let start = out.len();
        frame::write_header(out, self.opcode(), self.deflated_len(payload_len, body_len, id));
        frame::mark_deflated(out, start);
        match self {
            Self::Json => {}
            Self::Protobuf => write_stored_head(out, self.head_len(body_len, id), |out| {
                protobuf::data_head(out, body_len, Some(id));
            }),
        }
    }

    /// The same of [`Encoding::write_tail`].
    pub(crate) fn write_tail_deflated(self, out: &mut Vec<u8>, id: u64) {
        write_stored_tail(out, self.tail_len(id), |out| self.write_tail(out, id));
    }

    /// Length of the payload of a frame of these.
    pub(crate) fn deflated_len(self, payload_len: usize, body_len: usize, id: u64) -> usize {
        let head_len = match self {
            Self::Json => 0,
            Self::Protobuf => stored_head_len(self.head_len(body_len, id)),
        };
        head_len + payload_len + stored_tail_len(self.tail_len(id))
    }

    /// Bytes before the body, the frame's header apart.
    fn head_len(self, body_len: usize, id: u64) -> usize {
        self.numbered_len(body_len, id) - body_len - self.tail_len(id)
    }

    /// Bytes behind the body.
    fn tail_len(self, id: u64) -> usize {
        match self {
            Self::Json => json::SEQUENCE_ID_PREFIX.len() + digits(id) + 1,
            Self::Protobuf => 1 + protobuf::varint_len(id),
        }
    }

    /// Length of such a frame's payload.
    #[inline]
    pub(crate) fn numbered_len(self, body_len: usize, id: u64) -> usize {
        match self {
            Self::Json => body_len + json::SEQUENCE_ID_PREFIX.len() + digits(id) + 1,
            Self::Protobuf => protobuf::data_message_len(body_len, Some(id)),
        }
    }

    /// Most bytes that such a frame has besides its body, or its payload.
    pub(crate) const OVERHEAD_MAX: usize =
        10 + stored_head_len(0) + stored_tail_len(json::SEQUENCE_ID_PREFIX.len() + 20 + 1);

    /// Bytes an id takes.
    #[inline]
    pub(crate) fn width(self, id: u64) -> usize {
        match self {
            Self::Json => digits(id),
            Self::Protobuf => protobuf::varint_len(id),
        }
    }

    /// The first and the last id of this width.
    pub(crate) fn ids_of_width(self, width: usize) -> (u64, u64) {
        let first_of = |width: u32| match self {
            Self::Json => 10u64.checked_pow(width),
            Self::Protobuf => 1u64.checked_shl(7 * width),
        };
        let width = width as u32;
        (first_of(width - 1).unwrap_or(1), first_of(width).map_or(u64::MAX, |next| next - 1))
    }

    /// Bytes between the id and the end of the frame.
    pub(crate) fn behind_id(self) -> usize {
        match self {
            Self::Json => 1,
            Self::Protobuf => 0,
        }
    }

    /// Writes an id over one of the same width.
    #[inline]
    pub(crate) fn patch(self, place: &mut [u8], mut id: u64) {
        match self {
            Self::Json => {
                for digit in place.iter_mut().rev() {
                    *digit = b'0' + (id % 10) as u8;
                    id /= 10;
                }
            }
            Self::Protobuf => {
                let last = place.len() - 1;
                for byte in &mut place[..last] {
                    *byte = id as u8 | 0x80;
                    id >>= 7;
                }
                place[last] = id as u8;
            }
        }
    }
}

/// Decimal digits of an id.
fn digits(id: u64) -> usize {
    id.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringhub_protocol::ws::{Decoder, DecoderLimits, Deflater, Event, Inflater};

    const BOUNDARIES: [u64; 14] =
        [1, 9, 10, 99, 100, 127, 128, 9_999, 16_383, 16_384, 2_097_151, 2_097_152, u64::MAX >> 1, u64::MAX];

    #[test]
    fn head_body_and_tail_are_the_frame() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            for body_len in [1, 80, 110, 125, 65_500, 65_535, 70_000] {
                let body = vec![b'b'; body_len];
                for id in BOUNDARIES {
                    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
                    encoding.write_numbered(&mut whole, &body, id);
                    encoding.write_head(&mut pieces, body_len, id);
                    pieces.extend_from_slice(&body);
                    encoding.write_tail(&mut pieces, id);
                    assert!(whole == pieces, "{encoding:?}, {body_len} bytes, id {id}");
                    let payload = encoding.numbered_len(body_len, id);
                    assert_eq!(whole.len(), frame::header_len(payload) + payload);
                    assert!(whole.len() <= body_len + Encoding::OVERHEAD_MAX);
                }
            }
        }
    }

    #[test]
    fn deflated_a_frame_inflates_to_the_same() {
        let limits = DecoderLimits { message_bytes_max: 1 << 20, fragments_max: 1 };
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            // Miri takes minutes for the long ones.
            let body_lens: &[usize] = if cfg!(miri) { &[80] } else { &[80, 110, 65_500, 70_000] };
            for &body_len in body_lens {
                let body = vec![b'b'; body_len];
                let mut payload = Vec::new();
                assert!(Deflater::default().deflate(&mut payload, &body, 15));
                for id in BOUNDARIES {
                    let mut frame = Vec::new();
                    encoding.write_head_deflated(&mut frame, payload.len(), body_len, id);
                    frame.extend_from_slice(&payload);
                    encoding.write_tail_deflated(&mut frame, id);
                    assert!(frame.len() <= payload.len() + Encoding::OVERHEAD_MAX);
                    let deflated_len = encoding.deflated_len(payload.len(), body_len, id);
                    let header_len = frame::header_len(deflated_len);
                    assert_eq!(frame.len(), header_len + deflated_len);
                    // As a client's: masked with zeros.
                    frame[1] |= 0x80;
                    frame.splice(header_len..header_len, [0; 4]);
                    let mut plain = Vec::new();
                    encoding.write_numbered(&mut plain, &body, id);
                    let plain = &plain[frame::header_len(encoding.numbered_len(body_len, id))..];
                    let (mut decoder, mut inflater) = (Decoder::deflated(), Inflater::default());
                    let step = decoder.next_with(&mut frame, &limits, &mut inflater).expect("legal");
                    let expected = match encoding {
                        Encoding::Json => Event::Text(std::str::from_utf8(plain).unwrap()),
                        Encoding::Protobuf => Event::Binary(plain),
                    };
                    assert!(step.event == Some(expected), "{encoding:?}, {body_len} bytes, id {id}");
                }
            }
        }
    }

    #[test]
    fn a_patched_frame_is_the_frame_of_that_id() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            for id in BOUNDARIES {
                let width = encoding.width(id);
                let (mut patched, mut written) = (Vec::new(), Vec::new());
                let (lowest, highest) = encoding.ids_of_width(width);
                assert!((lowest..=highest).contains(&id));
                assert_eq!((encoding.width(lowest), encoding.width(highest)), (width, width));
                encoding.write_numbered(&mut patched, b"{body", lowest);
                let end = patched.len() - encoding.behind_id();
                encoding.patch(&mut patched[end - width..end], id);
                encoding.write_numbered(&mut written, b"{body", id);
                assert_eq!(patched, written, "{encoding:?}, id {id}");
            }
        }
    }
}
