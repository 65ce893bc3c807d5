//! Tokens that an authorization server is asked about, as the two policies see them: known to the core, refused, and asked about
//! anew each time but for the call itself.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::{
    calls::{Answer, Call, Calls},
    config::{Loaded, environment::Environment, snapshot::Snapshot},
    http::head::{Fields, RequestHead, ResponseHead},
    net::signal::Signals,
    policies::{At, Authentication, Core, Exchange, Flow, Peer, Timeouts},
    telemetry::{fault::Fault, series::SeriesId},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INTROSPECTION: &str = "{name: oauth2-token-introspection-flex}, config: {introspectionURL: 'https://login.example/i', \
                             authorizationValue: secret, skipClientIdValidation: true, scopes: 'orders:read', ";
const OPENID: &str = "{name: openidconnect-access-token-enforcement-flex}, config: {scopes: 'orders:read', ";
const IDENTITY: &str = "---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: Configuration\nmetadata: {name: identity}\nspec: \
                        {identityManagement: {tokenUrl: 'https://login.example/i', clientId: a, clientSecret: b}}\n";

fn snapshot(policy: &str) -> Snapshot {
    let text = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: api}}\n\
         spec:\n  address: http://127.0.0.1:8081\n  services: {{upstream: {{address: 'http://127.0.0.1:8080'}}}}\n  \
         policies:\n    - {{policyRef: {policy}}}\n{IDENTITY}"
    );
    let loaded = Loaded::from_texts(&[("api.yaml", &text)], Environment::default());
    let outcome = loaded.compile(1, &mut |_| SeriesId(0));
    outcome.accept(false).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Every token but those that begin with `bad` is good.
fn say(call: &Call) -> Result<Answer, Fault> {
    let is_bad = call.body.starts_with(b"token=bad");
    let good = br#"{"active":true,"scope":"orders:write orders:read","client_id":"shop","username":"ada","token_type":"Bearer","exp":4102444800,"iat":1700000000,"nbf":1700000000,"sub":"user-00000001","aud":"orders","iss":"https://login.example/","jti":"0f6f4ad2-7b6e-4d0c-9c43-1f2a5a0a6f35"}"#;
    let body = if is_bad { br#"{"active":false}"#.to_vec() } else { good.to_vec() };
    Ok(Answer { status: 200, headers: Fields::default(), body })
}

/// A request with each of the tokens in turn; `expected` is whether they pass.
fn measure(criterion: &mut Criterion, name: &str, policy: &str, tokens: &[String], expected: bool) {
    let snapshot = snapshot(policy);
    let api = snapshot.apis.first().expect("the API");
    let core = Core { calls: Some(Calls::told(say)), signals: Signals::apart(), ..Core::default() };
    let instance = api.policies.first().expect("the policy").policy.instance(&core);
    let mut requests: Vec<RequestHead> = tokens
        .iter()
        .map(|token| {
            let mut request = RequestHead { method: "GET".into(), path: "/".into(), ..RequestHead::default() };
            request.fields.append(b"host", b"api.example");
            request.fields.append(b"authorization", format!("Bearer {token}").as_bytes());
            request
        })
        .collect();
    let (mut response, mut authentication) = (ResponseHead::default(), Authentication::default());
    let mut at = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            at = (at + 1) % requests.len();
            let local = ([127, 0, 0, 1], 8081).into();
            let peer = Peer { address: local, local, scheme: "http", certificate: None };
            let place = At { api: &api.name, base: 0 };
            let mut timeouts = Timeouts { response: None, stream_idle: None };
            let mut exchange =
                Exchange::new(&mut requests[at], &mut response, &mut authentication, &mut timeouts, peer, place, 1);
            let mut kept = instance.begin();
            let flow = instance.on_request(&mut kept, black_box(&mut exchange));
            assert_eq!(matches!(flow, Flow::Continue), expected);
        });
    });
}

fn tokens(criterion: &mut Criterion) {
    let opaque = |start: &str, count: usize| -> Vec<String> {
        (0..count).map(|number| format!("{start}{number:08}-2YotnFZFEjr1zCsicMWpAA7dGhlIHF1aWNr")).collect()
    };
    // As long as a JSON Web Token often is.
    let long: Vec<String> = opaque("eyJ", 500).iter().map(|token| token.repeat(17)).collect();
    measure(criterion, "introspection/known", &format!("{INTROSPECTION}}}"), &opaque("good", 1), true);
    measure(criterion, "introspection/known, one of 500", &format!("{INTROSPECTION}}}"), &opaque("good", 500), true);
    measure(criterion, "introspection/known, one of 500 of 800 bytes", &format!("{INTROSPECTION}}}"), &long, true);
    measure(criterion, "openid connect/known, one of 500", &format!("{OPENID}}}"), &opaque("good", 500), true);
    measure(criterion, "introspection/refused, one of 500", &format!("{INTROSPECTION}}}"), &opaque("bad", 500), false);
    let uncached = format!("{INTROSPECTION} validatedTokenTTL: 0}}");
    measure(criterion, "introspection/asked each time, without the call", &uncached, &opaque("good", 500), true);
}

criterion_group!(benches, tokens);
criterion_main!(benches);
