//! The boundary of hub and engine without an engine: publications to one large group, flushed into a sink
//! that does nothing. Holds that a turn allocates nothing per member; instructions are counted, and compared, by
//! `engine/benches/instructions`.

use ringhub_hub::effect::Connect;
use ringhub_hub::{
    Budget, Chunk, CoreId, Effects, Hub, Input, Limits, Part, RequestId, Sink, SocketKey, Time,
};
use ringhub_protocol::name::{GroupName, HubName};
use ringhub_protocol::pubsub::{Data, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
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

fn group(name: &str) -> GroupName<'static> {
    GroupName::parse(name.to_owned()).expect("legal")
}

fn main() {
    for format in ["raw", "json", "reliable", "mixed"] {
        let allocations = run(format, 20_000, 4, 2);
        assert!(allocations < 200, "{format}: {allocations} allocations in a turn of 20,000 members");
    }
    println!("test result: ok. 4 passed; 0 failed");
}

/// Returns the allocations of the last turn.
fn run(format: &str, members: u32, turns: u32, burst: u32) -> u64 {
    let subprotocol = match format {
        "raw" => Subprotocol::Raw,
        "reliable" => Subprotocol::ReliableJson,
        _ => Subprotocol::Json,
    };
    let name = HubName::parse("bench").expect("legal");
    let mut hub = Hub::new(name, CoreId(0), 1, 1, Limits::default(), Box::new(|_| "token".into()));
    let (mut effects, mut sink) = (Effects::new(), Null::default());
    for slot in 0..members {
        let mut groups = vec![group("g")];
        if format == "mixed" && slot % 10 == 0 {
            groups.push(group("h"));
        }
        let connect = Connect {
            socket: SocketKey { slot, generation: 1 },
            subprotocol,
            random: u128::from(slot),
            prologue: Vec::new(),
            user: None,
            roles: Vec::new(),
            groups,
            raw_group: None,
            arrival: Default::default(),
            introduction: None,
            deflate: None,
        };
        hub.handle(Time(0), Input::Connect(Box::new(connect)), &mut effects);
    }
    let opened: Vec<_> = effects
        .drain(..)
        .filter_map(|effect| match effect {
            ringhub_hub::Effect::Opened(transport) => Some(transport),
            _ => None,
        })
        .collect();
    hub.flush(Time(0), &mut sink, Budget::UNLIMITED);
    let send = |group_name| Operation::send(Target::Group(group(group_name)));
    let (to_g, to_h) = (send("g"), send("h"));
    let payload = "x".repeat(64);
    let (mut allocations, mut sequence) = (0, 0);
    sink = Null::default();
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
            for transport in &opened {
                let message = ringhub_protocol::pubsub::ClientMessage::SequenceAck { sequence_id: sequence };
                hub.handle(Time(0), Input::Message(*transport, message), &mut effects);
            }
        }
    }
    println!(
        "{format}: {} sends, {} bytes; {allocations} allocations in the last turn of {members} members",
        sink.sends, sink.bytes
    );
    allocations
}
