//! The reliable subprotocol on one socket: ids, acknowledgement, bounds (`client-protocols` §6.1).

use std::time::Instant;

use ringhub_tests::{Client, DEADLINE, Server, memory_bound};

/// A group message on a reliable connection.
pub(crate) fn numbered(sequence_id: u64, text: &str) -> String {
    format!(
        r#"{{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"text","data":"{text}","sequenceId":{sequence_id}}}"#
    )
}

#[test]
fn messages_are_numbered_from_one_and_nothing_else_is() {
    let server = Server::start();
    let mut alice = server.connect(Client::reliable().group("g").may_all());
    assert!(!alice.token().is_empty());
    alice.join("h");
    alice.publish("g", "a");
    alice.expect(&numbered(1, "a"));
    alice.send(r#"{"type":"ping"}"#);
    alice.expect(r#"{"type":"pong"}"#);
    server.rest("POST", &format!("/api/hubs/chat/connections/{}/:send", alice.id())).text("b").expect(202);
    alice.expect(r#"{"type":"message","from":"server","dataType":"text","data":"b","sequenceId":2}"#);
    alice.send(r#"{"type":"sendToGroup","group":"g","ackId":1,"dataType":"text","data":"c"}"#);
    alice.expect(&numbered(3, "c"));
    alice.expect_ack(1);
}

#[test]
fn each_connection_counts_for_itself() {
    let server = Server::start();
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut early = server.connect(Client::reliable().group("g"));
    sender.publish_acked("g", "1");
    let mut late = server.connect(Client::reliable().group("g"));
    let mut plain = server.connect(Client::json().group("g"));
    sender.publish_acked("g", "2");
    early.expect(&numbered(1, "1"));
    early.expect(&numbered(2, "2"));
    late.expect(&numbered(1, "2"));
    plain.expect_group_text("g", None, "2");
}

#[test]
fn sequence_acks_of_any_shape_do_no_harm() {
    let server = Server::start();
    let mut alice = server.connect(Client::reliable().group("g").may_all());
    alice.publish("g", "a");
    alice.expect(&numbered(1, "a"));
    for ack in ["1", "0", "1", "999", "18446744073709551615", r#""1""#] {
        alice.send(&format!(r#"{{"type":"sequenceAck","sequenceId":{ack}}}"#));
    }
    alice.publish("g", "b");
    alice.expect(&numbered(2, "b"));
    alice.expect_silence();
}

#[test]
fn too_many_unacknowledged_messages_end_the_session_with_1008() {
    let server = Server::with(|setup| setup.config("[hubs.chat.reliable]\nbuffer_messages = 5\n"));
    let mut sender = server.connect(Client::json().group("g").role("webpubsub.sendToGroup"));
    let mut diligent = server.connect(Client::reliable().group("g"));
    let mut idle = server.connect(Client::reliable().group("g"));
    for n in 1..=5 {
        sender.publish_acked("g", &n.to_string());
        diligent.expect(&numbered(n, &n.to_string()));
        idle.expect(&numbered(n, &n.to_string()));
    }
    // The ack is known to be handled when the pong behind it is here.
    diligent.acknowledge(5);
    diligent.expect_silence();
    sender.publish_acked("g", "6");
    diligent.expect(&numbered(6, "6"));
    let (id, token) = (idle.id().to_owned(), idle.token().to_owned());
    idle.expect_thrown_out_with(1008);
    let mut refused = server.open(Client::reliable().recover(&id, &token));
    refused.expect_refused_recovery();
    diligent.expect_silence();
}

/// What a session held when it was ended is given back: ten of them hold no more than the first did.
#[test]
fn what_an_overflowing_session_held_is_given_back() {
    let mut server = Server::with(|setup| setup.config("[hubs.chat.reliable]\nbuffer_bytes = 8388608\n"));
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let endpoint = (*server).clone();
    let mut overflow = || {
        let mut idle = endpoint.connect(Client::reliable().group("g"));
        let text = "x".repeat(512 << 10);
        let reading = std::thread::spawn(move || idle.expect_thrown_out_with(1008));
        let patience = Instant::now() + DEADLINE;
        while !reading.is_finished() {
            assert!(Instant::now() < patience, "it is never ended");
            sender.publish_acked("g", &text);
        }
        reading.join().expect("it was told why");
    };
    overflow();
    let once = server.process().resident_bytes();
    (0..9).for_each(|_| overflow());
    let grown = server.process().resident_bytes().saturating_sub(once);
    assert!(grown < memory_bound(24 << 20), "{grown} bytes after nine more sessions of 8 MiB");
}

#[test]
fn too_many_unacknowledged_bytes_end_the_session_with_1008() {
    let server = Server::with(|setup| setup.config("[hubs.chat.reliable]\nbuffer_bytes = 65536\n"));
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut idle = server.connect(Client::reliable().group("g"));
    let text = "x".repeat(20_000);
    for n in 1..=3 {
        sender.publish_acked("g", &text);
        idle.expect(&numbered(n, &text));
    }
    sender.publish_acked("g", &text);
    idle.expect_thrown_out_with(1008);
}
