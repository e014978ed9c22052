//! Many WebSocket clients in one thread.
//!
//! A [`Swarm`] opens connections, moves their bytes, answers pings, and hands every data message to the
//! workload. It knows nothing of workloads. What must stay true: a delivery costs one read, one pass
//! over a frame header and no allocation, whatever the number of connections; and nothing the server
//! does wrong is skipped, it ends the run with the connection's number and the reason.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::error::Error;
use crate::peer::{Dialect, Role, Talk};
use crate::report::Progress;
use crate::wire::{self, opcode};

/// Connections that are being opened at the same time: enough to keep a server busy, few enough not to
/// overflow a listen queue.
const OPENING_MAX: usize = 64;

/// Bytes read at once. One buffer serves all connections.
const READ_BYTES: usize = 256 * 1024;

/// One connection to be opened.
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
    /// We send `S`, the server answers `OK`.
    SubscribeOk,
    /// Whatever a foreign protocol does before its clients may publish or receive.
    Foreign(Dialect, Role),
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
        let mut specs = specs;
        let (wanted, mut opened, mut ready) = (specs.len(), 0, 0);
        let mut last = Instant::now();
        while ready < wanted {
            while opened - ready < OPENING_MAX
                && let Some(spec) = specs.next()
            {
                self.connect(spec)?;
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

    /// Queues one text message. [`Swarm::flush`] sends what is queued.
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

    /// Writes what is queued on one connection, all of it in one call if the socket takes it.
    pub(crate) fn flush(&mut self, connection: usize) -> Result<(), Error> {
        self.connections[connection].flush().map_err(|reason| Error::Ended { connection, reason })
    }

    fn connect(&mut self, spec: Spec) -> Result<(), Error> {
        let what = || format!("connect to {}", self.address);
        let mut socket = TcpStream::connect(self.address).map_err(Error::io(what()))?;
        let token = Token(self.connections.len());
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(Error::io(what()))?;
        let key = [self.random.next().to_le_bytes(), self.random.next().to_le_bytes()].concat();
        let key: [u8; 16] = key.try_into().expect("two times eight bytes");
        let request = wire::upgrade_request(&self.host, &spec.path, key, spec.subprotocol);
        self.connections.push(Connection {
            socket,
            state: State::Upgrading(Box::new(Upgrade { spec, key })),
            incoming: Vec::new(),
            outgoing: request,
        });
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
            let connection = event.token().0;
            let mut context = Context { connection, now_ns: 0, start: self.start, on_message, ready };
            self.connections[connection]
                .on_event(event, &mut self.buffer, &mut context)
                .map_err(|trouble| trouble.into_error(connection))?;
        }
        Ok(())
    }
}

struct Connection {
    socket: TcpStream,
    state: State,
    /// The unfinished frame or head at the end of what was read; empty almost always.
    incoming: Vec<u8>,
    /// Masked frames the socket did not take yet. Bounded by what the workload lets be in flight.
    outgoing: Vec<u8>,
}

enum State {
    Upgrading(Box<Upgrade>),
    Greeting(Greeting),
    Ready,
    /// A foreign protocol from the upgrade on: it knows itself whether it is ready.
    Foreign(Box<Talk>),
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
}

enum Trouble {
    Refused(String),
    Ended(String),
}

impl Trouble {
    fn into_error(self, connection: usize) -> Error {
        match self {
            Self::Refused(reason) => Error::Refused { connection, reason },
            Self::Ended(reason) => Error::Ended { connection, reason },
        }
    }
}

impl Connection {
    fn on_event<F: FnMut(Delivery<'_>)>(
        &mut self,
        event: &Event,
        buffer: &mut [u8],
        context: &mut Context<'_, F>,
    ) -> Result<(), Trouble> {
        if event.is_writable() && !self.outgoing.is_empty() {
            if matches!(self.state, State::Upgrading(_)) {
                self.check_connected().map_err(Trouble::Refused)?;
            }
            self.flush().map_err(Trouble::Ended)?;
        }
        if event.is_readable() {
            self.read(event.is_read_closed(), buffer, context)?;
        }
        Ok(())
    }

