//! The metrics page: what the cores counted, merged, and what this replica knows about itself.
//!
//! A core that does not answer in time is shown with what it said last: a counter that fell would look like a restart.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    exposition::{Family, LabelPairs, Page},
    log_sink::Dropped,
    process,
    status::{Reached, View},
    storage::{Standing, Totals},
    supervise,
};
use crate::{
    cache,
    config::snapshot::Snapshot,
    http::method::Method,
    policies::Compiled,
    quota::Counts,
    storage::State,
    telemetry::{
        calls,
        core::{CONNECTIONS, CORES, CoreCopy, FAULTS, REQUESTS, STATUS_CLASSES, StatusCounts},
        counts::{Kind, Row, Value},
        histogram::Histogram,
        series::{Labels, Names},
    },
};

/// Two scrapes closer than this share one busy ratio: a shorter time says little.
const RATIO_AGE_MIN: Duration = Duration::from_secs(1);

/// What is counted outside of the cores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outside {
    /// Lines of logs lost on the management thread.
    pub log_dropped: Dropped,
    pub rate_limits: Counts,
}

/// Renders pages, and remembers what the last one was made of.
#[derive(Debug, Default)]
pub struct Metrics {
    cores: Mutex<BTreeMap<usize, Core>>,
}

/// What is known of one core.
#[derive(Debug)]
struct Core {
    last: CoreCopy,
    /// Where the time of the ratio begins, and how long the core had worked by then.
    since: (Instant, Duration),
}

impl Metrics {
    /// `copies` may lack a core; `names` and `outside` are of now. Takes a while with many series: not for the
    /// management thread itself.
    pub fn render(&self, copies: Vec<CoreCopy>, view: &View, names: &Names, outside: Outside) -> String {
        let Outside { log_dropped, rate_limits } = outside;
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        for copy in copies {
            match cores.get_mut(&copy.core) {
                Some(core) => core.update(copy),
                None => {
                    let since = (copy.taken_at, copy.busy);
                    cores.insert(copy.core, Core { last: copy, since });
                }
            }
        }
        let mut page = Page::default();
        let mut totals = view.calls.totals();
        let mut copies = cores.values().map(|core| &core.last);
        if let Some(first) = copies.next() {
            let mut sum = first.clone();
            copies.for_each(|other| sum.merge(other));
            sum.log_dropped.add("access_log", log_dropped.access_log);
            sum.log_dropped.add("messages", log_dropped.messages);
            sum.panics += supervise::panics();
            calls::merge(&mut totals, &sum.calls);
            latencies(&mut page, &sum, names);
            requests(&mut page, &sum, names);
            policies(&mut page, &sum, names);
            all_cores(&mut page, REQUESTS, &sum);
            each_core(&mut page, CORES, &cores);
            let help = "Client connections accepted.";
            page.single(Kind::Counter, "ringway_connections_accepted_total", help, sum.connections_accepted);
            all_cores(&mut page, CONNECTIONS, &sum);
            page.family(Kind::Gauge, "ringway_upstream_pool_connections", "Upstream connections by state.")
                .sample(&[("state", "idle")], sum.pool_idle)
                .sample(&[("state", "active")], sum.pool_open.saturating_sub(sum.pool_idle));
            all_cores(&mut page, FAULTS, &sum);
        }
        if let Some(running) = &view.running {
            certificates(&mut page, &running.snapshot);
        }
        configuration(&mut page, view);
        upstreams(&mut page, view);
        key_sets(&mut page, view);
        limits(&mut page, rate_limits);
        shared_storage(&mut page, view);
        calls(&mut page, totals);
        view.checks.render(&mut page);
        caches(&mut page, view);
        process::render(&mut page, view.started_at);
        page.finish()
    }
}

