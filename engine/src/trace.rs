//! Logs, to standard error: what happened, never tokens, keys or payloads.
//!
//! What must stay true: an event is one line, whatever is in it (`record`).

mod record;

use crate::config::LogFormat;
use record::Record;
pub(crate) use record::harmless;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

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

/// Starts logging with a filter such as `info` or `ringhub::auth=debug`. Call once.
///
/// # Errors
///
/// What is wrong with the filter, for the operator.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<Log, String> {
    let filter = parse(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Record(format))
        // Spans are other crates', and no record shows them.
        .fmt_fields(tracing_subscriber::fmt::format::debug_fn(|_, _, _| Ok(())))
        .with_filter_reloading();
    let handle = builder.reload_handle();
    builder.init();
    let set = move |filter| {
        // It fails only if the log is gone, and then there is nobody to tell.
        let _ = handle.reload(filter);
    };
    Ok(Log(Arc::new(set)))
}

/// Whether a filter is one; the same error as [`start`].
pub(crate) fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|error| format!("server.log: must be a log filter: {error}"))
}
