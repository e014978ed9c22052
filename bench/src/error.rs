//! What can stop a run, said to the person who started it.

use std::io;

/// Why a run ended without a report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The machine or the operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The upgrade was answered with something other than 101.
    #[error("connection {connection} was refused: {reason}")]
    Refused {
        /// Index of the connection, in order of opening.
        connection: usize,
        /// Status line or what was wrong with the answer.
        reason: String,
    },
    /// Connections did not become ready in time.
    #[error("only {ready} of {wanted} connections were ready and none followed for {seconds} s")]
    ConnectTimeout {
        /// Connections that made it.
        ready: usize,
        /// Connections asked for.
        wanted: usize,
        /// The allowance, seconds.
        seconds: u64,
    },
    /// The server ended or broke a connection that should have lived. A violation.
    #[error("the server ended connection {connection}: {reason}")]
    Ended {
        /// Index of the connection, in order of opening.
        connection: usize,
        /// Close code and reason, or how the bytes broke the protocol.
        reason: String,
    },
    /// The server did not do in time what the workload waits for. A violation.
    #[error("{0}")]
    Stalled(String),
    /// An open loop was given up: the server, or this generator, falls ever further behind.
    #[error("overloaded: {0} deliveries were outstanding")]
    Overloaded(u64),
    /// A server or floor process that we started failed.
    #[error("{0}")]
    Child(String),
}

impl Error {
    /// An I/O error with what was being done, as a closure for `map_err`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// Whether the server broke a promise (exit code 1) rather than the set-up being wrong (2).
    pub(crate) fn is_violation(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Stalled(_))
    }
}
