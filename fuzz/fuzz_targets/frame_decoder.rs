//! Bytes as a client's frames: the decoder against itself in other splits, and against tungstenite.
//!
//! The first byte chooses: even, the rest is a stream as it is; odd, it describes messages that are written
//! as a well-formed stream; with its second bit, messages have few fragments at most. Bytes 1 to 4 are the lengths of
//! the pieces the stream is cut into.
//!
//! What we take, tungstenite must take as the same messages. What we refuse it must refuse too, or still wait
//! for the end of the frame; except for what it is known not to check ([`is_known_leniency`]).
//!
//! And what we write it reads, however long we thought it would be.
#![no_main]

use std::io::{self, Read, Write};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use ringhub_protocol::ws::{Decoder, DecoderLimits, Event, Fault, Opcode, frame, mask};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

const MESSAGE_BYTES_MAX: usize = 4096;

/// More than a well-formed stream has.
const FRAGMENTS_MAX: u32 = 5;

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, lens @ ..], rest)) = input.split_first_chunk::<5>() else { return };
    let fragments_max = if choice & 2 == 0 { u32::MAX } else { FRAGMENTS_MAX };
    let limits = DecoderLimits { message_bytes_max: MESSAGE_BYTES_MAX, fragments_max };
    check_written(rest, lens);
    let (stream, sent) = if choice % 2 == 0 {
        (rest.to_vec(), None)
    } else {
        let Ok(messages) = Vec::<Sent>::arbitrary(&mut Unstructured::new(rest)) else { return };
        let (stream, events) = write_stream(&messages);
        (stream, Some(events))
    };

    let pieces = split(&stream, lens);
    let read = decode(&pieces, &limits);
    assert_eq!(read, decode(&[&stream], &limits), "another split");
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read, decode(&bytes, &limits), "byte by byte");
    let (ours, fault) = read;
    if let Some(sent) = &sent {
        assert_eq!((&ours, fault), (sent, None), "a well-formed stream");
    }

    let (mut theirs, refused) = decode_with_tungstenite(&pieces);
    // 1014 (bad gateway) is registered since RFC 6455; tungstenite does not know it and reports 1002.
    if let (Some(Seen::Close(Some(1014), _)), Some(their_close)) = (ours.last(), theirs.last_mut())
        && matches!(their_close, Seen::Close(Some(1002), _))
    {
        their_close.clone_from(&ours[ours.len() - 1]);
    }
    match fault {
        None => {
            assert_eq!(ours, theirs);
            assert!(!refused, "accepted by us alone");
        }
        Some(fault) if is_known_leniency(&fault) => {
            theirs.truncate(ours.len());
            assert_eq!(ours, theirs);
        }
        Some(_) => assert_eq!(ours, theirs, "refused by us alone"),
    }
});

/// What tungstenite takes and RFC 6455 forbids: lengths that are not in their shortest form (§5.2; for a
/// control frame we call every longer form too long), and codes that must not travel (§7.4; it reports those
/// as 1002). And how many fragments a message may have is our own bound.
fn is_known_leniency(fault: &Fault) -> bool {
    ["shortest form", "longer than 125", "too many fragments", "a code that must not be sent"]
        .iter()
        .any(|known| fault.reason.contains(known))
}

/// One frame of ours, with as good a guess at its length as `lens` is.
fn check_written(bytes: &[u8], lens: [u8; 4]) {
    let [times, low, high, _] = lens;
    // Of every form of length.
    let payload = bytes.repeat(if times == u8::MAX { 70_000 / bytes.len().max(1) } else { 1 });
    let guess = usize::from(u16::from_le_bytes([low, high])) * if times % 2 == 0 { 1 } else { 2 };
    let (mut known, mut guessed) = (Vec::new(), Vec::new());
    frame::write_frame(&mut known, Opcode::Binary, &payload);
    frame::write_frame_with(&mut guessed, Opcode::Binary, guess, |out| out.extend_from_slice(&payload));
    assert!(known == guessed, "a guess of {guess} for {} bytes", payload.len());
    assert_eq!(known.len(), frame::header_len(payload.len()) + payload.len());
    let pieces: Vec<_> = known.chunks(256).collect();
    let read = WebSocket::from_raw_socket(Pieces(pieces.iter()), Role::Client, None).read();
    assert!(matches!(read, Ok(Message::Binary(read)) if read == payload), "{} bytes", payload.len());
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

fn decode(pieces: &[&[u8]], limits: &DecoderLimits) -> (Vec<Seen>, Option<Fault>) {
    let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        while at < piece.len() {
            match decoder.next(&mut piece[at..], limits) {
                Ok(step) => {
                    assert!(step.consumed > 0, "no progress");
                    at += step.consumed;
                    seen.extend(step.event.map(|event| match event {
                        Event::Text(text) => Seen::Text(text.as_bytes().to_vec()),
                        Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                        Event::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                        Event::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                        Event::Close { code, reason } => {
                            Seen::Close(code.map(|code| code.get()), reason.as_bytes().to_vec())
                        }
                    }));
                }
                Err(fault) => return (seen, Some(fault)),
            }
        }
        decoder.release();
    }
    (seen, None)
}

