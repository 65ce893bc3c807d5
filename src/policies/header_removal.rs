//! Header removal: takes headers off the request on its way in and off the response on its way out.
//!
//! An entry is a name or a regular expression over whole names, in any case. Headers that a message cannot do without stay
//! whatever an entry says.

use std::cell::RefCell;

use serde::Deserialize;

use super::{
    Category, ConfigError, Core, Exchange, Fault, Field, Flow, Headers, Policy, Site, Turn, headers::is_gateways,
};
use crate::matching::{pattern::Pattern, rule::Scratch};

/// As the operator writes it; inbound is the request, outbound the response.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    inbound_headers: Vec<String>,
    outbound_headers: Vec<String>,
}

#[derive(Debug)]
pub struct HeaderRemoval {
    inbound: Box<[Pattern]>,
    outbound: Box<[Pattern]>,
    patterns: usize,
}

impl Policy for HeaderRemoval {
    type Config = Config;
    /// Room to run the patterns in.
    type State = RefCell<Scratch>;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Transformation);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "inboundHeaders",
            "Inbound headers",
            "Removed from the request. One of the two lists must have an entry.",
        ),
        Field::new("outboundHeaders", "Outbound headers", "Removed from the response."),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let kept = |(field, entry): (String, &String)| {
            is_kept(entry.as_bytes()).then(|| Fault::at(field, format!("`{entry}` is never removed")))
        };
        named("inboundHeaders", &config.inbound_headers)
            .chain(named("outboundHeaders", &config.outbound_headers))
            .filter_map(kept)
            .collect()
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        if config.inbound_headers.is_empty() && config.outbound_headers.is_empty() {
            error.add(Fault::at("", "`inboundHeaders` and `outboundHeaders` are both empty"));
        }
        let mut patterns = 0;
        let mut compile = |list, entries| -> Box<[Pattern]> {
            named(list, entries)
                .filter_map(|(field, entry)| match Pattern::compile_ignoring_case(entry, &mut patterns) {
                    Ok(pattern) => Some(pattern),
                    Err(problem) => {
                        error.add(Fault::at(field, problem));
                        None
                    }
                })
                .collect()
        };
        let inbound = compile("inboundHeaders", &config.inbound_headers);
        let outbound = compile("outboundHeaders", &config.outbound_headers);
        error.or(Self { inbound, outbound, patterns })
    }

    fn state(&self, _: &Core) -> Self::State {
        RefCell::new(Scratch::new(self.patterns))
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        remove(&self.inbound, &mut turn.state.borrow_mut(), exchange.request_headers());
        Flow::Continue
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        remove(&self.outbound, &mut turn.state.borrow_mut(), exchange.response_headers());
        Flow::Continue
    }
}

fn remove(patterns: &[Pattern], scratch: &mut Scratch, mut headers: Headers<'_>) {
    if patterns.is_empty() {
        return;
    }
    headers.remove_if(|name| {
        // A name that a pattern could not decide on within its limit goes: it may be one that must not pass.
        let mut listed = patterns.iter().map(|pattern| pattern.is_match(name, scratch).unwrap_or(true));
        !is_kept(name) && listed.any(|listed| listed)
    });
}

/// The published list, and the other headers that are the gateway's own.
fn is_kept(name: &[u8]) -> bool {
    is_gateways(name)
        || ["accept", "content-type", "date"].iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
}

/// Each entry with its path below `config`.
fn named<'a>(list: &'a str, entries: &'a [String]) -> impl Iterator<Item = (String, &'a String)> {
    entries.iter().enumerate().map(move |(index, entry)| (format!("{list}[{index}]"), entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::head::Fields, policies::testing};

    const SENT: [&str; 8] = [
        "Accept",
        "X-Powered-By",
        "Access-Control-Allow-Origin",
        "access-control-max-age",
        "Content-Length",
        "Transfer-Encoding",
        "x-trace",
        "X-TRACE",
    ];

    /// What is left of the headers of a request, and of those of a response.
    fn check(config: &str, request: &[&str], response: &[&str]) {
        let policy = testing::compile::<HeaderRemoval>(config).expect("valid");
        let lines = SENT.map(|name| (name, "value"));
        let mut trial = testing::Trial::new("GET", "/", &lines).answered(200, &lines);
        assert!(matches!([trial.ask(&policy), trial.answer(&policy)], [Flow::Continue, Flow::Continue]));
        let names = |fields: &Fields| testing::lines(fields).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&trial.request.fields), request, "{config}");
        assert_eq!(names(&trial.response.fields), response, "{config}");
    }

    fn without(gone: &[usize]) -> Vec<&'static str> {
        SENT.into_iter().enumerate().filter(|(index, _)| !gone.contains(index)).map(|(_, name)| name).collect()
    }

    #[test]
    fn a_name_goes_in_any_case_and_every_line_of_it() {
        check("{inboundHeaders: [X-Trace]}", &without(&[6, 7]), &SENT);
        check("{outboundHeaders: [x-powered-by, x-trace]}", &SENT, &without(&[1, 6, 7]));
        check("{outboundHeaders: [x-trac, trace]}", &SENT, &SENT);
    }

    #[test]
    fn a_regular_expression_is_matched_whole_and_in_any_case() {
        check("{inboundHeaders: [Access-Control.*]}", &without(&[2, 3]), &SENT);
        check("{inboundHeaders: ['X-(trace|powered-by)']}", &without(&[1, 6, 7]), &SENT);
        check("{inboundHeaders: ['[a-z]+-control-max-[a-z]+']}", &without(&[3]), &SENT);
        check("{outboundHeaders: ['x-(?!trace).*']}", &SENT, &without(&[1]));
    }

    #[test]
    fn what_a_message_cannot_do_without_stays() {
        check("{inboundHeaders: ['.*']}", &["Accept", "Content-Length", "Transfer-Encoding"], &SENT);
        let config = "{outboundHeaders: [content-length, Accept]}";
        check(config, &SENT, &SENT);
        let expected = [
            "config.outboundHeaders[0]: `content-length` is never removed",
            "config.outboundHeaders[1]: `Accept` is never removed",
        ];
        assert_eq!(testing::remarks::<HeaderRemoval>(config), expected);
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = |text| testing::faults::<HeaderRemoval>(text);
        assert_eq!(faults("{}"), ["config: `inboundHeaders` and `outboundHeaders` are both empty"]);
        assert_eq!(
            faults("{inboundHeaders: ['a(', b], outboundHeaders: ['[']}"),
            [
                "config.inboundHeaders[0]: not a regular expression: unclosed group, at character 2",
                "config.outboundHeaders[0]: not a regular expression: unclosed character class, at character 1",
            ]
        );
    }
}
