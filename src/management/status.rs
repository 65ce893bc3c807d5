//! What this replica is doing: which configuration serves and why, whether it is ready, whether every core is alive.
//!
//! The orchestration writes it; probes, `/config` and `/metrics` read it. Readiness looks at errors only until a class of
//! them has once been absent: a reload that brings a broken policy to every replica at the same moment must not take all of
//! them out of the load balancer.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use super::{calls::Counts as CallCounts, monitors::Standings, storage::Counts as StorageCounts};
use crate::{
    cache::Store,
    config::{
        endpoints::{EndpointTable, Place},
        snapshot::{Service, Snapshot},
    },
    document::problem::{Problem, Severity},
    policies::{
        Compiled,
        chain::BoundPolicy,
        wants::{Published, PublishedKeySet},
    },
    telemetry::{fault::Fault, heartbeat::Heartbeat},
};

/// A core whose last beat is older is dead. It beats every 100 ms.
pub const BEAT_AGE_MAX: Duration = Duration::from_secs(5);

/// Shared by the orchestration and everything that reports. The lock is held for a few assignments only.
#[derive(Debug)]
pub struct Status {
    started_at: SystemTime,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    driver: Driver,
    cores: Vec<Heartbeat>,
    running: Option<Running>,
    last_reload: Option<Reload>,
    endpoints: Arc<EndpointTable>,
    published: Arc<Published>,
    storage: Arc<StorageCounts>,
    calls: Arc<CallCounts>,
    checks: Arc<Standings>,
    cache: Store,
    /// Every snapshot that some core or exchange may still hold.
    snapshots: Vec<Weak<Snapshot>>,
    settled: Settled,
    draining: bool,
}

/// Which I/O driver the cores run on, and why this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    pub name: String,
    pub reason: String,
}

/// The configuration that serves.
#[derive(Clone, Debug)]
pub struct Running {
    pub snapshot: Arc<Snapshot>,
    pub applied_at: SystemTime,
    pub listeners: Vec<Listening>,
    /// The resources in expanded form, secrets redacted.
    pub resources: Arc<serde_json::Value>,
}

/// One address of the configuration, and why it is not served if it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    pub address: SocketAddr,
    pub error: Option<String>,
}

/// The last time a configuration was read: at start, or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    pub at: SystemTime,
    /// False: it was refused, and the set before it goes on serving.
    pub applied: bool,
    pub problems: Vec<Problem>,
}

/// What a readiness probe is told to overlook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerate {
    pub api: bool,
    /// Of the data plane: an address that could not be bound. The name is Flex's.
    pub envoy: bool,
    pub policy: bool,
}

/// Which conditions of readiness have held once; they are not asked again.
#[derive(Clone, Copy, Debug, Default)]
struct Settled {
    deployed: bool,
    api: bool,
    envoy: bool,
    policy: bool,
}

/// A copy of everything, for whoever renders it.
#[derive(Clone, Debug)]
pub struct View {
    pub started_at: SystemTime,
    pub driver: Driver,
    pub running: Option<Running>,
    pub last_reload: Option<Reload>,
    pub endpoints: Arc<EndpointTable>,
    pub published: Arc<Published>,
    pub storage: Arc<StorageCounts>,
    pub calls: Arc<CallCounts>,
    pub checks: Arc<Standings>,
    pub cache: Store,
    pub live_snapshots: usize,
    pub draining: bool,
}

/// One endpoint of a Service, and why it takes no requests if it takes none.
#[derive(Clone, Debug)]
pub struct Reached<'a> {
    pub service: &'a Service,
    pub endpoint: String,
    pub fault: Option<&'a Fault>,
}

impl Status {
    pub fn new(driver: Driver) -> Arc<Self> {
        let state = State { driver, ..State::default() };
        Arc::new(Self { started_at: SystemTime::now(), state: Mutex::new(state) })
    }

    /// One heartbeat for each core; each is alive from now on.
    pub fn add_cores(&self, count: usize) -> Vec<Heartbeat> {
        let cores: Vec<Heartbeat> = (0..count).map(|_| Heartbeat::new()).collect();
        self.lock().cores.extend(cores.iter().cloned());
        cores
    }

    /// A configuration serves on all cores.
    pub fn applied(&self, snapshot: Arc<Snapshot>, listeners: Vec<Listening>, resources: serde_json::Value) {
        let now = SystemTime::now();
        let mut state = self.lock();
        state.snapshots.retain(|snapshot| snapshot.strong_count() > 0);
        state.snapshots.push(Arc::downgrade(&snapshot));
        state.last_reload = Some(Reload { at: now, applied: true, problems: snapshot.problems.clone() });
        let running = Running { snapshot, applied_at: now, listeners, resources: Arc::new(resources) };
        state.settled = state.settled.or(&running);
        state.running = Some(running);
    }

