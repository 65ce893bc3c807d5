//! The expanded form as JSON: for `dump`, for the `/config` page, and for the hash of a configuration.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use super::{
    load::Loaded,
    model::{ApiModel, Attachment, Model, ROUTER_ORDER, RouteModel, ServiceModel, Written},
    resources::{LoadBalancing, RetryOn, ServiceRingway},
    settings::{ServerHeader, Settings, TrustedProxies},
};
use crate::{
    document::{
        Id, Resource,
        node::{Node, nearest},
    },
    policies::contract::{ClientSecret, Contract},
};

/// What stands in the place of a secret.
pub const REDACTED: &str = "***";

/// `apiInstances`, `services`, `configuration`, `extensions`; secrets redacted.
pub fn dump_json(loaded: &Loaded) -> Value {
    let model = loaded.expand(&mut Vec::new());
    let mut dump = unredacted(loaded, &model);
    dump["configuration"]["contracts"] = contracts(loaded).into();
    Redaction::new(sensitive_properties(loaded)).redact(&mut dump);
    dump
}

/// With every secret in it, and without contracts, which are known by what was made of them: for hashing, never for showing.
pub(super) fn unredacted(loaded: &Loaded, model: &Model) -> Value {
    let resources = &loaded.resources;
    let mut apis: Vec<_> = model.apis.iter().collect();
    apis.sort_by_key(|api| &api.id);
    let mut services: Vec<_> = model.services.iter().collect();
    services.sort_by_key(|service| &service.id);
    let mut secrets: Vec<_> = resources.secrets.iter().collect();
    secrets.sort_by_key(|secret| &secret.id);
    let mut extensions: Vec<_> = resources.extensions.iter().collect();
    extensions.sort_by_key(|extension| &extension.id);
    let extension = |id: &Id, labels, spec: &Node| resource("Extension", id, labels, spec.to_json());
    json!({
        "apiInstances": apis.iter().map(|api| api_json(api)).collect::<Vec<_>>(),
        "services": services.iter().map(|service| service_json(service)).collect::<Vec<_>>(),
        "configuration": {
            "spec": loaded.sections.to_json(),
            "effective": settings_json(&loaded.settings),
            "certificates": secrets.iter().map(|secret| json!({
                "name": secret.id.name,
                "namespace": secret.id.namespace,
                "crt": secret.spec.tls.as_ref().and_then(|tls| tls.crt.as_deref()),
                "key": secret.spec.tls.as_ref().and_then(|tls| tls.key.as_deref()),
            })).collect::<Vec<_>>(),
        },
        "extensions": extensions
            .iter()
            .map(|resource| extension(&resource.id, json!(resource.labels), &resource.spec.0))
            .collect::<Vec<_>>(),
    })
}

fn contracts(loaded: &Loaded) -> Vec<Value> {
    let contract = |contract: &Arc<Resource<Contract>>| {
        let spec = &contract.spec;
        json!({
            "name": contract.id.name,
            "namespace": contract.id.namespace,
            "apiId": spec.api_id.value,
            "client": {
                "id": spec.client.id,
                "name": spec.client.name,
                "secret": spec.client.secret.as_ref().map(ClientSecret::identity),
            },
            "sla": spec.sla.as_ref().map(|sla| json!({
                "id": sla.id,
                "name": sla.name,
                "limits": sla.limits().iter().map(|limit| json!({
                    "maximumRequests": limit.maximum_requests,
                    "timePeriodInMilliseconds": limit.time_period_in_milliseconds,
                })).collect::<Vec<_>>(),
            })),
        })
    };
    let mut contracts: Vec<_> = loaded.resources.contracts.iter().collect();
    contracts.sort_by_key(|contract| &contract.id);
    contracts.into_iter().map(contract).collect()
}

fn resource(kind: &str, id: &Id, labels: Value, spec: Value) -> Value {
    json!({
        "apiVersion": "gateway.mulesoft.com/v1beta1",
        "kind": kind,
        "metadata": { "name": id.name, "namespace": id.namespace, "labels": labels },
        "spec": spec,
    })
}

fn api_json(api: &ApiModel) -> Value {
    let mut policies: Vec<Value> = api.policies.iter().map(attachment_json).collect();
    policies.extend(api.routes.iter().map(|route| route_json(route, &api.id)));
    policies.push(json!({ "name": format!("{}-router", api.id.name), "order": ROUTER_ORDER }));
    let hosts: Vec<_> = api.ringway.hosts.iter().map(|host| &host.value).collect();
    let proxy_protocol = api.ringway.proxy_protocol.as_ref().map(|said| said.value);
    let ringway = json!({ "hosts": hosts, "proxyProtocol": proxy_protocol });
    let spec = json!({ "address": api.address.value, "policies": policies, "ringway": ringway });
    resource("ApiInstance", &api.id, json!(api.labels), spec)
}

