//! A request that passes a chain of policies makes them allocate nothing: neither on its way in nor on its answer's way out, nor
//! in being counted and measured.
//!
//! What grows once and is kept, such as a core's buffers, has grown after the first request.

#[path = "support/allocations.rs"]
mod allocations;

use std::time::Instant;

use allocations::counted;
use ringway::{
    calls::{Answer, Call, Calls},
    config::{Loaded, environment::Environment},
    http::head::{Fields, RequestHead, ResponseHead},
    matching::rule::Scratch,
    net::signal::Signals,
    policies::{
        At, Authentication, Core, End, Exchange, Peer, Timeouts,
        chain::{BoundPolicy, Instances, Next, Turns, Watcher, run_log, run_request, run_response},
        wants::Published,
    },
    telemetry::{
        fault::Fault,
        policies::{Decision, Policies},
        series::SeriesId,
    },
};

/// `policies` of an API, and what each of them must let pass: a GET with these lines, answered with those.
struct Passing {
    name: &'static str,
    policies: &'static str,
    /// Bound to the Service instead.
    outbound: &'static str,
    sent: &'static [(&'static str, &'static str)],
    answered: &'static [(&'static str, &'static str)],
    /// Further documents.
    more: &'static str,
    /// What it may allocate: new strings of expressions.
    allocations: usize,
}

/// A client of the API, as a document.
const CLIENT: &str = "---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: Contract\nmetadata: {name: c}\nspec: {apiId: a, \
                      client: {id: mobile, secret: 's3:cret', name: Mobile}, \
                      sla: {id: 1, name: gold, limits: [{maximumRequests: 9, timePeriodInMilliseconds: 3600000}]}}\n";

const NOTHING: Passing =
    Passing { name: "nothing", policies: "[]", outbound: "[]", sent: &[], answered: &[], more: "", allocations: 0 };

