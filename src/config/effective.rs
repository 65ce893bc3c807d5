//! The settings in force: what the Configuration resources say, else the environment, else the default.

use std::{collections::BTreeMap, time::Duration};

use super::{
    environment::Environment,
    resources::{
        AccessLog, AccessLogFormat, CircuitBreaker, Configuration, GatewayRingway, Probe, ProxyProtocol, Routing,
        Section,
    },
    setting::Checked,
    settings::{self, ForwardClientCert, GatewayName, ServerHeader, Settings, TrustedProxies, written},
};
use crate::{
    document::{
        Resource,
        address::RESERVED_PORT,
        duration,
        node::{Located, Node, nearest},
        problem::{Location, Problem, Severity},
    },
    http::{authority::Authority, bytes},
};

/// Where probes answer if a `probe` section names no port.
const PROBE_PORT: u16 = 3000;
const GATEWAY_NAME_MAX: usize = 64;

/// The sub-keys of all Configuration resources, one of each.
#[derive(Debug, Default)]
pub struct Sections(BTreeMap<&'static str, Merged>);

/// A sub-key with the place it came from.
#[derive(Debug)]
struct Merged {
    node: Node,
    path: String,
}

impl Sections {
    /// Of two resources with one sub-key the later wins. Reports unknown keys and what is wrong within sections, used or not.
    pub fn merge(configurations: &[Resource<Configuration>], problems: &mut Vec<Problem>) -> Self {
        let mut merged = BTreeMap::new();
        for resource in configurations {
            for entry in resource.spec.0.entries() {
                let path = format!("{}.spec.{}", resource.id.name, entry.key);
                let location = &entry.key_location;
                let mut warn = |text: String| {
                    let location = location.clone();
                    problems.push(Problem { severity: Severity::Warning, location, path: path.clone(), text });
                };
                let Some(section) = Section::named(&entry.key) else {
                    let meant = nearest(&entry.key, Section::ALL.iter().map(|section| section.name));
                    let meant = meant.map_or("ignored".to_owned(), |name| format!("did you mean `{name}`?"));
                    warn(format!("unknown key, {meant}"));
                    continue;
                };
                if entry.value.is_null() {
                    continue;
                }
                if section.to_come {
                    warn("not implemented yet".into());
                }
                if section.name == "resourceLimits" {
                    warn("no effect: as many resources are loaded as there are".into());
                }
                if merged.contains_key(section.name) {
                    warn("set by an earlier Configuration as well; this one counts".into());
                }
                section.check(&entry.value, &path, problems);
                merged.insert(section.name, Merged { node: entry.value.clone(), path });
            }
        }
        Self(merged)
    }

    /// A section as its type, as far as it can be read. Its problems have been reported by [`Sections::merge`].
    pub fn section<T: serde::de::DeserializeOwned + Default>(&self, name: &str) -> (T, String) {
        match self.0.get(name) {
            Some(merged) => (merged.node.deserialize_rest().unwrap_or_default(), merged.path.clone()),
            None => (T::default(), name.to_owned()),
        }
    }

    /// Where a section is written, and whether all of it can be read.
    pub fn written<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<(&Location, bool)> {
        let node = &self.0.get(name)?.node;
        Some((node.location(), node.deserialize::<T>("", &mut Vec::new()).is_some()))
    }

    /// As JSON, for a dump. The registration is left out: it is one machine's own, and secret.
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let shown = self.0.iter().filter(|(name, _)| **name != "platformConnection");
        shown.map(|(name, merged)| ((*name).to_owned(), merged.node.to_json())).collect()
    }
}

