//! The metrics page: what the cores counted, merged, and what this replica knows about itself.
//!
//! A core that does not answer in time is shown with what it said last: a counter that fell would look like a restart.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    exposition::{Family, Kind, LabelPairs, Page},
    process,
    status::{Reached, View},
    supervise,
};
use crate::config::snapshot::Snapshot;
use crate::telemetry::{
    core::{CoreCopy, Method, STATUS_CLASSES, StatusCounts},
    histogram::Histogram,
    series::{Labels, Names},
};

/// Two scrapes closer than this share one busy ratio: a shorter time says little.
const RATIO_AGE_MIN: Duration = Duration::from_secs(1);

/// Renders pages, and remembers what the last one was made of.
#[derive(Debug, Default)]
pub struct Metrics {
    cores: Mutex<BTreeMap<usize, Core>>,
}

/// What is known of one core.
#[derive(Debug)]
struct Core {
    last: CoreCopy,
    /// Where the time of the ratio begins.
    since: (std::time::Instant, u64),
    busy_ratio: f64,
}

impl Metrics {
    /// `copies` may lack a core; `names` and `log_dropped` are of now. Takes a while with many series: not for the
    /// management thread itself.
    pub fn render(&self, copies: Vec<CoreCopy>, view: &View, names: &Names, log_dropped: u64) -> String {
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        for copy in copies {
            match cores.get_mut(&copy.core) {
                Some(core) => core.update(copy),
                None => {
                    let since = (copy.taken_at, copy.busy_ns);
                    cores.insert(copy.core, Core { last: copy, since, busy_ratio: 0.0 });
                }
            }
        }
        let mut page = Page::default();
        let mut copies = cores.values().map(|core| &core.last);
        if let Some(first) = copies.next() {
            let mut sum = first.clone();
            copies.for_each(|other| sum.merge(other));
            latencies(&mut page, &sum, names);
            requests(&mut page, &sum, names);
            connections(&mut page, &sum, &cores);
            page.single(
                Kind::Counter,
                "ringway_log_dropped_total",
                "Access log lines dropped because a buffer was full or the file could not be written.",
                sum.access_log_dropped + log_dropped,
            );
            page.single(
                Kind::Counter,
                "ringway_task_panics_total",
                "Panics; each ended one connection, or restarted one management task.",
                sum.panics + supervise::panics(),
            );
            page.single(
                Kind::Counter,
                "ringway_io_driver_faults_total",
                "Times the kernel refused the call by which a core waits for I/O.",
                sum.driver_faults,
            );
        }
        if let Some(running) = &view.running {
            certificates(&mut page, &running.snapshot);
        }
        configuration(&mut page, view);
        upstreams(&mut page, view);
        process::render(&mut page, view.started_at);
        page.finish()
    }
}

impl Core {
    fn update(&mut self, copy: CoreCopy) {
        let (since, busy_ns) = self.since;
        let elapsed = copy.taken_at.saturating_duration_since(since);
        if elapsed >= RATIO_AGE_MIN {
            let busy = Duration::from_nanos(copy.busy_ns.saturating_sub(busy_ns));
            self.busy_ratio = (busy.as_secs_f64() / elapsed.as_secs_f64()).min(1.0);
            self.since = (copy.taken_at, copy.busy_ns);
        }
        self.last = copy;
    }
}

fn latencies(page: &mut Page, sum: &CoreCopy, names: &Names) {
    let apis = || sum.exchanges.apis.iter().enumerate();
    let mut family = page.family(
        Kind::Histogram,
        "http_server_request_duration_seconds",
        "From the first byte of a request to the last byte of its response.",
    );
    apis().for_each(|(id, api)| by_api(&mut family, names, id, api.total.as_deref()));
    let mut family = page.family(
        Kind::Histogram,
        "http_client_request_duration_seconds",
        "From a request sent upstream to the head of its response.",
    );
    apis().for_each(|(id, api)| by_api(&mut family, names, id, api.upstream.as_deref()));
    let mut family = page.family(
        Kind::Histogram,
        "ringway_request_overhead_seconds",
        "Time that the gateway itself added, in both directions.",
    );
    apis().for_each(|(id, api)| by_api(&mut family, names, id, api.overhead.as_deref()));
    let mut family = page.family(
        Kind::Histogram,
        "ringway_policy_wait_seconds",
        "Time that policies had requests wait, where they had.",
    );
    apis().for_each(|(id, api)| by_api(&mut family, names, id, api.waited.as_deref()));
}

