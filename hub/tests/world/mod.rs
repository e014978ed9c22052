//! The simulated server (cores, mesh, sockets) and its clients.

mod client;
mod handler;
mod protobuf;

use client::{Asked, Byte, Client, Member, Phase};
use handler::Handler;
use ringhub_hub::effect::{Introduction, Question, RefusedBy};
use ringhub_hub::{
    Budget, Chunk, Connect, CoreId, Effect, Effects, Hub, Input, Limits, MeshItem, Outbox, Part, Recover,
    RequestId, Sink, SocketKey, Time, Transport,
};
use ringhub_protocol::name::{EventName, GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::rest::{Filter, Operation, Target};
use ringhub_protocol::ws::{CloseCode, DeflateOffer, Inflater};
use std::collections::VecDeque;

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

#[derive(Clone, Copy)]
pub(crate) struct Setup {
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
    wire: VecDeque<Byte>,
    /// What the socket did not take.
    kept: Outbox,
    congested: bool,
}

impl Socket {
    /// The socket takes so many bytes of what was kept.
    fn take(&mut self, bytes: usize, taken: Time, waited: bool) {
        let kept = self.kept.chunks().flat_map(|chunk| chunk.iter().copied());
        self.wire.extend(kept.take(bytes).map(|value| Byte { value, taken, waited }));
        self.kept.advance(bytes);
    }
}

/// The REST caller: one call at a time, so its publications have one order.
struct Caller {
    busy: Option<RequestId>,
    sent: u64,
}

pub(crate) struct World {
    setup: Setup,
    random: Random,
    now: Time,
    cores: Vec<Core>,
    links: Vec<Vec<Link>>,
    clients: Vec<Client>,
    callers: Vec<Caller>,
    pub(crate) handler: Handler,
    next_request: u64,
    pub(crate) deliveries: u64,
    pub(crate) operations: u64,
    /// Flushes that left a fan-out unfinished.
    pub(crate) sliced: u64,
    /// Messages dropped because their time was over.
    pub(crate) expired: u64,
}

struct Writer<'a> {
    sockets: &'a mut [Socket],
    sent: Vec<usize>,
}

impl Sink for Writer<'_> {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        for key in sockets {
            self.write(*key, bytes.clone());
        }
    }

    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        for part in parts {
            self.write(part.socket, bytes.slice(part.start as usize..part.end as usize));
        }
    }
}

impl Writer<'_> {
    fn write(&mut self, key: SocketKey, bytes: Chunk) {
        let socket = &mut self.sockets[key.slot as usize];
        if socket.generation == key.generation {
            socket.kept.push(bytes, usize::MAX);
            self.sent.push(key.slot as usize);
        }
    }
}

