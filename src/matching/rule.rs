//! Rules: which requests a route takes and a policy applies to (path, host, methods, headers; AND within, OR across).
//!
//! The first rule that holds decides, and its path captures are the ones a route rewrites with.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::pattern::Pattern;
pub use super::pattern::{Captures, PatternLimit, Scratch};
use crate::{
    document::problem::Location,
    http::{
        bytes::{HOST, is, is_token},
        head::Fields,
    },
};

/// As the operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawRule {
    pub path: Option<String>,
    pub host: Option<String>,
    pub methods: Option<String>,
    pub headers: BTreeMap<String, String>,
}

/// One checked rule. What is not written holds for every request.
#[derive(Debug)]
pub struct Rule {
    path: Pattern,
    host: Pattern,
    methods: Pattern,
    /// All must be present and match.
    headers: Vec<(Box<[u8]>, Pattern)>,
    /// What `headers` says of `host`: the same as `host`, which an HTTP/2 client need not send as a header.
    host_header: Option<Pattern>,
    /// For those who ask why it does not hold.
    written: Box<Written>,
}

#[derive(Debug)]
struct Written {
    rule: RawRule,
    location: Location,
}

/// The first thing that a rule asks for and a request does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit<'r> {
    pub attribute: Attribute<'r>,
    /// As written.
    pub pattern: &'r str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute<'r> {
    Path,
    Methods,
    Host,
    Header(&'r str),
}

/// What a rule looks at.
#[derive(Clone, Copy)]
pub struct RuleInput<'a> {
    /// The API's base removed, without the query; starts with `/`.
    pub path: &'a [u8],
    /// In its one spelling; empty where an HTTP/1.0 client says none.
    pub authority: &'a [u8],
    pub method: &'a [u8],
    pub fields: &'a Fields,
}

/// Whether one of the rules holds. No rules at all hold for everything, without captures.
pub fn any_matches(
    rules: &[Rule],
    input: &RuleInput,
    scratch: &mut Scratch,
    captures: &mut Captures,
) -> Result<bool, PatternLimit> {
    captures.clear();
    for rule in rules {
        if rule.matches(input, scratch, captures)? {
            return Ok(true);
        }
    }
    Ok(rules.is_empty())
}

impl Rule {
    /// `patterns` counts up one id for each regular expression, so that a core can keep a cache for each. Problems come as
    /// field and text.
    pub fn compile(raw: &RawRule, patterns: &mut usize) -> Result<Self, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut compile = |field: &str, text: &str, of: fn(&str, &mut usize) -> Result<Pattern, String>| {
            of(text, patterns).unwrap_or_else(|problem| {
                problems.push((field.to_owned(), problem));
                Pattern::any()
            })
        };
        let path = raw.path.as_ref().map_or_else(Pattern::any, |text| compile("path", text, Pattern::compile_path));
        let host = raw.host.as_ref().map_or_else(Pattern::any, |text| compile("host", text, compile_host));
        let methods = raw.methods.as_ref().map_or_else(Pattern::any, |text| compile("methods", text, Pattern::compile));
        let mut headers = Vec::with_capacity(raw.headers.len());
        let mut host_header = None;
        for (name, text) in &raw.headers {
            let field = format!("headers.{name}");
            if name.eq_ignore_ascii_case("host") {
                host_header = Some(compile(&field, text, compile_host));
                continue;
            }
            let pattern = match boolean_spellings(text) {
                Some(spellings) => Pattern::one_of(spellings),
                None => compile(&field, text, Pattern::compile),
            };
            headers.push((name.as_bytes().into(), pattern));
        }
        for name in raw.headers.keys().filter(|name| !is_token(name.as_bytes())) {
            problems.push((format!("headers.{name}"), "not a header name".to_owned()));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let written = Box::new(Written { rule: raw.clone(), location: Location::default() });
        Ok(Self { path, host, methods, headers, host_header, written })
    }

    pub fn written_at(mut self, location: &Location) -> Self {
        self.written.location = location.clone();
        self
    }

