//! Upstream connections of one core: pooled, bounded, no lock.
//!
//! A connection never changes core, so one may sit idle here while another core dials. That costs a handshake now and then;
//! sharing would cost a lock on every request. An idle connection has a read in flight: when that completes before the
//! connection is wanted again, the upstream has closed it or sent what nobody asked for, and it is dropped.

mod breaker;
mod dial;
mod lease;
mod through;
mod unavailable;
mod unreachable;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use rustls::{ClientConfig, client::UnbufferedClientConnection, pki_types::ServerName};

pub use self::{
    breaker::Shares,
    lease::{Carrier, Lease},
    unavailable::Unavailable,
};
use self::{
    dial::{Dial, Dialling},
    lease::Held,
    through::{Spoken, Through, Way},
    unreachable::Unreachable,
};
use crate::{
    config::{
        endpoints::Place,
        snapshot::{LoadBalancing, ProxyProtocolVersion, Service},
    },
    http::h2::{HeaderMemory, Limits},
    net::{
        Buffer, Stream,
        proxy_protocol::{self, Addresses, Version},
        task,
        tls::{HandshakeError, Side},
    },
    proxy::h2::{self, Link},
    telemetry::core::CoreTelemetry,
    tls::ClientContext,
};

/// How often idle connections are looked at.
pub const SWEEP: Duration = Duration::from_secs(1);

/// One Service as one core sees it. Outlives snapshots in which its identity is the same.
pub struct Upstream {
    telemetry: Rc<CoreTelemetry>,
    backends: RefCell<Rc<[Rc<Backend>]>>,
    /// This core's share of the replica's limits.
    limits: Cell<Shares>,
    /// How long a connection may wait for its next request.
    idle_timeout: Cell<Option<Duration>>,
    /// Those that have a connection, or for which it is being made.
    requests: Cell<usize>,
    /// Those of them that are being retried.
    retries: Cell<usize>,
    turn: Cell<usize>,
    open: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// Waiters that were called and have not run since: what is free was promised to them.
    called: Cell<usize>,
    /// Its connections speak HTTP/2: by its address, or as the last one chose.
    multiplexes: Cell<bool>,
    h2_limits: Cell<Limits>,
    header_memory: HeaderMemory,
    /// How its connections are secured, with this core's sessions.
    tls: Option<Secure>,
    /// The forward proxy, for those of its endpoints that it carries.
    through: Option<Box<Through>>,
    /// No snapshot names this Service any more: connections close when they are given back.
    retired: Cell<bool>,
}

struct Secure {
    config: Arc<ClientConfig>,
    /// For WebSockets: most servers that choose HTTP/2 take them over HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// One address of a Service.
pub struct Backend {
    pub place: Place,
    /// The address is that of a forward proxy, which is itself asked, in absolute form.
    pub asks_a_proxy: bool,
    healthy: Cell<bool>,
    /// Requests under way, for `leastRequests`.
    active: Cell<usize>,
    /// Most recently used last.
    idle: RefCell<VecDeque<Idle>>,
    /// Connections of HTTP/2, in use or not.
    links: RefCell<Vec<Multiplexed>>,
    dial: Dial,
}

/// A connection that carries many requests at a time.
#[derive(Clone)]
struct Multiplexed {
    link: Rc<Link>,
    /// The only client whose requests it may carry.
    owner: Option<Weak<Addresses>>,
}

struct Idle {
    stream: Stream,
    /// The client connection that alone may use it.
    owner: Option<Weak<Addresses>>,
    /// Its last answer had no body, though an upstream may think otherwise: the kernel is asked before it is used.
    doubtful: bool,
    sweeps: u32,
}

/// For a Service that is told who the client is: the connection begins with a header that says so, and carries requests of
/// that one client connection only, which is known by where it keeps its addresses.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    pub version: Version,
    pub client: &'a Rc<Addresses>,
}

/// The connection that a request needs.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub balancing: LoadBalancing,
    pub random: u32,
    /// Of each dial.
    pub connect_timeout: Option<Duration>,
    pub reuse: Reuse,
    pub own: Option<Own<'a>>,
    pub websocket: bool,
}

