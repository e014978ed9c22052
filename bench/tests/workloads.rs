//! The workloads beside fan-out, under test as `generator.rs` tests that one: an honest server is clean,
//! and each fault is found, with exactly its count, and nothing else.

mod support;

use serde_json::Value;
use support::{FAULT_AT, Fault, PAUSE, TestServer, bench, bench_all};

const COUNTS: [&str; 17] = [
    "lost",
    "duplicated",
    "reordered",
    "damaged",
    "sequence_id_gaps",
    "refused",
    "unclean_closes",
    "stray_messages",
    "refused_requests",
    "refused_recoveries",
    "wrong_endings",
    "back_late",
    "bystanders_wrong",
    "others_slowed",
    "others_starved",
    "not_flooded",
    "held_too_much",
];

const REST: &str = "rest --members 4 --senders 3 --messages 120 --rounds 2 --timeout 2";
const WEBHOOK: &str = "webhook --handler-port 0 --connections 6 --messages 300 --rounds 2 --timeout 2";
const STALLED: &str = "stalled --members 6 --stalled 2 --timeout 3 --unjudged";
const CUTS: &str = "cuts --members 12 --rate 400 --cuts 60 --away 200 --seconds 1 --seed 5 --timeout 3";

#[track_caller]
fn clean(server: &TestServer, options: &str) -> Value {
    let (code, report) = bench(server, options);
    assert_eq!(code, 0, "{options}: {report}");
    counted(&report, options, &[]);
    report
}

/// The counts of violations are exactly `found`, and all others that the report has are 0.
#[track_caller]
fn counted(report: &Value, options: &str, found: &[(&str, u64)]) {
    for key in COUNTS.iter().filter(|key| !report[**key].is_null()) {
        let wanted = found.iter().find(|(name, _)| name == key).map_or(0, |(_, count)| *count);
        assert_eq!(report[*key], wanted, "{key} with {options}: {report}");
    }
    assert!(found.iter().all(|(key, _)| report[*key].is_u64()), "{options}: {report}");
}

#[track_caller]
fn caught(fault: Fault, options: &str, found: &[(&str, u64)]) -> Value {
    let (code, report) = bench(&TestServer::start(fault), options);
    assert_eq!(code, 1, "{fault:?} with {options}: {report}");
    counted(&report, &format!("{fault:?}, {options}"), found);
    report
}

#[test]
fn storms_are_counted_in_every_protocol_and_pace() {
    let server = TestServer::start(Fault::None);
    for options in ["--protocol json", "--protocol raw --concurrency 1", "--protocol reliable --rate 2000"] {
        let report = clean(&server, &format!("storm --connections 60 --rounds 2 {options}"));
        for key in ["connects_per_second", "connect_p99_ms", "cpu_us_per_connect", "resident_open_mib"] {
            assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
        }
        assert!(report["leak_kib_per_connection"].is_f64(), "{report}");
    }
}

#[test]
fn clients_cut_all_at_once_come_back_while_others_go_on() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, "storm --connections 60 --rounds 2 --drop --timeout 3 --unjudged");
    for key in ["back_seconds", "others_calm_p99_ms", "others_p99_ms"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert!(report["listen_overflows"].is_u64(), "{report}");
    // The first member is a bystander, for they are there first.
    let storm = "storm --connections 20 --rounds 2 --drop --timeout 1 --unjudged";
    caught(Fault::DropOne, storm, &[("bystanders_wrong", 1)]);
}

const FLOOD: &str = "flood --rounds 1 --unjudged";

#[test]
fn floods_of_each_kind_are_counted_while_others_go_on() {
    let server = TestServer::start(Fault::None);
    // Without --kind all, but the one that needs a handler: the smoke test has that. Short, and one that floods: what it
    // writes in a moment takes this server a second to read.
    let options = &format!("{FLOOD} --seconds 0.1 --flooders 1");
    let (code, reports) = bench_all(&server, options);
    let kinds: Vec<&str> = reports.iter().map(|report| report["kind"].as_str().unwrap()).collect();
    let all =
        ["pings", "empty", "tiny", "joins", "nobody", "group", "events", "rest", "connects", "recoveries"];
    assert_eq!((code, &kinds[..]), (0, &all[..]), "{reports:?}");
    for report in &reports {
        counted(report, options, &[]);
        for key in ["flood_per_second", "flooded_p99_ms"] {
            assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
        }
        // Who floods a group and reads it as fast is behind at times, and this server's bound is small.
        assert!(report["kind"] == "group" || report["thrown_out"] == 0, "{report}");
    }
    // The first member of all is a bystander where flooders are none.
    caught(
        Fault::DropOne,
        &format!("{FLOOD} --seconds 0.3 --kind rest --timeout 5"),
        &[("bystanders_wrong", 1)],
    );
}

