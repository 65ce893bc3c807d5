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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        process::Command,
        thread,
        time::Instant,
    };

    use super::*;
    use crate::{
        driver::Wanted,
        scenario::{Form, Request, Target},
    };

    const ALONE: &str = "GENERATOR_TEST_ALONE";
    const LIMIT: Duration = Duration::from_secs(30);

    fn open_descriptors() -> usize {
        fs::read_dir("/proc/self/fd").expect("Linux has it").count()
    }

    /// Answers everything, on connections that it keeps.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut lines = BufReader::new(&stream).lines();
                    while let Some(Ok(line)) = lines.next() {
                        let answered = line
                            .is_empty()
                            .then(|| (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
                        if answered.is_some_and(|answered| answered.is_err()) {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn plan(target: SocketAddr, keep_alive: bool, driver: Driver) -> Plan {
        let to = format!("http://{target}").parse::<Target>().expect("a target");
        let mix = Mix::prepare(&to, &[Request::default()], &Default::default(), Form::Http1 { keep_alive });
        Plan {
            target,
            mix: Arc::new(mix.expect("a mix")),
            pace: Loop::Open { per_second: 200.0, shape: Shape::Constant },
            connections: 8,
            keep_alive,
            tls: None,
            streams: None,
            warmup: Duration::ZERO,
            duration: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            seed: 1,
            driver,
            cpu: None,
        }
    }

    /// In a process where nobody else opens any.
    #[test]
    fn a_run_leaves_no_descriptor_open() {
        if std::env::var_os(ALONE).is_none() {
            let name = "generator::tests::a_run_leaves_no_descriptor_open";
            let mut alone = Command::new(std::env::current_exe().expect("this program"));
            let output = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().expect("it runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let target = server();
        let chosen = driver::choose(Wanted::Auto).expect("epoll at least");
        for driver in [chosen, Driver::Epoll] {
            for keep_alive in [true, false] {
                let before = open_descriptors();
                for _ in 0..3 {
                    let running = launch(vec![plan(target, keep_alive, driver); 2]).expect("threads");
                    let outcome = running.finish().expect("an outcome");
                    assert!(outcome.connections_opened > 0, "{driver}");
                }
                // The server closes its ends when it hears of it.
                let began = Instant::now();
                while open_descriptors() > before {
                    let is_late = began.elapsed() > LIMIT;
                    assert!(!is_late, "{driver}, keep-alive {keep_alive}: {before}, then {}", open_descriptors());
                    thread::park_timeout(Duration::from_millis(5));
                }
            }
        }
    }
}
