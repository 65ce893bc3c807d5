//! `spec.ringway` of a Service, checked.

use std::time::Duration;

use super::{
    resources::{self, RetryOn, ServiceRingway},
    snapshot::{HealthCheck, LoadBalancing, ProxyProtocolVersion, Retries},
};
use crate::document::{
    address::{self, Endpoint},
    duration,
    node::Located,
    problem::{Location, Problem, Severity},
};

/// Further tries; more than this would turn one failure into an avalanche.
const ATTEMPTS_MAX: u32 = 10;
/// Further endpoints of one service.
const ENDPOINTS_MAX: usize = 1024;

pub struct ServiceSettings {
    /// Those besides the address.
    pub endpoints: Vec<Endpoint>,
    pub load_balancing: LoadBalancing,
    pub preserve_host: bool,
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    pub retries: Retries,
    pub health_check: Option<HealthCheck>,
}

/// What is wrong is reported and replaced by its default.
pub fn read(written: &ServiceRingway, path: &str, problems: &mut Vec<Problem>) -> ServiceSettings {
    let mut checked = Checked { path, problems };
    ServiceSettings {
        endpoints: endpoints(&written.endpoints, &mut checked),
        load_balancing: match written.load_balancing {
            resources::LoadBalancing::RoundRobin => LoadBalancing::RoundRobin,
            resources::LoadBalancing::LeastRequests => LoadBalancing::LeastRequests,
        },
        preserve_host: written.preserve_host,
        proxy_protocol: match written.proxy_protocol {
            resources::ProxyProtocolVersion::None => None,
            resources::ProxyProtocolVersion::V1 => Some(ProxyProtocolVersion::V1),
            resources::ProxyProtocolVersion::V2 => Some(ProxyProtocolVersion::V2),
        },
        retries: retries(&written.retries, &mut checked),
        health_check: written.health_check.as_ref().map(|written| health_check(written, &mut checked)),
    }
}

fn endpoints(written: &[Located<String>], checked: &mut Checked<'_>) -> Vec<Endpoint> {
    if let Some(first) = written.get(ENDPOINTS_MAX) {
        checked.error("endpoints", &first.location, format!("more than {ENDPOINTS_MAX} endpoints"));
    }
    let mut endpoints = Vec::new();
    for (at, Located { value, location }) in written.iter().take(ENDPOINTS_MAX).enumerate() {
        match address::endpoint(value) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(text) => checked.error(&format!("endpoints[{at}]"), location, text),
        }
    }
    endpoints
}

fn retries(written: &resources::Retries, checked: &mut Checked<'_>) -> Retries {
    // What is ahead of an error, the error says.
    if written.attempts.as_ref().is_none_or(|attempts| attempts.value == 0) {
        let budget = written.budget_percent.as_ref().filter(|budget| budget.value <= 100);
        let on = written.on.as_ref().map(|on| &on.location);
        if let Some(location) = on.or(budget.map(|budget| &budget.location)) {
            checked.warn("retries", location, "no effect without `attempts`: nothing is tried again".into());
        }
    }
    let on = |reason| match &written.on {
        Some(reasons) => reasons.value.contains(&reason),
        None => reason == RetryOn::ConnectFailure,
    };
    Retries {
        attempts: checked.number("retries.attempts", &written.attempts, 0..=ATTEMPTS_MAX, 0),
        connect_failure: on(RetryOn::ConnectFailure),
        reset: on(RetryOn::Reset),
        gateway_error: on(RetryOn::GatewayError),
        budget_percent: checked.number("retries.budgetPercent", &written.budget_percent, 0..=100, 20),
    }
}

fn health_check(written: &resources::HealthCheck, checked: &mut Checked<'_>) -> HealthCheck {
    let path = match &written.path {
        None => "/".to_owned(),
        Some(path) if path.value.starts_with('/') && path.value.bytes().all(|c| c.is_ascii_graphic() && c != b'#') => {
            path.value.clone()
        }
        Some(path) => {
            checked.error("healthCheck.path", &path.location, "expected a path that starts with `/`".into());
            "/".to_owned()
        }
    };
    HealthCheck {
        path,
        interval: checked.time("healthCheck.intervalSeconds", &written.interval_seconds, Duration::from_secs(10)),
        timeout: checked.time("healthCheck.timeoutSeconds", &written.timeout_seconds, Duration::from_secs(5)),
        unhealthy_threshold: checked.number(
            "healthCheck.unhealthyThreshold",
            &written.unhealthy_threshold,
            1..=1000,
            3,
        ),
        healthy_threshold: checked.number("healthCheck.healthyThreshold", &written.healthy_threshold, 1..=1000, 2),
    }
}

struct Checked<'p> {
    path: &'p str,
    problems: &'p mut Vec<Problem>,
}

impl Checked<'_> {
    fn error(&mut self, field: &str, location: &Location, text: String) {
        let (path, location) = (format!("{}.{field}", self.path), location.clone());
        self.problems.push(Problem { severity: Severity::Error, location, path, text });
    }

    fn warn(&mut self, field: &str, location: &Location, text: String) {
        let (path, location) = (format!("{}.{field}", self.path), location.clone());
        self.problems.push(Problem { severity: Severity::Warning, location, path, text });
    }

    fn number(
        &mut self,
        field: &str,
        written: &Option<Located<u32>>,
        range: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        match written {
            None => default,
            Some(number) if range.contains(&number.value) => number.value,
            Some(number) => {
                self.error(field, &number.location, format!("expected {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// A wait that cannot be 0.
    fn time(&mut self, field: &str, written: &Option<Located<f64>>, default: Duration) -> Duration {
        let Some(Located { value, location }) = written else { return default };
        match duration(*value) {
            Ok(time) if !time.is_zero() => time,
            Ok(_) => {
                self.error(field, location, "expected more than 0 seconds".into());
                default
            }
            Err(text) => {
                self.error(field, location, text);
                default
            }
        }
    }
}
