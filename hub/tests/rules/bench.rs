//! A hub of one core with clients that read every byte they are sent.

use ringhub_hub::effect::{CloseCategory, Connect, Effect, Input, Recover, Transport};
use ringhub_hub::{
    Budget, Chunk, ConnectionId, CoreId, Effects, Hub, Limits, Part, RequestId, Sink, SocketKey, Time,
};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{Data, Subprotocol, json};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::{DeflateOffer, Inflater};
use std::collections::HashMap;

/// What a client may speak.
pub(crate) const ALL: [Subprotocol; 5] = [
    Subprotocol::Raw,
    Subprotocol::Json,
    Subprotocol::Protobuf,
    Subprotocol::ReliableJson,
    Subprotocol::ReliableProtobuf,
];

pub(crate) struct Bench {
    pub(crate) hub: Hub,
    pub(crate) now: Time,
    next_socket: u32,
    /// Whether clients that come can inflate.
    pub(crate) deflate: bool,
    pub(crate) effects: Effects,
    /// Deflated frames that were read.
    pub(crate) deflated: usize,
    /// What each socket was sent, as payloads of its frames (close frames as `close N`).
    pub(crate) wires: HashMap<u32, Vec<u8>>,
    /// What each socket was told of frames that expire: payload and deadline.
    pub(crate) perishable: HashMap<u32, Vec<(Vec<u8>, Time)>>,
}

struct Wires<'a>(&'a mut HashMap<u32, Vec<u8>>, &'a mut HashMap<u32, Vec<(Vec<u8>, Time)>>);

impl Wires<'_> {
    fn take(&mut self, bytes: &Chunk, socket: SocketKey) {
        self.0.entry(socket.slot).or_default().extend_from_slice(bytes);
        let frames = bytes.perishable().iter().map(|frame| {
            let whole = &bytes[frame.start as usize..frame.end as usize];
            let header = if whole[1] < 126 { 2 } else { 4 };
            (payload(whole[0], &whole[header..]), frame.until)
        });
        self.1.entry(socket.slot).or_default().extend(frames);
    }
}

impl Sink for Wires<'_> {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        sockets.iter().for_each(|socket| self.take(bytes, *socket));
    }
    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        for part in parts {
            self.take(&bytes.slice(part.start as usize..part.end as usize), part.socket);
        }
    }
}

/// What a frame with this first byte says.
fn payload(first: u8, bytes: &[u8]) -> Vec<u8> {
    match first & 0x40 {
        0 => bytes.to_vec(),
        _ => Inflater::default().inflate(bytes, 1 << 20, first & 15 == 1).expect("a whole message").to_vec(),
    }
}

pub(crate) fn group(name: &str) -> GroupName<'static> {
    GroupName::parse(name.to_owned()).unwrap()
}

impl Bench {
    pub(crate) fn new(limits: Limits) -> Self {
        let name = HubName::parse("chat").unwrap();
        let hub = Hub::new(name, CoreId(0), 1, 7, limits, Box::new(|_| "token".into()));
        Self {
            hub,
            now: Time(0),
            next_socket: 0,
            deflate: false,
            effects: Effects::new(),
            deflated: 0,
            wires: HashMap::new(),
            perishable: HashMap::new(),
        }
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.hub.handle(self.now, input, &mut self.effects);
    }

    pub(crate) fn flush(&mut self) {
        loop {
            self.hub.flush(self.now, &mut Wires(&mut self.wires, &mut self.perishable), Budget::UNLIMITED);
            if self.hub.next_timeout().is_some_and(|due| due <= self.now) {
                self.hub.handle_timeout(self.now, &mut self.effects);
            } else if !self.hub.is_dirty() {
                return;
            }
        }
    }

    /// One flush of one turn, in which fan-outs may serve so many members.
    pub(crate) fn slice(&mut self, sends: u32) {
        let mut wires = Wires(&mut self.wires, &mut self.perishable);
        self.hub.flush(self.now, &mut wires, Budget { sends, whole: 0 });
    }

    pub(crate) fn socket(&mut self) -> SocketKey {
        self.next_socket += 1;
        SocketKey { slot: self.next_socket, generation: 1 }
    }

