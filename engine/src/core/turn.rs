//! The loop of one core. A turn: submit, settle, and wait if there is nothing to do → outcomes and closes of
//! the last turn → completions → who comes and goes → mesh → timers → answers → who waited → who was put off → flush →
//! batches to other cores.
//!
//! What must stay true: sends of a turn are submitted before anything the turn decided to close is closed;
//! the mesh is drained every turn; input of sockets is taken only while [`Mesh::admits`]; the core waits only
//! when nothing is left to do, and has said so before its last look (rule 4).

use crate::certificates::TlsConfigStore;
use crate::core::counters::{ConnectionPage, CoreShared};
use crate::core::doorway::{Doorway, Leave};
use crate::core::drain::Drain;
use crate::core::host::Mode;
use crate::core::hubs::Hubs;
use crate::core::io::{Io, Outcome, PAUSE_MS};
use crate::core::line::Line;
use crate::core::mesh::{Mesh, Note};
use crate::core::receive::Received;
use crate::core::ring::{Completion, Op, Ring};
use crate::core::settings::Settings;
use crate::core::socket::{End, Kind, Socket};
use crate::net::accept::Door;
use crate::net::gate::Gate;
use crate::net::tls::FailureClass;
use crate::net::{HttpAnswer, HttpFactory};
use arc_swap::ArcSwap;
use ringhub_hub::effect::CloseCategory;
use ringhub_hub::{CloseHow, CoreId, Effects, Input, SharedDeflater, SocketKey, Time, Transport};
use ringhub_protocol::ws::frame::write_frame;
use ringhub_protocol::ws::{Inflater, Opcode};
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Input bytes, inflated ones too, after which a turn is flushed early, so that its log stays bounded.
pub(super) const TURN_BYTES: usize = 256 << 10;
/// Goes in one turn at what clients said beyond their first.
pub(super) const GOES_MAX: usize = 32;
/// Longest wait while a batch has no room at its receiver.
const STUCK_WAIT: Duration = Duration::from_millis(1);
/// A turn that takes longer is counted, in milliseconds (`turns_long` says this figure).
const TURN_LONG_MS: u64 = 10;
/// How often hubs' counters are copied out, in milliseconds.
const SNAPSHOT_MS: u64 = 1000;
/// How long a stop waits for sockets it has cut.
const CUT_MS: u64 = 1000;

/// Who was heard since the last flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nobody,
    One(SocketKey),
    /// More than one.
    Others,
}

/// What one thread owns.
pub(crate) struct Core {
    pub(crate) id: CoreId,
    pub(crate) mode: Mode,
    /// Settings as they are now, and as of this turn.
    pub(crate) live: Arc<ArcSwap<Settings>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) http: Arc<dyn HttpFactory>,
    /// What handshakes use, if a listener speaks TLS.
    pub(crate) tls: Option<Arc<TlsConfigStore>>,
    pub(crate) io: Io,
    pub(crate) mesh: Mesh,
    pub(crate) line: Line,
    pub(crate) hubs: Hubs,
    pub(crate) clock: Clock,
    /// The time of this turn.
    pub(crate) now: Time,
    pub(crate) hash_seed: u64,
    /// Reused.
    pub(crate) effects: Effects,
    /// Sockets to end once this turn's sends are submitted.
    pub(crate) closing: Vec<(SocketKey, CloseHow)>,
    /// Answers for HTTP connections.
    pub(crate) answers: VecDeque<(SocketKey, HttpAnswer)>,
    /// Sockets with unread input to take in.
    pub(crate) resume: VecDeque<SocketKey>,
    /// Clients that said more than they are heard at one go; who was heard longest ago is first.
    pub(crate) put_off: VecDeque<SocketKey>,
    /// Clients whose socket went while they were opened.
    pub(crate) late_losses: Vec<(u32, Transport)>,
    /// Lists of connections being collected: parts so far, cores to come.
    pub(crate) pages: HashMap<u64, (Vec<ConnectionPage>, u16)>,
    /// How a lost socket is to be counted, while its loss is fed to a hub.
    pub(crate) lost_as: Option<(CloseCategory, &'static str)>,
    pub(crate) listeners: Vec<Door>,
    /// Who came and who left, and waits for that to be seen to.
    pub(crate) doorway: Doorway,
    /// What clients deflated is read with, one message at a time.
    pub(crate) inflater: Inflater,
    /// What is deflated for clients, by all hubs.
    pub(crate) deflater: SharedDeflater,
    /// What a TLS socket just said, in plain. Reused.
    pub(crate) plain: Vec<u8>,
    /// Listeners to be armed, and when.
    pub(crate) accept_at: Vec<(u32, Time)>,
    /// A client is to be read no more from; looked at while its input is taken.
    pub(crate) holding: bool,
    /// Counts goes, and wraps: in each a client is heard so many frames. All that comes in at the front of a turn is one.
    pub(crate) go: u32,
    bell: UnixStream,
    /// When to listen to the bell again, after that could not be.
    bell_at: Option<Time>,
    pub(crate) turn_bytes: usize,
    /// Who said what the next flush is about.
    pub(crate) heard: Heard,
    snapshot_at: Time,
    /// The last look at memory that was heeded.
    pub(crate) pressure_look: u64,
    /// What it said: new work is refused.
    pub(crate) short_of_memory: bool,
    /// Clients that are not read from until the next one.
    pub(crate) slowed: Vec<SocketKey>,
    /// There once the server drains.
    pub(crate) drain: Option<Drain>,
    pub(crate) stopping: Option<Time>,
    due: Vec<u32>,
}