/// What came after the end of the flood was forgotten: one that starved everybody looked clean.
#[test]
fn what_a_flood_holds_up_counts_as_of_the_flood() {
    // The message that makes everybody wait is due in the flood, and comes after it.
    let options = &format!("{FLOOD} --seconds 0.25 --kind rest");
    let report = clean(&TestServer::start(Fault::Pause), options);
    assert!(report["flooded_max_ms"].as_f64().unwrap() >= PAUSE.as_millis() as f64 * 0.99, "{report}");

    // Nothing comes any more, and patience ends.
    let options = &format!("{FLOOD} --seconds 0.25 --kind rest --timeout 1");
    let (code, report) = bench(&TestServer::start(Fault::Silence), options);
    assert_eq!(code, 1, "{report}");
    for key in ["others_starved", "bystanders_wrong"] {
        assert!(report[key].as_u64().unwrap() > 0, "{key}: {report}");
    }
}

/// A caller that was ended stayed away, and the rest of the run compared a calm to a calm.
#[test]
fn flooders_that_are_ended_come_back() {
    let options = "flood --rounds 2 --unjudged --seconds 0.1 --kind rest --flooders 1";
    let server = TestServer::start(Fault::EndRequests);
    let (code, report) = bench(&server, options);
    assert_eq!((code, &report["thrown_out"]), (0, &1.into()), "{report}");
    counted(&report, options, &[]);
    assert!(server.requests() > FAULT_AT, "{report}");
}

#[test]
fn a_flood_that_is_not_let_in_is_none() {
    // With the bystanders just as many as are let in.
    let options = &format!("{FLOOD} --seconds 0.1 --kind connects --flooders {}", FAULT_AT - 11);
    let report = caught(Fault::RefuseLater, options, &[("not_flooded", 1)]);
    assert!(report["first_thrown_out"].as_str().unwrap().contains("401"), "{report}");
}

#[test]
fn a_run_that_cannot_judge_fails() {
    let server = TestServer::start(Fault::None);
    let (code, report) = bench(&server, "flood --rounds 1 --seconds 0.05 --kind pings");
    assert_eq!((code, &report["undecided"], &report["others_slowed"]), (1, &1.into(), &0.into()), "{report}");
    assert_eq!(report["bystanders_wrong"], 0, "{report}");
}

#[test]
fn a_storm_finds_refusals_and_rude_closes() {
    let storm = "storm --connections 20 --rounds 2 --timeout 1";
    caught(Fault::Refuse, storm, &[("refused", 40)]);
    caught(Fault::NoGoodbye, storm, &[("unclean_closes", 1)]);
    let (code, report) = bench(&TestServer::start(Fault::NeverEnds), storm);
    assert_eq!((code, report), (1, Value::Null), "a connection that never ends is the end of the run");
}

#[test]
fn rest_sends_reach_users_groups_and_all() {
    let server = TestServer::start(Fault::None);
    for protocol in ["raw", "json", "reliable"] {
        // A quarter of a round to warm up, then two rounds; to one, two and four of four members.
        for (target, receivers) in [("user", 1), ("group --groups 2", 2), ("all", 4)] {
            for pace in ["--window 1", "--window 3", "--rate 3000"] {
                let before = server.requests();
                let server = &TestServer::start(Fault::None);
                let report = clean(server, &format!("{REST} --protocol {protocol} --target {target} {pace}"));
                assert_eq!((report["requests"].as_u64(), server.requests()), (Some(270), 270), "{before}");
                assert_eq!(report["deliveries"], 270 * receivers, "{report}");
                assert!(report["request_p99_ms"].as_f64().unwrap() > 0.0, "{report}");
            }
        }
    }
}

#[test]
fn users_may_have_several_connections() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, &format!("{REST} --per-user 2"));
    assert_eq!((&report["targets"], &report["deliveries"]), (&2.into(), &(270 * 2).into()));
}

