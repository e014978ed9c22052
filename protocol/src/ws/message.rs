//! Bytes → messages: fragments joined, control frames in between (RFC 6455 §5.4, §5.5).
//!
//! What must stay true:
//!
//! - Events and faults are the same for every split of the input; only how early text is found not to be
//!   UTF-8 may differ, and then it is earlier.
//! - A frame that lies whole in the input is handed out from there, nothing is copied.
//! - Memory follows the bytes that arrived, never the length a header announces; it is bounded by
//!   [`DecoderLimits::message_bytes_max`], which is checked at the header.
//! - Time is linear in the bytes, empty fragments included.
//! - A deflated message is inflated when it is whole, by an [`Inflater`] that all connections share, and only as far
//!   as the limit goes. Until then there is no more of it than arrived.

use super::CloseCode;
use super::close::write_close;
use super::deflate::Inflater;
use super::frame::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode};
use super::mask::unmask;
use super::utf8::{InvalidUtf8, Utf8Reader};

/// Bounds of what a peer may send.
#[derive(Debug, Clone, Copy)]
pub struct DecoderLimits {
    /// Largest message after reassembly, in bytes; checked at the frame header, and again while it is inflated.
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
    /// Bytes of the input that are done with; 0 only when the input is empty.
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
    /// Appends the close frame that tells the peer.
    pub fn write_close(&self, out: &mut Vec<u8>) {
        write_close(out, Some(self.code), self.reason);
    }

    pub(super) const fn protocol(reason: &'static str) -> Self {
        Self { code: CloseCode::PROTOCOL_ERROR, reason }
    }

    const fn too_big(reason: &'static str) -> Self {
        Self { code: CloseCode::TOO_BIG, reason }
    }
}

impl From<InvalidUtf8> for Fault {
    fn from(_: InvalidUtf8) -> Self {
        Self { code: CloseCode::INVALID_PAYLOAD, reason: "text is not UTF-8" }
    }
}

/// A server's end of one WebSocket connection, fed with bytes in any split.
///
/// Between messages it owns no heap memory; a frame that arrives in parts is collected in a buffer of its
/// own. An event may borrow from that buffer, so it is given back with the next call of [`next`](Self::next),
/// or by [`release`](Self::release): call that when a socket's input is used up. The payload is unmasked in
/// place.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Exists while a frame or a message is unfinished, and while an event borrows from it.
    partial: Option<Box<Partial>>,
    /// After a close frame or a fault nothing is read.
    ended: bool,
    /// permessage-deflate is negotiated.
    deflate: bool,
}

impl Decoder {
    /// A decoder for frames from a client (they must be masked).
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for a client that may deflate its messages (RFC 7692).
    pub fn deflated() -> Self {
        Self { deflate: true, ..Self::default() }
    }

    /// Whether the client may deflate its messages.
    pub fn is_deflated(&self) -> bool {
        self.deflate
    }

    /// Reads up to one event from `input`. Call again with the rest until the input is used up.
    ///
    /// After [`Event::Close`], and after a fault, all input is consumed and ignored.
    ///
    /// # Errors
    ///
    /// [`Fault`] with 1002 for a frame RFC 6455 forbids, 1007 for text that is not UTF-8 (with the offending
    /// byte, inside a frame too), 1009 for a message over the limits, with the header that announces it.
    /// Events before the faulty frame have been returned by earlier calls.
    ///
    /// Deflated messages, where they are legal, are passed over: who wants them calls
    /// [`next_with`](Self::next_with).
    pub fn next<'a>(&'a mut self, input: &'a mut [u8], limits: &DecoderLimits) -> Result<Step<'a>, Fault> {
        self.step(input, limits, None)
    }

