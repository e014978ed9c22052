//! `compare` and `sweep` under test: several servers in one run, each judged by itself, and what they
//! leave in the report's directory.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use roxmltree::Document;
use serde_json::Value;
use support::{Fault, TestServer, bench_starting};

const SMALL: &str = "--members 10 --deliveries 400 --rounds 2 --timeout 2";

/// Runs `compare` over servers of protocol `simple` in this process; its exit code and reports.
fn compare(peers: &[(&str, &TestServer)], options: &str) -> (i32, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringhub-bench"));
    command.args(["compare", "--json"]).args(options.split_ascii_whitespace());
    for (name, server) in peers {
        command.args(["--peer", &format!("{name}=simple,{},{}", server.url(), std::process::id())]);
    }
    let output = command.output().unwrap();
    let reports = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        // Shown by the test harness when the test fails.
        eprintln!("no report: {}", String::from_utf8_lossy(&output.stderr));
        Vec::new()
    });
    (output.status.code().expect("ended by itself"), reports)
}

fn names(reports: &[Value]) -> String {
    reports.iter().map(|report| report["server"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// A folder of this test's own that does not exist yet.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// Lines of a plot with the number of their points, by what the legend calls them.
fn lines(folder: &Path, plot: &str) -> Vec<(String, usize)> {
    let text = std::fs::read_to_string(folder.join(plot)).unwrap();
    let svg = Document::parse(&text).unwrap();
    let of_class = |class: &'static str| {
        svg.descendants().filter(move |node| node.attribute("class").is_some_and(|is| is.starts_with(class)))
    };
    let lines = of_class("line ").filter(|node| node.has_tag_name("polyline"));
    let counts = lines.map(|line| line.attribute("points").unwrap().split(' ').count());
    let names = of_class("name").map(|node| node.text().unwrap().to_owned());
    let lines: Vec<_> = names.zip(counts).collect();
    let points = of_class("point ").count();
    assert_eq!(points, lines.iter().map(|(_, count)| count).sum::<usize>(), "{plot}: a mark for every point");
    lines
}

#[test]
fn honest_servers_stand_side_by_side_with_the_floor() {
    let (a, b) = (TestServer::start(Fault::None), TestServer::start(Fault::None));
    let (code, reports) = compare(&[("a", &a), ("b", &b)], &format!("{SMALL} --idle 20"));
    assert_eq!(code, 0, "{reports:?}");
    assert_eq!(names(&reports), "a b floor ".repeat(4).trim_end());
    let shapes: Vec<_> = reports.iter().map(|report| report["shape"].as_str().unwrap()).step_by(3).collect();
    assert_eq!(shapes, ["window1", "window4", "burst32", "rate"]);
    for report in &reports {
        assert_eq!(report["clean"], true, "{report}");
        assert!(report["cpu_ns_per_delivery"].as_f64().unwrap() > 0.0, "{report}");
        if report["server"] == "floor" {
            continue;
        }
        for key in [
            "floor_ratio",
            "first_ratio",
            "deliveries_per_second",
            "latency_p50_ms",
            "latency_p99_ms",
            "cpu_us_per_connect",
            "resident_kib_per_connection",
            "resident_mib_before_clients",
        ] {
            assert!(report[key].is_f64(), "{key}: {report}");
        }
        if report["server"] == "a" {
            assert_eq!(report["first_ratio"], 1.0);
        }
    }
    // 400 deliveries to ten, in windows: a quarter to warm up, then two rounds that begin with an eighth.
    assert_eq!(reports[0]["deliveries"], 10 * (10 + 2 * (5 + 40)));
}

#[test]
fn a_fault_is_said_of_the_faulty_server_alone() {
    let (a, b) = (TestServer::start(Fault::None), TestServer::start(Fault::DropOne));
    let (code, reports) = compare(&[("a", &a), ("b", &b)], &format!("{SMALL} --idle 0 --no-floor"));
    assert_eq!((code, names(&reports)), (1, "a b ".repeat(4).trim_end().to_owned()));
    let lost: Vec<_> = reports.iter().map(|report| report["lost"].as_u64().unwrap()).collect();
    // The server does it once, to its first member: with the first shape.
    assert_eq!(lost, [0, 1, 0, 0, 0, 0, 0, 0], "{reports:?}");
    assert_eq!((&reports[0]["clean"], &reports[1]["clean"]), (&true.into(), &false.into()));
}

#[test]
fn a_server_that_ends_a_connection_is_given_up_and_the_others_are_measured() {
    let (a, b) = (TestServer::start(Fault::Close), TestServer::start(Fault::None));
    let options = format!("{SMALL} --shape window1 --no-floor --idle 0");
    let (code, reports) = compare(&[("a", &a), ("b", &b)], &options);
    assert_eq!((code, reports.len()), (1, 2));
    assert_eq!(reports[0]["given_up"], 1, "{}", reports[0]);
    assert!(reports[0]["error"].as_str().unwrap().contains("1008"), "{}", reports[0]);
    assert_eq!((&reports[1]["clean"], &reports[1]["lost"]), (&true.into(), &0.into()));
    assert!(reports[1]["cpu_ns_per_delivery"].as_f64().unwrap() > 0.0, "{}", reports[1]);

    let refusing = TestServer::start(Fault::Refuse);
    let (code, reports) = compare(&[("refusing", &refusing), ("b", &b)], &options);
    assert_eq!((code, &reports[0]["given_up"], &reports[1]["clean"]), (1, &1.into(), &true.into()));
}

#[test]
fn echoing_servers_are_compared() {
    let (a, b) = (TestServer::start(Fault::None).echoing(), TestServer::start(Fault::DamageOne).echoing());
    let (code, reports) = compare(&[("a", &a), ("b", &b)], &format!("{SMALL} --shape echo"));
    assert_eq!((code, names(&reports)), (1, "a b".to_owned()));
    assert_eq!((&reports[0]["wrong_echoes"], &reports[0]["clean"]), (&0.into(), &true.into()));
    // Once on each connection that gets so far: which do, depends on how quickly each is answered.
    let wrong = reports[1]["wrong_echoes"].as_u64().unwrap();
    assert!((1..=10).contains(&wrong), "{wrong} of 10");
    assert_eq!(reports[1]["given_up"], 1);
}

#[test]
fn a_run_leaves_tables_figures_and_plots() {
    let (a, b) = (TestServer::start(Fault::None), TestServer::start(Fault::None));
    let folder = folder("compare");
    let options = format!("{SMALL} --idle 0 --shape window1,rate --report {}", folder.display());
    let (code, reports) = compare(&[("a", &a), ("b|b", &b)], &options);
    assert_eq!(code, 0, "{reports:?}");

    let page = std::fs::read_to_string(folder.join("report.md")).unwrap();
    for part in [
        "ringhub-bench compare",
        "- Machine: ",
        "- Kernel: Linux ",
        "## fan-out, 64 B to 10",
        "![latency-rate]",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let table: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(table.len(), 2 * 5, "two tables of head, rule, two servers and the floor: {page}");
    assert!(table[3].starts_with("| b\\|b |"), "{page}");

    let document = std::fs::read_to_string(folder.join("report.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["reports"].as_array().unwrap(), &reports);

    for plot in ["latency-window1.svg", "latency-rate.svg"] {
        let lines = lines(&folder, plot);
        assert_eq!(lines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b|b"]);
        // From p50 to where 800 deliveries end, ten to a factor of ten.
        assert!(lines.iter().all(|&(_, points)| points > 20), "{lines:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_sweep_plots_cost_against_size_with_the_floor() {
    let server = TestServer::start(Fault::None);
    let folder = folder("sweep");
    // One protocol: the started programs all lead to one server, whose groups they would share.
    let options =
        "sweep --members 5,10,20 --protocol json --shape window1,burst32 --rounds 2 --deliveries 200";
    let (code, reports) = bench_starting(&server, &format!("{options} --out {}", folder.display()));
    let sizes: Vec<_> = reports.as_array().unwrap().iter().map(|report| &report["members"]).collect();
    assert_eq!((code, sizes.len()), (0, 2 * 3 * 2), "json and the floor at every size: {reports}");

    for (cost, latency) in
        [("cost-window1.svg", "latency-window1-json.svg"), ("cost-burst32.svg", "latency-burst32-json.svg")]
    {
        let expected = [("json", 3), ("floor", 3)];
        assert_eq!(lines(&folder, cost), expected.map(|(name, points)| (name.to_owned(), points)));
        let names: Vec<_> = lines(&folder, latency).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["5 members", "10 members", "20 members"]);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_single_workload_leaves_its_plot_too() {
    let server = TestServer::start(Fault::None);
    let folder = folder("fanout");
    let options = format!("fanout --members 10 --messages 100 --rounds 2 --report {}", folder.display());
    let (code, reports) = bench_starting(&server, &options);
    assert_eq!(code, 0, "{reports}");
    assert_eq!(lines(&folder, "latency.svg").len(), 1);
    assert!(reports[0]["latency_points"].as_array().unwrap().len() > 20, "{reports}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// The started program only sleeps, so there is nothing to count; that tracing begins, ends and is
/// reported is what is shown, or that its absence is said.
#[test]
fn system_calls_are_counted_where_strace_is() {
    let server = TestServer::start(Fault::None);
    let options = format!("compare {SMALL} --shape window1 --no-floor --idle 0 --syscalls");
    let (code, reports) = bench_starting(&server, &options);
    if Command::new("strace").arg("-V").output().is_ok() {
        assert_eq!((code, reports[0]["syscalls_per_message"].is_object()), (0, true), "{reports}");
    } else {
        assert_eq!((code, &reports[0]), (2, &Value::Null));
    }
}
