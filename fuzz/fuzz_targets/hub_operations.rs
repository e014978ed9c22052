//! Sequences of operations on one core's hub, flushed with any budget. Nothing may panic; every socket gets
//! whole frames in the encoding it speaks, data messages in the order they were published and sequence ids without
//! a gap, however fan-outs are sliced, as long as nothing can expire; what sockets are told can expire are whole
//! frames in order; event handlers are asked about one event of a connection at a time and told of the end of whoever
//! they were told of; and when everyone has gone, nothing is left.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringhub_hub::effect::{Connect, Effect, Input, Introduction, Question, Recover, Transport};
use ringhub_hub::event::{Event, EventSubject, Refusal, Reply, Route, Routes};
use ringhub_hub::{
    Answer, Budget, Chunk, ConnectionId, CoreId, Effects, Hub, Limits, Part, RequestId, Sink, SocketKey,
    Ticket, Time,
};
use ringhub_protocol::auth::role::Action;
use ringhub_protocol::events::{EventFilter, Message, Presence, SystemEvents, UserEvents};
use ringhub_protocol::name::{EventName, GroupName, HubName, UserId};
use ringhub_protocol::pubsub::{ClientMessage, Data, DataType, Subprotocol};
use ringhub_protocol::rest::{Filter, GroupChange, Operation, Page, Permission, Target};
use ringhub_protocol::ws::{CloseCode, DeflateOffer, Inflater};
use std::collections::HashMap;
use std::sync::Arc;

// Another variant would give every input of the corpus another meaning: what came later is among the values of a field
// that had more than it needed (`Say`, `Slow`, `Time`).
#[derive(Arbitrary, Debug)]
enum Op {
    Connect { kind: u8, group: Option<u8>, raw_group: Option<u8>, asks: bool, deflate: bool },
    Event { client: u8, ack_id: Option<u8>, invoke: bool },
    Cancel { client: u8 },
    Reply { which: u8, what: u8 },
    Recover { client: u8, deflate: bool },
    Join { client: u8, group: u8, ack_id: Option<u8> },
    Leave { client: u8, group: u8, ack_id: Option<u8> },
    Publish { client: u8, group: u8, ack_id: Option<u8>, no_echo: bool, large: bool, ttl: u8 },
    Raw { client: u8 },
    Say { client: u8, what: u8 },
    Acknowledge { client: u8, id: u16 },
    Close { client: u8, code: u8 },
    Lose { client: u8 },
    Congest { client: u8 },
    Writable { client: u8 },
    Slow { client: u8 },
    Send { target: u8, exclude: Option<u8>, ttl: u8, filter: Option<u8> },
    Change { groups: u8, add: bool, filter: Option<u8> },
    List { group: u8, size: u8, after: Option<u8> },
    Permit { client: u8, what: u8, group: Option<u8> },
    CloseThem { target: u8 },
    Group { client: u8, group: u8, what: u8 },
    Time { ms: u8 },
    Flush { sends: u8, whole: u8 },
    FlushAll,
}

struct Client {
    transport: Transport,
    id: ConnectionId,
    subprotocol: Subprotocol,
}

/// What sockets are sent.
#[derive(Default)]
struct Wires {
    /// By socket: what came with this flush.
    sent: HashMap<SocketKey, Vec<u8>>,
    /// By socket: the number of the last data message, and its sequence id.
    last: HashMap<SocketKey, (u64, u64)>,
    /// Whether a message could expire: ids may have gaps then.
    expiry: bool,
    now: Time,
}

impl Sink for Wires {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        for socket in sockets {
            self.take(bytes.clone(), *socket);
        }
    }
    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        for part in parts {
            self.take(bytes.slice(part.start as usize..part.end as usize), part.socket);
        }
    }
}

