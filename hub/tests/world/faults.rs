//! What goes wrong, and how often it did.

use super::client::Phase;
use super::{HUBS, Mode, World, limits};
use ringhub_hub::{Input, Time};
use ringhub_protocol::ws::CloseCode;
use std::fmt;

/// Kinds of faults. Some are ordered ([`World::strike`]), others come of small bounds and of the clients' own acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A socket is gone without a close frame.
    SocketLost,
    /// A client closed without a code.
    UncleanClose,
    /// A client came back while its old socket looked alive.
    Takeover,
    /// A client came back.
    Recovery,
    /// It came back too late.
    RecoveryRefused,
    /// A socket took only part of what it was given.
    ShortSend,
    /// A client read nothing for a long time.
    SlowReader,
    /// A plain client's outbox was over its bound.
    OutboxFull,
    /// A reliable client's log, or what its socket was to be told beside messages, was.
    LogFull,
    /// A core admitted no input because its batches were over their bound.
    MeshFull,
    /// Nothing was carried between two cores for a long time.
    MeshStalled,
    /// A core did nothing for a long time.
    CoreAsleep,
    /// Hours passed at once.
    ClockJump,
    /// Hours passed at once, and every socket was lost in them.
    Suspend,
    /// The event handler answered nothing for a long time.
    HandlerDeaf,
    /// It failed.
    HandlerFailed,
    /// A client broke the protocol.
    BrokenRule,
    /// A client sent more than it may.
    Throttled,
    /// The server drained, and a client's turn came.
    Drained,
    /// Memory was short, and an open client was given up because much waited for it.
    ShedOpen,
    /// The same, and the client had lost its socket.
    ShedLost,
    /// A core was short of memory for a while.
    ShortOfMemory,
    /// A publication was refused because of that.
    PublicationRefused,
    /// A core got other limits.
    LimitsChanged,
    /// A connection was refused at a bound.
    ConnectRefused,
    /// A connection had lasted as long as it may.
    LifetimeOver,
    /// A core stopped in the middle.
    Stop,
    /// What the handler was still asked after a stop was given up.
    GivenUp,
}

impl Fault {
    const ALL: [Self; 28] = [
        Self::SocketLost,
        Self::UncleanClose,
        Self::Takeover,
        Self::Recovery,
        Self::RecoveryRefused,
        Self::ShortSend,
        Self::SlowReader,
        Self::OutboxFull,
        Self::LogFull,
        Self::MeshFull,
        Self::MeshStalled,
        Self::CoreAsleep,
        Self::ClockJump,
        Self::Suspend,
        Self::HandlerDeaf,
        Self::HandlerFailed,
        Self::BrokenRule,
        Self::Throttled,
        Self::Drained,
        Self::ShedOpen,
        Self::ShedLost,
        Self::ShortOfMemory,
        Self::PublicationRefused,
        Self::LimitsChanged,
        Self::ConnectRefused,
        Self::LifetimeOver,
        Self::Stop,
        Self::GivenUp,
    ];

    /// Whether runs of this kind must have had it.
    fn is_due(self, mode: Mode, cores: usize) -> bool {
        match self {
            Self::MeshFull | Self::MeshStalled => cores > 1,
            Self::ConnectRefused | Self::LifetimeOver | Self::Stop | Self::GivenUp => mode == Mode::Safety,
            _ => true,
        }
    }
}

