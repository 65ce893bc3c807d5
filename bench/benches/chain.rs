//! Chains of policies: a browser's request on its way in and the answer's way out, without the rest of the gateway.

use std::{hint::black_box, rc::Rc, sync::Arc};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ringway::{
    config::{Loaded, environment::Environment, snapshot::Snapshot},
    http::head::{Fields, RequestHead, ResponseHead},
    matching::rule::Scratch,
    policies::{
        At, Authentication, Core, End, Exchange, Peer, Timeouts,
        chain::{Instances, Next, Turns, Unwatched, run_log, run_request, run_response},
    },
    telemetry::{lines::BUFFER_BYTES_MAX, series::SeriesId},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SENT: [(&str, &str); 14] = [
    ("Host", "shop.example.com"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Authorization", "Basic dXNlcjpwYXNzOndvcmQ="),
    ("Cache-Control", "max-age=0"),
    ("Cookie", "session=2f1c9d7e5b6a4c3d8e9f0a1b2c3d4e5f; theme=dark; consent=1"),
    ("Referer", "https://shop.example.com/orders"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "http"),
    ("x-request-id", "0f6f4ad2-7b6e-4d0c-9c43-1f2a5a0a6f35"),
];

const ANSWERED: [(&str, &str); 5] = [
    ("Date", "Sat, 21 Nov 2026 12:00:00 GMT"),
    ("Content-Type", "application/json; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("ETag", "\"5f3e-62a1\""),
    ("Vary", "Accept-Encoding"),
];

fn chains(criterion: &mut Criterion) {
    let nobody = "{policyRef: {name: header-removal-flex}, config: {inboundHeaders: [x-debug], outboundHeaders: [x-powered-by]}}";
    let basic = "{policyRef: {name: http-basic-authentication-flex}, config: {username: user, password: 'pass:word'}}";
    let elsewhere = format!("{}, rules: [{{path: /admin/.*}}]}}", basic.strip_suffix('}').expect("a map"));
    let inject = |value: &str| {
        format!(
            "[{{policyRef: {{name: header-injection-flex}}, config: {{inboundHeaders: [{{key: x-tenant, value: \"{value}\"}}], outboundHeaders: [{{key: x-served-by, value: north}}]}}}}]"
        )
    };
    let logged = |message: &str| {
        format!(
            "[{{policyRef: {{name: message-logging-flex}}, config: {{loggingConfiguration: [{{itemName: a, itemData: {{level: INFO, message: \"{message}\", firstSection: true}}}}]}}}}]"
        )
    };
    let mut group = criterion.benchmark_group("chain");
    for (name, policies, outbound) in [
        ("ten_removals_of_nothing", format!("[{}]", [nobody; 10].join(", ")), "[]"),
        ("ten_whose_rules_do_not_hold", format!("[{}]", vec![elsewhere; 10].join(", ")), "[]"),
        ("basic_authentication", format!("[{basic}]"), "[]"),
        ("header_injection", inject("north"), "[]"),
        ("header_injection_expression", inject("#[attributes.headers['x-forwarded-for']]"), "[]"),
        ("message_logging_text", logged("text"), "[]"),
        (
            "message_logging_expression",
            logged(
                "#[attributes.method ++ ' ' ++ attributes.requestPath ++ ' for ' ++ (authentication.clientId default 'nobody')]",
            ),
            "[]",
        ),
        (
            "credential_injection",
            "[]".to_owned(),
            "[{policyRef: {name: credential-injection-basic-auth-flex}, config: {username: u, password: p}}]",
        ),
    ] {
        let snapshot = snapshot(&policies, outbound);
        let mut core = OneCore::new(&snapshot);
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(messages, |messages| core.pass(black_box(messages)), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn snapshot(policies: &str, outbound: &str) -> Arc<Snapshot> {
    let text = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}\nspec:\n  \
         address: http://127.0.0.1:8081\n  services: {{s: {{address: 'http://127.0.0.1:8080', policies: {outbound}}}}}\n  \
         policies: {policies}\n"
    );
    let loaded = Loaded::from_texts(&[("a.yaml", &text)], Environment::default());
    let outcome = loaded.compile(1, &mut |_| SeriesId::default());
    Arc::new(outcome.accept(false).unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn messages() -> (RequestHead, ResponseHead) {
    let request = RequestHead {
        method: b"GET".into(),
        path: b"/orders/4711".into(),
        authority: b"shop.example.com".into(),
        fields: fields(&SENT),
        ..RequestHead::default()
    };
    (request, ResponseHead { status: 200, fields: fields(&ANSWERED), ..ResponseHead::default() })
}

/// In a buffer that has held a larger head, as those of a connection have.
fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    (0..32).for_each(|_| fields.append(b"name", &[b'v'; 128]));
    fields.clear();
    lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
    fields
}

struct OneCore<'s> {
    snapshot: &'s Snapshot,
    instances: [Vec<Rc<ringway::policies::Instance>>; 2],
    turns: [Turns; 2],
    scratch: Scratch,
    authentication: Authentication,
    core: Core,
}

impl<'s> OneCore<'s> {
    fn new(snapshot: &'s Snapshot) -> Self {
        let (mut all, core) = (Instances::default(), Core::default());
        let chains = [&snapshot.apis[0].policies, &snapshot.services[0].policies];
        Self {
            snapshot,
            instances: chains.map(|chain| all.chain(chain, &core)),
            turns: [Turns::default(), Turns::default()],
            scratch: Scratch::new(snapshot.patterns),
            authentication: Authentication::default(),
            core,
        }
    }

    fn pass(&mut self, (request, response): &mut (RequestHead, ResponseHead)) {
        let (api, service) = (&self.snapshot.apis[0], &self.snapshot.services[0]);
        let peer = Peer {
            address: ([192, 0, 2, 1], 40000).into(),
            local: ([192, 0, 2, 2], 8081).into(),
            scheme: "http",
            certificate: None,
        };
        self.authentication.clear();
        let at = At { api: &api.name, base: 0 };
        let mut timeouts = Timeouts { response: None, stream_idle: None };
        let mut exchange = Exchange::new(request, response, &mut self.authentication, &mut timeouts, peer, at, 1);
        let [of_api, of_service] = &mut self.turns;
        for (chain, instances, turns) in [
            (&api.policies, &self.instances[0], &mut *of_api),
            (&service.policies, &self.instances[1], &mut *of_service),
        ] {
            let next = run_request(chain, instances, turns, &mut exchange, &mut self.scratch, None, &mut Unwatched);
            assert!(matches!(next, Next::Done));
        }
        for (chain, instances, turns) in
            [(&service.policies, &self.instances[1], of_service), (&api.policies, &self.instances[0], of_api)]
        {
            run_response(chain, instances, turns, &mut exchange, &mut None, &|_, _| {}, &mut Unwatched);
            run_log(chain, instances, turns, &mut exchange, &End::default(), &mut Unwatched);
        }
        // As management fetches what a core has logged.
        if self.core.messages.lines.len() > BUFFER_BYTES_MAX / 2 {
            self.core.messages.lines.drain();
        }
    }
}

criterion_group!(benches, chains);
criterion_main!(benches);
