//! What the log may hold (`reliability` checks 70 and 71): one bounded line a record, whatever anybody sent; no secret,
//! at any level. `trace` is every level: what is said at others is said there.

use std::collections::BTreeSet;

use ringhub_tests::{Server, wait_until};
use serde_json::Value;

mod hostile;
mod secrets;

/// The longest record: time, level and place, a message, and fewer than ten fields of 1 KiB.
const RECORD_BYTES_MAX: usize = 10 << 10;

/// Everything the server has printed, once it has stopped; each record checked to be one.
#[track_caller]
fn records(server: &mut Server, is_json: bool) -> Vec<String> {
    server.stop();
    let log = server.process().log();
    let records: Vec<String> = log.lines().filter(|line| !is_banner(line)).map(ToOwned::to_owned).collect();
    for record in &records {
        assert!(record.len() <= RECORD_BYTES_MAX, "{} bytes: {record:.500}", record.len());
        assert!(!record.chars().any(char::is_control), "a control character: {record:?}");
        let harmful = ['\u{2028}', '\u{2029}', '\u{202e}', '\u{feff}'];
        assert!(!record.contains(harmful), "not harmless: {record:?}");
        if is_json {
            check_json(record);
        } else {
            check_text(record);
        }
    }
    assert!(records.len() > 3, "trace says more: {log}");
    records
}

/// What a start prints to standard output (`design` §2).
fn is_banner(line: &str) -> bool {
    let known =
        ["ringhub ", "connection string", "  Endpoint=", "client URL", "  ws", "listening on ", "admin on "];
    known.iter().any(|start| line.starts_with(start))
}

#[track_caller]
fn check_text(record: &str) {
    let mut words = record.split_whitespace();
    let (time, level) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_time = time.len() == "2026-11-27T00:00:00.000000Z".len() && time.ends_with('Z');
    assert!(is_time && ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "no record: {record:?}");
}

#[track_caller]
fn check_json(record: &str) {
    let value: Value = serde_json::from_str(record).unwrap_or_else(|error| panic!("{error}: {record:?}"));
    let names: BTreeSet<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["timestamp", "level", "target", "message", "fields"]), "{record}");
    let bounded = |value: &Value| value.as_str().is_none_or(|text| text.len() <= 1024);
    assert!(bounded(&value["message"]), "{record}");
    assert!(value["fields"].as_object().expect("an object").values().all(bounded), "{record}");
}

/// Waits until the log has this.
#[track_caller]
fn expect_logged(server: &mut Server, text: &str) {
    wait_until(&format!("{text:?} is logged"), || server.process().log().contains(text));
}
