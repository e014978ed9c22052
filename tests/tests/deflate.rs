//! permessage-deflate (RFC 7692): a hub's choice, off by default (`handshake::compression_is_declined`); a second zlib
//! at the other end reads and writes.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use ringhub_tests::{
    Client, Endpoint, Frame, History, RawSocket, Server, masked_frame, memory_bound, wait_until,
};
use serde_json::{Value, json};

const ON: &str = "[hubs.chat]\ncompression = true\n";
const OFFER: &str = "permessage-deflate; client_max_window_bits";
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Text of about so many bytes that becomes shorter.
fn text(bytes: usize, mark: &str) -> String {
    format!("{mark} {}", "all work and no play ".repeat(bytes / 21))
}

fn deflate(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 1_000);
    let mut stream = Compress::new(Compression::best(), false);
    stream.compress_vec(message, &mut out, FlushCompress::Sync).expect("memory");
    assert!(stream.total_in() as usize == message.len() && out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 << 20);
    let input = [payload, &TAIL].concat();
    let mut stream = Decompress::new(false);
    stream.decompress_vec(&input, &mut out, FlushDecompress::Sync).expect("a stream");
    assert_eq!(stream.total_in() as usize, input.len());
    out
}

/// An upgraded client that has its `connected`, if it is told one.
struct Inflating {
    socket: RawSocket,
    connected: Value,
    /// Frames that came deflated.
    deflated: usize,
}

impl Inflating {
    #[track_caller]
    fn connect(endpoint: &Endpoint, client: Client) -> Self {
        Self::offering(endpoint, client, OFFER, Some(ANSWER))
    }

    #[track_caller]
    fn offering(endpoint: &Endpoint, client: Client, offer: &str, answer: Option<&str>) -> Self {
        let mut socket = endpoint.raw();
        socket.write(client.header("Sec-WebSocket-Extensions", offer).request(endpoint));
        let response = socket.read_response();
        assert_eq!((response.status, response.header("sec-websocket-extensions")), (101, answer));
        let connected = match response.header("sec-websocket-protocol") {
            Some(name) if name.starts_with("json") => {
                serde_json::from_str(socket.read_frame().text()).unwrap()
            }
            Some(_) => drop_frame(&mut socket),
            None => Value::Null,
        };
        Self { socket, connected, deflated: 0 }
    }

    /// The next data message, whichever way it came.
    #[track_caller]
    fn next(&mut self) -> Vec<u8> {
        loop {
            let Frame { first_byte, payload } = self.socket.read_frame();
            match first_byte {
                0x81 | 0x82 => return payload,
                0xc1 | 0xc2 => {
                    self.deflated += 1;
                    return inflate(&payload);
                }
                0x89 => self.socket.write(masked_frame(0x8a, &payload)),
                other => panic!("{other:x} {payload:?}"),
            }
        }
    }

    /// `data` of the next message, and its id if it has one.
    #[track_caller]
    fn next_data(&mut self) -> (String, Option<u64>) {
        let message: Value = serde_json::from_slice(&self.next()).expect("JSON");
        let data = message["data"].as_str().unwrap_or_else(|| panic!("{message}")).to_owned();
        (data, message["sequenceId"].as_u64())
    }

    /// Reads on to the close frame.
    #[track_caller]
    fn expect_close(mut self, code: u16) {
        loop {
            let frame = self.socket.read_frame();
            if frame.first_byte == 0x88 {
                return assert_eq!(frame.close_code(), Some(code));
            }
        }
    }
}

/// Of a client that is told in protobuf.
fn drop_frame(socket: &mut RawSocket) -> Value {
    socket.read_frame();
    Value::Null
}

