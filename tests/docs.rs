//! Documentation and examples agree with the code: settings and their defaults, reason codes, variables, links.
//!
//! Tables are for people first, so the tests read them as they stand instead of generating them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ringway::{
    config::{
        described::described,
        environment::Environment,
        load::{Loaded, Loader},
        resources::{PolicyRingway, Section},
        settings::{GatewayName, ServerHeader, Settings},
    },
    document::node::{Shape, shape_of},
    policies::{
        Field, Role, TABLE,
        fields::{leaves, words},
    },
    telemetry::series::SeriesId,
};

#[test]
fn settings_have_the_documented_names_and_defaults() {
    let Settings { limits, timeouts, connections, cache, h2c, .. } = Settings::default();
    let known = [limits.documented(), timeouts.documented(), connections.documented(), cache.documented()].concat();
    let known: Vec<_> = known.into_iter().map(|(name, default)| (name, as_written(&default))).collect();
    let of = |is_of: &dyn Fn(&str) -> bool| -> BTreeMap<String, String> {
        known
            .iter()
            .filter(|(name, _)| is_of(name))
            .map(|(name, default)| (name.to_string(), default.clone()))
            .collect()
    };
    assert_eq!(defaults("### Limits"), of(&|name| name.starts_with("limits.")));
    assert_eq!(defaults("### Time limits"), of(&|name| name.starts_with("timeouts.")));
    assert_eq!(defaults("### Time limits of Flex"), of(&|name| !name.contains('.')));
    let others = defaults("### Others");
    let of_connections = others.clone().into_iter().filter(|(name, _)| name.starts_with("connections.")).collect();
    assert_eq!(of(&|name| name.starts_with("connections.")), of_connections);
    let of_cache = others.clone().into_iter().filter(|(name, _)| name.starts_with("cache.")).collect();
    assert_eq!(of(&|name| name.starts_with("cache.")), of_cache);
    assert_eq!(others["listeners.h2c"], h2c.to_string());
}

/// Numbers without the point that whole seconds have in JSON.
fn as_written(value: &serde_json::Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string())
}

#[test]
fn a_file_that_states_every_default_changes_nothing() {
    let file = |name: &str, spec: String| {
        let envelope = "apiVersion: gateway.mulesoft.com/v1alpha1\nmetadata: {name: a}";
        let loaded = Loaded::from_texts(&[(name, &format!("{envelope}\n{spec}"))], Environment::default());
        assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
        loaded
    };
    let ringway = ["### Limits", "### Time limits", "### Others"].map(|heading| flow(&defaults(heading))).concat();
    let timeouts = flow(&defaults("### Time limits of Flex"));
    let spec = format!("{{ringway: {{{ringway}}}, timeouts: {{{timeouts}}}}}");
    let settings = file("replica.yaml", format!("kind: Configuration\nspec: {spec}")).settings;
    // These say more than their absence does.
    let (server_header, access_log) = (ServerHeader::Name("ringway".into()), settings.access_log.clone());
    let name = GatewayName { is_given: true, ..Settings::default().name };
    assert_eq!(settings, Settings { name, server_header, access_log, ..Settings::default() });

    let service = |name: &str, ringway: &str| {
        let spec = format!("{{address: 'http://orders:80', ringway: {{{ringway}}}}}");
        let outcome = file(name, format!("kind: Service\nspec: {spec}")).compile(1, &mut |_| SeriesId(0));
        let snapshot = outcome.accept(false).expect("nothing is wrong with it");
        snapshot.services.into_iter().next().expect("the Service")
    };
    let stated = service("stated.yaml", &flow(&defaults("## Settings of a Service")));
    let absent = service("absent.yaml", "healthCheck: {}");
    assert_eq!(stated.endpoints, absent.endpoints);
    assert_eq!(stated.load_balancing, absent.load_balancing);
    assert_eq!(stated.keeps_host, absent.keeps_host);
    assert_eq!(stated.retries, absent.retries);
    assert_eq!(stated.health_check, absent.health_check);
}