fn service_json(service: &ServiceModel) -> Value {
    let policies: Vec<Value> = service.policies.iter().map(attachment_json).collect();
    let spec = json!({
        "address": service.address.value,
        "policies": policies,
        "ringway": ringway_json(&service.ringway),
    });
    resource("Service", &service.id, json!(service.labels), spec)
}

fn ringway_json(ringway: &ServiceRingway) -> Value {
    let on = |reason: &RetryOn| match reason {
        RetryOn::ConnectFailure => "connectFailure",
        RetryOn::Reset => "reset",
        RetryOn::GatewayError => "gatewayError",
    };
    json!({
        "endpoints": ringway.endpoints.iter().map(|endpoint| &endpoint.value).collect::<Vec<_>>(),
        "loadBalancing": match ringway.load_balancing {
            LoadBalancing::RoundRobin => "roundRobin",
            LoadBalancing::LeastRequests => "leastRequests",
        },
        "preserveHost": ringway.preserve_host,
        "retries": {
            "attempts": ringway.retries.attempts.as_ref().map(|attempts| attempts.value),
            "on": ringway.retries.on.as_ref().map(|reasons| reasons.value.iter().map(on).collect::<Vec<_>>()),
            "budgetPercent": ringway.retries.budget_percent.as_ref().map(|percent| percent.value),
        },
        "healthCheck": ringway.health_check.as_ref().map(|check| json!({
            "path": check.path.as_ref().map(|path| &path.value),
            "intervalSeconds": check.interval_seconds.as_ref().map(|seconds| seconds.value),
            "timeoutSeconds": check.timeout_seconds.as_ref().map(|seconds| seconds.value),
            "unhealthyThreshold": check.unhealthy_threshold.as_ref().map(|threshold| threshold.value),
            "healthyThreshold": check.healthy_threshold.as_ref().map(|threshold| threshold.value),
        })),
    })
}

fn attachment_json(attachment: &Attachment) -> Value {
    let mut policy = Map::new();
    policy.insert("name".into(), attachment.id.name.clone().into());
    policy.insert("namespace".into(), attachment.id.namespace.clone().into());
    policy.insert("policyRef".into(), json!({ "name": attachment.policy.value, "kind": "Extension" }));
    policy.insert("order".into(), attachment.order.into());
    written_json(&attachment.written, &mut policy);
    policy.entry("config").or_insert_with(|| json!({}));
    policy.into()
}

fn route_json(route: &RouteModel, api: &Id) -> Value {
    let destination = |service: &Id, path: &str| {
        json!({
            "destinationRef": { "kind": "Service", "name": service.name, "namespace": service.namespace },
            "destinationPath": if path.is_empty() { "/" } else { path },
        })
    };
    let config = match route.destinations.as_slice() {
        [only] if !route.weighted => destination(&only.service, &only.path),
        several => {
            let weighted = several.iter().map(|choice| {
                let mut json = destination(&choice.service, &choice.path);
                json["weight"] = choice.weight.into();
                json
            });
            json!({ "routes": weighted.collect::<Vec<_>>() })
        }
    };
    let mut policy = Map::new();
    policy.insert("name".into(), route.name.clone().into());
    policy.insert("namespace".into(), api.namespace.clone().into());
    let name = if route.weighted { "route-weighted" } else { "route" };
    policy.insert("policyRef".into(), json!({ "name": name, "kind": "Extension" }));
    policy.insert("order".into(), route.order.into());
    written_json(&route.written, &mut policy);
    policy.insert("config".into(), config);
    policy.into()
}

fn written_json(written: &Written, policy: &mut Map<String, Value>) {
    if let Some(rules) = &written.rules {
        policy.insert("rules".into(), rules.to_json());
    }
    if let Some(config) = &written.config {
        policy.insert("config".into(), config.to_json());
    }
}

fn networks(list: &TrustedProxies) -> Vec<String> {
    list.0.iter().map(ToString::to_string).collect()
}

