//! `docs/compatibility.md`: what works as with the hosted service, what differs, what is not there. Every row names
//! the tests of this binary that show it; the page is rendered from here and compared.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

mod rows;

use rows::AREAS;

/// How a feature stands to the hosted service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As there.
    Works,
    /// There is such a thing, and it does not do quite the same.
    Differs,
    /// Not built; asked for, it is refused in the form that callers understand: 501, or what the row says.
    NotYet,
    /// Not planned.
    NotOffered,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Differs => "differs",
            Self::NotYet => "not yet",
            Self::NotOffered => "not offered",
        }
    }
}

/// One line of the page.
struct Row {
    feature: &'static str,
    state: State,
    /// What holds, in a sentence or two.
    says: &'static str,
    /// The tests that show it.
    shown_by: &'static [&'static str],
}

/// Rows about one thing.
struct Area {
    title: &'static str,
    rows: &'static [Row],
}

const fn works(feature: &'static str, says: &'static str, shown_by: &'static [&'static str]) -> Row {
    Row { feature, state: State::Works, says, shown_by }
}

const fn differs(feature: &'static str, says: &'static str, shown_by: &'static [&'static str]) -> Row {
    Row { feature, state: State::Differs, says, shown_by }
}

const fn not_yet(feature: &'static str, says: &'static str, shown_by: &'static [&'static str]) -> Row {
    Row { feature, state: State::NotYet, says, shown_by }
}

const fn not_offered(feature: &'static str, says: &'static str, shown_by: &'static [&'static str]) -> Row {
    Row { feature, state: State::NotOffered, says, shown_by }
}

fn page() -> String {
    let mut page = String::from(
        "# Compatibility\n\n\
         What an application meets that comes from Azure Web PubSub. This page is written from the table in\n\
         `tests/tests/compatibility/rows.rs`; a test keeps it so, and checks that the tests named here exist: they run\n\
         the real binary, many of them with the released SDKs. `cargo test -p ringhub-tests --test main NAME` runs one.\n\n\
         **works**: as there. **differs**: there is such a thing, and the sentence says how it is another. **not yet**:\n\
         not built; REST calls and addresses answer 501 with an error body, requests of clients are refused as the\n\
         sentence says. **not offered**: not planned.\n",
    );
    page.push_str("\n## What differs\n\nTaken from the tables below.\n\n");
    for row in AREAS.iter().flat_map(|area| area.rows).filter(|row| row.state == State::Differs) {
        let _ = writeln!(page, "- **{}**: {}", row.feature, row.says);
    }
    for Area { title, rows } in AREAS {
        let _ = write!(page, "\n## {title}\n\n| | | | Shown by |\n|---|---|---|---|\n");
        for Row { feature, state, says, shown_by } in *rows {
            let tests: Vec<_> = shown_by.iter().map(|test| format!("`{test}`")).collect();
            let _ = writeln!(page, "| {feature} | {} | {says} | {} |", state.words(), tests.join(", "));
        }
    }
    page
}

/// The names of this binary's tests.
fn tests() -> BTreeSet<String> {
    let binary = env::current_exe().expect("a test knows its own file");
    let listed = Command::new(binary).arg("--list").output().expect("a test binary lists its tests");
    let listed = String::from_utf8(listed.stdout).expect("names are text");
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Set `RINGHUB_WRITE_DOCS=1` to write the page instead of comparing it.
#[test]
fn the_compatibility_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    if env::var_os("RINGHUB_WRITE_DOCS").is_some() {
        fs::write(&path, page()).expect("docs can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/compatibility.md is stale: run with RINGHUB_WRITE_DOCS=1 and commit it");
}

#[test]
fn every_claim_names_tests_that_exist() {
    let tests = tests();
    assert!(tests.contains("compatibility::every_claim_names_tests_that_exist"), "{tests:?}");
    for row in AREAS.iter().flat_map(|area| area.rows) {
        let shown = !row.shown_by.is_empty() || row.state == State::NotOffered;
        assert!(shown, "{}: no test shows it", row.feature);
        let missing: Vec<_> = row.shown_by.iter().filter(|test| !tests.contains(**test)).collect();
        assert!(missing.is_empty(), "{}: there is no test {missing:?}", row.feature);
    }
}

#[test]
fn rows_are_whole_sentences_that_fit_a_table() {
    let mut features = BTreeSet::new();
    for row in AREAS.iter().flat_map(|area| area.rows) {
        assert!(row.says.ends_with('.'), "{}", row.says);
        assert!(!row.says.contains(['|', '\n']) && !row.feature.contains(['|', '\n']), "{}", row.feature);
        assert!(features.insert(row.feature), "{} stands twice", row.feature);
    }
}
