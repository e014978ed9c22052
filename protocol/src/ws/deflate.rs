//! Payloads of permessage-deflate (RFC 7692 §7.2), one message at a time.
//!
//! Nothing is kept from one message to the next, so one [`Inflater`] and one [`Deflater`] serve all connections
//! of a thread, and idle connections own nothing.
//!
//! A payload is a DEFLATE stream that ends at a byte, in the header of an empty stored block whose four bytes of
//! length are left off. So a payload can be gone on with: those four bytes say how much follows as it is
//! ([`write_stored_tail`]). Receivers that differ in a message's last bytes only share what was deflated before
//! them.

use super::CloseCode;
use super::extension::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use super::message::Fault;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes an idle inflater keeps for what it inflates, besides its window.
pub const INFLATER_BYTES_KEPT: usize = 64 << 10;
/// Final blocks in one message, each of which may be followed by another stream (RFC 7692 §7.2.3.5): starting anew
/// costs more than the two bytes of such a block pay for. A message with more of them is refused with 1007.
pub const FINAL_BLOCKS_MAX: usize = 64;

/// How hard the deflater tries: bytes on the wire against time of the core. Measured on JSON: of 2 KiB level
/// 1 leaves 50 % in 8 µs, 2 leaves 38 % in 18, 6 leaves 35 % in 22; of 16 KiB 41 % in 49, 31 % in 117, 27 % in 255.
const LEVEL: u32 = 2;
/// What a sender left off, and a last block that is final: only where a whole stream came before it does
/// inflating end there.
const TAIL: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// Makes payloads. Empty until first used; then some 300 KB for each size of windows in use.
#[derive(Default)]
pub struct Deflater {
    /// By window.
    streams: [Option<Box<Compress>>; (WINDOW_BITS_MAX - WINDOW_BITS_MIN) as usize + 1],
}

impl Deflater {
    /// Appends the payload of a message, made with a window of 2^`window_bits` bytes (9 to 15). False, with nothing
    /// appended, if it would not be shorter than the message.
    pub fn deflate(&mut self, out: &mut Vec<u8>, message: &[u8], window_bits: u8) -> bool {
        let index = usize::from(window_bits - WINDOW_BITS_MIN);
        let stream = self.streams[index].get_or_insert_with(|| {
            Box::new(Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits))
        });
        stream.reset();
        let start = out.len();
        // Room for what becomes longer, too: zlib-rs 0.6 keeps what found no room, and where it stood in its buffer,
        // over a reset, and panics some messages later.
        out.reserve(message.len() + message.len() / 8 + LONGER_BYTES);
        let flushed = stream.compress_vec(message, out, FlushCompress::Sync);
        let is_whole = flushed.is_ok()
            && stream.total_in() == message.len() as u64
            && out.len() < out.capacity()
            && out.ends_with(&TAIL[..FLUSH_BYTES]);
        debug_assert!(is_whole || message.is_empty(), "there was room for all of it");
        if !is_whole {
            self.streams[index] = None;
        }
        if !is_whole || out.len() - start >= message.len() + FLUSH_BYTES {
            out.truncate(start);
            return false;
        }
        out.truncate(out.len() - FLUSH_BYTES);
        true
    }
}

/// A message of random bytes takes nine bits for each byte, and besides at most so many bytes.
const LONGER_BYTES: usize = 128;
/// What a flush ends with and a payload leaves off.
const FLUSH_BYTES: usize = 4;

/// Length of the bytes that put `len` more behind a payload.
pub const fn stored_tail_len(len: usize) -> usize {
    2 + 2 + len + 1
}

/// Goes on with a payload: appends what makes it one of the same message with what `write` appends, which must be
/// `len` bytes, at most 65,535.
pub fn write_stored_tail(out: &mut Vec<u8>, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
    write_stored(out, len, write);
    out.push(0);
}

/// Length of the bytes that put `len` before a payload.
pub const fn stored_head_len(len: usize) -> usize {
    1 + 2 + 2 + len
}

/// Begins a payload: what is appended behind this must be the payload of the rest of the message.
pub fn write_stored_head(out: &mut Vec<u8>, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(0);
    write_stored(out, len, write);
}

/// A stored block without its header (RFC 1951 §3.2.4).
fn write_stored(out: &mut Vec<u8>, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let length = u16::try_from(len).expect("stored pieces are short");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    let start = out.len();
    write(out);
    debug_assert_eq!(out.len() - start, len);
}

/// What an inflater did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InflateCounts {
    /// Messages inflated.
    pub messages: u64,
    /// Their bytes as they came.
    pub bytes_in: u64,
    /// Their bytes inflated.
    pub bytes_out: u64,
    /// Messages refused: too large inflated, broken, or text that is not UTF-8.
    pub refused: u64,
}

