//! Bearer tokens (RFC 7519): a request passes with a token that the operator's key has signed and whose claims hold.
//!
//! The configuration fixes key and algorithms; a token decides nothing about how it is checked. One that was verified is
//! remembered by its core, so that its signature costs once; its claims are looked at for each request.

pub mod algorithm;
mod cache;
mod claims;
mod custom_key;
mod fields;
mod issuers;
pub mod key_set;
pub(in crate::policies) mod keys;
mod refusal;
mod token;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde::Deserialize;

use self::{
    algorithm::Algorithm,
    cache::Cache,
    claims::{Claims, Custom},
    custom_key::{CustomKey, Last},
    issuers::{ADDRESSES_MAX, Held, Issuers},
    keys::Key,
    refusal::{Refusal, Refusals},
    token::{Signed, Verified},
};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Needs, Policy, Site, Turn,
    bearer,
    clients::{self, ClientSet},
    reading::{self, Reading, need, template},
    wants::{KeySetWant, Published, Want},
};
use crate::{
    document::{address::WebAddress, node::Node},
    expression::{Bindings, Format, Template, Value},
};

/// What a payload is read as.
const FORMATS: [Format; 2] = [Format::Json, Format::Text];

/// The reason of the answer where no key set has come.
pub const NO_KEYS: &str = refusal::NO_KEYS.reason;

/// As the operator writes it. What does not apply is not looked at: published files carry every field.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    jwt_origin: Origin,
    jwt_expression: String,
    signing_method: Method,
    signing_key_length: u32,
    jwt_key_origin: KeyOrigin,
    text_key: Option<String>,
    custom_key_expression: Option<String>,
    jwks_url: Option<String>,
    jwks_service_time_to_live: u32,
    jwks_service_connection_timeout: u32,
    validate_aud_claim: bool,
    mandatory_aud_claim: bool,
    supported_audiences: String,
    mandatory_exp_claim: bool,
    mandatory_nbf_claim: bool,
    validate_custom_claim: bool,
    mandatory_custom_claims: Vec<Claim>,
    non_mandatory_custom_claims: Vec<Claim>,
    skip_client_id_validation: bool,
    client_id_expression: String,
    claims_to_headers: Option<Node>,
    ringway: Ringway,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            jwt_origin: Origin::default(),
            jwt_expression: "#[attributes.headers['jwt']]".to_owned(),
            signing_method: Method::default(),
            signing_key_length: 256,
            jwt_key_origin: KeyOrigin::default(),
            text_key: None,
            custom_key_expression: None,
            jwks_url: None,
            jwks_service_time_to_live: 60,
            jwks_service_connection_timeout: 10_000,
            validate_aud_claim: false,
            mandatory_aud_claim: false,
            supported_audiences: String::new(),
            mandatory_exp_claim: false,
            mandatory_nbf_claim: false,
            validate_custom_claim: false,
            mandatory_custom_claims: Vec::new(),
            non_mandatory_custom_claims: Vec::new(),
            skip_client_id_validation: true,
            client_id_expression: "#[vars.claimSet.client_id]".to_owned(),
            claims_to_headers: None,
            ringway: Ringway::default(),
        }
    }
}

impl Config {
    /// The key is read from what the client sends.
    fn has_key_of_request(&self) -> bool {
        let text = self
            .custom_key_expression
            .as_deref()
            .filter(|_| matches!(self.jwt_key_origin, KeyOrigin::CustomExpression));
        let needs = text.and_then(|text| Template::compile(text, &request()).ok()).map(|template| template.needs());
        needs.is_some_and(|needs| needs.attributes || needs.headers || needs.payload)
    }
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Origin {
    #[default]
    HttpBearerAuthenticationHeader,
    CustomExpression,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Method {
    #[default]
    Rsa,
    Hmac,
    Es,
    None,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "camelCase")]
enum KeyOrigin {
    #[default]
    Text,
    Jwks,
    CustomExpression,
}

#[derive(Deserialize)]
struct Claim {
    key: String,
    value: String,
}

/// Settings of our own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ringway {
    /// Names of JOSE, in place of method and length.
    algorithms: Vec<String>,
    /// Between two fetches of a key set that tokens with unknown keys give rise to.
    jwks_cool_down_seconds: u32,
}

impl Default for Ringway {
    fn default() -> Self {
        Self { algorithms: Vec::new(), jwks_cool_down_seconds: 30 }
    }
}

