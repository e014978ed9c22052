//! `docs/bounds.md` names what is there, and everything that is called a maximum.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringhub_tests::{Client, Server, wait_until};

/// One row of the page: the bound, and the tests that reach it.
struct Row<'a> {
    bound: &'a str,
    seen_by: &'a str,
    tests: &'a str,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of all tables, without their heads.
fn rows(page: &str) -> Vec<Row<'_>> {
    let cells = page.lines().filter(|line| line.starts_with("| ")).map(|line| line.split(" | "));
    let rows = cells.filter_map(|mut cells| {
        let bound = cells.next()?.trim_start_matches("| ");
        let (_policy, seen_by) = (cells.next()?, cells.next()?);
        let tests = cells.next()?.trim_end_matches(" |");
        assert!(cells.next().is_none(), "four cells in the row of {bound}");
        Some(Row { bound, seen_by, tests })
    });
    rows.filter(|row| row.bound != "Bound").collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The keys of the reference page, as `section.key` without names of hubs.
fn keys() -> BTreeSet<String> {
    let page = read("docs/configuration.md");
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## `") {
            section = name.trim_matches(['[', ']', '`']).replace(".NAME", "");
        } else if let Some(key) = line.strip_prefix("### `") {
            keys.insert(format!("{section}.{}", key.trim_end_matches('`')));
        }
    }
    keys
}

/// The families on the metrics page of a server that has everything.
fn metrics() -> BTreeSet<String> {
    let server = Server::with(|setup| {
        setup.config(
            "[[oidc.issuers]]\nurl = \"http://127.0.0.1:1\"\nowner = [\"sub=a\"]\n\
             [[hubs.chat.event_handlers]]\nurl_template = \"http://127.0.0.1:1/\"\nuser_event_pattern = \"*\"\n\
             [[hubs.chat.event_listeners]]\nfile = \"-\"\nuser_event_pattern = \"*\"\n",
        )
    });
    // A hub is counted once there is one, and a core tells it within a second.
    let _alice = server.connect(Client::json());
    wait_until("the hub is on the page", || page_of(&server).contains("ringhub_hub_connections{"));
    let page = page_of(&server);
    let families = page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    families.map(str::to_owned).collect()
}

fn page_of(server: &Server) -> String {
    server.admin().http("GET", "/metrics").expect(200).text().to_owned()
}

/// Every source of the server, by its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["protocol", "hub", "relay", "engine"].map(|part| root().join(part).join("src")).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                sources.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources
}

/// The constants of a file that are called a maximum, those of its tests aside.
fn maxima(source: &str) -> impl Iterator<Item = &str> {
    let product = source.split("#[cfg(test)]\nmod ").next().unwrap();
    product.lines().filter_map(|line| {
        let name = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let name = name.trim_start_matches("pub ").strip_prefix("const ")?.split(':').next()?;
        (name.ends_with("_MAX") && !name.contains(' ')).then_some(name)
    })
}

/// Whether a file has a test of this name: attributes stand right in front of it.
fn is_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    let attributes = before.lines().rev().map(str::trim).skip_while(|line| line.is_empty());
    attributes.take_while(|line| line.starts_with("#[")).any(|line| line == "#[test]")
}

#[test]
fn the_page_names_what_is_there() {
    let page = read("docs/bounds.md");
    let (keys, metrics) = (keys(), metrics());
    let rows = rows(&page);
    assert!(rows.len() > 60, "{} rows", rows.len());
    for Row { bound, seen_by, tests } in rows {
        let files: Vec<&str> = quoted(bound).filter(|name| name.contains('/')).collect();
        for name in quoted(bound).filter(|name| !name.contains('/')) {
            if name.contains('.') {
                assert!(keys.contains(name), "{name} is no key");
            } else {
                let is_there = files.iter().any(|file| read(file).contains(name));
                assert!(is_there, "{name} is not in {files:?}");
            }
        }
        for name in quoted(seen_by) {
            assert!(metrics.contains(name), "{name} is no metric");
        }
        let is_counted = quoted(seen_by).next().is_some();
        let reason = seen_by.strip_prefix("not counted: ").is_some_and(|reason| !reason.is_empty());
        assert!(is_counted || reason || seen_by == "refused at start", "nothing shows {bound}: {seen_by}");
        // Each file, and then those of its tests that reach the bound.
        let (mut source, mut count) = (String::new(), 0);
        for name in quoted(tests) {
            if name.ends_with(".rs") {
                source = read(name);
            } else {
                assert!(is_test(&source, name), "{name}, of {bound}, is no test of the file before it");
                count += 1;
            }
        }
        assert!(count > 0, "no test for {bound}");
    }
}

#[test]
fn everything_that_is_called_a_maximum_is_on_the_page() {
    let page = read("docs/bounds.md");
    let is_named = |name: &str, file: &str| {
        page.split(['|', ';']).any(|part| {
            quoted(part).any(|quoted| quoted == name) && quoted(part).any(|quoted| quoted == file)
        })
    };
    for key in keys().iter().filter(|key| key.ends_with("_max") || key.contains(".max_")) {
        assert!(quoted(&page).any(|name| name == key), "{key} is not on the page");
    }
    for (file, source) in sources() {
        for name in maxima(&source) {
            assert!(is_named(name, &file), "{name} in {file} is not on the page");
        }
    }
}
