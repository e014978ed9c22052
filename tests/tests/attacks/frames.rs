//! Frames that RFC 6455 forbids, in every place and however they are cut, and all there is to be said with a close frame
//! (`reliability` checks 8, 9, 18 to 22, 28). `limits.rs` has the plainest of them.

use ringhub_tests::{Client, RawSocket, Server, masked_frame, memory_bound};

/// A JSON client that has its `connected`.
#[track_caller]
fn json(server: &Server) -> RawSocket {
    let mut socket = server.upgraded(Client::json());
    socket.read_frame();
    socket
}

/// Reads what is left: the code of the close frame, which is the last, and how many pongs and echoes came before it.
#[track_caller]
pub(super) fn close_code(socket: &mut RawSocket) -> (Option<u16>, usize) {
    let mut answers = 0;
    loop {
        let frame = socket.read_frame();
        match frame.first_byte {
            0x88 => {
                socket.expect_end();
                return (frame.close_code(), answers);
            }
            0x81 if frame.text().contains(r#""event":"disconnected""#) => {}
            _ => answers += 1,
        }
    }
}

/// A header with that second byte and what follows it, then a key and the payload.
fn frame(first: u8, second: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[first, second | 0x80], length, &[0; 4], payload].concat()
}

const PING: &[u8] = br#"{"type":"ping"}"#;

/// Everything that is wrong with one frame by itself.
fn forbidden() -> Vec<(String, Vec<u8>)> {
    let mut cases = Vec::new();
    let mut case = |name: String, bytes: Vec<u8>| cases.push((name, bytes));
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        case(format!("opcode {opcode}"), masked_frame(0x80 | opcode, b"x"));
        case(format!("opcode {opcode}, a fragment"), masked_frame(opcode, b"x"));
    }
    for opcode in [0x1, 0x2, 0x8, 0x9, 0xa] {
        for bits in 1..8 {
            case(
                format!("opcode {opcode} with reserved bits {bits}"),
                masked_frame(0x80 | bits << 4 | opcode, b""),
            );
        }
        case(format!("opcode {opcode}, not masked"), vec![0x80 | opcode, 0]);
    }
    for opcode in [0x8, 0x9, 0xa] {
        case(format!("control {opcode}, a fragment"), masked_frame(opcode, b""));
        case(format!("control {opcode}, 126 bytes"), masked_frame(0x80 | opcode, &[b'x'; 126]));
        case(format!("control {opcode}, 65,536 bytes"), masked_frame(0x80 | opcode, &[b'x'; 65_536]));
        case(format!("control {opcode}, a length not minimal"), frame(0x80 | opcode, 126, &[0, 1], b"x"));
    }
    for length in [0_u16, 1, 125] {
        case(format!("{length} in 16 bits"), frame(0x81, 126, &length.to_be_bytes(), &[b'x'; 125]));
    }
    for length in [0_u64, 125, 126, 65_535, 1 << 63, (1 << 63) + 1, u64::MAX] {
        case(format!("{length} in 64 bits"), frame(0x82, 127, &length.to_be_bytes(), b""));
    }
    case("a continuation of nothing".to_owned(), masked_frame(0x80, b""));
    case("a fragment that continues nothing".to_owned(), masked_frame(0x00, b""));
    for second in [0x81, 0x01, 0x82] {
        let bytes = [masked_frame(0x01, b"{"), masked_frame(second, b"}")].concat();
        case(format!("first byte {second} within a message"), bytes);
    }
    cases
}

/// What came before counts, what comes behind does not.
#[test]
fn a_forbidden_frame_is_the_last_one() {
    let server = Server::start();
    let mut neighbour = server.connect(Client::json());
    for (name, bytes) in forbidden() {
        println!("{name}");
        let mut socket = json(&server);
        let ping = masked_frame(0x81, PING);
        let _ =
            socket.try_write([&ping, &bytes, &ping, &masked_frame(0x89, b"x")].map(Vec::as_slice).concat());
        assert_eq!(close_code(&mut socket), (Some(1002), 1), "{name}");
    }
    neighbour.expect_silence();
}

