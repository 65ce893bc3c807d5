//! Credential injection, OAuth 2: asks a token endpoint for an access token of the gateway's own and tells it to the upstream.
//!
//! One token serves the whole replica. It is asked for by the first request that needs it, and anew while it is still good: so
//! requests wait for the endpoint only where there is no token at all. After a failure it is left alone for a while.

mod token;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    fmt,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Question, Reply, Site,
    Turn,
    credentials::{self, Credential, Overwrite},
    form,
    headers::{HeaderName, is_like},
};
use crate::{
    calls::{Answer, Call, Calls, Destination, Flights, Key, Lead, Look, Stands, Waits, Wake},
    document::address::WebAddress,
    http::{bytes::is_field_value, head::Fields},
    net::signal::Signals,
    telemetry::fault,
};

const NAME: &str = "credential-injection-oauth2-flex";
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The part of its lifetime after which a token is asked for anew.
const FRESH: f64 = 0.8;
/// A token on its way must not run out there.
const MARGIN_MAX: Duration = Duration::from_secs(5);
/// After a failure, doubling.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// From here on the number is one of milliseconds: the manual means seconds, the control plane writes these.
const MILLISECONDS_FROM: u64 = 1000;
/// There is one token.
const KEY: Key = [0; 32];

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    oauth_service: String,
    #[serde(default)]
    grant_type: GrantType,
    #[serde(default)]
    credential_location: CredentialLocation,
    #[serde(default)]
    token_request_body_format: BodyFormat,
    client_id: String,
    client_secret: String,
    username: Option<String>,
    password: Option<String>,
    #[serde(default)]
    scope: Vec<String>,
    #[serde(default)]
    overwrite: Overwrite,
    #[serde(default = "default_timeout")]
    token_fetch_timeout: u64,
    #[serde(default)]
    caching_ttl: u64,
    #[serde(default)]
    allow_request_without_credential: bool,
    upstream_token_header_name: Option<String>,
    upstream_token_prefix_name: Option<String>,
    #[serde(default)]
    custom_request_headers: Vec<CustomHeader>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum GrantType {
    #[default]
    ClientCredentials,
    Password,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum CredentialLocation {
    #[default]
    Body,
    Header,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum BodyFormat {
    #[default]
    UrlEncoded,
    Json,
}

#[derive(Deserialize)]
struct CustomHeader {
    name: String,
    value: String,
}

fn default_timeout() -> u64 {
    10
}

pub struct CredentialInjectionOauth2 {
    source: Arc<Source>,
    /// Where nothing is overwritten: what the client has sent, which then stays.
    kept: Option<Credential>,
    allows_without: bool,
}

/// Where tokens come from, and how that stands; all cores share it.
struct Source {
    destination: Arc<Destination>,
    binding: String,
    request: Request,
    time_max: Duration,
    /// Of a token that is good for longer; zero: as long as it is good.
    caching_ttl: Duration,
    header: HeaderName,
    prefix: String,
    overwrite: Overwrite,
    flights: Arc<Flights<Verdict>>,
    pausing: Mutex<Pausing>,
}

/// What the endpoint is asked: there are secrets in all of it.
struct Request {
    headers: Fields,
    body: Vec<u8>,
}

/// Failures in a row, and until when no other token is asked for ahead of time.
#[derive(Default)]
struct Pausing {
    failures: u32,
    until: Option<Instant>,
}

/// What is known of the token.
#[derive(Clone)]
enum Verdict {
    Token { credential: Arc<Credential>, refresh_at: Instant },
    None(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Unavailable,
    Late,
    Refused,
    Malformed,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Unavailable, Self::Late, Self::Refused, Self::Malformed];
    const ANSWERS: [Answers; 4] = [
        Answers { status: 503, reason: "oauth2_token_unavailable", when: "the token endpoint cannot be reached" },
        Answers { status: 504, reason: "oauth2_token_timeout", when: "it does not answer in `tokenFetchTimeout`" },
        Answers { status: 502, reason: "oauth2_token_refused", when: "it answers with another status than 2xx" },
        Answers { status: 502, reason: "oauth2_token_malformed", when: "its answer is no token" },
    ];

    fn of(fault: &fault::Fault) -> Self {
        match fault.reason {
            "timeout" => Self::Late,
            "too_large" | "malformed_answer" | "truncated" => Self::Malformed,
            _ => Self::Unavailable,
        }
    }

    fn answer(self) -> LocalResponse {
        let Answers { status, reason, .. } = Self::ANSWERS[self as usize];
        let text = match self {
            Self::Unavailable => "Service Unavailable",
            Self::Late => "Gateway Timeout",
            Self::Refused | Self::Malformed => "Bad Gateway",
        };
        LocalResponse::error_json(status, text, reason)
    }
}

pub struct State {
    signals: Signals,
    calls: Option<Arc<Calls>>,
    /// The replica's, up to when another one is asked for: a request looks no further.
    token: RefCell<Option<(Arc<Credential>, Instant)>>,
    refusals: [Rc<LocalResponse>; 4],
}

/// The answer that the request waits for.
#[derive(Default)]
pub struct Kept(Option<Waits<Verdict>>);

impl Policy for CredentialInjectionOauth2 {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Security);
    const ANSWERS: &'static [Answers] = &Refusal::ANSWERS;
    const FIELDS: &'static [Field] = &[
        Field::new("oauthService", "Token endpoint", "The URL that tokens are asked for at; better https."),
        Field::new("grantType", "Grant", "`clientCredentials` or `password`.").default("clientCredentials"),
        Field::new(
            "credentialLocation",
            "Place of the credentials",
            "Where the endpoint is told client id and secret: `body`, or `header` (Basic).",
        )
        .default("body"),
        Field::new("tokenRequestBodyFormat", "Body", "Of the request: `urlEncoded`, or `json`.").default("urlEncoded"),
        Field::new("clientId", "Client id", "Whom the gateway is to the endpoint."),
        Field::new("clientSecret", "Client secret", "Its secret.").sensitive(),
        Field::new("username", "User name", "Required with `password`.").when("grantType", "password"),
        Field::new("password", "Password", "Required with `password`.").sensitive().when("grantType", "password"),
        Field::new("scope", "Scopes", "What is asked for."),
        Field::new("overwrite", "Overwrite", "Whether the token takes the place of what the client sent.")
            .default("true"),
        Field::new(
            "tokenFetchTimeout",
            "Time limit",
            "Of one request for a token: seconds; 1000 and more are milliseconds.",
        )
        .default("10"),
        Field::new(
            "cachingTtl",
            "Caching time",
            "Seconds after which a token is replaced that is good for longer; 0: as long as it is good.",
        )
        .default("0"),
        Field::new(
            "allowRequestWithoutCredential",
            "Allow without",
            "A request for which there is no token goes upstream without one.",
        )
        .default("false"),
        Field::new("upstreamTokenHeaderName", "Header", "The header of the token.").default("Authorization"),
        Field::new("upstreamTokenPrefixName", "Prefix", "In front of the token; empty for none.").default("Bearer"),
        Field::new("customRequestHeaders", "Further headers", "Of the request for a token."),
        Field::new("customRequestHeaders[].name", "Header name", "Of a header of the request for a token."),
        Field::new("customRequestHeaders[].value", "Header value", "Its value."),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let mut remarks = Vec::new();
        let of_user = [("username", &config.username), ("password", &config.password)];
        if config.grant_type == GrantType::ClientCredentials {
            let written = of_user.iter().filter(|(_, value)| value.is_some());
            remarks.extend(
                written.map(|(field, _)| Fault::at(*field, "has no effect with `grantType: clientCredentials`")),
            );
        }
        remarks
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let address =
            WebAddress::parse(&config.oauth_service).map_err(|text| error.add(Fault::at("oauthService", text)));
        let name = config.upstream_token_header_name.as_deref();
        let header = credentials::name("upstreamTokenHeaderName", name, "Authorization", &mut error);
        let prefix = config.upstream_token_prefix_name.as_deref().unwrap_or("Bearer").trim().to_owned();
        if !prefix.is_empty() && !is_field_value(prefix.as_bytes()) {
            error.add(Fault::at("upstreamTokenPrefixName", "not a header value"));
        }
        if config.token_fetch_timeout == 0 {
            error.add(Fault::at("tokenFetchTimeout", "must be at least 1"));
        }
        let request = request(&config, &mut error);
        let (Ok(address), Some(header)) = (address, header) else { return Err(error) };
        let timeout = config.token_fetch_timeout;
        let source = Source {
            destination: site.destination(address),
            binding: site.policy().name.clone(),
            request,
            time_max: match timeout {
                MILLISECONDS_FROM.. => Duration::from_millis(timeout),
                _ => Duration::from_secs(timeout),
            },
            caching_ttl: Duration::from_secs(config.caching_ttl.min(u32::MAX.into())),
            header,
            prefix,
            overwrite: config.overwrite,
            flights: Flights::new(1, 1),
            pausing: Mutex::default(),
        };
        if let Some(why) = &source.destination.insecure {
            site.remark(Fault::at("oauthService", format!("it cannot be called: {why}")));
        }
        error.or(Self {
            kept: (config.overwrite == Overwrite::NO).then(|| Credential::kept(&source.header)),
            source: Arc::new(source),
            allows_without: config.allow_request_without_credential,
        })
    }

    fn state(&self, core: &Core) -> State {
        State {
            signals: core.signals.clone(),
            calls: core.calls.clone(),
            token: RefCell::default(),
            refusals: Refusal::ALL.map(|refusal| Rc::new(refusal.answer())),
        }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let sent = |name: &[u8]| is_like(self.source.header.as_bytes(), name);
        if let Some(kept) = &self.kept
            && exchange.request_fields().iter().any(|field| sent(field.name))
        {
            return kept.inject(exchange);
        }
        let now = Instant::now();
        if let Some((credential, until)) = &*turn.state.token.borrow()
            && *until > now
        {
            return credential.inject(exchange);
        }
        let Some(calls) = &turn.state.calls else { return self.refuse(turn.state, Refusal::Unavailable, exchange) };
        let mut signal = None;
        let bell = || {
            let (waits, bell) = turn.state.signals.new_signal()?;
            signal = Some(waits);
            Some(Box::new(move || bell.ring()) as Wake)
        };
        let waits = match self.source.flights.look(&KEY, now, bell) {
            Look::Known(verdict) => {
                self.source.refresh(&verdict, calls, now);
                return self.finish(turn.state, verdict, exchange);
            }
            Look::Full => return self.refuse(turn.state, Refusal::Unavailable, exchange),
            Look::Waits(waits) => waits,
            Look::Asks(lead, waits) => {
                self.source.ask(lead, calls, true);
                waits
            }
        };
        match (waits.stands(), signal) {
            (Stands::Coming, Some(signal)) => {
                *turn.kept = Kept(Some(waits));
                // The call itself ends in time; this is for when nobody says so.
                let at_most = self.source.time_max + Duration::from_secs(1);
                Flow::Wait(Box::new(Question::Signal { signal, at_most }))
            }
            (stands, _) => self.told(turn.state, stands, exchange),
        }
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        let stands = turn.kept.0.take().map_or(Stands::Lost, |waits| waits.stands());
        self.told(turn.state, stands, exchange)
    }
}

