//! Heads: reading them, editing them, writing them anew.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::{
    http::{
        h1::parse::{ResponseTo, parse_request, parse_response},
        head::{RequestHead, ResponseHead},
        target::Scheme,
    },
    policies::{self, Peer},
    proxy::{
        core::{Core, Load},
        headers::{Line, arrive, write_upstream_head},
    },
    telemetry::core::CoreTelemetry,
};
use ringway_bench::{BROWSER_REQUEST, HEAD_LIMITS, MINIMAL_REQUEST, RESPONSE, snapshot};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS: [(&str, &[u8]); 2] = [("browser", BROWSER_REQUEST), ("minimal", MINIMAL_REQUEST)];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, input) in REQUESTS {
        let mut head = RequestHead::default();
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(format!("request/{name}"), |bencher| {
            bencher.iter(|| parse_request(black_box(input), &mut 0, &HEAD_LIMITS, Scheme::Http, &mut head))
        });
        assert_eq!(head.method, b"GET", "the head was read");
    }
    let mut head = ResponseHead::default();
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response", |bencher| {
        bencher.iter(|| parse_response(black_box(RESPONSE), &mut 0, &HEAD_LIMITS, ResponseTo::Other, &mut head))
    });
    assert_eq!(head.status, 200, "the head was read");
    group.finish();
}

/// From a parsed request to the bytes that go upstream: hop-by-hop fields out, `x-forwarded-*` and an id in, written. The
/// head is parsed within the measured time, since editing uses it up: subtract `parse`.
fn edit_and_emit(criterion: &mut Criterion) {
    let snapshot = snapshot(1, 1, |_| "/.*".to_owned());
    let core = Core::new(
        policies::Core::default(),
        1,
        snapshot.clone(),
        CoreTelemetry::new(0),
        Arc::new(Load::default()),
        Arc::default(),
    );
    let peer = Peer {
        address: ([127, 0, 0, 1], 40_000).into(),
        local: ([127, 0, 0, 1], 8081).into(),
        scheme: "http",
        certificate: None,
    };
    let service = &*snapshot.services[0];
    let mut group = criterion.benchmark_group("parse_edit_emit");
    for (name, input) in REQUESTS {
        let (mut head, mut out) = (RequestHead::default(), Vec::new());
        group.bench_function(format!("request/{name}"), |bencher| {
            bencher.iter(|| {
                let taken = parse_request(black_box(input), &mut 0, &HEAD_LIMITS, Scheme::Http, &mut head);
                arrive(&snapshot.settings, &peer, "127.0.0.1", || core.random(), &mut head);
                out.clear();
                write_upstream_head(&mut out, &head, &Line::of(&head, &head.path, &None), service, || false);
                taken
            })
        });
        assert!(out.ends_with(b"\r\n\r\n"), "the head was written");
    }
    group.finish();
}

criterion_group!(benches, parse, edit_and_emit);
criterion_main!(benches);