/// What a core is made of.
pub(crate) struct CoreParts {
    pub(crate) id: CoreId,
    pub(crate) mode: Mode,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) http: Arc<dyn HttpFactory>,
    pub(crate) tls: Option<Arc<TlsConfigStore>>,
    pub(crate) mesh: Mesh,
    pub(crate) line: Line,
    pub(crate) shared: Arc<CoreShared>,
    pub(crate) listeners: Vec<Door>,
    pub(crate) bell: UnixStream,
    pub(crate) started: Instant,
    pub(crate) hash_seed: u64,
}

/// Time and randomness, the two things hubs get as arguments.
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    fn now(&self) -> Time {
        Time(self.started.elapsed().as_millis() as u64)
    }

    /// Seconds since 1970.
    pub(crate) fn unix(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// 128 bits of the system's random source.
    pub(crate) fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system's random source works once the system is up");
        u128::from_ne_bytes(bytes)
    }
}

impl Core {
    /// A core on the calling thread, which must be the one that runs it.
    pub(crate) fn new(parts: CoreParts) -> std::io::Result<Self> {
        let settings = parts.settings.load_full();
        let ring = Ring::new(&settings.ring)?;
        parts.mesh.publish(&ring);
        let clock = Clock { started: parts.started };
        let now = clock.now();
        Ok(Self {
            io: Io::new(ring, settings.sockets, parts.shared),
            id: parts.id,
            mode: parts.mode,
            live: parts.settings,
            settings,
            gate: parts.gate,
            http: parts.http,
            tls: parts.tls,
            mesh: parts.mesh,
            line: parts.line,
            hubs: Hubs::default(),
            clock,
            now,
            hash_seed: parts.hash_seed,
            effects: Effects::new(),
            closing: Vec::new(),
            answers: VecDeque::new(),
            resume: VecDeque::new(),
            put_off: VecDeque::new(),
            late_losses: Vec::new(),
            pages: HashMap::new(),
            lost_as: None,
            accept_at: (0..parts.listeners.len() as u32).map(|listener| (listener, now)).collect(),
            listeners: parts.listeners,
            doorway: Doorway::default(),
            inflater: Inflater::default(),
            deflater: SharedDeflater::default(),
            plain: Vec::new(),
            holding: false,
            go: 0,
            bell: parts.bell,
            bell_at: None,
            turn_bytes: 0,
            heard: Heard::Nobody,
            snapshot_at: now,
            pressure_look: 0,
            short_of_memory: false,
            slowed: Vec::new(),
            drain: None,
            stopping: None,
            due: Vec::new(),
        })
    }

    /// Runs until the server stops.
    pub(crate) fn run(mut self) {
        self.io.ring.poll_bell(self.bell.as_raw_fd());
        loop {
            let wait =
                !self.has_work() && self.mesh.may_sleep(self.is_stopping(), || !self.line.has_answers());
            let timeout = if wait {
                let now = self.clock.now();
                self.watch(now);
                self.timeout(now)
            } else {
                None
            };
            self.io.submit(wait, timeout);
            self.mesh.awake();
            let now = self.clock.now();
            if !wait {
                self.watch(now);
            }
            self.now = now;
            self.io.now = self.now;
            if self.turn() {
                return self.empty_the_doorway();
            }
        }
    }

