//! Upstream connections of one core: pooled, bounded, no lock.
//!
//! A connection never changes core, so one may sit idle here while another core dials. That costs a handshake now and then;
//! sharing would cost a lock on every request. An idle connection has a read in flight: when that completes before the
//! connection is wanted again, the upstream has closed it or sent what nobody asked for, and it is dropped.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use rustls::{ClientConfig, client::UnbufferedClientConnection, pki_types::ServerName};

use crate::{
    config::snapshot::LoadBalancing,
    net::{
        Stream, task,
        tls::{Failure, HandshakeError, Side},
    },
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
    turn: Cell<usize>,
    open: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// Waiters that were called and have not run since: what is free was promised to them.
    called: Cell<usize>,
    /// How its connections are secured, with this core's sessions.
    tls: Option<Secure>,
    /// No snapshot names this Service any more: connections close when they are given back.
    retired: Cell<bool>,
}

struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub connections: usize,
    pub pending: usize,
}

/// One address of a Service.
pub struct Backend {
    pub address: SocketAddr,
    healthy: Cell<bool>,
    /// Requests under way, for `leastRequests`.
    active: Cell<usize>,
    /// Most recently used last.
    idle: RefCell<VecDeque<Idle>>,
}

struct Idle {
    stream: Stream,
    alpn: Option<Rc<[u8]>>,
    /// Its last answer had no body, though an upstream may think otherwise: the kernel is asked before it is used.
    doubtful: bool,
    sweeps: u32,
}

/// A connection in use. Dropping it closes the connection; [`Lease::give_back`] keeps it.
pub struct Lease {
    stream: Option<Stream>,
    /// The protocol that the upstream chose for this connection, where it was asked.
    pub alpn: Option<Rc<[u8]>>,
    pub backend: Rc<Backend>,
    upstream: Rc<Upstream>,
    /// It had carried a request before.
    pub reused: bool,
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

/// Why there is no connection.
#[derive(Debug)]
pub enum Unavailable {
    /// The name has not been resolved to any address.
    NoEndpoint,
    /// Every address fails its health check.
    NoHealthyEndpoint,
    /// Too many requests wait for a connection already.
    Overflow,
    Connect(io::Error),
    ConnectTimeout,
    /// No handshake, for this reason; nothing was sent.
    Tls(HandshakeError),
}

impl Upstream {
    pub fn new(telemetry: Rc<CoreTelemetry>, limits: Shares, random: u32, tls: Option<&ClientContext>) -> Rc<Self> {
        let tls = tls.map(|context| Secure { config: context.of_core(), name: context.name.clone() });
        Rc::new(Self {
            tls,
            telemetry,
            backends: RefCell::new(Rc::default()),
            limits: Cell::new(limits),
            // A random start, or all cores and replicas would begin with the same address.
            turn: Cell::new(random as usize),
            open: Cell::new(0),
            waiting: RefCell::default(),
            called: Cell::new(0),
            retired: Cell::new(false),
        })
    }

    pub fn set_limits(&self, limits: Shares) {
        self.limits.set(limits);
        while self.has_unpromised() && !self.waiting.borrow().is_empty() {
            self.call_next();
        }
    }

    /// Addresses that stay keep their connections; those that went are closed when idle.
    pub fn set_addresses(&self, addresses: &[(SocketAddr, bool)]) {
        let old = self.backends.borrow().clone();
        let backend = |&(address, healthy): &(SocketAddr, bool)| {
            let known = old.iter().find(|backend| backend.address == address).cloned();
            let backend = known.unwrap_or_else(|| Rc::new(Backend::new(address)));
            backend.healthy.set(healthy);
            backend
        };
        let new: Rc<[Rc<Backend>]> = addresses.iter().map(backend).collect();
        for gone in old.iter().filter(|backend| !new.iter().any(|kept| Rc::ptr_eq(kept, backend))) {
            self.close_idle(gone);
        }
        *self.backends.borrow_mut() = new;
    }

    /// An idle connection, or a new one; waits for a free one at the limit. The caller bounds the wait.
    pub async fn acquire(
        self: &Rc<Self>,
        balancing: LoadBalancing,
        random: u32,
        connect_timeout: Option<Duration>,
        reuse: Reuse,
    ) -> Result<Lease, Unavailable> {
        let mut waited = false;
        loop {
            // Who failed to use what it was called for passes the call on.
            let backend = self.choose(balancing, random).inspect_err(|_| {
                if waited {
                    self.call_next();
                }
            })?;
            if waited || self.called.get() == 0 || self.has_unpromised() {
                if let Some((stream, alpn)) = self.take_idle(&backend, reuse) {
                    self.telemetry.reuses.increment();
                    return Ok(self.lease(stream, alpn, backend, true));
                }
                if self.open.get() < self.limits.get().connections || self.evict_idle() {
                    return self.dial(backend, connect_timeout).await;
                }
            }
            self.wait(waited).await?;
            waited = true;
        }
    }

