//! Many WebSocket clients in one thread.
//!
//! A [`Swarm`] opens connections, moves their bytes, answers pings, and hands every data message to the
//! workload. It knows nothing of workloads. What must stay true: a delivery costs one read, one pass
//! over a frame header and no allocation, whatever the number of connections; and nothing the server
//! does wrong is skipped: it ends the run with the connection's number and the reason, unless the
//! workload watches that connection; then it is told by a [`Change`].
//!
//! Connections may be cut, abandoned, closed, left unread and opened anew under their old index, and
//! HTTP/1.1 keep-alive connections live among them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::error::Error;
use crate::report::Progress;
use crate::wire::{self, opcode};

/// Connections that are being opened at the same time: enough to keep a server busy, few enough not to
/// overflow a listen queue.
const OPENING_MAX: usize = 64;

/// Connections from one loopback address, of 28,000 ports: the first port tried is then free nearly always.
const CONNECTIONS_PER_SOURCE: usize = 1_000;

/// Bytes read at once. One buffer serves all connections.
const READ_BYTES: usize = 256 * 1024;

/// One connection to be opened.
#[derive(Clone)]
pub(crate) struct Spec {
    /// Path and query of the upgrade request.
    pub(crate) path: String,
    /// Subprotocol to offer; the server must choose it.
    pub(crate) subprotocol: Option<&'static str>,
    /// What makes the connection ready.
    pub(crate) greeting: Greeting,
}

/// What a connection waits for before it counts as ready.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Greeting {
    /// The answer 101 is enough.
    None,
    /// The `connected` message of the JSON subprotocols.
    Connected,
    /// The same, and it must name a connection id and a reconnection token, which are kept: see
    /// [`Swarm::session`].
    Session,
    /// We send `S`, the server answers `OK`.
    SubscribeOk,
}

/// What a reliable client needs to come back.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) connection_id: String,
    pub(crate) reconnection_token: String,
}

/// What happened to a connection, beside data messages.
#[derive(Debug)]
pub(crate) enum Change {
    /// A watched connection became ready.
    Ready { connection: usize, now_ns: u64 },
    /// A watched connection ended.
    Ended { connection: usize, ending: Ending },
    /// An HTTP connection received a whole answer.
    Answer { connection: usize, status: u16, now_ns: u64 },
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It never became usable: the upgrade was answered with something other than 101, or the wrong
    /// first message.
    Refused(String),
    /// A close frame came.
    Closed { code: Option<u16>, reason: String },
    /// The socket ended without one.
    Lost(String),
    /// The server broke the protocol.
    Broken(String),
}

impl Ending {
    /// The same as what ends a run.
    pub(crate) fn into_error(self, connection: usize) -> Error {
        match self {
            Self::Refused(reason) => Error::Refused { connection, reason },
            Self::Closed { code: Some(code), reason } => {
                Error::Ended { connection, reason: format!("close {code} {reason}").trim_end().to_owned() }
            }
            Self::Closed { code: None, .. } => {
                Error::Ended { connection, reason: "close without a code".into() }
            }
            Self::Lost(reason) | Self::Broken(reason) => Error::Ended { connection, reason },
        }
    }
}

/// One data message from the server.
pub(crate) struct Delivery<'a> {
    /// Index of the connection, in order of opening.
    pub(crate) connection: usize,
    /// The message.
    pub(crate) payload: &'a [u8],
    /// Bytes of the frame that carried it.
    pub(crate) frame_bytes: usize,
    /// When its bytes were read, ns since [`Swarm::start`].
    pub(crate) now_ns: u64,
}

/// All connections of a run.
pub(crate) struct Swarm {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    start: Instant,
    address: SocketAddr,
    host: String,
    random: Random,
    changes: Vec<Change>,
    /// Sockets whose client went away without a word; the server finds out by itself.
    abandoned: Vec<TcpStream>,
}

impl Swarm {
    /// A swarm without connections. `host` is what the clients call the server, as `name:port`.
    pub(crate) fn new(address: SocketAddr, host: &str) -> Result<Self, Error> {
        Ok(Self {
            poll: Poll::new().map_err(Error::io("create an epoll instance"))?,
            events: Events::with_capacity(4096),
            connections: Vec::new(),
            buffer: vec![0; READ_BYTES],
            start: Instant::now(),
            address,
            host: host.to_owned(),
            random: Random::new(),
            changes: Vec::new(),
            abandoned: Vec::new(),
        })
    }

