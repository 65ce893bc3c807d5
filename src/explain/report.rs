//! An explanation as data: what `-o json` writes, and what the text is made of. Field names are a promise to scripts.

use serde::Serialize;

use super::{Question, Secrets};
use crate::{config::dump::REDACTED, document::problem::Location};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub outcome: Outcome,
    pub request: Request,
    pub listener: Option<ListenerFound>,
    pub api: Option<ApiFound>,
    /// Those of the API in their order.
    pub policies: Vec<PolicyTurn>,
    /// Those of the API in their order; empty where none was looked for.
    pub routes: Vec<RouteTurn>,
    pub service: Option<ServiceFound>,
    /// Those of the Service.
    pub outbound_policies: Vec<PolicyTurn>,
    pub upstream: Option<Sent>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Outcome {
    /// The request goes on to a Service.
    Upstream,
    /// The gateway answers itself.
    Answered(Answer),
    /// No request comes so far.
    Unreachable { why: String },
}

#[derive(Debug, Serialize)]
pub struct Answer {
    pub status: u16,
    /// The reason code of log and metrics.
    pub reason: &'static str,
    /// Whose answer it is.
    pub by: String,
    pub headers: Vec<Line>,
    pub body: String,
}

#[derive(Debug, Default, Serialize)]
pub struct Request {
    pub method: String,
    pub scheme: &'static str,
    pub authority: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<Line>,
    pub client: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub name: String,
    pub value: String,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
}

#[derive(Debug, Serialize)]
pub struct ListenerFound {
    pub address: String,
    pub scheme: &'static str,
}

#[derive(Debug, Serialize)]
pub struct ApiFound {
    pub name: String,
    pub namespace: String,
    pub at: Place,
    pub base: String,
    /// The path below the base, in its one spelling: what rules look at.
    pub path: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct PolicyTurn {
    pub name: String,
    /// What `policyRef.name` says.
    pub policy: String,
    pub at: Place,
    /// It decides, and changes nothing.
    pub shadow: bool,
    pub what: Turn,
    pub why: String,
    /// What it did to the request's headers.
    pub changes: Vec<Change>,
    /// Whom it says the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The lines that it would log of the request, without their time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Turn {
    /// The request had its answer before.
    NotReached,
    /// No rule of it holds for the request.
    NotApplied,
    Continued,
    Answered,
    /// It is in shadow, and would have answered.
    WouldAnswer,
    /// It could not be built, and refuses what it governs.
    Broken,
    /// A pattern of its rules reached its limit: the request is refused.
    PatternLimit,
}

#[derive(Debug, Serialize)]
pub struct RouteTurn {
    pub name: String,
    pub at: Place,
    pub chosen: bool,
    pub why: String,
    pub to: Vec<Goal>,
}

/// Where a route leads.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// `None`: there is no such Service.
    pub service: Option<String>,
    /// What is put ahead of the path.
    pub path: String,
    pub weight: u32,
}

#[derive(Debug, Serialize)]
pub struct ServiceFound {
    pub name: String,
    pub namespace: String,
    pub at: Place,
    pub endpoints: Vec<String>,
}

/// The request as the upstream sees it.
#[derive(Debug, Serialize)]
pub struct Sent {
    pub scheme: &'static str,
    pub protocol: &'static str,
    pub method: String,
    pub host: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<Line>,
    /// Against what the client sent.
    pub changes: Vec<Change>,
}

impl PolicyTurn {
    /// It writes credentials, whatever their header is called.
    pub(super) fn injects(&self) -> bool {
        self.policy.starts_with("credential-injection")
    }
}

impl Change {
    fn each_text(&mut self, change: &mut impl FnMut(&mut String)) {
        self.from.iter_mut().chain(&mut self.to).for_each(change);
    }

    fn hide(&mut self) {
        // What is hidden already keeps what is shown of it, such as a scheme.
        for value in self.from.iter_mut().chain(&mut self.to).filter(|value| !value.ends_with(REDACTED)) {
            *value = REDACTED.to_owned();
        }
    }
}

/// A header that is not as it was. No value is no such header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub name: String,
    pub from: Vec<String>,
    pub to: Vec<String>,
}

impl Explanation {
    /// Hides what policies that inject credentials have written, whatever its header is called.
    pub(super) fn hide_injected(&mut self) {
        let mut names = Vec::new();
        for turn in self.policies.iter_mut().chain(&mut self.outbound_policies).filter(|turn| turn.injects()) {
            for change in &mut turn.changes {
                change.hide();
                names.push(change.name.to_ascii_lowercase());
            }
        }
        let Some(sent) = &mut self.upstream else { return };
        let is_injected = |name: &str| names.contains(&name.to_ascii_lowercase());
        sent.changes.iter_mut().filter(|change| is_injected(&change.name)).for_each(Change::hide);
        for line in sent.headers.iter_mut().filter(|line| is_injected(&line.name)) {
            if !line.value.ends_with(REDACTED) {
                line.value = REDACTED.to_owned();
            }
        }
    }

