//! Credential injection, OAuth 2 on behalf of: exchanges the client's access token for one of the same user that the upstream
//! takes (RFC 8693, or what Microsoft Entra ID has for it).
//!
//! One exchange serves all requests with the same token, on all cores, until one of the two runs out. Tokens are kept by a keyed
//! hash; a token that was refused is not asked about again for a while, so that a flood of them costs the endpoint little.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::Deserialize;

use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Reply, Site, Turn,
    access_tokens::{self, Endpoint, serves},
    asking::{Found, find, object},
    bearer::bearer_in_any_case,
    credentials::{self, Credential, Overwrite},
    form,
};
use crate::{
    calls::{Answer, Calls, Flights, Key, Lead, Stands, Waits},
    document::address::WebAddress,
    http::head::Fields,
    net::signal::Signals,
    telemetry::fault,
};

const NAME: &str = "credential-injection-oauth2-obo";
/// Tokens that are known, exchanged or refused. Each is at most as large as a token may be.
const KNOWN_MAX: usize = 4096;
const UNDER_WAY_MAX: usize = 256;
/// A larger one is no token.
const SUBJECT_BYTES_MAX: usize = 16 << 10;
/// How long a token that was refused is not asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// The same after any other failure.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    flow: ExchangeFlow,
    token_endpoint: String,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    target_type: TargetType,
    target_value: Option<String>,
    scope: Option<String>,
    #[serde(default = "default_timeout")]
    timeout: u64,
    #[serde(default)]
    ciba_enabled: bool,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
enum ExchangeFlow {
    #[default]
    #[serde(rename = "oauth2-token-exchange")]
    TokenExchange,
    #[serde(rename = "microsoft-entra-obo")]
    MicrosoftEntra,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum TargetType {
    #[default]
    Audience,
    Resource,
}

fn default_timeout() -> u64 {
    10_000
}

pub struct CredentialInjectionOauth2Obo {
    source: Arc<Source>,
}

/// Where tokens are exchanged, and what is known of them; all cores share it.
struct Source {
    endpoint: Endpoint,
    /// What is said of each token: there is a secret in it.
    pairs: Vec<(&'static str, String)>,
    /// Which of the form's fields is the client's token.
    subject: &'static str,
    /// Keys say nothing of tokens, also to who can guess those.
    salt: hmac::Key,
    flights: Arc<Flights<Verdict>>,
}

/// What is known of a client's token.
#[derive(Clone)]
enum Verdict {
    Token(Arc<Credential>),
    None(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoToken,
    Token,
    Endpoint(access_tokens::Refusal),
}

const NO_TOKEN: Answers =
    Answers { status: 401, reason: "oauth2_obo_no_token", when: "the request has no bearer token, or more than one" };
const TOKEN_REFUSED: Answers = Answers {
    status: 401,
    reason: "oauth2_obo_token_refused",
    when: "the token endpoint says that the request's token is not good (`invalid_grant`, `invalid_request`)",
};

impl Refusal {
    const ANSWERS: [Answers; 6] = {
        let [unavailable, late, refused, malformed] =
            access_tokens::Refusal::answers("it does not answer in `timeout`");
        [NO_TOKEN, TOKEN_REFUSED, unavailable, late, refused, malformed]
    };

    fn index(self) -> usize {
        match self {
            Self::NoToken => 0,
            Self::Token => 1,
            Self::Endpoint(refusal) => 2 + refusal as usize,
        }
    }

    fn all() -> [Self; 6] {
        let [a, b, c, d] = access_tokens::Refusal::ALL.map(Self::Endpoint);
        [Self::NoToken, Self::Token, a, b, c, d]
    }

