//! The limits of a Service: what its `circuit-breaker-flex` and `idle-timeout-flex` say, or else the replica's settings.
//!
//! These policies hold for connections, which carry requests of every API: so they are part of no chain.

use super::{Attachment, Compiler, Owner, is_policy};
use crate::{
    config::{model::ServiceModel, settings::Settings, snapshot::ServiceLimits, substitute},
    document::{hash::Stable, node::Node, problem::Severity},
    policies::{
        self, Compiled, Needs, Policy, Site, chain::BoundPolicy, circuit_breaker::CircuitBreaker,
        idle_timeout::IdleTimeout,
    },
    telemetry::series::SeriesId,
};

impl Compiler<'_> {
    /// What the replica may have of a Service: as its policies say, or else its settings. Of a policy that cannot be built
    /// something that refuses is put into the chain.
    pub(super) fn limits(&mut self, model: &ServiceModel, chain: &mut Vec<BoundPolicy>) -> ServiceLimits {
        let breaker: Option<CircuitBreaker> = self.setting(model, "circuit-breaker-flex", chain);
        let idle: Option<IdleTimeout> = self.setting(model, "idle-timeout-flex", chain);
        let Settings { limits, timeouts, circuit_breaker, .. } = self.context.settings;
        let said = breaker.map(|policy| policy.thresholds).unwrap_or_default().or(*circuit_breaker);
        // There a 0 is no limit; a threshold of 0 is one.
        let pending = Some(limits.pending_requests_per_upstream).filter(|limit| *limit > 0);
        ServiceLimits {
            connections: said.connections.unwrap_or(limits.connections_per_upstream),
            pending_requests: said.pending_requests.or(pending).unwrap_or(usize::MAX),
            requests: said.requests.unwrap_or(usize::MAX),
            retries: said.retries.unwrap_or(usize::MAX),
            connection_idle: idle.map_or(timeouts.upstream_connection_idle, |policy| policy.limit),
        }
    }

    /// What a policy of this name says of the whole Service: the last one, where there are several.
    fn setting<P: Policy>(&mut self, model: &ServiceModel, name: &str, chain: &mut Vec<BoundPolicy>) -> Option<P> {
        let mut said = None;
        for attachment in model.policies.iter().filter(|attachment| is_policy(attachment, name)) {
            let written = &attachment.written;
            let built = self.built::<P>(attachment, Owner::Service(&model.id));
            if let Some(rules) = &written.rules {
                let text = "no effect: the policy is of the whole Service";
                self.problem(Severity::Warning, rules.location(), format!("{}.rules", written.path), text);
            }
            let (location, path) = (&attachment.policy.location, format!("{}.policyRef.name", written.path));
            if attachment.ringway.is_shadow() {
                self.problem(
                    Severity::Warning,
                    location,
                    path,
                    format!("`{name}` in shadow: the Service is as without it"),
                );
                continue;
            }
            match built {
                Ok(policy) => {
                    if said.replace(policy).is_some() {
                        let text = format!("another `{name}` of this Service comes before it; this one counts");
                        self.problem(Severity::Warning, location, path, text);
                    }
                }
                Err(reason) => chain.push(BoundPolicy {
                    name: attachment.id.name.clone(),
                    identity: Stable::new().text(name).text(&model.id.to_string()).text(&reason).finish(),
                    series: SeriesId::default(),
                    policy: Compiled::Broken(reason),
                    needs: Needs::NONE,
                    reference: attachment.policy.value.clone(),
                    location: attachment.policy.location.clone(),
                    shadow: false,
                    rules: Vec::new(),
                }),
            }
        }
        said
    }

    /// A policy that is no part of a chain, or why there is none.
    pub(super) fn built<P: Policy>(&mut self, attachment: &Attachment, owner: Owner<'_>) -> Result<P, String> {
        let path = attachment.config_path();
        let config = attachment.written.config.clone();
        let config = config.unwrap_or_else(|| Node::empty_map(attachment.policy.location.clone()));
        let config = substitute::variables(&config, &path, self.context.environment, self.problems);
        if let Some(reason) = self.misfit(attachment, owner) {
            return Err(format!("{}: {reason}", attachment.written.path));
        }
        let config = config.ok_or_else(|| format!("{path}: an environment variable is not set"))?;
        let (Owner::Api(id) | Owner::Service(id)) = owner;
        policies::build(&config, &path, &mut Site::new(id, &attachment.id, self.context.contracts), self.problems)
    }
}
