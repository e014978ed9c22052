//! A hub with one large group, flushed into a sink that does nothing: the boundary of hub and engine without an
//! engine. Everything is a function of the arguments, hash seeds included.

use ringhub_hub::effect::Connect;
use ringhub_hub::{
    Budget, Chunk, CoreId, Effect, Effects, Hub, Input, Limits, Part, RequestId, Sink, SocketKey, Time,
    Transport,
};
use ringhub_protocol::name::{GroupName, HubName};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use std::hint::black_box;

/// What the members are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    Raw,
    Json,
    /// JSON; one in ten is in a second group that is published to as well.
    Mixed,
    /// Reliable, all with the same next id.
    Equal,
    /// Reliable, with 1,024 different next ids.
    Distinct,
}

/// Members of the group "all" and what is published to them.
pub(crate) struct Room {
    hub: Hub,
    effects: Effects,
    sink: Null,
    members: Vec<Member>,
    publications: Vec<Operation>,
}

struct Member {
    transport: Transport,
    /// Id of the last message it was sent, if it is reliable.
    last: Option<u64>,
}

/// Counts what it is handed.
#[derive(Default)]
struct Null {
    deliveries: u64,
}

impl Sink for Null {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        self.deliveries += sockets.len() as u64;
        black_box((bytes, sockets));
    }

    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        self.deliveries += parts.len() as u64;
        black_box((bytes, parts));
    }
}

/// Members of the group "bit k" are those whose number has that bit.
const BITS: u32 = 10;

impl Room {
    pub(crate) fn new(kind: Members, members: u32) -> Self {
        let name = HubName::parse("bench").expect("a legal name");
        let hub = Hub::new(name, CoreId(0), 1, 1, Limits::default(), Box::new(|_| "token".into()));
        let publications = match kind {
            Members::Mixed => vec![send("all"), send("tenth")],
            _ => vec![send("all")],
        };
        let mut room =
            Self { hub, effects: Effects::new(), sink: Null::default(), members: Vec::new(), publications };
        for number in 0..members {
            room.connect(kind, number);
        }
        room.flush();
        if kind == Members::Distinct {
            room.spread_ids();
        }
        room.acknowledge();
        room
    }

    fn connect(&mut self, kind: Members, number: u32) {
        let (subprotocol, mut groups) = match kind {
            Members::Raw => (Subprotocol::Raw, vec![]),
            Members::Json => (Subprotocol::Json, vec![]),
            Members::Mixed if number.is_multiple_of(10) => (Subprotocol::Json, vec!["tenth".to_owned()]),
            Members::Mixed => (Subprotocol::Json, vec![]),
            Members::Equal => (Subprotocol::ReliableJson, vec![]),
            Members::Distinct => {
                let bits = (0..BITS).filter(|bit| number >> bit & 1 == 1);
                (Subprotocol::ReliableJson, bits.map(|bit| format!("bit {bit}")).collect())
            }
        };
        groups.push("all".to_owned());
        let connect = Connect {
            socket: SocketKey { slot: number, generation: 1 },
            subprotocol,
            random: u128::from(number),
            prologue: Vec::new(),
            user: None,
            roles: Vec::new(),
            groups: groups.into_iter().map(|name| GroupName::parse(name).expect("a legal name")).collect(),
            raw_group: None,
            arrival: Default::default(),
            introduction: None,
            deflate: None,
        };
        self.hub.handle(Time(0), Input::Connect(Box::new(connect)), &mut self.effects);
        for effect in self.effects.drain(..) {
            if let Effect::Opened(transport) = effect {
                self.members.push(Member { transport, last: subprotocol.is_reliable().then_some(0) });
            }
        }
    }

    /// Sends each member as many messages as the low bits of its number say.
    fn spread_ids(&mut self) {
        for bit in 0..BITS {
            let publication = send(&format!("bit {bit}"));
            for _ in 0..1 << bit {
                self.log(&publication);
                self.flush();
            }
        }
        for (number, member) in (0..).zip(&mut self.members) {
            member.last = Some(number % (1 << BITS));
        }
    }

    /// Publishes 64 bytes to the group `times` times, as one turn.
    pub(crate) fn publish(&mut self, times: u64) {
        let publications = std::mem::take(&mut self.publications);
        for _ in 0..times {
            for publication in &publications {
                self.log(publication);
            }
        }
        self.publications = publications;
        for last in self.members.iter_mut().filter_map(|member| member.last.as_mut()) {
            *last += times;
        }
    }

    fn log(&mut self, publication: &Operation) {
        let data = Data::text("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
        self.hub.handle(
            Time(0),
            Input::Operation(RequestId(1), publication, Some(data.into())),
            &mut self.effects,
        );
        self.effects.clear();
    }

    /// Ends the turn and returns how many sends it made: the thing to measure.
    pub(crate) fn flush(&mut self) -> u64 {
        self.sink.deliveries = 0;
        self.hub.flush(Time(0), &mut self.sink, Budget::UNLIMITED);
        self.sink.deliveries
    }

    /// Every reliable member says that it has everything, or the replay logs would fill.
    pub(crate) fn acknowledge(&mut self) {
        for member in &self.members {
            let Some(sequence_id) = member.last else { continue };
            let message = ClientMessage::SequenceAck { sequence_id };
            self.hub.handle(Time(0), Input::Message(member.transport, message), &mut self.effects);
        }
        self.effects.clear();
    }
}

fn send(group: &str) -> Operation {
    let group = GroupName::parse(group.to_owned()).expect("a legal name");
    Operation::send(Target::Group(group))
}
