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

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::connection::{Connection, Context, State, Upgrade};
use crate::error::Error;
use crate::peer::{Dialect, Role};
use crate::random::Random;
use crate::report::Progress;
use crate::wire::{self, opcode};

/// Connections that are being opened at the same time: enough to keep a server busy, few enough not to
/// overflow a listen queue.
const OPENING_MAX: usize = 64;

/// Connections from one loopback address, of 28,000 ports: the first port tried is then free nearly always.
const CONNECTIONS_PER_SOURCE: usize = 1_000;

/// Sockets that clients went away from without a word and that stay open all the same; of more, the oldest ends.
pub(crate) const ABANDONED_MAX: usize = 1_000;

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
    /// Whatever a foreign protocol does before its clients may publish or receive.
    Foreign(Dialect, Role),
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
    /// As [`Swarm::cut_after`] was told.
    Cut,
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
            Self::Cut => Error::Ended { connection, reason: "cut by this generator".into() },
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
    abandoned: VecDeque<TcpStream>,
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
            abandoned: VecDeque::new(),
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

    /// Makes room for `count` connections that are opened by [`Swarm::restart`].
    pub(crate) fn reserve(&mut self, count: usize) {
        self.connections.extend((0..count).map(|_| Connection::closed()));
    }

    /// Whether a close frame of ours is not answered yet.
    pub(crate) fn is_closing(&self, connection: usize) -> bool {
        matches!(self.connections[connection].state, State::Closing(_))
    }

    /// Starts to open a connection that ended under its old index.
    pub(crate) fn restart(&mut self, connection: usize, spec: Spec) -> Result<(), Error> {
        self.dial(connection, Door::WebSocket(Box::new(spec)))
    }

    /// The same with an HTTP connection; nobody is told when it is ready.
    pub(crate) fn restart_http(&mut self, connection: usize) -> Result<(), Error> {
        self.dial(connection, Door::Http)
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

    /// Whether messages, or HTTP requests, can be sent on the connection now.
    pub(crate) fn is_ready(&self, connection: usize) -> bool {
        matches!(self.connections[connection].state, State::Ready | State::Http)
    }

    /// Whether the connection ended, or never began, and is not being opened.
    pub(crate) fn has_ended(&self, connection: usize) -> bool {
        matches!(self.connections[connection].state, State::Ended)
    }

    /// What the connection needs to come back; only after [`Greeting::Session`].
    pub(crate) fn session(&self, connection: usize) -> Option<&Session> {
        self.connections[connection].session.as_deref()
    }

    /// Cuts the connection behind so many more bytes from the server, wherever in a frame that is; the rest is lost.
    /// Told as a [`Change::Ended`] of a watched connection; the socket itself is the workload's to end, by
    /// [`Swarm::cut`] or [`Swarm::abandon`]. `None` takes it back.
    pub(crate) fn cut_after(&mut self, connection: usize, bytes: Option<usize>) {
        self.connections[connection].cut_after = bytes;
    }

    /// Ends the socket at once, as a broken network does: with a reset, or with an end of stream.
    pub(crate) fn cut(&mut self, connection: usize, reset: bool) {
        let ended = self.connections[connection].end();
        if let Some(socket) = ended.filter(|_| reset) {
            // Without it the kernel says goodbye on our behalf; where it fails that is what happens.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Forgets the socket without ending it, as when the network goes away: the server still has it, until there
    /// are [`ABANDONED_MAX`] others.
    pub(crate) fn abandon(&mut self, connection: usize) {
        if let Some(mut socket) = self.connections[connection].end() {
            let _ = self.poll.registry().deregister(&mut socket);
            if self.abandoned.len() >= ABANDONED_MAX {
                self.abandoned.pop_front();
            }
            self.abandoned.push_back(socket);
        }
    }

    /// Ends the abandoned sockets too.
    pub(crate) fn end_abandoned(&mut self) {
        self.abandoned.clear();
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
        let connection = &mut self.connections[connection];
        let opcode = match &connection.state {
            State::Foreign(talk) => talk.opcode(),
            _ => opcode::TEXT,
        };
        wire::push_frame(&mut connection.outgoing, opcode, mask, text);
    }

    /// Queues bytes as they are: pieces of an HTTP request, or frames made before.
    pub(crate) fn queue_bytes(&mut self, connection: usize, bytes: &[u8]) {
        self.connections[connection].outgoing.extend_from_slice(bytes);
    }

    /// Whether something is queued that the socket did not take.
    pub(crate) fn has_queued(&self, connection: usize) -> bool {
        !self.connections[connection].outgoing.is_empty()
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
        connection.cut_after = None;
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
            if ending != Ending::Cut {
                connection.end();
            }
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