const PASSING: &[Passing] = &[
    NOTHING,
    Passing {
        name: "basic authentication",
        policies: "[{policyRef: {name: http-basic-authentication-flex}, config: {username: user, password: 'pass:word'}}]",
        sent: &[("authorization", "Basic dXNlcjpwYXNzOndvcmQ=")],
        ..NOTHING
    },
    Passing {
        name: "injected literals",
        policies: "[{policyRef: {name: header-injection-flex}, config: {
            inboundHeaders: [{key: x-a, value: a}, {key: content-type, value: a/b}],
            outboundHeaders: [{key: x-b, value: b}, {key: content-type, value: c/d}]}}]",
        sent: &[("content-type", "text/plain")],
        answered: &[("content-type", "text/html")],
        ..NOTHING
    },
    Passing {
        name: "injected values of the message",
        policies: "[{policyRef: {name: header-injection-flex}, config: {
            inboundHeaders: [{key: x-a, value: \"#[attributes.headers['x-from'] default attributes.method]\"}],
            outboundHeaders: [{key: x-b, value: \"#[attributes.headers.etag]\"}]}}]",
        sent: &[("x-from", "here")],
        answered: &[("etag", "e")],
        ..NOTHING
    },
    Passing {
        name: "injected new strings, one of each expression",
        policies: "[{policyRef: {name: header-injection-flex}, config: {
            inboundHeaders: [{key: x-a, value: \"#['a ' ++ attributes.method]\"}, {key: \"#['x-b']\", value: b}]}}]",
        allocations: 2,
        ..NOTHING
    },
    Passing {
        name: "removal",
        policies: "[{policyRef: {name: header-removal-flex}, config: {
            inboundHeaders: [x-internal-.*, x-debug, 'x-[a-f]+'], outboundHeaders: [server, x-powered-by]}}]",
        sent: &[("x-internal-a", "1"), ("x-cafe", "2"), ("accept", "*/*")],
        answered: &[("server", "s"), ("etag", "e")],
        ..NOTHING
    },
    Passing {
        name: "credentials for the upstream",
        outbound: "[{policyRef: {name: credential-injection-basic-auth-flex}, config: {username: u, password: p}},
            {policyRef: {name: credential-injection-api-key-flex},
             config: {authType: clientCredentials, clientId: i, clientSecret: s, overwrite: false}}]",
        sent: &[("authorization", "theirs"), ("client_id", "theirs"), ("client-id", "again")],
        ..NOTHING
    },
    Passing {
        name: "rules that do not hold",
        policies: "[{policyRef: {name: http-basic-authentication-flex}, config: {username: u, password: p},
            rules: [{path: '/other/[a-z]+'}, {methods: POST|PUT}, {host: b.test}, {headers: {x-a: '.+'}}]}]",
        ..NOTHING
    },
    Passing {
        name: "a client's id and secret",
        policies: "[{policyRef: {name: client-id-enforcement-flex},
            config: {clientSecretExpression: \"#[attributes.headers['client_secret']]\"}}]",
        sent: &[("client_id", "mobile"), ("client_secret", "s3:cret")],
        more: CLIENT,
        ..NOTHING
    },
    Passing {
        name: "a client's id and secret in one header",
        policies: "[{policyRef: {name: client-id-enforcement-flex},
            config: {credentialsOriginHasHttpBasicAuthenticationHeader: httpBasicAuthenticationHeader}}]",
        sent: &[("authorization", "Basic bW9iaWxlOnMzOmNyZXQ=")],
        more: CLIENT,
        ..NOTHING
    },
    Passing {
        name: "an address that is listed, and not",
        policies: "[{policyRef: {name: ip-allowlist-flex}, config: {ips: [192.0.2.0/24]}},
            {policyRef: {name: ip-blocklist-flex}, config: {ips: [198.51.100.0/24]}}]",
        sent: &[("x-forwarded-for", "192.0.2.7:4711, 198.51.100.1")],
        ..NOTHING
    },
    Passing {
        name: "another origin, taken by all",
        policies: "[{policyRef: {name: cors-flex}, config: {supportCredentials: true}}]",
        sent: &[("origin", "https://shop.example.com:8443")],
        ..NOTHING
    },
    Passing {
        name: "another origin, taken by a group",
        policies: "[{policyRef: {name: cors-flex}, config: {publicResource: false,
            originGroups: [{origins: ['https://*.example.com'], exposedHeaders: [x-total]}]}}]",
        sent: &[("origin", "https://shop.example.com"), ("x-total", "1")],
        ..NOTHING
    },
    Passing {
        name: "time-outs of an API",
        policies: "[{policyRef: {name: response-timeout-flex}, config: {timeout: 5}},
            {policyRef: {name: stream-idle-timeout-flex}, config: {timeout: 5}}]",
        ..NOTHING
    },
    Passing {
        name: "requests that have room, and are told so",
        policies: "[{policyRef: {name: spike-control-flex}, config: {maximumRequests: 1000, timePeriodInMilliseconds: 86400000,
            delayTimeInMillis: 1, delayAttempts: 1, queuingLimit: 1, exposeHeaders: true}}]",
        ..NOTHING
    },
    Passing {
        name: "requests of a key that a limit has room for",
        policies: "[{policyRef: {name: rate-limiting-flex}, config: {
            rateLimits: [{maximumRequests: 1000, timePeriodInMilliseconds: 86400000}, {maximumRequests: 2, timePeriodInMilliseconds: 3600000}],
            keySelector: \"#[attributes.headers['x-key']]\"}}]",
        sent: &[("x-key", "a key that is longer than what a hash has, so that it is known by one")],
        ..NOTHING
    },
    Passing {
        name: "requests of a client that has room in its tier, and is told so in every way",
        policies: "[{policyRef: {name: rate-limiting-sla-based-flex}, ringway: {standardHeaders: true, retryAfter: true},
            config: {clientSecretExpression: \"#[attributes.headers['client_secret']]\", exposeHeaders: true}}]",
        sent: &[("client_id", "mobile"), ("client_secret", "s3:cret")],
        more: CLIENT,
        ..NOTHING
    },
    Passing {
        name: "a token that is known, whose fields go upstream",
        policies: "[{policyRef: {name: oauth2-token-introspection-flex}, config: {introspectionURL: 'https://login.test/i',
            authorizationValue: secret, scopes: a b, exposeHeaders: true}}]",
        sent: &[("authorization", "Bearer 2YotnFZFEjr1zCsicMWpAA"), ("x-agw-sub", "theirs")],
        more: CLIENT,
        ..NOTHING
    },
    Passing {
        name: "lines of message logging",
        policies: "[{policyRef: {name: message-logging-flex}, config: {loggingConfiguration: [
            {itemName: a, itemData: {level: INFO, firstSection: true, conditional: \"#[attributes.headers['x-probe'] == null]\",
             message: \"#[attributes.method ++ ' ' ++ attributes.requestPath ++ ' ' ++ attributes.headers['x-from']]\"}},
            {itemName: b, itemData: {level: WARN, secondSection: true, category: org.example,
             message: \"#['was ' ++ attributes.statusCode ++ ' for ' ++ vars.reqId ++ ' of ' ++ vars.apiName]\"}}]}}]",
        outbound: "[{policyRef: {name: message-logging-outbound-flex}, config: {loggingConfiguration: [
            {itemName: a, itemData: {level: INFO, firstSection: true, secondSection: true, message: literal}},
            {itemName: b, itemData: {level: INFO, secondSection: true, message: '#[attributes.statusCode]'}}]}}]",
        sent: &[("x-from", "here"), ("x-request-id", "0f6f4ad2-7b6e-4d0c-9c43-1f2a5a0a6f35")],
        ..NOTHING
    },
    Passing {
        name: "a policy in shadow that would refuse",
        policies: "[{policyRef: {name: http-basic-authentication-flex}, config: {username: u, password: p},
            ringway: {mode: shadow}}]",
        ..NOTHING
    },
];

