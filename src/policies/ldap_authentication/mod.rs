//! LDAP authentication: user name and password of the request are checked by a directory.
//!
//! A core asks and waits, and whoever shows the same name and password meanwhile waits for the same answer. What was right may be
//! remembered for a while, under a keyed hash; what was wrong is asked for each time.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::{
    hmac::{Context, HMAC_SHA256, Key as HashKey},
    rand::SystemRandom,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Need, Needs, Policy, Question,
    Reply, Site, Turn,
    basic_authentication::{self as basic, credentials_of, sole_credentials},
    clients::shown,
    options,
    reading::{Reading, need, remarks, template},
};
use crate::{
    calls::{Calls, Directory, Flights, Key, Lead, LogIn, Look, Security, Stands, Verdict, Waits, Wake},
    document::address::{Endpoint, endpoint_with_default},
    expression::{Bindings, Template},
    http::head::Fields,
    ldap::Filter,
    net::signal::Signals,
    telemetry::fault,
};

const NAME: &str = "ldap-authentication-flex";
/// Users that are remembered, and questions under way.
const KNOWN_MAX: usize = 10_000;
const UNDER_WAY_MAX: usize = 1024;
const TIME_MAX: Duration = Duration::from_secs(10);
const LDAP_PORT: u16 = 389;
const LDAPS_PORT: u16 = 636;

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(rename = "ldapServerURL", default = "default_url")]
    ldap_server_url: String,
    ldap_server_user_dn: String,
    ldap_server_user_password: String,
    ldap_search_base: String,
    #[serde(default = "default_filter")]
    ldap_search_filter: String,
    #[serde(default)]
    ldap_search_in_subtree: bool,
    authorization_expression: Option<String>,
}

fn default_url() -> String {
    "ldap://127.0.0.1:389".to_owned()
}

fn default_filter() -> String {
    "(uid={0})".to_owned()
}

pub struct LdapAuthentication {
    source: Arc<Source>,
    /// Where the value of an `Authorization` header stands, if not in that header.
    authorization: Option<Template>,
}

/// What is asked, and how that stands; all cores share it.
struct Source {
    directory: Arc<Directory>,
    binding: String,
    time_max: Duration,
    /// Zero: nothing is remembered.
    cache_ttl: Duration,
    /// Of names and passwords, so that nobody can tell them from what is remembered.
    hash_key: HashKey,
    flights: Arc<Flights<Outcome>>,
    /// The last question had no answer: it is in the log, once.
    is_failing: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Told(Verdict),
    Failed(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Missing,
    Failed,
    Unavailable,
    Late,
    Refused,
    Malformed,
}

impl Refusal {
    const ALL: [Self; 6] = [Self::Missing, Self::Failed, Self::Unavailable, Self::Late, Self::Refused, Self::Malformed];
    const ANSWERS: [Answers; 6] = [
        basic::MISSING,
        Answers { when: "no entry is found, or several, or the password is wrong", ..basic::FAILED },
        Answers { status: 503, reason: "ldap_unavailable", when: "the directory cannot be reached, or is too busy" },
        Answers { status: 504, reason: "ldap_timeout", when: "it does not answer in `authenticationTimeout`" },
        Answers {
            status: 502,
            reason: "ldap_refused",
            when: "it does not take the service user, or does not search or bind as it is asked to",
        },
        Answers { status: 502, reason: "ldap_malformed", when: "its answer is none" },
    ];

    fn of(fault: &fault::Fault) -> Self {
        match fault.reason {
            "timeout" => Self::Late,
            "directory_refused" => Self::Refused,
            "too_large" | "malformed_answer" | "truncated" => Self::Malformed,
            _ => Self::Unavailable,
        }
    }

