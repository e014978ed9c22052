//! The boundary of hub and engine without an engine: publications to one large group, flushed into a sink
//! that does nothing. Holds that a turn allocates nothing per member, and that what a sink keeps takes hardly more
//! memory than it has bytes; instructions are counted, and compared, by `engine/benches/instructions`.

use ringhub_hub::effect::Connect;
use ringhub_hub::{
    Budget, Chunk, CoreId, Effect, Effects, Hub, Input, Limits, Part, RequestId, Sink, SocketKey, Time,
    Transport,
};
use ringhub_protocol::name::{GroupName, HubName};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::extension::DeflateOffer;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Bytes allocated and not freed.
static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Default)]
struct Null {
    sends: u64,
    bytes: u64,
}

impl Sink for Null {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        self.sends += sockets.len() as u64;
        self.bytes += bytes.len() as u64 * sockets.len() as u64;
        black_box(sockets);
    }
    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        self.sends += parts.len() as u64;
        self.bytes += parts.iter().map(|part| u64::from(part.end - part.start)).sum::<u64>();
        black_box((bytes, parts));
    }
}

/// Keeps what it is given, as the outbox of a socket that takes nothing does.
#[derive(Default)]
struct Keeping {
    chunks: Vec<Chunk>,
    bytes: usize,
}

impl Sink for Keeping {
    fn shared(&mut self, bytes: &Chunk, sockets: &[SocketKey]) {
        self.bytes += bytes.len();
        self.chunks.extend(sockets.iter().map(|_| bytes.clone()));
    }
    fn each(&mut self, bytes: &Chunk, parts: &[Part]) {
        for part in parts {
            let kept = bytes.keep(part.start as usize..part.end as usize);
            self.bytes += kept.len();
            self.chunks.push(kept);
        }
    }
}

fn group(name: &str) -> GroupName<'static> {
    GroupName::parse(name.to_owned()).expect("legal")
}

fn main() {
    for format in ["raw", "json", "reliable", "mixed", "deflated", "deflated reliable"] {
        let allocations = run(format, 20_000, 4, 2);
        assert!(allocations < 200, "{format}: {allocations} allocations in a turn of 20,000 members");
    }
    for (subprotocol, deflate) in [
        (Subprotocol::Raw, true),
        (Subprotocol::Json, true),
        (Subprotocol::Protobuf, true),
        (Subprotocol::ReliableJson, true),
        (Subprotocol::ReliableProtobuf, true),
        (Subprotocol::Json, false),
        (Subprotocol::ReliableJson, false),
    ] {
        for direct in [false, true] {
            what_is_kept_takes_no_more_than_it_has_bytes(subprotocol, deflate, direct);
        }
    }
    println!("test result: ok. 20 passed; 0 failed");
}

/// A hub with members of one group, and what opened them.
fn hub_with(members: u32, connect: impl Fn(&mut Connect)) -> (Hub, Vec<Transport>) {
    let name = HubName::parse("bench").expect("legal");
    let mut hub = Hub::new(name, CoreId(0), 1, 1, Limits::default(), Box::new(|_| "token".into()));
    let mut effects = Effects::new();
    for slot in 0..members {
        let mut one = Connect {
            socket: SocketKey { slot, generation: 1 },
            subprotocol: Subprotocol::Json,
            random: u128::from(slot),
            prologue: Vec::new(),
            user: None,
            roles: Vec::new(),
            groups: vec![group("g")],
            raw_group: None,
            arrival: Default::default(),
            introduction: None,
            deflate: None,
        };
        connect(&mut one);
        hub.handle(Time(0), Input::Connect(Box::new(one)), &mut effects);
    }
    let opened = effects
        .drain(..)
        .filter_map(|effect| match effect {
            Effect::Opened(transport) => Some(transport),
            _ => None,
        })
        .collect();
    hub.flush(Time(0), &mut Null::default(), Budget::UNLIMITED);
    (hub, opened)
}

/// Everybody confirms everything up to an id.
fn acknowledge(hub: &mut Hub, opened: &[Transport], sequence_id: u64, effects: &mut Effects) {
    for transport in opened {
        let message = ClientMessage::SequenceAck { sequence_id };
        hub.handle(Time(0), Input::Message(*transport, message), effects);
    }
}

