//! Sequences of operations on one core's hub. Nothing may panic; bytes go only to a socket that a connection
//! holds or has just lost; each client's data messages carry one publisher's numbers in order; and when
//! everyone has gone, nothing is left.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ringhub_hub::effect::{Connect, Effect, Input, Recover, Transport};
use ringhub_hub::{ConnectionId, CoreId, Effects, Hub, Limits, Part, RequestId, Sink, SocketKey, Time};
use ringhub_protocol::name::{GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::CloseCode;
use std::collections::HashMap;

#[derive(Arbitrary, Debug)]
enum Op {
    Connect { kind: u8, group: Option<u8>, raw_group: Option<u8> },
    Recover { client: u8 },
    Join { client: u8, group: u8, ack_id: Option<u8> },
    Leave { client: u8, group: u8, ack_id: Option<u8> },
    Publish { client: u8, group: u8, ack_id: Option<u8>, no_echo: bool, large: bool },
    Raw { client: u8 },
    Say { client: u8, what: u8 },
    Acknowledge { client: u8, id: u16 },
    Close { client: u8, code: u8 },
    Lose { client: u8 },
    Congest { client: u8 },
    Writable { client: u8 },
    Slow { client: u8 },
    Send { target: u8, exclude: Option<u8> },
    CloseThem { target: u8 },
    Group { client: u8, group: u8, what: u8 },
    Time { ms: u8 },
    Flush,
}

struct Client {
    transport: Transport,
    id: ConnectionId,
}

#[derive(Default)]
struct Wires {
    sent: HashMap<SocketKey, Vec<u8>>,
}

impl Sink for Wires {
    fn shared(&mut self, bytes: &Bytes, sockets: &[SocketKey]) {
        for socket in sockets {
            self.sent.entry(*socket).or_default().extend_from_slice(bytes);
        }
    }
    fn each(&mut self, bytes: &Bytes, parts: &[Part]) {
        for part in parts {
            let range = part.start as usize..part.end as usize;
            self.sent.entry(part.socket).or_default().extend_from_slice(&bytes[range]);
        }
    }
}

fn group(n: u8) -> GroupName<'static> {
    GroupName::parse(format!("g{}", n % 4)).unwrap()
}