    fn answer(self) -> LocalResponse {
        let answer @ Answers { status, reason, .. } = Self::ANSWERS[self as usize];
        match self {
            Self::Missing => basic::refusal(basic::MISSING_TEXT, answer),
            Self::Failed => basic::refusal(basic::FAILED_TEXT, answer),
            Self::Unavailable => LocalResponse::error_json(status, "Service Unavailable", reason),
            Self::Late => LocalResponse::error_json(status, "Gateway Timeout", reason),
            Self::Refused | Self::Malformed => LocalResponse::error_json(status, "Bad Gateway", reason),
        }
    }
}

pub struct State {
    signals: Signals,
    calls: Option<Arc<Calls>>,
    refusals: [Rc<LocalResponse>; 6],
}

/// The answer that the request waits for, and whose it is.
#[derive(Default)]
pub struct Kept {
    waits: Option<Waits<Outcome>>,
    user: String,
}

impl Policy for LdapAuthentication {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Security);
    const ANSWERS: &'static [Answers] = &Refusal::ANSWERS;
    const FIELDS: &'static [Field] = &[
        Field::new("ldapServerURL", "Server", "`ldap://host:port`, or better `ldaps://`; the ports are 389 and 636.")
            .default("ldap://127.0.0.1:389"),
        Field::new("ldapServerUserDn", "Service user", "Whom the gateway is to the directory when it looks for users."),
        Field::new(
            "ldapServerUserPassword",
            "Password",
            "The service user's. `$NAME` takes the value of an environment variable.",
        )
        .sensitive(),
        Field::new("ldapSearchBase", "Search base", "The entry below which users are looked for."),
        Field::new(
            "ldapSearchFilter",
            "Search filter",
            "Finds the entry of a user (RFC 4515): `{0}` is the user's name.",
        )
        .default("(uid={0})"),
        Field::new(
            "ldapSearchInSubtree",
            "Search in subtree",
            "Whether the base and everything below it is searched; else it is one level below.",
        )
        .default("false"),
        Field::new(
            "authorizationExpression",
            "Authorization expression",
            "Where the value of an `Authorization` header is taken from; without it, from that header.",
        )
        .expression(),
    ];
    const OPTIONS: &'static [Field] = &[options::START_TLS, options::AUTHENTICATION_TIMEOUT, options::CACHE_TTL];

    fn remarks(config: &Config) -> Vec<Fault> {
        let expression = config.authorization_expression.as_deref().unwrap_or_default();
        remarks("authorizationExpression", expression, &Bindings::request())
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        for (field, value) in [
            ("ldapServerUserDn", &config.ldap_server_user_dn),
            ("ldapServerUserPassword", &config.ldap_server_user_password),
        ] {
            // A directory takes a bind without one of them for a bind of nobody (RFC 4513, section 5.1).
            if value.is_empty() {
                error.add(Fault::at(field, "must not be empty"));
            }
        }
        let options = site.options();
        let authorization = config.authorization_expression.as_deref().and_then(|text| authorization(text, &mut error));
        let filter =
            Filter::parse(&config.ldap_search_filter).map_err(|why| error.add(Fault::at("ldapSearchFilter", why)));
        let server = server(&config.ldap_server_url).map_err(|why| error.add(Fault::at("ldapServerURL", why)));
        if options.authentication_timeout == Some(0) {
            error.add(Fault::at("", "`ringway.authenticationTimeout` must be at least 1"));
        }
        let start_tls = options.start_tls.unwrap_or_default();
        if start_tls && matches!(server, Ok((true, _))) {
            error.add(Fault::at(
                "ldapServerURL",
                "`ldaps://` is secured from its first byte: without `ringway.startTls`",
            ));
        }
        let (Ok(filter), Ok((is_ldaps, endpoint))) = (filter, server) else { return Err(error) };
        let (security, insecure) = match is_ldaps || start_tls {
            false => (Security::Plain, None),
            true => match site.secured(&endpoint.host) {
                Ok(tls) if is_ldaps => (Security::Tls(tls), None),
                Ok(tls) => (Security::StartTls(tls), None),
                Err(why) => {
                    let remark = |why: &String| Fault::at("ldapServerURL", format!("it cannot be asked: {why}"));
                    why.iter().map(remark).for_each(|remark| site.remark(remark));
                    // Nothing is sent.
                    (Security::Plain, Some(why.unwrap_or_else(|| "there is no way to secure it".to_owned())))
                }
            },
        };
        if matches!(security, Security::Plain) && insecure.is_none() && !is_of_this_host(&endpoint) {
            let text = "passwords are sent in the clear: `ldaps://` or `ringway: {startTls: true}` secures them";
            site.remark(Fault::at("ldapServerURL", text));
        }
        let source = Source {
            directory: Arc::new(Directory {
                endpoint,
                security,
                insecure,
                service_dn: config.ldap_server_user_dn,
                service_password: config.ldap_server_user_password,
                base: config.ldap_search_base,
                in_subtree: config.ldap_search_in_subtree,
                filter,
                filter_text: config.ldap_search_filter,
            }),
            binding: site.policy().name.clone(),
            time_max: options.authentication_timeout.map_or(TIME_MAX, |time| Duration::from_millis(time.into())),
            cache_ttl: Duration::from_secs(options.cache_ttl.unwrap_or_default().into()),
            hash_key: HashKey::generate(HMAC_SHA256, &SystemRandom::new())
                .map_err(|_| ConfigError::at("", "the system gives no random bytes"))?,
            flights: Flights::new(KNOWN_MAX, UNDER_WAY_MAX),
            is_failing: AtomicBool::new(false),
        };
        error.or(Self { source: Arc::new(source), authorization })
    }

    fn state(&self, core: &Core) -> State {
        let refusals = Refusal::ALL.map(|refusal| Rc::new(refusal.answer()));
        State { signals: core.signals.clone(), calls: core.calls.clone(), refusals }
    }

    fn needs(&self) -> Needs {
        Needs { request: self.authorization.as_ref().map_or(Need::None, |one| need([one])), ..Needs::NONE }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let Turn { state, kept } = turn;
        let Some(credentials) = self.credentials(exchange) else { return state.refuse(Refusal::Missing) };
        // Nobody is asked of these: directories let everybody in with an empty password (RFC 4513, section 5.1.2), and
        // some of them take one for empty that begins with a NUL.
        if credentials.user.is_empty() || credentials.password.is_empty() || credentials.password.contains(&0) {
            return state.refuse(Refusal::Failed);
        }
        let Some(calls) = &state.calls else { return state.refuse(Refusal::Unavailable) };
        let key = self.source.key(&credentials);
        let mut signal = None;
        let bell = || {
            let (waits, bell) = state.signals.new_signal()?;
            signal = Some(waits);
            Some(Box::new(move || bell.ring()) as Wake)
        };
        kept.user.clone_from(&credentials.user);
        let waits = match self.source.flights.look(&key, Instant::now(), bell) {
            Look::Known(outcome) => return self.finish(state, outcome, kept, exchange),
            Look::Full => return state.refuse(Refusal::Unavailable),
            Look::Waits(waits) => waits,
            Look::Asks(lead, waits) => {
                self.source.ask(lead, credentials, calls);
                waits
            }
        };
        match (waits.stands(), signal) {
            (Stands::Coming, Some(signal)) => {
                kept.waits = Some(waits);
                // The question itself ends in time; this is for when nobody says so.
                let at_most = self.source.time_max + Duration::from_secs(1);
                Flow::Wait(Box::new(Question::Signal { signal, at_most }))
            }
            (stands, _) => self.told(state, stands, kept, exchange),
        }
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        let stands = turn.kept.waits.take().map_or(Stands::Lost, |waits| waits.stands());
        self.told(turn.state, stands, turn.kept, exchange)
    }
}

