//! Bearer tokens that nobody can read but who has issued them: the authorization server is asked what they are (RFC 7662).
//!
//! A token is asked about once for the whole replica, whoever shows it meanwhile waits for the same answer, and every core
//! remembers the good ones that it has met. What the two policies that do so have in common is here; they differ in their fields.

mod answer;
mod discovery;
mod memory;
mod refusal;
mod resource;
mod scopes;
mod server;
mod source;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use serde::Deserialize;

pub use self::{
    discovery::Issuer,
    refusal::ANSWERS,
    resource::{
        AUTHORIZATION_SERVERS, ProtectedResource, RESOURCE, RESOURCE_DOCUMENTATION, RESOURCE_NAME, SCOPES_SUPPORTED,
        Written as WrittenResource,
    },
    scopes::{Criterion, Scopes},
    server::{AuthorizationServer, Place},
    source::Lifetime,
};
use self::{
    memory::{Admitted, Reads, is_exposed},
    refusal::{Refusal, Refusals},
    source::{Source, Verdict},
};
use super::{
    ConfigError, Core, Exchange, Fault, Flow, LocalResponse, Question, Site,
    bearer::{NoBearer, bearer_in_any_case},
    clients::{ClientSet, Clients, UNKNOWN},
    wants::Published,
};
use crate::{
    calls::{Calls, Key, Known, Look, Stands, Waits, Wake},
    net::signal::Signals,
};

/// A longer token is refused before anybody is asked.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// A policy that asks about tokens.
pub struct Introspection {
    source: Arc<Source>,
    reads: Reads,
    /// `None` where any client may come.
    clients: Option<Clients>,
    resource: Option<ProtectedResource>,
    cache_max: usize,
}

/// Settings of our own, of either policy.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Ringway {
    pub resource_metadata: Option<WrittenResource>,
}

/// `authenticationTimeout`, in milliseconds.
pub fn time_max(written: u32, error: &mut ConfigError) -> Duration {
    if written == 0 {
        error.add(Fault::at("authenticationTimeout", "must be at least 1"));
    }
    Duration::from_millis(written.into())
}

/// What the fields of the two policies come to.
pub struct Settings {
    /// The policy by the name of the table.
    pub policy: &'static str,
    /// Of one call.
    pub time_max: Duration,
    pub lifetime: Lifetime,
    /// Of good tokens: the replica's, and each core's.
    pub cache_max: usize,
    pub scopes: Scopes,
    /// The fields of an answer that say whose token it is, and whose contract counts.
    pub client: &'static str,
    pub consumer: &'static str,
    pub exposes: bool,
    /// Any client may come.
    pub skips_clients: bool,
    pub resource: Option<WrittenResource>,
}

pub struct State {
    signals: Signals,
    calls: Option<Arc<Calls>>,
    known: RefCell<Known<Rc<Admitted>>>,
    refusals: Refusals,
    /// Nobody where any client may come.
    clients: RefCell<Arc<ClientSet>>,
}

/// The answer that the request waits for, and what its token is known by.
#[derive(Default)]
pub struct Kept(Option<(Waits<Verdict>, Key)>);

impl Introspection {
    pub fn new(
        server: AuthorizationServer,
        settings: Settings,
        site: &mut Site<'_>,
        mut error: ConfigError,
    ) -> Result<Self, ConfigError> {
        let Settings { policy, time_max, lifetime, cache_max, scopes, client, consumer, exposes, .. } = settings;
        let issuer = match &server.place {
            Place::Endpoint(_) => None,
            Place::Issuer(issuer) => Some(issuer.name()),
        };
        let resource =
            settings.resource.map(|written| ProtectedResource::new(written, scopes.wanted(), issuer, &mut error));
        if let Some(why) = &server.destination().insecure {
            site.remark(Fault::at("", format!("the authorization server cannot be asked: {why}")));
        }
        let clients = (!settings.skips_clients).then(|| Clients::of(site, false, false, UNKNOWN.status));
        let binding = site.policy().name.clone();
        let source = source::Settings { policy, binding, time_max, lifetime, scopes, cache_max };
        let reads = Reads { client, consumer, exposes };
        error.or(Self { source: Arc::new(Source::new(server, source)), reads, clients, resource, cache_max })
    }

    pub fn state(&self, core: &Core) -> State {
        State {
            signals: core.signals.clone(),
            calls: core.calls.clone(),
            known: RefCell::new(Known::new(self.cache_max)),
            refusals: Refusals::new(&self.source.scopes, self.resource.as_ref()),
            clients: RefCell::default(),
        }
    }

    pub fn publish(&self, state: &State, published: &Published) {
        if let Some(clients) = &self.clients {
            state.clients.replace(clients.published(published));
        }
    }

    pub fn on_request(&self, state: &State, kept: &mut Kept, exchange: &mut Exchange<'_>) -> Flow {
        if let Some(answer) = self.resource.as_ref().and_then(|resource| resource.answer(exchange)) {
            return Flow::respond(answer);
        }
        self.decide(state, kept, exchange, Instant::now())
    }

    pub fn on_reply(&self, state: &State, kept: &mut Kept, exchange: &mut Exchange<'_>) -> Flow {
        match kept.0.take() {
            Some((waits, key)) => self.told(state, waits.stands(), &key, exchange),
            None => self.refuse(state, Refusal::Unreachable, exchange),
        }
    }

