//! The JSON subprotocol's hot paths: one request in, one message out.
//!
//! Aim: at most 300 ns to read a `sendToGroup` of 100 bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringhub_protocol::pubsub::{Data, Message, Sender, json};

/// Requests as the JavaScript client writes them.
const REQUESTS: [(&str, &str); 5] = [
    (
        "sendToGroup_text_100",
        r#"{"type":"sendToGroup","group":"g1","ackId":3,"noEcho":false,"dataType":"text","data":"0123456789abcd"}"#,
    ),
    (
        "sendToGroup_json_100",
        r#"{"type":"sendToGroup","group":"g1","ackId":3,"noEcho":false,"dataType":"json","data":{"a":1,"b":"x"}}"#,
    ),
    (
        "sendToGroup_binary_100",
        r#"{"type":"sendToGroup","group":"g1","ackId":3,"noEcho":false,"dataType":"binary","data":"AQIDBAUGBwg="}"#,
    ),
    ("sequenceAck", r#"{"type":"sequenceAck","sequenceId":123456}"#),
    ("ping", r#"{"type":"ping"}"#),
];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json_parse");
    for (name, request) in REQUESTS {
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| json::parse(black_box(request)).is_ok()));
    }
    let text = "lorem ipsum \\\"dolor\\\" ".repeat(100);
    let request = format!(r#"{{"type":"sendToGroup","group":"g1","dataType":"text","data":"{text}"}}"#);
    group.throughput(Throughput::Bytes(request.len() as u64));
    group.bench_function("sendToGroup_text_2k_escaped", |bencher| {
        bencher.iter(|| json::parse(black_box(&request)).is_ok());
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json_write");
    let sender = Sender::Group { group: "g1", user: Some("user-1") };
    let text = "x".repeat(64);
    let long = "lorem ipsum \"dolor\" ".repeat(100);
    let bytes = [7; 64];
    let payloads = [
        ("text_64", Data::text(&text)),
        ("text_2k_escaped", Data::text(&long)),
        ("binary_64", Data::binary(&bytes)),
    ];
    for (name, data) in payloads {
        let mut out = Vec::with_capacity(8192);
        group.throughput(Throughput::Bytes(data.bytes().len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                json::open_message(&mut out, Message::new(black_box(sender), black_box(data)));
                json::sequence_id(&mut out, black_box(123_456));
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, write);
criterion_main!(benches);
