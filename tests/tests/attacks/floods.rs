//! Floods: whatever one connection sends without end costs bounded memory, and others on its core are served meanwhile
//! (`reliability` checks 22, 25, 26, 42). Nothing here counts seconds: a bystander's round trips come to an end beside a
//! flood that does not, and what the flood got in between two of them has a bound.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ringhub_tests::{Client, Endpoint, RawSocket, Server, masked_frame, wait_until};

use super::frames::{close_code, upgraded};
use crate::admin::metric;

/// Round trips of a bystander beside a flood.
const ROUNDS: usize = 2;
/// What one turn may take in of everybody: every receive buffer of a core.
const TURN_BYTES: f64 = (4 << 20) as f64;

fn count(server: &Server, name: &str) -> f64 {
    metric(server, &[name]).unwrap_or_default()
}

/// Writes `block` again and again, and reads whatever comes, until `meanwhile` is done.
fn flooded<T>(server: &Endpoint, block: &[u8], meanwhile: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || {
            let mut socket = flooder(server);
            while !over.load(Ordering::Relaxed) {
                if socket.try_write(block).is_err() {
                    // It was thrown out, for it reads only when it does not write.
                    socket = flooder(server);
                }
                socket.discard();
            }
        });
        let result = meanwhile();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// A client that may do all it wants in its own group.
fn flooder(server: &Endpoint) -> RawSocket {
    let mut socket = upgraded(server, Client::json().may_all());
    socket.read_frame();
    socket
}

