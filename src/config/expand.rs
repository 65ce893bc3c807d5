//! Resources to the expanded form: inline parts get their documented names, bindings find their targets.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    environment::Environment,
    model::{ApiModel, Attachment, DEFAULT_ORDER, DestinationModel, Model, RouteModel, ServiceModel, Written},
    resources::{
        ApiInstance, DestinationRef, InlineRoute, InlineService, Kind, PolicyBinding, PolicyRef, PolicyRingway,
        RefusedBinding, Resources, RoutePolicy, Selector, ServiceRingway, TargetRef, WeightedRoutePolicy,
    },
    substitute, tls,
};
use crate::{
    document::{
        Id, Resource, address,
        node::{Located, Node},
        problem::{Location, Problem, Severity},
    },
    policies::{self, Role, contract::Contract},
};

/// Everything in its expanded form, sorted; what has no effect or cannot be right becomes a problem.
pub fn expand(resources: &Resources, environment: &Environment, problems: &mut Vec<Problem>) -> Model {
    let mut expansion = Expansion {
        resources,
        environment,
        problems,
        model: Model::default(),
        apis: HashMap::new(),
        services: HashMap::new(),
    };
    for service in &resources.services {
        expansion.add_service(ServiceModel {
            id: service.id.clone(),
            labels: service.labels.clone(),
            address: service.spec.address.clone(),
            path: format!("{}.spec", service.id.name),
            ringway: service.spec.ringway.clone(),
            policies: Vec::new(),
        });
    }
    for api in &resources.apis {
        expansion.api(api);
    }
    let refused = resources.refused_apis().filter(|api| demands_certificates(&api.spec, environment));
    expansion.model.guarded = refused.map(|api| (api.id.clone(), api.spec.address.clone())).collect();
    for binding in &resources.bindings {
        expansion.binding(binding);
    }
    for binding in &resources.refused_bindings {
        expansion.refused_binding(binding);
    }
    expansion.contracts(&resources.contracts);
    let Expansion { mut model, .. } = expansion;
    for api in &mut model.apis {
        api.policies.sort_by(|one, other| rank(one).cmp(&rank(other)));
        api.routes.sort_by_key(|route| (route.order, route.position));
        // What has errors may say elsewhere than where it is read which requests a route takes.
        if !resources.refused.contains(&(Kind::ApiInstance, api.id.clone())) {
            unreachable_routes(api, problems);
        }
    }
    for service in &mut model.services {
        service.policies.sort_by(|one, other| rank(one).cmp(&rank(other)));
    }
    model
}

/// Warns of routes that no request gets to.
fn unreachable_routes(api: &ApiModel, problems: &mut Vec<Problem>) {
    let mut warn = |location: &Location, path: String, text: String| {
        problems.push(Problem { severity: Severity::Warning, location: location.clone(), path, text });
    };
    let mut routes = api.routes.iter();
    let Some(first) = routes.find(|route| take_everything(route.written.rules.as_ref())) else { return };
    for route in routes {
        let text = format!("no request gets here: route `{}` ahead of it takes every one", first.name);
        warn(&route.written.location, route.written.path.clone(), text);
    }
}

/// CORS first, then by order; inline policies in list order ahead of the bindings of their order, those by identity.
fn rank(attachment: &Attachment) -> (bool, i64, usize, &Id) {
    let cors = policies::lookup(&attachment.policy.value).is_some_and(|entry| entry.name == CORS);
    (!cors, attachment.order, attachment.inline_at.unwrap_or(usize::MAX), &attachment.id)
}

/// Runs ahead of all others, whatever its order and its rules say.
pub const CORS: &str = "cors-flex";

struct Expansion<'r> {
    resources: &'r Resources,
    environment: &'r Environment,
    problems: &'r mut Vec<Problem>,
    model: Model,
    /// Where in the model an API is.
    apis: HashMap<Id, usize>,
    /// Where in the model a service is.
    services: HashMap<Id, usize>,
}

/// What a binding is for.
#[derive(Clone, Copy)]
enum Target {
    Api(usize),
    Service(usize),
}

/// What a reference leads to.
#[derive(Default)]
struct Found {
    targets: Vec<Target>,
    /// By a Selector.
    selected: bool,
    /// The reference is wrong, and these are what it may have meant.
    guessed: bool,
}