/// What a request shows.
struct Credentials {
    user: String,
    password: Vec<u8>,
}

impl LdapAuthentication {
    fn credentials(&self, exchange: &Exchange<'_>) -> Option<Credentials> {
        match &self.authorization {
            None => Credentials::of_header(exchange.request_fields()),
            Some(template) => {
                let reading = Reading::request(exchange);
                shown(template, &reading).and_then(|value| Credentials::decode(credentials_of(value.as_bytes())?))
            }
        }
    }

    fn told(&self, state: &State, stands: Stands<Outcome>, kept: &Kept, exchange: &mut Exchange<'_>) -> Flow {
        match stands {
            Stands::Here(outcome) => self.finish(state, outcome, kept, exchange),
            Stands::Coming => state.refuse(Refusal::Late),
            Stands::Lost => state.refuse(Refusal::Unavailable),
        }
    }

    fn finish(&self, state: &State, outcome: Outcome, kept: &Kept, exchange: &mut Exchange<'_>) -> Flow {
        match outcome {
            Outcome::Told(Verdict::Accepted) => {
                exchange.authenticate(|authentication| authentication.set_principal(&kept.user));
                Flow::Continue
            }
            Outcome::Told(Verdict::Unknown | Verdict::Ambiguous | Verdict::Refused) => state.refuse(Refusal::Failed),
            Outcome::Failed(refusal) => state.refuse(refusal),
        }
    }
}