#[test]
fn sections_of_a_configuration_work_or_not_as_documented() {
    let page = read("docs/configuration.md");
    let is_to_come = |row: &Vec<String>| row[1] == "not yet";
    let names = |row: &Vec<String>| code_spans(&row[0]).into_iter().map(|name| name.replace("spec.", ""));
    let documented: BTreeMap<_, _> = (rows(&page, "## Configuration").iter())
        .flat_map(|row| names(row).map(|name| (name, is_to_come(row))).collect::<Vec<_>>())
        .collect();
    let known = Section::ALL.iter().map(|section| (section.name.to_owned(), section.to_come));
    assert_eq!(documented, known.collect(), "docs/configuration.md (left), src/config (right)");
}

#[test]
fn features_by_protocol_are_cases() {
    let page = read("docs/testing.md");
    let documented: BTreeSet<String> = (rows(&page, "### Features by protocol").iter())
        .flat_map(|row| row.iter().flat_map(|cell| code_spans(cell)))
        .collect();
    for case in &documented {
        assert!(Path::new("tests/cases").join(case).with_extension("case").is_file(), "no case {case}");
    }
    let folder = fs::read_dir("tests/cases/protocols").expect("a folder of cases");
    let cases = folder.map(|entry| entry.expect("an entry").path().with_extension(""));
    for case in cases.map(|path| format!("protocols/{}", path.file_name().expect("a name").display())) {
        assert!(documented.contains(&case), "{case} is not in docs/testing.md");
    }
}

#[test]
fn every_reason_code_is_documented_and_exists() {
    let is_code =
        |text: &String| !text.is_empty() && text.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let page = read("docs/request-path.md");
    let documented: BTreeSet<_> = rows(&page, "## Failures").iter().flat_map(|row| code_spans(&row[0])).collect();
    let mut used = BTreeSet::new();
    for (path, text) in sources() {
        for (at, _) in text.match_indices("fn reason(&self)") {
            used.extend(literals(text[at..].split("\n    }\n").next().unwrap_or_default()));
        }
        if path.ends_with("proxy/reject.rs") {
            // An answer is made on one line, and its code stands last.
            let lines = text.lines().filter(|line| line.contains("empty(") || line.contains("text("));
            used.extend(lines.filter_map(|line| literals(line.split(".with_header").next()?).pop()));
        }
        if path.ends_with("http/h2/incoming.rs") {
            // Of upstreams' heads and of trailers, whose streams are reset.
            let unanswered = ["bad_status", "trailers_without_end"];
            let reasons = literals(&text).into_iter().filter(|literal| literal.contains('_'));
            used.extend(reasons.filter(|reason| !unanswered.contains(&&**reason)));
        }
        // Those of one policy stand on its page: the test below.
        let others = ["policies/policy.rs", "calls/forward_proxy.rs"];
        if path.starts_with(root().join("src/proxy")) || others.iter().any(|other| path.ends_with(other)) {
            used.extend(literals(&text).into_iter().filter(|literal| literal.contains('_')));
        }
    }
    used.retain(is_code);
    assert_eq!(documented, used, "docs/request-path.md (left), src/ (right)");
}

#[test]
fn every_policys_page_lists_what_it_answers() {
    for entry in TABLE {
        let stem = entry.name.strip_suffix("-flex").unwrap_or(entry.name);
        for answer in entry.answers.iter().copied().flatten() {
            let page = read(&format!("docs/policies/{stem}.md"));
            let (status, reason) = (format!("| {} |", answer.status), format!("`{}`", answer.reason));
            let listed = page.lines().any(|line| line.starts_with(&status) && line.contains(&reason));
            assert!(listed, "docs/policies/{stem}.md has no line `{status} ... {reason}`");
        }
    }
}

