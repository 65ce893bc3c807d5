//! The shared storage as the management thread speaks with it: connected, asked, lost, and connected again.
//!
//! One task. While it is connected it takes what the cores ask, in batches, and beats: the beat counts replicas, and is how a
//! loss is noticed where nobody asks. Whatever says that the storage as a whole cannot be relied on ends the connection: a time
//! that is over, a closed socket, a master that is none any more. Then cores are told, so that none of them asks, and it is
//! tried again.

mod beat;
mod cluster;
mod command;
mod connection;
mod counts;
mod names;
pub mod quotas;
mod sentinels;
mod servers;
mod values;

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use self::{
    beat::{OwnPurges, PurgesSeen},
    names::Names,
    servers::{Access, Servers},
};
pub use self::{
    counts::{Counts, Standing, Totals},
    quotas::Quotas,
};
use super::{resolver::Resolve, supervise, within::within};
use crate::{
    calls::chance::jittered,
    config::{
        shared_storage::{Redis, SharedStorage},
        snapshot::Snapshot,
    },
    document::address::Endpoint,
    quota,
    storage::{Queue, State, Storage},
    telemetry::fault::Fault,
};

/// How long a start or a reload waits for a storage that it has not spoken with before.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(2);
/// Together less than a second: a loss that nobody asks about is noticed as late.
const BEAT: Duration = Duration::from_millis(400);
const BEAT_ANSWER_MAX: Duration = Duration::from_millis(400);
/// Between attempts to connect, which take up to 400 ms where nobody answers: what is there again is found within a second.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// A connection that was kept for as long starts the pauses anew.
const STEADY: Duration = Duration::from_secs(2);
/// Operations that are sent together, and batches under way.
const BATCH_MAX: usize = 64;
const BATCHES_MAX: usize = 32;
/// Few, so that what is asked meanwhile goes together.
const QUESTION_BATCHES_MAX: usize = 4;

/// The orchestration's end.
pub struct SharedStores {
    wanted: watch::Sender<Wanted>,
    /// Of the configuration that serves on the cores.
    committed: Wanted,
    settled: watch::Receiver<u64>,
    counts: Arc<Counts>,
}

/// What a configuration says of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    storage: SharedStorage,
    /// Of the gateway.
    name: String,
    /// Of this replica.
    replica: Option<String>,
    version: u64,
}

impl SharedStores {
    /// Starts the task on the current runtime.
    pub fn start<R: Resolve>(resolver: R, storage: Arc<Storage>, queue: Queue, quotas: Quotas) -> Self {
        let (wanted, wanted_by) = watch::channel(Wanted::default());
        let (settle, settled) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        let (resolver, queue, settle) = (Arc::new(resolver), Arc::new(Mutex::new(queue)), Arc::new(settle));
        let task_counts = counts.clone();
        supervise::spawn("shared storage", move || {
            let task = Task {
                storage: storage.clone(),
                quotas: quotas.clone(),
                resolver: resolver.clone(),
                counts: task_counts.clone(),
                settle: settle.clone(),
                seen: Arc::default(),
                own: Arc::default(),
                learned: Mutex::default(),
                instance: format!("{:016x}", RandomState::new().hash_one(std::time::SystemTime::now())),
            };
            task.run(queue.clone(), wanted_by.clone())
        });
        Self { wanted, committed: Wanted::default(), settled, counts }
    }

    /// Has what a coming snapshot says hold from now on. Returns when it is known how that stands, or after two seconds; what was
    /// connected before serves until then.
    pub async fn prepare(&self, snapshot: &Snapshot) {
        let name = snapshot.settings.name.text.clone();
        let (storage, replica) = (snapshot.storage.clone(), snapshot.settings.replica.clone());
        if !self.want(Wanted { storage, name, replica, version: 0 }) {
            return;
        }
        let version = self.wanted.borrow().version;
        let mut settled = self.settled.clone();
        let all = settled.wait_for(|settled| *settled >= version);
        if timeout(FIRST_ANSWER_MAX, all).await.is_err() {
            tracing::warn!("the shared storage has not answered yet; going on without");
        }
    }

