//! What the tests of cores share: a server whose gate and whose HTTP are the simplest there can be, and clients by hand.

use crate::certificates::{TlsConfigStore, make};
use crate::config::Tls;
use crate::core::counters::{CoreShared, Counters};
use crate::core::line::Line;
use crate::core::mesh::{Mesh, Peers};
use crate::core::settings::{RingSettings, Settings};
use crate::core::turn::{Core, CoreParts};
use crate::core::{Mode, Server, start};
use crate::net::gate::{Admission, Admitted, Gate, UpgradeRequest};
use crate::net::patience::{Awaits, Stage};
use crate::net::peer::Via;
use crate::net::{
    Address, HttpAnswer, HttpCall, HttpFactory, HttpHandler, HttpProgress, Listener, OwnedContent,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use ringhub_hub::{ConnectionId, CoreId};
use ringhub_protocol::http::write_refusal;
use ringhub_protocol::name::{GroupName, HubName};
use ringhub_protocol::pubsub::{DataType, Form, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::handshake::choose;
use ringhub_relay::exchange::Exchange;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(super) const RELIABLE: &str = "json.reliable.webpubsub.azure.v1";

/// Lets everyone in, everyone a member of group `g`, raw clients sending to it. What it does before that, with the
/// target asked for, the core does: it stops or panics there, if a test wants that.
struct Open(Box<dyn Fn(&str) + Send + Sync>);

impl Gate for Open {
    fn admit(&self, _: u64, request: &UpgradeRequest<'_>) -> Admission {
        self.0(request.target);
        let (subprotocol, echoed) = choose(request.subprotocols);
        let echoed = echoed.map(Into::into);
        let hub = HubName::parse("chat").unwrap();
        if let Some((_, id)) = request.target.split_once("id=") {
            let id = ConnectionId::parse(id).unwrap();
            return Admission::Recover { hub, id, subprotocol, echoed };
        }
        let group = GroupName::parse("g").unwrap();
        Admission::Connect(Box::new(Admitted {
            hub,
            subprotocol,
            echoed,
            user: None,
            roles: vec!["webpubsub.sendToGroup".into()],
            groups: vec![group.clone()],
            raw_group: (subprotocol == Subprotocol::Raw).then_some((group, true)),
            address: request.address,
            pass: None,
        }))
    }

    fn reconnection_token(&self, _: &HubName, _: &ConnectionId) -> String {
        "token".into()
    }
}

/// Sends what is posted, as text that is worth something for five minutes, to group `g`, or to everybody if it is
/// posted to `/all`; answers 404 to anything.
struct NoHttp;

impl HttpFactory for NoHttp {
    fn open(&self, _: CoreId, _: Listener, _: Via) -> Box<dyn HttpHandler> {
        Box::new(NoHttpHere { received: Vec::new(), answered: 0, awaits: Awaits::Request })
    }
}

struct NoHttpHere {
    received: Vec<u8>,
    answered: u64,
    awaits: Awaits,
}

impl NoHttpHere {
    /// The body of what is posted, once it is there.
    fn posted(&self) -> Option<Bytes> {
        let head = std::str::from_utf8(&self.received).unwrap();
        let (head, body) = head.split_once("\r\n\r\n").expect("a whole head is fed");
        let length =
            head.split_once("Content-Length: ").expect("a body has a length").1.lines().next().unwrap();
        (body.len() == length.parse::<usize>().unwrap()).then(|| Bytes::copy_from_slice(body.as_bytes()))
    }
}

impl HttpHandler for NoHttpHere {
    fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.awaits = Awaits::Body;
    }

    fn poll(&mut self, _: u64) -> HttpProgress {
        if self.awaits != Awaits::Body {
            return HttpProgress::default();
        }
        if self.received.starts_with(b"POST") {
            let Some(bytes) = self.posted() else { return HttpProgress::default() };
            self.awaits = Awaits::Answer;
            let target = match self.received.starts_with(b"POST /all ") {
                true => Target::All,
                false => Target::Group(GroupName::parse("g").unwrap()),
            };
            let operation = Operation::Send { target, excluded: [].into(), filter: None, ttl_seconds: 300 };
            let body = OwnedContent { data_type: DataType::Text, form: Form::Plain, bytes, metadata: None };
            let hub = HubName::parse("chat").unwrap();
            let call = Some(HttpCall::Operation { hub, operation, body: Some(body) });
            return HttpProgress { call, ..HttpProgress::default() };
        }
        let mut out = Vec::new();
        write_refusal(&mut out, 404, &[], "text/plain", b"");
        (self.answered, self.awaits) = (1, Awaits::Request);
        HttpProgress { output: out.into(), close: true, ..HttpProgress::default() }
    }

    fn answer(&mut self, _: HttpAnswer) {
        self.received.clear();
        self.awaits = Awaits::Body;
    }

    fn is_full(&self) -> bool {
        false
    }

    fn stage(&self) -> Stage {
        Stage { answered: self.answered, awaits: self.awaits, body_bytes: 0 }
    }
}

/// A core that nobody runs: a test calls its parts one by one.
pub(super) fn still(exchange: Arc<Exchange>, change: impl FnOnce(&mut Settings)) -> Core {
    let mut settings = Settings::default();
    change(&mut settings);
    let (peers, mut bells) = Peers::new(1, &settings.mesh).unwrap();
    let (id, shared, mesh) = (CoreId(0), Arc::<CoreShared>::default(), settings.mesh);
    let parts = CoreParts {
        id,
        mode: Mode::Serve,
        settings: Arc::new(ArcSwap::from_pointee(settings)),
        gate: Arc::new(Open(Box::new(|_| {}))),
        http: Arc::new(NoHttp),
        tls: None,
        mesh: Mesh::new(peers, id, mesh, shared.clone()),
        line: Line::new(exchange, id),
        shared,
        listeners: Vec::new(),
        bell: bells.remove(0),
        started: Instant::now(),
        hash_seed: 0,
    };
    Core::new(parts).unwrap()
}

pub(super) struct Running {
    pub(super) server: Server,
    pub(super) shared: Vec<Arc<CoreShared>>,
}

impl Running {
    pub(super) fn new(mode: Mode, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(mode, None, change)
    }

    pub(super) fn with(
        mode: Mode,
        tls: Option<Arc<TlsConfigStore>>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::gated(mode, tls, |_| {}, change)
    }

    pub(super) fn gated(
        mode: Mode,
        tls: Option<Arc<TlsConfigStore>>,
        gate: impl Fn(&str) + Send + Sync + 'static,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::started(mode, tls, Open(Box::new(gate)), Arc::new(NoHttp), change)
    }

    /// Lets everybody in, and has its requests answered by `http`.
    pub(super) fn answering(
        http: Arc<dyn HttpFactory>,
        tls: Option<Arc<TlsConfigStore>>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::started(Mode::Serve, tls, Open(Box::new(|_| {})), http, change)
    }

    fn started(
        mode: Mode,
        tls: Option<Arc<TlsConfigStore>>,
        gate: Open,
        http: Arc<dyn HttpFactory>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings {
            listen: vec![Address::plain(([127, 0, 0, 1], 0))],
            admin_listen: vec![],
            ..Settings::default()
        };
        // Most tests leave without a goodbye.
        settings.sockets.close_deadline = Duration::from_millis(300);
        // On a busy machine some take longer than silence may.
        settings.hub_default.keepalive = Duration::from_secs(3600);
        change(&mut settings);
        let shared: Vec<_> = (0..settings.cores).map(|_| Arc::default()).collect();
        let exchange = Arc::new(Exchange::new(settings.cores));
        let server = start(settings, mode, Arc::new(gate), http, tls, exchange, &shared).unwrap();
        Self { server, shared }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.service[0].socket
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(self.address(), "/client/hubs/chat", None)
    }

    pub(super) fn sum(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.shared.iter().map(|shared| counter(&shared.counters)).sum()
    }

    /// Waits until a number is `exactly`.
    pub(super) fn settle(&self, exactly: u64, counter: impl Fn(&Counters) -> u64 + Copy) {
        let start = Instant::now();
        while self.sum(counter) != exactly {
            assert!(start.elapsed() < Duration::from_secs(20), "{} is not {exactly}", self.sum(counter));
            std::thread::yield_now();
        }
    }

    /// Waits until a counter is `at_least`.
    pub(super) fn wait(&self, at_least: u64, counter: impl Fn(&Counters) -> u64 + Copy) {
        let start = Instant::now();
        while self.sum(counter) < at_least {
            assert!(start.elapsed() < Duration::from_secs(20), "{} < {at_least}", self.sum(counter));
            std::thread::yield_now();
        }
    }

    pub(super) fn stop(self) -> Vec<Arc<CoreShared>> {
        self.server.stop();
        self.server.join();
        self.shared
    }
}

/// A client by hand.
pub(super) struct Client<S = TcpStream> {
    pub(super) stream: S,
    pub(super) received: Vec<u8>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr, path: &str, subprotocol: Option<&str>) -> Self {
        Self::try_connect(address, path, subprotocol).expect("the whole response head")
    }

    /// `None` if the connection ends before it is answered.
    pub(super) fn try_connect(address: SocketAddr, path: &str, subprotocol: Option<&str>) -> Option<Self> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self::over(stream, path, subprotocol)
    }
}