impl CredentialInjectionOauth2 {
    fn told(&self, state: &State, stands: Stands<Verdict>, exchange: &mut Exchange<'_>) -> Flow {
        match stands {
            Stands::Here(verdict) => self.finish(state, verdict, exchange),
            Stands::Coming => self.refuse(state, Refusal::Late, exchange),
            Stands::Lost => self.refuse(state, Refusal::Unavailable, exchange),
        }
    }

    fn finish(&self, state: &State, verdict: Verdict, exchange: &mut Exchange<'_>) -> Flow {
        match verdict {
            Verdict::Token { credential, refresh_at } => {
                let flow = credential.inject(exchange);
                state.token.replace(Some((credential, refresh_at)));
                flow
            }
            Verdict::None(refusal) => self.refuse(state, refusal, exchange),
        }
    }

    /// Without a token: what the client sent in its place does not go upstream all the same.
    fn refuse(&self, state: &State, refusal: Refusal, exchange: &mut Exchange<'_>) -> Flow {
        if !self.allows_without {
            return Flow::Respond(state.refusals[refusal as usize].clone());
        }
        exchange.request_headers().remove_if(|name| is_like(self.source.header.as_bytes(), name));
        Flow::Continue
    }
}

impl Source {
    /// Has the next token asked for while this one is good, by whoever comes first.
    fn refresh(self: &Arc<Self>, verdict: &Verdict, calls: &Calls, now: Instant) {
        let Verdict::Token { refresh_at, .. } = verdict else { return };
        if *refresh_at > now || self.pausing().until.is_some_and(|until| until > now) {
            return;
        }
        if let Some(lead) = self.flights.lead(&KEY) {
            self.ask(lead, calls, false);
        }
    }