/// Which idle connection may carry a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// One of which nothing has been heard. It may have been closed a moment ago; the request can be sent again.
    Any,
    /// One that the kernel, asked, knows nothing of either: for a request that must not be sent twice.
    Checked,
    /// None: the connection is dialled.
    None,
}

impl Upstream {
    pub fn new(
        telemetry: Rc<CoreTelemetry>,
        limits: Shares,
        random: u32,
        service: &Service,
        header_memory: HeaderMemory,
    ) -> Rc<Self> {
        let secure = |context: &Arc<ClientContext>| {
            let mut config = context.of_core();
            if service.multiplexes {
                // Nothing else will do.
                Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
            }
            let mut http1 = ClientConfig::clone(&config);
            http1.alpn_protocols = vec![b"http/1.1".to_vec()];
            Secure { config, http1: Arc::new(http1), name: context.name.clone() }
        };
        let (tls, multiplexes) = (service.tls.as_ref().map(secure), service.multiplexes);
        Rc::new(Self {
            tls,
            through: service.carried.as_ref().map(|carried| Box::new(Through::new(carried, &service.endpoints))),
            telemetry,
            backends: RefCell::new(Rc::default()),
            limits: Cell::new(limits),
            idle_timeout: Cell::new(None),
            requests: Cell::new(0),
            retries: Cell::new(0),
            // A random start, or all cores and replicas would begin with the same address.
            turn: Cell::new(random as usize),
            open: Cell::new(0),
            waiting: RefCell::default(),
            called: Cell::new(0),
            multiplexes: Cell::new(multiplexes),
            h2_limits: Cell::default(),
            header_memory,
            retired: Cell::new(false),
        })
    }

    pub fn set_limits(&self, limits: Shares, idle_timeout: Option<Duration>, h2_limits: Limits) {
        self.limits.set(limits);
        self.idle_timeout.set(idle_timeout);
        self.h2_limits.set(h2_limits);
        while self.has_unpromised() && !self.waiting.borrow().is_empty() {
            self.call_next();
        }
    }

    /// Addresses that stay keep their connections; those that went are closed when idle.
    pub fn set_places(&self, places: &[(Place, bool)]) {
        let old = self.backends.borrow().clone();
        let asks_a_proxy = |place| self.through.as_ref().is_some_and(|through| through.is_asked(place));
        let backend = |&(place, healthy): &(Place, bool)| {
            let known = old.iter().find(|backend| backend.place == place).cloned();
            let backend = known.unwrap_or_else(|| Rc::new(Backend::new(place, asks_a_proxy(place))));
            backend.healthy.set(healthy);
            backend
        };
        let new: Rc<[Rc<Backend>]> = places.iter().map(backend).collect();
        for gone in old.iter().filter(|backend| !new.iter().any(|kept| Rc::ptr_eq(kept, backend))) {
            self.close_idle(gone);
        }
        *self.backends.borrow_mut() = new;
    }

    /// An idle connection, or a new one, for a WebSocket one that takes it; waits for a free one at the limit. The caller
    /// bounds the wait.
    pub async fn acquire(self: &Rc<Self>, wanted: Wanted<'_>) -> Result<Lease, Unavailable> {
        let mut unreachable = Unreachable::default();
        loop {
            let lease = self.find(wanted, &mut unreachable).await?;
            if wanted.websocket
                && let Some(Held::Http2(link, _)) = &lease.held
            {
                if !link.settled().await {
                    let failed = Unavailable::Connect(io::ErrorKind::ConnectionReset.into());
                    self.pass_by(lease.backend.clone(), failed, &mut unreachable)?;
                    continue;
                }
                if !link.takes_websockets() {
                    return Err(Unavailable::NoWebSocket);
                }
            }
            return Ok(lease);
        }
    }

