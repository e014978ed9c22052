//! One client connection: upgrade, greeting, frames or answers in, queued bytes out, and its end.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;

use crate::client::{Change, Delivery, Ending, Greeting, Session, Spec};
use crate::peer::Talk;
use crate::wire::{self, opcode};

/// One connection of a swarm.
pub(crate) struct Connection {
    /// `None` once it ended.
    pub(crate) socket: Option<TcpStream>,
    pub(crate) state: State,
    pub(crate) watched: bool,
    pub(crate) session: Option<Box<Session>>,
    /// The unfinished frame or head at the end of what was read; empty almost always.
    pub(crate) incoming: Vec<u8>,
    /// Bytes still to be read before the connection is cut.
    pub(crate) cut_after: Option<usize>,
    /// Masked frames the socket did not take yet. Bounded by what the workload lets be in flight.
    pub(crate) outgoing: Vec<u8>,
}

/// How far it is.
pub(crate) enum State {
    /// An HTTP connection whose socket is not connected yet.
    Dialling,
    Http,
    Upgrading(Box<Upgrade>),
    Greeting(Greeting),
    Ready,
    /// A foreign protocol from the upgrade on: it knows itself whether it is ready.
    Foreign(Box<Talk>),
    /// We sent a close frame; the code of the answer once it is there.
    Closing(Option<u16>),
    Ended,
}

/// An upgrade that is not answered yet.
pub(crate) struct Upgrade {
    pub(crate) spec: Spec,
    /// As sent, before base64.
    pub(crate) key: [u8; 16],
}

/// What a connection needs of its swarm while it reads.
pub(crate) struct Context<'a, F> {
    pub(crate) connection: usize,
    pub(crate) now_ns: u64,
    pub(crate) start: Instant,
    pub(crate) on_message: &'a mut F,
    pub(crate) ready: &'a mut usize,
    pub(crate) changes: &'a mut Vec<Change>,
}

impl Connection {
    /// Not open yet.
    pub(crate) fn closed() -> Self {
        Self {
            socket: None,
            state: State::Ended,
            watched: false,
            session: None,
            incoming: Vec::new(),
            cut_after: None,
            outgoing: Vec::new(),
        }
    }

    /// Takes the socket out; dropping it closes it.
    pub(crate) fn end(&mut self) -> Option<TcpStream> {
        self.state = State::Ended;
        self.incoming = Vec::new();
        self.cut_after = None;
        self.outgoing = Vec::new();
        self.socket.take()
    }

    /// Does what a readiness event asks for.
    pub(crate) fn on_event<F: FnMut(Delivery<'_>)>(
        &mut self,
        event: &Event,
        buffer: &mut [u8],
        context: &mut Context<'_, F>,
    ) -> Result<(), Ending> {
        if matches!(self.state, State::Ended) {
            return Ok(());
        }
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

    /// Writes what is queued.
    pub(crate) fn flush(&mut self) -> Result<(), Ending> {
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
            let room = self.cut_after.map_or(buffer.len(), |left| left.min(buffer.len()));
            if room == 0 {
                // The socket stays until the workload says how it ends.
                self.state = State::Ended;
                return Err(Ending::Cut);
            }
            let read = match socket.read(&mut buffer[..room]) {
                Ok(0) => return Err(self.end_of_stream()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Ending::Lost(error.to_string())),
            };
            if let Some(left) = &mut self.cut_after {
                *left -= read;
            }
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
            if read < room && !to_the_end {
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
                    State::Foreign(_) => self.foreign(&frame, context)?,
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
            Greeting::Foreign(dialect, role) => {
                let talk = Talk::new(dialect, role);
                *context.ready += usize::from(talk.is_ready());
                let first = talk.first_message();
                if !first.is_empty() {
                    wire::push_frame(&mut self.outgoing, talk.opcode(), [7; 4], &first);
                }
                self.state = State::Foreign(Box::new(talk));
                self.flush()?;
            }
        }
        Ok(())
    }

    /// One frame of a foreign protocol: what it carries is delivered, what it asks for is answered.
    fn foreign<F: FnMut(Delivery<'_>)>(
        &mut self,
        frame: &wire::Frame<'_>,
        context: &mut Context<'_, F>,
    ) -> Result<(), Ending> {
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
        .map_err(|reason| if was_ready { Ending::Broken(reason) } else { Ending::Refused(reason) })?;
        *context.ready += usize::from(!was_ready && talk.is_ready());
        if !answer.is_empty() {
            wire::push_frame(&mut self.outgoing, talk.opcode(), [7; 4], &answer);
            self.flush()?;
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
            Greeting::None | Greeting::Foreign(..) => false,
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
