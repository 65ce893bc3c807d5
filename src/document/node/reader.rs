//! A tree read as a Rust type: the one place where keys match in any case, scalars convert and unknown keys are reported.
//!
//! serde stops at the first error. To report all of them, what was wrong is remembered and the section is read again with a
//! stand-in at that place, until nothing new turns up; a result made with stand-ins is good for finding further mistakes in it,
//! and for what is absent where it is wrong.

use std::{cell::RefCell, collections::HashSet, fmt};

use serde::de::{self, DeserializeOwned};

use super::{Entry, Location, Node, Problem, Severity, Value, deserializer::Reader, misplaced::misplaced};

/// Errors reported for one section; whoever made more will be told after these.
const ERRORS_MAX: usize = 100;
/// The same for unknown keys.
const WARNINGS_MAX: usize = 200;

/// The value, with stand-ins for what is wrong, and whether nothing is.
pub(super) fn read<T: DeserializeOwned>(
    root: &Node,
    severity: Severity,
    path: &str,
    problems: &mut Vec<Problem>,
) -> (Option<T>, bool) {
    let reading = Reading { root, severity, path, found: RefCell::default(), around: RefCell::default() };
    let mut result = None;
    for _ in 0..ERRORS_MAX {
        match T::deserialize(Reader { node: root, reading: &reading }) {
            Ok(value) => {
                result = Some(value);
                break;
            }
            Err(error) => {
                if !reading.remember(error) {
                    break;
                }
            }
        }
    }
    let found = reading.found.into_inner();
    let failed = found.problems.iter().any(|problem| problem.severity != Severity::Warning);
    problems.extend(found.problems);
    (result, !failed)
}

/// What one call of [`read`] has found so far.
pub(super) struct Reading<'n> {
    root: &'n Node,
    /// Of a misfit; what has no field is a warning.
    severity: Severity,
    path: &'n str,
    found: RefCell<Found>,
    /// The fields of the sections around what is being read, the innermost last.
    around: RefCell<Vec<&'static [&'static str]>>,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    /// Nodes with an error: read as a stand-in from now on. Trees have no shared nodes, so an address names one.
    bad: HashSet<*const Node>,
    /// Fields reported as missing, by their struct.
    missing: Vec<(*const Node, &'static str)>,
    /// Keys already warned about.
    warned: HashSet<*const Entry>,
    /// Values already warned about.
    converted: HashSet<*const Node>,
}