fn settings_json(settings: &Settings) -> Value {
    json!({
        "name": settings.name.text,
        "replica": settings.replica,
        "limits": settings.limits.to_json(),
        "timeouts": settings.timeouts.to_json(),
        "circuitBreaker": {
            "maxConnections": settings.circuit_breaker.connections,
            "maxPendingRequests": settings.circuit_breaker.pending_requests,
            "maxRequests": settings.circuit_breaker.requests,
            "maxRetries": settings.circuit_breaker.retries,
        },
        "listeners": { "h2c": settings.h2c },
        "connections": settings.connections.to_json(),
        "cache": settings.cache.to_json(),
        "proxyProtocol": { "enabled": settings.proxy_protocol.enabled, "from": networks(&settings.proxy_protocol.from) },
        "trustedProxies": networks(&settings.trusted_proxies),
        "serverHeader": match &settings.server_header {
            ServerHeader::Default => Value::Null,
            ServerHeader::Name(name) => name.clone().into(),
            ServerHeader::None => "".into(),
            ServerHeader::Remove => false.into(),
        },
        "via": &settings.via,
        "forwardClientCert": format!("{:?}", settings.forward_client_cert),
        "rewriteHostHeader": settings.rewrite_host_header,
        "preserveRequestId": settings.preserve_request_id,
        "rawHeaderValues": settings.raw_header_values,
        "probePort": settings.probe_port,
        "accessLog": settings.access_log.as_ref().map(|log| json!({
            "format": if log.json { "json" } else { "text" },
            "path": log.path.as_ref().map_or("stdout".into(), |path| path.display().to_string()),
        })),
    })
}

/// What has been found out of keys: a configuration has few of them, however often each comes up.
struct Redaction {
    /// Beside those that are sensitive everywhere.
    sensitive: HashSet<String>,
    known: HashMap<String, bool>,
}

impl Redaction {
    /// `sensitive` is in lower case.
    fn new(sensitive: HashSet<String>) -> Self {
        Self { sensitive, known: HashMap::new() }
    }

    fn hides(&mut self, key: &str) -> bool {
        if let Some(hidden) = self.known.get(key) {
            return *hidden;
        }
        let hidden = is_sensitive(key) || self.sensitive.contains(&key.to_ascii_lowercase());
        self.known.insert(key.to_owned(), hidden);
        hidden
    }

    /// Replaces what lies under a sensitive key, at any depth. Values that were empty stay, so that one sees they are.
    fn redact(&mut self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(entries) => {
                // `{key: Authorization, value: ...}` is a header or a claim: its key is a name, which says what the value is.
                let name = entries.get("key").or_else(|| entries.get("name"));
                let name = name.and_then(Value::as_str).map(str::to_owned);
                let name = name.filter(|_| entries.contains_key("value"));
                for (key, value) in entries {
                    let hidden = match (&name, key.as_str()) {
                        (Some(_), "key") => false,
                        // Nobody knows what a computed name becomes.
                        (Some(name), "value") => is_sensitive(name) || names_credential(name) || name.contains("#["),
                        _ => self.hides(key),
                    };
                    match value {
                        _ if hidden => self.hide(value),
                        Value::String(text) if key.to_ascii_lowercase().ends_with("url") || is_address(text) => {
                            *text = without_queries(text);
                        }
                        _ => self.redact(value),
                    }
                }
            }
            Value::String(text) if text.starts_with("base64://") => *value = "base64://...".into(),
            Value::String(text) if text.contains(' ') && names_credential(text) => *value = REDACTED.into(),
            Value::String(text) if is_address_with_password(text) => *value = REDACTED.into(),
            _ => {}
        }
    }

    /// A map under a sensitive key is a section of that name (`credentials: {...}`), and a boolean is no secret.
    fn hide(&mut self, value: &mut Value) {
        match value {
            Value::Object(_) => self.redact(value),
            Value::Null | Value::Bool(_) => {}
            Value::String(text) if text.is_empty() => {}
            _ => *value = REDACTED.into(),
        }
    }
}

/// Whether values under this key must not be shown.
pub fn is_sensitive(key: &str) -> bool {
    const PARTS: [&str; 15] = [
        "password",
        "passwd",
        "secret",
        "passphrase",
        "token",
        "credential",
        "privatekey",
        "apikey",
        "accesskey",
        "sharedkey",
        "accountkey",
        "licensekey",
        "subscriptionkey",
        "authorizationvalue",
        "connectionstring",
    ];
    const WHOLE: [&str; 3] = ["key", "textkey", "certificate"];
    // Their values name a secret or time it, and are none.
    const SHOWN: [&str; 10] = [
        "accesscontrolallowcredentials",
        "customclientsecretheader",
        "upstreamtokenheadername",
        "tokenfetchtimeout",
        "tokenendpoint",
        "validatedtokenttl",
        "credentiallocation",
        "credentialprofile",
        "credentialsoriginhashttpbasicauthenticationheader",
        "clientsecretexpression",
    ];
    let key: String = key.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    // `tls.key` is the `key` of `tls`.
    let last = key.rsplit('.').next().unwrap_or_default();
    !SHOWN.contains(&key.as_str())
        && (WHOLE.contains(&last)
            || PARTS.iter().any(|part| key.contains(part))
            // What is misspelt is as secret.
            || nearest(&key, PARTS.into_iter()).is_some())
}

