//! Peers that do not read: each kind has a bound for what waits for it, and others lose nothing by it (`reliability` checks
//! 33 to 35). `slow.rs` beside this folder has the plainest two.

use ringhub_tests::{Client, Connection, RawSocket, Server, memory_bound, wait_until};
use serde_json::Value;
use tungstenite::Message;

use crate::edges::rows;
use crate::formats::{PROTOBUF, RELIABLE as RELIABLE_PROTOBUF, field};

/// So many of [`kinds`] are read by [`Connection`], which does not inflate.
const PLAINLY_READ: usize = 5;
/// Those of them that acknowledge.
const RELIABLE_KINDS: std::ops::Range<usize> = 3..5;

/// A client of every kind, in group `g`.
fn kinds() -> [Client; 7] {
    [
        Client::raw(),
        Client::json(),
        Client::raw().subprotocols(PROTOBUF),
        Client::reliable(),
        Client::raw().subprotocols(RELIABLE_PROTOBUF),
        Client::json().header("Sec-WebSocket-Extensions", "permessage-deflate"),
        Client::reliable().header("Sec-WebSocket-Extensions", "permessage-deflate"),
    ]
    .map(|client| client.group("g"))
}

/// `sequenceAck` in both reliable subprotocols.
fn acknowledge(client: &mut Connection, sequence_id: u64) {
    if client.subprotocol() == Some(RELIABLE_PROTOBUF) {
        let id = [sequence_id as u8 & 0x7f | 0x80, (sequence_id >> 7) as u8];
        client.send_binary(&field(8, &[&[1 << 3], &id[..]].concat()));
    } else {
        client.acknowledge(sequence_id);
    }
}

/// Text that no codec makes much shorter.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 33) as u8 % 64)
    };
    (0..bytes).map(|_| next()).filter(|char| *char != '\\').collect()
}

/// One of each kind that does not read and one that does, with TLS and without. (Those that read offer no deflate: what
/// they are sent is compared as it is.)
#[test]
fn slow_readers_of_every_kind_are_thrown_out_and_the_others_get_everything() {
    for tls in [false, true] {
        let server = Server::with(|setup| {
            let bounds = "[limits]\noutbox_bytes_max = 65536\n[hubs.chat]\ncompression = true\n\
                [hubs.chat.reliable]\nbuffer_bytes = 524288\n";
            let setup = setup.config(bounds);
            if tls { setup.tls() } else { setup }
        });
        let slow = kinds().map(|client| server.connect_narrow(client));
        let mut quick: Vec<Connection> =
            kinds()[..PLAINLY_READ].iter().map(|client| server.open(client.clone())).collect();
        // Greetings of all but the raw one.
        quick[1..].iter_mut().for_each(|client| drop(client.next_message()));
        let mut sender = server.connect(Client::json().may_all());
        let text = noise(64 << 10);
        let holds = |message: &Message| {
            message.clone().into_data().windows(text.len()).any(|part| part == text.as_bytes())
        };
        let mut sent = 0;
        let mut round = |sender: &mut Connection| {
            sender.publish_acked("g", &text);
            sent += 1;
            for (kind, client) in quick.iter_mut().enumerate() {
                assert!(holds(&client.next_message()), "kind {kind}");
                if RELIABLE_KINDS.contains(&kind) {
                    acknowledge(client, sent);
                }
            }
        };
        wait_until("the slow ones are gone", || {
            round(&mut sender);
            rows(&server, "closed").len() == slow.len()
        });
        round(&mut sender);
        let closed = rows(&server, "closed");
        let slowly = |row: &&Value| row["category"] == "SlowClient" && row["code"] == 1008;
        assert_eq!(
            (closed.len(), closed.iter().filter(slowly).count()),
            (slow.len(), slow.len()),
            "{closed:?}"
        );
    }
}

