//! What pages of which origins are told, and what preflights are answered.

use super::*;
use crate::policies::testing;

type Lines<'a> = &'a [(&'a str, &'a str)];

/// What becomes of a request: `Ok` with the header of the answer to a preflight, or `Err` with that of the upstream's answer,
/// which came with `answered`, when the policy has seen it.
fn run(config: &str, method: &str, lines: Lines<'_>, answered: Lines<'_>) -> Result<String, String> {
    let policy = testing::compile::<Cors>(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"));
    let state = policy.state(&Core::default());
    let mut kept = Kept::default();
    let mut trial = testing::Trial::new(method, "/", lines);
    let shown = |lines: Vec<(String, String)>| {
        lines.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
    };
    let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut kept }, exchange));
    if let Flow::Respond(answer) = flow {
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        let allows = answer.headers.iter().any(|(name, _)| name == "access-control-allow-origin");
        assert_eq!(answer.reason, if allows { "cors_preflight" } else { "cors_preflight_disallowed" });
        let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        return Ok(shown(headers.collect()));
    }
    // What policies behind do to the request changes nothing.
    trial.request.fields.remove(b"origin");
    let mut trial = trial.answered(200, answered);
    let flow = trial.with(0, |exchange| policy.on_response(Turn { state: &state, kept: &mut kept }, exchange));
    assert!(matches!(flow, Flow::Continue));
    Err(shown(testing::lines(&trial.response.fields)))
}

fn preflight(config: &str, lines: Lines<'_>, expected: &str) {
    assert_eq!(run(config, "OPTIONS", lines, &[]).as_deref(), Ok(expected), "{config} {lines:?}");
}

fn actual(config: &str, method: &str, lines: Lines<'_>, expected: &str) {
    assert_eq!(run(config, method, lines, &[]), Err(expected.into()), "{config} {method} {lines:?}");
}