impl<S: Read + Write> Client<S> {
    pub(super) fn over(stream: S, path: &str, subprotocol: Option<&str>) -> Option<Self> {
        let mut client = Self { stream, received: Vec::new() };
        client.stream.write_all(&upgrade(path, subprotocol)).unwrap();
        let end = loop {
            if let Some(at) = client.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !client.read() {
                return None;
            }
        };
        let head = String::from_utf8(client.received.drain(..end).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Some(client)
    }

    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                n > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.stream.write_all(&masked(opcode, payload)).unwrap();
    }

    /// The next frame: opcode and payload; `None` at the end.
    pub(super) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.frame() {
                return Some(frame);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// The next frame of what was received.
    pub(super) fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, len, rest @ ..] = &self.received[..] else { return None };
        let (header, len) = match (len, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, rest) if rest.len() >= 8 => {
                (10, u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize)
            }
            (126 | 127, _) => return None,
            (len, _) => (2, usize::from(*len)),
        };
        if self.received.len() < header + len {
            return None;
        }
        let opcode = first & 15;
        let payload = self.received[header..header + len].to_vec();
        self.received.drain(..header + len);
        Some((opcode, payload))
    }

    pub(super) fn expect(&mut self, payload: &[u8]) {
        let (opcode, got) = self.next().expect("a message");
        assert!(got == payload, "opcode {opcode}, {} bytes for {}", got.len(), payload.len());
    }
}

