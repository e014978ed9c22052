//! What signals mean: SIGHUP reloads, the first SIGTERM or SIGINT drains, a second one ends the process.

use crate::drain::Drain;
use crate::trace;
use ringhub_relay::vital;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use std::io;
use std::process;
use std::sync::Arc;

/// Heeds `signals`, on a thread that lives as long as the process. `reload` must not wait for anything: a signal that
/// ends the process may be behind it.
///
/// # Errors
///
/// If there can be no thread.
pub(crate) fn heed(
    mut signals: Signals,
    drain: Arc<Drain>,
    reload: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let mut is_first = true;
        for signal in signals.forever() {
            match signal {
                SIGHUP => reload(),
                _ if std::mem::take(&mut is_first) => drop(drain.ask()),
                _ => {
                    trace::flush();
                    // As it would have ended without us.
                    process::exit(128 + signal)
                }
            }
        }
    };
    vital::spawn("signals", run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::panics::ends_the_process;

    /// Before, the process could not be told to stop any more.
    #[test]
    fn a_panic_while_heeding_signals_ends_the_process() {
        let test = "signals::tests::a_panic_while_heeding_signals_ends_the_process";
        ends_the_process(test, "thread signals", || {
            let signals = Signals::new([SIGHUP]).unwrap();
            heed(signals, Arc::default(), || panic!("raised by a test")).unwrap();
            signal_hook::low_level::raise(SIGHUP).unwrap();
        });
    }
}