fn publish(group: &str, data: &str, rest: &str) -> String {
    format!(r#"{{"type":"sendToGroup","group":"{group}","dataType":"text","data":"{data}"{rest}}}"#)
}

#[test]
fn it_is_negotiated_where_a_hub_has_it() {
    let server = Server::with(|setup| setup.config(ON));
    for (offer, answer) in [
        ("permessage-deflate", Some(ANSWER)),
        (OFFER, Some(ANSWER)),
        ("x-unknown, permessage-deflate; server_max_window_bits=10, permessage-deflate", Some(ANSWER)),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_max_window_bits=12", None),
        ("x-webkit-deflate-frame", None),
    ] {
        Inflating::offering(&server, Client::json(), offer, answer);
        Inflating::offering(&server, Client::json().hub("other"), offer, None);
    }
    let with_window = format!("{ANSWER}; server_max_window_bits=15");
    let offer = "permessage-deflate; server_max_window_bits=15";
    Inflating::offering(&server, Client::json(), offer, Some(&with_window));
    // What breaks the grammar fails the handshake (RFC 6455 §9.1), in any hub.
    for hub in ["chat", "other"] {
        let client = Client::json().hub(hub).header("Sec-WebSocket-Extensions", "permessage-deflate; a=");
        server.refuse(client, 400);
    }
    // Who offers nothing gets nothing.
    server.connect(Client::json());
}

#[test]
fn a_broadcast_reaches_members_of_every_format_with_it_and_without() {
    let server = Server::with(|setup| setup.config(ON));
    let protobuf = |name: &str| Client::raw().subprotocols(name);
    let clients = [
        Client::raw(),
        Client::json(),
        protobuf("protobuf.webpubsub.azure.v1"),
        Client::reliable(),
        protobuf("protobuf.reliable.webpubsub.azure.v1"),
    ];
    let join = |client: &Client| Inflating::connect(&server, client.clone().group("g"));
    let mut inflating: Vec<_> = clients.iter().chain(&clients).map(join).collect();
    let declining = |client: &Client| Inflating::offering(&server, client.clone().group("g"), "x", None);
    let mut plain: Vec<_> = clients.iter().map(declining).collect();
    for data in [text(3_000, "long"), "short".to_owned(), text(200_000, "very long")] {
        server.rest("POST", "/api/hubs/chat/groups/g/:send").text(&data).expect(202);
        for (kind, plain) in plain.iter_mut().enumerate() {
            let expected = plain.socket.read_frame();
            assert!(matches!(expected.first_byte, 0x81 | 0x82));
            for client in inflating.iter_mut().skip(kind).step_by(clients.len()) {
                let before = client.deflated;
                assert!(client.next() == expected.payload, "kind {kind}");
                assert_eq!(client.deflated - before, usize::from(data.len() > 1_000), "kind {kind}");
            }
        }
    }
    // Two messages that were worth it, once for each of five formats.
    wait_until("the hub's counters are copied out", || {
        server.metric("ringhub_hub_messages_deflated_total") == 10
    });
    let (before, after) = (
        server.metric("ringhub_hub_deflate_bytes_in_total"),
        server.metric("ringhub_hub_deflate_bytes_out_total"),
    );
    assert!(before > 1_000_000 && after < 50_000, "{before} and {after}");
}

#[test]
fn what_clients_deflate_is_read_whole_in_fragments_and_beside_what_they_do_not() {
    let server = Server::with(|setup| setup.config(ON));
    let mut ann = Inflating::connect(&server, Client::json().group("g").may_all());
    let long = text(100_000, "long");
    let payload = deflate(publish("g", &long, "").as_bytes());
    ann.socket.write(masked_frame(0xc1, &payload));
    assert_eq!(ann.next_data().0, long);
    // Fragments, some of them empty, and a ping between them.
    ann.socket.write(masked_frame(0x41, &payload[..100]));
    ann.socket.write(masked_frame(0x00, b""));
    ann.socket.write(masked_frame(0x89, b"between"));
    for chunk in payload[100..].chunks(50) {
        ann.socket.write(masked_frame(0x00, chunk));
    }
    ann.socket.write(masked_frame(0x80, b""));
    let pong = ann.socket.read_frame();
    assert_eq!((pong.first_byte, &pong.payload[..]), (0x8a, &b"between"[..]));
    assert_eq!(ann.next_data().0, long);
    // Not everything has to be deflated.
    ann.socket.write(masked_frame(0x81, publish("g", "short", "").as_bytes()));
    assert_eq!(ann.next_data().0, "short");
    assert_eq!(server.metric("ringhub_messages_inflated_total"), 2);
    assert_eq!(server.metric("ringhub_inflate_bytes_in_total"), 2 * payload.len() as u64);
    assert!(server.metric("ringhub_inflate_bytes_out_total") > 200_000);
    assert_eq!(server.metric("ringhub_inflate_refused_total"), 0);
    // Closing while a deflated message is under way.
    ann.socket.write(masked_frame(0xc1, &payload));
    ann.socket.write(masked_frame(0x88, &[0x03, 0xe8]));
    ann.expect_close(1000);
}

/// 1,000 MiB in 1 MB (check 23): the message limit holds, and so does the memory.
#[test]
fn a_bomb_is_refused_with_1009() {
    let mut server = Server::with(|setup| setup.config(ON));
    let mebibyte = deflate(&vec![b' '; 1 << 20]);
    let mut bomb = Vec::new();
    for _ in 0..999 {
        bomb.extend_from_slice(&mebibyte);
        bomb.extend_from_slice(&TAIL);
    }
    bomb.extend_from_slice(&mebibyte);
    assert!(bomb.len() < 1 << 20 && mebibyte.len() < 2_000);
    server.use_receive_buffers();
    // What one message of the limit's size takes is the measure.
    let mut good = Inflating::connect(&server, Client::json());
    good.socket.write(masked_frame(0xc1, &mebibyte));
    good.expect_close(1007);
    let before = server.process().peak_bytes();
    for fragment in [usize::MAX, 100_000] {
        let mut client = Inflating::connect(&server, Client::json());
        let mut first = 0x41;
        for chunk in bomb.chunks(fragment.min(bomb.len())) {
            let is_last = chunk.as_ptr_range().end == bomb.as_ptr_range().end;
            client.socket.write(masked_frame(first | if is_last { 0x80 } else { 0 }, chunk));
            first = 0;
        }
        client.expect_close(1009);
    }
    // The bomb as it came, over TLS once more as it was sealed, and a mebibyte inflated; and what allocating them costs.
    let grown = server.process().peak_bytes() - before;
    let most = if server.tls.is_some() { 8 << 20 } else { 4 << 20 };
    assert!(grown < memory_bound(most), "{grown} bytes");
    assert_eq!(server.metric("ringhub_inflate_refused_total"), 2);
    // A bomb of text that is none ends at its first piece.
    let client = &mut Inflating::connect(&server, Client::raw());
    client.socket.write(masked_frame(0xc1, &deflate(&vec![0xff; 1 << 20])));
    assert_eq!(client.socket.read_frame().close_code(), Some(1007));
}

/// Messages that are a thousand times as long as what came of them: as many as there are in one segment may not all
/// stand in a turn's log at once.
#[test]
fn many_messages_in_a_few_bytes_are_published_a_few_at_a_time() {
    let mut server = Server::with(|setup| setup.config(ON));
    let mut ann = Inflating::connect(&server, Client::json().group("g").may_all());
    let blank = " ".repeat(500_000);
    let payload = deflate(publish("g", &blank, "").as_bytes());
    ann.socket.write(masked_frame(0xc1, &payload));
    ann.next();
    let before = server.process().peak_bytes();
    let burst = masked_frame(0xc1, &payload).repeat(60);
    assert!(burst.len() < 60_000, "{} bytes", burst.len());
    ann.socket.write(burst);
    for _ in 0..60 {
        assert_eq!(ann.next_data().0.len(), blank.len());
    }
    let grown = server.process().peak_bytes() - before;
    assert!(grown < memory_bound(16 << 20), "{grown} bytes for 30 MB published");
    assert_eq!(server.metric("ringhub_messages_inflated_total"), 61);
}

#[test]
fn broken_streams_and_misplaced_marks_are_refused() {
    let server = Server::with(|setup| setup.config(ON));
    let good = deflate(text(1_000, "x").as_bytes());
    let mut damaged = good.clone();
    damaged[3] ^= 0x55;
    type Frames<'a> = &'a [(u8, &'a [u8])];
    let cases: [(Frames<'_>, u16); 9] = [
        (&[(0xc1, b"\xff\xff\xff")], 1007),
        (&[(0xc1, b"")], 1007),
        (&[(0xc1, &good[..good.len() / 2])], 1007),
        (&[(0xc1, &damaged)], 1007),
        (&[(0xc9, b"")], 1002),
        (&[(0x41, &good[..4]), (0xc0, &good[4..])], 1002),
        (&[(0x01, b"a"), (0x40, b"b")], 1002),
        (&[(0xe1, &good)], 1002),
        (&[(0x91, b"a")], 1002),
    ];
    for (frames, code) in cases {
        let mut client = Inflating::connect(&server, Client::raw());
        for &(first, payload) in frames {
            client.socket.write(masked_frame(first, payload));
        }
        client.expect_close(code);
    }
    // Where it was not negotiated.
    let mut client = Inflating::offering(&server, Client::raw(), "x", None);
    client.socket.write(masked_frame(0xc1, &good));
    client.expect_close(1002);
}

#[test]
fn gathered_sends_keep_their_order_and_leave_out_whom_they_should() {
    let server = Server::with(|setup| setup.config(ON));
    let mut ann = Inflating::connect(&server, Client::json().group("g").may_all());
    let mut bob = Inflating::connect(&server, Client::reliable().group("g").may_all());
    let (one, two, three) = (text(2_000, "1"), text(2_000, "2"), text(2_000, "3"));
    let mut requests = masked_frame(0x81, publish("g", &one, r#","noEcho":true,"ackId":1"#).as_bytes());
    requests.extend(masked_frame(0xc1, &deflate(publish("g", &two, r#","ackId":2"#).as_bytes())));
    ann.socket.write(requests);
    let mut told = Vec::new();
    for _ in 0..3 {
        let message: Value = serde_json::from_slice(&ann.next()).unwrap();
        told.push(message["ackId"].as_u64().map_or_else(|| message["data"].to_string(), |id| id.to_string()));
    }
    assert_eq!(told, ["1".to_owned(), json!(two).to_string(), "2".to_owned()]);
    assert_eq!([bob.next_data(), bob.next_data()], [(one, Some(1)), (two, Some(2))]);
    // Excluded, and with a time to live.
    let id = ann.connected["connectionId"].as_str().expect("an id").to_owned();
    let path = format!("/api/hubs/chat/groups/g/:send?excluded={id}&messageTtlSeconds=60");
    server.rest("POST", &path).text(&three).expect(202);
    assert_eq!(bob.next_data(), (three, Some(3)));
    assert_eq!(bob.deflated, 3);
    ann.socket.write(masked_frame(0x81, br#"{"type":"ping"}"#));
    assert_eq!(ann.next(), br#"{"type":"pong"}"#);
}

#[test]
fn a_session_is_recovered_with_it_and_without() {
    for (cores, first, then) in [
        (1, true, true),
        (1, true, false),
        (1, false, true),
        (2, true, true),
        (2, true, false),
        (2, false, true),
    ] {
        let server = Server::with(|setup| setup.config(ON).cores(cores));
        let connect = |client: Client, is_on: bool| match is_on {
            true => Inflating::connect(&server, client),
            false => Inflating::offering(&server, client, "x", None),
        };
        let mut client = connect(Client::reliable().group("g"), first);
        let mut other = Inflating::connect(&server, Client::reliable().group("g"));
        let mut history = History::new();
        (0..2).for_each(|receiver| history.joined(receiver));
        let send = |history: &mut History, bytes: usize| {
            let data = text(bytes, &history.publish(0));
            server.rest("POST", "/api/hubs/chat/groups/g/:send").text(&data).expect(202);
            history.acknowledged(0);
        };
        let hear = |history: &mut History, receiver: usize, client: &mut Inflating| {
            let message = client.next();
            history.receive(receiver, std::str::from_utf8(&message).expect("JSON"));
        };
        send(&mut history, 900);
        hear(&mut history, 0, &mut client);
        let field = |name: &str| client.connected[name].as_str().expect("it is told").to_owned();
        let (id, token) = (field("connectionId"), field("reconnectionToken"));
        drop(client);
        (2..12).for_each(|_| send(&mut history, 900));
        let mut client = connect(Client::reliable().recover(&id, &token), then);
        history.recovered(0);
        send(&mut history, 900);
        for _ in 1..=12 {
            hear(&mut history, 0, &mut client);
            hear(&mut history, 1, &mut other);
        }
        let deflated = match (first, then) {
            (_, false) => 0..=0,
            // What came while it could not inflate is deflated for the other member, if that is on the same core.
            (false, true) if cores == 2 => 1..=12,
            (_, true) => 12..=12,
        };
        assert!(deflated.contains(&client.deflated), "{cores} {first} {then}: {}", client.deflated);
        send(&mut history, 0);
        hear(&mut history, 0, &mut client);
        hear(&mut history, 1, &mut other);
        history.check();
    }
}

#[test]
fn over_tls_it_is_the_same() {
    let server = Server::with(|setup| setup.tls().config(ON));
    let mut client = Inflating::connect(&server, Client::reliable().group("g").may_all());
    for n in 1..4 {
        let long = text(50_000, &n.to_string());
        client.socket.write(masked_frame(0xc1, &deflate(publish("g", &long, "").as_bytes())));
        assert_eq!(client.next_data(), (long, Some(n)));
    }
    assert_eq!(client.deflated, 3);
}

/// A reload decides about clients that come; those that are there keep what they were answered.
#[test]
fn a_reload_turns_it_on_and_off() {
    let server = Server::with(|setup| setup.config(ON));
    let mut before = Inflating::connect(&server, Client::json().group("g"));
    std::fs::write(server.config(), "[hubs.chat]\ncompression = false\ncompression_bytes_min = 10000\n")
        .unwrap();
    server.reload();
    Inflating::offering(&server, Client::json(), OFFER, None);
    for (bytes, is_deflated) in [(5_000, 0), (20_000, 1)] {
        let long = text(bytes, "x");
        server.rest("POST", "/api/hubs/chat/groups/g/:send").text(&long).expect(202);
        assert_eq!(before.next_data().0, long);
        assert_eq!(before.deflated, is_deflated);
    }
}