    /// ns since the swarm was made; the clock of all stamps.
    pub(crate) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Opens all of `specs` and returns when every one of them is ready. Their indexes follow those of
    /// the connections opened before.
    ///
    /// # Errors
    /// A refusal, a lost connection, a message nobody asked for, or no progress for `patience`.
    pub(crate) fn open(
        &mut self,
        specs: impl ExactSizeIterator<Item = Spec>,
        patience: Duration,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let doors = specs.map(|spec| Door::WebSocket(Box::new(spec)));
        self.open_doors(doors, patience, progress)
    }

    /// Opens `count` HTTP/1.1 connections; they are ready when the socket is.
    pub(crate) fn open_http(
        &mut self,
        count: usize,
        patience: Duration,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        self.open_doors((0..count).map(|_| Door::Http), patience, progress)
    }

    fn open_doors(
        &mut self,
        mut doors: impl ExactSizeIterator<Item = Door>,
        patience: Duration,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let (wanted, mut opened, mut ready) = (doors.len(), 0, 0);
        let mut last = Instant::now();
        while ready < wanted {
            while opened - ready < OPENING_MAX
                && let Some(door) = doors.next()
            {
                self.connections.push(Connection::closed());
                self.dial(self.connections.len() - 1, door)?;
                opened += 1;
            }
            let before = ready;
            self.turn(Duration::from_millis(100), &mut |_| {}, &mut ready)?;
            if ready > before {
                last = Instant::now();
            } else if last.elapsed() > patience {
                return Err(Error::ConnectTimeout { ready, wanted, seconds: patience.as_secs() });
            }
            progress.tick(|| format!("{ready} of {wanted} connections"));
        }
        Ok(())
    }