    /// `is_needed`: nobody has a token, so that its lack is an answer too, and holds for a pause.
    fn ask(self: &Arc<Self>, lead: Lead<Verdict>, calls: &Calls, is_needed: bool) {
        let call = Call {
            destination: self.destination.clone(),
            policy: NAME,
            binding: self.binding.clone(),
            method: "POST",
            target: self.destination.address.target.clone(),
            headers: self.request.headers.clone(),
            body: self.request.body.clone(),
            time_max: self.time_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
            // A second token is no harm.
            idempotent: true,
        };
        let source = self.clone();
        calls.ask(call, move |answer| source.settle(lead, answer, is_needed));
    }

    fn settle(&self, lead: Lead<Verdict>, answer: Result<Answer, fault::Fault>, is_needed: bool) {
        let now = Instant::now();
        match self.read(answer, now) {
            Ok((verdict, until)) => {
                *self.pausing() = Pausing::default();
                lead.settle(verdict, Some(until).filter(|until| *until > now));
            }
            Err(refusal) => {
                let until = self.failed(now);
                let reason = Refusal::ANSWERS[refusal as usize].reason;
                tracing::warn!(policy = self.binding, reason, "no token from {}", self.destination.origin());
                if is_needed {
                    lead.settle(Verdict::None(refusal), Some(until));
                }
            }
        }
    }

