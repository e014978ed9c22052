//! What a run says: a table for people, JSON for programs, both from the same facts; and a sign of
//! life while it runs. The same reports go into a directory with plots: module `publish`.

use std::collections::HashSet;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// One figure or condition.
struct Fact {
    key: &'static str,
    label: String,
    value: Value,
    shown: String,
    kind: Kind,
}

/// Where people see a fact when reports stand side by side as rows of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not there: a condition that the table's title says.
    Plain,
    /// As a column, with its label as the head.
    Column,
    /// In a line below the table.
    Note,
    /// Below the table, if it is not zero.
    Violation,
}

/// A line in a plot.
pub(crate) struct Curve {
    /// Name of the plot's file, without its ending.
    pub(crate) plot: String,
    /// Which line in it.
    pub(crate) series: String,
    /// What the line runs through: percentile as a fraction and ms, or members and ns.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The outcome of one workload.
pub(crate) struct Report {
    title: String,
    /// Title of the table in which this report is a row, and the row's name.
    row: Option<(String, String)>,
    facts: Vec<Fact>,
    violations: u64,
    latency: Option<Curve>,
    costs: Vec<Curve>,
}

impl Report {
    /// A report without facts, so far without violations.
    pub(crate) fn new(workload: &'static str, title: impl Into<String>) -> Self {
        let title = title.into();
        let mut report =
            Self { title, row: None, facts: Vec::new(), violations: 0, latency: None, costs: Vec::new() };
        report.push("workload", "", json!(workload), String::new(), Kind::Plain);
        report
    }

    /// Makes this report a row of the table that its neighbours with the same title form.
    pub(crate) fn in_table(mut self, title: &str, row: &str) -> Self {
        self.row = Some((title.to_owned(), row.to_owned()));
        self
    }

    /// Adds a condition or a count: `key` for programs, `label` for people.
    pub(crate) fn fact(&mut self, key: &'static str, label: &str, value: impl Into<Value>) {
        let value = value.into();
        let shown = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
            other => other.to_string(),
        };
        self.push(key, label, value, shown, Kind::Plain);
    }

    /// Adds a measured figure, which people see with a unit and, where given, a remark.
    pub(crate) fn figure(&mut self, key: &'static str, label: &str, value: f64, unit: &str, remark: &str) {
        let number = number(value);
        let shown = format!("{number} {unit}{}{remark}", if remark.is_empty() { "" } else { "  " });
        self.push(key, label, json!(value), shown.trim_end().to_owned(), Kind::Plain);
    }

    /// Adds a measured figure that is a column where reports stand side by side.
    pub(crate) fn column(&mut self, key: &'static str, head: &str, value: f64) {
        self.push(key, head, json!(value), number(value), Kind::Column);
    }

    /// The same for two figures that belong together.
    pub(crate) fn range(&mut self, key: &'static str, head: &str, [low, high]: [f64; 2]) {
        let shown = format!("{} to {}", number(low), number(high));
        self.push(key, head, json!([low, high]), shown, Kind::Column);
    }

    /// Adds something to say in a line of its own below the table.
    pub(crate) fn note(&mut self, key: &'static str, label: &str, value: Value, shown: String) {
        self.push(key, label, value, shown, Kind::Note);
    }

    /// Keeps the distribution of latencies (ns) for programs and for a plot: the line `series` of the
    /// plot `plot`, or of the plot of this run if both are empty.
    pub(crate) fn distribution(&mut self, latency: &Histogram<u64>, plot: &str, series: &str) {
        if latency.is_empty() {
            return;
        }
        let plot = if plot.is_empty() { "latency" } else { plot }.to_owned();
        let series = if series.is_empty() { &self.title } else { series }.to_owned();
        self.latency = Some(Curve { plot, series, points: percentiles(latency) });
    }

    /// Adds a point to the line `series` of a plot of cost (ns per delivery) against members.
    pub(crate) fn cost(&mut self, plot: &str, series: &str, members: usize, ns: f64) {
        let points = vec![(members as f64, ns)];
        self.costs.push(Curve { plot: plot.to_owned(), series: series.to_owned(), points });
    }

    /// The line of latency percentiles, if one was kept.
    pub(crate) fn latency_curve(&self) -> Option<&Curve> {
        self.latency.as_ref()
    }

    /// The points of cost plots.
    pub(crate) fn cost_points(&self) -> &[Curve] {
        &self.costs
    }

    /// Adds a count of violations: more than none makes the run fail.
    pub(crate) fn violation(&mut self, key: &'static str, label: &str, count: u64) {
        self.violations += count;
        self.push(key, label, json!(count), grouped(count), Kind::Violation);
    }

    /// Whether the server kept every promise.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations == 0
    }

    fn push(&mut self, key: &'static str, label: &str, value: Value, shown: String, kind: Kind) {
        self.facts.push(Fact { key, label: label.to_owned(), value, shown, kind });
    }

    fn table(&self) -> Option<&str> {
        self.row.as_ref().map(|(table, _)| table.as_str())
    }
}

