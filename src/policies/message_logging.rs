//! Message logging: lines that the owner of an API or of a Service asks for, before the upstream is asked and after it answered.
//!
//! A line is written where the chain comes to the policy, into the core's own buffer; nobody waits for who reads it. What is
//! written is what the operator's expression gives: a credential that it names is in the log.

use std::{sync::LazyLock, time::Duration};

use serde::Deserialize;

use super::{
    Category, ConfigError, Core, End, Exchange, Fault, Field, Flow, Need, Needs, Policy, Refusal, Site, Turn,
    reading::{self, Reading},
};
use crate::{
    expression::{self, Bindings, Budget, Context, Expression, Format, Members, Template, Value},
    http::{bytes::is_field_value, head::Known},
    telemetry::message_log::{Frame, Line, Messages, now, timestamp},
};

/// What a payload is read as.
const FORMATS: [Format; 3] = [Format::Json, Format::Xml, Format::Text];

/// A longer prefix would leave too little of a line.
const CATEGORY_BYTES_MAX: usize = 256;

/// What stands behind `vars`.
const VARIABLES: [&str; 17] = [
    "orgId",
    "masterOrgId",
    "envId",
    "apiId",
    "apiName",
    "apiInstanceName",
    "apiVersion",
    "receivedTs",
    "repliedTs",
    "runtimeVersion",
    "hostId",
    "remoteAddress",
    "method",
    "requestPath",
    "reqId",
    "requestDisposition",
    "request",
];
/// Known once a policy has answered.
const VIOLATION: &str = "violation";

const FIELDS: &[Field] = &[
    Field::new("loggingConfiguration", "Logging configuration", "One entry for each line."),
    Field::new("loggingConfiguration[].itemName", "Name", "What `check` calls the entry."),
    Field::new("loggingConfiguration[].itemData.message", "Message", "The line's text.").expression(),
    Field::new("loggingConfiguration[].itemData.conditional", "Conditional", "Whether there is a line.")
        .default("true")
        .expression(),
    Field::new(
        "loggingConfiguration[].itemData.category",
        "Category",
        "Stands before the text, with a colon; at most 256 bytes.",
    ),
    Field::new("loggingConfiguration[].itemData.level", "Level", "Stands in the line."),
    Field::new(
        "loggingConfiguration[].itemData.firstSection",
        "Before calling the API",
        "A line for the request, before the upstream is asked.",
    )
    .default("false"),
    Field::new("loggingConfiguration[].itemData.secondSection", "After calling the API", "A line for the answer.")
        .default("false"),
];

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    logging_configuration: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    item_name: String,
    item_data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    message: String,
    /// An expression, or `true` or `false`.
    #[serde(default = "always")]
    conditional: String,
    #[serde(default)]
    category: String,
    level: Level,
    /// When the request comes by.
    #[serde(default)]
    first_section: bool,
    /// When its answer does.
    #[serde(default)]
    second_section: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

fn always() -> String {
    "true".into()
}

#[derive(Debug)]
pub struct MessageLogging {
    items: Box<[Item]>,
    /// Some expression may ask when the request came.
    reads_variables: bool,
}

/// One line, and when it is written.
#[derive(Debug)]
struct Item {
    is_first: bool,
    is_second: bool,
    condition: Option<Expression>,
    message: Template,
    frame: Frame,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    First,
    Second,
}

/// One core's own.
pub struct State {
    core: Core,
    host: &'static str,
}

/// What is known of one exchange.
#[derive(Default)]
pub struct Kept {
    received: Duration,
    /// The second section has been written.
    is_over: bool,
}

