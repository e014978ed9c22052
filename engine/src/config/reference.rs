//! The reference page, `docs/configuration.md`, written from the definitions.

use super::keys::{self, Key, Shape};
use std::fmt::Write;

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for (shape, entries_max) in keys::shapes() {
        section(&mut page, shape, entries_max);
    }
    page
}

fn section(page: &mut String, shape: &Shape, entries_max: Option<usize>) {
    let about = sentence(shape.about);
    let _ = match entries_max {
        None => writeln!(page, "\n## `[{}]`\n\n{about}", shape.path),
        Some(most) => {
            writeln!(
                page,
                "\n## `[[{}]]`\n\n{about}\n\nA list, in order: at most {most} of these.",
                shape.path
            )
        }
    };
    for key in shape.keys {
        let _ = writeln!(page, "\n### `{}`\n\n{}\n", key.name, sentence(key.about));
        let _ = writeln!(page, "- Value: {}", (key.kind)());
        let _ = writeln!(page, "- Default: {}", default_of(key));
        if key.has_env() {
            let _ = writeln!(page, "- Environment: `{}`", key.env_name());
        }
    }
}

fn default_of(key: &Key) -> String {
    if key.default_words.is_empty() { format!("`{}`", (key.default)()) } else { key.default_words.into() }
}

fn sentence(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

const INTRODUCTION: &str = r#"# Configuration

This page is written from the definitions below `engine/src/config/keys`; a test keeps it so.

Every key has a default, and no file is needed. A value is taken from, in this order: a flag of
`ringhub serve` (`--listen`, `--admin-listen`, `--cores`), the environment, the file named by `--config`
(or `RINGHUB_CONFIG`), the default. An unknown key stops the start with its line and the nearest known
key. A section in double brackets may be repeated: each is one entry of a list, in order. `ringhub check --config FILE` prints what is in effect and where each value came from.

```toml
[server]
listen = "0.0.0.0:8080"
public_endpoints = ["https://pubsub.example.com"]

[keys]
primary = "at least thirty-two bytes of your own"

[hubs.chat]
anonymous_connect_policy = "deny"

[hubs.chat.reliable]
recovery_window_seconds = 60

[[hubs.chat.event_handlers]]
url_template = "http://127.0.0.1:3000/eventhandler/{event}"
user_event_pattern = "*"
system_events = ["connect", "connected", "disconnected"]
```

Secrets of event handlers can stand elsewhere: in `url_template`, `auth.value` and `auth.client_secret`, `{env:NAME}` is
a variable of the environment and `{file:/path}` a file, without the line end after it. A reload reads such files again,
and a changed one is a reload. What is secret is shown nowhere, nor are values in the query of a `url_template`.
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Set `RINGHUB_WRITE_DOCS=1` to write the page instead of comparing it.
    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        if std::env::var_os("RINGHUB_WRITE_DOCS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/configuration.md is stale: run with RINGHUB_WRITE_DOCS=1 and commit it"
        );
    }

    #[test]
    fn every_key_is_on_the_page_with_a_whole_sentence() {
        let page = page();
        for key in keys::all() {
            assert!(page.contains(&format!("### `{}`", key.name)), "{}", key.name);
            assert!(sentence(key.about).ends_with('.'), "{}", key.name);
        }
    }

    #[test]
    fn the_example_is_a_legal_file() {
        let example = INTRODUCTION.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let path = std::env::temp_dir().join(format!("ringhub-example-{}.toml", std::process::id()));
        std::fs::write(&path, example).unwrap();
        let loaded = super::super::Config::load(Some(&path), &|_| None, &[]);
        std::fs::remove_file(&path).unwrap();
        loaded.unwrap();
    }
}