impl World {
    pub(crate) fn new(setup: Setup, seed: u64) -> Self {
        let limits = Limits {
            recovery_window_ms: 3_000,
            recovery_grace_ms: 200,
            replay_messages_max: 100_000,
            events_waiting_max: 3,
            // Some are worth it and some are not.
            deflate_bytes_min: 1,
            ..Limits::default()
        };
        let cores = (0..setup.cores).map(|core| Core {
            hubs: (0..HUBS)
                .map(|hub| {
                    let name = HubName::parse(&format!("h{hub}")).unwrap();
                    let mut hub = Hub::new(
                        name,
                        CoreId(core as u16),
                        setup.cores as u16,
                        seed,
                        limits,
                        Box::new(|_| "token".into()),
                    );
                    hub.set_routes(Some(Handler::routes()));
                    hub
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
            handler: Handler::default(),
            next_request: 0,
            deliveries: 0,
            operations: 0,
            sliced: 0,
            expired: 0,
        }
    }

    pub(crate) fn step(&mut self) {
        self.operations += 1;
        let (cores, clients) = (self.setup.cores, self.setup.clients);
        match self.random.below(100) {
            0..40 => {
                let client = self.random.below(clients);
                self.act(client);
            }
            40..60 => {
                let (from, to) = (self.random.below(cores), self.random.below(cores));
                self.carry(from, to);
            }
            60..80 => {
                let client = self.random.below(clients);
                self.read(client);
            }
            80..88 => {
                let core = self.random.below(cores);
                self.flush(core);
            }
            88..92 => self.answer(),
            92..94 => self.now = Time(self.now.0 + self.random.next() % 200),
            94..96 => {
                let core = self.random.below(cores);
                self.timeouts(core);
            }
            _ => {
                let hub = self.random.below(HUBS);
                self.call(hub);
            }
        }
    }

    /// Everything under way arrives; then everyone leaves, and nothing may be left.
    pub(crate) fn finish(&mut self) {
        self.settle();
        for client in &self.clients {
            if client.phase == Phase::Open {
                assert!(client.asked.is_empty(), "client {}: not answered: {:?}", client.index, client.asked);
                let owed: Vec<_> = client.owed.iter().filter(|(_, owed)| !owed.is_empty()).collect();
                assert!(
                    owed.is_empty(),
                    "client {} {:?}: not delivered: {owed:?}",
                    client.index,
                    client.subprotocol
                );
            }
        }
        for caller in &self.callers {
            assert!(caller.busy.is_none(), "a REST call was not answered");
        }
        for client in 0..self.clients.len() {
            if self.clients[client].phase == Phase::Open {
                self.close(client, Some(CloseCode::NORMAL));
            }
        }
        self.now = Time(self.now.0 + 10_000);
        self.settle();
        for core in 0..self.cores.len() {
            for hub in &self.cores[core].hubs {
                assert_eq!((hub.counters().connections, hub.counters().suspended), (0, 0));
                self.sliced += hub.counters().flushes_sliced;
                self.expired += hub.counters().messages_expired;
                assert_eq!(hub.group_counts(), (0, 0), "groups are left");
                assert!(!hub.is_dirty() && hub.next_timeout().is_none() && !hub.awaits_replies());
            }
        }
        self.handler.finish();
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            for core in 0..self.cores.len() {
                self.timeouts(core);
                self.flush(core);
                for to in 0..self.cores.len() {
                    self.carry(core, to);
                }
            }
            (0..self.clients.len()).for_each(|client| self.read(client));
            (0..self.clients.len()).for_each(|_| self.answer());
        }
    }
}

/// What clients do.
impl World {
    fn act(&mut self, client: usize) {
        let core = self.clients[client].core;
        match self.clients[client].phase {
            Phase::Away => {
                self.clients[client].core = self.random.below(self.setup.cores);
                self.connect(client);
            }
            Phase::Connecting => {}
            Phase::Lost => {
                if self.random.below(3) == 0 {
                    self.recover(client);
                }
            }
            Phase::Open if !self.admits(core) => {}
            Phase::Open => match self.random.below(20) {
                0 => self.drop_socket(client),
                1 => {
                    let code = [Some(CloseCode::NORMAL), None][self.random.below(2)];
                    self.close(client, code);
                }
                // The newest socket wins even if the old one is open.
                2 if self.clients[client].subprotocol.is_reliable() => {
                    let old = self.clients[client].socket.expect("open");
                    let old = &mut self.cores[core].sockets[old.slot as usize];
                    (old.client, old.generation) = (None, old.generation + 1);
                    self.clients[client].lose_socket();
                    self.recover(client);
                }
                3..7 => self.ask(client, true),
                7..9 => self.ask(client, false),
                9 => {
                    let sequence = self.clients[client].sequence;
                    self.clients[client].acknowledged = sequence;
                    self.say(client, ClientMessage::SequenceAck { sequence_id: sequence });
                }
                10..13 if !self.clients[client].held => self.say_event(client),
                _ => self.publish(client),
            },
        }
    }

    /// New input is admitted only while no outgoing batch is over its bound.
    fn admits(&self, core: usize) -> bool {
        self.links[core].iter().all(|link| link.outgoing.len() < OUTGOING_MAX)
    }

    fn open_socket(&mut self, client: usize) -> SocketKey {
        let core = self.clients[client].core;
        let sockets = &mut self.cores[core].sockets;
        let free = sockets.iter().position(|socket| socket.client.is_none());
        let slot = free.unwrap_or_else(|| {
            sockets.push(Socket::default());
            sockets.len() - 1
        });
        let generation = sockets[slot].generation + 1;
        sockets[slot] = Socket { generation, client: Some(client), ..Socket::default() };
        let key = SocketKey { slot: slot as u32, generation };
        self.clients[client].socket = Some(key);
        key
    }

    fn connect(&mut self, client: usize) {
        let socket = self.open_socket(client);
        let random = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let with_group = self.random.below(3) == 0;
        let deflate = (self.random.below(2) == 0).then(DeflateOffer::default);
        let who = &mut self.clients[client];
        who.phase = Phase::Connecting;
        let group = (who.forbidden + 1) % who.groups.len();
        let mut groups = Vec::new();
        if with_group {
            who.groups[group] = Member::Joining;
            groups.push(name(group));
        }
        let roles = (0..who.groups.len()).filter(|g| *g != who.forbidden).flat_map(|g| {
            [format!("webpubsub.joinLeaveGroup.g{g}").into(), format!("webpubsub.sendToGroup.g{g}").into()]
        });
        let connect = Connect {
            socket,
            subprotocol: who.subprotocol,
            random,
            prologue: if who.index.is_multiple_of(2) { Vec::new() } else { b"\x81\x01@".to_vec() },
            user: who.has_user().then(|| UserId::parse("u").unwrap()),
            roles: roles.collect(),
            groups,
            raw_group: (who.subprotocol == Subprotocol::Raw).then(|| (name(group), false)),
            arrival: Default::default(),
            introduction: who.index.is_multiple_of(2).then(introduction),
            deflate,
        };
        let (core, hub) = (who.core, who.hub);
        self.feed(core, hub, Input::Connect(Box::new(connect)));
    }

    fn recover(&mut self, client: usize) {
        // The socket lands anywhere; the id says which core it is handed to.
        let id = self.clients[client].id.expect("it was open");
        assert_eq!(usize::from(id.core.0), self.clients[client].core);
        let socket = self.open_socket(client);
        self.clients[client].phase = Phase::Connecting;
        let (core, hub) = (self.clients[client].core, self.clients[client].hub);
        let subprotocol = self.clients[client].subprotocol;
        let prologue = b"\x81\x01@".to_vec();
        let deflate = self.random.below(2) == 0;
        let recover = Recover { socket, id, subprotocol, address: None, prologue, deflate };
        self.feed(core, hub, Input::Recover(Box::new(recover)));
    }

    fn drop_socket(&mut self, client: usize) {
        let who = &mut self.clients[client];
        let transport = who.transport.expect("open");
        let (core, hub) = (who.core, who.hub);
        self.cores[core].sockets[transport.socket.slot as usize].client = None;
        self.cores[core].sockets[transport.socket.slot as usize].generation += 1;
        self.after_loss(client);
        self.feed(core, hub, Input::SocketLost(transport));
    }

    fn close(&mut self, client: usize, code: Option<CloseCode>) {
        let who = &mut self.clients[client];
        let transport = who.transport.expect("open");
        let (core, hub) = (who.core, who.hub);
        if code.is_some() {
            self.clients[client].reset();
        } else {
            self.after_loss(client);
        }
        self.feed(core, hub, Input::ClientClose(transport, code));
    }

    fn after_loss(&mut self, client: usize) {
        let who = &mut self.clients[client];
        if who.subprotocol.is_reliable() {
            who.lose_socket();
            who.phase = Phase::Lost;
        } else {
            who.reset();
        }
    }

    fn ask(&mut self, client: usize, join: bool) {
        let group = self.random.below(self.setup.groups);
        let who = &mut self.clients[client];
        if who.subprotocol == Subprotocol::Raw {
            return;
        }
        who.next_ack += 1;
        let ack_id = Some(who.next_ack);
        if join {
            who.asked.insert(who.next_ack, Asked::Join(group));
            if who.groups[group] == Member::No || who.groups[group] == Member::Leaving {
                who.groups[group] = Member::Joining;
            }
            self.say(client, ClientMessage::JoinGroup { group: name(group), ack_id });
        } else {
            who.asked.insert(who.next_ack, Asked::Leave(group));
            who.groups[group] = Member::Leaving;
            // What is under way from other cores may miss it.
            who.owed.clear();
            self.say(client, ClientMessage::LeaveGroup { group: name(group), ack_id });
        }
    }

    /// The seconds a message is to live, and when that ends; 0 for most.
    fn ttl(&mut self) -> (u32, u64) {
        if !self.setup.expiry || self.random.below(3) > 0 {
            return (0, 0);
        }
        let seconds = 1 + self.random.below(3) as u32;
        (seconds, self.now.0 + 1_000 * u64::from(seconds))
    }

    fn publish(&mut self, client: usize) {
        let group = self.random.below(self.setup.groups);
        let (mut ttl_seconds, mut until) = self.ttl();
        let no_echo = self.random.below(4) == 0;
        let who = &mut self.clients[client];
        let raw = who.subprotocol == Subprotocol::Raw;
        if raw {
            (ttl_seconds, until) = (0, 0);
        }
        let group = if raw { (who.forbidden + 1) % who.groups.len() } else { group };
        let text = if group == who.forbidden {
            format!("h{} denied", who.hub)
        } else {
            who.published += 1;
            format!("h{} g{group} p{} {} t{until}", who.hub, who.publisher(), who.published)
        };
        // What expires may arrive.
        if group != who.forbidden && ttl_seconds == 0 {
            let (hub, publisher, number) = (who.hub, who.publisher(), who.published);
            self.owe(hub, Some(group), publisher, number, (no_echo && !raw).then_some(client), "all");
        }
        let who = &mut self.clients[client];
        if raw {
            let (core, hub, transport) = (who.core, who.hub, who.transport.expect("open"));
            return self.feed(core, hub, Input::Raw(transport, Data::text(&text)));
        }
        who.next_ack += 1;
        let ack_id = Some(who.next_ack);
        who.asked.insert(who.next_ack, Asked::Send);
        let data = Data::text(&text);
        self.say(
            client,
            ClientMessage::SendToGroup {
                group: name(group),
                ack_id,
                no_echo,
                data,
                metadata: None,
                ttl_seconds,
            },
        );
    }

    /// Every acknowledged member must get this.
    fn owe(
        &mut self,
        hub: usize,
        group: Option<usize>,
        publisher: usize,
        number: u64,
        except: Option<usize>,
        chosen: &str,
    ) {
        for who in self.clients.iter_mut().filter(|who| who.hub == hub && Some(who.index) != except) {
            let open = matches!(who.phase, Phase::Open | Phase::Lost);
            let reached = group.is_none_or(|group| who.groups[group] == Member::Yes);
            // An open client without its `connected` may have been opened after the publication.
            if open
                && reached
                && who.is_chosen(chosen, |member| member == Member::Yes)
                && (who.phase == Phase::Lost || who.greeted == 2)
            {
                who.owed.entry(publisher).or_default().insert(number);
            }
        }
    }

    fn say_event(&mut self, client: usize) {
        let who = &mut self.clients[client];
        let (transport, id) = (who.transport.expect("open"), who.id.expect("open"));
        let hub = &self.cores[who.core].hubs[who.hub];
        if who.subprotocol == Subprotocol::Raw || hub.socket_of(transport.connection) != who.socket {
            return;
        }
        let ack_id = self.random.below(2).eq(&0).then(|| {
            who.next_ack += 1;
            who.asked.insert(who.next_ack, Asked::Send);
            who.next_ack
        });
        let number = self.handler.said(id).to_string();
        let event = EventName::parse("e").unwrap();
        self.say(client, ClientMessage::Event { event, ack_id, data: Data::text(&number), metadata: None });
    }

    fn say(&mut self, client: usize, message: ClientMessage<'_>) {
        let who = &self.clients[client];
        let (core, hub, transport) = (who.core, who.hub, who.transport.expect("open"));
        self.feed(core, hub, Input::Message(transport, message));
    }

    /// A filter for every other send: as clients know it ([`Client::is_chosen`]), and as it is written.
    fn filter(&mut self) -> (String, String) {
        let (group, client) = (self.random.below(self.setup.groups), self.random.below(self.setup.clients));
        let id = self.clients[client].id.map_or_else(|| "nobody".into(), |id| id.to_string());
        let (chosen, filter) = match self.random.below(12) {
            0 => ("user".into(), "userId eq 'u'".into()),
            1 => ("nouser".into(), "userId ne 'u' and true".into()),
            2 => ("raw".into(), "protocol eq null".into()),
            3 => (format!("not:{id}"), format!("connectionId ne '{id}'")),
            4 => (format!("only:{id}"), format!("connectionId in ('nobody', '{id}')")),
            5 => (format!("in:{group}"), format!("'g{group}' in groups")),
            _ => ("all".into(), String::new()),
        };
        (chosen, filter)
    }

    /// One REST send or question, on any core, if the last one was answered.
    fn call(&mut self, hub: usize) {
        let core = self.random.below(self.setup.cores);
        if self.callers[hub].busy.is_some() || !self.admits(core) {
            return;
        }
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.callers[hub].busy = Some(request);
        let group = self.random.below(self.setup.groups);
        let target = match self.random.below(4) {
            0 => Target::All,
            1 => Target::User(UserId::parse("u").unwrap()),
            _ => Target::Group(name(group)),
        };
        if self.random.below(4) == 0 && target != Target::All {
            return self.feed(core, hub, Input::Operation(request, &Operation::Exists { target }, None));
        }
        self.callers[hub].sent += 1;
        let (number, publisher) = (self.callers[hub].sent, 1_000_000 + hub);
        let (ttl_seconds, until) = self.ttl();
        let (chosen, filter) = self.filter();
        let text = match &target {
            Target::Group(_) => format!("h{hub} g{group} p{publisher} {number} t{until} {chosen}"),
            _ => format!("h{hub} - p{publisher} {number} t{until} {chosen}"),
        };
        match &target {
            _ if ttl_seconds > 0 => {}
            Target::All => self.owe(hub, None, publisher, number, None, &chosen),
            Target::Group(_) => self.owe(hub, Some(group), publisher, number, None, &chosen),
            _ => {}
        }
        let filter = Filter::parse(&filter).unwrap();
        let send = Operation::Send { target, excluded: Box::default(), filter, ttl_seconds };
        self.feed(core, hub, Input::Operation(request, &send, Some(Data::text(&text).into())));
    }
}

/// What cores do.
impl World {
    fn feed(&mut self, core: usize, hub: usize, input: Input<'_>) {
        let mut effects = Effects::new();
        self.cores[core].hubs[hub].handle(self.now, input, &mut effects);
        self.carry_out(core, hub, effects);
    }

    fn timeouts(&mut self, core: usize) {
        for hub in 0..HUBS {
            let mut effects = Effects::new();
            if self.cores[core].hubs[hub].next_timeout().is_some_and(|due| due <= self.now) {
                self.cores[core].hubs[hub].handle_timeout(self.now, &mut effects);
            }
            self.carry_out(core, hub, effects);
        }
    }

    fn carry_out(&mut self, core: usize, hub: usize, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Opened(transport) => self.opened(core, hub, transport),
                Effect::RecoverRefused(socket, _)
                | Effect::ConnectRefused(socket, RefusedBy::Handler)
                | Effect::ConnectAnswered(socket, _) => {
                    let slot = &mut self.cores[core].sockets[socket.slot as usize];
                    if let Some(client) = slot.client.take() {
                        self.clients[client].reset();
                    }
                }
                Effect::ConnectRefused(..) => panic!("no bound is reached here"),
                Effect::Event(event) => self.handler.take(core, hub, &event),
                Effect::CancelEvent(_) => panic!("nobody invokes anything"),
                Effect::Hold(socket) => self.set_held(core, socket, true),
                Effect::Release(socket) => self.set_held(core, socket, false),
                Effect::Close(..) => {}
                Effect::Forward(to, item) => self.links[core][usize::from(to.0)].outgoing.push((hub, item)),
                Effect::Answer(request, _) => {
                    assert_eq!(self.callers[hub].busy.take(), Some(request), "one answer for one call");
                }
                Effect::Closed { id, .. } => {
                    for who in self.clients.iter_mut().filter(|who| who.id == Some(id)) {
                        who.reset();
                    }
                }
            }
        }
    }

