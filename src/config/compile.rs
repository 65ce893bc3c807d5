//! The expanded form to a snapshot: addresses, rules and policies are checked here, and not again.
//!
//! A policy that cannot be built stands in its chain as one that refuses. Anything else that is wrong is an error of its
//! document: the piece is left out, and whoever asked decides whether the rest may serve (`Outcome::accept`).

mod limits;
mod rules;
mod series;
mod servers;
mod services;
mod wants;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use self::wants::Wanted;
use super::{
    bypass, caches,
    environment::Environment,
    expand::CORS,
    model::{ApiModel, Attachment, Model, RouteModel},
    port::{Occupant, Occupied},
    resources::{Extension, Secret},
    settings::Settings,
    shared_storage::SharedStorage,
    snapshot::{Api, ApiIndex, Destination, Listener, Route, Snapshot, Target},
    substitute,
    tls::{Inbound, Outbound, Port, Reading, demands_certificates},
};
use crate::{
    calls::{Server, Ways},
    document::{
        Id, Resource,
        address::{ListenAddress, Scheme, host_pattern},
        hash::Stable,
        node::{Located, Node},
        problem::{Location, Problem, Severity},
    },
    matching::rule::Scratch,
    policies::{
        self, Compiled, Role, Site, chain::BoundPolicy, circuit_breaker::CircuitBreaker, clients::Contracts,
        idle_timeout::IdleTimeout, introspection::AuthorizationServer,
    },
    telemetry::series::{Series, SeriesId},
    tls::{ServerContext, TicketKeys},
};

/// Gives metric series their numbers; `telemetry::series::intern` outside of tests.
pub type Intern<'i> = &'i mut dyn FnMut(Series<'_>) -> SeriesId;

/// What compiling needs to know besides the model.
pub struct Context<'c> {
    pub environment: &'c Environment,
    pub settings: &'c Settings,
    /// Custom policies.
    pub extensions: &'c [Resource<Extension>],
    pub secrets: &'c [Resource<Secret>],
    /// What clients may use which API.
    pub contracts: &'c Contracts,
    /// `None`: no session is taken up again.
    pub tickets: Option<&'c Arc<TicketKeys>>,
    /// How policies' own calls are secured and carried.
    pub ways: &'c Arc<Ways>,
    /// Who is asked about tokens.
    pub authorization_server: Option<&'c AuthorizationServer>,
    pub storage: &'c SharedStorage,
    /// Files that were read for the settings.
    pub files: &'c [PathBuf],
}

/// A snapshot of everything that can be served. Problems are added to `problems`; the snapshot's own list stays empty.
pub fn compile(
    model: &Model,
    context: &Context<'_>,
    generation: u64,
    hash: String,
    intern: Intern<'_>,
    problems: &mut Vec<Problem>,
) -> Snapshot {
    let mut compiler = Compiler {
        context,
        problems,
        patterns: 0,
        services: HashMap::new(),
        taken: BTreeMap::new(),
        secured: secured(model, context.environment),
        proxy_protocol: BTreeMap::new(),
        files: context.files.to_vec(),
        wants: Vec::new(),
        servers: Vec::new(),
        intern,
    };
    let mut services = Vec::new();
    for service in &model.services {
        if let Some(compiled) = compiler.service(service) {
            compiler.services.insert(service.id.clone(), (services.len(), compiled.path));
            services.push(Arc::new(compiled.service));
        }
    }
    let (mut apis, mut served) = (Vec::new(), Vec::new());
    let mut listeners: BTreeMap<SocketAddr, ApiIndex> = BTreeMap::new();
    let mut ports: BTreeMap<SocketAddr, (Port, &ApiModel)> = BTreeMap::new();
    for api in &model.apis {
        let hosts = compiler.hosts(api);
        let Some(address) = compiler.address(api, &hosts) else {
            compiler.for_its_problems(|compiler| drop(compiler.api(api, String::new())));
            continue;
        };
        listeners.entry(address.socket).or_default().insert(&hosts, &address.base, apis.len());
        if compiler.is_https(&address) {
            let (port, _) = ports.entry(address.socket).or_insert_with(|| (Port::default(), api));
            compiler.inbound_tls(api, port);
            compiler.tls_on_http(api, &address);
        } else {
            compiler.no_tls(api);
        }
        apis.push(Arc::new(compiler.api(api, address.base)));
        served.push(api);
    }
    compiler.bypasses(&served, &apis);
    for attachment in &model.orphans {
        compiler.for_its_problems(|compiler| compiler.orphan(attachment));
    }
    compiler.guard(&model.guarded, &mut listeners);
    let mut contexts = BTreeMap::new();
    for (socket, (port, api)) in ports {
        match port.context(socket, context.tickets, compiler.problems) {
            Ok(served) => drop(contexts.insert(socket, Arc::new(served))),
            Err(text) => {
                listeners.remove(&socket);
                let path = format!("{}.spec.address", api.id.name);
                compiler.problem(Severity::Error, &api.address.location, path, text);
            }
        }
    }
    Snapshot {
        generation,
        hash,
        settings: context.settings.clone(),
        listeners: listeners
            .into_iter()
            .map(|(address, apis)| compiler.listener(address, apis, contexts.remove(&address)))
            .collect(),
        apis,
        services,
        called: servers::called(&compiler.servers, context.settings),
        patterns: compiler.patterns,
        wants: wants::shared(&compiler.wants, compiler.problems),
        contracts: context.contracts.clone(),
        storage: context.storage.clone(),
        problems: Vec::new(),
        files: compiler.files,
    }
}

