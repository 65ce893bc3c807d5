//! Whom policies call over connections of the cores' own: pooled and resolved as a Service is, though none is bound to it.

use std::{slice, sync::Arc};

use crate::{
    calls::Server,
    config::{
        settings::Settings,
        snapshot::{Carried, LoadBalancing, Retries, Service, ServiceLimits},
    },
    document::problem::Location,
    telemetry::series::SeriesId,
};

/// Each of them once, with the replica's limits.
pub(super) fn called(servers: &[Arc<Server>], settings: &Settings) -> Vec<Arc<Service>> {
    let mut called: Vec<Arc<Service>> = Vec::new();
    for server in servers {
        if !called.iter().any(|known| known.identity == server.identity) {
            called.push(Arc::new(service(server, settings)));
        }
    }
    called
}

fn service(server: &Server, settings: &Settings) -> Service {
    let (address, limits) = (&server.destination.address, &settings.limits);
    // There a 0 is no limit.
    let pending = Some(limits.pending_requests_per_upstream).filter(|limit| *limit > 0);
    Service {
        namespace: String::new(),
        name: server.origin(),
        location: Location::default(),
        identity: server.identity,
        series: SeriesId::default(),
        endpoints: vec![address.endpoint.clone()],
        authority: address.authority.clone(),
        load_balancing: LoadBalancing::RoundRobin,
        multiplexes: server.multiplexes,
        keeps_host: false,
        proxy_protocol: None,
        retries: Retries { attempts: 0, connect_failure: false, reset: false, gateway_error: false, budget_percent: 0 },
        limits: ServiceLimits {
            connections: limits.connections_per_upstream,
            pending_requests: pending.unwrap_or(usize::MAX),
            requests: usize::MAX,
            retries: usize::MAX,
            connection_idle: settings.timeouts.upstream_connection_idle,
        },
        health_check: None,
        tls: server.destination.tls.clone(),
        // They ask for whom the client has asked for, which absolute form cannot say.
        carried: Carried::of(server.destination.proxy.as_ref(), slice::from_ref(&address.endpoint), false),
        policies: Vec::new(),
    }
}
