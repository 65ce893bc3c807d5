//! What one core counts: every number here is written by one thread, in place.
//!
//! A scrape gets a copy (`CoreCopy`), in slices where there are many histograms, so that the data plane pays a memcpy and
//! nothing else. Series appear with their first exchange; a core that never served an API holds nothing for it.

use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

use super::{access_log::Lines, histogram::Histogram, series};
use crate::config::snapshot::SeriesId;
use crate::http::quirks::Quirks;

/// APIs whose histograms one step of a copy takes: about 400 KB, some tens of microseconds.
const APIS_PER_COPY_STEP: usize = 64;

/// Methods that have a number of their own; the rest is `_OTHER`, as a client may invent any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    #[default]
    Other,
}

impl Method {
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Options,
        Self::Patch,
        Self::Trace,
        Self::Connect,
        Self::Other,
    ];

    /// Methods are case-sensitive (RFC 9110 section 9.1).
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "_OTHER",
        }
    }
}

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

/// Only ever counts up.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(Cell<u64>);

impl Gauge {
    pub fn increment(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// Stays at 0: a count that is off by one must not become the largest number there is.
    pub fn decrement(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    pub fn set(&self, value: u64) {
        self.0.set(value);
    }

    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// Counts by reason code; there are few, and only failures come here.
#[derive(Clone, Debug, Default)]
pub struct Reasons(Vec<(&'static str, u64)>);

impl Reasons {
    fn add(&mut self, reason: &'static str, more: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += more,
            None => self.0.push((reason, more)),
        }
    }

    fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(reason, count)| self.add(reason, count));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }
}

/// One core's telemetry. Not `Sync`: it never leaves its thread; [`CoreCopy`] does.
#[derive(Debug)]
pub struct CoreTelemetry {
    pub core: usize,
    pub connections_accepted: Counter,
    /// Of those, given to another core; and taken from others.
    pub connections_handed_over: Counter,
    pub connections_taken_over: Counter,
    /// Closed at accept because of a limit.
    pub connections_refused: Counter,
    /// Accepting failed: the process or the host had run out of something.
    pub accept_failures: Counter,
    pub connections_open: Gauge,
    /// Exchanges between head and last byte.
    pub requests_open: Gauge,
    /// Upstream connections that wait for a request.
    pub pool_idle: Gauge,
    /// All upstream connections, the idle ones included.
    pub pool_open: Gauge,
    pub dials: Counter,
    /// Requests that found an idle connection.
    pub reuses: Counter,
    /// Another endpoint was tried as one could not be reached.
    pub next_endpoints: Counter,
    /// A request was sent again that no upstream had looked at.
    pub resends: Counter,
    pub access_log: Lines,
    exchanges: RefCell<Exchanges>,
    dial_failures: RefCell<Reasons>,
    proxy_headers_refused: RefCell<Reasons>,
    /// TLS handshakes of clients, by how they ended.
    tls_handshakes: RefCell<Reasons>,
    pub tls_handshakes_open: Gauge,
    h2_connection_errors: RefCell<Reasons>,
    h2_stream_errors: RefCell<Reasons>,
    upstream_quirks: RefCell<Reasons>,
}

impl CoreTelemetry {
    pub fn new(core: usize) -> Self {
        Self {
            core,
            connections_accepted: Counter::default(),
            connections_handed_over: Counter::default(),
            connections_taken_over: Counter::default(),
            connections_refused: Counter::default(),
            accept_failures: Counter::default(),
            connections_open: Gauge::default(),
            requests_open: Gauge::default(),
            pool_idle: Gauge::default(),
            pool_open: Gauge::default(),
            dials: Counter::default(),
            reuses: Counter::default(),
            next_endpoints: Counter::default(),
            resends: Counter::default(),
            access_log: Lines::default(),
            exchanges: RefCell::default(),
            dial_failures: RefCell::default(),
            proxy_headers_refused: RefCell::default(),
            tls_handshakes: RefCell::default(),
            tls_handshakes_open: Gauge::default(),
            h2_connection_errors: RefCell::default(),
            h2_stream_errors: RefCell::default(),
            upstream_quirks: RefCell::default(),
        }
    }

    /// Accounts one exchange.
    pub fn record(&self, exchange: &ExchangeRecord) {
        self.exchanges.borrow_mut().record(exchange);
    }

    pub fn dial_failed(&self, reason: &'static str) {
        self.dial_failures.borrow_mut().add(reason, 1);
    }

    /// A connection without a PROXY protocol header that counts.
    pub fn proxy_header_refused(&self, reason: &'static str) {
        self.proxy_headers_refused.borrow_mut().add(reason, 1);
    }

    /// `full`, `resumed`, or why there was none.
    pub fn tls_handshake_ended(&self, result: &'static str) {
        self.tls_handshakes.borrow_mut().add(result, 1);
    }

    /// A client's HTTP/2 connection was ended, as it broke the protocol or used up its budget.
    pub fn h2_connection_failed(&self, reason: &'static str) {
        self.h2_connection_errors.borrow_mut().add(reason, 1);
    }

    /// A stream was reset before it became a request.
    pub fn h2_stream_failed(&self, reason: &'static str) {
        self.h2_stream_errors.borrow_mut().add(reason, 1);
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
        let mut counts = self.upstream_quirks.borrow_mut();
        quirks.iter().for_each(|quirk| counts.add(quirk.as_str(), 1));
    }

    /// All at once, for cores with few APIs and for tests.
    pub fn copy(&self) -> CoreCopy {
        let mut copy = self.begin_copy();
        while self.copy_more(&mut copy) {}
        copy
    }

    /// Everything but the histograms. [`CoreTelemetry::copy_more`] adds those, step by step, so that a core can serve
    /// requests in between.
    pub fn begin_copy(&self) -> CoreCopy {
        let exchanges = self.exchanges.borrow();
        CoreCopy {
            core: self.core,
            taken_at: Instant::now(),
            connections_accepted: self.connections_accepted.value(),
            connections_handed_over: self.connections_handed_over.value(),
            connections_taken_over: self.connections_taken_over.value(),
            connections_refused: self.connections_refused.value(),
            accept_failures: self.accept_failures.value(),
            connections_open: self.connections_open.value(),
            requests_open: self.requests_open.value(),
            pool_idle: self.pool_idle.value(),
            pool_open: self.pool_open.value(),
            dials: self.dials.value(),
            reuses: self.reuses.value(),
            next_endpoints: self.next_endpoints.value(),
            resends: self.resends.value(),
            panics: 0,
            driver_faults: 0,
            busy_ns: 0,
            access_log_dropped: self.access_log.dropped(),
            dial_failures: self.dial_failures.borrow().clone(),
            proxy_headers_refused: self.proxy_headers_refused.borrow().clone(),
            tls_handshakes: self.tls_handshakes.borrow().clone(),
            tls_handshakes_open: self.tls_handshakes_open.value(),
            h2_connection_errors: self.h2_connection_errors.borrow().clone(),
            h2_stream_errors: self.h2_stream_errors.borrow().clone(),
            upstream_quirks: self.upstream_quirks.borrow().clone(),
            exchanges: Exchanges {
                apis: Vec::with_capacity(exchanges.apis.len()),
                routes: exchanges.routes.clone(),
                upstreams: exchanges.upstreams.clone(),
                reasons: exchanges.reasons.clone(),
                ..*exchanges
            },
        }
    }

    /// Adds the next histograms to a copy; false when there are none left.
    pub fn copy_more(&self, copy: &mut CoreCopy) -> bool {
        let mine = &self.exchanges.borrow().apis;
        let theirs = &mut copy.exchanges.apis;
        let end = mine.len().min(theirs.len() + APIS_PER_COPY_STEP);
        theirs.extend_from_slice(&mine[theirs.len()..end]);
        end < mine.len()
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
    pub waited: Option<Box<Histogram>>,
}

/// Everything [`CoreTelemetry::record`] writes, by series number.
#[derive(Clone, Debug, Default)]
pub struct Exchanges {
    pub apis: Vec<ApiCounts>,
    pub routes: Vec<StatusCounts>,
    pub upstreams: Vec<StatusCounts>,
    pub methods: [u64; Method::ALL.len()],
    pub reasons: Reasons,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub retries: u64,
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
        if let Some(duration) = exchange.waited_ns {
            api.waited.get_or_insert_default().record(duration);
        }
        self.methods[exchange.method as usize] += 1;
        if !exchange.reason.is_empty() {
            self.reasons.add(exchange.reason, 1);
        }
        self.bytes_in = self.bytes_in.wrapping_add(exchange.bytes_in);
        self.bytes_out = self.bytes_out.wrapping_add(exchange.bytes_out);
        self.retries += u64::from(exchange.retries);
    }

    fn merge(&mut self, other: &Self) {
        for (id, theirs) in other.apis.iter().enumerate() {
            let mine = slot(&mut self.apis, SeriesId(id as u32));
            merge_counts(&mut mine.unrouted, &theirs.unrouted);
            merge_histogram(&mut mine.total, &theirs.total);
            merge_histogram(&mut mine.upstream, &theirs.upstream);
            merge_histogram(&mut mine.overhead, &theirs.overhead);
            merge_histogram(&mut mine.waited, &theirs.waited);
        }
        merge_series(&mut self.routes, &other.routes);
        merge_series(&mut self.upstreams, &other.upstreams);
        for (mine, theirs) in self.methods.iter_mut().zip(other.methods) {
            *mine += theirs;
        }
        self.reasons.merge(&other.reasons);
        self.bytes_in = self.bytes_in.wrapping_add(other.bytes_in);
        self.bytes_out = self.bytes_out.wrapping_add(other.bytes_out);
        self.retries += other.retries;
    }
}

/// What a core said about itself at one moment; several merge into one for the replica.
#[derive(Clone, Debug)]
pub struct CoreCopy {
    pub core: usize,
    pub taken_at: Instant,
    pub connections_accepted: u64,
    pub connections_handed_over: u64,
    pub connections_taken_over: u64,
    pub connections_refused: u64,
    pub accept_failures: u64,
    pub connections_open: u64,
    pub requests_open: u64,
    pub pool_idle: u64,
    pub pool_open: u64,
    pub dials: u64,
    pub reuses: u64,
    pub next_endpoints: u64,
    pub resends: u64,
    /// Tasks that panicked, refusals of the driver's call, and CPU time: the core's thread knows them, and adds them.
    pub panics: u64,
    pub driver_faults: u64,
    pub busy_ns: u64,
    pub access_log_dropped: u64,
    pub dial_failures: Reasons,
    pub proxy_headers_refused: Reasons,
    pub tls_handshakes: Reasons,
    pub tls_handshakes_open: u64,
    pub h2_connection_errors: Reasons,
    pub h2_stream_errors: Reasons,
    pub upstream_quirks: Reasons,
    pub exchanges: Exchanges,
}

impl CoreCopy {
    /// Adds another core's numbers; `core` and `taken_at` stay.
    pub fn merge(&mut self, other: &Self) {
        self.connections_accepted += other.connections_accepted;
        self.connections_handed_over += other.connections_handed_over;
        self.connections_taken_over += other.connections_taken_over;
        self.connections_refused += other.connections_refused;
        self.accept_failures += other.accept_failures;
        self.connections_open += other.connections_open;
        self.requests_open += other.requests_open;
        self.pool_idle += other.pool_idle;
        self.pool_open += other.pool_open;
        self.dials += other.dials;
        self.reuses += other.reuses;
        self.next_endpoints += other.next_endpoints;
        self.resends += other.resends;
        self.panics += other.panics;
        self.driver_faults += other.driver_faults;
        self.busy_ns += other.busy_ns;
        self.access_log_dropped += other.access_log_dropped;
        self.dial_failures.merge(&other.dial_failures);
        self.proxy_headers_refused.merge(&other.proxy_headers_refused);
        self.tls_handshakes.merge(&other.tls_handshakes);
        self.tls_handshakes_open += other.tls_handshakes_open;
        self.h2_connection_errors.merge(&other.h2_connection_errors);
        self.h2_stream_errors.merge(&other.h2_stream_errors);
        self.upstream_quirks.merge(&other.upstream_quirks);
        self.exchanges.merge(&other.exchanges);
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
fn slot<T: Clone + Default>(entries: &mut Vec<T>, series: SeriesId) -> &mut T {
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

fn merge_histogram(mine: &mut Option<Box<Histogram>>, theirs: &Option<Box<Histogram>>) {
    if let Some(theirs) = theirs {
        mine.get_or_insert_default().merge(theirs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            waited_ns: (status == 503).then_some(1_000_000),
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
        assert_eq!(latencies.waited.as_ref().map(|histogram| histogram.count()), Some(1));
        assert!(latencies.overhead.is_none(), "allocated on first use");
    }

    #[test]
    fn cores_merge_by_series() {
        let (one, two) = (CoreTelemetry::new(0), CoreTelemetry::new(1));
        one.record(&exchange(2, 200, ""));
        two.record(&exchange(2, 301, ""));
        two.record(&exchange(5, 500, "upstream_reset"));
        two.dial_failed("refused");
        two.connections_open.increment();
        let mut sum = one.copy();
        sum.merge(&two.copy());
        assert_eq!(sum.exchanges.routes[2], [0, 1, 1, 0, 0, 0]);
        assert_eq!(sum.exchanges.apis[2].total.as_ref().map(|histogram| histogram.count()), Some(2));
        assert_eq!(sum.exchanges.reasons.iter().collect::<Vec<_>>(), [("upstream_reset", 1)]);
        assert_eq!(sum.dial_failures.iter().collect::<Vec<_>>(), [("refused", 1)]);
        assert_eq!((sum.connections_open, sum.exchanges.bytes_out, sum.exchanges.retries), (1, 60, 3));
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

    #[test]
    fn a_gauge_does_not_go_below_nothing() {
        let gauge = Gauge::default();
        gauge.decrement();
        assert_eq!(gauge.value(), 0);
    }
}