    /// Everything that a client or a policy may have written.
    pub(super) fn each_text(&mut self, change: &mut impl FnMut(&mut String)) {
        if let Outcome::Answered(answer) = &mut self.outcome {
            answer.headers.iter_mut().for_each(|line| change(&mut line.value));
            change(&mut answer.body);
        }
        let Request { authority, path, query, headers, .. } = &mut self.request;
        [authority, path, query].into_iter().for_each(&mut *change);
        headers.iter_mut().for_each(|line| change(&mut line.value));
        if let Some(api) = &mut self.api {
            change(&mut api.path);
        }
        for turn in self.policies.iter_mut().chain(&mut self.outbound_policies) {
            change(&mut turn.why);
            turn.client.iter_mut().for_each(&mut *change);
            turn.changes.iter_mut().for_each(|one| one.each_text(change));
        }
        self.routes.iter_mut().for_each(|turn| change(&mut turn.why));
        if let Some(Sent { host, path, query, headers, changes, .. }) = &mut self.upstream {
            [host, path, query].into_iter().for_each(&mut *change);
            headers.iter_mut().for_each(|line| change(&mut line.value));
            changes.iter_mut().for_each(|one| one.each_text(change));
        }
    }

    pub(super) fn new(question: &Question, secrets: Secrets) -> Self {
        let (path, query) = question.target.split_at(question.target.find('?').unwrap_or(question.target.len()));
        let line = |text: &String| {
            let (name, value) = text.split_once(':').unwrap_or((text, ""));
            secrets.line(name.as_bytes(), value.trim().as_bytes())
        };
        let request = Request {
            method: secrets.text(question.method.as_bytes()),
            scheme: question.scheme.name(),
            authority: secrets.text(question.authority.as_bytes()),
            path: secrets.text(path.as_bytes()),
            query: secrets.query(query.as_bytes()),
            headers: question.headers.iter().map(line).collect(),
            client: question.client.to_string(),
        };
        Self {
            outcome: Outcome::Upstream,
            request,
            listener: None,
            api: None,
            policies: Vec::new(),
            routes: Vec::new(),
            service: None,
            outbound_policies: Vec::new(),
            upstream: None,
        }
    }
}

impl Outcome {
    pub fn unreachable(why: String) -> Self {
        Self::Unreachable { why }
    }
}

impl Place {
    pub fn of(location: &Location) -> Self {
        Self { file: location.file.display().to_string(), line: location.line }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Header lines as pairs of bytes.
pub(super) type Lines = [(Vec<u8>, Vec<u8>)];

/// What is not as before, by name, in the order of the lines.
pub(super) fn changes(before: &Lines, after: &Lines, secrets: Secrets) -> Vec<Change> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for (name, _) in before.iter().chain(after) {
        let name = name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let values = |lines: &Lines, wanted: &[u8]| -> Vec<Vec<u8>> {
        let of_name = lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        of_name.map(|(_, value)| value.clone()).collect()
    };
    let shown = |name: &[u8], values: &[Vec<u8>]| values.iter().map(|value| secrets.value(name, value)).collect();
    let change = |name: &Vec<u8>| {
        let (from, to) = (values(before, name), values(after, name));
        (from != to).then(|| Change { name: secrets.text(name), from: shown(name, &from), to: shown(name, &to) })
    };
    names.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parser_will_refuse_is_shown_without_control_characters_and_secrets() {
        let url = "http://a\x1b[1m:1/\x1b]0;x?token=hunter2";
        let headers = ["cookie: a=hunter2".to_owned(), "x-a: \x1b[2J".to_owned()];
        let client = std::net::IpAddr::from([127, 0, 0, 1]);
        let question = Question::new("G\x1b", url, None, &headers, None, client).expect("it could be sent");
        let shown = format!("{:?}", Explanation::new(&question, Secrets::Hidden).request);
        assert!(!shown.contains("\\u{1b}") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn changes_are_told_by_name() {
        let lines = |lines: &[(&str, &str)]| -> Vec<(Vec<u8>, Vec<u8>)> {
            lines.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
        };
        let before = lines(&[("A", "1"), ("b", "1"), ("c", "1")]);
        let after = lines(&[("a", "1"), ("c", "1"), ("C", "2"), ("d", "3")]);
        let told = changes(&before, &after, Secrets::Hidden);
        let told: Vec<String> = told.iter().map(|one| format!("{} {:?} {:?}", one.name, one.from, one.to)).collect();
        assert_eq!(told, [r#"b ["1"] []"#, r#"c ["1"] ["1", "2"]"#, r#"d [] ["3"]"#]);
    }
}