#[test]
fn every_policys_page_tells_of_its_fields() {
    // Routes are described where routing is.
    let has_page = TABLE.iter().filter(|entry| entry.implemented && entry.role != Role::Routing);
    for entry in has_page {
        let stem = entry.name.strip_suffix("-flex").unwrap_or(entry.name);
        let path = format!("docs/policies/{stem}.md");
        let page = read(&path);
        let described = described(entry).expect("it works");
        let shapes = leaves(&(described.shape)());
        let mut rows = told_rows(&page, "| Field | Type | Default | Meaning |");
        for field in described.fields {
            let row = rows.remove(field.path).unwrap_or_else(|| panic!("{path} has no line `{}`", field.path));
            let (_, shape, required) =
                shapes.iter().find(|(known, ..)| known == field.path).expect("a unit test compares");
            if let Some(wrong) = misfit(field, shape, *required, &row) {
                panic!("{path}: {}: {wrong}", field.path);
            }
        }
        assert!(rows.is_empty(), "{path} tells of fields that are none: {:?}", rows.keys());
    }
}

#[test]
fn every_policys_page_tells_of_its_options() {
    let shapes = leaves(&shape_of::<PolicyRingway>());
    for entry in TABLE.iter().filter(|entry| !entry.options.is_empty()) {
        let path = format!("docs/policies/{}.md", entry.name.strip_suffix("-flex").unwrap_or(entry.name));
        let mut rows = told_rows(&read(&path), "| Option | Type | Default | Meaning |");
        for option in entry.options {
            let row = rows.remove(option.path).unwrap_or_else(|| panic!("{path} has no line `{}`", option.path));
            let (_, shape, _) = shapes.iter().find(|(known, ..)| known == option.path).expect("a unit test compares");
            if let Some(wrong) = misfit(option, shape, false, &row) {
                panic!("{path}: {}: {wrong}", option.path);
            }
        }
        assert!(rows.is_empty(), "{path} tells of options that are none: {:?}", rows.keys());
    }
}

/// A page's table with this head, by its first cells.
fn told_rows(page: &str, head: &str) -> BTreeMap<String, Vec<String>> {
    let lines = page.lines().skip_while(|line| *line != head);
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split(" | "))
        .map(|cells| cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
        .map(|cells| (code_spans(&cells[0]).concat(), cells))
        .collect()
}

/// What a line of a page says otherwise than the code.
fn misfit(field: &Field, shape: &Shape, required: bool, row: &[String]) -> Option<String> {
    let [_, kind, default, meaning] = row else { return Some("expected four cells".into()) };
    let expected_default = match field.default {
        Some(default) => format!("`{default}`"),
        // Of an object that may be absent.
        None if required => "required".into(),
        None => String::new(),
    };
    if !default.starts_with(&expected_default) || (expected_default.is_empty() && default.starts_with("required")) {
        return Some(format!("the default is {expected_default}, not {default}"));
    }
    let is_told = match shape {
        Shape::OneOf(_) | Shape::Boolean => *kind == words(shape),
        _ => field.unit.is_none_or(|unit| kind.contains(unit)) && (!field.expression || kind.contains("expression")),
    };
    if !is_told {
        let (unit, words) = (field.unit.unwrap_or_default(), words(shape));
        return Some(format!("the type is {words} {unit}, an expression: {}; not {kind}", field.expression));
    }
    if let Some(value) = field.values.iter().find(|value| !kind.contains(*value)) {
        return Some(format!("the type is to name {value}"));
    }
    if let Some(range) = field.range_in_words().filter(|range| !kind.contains(range) && !meaning.contains(range)) {
        return Some(format!("the type is to say {range}"));
    }
    let told = plain(meaning);
    (told != field.help).then(|| format!("the meaning is `{}`, not `{told}`", field.help))
}

/// Without links and emphasis.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, behind)) = rest.split_once("](") {
        let (before, label) = before.rsplit_once('[').expect("a link has a beginning");
        text.extend([before, label]);
        rest = behind.split_once(')').expect("a link has an end").1;
    }
    (text + rest).replace("**", "")
}

