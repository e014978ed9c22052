//! The first bytes of a socket: a WebSocket upgrade, or HTTP.

use crate::core::doors::Room;
use crate::core::host::Mode;
use crate::core::hubs::request_of;
use crate::core::mesh::{Moved, Note, Session};
use crate::core::socket::{Echo, Kind, Socket, Unread};
use crate::core::turn::Core;
use crate::net::gate::{Admission, Admitted, UpgradeRequest};
use crate::net::http::{write_error, write_fault};
use crate::net::patience::{Awaits, Http};
use crate::net::peer::{Named, Via};
use crate::net::{HttpAnswer, HttpCall, Listener, OwnedContent, Refused};
use ringhub_hub::effect::Introduction;
use ringhub_hub::{Arrival, Connect, Input, Pass, Recover, SHORT_OF_MEMORY, SocketKey};
use ringhub_protocol::forwarded;
use ringhub_protocol::http::{Head, HeadLimits, parse_head};
use ringhub_protocol::name::HubName;
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_protocol::ws::extension::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use ringhub_protocol::ws::handshake::{Upgrade, write_accept};
use ringhub_protocol::ws::{Decoder, DeflateOffer};
use std::os::fd::AsRawFd;

/// Progress an HTTP handler may make at one go; a handler that makes more is broken.
const PROGRESS_MAX: usize = 1000;

/// What a request head asks for, with everything that borrows from it resolved.
enum Asked {
    More,
    Http,
    /// The head is at fault.
    Refuse {
        response: Vec<u8>,
    },
    /// It is a sound upgrade, which is refused.
    TurnAway(ErrorBody),
    Echo {
        prologue: Vec<u8>,
        consumed: usize,
        deflate: Option<DeflateOffer>,
    },
    Connect {
        admitted: Box<Admitted>,
        introduction: Option<Box<Introduction>>,
        prologue: Vec<u8>,
        consumed: usize,
        deflate: Option<DeflateOffer>,
    },
    Recover {
        session: Session,
        prologue: Vec<u8>,
        consumed: usize,
    },
    RecoverBad {
        prologue: Vec<u8>,
    },
}

impl Core {
    /// Bytes of a socket whose head is not complete.
    pub(crate) fn head_input(&mut self, key: SocketKey, bytes: &[u8]) {
        if let Some(socket) = self.io.sockets.get(key) {
            socket.unread.get_or_insert_default().push(bytes);
            self.read_head(key);
        }
    }

    /// Looks whether the head of a socket is complete, and what it asks for.
    pub(crate) fn read_head(&mut self, key: SocketKey) {
        let Some(socket) = self.io.sockets.get(key) else { return };
        let Some(mut unread) = socket.unread.take() else { return };
        let listener = socket.listener;
        match self.examine(key, &unread, listener) {
            Asked::More => {
                if let Some(socket) = self.io.sockets.get(key) {
                    socket.unread = Some(unread);
                    self.io.arm(key);
                }
            }
            Asked::Http => {
                let handler = self.http.open(self.id, listener, self.via(key));
                if let Some(socket) = self.io.sockets.get(key) {
                    socket.kind = Kind::Http(Http::new(handler, self.now));
                    self.http_input(key, &unread);
                }
            }
            Asked::Refuse { response } => {
                self.io.shared.counters.heads_refused.add(1);
                self.io.send(key, response.into());
                self.io.finish(key);
            }
            Asked::TurnAway(body) => self.refuse(key, &body),
            Asked::Echo { prologue, consumed, deflate } => {
                self.io.send(key, prologue.into());
                unread.advance(consumed);
                if let Some(socket) = self.io.sockets.get(key) {
                    let decoder = if deflate.is_some() { Decoder::deflated() } else { Decoder::new() };
                    let window_bits = deflate.map(DeflateOffer::window_bits);
                    socket.kind = Kind::Echo(Echo { decoder, window_bits });
                    socket.unread = (!unread.is_empty()).then_some(unread);
                    self.io.bound(key);
                    self.io.deadlines.clear(key.slot);
                    self.resume.push_back(key);
                }
            }
            Asked::Connect { admitted, introduction, prologue, consumed, deflate } => {
                unread.advance(consumed);
                self.open(key, *unread);
                self.connect(key, *admitted, introduction, prologue, deflate);
            }
            Asked::Recover { session, prologue, consumed } => {
                unread.advance(consumed);
                self.recover(key, session, prologue, *unread);
            }
            Asked::RecoverBad { prologue } => self.refuse_recovery(key, prologue),
        }
    }