/// Returns the allocations of the last turn.
fn run(format: &str, members: u32, turns: u32, burst: u32) -> u64 {
    let subprotocol = match format {
        "raw" => Subprotocol::Raw,
        "reliable" | "deflated reliable" => Subprotocol::ReliableJson,
        _ => Subprotocol::Json,
    };
    let deflate = format.starts_with("deflated");
    let (mut hub, opened) = hub_with(members, |connect| {
        connect.subprotocol = subprotocol;
        connect.deflate = deflate.then(DeflateOffer::default);
        if format == "mixed" && connect.socket.slot % 10 == 0 {
            connect.groups.push(group("h"));
        }
    });
    let mut effects = Effects::new();
    let send = |group_name| Operation::send(Target::Group(group(group_name)));
    let (to_g, to_h) = (send("g"), send("h"));
    // What is deflated is longer than what need not be.
    let payload = "x".repeat(if deflate { 2_000 } else { 64 });
    let (mut allocations, mut sequence) = (0, 0);
    let mut sink = Null::default();
    for turn in 0..turns {
        let before = ALLOCATIONS.load(Relaxed);
        for _ in 0..burst {
            hub.handle(
                Time(0),
                Input::Operation(RequestId(1), &to_g, Some(Data::text(&payload).into())),
                &mut effects,
            );
            if format == "mixed" {
                hub.handle(
                    Time(0),
                    Input::Operation(RequestId(1), &to_h, Some(Data::text(&payload).into())),
                    &mut effects,
                );
            }
        }
        hub.flush(Time(0), &mut sink, Budget::UNLIMITED);
        effects.clear();
        // The first turns grow the buffers that later ones reuse.
        if turn == turns - 1 {
            allocations = ALLOCATIONS.load(Relaxed) - before;
        }
        sequence += u64::from(burst);
        if subprotocol.is_reliable() {
            acknowledge(&mut hub, &opened, sequence, &mut effects);
        }
    }
    assert_eq!(hub.counters().messages_deflated, if deflate { u64::from(turns * burst) } else { 0 });
    println!(
        "{format}: {} sends, {} bytes; {allocations} allocations in the last turn of {members} members",
        sink.sends, sink.bytes
    );
    allocations
}

/// A chunk of deflated frames kept memory for the plain ones alive, and one of a small turn that of a larger turn
/// before it: nothing counted either.
fn what_is_kept_takes_no_more_than_it_has_bytes(subprotocol: Subprotocol, deflate: bool, direct: bool) {
    let (mut hub, opened) = hub_with(1, |connect| {
        connect.subprotocol = subprotocol;
        connect.deflate = deflate.then(DeflateOffer::default);
    });
    let target = match direct {
        true => Target::Connection(hub.connections(0, 1)[0].id.text().as_str().into()),
        false => Target::Group(group("g")),
    };
    let send = Operation::send(target);
    // Deflated, a hundredth of it is left.
    let (large, small) = ("all work and no play ".repeat(3_000), "makes Jack a dull boy");
    let (mut effects, mut sink, mut before) = (Effects::new(), Keeping::default(), 0);
    for turn in 0..64 {
        // The first turn makes what is kept for good, the codec above all.
        if turn == 2 {
            sink = Keeping::default();
            before = LIVE.load(Relaxed);
        }
        // Without permessage-deflate what is large is as large as it looks: nobody keeps it.
        let is_large = deflate || turn % 2 == 0;
        let text = if is_large { &large } else { small };
        let message = Input::Operation(RequestId(1), &send, Some(Data::text(text).into()));
        hub.handle(Time(0), message, &mut effects);
        effects.clear();
        if deflate || !is_large {
            hub.flush(Time(0), &mut sink, Budget::UNLIMITED);
        } else {
            hub.flush(Time(0), &mut Null::default(), Budget::UNLIMITED);
        }
        if subprotocol.is_reliable() {
            acknowledge(&mut hub, &opened, turn + 1, &mut effects);
            effects.clear();
        }
    }
    let (held, chunks) = (LIVE.load(Relaxed) - before, sink.chunks.len());
    println!(
        "{subprotocol:?}, deflate {deflate}, direct {direct}: {held} bytes held for {} in {chunks} chunks",
        sink.bytes
    );
    assert!(chunks >= 31 && sink.bytes > 0);
    assert!(held < 128 << 10, "{held} bytes are held for {} in {chunks} chunks", sink.bytes);
}