#[derive(Debug)]
pub struct JwtValidation {
    /// Where the token stands; none for `authorization`.
    origin: Option<Template>,
    keys: Keys,
    claims: Claims,
    /// None where any client may come.
    clients: Option<Clients>,
}

/// What has signed a token that passes.
#[derive(Debug)]
enum Keys {
    /// Anybody.
    Unchecked,
    One(Key),
    Issuers(Issuers),
    Custom(CustomKey),
}

/// Who may come, by the id that is read from the token.
#[derive(Debug)]
struct Clients {
    id: Template,
    contracted: clients::Clients,
}

pub struct State {
    refusals: Refusals,
    verified: RefCell<Cache>,
    /// Empty where no key sets are wanted.
    held: RefCell<Held>,
    /// Nothing where no expression gives the key.
    custom_key: RefCell<Last>,
    /// Nobody where clients are not checked.
    clients: RefCell<Arc<ClientSet>>,
}

/// A request that passes: its token and, where clients are checked, the client with its id.
type Admitted<'c> = (Rc<Verified>, Option<(&'c str, &'c clients::Client)>);

impl Policy for JwtValidation {
    type Config = Config;
    type State = State;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = fields::FIELDS;
    const ANSWERS: &'static [Answers] = &[
        refusal::MISSING,
        refusal::NOT_BEARER,
        refusal::UNPARSABLE,
        refusal::UNVERIFIED,
        refusal::CLAIMS,
        refusal::CLIENT,
        refusal::NO_KEYS,
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let mut remarks = Vec::new();
        let mut remark = |is_so: bool, field: &str, text: &str| {
            if is_so {
                remarks.push(Fault::at(field, text));
            }
        };
        let unchecked = config.signing_method == Method::None && config.ringway.algorithms.is_empty();
        remark(unchecked, "signingMethod", "signatures are not checked: anybody can make up a token");
        let open = addresses(config).filter_map(|text| WebAddress::parse(text).ok()).filter(WebAddress::is_open);
        let open = open.map(|address| address.to_string()).collect::<Vec<_>>().join("`, `");
        let text = format!("`{open}`: whoever is on the way can put in keys of their own; write https");
        let is_open = matches!(config.jwt_key_origin, KeyOrigin::Jwks) && !open.is_empty();
        remark(is_open, "jwksUrl", &text);
        remark(config.has_key_of_request(), "customKeyExpression", "who sends a request says which key counts for it");
        let endless = !config.mandatory_exp_claim;
        remark(endless, "mandatoryExpClaim", "a token without `exp` never expires; `true` refuses such");
        let nobody = config.validate_aud_claim && audiences(&config.supported_audiences).next().is_none();
        remark(nobody, "supportedAudiences", "is empty: every token with an `aud` is refused");
        let half = config.mandatory_aud_claim && !config.validate_aud_claim;
        remark(half, "mandatoryAudClaim", "`aud` must be there, and may be any: `validateAudClaim` is false");
        let lists = !(config.mandatory_custom_claims.is_empty() && config.non_mandatory_custom_claims.is_empty());
        let idle = lists && !config.validate_custom_claim;
        remark(idle, "validateCustomClaim", "is false: the lists of custom claims are not looked at");
        let unread = !config.validate_aud_claim && audiences(&config.supported_audiences).next().is_some();
        remark(unread, "supportedAudiences", "the list is not looked at: `validateAudClaim` is false");
        let nothing = config.validate_custom_claim && !lists;
        remark(nothing, "validateCustomClaim", "both lists of custom claims are empty: none is checked");
        if config.validate_custom_claim {
            remarks.extend(custom_remarks("mandatoryCustomClaims", &config.mandatory_custom_claims));
            remarks.extend(custom_remarks("nonMandatoryCustomClaims", &config.non_mandatory_custom_claims));
        }
        remarks
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let claims_to_headers = config.claims_to_headers.as_ref();
        if claims_to_headers.is_some_and(|list| !list.is_null() && (!list.is_list() || list.iter().next().is_some())) {
            error.add(Fault::not_implemented("claimsToHeaders", "claims as headers"));
        }
        let origin = match config.jwt_origin {
            Origin::HttpBearerAuthenticationHeader => None,
            Origin::CustomExpression => expression("jwtExpression", &config.jwt_expression, &request(), &mut error),
        };
        let keys = keys(&config, site, &mut error);
        let custom = |field: &str, claims: Vec<Claim>, error: &mut ConfigError| {
            let claims = if config.validate_custom_claim { claims } else { Vec::new() };
            claims.into_iter().enumerate().filter_map(|(at, claim)| custom(field, at, claim, error)).collect()
        };
        let claims = Claims {
            exp_mandatory: config.mandatory_exp_claim,
            nbf_mandatory: config.mandatory_nbf_claim,
            aud_mandatory: config.mandatory_aud_claim,
            audiences: config
                .validate_aud_claim
                .then(|| audiences(&config.supported_audiences).map(Box::from).collect()),
            mandatory: custom("mandatoryCustomClaims", config.mandatory_custom_claims, &mut error),
            others: custom("nonMandatoryCustomClaims", config.non_mandatory_custom_claims, &mut error),
        };
        let clients = match config.skip_client_id_validation {
            true => None,
            false => clients(&config.client_id_expression, site, &mut error),
        };
        let policy = keys.map(|keys| Self { origin, keys, claims, clients });
        error.or(policy).map(|policy| policy.expect("where there are no keys there is a fault"))
    }

    fn state(&self, _: &Core) -> State {
        State {
            refusals: Refusals::new(),
            verified: RefCell::default(),
            held: RefCell::default(),
            custom_key: RefCell::default(),
            clients: RefCell::default(),
        }
    }

    fn publish(&self, state: &State, published: &Published) {
        if let Keys::Issuers(issuers) = &self.keys
            && issuers.take(&mut state.held.borrow_mut(), published)
        {
            // They may have been signed by a key that is taken back.
            state.verified.take();
        }
        if let Some(clients) = &self.clients {
            state.clients.replace(clients.contracted.published(published));
        }
    }

    fn needs(&self) -> Needs {
        let Self { origin, keys, claims, clients } = self;
        let custom = claims.mandatory.iter().chain(&claims.others).map(|custom| &custom.value);
        let id = clients.as_ref().map(|clients| &clients.id);
        let key = if let Keys::Custom(key) = keys { Some(&key.expression) } else { None };
        Needs { request: need(origin.iter().chain(key).chain(custom).chain(id)), ..Needs::NONE }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        match exchange.now().duration_since(UNIX_EPOCH) {
            Ok(since) => self.decide(turn.state, exchange, since.as_secs()),
            // By a clock before 1970 nothing would ever expire.
            Err(_) => Flow::respond(LocalResponse::failed_policy()),
        }
    }
}

