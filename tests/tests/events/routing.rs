//! Which handler gets an event, and under which URL (§1, §1.1).

use std::fs;

use ringhub_tests::{Client, Process, Server, ringhub, wait_until, write_config};

use super::{ALL, CONNECT, USER, agreeable, event_acked, expect_told, server, server_of};

#[test]
fn the_first_handler_that_wants_an_event_gets_it_and_no_other() {
    let [first, second, third] = [(); 3].map(|()| agreeable());
    let config = [
        first.section("user_event_pattern = \" vote , Join\"\nsystem_events = [\"connect\"]\n"),
        second.section("user_event_pattern = \"leave\"\nsystem_events = [\"connect\", \"connected\"]\n"),
        third.section(ALL),
    ];
    let server = server(&config.concat());
    let mut alice = server.connect(Client::json());
    for (ack, name, handler) in [
        (1, "vote", &first),
        (2, "VOTE", &first),
        (3, "join", &first),
        (4, "leave", &second),
        (5, "voter", &third),
        (6, "vot", &third),
        (7, "message", &third),
    ] {
        alice.send(&event_acked(name, "", ack));
        alice.expect_ack(ack);
        // Names are matched whatever their case, and handed on as they were sent.
        handler.next_of(name);
    }
    alice.close(1000);
    for (handler, expected) in [
        (&first, &["connect/0", "vote/2", "VOTE/3", "join/4"][..]),
        (&second, &["connected/1", "leave/5"]),
        (&third, &["voter/6", "vot/7", "message/8", "disconnected/9"]),
    ] {
        expect_told(handler, expected);
    }
}

#[test]
fn a_handler_is_its_hubs_own() {
    let [chat, other] = [(); 2].map(|()| agreeable());
    let config = chat.section(ALL) + &other.section_of("Other", "/{hub}/{event}", ALL);
    let server = server(&config);
    let chat_client = server.connect(Client::json());
    // Hubs ignore case.
    let other_client = server.connect(Client::json().hub("oTHER"));
    let none = server.connect(Client::json().hub("none"));
    for client in [chat_client, other_client, none] {
        client.close(1000);
    }
    assert_eq!(chat.next_of("disconnected").header("ce-hub"), Some("chat"));
    let call = other.next_of("disconnected");
    assert!(call.header("ce-hub").is_some_and(|hub| hub.eq_ignore_ascii_case("other")), "{call:?}");
    assert!(call.target.eq_ignore_ascii_case("/other/disconnected"), "{call:?}");
    assert_eq!((chat.calls_at_least(3).len(), other.calls_at_least(3).len()), (3, 3));
}

#[test]
fn the_url_is_the_template_filled_in() {
    for (path, target) in [
        ("/a/{hub}/b/{event}", "/a/chat/b/Some.event_-1"),
        ("/{EVENT}?hub={Hub}&x=%7B%7D", "/Some.event_-1?hub=chat&x=%7B%7D"),
        ("/fixed", "/fixed"),
        ("/", "/"),
        ("", "/"),
        ("?code=1", "/?code=1"),
        ("/same/{event}/{event}", "/same/Some.event_-1/Some.event_-1"),
    ] {
        let handler = agreeable();
        let server = server(&handler.section_of("chat", path, USER));
        let mut alice = server.connect(Client::json());
        alice.send(&event_acked("Some.event_-1", "", 1));
        alice.expect_ack(1);
        assert_eq!(handler.next().target, target, "{path}");
    }
}

/// §1.1: values are percent-encoded, by the rules that .NET has for it.
#[test]
fn a_hub_of_any_name_fits_a_url() {
    const HUB: &str = "A`b,c[d].e_";
    let handler = agreeable();
    let section = handler.section_of(&format!("\"{HUB}\""), "/{hub}/{event}?h={hub}", USER);
    let server = server(&section);
    let mut alice = server.connect(Client::json().hub(HUB));
    alice.send(&event_acked("e", "", 1));
    alice.expect_ack(1);
    let call = handler.next();
    let hub = call.header("ce-hub").expect("a hub");
    assert!(hub.eq_ignore_ascii_case(HUB), "{hub}");
    let encoded = hub.replace('`', "%60").replace(',', "%2C").replace('[', "%5B").replace(']', "%5D");
    assert_eq!(call.target, format!("/{encoded}/e?h={encoded}"));
    assert_eq!(call.header("ce-source"), Some(&*format!("/hubs/{hub}/client/{}", alice.id())));
}

