//! Protobuf clients beside the others: the codec's own tests have the bytes, these have the way between clients
//! (`client-protocols` §1.5, §3.9, §3.10).

use ringhub_tests::{Client, Connection, Server};
use tungstenite::Message;

pub(crate) const PROTOBUF: &str = "protobuf.webpubsub.azure.v1";
pub(crate) const RELIABLE: &str = "protobuf.reliable.webpubsub.azure.v1";

/// A field of bytes shorter than 128.
pub(crate) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// `sendToGroup` of text to group `g`, with metadata `{"k":"v"}`.
fn publish(ack_id: u8, text: &str) -> Vec<u8> {
    let data = field(3, &field(1, text.as_bytes()));
    let metadata = field(6, &[field(1, b"k"), field(2, b"v")].concat());
    field(1, &[field(1, b"g"), vec![2 << 3, ack_id], data, metadata].concat())
}

/// Such a message as receivers get it.
fn published(text: &str, sequence_id: Option<u8>) -> Vec<u8> {
    let data = field(3, &field(1, text.as_bytes()));
    let metadata = field(5, &[field(1, b"k"), field(2, b"v")].concat());
    let id = sequence_id.map_or(Vec::new(), |id| vec![4 << 3, id]);
    field(2, &[field(1, b"group"), field(2, b"g"), data, metadata, id].concat())
}

/// The success ack.
pub(crate) fn ack(ack_id: u8) -> Vec<u8> {
    field(1, &[1 << 3, ack_id, 2 << 3, 1])
}

/// Connects, and returns the connection id and the reconnection token of `connected`.
fn connect(server: &Server, client: Client) -> (Connection, String, String) {
    let mut connection = server.open(client);
    let Message::Binary(connected) = connection.next_message() else { panic!("a binary frame") };
    // system_message { connected_message { … } } of less than 128 bytes each.
    assert_eq!((connected[0], connected[2]), (3 << 3 | 2, 1 << 3 | 2));
    let (mut rest, mut texts) = (&connected[4..], ["", "", ""]);
    while let [tag, len, tail @ ..] = rest {
        let (text, tail) = tail.split_at(usize::from(*len));
        texts[usize::from(tag >> 3) - 1] = std::str::from_utf8(text).unwrap();
        rest = tail;
    }
    assert_eq!(texts[1], "alice");
    let (id, token) = (texts[0].to_owned(), texts[2].to_owned());
    (connection, id, token)
}

#[test]
fn protobuf_clients_talk_to_each_other_and_to_json_clients() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let client = |name| Client::raw().subprotocols(name).user("alice").group("g").may_all();
        let (mut plain, _, no_token) = connect(&server, client(PROTOBUF));
        let (mut reliable, id, token) = connect(&server, client(RELIABLE));
        assert!(no_token.is_empty() && !token.is_empty());
        let mut json = server.connect(Client::json().group("g"));
        let mut raw = server.open(Client::raw().group("g"));
        raw.expect_silence();
        plain.send_binary(&publish(7, "hi"));
        plain.expect_binary(&published("hi", None));
        plain.expect_binary(&ack(7));
        reliable.expect_binary(&published("hi", Some(1)));
        json.expect(
            r#"{"type":"message","from":"group","group":"g","fromUserId":"alice","dataType":"text","data":"hi","metadata":{"k":"v"}}"#,
        );
        raw.expect("hi");
        // Away and back; only in the subprotocol that the session speaks.
        reliable.cut();
        plain.send_binary(&publish(8, "more"));
        plain.expect_binary(&published("more", None));
        plain.expect_binary(&ack(8));
        server.open(Client::reliable().recover(&id, &token)).expect_refused_recovery();
        let (mut back, same, token) = connect(&server, client(RELIABLE).recover(&id, &token));
        assert!(same == id && !token.is_empty());
        back.expect_binary(&published("hi", Some(1)));
        back.expect_binary(&published("more", Some(2)));
        // sequence_ack_message { sequence_id: 2 }, ping_message { }
        back.send_binary(&field(8, &[1 << 3, 2]));
        back.send_binary(&field(9, b""));
        back.expect_binary(&field(4, b""));
    }
}

#[test]
fn a_protobuf_client_must_send_binary_frames() {
    let server = Server::start();
    for (name, send, code) in [
        (PROTOBUF, Message::text(r#"{"type":"ping"}"#), 1003),
        (RELIABLE, Message::text(""), 1003),
        (PROTOBUF, Message::binary(b"\xff".to_vec()), 1007),
    ] {
        let (mut client, ..) = connect(&server, Client::raw().subprotocols(name).user("alice"));
        match send {
            Message::Text(text) => client.send(text.as_str()),
            other => client.send_binary(&other.into_data()),
        }
        // system_message { disconnected_message { reason } }
        let Message::Binary(disconnected) = client.next_message() else { panic!("a binary frame") };
        assert_eq!((disconnected[0], disconnected[2]), (3 << 3 | 2, 2 << 3 | 2));
        client.expect_close(code);
    }
}
