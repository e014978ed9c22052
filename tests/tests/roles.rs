//! Every role, every operation, every subprotocol (`reliability` check 68, `client-protocols` §4): what is allowed is
//! done, what is not is refused as that subprotocol says it, and has no effect.

use std::collections::BTreeSet;

use ringhub_tests::{Answer, Client, Connection, Handler, RawSocket, Server, json_object};
use serde_json::json;
use tungstenite::Message;

use crate::formats::{PROTOBUF, RELIABLE, ack, field};

/// The groups that are tried: one, one that a `*` does not reach from it, and another.
const GROUPS: [&str; 3] = ["g", "g.x", "h"];

/// Roles of a token, and in which of [`GROUPS`] they let one join and leave, and send.
struct Row {
    roles: &'static [&'static str],
    joins: &'static [&'static str],
    sends: &'static [&'static str],
}

const fn row(
    roles: &'static [&'static str],
    joins: &'static [&'static str],
    sends: &'static [&'static str],
) -> Row {
    Row { roles, joins, sends }
}

const ROWS: [Row; 16] = [
    row(&[], &[], &[]),
    row(&["webpubsub.joinLeaveGroup"], &GROUPS, &[]),
    row(&["webpubsub.sendToGroup"], &[], &GROUPS),
    row(&["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"], &GROUPS, &GROUPS),
    row(&["webpubsub.joinLeaveGroup.g"], &["g"], &[]),
    row(&["webpubsub.sendToGroup.g"], &[], &["g"]),
    row(&["webpubsub.joinLeaveGroup.g.x"], &["g.x"], &[]),
    row(&["webpubsub.sendToGroup.g.x", "webpubsub.sendToGroup.h"], &[], &["g.x", "h"]),
    row(&["webpubsub.joinLeaveGroup.g", "webpubsub.sendToGroup.h"], &["g"], &["h"]),
    row(&["webpubsub.joinLeaveGroups.g*"], &["g"], &[]),
    row(&["webpubsub.sendToGroups.g**"], &[], &["g", "g.x"]),
    row(&["webpubsub.joinLeaveGroups.?"], &["g", "h"], &[]),
    row(&["webpubsub.sendToGroups.**"], &[], &GROUPS),
    // Stars of a role for one group are a star.
    row(&["webpubsub.joinLeaveGroup.*", "webpubsub.sendToGroup.g*"], &[], &[]),
    row(&["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.g"], &GROUPS, &["g"]),
    row(
        &[
            "webpubsub.sendtogroup",
            "WebPubSub.joinLeaveGroup",
            "sendToGroup",
            "webpubsub.sendToGroup ",
            " webpubsub.joinLeaveGroup",
            "webpubsub.joinLeaveGroup.",
            "webpubsub.sendToGroups",
            "webpubsub.*",
            "*",
            "owner",
            "webpubsub.sendToGroup,webpubsub.joinLeaveGroup",
        ],
        &[],
        &[],
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Join,
    Leave,
    Send,
    Event,
    Invoke,
}

/// A client of any subprotocol with acks, its frames as bytes.
struct One {
    connection: Connection,
    is_protobuf: bool,
    next_ack_id: u8,
}

impl One {
    fn connect(server: &Server, subprotocol: &str, client: Client) -> Self {
        let connection = server.open(client.subprotocols(subprotocol));
        let mut one = Self { connection, is_protobuf: subprotocol.starts_with("protobuf"), next_ack_id: 1 };
        // `connected`.
        one.next();
        one
    }

    fn next(&mut self) -> Vec<u8> {
        match self.connection.next_message() {
            Message::Text(text) => text.as_bytes().to_vec(),
            Message::Binary(bytes) => bytes.to_vec(),
            other => panic!("a frame, not {other:?}"),
        }
    }

    /// Asks; the answer, and what came before it.
    fn ask(&mut self, act: Act, group: &str, text: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
        let id = self.next_ack_id;
        self.next_ack_id += 1;
        let frame =
            if self.is_protobuf { protobuf(act, group, text, id) } else { json(act, group, text, id) };
        if self.is_protobuf {
            self.connection.send_binary(&frame);
        } else {
            self.connection.send(std::str::from_utf8(&frame).expect("JSON"));
        }
        let mark = match (act, self.is_protobuf) {
            (Act::Invoke, _) => format!("invocation-{id}").into_bytes(),
            (_, false) => format!(r#"{{"type":"ack","ackId":{id},"#).into_bytes(),
            // An ack's first field, in the only message that begins so.
            (_, true) => vec![1 << 3, id, 2 << 3],
        };
        let mut before = Vec::new();
        loop {
            let frame = self.next();
            // A failed ack of protobuf leaves its `false` out.
            let is_failed =
                self.is_protobuf && frame[0] == (1 << 3 | 2) && contains(&frame, &[1 << 3, id, 3 << 3 | 2]);
            if contains(&frame, &mark) || is_failed {
                return (frame, before);
            }
            before.push(frame);
        }
    }

    /// Asks, and the answer must be yes or `Forbidden`; what came before it.
    #[track_caller]
    fn judge(&mut self, act: Act, group: &str, text: &str, is_allowed: bool) -> Vec<Vec<u8>> {
        let id = self.next_ack_id;
        let (answer, before) = self.ask(act, group, text);
        let shown = String::from_utf8_lossy(&answer).into_owned();
        match (is_allowed, self.is_protobuf) {
            (true, true) => assert_eq!(answer, ack(id), "{shown}"),
            (true, false) => assert_eq!(shown, format!(r#"{{"type":"ack","ackId":{id},"success":true}}"#)),
            (false, _) => assert!(contains(&answer, b"Forbidden"), "{shown}"),
        }
        before
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn json(act: Act, group: &str, text: &str, id: u8) -> Vec<u8> {
    let message = match act {
        Act::Join => json!({ "type": "joinGroup", "group": group, "ackId": id }),
        Act::Leave => json!({ "type": "leaveGroup", "group": group, "ackId": id }),
        Act::Send => {
            json!({ "type": "sendToGroup", "group": group, "ackId": id, "noEcho": true, "dataType": "text", "data": text })
        }
        Act::Event => json!({ "type": "event", "event": "e", "ackId": id, "dataType": "text", "data": text }),
        Act::Invoke => json!({
            "type": "invoke", "target": "event", "event": "ask", "invocationId": format!("invocation-{id}"),
            "dataType": "text", "data": text
        }),
    };
    message.to_string().into_bytes()
}

/// The members of `UpstreamMessage` (`client-protocols` §3.9).
fn protobuf(act: Act, group: &str, text: &str, id: u8) -> Vec<u8> {
    let (group, text) = (field(1, group.as_bytes()), field(1, text.as_bytes()));
    match act {
        Act::Join => field(6, &[group, vec![2 << 3, id]].concat()),
        Act::Leave => field(7, &[group, vec![2 << 3, id]].concat()),
        Act::Send => field(1, &[group, vec![2 << 3, id], field(3, &text), vec![4 << 3, 1]].concat()),
        Act::Event => field(5, &[field(1, b"e"), field(2, &text), vec![3 << 3, id]].concat()),
        Act::Invoke => {
            let id = format!("invocation-{id}");
            field(10, &[field(1, b"ask"), field(2, id.as_bytes()), field(3, &text)].concat())
        }
    }
}

/// A client with the roles of a row.
fn client(row: &Row, user: &str) -> Client {
    row.roles.iter().fold(Client::raw().user(user), |client, role| client.role(role))
}

/// Members of all groups hear exactly what was allowed.
struct Witness {
    connection: Connection,
    owed: BTreeSet<String>,
}

impl Witness {
    fn new(server: &Server) -> Self {
        let all = GROUPS.iter().fold(Client::json(), |client, group| client.group(group));
        Self { connection: server.connect(all), owed: BTreeSet::new() }
    }

    #[track_caller]
    fn listen(mut self) {
        assert!(self.owed.len() > 10, "something was allowed");
        while !self.owed.is_empty() {
            let text = self.connection.next_text();
            let message = json_object(&text);
            let heard = format!("{} {}", message["group"], message["data"]);
            assert!(self.owed.remove(&heard), "not allowed: {text}");
        }
        self.connection.expect_silence();
    }

    fn owe(&mut self, group: &str, text: &str) {
        self.owed.insert(format!("{} {}", json!(group), json!(text)));
    }
}

fn answering() -> Handler {
    Handler::start(
        |call| if call.event() == "ask" { Answer::text("the answer") } else { Answer::no_content() },
    )
}

#[test]
fn what_a_role_allows_and_nothing_else() {
    let handler = answering();
    let section = handler.section("user_event_pattern = \"*\"\n");
    let server = Server::with(|setup| setup.cores(2).config(&section));
    let mut witness = Witness::new(&server);
    let mut socket = server.raw();
    for subprotocol in ["json.webpubsub.azure.v1", "json.reliable.webpubsub.azure.v1", PROTOBUF, RELIABLE] {
        for (at, row) in ROWS.iter().enumerate() {
            let user = format!("{at} {subprotocol}");
            println!("{user}: {:?}", row.roles);
            let mut one = One::connect(&server, subprotocol, client(row, &user));
            for group in GROUPS {
                let (may_join, may_send) = (row.joins.contains(&group), row.sends.contains(&group));
                one.judge(Act::Join, group, "", may_join);
                ask_members(&server, &mut socket, group, &user);
                if may_send {
                    witness.owe(group, &user);
                }
                let heard = one.judge(Act::Send, group, &user, may_send);
                assert_eq!(heard.len(), usize::from(may_join), "{group}: {heard:?}");
                one.judge(Act::Leave, group, "", may_join);
                ask_members(&server, &mut socket, group, &user);
                // Events and questions need no role.
                let heard = one.judge(Act::Event, "", "x", true);
                assert!(heard.is_empty(), "{group} was left: {heard:?}");
            }
            let (answer, _) = one.ask(Act::Invoke, "", "x");
            assert!(contains(&answer, b"the answer"), "{:?}", String::from_utf8_lossy(&answer));
        }
    }
    witness.listen();
}

/// To this user's connections in the group, if there are any.
fn ask_members(server: &Server, socket: &mut RawSocket, group: &str, user: &str) {
    let send = server.rest("POST", &format!("/api/hubs/chat/groups/{group}/:send"));
    send.query("filter", &format!("userId eq '{user}'")).text("are you in?").expect_on(socket, 202);
}

/// Raw clients send to the group of their URL, or events; they have no acks, so a refusal is their end.
#[test]
fn what_a_role_allows_a_raw_client() {
    let handler = answering();
    let section = handler.section("user_event_pattern = \"*\"\n");
    let server = Server::with(|setup| setup.cores(2).config(&section));
    let mut witness = Witness::new(&server);
    for (at, row) in ROWS.iter().enumerate() {
        for group in GROUPS {
            println!("{:?} to {group}", row.roles);
            let user = format!("{at} raw");
            let mut raw = server.open(client(row, &user).sends_to(group).query("noEcho", "true"));
            raw.send(&user);
            if row.sends.contains(&group) {
                witness.owe(group, &user);
                raw.expect_silence();
            } else {
                raw.expect_close(1008);
            }
            let mut raw = server.open(client(row, &user));
            raw.send(&user);
            raw.expect_silence();
        }
    }
    assert_eq!(handler.calls_at_least(ROWS.len() * GROUPS.len()).len(), ROWS.len() * GROUPS.len());
    witness.listen();
}

/// To be in a group is no right to leave it or to send to it (`client-protocols` §2.4).
#[test]
fn a_group_of_the_token_is_no_role() {
    let server = Server::on_cores(2);
    let mut witness = server.connect(Client::json().group("g"));
    for subprotocol in ["json.webpubsub.azure.v1", "json.reliable.webpubsub.azure.v1", PROTOBUF, RELIABLE] {
        let mut one = One::connect(&server, subprotocol, Client::raw().user(subprotocol).group("g"));
        for act in [Act::Join, Act::Leave, Act::Send] {
            one.judge(act, "g", "x", false);
        }
        ask_members(&server, &mut server.raw(), "g", subprotocol);
        let heard = one.judge(Act::Send, "g", "x", false);
        assert_eq!(heard.len(), 1, "it is a member still");
    }
    witness.expect_silence();
}
