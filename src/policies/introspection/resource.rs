//! Metadata of the protected resource (RFC 9728): clients that have no token learn from it whom to ask for one.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{refusal::METADATA, scopes::is_scope};
use crate::{
    document::address::WebAddress,
    http::authority::Authority,
    policies::{ConfigError, Exchange, Fault, Field, LocalResponse, policy::Content},
};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const SERVERS: &str = "ringway.resourceMetadata.authorizationServers";

pub const RESOURCE: Field = Field::new(
    "ringway.resourceMetadata.resource",
    "Resource",
    "What the API is called in its metadata: the public URL of its base. Else as the client calls it.",
);
pub const AUTHORIZATION_SERVERS: Field = Field::new(
    SERVERS,
    "Authorization servers",
    "Issuers whose tokens pass. Required in `resourceMetadata`, unless the Configuration names the issuer.",
);
pub const SCOPES_SUPPORTED: Field =
    Field::new("ringway.resourceMetadata.scopesSupported", "Scopes supported", "Absent: those of `scopes`.");
pub const RESOURCE_NAME: Field =
    Field::new("ringway.resourceMetadata.resourceName", "Name", "What people call the API.");
pub const RESOURCE_DOCUMENTATION: Field =
    Field::new("ringway.resourceMetadata.resourceDocumentation", "Documentation", "A URL, for people.");

/// As the operator writes it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Written {
    resource: Option<String>,
    authorization_servers: Vec<String>,
    scopes_supported: Option<Vec<String>>,
    resource_name: Option<String>,
    resource_documentation: Option<String>,
}

#[derive(Debug)]
pub struct ProtectedResource {
    /// Its identifier, where it is written; else it is what the client calls it.
    identifier: Option<Identifier>,
    /// The document but for its `resource`.
    members: Map<String, Value>,
}

#[derive(Debug)]
struct Identifier {
    resource: String,
    metadata_url: String,
    /// Where RFC 9728, section 3.1, has clients look that were told nothing.
    path: String,
}

impl ProtectedResource {
    /// `scopes`: those that tokens need; `issuer`: whom they are checked with, where that is known.
    pub fn new(written: Written, scopes: &[Box<str>], issuer: Option<&str>, error: &mut ConfigError) -> Self {
        let Written { resource, mut authorization_servers, scopes_supported, resource_name, resource_documentation } =
            written;
        authorization_servers.extend(issuer.filter(|_| authorization_servers.is_empty()).map(str::to_owned));
        if authorization_servers.is_empty() {
            error.add(Fault::at(SERVERS, "must not be empty"));
        }
        for (at, server) in authorization_servers.iter().enumerate() {
            if let Err(why) = WebAddress::parse(server) {
                error.add(Fault::at(format!("{SERVERS}[{at}]"), why));
            }
        }
        let scopes = scopes_supported.unwrap_or_else(|| scopes.iter().map(|scope| scope.to_string()).collect());
        if let Some(at) = scopes.iter().position(|scope| !is_scope(scope)) {
            let field = format!("ringway.resourceMetadata.scopesSupported[{at}]");
            error.add(Fault::at(field, "not a scope of RFC 6749, section 3.3"));
        }
        let identifier = resource.and_then(|resource| {
            let found = Identifier::new(resource);
            found.map_err(|why| error.add(Fault::at("ringway.resourceMetadata.resource", why))).ok()
        });
        let mut members = Map::new();
        members.insert("authorization_servers".into(), json!(authorization_servers));
        if !scopes.is_empty() {
            members.insert("scopes_supported".into(), json!(scopes));
        }
        members.insert("bearer_methods_supported".into(), json!(["header"]));
        let texts = [("resource_name", resource_name), ("resource_documentation", resource_documentation)];
        members.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
        Self { identifier, members }
    }

    /// Where the metadata is, as far as that does not depend on the request.
    pub fn own_metadata_url(&self) -> Option<&str> {
        self.identifier.as_ref().map(|identifier| &*identifier.metadata_url)
    }

    /// Where the metadata is for the client of this request; `None` where it does not say whom it means.
    pub fn metadata_url_of(exchange: &Exchange<'_>) -> Option<String> {
        resource_of(exchange).map(|resource| format!("{resource}{WELL_KNOWN}"))
    }

    /// The document, where it is asked for.
    pub fn answer(&self, exchange: &Exchange<'_>) -> Option<LocalResponse> {
        let path = exchange.path();
        let is_below_base = path.get(exchange.at.base..) == Some(WELL_KNOWN.as_bytes());
        let is_asked =
            is_below_base || self.identifier.as_ref().is_some_and(|identifier| identifier.path.as_bytes() == path);
        if !is_asked || !matches!(exchange.method(), b"GET" | b"HEAD") {
            return None;
        }
        let resource = match &self.identifier {
            Some(identifier) => Cow::from(&identifier.resource),
            None => resource_of(exchange)?.into(),
        };
        let mut document = self.members.clone();
        document.insert("resource".into(), Value::from(resource));
        Some(LocalResponse {
            status: METADATA.status,
            stored: None,
            headers: vec![("cache-control".into(), "max-age=300".into())],
            body: Content::from(Value::from(document).to_string().into_bytes()),
            content_type: Some("application/json"),
            reason: METADATA.reason,
        })
    }
}

impl Identifier {
    fn new(resource: String) -> Result<Self, String> {
        // RFC 9728, section 1.2: https, and no fragment. A query would have to be put behind the path of the document.
        let address = WebAddress::parse(&resource)?;
        if address.target.contains('?') {
            return Err("must have no query".to_owned());
        }
        let path = address.target.trim_end_matches('/');
        let metadata_url = format!("{}{WELL_KNOWN}", resource.trim_end_matches('/'));
        Ok(Self { path: format!("{WELL_KNOWN}{path}"), metadata_url, resource })
    }
}

/// What the client calls the API: the base of its URL.
fn resource_of(exchange: &Exchange<'_>) -> Option<String> {
    let authority = exchange.authority();
    // It stands in quotes, and whoever asks has written it.
    Authority::parse(authority)?;
    let authority = std::str::from_utf8(authority).ok()?;
    let base = std::str::from_utf8(exchange.path().get(..exchange.at.base)?).ok()?;
    let is_plain = |text: &str| text.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'"' | b'\\'));
    (is_plain(authority) && is_plain(base)).then(|| format!("{}://{authority}{base}", exchange.peer.scheme))
}