#[test]
fn secrets_of_a_template_come_from_environment_or_file_and_are_shown_nowhere() {
    let file = write_config("file-secret%20more\n");
    let handler = agreeable();
    let path = format!("/e?code={{env:HANDLER_CODE}}&key={{file:{}}}", file.display());
    let config = handler.section_of("chat", &path, USER);
    let mut server = Server::with(|setup| setup.env("HANDLER_CODE", "env-secret%2F1").config(&config));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "", 1));
    alice.expect_ack(1);
    let target = handler.next().target;
    assert_eq!(target, "/e?code=env-secret%2F1&key=file-secret%20more");
    handler.kill();
    alice.send(&event_acked("e", "", 2));
    wait_until("a failure is logged", || server.process().log().contains("chat"));
    let mut shown = server.process().log();
    for page in ["/upstreams", "/metrics", "/", "/connections", "/closed"] {
        shown += server.admin().http("GET", page).expect(200).text();
    }
    for secret in ["env-secret", "file-secret"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    fs::remove_file(file).unwrap();
}

/// A handler may be named twice, for different events; and a reload changes who hears what from then on.
#[test]
fn a_reload_changes_the_handlers_of_those_who_are_there() {
    let [before, after] = [(); 2].map(|()| agreeable());
    let server = server_of(&before, ALL);
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "1", 1));
    alice.expect_ack(1);
    fs::write(server.config(), after.section(USER)).unwrap();
    assert!(server.reload().contains("the configuration was reloaded"));
    alice.send(&event_acked("e", "2", 2));
    alice.expect_ack(2);
    alice.close(1000);
    server.connect(Client::json()).close(1000);
    expect_told(&before, &["connect/0", "connected/1", "e/2"]);
    // The connection is the same, and so is its counting.
    expect_told(&after, &["e/3"]);
    assert_eq!(after.calls()[0].text(), "2");
    // None at all.
    fs::write(server.config(), "").unwrap();
    server.reload();
    let mut bob = server.connect(Client::json());
    bob.send(&event_acked("e", "3", 1));
    bob.expect_failed_ack(1, "InternalServerError");
}

#[test]
fn bad_handlers_are_refused_at_the_start_with_the_key_and_the_fix() {
    for (section, expected) in [
        ("", "url_template"),
        ("url_template = \"ftp://x/\"\n", "url_template"),
        ("url_template = \"tunnel:///eventhandler\"\n", "not built yet"),
        ("url_template = \"http://{hub}.example.com/\"\n", "url_template"),
        ("url_template = \"http://x/{who}\"\n", "url_template"),
        ("url_template = \"http://x/{@Microsoft.KeyVault(SecretUri=https://a/b)}\"\n", "{env:"),
        ("url_template = \"http://x/{env:RINGHUB_TESTS_NOT_SET}\"\n", "RINGHUB_TESTS_NOT_SET"),
        ("url_template = \"http://x/\"\nsystem_events = [\"conect\"]\n", "system_events"),
        ("url_template = \"http://x/\"\nuser_event_pattern = \"a b\"\n", "user_event_pattern"),
        ("url_template = \"http://x/\"\nuser_event_patern = \"*\"\n", "Did you mean"),
        ("url_template = \"http://x/\"\nca_file = \"/nowhere.pem\"\n", "nowhere.pem"),
        ("url_template = \"http://x/\"\nhttp = \"3\"\n", "http"),
        ("url_template = \"http://x/\"\nuser_event_pattern = \"a,,b\"\n", "user_event_pattern"),
    ] {
        // Nothing else is wrong with it.
        let wants = if section.contains("user_event_pat") { "" } else { USER };
        let path = write_config(&format!("[[hubs.chat.event_handlers]]\n{section}{wants}"));
        let mut command = ringhub(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.env("RINGHUB_PRIMARY_KEY", ringhub_tests::KEY).arg("--config").arg(&path);
        let mut process = Process::spawn(&mut command);
        assert_eq!(process.wait().code(), Some(2), "{section}: {}", process.log());
        let said = process.log();
        assert!(said.contains(expected), "{section}: {said}");
        fs::remove_file(path).unwrap();
    }
}

/// `connect` has one handler like every event: the second is not asked, whatever the first says.
#[test]
fn the_word_of_the_first_counts() {
    let first = super::connecting(ringhub_tests::Answer::status(403));
    let second = agreeable();
    let server = server(&(first.section(CONNECT) + &second.section(ALL)));
    server.refuse(Client::json(), 403);
    assert!(second.calls().is_empty());
}
