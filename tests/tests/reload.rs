//! A configuration that changes while the server runs: by SIGHUP and by its file, all or nothing.

use ringhub_tests::{AtEnd, Client, Endpoint, KEY, Server, Token, ringhub, wait_until};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A folder of this test's own beside the server's configuration file.
fn folder(server_config: &Path) -> PathBuf {
    let folder = server_config.with_extension("d");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Replaces a file as editors do: a new one is renamed over it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn sighup_puts_a_new_file_in_effect_for_those_who_are_there_too() {
    let server =
        Server::with(|setup| setup.cores(2).config("[hubs.chat]\nwebsocket_keepalive_seconds = 120\n"));
    let mut stays = server.connect(Client::json().may_all());
    server.refuse(Client::json().no_token(), 401);
    fs::write(
        server.config(),
        "[hubs.chat]\nanonymous_connect_policy = \"allow\"\nallowed_origins = [\"https://a.test\"]\nconnections_max = 2\n\
         [limits]\ngroups_per_connection_max = 1\nrest_body_bytes_max = 10\nmessage_bytes_max = 2000\n\
         [server]\npublic_endpoints = [\"https://pubsub.example.com\"]\n",
    )
    .unwrap();
    let log = server.reload();
    for line in [
        "hubs.chat.anonymous_connect_policy: \"deny\" → \"allow\"",
        "hubs.chat.allowed_origins: [] → [\"https://a.test\"]",
        "hubs.chat.connections_max: 0 → 2",
        "hubs.chat.websocket_keepalive_seconds: 120 → 20",
        "limits.groups_per_connection_max: 10000 → 1",
        "server.public_endpoints: [] → [\"https://pubsub.example.com\"]",
        "the configuration was reloaded changed=8",
    ] {
        assert!(log.contains(line), "{line:?} is not in: {log}");
    }
    server.refuse(Client::json().header("Origin", "https://b.test"), 403);
    stays.join("g");
    stays.send(r#"{"type":"joinGroup","group":"h","ackId":77}"#);
    stays.expect_failed_ack(77, "BadRequest");
    let _anonymous = server.connect(Client::json().no_token());
    let _second = server.connect(Client::json());
    server.refuse(Client::json(), 429);
    server.rest("POST", "/api/hubs/chat/:send").text("01234567890").expect(400);
    stays.send(&"x".repeat(2001));
    stays.expect_thrown_out_with(1009);
    // Both ways count: nothing to change is a reload too.
    assert!(server.reload().contains("changed=0"));
    assert_eq!(server.metric("ringhub_reloads_total"), 2);
    assert!(server.metric("ringhub_configured_at_seconds") > 1_700_000_000);
}

#[test]
fn what_is_wrong_changes_nothing_and_is_said() {
    let server = Server::with(|setup| setup.config("[limits]\nmessage_bytes_max = 4000\n"));
    let path = server.config().display().to_string();
    for (text, expected) in [
        (
            "[hubs.chat]\nanonymous_connect_policy = \"allow\"\n[limits]\nmesage_bytes_max = 1\n",
            format!(
                "{path}:4: limits.mesage_bytes_max: unknown key; fix: Did you mean limits.message_bytes_max?"
            ),
        ),
        (
            "[hubs.chat]\nanonymous_connect_policy = \"allow\"\n[server]\nlog = \"=[\"\n",
            "server.log: must be a log filter".into(),
        ),
        (
            "[hubs.chat]\nanonymous_connect_policy = \"allow\"\n[server]\nproxy_protocol = \"v2\"\n",
            format!("{path}:4: server.proxy_protocol: is on, but no proxy is trusted"),
        ),
        ("[hubs.chat\n", format!("{path}:1: not valid TOML")),
    ] {
        fs::write(server.config(), text).unwrap();
        let log = server.reload();
        assert!(
            log.contains("the configuration was not reloaded") && log.contains(&expected),
            "{expected}: {log}"
        );
        server.refuse(Client::json().no_token(), 401);
    }
    assert!(server.metric("ringhub_reloads_refused_total") >= 4);
    fs::remove_file(server.config()).unwrap();
    assert!(server.reload().contains("cannot be read"));
    server.connect(Client::json());
    fs::write(server.config(), "[hubs.chat]\nanonymous_connect_policy = \"allow\"\n").unwrap();
    server.reload();
    server.connect(Client::json().no_token());
}

#[test]
fn what_needs_a_restart_refuses_all_of_a_reload() {
    let server = Server::with(|setup| setup.config("[server]\naudience_check = true\n"));
    // Flags beat the file: these keys stay what they are, whatever it says.
    let only = "[server]\nlisten = \"127.0.0.1:1\"\ncores = 9\n";
    fs::write(server.config(), only).unwrap();
    assert!(server.reload().contains("changed=0"));
    drop(server);

    let path = ringhub_tests::write_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ncores = 1\n[keys]\nprimary = \"{KEY}\"\n"
    ));
    let mut process = ringhub_tests::Process::spawn(ringhub(["serve", "--config"]).arg(&path));
    process.expect_line("admin on http://");
    fs::write(&path, format!("[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ncores = 2\nlog = \"debug\"\n[keys]\nprimary = \"{KEY}\"\n")).unwrap();
    process.signal("HUP");
    wait_until("it is said", || process.log().contains("a change of server.cores needs a restart"));
    fs::remove_file(path).unwrap();
}