fn by_api(family: &mut Family<'_>, names: &Names, id: usize, histogram: Option<&Histogram>) {
    if let (Some(name), Some(histogram)) = (names.apis.get(id), histogram) {
        family.histogram(&[("namespace", &name.namespace), ("api", &name.api)], histogram);
    }
}

fn requests(page: &mut Page, sum: &CoreCopy, names: &Names) {
    let exchanges = &sum.exchanges;
    let mut family = page.family(
        Kind::Counter,
        "ringway_requests_total",
        "Requests by route and status class; an empty route: none was found, or a policy answered first.",
    );
    let unrouted = names.apis.iter().zip(exchanges.apis.iter().map(|api| &api.unrouted));
    for (name, counts) in unrouted.chain(names.routes.iter().zip(&exchanges.routes)) {
        let Labels { namespace, api, route, .. } = name;
        by_class(&mut family, &[("namespace", namespace), ("api", api), ("route", route)], counts);
    }
    let mut family = page.family(
        Kind::Counter,
        "ringway_upstream_requests_total",
        "Requests by the Service that was chosen for them, and the status class the client saw.",
    );
    for (name, counts) in names.services.iter().zip(&exchanges.upstreams) {
        by_class(&mut family, &[("namespace", &name.namespace), ("upstream", &name.upstream)], counts);
    }
    let mut family = page.family(Kind::Counter, "ringway_requests_by_method_total", "Requests by method.");
    for (method, count) in Method::ALL.iter().zip(exchanges.methods) {
        family.sample(&[("method", method.as_str())], count);
    }
    let mut family = page.family(
        Kind::Counter,
        "ringway_responses_by_reason_total",
        "Answers the gateway made itself, and failures, by reason code.",
    );
    for (reason, count) in exchanges.reasons.iter() {
        family.sample(&[("reason", reason)], count);
    }
    for (name, help, value) in [
        ("ringway_request_bytes_total", "Bytes received from clients.", exchanges.bytes_in),
        ("ringway_response_bytes_total", "Bytes sent to clients.", exchanges.bytes_out),
        ("ringway_upstream_retries_total", "Further tries after a failed one.", exchanges.retries),
    ] {
        page.single(Kind::Counter, name, help, value);
    }
    page.single(Kind::Gauge, "ringway_requests_in_flight", "Requests being served now.", sum.requests_open);
}

/// Status classes appear when they are first counted.
fn by_class(family: &mut Family<'_>, labels: LabelPairs<'_>, counts: &StatusCounts) {
    for (class, count) in STATUS_CLASSES.iter().zip(counts).filter(|(_, count)| **count > 0) {
        let labels: Vec<_> = labels.iter().copied().chain([("status_class", *class)]).collect();
        family.sample(&labels, count);
    }
}

