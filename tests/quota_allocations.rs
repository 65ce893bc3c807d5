//! What quotas cost in memory: a decision allocates nothing once its key is known, and live keys are small.

#[path = "support/allocations.rs"]
mod allocations;

use std::sync::Arc;

use allocations::{counted, kept};
use ringway::quota::{
    Answer, Balances, Decision, Ledger, Limit, Limiter, OnStorageFailure, Storage, Tick, authority::Authority,
};

const SECOND: u64 = 1_000_000;

fn limiter(limits: &[(u64, u64)], shared: bool, tells: bool) -> Arc<Limiter> {
    let limits: Vec<_> = limits.iter().map(|(maximum, period)| Limit { maximum: *maximum, period: *period }).collect();
    Arc::new(Limiter::new(1, limits, shared, OnStorageFailure::Local, tells))
}

fn spend(core: &Balances, limiter: &Arc<Limiter>, key: &str, now: u64) -> Decision {
    core.spend(limiter, key.as_bytes(), Tick(now), None, || Some(Box::new(|| {})))
}

#[test]
fn a_decision_allocates_nothing() {
    for tells in [false, true] {
        let limiter = limiter(&[(1000, SECOND), (100_000, 3600 * SECOND)], false, tells);
        let core = Balances::new(Arc::new(Ledger::new(2, 100, || {})), 0);
        assert!(matches!(spend(&core, &limiter, "key", 0), Decision::Admitted(_)));
        let decide = || {
            let mut refused = 0;
            for now in 0..20_000 {
                refused += usize::from(matches!(spend(&core, &limiter, "key", now * 100), Decision::Refused(_)));
            }
            refused
        };
        let (allocations, refused) = counted(decide);
        assert_eq!(allocations, 0, "tells: {tells}");
        assert!(refused > 10_000);
    }
}

/// Its windows open, and known to all cores.
#[test]
fn a_hundred_thousand_live_keys_take_at_most_200_mib() {
    const KEYS: usize = 100_000;
    const CORES: usize = 4;
    for shared in [false, true] {
        let limiter = limiter(&[(1000, 60 * SECOND), (10_000, 3600 * SECOND)], shared, false);
        let (bytes, (ledger, _cores)) = kept(|| {
            let ledger = Arc::new(Ledger::new(CORES, KEYS, || {}));
            let cores: Vec<_> = (0..CORES).map(|core| Balances::new(ledger.clone(), core)).collect();
            let mut authority = Authority::default();
            if shared {
                ledger.storage(Storage::Here { replicas: 1 }, Tick(0));
            }
            for key in 0..KEYS {
                let key = format!("client-{key:032}");
                for core in &cores {
                    spend(core, &limiter, &key, 1);
                }
                for (ticket, question) in ledger.questions(Tick(1), 1) {
                    let answer = authority.answer(1, &question, 1).expect("each is asked once");
                    assert!(matches!(answer, Answer { granted: 1.., .. }));
                    ledger.answered(ticket, Tick(1), Ok(answer), Tick(1));
                }
            }
            // The authority's accounts are elsewhere.
            drop(authority);
            (ledger, cores)
        });
        assert_eq!(ledger.counts().keys, KEYS as u64);
        let each = bytes / KEYS as isize;
        assert!(bytes <= 200 << 20, "{each} bytes per key, shared: {shared}");
        println!("{each} bytes per key of {CORES} cores, shared: {shared}");
    }
}