    /// Once a second: drops what was closed or sat too long.
    pub fn sweep(self: &Rc<Self>, idle_timeout: Option<Duration>) {
        let sweeps_max = idle_timeout.map_or(u32::MAX, |timeout| (timeout.as_secs() as u32).max(1));
        for backend in self.backends.borrow().clone().iter() {
            let mut idle = backend.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|idle| {
                idle.sweeps += 1;
                idle.sweeps <= sweeps_max && idle.stream.receiver.is_quiet()
            });
            for _ in idle.len()..before {
                self.closed();
                self.telemetry.pool_idle.decrement();
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

    fn choose(&self, balancing: LoadBalancing, random: u32) -> Result<Rc<Backend>, Unavailable> {
        let backends = self.backends.borrow().clone();
        match &*backends {
            [] => return Err(Unavailable::NoEndpoint),
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

    fn take_idle(&self, backend: &Backend, reuse: Reuse) -> Option<(Stream, Option<Rc<[u8]>>)> {
        if reuse == Reuse::None {
            return None;
        }
        loop {
            let mut idle = backend.idle.borrow_mut().pop_back()?;
            self.telemetry.pool_idle.decrement();
            if idle.stream.receiver.is_quiet()
                && (!(idle.doubtful || reuse == Reuse::Checked) || idle.stream.sender.peer_is_silent())
            {
                return Some((idle.stream, idle.alpn));
            }
            self.closed();
        }
    }

    async fn dial(self: &Rc<Self>, backend: Rc<Backend>, timeout: Option<Duration>) -> Result<Lease, Unavailable> {
        self.opened();
        self.telemetry.dials.increment();
        // Counted as open from here on, so that a burst cannot pass the limit while it connects.
        let opening = Opening(self);
        let failed = match task::timeout(timeout, self.connect(backend.address)).await {
            Some(Ok((stream, alpn))) => {
                std::mem::forget(opening);
                return Ok(self.lease(stream, alpn, backend, false));
            }
            Some(Err(error)) => error,
            None => Unavailable::ConnectTimeout,
        };
        self.telemetry.dial_failed(failed.reason());
        Err(failed)
    }

    /// A connection that may be written to: where there is TLS, to the one who was meant.
    async fn connect(&self, address: SocketAddr) -> Result<(Stream, Option<Rc<[u8]>>), Unavailable> {
        let mut stream = Stream::connect(address).await.map_err(Unavailable::Connect)?;
        let Some(Secure { config, name }) = &self.tls else { return Ok((stream, None)) };
        let client = UnbufferedClientConnection::new(config.clone(), name.clone());
        let client = client.map_err(|error| Unavailable::Tls(HandshakeError::Tls(error)))?;
        // Boxed: most requests find a connection, and need no room for a handshake.
        let handshake = Box::pin(stream.secure(Side::Client(Box::new(client)), || {}));
        let (facts, _) = handshake.await.map_err(Unavailable::Tls)?;
        Ok((stream, facts.alpn.map(Rc::from)))
    }

    fn lease(self: &Rc<Self>, stream: Stream, alpn: Option<Rc<[u8]>>, backend: Rc<Backend>, reused: bool) -> Lease {
        backend.active.set(backend.active.get() + 1);
        Lease { stream: Some(stream), alpn, backend, upstream: self.clone(), reused }
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
        let place = Place { upstream: self, waiter, served: Cell::new(false) };
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

    /// Whether there is room for one more than those who were called.
    fn has_unpromised(&self) -> bool {
        let idle: usize = self.backends.borrow().iter().map(|backend| backend.idle.borrow().len()).sum();
        let room = self.limits.get().connections.saturating_sub(self.open.get());
        idle.saturating_add(room) > self.called.get()
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
    }

    fn keep(&self, backend: &Rc<Backend>, idle: Idle) {
        if self.retired.get() || !self.backends.borrow().iter().any(|kept| Rc::ptr_eq(kept, backend)) {
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

impl Backend {
    fn new(address: SocketAddr) -> Self {
        Self { address, healthy: Cell::new(true), active: Cell::new(0), idle: RefCell::default() }
    }
}

impl Lease {
    pub fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("only giving it back takes the stream, and consumes the lease")
    }

    /// Keeps the connection for the next request. Only when both directions ended cleanly.
    pub fn give_back(mut self, doubtful: bool) {
        let Some(mut stream) = self.stream.take() else { return };
        stream.receiver.want(crate::net::buffer::SMALL_ROOM);
        stream.receiver.listen_in();
        let alpn = self.alpn.take();
        self.upstream.keep(&self.backend, Idle { stream, alpn, doubtful, sweeps: 0 });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.active.set(self.backend.active.get() - 1);
        if self.stream.take().is_some() {
            self.upstream.closed();
        }
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
struct Place<'a> {
    upstream: &'a Upstream,
    waiter: Rc<Waiter>,
    served: Cell<bool>,
}

impl Drop for Place<'_> {
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

impl Unavailable {
    /// The reason code of the log, the metrics and the documentation.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoEndpoint => "upstream_no_endpoint",
            Self::NoHealthyEndpoint => "upstream_unhealthy",
            Self::Overflow => "upstream_overflow",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::Tls(error) => match error.failure() {
                Failure::Untrusted => "upstream_tls_untrusted",
                Failure::Expired => "upstream_tls_expired",
                Failure::WrongName => "upstream_tls_wrong_name",
                Failure::Refused => "upstream_tls_refused",
                Failure::Incompatible => "upstream_tls_incompatible",
                Failure::Other => "upstream_tls_failed",
            },
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "upstream_connect_refused",
                io::ErrorKind::ConnectionReset => "upstream_connect_reset",
                _ => "upstream_connect_failed",
            },
        }
    }
}
