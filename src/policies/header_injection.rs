//! Header injection: adds headers to the request on its way in and to the response on its way out.
//!
//! Literal names and values are checked when the configuration loads, those that expressions give as they come. All of a
//! message's lines are there before the first is written, so a failure leaves nothing half done.

use std::{cell::RefCell, ops::Range, rc::Rc};

use serde::Deserialize;

use super::{
    Category, ConfigError, Core, Exchange, Fault, Field, Flow, Headers, LocalResponse, Need, Needs, Policy, Site, Turn,
    headers::{BadName, HeaderName},
    reading::{self, Reading},
};
use crate::{
    expression::{Bindings, Budget, Expression, Format, Template},
    http::bytes::{is_field_value, trim},
};

/// What a payload is read as.
const FORMATS: [Format; 3] = [Format::Json, Format::Xml, Format::Text];

/// What the lines of one message may take; most servers refuse a head that is larger.
const LINES_BYTES_MAX: usize = 60 << 10;

/// As the operator writes it; inbound is the request, outbound the response.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct Config {
    inbound_headers: Vec<Header>,
    outbound_headers: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    key: String,
    value: String,
}

#[derive(Debug)]
pub struct HeaderInjection {
    inbound: Box<[Injection]>,
    outbound: Box<[Injection]>,
}

#[derive(Debug)]
struct Injection {
    name: Name,
    value: Template,
}

#[derive(Debug)]
enum Name {
    Literal { name: HeaderName, overwrites: bool },
    Computed(Expression),
}

/// One core's own.
pub struct State {
    failed: Rc<LocalResponse>,
    lines: RefCell<Lines>,
}

/// The lines for one message, in the order of their injections.
#[derive(Default)]
struct Lines {
    list: Vec<Line>,
    /// All values, one behind the other.
    bytes: Vec<u8>,
}

struct Line {
    /// Where an expression gave it.
    name: Option<HeaderName>,
    value: Range<usize>,
}

/// An expression has no value for this message, or one that cannot stand in its header.
struct Failed;

impl Policy for HeaderInjection {
    type Config = Config;
    type State = State;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Transformation);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "inboundHeaders",
            "Inbound headers",
            "Added to the request. One of the two lists must have an entry.",
        ),
        Field::new("inboundHeaders[].key", "Name", "A header name, at most 256 bytes.").expression(),
        Field::new(
            "inboundHeaders[].value",
            "Value",
            "A header value: no line breaks or other controls. May be empty.",
        )
        .expression(),
        Field::new("outboundHeaders", "Outbound headers", "Added to the response."),
        Field::new("outboundHeaders[].key", "Name", "A header name, at most 256 bytes.").expression(),
        Field::new(
            "outboundHeaders[].value",
            "Value",
            "A header value: no line breaks or other controls. May be empty.",
        )
        .expression(),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let mut remarks = Vec::new();
        for (list, headers, bindings) in directions(config) {
            for (field, header) in named(list, headers) {
                let key = header.key.trim();
                if HeaderName::new(key) == Err(BadName::Gateways) {
                    let text = format!("`{}` is the gateway's own; this line is ignored", header.key);
                    remarks.push(Fault::at(format!("{field}.key"), text));
                }
                remarks.extend(reading::remarks(&format!("{field}.key"), key, &bindings));
                remarks.extend(reading::remarks(&format!("{field}.value"), &header.value, &bindings));
            }
        }
        remarks
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        if config.inbound_headers.is_empty() && config.outbound_headers.is_empty() {
            error.add(Fault::at("", "`inboundHeaders` and `outboundHeaders` are both empty"));
        }
        let [inbound, outbound] = directions(&config).map(|(list, headers, bindings)| {
            named(list, headers).filter_map(|(field, header)| header.compile(&field, &bindings, &mut error)).collect()
        });
        error.or(Self { inbound, outbound })
    }

    fn state(&self, _: &Core) -> State {
        State { failed: LocalResponse::failed_policy().into(), lines: RefCell::default() }
    }

    fn needs(&self) -> Needs {
        Needs { request: need(&self.inbound), response: need(&self.outbound) }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let mut lines = turn.state.lines.borrow_mut();
        let done = lines
            .compute(&self.inbound, &Reading::request(exchange).with_payload(&FORMATS))
            .and_then(|()| lines.write(&self.inbound, exchange.request_headers()));
        done.map_or_else(|Failed| Flow::Respond(turn.state.failed.clone()), |()| Flow::Continue)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let mut lines = turn.state.lines.borrow_mut();
        let done = lines
            .compute(&self.outbound, &Reading::response(exchange).with_payload(&FORMATS))
            .and_then(|()| lines.write(&self.outbound, exchange.response_headers()));
        done.map_or_else(|Failed| Flow::Respond(turn.state.failed.clone()), |()| Flow::Continue)
    }
}

