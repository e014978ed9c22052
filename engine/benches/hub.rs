//! A hub's hot paths: a turn's flush over its members, and a request's permission check.
//!
//! Aim (design §3): 60 instructions a plain member, 150 with one in ten in two groups; `instructions` counts them.

#[path = "support/publisher.rs"]
mod publisher;
#[path = "support/room.rs"]
mod room;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use publisher::{Grant, Publisher};
use room::{Members, Room};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush");
    group.sample_size(20);
    for kind in [Members::Raw, Members::Json, Members::Mixed, Members::Equal, Members::Distinct] {
        for (members, publications) in [(1000, 1), (1000, 32), (20_000, 1)] {
            let mut room = Room::new(kind, members);
            group.throughput(Throughput::Elements(u64::from(members) * publications));
            let name = BenchmarkId::new(format!("{kind:?}"), format!("{members}x{publications}"));
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|turns| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..turns {
                        room.publish(publications);
                        let start = Instant::now();
                        black_box(room.flush());
                        spent += start.elapsed();
                        room.acknowledge();
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_to_nobody");
    for grant in [Grant::All, Grant::Literals, Grant::Patterns] {
        let mut publisher = Publisher::new(grant);
        group.bench_function(format!("{grant:?}"), |bencher| bencher.iter(|| publisher.publish()));
    }
    group.finish();
}

criterion_group!(benches, flush, publish);
criterion_main!(benches);
