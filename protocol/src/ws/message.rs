//! Bytes → messages: fragments joined, control frames in between (RFC 6455 §5.4, §5.5).

use super::close::CloseCode;
use super::frame::{HEADER_LEN_MAX, Header, Opcode};
use super::mask;
use super::utf8::Utf8;

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
    /// Bytes of the input that are done with; never 0 unless the input is empty.
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

impl Fault {
    pub(crate) fn protocol(reason: &'static str) -> Self {
        Self { code: CloseCode::PROTOCOL_ERROR, reason }
    }

    fn utf8() -> Self {
        Self { code: CloseCode::INVALID_PAYLOAD, reason: "Text is not valid UTF-8." }
    }

    fn too_big() -> Self {
        Self { code: CloseCode::TOO_BIG, reason: "The message is larger than the limit." }
    }
}

/// A server's end of one WebSocket connection, fed with bytes in any split.
///
/// Between messages it owns no heap memory; what arrives in parts is collected in a buffer of its own, which
/// is given back with the next call after the message is complete; a call with an empty input does just that.
/// The payload is unmasked in place.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    /// The last event was handed out of `partial`, or the peer has closed.
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Reading,
    /// The message in `partial` was handed out.
    Delivered,
    /// The control payload in `partial` was handed out.
    DeliveredControl,
    Closed,
}

/// What is known of a message, or a frame, that is not complete.
#[derive(Debug, Default)]
struct Partial {
    /// The start of a frame header.
    head: [u8; HEADER_LEN_MAX],
    head_len: u8,
    /// The frame whose payload is arriving, and how much of it has.
    frame: Option<Header>,
    frame_read: usize,
    /// The message being joined: its type, payload so far, fragments and text state.
    message: Option<Opcode>,
    payload: Vec<u8>,
    fragments: u32,
    utf8: Utf8,
    control: Vec<u8>,
}

impl Decoder {
    /// A decoder for frames from a client (they must be masked).
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads up to one event from `input`. Call again with the rest until the input is used up.
    ///
    /// # Errors
    /// The first thing the peer did that is forbidden; nothing can be read after it.
    pub fn next<'a>(&'a mut self, input: &'a mut [u8], limits: &DecoderLimits) -> Result<Step<'a>, Fault> {
        match self.state {
            State::Reading => {}
            State::Closed => return Ok(Step { consumed: input.len(), event: None }),
            State::Delivered => self.partial = None,
            State::DeliveredControl => {
                let partial = self.partial.as_mut().expect("it was handed out of there");
                partial.control = Vec::new();
                if partial.message.is_none() {
                    self.partial = None;
                }
            }
        }
        self.state = State::Reading;
        if input.is_empty() {
            return Ok(Step { consumed: 0, event: None });
        }
        if self.partial.is_none()
            && let Some((header, head_len)) = Header::parse(input)?
            && header.payload_len <= (input.len() - head_len) as u64
            && (header.fin || header.opcode.is_control())
        {
            let (opcode, end) = (header.opcode, head_len + header.payload_len as usize);
            check_start(None, &header, 0, limits)?;
            let payload = &mut input[head_len..end];
            mask::apply(payload, header.key, 0);
            if opcode == Opcode::Close {
                self.state = State::Closed;
            }
            return Ok(Step { consumed: end, event: Some(event(opcode, payload)?) });
        }
        self.next_part(input, limits)
    }

    /// The way of everything that does not arrive as one whole frame.
    fn next_part<'a>(&'a mut self, input: &'a mut [u8], limits: &DecoderLimits) -> Result<Step<'a>, Fault> {
        let partial = self.partial.get_or_insert_default();
        let mut consumed = 0;
        if partial.frame.is_none() {
            let known = usize::from(partial.head_len);
            let more = input.len().min(HEADER_LEN_MAX - known);
            partial.head[known..known + more].copy_from_slice(&input[..more]);
            let Some((header, head_len)) = Header::parse(&partial.head[..known + more])? else {
                partial.head_len += more as u8;
                return Ok(Step { consumed: more, event: None });
            };
            check_start(partial.message, &header, partial.payload.len(), limits)?;
            consumed = head_len - known;
            partial.head_len = 0;
            partial.frame = Some(header);
            partial.frame_read = 0;
            if !header.opcode.is_control() {
                partial.fragments += 1;
                if partial.fragments > limits.fragments_max {
                    return Err(Fault {
                        code: CloseCode::TOO_BIG,
                        reason: "The message has too many fragments.",
                    });
                }
                partial.message.get_or_insert(header.opcode);
            }
        }
        let header = partial.frame.expect("read above or before");
        let left = header.payload_len as usize - partial.frame_read;
        let end = consumed + left.min(input.len() - consumed);
        let payload = &mut input[consumed..end];
        mask::apply(payload, header.key, partial.frame_read);
        partial.frame_read += payload.len();
        let frame_complete = partial.frame_read as u64 == header.payload_len;
        if header.opcode.is_control() {
            partial.control.extend_from_slice(payload);
            if !frame_complete {
                return Ok(Step { consumed: end, event: None });
            }
            partial.frame = None;
            self.state = if header.opcode == Opcode::Close { State::Closed } else { State::DeliveredControl };
            return Ok(Step { consumed: end, event: Some(event(header.opcode, &partial.control)?) });
        }
        if partial.message == Some(Opcode::Text) {
            partial.utf8.feed(payload).map_err(|_| Fault::utf8())?;
        }
        partial.payload.extend_from_slice(payload);
        if frame_complete {
            partial.frame = None;
        }
        if !(frame_complete && header.fin) {
            return Ok(Step { consumed: end, event: None });
        }
        self.state = State::Delivered;
        if partial.message == Some(Opcode::Text) && !partial.utf8.is_complete() {
            return Err(Fault::utf8());
        }
        let opcode = partial.message.expect("set at its first frame");
        Ok(Step { consumed: end, event: Some(event(opcode, &partial.payload)?) })
    }
}

