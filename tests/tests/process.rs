//! The binary as an operator meets it: verbs, configuration, start and stop.

use ringhub_tests::{Client, KEY, Process, Server, Token, ringhub};

/// Runs to the end; returns success and everything printed.
#[track_caller]
fn run(args: &[&str]) -> (bool, String) {
    let mut process = Process::spawn(&mut ringhub(args));
    let status = process.wait();
    (status.success(), process.log())
}

#[test]
fn the_version_is_printed() {
    let (success, log) = run(&["--version"]);
    assert!(success && log.starts_with("ringhub "), "{log}");
}

#[test]
fn sigterm_says_1001_to_clients_and_exits_0() {
    for (cores, signal) in [(1, "TERM"), (2, "TERM"), (2, "INT")] {
        let mut server = Server::on_cores(cores);
        let mut json = server.connect(Client::json().group("g"));
        let mut reliable = server.connect(Client::reliable().group("g"));
        let mut raw = server.open(Client::raw());
        // What was accepted before the signal is delivered before the goodbye.
        server.rest("POST", "/api/hubs/chat/groups/g/:send").text("last words").expect(202);
        server.process().signal(signal);
        json.expect_group_text("g", None, "last words");
        assert!(reliable.next_text().contains("last words"));
        for client in [&mut json, &mut reliable] {
            client.expect_goodbye(1001);
        }
        raw.expect_close(1001);
        assert_eq!(server.process().wait().code(), Some(0), "{}", server.process().log());
    }
}

