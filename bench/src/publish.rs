//! A report as a directory: `report.md` for people, `report.json` for programs, one SVG per plot.
//!
//! What must stay true: whoever reads it later learns on what machine, when and by what command the
//! figures were made; and an access key given on the command line is not among it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::Error;
use crate::plot::{Axis, Line, svg};
use crate::report::{Curve, Report, Style, as_json, as_tables};

/// Name of the line that others are compared with.
pub(crate) const FLOOR: &str = "floor";

/// The run as a whole: noted before it starts.
pub(crate) struct Circumstances {
    command: String,
    date: String,
    kernel: String,
    machine: String,
    load_before: String,
}

impl Circumstances {
    /// Reads clock, machine and command line.
    pub(crate) fn now() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = meminfo.lines().next().and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
        let gib = kib.unwrap_or(0.0_f64) / 1_048_576.0;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        Self {
            command: without_key(std::env::args()),
            date: utc(seconds),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            machine: format!("{cpus} × {}, {gib:.1} GiB", model.map_or("unknown CPU", |(_, model)| model)),
            load_before: first_line("/proc/loadavg"),
        }
    }
}

/// Writes the directory; it is made if it is not there, and files of an earlier report are replaced.
pub(crate) fn write(dir: &Path, reports: &[Report], about: &Circumstances) -> Result<(), Error> {
    let failed = |what: &Path| Error::io(format!("write {}", what.display()));
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut files = vec![("report.json".to_owned(), as_document(reports, about))];
    let plots: Vec<(String, String)> = plots(reports);
    files.push(("report.md".to_owned(), as_page(reports, about, &plots)));
    files.extend(plots);
    for (name, text) in files {
        let path = dir.join(name);
        fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(())
}

fn as_document(reports: &[Report], about: &Circumstances) -> String {
    let reports: Value = serde_json::from_str(&as_json(reports)).unwrap_or_else(|_| json!([]));
    let document = json!({
        "command": about.command,
        "date": about.date,
        "machine": about.machine,
        "kernel": about.kernel,
        "load_before": about.load_before,
        "load_after": first_line("/proc/loadavg"),
        "reports": reports,
    });
    format!("{document:#}\n")
}

fn as_page(reports: &[Report], about: &Circumstances, plots: &[(String, String)]) -> String {
    let mut page = format!("# ringhub-bench, {}\n\n```sh\n{}\n```\n\n", about.date, about.command);
    let _ = writeln!(page, "- Machine: {}", about.machine);
    let _ = writeln!(page, "- Kernel: Linux {}", about.kernel);
    let _ = writeln!(page, "- Load average before: {}", about.load_before);
    let _ = writeln!(page, "- Load average after: {}", first_line("/proc/loadavg"));
    page.push_str(
        "\nCPU figures are user and system time of all threads of the server, medians of rounds; the floor \
         is a bare batched send of the same bytes. Every delivery was verified: loss, duplicates, order.\n\n",
    );
    page.push_str(&as_tables(reports, Style::Markdown));
    for (file, _) in plots {
        let _ = writeln!(page, "![{}]({file})\n", file.trim_end_matches(".svg"));
    }
    page
}

/// Files and contents of all plots that the reports ask for.
fn plots(reports: &[Report]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (plot, lines) in by_plot(reports.iter().filter_map(Report::latency_curve)) {
        let to_beyond = |line: Line| Line {
            points: line.points.iter().map(|&(quantile, ms)| (1.0 / (1.0 - quantile), ms)).collect(),
            ..line
        };
        let lines: Vec<Line> = lines.into_iter().map(to_beyond).collect();
        let y = Axis::around("latency, ms", values(&lines));
        out.push((format!("{plot}.svg"), svg(&title("Latency", &plot), &Axis::percentiles(), &y, &lines)));
    }
    for (plot, lines) in by_plot(reports.iter().flat_map(Report::cost_points)) {
        let x = Axis::around("members", lines.iter().flat_map(|line| &line.points).map(|point| point.0));
        let y = Axis::around("server CPU per delivery, ns", values(&lines));
        out.push((format!("{plot}.svg"), svg(&title("Cost of a delivery", &plot), &x, &y, &lines)));
    }
    out
}

/// `latency-window1-raw` under "Latency" is "Latency, window1, raw".
fn title(what: &str, plot: &str) -> String {
    let mut title = what.to_owned();
    plot.split('-').skip(1).for_each(|part| title += &format!(", {part}"));
    title
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| &line.points).map(|point| point.1)
}

