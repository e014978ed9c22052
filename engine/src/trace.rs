//! Logs, to standard error: what happened, never tokens, keys or payloads.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging with a filter such as `info` or `ringhub::auth=debug`. Call once.
///
/// # Errors
///
/// What is wrong with the filter, for the operator.
pub(crate) fn start(filter: &str) -> Result<(), String> {
    let filter = parse(filter)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Whether a filter is one; the same error as [`start`].
pub(crate) fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|error| format!("must be a log filter: {error}"))
}
