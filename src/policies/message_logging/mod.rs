//! Message logging: lines that the owner of an API or of a Service asks for, before the upstream is asked and after it answered.
//!
//! A line is written where the chain comes to the policy, into the core's own buffer; nobody waits for who reads it. What is
//! written is what the operator's expression gives: a credential that it names is in the log.

mod fields;
#[cfg(test)]
mod tests;

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
    /// The first section has been written.
    has_begun: bool,
    received: Duration,
    /// The second section has been written.
    is_over: bool,
}

impl Policy for MessageLogging {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Troubleshooting);
    const FIELDS: &'static [Field] = fields::FIELDS;

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
        self.begin(turn, exchange);
        Flow::Continue
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        turn.kept.is_over = true;
        self.write(Section::Second, turn, exchange);
        Flow::Continue
    }

    /// A client that left before there was an answer has its line all the same, and so has one whose body could not be read.
    fn on_log(&self, Turn { state, kept }: Turn<'_, Self>, exchange: &Exchange<'_>, _: &End) {
        if !kept.has_begun {
            self.begin(Turn { state, kept }, exchange);
        }
        if !kept.is_over {
            self.write(Section::Second, Turn { state, kept }, exchange);
        }
    }
}

impl MessageLogging {
    fn begin(&self, turn: Turn<'_, Self>, exchange: &Exchange<'_>) {
        turn.kept.has_begun = true;
        if self.reads_variables {
            turn.kept.received = now();
        }
        self.write(Section::First, turn, exchange);
    }

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
            "apiId" | "apiName" | "apiInstanceName" => Some(self.exchange.at.api).into(),
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

    const CATEGORY: Option<Category> = Some(Category::Troubleshooting);
    const FIELDS: &'static [Field] = fields::FIELDS;

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
