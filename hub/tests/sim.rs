//! Several cores of two hubs in one thread under a seeded scheduler: lost sockets, slow readers, recovery on
//! any core, a mesh whose rings hold one batch each, flushes with so small a budget that most fan-outs to more
//! than a few are sliced. Checked against a simple model:
//!
//! - a member whose join was acknowledged gets every later publication, once, in each publisher's order, also
//!   across groups; REST sends arrive in the order of their answers, wherever they came in, and
//!   those with a filter reach whom it holds for and nobody else;
//! - nobody gets a group's message after its leave was acknowledged, another hub's, or one that was denied;
//! - reliable clients see every id once and in order over any number of sockets;
//! - messages whose time is over may be missing, their ids too; none that waited in a queue arrives late;
//! - an event handler is asked about one event of a connection at a time, in order, about each once, and never after
//!   the connection's end; whoever it let in or was told of, it is told of their end; answers come in their order;
//! - every request is answered, and when everyone has left, nothing is left.
//!
//! `RINGHUB_SIM_SEED=n` repeats one seed; `RINGHUB_SIM_STEPS=n` and `RINGHUB_SIM_SEEDS=n` make it longer.

mod world;

use world::{Setup, World};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(setup: Setup, default_seeds: u64) {
    let steps = number("RINGHUB_SIM_STEPS", 4_000);
    let seeds = match std::env::var("RINGHUB_SIM_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("RINGHUB_SIM_SEED is a number"),
        Err(_) => 0..number("RINGHUB_SIM_SEEDS", default_seeds),
    };
    let (mut deliveries, mut operations, mut sliced, mut expired, mut answered) = (0, 0, 0, 0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(setup, seed);
            (0..steps).for_each(|_| world.step());
            world.finish();
            (world.deliveries, world.operations, world.sliced, world.expired, world.handler.answered)
        });
        match outcome {
            Ok((delivered, operated, cut, dropped, replies)) => {
                deliveries += delivered;
                operations += operated;
                sliced += cut;
                expired += dropped;
                answered += replies;
            }
            Err(panic) => {
                eprintln!(
                    "repeat with: RINGHUB_SIM_SEED={seed} RINGHUB_SIM_STEPS={steps} cargo test -p ringhub-hub --test sim"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!(
        "{operations} operations, {deliveries} deliveries checked, {sliced} flushes sliced, {expired} expired, \
         {answered} questions answered"
    );
    assert!(deliveries > operations / 50, "the simulation must deliver something to check");
    assert!(sliced > operations / 1_000, "the simulation must cut fan-outs into slices");
    assert!(answered > operations / 100, "the simulation must ask event handlers");
    assert_eq!(expired > operations / 1_000, setup.expiry, "{expired} messages expired");
}

#[test]
fn one_core() {
    run(Setup { cores: 1, clients: 12, groups: 4, expiry: false }, 40);
}

#[test]
fn three_cores_with_a_mesh_of_one_batch() {
    run(Setup { cores: 3, clients: 16, groups: 4, expiry: false }, 60);
}

#[test]
fn fan_outs_that_overlap() {
    run(Setup { cores: 1, clients: 32, groups: 2, expiry: false }, 30);
}

#[test]
fn many_groups_that_come_and_go() {
    run(Setup { cores: 2, clients: 8, groups: 40, expiry: false }, 20);
}

#[test]
fn messages_that_expire() {
    run(Setup { cores: 2, clients: 12, groups: 3, expiry: true }, 20);
}