    pub fn location(&self) -> &Location {
        &self.written.location
    }

    /// Why it does not hold, where it does not.
    pub fn misfit(&self, input: &RuleInput, scratch: &mut Scratch) -> Result<Option<Misfit<'_>>, PatternLimit> {
        let RawRule { path, host, methods, headers } = &self.written.rule;
        let attributes = [
            (Attribute::Path, path, self.path.is_match(input.path, scratch)?),
            (Attribute::Methods, methods, self.methods.is_match(input.method, scratch)?),
            (Attribute::Host, host, host_matches(&self.host, input.authority, scratch)?),
        ];
        if let Some(&(attribute, pattern, _)) = attributes.iter().find(|(.., holds)| !holds) {
            return Ok(Some(Misfit { attribute, pattern: pattern.as_deref().unwrap_or_default() }));
        }
        for (name, pattern) in headers {
            let holds = match self.headers.iter().find(|(known, _)| **known == *name.as_bytes()) {
                Some((name, pattern)) => header_matches(name, pattern, input.fields, scratch)?,
                None => self.host_header_matches(input.authority, scratch)?,
            };
            if !holds {
                return Ok(Some(Misfit { attribute: Attribute::Header(name), pattern }));
            }
        }
        Ok(None)
    }

    /// Whether the request is this rule's; if so, `captures` has what the groups of its path took.
    pub fn matches(
        &self,
        input: &RuleInput,
        scratch: &mut Scratch,
        captures: &mut Captures,
    ) -> Result<bool, PatternLimit> {
        Ok(self.path.captures(input.path, scratch, captures)? && self.holds_besides_path(input, scratch)?)
    }

    /// As `matches`, for those who do not rewrite.
    pub fn holds(&self, input: &RuleInput, scratch: &mut Scratch) -> Result<bool, PatternLimit> {
        Ok(self.path.is_match(input.path, scratch)? && self.holds_besides_path(input, scratch)?)
    }

    fn holds_besides_path(&self, input: &RuleInput, scratch: &mut Scratch) -> Result<bool, PatternLimit> {
        Ok(self.methods.is_match(input.method, scratch)?
            && host_matches(&self.host, input.authority, scratch)?
            && self.host_header_matches(input.authority, scratch)?
            && self.headers_match(input.fields, scratch)?)
    }

    /// Whether its path pattern holds, whatever else it asks for.
    pub fn takes_path(&self, path: &[u8], scratch: &mut Scratch) -> Result<bool, PatternLimit> {
        self.path.is_match(path, scratch)
    }

    fn host_header_matches(&self, authority: &[u8], scratch: &mut Scratch) -> Result<bool, PatternLimit> {
        match &self.host_header {
            None => Ok(true),
            Some(pattern) => Ok(!authority.is_empty() && host_matches(pattern, authority, scratch)?),
        }
    }

    fn headers_match(&self, fields: &Fields, scratch: &mut Scratch) -> Result<bool, PatternLimit> {
        for (name, pattern) in &self.headers {
            if !header_matches(name, pattern, fields, scratch)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// All lines of the name, joined.
fn header_matches(
    name: &[u8],
    pattern: &Pattern,
    fields: &Fields,
    scratch: &mut Scratch,
) -> Result<bool, PatternLimit> {
    let mut values = fields.values(name);
    let Some(first) = values.next() else { return Ok(false) };
    let Some(second) = values.next() else { return pattern.is_match(first, scratch) };
    let mut joined = scratch.take_joined();
    joined.extend_from_slice(first);
    for value in [second].into_iter().chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    let holds = pattern.is_match(&joined, scratch);
    scratch.give_joined(joined);
    holds
}

/// With the port as sent, or without it: a rule that names a host means it on every port.
fn host_matches(pattern: &Pattern, authority: &[u8], scratch: &mut Scratch) -> Result<bool, PatternLimit> {
    if pattern.is_match(authority, scratch)? {
        return Ok(true);
    }
    match without_port(authority) {
        Some(host) => pattern.is_match(host, scratch),
        None => Ok(false),
    }
}

/// Hosts have no case, and the authority that is matched has no dot at the end of its host.
fn compile_host(text: &str, patterns: &mut usize) -> Result<Pattern, String> {
    let is_name = |text: &str| text.bytes().all(|byte| is(byte, HOST));
    let escaped = text.strip_suffix(r"\.").filter(|rooted| !rooted.ends_with('\\'));
    let text = match escaped.or_else(|| text.strip_suffix("[.]")) {
        Some(rooted) => rooted,
        // A name written as it is, whose dots stand for any character.
        None => text.strip_suffix('.').filter(|rooted| is_name(rooted)).unwrap_or(text),
    };
    Pattern::compile_ignoring_case(text, patterns)
}

/// Whether a pattern of methods takes none, and would if it were in upper case: no request has one in lower case.
pub fn methods_in_lower_case(text: &str) -> bool {
    const METHODS: [&[u8]; 8] = [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD", b"TRACE"];
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return false;
    }
    let takes_one = |of: fn(&str, &mut usize) -> Result<Pattern, String>| {
        let mut patterns = 0;
        let pattern = of(text, &mut patterns)?;
        let mut scratch = Scratch::new(patterns);
        // One that reaches its limit says nothing.
        Ok::<bool, String>(METHODS.iter().any(|method| pattern.is_match(method, &mut scratch).unwrap_or(true)))
    };
    takes_one(Pattern::compile) == Ok(false) && takes_one(Pattern::compile_ignoring_case) == Ok(true)
}

fn without_port(authority: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memrchr(b':', authority)?;
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    // The last colon of a bare IPv6 literal (`[::1]`) is inside its brackets.
    port.iter().all(u8::is_ascii_digit).then_some(host)
}

/// YAML reads `yes` and `true` as one value, and published files write such header values bare: then every spelling of
/// that value on the request's side is the same value too.
fn boolean_spellings(text: &str) -> Option<&'static [&'static str]> {
    const TRUE: &[&str] = &["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"];
    const FALSE: &[&str] = &["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"];
    [TRUE, FALSE].into_iter().find(|spellings| spellings.contains(&text))
}

/// What rules and rewriting see of a path: the API's base removed, `/` where nothing is left.
pub fn relative(path: &[u8], base: usize) -> &[u8] {
    match &path[base..] {
        [] => b"/",
        rest => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `request` is `METHOD authority path`, then header lines.
    fn check(rule: &RawRule, request: &str, expected: bool) {
        let mut patterns = 0;
        let rule = Rule::compile(rule, &mut patterns).expect("valid");
        let mut lines = request.lines();
        let start: Vec<&str> = lines.next().expect("a request").split(' ').collect();
        let mut fields = Fields::default();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header line");
            fields.append(name.as_bytes(), value.as_bytes());
        }
        let [method, authority, path] = start[..] else { panic!("{request}") };
        let input = RuleInput {
            path: path.as_bytes(),
            authority: authority.as_bytes(),
            method: method.as_bytes(),
            fields: &fields,
        };
        let mut scratch = Scratch::new(patterns);
        assert_eq!(rule.matches(&input, &mut scratch, &mut Captures::default()), Ok(expected), "{rule:?}\n{request}");
        assert_eq!(rule.holds(&input, &mut scratch), Ok(expected));
    }

    fn raw(field: &str, pattern: &str) -> RawRule {
        let mut raw = RawRule::default();
        let pattern = pattern.to_owned();
        match field {
            "path" => raw.path = Some(pattern),
            "host" => raw.host = Some(pattern),
            "methods" => raw.methods = Some(pattern),
            name => drop(raw.headers.insert(name.to_owned(), pattern)),
        }
        raw
    }

    #[test]
    fn a_rule_without_attributes_holds_for_everything() {
        check(&RawRule::default(), "GET a /", true);
        check(&RawRule::default(), "PURGE a:1 /x\na: b", true);
    }

    #[test]
    fn every_attribute_must_hold() {
        let rule = RawRule {
            path: Some("/orders(/.*)".into()),
            host: Some("api.example".into()),
            methods: Some("GET|POST".into()),
            headers: BTreeMap::from([("x-a".into(), "1".into())]),
        };
        check(&rule, "GET api.example /orders/1\nX-A: 1", true);
        check(&rule, "PUT api.example /orders/1\nX-A: 1", false);
        check(&rule, "GET other.example /orders/1\nX-A: 1", false);
        check(&rule, "GET api.example /orders\nX-A: 1", false);
        check(&rule, "GET api.example /orders/1\nX-A: 2", false);
        check(&rule, "GET api.example /orders/1", false);
    }

    #[test]
    fn methods_are_matched_whole_and_in_their_case() {
        check(&raw("methods", "GET|POST"), "POST a /", true);
        check(&raw("methods", "GET|POST"), "get a /", false);
        check(&raw("methods", "GET|POST"), "GETX a /", false);
        check(&raw("methods", ".*"), "PURGE a /", true);
        check(&raw("methods", "(?!DELETE).*"), "DELETE a /", false);
        check(&raw("methods", "(?!DELETE).*"), "GET a /", true);
    }

    /// A decision: the reference leaves open whether a rule's host includes the port.
    #[test]
    fn a_host_matches_with_its_port_or_without() {
        for (pattern, authority, expected) in [
            ("api.example", "api.example", true),
            ("api.example", "api.example:8081", true),
            ("api.example:8081", "api.example:8081", true),
            ("api.example:8081", "api.example", false),
            ("api.example", "api.example.evil", false),
            ("API.Example", "api.example", true),
            (r"api\.example\.", "api.example", true),
            (r"api[.]example[.]", "api.example:8081", true),
            ("api.example.", "api.example", true),
            (r"api\\.", "api.", false),
            (r"api\.example", "apixexample", false),
            (r".*\.example", "a.b.example:1", true),
            (r"\[::1\]", "[::1]", true),
            (r"\[::1\]", "[::1]:8081", true),
            ("localhost|api.example", "localhost:8081", true),
        ] {
            check(&raw("host", pattern), &format!("GET {authority} /"), expected);
        }
    }

    #[test]
    fn headers_are_found_in_any_case_and_matched_in_theirs() {
        check(&raw("X-Kind", "a.*"), "GET a /\nx-kind: abc", true);
        check(&raw("X-Kind", "a.*"), "GET a /\nx-kind: Abc", false);
        check(&raw("X-Kind", ".*"), "GET a /\nx-kind: ", true);
        check(&raw("X-Kind", ".*"), "GET a /\nx-other: a", false);
    }

    /// A decision: the reference leaves open how several values are matched.
    #[test]
    fn several_values_of_a_header_are_joined() {
        let lines = "GET a /\nx-a: 1\nx-b: 9\nX-A: 2\nx-a: 3";
        check(&raw("x-a", "1,2,3"), lines, true);
        check(&raw("x-a", "1|2|3"), lines, false);
        check(&raw("x-a", "[1-3](,[1-3])*"), lines, true);
    }

    #[test]
    fn a_bare_yaml_boolean_matches_every_spelling_of_itself() {
        for pattern in ["true", "yes"] {
            check(&raw("x-a", pattern), "GET a /\nx-a: true", true);
            check(&raw("x-a", pattern), "GET a /\nx-a: yes", true);
            check(&raw("x-a", pattern), "GET a /\nx-a: no", false);
            check(&raw("x-a", pattern), "GET a /\nx-a: y", false);
        }
    }

    #[test]
    fn every_problem_is_reported() {
        let rule = RawRule {
            path: Some("/a(".into()),
            host: Some("[".into()),
            methods: Some("*".into()),
            headers: BTreeMap::from([("a b".into(), "x".into()), ("ok".into(), "(".into())]),
        };
        let problems = Rule::compile(&rule, &mut 0).expect_err("five problems");
        let fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["path", "host", "methods", "headers.ok", "headers.a b"]);
    }
}