impl Expansion<'_> {
    fn problem(&mut self, severity: Severity, location: &Location, path: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem { severity, location: location.clone(), path: path.into(), text: text.into() });
    }

    /// Of two services of one name the inline one stays, which comes second here.
    fn add_service(&mut self, service: ServiceModel) {
        match self.services.get(&service.id) {
            Some(&at) => {
                let text = format!("a second Service `{}`, with the one written inline", service.id);
                self.problem(Severity::Error, &service.address.location, service.path.clone(), text);
                self.model.services[at] = service;
            }
            None => {
                self.services.insert(service.id.clone(), self.model.services.len());
                self.model.services.push(service);
            }
        }
    }

    fn api(&mut self, api: &Resource<ApiInstance>) {
        let index = self.model.apis.len();
        self.apis.insert(api.id.clone(), index);
        self.model.apis.push(ApiModel {
            id: api.id.clone(),
            labels: api.labels.clone(),
            address: api.spec.address.clone(),
            ringway: api.spec.ringway.clone(),
            policies: Vec::new(),
            routes: Vec::new(),
        });
        let mut place = 0;
        for (key, service) in &api.spec.services.0 {
            place = self.inline_service(api, index, key, service, place);
        }
        for (at, policy) in api.spec.policies.iter().enumerate() {
            let path = format!("{}.spec.policies[{at}]", api.id.name);
            let written = self.written(path, &policy.policy_ref, &policy.config, &policy.rules, &policy.ringway);
            let name = format!("{}-{}-{}", api.id.name, policy.policy_ref.name.value, at + 1);
            let attachment = Attachment {
                written,
                kind: Kind::ApiInstance.name(),
                id: Id::new(&api.id.namespace, &name),
                policy: policy.policy_ref.name.clone(),
                order: DEFAULT_ORDER,
                inline_at: Some(at),
                ringway: policy.ringway.clone(),
                selected: false,
                refused: false,
            };
            if is_route(&attachment.policy.value) {
                self.route(index, attachment, (api.position, place + at));
            } else {
                self.model.apis[index].policies.push(attachment);
            }
        }
    }

    /// One service of the inline form with its routes, which begin at `place` within the document.
    fn inline_service(
        &mut self,
        api: &Resource<ApiInstance>,
        index: usize,
        key: &str,
        service: &InlineService,
        place: usize,
    ) -> usize {
        let id = Id::new(&api.id.namespace, &format!("{}-{key}", api.id.name));
        let path = format!("{}.spec.services.{key}", api.id.name);
        let policies = self.outbound_policies(&id, service, &path);
        self.add_service(ServiceModel {
            id: id.clone(),
            labels: BTreeMap::new(),
            address: service.address.clone(),
            path: path.clone(),
            ringway: ServiceRingway::default(),
            policies,
        });
        let all = [InlineRoute::default()];
        let routes = if service.routes.is_empty() { &all[..] } else { &service.routes };
        for (at, route) in routes.iter().enumerate() {
            let path = format!("{path}.routes[{at}]");
            let prefix = self.destination_path(route.config.destination_path.as_ref(), &format!("{path}.config"));
            self.model.apis[index].routes.push(RouteModel {
                written: Written {
                    path,
                    location: service.address.location.clone(),
                    config: None,
                    config_key: "config",
                    rules: route.rules.clone(),
                },
                name: format!("{}-route-{}", id.name, at + 1),
                order: DEFAULT_ORDER,
                position: (api.position, place + at),
                destinations: vec![DestinationModel { weight: 1, service: id.clone(), path: prefix }],
                weighted: false,
            });
        }
        place + routes.len()
    }

    /// The policies of one service of the inline form. What is none of a Service is refused where it is compiled.
    fn outbound_policies(&mut self, service: &Id, inline: &InlineService, path: &str) -> Vec<Attachment> {
        let mut attachments = Vec::with_capacity(inline.policies.len());
        for (at, policy) in inline.policies.iter().enumerate() {
            let path = format!("{path}.policies[{at}]");
            attachments.push(Attachment {
                written: self.written(path, &policy.policy_ref, &policy.config, &policy.rules, &policy.ringway),
                kind: Kind::Service.name(),
                id: Id::new(
                    &service.namespace,
                    &format!("{}-{}-{}", service.name, policy.policy_ref.name.value, at + 1),
                ),
                policy: policy.policy_ref.name.clone(),
                order: DEFAULT_ORDER,
                inline_at: Some(at),
                ringway: policy.ringway.clone(),
                selected: false,
                refused: false,
            });
        }
        attachments
    }

    fn binding(&mut self, binding: &Resource<PolicyBinding>) {
        let spec = &binding.spec;
        let found = self.targets(&binding.id, &binding.location, &spec.target_ref);
        let path = format!("{}.spec", binding.id.name);
        if spec.order.is_some() && is_of_connections(&spec.policy_ref.name.value) {
            let text = "no effect: the policy is of connections, not of a chain";
            self.problem(Severity::Warning, &spec.policy_ref.name.location, format!("{path}.order"), text);
        }
        let written = self.written(path, &spec.policy_ref, &spec.config, &spec.rules, &spec.ringway);
        let attachment = Attachment {
            written,
            kind: Kind::PolicyBinding.name(),
            id: binding.id.clone(),
            policy: spec.policy_ref.name.clone(),
            order: spec.order.unwrap_or(DEFAULT_ORDER),
            inline_at: None,
            ringway: spec.ringway.clone(),
            selected: found.selected,
            refused: found.guessed,
        };
        if found.targets.is_empty() && !is_route(&attachment.policy.value) {
            self.model.orphans.push(attachment.clone());
        }
        for target in found.targets {
            let attachment = attachment.clone();
            match target {
                Target::Api(index) if is_route(&attachment.policy.value) => {
                    self.route(index, attachment, (binding.position, 0));
                }
                Target::Api(index) => self.model.apis[index].policies.push(attachment),
                Target::Service(index) => self.model.services[index].policies.push(attachment),
            }
        }
    }

    /// Which contracts have no effect: of an API that is not there the first is named, since there may be many.
    fn contracts(&mut self, contracts: &[Arc<Resource<Contract>>]) {
        let mut missing = BTreeMap::<Id, Vec<&Resource<Contract>>>::new();
        for contract in contracts {
            let api = Id::new(&contract.id.namespace, &contract.spec.api_id.value);
            if !self.apis.contains_key(&api) && !self.resources.refused.contains(&(Kind::ApiInstance, api.clone())) {
                missing.entry(api).or_default().push(contract);
            }
        }
        for (api, contracts) in missing {
            let Resource { id, spec, .. } = contracts[0];
            let more = match contracts.len() - 1 {
                0 => String::new(),
                more => format!("; the same goes for {more} more contracts"),
            };
            let text = format!("no ApiInstance `{api}`: no effect{more}");
            self.problem(Severity::Warning, &spec.api_id.location, format!("{}.spec.apiId", id.name), text);
        }
    }

    /// Its target must not do without what it was to be governed by. A route governs nothing: it is left out.
    fn refused_binding(&mut self, binding: &RefusedBinding) {
        if is_route(&binding.policy) {
            return;
        }
        let RefusedBinding { id, location, policy, target_ref, rules } = binding;
        let Found { targets, selected, .. } = self.targets(id, location, target_ref);
        for target in targets {
            let policies = match target {
                Target::Api(index) => &mut self.model.apis[index].policies,
                Target::Service(index) => &mut self.model.services[index].policies,
            };
            policies.push(Attachment {
                written: Written {
                    path: format!("{}.spec", id.name),
                    location: location.clone(),
                    config: None,
                    config_key: "config",
                    rules: rules.clone(),
                },
                kind: Kind::PolicyBinding.name(),
                id: id.clone(),
                policy: Located { value: policy.clone(), location: location.clone() },
                order: DEFAULT_ORDER,
                inline_at: None,
                ringway: PolicyRingway::default(),
                selected,
                refused: true,
            });
        }
    }

    /// `config` and `rules`, wherever `config` was put.
    fn written(
        &mut self,
        path: String,
        policy: &PolicyRef,
        config: &Option<Node>,
        rules: &Option<Node>,
        ringway: &PolicyRingway,
    ) -> Written {
        self.idle_options(&path, &policy.name.value, ringway);
        let location = policy.name.location.clone();
        self.only_kind("Extension", policy.kind.as_ref(), &format!("{path}.policyRef"));
        let (config, config_key) = match (config, &policy.config) {
            (Some(config), _) => (Some(config.clone()), "config"),
            (None, Some(config)) => (Some(config.clone()), "policyRef.config"),
            (None, None) => (None, "config"),
        };
        if let Some(misplaced) = &policy.config {
            let text = "belongs beside `policyRef`, not within it";
            self.problem(Severity::Warning, misplaced.location(), format!("{path}.policyRef.config"), text);
        }
        if let Some(rules) = rules
            && is_of_connections(&policy.name.value)
        {
            let text = "no effect: the policy is of connections, and holds for every request on them";
            self.problem(Severity::Warning, rules.location(), format!("{path}.rules"), text);
        }
        Written { path, location, config, config_key, rules: rules.clone() }
    }

    /// Options of other policies.
    fn idle_options(&mut self, path: &str, policy: &str, ringway: &PolicyRingway) {
        let Some(entry) = policies::lookup(policy).filter(|entry| entry.implemented) else { return };
        for (name, location) in ringway.written() {
            if !entry.options.iter().any(|option| option.path == name) {
                let text = format!("no effect: `{}` has no such option", entry.name);
                self.problem(Severity::Warning, location, format!("{path}.ringway.{name}"), text);
            }
        }
    }

    fn targets(&mut self, binding: &Id, location: &Location, target: &TargetRef) -> Found {
        let path = format!("{}.spec.targetRef", binding.name);
        let kind = target.kind.as_ref().map(|kind| kind.value.to_ascii_lowercase());
        if kind.as_deref() == Some("selector") || (kind.is_none() && target.selector.is_some()) {
            return self.selected(location, target.selector.as_ref(), &path);
        }
        let (apis, services, guessed) = match (kind.as_deref(), &target.kind) {
            (Some("apiinstance"), _) => (true, false, false),
            (Some("service"), _) => (false, true, false),
            (_, Some(kind)) => {
                let text = "expected `ApiInstance`, `Service` or `Selector`";
                self.problem(Severity::Error, &kind.location, format!("{path}.kind"), text);
                (true, true, true)
            }
            (_, None) => (true, true, false),
        };
        let Some(name) = &target.name else {
            self.problem(Severity::Error, location, format!("{path}.name"), "required, but missing");
            return Found::default();
        };
        let id = Id::new(target.namespace.as_deref().unwrap_or(&binding.namespace), &name.value);
        if apis && let Some(&index) = self.apis.get(&id) {
            return Found { targets: vec![Target::Api(index)], selected: false, guessed };
        }
        if services && let Some(&index) = self.services.get(&id) {
            return Found { targets: vec![Target::Service(index)], selected: false, guessed };
        }
        let refused = |wanted, kind| wanted && self.resources.refused.contains(&(kind, id.clone()));
        if !refused(apis, Kind::ApiInstance) && !refused(services, Kind::Service) {
            let kind = match (apis, services) {
                (true, true) => "ApiInstance or Service",
                (true, false) => "ApiInstance",
                _ => "Service",
            };
            let text = format!("no {kind} `{id}`: the policy has no effect");
            self.problem(Severity::Warning, &name.location, format!("{path}.name"), text);
        }
        Found::default()
    }

    fn selected(&mut self, location: &Location, selector: Option<&Selector>, path: &str) -> Found {
        let kind = selector.and_then(|selector| selector.kind.as_ref());
        let holds = |of: &BTreeMap<String, String>| {
            let mut wanted = selector.iter().flat_map(|selector| &selector.labels);
            wanted.all(|(name, value)| of.get(name) == Some(value))
        };
        let (services, guessed) = match kind.map(|kind| kind.value.to_ascii_lowercase()).as_deref() {
            None | Some("apiinstance") => (false, false),
            Some("service") => (true, false),
            Some(_) => (false, true),
        };
        let targets: Vec<Target> = if services {
            let services = self.model.services.iter().enumerate();
            services.filter(|(_, service)| holds(&service.labels)).map(|(index, _)| Target::Service(index)).collect()
        } else {
            let apis = self.model.apis.iter().enumerate();
            apis.filter(|(_, api)| holds(&api.labels)).map(|(index, _)| Target::Api(index)).collect()
        };
        if let (true, Some(kind)) = (guessed, kind) {
            let text = "expected `ApiInstance` or `Service`";
            self.problem(Severity::Error, &kind.location, format!("{path}.selector.kind"), text);
        } else if targets.is_empty() {
            let text = "nothing has these labels: the policy has no effect";
            self.problem(Severity::Warning, location, format!("{path}.selector"), text);
        }
        Found { targets, selected: true, guessed }
    }

    /// A `route` or `route-weighted` policy.
    fn route(&mut self, api: usize, attachment: Attachment, position: (usize, usize)) {
        let (config_path, namespace) = (attachment.config_path(), attachment.id.namespace.clone());
        let Attachment { written, id, policy, order, ringway, .. } = attachment;
        if ringway.is_shadow() {
            let (path, text) =
                (format!("{}.ringway.mode", written.path), "a route cannot be in shadow: requests take it");
            self.problem(Severity::Error, &policy.location, path, text);
        }
        let config = written.config.clone().unwrap_or_else(|| Node::empty_map(written.location.clone()));
        let weighted = policies::lookup(&policy.value).is_some_and(|entry| entry.name == "route-weighted");
        let destinations = match substitute::variables(&config, &config_path, self.environment, self.problems) {
            None => Vec::new(),
            Some(config) => match self.destinations(&config, weighted, &config_path, &namespace) {
                Some(destinations) => destinations,
                // An error of the document: the route is left out.
                None => return,
            },
        };
        let name = id.name;
        self.model.apis[api].routes.push(RouteModel { written, name, order, position, destinations, weighted });
    }

    fn destinations(
        &mut self,
        config: &Node,
        weighted: bool,
        path: &str,
        namespace: &str,
    ) -> Option<Vec<DestinationModel>> {
        if !weighted {
            let route: RoutePolicy = config.deserialize(path, self.problems)?;
            let prefix = self.destination_path(route.destination_path.as_ref(), path);
            let service = self.destination(&route.destination_ref, namespace, path);
            return Some(vec![DestinationModel { weight: 1, service, path: prefix }]);
        }
        let routes = config.deserialize::<WeightedRoutePolicy>(path, self.problems)?.routes;
        if routes.is_empty() {
            self.problem(Severity::Error, config.location(), format!("{path}.routes"), "expected at least one route");
            return None;
        }
        let mut destinations = Vec::with_capacity(routes.len());
        for (at, route) in routes.iter().enumerate() {
            let path = format!("{path}.routes[{at}]");
            let prefix = self.destination_path(route.destination_path.as_ref(), &path);
            let service = self.destination(&route.destination_ref, namespace, &path);
            if !(1..=100).contains(&route.weight.value) {
                self.problem(Severity::Error, &route.weight.location, format!("{path}.weight"), "expected 1 to 100");
                return None;
            }
            destinations.push(DestinationModel { weight: route.weight.value, service, path: prefix });
        }
        Some(destinations)
    }

    fn destination(&mut self, reference: &DestinationRef, namespace: &str, path: &str) -> Id {
        self.only_kind("Service", reference.kind.as_ref(), &format!("{path}.destinationRef"));
        let id = Id::new(reference.namespace.as_deref().unwrap_or(namespace), &reference.name.value);
        if !self.services.contains_key(&id) && !self.resources.refused.contains(&(Kind::Service, id.clone())) {
            let text = format!("no Service `{id}`: the route answers 503");
            self.problem(Severity::Warning, &reference.name.location, format!("{path}.destinationRef.name"), text);
        }
        id
    }

    /// A reference that can be of one kind alone.
    fn only_kind(&mut self, expected: &str, written: Option<&Located<String>>, path: &str) {
        if let Some(kind) = written.filter(|kind| !kind.value.eq_ignore_ascii_case(expected)) {
            self.problem(Severity::Warning, &kind.location, format!("{path}.kind"), format!("read as `{expected}`"));
        }
    }

    /// A path to put ahead; a bad one is an error, and nothing is put ahead.
    fn destination_path(&mut self, written: Option<&Located<String>>, path: &str) -> String {
        let Some(written) = written else { return String::new() };
        address::path_prefix(&written.value).unwrap_or_else(|text| {
            self.problem(Severity::Error, &written.location, format!("{path}.destinationPath"), text);
            String::new()
        })
    }
}

