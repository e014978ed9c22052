//! One event as one line of the log, as text or as a JSON object.
//!
//! Much of what is logged was sent by somebody: names, hosts, audiences, answers of handlers. What must stay true
//! of every field: it begins no new line and moves no terminal's cursor, it is valid UTF-8, and it is cut at
//! [`FIELD_BYTES_MAX`]. How many fields an event has is in the code, so a line has a bound as well. A field's value does
//! not look like another field: in text, what could stands in quotes, and backslashes are always escaped.

use crate::config::LogFormat;
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Longest field of a record, in bytes as written; what is longer is cut and ends with `…`.
pub(super) const FIELD_BYTES_MAX: usize = 1024;

/// Writes records.
pub(super) struct Record(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Record
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::new(self.0);
        event.record(&mut fields);
        let (level, metadata) = (event.metadata().level(), event.metadata());
        // Records of crates that log otherwise have their own target in a field.
        let target = fields.target.as_deref().unwrap_or_else(|| metadata.target());
        writer.write_str(&assembled(self.0, *level, target, &fields.message, &fields.rest)?)
    }
}

/// An event without fields, written; for what cannot be an event of `tracing`'s.
pub(super) fn line(format: LogFormat, level: Level, target: &str, message: fmt::Arguments<'_>) -> String {
    assembled(format, level, target, &written(Style::of_message(format), message), "").unwrap_or_default()
}

/// A line of what is written already.
fn assembled(
    format: LogFormat,
    level: Level,
    target: &str,
    message: &str,
    rest: &str,
) -> Result<String, fmt::Error> {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    Ok(match format {
        LogFormat::Text => format!("{time} {level:>5} {target}: {message}{rest}\n"),
        LogFormat::Json => {
            format!(
                r#"{{"timestamp":"{time}","level":"{level}","target":"{target}","message":"{message}","fields":{{{rest}}}}}"#
            ) + "\n"
        }
    })
}

/// A text of anybody on one line, harmless and bounded, as records have it.
pub(crate) fn harmless(text: &str) -> String {
    written(Style::Bare, format_args!("{text}"))
}

/// The fields of an event, written.
struct Fields {
    format: LogFormat,
    target: Option<String>,
    message: String,
    /// All others: ` name=value…`, or `"name":value,…`.
    rest: String,
}

impl Fields {
    fn new(format: LogFormat) -> Self {
        Self { format, target: None, message: String::new(), rest: String::new() }
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>, is_text: bool) {
        match (field.name(), self.format) {
            ("message", format) => self.message = written(Style::of_message(format), value),
            ("log.target", format) => self.target = Some(written(Style::of_message(format), value)),
            // Where in other crates' code: of no use here.
            (name, _) if name.starts_with("log.") => {}
            (name, LogFormat::Text) => {
                let value = written(Style::Quoted, value);
                let quote = if is_text || needs_quotes(&value) { "\"" } else { "" };
                self.rest += &format!(" {name}={quote}{value}{quote}");
            }
            (name, LogFormat::Json) => {
                let value = written(Style::Json, value);
                let comma = if self.rest.is_empty() { "" } else { "," };
                let quote = if is_text { "\"" } else { "" };
                self.rest += &format!(r#"{comma}"{name}":{quote}{value}{quote}"#);
            }
        }
    }
}

/// Whether it could be taken for more than one value, or for none.
fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.contains(|char: char| char.is_whitespace() || matches!(char, '"' | '\\'))
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Text in JSON, whatever it is; in our own format only if it does not stand by itself.
        self.add(field, format_args!("{value:?}"), self.format == LogFormat::Json);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"), true);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, format_args!("{value}"), false);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, format_args!("{value}"), false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, format_args!("{value}"), false);
    }
}

/// What is escaped, besides what is harmful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Backslashes.
    Bare,
    /// And quotes.
    Quoted,
    /// As a string of JSON.
    Json,
}

impl Style {
    fn of_message(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Bare,
            LogFormat::Json => Self::Json,
        }
    }
}

/// A value as it stands in a record, without quotes around it.
fn written(style: Style, value: fmt::Arguments<'_>) -> String {
    let mut bounded = Bounded { style, text: String::new(), is_full: false };
    // It fails when it is full, so that nobody goes on writing what is cut off.
    let _ = bounded.write_fmt(value);
    if bounded.is_full {
        bounded.text.push('…');
    }
    bounded.text
}