    fn has_work(&self) -> bool {
        self.io.has_work()
            || !self.closing.is_empty()
            || !self.answers.is_empty()
            || !self.hubs.dirty.is_empty()
            || !self.late_losses.is_empty()
            || !self.doorway.is_empty()
            || (!(self.resume.is_empty() && self.put_off.is_empty()) && self.admits())
            || self.accept_at.iter().any(|(_, at)| *at <= self.now)
            || self.is_done()
    }

    /// Counts the turn that has just ended if it took so long that clients felt it. The waiting between two turns is
    /// not asked about; nor, where a turn is followed by one, are the sends that the kernel makes before it waits, for
    /// one call does both.
    fn watch(&self, now: Time) {
        if now.0 - self.now.0 > TURN_LONG_MS {
            self.io.shared.counters.turns_long.add(1);
        }
    }

    /// How long the core may wait from `now` on.
    fn timeout(&self, now: Time) -> Option<Duration> {
        let accept = self.accept_at.iter().map(|(_, at)| *at).min();
        let snapshot = (!self.hubs.slots.is_empty()).then_some(self.snapshot_at);
        let drain = self.drain.as_ref().map(Drain::next);
        let stop = self.stopping.map(|until| if self.now < until { until } else { until.after_ms(CUT_MS) });
        let resume = self.io.next_resume();
        let (hubs, sockets) = (self.hubs.next_timeout(), self.io.deadlines.next());
        let times = [sockets, resume, hubs, accept, self.bell_at, drain, stop, snapshot];
        let next = times.into_iter().flatten().min();
        // Rounded up: waking a little early would mean waking twice.
        let wait = next.map(|at| Duration::from_millis((at.0 + 1).saturating_sub(now.0)));
        if self.mesh.is_stuck() || self.line.is_stuck() {
            Some(wait.map_or(STUCK_WAIT, |wait| wait.min(STUCK_WAIT)))
        } else {
            wait
        }
    }

    /// Everything after the submit; true when the core is done.
    pub(super) fn turn(&mut self) -> bool {
        self.io.shared.counters.turns.add(1);
        self.go = self.go.wrapping_add(1);
        if self.doorway.was_used() {
            self.io.ring.take_more();
        }
        self.turn_bytes = 0;
        self.hubs.begin_turn();
        self.take_settings();
        self.close_sockets();
        // Whom it ends is told in this turn, and closed in the next.
        self.heed_pressure();
        self.take_outcomes();
        // Those that come to wait in this turn have had their share of it.
        let (waiting, have_waited) = (self.resume.len(), !self.put_off.is_empty());
        // What comes in meanwhile is for the next turn: a busy source must not keep timers waiting.
        for _ in 0..self.io.ring.completions() {
            if let Some(completion) = self.io.ring.next() {
                self.complete(completion);
                self.flush_early();
            }
        }
        self.mind_the_doorway();
        for _ in 0..self.mesh.batches_max() {
            let Some((from, batch)) = self.mesh.receive() else { break };
            for note in batch {
                self.take_note(from, note);
            }
            self.flush_early();
        }
        self.take_answers();
        self.expire();
        while let Some((key, answer)) = self.answers.pop_front() {
            self.http_answer(key, answer);
        }
        self.take_up(waiting);
        self.hear_on(have_waited);
        self.flush();
        self.io.shared.counters.events_unsent.set(self.line.unsent() as u64);
        self.io.shared.counters.submissions_full.set(self.io.ring.full);
        self.io.shared.counters.completions_overflowed.set(self.io.ring.overflows);
        // Those of single sockets are in the counter already.
        self.io.shared.counters.requests_without_memory.add(std::mem::take(&mut self.io.ring.starved));
        self.arm_listeners();
        if self.bell_at.take_if(|at| *at <= self.now).is_some() {
            self.io.ring.poll_bell(self.bell.as_raw_fd());
        }
        if self.is_stopping() && self.io.sockets.len() == 0 {
            self.mesh.say_empty();
        }
        self.is_done()
    }

