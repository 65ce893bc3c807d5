//! JWT generation: tells the upstream a token that the gateway has signed itself (RFC 7519).
//!
//! A token is signed once and serves until shortly before its end. Where claims depend on the request, that is as long as they
//! come out the same: so a signature costs something only where there is something new to sign.

mod signer;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde::Deserialize;

use self::signer::{NotSigned, Signer, SigningMethod};
use super::{
    Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Site, Turn,
    access_tokens::serves,
    credentials::{Credential, Overwrite},
    headers::HeaderName,
    reading::{self, Reading},
};
use crate::expression::{Bindings, Budget, EvaluationError, Template, Value};

/// A larger one is no header that servers take.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How long one serves that has no end: so its `iat` never is much older.
const RENEWED_AFTER: Duration = Duration::from_secs(300);
/// The last second that the calendars of common libraries have is far behind it.
const SECONDS_MAX: u64 = 10 * 366 * 24 * 60 * 60;

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    signing_method: SigningMethod,
    private_key: String,
    #[serde(default = "yes")]
    iat: bool,
    #[serde(default)]
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    custom_claims: Vec<Custom>,
    #[serde(default)]
    custom_headers: Vec<Custom>,
}

/// A claim, or a parameter of the token's own header.
#[derive(Deserialize)]
struct Custom {
    name: String,
    value: String,
}

fn yes() -> bool {
    true
}

