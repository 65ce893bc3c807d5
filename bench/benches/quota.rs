//! Decisions of quotas: what a core decides alone, what it comes to the ledger for, and many keys.

use std::{hint::black_box, sync::Arc, time::Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::quota::{Balances, Decision, Ledger, Limit, Limiter, OnStorageFailure, Tick};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOUR: u64 = 3_600_000_000;
const KEY: &[u8] = b"2f1c9d7e5b6a4c3d8e9f0a1b2c3d4e5f";

fn limiter(maximum: u64, period: u64, tells: bool) -> Arc<Limiter> {
    Arc::new(Limiter::new(1, [Limit { maximum, period }], false, OnStorageFailure::Local, tells))
}

fn core(keys_max: usize) -> Balances {
    Balances::new(Arc::new(Ledger::new(2, keys_max, || {})), 0)
}

fn spend(core: &Balances, limiter: &Arc<Limiter>, key: &[u8], now: Tick) -> Decision {
    core.spend(black_box(limiter), black_box(key), now, None, || None)
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quota");
    let mut measure = |name: &str, limiter: Arc<Limiter>| {
        let (core, started) = (core(100), Instant::now());
        group.bench_function(name, |bencher| {
            bencher.iter(|| spend(&core, &limiter, KEY, Tick(1 + started.elapsed().as_micros() as u64)))
        });
    };
    measure("below its limit", limiter(u64::MAX / 2, HOUR, false));
    measure("below its limit, which is told", limiter(u64::MAX / 2, HOUR, true));
    measure("exhausted", limiter(1, HOUR, false));
    measure("windows of 1 ms", limiter(1_000_000, 1000, false));
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quota/keys");
    for count in [1000, 100_000] {
        let (core, limiter) = (core(count), limiter(u64::MAX / 2, HOUR, false));
        let keys: Vec<_> = (0..count).map(|key| format!("client-{key:032}")).collect();
        for key in &keys {
            spend(&core, &limiter, key.as_bytes(), Tick(1));
        }
        // Far from the last one each time: another page, and none that is in a cache.
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                at = (at + 7919) % count;
                spend(&core, &limiter, keys[at].as_bytes(), Tick(2))
            })
        });
    }
    group.finish();
}

criterion_group!(benches, decisions, keys);
criterion_main!(benches);
