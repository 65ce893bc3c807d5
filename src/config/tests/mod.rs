//! Whole configurations: what a snapshot of them holds, and what is said about them.

mod policies;

use std::collections::HashSet;

use proptest::prelude::*;

use super::{
    Loaded, Outcome,
    environment::Environment,
    snapshot::{Snapshot, Target},
};
use crate::{
    document::problem::{Problem, Severity},
    policies::Compiled,
    telemetry::series::SeriesId,
};

/// A document of a kind, with its name and the text of its `spec`.
fn document(kind: &str, name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

fn api(name: &str, spec: &str) -> String {
    document("ApiInstance", name, spec)
}

fn service(name: &str, address: &str) -> String {
    document("Service", name, &format!("address: {address}"))
}

fn binding(name: &str, spec: &str) -> String {
    document("PolicyBinding", name, spec)
}

fn outcome(texts: &[&str], environment: Environment) -> Outcome {
    let files: Vec<(String, &str)> = texts.iter().enumerate().map(|(at, text)| (format!("{at}.yaml"), *text)).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    Loaded::from_texts(&files, environment).compile(1, &mut |_| SeriesId::default())
}

fn load(text: &str) -> (Snapshot, Vec<String>) {
    let outcome = outcome(&[text], Environment::default());
    let problems = outcome.problems().iter().map(told).collect();
    (outcome.accept(true).expect("whatever is good"), problems)
}

fn told(problem: &Problem) -> String {
    let severity = match problem.severity {
        Severity::Warning => "warning",
        Severity::Policy => "policy",
        Severity::Error => "error",
    };
    format!("{severity}: {}: {}", problem.path, problem.text)
}

/// The snapshot of a configuration without a problem.
fn clean(text: &str) -> Snapshot {
    let (snapshot, problems) = load(text);
    assert_eq!(problems, Vec::<String>::new());
    snapshot
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(load(text).1, expected);
}

/// An API behind basic authentication, with more keys of that policy.
fn guarded(name: &str, username: &str, password: &str, more: &str) -> String {
    let policy = "policyRef: {name: http-basic-authentication-flex}";
    let config = format!("config: {{username: {username}, password: {password}}}");
    api(name, &format!("address: http://0.0.0.0:1\npolicies: [{{{policy}, {config}{more}}}]"))
}

#[test]
fn the_inline_form_expands_under_the_documented_names() {
    let snapshot = clean(&api(
        "orders",
        "address: http://0.0.0.0:8081/v1
services:
  backend:
    address: http://orders.internal:8080/
    routes:
      - rules:
          - path: /orders(/.*)
            methods: GET|POST
        config:
          destinationPath: /api/
  rest:
    address: http://rest.internal
policies:
  - policyRef: {name: http-basic-authentication-flex}
    config: {username: u, password: p}",
    ));
    let api = &snapshot.apis[0];
    assert_eq!((api.namespace.as_str(), api.name.as_str(), api.base.as_str()), ("default", "orders", "/v1"));
    let routes: Vec<_> = api.routes.iter().map(|route| (route.name.as_str(), route.rules.len())).collect();
    assert_eq!(routes, [("orders-backend-route-1", 1), ("orders-rest-route-1", 0)]);
    assert_eq!(destination(&api.routes[0].target), (Some(0), "/api"));
    assert_eq!(destination(&api.routes[1].target), (Some(1), ""));
    assert_eq!(api.policies[0].name, "orders-http-basic-authentication-flex-1");
    assert!(matches!(api.policies[0].policy, Compiled::BasicAuthentication(_)));
    let services: Vec<_> = snapshot.services.iter().map(|service| (&*service.name, &*service.authority)).collect();
    assert_eq!(services, [("orders-backend", "orders.internal:8080"), ("orders-rest", "rest.internal")]);
    assert_eq!(snapshot.listeners[0].address.to_string(), "0.0.0.0:8081");
    assert_eq!(snapshot.listeners[0].apis.find(b"a", b"/v1/x"), Some((0, 3)));
}

fn destination(target: &Target) -> (Option<usize>, &str) {
    match target {
        Target::One(one) => (one.service, &one.path),
        Target::Weighted { .. } => panic!("one destination expected"),
    }
}

#[test]
fn route_bindings_join_the_inline_routes_by_order_and_document() {
    let route = |name: &str, rest: &str| {
        binding(name, &format!("targetRef: {{kind: ApiInstance, name: a}}\npolicyRef: {{name: route}}\n{rest}"))
    };
    let text = service("s", "http://s:1/base")
        + &api("a", "address: http://0.0.0.0:1\nservices: {i: {address: 'http://i:1'}}")
        + &route("later", "config: {destinationRef: {name: s, kind: Service}}")
        + &route(
            "sooner",
            "order: 10\nconfig: {destinationRef: {name: a-i}, destinationPath: /x}\nrules: [{path: /y}]",
        )
        + &binding(
            "split",
            "targetRef: {name: a}\norder: 11\npolicyRef: {name: route-weighted}\nconfig:\n  routes:\n    - {weight: 90, destinationRef: {name: s}, destinationPath: /p}\n    - {weight: '5', destinationRef: {name: a-i}}",
        );
    let (snapshot, problems) = load(&text);
    assert_eq!(
        problems,
        [
            "warning: s.spec.address: the path is put ahead of every destinationPath",
            "warning: a.spec.services.i.routes[0]: no request gets here: route `split` ahead of it takes every one",
            "warning: later.spec: no request gets here: route `split` ahead of it takes every one",
        ]
    );
    let routes: Vec<_> = snapshot.apis[0].routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(routes, ["sooner", "split", "a-i-route-1", "later"]);
    let Target::Weighted { choices, sum } = &snapshot.apis[0].routes[1].target else { panic!("weighted") };
    assert_eq!(*sum, 95);
    assert_eq!((choices[0].0, choices[0].1.path.as_str()), (90, "/base/p"));
    assert_eq!(destination(&snapshot.apis[0].routes[3].target), (Some(0), "/base"));
}

#[test]
fn bad_routes_are_errors_of_their_document() {
    let text = api(
        "a",
        "address: http://0.0.0.0:1\nservices:\n  i:\n    address: http://i\n    routes:\n      - rules: [{path: '(', host: x}]\n        config: {destinationPath: '/a b'}",
    ) + &binding(
        "w",
        "targetRef: {name: a}\npolicyRef: {name: route-weighted}\nconfig: {routes: [{weight: 0, destinationRef: {name: a-i}}]}",
    ) + &binding("e", "targetRef: {name: a}\npolicyRef: {name: route-weighted}\nconfig: {routes: []}")
        + &binding("m", "targetRef: {name: a}\npolicyRef: {name: route}")
        + &binding("u", "targetRef: {name: a}\npolicyRef: {name: route}\nconfig: {destinationRef: {name: nowhere}}");
    let (snapshot, problems) = load(&text);
    assert!(problems[0].starts_with("error: a.spec.services.i.routes[0].rules[0].path: "), "{}", problems[0]);
    assert_eq!(
        problems[1..],
        [
            "error: a.spec.services.i.routes[0].config.destinationPath: a path cannot hold ' '",
            "error: w.spec.config.routes[0].weight: expected 1 to 100",
            "error: e.spec.config.routes: expected at least one route",
            "error: m.spec.config.destinationRef: required, but missing",
            "warning: u.spec.config.destinationRef.name: no Service `default/nowhere`: the route answers 503",
        ]
    );
    assert_eq!(snapshot.apis[0].routes.len(), 1);
    assert_eq!(destination(&snapshot.apis[0].routes[0].target), (None, ""));
}

#[test]
fn ports_are_shared_by_bases_that_do_not_clash() {
    let on = |name: &str, address: &str| api(name, &format!("address: {address}"));
    let text = on("a", "http://0.0.0.0:8081/cats")
        + &on("b", "http://0.0.0.0:8081/dogs")
        + &on("c", "http://0.0.0.0:8081/cats/wild");
    let (snapshot, problems) = load(&text);
    assert_eq!(
        problems,
        ["error: c.spec.address: the base path clashes with that of ApiInstance `default/a` on the same port"]
    );
    assert_eq!(snapshot.apis.len(), 2);
    check(
        &(on("a", "http://0.0.0.0:443/a") + &on("b", "https://0.0.0.0/b")),
        &["error: b.spec.address: ApiInstance `default/a` uses the port for http"],
    );
}

#[test]
fn a_port_without_a_certificate_is_not_opened() {
    let (snapshot, problems) = load(&api(
        "a",
        "address: https://0.0.0.0:8443\nservices: {s: {address: 'https://up:443/'}, g: {address: 'h2://up:1'}}",
    ));
    assert!(snapshot.listeners.is_empty());
    for service in &snapshot.services {
        // Dialled with TLS, or with HTTP/2 at once.
        assert!(service.tls.is_some() != service.multiplexes, "{}", service.name);
    }
    let errors: Vec<_> = problems.iter().filter(|problem| problem.starts_with("error: ")).collect();
    assert!(matches!(errors[..], [error] if error.contains("https needs a certificate")), "{problems:?}");
}

#[test]
fn documents_of_others_are_ignored_and_unknown_kinds_are_not() {
    check(
        "kind: ConfigMap\napiVersion: v1\n---\na: 1\n",
        &[
            "warning: apiVersion: not gateway.mulesoft.com/v1alpha1 or /v1beta1: document ignored",
            "warning: apiVersion: missing: document ignored",
        ],
    );
    check(&document("ApiInstnace", "a", "{}"), &["error: kind: unknown kind, did you mean `ApiInstance`?"]);
    check("- 1\n", &["error: document: expected apiVersion, kind, metadata and spec"]);
}

#[test]
fn of_two_resources_with_one_identity_the_later_file_wins() {
    let outcome = outcome(&[&service("s", "http://one"), &service("s", "http://two")], Environment::default());
    assert_eq!(
        outcome.problems().iter().map(Problem::to_string).collect::<Vec<_>>(),
        [
            "1.yaml:5:9: s.metadata.name: a second Service `default/s`; the first is at 0.yaml:5:9, and this one takes its place"
        ]
    );
    assert_eq!(outcome.accept(true).unwrap().services[0].endpoints[0].host, "two");
}

#[test]
fn an_error_refuses_the_set_unless_the_good_part_may_serve() {
    let text = api("a", "address: http://0.0.0.0:1") + &api("b", "address: nonsense");
    let refused = outcome(&[&text], Environment::default()).accept(false).expect_err("an error");
    assert_eq!(refused.len(), 1);
    assert_eq!(outcome(&[&text], Environment::default()).accept(true).expect("the rest").apis.len(), 1);
    assert!(outcome(&[], Environment::default()).accept(false).expect("nothing is fine").apis.is_empty());
}

#[test]
fn one_mistake_does_not_hide_another() {
    let text =
        api(
            "a",
            "services: {s: {address: 'ftp://s'}, t: {adress: 'http://t', routes: [{rules: [{path: '['}]}]}}
policies:
  - {policyRef: {nam: cors-flex}, config: {}}
  - {policyRef: {name: gone}}",
        ) + &document("Service", "s", "address: h2://s\nringway: {preserveHost: maybe, retries: {attempts: 99}}")
            + &binding("b", "targetRef: {name: c}\npolicyRef: {name: header-removal-flex}\nconfig: {}\norder: soon")
            + &binding("d", "policyRef: {name: header-removal-flex}")
            + &document("Configuration", "c", "ringway: {limits: {headBytes: -1}, trustedProxies: [[], no]}");
    let (_, problems) = load(&text);
    let errors: Vec<_> = problems.iter().filter(|problem| !problem.starts_with("warning: ")).collect();
    assert_eq!(
        errors,
        [
            "error: a.spec.address: required, but missing",
            "error: a.spec.services.s.address: the protocol must be http, https or h2",
            "error: a.spec.services.t.address: required, but missing",
            "error: a.spec.services.t.routes[0].rules[0].path: not a regular expression: unclosed character class, at character 1",
            "error: a.spec.policies[0].policyRef.name: required, but missing",
            "policy: a.spec.policies[1].policyRef.name: no policy `gone`, and no Extension of that name",
            "error: s.spec.address: h2:// needs a port",
            "error: s.spec.ringway.preserveHost: expected `true` or `false`",
            "error: s.spec.ringway.retries.attempts: expected 0 to 10",
            "policy: b.spec.config: `inboundHeaders` and `outboundHeaders` are both empty",
            "error: b.spec.order: expected a whole number",
            "error: d.spec.targetRef: required, but missing",
            "policy: d.spec.config: `inboundHeaders` and `outboundHeaders` are both empty",
            "error: c.spec.ringway.limits.headBytes: expected a whole number, 0 or more",
            "error: c.spec.ringway.trustedProxies[0]: expected a string, found a list",
            "error: c.spec.ringway.trustedProxies[1]: expected an address, a network such as 10.0.0.0/8, or `private`",
        ]
    );
}

#[test]
fn one_mistake_in_a_policy_does_not_hide_another() {
    check(
        &api(
            "a",
            "address: http://0.0.0.0:1
policies:
  - policyRef: {name: http-basic-authentication-flex}
    config: {username: 'a:b', password: [p]}
    rules: [{methods: [GET]}, {path: '('}]
  - policyRef: {name: header-injection-flex}
    config: {inboundHeaders: {key: a, value: b}, outboundHeaders: [{key: a}, {key: ' b c ', value: d}]}",
        ),
        &[
            "policy: a.spec.policies[0].config.username: holds a colon, which ends the user name on the wire: nobody could log in",
            "policy: a.spec.policies[0].config.password: expected a string, found a list",
            "policy: a.spec.policies[0].rules[0].methods: expected a string, found a list",
            "policy: a.spec.policies[0].rules[1].path: not a regular expression: unclosed group, at character 1",
            "policy: a.spec.policies[1].config.inboundHeaders: expected a list, found a map",
            "policy: a.spec.policies[1].config.outboundHeaders[0].value: required, but missing",
            "policy: a.spec.policies[1].config.outboundHeaders[1].key: not a header name",
        ],
    );
}

#[test]
fn a_duplicate_key_takes_its_document_and_no_other() {
    let text =
        api("a", "address: http://0.0.0.0:1\naddress: http://0.0.0.0:2") + &api("b", "address: http://0.0.0.0:3");
    let (snapshot, problems) = load(&text);
    assert_eq!(problems, ["error: document: duplicate key `address`, first on line 7"]);
    assert_eq!(snapshot.apis[0].name, "b");
}

#[test]
fn services_take_settings_of_ours() {
    let snapshot = clean(&document(
        "Service",
        "s",
        "address: http://one:80
ringway:
  endpoints: ['two:81', '[::1]:82']
  loadBalancing: leastRequests
  preserveHost: yes
  retries: {attempts: 2, on: [reset, gatewayError], budgetPercent: 50}
  healthCheck: {path: /up, intervalSeconds: 1.5, timeoutSeconds: 1, unhealthyThreshold: 4, healthyThreshold: 5}",
    ));
    let service = &snapshot.services[0];
    let hosts: Vec<_> = service.endpoints.iter().map(|endpoint| (endpoint.host.as_str(), endpoint.port)).collect();
    assert_eq!(hosts, [("one", 80), ("two", 81), ("::1", 82)]);
    assert!(service.keeps_host && service.retries.reset && !service.retries.connect_failure);
    assert_eq!(service.health_check.as_ref().map(|check| check.path.as_str()), Some("/up"));
    check(
        &document(
            "Service",
            "s",
            "address: http://one\nringway: {endpoints: [two], retries: {attempts: 99}, healthCheck: {path: x, timeoutSeconds: 0}}",
        ),
        &[
            "error: s.spec.ringway.endpoints[0]: expected host:port",
            "error: s.spec.ringway.retries.attempts: expected 0 to 10",
            "error: s.spec.ringway.healthCheck.path: expected a path that starts with `/`",
            "error: s.spec.ringway.healthCheck.timeoutSeconds: expected more than 0 seconds",
        ],
    );
}

#[test]
fn a_hash_is_of_what_is_configured_and_not_of_where() {
    let (one, two) = (api("a", "address: http://0.0.0.0:1"), service("s", "http://s"));
    let hash = |texts: &[&str]| outcome(texts, Environment::default()).accept(true).unwrap().hash;
    let together = hash(&[&(one.clone() + &two)]);
    assert_eq!(together.len(), 16);
    assert_eq!(together, hash(&[&two, "# nothing\n", &one]));
    assert_ne!(together, hash(&[&one]));
    assert_ne!(together, hash(&[&one, &service("s", "http://t")]));
    let secret = |password| guarded("a", "u", password, "");
    assert_ne!(hash(&[&secret("x")]), hash(&[&secret("y")]));
}

#[test]
fn identities_change_with_what_they_name_and_nothing_else() {
    let identities = |address: &str, password: &str, namespace: &str| {
        let text = format!(
            "apiVersion: gateway.mulesoft.com/v1beta1\nkind: ApiInstance\nmetadata: {{name: a, namespace: {namespace}}}\nspec:\n  address: http://0.0.0.0:1\n  services: {{s: {{address: '{address}'}}}}\n  policies:\n    - policyRef: {{name: http-basic-authentication-flex}}\n      config: {{username: u, password: {password}}}\n"
        );
        let snapshot = clean(&text);
        (snapshot.services[0].identity, snapshot.apis[0].policies[0].identity)
    };
    let first = identities("http://s:1", "p", "n");
    assert_eq!(first, identities("http://s:1/", "p", "n"));
    let other = identities("http://s:2", "q", "n");
    assert!(first.0 != other.0 && first.1 != other.1);
    let moved = identities("http://s:1", "p", "m");
    assert!(first.0 != moved.0 && first.1 != moved.1);
}

#[test]
fn a_dump_is_expanded_and_keeps_secrets() {
    let text = api(
        "a",
        "address: http://0.0.0.0:1\nservices: {s: {address: 'http://up'}}\npolicies:\n  - policyRef: {name: http-basic-authentication-flex}\n    config: {username: u, password: hunter2}\n  - policyRef: {name: header-injection-flex}\n    config: {inboundHeaders: [{key: Authorization, value: hunter2}, {key: x, value: shown}]}",
    ) + &document("Configuration", "c", "sharedStorage: {redis: {address: 'r:1', password: hunter2}}")
        + &document("Configuration", "r", "platformConnection: {agentId: hunter2}")
        + &document(
            "Configuration",
            "l",
            "logging:
  outputs:
    - {name: es, type: es, parameters: {HTTP_Passwd: hunter2, Host: shown}}
    - {name: azure, type: azure, parameters: {Shared_Key: hunter2}}
    - {name: http, type: HTTP, parameters: {header: [Authorization Basic hunter2, X-Api-Key hunter2, X-Kind shown]}}",
        )
        + &document("Secret", "t", "tls: {crt: shown, key: hunter2}")
        + &document("Contract", "k", "apiId: a\nclient: {id: shown, secret: hunter2}");
    let loaded = Loaded::from_texts(&[("f", &text)], Environment::default());
    let dump = super::dump::dump_json(&loaded);
    let text = dump.to_string();
    assert!(!text.contains("hunter2"), "{dump:#}");
    assert_eq!(text.matches("shown").count(), 5, "{dump:#}");
    let names: Vec<_> = dump["apiInstances"][0]["spec"]["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| policy["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a-http-basic-authentication-flex-1", "a-header-injection-flex-2", "a-s-route-1", "a-router"]);
    assert_eq!(dump["services"][0]["metadata"]["name"], "a-s");
}

#[test]
fn a_flood_of_one_mistake_is_cut_and_the_last_of_one_name_stays() {
    let contract = |at: usize, spec: &str| document("Contract", &format!("k{at}"), spec);
    let empty: String = (0..1000).map(|at| contract(at, "apiId: a\nclient: {id: i, secret: ''}")).collect();
    let (_, problems) = load(&empty);
    assert_eq!(problems.len(), 100, "{problems:#?}");
    assert!(problems[0].ends_with(": leave it out for a client without one"), "{}", problems[0]);
    assert!(problems[99].ends_with(": leave it out for a client without one; the same goes for 900 more"));

    let api = api("a", "address: http://0.0.0.0:1");
    let twice: String = (0..1000).map(|at| contract(7, &format!("apiId: a\nclient: {{id: c{at}}}"))).collect();
    let others: String = (8..11).map(|at| contract(at, &format!("apiId: a\nclient: {{id: o{at}}}"))).collect();
    let loaded = Loaded::from_texts(&[("f", &(api + &twice + &others))], Environment::default());
    let ids: Vec<_> = loaded.resources.contracts.iter().map(|contract| &*contract.spec.client.id).collect();
    assert_eq!(ids, ["c999", "o8", "o9", "o10"]);
    let outcome = loaded.compile(1, &mut |_| SeriesId::default());
    let texts: Vec<_> = outcome.problems().iter().map(|problem| &*problem.text).collect();
    assert_eq!(texts.len(), 100);
    assert!(texts[0].starts_with("a second Contract `default/k7`; the first is at f:"));
    assert!(texts[99].ends_with("this one takes its place; the same goes for 899 more"), "{}", texts[99]);
}

#[test]
fn published_defects_are_tolerated() {
    let text = document(
        "Configuration",
        "redis",
        "sharedStorage:\n  redis:\n    address: r:6379\n    user: u\n    DB: 7",
    ) + "\n\u{200b}\n"
        + &api(
            "a",
            "address: http://0.0.0.0:1\nservices:\n  s:\n    address: http://s/\n    routes:\n      - rules:\n          - headers: {x-on: true, x-yes: yes}\n            host: a.example.com\npolicies:\n  - policyRef:\n      name: header-removal-flex\n      config: {inboundHeaders: [x]}",
        );
    check(
        &text,
        &[
            "warning: redis.spec.sharedStorage.redis: the gateway has no name (`spec.ringway.name`, `--gateway-name`): it shares its keys with every other gateway on this Redis that has none",
            "warning: redis.spec.sharedStorage.redis.user: unknown key, ignored",
            "warning: a.spec.services.s.routes[0].rules[0].headers.x-yes: `yes` without quotes is a boolean in YAML, and reads as `true`",
            "warning: a.spec.policies[0].policyRef.config: belongs beside `policyRef`, not within it",
        ],
    );
}

#[test]
fn every_kind_is_read() {
    let text = document(
        "Configuration",
        "all",
        "logging:\n  outputs: [{name: o, type: HTTP, parameters: {host: h, header: [a b]}}]\n  runtimeLogs: {logLevel: WARN, outputs: {anypoint: disabled}}\n  accessLogs: {outputs: [o]}\nforwardProxy: {https: {address: 'http://p:1', basicAuth: {username: u, password: p}}, noProxy: [.x]}\nproxyProtocol: {enabled: 'true'}\ntracing: {provider: {type: opentelemetry, properties: {address: 'h2://o:4317', serviceType: grpc, serviceName: n, timeout: 10s}}, sampling: {client: 100}, labels: [{name: n, type: literal, defaultValue: v}]}\ncircuitBreaker: {thresholds: {maxConnections: 1}}\ndefaultTLS: {outboundPolicyCalls: {skipValidation: 'false', minversion: 1.2, alpn: [h2]}}\nresourceLimits: {apiInstances: 100, policies: 400}\nplatformConnection: {agentId: x}\ninternalMetrics: {enabled: true}",
    ) + &document("Secret", "t", "tls: {crt: YQ==, key: Yg==}")
        + &document(
            "Contract",
            "k",
            "apiId: a\nclient: {id: i, secret: s}\nsla: {id: 1, name: gold, limits: [{maximumRequests: 1, timePeriodInMilliseconds: 2}]}",
        );
    let (_, problems) = load(&text);
    let kinds: HashSet<_> = problems.iter().map(|problem| problem.rsplit(": ").next()).collect();
    let expected = [
        "not implemented yet",
        "documented for gateway.mulesoft.com/v1beta1; read all the same",
        "as many resources are loaded as there are",
        "no effect",
    ];
    assert_eq!(kinds, expected.map(Some).into(), "{problems:#?}");
}

const SEED: &str = "apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {name: a, labels: {x: yes}}
spec:
  address: http://0.0.0.0:8081/v1
  services: {s: {address: 'http://up:1', routes: [{rules: [{path: '/a(/.*)', headers: {h: '1'}}]}]}}
  policies: [{policyRef: {name: header-injection-flex}, config: {inboundHeaders: [{key: k, value: $V}]}}]
---
apiVersion: gateway.mulesoft.com/v1beta1
kind: PolicyBinding
metadata: {name: b}
spec:
  targetRef: {kind: Selector, selector: {labels: {x: yes}}}
  policyRef: {name: route-weighted}
  config: {routes: [{weight: 1, destinationRef: {name: a-s}}]}
  order: 1
---
apiVersion: gateway.mulesoft.com/v1beta1
kind: Configuration
metadata: {name: c}
spec: {ringway: {limits: {headBytes: 1024}, trustedProxies: [private]}, timeouts: {streamIdleSeconds: 1}}
";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_mutated_configuration_never_panics(
        cuts in proptest::collection::vec((0usize..SEED.len(), 0usize..12, "[\\PC\n]{0,6}"), 1..6)
    ) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, length, insert) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let loaded = Loaded::from_texts(&[("f", &text)], Environment::from([("V", "v")]));
        let outcome = loaded.compile(1, &mut |_| SeriesId::default());
        let _ = super::dump::dump_json(&loaded);
        let _ = outcome.accept(true);
    }
}