fn connections(page: &mut Page, sum: &CoreCopy, cores: &BTreeMap<usize, Core>) {
    let mut by_core = |kind, name, help, value: &dyn Fn(&Core) -> f64| {
        let mut family = page.family(kind, name, help);
        for (core, state) in cores {
            family.sample(&[("core", &core.to_string())], value(state));
        }
    };
    by_core(Kind::Gauge, "ringway_core_connections", "Client connections open on a core.", &|core| {
        core.last.connections_open as f64
    });
    by_core(
        Kind::Gauge,
        "ringway_core_busy_ratio",
        "Share of the time since the last scrape that a core worked.",
        &|core| core.busy_ratio,
    );
    by_core(Kind::Counter, "ringway_core_busy_seconds_total", "Time that a core did not wait.", &|core| {
        Duration::from_nanos(core.last.busy_ns).as_secs_f64()
    });
    by_core(Kind::Counter, "ringway_core_requests_total", "Requests that a core has served.", &|core| {
        core.last.exchanges.methods.iter().sum::<u64>() as f64
    });
    by_core(
        Kind::Counter,
        "ringway_core_connections_accepted_total",
        "Client connections that the kernel gave to a core.",
        &|core| core.last.connections_accepted as f64,
    );
    by_core(
        Kind::Counter,
        "ringway_core_connections_handed_over_total",
        "Of those, connections that the core gave to a less loaded one.",
        &|core| core.last.connections_handed_over as f64,
    );
    by_core(
        Kind::Counter,
        "ringway_core_connections_taken_over_total",
        "Connections that a core has taken from others.",
        &|core| core.last.connections_taken_over as f64,
    );
    for (name, help, value) in [
        ("ringway_connections_accepted_total", "Client connections accepted.", sum.connections_accepted),
        ("ringway_connections_refused_total", "Client connections closed at once by a limit.", sum.connections_refused),
        (
            "ringway_accept_pauses_total",
            "Times a core left its listen queue alone: descriptors or memory had run out.",
            sum.accept_failures,
        ),
        ("ringway_upstream_dials_total", "Upstream connections attempted.", sum.dials),
        ("ringway_upstream_reuses_total", "Requests that found an idle upstream connection.", sum.reuses),
        (
            "ringway_upstream_next_endpoints_total",
            "Further endpoints tried as one could not be reached.",
            sum.next_endpoints,
        ),
        ("ringway_upstream_resends_total", "Requests sent again that no upstream had looked at.", sum.resends),
    ] {
        page.single(Kind::Counter, name, help, value);
    }
    for (name, help, reasons) in [
        ("ringway_upstream_dial_failures_total", "Failed dials by reason code.", &sum.dial_failures),
        (
            "ringway_http2_connection_errors_total",
            "Client connections ended for breaking HTTP/2 or using up their budget, by reason code.",
            &sum.h2_connection_errors,
        ),
        (
            "ringway_http2_stream_errors_total",
            "Streams of clients reset before they became a request, by reason code.",
            &sum.h2_stream_errors,
        ),
        (
            "ringway_proxy_headers_refused_total",
            "Client connections closed for want of a PROXY protocol header that counts, by reason code.",
            &sum.proxy_headers_refused,
        ),
    ] {
        let mut family = page.family(Kind::Counter, name, help);
        for (reason, count) in reasons.iter() {
            family.sample(&[("reason", reason)], count);
        }
    }
    let mut family = page.family(
        Kind::Counter,
        "ringway_upstream_quirks_total",
        "Upstream answers that were read although they stray from the grammar of HTTP.",
    );
    for (kind, count) in sum.upstream_quirks.iter() {
        family.sample(&[("kind", kind)], count);
    }
    let mut family = page.family(
        Kind::Counter,
        "ringway_tls_handshakes_total",
        "TLS handshakes of clients: `full`, `resumed`, or why there was none.",
    );
    for (result, count) in sum.tls_handshakes.iter() {
        family.sample(&[("result", result)], count);
    }
    page.single(
        Kind::Gauge,
        "ringway_tls_handshakes_in_flight",
        "TLS handshakes of clients that are under way or wait for their turn.",
        sum.tls_handshakes_open,
    );
    page.family(Kind::Gauge, "ringway_upstream_pool_connections", "Upstream connections by state.")
        .sample(&[("state", "idle")], sum.pool_idle)
        .sample(&[("state", "active")], sum.pool_open.saturating_sub(sum.pool_idle));
}

/// Which certificate ends when; alarm on what is near.
fn certificates(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family(
        Kind::Gauge,
        "ringway_tls_certificate_not_after_timestamp_seconds",
        "When a certificate that is served expires.",
    );
    for listener in &snapshot.listeners {
        let address = listener.address.to_string();
        for certificate in listener.tls.iter().flat_map(|context| context.table.certificates()) {
            let names = certificate.names.join(",");
            let labels = [("address", &*address), ("subject", &*certificate.subject), ("names", &*names)];
            family.sample(&labels, certificate.not_after);
        }
    }
}

