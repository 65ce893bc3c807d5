//! What `ringway schema` prints, against everything written here that the loader reads: examples, cases and documentation. What
//! the loader takes without a word the schema takes, and what it finds unknown or missing the schema refuses.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jsonschema::Validator;
use ringway::{
    config::{environment::Environment, load::Loaded, schema::schema},
    document::{
        node::{Node, documents},
        problem::{Problem, Severity},
    },
    telemetry::series::SeriesId,
};
use serde_json::Value;
use support::{
    case::{Case, Kind},
    session::{Names, expand_text},
};

/// Files whose keys are spelt as only the loader reads them.
const OTHER_SPELLINGS: [&str; 3] =
    ["config/keys-in-any-case", "policies/outbound-not-implemented", "policies/introspection-refuses"];
/// Fewer files than this, and they were not found.
const GOOD_MIN: usize = 200;
const BAD_MIN: usize = 15;

#[test]
fn the_schema_is_one() {
    jsonschema::meta::validate(&schema()).expect("valid by the metaschema of 2020-12");
    jsonschema::validator_for(&schema()).expect("every reference leads somewhere");
}

#[test]
fn examples_are_taken() {
    let validator = validator();
    let mut files = Vec::new();
    collect(&root().join("configs"), &["yaml"], &mut files);
    assert!(files.len() >= 20, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("a file that was listed can be read");
        let refused = refused(&validator, &file.display().to_string(), &text);
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

#[test]
fn the_schema_and_the_loader_agree() {
    let validator = validator();
    let (mut good, mut bad, mut differences) = (0, 0, Vec::new());
    for Written { name, text, environment } in written() {
        let problems = problems(&name, &text, environment);
        let refused = refused(&validator, &name, &text);
        let unknown: Vec<&Problem> = problems.iter().filter(|problem| is_for_the_schema(problem)).collect();
        let is_other_spelling = OTHER_SPELLINGS.iter().any(|other| name.starts_with(other));
        match (unknown.first(), refused.first()) {
            (None, Some(_)) if is_other_spelling => {}
            (Some(problem), None) => differences.push(format!("{name}: taken, although {problem}")),
            (Some(_), Some(_)) => bad += 1,
            (None, _) if problems.iter().any(|problem| problem.severity != Severity::Warning) => {}
            (None, Some(refused)) => differences.push(format!("{name}: refused, and nothing is wrong: {refused}")),
            (None, None) => good += 1,
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(good >= GOOD_MIN && bad >= BAD_MIN, "only {good} good files and {bad} bad ones");
}

/// One mistake each, of which the loader says the same.
#[test]
fn mistakes_are_refused() {
    let api = |spec: &str| {
        format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}\nspec: {{{spec}}}")
    };
    let policy = |name: &str, config: &str| {
        api(&format!("address: 'http://0.0.0.0:8081', policies: [{{policyRef: {{name: {name}}}, config: {config}}}]"))
    };
    let validator = validator();
    let check = |text: &str, is_taken: bool| {
        let refused = refused(&validator, "a.yaml", text);
        assert_eq!(refused.is_empty(), is_taken, "{text}\n{refused:#?}");
    };
    for (text, is_taken) in [
        (api("address: 'http://0.0.0.0:8081'"), true),
        (api("addres: 'http://0.0.0.0:8081'"), false),
        (api("address: 'http://0.0.0.0:8081', routes: []"), false),
        (policy("cors-flex", "{publicResource: yes}"), true),
        (policy("cors", "{publicResource: $PUBLIC}"), true),
        (policy("cors-flex", "{publicResource: maybe}"), false),
        (policy("cors-flex", "{publicResorce: true}"), false),
        (policy("cors", "{originGroups: [{orgins: []}]}"), false),
        (policy("jwt-validation", "{signingMethod: HMAC, signingKeyLength: '256'}"), true),
        (policy("jwt-validation", "{signingMethod: hmac5}"), false),
        (policy("jwt-validation", "{signingKeyLength: 384, ringway: {algorithms: [ES384, EdDSA]}}"), true),
        (policy("jwt-validation", "{signingKeyLength: $LENGTH, ringway: {algorithms: [$ONE]}}"), true),
        (policy("jwt-validation", "{signingKeyLength: 255}"), false),
        (policy("jwt-validation", "{ringway: {algorithms: [es384]}}"), false),
        (policy("jwt-validation", "{jwksServiceTimeToLive: 1, ringway: {jwksCoolDownSeconds: 1}}"), true),
        (policy("jwt-validation", "{jwksServiceTimeToLive: 0}"), false),
        (policy("jwt-validation", "{ringway: {jwksCoolDownSeconds: 0}}"), false),
        (policy("json-threat-protection", "{maxContainerDepth: -1}"), true),
        (policy("json-threat-protection", "{maxContainerDepth: -2}"), false),
        (policy("response-timeout-flex", "{timeout: 86401}"), false),
        (String::new(), true),
        (format!("---\n# nothing\n---\n{}\n---\n", api("address: 'http://0.0.0.0:8081'")), true),
        (policy("http-basic-authentication", "{username: u}"), false),
        (policy("response-timeout-flex", "{timeout: '1.5'}"), true),
        (policy("response-timeout-flex", "{timeout: soon}"), false),
        (policy("my-own", "{whatever: true}"), true),
        (policy("tls-inbound", "{minversion: 1.2, certificate: {crtFile: a, keyFile: b}}"), true),
        (policy("tls", "{minVersion: 1.2}"), false),
        ("kind: Service\nmetadata: {name: a}\nspec: {address: 'http://a'}".to_owned(), false),
        ("apiVersion: v1\nkind: ConfigMap\ndata: {a: b}".to_owned(), true),
        (
            "apiVersion: gateway.mulesoft.com/v1beta1\nkind: Secret\nmetadata: {name: a}\nspec: {tls.crt: a, tls.key: b}"
                .to_owned(),
            true,
        ),
        ("apiVersion: gateway.mulesoft.com/v1beta1\nkind: Secrt\nmetadata: {name: a}\nspec: {}".to_owned(), false),
    ] {
        check(&text, is_taken);
    }
}

/// The documentation says of each field what the schema shows in an editor.
#[test]
fn policies_bring_their_descriptions() {
    let schema = schema();
    let timeout = &schema["$defs"]["response-timeout-flex"]["properties"]["timeout"];
    assert_eq!(timeout["title"], "Time-out");
    assert_eq!(timeout["description"], "0 to 86400, fractions too. 0: no limit, with a warning. In seconds.");
    let password = &schema["$defs"]["http-basic-authentication-flex"]["properties"]["password"];
    assert_eq!(password["writeOnly"], true);
    assert_eq!(schema["$defs"]["cors-flex"]["properties"]["publicResource"]["default"], true);
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).expect("a schema")
}

/// What the schema says is wrong with the documents of a file.
fn refused(validator: &Validator, name: &str, text: &str) -> Vec<String> {
    let nodes = documents(&Arc::new(PathBuf::from(name)), text, &mut Vec::new());
    let values: Vec<Value> = nodes.iter().map(|document| Node::to_json(&document.node)).collect();
    let wrong = |value| validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path()));
    values.iter().flat_map(wrong).collect()
}