    /// Waits at most `wait` for something to happen, then does all that is due once.
    pub(crate) fn pump(
        &mut self,
        wait: Duration,
        on_message: &mut impl FnMut(Delivery<'_>),
    ) -> Result<(), Error> {
        self.turn(wait, on_message, &mut 0)
    }

    /// Starts to open one connection and returns its index; it becomes ready in some later turn, which
    /// only a [`Swarm::watch`] tells.
    pub(crate) fn add(&mut self, spec: Spec) -> Result<usize, Error> {
        self.connections.push(Connection::closed());
        let connection = self.connections.len() - 1;
        self.dial(connection, Door::WebSocket(Box::new(spec)))?;
        Ok(connection)
    }

    /// Starts to open a connection that ended under its old index.
    pub(crate) fn restart(&mut self, connection: usize, spec: Spec) -> Result<(), Error> {
        self.dial(connection, Door::WebSocket(Box::new(spec)))
    }

    /// From now on this connection becoming ready, and its end, are [`Change`]s instead of nothing and
    /// the end of the run.
    pub(crate) fn watch(&mut self, connection: usize) {
        self.connections[connection].watched = true;
    }

    /// Moves what happened since the last call into `into`.
    pub(crate) fn take_changes(&mut self, into: &mut Vec<Change>) {
        into.append(&mut self.changes);
    }

    /// Whether messages can be sent on the connection now.
    pub(crate) fn is_ready(&self, connection: usize) -> bool {
        matches!(self.connections[connection].state, State::Ready)
    }

    /// What the connection needs to come back; only after [`Greeting::Session`].
    pub(crate) fn session(&self, connection: usize) -> Option<&Session> {
        self.connections[connection].session.as_deref()
    }

    /// Ends the socket at once, as a broken network does: with a reset, or with an end of stream.
    pub(crate) fn cut(&mut self, connection: usize, reset: bool) {
        let ended = self.connections[connection].end();
        if let Some(socket) = ended.filter(|_| reset) {
            // Without it the kernel says goodbye on our behalf; where it fails that is what happens.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Forgets the socket without ending it, as when the network goes away: the server still has it.
    pub(crate) fn abandon(&mut self, connection: usize) {
        if let Some(mut socket) = self.connections[connection].end() {
            let _ = self.poll.registry().deregister(&mut socket);
            self.abandoned.push(socket);
        }
    }

    /// Ends the connection politely: close 1000, then wait for the answer and the server's end of stream,
    /// which is told as a [`Change::Ended`] with the code of the answer.
    pub(crate) fn close(&mut self, connection: usize) -> Result<(), Error> {
        let closing = &mut self.connections[connection];
        closing.watched = true;
        closing.state = State::Closing(None);
        wire::push_frame(&mut closing.outgoing, opcode::CLOSE, [7; 4], &1000u16.to_be_bytes());
        self.flush(connection)
    }

    /// Stops reading the connection: its bytes stay with the kernel and the server.
    pub(crate) fn stall(&mut self, connection: usize) -> Result<(), Error> {
        match &mut self.connections[connection].socket {
            Some(socket) => {
                self.poll.registry().deregister(socket).map_err(Error::io("stop reading a socket"))
            }
            None => Ok(()),
        }
    }

    /// Reads it again.
    pub(crate) fn unstall(&mut self, connection: usize) -> Result<(), Error> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match &mut self.connections[connection].socket {
            Some(socket) => self
                .poll
                .registry()
                .register(socket, Token(connection), interest)
                .map_err(Error::io("read a socket again")),
            None => Ok(()),
        }
    }

    /// Queues one text message on a ready connection. [`Swarm::flush`] sends what is queued.
    pub(crate) fn queue(&mut self, connection: usize, text: &[u8]) {
        let mask = self.random.next().to_le_bytes();
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        wire::push_frame(&mut self.connections[connection].outgoing, opcode::TEXT, mask, text);
    }

    /// Queues bytes of an HTTP request, piece by piece.
    pub(crate) fn queue_http(&mut self, connection: usize, bytes: &[u8]) {
        self.connections[connection].outgoing.extend_from_slice(bytes);
    }

    /// Writes what is queued on one connection, all of it in one call if the socket takes it.
    pub(crate) fn flush(&mut self, connection: usize) -> Result<(), Error> {
        let Err(ending) = self.connections[connection].flush() else { return Ok(()) };
        self.ended(connection, ending)
    }

    fn ended(&mut self, connection: usize, ending: Ending) -> Result<(), Error> {
        if !self.connections[connection].watched {
            return Err(ending.into_error(connection));
        }
        self.connections[connection].end();
        self.changes.push(Change::Ended { connection, ending });
        Ok(())
    }

    fn dial(&mut self, index: usize, door: Door) -> Result<(), Error> {
        let what = || format!("connect to {}", self.address);
        let mut socket = connect(self.address, index).map_err(Error::io(what()))?;
        self.poll
            .registry()
            .register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)
            .map_err(Error::io(what()))?;
        let connection = &mut self.connections[index];
        connection.socket = Some(socket);
        connection.incoming = Vec::new();
        connection.outgoing.clear();
        connection.state = match door {
            Door::Http => State::Dialling,
            Door::WebSocket(spec) => {
                let key = [self.random.next().to_le_bytes(), self.random.next().to_le_bytes()].concat();
                let key: [u8; 16] = key.try_into().expect("two times eight bytes");
                connection.outgoing = wire::upgrade_request(&self.host, &spec.path, key, spec.subprotocol);
                State::Upgrading(Box::new(Upgrade { spec: *spec, key }))
            }
        };
        Ok(())
    }

    fn turn(
        &mut self,
        wait: Duration,
        on_message: &mut impl FnMut(Delivery<'_>),
        ready: &mut usize,
    ) -> Result<(), Error> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Error::io("wait for sockets")(error)),
        }
        for event in &self.events {
            let index = event.token().0;
            let connection = &mut self.connections[index];
            let changes = &mut self.changes;
            let mut context =
                Context { connection: index, now_ns: 0, start: self.start, on_message, ready, changes };
            let Err(ending) = connection.on_event(event, &mut self.buffer, &mut context) else { continue };
            // As in `ended`, which would borrow the events too.
            if !connection.watched {
                return Err(ending.into_error(index));
            }
            connection.end();
            self.changes.push(Change::Ended { connection: index, ending });
        }
        Ok(())
    }
}

