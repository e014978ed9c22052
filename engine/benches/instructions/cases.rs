//! What is counted: small forms of what the criterion benches time.

use crate::publisher::{Grant, Publisher};
use crate::room::{Members, Room};
use ringhub::measured::{MeshPair, Tokens};
use ringhub_hub::envelope::EnvelopeTarget;
use ringhub_hub::{Envelope, MeshItem};
use ringhub_protocol::auth::role::{Pattern, Role};
use ringhub_protocol::pubsub::{Data, Message, Sender, json};
use ringhub_protocol::ws::utf8::Utf8Reader;
use ringhub_protocol::ws::{Decoder, DecoderLimits, Opcode, frame, mask};
use std::hint::black_box;

/// One line of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Operations in one run, which returns that number; small ones are many, so that the call itself is not counted.
    pub(crate) operations: u64,
    pub(crate) make: fn() -> Box<dyn Subject>,
}

/// Something to measure, set up.
pub(crate) trait Subject {
    /// Undoes what a run changed; not counted.
    fn prepare(&mut self);
    /// Does it, and returns how many operations worked out.
    fn run(&mut self) -> u64;
}

struct Steps<S, P, R> {
    state: S,
    prepare: P,
    run: R,
}

impl<S, P: FnMut(&mut S), R: FnMut(&mut S) -> u64> Subject for Steps<S, P, R> {
    fn prepare(&mut self) {
        (self.prepare)(&mut self.state);
    }
    fn run(&mut self) -> u64 {
        (self.run)(&mut self.state)
    }
}

fn steps<S: 'static>(
    state: S,
    prepare: impl FnMut(&mut S) + 'static,
    run: impl FnMut(&mut S) -> u64 + 'static,
) -> Box<dyn Subject> {
    Box::new(Steps { state, prepare, run })
}

/// `one` many times, without anything to prepare; true if it worked out.
fn repeat(mut one: impl FnMut() -> bool + 'static) -> Box<dyn Subject> {
    steps((), |()| {}, move |()| (0..MANY).map(|_| u64::from(one())).sum())
}

/// Operations of [`repeat`].
const MANY: u64 = 64;

/// Every case, in no order.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    [protocol(), hub(), engine()].into_iter().flatten()
}

fn case(name: &'static str, operations: u64, make: fn() -> Box<dyn Subject>) -> Case {
    Case { name, operations, make }
}

