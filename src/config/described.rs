//! What is told of every policy's `config`: also of those that run in no chain, whose fields are read here.

use super::{resources, tls};
use crate::policies::{Described, Entry};

/// `None` for a policy to come.
pub fn described(entry: &Entry) -> Option<Described> {
    entry.described.or(match entry.name {
        "route" => Some(resources::ROUTE),
        "route-weighted" => Some(resources::ROUTE_WEIGHTED),
        "tls" => Some(tls::inbound::DESCRIBED),
        "tls-outbound" => Some(tls::outbound::DESCRIBED),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
