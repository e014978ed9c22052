//! Filters: reading one, and asking it about a connection.
//!
//! Aim: the usual shapes cost at most 20 ns a connection, beside what the connection's own look-ups cost.

use std::collections::HashSet;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringhub_protocol::rest::filter::{Filter, Subject};

struct Client {
    groups: HashSet<&'static str>,
}

impl Subject for Client {
    fn connection_id(&self) -> &str {
        "kT3aUbZ0r9mPq1xWv8Yc2A0000000001"
    }

    fn user(&self) -> Option<&str> {
        Some("user-4711")
    }

    fn protocol(&self) -> Option<&str> {
        Some("json.webpubsub.azure.v1")
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.contains(group)
    }

    fn group_count(&self) -> usize {
        self.groups.len()
    }
}

const FILTERS: [(&str, &str); 8] = [
    ("user_eq", "userId eq 'user-4711'"),
    ("connection_eq", "connectionId eq 'kT3aUbZ0r9mPq1xWv8Yc2A0000000001'"),
    ("group", "'g1' in groups"),
    ("group_and_user", "'g1' in groups and userId eq 'user-4711'"),
    ("socketio", "'0~Lw~cm0' in groups and (not ('0~Lw~YWJj' in groups or connectionId eq '0~8'))"),
    ("length", "length(groups) gt 1 and length(userId) le 9"),
    ("startswith", "startswith(userId, 'user-') and endswith(protocol, '.v1')"),
    ("builds_a_string", "concat(toupper(userId), '!') eq 'USER-4711!'"),
];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter_parse");
    let ids: Vec<String> = (0..300).map(|n| format!("'user-{n}'")).collect();
    let list = format!("userId in ({})", ids.join(","));
    let deep = format!("{}true{}", "(".repeat(100), ")".repeat(100));
    let all = FILTERS.into_iter().chain([("in_300", list.as_str()), ("deep_100", &deep)]);
    for (name, text) in all {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| Filter::parse(black_box(text)).is_ok()));
    }
    // The most that a refusal costs: everything is read before the end is missed.
    let open = format!("{list} and ");
    group.throughput(Throughput::Bytes(open.len() as u64));
    group.bench_function("refused", |bencher| bencher.iter(|| Filter::parse(black_box(&open)).is_err()));
    group.finish();
}

fn matches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter_match");
    let client = Client { groups: HashSet::from(["g1", "g2", "0~Lw~", "0~Lw~cm0"]) };
    for (name, text) in FILTERS {
        let filter = Filter::parse(text).expect("a filter").expect("not blank");
        assert!(filter.matches(&client), "{text}");
        group.bench_function(name, |bencher| bencher.iter(|| filter.matches(black_box(&client))));
    }
    // The whole list, in vain.
    let ids: Vec<String> = (0..300).map(|n| format!("'user-{n}'")).collect();
    let filter = Filter::parse(&format!("userId in ({})", ids.join(","))).expect("a filter").expect("one");
    group.bench_function("in_300", |bencher| bencher.iter(|| filter.matches(black_box(&client))));
    group.finish();
}

criterion_group!(benches, parse, matches);
criterion_main!(benches);