    fn check_connected(&self) -> Result<(), String> {
        match self.socket.take_error() {
            Ok(None) => self.socket.set_nodelay(true).map_err(|error| format!("TCP_NODELAY: {error}")),
            Ok(Some(error)) | Err(error) => Err(error.to_string()),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(written) if written == self.outgoing.len() => self.outgoing.clear(),
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    fn read<F: FnMut(Delivery<'_>)>(
        &mut self,
        to_the_end: bool,
        buffer: &mut [u8],
        context: &mut Context<'_, F>,
    ) -> Result<(), Trouble> {
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => return Err(Trouble::Ended("the socket was closed without a close frame".into())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Trouble::Ended(error.to_string())),
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

    /// Handles whole frames at the start of `bytes` and returns how many bytes they were.
    fn consume<F: FnMut(Delivery<'_>)>(
        &mut self,
        bytes: &[u8],
        context: &mut Context<'_, F>,
    ) -> Result<usize, Trouble> {
        let mut used = 0;
        if let State::Upgrading(upgrade) = &self.state {
            let answer = wire::check_upgrade(bytes, upgrade.key, upgrade.spec.subprotocol);
            let Some(head) = answer.map_err(Trouble::Refused)? else { return Ok(0) };
            used = head;
            let greeting = upgrade.spec.greeting;
            self.upgraded(greeting, context)?;
        }
        while let Some(frame) = wire::parse_frame(&bytes[used..]).map_err(Trouble::Ended)? {
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
                    State::Foreign(_) => self.foreign(&frame, context)?,
                    State::Upgrading(_) => unreachable!("left above, before the first frame"),
                },
                opcode::PING => {
                    wire::push_frame(&mut self.outgoing, opcode::PONG, [7; 4], frame.payload);
                    self.flush().map_err(Trouble::Ended)?;
                }
                opcode::PONG => {}
                opcode::CLOSE => return Err(Trouble::Ended(close_reason(frame.payload))),
                other => return Err(Trouble::Ended(format!("a frame with opcode {other}"))),
            }
        }
        Ok(used)
    }

    fn upgraded<F>(&mut self, greeting: Greeting, context: &mut Context<'_, F>) -> Result<(), Trouble> {
        match greeting {
            Greeting::None => {
                self.state = State::Ready;
                *context.ready += 1;
            }
            Greeting::Connected => self.state = State::Greeting(greeting),
            Greeting::SubscribeOk => {
                self.state = State::Greeting(greeting);
                wire::push_frame(&mut self.outgoing, opcode::TEXT, [7; 4], b"S");
                self.flush().map_err(Trouble::Ended)?;
            }
            Greeting::Foreign(dialect, role) => {
                let talk = Talk::new(dialect, role);
                *context.ready += usize::from(talk.is_ready());
                let first = talk.first_message();
                if !first.is_empty() {
                    wire::push_frame(&mut self.outgoing, talk.opcode(), [7; 4], &first);
                }
                self.state = State::Foreign(Box::new(talk));
                self.flush().map_err(Trouble::Ended)?;
            }
        }
        Ok(())
    }

    /// One frame of a foreign protocol: what it carries is delivered, what it asks for is answered.
    fn foreign<F: FnMut(Delivery<'_>)>(
        &mut self,
        frame: &wire::Frame<'_>,
        context: &mut Context<'_, F>,
    ) -> Result<(), Trouble> {
        let State::Foreign(talk) = &mut self.state else { return Ok(()) };
        let was_ready = talk.is_ready();
        let header = frame.len - frame.payload.len();
        let mut answer = Vec::new();
        talk.receive(frame.payload, &mut answer, &mut |payload, wire_bytes| {
            (context.on_message)(Delivery {
                connection: context.connection,
                payload,
                frame_bytes: header + wire_bytes,
                now_ns: context.now_ns,
            });
        })
        .map_err(|reason| if was_ready { Trouble::Ended(reason) } else { Trouble::Refused(reason) })?;
        *context.ready += usize::from(!was_ready && talk.is_ready());
        if !answer.is_empty() {
            wire::push_frame(&mut self.outgoing, talk.opcode(), [7; 4], &answer);
            self.flush().map_err(Trouble::Ended)?;
        }
        Ok(())
    }

    fn greeted<F>(
        &mut self,
        greeting: Greeting,
        message: &[u8],
        context: &mut Context<'_, F>,
    ) -> Result<(), Trouble> {
        let as_wanted = match greeting {
            Greeting::None | Greeting::Foreign(..) => false,
            Greeting::SubscribeOk => message == b"OK",
            Greeting::Connected => serde_json::from_slice::<serde_json::Value>(message)
                .is_ok_and(|message| message["type"] == "system" && message["event"] == "connected"),
        };
        if !as_wanted {
            let message = String::from_utf8_lossy(message);
            return Err(Trouble::Refused(format!(
                "{greeting:?} was due, but the first message is {message}"
            )));
        }
        self.state = State::Ready;
        *context.ready += 1;
        Ok(())
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("close {code} {}", String::from_utf8_lossy(reason)).trim_end().to_owned()
        }
        _ => "close without a code".into(),
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

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
