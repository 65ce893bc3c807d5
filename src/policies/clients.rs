//! The clients that have a contract with an API, and how a request shows which of them it is from.
//!
//! What a request shows is compared as a salted hash, in constant time, also where nobody has the id: how long a refusal takes
//! does not say which ids there are.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt,
    rc::Rc,
    sync::Arc,
};

use super::{
    Answers, Authentication, ConfigError, Exchange, Fault, LocalResponse, Need, Site,
    contract::{ClientSecret, Contract, SecretHash},
    rate_limiting::Limit,
    reading::{Reading, need, template},
    wants::Published,
};
use crate::{
    document::{Id, Resource, hash::Stable},
    expression::{Bindings, Format, Template},
};

/// What a payload is read as.
const FORMATS: [Format; 2] = [Format::Json, Format::Xml];
/// So many clients are named of those that something is remarked of: an API may have 100,000.
const NAMED_MAX: usize = 5;

pub const MISSING: Answers =
    Answers { status: 401, reason: "client_id_missing", when: "the request shows no client id" };
pub const INVALID: Answers =
    Answers { status: 401, reason: "client_invalid", when: "no client has the id, or the secret is not the client's" };
pub const UNKNOWN: Answers = Answers {
    status: 503,
    reason: "contracts_missing",
    when: "the API has no contract, so that no client could be let in",
};

/// The clients of all APIs. No policy is compiled with them: they are published, so that another set for one API changes nothing
/// but what its policies find there.
#[derive(Clone, Debug, Default)]
pub struct Contracts(Arc<HashMap<Id, Arc<ClientSet>>>);

impl Contracts {
    /// Of all that was written. The set of an API that is as it was in `known` is that one.
    pub fn of(written: &[Arc<Resource<Contract>>], known: &Self) -> Self {
        let mut by_api = HashMap::<_, Vec<_>>::new();
        for resource in written {
            let Resource { id, spec, .. } = &**resource;
            by_api.entry(Id::new(&id.namespace, &spec.api_id.value)).or_default().push(spec);
        }
        let set = |(api, contracts): (Id, Vec<&Contract>)| {
            let identity = identity(&contracts);
            let known = known.0.get(&api).filter(|known| known.identity == identity);
            let set = known.cloned().unwrap_or_else(|| Arc::new(ClientSet::of(&contracts, identity)));
            (api, set)
        };
        Self(Arc::new(by_api.into_iter().map(set).collect()))
    }

    /// These, and of the APIs that have none here those of `others`.
    pub fn or(&self, others: &Self) -> Self {
        if others.0.keys().all(|api| self.0.contains_key(api)) {
            return self.clone();
        }
        let both = others.0.iter().chain(self.0.iter()).map(|(api, set)| (api.clone(), set.clone()));
        Self(Arc::new(both.collect()))
    }

    pub fn of_api(&self, api: &Id) -> Option<&Arc<ClientSet>> {
        self.0.get(api)
    }

    /// What each API's set has been made of: the same on every replica that reads the same.
    pub fn identities(&self) -> BTreeMap<&Id, u64> {
        self.0.iter().map(|(api, set)| (api, set.identity)).collect()
    }

    /// Whether every API has the very same set in both.
    pub fn are(&self, others: &Self) -> bool {
        let same = |(api, set): (&Id, &Arc<ClientSet>)| others.0.get(api).is_some_and(|other| Arc::ptr_eq(set, other));
        self.0.len() == others.0.len() && self.0.iter().all(same)
    }
}

/// The clients of one API by their ids: made once for all policies and cores, and replaced as a whole.
#[derive(Default)]
pub struct ClientSet {
    clients: HashMap<Box<str>, Client>,
    /// Each once, however many clients have it.
    tiers: Vec<Tier>,
    /// Ids that came up a second time.
    repeated: Vec<Box<str>>,
    identity: u64,
}

pub struct Client {
    name: Box<str>,
    secret: Option<SecretHash>,
    /// Its place among the tiers, where it has one.
    tier: Option<u32>,
}

#[derive(PartialEq)]
pub struct Tier {
    id: Box<str>,
    name: Box<str>,
    /// Without faults; none where the tier has none.
    pub limits: Box<[Limit]>,
}

/// Says nothing of anybody.
impl fmt::Debug for ClientSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSet").field("clients", &self.clients.len()).field("tiers", &self.tiers.len()).finish()
    }
}