    fn set_held(&mut self, core: usize, socket: SocketKey, held: bool) {
        let who = self.clients.iter_mut().find(|who| who.core == core && who.socket == Some(socket));
        if let Some(who) = who {
            who.held = held;
        }
    }

    fn opened(&mut self, core: usize, hub: usize, transport: Transport) {
        let key = transport.socket;
        let client = self.cores[core].sockets[key.slot as usize].client.expect("it waits to be opened");
        let row = self.cores[core].hubs[hub].connections(transport.connection.slot, 1).remove(0);
        let who = &mut self.clients[client];
        who.id = Some(row.id);
        who.phase = Phase::Open;
        who.transport = Some(transport);
        for state in &mut who.groups {
            if *state == Member::Joining {
                *state = Member::Yes;
            }
        }
    }

    /// Moves one batch from one core to another, if there is one.
    fn carry(&mut self, from: usize, to: usize) {
        for (hub, item) in self.links[from][to].ring.take().unwrap_or_default() {
            self.feed(to, hub, Input::Mesh(CoreId(from as u16), item));
        }
        let link = &mut self.links[from][to];
        if link.ring.is_none() && !link.outgoing.is_empty() {
            link.ring = Some(std::mem::take(&mut link.outgoing));
        }
    }

    fn flush(&mut self, core: usize) {
        let Core { hubs, sockets } = &mut self.cores[core];
        let mut sent = Vec::new();
        for hub in hubs {
            // Mostly so little that a fan-out to more than a few takes several flushes.
            let budget = match self.random.below(8) {
                0 => Budget::UNLIMITED,
                _ => Budget { sends: self.random.below(6) as u32, whole: self.random.below(2) as u32 },
            };
            let mut writer = Writer { sockets, sent: Vec::new() };
            hub.flush(self.now, &mut writer, budget);
            sent.append(&mut writer.sent);
        }
        for slot in sent {
            let socket = &mut self.cores[core].sockets[slot];
            let Some(client) = socket.client else { continue };
            let key = SocketKey { slot: slot as u32, generation: socket.generation };
            if self.clients[client].socket != Some(key) {
                // Left behind by its client.
                socket.client = None;
                continue;
            }
            // Now and then a socket does not take everything.
            if !socket.congested && self.random.below(6) > 0 {
                socket.take(socket.kept.bytes(), self.now, false);
                continue;
            }
            if socket.congested {
                self.expired += socket.kept.expire(self.now);
            }
            let take = self.random.below(socket.kept.bytes() + 1);
            socket.take(take, self.now, socket.congested);
            if socket.kept.is_empty() || std::mem::replace(&mut socket.congested, true) {
                continue;
            }
            if let Some(transport) = self.clients[client].transport {
                let hub = self.clients[client].hub;
                self.feed(core, hub, Input::Congested(transport));
            }
        }
    }

