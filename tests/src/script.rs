//! The released SDKs: packages installed into the build folder once, scenarios run as child processes.
//!
//! A scenario is one script in `tests/sdk/js` or `tests/sdk/python`. It fails by a non-zero exit and says
//! why on standard error. What it cannot do itself (cut the proxy, restart the server) it asks for with a
//! line `{"ask":"cut"}` on standard output and goes on when a line comes back on standard input.
//!
//! A missing interpreter or an install that fails makes the test fail: skipping would say that the SDKs
//! work when nobody looked.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::target_dir;
use crate::{Certificate, Endpoint, json_object};

/// One scenario, ready to run.
#[derive(Debug)]
pub struct Script {
    command: Command,
    name: String,
}

/// Longest run of a scenario. The SDKs' own retries (3 at one second, recovery for 30 s) fit in.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(120);

impl Script {
    /// A script of `tests/sdk/js`.
    #[track_caller]
    pub fn node(file: &str) -> Self {
        let folder = javascript();
        let mut command = Command::new("node");
        command.arg(folder.join(file)).current_dir(folder);
        Self { command, name: format!("js/{file}") }
    }

    /// A script of `tests/sdk/python`.
    #[track_caller]
    pub fn python(file: &str) -> Self {
        let mut command = Command::new(python());
        command.arg(sources("python").join(file)).env("PYTHONDONTWRITEBYTECODE", "1");
        Self { command, name: format!("python/{file}") }
    }

    /// Tells it where the server is (or the proxy before it), for clients and for the service SDK, and over TLS
    /// whom to trust.
    pub fn endpoint(self, endpoint: &Endpoint) -> Self {
        let script =
            self.env("ENDPOINT", &endpoint.url()).env("CONNECTION_STRING", &endpoint.connection_string());
        if endpoint.tls.is_some() { script.trusting(Certificate::shared()) } else { script }
    }

    /// Has it trust a certificate that is no public one, by the variables that users set too: those of Node,
    /// Python's `requests`, OpenSSL under `aiohttp`, and `websocket-client`.
    fn trusting(mut self, certificate: &Certificate) -> Self {
        for name in
            ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "WEBSOCKET_CLIENT_CA_BUNDLE"]
        {
            self.command.env(name, &certificate.authority);
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end; asks are a failure.
    #[track_caller]
    pub fn run(self) {
        self.run_with(|ask| panic!("nobody answers {ask:?}"));
    }

    /// Runs it to its end; `answer` does what it asks for.
    #[track_caller]
    pub fn run_with(mut self, mut answer: impl FnMut(&str)) {
        let name = self.name;
        let child = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        let out = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let err = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });

        let deadline = Instant::now() + SCRIPT_DEADLINE;
        let mut said = Vec::new();
        let in_time = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if line.starts_with(r#"{"ask":"#) {
                        let ask = json_object(&line)["ask"].as_str().expect("an ask is a text").to_owned();
                        answer(&ask);
                        let _ = stdin.write_all(b"done\n");
                    }
                    said.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        if !in_time {
            let _ = child.kill();
        }
        let status = child.wait().expect("a child can be waited for");
        let _ = out.join();
        let complaint = err.join().unwrap_or_default();
        let said = said.join("\n");
        assert!(in_time, "{name} did not end within {SCRIPT_DEADLINE:?}\n{said}\n{complaint}");
        assert!(status.success(), "{name}: {status}\n{said}\n{complaint}");
    }
}

/// The folder with `node_modules` and a copy of the scripts.
fn javascript() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| npm_package(&sources("js"), "sdk/js"))
}

/// A copy of the npm package `sources` in the build folder, under `name`, with what it depends on installed beside
/// it: modules are looked up from where a script lies.
pub fn npm_package(sources: &Path, name: &str) -> PathBuf {
    let folder = target_dir().join(name);
    install(&folder, &sources.join("package-lock.json"), || {
        for file in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(sources.join(file), folder.join(file)).expect("the build folder can be written");
        }
        run("npm", Command::new("npm").args(["ci", "--no-progress"]).current_dir(&folder));
    });
    copy(sources, &folder);
    folder
}

/// Copies what is in a folder, but for what a person who works there has made.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the build folder can be written");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().expect("a file has a name");
        if name == "node_modules" || name == "dist" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
            continue;
        }
        // Renamed into place: another test process may be starting one just now.
        let fresh = to.join(format!("{}.{}", name.to_string_lossy(), std::process::id()));
        fs::copy(&path, &fresh).expect("the build folder can be written");
        fs::rename(&fresh, to.join(name)).expect("the build folder can be written");
    }
}

/// The interpreter of the virtual environment.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let (requirements, folder) =
            (sources("python").join("requirements.txt"), target_dir().join("sdk/python"));
        let python = folder.join("venv/bin/python");
        install(&folder, &requirements, || {
            run(
                "python3 -m venv",
                Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder.join("venv")),
            );
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
            run("pip install", Command::new(&python).args(install).arg(&requirements));
        });
        python
    })
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(language)
}

/// Runs `steps` unless they ran for this very lock file already. Processes wait for each other.
fn install(folder: &Path, lock_file: &Path, steps: impl FnOnce()) {
    fs::create_dir_all(folder).expect("the build folder can be written");
    let guard = File::create(folder.join("install.lock")).expect("the build folder can be written");
    guard.lock().expect("a file lock");
    let mut hasher = DefaultHasher::new();
    fs::read(lock_file).unwrap_or_else(|error| panic!("{}: {error}", lock_file.display())).hash(&mut hasher);
    // A moved checkout breaks the interpreter's absolute paths, so the folder counts too.
    folder.hash(&mut hasher);
    let wanted = format!("{:016x}", hasher.finish());
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return;
    }
    steps();
    fs::write(&stamp, wanted).expect("the build folder can be written");
}

fn run(name: &str, command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("the SDK tests need {name}: {error}"));
    assert!(
        output.status.success(),
        "{name} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
