//! Start, run, reload, drain: the only file that knows everyone.

mod options;

pub use options::{LogFormat, RunOptions, Threads};

use std::{
    collections::BTreeMap, future::Future, net::SocketAddr, path::PathBuf, pin::Pin, process::ExitCode, sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at},
};

use crate::{
    cache::Store,
    calls::Calls,
    config::{
        GATEWAY_NAME, dump::dump_json, environment::Environment, load::Loader, settings::Settings, snapshot::Snapshot,
    },
    document::problem::{Problem, Severity},
    management::{
        self,
        admin::{self, Admin, Source},
        calls::Client,
        endpoints::Endpoints,
        log_sink::{DroppedCounts, LogSinks},
        metrics::Outside,
        monitors::Monitors,
        published::Publisher,
        resolver::SystemResolver,
        service_manager,
        socket::{Place, Socket},
        status::{Driver, Listening, Status},
        storage::{Quotas, SharedStores},
        supervise, watch,
    },
    net::{
        driver,
        listen::{self, Presence},
    },
    proxy::core::Drain,
    quota::{Clock, Ledger},
    storage::Storage,
    telemetry::{core::CoreCopy, lines::BUFFER_BYTES_MAX, series},
    worker::{
        self, Command, HandOvers, Worker, cpus,
        swap::{self, Sockets},
    },
};

/// The configuration cannot be used (`EX_CONFIG`): restarting will not help.
const EXIT_CONFIG: u8 = 78;

/// How long a core may take to answer before it is left out of a scrape.
const COPY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the access log's lines are fetched, and dead cores looked for.
const ROUND: Duration = Duration::from_millis(250);
/// As `ROUND`, while a core fills much of its buffer in one: 50,000 lines a second make 10 MB.
const ROUND_MIN: Duration = Duration::from_millis(20);
/// How long the last lines of the access log may take: nobody may read standard output any more.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// What is under way when the time to drain is over has so long to be answered.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often a drain looks whether it is done.
const DRAIN_ROUND: Duration = Duration::from_millis(50);

/// Serves until it is told to stop. The exit code is 0 after a drain, 78 where the configuration cannot be used.
pub fn run(options: RunOptions) -> ExitCode {
    let cpus = cpus(&options.threads);
    let driver = match driver::probe(options.io_driver, cpus.len()) {
        Ok(driver) => driver,
        Err(why) => return fail(&why),
    };
    if options.io_driver == driver::Wanted::Auto && driver.kind == driver::Kind::Epoll {
        tracing::warn!("serving with epoll, which costs more CPU per request: {}", driver.reason);
    } else {
        tracing::info!("serving with {}: {}", driver.kind, driver.reason);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no management runtime: {error}")),
    };
    let code = runtime.block_on(manage(options, driver, cpus));
    // A look-up or a write that hangs on a blocking thread is no reason to stay.
    runtime.shutdown_background();
    code
}

fn fail(why: &str) -> ExitCode {
    tracing::error!("{why}");
    ExitCode::FAILURE
}

