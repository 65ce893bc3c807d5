//! The table of names, and what becomes of a name and its `config`.

use super::*;
use crate::{
    document::node::{Member, Shape},
    policies::testing::node,
};

/// What there is outside of unit tests.
fn outside_tests() -> impl Iterator<Item = &'static Entry> {
    TABLE.iter().filter(|entry| !entry.name.starts_with("test-"))
}

/// The names of the published reference, as it spells them.
const PUBLISHED: &str = "
    http-basic-authentication-flex ldap-authentication-flex client-id-enforcement-flex cors-flex native-ext-authz-flex
    native-ext-proc-flex header-injection-flex header-removal-flex health-check-flex http-caching-flex ip-allowlist-flex
    ip-blocklist-flex json-threat-protection-flex jwt-validation-flex message-logging-flex
    oauth2-token-introspection-flex openidconnect-access-token-enforcement-flex rate-limiting-flex
    rate-limiting-sla-based-flex spike-control-flex tls tls-inbound spec-validation-flex soap-validation
    xml-threat-protection-flex injection-protection-flex stream-idle-timeout-flex response-timeout-flex tracing-flex
    dataweave-body-transformation-flex dataweave-headers-transformation-flex dataweave-request-filter-flex route
    route-weighted tls-outbound circuit-breaker-flex idle-timeout-flex credential-injection-basic-auth-flex
    credential-injection-oauth2-flex credential-injection-api-key-flex jwt-generation-flex native-aws-lambda
    native-aws-lambda-flex native-aws-signature-flex message-logging-outbound-flex credential-injection-oauth2-obo
    graphql-schema-validation-flex graphql-operation-limits-flex graphql-static-query-complexity-flex
    graphql-introspection-control-flex access-block access-log sse-logging script-evaluation-transformation
    body-transformation header-transformation";

#[test]
fn every_published_name_is_known() {
    for name in PUBLISHED.split_whitespace() {
        assert!(lookup(name).is_some(), "{name}");
    }
    for name in ["mcp-support", "a-two-a-agent-card", "basic-authentication-flex", "openam", "", "-flex", "flex", "TLS"]
    {
        assert!(lookup(name).is_none(), "{name}");
    }
}

#[test]
fn the_suffix_may_be_left_out_or_added() {
    for (alias, name) in [
        ("http-basic-authentication", "http-basic-authentication-flex"),
        ("cors", "cors-flex"),
        ("soap-validation-flex", "soap-validation"),
        ("native-aws-lambda-flex", "native-aws-lambda"),
        ("tls-inbound", "tls"),
    ] {
        assert_eq!(lookup(alias).map(|entry| entry.name), Some(name), "{alias}");
    }
}

#[test]
fn the_documentation_lists_the_table() {
    let page = include_str!("../../docs/policies/README.md");
    let (names, _) = page.split_once("\n## ").expect("the table of names comes first");
    let documented: Vec<String> = names.lines().filter(|line| line.starts_with("| ")).skip(1).map(plain).collect();
    let table = outside_tests().map(|entry| {
        let role = match entry.role {
            Role::Inbound => "inbound",
            Role::Outbound => "outbound",
            Role::Transport => "transport",
            Role::Setting => "setting",
            Role::Routing => "routing",
        };
        format!("{} | {role} | {}", entry.name, if entry.implemented { "works" } else { "not implemented yet" })
    });
    let table: Vec<String> = table.collect();
    assert_eq!(documented, table);
    for entry in outside_tests().filter(|entry| entry.implemented && entry.role != Role::Routing) {
        let stem = entry.name.strip_suffix("-flex").unwrap_or(entry.name);
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(page.contains(&format!("({stem}.md)")), "docs/policies/README.md does not link {stem}.md");
        assert!(root.join(format!("docs/policies/{stem}.md")).is_file(), "docs/policies/{stem}.md");
        assert!(root.join(format!("configs/policies/{stem}")).is_dir(), "configs/policies/{stem}");
    }
}

/// A line of a Markdown table without its borders and links.
fn plain(line: &str) -> String {
    let cells = line.trim_matches(['|', ' ']).split(" | ").map(|cell| match cell.trim().strip_prefix('[') {
        Some(link) => link.split(']').next().unwrap_or(link),
        None => cell.trim(),
    });
    cells.map(|cell| cell.trim_matches('`')).collect::<Vec<_>>().join(" | ")
}

/// What `name` with `config` becomes, as its problems and why it is broken.
fn check(name: &str, config: &str, expected: &[&str], reason: Option<&str>) {
    let mut problems = Vec::new();
    let compiled = compile(name, &node(config), "api.spec.policies[0].config", &mut testing::site(), &mut problems);
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| {
            let Problem { severity, location: Location { line, column, .. }, path, text } = problem;
            let path = path.strip_prefix("api.spec.policies[0].config").expect("below the policy");
            format!("{severity:?} {line}:{column} {path} {text}")
        })
        .collect();
    assert_eq!(shown, expected, "{name}");
    let broken = match &compiled {
        Compiled::Broken(text) => Some(text.as_str()),
        _ => None,
    };
    assert_eq!(broken, reason, "{name}");
}

#[test]
fn a_policy_that_works_is_built_under_each_of_its_names() {
    check("http-basic-authentication-flex", "{username: u, password: p}", &[], None);
    check("http-basic-authentication", "{Username: u, PASSWORD: p}", &[], None);
}