/// How often each fault happened.
#[derive(Default)]
pub(crate) struct Coverage([u64; Fault::ALL.len()]);

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// The kinds that runs of `mode` should have had and did not.
    pub(crate) fn missing(&self, mode: Mode, cores: usize) -> Vec<Fault> {
        let due = Fault::ALL.into_iter().filter(|fault| fault.is_due(mode, cores));
        due.filter(|fault| self.0[*fault as usize] == 0).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = Fault::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0);
        let words: Vec<String> = counted.map(|(fault, count)| format!("{fault:?} {count}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// How many steps a lasting fault lasts at most.
const LASTS_MAX: usize = 300;

/// How far the clock jumps at most: half a day.
const JUMP_MAX_MS: u64 = 12 * 3_600_000;

impl World {
    pub(super) fn note(&mut self, fault: Fault) {
        self.tally.coverage.0[fault as usize] += 1;
    }

    /// Something breaks, somewhere.
    pub(super) fn strike(&mut self) {
        let until = self.tally.operations + self.random.below(LASTS_MAX) as u64;
        let (cores, clients) = (self.setup.cores, self.setup.clients);
        if self.random.below(3) == 0 {
            (0..cores).for_each(|core| self.set_short_of_memory(core, false));
        }
        match self.random.below(if self.mode == Mode::Safety { 100 } else { 90 }) {
            0..20 => {
                let client = self.random.below(clients);
                self.clients[client].deaf_until = until;
                self.note(Fault::SlowReader);
            }
            20..35 if cores > 1 => {
                let (from, to) = (self.random.below(cores), self.random.below(cores));
                self.links[from][to].stalled_until = until;
                self.note(Fault::MeshStalled);
            }
            35..50 => {
                let core = self.random.below(cores);
                self.cores[core].asleep_until = until;
                self.note(Fault::CoreAsleep);
            }
            50..60 => {
                self.handler.deaf_until = until;
                self.note(Fault::HandlerDeaf);
            }
            60..63 => self.jump(),
            63..65 => self.suspend(),
            65..75 => self.misbehave(),
            // Like a switch that restarts: a part of all sockets at once.
            75..80 => {
                for client in 0..clients {
                    if self.clients[client].phase == Phase::Open && self.random.below(2) == 0 {
                        self.drop_socket(client);
                    }
                }
            }
            80..82 => self.drain(),
            82..85 => self.shed(),
            85..87 => {
                let core = self.random.below(cores);
                self.set_short_of_memory(core, true);
            }
            87..90 => {
                let core = self.random.below(cores);
                let limits = limits(&mut self.random, self.mode);
                self.note(Fault::LimitsChanged);
                self.cores[core].limits = limits;
                self.cores[core].hubs.iter_mut().for_each(|hub| hub.set_limits(limits));
            }
            90..92 => {
                let core = self.random.below(cores);
                self.stop(core);
            }
            _ => {}
        }
    }

    fn jump(&mut self) {
        let ms = 3_600_000 + self.random.next() % (JUMP_MAX_MS - 3_600_000);
        self.now = Time(self.now.0 + ms);
        self.tally.jumped_ms += ms;
        self.note(Fault::ClockJump);
    }

    fn suspend(&mut self) {
        self.jump();
        self.note(Fault::Suspend);
        for client in 0..self.clients.len() {
            if self.clients[client].phase == Phase::Open {
                self.drop_socket(client);
            }
        }
    }

    /// A client does what it must not, and is closed for it.
    fn misbehave(&mut self) {
        let client = self.random.below(self.setup.clients);
        let who = &self.clients[client];
        if who.phase != Phase::Open || !self.admits(who.core) {
            return;
        }
        let (core, hub, transport) = (who.core, who.hub, who.transport.expect("open"));
        if self.random.below(2) == 0 {
            self.note(Fault::BrokenRule);
            self.feed(core, hub, Input::Fault(transport, CloseCode::PROTOCOL_ERROR, "broken"));
        } else {
            self.note(Fault::Throttled);
            self.feed(core, hub, Input::Throttled(transport));
        }
    }

    /// The server drains: one client, whoever it is, is told to go elsewhere.
    fn drain(&mut self) {
        let client = self.somebody(Phase::Open);
        let who = &self.clients[client];
        if let (Some(transport), true) = (who.transport, self.admits(who.core)) {
            let (core, hub) = (who.core, who.hub);
            self.feed(core, hub, Input::Drain(transport));
        }
    }

    /// Memory is short, and somebody for whom much waits has to go: one with a socket or without. One that is gone
    /// already changes nothing.
    fn shed(&mut self) {
        let client = match self.random.below(5) {
            0 => self.random.below(self.setup.clients),
            1 | 2 => self.somebody(Phase::Lost),
            _ => self.somebody(Phase::Open),
        };
        let who = &self.clients[client];
        let (core, hub) = (who.core, who.hub);
        let Some(key) = who.connection.filter(|_| self.admits(core)) else { return };
        let is_there = self.cores[core].hubs[hub].subprotocol(key).is_some();
        if is_there {
            let id = self.cores[core].hubs[hub].connections(key.slot, 1)[0].id;
            self.handler.shed(id);
        }
        let before = self.cores[core].hubs[hub].counters().connections;
        self.feed(core, hub, Input::Shed(key));
        let gone = before - self.cores[core].hubs[hub].counters().connections;
        assert_eq!(gone, u64::from(is_there), "the one that was meant goes and nobody else");
    }

    /// Somebody in that phase, or somebody else if nobody is.
    fn somebody(&mut self, phase: Phase) -> usize {
        let (first, all) = (self.random.below(self.setup.clients), self.setup.clients);
        let mut order = (first..all).chain(0..first);
        order.find(|&client| self.clients[client].phase == phase).unwrap_or(first)
    }

    pub(super) fn set_short_of_memory(&mut self, core: usize, is_short: bool) {
        if is_short {
            self.note(Fault::ShortOfMemory);
        }
        self.cores[core].is_short_of_memory = is_short;
        self.cores[core].hubs.iter_mut().for_each(|hub| hub.set_short_of_memory(is_short));
    }

    /// One core stops; the others go on.
    pub(super) fn stop(&mut self, core: usize) {
        if !std::mem::replace(&mut self.cores[core].stopped, true) {
            self.note(Fault::Stop);
            (0..HUBS).for_each(|hub| self.feed(core, hub, Input::Stop));
        }
    }
}
