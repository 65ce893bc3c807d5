//! Where a Service's endpoints are right now: resolved addresses, and which of them fail their health check.
//!
//! The management thread makes a new table when something changed; the cores read the latest one. It lives here because
//! both sides know it and neither may import the other.

use std::{collections::HashMap, net::SocketAddr};

use super::snapshot::Service;
use crate::{document::address::Endpoint, telemetry::fault::Fault};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointTable {
    /// Every endpoint of the snapshot that has an address, literal ones included, and the forward proxy. Sorted, without
    /// duplicates.
    pub by_endpoint: HashMap<Endpoint, Vec<SocketAddr>>,
    /// By the Service's identity: the same address may be well for one Service and not for another.
    pub unhealthy: HashMap<(u64, Place), Fault>,
    /// Host names of which the last question brought nothing. Addresses from before are still used.
    pub unresolved: HashMap<String, Fault>,
}

/// Where an endpoint of a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub address: SocketAddr,
    /// The address is the forward proxy's, which carries the endpoint that has this place among the Service's.
    pub carried: Option<usize>,
}

impl EndpointTable {
    /// Empty where the name has not been resolved (yet).
    pub fn addresses(&self, endpoint: &Endpoint) -> &[SocketAddr] {
        self.by_endpoint.get(endpoint).map_or(&[], Vec::as_slice)
    }

    /// Of all its endpoints.
    pub fn places<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = Place> + 'a {
        service.dialled().flat_map(|(endpoint, carried)| {
            self.addresses(endpoint).iter().map(move |address| Place { address: *address, carried })
        })
    }

    pub fn is_healthy(&self, service: u64, place: Place) -> bool {
        !self.unhealthy.contains_key(&(service, place))
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self { address, carried: None }
    }
}
