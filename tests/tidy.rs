//! What the source promises about itself: who imports whom, where `unsafe` stands, what every policy comes with.
//!
//! `docs/architecture.md` states the rules; this file keeps them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module of `src/` and those that it must not import.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // Protocols and sockets know nothing above them. Of `net`, protocols know the buffers: see the test below.
    ("http", &["app", "cli", "config", "management", "policies", "proxy", "quota", "storage", "telemetry", "worker"]),
    (
        "net",
        &[
            "app",
            "cli",
            "config",
            "http",
            "management",
            "policies",
            "proxy",
            "quota",
            "storage",
            "telemetry",
            "tls",
            "worker",
        ],
    ),
    (
        "tls",
        &[
            "app",
            "cli",
            "config",
            "http",
            "management",
            "net",
            "policies",
            "proxy",
            "quota",
            "storage",
            "telemetry",
            "worker",
        ],
    ),
    // The language of configuration, and what selects requests: below the policies and whoever reads files.
    (
        "document",
        &["app", "cli", "config", "explain", "management", "net", "policies", "proxy", "telemetry", "tls", "worker"],
    ),
    (
        "matching",
        &["app", "cli", "config", "explain", "management", "net", "policies", "proxy", "telemetry", "tls", "worker"],
    ),
    (
        "ldap",
        &[
            "app",
            "calls",
            "cli",
            "config",
            "explain",
            "http",
            "management",
            "net",
            "policies",
            "proxy",
            "telemetry",
            "tls",
            "worker",
        ],
    ),
    ("calls", &["app", "cli", "config", "explain", "management", "policies", "proxy", "quota", "worker"]),
    ("cache", &["app", "cli", "config", "explain", "management", "policies", "proxy", "telemetry", "worker"]),
    ("config", &["app", "cli", "explain", "management", "net", "proxy", "worker"]),
    ("policies", &["app", "cli", "config", "explain", "management", "proxy", "worker"]),
    (
        "expression",
        &["app", "cli", "config", "http", "management", "net", "policies", "proxy", "telemetry", "tls", "worker"],
    ),
    // The data plane never imports the management plane.
    ("proxy", &["app", "cli", "explain", "management", "worker"]),
    ("telemetry", &["app", "cli", "config", "management", "policies", "proxy", "worker"]),
    ("worker", &["app", "cli", "explain", "management"]),
    ("quota", &["app", "cli", "management", "proxy"]),
    ("storage", &["app", "cli", "management", "proxy"]),
    // Only app.rs sees everyone.
    ("management", &["app", "cli", "proxy"]),
    // Watches the steps of a request, and is asked by the command line and by a management page.
    ("explain", &["app", "cli", "management", "worker"]),
    ("cli", &["proxy", "worker"]),
];

const LINES_MAX: usize = 700;
/// Code has 120 columns, by rustfmt; prose may run a little over.
const WIDTH_MAX: usize = 130;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module of `src/` it belongs to: `src/proxy/route.rs` to `proxy`.
    fn module(&self) -> String {
        let below = self.path.strip_prefix(root().join("src")).expect("a file of src/");
        let first = below.components().next().expect("it has a name").as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Every line of code with its number; comments are cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(index, line)| {
            let code = line.split("//").next().unwrap_or_default();
            (!code.trim().is_empty()).then_some((index + 1, code))
        })
    }

    fn at(&self, line: usize, problem: &str) -> String {
        format!("{}:{line}: {problem}", self.path.strip_prefix(root()).unwrap_or(&self.path).display())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut |path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).expect("a source file is UTF-8");
            found.push(Source { path: path.to_owned(), text });
        }
    });
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problems\n{}\n", problems.len(), problems.join("\n"));
}

/// The modules that a source names behind `crate::`, alone or at the top of a group.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut depth = 0;
    for (number, code) in source.code() {
        let mut rest = code;
        if depth > 0 {
            rest = group(rest, number, &mut depth, &mut found);
        }
        while let Some(at) = rest.find("crate::") {
            let path = &rest[at + "crate::".len()..];
            rest = match path.strip_prefix('{') {
                Some(inner) => {
                    depth = 1;
                    group(inner, number, &mut depth, &mut found)
                }
                None => {
                    found.extend(identifier(path).map(|name| (number, name)));
                    path
                }
            };
        }
    }
    found
}

