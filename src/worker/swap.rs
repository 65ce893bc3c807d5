//! One snapshot for another, on all cores or on none.
//!
//! First every core gets ready: it takes its new sockets to its driver, which may have no room for them. Only when all have
//! said that they are, all are told to serve, which cannot fail. So a core that cannot, or does not answer, costs the reload
//! and nothing else: what the others had prepared is forgotten, and the snapshot before it serves on everywhere.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Command, Worker};
use crate::{
    config::snapshot::Snapshot,
    net::listen::{Bound, Closer, Listener},
    proxy::{core::Core, listener::OpenListener},
};

/// How long all cores may take for each of the two steps: they do it between two requests.
const STEP_MAX: Duration = Duration::from_secs(10);

/// New sockets of each core, with their addresses.
pub type Sockets = Vec<Vec<(SocketAddr, Bound)>>;

/// Makes a snapshot serve on every core.
///
/// # Errors
/// Which core cannot, and why; then none does.
pub async fn swap(workers: &[Worker], snapshot: &Arc<Snapshot>, sockets: Sockets) -> Result<(), String> {
    if let Err(why) = prepare_all(workers, snapshot, sockets).await {
        for worker in workers {
            worker.send(Command::Abort);
        }
        return Err(why);
    }
    let late = commit_all(workers).await;
    if !late.is_empty() {
        // It is ready, and nothing comes between it and this command: it follows when it runs again.
        tracing::error!("cores {late:?} do not answer; they go on with the snapshot before until they do");
    }
    Ok(())
}

async fn prepare_all(workers: &[Worker], snapshot: &Arc<Snapshot>, sockets: Sockets) -> Result<(), String> {
    let mut answers = Vec::new();
    for (worker, sockets) in workers.iter().zip(sockets) {
        let (done, answer) = oneshot::channel();
        if !worker.send(Command::Prepare { snapshot: snapshot.clone(), sockets, done }) {
            return Err(format!("core {} is gone", worker.id));
        }
        answers.push((worker.id, answer));
    }
    let until = Instant::now() + STEP_MAX;
    for (id, answer) in answers {
        match timeout_at(until, answer).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(format!("core {id} cannot accept: {error}")),
            Ok(Err(_)) => return Err(format!("core {id} is gone")),
            Err(_) => return Err(format!("core {id} does not answer")),
        }
    }
    Ok(())
}

/// Returns the cores that have not done it yet.
async fn commit_all(workers: &[Worker]) -> Vec<usize> {
    let mut answers = Vec::new();
    for worker in workers {
        let (done, answer) = oneshot::channel();
        worker.send(Command::Commit(done));
        answers.push((worker.id, answer));
    }
    let until = Instant::now() + STEP_MAX;
    let mut late = Vec::new();
    for (id, answer) in answers {
        if !matches!(timeout_at(until, answer).await, Ok(Ok(()))) {
            late.push(id);
        }
    }
    late
}

/// A core's readiness for a snapshot.
pub(super) struct Prepared {
    snapshot: Arc<Snapshot>,
    listeners: Vec<(SocketAddr, (Listener, Closer))>,
}

/// What may fail of a swap, and changes nothing.
pub(super) fn prepare(snapshot: Arc<Snapshot>, sockets: Vec<(SocketAddr, Bound)>) -> io::Result<Prepared> {
    let open = |(address, bound)| Listener::open(bound).map(|opened| (address, opened));
    let listeners = sockets.into_iter().map(open).collect::<io::Result<_>>()?;
    Ok(Prepared { snapshot, listeners })
}

impl Prepared {
    /// One version of everything for another, between two requests.
    pub(super) fn commit(self, core: &Rc<Core>) {
        let Self { snapshot, listeners } = self;
        let index_of = |address| snapshot.listeners.iter().position(|listener| listener.address == address);
        let mut opened = Vec::new();
        for (address, listener) in listeners {
            let Some(index) = index_of(address) else { continue };
            opened.push(OpenListener::open(core, address, listener, index, demands_of(&snapshot, index)));
        }
        let drain = snapshot.settings.timeouts.drain;
        let mut closed = false;
        core.listeners.borrow_mut().retain(|listener| match index_of(listener.address) {
            Some(index) if demands_of(&snapshot, index) == listener.demands() => {
                listener.index.set(index);
                true
            }
            Some(index) => {
                opened.push(listener.renew(index, demands_of(&snapshot, index), drain, core.serving()));
                closed = true;
                false
            }
            None => {
                listener.close(drain, core.serving());
                core.gone.borrow_mut().push(listener.clone());
                closed = true;
                false
            }
        });
        core.listeners.borrow_mut().extend(opened);
        core.serve(snapshot);
        if closed {
            core.deadlines.interrupt_idle();
        }
    }
}

