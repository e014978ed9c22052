//! The decoder against `vectors/ws/*.txt` (the format is in the README there), and against itself: however
//! a stream is split, the same events come out.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use ringhub_protocol::ws::{Decoder, DecoderLimits, Event, Fault, Opcode, frame, mask};

/// An event that owns what it says, or the fault that ends the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    Fault(u16),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.as_bytes().to_vec()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close { code, reason } => {
                Self::Close(code.map(|code| code.get()), reason.as_bytes().to_vec())
            }
        }
    }
}

/// Feeds one piece as an engine would and appends what comes out; stops at a fault.
fn feed(
    decoder: &mut Decoder,
    piece: &[u8],
    limits: &DecoderLimits,
    seen: &mut Vec<Seen>,
) -> Result<(), Fault> {
    let mut piece = piece.to_vec();
    let mut at = 0;
    while at < piece.len() {
        let step = decoder.next(&mut piece[at..], limits).inspect_err(|fault| {
            seen.push(Seen::Fault(fault.code.get()));
        })?;
        assert!(step.consumed > 0, "no progress");
        at += step.consumed;
        seen.extend(step.event.map(Seen::from));
    }
    decoder.release();
    Ok(())
}

/// Everything a stream says when it arrives in these pieces.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &DecoderLimits) -> Vec<Seen> {
    let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
    for piece in pieces {
        if feed(&mut decoder, piece, limits, &mut seen).is_err() {
            break;
        }
    }
    seen
}

struct Case {
    name: String,
    limits: DecoderLimits,
    input: Vec<u8>,
    expected: Vec<Seen>,
    fault_after: Option<usize>,
}

impl Case {
    fn run(&self) {
        let name = &self.name;
        let whole = decode([&self.input[..]], &self.limits);
        assert_eq!(whole, self.expected, "{name}, whole");
        for cut in 1..self.input.len() {
            let (left, right) = self.input.split_at(cut);
            assert_eq!(decode([left, right], &self.limits), self.expected, "{name}, cut at {cut}");
        }

        let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
        let failed_at =
            self.input.chunks(1).position(|byte| feed(&mut decoder, byte, &self.limits, &mut seen).is_err());
        assert_eq!(seen, self.expected, "{name}, byte by byte");
        if let Some(after) = self.fault_after {
            assert_eq!(failed_at.map(|at| at + 1), Some(after), "{name}: byte that shows the fault");
            // And the same when all bytes up to it come at once.
            assert_eq!(
                decode([&self.input[..after]], &self.limits),
                self.expected,
                "{name}, up to the fault"
            );
        }
    }
}

#[test]
fn every_vector() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ws");
    let mut case_count = 0;
    for entry in folder.read_dir().expect("the folder of vectors") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            for case in parse_cases(&std::fs::read_to_string(&path).expect("a text file")) {
                case.run();
                case_count += 1;
            }
        }
    }
    assert!(case_count >= 70, "only {case_count} cases were found");
}

fn parse_cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "case" {
            cases.push(Case {
                name: rest.to_owned(),
                limits: DecoderLimits { message_bytes_max: 65_536, fragments_max: 16 },
                input: Vec::new(),
                expected: Vec::new(),
                fault_after: None,
            });
            continue;
        }
        let case = cases.last_mut().expect("a file starts with a case");
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("a number in {line:?}"));
        match word {
            "limits" => {
                let (bytes, fragments) = rest.split_once(' ').expect("two limits");
                case.limits.message_bytes_max = number(bytes);
                case.limits.fragments_max = number(fragments) as u32;
            }
            "in" => case.input.extend(tokens(rest)),
            "text" => case.expected.push(Seen::Text(tokens(rest))),
            "binary" => case.expected.push(Seen::Binary(tokens(rest))),
            "ping" => case.expected.push(Seen::Ping(tokens(rest))),
            "pong" => case.expected.push(Seen::Pong(tokens(rest))),
            "close" if rest.is_empty() => case.expected.push(Seen::Close(None, Vec::new())),
            "close" => {
                let (code, reason) = rest.split_once(' ').expect("code and reason");
                case.expected.push(Seen::Close(Some(number(code) as u16), tokens(reason)));
            }
            "fault" => case.expected.push(Seen::Fault(number(rest) as u16)),
            "after" => case.fault_after = Some(number(rest)),
            _ => panic!("unknown line {line:?}"),
        }
    }
    cases
}

/// `ff00 "text" 61*125` as bytes.
fn tokens(text: &str) -> Vec<u8> {
    text.split_ascii_whitespace()
        .flat_map(|token| {
            let (value, count) = token.split_once('*').unwrap_or((token, "1"));
            let bytes = match value.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"').expect("a closing quote").as_bytes().to_vec(),
                None => (0..value.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&value[at..at + 2], 16).expect("hexadecimal"))
                    .collect(),
            };
            bytes.repeat(count.parse().expect("a count"))
        })
        .collect()
}

/// One frame as a client sends it.
fn client_frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, key: [u8; 4], payload: &[u8]) {
    let start = out.len();
    frame::write_header(out, opcode, payload.len());
    out[start] = opcode as u8 | if fin { 0x80 } else { 0 };
    out[start + 1] |= 0x80;
    out.extend_from_slice(&key);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    mask::unmask(&mut out[payload_start..], key, 0);
}

