//! Accounts one exchange: counters, histograms, access log. Always, also when the client left: dropping it is what counts.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{client::Client, core::Serving, decide::Watcher, handshake::Secured, reject, watch::Stalled};
use crate::{
    config::settings::AccessLog,
    http::{
        head::{Known, RequestHead},
        method::Method,
    },
    policies::{
        End,
        chain::{self, BoundPolicy},
    },
    telemetry::{
        access_log::{self, Entry, Format, Tls},
        core::{CoreTelemetry, ExchangeRecord},
        policies::Decision,
        series::SeriesId,
    },
};

pub struct Account {
    telemetry: Rc<CoreTelemetry>,
    serving: Rc<Serving>,
    client: SocketAddr,
    /// The head was complete.
    started: Instant,
    /// Latest first byte sent to an upstream, and its head received.
    asked: Option<Instant>,
    answered: Option<Instant>,
    /// First byte sent to the client.
    replied: Option<Instant>,
    /// What policies had it wait; boxed, since few do.
    pauses: Option<Box<Pauses>>,
    /// Whether the turns of its policies are measured; unknown before the first.
    measured: Option<bool>,
    /// Reason code of what the first policy in shadow would have refused with.
    shadow_deny: &'static str,
    /// Indices into the snapshot.
    pub api: Option<usize>,
    /// How many bytes of the path the API's base takes.
    pub base: usize,
    pub route: Option<usize>,
    pub service: Option<usize>,
    pub status: u16,
    pub reason: &'static str,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub retries: u32,
    method: Method,
    line: Option<Line>,
    /// It has no client.
    is_alone: bool,
}

#[derive(Default)]
struct Pauses {
    /// A policy waits since then.
    since: Option<Instant>,
    /// How long policies have waited before.
    all: Duration,
    /// The last policy that said it waits, and how long it has had the exchange wait and not decided.
    last: (SeriesId, Duration),
}

/// What only the access log wants of the request.
struct Line {
    method: Vec<u8>,
    path: Vec<u8>,
    request_id: Vec<u8>,
    secured: Option<Rc<Secured>>,
}

impl Account {
    pub fn begin(client: &Client, serving: Rc<Serving>, request: &RequestHead) -> Self {
        let telemetry = client.core.telemetry.clone();
        telemetry.requests_open.increment();
        let line = serving.snapshot.settings.access_log.as_ref().map(|_| Line {
            method: request.method.clone(),
            path: request.path.clone(),
            request_id: Vec::new(),
            secured: client.secured.clone(),
        });
        Self {
            telemetry,
            serving,
            client: client.peer,
            started: Instant::now(),
            asked: None,
            answered: None,
            replied: None,
            pauses: None,
            measured: None,
            shadow_deny: "",
            api: None,
            base: 0,
            route: None,
            service: None,
            status: 0,
            reason: "",
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
            method: Method::of(&request.method),
            line,
            is_alone: false,
        }
    }

    /// Of an exchange that goes on without its client, whose account it is none of.
    pub fn alone(client: &Client, serving: Rc<Serving>, request: &RequestHead) -> Self {
        let mut account = Self::begin(client, serving, request);
        (account.line, account.is_alone) = (None, true);
        account.telemetry.revalidations.increment();
        account.telemetry.requests_open.decrement();
        account
    }

