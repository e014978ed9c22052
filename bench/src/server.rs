//! The server under test: one that runs already, or one that we start, pin and end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use crate::cli::ServerArgs;
use crate::error::Error;
use crate::measure::Processes;
use crate::sys;

/// Access key of a server we start ourselves; it lives on loopback for the length of a run.
const OWN_KEY: &str = "ringhub-bench-key-0123456789abcdefghijklmnop";

/// How long a server may take to say where it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Which face of the server a workload talks to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `serve`: the product.
    Serve,
    /// `echo`: the conformance listener.
    Echo,
}

/// A server that answers, and all we may know of it.
pub(crate) struct Server {
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    /// Its admin listener, if we started it.
    pub(crate) admin: Option<SocketAddr>,
    /// What clients call it, `name:port`; part of the token's audience.
    pub(crate) host: String,
    /// Path of the URL given, `/` if none: where servers without hubs are met.
    pub(crate) path: String,
    /// Access key for tokens; empty where none is needed.
    pub(crate) key: String,
    /// What to measure; `None` without `--pid`.
    pub(crate) processes: Option<Processes>,
    /// Where the server runs, so that the floor can run there too.
    pub(crate) cpus: Vec<usize>,
    /// Where this generator runs.
    pub(crate) own_cpu: usize,
    child: Option<Child>,
    /// For as long as the server lives: it looks at it again when it changes.
    _config: Option<ConfigFile>,
}

impl Server {
    /// Pins this process, then starts or finds the server.
    ///
    /// # Errors
    /// Contradicting options, no server there, or a started server that does not come up.
    pub(crate) fn start(args: &ServerArgs, verb: Verb) -> Result<Self, Error> {
        Self::configured(args, verb, "")
    }

    /// The same with a configuration file for a server that is started; its text may be empty.
    pub(crate) fn configured(args: &ServerArgs, verb: Verb, config: &str) -> Result<Self, Error> {
        sys::raise_open_files().map_err(Error::io("raise the limit of open files"))?;
        let (cpus, own_cpu) = cpus(args)?;
        let pin = |cpus: &[usize]| sys::pin_to(cpus).map_err(Error::io(format!("pin to CPU {cpus:?}")));
        let server = match (&args.url, &args.server_bin) {
            (Some(url), None) => {
                let (host, path) = split_url(url)?;
                let processes = if args.pid.is_empty() { None } else { Some(Processes::new(&args.pid)?) };
                let key = args.key.clone().unwrap_or_default();
                let address = resolve(&host)?;
                Self {
                    address,
                    admin: None,
                    host,
                    path,
                    key,
                    processes,
                    cpus,
                    own_cpu,
                    child: None,
                    _config: None,
                }
            }
            (None, Some(binary)) => {
                // The child inherits the affinity; ours is set right afterwards.
                pin(&cpus)?;
                let key = args.key.clone().unwrap_or_else(|| OWN_KEY.to_owned());
                let config = if config.is_empty() { None } else { Some(ConfigFile::write(config)?) };
                let (child, host, admin) = spawn(binary, verb, args.cores, &key, config.as_ref())?;
                let processes = Some(Processes::new(&[child.id()])?);
                let address = resolve(&host)?;
                let admin = admin.as_deref().map(resolve).transpose()?;
                let path = "/".to_owned();
                Self {
                    address,
                    admin,
                    host,
                    path,
                    key,
                    processes,
                    cpus,
                    own_cpu,
                    child: Some(child),
                    _config: config,
                }
            }
            _ => return Err(Error::Usage("name the server: --url of a running one, or --server-bin".into())),
        };
        pin(&[own_cpu])?;
        Ok(server)
    }

    /// Unpins this process if the server has its CPU too: one server core would be slowed and the others not,
    /// and the slowest core decides what load is carried.
    pub(crate) fn share_cpus(&self) -> Result<(), Error> {
        match self.cpus.contains(&self.own_cpu) {
            true => sys::pin_to(allowed_at_start()?).map_err(Error::io("unpin")),
            false => Ok(()),
        }
    }