    /// Whether the core has stopped: everybody is gone, from other cores too, for a call that came in there may need
    /// this one's answer; and everything is said. Event handlers may take until the stop's deadline with what clients
    /// had asked; then nobody is waited for.
    fn is_done(&self) -> bool {
        let Some(until) = self.stopping else { return false };
        let awaits_replies = || self.hubs.slots.iter().any(|slot| slot.hub.awaits_replies());
        let is_said = || {
            let is_stuck = self.mesh.is_stuck() || self.line.is_stuck();
            self.mesh.all_empty() && !is_stuck && !awaits_replies()
        };
        self.io.sockets.len() == 0 && (self.now >= until || is_said())
    }

    /// Ends the turn in the middle if it grew large.
    pub(crate) fn flush_early(&mut self) {
        if self.turn_bytes >= TURN_BYTES {
            self.io.shared.counters.turns_flushed_early.add(1);
            self.flush();
            self.io.submit_early();
        }
    }

    /// What the turn has done so far is on its way with the next submit.
    fn flush(&mut self) {
        (self.turn_bytes, self.heard) = (0, Heard::Nobody);
        self.flush_hubs();
        self.mesh.send(&mut self.io.ring);
        self.line.send();
    }

    /// Takes up what waits, of so many sockets.
    fn take_up(&mut self, waiting: usize) {
        for _ in 0..waiting {
            if !self.admits() {
                return;
            }
            let Some(key) = self.resume.pop_front() else { return };
            self.resume_input(key);
            self.flush_early();
        }
    }

    /// Hears who was put off, one go after another until somebody else has something to say: who sends much and is alone
    /// is heard in one turn. If there was anybody when the turn began, the first has a go even so.
    fn hear_on(&mut self, have_waited: bool) {
        if self.put_off.is_empty() {
            return;
        }
        // What others are owed does not wait for it, nor does what they say next.
        self.flush();
        self.io.arm_all();
        self.io.submit_early();
        for go in 0..GOES_MAX {
            let is_kept = go == 0 && have_waited;
            if self.put_off.is_empty() || !self.admits() || (!is_kept && self.others_wait(None)) {
                return;
            }
            self.hear_next();
            self.flush_early();
        }
    }

    /// Whether anybody beside the socket in this slot has come or left who is not seen to yet, waits for the next submit,
    /// or has said something that is not heard yet.
    pub(super) fn others_wait(&mut self, beside: Option<u32>) -> bool {
        if !self.doorway.is_empty() || self.io.has_sealed() {
            return true;
        }
        let ring = &mut self.io.ring;
        let do_wait = |ring: &Ring| ring.has_news(beside) || !self.mesh.is_empty() || self.line.has_answers();
        do_wait(ring) || (ring.take_some() && do_wait(ring))
    }

    fn complete(&mut self, completion: Completion) {
        match completion.op {
            Op::Accept if self.is_seen_to_at_once(&completion) => self.accept(completion),
            Op::Accept => self.doorway.comes(completion),
            Op::Receive => match self.io.received(&completion) {
                Received::Bytes(key, mut buffer) => {
                    self.raw_input(key, &mut buffer);
                    self.io.recycle(buffer);
                    self.io.rearm(key);
                }
                Received::End(key) => self.doorway.leaves(key, Leave::Ended),
                Received::Lost(key) => self.doorway.leaves(key, Leave::Lost),
                Received::Later => {}
                Received::Nothing => {
                    let key = self.io.sockets.key(completion.slot);
                    self.io.rearm(key);
                }
            },
            Op::Write => self.io.written(&completion),
            Op::Cancel => self.io.cancelled(&completion),
            Op::Bell if completion.result() < 0 => self.bell_at = Some(self.now.after_ms(PAUSE_MS)),
            Op::Bell => self.bell_rang(),
            Op::Doorbell => self.mesh.ring_bell(completion.slot),
            Op::Send => unreachable!("the ring keeps these to itself"),
        }
    }

    fn bell_rang(&mut self) {
        let mut rung = [0; 64];
        // Less than would fit is all there was.
        while matches!(self.bell.read(&mut rung), Ok(64)) {}
        self.heed();
        self.io.ring.poll_bell(self.bell.as_raw_fd());
    }

    // Ends.

    /// The peer is done sending.
    pub(crate) fn ended(&mut self, key: SocketKey) {
        let Some(socket) = self.io.sockets.get(key) else { return };
        match &socket.kind {
            // Its answer, or its unread input, is still to come.
            Kind::Http(_) => self.http_progress(key),
            Kind::Client(_) if socket.unread.is_some() => {}
            Kind::Closing(_) if socket.end == End::Finish => {}
            _ => self.lost(key),
        }
    }

