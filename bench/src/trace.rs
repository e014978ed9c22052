//! System calls of the server, counted by `strace` while a round of its own runs.
//!
//! A traced server is many times slower, so no figure but the count is taken from such a round. Work
//! inside an io_uring is not a system call and is not counted: that is the point of a ring.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sys;

/// How long attaching to all threads, or writing the summary, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tracer at work. Dropping it detaches.
pub(crate) struct Tracer {
    child: Child,
    summary: PathBuf,
}

impl Tracer {
    /// Attaches to all threads of `pids` and returns when it has.
    ///
    /// # Errors
    /// With what to do: `strace` is missing, or the kernel does not let us trace.
    pub(crate) fn start(pids: &[u32]) -> Result<Self, Error> {
        let name = format!("ringhub-bench-strace-{}-{}", std::process::id(), pids[0]);
        let summary = std::env::temp_dir().join(name);
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-o"]).arg(&summary);
        for pid in pids {
            command.arg("-p").arg(pid.to_string());
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::Usage("--syscalls needs strace, which is not installed (Debian: strace)".into())
            }
            _ => Error::io("start strace")(error),
        })?;
        let stderr = child.stderr.take().expect("piped above");
        let (line, lines) = mpsc::channel();
        // Reads to the end, or strace would block on a full pipe.
        std::thread::spawn(move || {
            for said in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = line.send(said);
            }
        });
        let tracer = Self { child, summary };
        // One line per process, said when all of its threads are traced.
        let mut missing = pids.len();
        let end = Instant::now() + PATIENCE;
        while missing > 0 {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(said) if said.contains("attached") => missing -= 1,
                Ok(said) => return Err(Error::Usage(format!("--syscalls: {said}"))),
                Err(_) => return Err(Error::Child("strace did not attach in 10 s".into())),
            }
        }
        Ok(tracer)
    }

    /// Detaches and returns how often each system call was made, most frequent first.
    pub(crate) fn finish(mut self) -> Result<Vec<(String, u64)>, Error> {
        sys::interrupt(self.child.id()).map_err(Error::io("interrupt strace"))?;
        self.child.wait().map_err(Error::io("wait for strace"))?;
        let text = fs::read_to_string(&self.summary).map_err(Error::io("read the summary of strace"))?;
        Ok(parse(&text))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // After `finish` both have happened already; a killed strace detaches, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.summary);
    }
}

/// The table of `strace -c`: `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn parse(summary: &str) -> Vec<(String, u64)> {
    let mut calls: Vec<(String, u64)> = summary
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, _, _, calls, .., name] = fields[..] else { return None };
            let name = (name != "total").then(|| name.to_owned())?;
            Some((name, calls.parse().ok()?))
        })
        .collect();
    calls.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_with_and_without_errors() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 95.11    0.004200           4      1000           sendto
  3.10    0.000137           3        40         2 recvfrom
  1.79    0.000079           3      2000           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.004416           4      3040         2 total
";
        let expected = [("epoll_wait", 2_000), ("sendto", 1_000), ("recvfrom", 40)];
        assert_eq!(parse(summary), expected.map(|(name, calls)| (name.to_owned(), calls)));
        assert_eq!(parse(""), []);
    }
}