#[test]
fn a_name_without_a_policy_refuses_its_requests() {
    check(
        "xml-threat-protection",
        "{}",
        &["Warning 1:1  `xml-threat-protection`: not implemented yet"],
        Some("api.spec.policies[0].config: `xml-threat-protection`: not implemented yet"),
    );
    check(
        "header-injecton-flex",
        "{}",
        &["Policy 1:1  `header-injecton-flex`: extension not found; did you mean `header-injection-flex`?"],
        Some(
            "api.spec.policies[0].config: `header-injecton-flex`: extension not found; did you mean \
             `header-injection-flex`?",
        ),
    );
    check(
        "my-company-policy",
        "{}",
        &["Policy 1:1  `my-company-policy`: extension not found"],
        Some("api.spec.policies[0].config: `my-company-policy`: extension not found"),
    );
    check(
        "route",
        "{}",
        &["Policy 1:1  `route` is a route, not a policy of a chain; bind it with a PolicyBinding"],
        Some("api.spec.policies[0].config: `route` is a route, not a policy of a chain; bind it with a PolicyBinding"),
    );
}

#[test]
fn a_bad_configuration_says_where() {
    check(
        "header-injection-flex",
        "inboundHeaders:\n  - key: a b\n    value: v\n  - key: c\n    value: \"\\u0001\"\n",
        &[
            "Policy 2:10 .inboundHeaders[0].key not a header name",
            "Policy 5:12 .inboundHeaders[1].value not a header value",
        ],
        Some(
            "api.spec.policies[0].config.inboundHeaders[0].key: not a header name; \
             api.spec.policies[0].config.inboundHeaders[1].value: not a header value",
        ),
    );
}

#[test]
fn the_examples_have_no_problems() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // What is of the connections is compiled with them: `tests/docs.rs` checks those examples whole.
    let of_chain = |entry: &&Entry| entry.implemented && matches!(entry.role, Role::Inbound | Role::Outbound);
    for entry in outside_tests().filter(of_chain) {
        let stem = entry.name.strip_suffix("-flex").unwrap_or(entry.name);
        let path = root.join(format!("configs/policies/{stem}/gateway.yaml"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let documents = Node::parse(&std::sync::Arc::new(path.clone()), &text, &mut Vec::new());
        let specs = documents.iter().filter_map(|document| document.get("spec"));
        // Bound inline, or by a PolicyBinding.
        let bound = specs.flat_map(|spec| match spec.get("policies") {
            Some(policies) => policies.iter().collect::<Vec<_>>(),
            None => vec![spec],
        });
        let bound: Vec<&Node> = bound.filter(|bound| bound.get("policyRef").is_some()).collect();
        assert!(!bound.is_empty(), "{}: policies", path.display());
        for policy in bound {
            let name = policy.get("policyRef").and_then(|reference| reference.get("name")).and_then(Node::as_str);
            let mut problems = Vec::new();
            let config = policy.get("config").expect("a config");
            compile(name.expect("a name"), config, "config", &mut testing::site(), &mut problems);
            assert_eq!(problems, [], "{}", path.display());
        }
    }
}

#[test]
fn a_default_that_is_written_changes_nothing() {
    for entry in TABLE.iter().filter(|entry| matches!(entry.role, Role::Inbound | Role::Outbound)) {
        let Some(Described { fields, shape, .. }) = entry.described else { continue };
        let Shape::Record(members) = shape() else { panic!("{}: a config is a map", entry.name) };
        for (field, member) in fields.iter().filter_map(|field| {
            let of_root = |member: &&Member| member.name == field.path;
            field.default?;
            members.iter().find(of_root).map(|member| (field, member))
        }) {
            let mut config = example(entry.name);
            config.remove(field.path);
            if let Some((other, is)) = field.visible_when {
                config.insert(other.to_owned(), is.parse().map_or(is.into(), serde_json::Value::Bool));
                // What must be there beside it.
                let beside = fields.iter().filter(|beside| beside.visible_when == field.visible_when);
                for beside in beside.filter(|beside| beside.default.is_none() && !beside.path.contains('[')) {
                    config.entry(beside.path).or_insert("x".into());
                }
            }
            let absent = compiled(entry.name, &config);
            config.insert(field.path.to_owned(), field.default_value(&member.shape).expect("the test above"));
            assert_eq!(
                compiled(entry.name, &config),
                absent,
                "{}: {} is not {:?}",
                entry.name,
                field.path,
                field.default
            );
        }
    }
}

/// A policy as its `Debug` shows it.
fn compiled(name: &str, config: &serde_json::Map<String, serde_json::Value>) -> String {
    let node = node(&serde_json::Value::from(config.clone()).to_string());
    let shown = format!("{:?}", compile(name, &node, "config", &mut testing::site(), &mut Vec::new()));
    // When it was made is no part of what it is.
    let behind = |part: &str| part.split_once('}').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    let mut parts = shown.split("Instant {");
    parts.next().unwrap_or_default().to_owned() + &parts.map(behind).collect::<String>()
}

/// The `config` of a policy's example.
fn example(name: &str) -> serde_json::Map<String, serde_json::Value> {
    let stem = name.strip_suffix("-flex").unwrap_or(name);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/policies/{stem}/gateway.yaml"));
    let text = std::fs::read_to_string(&path).expect("an example");
    let documents = Node::parse(&Arc::new(path), &text, &mut Vec::new());
    let specs = documents.iter().filter_map(|document| document.get("spec"));
    let bound = specs.flat_map(|spec| spec.get("policies").map_or(vec![spec], |list| list.iter().collect()));
    let of_name = bound.into_iter().filter(|bound: &&Node| {
        let written = bound.get("policyRef").and_then(|reference| reference.get("name")).and_then(Node::as_str);
        written.and_then(lookup).is_some_and(|entry| entry.name == name)
    });
    let config = of_name.filter_map(|bound| bound.get("config")).next();
    match config.map(Node::to_json) {
        Some(serde_json::Value::Object(config)) => config,
        _ => panic!("{name}: no example with a config"),
    }
}
