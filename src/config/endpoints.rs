//! Where a Service's endpoints are right now: resolved addresses, and which of them fail their health check.
//!
//! The management thread makes a new table when something changed; the cores read the latest one. It lives here because
//! both sides know it and neither may import the other.

use crate::telemetry::fault::Fault;
use std::{collections::HashMap, net::SocketAddr};

use crate::document::address::Endpoint;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointTable {
    /// Every endpoint of the snapshot that has an address, literal ones included. Sorted, without duplicates.
    pub by_endpoint: HashMap<Endpoint, Vec<SocketAddr>>,
    /// By the Service's identity: the same address may be well for one Service and not for another.
    pub unhealthy: HashMap<(u64, SocketAddr), Fault>,
    /// Host names of which the last question brought nothing. Addresses from before are still used.
    pub unresolved: HashMap<String, Fault>,
}

impl EndpointTable {
    /// Empty where the name has not been resolved (yet).
    pub fn addresses(&self, endpoint: &Endpoint) -> &[SocketAddr] {
        self.by_endpoint.get(endpoint).map_or(&[], Vec::as_slice)
    }

    pub fn is_healthy(&self, service: u64, address: SocketAddr) -> bool {
        !self.unhealthy.contains_key(&(service, address))
    }
}