/// The settings of this replica.
pub fn settings(sections: &Sections, environment: &Environment, problems: &mut Vec<Problem>) -> Settings {
    let mut settings = Settings::default();
    from_environment(&mut settings, environment, problems);
    let (timeouts, path) = sections.section::<written::Timeouts>("timeouts");
    timeouts.read(&mut settings.timeouts, &mut Checked { path, problems });

    let (breaker, path) = sections.section::<CircuitBreaker>("circuitBreaker");
    let mut checked = Checked { path, problems };
    if let Some((field, location, text)) = breaker.thresholds.remark() {
        checked.problem(Severity::Warning, field, location.clone(), text.into());
    }
    settings.circuit_breaker =
        breaker.thresholds.read(|field, location, text| checked.error(&field, location.clone(), text));

    let (routing, _) = sections.section::<Routing>("routing");
    settings.rewrite_host_header = routing.rewrite_host_header.unwrap_or(settings.rewrite_host_header);

    let (proxy_protocol, _) = sections.section::<ProxyProtocol>("proxyProtocol");
    settings.proxy_protocol.enabled = proxy_protocol.enabled;

    if sections.0.contains_key("probe") {
        let (probe, path) = sections.section::<Probe>("probe");
        settings.probe_port = probe_port(probe, Checked { path, problems });
    }
    let (ringway, path) = sections.section::<GatewayRingway>("ringway");
    ours(&mut settings, ringway, Checked { path, problems });
    settings
}

fn probe_port(probe: Probe, mut checked: Checked<'_>) -> Option<u16> {
    if let Some(path) = probe.path.filter(|path| path.value.trim_end_matches('/') != "/probes") {
        let text = "no effect: the paths are /probes/readiness and /probes/liveness";
        checked.warn("path", path.location, text.into());
    }
    let port = probe.port.unwrap_or(Located { value: PROBE_PORT, location: Location::default() });
    if !probe.enabled.unwrap_or(true) {
        return None;
    }
    match port.value {
        0 => checked.error("port", port.location, "the port must be a number from 1 to 65535".into()),
        RESERVED_PORT => checked.error("port", port.location, format!("port {RESERVED_PORT} is reserved")),
        value => return Some(value),
    }
    None
}

/// Why text cannot be a gateway's name. Two names never begin alike where a colon follows them.
fn name_problem(name: &str) -> Result<(), String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match (1..=GATEWAY_NAME_MAX).contains(&name.len()) && name.chars().all(is_legal) {
        true => Ok(()),
        false => Err(format!("expected 1 to {GATEWAY_NAME_MAX} letters, digits, `.`, `_` or `-`")),
    }
}

/// `spec.ringway`.
fn ours(settings: &mut Settings, ringway: GatewayRingway, mut checked: Checked<'_>) {
    if let Some(name) = ringway.name {
        match name_problem(&name.value) {
            Ok(()) => settings.name = GatewayName { text: name.value, is_given: true },
            Err(text) => checked.error("name", name.location, text),
        }
    }
    ringway.limits.read(&mut settings.limits, &mut checked);
    ringway.timeouts.read(&mut settings.timeouts, &mut checked);
    settings.h2c = ringway.listeners.h2c.unwrap_or(settings.h2c);
    if let Some(written) = ringway.trusted_proxies {
        settings.trusted_proxies = networks("trustedProxies", written, &mut checked);
    }
    if let Some(written) = ringway.proxy_protocol.from {
        settings.proxy_protocol.from = networks("proxyProtocol.from", written, &mut checked);
    }
    ringway.connections.read(&mut settings.connections, &mut checked);
    ringway.cache.read(&mut settings.cache, &mut checked);
    settings.forward_client_cert = ringway.forward_client_cert.unwrap_or(settings.forward_client_cert);
    if let Some(name) = ringway.server_header {
        if name.value.is_empty() {
            settings.server_header = ServerHeader::None;
        } else if name.value.bytes().all(|c| c.is_ascii_graphic() || c == b' ') && name.value.trim() == name.value {
            settings.server_header = ServerHeader::Name(name.value);
        } else {
            checked.error("serverHeader", name.location, "not a header value".into());
        }
    }
    if let Some(name) = ringway.via.filter(|name| !name.value.is_empty()) {
        // `host[:port]` or a pseudonym (RFC 9110 section 7.6.3).
        let is_host = |text: &str| Authority::parse(text.as_bytes()).is_some();
        match bytes::is_token(name.value.as_bytes()) || is_host(&name.value) {
            true => settings.via = Some(name.value),
            false => checked.error("via", name.location, "expected a name, or a host and port".into()),
        }
    }
    settings.access_log = ringway.access_log.and_then(access_log);
}

