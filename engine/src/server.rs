//! The verbs: configuration becomes settings, cores are started, signals end them.
//!
//! Standard output is for machines and people who start the server: addresses, and a generated key once.
//! Everything after that is a log line on standard error, and no log line has a key in it.

use crate::admin::Admin;
use crate::admission::{Doorkeeper, Rules};
use crate::auth::{Terms, TokenRequest, Verifier, client_token_with, generate_key};
use crate::certificates::{TlsConfigStore, make};
use crate::cli;
use crate::config::{Config, ConfigError, Hub, ProxyProtocol, Secret, Tls, reference};
use crate::core::counters::CoreShared;
use crate::core::settings::{HubSettings, Settings, SocketSettings};
use crate::core::{Control, Mode, Server, start};
use crate::drain::{self, Drain};
use crate::memory::{self, Bound, Memory};
use crate::net::http::{HttpConnection, Upgrades};
use crate::net::peer::{Proxies, Via};
use crate::net::{Address, HttpFactory, HttpHandler, Listener, Scheme};
use crate::probe::{files_max, probe};
use crate::process::ProcessCounts;
use crate::reload::{self, Commit, Reloader};
use crate::rest::RestApi;
use crate::signals::heed;
use crate::supervisor;
use crate::throttle::Throttle;
use crate::trace::{self, Log};
use crate::upstreams::{Built, Upstreams, public_host};
use ringhub_hub::{CoreId, CoreSet, Limits};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::rest::{ClientType, Filters, GenerateToken};
use ringhub_protocol::ws::DecoderLimits;
use ringhub_relay::exchange::Exchange;
use ringhub_relay::{Relay, Signer, StartError};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Why a verb fails: a line for standard error and an exit code.
pub(crate) struct Failure {
    message: String,
    code: u8,
}

/// Wrong usage: configuration or arguments.
const USAGE: u8 = 2;

impl Failure {
    fn usage(message: impl Display) -> Self {
        Self { message: message.to_string(), code: USAGE }
    }

