//! Credential injection, OAuth 2: asks a token endpoint for an access token of the gateway's own and tells it to the upstream.
//!
//! One token serves the whole replica. It is asked for by the first request that needs it, and anew while it is still good: so
//! requests wait for the endpoint only where there is no token at all. After a failure it is left alone for a while.

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Reply, Site, Turn,
    access_tokens::{Endpoint, Refusal, serves},
    asking::{Found, find},
    credentials::{self, Credential, Overwrite},
    form,
    headers::{HeaderName, is_like},
};
use crate::{
    calls::{Answer, Calls, Held, Lead, Lifetime, Renewed, Stands, Waits},
    document::address::WebAddress,
    http::{bytes::is_field_value, head::Fields},
    net::signal::Signals,
    telemetry::fault,
};

const NAME: &str = "credential-injection-oauth2-flex";
/// From here on the number is one of milliseconds: the manual means seconds, the control plane writes these.
const MILLISECONDS_FROM: u64 = 1000;

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
    endpoint: Endpoint,
    request: Request,
    token: Renewed<Arc<Credential>, Refusal>,
}

/// What is known of the token.
type Verdict = Held<Arc<Credential>, Refusal>;

/// What the endpoint is asked: there are secrets in all of it.
struct Request {
    headers: Fields,
    body: Vec<u8>,
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
    const ANSWERS: &'static [Answers] = &Refusal::answers("it does not answer in `tokenFetchTimeout`");
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
            endpoint: Endpoint {
                destination: site.destination(address),
                policy: NAME,
                binding: site.policy().name.clone(),
                time_max: match timeout {
                    MILLISECONDS_FROM.. => Duration::from_millis(timeout),
                    _ => Duration::from_secs(timeout),
                },
                caching_ttl: Duration::from_secs(config.caching_ttl.min(u32::MAX.into())),
                header,
                prefix,
                overwrite: config.overwrite,
            },
            request,
            token: Renewed::default(),
        };
        if let Some(why) = &source.endpoint.destination.insecure {
            site.remark(Fault::at("oauthService", format!("it cannot be called: {why}")));
        }
        error.or(Self {
            kept: (config.overwrite == Overwrite::NO).then(|| Credential::kept(&source.endpoint.header)),
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
        let sent = |name: &[u8]| is_like(self.source.endpoint.header.as_bytes(), name);
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
        let at_most = self.source.endpoint.wait_max();
        let look = |bell: &mut dyn FnMut() -> _| self.source.token.look(now, bell);
        let ask = |lead| self.source.ask(lead, calls, true);
        match find(look, &turn.state.signals, at_most, ask) {
            Found::Known(verdict) => {
                self.source.refresh(&verdict, calls, now);
                self.finish(turn.state, verdict, exchange)
            }
            Found::Told(stands) => self.told(turn.state, stands, exchange),
            Found::Waits(waits, question) => {
                *turn.kept = Kept(Some(waits));
                Flow::Wait(question)
            }
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
            Held::Good { value, refresh_at } => {
                let flow = value.inject(exchange);
                state.token.replace(Some((value, refresh_at)));
                flow
            }
            Held::None(refusal) => self.refuse(state, refusal, exchange),
        }
    }

    /// Without a token: what the client sent in its place does not go upstream all the same.
    fn refuse(&self, state: &State, refusal: Refusal, exchange: &mut Exchange<'_>) -> Flow {
        if !self.allows_without {
            return Flow::Respond(state.refusals[refusal as usize].clone());
        }
        exchange.request_headers().remove_if(|name| is_like(self.source.endpoint.header.as_bytes(), name));
        Flow::Continue
    }
}

impl Source {
    /// Has the next token asked for while this one is good, by whoever comes first.
    fn refresh(self: &Arc<Self>, verdict: &Verdict, calls: &Calls, now: Instant) {
        if let Some(lead) = self.token.renew(verdict, now) {
            self.ask(lead, calls, false);
        }
    }

    /// `is_needed`: nobody has a token, so that its lack is an answer too, and holds for a pause.
    fn ask(self: &Arc<Self>, lead: Lead<Verdict>, calls: &Calls, is_needed: bool) {
        let call = self.endpoint.call(self.request.headers.clone(), self.request.body.clone());
        let source = self.clone();
        calls.ask(call, move |answer| source.settle(lead, answer, is_needed));
    }

    fn settle(&self, lead: Lead<Verdict>, answer: Result<Answer, fault::Fault>, is_needed: bool) {
        let read = self.endpoint.read(answer);
        if let Err(refusal) = &read {
            let (policy, from) = (&self.endpoint.binding, self.endpoint.destination.origin());
            tracing::warn!(policy, reason = refusal.reason(), "no token from {from}");
        }
        let token = read.map(|(credential, good)| (credential, Lifetime { good, serves: serves(good) }));
        self.token.settle(lead, token, is_needed, Instant::now());
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
        let Source { endpoint, token, .. } = &*self.source;
        f.debug_struct("CredentialInjectionOauth2").field("from", &endpoint.destination).field("token", token).finish()
    }
}