/// Whether one of its own `tls` policies demands client certificates.
fn demands_certificates(api: &ApiInstance, environment: &Environment) -> bool {
    let is_tls = |name: &str| policies::lookup(name).is_some_and(|entry| entry.name == "tls");
    let mut tls = api.policies.iter().filter(|policy| is_tls(&policy.policy_ref.name.value));
    tls.any(|policy| {
        let config = policy.config.as_ref().or(policy.policy_ref.config.as_ref());
        config.is_some_and(|config| tls::demands_certificates(config, environment))
    })
}

/// `tls` and `tls-outbound`.
fn is_of_connections(policy: &str) -> bool {
    policies::lookup(policy).is_some_and(|entry| entry.role == Role::Transport)
}

/// Whether rules leave no request to a route behind them. A pattern that says so in another way is not recognised.
fn take_everything(rules: Option<&Node>) -> bool {
    const PATHS: [&str; 6] = [".*", "(.*)", "/.*", "/(.*)", "(/.*)", "(/)(.*)"];
    let any = |rule: &Node| {
        let [entry] = rule.entries() else { return rule.is_null() || rule.is_map() && rule.entries().is_empty() };
        let path = entry.key.eq_ignore_ascii_case("path").then(|| entry.value.as_str()).flatten();
        path.is_some_and(|path| PATHS.contains(&path))
    };
    rules.is_none_or(|rules| rules.is_null() || rules.is_list() && (rules.iter().len() == 0 || rules.iter().any(any)))
}

fn is_route(policy: &str) -> bool {
    policies::lookup(policy).is_some_and(|entry| entry.role == Role::Routing)
}
