//! From a path to its route, through a snapshot as the gateway makes it from files.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::{
    config::snapshot::Snapshot,
    http::head::Fields,
    matching::rule::{Captures, RuleInput, Scratch, relative},
    proxy::route::{Chosen, choose},
};
use ringway_bench::snapshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One core's room, reused from request to request.
struct Room {
    scratch: Scratch,
    captures: Captures,
    fields: Fields,
    out: Vec<u8>,
}

impl Room {
    fn new(snapshot: &Snapshot) -> Self {
        Self {
            scratch: Scratch::new(snapshot.patterns),
            captures: Captures::default(),
            fields: Fields::default(),
            out: Vec::new(),
        }
    }

    fn route(&mut self, snapshot: &Snapshot, path: &[u8]) -> Option<(usize, Chosen)> {
        let (api, base) = snapshot.listeners[0].apis.find(b"a.test", path)?;
        let input =
            RuleInput { path: relative(path, base), authority: b"a.test", method: b"GET", fields: &self.fields };
        let chosen =
            choose(&snapshot.apis[api], &input, &mut self.scratch, &mut self.captures, 0, &mut self.out).ok()??;
        Some((api, chosen))
    }
}

/// The cost must not grow with the number of APIs.
fn among_apis(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route_among_apis");
    for apis in [1, 10, 100, 1000] {
        let snapshot = snapshot(apis, 1, |_| "/route(/.*)".to_owned());
        let mut room = Room::new(&snapshot);
        let last = format!("/api-{:05}/route/orders/1", apis - 1);
        assert!(room.route(&snapshot, last.as_bytes()).is_some_and(|(api, _)| api == apis - 1));
        group.bench_function(apis.to_string(), |bencher| {
            bencher.iter(|| room.route(&snapshot, black_box(last.as_bytes())))
        });
    }
    group.finish();
}

/// Routes of one API are tried in order; the last of them is asked for.
fn among_routes(criterion: &mut Criterion) {
    type Shape = fn(usize) -> String;
    let shapes: [(&str, Shape); 2] = [
        ("plain", |route| format!("/route-{route:05}(/.*)")),
        ("regex", |route| format!("/route-{route:05}/[a-z]+/[0-9]+")),
    ];
    for (name, shape) in shapes {
        let mut group = criterion.benchmark_group(format!("route_among_{name}_routes"));
        for routes in [1, 10, 100] {
            let snapshot = snapshot(1, routes, shape);
            let mut room = Room::new(&snapshot);
            let last = format!("/api-00000/route-{:05}/orders/1", routes - 1);
            assert!(room.route(&snapshot, last.as_bytes()).is_some_and(|(_, chosen)| chosen.route == routes - 1));
            group.bench_function(routes.to_string(), |bencher| {
                bencher.iter(|| room.route(&snapshot, black_box(last.as_bytes())))
            });
        }
        group.finish();
    }
}

criterion_group!(benches, among_apis, among_routes);
criterion_main!(benches);
