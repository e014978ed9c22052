//! The simulated server (cores, mesh, sockets) and its clients.

mod client;

use bytes::Bytes;
use client::{Client, Phase};
use ringhub_hub::{
    Answer, Connect, ConnectionId, CoreId, Effect, Effects, Hub, Input, Limits, MeshItem, Part, Recover, RequestId, Sink,
    SocketKey, Time, Transport,
};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::CloseCode;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// SplitMix64: a seed is a whole run.
pub struct Random(u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[derive(Clone, Copy)]
pub struct Setup {
    pub cores: usize,
    pub clients: usize,
    pub groups: usize,
}

/// One direction between two cores: a ring that holds one batch, and what waits for room.
#[derive(Default)]
struct Link {
    ring: Option<Vec<(usize, MeshItem)>>,
    outgoing: Vec<(usize, MeshItem)>,
}

/// Batches larger than this stop the admission of new input.
const OUTGOING_MAX: usize = 6;
const HUBS: usize = 2;

struct Core {
    hubs: Vec<Hub>,
    /// Bytes on their way to clients, by socket slot; the generation counts reuse.
    sockets: Vec<Socket>,
}

#[derive(Default)]
struct Socket {
    generation: u32,
    client: Option<usize>,
    /// In the client's hands when it reads.
    wire: VecDeque<u8>,
    /// What the socket did not take.
    kept: VecDeque<u8>,
    closing: bool,
}

/// The REST caller: one call at a time, so its publications have one order.
struct Caller {
    busy: Option<RequestId>,
    sent: u64,
}

pub struct World {
    setup: Setup,
    random: Random,
    now: Time,
    cores: Vec<Core>,
    links: Vec<Vec<Link>>,
    clients: Vec<Client>,
    callers: Vec<Caller>,
    next_request: u64,
    pub deliveries: u64,
    pub operations: u64,
}

struct Writer<'a> {
    sockets: &'a mut [Socket],
    sent: Vec<usize>,
}

impl Sink for Writer<'_> {
    fn shared(&mut self, bytes: &Bytes, sockets: &[SocketKey]) {
        for key in sockets {
            self.write(*key, bytes);
        }
    }

    fn each(&mut self, bytes: &Bytes, parts: &[Part]) {
        for part in parts {
            self.write(part.socket, &bytes[part.start as usize..part.end as usize]);
        }
    }
}

impl Writer<'_> {
    fn write(&mut self, key: SocketKey, bytes: &[u8]) {
        let socket = &mut self.sockets[key.slot as usize];
        if socket.generation == key.generation {
            socket.kept.extend(bytes);
            self.sent.push(key.slot as usize);
        }
    }
}

impl World {
    pub fn new(setup: Setup, seed: u64) -> Self {
        let limits = Limits { recovery_window_ms: 300, recovery_grace_ms: 20, replay_messages_max: 100_000, ..Limits::default() };
        let cores = (0..setup.cores).map(|core| Core {
            hubs: (0..HUBS)
                .map(|hub| {
                    let name = HubName::parse(&format!("h{hub}")).unwrap();
                    Hub::new(name, CoreId(core as u16), setup.cores as u16, seed, limits, Box::new(|_| "token".into()))
                })
                .collect(),
            sockets: Vec::new(),
        });
        let links = (0..setup.cores).map(|_| (0..setup.cores).map(|_| Link::default()).collect());
        Self {
            setup,
            random: Random(seed),
            now: Time(1),
            cores: cores.collect(),
            links: links.collect(),
            clients: (0..setup.clients).map(|n| Client::new(n, setup.groups)).collect(),
            callers: (0..HUBS).map(|_| Caller { busy: None, sent: 0 }).collect(),
            next_request: 0,
            deliveries: 0,
            operations: 0,
        }
    }

    pub fn step(&mut self) {
        self.operations += 1;
        let (cores, clients) = (self.setup.cores, self.setup.clients);
        match self.random.below(100) {
            0..40 => self.act(self.clients[0].index * 0 + 0, None),
            40..60 => {
                let (from, to) = (self.random.below(cores), self.random.below(cores));
                self.carry(from, to);
            }
            60..80 => {
                let client = self.random.below(clients);
                self.read(client);
            }
            80..90 => {
                let core = self.random.below(cores);
                self.flush(core);
            }
            90..93 => self.now = Time(self.now.0 + self.random.next() % 20),
            93..96 => {
                let core = self.random.below(cores);
                self.timeouts(core);
            }
            _ => {
                let hub = self.random.below(HUBS);
                self.call(hub);
            }
        }
    }
}