    pub(crate) fn connect(&mut self, subprotocol: Subprotocol, groups: &[&str]) -> Option<Transport> {
        let socket = self.socket();
        let roles = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroups.?*"].map(Into::into);
        self.handle(Input::Connect(Box::new(Connect {
            socket,
            subprotocol,
            random: 1 + u128::from(socket.slot),
            prologue: Vec::new(),
            user: UserId::parse("u").ok(),
            roles: roles.into(),
            groups: groups.iter().map(|g| group(g)).collect(),
            raw_group: None,
            arrival: Default::default(),
            introduction: None,
            deflate: self.deflate.then(DeflateOffer::default),
        })));
        let opened = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Opened(transport) if transport.socket == socket => Some(*transport),
            _ => None,
        })?;
        self.flush();
        self.wires.remove(&socket.slot);
        Some(opened)
    }

    pub(crate) fn json(&mut self, groups: &[&str]) -> Transport {
        self.connect(Subprotocol::Json, groups).expect("opened")
    }

    pub(crate) fn reliable(&mut self, groups: &[&str]) -> Transport {
        self.connect(Subprotocol::ReliableJson, groups).expect("opened")
    }

    /// Asks for a session on a new socket, which is returned; the last effect is the answer.
    pub(crate) fn recover(&mut self, id: ConnectionId, subprotocol: Subprotocol) -> SocketKey {
        let socket = self.socket();
        let recover =
            Recover { socket, id, subprotocol, address: None, prologue: Vec::new(), deflate: self.deflate };
        self.handle(Input::Recover(Box::new(recover)));
        socket
    }

    pub(crate) fn say(&mut self, from: Transport, request: &str) {
        self.handle(Input::Message(from, json::parse(request).unwrap()));
    }

    pub(crate) fn send(&mut self, target: Target, text: &str) {
        let operation = Operation::send(target);
        self.handle(Input::Operation(RequestId(1), &operation, Some(Data::text(text).into())));
    }

    /// The texts a socket got since the last call.
    pub(crate) fn texts(&mut self, of: Transport) -> Vec<String> {
        self.flush();
        self.texts_so_far(of)
    }

    /// The same without a flush.
    pub(crate) fn texts_so_far(&mut self, of: Transport) -> Vec<String> {
        let frames = self.frames_so_far(of).into_iter();
        let texts = frames.map(|(opcode, payload)| match opcode {
            8 if payload.is_empty() => "close".into(),
            8 => format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
            _ => String::from_utf8(payload).unwrap(),
        });
        texts.collect()
    }

    /// The frames a socket got since the last call: opcode and payload.
    pub(crate) fn frames(&mut self, of: Transport) -> Vec<(u8, Vec<u8>)> {
        self.flush();
        self.frames_so_far(of)
    }

    fn frames_so_far(&mut self, of: Transport) -> Vec<(u8, Vec<u8>)> {
        let wire = self.wires.remove(&of.socket.slot).unwrap_or_default();
        let (mut rest, mut frames) = (&wire[..], Vec::new());
        while let [first, len, tail @ ..] = rest {
            let (len, tail) = match len {
                126 => (usize::from(tail[0]) << 8 | usize::from(tail[1]), &tail[2..]),
                127 => (u64::from_be_bytes(tail[..8].try_into().unwrap()) as usize, &tail[8..]),
                len => (usize::from(*len), tail),
            };
            let (bytes, tail) = tail.split_at(len);
            self.deflated += usize::from(first & 0x40 != 0);
            frames.push((first & 15, payload(*first, bytes)));
            rest = tail;
        }
        frames
    }

    /// Only the payloads of data messages and the ids of acks, for tests of order.
    pub(crate) fn short(&mut self, of: Transport) -> Vec<String> {
        self.flush();
        self.short_so_far(of)
    }

    /// The same without a flush.
    pub(crate) fn short_so_far(&mut self, of: Transport) -> Vec<String> {
        let texts = self.texts_so_far(of);
        let short = texts.iter().map(|text| {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return text.clone() };
            if !value.is_object() {
                return text.clone();
            }
            match value["type"].as_str() {
                Some("ack") => format!("ack {}", value["ackId"]),
                Some("message") => value["data"].as_str().unwrap().to_owned(),
                Some("pong") => "pong".into(),
                _ => value["event"].as_str().unwrap_or_default().to_owned(),
            }
        });
        short.collect()
    }

    pub(crate) fn closed(&self) -> Vec<(u16, CloseCategory)> {
        let closed = self.effects.iter().filter_map(|effect| match effect {
            Effect::Closed { code, category, .. } => Some((*code, *category)),
            _ => None,
        });
        closed.collect()
    }
}

pub(crate) fn publish(group: &str, data: &str, rest: &str) -> String {
    format!(r#"{{"type":"sendToGroup","group":"{group}","dataType":"text","data":"{data}"{rest}}}"#)
}

pub(crate) fn id_of(bench: &Bench, of: Transport) -> ConnectionId {
    bench.hub.connections(of.connection.slot, 1)[0].id
}
