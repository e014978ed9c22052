//! Roles: read once a connect, patterns matched once a request.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringhub_protocol::auth::role::{Pattern, Role};

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("role_parse");
    for (name, role) in [
        ("all", "webpubsub.sendToGroup"),
        ("literal", "webpubsub.sendToGroup.room-999.members"),
        ("pattern", "webpubsub.sendToGroups.room-9*.*"),
        ("unknown", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| Role::parse(black_box(role)).is_some()));
    }
    group.finish();
}

fn matches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("role_match");
    let long = "a".repeat(1024);
    for (name, pattern, target) in [
        ("two_labels", "room-9*.*", "room-999.members"),
        ("early_miss", "house-*", "room-999.members"),
        ("late_miss", "room-9*.staff", "room-999.members"),
        ("worst", "*a*a*a*a*b", long.as_str()),
    ] {
        let pattern = Pattern::parse(pattern).expect("a legal pattern");
        group.bench_function(name, |bencher| bencher.iter(|| pattern.matches(black_box(target))));
    }
    group.finish();
}

criterion_group!(benches, parse, matches);
criterion_main!(benches);
