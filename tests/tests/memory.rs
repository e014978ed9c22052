//! A server short of memory refuses new work and lives (reliability check 38).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringhub_tests::{Client, RawSocket, Server, masked_frame, size_of_run, wait_until};

/// Every server holds more than this.
const TOO_LITTLE: usize = 1 << 20;
/// No server of these tests gets there.
const ENOUGH: usize = 1 << 40;

/// Readers that stall are to hold much before they are closed for that alone.
const PATIENT: &str = "[limits]\noutbox_bytes_max = 67108864\n";

fn config(memory_bytes_max: usize) -> String {
    format!("{PATIENT}memory_bytes_max = {memory_bytes_max}\n")
}

fn start() -> Server {
    Server::with(|setup| setup.cores(2).config(&config(ENOUGH)))
}

/// Changes the bound, and waits for what it makes of the server.
fn bound(server: &Server, memory_bytes_max: usize, is_short: bool) {
    fs::write(server.config(), config(memory_bytes_max)).unwrap();
    server.reload();
    wait_until("it is seen whether memory is short", || is_short == is_short_of_memory(server));
}

/// Whether the process is, or a core by itself.
fn is_short_of_memory(server: &Server) -> bool {
    ["ringhub_memory_short", "ringhub_core_memory_short"].iter().any(|name| server.metric(name) > 0)
}

