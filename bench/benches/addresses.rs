//! A list of IP addresses as the policies for them ask it: 100,000 entries, addresses that are on it and that are not.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::{
    http::head::{RequestHead, ResponseHead},
    matching::rule::Scratch,
    policies::{
        At, Authentication, Core, Exchange, Peer, Timeouts,
        chain::{Instances, Next, Turns, Unwatched, run_request},
        ip_lists::ranges::{Network, Ranges, first_address},
    },
};
use ringway_bench::compiled;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTRIES: u64 = 100_000;
/// Asked in turn, so that neither the cache nor the branch predictor knows the next one.
const PROBES: usize = 1 << 16;

/// Numbers without order (splitmix64).
fn scattered(seed: u64) -> u64 {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 31)
}

fn v4(seed: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(scattered(seed) as u32)
}

fn v6(seed: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(scattered(seed)) << 64 | u128::from(scattered(seed + 7)))
}

fn addresses(criterion: &mut Criterion) {
    let ranges = |entry: &dyn Fn(u64) -> String| {
        Ranges::new((0..ENTRIES).map(|seed| Network::parse(&entry(seed)).expect("an entry")))
    };
    let of_v4 = ranges(&|seed| v4(seed).to_string());
    let of_v6 = ranges(&|seed| format!("{}/64", v6(seed)));
    // Every second one is on the list.
    let probes = |address: &dyn Fn(u64) -> IpAddr| -> Vec<IpAddr> {
        (0..PROBES as u64).map(|at| address(if at % 2 == 0 { scattered(at) % ENTRIES } else { ENTRIES + at })).collect()
    };
    let mut group = criterion.benchmark_group("addresses");
    for (name, set, probes) in [
        ("v4_of_100000", &of_v4, probes(&|seed| v4(seed).into())),
        ("v6_of_100000", &of_v6, probes(&|seed| v6(seed).into())),
    ] {
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % PROBES;
                black_box(set).contains(black_box(probes[at]))
            });
        });
    }
    group.bench_function("first_of_a_list", |bencher| {
        bencher.iter(|| first_address(black_box("203.0.113.7:4711, 198.51.100.1, 10.0.0.1")));
    });
    group.finish();
}

/// The whole policy, as the chain runs it: the expression, the address, the look-up.
fn policy(criterion: &mut Criterion) {
    let entries: String = (0..ENTRIES).map(|seed| format!("            - {}\n", v4(seed))).collect();
    let snapshot = compiled(&format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: api}}\nspec:\n  address: \
         http://127.0.0.1:8081\n  services: {{upstream: {{address: 'http://127.0.0.1:8080'}}}}\n  policies:\n    - policyRef: \
         {{name: ip-blocklist-flex}}\n      config:\n        ips:\n{entries}"
    ));
    let api = &*snapshot.apis[0];
    let instances = Instances::default().chain(&api.policies, &Core::default());
    let (mut turns, mut scratch) = (Turns::default(), Scratch::new(snapshot.patterns));
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let mut authentication = Authentication::default();
    let mut timeouts = Timeouts { response: None, stream_idle: None };
    request.method = b"GET".to_vec();
    request.path = b"/".to_vec();
    for (name, value) in [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("accept", "text/html,application/xhtml+xml"),
        ("accept-encoding", "gzip, deflate, br"),
        ("x-request-id", "0123456789abcdef"),
        ("x-forwarded-for", "255.255.255.1, 10.0.0.1"),
    ] {
        request.fields.append(name.as_bytes(), value.as_bytes());
    }
    let peer = Peer {
        address: ([192, 0, 2, 1], 40000).into(),
        local: ([192, 0, 2, 2], 8081).into(),
        scheme: "http",
        certificate: None,
    };
    let at = At { api: &api.name, base: 0 };
    let mut group = criterion.benchmark_group("addresses");
    group.bench_function("policy_with_100000", |bencher| {
        bencher.iter(|| {
            turns.clear();
            let mut exchange =
                Exchange::new(&mut request, &mut response, &mut authentication, &mut timeouts, peer, at, 1);
            let next =
                run_request(&api.policies, &instances, &mut turns, &mut exchange, &mut scratch, None, &mut Unwatched);
            assert!(matches!(black_box(next), Next::Done));
        });
    });
    group.finish();
}

criterion_group!(benches, addresses, policy);
criterion_main!(benches);
