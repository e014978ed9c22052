//! Who may come in: one upgrade with a token, one REST call with a token.
//!
//! Aim (design §4): a connect with token costs at most 60 µs of CPU in all.

use criterion::{Criterion, criterion_group, criterion_main};
use ringhub::measured::Tokens;
use std::hint::black_box;

fn verify(criterion: &mut Criterion) {
    let tokens = Tokens::default();
    let (target, authorization) = (tokens.client_target(), tokens.rest_authorization());
    assert!(tokens.admits(&target) && tokens.authorizes(&authorization));
    let mut group = criterion.benchmark_group("token");
    group.bench_function("client", |bencher| bencher.iter(|| tokens.admits(black_box(&target))));
    group.bench_function("rest", |bencher| bencher.iter(|| tokens.authorizes(black_box(&authorization))));
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
