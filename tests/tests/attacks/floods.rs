//! Floods: whatever is sent without end costs bounded memory, and others on the same core are served meanwhile
//! (`reliability` checks 22, 25, 26, 42). Nothing here counts seconds: a bystander's round trips come to an end beside a
//! flood that does not, and what the flood got in between two of them has a bound. How much later they end than without
//! a flood is what `ringhub-bench flood` measures.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringhub_tests::{
    Answer, AtEnd, Client, Connection, Endpoint, Handler, RawSocket, Server, masked_frame, memory_bound,
    size_of_run, wait_until,
};

use super::frames::close_code;

/// Round trips of the bystanders beside a flood.
const ROUNDS: usize = 5;
/// What one turn may take in of everybody: every receive buffer of a core. Little of it is heard in that turn, but a
/// flooder that has just come is not known for one yet, and what it sent is taken from the kernel.
const TURN_BYTES: u64 = 4 << 20;
/// What the flood may get in between a question and its answer, in the middle of all rounds: what fits into two turns,
/// one that was under way and the one that answers. In some rounds a busy machine lets the asking thread wait.
const ROUND_BYTES: u64 = 2 * TURN_BYTES;
/// Blocks that a flood is ahead of the server, where it is not ahead for as much as the kernel takes: a debug build
/// needs seconds for 4 MiB of empty frames.
const AHEAD_MAX: usize = 4;

/// What is done again and again.
enum Flood {
    /// A client writes these bytes, as many as the kernel takes.
    Endless(Client, Vec<u8>),
    /// The same, a few blocks ahead of the server.
    Frames(Client, Vec<u8>),
    /// A caller sends this request, a few hundred ahead.
    Calls(Vec<u8>),
    /// Somebody comes, says this, is answered, and is gone.
    Knocks(Vec<u8>),
    /// A reliable client is cut and comes back to its session.
    Recoveries,
}

impl Flood {
    fn run(&self, server: &Endpoint, is_over: impl Fn() -> bool) {
        match self {
            Self::Endless(client, block) => {
                let mut socket = server.upgraded(client.clone());
                while !is_over() {
                    if socket.try_write(block).is_err() {
                        // It was thrown out, for it reads only when it does not write.
                        socket = server.upgraded(client.clone());
                    }
                    socket.discard();
                }
            }
            Self::Frames(client, block) => {
                let mut socket = server.upgraded(client.clone());
                let block = [block, &masked_frame(0x89, b"taken")[..]].concat();
                let mut ahead = 0;
                while !is_over() {
                    socket.write(&block);
                    ahead += 1;
                    if ahead == AHEAD_MAX {
                        while socket.read_frame().payload != b"taken" {}
                        ahead -= 1;
                    }
                }
            }
            Self::Calls(request) => {
                let mut socket = server.raw();
                socket.write(request.repeat(50 * AHEAD_MAX));
                while !is_over() {
                    socket.write(request.repeat(50));
                    (0..50).for_each(|_| drop(socket.read_response()));
                }
            }
            Self::Knocks(request) => {
                while !is_over() {
                    let mut socket = server.raw();
                    socket.write(request);
                    socket.read_response();
                    socket.reset();
                }
            }
            Self::Recoveries => {
                let mut client = server.connect(Client::reliable());
                while !is_over() {
                    let back = Client::reliable().recover(client.id(), client.token());
                    client.reset();
                    client = server.connect(back);
                }
            }
        }
    }

    /// Floods until `meanwhile` is done.
    fn during<T>(&self, server: &Endpoint, meanwhile: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.run(server, || over.load(Ordering::Relaxed)));
            let _end = AtEnd(&over);
            meanwhile()
        })
    }
}

/// A client that may do all it wants in its own group.
fn flooder(server: &Endpoint) -> RawSocket {
    let mut socket = server.upgraded(Client::json().may_all());
    socket.read_frame();
    socket
}