    /// The client reads what its socket has, and the socket takes what was kept.
    fn read(&mut self, client: usize) {
        let who = &mut self.clients[client];
        let Some(key) = who.socket else { return };
        let (core, hub) = (who.core, who.hub);
        let socket = &mut self.cores[core].sockets[key.slot as usize];
        if socket.generation != key.generation || socket.client != Some(client) {
            return;
        }
        let late = std::mem::take(&mut socket.congested);
        who.inbox.extend(socket.wire.drain(..));
        if late {
            self.expired += socket.kept.expire(self.now);
            socket.take(socket.kept.bytes(), self.now, true);
            if let Some(transport) = who.transport {
                self.feed(core, hub, Input::Writable(transport));
            }
        }
        let who = &mut self.clients[client];
        if who.greeted == 0 && who.inbox.front().is_some_and(|first| first.value == b'H') {
            // A hub that asked first writes the upgrade's answer itself.
            let text: Vec<u8> = who.inbox.iter().map(|byte| byte.value).collect();
            let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            assert!(text.starts_with(b"HTTP/1.1 101 "));
            who.inbox.drain(..end + 4);
            who.greeted = 1 + u8::from(who.subprotocol == Subprotocol::Raw);
        }
        while let Some((opcode, payload, first)) = frame(&mut self.clients[client].inbox) {
            self.receive(client, opcode, &payload, first);
        }
    }

