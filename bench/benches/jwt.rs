//! Tokens as `jwt-validation-flex` sees them: verified each time, and from a core's memory.

use std::{hint::black_box, sync::Arc};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{Ed25519KeyPair, KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use criterion::{Criterion, criterion_group, criterion_main};
use ringway::{
    config::{Loaded, environment::Environment, snapshot::Snapshot},
    http::head::{RequestHead, ResponseHead},
    policies::{
        At, Authentication, Core, Exchange, Flow, Peer, Timeouts,
        jwt::key_set::KeySet,
        wants::{Published, PublishedKeySet, Want},
    },
    telemetry::series::SeriesId,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NO_KEYS: &str = r#"{"keys":[]}"#;
const SECRET: &str = "only-for-benchmarks-0123456789abcdef";

fn snapshot(config: &str) -> Snapshot {
    let text = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: api}}\n\
         spec:\n  address: http://127.0.0.1:8081\n  services: {{upstream: {{address: 'http://127.0.0.1:8080'}}}}\n  \
         policies:\n    - policyRef: {{name: jwt-validation-flex}}\n      config: {{mandatoryExpClaim: true, {config}}}\n"
    );
    let loaded = Loaded::from_texts(&[("api.yaml", &text)], Environment::default());
    let outcome = loaded.compile(1, &mut |_| SeriesId(0));
    outcome.accept(false).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn message(algorithm: &str, kid: &str, number: usize) -> String {
    let header = BASE64URL.encode(format!(r#"{{"alg":"{algorithm}","typ":"JWT","kid":"{kid}"}}"#));
    let claims = format!(
        r#"{{"iss":"https://login.example/","sub":"user-{number:08}","aud":"orders","exp":4102444800,"iat":1800000000,"scope":"orders:read orders:write"}}"#
    );
    format!("{header}.{}", BASE64URL.encode(claims))
}

/// The set for everything that is wanted.
fn published(snapshot: &Snapshot, set: &str) -> Published {
    let set = Arc::new(KeySet::parse(set.as_bytes()).expect("a set").0);
    let one = |Want::KeySet(want): &Want| {
        (want.address().clone(), PublishedKeySet { set: Some(set.clone()), ..PublishedKeySet::new(|| {}) })
    };
    Published { key_sets: snapshot.wants.iter().map(one).collect(), ..Published::default() }
}

/// A request with each of the tokens in turn; `expected` is whether they pass.
fn measure(criterion: &mut Criterion, name: &str, (config, set, expected): (&str, &str, bool), tokens: &[String]) {
    let snapshot = snapshot(config);
    let api = snapshot.apis.first().expect("the API");
    let instance = api.policies.first().expect("the policy").policy.instance(&Core::default());
    instance.publish(&published(&snapshot, set));
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
            let request = &mut requests[at];
            let mut timeouts = Timeouts { response: None, stream_idle: None };
            let mut exchange =
                Exchange::new(request, &mut response, &mut authentication, &mut timeouts, peer, place, 1);
            let mut kept = instance.begin();
            let flow = instance.on_request(&mut kept, black_box(&mut exchange));
            assert_eq!(matches!(flow, Flow::Continue), expected);
        });
    });
}

fn tokens(criterion: &mut Criterion) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let sign = |message: &str| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("a signature");
        signature
    };
    // More than a core remembers, asked for in a circle: each one has been forgotten when its turn comes again.
    let rs256 = |number| {
        let message = message("RS256", "2026-11", number);
        format!("{message}.{}", BASE64URL.encode(sign(&message)))
    };
    let many: Vec<String> = (0..1100).map(rs256).collect();
    let config = format!("textKey: '{}'", BASE64.encode(key.public_key().as_ref()));

    let bare = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref()).expect("a key");
    let signed = message("RS256", "2026-11", 0);
    let signature = sign(&signed);
    criterion.bench_function("jwt/rsa-2048 verify alone", |bencher| {
        bencher.iter(|| bare.verify_sig(black_box(signed.as_bytes()), &signature).expect("genuine"));
    });
    let own = (&*config, NO_KEYS, true);
    measure(criterion, "jwt/rs256 verified", own, &many);
    measure(criterion, "jwt/rs256 remembered", own, &many[..1]);
    measure(criterion, "jwt/rs256 remembered, one of 500", own, &many[..500]);

    let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let hs256 = |number| {
        let message = message("HS256", "2026-11", number);
        format!("{message}.{}", BASE64URL.encode(hmac::sign(&secret, message.as_bytes())))
    };
    let many: Vec<String> = (0..1100).map(hs256).collect();
    let config = format!("signingMethod: hmac, textKey: {SECRET}");
    measure(criterion, "jwt/hs256 verified", (&config, NO_KEYS, true), &many);
    issuers(criterion);
}

/// By the key of an issuer's set, one of a hundred; and what a flood of keys that nobody knows costs.
fn issuers(criterion: &mut Criterion) {
    let keys: Vec<Ed25519KeyPair> = (0..100).map(|_| Ed25519KeyPair::generate().expect("a key")).collect();
    let jwk = |(number, key): (usize, &Ed25519KeyPair)| {
        let x = BASE64URL.encode(key.public_key().as_ref());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"2026-{number}","x":"{x}"}}"#)
    };
    let set = format!(r#"{{"keys":[{}]}}"#, keys.iter().enumerate().map(jwk).collect::<Vec<_>>().join(","));
    let token = |number: usize| {
        let message = message("EdDSA", &format!("2026-{number}"), number);
        let key = keys.get(number).unwrap_or(&keys[0]);
        format!("{message}.{}", BASE64URL.encode(key.sign(message.as_bytes())))
    };
    let config = "jwtKeyOrigin: jwks, jwksUrl: 'https://login.example/keys', ringway: {algorithms: [EdDSA]}";
    let known: Vec<String> = (0..100).map(token).collect();
    measure(criterion, "jwt/eddsa remembered, by a key set", (config, &set, true), &known);
    let unknown: Vec<String> = (100..200).map(token).collect();
    measure(criterion, "jwt/unknown key", (config, &set, false), &unknown);
}

criterion_group!(benches, tokens);
criterion_main!(benches);