#[test]
fn rest_faults_are_found() {
    // On a schedule users take turns. In a closed loop one whose thread gets no time may get no 29 messages.
    for target in ["user --rate 1000", "group", "all"] {
        let options = format!("{REST} --target {target}");
        caught(Fault::DropOne, &options, &[("lost", 1)]);
        caught(Fault::DoubleOne, &options, &[("duplicated", 1)]);
        caught(Fault::DamageOne, &options, &[("damaged", 1), ("lost", 1)]);
    }
    // What is refused is with nobody.
    let options = format!("{REST} --target all --rate 1000");
    caught(Fault::RefuseRequest, &options, &[("refused_requests", 1), ("lost", 4)]);
    let one_sender = "rest --members 4 --senders 1 --messages 120 --rounds 2 --timeout 2 --target all";
    caught(Fault::SwapOne, &format!("{one_sender} --rate 1000"), &[("reordered", 1)]);
}

#[test]
fn events_come_back() {
    for protocol in ["raw", "json", "reliable"] {
        for pace in ["--in-flight 2", "--in-flight 15", "--rate 3000"] {
            let server = TestServer::start(Fault::None);
            let report = clean(&server, &format!("{WEBHOOK} --protocol {protocol} {pace}"));
            assert_eq!(report["answers"], 75 + 2 * 300, "{report}");
            for key in ["cpu_us_per_event", "events_per_second", "latency_p99_ms", "handler_us_per_event"] {
                assert!(report[key].is_f64(), "{key}: {report}");
            }
        }
    }
}

#[test]
fn faults_in_echoes_are_found() {
    for protocol in ["raw", "json"] {
        // Two of one connection are needed to be out of order, and one after the fault to see it.
        for pace in ["--in-flight 12", "--rate 3000"] {
            let options = format!("{WEBHOOK} --protocol {protocol} {pace}");
            caught(Fault::DropOne, &options, &[("lost", 1)]);
            caught(Fault::DoubleOne, &options, &[("duplicated", 1)]);
            caught(Fault::DamageOne, &options, &[("damaged", 1), ("lost", 1)]);
            caught(Fault::SwapOne, &options, &[("reordered", 1)]);
        }
    }
    // Exactly those that were on their way.
    caught(Fault::Silence, &format!("{WEBHOOK} --in-flight 3"), &[("lost", 3)]);
    caught(Fault::SkipId, &format!("{WEBHOOK} --protocol reliable"), &[("sequence_id_gaps", 1)]);
}

#[test]
fn stalled_readers_are_cut_off_and_the_others_miss_nothing() {
    let server = TestServer::start(Fault::None);
    for protocol in ["raw", "json"] {
        let report = clean(&server, &format!("{STALLED} --rounds 2 --messages 9000 --protocol {protocol}"));
        let ended = ["closed_1008", "closed_reset"].map(|key| report[key].as_u64().unwrap());
        assert_eq!((ended[0] + ended[1], &report["caught_up"]), (4, &0.into()), "{report}");
        // The warm-up and two first halves to six, two second halves to four.
        assert_eq!(report["deliveries"], 6 * (2250 + 2 * 9000) + 4 * 2 * 9000);
    }
}

#[test]
fn few_messages_wait_in_buffers_and_stalled_readers_catch_up() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, &format!("{STALLED} --rounds 1 --messages 40"));
    assert_eq!((&report["caught_up"], &report["stalled_deliveries"]), (&2.into(), &80.into()), "{report}");
}

#[test]
fn stalled_reliable_readers_catch_up() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, &format!("{STALLED} --rounds 1 --resume --messages 4000"));
    assert_eq!((&report["caught_up"], &report["stalled_deliveries"]), (&2.into(), &8000.into()), "{report}");
    assert!(report["resident_peak_mib"].as_f64().unwrap() > 0.0, "{report}");
    // A server that was not started by the generator does not say where its metrics are.
    assert!(report["turns_long"].as_str().unwrap().contains("not judged"), "{report}");
}

#[test]
fn faults_with_stalled_readers_are_found() {
    caught(Fault::DropOne, &format!("{STALLED} --rounds 1 --messages 400"), &[("lost", 1)]);
    caught(Fault::KeepAll, &format!("{STALLED} --rounds 1 --messages 9000"), &[("wrong_endings", 2)]);
    let found = [("lost", 1), ("sequence_id_gaps", 1)];
    caught(Fault::StalledLoses, &format!("{STALLED} --rounds 1 --resume --messages 4000"), &found);
}