    fn answer(self) -> LocalResponse {
        let Answers { status, reason, .. } = Self::ANSWERS[self.index()];
        // RFC 6750, section 3.1: what has no credentials is told no error.
        let challenge = match self {
            Self::Endpoint(refusal) => return refusal.answer(),
            Self::NoToken => "Bearer",
            Self::Token => r#"Bearer error="invalid_token""#,
        };
        LocalResponse::error_json(status, "Unauthorized", reason).with_header("WWW-Authenticate", challenge)
    }
}

pub struct State {
    signals: Signals,
    calls: Option<Arc<Calls>>,
    refusals: [Rc<LocalResponse>; 6],
}

/// The answer that the request waits for.
#[derive(Default)]
pub struct Kept(Option<Waits<Verdict>>);

impl Policy for CredentialInjectionOauth2Obo {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Security);
    const ANSWERS: &'static [Answers] = &Refusal::ANSWERS;
    const FIELDS: &'static [Field] = &[
        Field::new("flow", "Flow", "How the endpoint is asked: RFC 8693, or as Microsoft Entra ID wants it.")
            .default("oauth2-token-exchange"),
        Field::new("tokenEndpoint", "Token endpoint", "The URL that tokens are exchanged at; better https."),
        Field::new("clientId", "Client id", "Whom the gateway is to the endpoint."),
        Field::new("clientSecret", "Client secret", "Its secret.").sensitive(),
        Field::new("targetType", "Kind of target", "What `targetValue` is: a logical name, or a URI (RFC 8707).")
            .default("audience")
            .when("flow", "oauth2-token-exchange"),
        Field::new("targetValue", "Target", "Whom the new token is for. Required with `oauth2-token-exchange`.")
            .when("flow", "oauth2-token-exchange"),
        Field::new("scope", "Scopes", "What is asked for, with spaces between. Required with `microsoft-entra-obo`."),
        Field::new("timeout", "Time limit", "Of one exchange.").default("10000").unit("milliseconds").at_least(1),
        Field::new("cibaEnabled", "CIBA", "Have the user asked on another device: not implemented yet.")
            .default("false"),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        match (config.flow, &config.target_value) {
            (ExchangeFlow::MicrosoftEntra, Some(_)) => {
                vec![Fault::at("targetValue", "has no effect with `flow: microsoft-entra-obo`")]
            }
            _ => Vec::new(),
        }
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let address =
            WebAddress::parse(&config.token_endpoint).map_err(|text| error.add(Fault::at("tokenEndpoint", text)));
        for (field, value) in [("clientId", &config.client_id), ("clientSecret", &config.client_secret)] {
            if value.is_empty() {
                error.add(Fault::at(field, "must not be empty"));
            }
        }
        if config.timeout == 0 {
            error.add(Fault::at("timeout", "must be at least 1"));
        }
        if config.ciba_enabled {
            error.add(Fault::not_implemented("cibaEnabled", "backchannel authentication (CIBA)"));
        }
        let pairs = pairs(&config, &mut error);
        let header = credentials::name("", None, "Authorization", &mut error);
        let (Ok(address), Some(header)) = (address, header) else { return Err(error) };
        let salt = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("the system's random numbers");
        let source = Source {
            endpoint: Endpoint {
                destination: site.destination(address),
                policy: NAME,
                binding: site.policy().name.clone(),
                time_max: Duration::from_millis(config.timeout),
                caching_ttl: Duration::ZERO,
                header,
                prefix: "Bearer".to_owned(),
                overwrite: Overwrite::default(),
            },
            pairs,
            subject: match config.flow {
                ExchangeFlow::TokenExchange => "subject_token",
                ExchangeFlow::MicrosoftEntra => "assertion",
            },
            salt,
            flights: Flights::new(KNOWN_MAX, UNDER_WAY_MAX),
        };
        if let Some(why) = &source.endpoint.destination.insecure {
            site.remark(Fault::at("tokenEndpoint", format!("it cannot be called: {why}")));
        }
        error.or(Self { source: Arc::new(source) })
    }

    fn state(&self, core: &Core) -> State {
        let refusals = Refusal::all().map(|refusal| Rc::new(refusal.answer()));
        State { signals: core.signals.clone(), calls: core.calls.clone(), refusals }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let State { signals, calls, .. } = turn.state;
        let refuse = |refusal| Flow::Respond(turn.state.refusals[Refusal::index(refusal)].clone());
        let Some(subject) = subject(exchange.request_fields()) else { return refuse(Refusal::NoToken) };
        let Some(calls) = calls else { return refuse(Refusal::Endpoint(access_tokens::Refusal::Unavailable)) };
        let (key, at_most) = (self.source.key(subject), self.source.endpoint.wait_max());
        let look = |bell: &mut dyn FnMut() -> _| self.source.flights.look(&key, Instant::now(), bell);
        let found = find(look, signals, at_most, |lead| self.source.ask(lead, subject, calls));
        match found {
            Found::Known(verdict) => told(turn.state, Stands::Here(verdict), exchange),
            Found::Told(stands) => told(turn.state, stands, exchange),
            Found::Waits(waits, question) => {
                *turn.kept = Kept(Some(waits));
                Flow::Wait(question)
            }
        }
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        let stands = turn.kept.0.take().map_or(Stands::Lost, |waits| waits.stands());
        told(turn.state, stands, exchange)
    }
}

fn told(state: &State, stands: Stands<Verdict>, exchange: &mut Exchange<'_>) -> Flow {
    let refusal = match stands {
        Stands::Here(Verdict::Token(credential)) => return credential.inject(exchange),
        Stands::Here(Verdict::None(refusal)) => refusal,
        Stands::Coming => Refusal::Endpoint(access_tokens::Refusal::Late),
        Stands::Lost => Refusal::Endpoint(access_tokens::Refusal::Unavailable),
    };
    Flow::Respond(state.refusals[refusal.index()].clone())
}

/// The client's token, of visible characters (RFC 6750, section 2.1).
fn subject(fields: &Fields) -> Option<&str> {
    let token = bearer_in_any_case(fields).ok()?;
    let is_token = token.len() <= SUBJECT_BYTES_MAX && token.iter().all(u8::is_ascii_graphic);
    str::from_utf8(token).ok().filter(|_| is_token)
}

impl Source {
    fn key(&self, subject: &str) -> Key {
        let mut key = Key::default();
        key.copy_from_slice(hmac::sign(&self.salt, subject.as_bytes()).as_ref());
        key
    }

