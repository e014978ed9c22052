//! Event listeners: a copy of what happens, one JSON line each (§9).

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringhub_tests::{Client, wait_until, write_config};
use serde_json::{Value, json};

use super::{ALL, USER, agreeable, event, event_acked, server};

/// A file that is not there yet.
fn file() -> PathBuf {
    let path = write_config("");
    fs::remove_file(&path).unwrap();
    path.with_extension("ndjson")
}

fn section(file: &Path, keys: &str) -> String {
    format!("[[hubs.chat.event_listeners]]\nfile = \"{}\"\n{keys}\n", file.display())
}

/// Waits for that many lines and reads them.
#[track_caller]
fn lines(file: &Path, count: usize) -> Vec<Value> {
    let read = || fs::read_to_string(file).unwrap_or_default();
    wait_until(&format!("{count} lines"), || read().matches('\n').count() >= count);
    let text = read();
    assert!(text.ends_with('\n'), "{text}");
    let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    assert_eq!(lines.len(), count, "{text}");
    lines
}

/// The JSON format of CloudEvents 1.0, with the attributes that the webhook has as headers.
#[test]
fn a_line_says_what_the_webhook_says() {
    let (handler, file) = (agreeable(), file());
    let listener =
        section(&file, "user_event_pattern = \"*\"\nsystem_events = [\"connected\", \"disconnected\"]");
    let server = server(&(handler.section(ALL) + &listener));
    let mut alice = server.connect(Client::json().user("alice"));
    for (n, data) in (1..).zip([
        r#""dataType":"text","data":"ü""#,
        r#""dataType":"json","data":{"a":1.0}"#,
        r#""dataType":"binary","data":"AAH/""#,
        r#""dataType":"protobuf","data":"CgF0""#,
        r#""dataType":"text","data":"x","metadata":{"trace":"1"}"#,
    ]) {
        alice.send(&format!(r#"{{"type":"event","event":"e","ackId":{n},{data}}}"#));
        alice.expect_ack(n);
    }
    let id = alice.id().to_owned();
    alice.close(1000);
    let lines = lines(&file, 7);
    handler.calls_at_least(8);
    let calls = handler.calls_of(&id);
    for (call, line) in calls[1..].iter().zip(&lines) {
        assert_eq!(line["specversion"], "1.0");
        for (attribute, header) in [
            ("type", "ce-type"),
            ("source", "ce-source"),
            ("id", "ce-id"),
            ("time", "ce-time"),
            ("hub", "ce-hub"),
            ("connectionid", "ce-connectionId"),
            ("eventname", "ce-eventName"),
            ("userid", "ce-userId"),
            ("subprotocol", "ce-subprotocol"),
            ("awpsversion", "ce-awpsversion"),
            ("datacontenttype", "content-type"),
        ] {
            assert_eq!(line[attribute].as_str(), call.header(header), "{attribute}: {line}");
        }
        // No secrets and nothing of HTTP.
        for absent in ["signature", "cookie", "Cookie", "webhook-request-origin"] {
            assert_eq!(line.get(absent), None, "{line}");
        }
        assert_eq!(line["connectionid"], json!(id));
    }
    let data: Vec<_> = lines.iter().map(|line| (line.get("data"), line.get("data_base64"))).collect();
    let (connected, text, object, bytes) = (json!({}), json!("ü"), json!({ "a": 1.0 }), json!("AAH/"));
    assert_eq!(data[0], (Some(&connected), None));
    assert_eq!(data[1], (Some(&text), None));
    assert_eq!(data[2], (Some(&object), None));
    assert_eq!(data[3], (None, Some(&bytes)));
    assert_eq!(data[4].1, Some(&json!("CgF0")));
    assert_eq!(data[6].0, Some(&json!({ "reason": "" })));
    fs::remove_file(file).unwrap();
}

/// `connect` is a question and a copy answers none.
#[test]
fn connect_is_for_no_listener() {
    let (handler, file) = (agreeable(), file());
    let listener =
        section(&file, "user_event_pattern = \"*\"\nsystem_events = [\"connected\", \"disconnected\"]");
    let mut server = server(&(handler.section(ALL) + &listener));
    server.connect(Client::json()).close(1000);
    handler.next_of("disconnected");
    assert!(server.stop().success());
    let types: Vec<_> = lines(&file, 2).iter().map(|line| line["type"].clone()).collect();
    assert_eq!(types, ["azure.webpubsub.sys.connected", "azure.webpubsub.sys.disconnected"]);
    fs::remove_file(file).unwrap();
}

#[test]
fn an_event_that_only_a_listener_wants_is_handled() {
    let file = file();
    let server = server(&section(&file, "user_event_pattern = \"wanted,message\""));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("wanted", "1", 1));
    alice.expect_ack(1);
    alice.send(&event_acked("unwanted", "2", 2));
    alice.expect_failed_ack(2, "InternalServerError");
    alice.send(&event("wanted", "3"));
    alice.expect_silence();
    let mut raw = server.open(Client::raw());
    raw.send("4");
    raw.expect_silence();
    let lines = lines(&file, 3);
    let data: Vec<_> = lines.iter().map(|line| line["data"].clone()).collect();
    assert_eq!(data, ["1", "3", "4"]);
    fs::remove_file(file).unwrap();
}

#[test]
fn all_listeners_that_want_an_event_get_a_copy_and_the_handler_answers() {
    let (first, second) = (file(), file());
    let handler = super::Handler::start(|_| ringhub_tests::Answer::text("answer"));
    let config = [
        handler.section(USER),
        section(&first, "user_event_pattern = \"*\""),
        section(&second, "user_event_pattern = \"e\""),
    ];
    let server = server(&config.concat());
    let mut alice = server.connect(Client::json());
    for name in ["e", "f"] {
        alice.send(&event(name, "x"));
        alice.expect_server_text("answer");
    }
    assert_eq!(lines(&first, 2)[1]["eventname"], "f");
    assert_eq!(lines(&second, 1)[0]["eventname"], "e");
    let ids: Vec<_> = lines(&first, 2).iter().map(|line| line["id"].clone()).collect();
    let calls: Vec<_> = handler.calls().iter().map(|call| json!(call.header("ce-id"))).collect();
    assert_eq!(ids, calls);
    for file in [first, second] {
        fs::remove_file(file).unwrap();
    }
}

/// A file that is moved away is opened anew, as tools that rotate logs expect.
#[test]
fn a_file_that_was_moved_away_is_made_again() {
    let file = file();
    let server = server(&section(&file, "user_event_pattern = \"*\""));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "before", 1));
    alice.expect_ack(1);
    assert_eq!(lines(&file, 1)[0]["data"], "before");
    let moved = file.with_extension("old");
    fs::rename(&file, &moved).unwrap();
    // What is written while nobody has noticed goes into the old one; nothing is lost.
    let mut sent = 1;
    wait_until("it is there again", || {
        sent += 1;
        alice.send(&event_acked("e", "after", sent));
        alice.expect_ack(sent);
        file.exists()
    });
    let count = |path: &Path| fs::read_to_string(path).unwrap_or_default().matches('\n').count();
    wait_until("all lines are there", || (count(&file) + count(&moved)) as u64 == sent);
    fs::remove_file(file).unwrap();
    fs::remove_file(moved).unwrap();
}

