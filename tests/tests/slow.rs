//! Who does not read is thrown out; nobody else notices (`design` §3, backpressure).

use std::time::{Duration, Instant};

use ringhub_tests::{Client, History, Server};

#[test]
fn a_slow_consumer_gets_1008_and_the_others_everything() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
        let slow = server.connect_narrow(Client::json().group("g"));
        let slow_id = slow.id().to_owned();
        let mut others: Vec<_> = (0..8).map(|_| server.connect(Client::json().group("g"))).collect();
        let text = "x".repeat(64 * 1024);
        // More than the kernel's buffers and the outbox together can hold.
        for _ in 0..160 {
            let started = Instant::now();
            sender.publish_acked("g", &text);
            for other in &mut others {
                other.expect_group_text("g", None, &text);
            }
            assert!(started.elapsed() < Duration::from_secs(5), "the slow one holds up the others");
        }
        server.rest("HEAD", &format!("/api/hubs/chat/connections/{slow_id}")).expect(404);
        let closed = server.admin().http("GET", "/closed").expect(200);
        let closed = closed.text().replace(' ', "");
        assert!(closed.contains(&slow_id) && closed.contains("1008"), "{closed}");
        // What it finds when it reads at last: the end, with the code if that still got through.
        let mut slow = slow;
        assert!([None, Some(1008)].contains(&slow.expect_thrown_out()));
    }
}

/// The session's bounds decide, not the plain outbox: the same backlog is kept and read in the end.
#[test]
fn a_slow_reliable_client_keeps_its_session_within_its_bounds() {
    let server = Server::start();
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut slow = server.connect_narrow(Client::reliable().group("g"));
    let mut history = History::new();
    history.joined(0);
    let filling = "x".repeat(64 * 1024);
    for _ in 0..100 {
        sender.publish_acked("g", &format!("{} {filling}", history.publish(0)));
        history.acknowledged(0);
    }
    for n in 1..=100 {
        let text = slow.next_text();
        assert_eq!(text, crate::reliable::numbered(n, &format!("0.{n} {filling}")));
        history.receive(0, &text);
    }
    history.check();
}