    fn running(message: impl Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// Says it and ends.
    pub(crate) fn report(self) -> ExitCode {
        for line in self.message.lines() {
            // A part of it may be what a file has, or another program said.
            eprintln!("ringhub: {}", trace::harmless(line));
        }
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// `ringhub serve`: until a signal.
pub(crate) fn serve(arguments: &cli::Serve) -> Result<(), Failure> {
    let config = arguments.config()?;
    let process = Arc::new(ProcessCounts::default());
    let log = trace::start(&config.server.log, config.server.log_format, process.clone())
        .map_err(Failure::usage)?;
    let generated = config.keys.primary.is_none().then(generate_key);
    let key = primary_key(&config, generated.as_ref()).map_err(Failure::usage)?;
    let is_generated = generated.is_some();
    if is_generated && config.server.access_keys && !all_loopback(&config.server.listen) {
        return Err(Failure::usage(
            "listening beyond loopback needs a key of your own, since a generated one changes with every start\n\
             fix: set RINGHUB_PRIMARY_KEY, or primary in [keys], to at least 32 bytes; or listen on 127.0.0.1",
        ));
    }
    let upstreams = Arc::new(Upstreams::default());
    let built = upstreams.prepare(&config).map_err(Failure::usage)?;
    let settings = settings(&config, cores(&config), &built);
    upstreams.commit(built);
    let tls = tls(&config.tls, settings.listen.iter().chain(&settings.admin_listen))?;
    check_system(settings.cores)?;
    let on_loopback = all_loopback(&config.server.admin_listen);
    if !on_loopback {
        tracing::warn!("the admin listener has no authentication and is reachable from other machines");
    }
    let verifier = Arc::new(Verifier::new(&config, &key));
    if !config.server.access_keys && verifier.issuers().handles().next().is_none() {
        tracing::warn!("access keys are off and there is no OIDC issuer: nobody can make REST calls");
    }
    let door = Arc::new(Doorkeeper::new(verifier.clone(), Rules::new(&config), process.clone()));
    let drain = Arc::new(Drain::default());
    let cores = settings.cores;
    let shared: Vec<Arc<CoreShared>> = (0..cores).map(|_| Arc::default()).collect();
    let rest = Arc::new(RestApi {
        verifier: verifier.clone(),
        body_bytes_max: bytes(config.limits.rest_body_bytes_max).into(),
        filters: filters(&shared, bytes(config.limits.filters_max)),
        drain: drain.clone(),
        throttle: Throttle::new(cores, config.limits.rest_calls_per_second_max),
        process: process.clone(),
    });
    let admin = Arc::new(Admin {
        verifier: verifier.clone(),
        cores: shared.clone(),
        drain: drain.clone(),
        service: OnceLock::new(),
        on_loopback,
        rows_max: bytes(config.limits.admin_rows_max).into(),
        process: process.clone(),
        upstreams: upstreams.clone(),
        relay: OnceLock::new(),
        started: Instant::now(),
    });
    let http = Arc::new(Http {
        head_bytes_max: settings.sockets.head_bytes_max.into(),
        rest: rest.clone(),
        admin: admin.clone(),
    });
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(Failure::running)?;
    let exchange = Arc::new(Exchange::new(cores));
    let signer = Signer::new(&signing_keys(&config, &key));
    let relay = start_relay(&verifier, exchange.clone(), signer.clone())?;
    let _ = admin.relay.set(Box::new(relay.reporter()));
    let server = start(settings, Mode::Serve, door.clone(), http.clone(), tls.clone(), exchange, &shared)
        .map_err(Failure::running)?;
    let _ = admin.service.set(server.service[0].reachable());
    let banner = banner(&server, &config, &key);
    let memory = Arc::new(Memory::new(Bound::new(config.limits.memory_bytes_max), process.clone()));
    let arguments = arguments.clone();
    let file = arguments.file().map(Path::to_owned);
    let mut reloader = Reloader::new(move || arguments.config(), config, process.clone(), now_unix);
    let parts = Parts {
        log,
        generated,
        verifier,
        door,
        rest,
        http,
        signer,
        upstreams,
        memory: memory.clone(),
        cores,
        control: server.control(),
    };
    reloader.register(move |config| parts.prepare(config));
    reloader.register(move |config| prepare_tls(tls.as_ref(), config));
    let reload = reload::start(reloader, file).map_err(Failure::running)?;
    say(&banner);
    supervisor::tell(supervisor::State::Ready);
    heed(signals, drain.clone(), move || reload.ask()).map_err(Failure::running)?;
    let control = server.control();
    let mut watch = memory::Watch::new(memory, shared.clone(), Instant::now());
    while !drain.wait(watch.rest(Instant::now())) {
        if watch.look(Instant::now()) {
            control.wake();
        }
    }
    supervisor::tell(supervisor::State::Stopping);
    process.draining.set(1);
    drain.carry_out(&server, &shared, || {
        if watch.look(Instant::now()) {
            control.wake();
        }
    });
    let (began, allowed) = (Instant::now(), server.stop_deadline());
    server.stop();
    server.join();
    // The cores have said all; what they told event handlers last may still be on its way.
    relay.stop(allowed.saturating_sub(began.elapsed()).max(RELAY_GRACE_MIN));
    relay.join();
    Ok(())
}

/// `ringhub echo`: until a signal.
pub(crate) fn echo(arguments: &cli::Echo) -> Result<(), Failure> {
    let mut config = Config::default();
    config.tls.certificate.clone_from(&arguments.certificate);
    config.tls.private_key.clone_from(&arguments.key);
    let listen = Address::parse(&arguments.listen).ok_or_else(|| {
        Failure::usage(
            "--listen: must be an address and port such as 127.0.0.1:9001 or https://127.0.0.1:9001",
        )
    })?;
    trace::start(&config.server.log, config.server.log_format, Arc::default()).map_err(Failure::usage)?;
    let tls = tls(&config.tls, [&listen])?;
    check_system(1)?;
    let verifier = Arc::new(Verifier::new(&config, &generate_key()));
    let settings = Settings {
        listen: vec![listen],
        admin_listen: Vec::new(),
        sockets: SocketSettings {
            // The conformance suite's largest message, and its most fragments.
            decoder: DecoderLimits { message_bytes_max: 16 << 20, fragments_max: 1 << 20 },
            outbox_bytes_max: 64 << 20,
            ..SocketSettings::default()
        },
        ..settings(&config, 1, &Built::default())
    };
    let rest = Arc::new(RestApi {
        verifier: verifier.clone(),
        body_bytes_max: (1 << 20).into(),
        filters: filters(&[Arc::default()], 0),
        drain: Arc::default(),
        throttle: Throttle::new(1, 0),
        process: Arc::default(),
    });
    let admin = Arc::new(Admin {
        verifier: verifier.clone(),
        cores: Vec::new(),
        drain: Arc::default(),
        service: OnceLock::new(),
        on_loopback: false,
        rows_max: 0.into(),
        process: Arc::default(),
        upstreams: Arc::default(),
        relay: OnceLock::new(),
        started: Instant::now(),
    });
    let http = Arc::new(Http { head_bytes_max: settings.sockets.head_bytes_max.into(), rest, admin });
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::running)?;
    let server =
        start(settings, Mode::Echo, verifier, http, tls, Arc::new(Exchange::new(1)), &[Arc::default()])
            .map_err(Failure::running)?;
    let Address { scheme, socket } = server.service[0];
    say(&format!("echo on {}://{socket}\n", scheme.websocket()));
    let drain = Arc::new(Drain::default());
    heed(signals, drain.clone(), || {}).map_err(Failure::running)?;
    // Now and then, for a server that watches its threads (`.ci/sanitize thread`) hears of signals only then.
    while !drain.wait(Duration::from_secs(1)) {}
    server.stop();
    server.join();
    Ok(())
}

/// `ringhub drain`.
pub(crate) fn drain(arguments: &cli::Drain) -> Result<(), Failure> {
    let config = arguments.file.config()?;
    let admin = match &arguments.admin {
        Some(text) => Address::parse(text)
            .ok_or_else(|| Failure::usage("--admin: must be an address and port such as 127.0.0.1:8081"))?,
        None => config.server.admin_listen[0].reachable(),
    };
    drain::ask::drain(&admin, |line| say(&format!("{line}\n"))).map_err(Failure::running)
}

/// `ringhub check`.
pub(crate) fn check(arguments: &cli::Check) -> Result<(), Failure> {
    if arguments.reference {
        say(&reference::page());
        return Ok(());
    }
    let config = arguments.file.config()?;
    trace::check(&config.server.log).map_err(Failure::usage)?;
    say(&config.to_text());
    Ok(())
}

/// `ringhub token`.
pub(crate) fn token(arguments: &cli::Token) -> Result<(), Failure> {
    let config = arguments.file.config()?;
    let key = match &arguments.key {
        Some(key) => Secret::parse(key).map_err(|problem| Failure::usage(format!("--key: {problem}")))?,
        None => config.keys.primary.clone().ok_or_else(|| {
            Failure::usage(
                "there is no key to sign with\n\
                 fix: give the server's AccessKey with --key or RINGHUB_PRIMARY_KEY; `ringhub serve` prints a \
                 generated one at start",
            )
        })?,
    };
    let flag = |name: &str, invalid: ringhub_protocol::name::InvalidName| {
        Failure::usage(format!("{name}: {}", invalid.rule))
    };
    let hub = HubName::parse(&arguments.hub).map_err(|invalid| flag("--hub", invalid))?;
    let user = arguments.user.as_deref().map(UserId::parse).transpose();
    let groups: Result<Vec<_>, _> = arguments.groups.iter().cloned().map(GroupName::parse).collect();
    let claims = GenerateToken {
        user: user.map_err(|invalid| flag("--user", invalid))?,
        roles: arguments.roles.iter().map(|role| role.as_str().into()).collect(),
        groups: groups.map_err(|invalid| flag("--group", invalid))?.into(),
        minutes_to_expire: arguments.minutes,
        client_type: ClientType::Default,
    };
    let endpoint = match (&arguments.endpoint, config.server.public_endpoints.first()) {
        (Some(endpoint), _) => endpoint.trim_end_matches('/').to_owned(),
        (None, Some(endpoint)) => endpoint.as_str().to_owned(),
        (None, None) => config.server.listen[0].reachable().to_string(),
    };
    let address = endpoint
        .strip_prefix("http")
        .ok_or_else(|| Failure::usage("--endpoint: must be a URL that starts with http:// or https://"))?;
    let request = TokenRequest { hub: &hub, endpoint: &endpoint, claims: &claims };
    let token = client_token_with(&config, &key, now_unix(), &request);
    say(&format!("ws{address}{}?access_token={token}\n", ClientType::Default.path(&hub)));
    Ok(())
}

/// Each core's cache of compiled filters.
fn filters(cores: &[Arc<CoreShared>], kept_max: usize) -> Box<[(Mutex<Filters>, Arc<CoreShared>)]> {
    cores.iter().map(|core| (Mutex::new(Filters::new(kept_max)), core.clone())).collect()
}

/// How long a stop waits at least for what event handlers are told last, if clients took all its time.
const RELAY_GRACE_MIN: Duration = Duration::from_secs(1);

fn start_relay(verifier: &Verifier, exchange: Arc<Exchange>, signer: Arc<Signer>) -> Result<Relay, Failure> {
    let issuers = verifier.issuers().handles().cloned().collect();
    Relay::start(ringhub_relay::Settings { issuers, exchange, signer }).map_err(|error| match error {
        StartError::CaFile { .. } => Failure::usage(format!("oidc.issuers: ca_file: {error}")),
        error => Failure::running(error),
    })
}

/// The keys that events are signed with, the primary first.
fn signing_keys<'a>(config: &'a Config, primary: &'a Secret) -> Vec<&'a str> {
    [Some(primary), config.keys.secondary.as_ref()].into_iter().flatten().map(Secret::expose).collect()
}

/// `ringhub cert`.
pub(crate) fn cert(arguments: &cli::Cert) -> Result<(), Failure> {
    let made = make::make(&arguments.out, &arguments.names, arguments.days).map_err(Failure::running)?;
    say(&made.instructions());
    Ok(())
}

/// What TLS listeners need: there, or the start fails. None if there is no such listener; files that are named are
/// to be right all the same.
fn tls<'a>(
    tls: &Tls,
    addresses: impl IntoIterator<Item = &'a Address, IntoIter: Iterator>,
) -> Result<Option<Arc<TlsConfigStore>>, Failure> {
    let speaks_tls = addresses.into_iter().find(|address| address.scheme == Scheme::Tls);
    match (TlsConfigStore::configured(tls).map_err(Failure::usage)?, speaks_tls) {
        (Some((store, warning)), Some(_)) => {
            if let Some(warning) = warning {
                tracing::warn!("{warning}");
            }
            Ok(Some(Arc::new(store)))
        }
        (_, None) => Ok(None),
        (None, Some(address)) => Err(Failure::usage(format!(
            "listening on {address} needs a certificate\n\
             fix: set tls.certificate and tls.private_key (for `ringhub echo`: --certificate and --key); for \
             development, `ringhub cert` makes both"
        ))),
    }
}

/// What the cores need, from the configuration.
fn settings(config: &Config, cores: u16, upstreams: &Built) -> Settings {
    let limits = &config.limits;
    // A share each: which core a client lands on is the kernel's choice, and evenly spread.
    let connections_max = bytes(limits.connections_max.div_ceil(u64::from(cores)));
    let hub_settings = |name: Option<&HubName>, hub: &Hub| HubSettings {
        limits: Limits {
            recovery_window_ms: hub.reliable.recovery_window_seconds * 1000,
            recovery_grace_ms: hub.reliable.recovery_grace_seconds * 1000,
            replay_messages_max: small(hub.reliable.buffer_messages),
            replay_bytes_max: bytes(hub.reliable.buffer_bytes),
            groups_per_connection_max: bytes(limits.groups_per_connection_max),
            ack_ids_max: small(limits.ack_ids_max),
            lifetime_ms: hub.connection_lifetime_seconds * 1000,
            connections_max,
            control_bytes_max: bytes(limits.control_bytes_max),
            permission_literals_max: bytes(limits.permission_literals_max),
            permission_patterns_max: bytes(limits.permission_patterns_max),
            events_waiting_max: bytes(hub.events_queued_max),
            events_waiting_bytes_max: bytes(limits.message_bytes_max),
            deflate_bytes_min: bytes(hub.compression_bytes_min),
            ..Limits::default()
        },
        keepalive: Duration::from_secs(hub.websocket_keepalive_seconds),
        routes: name.and_then(|name| upstreams.routes(name)),
        compression: hub.compression,
    };
    let default = Settings::default();
    Settings {
        listen: config.server.listen.clone(),
        admin_listen: config.server.admin_listen.clone(),
        proxies: Proxies {
            trusted: config.server.trusted_proxies.clone(),
            header: config.server.proxy_protocol == ProxyProtocol::V2,
        },
        origin: public_host(config),
        cores,
        sockets: SocketSettings {
            sockets_max: connections_max,
            head_bytes_max: bytes(limits.request_head_bytes_max),
            head_deadline: Duration::from_secs(limits.head_deadline_seconds),
            body_grace: Duration::from_secs(limits.body_grace_seconds),
            body_bytes_per_second_min: limits.body_bytes_per_second_min,
            http_idle: Duration::from_secs(limits.http_idle_seconds),
            decoder: DecoderLimits {
                message_bytes_max: bytes(limits.message_bytes_max),
                fragments_max: small(limits.message_fragments_max),
            },
            outbox_bytes_max: bytes(limits.outbox_bytes_max),
            pings_missed_max: limits.missed_pings_max as u8,
            close_deadline: Duration::from_secs(limits.close_deadline_seconds),
            write_deadline: Duration::from_secs(limits.write_deadline_seconds),
            ..default.sockets
        },
        hubs: config.hubs().map(|(name, hub)| (name.clone(), hub_settings(Some(name), hub))).collect(),
        hub_default: hub_settings(None, &Hub::default()),
        hubs_max: bytes(limits.hubs_max),
        drain: Duration::from_secs(config.server.drain_seconds),
        stop_deadline: Duration::from_secs(limits.stop_deadline_seconds),
        closed_max: bytes(limits.admin_rows_max),
        files_max: files_max(),
        ..default
    }
}

/// A bound as a size; keys are bounded far below what 64 bits hold.
pub(crate) fn bytes(bound: u64) -> usize {
    usize::try_from(bound).unwrap_or(usize::MAX)
}

/// A bound as a small number.
pub(crate) fn small(bound: u64) -> u32 {
    u32::try_from(bound).unwrap_or(u32::MAX)
}

/// Configured, or one for every CPU this process may use.
fn cores(config: &Config) -> u16 {
    let cpus = || std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    config.server.cores.unwrap_or_else(cpus).min(u64::from(CoreSet::CORES_MAX)) as u16
}

fn check_system(cores: u16) -> Result<(), Failure> {
    match probe(cores) {
        Ok(warnings) => {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            Ok(())
        }
        Err(lacks) => {
            let lines: Vec<String> = lacks.iter().map(ToString::to_string).collect();
            Err(Failure::running(lines.join("\n")))
        }
    }
}

fn all_loopback(addresses: &[Address]) -> bool {
    addresses.iter().all(|address| address.socket.ip().is_loopback())
}

/// What a start prints, the addresses last: who reads them has seen the rest. A configured key is not
/// repeated: whoever set it has it.
fn banner(server: &Server, config: &Config, key: &Secret) -> String {
    let (shown, note) = match &config.keys.primary {
        _ if !config.server.access_keys => ("<switched off>", ""),
        Some(_) => ("<configured>", ""),
        None => (key.expose(), " (a new key each start; set RINGHUB_PRIMARY_KEY to keep one)"),
    };
    let address = server.service[0].reachable();
    let (websocket, authority) = (address.scheme.websocket(), address.socket);
    let mut text = format!(
        "ringhub {}\n\
         connection string{note}:\n  Endpoint={address};AccessKey={shown};Version=1.0;\n\
         client URL (ringhub token prints one with a token):\n  {websocket}://{authority}/client/hubs/{{hub}}?access_token={{token}}\n",
        env!("CARGO_PKG_VERSION"),
    );
    for address in &server.service {
        text.push_str(&format!("listening on {address}\n"));
    }
    for address in &server.admin {
        text.push_str(&format!("admin on {address}\n"));
    }
    text
}

/// Prints. A closed standard output is nobody's fault and ends nothing.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

pub(crate) fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The access key to sign with: the configured one, or the one made at start if none was configured then.
fn primary_key(config: &Config, generated: Option<&Secret>) -> Result<Secret, String> {
    match (&config.keys.primary, &config.keys.secondary) {
        (Some(key), _) => Ok(key.clone()),
        (None, Some(_)) => {
            Err("keys.secondary is set, keys.primary is not; set both, or the primary one only".into())
        }
        (None, None) => generated.cloned().ok_or_else(|| {
            "keys.primary is not set any more, and only a start makes up a key\n  fix: Set it, or restart.".into()
        }),
    }
}

/// What goes by the configuration while the server runs.
struct Parts {
    log: Log,
    generated: Option<Secret>,
    verifier: Arc<Verifier>,
    door: Arc<Doorkeeper>,
    rest: Arc<RestApi>,
    http: Arc<Http>,
    signer: Arc<Signer>,
    upstreams: Arc<Upstreams>,
    memory: Arc<Memory>,
    cores: u16,
    control: Control,
}

impl Parts {
    /// Everything that is to change, ready to be changed at once.
    fn prepare(&self, config: &Config) -> Result<Commit, String> {
        let key = primary_key(config, self.generated.as_ref())?;
        let (terms, rules) = (Terms::new(config, &key), Rules::new(config));
        let built = self.upstreams.prepare(config)?;
        let settings = settings(config, self.cores, &built);
        let bound = Bound::new(config.limits.memory_bytes_max);
        let set_log = self.log.prepare(&config.server.log)?;
        let limits = config.limits.clone();
        let signing_keys: Vec<String> = signing_keys(config, &key).into_iter().map(str::to_owned).collect();
        let Self { verifier, door, rest, http, signer, upstreams, memory, control, .. } = self;
        let (verifier, door, rest, http) = (verifier.clone(), door.clone(), rest.clone(), http.clone());
        let (signer, upstreams, control) = (signer.clone(), upstreams.clone(), control.clone());
        let memory = memory.clone();
        Ok(Box::new(move || {
            set_log();
            verifier.set_terms(terms);
            signer.set(&signing_keys.iter().map(String::as_str).collect::<Vec<_>>());
            door.set_rules(rules);
            rest.body_bytes_max.store(bytes(limits.rest_body_bytes_max), Ordering::Relaxed);
            rest.throttle.set_rate(limits.rest_calls_per_second_max);
            http.admin.rows_max.store(bytes(limits.admin_rows_max), Ordering::Relaxed);
            http.head_bytes_max.store(settings.sockets.head_bytes_max, Ordering::Relaxed);
            upstreams.commit(built);
            memory.set_bound(bound);
            control.apply(settings);
        }))
    }
}

/// The certificate that new handshakes are to use, if there are any.
fn prepare_tls(store: Option<&Arc<TlsConfigStore>>, config: &Config) -> Result<Commit, String> {
    let Some(store) = store else {
        // As at the start: the next one would refuse what is refused here.
        TlsConfigStore::configured(&config.tls)?;
        return Ok(Box::new(|| {}));
    };
    let fresh = store.prepare(&config.tls)?;
    if let Some(warning) = &fresh.warning {
        tracing::warn!("{warning}");
    }
    let store = store.clone();
    Ok(Box::new(move || store.commit(fresh)))
}

/// Makes the HTTP side of sockets.
struct Http {
    head_bytes_max: AtomicUsize,
    rest: Arc<RestApi>,
    admin: Arc<Admin>,
}

impl HttpFactory for Http {
    fn open(&self, core: CoreId, listener: Listener, via: Via) -> Box<dyn HttpHandler> {
        let (upgrades, answerer) = match listener {
            Listener::Service => (Upgrades::Allowed, self.rest.answerer(core, via)),
            Listener::Admin => (Upgrades::Refused, self.admin.answerer(via)),
        };
        Box::new(HttpConnection::new(self.head_bytes_max.load(Ordering::Relaxed), upgrades, answerer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data plane's own defaults and the configuration's say the same.
    #[test]
    fn defaults_agree() {
        let ours = settings(&Config::default(), 1, &Built::default());
        let theirs = Settings::default();
        let hub = |settings: &Settings| {
            let mut limits = settings.hub_default.limits;
            limits.connections_max = 0;
            format!("{limits:?}")
        };
        assert_eq!(hub(&ours), hub(&theirs));
        assert_eq!(ours.hub_default.keepalive, theirs.hub_default.keepalive);
        let sockets = |settings: &Settings| {
            let sockets = SocketSettings { sockets_max: 0, ..settings.sockets };
            format!("{sockets:?}")
        };
        assert_eq!(sockets(&ours), sockets(&theirs));
        assert_eq!((ours.hubs_max, ours.closed_max), (theirs.hubs_max, theirs.closed_max));
        assert_eq!((ours.listen, ours.admin_listen), (theirs.listen, theirs.admin_listen));
        assert_eq!((ours.drain, ours.stop_deadline), (theirs.drain, theirs.stop_deadline));
    }
}