#[test]
fn standard_output_is_a_place_too() {
    let mut server = server("[[hubs.chat.event_listeners]]\nfile = \"-\"\nuser_event_pattern = \"*\"\n");
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("vote", "yes", 1));
    alice.expect_ack(1);
    let line = server.process().expect_line(r#"{"specversion":"1.0","type":"azure.webpubsub.user.vote""#);
    assert!(line.ends_with(r#""data":"yes"}"#), "{line}");
}

/// Somebody has to read a pipe; until then the oldest events leave, counted, and clients notice nothing.
#[test]
fn a_listener_that_cannot_keep_up_loses_the_oldest() {
    const EVENTS: u64 = 100;
    let pipe = file();
    // A server in its sandbox is somebody else.
    assert!(Command::new("mkfifo").args(["-m", "666"]).arg(&pipe).status().expect("mkfifo runs").success());
    // Opened while the server opens its end: neither can before the other.
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::File::open(pipe).expect("a pipe")
    });
    let server = server(&section(&pipe, "user_event_pattern = \"*\"\nqueue_max = 10"));
    let reader = reader.join().expect("it is opened");
    let mut alice = server.connect(Client::json());
    let rest = "x".repeat(8192);
    for n in 1..=EVENTS {
        alice.send(&event_acked("e", &format!("{n} {rest}"), n));
        alice.expect_ack(n);
    }
    let count = |outcome: &str| {
        server.metric_of("ringhub_listener_events_total", &[&format!("outcome=\"{outcome}\"")])
    };
    // A pipe holds 64 KiB, the listener's hand as much, its queue ten events.
    wait_until("most are dropped", || count("dropped") >= EVENTS - 40);
    let mut lines = BufReader::new(reader).lines();
    let mut numbers: Vec<u64> = Vec::new();
    while numbers.last() != Some(&EVENTS) {
        let line = lines.next().expect("the newest is kept").expect("text");
        let line: Value = serde_json::from_str(&line).expect("a JSON line");
        let number = line["data"].as_str().and_then(|data| data.split(' ').next()?.parse().ok());
        numbers.push(number.expect("a number"));
    }
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(numbers[0], 1);
    assert!(numbers.contains(&(EVENTS - 9)), "the newest ten are kept: {numbers:?}");
    wait_until("all are counted", || count("dropped") + count("delivered") == EVENTS);
    assert_eq!(count("delivered"), numbers.len() as u64);
    drop(server);
    fs::remove_file(pipe).unwrap();
}

#[test]
fn a_listener_that_cannot_be_written_is_nobodys_failure() {
    let folder = write_config("");
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    // A server in its sandbox is somebody else.
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    let file = folder.join("events.ndjson");
    let mut server = server(&section(&file, "user_event_pattern = \"*\""));
    let mut alice = server.connect(Client::json());
    alice.send(&event_acked("e", "1", 1));
    alice.expect_ack(1);
    lines(&file, 1);
    // In place of the file: a folder.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let mut sent = 1;
    wait_until("the loss is said", || {
        sent += 1;
        alice.send(&event_acked("e", "2", sent));
        alice.expect_ack(sent);
        server.process().log().contains("events were not delivered")
    });
    assert!(server.metric_of("ringhub_listener_events_total", &["outcome=\"failed\""]) >= 1);
    drop(server);
    fs::remove_dir_all(folder).unwrap();
}