    /// Refuses more connections than this process may open, with the way out.
    pub(crate) fn check_room_for(connections: usize) -> Result<(), Error> {
        let limit = sys::raise_open_files().map_err(Error::io("raise the limit of open files"))?;
        if connections as u64 + 64 > limit {
            return Err(Error::Usage(format!(
                "{connections} connections need more than the {limit} files a process may open here: \
                 raise the hard limit (ulimit -Hn) or ask for fewer"
            )));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself; then there is nothing to do but reap it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where the server runs, and where the generator does.
fn cpus(args: &ServerArgs) -> Result<(Vec<usize>, usize), Error> {
    let allowed = allowed_at_start()?;
    let own_cpu = args.cpu.unwrap_or_else(|| *allowed.last().expect("a thread runs on some CPU"));
    let cpus = match &args.server_cpus[..] {
        [] => allowed.iter().copied().take(args.cores).collect(),
        given => given.to_vec(),
    };
    Ok((cpus, own_cpu))
}

/// Where a child of ours may run beside the server: with the generator, or anywhere if the server has all CPUs.
pub(crate) fn cpus_beside(args: &ServerArgs) -> Result<Vec<usize>, Error> {
    let (cpus, own_cpu) = cpus(args)?;
    if cpus.contains(&own_cpu) { Ok(allowed_at_start()?.to_vec()) } else { Ok(vec![own_cpu]) }
}

/// A server's configuration in a file that nobody else has; dropped, it is gone.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn write(text: &str) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringhub-bench-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The CPUs this process was given, before it pinned itself for the first server it started.
fn allowed_at_start() -> Result<&'static [usize], Error> {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    match ALLOWED.get() {
        Some(allowed) => Ok(allowed),
        None => {
            let allowed = sys::allowed_cpus().map_err(Error::io("read the CPU affinity"))?;
            Ok(ALLOWED.get_or_init(|| allowed))
        }
    }
}

fn spawn(
    binary: &str,
    verb: Verb,
    cores: usize,
    key: &str,
    config: Option<&ConfigFile>,
) -> Result<(Child, String, Option<String>), Error> {
    let mut command = Command::new(binary);
    match verb {
        Verb::Serve => command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--cores", &cores.to_string()])
            .env("RINGHUB_PRIMARY_KEY", key),
        Verb::Echo => command.args(["echo", "--listen", "127.0.0.1:0"]),
    };
    if let Some(config) = config {
        command.arg("--config").arg(&config.0);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::io(format!("start {binary}")))?;
    let stdout = child.stdout.take().expect("piped above");
    let (found, finding) = mpsc::channel();
    // Reads to the end, or the server would block on a full pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(host) = listening_on(&line).or_else(|| admin_on(&line)) {
                let _ = found.send(host.to_owned());
            }
        }
    });
    // The admin listener's line comes right behind, if there is one.
    let listeners = finding.recv_timeout(START_PATIENCE).map(|host| match verb {
        Verb::Serve => (host, finding.recv_timeout(START_PATIENCE).ok()),
        Verb::Echo => (host, None),
    });
    match listeners {
        Ok((host, admin)) => Ok((child, host, admin)),
        Err(error) => {
            let _ = child.kill();
            let status = child.wait().map(|status| status.to_string()).unwrap_or_default();
            let why = match error {
                mpsc::RecvTimeoutError::Timeout => "did not say in 10 s where it listens".to_owned(),
                mpsc::RecvTimeoutError::Disconnected => format!("ended ({status})"),
            };
            Err(Error::Child(format!("{binary} {why}: no line `listening on http://ADDRESS`")))
        }
    }
}

/// The address in a line `listening on http://127.0.0.1:8080` or `echo on ws://127.0.0.1:8080`, whatever stands
/// around it.
fn listening_on(line: &str) -> Option<&str> {
    address_in(line.split_once("listening on ").or_else(|| line.split_once("echo on "))?.1)
}

/// The same of a line `admin on http://127.0.0.1:8081`.
fn admin_on(line: &str) -> Option<&str> {
    address_in(line.split_once("admin on ")?.1)
}

fn address_in(url: &str) -> Option<&str> {
    let address = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = address.find(|c: char| c.is_whitespace() || c == '/' || c == ',').unwrap_or(address.len());
    Some(&address[..end])
}

/// `ws://host:port/path` into `host:port` and `/path`.
fn split_url(url: &str) -> Result<(String, String), Error> {
    let rest = ["ws://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| Error::Usage(format!("{url}: the URL must start with ws://")))?;
    let (host, path) = match rest.find('/') {
        Some(slash) => (&rest[..slash], &rest[slash..]),
        None => (rest, "/"),
    };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_owned() } else { format!("{host}:80") };
    Ok((host, path.to_owned()))
}

fn resolve(host: &str) -> Result<SocketAddr, Error> {
    let mut addresses = host.to_socket_addrs().map_err(Error::io(format!("find {host}")))?;
    addresses.next().ok_or_else(|| Error::Usage(format!("{host} has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second server of a comparison ran on the generator's CPU, and looked a third cheaper.
    #[test]
    fn a_second_server_may_run_where_the_first_does() {
        let before = allowed_at_start().unwrap();
        sys::pin_to(&before[before.len() - 1..]).unwrap();
        assert_eq!(allowed_at_start().unwrap(), before);
    }

    #[test]
    fn start_lines_and_urls() {
        assert_eq!(listening_on("listening on http://127.0.0.1:4321"), Some("127.0.0.1:4321"));
        assert_eq!(listening_on("echo on ws://[::1]:9/ (2 cores)"), Some("[::1]:9"));
        assert_eq!(listening_on("admin on http://127.0.0.1:4321"), None);
        assert_eq!(admin_on("admin on http://127.0.0.1:4321"), Some("127.0.0.1:4321"));
        assert_eq!(split_url("ws://localhost:8080").unwrap(), ("localhost:8080".into(), "/".into()));
        assert_eq!(split_url("ws://[::1]:80/a?b").unwrap(), ("[::1]:80".into(), "/a?b".into()));
        assert_eq!(split_url("ws://host").unwrap().0, "host:80");
        assert!(split_url("wss://host").is_err());
    }
}