impl Policy for MessageLogging {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Troubleshooting);
    const FIELDS: &'static [Field] = FIELDS;

    fn remarks(config: &Config) -> Vec<Fault> {
        let mut remarks = Vec::new();
        if config.logging_configuration.is_empty() {
            remarks.push(Fault::at("loggingConfiguration", "empty: nothing is logged"));
        }
        for (at, Entry { item_name, item_data }) in config.logging_configuration.iter().enumerate() {
            let (field, bindings) = (format!("loggingConfiguration[{at}].itemData"), item_data.bindings());
            if !item_data.first_section && !item_data.second_section {
                let text = format!("`{item_name}` logs nothing: neither `firstSection` nor `secondSection` is true");
                remarks.push(Fault::at(&field, text));
            }
            if item_data.is_never() {
                remarks.push(Fault::at(format!("{field}.conditional"), format!("`{item_name}` logs nothing")));
            }
            remarks.extend(reading::remarks(&format!("{field}.message"), &item_data.message, &bindings));
            remarks.extend(reading::remarks(&format!("{field}.conditional"), &item_data.conditional, &bindings));
        }
        remarks
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let mut items = Vec::new();
        for (at, Entry { item_data, .. }) in config.logging_configuration.iter().enumerate() {
            let item = item_data.compile(&format!("loggingConfiguration[{at}].itemData"), site, &mut error);
            items.extend(item.filter(|_| !item_data.is_never()));
        }
        let reads_variables = items.iter().any(|item| item.needs().any(|needs| needs.variables));
        error.or(Self { items: items.into(), reads_variables })
    }

    fn state(&self, core: &Core) -> State {
        State { core: core.clone(), host: host() }
    }

    fn needs(&self) -> Needs {
        Needs { request: self.need(Section::First), response: self.need(Section::Second) }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        if self.reads_variables {
            turn.kept.received = now();
        }
        self.write(Section::First, turn, exchange);
        Flow::Continue
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        turn.kept.is_over = true;
        self.write(Section::Second, turn, exchange);
        Flow::Continue
    }

    /// A client that left before there was an answer has its line all the same.
    fn on_log(&self, turn: Turn<'_, Self>, exchange: &Exchange<'_>, _: &End) {
        if !turn.kept.is_over {
            self.write(Section::Second, turn, exchange);
        }
    }
}

impl MessageLogging {
    /// What a section's lines need of the body that comes by.
    fn need(&self, section: Section) -> Need {
        match self.items.iter().any(|item| item.is_of(section) && item.needs().any(|needs| needs.payload)) {
            true => Need::Buffer,
            false => Need::None,
        }
    }

    fn write(&self, section: Section, turn: Turn<'_, Self>, exchange: &Exchange<'_>) {
        let mut items = self.items.iter().filter(|item| item.is_of(section)).peekable();
        if items.peek().is_none() || exchange.is_in_shadow() {
            return;
        }
        let request = Reading::request(exchange);
        let told = Told {
            exchange,
            request: &request,
            section,
            at: now(),
            received: turn.kept.received,
            host: turn.state.host,
        };
        let variable = |name: &str| told.variable(name);
        let reading = match section {
            Section::First => Reading::request(exchange),
            Section::Second => Reading::response(exchange),
        };
        let reading = reading.with_payload(&FORMATS).with_variables(&variable);
        items.for_each(|item| item.write(&reading, &told, &turn.state.core.messages));
    }
}

impl Item {
    fn is_of(&self, section: Section) -> bool {
        match section {
            Section::First => self.is_first,
            Section::Second => self.is_second,
        }
    }

    /// What its expressions read.
    fn needs(&self) -> impl Iterator<Item = expression::Needs> {
        let of_condition = self.condition.as_ref().map(Expression::needs);
        of_condition.into_iter().chain([self.message.needs()])
    }

    /// A line, none where the condition does not hold, or a failure counted.
    fn write(&self, reading: &Reading<'_, '_>, told: &Told<'_, '_>, messages: &Messages) {
        let mut budget = Budget::default();
        if let Some(condition) = &self.condition {
            match condition.evaluate_within(reading, &mut budget).and_then(Value::into_boolean) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return messages.failed.increment(),
            }
        }
        messages.lines.push(|bytes| {
            let mut line = Line::begin(bytes, told.at, &self.frame, told.id());
            let written = match &self.message {
                Template::Literal(text) => {
                    line.text(text);
                    Ok(())
                }
                Template::Expression(message) => message.write_line(reading, &mut budget, &mut |text| line.text(text)),
            };
            line.end();
            if written.is_err() {
                messages.failed.increment();
            }
            written.is_ok()
        });
    }
}