impl JwtValidation {
    fn decide(&self, state: &State, exchange: &mut Exchange<'_>, now: u64) -> Flow {
        let clients = &*state.clients.borrow();
        match self.admit(state, clients, exchange, now) {
            Ok((token, client)) => {
                exchange.authenticate(|authentication| {
                    authentication.set_properties(token.properties());
                    if let Some((id, client)) = client {
                        clients.authenticate(id, client, authentication);
                    }
                });
                Flow::Continue
            }
            Err(refusal) => Flow::Respond(state.refusals.answer(refusal)),
        }
    }

    fn admit<'c>(
        &self,
        state: &State,
        clients: &'c ClientSet,
        exchange: &Exchange<'_>,
        now: u64,
    ) -> Result<Admitted<'c>, Refusal> {
        let Some(origin) = &self.origin else {
            return self.admit_token(state, clients, bearer::bearer(exchange.request_fields())?, exchange, now);
        };
        let reading = Reading::request(exchange).with_payload(&FORMATS);
        match origin.evaluate(&reading) {
            // What it looks in may be missing too, and then there is no value.
            Ok(Value::Null) | Err(_) => Err(Refusal::NoToken),
            Ok(value) => {
                let token = value.into_text().map_err(|_| Refusal::NotText)?;
                if token.is_empty() {
                    return Err(Refusal::NoToken);
                }
                self.admit_token(state, clients, token.as_bytes(), exchange, now)
            }
        }
    }

    fn admit_token<'c>(
        &self,
        state: &State,
        clients: &'c ClientSet,
        token: &[u8],
        exchange: &Exchange<'_>,
        now: u64,
    ) -> Result<Admitted<'c>, Refusal> {
        let own_key = self.own_key(state, exchange);
        let known = state.verified.borrow_mut().find(token);
        let is_new = known.is_none();
        let verified = match known {
            Some(verified) => verified,
            None => Rc::new(token::verify(token, |signed| self.check_signature(state, own_key.as_deref(), signed))?),
        };
        let checked = self.claims.check(&verified, exchange, now);
        if checked == Err(Refusal::Expired) && !is_new {
            state.verified.borrow_mut().remove(token);
        }
        checked?;
        let client = self.clients.as_ref().map(|who| who.find(clients, &verified, exchange)).transpose()?;
        if is_new {
            state.verified.borrow_mut().add(&verified);
        }
        Ok((verified, client))
    }
}