    fn ask(self: &Arc<Self>, lead: Lead<Verdict>, subject: &str, calls: &Calls) {
        let mut pairs: Vec<_> = self.pairs.iter().map(|(name, value)| (*name, &**value)).collect();
        pairs.push((self.subject, subject));
        let mut headers = Fields::default();
        headers.append(b"content-type", b"application/x-www-form-urlencoded");
        headers.append(b"accept", b"application/json");
        let left = life_left(subject, SystemTime::now());
        let source = self.clone();
        calls.ask(self.endpoint.call(headers, form::form(&pairs).into_bytes()), move |answer| {
            source.settle(lead, answer, left);
        });
    }

    /// `left`: how long the client's token says that it is good for.
    fn settle(&self, lead: Lead<Verdict>, answer: Result<Answer, fault::Fault>, left: Option<Duration>) {
        let now = Instant::now();
        let refuses_token = answer.as_ref().is_ok_and(is_about_token);
        let (verdict, holds) = match self.endpoint.read(answer) {
            Ok((credential, lifetime)) => {
                let good = serves(lifetime);
                (Verdict::Token(credential), left.map_or(good, |left| left.min(good)))
            }
            Err(_) if refuses_token => (Verdict::None(Refusal::Token), REFUSED_FOR),
            Err(refusal) => {
                let (policy, from) = (&self.endpoint.binding, self.endpoint.destination.origin());
                tracing::warn!(policy, reason = refusal.reason(), "no token from {from}");
                (Verdict::None(Refusal::Endpoint(refusal)), FAILED_FOR)
            }
        };
        lead.settle(verdict, Some(now + holds).filter(|until| *until > now));
    }
}

/// Whether the endpoint refuses the token that was to be exchanged, and not us (RFC 8693, section 2.2.2; RFC 6749, section 5.2).
fn is_about_token(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Written {
        error: String,
    }
    let error = || object(&answer.body).map(|Written { error }| error);
    answer.status == 400 && error().is_some_and(|error| matches!(&*error, "invalid_grant" | "invalid_request"))
}

/// How long a token of JSON is good for, which nobody has checked here: what is made of it lasts no longer.
fn life_left(subject: &str, now: SystemTime) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims = BASE64URL.decode(subject.split('.').nth(1)?).ok()?;
    let Claims { exp } = object(&claims)?;
    let exp = Duration::try_from_secs_f64(exp.max(0.0)).ok()?;
    Some(exp.saturating_sub(now.duration_since(UNIX_EPOCH).ok()?))
}

/// What is said of each token besides itself.
fn pairs(config: &Config, error: &mut ConfigError) -> Vec<(&'static str, String)> {
    let [scope, target] = [&config.scope, &config.target_value].map(|text| text.as_deref().unwrap_or_default().trim());
    let mut pairs = match config.flow {
        ExchangeFlow::TokenExchange => {
            const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
            let name = match config.target_type {
                TargetType::Audience => "audience",
                TargetType::Resource => "resource",
            };
            if target.is_empty() {
                error.add(Fault::at("targetValue", "must not be empty with `flow: oauth2-token-exchange`"));
            } else if name == "resource" && (!target.contains(':') || target.contains('#')) {
                // RFC 8707, section 2.
                error.add(Fault::at("targetValue", "not an absolute URI without a fragment"));
            }
            vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token_type", ACCESS_TOKEN),
                ("requested_token_type", ACCESS_TOKEN),
                (name, target),
            ]
        }
        ExchangeFlow::MicrosoftEntra => {
            if scope.is_empty() {
                error.add(Fault::at("scope", "must not be empty with `flow: microsoft-entra-obo`"));
            }
            vec![("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("requested_token_use", "on_behalf_of")]
        }
    };
    pairs.extend([("client_id", &*config.client_id), ("client_secret", &*config.client_secret)]);
    pairs.extend(Some(("scope", scope)).filter(|(_, scope)| !scope.is_empty()));
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

/// Nothing of a secret.
impl fmt::Debug for CredentialInjectionOauth2Obo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { endpoint, flights, .. } = &*self.source;
        f.debug_struct("CredentialInjectionOauth2Obo")
            .field("from", &endpoint.destination)
            .field("flights", flights)
            .finish()
    }
}