    fn receive(&mut self, client: usize, opcode: u8, payload: &[u8], first: Byte) {
        let who = &mut self.clients[client];
        if opcode == 8 {
            return;
        }
        if who.greeted == 0 {
            assert_eq!(payload, b"@", "the upgrade's answer comes first");
            who.greeted = 1 + u8::from(who.subprotocol == Subprotocol::Raw);
            return;
        }
        assert_eq!(opcode, if who.subprotocol.is_protobuf() { 2 } else { 1 });
        if who.subprotocol == Subprotocol::Raw {
            return self.message(client, std::str::from_utf8(payload).expect("text"), first);
        }
        let message = match who.subprotocol.is_protobuf() {
            true => protobuf::decode(payload),
            false => serde_json::from_slice(payload).expect("JSON"),
        };
        match message["type"].as_str().unwrap() {
            "system" if message["event"] == "connected" => {
                assert_eq!(who.greeted, 1, "connected comes second");
                assert_eq!(message["connectionId"], who.id.unwrap().to_string());
                who.greeted = 2;
            }
            "system" => {}
            "ack" => {
                let Some(asked) = who.asked.remove(&message["ackId"].as_u64().unwrap()) else {
                    // Asked over an earlier socket; its answer waited for the other cores.
                    assert!(who.subprotocol.is_reliable(), "an ack for what was not asked");
                    return;
                };
                match asked {
                    Asked::Join(group) if message["success"] == true => {
                        // An earlier request's ack says nothing about a later one.
                        if who.groups[group] == Member::Joining
                            && !who.asked.values().any(|a| a.group() == Some(group))
                        {
                            who.groups[group] = Member::Yes;
                        }
                    }
                    Asked::Leave(group) if message["success"] == true => {
                        if who.groups[group] == Member::Leaving
                            && !who.asked.values().any(|a| matches!(a, Asked::Join(g) if *g == group))
                        {
                            who.groups[group] = Member::No;
                        }
                    }
                    Asked::Join(group) | Asked::Leave(group) => {
                        assert!(group == who.forbidden, "refused without a reason: {message}");
                        who.groups[group] = Member::No;
                    }
                    Asked::Send => {}
                }
            }
            "message" => {
                assert_eq!(who.greeted, 2);
                if who.subprotocol.is_reliable() {
                    let id = message["sequenceId"].as_u64().unwrap();
                    let is_next = self.setup.expiry || id <= who.sequence + 1;
                    assert!(is_next, "client {client}: id {id} after {}", who.sequence);
                    if id <= who.sequence {
                        return;
                    }
                    who.sequence = id;
                }
                let data = message["data"].as_str().unwrap().to_owned();
                self.message(client, &data, first);
            }
            other => panic!("{other}"),
        }
    }

