//! The clients that have a contract with an API, and how a request shows which of them it is from.
//!
//! What a request shows is compared as a salted hash, in constant time, also where nobody has the id: how long a refusal takes
//! does not say which ids there are.

use std::{borrow::Cow, cell::RefCell, collections::HashMap, rc::Rc};

use super::{
    Answers, Authentication, ConfigError, Exchange, Fault, LocalResponse, Need, Site,
    contract::{ClientSecret, Contract, SecretHash},
    reading::{Reading, need, template},
};
use crate::expression::{Bindings, Format, Template};

/// What a payload is read as.
const FORMATS: [Format; 2] = [Format::Json, Format::Xml];

pub const MISSING: Answers =
    Answers { status: 401, reason: "client_id_missing", when: "the request shows no client id" };
pub const INVALID: Answers =
    Answers { status: 401, reason: "client_invalid", when: "no client has the id, or the secret is not the client's" };
pub const UNKNOWN: Answers = Answers {
    status: 503,
    reason: "contracts_missing",
    when: "the API has no contract, so that no client could be let in",
};

/// Those of one API by their ids, with what a policy knows of each besides.
pub struct Clients<T> {
    known: HashMap<Box<str>, Client<T>>,
    compares_secrets: bool,
    /// The secret of ids that no client has: nothing is equal to it.
    nobodys: SecretHash,
}

pub struct Client<T> {
    name: Box<str>,
    secret: Option<SecretHash>,
    /// Of its tier, id and name; empty where it has none.
    sla: [Box<str>; 2],
    pub terms: T,
}

impl<T> Clients<T> {
    /// `terms` is told the contract of each.
    pub fn of(
        site: &mut Site<'_>,
        compares_secrets: bool,
        mut terms: impl FnMut(&Contract, &mut Site<'_>) -> T,
    ) -> Self {
        let mut clients = Self { known: HashMap::new(), compares_secrets, nobodys: SecretHash::of("") };
        for contract in site.contracts() {
            let party = &contract.client;
            if clients.known.contains_key(&*party.id) {
                let text = format!("client `{}` has several contracts with this API: the first counts", party.id);
                site.remark(Fault::at("", text));
                continue;
            }
            if party.secret.is_none() && compares_secrets {
                let text = format!("the contract of client `{}` has no secret: its requests are refused", party.id);
                site.remark(Fault::at("", text));
            }
            let text = |text: Option<&String>| Box::from(text.map_or("", |text| text));
            let sla = contract.sla.as_ref();
            let client = Client {
                name: text(party.name.as_ref()),
                secret: party.secret.as_ref().map(ClientSecret::hashed),
                sla: [text(sla.and_then(|sla| sla.id.as_ref())), text(sla.and_then(|sla| sla.name.as_ref()))],
                terms: terms(contract, site),
            };
            clients.known.insert(party.id.as_str().into(), client);
        }
        if clients.known.is_empty() {
            site.remark(Fault::at("", "this API has no contract: every request is refused with 503"));
        }
        clients
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The client whose id this is, if its secret, where that counts, is this one. `scratch` is emptied, and its memory reused.
    pub fn find(&self, id: &str, secret: Option<&str>, scratch: &mut Vec<u8>) -> Option<(&str, &Client<T>)> {
        let found = self.known.get_key_value(id).map(|(id, client)| (&**id, client));
        if !self.compares_secrets {
            return found;
        }
        let known = found.and_then(|(_, client)| client.secret.as_ref());
        let is_right = known.unwrap_or(&self.nobodys).is_of(secret?.as_bytes(), scratch);
        found.filter(|_| known.is_some() && is_right)
    }
}

impl<T> Client<T> {
    /// Says that the request is from this client.
    pub fn authenticate(&self, id: &str, authentication: &mut Authentication) {
        let [sla_id, sla_name] = &self.sla;
        authentication.set_client(id, &self.name);
        authentication.set_sla(sla_id, sla_name);
    }
}

/// Where a request shows id and secret by expressions.
pub struct Shown {
    id: Template,
    secret: Option<Template>,
}

impl Shown {
    /// `None`, and why in `error`, where one of them is no expression.
    pub fn compile(id: &str, secret: Option<&str>, error: &mut ConfigError) -> Option<Self> {
        let id = expression("clientIdExpression", id, error);
        let secret = match secret {
            Some(text) => Some(expression("clientSecretExpression", text, error)?),
            None => None,
        };
        Some(Self { id: id?, secret })
    }

    /// Whether this expression for an id reads what policies have found out.
    pub fn is_of_others(id: &str) -> bool {
        let bindings = Bindings::request().with_payload(&FORMATS);
        Template::compile(id, &bindings).is_ok_and(|template| template.needs().authentication)
    }

    pub fn shows_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Of the request's body.
    pub fn need(&self) -> Need {
        need([&self.id].into_iter().chain(&self.secret))
    }

    /// Calls `use_it` with id and secret; `None` where no id is shown.
    pub fn read<R>(&self, exchange: &Exchange<'_>, use_it: impl FnOnce(&str, Option<&str>) -> R) -> Option<R> {
        let reading = Reading::request(exchange).with_payload(&FORMATS);
        let id = shown(&self.id, &reading)?;
        let secret = self.secret.as_ref().and_then(|secret| shown(secret, &reading));
        Some(use_it(&id, secret.as_deref()))
    }
}

/// `clientIdExpression` where it is not written.
pub fn default_client_id() -> String {
    "#[attributes.headers['client_id']]".into()
}

/// Literal text would be one id for all requests, or one secret that none need show.
fn expression(field: &str, text: &str, error: &mut ConfigError) -> Option<Template> {
    let bindings = Bindings::request().with_payload(&FORMATS);
    let template = template(field, text, &bindings, error)?;
    if let Template::Literal(_) = template {
        error.add(Fault::at(field, "must be an expression in `#[` and `]`"));
        return None;
    }
    Some(template)
}

/// What fails, or is not one piece of text, is not shown.
pub fn shown<'a>(template: &'a Template, reading: &'a Reading<'_, '_>) -> Option<Cow<'a, str>> {
    let text = template.evaluate(reading).ok()?.into_text().ok()?;
    (!text.is_empty()).then_some(text)
}

/// The answers to requests of nobody who is known, made once, and memory to compare secrets in.
pub struct Refusals {
    pub missing: Rc<LocalResponse>,
    pub invalid: Rc<LocalResponse>,
    pub unknown: Rc<LocalResponse>,
    pub scratch: RefCell<Vec<u8>>,
}

impl Refusals {
    /// `challenge`: what `www-authenticate` asks for.
    pub fn new(challenge: &'static str) -> Self {
        let refusal = |text, answer: Answers| LocalResponse::error_json(answer.status, text, answer.reason);
        let challenged = |text, answer| Rc::new(refusal(text, answer).with_header("www-authenticate", challenge));
        Self {
            missing: challenged("Client ID is not present", MISSING),
            invalid: challenged("Invalid Client", INVALID),
            unknown: Rc::new(refusal("The clients of this API are not known.", UNKNOWN)),
            scratch: RefCell::default(),
        }
    }
}