    /// How long ago the head was complete.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn upstream_asked(&mut self) {
        self.asked = Some(Instant::now());
    }

    pub fn upstream_answered(&mut self) {
        self.answered = Some(Instant::now());
    }

    #[inline]
    pub fn client_answered(&mut self) {
        self.policy_goes_on();
        self.replied = Some(Instant::now());
    }

    /// From here on the time is the policies', until [`Account::policy_goes_on`].
    pub fn policy_waits(&mut self) {
        self.pauses.get_or_insert_default().since = Some(Instant::now());
    }

    /// It has its reply, or the exchange has stopped waiting for it.
    #[inline]
    pub fn policy_goes_on(&mut self) {
        if let Some(pauses) = &mut self.pauses {
            let waited = pauses.since.take().map(|since| since.elapsed()).unwrap_or_default();
            pauses.all += waited;
            pauses.last.1 += waited;
        }
    }

    /// Counts what a policy had the exchange wait, all in all.
    fn wait_ends(&mut self) {
        if let Some(pauses) = &mut self.pauses
            && !pauses.last.1.is_zero()
        {
            let waited = std::mem::take(&mut pauses.last.1);
            self.telemetry.policies.waited(pauses.last.0, waited.as_nanos() as u64);
        }
    }

    /// Whether the client has been answered, or the answer has begun.
    pub fn is_answered(&self) -> bool {
        self.replied.is_some()
    }

    /// As policies are told it.
    pub fn end(&self) -> End {
        End {
            status: self.status,
            reason: self.reason,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            total: self.age(),
            upstream: self.asked.zip(self.answered).map(|(asked, answered)| answered.saturating_duration_since(asked)),
        }
    }

    /// Nobody is there to be answered; the log and the metrics say so.
    pub fn client_left(&mut self) {
        let answer = reject::stalled(Stalled::ClientGone);
        (self.status, self.reason) = (answer.status, answer.reason);
    }

    fn log(&self, format: &AccessLog, line: &Line, record: &ExchangeRecord) {
        let snapshot = &self.serving.snapshot;
        let api = self.api.map(|api| &snapshot.apis[api]);
        let route = api.zip(self.route).map(|(api, route)| &api.routes[route]);
        let service = self.service.map(|service| &snapshot.services[service]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        access_log::push(
            &self.telemetry.access_log,
            if format.json { Format::Json } else { Format::Text },
            &Entry {
                at_us: (now.as_micros() as u64).saturating_sub(record.total_ns / 1000),
                core: self.telemetry.core,
                client: self.client,
                tls: line.secured.as_deref().map(|secured| Tls {
                    version: secured.facts.version,
                    cipher: secured.facts.cipher,
                    resumed: secured.facts.resumed,
                    subject: secured.client.as_ref().map_or("", |identity| &identity.subject),
                }),
                method: &line.method,
                path: &line.path,
                api: api.map_or("", |api| &api.name),
                route: route.map_or("", |route| &route.name),
                upstream: service.map_or("", |service| &service.name),
                status: self.status,
                reason: self.reason,
                shadow_deny: self.shadow_deny,
                request_id: &line.request_id,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                total_ns: record.total_ns,
                upstream_ns: record.upstream_ns,
                overhead_ns: record.overhead_ns,
                waited_ns: record.waited_ns,
            },
        );
    }
}

impl chain::Watcher for Account {
    fn begins(&mut self) -> Option<Instant> {
        let policies = &self.telemetry.policies;
        self.measured.get_or_insert_with(|| policies.measures_next()).then(Instant::now)
    }

    fn decided(&mut self, bound: &BoundPolicy, decision: Option<Decision>, began: Option<Instant>) {
        if let Some(began) = began {
            self.telemetry.policies.took(bound.series, began.elapsed().as_nanos() as u64);
        }
        let waits_on = || self.pauses.as_ref().is_some_and(|pauses| pauses.last.0 == bound.series);
        if decision != Some(Decision::Wait) || !waits_on() {
            self.wait_ends();
        }
        let Some(decision) = decision else { return };
        self.telemetry.policies.decided(bound.series, decision);
        match decision {
            Decision::Wait => self.pauses.get_or_insert_default().last.0 = bound.series,
            Decision::ShadowDeny(reason) if self.shadow_deny.is_empty() => self.shadow_deny = reason,
            _ => {}
        }
    }
}

impl Watcher for Account {
    fn identified(&mut self, request: &RequestHead) {
        if let Some(line) = &mut self.line {
            line.path.clone_from(&request.path);
            line.request_id.extend_from_slice(request.fields.known(Known::XRequestId).unwrap_or_default());
        }
    }

    fn api(&mut self, index: usize, base: usize) {
        self.api = Some(index);
        self.base = base;
    }

    fn route(&mut self, index: usize) {
        self.route = Some(index);
    }

    fn service(&mut self, index: usize) {
        self.service = Some(index);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.policy_goes_on();
        self.wait_ends();
        if self.is_alone {
            return;
        }
        let nanos = |from: Instant, to: Instant| to.saturating_duration_since(from).as_nanos() as u64;
        let waited_ns = self.pauses.as_ref().map(|pauses| pauses.all.as_nanos() as u64);
        // Policies wait before the upstream is asked and after it has answered.
        let overhead_ns = self.asked.zip(self.answered).zip(self.replied).map(|((asked, answered), replied)| {
            (nanos(self.started, asked) + nanos(answered, replied)).saturating_sub(waited_ns.unwrap_or(0))
        });
        let snapshot = &self.serving.snapshot;
        let api = self.api.map(|api| &snapshot.apis[api]);
        let record = ExchangeRecord {
            api: api.map(|api| api.series),
            route: api.zip(self.route).map(|(api, route)| api.routes[route].series),
            upstream: self.service.map(|service| snapshot.services[service].series),
            status: self.status,
            reason: self.reason,
            method: self.method,
            total_ns: nanos(self.started, Instant::now()),
            upstream_ns: self.asked.zip(self.answered).map(|(asked, answered)| nanos(asked, answered)),
            overhead_ns,
            waited_ns: waited_ns.filter(|waited| *waited > 0),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            retries: self.retries,
        };
        self.telemetry.record(&record);
        self.telemetry.requests_open.decrement();
        if let (Some(format), Some(line)) = (&snapshot.settings.access_log, &self.line) {
            self.log(format, line, &record);
        }
    }
}