/// The head of an upgrade.
pub(super) fn upgrade(path: &str, subprotocol: Option<&str>) -> Vec<u8> {
    let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    );
    head.into_bytes()
}

pub(super) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

pub(super) fn tiny(settings: &mut Settings) {
    settings.ring =
        RingSettings { submissions: 8, completions: 16, buffers: 8, buffer_bytes: 256, faults: None };
}

/// A client of the listener with this number.
pub(super) fn connect_over_tls(
    running: &Running,
    listener: usize,
    config: &Arc<ClientConfig>,
) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    Client::over(tls_stream(running, listener, config), "/client/hubs/chat", None)
        .expect("the whole response head")
}

/// A connection to that listener on which nothing is said yet.
pub(super) fn tls_stream(
    running: &Running,
    listener: usize,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let tcp = TcpStream::connect(running.server.service[listener].socket).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let connection = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, tcp)
}

/// A server's certificate, and a client that trusts it.
pub(super) fn certificate() -> (Arc<TlsConfigStore>, Arc<ClientConfig>) {
    // Tests run at the same time, in one process.
    static FOLDERS: AtomicUsize = AtomicUsize::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("ringhub-core-tls-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let made = make::make(&folder, &[], 1).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&made.authority).unwrap()).unwrap();
    let (certificate, private_key) = (Some(made.certificate), Some(made.private_key));
    let tls = Tls { certificate, private_key, ..Tls::default() };
    let (store, _) = TlsConfigStore::configured(&tls).unwrap().expect("files are named");
    std::fs::remove_dir_all(&folder).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (Arc::new(store), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}