    /// The same, inflating deflated messages. What it inflates is the event's until `inflater` is used again.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next); for a deflated message 1007 and 1009 come when it is whole.
    pub fn next_with<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &DecoderLimits,
        inflater: &'a mut Inflater,
    ) -> Result<Step<'a>, Fault> {
        self.step(input, limits, Some(inflater))
    }

    #[inline]
    fn step<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &DecoderLimits,
        inflater: Option<&'a mut Inflater>,
    ) -> Result<Step<'a>, Fault> {
        self.release();
        if self.ended {
            return Ok(Step { consumed: input.len(), event: None });
        }
        let advanced = self.advance(input, limits);
        let Self { partial, ended, .. } = self;
        let step = advanced.and_then(|(consumed, found)| {
            let event = match (found, partial.as_deref()) {
                (Some(Found::InInput { opcode, start, deflated: false }), _) => {
                    Some(frame_event(opcode, &input[start..consumed])?)
                }
                (Some(Found::InInput { opcode, start, deflated: true }), _) => {
                    inflated_event(opcode, &input[start..consumed], limits, inflater)?
                }
                (Some(Found::Control(opcode)), Some(partial)) => {
                    Some(frame_event(opcode, partial.control_payload())?)
                }
                (Some(Found::Message), Some(partial)) => match &partial.message {
                    Some(Message { body: Body::Deflated(opcode, payload), .. }) => {
                        inflated_event(*opcode, payload, limits, inflater)?
                    }
                    _ => partial.message_event(),
                },
                (_, _) => None,
            };
            Ok(Step { consumed, event })
        });
        *ended = matches!(step, Err(_) | Ok(Step { event: Some(Event::Close { .. }), .. }));
        step
    }

    /// Gives back the buffer the last event borrowed from. Nothing is lost: an unfinished message stays.
    #[inline]
    pub fn release(&mut self) {
        if self.partial.is_some() {
            self.release_partial();
        }
    }

    #[inline(never)]
    fn release_partial(&mut self) {
        if let Some(partial) = &mut self.partial {
            partial.drop_handed_out();
            if self.ended || partial.is_empty() {
                self.partial = None;
            }
        }
    }

    /// Memory that is kept for an unfinished message, in bytes: what ending it gives back, whatever its frames have
    /// announced.
    pub fn held_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .and_then(|partial| partial.message.as_ref())
            .map_or(0, |message| message.body.capacity())
    }

    /// Takes bytes until something is found or the input is used up.
    fn advance(&mut self, input: &mut [u8], limits: &DecoderLimits) -> Result<(usize, Option<Found>), Fault> {
        let mut at = 0;
        while at < input.len() {
            if let Some(partial) = &mut self.partial
                && let Some(frame) = partial.frame.take()
            {
                let (taken, found) = partial.take_payload(frame, &mut input[at..])?;
                at += taken;
                if found.is_some() {
                    return Ok((at, found));
                }
                continue;
            }

            let Some((header, key, header_len)) = self.take_header(&input[at..], limits)? else {
                return Ok((input.len(), None));
            };
            at += header_len;
            let whole_in_input = header.payload_len <= (input.len() - at) as u64;
            let stands_alone =
                header.opcode.is_control() || header.fin && header.opcode != Opcode::Continuation;
            if whole_in_input && stands_alone {
                let end = at + header.payload_len as usize;
                unmask(&mut input[at..end], key, 0);
                let Header { opcode, deflated, .. } = header;
                return Ok((end, Some(Found::InInput { opcode, start: at, deflated })));
            }

            let partial = self.partial.get_or_insert_default();
            let frame = partial.begin_frame(header, key);
            // Also with nothing left of the input: an empty fragment may complete a message.
            let (taken, found) = partial.take_payload(frame, &mut input[at..])?;
            at += taken;
            if found.is_some() {
                return Ok((at, found));
            }
        }
        Ok((at, None))
    }

    /// Reads one header from what was kept of it and from `input`, checks it against the message so far, and
    /// says how many bytes of `input` it took. `None`: all of `input` was kept, more is needed.
    #[inline(always)]
    fn take_header(
        &mut self,
        input: &[u8],
        limits: &DecoderLimits,
    ) -> Result<Option<(Header, [u8; 4], usize)>, Fault> {
        let partial = self.partial.as_deref();
        if partial.is_none_or(|partial| partial.header_len == 0) {
            let message = partial.and_then(|partial| partial.message.as_ref());
            if let Some((header, key)) = read_header(input, message, limits, self.deflate)? {
                return Ok(Some((header, key, header.len_with_key())));
            }
        }
        self.take_cut_header(input, limits)
    }

    /// The same of a header that is cut by the end of a receive.
    #[cold]
    #[inline(never)]
    fn take_cut_header(
        &mut self,
        input: &[u8],
        limits: &DecoderLimits,
    ) -> Result<Option<(Header, [u8; 4], usize)>, Fault> {
        let partial = self.partial.get_or_insert_default();
        let kept_len = usize::from(partial.header_len);
        let copied = input.len().min(HEADER_BYTES_MAX - kept_len);
        let len = kept_len + copied;
        partial.header[kept_len..len].copy_from_slice(&input[..copied]);
        match read_header(&partial.header[..len], partial.message.as_ref(), limits, self.deflate)? {
            Some((header, key)) => {
                partial.header_len = 0;
                let taken = header.len_with_key() - kept_len;
                if partial.is_empty() {
                    self.partial = None;
                }
                Ok(Some((header, key, taken)))
            }
            None => {
                partial.header_len = len as u8;
                Ok(None)
            }
        }
    }
}

/// What [`Decoder::advance`] came upon.
enum Found {
    /// A frame that is a whole event; its unmasked payload lies in the input from `start` to what was
    /// consumed.
    InInput { opcode: Opcode, start: usize, deflated: bool },
    /// A control frame collected in [`Partial::control`].
    Control(Opcode),
    /// The message collected in [`Partial::message`].
    Message,
}

