//! The simulated server (cores, mesh, sockets), its clients, and what befalls them.

mod acts;
mod calls;
mod calm;
mod changes;
mod client;
mod cores;
mod faults;
mod handler;
mod protobuf;
mod reader;
mod socket;

pub(crate) use faults::{Coverage, Fault};

use changes::Doing;
use client::Client;
use handler::Handler;
use ringhub_hub::effect::CloseHow;
use ringhub_hub::{Hub, Limits, MeshItem, RequestId, SocketKey, Time};
use ringhub_protocol::name::{GroupName, HubName};
use socket::Socket;
use std::collections::BTreeMap;

/// SplitMix64: a seed is a whole run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// What a run is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Faults without an end, bounds so small that they are reached, and cores that stop in the middle: nothing
    /// that is seen may ever be wrong, and what was stopped is empty.
    Safety,
    /// Faults that end: from then on everything must come right in a bounded number of rounds.
    Liveness,
}

#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) cores: usize,
    pub(crate) clients: usize,
    pub(crate) groups: usize,
    /// Whether some messages have a time to live.
    pub(crate) expiry: bool,
}

/// One direction between two cores: a ring that holds one batch, and what waits for room.
#[derive(Default)]
struct Link {
    ring: Option<Vec<(usize, MeshItem)>>,
    outgoing: Vec<(usize, MeshItem)>,
    /// Nothing is carried before this step.
    stalled_until: u64,
}

/// Batches larger than this stop the admission of new input.
const OUTGOING_MAX: usize = 6;
const HUBS: usize = 2;

/// Of sessions, in the hubs' clock; a tick of that is up to two seconds mostly, and longer than this now and then.
const RECOVERY_WINDOW_MS: u64 = 30_000;

struct Core {
    hubs: Vec<Hub>,
    /// Bytes on their way to clients, by socket slot; the generation counts reuse.
    sockets: Vec<Socket>,
    /// Sockets that end with the next flush.
    closing: Vec<(SocketKey, CloseHow)>,
    /// It does nothing before this step.
    asleep_until: u64,
    stopped: bool,
    is_short_of_memory: bool,
    limits: Limits,
}

/// The REST caller: one call at a time, so its publications have one order.
struct Caller {
    busy: Option<(RequestId, Doing)>,
    sent: u64,
}

/// What a run has shown, summed up over runs.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    /// Messages that were checked.
    pub(crate) deliveries: u64,
    /// Flushes that left a fan-out unfinished.
    pub(crate) sliced: u64,
    /// Messages dropped because their time was over.
    pub(crate) expired: u64,
    /// Questions of the hubs that were answered.
    pub(crate) answered: u64,
    /// Frames that were deflated, and messages that are so large that they are never copied.
    pub(crate) inflated: u64,
    pub(crate) large: u64,
    /// Simulated time without the jumps, and the jumps, in milliseconds.
    pub(crate) ticked_ms: u64,
    pub(crate) jumped_ms: u64,
    /// Most rounds that anything took to come right.
    pub(crate) rounds: usize,
    pub(crate) coverage: Coverage,
    /// How often each of [`DEEDS`] was done.
    pub(crate) deeds: BTreeMap<&'static str, u64>,
}

/// What clients, applications and the server do besides joining, leaving and sending; every run of some length has had
/// all of it.
pub(crate) const DEEDS: [&str; 12] = [
    "add to group",
    "cancel",
    "change groups",
    "check",
    "close",
    "grant",
    "invoke",
    "known to be out",
    "ping",
    "remove from all groups",
    "remove from group",
    "revoke",
];

impl Tally {
    fn note(&mut self, deed: &'static str) {
        *self.deeds.entry(deed).or_default() += 1;
    }

    pub(crate) fn add(&mut self, run: &Self) {
        self.operations += run.operations;
        self.deliveries += run.deliveries;
        self.sliced += run.sliced;
        self.expired += run.expired;
        self.answered += run.answered;
        self.ticked_ms += run.ticked_ms;
        self.jumped_ms += run.jumped_ms;
        self.rounds = self.rounds.max(run.rounds);
        self.coverage.add(&run.coverage);
        self.inflated += run.inflated;
        self.large += run.large;
        run.deeds.iter().for_each(|(deed, count)| *self.deeds.entry(deed).or_default() += count);
    }
}

pub(crate) struct World {
    setup: Setup,
    mode: Mode,
    random: Random,
    now: Time,
    cores: Vec<Core>,
    links: Vec<Vec<Link>>,
    clients: Vec<Client>,
    callers: Vec<Caller>,
    handler: Handler,
    next_request: u64,
    /// Most bytes a plain socket keeps.
    outbox_max: usize,
    /// A hub and a group somebody was put into just now: to be published to at once.
    changed: Option<(usize, usize)>,
    /// The faults are over.
    calm: bool,
    /// Nobody comes any more.
    leaving: bool,
    pub(crate) tally: Tally,
}