impl Wires {
    fn take(&mut self, bytes: Chunk, socket: SocketKey) {
        let mut end = 0;
        for frame in bytes.perishable() {
            assert!(self.expiry && end <= frame.start && frame.start < frame.end);
            end = frame.end;
            let whole = &bytes[frame.start as usize..frame.end as usize];
            assert_eq!(whole.len(), frame_len(whole), "a frame and nothing else can be dropped");
        }
        self.sent.entry(socket).or_default().extend_from_slice(&bytes);
    }

    fn flush(&mut self, hub: &mut Hub, budget: Budget) {
        let now = self.now;
        hub.flush(now, self, budget);
        for (socket, bytes) in self.sent.drain() {
            check(&bytes, self.last.entry(socket).or_default(), self.expiry);
        }
    }

    fn flush_all(&mut self, hub: &mut Hub) {
        for _ in 0..1_000 {
            if !hub.is_dirty() {
                return;
            }
            self.flush(hub, Budget::UNLIMITED);
        }
        panic!("a flush must come to an end");
    }
}

const KINDS: [Subprotocol; 5] = [
    Subprotocol::Raw,
    Subprotocol::Json,
    Subprotocol::ReliableJson,
    Subprotocol::Protobuf,
    Subprotocol::ReliableProtobuf,
];

/// One of some filters, about a client if it is known.
fn filter(n: Option<u8>, id: Option<ConnectionId>) -> Option<Filter> {
    let text = match (n? % 8, id) {
        (0, _) => "userId eq 'u'".into(),
        (1, _) => "'g1' in groups or 'g2' in groups".into(),
        (2, _) => "not ('g3' in groups)".into(),
        (3, _) => "protocol eq null".into(),
        (4, _) => "length(groups) gt 1".into(),
        (5, Some(id)) => format!("connectionId in ('{id}', 'nobody')"),
        (6, Some(id)) => format!("connectionId ne '{id}'"),
        _ => "false".into(),
    };
    Filter::parse(&text).expect("legal")
}

fn group(n: u8) -> GroupName<'static> {
    GroupName::parse(format!("g{}", n % 4)).unwrap()
}

