//! Keys that would decide which requests a route or a policy takes, where nothing reads them.
//!
//! An unknown key is a warning, since published files have some. One of these is more: without it a route or a policy takes
//! other requests than its author thinks, so the document is refused, and told where the key belongs.

use super::reader::nearest;

/// What a rule may hold.
const ATTRIBUTES: [&str; 4] = ["path", "host", "methods", "headers"];

/// What stands in the `spec` of some kind and decides what is taken or protected.
const OF_SPEC: [&str; 9] =
    ["address", "config", "policies", "policy", "policyRef", "routes", "rules", "services", "targetRef"];

/// Why a section with these fields must not have this key.
pub(super) fn misplaced(key: &str, fields: &[&str]) -> Option<String> {
    let is = |name: &str| key.eq_ignore_ascii_case(name);
    let has = |name: &str| fields.contains(&name);
    let is_attribute = ATTRIBUTES.iter().any(|name| is(name)) || is("method");
    let meant = nearest(key, fields.iter().copied());
    let text = match place(fields)? {
        Place::Rule if is("destinationPath") || is("config") => "belongs beside `rules`, not within a rule".into(),
        Place::Rule => format!("no attribute of a rule, did you mean `{}`? Without it the rule holds for more", meant?),
        Place::Item if is_attribute => format!(
            "belongs in a rule, as in `rules: [{{{}: ...}}]`: here every request would be taken",
            if is("method") { "methods" } else { key }
        ),
        Place::Item if is("destinationPath") && !has("policyRef") => {
            "belongs in `config`: here nothing would be put ahead of the path".into()
        }
        Place::Item if meant == Some("rules") => {
            "unknown key, did you mean `rules`? Without them every request would be taken".into()
        }
        Place::Item if meant == Some("config") && !has("policyRef") => {
            "unknown key, did you mean `config`? Without it nothing would be put ahead of the path".into()
        }
        Place::RouteConfig if is("rules") || is_attribute => {
            "belongs in `rules`, beside `config`: within it every request would be taken".into()
        }
        Place::RouteConfig if meant == Some("destinationPath") => {
            "unknown key, did you mean `destinationPath`? Without it nothing would be put ahead of the path".into()
        }
        Place::Item if !has("policyRef") && (is("policies") || is("policy")) => {
            "belongs in the service, or beside `services`: here nothing would be protected".into()
        }
        Place::Reference if is("labels") && has("selector") => {
            "belongs in `selector`: here every target would be taken".into()
        }
        Place::Reference if is("rules") => "belongs one level up: here every request would be taken".into(),
        Place::Reference if is("destinationPath") => {
            "belongs one level up: here nothing would be put ahead of the path".into()
        }
        Place::Service if is("rules") || is("config") || is("destinationPath") || is_attribute => {
            "belongs in an item of `routes`: here the service would take every request".into()
        }
        Place::Service if meant == Some("routes") => {
            "unknown key, did you mean `routes`? Without them the service would take every request".into()
        }
        Place::Service | Place::Api if meant == Some("policies") || is("policy") => {
            "unknown key, did you mean `policies`? Without them nothing would be protected".into()
        }
        Place::Api if is("destinationPath") => {
            "belongs in `config` of a route: here nothing would be put ahead of the path".into()
        }
        Place::Api if is("hosts") => "belongs in `ringway`: here every host would be answered".into(),
        Place::Envelope if OF_SPEC.iter().any(|name| is(name)) => {
            "belongs in `spec`: here it would decide nothing".into()
        }
        Place::Api if is("routes") || is("rules") => "belongs in a service: here it would decide nothing".into(),
        _ => return None,
    };
    Some(text)
}

enum Place {
    /// An item of `rules`.
    Rule,
    /// What has `rules`: a route, a policy, a binding.
    Item,
    RouteConfig,
    /// `policyRef`, `targetRef`, `destinationRef`.
    Reference,
    /// A service of the inline form.
    Service,
    Api,
    /// A whole document.
    Envelope,
}

/// Sections are known by their fields.
fn place(fields: &[&str]) -> Option<Place> {
    let has = |names: &[&str]| names.iter().all(|name| fields.contains(name));
    Some(if has(&ATTRIBUTES) {
        Place::Rule
    } else if has(&["rules", "config"]) {
        Place::Item
    } else if has(&["destinationPath"]) {
        Place::RouteConfig
    } else if has(&["address", "routes"]) {
        Place::Service
    } else if has(&["address", "services"]) {
        Place::Api
    } else if has(&["apiVersion", "metadata", "spec"]) {
        Place::Envelope
    } else if has(&["name", "namespace", "kind"]) {
        Place::Reference
    } else {
        return None;
    })
}
