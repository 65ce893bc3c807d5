//! One core's own: what its connections share, and nothing that another core can see.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    gate::Gate,
    h2,
    listener::OpenListener,
    pool::{Shares, Upstream},
    spread::Neighbour,
    workspace::Workspaces,
};
use crate::{
    calls::circuit::Circuit,
    config::{
        endpoints::EndpointTable,
        snapshot::{Service, ServiceLimits, Snapshot},
    },
    http::h2::{HeaderMemory, Limits},
    matching::rule::Scratch,
    net::deadline::Deadlines,
    policies::{self, Instance, chain::Instances, wants::Published},
    telemetry::{access_log::civil, core::CoreTelemetry},
};

pub struct Core {
    pub id: usize,
    /// How many cores the replica's limits are shared out over.
    pub cores: usize,
    pub deadlines: Rc<Deadlines>,
    pub header_memory: HeaderMemory,
    pub telemetry: Rc<CoreTelemetry>,
    serving: RefCell<Rc<Serving>>,
    endpoints: RefCell<Arc<EndpointTable>>,
    /// By the Service's identity; a Service that no snapshot names any more is gone from here.
    upstreams: RefCell<HashMap<u64, Rc<Upstream>>>,
    /// By identity, as upstreams: what policies own outlives reloads that do not change them.
    policies: RefCell<Instances>,
    /// What policies are given of it.
    for_policies: policies::Core,
    /// What policies want, as far as it has come.
    published: RefCell<Arc<Published>>,
    pub listeners: RefCell<Vec<Rc<OpenListener>>>,
    pub drain: Cell<Drain>,
    /// Connections that have what an exchange needs.
    pub busy: Rc<Occupancy>,
    /// Those of them that wait for their next request.
    pub warm: Rc<Occupancy>,
    pub workspaces: Rc<Workspaces>,
    pub load: Arc<Load>,
    /// All cores, this one among them; empty where it is alone.
    pub neighbours: Arc<[Neighbour]>,
    /// Listeners that have gone a moment ago, for connections that are on their way to them.
    pub gone: RefCell<Vec<Rc<OpenListener>>>,
    /// TLS handshakes under way, and those that wait for their turn.
    pub handshakes: Gate,
    /// Of whom policies call, by identity.
    pub circuits: RefCell<HashMap<u64, Circuit>>,
    /// Exchanges that are being retried, for the retry budget.
    pub retries: Cell<u32>,
    /// Those that go on without their client.
    pub alone: Rc<Occupancy>,
    /// Memory that holds bodies, of all exchanges.
    pub buffered: Cell<usize>,
    random: Cell<u64>,
    date: RefCell<Date>,
}

/// How much a core has to do: written by the core alone, read by management. On a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub struct Load {
    connections: AtomicUsize,
    /// Listeners whose accept task still runs.
    listeners: AtomicUsize,
    /// Connections that other cores have handed over and this one has not taken yet.
    coming: AtomicUsize,
    /// Of the snapshot that the core serves.
    generation: AtomicU64,
    /// Its driver cannot be relied on any more.
    failing: AtomicBool,
}

/// How many there are of something that only this core knows, and how many there were.
#[derive(Default)]
pub struct Occupancy {
    now: Cell<usize>,
    most: Cell<usize>,
}

/// One of them, for as long as it lives.
pub struct Occupant(Rc<Occupancy>);

impl Occupancy {
    pub fn enter(self: &Rc<Self>) -> Occupant {
        let now = self.now.get() + 1;
        self.now.set(now);
        self.most.set(self.most.get().max(now));
        Occupant(self.clone())
    }

    pub fn now(&self) -> usize {
        self.now.get()
    }

    /// The most at a time since this was last asked.
    pub fn take_most(&self) -> usize {
        self.most.replace(self.now.get())
    }
}

impl Drop for Occupant {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get() - 1);
    }
}

/// Counts one connection or listener for as long as it lives.
pub struct Counted {
    load: Arc<Load>,
    of: fn(&Load) -> &AtomicUsize,
}

impl Load {
    pub fn connection(self: &Arc<Self>) -> Counted {
        Counted::new(self, |load| &load.connections)
    }