    /// The prepared snapshot will not run: what the running one says holds again.
    pub fn abort(&self) {
        self.want(self.committed.clone());
    }

    /// The prepared snapshot runs.
    pub fn commit(&mut self) {
        self.committed = self.wanted.borrow().clone();
    }

    /// Returns whether it is another than before.
    fn want(&self, coming: Wanted) -> bool {
        self.wanted.send_if_modified(|wanted| {
            let coming = Wanted { version: wanted.version, ..coming };
            let is_new = coming != *wanted;
            if is_new {
                *wanted = Wanted { version: wanted.version + 1, ..coming };
            }
            is_new
        })
    }

    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }
}

struct Task<R> {
    storage: Arc<Storage>,
    quotas: Quotas,
    resolver: Arc<R>,
    counts: Arc<Counts>,
    settle: Arc<watch::Sender<u64>>,
    seen: Arc<Mutex<PurgesSeen>>,
    own: Arc<OwnPurges>,
    /// Nodes of the Cluster that was there last.
    learned: Mutex<Option<(Arc<Redis>, Vec<Endpoint>)>>,
    /// Of this process, so that replicas of one name are several.
    instance: String,
}

/// What is connected, and for whom.
struct Connected<R> {
    servers: Servers<R>,
    names: Names,
    replica: String,
}

/// What came of connecting with what a version of the configuration says.
struct Coming<R> {
    version: u64,
    connected: Result<Connected<R>, Fault>,
}

/// Why a connection serves no more.
enum Ended<R> {
    Lost(Fault),
    /// Another configuration holds, whose storage may have been tried.
    Changed(Option<Box<Coming<R>>>),
    /// The process ends.
    Over,
}

impl<R: Resolve> Task<R> {
    async fn run(self, queue: Arc<Mutex<Queue>>, mut wanted: watch::Receiver<Wanted>) {
        let mut queue = queue.lock().await;
        let mut coming = None;
        loop {
            let current = wanted.borrow_and_update().clone();
            let ended = match &current.storage {
                SharedStorage::Redis(redis) => {
                    self.with_redis(redis, &current, coming.take(), &mut queue, &mut wanted).await
                }
                none => {
                    let is_usable = *none == SharedStorage::Memory;
                    self.without(is_usable, current.version, &mut queue);
                    if wanted.changed().await.is_err() { Ended::Over } else { Ended::Changed(None) }
                }
            };
            match ended {
                Ended::Changed(connected) => coming = connected,
                Ended::Lost(_) | Ended::Over => return,
            }
        }
    }

    fn without(&self, is_usable: bool, version: u64, queue: &mut Queue) {
        let state = if is_usable { State::Memory } else { State::Away };
        let fault = (!is_usable).then(|| Fault::new("configuration", "what the configuration says cannot be used"));
        self.storage.set_state(state);
        self.quotas.stands(if is_usable { quota::Storage::None } else { quota::Storage::Away { replicas: 1 } });
        while queue.try_recv().is_ok() {}
        self.counts.stands(state, "", fault);
        self.counts.sees_nobody();
        self.settle.send_replace(version);
    }