#[test]
fn every_environment_variable_is_documented_and_exists() {
    let ours = |name: &String| name.starts_with("RINGWAY_") || name.starts_with("FLEX_");
    let page = read("docs/configuration.md");
    let documented: BTreeSet<_> =
        rows(&page, "## Environment").iter().flat_map(|row| code_spans(&row[0])).filter(ours).collect();
    let build_only = "RINGWAY_COMMIT";
    // Of tests that stand in src/, told of in docs/testing.md.
    let of_tests = |name: &String| name.starts_with("RINGWAY_QUOTA_");
    let used: BTreeSet<_> = sources()
        .iter()
        .flat_map(|(_, text)| literals(text))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .filter(|name| ours(name) && !of_tests(name) && name != build_only)
        .collect();
    assert_eq!(documented, used, "docs/configuration.md (left), src/ (right)");
}

#[test]
fn every_example_loads_without_a_problem() {
    let configs = root().join("configs");
    let examples = files(&configs, "yaml");
    // Also the folders of folders.
    let folders: BTreeSet<_> =
        examples.iter().flat_map(|file| file.ancestors().skip(1).take_while(|folder| **folder != *configs)).collect();
    for folder in folders {
        // Their certificates are made when they are tried: tests/examples.rs.
        if ["ingress", "egress"].iter().any(|example| folder.ends_with(example)) {
            continue;
        }
        let loader = Loader::new(vec![folder.to_owned()], Environment::default());
        let outcome = loader.load().compile(1, &mut |_| SeriesId(0));
        assert!(outcome.problems().is_empty(), "{:#?}", outcome.problems());
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in files(&root(), "md") {
        let text = fs::read_to_string(&page).expect("a page that was listed can be read");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() { page.clone() } else { page.with_file_name("").join(target) };
            let found = target.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|text| text.lines().any(|line| anchor_of(line) == anchor)));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Dotted names with their defaults as the inside of a YAML flow mapping; what has no default gets a path.
fn flow(settings: &BTreeMap<String, String>) -> String {
    let mut groups: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    let mut text = String::new();
    for (name, value) in settings {
        match name.split_once('.') {
            Some((group, rest)) => drop(groups.entry(group).or_default().insert(rest.to_owned(), value.clone())),
            None => text += &format!("{name}: {}, ", if value == "-" { "/a/path" } else { value }),
        }
    }
    groups.iter().for_each(|(group, inside)| text += &format!("{group}: {{{}}}, ", flow(inside)));
    text
}

/// The first two columns of the tables below a heading of docs/configuration.md.
fn defaults(heading: &str) -> BTreeMap<String, String> {
    let page = read("docs/configuration.md");
    rows(&page, heading).into_iter().map(|row| (row[0].replace('`', ""), row[1].clone())).collect()
}

/// The rows of all tables below a heading, up to the next heading of any level, without the tables' own heads.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let mut lines = page.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "no heading `{heading}`");
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with('#')).collect();
    let is_rule = |line: &&str| line.starts_with("|--");
    let heads: Vec<_> = lines.windows(2).filter(|pair| is_rule(&pair[1])).map(|pair| pair[0]).collect();
    let is_row = |line: &&&str| line.starts_with('|') && !is_rule(line) && !heads.contains(*line);
    let cells = |line: &&str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.iter().filter(is_row).map(cells).collect()
}

/// What stands between backticks.
fn code_spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What stands between quotes on one line; enough for literals without escapes.
fn literals(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// As GitHub makes it: lower case, spaces to hyphens, punctuation gone.
fn anchor_of(line: &str) -> String {
    let Some(title) = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')) else {
        return String::new();
    };
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Without their tests.
fn sources() -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source that was listed can be read");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        (path, code)
    };
    files(&root().join("src"), "rs").into_iter().map(read).collect()
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the repository").flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && !path.ends_with("target") {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