#[test]
fn short_of_memory_new_work_is_refused_and_who_is_there_lives_on() {
    let mut server = start();
    let mut alice = server.connect(Client::json().group("g").may_all());
    let mut raw = server.open(Client::raw().role("webpubsub.sendToGroup").sends_to("g"));
    let reliable = server.connect(Client::reliable().group("g"));
    let mut idle = server.connect(Client::json());
    bound(&server, TOO_LITTLE, true);

    let send = server.rest("POST", "/api/hubs/chat/groups/g/:send").text("x");
    let join = server.rest("PUT", &format!("/api/hubs/chat/groups/new/connections/{}", idle.id()));
    let refused = [server.refuse(Client::json(), 503), send.expect(503), join.expect(503)];
    for response in &refused {
        assert_eq!(response.header("retry-after"), Some("1"), "{response:?}");
        assert!(response.expect_error("Error.ServiceUnavailable").contains("memory"), "{response:?}");
    }
    assert_eq!(server.metric("ringhub_memory_upgrades_refused_total"), 1);
    assert_eq!(server.metric("ringhub_memory_calls_refused_total"), 2);
    // Calls that take no memory are answered.
    server.rest("HEAD", "/api/hubs/chat/groups/g").expect(200);

    // A publication that can be refused is; one that cannot is taken, slowly, and none is lost.
    alice.send(r#"{"type":"sendToGroup","group":"g","ackId":1,"dataType":"text","data":"refused"}"#);
    alice.expect_failed_ack(1, "InternalServerError");
    for n in 1..=3 {
        alice.publish("g", &n.to_string());
        alice.expect_group_text("g", None, &n.to_string());
    }
    raw.send("4");
    raw.send("5");
    for n in 4..=5 {
        alice.expect_group_text("g", None, &n.to_string());
    }
    // Sessions are recovered: their logs are emptied by that.
    let back = Client::reliable().recover(reliable.id(), reliable.token());
    reliable.reset();
    let mut reliable = server.connect(back);
    for n in 1..=5 {
        let text = reliable.next_text();
        assert!(text.contains(&format!(r#""data":"{n}","sequenceId":{n}"#)), "{text}");
    }
    idle.expect_silence();

    bound(&server, ENOUGH, false);
    server.connect(Client::json());
    send.expect(202);
    alice.expect_group_text("g", None, "x");
    alice.publish_acked("g", "y");
    let log = server.process().log();
    assert!(log.contains("memory is short: ") && log.contains("memory is not short any more"), "{log}");
}

/// Sends a connection a megabyte of its own, which it shares with nobody; whether that was taken.
fn push(server: &Server, id: &str) -> bool {
    let text = "x".repeat(1_000_000);
    let response = server.rest("POST", &format!("/api/hubs/chat/connections/{id}/:send")).text(&text).send();
    assert!([202, 503].contains(&response.status), "{response:?}");
    response.status == 202
}

/// What made it short goes first: clients for whom megabytes wait.
#[test]
fn readers_that_stall_are_closed_before_memory_runs_out() {
    let mut server = start();
    let mut idle = server.connect(Client::json().group("g"));
    let stalled: Vec<_> = (0..4).map(|_| server.connect_narrow(Client::json())).collect();
    let bytes_max = server.process().resident_bytes() + (32 << 20);
    bound(&server, bytes_max, false);
    wait_until("readers that stall are closed", || {
        for reader in &stalled {
            push(&server, reader.id());
        }
        server.metric("ringhub_clients_shed_total") > 0
    });
    // A few megabytes come in between two looks; more on a busy machine.
    let peak = server.process().peak_bytes();
    assert!(peak < bytes_max + (32 << 20), "{} of {} MiB", peak >> 20, bytes_max >> 20);
    wait_until("there is room again", || !is_short_of_memory(&server));
    let closed = server.admin().http("GET", "/closed").expect(200);
    assert!(closed.text().contains("1008") && closed.text().contains("short of memory"), "{closed:?}");
    // Somebody for whom nothing waits noticed nothing.
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("x").expect(202);
    idle.expect_group_text("g", None, "x");
    server.connect(Client::json());
}

/// A member of a crowd of which each holds little: `bytes` of a message, or of a request's body, that is not whole.
///
/// None if there is no room for it any more.
fn half_said(server: &Server, is_request: bool, bytes: usize) -> Option<RawSocket> {
    let mut socket = server.raw();
    if is_request {
        let send = server.rest("POST", "/api/hubs/chat/:send").text(&"x".repeat(2 * bytes));
        let whole = send.bytes();
        socket.try_write(&whole[..whole.len() - bytes]).ok()?;
    } else {
        socket.write(Client::raw().request(server));
        if socket.read_response().status != 101 {
            return None;
        }
        socket.try_write(masked_frame(0x02, &vec![b'x'; bytes])).ok()?;
    }
    Some(socket)
}

/// Nobody of them holds much, and nobody counted them: they carried the process as far as they liked.
#[test]
fn a_crowd_that_holds_little_each_is_ended_before_memory_runs_out() {
    const BYTES: usize = 60 << 10;
    const ROOM: usize = 48 << 20;
    for (is_request, shed) in [(false, "ringhub_clients_shed_total"), (true, "ringhub_requests_shed_total")] {
        let mut server = start();
        let mut idle = server.connect(Client::json().group("g"));
        let bytes_max = server.process().resident_bytes() + ROOM;
        bound(&server, bytes_max, false);
        let mut crowd = Vec::new();
        while crowd.len() * BYTES < 2 * ROOM && !is_short_of_memory(&server) {
            for _ in 0..20 {
                crowd.extend(half_said(&server, is_request, BYTES));
            }
        }
        wait_until("somebody is ended", || server.metric(shed) > 0);
        wait_until("there is room again", || !is_short_of_memory(&server));
        let peak = server.process().peak_bytes();
        assert!(peak < bytes_max + ROOM / 2, "{} of {} MiB", peak >> 20, bytes_max >> 20);
        let gone = server.metric(shed);
        println!("{gone} of {} ended, {} of {} MiB used at most", crowd.len(), peak >> 20, bytes_max >> 20);
        assert!((gone as usize) < crowd.len(), "no more than needed");
        server.rest("POST", "/api/hubs/chat/groups/g/:send").text("x").expect(202);
        idle.expect_group_text("g", None, "x");
        server.connect(Client::json());
    }
}

/// It was only reset: its socket was closed before its goodbye was sent.
#[test]
fn who_is_in_the_middle_of_a_message_is_told_why_it_is_closed() {
    const BYTES: usize = 256 << 10;
    let server = start();
    let before = server.metric("ringhub_bytes_in_total");
    let mut socket = half_said(&server, false, BYTES).expect("there is room");
    wait_until("it is half said", || server.metric("ringhub_bytes_in_total") >= before + BYTES as u64);
    bound(&server, TOO_LITTLE, true);
    let goodbye = socket.read_frame();
    assert_eq!(goodbye.close_code(), Some(1008));
    assert!(String::from_utf8_lossy(&goodbye.payload).contains("short of memory"), "{goodbye:?}");
    socket.expect_end();
}

/// A minute, or `RINGHUB_MEMORY_SECONDS`, in a control group of 128 MiB, pushed past its bound all the time: never
/// killed, and as good as new when it is left alone. Needs root and control groups that can be written:
/// `cargo test -p ringhub-tests --test main -- --ignored --nocapture memory::`.
#[test]
#[ignore = "takes a minute, and root: cargo test -p ringhub-tests --test main -- --ignored memory::"]
fn in_a_control_group_it_is_never_killed() {
    let seconds = size_of_run("RINGHUB_MEMORY_SECONDS", 60) as u64;
    let group = ControlGroup::new(128 << 20);
    // No bound of its own: nine tenths of the group's.
    let server = Server::with(|setup| setup.cores(2).config(PATIENT).control_group(group.0.clone()));
    let mut idle = server.connect(Client::json().group("g"));
    let began = Instant::now();
    let (mut stalled, mut taken, mut refused, mut shortages, mut was_short) = (Vec::new(), 0, 0, 0, false);
    let (mut shed, mut shed_before) = (0, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        // Whoever was closed is replaced, with all the others.
        if shed > shed_before {
            stalled.clear();
        }
        if stalled.len() < 8 {
            stalled.extend(server.try_connect_narrow(Client::json()).ok());
        }
        for client in &stalled {
            *if push(&server, client.id()) { &mut taken } else { &mut refused } += 1;
        }
        // Lives on, which takes an answer to pings now and then.
        idle.expect_silence();
        let is_short = is_short_of_memory(&server);
        shortages += u32::from(is_short && !was_short);
        was_short = is_short;
        (shed_before, shed) = (shed, server.metric("ringhub_clients_shed_total"));
    }
    println!(
        "{taken} sends taken, {refused} refused, {shortages} shortages, {shed} clients shed; used {} MiB at most",
        group.most_used() >> 20
    );
    assert!(refused > 0 && shortages > 0);
    drop(stalled);
    wait_until("there is room again", || !is_short_of_memory(&server));
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("x").expect(202);
    idle.expect_group_text("g", None, "x");
    server.connect(Client::json());
}

/// A control group of either version, removed in the end.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn new(bytes_max: usize) -> Self {
        let name = format!("ringhub-{}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let folder = PathBuf::from(root).join(&name);
            if fs::create_dir(&folder).is_ok() {
                let set = fs::write(folder.join(limit), bytes_max.to_string());
                let group = Self(folder);
                if set.is_ok() {
                    return group;
                }
            }
        }
        panic!("no control group can be made here");
    }

    fn most_used(&self) -> usize {
        let peaks = ["memory.max_usage_in_bytes", "memory.peak"];
        let peak = peaks.iter().find_map(|peak| fs::read_to_string(self.0.join(peak)).ok());
        peak.and_then(|peak| peak.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
