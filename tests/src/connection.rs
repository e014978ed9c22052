//! A client after its upgrade: send, expect.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

use crate::client::{SAMPLE_ACCEPT, SAMPLE_KEY};
use crate::stream::Stream;
use crate::{Client, DEADLINE, Endpoint, RawSocket, Response, json_object};

/// An upgraded connection. Every `expect_*` looks at the very next message: nothing may come in between
/// but WebSocket pings, which are answered.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocket<Stream>,
    /// Of `connected`; empty for raw clients.
    id: String,
    user: Option<String>,
    token: Option<String>,
    subprotocol: Option<String>,
    is_pubsub: bool,
    next_ack_id: u64,
    barriers: u32,
    /// What came last, for the message of a failed test.
    seen: VecDeque<String>,
}

impl Connection {
    /// Upgrades; `Err` is the refusal.
    #[track_caller]
    pub(crate) fn open(endpoint: &Endpoint, client: &Client, mut raw: RawSocket) -> Result<Self, Response> {
        raw.write(client.request(endpoint));
        let response = raw.read_response();
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(response.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT), "for {SAMPLE_KEY}");
        assert!(response.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
        assert!(response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
        let subprotocol = response.header("sec-websocket-protocol").map(str::to_owned);
        if client.is_pubsub() {
            assert_eq!(subprotocol.as_deref(), client.offered(), "echoed as the client spelled it (§1.4)");
        }
        let (stream, unread) = raw.into_parts();
        Ok(Self {
            socket: WebSocket::from_partially_read(stream, unread, Role::Client, None),
            id: String::new(),
            user: None,
            token: None,
            subprotocol,
            is_pubsub: client.is_pubsub(),
            next_ack_id: 1_000_000,
            barriers: 0,
            seen: VecDeque::new(),
        })
    }

    /// Expects `connected`, byte for byte (§3.3), and remembers what it says: connection id and
    /// reconnection token.
    #[track_caller]
    pub fn expect_connected(&mut self) -> (String, Option<String>) {
        let text = self.next_text();
        let message = json_object(&text);
        let field = |name: &str| message.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        let id = field("connectionId").unwrap_or_else(|| panic!("no connectionId: {text}"));
        let (user, token) = (field("userId"), field("reconnectionToken"));
        let user_json =
            user.as_ref().map_or_else(|| "null".to_owned(), |user| serde_json::json!(user).to_string());
        let token_json =
            token.as_ref().map(|token| format!(r#","reconnectionToken":"{token}""#)).unwrap_or_default();
        assert_eq!(
            text,
            format!(
                r#"{{"type":"system","event":"connected","userId":{user_json},"connectionId":"{id}"{token_json}}}"#
            )
        );
        self.id.clone_from(&id);
        self.user = user;
        self.token.clone_from(&token);
        (id, token)
    }

    /// The connection id of `connected`.
    #[track_caller]
    pub fn id(&self) -> &str {
        assert!(!self.id.is_empty(), "only PubSub clients are told their id");
        &self.id
    }

    /// The user id of `connected`.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The reconnection token of the newest `connected`.
    #[track_caller]
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("only reliable clients have a reconnection token")
    }

    /// What the server selected.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends a text frame.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.send_message(Message::text(text));
    }

    /// Sends a binary frame.
    #[track_caller]
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send_message(Message::binary(bytes.to_vec()));
    }

    /// Sends a WebSocket ping.
    #[track_caller]
    pub fn send_ping(&mut self, payload: &[u8]) {
        self.send_message(Message::Ping(payload.to_vec().into()));
    }