    /// A configuration was read and not taken.
    pub fn refused(&self, problems: Vec<Problem>) {
        self.lock().last_reload = Some(Reload { at: SystemTime::now(), applied: false, problems });
    }

    pub fn publish_endpoints(&self, endpoints: Arc<EndpointTable>) {
        self.lock().endpoints = endpoints;
    }

    pub fn publish(&self, published: Arc<Published>) {
        self.lock().published = published;
    }

    /// What `health-check-flex` policies have found.
    pub fn attach_checks(&self, checks: Arc<Standings>) {
        self.lock().checks = checks;
    }

    /// What counts the calls of policies.
    pub fn attach_calls(&self, calls: Arc<CallCounts>) {
        self.lock().calls = calls;
    }

    /// What counts how the shared storage stands.
    pub fn attach_storage(&self, storage: Arc<StorageCounts>) {
        self.lock().storage = storage;
    }

    /// Where the cores store responses.
    pub fn attach_cache(&self, cache: Store) {
        self.lock().cache = cache;
    }

    /// Readiness fails from now on.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// `Ok`: ready, with what an operator should know all the same. `Err`: why not.
    pub fn readiness(&self, tolerate: Tolerate) -> Result<Vec<String>, Vec<String>> {
        let state = self.lock();
        if state.draining {
            return Err(vec!["Gateway is shutting down".to_owned()]);
        }
        let Some(running) = state.running.as_ref().filter(|running| state.settled.deployed || running.has_apis())
        else {
            return Err(vec!["Gateway not started: no API instances registered".to_owned()]);
        };
        let classes = [
            (running.api_errors(), tolerate.api || state.settled.api),
            (running.envoy_errors(), tolerate.envoy || state.settled.envoy),
            (running.policy_errors(), tolerate.policy || state.settled.policy),
        ];
        let (mut notes, mut errors) = (Vec::new(), Vec::new());
        for (found, overlooked) in classes {
            if overlooked { notes.extend(found) } else { errors.extend(found) }
        }
        // Replicas that lost their storage go on: to take all of them out would be worse.
        notes.extend(away(&state.storage));
        if errors.is_empty() { Ok(notes) } else { Err(errors) }
    }

    /// `Err`: which cores have stopped.
    pub fn liveness(&self) -> Result<(), Vec<String>> {
        self.liveness_at(Instant::now())
    }

    fn liveness_at(&self, now: Instant) -> Result<(), Vec<String>> {
        let dead: Vec<String> = (self.lock().cores.iter().enumerate())
            .map(|(core, heart)| (core, heart.age(now)))
            .filter(|(_, age)| *age > BEAT_AGE_MAX)
            .map(|(core, age)| format!("Core {core} has not answered for {} s", age.as_secs()))
            .collect();
        if dead.is_empty() { Ok(()) } else { Err(dead) }
    }

