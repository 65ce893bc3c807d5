//! One core: its thread, its ring, how a new snapshot reaches it, how it drains.

pub mod cpus;
pub mod swap;

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::sync::oneshot;

use self::swap::{Prepared, prepare};
use crate::{
    cache::Store,
    calls::Calls,
    config::{endpoints::EndpointTable, snapshot::Snapshot},
    net::{
        buffer,
        deadline::TICK,
        driver::{self, Kind},
        faults,
        listen::Bound,
        mailbox::{Mailbox, Post, Unopened, mailbox},
        signal::Signals,
        task,
    },
    policies::{self, wants::Published},
    proxy::{
        core::{Core, Drain, Load},
        pool::SWEEP,
        spread::{self, HandedOver, Neighbour},
    },
    quota::{Balances, Clock, Ledger},
    storage::Storage,
    telemetry::{
        core::{CoreCopy, CoreTelemetry},
        heartbeat::Heartbeat,
    },
};

/// Questions that may wait for a core. Management asks a handful a second; a core that is this far behind is stuck.
const MAILBOX_CAPACITY: usize = 256;

/// So many connections fewer, or fewer of them busy, are worth a look through the allocator's pages.
const QUIETER_MIN: usize = 256;

/// Between the steps of copying counters, so that requests are served meanwhile.
const COPY_PAUSE: Duration = Duration::from_millis(1);

/// What management tells a core, and asks it.
pub enum Command {
    /// Be ready to serve this; nothing changes yet. `sockets` are this core's for addresses that it did not serve before.
    Prepare {
        snapshot: Arc<Snapshot>,
        sockets: Vec<(SocketAddr, Bound)>,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Serve what was prepared from now on. Listeners that the snapshot has no more are closed.
    Commit(oneshot::Sender<()>),
    /// Forget what was prepared.
    Abort,
    Endpoints(Arc<EndpointTable>),
    /// What policies want has come, or is another now.
    Published(Arc<Published>),
    /// A copy of the counters.
    Copy(oneshot::Sender<CoreCopy>),
    /// The lines of both logs so far.
    TakeLines(oneshot::Sender<Taken>),
    Drain(Drain),
    /// End the thread, whatever it still does.
    Stop,
}

/// Lines that a core had, whole ones.
#[derive(Debug)]
pub struct Taken {
    pub access_log: Vec<u8>,
    pub messages: Vec<u8>,
}

impl Command {
    /// Knows, among those that wait, the one that this makes pointless. `None`: it is a question, which a core that is far
    /// behind need not be asked. What is no question is never lost, since a core must end where all others do.
    fn supersedes(&self) -> Option<fn(&Self) -> bool> {
        match self {
            Self::Copy(_) | Self::TakeLines(_) => None,
            Self::Prepare { .. } | Self::Abort => Some(|other| matches!(other, Self::Prepare { .. } | Self::Abort)),
            // There is no other: what comes after it is not committed before this core has prepared it.
            Self::Commit(_) => Some(|_| false),
            Self::Endpoints(_) => Some(|other| matches!(other, Self::Endpoints(_))),
            Self::Published(_) => Some(|other| matches!(other, Self::Published(_))),
            Self::Drain(_) => Some(|other| matches!(other, Self::Drain(_))),
            Self::Stop => Some(|other| matches!(other, Self::Stop)),
        }
    }
}

/// A running core, as management holds it.
pub struct Worker {
    pub id: usize,
    post: Post<Command>,
    load: Arc<Load>,
    thread: JoinHandle<()>,
}

/// What a core needs to start.
pub struct Start {
    pub id: usize,
    pub cores: usize,
    pub cpu: Option<usize>,
    pub kind: Kind,
    pub snapshot: Arc<Snapshot>,
    pub heartbeat: Heartbeat,
    pub hand_overs: HandOvers,
    pub common: Common,
}

/// What all cores of a replica share.
#[derive(Clone)]
pub struct Common {
    pub cache: Store,
    pub storage: Arc<Storage>,
    pub calls: Arc<Calls>,
    /// What they count limits in, and by which clock.
    pub ledger: Arc<Ledger>,
    pub clock: Clock,
}

/// How a core gets connections from others, and gives them some.
pub struct HandOvers {
    load: Arc<Load>,
    queue: Unopened<HandedOver>,
    neighbours: Arc<[Neighbour]>,
}

impl HandOvers {
    /// One for each core.
    ///
    /// # Errors
    /// A queue could not be made.
    pub fn new(cores: usize) -> io::Result<Vec<Self>> {
        let mut queues = Vec::new();
        let mut neighbours = Vec::new();
        for _ in 0..cores {
            let (post, queue) = mailbox(spread::QUEUE)?;
            let load = Arc::<Load>::default();
            neighbours.push(Neighbour { load: load.clone(), post });
            queues.push((load, queue));
        }
        let neighbours: Arc<[Neighbour]> = if cores > 1 { neighbours.into() } else { Arc::new([]) };
        Ok(queues.into_iter().map(|(load, queue)| Self { load, queue, neighbours: neighbours.clone() }).collect())
    }
}

/// Starts a core's thread. It serves nothing before its first `Serve`.
///
/// # Errors
/// The thread or its mailbox could not be made.
pub fn start(start: Start) -> io::Result<Worker> {
    let (post, unopened) = mailbox(MAILBOX_CAPACITY)?;
    let load = start.hand_overs.load.clone();
    let id = start.id;
    let thread = { std::thread::Builder::new().name(format!("core-{id}")).spawn(move || run(start, unopened))? };
    Ok(Worker { id, post, load, thread })
}

impl Worker {
    /// Never waits. False: the core is gone; or it is stuck, and this was a question.
    pub fn send(&self, command: Command) -> bool {
        match command.supersedes() {
            Some(supersedes) => self.post.send_latest(command, supersedes).is_ok(),
            None => self.post.send(command).is_ok(),
        }
    }