    pub fn listener(self: &Arc<Self>) -> Counted {
        Counted::new(self, |load| &load.listeners)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Those that are on their way counted too.
    pub fn expected(&self) -> usize {
        self.connections() + self.coming.load(Ordering::Relaxed)
    }

    /// Before a connection is put into the core's queue; by the core that does.
    pub fn comes(&self) {
        self.coming.fetch_add(1, Ordering::AcqRel);
    }

    /// After it was taken out, and is counted as open if it is to be.
    pub fn came(&self) {
        self.coming.fetch_sub(1, Ordering::AcqRel);
    }

    /// The core has the listeners of this snapshot.
    pub fn serves(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// The core's thread ends: it takes no connection any more.
    pub fn leave(&self) {
        self.serves(0);
    }

    /// The core goes on, for as long as it takes to replace the process.
    pub fn fail(&self) {
        self.failing.store(true, Ordering::Release);
    }

    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Of the snapshot whose listeners the core has.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Nothing is open, and nothing can come from outside.
    pub fn is_none(&self) -> bool {
        self.listeners.load(Ordering::Acquire) == 0
            && self.coming.load(Ordering::Acquire) == 0
            && self.connections.load(Ordering::Acquire) == 0
    }
}

impl Counted {
    fn new(load: &Arc<Load>, of: fn(&Load) -> &AtomicUsize) -> Self {
        let counted = Self { load: load.clone(), of };
        counted.add(1);
        counted
    }

    /// A plain load and store: there is one writer.
    fn add(&self, more: isize) {
        let count = (self.of)(&self.load);
        // Who sees a listener gone sees what it has handed over.
        count.store(count.load(Ordering::Relaxed).wrapping_add_signed(more), Ordering::Release);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.add(-1);
    }
}

/// How far this core is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    No,
    /// Listeners still accept; every response says that its connection ends.
    Announced,
    /// Listeners are closed; idle connections go.
    Closing,
    /// The time is over: whatever still waits ends.
    Over,
}

/// A snapshot on this core: the shared, immutable part and what the core adds to it.
pub struct Serving {
    pub snapshot: Arc<Snapshot>,
    /// By API, by Service: the policies of its chain with what this core owns of them.
    pub api_policies: Vec<Vec<Rc<Instance>>>,
    pub service_policies: Vec<Vec<Rc<Instance>>>,
    pub upstreams: Vec<Rc<Upstream>>,
    /// Whom policies call, by identity.
    called: HashMap<u64, Rc<Upstream>>,
    /// Never borrowed across an await.
    pub scratch: RefCell<Scratch>,
}

impl Serving {
    /// Of no core that runs: to decide by, with nobody to send to. What policies log comes to `core`.
    pub fn apart(snapshot: Arc<Snapshot>, core: &policies::Core, published: &Published) -> Self {
        let mut policies = Instances::default();
        let api_policies = snapshot.apis.iter().map(|api| policies.chain(&api.policies, core)).collect();
        let service_policies = snapshot.services.iter().map(|s| policies.chain(&s.policies, core)).collect();
        policies.publish(published);
        Self {
            api_policies,
            service_policies,
            upstreams: Vec::new(),
            called: HashMap::new(),
            scratch: RefCell::new(Scratch::new(snapshot.patterns)),
            snapshot,
        }
    }

    /// Somebody whom a policy of this snapshot calls.
    pub fn called(&self, identity: u64) -> Option<&Rc<Upstream>> {
        self.called.get(&identity)
    }
}

#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

impl Core {
    pub fn new(
        for_policies: policies::Core,
        cores: usize,
        snapshot: Arc<Snapshot>,
        telemetry: CoreTelemetry,
        load: Arc<Load>,
        neighbours: Arc<[Neighbour]>,
    ) -> Rc<Self> {
        let empty = Serving {
            snapshot,
            api_policies: Vec::new(),
            service_policies: Vec::new(),
            upstreams: Vec::new(),
            called: HashMap::new(),
            scratch: RefCell::new(Scratch::new(0)),
        };
        let snapshot = empty.snapshot.clone();
        let id = for_policies.id;
        let core = Rc::new(Self {
            id,
            cores,
            deadlines: Deadlines::new(),
            header_memory: HeaderMemory::new(0),
            telemetry: Rc::new(telemetry),
            serving: RefCell::new(Rc::new(empty)),
            endpoints: RefCell::default(),
            upstreams: RefCell::default(),
            policies: RefCell::default(),
            for_policies,
            published: RefCell::default(),
            listeners: RefCell::default(),
            drain: Cell::new(Drain::No),
            busy: Rc::default(),
            warm: Rc::default(),
            workspaces: Rc::default(),
            load,
            neighbours,
            gone: RefCell::default(),
            handshakes: Gate::default(),
            circuits: RefCell::default(),
            retries: Cell::new(0),
            alone: Rc::default(),
            buffered: Cell::new(0),
            random: Cell::new(seed(id)),
            date: RefCell::default(),
        });
        core.serve(snapshot);
        core
    }

    pub fn serving(&self) -> Rc<Serving> {
        self.serving.borrow().clone()
    }