    fn message(&mut self, client: usize, data: &str, first: Byte) {
        self.deliveries += 1;
        let who = &mut self.clients[client];
        let words: Vec<&str> = data.split(' ').collect();
        let [hub, group, publisher, number, until, ref chosen @ ..] = words[..] else {
            panic!("delivered though denied: {data}")
        };
        assert_eq!(hub, format!("h{}", who.hub), "delivered across hubs");
        if let Some(group) = group.strip_prefix('g') {
            let group: usize = group.parse().unwrap();
            assert_ne!(who.groups[group], Member::No, "client {client} is not a member: {data}");
        }
        let maybe =
            if let [chosen] = chosen { who.is_chosen(chosen, |member| member != Member::No) } else { true };
        assert!(maybe, "client {client} is not among the chosen: {data}");
        let until: u64 = until[1..].parse().unwrap();
        let fresh = until == 0 || !first.waited || first.taken < Time(until);
        assert!(fresh, "client {client}: {data} waited until {:?}", first.taken);
        let publisher: usize = publisher[1..].parse().unwrap();
        let number: u64 = number.parse().unwrap();
        let last = who.seen.insert(publisher, number).unwrap_or(0);
        assert!(number > last, "client {client} {:?}: {data} after {last}", who.subprotocol);
        if let Some(owed) = who.owed.get_mut(&publisher) {
            owed.remove(&number);
            let lost: Vec<_> = owed.range(..number).collect();
            assert!(lost.is_empty(), "client {client}: lost {lost:?} of p{publisher}");
        }
    }
}