fn access_log(log: AccessLog) -> Option<settings::AccessLog> {
    let path = log.path.filter(|path| !path.as_os_str().is_empty() && path.as_os_str() != "stdout");
    log.enabled.unwrap_or(true).then_some(settings::AccessLog { json: log.format == AccessLogFormat::Json, path })
}

fn networks(field: &str, written: Vec<Located<String>>, checked: &mut Checked<'_>) -> TrustedProxies {
    let mut trusted = Vec::new();
    for (at, Located { value, location }) in written.into_iter().enumerate() {
        if value.eq_ignore_ascii_case("private") {
            trusted.extend(TrustedProxies::private().0);
        } else if let Ok(network) = value.parse() {
            trusted.push(network);
        } else if let Ok(address) = value.parse::<std::net::IpAddr>() {
            trusted.push(address.into());
        } else {
            let text = "expected an address, a network such as 10.0.0.0/8, or `private`".to_owned();
            checked.error(&format!("{field}[{at}]"), location, text);
        }
    }
    TrustedProxies(trusted)
}

/// The variables that Flex documents.
fn from_environment(settings: &mut Settings, environment: &Environment, problems: &mut Vec<Problem>) {
    let mut variables = Variables { environment, problems };
    let timeouts = &mut settings.timeouts;
    variables.seconds(&["FLEX_STREAM_IDLE_TIMEOUT_SECONDS"], |time| timeouts.stream_idle = non_zero(time));
    variables
        .seconds(&["FLEX_UPSTREAM_CONNECTION_IDLE_TIMEOUT_SECONDS", "FLEX_CONNECTION_IDLE_TIMEOUT_SECONDS"], |time| {
            timeouts.upstream_connection_idle = non_zero(time)
        });
    variables.seconds(&["FLEX_UPSTREAM_RESPONSE_TIMEOUT_SECONDS"], |time| timeouts.upstream_response = non_zero(time));
    variables.seconds(&["FLEX_SERVICE_ENVOY_DRAIN_TIME"], |time| timeouts.drain = time);
    if let Some(Err(text)) = debounce(environment) {
        variables.error(DEBOUNCE, text);
    }
    if let Some(name) = environment.filled(GATEWAY_NAME).map(str::trim) {
        match name_problem(name) {
            Ok(()) => settings.name = GatewayName { text: name.to_owned(), is_given: true },
            Err(text) => variables.error(GATEWAY_NAME, text),
        }
    }
    settings.replica = environment.filled("FLEX_NAME").map(|name| name.trim().to_owned());
    variables.switch("FLEX_PRESERVE_EXTERNAL_REQUEST_ID", |on| settings.preserve_request_id = on);
    variables.switch("FLEX_HEADER_RAW_VALUE_ENABLE", |on| settings.raw_header_values = on);
    variables.switch("FLEX_REWRITE_HOST_HEADER", |on| settings.rewrite_host_header = on);
    variables.forward_client_cert("FLEX_FORWARD_CLIENT_CERT_DETAILS", &mut settings.forward_client_cert);
    variables.switch("FLEX_REMOVE_SERVER_HEADER", |on| {
        if on {
            settings.server_header = ServerHeader::Remove;
        }
    });
}

/// What `--gateway-name` says stands here too.
pub const GATEWAY_NAME: &str = "RINGWAY_GATEWAY_NAME";

const DEBOUNCE: &str = "FLEX_SYNC_DEBOUNCE_TIME";

/// How long files must have been left alone before they are read again. It holds from the start of the process on.
pub fn debounce(environment: &Environment) -> Option<Result<Duration, String>> {
    let text = environment.filled(DEBOUNCE)?.trim();
    let expected = || "expected a duration such as `5s`, `500ms` or `1m30s`".to_owned();
    Some(written_duration(text).ok_or_else(expected).and_then(duration))
}

