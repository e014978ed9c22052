//! The binary as a child process: built once, watched line by line, ended through its handle.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;

use crate::{DEADLINE, sandbox};

/// A running `ringhub`. Dropped, it is asked to stop, then killed; a failing test prints what it said.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    /// Standard output, line by line; the channel ends with the process.
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    /// Standard error, if nobody is to read it.
    unread: Option<ChildStderr>,
    status: Option<ExitStatus>,
}

/// The command `ringhub ARGS…` with a clean environment for the keys it reads.
pub fn ringhub<I: IntoIterator<Item = S>, S: Into<OsString>>(args: I) -> Command {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let mut command = if sandbox::is_wanted() {
        sandbox::confined(binary(), &args)
    } else {
        let mut command = Command::new(binary());
        command.args(&args);
        command
    };
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("RINGHUB_") {
            command.env_remove(name);
        }
    }
    command
}

impl Process {
    /// Starts it, with its output captured.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        let mut process = Self::spawn_unread(command);
        let stderr = process.unread.take().expect("stderr is piped");
        let log = Arc::clone(&process.log);
        process.readers.push(thread::spawn(move || for_each_line(stderr, |line| append(&log, line))));
        process
    }

    /// Starts it with its standard error in a pipe that nobody reads.
    #[track_caller]
    pub(crate) fn spawn_unread(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let unread = child.stderr.take();
        let out_log = Arc::clone(&log);
        let out = thread::spawn(move || {
            for_each_line(stdout, |line| {
                append(&out_log, line);
                let _ = sender.send(line.to_owned());
            });
        });
        Self { child, name, lines, log, readers: vec![out], unread, status: None }
    }

    /// Waits for a line of standard output that contains `marker`; returns what follows it.
    #[track_caller]
    pub fn expect_line(&mut self, marker: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((_, rest)) = line.split_once(marker) {
                        return rest.trim().to_owned();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} did not print {marker:?}:\n{}", self.name, self.log())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended before it printed {marker:?}:\n{}", self.name, self.log())
                }
            }
        }
    }

    /// Everything printed so far, both streams.
    pub fn log(&self) -> String {
        self.log.lock().expect("a reader panicked").clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a running process").count()
    }

    /// How much memory it holds, in bytes.
    pub fn resident_bytes(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The most it ever held.
    pub fn peak_bytes(&self) -> usize {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> usize {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it has memory");
        let kib: usize = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kib * 1024
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends a signal by name (`TERM`, `INT`) to this process only.
    pub fn signal(&self, signal: &str) {
        if self.status.is_none() {
            // The shell's own kill: no unsafe here and no package needed there.
            let kill = format!("kill -{signal} {}", self.child.id());
            let status = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
            assert!(status.is_ok(), "no shell to send a signal with: {status:?}");
        }
    }

    /// Waits until it ends by itself; after the deadline it is killed and the test fails.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        match self.wait_or_kill() {
            Ok(status) => status,
            Err(_) => panic!("{} did not end within {DEADLINE:?}:\n{}", self.name, self.log()),
        }
    }

    /// `Err` when it had to be killed.
    fn wait_or_kill(&mut self) -> Result<ExitStatus, ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // The pipe's end is the process's end: no polling.
        let deadline = Instant::now() + DEADLINE;
        let ended = loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        if !ended {
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("a child can be waited for");
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.status = Some(status);
        if ended { Ok(status) } else { Err(status) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("TERM");
        let ended = self.wait_or_kill();
        if thread::panicking() {
            println!("---- {}\n{}----", self.name, self.log());
        } else if ended.is_err() {
            panic!("{} did not stop on SIGTERM:\n{}", self.name, self.log());
        }
    }
}

/// The server's binary: the one that `RINGHUB_TESTS_SERVER` names, or built once in the profile and the folder that
/// this test was built in.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("RINGHUB_TESTS_SERVER").map_or_else(build, PathBuf::from))
}

/// The folder cargo builds in: the nearest one above this executable that cargo has tagged.
pub(crate) fn target_dir() -> PathBuf {
    let exe = env::current_exe().expect("a running test has a path");
    let tagged = exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    // target/debug/deps/main-0123
    tagged.or_else(|| exe.ancestors().nth(3)).expect("cargo builds into folders").to_path_buf()
}

fn build() -> PathBuf {
    let exe = env::current_exe().expect("a running test has a path");
    let profile = exe.ancestors().nth(2).and_then(|folder| folder.file_name()).and_then(|name| name.to_str());
    let profile = match profile {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(cargo)
        .args(["build", "--package", "ringhub-engine", "--bin", "ringhub", "--message-format", "json"])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(target_dir())
        .arg("--manifest-path")
        .arg(manifest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the server does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "ringhub").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.expect("cargo names the executable it built")
}

fn for_each_line(pipe: impl Read, mut handle: impl FnMut(&str)) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        handle(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// Keeps the newest half when the log grows past its bound.
fn append(log: &Mutex<String>, line: &str) {
    const LOG_BYTES_MAX: usize = 8 << 20;
    let mut log = log.lock().expect("a reader panicked");
    if log.len() > LOG_BYTES_MAX {
        // Whole lines: a test may read each as a record.
        let half = log.len() / 2;
        let line = log.as_bytes()[half..].iter().position(|byte| *byte == b'\n');
        let cut = line.map_or(log.len(), |line| half + line + 1);
        log.drain(..cut);
    }
    log.push_str(line);
    log.push('\n');
}