    /// Until when no token is asked for.
    fn failed(&self, now: Instant) -> Instant {
        let mut pausing = self.pausing();
        let pause = PAUSE_MIN.saturating_mul(1 << pausing.failures.min(16)).min(PAUSE_MAX);
        pausing.failures = pausing.failures.saturating_add(1);
        let until = now + pause;
        pausing.until = Some(until);
        until
    }

    fn pausing(&self) -> MutexGuard<'_, Pausing> {
        self.pausing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, answer: Result<Answer, fault::Fault>, now: Instant) -> Result<(Verdict, Instant), Refusal> {
        let answer = answer.map_err(|fault| Refusal::of(&fault))?;
        if !(200..300).contains(&answer.status) {
            return Err(Refusal::Refused);
        }
        let token::Granted { token, lifetime } = token::read(&answer).ok_or(Refusal::Malformed)?;
        let lifetime = match (lifetime, self.caching_ttl) {
            (Some(lifetime), Duration::ZERO) => lifetime,
            (Some(lifetime), ttl) => lifetime.min(ttl),
            (None, Duration::ZERO) => token::LIFETIME_ASSUMED,
            (None, ttl) => ttl,
        };
        let value = if self.prefix.is_empty() { token } else { format!("{} {token}", self.prefix) };
        let credential = Arc::new(Credential::new([(self.header.clone(), value)], self.overwrite));
        let good = lifetime - MARGIN_MAX.min(lifetime / 10);
        Ok((Verdict::Token { credential, refresh_at: now + lifetime.mul_f64(FRESH) }, now + good))
    }
}

/// What the endpoint is asked each time.
fn request(config: &Config, error: &mut ConfigError) -> Request {
    let scope = config.scope.join(" ");
    let mut pairs = Vec::new();
    match config.grant_type {
        GrantType::ClientCredentials => pairs.push(("grant_type", "client_credentials")),
        GrantType::Password => {
            let of_user = [("username", &config.username), ("password", &config.password)];
            pairs.push(("grant_type", "password"));
            for (field, value) in of_user {
                let value = value.as_deref().unwrap_or_default();
                if value.is_empty() {
                    error.add(Fault::at(field, "must not be empty with `grantType: password`"));
                }
                pairs.push((field, value));
            }
        }
    }
    for (field, value) in [("clientId", &config.client_id), ("clientSecret", &config.client_secret)] {
        if value.is_empty() {
            error.add(Fault::at(field, "must not be empty"));
        }
    }
    let mut headers = Fields::default();
    match config.credential_location {
        CredentialLocation::Body => {
            pairs.push(("client_id", &config.client_id));
            pairs.push(("client_secret", &config.client_secret));
        }
        CredentialLocation::Header => {
            headers.append(b"authorization", form::basic(&config.client_id, &config.client_secret).as_bytes());
        }
    }
    if !scope.is_empty() {
        pairs.push(("scope", &scope));
    }
    let (content_type, body) = match config.token_request_body_format {
        BodyFormat::UrlEncoded => ("application/x-www-form-urlencoded", form::form(&pairs).into_bytes()),
        BodyFormat::Json => {
            let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            ("application/json", serde_json::Value::Object(pairs).to_string().into_bytes())
        }
    };
    headers.append(b"content-type", content_type.as_bytes());
    headers.append(b"accept", b"application/json");
    for (at, CustomHeader { name, value }) in config.custom_request_headers.iter().enumerate() {
        let field = format!("customRequestHeaders[{at}]");
        match HeaderName::new(name.trim()) {
            Ok(name) if is_field_value(value.trim().as_bytes()) => {
                headers.set(name.as_bytes(), value.trim().as_bytes())
            }
            Ok(_) => error.add(Fault::at(format!("{field}.value"), "not a header value")),
            Err(fault) => error.add(Fault::at(format!("{field}.name"), fault.to_string())),
        }
    }
    Request { headers, body }
}

/// Nothing of a secret.
impl fmt::Debug for CredentialInjectionOauth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { destination, flights, .. } = &*self.source;
        f.debug_struct("CredentialInjectionOauth2").field("from", destination).field("flights", flights).finish()
    }
}