impl JwtValidation {
    /// Of the key sets that it takes tokens by; empty where it has a key of its own.
    pub fn key_sets(&self) -> &[WebAddress] {
        if let Keys::Issuers(issuers) = &self.keys { &issuers.addresses } else { &[] }
    }

    /// That of the request, where an expression gives it. Of what another one has verified nothing counts.
    fn own_key(&self, state: &State, exchange: &Exchange<'_>) -> Option<Rc<Key>> {
        let Keys::Custom(custom) = &self.keys else { return None };
        let (key, changed) = custom.find(&mut state.custom_key.borrow_mut(), exchange);
        if changed {
            state.verified.take();
        }
        key
    }

    fn check_signature(&self, state: &State, own_key: Option<&Key>, signed: &Signed<'_>) -> Result<(), Refusal> {
        match &self.keys {
            Keys::Unchecked => Ok(()),
            Keys::One(key) => key.check(signed),
            Keys::Custom(_) => own_key.ok_or(Refusal::KeyUnknown)?.check(signed),
            Keys::Issuers(issuers) => issuers.check(&state.held.borrow(), signed),
        }
    }
}

impl Clients {
    fn find<'c>(
        &self,
        clients: &'c ClientSet,
        token: &Verified,
        exchange: &Exchange<'_>,
    ) -> Result<(&'c str, &'c clients::Client), Refusal> {
        let claims = |_: &str| Value::from(token.claims());
        let reading = Reading::request(exchange).with_variables(&claims).with_payload(&FORMATS);
        let id = self.id.evaluate(&reading).and_then(Value::into_text).map_err(|_| Refusal::Client)?;
        clients.find(&id).ok_or(Refusal::Client)
    }
}

fn audiences(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|audience| !audience.is_empty())
}

/// None where something is wrong.
fn keys(config: &Config, site: &mut Site<'_>, error: &mut ConfigError) -> Option<Keys> {
    if config.signing_method == Method::None && config.ringway.algorithms.is_empty() {
        return Some(Keys::Unchecked);
    }
    let algorithms = algorithms(config, error)?;
    match config.jwt_key_origin {
        KeyOrigin::Text => {
            let text = config.text_key.as_deref().unwrap_or_default();
            if text.trim().is_empty() {
                error.add(Fault::at("textKey", "must not be empty"));
                return None;
            }
            let key = Key::from_text(text, &algorithms);
            key.map_err(|text| error.add(Fault::at("textKey", text))).map(Keys::One).ok()
        }
        KeyOrigin::Jwks => issuers(config, algorithms, site, error).map(Keys::Issuers),
        KeyOrigin::CustomExpression => {
            let text = config.custom_key_expression.as_deref().unwrap_or_default();
            if text.trim().is_empty() {
                error.add(Fault::at("customKeyExpression", "must not be empty"));
                return None;
            }
            let secrets = algorithms.iter().filter(|algorithm| algorithm.takes_a_secret()).count();
            if secrets > 0 && secrets < algorithms.len() {
                let text = "one key cannot be both a secret and a public key";
                error.add(Fault::at("ringway.algorithms", text));
            }
            let expression = expression("customKeyExpression", text, &request(), error)?;
            Some(Keys::Custom(CustomKey { expression, algorithms: algorithms.into() }))
        }
    }
}

fn issuers(
    config: &Config,
    algorithms: Vec<Algorithm>,
    site: &mut Site<'_>,
    error: &mut ConfigError,
) -> Option<Issuers> {
    let Config { jwks_service_time_to_live, jwks_service_connection_timeout, ringway, .. } = config;
    for (field, value) in [
        ("jwksServiceTimeToLive", *jwks_service_time_to_live),
        ("jwksServiceConnectionTimeout", *jwks_service_connection_timeout),
        ("ringway.jwksCoolDownSeconds", ringway.jwks_cool_down_seconds),
    ] {
        if value == 0 {
            error.add(Fault::at(field, "must be at least 1"));
        }
    }
    if let Some(secret) = algorithms.iter().find(|algorithm| algorithm.takes_a_secret()) {
        let field = if ringway.algorithms.is_empty() { "signingMethod" } else { "ringway.algorithms" };
        error.add(Fault::at(field, format!("a key set has public keys, and {} takes a secret", secret.name())));
    }
    let mut found = Vec::new();
    for (at, text) in addresses(config).enumerate() {
        match WebAddress::parse(text) {
            Ok(address) if found.contains(&address) => {}
            Ok(address) => found.push(address),
            // Not which one it is: there may be a password in it, or a key.
            Err(why) => error.add(Fault::at("jwksUrl", format!("address {}: {why}", at + 1))),
        }
    }
    match found.len() {
        0 if addresses(config).next().is_none() => error.add(Fault::at("jwksUrl", "must not be empty")),
        ..=ADDRESSES_MAX => {}
        _ => error.add(Fault::at("jwksUrl", format!("at most {ADDRESSES_MAX} addresses"))),
    }
    if !error.faults.is_empty() {
        return None;
    }
    for address in &found {
        let destination = site.destination(address.clone());
        site.want(Want::KeySet(KeySetWant {
            destination,
            timeout: Duration::from_millis((*jwks_service_connection_timeout).into()),
            time_to_live: Duration::from_secs(60 * u64::from(*jwks_service_time_to_live)),
            cool_down: Duration::from_secs(ringway.jwks_cool_down_seconds.into()),
        }));
    }
    Some(Issuers { addresses: found.into(), algorithms: algorithms.into() })
}

