//! Peers that do not read: each kind has a bound for what waits for it, and others lose nothing by it (`reliability` checks
//! 33 to 35). `slow.rs` beside this folder has the plainest two.

use ringhub_tests::{Client, Connection, RawSocket, Server, wait_until};
use serde_json::Value;
use tungstenite::Message;

use crate::admin::metric;
use crate::edges::rows;
use crate::formats::PROTOBUF;

fn count(server: &Server, name: &str) -> f64 {
    metric(server, &[name]).unwrap_or_default()
}

/// Raw, JSON and protobuf clients, one each that does not read and one that does, with TLS and without.
#[test]
fn slow_readers_of_every_kind_are_thrown_out_and_the_others_get_everything() {
    for tls in [false, true] {
        let server = Server::with(|setup| {
            let setup = setup.config("[limits]\noutbox_bytes_max = 65536\n");
            if tls { setup.tls() } else { setup }
        });
        let kinds = || {
            [Client::raw(), Client::json(), Client::raw().subprotocols(PROTOBUF)]
                .map(|client| client.group("g"))
        };
        let _slow = kinds().map(|client| server.connect_narrow(client));
        let mut quick = kinds().map(|client| server.open(client));
        // Greetings of all but the raw one.
        quick[1..].iter_mut().for_each(|client| drop(client.next_message()));
        let mut sender = server.connect(Client::json().may_all());
        let text = "x".repeat(64 << 10);
        let holds = |message: &Message| {
            message.clone().into_data().windows(text.len()).any(|part| part == text.as_bytes())
        };
        wait_until("the slow ones are gone", || {
            sender.publish_acked("g", &text);
            for client in &mut quick {
                assert!(holds(&client.next_message()));
            }
            count(&server, "ringhub_slow_consumers_total") == 3.0
        });
        sender.publish_acked("g", &text);
        quick.iter_mut().for_each(|client| assert!(holds(&client.next_message())));
        let closed = rows(&server, "closed");
        let slow = |row: &&Value| row["category"] == "SlowClient" && row["code"] == 1008;
        assert_eq!((closed.len(), closed.iter().filter(slow).count()), (3, 3), "{closed:?}");
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
    let text = "x".repeat(1_000_000);
    // As often as it takes for the kernel's own buffers to be full.
    wait_until("much waits", || {
        sender.publish_acked("g", &text);
        count(&server, "ringhub_outbox_bytes") > (MEMBERS * 300_000) as f64
            || count(&server, "ringhub_slow_consumers_total") > 0.0
    });
    let waits = count(&server, "ringhub_outbox_bytes");
    let grown = server.process().resident_bytes().saturating_sub(before);
    println!("{waits} bytes wait in {grown}");
    assert_eq!(count(&server, "ringhub_slow_consumers_total"), 0.0);
    assert!((grown as f64) < waits / 3.0 + (8 << 20) as f64, "{grown} bytes of memory for {waits}");
    drop(members);
    wait_until("nothing waits", || count(&server, "ringhub_outbox_bytes") == 0.0);
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
    wait_until("the kernel takes no more", || count(&server, "ringhub_outbox_bytes") > 0.0);
    let handled = || count(&server, "ringhub_http_requests_total");
    let most = ((64 << 10) + page) as f64;
    for _ in 0..20 {
        handled();
        let waits = count(&server, "ringhub_outbox_bytes");
        assert!(waits <= 2.0 * most, "{waits} bytes of answers wait, with pages of {page}");
    }
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for answers");
    for socket in &mut slow {
        for _ in 0..REQUESTS {
            let response = socket.read_response();
            assert!(response.status == 200 && response.body.len() >= page / 2);
        }
        socket.expect_end();
    }
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
        count(&server, "ringhub_outbox_bytes") > 400_000.0 || count(&server, "ringhub_connections") == 1.0
    });
    // This one, the other client's, and the one that asks.
    wait_until("both are gone", || count(&server, "ringhub_sockets") == 2.0);
    assert_eq!(count(&server, "ringhub_outbox_bytes"), 0.0);
    caller.read_to_end();
}
