mod leases;

use std::sync::{Arc, Barrier};

use super::*;

const MS: u64 = 1000;

fn limiter(limits: &[(u64, u64)], tells: bool) -> Arc<Limiter> {
    let limits: Vec<_> = limits.iter().map(|(maximum, period)| Limit { maximum: *maximum, period: *period }).collect();
    Arc::new(Limiter::new(7, limits, false, OnStorageFailure::Local, tells))
}

/// A replica with so many cores.
fn replica(cores: usize) -> (Arc<Ledger>, Vec<Balances>) {
    let ledger = Arc::new(Ledger::new(cores, 1000, || {}));
    let balances = (0..cores).map(|core| Balances::new(ledger.clone(), core)).collect();
    (ledger, balances)
}

fn spend(balances: &Balances, limiter: &Arc<Limiter>, key: &str, now: u64) -> Decision {
    balances.spend(limiter, key.as_bytes(), Tick(now), None, || panic!("nobody waits"))
}

fn is_admitted(decision: Decision) -> bool {
    match decision {
        Decision::Admitted(_) => true,
        Decision::Refused(_) => false,
        other => panic!("neither: {other:?}"),
    }
}

fn admitted(balances: &Balances, limiter: &Arc<Limiter>, now: u64, tries: usize) -> usize {
    (0..tries).filter(|_| is_admitted(spend(balances, limiter, "", now))).count()
}

#[test]
fn a_window_begins_with_its_first_request_and_admits_its_limit() {
    for tells in [false, true] {
        let (limiter, (_, cores)) = (limiter(&[(3, 100)], tells), replica(1));
        assert_eq!(admitted(&cores[0], &limiter, 1050, 5), 3, "tells: {tells}");
        assert_eq!([1149, 1150, 1249, 1250].map(|now| admitted(&cores[0], &limiter, now, 4)), [0, 3, 0, 3]);
        assert_eq!(admitted(&cores[0], &limiter, 5000, 1), 1, "the next begins with the next request");
        assert_eq!([5099, 5100].map(|now| admitted(&cores[0], &limiter, now, 4)), [2, 3]);
    }
}

#[test]
fn what_one_core_leaves_another_spends() {
    for limit in [1, 2, 7, 100, 100_000] {
        let (limiter, (_, cores)) = (limiter(&[(limit, 100)], false), replica(3));
        for round in 0..3 {
            let first = cores.iter().map(|core| admitted(core, &limiter, round * 100, 1)).sum::<usize>() as u64;
            assert_eq!(first, limit.min(3), "of {limit}");
            let rest = admitted(&cores[round as usize], &limiter, round * 100, limit as usize + 1) as u64;
            assert_eq!(first + rest, limit);
        }
    }
}

#[test]
fn several_limits_are_spent_together_or_not_at_all() {
    for tells in [false, true] {
        let (limiter, (_, cores)) = (limiter(&[(2, 100), (3, 1000)], tells), replica(2));
        assert_eq!(admitted(&cores[0], &limiter, 0, 5), 2);
        // What the first limit refused is not counted by the second.
        assert_eq!(admitted(&cores[1], &limiter, 100, 5), 1, "tells: {tells}");
        assert_eq!(admitted(&cores[0], &limiter, 200, 5), 0);
        assert_eq!(admitted(&cores[0], &limiter, 999, 5), 0);
        assert_eq!(admitted(&cores[0], &limiter, 1000, 5), 2);
    }
}

#[test]
fn what_a_shorter_window_leaves_unspent_the_longer_one_keeps() {
    let (limiter, (_, cores)) = (limiter(&[(1000, 100), (1500, 1000)], false), replica(2));
    assert_eq!(cores.iter().map(|core| admitted(core, &limiter, 0, 1)).sum::<usize>(), 2);
    let later: usize = (1..10).map(|window| admitted(&cores[1], &limiter, window * 100, 1000)).sum();
    assert_eq!(later, 1498);
}

#[test]
fn what_a_core_has_left_of_a_window_is_none_of_the_next() {
    let (limiter, (_, cores)) = (limiter(&[(100, 100)], false), replica(2));
    // The first core has a part of the first window, and comes again when the second one is nearly used up.
    assert_eq!(admitted(&cores[0], &limiter, 0, 1), 1);
    assert_eq!(admitted(&cores[1], &limiter, 100, 90), 90);
    assert_eq!(cores.iter().map(|core| admitted(core, &limiter, 101, 100)).sum::<usize>(), 10);
}

