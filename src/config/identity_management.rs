//! `spec.ringway.identityManagement`: the authorization server that is asked about tokens, and as whom. The other product's
//! `spec.identityManagement` is read as the same.

use std::sync::Arc;

use super::{
    effective::Sections,
    resources::{GatewayRingway, IdentityManagement, TokenServer},
    setting::Checked,
};
use crate::{
    calls::{Destination, Ways},
    document::{
        address::WebAddress,
        node::Located,
        problem::{Location, Problem, Severity},
    },
    policies::introspection::{AuthorizationServer, Issuer, Place},
};

const SECTION: &str = "identityManagement";

/// `None` where there is none, or it is wrong.
pub fn read(sections: &Sections, ways: &Arc<Ways>, problems: &mut Vec<Problem>) -> Option<AuthorizationServer> {
    let (GatewayRingway { identity_management: own, .. }, ringway) = sections.section("ringway");
    let (theirs, path) = sections.section::<TokenServer>(SECTION);
    match own {
        Some(own) => {
            if let Some(Located { location, .. }) = theirs.token_url.or(theirs.client_id) {
                let text = "without effect: `ringway.identityManagement` counts".to_owned();
                problems.push(Problem { severity: Severity::Warning, location, path, text });
            }
            let mut checked = Checked { path: format!("{ringway}.{SECTION}"), problems };
            server(own, "introspectionUrl", ways, &mut checked)
        }
        None => {
            let TokenServer { token_url, client_id, client_secret } = theirs;
            let is_there = token_url.is_some() || client_id.is_some() || client_secret.is_some();
            let written = IdentityManagement { introspection_url: token_url, issuer: None, client_id, client_secret };
            let mut checked = Checked { path, problems };
            is_there.then(|| server(written, "tokenUrl", ways, &mut checked)).flatten()
        }
    }
}

/// `url`: what the field of the endpoint is called.
fn server(
    written: IdentityManagement,
    url: &str,
    ways: &Arc<Ways>,
    checked: &mut Checked<'_>,
) -> Option<AuthorizationServer> {
    let IdentityManagement { introspection_url, issuer, client_id, client_secret } = written;
    let places = [&introspection_url, &issuer, &client_id, &client_secret];
    let somewhere = places.into_iter().flatten().next().map_or_else(Location::default, |first| first.location.clone());
    let mut text = |field: &str, written: Option<Located<String>>| {
        let text = written.as_ref().map_or("", |written| written.value.trim()).to_owned();
        if text.is_empty() {
            let location = written.map_or_else(|| somewhere.clone(), |written| written.location);
            checked.error(field, location, "must not be empty".to_owned());
        }
        text
    };
    let (id, secret) = (text("clientId", client_id), text("clientSecret", client_secret));
    let place = match (introspection_url, issuer) {
        (Some(Located { value, location }), None) => {
            let address =
                WebAddress::parse(value.trim()).map_err(|why| checked.error(url, location.clone(), why)).ok()?;
            if address.is_open() {
                checked.warn(url, location, open(&address));
            }
            Place::Endpoint(Arc::new(Destination::new(address, ways)))
        }
        (None, Some(Located { value, location })) => {
            let found = Issuer::new(value.trim(), ways).map_err(|why| checked.error("issuer", location.clone(), why));
            let issuer = found.ok()?;
            if issuer.address().is_open() {
                checked.warn("issuer", location, open(issuer.address()));
            }
            Place::Issuer(Arc::new(issuer))
        }
        (Some(Located { location, .. }), Some(_)) => {
            checked.error(url, location, format!("`{url}` and `issuer` exclude each other"));
            return None;
        }
        (None, None) => {
            let missing = if url == "tokenUrl" { url.to_owned() } else { format!("{url}` or `issuer") };
            checked.error(url, somewhere, format!("`{missing}` is missing: nobody can be asked"));
            return None;
        }
    };
    (!id.is_empty() && !secret.is_empty()).then(|| AuthorizationServer::of_client(place, &id, &secret))
}

fn open(address: &WebAddress) -> String {
    let origin = format!("{}://{}", if address.secure { "https" } else { "http" }, address.authority);
    format!("`{origin}`: whoever is on the way reads tokens and says which are good; write https")
}
