//! JSON over the wire: what is none ends the connection with 1007, and an ack id comes back as it was sent or not at all
//! (`reliability` checks 27, 29, 30). The grammar, rule by rule, is in the codec's own tests.

use ringhub_tests::{Client, Server, masked_frame};

use super::frames::close_code;

#[test]
fn an_ack_id_comes_back_as_it_was_sent_or_not_at_all() {
    let server = Server::start();
    let mut client = server.connect(Client::json().may_all());
    let exact =
        [0, 1, u64::from(u32::MAX), 1 << 53, (1 << 53) + 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];
    for id in exact {
        client.send(&format!(r#"{{"type":"joinGroup","group":"g","ackId":{id}}}"#));
        client.expect_ack(id);
    }
    for id in [
        "18446744073709551616",
        "18446744073709551617",
        "36893488147419103232",
        "99999999999999999999999999",
        "-1",
        "-0",
        "1.0",
        "1e3",
        "1E0",
        "1e999",
        "\"1\"",
        "[1]",
        "{}",
        "true",
        "01",
        "+1",
        "0x1",
        "1 1",
        "NaN",
        "1,\"ackId\":2",
        "1,\"ackId\":1",
    ] {
        let mut client = server.connect(Client::json().may_all());
        client.send(&format!(r#"{{"type":"joinGroup","group":"g","ackId":{id}}}"#));
        // Nothing but the goodbye.
        client.expect_disconnected(1007);
    }
}

/// What is no UTF-8 is no JSON either, in whichever frame and wherever in the message it is, and nobody gets any of it.
#[test]
fn bytes_that_are_no_text_end_the_connection() {
    let server = Server::start();
    let mut member = server.connect(Client::json().group("g"));
    let bad: [&[u8]; 9] = [
        b"\xff",
        b"\xc3",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"\xfe",
    ];
    for bytes in bad {
        for (opcode, place) in [(0x81, "data"), (0x82, "data"), (0x81, "group"), (0x82, "x")] {
            let rest = match place {
                "data" => r#""group":"g","#,
                "group" => r#""data":1,"#,
                _ => r#""group":"g","data":1,"#,
            };
            let head = format!(r#"{{"type":"sendToGroup",{rest}"{place}":""#);
            let mut socket = server.upgraded(Client::json().may_all());
            socket.read_frame();
            socket.write(masked_frame(opcode, &[head.as_bytes(), bytes, b"\"}"].concat()));
            assert_eq!(close_code(&mut socket), (Some(1007), 0), "{bytes:x?} in {place}");
        }
    }
    // UTF-16, and a byte order mark.
    for text in [&b"\xfe\xff\0{\0}"[..], b"{\0}\0", b"\xef\xbb\xbf{\"type\":\"ping\"}"] {
        let mut socket = server.upgraded(Client::json());
        socket.read_frame();
        socket.write(masked_frame(0x82, text));
        assert_eq!(close_code(&mut socket), (Some(1007), 0), "{text:x?}");
    }
    member.expect_silence();
}