fuzz_target!(|ops: Vec<Op>| {
    let limits = Limits {
        recovery_window_ms: 100,
        recovery_grace_ms: 10,
        replay_messages_max: 20,
        replay_bytes_max: 200_000,
        groups_per_connection_max: 3,
        ack_ids_max: 4,
        connections_max: 8,
        control_bytes_max: 500,
        ..Limits::default()
    };
    let mut hub = Hub::new(HubName::parse("h").unwrap(), CoreId(0), 1, 1, limits, Box::new(|_| "t".into()));
    let (mut now, mut effects, mut next, mut number) = (Time(0), Effects::new(), 0u32, 0u64);
    let mut clients: Vec<Client> = Vec::new();
    let large = "x".repeat(40_000);
    for op in ops {
        let pick = |n: u8| {
            clients.get(usize::from(n) % clients.len().max(1)).map(|client| (client.transport, client.id))
        };
        let mut socket = || {
            next += 1;
            SocketKey { slot: next, generation: next }
        };
        number += 1;
        let ack = |id: Option<u8>| id.map(u64::from);
        match op {
            Op::Connect { kind, group: first, raw_group } => {
                let subprotocol =
                    [Subprotocol::Raw, Subprotocol::Json, Subprotocol::ReliableJson][usize::from(kind) % 3];
                let connect = Connect {
                    socket: socket(),
                    subprotocol,
                    random: u128::from(number),
                    prologue: Vec::new(),
                    user: kind.is_multiple_of(2).then(|| UserId::parse("u").unwrap()),
                    roles: vec!["webpubsub.joinLeaveGroup".into(), "webpubsub.sendToGroups.g?".into()],
                    groups: first.map(group).into_iter().collect(),
                    raw_group: raw_group.map(|n| (group(n), n > 100)),
                };
                hub.handle(now, Input::Connect(Box::new(connect)), &mut effects);
            }
            Op::Recover { client } => {
                if let Some((_, id)) = pick(client) {
                    let recover = Recover { socket: socket(), id, prologue: Vec::new() };
                    hub.handle(now, Input::Recover(Box::new(recover)), &mut effects);
                }
            }
            Op::Join { client, group: n, ack_id } => {
                if let Some((from, _)) = pick(client) {
                    let message = ClientMessage::JoinGroup { group: group(n), ack_id: ack(ack_id) };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Leave { client, group: n, ack_id } => {
                if let Some((from, _)) = pick(client) {
                    let message = ClientMessage::LeaveGroup { group: group(n), ack_id: ack(ack_id) };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Publish { client, group: n, ack_id, no_echo, large: is_large } => {
                if let Some((from, _)) = pick(client) {
                    let text = if is_large { large.clone() } else { number.to_string() };
                    let data = Data::text(&text);
                    let message =
                        ClientMessage::SendToGroup { group: group(n), ack_id: ack(ack_id), no_echo, data };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Raw { client } => {
                if let Some((from, _)) = pick(client) {
                    hub.handle(now, Input::Raw(from, Data::binary(b"\x00\xff")), &mut effects);
                }
            }
            Op::Say { client, what } => {
                if let Some((from, _)) = pick(client) {
                    let message = match what % 4 {
                        0 => ClientMessage::Ping,
                        1 => ClientMessage::Invoke { invocation_id: "1".into() },
                        2 => ClientMessage::Stream { stream_id: "s".into() },
                        _ => ClientMessage::GroupState { ack_id: Some(1) },
                    };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Acknowledge { client, id } => {
                if let Some((from, _)) = pick(client) {
                    let message = ClientMessage::SequenceAck { sequence_id: u64::from(id) };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Close { client, code } => {
                if let Some((from, _)) = pick(client) {
                    let code =
                        [None, Some(CloseCode::NORMAL), Some(CloseCode::GOING_AWAY)][usize::from(code) % 3];
                    hub.handle(now, Input::ClientClose(from, code), &mut effects);
                }
            }
            Op::Lose { client } => {
                if let Some((from, _)) = pick(client) {
                    hub.handle(now, Input::SocketLost(from), &mut effects);
                }
            }
            Op::Congest { client } => {
                if let Some((from, _)) = pick(client) {
                    hub.handle(now, Input::Congested(from), &mut effects);
                }
            }
            Op::Writable { client } => {
                if let Some((from, _)) = pick(client) {
                    hub.handle(now, Input::Writable(from), &mut effects);
                }
            }
            Op::Slow { client } => {
                if let Some((from, _)) = pick(client) {
                    hub.handle(now, Input::SlowConsumer(from), &mut effects);
                }
            }
            Op::Send { target, exclude } => {
                let target = match target % 4 {
                    0 => Target::All,
                    1 => Target::User(UserId::parse("u").unwrap()),
                    2 => {
                        pick(target).map_or(Target::All, |(_, id)| Target::Connection(id.to_string().into()))
                    }
                    _ => Target::Group(group(target)),
                };
                let excluded =
                    exclude.and_then(pick).map(|(_, id)| id.to_string().into()).into_iter().collect();
                let send = Operation::Send { target, excluded };
                let text = number.to_string();
                hub.handle(now, Input::Operation(RequestId(1), &send, Some(Data::text(&text))), &mut effects);
            }
            Op::CloseThem { target } => {
                let target = match target % 3 {
                    0 => Target::Group(group(target)),
                    1 => Target::User(UserId::parse("u").unwrap()),
                    _ => {
                        pick(target).map_or(Target::All, |(_, id)| Target::Connection(id.to_string().into()))
                    }
                };
                let close = Operation::Close { target, excluded: Box::default(), reason: None };
                hub.handle(now, Input::Operation(RequestId(1), &close, None), &mut effects);
            }
            Op::Group { client, group: n, what } => {
                let member = pick(client).map_or(Target::User(UserId::parse("u").unwrap()), |(_, id)| {
                    Target::Connection(id.to_string().into())
                });
                let operation = match what % 4 {
                    0 => Operation::AddToGroup { member, group: group(n) },
                    1 => Operation::RemoveFromGroup { member, group: group(n) },
                    2 => Operation::RemoveFromAllGroups { member },
                    _ => Operation::Exists { target: Target::Group(group(n)) },
                };
                hub.handle(now, Input::Operation(RequestId(1), &operation, None), &mut effects);
            }
            Op::Time { ms } => {
                now = now.after_ms(u64::from(ms));
                hub.handle_timeout(now, &mut effects);
            }
            Op::Flush => flush(&mut hub, &clients),
        }
        take(&mut hub, &mut effects, &mut clients);
    }
    hub.handle(now, Input::Stop, &mut effects);
    flush(&mut hub, &clients);
    hub.handle_timeout(now, &mut effects);
    assert_eq!((hub.counters().connections, hub.counters().suspended), (0, 0));
    assert_eq!(hub.group_counts(), (0, 0));
    assert!(!hub.is_dirty());
});

/// Learns who was opened and who is gone.
fn take(hub: &mut Hub, effects: &mut Effects, clients: &mut Vec<Client>) {
    for effect in effects.drain(..) {
        match effect {
            Effect::Opened(transport) => {
                let id = hub.connections(transport.connection.slot, 1)[0].id;
                clients.retain(|client| client.id != id);
                clients.push(Client { transport, id });
                if clients.len() > 12 {
                    clients.remove(0);
                }
            }
            Effect::Answer(request, _) => assert_eq!(request, RequestId(1)),
            Effect::Forward(..) => panic!("there is one core"),
            _ => {}
        }
    }
}

fn flush(hub: &mut Hub, _clients: &[Client]) {
    let mut wires = Wires::default();
    let mut turns = 0;
    while hub.is_dirty() {
        hub.flush(&mut wires);
        turns += 1;
        assert!(turns < 1_000, "a flush must come to an end");
    }
    for bytes in wires.sent.values() {
        check_frames(bytes);
    }
}

/// Whole unmasked frames, whose reliable ids go up.
fn check_frames(mut bytes: &[u8]) {
    let mut last = 0;
    while let [first, len, rest @ ..] = bytes {
        assert_eq!(first & 0x70, 0);
        let (len, rest) = match len {
            126 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            len => (usize::from(*len), rest),
        };
        let (payload, rest) = rest.split_at(len);
        if let Some(at) = payload.windows(14).rposition(|window| window == b",\"sequenceId\":") {
            let id =
                std::str::from_utf8(&payload[at + 14..payload.len() - 1]).unwrap().parse::<u64>().unwrap();
            assert!(last == 0 || id == last + 1, "{id} after {last}");
            last = id;
        }
        bytes = rest;
    }
}