    /// No connection is open, and no listener has one to give. A core that has ended may have left some, which nobody serves.
    pub fn is_idle(&self) -> bool {
        self.load.is_none() || self.is_dead()
    }

    /// The thread has ended, which only `Stop` should make it do.
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// It serves, but some of what it does may never end.
    pub fn is_failing(&self) -> bool {
        self.load.is_failing()
    }

    pub fn join(self) {
        // A panic was reported by the hook already.
        let _ = self.thread.join();
    }
}

fn run(start: Start, unopened: Unopened<Command>) {
    if let Some(cpu) = start.cpu
        && let Err(error) = pin(cpu)
    {
        tracing::warn!("core {} is not pinned to CPU {cpu}: {error}", start.id);
    }
    let id = start.id;
    let _leaving = Leaving(start.hand_overs.load.clone());
    // Built here: the thread that builds the ring is the only one that may submit to it.
    if let Err(error) = driver::run(start.kind, serve(start, unopened)) {
        tracing::error!("core {id} has no event loop and ends: {error}");
    }
}

/// However a core's thread ends, the others give it no connections from then on.
struct Leaving(Arc<Load>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

async fn serve(start: Start, unopened: Unopened<Command>) {
    let HandOvers { load, queue, neighbours } = start.hand_overs;
    let (mut mailbox, queue) = match unopened.open().and_then(|mailbox| Ok((mailbox, queue.open()?))) {
        Ok(both) => both,
        Err(error) => return tracing::error!("core {} cannot receive: {error}", start.id),
    };
    let (signals, rings) = match Signals::new() {
        Ok(both) => both,
        Err(error) => return tracing::error!("core {} cannot hear: {error}", start.id),
    };
    let telemetry = CoreTelemetry::new(start.id);
    let Common { cache, storage, calls, ledger, clock } = start.common;
    let for_policies = policies::Core {
        id: start.id,
        messages: telemetry.messages.clone(),
        signals,
        cache,
        storage: Some(storage),
        calls: Some(calls),
        policy: 0,
        balances: Rc::new(Balances::new(ledger, start.id)),
        clock,
    };
    let core = Core::new(for_policies, start.cores, start.snapshot, telemetry, load, neighbours);
    task::spawn(rings.hear());
    task::spawn(spread::take_over(core.clone(), queue));
    task::spawn(tick(core.clone(), start.heartbeat));
    obey(&core, &mut mailbox).await;
}

/// The core's clock: deadlines, the sign of life, and once a second the pools.
async fn tick(core: Rc<Core>, heartbeat: Heartbeat) {
    let (mut ticks, mut used) = (0, 0);
    loop {
        task::sleep(TICK).await;
        core.deadlines.tick();
        heartbeat.beat();
        if faults::is_failing() {
            core.load.fail();
        }
        ticks += 1;
        if ticks % (SWEEP.as_millis() / TICK.as_millis()) == 0 {
            core.sweep();
            // What was needed a second ago may be needed again in the next: that much is kept.
            let needed = core.busy.take_most() + core.load.connections();
            if used >= needed + QUIETER_MIN {
                core.workspaces.trim();
                give_back_memory();
                used = needed;
            }
            used = used.max(needed);
        }
    }
}

async fn obey(core: &Rc<Core>, mailbox: &mut Mailbox<Command>) {
    let mut prepared = None::<Prepared>;
    while let Some(command) = mailbox.receive().await {
        match command {
            Command::Prepare { snapshot, sockets, done } => {
                // What was prepared before goes first: it may hold sockets that are no use any more.
                prepared = None;
                let result = prepare(snapshot, sockets).map(|ready| prepared = Some(ready));
                let _ = done.send(result);
            }
            Command::Commit(done) => {
                if let Some(prepared) = prepared.take() {
                    prepared.commit(core);
                    let _ = done.send(());
                }
            }
            Command::Abort => prepared = None,
            Command::Endpoints(endpoints) => core.set_endpoints(endpoints),
            Command::Published(published) => core.set_published(published),
            Command::Copy(reply) => task::spawn(copy(core.clone(), reply)),
            // Nobody waits any more: the lines are for who asks next.
            Command::TakeLines(reply) if reply.is_closed() => {}
            Command::TakeLines(reply) => {
                let telemetry = &core.telemetry;
                let (access_log, messages) = (telemetry.access_log.drain(), telemetry.messages.lines.drain());
                // Who asked may have given up since: then the lines are for who asks next.
                if let Err(untaken) = reply.send(Taken { access_log, messages }) {
                    telemetry.access_log.put_back(untaken.access_log);
                    telemetry.messages.lines.put_back(untaken.messages);
                }
            }
            Command::Drain(drain) => begin_drain(core, drain),
            Command::Stop => return,
        }
    }
}

async fn copy(core: Rc<Core>, reply: oneshot::Sender<CoreCopy>) {
    let mut copy = core.telemetry.begin_copy();
    copy.panics = task::panics();
    copy.driver_faults = faults::count();
    copy.busy = thread_cpu();
    while core.telemetry.copy_more(&mut copy) {
        task::sleep(COPY_PAUSE).await;
    }
    let _ = reply.send(copy);
}

fn begin_drain(core: &Core, drain: Drain) {
    core.drain.set(drain);
    if matches!(drain, Drain::Closing | Drain::Over) {
        for listener in core.listeners.take() {
            let serving = core.serving();
            listener.close(serving.snapshot.settings.timeouts.drain, serving);
            core.gone.borrow_mut().push(listener);
        }
        core.deadlines.interrupt_idle();
    }
    if drain == Drain::Over {
        core.deadlines.end_all();
    }
}

/// Returns what this thread has freed to the system; the allocator by itself does it only while it is used.
fn give_back_memory() {
    buffer::trim();
    // SAFETY: it looks at the allocator's own lists only, of this thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is a valid, empty one; the set outlives the calls that borrow it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPUs this process may run on, ascending.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: as in `pin`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills a structure that is lent for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
