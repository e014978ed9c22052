//! The JSON subprotocols against text vectors: `vectors/json/*.txt`, one case a line.

use ringhub_protocol::pubsub::{AckError, ClientMessage, Data, Sender, json};

/// A request and what it is, in one line of debug text; or `! reason`.
fn read(text: &str) -> String {
    match json::parse(text) {
        Ok(ClientMessage::SendToGroup { group, ack_id, no_echo, data }) => {
            let plain = data.plain();
            format!(
                "send {} ack={ack_id:?} noEcho={no_echo} {:?} {} = {}",
                group.as_str(),
                data.data_type(),
                String::from_utf8_lossy(data.bytes()),
                plain.escape_ascii()
            )
        }
        Ok(ClientMessage::Event { event, ack_id, data }) => {
            format!(
                "event {} ack={ack_id:?} {:?} {}",
                event.as_str(),
                data.data_type(),
                String::from_utf8_lossy(data.bytes())
            )
        }
        Ok(ClientMessage::JoinGroup { group, ack_id }) => format!("join {} ack={ack_id:?}", group.as_str()),
        Ok(ClientMessage::LeaveGroup { group, ack_id }) => format!("leave {} ack={ack_id:?}", group.as_str()),
        Ok(other) => format!("{other:?}"),
        Err(error) => {
            assert_eq!(error.code.get(), 1007);
            assert!(error.reason.len() <= 123, "{}", error.reason);
            // Where exactly the parser gave up is its own business.
            match error.reason.split_once("column ") {
                Some((before, _)) => format!("! {before}column N."),
                None => format!("! {}", error.reason),
            }
        }
    }
}

#[test]
fn requests_read_as_the_vectors_say() {
    let vectors = include_str!("vectors/json/requests.txt");
    let mut lines = vectors.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut cases = 0;
    while let (Some(request), Some(expected)) = (lines.next(), lines.next()) {
        assert_eq!(read(request), expected, "{request}");
        cases += 1;
    }
    assert!(cases > 40, "{cases} cases");
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    for open in ["[", "{\"a\":"] {
        let text = format!(r#"{{"type":"sendToGroup","group":"g","data":{}"#, open.repeat(100_000));
        assert!(read(&text).starts_with('!'));
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn messages_are_written_byte_for_byte() {
    let message = |sender, data| written(|out| json::open_message(out, sender, data)) + "}";
    let group = Sender::Group { group: "g1", user: Some("u1") };
    let vectors = [
        (
            message(Sender::Server, Data::text("Hello")),
            r#"{"type":"message","from":"server","dataType":"text","data":"Hello"}"#,
        ),
        (
            message(Sender::Server, Data::json(r#"{"hello": "world"}"#).unwrap()),
            r#"{"type":"message","from":"server","dataType":"json","data":{"hello": "world"}}"#,
        ),
        (
            message(Sender::Server, Data::binary(b"Hello")),
            r#"{"type":"message","from":"server","dataType":"binary","data":"SGVsbG8="}"#,
        ),
        (
            message(Sender::Server, Data::binary(b"")),
            r#"{"type":"message","from":"server","dataType":"binary","data":""}"#,
        ),
        (
            message(group, Data::text("a\"\\\n")),
            r#"{"type":"message","from":"group","group":"g1","fromUserId":"u1","dataType":"text","data":"a\"\\\n"}"#,
        ),
        (
            message(Sender::Group { group: "g\"", user: None }, Data::text("")),
            r#"{"type":"message","from":"group","group":"g\"","fromUserId":null,"dataType":"text","data":""}"#,
        ),
        (written(|out| json::sequence_id(out, 0)), r#","sequenceId":0}"#),
        (written(|out| json::sequence_id(out, u64::MAX)), r#","sequenceId":18446744073709551615}"#),
        (
            written(|out| json::connected(out, Some("u1"), "c1", None)),
            r#"{"type":"system","event":"connected","userId":"u1","connectionId":"c1"}"#,
        ),
        (
            written(|out| json::connected(out, None, "c1", Some("opaque"))),
            r#"{"type":"system","event":"connected","userId":null,"connectionId":"c1","reconnectionToken":"opaque"}"#,
        ),
        (
            written(|out| json::disconnected(out, "reason text")),
            r#"{"type":"system","event":"disconnected","message":"reason text"}"#,
        ),
        (written(|out| json::ack(out, 1, Ok(()))), r#"{"type":"ack","ackId":1,"success":true}"#),
        (
            written(|out| json::ack(out, 1, Err((AckError::Forbidden, "text")))),
            r#"{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"text"}}"#,
        ),
        (written(json::pong), r#"{"type":"pong"}"#),
        (
            written(|out| json::invoke_refused(out, "1", AckError::NotFound, "text")),
            r#"{"type":"invokeResponse","invocationId":"1","success":false,"error":{"name":"NotFound","message":"text"}}"#,
        ),
        (
            written(|out| json::stream_closed(out, "s-1", "BadRequest", "text")),
            r#"{"type":"streamClosed","streamId":"s-1","error":{"name":"BadRequest","message":"text"}}"#,
        ),
    ];
    for (written, expected) in vectors {
        assert_eq!(written, expected);
    }
}
