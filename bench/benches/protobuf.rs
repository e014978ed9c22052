//! The protobuf subprotocol's hot paths: one request in, one message out.
//!
//! Aim: no slower than JSON (`json.rs`) at anything.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringhub_protocol::pubsub::{Data, DataType, Message, Metadata, Sender, protobuf};

/// The requests of `json.rs`: a group of two bytes, an ack id, `no_echo` set to false, and a payload.
fn requests() -> [(&'static str, Vec<u8>); 6] {
    let any = b"\x0a\x02t1\x12\x0801234567";
    [
        ("sendToGroup_text_14", send_to_group(1, b"0123456789abcd")),
        ("sendToGroup_json_15", send_to_group(4, br#"{"a":1,"b":"x"}"#)),
        ("sendToGroup_binary_8", send_to_group(2, b"\x01\x02\x03\x04\x05\x06\x07\x08")),
        ("sendToGroup_any_14", send_to_group(3, any)),
        ("sequenceAck", vec![0x42, 4, 0x08, 0xc0, 0xc4, 0x07]),
        ("ping", vec![0x4a, 0]),
    ]
}

/// Short: all lengths fit a byte.
fn send_to_group(member: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u8;
    let data = [&[member << 3 | 2, length], payload].concat();
    let message = [&b"\x0a\x02g1\x10\x03\x20\x00\x1a"[..], &[length + 2], &data].concat();
    [&[0x0a, message.len() as u8], &*message].concat()
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protobuf_parse");
    for (name, request) in requests() {
        assert!(protobuf::parse(&request).is_ok(), "{name}");
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| protobuf::parse(black_box(&request)).is_ok());
        });
    }
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protobuf_write");
    let sender = Sender::Group { group: "g1", user: Some("user-1") };
    let text = "x".repeat(64);
    let long = "lorem ipsum \"dolor\" ".repeat(100);
    let bytes = [7; 64];
    let any = [b"\x0a\x02t1\x12\x3e", &*"x".repeat(62).into_bytes()].concat();
    let token = format!("\"{}\"", "AQID".repeat(16));
    let token = Data::from_json_token(DataType::Binary, &token).expect("base64");
    let metadata = Metadata::new([("trace", "0123456789abcdef"), ("lang", "en")]).expect("metadata");
    let payloads = [
        ("text_64", Data::text(&text), None),
        ("text_64_metadata", Data::text(&text), metadata.as_ref()),
        ("text_2k", Data::text(&long), None),
        ("binary_64", Data::binary(&bytes), None),
        ("binary_48_from_json", token, None),
        ("any_68", Data::protobuf(&any), None),
    ];
    for (name, data, metadata) in payloads {
        let (mut body, mut out) = (Vec::with_capacity(8192), Vec::with_capacity(8192));
        group.throughput(Throughput::Bytes(data.bytes().len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                body.clear();
                out.clear();
                let message = Message { sender: black_box(sender), data: black_box(data), metadata };
                protobuf::data_body(&mut body, message);
                protobuf::data_message(&mut out, &body, Some(black_box(123_456)));
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, write);
criterion_main!(benches);
