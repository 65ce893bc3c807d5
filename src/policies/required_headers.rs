//! Required headers: refuses a request that comes without one of the listed headers, or with one that is not as it must be.

use std::{cell::RefCell, rc::Rc};

use serde::Deserialize;

use super::{Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Site, Turn};
use crate::{
    http::{bytes::is_token, head::Known},
    matching::{pattern::Pattern, rule::Scratch},
};

const MISSING: &str = "required_header_missing";

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    request: Vec<Required>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Required {
    name: String,
    pattern: Option<String>,
    message: Option<String>,
}

#[derive(Debug)]
pub struct RequiredHeaders {
    headers: Box<[Header]>,
    patterns: usize,
}

#[derive(Debug)]
struct Header {
    name: Box<[u8]>,
    /// What each of its values must be; absent: anything.
    pattern: Option<Pattern>,
    message: String,
}

/// Room to run the patterns in, and the answers in the order of the headers.
pub struct State {
    scratch: RefCell<Scratch>,
    refusals: Box<[Rc<LocalResponse>]>,
}

impl Policy for RequiredHeaders {
    type Config = Config;
    type State = State;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Compliance);
    const FIELDS: &'static [Field] = &[
        Field::new("request", "Headers", "At least one; a request must have all of them."),
        Field::new("request[].name", "Name", "A header that each request must have, in any case."),
        Field::new(
            "request[].pattern",
            "Pattern",
            "A regular expression that the whole of its value must match, and of each line where there are several. Left out: \
             any value will do, also an empty one.",
        ),
        Field::new(
            "request[].message",
            "Message",
            "What the client is told. Left out, it is told which header is missing or not valid.",
        ),
    ];
    const ANSWERS: &'static [Answers] =
        &[Answers { status: 400, reason: MISSING, when: "a header is missing, or its value does not match" }];

    fn remarks(config: &Config) -> Vec<Fault> {
        let never_seen = |(at, required): (usize, &Required)| {
            let known = Known::of(required.name.as_bytes());
            let text = format!("`{}` is of a connection and taken off before: no request has it", required.name);
            is_of_connections(known).then(|| Fault::at(format!("request[{at}].name"), text))
        };
        config.request.iter().enumerate().filter_map(never_seen).collect()
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        if config.request.is_empty() {
            error.add(Fault::at("request", "there is no header in it"));
        }
        let (mut headers, mut patterns) = (Vec::with_capacity(config.request.len()), 0);
        for (at, Required { name, pattern, message }) in config.request.into_iter().enumerate() {
            if !is_token(name.as_bytes()) {
                error.add(Fault::at(format!("request[{at}].name"), "not a header name"));
            }
            let pattern = pattern.map(|text| Pattern::compile(&text, &mut patterns)).transpose();
            match pattern {
                Ok(pattern) => {
                    let message =
                        message.unwrap_or_else(|| format!("Required header `{name}` is missing or not valid."));
                    headers.push(Header { name: name.into_bytes().into(), pattern, message });
                }
                Err(problem) => error.add(Fault::at(format!("request[{at}].pattern"), problem)),
            }
        }
        error.or(Self { headers: headers.into(), patterns })
    }

    fn state(&self, _: &Core) -> State {
        let refusal = |header: &Header| Rc::new(LocalResponse::error_json(400, &header.message, MISSING));
        State {
            scratch: RefCell::new(Scratch::new(self.patterns)),
            refusals: self.headers.iter().map(refusal).collect(),
        }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let mut scratch = turn.state.scratch.borrow_mut();
        for (header, refusal) in self.headers.iter().zip(&turn.state.refusals) {
            match header.is_met(exchange, &mut scratch) {
                Ok(true) => {}
                Ok(false) => return Flow::Respond(refusal.clone()),
                Err(limit) => return Flow::respond(limit),
            }
        }
        Flow::Continue
    }
}

