//! The scan of JSON bodies, in pieces as they arrive, with and without limits; beside it `serde_json`, which has the whole body
//! and keeps nothing of it, and which reads it byte by byte.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::policies::json_threat_protection::{limits::Limits, scanner::Scanner};
use ringway_bench::json::corpus;
use serde::de::IgnoredAny;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As much as the gateway reads of a body at once.
const PIECE_BYTES: usize = 16 << 10;

/// More than any body of the corpus has.
const LIMITS: Limits = Limits { depth: 200, entries: 1000, elements: 10_000, name: 50, string: 5000 };

fn scan(limits: Limits, body: &[u8]) {
    let mut scanner = Scanner::new(limits);
    body.chunks(PIECE_BYTES).for_each(|piece| scanner.feed(piece).expect("nothing is wrong with it"));
    scanner.finish().expect("it is whole");
}

fn bodies(criterion: &mut Criterion) {
    for kind in corpus() {
        let mut group = criterion.benchmark_group(format!("json/{}", kind.name));
        group.throughput(Throughput::Bytes(kind.bytes() as u64));
        let mut measure = |name: &str, read: fn(&[u8])| {
            group.bench_function(name, |bencher| {
                bencher.iter(|| kind.bodies.iter().for_each(|body| read(black_box(body))))
            });
        };
        measure("scan", |body| scan(Limits::NONE, body));
        measure("scan with limits", |body| scan(LIMITS, body));
        measure("serde_json, slice", |body| {
            serde_json::from_slice::<IgnoredAny>(body).expect("it is JSON");
        });
        measure("serde_json, reader", |body| {
            serde_json::from_reader::<_, IgnoredAny>(body).expect("it is JSON");
        });
        group.finish();
    }
}

criterion_group!(benches, bodies);
criterion_main!(benches);