/// Plots by name; in each, lines in order of appearance, points of one line joined, ascending. Points of
/// one line at the same place (the floor, measured beside each server) are averaged.
fn by_plot<'a>(curves: impl Iterator<Item = &'a Curve>) -> BTreeMap<String, Vec<Line>> {
    let mut plots: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for curve in curves {
        let lines = plots.entry(curve.plot.clone()).or_default();
        match lines.iter_mut().find(|line| line.name == curve.series) {
            Some(line) => line.points.extend_from_slice(&curve.points),
            None => lines.push(Line {
                name: curve.series.clone(),
                points: curve.points.clone(),
                is_reference: curve.series == FLOOR,
            }),
        }
    }
    for line in plots.values_mut().flatten() {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mean = |same: &[(f64, f64)]| {
            (same[0].0, same.iter().map(|point| point.1).sum::<f64>() / same.len() as f64)
        };
        line.points = line.points.chunk_by(|a, b| a.0 == b.0).map(mean).collect();
    }
    plots
}

/// The command line with the value of `--key` left out.
fn without_key(words: impl Iterator<Item = String>) -> String {
    let mut out = Vec::new();
    let mut is_key = false;
    for word in words {
        let word = match (is_key, word.split_once('=')) {
            (true, _) => "…".to_owned(),
            (false, Some(("--key", _))) => "--key=…".to_owned(),
            _ => word,
        };
        is_key = word == "--key";
        out.push(if word.contains([' ', '*', '$', '&', ';']) { format!("'{word}'") } else { word });
    }
    out.join(" ")
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

/// Seconds since 1970 as `2026-11-23 13:05 UTC`, by the proleptic Gregorian calendar.
fn utc(seconds: u64) -> String {
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02} {:02}:{:02} UTC", month + 1, days + 1, of_day / 3_600, of_day / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400 + 3_661), "2000-02-29 01:01 UTC");
        assert_eq!(utc(1_798_761_599), "2026-12-31 23:59 UTC");
    }

    #[test]
    fn the_key_is_not_written_down() {
        let words = |line: &str| without_key(line.split(' ').map(str::to_owned));
        assert_eq!(words("bench --key secret --pid 1"), "bench --key … --pid 1");
        assert_eq!(words("bench --key=secret idle"), "bench --key=… idle");
        assert_eq!(
            words("--peer a=nats,ws://x/?a&b,1"),
            "'--peer a=nats,ws://x/?a&b,1'".replacen("'--peer ", "--peer '", 1)
        );
    }

    #[test]
    fn points_of_a_line_are_joined_and_repeated_ones_averaged() {
        let curve = |series: &str, point| Curve {
            plot: "cost-window1".into(),
            series: series.into(),
            points: vec![point],
        };
        let curves = [
            curve("raw", (100.0, 4.0)),
            curve("floor", (10.0, 2.0)),
            curve("raw", (10.0, 3.0)),
            curve("floor", (10.0, 4.0)),
        ];
        let plots = by_plot(curves.iter());
        let lines = &plots["cost-window1"];
        assert_eq!((lines[0].name.as_str(), &lines[0].points[..]), ("raw", &[(10.0, 3.0), (100.0, 4.0)][..]));
        assert_eq!((lines[1].is_reference, &lines[1].points[..]), (true, &[(10.0, 3.0)][..]));
    }
}