fuzz_target!(|ops: Vec<Op>| {
    let mut limits = Limits {
        recovery_window_ms: 100,
        recovery_grace_ms: 10,
        replay_messages_max: 20,
        replay_bytes_max: 200_000,
        groups_per_connection_max: 3,
        ack_ids_max: 4,
        connections_max: 8,
        control_bytes_max: 500,
        permission_literals_max: 2,
        events_waiting_max: 2,
        deflate_bytes_min: 1,
        ..Limits::default()
    };
    // What an operator changes them to, and back.
    let mut others = Limits {
        recovery_window_ms: 10,
        replay_messages_max: 2,
        connections_max: 4,
        lifetime_ms: 500,
        events_waiting_max: 1,
        deflate_bytes_min: 1_000,
        ..limits
    };
    let mut is_short = false;
    let mut hub = Hub::new(HubName::parse("h").unwrap(), CoreId(0), 1, 1, limits, Box::new(|_| "t".into()));
    let (mut now, mut effects, mut next, mut number) = (Time(0), Effects::new(), 0u32, 0u64);
    let (mut clients, mut wires) = (Vec::<Client>::new(), Wires::default());
    let mut handler = Handler::default();
    hub.set_routes(Some(Handler::routes()));
    let large = "x".repeat(40_000);
    for op in ops {
        let pick = |n: u8| {
            clients.get(usize::from(n) % clients.len().max(1)).map(|client| (client.transport, client.id))
        };
        wires.now = now;
        let mut seconds = |ttl: u8| {
            let seconds = u32::from(ttl).saturating_sub(200);
            wires.expiry |= seconds > 0;
            seconds
        };
        let mut socket = || {
            next += 1;
            SocketKey { slot: next, generation: next }
        };
        number += 1;
        let ack = |id: Option<u8>| id.map(u64::from);
        match op {
            Op::Connect { kind, group: first, raw_group, asks, deflate } => {
                let subprotocol = KINDS[usize::from(kind) % KINDS.len()];
                let connect = Connect {
                    socket: socket(),
                    subprotocol,
                    random: u128::from(number),
                    prologue: Vec::new(),
                    user: kind.is_multiple_of(2).then(|| UserId::parse("u").unwrap()),
                    roles: vec!["webpubsub.joinLeaveGroup".into(), "webpubsub.sendToGroups.g?".into()],
                    groups: first.map(group).into_iter().collect(),
                    raw_group: raw_group.map(|n| (group(n), n > 100)),
                    arrival: Default::default(),
                    introduction: asks.then(introduction),
                    deflate: deflate.then(DeflateOffer::default),
                };
                hub.handle(now, Input::Connect(Box::new(connect)), &mut effects);
            }
            Op::Recover { client, deflate } => {
                if let Some((_, id)) = pick(client) {
                    let known = clients.iter().find(|known| known.id == id).expect("it was picked");
                    let subprotocol = known.subprotocol;
                    let (socket, prologue) = (socket(), Vec::new());
                    let recover = Recover { socket, id, subprotocol, address: None, prologue, deflate };
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
            Op::Publish { client, group: n, ack_id, no_echo, large: is_large, ttl } => {
                if let Some((from, _)) = pick(client) {
                    let text = if is_large { format!("{number} {large}") } else { number.to_string() };
                    let data = Data::text(&text);
                    let message = ClientMessage::SendToGroup {
                        group: group(n),
                        ack_id: ack(ack_id),
                        no_echo,
                        data,
                        metadata: None,
                        ttl_seconds: seconds(ttl),
                    };
                    let refused = hub.counters().refused_for_memory;
                    hub.handle(now, Input::Message(from, message), &mut effects);
                    let was_refused = hub.counters().refused_for_memory > refused;
                    assert!(!was_refused || is_short && ack_id.is_some());
                }
            }
            Op::Raw { client } => {
                if let Some((from, _)) = pick(client) {
                    hub.handle(now, Input::Raw(from, Data::binary(b"\x00\xff")), &mut effects);
                }
            }
            Op::Say { client, what } => {
                if let Some((from, _)) = pick(client) {
                    if what >= 192 {
                        hub.handle(now, Input::Control(from, b"\x89\x01?"), &mut effects);
                        continue;
                    }
                    let message = match what % 4 {
                        0 => ClientMessage::Ping,
                        1 => ClientMessage::Invoke {
                            invocation_id: "1".into(),
                            event: None,
                            data: Data::text(""),
                            metadata: None,
                        },
                        2 => ClientMessage::Stream { stream_id: "s".into() },
                        _ => ClientMessage::GroupState { ack_id: Some(1) },
                    };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Event { client, ack_id, invoke } => {
                if let Some((from, _)) = pick(client) {
                    let (event, data) = (EventName::parse("e").unwrap(), Data::text("x"));
                    let message = if invoke {
                        let event = Some(event);
                        ClientMessage::Invoke { invocation_id: "1".into(), event, data, metadata: None }
                    } else {
                        ClientMessage::Event { event, ack_id: ack(ack_id), data, metadata: None }
                    };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Cancel { client } => {
                if let Some((from, _)) = pick(client) {
                    let message = ClientMessage::CancelInvocation { invocation_id: "1".into() };
                    hub.handle(now, Input::Message(from, message), &mut effects);
                }
            }
            Op::Reply { which, what } => {
                if !handler.questions.is_empty() {
                    let question = usize::from(which) % handler.questions.len();
                    let reply = handler.answer(question, what, number);
                    hub.handle(now, reply, &mut effects);
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
                if let Some((from, id)) = pick(client) {
                    let input = match client / 64 {
                        0 => Input::SlowConsumer(from),
                        1 => Input::Drain(from),
                        2 => Input::Throttled(from),
                        _ => Input::Shed(from.connection),
                    };
                    let is_shed = matches!(input, Input::Shed(_));
                    hub.handle(now, input, &mut effects);
                    assert!(
                        !is_shed || hub.connections(0, usize::MAX).iter().all(|row| row.id != id),
                        "with or without a socket"
                    );
                }
            }
            Op::Send { target, exclude, ttl, filter: chosen } => {
                let text = if target > 200 { format!("{number} {large}") } else { number.to_string() };
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
                let about = chosen.and_then(|n| pick(n / 8)).map(|(_, id)| id);
                let filter = filter(chosen, about);
                let send = Operation::Send { target, excluded, filter, ttl_seconds: seconds(ttl) };
                hub.handle(
                    now,
                    Input::Operation(RequestId(1), &send, Some(Data::text(&text).into())),
                    &mut effects,
                );
            }
            Op::Change { groups, add, filter: chosen } => {
                let about = chosen.and_then(|n| pick(n / 8)).map(|(_, id)| id);
                let change = if add { GroupChange::Add } else { GroupChange::Remove };
                let groups = (0..4).filter(|n| groups & 1 << n != 0).map(group).collect();
                let change = Operation::ChangeGroups { change, groups, filter: filter(chosen, about) };
                hub.handle(now, Input::Operation(RequestId(1), &change, None), &mut effects);
            }
            Op::List { group: n, size, after } => {
                let after = after.and_then(pick).map(|(_, id)| id.to_string());
                let page = Page {
                    size: Some(1 + u32::from(size % 4)),
                    top: None,
                    after: after.as_deref().map(Box::from),
                };
                let len_max = page.len_max();
                let list = Operation::ListMembers { group: group(n), page };
                hub.handle(now, Input::Operation(RequestId(1), &list, None), &mut effects);
                let Some(Effect::Answer(_, Answer::Members(found))) = effects.last() else {
                    panic!("{effects:?}")
                };
                let ids: Vec<String> = found.members.iter().map(|member| member.id.to_string()).collect();
                assert!(ids.len() <= len_max && (!found.more || ids.len() == len_max));
                assert!(ids.is_sorted_by(|a, b| a < b), "in order, and each once: {ids:?}");
                assert!(ids.first().is_none_or(|first| after.as_ref().is_none_or(|after| first > after)));
                let rows = hub.connections(0, usize::MAX);
                assert!(
                    found
                        .members
                        .iter()
                        .all(|member| rows.iter().any(|row| row.id == member.id && row.groups > 0))
                );
            }
            Op::Permit { client, what, group: n } => {
                if let Some((_, id)) = pick(client) {
                    let action = if what & 1 == 0 { Action::JoinLeaveGroup } else { Action::SendToGroup };
                    let connection = Target::Connection(id.to_string().into());
                    let permission = Permission { connection, action, group: n.map(group) };
                    let (change, allowed) = match what / 2 % 3 {
                        0 => (Operation::Grant(permission.clone()), true),
                        1 => (Operation::Revoke(permission.clone()), false),
                        _ => (Operation::Check(permission.clone()), false),
                    };
                    hub.handle(now, Input::Operation(RequestId(1), &change, None), &mut effects);
                    if !matches!(change, Operation::Check(_))
                        && matches!(effects.last(), Some(Effect::Answer(_, Answer::Done)))
                        && hub.connections(0, usize::MAX).iter().any(|row| row.id == id)
                    {
                        // What was changed is so.
                        let check = Operation::Check(permission);
                        hub.handle(now, Input::Operation(RequestId(1), &check, None), &mut effects);
                        let is = matches!(effects.last(), Some(Effect::Answer(_, Answer::Done)));
                        assert_eq!(is, allowed);
                    }
                }
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
                match ms {
                    255 => {
                        is_short = !is_short;
                        hub.set_short_of_memory(is_short);
                    }
                    254 => {
                        others = std::mem::replace(&mut limits, others);
                        hub.set_limits(limits);
                    }
                    _ => {}
                }
                // Mostly less than a window, sometimes more than a second.
                now = now.after_ms(u64::from(ms) * if ms > 200 { 20 } else { 1 });
                hub.handle_timeout(now, &mut effects);
            }
            Op::Flush { sends, whole } => {
                let budget = Budget { sends: u32::from(sends % 8), whole: u32::from(whole % 4) };
                wires.flush(&mut hub, budget);
            }
            Op::FlushAll => wires.flush_all(&mut hub),
        }
        take(&mut hub, &mut effects, &mut clients, &mut handler);
    }
    hub.handle(now, Input::Stop, &mut effects);
    take(&mut hub, &mut effects, &mut clients, &mut handler);
    while !handler.questions.is_empty() {
        let reply = handler.answer(0, 1, number);
        hub.handle(now, reply, &mut effects);
        take(&mut hub, &mut effects, &mut clients, &mut handler);
    }
    assert!(!hub.awaits_replies());
    handler.finish();
    wires.flush_all(&mut hub);
    hub.handle_timeout(now, &mut effects);
    assert_eq!((hub.counters().connections, hub.counters().suspended), (0, 0));
    assert_eq!(hub.group_counts(), (0, 0));
    assert!(!hub.is_dirty());
});

/// The application server: it is asked and told, and must see every connection's events in order.
#[derive(Default)]
struct Handler {
    questions: Vec<(Ticket, ConnectionId, bool)>,
    connections: HashMap<ConnectionId, Known>,
}

/// What it knows of a connection.
#[derive(Default)]
struct Known {
    open: bool,
    here: bool,
    ended: bool,
}

impl Handler {
    fn routes() -> Arc<Routes> {
        let system = SystemEvents { connect: true, connected: true, disconnected: true };
        let presence = Presence { joined: true, left: true, ..Presence::default() };
        let filter = EventFilter { system, user: UserEvents::All, presence };
        Arc::new(Routes { handlers: vec![Route { filter, target: Arc::new(()) }], ..Routes::default() })
    }

    fn take(&mut self, event: &Event) {
        let known = self.connections.entry(event.caller.id).or_default();
        assert!(!known.ended, "{event:?} after the end");
        match event.subject {
            EventSubject::Connected => assert!(!std::mem::replace(&mut known.here, true) || !known.open),
            EventSubject::Disconnected => {
                assert!(known.here && !known.open);
                known.ended = true;
            }
            _ => {}
        }
        if let Some(ticket) = event.ticket {
            assert!(!std::mem::replace(&mut known.open, true), "one question at a time");
            let is_connect = event.subject == EventSubject::Connect;
            self.questions.push((ticket, event.caller.id, is_connect));
        }
    }

    fn answer(&mut self, question: usize, what: u8, number: u64) -> Input<'static> {
        let (ticket, id, is_connect) = self.questions.swap_remove(question);
        let known = self.connections.get_mut(&id).expect("it was asked about");
        known.open = false;
        let message =
            |text: String| Message { data_type: DataType::Text, bytes: text.into(), metadata: None };
        let reply = match what % 4 {
            0 if is_connect => {
                known.here = true;
                Reply::Accepted(Box::default())
            }
            1 => Reply::Failed(500),
            2 if is_connect => Reply::Refused(Refusal { status: 401, content_type: None, body: "no".into() }),
            2 => Reply::Answered(Some(message(number.to_string()))),
            _ => Reply::Answered(None),
        };
        Input::Reply(ticket, reply)
    }

    fn finish(&self) {
        for (id, known) in &self.connections {
            assert_eq!(known.here, known.ended, "{id}");
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

/// Learns who was opened and who is gone.
fn take(hub: &mut Hub, effects: &mut Effects, clients: &mut Vec<Client>, handler: &mut Handler) {
    for effect in effects.drain(..) {
        match effect {
            Effect::Opened(transport) => {
                let row = &hub.connections(transport.connection.slot, 1)[0];
                let (id, subprotocol) = (row.id, row.subprotocol);
                clients.retain(|client| client.id != id);
                clients.push(Client { transport, id, subprotocol });
                if clients.len() > 12 {
                    clients.remove(0);
                }
            }
            Effect::Event(event) => handler.take(&event),
            Effect::Answer(request, _) => assert_eq!(request, RequestId(1)),
            Effect::Forward(..) => panic!("there is one core"),
            _ => {}
        }
    }
}

/// Lengths of a frame's header and payload.
fn frame_lens(frame: &[u8]) -> (usize, usize) {
    match frame[1] {
        126 => (4, usize::from(frame[2]) << 8 | usize::from(frame[3])),
        127 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize),
        len => (2, usize::from(len)),
    }
}

fn frame_len(frame: &[u8]) -> usize {
    let (header, payload) = frame_lens(frame);
    header + payload
}

/// Whole unmasked frames, whose numbers and ids go up from the last ones.
fn check(mut bytes: &[u8], (last_number, last_id): &mut (u64, u64), gaps: bool) {
    // The upgrade's answer, where the hub writes it.
    if bytes.starts_with(b"HTTP/") {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        bytes = &bytes[end + 4..];
    }
    while let [first, _, ..] = bytes {
        assert!(matches!(first & 0x70, 0 | 0x40));
        let (header, len) = frame_lens(bytes);
        let (mut payload, rest) = bytes[header..].split_at(len);
        bytes = rest;
        let mut inflater = Inflater::default();
        if first & 0x40 != 0 {
            payload = inflater.inflate(payload, 1 << 20, first & 15 == 1).expect("a whole message");
        }
        let (data, id) = match payload {
            // A raw client's message is the data.
            [b'0'..=b'9', ..] if first & 15 == 1 => (payload, None),
            _ if first & 15 == 2 => protobuf_data(payload),
            _ => {
                let id = after(payload, b",\"sequenceId\":").and_then(leading_number);
                (after(payload, b",\"data\":\"").unwrap_or_default(), id)
            }
        };
        if let Some(number) = leading_number(data) {
            assert!(number > *last_number, "{number} after {last_number}");
            *last_number = number;
        }
        if let Some(id) = id {
            let is_next = if gaps { id > *last_id } else { id == *last_id + 1 };
            assert!(*last_id == 0 || is_next, "{id} after {last_id}");
            *last_id = id;
        }
    }
}

/// Text and sequence id of a protobuf data message; nothing of other messages.
fn protobuf_data(payload: &[u8]) -> (&[u8], Option<u64>) {
    // A raw client's bytes.
    if payload == b"\x00\xff" {
        return (b"", None);
    }
    let mut whole = payload;
    let (number, _, message) = field(&mut whole);
    assert!(whole.is_empty(), "one message");
    let (mut rest, mut data, mut id) = (message, &b""[..], None);
    while number == 2 && !rest.is_empty() {
        match field(&mut rest) {
            (3, _, mut content) => data = field(&mut content).2,
            (4, value, _) => id = Some(value),
            _ => {}
        }
    }
    (data, id)
}

/// Takes one field: its number, its value or length, its bytes.
fn field<'a>(bytes: &mut &'a [u8]) -> (u64, u64, &'a [u8]) {
    let tag = varint(bytes);
    let value = varint(bytes);
    let len = if tag & 7 == 2 { value as usize } else { 0 };
    let (content, rest) = bytes.split_at(len);
    *bytes = rest;
    (tag >> 3, value, content)
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a whole varint");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

/// What follows the first `pattern`.
fn after<'a>(text: &'a [u8], pattern: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(pattern.len()).position(|window| window == pattern)?;
    Some(&text[at + pattern.len()..])
}

fn leading_number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).expect("digits").parse().ok()
}