/// Seconds of a number alone, or of numbers with their units as Go writes them.
fn written_duration(text: &str) -> Option<f64> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        text.parse::<f64>().ok().filter(|_| plain)
    };
    if let Some(seconds) = number(text) {
        return Some(seconds);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let (digits, behind) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let (unit, behind) = behind.split_at(behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len()));
        let factor = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number(digits)? * factor;
        rest = behind;
    }
    Some(seconds)
}

fn non_zero(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

struct Variables<'e> {
    environment: &'e Environment,
    problems: &'e mut Vec<Problem>,
}

impl Variables<'_> {
    /// The first of several names that is set.
    fn seconds(&mut self, names: &[&str], set: impl FnOnce(Duration)) {
        let Some((name, text)) = names.iter().find_map(|name| Some((name, self.environment.filled(name)?))) else {
            return;
        };
        let seconds = text.trim().trim_end_matches('s').parse().map_err(|_| "not a number of seconds".to_owned());
        match seconds.and_then(duration) {
            Ok(time) => set(time),
            Err(text) => self.error(name, text),
        }
    }

    fn forward_client_cert(&mut self, name: &str, setting: &mut ForwardClientCert) {
        let Some(text) = self.environment.filled(name) else { return };
        *setting =
            match text.trim().to_ascii_uppercase().as_str() {
                "SANITIZE" => ForwardClientCert::Sanitize,
                "FORWARD_ONLY" => ForwardClientCert::ForwardOnly,
                "APPEND_FORWARD" => ForwardClientCert::AppendForward,
                "SANITIZE_SET" => ForwardClientCert::SanitizeSet,
                "ALWAYS_FORWARD_ONLY" => ForwardClientCert::AlwaysForwardOnly,
                _ => return self.error(
                    name,
                    "expected `SANITIZE`, `FORWARD_ONLY`, `APPEND_FORWARD`, `SANITIZE_SET` or `ALWAYS_FORWARD_ONLY`"
                        .into(),
                ),
            };
    }

    fn switch(&mut self, name: &str, set: impl FnOnce(bool)) {
        let Some(text) = self.environment.filled(name) else { return };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => set(true),
            "false" | "no" | "off" | "0" => set(false),
            _ => self.error(name, "expected `true` or `false`".into()),
        }
    }

    fn error(&mut self, name: &str, text: String) {
        let location = Location { file: std::sync::Arc::new("environment".into()), line: 0, column: 0 };
        self.problems.push(Problem { severity: Severity::Error, location, path: name.to_owned(), text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::files::Files;

    fn effective(yaml: &str, environment: Environment) -> (Settings, Vec<String>) {
        let text: String = yaml
            .split("---\n")
            .enumerate()
            .map(|(at, spec)| {
                format!("---\napiVersion: gateway.mulesoft.com/v1beta1\nkind: Configuration\nmetadata: {{name: c{at}}}\nspec:\n{spec}")
            })
            .collect();
        let mut problems = Vec::new();
        let resources = Files::of(&[("f", &text)]).resources(&mut problems);
        let sections = Sections::merge(&resources.configurations, &mut problems);
        let settings = settings(&sections, &environment, &mut problems);
        (settings, problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect())
    }

    #[test]
    fn a_resource_beats_the_environment_beats_the_default() {
        let environment = Environment::from([
            ("FLEX_STREAM_IDLE_TIMEOUT_SECONDS", "7"),
            ("FLEX_CONNECTION_IDLE_TIMEOUT_SECONDS", "8"),
            ("FLEX_UPSTREAM_RESPONSE_TIMEOUT_SECONDS", "9"),
            ("FLEX_SERVICE_ENVOY_DRAIN_TIME", "10s"),
            ("FLEX_REWRITE_HOST_HEADER", "false"),
        ]);
        let (settings, problems) =
            effective("  timeouts: {streamIdleSeconds: 1, upstreamResponseSeconds: 0}\n", environment);
        assert_eq!(problems, Vec::<String>::new());
        let timeouts = settings.timeouts;
        assert_eq!(timeouts.stream_idle, Some(Duration::from_secs(1)));
        assert_eq!(timeouts.upstream_connection_idle, Some(Duration::from_secs(8)));
        assert_eq!(timeouts.upstream_response, None);
        assert_eq!(timeouts.drain, Duration::from_secs(10));
        assert!(!settings.rewrite_host_header);
        assert_eq!(effective("  resourceLimits: {}\n", Environment::default()).0, Settings::default());
    }

    #[test]
    fn every_setting_of_ours_is_read() {
        let (settings, problems) = effective(
            "  ringway:
    limits: {headBytes: 1024, headerCount: 5, trailerBytes: 6, chunkExtensionBytes: 7, bufferedBodyBytes: 8,
      bufferedBytesPerCore: 9, retryBodyBytes: 10, connectionsPerCore: 11, tlsHandshakesPerCore: 20,
      tlsHandshakesWaitingPerCore: 21, connectionsPerUpstream: 12,
      pendingRequestsPerUpstream: 13, rateLimitKeys: 22, h2: {concurrentStreams: 14, streamWindow: 1500, connectionWindow: 160000,
      workPerSecond: 17, headerMemoryPerConnection: 18000, headerMemoryPerCore: 1900000, stallSeconds: 7, pingSeconds: 8}, proxyHeaderBytes: 512}
    timeouts: {proxyHeaderSeconds: 2, requestHeadSeconds: 0.5, tlsHandshakeSeconds: 0, requestBodyIdleSeconds: 0, keepAliveSeconds: 3, upstreamConnectSeconds: 4,
      drainDelaySeconds: 0, drainSeconds: 6}
    listeners: {h2c: no}
    trustedProxies: [203.0.113.7, 10.0.0.0/8]
    proxyProtocol: {from: [192.0.2.0/24]}
    connections: {spread: false, maxRequests: 14, maxAgeSeconds: 15}
    cache: {maxBytes: 16, revalidationsPerCore: 3}
    serverHeader: edge
    forwardClientCert: sanitizeSet
    accessLog: {format: json, path: /var/log/access.log}\n",
            Environment::from([("FLEX_SERVICE_ENVOY_DRAIN_TIME", "99")]),
        );
        assert_eq!(problems, Vec::<String>::new());
        let seconds = |s| Some(Duration::from_secs_f64(s));
        let expected = Settings {
            limits: settings::Limits {
                head_bytes: 1024,
                header_count: 5,
                trailer_bytes: 6,
                chunk_extension_bytes: 7,
                buffered_body_bytes: 8,
                buffered_bytes_per_core: 9,
                retry_body_bytes: 10,
                connections_per_core: 11,
                tls_handshakes_per_core: 20,
                tls_handshakes_waiting_per_core: 21,
                connections_per_upstream: 12,
                pending_requests_per_upstream: 13,
                rate_limit_keys: 22,
                proxy_header_bytes: 512,
                h2: settings::H2Limits {
                    concurrent_streams: 14,
                    stream_window: 1500,
                    connection_window: 160_000,
                    work_per_second: 17,
                    header_memory_per_connection: 18_000,
                    header_memory_per_core: 1_900_000,
                    stall: seconds(7.0),
                    ping: seconds(8.0),
                },
            },
            timeouts: settings::Timeouts {
                proxy_header: seconds(2.0),
                request_head: seconds(0.5),
                request_body_idle: None,
                keep_alive: seconds(3.0),
                upstream_connect: seconds(4.0),
                drain_delay: Duration::ZERO,
                drain: Duration::from_secs(6),
                tls_handshake: None,
                ..Settings::default().timeouts
            },
            h2c: false,
            trusted_proxies: TrustedProxies(vec!["203.0.113.7/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()]),
            proxy_protocol: settings::ProxyProtocol {
                enabled: false,
                from: TrustedProxies(vec!["192.0.2.0/24".parse().unwrap()]),
            },
            connections: settings::Connections { spread: false, max_requests: 14, max_age: seconds(15.0) },
            cache: settings::Cache { max_bytes: 16, revalidations_per_core: 3 },
            server_header: ServerHeader::Name("edge".into()),
            forward_client_cert: ForwardClientCert::SanitizeSet,
            access_log: Some(settings::AccessLog { json: true, path: Some("/var/log/access.log".into()) }),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn the_pause_before_a_reload_is_a_duration() {
        let seconds = |text| {
            let found = debounce(&Environment::from([(DEBOUNCE, text)]));
            found.map(|time| time.map(|time| time.as_secs_f64()))
        };
        for (text, expected) in
            [("5s", 5.0), (" 500ms ", 0.5), ("1m30s", 90.0), ("1.5s", 1.5), ("7", 7.0), ("0", 0.0), ("1h", 3600.0)]
        {
            assert_eq!(seconds(text), Some(Ok(expected)), "{text}");
        }
        assert_eq!(seconds(""), None);
        for text in ["soon", "5 s", "-5s", "s", "5x", "5s5", "inf", "1e3s", "9".repeat(400).as_str()] {
            assert!(matches!(seconds(text), Some(Err(_))), "{text}");
        }
        let (_, problems) = effective("  timeouts: {}\n", Environment::from([(DEBOUNCE, "soon")]));
        let text = "FLEX_SYNC_DEBOUNCE_TIME: expected a duration such as `5s`, `500ms` or `1m30s`";
        assert_eq!(problems, [text]);
    }

    #[test]
    fn an_empty_server_header_and_no_trusted_proxies_are_values() {
        let (settings, _) = effective("  ringway: {serverHeader: '', trustedProxies: []}\n", Environment::default());
        assert_eq!(settings.server_header, ServerHeader::None);
        assert_eq!(settings.trusted_proxies, TrustedProxies(vec![]));
        assert_eq!(settings.access_log, None);
    }

    #[test]
    fn every_bad_setting_is_reported() {
        let (_, problems) = effective(
            "  ringway:
    limits: {headBytes: 70000, headerCount: -1}
    timeouts: {drainSeconds: 1e9, keepAliveSeconds: soon}
    trustedProxies: [private, nobody]
    serverHeader: \"a\\nb\"
  probe: {enabled: true, port: 9998}
  ringwya: {}\n---\n  probe: {enabled: false}\n  forwardProxy: {https: {}}\n",
            Environment::from([("FLEX_SERVICE_ENVOY_DRAIN_TIME", "soon")]),
        );
        for expected in [
            "c0.spec.ringway.limits.headerCount: expected a whole number, 0 or more",
            "c0.spec.ringway.timeouts.keepAliveSeconds: expected a number",
            "c0.spec.ringwya: unknown key, did you mean `ringway`?",
            "c1.spec.probe: set by an earlier Configuration as well; this one counts",
            "c1.spec.forwardProxy.https.address: required, but missing",
            "FLEX_SERVICE_ENVOY_DRAIN_TIME: not a number of seconds",
        ] {
            assert!(problems.iter().any(|problem| problem == expected), "{expected} in {problems:#?}");
        }
        let (_, problems) = effective(
            "  ringway: {limits: {headBytes: 70000}, trustedProxies: [private, nobody], serverHeader: \"a\\nb\", timeouts: {drainSeconds: 1e9}}\n",
            Environment::default(),
        );
        assert_eq!(
            problems,
            [
                "c0.spec.ringway.limits.headBytes: expected 256 to 65535",
                "c0.spec.ringway.timeouts.drainSeconds: expected 0 to 86400 seconds",
                "c0.spec.ringway.trustedProxies[1]: expected an address, a network such as 10.0.0.0/8, or `private`",
                "c0.spec.ringway.serverHeader: not a header value",
            ]
        );
    }

    #[test]
    fn a_probe_has_a_port() {
        let port = |text| effective(text, Environment::default()).0.probe_port;
        assert_eq!(port("  probe: {enabled: true, port: 3001}\n"), Some(3001));
        assert_eq!(port("  probe: {enabled: true}\n"), Some(3000));
        assert_eq!(port("  probe: {enabled: false, port: 3001}\n"), None);
        assert_eq!(port("  timeouts: {}\n"), None);
    }
}
