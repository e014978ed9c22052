//! Publications to thousands of members are delivered over several turns, and others are heard in between
//! (`design` §3, fan-out).

use ringhub_tests::{Client, Connection, RawSocket, Server, json_object, masked_frame, wait_until};

use crate::admin::metric;

/// Several times what one turn may send, and well below what a process may open.
const MEMBERS: usize = 4_000;
const PUBLICATIONS: u64 = 40;

/// A member whose bytes are read by hand: thousands of full clients would take gigabytes.
fn member(server: &Server, hub: &str, n: usize) -> RawSocket {
    let client = if n.is_multiple_of(8) { Client::reliable() } else { Client::json() }.hub(hub);
    let mut socket = server.raw();
    socket.write(client.group("big").request(server));
    assert_eq!(socket.read_response().status, 101);
    assert!(socket.read_frame().text().contains(r#""event":"connected""#));
    socket
}

/// What came of each of the two publishers; every number is the next one.
#[derive(Default)]
struct Heard {
    outside: u64,
    inside: u64,
}

impl Heard {
    fn note(&mut self, message: &str) {
        let message = json_object(message);
        let number: u64 = message["data"].as_str().expect("text").parse().expect("a number");
        let last = match message["fromUserId"].as_str() {
            Some("outside") => &mut self.outside,
            _ => &mut self.inside,
        };
        assert_eq!(number, *last + 1, "{message:?}");
        *last = number;
    }

    fn everything(&self, inside: u64) -> bool {
        (self.outside, self.inside) == (PUBLICATIONS, inside)
    }
}

#[test]
fn a_large_fan_out_holds_nobody_back_and_loses_nothing() {
    // Members read, and so answer pings, at the end only: on a slow machine two of them may be missed before.
    let server = Server::with(|setup| setup.config("[hubs.chat]\nwebsocket_keepalive_seconds = 120\n"));
    let mut members: Vec<_> = (0..MEMBERS).map(|n| member(&server, "chat", n)).collect();
    let publisher = |user| Client::json().user(user).may_all();
    let mut outside = server.connect(publisher("outside"));
    let mut inside = server.connect(publisher("inside").group("big"));
    let mut bystanders = [
        server.connect(Client::json()),
        server.connect(Client::json().hub("other")),
        server.connect(Client::raw().hub("other")),
    ];
    let mut small: Vec<Connection> = (0..3).map(|_| server.connect(Client::json().group("small"))).collect();
    let turns_before = metric(&server, &["ringhub_turns_total"]).expect("turns are counted");
    let mut sent_inside = 0;
    for n in 1..=PUBLICATIONS {
        outside.publish("big", &n.to_string());
        if n % 4 == 0 {
            sent_inside += 1;
            let data = format!(r#""dataType":"text","data":"{sent_inside}""#);
            inside.send(&format!(r#"{{"type":"sendToGroup","group":"big","ackId":{sent_inside},{data}}}"#));
        }
        outside.publish("small", &n.to_string());
        // An answer comes whatever is still to be delivered to others.
        bystanders.iter_mut().for_each(Connection::expect_silence);
        for member in &mut small {
            member.expect_group_text("small", Some("outside"), &n.to_string());
        }
    }

    // An ack comes after what it acknowledges, and that after all that was published before.
    let (mut heard, mut acked) = (Heard::default(), 0);
    while !heard.everything(sent_inside) || acked < sent_inside {
        let text = inside.next_text();
        if text.starts_with(r#"{"type":"ack""#) {
            acked += 1;
            assert_eq!(text, format!(r#"{{"type":"ack","ackId":{acked},"success":true}}"#));
            assert!(heard.inside >= acked, "acknowledged before it came");
        } else {
            heard.note(&text);
        }
    }
    inside.expect_silence();
    for (n, member) in members.iter_mut().enumerate() {
        let mut heard = Heard::default();
        let mut sequence = 0;
        while !heard.everything(sent_inside) {
            let frame = member.read_frame();
            if frame.first_byte == 0x89 {
                continue; // a keep-alive ping
            }
            heard.note(frame.text());
            if n.is_multiple_of(8) {
                sequence += 1;
                assert_eq!(json_object(frame.text())["sequenceId"], sequence);
            }
        }
        // Nothing came twice.
        member.write(masked_frame(0x81, br#"{"type":"ping"}"#));
        let mut frame = member.read_frame();
        while frame.first_byte == 0x89 {
            frame = member.read_frame();
        }
        assert_eq!(frame.text(), r#"{"type":"pong"}"#);
    }

    // Each of them took several turns: counted, not timed.
    let sliced = |server: &Server| metric(server, &["ringhub_hub_flushes_sliced_total"]).unwrap_or(0.0);
    wait_until("fan-outs were cut into slices", || sliced(&server) >= 3.0);
    let turns = metric(&server, &["ringhub_turns_total"]).expect("turns are counted") - turns_before;
    assert!(turns > sliced(&server), "{turns} turns for {} slices", sliced(&server));
    let forced = metric(&server, &["ringhub_hub_flushes_forced_total"]).expect("it is counted");
    assert!(forced < 1.0, "so little never has to be forced: {forced}");
}

#[test]
fn hubs_share_what_a_turn_may_send() {
    let server = Server::start();
    const EACH: usize = 1_500;
    let hubs = ["one", "two"];
    let mut members = hubs.map(|hub| (0..EACH).map(|n| member(&server, hub, n)).collect::<Vec<_>>());
    let mut publishers = hubs.map(|hub| server.connect(Client::json().hub(hub).user("outside").may_all()));
    for n in 1..=PUBLICATIONS {
        publishers.iter_mut().for_each(|publisher| publisher.publish("big", &n.to_string()));
    }
    for member in members.iter_mut().flatten() {
        let mut heard = Heard::default();
        while !heard.everything(0) {
            let frame = member.read_frame();
            // But for keep-alive pings.
            if frame.first_byte != 0x89 {
                heard.note(frame.text());
            }
        }
    }
    let sliced = |hub: &str| {
        let page = server.admin().http("GET", "/metrics").expect(200);
        let label = format!(r#"hub="{hub}""#);
        let row = page
            .text()
            .lines()
            .find(|line| line.starts_with("ringhub_hub_flushes_sliced_total{") && line.contains(&label));
        row.and_then(|row| row.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    };
    wait_until("both hubs were flushed in slices", || hubs.iter().all(|hub| sliced(hub) >= 1.0));
}
