//! Peers that take nothing, or are gone without a word (reliability checks 36, 37).

use std::process::Command;
use std::time::Instant;

use ringhub_tests::{Client, History, Server, wait_until};

/// The write deadline, which tests' servers are too patient about by themselves.
const DEADLINE_KEY: &str = "RINGHUB_WRITE_DEADLINE_SECONDS";

/// Its window stays shut: what is sent to it is not taken, though its kernel answers for it.
#[test]
fn a_peer_that_takes_nothing_is_lost_at_the_write_deadline() {
    let server = Server::with(|setup| setup.env(DEADLINE_KEY, "1"));
    let mut sender = server.connect(Client::json().role("webpubsub.sendToGroup"));
    let mut idle = server.connect(Client::json());
    let plain = server.connect_narrow(Client::json().group("g"));
    let mut reliable = server.connect_narrow(Client::reliable().group("g"));
    let mut history = History::new();
    history.joined(0);
    let text = "x".repeat(64 * 1024);
    let mut sent = 0;
    // Until the kernel takes no more, which is far from any bound of the server's own.
    // A machine may be so slow that they are lost before that is seen.
    let suspended = || server.metric("ringhub_hub_suspended");
    while server.metric("ringhub_outbox_bytes") == 0 && suspended() == 0 {
        sender.publish_acked("g", &format!("{} {text}", history.publish(0)));
        history.acknowledged(0);
        sent += 1;
    }
    wait_until("both are lost", || {
        let hub = |name: &str| server.metric(&format!("ringhub_hub_{name}"));
        hub("suspended") == 1 && hub("connections") == 3
    });
    let closed = server.admin().http("GET", "/closed").expect(200);
    assert!(closed.text().contains(plain.id()) && closed.text().contains("Lost"), "{closed:?}");
    let back = Client::reliable().recover(reliable.id(), reliable.token());
    reliable.expect_thrown_out();
    let mut reliable = server.connect(back);
    history.recovered(0);
    for _ in 0..sent {
        history.receive(0, &reliable.next_text());
    }
    history.check();
    // Silence is something else: pings ask about that.
    idle.expect_silence();
}

/// A cable that is pulled: packets vanish both ways. Within two keep-alive periods the server knows. Needs root and
/// network namespaces: `cargo test -p ringhub-tests --test main -- --ignored --nocapture peers::`.
#[test]
#[ignore = "needs root and network namespaces: cargo test -p ringhub-tests --test main -- --ignored peers::"]
fn a_dead_peer_is_found_within_two_keep_alive_periods() {
    let link = Link::new();
    let server = Server::with(|setup| {
        setup
            .listen("10.213.0.1:0")
            .config("[hubs.chat]\nwebsocket_keepalive_seconds = 5\n")
            .env(DEADLINE_KEY, "4")
    });
    // A client without a library, in the other namespace: it upgrades, says so, and does nothing more.
    let script = format!(
        "import socket,sys,time\n\
         s=socket.create_connection(('{}',{}))\n\
         s.sendall({:?}.encode())\n\
         s.recv(4096)\n\
         print('up',flush=True)\n\
         time.sleep(600)\n",
        server.addr.ip(),
        server.addr.port(),
        String::from_utf8(Client::reliable().request(&server)).expect("a head is text"),
    );
    let mut client = Command::new("ip");
    client.args(["netns", "exec", &link.name, "python3", "-c", &script]);
    let mut client = ringhub_tests::Process::spawn(&mut client);
    client.expect_line("up");
    assert_eq!(server.metric("ringhub_connections"), 1);
    link.pull();
    let began = Instant::now();
    wait_until("it is found", || server.metric("ringhub_connections") == 0);
    println!("found after {:.1} s", began.elapsed().as_secs_f32());
    assert!(began.elapsed().as_secs() <= 15, "a ping within two periods, and the deadline");
    wait_until("its session is kept", || server.metric("ringhub_hub_suspended") == 1);
    client.signal("KILL");
}

/// A network namespace with a cable to it, removed in the end.
struct Link {
    name: String,
}

impl Link {
    fn new() -> Self {
        let name = format!("ringhub-{}", std::process::id());
        let link = Self { name };
        let name = &link.name;
        ip(&format!("netns add {name}"));
        ip(&format!("link add rh0 type veth peer name rh1 netns {name}"));
        ip("addr add 10.213.0.1/24 dev rh0");
        ip("link set rh0 up");
        ip(&format!("-n {name} addr add 10.213.0.2/24 dev rh1"));
        ip(&format!("-n {name} link set rh1 up"));
        link
    }

    /// From now on no packet comes through, and nobody is told.
    fn pull(&self) {
        // A peer without a link: this end has one still, and goes on sending.
        ip(&format!("-n {} addr flush dev rh1", self.name));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", "rh0"]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[track_caller]
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "ip {arguments}: {status:?}");
}