    /// The socket is gone.
    pub(crate) fn lost(&mut self, key: SocketKey) {
        if let Some(Socket { kind: Kind::Client(client), .. }) = self.io.sockets.get(key) {
            let (hub, connection) = (client.hub, client.connection);
            self.forget_client(key);
            self.feed(hub, Input::SocketLost(Transport { connection, socket: key }));
        }
        self.io.kill(key);
    }

    /// The socket is no client's any more.
    fn forget_client(&mut self, key: SocketKey) {
        if let Some(socket) = self.io.sockets.get(key)
            && let Kind::Client(client) = &mut socket.kind
        {
            let decoder = std::mem::take(&mut client.decoder);
            socket.kind = Kind::Closing(Some(decoder));
            self.io.shared.counters.websockets.sub(1);
        }
    }

    /// Nothing that the client says is listened to any more, and what it has said in part is let go.
    pub(crate) fn hear_no_more(&mut self, key: SocketKey) {
        self.forget_client(key);
        if let Some(socket) = self.io.sockets.get(key) {
            socket.kind = Kind::Closing(None);
        }
    }

    /// Ends the sockets the last turn decided to end; its sends are submitted.
    fn close_sockets(&mut self) {
        for (key, how) in std::mem::take(&mut self.closing) {
            self.forget_client(key);
            let Some(socket) = self.io.sockets.get(key) else { continue };
            match how {
                CloseHow::Handshake if matches!(socket.kind, Kind::Closing(None)) => {
                    self.io.set_close_deadline(key);
                    self.io.finish(key);
                }
                CloseHow::Handshake => {
                    socket.end = socket.end.max(End::Handshake);
                    let unread = socket.unread.take();
                    self.io.set_close_deadline(key);
                    if let Some(mut unread) = unread {
                        self.closing_input(key, &mut unread);
                    }
                    // Its end was put off for what was parked.
                    match self.io.sockets.get(key) {
                        Some(socket) if socket.ended => self.ended(key),
                        _ => self.io.arm(key),
                    }
                }
                CloseHow::Finish => {
                    self.io.set_close_deadline(key);
                    self.io.farewell(key);
                }
                CloseHow::Abort => self.io.abort(key),
            }
        }
        for (hub, transport) in std::mem::take(&mut self.late_losses) {
            self.feed(hub, Input::SocketLost(transport));
        }
    }

    /// What sockets did that their owners must know.
    fn take_outcomes(&mut self) {
        for (key, outcome) in std::mem::take(&mut self.io.outcomes) {
            let Some(socket) = self.io.sockets.get(key) else { continue };
            let is_http = matches!(socket.kind, Kind::Http(_));
            let client = match &socket.kind {
                Kind::Client(client) => {
                    Some((client.hub, Transport { connection: client.connection, socket: key }))
                }
                _ => None,
            };
            match (outcome, client) {
                (Outcome::Lost, _) => self.doorway.leaves(key, Leave::Lost),
                (Outcome::Congested, Some((hub, from))) => self.feed(hub, Input::Congested(from)),
                (Outcome::Writable, Some((hub, from))) => self.feed(hub, Input::Writable(from)),
                (Outcome::Slow, Some((hub, from))) => {
                    self.io.shared.counters.slow_consumers.add(1);
                    self.feed(hub, Input::SlowConsumer(from));
                }
                (Outcome::Slow, None) => self.io.abort(key),
                (Outcome::Writable, None) if is_http => self.http_progress(key),
                (Outcome::Writable, None) => self.io.arm(key),
                (Outcome::Congested, None) => {}
            }
        }
    }

    // Time.

    fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.io.deadlines.expire(self.now, &mut due);
        for slot in due.drain(..) {
            let key = self.io.sockets.key(slot);
            self.deadline(key);
        }
        self.due = due;
        self.time_out_hubs();
        if self.now >= self.snapshot_at && !self.hubs.slots.is_empty() {
            self.snapshot_at = self.now.after_ms(SNAPSHOT_MS);
            let rows = self.hubs.slots.iter().map(|slot| (slot.hub.name().clone(), *slot.hub.counters()));
            let mut hubs = self.io.shared.hubs.lock().expect("no panic is survived here");
            hubs.clear();
            hubs.extend(rows);
        }
        self.heed();
        self.go_on_draining();
        if self.stopping.is_some_and(|until| until <= self.now) {
            for hub in 0..self.hubs.slots.len() as u32 {
                if self.hubs.slots[hub as usize].hub.awaits_replies() {
                    self.feed(hub, Input::GiveUp);
                }
            }
            for key in self.io.sockets.keys() {
                self.io.abort(key);
            }
            // What cannot be closed within a second is left to the end of the process. The core ends in this turn, so
            // that no completion looks for what is gone.
            if self.stopping.is_some_and(|until| until.after_ms(CUT_MS) <= self.now) {
                for key in self.io.sockets.keys() {
                    drop(self.io.sockets.remove(key.slot));
                }
            }
        }
    }

    pub(super) fn deadline(&mut self, key: SocketKey) {
        let Some(socket) = self.io.sockets.get(key) else { return };
        match &mut socket.kind {
            Kind::Client(client) => {
                // Nobody hears the answers of one that is not read from, or has not got so far.
                client.heard |= client.is_paused() || socket.unread.is_some();
                let missed = client.pings_missed + u8::from(!client.heard);
                let (hub, connection, heard) = (client.hub, client.connection, client.heard);
                client.pings_missed = missed;
                client.heard = false;
                let from = Transport { connection, socket: key };
                if !heard && missed > self.settings.sockets.pings_missed_max {
                    self.io.shared.counters.ping_timeouts.add(1);
                    self.lost_as =
                        Some((CloseCategory::PingTimeout, "The client did not answer keep-alive pings."));
                    self.forget_client(key);
                    self.feed(hub, Input::SocketLost(from));
                    self.lost_as = None;
                    self.io.abort(key);
                } else {
                    let mut ping = Vec::with_capacity(2);
                    write_frame(&mut ping, Opcode::Ping, b"");
                    self.feed(hub, Input::Control(from, &ping));
                    let keepalive_ms = self.hubs.slots[hub as usize].keepalive_ms;
                    self.io.deadlines.set(key.slot, self.now.after_ms(keepalive_ms));
                }
            }
            Kind::Http(http) if http.awaits_peer() => {
                let counters = &self.io.shared.counters;
                if http.awaits_body() { &counters.bodies_refused } else { &counters.heads_refused }.add(1);
                self.time_out(key);
            }
            Kind::Head if socket.unread.is_some() => {
                self.io.shared.counters.heads_refused.add(1);
                self.time_out(key);
            }
            // It has said nothing that could be answered.
            Kind::Proxy | Kind::Head => {
                let counters = &self.io.shared.counters;
                // Browsers open some that they may never need.
                let is_silent = socket.unread.is_none();
                if is_silent { &counters.sockets_silent } else { &counters.heads_refused }.add(1);
                self.io.handshake_failed(key, FailureClass::Timeout);
                self.io.kill(key);
            }
            Kind::Opening | Kind::Echo(_) => {}
            Kind::Http(_) | Kind::Closing(_) => self.io.kill(key),
        }
    }

    // Other cores.

    fn take_note(&mut self, from: CoreId, note: Note) {
        match note {
            Note::Hub(name, items) => {
                let hub = self.mesh_hub(&name);
                for item in items {
                    self.turn_bytes += item.bytes();
                    self.feed(hub, Input::Mesh(from, item));
                }
            }
            Note::Socket(moved) => self.take_over(*moved),
            Note::AskConnections { request, max } => {
                let page = self.connection_page(max);
                self.mesh.tell(from, Note::Connections { request, page });
            }
            Note::Connections { request, page } => self.connections_page(request, page),
        }
    }

    /// This core's part of the list of connections.
    pub(crate) fn connection_page(&self, max: usize) -> ConnectionPage {
        let mut rows = Vec::new();
        for slot in &self.hubs.slots {
            let name = slot.hub.name();
            let more = slot.hub.connections(0, max - rows.len());
            rows.extend(more.into_iter().map(|row| (name.clone(), row)));
        }
        ConnectionPage { rows, now: self.now }
    }

    /// One core's part of a list has come.
    pub(crate) fn connections_page(&mut self, request: u64, page: ConnectionPage) {
        let Some((pages, missing)) = self.pages.get_mut(&request) else { return };
        pages.push(page);
        *missing -= 1;
        if *missing == 0 {
            let (pages, _) = self.pages.remove(&request).expect("it was just there");
            let key = crate::core::hubs::socket_of(ringhub_hub::RequestId(request));
            self.answers.push_back((key, HttpAnswer::Connections(pages)));
        }
    }
}
