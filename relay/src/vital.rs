//! Threads that the server is half dead without: a panic in one of them ends the process, so that it can be restarted.
//!
//! A thread that is gone is easily overlooked: clients are served on, but keys are not renewed any more, or signals
//! not heeded. What must stay true: every thread of ours runs behind this guard, and whatever ended the process is
//! the last thing it says.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};

/// Says the last words; see [`spoken_by`].
static SPEAKER: OnceLock<fn(&str)> = OnceLock::new();

/// Has last words said by `say`, such as in the log; before that they go to standard error. `say` returns when they
/// are said, in a bounded time, and must not panic. Only the first call counts.
pub fn spoken_by(say: fn(&str)) {
    let _ = SPEAKER.set(say);
}

/// Runs a thread of this name, of at most 15 bytes, whose panic ends the process.
///
/// # Errors
///
/// If there can be no thread.
pub fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || guarded(format_args!("thread {name}"), run))
}

/// Runs something on this thread; if it panics, the process ends. `who` is the subject of its last words.
pub fn guarded<T>(who: impl std::fmt::Display, run: impl FnOnce() -> T) -> T {
    // What it leaves half-changed nobody will see.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        // The panic's own message was said when it happened.
        let words = format!("{who} panicked; the process ends so that it can be restarted");
        match SPEAKER.get() {
            Some(say) => say(&words),
            None => eprintln!("ringhub: {words}"),
        }
        process::abort()
    })
}
