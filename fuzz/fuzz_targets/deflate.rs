//! permessage-deflate: offers, payloads against another implementation of DEFLATE, and frames in any split.
//!
//! The first byte chooses what the rest is: the value of `Sec-WebSocket-Extensions`, a payload as a client may send
//! it, or a message to be deflated. Bytes 2 and 3 are the limit, or lengths of what stands around the message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ringhub_protocol::http::{HeadLimits, parse_head};
use ringhub_protocol::ws::deflate::{
    FINAL_BLOCKS_MAX, INFLATER_BYTES_KEPT, stored_head_len, stored_tail_len, write_stored_head,
    write_stored_tail,
};
use ringhub_protocol::ws::handshake::{Upgrade, write_accept};
use ringhub_protocol::ws::{
    Decoder, DecoderLimits, DeflateOffer, Deflater, Event, Fault, Inflater, Opcode, frame,
};

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, high, low], rest)) = input.split_first_chunk::<3>() else { return };
    let number = usize::from(high) << 8 | usize::from(low);
    match choice % 3 {
        0 => offers(rest),
        1 => payload(rest, number * 8, usize::from(choice)),
        _ => message(rest, number, 9 + choice / 3 % 7),
    }
});

/// Whatever is offered, the answer is an offer of our own reading.
fn offers(value: &[u8]) {
    let request = [
        &b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: "[..],
        value,
        b"\r\n\r\n",
    ]
    .concat();
    let Ok(Some(head)) = parse_head(&request, &HeadLimits { head_bytes_max: 16 << 10 }) else { return };
    let Upgrade::Upgrade(upgrade) = head.upgrade() else { return };
    for bits in [9, 12, 15] {
        let Some(chosen) = DeflateOffer::choose(&upgrade.deflate, bits) else { continue };
        assert!((bits..=15).contains(&chosen.window_bits()));
        let mut answer = Vec::new();
        write_accept(&mut answer, upgrade.key, None, Some(chosen));
        let answer = std::str::from_utf8(&answer).expect("ASCII");
        let (_, value) = answer.split_once("Sec-WebSocket-Extensions: ").expect("it is answered");
        assert!(
            value.starts_with("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        );
    }
}

/// A payload inflates to what another implementation makes of it, within the limit, whole or in fragments.
fn payload(payload: &[u8], limit: usize, cut: usize) {
    let mut inflater = Inflater::default();
    let ours = inflater.inflate(payload, limit, false).map(<[u8]>::to_vec);
    let counts = inflater.take_counts();
    assert!(counts.bytes_out <= (limit + 1).max(INFLATER_BYTES_KEPT) as u64);
    assert_eq!(
        inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\0", 5, true),
        Ok(&b"Hello"[..]),
        "nothing is left"
    );
    match (&ours, inflate_with_miniz(payload, limit)) {
        (Ok(ours), Theirs::Whole(theirs)) => assert!(*ours == theirs),
        (Err(fault), Theirs::TooLarge) => assert!(matches!(fault.code.get(), 1007 | 1009)),
        (Err(fault), Theirs::Broken) => assert!(matches!(fault.code.get(), 1007 | 1009)),
        (ours, theirs) => panic!("{ours:?} and {theirs:?}"),
    }

    let limits = DecoderLimits { message_bytes_max: limit, fragments_max: 3 };
    let cut = cut.min(payload.len());
    let mut stream = client_frame(0x42, &payload[..cut]);
    stream.extend(client_frame(0x89, b"between"));
    stream.extend(client_frame(0x80, &payload[cut..]));
    let (mut decoder, mut rest) = (Decoder::deflated(), &mut stream[..]);
    let outcome = loop {
        match decoder.next_with(rest, &limits, &mut inflater) {
            Ok(step) => {
                if let Some(Event::Binary(message)) = step.event {
                    break Ok(message.to_vec());
                }
                let consumed = step.consumed;
                rest = &mut rest[consumed..];
                assert!(!rest.is_empty(), "the message is whole");
            }
            Err(fault) => break Err(fault),
        }
    };
    match (ours, outcome) {
        (Ok(ours), Ok(framed)) => assert!(ours == framed),
        // Frames are bounded, too.
        (_, Err(Fault { code, .. })) => assert!(matches!(code.get(), 1007 | 1009)),
        (Err(fault), Ok(_)) => panic!("{fault}"),
    }
}

/// A message comes back as it was, with pieces before and behind it that were never deflated.
fn message(message: &[u8], around: usize, window_bits: u8) {
    let (mut deflated, mut deflater) = (Vec::new(), Deflater::default());
    let is_shorter = deflater.deflate(&mut deflated, message, window_bits);
    // Nothing is left of an earlier message, whatever became of it.
    let (mut again, reversed) = (Vec::new(), message.iter().rev().copied().collect::<Vec<_>>());
    deflater.deflate(&mut again, &reversed, window_bits);
    again.clear();
    assert_eq!(deflater.deflate(&mut again, message, window_bits), is_shorter);
    assert!(again == deflated);
    if !is_shorter {
        assert!(deflated.is_empty());
        return;
    }
    assert!(deflated.len() < message.len());
    let limit = message.len() + 2 * around;
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&deflated, limit, false), Ok(message));
    let Theirs::Whole(theirs) = inflate_with_miniz(&deflated, limit) else { panic!("a whole stream") };
    assert!(theirs == message);

    let mut payload = Vec::new();
    write_stored_head(&mut payload, around, |out| out.resize(out.len() + around, b'<'));
    assert_eq!(payload.len(), stored_head_len(around));
    payload.extend_from_slice(&deflated);
    write_stored_tail(&mut payload, around, |out| out.resize(out.len() + around, b'>'));
    assert_eq!(payload.len(), stored_head_len(around) + deflated.len() + stored_tail_len(around));
    let expected = [&vec![b'<'; around], message, &vec![b'>'; around]].concat();
    assert!(inflater.inflate(&payload, limit, false).is_ok_and(|found| found == expected));
}

#[derive(Debug)]
enum Theirs {
    Whole(Vec<u8>),
    TooLarge,
    Broken,
}

/// RFC 7692 §7.2.2 by miniz_oxide, with our rules for final blocks.
fn inflate_with_miniz(payload: &[u8], limit: usize) -> Theirs {
    let input = [payload, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    let (mut at, mut message) = (0, Vec::new());
    for _ in 0..=FINAL_BLOCKS_MAX {
        // A stream after a final block knows nothing of what came before it.
        let mut out = vec![0; limit + 1 - message.len()];
        let mut stream = Box::new(DecompressorOxide::new());
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, consumed, written) = decompress(&mut stream, &input[at..], &mut out, 0, flags);
        at += consumed;
        message.extend_from_slice(&out[..written]);
        if message.len() > limit {
            return Theirs::TooLarge;
        }
        match status {
            TINFLStatus::Done if at == input.len() || at == payload.len() => return Theirs::Whole(message),
            TINFLStatus::Done if at < payload.len() => {}
            _ => return Theirs::Broken,
        }
    }
    Theirs::Broken
}

fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_frame(&mut bytes, Opcode::Text, payload);
    let header = bytes.len() - payload.len();
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.splice(header..header, [0; 4]);
    bytes
}
