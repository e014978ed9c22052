//! Lines of the log on their way to standard error, which somebody may not read.
//!
//! What must stay true: whoever logs never waits for the reader, for it may be a core with all its clients. A thread
//! of the log's own writes what has gathered, in order, whole lines together; of what does not fit behind it the
//! newest is dropped, counted, and told of once there is room again.

use crate::process::ProcessCounts;
use ringhub_relay::vital;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes of lines that wait while others are written; at most twice as many are held.
pub(super) const WAITING_BYTES_MAX: usize = 1 << 20;

/// The queue of lines. Its thread lives as long as the process.
#[derive(Debug)]
pub(super) struct Lines {
    state: Mutex<State>,
    /// There are lines.
    more: Condvar,
    /// Everything is written.
    none_left: Condvar,
    process: Arc<ProcessCounts>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Lines dropped since that was last told.
    dropped: u64,
}

impl Lines {
    /// A queue before `out`. What is lost by its errors is counted as dropped; there is nobody to tell.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub(super) fn start(
        mut out: impl Write + Send + 'static,
        process: Arc<ProcessCounts>,
    ) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Self {
            state: Mutex::default(),
            more: Condvar::new(),
            none_left: Condvar::new(),
            process,
        });
        let writing = lines.clone();
        vital::spawn("log", move || {
            loop {
                let (waiting, dropped) = writing.take();
                if out.write_all(&waiting).and_then(|()| out.flush()).is_err() {
                    let lines = waiting.iter().filter(|&&byte| byte == b'\n').count();
                    writing.process.log_lines_dropped.add(lines as u64);
                }
                if dropped > 0 {
                    tracing::warn!(
                        dropped,
                        "the log was not read as fast as it was written; lines were dropped"
                    );
                }
            }
        })?;
        Ok(lines)
    }

    /// Takes a line, which has its end, if there is room for it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            state.dropped += 1;
            drop(state);
            return self.process.log_lines_dropped.up();
        }
        let is_first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if is_first {
            self.more.notify_one();
        }
    }

    /// Waits until everything is written, or until `end`.
    pub(super) fn flush(&self, end: Instant) {
        let mut state = self.lock();
        while state.is_writing || !state.waiting.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.none_left.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes what has gathered, and how many lines were dropped; waits for something. What was taken before is
    /// written.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        state.is_writing = false;
        while state.waiting.is_empty() {
            self.none_left.notify_all();
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.dropped))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the records' formatter writes to: each write is a whole line.
#[derive(Debug, Clone)]
pub(super) struct Line(pub(super) Arc<Lines>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    /// Standard error whose reader takes one write for each unit it is sent.
    struct Pipe {
        reads: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.written.send(bytes.to_vec());
            match self.reads.recv() {
                Ok(()) => Ok(bytes.len()),
                Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_does_not_wait_for_the_reader_and_at_the_end_everything_is_written() {
        let (read, reads) = channel();
        let (written, writes) = channel();
        let process = Arc::new(ProcessCounts::default());
        let lines = Lines::start(Pipe { reads, written }, process.clone()).unwrap();
        lines.push(b"first\n");
        assert_eq!(writes.recv().unwrap(), b"first\n", "it is being written from now on");
        // All of these wait behind it, up to the bound.
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        let room = WAITING_BYTES_MAX / line.len();
        (0..room + 3).for_each(|_| lines.push(&line));
        assert_eq!(process.log_lines_dropped.get(), 3);
        lines.flush(Instant::now());
        // A reader that comes back finds all that fitted.
        read.send(()).unwrap();
        assert_eq!(writes.recv().unwrap().len(), WAITING_BYTES_MAX);
        read.send(()).unwrap();
        lines.push(b"last\n");
        assert_eq!(writes.recv().unwrap(), b"last\n");
        read.send(()).unwrap();
        lines.flush(Instant::now() + Duration::from_secs(60));
        assert!(lines.lock().waiting.is_empty() && !lines.lock().is_writing);
        assert_eq!(process.log_lines_dropped.get(), 3);
    }

    /// A standard error that is closed, or a full disk behind it, is no reason to end (`reliability` check 90).
    #[test]
    fn a_reader_that_is_gone_stops_nothing() {
        let (written, writes) = channel();
        let (_, reads) = channel();
        let process = Arc::new(ProcessCounts::default());
        let lines = Lines::start(Pipe { reads, written }, process.clone()).unwrap();
        for line in [b"1\n", b"2\n"] {
            lines.push(line);
            assert_eq!(writes.recv().unwrap(), line);
        }
        lines.flush(Instant::now() + Duration::from_secs(60));
        assert_eq!((lines.lock().is_writing, process.log_lines_dropped.get()), (false, 2));
    }
}
