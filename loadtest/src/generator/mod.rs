//! The load: one pinned thread with one event loop, all connections of which are its own.
//!
//! Reading order: what is asked for (here), the loop that decides when requests leave (`engine`), one connection with
//! HTTP/1.1 (`connection`) or HTTP/2 (`multiplexed`), its bytes (`link`), what came of it (`outcome`), and whether that
//! may be believed (`verdict`).

mod connection;
mod engine;
mod idle;
mod link;
mod multiplexed;
mod outcome;
mod verdict;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

pub use self::{
    idle::IdleConnections,
    outcome::{Errors, Interval, Outcome, new_histogram},
    verdict::{Limits, Verdict, judge},
};
use crate::{driver, driver::Driver, scenario::Mix, schedule::Shape, sys, tls};

/// When requests leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loop {
    /// On a schedule, whatever becomes of earlier ones. Latency counts from the intended time.
    Open { per_second: f64, shape: Shape },
    /// As soon as a connection is free: finds the most a server can do, and says nothing about latency under a given
    /// load, since a slow server is asked less often.
    Closed,
}

/// What one generator thread is to do.
#[derive(Clone)]
pub struct Plan {
    pub target: SocketAddr,
    pub mix: Arc<Mix>,
    pub pace: Loop,
    pub connections: usize,
    /// Otherwise every request has a connection of its own.
    pub keep_alive: bool,
    /// With TLS, as this says.
    pub tls: Option<tls::Client>,
    /// HTTP/2, with so many streams on each connection; else HTTP/1.1.
    pub streams: Option<usize>,
    pub warmup: Duration,
    pub duration: Duration,
    /// A request that is not answered by then is given up, and counts as lasting that long.
    pub timeout: Duration,
    pub seed: u64,
    pub driver: Driver,
    pub cpu: Option<usize>,
}

impl Plan {
    /// How many requests a connection carries at a time.
    fn slots_per_connection(&self) -> usize {
        self.streams.unwrap_or(1)
    }
}

/// What other threads may see of a generator while it runs.
#[derive(Default)]
pub struct Progress {
    /// Responses that came to their end, the warm-up's too.
    pub completed: AtomicU64,
    pub failed: AtomicU64,
}

/// Generators that start together.
pub struct Running {
    threads: Vec<JoinHandle<Result<Outcome>>>,
    pub progress: Vec<Arc<Progress>>,
    /// The measured time, in nanoseconds of the monotonic clock: behind the warm-up.
    pub window: std::ops::Range<u64>,
}

/// Lets every thread connect first, then start at one moment.
struct Gate {
    connected: Barrier,
    start_ns: OnceLock<u64>,
    open: Barrier,
}

/// Between the last connection and the first request.
const LEAD_NS: u64 = 5_000_000;

/// Starts one thread for each plan; all plans have one warm-up and duration.
///
/// # Errors
/// A thread could not be started.
pub fn launch(plans: Vec<Plan>) -> Result<Running> {
    let times = plans.first().map(|plan| (plan.warmup, plan.duration)).context("no generator was asked for")?;
    let gate = Arc::new(Gate {
        connected: Barrier::new(plans.len() + 1),
        start_ns: OnceLock::new(),
        open: Barrier::new(plans.len() + 1),
    });
    let (mut threads, mut progress) = (Vec::new(), Vec::new());
    for (index, plan) in plans.into_iter().enumerate() {
        let (gate, mine) = (gate.clone(), Arc::new(Progress::default()));
        progress.push(mine.clone());
        let thread = std::thread::Builder::new().name(format!("generator-{index}"));
        threads.push(thread.spawn(move || run(plan, &gate, mine)).context("cannot start a generator thread")?);
    }
    gate.connected.wait();
    let start_ns = sys::now_ns() + LEAD_NS;
    gate.start_ns.set(start_ns).expect("only this thread sets it, once");
    gate.open.wait();
    let from = start_ns + times.0.as_nanos() as u64;
    Ok(Running { threads, progress, window: from..from + times.1.as_nanos() as u64 })
}

impl Running {
    pub fn completed(&self) -> u64 {
        self.progress.iter().map(|progress| progress.completed.load(Relaxed)).sum()
    }

    pub fn failed(&self) -> u64 {
        self.progress.iter().map(|progress| progress.failed.load(Relaxed)).sum()
    }

    /// Waits for the end and adds the threads' results up.
    ///
    /// # Errors
    /// A generator could not run at all.
    pub fn finish(self) -> Result<Outcome> {
        let mut sum: Option<Outcome> = None;
        for thread in self.threads {
            let outcome = thread.join().map_err(|_| anyhow!("a generator thread ended in a panic"))??;
            match &mut sum {
                Some(sum) => sum.add(outcome),
                None => sum = Some(outcome),
            }
        }
        sum.context("no generator ran")
    }
}

fn run(plan: Plan, gate: &Gate, progress: Arc<Progress>) -> Result<Outcome> {
    let pinned = plan.cpu.map_or(Ok(()), sys::pin);
    let driver = plan.driver;
    // Built on this thread: it is the ring's only issuer. The gate must be passed even by a thread that failed.
    let outcome = driver::run(driver, engine::run(plan, gate, progress));
    let outcome = match outcome {
        Ok(outcome) => outcome.context("the generator cannot run"),
        Err(error) => {
            gate.pass();
            Err(error).context("cannot build the generator's event loop")
        }
    };
    pinned.context("cannot pin the generator to its CPU")?;
    outcome
}

impl Gate {
    /// Says that this thread is connected, and waits for the others. Returns when to start.
    fn pass(&self) -> u64 {
        self.connected.wait();
        self.open.wait();
        *self.start_ns.get().expect("set before the gate opens")
    }
}

/// One GET to see whether a server answers at all.
///
/// # Errors
/// It does not.
pub fn ask_once(target: SocketAddr, tls: Option<&tls::Client>, request: &[u8], timeout: Duration) -> Result<u16> {
    let mut socket = std::net::TcpStream::connect_timeout(&target, timeout)?;
    socket.set_read_timeout(Some(timeout))?;
    match tls {
        None => answer(&mut socket, request),
        Some(tls) => answer(&mut rustls::StreamOwned::new(tls.connect()?, socket), request),
    }
}

fn answer(stream: &mut (impl io::Read + io::Write), request: &[u8]) -> Result<u16> {
    stream.write_all(request)?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the connection ended before the answer");
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(head) = crate::http1::response(&bytes, false)? {
            return Ok(head.status);
        }
    }
}
