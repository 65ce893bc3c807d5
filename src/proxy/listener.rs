//! Accepting: one task per listener and core, which only ever accepts.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    client, connection,
    core::{Core, Serving},
    spread,
};
use crate::{
    net::{
        listen::{self, Accepted, Closer, Listener},
        task,
    },
    tls::ServerContext,
};

/// How long to leave the queue alone when the process or the host has run out of something.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long a handshake may take that was begun when the listener goes: a round trip.
const HANDSHAKE: Duration = Duration::from_millis(200);

/// How long after it has gone a listener may still be given connections by other cores: each closes its own in its own time.
const HAND_OVER: Duration = Duration::from_secs(10);

/// A listener that this core accepts from, or has just stopped accepting from.
pub struct OpenListener {
    pub address: SocketAddr,
    /// Index into the serving snapshot's listeners; the core keeps it right at every swap.
    pub index: Cell<usize>,
    /// Of what it asks of clients; `None`: it is plain.
    demands: Option<u64>,
    closer: RefCell<Option<Closer>>,
    /// Whose the connections are from now on, where it asks something else of them.
    successor: RefCell<Option<Rc<Self>>>,
    /// Set when the listener goes: its connections end after their exchange.
    going: OnceCell<Going>,
}

/// A listener on its way out.
struct Going {
    since: Instant,
    /// At the latest its connections end now.
    until: Instant,
    /// The last snapshot that had this listener. What its connections still ask is decided by it: in a later one, `index`
    /// may be another listener, with other APIs behind other policies.
    serving: Rc<Serving>,
}

impl OpenListener {
    /// Starts accepting.
    pub fn open(
        core: &Rc<Core>,
        address: SocketAddr,
        (listener, closer): (Listener, Closer),
        index: usize,
        demands: Option<u64>,
    ) -> Rc<Self> {
        let open = Self::new(address, index, demands, Some(closer));
        task::spawn(accept(core.clone(), listener, open.clone()));
        open
    }

    fn new(address: SocketAddr, index: usize, demands: Option<u64>, closer: Option<Closer>) -> Rc<Self> {
        Rc::new(Self {
            address,
            index: Cell::new(index),
            demands,
            closer: RefCell::new(closer),
            successor: RefCell::default(),
            going: OnceCell::new(),
        })
    }

    pub fn demands(&self) -> Option<u64> {
        self.demands
    }

    /// Goes on accepting under other demands. Connections that met the old ones drain as those of a listener that goes.
    pub fn renew(&self, index: usize, demands: Option<u64>, drain: Duration, serving: Rc<Serving>) -> Rc<Self> {
        let successor = Self::new(self.address, index, demands, self.closer.take());
        *self.successor.borrow_mut() = Some(successor.clone());
        self.close(drain, serving);
        successor
    }

    /// Stops accepting, after what the kernel has completed already. Connections have until `drain` is over, and are
    /// served by `serving` until then.
    pub fn close(&self, drain: Duration, serving: Rc<Serving>) {
        let since = Instant::now();
        let _ = self.going.set(Going { since, until: since + drain, serving });
        if let Some(closer) = self.closer.take() {
            closer.close();
        }
    }

    pub fn is_closing(&self) -> bool {
        self.going.get().is_some()
    }

    /// Its time to drain is over: whatever still runs on its connections ends now.
    pub fn is_overdue(&self) -> bool {
        self.going.get().is_some_and(|going| Instant::now() >= going.until)
    }

    /// Whether a connection that is made now begins with a PROXY protocol header.
    pub fn expects_proxy_header(&self, core: &Core) -> bool {
        let serving = self.serving(core);
        serving.snapshot.listeners.get(self.index.get()).is_some_and(|listener| listener.proxy_protocol)
    }

    /// Nobody can have a connection for it any more.
    pub fn is_long_gone(&self) -> bool {
        self.going.get().is_some_and(|going| going.since.elapsed() >= HAND_OVER)
    }

    /// How a connection that begins now is secured; `None`: not at all.
    pub fn context(&self, core: &Core) -> Option<Arc<ServerContext>> {
        let serving = self.serving(core);
        serving.snapshot.listeners.get(self.index.get())?.tls.clone()
    }

    /// What a request that begins now is decided by.
    pub fn serving(&self, core: &Core) -> Rc<Serving> {
        self.going.get().map_or_else(|| core.serving(), |going| going.serving.clone())
    }
}

async fn accept(core: Rc<Core>, listener: Listener, mut open: Rc<OpenListener>) {
    let _counted = core.load.listener();
    let mut full = false;
    loop {
        open = latest(open);
        while full && !open.is_closing() && !listen::has_room() {
            core.telemetry.accept_failures.increment();
            task::sleep(BACK_OFF).await;
        }
        match listener.accept().await {
            Ok(Some(accepted)) => {
                open = latest(open);
                full = accepted.takes_the_last_room();
                if full {
                    listener.pause();
                }
                core.telemetry.connections_accepted.increment();
                if let Some(kept) = spread::hand_over(&core, &open, accepted) {
                    admit(&core, &open, kept);
                }
            }
            Ok(None) => break,
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                    core.telemetry.accept_failures.increment();
                    task::sleep(BACK_OFF).await;
                }
                // The client was gone before it was accepted; or the driver was paused.
                Some(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO | libc::ECANCELED) | None => {}
                _ => {
                    core.telemetry.accept_failures.increment();
                    task::sleep(BACK_OFF).await;
                }
            },
        }
    }
    open = latest(open);
    if let Err(error) = listener.begin_none() {
        tracing::warn!("{}: who connects while it closes may be reset: {error}", open.address);
    }
    task::sleep(HANDSHAKE).await;
    while let Some(accepted) = listener.accept_waiting() {
        core.telemetry.connections_accepted.increment();
        admit(&core, &open, accepted);
    }
}

fn latest(mut open: Rc<OpenListener>) -> Rc<OpenListener> {
    loop {
        let successor = open.successor.borrow().clone();
        let Some(successor) = successor else { return open };
        open = successor;
    }
}

/// Makes this core the connection's own, or refuses it.
pub fn admit(core: &Rc<Core>, open: &Rc<OpenListener>, accepted: Accepted) {
    let Ok((stream, peer)) = accepted.open() else {
        // The driver has no room for one more.
        return core.telemetry.accept_failures.increment();
    };
    let limit = core.serving().snapshot.settings.limits.connections_per_core;
    if limit != 0 && core.load.connections() >= limit {
        core.telemetry.connections_refused.increment();
        task::spawn(connection::refuse(core.clone(), stream, open.context(core).is_some()));
    } else {
        let counted = client::Open::new(core.clone());
        task::spawn(connection::serve(counted, core.clone(), open.clone(), stream, peer));
    }
}
