//! Rate limiting by contract: a client shows its id, and its requests pass within the limits of the tier that it has agreed on.
//!
//! Requests are counted by API and client. What a client's limits are does not tell its count: another tier goes on with it.

use std::{cell::RefCell, fmt, rc::Rc, sync::Arc};

use serde::Deserialize;

use super::{
    CLUSTERIZABLE, EXPOSE_HEADERS, is_shared,
    spending::{Kept, OPTIONS, REFUSED, Rate, Spending, Terms, UNAVAILABLE},
};
use crate::policies::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Needs, Policy, Reply, Site,
    Turn,
    clients::{ClientSet, Clients, INVALID, MISSING, Refusals, Shown, UNKNOWN, default_client_id},
    rate_headers::RateHeaders,
    wants::Published,
};

const NAME: &str = "rate-limiting-sla-based-flex";

const NO_TIER: Answers =
    Answers { status: 401, reason: "sla_missing", when: "the client's contract has no tier with limits" };

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default = "default_client_id")]
    client_id_expression: String,
    /// Absent: secrets are not compared.
    client_secret_expression: Option<String>,
    #[serde(default)]
    expose_headers: bool,
    #[serde(default = "is_shared")]
    clusterizable: bool,
}

pub struct SlaRateLimiting {
    shown: Shown,
    clients: Clients,
    terms: Terms,
    headers: RateHeaders,
}

impl fmt::Debug for SlaRateLimiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, terms, headers, .. } = self;
        f.debug_tuple("SlaRateLimiting").field(clients).field(terms).field(headers).finish()
    }
}

pub struct State {
    known: RefCell<Known>,
    spending: Spending,
    refusals: Refusals,
    no_tier: Rc<LocalResponse>,
}

/// The clients of now, and for each of their tiers, in their order, what is counted: nothing, where one has no limits.
#[derive(Default)]
struct Known {
    clients: Arc<ClientSet>,
    rates: Vec<Option<Rc<Rate>>>,
}

#[derive(Default)]
pub struct OfClient {
    /// What the client is told of.
    rate: Option<Rc<Rate>>,
    kept: Kept,
}

impl Policy for SlaRateLimiting {
    type Config = Config;
    type State = State;
    type PerExchange = OfClient;

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "clientIdExpression",
            "Client id expression",
            "The client's id. `#[authentication.clientId]` where a policy before has found it out.",
        )
        .default("#[attributes.headers['client_id']]")
        .expression(),
        Field::new(
            "clientSecretExpression",
            "Client secret expression",
            "The client's secret, often `#[attributes.headers['client_secret']]`. Left out, no secret is compared, and \
             `check` says so.",
        )
        .expression(),
        EXPOSE_HEADERS,
        CLUSTERIZABLE,
    ];
    const OPTIONS: &'static [Field] = OPTIONS;
    const ANSWERS: &'static [Answers] = &[MISSING, INVALID, NO_TIER, REFUSED, UNAVAILABLE, UNKNOWN];

    fn remarks(config: &Config) -> Vec<Fault> {
        // What an earlier policy has found out needs no secret.
        let is_sure = config.client_secret_expression.is_some() || Shown::is_of_others(&config.client_id_expression);
        let text =
            "without `clientSecretExpression` no secret is checked: whoever knows a client's id may use its quota";
        (!is_sure).then(|| Fault::at("", text)).into_iter().collect()
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let secret = config.client_secret_expression.as_deref();
        let shown = Shown::compile(&config.client_id_expression, secret, &mut error);
        let Some(shown) = shown.filter(|_| error.faults.is_empty()) else { return Err(error) };
        // Whichever way a client shows its id, it is the same client.
        let identity = site.limiter(NAME, "");
        let (terms, headers) = Terms::new(site, identity, config.clusterizable, config.expose_headers);
        let clients = Clients::of(site, shown.shows_secret(), true, UNKNOWN.status);
        Ok(Self { shown, clients, terms, headers })
    }

    fn state(&self, core: &Core) -> State {
        let refusals = Refusals::new("Client-ID-Enforcement");
        let no_tier = LocalResponse { reason: NO_TIER.reason, ..(*refusals.invalid).clone() };
        State { known: RefCell::default(), spending: Spending::new(core), refusals, no_tier: Rc::new(no_tier) }
    }

    fn publish(&self, state: &State, published: &Published) {
        let clients = self.clients.published(published);
        let mut known = state.known.borrow_mut();
        if !Arc::ptr_eq(&known.clients, &clients) {
            let rate = |limits: &[_]| (!limits.is_empty()).then(|| Rc::new(self.terms.rate(limits)));
            let rates = clients.tiers().iter().map(|tier| rate(&tier.limits)).collect();
            *known = Known { clients, rates };
        }
    }

    fn needs(&self) -> Needs {
        Needs { request: self.shown.need(), ..Needs::NONE }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.decide(turn, exchange)
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        self.decide(turn, exchange)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        if let Some(rate) = &turn.kept.rate {
            rate.tell(&self.headers, &turn.kept.kept, exchange);
        }
        Flow::Continue
    }
}

impl SlaRateLimiting {
    fn decide(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let State { known, spending, refusals, no_tier } = turn.state;
        let Known { clients, rates } = &*known.borrow();
        if clients.is_empty() {
            return Flow::Respond(refusals.unknown.clone());
        }
        let find =
            |id: &str, secret: Option<&str>| self.clients.find(clients, id, secret, &mut refusals.scratch.borrow_mut());
        let (id, client) = match self.shown.read(exchange, find) {
            None => return Flow::Respond(refusals.missing.clone()),
            Some(None) => return Flow::Respond(refusals.invalid.clone()),
            Some(Some(found)) => found,
        };
        let rate = client.tier().and_then(|place| rates[place as usize].as_ref());
        let Some(rate) = rate else { return Flow::Respond(no_tier.clone()) };
        exchange.authenticate(|authentication| clients.authenticate(id, client, authentication));
        turn.kept.rate = Some(rate.clone());
        spending.spend(rate, &self.headers, id.as_bytes(), &mut turn.kept.kept)
    }
}