fn floods(server: &Server) -> Vec<(&'static str, Flood)> {
    let text = |request: &str| masked_frame(0x81, request.as_bytes());
    let fresh = |request: &str| -> Vec<u8> {
        (0..200).flat_map(|n| text(&request.replace("{n}", &n.to_string()))).collect()
    };
    let event = |name: &str| {
        let event = r#"{"type":"event","event":"NAME","ackId":{n},"dataType":"text","data":""}"#;
        fresh(&event.replace("NAME", name))
    };
    let publish = |group: &str, data: &str| {
        text(&format!(r#"{{"type":"sendToGroup","group":"{group}","dataType":"text","data":"{data}"}}"#))
    };
    let call = |path: &str| server.rest("POST", path).text("x").bytes();
    let may_all = || Client::json().may_all();
    let json = |block: Vec<u8>| Flood::Frames(may_all(), block);
    let raw =
        |block: Vec<u8>| Flood::Frames(Client::raw().role("webpubsub.sendToGroup").sends_to("nobody"), block);
    let [joins, leaves] =
        ["joinGroup", "leaveGroup"].map(|verb| fresh(&format!(r#"{{"type":"{verb}","group":"g{{n}}"}}"#)));
    vec![
        ("endless pings", Flood::Endless(may_all(), masked_frame(0x89, &[b'x'; 125]).repeat(200))),
        (
            "endless messages to nobody",
            Flood::Endless(may_all(), publish("nobody", &"x".repeat(1000)).repeat(20)),
        ),
        ("pings", json(masked_frame(0x89, b"").repeat(2000))),
        ("empty frames", raw(masked_frame(0x81, b"").repeat(2000))),
        ("frames of a byte", raw(masked_frame(0x82, b"x").repeat(2000))),
        ("joins and leaves", json([joins, leaves].concat())),
        ("messages to nobody", json(publish("nobody", "").repeat(200))),
        ("messages to a group", json(publish("members", "").repeat(200))),
        ("events nobody handles", json(event("e"))),
        ("events a handler answers", json(event("handled"))),
        ("REST sends to nobody", Flood::Calls(call("/api/hubs/chat/groups/nobody/:send"))),
        ("REST sends to a group", Flood::Calls(call("/api/hubs/chat/groups/members/:send"))),
        ("REST calls without a token", Flood::Knocks(server.http("GET", "/api/hubs/chat/users/u").bytes())),
        ("connects", Flood::Knocks(Client::json().request(server))),
        ("refused connects", Flood::Knocks(Client::json().no_token().request(server))),
        ("recoveries", Flood::Recoveries),
    ]
}

/// Bystanders have their turn whatever somebody does as fast as it can: between a question of theirs and its answer
/// the server took in what fits into the turns these take, and no more.
#[test]
fn no_flood_starves_a_bystander() {
    let handler = Handler::start(|_| Answer::no_content());
    let config = format!(
        "[hubs.chat.reliable]\nrecovery_window_seconds = 1\nrecovery_grace_seconds = 0\n{}",
        handler.section("user_event_pattern = \"handled\"\n")
    );
    let mut server = Server::with(|setup| setup.config(&config));
    // Members of the group that is flooded do read.
    let mut members: Vec<RawSocket> =
        (0..5).map(|_| server.upgraded(Client::json().group("members"))).collect();
    let mut bystanders = [server.connect(Client::json()), server.connect(Client::json().hub("other"))];
    let there = (members.len() + bystanders.len()) as u64;
    let settled = server.process().resident_bytes();
    let over = AtomicBool::new(false);
    members[0].set_deadline(Duration::from_millis(50));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // What one of them gets all do. Nobody spins on the CPU that the server needs.
                members[0].has_answer();
                members.iter_mut().for_each(RawSocket::discard);
            }
        });
        let _end = AtEnd(&over);
        for (name, flood) in floods(&server) {
            println!("{name}");
            let taken = flood.during(&server, || rounds_beside_a_flood(&server, &mut bystanders));
            println!("{name}: {taken:?} bytes between question and answer");
            assert!(taken[ROUNDS / 2] < ROUND_BYTES, "{name}: {taken:?}");
        }
    });
    assert!(server.metric("ringhub_inputs_put_off_total") > 0, "the bound of a turn was reached");
    wait_until("the flooders are gone", || server.metric("ringhub_connections") == there);
    let grown = server.process().resident_bytes().saturating_sub(settled);
    assert!(grown < memory_bound(48 << 20), "{grown} bytes after all of it");
}