#[test]
fn a_forbidden_frame_cut_anywhere_is_the_same() {
    let server = Server::start();
    for (name, bytes) in forbidden().into_iter().filter(|(_, bytes)| bytes.len() <= 14) {
        for at in 1..bytes.len() {
            let mut socket = json(&server);
            socket.write(&bytes[..at]);
            // Enough of it may have come.
            let _ = socket.try_write(&bytes[at..]);
            assert_eq!(close_code(&mut socket), (Some(1002), 0), "{name} cut at {at}");
        }
    }
}

/// One of each kind of code there is; all of them in the codec's own tests. A code that may travel comes back, and its
/// reason may be anything that is UTF-8 and short.
#[test]
fn close_codes_come_back_or_are_1002() {
    let server = Server::start();
    let legal = (1000_u16..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]);
    let illegal = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
    for (code, expected) in legal.map(|code| (code, code)).chain(illegal.map(|code| (code, 1002))) {
        for reason in ["", "bye", &"é".repeat(61)] {
            let mut socket = json(&server);
            socket.write(masked_frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat()));
            // What comes behind it is not looked at.
            let _ = socket.try_write([masked_frame(0x81, PING), masked_frame(0x83, b"x")].concat());
            assert_eq!(close_code(&mut socket), (Some(expected), 0), "{code} {reason}");
        }
    }
    let mut empty = json(&server);
    empty.write(masked_frame(0x88, b""));
    assert_eq!(close_code(&mut empty).1, 0);
    for (body, code) in [(&b"\x03"[..], 1002), (b"\x03\xe8\xff", 1007), (b"\x03\xe8\xc3", 1007)] {
        let mut socket = json(&server);
        socket.write(masked_frame(0x88, body));
        assert_eq!(close_code(&mut socket), (Some(code), 0), "{body:?}");
    }
}

/// Announcing costs nothing: the largest legal message, announced and never sent, a hundred times; and one more byte,
/// or 2^62, is refused at the header.
#[test]
fn announced_giants_cost_nothing() {
    let mut server = Server::start();
    json(&server);
    let before = server.process().resident_bytes();
    let announce = |length: u64| frame(0x82, 127, &length.to_be_bytes(), b"");
    let mut waiting: Vec<RawSocket> = (0..100).map(|_| json(&server)).collect();
    for socket in &mut waiting {
        socket.write([announce(1 << 20), b"x".to_vec()].concat());
    }
    for length in [(1 << 20) + 1, 1 << 32, 1 << 62, (1 << 63) - 1] {
        let mut socket = json(&server);
        socket.write(announce(length));
        assert_eq!(close_code(&mut socket), (Some(1009), 0), "{length}");
    }
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < memory_bound(16 << 20), "{grown} bytes for what was announced only");
}

/// A message may come in so many frames and no more, empty or not.
#[test]
fn fragment_bombs_end_at_their_bounds() {
    let server = Server::with(|setup| setup.config("[limits]\nmessage_bytes_max = 70000\n"));
    for (name, fragment, count, code) in [
        ("empty", &b""[..], 16_384, 1009),
        ("of a byte", b"x", 16_384, 1009),
        ("of many", &[b'x'; 100], 700, 1009),
    ] {
        let mut socket = json(&server);
        let first = masked_frame(0x01, fragment);
        let bomb = [first, masked_frame(0x00, fragment).repeat(count + 1)].concat();
        let _ = socket.try_write(bomb);
        assert_eq!(close_code(&mut socket), (Some(code), 0), "{name}");
    }
    // One less is a message, though a useless one.
    let mut socket = json(&server);
    let most = masked_frame(0x00, b"").repeat(16_382);
    socket.write([masked_frame(0x01, PING), most, masked_frame(0x80, b"")].concat());
    assert!(socket.read_frame().text().contains("pong"));
    assert_eq!(server.metric("ringhub_faults_total"), 3);
}

