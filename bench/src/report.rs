//! What a run says: a table for people, JSON for programs, both from the same facts; and a sign of
//! life while it runs.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// One figure or condition.
struct Fact {
    key: &'static str,
    label: String,
    value: Value,
    shown: String,
}

/// The outcome of one workload.
pub(crate) struct Report {
    title: String,
    facts: Vec<Fact>,
    violations: u64,
}

impl Report {
    /// A report without facts, so far without violations.
    pub(crate) fn new(workload: &'static str, title: impl Into<String>) -> Self {
        let title = title.into();
        let fact =
            Fact { key: "workload", label: String::new(), value: json!(workload), shown: String::new() };
        Self { title, facts: vec![fact], violations: 0 }
    }

    /// Adds a condition or a count: `key` for programs, `label` for people.
    pub(crate) fn fact(&mut self, key: &'static str, label: &str, value: impl Into<Value>) {
        let value = value.into();
        let shown = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
            other => other.to_string(),
        };
        self.facts.push(Fact { key, label: label.to_owned(), value, shown });
    }

    /// Adds a measured figure, which people see with a unit and, where given, a remark.
    pub(crate) fn figure(&mut self, key: &'static str, label: &str, value: f64, unit: &str, remark: &str) {
        let digits = if value.abs() < 1.0 { 4 } else { 2 };
        let number =
            if value >= 1_000.0 { grouped(value.round() as u64) } else { format!("{value:.digits$}") };
        let shown = format!("{number} {unit}{}{remark}", if remark.is_empty() { "" } else { "  " });
        let shown = shown.trim_end().to_owned();
        self.facts.push(Fact { key, label: label.to_owned(), value: json!(value), shown });
    }

    /// Adds a count of violations: more than none makes the run fail.
    pub(crate) fn violation(&mut self, key: &'static str, label: &str, count: u64) {
        self.violations += count;
        self.fact(key, label, count);
    }

    /// Whether the server kept every promise.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations == 0
    }
}

/// One table per report, ready to print.
pub(crate) fn as_tables(reports: &[Report]) -> String {
    let mut out = String::new();
    for report in reports {
        let verdict = if report.is_clean() { "" } else { "   VIOLATIONS" };
        let _ = writeln!(out, "{}{verdict}", report.title);
        let facts = || report.facts.iter().filter(|fact| !fact.label.is_empty());
        let width = facts().map(|fact| fact.label.len()).max().unwrap_or(0);
        for fact in facts() {
            let _ = writeln!(out, "  {:width$}  {}", fact.label, fact.shown);
        }
        out.push('\n');
    }
    out
}

/// A JSON array with one object per report and one line per object.
pub(crate) fn as_json(reports: &[Report]) -> String {
    let lines: Vec<String> = reports
        .iter()
        .map(|report| {
            let facts = report.facts.iter().map(|fact| (fact.key.to_owned(), fact.value.clone()));
            let mut facts: Map<String, Value> = facts.collect();
            facts.insert("clean".into(), json!(report.is_clean()));
            Value::Object(facts).to_string()
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!("[{}]\n", lines.join(",\n")) }
}

/// A line on standard error now and then: every second where a person looks, else every ten.
pub(crate) struct Progress {
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
        Self { what: what.to_owned(), last: Instant::now(), every, on_terminal }
    }

    /// Prints `line` if it is time. Cheap enough for every turn of a loop.
    pub(crate) fn tick(&mut self, line: impl FnOnce() -> String) {
        if self.last.elapsed() >= self.every {
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
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
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
        let table = as_tables(&[report]);
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
}