/// Bystanders have their turn whatever one client sends as fast as it can: between two answers to them the server took
/// in of it what fits into the turns these take, two each, and no more.
#[test]
fn no_flood_starves_a_bystander() {
    let mut server = Server::start();
    let text = |request: &str| masked_frame(0x81, request.as_bytes());
    let fresh = |request: &str| -> Vec<u8> {
        (0..400).flat_map(|n| text(&request.replace("{n}", &n.to_string()))).collect()
    };
    let floods = [
        ("pings", masked_frame(0x89, b"").repeat(2000)),
        (
            "joins and leaves",
            fresh(r#"{"type":"joinGroup","group":"g{n}"}"#)
                .into_iter()
                .chain(fresh(r#"{"type":"leaveGroup","group":"g{n}"}"#))
                .collect(),
        ),
        (
            "messages to nobody",
            text(r#"{"type":"sendToGroup","group":"g","dataType":"text","data":""}"#).repeat(500),
        ),
        (
            "events nobody handles",
            fresh(r#"{"type":"event","event":"e","ackId":{n},"dataType":"text","data":""}"#),
        ),
    ];
    let mut bystanders = [server.connect(Client::json()), server.connect(Client::json().hub("other"))];
    let settled = server.process().resident_bytes();
    for (name, block) in floods {
        println!("{name}");
        let taken = flooded(&server, &block, || {
            // First it must have begun.
            let begun = count(&server, "ringhub_bytes_in_total") + 1e5;
            wait_until("the flood has begun", || count(&server, "ringhub_bytes_in_total") > begun);
            let (before, turns) =
                (count(&server, "ringhub_bytes_in_total"), count(&server, "ringhub_turns_total"));
            for _ in 0..ROUNDS {
                bystanders.iter_mut().for_each(|bystander| bystander.send(r#"{"type":"ping"}"#));
                bystanders.iter_mut().for_each(|bystander| bystander.expect(r#"{"type":"pong"}"#));
            }
            let turns = count(&server, "ringhub_turns_total") - turns;
            assert!(turns >= ROUNDS as f64, "{name}: an answer takes a turn");
            count(&server, "ringhub_bytes_in_total") - before
        });
        let most = TURN_BYTES * 2.0 * (ROUNDS + 2) as f64;
        assert!(taken < most, "{name}: {taken} bytes went before {ROUNDS} round trips");
    }
    wait_until("the flooders are gone", || count(&server, "ringhub_connections") == 2.0);
    let grown = server.process().resident_bytes().saturating_sub(settled);
    assert!(grown < 48 << 20, "{grown} bytes after all of it");
}

/// Raw clients publish with every frame: empty ones, and ones of a byte, ten thousand each, all come.
#[test]
fn empty_and_tiny_messages_are_messages() {
    const EACH: usize = 10_000;
    let server = Server::start();
    let sender = || upgraded(&server, Client::raw().role("webpubsub.sendToGroup").sends_to("g"));
    let mut member = upgraded(&server, Client::raw().group("g"));
    let mut bystander = server.connect(Client::json());
    for (payload, frames) in [(&b""[..], 2), (b"x", 3)] {
        let mut sender = sender();
        let block = masked_frame(0x81, payload).repeat(1000);
        thread::scope(|scope| {
            scope.spawn(move || (0..EACH / 1000).for_each(|_| sender.write(&block)));
            for _ in 0..EACH / 1000 {
                assert!(member.read_exact(1000 * frames).chunks(frames).all(|frame| frame[2..] == *payload));
            }
        });
        bystander.expect_silence();
    }
}

/// Pings of somebody who reads nothing: what waits for it has its bound, and it is then thrown out, plain or
/// reliable.
#[test]
fn pings_of_one_that_does_not_read_are_bounded() {
    let mut server = Server::start();
    let mut bystander = server.connect(Client::json());
    let before = server.process().resident_bytes();
    for client in [Client::json(), Client::raw(), Client::reliable()] {
        let mut socket = server.raw_narrow();
        socket.write(client.request(&server));
        assert_eq!(socket.read_response().status, 101);
        let pings = masked_frame(0x89, &[b'x'; 125]).repeat(2000);
        let mut most = 0.0_f64;
        // Until it is thrown out, or a million.
        for _ in 0..500 {
            if socket.try_write(&pings).is_err() {
                break;
            }
            most = most.max(count(&server, "ringhub_outbox_bytes"));
            bystander.expect_silence();
        }
        assert!(most < (2 << 20) as f64, "{most} bytes waited");
        wait_until("it is gone", || count(&server, "ringhub_connections") == 1.0);
    }
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for pongs");
}

/// One that reads gets a pong for each, however many.
#[test]
fn pings_of_one_that_reads_are_answered() {
    const PINGS: usize = 50_000;
    let server = Server::start();
    let mut socket = upgraded(&server, Client::raw());
    let pings = masked_frame(0x89, b"").repeat(5000);
    for _ in 0..PINGS / 5000 {
        socket.write(&pings);
        assert!(socket.read_exact(2 * 5000).chunks(2).all(|pong| *pong == [0x8a, 0]));
    }
}

/// A hundred thousand empty fragments, where they are allowed: all of them one message, and no memory.
#[test]
fn very_many_empty_fragments_cost_no_memory() {
    let mut server = Server::with(|setup| setup.config("[limits]\nmessage_fragments_max = 100000\n"));
    let mut bystander = server.connect(Client::json());
    let mut socket = flooder(&server);
    let before = server.process().resident_bytes();
    socket.write(masked_frame(0x01, br#"{"type":"#));
    let fragments = masked_frame(0x00, b"").repeat(10_000);
    for _ in 0..9 {
        socket.write(&fragments);
        bystander.expect_silence();
    }
    socket.write(masked_frame(0x80, br#""ping"}"#));
    assert!(socket.read_frame().text().contains("pong"));
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for nothing");
    // One more than there may be.
    socket.write(masked_frame(0x01, b""));
    (0..11).for_each(|_| drop(socket.try_write(&fragments)));
    assert_eq!(close_code(&mut socket), (Some(1009), 0));
}

/// Ever new groups, joined and left, are forgotten on every core; joined and kept, they have their bound.
#[test]
fn ever_new_groups_are_bounded() {
    let mut server =
        Server::with(|setup| setup.cores(2).config("[limits]\ngroups_per_connection_max = 100\n"));
    let mut client = server.connect(Client::json().may_all());
    let mut hop = |from: u32, to: u32| {
        for n in (from..to).step_by(100) {
            for n in n..n + 100 {
                client.send(&format!(r#"{{"type":"joinGroup","group":"group {n}"}}"#));
                client.send(&format!(r#"{{"type":"leaveGroup","group":"group {n}"}}"#));
            }
            client.expect_silence();
        }
    };
    hop(0, 2_000);
    let settled = server.process().resident_bytes();
    hop(2_000, 6_000);
    let grown = server.process().resident_bytes().saturating_sub(settled);
    assert!(grown < 6 << 20, "{grown} bytes for 4,000 groups that are no more");
    for n in 0..100 {
        client.join(&format!("kept {n}"));
    }
    client.send(r#"{"type":"joinGroup","group":"one more","ackId":1}"#);
    client.expect_failed_ack(1, "BadRequest");
    wait_until("it is counted", || count(&server, "ringhub_hub_groups_refused_total") == 1.0);
    client.leave("kept 0");
    client.join("one more");
}

/// Ever new clients leave nothing behind but a row in the list of the last ones, which has its bound.
#[test]
fn ever_new_connections_leave_nothing() {
    let mut server = Server::with(|setup| setup.cores(2).config("[limits]\nadmin_rows_max = 100\n"));
    let mut knock = |from: u32, to: u32| {
        for n in from..to {
            let mut socket = server.raw();
            let client = Client::json().user(&format!("user {n}")).group(&format!("group {n}"));
            socket.write(client.request(&server));
            assert_eq!(socket.read_response().status, 101);
            if n % 2 == 0 { socket.reset() } else { drop(socket) }
        }
        wait_until("they are gone", || count(&server, "ringhub_connections") == 0.0);
        server.process().resident_bytes()
    };
    let settled = knock(0, 600);
    let grown = knock(600, 1_200).saturating_sub(settled);
    assert!(grown < 6 << 20, "{grown} bytes for 600 clients that are no more");
    let closed = server.admin().http("GET", "/closed").expect(200);
    assert_eq!(closed.text().matches("connectionId").count(), 200, "a hundred of each core");
}