/// One message that waits for a hundred is kept once.
#[test]
fn what_waits_for_many_is_kept_once() {
    const MEMBERS: usize = 100;
    let mut server = Server::start();
    let mut sender = server.connect(Client::json().may_all());
    let members: Vec<Connection> =
        (0..MEMBERS).map(|_| server.connect_narrow(Client::json().group("g"))).collect();
    let before = server.process().resident_bytes();
    let text = "x".repeat(100_000);
    // As often as it takes for the kernel's own buffers to be full.
    wait_until("much waits", || {
        sender.publish_acked("g", &text);
        server.metric("ringhub_outbox_bytes") > (MEMBERS * 300_000) as u64
            || server.metric("ringhub_slow_consumers_total") > 0
    });
    let waits = server.metric("ringhub_outbox_bytes");
    let grown = server.process().resident_bytes().saturating_sub(before);
    println!("{waits} bytes wait in {grown}");
    assert_eq!(server.metric("ringhub_slow_consumers_total"), 0);
    assert!(grown < waits as usize / 16 + memory_bound(8 << 20), "{grown} bytes of memory for {waits}");
    drop(members);
    wait_until("nothing waits", || server.metric("ringhub_outbox_bytes") == 0);
}

/// Who pipelines requests and does not read gets no answers made ahead, and all of them in order once it reads.
#[test]
fn answers_wait_for_their_reader() {
    const REQUESTS: usize = 500;
    let mut server = Server::start();
    let page = server.admin().http("GET", "/metrics").expect(200).body.len();
    let before = server.process().resident_bytes();
    let mut slow: Vec<RawSocket> = (0..2).map(|_| server.admin().raw_narrow()).collect();
    let requests = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(REQUESTS);
    for socket in &mut slow {
        socket.write(&requests);
        socket.half_close();
    }
    wait_until("the kernel takes no more", || server.metric("ringhub_outbox_bytes") > 0);
    let most = ((64 << 10) + page) as u64;
    for _ in 0..20 {
        let waits = server.metric("ringhub_outbox_bytes");
        assert!(waits <= 2 * most, "{waits} bytes of answers wait, with pages of {page}");
    }
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < memory_bound(16 << 20), "{grown} bytes for answers");
    for socket in &mut slow {
        for _ in 0..REQUESTS {
            let response = socket.read_response();
            assert!(response.status == 200 && response.body.len() >= page / 2);
        }
        socket.expect_end();
    }
}

/// The same for a caller of long lists: none is made before there is room for it.
#[test]
fn long_lists_wait_for_their_reader() {
    const REQUESTS: usize = 200;
    let mut server = Server::start();
    let user = |n: usize| format!("{n}{}", "u".repeat(1_000));
    let _members: Vec<Connection> =
        (0..50).map(|n| server.connect(Client::json().group("g").user(&user(n)))).collect();
    let list = server.rest("GET", "/api/hubs/chat/groups/g/connections");
    let page = list.expect(200).body.len();
    assert!(page > 50_000, "{page}");
    let before = server.process().resident_bytes();
    let mut slow = server.raw_narrow();
    slow.write(list.bytes().repeat(REQUESTS));
    slow.half_close();
    wait_until("the kernel takes no more", || server.metric("ringhub_outbox_bytes") > 0);
    for _ in 0..20 {
        let waits = server.metric("ringhub_outbox_bytes");
        // What one submit could not send, and what was answered before that was known.
        assert!(waits <= (2 * ((64 << 10) + page + 1_000)) as u64, "{waits} bytes of lists of {page} wait");
    }
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < memory_bound(8 << 20), "{grown} bytes for lists");
    assert!(server.metric("ringhub_http_answers_held_total") > 0, "it is counted");
    for _ in 0..REQUESTS {
        assert_eq!(slow.read_response().body.len(), page);
    }
    slow.expect_end();
}

/// Who never reads is cut by the deadline for it, and so is a WebSocket client that has to go but takes nothing.
#[test]
fn who_never_reads_is_cut() {
    let server = Server::with(|setup| {
        setup.config("[limits]\nhttp_idle_seconds = 1\nclose_deadline_seconds = 1\n[hubs.chat]\nconnection_lifetime_seconds = 2\n")
    });
    let mut caller = server.admin().raw_narrow();
    caller.write("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(800));
    let _deaf = server.connect_narrow(Client::json().group("g"));
    // What waits for it is under the bound.
    let mut sender = server.connect(Client::json().hub("other"));
    wait_until("something waits for both", || {
        server.rest("POST", "/api/hubs/chat/groups/g/:send").text(&"x".repeat(500_000)).expect(202);
        sender.expect_silence();
        server.metric("ringhub_outbox_bytes") > 400_000 || server.metric("ringhub_connections") == 1
    });
    // This one, the other client's, and the one that asks.
    wait_until("both are gone", || server.metric("ringhub_sockets") == 2);
    assert_eq!(server.metric("ringhub_outbox_bytes"), 0);
    caller.read_to_end();
}