/// A whole header with its key, checked; `None` if `bytes` end before it does.
#[inline(always)]
fn read_header(
    bytes: &[u8],
    message: Option<&Message>,
    limits: &DecoderLimits,
    deflate: bool,
) -> Result<Option<(Header, [u8; 4])>, Fault> {
    let Some(header) = Header::parse(bytes, deflate)? else { return Ok(None) };
    if !header.opcode.is_control() {
        check_data_frame(&header, message, limits)?;
    }
    let end = header.len_with_key();
    let key = bytes.get(end - 4..end).and_then(|key| key.first_chunk());
    Ok(key.map(|key| (header, *key)))
}

/// Whether a data frame may follow what came of its message so far, and may be as long as it says.
fn check_data_frame(header: &Header, message: Option<&Message>, limits: &DecoderLimits) -> Result<(), Fault> {
    let (bytes, fragments) = match (header.opcode, message) {
        (Opcode::Continuation, None) => {
            return Err(Fault::protocol("a continuation frame continues nothing"));
        }
        (Opcode::Continuation, Some(message)) => (message.bytes, message.fragments),
        (_, Some(_)) => return Err(Fault::protocol("a new message starts inside a fragmented one")),
        (_, None) => (0, 0),
    };
    if header.payload_len > limits.message_bytes_max.saturating_sub(bytes) as u64 {
        check_deflated_frame(header, message, bytes, limits)?;
    }
    if fragments >= limits.fragments_max {
        return Err(Fault::too_big("the message has too many fragments"));
    }
    Ok(())
}

/// The same of a frame over the limit: a deflated message may be a little longer.
#[cold]
#[inline(never)]
fn check_deflated_frame(
    header: &Header,
    message: Option<&Message>,
    bytes: usize,
    limits: &DecoderLimits,
) -> Result<(), Fault> {
    let is_deflated =
        header.deflated || message.is_some_and(|message| matches!(message.body, Body::Deflated(..)));
    let bytes_max = deflated_bytes_max(limits.message_bytes_max);
    if is_deflated && header.payload_len <= bytes_max.saturating_sub(bytes) as u64 {
        return Ok(());
    }
    Err(Fault::too_big("the message is larger than the limit"))
}

/// The event of a frame that needs no other frame, from its unmasked payload.
#[inline]
fn frame_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, Fault> {
    Ok(match opcode {
        Opcode::Text => Event::Text(simdutf8::basic::from_utf8(payload).map_err(|_| InvalidUtf8)?),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Close => return close_event(payload),
        Opcode::Binary | Opcode::Continuation => Event::Binary(payload),
    })
}

/// Bytes of a payload on the wire that may inflate to a message within the limit: what cannot be made shorter becomes
/// a little longer.
fn deflated_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 1024 + 64)
}

/// The event of a deflated message; none without an inflater.
#[cold]
fn inflated_event<'a>(
    opcode: Opcode,
    payload: &[u8],
    limits: &DecoderLimits,
    inflater: Option<&'a mut Inflater>,
) -> Result<Option<Event<'a>>, Fault> {
    let Some(inflater) = inflater else { return Ok(None) };
    let message = inflater.inflate(payload, limits.message_bytes_max, opcode == Opcode::Text)?;
    frame_event(opcode, message).map(Some)
}

/// RFC 6455 §5.5.1, §7.4.
fn close_event(payload: &[u8]) -> Result<Event<'_>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close { code: None, reason: "" }),
            _ => Err(Fault::protocol("the body of a close frame is one byte long")),
        };
    };
    let code = CloseCode::from_wire(u16::from_be_bytes(*code))
        .ok_or(Fault::protocol("a close frame has a code that must not be sent"))?;
    let reason = std::str::from_utf8(reason).map_err(|_| Fault {
        code: CloseCode::INVALID_PAYLOAD,
        reason: "the reason of a close frame is not UTF-8",
    })?;
    Ok(Event::Close { code: Some(code), reason })
}

/// What has come of things that are not whole yet.
#[derive(Debug)]
struct Partial {
    /// The first `header_len` bytes of the next frame's header.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// How much of `control` has arrived.
    control_len: u8,
    /// What the last call handed out, to be dropped with the next.
    handed_out: HandedOut,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    message: Option<Message>,
    control: [u8; CONTROL_BYTES_MAX],
}