/// Of everything in a set; never for showing, since a short secret could be found from it.
fn identity(contracts: &[&Contract]) -> u64 {
    let of_contract = |so_far: Stable, Contract { client, sla, .. }: &&Contract| {
        let secret = client.secret.as_ref().map(ClientSecret::identity).unwrap_or_default();
        let name = client.name.as_deref().unwrap_or_default();
        so_far.text(&client.id).text(&secret).text(name).text(&format!("{sla:?}"))
    };
    contracts.iter().fold(Stable::new(), of_contract).finish()
}

impl ClientSet {
    fn of(contracts: &[&Contract], identity: u64) -> Self {
        let mut set = Self { identity, ..Self::default() };
        let text = |text: Option<&String>| Box::from(text.map_or("", |text| text));
        for Contract { client, sla, .. } in contracts {
            if set.clients.contains_key(&*client.id) {
                set.repeated.push(client.id.as_str().into());
                continue;
            }
            let tier = sla.as_ref().map(|sla| {
                set.place(Tier {
                    id: text(sla.id.as_ref()),
                    name: text(sla.name.as_ref()),
                    limits: sla.limits().into(),
                })
            });
            let secret = client.secret.as_ref().map(ClientSecret::hashed);
            let known = Client { name: text(client.name.as_ref()), secret, tier };
            set.clients.insert(client.id.as_str().into(), known);
        }
        set
    }

    /// There are a handful of them.
    fn place(&mut self, tier: Tier) -> u32 {
        let known = self.tiers.iter().position(|known| *known == tier);
        let place = known.unwrap_or_else(|| {
            self.tiers.push(tier);
            self.tiers.len() - 1
        });
        place as u32
    }

    /// As `Client::tier` counts them.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    pub fn find(&self, id: &str) -> Option<(&str, &Client)> {
        self.clients.get_key_value(id).map(|(id, client)| (&**id, client))
    }

    /// Says that the request is from this client.
    pub fn authenticate(&self, id: &str, client: &Client, authentication: &mut Authentication) {
        authentication.set_client(id, &client.name);
        let tier = client.tier.map(|place| &self.tiers[place as usize]);
        let [id, name] = tier.map_or(["", ""], |tier| [&tier.id, &tier.name]);
        authentication.set_sla(id, name);
    }

    /// Of those clients that it says something about, each in words or, where they are many, the first.
    fn remark(&self, site: &mut Site<'_>, concerns: impl Fn(&Client) -> bool, text: impl Fn(&str) -> String) {
        let concerned = self.clients.iter().filter(|(_, client)| concerns(client));
        let mut ids: Vec<&str> = concerned.map(|(id, _)| &**id).collect();
        ids.sort_unstable();
        remark(site, &ids, text);
    }
}

fn remark(site: &mut Site<'_>, ids: &[&str], text: impl Fn(&str) -> String) {
    for (at, id) in ids.iter().take(NAMED_MAX).enumerate() {
        let more = if at + 1 == NAMED_MAX { ids.len() - NAMED_MAX } else { 0 };
        let more = if more > 0 { format!("; the same goes for {more} more clients") } else { String::new() };
        site.remark(Fault::at("", text(id) + &more));
    }
}

impl Client {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn tier(&self) -> Option<u32> {
        self.tier
    }
}

/// Whose clients a policy lets in, and by what. Who they are is published.
pub struct Clients {
    api: Id,
    compares_secrets: bool,
    /// The secret of ids that no client has: nothing is equal to it.
    nobodys: SecretHash,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clients({})", self.api)
    }
}

impl Clients {
    /// `needs_limits`: a client without a tier that has some is refused. `refusal`: the status where there is no client at all.
    pub fn of(site: &mut Site<'_>, compares_secrets: bool, needs_limits: bool, refusal: u16) -> Self {
        let clients = Self { api: site.owner.clone(), compares_secrets, nobodys: SecretHash::of("") };
        let set = site.contracts().of_api(&clients.api).cloned().unwrap_or_default();
        if compares_secrets {
            let text = |id: &str| format!("the contract of client `{id}` has no secret: its requests are refused");
            set.remark(site, |client| client.secret.is_none(), text);
        }
        if needs_limits {
            let has_none =
                |client: &Client| client.tier.is_none_or(|place| set.tiers[place as usize].limits.is_empty());
            set.remark(site, has_none, |id| format!("the contract of client `{id}` has no limits: it is refused"));
        }
        let repeated: Vec<_> = set.repeated.iter().map(|id| &**id).collect();
        remark(site, &repeated, |id| format!("client `{id}` has several contracts with this API: the first counts"));
        if set.is_empty() {
            site.remark(Fault::at("", format!("this API has no contract: every request is refused with {refusal}")));
        }
        clients
    }

    /// The set that is published now; an empty one where there is none.
    pub fn published(&self, published: &Published) -> Arc<ClientSet> {
        published.contracts.of_api(&self.api).cloned().unwrap_or_default()
    }