/// Of a client whose hub asks its handler first.
fn introduction() -> Box<Introduction> {
    let question = Question {
        body: "{}".into(),
        websocket_key: "dGhlIHNhbXBsZSBub25jZQ==".into(),
        offered: Box::default(),
    };
    Box::new(Introduction { origin: "o".into(), subprotocol: None, question: Some(question) })
}

fn name(group: usize) -> GroupName<'static> {
    GroupName::parse(format!("g{group}")).unwrap()
}

/// Takes one whole frame: its opcode, its payload and its first byte.
fn frame(inbox: &mut VecDeque<Byte>) -> Option<(u8, Vec<u8>, Byte)> {
    let at = |index: usize| Some(usize::from(inbox.get(index)?.value));
    let (len, header) = match at(1)? {
        126 => (at(2)? << 8 | at(3)?, 4),
        len => (len, 2),
    };
    if inbox.len() < header + len {
        return None;
    }
    let first = inbox[0];
    inbox.drain(..header);
    let mut payload: Vec<u8> = inbox.drain(..len).map(|byte| byte.value).collect();
    if first.value & 0x40 != 0 {
        let mut inflater = Inflater::default();
        let message = inflater.inflate(&payload, 1 << 20, first.value & 15 == 1);
        payload = message.expect("a whole message").to_vec();
    }
    Some((first.value & 15, payload, first))
}