impl Lines {
    /// All expressions of one message pay from one budget.
    fn compute(&mut self, injections: &[Injection], reading: &Reading<'_, '_>) -> Result<(), Failed> {
        self.list.clear();
        self.bytes.clear();
        let mut budget = Budget::default();
        for Injection { name, value } in injections {
            let name = match name {
                Name::Literal { .. } => None,
                Name::Computed(expression) => {
                    let value = expression.evaluate_within(reading, &mut budget).map_err(|_| Failed)?;
                    let text = value.into_text().map_err(|_| Failed)?;
                    Some(HeaderName::new(text.trim()).map_err(|_| Failed)?)
                }
            };
            let start = self.bytes.len();
            match value {
                Template::Literal(text) => self.bytes.extend_from_slice(text.as_bytes()),
                Template::Expression(expression) => {
                    let value = expression.evaluate_within(reading, &mut budget).map_err(|_| Failed)?;
                    let text = value.into_text().map_err(|_| Failed)?;
                    // Space at the ends is no part of a value (RFC 9110 section 5.5).
                    let text = trim(text.as_bytes());
                    if !is_field_value(text) || start + text.len() > LINES_BYTES_MAX {
                        return Err(Failed);
                    }
                    self.bytes.extend_from_slice(text);
                }
            }
            self.list.push(Line { name, value: start..self.bytes.len() });
        }
        Ok(())
    }

    /// `injections` are those that the lines were computed for.
    fn write(&self, injections: &[Injection], mut headers: Headers<'_>) -> Result<(), Failed> {
        for (Injection { name, .. }, line) in injections.iter().zip(&self.list) {
            let (name, overwrites) = match (name, &line.name) {
                (Name::Literal { name, overwrites }, _) => (name, *overwrites),
                (Name::Computed(_), Some(name)) => (name, overwrites(name)),
                (Name::Computed(_), None) => return Err(Failed),
            };
            let value = &self.bytes[line.value.clone()];
            let written = if overwrites { headers.set(name, value) } else { headers.append(name, value) };
            written.map_err(|_| Failed)?;
        }
        Ok(())
    }
}

impl Header {
    /// Nothing for a line that is ignored, and for one that has a fault.
    fn compile(&self, field: &str, bindings: &Bindings, error: &mut ConfigError) -> Option<Injection> {
        let (of_name, of_value) = (format!("{field}.key"), format!("{field}.value"));
        let name = match reading::template(&of_name, self.key.trim(), bindings, error) {
            Some(Template::Expression(expression)) => Some(Name::Computed(expression)),
            Some(Template::Literal(text)) => match HeaderName::new(&text) {
                Ok(name) => Some(Name::Literal { overwrites: overwrites(&name), name }),
                Err(BadName::Gateways) => None,
                Err(fault) => {
                    error.add(Fault::at(of_name, fault.to_string()));
                    None
                }
            },
            None => None,
        };
        let value = reading::template(&of_value, self.value.trim(), bindings, error);
        if let Some(Template::Literal(text)) = &value
            && !is_field_value(text.as_bytes())
        {
            error.add(Fault::at(of_value, "not a header value"));
        }
        Some(Injection { name: name?, value: value? })
    }
}

/// What these need of their message's body.
fn need(injections: &[Injection]) -> Need {
    let in_name = |name: &Name| matches!(name, Name::Computed(expression) if expression.needs().payload);
    match injections.iter().any(|Injection { name, value }| in_name(name) || reading::reads_payload(value)) {
        true => Need::Buffer,
        false => Need::None,
    }
}

/// Whether a line takes the place of what is there; most names get a further value instead. The published list is these and two
/// that frame the message, `content-length` and `transfer-encoding`.
fn overwrites(name: &HeaderName) -> bool {
    const OVERWRITTEN: [&str; 2] = ["access-control-allow-origin", "content-type"];
    OVERWRITTEN.iter().any(|overwritten| name.as_bytes().eq_ignore_ascii_case(overwritten.as_bytes()))
}