#[test]
fn cut_clients_come_back_and_miss_nothing() {
    let server = TestServer::start(Fault::None);
    let report = clean(&server, CUTS);
    let cuts = report["cuts"].as_u64().unwrap();
    assert!((10..=120).contains(&cuts), "{report}");
    assert_eq!((report["recoveries"].as_u64(), server.recoveries()), (Some(cuts), cuts), "{report}");
    // Six members of each of the two groups; 200 messages before the cuts, 400 with them.
    assert_eq!((&report["deliveries"], &report["seed"]), (&(600 * 6).into(), &5.into()), "{report}");
    assert!(report["recovery_p99_ms"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn faults_in_recoveries_are_found() {
    caught(Fault::ReplayLoses, CUTS, &[("lost", 1), ("sequence_id_gaps", 1)]);
    caught(Fault::ReplayDoubles, CUTS, &[("duplicated", 1)]);
    caught(Fault::ReplayRepeats, CUTS, &[("sequence_id_gaps", 1)]);
    let (code, report) = bench(&TestServer::start(Fault::RefuseRecovery), CUTS);
    assert_eq!((code, &report["refused_recoveries"]), (1, &1.into()), "{report}");
    // What it missed is lost: how much, if anything, depends on when it was cut.
    assert!(report["lost"].is_u64(), "{report}");
    for key in ["duplicated", "reordered", "damaged", "sequence_id_gaps"] {
        assert_eq!(report[key], 0, "{key}: {report}");
    }
}

#[test]
fn the_hosted_services_columns_are_climbed() {
    let server = TestServer::start(Fault::None);
    let options = "azure --units 1,2 --connections-max 100 --seconds 0.5 --senders 4 --size 64 --timeout 5 \
        --handler-port 0";
    let (code, reports) = bench_all(&server, options);
    assert_eq!(code, 0, "{reports:?}");
    let columns: Vec<&Value> = reports.iter().filter(|report| report["units"].is_u64()).collect();
    let outcomes: Vec<&Value> = reports.iter().filter(|report| report["highest_units"].is_u64()).collect();
    assert_eq!(outcomes.len(), 5, "{reports:?}");
    for column in &columns {
        counted(column, options, &[]);
        assert_eq!(column["connections"], 100);
        assert!(column["scaled"].as_str().unwrap().contains("100 connections instead of"), "{column}");
    }
    for outcome in outcomes {
        let held =
            columns.iter().filter(|column| column["case"] == outcome["case"] && column["holds"] == true);
        let highest = held.map(|column| column["units"].as_u64().unwrap()).max().unwrap_or(0);
        assert_eq!(outcome["highest_units"], highest, "{reports:?}");
    }
}

#[test]
fn a_column_that_loses_something_does_not_hold() {
    for case in ["big", "small", "rest-user", "rest-all", "echo --handler-port 0"] {
        let server = TestServer::start(Fault::Silence);
        let options = format!(
            "azure --workloads {case} --units 1 --connections-max 20 --seconds 5 --senders 2 --timeout 1"
        );
        let (code, reports) = bench_all(&server, &options);
        assert_eq!((code, reports.len()), (1, 2), "{reports:?}");
        assert_eq!(
            (&reports[0]["holds"], &reports[1]["highest_units"]),
            (&false.into(), &0.into()),
            "{reports:?}"
        );
        assert!(reports[0]["lost"].as_u64().unwrap() > 0, "{reports:?}");
    }
}

#[test]
fn contradictions_are_refused_with_a_reason() {
    let server = TestServer::start(Fault::None);
    for options in [
        "storm --connections 0",
        "storm --rate 0",
        "storm --drop --within 0",
        "flood --kind handled",
        "flood --flooders 0",
        "soak --minutes 1 --warm-up 1",
        "soak --minutes 0",
        "rest --target group --groups 9 --members 3",
        "rest --protocol simple",
        "rest --size 29",
        "stalled --members 3 --stalled 3",
        "cuts --away 20000",
        "cuts --groups 5 --publishers 4",
        "webhook",
        "webhook --handler-port 0 --http 1.1,2",
        "webhook --handler-port 0 --protocol simple",
        "webhook --handler-port 0 --in-flight 0",
        "azure --workloads echo",
        "azure --units 3",
        "azure --units 5,1",
    ] {
        let (code, report) = bench(&server, options);
        assert_eq!((code, report), (2, Value::Null), "{options}");
    }
}