/// What the loader says of it, alone.
fn problems(name: &str, text: &str, environment: Environment) -> Vec<Problem> {
    let outcome = Loaded::from_texts(&[(name, text)], environment).compile(0, &mut |_| SeriesId::default());
    outcome.problems().to_vec()
}

/// Of what a file holds and lacks, not of what it means.
fn is_for_the_schema(problem: &Problem) -> bool {
    let texts = [
        "unknown key",
        "unknown kind",
        "belongs ",
        "no attribute of a rule",
        "missing: document ignored",
        "required, but missing",
    ];
    // It works all the same.
    let is_read = problem.text.starts_with("belongs beside `policyRef`");
    !is_read && texts.iter().any(|text| problem.text.starts_with(text))
}

struct Written {
    name: String,
    text: String,
    environment: Environment,
}

/// The configurations of cases, and those of the documentation that are whole.
fn written() -> Vec<Written> {
    let names: Names = Arc::new(vec![
        ("port", "8081".to_owned()),
        ("port2", "8082".to_owned()),
        ("port3", "8083".to_owned()),
        ("management-port", "8084".to_owned()),
        ("management", "127.0.0.1:8084".to_owned()),
        ("dead", "127.0.0.1:8085".to_owned()),
        ("upstream", "127.0.0.1:8086".to_owned()),
        ("upstream2", "127.0.0.1:8087".to_owned()),
        ("upstream3", "127.0.0.1:8088".to_owned()),
        ("dir", "/nowhere".to_owned()),
    ]);
    let (mut cases, mut pages) = (Vec::new(), vec![root().join("README.md")]);
    collect(&root().join("tests/cases"), &["case"], &mut cases);
    collect(&root().join("docs"), &["md"], &mut pages);
    let mut written = Vec::new();
    for path in cases {
        for case in Case::read(&path, &root().join("tests/cases")).expect("cases.rs reads it") {
            let pairs = case.steps.iter().filter_map(|step| match &step.kind {
                Kind::Env(name, value) => Some((name.as_str(), value.as_str())),
                _ => None,
            });
            let environment: Environment = pairs.collect();
            written.extend(case.steps.iter().filter_map(|step| match &step.kind {
                Kind::Config { name, text } | Kind::ConfigMap { name, text } => Some(Written {
                    name: format!("{} {name}", case.name),
                    text: expand_text(&names, text),
                    environment: environment.clone(),
                }),
                _ => None,
            }));
        }
    }
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page that was listed can be read");
        let blocks = text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
        written.extend(blocks.filter(|block| block.contains("apiVersion:")).map(|block| Written {
            name: page.display().to_string(),
            text: block.to_owned(),
            environment: Environment::default(),
        }));
    }
    written
}

fn collect(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, endings, found);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            found.push(path);
        }
    }
    found.sort();
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