impl Header {
    /// Whether the request has it, as it must be. Whoever comes behind may read any of its lines.
    ///
    /// # Errors
    /// The pattern cannot decide on a value within its limit.
    fn is_met(&self, exchange: &Exchange<'_>, scratch: &mut Scratch) -> Result<bool, LocalResponse> {
        let Some(pattern) = &self.pattern else { return Ok(self.values(exchange).next().is_some()) };
        let mut is_there = false;
        for value in self.values(exchange) {
            is_there = true;
            if !pattern.is_match(value, scratch).map_err(|_| LocalResponse::pattern_limit())? {
                return Ok(false);
            }
        }
        Ok(is_there)
    }

    /// HTTP/2 may say the host elsewhere than in a header.
    fn values<'a>(&'a self, exchange: &'a Exchange<'_>) -> impl Iterator<Item = &'a [u8]> {
        let is_host = Known::of(&self.name) == Known::Host;
        let host = Some(exchange.authority()).filter(|host| is_host && !host.is_empty());
        let lines = exchange.request_fields().values(&self.name).filter(move |_| !is_host);
        host.into_iter().chain(lines)
    }
}

/// RFC 9110 section 7.6.1.
fn is_of_connections(name: Known) -> bool {
    matches!(
        name,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::ProxyAuthorization
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    /// What a request with these headers is answered; empty where it goes on.
    fn check(config: &str, headers: &[(&str, &str)], expected: &str) {
        let policy = testing::compile::<RequiredHeaders>(config).expect("valid");
        let said = match testing::Trial::new("GET", "/", headers).ask(&policy) {
            Flow::Continue => String::new(),
            Flow::Respond(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
            other => panic!("{other:?}"),
        };
        assert_eq!(said, expected, "{config} {headers:?}");
    }

    const REFUSED: &str = "400 {\"error\":\"Required header `X-Tenant` is missing or not valid.\"}";

    #[test]
    fn a_header_must_be_there_in_any_case() {
        let config = "{request: [{name: X-Tenant}]}";
        check(config, &[("x-tenant", "a")], "");
        check(config, &[("X-TENANT", "")], "");
        for without in [&[("x-tenant-id", "a")][..], &[("x-tenan", "a")], &[("x_tenant", "a")], &[]] {
            check(config, without, REFUSED);
        }
    }

    #[test]
    fn every_line_of_it_must_match_as_a_whole() {
        let config = "{request: [{name: X-Tenant, pattern: '[a-z]{2,4}'}]}";
        check(config, &[("x-tenant", "ab"), ("x-tenant", "abcd")], "");
        for odd in ["", "a", "abcde", "AB", "ab\u{e9}", "ab c", "ab,cd"] {
            check(config, &[("x-tenant", odd)], REFUSED);
            check(config, &[("x-tenant", "ab"), ("x-tenant", odd)], REFUSED);
            check(config, &[("x-tenant", odd), ("x-tenant", "ab")], REFUSED);
        }
    }

    #[test]
    fn all_must_be_there_and_the_first_that_is_not_is_told() {
        let config = "{request: [{name: a, message: 'No \"a\".'}, {name: b, message: no b}]}";
        check(config, &[("a", "1"), ("b", "2")], "");
        check(config, &[("b", "2")], "400 {\"error\":\"No \\\"a\\\".\"}");
        check(config, &[("a", "2")], "400 {\"error\":\"no b\"}");
        check(config, &[], "400 {\"error\":\"No \\\"a\\\".\"}");
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = |text| testing::faults::<RequiredHeaders>(text);
        assert_eq!(faults("{request: []}"), ["config.request: there is no header in it"]);
        assert_eq!(
            faults("{request: [{name: 'a b'}, {name: '', pattern: '('}, {name: c, pattern: x}]}"),
            [
                "config.request[0].name: not a header name",
                "config.request[1].name: not a header name",
                "config.request[1].pattern: not a regular expression: unclosed group, at character 1",
            ]
        );
        let expected = ["config.request[0].name: `TE` is of a connection and taken off before: no request has it"];
        assert_eq!(testing::remarks::<RequiredHeaders>("{request: [{name: TE}]}"), expected);
    }
}