/// How tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Columns of spaces, for a terminal.
    Plain,
    /// Markdown, for a file.
    Markdown,
}

/// One table per report, or one for all neighbours that are rows of the same; ready to print.
pub(crate) fn as_tables(reports: &[Report], style: Style) -> String {
    let mut out = String::new();
    for table in reports.chunk_by(|a, b| a.table().is_some() && a.table() == b.table()) {
        match table {
            [report] if report.row.is_none() => alone(&mut out, report, style),
            rows => side_by_side(&mut out, rows, style),
        }
        out.push('\n');
    }
    out
}

/// A report with a line per fact.
fn alone(out: &mut String, report: &Report, style: Style) {
    let verdict = if report.is_clean() { "" } else { "   VIOLATIONS" };
    heading(out, &format!("{}{verdict}", report.title), style);
    let facts = || report.facts.iter().filter(|fact| !fact.label.is_empty());
    let cells = facts().map(|fact| vec![fact.label.clone(), fact.shown.clone()]);
    match style {
        Style::Plain => {
            let width = facts().map(|fact| fact.label.len()).max().unwrap_or(0);
            for fact in facts() {
                let _ = writeln!(out, "  {:width$}  {}", fact.label, fact.shown);
            }
        }
        Style::Markdown => markdown(out, vec![vec!["what".into(), "figure".into()]].into_iter().chain(cells)),
    }
}

/// Reports as rows, their figures as columns; what else must be said stands below.
fn side_by_side(out: &mut String, rows: &[Report], style: Style) {
    heading(out, rows[0].table().unwrap_or_default(), style);
    let mut seen = HashSet::new();
    let columns: Vec<&Fact> = rows
        .iter()
        .flat_map(|row| row.facts.iter().filter(|fact| fact.kind == Kind::Column))
        .filter(|fact| seen.insert(fact.key))
        .collect();
    let name = |row: &Report| row.row.as_ref().map_or(String::new(), |(_, name)| name.clone());
    let head = std::iter::once(String::new()).chain(columns.iter().map(|column| column.label.clone()));
    let body = rows.iter().map(|row| {
        let cell = |column: &&Fact| {
            let fact = row.facts.iter().find(|fact| fact.key == column.key);
            fact.map_or_else(|| "–".to_owned(), |fact| fact.shown.clone())
        };
        std::iter::once(name(row)).chain(columns.iter().map(cell)).collect()
    });
    let cells: Vec<Vec<String>> = std::iter::once(head.collect()).chain(body).collect();
    match style {
        Style::Plain => aligned(out, &cells),
        Style::Markdown => markdown(out, cells.into_iter()),
    }
    let mut first = true;
    for row in rows {
        let below = row.facts.iter().filter(|fact| match fact.kind {
            Kind::Note => true,
            Kind::Violation => fact.value != 0,
            Kind::Plain | Kind::Column => false,
        });
        for fact in below {
            if std::mem::take(&mut first) && style == Style::Markdown {
                out.push('\n');
            }
            let (bullet, name) = (if style == Style::Markdown { "- " } else { "  " }, name(row));
            let alarm = if fact.kind == Kind::Violation { "VIOLATION: " } else { "" };
            let _ = writeln!(out, "{bullet}{name}: {alarm}{}: {}", fact.label, fact.shown);
        }
    }
}

fn heading(out: &mut String, title: &str, style: Style) {
    let _ = match style {
        Style::Plain => writeln!(out, "{title}"),
        Style::Markdown => writeln!(out, "## {title}\n"),
    };
}

