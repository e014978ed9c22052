//! The generator itself under test: against a small server that can be told to misbehave, the real
//! binary must find exactly the fault, and nothing where there is none.
//!
//! The server here is written on tungstenite, so the generator's own frames meet a second opinion.

mod support;

use serde_json::Value;
use support::{Fault, TestServer, bench, bench_starting};

const SMALL: &str = "--members 12 --messages 40 --rounds 2 --timeout 2";

#[track_caller]
fn clean(server: &TestServer, options: &str) -> Value {
    let (code, report) = bench(server, &format!("fanout {SMALL} {options}"));
    assert_eq!(code, 0, "{options}: {report}");
    assert_eq!(report["clean"], true);
    report
}

#[track_caller]
fn caught(fault: Fault, options: &str, key: &str) {
    let server = TestServer::start(fault);
    let (code, report) = bench(&server, &format!("fanout {SMALL} {options}"));
    assert_eq!(code, 1, "{fault:?} with {options} must be a violation: {report}");
    assert_eq!(report[key], 1, "{fault:?} with {options}: {report}");
    for other in ["lost", "duplicated", "reordered", "damaged"].iter().filter(|&&other| other != key) {
        assert_eq!(report[*other], 0, "{other} with {fault:?} and {options}: {report}");
    }
}

#[test]
fn an_honest_server_is_clean_in_every_protocol_and_mode() {
    let server = TestServer::start(Fault::None);
    for protocol in ["raw", "json", "reliable", "simple"] {
        for mode in ["window --window 1", "window --window 4", "burst --burst 8", "rate --rate 2000"] {
            let report = clean(&server, &format!("--protocol {protocol} --mode {mode}"));
            // A quarter of a round to warm up, then two rounds, to twelve members each.
            assert_eq!(report["deliveries"], 12 * (10 + 40 + 40));
            assert!(report["cpu_ns_per_delivery"].as_f64().unwrap() > 0.0, "{report}");
        }
    }
}

#[test]
fn groups_and_publishers_are_spread() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, "--protocol json --groups 4 --publishers 8 --mode burst --burst 5");
    assert_eq!(report["deliveries"], 3 * (10 + 40 + 40));
    clean(&server, "--protocol raw --groups 5 --publishers 7 --window 3");
}

#[test]
fn reliable_ids_may_differ_between_members() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, "--protocol reliable --distinct-ids");
    assert_eq!(report["sequence_id_gaps"], 0);
}

#[test]
fn members_acknowledge_once_a_second() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, "--protocol reliable --mode rate --rate 25");
    // Ten, forty and forty messages at 25 a second: 3.6 s for 12 members, so 24 acks at least.
    let sent = report["sequence_acks"].as_u64().unwrap();
    assert!((24..=60).contains(&sent), "{sent} acks");
    assert!(server.sequence_acks() <= sent);
}

#[test]
fn payloads_of_every_header_length_arrive() {
    let server = TestServer::start(Fault::None);
    for size in [30, 125, 126, 70_000] {
        let report = clean(&server, &format!("--size {size}"));
        let header = if size < 126 {
            2
        } else if size < 65_536 {
            4
        } else {
            10
        };
        assert_eq!(report["frame_bytes"], size + header);
    }
}

#[test]
fn a_lost_message_is_caught() {
    for protocol in ["raw", "json", "simple"] {
        caught(Fault::DropOne, &format!("--protocol {protocol} --window 4"), "lost");
    }
}

#[test]
fn a_doubled_message_is_caught() {
    for protocol in ["raw", "json", "simple"] {
        caught(Fault::DoubleOne, &format!("--protocol {protocol}"), "duplicated");
    }
}

#[test]
fn a_reordered_message_is_caught() {
    for protocol in ["raw", "json"] {
        caught(Fault::SwapOne, &format!("--protocol {protocol} --mode burst --burst 8"), "reordered");
    }
}

#[test]
fn a_damaged_message_is_caught() {
    let server = TestServer::start(Fault::DamageOne);
    let (code, report) = bench(&server, &format!("fanout {SMALL} --window 4"));
    assert_eq!((code, &report["damaged"], &report["lost"]), (1, &1.into(), &1.into()), "{report}");
}

#[test]
fn a_gap_in_sequence_ids_is_caught() {
    let server = TestServer::start(Fault::SkipId);
    let (code, report) = bench(&server, &format!("fanout {SMALL} --protocol reliable"));
    assert_eq!((code, &report["sequence_id_gaps"], &report["lost"]), (1, &1.into(), &0.into()), "{report}");
}

#[test]
fn a_server_that_falls_silent_ends_the_run_with_what_is_missing() {
    let server = TestServer::start(Fault::Silence);
    let (code, report) = bench(&server, "fanout --members 12 --messages 40 --rounds 2 --timeout 1");
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["lost"], 12, "one message to twelve members: {report}");
}

#[test]
fn a_closed_connection_ends_the_run() {
    let server = TestServer::start(Fault::Close);
    let (code, report) = bench(&server, &format!("fanout {SMALL}"));
    assert_eq!((code, report), (1, Value::Null));
}

#[test]
fn a_refused_token_is_no_violation_but_no_run_either() {
    let server = TestServer::start(Fault::Refuse);
    let (code, report) = bench(&server, "idle --connections 5 --protocol json");
    assert_eq!((code, report), (2, Value::Null));
}

#[test]
fn the_floor_stands_beside_the_figure() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, "--floor");
    for key in ["floor_ns", "floor_send_ns", "floor_ratio"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
}

#[test]
fn idle_connections_are_counted() {
    let server = TestServer::start(Fault::None);
    for protocol in ["raw", "json", "reliable", "simple"] {
        let (code, report) = bench(&server, &format!("idle --connections 100 --protocol {protocol}"));
        assert_eq!((code, &report["connections"]), (0, &100.into()), "{report}");
        assert!(report["cpu_us_per_connect"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn echoes_are_compared() {
    let options = "echo --connections 10 --messages 500 --rounds 2 --timeout 1";
    let (code, report) = bench(&TestServer::start(Fault::None).echoing(), options);
    assert_eq!((code, &report["wrong_echoes"]), (0, &0.into()), "{report}");
    let (code, _) = bench(&TestServer::start(Fault::DamageOne).echoing(), options);
    assert_eq!(code, 1);
}

#[test]
fn smoke_runs_every_workload_against_a_server_it_starts() {
    let server = TestServer::start(Fault::None);
    let (code, reports) = bench_starting(&server, "smoke");
    let reports = reports.as_array().unwrap();
    let names: Vec<_> = reports.iter().map(|report| report["workload"].as_str().unwrap_or("none")).collect();
    assert_eq!(
        names.join(" "),
        "fanout fanout fanout fanout fanout idle idle idle storm storm rest rest rest webhook webhook webhook \
         stalled stalled flood flood flood flood flood flood flood flood flood flood flood cuts azure azure azure azure azure azure azure azure azure azure echo",
        "{reports:?}"
    );
    assert!(code == 0 && reports.iter().all(|report| report["clean"] == true), "{reports:?}");
}

#[test]
fn a_server_that_does_not_start_is_named() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringhub-bench"))
        .args(["idle", "--connections", "1", "--server-bin", "/bin/true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("/bin/true ended") && said.contains("listening on"), "{said}");
}