fn configuration(page: &mut Page, view: &View) {
    page.family(Kind::Gauge, "ringway_build_info", "The program that runs.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family(Kind::Gauge, "ringway_io_driver_info", "The I/O driver of the cores, and why this one.")
        .sample(&[("driver", &view.driver.name), ("reason", &view.driver.reason)], 1);
    if let Some(reload) = &view.last_reload {
        page.single(
            Kind::Gauge,
            "ringway_config_last_reload_successful",
            "1: the last configuration read is the one that serves; 0: it was refused.",
            u8::from(reload.applied),
        );
        page.single(
            Kind::Gauge,
            "ringway_config_last_reload_timestamp_seconds",
            "When a configuration was last read.",
            unix_seconds(reload.at),
        );
    }
    if let Some(running) = &view.running {
        page.family(Kind::Gauge, "ringway_config_hash_info", "Hash of the configuration that serves.")
            .sample(&[("hash", &running.snapshot.hash)], 1);
        for (name, help, value) in [
            ("ringway_config_generation", "Counts the configurations this process made.", running.snapshot.generation),
            ("ringway_config_apis", "APIs that are served.", running.snapshot.apis.len() as u64),
            (
                "ringway_config_broken_policies",
                "Policies that could not be built; their requests are refused with 503.",
                running.policy_errors().len() as u64,
            ),
            ("ringway_listeners_failed", "Addresses that could not be bound.", running.envoy_errors().len() as u64),
        ] {
            page.single(Kind::Gauge, name, help, value);
        }
    }
    page.single(
        Kind::Gauge,
        "ringway_live_snapshots",
        "Configurations that some core or exchange still holds.",
        view.live_snapshots,
    );
    page.single(Kind::Gauge, "ringway_draining", "1 after the signal to stop.", u8::from(view.draining));
}

fn upstreams(page: &mut Page, view: &View) {
    let known = view.upstreams();
    let mut family = page.family(
        Kind::Gauge,
        "ringway_upstream_healthy",
        "1: the endpoint takes requests; 0: its health check fails, or its name has no address.",
    );
    for Reached { service, endpoint, fault } in &known {
        let labels = [("namespace", &*service.namespace), ("upstream", &service.name), ("endpoint", endpoint)];
        family.sample(&labels, u8::from(fault.is_none()));
    }
    let mut family = page.family(
        Kind::Gauge,
        "ringway_upstream_unhealthy",
        "1 for each endpoint that takes no requests, with the reason; `/config` says more.",
    );
    for Reached { service, endpoint, fault } in &known {
        if let Some(fault) = fault {
            let (namespace, upstream) = (&*service.namespace, &*service.name);
            let labels =
                [("namespace", namespace), ("upstream", upstream), ("endpoint", endpoint), ("reason", fault.reason)];
            family.sample(&labels, 1);
        }
    }
}

pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc, time::Instant};

    use super::*;
    use crate::{
        config::snapshot::SeriesId,
        management::{
            exposition::tests::{Samples, parse},
            status::{Driver, Status, tests::snapshot},
        },
        telemetry::core::{CoreTelemetry, ExchangeRecord},
    };

    fn names() -> Names {
        let label = |api: &str| Labels { api: api.to_owned(), ..Labels::default() };
        let upstream = Labels { upstream: "orders".to_owned(), ..Labels::default() };
        let route = Labels { route: "orders-a-route-1".to_owned(), ..label("orders") };
        Names {
            apis: vec![Labels::default(), label("_OVERFLOW"), label("orders")],
            routes: vec![Labels::default(), label("_OVERFLOW"), route],
            services: vec![Labels::default(), label("_OVERFLOW"), upstream],
        }
    }

    fn view() -> View {
        let driver = Driver { name: "epoll".to_owned(), reason: "io_uring is \"forbidden\"".to_owned() };
        let status = Status::new(driver);
        status.applied(snapshot(1, Some("bad field")), Vec::new(), serde_json::Value::Null);
        status.view()
    }

    fn value(samples: &Samples, name: &str, wanted: &[(&str, &str)]) -> f64 {
        let matches = |labels: &BTreeMap<String, String>| {
            wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|found| found == value))
        };
        let found: Vec<_> = samples.iter().filter(|((found, labels), _)| found == name && matches(labels)).collect();
        assert_eq!(found.len(), 1, "{name} {wanted:?}: {found:?}");
        *found[0].1
    }

    #[test]
    fn the_page_reads_back_with_what_the_cores_counted() {
        let cores = [CoreTelemetry::new(0), CoreTelemetry::new(1)];
        for core in &cores {
            core.record(&ExchangeRecord {
                api: Some(SeriesId(2)),
                route: Some(SeriesId(2)),
                upstream: Some(SeriesId(2)),
                status: 200,
                method: Method::Get,
                total_ns: 400_000,
                upstream_ns: Some(300_000),
                overhead_ns: Some(40_000),
                waited_ns: Some(2_000_000),
                ..ExchangeRecord::default()
            });
        }
        cores[1].record(&ExchangeRecord { status: 404, reason: "no_route", ..ExchangeRecord::default() });
        cores[1].connections_open.increment();
        let metrics = Metrics::default();
        let copies = cores.iter().map(CoreTelemetry::copy).collect();
        let page = parse(&metrics.render(copies, &view(), &names(), 7));
        let routed = [("api", "orders"), ("route", "orders-a-route-1"), ("status_class", "2xx")];
        for (name, labels, expected) in [
            ("ringway_requests_total", &routed[..], 2.0),
            ("ringway_requests_total", &[("api", ""), ("status_class", "4xx")], 1.0),
            ("ringway_upstream_requests_total", &[("upstream", "orders")], 2.0),
            ("ringway_responses_by_reason_total", &[("reason", "no_route")], 1.0),
            ("http_server_request_duration_seconds_bucket", &[("api", "orders"), ("le", "0.0005")], 2.0),
            ("http_client_request_duration_seconds_bucket", &[("api", "orders"), ("le", "0.00025")], 0.0),
            ("ringway_request_overhead_seconds_count", &[("api", "orders")], 2.0),
            ("ringway_policy_wait_seconds_bucket", &[("api", "orders"), ("le", "0.0025")], 2.0),
            ("ringway_core_connections", &[("core", "1")], 1.0),
            ("ringway_io_driver_info", &[("reason", "io_uring is \"forbidden\"")], 1.0),
            ("ringway_config_hash_info", &[("hash", "abc")], 1.0),
            ("ringway_config_last_reload_successful", &[], 1.0),
            ("ringway_config_broken_policies", &[], 1.0),
            ("ringway_live_snapshots", &[], 1.0),
            ("ringway_log_dropped_total", &[], 7.0),
        ] {
            assert_eq!(value(&page, name, labels), expected, "{name} {labels:?}");
        }
        assert!(value(&page, "process_resident_memory_bytes", &[]) > 0.0);
    }

    #[test]
    fn a_core_that_is_silent_keeps_its_numbers() {
        let cores = [CoreTelemetry::new(0), CoreTelemetry::new(1)];
        cores.iter().for_each(|core| core.connections_accepted.increment());
        let metrics = Metrics::default();
        metrics.render(cores.iter().map(CoreTelemetry::copy).collect(), &view(), &names(), 0);
        let page = parse(&metrics.render(vec![cores[0].copy()], &view(), &names(), 0));
        assert_eq!(value(&page, "ringway_connections_accepted_total", &[]), 2.0);
    }

    #[test]
    fn the_busy_ratio_is_of_the_time_between_scrapes() {
        let began = Instant::now();
        let copy = |at_ms: u64, busy_ms: u64| {
            let taken_at = began + Duration::from_millis(at_ms);
            vec![CoreCopy { taken_at, busy_ns: busy_ms * 1_000_000, ..CoreTelemetry::new(0).copy() }]
        };
        let metrics = Metrics::default();
        let ratio = |at_ms, busy_ms| {
            let page = parse(&metrics.render(copy(at_ms, busy_ms), &view(), &names(), 0));
            value(&page, "ringway_core_busy_ratio", &[("core", "0")])
        };
        assert_eq!(ratio(0, 500), 0.0);
        assert_eq!(ratio(10_000, 3_000), 0.25);
        assert_eq!(ratio(10_500, 3_500), 0.25, "too soon to tell");
        assert_eq!(ratio(12_000, 4_000), 0.5);
    }

    #[test]
    fn a_page_without_cores_is_a_page() {
        let view = Arc::into_inner(Status::new(Driver::default())).expect("held once").view();
        parse(&Metrics::default().render(Vec::new(), &view, &names(), 0));
    }

    #[test]
    fn the_documentation_lists_the_names_that_exist() {
        let page = Metrics::default().render(vec![CoreTelemetry::new(0).copy()], &view(), &names(), 0);
        let shown: BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let table = include_str!("../../docs/operations/metrics.md").lines().filter(|line| line.starts_with("| `"));
        let first_cells = table.filter_map(|row| row.split('|').nth(1));
        let documented: BTreeSet<&str> = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert_eq!(shown, documented);
    }
}
