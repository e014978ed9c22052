//! One server on free ports, and the places to connect to.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Process, ringhub, target_dir};
use crate::{Certificate, Client, Connection, KEY, RawSocket, Request, Response, TlsClient, wait_until};

/// A running `ringhub serve`. Dereferences to the [`Endpoint`] of its service listener.
#[derive(Debug)]
pub struct Server {
    endpoints: Vec<Endpoint>,
    admin: Endpoint,
    process: Process,
    config: Option<PathBuf>,
}

/// How a server is to be started.
#[derive(Debug)]
pub struct Setup {
    cores: usize,
    key: String,
    secondary_key: Option<String>,
    config: Option<String>,
    keys_in_config: bool,
    listen: Option<String>,
    tls: bool,
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
    is_log_read: bool,
    control_group: Option<PathBuf>,
}

/// An address and the key to sign with.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where to connect.
    pub addr: SocketAddr,
    /// The access key.
    pub key: String,
    /// How to speak TLS there, if it is spoken there.
    pub tls: Option<TlsClient>,
}

impl Server {
    /// One core, [`KEY`], no configuration file.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(|setup| setup)
    }

    /// That many cores.
    #[track_caller]
    pub fn on_cores(cores: usize) -> Self {
        Self::with(|setup| setup.cores(cores))
    }

    /// As the closure says.
    #[track_caller]
    pub fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let setup = change(Setup {
            cores: 1,
            key: KEY.to_owned(),
            secondary_key: None,
            config: None,
            keys_in_config: false,
            listen: None,
            tls: std::env::var_os("RINGHUB_TESTS_TLS").is_some(),
            environment: Vec::new(),
            open_files: None,
            is_log_read: true,
            control_group: None,
        });
        let scheme = if setup.tls { "https://" } else { "" };
        let listen = setup.listen.unwrap_or_else(|| format!("{scheme}127.0.0.1:0"));
        let mut command = ringhub(["serve", "--listen", &listen, "--admin-listen", "127.0.0.1:0", "--cores"]);
        let mut tls_client = None;
        if listen.contains("https://") {
            let certificate = Certificate::shared();
            command.env("RINGHUB_TLS_CERTIFICATE", &certificate.certificate);
            command.env("RINGHUB_TLS_PRIVATE_KEY", &certificate.private_key);
            tls_client = Some(certificate.client());
        }
        // A client that a test has stall is to live for as long as the test wants, on however slow a machine.
        command.env("RINGHUB_WRITE_DEADLINE_SECONDS", "3600");
        // Nor do tests answer pings of clients that they do not read from; a test that is about pings says so itself.
        command.env("RINGHUB_MISSED_PINGS_MAX", "100");
        // A test that is over waits for nobody, unless it is about that.
        if setup.config.as_deref().is_none_or(|toml| !toml.contains("drain_seconds")) {
            command.env("RINGHUB_DRAIN_SECONDS", "0");
        }
        for (name, value) in &setup.environment {
            command.env(name, value);
        }
        command.arg(setup.cores.to_string());
        if !setup.keys_in_config {
            command.env("RINGHUB_PRIMARY_KEY", &setup.key);
        }
        if let Some(key) = &setup.secondary_key {
            command.env("RINGHUB_SECONDARY_KEY", key);
        }
        let config = setup.config.as_deref().map(write_config);
        if let Some(path) = &config {
            command.arg("--config").arg(path);
        }
        if let Some(limit) = setup.open_files {
            let limit = format!("ulimit -n {limit}");
            command = within(&command, &limit);
        }
        if let Some(group) = &setup.control_group {
            command = within(&command, &format!("echo $$ > '{}/cgroup.procs'", group.display()));
        }
        let spawn = if setup.is_log_read { Process::spawn } else { Process::spawn_unread };
        let mut process = spawn(&mut command);
        let endpoint = |line: String| {
            let (scheme, addr) = line.split_once("://").unwrap_or_else(|| panic!("a URL: {line:?}"));
            Endpoint {
                addr: addr.parse().unwrap_or_else(|_| panic!("an address: {line:?}")),
                key: setup.key.clone(),
                tls: tls_client.clone().filter(|_| scheme == "https"),
            }
        };
        let endpoints = listen.split(',').map(|_| endpoint(process.expect_line("listening on "))).collect();
        let admin = endpoint(process.expect_line("admin on "));
        Self { endpoints, admin, process, config }
    }

    /// Every service listener, in the order of `listen`.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The admin listener.
    pub fn admin(&self) -> &Endpoint {
        &self.admin
    }

    /// The configuration file given to [`Setup::config`].
    #[track_caller]
    pub fn config(&self) -> &Path {
        self.config.as_deref().expect("the server was given a configuration")
    }

    /// Asks for a reload and waits for the log line that ends it; returns the log since.
    #[track_caller]
    pub fn reload(&self) -> String {
        let before = self.process.log().len();
        self.process.signal("HUP");
        self.reloaded_since(before)
    }

    /// The log from that length on, once there is the end of a reload in it.
    #[track_caller]
    pub fn reloaded_since(&self, before: usize) -> String {
        let mut since = String::new();
        wait_until("the configuration is reloaded, or not", || {
            since = self.process.log().split_off(before);
            since.contains("the configuration was reloaded")
                || since.contains("the configuration was not reloaded")
        });
        since
    }

    /// How much the server has logged.
    pub fn log_len(&self) -> usize {
        self.process.log().len()
    }

    /// The process, for signals and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A metric summed over cores, hubs and whatever else it is told by; 0 if there is no sample of it yet.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        self.metric_of(name, &[])
    }

    /// The same of the samples with these labels, each as `name="value"`.
    #[track_caller]
    pub fn metric_of(&self, name: &str, labels: &[&str]) -> u64 {
        sum_of(self.admin.http("GET", "/metrics").expect(200).text(), name, labels)
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.stop()
    }
}