impl Reading<'_> {
    /// Records an error; false if reading again would only meet it again.
    fn remember(&self, error: Error) -> bool {
        let node = error.node.unwrap_or(self.root);
        let mut found = self.found.borrow_mut();
        let fresh = match error.missing {
            Some(field) if !error.silent => {
                let fresh = !found.missing.contains(&(node, field));
                found.missing.push((node, field));
                fresh
            }
            // The root has no parent that could take a stand-in for it.
            _ => found.bad.insert(node) && !(std::ptr::eq(node, self.root) && error.silent),
        };
        if fresh && !error.silent {
            let mut path = self.path_of(node);
            if let Some(field) = error.missing {
                path = format!("{path}.{field}");
            }
            let Error { text, location, .. } = error;
            found.problems.push(Problem { severity: self.severity, location, path, text });
        }
        fresh
    }

    /// Warns of keys that no field has.
    pub(super) fn unknown_key(&self, entry: &Entry, parent: &Node, fields: &'static [&'static str]) {
        let mut found = self.found.borrow_mut();
        if found.warned.len() >= WARNINGS_MAX || !found.warned.insert(entry) {
            return;
        }
        drop(found);
        if let Some(text) = misplaced(&entry.key, fields) {
            return self.at_key(self.severity, entry, parent, text);
        }
        if std::ptr::eq(parent, self.root) && self.path.ends_with("config") && entry.key.eq_ignore_ascii_case("rules") {
            let text = "belongs beside `config`: within it the policy would apply to every request";
            return self.at_key(self.severity, entry, parent, text.into());
        }
        let meant = nearest(&entry.key, fields.iter().copied());
        let is_around = self
            .around
            .borrow()
            .last()
            .is_some_and(|around| around.iter().any(|field| field.eq_ignore_ascii_case(&entry.key)));
        let text = match meant {
            Some(name) => format!("unknown key, did you mean `{name}`?"),
            None if is_around => "ignored: belongs one level up".to_owned(),
            None => "unknown key, ignored".to_owned(),
        };
        self.at_key(Severity::Warning, entry, parent, text);
    }

    /// Reads what is within a section with these fields.
    pub(super) fn within<R>(&self, fields: &'static [&'static str], read: impl FnOnce() -> R) -> R {
        self.around.borrow_mut().push(fields);
        let result = read();
        self.around.borrow_mut().pop();
        result
    }

    /// Warns of a text that is not what one sees. Both words are of a handful: they are no secrets.
    pub(super) fn converted(&self, node: &Node, written: &str, read: &str) {
        if !self.found.borrow_mut().converted.insert(node) {
            return;
        }
        let text = format!("`{written}` without quotes is a boolean in YAML, and reads as `{read}`");
        let (path, location) = (self.path_of(node), node.location.clone());
        self.found.borrow_mut().problems.push(Problem { severity: Severity::Warning, location, path, text });
    }

    /// One field under two spellings.
    pub(super) fn written_twice(&self, entry: &Entry, parent: &Node, field: &str) {
        if self.found.borrow_mut().warned.insert(entry) {
            let text = format!("the same key as `{field}`, written twice");
            self.at_key(self.severity, entry, parent, text);
        }
    }

    fn at_key(&self, severity: Severity, entry: &Entry, parent: &Node, text: String) {
        let path = format!("{}.{}", self.path_of(parent), entry.key);
        let location = entry.key_location.clone();
        self.found.borrow_mut().problems.push(Problem { severity, location, path, text });
    }

    pub(super) fn is_bad(&self, node: &Node) -> bool {
        self.found.borrow().bad.contains(&std::ptr::from_ref(node))
    }

    /// The fields of a struct that it was found to lack.
    pub(super) fn missing_in(&self, node: &Node) -> Vec<&'static str> {
        let found = self.found.borrow();
        found.missing.iter().filter(|(lacking, _)| std::ptr::eq(*lacking, node)).map(|&(_, field)| field).collect()
    }

    fn path_of(&self, node: *const Node) -> String {
        let steps = find(self.root, node).unwrap_or_default();
        let path = steps.iter().rev().fold(self.path.to_owned(), |path, step| path + step);
        path.trim_start_matches('.').to_owned()
    }
}

/// The steps from `from` to `wanted`, last one first; `None` if it is not below.
fn find(from: &Node, wanted: *const Node) -> Option<Vec<String>> {
    if std::ptr::eq(from, wanted) {
        return Some(Vec::new());
    }
    let (step, mut steps) = match &from.value {
        Value::Scalar(_) => return None,
        Value::Sequence(items) => {
            items.iter().enumerate().find_map(|(at, item)| Some((format!("[{at}]"), find(item, wanted)?)))?
        }
        Value::Mapping(entries) => entries
            .iter()
            .find_map(|entry| find(&entry.value, wanted).map(|steps| (format!(".{}", entry.key), steps)))?,
    };
    steps.push(step);
    Some(steps)
}

/// The name that was probably meant: the closest, if it is close.
pub fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    // Names are short; a long key is no misspelling of one, and the distance costs the product of both.
    if written.len() > 64 {
        return None;
    }
    names
        .map(|name| (distance(written.as_bytes(), name.to_ascii_lowercase().as_bytes()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(written.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edit distance in which swapping two neighbours is one step.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitution = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitution.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// What serde is told; carries the place where it happened.
#[derive(Debug)]
pub(super) struct Error {
    text: String,
    node: Option<*const Node>,
    location: Location,
    missing: Option<&'static str>,
    /// A stand-in was refused: what it stands for has been reported, and what holds it needs one as well.
    silent: bool,
}

impl Error {
    /// The innermost place wins: the places around it see the same error pass.
    pub(super) fn at(mut self, node: &Node) -> Self {
        if self.node.is_none() {
            self.node = Some(node);
            self.location = node.location.clone();
        }
        self
    }

    pub(super) fn silent(mut self) -> Self {
        self.silent = true;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// The texts leave values out: they may be passwords and keys.
impl de::Error for Error {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { text: text.to_string(), node: None, location: Location::default(), missing: None, silent: false }
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        Self::custom(format_args!("expected {}", whole_number(&expected).unwrap_or(&expected)))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("expected {}", one_of(expected)))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("expected {}", one_of(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::custom("required, but missing") }
    }
}

/// What serde's names for integers mean to someone who writes YAML.
fn whole_number(rust: &str) -> Option<&'static str> {
    Some(match rust {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a smaller whole number",
        _ => return None,
    })
}

pub(super) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".into(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}
