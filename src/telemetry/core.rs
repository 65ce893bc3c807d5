//! What one core counts: every number here is written by one thread, in place.
//!
//! A scrape gets a copy (`CoreCopy`), in slices where there are many histograms, so that the data plane pays a memcpy and
//! nothing else. Series appear with their first exchange; a core that never served an API holds nothing for it.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    calls::Calls,
    counts::{ByReason, Count, Counter, Gauge, Reasons, Row, Told},
    histogram::{Histogram, merge_histogram},
    lines::Lines,
    message_log::Messages,
    policies::{Policies, PolicyCounts},
    series::{self, SeriesId},
};
use crate::http::{method::Method, quirks::Quirks};

/// APIs whose histograms one step of a copy takes: about 400 KB, some tens of microseconds.
const APIS_PER_COPY_STEP: usize = 64;

/// Policies that one step takes; each has a histogram of 2 KB where it waits.
const POLICIES_PER_COPY_STEP: usize = 128;

/// Index of a status in [`StatusCounts`]: 1xx to 5xx, and what is no status (the client left before there was one).
pub const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// Counts by [`STATUS_CLASSES`].
pub type StatusCounts = [u64; STATUS_CLASSES.len()];

/// One exchange as it ended, however it ended.
#[derive(Clone, Debug, Default)]
pub struct ExchangeRecord {
    pub api: Option<SeriesId>,
    pub route: Option<SeriesId>,
    /// The Service that was chosen, also where it could not be reached.
    pub upstream: Option<SeriesId>,
    /// What the client was sent; 0 where it left before there was a status.
    pub status: u16,
    /// Reason code of an answer the gateway made, or of a failure; empty where the upstream's response passed.
    pub reason: &'static str,
    pub method: Method,
    /// First byte of the head to last byte of the response.
    pub total_ns: u64,
    /// Request sent to response head received.
    pub upstream_ns: Option<u64>,
    /// Time that the gateway itself added, both directions.
    pub overhead_ns: Option<u64>,
    /// Time that policies had it wait, which is no overhead.
    pub waited_ns: Option<u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub retries: u32,
}