fn protocol() -> Vec<Case> {
    vec![
        case("frame/decode text 64 B", 128, || decode(128, 64, usize::MAX)),
        case("frame/decode text 1 KiB", 16, || decode(16, 1024, usize::MAX)),
        case("frame/decode text 1 KiB, split", 16, || decode(16, 1024, 700)),
        case("frame/encode 64 B", MANY, || encode(64)),
        case("frame/encode 1 KiB", MANY, || encode(1024)),
        case("frame/unmask 61 B", MANY, || unmask(61)),
        case("frame/unmask 1 KiB", MANY, || unmask(1024)),
        case("utf8/ASCII 1 KiB", MANY, || validate("0123456789abcdef", 1024)),
        case("utf8/mixed 1 KiB", MANY, || validate("aé漢😀xyz", 1024)),
        case("utf8/mixed 1 KiB by 61 B", MANY, || validate("aé漢😀xyz", 61)),
        case("json/parse sendToGroup text", MANY, || {
            parse(
                r#"{"type":"sendToGroup","group":"g1","ackId":3,"noEcho":false,"dataType":"text","data":"0123456789abcd"}"#,
            )
        }),
        case("json/parse sendToGroup json", MANY, || {
            parse(
                r#"{"type":"sendToGroup","group":"g1","ackId":3,"noEcho":false,"dataType":"json","data":{"a":1,"b":"x"}}"#,
            )
        }),
        case("json/parse sequenceAck", MANY, || parse(r#"{"type":"sequenceAck","sequenceId":123456}"#)),
        case("json/write text 64 B", MANY, || write(Data::text(TEXT))),
        case("json/write binary 64 B", MANY, || write(Data::binary(TEXT.as_bytes()))),
        case("role/parse literal", MANY, || {
            repeat(|| Role::parse(black_box("webpubsub.sendToGroup.room-999.members")).is_some())
        }),
        case("role/parse pattern", MANY, || {
            repeat(|| Role::parse(black_box("webpubsub.sendToGroups.room-9*.*")).is_some())
        }),
        case("role/match pattern", MANY, || {
            let pattern = Pattern::parse("room-9*.*").expect("a legal pattern");
            repeat(move || pattern.matches(black_box("room-999.members")))
        }),
    ]
}

fn hub() -> Vec<Case> {
    vec![
        case("hub/publish, all groups", MANY, || publish(Grant::All)),
        case("hub/publish, 1 of 1,000 literals", MANY, || publish(Grant::Literals)),
        case("hub/publish, 10th pattern", MANY, || publish(Grant::Patterns)),
        case("flush/raw member", 1000, || flush(Members::Raw, 1)),
        case("flush/JSON member", 1000, || flush(Members::Json, 1)),
        case("flush/JSON member, burst of 32", 1000, || flush(Members::Json, 32)),
        case("flush/mixed member", 1000, || flush(Members::Mixed, 1)),
        case("flush/reliable member, equal", 1000, || flush(Members::Equal, 1)),
        case("flush/reliable member, distinct", 1000, || flush(Members::Distinct, 1)),
    ]
}

fn engine() -> Vec<Case> {
    vec![
        case("mesh/push, send and drain 1", 1, || mesh(1)),
        case("mesh/push, send and drain 64", 64, || mesh(64)),
        case("token/client", MANY, || {
            let tokens = Tokens::default();
            let target = tokens.client_target();
            repeat(move || tokens.admits(black_box(&target)))
        }),
        case("token/REST", MANY, || {
            let tokens = Tokens::default();
            let authorization = tokens.rest_authorization();
            repeat(move || tokens.authorizes(black_box(&authorization)))
        }),
    ]
}

const TEXT: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// `frames` masked text frames in one receive, each cut after `cut` bytes if it is longer.
fn decode(frames: usize, payload_bytes: usize, cut: usize) -> Box<dyn Subject> {
    const LIMITS: DecoderLimits = DecoderLimits { message_bytes_max: 1 << 20, fragments_max: 16_384 };
    let mut one = Vec::new();
    frame::write_header(&mut one, Opcode::Text, payload_bytes);
    one[1] |= 0x80;
    one.extend_from_slice(&KEY);
    let payload_start = one.len();
    one.resize(payload_start + payload_bytes, b'x');
    mask::unmask(&mut one[payload_start..], KEY, 0);
    let (frame_bytes, sent) = (one.len(), one.repeat(frames));
    // Decoding unmasks in place, so each run needs the bytes anew.
    steps(
        (Decoder::new(), sent.clone()),
        move |(_, input)| input.copy_from_slice(&sent),
        move |(decoder, input)| {
            let mut messages = 0;
            for chunk in input.chunks_mut(frame_bytes).flat_map(|frame| frame.chunks_mut(cut)) {
                messages += decoder.next(chunk, &LIMITS).map_or(0, |step| u64::from(step.event.is_some()));
                decoder.release();
            }
            messages
        },
    )
}

fn encode(payload_bytes: usize) -> Box<dyn Subject> {
    let (payload, mut out) = (vec![b'x'; payload_bytes], Vec::with_capacity(2 * payload_bytes));
    repeat(move || {
        out.clear();
        frame::write_frame(&mut out, Opcode::Text, black_box(&payload));
        black_box(&out).len() > payload.len()
    })
}

fn unmask(payload_bytes: usize) -> Box<dyn Subject> {
    let mut payload = vec![b'x'; payload_bytes];
    repeat(move || {
        mask::unmask(black_box(&mut payload), black_box(KEY), black_box(1));
        true
    })
}

/// 1 KiB of `pattern`, read in pieces of `chunk` bytes.
fn validate(pattern: &str, chunk: usize) -> Box<dyn Subject> {
    let mut text = pattern.repeat(1024 / pattern.len());
    text.extend(std::iter::repeat_n('x', 1024 - text.len()));
    let mut collected = String::with_capacity(text.len());
    repeat(move || {
        collected.clear();
        let mut reader = Utf8Reader::default();
        let legal = black_box(&text)
            .as_bytes()
            .chunks(chunk)
            .all(|chunk| reader.append(chunk, &mut collected).is_ok());
        legal && reader.is_complete() && collected.len() == 1024
    })
}

fn parse(request: &'static str) -> Box<dyn Subject> {
    repeat(move || json::parse(black_box(request)).is_ok())
}

fn write(data: Data<'static>) -> Box<dyn Subject> {
    let mut out = Vec::with_capacity(1024);
    repeat(move || {
        out.clear();
        let sender = Sender::Group { group: "g1", user: Some("user-1") };
        json::open_message(&mut out, Message::new(black_box(sender), black_box(data)));
        json::sequence_id(&mut out, black_box(123_456));
        black_box(&out).ends_with(b"}")
    })
}

fn publish(grant: Grant) -> Box<dyn Subject> {
    let mut publisher = Publisher::new(grant);
    repeat(move || publisher.publish())
}

/// One turn's flush to 1,000 members.
fn flush(kind: Members, publications: u64) -> Box<dyn Subject> {
    steps(
        Room::new(kind, 1000),
        move |room| {
            room.acknowledge();
            room.publish(publications);
        },
        Room::flush,
    )
}

fn mesh(items: u64) -> Box<dyn Subject> {
    let target = EnvelopeTarget::Group("g".into(), None);
    let envelope = Envelope::new(target, Data::text(TEXT).into());
    steps(
        MeshPair::new().expect("the kernel gives a ring"),
        |_| {},
        move |mesh| {
            for _ in 0..items {
                mesh.push(MeshItem::Publish(black_box(&envelope).clone(), None));
            }
            mesh.send();
            let mut drained = 0;
            mesh.drain(|item| {
                black_box(item);
                drained += 1;
            });
            drained
        },
    )
}
