//! Several cores of two hubs in one thread under a seeded scheduler: a mesh whose rings hold one batch each, flushes
//! with so small a budget that most fan-outs to more than a few are sliced, bounds that are reached, and every fault
//! of [`Fault`]. Checked against a simple model:
//!
//! - a member whose join was acknowledged gets every later publication, once, in each publisher's order, also
//!   across groups; REST sends arrive in the order of their answers, wherever they came in, and
//!   those with a filter reach whom it holds for and nobody else;
//! - nobody gets a group's message after its leave was acknowledged, another hub's, or one that was denied, be it for
//!   a missing permission or for want of memory;
//! - what an application changes by REST holds from the answer on: who is in a group gets its messages, who is out gets
//!   none behind the next ping; who may do what; who is closed and who is not;
//! - whatever arrives is whole, deflated or not, however long; pings come in order, each invocation is answered once;
//! - reliable clients see every id once and in order over any number of sockets;
//! - messages whose time is over may be missing, their ids too; none that waited in a queue arrives late;
//! - an event handler is asked about one event of a connection at a time, in order, about each once, and never after
//!   the connection's end; whoever it let in or was told of, it is told of their end; answers come in their order.
//!
//! There are two kinds of runs over each setup:
//!
//! - *safety*: faults never end, connections are refused and end of age, cores stop in the middle. None of the above
//!   may be broken at any step, and when all cores have stopped, nothing is left;
//! - *liveness*: faults end. Within a bounded number of rounds every join is acknowledged, every request answered,
//!   every message that is owed delivered, and each core knows exactly who is in which group, here and elsewhere; then
//!   everybody joins, publishes and hears once more, leaves, and nothing is left.
//!
//! A seed that fails prints the command that repeats it. `RINGHUB_SIM_SEEDS=10000` makes a night's run of it
//! (about ten simulated minutes a seed):
//!
//! ```sh
//! RINGHUB_SIM_SEEDS=10000 cargo test --release -p ringhub-hub --test sim -- --nocapture
//! ```
//!
//! `RINGHUB_SIM_SEED=n` repeats one seed, `RINGHUB_SIM_STEPS=n` makes runs longer.

mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use world::{DEEDS, Fault, Mode, Setup, Tally, World};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

fn run(test: &str, setup: Setup, mode: Mode, default_seeds: u64) {
    let steps = number("RINGHUB_SIM_STEPS").unwrap_or(4_000);
    let seeds = match number("RINGHUB_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGHUB_SIM_SEEDS").unwrap_or(default_seeds),
    };
    let count = seeds.end - seeds.start;
    let mut tally = Tally::default();
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(setup, mode, seed);
            (0..steps).for_each(|_| world.step());
            world.finish();
            world.tally
        }));
        match outcome {
            Ok(run) => tally.add(&run),
            Err(panic) => {
                eprintln!(
                    "repeat with: RINGHUB_SIM_SEED={seed} RINGHUB_SIM_STEPS={steps} \
                     cargo test -p ringhub-hub --test sim -- --exact {test}"
                );
                resume_unwind(panic);
            }
        }
    }
    let Tally { operations, deliveries, sliced, expired, answered, inflated, large, rounds, .. } = tally;
    println!(
        "{} {mode:?}: {count} seeds, {operations} operations, {deliveries} deliveries checked, {sliced} flushes \
         sliced, {expired} expired, {inflated} inflated, {large} large, {answered} questions answered; {:.1} simulated hours and {:.0} in jumps; right \
         again in {rounds} rounds; {}; {:?}",
        setup.name,
        tally.ticked_ms as f64 / 3_600_000.0,
        tally.jumped_ms as f64 / 3_600_000.0,
        tally.coverage,
        tally.deeds,
    );
    // Seeds are counted from 0, so what the usual number of them has had, more of them have had.
    if count < default_seeds {
        return;
    }
    let missing = tally.coverage.missing(mode, setup.cores);
    assert_eq!(missing, [] as [Fault; 0], "the simulation must have had each kind of fault");
    let undone: Vec<_> = DEEDS.into_iter().filter(|deed| !tally.deeds.contains_key(deed)).collect();
    assert_eq!(undone, [] as [&str; 0], "the simulation must have done everything");
    assert!(inflated > 0 && large > 0, "the simulation must deflate, and send what is never copied");
    assert!(deliveries > operations / 100, "the simulation must deliver something to check");
    assert!(sliced > operations / 2_000, "the simulation must cut fan-outs into slices");
    assert!(answered > operations / 100, "the simulation must ask event handlers");
    assert_eq!(expired > operations / 1_000, setup.expiry, "{expired} messages expired");
}

const ONE_CORE: Setup = Setup { name: "one core", cores: 1, clients: 12, groups: 4, expiry: false };
const MESH: Setup = Setup { name: "a mesh of one batch", cores: 3, clients: 16, groups: 4, expiry: false };
const OVERLAP: Setup = Setup { name: "overlap", cores: 1, clients: 32, groups: 2, expiry: false };
const MANY_GROUPS: Setup = Setup { name: "many groups", cores: 2, clients: 8, groups: 40, expiry: false };
const EXPIRY: Setup = Setup { name: "expiry", cores: 2, clients: 12, groups: 3, expiry: true };

macro_rules! tests {
    ($mode:ident in $kind:ident: $($test:ident($setup:expr, $seeds:expr);)+) => {
        mod $kind {
            use super::*;
            $(
                #[test]
                fn $test() {
                    run(concat!(stringify!($kind), "::", stringify!($test)), $setup, Mode::$mode, $seeds);
                }
            )+
        }
    };
}

tests! { Safety in safety:
    one_core(ONE_CORE, 25);
    three_cores_with_a_mesh_of_one_batch(MESH, 35);
    fan_outs_that_overlap(OVERLAP, 15);
    many_groups_that_come_and_go(MANY_GROUPS, 15);
    messages_that_expire(EXPIRY, 15);
}

tests! { Liveness in liveness:
    one_core(ONE_CORE, 25);
    three_cores_with_a_mesh_of_one_batch(MESH, 35);
    fan_outs_that_overlap(OVERLAP, 15);
    many_groups_that_come_and_go(MANY_GROUPS, 15);
    messages_that_expire(EXPIRY, 15);
}