/// Reads on in a group of imports; the names at its first level are modules. Returns what follows its end.
fn group<'a>(text: &'a str, number: usize, depth: &mut usize, found: &mut Vec<(usize, String)>) -> &'a str {
    let mut at_start = true;
    for (index, character) in text.char_indices() {
        match character {
            '{' => *depth += 1,
            '}' => {
                *depth -= 1;
                if *depth == 0 {
                    return &text[index + 1..];
                }
            }
            ',' => at_start = true,
            ' ' => {}
            _ => {
                if at_start && *depth == 1 {
                    found.extend(identifier(&text[index..]).map(|name| (number, name)));
                }
                at_start = false;
            }
        }
    }
    ""
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn modules_import_only_what_they_may() {
    let mut problems = Vec::new();
    for source in sources("src") {
        let module = source.module();
        let Some((_, forbidden)) = FORBIDDEN.iter().find(|(name, _)| *name == module) else { continue };
        for (line, imported) in imports(&source) {
            if forbidden.contains(&imported.as_str()) {
                problems.push(source.at(line, &format!("{module} must not import {imported}")));
            }
        }
    }
    report(problems);
}

/// A protocol may hand out the buffer that payload will be sent in; it does no I/O.
#[test]
fn protocols_take_only_buffers_from_net() {
    let mut problems = Vec::new();
    for source in sources("src/http") {
        for (line, code) in source.code() {
            if code.replace("crate::net::Buffer", "").contains("crate::net") {
                problems.push(source.at(line, "http takes more from net than crate::net::Buffer"));
            }
        }
    }
    report(problems);
}

/// What other threads wake must not be awaited on a core, whose wakers are for its own thread.
#[test]
fn cores_await_nothing_of_another_runtime() {
    const MODULES: &[&str] = &["http", "net", "policies", "proxy"];
    const CRATES: &[&str] = &["async_channel", "flume", "futures", "futures_channel", "futures_util", "tokio"];
    let mut problems = Vec::new();
    for source in MODULES.iter().flat_map(|module| sources(&format!("src/{module}"))) {
        // Unit tests may hold the code against others that live on tokio.
        if source.path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        for (line, code) in source.code() {
            let names: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for name in CRATES.iter().filter(|name| names.contains(name)) {
                let module = source.module();
                problems
                    .push(source.at(line, &format!("{module} must not know {name}: wakers do not leave their core")));
            }
        }
    }
    report(problems);
}

/// A module that needs itself by way of others can be neither read nor moved alone.
#[test]
fn no_modules_need_each_other() {
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources("src") {
        let imported = imports(&source).into_iter().map(|(_, imported)| imported);
        needs.entry(source.module()).or_default().extend(imported);
    }
    // Those that need nobody who is still there go, until there are none: what is left goes in a circle.
    loop {
        let there: BTreeSet<String> = needs.keys().cloned().collect();
        let before = needs.len();
        needs.retain(|module, needed| needed.iter().any(|other| other != module && there.contains(other)));
        if needs.len() == before {
            break;
        }
    }
    report(needs.iter().map(|(module, needed)| format!("{module} needs {needed:?}")).collect());
}

/// A new module of `src/` needs its line in the table above.
#[test]
fn every_module_has_its_import_rule() {
    let mut problems = Vec::new();
    for source in sources("src") {
        let module = source.module();
        let known = FORBIDDEN.iter().any(|(name, _)| *name == module);
        if !known && !["app", "lib", "main"].contains(&module.as_str()) {
            problems.push(source.at(1, &format!("the module {module} has no import rule in tests/tidy.rs")));
        }
    }
    report(problems);
}