/// Both lists, with what their expressions may name.
fn directions(config: &Config) -> [(&'static str, &[Header], Bindings); 2] {
    [
        ("inboundHeaders", &config.inbound_headers, Bindings::request().with_payload(&FORMATS)),
        ("outboundHeaders", &config.outbound_headers, Bindings::response().with_payload(&FORMATS)),
    ]
}

/// Each header with its path below `config`.
fn named<'a>(list: &'a str, headers: &'a [Header]) -> impl Iterator<Item = (String, &'a Header)> {
    headers.iter().enumerate().map(move |(index, header)| (format!("{list}[{index}]"), header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    /// What a message that has `a: 1` and `content-type: text/plain` becomes, in the request and in the response direction.
    fn check(config: &str, request: &[(&str, &str)], response: &[(&str, &str)]) {
        let (trial, flows) = run(config, &SENT, &SENT);
        assert!(matches!(flows, [Flow::Continue, Flow::Continue]), "{config}");
        assert_eq!(testing::lines(&trial.request.fields), testing::owned(request), "{config}");
        assert_eq!(testing::lines(&trial.response.fields), testing::owned(response), "{config}");
    }

    fn run(config: &str, sent: &[(&str, &str)], answered: &[(&str, &str)]) -> (testing::Trial, [Flow; 2]) {
        let policy = testing::compile::<HeaderInjection>(config).expect("valid");
        let mut trial = testing::Trial::new("GET", "/x", sent).answered(201, answered);
        let flows = [trial.ask(&policy), trial.answer(&policy)];
        (trial, flows)
    }

    /// Fails in both directions for a message with the header `from`, and nothing is written.
    fn fails(key: &str, value: &str, from: &str) {
        let list = serde_json::json!([{"key": "first", "value": "1"}, {"key": key, "value": value}]);
        let config = serde_json::json!({"inboundHeaders": list, "outboundHeaders": list}).to_string();
        let sent = [("from", from)];
        let (trial, flows) = run(&config, &sent, &sent);
        for flow in flows {
            let Flow::Respond(answer) = flow else { panic!("{key}: {value}: {from}") };
            assert_eq!((answer.status, answer.reason), (500, "policy_failed"));
        }
        for fields in [&trial.request.fields, &trial.response.fields] {
            assert_eq!(testing::lines(fields), testing::owned(&sent), "{key}: {value}");
        }
    }

    const SENT: [(&str, &str); 3] = [("a", "1"), ("Content-Type", "text/plain"), ("Content-Length", "5")];

    #[test]
    fn a_header_that_exists_gets_a_further_value() {
        let [a, content_type, length] = SENT;
        check("{inboundHeaders: [{key: A, value: '2'}]}", &[a, content_type, length, ("A", "2")], &SENT);
        check("{outboundHeaders: [{key: b, value: ''}]}", &SENT, &[a, content_type, length, ("b", "")]);
    }

    #[test]
    fn published_names_are_overwritten() {
        let [a, _, length] = SENT;
        let config =
            "{inboundHeaders: [{key: content-type, value: a/b}], outboundHeaders: [{key: CONTENT-TYPE, value: c/d}]}";
        check(config, &[a, ("Content-Type", "a/b"), length], &[a, ("Content-Type", "c/d"), length]);
        let config = "{outboundHeaders: [{key: Access-Control-Allow-Origin, value: '*'}]}";
        check(config, &SENT, &[SENT[0], SENT[1], SENT[2], ("Access-Control-Allow-Origin", "*")]);
    }

    #[test]
    fn framing_headers_stay_the_gateways() {
        for name in ["Content-Length", "transfer-encoding", "Connection", "host", "TE", "upgrade"] {
            let config = format!("{{inboundHeaders: [{{key: {name}, value: '7'}}]}}");
            check(&config, &SENT, &SENT);
            let remarks = testing::remarks::<HeaderInjection>(&config);
            assert_eq!(
                remarks,
                [format!("config.inboundHeaders[0].key: `{name}` is the gateway's own; this line is ignored")]
            );
        }
    }

    #[test]
    fn names_and_values_may_be_expressions() {
        let [a, content_type, length] = SENT;
        let config = r##"{
            "inboundHeaders": [
                {"key": "x", "value": "#[attributes.method ++ ' ' ++ attributes.requestPath]"},
                {"key": "#['x-' ++ attributes.headers.a]", "value": "literal"},
                {"key": "#[ 'CONTENT-TYPE' ]", "value": " #['  a/b ']\n"},
                {"key": "n", "value": "#[1.50]"}
            ],
            "outboundHeaders": [{"key": "status", "value": "#[attributes.statusCode]"}, {"key": "e", "value": "#['']"}]
        }"##;
        check(
            config,
            &[a, ("Content-Type", "a/b"), length, ("x", "GET /x"), ("x-1", "literal"), ("n", "1.50")],
            &[a, content_type, length, ("status", "201"), ("e", "")],
        );
    }

    #[test]
    fn what_an_expression_cannot_give_fails_and_nothing_is_written() {
        const FROM: &str = "#[attributes.headers.from]";
        fails("x", "#[attributes.headers.nobody]", "a");
        fails("x", "#['a' ++ attributes.headers.nobody]", "a");
        fails("x", "#[attributes.headers]", "a");
        fails("x", "#[\"a\\r\\nb: c\"]", "a");
        fails("#['x' ++ \"\\n\"  ++ 'y']", "v", "a");
        fails("#[attributes.headers.nobody]", "v", "a");
        for name in ["", "a b", "a:b", "\u{e4}", "Host", "content-length", "Transfer_Encoding", "connection", "te"] {
            fails(FROM, "v", name);
        }
        fails(FROM, "v", &"n".repeat(257));
        let long = "a".repeat(LINES_BYTES_MAX / 2 + 1);
        fails("x", "#[attributes.headers.from ++ attributes.headers.from]", &long);
    }

    #[test]
    fn what_is_hardly_meant_is_said() {
        let config = r##"{"inboundHeaders": [{"key": "a", "value": "#[attributes.statusCode default '']"}]}"##;
        let remarks = testing::remarks::<HeaderInjection>(config);
        assert!(remarks.len() == 1 && remarks[0].starts_with("config.inboundHeaders[0].value: "), "{remarks:?}");
    }

    #[test]
    fn only_the_body_that_an_expression_reads_is_read_ahead() {
        let needs = |config| testing::compile::<HeaderInjection>(config).expect("valid").needs();
        let buffered = Needs { request: Need::Buffer, response: Need::None };
        assert_eq!(needs(r##"{"inboundHeaders": [{"key": "a", "value": "#[attributes.method]"}]}"##), Needs::NONE);
        assert_eq!(needs(r##"{"inboundHeaders": [{"key": "a", "value": "#[payload.x]"}]}"##), buffered);
        assert_eq!(needs(r##"{"inboundHeaders": [{"key": "#[payload]", "value": "1"}]}"##), buffered);
        let buffered = Needs { request: Need::None, response: Need::Buffer };
        assert_eq!(needs(r##"{"outboundHeaders": [{"key": "a", "value": "#[payload.x]"}]}"##), buffered);
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = |text| testing::faults::<HeaderInjection>(text);
        assert_eq!(faults("{}"), ["config: `inboundHeaders` and `outboundHeaders` are both empty"]);
        assert_eq!(
            faults(
                r#"{"inboundHeaders": [{"key": "a b", "value": "x\r\ny: z"}], "outboundHeaders": [{"key": "", "value": "v"}]}"#
            ),
            [
                "config.inboundHeaders[0].key: not a header name",
                "config.inboundHeaders[0].value: not a header value",
                "config.outboundHeaders[0].key: not a header name",
            ]
        );
        assert_eq!(
            faults(r##"{"inboundHeaders": [{"key": "a", "value": "#[nobody.x]"}, {"key": "#[nobody(1)]", "value": "#['"}]}"##)
                .iter()
                .map(|fault| fault.split_once(": ").expect("a place").0)
                .collect::<Vec<_>>(),
            ["config.inboundHeaders[1].value", "config.inboundHeaders[0].value", "config.inboundHeaders[1].key"]
        );
        let long = format!(r#"{{"inboundHeaders": [{{"key": "{}", "value": ""}}]}}"#, "n".repeat(257));
        assert_eq!(faults(&long), ["config.inboundHeaders[0].key: longer than 256 bytes"]);
    }
}