/// Headers of the upgrade that were not in `handshake.rs`: each is refused before anything is opened.
#[test]
fn upgrades_that_are_nearly_right_are_refused() {
    let server = Server::start();
    let request = String::from_utf8(Client::json().request(&server)).unwrap();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let version = "Sec-WebSocket-Version: 13";
    for (from, to, status) in [
        ("Connection: Upgrade", "Connection: Upgraded", 400),
        ("Connection: Upgrade", "Connection: \"Upgrade\"", 400),
        ("Upgrade: websocket", "Upgrade: websocket/13", 400),
        ("Upgrade: websocket", "Upgrade: websockets", 400),
        (key, "Sec-WebSocket-Key:", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x", 400),
        (version, "Sec-WebSocket-Version: 13, 8", 426),
        (version, "Sec-WebSocket-Version: 013", 426),
        (version, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 426),
        (version, "Sec-WebSocket-Version: 0", 426),
        (version, "Sec-WebSocket-Version: 13\r\nContent-Length: 5", 400),
        (version, "Sec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked", 400),
        ("GET ", "HEAD ", 400),
        ("GET ", "PUT ", 400),
        ("json.webpubsub.azure.v1", "json webpubsub", 400),
        ("json.webpubsub.azure.v1", "json,web/pubsub", 400),
    ] {
        let changed = request.replacen(from, to, 1);
        assert_ne!(changed, request);
        let mut socket = server.raw();
        socket.write([changed.as_bytes(), &masked_frame(0x81, PING)].concat());
        let response = socket.read_response();
        assert_eq!(response.status, status, "{to:?}: {response:?}");
        socket.expect_end();
    }
    assert_eq!(server.metric("ringhub_upgrades_total"), 0);
}

/// Which of the offered subprotocols is spoken, or none; nothing is named that was not offered.
#[test]
fn subprotocols_are_chosen_by_the_clients_order() {
    let server = Server::start();
    const PLAIN: &str = "json.webpubsub.azure.v1";
    const RELIABLE: &str = "json.reliable.webpubsub.azure.v1";
    const PROTOBUF: &str = "protobuf.webpubsub.azure.v1";
    for (offered, chosen) in [
        (vec![], None),
        (vec![""], None),
        (vec![" , ,"], None),
        (vec!["chat"], None),
        (vec!["chat, superchat"], None),
        (vec!["json.webpubsub.azure.v2"], None),
        (vec!["json.webpubsub.azure.v1x"], None),
        (vec![PLAIN], Some(PLAIN)),
        (vec![RELIABLE], Some(RELIABLE)),
        (vec!["chat, json.webpubsub.azure.v1"], Some(PLAIN)),
        (vec!["json.webpubsub.azure.v1, json.webpubsub.azure.v1"], Some(PLAIN)),
        (vec!["protobuf.webpubsub.azure.v1, json.webpubsub.azure.v1"], Some(PROTOBUF)),
        (vec!["json.webpubsub.azure.v1, protobuf.webpubsub.azure.v1"], Some(PLAIN)),
        (vec![",,json.reliable.webpubsub.azure.v1,,"], Some(RELIABLE)),
        (vec!["chat", PLAIN], Some(PLAIN)),
        (vec![RELIABLE, PLAIN], Some(RELIABLE)),
        (vec!["JSON.WEBPUBSUB.AZURE.V1"], Some("JSON.WEBPUBSUB.AZURE.V1")),
    ] {
        let mut client = Client::raw();
        for value in &offered {
            client = client.header("Sec-WebSocket-Protocol", value);
        }
        let mut socket = server.raw();
        socket.write(client.request(&server));
        let response = socket.read_response();
        assert_eq!(
            (response.status, response.header("sec-websocket-protocol")),
            (101, chosen),
            "{offered:?}"
        );
    }
}