/// Starts to connect.
///
/// On loopback every thousand connections have a source address of their own: from one address, the kernel
/// searches ever longer for a free port, which at 18,000 connections cost more than everything else.
fn connect(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    if !matches!(address, SocketAddr::V4(v4) if v4.ip().is_loopback()) {
        return TcpStream::connect(address);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let source = [127, 0, 0, 1 + (index / CONNECTIONS_PER_SOURCE % 250) as u8];
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// What is behind a socket.
enum Door {
    WebSocket(Box<Spec>),
    Http,
}

struct Connection {
    /// `None` once it ended.
    socket: Option<TcpStream>,
    state: State,
    watched: bool,
    session: Option<Box<Session>>,
    /// The unfinished frame or head at the end of what was read; empty almost always.
    incoming: Vec<u8>,
    /// Masked frames the socket did not take yet. Bounded by what the workload lets be in flight.
    outgoing: Vec<u8>,
}

enum State {
    /// An HTTP connection whose socket is not connected yet.
    Dialling,
    Http,
    Upgrading(Box<Upgrade>),
    Greeting(Greeting),
    Ready,
    /// We sent a close frame; the code of the answer once it is there.
    Closing(Option<u16>),
    Ended,
}

struct Upgrade {
    spec: Spec,
    key: [u8; 16],
}

struct Context<'a, F> {
    connection: usize,
    now_ns: u64,
    start: Instant,
    on_message: &'a mut F,
    ready: &'a mut usize,
    changes: &'a mut Vec<Change>,
}

impl Connection {
    fn closed() -> Self {
        Self {
            socket: None,
            state: State::Ended,
            watched: false,
            session: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
        }
    }

    /// Takes the socket out; dropping it closes it.
    fn end(&mut self) -> Option<TcpStream> {
        self.state = State::Ended;
        self.incoming = Vec::new();
        self.outgoing = Vec::new();
        self.socket.take()
    }

    fn on_event<F: FnMut(Delivery<'_>)>(
        &mut self,
        event: &Event,
        buffer: &mut [u8],
        context: &mut Context<'_, F>,
    ) -> Result<(), Ending> {
        if event.is_writable() {
            match self.state {
                State::Dialling => {
                    self.check_connected()?;
                    self.state = State::Http;
                    *context.ready += 1;
                }
                State::Upgrading(_) if !self.outgoing.is_empty() => self.check_connected()?,
                _ => {}
            }
            self.flush()?;
        }
        if event.is_readable() {
            self.read(event.is_read_closed(), buffer, context)?;
        }
        Ok(())
    }

    fn check_connected(&self) -> Result<(), Ending> {
        let Some(socket) = &self.socket else { return Ok(()) };
        match socket.take_error() {
            Ok(None) => {
                socket.set_nodelay(true).map_err(|error| Ending::Refused(format!("TCP_NODELAY: {error}")))
            }
            Ok(Some(error)) | Err(error) => Err(Ending::Refused(error.to_string())),
        }
    }

    fn flush(&mut self) -> Result<(), Ending> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while !self.outgoing.is_empty() {
            match socket.write(&self.outgoing) {
                Ok(written) if written == self.outgoing.len() => self.outgoing.clear(),
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ending::Lost(error.to_string())),
            }
        }
        Ok(())
    }

    fn read<F: FnMut(Delivery<'_>)>(
        &mut self,
        to_the_end: bool,
        buffer: &mut [u8],
        context: &mut Context<'_, F>,
    ) -> Result<(), Ending> {
        loop {
            let Some(socket) = &mut self.socket else { return Ok(()) };
            let read = match socket.read(buffer) {
                Ok(0) => return Err(self.end_of_stream()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ending::Lost(error.to_string())),
            };
            // Here rather than once per wait: a wait may yield thousands of sockets.
            context.now_ns = context.start.elapsed().as_nanos() as u64;
            if self.incoming.is_empty() {
                let used = self.consume(&buffer[..read], context)?;
                self.incoming.extend_from_slice(&buffer[used..read]);
            } else {
                let mut joined = std::mem::take(&mut self.incoming);
                joined.extend_from_slice(&buffer[..read]);
                let used = self.consume(&joined, context)?;
                joined.drain(..used);
                self.incoming = joined;
            }
            if self.incoming.is_empty() {
                // 18,000 connections must not each keep the space of their longest partial frame.
                self.incoming = Vec::new();
            }
            // A short read empties the socket: the next bytes make a new edge, epoll(7). Only an end
            // of stream that is already known makes none.
            if read < buffer.len() && !to_the_end {
                return Ok(());
            }
        }
    }

    fn end_of_stream(&self) -> Ending {
        match self.state {
            State::Closing(Some(code)) => Ending::Closed { code: Some(code), reason: String::new() },
            _ => Ending::Lost("the socket was closed without a close frame".into()),
        }
    }

    /// Handles whole frames, or answers, at the start of `bytes` and returns how many bytes they were.
    fn consume<F: FnMut(Delivery<'_>)>(
        &mut self,
        bytes: &[u8],
        context: &mut Context<'_, F>,
    ) -> Result<usize, Ending> {
        let mut used = 0;
        match &self.state {
            State::Upgrading(upgrade) => {
                let answer = wire::check_upgrade(bytes, upgrade.key, upgrade.spec.subprotocol);
                let Some(head) = answer.map_err(Ending::Refused)? else { return Ok(0) };
                used = head;
                let greeting = upgrade.spec.greeting;
                self.upgraded(greeting, context)?;
            }
            State::Http | State::Dialling => {
                while let Some((status, len)) = wire::parse_answer(&bytes[used..]).map_err(Ending::Broken)? {
                    used += len;
                    let Context { connection, now_ns, .. } = *context;
                    context.changes.push(Change::Answer { connection, status, now_ns });
                }
                return Ok(used);
            }
            _ => {}
        }
        while let Some(frame) = wire::parse_frame(&bytes[used..]).map_err(Ending::Broken)? {
            used += frame.len;
            match frame.opcode {
                opcode::TEXT | opcode::BINARY => match self.state {
                    State::Ready => (context.on_message)(Delivery {
                        connection: context.connection,
                        payload: frame.payload,
                        frame_bytes: frame.len,
                        now_ns: context.now_ns,
                    }),
                    State::Greeting(greeting) => self.greeted(greeting, frame.payload, context)?,
                    // What was on its way while we closed.
                    State::Closing(_) | State::Ended => {}
                    State::Upgrading(_) | State::Http | State::Dialling => {
                        unreachable!("left above, before the first frame")
                    }
                },
                opcode::PING => {
                    wire::push_frame(&mut self.outgoing, opcode::PONG, [7; 4], frame.payload);
                    self.flush()?;
                }
                opcode::PONG => {}
                opcode::CLOSE => {
                    let (code, reason) = close_reason(frame.payload);
                    match &mut self.state {
                        State::Closing(answer) => *answer = Some(code.unwrap_or(1005)),
                        _ => return Err(Ending::Closed { code, reason }),
                    }
                }
                other => return Err(Ending::Broken(format!("a frame with opcode {other}"))),
            }
        }
        Ok(used)
    }

    fn ready<F>(&mut self, context: &mut Context<'_, F>) {
        self.state = State::Ready;
        *context.ready += 1;
        if self.watched {
            let Context { connection, now_ns, .. } = *context;
            context.changes.push(Change::Ready { connection, now_ns });
        }
    }

    fn upgraded<F>(&mut self, greeting: Greeting, context: &mut Context<'_, F>) -> Result<(), Ending> {
        match greeting {
            Greeting::None => self.ready(context),
            Greeting::Connected | Greeting::Session => self.state = State::Greeting(greeting),
            Greeting::SubscribeOk => {
                self.state = State::Greeting(greeting);
                wire::push_frame(&mut self.outgoing, opcode::TEXT, [7; 4], b"S");
                self.flush()?;
            }
        }
        Ok(())
    }

    fn greeted<F>(
        &mut self,
        greeting: Greeting,
        message: &[u8],
        context: &mut Context<'_, F>,
    ) -> Result<(), Ending> {
        let connected = || {
            let message = serde_json::from_slice::<serde_json::Value>(message).ok()?;
            (message["type"] == "system" && message["event"] == "connected").then_some(message)
        };
        let as_wanted = match greeting {
            Greeting::None => false,
            Greeting::SubscribeOk => message == b"OK",
            Greeting::Connected => connected().is_some(),
            Greeting::Session => connected().is_some_and(|message| {
                let text = |key: &str| message[key].as_str().map(str::to_owned);
                self.session = text("connectionId").zip(text("reconnectionToken")).map(
                    |(connection_id, reconnection_token)| {
                        Box::new(Session { connection_id, reconnection_token })
                    },
                );
                self.session.is_some()
            }),
        };
        if !as_wanted {
            let message = String::from_utf8_lossy(message);
            return Err(Ending::Refused(format!("{greeting:?} was due, but the first message is {message}")));
        }
        self.ready(context);
        Ok(())
    }
}

fn close_reason(payload: &[u8]) -> (Option<u16>, String) {
    match payload {
        [high, low, reason @ ..] => {
            (Some(u16::from_be_bytes([*high, *low])), String::from_utf8_lossy(reason).into_owned())
        }
        _ => (None, String::new()),
    }
}

/// xorshift64*: masks, keys and the spread of warm-up messages need variety, not secrecy.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by the clock: no figure depends on the values.
    pub(crate) fn new() -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(clock.map_or(1, |elapsed| elapsed.as_nanos() as u64) | 1)
    }

    /// The same values for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        // Spread, so that neighbouring seeds do not begin alike; 0 would stay 0 for ever.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
