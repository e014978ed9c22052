//! Frames that are wrong or too large (`client-protocols` §6.5, §7, RFC 6455 §5).

use ringhub_tests::{Client, RawSocket, Server, masked_frame};

/// Reads up to the close frame and the end; returns its code.
#[track_caller]
fn close_code(socket: &mut RawSocket) -> Option<u16> {
    loop {
        let frame = socket.read_frame();
        if frame.first_byte == 0x88 {
            socket.read_to_end();
            return frame.close_code();
        }
    }
}

#[test]
fn a_message_of_one_mebibyte_is_the_largest() {
    let server = Server::start();
    let mut member = server.open(Client::raw().group("g"));
    let mut sender = server.open(Client::raw().role("webpubsub.sendToGroup").sends_to("g"));
    let most = vec![7; 1 << 20];
    sender.send_binary(&most);
    member.expect_binary(&most);
    sender.send_binary(&vec![7; (1 << 20) + 1]);
    sender.expect_thrown_out_with(1009);
    member.expect_silence();
}

/// At the header: nothing of the payload is needed, nothing is reserved for it.
#[test]
fn an_announced_giant_is_refused_at_its_header() {
    let server = Server::start();
    for len in [(1_u64 << 20) + 1, 1 << 31, (1 << 62) + 5] {
        let mut socket = server.upgraded(Client::json());
        let mut header = vec![0x82, 0xff];
        header.extend(len.to_be_bytes());
        header.extend([0; 4]);
        socket.write(header);
        assert_eq!(close_code(&mut socket), Some(1009), "{len}");
    }
}

#[test]
fn fragments_count_together() {
    let server = Server::start();
    let mut socket = server.upgraded(Client::raw().role("webpubsub.sendToGroup").sends_to("g"));
    socket.write(masked_frame(0x02, &vec![0; 1 << 19]));
    socket.write(masked_frame(0x00, &vec![0; 1 << 19]));
    socket.write(masked_frame(0x00, &[0]));
    assert_eq!(close_code(&mut socket), Some(1009));
}

/// One frame more than a message may have.
#[test]
fn a_fragment_too_many_is_refused() {
    let server = Server::with(|setup| setup.config("[limits]\nmessage_fragments_max = 3\n"));
    let mut socket = server.upgraded(Client::json());
    let message =
        [masked_frame(0x01, br#"{"type""#), masked_frame(0x00, br#":"pi"#), masked_frame(0x80, br#"ng"}"#)];
    socket.write(message.concat());
    socket.read_frame();
    assert_eq!(socket.read_frame().text(), r#"{"type":"pong"}"#, "three are a message");
    socket.write([masked_frame(0x01, b"{"), masked_frame(0x00, b""), masked_frame(0x00, b"")].concat());
    socket.write(masked_frame(0x80, b"}"));
    assert_eq!(close_code(&mut socket), Some(1009));
}

/// The server waits for the answer to its close frame no longer than it says (`reliability` check 28).
#[test]
fn who_does_not_answer_a_close_frame_is_cut() {
    let server = Server::with(|setup| setup.config("[limits]\nclose_deadline_seconds = 1\n"));
    let mut socket = server.upgraded(Client::json().user("u"));
    socket.read_frame();
    server.rest("POST", "/api/hubs/chat/users/u/:closeConnections").expect(204);
    assert_eq!(socket.read_frame().first_byte, 0x81, "disconnected");
    assert_eq!(socket.read_frame().first_byte, 0x88);
    socket.expect_end();
}

/// Frames RFC 6455 forbids, each on its own connection while a neighbour goes on undisturbed.
#[test]
fn forbidden_frames_get_1002_and_bad_utf8_1007() {
    let server = Server::start();
    let mut neighbour = server.connect(Client::json());
    let masked = |first: u8, payload: &[u8]| masked_frame(first, payload);
    let cases: [(&str, Vec<u8>, u16); 18] = [
        ("unmasked", vec![0x81, 1, b'x'], 1002),
        ("reserved bit 1", masked(0xc1, b"x"), 1002),
        ("reserved bit 2", masked(0xa1, b"x"), 1002),
        ("reserved bit 3", masked(0x91, b"x"), 1002),
        ("opcode 3", masked(0x83, b"x"), 1002),
        ("opcode 11", masked(0x8b, b"x"), 1002),
        ("fragmented ping", masked(0x09, b"x"), 1002),
        ("long ping", masked(0x89, &[0; 126]), 1002),
        ("continuation of nothing", masked(0x80, b"x"), 1002),
        ("a message within a message", [masked(0x01, b"x"), masked(0x81, b"x")].concat(), 1002),
        ("a length not minimal", vec![0x81, 0xfe, 0, 1, 0, 0, 0, 0, b'x'], 1002),
        ("a 64-bit length not minimal", vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'x'], 1002),
        ("the top bit of a length", vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("close of one byte", masked(0x88, b"x"), 1002),
        ("close 1005", masked(0x88, &1005_u16.to_be_bytes()), 1002),
        ("close 999", masked(0x88, &999_u16.to_be_bytes()), 1002),
        ("text that is not UTF-8", masked(0x81, b"\xff"), 1007),
        ("a close reason that is not UTF-8", masked(0x88, &[0x03, 0xe8, 0xff]), 1007),
    ];
    for (what, bytes, code) in cases {
        println!("{what}");
        let mut socket = server.upgraded(Client::json());
        socket.write(bytes);
        assert_eq!(close_code(&mut socket), Some(code), "{what}");
    }
    neighbour.expect_silence();
}

/// Found at the offending byte, before the message is complete.
#[test]
fn bad_utf8_is_found_before_the_message_ends() {
    let server = Server::start();
    let mut socket = server.upgraded(Client::json());
    socket.write(masked_frame(0x01, b"\xce\xba"));
    socket.write(masked_frame(0x00, b"\xed\xa0\x80"));
    assert_eq!(close_code(&mut socket), Some(1007));
}

#[test]
fn thousands_of_empty_fragments_are_one_message() {
    let server = Server::start();
    let mut socket = server.upgraded(Client::json());
    let mut bytes = masked_frame(0x01, br#"{"type":"#);
    bytes.extend(masked_frame(0x00, b"").repeat(5000));
    bytes.extend(masked_frame(0x80, br#""ping"}"#));
    socket.write(bytes);
    socket.read_frame();
    assert_eq!(socket.read_frame().text(), r#"{"type":"pong"}"#);
}
