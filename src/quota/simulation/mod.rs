//! The proof by trial: histories of replicas, their authority and all that may go wrong between them, thousands in a second.
//!
//! A seed determines a history down to the microsecond: machines whose clocks differ as far as they may, a network that loses,
//! delays, doubles and reorders, crashes of replicas, an authority that forgets what it has acknowledged, storage that comes
//! and goes, reloads, idle replicas, several limits. The [`journal`] knows by the true clock when each window was open and when
//! each request was admitted, and nothing of leases. A failure prints its seed, and the same seed plays it again:
//!
//! ```text
//! QUOTA_SEED=4711 cargo test --lib quota::simulation
//! QUOTA_HISTORIES=1000000 cargo test --profile quick --lib quota::simulation
//! ```

mod journal;
mod plan;
mod random;
mod world;

use self::{
    plan::{Machine, Network, Plan, Plant},
    world::{Seen, World},
};
use super::{Limit, OnStorageFailure, lease::Margin};

/// As many as `cargo test` plays.
const HISTORIES: u64 = 2000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// What is wrong with the history of a seed, with a plan that is changed first.
fn wrongs(seed: u64, change: impl FnOnce(&mut Plan)) -> (Vec<String>, Seen) {
    let mut plan = Plan::new(seed);
    change(&mut plan);
    let world = World::play(plan, seed);
    (world.journal.wrong, world.seen)
}

/// The seed of the first history that fails, of so many.
fn first_wrong(histories: u64, change: impl Fn(&mut Plan)) -> Option<(u64, String)> {
    let mut found = (0..histories).filter_map(|seed| {
        let (wrongs, _) = wrongs(seed, &change);
        wrongs.into_iter().next().map(|wrong| (seed, wrong))
    });
    found.next()
}

#[test]
fn no_window_ever_admits_more_than_its_limit() {
    if let Some(seed) = number("QUOTA_SEED") {
        let (wrongs, seen) = wrongs(seed, |_| {});
        assert!(wrongs.is_empty(), "{:#?}\n{seen:?}\n{}", Plan::new(seed), wrongs.join("\n"));
        return;
    }
    let mut seen = Seen::default();
    for seed in 0..number("QUOTA_HISTORIES").unwrap_or(HISTORIES) {
        let (wrongs, one) = wrongs(seed, |_| {});
        assert!(wrongs.is_empty(), "QUOTA_SEED={seed}: {}", wrongs.join("\n"));
        seen.admitted += one.admitted;
        seen.refused += one.refused;
        seen.unavailable += one.unavailable;
        seen.questions += one.questions;
    }
    assert!([seen.admitted, seen.refused, seen.unavailable, seen.questions].iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..20 {
        let again = [(); 2].map(|()| format!("{:?}", wrongs(seed, |_| {})));
        assert_eq!(again[0], again[1], "{seed}");
    }
}

/// Machines that are asked all the time, so often each, on a good network, about one limit.
fn steady(machines: usize, pause: u64, limit: Limit, until: u64) -> Plan {
    let machine = || Machine { cores: 2, drift_ppm: 0, offset: 5, pause, sweep: 50_000 };
    let network =
        Network { delay_min: 100, delay_max: 300, lost: 0, doubled: 0, late: 0, late_by: 1, given_up: 250_000 };
    Plan {
        replicas: (0..machines).map(|_| machine()).collect(),
        keys: 1,
        keys_max: 100,
        limits: vec![vec![limit]],
        on_storage_failure: OnStorageFailure::Deny,
        tells: false,
        network,
        authority_offset: 1_000_000,
        faults: Vec::new(),
        until,
        margin: Margin::STATED,
        plant: Plant::Nothing,
    }
}

#[test]
fn a_steady_key_costs_few_questions() {
    // 10,000 requests a second.
    let world = World::play(steady(1, 100, Limit { maximum: 100_000, period: 1_000_000 }, 3_000_000), 1);
    let Seen { admitted, refused, questions, .. } = world.seen;
    assert!(world.journal.wrong.is_empty() && refused == 0 && admitted > 25_000, "{:?}", world.seen);
    assert!((questions as f64) < 0.005 * admitted as f64, "{:?}", world.seen);
}

#[test]
fn under_load_a_window_is_used_up() {
    for (maximum, period, pause) in [(1000, 1_000_000, 500), (100, 200_000, 500), (20, 50_000, 500), (1, 50_000, 500)] {
        let world = World::play(steady(3, pause, Limit { maximum, period }, 5 * period), 1);
        let used = world.journal.used(5 * period);
        assert!(world.journal.wrong.is_empty() && used.len() >= 4, "{}: {used:?}", world.journal.wrong.join("\n"));
        assert!(used.iter().all(|used| *used * 100 >= maximum * 98), "{used:?} of {maximum}");
        // A window ends, the next begins, and few milliseconds are lost.
        assert!(world.seen.questions < 80 * used.len() as u64, "{maximum}: {:?}", world.seen);
    }
}

/// The margin leaves three ticks at the very worst, so what is built in is three and one more.
#[test]
fn a_lease_that_outlives_its_window_by_one_tick_is_found() {
    let same_clocks = |margin: Margin| {
        move |plan: &mut Plan| {
            plan.replicas.iter_mut().for_each(|machine| machine.drift_ppm = 0);
            plan.margin = margin;
        }
    };
    let exact = Margin { per_mille: 0, us: 999 };
    assert_eq!(first_wrong(HISTORIES / 4, same_clocks(exact)), None, "it ends with its window");
    let one_tick = Margin { us: 998, ..exact };
    let found = first_wrong(10 * HISTORIES, same_clocks(one_tick));
    assert!(found.is_some_and(|(_, wrong)| wrong.contains("were open at")));
}

#[test]
fn a_lease_without_room_for_the_clocks_is_found() {
    let found = first_wrong(HISTORIES, |plan| plan.margin = Margin { per_mille: 0, ..Margin::STATED });
    assert!(found.is_some());
}

#[test]
fn a_return_that_counts_twice_is_found() {
    let found = first_wrong(HISTORIES, |plan| plan.plant = Plant::CountsTwice);
    assert!(found.is_some());
}

#[test]
fn a_window_that_opens_ahead_of_a_request_is_found() {
    let found = first_wrong(HISTORIES, |plan| plan.plant = Plant::OpensAhead);
    assert!(found.is_some());
}
