//! Systems on which the server cannot run, or only just (`reliability` checks 12 and 79): one line says why, and how to
//! mend it.

use ringhub_tests::{Client, Process, RawSocket, Server, ringhub, sum_of, wait_until};
use std::process::{Command, Stdio};

/// The command, in a shell that does something before it.
fn after(shell: &str, command: &Command) -> Command {
    let mut shelled = Command::new("sh");
    shelled.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]);
    take_over(shelled, command)
}

/// The command without some system calls, see `src/bin/forbid.rs`.
fn without(calls: &[String], command: &Command) -> Command {
    let mut forbidden = Command::new(env!("CARGO_BIN_EXE_forbid"));
    forbidden.args(calls).arg("--");
    take_over(forbidden, command)
}

fn take_over(mut launcher: Command, command: &Command) -> Command {
    launcher.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    launcher
}

fn serve() -> Command {
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--cores", "2"];
    ringhub(["serve"].into_iter().chain(listen))
}

fn echo() -> Command {
    ringhub(["echo", "--listen", "127.0.0.1:0"])
}

/// It ends at once, with an exit code of its own and one line that has all these words.
#[track_caller]
fn expect_refusal(mut command: Command, words: &[&str]) {
    let mut process = Process::spawn(command.stdin(Stdio::null()));
    assert_eq!(process.wait().code(), Some(1), "{}", process.log());
    let log = process.log();
    assert_eq!(log.lines().count(), 1, "one line: {log}");
    assert!(log.starts_with("ringhub: ") && log.contains("; fix: "), "{log}");
    assert!(words.iter().all(|word| log.contains(word)), "{words:?} in {log}");
}

fn io_uring(call: libc::c_long, errno: i32) -> Vec<String> {
    vec![format!("{call}={errno}")]
}

#[test]
fn a_container_that_forbids_io_uring_is_told_of_its_profile() {
    for command in [serve(), echo()] {
        let calls = io_uring(libc::SYS_io_uring_setup, libc::EPERM);
        expect_refusal(without(&calls, &command), &["forbids io_uring", "seccomp"]);
    }
    for call in [libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        let calls = io_uring(call, libc::EPERM);
        expect_refusal(without(&calls, &serve()), &["io_uring", "io_uring_enter", "seccomp"]);
    }
}

#[test]
fn a_kernel_without_io_uring_is_told_the_version() {
    let calls = io_uring(libc::SYS_io_uring_setup, libc::ENOSYS);
    expect_refusal(without(&calls, &serve()), &["no io_uring", "6.1 or newer"]);
}

#[test]
fn a_kernel_too_old_is_told_the_version() {
    // Flags that it does not know; buffer rings that it does not have.
    const IORING_REGISTER_PBUF_RING: i32 = 22;
    for call in [
        libc::SYS_io_uring_setup.to_string(),
        format!("{}:{IORING_REGISTER_PBUF_RING}", libc::SYS_io_uring_register),
    ] {
        let calls = [format!("{call}={}", libc::EINVAL)];
        expect_refusal(without(&calls, &serve()), &["too old", "6.1 or newer"]);
    }
}

#[test]
fn no_memory_for_a_ring_is_told_the_limit() {
    let calls = io_uring(libc::SYS_io_uring_setup, libc::ENOMEM);
    expect_refusal(without(&calls, &serve()), &["memory", "ulimit -l", "LimitMEMLOCK"]);
    expect_refusal(after("ulimit -l 64", &serve()), &["65536 bytes", "to be 2", "ulimit -l", "LimitMEMLOCK"]);
}

#[test]
fn no_file_for_a_ring_is_told_the_limit() {
    let calls = io_uring(libc::SYS_io_uring_setup, libc::EMFILE);
    expect_refusal(without(&calls, &serve()), &["descriptor", "ulimit -n", "LimitNOFILE"]);
}

/// What is not refused at all: the verbs that need no ring.
#[test]
fn other_verbs_need_no_io_uring() {
    let calls = io_uring(libc::SYS_io_uring_setup, libc::EPERM);
    for verb in ["check", "--version"] {
        let mut process = Process::spawn(&mut without(&calls, &ringhub([verb])));
        assert!(process.wait().success(), "{}", process.log());
    }
}

/// A request on a connection that is kept.
#[track_caller]
fn get(socket: &mut RawSocket, path: &str) -> String {
    socket.write(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let response = socket.read_response();
    assert_eq!(response.status, 200, "{path}");
    response.text().to_owned()
}

/// A metric, asked for on such a connection.
#[track_caller]
fn counted(socket: &mut RawSocket, name: &str) -> u64 {
    sum_of(&get(socket, "/metrics"), name, &[])
}

/// A client too many is answered 503, and callers, health and metrics are answered all the same: the last descriptors
/// are for them.
#[test]
fn clients_do_not_get_the_last_file_descriptors() {
    let server = Server::with(|setup| setup.open_files(64));
    let mut alice = server.connect(Client::json().group("g"));
    let knock = || {
        let mut socket = server.raw();
        socket.write(Client::json().group("g").request(&server));
        let response = socket.read_response();
        (socket, response)
    };
    let mut crowd = Vec::new();
    let refused = loop {
        let (socket, response) = knock();
        if response.status != 101 {
            break response;
        }
        crowd.push(socket);
        assert!(crowd.len() < 64, "there is no end");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    server.refuse(Client::json(), 503);
    server.http("HEAD", "/api/health").expect(200);
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("to all of them").expect(202);
    alice.expect_group_text("g", None, "to all of them");
    assert!(server.metric("ringhub_upgrades_without_room_total") >= 2);
    drop(crowd);
    wait_until("there is room again", || knock().1.status == 101);
}

/// With none left at all the server keeps serving who is there, tries again now and then instead of spinning, and takes
/// in who waited once others have gone.
#[test]
fn running_out_of_file_descriptors_is_survived() {
    let server = Server::with(|setup| setup.open_files(64));
    let mut alice = server.connect(Client::json().may_all().group("g"));
    let admin = server.admin().clone();
    let mut observer = admin.raw();
    get(&mut observer, "/healthz");
    // Nobody but the admin listener gives away the last ones.
    let mut crowd: Vec<RawSocket> = (0..80).map(|_| admin.raw()).collect();
    let failed = |observer: &mut RawSocket| counted(observer, "ringhub_accepts_out_of_files_total");
    wait_until("accepts fail", || failed(&mut observer) >= 2);
    let turns = |observer: &mut RawSocket| counted(observer, "ringhub_turns_total");
    let (before, mut asked) = (turns(&mut observer), 0);
    wait_until("they fail ten times more", || {
        asked += 1;
        failed(&mut observer) >= 12
    });
    // One that spins makes a hundred thousand in that second.
    let turned = turns(&mut observer) - before;
    assert!(turned < 1_000 + 10 * asked, "{turned} turns of doing nothing but answering {asked} questions");
    for n in 0..3 {
        alice.publish_acked("g", &n.to_string());
    }
    let mut last = crowd.pop().expect("80 of them");
    drop(crowd);
    get(&mut last, "/healthz");
    server.http("HEAD", "/api/health").expect(200);
    let failures = failed(&mut observer);
    assert!((2..500).contains(&failures), "{failures} failed accepts");
}