struct Compiler<'c> {
    context: &'c Context<'c>,
    problems: &'c mut Vec<Problem>,
    patterns: usize,
    /// Index into the snapshot, and the path of the service's address.
    services: HashMap<Id, (usize, String)>,
    /// What each port serves already.
    taken: BTreeMap<SocketAddr, Occupied>,
    /// Ports that are served with TLS although an address says http, and the API with the policy that wants it.
    secured: BTreeMap<SocketAddr, Id>,
    /// What an API says first about PROXY protocol on its port, and which one.
    proxy_protocol: BTreeMap<SocketAddr, (bool, Id)>,
    /// Certificates and keys that were read, and whatever else a snapshot is made of besides its documents.
    files: Vec<PathBuf>,
    /// What policies want that will serve.
    wants: Vec<Wanted>,
    /// Whom they call over connections of the cores' own.
    servers: Vec<Arc<Server>>,
    intern: Intern<'c>,
}

/// Where a policy is bound.
#[derive(Clone, Copy)]
enum Owner<'m> {
    Api(&'m Id),
    Service(&'m Id),
}

impl Compiler<'_> {
    fn problem(&mut self, severity: Severity, location: &Location, path: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem { severity, location: location.clone(), path: path.into(), text: text.into() });
    }

    /// Compiles what will not serve: what else is wrong with it should be told as well.
    fn for_its_problems(&mut self, compile: impl FnOnce(&mut Self)) {
        let (wants, servers) = (self.wants.len(), self.servers.len());
        compile(self);
        self.wants.truncate(wants);
        self.servers.truncate(servers);
    }

    /// The hosts that an API answers for.
    fn hosts(&mut self, api: &ApiModel) -> Vec<String> {
        let mut hosts = Vec::new();
        for (at, Located { value, location }) in api.ringway.hosts.iter().enumerate() {
            match host_pattern(value) {
                Ok(host) => hosts.push(host),
                Err(text) => {
                    let path = format!("{}.spec.ringway.hosts[{at}]", api.id.name);
                    self.problem(Severity::Error, location, path, text);
                }
            }
        }
        hosts
    }

    /// Where an API listens, if nothing else has its place.
    fn address(&mut self, api: &ApiModel, hosts: &[String]) -> Option<ListenAddress> {
        let path = format!("{}.spec.address", api.id.name);
        let location = &api.address.location;
        let address = match ListenAddress::parse(&api.address.value) {
            Ok(address) => address,
            Err(text) => {
                self.problem(Severity::Error, location, path, text);
                return None;
            }
        };
        if self.context.settings.probe_port == Some(address.socket.port()) {
            self.problem(Severity::Error, location, path, "the port is that of the probe");
            return None;
        }
        let https = self.is_https(&address);
        let taken = self.taken.entry(address.socket).or_default();
        let clash = taken.clash(&address.base, hosts);
        // Of what stands in the way the first is told; all of a port are served alike.
        let other = taken.first().filter(|other| other.https != https);
        let text = match (clash, other) {
            (Some(clash), other) if other.is_none_or(|other| other.api == clash.api) => {
                format!("the base path clashes with that of ApiInstance `{}` on the same port", clash.api)
            }
            (_, Some(other)) => {
                let scheme = if other.https { Scheme::Https } else { Scheme::Http };
                format!("ApiInstance `{}` uses the port for {scheme}", other.api)
            }
            _ => {
                taken.add(&address.base, hosts, Occupant { https, api: api.id.clone() });
                self.proxy_protocol(api, address.socket);
                return Some(address);
            }
        };
        self.problem(Severity::Error, location, path, text);
        None
    }

    /// Whether its port is served with TLS: what an address says is not all.
    fn is_https(&self, address: &ListenAddress) -> bool {
        address.scheme == Scheme::Https || self.secured.contains_key(&address.socket)
    }

    /// An address that says http, on a port that is served with TLS.
    fn tls_on_http(&mut self, api: &ApiModel, address: &ListenAddress) {
        let Some(by) = self.secured.get(&address.socket).filter(|_| address.scheme == Scheme::Http) else { return };
        let text = if *by == api.id {
            "the address says http, but a `tls` policy is bound to it: the port is for TLS alone; write https".into()
        } else {
            format!(
                "the address says http, but the `tls` policy of ApiInstance `{by}` is for the same port: it is for TLS alone; write https"
            )
        };
        let path = format!("{}.spec.address", api.id.name);
        self.problem(Severity::Warning, &api.address.location, path, text);
    }

    /// Takes away the ports on which an API that has errors demands client certificates: nobody is served there without.
    fn guard(&mut self, guarded: &[(Id, Located<String>)], listeners: &mut BTreeMap<SocketAddr, ApiIndex>) {
        for (api, address) in guarded {
            let Ok(ListenAddress { socket, .. }) = ListenAddress::parse(&address.value) else { continue };
            let shared = self.taken.get(&socket).is_some_and(|taken| taken.iter().any(|other| other.api != *api));
            if shared && listeners.remove(&socket).is_some() {
                let text = "it demands client certificates and has errors: its port is not opened for others either";
                let path = format!("{}.spec.address", api.name);
                self.problem(Severity::Error, &address.location, path, text);
            }
        }
    }

    /// The header comes before anything tells which API is meant, so those of a port cannot differ.
    fn proxy_protocol(&mut self, api: &ApiModel, socket: SocketAddr) {
        let Some(written) = &api.ringway.proxy_protocol else { return };
        match self.proxy_protocol.get(&socket) {
            None => {
                self.proxy_protocol.insert(socket, (written.value, api.id.clone()));
            }
            Some((first, by)) if *first != written.value => {
                let text = format!("ApiInstance `{by}` says `{first}` for the same port, and counts");
                let path = format!("{}.spec.ringway.proxyProtocol", api.id.name);
                self.problem(Severity::Error, &written.location, path, text);
            }
            Some(_) => {}
        }
    }

    fn listener(&self, address: SocketAddr, apis: ApiIndex, tls: Option<Arc<ServerContext>>) -> Listener {
        let said = self.proxy_protocol.get(&address).map(|(said, _)| *said);
        let proxy_protocol = said.unwrap_or(self.context.settings.proxy_protocol.enabled);
        Listener { address, proxy_protocol, apis, tls }
    }

    fn api(&mut self, model: &ApiModel, base: String) -> Api {
        let Id { namespace, name } = &model.id;
        let mut policies = self.policies(&model.policies, Owner::Api(&model.id));
        self.give_series(&mut policies, Owner::Api(&model.id));
        Api {
            namespace: namespace.clone(),
            name: name.clone(),
            location: model.address.location.clone(),
            base,
            series: (self.intern)(Series::Api { namespace, api: name }),
            policies,
            routes: model.routes.iter().filter_map(|route| self.route(&model.id, route)).collect(),
        }
    }

    /// What can be passed by: rules with another way to write their path, and policies by what a cache has stored.
    fn bypasses(&mut self, models: &[&ApiModel], apis: &[Arc<Api>]) {
        let mut scratch = Scratch::new(self.patterns);
        for (model, api) in models.iter().zip(apis) {
            let of_chain = || model.policies.iter().filter(|attachment| !is_policy(attachment, "tls"));
            bypass::check(model, api, of_chain(), &mut scratch, self.problems);
            caches::check(model, api, of_chain(), self.context.storage, self.problems);
        }
    }

    /// A route whose rules do not compile is left out: an error of its document.
    fn route(&mut self, api: &Id, model: &RouteModel) -> Option<Route> {
        let rules = self.rules(&model.written, Severity::Error).ok()?;
        let destination = |model: &super::model::DestinationModel| match self.services.get(&model.service) {
            Some((index, prefix)) => Destination { service: Some(*index), path: format!("{prefix}{}", model.path) },
            None => Destination { service: None, path: String::new() },
        };
        let target = match model.destinations.as_slice() {
            [] => Target::One(Destination { service: None, path: String::new() }),
            [only] => Target::One(destination(only)),
            several => Target::Weighted {
                choices: several.iter().map(|choice| (choice.weight, destination(choice))).collect(),
                sum: several.iter().map(|choice| choice.weight).sum(),
            },
        };
        let series = Series::Route { namespace: &api.namespace, api: &api.name, route: &model.name };
        // An inline route without rules is all that its Service has.
        let location = model.written.rules.as_ref().map_or(&model.written.location, Node::location).clone();
        Some(Route { name: model.name.clone(), location, series: (self.intern)(series), rules, target })
    }

    /// Of a chain: what belongs to the connections is none of it.
    fn policies(&mut self, attachments: &[Attachment], owner: Owner<'_>) -> Vec<BoundPolicy> {
        let of_connections = match owner {
            Owner::Api(_) => "tls",
            Owner::Service(_) => "tls-outbound",
        };
        let is_of_chain = |attachment: &&Attachment| {
            let is_setting = matches!(owner, Owner::Service(_)) && has_role(attachment, Role::Setting);
            !is_setting && !is_policy(attachment, of_connections)
        };
        let of_chain = attachments.iter().filter(is_of_chain);
        let mut chain: Vec<BoundPolicy> = Vec::new();
        let mut limiters = Vec::new();
        let is_cors = |policy: &str| policies::lookup(policy).is_some_and(|entry| entry.name == CORS);
        for attachment in of_chain {
            let first = chain.iter().find(|before| is_cors(&before.reference) && is_cors(&attachment.policy.value));
            if let Some(first) = first {
                let path = format!("{}.policyRef.name", attachment.written.path);
                let text = format!("a second `{CORS}` of this API: `{}` counts", first.name);
                self.problem(Severity::Warning, &attachment.policy.location, path, text);
            }
            let mut bound = self.policy(attachment, owner, &mut limiters);
            let of_one_kind = bound.identity;
            // Equal ones are told apart by their order among themselves, not by their place in the list.
            for at in 1.. {
                if !chain.iter().any(|before| before.identity == bound.identity) {
                    break;
                }
                bound.identity = Stable::new().number(of_one_kind).number(at).finish();
            }
            chain.push(bound);
        }
        chain
    }

    /// What the `tls` policies of an API say of its port.
    fn inbound_tls(&mut self, api: &ApiModel, port: &mut Port) {
        for attachment in api.policies.iter().filter(|attachment| is_policy(attachment, "tls")) {
            match self.transport(attachment, Owner::Api(&api.id), Inbound::read) {
                Some(policy) => port.add(policy),
                None => port.broken = true,
            }
        }
    }

    /// An address without TLS, where a Selector's policy has nothing to do.
    fn no_tls(&mut self, api: &ApiModel) {
        for attachment in api.policies.iter().filter(|attachment| is_policy(attachment, "tls")) {
            let path = format!("{}.policyRef.name", attachment.written.path);
            let text = format!(
                "the address of ApiInstance `{}` is http: this policy of a Selector has no effect on it",
                api.id
            );
            self.problem(Severity::Warning, &attachment.policy.location, path, text);
        }
    }

    /// A policy of the connections, read.
    fn transport<T>(
        &mut self,
        attachment: &Attachment,
        owner: Owner<'_>,
        read: impl FnOnce(&Node, Reading<'_>) -> Option<T>,
    ) -> Option<T> {
        let written = &attachment.written;
        let path = attachment.config_path();
        let config = written.config.clone().unwrap_or_else(|| Node::empty_map(attachment.policy.location.clone()));
        if self.misfit(attachment, owner).is_some() {
            return None;
        }
        let config = substitute::variables(&config, &path, self.context.environment, self.problems)?;
        let (secrets, namespace) = (self.context.secrets, attachment.id.namespace.as_str());
        let (problems, files) = (&mut *self.problems, &mut self.files);
        read(&config, Reading { secrets, namespace, path: &path, problems, files })
    }

    /// `limiters`: those of the policies ahead of it.
    fn policy(&mut self, attachment: &Attachment, owner: Owner<'_>, limiters: &mut Vec<u64>) -> BoundPolicy {
        let written = &attachment.written;
        let path = attachment.config_path();
        let config = written.config.clone().unwrap_or_else(|| Node::empty_map(attachment.policy.location.clone()));
        let (owner_kind, owner_id) = match owner {
            Owner::Api(id) => ("ApiInstance", id),
            Owner::Service(id) => ("Service", id),
        };
        let mut identity = Stable::new().text(owner_kind).text(&owner_id.to_string()).text(&attachment.policy.value);
        let rules = written.rules.as_ref().map(|rules| rules.to_json().to_string()).unwrap_or_default();
        let environment = self.context.environment;
        let variables = |name: &str| environment.filled(name).map(str::to_owned);
        let mut site = Site::new(owner_id, &attachment.id, self.context.contracts)
            .with_variables(&variables)
            .with_options(attachment.ringway.options())
            .with_ways(self.context.ways)
            .with_authorization_server(self.context.authorization_server)
            .with_limiters(rules, std::mem::take(limiters));
        let config = substitute::variables(&config, &path, self.context.environment, self.problems);
        let mut policy = match (self.misfit(attachment, owner), &config) {
            (Some(reason), _) => Compiled::Broken(format!("{}: {reason}", written.path)),
            (None, None) => Compiled::Broken(format!("{path}: an environment variable is not set")),
            (None, Some(config)) => {
                policies::compile(&attachment.policy.value, config, &path, &mut site, self.problems)
            }
        };
        *limiters = site.take_limiters();
        let cors = policies::lookup(&attachment.policy.value).is_some_and(|entry| entry.name == CORS);
        // A broken policy governs what its rules select; where the rules are broken, everything.
        let rules = self.rules(written, Severity::Policy).unwrap_or_else(|()| {
            policy = Compiled::Broken(format!("{}.rules: a rule is wrong", written.path));
            Vec::new()
        });
        if let Some(node) = written.rules.as_ref().filter(|_| cors && !rules.is_empty()) {
            let text = "without effect: cors-flex applies to every request of its API";
            self.problem(Severity::Warning, node.location(), format!("{}.rules", written.path), text);
        }
        if let Some(config) = config {
            identity = identity.text(&config.to_json().to_string());
            if !matches!(policy, Compiled::Broken(_)) {
                self.servers.extend(site.take_servers());
                self.wants.extend(site.take_wants().into_iter().map(|want| Wanted::by(want, &config, &path)));
            }
        }
        BoundPolicy {
            name: attachment.id.name.clone(),
            reference: attachment.policy.value.clone(),
            location: attachment.policy.location.clone(),
            identity: identity.number(site.identity()).finish(),
            series: SeriesId::default(),
            needs: policy.needs(),
            policy,
            shadow: attachment.ringway.is_shadow(),
            rules: if cors { Vec::new() } else { rules },
        }
    }

    /// What is wrong with a policy that governs nothing: whoever checks a file of bindings alone is told as well.
    fn orphan(&mut self, attachment: &Attachment) {
        let nobody = Id::new("", "");
        let entry = policies::lookup(&attachment.policy.value);
        let owner = match entry.map(|entry| (entry.role, entry.name)) {
            Some((Role::Outbound | Role::Setting, _) | (Role::Transport, "tls-outbound")) => Owner::Service(&nobody),
            _ => Owner::Api(&nobody),
        };
        match entry.map(|entry| entry.name) {
            Some("tls") => drop(self.transport(attachment, owner, Inbound::read)),
            Some("tls-outbound") => drop(self.transport(attachment, owner, Outbound::read)),
            Some("circuit-breaker-flex") => drop(self.built::<CircuitBreaker>(attachment, owner)),
            Some("idle-timeout-flex") => drop(self.built::<IdleTimeout>(attachment, owner)),
            _ => drop(self.policy(attachment, owner, &mut Vec::new())),
        }
    }

    /// Why a policy cannot be where it is, before anyone looks at its configuration.
    fn misfit(&mut self, attachment: &Attachment, owner: Owner<'_>) -> Option<String> {
        if attachment.refused {
            return Some("its document has errors".into());
        }
        let name = &attachment.policy.value;
        let path = format!("{}.policyRef.name", attachment.written.path);
        let location = &attachment.policy.location;
        let Some(entry) = policies::lookup(name) else {
            if self.context.extensions.iter().any(|extension| extension.id.name == *name) {
                let text = format!("custom policy `{name}` is not supported: not implemented yet");
                self.problem(Severity::Warning, location, path, &text);
                return Some(text);
            }
            let meant = policies::meant(name);
            let meant = meant.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            let text = format!("no policy `{name}`, and no Extension of that name{meant}");
            self.problem(Severity::Policy, location, path, &text);
            return Some(text);
        };
        if attachment.ringway.is_shadow() && entry.role == Role::Transport {
            let (path, text) = (format!("{}.ringway.mode", attachment.written.path), "connections have no shadow");
            self.problem(Severity::Policy, location, path, text);
            return Some(text.into());
        }
        let fits = match (entry.role, owner) {
            (Role::Inbound, Owner::Api(_)) | (Role::Outbound | Role::Setting, Owner::Service(_)) => true,
            (Role::Transport, Owner::Api(_)) => entry.name == "tls",
            (Role::Transport, Owner::Service(_)) => entry.name == "tls-outbound",
            _ => false,
        };
        if fits && entry.implemented {
            return None;
        }
        if fits {
            let text = format!("`{name}`: not implemented yet");
            self.problem(Severity::Warning, location, path, &text);
            return Some(text);
        }
        let text = match owner {
            Owner::Api(_) => format!("`{name}` is for a Service, not for an ApiInstance"),
            Owner::Service(_) => format!("`{name}` is for an ApiInstance, not for a Service"),
        };
        self.problem(Severity::Policy, location, path, &text);
        Some(text)
    }
}

/// The ports that an API's `tls` policy turns to TLS although its address says http: one that was given to this API does, and
/// one that a Selector gave to many where it demands client certificates. Plain text is never served where one must be shown.
fn secured(model: &Model, environment: &Environment) -> BTreeMap<SocketAddr, Id> {
    let wants = |attachment: &Attachment| {
        let demands = || {
            attachment.refused
                || attachment.written.config.as_ref().is_some_and(|config| demands_certificates(config, environment))
        };
        is_policy(attachment, "tls") && (!attachment.selected || demands())
    };
    let mut secured = BTreeMap::new();
    for api in model.apis.iter().filter(|api| api.policies.iter().any(wants)) {
        if let Ok(address) = ListenAddress::parse(&api.address.value)
            && address.scheme == Scheme::Http
        {
            secured.entry(address.socket).or_insert_with(|| api.id.clone());
        }
    }
    secured
}

fn has_role(attachment: &Attachment, role: Role) -> bool {
    policies::lookup(&attachment.policy.value).is_some_and(|entry| entry.role == role)
}

fn is_policy(attachment: &Attachment, name: &str) -> bool {
    policies::lookup(&attachment.policy.value).is_some_and(|entry| entry.name == name)
}