/// A message cut into frames at `cuts`, with a ping before every continuation when asked.
#[derive(Debug, Clone)]
struct Sent {
    text: Option<String>,
    bytes: Vec<u8>,
    cuts: Vec<usize>,
    key: [u8; 4],
    pings: bool,
}

impl Sent {
    fn write(&self, out: &mut Vec<u8>, expected: &mut Vec<Seen>) {
        let (first, payload) = match &self.text {
            Some(text) => (Opcode::Text, text.as_bytes()),
            None => (Opcode::Binary, &self.bytes[..]),
        };
        let mut ends: Vec<usize> = self.cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(payload.len());
        let mut start = 0;
        for (at, end) in ends.iter().enumerate() {
            let fin = at + 1 == ends.len();
            let opcode = if at == 0 { first } else { Opcode::Continuation };
            if at > 0 && self.pings {
                client_frame(out, true, Opcode::Ping, self.key, b"between");
                expected.push(Seen::Ping(b"between".to_vec()));
            }
            client_frame(out, fin, opcode, self.key, &payload[start..*end]);
            start = *end;
        }
        expected.push(match &self.text {
            Some(text) => Seen::Text(text.clone().into_bytes()),
            None => Seen::Binary(self.bytes.clone()),
        });
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let text = proptest::option::of(proptest::collection::vec(any::<char>(), 0..60));
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let cuts = proptest::collection::vec(any::<usize>(), 0..4);
    (text, bytes, cuts, any::<[u8; 4]>(), any::<bool>()).prop_map(|(text, bytes, cuts, key, pings)| Sent {
        text: text.map(|characters| characters.into_iter().collect()),
        bytes,
        cuts,
        key,
        pings,
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_events_of_the_whole(
        messages in proptest::collection::vec(sent(), 1..5),
        piece_lens in proptest::collection::vec(1_usize..80, 1..8),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for message in &messages {
            message.write(&mut stream, &mut expected);
        }
        prop_assert_eq!(&decode([&stream[..]], &LIMITS), &expected);
        prop_assert_eq!(&decode(stream.chunks(1), &LIMITS), &expected);
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for len in piece_lens.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at(rest.len().min(*len));
            pieces.push(piece);
            rest = tail;
        }
        prop_assert_eq!(&decode(pieces, &LIMITS), &expected);
    }

    #[test]
    fn any_bytes_mean_the_same_in_any_split(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        messages in proptest::collection::vec(sent(), 0..3),
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..3),
        piece_len in 1_usize..40,
    ) {
        // Mutated streams get further than noise does.
        let mut stream = Vec::new();
        for message in &messages {
            message.write(&mut stream, &mut Vec::new());
        }
        stream.extend(bytes);
        for (at, flip) in flips {
            let len = stream.len();
            if let Some(byte) = stream.get_mut(at % len.max(1)) {
                *byte ^= flip;
            }
        }
        // What comes last may come earlier in pieces: unfinished text is refused as soon as it is wrong.
        let whole = decode([&stream[..]], &LIMITS);
        for pieces in [decode(stream.chunks(1), &LIMITS), decode(stream.chunks(piece_len), &LIMITS)] {
            prop_assert_eq!(&pieces, &whole);
        }
    }
}

#[test]
fn a_million_empty_continuations_cost_nothing_but_time() {
    let limits = DecoderLimits { message_bytes_max: 10, fragments_max: u32::MAX };
    let mut stream = Vec::new();
    client_frame(&mut stream, false, Opcode::Binary, [0; 4], b"x");
    let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
    feed(&mut decoder, &stream, &limits, &mut seen).expect("legal");
    let mut empties = Vec::new();
    for _ in 0..1_000 {
        client_frame(&mut empties, false, Opcode::Continuation, [0; 4], b"");
    }
    for _ in 0..1_000 {
        feed(&mut decoder, &empties, &limits, &mut seen).expect("legal");
    }
    stream.clear();
    client_frame(&mut stream, true, Opcode::Continuation, [0; 4], b"y");
    feed(&mut decoder, &stream, &limits, &mut seen).expect("legal");
    assert_eq!(seen, [Seen::Binary(b"xy".to_vec())]);
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 48);
}

#[test]
fn nothing_is_read_after_a_fault() {
    let mut decoder = Decoder::new();
    let fault = decoder.next(&mut [0xff], &LIMITS).expect_err("reserved bits");
    let mut said = String::new();
    write!(said, "{fault}").expect("a string takes everything");
    assert!(said.contains("reserved bit"), "{said}");
    let mut ping = [0x89, 0x80, 0, 0, 0, 0];
    let step = decoder.next(&mut ping, &LIMITS).expect("ignored");
    assert_eq!((step.consumed, step.event), (6, None));
    let mut out = Vec::new();
    fault.write_close(&mut out);
    assert_eq!(out[..4], [0x88, 2 + fault.reason.len() as u8, 0x03, 0xea]);
}

const LIMITS: DecoderLimits = DecoderLimits { message_bytes_max: 65_536, fragments_max: 16 };