/// First column to the left, the others to the right.
fn aligned(out: &mut String, cells: &[Vec<String>]) {
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
    for row in cells {
        let mut line = format!("  {:width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn markdown(out: &mut String, mut rows: impl Iterator<Item = Vec<String>>) {
    let escaped = |row: Vec<String>| {
        let cells = row.into_iter().map(|cell| cell.replace('|', "\\|"));
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let Some(head) = rows.next() else { return };
    let rule = "---|".repeat(head.len());
    let _ = writeln!(out, "{}\n|{rule}", escaped(head));
    for row in rows {
        let _ = writeln!(out, "{}", escaped(row));
    }
}

/// Percentiles from the median to the last that the number of samples carries, ten to a factor of ten
/// in what lies beyond them; in ms.
fn percentiles(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let beyond = (4..=40).map(|step| 10f64.powf(f64::from(step) / 10.0));
    std::iter::once(2.0)
        .chain(beyond)
        .take_while(|&beyond| beyond <= (latency.len() as f64).max(2.0) * 1.000_001)
        .map(|beyond| 1.0 - 1.0 / beyond)
        .map(|quantile| (quantile, latency.value_at_quantile(quantile) as f64 / 1e6))
        .collect()
}

/// A JSON array with one object per report and one line per object.
pub(crate) fn as_json(reports: &[Report]) -> String {
    let lines: Vec<String> = reports
        .iter()
        .map(|report| {
            let facts = report.facts.iter().map(|fact| (fact.key.to_owned(), fact.value.clone()));
            let mut facts: Map<String, Value> = facts.collect();
            facts.insert("clean".into(), json!(report.is_clean()));
            if let Some(latency) = &report.latency {
                facts.insert("latency_points".into(), json!(latency.points));
            }
            Value::Object(facts).to_string()
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!("[{}]\n", lines.join(",\n")) }
}

/// Whether somebody has the word.
static SPEAKING: AtomicBool = AtomicBool::new(false);

/// A line on standard error now and then: every second where a person looks, else every ten.
pub(crate) struct Progress {
    /// Whether this one has the word: of several that live at the same time the first does.
    speaks: bool,
    what: String,
    last: Instant,
    every: Duration,
    on_terminal: bool,
}

impl Progress {
    /// Silent until the first interval has passed, so short runs print nothing.
    pub(crate) fn new(what: &str) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let every = Duration::from_secs(if on_terminal { 1 } else { 10 });
        let speaks = !SPEAKING.swap(true, Relaxed);
        Self { speaks, what: what.to_owned(), last: Instant::now(), every, on_terminal }
    }

    /// Prints `line` if it is time. Cheap enough for every turn of a loop.
    pub(crate) fn tick(&mut self, line: impl FnOnce() -> String) {
        if self.speaks && self.last.elapsed() >= self.every {
            self.last = Instant::now();
            if self.on_terminal {
                // Back to the start of the line and erase it; the next line overwrites this one.
                eprint!("\r\x1b[K{}: {}\r", self.what, line());
            } else {
                eprintln!("{}: {}", self.what, line());
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.speaks {
            SPEAKING.store(false, Relaxed);
        }
        if self.speaks && self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// Digits enough to compare, not more than were measured.
fn number(value: f64) -> String {
    let digits = if value.abs() < 1.0 { 4 } else { 2 };
    if value >= 1_000.0 { grouped(value.round() as u64) } else { format!("{value:.digits$}") }
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_programs_see_the_same_facts() {
        let mut report = Report::new("fanout", "fan-out, raw");
        report.fact("members", "members", 12_345u64);
        report.figure("ratio", "against the floor", 0.0567, "x", "hold 0.06");
        report.violation("lost", "lost", 2);
        let table = as_tables(&[report], Style::Plain);
        assert_eq!(
            table,
            "fan-out, raw   VIOLATIONS\n  members            12,345\n  against the floor  0.0567 x  hold 0.06\n  lost               2\n\n"
        );
        let mut report = Report::new("idle", "idle");
        report.violation("lost", "lost", 0);
        let json: Value = serde_json::from_str(&as_json(&[report])).unwrap();
        assert_eq!(json, json!([{ "workload": "idle", "lost": 0, "clean": true }]));
        assert_eq!(as_json(&[]), "");
    }

    fn row(name: &str, cost: f64, lost: u64) -> Report {
        let mut report = Report::new("compare", name).in_table("64 B to 10", name);
        report.fact("members", "members", 10);
        report.column("cpu_ns", "CPU ns", cost);
        report.violation("lost", "lost", lost);
        report
    }

    #[test]
    fn rows_of_a_table_stand_side_by_side_and_only_the_faulty_is_named() {
        let mut uws = row("uws", 12.5, 3);
        uws.range("range", "range", [12.0, 13.0]);
        let reports = [row("ringhub", 1_234.4, 0), uws, Report::new("idle", "idle")];
        let expected = "64 B to 10\n           CPU ns           range\n  ringhub   1,234               –\n  \
                        uws       12.50  12.00 to 13.00\n  uws: VIOLATION: lost: 3\n\nidle\n\n";
        assert_eq!(as_tables(&reports, Style::Plain), expected);
        let expected = "## 64 B to 10\n\n|  | CPU ns | range |\n|---|---|---|\n| ringhub | 1,234 | – |\n\
                        | uws | 12.50 | 12.00 to 13.00 |\n\n- uws: VIOLATION: lost: 3\n\n";
        assert_eq!(as_tables(&reports[..2], Style::Markdown), expected);
    }

    #[test]
    fn percentiles_end_where_samples_do() {
        let mut latency = Histogram::<u64>::new(3).unwrap();
        (1..=1_000).for_each(|ms| latency.record(ms * 1_000_000).unwrap());
        let points = percentiles(&latency);
        assert_eq!(points[0].0, 0.5);
        assert!((points[0].1 / 500.0 - 1.0).abs() < 0.01, "{points:?}");
        let last = points.last().unwrap();
        assert!(last.0 > 0.998 && last.0 < 0.9991 && last.1 > 990.0, "{points:?}");
    }
}