    /// Takes over a snapshot: requests that begin from now on see it. Pools of unchanged Services stay.
    pub fn serve(&self, snapshot: Arc<Snapshot>) {
        self.header_memory.set_max(snapshot.settings.limits.h2.header_memory_per_core);
        let h2_limits = h2::upstream_limits(&snapshot.settings);
        let upstreams: Vec<_> = snapshot.services.iter().map(|service| self.upstream(service, h2_limits)).collect();
        let called = snapshot.called.iter().map(|service| (service.identity, self.upstream(service, h2_limits)));
        let called: HashMap<_, _> = called.collect();
        let mut policies = self.policies.borrow_mut();
        let serving = Serving {
            api_policies: snapshot.apis.iter().map(|api| policies.chain(&api.policies, &self.for_policies)).collect(),
            service_policies: snapshot
                .services
                .iter()
                .map(|s| policies.chain(&s.policies, &self.for_policies))
                .collect(),
            scratch: RefCell::new(Scratch::new(snapshot.patterns)),
            upstreams,
            called,
            snapshot,
        };
        let chains = || {
            let apis = serving.snapshot.apis.iter().map(|api| &api.policies);
            apis.chain(serving.snapshot.services.iter().map(|service| &service.policies))
        };
        let bound: HashSet<u64> = chains().flatten().map(|bound| bound.identity).collect();
        policies.retain(|identity| bound.contains(&identity));
        policies.publish(&self.published.borrow());
        drop(policies);
        let named: HashSet<u64> = serving.snapshot.reached().map(|service| service.identity).collect();
        self.upstreams.borrow_mut().retain(|identity, upstream| {
            let stays = named.contains(identity);
            if !stays {
                upstream.retire();
            }
            stays
        });
        self.circuits.borrow_mut().retain(|identity, _| named.contains(identity));
        // Its listeners are open by now: connections for them may be handed over.
        self.load.serves(serving.snapshot.generation);
        *self.serving.borrow_mut() = Rc::new(serving);
        self.locate();
    }

    /// Takes over where the endpoints are now.
    pub fn set_endpoints(&self, endpoints: Arc<EndpointTable>) {
        *self.endpoints.borrow_mut() = endpoints;
        self.locate();
    }

    /// Takes over what there is now of what policies want.
    pub fn set_published(&self, published: Arc<Published>) {
        self.policies.borrow().publish(&published);
        *self.published.borrow_mut() = published;
    }

    /// Once a second.
    pub fn sweep(&self) {
        self.upstreams.borrow().values().for_each(Upstream::sweep);
        self.gone.borrow_mut().retain(|listener| !listener.is_long_gone());
    }

    /// xorshift64*: for balancing and ids that need not be secret.
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn draining(&self) -> bool {
        self.drain.get() != Drain::No
    }

    /// The `Date` of a response made now (RFC 9110 section 6.6.1), made once a second.
    pub fn with_date<R>(&self, write: impl FnOnce(&str) -> R) -> R {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut date = self.date.borrow_mut();
        if date.second != second || date.text.is_empty() {
            *date = Date { second, text: imf_fixdate(second) };
        }
        write(&date.text)
    }

    fn upstream(&self, service: &Service, h2_limits: Limits) -> Rc<Upstream> {
        let shares = self.shares(&service.limits);
        let mut upstreams = self.upstreams.borrow_mut();
        let new = || {
            let (random, memory) = (self.random() as u32, self.header_memory.clone());
            Upstream::new(self.telemetry.clone(), shares, random, service, memory)
        };
        let upstream = upstreams.entry(service.identity).or_insert_with(new);
        upstream.set_limits(shares, service.limits.connection_idle, h2_limits);
        upstream.clone()
    }

    fn shares(&self, limits: &ServiceLimits) -> Shares {
        let share = |limit| share(limit, self.cores, self.id);
        Shares {
            connections: share(limits.connections),
            pending: share(limits.pending_requests),
            requests: share(limits.requests),
            retries: share(limits.retries),
        }
    }

    fn locate(&self) {
        let serving = self.serving();
        let endpoints = self.endpoints.borrow();
        let of_routes = serving.snapshot.services.iter().zip(&serving.upstreams);
        let called =
            serving.snapshot.called.iter().filter_map(|called| Some((called, serving.called(called.identity)?)));
        for (service, upstream) in of_routes.chain(called) {
            let standing = |place| (place, endpoints.is_healthy(service.identity, place));
            let places: Vec<_> = endpoints.places(service).map(standing).collect();
            upstream.set_places(&places);
        }
    }
}

/// One core's part of a replica's limit: the parts add up to it, but each core has at least one of a limit that is not 0.
fn share(limit: usize, cores: usize, id: usize) -> usize {
    match limit {
        0 | usize::MAX => limit,
        _ => (limit / cores + usize::from(id < limit % cores)).max(1),
    }
}

fn seed(id: usize) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_usize(id);
    hasher.finish() | 1
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(unix_seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, rest) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occupancy_knows_the_most_since_it_was_asked() {
        let busy = Rc::<Occupancy>::default();
        let stays = busy.enter();
        drop(busy.enter());
        assert_eq!((busy.now(), busy.take_most(), busy.take_most()), (1, 2, 1));
        drop(stays);
        assert_eq!((busy.now(), busy.take_most(), busy.take_most()), (0, 1, 0));
    }

    #[test]
    fn dates_are_those_of_the_rfc() {
        assert_eq!(imf_fixdate(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(imf_fixdate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(imf_fixdate(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }

    #[test]
    fn shares_cover_the_limit() {
        assert_eq!((0..3).map(|id| share(1024, 3, id)).sum::<usize>(), 1024);
        assert_eq!((share(1, 8, 7), share(10, 1, 0), share(0, 2, 0), share(usize::MAX, 2, 1)), (1, 10, 0, usize::MAX));
    }
}
