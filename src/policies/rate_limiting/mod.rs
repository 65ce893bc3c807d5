//! Rate limiting: of the requests with one key at most so many pass in a window, over all cores of a replica and, where they
//! share a storage, over all replicas.
//!
//! How they are counted is `quota`'s business. Here stands what a request is counted under, and what its client is told.

mod limits;
mod sla;
mod spending;

use std::fmt;

use serde::Deserialize;

pub use self::{
    limits::{Limit, faults},
    sla::SlaRateLimiting,
};
use self::{
    limits::{PERIOD_MS_MAX, REQUESTS_MAX, remarks},
    spending::{Kept, OPTIONS, REFUSED, Rate, Spending, Terms, UNAVAILABLE},
};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, Needs, Policy, Reply, Site, Turn,
    rate_headers::RateHeaders,
    reading::{self, Reading, need, template},
};
use crate::expression::{Bindings, Format, Template};

const NAME: &str = "rate-limiting-flex";

/// What a payload is read as.
const FORMATS: [Format; 3] = [Format::Json, Format::Xml, Format::Text];

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    rate_limits: Vec<Limit>,
    /// Absent: all requests are one group.
    key_selector: Option<String>,
    #[serde(default)]
    expose_headers: bool,
    #[serde(default = "is_shared")]
    clusterizable: bool,
}

fn is_shared() -> bool {
    true
}

const CLUSTERIZABLE: Field = Field::new(
    "clusterizable",
    "Clusterizable",
    "Replicas count together, where they have a storage to share. `false`: each for itself.",
)
.default("true");
const EXPOSE_HEADERS: Field = Field::new(
    "exposeHeaders",
    "Expose headers",
    "Every response says how the limits stood, refusals too: `x-ratelimit-limit`, `x-ratelimit-remaining`, and in \
     `x-ratelimit-reset` the milliseconds until the window ends, rounded up.",
)
.default("false");

pub struct RateLimiting {
    rate: Rate,
    key: Option<Template>,
    headers: RateHeaders,
}

/// What was configured, and not how it stands.
impl fmt::Debug for RateLimiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, key, headers } = self;
        f.debug_tuple("RateLimiting").field(&rate.configured()).field(key).field(headers).finish()
    }
}

impl Policy for RateLimiting {
    type Config = Config;
    type State = Spending;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "rateLimits",
            "Limits",
            "A request passes where all of them have room, and counts for each of them. 1 to 16 limits.",
        ),
        Field::new("rateLimits[].maximumRequests", "Requests", "So many pass in a window.")
            .range(1, REQUESTS_MAX as i64),
        Field::new(
            "rateLimits[].timePeriodInMilliseconds",
            "Period",
            "The length of a window, which begins with the first request in it.",
        )
        .unit("milliseconds")
        .range(1, PERIOD_MS_MAX as i64),
        Field::new(
            "keySelector",
            "Key",
            "What requests are told apart by: each value has windows of its own. Left out: all requests are one group.",
        )
        .expression(),
        EXPOSE_HEADERS,
        CLUSTERIZABLE,
    ];
    const OPTIONS: &'static [Field] = OPTIONS;
    const ANSWERS: &'static [Answers] = &[REFUSED, UNAVAILABLE];

    fn remarks(config: &Config) -> Vec<Fault> {
        let mut found = remarks("rateLimits", &config.rate_limits);
        found.extend(config.key_selector.iter().flat_map(|text| key_remarks(text)));
        found
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError { faults: faults("rateLimits", &config.rate_limits) };
        let text = config.key_selector.as_deref();
        let key = text.map(|text| template("keySelector", text, &bindings(), &mut error));
        error.or(())?;
        let key = key.flatten();
        let identity = site.limiter(NAME, &key.as_ref().map(identity).unwrap_or_default());
        let (terms, headers) = Terms::new(site, identity, config.clusterizable, config.expose_headers);
        Ok(Self { rate: terms.rate(&config.rate_limits), key, headers })
    }

    fn state(&self, core: &Core) -> Spending {
        Spending::new(core)
    }

    fn needs(&self) -> Needs {
        Needs { request: need(&self.key), ..Needs::NONE }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.decide(turn, exchange)
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        self.decide(turn, exchange)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.rate.tell(&self.headers, turn.kept, exchange);
        Flow::Continue
    }
}

impl RateLimiting {
    fn decide(&self, turn: Turn<'_, Self>, exchange: &Exchange<'_>) -> Flow {
        let mut spend = |key: &[u8]| turn.state.spend(&self.rate, &self.headers, key, turn.kept);
        let Some(template) = &self.key else { return spend(b"") };
        let reading = Reading::request(exchange).with_payload(&FORMATS);
        let key = template.evaluate(&reading).and_then(|value| value.into_text());
        spend(key.as_deref().unwrap_or_default().as_bytes())
    }
}

fn bindings() -> Bindings {
    Bindings::request().with_payload(&FORMATS)
}

/// Two that are equal do the same.
fn identity(key: &Template) -> String {
    match key {
        Template::Literal(text) => format!("={text}"),
        Template::Expression(expression) => format!("#{expression}"),
    }
}

fn key_remarks(text: &str) -> Vec<Fault> {
    let mut remarks = reading::remarks("keySelector", text, &bindings());
    match Template::compile(text, &bindings()) {
        Ok(Template::Literal(_)) if remarks.is_empty() => {
            remarks.push(Fault::at("keySelector", "no expression in `#[` and `]`: all requests have this one key"));
        }
        Ok(Template::Expression(expression)) if expression.to_string() == "attributes.remoteAddress" => {
            let text = "has the client's port in it, so that each connection counts for itself; without it: \
                        `#[dw::core::Strings::substringBeforeLast(attributes.remoteAddress, ':')]`";
            remarks.push(Fault::at("keySelector", text));
        }
        _ => {}
    }
    remarks
}

#[cfg(test)]
mod tests;
