//! Logs, to standard error: what happened, never tokens, keys or payloads.
//!
//! What must stay true: an event is one line, whatever is in it (`record`); and nobody waits for whoever reads them
//! (`lines`), but for the little that the process's end may take.

mod lines;
mod record;

use crate::config::LogFormat;
use crate::process::ProcessCounts;
use lines::{Line, Lines};
use record::Record;
pub(crate) use record::harmless;
use ringhub_relay::vital;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// How long the process's end waits at most for standard error to take what was logged before.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// Lines of a backtrace that are logged.
const BACKTRACE_LINES: usize = 200;

/// The process's log, once it is started.
static LOG: OnceLock<(LogFormat, Arc<Lines>)> = OnceLock::new();

/// Changes the filter of a running log.
#[derive(Clone)]
pub(crate) struct Log(Arc<dyn Fn(EnvFilter) + Send + Sync>);

impl Log {
    /// Reads a filter; what is returned puts it in effect.
    ///
    /// # Errors
    ///
    /// The same as [`start`]'s.
    pub(crate) fn prepare(&self, filter: &str) -> Result<impl FnOnce() + use<>, String> {
        let (set, filter) = (self.0.clone(), parse(filter)?);
        Ok(move || set(filter))
    }
}

/// Starts logging with a filter such as `info` or `ringhub::auth=debug`; from now on panics are records too. Lines
/// that are dropped are counted in `process`. Call once.
///
/// # Errors
///
/// What is wrong with the filter, or that there can be no thread, for the operator.
pub(crate) fn start(filter: &str, format: LogFormat, process: Arc<ProcessCounts>) -> Result<Log, String> {
    let filter = parse(filter)?;
    let lines = Lines::start(io::stderr(), process)
        .map_err(|error| format!("the log has no thread to write it: {error}"))?;
    let to = Line(lines.clone());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || to.clone())
        .event_format(Record(format))
        // Spans are other crates', and no record shows them.
        .fmt_fields(tracing_subscriber::fmt::format::debug_fn(|_, _, _| Ok(())))
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    let _ = LOG.set((format, lines));
    panic::set_hook(Box::new(tell_panic));
    vital::spoken_by(say_last);
    let set = move |filter| {
        // It fails only if the log is gone, and then there is nobody to tell.
        let _ = handle.reload(filter);
    };
    Ok(Log(Arc::new(set)))
}

/// Waits until what was logged is written, but no longer than [`FLUSH_MAX`]: whoever does not read it must not keep
/// the process. For its end.
pub(crate) fn flush() {
    if let Some((_, lines)) = LOG.get() {
        lines.flush(Instant::now() + FLUSH_MAX);
    }
}

/// Whether a filter is one; the same error as [`start`].
pub(crate) fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|error| format!("server.log: must be a log filter: {error}"))
}

/// The panic hook. The standard one would write what peers may have had a part in as it is, and wait for whoever
/// reads it. It ends nothing: a panic while decoding is fenced.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let thread = thread::current();
    let name = thread.name().unwrap_or("(no name)");
    match panic.location() {
        Some(at) => say(format_args!("thread {name} panicked at {at}: {message}")),
        None => say(format_args!("thread {name} panicked: {message}")),
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().take(BACKTRACE_LINES).for_each(|line| say(format_args!("{line}")));
    }
}

/// Last words, before the process ends.
fn say_last(words: &str) {
    say(format_args!("{words}"));
    flush();
}

/// A record that no filter keeps back.
fn say(message: std::fmt::Arguments<'_>) {
    if let Some((format, lines)) = LOG.get() {
        lines.push(record::line(*format, Level::ERROR, module_path!(), message).as_bytes());
    }
}