/// Takes so much and no more, with everything harmful escaped.
struct Bounded {
    style: Style,
    text: String,
    is_full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let before = self.text.len();
            self.write_escaped(char)?;
            // An escape is whole or not there.
            if self.text.len() > FIELD_BYTES_MAX - '…'.len_utf8() {
                self.text.truncate(before);
                self.is_full = true;
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

impl Bounded {
    fn write_escaped(&mut self, char: char) -> fmt::Result {
        match (char, self.style) {
            ('\n', _) => self.text.push_str(r"\n"),
            ('\r', _) => self.text.push_str(r"\r"),
            ('\t', _) => self.text.push_str(r"\t"),
            ('\\', _) | ('"', Style::Quoted | Style::Json) => self.text.extend(['\\', char]),
            // All of them are in the basic plane: one unit each.
            (_, Style::Json) if is_harmful(char) => {
                return write!(self.text, "\\u{:04x}", u32::from(char));
            }
            _ if is_harmful(char) => return write!(self.text, "{}", char.escape_unicode()),
            _ => self.text.push(char),
        }
        Ok(())
    }
}

/// What ends lines, moves cursors, or turns the direction of what follows.
fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io;
    use std::sync::{Arc, Mutex};

    /// Everything that must not come out as it went in.
    const HOSTILE: &str = "a\nb\r\nc\x1b[31m\x07\0\x7f\u{85}\u{9b}2J\u{2028}\u{2029}\u{202e}\u{feff}\"\\é😀";

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the events of `act` are written as.
    fn logged(format: LogFormat, act: impl FnOnce()) -> String {
        let sink = Sink::default();
        let to = sink.clone();
        let builder = tracing_subscriber::fmt().with_writer(move || to.clone()).event_format(Record(format));
        tracing::subscriber::with_default(builder.finish(), act);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    fn say_hostile() {
        tracing::warn!(text = HOSTILE, shown = %HOSTILE, debugged = ?[HOSTILE], n = 7_u64, yes = true, "said: {HOSTILE}");
    }

    #[test]
    fn text() {
        let log = logged(LogFormat::Text, || tracing::info!(hub = "chat", n = -1, at = %"x y", "it \"is\""));
        let (time, rest) = log.split_once("  INFO ").unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{log}");
        assert_eq!(rest, "ringhub::trace::record::tests: it \"is\" hub=\"chat\" n=-1 at=\"x y\"\n");
    }

    /// What was shown with `%` stood there as it was, and a backslash meant nothing.
    #[test]
    fn a_value_does_not_look_like_another_field() {
        for (value, shown) in [
            ("x", "x"),
            ("https://a/?b=c", "https://a/?b=c"),
            ("x user=\"root\"", r#""x user=\"root\"""#),
            ("x\u{3000}user=root", "\"x\u{3000}user=root\""),
            ("", "\"\""),
            ("a\nb", r#""a\nb""#),
            (r"a\nb", r#""a\\nb""#),
        ] {
            let log = logged(LogFormat::Text, || tracing::info!(shown = %value, n = 1, "said"));
            assert!(log.ends_with(&format!("tests: said shown={shown} n=1\n")), "{log}");
            // Text always stands in quotes.
            let inner = shown.strip_prefix('"').and_then(|shown| shown.strip_suffix('"')).unwrap_or(shown);
            let log = logged(LogFormat::Text, || tracing::info!(text = value, "said"));
            assert!(log.ends_with(&format!("tests: said text=\"{inner}\"\n")), "{log}");
        }
    }

    #[test]
    fn json_is_json() {
        for line in logged(LogFormat::Json, || {
            tracing::info!("no fields");
            say_hostile();
        })
        .lines()
        {
            let record: Value = serde_json::from_str(line).expect(line);
            assert_eq!(record["target"], "ringhub::trace::record::tests");
            match record["level"].as_str() {
                Some("INFO") => {
                    assert_eq!((&record["message"], &record["fields"]), (&json!("no fields"), &json!({})))
                }
                _ => {
                    let expected = json!({
                        "text": HOSTILE, "shown": HOSTILE, "debugged": format!("{:?}", [HOSTILE]), "n": 7, "yes": true,
                    });
                    assert_eq!(record["fields"], expected);
                    assert_eq!(record["message"], format!("said: {HOSTILE}"));
                }
            }
        }
    }

    #[test]
    fn an_event_is_one_line_that_no_terminal_obeys() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = logged(format, say_hostile);
            let line = log.strip_suffix('\n').unwrap();
            assert!(!line.chars().any(is_harmful), "{line:?}");
        }
        assert_eq!(
            harmless(HOSTILE),
            "a\\nb\\r\\nc\\u{1b}[31m\\u{7}\\u{0}\\u{7f}\\u{85}\\u{9b}2J\\u{2028}\\u{2029}\\u{202e}\\u{feff}\"\\\\é😀"
        );
    }

    /// At the bound, whole characters and whole escapes are left.
    #[test]
    fn fields_are_cut_at_their_bound() {
        for (piece, style) in
            [("x", Style::Bare), ("😀", Style::Bare), ("\x1b", Style::Bare), ("\"", Style::Quoted)]
        {
            let long = piece.repeat(1 << 20);
            let text = written(style, format_args!("{long}"));
            let one = written(style, format_args!("{piece}"));
            let kept = text.strip_suffix('…').expect("cut");
            assert_eq!(kept.replace(&one, ""), "");
            assert!(
                text.len() <= FIELD_BYTES_MAX && text.len() + one.len() > FIELD_BYTES_MAX,
                "{}",
                text.len()
            );
        }
        let whole = "x".repeat(FIELD_BYTES_MAX - 3);
        assert_eq!(written(Style::Bare, format_args!("{whole}")), whole);
        let log =
            logged(LogFormat::Json, || tracing::warn!(a = "\n".repeat(1 << 20), "{}", "m".repeat(1 << 20)));
        let record: Value = serde_json::from_str(&log).expect("cut JSON is JSON");
        assert!(
            log.len() < 2 * FIELD_BYTES_MAX + 200 && record["fields"]["a"].as_str().unwrap().ends_with('…')
        );
    }
}