#[test]
fn only_an_admitted_request_opens_windows() {
    let (limiter, (_, cores)) = (limiter(&[(1, 1000), (5, 100)], true), replica(1));
    assert_eq!(admitted(&cores[0], &limiter, 0, 1), 1);
    assert_eq!(admitted(&cores[0], &limiter, 950, 1), 0);
    // Else the shorter one would have begun at 950, and be the earlier one to end.
    assert_eq!(
        spend(&cores[0], &limiter, "", 1000),
        Decision::Admitted(Standing { limit: 1, remaining: 0, reset_ms: 1 })
    );
    assert_eq!(admitted(&cores[0], &limiter, 2000, 1), 1);
}

#[test]
fn the_standing_is_that_of_the_most_restrictive_limit() {
    let (limiter, (_, cores)) = (limiter(&[(5, 10 * MS), (7, 100 * MS), (8, 50 * MS)], true), replica(2));
    let mut standings = Vec::new();
    for now in [0, 1, 2, 9_001, 9_999, 9_999, 10_000, 10_001, 10_002] {
        standings.push(match spend(&cores[now as usize % 2], &limiter, "", now) {
            Decision::Admitted(Standing { limit, remaining, reset_ms }) => (true, limit, remaining, reset_ms),
            Decision::Refused(Standing { limit, remaining, reset_ms }) => (false, limit, remaining, reset_ms),
            other => panic!("{other:?}"),
        });
    }
    let expected = [
        (true, 5, 4, 10),
        (true, 5, 3, 10),
        (true, 5, 2, 10),
        (true, 5, 1, 1),
        (true, 5, 0, 1),
        (false, 5, 0, 1),
        (true, 7, 1, 90),
        (true, 7, 0, 90),
        (false, 7, 0, 90),
    ];
    assert_eq!(standings, expected);
}

#[test]
fn keys_and_identities_are_counted_apart() {
    let (one, (ledger, cores)) = (limiter(&[(1, 100)], false), replica(1));
    let other = Arc::new(Limiter::new(8, one.limits.clone(), false, OnStorageFailure::Local, false));
    for (limiter, key) in [(&one, "a"), (&one, "A"), (&one, ""), (&other, "a"), (&other, "\0a")] {
        let decided = [0, 0].map(|now| is_admitted(spend(&cores[0], limiter, key, now)));
        assert_eq!(decided, [true, false], "{key:?}");
    }
    assert_eq!(ledger.counts().keys, 5);
}

#[test]
fn a_reload_keeps_the_count_of_each_period() {
    let (_, cores) = replica(2);
    assert_eq!(admitted(&cores[0], &limiter(&[(10, 100), (6, 1000), (8, 1000)], false), 0, 5), 5);
    // The second of a period stays the second, and a new period begins.
    let changed = limiter(&[(100, 50), (100, 1000), (7, 1000)], true);
    assert_eq!(admitted(&cores[1], &changed, 10, 9), 2);
    let lowered = limiter(&[(4, 50), (4, 1000), (4, 1000)], false);
    assert_eq!(admitted(&cores[0], &lowered, 20, 9), 0);
    let raised = limiter(&[(100, 50), (9, 1000), (100, 1000)], false);
    assert_eq!(cores.iter().map(|core| admitted(core, &raised, 30, 9)).sum::<usize>(), 2);
}

#[test]
fn a_core_that_has_not_heard_of_a_reload_obeys_it_all_the_same() {
    let (old, new) = (limiter(&[(1000, 100)], false), limiter(&[(2, 100)], false));
    let (_, cores) = replica(2);
    assert_eq!(cores.iter().map(|core| admitted(core, &old, 0, 1)).sum::<usize>(), 2);
    assert_eq!(admitted(&cores[0], &new, 0, 1), 0);
    assert_eq!(admitted(&cores[1], &old, 0, 1), 0);
    assert_eq!([&old, &new, &old].map(|limiter| admitted(&cores[1], limiter, 100, 1)), [1, 1, 0]);
}

#[test]
fn keys_that_nobody_would_miss_make_room() {
    let (limiter, ledger) = (limiter(&[(1, 100 * MS)], false), Arc::new(Ledger::new(1, 10, || {})));
    let core = Balances::new(ledger.clone(), 0);
    for window in 0..50 {
        let admitted =
            (0..5).filter(|key| is_admitted(spend(&core, &limiter, &format!("{window}-{key}"), window * 100 * MS)));
        assert!(admitted.count() > 0);
        ledger.sweep(Tick((window + 1) * 100 * MS));
        assert_eq!(ledger.counts().keys, 0);
    }
}

