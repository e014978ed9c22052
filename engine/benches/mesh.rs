//! From one core's batch through the queue to the other core's hands.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringhub::measured::MeshPair;
use ringhub_hub::envelope::EnvelopeTarget;
use ringhub_hub::{Envelope, MeshItem};
use ringhub_protocol::pubsub::Data;
use std::hint::black_box;

/// Both ends are this thread's, so the cost of cache lines that go from core to core is not in it.
fn push_and_drain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh_push_and_drain");
    let payload = Bytes::from(vec![b'x'; 64]);
    let target = EnvelopeTarget::Group("g".into(), None);
    let envelope = Envelope::new(target, Data::binary(&payload).into());
    for items in [1, 32, 1024] {
        let mut mesh = MeshPair::new().expect("the kernel gives a ring");
        group.throughput(Throughput::Elements(items));
        group.bench_function(BenchmarkId::new("turn_of", items), |bencher| {
            bencher.iter(|| {
                for _ in 0..items {
                    mesh.push(MeshItem::Publish(black_box(&envelope).clone(), None));
                }
                mesh.send();
                let mut drained = 0;
                mesh.drain(|item| {
                    black_box(item);
                    drained += 1;
                });
                assert_eq!(drained, items);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, push_and_drain);
criterion_main!(benches);