    /// Serves until the configuration is another. `coming`: connected already.
    async fn with_redis(
        &self,
        redis: &Arc<Redis>,
        current: &Wanted,
        coming: Option<Box<Coming<R>>>,
        queue: &mut Queue,
        wanted: &mut watch::Receiver<Wanted>,
    ) -> Ended<R> {
        self.counts.assume_replicas(redis.replicas);
        let mut pause = PAUSE_MIN;
        let mut coming = coming.filter(|coming| coming.version == current.version);
        loop {
            let connected = match coming.take() {
                Some(coming) => coming.connected,
                None => tokio::select! {
                    connected = self.connect(redis, current) => connected,
                    changed = wanted.changed() => return Ended::after(changed.is_ok()),
                },
            };
            let fault = match connected {
                Ok(connected) => {
                    let since = Instant::now();
                    self.here(&connected);
                    self.settle.send_replace(current.version);
                    match self.serve(connected, queue, wanted).await {
                        Ended::Lost(fault) => {
                            if since.elapsed() >= STEADY {
                                pause = PAUSE_MIN;
                            }
                            fault
                        }
                        ended => return ended,
                    }
                }
                Err(fault) => fault,
            };
            self.away(fault, queue);
            self.settle.send_replace(current.version);
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                changed = wanted.changed() => return Ended::after(changed.is_ok()),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Connected, and proved by a first beat: whoever cannot write is not there.
    async fn connect(&self, redis: &Arc<Redis>, wanted: &Wanted) -> Result<Connected<R>, Fault> {
        let (redis, resolver, counts) = (redis.clone(), self.resolver.clone(), self.counts.clone());
        let learned = self.learned.lock().await.as_ref().filter(|(of, _)| *of == redis).map(|(_, nodes)| nodes.clone());
        let access = Access { redis: redis.clone(), resolver, counts };
        let servers = Servers::connect(&access, &learned.unwrap_or_default()).await?;
        *self.learned.lock().await = Some((redis, servers.nodes()));
        let name = wanted.replica.as_deref().unwrap_or_default();
        let replica = format!("{name}-{}", self.instance);
        let connected = Connected { servers, names: Names::new(&wanted.name), replica };
        self.beat(&connected).await?;
        // Before anything of it is served: what it has may have been purged.
        self.send_late(&connected).await?;
        Ok(connected)
    }

    /// Purges that could not be sent when they were asked for.
    async fn send_late(&self, connected: &Connected<R>) -> Result<(), Fault> {
        let Connected { servers, names, .. } = connected;
        let faults = values::send_late(servers, names, &self.counts, &self.storage, &self.own).await;
        faults.iter().filter(|fault| !connection::is_loss(fault)).for_each(|fault| self.counts.failed(fault.reason));
        faults.into_iter().find(connection::is_loss).map_or(Ok(()), Err)
    }

    async fn beat(&self, connected: &Connected<R>) -> Result<(), Fault> {
        let Connected { servers, names, replica } = connected;
        let mut seen = self.seen.lock().await;
        let began = Instant::now();
        let late = || Fault::new("timeout", format!("no answer in {BEAT_ANSWER_MAX:?}"));
        let beat = beat::beat(servers, names, replica, &self.storage, &mut seen, &self.own);
        let replicas = within(BEAT_ANSWER_MAX, beat).await.ok_or_else(late)??;
        self.counts.answered(began.elapsed());
        self.counts.saw_replicas(replicas);
        Ok(())
    }

    fn here(&self, connected: &Connected<R>) {
        let kind = connected.servers.kind();
        self.counts.connected();
        if self.counts.stands(State::Here, kind, None).is_some() {
            let (at, replicas) = (connected.servers.describe(), self.counts.replicas());
            tracing::info!("shared storage: connected with {kind} at {at}; replicas: {replicas}");
        }
        self.storage.set_state(State::Here);
        self.quotas.stands(quota::Storage::Here { replicas: self.counts.replicas() as u64 });
    }

    fn away(&self, fault: Fault, queue: &mut Queue) {
        self.storage.set_state(State::Away);
        self.quotas.stands(quota::Storage::Away { replicas: self.counts.replicas() as u64 });
        while queue.try_recv().is_ok() {}
        self.counts.failed(fault.reason);
        let standing = self.counts.standing();
        // While it is away, what only says so once more in other words is no news.
        let is_other = standing.fault.as_ref().is_some_and(|before| before.reason != fault.reason);
        let is_passing = matches!(fault.reason, "closed" | "connect_refused" | "connect_failed" | "timeout");
        let is_news = standing.state != State::Away || (is_other && !is_passing);
        if is_news {
            let reason = fault.reason;
            tracing::warn!(reason, "shared storage: away: {}; it is tried again until it is there", fault.text);
        }
        self.counts.stands(State::Away, standing.kind, Some(fault));
    }

    /// Has what is asked done, until the connection is lost or the configuration is another and its storage was tried.
    async fn serve(
        &self,
        connected: Connected<R>,
        queue: &mut Queue,
        wanted: &mut watch::Receiver<Wanted>,
    ) -> Ended<R> {
        let connected = Arc::new(connected);
        let (lose, mut lost) = mpsc::channel(1);
        let mut under_way = JoinSet::new();
        let mut questions = JoinSet::new();
        let mut asked = Vec::new();
        let mut told = HashSet::new();
        let beating = self.beat_on(&connected);
        let changed = self.connect_with_next(wanted);
        let moved_on = connected.servers.moved_on();
        tokio::pin!(beating, changed, moved_on);
        loop {
            tokio::select! {
                fault = &mut beating => return Ended::Lost(fault),
                fault = &mut moved_on => return Ended::Lost(fault),
                ended = &mut changed => {
                    // What is under way has its answer first, which takes no longer than one may.
                    questions.join_all().await;
                    under_way.join_all().await;
                    return ended;
                }
                Some(fault) = lost.recv() => return Ended::Lost(fault),
                Some(faults) = under_way.join_next() => self.refused(faults.unwrap_or_default(), &mut told, &lose),
                Some(faults) = questions.join_next() => self.refused(faults.unwrap_or_default(), &mut told, &lose),
                () = self.quotas.rung.notified(), if questions.len() < QUESTION_BATCHES_MAX => {
                    let batch = self.quotas.take();
                    let (connected, counts) = (connected.clone(), self.counts.clone());
                    if !batch.is_empty() {
                        questions.spawn(async move {
                            let Connected { servers, names, replica } = &*connected;
                            batch.ask(servers, names, replica, &counts).await
                        });
                    }
                }
                count = queue.recv_many(&mut asked, BATCH_MAX), if under_way.len() < BATCHES_MAX => {
                    if count == 0 {
                        return Ended::Over; // nobody can ask any more
                    }
                    let (connected, counts, storage) = (connected.clone(), self.counts.clone(), self.storage.clone());
                    let (own, batch) = (self.own.clone(), std::mem::take(&mut asked));
                    under_way.spawn(async move {
                        let Connected { servers, names, .. } = &*connected;
                        values::answer(servers, names, &counts, &storage, &own, batch).await
                    });
                }
            }
        }
    }

    /// Beats until one does not get its answer.
    async fn beat_on(&self, connected: &Connected<R>) -> Fault {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.tick().await; // the first is of the past
        loop {
            beats.tick().await;
            if let Err(fault) = self.beat(connected).await {
                return fault;
            }
            if let Err(fault) = self.send_late(connected).await {
                return fault;
            }
            self.quotas.stands(quota::Storage::Here { replicas: self.counts.replicas() as u64 });
        }
    }

    /// What becomes of another configuration. What only it says of something else changes nothing here.
    async fn connect_with_next(&self, wanted: &mut watch::Receiver<Wanted>) -> Ended<R> {
        if wanted.changed().await.is_err() {
            return Ended::Over;
        }
        let next = wanted.borrow().clone();
        match &next.storage {
            SharedStorage::Redis(redis) => {
                let connected = self.connect(redis, &next).await;
                Ended::Changed(Some(Box::new(Coming { version: next.version, connected })))
            }
            _ => Ended::Changed(None),
        }
    }

    /// Commands that a server did not do: told once for each reason while it is connected.
    fn refused(&self, faults: Vec<Fault>, told: &mut HashSet<&'static str>, lose: &mpsc::Sender<Fault>) {
        for fault in faults {
            self.counts.failed(fault.reason);
            if connection::is_loss(&fault) {
                // The first is enough.
                let _ = lose.try_send(fault);
            } else if told.insert(fault.reason) {
                tracing::warn!(reason = fault.reason, "shared storage: a command was refused: {}", fault.text);
            }
        }
    }
}

impl<R> Ended<R> {
    fn after(is_changed: bool) -> Self {
        if is_changed { Self::Changed(None) } else { Self::Over }
    }
}