#[test]
fn keys_without_room_share_one_window_and_no_window_is_forgotten() {
    let (limiter, ledger) = (limiter(&[(2, 100 * MS)], false), Arc::new(Ledger::new(1, 10, || {})));
    let core = Balances::new(ledger.clone(), 0);
    let admitted_of = |keys: std::ops::Range<u32>, now| {
        keys.filter(|key| is_admitted(spend(&core, &limiter, &key.to_string(), now))).count()
    };
    assert_eq!(admitted_of(0..10, 0), 10);
    assert_eq!(admitted_of(10..100, 1), 2, "they share one window");
    assert_eq!(admitted_of(0..10, 2), 10);
    assert_eq!(admitted_of(0..10, 3), 0, "each key has had its two");
    assert_eq!(ledger.counts(), Counts { keys: 11, without_room: 90, ..Counts::default() });
    ledger.sweep(Tick(101 * MS));
    assert_eq!(admitted_of(200..210, 101 * MS), 10);
}

#[test]
fn a_key_that_has_spent_from_the_shared_window_gets_none_of_its_own_while_that_is_open() {
    let limiter = limiter(&[(2, 100)], false);
    let ledger = Arc::new(Ledger::with(1, 2, 1, lease::Margin::STATED, || {}));
    let core = Balances::new(ledger, 0);
    let spends = |key: &str, now| is_admitted(spend(&core, &limiter, key, now));
    assert!(spends("a", 0) && spends("c", 0));
    assert_eq!([50, 50, 50].map(|now| spends("b", now)), [true, true, false]);
    // There is room now, and the window that it has spent from goes on.
    assert_eq!([100, 149, 150, 150, 150].map(|now| spends("b", now)), [false, false, true, true, false]);
}

#[test]
fn a_limit_of_nought_admits_nothing() {
    let (limiter, (_, cores)) = (limiter(&[(0, 100 * MS)], false), replica(1));
    let refused = Decision::Refused(Standing { limit: 0, remaining: 0, reset_ms: 100 });
    assert_eq!(spend(&cores[0], &limiter, "", 0), refused);
    assert_eq!(spend(&cores[0], &limiter, "", 200 * MS), refused);
}

/// Threads that spend at once, with the clock that moves on when all are through with a window.
#[test]
fn cores_together_admit_exactly_the_limit() {
    const CORES: usize = 4;
    const WINDOWS: u64 = 100;
    for (limit, tells) in [(1, false), (3, false), (64, true), (64, false), (1000, false)] {
        let (limiter, (_, _)) = (limiter(&[(limit, 100), (limit * WINDOWS, 100 * WINDOWS)], tells), replica(0));
        let (ledger, barrier) = (Arc::new(Ledger::new(CORES, 10, || {})), Barrier::new(CORES));
        let admitted: Vec<_> = (0..WINDOWS).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for core in 0..CORES {
                let (ledger, limiter, barrier, admitted) = (ledger.clone(), &limiter, &barrier, &admitted);
                scope.spawn(move || {
                    let balances = Balances::new(ledger, core);
                    for (window, counted) in admitted.iter().enumerate() {
                        barrier.wait();
                        let now = window as u64 * 100;
                        let tries = limit as usize;
                        counted.fetch_add(self::admitted(&balances, limiter, now, tries) as u64, Ordering::Relaxed);
                    }
                });
            }
        });
        let admitted: Vec<_> = admitted.into_iter().map(AtomicU64::into_inner).collect();
        assert_eq!(admitted, vec![limit; WINDOWS as usize], "limit {limit}, tells: {tells}");
    }
}

/// Threads whose clocks differ a little, while keys are forgotten: no window admits more than its limit.
#[test]
fn cores_together_admit_no_more_while_keys_come_and_go() {
    const PERIOD: u64 = 40;
    let (limiter, clock) = (limiter(&[(5, PERIOD)], false), AtomicU64::new(0));
    let ledger = Arc::new(Ledger::new(4, 3, || {}));
    let core = |core: usize| {
        let (balances, mut times) = (Balances::new(ledger.clone(), core), Vec::new());
        for turn in 0..50_000_u64 {
            let now = clock.fetch_add(1, Ordering::Relaxed);
            let key = ["a", "b", "c"][(turn % 3) as usize];
            if is_admitted(spend(&balances, &limiter, key, now)) {
                times.push((key, now));
            }
            if turn % 64 == 0 {
                ledger.sweep(Tick(now));
            }
        }
        times
    };
    let mut times = std::thread::scope(|scope| {
        let cores = [0, 1, 2, 3].map(|id| scope.spawn(move || core(id)));
        cores.map(|core| core.join().expect("it ends")).concat()
    });
    times.sort_unstable();
    assert!(times.len() > 1000);
    for key in ["a", "b", "c"] {
        let times: Vec<_> = times.iter().filter(|(of, _)| *of == key).map(|(_, now)| *now).collect();
        // Two windows may meet in one period, and each of the other threads may have been late with one request.
        let crowded = times.windows(14).find(|times| times[13] < times[0] + PERIOD);
        assert_eq!(crowded, None, "{key}");
    }
}