/// A header that carries credentials, or a line `Name value` that begins with one.
pub fn names_credential(text: &str) -> bool {
    let name = text.split([' ', ':']).next().unwrap_or(text);
    ["authorization", "proxy-authorization", "cookie"].iter().any(|known| name.eq_ignore_ascii_case(known))
        || (name.contains('-') && is_sensitive(name))
}

/// Addresses, parted by commas, without what may be a key in them. What is none, behind a query, is the rest of that.
fn without_queries(addresses: &str) -> String {
    let mut is_behind_query = false;
    let shown = addresses.split(',').map(|address| {
        let (shown, query) = address.split_once('?').map_or((address, None), |(shown, query)| (shown, Some(query)));
        let is_rest = is_behind_query && !shown.contains("://");
        is_behind_query = is_rest || query.is_some();
        match query {
            _ if is_rest || shown.contains('@') => REDACTED.to_owned(),
            Some(_) => format!("{shown}?{REDACTED}"),
            None => shown.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

fn is_address_with_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.contains('@')
}

/// Properties that an Extension marks as `security:sensitive`, in lower case.
fn sensitive_properties(loaded: &Loaded) -> HashSet<String> {
    let mut names = HashSet::new();
    for extension in &loaded.resources.extensions {
        if let Some(properties) = extension.spec.0.get("properties") {
            collect_sensitive(properties, &mut names);
        }
    }
    names
}

fn collect_sensitive(properties: &Node, names: &mut HashSet<String>) {
    for property in properties.entries() {
        let marks = property.value.get("@context").and_then(|context| context.get("@characteristics"));
        if marks.is_some_and(|marks| marks.iter().any(|mark| mark.as_str() == Some("security:sensitive"))) {
            names.insert(property.key.to_ascii_lowercase());
        }
        for inner in ["properties", "items"] {
            if let Some(inner) = property.value.get(inner) {
                collect_sensitive(inner.get("properties").unwrap_or(inner), names);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_may_be_a_key() {
        for (written, shown) in [
            ("https://a.test/keys", "https://a.test/keys"),
            ("https://a.test/keys?key=hunter2", "https://a.test/keys?***"),
            ("https://a.test/?x=1,hunter2?, https://b.test/keys", "https://a.test/?***,***, https://b.test/keys"),
            ("https://u:hunter2@a.test/keys?x", "***"),
            ("u:hunter2@a.test", "***"),
            ("/relative", "/relative"),
            ("", ""),
        ] {
            let mut value = json!({ "config": { "jwksUrl": written } });
            Redaction::new(HashSet::new()).redact(&mut value);
            assert_eq!(value["config"]["jwksUrl"], shown, "{written}");
        }
    }

    #[test]
    fn what_a_name_says_of_its_value_counts_under_either_word() {
        let pairs = |word: &str| {
            let pair = |name: &str| json!({ word: name, "value": "hunter2" });
            let names = ["Authorization", "x-api-key", "Cookie", "Ocp-Apim-Subscription-Key", "x-colour"];
            json!({ "headers": names.map(pair), "tokenEndpoint": "https://a.test/t?apikey=hunter2" })
        };
        for word in ["key", "name"] {
            let mut value = pairs(word);
            Redaction::new(HashSet::new()).redact(&mut value);
            let shown: Vec<_> =
                value["headers"].as_array().expect("a list").iter().map(|pair| &pair["value"]).collect();
            assert_eq!(shown, ["***", "***", "***", "***", "hunter2"], "{word}");
            assert_eq!(value["headers"][0][word], "Authorization");
        }
        let mut value = json!({ "oauthService": "https://a.test/t?apikey=hunter2", "upstreamTokenHeaderName": "x-t" });
        Redaction::new(HashSet::new()).redact(&mut value);
        assert_eq!(value, json!({ "oauthService": "https://a.test/t?***", "upstreamTokenHeaderName": "x-t" }));
    }
}