    /// Pure but for the gate's verdict: reads the head in `unread`.
    fn examine(&self, key: SocketKey, unread: &[u8], listener: Listener) -> Asked {
        let limits = HeadLimits { head_bytes_max: self.settings.sockets.head_bytes_max };
        let head = match parse_head(unread, &limits) {
            Ok(Some(head)) => head,
            Ok(None) => return Asked::More,
            Err(fault) => return refusal(fault.status, &[], fault.reason),
        };
        if listener == Listener::Admin {
            return Asked::Http;
        }
        let request = match head.upgrade() {
            Upgrade::NotUpgrade => return Asked::Http,
            Upgrade::Upgrade(request) => request,
            Upgrade::Refused(fault) => return refusal(fault.status, fault.extra_headers(), fault.reason),
        };
        let accept = |echoed: Option<&str>, deflate| {
            let mut prologue = Vec::with_capacity(512);
            write_accept(&mut prologue, request.key, echoed, deflate);
            prologue
        };
        // What is deflated is shared, so all have the largest window; who asks for a smaller one goes without.
        let deflate = |hub: &HubName| {
            let is_on = self.settings.hub(hub).compression;
            DeflateOffer::choose(&request.deflate, WINDOW_BITS_MAX).filter(|_| is_on)
        };
        let consumed = head.consumed;
        if !self.has_room_for(key) {
            let message = "The server has no room for more connections.";
            return Asked::TurnAway(ErrorBody::new(ErrorCode::ServiceUnavailable, message));
        }
        if self.mode == Mode::Echo {
            let deflate = DeflateOffer::choose(&request.deflate, WINDOW_BITS_MIN);
            let prologue = accept(request.subprotocols.first().copied(), deflate);
            return Asked::Echo { prologue, consumed, deflate };
        }
        let asked = self.upgrade_request(key, &head, &request.subprotocols);
        match self.gate.admit(self.clock.unix(), &asked) {
            Admission::Connect(admitted) => {
                let introduction = self.introduce(key, &head, &request, &asked, &admitted);
                // A hub that asks first writes it itself.
                let asks = introduction.as_ref().is_some_and(|introduction| introduction.question.is_some());
                let deflate = deflate(&admitted.hub);
                let prologue = if asks { Vec::new() } else { accept(admitted.echoed.as_deref(), deflate) };
                Asked::Connect { admitted, introduction, prologue, consumed, deflate }
            }
            Admission::Recover { hub, id, subprotocol, echoed } => {
                let deflate = deflate(&hub);
                let address = asked.address;
                let session = Session { hub, id, subprotocol, address, deflate: deflate.is_some() };
                Asked::Recover { session, prologue: accept(echoed.as_deref(), deflate), consumed }
            }
            Admission::RecoverBad { echoed } => {
                Asked::RecoverBad { prologue: accept(echoed.as_deref(), None) }
            }
            Admission::Refuse(body) => Asked::TurnAway(body),
        }
    }

    /// Whether this socket may become a client's: there are descriptors left, and it was not one too many, or is none any
    /// more.
    fn has_room_for(&self, key: SocketKey) -> bool {
        let has_room = self.io.sockets.peek(key).is_some_and(|socket| {
            self.room(socket.fd.as_raw_fd()) == Room::Everybody
                && !(socket.surplus && self.io.sockets.len() > self.settings.sockets.sockets_max)
        });
        self.io.shared.counters.upgrades_without_room.add(u64::from(!has_room));
        has_room
    }

