//! What each kind of receiver gets of what each kind of sender published (`client-protocols` §3.10).

use ringhub_tests::{Client, Connection, Server};

use crate::formats::{PROTOBUF, RELIABLE, ack, field};

/// One of each kind, all members of `g`.
struct Receivers {
    json: Connection,
    reliable: Connection,
    raw: Connection,
    protobuf: Connection,
    reliable_protobuf: Connection,
    sequence_id: u8,
}

/// How a payload looks on the wire of its receivers.
enum Raw<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Receivers {
    fn new(server: &Server) -> Self {
        Self {
            json: server.connect(Client::json().group("g")),
            reliable: server.connect(Client::reliable().group("g")),
            raw: server.open(Client::raw().group("g")),
            protobuf: protobuf(server, PROTOBUF, Client::raw().group("g")),
            reliable_protobuf: protobuf(server, RELIABLE, Client::raw().group("g")),
            sequence_id: 0,
        }
    }

    #[track_caller]
    fn expect(&mut self, from: &str, data_type: &str, data: &str, raw: &Raw<'_>) {
        self.sequence_id += 1;
        let message = format!(r#"{{"type":"message",{from},"dataType":"{data_type}","data":{data}"#);
        self.json.expect(&format!("{message}}}"));
        self.reliable.expect(&format!(r#"{message},"sequenceId":{}}}"#, self.sequence_id));
        let bytes = match raw {
            Raw::Text(text) => {
                self.raw.expect(text);
                text.as_bytes()
            }
            Raw::Binary(bytes) => {
                self.raw.expect_binary(bytes);
                bytes
            }
        };
        let message = [field(1, b"group"), field(2, b"g"), field(3, &data_of(data_type, bytes))].concat();
        self.protobuf.expect_binary(&field(2, &message));
        let message = [message, vec![4 << 3, self.sequence_id]].concat();
        self.reliable_protobuf.expect_binary(&field(2, &message));
    }
}

/// `MessageData`: which member is set says the type, and it is set when it is empty, too.
fn data_of(data_type: &str, bytes: &[u8]) -> Vec<u8> {
    let types = ["text", "binary", "protobuf", "json"];
    let member = types.iter().position(|known| *known == data_type).expect("one of four");
    field(member as u8 + 1, bytes)
}

/// A client of that subprotocol, after its `connected`.
fn protobuf(server: &Server, subprotocol: &str, client: Client) -> Connection {
    let mut connection = server.open(client.subprotocols(subprotocol));
    assert!(connection.next_message().is_binary());
    connection
}

/// The example of `client-protocols` §3.10: type URL and value.
const ANY: &[u8] = b"\x0a\x2ftype.googleapis.com/azure.webpubsub.TestMessage\x12\x02\x08\x01";
/// As it stands in JSON.
const ANY_JSON: &str = r#""Ci90eXBlLmdvb2dsZWFwaXMuY29tL2F6dXJlLndlYnB1YnN1Yi5UZXN0TWVzc2FnZRICCAE=""#;

const GROUP: &str = r#""from":"group","group":"g","fromUserId":"s""#;
const SERVICE: &str = r#""from":"group","group":"g","fromUserId":null"#;

#[test]
fn from_json_and_reliable_clients() {
    let server = Server::start();
    let mut receivers = Receivers::new(&server);
    for client in [Client::json(), Client::reliable()] {
        let mut sender = server.connect(client.user("s").role("webpubsub.sendToGroup"));
        let mut send = |data_type: &str, data: &str| {
            sender.send(&format!(
                r#"{{"type":"sendToGroup","group":"g","dataType":"{data_type}","data":{data}}}"#
            ));
        };
        send("text", r#""ä\n\u0001\"\\""#);
        receivers.expect(GROUP, "text", r#""ä\n\u0001\"\\""#, &Raw::Text("ä\n\u{1}\"\\"));
        send("text", r#""""#);
        receivers.expect(GROUP, "text", r#""""#, &Raw::Text(""));
        send("json", r#"{"a": [1.0, "x"]}"#);
        receivers.expect(GROUP, "json", r#"{"a": [1.0, "x"]}"#, &Raw::Text(r#"{"a": [1.0, "x"]}"#));
        send("json", r#""quoted""#);
        receivers.expect(GROUP, "json", r#""quoted""#, &Raw::Text(r#""quoted""#));
        send("binary", r#""AAEC/w==""#);
        receivers.expect(GROUP, "binary", r#""AAEC/w==""#, &Raw::Binary(&[0, 1, 2, 255]));
        send("binary", r#""""#);
        receivers.expect(GROUP, "binary", r#""""#, &Raw::Binary(&[]));
        send("protobuf", r#""CgEx""#);
        receivers.expect(GROUP, "protobuf", r#""CgEx""#, &Raw::Binary(&[0x0a, 1, 0x31]));
    }
}

/// A text is a text, however it was escaped on its way in.
#[test]
fn escapes_of_text_are_decoded_for_raw_receivers() {
    let server = Server::start();
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut raw = server.open(Client::raw().group("g"));
    sender.send(r#"{"type":"sendToGroup","group":"g","dataType":"text","data":"\u00e4\ud83d\ude00\/\t"}"#);
    raw.expect("ä😀/\t");
}

#[test]
fn from_raw_clients() {
    let server = Server::start();
    let mut receivers = Receivers::new(&server);
    let mut sender = server.open(Client::raw().user("s").role("webpubsub.sendToGroup").sends_to("g"));
    sender.send("ä \"x\"\\\u{1}\n");
    receivers.expect(GROUP, "text", r#""ä \"x\"\\\u0001\n""#, &Raw::Text("ä \"x\"\\\u{1}\n"));
    sender.send("");
    receivers.expect(GROUP, "text", r#""""#, &Raw::Text(""));
    sender.send_binary(&[0, 1, 2, 255]);
    receivers.expect(GROUP, "binary", r#""AAEC/w==""#, &Raw::Binary(&[0, 1, 2, 255]));
    sender.send_binary(&[]);
    receivers.expect(GROUP, "binary", r#""""#, &Raw::Binary(&[]));
}

#[test]
fn from_rest() {
    let server = Server::start();
    let mut receivers = Receivers::new(&server);
    let send = || server.rest("POST", "/api/hubs/chat/groups/g/:send");
    send().text("ä \"x\"").expect(202);
    receivers.expect(SERVICE, "text", r#""ä \"x\"""#, &Raw::Text("ä \"x\""));
    send().json(r#"{"a": 1}"#).expect(202);
    receivers.expect(SERVICE, "json", r#"{"a": 1}"#, &Raw::Text(r#"{"a": 1}"#));
    send().binary(&[0, 1, 2, 255]).expect(202);
    receivers.expect(SERVICE, "binary", r#""AAEC/w==""#, &Raw::Binary(&[0, 1, 2, 255]));
    send().untyped_body(*b"x").expect(202);
    receivers.expect(SERVICE, "binary", r#""eA==""#, &Raw::Binary(b"x"));
    send().body("application/x-protobuf", ANY).expect(202);
    receivers.expect(SERVICE, "protobuf", ANY_JSON, &Raw::Binary(ANY));
}

#[test]
fn from_protobuf_clients() {
    let server = Server::start();
    let mut receivers = Receivers::new(&server);
    for subprotocol in [PROTOBUF, RELIABLE] {
        let client = Client::raw().user("s").role("webpubsub.sendToGroup");
        let mut sender = protobuf(&server, subprotocol, client);
        for (ack_id, (data_type, json, raw)) in [
            ("text", r#""ä \"x\"\\\u0001\n""#, Raw::Text("ä \"x\"\\\u{1}\n")),
            ("text", r#""""#, Raw::Text("")),
            ("json", r#"{"a": [1.0, "x"]}"#, Raw::Text(r#"{"a": [1.0, "x"]}"#)),
            ("json", r#""quoted""#, Raw::Text(r#""quoted""#)),
            ("binary", r#""AAEC/w==""#, Raw::Binary(&[0, 1, 2, 255])),
            ("binary", r#""""#, Raw::Binary(&[])),
            ("protobuf", ANY_JSON, Raw::Binary(ANY)),
        ]
        .into_iter()
        .enumerate()
        {
            let bytes = match raw {
                Raw::Text(text) => text.as_bytes(),
                Raw::Binary(bytes) => bytes,
            };
            let ack_id = ack_id as u8;
            let request = [field(1, b"g"), vec![2 << 3, ack_id], field(3, &data_of(data_type, bytes))];
            sender.send_binary(&field(1, &request.concat()));
            receivers.expect(GROUP, data_type, json, &raw);
            sender.expect_binary(&ack(ack_id));
        }
    }
}