/// Reads payloads. Empty until first used; then some 50 KB and [`INFLATER_BYTES_KEPT`], and while a message is in
/// use, its bytes.
#[derive(Default)]
pub struct Inflater {
    scratch: Option<Box<Scratch>>,
}

struct Scratch {
    stream: Decompress,
    message: Vec<u8>,
    counts: InflateCounts,
}

impl Inflater {
    /// What it did since this was last asked.
    pub fn take_counts(&mut self) -> InflateCounts {
        self.scratch
            .as_mut()
            .map_or_else(InflateCounts::default, |scratch| std::mem::take(&mut scratch.counts))
    }

    /// Whether it made so many bytes, or more, since [`Inflater::take_counts`].
    pub fn has_inflated(&self, bytes: usize) -> bool {
        self.scratch.as_ref().is_some_and(|scratch| scratch.counts.bytes_out >= bytes as u64)
    }

    /// Gives back the memory of a large message.
    pub fn release(&mut self) {
        if let Some(scratch) = &mut self.scratch
            && scratch.message.capacity() > INFLATER_BYTES_KEPT
        {
            scratch.message = Vec::new();
        }
    }

    /// The message of a payload, whole, in memory of the inflater's own: never more than the message's bound and
    /// [`INFLATER_BYTES_KEPT`], however much the payload would become.
    ///
    /// # Errors
    ///
    /// 1009 over `bytes_max`; 1007 for a payload that is no stream or not a whole one, and, if `is_text`, with the
    /// first piece that shows that it is not UTF-8.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize, is_text: bool) -> Result<&[u8], Fault> {
        self.release();
        let scratch = self.scratch.get_or_insert_with(|| {
            let (stream, message) = (Decompress::new(false), Vec::new());
            Box::new(Scratch { stream, message, counts: InflateCounts::default() })
        });
        let outcome = scratch.inflate(payload, bytes_max, is_text);
        scratch.counts.bytes_in += payload.len() as u64;
        scratch.counts.bytes_out += scratch.message.len() as u64;
        match outcome {
            Ok(()) => {
                scratch.counts.messages += 1;
                Ok(&scratch.message)
            }
            Err(fault) => {
                scratch.counts.refused += 1;
                Err(fault)
            }
        }
    }
}

impl Scratch {
    fn inflate(&mut self, payload: &[u8], bytes_max: usize, is_text: bool) -> Result<(), Fault> {
        let Self { stream, message, .. } = self;
        message.clear();
        stream.reset(false);
        let (mut input, mut in_tail) = (payload, false);
        let (mut valid, mut final_blocks) = (0, 0);
        loop {
            if message.len() == message.capacity() {
                if is_text {
                    valid += whole_text(&message[valid..])?;
                }
                grow(message, bytes_max);
            }
            let taken = stream.total_in();
            let status = stream.decompress_vec(input, message, FlushDecompress::None).map_err(|_| BROKEN)?;
            input = &input[(stream.total_in() - taken) as usize..];
            if message.len() > bytes_max {
                return Err(Fault {
                    code: CloseCode::TOO_BIG,
                    reason: "the message is larger than the limit once inflated",
                });
            }
            match status {
                Status::StreamEnd if in_tail => return if input.is_empty() { Ok(()) } else { Err(BROKEN) },
                // The sender ended its stream for good.
                Status::StreamEnd if input.is_empty() => return Ok(()),
                Status::StreamEnd => {
                    final_blocks += 1;
                    if final_blocks > FINAL_BLOCKS_MAX {
                        return Err(BROKEN);
                    }
                    stream.reset(false);
                }
                Status::Ok | Status::BufError if message.len() == message.capacity() => {}
                Status::Ok | Status::BufError if input.is_empty() && !in_tail => {
                    (input, in_tail) = (&TAIL, true)
                }
                Status::Ok | Status::BufError => return Err(BROKEN),
            }
        }
    }
}

/// Room for more: first what is kept, then all that the message may have, of which the system gives what is
/// written to.
fn grow(message: &mut Vec<u8>, bytes_max: usize) {
    // One byte over the limit shows that it is passed.
    let bytes_max = bytes_max.saturating_add(1);
    let capacity = if message.capacity() == 0 { INFLATER_BYTES_KEPT.min(bytes_max) } else { bytes_max };
    message.reserve_exact(capacity.saturating_sub(message.len()).max(1));
}