    /// What the gate is asked, by a head that passed the strict check.
    fn upgrade_request<'a>(
        &self,
        key: SocketKey,
        head: &Head<'a>,
        subprotocols: &'a [&'a str],
    ) -> UpgradeRequest<'a> {
        let proxies = &self.settings.proxies;
        let peer = self.peer(key);
        let via = Via { from_proxy: peer.is_some_and(|peer| proxies.trust(peer)), secure: false };
        let host = head.header("host").unwrap_or_default();
        let last =
            |name: &str| head.header_values(name).last().and_then(|value| std::str::from_utf8(value).ok());
        let address = peer.map(|peer| {
            let values: Vec<&[u8]> =
                if via.from_proxy { head.header_values("x-forwarded-for").collect() } else { Vec::new() };
            forwarded::client_address(&values, peer, |address| proxies.trust(address))
        });
        let mut origins = head.header_values("origin");
        let origin = origins.next().map(|origin| match origins.next() {
            None => std::str::from_utf8(origin).unwrap_or_default(),
            Some(_) => "",
        });
        UpgradeRequest {
            target: head.target,
            host,
            authorization: head.header("authorization"),
            forwarded_host: Named::new(via, host, last).forwarded_host,
            origin,
            address,
            subprotocols,
        }
    }

    /// From now on the socket waits for its hub.
    fn open(&mut self, key: SocketKey, unread: Unread) {
        if let Some(socket) = self.io.sockets.get(key) {
            socket.kind = Kind::Opening;
            socket.unread = (!unread.is_empty()).then(|| Box::new(unread));
            self.io.deadlines.clear(key.slot);
        }
    }

    fn connect(
        &mut self,
        key: SocketKey,
        admitted: Admitted,
        introduction: Option<Box<Introduction>>,
        prologue: Vec<u8>,
        deflate: Option<DeflateOffer>,
    ) {
        let Admitted { hub, subprotocol, echoed: _, user, roles, groups, raw_group, address, pass } =
            admitted;
        let arrival = Arrival { address, pass: pass.map(|pass| pass as Pass) };
        let refusal = |message| ErrorBody::new(ErrorCode::ServiceUnavailable, message);
        if self.is_leaving() {
            return self.refuse(key, &refusal("The server is shutting down."));
        }
        if self.short_of_memory {
            self.io.shared.counters.memory_upgrades_refused.add(1);
            return self.refuse(key, &refusal(SHORT_OF_MEMORY));
        }
        let Some(hub) = self.hub(&hub) else {
            return self.refuse(key, &refusal("The server takes no more hubs."));
        };
        let random = self.clock.random();
        let connect = Connect {
            socket: key,
            subprotocol,
            random,
            prologue,
            user,
            roles,
            groups,
            raw_group,
            arrival,
            introduction,
            deflate,
        };
        self.feed(hub, Input::Connect(Box::new(connect)));
    }

    /// Gives a client to the core that has its session.
    fn recover(&mut self, key: SocketKey, session: Session, prologue: Vec<u8>, unread: Unread) {
        let id = session.id;
        if id.node != 0 || id.core.0 >= self.mesh.cores() {
            return self.refuse_recovery(key, prologue);
        }
        if id.core == self.id {
            self.open(key, unread);
            return self.recover_here(key, session, prologue);
        }
        // What holds it back (the rest of an answer to an earlier request) is rare: the client tries again.
        let Some(Socket { fd, tls, listener, .. }) = self.io.release(key) else { return self.io.kill(key) };
        let moved = Moved { fd, unread, tls, listener, session, prologue };
        self.mesh.tell(id.core, Note::Socket(Box::new(moved)));
    }

    /// A socket another core gave to this one.
    pub(crate) fn take_over(&mut self, moved: Moved) {
        let Moved { fd, unread, tls, listener, session, prologue } = moved;
        let key = self.io.adopt(Socket { tls, ..Socket::new(fd, listener) });
        self.io.shared.counters.sockets_moved_in.add(1);
        self.open(key, unread);
        self.recover_here(key, session, prologue);
    }

    fn recover_here(&mut self, key: SocketKey, session: Session, prologue: Vec<u8>) {
        let Session { hub, id, subprotocol, address, deflate } = session;
        let Some(hub) = self.hub(&hub).filter(|_| !self.is_stopping()) else {
            return self.refuse_recovery(key, prologue);
        };
        let recover = Recover { socket: key, id, subprotocol, address, prologue, deflate };
        self.feed(hub, Input::Recover(Box::new(recover)));
    }

    /// Bytes of an HTTP connection.
    pub(crate) fn http_input(&mut self, key: SocketKey, bytes: &[u8]) {
        if let Some(socket) = self.io.sockets.get(key)
            && let Kind::Http(http) = &mut socket.kind
        {
            http.handler.feed(bytes);
            self.http_progress(key);
        }
    }

    /// The answer to an HTTP connection's call.
    pub(crate) fn http_answer(&mut self, key: SocketKey, answer: HttpAnswer) {
        if let Some(socket) = self.io.sockets.get(key)
            && let Kind::Http(http) = &mut socket.kind
        {
            http.handler.answer(answer);
            self.http_progress(key);
        }
    }

    /// Goes on with an HTTP connection as far as its peer takes the answers.
    pub(crate) fn http_progress(&mut self, key: SocketKey) {
        for _ in 0..PROGRESS_MAX {
            let (unix, epoch, slow) = (self.clock.unix(), self.io.epoch(), self.io.is_slow(key));
            let Some(socket) = self.io.sockets.get(key) else { return };
            let ended = socket.ended;
            if slow {
                // Called again when it has taken what waits.
                return;
            }
            let Kind::Http(http) = &mut socket.kind else { return };
            if http.has_said_enough(epoch) {
                self.io.shared.counters.http_answers_held.add(1);
                // Called again in the next turn: then it shows whether the peer took it.
                return self.resume.push_back(key);
            }
            let progress = http.handler.poll(unix);
            http.answered(epoch, progress.output.len());
            if let Some(refused) = progress.refused {
                let counters = &self.io.shared.counters;
                match refused {
                    Refused::Head => &counters.heads_refused,
                    Refused::Body => &counters.bodies_refused,
                    Refused::Upgrade => &counters.upgrades_refused,
                }
                .add(1);
            }
            if progress.refusals > 0 {
                self.io.shared.counters.http_requests_refused.add(progress.refusals);
            }
            let deadline = http.deadline(self.now, &self.settings.sockets);
            let awaits = http.handler.stage().awaits;
            self.io.deadlines.set(key.slot, deadline);
            let idle = progress.output.is_empty() && progress.call.is_none() && progress.upgrade.is_none();
            self.io.send(key, progress.output);
            if let Some(call) = progress.call {
                self.io.shared.counters.http_requests.add(1);
                // The answer comes by `answers`, in this turn or a later one.
                return self.call(key, call);
            }
            if let Some(unread) = progress.upgrade {
                if let Some(socket) = self.io.sockets.get(key) {
                    socket.kind = Kind::Head;
                    socket.unread = Some(Box::new(unread.into()));
                    self.resume.push_back(key);
                }
                return;
            }
            if progress.close {
                return self.io.finish(key);
            }
            if idle {
                // Of a peer that has said all, nothing more can be awaited.
                let over = ended && awaits != Awaits::Answer;
                if over || (self.is_stopping() && awaits == Awaits::Request) {
                    self.io.finish(key);
                } else {
                    self.io.arm(key);
                }
                return;
            }
        }
        debug_assert!(false, "an HTTP handler makes progress without end");
        self.io.kill(key);
    }

    /// The peer took too long over what it has begun.
    pub(crate) fn time_out(&mut self, key: SocketKey) {
        let mut response = Vec::new();
        write_fault(&mut response, 408, &[], "the request did not come in time");
        self.io.send(key, response.into());
        self.io.finish(key);
        self.io.set_close_deadline(key);
    }

    /// There is no memory for the rest of what the peer has begun.
    pub(crate) fn give_up_request(&mut self, key: SocketKey) {
        let mut response = Vec::new();
        write_error(&mut response, &ErrorBody::new(ErrorCode::ServiceUnavailable, SHORT_OF_MEMORY));
        self.io.send(key, response.into());
        self.io.finish(key);
        self.io.set_close_deadline(key);
    }

    fn call(&mut self, key: SocketKey, call: HttpCall) {
        match call {
            HttpCall::Operation { hub, operation, body } => match self.hub(&hub) {
                Some(hub) => {
                    let content = body.as_ref().map(OwnedContent::content);
                    self.feed(hub, Input::Operation(request_of(key), &operation, content));
                }
                None => self.answers.push_back((key, HttpAnswer::HubsFull)),
            },
            HttpCall::Connections(max) => {
                let request = request_of(key).0;
                let page = self.connection_page(max);
                let missing = self.mesh.cores() - 1;
                for core in self.mesh.others() {
                    self.mesh.tell(core, Note::AskConnections { request, max });
                }
                self.pages.insert(request, (Vec::new(), missing + 1));
                self.connections_page(request, page);
            }
        }
    }
}

fn refusal(status: u16, headers: &[(&'static str, &'static str)], reason: &str) -> Asked {
    let mut response = Vec::new();
    write_fault(&mut response, status, headers, reason);
    Asked::Refuse { response }
}
