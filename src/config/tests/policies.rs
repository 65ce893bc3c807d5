//! Policies at their targets: which, in which order, and what becomes of those that cannot be.

use super::*;
use crate::policies::wants::Want;

#[test]
fn bindings_find_their_targets_and_stand_in_order() {
    let to = |name: &str, policy: &str, rest: &str| {
        binding(name, &format!("targetRef: {{name: a}}\npolicyRef: {{name: {policy}}}\n{rest}"))
    };
    let injection = "config: {inboundHeaders: [{key: x, value: y}]}";
    let snapshot = clean(
        &[
            guarded("a", "u", "p", ""),
            to("z-late", "header-injection", &format!("order: 60\n{injection}")),
            to("b-even", "header-injection-flex", injection),
            to("a-even", "header-injection-flex", injection),
            to("first", "header-injection-flex", &format!("order: 1\n{injection}")),
        ]
        .concat(),
    );
    assert_eq!(chain(&snapshot), ["first", "a-http-basic-authentication-flex-1", "a-even", "b-even", "z-late"]);
}

#[test]
fn cors_runs_first_whatever_its_order_and_rules_say() {
    let text = api("a", "address: http://0.0.0.0:1")
        + &binding(
            "one",
            "targetRef: {name: a}\norder: 1\npolicyRef: {name: header-removal}\nconfig: {inboundHeaders: [x]}",
        )
        + &binding("cors", "targetRef: {name: a}\norder: 99\npolicyRef: {name: cors}\nrules: [{path: /x}]");
    let (snapshot, problems) = load(&text);
    assert_eq!(chain(&snapshot), ["cors", "one"]);
    assert!(snapshot.apis[0].policies[0].rules.is_empty());
    assert_eq!(problems, ["warning: cors.spec.rules: without effect: cors-flex applies to every request of its API"]);
}

#[test]
fn a_selector_binds_across_namespaces_by_label() {
    let labelled = |name: &str, namespace: &str, port: u16, labels: &str| {
        format!(
            "---\napiVersion: gateway.mulesoft.com/v1beta1\nkind: ApiInstance\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels: {labels}\nspec: {{address: 'http://0.0.0.0:{port}'}}\n"
        )
    };
    let text = labelled("a", "one", 1, "{public: yes, team: x}")
        + &labelled("b", "two", 2, "{public: 'true'}")
        + &labelled("c", "two", 3, "{public: no}")
        + &binding(
            "automated",
            "targetRef:\n  kind: Selector\n  selector: {kind: ApiInstance, labels: {public: yes}}\npolicyRef: {name: header-removal-flex}\nconfig: {outboundHeaders: [server]}",
        );
    let (snapshot, problems) = load(&text);
    assert!(problems.iter().all(|problem| problem.contains(" without quotes is a boolean in YAML")), "{problems:?}");
    let bound: Vec<_> = snapshot.apis.iter().map(|api| (api.name.as_str(), api.policies.len())).collect();
    assert_eq!(bound, [("a", 1), ("b", 1), ("c", 0)]);
    // One binding at two APIs keeps two states.
    assert_ne!(snapshot.apis[0].policies[0].identity, snapshot.apis[1].policies[0].identity);
}

#[test]
fn a_policy_that_cannot_be_built_refuses_and_stops_nothing() {
    let policies = |list: &str| api("a", &format!("address: http://0.0.0.0:1\npolicies:\n{list}"));
    for (list, expected) in [
        (
            "  - policyRef: {name: http-basic-authentcation-flex}",
            "policy: a.spec.policies[0].policyRef.name: no policy `http-basic-authentcation-flex`, and no Extension of that name, did you mean `http-basic-authentication-flex`?",
        ),
        (
            "  - policyRef: {name: circuit-breaker-flex}",
            "policy: a.spec.policies[0].policyRef.name: `circuit-breaker-flex` is for a Service, not for an ApiInstance",
        ),
        (
            "  - policyRef: {name: http-basic-authentication-flex}\n    config: {username: u, password: $UNSET}",
            "policy: a.spec.policies[0].config.password: the environment variable `UNSET` is not set",
        ),
        (
            "  - policyRef: {name: http-basic-authentication-flex}\n    config: {username: u}",
            "policy: a.spec.policies[0].config.password: required, but missing",
        ),
        (
            "  - policyRef: {name: http-basic-authentication-flex}\n    config: {username: u, password: p, Password: q}",
            "policy: a.spec.policies[0].config.Password: the same key as `password`, written twice",
        ),
        (
            "  - policyRef: {name: xml-threat-protection-flex}",
            "warning: a.spec.policies[0].policyRef.name: `xml-threat-protection-flex`: not implemented yet",
        ),
    ] {
        let outcome = outcome(&[&policies(list)], Environment::default());
        let problems: Vec<_> = outcome.problems().iter().map(told).collect();
        assert_eq!(problems, [expected]);
        let snapshot = outcome.accept(false).expect("no error stops a start");
        assert!(matches!(snapshot.apis[0].policies[0].policy, Compiled::Broken(_)), "{list}");
    }
}