    /// The client whose id this is, if its secret, where that counts, is this one. `scratch` is emptied, and its memory reused.
    pub fn find<'s>(
        &self,
        set: &'s ClientSet,
        id: &str,
        secret: Option<&str>,
        scratch: &mut Vec<u8>,
    ) -> Option<(&'s str, &'s Client)> {
        let found = set.find(id);
        if !self.compares_secrets {
            return found;
        }
        let known = found.and_then(|(_, client)| client.secret.as_ref());
        let is_right = known.unwrap_or(&self.nobodys).is_of(secret?.as_bytes(), scratch);
        found.filter(|_| known.is_some() && is_right)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    fn contract(api: &str, written: &str) -> Arc<Resource<Contract>> {
        let text = format!("{{apiId: {api}, {written}}}");
        let spec = testing::node(&text).deserialize("spec", &mut Vec::new()).unwrap_or_else(|| panic!("{text}"));
        let (labels, location) = Default::default();
        Arc::new(Resource { id: Id::new("default", "k"), labels, location, position: 0, spec })
    }

    fn contracts(written: &[(&str, &str)], known: &Contracts) -> Contracts {
        let written: Vec<_> = written.iter().map(|(api, written)| contract(api, written)).collect();
        Contracts::of(&written, known)
    }

    const GOLD: &str = "sla: {id: '1', name: gold, limits: [{maximumRequests: 2, timePeriodInMilliseconds: 1000}]}";

    #[test]
    fn only_the_set_that_changed_is_another() {
        let written = [("a", "client: {id: x, secret: s}"), ("a", "client: {id: y}"), ("b", "client: {id: x}")];
        let first = contracts(&written, &Contracts::default());
        assert!(contracts(&written, &first).are(&first));
        assert!(!contracts(&written, &Contracts::default()).are(&first), "made anew, with other salts");
        let set = |of: &Contracts, api| Arc::as_ptr(of.of_api(&Id::new("default", api)).expect("it has clients"));
        let changes =
            ["client: {id: x, secret: t}", "client: {id: z, secret: s}", "client: {id: x, secret: s, name: N}"];
        for changed in changes.map(str::to_owned).into_iter().chain([format!("client: {{id: x, secret: s}}, {GOLD}")]) {
            let second = contracts(&[("a", &changed), written[1], written[2]], &first);
            assert!(set(&second, "a") != set(&first, "a") && set(&second, "b") == set(&first, "b"), "{changed}");
            assert!(!second.are(&first));
        }
        assert!(!contracts(&written[..2], &first).are(&first));
        assert!(contracts(&written[..2], &first).or(&first).are(&first), "`b` has none of its own");
        assert!(contracts(&[], &first).of_api(&Id::new("default", "a")).is_none());
    }

    #[test]
    fn clients_of_one_tier_share_it() {
        let other = GOLD.replace("gold", "silver");
        let written = [("x", GOLD), ("y", GOLD), ("z", &other)];
        let written: Vec<_> = written.map(|(id, sla)| ("a", format!("client: {{id: {id}}}, {sla}"))).into();
        let written: Vec<_> =
            written.iter().map(|(api, text)| (*api, &**text)).chain([("a", "client: {id: n}")]).collect();
        let all = contracts(&written, &Contracts::default());
        let set = all.of_api(&Id::new("default", "a")).expect("it has clients");
        let tier = |id| set.find(id).expect("a client").1.tier();
        assert_eq!([tier("x"), tier("y"), tier("z"), tier("n")], [Some(0), Some(0), Some(1), None]);
        assert_eq!(set.tiers().len(), 2);
    }

    #[test]
    fn of_many_clients_some_are_named() {
        let set = |clients: u32| {
            let client = |at| contract("api", &format!("client: {{id: c{at}}}"));
            Contracts::of(&(0..clients).map(client).collect::<Vec<_>>(), &Contracts::default())
        };
        let remarks = |clients| {
            let (api, contracts) = (Id::new("default", "api"), set(clients));
            let mut site = Site::new(&api, &api, &contracts);
            Clients::of(&mut site, true, false, 503);
            site.take_remarks().into_iter().map(|fault| fault.text).collect::<Vec<_>>()
        };
        let text = |at| format!("the contract of client `c{at}` has no secret: its requests are refused");
        assert_eq!(remarks(5), (0..5).map(text).collect::<Vec<_>>());
        assert_eq!(remarks(100).len(), 5);
        assert_eq!(remarks(100)[4], format!("{}; the same goes for 95 more clients", text(12)));
    }
}
