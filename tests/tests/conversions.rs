//! What each kind of receiver gets of what each kind of sender published (`client-protocols` §3.10).

use ringhub_tests::{Client, Connection, Server};

/// One of each kind, all members of `g`.
struct Receivers {
    json: Connection,
    reliable: Connection,
    raw: Connection,
    sequence_id: u64,
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
            sequence_id: 0,
        }
    }

    #[track_caller]
    fn expect(&mut self, from: &str, data_type: &str, data: &str, raw: &Raw<'_>) {
        self.sequence_id += 1;
        let message = format!(r#"{{"type":"message",{from},"dataType":"{data_type}","data":{data}"#);
        self.json.expect(&format!("{message}}}"));
        self.reliable.expect(&format!(r#"{message},"sequenceId":{}}}"#, self.sequence_id));
        match raw {
            Raw::Text(text) => self.raw.expect(text),
            Raw::Binary(bytes) => self.raw.expect_binary(bytes),
        }
    }
}

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
}