#[test]
fn files_are_watched_however_they_are_replaced() {
    let server = Server::with(|setup| setup.config("[limits]\nhubs_max = 100\n"));
    let path = server.config().to_owned();
    let changed = |act: &dyn Fn(), line: &str| {
        let before = server.log_len();
        act();
        let log = server.reloaded_since(before);
        assert!(log.contains(line), "{line:?} is not in: {log}");
    };
    changed(&|| fs::write(&path, "[limits]\nhubs_max = 101\n").unwrap(), "limits.hubs_max: 100 → 101");
    changed(&|| replace(&path, "[limits]\nhubs_max = 102\n"), "limits.hubs_max: 101 → 102");
    // A link beside it, then swapped, as container systems mount configuration: file → data → version.
    let folder = folder(&path);
    for version in ["v1", "v2"] {
        fs::create_dir_all(folder.join(version)).unwrap();
    }
    fs::write(folder.join("v1/ringhub.toml"), "[limits]\nhubs_max = 103\n").unwrap();
    fs::write(folder.join("v2/ringhub.toml"), "[limits]\nhubs_max = 104\n").unwrap();
    symlink("v1", folder.join("data")).unwrap();
    let link = |to: &Path, at: &Path| {
        let new = at.with_extension("tmp");
        symlink(to, &new).unwrap();
        fs::rename(new, at).unwrap();
    };
    changed(&|| link(&folder.join("data/ringhub.toml"), &path), "limits.hubs_max: 102 → 103");
    // The folder of what it links to is watched as well.
    changed(
        &|| fs::write(folder.join("v1/ringhub.toml"), "[limits]\nhubs_max = 105\n").unwrap(),
        "103 → 105",
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn links_to_folders_are_swapped_as_container_systems_do() {
    let path = ringhub_tests::write_config("");
    let folder = folder(&path);
    for (version, hubs) in [("v1", 1), ("v2", 2)] {
        fs::create_dir_all(folder.join(version)).unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ncores = 1\n[keys]\nprimary_file = \"{}\"\n\
             [limits]\nhubs_max = {hubs}\n",
            folder.join("key").display()
        );
        fs::write(folder.join(version).join("ringhub.toml"), text).unwrap();
    }
    fs::write(folder.join("key"), format!("{KEY}\n")).unwrap();
    symlink("v1", folder.join("..data")).unwrap();
    symlink("..data/ringhub.toml", folder.join("ringhub.toml")).unwrap();
    let mut process =
        ringhub_tests::Process::spawn(ringhub(["serve", "--config"]).arg(folder.join("ringhub.toml")));
    let addr = process.expect_line("listening on http://").parse().unwrap();
    process.expect_line("admin on http://");
    let endpoint = |key: &str| Endpoint::plain(addr, key);
    endpoint(KEY).connect(Client::json());
    symlink("v2", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    wait_until("the swap is seen", || process.log().contains("limits.hubs_max: 1 → 2"));
    // A secret that is a file of its own, replaced.
    let other = "another-key-of-at-least-thirty-two-bytes";
    replace(&folder.join("key"), other);
    wait_until("the new key is taken", || process.log().contains("keys.primary: "));
    endpoint(other).connect(Client::json());
    endpoint(KEY).refuse(Client::json(), 401);
    assert!(!process.log().contains(other) && !process.log().contains(KEY), "{}", process.log());
    drop(process);
    fs::remove_dir_all(folder).unwrap();
    fs::remove_file(path).unwrap();
}

#[test]
fn no_handshake_fails_while_keys_rotate() {
    const OTHERS: [&str; 2] =
        ["the-first-of-two-keys-that-come-and-go", "the-second-of-two-keys-that-come-and-go"];
    let keys = |turn: usize| {
        // The good key is first, then second, beside one that changes.
        let other = OTHERS[turn / 2 % 2];
        let (primary, secondary) = if turn.is_multiple_of(2) { (KEY, other) } else { (other, KEY) };
        format!("[keys]\nprimary = \"{primary}\"\nsecondary = \"{secondary}\"\n")
    };
    let server = Server::with(|setup| setup.cores(2).keys_in_config().config(&keys(0)));
    let endpoint: &Endpoint = &server;
    let (done, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    endpoint.connect(Client::json());
                    endpoint.rest("HEAD", "/api/hubs/chat/users/nobody").expect(404);
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _end = AtEnd(&done);
        for turn in 1..=20 {
            let before = connected.load(Ordering::Relaxed);
            replace(server.config(), &keys(turn));
            let log = server.reload();
            assert!(log.contains("keys.primary: \"(set, not shown)\" → (another, not shown)"), "{log}");
            wait_until("clients connect meanwhile", || connected.load(Ordering::Relaxed) > before);
        }
    });
    // Who is not in the ring any more is out.
    server.refuse(Client::json().key(OTHERS[1]), 401);
    server.connect(Client::json().key(OTHERS[0]));
}

/// The first step of a rotation: clients go on with the second key, and with the tokens they have.
#[test]
fn the_secondary_key_is_good_while_the_primary_one_changes() {
    const SECONDARY: &str = "a-secondary-key-that-is-kept-while-others-go";
    const PATH: &str = "/api/hubs/chat/users/nobody";
    let primary = |turn: usize| format!("primary-key-number-{turn:02}-of-a-rotation-of-keys");
    let keys = |primary: &str, secondary: &str| {
        format!("[keys]\nprimary = \"{primary}\"\nsecondary = \"{secondary}\"\n")
    };
    let server = Server::with(|setup| setup.cores(2).keys_in_config().config(&keys(&primary(0), SECONDARY)));
    let endpoint: &Endpoint = &server;
    let for_client = Token::new(&format!("{}/client/hubs/chat", server.url())).sign(SECONDARY);
    let for_rest = Token::new(&format!("{}{PATH}", server.url())).sign(SECONDARY);
    let works = || {
        endpoint.connect(Client::json().token(for_client.as_str()));
        endpoint.rest("HEAD", PATH).token(for_rest.as_str()).expect(404);
    };
    let rotate_to = |new_primary: &str, secondary: &str| {
        replace(server.config(), &keys(new_primary, secondary));
        server.reload();
        let with_it = Endpoint { key: new_primary.to_owned(), ..endpoint.clone() };
        wait_until("the new key is taken", || with_it.rest("HEAD", PATH).send().status == 404);
    };
    works();
    let (done, worked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    works();
                    worked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _end = AtEnd(&done);
        for turn in 1..=10 {
            let before = worked.load(Ordering::Relaxed);
            rotate_to(&primary(turn), SECONDARY);
            wait_until("clients connect meanwhile", || worked.load(Ordering::Relaxed) > before);
        }
    });
    works();
    server.refuse(Client::json().key(&primary(9)), 401);
    // It is no better than others once it is gone.
    rotate_to(&primary(11), &primary(10));
    server.refuse(Client::json().token(for_client.as_str()), 401);
    endpoint.rest("HEAD", PATH).token(for_rest.as_str()).expect(401);
}
