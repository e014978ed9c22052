//! The frame codec's hot paths: one message in, one frame out, and their two inner loops.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringhub_protocol::ws::{Decoder, DecoderLimits, Opcode, frame, mask, utf8};

/// A small message, Azure's sample size, and as much as one receive brings.
const PAYLOAD_BYTES: [usize; 3] = [64, 1024, 16 * 1024];

const LIMITS: DecoderLimits = DecoderLimits { message_bytes_max: 1 << 20, fragments_max: 16_384 };

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame_decode");
    for payload_bytes in PAYLOAD_BYTES {
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        for (name, opcode) in [("text", Opcode::Text), ("binary", Opcode::Binary)] {
            let input = client_frame(opcode, payload_bytes);
            group.bench_function(BenchmarkId::new(name, payload_bytes), |bencher| {
                let mut decoder = Decoder::new();
                // Unmasking changes the input, so each round needs a fresh one; the copy is not timed.
                bencher.iter_batched_ref(
                    || input.clone(),
                    |input| black_box(decoder.next(input, &LIMITS)).is_ok_and(|step| step.event.is_some()),
                    BatchSize::SmallInput,
                );
            });
        }
        let input = client_frame(Opcode::Text, payload_bytes);
        group.bench_function(BenchmarkId::new("text_in_two_parts", payload_bytes), |bencher| {
            let mut decoder = Decoder::new();
            bencher.iter_batched_ref(
                || input.clone(),
                |input| {
                    let (first, second) = input.split_at_mut(payload_bytes / 2);
                    let first_is_legal = decoder.next(first, &LIMITS).is_ok();
                    let whole = decoder.next(second, &LIMITS).is_ok_and(|step| step.event.is_some());
                    decoder.release();
                    first_is_legal && whole
                },
                BatchSize::SmallInput,
            );
        });
    }

    // What a receive often brings: many small frames at once.
    let many = client_frame(Opcode::Text, 64).repeat(128);
    group.throughput(Throughput::Elements(128));
    group.bench_function("128_texts_of_64", |bencher| {
        let mut decoder = Decoder::new();
        bencher.iter_batched_ref(
            || many.clone(),
            |input| {
                assert_eq!(read_all(&mut decoder, input), 128);
            },
            BatchSize::SmallInput,
        );
    });

    // As many pieces as a message may have, with nothing in them or a byte each (check 22).
    let pieces = LIMITS.fragments_max as usize;
    group.throughput(Throughput::Elements(pieces as u64));
    for (name, piece) in [
        ("16384_empty_pieces", &[0, 0x80, 1, 2, 3, 4][..]),
        ("16384_pieces_of_1", &[0, 0x81, 1, 2, 3, 4, b'x']),
    ] {
        let mut many = piece.repeat(pieces);
        many[0] = 1;
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || many.clone(),
                |input| assert_eq!(read_all(&mut Decoder::new(), input), 0),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Reads frames to the end of the input; how many messages they were.
fn read_all(decoder: &mut Decoder, input: &mut [u8]) -> usize {
    let (mut at, mut messages) = (0, 0);
    while at < input.len() {
        let step = decoder.next(&mut input[at..], &LIMITS).expect("the frames are legal");
        at += step.consumed;
        messages += usize::from(step.event.is_some());
    }
    messages
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame_encode");
    for payload_bytes in PAYLOAD_BYTES {
        let payload = text(payload_bytes);
        let mut out = Vec::with_capacity(2 * payload_bytes + 14);
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        group.bench_function(BenchmarkId::new("known_length", payload_bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                frame::write_frame(&mut out, Opcode::Text, black_box(&payload));
                black_box(out.len())
            });
        });
        for (name, guess) in [("right_guess", payload_bytes), ("wrong_guess", 0)] {
            group.bench_function(BenchmarkId::new(name, payload_bytes), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    frame::write_frame_with(&mut out, Opcode::Text, guess, |out| {
                        out.extend_from_slice(black_box(&payload));
                    });
                    black_box(out.len())
                });
            });
        }
    }
    group.finish();
}

fn inner_loops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame_inner");
    for payload_bytes in PAYLOAD_BYTES {
        group.throughput(Throughput::Bytes(payload_bytes as u64));
        let mut payload = text(payload_bytes);
        group.bench_function(BenchmarkId::new("unmask", payload_bytes), |bencher| {
            bencher.iter(|| mask::unmask(black_box(&mut payload), black_box([1, 2, 3, 4]), black_box(1)));
        });
        let (ascii, mixed) = (vec![b'x'; payload_bytes], text(payload_bytes));
        let mut collected = String::with_capacity(payload_bytes + 4);
        for (name, payload, chunk_bytes) in [
            ("utf8_ascii", &ascii, payload_bytes),
            ("utf8_mixed", &mixed, payload_bytes),
            ("utf8_mixed_in_two_parts", &mixed, payload_bytes / 2 + 1),
            ("utf8_mixed_by_61", &mixed, 61),
        ] {
            group.bench_function(BenchmarkId::new(name, payload_bytes), |bencher| {
                bencher.iter(|| {
                    collected.clear();
                    let mut reader = utf8::Utf8Reader::default();
                    let mut chunks = black_box(payload).chunks(chunk_bytes);
                    chunks.all(|chunk| reader.append(chunk, &mut collected).is_ok()) && reader.is_complete()
                });
            });
        }
    }
    group.finish();
}

/// Text of exactly this many bytes, every seventh character outside ASCII.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = "abcdef\u{e4}".repeat(bytes / 8);
    text.extend(std::iter::repeat_n('x', bytes - text.len()));
    text.into_bytes()
}

/// One frame as a client sends it.
fn client_frame(opcode: Opcode, payload_bytes: usize) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = Vec::new();
    frame::write_header(&mut out, opcode, payload_bytes);
    out[1] |= 0x80;
    out.extend_from_slice(&key);
    let payload_start = out.len();
    out.extend(text(payload_bytes));
    mask::unmask(&mut out[payload_start..], key, 0);
    out
}

criterion_group!(benches, decode, encode, inner_loops);
criterion_main!(benches);