async fn manage(options: RunOptions, driver: driver::Driver, cpus: Vec<Option<usize>>) -> ExitCode {
    let (mut signals, mut hangups) = match Signals::new().and_then(|ends| Ok((ends, signal(SignalKind::hangup())?))) {
        Ok(both) => both,
        Err(error) => return fail(&format!("signals cannot be received: {error}")),
    };
    let listener = match tokio::net::TcpListener::bind(options.management).await {
        Ok(listener) => Arc::new(listener),
        Err(error) => return fail(&format!("management address {}: {error}", options.management)),
    };
    let environment = Environment::of_process().with(GATEWAY_NAME, options.gateway_name.as_deref());
    let socket = match open_socket(&options.management_socket) {
        Ok(socket) => socket,
        Err(why) => return fail(&why),
    };
    let loader = Loader::new(options.config.clone(), environment);
    // Before the first reading: what changes in between is read again.
    let (files, named) = tokio::sync::watch::channel(Vec::new());
    let mut changes = watch::start(loader.roots().paths, named, loader.debounce().unwrap_or(watch::QUIET));
    let first = match Read::files(&loader, 1, options.allow_partial) {
        Ok(read) => read,
        Err(problems) => {
            report(&problems);
            tracing::error!("the configuration cannot be used; nothing was started");
            return ExitCode::from(EXIT_CONFIG);
        }
    };

    let status = Status::new(Driver { name: driver.kind.to_string(), reason: driver.reason.clone() });
    let (clock, keys_max) = (Clock::start(), first.snapshot.settings.limits.rate_limit_keys);
    let quotas = Quotas::new(cpus.len(), keys_max, move || clock.now());
    let ledger = quotas.ledger.clone();
    let cache = Store::default();
    let (storage, queue) = Storage::new();
    let (calls, calls_asked) = Calls::new();
    storage.on_purge({
        let cache = cache.clone();
        move |purged| cache.hear(purged)
    });
    let common =
        worker::Common { cache: cache.clone(), storage: storage.clone(), calls, ledger: ledger.clone(), clock };
    let workers = match start_workers(&cpus, driver.kind, &status, &common) {
        Ok(workers) => Arc::new(workers),
        Err(error) => return fail(&format!("cores could not be started: {error}")),
    };
    {
        let ledger = ledger.clone();
        supervise::spawn("rate limits", move || sweep(ledger.clone(), clock));
    }
    let sinks = LogSinks::start();
    let scrapes = Scrapes { workers: workers.clone(), log_dropped: sinks.dropped(), ledger: ledger.clone() };
    let admin = Admin::new(status.clone(), Arc::new(scrapes));
    status.attach_cache(cache.clone());
    if let Some(socket) = socket {
        let admin = admin.clone();
        supervise::spawn("management socket", move || admin::serve_socket(socket.clone(), admin.clone()));
    }
    {
        let admin = admin.clone();
        supervise::spawn("management pages", move || admin::serve(listener.clone(), admin.clone()));
    }
    let endpoints = {
        let (workers, status) = (workers.clone(), status.clone());
        Endpoints::start(SystemResolver::default(), move |table| {
            status.publish_endpoints(table.clone());
            for worker in workers.iter() {
                if !worker.send(Command::Endpoints(table.clone())) {
                    tracing::error!("core {} does not take new endpoints: it is gone", worker.id);
                }
            }
        })
    };
    let client = Arc::new(Client::new(SystemResolver::default()));
    status.attach_calls(client.counts());
    management::calls::start(calls_asked, client.clone());
    let publisher = {
        let (workers, status) = (workers.clone(), status.clone());
        Publisher::start(client.clone(), move |published| {
            for worker in workers.iter() {
                if !worker.send(Command::Published(published.clone())) {
                    tracing::error!("core {} does not take what is published: it is gone", worker.id);
                }
            }
            // Who reads of keys may rely on them.
            status.publish(published);
        })
    };
    let monitors = Monitors::start(SystemResolver::default());
    status.attach_checks(monitors.standings());
    let stores = SharedStores::start(SystemResolver::default(), storage, queue, quotas);
    status.attach_storage(stores.counts());
    let mut gateway = Gateway {
        loader: Arc::new(loader),
        allow_partial: options.allow_partial,
        workers,
        status,
        endpoints,
        monitors,
        publisher,
        stores,
        ledger,
        cache,
        sinks,
        admin,
        probes: None,
        files,
        bound: BTreeMap::new(),
        leaving: Vec::new(),
        generation: 1,
        drain: (Duration::ZERO, Duration::ZERO),
    };
    if let Err(why) = gateway.apply(first).await {
        return fail(&why);
    }
    tracing::info!("{}", gateway.serving());
    service_manager::ready(&gateway.serving());
    {
        let status = gateway.status.clone();
        supervise::spawn("watchdog", move || service_manager::keep_alive(status.clone()));
    }

    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let why = tokio::select! {
            ending = signals.end() => return gateway.drain(ending, &mut signals).await,
            _ = hangups.recv() => Some("SIGHUP"),
            Some(()) = changes.recv() => Some("a changed file"),
            _ = rounds.tick() => None,
        };
        if let Some(why) = why {
            // It may wait for names, and for cores that are slow to answer. Whoever ends the process does not: what a reload
            // leaves undone is for a process that goes on.
            let ending = tokio::select! {
                ending = signals.end() => Some(ending),
                () = gateway.reload(why) => None,
            };
            if let Some(ending) = ending {
                return gateway.drain(ending, &mut signals).await;
            }
        } else if gateway.fetch_lines().await > BUFFER_BYTES_MAX / 8 {
            rounds.reset_after(ROUND_MIN);
        }
        if let Some(lost) = gateway.workers.iter().find(|worker| worker.is_dead() || worker.is_failing()) {
            let how = if lost.is_dead() { "has died" } else { "cannot be relied on any more" };
            tracing::error!("core {} {how}; draining, then stopping", lost.id);
            gateway.drain(Ending::Failure, &mut signals).await;
            return ExitCode::FAILURE;
        }
    }
}