/// What the flood got in before each answer, least first.
fn rounds_beside_a_flood(server: &Server, bystanders: &mut [Connection]) -> Vec<u64> {
    let bytes_in = || server.metric("ringhub_bytes_in_total");
    // First it must have begun.
    let begun = bytes_in() + 20_000;
    wait_until("the flood has begun", || bytes_in() > begun);
    let mut before = (bytes_in(), server.metric("ringhub_turns_total"));
    let mut taken: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            bystanders.iter_mut().for_each(|bystander| bystander.send(r#"{"type":"ping"}"#));
            bystanders.iter_mut().for_each(|bystander| bystander.expect(r#"{"type":"pong"}"#));
            let after = (bytes_in(), server.metric("ringhub_turns_total"));
            let (taken, turns) = (after.0 - before.0, after.1 - before.1);
            // However long it took: the budget of a turn holds.
            assert!(taken <= (turns + 1) * TURN_BYTES, "{taken} bytes in {turns} turns");
            before = after;
            taken
        })
        .collect();
    taken.sort_unstable();
    taken
}

/// Raw clients publish with every frame: empty ones, and ones of a byte, ten thousand each, all come.
#[test]
fn empty_and_tiny_messages_are_messages() {
    const EACH: usize = 10_000;
    let server = Server::start();
    let sender = || server.upgraded(Client::raw().role("webpubsub.sendToGroup").sends_to("g"));
    let mut member = server.upgraded(Client::raw().group("g"));
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
        let mut most = 0;
        // Until it is thrown out, or a million.
        for _ in 0..500 {
            if socket.try_write(&pings).is_err() {
                break;
            }
            most = most.max(server.metric("ringhub_outbox_bytes"));
            bystander.expect_silence();
        }
        assert!(most < 2 << 20, "{most} bytes waited");
        wait_until("it is gone", || server.metric("ringhub_connections") == 1);
    }
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < memory_bound(32 << 20), "{grown} bytes for pongs");
}

/// One that reads gets a pong for each, however many.
#[test]
fn pings_of_one_that_reads_are_answered() {
    const PINGS: usize = 50_000;
    let server = Server::start();
    let mut socket = server.upgraded(Client::raw());
    let pings = masked_frame(0x89, b"").repeat(5000);
    for _ in 0..PINGS / 5000 {
        socket.write(&pings);
        assert!(socket.read_exact(2 * 5000).chunks(2).all(|pong| *pong == [0x8a, 0]));
    }
}

/// A hundred thousand empty fragments, where they are allowed: all of them one message, and no memory. With
/// `RINGHUB_FRAGMENTS=1000000` they are the million of check 22.
#[test]
fn very_many_empty_fragments_cost_no_memory() {
    let most = size_of_run("RINGHUB_FRAGMENTS", 100_000);
    let config = format!("[limits]\nmessage_fragments_max = {most}\n");
    let mut server = Server::with(|setup| setup.config(&config));
    let mut bystander = server.connect(Client::json());
    let mut socket = flooder(&server);
    let before = server.process().resident_bytes();
    socket.write(masked_frame(0x01, br#"{"type":"#));
    let fragments = masked_frame(0x00, b"").repeat(10_000);
    for _ in 1..most / 10_000 {
        socket.write(&fragments);
        bystander.expect_silence();
    }
    socket.write(masked_frame(0x80, br#""ping"}"#));
    assert!(socket.read_frame().text().contains("pong"));
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < memory_bound(16 << 20), "{grown} bytes for nothing");
    // One more than there may be.
    socket.write(masked_frame(0x01, b""));
    (0..=most / 10_000).for_each(|_| drop(socket.try_write(&fragments)));
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
    assert!(grown < memory_bound(6 << 20), "{grown} bytes for 4,000 groups that are no more");
    for n in 0..100 {
        client.join(&format!("kept {n}"));
    }
    client.send(r#"{"type":"joinGroup","group":"one more","ackId":1}"#);
    client.expect_failed_ack(1, "BadRequest");
    wait_until("it is counted", || server.metric("ringhub_hub_groups_refused_total") == 1);
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
        wait_until("they are gone", || server.metric("ringhub_connections") == 0);
        server.process().resident_bytes()
    };
    let settled = knock(0, 600);
    let grown = knock(600, 1_200).saturating_sub(settled);
    assert!(grown < memory_bound(6 << 20), "{grown} bytes for 600 clients that are no more");
    let closed = server.admin().http("GET", "/closed").expect(200);
    assert_eq!(closed.text().matches("connectionId").count(), 200, "a hundred of each core");
}