/// Counts as a core does, and measures every turn.
#[derive(Default)]
struct Counting(Policies);

impl Watcher for Counting {
    fn begins(&mut self) -> Option<Instant> {
        Some(Instant::now())
    }

    fn decided(&mut self, bound: &BoundPolicy, decision: Option<Decision>, began: Option<Instant>) {
        if let Some(decision) = decision {
            self.0.decided(bound.series, decision);
        }
        let began = began.expect("every turn is measured");
        self.0.took(bound.series, began.elapsed().as_nanos() as u64);
    }
}

#[test]
fn what_passes_allocates_nothing() {
    for passing in PASSING {
        let text = format!(
            "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}\nspec:\n  \
             address: http://127.0.0.1:8081\n  services: {{s: {{address: 'http://127.0.0.1:8080', policies: {}}}}}\n  \
             policies: {}\n{}",
            passing.outbound, passing.policies, passing.more
        );
        let loaded = Loaded::from_texts(&[("a.yaml", &text)], Environment::default());
        let snapshot = loaded.compile(1, &mut |_| SeriesId::default()).accept(false);
        let snapshot = snapshot.unwrap_or_else(|problems| panic!("{}: {problems:#?}", passing.name));
        let (api, service) = (&snapshot.apis[0], &snapshot.services[0]);
        let mut instances = Instances::default();
        let core = Core { calls: Some(Calls::told(say)), signals: Signals::apart(), ..Core::default() };
        let chains = [&api.policies, &service.policies].map(|chain| (chain, instances.chain(chain, &core)));
        instances.publish(&Published { contracts: snapshot.contracts.clone(), ..Published::default() });
        let mut scratch = Scratch::new(snapshot.patterns);
        let mut counting = Counting::default();
        let mut turns = [Turns::default(), Turns::default()];
        let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
        let mut authentication = Authentication::default();
        let mut timeouts = Timeouts { response: None, stream_idle: None };
        let at = At { api: &api.name, base: 0 };
        let peer = Peer {
            address: ([192, 0, 2, 1], 40000).into(),
            local: ([192, 0, 2, 2], 8081).into(),
            scheme: "http",
            certificate: None,
        };

        let mut pass = || {
            request.method.clone_from(&b"GET".to_vec());
            request.path.clone_from(&b"/orders/1".to_vec());
            fill(&mut request.fields, passing.sent);
            response.status = 200;
            fill(&mut response.fields, passing.answered);
            authentication.clear();
            counted(|| {
                let mut exchange =
                    Exchange::new(&mut request, &mut response, &mut authentication, &mut timeouts, peer, at, 1);
                for ((chain, instances), turns) in chains.iter().zip(&mut turns) {
                    let chain: &[BoundPolicy] = chain;
                    let next = run_request(chain, instances, turns, &mut exchange, &mut scratch, None, &mut counting);
                    assert!(matches!(next, Next::Done), "{}", passing.name);
                }
                for ((chain, instances), turns) in chains.iter().zip(&mut turns).rev() {
                    let answered =
                        run_response(chain, instances, turns, &mut exchange, &mut None, &|_, _| {}, &mut counting);
                    assert!(matches!(answered, Next::Done), "{}", passing.name);
                }
                for ((chain, instances), turns) in chains.iter().zip(&mut turns).rev() {
                    run_log(chain, instances, turns, &mut exchange, &End::default(), &mut counting);
                }
            })
        };
        pass();
        // As management fetches what a core has logged.
        core.messages.lines.drain();
        assert_eq!(pass().0, passing.allocations, "{}", passing.name);
    }
}

/// What an authorization server says of any token.
fn say(_: &Call) -> Result<Answer, Fault> {
    let body = br#"{"active": true, "scope": "b a", "client_id": "mobile", "sub": "ada", "exp": 4102444800}"#;
    Ok(Answer { status: 200, headers: Fields::default(), body: body.to_vec() })
}

fn fill(fields: &mut Fields, lines: &[(&str, &str)]) {
    fields.clear();
    lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
}