    async fn find(self: &Rc<Self>, wanted: Wanted<'_>, unreachable: &mut Unreachable) -> Result<Lease, Unavailable> {
        let Wanted { balancing, random, connect_timeout, reuse, own, websocket } = wanted;
        let (http1, reuse) = if websocket { self.for_a_websocket(reuse) } else { (false, reuse) };
        let mut waited = false;
        loop {
            // Who failed to use what it was called for passes the call on.
            let pass_on = |_: &Unavailable| {
                if waited {
                    self.call_next();
                }
            };
            let backend = self.choose(balancing, random, unreachable).inspect_err(pass_on)?;
            if reuse != Reuse::None
                && let Some(link) = backend.link_with_room(own)
                && (!http1 || link.takes_websockets())
            {
                let _admitted = self.admit().inspect_err(pass_on)?;
                self.telemetry.reuses.increment();
                return Ok(self.lease(Held::Http2(link, None), backend, true, own));
            }
            if self.multiplexes.get() && own.is_none() && !http1 && backend.dial.is_worth_waiting_for() {
                backend.dial.done().await;
                continue;
            }
            // Who finds no connection and no room for one waits, and is none of those under way.
            if (waited || self.called.get() == 0 || self.has_unpromised()) && self.has_room() {
                let _admitted = self.admit().inspect_err(pass_on)?;
                if let Some(stream) = self.take_idle(&backend, reuse, own) {
                    self.telemetry.reuses.increment();
                    return Ok(self.lease(Held::Http1(stream), backend, true, own));
                }
                if self.open.get() < self.limits.get().connections || self.evict_idle() {
                    // Boxed: most requests find a connection, and need no room for a dial.
                    match Box::pin(self.dial(&backend, connect_timeout, own, http1)).await {
                        Ok(lease) => return Ok(lease),
                        Err(failed) => self.pass_by(backend, failed, unreachable)?,
                    }
                    continue;
                }
            }
            self.wait(waited).await?;
            waited = true;
        }
    }

    /// Where the handshake chooses the protocol, a WebSocket can have its own; and where a forward proxy is asked, it has a
    /// tunnel of its own.
    fn for_a_websocket(&self, reuse: Reuse) -> (bool, Reuse) {
        match &self.through {
            Some(through) if through.is_any_asked() => (true, Reuse::None),
            _ => (self.tls.is_some(), reuse),
        }
    }

