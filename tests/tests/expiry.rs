//! Messages with a time to live are dropped where they wait (`client-protocols` §3.2): in the outbox of a client
//! that does not read, and in the replay log of one that is away.

use ringhub_tests::{Client, Connection, Endpoint, Proxy, Server, wait_until};

use crate::reliable::numbered;

fn sender(endpoint: &Endpoint) -> Connection {
    endpoint.connect(Client::json().role("webpubsub.sendToGroup"))
}

/// Publishes text to `group` with one second to live, and waits for the ack.
fn publish_perishable(sender: &mut Connection, group: &str, ack_id: u64, text: &str) {
    sender.send(&format!(
        r#"{{"type":"sendToGroup","group":"{group}","ackId":{ack_id},"ttlSeconds":1,"dataType":"text","data":"{text}"}}"#
    ));
    sender.expect_ack(ack_id);
}

/// Returns once a message that was published now with one second to live would have expired: a client that is
/// away comes back for one until it is not there any more.
fn wait_for_a_ttl(server: &Server) {
    let mut probe = server.connect(Client::reliable().group("probe"));
    let (id, token) = (probe.id().to_owned(), probe.token().to_owned());
    publish_perishable(&mut sender(server), "probe", 1, "probe");
    probe.next_text();
    probe.cut();
    wait_until("the probe's message expires", || {
        let mut probe = server.open(Client::reliable().recover(&id, &token));
        probe.expect_connected();
        probe.send(r#"{"type":"ping"}"#);
        let next = probe.next_text();
        probe.cut();
        next == r#"{"type":"pong"}"#
    });
}

/// Publishes lasting messages of 16 KiB until more waits for `slow` than one write takes; returns how many.
fn fill(server: &Server, sender: &mut Connection, text: &str) -> usize {
    let mut count = 0;
    while server.metric("ringhub_outbox_bytes") < 300_000 {
        sender.publish_acked("g", &format!("{count} {text}"));
        count += 1;
        assert!(count < 2_000, "the reader is not felt");
    }
    count
}

#[test]
fn a_reader_that_stalled_is_not_sent_what_has_expired() {
    not_sent_what_has_expired(&Server::start());
}

/// What waits there is not encrypted yet; of what is, a record is in flight.
#[test]
fn a_tls_reader_that_stalled_is_not_sent_what_has_expired() {
    not_sent_what_has_expired(&Server::with(|setup| setup.tls()));
}

fn not_sent_what_has_expired(server: &Server) {
    let mut sender = sender(server);
    let mut slow = server.connect_narrow(Client::json().group("g"));
    let text = "x".repeat(16 * 1024);
    let mut kept = fill(server, &mut sender, &text);
    for n in 0..8 {
        publish_perishable(&mut sender, "g", n, &format!("perishable {text}"));
        sender.publish_acked("g", &format!("{kept} {text}"));
        kept += 1;
    }
    wait_for_a_ttl(server);
    for n in 0..kept {
        slow.expect_group_text("g", None, &format!("{n} {text}"));
    }
    slow.expect_silence();
    wait_until("the dropped ones are counted", || {
        server.metric("ringhub_messages_expired_total") == 8 && server.metric("ringhub_outbox_bytes") == 0
    });
    // The connection is as good as before.
    publish_perishable(&mut sender, "g", 100, "after");
    slow.expect_group_text("g", None, "after");
}

/// Everything that waits expires while a TLS socket takes nothing: its last record goes out, and it is an
/// ordinary one again.
#[test]
fn a_tls_outbox_that_expired_whole_leaves_nothing_stuck() {
    let server = Server::with(|setup| setup.tls().config("[limits]\noutbox_bytes_max = 524288\n"));
    let mut sender = sender(&server);
    let mut slow = server.connect_narrow(Client::json().group("g"));
    let text = "x".repeat(16 * 1024);
    let waiting = || server.metric("ringhub_outbox_bytes");
    let expired = || server.metric("ringhub_messages_expired_total");
    let mut sent = 0;
    for _ in 0..3 {
        // More than once the bound.
        for _ in 0..25 {
            publish_perishable(&mut sender, "g", sent, &format!("{sent} {text}"));
            sent += 1;
        }
        wait_for_a_ttl(&server);
    }
    sender.publish_acked("g", "last");
    // In order, each whole; the rest has expired.
    let (mut received, mut next) = (0, 0);
    while next < sent {
        let got = slow.next_text();
        if got.contains(r#""data":"last""#) {
            break;
        }
        let n = (next..sent).find(|n| got.contains(&format!(r#""data":"{n} {text}""#)));
        next = n.expect("a message that was sent, later than the one before") + 1;
        received += 1;
    }
    wait_until("nothing waits", || waiting() == 0);
    wait_until("every message is accounted for", || received + expired() == sent);
    assert!(expired() > 0, "the reader is felt");
    publish_perishable(&mut sender, "g", 1000, "after");
    slow.expect_group_text("g", None, "after");
}

/// What has expired does not count against the bound, so a reader that misses only such messages stays.
#[test]
fn expired_messages_make_no_slow_consumer() {
    let server = Server::with(|setup| setup.config("[limits]\noutbox_bytes_max = 524288\n"));
    let mut sender = sender(&server);
    let mut slow = server.connect_narrow(Client::json().group("g"));
    let text = "x".repeat(16 * 1024);
    let kept = fill(&server, &mut sender, &text);
    for round in 0..4 {
        // Ten are 160 KiB; three rounds of them would be over the bound.
        for n in 0..10 {
            publish_perishable(&mut sender, "g", round * 10 + n, &format!("perishable {text}"));
        }
        wait_for_a_ttl(&server);
    }
    sender.publish_acked("g", "last");
    for n in 0..kept {
        slow.expect_group_text("g", None, &format!("{n} {text}"));
    }
    slow.expect_group_text("g", None, "last");
    wait_until("the dropped ones are counted", || server.metric("ringhub_messages_expired_total") == 40);
}

#[test]
fn a_session_that_comes_back_after_the_ttl_finds_a_gap() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let mut sender = sender(&server);
        let proxy = Proxy::start(&server);
        let mut alice = proxy.endpoint().connect(Client::reliable().group("g"));
        let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
        sender.publish_acked("g", "1");
        alice.expect(&numbered(1, "1"));
        alice.acknowledge(1);
        alice.expect_silence();
        proxy.cut();
        drop(alice);
        publish_perishable(&mut sender, "g", 1, "2");
        sender.publish_acked("g", "3");
        publish_perishable(&mut sender, "g", 2, "4");
        // In time, everything is there.
        let mut alice = server.open(Client::reliable().recover(&id, &token));
        alice.expect_connected();
        alice.expect(&numbered(2, "2"));
        alice.cut();
        wait_for_a_ttl(&server);
        let mut alice = server.open(Client::reliable().recover(&id, &token));
        alice.expect_connected();
        alice.expect(&numbered(3, "3"));
        alice.expect_silence();
        sender.publish_acked("g", "5");
        alice.expect(&numbered(5, "5"));
        // The hubs' counters are copied out once a second. The probe's one is among them.
        wait_until("the dropped ones are counted", || {
            server.metric("ringhub_hub_messages_expired_total") >= 3
        });
    }
}

/// The time to live of a REST call does the same, whomever the call is for.
#[test]
fn what_a_rest_call_gave_a_ttl_expires_for_a_session_that_is_away() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let alice = server.connect(Client::reliable().user("alice").group("g"));
        let (id, token) = (alice.id().to_owned(), alice.token().to_owned());
        let mut witness = server.connect(Client::json().user("alice").group("g"));
        alice.cut();
        let to_connection = format!("connections/{id}/:send");
        let server_text = |text: &str| format!(r#""from":"server","dataType":"text","data":"{text}""#);
        let group_text = |text: &str| {
            format!(r#""from":"group","group":"g","fromUserId":null,"dataType":"text","data":"{text}""#)
        };
        let (mut sent, mut lasting) = (0, Vec::new());
        for path in [":send", "groups/g/:send", "users/alice/:send", &to_connection] {
            for ttl in ["1", "0", "300"] {
                sent += 1;
                let text = format!("{sent} for {ttl}");
                let call = server.rest("POST", &format!("/api/hubs/chat/{path}"));
                call.query("messageTtlSeconds", ttl).text(&text).expect(202);
                let message = if path.starts_with("groups") { group_text(&text) } else { server_text(&text) };
                if path != to_connection {
                    witness.expect(&format!(r#"{{"type":"message",{message}}}"#));
                }
                if ttl != "1" {
                    lasting.push(format!(r#"{{"type":"message",{message},"sequenceId":{sent}}}"#));
                }
            }
        }
        wait_for_a_ttl(&server);
        let mut alice = server.open(Client::reliable().recover(&id, &token));
        alice.expect_connected();
        lasting.iter().for_each(|message| alice.expect(message));
        alice.expect_silence();
        // The probe's message expired, too.
        wait_until("the dropped ones are counted", || {
            server.metric("ringhub_hub_messages_expired_total") == 5
        });
    }
}