impl Core {
    fn update(&mut self, copy: CoreCopy) {
        let (since, busy) = self.since;
        let elapsed = copy.taken_at.saturating_duration_since(since);
        let mut busy_ratio = self.last.busy_ratio;
        if elapsed >= RATIO_AGE_MIN {
            busy_ratio = copy.busy.saturating_sub(busy).div_duration_f64(elapsed).min(1.0);
            self.since = (copy.taken_at, copy.busy);
        }
        self.last = CoreCopy { busy_ratio, ..copy };
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
}

fn policies(page: &mut Page, sum: &CoreCopy, names: &Names) {
    let policies = || names.policies.iter().map(of_policy).zip(&sum.policies);
    let mut family = page.family(
        Kind::Counter,
        "ringway_policy_decisions_total",
        "What policies decided where they are bound: `continue`, `wait`, `respond`, `fail`, `shadow_deny`.",
    );
    for (labels, counts) in policies() {
        for (decision, reason, count) in counts.decisions() {
            family.sample(&[&labels[..], &[("decision", decision), ("reason", reason)]].concat(), count);
        }
    }
    let mut family = page.family(
        Kind::Histogram,
        "ringway_policy_duration_seconds",
        "CPU time of a policy's turn in either direction, without its waits; a sample.",
    );
    for (labels, turns) in policies().filter_map(|(labels, counts)| Some((labels, counts.turns.as_deref()?))) {
        family.histogram(&labels, turns);
    }
    let mut family = page.family(
        Kind::Histogram,
        "ringway_policy_wait_seconds",
        "How long a policy had an exchange wait until it decided.",
    );
    for (labels, waits) in policies().filter_map(|(labels, counts)| Some((labels, counts.waits.as_deref()?))) {
        family.histogram(&labels, waits);
    }
}

/// The API or the Service that it is bound to is empty, which is the same to Prometheus as if the label were not there.
fn of_policy(name: &Labels) -> [(&'static str, &str); 5] {
    let Labels { namespace, api, upstream, policy, binding, .. } = name;
    [("namespace", namespace), ("api", api), ("upstream", upstream), ("policy", policy), ("binding", binding)]
}

/// Status classes appear when they are first counted.
fn by_class(family: &mut Family<'_>, labels: LabelPairs<'_>, counts: &StatusCounts) {
    for (class, count) in STATUS_CLASSES.iter().zip(counts).filter(|(_, count)| **count > 0) {
        let labels: Vec<_> = labels.iter().copied().chain([("status_class", *class)]).collect();
        family.sample(&labels, count);
    }
}

/// One row for all cores.
fn all_cores(page: &mut Page, rows: &[Row], sum: &CoreCopy) {
    for row in rows {
        samples(&mut page.family(row.kind, row.name, row.help), row.label, &[], (row.value)(sum));
    }
}

fn each_core(page: &mut Page, rows: &[Row], cores: &BTreeMap<usize, Core>) {
    for row in rows {
        let mut family = page.family(row.kind, row.name, row.help);
        for (core, state) in cores {
            samples(&mut family, row.label, &[("core", &core.to_string())], (row.value)(&state.last));
        }
    }
}

fn samples(family: &mut Family<'_>, label: &str, labels: LabelPairs<'_>, value: Value<'_>) {
    match value {
        Value::Count(count) => drop(family.sample(labels, count)),
        Value::Number(number) => drop(family.sample(labels, number)),
        Value::By(reasons) => reasons.iter().for_each(|(reason, count)| {
            family.sample(&[labels, &[(label, reason)]].concat(), count);
        }),
    }
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

fn limits(page: &mut Page, counts: Counts) {
    let help = "Keys of rate limits that are counted now.";
    page.single(Kind::Gauge, "ringway_rate_limit_keys", help, counts.keys);
    let help =
        "Times that a core came with a new key that there was no room for: such keys share one window of their limit.";
    page.single(Kind::Counter, "ringway_rate_limit_keys_without_room_total", help, counts.without_room);
    let help = "Keys that made room for others while the shared storage went on counting them.";
    page.single(Kind::Counter, "ringway_rate_limit_keys_forgotten_total", help, counts.forgotten_early);
    let help = "Questions to the shared storage, each about one key.";
    page.single(Kind::Counter, "ringway_rate_limit_questions_total", help, counts.questions);
    let help = "Questions without an answer, or with one that came too late.";
    page.family(Kind::Counter, "ringway_rate_limit_questions_failed_total", help)
        .sample(&[("reason", "lost")], counts.lost)
        .sample(&[("reason", "late")], counts.late);
    let help = "Requests that were decided without the shared storage, as no answer came in time.";
    page.single(Kind::Counter, "ringway_rate_limit_unanswered_total", help, counts.unanswered);
}

fn shared_storage(page: &mut Page, view: &View) {
    let Standing { state, kind, replicas, .. } = view.storage.standing();
    if state == State::Memory {
        return;
    }
    let Totals { commands, errors, connects, latency } = view.storage.totals();
    page.family(Kind::Gauge, "ringway_storage_up", "1: the shared storage answers; 0: it is away.")
        .sample(&[("kind", kind)], u8::from(state == State::Here));
    let help = "Replicas of this gateway that were last seen, with this one.";
    page.single(Kind::Gauge, "ringway_storage_replicas", help, replicas);
    let help = "Commands sent to the shared storage, beats included; not those inside scripts.";
    page.single(Kind::Counter, "ringway_storage_commands_total", help, commands);
    let help = "Times that the shared storage was connected with.";
    page.single(Kind::Counter, "ringway_storage_connects_total", help, connects);
    let help = "What the shared storage refused, and times that it was lost, by reason.";
    let mut family = page.family(Kind::Counter, "ringway_storage_errors_total", help);
    for (reason, count) in errors {
        family.sample(&[("reason", reason)], count);
    }
    let help = "From sending a batch of commands to its last answer.";
    page.family(Kind::Histogram, "ringway_storage_duration_seconds", help).histogram(&[], &latency);
}

/// What policies have asked others, whoever has called for them; nothing where none has.
fn calls(page: &mut Page, totals: calls::Totals) {
    if totals.is_empty() {
        return;
    }
    let help =
        "Calls of policies, by destination and by what became of them: a class of statuses, or the reason of a fault.";
    let mut family = page.family(Kind::Counter, "ringway_calls_total", help);
    for ((policy, destination), total) in &totals {
        for (outcome, count) in &total.outcomes {
            family.sample(&[("policy", policy), ("destination", destination), ("outcome", outcome)], *count);
        }
    }
    let help = "The time that calls of policies took together, waiting for their turn included.";
    let mut family = page.family(Kind::Counter, "ringway_calls_duration_seconds_total", help);
    for ((policy, destination), total) in &totals {
        family.sample(&[("policy", policy), ("destination", destination)], total.duration.as_secs_f64());
    }
}

/// What each caching policy has stored and answered; nothing where there is none.
fn caches(page: &mut Page, view: &View) {
    let apis = view.running.iter().flat_map(|running| &running.snapshot.apis);
    let bound = apis.flat_map(|api| api.policies.iter().map(move |bound| (api, bound)));
    let of_cache = bound.filter(|(_, bound)| matches!(bound.policy, Compiled::HttpCaching(_)));
    let counted: Vec<_> = of_cache
        .filter_map(|(api, bound)| {
            let labels = [("namespace", api.namespace.as_str()), ("api", &api.name), ("binding", &bound.name)];
            Some((labels, view.cache.known(bound.identity)?.counted()))
        })
        .collect();
    type Of = fn(&cache::partition::Counts) -> u64;
    let families: [(Kind, &str, &str, Of); 6] = [
        (Kind::Counter, "ringway_cache_hits_total", "Requests answered with what was stored.", |counts| counts.hits),
        (
            Kind::Counter,
            "ringway_cache_misses_total",
            "Requests that went on to the upstream, with what is stale or nothing stored.",
            |counts| counts.misses,
        ),
        (Kind::Counter, "ringway_cache_stores_total", "Responses stored.", |counts| counts.stores),
        (Kind::Counter, "ringway_cache_evictions_total", "Responses that gave way to newer ones.", |counts| {
            counts.evictions
        }),
        (Kind::Gauge, "ringway_cache_entries", "Responses that are stored.", |counts| counts.entries),
        (Kind::Gauge, "ringway_cache_bytes", "The memory that they take.", |counts| counts.bytes),
    ];
    for (kind, name, help, of) in families {
        let mut family = page.family(kind, name, help);
        for (labels, counts) in &counted {
            family.sample(labels, of(counts));
        }
    }
}

fn key_sets(page: &mut Page, view: &View) {
    let known = view.key_sets();
    let mut family = page.family(
        Kind::Gauge,
        "ringway_key_set_fetched_timestamp_seconds",
        "When the keys that tokens are checked with were last fetched; 0: never, and requests get 503.",
    );
    for (url, set) in &known {
        family.sample(&[("url", url)], set.fetched_at.map_or(0.0, unix_seconds));
    }
    let mut family = page.family(Kind::Gauge, "ringway_key_set_keys", "Keys of a set that can be used.");
    for (url, set) in &known {
        family.sample(&[("url", url)], set.set.as_ref().map_or(0, |set| set.len()));
    }
    let mut family = page.family(
        Kind::Counter,
        "ringway_key_set_fetches_total",
        "Fetches of a key set: `ok`, or why it brought none; `/config` says more.",
    );
    for (url, set) in &known {
        for (result, count) in &set.fetches {
            family.sample(&[("url", url), ("result", result)], *count);
        }
    }
}

pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::{
        management::{
            calls::Counts as CallCounts,
            exposition::tests::{Samples, parse},
            monitors::{Standings, tests::watched},
            status::{Driver, Status, tests::snapshot},
            storage::Counts as StorageCounts,
        },
        telemetry::{
            core::{CoreTelemetry, ExchangeRecord},
            policies::Decision,
            series::SeriesId,
        },
    };

    fn names() -> Names {
        let label = |api: &str| Labels { api: api.to_owned(), ..Labels::default() };
        let upstream = Labels { upstream: "orders".to_owned(), ..Labels::default() };
        let route = Labels { route: "orders-a-route-1".to_owned(), ..label("orders") };
        let policy = Labels { policy: "cors-flex".to_owned(), binding: "orders-cors-1".to_owned(), ..label("orders") };
        Names {
            apis: vec![Labels::default(), label("_OVERFLOW"), label("orders")],
            routes: vec![Labels::default(), label("_OVERFLOW"), route],
            services: vec![Labels::default(), label("_OVERFLOW"), upstream],
            policies: vec![Labels::default(), label("_OVERFLOW"), policy],
        }
    }

    fn view() -> View {
        let driver = Driver { name: "epoll".to_owned(), reason: "io_uring is \"forbidden\"".to_owned() };
        let status = Status::new(driver);
        status.applied(snapshot(1, Some("bad field")), Vec::new(), serde_json::Value::Null);
        let storage = StorageCounts::default();
        storage.stands(State::Here, "redis", None);
        storage.saw_replicas(3);
        storage.sent(7);
        storage.connected();
        storage.failed("read_only");
        storage.answered(Duration::from_millis(1));
        status.attach_storage(Arc::new(storage));
        let calls = CallCounts::default();
        calls.count("p", "http://a.test".to_owned(), "2xx", Duration::from_secs(2));
        status.attach_calls(Arc::new(calls));
        let checks = Standings::default();
        checks.count(1, &watched(1), &Ok(()));
        status.attach_checks(Arc::new(checks));
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
                ..ExchangeRecord::default()
            });
        }
        cores[1].record(&ExchangeRecord { status: 404, reason: "no_route", ..ExchangeRecord::default() });
        cores[1].connections_open.increment();
        for (core, decision) in [(0, Decision::Continue), (1, Decision::Continue), (1, Decision::Respond("denied"))] {
            cores[core].policies.decided(SeriesId(2), decision);
            cores[core].policies.took(SeriesId(2), 300);
        }
        cores[1].messages.failed.increment();
        let metrics = Metrics::default();
        let outside = Outside {
            rate_limits: Counts {
                keys: 3,
                without_room: 4,
                forgotten_early: 5,
                questions: 6,
                lost: 7,
                late: 8,
                unanswered: 9,
            },
            ..Outside::default()
        };
        let copies = cores.iter().map(CoreTelemetry::copy).collect();
        let page = parse(&metrics.render(
            copies,
            &view(),
            &names(),
            Outside { log_dropped: Dropped { access_log: 7, messages: 2 }, ..outside },
        ));
        let routed = [("api", "orders"), ("route", "orders-a-route-1"), ("status_class", "2xx")];
        for (name, labels, expected) in [
            ("ringway_requests_total", &routed[..], 2.0),
            ("ringway_requests_total", &[("api", ""), ("status_class", "4xx")], 1.0),
            ("ringway_upstream_requests_total", &[("upstream", "orders")], 2.0),
            ("ringway_responses_by_reason_total", &[("reason", "no_route")], 1.0),
            ("http_server_request_duration_seconds_bucket", &[("api", "orders"), ("le", "0.0005")], 2.0),
            ("http_client_request_duration_seconds_bucket", &[("api", "orders"), ("le", "0.00025")], 0.0),
            ("ringway_request_overhead_seconds_count", &[("api", "orders")], 2.0),
            ("ringway_policy_decisions_total", &[("binding", "orders-cors-1"), ("decision", "continue")], 2.0),
            ("ringway_policy_decisions_total", &[("upstream", ""), ("decision", "respond"), ("reason", "denied")], 1.0),
            ("ringway_policy_duration_seconds_bucket", &[("policy", "cors-flex"), ("le", "0.00000025")], 0.0),
            ("ringway_policy_duration_seconds_bucket", &[("policy", "cors-flex"), ("le", "0.0000005")], 3.0),
            ("ringway_core_connections", &[("core", "1")], 1.0),
            ("ringway_io_driver_info", &[("reason", "io_uring is \"forbidden\"")], 1.0),
            ("ringway_config_hash_info", &[("hash", "abc")], 1.0),
            ("ringway_config_last_reload_successful", &[], 1.0),
            ("ringway_config_broken_policies", &[], 1.0),
            ("ringway_live_snapshots", &[], 1.0),
            ("ringway_log_dropped_total", &[("sink", "access_log")], 7.0),
            ("ringway_log_dropped_total", &[("sink", "messages")], 2.0),
            ("ringway_messages_failed_total", &[], 1.0),
            ("ringway_rate_limit_keys", &[], 3.0),
            ("ringway_rate_limit_keys_without_room_total", &[], 4.0),
            ("ringway_rate_limit_keys_forgotten_total", &[], 5.0),
            ("ringway_rate_limit_questions_total", &[], 6.0),
            ("ringway_rate_limit_questions_failed_total", &[("reason", "lost")], 7.0),
            ("ringway_rate_limit_questions_failed_total", &[("reason", "late")], 8.0),
            ("ringway_rate_limit_unanswered_total", &[], 9.0),
            ("ringway_storage_up", &[("kind", "redis")], 1.0),
            ("ringway_storage_replicas", &[], 3.0),
            ("ringway_storage_commands_total", &[], 7.0),
            ("ringway_storage_connects_total", &[], 1.0),
            ("ringway_storage_errors_total", &[("reason", "read_only")], 1.0),
            ("ringway_storage_duration_seconds_count", &[], 1.0),
            ("ringway_calls_total", &[("policy", "p"), ("destination", "http://a.test"), ("outcome", "2xx")], 1.0),
            ("ringway_calls_duration_seconds_total", &[("policy", "p"), ("destination", "http://a.test")], 2.0),
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
        metrics.render(cores.iter().map(CoreTelemetry::copy).collect(), &view(), &names(), Outside::default());
        let page = parse(&metrics.render(vec![cores[0].copy()], &view(), &names(), Outside::default()));
        assert_eq!(value(&page, "ringway_connections_accepted_total", &[]), 2.0);
    }