/// The usual place of the management socket may not be there: then there is none, and the log says so.
fn open_socket(place: &Place) -> Result<Option<Arc<Socket>>, String> {
    match Socket::open(place) {
        Ok(socket) => Ok(Some(Arc::new(socket))),
        Err(error) if place.is_named => Err(format!("management socket {}: {error}", place.path.display())),
        Err(error) => {
            tracing::warn!(
                "no management socket: {}: {error}; `--management-socket` names another",
                place.path.display()
            );
            Ok(None)
        }
    }
}

/// One entry per core to start: the CPU to pin it to.
fn cpus(threads: &Threads) -> Vec<Option<usize>> {
    match threads {
        Threads::Auto => cpus::plan(None),
        Threads::Count(count) => cpus::plan(Some(*count)),
        Threads::List(list) => list.iter().copied().map(Some).collect(),
    }
}

fn start_workers(
    cpus: &[Option<usize>],
    kind: driver::Kind,
    status: &Status,
    common: &worker::Common,
) -> std::io::Result<Vec<Worker>> {
    let nothing = Arc::new(Snapshot::empty());
    let start = |(((id, cpu), heartbeat), hand_overs)| {
        let (cores, snapshot, common) = (cpus.len(), nothing.clone(), common.clone());
        worker::start(worker::Start { id, cores, cpu, kind, snapshot, heartbeat, hand_overs, common })
    };
    let hand_overs = HandOvers::new(cpus.len())?;
    cpus.iter().copied().enumerate().zip(status.add_cores(cpus.len())).zip(hand_overs).map(start).collect()
}

/// Has the ledger return what nobody uses and forget what is over.
async fn sweep(ledger: Arc<Ledger>, clock: Clock) {
    loop {
        let next = ledger.sweep(clock.now());
        tokio::time::sleep(Duration::from_micros(next.since(clock.now()))).await;
    }
}

/// Logs every problem of a set, each at its own level.
fn report(problems: &[Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Warning => tracing::warn!("{problem}"),
            Severity::Policy | Severity::Error => tracing::error!("{problem}"),
        }
    }
}

/// One that is of no place in a file.
fn problem(path: &str, text: String) -> Problem {
    Problem { severity: Severity::Error, location: Default::default(), path: path.into(), text }
}

/// A configuration that may serve, and its resources as `/config` shows them.
struct Read {
    snapshot: Arc<Snapshot>,
    resources: serde_json::Value,
}

impl Read {
    fn files(loader: &Loader, generation: u64, allow_partial: bool) -> Result<Self, Vec<Problem>> {
        let loaded = loader.load();
        let snapshot = loaded.compile(generation, &mut series::intern).accept(allow_partial)?;
        Ok(Self { snapshot: Arc::new(snapshot), resources: dump_json(&loaded) })
    }
}