/// What lines tell of an exchange besides its heads.
struct Told<'t, 'x> {
    exchange: &'t Exchange<'x>,
    request: &'t dyn Context,
    section: Section,
    at: Duration,
    received: Duration,
    host: &'static str,
}

impl Told<'_, '_> {
    /// As the upstream is told it.
    fn id(&self) -> &[u8] {
        self.exchange.request_fields().known(Known::XRequestId).unwrap_or_default()
    }

    /// What a replica without a control plane does not know is null, as is what this section does not know yet.
    fn variable(&self, name: &str) -> Value<'_> {
        let is_second = self.section == Section::Second;
        match name {
            "apiId" | "apiName" | "apiInstanceName" => Some(&*self.exchange.at.api.name).into(),
            "receivedTs" => time(self.received),
            "repliedTs" if is_second => time(self.at),
            "runtimeVersion" => Some(concat!("v", env!("CARGO_PKG_VERSION"))).into(),
            "hostId" => Some(self.host).into(),
            "remoteAddress" => self.request.remote_address().into(),
            "method" => self.request.method().into(),
            "requestPath" => self.request.request_path().into(),
            "reqId" => Some(String::from_utf8_lossy(self.id())).into(),
            "requestDisposition" if is_second => {
                Some(if self.violation().is_some() { "VIOLATION" } else { "PROCESSED" }).into()
            }
            "request" => object(vec![("headers", Value::Object(Members::Headers(self.request)))]),
            VIOLATION => self.violation().map_or(Value::Null, |refusal| {
                let authentication = self.exchange.authentication();
                object(vec![
                    ("clientId", authentication.client_id().into()),
                    ("clientName", authentication.client_name().into()),
                    ("policyName", Some(refusal.policy).into()),
                    ("violationType", Some(if refusal.status >= 500 { "ERROR" } else { "VIOLATION" }).into()),
                ])
            }),
            _ => Value::Null,
        }
    }

    /// A policy answered, and not with something that was asked for, as a preflight is.
    fn violation(&self) -> Option<Refusal<'_>> {
        self.exchange.refusal().filter(|refusal| refusal.status >= 400)
    }
}

fn object<'v>(entries: Vec<(&'static str, Value<'v>)>) -> Value<'v> {
    Value::Object(Members::Owned(entries.into_iter().map(|(name, value)| (name.into(), value)).collect()))
}

fn time(at: Duration) -> Value<'static> {
    let mut text = Vec::new();
    timestamp(&mut text, at);
    Value::String(String::from_utf8(text).expect("digits are ASCII").into())
}

/// The host's name; a container's is that of its pod.
fn host() -> &'static str {
    static HOST: LazyLock<String> =
        LazyLock::new(|| std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned());
    &HOST
}

impl Data {
    /// What its expressions may name: `attributes` are of the request in the first section, of the response in the second.
    fn bindings(&self) -> Bindings {
        let bindings = match (self.first_section, self.second_section) {
            (true, false) => Bindings::request(),
            (false, true) => Bindings::response(),
            (true, true) | (false, false) => Bindings::both(),
        };
        bindings.with_payload(&FORMATS).with_variables(&VARIABLES).with_variables(&[VIOLATION])
    }

    fn is_never(&self) -> bool {
        self.conditional.trim().eq_ignore_ascii_case("false")
    }