#[derive(Debug)]
pub struct JwtGeneration {
    signer: Signer,
    header: HeaderName,
    /// The claims that are times, from when it is issued on.
    times: Box<[(&'static str, Duration)]>,
    /// How long one serves.
    serves: Duration,
    claims: Box<[Member]>,
    headers: Box<[Member]>,
}

#[derive(Debug)]
struct Member {
    name: Template,
    value: Template,
}

/// One core's own.
pub struct State {
    failed: Rc<LocalResponse>,
    last: RefCell<Option<Last>>,
}

/// The token that was signed last.
struct Last {
    /// What it says besides its times.
    said: Said,
    credential: Credential,
    issued: SystemTime,
    until: SystemTime,
}

/// Both parts of a token, as JSON, without its times and the last brace.
#[derive(PartialEq, Eq)]
struct Said {
    header: String,
    claims: Members,
}

/// Names and JSON values; each name once.
#[derive(Default, PartialEq, Eq)]
struct Members(Vec<(String, String)>);

/// There is no token for this request.
struct Failed;

impl From<EvaluationError> for Failed {
    fn from(_: EvaluationError) -> Self {
        Self
    }
}

impl From<NotSigned> for Failed {
    fn from(_: NotSigned) -> Self {
        Self
    }
}

impl Policy for JwtGeneration {
    type Config = Config;
    type State = State;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = &[
        Field::new("signingMethod", "Signing method", "The algorithm (`alg`).").default("RS256"),
        Field::new(
            "privateKey",
            "Private key",
            "A private key in PEM (PKCS #8) that fits the algorithm; with `HS256` and its like the secret as it stands.",
        )
        .sensitive(),
        Field::new("iat", "Issued at", "Whether the token says when it was issued.").default("true"),
        Field::new("exp", "Expires after", "How long it is good for; 0: it does not say.")
            .default("0")
            .unit("seconds")
            .range(0, SECONDS_MAX as i64),
        Field::new("nbf", "Not before", "How long after its issue it becomes good; 0: it does not say.")
            .default("0")
            .unit("seconds")
            .range(0, SECONDS_MAX as i64),
        Field::new("customClaims", "Claims", "What else the token says."),
        Field::new("customClaims[].name", "Name", "Of a claim.").expression(),
        Field::new("customClaims[].value", "Value", "A text, or whatever an expression gives; null leaves the claim out.")
            .expression(),
        Field::new("customHeaders", "Headers", "Parameters of the token's header, such as `kid`."),
        Field::new("customHeaders[].name", "Name", "Of a parameter.").expression(),
        Field::new("customHeaders[].value", "Value", "A text, or whatever an expression gives; null leaves it out.")
            .expression(),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let mut remarks = Vec::new();
        for (list, customs) in [("customClaims", &config.custom_claims), ("customHeaders", &config.custom_headers)] {
            for (at, custom) in customs.iter().enumerate() {
                for (part, text) in [("name", &custom.name), ("value", &custom.value)] {
                    remarks.extend(reading::remarks(&format!("{list}[{at}].{part}"), text, &Bindings::request()));
                }
            }
        }
        remarks.extend(config.signing_method.weakness(&config.private_key).map(|why| Fault::at("privateKey", why)));
        if config.exp == 0 && !config.custom_claims.iter().any(|custom| custom.name.trim() == "exp") {
            remarks.push(Fault::at("exp", "a token that never ends is good for whoever finds it"));
        }
        remarks
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let signer = Signer::new(config.signing_method, &config.private_key)
            .map_err(|why| error.add(Fault::at("privateKey", why)))
            .ok();
        for (field, seconds) in [("exp", config.exp), ("nbf", config.nbf)] {
            if seconds > SECONDS_MAX {
                error.add(Fault::at(field, format!("must be at most {SECONDS_MAX}")));
            }
        }
        if config.exp != 0 && config.nbf >= config.exp {
            error.add(Fault::at("nbf", "must be less than `exp`: no token would ever be good"));
        }
        let (exp, nbf) = (Duration::from_secs(config.exp), Duration::from_secs(config.nbf));
        let times = [
            ("iat", config.iat.then_some(Duration::ZERO)),
            ("exp", Some(exp).filter(|exp| !exp.is_zero())),
            ("nbf", Some(nbf).filter(|nbf| !nbf.is_zero())),
        ];
        let times: Box<_> = times.into_iter().filter_map(|(name, after)| Some((name, after?))).collect();
        let claims = members("customClaims", &config.custom_claims, |name| is_time(&times, name), &mut error);
        let headers = members("customHeaders", &config.custom_headers, is_algorithm, &mut error);
        let Some(signer) = signer else { return Err(error) };
        error.or(Self {
            signer,
            header: HeaderName::new("Authorization").expect("a header that policies may write"),
            times,
            serves: if exp.is_zero() { RENEWED_AFTER } else { serves(exp) },
            claims,
            headers,
        })
    }

    fn state(&self, _: &Core) -> State {
        State { failed: LocalResponse::failed_policy().into(), last: RefCell::default() }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let now = exchange.now();
        let mut last = turn.state.last.borrow_mut();
        let Ok(said) = self.say(exchange) else { return Flow::Respond(turn.state.failed.clone()) };
        let is_good = |last: &&Last| last.issued <= now && now < last.until && last.said == said;
        if let Some(last) = last.as_ref().filter(is_good) {
            return last.credential.inject(exchange);
        }
        let Ok(token) = self.issue(&said, now) else { return Flow::Respond(turn.state.failed.clone()) };
        let credential = Credential::new([(self.header.clone(), format!("Bearer {token}"))], Overwrite::default());
        let flow = credential.inject(exchange);
        *last = Some(Last { said, credential, issued: now, until: now + self.serves });
        flow
    }
}

impl JwtGeneration {
    /// What the token of this request says, apart from its times. All expressions pay from one budget.
    fn say(&self, exchange: &Exchange<'_>) -> Result<Said, Failed> {
        let reading = Reading::request(exchange);
        let mut budget = Budget::default();
        let mut header = Members::default();
        header.put("alg", quoted(self.signer.method().name()));
        header.put("typ", quoted("JWT"));
        header.add(&self.headers, is_algorithm, &reading, &mut budget)?;
        let mut claims = Members::default();
        claims.add(&self.claims, |name| is_time(&self.times, name), &reading, &mut budget)?;
        Ok(Said { header: header.json(), claims })
    }

    fn issue(&self, said: &Said, now: SystemTime) -> Result<String, Failed> {
        let now = now.duration_since(UNIX_EPOCH).map_err(|_| Failed)?;
        let mut claims = Members::default();
        self.times.iter().for_each(|(name, after)| claims.put(name, (now + *after).as_secs().to_string()));
        claims.0.extend_from_slice(&said.claims.0);
        let mut token = BASE64URL.encode(&said.header);
        token.push('.');
        BASE64URL.encode_string(claims.json(), &mut token);
        let signature = self.signer.sign(token.as_bytes())?;
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        if token.len() > TOKEN_BYTES_MAX { Err(Failed) } else { Ok(token) }
    }
}

impl Members {
    /// Makes the name have this one value.
    fn put(&mut self, name: &str, json: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => *value = json,
            None => self.0.push((name.to_owned(), json)),
        }
    }

    fn add(
        &mut self,
        members: &[Member],
        is_ours: impl Fn(&str) -> bool,
        reading: &Reading<'_, '_>,
        budget: &mut Budget,
    ) -> Result<(), Failed> {
        for Member { name, value } in members {
            let json = match value {
                Template::Literal(text) => quoted(text),
                Template::Expression(expression) => match expression.evaluate_within(reading, budget)? {
                    Value::Null => continue,
                    value => certain(value.into_json(budget)?)?,
                },
            };
            let name = match name {
                Template::Literal(text) => text.trim().into(),
                Template::Expression(expression) => certain(expression.evaluate_within(reading, budget)?.into_text()?)?,
            };
            if name.is_empty() || is_ours(&name) {
                return Err(Failed);
            }
            self.put(&name, json);
        }
        Ok(())
    }

    fn json(&self) -> String {
        let members: Vec<String> = self.0.iter().map(|(name, json)| format!("{}:{json}", quoted(name))).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A text that was sent. Bytes that are no UTF-8 read as one and the same character: nobody is to have a signature for what
/// somebody else's bytes would read as too.
fn certain<T: AsRef<str>>(text: T) -> Result<T, Failed> {
    if text.as_ref().contains(char::REPLACEMENT_CHARACTER) { Err(Failed) } else { Ok(text) }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn is_algorithm(name: &str) -> bool {
    name == "alg"
}

fn is_time(times: &[(&str, Duration)], name: &str) -> bool {
    times.iter().any(|(time, _)| *time == name)
}

/// What is written, with no name twice, and none that is said by another field.
fn members(list: &str, customs: &[Custom], is_ours: impl Fn(&str) -> bool, error: &mut ConfigError) -> Box<[Member]> {
    let bindings = Bindings::request();
    let (mut names, mut members): (Vec<&str>, Vec<Member>) = Default::default();
    for (at, custom) in customs.iter().enumerate() {
        let [of_name, of_value] = ["name", "value"].map(|part| format!("{list}[{at}].{part}"));
        let name = reading::template(&of_name, &custom.name, &bindings, error);
        let value = reading::template(&of_value, unquoted(&custom.value), &bindings, error);
        if let Some(Template::Literal(_)) = name {
            match custom.name.trim() {
                "" => error.add(Fault::at(of_name, "must not be empty")),
                own if is_ours(own) => error.add(Fault::at(of_name, format!("`{own}` is said by the policy itself"))),
                twice if names.contains(&twice) => {
                    error.add(Fault::at(of_name, format!("`{twice}` stands here twice")))
                }
                new => names.push(new),
            }
        }
        members.extend(name.zip(value).map(|(name, value)| Member { name, value }));
    }
    members.into()
}

/// A text as it is: in published examples some stand in quotes of their own, as they would within an expression.
fn unquoted(text: &str) -> &str {
    let inner = text.trim().strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    inner.filter(|inner| !inner.contains('\'')).unwrap_or(text)
}