/// A core wrote its log itself, and stood still with all its clients when nobody took it. Nor does the end wait.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut server = Server::with(|setup| setup.log_unread());
    let mut bystander = server.connect(Client::json().group("g"));
    // Each refusal is a record of some KiB, which have to fill a pipe and then the queue.
    let token = Token::new(&"a".repeat(2000)).sign(KEY);
    let long = format!("/api/hubs/chat/groups/{}/:send", "g".repeat(1000));
    let refusal = server.rest("POST", &long).token(&*token).text("x");
    let mut socket = server.raw();
    let mut refused = 0;
    while server.metric("ringhub_log_lines_dropped_total") == 0 {
        assert!(refused < 5000, "ten MiB of records, and none was dropped");
        (0..50).for_each(|_| drop(refusal.expect_on(&mut socket, 401)));
        refused += 50;
    }
    server.rest("POST", "/api/hubs/chat/groups/g/:send").text("still there").expect(202);
    bystander.expect_group_text("g", None, "still there");
    assert!(refused > 100, "{refused} records of two KiB are no MiB");
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn an_idle_server_stops_at_once() {
    let mut server = Server::on_cores(2);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn without_a_key_one_is_made_and_printed() {
    let mut process = Process::spawn(&mut ringhub([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--cores",
        "1",
    ]));
    process.expect_line("admin on http://");
    let log = process.log();
    let key = log.split("AccessKey=").nth(1).unwrap_or_else(|| panic!("a connection string: {log}"));
    let key = key.split(';').next().unwrap();
    assert!(key.len() >= 32, "{key}");
    let addr = log.split("listening on http://").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let endpoint = ringhub_tests::Endpoint::plain(addr.trim().parse().unwrap(), key);
    endpoint.connect(Client::json());
}

#[test]
fn beyond_loopback_a_generated_key_is_refused() {
    let (success, log) =
        run(&["serve", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0", "--cores", "1"]);
    assert!(!success);
    assert!(
        log.contains("RINGHUB_PRIMARY_KEY") || log.contains("keys.primary") || log.contains("[keys]"),
        "says the fix: {log}"
    );
}

#[test]
fn ipv6_is_served() {
    let server = Server::with(|setup| setup.listen("[::1]:0"));
    server.connect(Client::json());
    server.http("GET", "/api/health").expect(200);
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let server = Server::start();
    let addr = server.addr.to_string();
    let (success, log) = run(&["serve", "--listen", &addr, "--admin-listen", "127.0.0.1:0", "--cores", "1"]);
    assert!(!success, "a second server on the same port must not share it");
    assert!(log.contains(&addr), "{log}");
}

#[test]
fn a_printed_token_opens_a_connection() {
    let server = Server::start();
    let mut command = ringhub([
        "token",
        "--hub",
        "chat",
        "--user",
        "u1",
        "--role",
        "webpubsub.sendToGroup",
        "--group",
        "g",
        "--minutes",
        "5",
    ]);
    command.env("RINGHUB_PRIMARY_KEY", KEY).env("RINGHUB_LISTEN", server.addr.to_string());
    let mut process = Process::spawn(&mut command);
    assert!(process.wait().success(), "{}", process.log());
    let log = process.log();
    let url = log
        .lines()
        .find_map(|line| line.find("ws://").map(|at| &line[at..]))
        .unwrap_or_else(|| panic!("a URL: {log}"));
    assert!(url.starts_with(&format!("ws://{}/client/hubs/chat?access_token=", server.addr)), "{url}");
    let token = url.split_once("access_token=").unwrap().1.trim();
    let mut client = server.connect(Client::json().token(token));
    assert_eq!(client.user(), Some("u1"));
    client.publish("g", "x");
    client.expect_group_text("g", Some("u1"), "x");
}

#[test]
fn check_shows_the_effective_configuration_or_the_mistake() {
    let good = ringhub_tests::write_config(
        "[server]\ncores = 1\n[hubs.chat.reliable]\nrecovery_window_seconds = 7\n",
    );
    let (success, log) = run(&["check", "--config", good.to_str().unwrap()]);
    assert!(success && log.contains("recovery_window_seconds") && log.contains('7'), "{log}");
    for (toml, words) in [
        ("[server]\nlisten_addr = \"127.0.0.1:0\"\n", ["listen_addr", "listen"]),
        ("[servr]\ncores = 1\n", ["servr", "server"]),
        (
            "[hubs.chat]\nanonymous_conect_policy = \"deny\"\n",
            ["anonymous_conect_policy", "anonymous_connect_policy"],
        ),
        ("[hubs.chat]\nanonymous_connect_policy = \"maybe\"\n", ["anonymous_connect_policy", "allow"]),
        ("[hubs.chat.reliable]\nbuffer_mesages = 5\n", ["buffer_mesages", "buffer_messages"]),
        ("[server]\ncores = \"many\"\n", ["cores", "2"]),
        ("[server\n", ["1", ".toml"]),
    ] {
        let path = ringhub_tests::write_config(toml);
        for verb in ["check", "serve"] {
            let (success, log) = run(&[verb, "--config", path.to_str().unwrap()]);
            assert!(!success, "{toml}");
            assert!(words.iter().all(|word| log.contains(word)), "{toml}{log}");
            assert!(log.contains(path.file_name().unwrap().to_str().unwrap()), "names the file: {log}");
        }
    }
    let (success, log) = run(&["check", "--config", "no-such-file.toml"]);
    assert!(!success && log.contains("no-such-file.toml"), "{log}");
}

#[test]
fn flags_override_environment_overrides_file() {
    let path = ringhub_tests::write_config(
        "[server]\nlisten = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:0\"\n[keys]\nprimary = \"from-the-file-0123456789-0123456789\"\n",
    );
    let mut command = ringhub(["serve", "--cores", "1", "--listen", "127.0.0.1:0", "--config"]);
    command.arg(&path).env("RINGHUB_LISTEN", "127.0.0.1:2").env("RINGHUB_PRIMARY_KEY", KEY);
    let mut process = Process::spawn(&mut command);
    let addr = process.expect_line("listening on http://").parse().unwrap();
    let endpoint = ringhub_tests::Endpoint::plain(addr, KEY);
    endpoint.connect(Client::json());
    endpoint.refuse(Client::json().key("from-the-file-0123456789-0123456789"), 401);
}

/// The conformance listener: any path, no token, every message back.
#[test]
fn echo_returns_what_it_gets() {
    let mut process = Process::spawn(&mut ringhub(["echo", "--listen", "127.0.0.1:0"]));
    let addr = process.expect_line("echo on ws://").trim_end_matches('/').parse().unwrap();
    let endpoint = ringhub_tests::Endpoint::plain(addr, "");
    let mut client = endpoint.open(Client::raw().no_token().path("/"));
    client.send("ä");
    client.expect("ä");
    let large = vec![1; 2 << 20];
    client.send_binary(&large);
    client.expect_binary(&large);
    client.close(1000);
}