    fn compile(&self, field: &str, site: &mut Site<'_>, error: &mut ConfigError) -> Option<Item> {
        let (of_message, of_condition) = (format!("{field}.message"), format!("{field}.conditional"));
        let bindings = self.bindings();
        let message = reading::template(&of_message, &self.message, &bindings, error);
        let condition = match reading::template(&of_condition, self.conditional.trim(), &bindings, error) {
            Some(Template::Expression(condition)) => Some(condition),
            Some(Template::Literal(text)) => {
                if !["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
                    error.add(Fault::at(of_condition, "neither an expression in `#[` and `]` nor `true` or `false`"));
                }
                None
            }
            None => None,
        };
        let category = self.category.trim();
        // What may stand in a header may stand in a line.
        if category.len() > CATEGORY_BYTES_MAX || !is_field_value(category.as_bytes()) {
            let text = format!("longer than {CATEGORY_BYTES_MAX} bytes, or with a control character");
            error.add(Fault::at(format!("{field}.category"), text));
        }
        let (owner, policy) = (site.owner, site.policy());
        let (policy, owner) = ((&*policy.name, &*policy.namespace), (&*owner.name, &*owner.namespace));
        let frame = Frame::new(self.level.name(), policy, owner, category);
        let (is_first, is_second) = (self.first_section, self.second_section);
        Some(Item { is_first, is_second, condition, message: message?, frame })
    }
}

impl Level {
    /// As lines show it.
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The same, bound to a Service.
#[derive(Debug)]
pub struct OutboundMessageLogging(MessageLogging);

impl Policy for OutboundMessageLogging {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = MessageLogging::CATEGORY;
    const FIELDS: &'static [Field] = FIELDS;

    fn remarks(config: &Config) -> Vec<Fault> {
        MessageLogging::remarks(config)
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        MessageLogging::compile(config, site).map(Self)
    }

    fn state(&self, core: &Core) -> State {
        self.0.state(core)
    }

    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn on_request(&self, Turn { state, kept }: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.0.on_request(Turn { state, kept }, exchange)
    }

    fn on_response(&self, Turn { state, kept }: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.0.on_response(Turn { state, kept }, exchange)
    }