    fn decide(&self, state: &State, kept: &mut Kept, exchange: &mut Exchange<'_>, now: Instant) -> Flow {
        let token = match token(exchange) {
            Ok(token) => token,
            Err(refusal) => return self.refuse(state, refusal, exchange),
        };
        let key = self.source.key(token.as_bytes());
        let known = state.known.borrow().find(&key, now).cloned();
        if let Some(admitted) = known {
            return self.admit(state, &admitted, exchange);
        }
        let Some(calls) = &state.calls else { return self.refuse(state, Refusal::Unreachable, exchange) };
        let mut signal = None;
        let bell = || {
            let (waits, bell) = state.signals.new_signal()?;
            signal = Some(waits);
            Some(Box::new(move || bell.ring()) as Wake)
        };
        let waits = match self.source.flights().look(&key, now, bell) {
            Look::Known(verdict) => return self.finish(state, verdict, &key, exchange),
            Look::Full => return self.refuse(state, Refusal::Busy, exchange),
            Look::Waits(waits) => waits,
            Look::Asks(lead, waits) => {
                self.source.ask(lead, calls, token);
                waits
            }
        };
        match (waits.stands(), signal) {
            (Stands::Coming, Some(signal)) => {
                *kept = Kept(Some((waits, key)));
                Flow::Wait(Box::new(Question::Signal { signal, at_most: self.source.answer_time_max() }))
            }
            (stands, _) => self.told(state, stands, &key, exchange),
        }
    }

    fn told(&self, state: &State, stands: Stands<Verdict>, key: &Key, exchange: &mut Exchange<'_>) -> Flow {
        match stands {
            Stands::Here(verdict) => self.finish(state, verdict, key, exchange),
            Stands::Coming | Stands::Lost => self.refuse(state, Refusal::Unreachable, exchange),
        }
    }

    fn finish(&self, state: &State, verdict: Verdict, key: &Key, exchange: &mut Exchange<'_>) -> Flow {
        match verdict {
            Verdict::Bad(refusal) => self.refuse(state, refusal, exchange),
            Verdict::Good(good) => {
                let admitted = Rc::new(Admitted::new(&good.token, self.reads));
                if let Some(until) = good.until {
                    state.known.borrow_mut().keep(*key, admitted.clone(), until);
                }
                self.admit(state, &admitted, exchange)
            }
        }
    }

    /// A token that the server knows, on its way here: the time passes, and not every client may come.
    fn admit(&self, state: &State, admitted: &Admitted, exchange: &mut Exchange<'_>) -> Flow {
        let Ok(since) = exchange.now().duration_since(UNIX_EPOCH) else {
            // By a clock before 1970 nothing would ever expire.
            return Flow::respond(LocalResponse::failed_policy());
        };
        let Admitted { properties, client, consumer, exp, nbf, headers } = admitted;
        if exp.is_some_and(|exp| exp <= since.as_secs()) {
            return self.refuse(state, Refusal::Expired, exchange);
        }
        if nbf.is_some_and(|nbf| nbf > since.as_secs()) {
            return self.refuse(state, Refusal::Inactive, exchange);
        }
        let clients = &*state.clients.borrow();
        let contract = match self.clients {
            None => None,
            Some(_) if clients.is_empty() => return self.refuse(state, Refusal::NoContracts, exchange),
            Some(_) => match clients.find(consumer) {
                None => return self.refuse(state, Refusal::Client, exchange),
                found => found,
            },
        };
        exchange.authenticate(|authentication| {
            authentication.set_principal(consumer);
            match contract {
                Some((id, client)) => clients.authenticate(id, client, authentication),
                None => authentication.set_client(client, ""),
            }
            authentication.set_properties(properties.clone());
        });
        if self.reads.exposes {
            let mut fields = exchange.request_headers();
            fields.remove_if(is_exposed);
            for (name, value) in headers {
                if fields.append(name, value).is_err() {
                    return Flow::respond(LocalResponse::failed_policy());
                }
            }
        }
        Flow::Continue
    }

    fn refuse(&self, state: &State, refusal: Refusal, exchange: &Exchange<'_>) -> Flow {
        state.refusals.respond(refusal, (&self.source.scopes, self.resource.as_ref()), exchange)
    }
}

/// The token that a request shows (RFC 6750, section 2.1).
fn token<'e>(exchange: &'e Exchange<'_>) -> Result<&'e str, Refusal> {
    match bearer_in_any_case(exchange.request_fields()) {
        Ok(token) if token.len() <= TOKEN_BYTES_MAX && token.iter().all(u8::is_ascii_graphic) => {
            std::str::from_utf8(token).map_err(|_| Refusal::Malformed)
        }
        Ok(_) | Err(NoBearer::Empty) => Err(Refusal::Malformed),
        Err(NoBearer::Missing) => Err(Refusal::Missing),
        Err(NoBearer::Other) => Err(Refusal::NotBearer),
    }
}

/// Nothing of a secret.
impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, reads, clients, resource, cache_max } = self;
        f.debug_struct("Introspection")
            .field("source", source)
            .field("reads", reads)
            .field("clients", clients)
            .field("resource", resource)
            .field("cache_max", cache_max)
            .finish()
    }
}