    /// Once a second: drops what was closed, or sat too long, or whose client connection is gone.
    pub fn sweep(self: &Rc<Self>) {
        let ping_looks = self.h2_limits.get().ping_after.map(|after| after.as_secs() as u32);
        let sweeps_max = self.idle_timeout.get().map_or(u32::MAX, |timeout| (timeout.as_secs() as u32).max(1));
        for backend in self.backends.borrow().clone().iter() {
            let mut idle = backend.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|idle| {
                idle.sweeps += 1;
                idle.sweeps <= sweeps_max && idle.is_usable() && idle.stream.receiver.is_quiet()
            });
            for _ in idle.len()..before {
                self.closed();
                self.telemetry.pool_idle.decrement();
            }
            drop(idle);
            for Multiplexed { link, owner } in backend.links.borrow().clone() {
                if owner.is_some_and(|owner| owner.strong_count() == 0) {
                    link.leave();
                }
                link.look(sweeps_max, ping_looks);
            }
        }
    }

    /// Closes every idle connection; exchanges under way finish on theirs.
    pub fn retire(&self) {
        self.retired.set(true);
        for backend in self.backends.borrow().iter() {
            self.close_idle(backend);
        }
    }

    /// Goes on to another endpoint where one could not be reached.
    fn pass_by(
        &self,
        backend: Rc<Backend>,
        failed: Unavailable,
        unreachable: &mut Unreachable,
    ) -> Result<(), Unavailable> {
        unreachable.note(backend, &failed);
        let has_next = self.backends.borrow().iter().any(|next| next.healthy.get() && !unreachable.has(next));
        if !has_next || !unreachable.may_go_on() {
            return Err(failed);
        }
        self.telemetry.next_endpoints.increment();
        Ok(())
    }

    fn choose(
        &self,
        balancing: LoadBalancing,
        random: u32,
        unreachable: &Unreachable,
    ) -> Result<Rc<Backend>, Unavailable> {
        let backends = self.backends.borrow().clone();
        if !unreachable.is_empty() {
            // Those that are left share what the others cannot take, and nobody's turn comes sooner for it.
            let left = || backends.iter().filter(|backend| backend.healthy.get() && !unreachable.has(backend));
            let at = random as usize % left().count().max(1);
            return left().nth(at).cloned().ok_or(Unavailable::NoHealthyEndpoint);
        }
        match &*backends {
            [] => return Err(self.no_endpoint()),
            [only] if only.healthy.get() => return Ok(only.clone()),
            _ => {}
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let next_healthy = |from: usize| {
            let rotated = (0..backends.len()).map(|step| &backends[(from.wrapping_add(step)) % backends.len()]);
            rotated.into_iter().find(|backend| backend.healthy.get())
        };
        let first = next_healthy(turn).ok_or(Unavailable::NoHealthyEndpoint)?;
        match balancing {
            LoadBalancing::RoundRobin => Ok(first.clone()),
            LoadBalancing::LeastRequests => {
                // The better of two choices is nearly as good as the best of all, and cores need not agree.
                let second = next_healthy(random as usize).unwrap_or(first);
                Ok(if second.active.get() < first.active.get() { second.clone() } else { first.clone() })
            }
        }
    }

    #[cold]
    fn no_endpoint(&self) -> Unavailable {
        self.through.as_ref().and_then(|through| through.fault()).map_or(Unavailable::NoEndpoint, Unavailable::Proxy)
    }

    fn take_idle(&self, backend: &Backend, reuse: Reuse, own: Option<Own<'_>>) -> Option<Stream> {
        if reuse == Reuse::None {
            return None;
        }
        loop {
            let mut idle = match own {
                None => backend.idle.borrow_mut().pop_back()?,
                Some(own) => {
                    let mut all = backend.idle.borrow_mut();
                    let last = all.iter().rposition(|idle| idle.is_of(own.client))?;
                    all.remove(last)?
                }
            };
            self.telemetry.pool_idle.decrement();
            if idle.stream.receiver.is_quiet()
                && (!(idle.doubtful || reuse == Reuse::Checked) || idle.stream.sender.peer_is_silent())
            {
                return Some(idle.stream);
            }
            self.closed();
        }
    }

    async fn dial(
        self: &Rc<Self>,
        backend: &Rc<Backend>,
        timeout: Option<Duration>,
        own: Option<Own<'_>>,
        http1: bool,
    ) -> Result<Lease, Unavailable> {
        self.opened();
        self.telemetry.dials.increment();
        // Counted as open from here on, so that a burst cannot pass the limit while it connects.
        let opening = Opening(self);
        // Nobody can share what an HTTP/1.1 dial brings, so nobody waits for it.
        let dialling = (!http1).then(|| Dialling::begin(&backend.dial));
        // What a proxy is asked over carries no tunnel, and what was one is not kept: nobody asks a proxy over it.
        let tunnelled = (http1 && backend.asks_a_proxy).then(|| Rc::new(Backend::new(backend.place, false)));
        let backend = tunnelled.as_ref().unwrap_or(backend);
        let way = Way::default();
        let failed = match task::timeout(timeout, self.connect(backend, own, http1, &way)).await {
            Some(Ok((stream, speaks_http2))) => {
                std::mem::forget(opening);
                let held = match speaks_http2 {
                    true => Held::Http2(self.link(stream, backend, own), None),
                    false => Held::Http1(stream),
                };
                if let Some(dialling) = dialling {
                    self.multiplexes.set(speaks_http2);
                    dialling.ended(false);
                }
                return Ok(self.lease(held, backend.clone(), false, own));
            }
            Some(Err(error)) => error,
            None => way.timed_out(),
        };
        if let Some(dialling) = dialling {
            dialling.ended(true);
        }
        self.telemetry.dial_failures.increment(failed.reason());
        Err(failed)
    }

    /// A connection that may be asked, and whether by HTTP/2: to the one who was meant, where there is TLS.
    async fn connect(
        &self,
        backend: &Backend,
        own: Option<Own<'_>>,
        websocket: bool,
        way: &Way,
    ) -> Result<(Stream, bool), Unavailable> {
        let mut stream = match &self.through {
            Some(through) if backend.place.carried.is_some() => {
                let spoken = match &self.tls {
                    Some(_) => Spoken::Secured,
                    None if self.multiplexes.get() && own.is_none() => Spoken::ByBoth,
                    None => Spoken::ByUs,
                };
                through.open(backend, spoken, way).await?
            }
            _ => Stream::connect(backend.place.address).await.map_err(Unavailable::Connect)?,
        };
        if let Some(own) = own {
            introduce(&stream, own).await.map_err(Unavailable::Connect)?;
        }
        let Some(Secure { config, http1, name }) = &self.tls else { return Ok((stream, self.multiplexes.get())) };
        let config = if websocket { http1 } else { config };
        let client = UnbufferedClientConnection::new(config.clone(), name.clone());
        let client = client.map_err(|error| Unavailable::Tls(HandshakeError::Tls(error).failure()))?;
        // Boxed: most requests find a connection, and need no room for a handshake.
        let handshake = Box::pin(stream.secure(Side::Client(Box::new(client)), |_| Ok(())));
        let (facts, _) = handshake.await.map_err(|error| Unavailable::Tls(error.failure()))?;
        Ok((stream, facts.speaks_http2()))
    }

    /// Begins to speak HTTP/2 on a connection, and lets others share it: everybody, or the one client it was made for.
    fn link(self: &Rc<Self>, stream: Stream, backend: &Rc<Backend>, own: Option<Own<'_>>) -> Rc<Link> {
        let (upstream, of) = (self.clone(), backend.clone());
        let link = h2::upstream::start(stream, &self.h2_limits.get(), &self.header_memory, move |link| {
            of.links.borrow_mut().retain(|known| !Rc::ptr_eq(&known.link, link));
            upstream.closed();
        });
        let owner = own.map(|own| Rc::downgrade(own.client));
        backend.links.borrow_mut().push(Multiplexed { link: link.clone(), owner });
        if !self.keeps(backend) {
            // The exchange that dialled it has it yet.
            link.leave_when_used();
        }
        link
    }

    fn lease(self: &Rc<Self>, held: Held, backend: Rc<Backend>, reused: bool, own: Option<Own<'_>>) -> Lease {
        backend.active.set(backend.active.get() + 1);
        self.requests.set(self.requests.get() + 1);
        let owner = own.map(|own| Rc::downgrade(own.client));
        Lease { held: Some(held), backend, upstream: self.clone(), reused, owner }
    }

    /// Waits for a call: behind the others, or before them where it was called in vain.
    async fn wait(&self, again: bool) -> Result<(), Unavailable> {
        let waiter = Rc::new(Waiter::default());
        {
            let mut waiting = self.waiting.borrow_mut();
            match again {
                true => waiting.push_front(waiter.clone()),
                false if waiting.len() >= self.limits.get().pending => return Err(Unavailable::Overflow),
                false => waiting.push_back(waiter.clone()),
            }
        }
        let place = InLine { upstream: self, waiter, served: Cell::new(false) };
        poll_fn(|context| {
            if place.waiter.called.get() {
                place.served.set(true);
                self.called.set(self.called.get() - 1);
                return Poll::Ready(());
            }
            place.waiter.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        Ok(())
    }

    /// Whether a connection is free, or may be made, with or without closing an idle one.
    fn has_room(&self) -> bool {
        self.open.get() < self.limits.get().connections
            || self.backends.borrow().iter().any(|backend| !backend.idle.borrow().is_empty())
    }

    /// Whether whoever comes now waits for others to be done.
    pub fn is_full(&self) -> bool {
        !self.has_unpromised()
    }

    /// Whether there is room for one more than those who were called.
    fn has_unpromised(&self) -> bool {
        let idle: usize = self.backends.borrow().iter().map(|backend| backend.idle.borrow().len()).sum();
        let room = self.limits.get().connections.saturating_sub(self.open.get());
        let shared = self.backends.borrow().iter().filter(|backend| backend.link_with_room(None).is_some()).count();
        idle.saturating_add(room).saturating_add(shared) > self.called.get()
    }

    /// Makes place for one more connection by closing the longest idle one.
    fn evict_idle(&self) -> bool {
        let backends = self.backends.borrow().clone();
        let oldest = backends
            .iter()
            .max_by_key(|backend| backend.idle.borrow().front().map(|idle| idle.sweeps + 1).unwrap_or_default());
        let Some(evicted) = oldest.and_then(|backend| backend.idle.borrow_mut().pop_front()) else { return false };
        drop(evicted);
        self.telemetry.pool_idle.decrement();
        self.closed();
        true
    }

    fn close_idle(&self, backend: &Backend) {
        for idle in std::mem::take(&mut *backend.idle.borrow_mut()) {
            drop(idle);
            self.telemetry.pool_idle.decrement();
            self.closed();
        }
        for known in backend.links.borrow().clone() {
            known.link.leave();
        }
    }

    /// Whether a backend's connections are for later requests, too.
    fn keeps(&self, backend: &Rc<Backend>) -> bool {
        !self.retired.get() && self.backends.borrow().iter().any(|kept| Rc::ptr_eq(kept, backend))
    }

    fn keep(&self, backend: &Rc<Backend>, idle: Idle) {
        if !self.keeps(backend) {
            return self.closed();
        }
        backend.idle.borrow_mut().push_back(idle);
        self.telemetry.pool_idle.increment();
        self.call_next();
    }

    fn opened(&self) {
        self.open.set(self.open.get() + 1);
        self.telemetry.pool_open.increment();
    }

    fn closed(&self) {
        self.open.set(self.open.get() - 1);
        self.telemetry.pool_open.decrement();
        self.call_next();
    }

    fn call_next(&self) {
        if let Some(waiter) = self.waiting.borrow_mut().pop_front() {
            waiter.called.set(true);
            self.called.set(self.called.get() + 1);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }
}

/// Says whom a connection is for, ahead of everything else.
async fn introduce(stream: &Stream, Own { version, client }: Own<'_>) -> io::Result<()> {
    let header = proxy_protocol::write(version, client);
    let mut out = Buffer::with_room(header.len());
    out.extend(&header);
    stream.sender.send(out).await.0
}

/// The configuration knows nothing of sockets, and those nothing of it.
impl From<ProxyProtocolVersion> for Version {
    fn from(version: ProxyProtocolVersion) -> Self {
        match version {
            ProxyProtocolVersion::V1 => Self::V1,
            ProxyProtocolVersion::V2 => Self::V2,
        }
    }
}

fn is_of(owner: &Option<Weak<Addresses>>, client: &Rc<Addresses>) -> bool {
    owner.as_ref().is_some_and(|owner| std::ptr::eq(owner.as_ptr(), Rc::as_ptr(client)))
}

impl Idle {
    fn is_of(&self, client: &Rc<Addresses>) -> bool {
        is_of(&self.owner, client)
    }

    /// Whether anybody may still come for it.
    fn is_usable(&self) -> bool {
        self.owner.as_ref().is_none_or(|owner| owner.strong_count() > 0)
    }
}

impl Backend {
    fn new(place: Place, asks_a_proxy: bool) -> Self {
        Self {
            place,
            asks_a_proxy,
            healthy: Cell::new(true),
            active: Cell::new(0),
            idle: RefCell::default(),
            links: RefCell::default(),
            dial: Dial::default(),
        }
    }

    fn link_with_room(&self, own: Option<Own<'_>>) -> Option<Rc<Link>> {
        let links = self.links.borrow();
        let fits = |known: &&Multiplexed| own.is_none_or(|own| is_of(&known.owner, own.client));
        links.iter().filter(fits).find(|known| known.link.may_ask()).map(|known| known.link.clone())
    }
}

/// A dial under way; dropped, it was given up.
struct Opening<'a>(&'a Upstream);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.closed();
    }
}

#[derive(Default)]
struct Waiter {
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A place in the queue; dropped, it is left, and a call that came meanwhile goes to the next.
struct InLine<'a> {
    upstream: &'a Upstream,
    waiter: Rc<Waiter>,
    served: Cell<bool>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if self.served.get() {
            return;
        }
        if self.waiter.called.get() {
            self.upstream.called.set(self.upstream.called.get() - 1);
            self.upstream.call_next();
        } else {
            self.upstream.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        }
    }
}