    /// Publishes text to a group without an ack.
    #[track_caller]
    pub fn publish(&mut self, group: &str, text: &str) {
        let (group, text) = (serde_json::json!(group), serde_json::json!(text));
        self.send(&format!(r#"{{"type":"sendToGroup","group":{group},"dataType":"text","data":{text}}}"#));
    }

    /// Publishes text to a group, not to itself, and waits for the ack.
    #[track_caller]
    pub fn publish_acked(&mut self, group: &str, text: &str) {
        let (group, text, id) = (serde_json::json!(group), serde_json::json!(text), self.take_ack_id());
        self.send(&format!(
            r#"{{"type":"sendToGroup","group":{group},"ackId":{id},"noEcho":true,"dataType":"text","data":{text}}}"#
        ));
        self.expect_ack(id);
    }

    /// The same for a client that may be told goodbye at any time: false if that came instead of the ack.
    #[track_caller]
    pub fn try_publish_acked(&mut self, group: &str, text: &str) -> bool {
        let (group, text, id) = (serde_json::json!(group), serde_json::json!(text), self.take_ack_id());
        let request = format!(
            r#"{{"type":"sendToGroup","group":{group},"ackId":{id},"noEcho":true,"dataType":"text","data":{text}}}"#
        );
        if self.socket.send(Message::text(request)).is_err() {
            return false;
        }
        match self.next_text_or_end() {
            Some(text) if text.starts_with(r#"{"type":"system","event":"disconnected","#) => false,
            Some(text) => {
                assert_eq!(text, format!(r#"{{"type":"ack","ackId":{id},"success":true}}"#));
                true
            }
            None => false,
        }
    }

    /// Joins a group and waits for the ack.
    #[track_caller]
    pub fn join(&mut self, group: &str) {
        let (group, id) = (serde_json::json!(group), self.take_ack_id());
        self.send(&format!(r#"{{"type":"joinGroup","group":{group},"ackId":{id}}}"#));
        self.expect_ack(id);
    }

    /// Leaves a group and waits for the ack.
    #[track_caller]
    pub fn leave(&mut self, group: &str) {
        let (group, id) = (serde_json::json!(group), self.take_ack_id());
        self.send(&format!(r#"{{"type":"leaveGroup","group":{group},"ackId":{id}}}"#));
        self.expect_ack(id);
    }

    /// Acknowledges everything up to that sequence id.
    #[track_caller]
    pub fn acknowledge(&mut self, sequence_id: u64) {
        self.send(&format!(r#"{{"type":"sequenceAck","sequenceId":{sequence_id}}}"#));
    }

    /// Expects exactly this text frame.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let next = self.next_text();
        assert_eq!(next, text, "after {:?}", self.seen);
    }

    /// Expects exactly this binary frame.
    #[track_caller]
    pub fn expect_binary(&mut self, bytes: &[u8]) {
        match self.next_message() {
            Message::Binary(next) => assert_eq!(next.as_ref(), bytes),
            other => panic!("expected {} binary bytes, got {other:?} after {:?}", bytes.len(), self.seen),
        }
    }

    /// Expects the success ack, byte for byte.
    #[track_caller]
    pub fn expect_ack(&mut self, ack_id: u64) {
        self.expect(&format!(r#"{{"type":"ack","ackId":{ack_id},"success":true}}"#));
    }

    /// Expects a failed ack with that error name, byte for byte but for the message; returns the message.
    #[track_caller]
    pub fn expect_failed_ack(&mut self, ack_id: u64, name: &str) -> String {
        let text = self.next_text();
        let head = format!(
            r#"{{"type":"ack","ackId":{ack_id},"success":false,"error":{{"name":"{name}","message":""#
        );
        let message = text.strip_prefix(&head).and_then(|rest| rest.strip_suffix(r#""}}"#));
        let message = message.unwrap_or_else(|| panic!("expected {head}…, got {text} after {:?}", self.seen));
        assert!(!message.is_empty(), "a message for people");
        message.to_owned()
    }

    /// Expects group text on a plain connection, from a user or from nobody known.
    #[track_caller]
    pub fn expect_group_text(&mut self, group: &str, from: Option<&str>, text: &str) {
        let (group, from, text) =
            (serde_json::json!(group), serde_json::json!(from), serde_json::json!(text));
        self.expect(&format!(
            r#"{{"type":"message","from":"group","group":{group},"fromUserId":{from},"dataType":"text","data":{text}}}"#
        ));
    }

    /// Expects server text on a plain connection.
    #[track_caller]
    pub fn expect_server_text(&mut self, text: &str) {
        let text = serde_json::json!(text);
        self.expect(&format!(r#"{{"type":"message","from":"server","dataType":"text","data":{text}}}"#));
    }

    /// Expects that nothing is on its way: asks for a pong, which must come first.
    ///
    /// Says something about another connection's message only once that one is known to be handled (its
    /// ack came, or a later message of the same publisher).
    #[track_caller]
    pub fn expect_silence(&mut self) {
        if self.is_pubsub {
            self.send(r#"{"type":"ping"}"#);
            self.expect(r#"{"type":"pong"}"#);
            return;
        }
        self.barriers += 1;
        let payload = format!("barrier {}", self.barriers);
        self.send_message(Message::Ping(payload.clone().into()));
        match self.read() {
            Message::Pong(pong) => assert_eq!(pong, payload.as_bytes()),
            other => panic!("expected silence, got {other:?}"),
        }
    }

    /// Expects a close frame with that code and then the end of the socket; returns the reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        match self.next_message() {
            Message::Close(Some(frame)) => {
                assert_eq!(u16::from(frame.code), code, "{frame:?} after {:?}", self.seen);
                self.expect_end();
                frame.reason.to_string()
            }
            other => panic!("expected close {code}, got {other:?} after {:?}", self.seen),
        }
    }

    /// Expects `disconnected` and then the close; returns the text of `disconnected`.
    #[track_caller]
    pub fn expect_disconnected(&mut self, code: u16) -> String {
        let text = self.next_text();
        let head = r#"{"type":"system","event":"disconnected","message":"#;
        assert!(text.starts_with(head), "expected {head}…, got {text} after {:?}", self.seen);
        let message = json_object(&text)["message"].as_str().expect("a text").to_owned();
        self.expect_close(code);
        message
    }

    /// Expects the end of the socket, with or without a close frame; returns its code. For clients that
    /// are thrown out so hard that the goodbye may be lost.
    #[track_caller]
    pub fn expect_thrown_out(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => code = frame.map(|frame| u16::from(frame.code)),
                Ok(_) => {}
                Err(Error::Io(error)) if is_timeout(&error) => panic!("still open after {DEADLINE:?}"),
                Err(_) => return code,
            }
        }
    }

    /// Expects to be thrown out with that code, after at most `disconnected`, and never mind whether the
    /// goodbye got through: a reset may have overtaken it.
    #[track_caller]
    pub fn expect_thrown_out_with(&mut self, code: u16) {
        if let Some(found) = self.expect_thrown_out() {
            assert_eq!(found, code);
        }
    }

    /// Expects a close with that code; `disconnected` may come before it.
    #[track_caller]
    pub fn expect_goodbye(&mut self, code: u16) {
        let mut message = self.next_message();
        if message.to_text().is_ok_and(|text| text.starts_with(r#"{"type":"system","event":"disconnected","#))
        {
            message = self.next_message();
        }
        match message {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code, "{frame:?}"),
            other => panic!("expected close {code}, got {other:?} after {:?}", self.seen),
        }
        self.expect_end();
    }

    /// Expects what a refused recovery is: an upgrade (that got us here) and then 1008, with no `connected`
    /// in between (§6.3).
    #[track_caller]
    pub fn expect_refused_recovery(&mut self) {
        self.expect_goodbye(1008);
    }

    /// The next text frame, or `None` when the socket has ended.
    #[track_caller]
    pub fn next_text_or_end(&mut self) -> Option<String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {}
                Ok(other) => panic!("expected text or the end, got {other:?}"),
                Err(Error::Io(error)) if is_timeout(&error) => panic!("still open after {DEADLINE:?}"),
                Err(_) => return None,
            }
        }
    }

    /// Sends a close frame and expects its echo and the end.
    #[track_caller]
    pub fn close(mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        self.socket.close(Some(frame)).expect("open until now");
        match self.next_message() {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code),
            other => panic!("expected the close {code} back, got {other:?}"),
        }
        self.expect_end();
    }

    /// Sends an empty close frame, as `close()` of a browser does, and waits for the end.
    #[track_caller]
    pub fn close_without_code(mut self) {
        self.socket.close(None).expect("open until now");
        match self.next_message() {
            Message::Close(_) => self.expect_end(),
            other => panic!("expected a close back, got {other:?}"),
        }
    }

    /// Ends the TCP connection without a close frame.
    pub fn cut(self) {
        let _ = self.socket.get_ref().tcp().shutdown(Shutdown::Both);
    }

    /// Resets the TCP connection.
    pub fn reset(self) {
        let _ = SockRef::from(self.socket.get_ref().tcp()).set_linger(Some(Duration::ZERO));
    }

    /// The next text frame.
    #[track_caller]
    pub fn next_text(&mut self) -> String {
        match self.next_message() {
            Message::Text(text) => text.to_string(),
            other => panic!("expected text, got {other:?} after {:?}", self.seen),
        }
    }

    /// The next message that is not a WebSocket ping or pong.
    #[track_caller]
    pub fn next_message(&mut self) -> Message {
        loop {
            match self.read() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next message but pings.
    #[track_caller]
    fn read(&mut self) -> Message {
        loop {
            let message = match self.socket.read() {
                Ok(Message::Ping(_)) => continue,
                Ok(message) => message,
                Err(error) => panic!("expected a message, got {error} after {:?}", self.seen),
            };
            if self.seen.len() == SEEN_MAX {
                self.seen.pop_front();
            }
            let mut shown = format!("{message:?}");
            if shown.len() > 200 {
                shown = format!("{}… ({} bytes)", shown.chars().take(200).collect::<String>(), message.len());
            }
            self.seen.push_back(shown);
            return message;
        }
    }

    #[track_caller]
    fn expect_end(&mut self) {
        match self.socket.read() {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => {}
            Err(Error::Io(error)) if !is_timeout(&error) => {}
            other => panic!("expected the end of the socket, got {other:?}"),
        }
    }

    #[track_caller]
    fn send_message(&mut self, message: Message) {
        self.socket
            .send(message)
            .unwrap_or_else(|error| panic!("cannot send: {error} after {:?}", self.seen));
    }

    fn take_ack_id(&mut self) -> u64 {
        self.next_ack_id += 1;
        self.next_ack_id
    }
}

const SEEN_MAX: usize = 16;

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