/// What a listener asks of clients.
fn demands_of(snapshot: &Snapshot, index: usize) -> Option<u64> {
    snapshot.listeners[index].tls.as_ref().map(|context| context.identity)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream},
        os::fd::OwnedFd,
    };

    use super::*;
    use crate::{
        cache::Store,
        calls::Calls,
        config::snapshot::Snapshot,
        net::{
            driver::Kind,
            listen::{self, Presence},
            mailbox::mailbox,
        },
        quota::{Clock, Ledger},
        storage::Storage,
        telemetry::heartbeat::Heartbeat,
        worker::{self, HandOvers},
    };

    const CORES: usize = 2;

    /// Under epoll: a ring takes any descriptor at once, and so has nothing to refuse.
    fn workers() -> Vec<Worker> {
        let start = |(id, hand_overs)| {
            let common = worker::Common {
                cache: Store::default(),
                storage: Storage::new().0,
                calls: Calls::new().0,
                ledger: Arc::new(Ledger::new(CORES, 1, || {})),
                clock: Clock::start(),
            };
            let (snapshot, heartbeat) = (Arc::new(Snapshot::empty()), Heartbeat::default());
            let (cores, kind) = (CORES, Kind::Epoll);
            let start = worker::Start { id, cores, cpu: None, kind, snapshot, heartbeat, hand_overs, common };
            worker::start(start).expect("threads are free")
        };
        HandOvers::new(CORES).expect("descriptors are free").into_iter().enumerate().map(start).collect()
    }

    fn stop(workers: Vec<Worker>) {
        for worker in workers {
            worker.send(Command::Stop);
            worker.join();
        }
    }

    fn generations(workers: &[Worker]) -> Vec<u64> {
        workers.iter().map(|worker| worker.load.generation()).collect()
    }

    fn snapshot(generation: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot { generation, ..Snapshot::empty() })
    }

    /// Sockets for all cores; that of the last is none that epoll takes.
    fn sockets_with_a_fault() -> (Sockets, SocketAddr, Presence) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (mut bound, presence) = listen::bind(any, 1, false).expect("a free port");
        let address = bound[0].local_address().expect("it is bound");
        let file = File::open("/proc/self/exe").expect("it is there");
        let no_socket = Bound::from(TcpListener::from(OwnedFd::from(file)));
        let sockets = vec![vec![(address, bound.remove(0))], vec![(address, no_socket)]];
        (sockets, address, presence)
    }

    fn no_sockets() -> Sockets {
        (0..CORES).map(|_| Vec::new()).collect()
    }

    #[tokio::test]
    async fn a_core_that_cannot_leaves_all_with_what_they_had() {
        let workers = workers();
        swap(&workers, &snapshot(1), no_sockets()).await.expect("nothing to open");
        assert_eq!(generations(&workers), [1, 1]);

        let (sockets, address, presence) = sockets_with_a_fault();
        let why = swap(&workers, &snapshot(2), sockets).await.expect_err("the last core cannot");
        assert!(why.starts_with("core 1 cannot accept: "), "{why}");
        assert_eq!(generations(&workers), [1, 1]);

        // What the first had prepared is gone before it prepares anything else.
        swap(&workers, &snapshot(3), no_sockets()).await.expect("nothing to open");
        assert_eq!(generations(&workers), [3, 3]);
        assert!(!presence.is_open() && TcpStream::connect(address).is_err());
        stop(workers);
    }

    #[tokio::test]
    async fn a_core_that_is_gone_leaves_all_with_what_they_had() {
        let mut workers = workers();
        swap(&workers, &snapshot(1), no_sockets()).await.expect("nothing to open");
        workers[1].send(Command::Stop);
        while !workers[1].is_dead() {
            std::thread::yield_now();
        }
        let why = swap(&workers, &snapshot(2), no_sockets()).await.expect_err("one is gone");
        assert_eq!(why, "core 1 is gone");
        assert_eq!(workers[0].load.generation(), 1);
        workers.truncate(1);
        stop(workers);
    }

    #[tokio::test]
    async fn a_core_that_is_stuck_follows_neither_at_once_nor_later() {
        let workers = workers();
        swap(&workers, &snapshot(1), no_sockets()).await.expect("nothing to open");
        let (post, unopened) = mailbox(0).expect("descriptors are free");
        let stuck = Worker { id: 2, post, load: Arc::default(), thread: std::thread::spawn(|| {}) };
        // The first, so that no other is waited for when time is no more than what passes by itself.
        let all: Vec<Worker> = [stuck].into_iter().chain(workers).collect();
        let sockets = no_sockets().into_iter().chain([Vec::new()]).collect();
        tokio::time::pause();
        let why = swap(&all, &snapshot(2), sockets).await.expect_err("one does not answer");
        assert_eq!(why, "core 2 does not answer");
        assert_eq!(generations(&all), [0, 1, 1]);
        // All that it finds when it runs again is that there is nothing to do.
        assert_eq!(unopened.waiting(|command| matches!(command, Command::Abort)), [true]);
        drop(unopened);
        stop(all);
    }
}