/// As written, parted by commas.
fn addresses(config: &Config) -> impl Iterator<Item = &str> {
    config.jwks_url.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|text| !text.is_empty())
}

/// None where something is wrong.
fn algorithms(config: &Config, error: &mut ConfigError) -> Option<Vec<Algorithm>> {
    if !config.ringway.algorithms.is_empty() {
        let mut found = Vec::new();
        for (at, name) in config.ringway.algorithms.iter().enumerate() {
            match Algorithm::named(name) {
                Some(algorithm) if found.contains(&algorithm) => {}
                Some(algorithm) => found.push(algorithm),
                None => {
                    let names: Vec<&str> = Algorithm::ALL.iter().map(|(name, _)| *name).collect();
                    let text = format!("`{name}` is none of {}", names.join(", "));
                    error.add(Fault::at(format!("ringway.algorithms[{at}]"), text));
                }
            }
        }
        return (!found.is_empty()).then_some(found);
    }
    let prefix = match config.signing_method {
        Method::None => unreachable!("signatures are checked"),
        Method::Rsa => "RS",
        Method::Hmac => "HS",
        Method::Es => "ES",
    };
    let algorithm = Algorithm::named(&format!("{prefix}{}", config.signing_key_length));
    if algorithm.is_none() {
        let lengths = if config.signing_method == Method::Es { "256 or 384" } else { "256, 384 or 512" };
        error.add(Fault::at("signingKeyLength", format!("must be {lengths}")));
    }
    Some(vec![algorithm?])
}

fn custom(list: &str, at: usize, claim: Claim, error: &mut ConfigError) -> Option<Custom> {
    if claim.key.is_empty() {
        error.add(Fault::at(format!("{list}[{at}].key"), "must not be empty"));
    }
    let value = template(&format!("{list}[{at}].value"), &claim.value, &bindings(), error)?;
    Some(Custom { name: claim.key.into(), value })
}

/// Values that look like expressions, and are compared as they stand.
fn custom_remarks(list: &str, claims: &[Claim]) -> Vec<Fault> {
    let of_claim = |(at, claim): (usize, &Claim)| {
        let field = format!("{list}[{at}].value");
        let starts = claim.value.trim().starts_with("#[");
        if !starts && claim.value.contains("#[") {
            let text = "has `#[` behind other text, and is taken as it stands: an expression is the whole value";
            return vec![Fault::at(field, text)];
        }
        reading::remarks(&field, &claim.value, &bindings())
    };
    claims.iter().enumerate().flat_map(of_claim).collect()
}

fn clients(text: &str, site: &mut Site<'_>, error: &mut ConfigError) -> Option<Clients> {
    let id = expression("clientIdExpression", text, &bindings(), error);
    let contracted = clients::Clients::of(site, false, false, refusal::CLIENT.status);
    Some(Clients { id: id?, contracted })
}

/// What expressions about a genuine token may read.
fn bindings() -> Bindings {
    request().with_variables(&["claimSet"])
}

fn request() -> Bindings {
    Bindings::request().with_payload(&FORMATS)
}

/// A field that takes nothing but an expression.
fn expression(field: &str, text: &str, bindings: &Bindings, error: &mut ConfigError) -> Option<Template> {
    let template = template(field, text, bindings, error)?;
    if matches!(template, Template::Literal(_)) {
        error.add(Fault::at(field, "an expression stands in `#[` and `]`"));
    }
    Some(template)
}
