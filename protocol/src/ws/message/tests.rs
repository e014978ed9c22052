use super::*;

const LIMITS: DecoderLimits = DecoderLimits { message_bytes_max: 1 << 30, fragments_max: 1 << 20 };

/// Heap bytes of the message being collected; `None` when the decoder owns no heap at all.
fn collected_capacity(decoder: &Decoder) -> Option<usize> {
    decoder.partial.is_some().then(|| decoder.held_bytes())
}

#[test]
fn a_frame_whole_in_the_input_is_handed_out_from_there() {
    let mut decoder = Decoder::new();
    let mut input = *b"\x81\x82\x01\x01\x01\x01ih\x82\x80\0\0\0\0";
    let range = input.as_ptr_range();
    let step = decoder.next(&mut input, &LIMITS).expect("legal");
    assert_eq!(step.consumed, 8);
    match step.event {
        Some(Event::Text(text)) => {
            assert_eq!(text, "hi");
            assert!(range.contains(&text.as_ptr()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(collected_capacity(&decoder), None);
}

#[test]
fn between_messages_nothing_is_owned() {
    let mut decoder = Decoder::new();
    for (pieces, expected) in [
        ([&b"\x82"[..], b"\x82\0\0\0\0xy"], Event::Binary(b"xy")),
        ([b"\x82\x82\0\0\0\0x", b"y"], Event::Binary(b"xy")),
        ([b"\x02\x81\0\0\0\0x", b"\x80\x81\0\0\0\0y"], Event::Binary(b"xy")),
        ([b"\x89\x82\0\0\0\0x", b"y"], Event::Ping(b"xy")),
        ([b"\x8a\x80\0\0\0", b"\0"], Event::Pong(b"")),
    ] {
        let [mut first, mut second] = pieces.map(<[u8]>::to_vec);
        assert_eq!(decoder.next(&mut first, &LIMITS).expect("legal").event, None);
        assert!(collected_capacity(&decoder).is_some());
        let second_len = second.len();
        let step = decoder.next(&mut second, &LIMITS).expect("legal");
        assert_eq!((step.consumed, step.event), (second_len, Some(expected)));
        decoder.release();
        assert_eq!(collected_capacity(&decoder), None);
    }
}

#[test]
fn the_next_call_releases_too_and_keeps_what_is_unfinished() {
    let mut decoder = Decoder::new();
    let mut fragment = *b"\x01\x81\0\0\0\0x\x89\x81\0\0\0\0";
    assert_eq!(decoder.next(&mut fragment, &LIMITS).expect("legal").event, None);
    let mut rest = *b"p\x80\x81\0\0\0\0y";
    let step = decoder.next(&mut rest, &LIMITS).expect("legal");
    assert_eq!((step.consumed, step.event), (1, Some(Event::Ping(b"p"))));
    let step = decoder.next(&mut rest[1..], &LIMITS).expect("legal");
    assert_eq!((step.consumed, step.event), (7, Some(Event::Text("xy"))));
    let step = decoder.next(&mut [], &LIMITS).expect("nothing to read");
    assert_eq!((step.consumed, step.event), (0, None));
    assert_eq!(collected_capacity(&decoder), None);
}

#[test]
fn an_announced_length_allocates_nothing() {
    let mut decoder = Decoder::new();
    let mut header = *b"\x82\xff\x40\0\0\0\0\0\0\0";
    let fault = decoder.next(&mut header, &LIMITS).expect_err("over the limit");
    assert_eq!(fault.code, CloseCode::TOO_BIG);
    assert_eq!(collected_capacity(&decoder), None);

    // Within the limit, memory follows what arrives.
    for opcode in [0x81, 0x82, 0x01, 0x02] {
        let mut decoder = Decoder::new();
        let mut header = *b"\x82\xff\0\0\0\0\x20\0\0\0\0\0\0\0";
        header[0] = opcode;
        decoder.next(&mut header, &LIMITS).expect("within the limit");
        assert!(collected_capacity(&decoder).expect("a frame is open") <= 8);
        let mut received = 0;
        for _ in 0..if cfg!(miri) { 20 } else { 1_000 } {
            decoder.next(&mut [b'x'; 100], &LIMITS).expect("text");
            received += 100;
            let capacity = collected_capacity(&decoder).expect("a frame is open");
            assert!(capacity <= 2 * received + 8, "{capacity} for {received} bytes");
        }
    }
}

/// A client that had announced a megabyte and sent a byte of it was closed first for want of memory, and nothing
/// was free.
#[test]
fn what_is_held_is_what_came_and_not_what_was_announced() {
    // Unmasking more takes long under Miri.
    let came = if cfg!(miri) { 6 << 10 } else { 60 << 10 };
    for first in [0x81, 0x82, 0xc1] {
        let mut decoder = Decoder::deflated();
        // A megabyte, masked by zeros, and the first byte.
        let mut head = [first, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, b'x'];
        decoder.next(&mut head, &LIMITS).expect("legal");
        assert!((1..=8).contains(&decoder.held_bytes()), "{}", decoder.held_bytes());
        decoder.next(&mut vec![b'x'; came], &LIMITS).expect("legal");
        assert!((came..=2 * came).contains(&decoder.held_bytes()), "{}", decoder.held_bytes());
    }
}

#[test]
fn the_last_frame_bounds_the_buffer() {
    let mut decoder = Decoder::new();
    decoder.next(&mut b"\x82\xfe\x10\x00\0\0\0\0".to_vec(), &LIMITS).expect("legal");
    for _ in 0..4_095 {
        decoder.next(&mut [b'x'], &LIMITS).expect("legal");
    }
    assert!(collected_capacity(&decoder).expect("a frame is open") <= 4_099);
    match decoder.next(&mut [b'y'], &LIMITS).expect("legal").event {
        Some(Event::Binary(bytes)) => assert_eq!((bytes.len(), bytes[4_095]), (4_096, b'y')),
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_a_fault_the_buffer_is_given_back() {
    let mut decoder = Decoder::new();
    decoder.next(&mut b"\x81\x85\0\0\0\0ab".to_vec(), &LIMITS).expect("legal");
    let fault = decoder.next(&mut [0xff], &LIMITS).expect_err("not UTF-8");
    assert_eq!(fault.code, CloseCode::INVALID_PAYLOAD);
    decoder.release();
    assert_eq!(collected_capacity(&decoder), None);
}

/// A client's frame; `first` is its first byte.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    crate::ws::frame::write_frame(&mut frame, Opcode::Text, payload);
    let header_len = frame.len() - payload.len();
    frame[0] = first;
    frame[1] |= 0x80;
    frame.splice(header_len..header_len, [7, 0, 9, 1]);
    unmask(&mut frame[header_len + 4..], [7, 0, 9, 1], 0);
    frame
}

/// What a decoder of deflated messages makes of input in pieces of `piece` bytes.
fn told_deflated(input: &[u8], piece: usize) -> (Vec<String>, Option<u16>) {
    let (mut decoder, mut inflater) = (Decoder::deflated(), Inflater::default());
    let mut told = Vec::new();
    for chunk in input.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let mut rest = &mut chunk[..];
        while !rest.is_empty() {
            match decoder.next_with(rest, &LIMITS, &mut inflater) {
                Ok(step) => {
                    told.extend(step.event.map(|event| format!("{event:?}")));
                    let consumed = step.consumed;
                    rest = &mut rest[consumed..];
                }
                Err(fault) => return (told, Some(fault.code.get())),
            }
        }
        decoder.release();
    }
    assert!(decoder.partial.is_none(), "an idle decoder owns nothing");
    (told, None)
}

#[test]
fn deflated_messages_are_the_same_for_every_split() {
    // RFC 7692 §7.2.3.1, whole and in fragments with a ping between them, and a plain message.
    let mut input = client_frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\0");
    input.extend(client_frame(0x42, b"\xf2\x48\xcd"));
    input.extend(client_frame(0x89, b"p"));
    input.extend(client_frame(0x00, b""));
    input.extend(client_frame(0x80, b"\xc9\xc9\x07\0"));
    input.extend(client_frame(0x81, b"plain"));
    input.extend(client_frame(0xc1, b"\0"));
    let expected = [
        "Text(\"Hello\")",
        "Ping([112])",
        "Binary([72, 101, 108, 108, 111])",
        "Text(\"plain\")",
        "Text(\"\")",
    ];
    for piece in 1..=input.len() {
        assert_eq!(told_deflated(&input, piece), (expected.map(str::to_owned).to_vec(), None), "{piece}");
    }
}

#[test]
fn a_mark_of_deflate_needs_to_be_negotiated_and_at_the_start() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\0";
    let fault = Decoder::new().next(&mut client_frame(0xc1, hello), &LIMITS).expect_err("not negotiated");
    assert_eq!(fault.code, CloseCode::PROTOCOL_ERROR);
    for first in [0xc9, 0xc8, 0xca, 0xe1, 0xd1] {
        assert_eq!(told_deflated(&client_frame(first, b""), 99), (Vec::new(), Some(1002)), "{first:x}");
    }
    for continuation in [0xc0, 0x40] {
        let mut input = client_frame(0x41, &hello[..3]);
        input.extend(client_frame(continuation, &hello[3..]));
        assert_eq!(told_deflated(&input, 99), (Vec::new(), Some(1002)));
    }
    // A plain message may not be gone on with as a deflated one.
    let mut input = client_frame(0x01, b"a");
    input.extend(client_frame(0xc0, hello));
    assert_eq!(told_deflated(&input, 99), (Vec::new(), Some(1002)));
}

#[test]
fn deflated_text_that_is_none_and_broken_streams_are_1007() {
    for payload in [&b"\0\x02\0\xfd\xff\xc3\x28\0"[..], b"\xff", b"", b"\xf2\x48\xcd"] {
        assert_eq!(told_deflated(&client_frame(0xc1, payload), 99), (Vec::new(), Some(1007)), "{payload:x?}");
    }
    let binary = client_frame(0xc2, b"\0\x02\0\xfd\xff\xc3\x28\0");
    assert_eq!(told_deflated(&binary, 99), (vec!["Binary([195, 40])".to_owned()], None));
}

#[test]
fn a_deflated_message_is_bounded_on_the_wire_and_inflated() {
    let limits = DecoderLimits { message_bytes_max: 1_000, fragments_max: 10 };
    let next = |input: &mut [u8]| {
        let (mut decoder, mut inflater) = (Decoder::deflated(), Inflater::default());
        decoder.next_with(input, &limits, &mut inflater).map(|step| {
            step.event.map(|event| match event {
                Event::Binary(bytes) => bytes.len(),
                other => panic!("{other:?}"),
            })
        })
    };
    let payload = |len: usize| {
        let mut payload = Vec::new();
        assert!(crate::ws::Deflater::default().deflate(&mut payload, &vec![0; len], 15));
        payload
    };
    assert_eq!(next(&mut client_frame(0xc2, &payload(1_000))), Ok(Some(1_000)));
    let fault = next(&mut client_frame(0xc2, &payload(1_001))).expect_err("too large");
    assert_eq!(fault.code, CloseCode::TOO_BIG);
    // What cannot be made shorter is a little longer than the message.
    let stored = [&b"\0\xe8\x03\x17\xfc"[..], &[1; 1_000], b"\0"].concat();
    assert_eq!(next(&mut client_frame(0xc2, &stored)), Ok(Some(1_000)));
    // With the header, before any of it arrives.
    let mut header = client_frame(0xc2, &[0; 1_065])[..8].to_vec();
    assert_eq!(next(&mut header).expect_err("too large").code, CloseCode::TOO_BIG);
}

#[test]
fn without_an_inflater_deflated_messages_are_passed_over() {
    let mut input = client_frame(0xc1, b"\xff");
    input.extend(client_frame(0x42, b"\xff"));
    input.extend(client_frame(0x80, b"\xff"));
    input.extend(client_frame(0x88, b""));
    let mut decoder = Decoder::deflated();
    let mut rest = &mut input[..];
    let mut told = Vec::new();
    while !rest.is_empty() {
        let step = decoder.next(rest, &LIMITS).expect("nobody looks into them");
        told.extend(step.event.map(|event| format!("{event:?}")));
        let consumed = step.consumed;
        rest = &mut rest[consumed..];
    }
    assert_eq!(told, ["Close { code: None, reason: \"\" }"]);
}