struct Gateway {
    loader: Arc<Loader>,
    allow_partial: bool,
    workers: Arc<Vec<Worker>>,
    status: Arc<Status>,
    endpoints: Endpoints,
    monitors: Monitors,
    publisher: Publisher,
    stores: SharedStores,
    ledger: Arc<Ledger>,
    cache: Store,
    sinks: LogSinks,
    admin: Arc<Admin>,
    /// The port of `Configuration.probe`, and what serves it.
    probes: Option<(u16, JoinHandle<()>)>,
    /// Files that the running snapshot was made from besides, to be watched.
    files: tokio::sync::watch::Sender<Vec<PathBuf>>,
    /// Addresses that the cores accept on.
    bound: BTreeMap<SocketAddr, Presence>,
    /// Ports of addresses that are served no more or never were, which the cores close in their own time.
    leaving: Vec<(u16, Presence)>,
    generation: u64,
    /// `drainDelaySeconds` and `drainSeconds` of the running snapshot.
    drain: (Duration, Duration),
}

impl Gateway {
    async fn reload(&mut self, why: &str) {
        service_manager::reloading();
        let status = match self.load_anew(why).await {
            true => self.serving(),
            false => format!("the last reload was refused; {}", self.serving()),
        };
        service_manager::ready(&status);
    }