#[test]
fn a_binding_with_an_error_refuses_what_it_was_to_govern() {
    let good = "targetRef: {name: a}\npolicyRef: {name: header-removal-flex}\nconfig: {inboundHeaders: [x]}";
    for (bad, error) in [
        (format!("{good}\norder: soon"), "error: b.spec.order: expected a whole number"),
        (format!("{good}\nconfig: {{}}"), "error: document: duplicate key `config`, first on line 16"),
        (good.replace("name: header", "nam: header"), "error: b.spec.policyRef.name: required, but missing"),
        (
            good.replace("name: a", "kind: Api, name: a"),
            "error: b.spec.targetRef.kind: expected `ApiInstance`, `Service` or `Selector`",
        ),
        (
            good.replace("name: a", "selector: {kind: Api}"),
            "error: b.spec.targetRef.selector.kind: expected `ApiInstance` or `Service`",
        ),
    ] {
        let (snapshot, problems) = load(&(api("a", "address: http://0.0.0.0:1") + &binding("b", &bad)));
        assert_eq!(problems[0], error);
        assert_eq!(chain(&snapshot), ["b"], "{bad}");
        assert!(matches!(snapshot.apis[0].policies[0].policy, Compiled::Broken(_)), "{bad}");
    }
}

#[test]
fn a_policy_with_a_bad_rule_governs_everything() {
    let rules = ", rules: [{path: /x}, {methods: '['}]";
    let (snapshot, problems) = load(&guarded("a", "u", "p", rules));
    assert!(problems[0].starts_with("policy: a.spec.policies[0].rules[1].methods: "), "{problems:?}");
    let policy = &snapshot.apis[0].policies[0];
    assert!(policy.rules.is_empty() && matches!(policy.policy, Compiled::Broken(_)));
}

#[test]
fn inbound_policies_on_a_service_make_it_refuse() {
    let (snapshot, problems) = load(
        &(service("s", "http://s")
            + &binding(
                "b",
                "targetRef: {Kind: Service, name: s}\npolicyRef: {name: http-basic-authentication-flex}\nconfig: {username: u, password: p}",
            )),
    );
    assert_eq!(
        problems,
        ["policy: b.spec.policyRef.name: `http-basic-authentication-flex` is for an ApiInstance, not for a Service"]
    );
    assert!(matches!(snapshot.services[0].policies[0].policy, Compiled::Broken(_)));
}

#[test]
fn custom_policies_are_known_and_not_supported() {
    let text = document(
        "Extension",
        "mine-v1-0-impl",
        "extends: [{name: proxy-wasm-filter}]\nproperties: {a: {type: string}}",
    ) + &api("a", "address: http://0.0.0.0:1\npolicies: [{policyRef: {name: mine-v1-0-impl}}]");
    check(
        &text,
        &[
            "warning: a.spec.policies[0].policyRef.name: custom policy `mine-v1-0-impl` is not supported: not implemented yet",
        ],
    );
}

#[test]
fn a_binding_without_its_target_is_a_warning() {
    let text =
        binding("b", "targetRef: {name: gone}\npolicyRef: {name: header-removal-flex}\nconfig: {inboundHeaders: [x]}");
    check(
        &text,
        &["warning: b.spec.targetRef.name: no ApiInstance or Service `default/gone`: the policy has no effect"],
    );
    // What is wrong with it is told all the same.
    check(
        &text.replace("[x]", "['[']"),
        &[
            "warning: b.spec.targetRef.name: no ApiInstance or Service `default/gone`: the policy has no effect",
            "policy: b.spec.config.inboundHeaders[0]: not a regular expression: unclosed character class, at character 1",
        ],
    );
    // A target with an error has been complained of already.
    check(
        &(text + &api("gone", "adress: x")),
        &[
            "error: gone.spec.address: required, but missing",
            "warning: gone.spec.adress: unknown key, did you mean `address`?",
        ],
    );
}

fn chain(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.apis[0].policies.iter().map(|policy| policy.name.as_str()).collect()
}

#[test]
fn what_policies_want_is_shared_and_only_wanted_where_it_serves() {
    let jwt = |url: &str, minutes: u32, timeout: u32| {
        format!(
            "policyRef: {{name: jwt-validation}}, config: {{mandatoryExpClaim: true, jwtKeyOrigin: jwks, jwksUrl: '{url}', jwksServiceTimeToLive: {minutes}, jwksServiceConnectionTimeout: {timeout}}}"
        )
    };
    let own = |name: &str, address: &str, policy: &str| {
        api(name, &format!("address: {address}\nservices: {{}}\npolicies: [{{{policy}}}]"))
    };
    let text = own("one", "http://0.0.0.0:1", &jwt("http://127.0.0.1/keys, https://b/keys", 60, 500))
        + &own("two", "http://0.0.0.0:2", &jwt("HTTP://127.0.0.1:80/keys", 5, 100))
        + &own("bad", "ftp://0.0.0.0:3", &jwt("http://127.0.0.1/never", 1, 1))
        + &binding(
            "orphan",
            &format!(
                "targetRef: {{name: nobody}}\n{}",
                jwt("http://127.0.0.1/orphan", 1, 1).replace(", config", "\nconfig")
            ),
        );
    let (snapshot, problems) = load(&text);
    let wants = snapshot.wants.iter().map(|Want::KeySet(want)| {
        let seconds = want.time_to_live.as_secs();
        (want.address().to_string(), seconds, want.timeout.as_millis(), want.destination.tls.is_some())
    });
    let shared = ("http://127.0.0.1/keys".to_owned(), 300, 500, false);
    assert_eq!(wants.collect::<Vec<_>>(), [shared, ("https://b/keys".to_owned(), 3600, 500, true)], "{problems:#?}");
    let told = "warning: two.spec.policies[0].config.jwksServiceTimeToLive: not that of one.spec.policies[0].config for the same `jwksUrl`: the shorter counts for both";
    assert!(problems.iter().any(|problem| problem == told), "{problems:#?}");
    let told = "warning: two.spec.policies[0].config.jwksServiceConnectionTimeout: not that of one.spec.policies[0].config for the same `jwksUrl`: the longer counts for both";
    assert!(problems.iter().any(|problem| problem == told), "{problems:#?}");
}