    pub fn view(&self) -> View {
        let state = self.lock();
        View {
            started_at: self.started_at,
            driver: state.driver.clone(),
            running: state.running.clone(),
            last_reload: state.last_reload.clone(),
            endpoints: state.endpoints.clone(),
            published: state.published.clone(),
            storage: state.storage.clone(),
            calls: state.calls.clone(),
            checks: state.checks.clone(),
            cache: state.cache.clone(),
            live_snapshots: state.snapshots.iter().filter(|snapshot| snapshot.strong_count() > 0).count(),
            draining: state.draining,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a shared storage that cannot be reached.
fn away(storage: &StorageCounts) -> Option<String> {
    let standing = storage.standing();
    let fault = standing.fault.filter(|_| standing.state == crate::storage::State::Away)?;
    Some(format!("Shared storage is away: {}: {}", fault.reason, fault.text))
}

impl View {
    /// Every key set that policies want, by its address as it is shown; what then looks like another one is numbered, the second
    /// `#2`.
    pub fn key_sets(&self) -> BTreeMap<String, &PublishedKeySet> {
        let mut sets: Vec<_> = self.published.key_sets.iter().collect();
        // By what is not shown, so that each keeps its number.
        sets.sort_by_key(|(address, _)| &address.target);
        let mut shown = BTreeMap::new();
        for (address, set) in sets {
            let plain = address.to_string();
            let numbered = (2..).map(|number| format!("{plain}#{number}"));
            let free = iter::once(plain.clone()).chain(numbered).find(|text| !shown.contains_key(text));
            shown.insert(free.expect("there is always another number"), set);
        }
        shown
    }

    /// Every address of the running Services, and every name of theirs that has none: once for each Service, in order.
    pub fn upstreams(&self) -> Vec<Reached<'_>> {
        let mut known = Vec::new();
        for service in self.running.iter().flat_map(|running| &running.snapshot.services) {
            for (endpoint, carried) in service.dialled() {
                let found = self.endpoints.addresses(endpoint);
                if let Some(fault) = self.endpoints.unresolved.get(&endpoint.host).filter(|_| found.is_empty()) {
                    let endpoint = through(service, carried, &format!("{}:{}", endpoint.host, endpoint.port));
                    known.push(Reached { service, endpoint, fault: Some(fault) });
                }
            }
            // Two names of one Service may mean the same address.
            let places: BTreeSet<Place> = self.endpoints.places(service).collect();
            known.extend(places.into_iter().map(|place| {
                let fault = self.endpoints.unhealthy.get(&(service.identity, place));
                Reached { service, endpoint: through(service, place.carried, &place.address.to_string()), fault }
            }));
        }
        known
    }
}

/// Which endpoint is reached, and through whom.
fn through(service: &Service, carried: Option<usize>, dialled: &str) -> String {
    match carried {
        None => dialled.to_owned(),
        Some(at) => format!("{} through {dialled}", service.endpoints[at]),
    }
}

impl Settled {
    fn or(self, running: &Running) -> Self {
        Self {
            deployed: self.deployed || running.has_apis(),
            api: self.api || running.api_errors().is_empty(),
            envoy: self.envoy || running.envoy_errors().is_empty(),
            policy: self.policy || running.policy_errors().is_empty(),
        }
    }
}

impl Running {
    fn has_apis(&self) -> bool {
        !self.snapshot.apis.is_empty()
    }

    fn api_errors(&self) -> Vec<String> {
        let errors = self.snapshot.problems.iter().filter(|problem| problem.severity == Severity::Error);
        errors.map(|problem| format!("API error: {problem}")).collect()
    }

    pub fn envoy_errors(&self) -> Vec<String> {
        let failed = |listening: &Listening| {
            listening.error.as_ref().map(|error| format!("Data plane error: {}: {error}", listening.address))
        };
        self.listeners.iter().filter_map(failed).collect()
    }

    /// What stands in the chains decides, so that a policy which is only warned about counts too: its requests get 503.
    pub fn policy_errors(&self) -> Vec<String> {
        let apis = self.snapshot.apis.iter().map(|api| (&api.name, &api.policies));
        let services = self.snapshot.services.iter().map(|service| (&service.name, &service.policies));
        let broken = |(owner, policies): (&String, &'_ Vec<BoundPolicy>)| -> Vec<String> {
            let text = |bound: &BoundPolicy| match &bound.policy {
                Compiled::Broken(why) => Some(format!("Policy error: {owner}: {}: {why}", bound.name)),
                _ => None,
            };
            policies.iter().filter_map(text).collect()
        };
        apis.chain(services).flat_map(broken).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        config::{settings::Settings, snapshot::Api},
        document::address::WebAddress,
        telemetry::series::SeriesId,
    };

    /// A snapshot of one API, with a policy that may be broken.
    pub fn snapshot(apis: usize, broken: Option<&str>) -> Arc<Snapshot> {
        let policy = |why: &str| BoundPolicy {
            shadow: false,
            name: "orders-jwt-1".to_owned(),
            reference: "jwt-validation-flex".to_owned(),
            location: Default::default(),
            identity: 1,
            series: SeriesId(0),
            policy: Compiled::Broken(why.to_owned()),
            needs: crate::policies::Needs::NONE,
            rules: Vec::new(),
        };
        let api = || Api {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
            location: Default::default(),
            base: "/".to_owned(),
            series: SeriesId(0),
            policies: broken.map(policy).into_iter().collect(),
            routes: Vec::new(),
        };
        Arc::new(Snapshot {
            generation: 1,
            hash: "abc".to_owned(),
            settings: Settings::default(),
            listeners: Vec::new(),
            apis: (0..apis).map(|_| Arc::new(api())).collect(),
            services: Vec::new(),
            called: Vec::new(),
            patterns: 0,
            wants: Vec::new(),
            contracts: Default::default(),
            storage: Default::default(),
            problems: Vec::new(),
            files: Vec::new(),
        })
    }

    fn status() -> Arc<Status> {
        Status::new(Driver::default())
    }

    const STRICT: Tolerate = Tolerate { api: false, envoy: false, policy: false };

    #[test]
    fn not_ready_before_the_first_api() {
        let status = status();
        let none = Err(vec!["Gateway not started: no API instances registered".to_owned()]);
        assert_eq!(status.readiness(STRICT), none);
        status.applied(snapshot(0, None), Vec::new(), Value::Null);
        assert_eq!(status.readiness(STRICT), none, "an empty directory starts, not ready");
        status.applied(snapshot(1, None), Vec::new(), Value::Null);
        assert_eq!(status.readiness(STRICT), Ok(Vec::new()));
    }

    #[test]
    fn a_broken_policy_blocks_unless_tolerated() {
        let status = status();
        status.applied(snapshot(1, Some("unknown policy")), Vec::new(), Value::Null);
        let text = vec!["Policy error: orders: orders-jwt-1: unknown policy".to_owned()];
        assert_eq!(status.readiness(STRICT), Err(text.clone()));
        assert_eq!(status.readiness(Tolerate { policy: true, ..STRICT }), Ok(text));
        status.applied(snapshot(1, None), Vec::new(), Value::Null);
        assert_eq!(status.readiness(STRICT), Ok(Vec::new()));
    }

    #[test]
    fn an_address_that_is_not_bound_blocks_unless_tolerated() {
        let status = status();
        let address = "127.0.0.1:80".parse().expect("a literal address");
        let failed = vec![Listening { address, error: Some("permission denied".to_owned()) }];
        status.applied(snapshot(1, None), failed, Value::Null);
        let text = vec!["Data plane error: 127.0.0.1:80: permission denied".to_owned()];
        assert_eq!(status.readiness(STRICT), Err(text.clone()));
        assert_eq!(status.readiness(Tolerate { envoy: true, ..STRICT }), Ok(text));
    }

    #[test]
    fn an_unusable_document_blocks_unless_tolerated() {
        let status = status();
        let problem = Problem {
            severity: Severity::Error,
            location: Default::default(),
            path: "orders.spec".to_owned(),
            text: "no address".to_owned(),
        };
        let mut partial = Arc::into_inner(snapshot(1, None)).expect("held once");
        partial.problems.push(problem);
        status.applied(Arc::new(partial), Vec::new(), Value::Null);
        assert_eq!(status.readiness(STRICT), Err(vec!["API error: : orders.spec: no address".to_owned()]));
        assert!(status.readiness(Tolerate { api: true, ..STRICT }).is_ok());
    }

    #[test]
    fn a_reload_does_not_take_a_ready_replica_out() {
        let status = status();
        status.applied(snapshot(1, None), Vec::new(), Value::Null);
        status.applied(snapshot(1, Some("bad field")), Vec::new(), Value::Null);
        assert_eq!(status.readiness(STRICT), Ok(vec!["Policy error: orders: orders-jwt-1: bad field".to_owned()]));
        status.refused(Vec::new());
        assert!(status.readiness(STRICT).is_ok());
        status.applied(snapshot(0, None), Vec::new(), Value::Null);
        assert!(status.readiness(STRICT).is_ok());
        status.drain();
        assert_eq!(status.readiness(STRICT), Err(vec!["Gateway is shutting down".to_owned()]));
    }

    #[test]
    fn a_core_that_stops_beating_is_dead_after_five_seconds() {
        let status = status();
        let cores = status.add_cores(2);
        let now = Instant::now() + Duration::from_secs(10);
        cores[0].beat_at(now);
        assert_eq!(status.liveness_at(now).map_err(|dead| dead.len()), Err(1));
        cores[1].beat_at(now - Duration::from_secs(4));
        assert_eq!(status.liveness_at(now), Ok(()));
    }

    #[test]
    fn snapshots_count_as_long_as_somebody_holds_them() {
        let status = status();
        let old = snapshot(1, None);
        status.applied(old.clone(), Vec::new(), Value::Null);
        status.applied(snapshot(1, None), Vec::new(), Value::Null);
        assert_eq!(status.view().live_snapshots, 2);
        drop(old);
        assert_eq!(status.view().live_snapshots, 1);
    }

    #[test]
    fn key_sets_that_look_alike_are_numbered() {
        let status = status();
        let urls = ["https://a.test/keys?key=2", "https://a.test/keys?key=1", "https://a.test/keys"];
        let fetched =
            |url: &str| PublishedKeySet { fault: Some(Fault::new("timeout", url)), ..PublishedKeySet::new(|| {}) };
        let sets = urls.map(|url| (WebAddress::parse(url).expect("an address"), fetched(url)));
        let key_sets = sets.into_iter().collect();
        status.publish(Arc::new(Published { key_sets, ..Published::default() }));
        let view = status.view();
        let seen = view.key_sets().into_iter().map(|(shown, set)| {
            let url = set.fault.as_ref().map_or("", |fault| fault.text.as_str());
            (shown, url)
        });
        let expected = [
            ("https://a.test/keys".to_owned(), urls[2]),
            ("https://a.test/keys?***".to_owned(), urls[1]),
            ("https://a.test/keys?***#2".to_owned(), urls[0]),
        ];
        assert_eq!(seen.collect::<Vec<_>>(), expected);
    }
}