    fn on_log(&self, Turn { state, kept }: Turn<'_, Self>, exchange: &Exchange<'_>, end: &End) {
        self.0.on_log(Turn { state, kept }, exchange, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policies::testing::{self, Trial},
        telemetry::message_log::{LINE_BYTES_MAX, TRUNCATED},
    };

    /// One entry, with these fields of its `itemData`.
    fn config(fields: &str) -> String {
        format!("{{loggingConfiguration: [{{itemName: one, itemData: {{level: INFO, {fields}}}}}]}}")
    }

    fn trial() -> Trial {
        let sent = [("x-request-id", "id-1"), ("x-a", "sent"), ("authorization", "Basic eA==")];
        let mut trial = Trial::new("POST", "/x/1", &sent);
        trial.request.query = b"?q=1".into();
        trial
    }

    /// The lines of a request, of its answer, and of its end, without what is the same in all; and how many failed.
    fn logged(config: &str, trial: &mut Trial, steps: [bool; 3]) -> (Vec<String>, u64) {
        let policy = testing::compile::<MessageLogging>(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"));
        let state = policy.state(&Core::default());
        let mut kept = Kept::default();
        trial.with(0, |exchange| {
            let [request, response, end] = steps;
            if request {
                policy.on_request(Turn { state: &state, kept: &mut kept }, exchange);
            }
            if response {
                policy.on_response(Turn { state: &state, kept: &mut kept }, exchange);
            }
            if end {
                policy.on_log(Turn { state: &state, kept: &mut kept }, exchange, &End::default());
            }
        });
        let messages = &state.core.messages;
        let text = String::from_utf8(messages.lines.drain()).expect("UTF-8");
        let prefix =
            " [flex-gateway-envoy][info] wasm log binding.default.api.default.svc main: [req: id-1] [accessLog] ";
        let lines = text.lines().map(|line| line.split_once(prefix).expect(line).1.to_owned()).collect();
        (lines, messages.failed.value())
    }

    fn check(fields: &str, steps: [bool; 3], expected: &[&str]) {
        let mut trial = trial().answered(404, &[("x-b", "answered")]);
        let (lines, failed) = logged(&config(fields), &mut trial, steps);
        assert_eq!(
            (lines.as_slice(), failed),
            (&expected.iter().map(|&line| line.to_owned()).collect::<Vec<_>>()[..], 0),
            "{fields}"
        );
    }

    const WHOLE: [bool; 3] = [true, true, true];
    const LEFT: [bool; 3] = [true, false, true];

    #[test]
    fn sections_say_when() {
        check("message: text, firstSection: true", WHOLE, &["text"]);
        check("message: text, secondSection: true", WHOLE, &["text"]);
        check("message: text, firstSection: true, secondSection: true", WHOLE, &["text", "text"]);
        check("message: text", WHOLE, &[]);
        check("message: text, firstSection: true", [true, false, false], &["text"]);
        check("message: text, secondSection: true", [true, false, false], &[]);
    }

    #[test]
    fn who_left_before_an_answer_has_a_second_line_too() {
        let mut trial = trial().answered(0, &[]);
        let fields = "secondSection: true, message: \"#['to ' ++ (attributes.statusCode default 'nobody')]\"";
        assert_eq!(logged(&config(fields), &mut trial, LEFT), (vec!["to nobody".to_owned()], 0));
    }

    #[test]
    fn attributes_are_of_the_message_that_comes_by() {
        let both = "firstSection: true, secondSection: true";
        check(
            &format!("message: \"#[attributes.headers['x-a'] default attributes.headers['x-b']]\", {both}"),
            WHOLE,
            &["sent", "answered"],
        );
        check("message: '#[attributes.method ++ attributes.requestPath]', firstSection: true", WHOLE, &["POST/x/1"]);
        check("message: '#[attributes.statusCode]', secondSection: true", WHOLE, &["404"]);
        check(r##"message: "#['was ' ++ attributes.statusCode]", secondSection: true"##, WHOLE, &["was 404"]);
    }

    #[test]
    fn objects_are_json_and_null_is_null() {
        check("message: '#[attributes.headers]', secondSection: true", WHOLE, &[r#"{"x-b":"answered"}"#]);
        check("message: '#[[1.50, true]]', firstSection: true", WHOLE, &["[1.50,true]"]);
        check("message: '#[attributes.headers.nobody]', firstSection: true", WHOLE, &["null"]);
        check("message: '#[attributes.queryParams]', firstSection: true", WHOLE, &[r#"{"q":"1"}"#]);
    }

    #[test]
    fn a_condition_says_whether() {
        let line = |condition: &str, expected: &[&str]| {
            check(&format!("message: text, firstSection: true, conditional: \"{condition}\""), WHOLE, expected);
        };
        line("#[attributes.queryParams.q == '1']", &["text"]);
        line("#[attributes.queryParams.q == '2']", &[]);
        line("#['true']", &["text"]);
        line("true", &["text"]);
        line("FALSE", &[]);
    }

    #[test]
    fn what_has_no_value_is_no_line_and_counted() {
        for fields in [
            "message: \"#['a' ++ attributes.headers.nobody]\", firstSection: true",
            "message: text, conditional: '#[attributes.headers.nobody]', firstSection: true",
            "message: text, conditional: '#[1]', secondSection: true",
        ] {
            assert_eq!(logged(&config(fields), &mut trial(), WHOLE), (Vec::new(), 1), "{fields}");
        }
        // The others are written.
        let two = "{loggingConfiguration: [
            {itemName: a, itemData: {level: INFO, message: '#[1 ++ null]', firstSection: true}},
            {itemName: b, itemData: {level: INFO, message: b, firstSection: true}}]}";
        assert_eq!(logged(two, &mut trial(), WHOLE), (vec!["b".to_owned()], 1));
    }

    #[test]
    fn no_value_splits_a_line_or_makes_it_endless() {
        let mut trial = trial();
        trial.request.path = b"/a\n2025-01-01T00:00:00Z [forged]\r\x1b[31m\xff".into();
        let fields = "firstSection: true, message: \"#['at ' ++ attributes.requestPath]\"";
        let (lines, _) = logged(&config(fields), &mut trial, WHOLE);
        assert_eq!(lines, ["at /a\\u000a2025-01-01T00:00:00Z [forged]\\u000d\\u001b[31m\u{fffd}"]);
        trial.request.path = vec![b'a'; LINE_BYTES_MAX];
        let (lines, _) = logged(&config(fields), &mut trial, WHOLE);
        assert!(lines[0].ends_with(TRUNCATED) && lines[0].len() < LINE_BYTES_MAX, "{}", lines[0].len());
    }

    #[test]
    fn variables_tell_of_the_exchange() {
        let first = |variable: &str, expected: &str| {
            check(&format!("message: \"#[vars.{variable}]\", firstSection: true"), WHOLE, &[expected]);
        };
        let second = |variable: &str, expected: &str| {
            check(&format!("message: \"#[vars.{variable}]\", secondSection: true"), WHOLE, &[expected]);
        };
        for variable in ["apiId", "apiName", "apiInstanceName"] {
            first(variable, "api");
        }
        for variable in ["orgId", "masterOrgId", "envId", "apiVersion", "repliedTs", "requestDisposition", "violation"]
        {
            first(variable, "null");
        }
        first("runtimeVersion", concat!("v", env!("CARGO_PKG_VERSION")));
        first("remoteAddress", "192.0.2.1:40000");
        second("method", "POST");
        second("requestPath", "/x/1");
        second("reqId", "id-1");
        second("request.headers['x-a']", "sent");
        second("requestDisposition", "PROCESSED");
        second("violation.policyName", "null");
        let fields =
            "secondSection: true, message: \"#[vars.receivedTs ++ ' ' ++ vars.repliedTs ++ ' ' ++ vars.hostId]\"";
        let (lines, _) = logged(&config(fields), &mut trial(), WHOLE);
        let words: Vec<&str> = lines[0].split(' ').collect();
        assert!(words[0] <= words[1] && words.len() == 3 && !words[2].is_empty(), "{words:?}");
        assert!(words[..2].iter().all(|time| time.len() == 30 && time.ends_with('Z')), "{words:?}");
    }

    #[test]
    fn a_violation_says_whose() {
        let told = |status| {
            let policy =
                testing::compile::<MessageLogging>(&config("message: '#[vars.violation]', secondSection: true"));
            let policy = policy.expect("valid");
            let state = policy.state(&Core::default());
            let mut trial = trial();
            trial.authentication.set_client("id", "name");
            trial.with(0, |exchange| {
                exchange.set_refusal(Refusal { policy: "spike-control-flex", status });
                policy.on_response(Turn { state: &state, kept: &mut Kept::default() }, exchange);
            });
            let line = String::from_utf8(state.core.messages.lines.drain()).expect("UTF-8");
            line.trim_end().split_once("[accessLog] ").expect("a text").1.to_owned()
        };
        let object = |kind: &str| {
            format!(
                r#"{{"clientId":"id","clientName":"name","policyName":"spike-control-flex","violationType":"{kind}"}}"#
            )
        };
        assert_eq!([told(429), told(503), told(200)], [object("VIOLATION"), object("ERROR"), "null".to_owned()]);
    }

    #[test]
    fn only_the_body_that_an_expression_reads_is_read_ahead() {
        let needs = |fields: &str| testing::compile::<MessageLogging>(&config(fields)).expect("valid").needs();
        let both = "firstSection: true, secondSection: true";
        assert_eq!(needs(&format!("message: '#[attributes.headers]', {both}")), Needs::NONE);
        assert_eq!(needs("message: '#[payload.a]'"), Needs::NONE);
        let (request, response) = (Need::Buffer, Need::None);
        assert_eq!(needs("message: '#[payload.a]', firstSection: true"), Needs { request, response });
        let (request, response) = (Need::None, Need::Buffer);
        let fields = "message: a, conditional: '#[payload.a == 1]', secondSection: true";
        assert_eq!(needs(fields), Needs { request, response });
        let (request, response) = (Need::Buffer, Need::Buffer);
        assert_eq!(needs(&format!("message: '#[payload]', {both}")), Needs { request, response });
    }

    #[test]
    fn in_shadow_nothing_is_written() {
        let policy =
            testing::compile::<MessageLogging>(&config("message: text, firstSection: true, secondSection: true"));
        let policy = policy.expect("valid");
        let state = policy.state(&Core::default());
        trial().with(0, |exchange| {
            exchange.set_shadow(true);
            policy.on_request(Turn { state: &state, kept: &mut Kept::default() }, exchange);
            policy.on_response(Turn { state: &state, kept: &mut Kept::default() }, exchange);
        });
        assert!(state.core.messages.lines.is_empty());
    }

    #[test]
    fn lines_show_level_and_category() {
        for (written, shown) in [("DEBUG", "debug"), ("warn", "warn"), ("Error", "error")] {
            let config = format!(
                "{{loggingConfiguration: [{{itemName: a, itemData: {{level: {written}, category: ' org.a ', message: b, \
                 firstSection: true}}}}]}}"
            );
            let policy = testing::compile::<MessageLogging>(&config).expect("valid");
            let state = policy.state(&Core::default());
            trial().with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut Kept::default() }, exchange));
            let line = String::from_utf8(state.core.messages.lines.drain()).expect("UTF-8");
            assert!(line.contains(&format!(" [flex-gateway-envoy][{shown}] wasm log ")), "{line}");
            assert!(line.ends_with("[accessLog] org.a: b\n"), "{line}");
        }
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = |config: &str| testing::faults::<MessageLogging>(config);
        assert_eq!(faults("{}"), ["config.loggingConfiguration: required, but missing"]);
        let field = "config.loggingConfiguration[0].itemData";
        let places = |config: &str| -> Vec<String> {
            faults(config).iter().map(|fault| fault.split_once(": ").expect("a place").0.to_owned()).collect()
        };
        assert_eq!(
            places("{loggingConfiguration: [{itemName: a, itemData: {message: b, level: TRACE, firstSection: true}}]}"),
            [format!("{field}.level")]
        );
        assert_eq!(
            places(&config("firstSection: true, message: '#[vars.nobody]', conditional: perhaps, category: \"a\\nb\"")),
            ["message", "conditional", "category"].map(|name| format!("{field}.{name}"))
        );
        let long = format!("firstSection: true, message: a, category: {}", "a".repeat(CATEGORY_BYTES_MAX + 1));
        assert_eq!(
            faults(&config(&long)),
            [format!("{field}.category: longer than 256 bytes, or with a control character")]
        );
    }

    #[test]
    fn what_is_hardly_meant_is_said() {
        let remarks = |config: &str| testing::remarks::<MessageLogging>(config);
        let field = "config.loggingConfiguration[0].itemData";
        assert_eq!(remarks("{loggingConfiguration: []}"), ["config.loggingConfiguration: empty: nothing is logged"]);
        assert_eq!(
            remarks(&config("message: a")),
            [format!("{field}: `one` logs nothing: neither `firstSection` nor `secondSection` is true")]
        );
        assert_eq!(
            remarks(&config("message: a, firstSection: true, conditional: 'false'")),
            [format!("{field}.conditional: `one` logs nothing")]
        );
        let status = "message: '#[attributes.statusCode]'";
        let always_null =
            format!("{field}.message: at byte 13: a request has no `attributes.statusCode`: it is always null");
        assert_eq!(remarks(&config(&format!("{status}, firstSection: true"))), [always_null]);
        assert_eq!(remarks(&config(&format!("{status}, secondSection: true"))), Vec::<String>::new());
        assert_eq!(
            remarks(&config(&format!("{status}, firstSection: true, secondSection: true"))),
            Vec::<String>::new()
        );
    }
}