#[test]
fn unsafe_stands_in_net_and_worker_with_its_reason() {
    /// A reason may take a few lines above its block.
    const REASON_LINES_MAX: usize = 8;
    let mut problems = Vec::new();
    for source in sources("src") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, code) in source.code() {
            let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            // A method of an unsafe trait has its reason at the `unsafe impl`.
            if !words.contains("unsafe") || code.contains("unsafe fn") {
                continue;
            }
            if !["net", "worker"].contains(&source.module().as_str()) {
                problems.push(source.at(number, "unsafe outside of net/ and worker/"));
            }
            let above = &lines[number.saturating_sub(REASON_LINES_MAX + 1)..number];
            if !above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                problems.push(source.at(number, "unsafe without a `// SAFETY:` sentence"));
            }
        }
    }
    report(problems);
}

#[test]
fn files_open_with_their_reason_and_fit_a_screen() {
    let mut problems = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        // Unit tests in a file of their own belong to the file above them.
        let is_unit_tests =
            source.path.ends_with("tests.rs") || source.path.parent().is_some_and(|p| p.ends_with("tests"));
        let is_unit_tests = is_unit_tests && source.path.starts_with(root().join("src"));
        if !is_unit_tests && !source.text.starts_with("//! ") {
            problems.push(source.at(1, "the file does not open with `//!`"));
        }
        let count = source.text.lines().count();
        if count > LINES_MAX {
            problems.push(source.at(count, &format!("more than {LINES_MAX} lines")));
        }
        for (index, line) in source.text.lines().enumerate() {
            if line.trim_start().starts_with("//") && line.chars().count() > WIDTH_MAX {
                problems.push(source.at(index + 1, &format!("a comment wider than {WIDTH_MAX} characters")));
            }
        }
    }
    report(problems);
}

#[test]
fn nothing_is_left_undone() {
    let mut problems = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        if source.path.ends_with("tests/tidy.rs") {
            continue;
        }
        for (line, code) in source.code() {
            for leftover in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
                if code.contains(leftover) {
                    problems.push(source.at(line, leftover));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn every_policy_has_its_page_example_and_case() {
    let (mut examples, mut cases) = (String::new(), String::new());
    walk(&root().join("configs"), &mut |path| examples.push_str(&fs::read_to_string(path).unwrap_or_default()));
    walk(&root().join("tests/cases"), &mut |path| cases.push_str(&fs::read_to_string(path).unwrap_or_default()));
    let mut problems = Vec::new();
    for entry in ringway::policies::TABLE.iter().filter(|entry| entry.implemented) {
        let name = entry.name;
        let page = root().join("docs/policies").join(name.trim_end_matches("-flex")).with_extension("md");
        // Routes are described where routing is, and need no page of their own.
        let is_route = matches!(name, "route" | "route-weighted");
        if !is_route && !page.exists() {
            problems.push(format!("{name}: no page {}", page.strip_prefix(root()).unwrap_or(&page).display()));
        }
        if !is_route && !examples.contains(name) {
            problems.push(format!("{name}: no example below configs/"));
        }
        if !cases.contains(name) {
            problems.push(format!("{name}: no case below tests/cases/"));
        }
    }
    report(problems);
}

/// `docs/configuration.md` names no setting that the code does not have.
#[test]
fn documented_settings_exist() {
    let page = fs::read_to_string(root().join("docs/configuration.md")).expect("docs/configuration.md is there");
    let code: String = sources("src/config").into_iter().map(|source| source.text).collect();
    let mut problems = Vec::new();
    for (index, line) in page.lines().enumerate() {
        for (group, name) in settings(line) {
            let field = snake_case(name);
            let is_there = code.contains(&format!("{field}:")) || code.contains(&format!("\"{name}\""));
            if !is_there {
                problems.push(format!("docs/configuration.md:{}: no setting {group}.{name} in src/config", index + 1));
            }
        }
    }
    report(problems);
}

/// The settings of our own that a line names in backticks: `limits.headBytes` and the like.
fn settings(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| {
        let (group, name) = text.trim_start_matches("spec.ringway.").split_once('.')?;
        let is_setting =
            ["accessLog", "connections", "healthCheck", "limits", "listeners", "proxyProtocol", "retries", "timeouts"]
                .contains(&group)
                && name.chars().all(|c| c.is_ascii_alphanumeric());
        is_setting.then_some((group, name))
    })
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}