/// Whether a frame may start here, and its message stay within the limit.
fn check_start(
    message: Option<Opcode>,
    header: &Header,
    so_far: usize,
    limits: &DecoderLimits,
) -> Result<(), Fault> {
    match header.opcode {
        control if control.is_control() => return Ok(()),
        Opcode::Continuation if message.is_none() => {
            return Err(Fault::protocol("A continuation frame continues nothing."));
        }
        Opcode::Continuation => {}
        _ if message.is_some() => return Err(Fault::protocol("A message starts inside another.")),
        _ => {}
    }
    // The frame's own length first: the sum could overflow.
    let max = limits.message_bytes_max as u64;
    if header.payload_len > max || so_far as u64 + header.payload_len > max {
        return Err(Fault::too_big());
    }
    Ok(())
}

fn event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, Fault> {
    Ok(match opcode {
        Opcode::Text => Event::Text(simdutf8::basic::from_utf8(payload).map_err(|_| Fault::utf8())?),
        Opcode::Binary => Event::Binary(payload),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Close => close(payload)?,
        Opcode::Continuation => unreachable!("a message has the type of its first frame"),
    })
}

fn close(payload: &[u8]) -> Result<Event<'_>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        if payload.is_empty() {
            return Ok(Event::Close { code: None, reason: "" });
        }
        return Err(Fault::protocol("A close frame has half a code."));
    };
    let code = CloseCode::from_wire(u16::from_be_bytes(*code));
    let code = code.ok_or(Fault::protocol("A close frame has a code that must not be sent."))?;
    let reason = std::str::from_utf8(reason).map_err(|_| Fault::utf8())?;
    Ok(Event::Close { code: Some(code), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: DecoderLimits = DecoderLimits { message_bytes_max: 1 << 20, fragments_max: 100 };

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Owned {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<u16>, String),
    }

    impl From<Event<'_>> for Owned {
        fn from(event: Event<'_>) -> Self {
            match event {
                Event::Text(text) => Self::Text(text.into()),
                Event::Binary(bytes) => Self::Binary(bytes.into()),
                Event::Ping(bytes) => Self::Ping(bytes.into()),
                Event::Pong(bytes) => Self::Pong(bytes.into()),
                Event::Close { code, reason } => Self::Close(code.map(CloseCode::get), reason.into()),
            }
        }
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            n @ 0..126 => out.push(0x80 | n as u8),
            n @ 126..65_536 => {
                out.push(0xfe);
                out.extend((n as u16).to_be_bytes());
            }
            n => {
                out.push(0xff);
                out.extend((n as u64).to_be_bytes());
            }
        }
        out.extend([1, 2, 3, 4]);
        let start = out.len();
        out.extend(payload);
        mask::apply(&mut out[start..], [1, 2, 3, 4], 0);
        out
    }

    /// Everything said, or the fault, when the bytes arrive in pieces of these sizes.
    fn read(bytes: &[u8], mut cuts: impl Iterator<Item = usize>) -> (Vec<Owned>, Option<u16>) {
        let (mut decoder, mut events) = (Decoder::new(), Vec::new());
        let mut rest = bytes.to_vec();
        while !rest.is_empty() {
            let n = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
            let mut piece: Vec<u8> = rest.drain(..n).collect();
            let mut at = 0;
            while at < piece.len() {
                match decoder.next(&mut piece[at..], &LIMITS) {
                    Ok(step) => {
                        assert!(step.consumed > 0, "every call gets on");
                        at += step.consumed;
                        events.extend(step.event.map(Owned::from));
                    }
                    Err(fault) => return (events, Some(fault.code.get())),
                }
            }
        }
        (events, None)
    }

    fn whole(bytes: &[u8]) -> (Vec<Owned>, Option<u16>) {
        let result = read(bytes, std::iter::empty());
        assert_eq!(read(bytes, std::iter::repeat(1)), result, "byte by byte it is the same");
        result
    }

    #[test]
    fn fragments_are_joined_around_control_frames() {
        let bytes = [
            frame(0x01, b"a\xe2"),
            frame(0x89, b"hi"),
            frame(0x00, b"\x82"),
            frame(0x80, b"\xacb"),
            frame(0x82, b"z"),
        ]
        .concat();
        let said = [Owned::Ping(b"hi".into()), Owned::Text("a\u{20ac}b".into()), Owned::Binary(b"z".into())];
        assert_eq!(whole(&bytes), (said.into(), None));
    }

    #[test]
    fn order_of_frames_is_checked() {
        assert_eq!(whole(&frame(0x80, b"x")).1, Some(1002), "continues nothing");
        assert_eq!(whole(&[frame(0x01, b"x"), frame(0x81, b"y")].concat()).1, Some(1002), "inside another");
        assert_eq!(whole(&[frame(0x01, b"x"), frame(0x02, b"y")].concat()).1, Some(1002));
    }

    #[test]
    fn close_frames_are_checked_and_end_the_reading() {
        assert_eq!(
            whole(&[frame(0x88, b""), frame(0x81, b"x")].concat()),
            (vec![Owned::Close(None, "".into())], None)
        );
        assert_eq!(whole(&frame(0x88, b"\x03\xe8bye")), (vec![Owned::Close(Some(1000), "bye".into())], None));
        for (payload, code) in [
            (&b"\x03"[..], 1002),
            (b"\x03\xed", 1002),
            (b"\x03\xec", 1002),
            (b"\x00\x00", 1002),
            (b"\x03\xe8\xff", 1007),
        ] {
            assert_eq!(whole(&frame(0x88, payload)).1, Some(code), "{payload:x?}");
        }
    }

    #[test]
    fn text_fails_at_the_offending_byte_before_the_frame_is_complete() {
        let bytes = frame(0x81, b"ok\xf4\x90xxxxxxxx");
        let mut decoder = Decoder::new();
        let mut head = bytes[..bytes.len() - 8].to_vec();
        let mut at = 0;
        let fault = loop {
            match decoder.next(&mut head[at..], &LIMITS) {
                Ok(step) => at += step.consumed,
                Err(fault) => break fault,
            }
            assert!(at < head.len(), "the bad byte was there");
        };
        assert_eq!(fault.code, CloseCode::INVALID_PAYLOAD);
        assert_eq!(whole(&frame(0x81, b"cut\xe2\x82")).1, Some(1007), "ends inside a character");
    }

    #[test]
    fn a_message_over_the_limit_fails_at_the_header_and_allocates_nothing() {
        let mut header = vec![0x82, 0xff];
        header.extend((1u64 << 62).to_be_bytes());
        header.extend([0; 4]);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut header, &LIMITS).unwrap_err().code, CloseCode::TOO_BIG);
        assert!(decoder.partial.is_none_or(|partial| partial.payload.capacity() == 0));
        let half = vec![b'x'; (1 << 19) + 1];
        assert_eq!(
            read(&[frame(0x02, &half), frame(0x80, &half)].concat(), std::iter::empty()).1,
            Some(1009),
            "the sum counts"
        );
        assert_eq!(read(&frame(0x00, b"").repeat(3), std::iter::empty()).1, Some(1002));
        let many = [frame(0x02, b""), frame(0x00, b"").repeat(100)].concat();
        assert_eq!(read(&many, std::iter::empty()).1, Some(1009), "too many fragments");
    }

    #[test]
    fn an_idle_decoder_owns_nothing() {
        assert!(size_of::<Decoder>() <= 16);
        let mut decoder = Decoder::new();
        let bytes = [frame(0x01, b"ab"), frame(0x80, b"c"), frame(0x82, b"d")].concat();
        for mut byte in bytes {
            decoder.next(std::slice::from_mut(&mut byte), &LIMITS).unwrap();
        }
        decoder.next(&mut [], &LIMITS).unwrap();
        decoder.next(&mut frame(0x82, b"e"), &LIMITS).unwrap();
        assert!(decoder.partial.is_none());
    }

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let one = (
            prop_oneof![Just(0x81u8), Just(0x82), Just(0x01), Just(0x00), Just(0x80), Just(0x89), Just(0x8a)],
            prop::collection::vec(0x20u8..0x7f, 0..140),
        );
        prop::collection::vec(one, 0..12).prop_map(|frames| {
            frames
                .into_iter()
                .flat_map(|(first, payload)| {
                    frame(first, &payload[..payload.len().min(if first & 8 != 0 { 125 } else { 200 })])
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn any_split_says_the_same(bytes in frames(), cuts in prop::collection::vec(1usize..50, 0..40)) {
            let expected = read(&bytes, std::iter::repeat(1));
            prop_assert_eq!(read(&bytes, cuts.into_iter()), expected.clone());
            prop_assert_eq!(read(&bytes, std::iter::empty()), expected);
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(1usize..50, 0..40)) {
            prop_assert_eq!(read(&bytes, cuts.into_iter()), read(&bytes, std::iter::repeat(1)));
        }
    }
}