/// How many bytes are whole characters; what follows may still become one.
fn whole_text(bytes: &[u8]) -> Result<usize, Fault> {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(_) => Ok(bytes.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(super::utf8::InvalidUtf8.into()),
    }
}

/// What a payload is refused with that does not inflate.
const BROKEN: Fault =
    Fault { code: CloseCode::INVALID_PAYLOAD, reason: "the message is not a whole DEFLATE stream" };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 20;

    fn inflate(payload: &[u8]) -> Result<Vec<u8>, u16> {
        let message = Inflater::default().inflate(payload, LIMIT, false).map(<[u8]>::to_vec);
        message.map_err(|fault| fault.code.get())
    }

    fn deflate(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Deflater::default().deflate(&mut out, message, 15), "{} bytes", message.len());
        out
    }

    #[test]
    fn reads_the_examples_of_the_rfc() {
        for (payload, message) in [
            // RFC 7692 §7.2.3.1, 3, 4, 5, 6.
            (&b"\xf2\x48\xcd\xc9\xc9\x07\0"[..], &b"Hello"[..]),
            (b"\0\x05\0\xfa\xffHello\0", b"Hello"),
            (b"\xf3\x48\xcd\xc9\xc9\x07\0\0", b"Hello"),
            (b"\xf2\x48\x05\0\0\0\xff\xff\xca\xc9\xc9\x07\0", b"Hello"),
            (b"\0", b""),
            // A last block that nothing follows.
            (b"\xf3\x48\xcd\xc9\xc9\x07\0", b"Hello"),
        ] {
            assert_eq!(inflate(payload).as_deref(), Ok(message), "{payload:x?}");
        }
        // §7.2.3.2: what refers to an earlier message is legal only where context is taken over.
        assert_eq!(inflate(b"\xf2\0\x11\0\0"), Err(1007));
    }

    #[cfg_attr(miri, ignore = "takes too long there")]
    #[test]
    fn nothing_is_kept_between_messages() {
        let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
        let (text, other) = ("the same text again and again, ".repeat(40), "x".repeat(99_999));
        let mut first = Vec::new();
        assert!(deflater.deflate(&mut first, text.as_bytes(), 15));
        for bits in [15, 9, 15] {
            let mut out = b"before".to_vec();
            assert!(deflater.deflate(&mut out, other.as_bytes(), bits));
            assert_eq!(inflater.inflate(&out[6..], LIMIT, true), Ok(other.as_bytes()));
            out.truncate(6);
            assert!(deflater.deflate(&mut out, text.as_bytes(), 15));
            assert_eq!(out, [b"before", &first[..]].concat());
        }
        assert!(inflater.inflate(&first[1..], LIMIT, true).is_err());
        assert_eq!(inflater.inflate(&first, LIMIT, true), Ok(text.as_bytes()));
    }

    #[cfg_attr(miri, ignore = "takes too long there")]
    #[test]
    fn what_would_not_be_shorter_is_left_alone() {
        let mut noise = 1u32;
        let mut next = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        };
        let mut deflater = Deflater::default();
        let text = "the same text again and again, ".repeat(40);
        // Over and over: a stream that was given up used to panic some messages later.
        for len in [0, 1, 2, 10, 1_000, 100_000, 4_096].repeat(40) {
            let message: Vec<u8> = (0..len).map(|_| next()).collect();
            let mut out = b"before".to_vec();
            assert!(!deflater.deflate(&mut out, &message, 15), "{len} bytes");
            assert_eq!(out, b"before");
            assert!(deflater.deflate(&mut out, text.as_bytes(), 15));
            assert_eq!(inflate(&out[6..]).as_deref(), Ok(text.as_bytes()));
        }
    }

    #[test]
    fn a_payload_can_be_begun_and_gone_on_with() {
        let body = "{\"type\":\"message\",\"data\":\"message message message message\"".repeat(9);
        let payload = deflate(body.as_bytes());
        for len in [0, 1, 30, 65_535] {
            let piece = vec![b'!'; len];
            let mut whole = Vec::new();
            write_stored_head(&mut whole, len, |out| out.extend_from_slice(&piece));
            assert_eq!(whole.len(), stored_head_len(len));
            whole.extend_from_slice(&payload);
            let before = whole.len();
            write_stored_tail(&mut whole, len, |out| out.extend_from_slice(&piece));
            assert_eq!(whole.len() - before, stored_tail_len(len));
            assert!(inflate(&whole).unwrap() == [&piece, body.as_bytes(), &piece].concat(), "{len}");
        }
    }

    #[test]
    fn a_stream_cut_short_is_no_message() {
        let message = "some text that is long enough to become shorter, text that is long enough".repeat(3);
        let payload = deflate(message.as_bytes());
        for cut in 0..payload.len() {
            assert_eq!(inflate(&payload[..cut]), Err(1007), "cut at {cut} of {}", payload.len());
        }
        let mut longer = payload.clone();
        longer.extend_from_slice(b"rubbish");
        assert_eq!(inflate(&longer), Err(1007));
    }

    /// Check 23 of the reliability bar: 1,000 MiB of zeros in 1 MB.
    #[cfg_attr(miri, ignore = "takes too long there")]
    #[test]
    fn a_bomb_is_inflated_no_further_than_the_limit() {
        let mebibyte = deflate(&vec![0; 1 << 20]);
        let mut bomb = Vec::new();
        for _ in 0..1_000 {
            bomb.extend_from_slice(&mebibyte);
            bomb.extend_from_slice(&TAIL[..FLUSH_BYTES]);
        }
        bomb.push(0);
        let mut inflater = Inflater::default();
        for limit in [LIMIT, 1_000, 0] {
            let fault = inflater.inflate(&bomb, limit, false).expect_err("over the limit");
            assert_eq!(fault.code, CloseCode::TOO_BIG);
            let held = inflater.scratch.as_ref().unwrap().message.capacity();
            assert!(held <= (limit + 1).max(INFLATER_BYTES_KEPT), "{held} bytes for a limit of {limit}");
            let counts = inflater.take_counts();
            assert_eq!((counts.messages, counts.refused), (0, 1));
            assert!(counts.bytes_out <= limit as u64 + 1 + INFLATER_BYTES_KEPT as u64, "{counts:?}");
            inflater.release();
            assert!(inflater.scratch.as_ref().unwrap().message.capacity() <= INFLATER_BYTES_KEPT);
        }
        // Just within it.
        assert_eq!(inflater.inflate(&mebibyte, LIMIT, true).map(<[u8]>::len), Ok(LIMIT));
        assert_eq!(
            inflater.inflate(&mebibyte, LIMIT - 1, true).map(<[u8]>::len).unwrap_err().code.get(),
            1009
        );
    }

    #[test]
    fn final_blocks_are_bounded() {
        // A final empty block of two bytes, and the empty block that ends a payload.
        let blocks = |count: usize| [b"\x03\0".repeat(count), b"\0".to_vec()].concat();
        assert_eq!(inflate(&blocks(FINAL_BLOCKS_MAX)), Ok(Vec::new()));
        assert_eq!(inflate(&blocks(FINAL_BLOCKS_MAX + 1)), Err(1007));
    }

    #[cfg_attr(miri, ignore = "takes too long there")]
    #[test]
    fn a_bomb_that_is_no_text_ends_at_the_piece_that_shows_it() {
        let mut message = vec![b'a'; 900_000];
        message[10] = 0xff;
        let payload = deflate(&message);
        let mut inflater = Inflater::default();
        let fault = inflater.inflate(&payload, LIMIT, true).expect_err("not UTF-8");
        assert_eq!(fault.code, CloseCode::INVALID_PAYLOAD);
        assert!(inflater.take_counts().bytes_out <= INFLATER_BYTES_KEPT as u64);
        // Characters may lie across pieces.
        let text = "aä€😀".repeat(50_000);
        assert_eq!(inflater.inflate(&deflate(text.as_bytes()), LIMIT, true), Ok(text.as_bytes()));
    }

    /// Miri takes minutes for many.
    const WORDS_MAX: usize = if cfg!(miri) { 70 } else { 3_000 };

    proptest! {
        #[test]
        fn inflates_what_it_deflates(words in prop::collection::vec(0u8..6, 60..WORDS_MAX), bits in 9u8..16) {
            let message: Vec<u8> = words.iter().flat_map(|word| vec![b'a' + word; 1 + *word as usize]).collect();
            let mut out = Vec::new();
            prop_assert!(Deflater::default().deflate(&mut out, &message, bits));
            prop_assert!(out.len() < message.len());
            prop_assert_eq!(inflate(&out), Ok(message));
        }

        #[test]
        fn damage_is_refused_or_read_within_the_limit(
            at in 0usize..400,
            byte: u8,
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut payload = deflate("what is said twice is said twice, what is said".repeat(9).as_bytes());
            let at = at % payload.len();
            payload[at] = byte;
            payload.truncate(at + 1);
            payload.extend(tail);
            match Inflater::default().inflate(&payload, 300, false) {
                Ok(message) => prop_assert!(message.len() <= 300),
                Err(fault) => prop_assert!([1007, 1009].contains(&fault.code.get())),
            }
        }
    }
}
