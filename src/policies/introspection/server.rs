//! Who is asked about tokens, and as whom the gateway asks.

use std::{fmt, sync::Arc};

use super::discovery::Issuer;
use crate::{calls::Destination, document::hash::Stable, policies::form};

/// An authorization server.
#[derive(Clone)]
pub struct AuthorizationServer {
    pub place: Place,
    /// The value of `Authorization`.
    pub authorization: String,
}

/// Where it is asked.
#[derive(Clone)]
pub enum Place {
    Endpoint(Arc<Destination>),
    /// It says so itself.
    Issuer(Arc<Issuer>),
}

impl AuthorizationServer {
    /// One that knows the gateway as a client of its own.
    pub fn of_client(place: Place, id: &str, secret: &str) -> Self {
        Self { place, authorization: form::basic(id, secret) }
    }

    /// The destination that an operator has named.
    pub fn destination(&self) -> &Destination {
        match &self.place {
            Place::Endpoint(destination) => destination,
            Place::Issuer(issuer) => issuer.destination(),
        }
    }

    /// A policy that asks another one, or as somebody else, is another policy.
    pub fn identity(&self) -> u64 {
        let kind = match &self.place {
            Place::Endpoint(_) => "endpoint",
            Place::Issuer(_) => "issuer",
        };
        let destination = self.destination();
        let identity = Stable::new().text(kind).text(&destination.address.target).number(destination.identity());
        identity.text(&self.authorization).finish()
    }
}

/// Nothing of a secret.
impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorizationServer({})", self.destination().address)
    }
}
