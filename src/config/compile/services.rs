//! Services: where they are, how they are dialled, and what goes there.

use std::sync::Arc;

use super::{Compiler, Owner, is_policy};
use crate::{
    config::{
        model::ServiceModel,
        service_settings,
        snapshot::{Carried, ProxyProtocolVersion, Service},
        tls::{Outbound, Reading},
    },
    document::{
        address::{Scheme, ServiceAddress},
        hash::Stable,
        node::Node,
        problem::Severity,
    },
    policies::{Compiled, Needs, chain::BoundPolicy},
    telemetry::series::{Series, SeriesId},
    tls::ClientContext,
};

pub(super) struct CompiledService {
    pub(super) service: Service,
    pub(super) path: String,
}

impl Compiler<'_> {
    pub(super) fn service(&mut self, model: &ServiceModel) -> Option<CompiledService> {
        let path = format!("{}.address", model.path);
        let location = &model.address.location;
        let address = match ServiceAddress::parse(&model.address.value) {
            Ok(address) => address,
            Err(text) => {
                self.problem(Severity::Error, location, path, text);
                self.for_its_problems(|compiler| drop(compiler.policies(&model.policies, Owner::Service(&model.id))));
                self.limits(model, &mut Vec::new());
                service_settings::read(&model.ringway, &format!("{}.ringway", model.path), self.problems);
                return None;
            }
        };
        if !address.path.is_empty() {
            self.problem(Severity::Warning, location, &path, "the path is put ahead of every destinationPath");
        }
        let mut policies = Vec::new();
        let tls = match address.scheme {
            Scheme::Https => self.outbound_tls(model, &address.endpoint.host),
            Scheme::Http | Scheme::H2 => {
                self.no_outbound_tls(model, address.scheme);
                None
            }
        };
        if address.scheme == Scheme::Https && tls.is_none() {
            policies.push(BoundPolicy {
                name: format!("{}-tls", model.id.name),
                reference: "tls-outbound".to_owned(),
                location: location.clone(),
                identity: Stable::new().text("tls").text(&model.id.to_string()).finish(),
                series: SeriesId::default(),
                policy: Compiled::Broken(format!("{path}: its TLS settings are wrong")),
                needs: Needs::NONE,
                shadow: false,
                rules: Vec::new(),
            });
        }
        let limits = self.limits(model, &mut policies);
        policies.extend(self.policies(&model.policies, Owner::Service(&model.id)));
        self.give_series(&mut policies, Owner::Service(&model.id));
        let settings = service_settings::read(&model.ringway, &format!("{}.ringway", model.path), self.problems);
        let mut endpoints = vec![address.endpoint];
        endpoints.extend(settings.endpoints);
        let mut identity = Stable::new().text("Service").text(&model.id.namespace).text(&model.id.name);
        identity = identity.text(&address.scheme.to_string());
        for endpoint in &endpoints {
            identity = identity.text(&endpoint.host).text(&endpoint.port.to_string());
        }
        // A connection that has begun in one way cannot serve where another is expected.
        identity = identity.text(match settings.proxy_protocol {
            None => "",
            Some(ProxyProtocolVersion::V1) => "PROXY v1",
            Some(ProxyProtocolVersion::V2) => "PROXY v2",
        });
        if let Some(tls) = &tls {
            identity = identity.text(&format!("{:?} {}", tls.name, tls.identity));
        }
        let keeps_host = settings.preserve_host || !self.context.settings.rewrite_host_header;
        let may_be_asked = address.scheme == Scheme::Http && settings.proxy_protocol.is_none() && !keeps_host;
        let carried = Carried::of(self.context.ways.proxy.as_ref(), &endpoints, may_be_asked);
        if let Some(carried) = &carried {
            identity = identity.number(carried.identity());
        }
        let series = (self.intern)(Series::Service { namespace: &model.id.namespace, service: &model.id.name });
        let service = Service {
            namespace: model.id.namespace.clone(),
            name: model.id.name.clone(),
            location: location.clone(),
            identity: identity.finish(),
            series,
            endpoints,
            authority: address.authority,
            load_balancing: settings.load_balancing,
            multiplexes: address.scheme == Scheme::H2,
            keeps_host,
            proxy_protocol: settings.proxy_protocol,
            retries: settings.retries,
            limits,
            health_check: settings.health_check,
            tls,
            carried,
            policies,
        };
        Some(CompiledService { service, path: address.path })
    }

    /// How an https Service is dialled: by its policy, or by the defaults. `None`: in no way.
    fn outbound_tls(&mut self, model: &ServiceModel, host: &str) -> Option<Arc<ClientContext>> {
        let mut bound = model.policies.iter().filter(|attachment| is_policy(attachment, "tls-outbound"));
        let policy = match bound.next() {
            Some(attachment) => self.transport(attachment, Owner::Service(&model.id), Outbound::read),
            None => {
                let (secrets, namespace, path) = (self.context.secrets, "", "");
                let (problems, files) = (&mut *self.problems, &mut self.files);
                let nothing = Node::empty_map(model.address.location.clone());
                Outbound::read(&nothing, Reading { secrets, namespace, path, problems, files })
            }
        };
        for further in bound {
            let path = format!("{}.policyRef.name", further.written.path);
            let text = "a second `tls-outbound` of this Service: the first counts";
            self.problem(Severity::Error, &further.policy.location, path, text);
        }
        match policy?.context(host) {
            Ok(context) => Some(Arc::new(context)),
            Err(text) => {
                let path = format!("{}.address", model.path);
                self.problem(Severity::Error, &model.address.location, path, text);
                None
            }
        }
    }

    fn no_outbound_tls(&mut self, model: &ServiceModel, scheme: Scheme) {
        for attachment in model.policies.iter().filter(|attachment| is_policy(attachment, "tls-outbound")) {
            let path = format!("{}.policyRef.name", attachment.written.path);
            let text = format!("the address is {scheme}: the policy has no effect");
            self.problem(Severity::Warning, &attachment.policy.location, path, text);
        }
    }
}