/// A metric of a page, as [`Server::metric_of`] reads it.
///
/// # Panics
/// The page does not know the metric, or one of its samples is no whole number.
#[track_caller]
pub fn sum_of(page: &str, name: &str, labels: &[&str]) -> u64 {
    let family = name.strip_suffix("_total").unwrap_or(name);
    assert!(page.contains(&format!("# TYPE {family} ")), "{name} is no metric:\n{page}");
    let samples = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let wanted = samples.filter(|line| labels.iter().all(|label| line.contains(label)));
    let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    wanted.map(|line| value(line).unwrap_or_else(|| panic!("a whole number: {line}"))).sum()
}

/// The same command in a shell that has done something first.
fn within(command: &Command, first: &str) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("{first} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

impl Deref for Server {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoints[0]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(path) = &self.config {
            let _ = fs::remove_file(path);
        }
    }
}

impl Setup {
    /// How many cores.
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = cores;
        self
    }

    /// The primary key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = key.to_owned();
        self
    }

    /// The hard limit on open files.
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Nobody reads what it logs.
    pub fn log_unread(mut self) -> Self {
        self.is_log_read = false;
        self
    }

    /// The control group to run in: its folder, which must be there.
    pub fn control_group(mut self, folder: PathBuf) -> Self {
        self.control_group = Some(folder);
        self
    }

    /// The secondary key.
    pub fn secondary_key(mut self, key: &str) -> Self {
        self.secondary_key = Some(key.to_owned());
        self
    }

    /// The configuration file's text (`design` §2).
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// The keys stand in the configuration file, and nowhere else.
    pub fn keys_in_config(mut self) -> Self {
        self.keys_in_config = true;
        self
    }

    /// The service listeners' addresses, separated by commas, `127.0.0.1:0` by default. Those with `https://` use
    /// [`Certificate::shared`].
    pub fn listen(mut self, addrs: &str) -> Self {
        self.listen = Some(addrs.to_owned());
        self
    }

    /// Over TLS.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// One more variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Endpoint {
    /// Connects a client that must be let in; a PubSub client's `connected` is read and checked.
    #[track_caller]
    pub fn connect(&self, client: Client) -> Connection {
        let mut connection = self.open(client.clone());
        if client.is_pubsub() {
            connection.expect_connected();
        }
        connection
    }

    /// Connects a client that must be let in, and reads nothing yet.
    #[track_caller]
    pub fn open(&self, client: Client) -> Connection {
        match Connection::open(self, &client, self.raw()) {
            Ok(connection) => connection,
            Err(response) => panic!("{client:?} was refused: {response:?}"),
        }
    }

    /// Connects a client with a receive buffer of a few KiB, which soon feels that nobody reads.
    #[track_caller]
    pub fn connect_narrow(&self, client: Client) -> Connection {
        match self.try_connect_narrow(client.clone()) {
            Ok(connection) => connection,
            Err(response) => panic!("{client:?} was refused: {response:?}"),
        }
    }

    /// The same for a client that may be refused.
    ///
    /// # Errors
    /// What it was refused with.
    pub fn try_connect_narrow(&self, client: Client) -> Result<Connection, Response> {
        let mut connection = Connection::open(self, &client, self.raw_narrow())?;
        if client.is_pubsub() {
            connection.expect_connected();
        }
        Ok(connection)
    }

    /// Expects that a client is refused before the upgrade, with that status.
    #[track_caller]
    pub fn refuse(&self, client: Client, status: u16) -> Response {
        match Connection::open(self, &client, self.raw()) {
            Ok(_) => panic!("{client:?} was let in"),
            Err(response) => {
                assert_eq!(response.status, status, "{client:?}: {response:?}");
                response
            }
        }
    }

    /// A signed REST call with `api-version`.
    pub fn rest(&self, method: &str, path: &str) -> Request {
        Request::rest(self.clone(), method, path)
    }

    /// An HTTP request with nothing added.
    pub fn http(&self, method: &str, path: &str) -> Request {
        Request::plain(self.clone(), method, path)
    }

    /// A bare socket; over TLS what is written and read is inside of it.
    #[track_caller]
    pub fn raw(&self) -> RawSocket {
        RawSocket::with(self.addr, self.tls.as_ref(), None)
    }

    /// A bare socket on which a client has just been let in.
    #[track_caller]
    pub fn upgraded(&self, client: Client) -> RawSocket {
        let mut socket = self.raw();
        socket.write(client.request(self));
        assert_eq!(socket.read_response().status, 101);
        socket
    }

    /// A place where no TLS is spoken.
    pub fn plain(addr: SocketAddr, key: &str) -> Self {
        Self { addr, key: key.to_owned(), tls: None }
    }

    /// Has so much sent that every receive buffer of a core has been used: what they take once is not part of what a
    /// test measures.
    #[track_caller]
    pub fn use_receive_buffers(&self) {
        let mut client = self.open(Client::raw().role("webpubsub.sendToGroup").sends_to("nobody"));
        (0..6_000).for_each(|_| client.send(&"x".repeat(1_000)));
        client.expect_silence();
    }

    /// A bare socket with a receive buffer of a few KiB.
    #[track_caller]
    pub fn raw_narrow(&self) -> RawSocket {
        RawSocket::with(self.addr, self.tls.as_ref(), Some(4096))
    }

    /// The same place with another way to speak TLS.
    pub fn with_tls(&self, tls: TlsClient) -> Self {
        Self { tls: Some(tls), ..self.clone() }
    }

    /// Scheme and authority of HTTP.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.addr)
    }

    pub(crate) fn websocket_scheme(&self) -> &'static str {
        if self.tls.is_some() { "wss" } else { "ws" }
    }

    /// The connection string that the service SDKs take.
    pub fn connection_string(&self) -> String {
        format!("Endpoint={};AccessKey={};Version=1.0;", self.url(), self.key)
    }
}

/// Writes a configuration file into the build folder; what [`Setup::config`] does by itself.
pub fn write_config(toml: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = target_dir().join("harness");
    fs::create_dir_all(&folder).expect("the build folder can be written");
    let name = format!("{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(name);
    fs::write(&path, toml).expect("the build folder can be written");
    path
}