    /// Reads the files again and serves them, or goes on with what it has; false: that.
    async fn load_anew(&mut self, why: &str) -> bool {
        let generation = self.generation + 1;
        let (loader, allow_partial) = (self.loader.clone(), self.allow_partial);
        // Compiling takes a while with many files; leases and probes do not wait for it.
        let read = tokio::task::spawn_blocking(move || Read::files(&loader, generation, allow_partial));
        let read = match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(problems)) => {
                report(&problems);
                tracing::error!("reload after {why} refused; the configuration before it goes on serving");
                self.status.refused(problems);
                return false;
            }
            Err(error) => {
                tracing::error!("reload after {why} failed: {error}; the configuration before it goes on serving");
                self.status.refused(vec![problem("configuration", error.to_string())]);
                return false;
            }
        };
        self.generation = generation;
        let hash = read.snapshot.hash.clone();
        match self.apply(read).await {
            Ok(()) => {
                tracing::info!("reloaded after {why}: generation {generation}, hash {hash}");
                true
            }
            Err(error) => {
                tracing::error!("reload after {why} refused: {error}; the configuration before it goes on serving");
                self.status.refused(vec![problem("listeners", error)]);
                false
            }
        }
    }

    /// Makes a snapshot serve on every core: all sockets first, then all cores. On an error, nothing has changed.
    async fn apply(&mut self, read: Read) -> Result<(), String> {
        let Read { snapshot, resources } = read;
        report(&snapshot.problems);
        self.leaving.retain(|(_, presence)| presence.is_open());
        let mut listening = Vec::new();
        let mut new = Vec::new();
        let mut sockets: Sockets = self.workers.iter().map(|_| Vec::new()).collect();
        for address in snapshot.listeners.iter().map(|listener| listener.address) {
            let error = match self.bound.contains_key(&address) {
                true => None,
                false => match listen::bind(address, self.workers.len(), self.listens_on(address.port(), &new)) {
                    Ok((bound, presence)) => {
                        sockets.iter_mut().zip(bound).for_each(|(core, socket)| core.push((address, socket)));
                        new.push((address, presence));
                        None
                    }
                    Err(error) if self.allow_partial => {
                        tracing::error!("{address} cannot be served: {error}");
                        Some(error.to_string())
                    }
                    Err(error) => return Err(format!("{address} cannot be served: {error}")),
                },
            };
            listening.push(Listening { address, error });
        }
        // Names first: a core that serves a new Service should know where it is, a policy its keys, and a quota who counts.
        tokio::join!(
            self.endpoints.prepare(snapshot.reached()),
            self.publisher.prepare(&snapshot.wants, &snapshot.contracts),
            self.stores.prepare(&snapshot)
        );
        if let Err(why) = swap::swap(&self.workers, &snapshot, sockets).await {
            self.endpoints.abort();
            self.publisher.abort();
            self.stores.abort();
            self.leaving.extend(new.into_iter().map(|(address, presence)| (address.port(), presence)));
            return Err(why);
        }
        self.endpoints.commit();
        self.monitors.watch(&snapshot);
        self.publisher.commit().await;
        self.stores.commit();

        let settings = &snapshot.settings;
        self.ledger.set_keys_max(settings.limits.rate_limit_keys);
        self.cache.set_bytes_max(settings.cache.max_bytes);
        if let Some(log) = &settings.access_log {
            self.sinks.access_log.configure(log);
        }
        self.drain = (settings.timeouts.drain_delay, settings.timeouts.drain);
        self.serve_probes(settings).await;
        self.bound.extend(new);
        let stays = |address: &SocketAddr| listening.iter().any(|l| l.address == *address);
        let left = self.bound.extract_if(.., |address, _| !stays(address));
        self.leaving.extend(left.map(|(address, presence)| (address.port(), presence)));
        self.files.send_if_modified(|files| {
            let changed = *files != snapshot.files;
            files.clone_from(&snapshot.files);
            changed
        });
        self.status.applied(snapshot, listening, resources);
        Ok(())
    }

    /// The probes' own port follows the configuration. That it cannot be bound is no reason not to serve.
    async fn serve_probes(&mut self, settings: &Settings) {
        if self.probes.as_ref().map(|(port, _)| *port) == settings.probe_port {
            return;
        }
        if let Some((_, serving)) = self.probes.take() {
            serving.abort();
            let _ = serving.await;
        }
        let Some(port) = settings.probe_port else { return };
        match tokio::net::TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await {
            Ok(listener) => {
                let (listener, admin) = (Arc::new(listener), self.admin.clone());
                let serving =
                    supervise::spawn("probe port", move || admin::serve_probes(listener.clone(), admin.clone()));
                self.probes = Some((port, serving));
            }
            Err(error) => tracing::error!("probes cannot be served on port {port}: {error}"),
        }
    }

    /// Returns how many bytes the core with the most lines had. All cores are asked at once: however many are slow to
    /// answer, it takes no longer than one may.
    async fn fetch_lines(&self) -> usize {
        let ask = |worker: &Worker| {
            let (reply, lines) = oneshot::channel();
            worker.send(Command::TakeLines(reply)).then_some(lines)
        };
        let asked: Vec<_> = self.workers.iter().filter_map(ask).collect();
        let until = Instant::now() + COPY_TIMEOUT;
        let mut most = 0;
        for mut lines in asked {
            // One that comes at the last moment has left the core: nobody else will have it.
            let fetched = match timeout_at(until, &mut lines).await {
                Ok(fetched) => fetched.ok(),
                Err(_) => {
                    lines.close();
                    lines.try_recv().ok()
                }
            };
            if let Some(lines) = fetched {
                most = most.max(lines.access_log.len()).max(lines.messages.len());
                self.sinks.access_log.write(lines.access_log);
                self.sinks.messages.write(lines.messages);
            }
        }
        most
    }

    /// Readiness first, then the listeners, then what is under way; at the end the cores.
    async fn drain(self, ending: Ending, signals: &mut Signals) -> ExitCode {
        let (delay, limit) = self.drain;
        service_manager::stopping();
        self.status.drain();
        self.tell(|| Command::Drain(Drain::Announced));
        // Said once the cores know: who reads it may rely on it.
        tracing::info!("draining: accepting for {delay:?} more, then at most {limit:?} for what is under way");
        let forced = tokio::select! {
            again = signals.end() => Some(again),
            () = tokio::time::sleep(delay) => None,
        };
        self.tell(|| Command::Drain(Drain::Closing));
        let forced = match forced {
            Some(forced) => Some(forced),
            None => self.finish(limit, signals).await,
        };
        if let Some(Ending::Signal(code)) = forced {
            tracing::warn!("told to stop twice: stopping now");
            return ExitCode::from(code);
        }
        self.fetch_lines().await;
        self.tell(|| Command::Stop);
        if timeout(FLUSH_TIMEOUT, self.sinks.finish()).await.is_err() {
            tracing::warn!("the end of the logs could not be written in {FLUSH_TIMEOUT:?}");
        }
        match ending {
            Ending::Signal(_) => ExitCode::SUCCESS,
            Ending::Failure => ExitCode::FAILURE,
        }
    }

    /// Until nothing is under way; what still is when `limit` is over has a moment to say so.
    async fn finish(&self, limit: Duration, signals: &mut Signals) -> Option<Ending> {
        match self.is_idle_by(Instant::now() + limit, signals).await {
            Ok(true) => {
                tracing::info!("drained");
                None
            }
            Ok(false) => {
                tracing::warn!("the time to drain is over; ending what is left");
                self.tell(|| Command::Drain(Drain::Over));
                self.is_idle_by(Instant::now() + LAST_WORDS, signals).await.err()
            }
            Err(forced) => Some(forced),
        }
    }

    /// Waits until nothing is under way, at most until then. `Err`: the process was told to end once more.
    async fn is_idle_by(&self, until: Instant, signals: &mut Signals) -> Result<bool, Ending> {
        loop {
            // Twice: the first time says that nobody accepts any more, and so that nobody hands over, the second that
            // nothing is on its way.
            if (0..2).all(|_| self.workers.iter().all(Worker::is_idle)) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::select! {
                again = signals.end() => return Err(again),
                () = sleep_until(Instant::now() + DRAIN_ROUND) => {}
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in self.workers.iter() {
            worker.send(command());
        }
    }

    /// Whether a socket of this process listens on a port, be it one that is coming or one that a core has yet to close.
    fn listens_on(&self, port: u16, coming: &[(SocketAddr, Presence)]) -> bool {
        let coming = coming.iter().map(|(address, _)| address);
        let leaving = self.leaving.iter().filter(|(_, presence)| presence.is_open()).map(|(port, _)| *port);
        self.bound.keys().chain(coming).map(SocketAddr::port).chain(leaving).any(|known| known == port)
    }

    /// For people.
    fn serving(&self) -> String {
        let addresses = match self.bound.is_empty() {
            true => "no address yet".into(),
            false => self.bound.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        format!("serving {addresses} on {} cores", self.workers.len())
    }
}

/// Why the process ends.
#[derive(Clone, Copy)]
enum Ending {
    /// The exit code, if it is told twice.
    Signal(u8),
    Failure,
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn end(&mut self) -> Ending {
        const FORCED: u8 = 128;
        tokio::select! {
            _ = self.terminate.recv() => Ending::Signal(FORCED + 15),
            _ = self.interrupt.recv() => Ending::Signal(FORCED + 2),
            _ = self.quit.recv() => Ending::Signal(FORCED + 3),
        }
    }
}

/// Where scrapes come from: a copy of every core's counters.
struct Scrapes {
    workers: Arc<Vec<Worker>>,
    /// Lines of logs lost on this thread.
    log_dropped: DroppedCounts,
    ledger: Arc<Ledger>,
}

impl Source for Scrapes {
    fn copies(&self) -> Pin<Box<dyn Future<Output = Vec<CoreCopy>> + Send + '_>> {
        let ask = |worker: &Worker| {
            let (reply, copy) = oneshot::channel();
            worker.send(Command::Copy(reply)).then_some(copy)
        };
        let asked: Vec<_> = self.workers.iter().filter_map(ask).collect();
        Box::pin(async move {
            let until = Instant::now() + COPY_TIMEOUT;
            let mut copies = Vec::new();
            for copy in asked {
                if let Ok(Ok(copy)) = timeout_at(until, copy).await {
                    copies.push(copy);
                }
            }
            copies
        })
    }

    fn outside(&self) -> Outside {
        Outside { log_dropped: self.log_dropped.now(), rate_limits: self.ledger.counts() }
    }
}