    #[test]
    fn the_busy_ratio_is_of_the_time_between_scrapes() {
        let began = Instant::now();
        let copy = |at_ms: u64, busy_ms: u64| {
            let taken_at = began + Duration::from_millis(at_ms);
            vec![CoreCopy { taken_at, busy: Duration::from_millis(busy_ms), ..CoreTelemetry::new(0).copy() }]
        };
        let metrics = Metrics::default();
        let ratio = |at_ms, busy_ms| {
            let page = parse(&metrics.render(copy(at_ms, busy_ms), &view(), &names(), Outside::default()));
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
        parse(&Metrics::default().render(Vec::new(), &view, &names(), Outside::default()));
    }

    /// The table of the page: a row's names, and its labels.
    fn documented() -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
        let code_spans = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect();
        let table = include_str!("../../docs/operations/metrics.md").lines().filter(|line| line.starts_with("| `"));
        let cells = table.map(|row| row.split('|').skip(1));
        cells
            .map(|mut cells| (cells.next().map(code_spans), cells.next().map(code_spans)))
            .map(|(names, labels)| (names.unwrap_or_default(), labels.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn the_documentation_lists_the_names_that_exist() {
        let page = Metrics::default().render(vec![CoreTelemetry::new(0).copy()], &view(), &names(), Outside::default());
        let shown: BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(shown, documented().into_iter().flat_map(|(names, _)| names).collect());
    }

    #[test]
    fn the_documentation_lists_the_labels_of_what_cores_count() {
        let documented = documented();
        for (rows, core) in [(REQUESTS, None), (CORES, Some("core")), (CONNECTIONS, None), (FAULTS, None)] {
            for row in rows {
                let labels: Vec<&str> =
                    core.into_iter().chain(Some(row.label).filter(|label| !label.is_empty())).collect();
                assert!(documented.contains(&(vec![row.name], labels.clone())), "{} {labels:?}", row.name);
            }
        }
    }
}