const PUBLIC: &str = "{}";
const PUBLIC_WITH_CREDENTIALS: &str = "{supportCredentials: true}";
const GROUPS: &str = "
publicResource: false
supportCredentials: true
originGroups:
  - origins: ['*']
    allowedMethods: [{methodName: GET, isAllowed: true}]
  - name: shops
    origins: [https://shop.test, 'https://*.shop.test']
    accessControlMaxAge: 60
    allowedMethods: [{methodName: get, isAllowed: true}, {methodName: Patch, isAllowed: true}, {methodName: PUT, isAllowed: false}]
    headers: [X-Tenant, Content-Type]
    exposedHeaders: [X-Total, X-Page]
";
const SHOP: (&str, &str) = ("Origin", "https://shop.test");
const ASKS_PATCH: (&str, &str) = ("Access-Control-Request-Method", "PATCH");

#[test]
fn a_public_resource_is_for_all() {
    actual(PUBLIC, "GET", &[SHOP], "access-control-allow-origin: *");
    actual(PUBLIC, "PURGE", &[("Origin", "null")], "access-control-allow-origin: *");
    actual(PUBLIC, "GET", &[], "");
    preflight(
        PUBLIC,
        &[
            SHOP,
            ("access-control-request-method", "PURGE"),
            ("access-control-request-headers", "x-a,X-B"),
            ("Access-Control-Request-Headers", "x-c"),
        ],
        "access-control-allow-origin: *\naccess-control-allow-methods: PURGE\naccess-control-allow-headers: x-a, X-B, x-c",
    );
}

#[test]
fn with_credentials_an_origin_is_named() {
    let told = "vary: Origin\naccess-control-allow-origin: https://shop.test\naccess-control-allow-credentials: true";
    actual(PUBLIC_WITH_CREDENTIALS, "GET", &[SHOP], told);
    preflight(PUBLIC_WITH_CREDENTIALS, &[SHOP, ASKS_PATCH], &format!("{told}\naccess-control-allow-methods: PATCH"));
    let long = format!("https://{}.test", "a".repeat(200));
    let told = format!("vary: Origin\naccess-control-allow-origin: {long}\naccess-control-allow-credentials: true");
    actual(PUBLIC_WITH_CREDENTIALS, "GET", &[("origin", &long)], &told);
    // Also for those that `*` lets in.
    let told = "vary: Origin\naccess-control-allow-origin: https://other.test\naccess-control-allow-credentials: true";
    actual(GROUPS, "GET", &[("Origin", "https://other.test")], told);
}

#[test]
fn what_is_no_request_of_a_browser_gets_nothing() {
    for origin in
        ["", "shop.test", "https://shop.test/", "https://shop.test, https://b.test", "*", "https://shop.test\u{e4}"]
    {
        actual(PUBLIC, "GET", &[("Origin", origin)], "");
        preflight(PUBLIC, &[("Origin", origin), ASKS_PATCH], "");
    }
    let doubled = [SHOP, SHOP, ASKS_PATCH];
    actual(PUBLIC, "GET", &doubled, "");
    preflight(PUBLIC, &doubled, "");
    actual(PUBLIC, "OPTIONS", &[ASKS_PATCH], "");
}

#[test]
fn a_preflight_that_cannot_be_read_is_disallowed() {
    preflight(PUBLIC, &[SHOP], "");
    preflight(PUBLIC, &[SHOP, ASKS_PATCH, ASKS_PATCH], "");
    for method in ["", "GET, PUT", "G ET", "\u{e4}", &"A".repeat(65)] {
        preflight(PUBLIC, &[SHOP, ("Access-Control-Request-Method", method)], "");
    }
    for names in ["a b", "x:y", "\u{e4}", &"a,".repeat(2049), &"a".repeat(60_000)] {
        preflight(PUBLIC, &[SHOP, ASKS_PATCH, ("Access-Control-Request-Headers", names)], "");
    }
    let none = "access-control-allow-origin: *\naccess-control-allow-methods: PATCH";
    preflight(PUBLIC, &[SHOP, ASKS_PATCH, ("Access-Control-Request-Headers", " , ,")], none);
}

#[test]
fn the_group_that_names_an_origin_beats_the_one_for_all() {
    let told = "vary: Origin\naccess-control-allow-origin: https://a.shop.test\naccess-control-allow-credentials: true";
    let origin = ("Origin", "https://a.shop.test");
    actual(GROUPS, "GET", &[origin], told);
    actual(GROUPS, "HEAD", &[origin], told);
    actual(GROUPS, "PUT", &[origin], "vary: Origin");
    preflight(
        GROUPS,
        &[
            origin,
            ("Access-Control-Request-Method", "patch"),
            ("Access-Control-Request-Headers", "x-TENANT,content-type"),
        ],
        &format!(
            "{told}\naccess-control-allow-methods: PATCH\naccess-control-allow-headers: x-TENANT, content-type\naccess-control-max-age: 60"
        ),
    );
    let refused = "vary: Origin";
    preflight(GROUPS, &[origin, ("Access-Control-Request-Method", "PUT")], refused);
    preflight(GROUPS, &[origin, ASKS_PATCH, ("Access-Control-Request-Headers", "x-tenant, x-other")], refused);
    preflight(GROUPS, &[("Origin", "https://other.test"), ASKS_PATCH], refused);
    preflight(GROUPS, &[("Origin", "https://a.shop.test.evil.test"), ASKS_PATCH], refused);
}

#[test]
fn without_credentials_the_group_for_all_says_so() {
    let config = "{publicResource: false, originGroups: [{origins: ['*'], headers: ['*']}]}";
    actual(config, "GET", &[("Origin", "null")], "vary: Origin\naccess-control-allow-origin: *");
    preflight(
        config,
        &[SHOP, ("Access-Control-Request-Method", "HEAD"), ("Access-Control-Request-Headers", "authorization")],
        "vary: Origin\naccess-control-allow-origin: *\naccess-control-allow-methods: HEAD\n\
         access-control-allow-headers: authorization\naccess-control-max-age: 30",
    );
    // A method of the defaults and one that is not.
    actual(config, "TRACE", &[SHOP], "vary: Origin\naccess-control-allow-origin: *");
    actual(config, "PURGE", &[SHOP], "vary: Origin");
    let nobody = "{publicResource: false}";
    actual(nobody, "GET", &[SHOP], "vary: Origin");
    preflight(nobody, &[SHOP, ASKS_PATCH], "vary: Origin");
    let exported = "{publicResource: false, originGroups: [{name: x, origins: [https://shop.test], methods: [PUT]}]}";
    actual(exported, "GET", &[SHOP], "vary: Origin");
    actual(exported, "PUT", &[SHOP], "vary: Origin\naccess-control-allow-origin: https://shop.test");
}

#[test]
fn headers_are_exposed_to_requests_that_are_not_simple() {
    let told = "vary: Origin\naccess-control-allow-origin: https://shop.test\naccess-control-allow-credentials: true";
    let exposed = format!("{told}\naccess-control-expose-headers: X-Total, X-Page");
    actual(GROUPS, "GET", &[SHOP, ("Accept", "*/*")], told);
    actual(GROUPS, "GET", &[SHOP, ("Content-Type", "Text/Plain ; charset=utf-8")], told);
    actual(GROUPS, "GET", &[SHOP, ("content-type", "application/json")], &exposed);
    actual(GROUPS, "GET", &[SHOP, ("x-tenant", "1")], &exposed);
    actual(GROUPS, "PATCH", &[SHOP], &exposed);
}

#[test]
fn the_upstreams_own_headers_are_replaced() {
    let said = [
        ("Access-Control-Allow-Origin", "*"),
        ("ACCESS-CONTROL-ALLOW-CREDENTIALS", "true"),
        ("access-control-max-age", "1"),
        ("Vary", "Accept-Encoding, origin"),
        ("x", "y"),
    ];
    let check = |config: &str, lines: Lines<'_>, expected: &str| {
        assert_eq!(run(config, "GET", lines, &said), Err(expected.into()), "{config} {lines:?}");
    };
    let kept = "Vary: Accept-Encoding, origin\nx: y";
    check(PUBLIC, &[SHOP], &format!("{kept}\naccess-control-allow-origin: *"));
    check(PUBLIC, &[], kept);
    check("{publicResource: false}", &[SHOP], kept);
    assert_eq!(run(PUBLIC_WITH_CREDENTIALS, "GET", &[], &[("Vary", "*")]), Err("Vary: *".into()));
    let added = "Vary: Accept\nvary: Origin";
    assert_eq!(run(PUBLIC_WITH_CREDENTIALS, "GET", &[], &[("Vary", "Accept")]), Err(added.into()));
}