/// The messages, and whether it refused the stream rather than waiting for more of it.
fn decode_with_tungstenite(pieces: &[&[u8]]) -> (Vec<Seen>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Pieces(pieces.iter()), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => seen.push(Seen::Text(text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => seen.push(Seen::Binary(bytes.to_vec())),
            Ok(Message::Ping(bytes)) => seen.push(Seen::Ping(bytes.to_vec())),
            Ok(Message::Pong(bytes)) => seen.push(Seen::Pong(bytes.to_vec())),
            Ok(Message::Close(close)) => {
                let (code, reason) = match close {
                    Some(close) => (Some(close.code.into()), close.reason.as_bytes().to_vec()),
                    None => (None, Vec::new()),
                };
                seen.push(Seen::Close(code, reason));
                return (seen, false);
            }
            Ok(Message::Frame(_)) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return (seen, false),
            Err(_) => return (seen, true),
        }
    }
}

/// A socket that receives these pieces, then nothing more, and takes whatever is written.
struct Pieces<'a>(std::slice::Iter<'a, &'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.next().ok_or(io::ErrorKind::WouldBlock)?;
        // Pieces are at most 256 bytes, less than any reader asks for.
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn split(stream: &[u8], lens: [u8; 4]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = stream;
    for len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at(rest.len().min(usize::from(*len) + 1));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[derive(Debug, Arbitrary)]
struct Sent<'a> {
    body: Body<'a>,
    key: [u8; 4],
    cuts: [u16; 3],
    cut_count: u8,
    ping: Option<u8>,
}

#[derive(Debug, Arbitrary)]
enum Body<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

fn write_stream(messages: &[Sent<'_>]) -> (Vec<u8>, Vec<Seen>) {
    let (mut stream, mut events) = (Vec::new(), Vec::new());
    for message in messages {
        let (first, payload) = match message.body {
            Body::Text(text) => (Opcode::Text, text.as_bytes()),
            Body::Binary(bytes) => (Opcode::Binary, bytes),
        };
        if payload.len() > MESSAGE_BYTES_MAX {
            continue;
        }
        let cuts = &message.cuts[..usize::from(message.cut_count % 4)];
        let mut ends: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (payload.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(payload.len());
        let mut start = 0;
        for (at, end) in ends.iter().enumerate() {
            let opcode = if at == 0 { first } else { Opcode::Continuation };
            if let (Some(ping_len), 1..) = (message.ping, at) {
                let ping = vec![b'p'; usize::from(ping_len % 126)];
                write_frame(&mut stream, true, Opcode::Ping, message.key, &ping);
                events.push(Seen::Ping(ping));
            }
            write_frame(&mut stream, at + 1 == ends.len(), opcode, message.key, &payload[start..*end]);
            start = *end;
        }
        events.push(match message.body {
            Body::Text(text) => Seen::Text(text.as_bytes().to_vec()),
            Body::Binary(bytes) => Seen::Binary(bytes.to_vec()),
        });
    }
    (stream, events)
}

/// One frame as a client sends it.
fn write_frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, key: [u8; 4], payload: &[u8]) {
    let start = out.len();
    frame::write_header(out, opcode, payload.len());
    out[start] = opcode as u8 | if fin { 0x80 } else { 0 };
    out[start + 1] |= 0x80;
    out.extend_from_slice(&key);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    mask::unmask(&mut out[payload_start..], key, 0);
}