/// Makes of each declaration a field of [`CoreTelemetry`] and of [`CoreCopy`], how copies add up, and where it has a name, a row
/// of the table it stands in. Tables and their rows are in the order of the metrics page.
macro_rules! counts {
    ($($(#[$about:meta])* $table:ident {
        $($(#[$doc:meta])* $field:ident: $count:ty $(=> $name:literal $(by $label:literal)?, $help:literal)?;)*
    })*) => {
        $($(#[$about])* pub static $table: &[Row] = &[
            $($(Row {
                name: $name,
                label: concat!($($label)?),
                help: $help,
                kind: <$count as Count>::KIND,
                value: |copy| <$count as Count>::show(&copy.$field),
            },)?)*
        ];)*

        /// One core's telemetry. Not `Sync`: it never leaves its thread; [`CoreCopy`] does.
        #[derive(Debug)]
        pub struct CoreTelemetry {
            pub core: usize,
            $($($(#[$doc])* pub $field: $count,)*)*
            pub access_log: Lines,
            pub policies: Policies,
            /// What the message logging policies of this core write.
            pub messages: Rc<Messages>,
            exchanges: RefCell<Exchanges>,
        }

        /// What a core said about itself at one moment; several merge into one for the replica.
        #[derive(Clone, Debug)]
        pub struct CoreCopy {
            pub core: usize,
            pub taken_at: Instant,
            $($($(#[$doc])* pub $field: <$count as Count>::Copy,)*)*
            pub exchanges: Exchanges,
            /// By series number.
            pub policies: Vec<PolicyCounts>,
        }

        impl CoreTelemetry {
            pub fn new(core: usize) -> Self {
                Self {
                    core,
                    $($($field: Default::default(),)*)*
                    access_log: Lines::default(),
                    policies: Policies::default(),
                    messages: Rc::default(),
                    exchanges: RefCell::default(),
                }
            }

            /// Of now, with these exchanges and no policies.
            fn copy_with(&self, exchanges: Exchanges) -> CoreCopy {
                CoreCopy {
                    core: self.core,
                    taken_at: Instant::now(),
                    $($($field: self.$field.copy(),)*)*
                    exchanges,
                    policies: self.policies.begin_copy(),
                }
            }
        }

        impl CoreCopy {
            /// Adds another core's numbers; `core` and `taken_at` stay.
            pub fn merge(&mut self, other: &Self) {
                $($(<$count as Count>::merge(&mut self.$field, &other.$field);)*)*
                self.exchanges.merge(&other.exchanges);
                for (id, theirs) in other.policies.iter().enumerate() {
                    slot(&mut self.policies, SeriesId(id as u32)).merge(theirs);
                }
            }
        }
    };
}

counts! {
    /// Requests, beside those that have series.
    REQUESTS {
        bytes_in: Counter => "ringway_request_bytes_total", "Bytes received from clients.";
        bytes_out: Counter => "ringway_response_bytes_total", "Bytes sent to clients.";
        retries: Counter => "ringway_upstream_retries_total", "Further tries after a failed one.";
        /// Exchanges between head and last byte.
        requests_open: Gauge => "ringway_requests_in_flight", "Requests being served now.";
    }
    /// Shown for each core.
    CORES {
        connections_open: Gauge => "ringway_core_connections", "Client connections open on a core.";
        /// Told by whoever keeps the copy before this one.
        busy_ratio: Told<f64> => "ringway_core_busy_ratio", "Share of the time since the last scrape that a core worked.";
        /// CPU time of the core's thread.
        busy: Told<Duration> => "ringway_core_busy_seconds_total", "Time that a core did not wait.";
        /// Those of all methods.
        requests: Told<u64> => "ringway_core_requests_total", "Requests that a core has served.";
        connections_accepted: Counter
            => "ringway_core_connections_accepted_total", "Client connections that the kernel gave to a core.";
        connections_handed_over: Counter
            => "ringway_core_connections_handed_over_total",
            "Of those, connections that the core gave to a less loaded one.";
        connections_taken_over: Counter
            => "ringway_core_connections_taken_over_total", "Connections that a core has taken from others.";
    }
    /// Connections of clients and to upstreams.
    CONNECTIONS {
        /// Closed at accept because of a limit.
        connections_refused: Counter
            => "ringway_connections_refused_total", "Client connections closed at once by a limit.";
        /// Accepting failed: the process or the host had run out of something.
        accept_failures: Counter
            => "ringway_accept_pauses_total",
            "Times a core left its listen queue alone: descriptors or memory had run out.";
        dials: Counter => "ringway_upstream_dials_total", "Upstream connections attempted.";
        /// Requests that found an idle connection.
        reuses: Counter => "ringway_upstream_reuses_total", "Requests that found an idle upstream connection.";
        /// Another endpoint was tried as one could not be reached.
        next_endpoints: Counter
            => "ringway_upstream_next_endpoints_total", "Further endpoints tried as one could not be reached.";
        /// A request was sent again that no upstream had looked at.
        resends: Counter
            => "ringway_upstream_resends_total", "Requests sent again that no upstream had looked at.";
        /// An exchange went on without its client, to renew what is stored.
        revalidations: Counter
            => "ringway_cache_revalidations_total", "Requests without a client that renew what is stored.";
        dial_failures: ByReason
            => "ringway_upstream_dial_failures_total" by "reason", "Failed dials by reason code.";
        /// A client's HTTP/2 connection was ended, as it broke the protocol or used up its budget.
        h2_connection_errors: ByReason
            => "ringway_http2_connection_errors_total" by "reason",
            "Client connections ended for breaking HTTP/2 or using up their budget, by reason code.";
        /// A stream was reset before it became a request.
        h2_stream_errors: ByReason
            => "ringway_http2_stream_errors_total" by "reason",
            "Streams of clients reset before they became a request, by reason code.";
        /// A connection without a PROXY protocol header that counts.
        proxy_headers_refused: ByReason
            => "ringway_proxy_headers_refused_total" by "reason",
            "Client connections closed for want of a PROXY protocol header that counts, by reason code.";
        upstream_quirks: ByReason
            => "ringway_upstream_quirks_total" by "kind",
            "Upstream answers that were read although they stray from the grammar of HTTP.";
        /// `full`, `resumed`, or why there was none.
        tls_handshakes: ByReason
            => "ringway_tls_handshakes_total" by "result",
            "TLS handshakes of clients: `full`, `resumed`, or why there was none.";
        tls_handshakes_open: Gauge
            => "ringway_tls_handshakes_in_flight",
            "TLS handshakes of clients that are under way or wait for their turn.";
        /// Those that the core has made itself.
        calls: Calls;
        /// Upstream connections that wait for a request.
        pool_idle: Gauge;
        /// All upstream connections, the idle ones included.
        pool_open: Gauge;
    }
    /// What should stay at nought.
    FAULTS {
        log_dropped: ByReason
            => "ringway_log_dropped_total" by "sink",
            "Lines dropped because a buffer was full or could not be written, by log.";
        messages_failed: Told<u64>
            => "ringway_messages_failed_total",
            "Lines of message logging left out because an expression had no value.";
        /// Tasks that panicked.
        panics: Told<u64>
            => "ringway_task_panics_total",
            "Panics; each ended one connection, or restarted one management task.";
        /// Refusals of the driver's call.
        driver_faults: Told<u64>
            => "ringway_io_driver_faults_total",
            "Times the kernel refused the call by which a core waits for I/O.";
    }
}

impl CoreTelemetry {
    /// Accounts one exchange.
    pub fn record(&self, exchange: &ExchangeRecord) {
        self.exchanges.borrow_mut().record(exchange);
        self.bytes_in.add(exchange.bytes_in);
        self.bytes_out.add(exchange.bytes_out);
        self.retries.add(exchange.retries.into());
    }

    /// An upstream's answer was read although it strays from the grammar.
    #[inline]
    pub fn upstream_strayed(&self, quirks: Quirks) {
        if !quirks.is_empty() {
            self.count_quirks(quirks);
        }
    }

    #[cold]
    fn count_quirks(&self, quirks: Quirks) {
        quirks.iter().for_each(|quirk| self.upstream_quirks.increment(quirk.as_str()));
    }

    /// All at once, for cores with few APIs and for tests.
    pub fn copy(&self) -> CoreCopy {
        let mut copy = self.begin_copy();
        while self.copy_more(&mut copy) {}
        copy
    }

    /// Everything but the histograms and the policies, and what others tell. [`CoreTelemetry::copy_more`] adds those, step by
    /// step, so that a core can serve requests in between.
    pub fn begin_copy(&self) -> CoreCopy {
        let exchanges = self.exchanges.borrow();
        let mut copy = self.copy_with(Exchanges {
            apis: Vec::with_capacity(exchanges.apis.len()),
            routes: exchanges.routes.clone(),
            upstreams: exchanges.upstreams.clone(),
            methods: exchanges.methods,
            reasons: exchanges.reasons.clone(),
        });
        copy.requests = exchanges.methods.iter().sum();
        copy.log_dropped.add("access_log", self.access_log.dropped());
        copy.log_dropped.add("messages", self.messages.lines.dropped());
        copy.messages_failed = self.messages.failed.value();
        copy
    }

    /// Adds the next ones to a copy; false when there are none left.
    pub fn copy_more(&self, copy: &mut CoreCopy) -> bool {
        let mine = &self.exchanges.borrow().apis;
        let theirs = &mut copy.exchanges.apis;
        let end = mine.len().min(theirs.len() + APIS_PER_COPY_STEP);
        theirs.extend_from_slice(&mine[theirs.len()..end]);
        end < mine.len() || self.policies.copy_more(&mut copy.policies, POLICIES_PER_COPY_STEP)
    }
}

/// One API's exchanges. The latencies of a phase are allocated when it is first measured.
#[derive(Clone, Debug, Default)]
pub struct ApiCounts {
    /// Exchanges that no route took.
    pub unrouted: StatusCounts,
    pub total: Option<Box<Histogram>>,
    pub upstream: Option<Box<Histogram>>,
    pub overhead: Option<Box<Histogram>>,
}

/// Everything [`CoreTelemetry::record`] writes, by series number.
#[derive(Clone, Debug, Default)]
pub struct Exchanges {
    pub apis: Vec<ApiCounts>,
    pub routes: Vec<StatusCounts>,
    pub upstreams: Vec<StatusCounts>,
    pub methods: [u64; Method::ALL.len()],
    pub reasons: Reasons,
}

impl Exchanges {
    fn record(&mut self, exchange: &ExchangeRecord) {
        let class = status_class(exchange.status);
        if let Some(upstream) = exchange.upstream {
            slot(&mut self.upstreams, upstream)[class] += 1;
        }
        let api = slot(&mut self.apis, exchange.api.unwrap_or(series::NONE));
        match exchange.route {
            Some(route) => slot(&mut self.routes, route)[class] += 1,
            None => api.unrouted[class] += 1,
        }
        api.total.get_or_insert_default().record(exchange.total_ns);
        if let Some(duration) = exchange.upstream_ns {
            api.upstream.get_or_insert_default().record(duration);
        }
        if let Some(duration) = exchange.overhead_ns {
            api.overhead.get_or_insert_default().record(duration);
        }
        self.methods[exchange.method as usize] += 1;
        if !exchange.reason.is_empty() {
            self.reasons.add(exchange.reason, 1);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (id, theirs) in other.apis.iter().enumerate() {
            let mine = slot(&mut self.apis, SeriesId(id as u32));
            merge_counts(&mut mine.unrouted, &theirs.unrouted);
            merge_histogram(&mut mine.total, &theirs.total);
            merge_histogram(&mut mine.upstream, &theirs.upstream);
            merge_histogram(&mut mine.overhead, &theirs.overhead);
        }
        merge_series(&mut self.routes, &other.routes);
        merge_series(&mut self.upstreams, &other.upstreams);
        for (mine, theirs) in self.methods.iter_mut().zip(other.methods) {
            *mine += theirs;
        }
        self.reasons.merge(&other.reasons);
    }
}

fn status_class(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => class as usize - 1,
        // As if it were one (RFC 9110 section 15).
        6..=9 => 4,
        _ => STATUS_CLASSES.len() - 1,
    }
}

/// The entry of a series; the vector grows to it the first time.
#[inline]
pub(super) fn slot<T: Clone + Default>(entries: &mut Vec<T>, series: SeriesId) -> &mut T {
    let index = series.0 as usize;
    if index >= entries.len() {
        entries.resize(index + 1, T::default());
    }
    &mut entries[index]
}

fn merge_series(mine: &mut Vec<StatusCounts>, theirs: &[StatusCounts]) {
    for (id, counts) in theirs.iter().enumerate() {
        merge_counts(slot(mine, SeriesId(id as u32)), counts);
    }
}

fn merge_counts(mine: &mut StatusCounts, theirs: &StatusCounts) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine += theirs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::histogram::Distribution;

    fn exchange(api: u32, status: u16, reason: &'static str) -> ExchangeRecord {
        ExchangeRecord {
            api: Some(SeriesId(api)),
            route: Some(SeriesId(api)),
            upstream: reason.is_empty().then_some(SeriesId(7)),
            status,
            reason,
            method: Method::of(b"GET"),
            total_ns: 100_000,
            upstream_ns: reason.is_empty().then_some(80_000),
            overhead_ns: None,
            waited_ns: None,
            bytes_in: 10,
            bytes_out: 20,
            retries: 1,
        }
    }

    #[test]
    fn an_exchange_counts_under_its_series() {
        let core = CoreTelemetry::new(0);
        core.record(&exchange(3, 200, ""));
        core.record(&exchange(3, 503, "upstream_connect"));
        core.record(&ExchangeRecord { status: 404, reason: "no_route", ..ExchangeRecord::default() });
        let copy = core.copy().exchanges;
        assert_eq!(copy.routes[3], [0, 1, 0, 0, 1, 0]);
        assert_eq!(copy.apis[series::NONE.0 as usize].unrouted, [0, 0, 0, 1, 0, 0]);
        assert_eq!(copy.upstreams[7], [0, 1, 0, 0, 0, 0]);
        assert_eq!(copy.reasons.iter().collect::<Vec<_>>(), [("upstream_connect", 1), ("no_route", 1)]);
        assert_eq!(copy.methods[Method::Get as usize], 2);
        assert_eq!(copy.methods[Method::Other as usize], 1);
        let latencies = &copy.apis[3];
        assert_eq!(latencies.total.as_ref().map(|histogram| histogram.count()), Some(2));
        assert_eq!(latencies.upstream.as_ref().map(|histogram| histogram.count()), Some(1));
        assert!(latencies.overhead.is_none(), "allocated on first use");
    }

    #[test]
    fn cores_merge_by_series() {
        let (one, two) = (CoreTelemetry::new(0), CoreTelemetry::new(1));
        one.record(&exchange(2, 200, ""));
        two.record(&exchange(2, 301, ""));
        two.record(&exchange(5, 500, "upstream_reset"));
        two.dial_failures.increment("refused");
        two.connections_open.increment();
        let mut sum = one.copy();
        sum.merge(&two.copy());
        assert_eq!(sum.exchanges.routes[2], [0, 1, 1, 0, 0, 0]);
        assert_eq!(sum.exchanges.apis[2].total.as_ref().map(|histogram| histogram.count()), Some(2));
        assert_eq!(sum.exchanges.reasons.iter().collect::<Vec<_>>(), [("upstream_reset", 1)]);
        assert_eq!(sum.dial_failures.iter().collect::<Vec<_>>(), [("refused", 1)]);
        assert_eq!((sum.connections_open, sum.bytes_out, sum.retries), (1, 60, 3));
    }

    #[test]
    fn a_copy_in_steps_holds_every_api() {
        let core = CoreTelemetry::new(0);
        for api in 0..200 {
            core.record(&exchange(api, 200, ""));
        }
        let mut copy = core.begin_copy();
        let mut steps = 1;
        while core.copy_more(&mut copy) {
            steps += 1;
        }
        assert_eq!((copy.exchanges.apis.len(), steps), (200, 4));
    }

    #[test]
    fn no_status_and_odd_statuses_have_a_class() {
        assert_eq!(
            [0, 99, 100, 204, 599, 600, 999].map(|status| STATUS_CLASSES[status_class(status)]),
            ["none", "none", "1xx", "2xx", "5xx", "5xx", "5xx"]
        );
    }
}