impl Default for Partial {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            control_len: 0,
            handed_out: HandedOut::Nothing,
            frame: None,
            message: None,
            control: [0; CONTROL_BYTES_MAX],
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum HandedOut {
    Nothing,
    Control,
    Message,
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    key: [u8; 4],
    /// Bytes of the payload already taken.
    taken: usize,
    /// Bytes still to come; bounded by the message limit or by 125.
    remaining: usize,
}

/// A data message that needs more than one look at the input.
#[derive(Debug)]
struct Message {
    body: Body,
    /// Sum of the announced lengths of its frames; within the limit.
    bytes: usize,
    fragments: u32,
}

#[derive(Debug)]
enum Body {
    Text(String, Utf8Reader),
    Binary(Vec<u8>),
    /// The payload of a deflated message of this type.
    Deflated(Opcode, Vec<u8>),
}

impl Body {
    /// Bytes it has room for.
    fn capacity(&self) -> usize {
        match self {
            Self::Text(text, _) => text.capacity(),
            Self::Binary(bytes) | Self::Deflated(_, bytes) => bytes.capacity(),
        }
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none() && self.control_len == 0
    }

    fn drop_handed_out(&mut self) {
        match std::mem::replace(&mut self.handed_out, HandedOut::Nothing) {
            HandedOut::Nothing => {}
            HandedOut::Control => self.control_len = 0,
            HandedOut::Message => self.message = None,
        }
    }

    /// Enters a frame whose header [`check_data_frame`] let pass.
    fn begin_frame(&mut self, header: Header, key: [u8; 4]) -> Frame {
        let len = header.payload_len as usize;
        if !header.opcode.is_control() {
            let message = self.message.get_or_insert_with(|| Message {
                body: match header.opcode {
                    opcode if header.deflated => Body::Deflated(opcode, Vec::new()),
                    Opcode::Text => Body::Text(String::new(), Utf8Reader::default()),
                    _ => Body::Binary(Vec::new()),
                },
                bytes: 0,
                fragments: 0,
            });
            message.bytes += len;
            message.fragments += 1;
        }
        Frame { opcode: header.opcode, fin: header.fin, key, taken: 0, remaining: len }
    }

    /// Takes what `input` has of the frame's payload; says how much that was and what it completed.
    fn take_payload(&mut self, mut frame: Frame, input: &mut [u8]) -> Result<(usize, Option<Found>), Fault> {
        let len = frame.remaining.min(input.len());
        let chunk = &mut input[..len];
        unmask(chunk, frame.key, frame.taken);
        frame.taken += len;
        frame.remaining -= len;
        let whole = frame.remaining == 0;

        if frame.opcode.is_control() {
            self.control[frame.taken - len..frame.taken].copy_from_slice(chunk);
            self.control_len = frame.taken as u8;
            if whole {
                self.handed_out = HandedOut::Control;
                return Ok((len, Some(Found::Control(frame.opcode))));
            }
        } else if let Some(message) = &mut self.message {
            message.append(chunk, frame.fin)?;
            if whole && frame.fin {
                message.finish()?;
                self.handed_out = HandedOut::Message;
                return Ok((len, Some(Found::Message)));
            }
        }
        if !whole {
            self.frame = Some(frame);
        }
        Ok((len, None))
    }

    fn control_payload(&self) -> &[u8] {
        &self.control[..usize::from(self.control_len)]
    }

    fn message_event(&self) -> Option<Event<'_>> {
        self.message.as_ref().and_then(|message| match &message.body {
            Body::Text(text, _) => Some(Event::Text(text)),
            Body::Binary(bytes) => Some(Event::Binary(bytes)),
            Body::Deflated(..) => None,
        })
    }
}

impl Message {
    fn append(&mut self, chunk: &[u8], last_frame: bool) -> Result<(), InvalidUtf8> {
        match &mut self.body {
            Body::Text(text, reader) => {
                // Held-back bytes of a character come on top of the chunk.
                let growth = growth(text.len(), text.capacity(), chunk.len() + 3, self.bytes, last_frame);
                text.reserve_exact(growth);
                reader.append(chunk, text)
            }
            Body::Binary(bytes) | Body::Deflated(_, bytes) => {
                let growth = growth(bytes.len(), bytes.capacity(), chunk.len(), self.bytes, last_frame);
                bytes.reserve_exact(growth);
                bytes.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    fn finish(&self) -> Result<(), InvalidUtf8> {
        match &self.body {
            Body::Text(_, reader) if !reader.is_complete() => Err(InvalidUtf8),
            _ => Ok(()),
        }
    }
}

/// How much to reserve for `needed` more bytes: doubling, so that time stays linear and memory within twice
/// what arrived, and not past the message's end once its last frame has announced it.
fn growth(len: usize, capacity: usize, needed: usize, message_bytes: usize, last_frame: bool) -> usize {
    if capacity - len >= needed {
        return 0;
    }
    let doubled = (2 * capacity).max(len + needed);
    let bound = if last_frame { (message_bytes + 3).max(len + needed) } else { doubled };
    doubled.min(bound) - len
}

#[cfg(test)]
mod tests;