#[test]
fn every_fault_is_reported() {
    let config = "{publicResource: false, originGroups: [{origins: [], accessControlMaxAge: -2, headers: ['a b'],
        exposedHeaders: [ok, ''], allowedMethods: [{methodName: GET}, {methodName: 'P UT'}, {methodName: '', isAllowed: false}]}]}";
    assert_eq!(
        testing::faults::<Cors>(config)[1..],
        [
            "config.originGroups[0].headers[0]: not a header name",
            "config.originGroups[0].exposedHeaders[1]: not a header name",
            "config.originGroups[0].accessControlMaxAge: not a number of seconds; -1 means that browsers ask each time",
            "config.originGroups[0].allowedMethods[1].methodName: not a method",
        ]
    );
    assert!(testing::compile::<Cors>("{publicResource: maybe}").is_err());
}

#[test]
fn what_hardly_is_meant_is_remarked_on() {
    let check = |config: &str, fields: &[&str]| {
        let remarks = testing::remarks::<Cors>(config);
        let places: Vec<&str> = remarks.iter().map(|remark| remark.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(places, fields, "{remarks:?}");
    };
    check(PUBLIC, &[]);
    check(PUBLIC_WITH_CREDENTIALS, &["config.supportCredentials"]);
    check("{originGroups: [{origins: [https://a.test]}]}", &["config.originGroups"]);
    check("{publicResource: false}", &["config.originGroups"]);
    check(
        "{publicResource: false, originGroups: [{origins: [a.test, 'https://*a.test', 'https://*.a.test'], methods: []}, {}]}",
        &[
            "config.originGroups[0].origins[0]",
            "config.originGroups[0].origins[1]",
            "config.originGroups[0].allowedMethods",
            "config.originGroups[1].origins",
        ],
    );
    check(GROUPS, &["config.originGroups[0].origins[0]"]);
}
