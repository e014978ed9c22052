//! What clients do.

use super::client::{Asked, Expected, Member, Phase};
use super::socket::Socket;
use super::{Fault, OUTGOING_MAX, Random, World, name};
use ringhub_hub::effect::{Introduction, Question};
use ringhub_hub::{Connect, Input, Recover, SocketKey};
use ringhub_protocol::name::{EventName, UserId};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::ws::{CloseCode, DeflateOffer};

impl World {
    pub(super) fn act(&mut self, client: usize) {
        let core = self.clients[client].core;
        match self.clients[client].phase {
            Phase::Away => {
                self.clients[client].core = self.random.below(self.setup.cores);
                if !self.cores[self.clients[client].core].stopped {
                    self.connect(client);
                }
            }
            Phase::Connecting => {}
            Phase::Lost => {
                if self.random.below(3) == 0 {
                    self.recover(client);
                }
            }
            Phase::Open if !self.admits(core) => self.note(Fault::MeshFull),
            Phase::Open => match self.random.below(20) {
                0 => self.drop_socket(client),
                1 => {
                    let code = [Some(CloseCode::NORMAL), None][self.random.below(2)];
                    self.close(client, code);
                }
                // The newest socket wins even if the old one is open.
                2 if self.clients[client].subprotocol.is_reliable() => {
                    self.note(Fault::Takeover);
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
                13 => self.cancel(client),
                14 => drop(self.ping(client)),
                _ => self.publish(client),
            },
        }
    }

    /// New input is admitted only while no outgoing batch is over its bound.
    pub(super) fn admits(&self, core: usize) -> bool {
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

    pub(super) fn connect(&mut self, client: usize) {
        let socket = self.open_socket(client);
        let random = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let with_group = self.random.below(3) == 0;
        let deflate = (self.random.below(2) == 0).then(DeflateOffer::default);
        let who = &mut self.clients[client];
        who.phase = Phase::Connecting;
        who.inflates = deflate.is_some();
        let group = (who.forbidden + 1) % who.groups.len();
        let mut groups = Vec::new();
        if with_group {
            who.groups[group] = Member::Joining;
            groups.push(name(group));
        }
        // What is being changed for all may be changed for this one.
        for changed in self.callers[who.hub].changing(client) {
            who.groups[changed] = Member::Unsure;
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

    pub(super) fn recover(&mut self, client: usize) {
        // The socket lands anywhere; the id says which core it is handed to.
        let id = self.clients[client].id.expect("it was open");
        assert_eq!(usize::from(id.core.0), self.clients[client].core);
        let socket = self.open_socket(client);
        self.clients[client].phase = Phase::Connecting;
        let (core, hub) = (self.clients[client].core, self.clients[client].hub);
        let subprotocol = self.clients[client].subprotocol;
        let prologue = b"\x81\x01@".to_vec();
        let deflate = self.random.below(2) == 0;
        self.clients[client].inflates = deflate;
        let recover = Recover { socket, id, subprotocol, address: None, prologue, deflate };
        self.feed(core, hub, Input::Recover(Box::new(recover)));
    }

    pub(super) fn drop_socket(&mut self, client: usize) {
        self.note(Fault::SocketLost);
        let who = &mut self.clients[client];
        let transport = who.transport.expect("open");
        let (core, hub) = (who.core, who.hub);
        self.cores[core].sockets[transport.socket.slot as usize].client = None;
        self.cores[core].sockets[transport.socket.slot as usize].generation += 1;
        self.after_loss(client);
        self.feed(core, hub, Input::SocketLost(transport));
    }

    pub(super) fn close(&mut self, client: usize, code: Option<CloseCode>) {
        let who = &mut self.clients[client];
        let transport = who.transport.expect("open");
        let (core, hub) = (who.core, who.hub);
        if code.is_some() {
            self.clients[client].reset();
        } else {
            self.note(Fault::UncleanClose);
            self.after_loss(client);
        }
        self.feed(core, hub, Input::ClientClose(transport, code));
    }

    pub(super) fn after_loss(&mut self, client: usize) {
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
        self.ask_for(client, group, join);
    }

    pub(super) fn ask_for(&mut self, client: usize, group: usize, join: bool) {
        let who = &mut self.clients[client];
        if who.subprotocol == Subprotocol::Raw {
            return;
        }
        who.next_ack += 1;
        let ack_id = Some(who.next_ack);
        let crosses = self.callers[who.hub].crosses(client, group);
        // A member may join again.
        let is_short = self.cores[who.core].is_short_of_memory && join && who.groups[group] != Member::Yes;
        let asked = match who.may_join(group) {
            Some(false) => Asked::Other(Expected::Error("Forbidden")),
            None => Asked::Other(Expected::Either),
            Some(true) if is_short => Asked::Other(Expected::Either),
            Some(true) if join => Asked::Join(group),
            Some(true) => Asked::Leave(group),
        };
        who.asked.insert(who.next_ack, asked);
        if who.may_join(group) != Some(false) {
            who.fences.retain(|&(_, fenced)| fenced != group);
            let is_unsure = crosses || is_short || who.may_join(group).is_none();
            who.groups[group] = match who.groups[group] {
                Member::Yes if join && !is_unsure => Member::Yes,
                _ if is_unsure => Member::Unsure,
                _ if join => Member::Joining,
                _ => Member::Leaving,
            };
            if !join {
                // What is under way from other cores may miss it.
                who.owed.clear();
            }
        }
        let group = name(group);
        self.say(
            client,
            if join {
                ClientMessage::JoinGroup { group, ack_id }
            } else {
                ClientMessage::LeaveGroup { group, ack_id }
            },
        );
    }

    /// The seconds a message is to live, and when that ends; 0 for most.
    pub(super) fn ttl(&mut self) -> (u32, u64) {
        if !self.setup.expiry || self.random.below(3) > 0 {
            return (0, 0);
        }
        let seconds = 1 + self.random.below(3) as u32;
        (seconds, self.now.0 + 1_000 * u64::from(seconds))
    }

    fn publish(&mut self, client: usize) {
        let group = self.random.below(self.setup.groups);
        self.publish_to(client, group);
    }

    /// Somebody publishes to a group before the cores have told each other anything more.
    pub(super) fn publish_at_once(&mut self, hub: usize, group: usize) {
        let first = self.random.below(self.setup.clients);
        let order = (first..self.setup.clients).chain(0..first);
        let may = |who: &super::Client| {
            let is_ready = who.hub == hub && who.phase == Phase::Open && who.subprotocol != Subprotocol::Raw;
            is_ready && who.may_send(group) == Some(true) && self.admits(who.core)
        };
        let publisher = order.into_iter().find(|&client| may(&self.clients[client]));
        if let Some(client) = publisher {
            self.publish_to(client, group);
        }
    }

    pub(super) fn publish_to(&mut self, client: usize, group: usize) {
        // A raw client is closed for publishing what it may not.
        if self.clients[client].transport.is_none() {
            return;
        }
        let (mut ttl_seconds, mut until) = self.ttl();
        let no_echo = self.random.below(4) == 0;
        let wants_ack = self.random.below(8) > 0;
        let padding = self.padding_len();
        let who = &mut self.clients[client];
        let is_short = self.cores[who.core].is_short_of_memory;
        let raw = who.subprotocol == Subprotocol::Raw;
        if raw {
            (ttl_seconds, until) = (0, 0);
        }
        let group = if raw { (who.forbidden + 1) % who.groups.len() } else { group };
        let expected = match who.may_send(group) {
            Some(false) => Expected::Error("Forbidden"),
            None => Expected::Either,
            Some(true) if is_short && wants_ack && !raw => Expected::Error("InternalServerError"),
            Some(true) => Expected::Success,
        };
        let text = if let Expected::Error(name) = expected {
            format!("h{} denied: {name}", who.hub)
        } else {
            who.published += 1;
            let text = format!("h{} g{group} p{} {} t{until}", who.hub, who.publisher(), who.published);
            pad(text, who.published, padding)
        };
        // What expires may arrive.
        if expected == Expected::Success && ttl_seconds == 0 {
            let (hub, publisher, number) = (who.hub, who.publisher(), who.published);
            self.owe(hub, Some(group), publisher, number, (no_echo && !raw).then_some(client), "all");
        }
        let who = &mut self.clients[client];
        if raw {
            let (core, hub, transport) = (who.core, who.hub, who.transport.expect("open"));
            return self.feed(core, hub, Input::Raw(transport, Data::text(&text)));
        }
        let ack_id = wants_ack.then(|| {
            who.next_ack += 1;
            who.asked.insert(who.next_ack, Asked::Other(expected));
            who.next_ack
        });
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

    /// What messages are made longer by: nothing mostly, seldom more than is ever copied.
    pub(super) fn padding_len(&mut self) -> usize {
        match self.random.below(400) {
            0..3 => 40_000,
            3..5 => 5_000,
            5..20 => 700,
            _ => 0,
        }
    }

    /// Every acknowledged member must get this.
    pub(super) fn owe(
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
        let invokes = self.random.below(3) == 0;
        if self.cores[who.core].is_short_of_memory {
            return self.say_refused_event(client, invokes);
        }
        let number = self.handler.said(id, invokes);
        let text = number.to_string();
        let (event, data) = (EventName::parse("e").unwrap(), Data::text(&text));
        if invokes {
            self.tally.note("invoke");
            who.invoked.insert(number);
            let (invocation_id, event) = (text.as_str().into(), Some(event));
            return self.say(client, ClientMessage::Invoke { invocation_id, event, data, metadata: None });
        }
        let ack_id = self.random.below(2).eq(&0).then(|| {
            who.next_ack += 1;
            who.asked.insert(who.next_ack, Asked::Other(Expected::Either));
            who.next_ack
        });
        self.say(client, ClientMessage::Event { event, ack_id, data, metadata: None });
    }

    /// Short of memory, the server refuses what can be refused, and no handler hears of it.
    fn say_refused_event(&mut self, client: usize, invokes: bool) {
        let who = &mut self.clients[client];
        who.next_ack += 1;
        let number = who.next_ack;
        let (event, data) = (EventName::parse("e").unwrap(), Data::text("refused"));
        if invokes {
            // No handler gives it such a number. It is over before anybody could give it up.
            let id = 1_000_000_000 + number;
            who.cancelled.insert(id);
            let (invocation_id, event) = (id.to_string(), Some(event));
            let invocation_id = invocation_id.as_str().into();
            return self.say(client, ClientMessage::Invoke { invocation_id, event, data, metadata: None });
        }
        who.asked.insert(number, Asked::Other(Expected::Error("InternalServerError")));
        self.say(client, ClientMessage::Event { event, ack_id: Some(number), data, metadata: None });
    }

    /// The client gives up one of its invocations, whether it is asked about or waits.
    fn cancel(&mut self, client: usize) {
        let who = &mut self.clients[client];
        let transport = who.transport.expect("open");
        if self.cores[who.core].hubs[who.hub].socket_of(transport.connection) != who.socket {
            return;
        }
        let which = self.random.below(who.invoked.len().max(1));
        let Some(number) = who.invoked.iter().nth(which).copied() else { return };
        who.invoked.remove(&number);
        if self.handler.cancelled(who.id.expect("open"), number) {
            who.cancelled.insert(number);
        }
        self.tally.note("cancel");
        let invocation_id = number.to_string();
        self.say(client, ClientMessage::CancelInvocation { invocation_id: invocation_id.as_str().into() });
    }

    /// The server pings a client: returns the ping's number, if there is still a socket to send it over.
    pub(super) fn ping(&mut self, client: usize) -> Option<u64> {
        let who = &mut self.clients[client];
        let transport = who.transport.filter(|_| who.phase == Phase::Open)?;
        let (core, hub) = (who.core, who.hub);
        who.pinged += 1;
        let number = who.pinged;
        let mut frame = vec![0x89, 0];
        frame.extend_from_slice(number.to_string().as_bytes());
        frame[1] = frame.len() as u8 - 2;
        self.tally.note("ping");
        self.feed(core, hub, Input::Control(transport, &frame));
        Some(number)
    }

    fn say(&mut self, client: usize, message: ClientMessage<'_>) {
        let who = &self.clients[client];
        let (core, hub, transport) = (who.core, who.hub, who.transport.expect("open"));
        self.feed(core, hub, Input::Message(transport, message));
    }
}

/// A message, made longer so that whoever gets it can tell whether all of it came.
pub(super) fn pad(mut text: String, number: u64, len: usize) -> String {
    if len > 0 {
        text.push_str(" ~");
        text.push_str(&padding(number, len));
    }
    text
}

/// Letters that half of the time say little and deflate well, and half of the time are all different.
pub(super) fn padding(number: u64, len: usize) -> String {
    let mut random = Random(number);
    let kinds = if number.is_multiple_of(2) { 1 } else { 64 };
    (0..len).map(|_| char::from(b'?' + random.below(kinds) as u8)).collect()
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