impl Credentials {
    fn of_header(fields: &Fields) -> Option<Self> {
        Self::decode(sole_credentials(fields)?)
    }

    /// Base64 of `user:password`. A name that is no UTF-8 is no name in a directory (RFC 4511, section 4.1.2).
    fn decode(sent: &[u8]) -> Option<Self> {
        let decoded = BASE64.decode(sent).ok()?;
        let colon = decoded.iter().position(|&byte| byte == b':')?;
        let user = std::str::from_utf8(&decoded[..colon]).ok()?.to_owned();
        Some(Self { user, password: decoded[colon + 1..].to_vec() })
    }
}

impl State {
    fn refuse(&self, refusal: Refusal) -> Flow {
        Flow::Respond(self.refusals[refusal as usize].clone())
    }
}

impl Source {
    fn key(&self, credentials: &Credentials) -> Key {
        let mut context = Context::with_key(&self.hash_key);
        context.update(&(credentials.user.len() as u64).to_be_bytes());
        context.update(credentials.user.as_bytes());
        context.update(&credentials.password);
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn ask(self: &Arc<Self>, lead: Lead<Outcome>, credentials: Credentials, calls: &Calls) {
        let Credentials { user, password } = credentials;
        let log_in = LogIn {
            directory: self.directory.clone(),
            policy: NAME,
            binding: self.binding.clone(),
            user,
            password,
            time_max: self.time_max,
        };
        let source = self.clone();
        calls.log_in(log_in, move |verdict| source.settle(lead, verdict));
    }

    fn settle(&self, lead: Lead<Outcome>, verdict: Result<Verdict, fault::Fault>) {
        let was_failing = self.is_failing.swap(verdict.is_err(), Ordering::Relaxed);
        match verdict {
            Ok(verdict) => {
                if was_failing {
                    tracing::info!(policy = self.binding, "{} answers again", self.directory.origin());
                }
                let is_kept = verdict == Verdict::Accepted && !self.cache_ttl.is_zero();
                lead.settle(Outcome::Told(verdict), is_kept.then(|| Instant::now() + self.cache_ttl));
            }
            Err(fault) => {
                let refusal = Refusal::of(&fault);
                if !was_failing {
                    let fault::Fault { reason, text } = fault;
                    tracing::warn!(policy = self.binding, reason, "no answer from {}: {text}", self.directory.origin());
                }
                lead.settle(Outcome::Failed(refusal), None);
            }
        }
    }
}

/// Literal text would be one user for all requests.
fn authorization(text: &str, error: &mut ConfigError) -> Option<Template> {
    let template = template("authorizationExpression", text, &Bindings::request(), error)?;
    if let Template::Literal(_) = template {
        error.add(Fault::at("authorizationExpression", "must be an expression in `#[` and `]`"));
        return None;
    }
    Some(template)
}

/// Whether it is `ldaps`, and where it is.
fn server(url: &str) -> Result<(bool, Endpoint), String> {
    let (scheme, rest) = url.trim().split_once("://").ok_or("expected ldap://host:port")?;
    let is_ldaps = match scheme.to_ascii_lowercase().as_str() {
        "ldap" => false,
        "ldaps" => true,
        _ => return Err("the protocol must be ldap or ldaps".into()),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?']) {
        return Err("nothing stands behind the port: where to search is `ldapSearchBase`".into());
    }
    let endpoint = endpoint_with_default(authority, if is_ldaps { LDAPS_PORT } else { LDAP_PORT })?;
    Ok((is_ldaps, endpoint))
}

fn is_of_this_host(endpoint: &Endpoint) -> bool {
    endpoint.host == "localhost"
        || endpoint.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Nothing of a secret.
impl fmt::Debug for LdapAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { directory, flights, .. } = &*self.source;
        f.debug_struct("LdapAuthentication").field("of", directory).field("flights", flights).finish()
    }
}