impl World {
    pub(crate) fn new(setup: Setup, mode: Mode, seed: u64) -> Self {
        // The name is in it, or the first draws of all setups would be the same.
        let mut random =
            Random(setup.name.bytes().fold(seed, |all, byte| all.wrapping_mul(131) + u64::from(byte)));
        let limits = limits(&mut random, mode);
        let outbox_max = if random.below(3) == 0 { 60 } else { usize::MAX };
        let core = |core: usize| Core {
            hubs: (0..HUBS).map(|hub| new_hub(setup, core, hub, seed, limits)).collect(),
            sockets: Vec::new(),
            closing: Vec::new(),
            asleep_until: 0,
            stopped: false,
            is_short_of_memory: false,
            limits,
        };
        let links = (0..setup.cores).map(|_| (0..setup.cores).map(|_| Link::default()).collect());
        Self {
            setup,
            mode,
            random,
            now: Time(1),
            cores: (0..setup.cores).map(core).collect(),
            links: links.collect(),
            clients: (0..setup.clients).map(|n| Client::new(n, setup.groups)).collect(),
            callers: (0..HUBS).map(|_| Caller { busy: None, sent: 0 }).collect(),
            handler: Handler::default(),
            next_request: 0,
            outbox_max,
            changed: None,
            calm: false,
            leaving: false,
            tally: Tally::default(),
        }
    }

    /// One thing happens somewhere.
    pub(crate) fn step(&mut self) {
        self.tally.operations += 1;
        let (cores, clients) = (self.setup.cores, self.setup.clients);
        if let Some((hub, group)) = self.changed.take() {
            return self.publish_at_once(hub, group);
        }
        match self.random.below(100) {
            0..38 => {
                let client = self.random.below(clients);
                self.act(client);
            }
            38..40 => self.strike(),
            40..60 => {
                let (from, to) = (self.random.below(cores), self.random.below(cores));
                self.carry(from, to);
            }
            60..78 => {
                let client = self.random.below(clients);
                self.read(client);
            }
            78..86 => {
                let core = self.random.below(cores);
                self.flush(core);
            }
            86..90 => self.answer(),
            90..92 => self.tick(),
            92..94 => {
                let core = self.random.below(cores);
                self.timeouts(core);
            }
            _ => {
                let hub = self.random.below(HUBS);
                self.call(hub);
            }
        }
    }

    /// Time goes by: mostly a moment, sometimes more than a session waits for its client.
    fn tick(&mut self) {
        let most = if self.random.below(6) == 0 { 90_000 } else { 2_000 };
        let ms = self.random.next() % most;
        self.now = Time(self.now.0 + ms);
        self.tally.ticked_ms += ms;
    }
}

/// Each bound is small in some runs: in all of them nobody would live long.
fn limits(random: &mut Random, mode: Mode) -> Limits {
    let mut limits = Limits {
        recovery_window_ms: RECOVERY_WINDOW_MS,
        recovery_grace_ms: 200,
        replay_messages_max: 100_000,
        events_waiting_max: 1 + random.below(3),
        // Some are worth it and some are not.
        deflate_bytes_min: [1, 1, 300, 10_000][random.below(4)],
        ..Limits::default()
    };
    if random.below(4) == 0 {
        limits.recovery_window_ms = RECOVERY_WINDOW_MS / 10;
    }
    if random.below(4) == 0 {
        limits.replay_messages_max = 10;
    }
    if random.below(4) == 0 {
        limits.replay_bytes_max = 1_000;
    }
    if random.below(4) == 0 {
        limits.control_bytes_max = 100;
    }
    if mode == Mode::Safety {
        if random.below(6) == 0 {
            limits.connections_max = 1 + random.below(3);
        }
        if random.below(3) == 0 {
            limits.lifetime_ms = 2 * RECOVERY_WINDOW_MS;
        }
        if random.below(3) == 0 {
            limits.departed_bytes_max = 300;
        }
    }
    limits
}

fn new_hub(setup: Setup, core: usize, hub: usize, seed: u64, limits: Limits) -> Hub {
    let name = HubName::parse(&format!("h{hub}")).unwrap();
    let core = ringhub_hub::CoreId(core as u16);
    let mut hub = Hub::new(name, core, setup.cores as u16, seed, limits, Box::new(|_| "token".into()));
    hub.set_routes(Some(Handler::routes()));
    hub
}

fn name(group: usize) -> GroupName<'static> {
    GroupName::parse(format!("g{group}")).unwrap()
}
