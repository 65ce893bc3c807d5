//! A replica's end of the shared storage, in this process; and gateways that have one.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringway::{
    config::{Loaded, environment::Environment},
    management::{
        resolver::SystemResolver,
        storage::{Counts, Quotas, SharedStores},
    },
    quota::{Ledger, Tick},
    storage::{Answer, Key, Marks, Operation, State, Storage, Unavailable},
    telemetry::series::SeriesId,
};

use super::{
    gateway::{Gateway, Launch},
    ports,
    redis::wait,
};

pub const LONG: Duration = Duration::from_secs(60);
pub const LIMIT: Duration = Duration::from_secs(30);
const KEYS_MAX: usize = 10_000;

const CONFIGURATION: &str = "
apiVersion: gateway.mulesoft.com/v1alpha1
kind: Configuration
metadata: {name: c}
spec:
  ringway: {name: shop, redis: {addresses: [FURTHER]}}
  sharedStorage:
    SECTION
";

/// A storage as a replica has it.
pub struct Replica {
    pub storage: Arc<Storage>,
    pub counts: Arc<Counts>,
    pub ledger: Arc<Ledger>,
    pub now: Arc<dyn Fn() -> Tick + Send + Sync>,
    /// Sections of further configurations.
    reload: tokio::sync::mpsc::UnboundedSender<String>,
    prepared: mpsc::Receiver<()>,
}

impl Replica {
    /// In memory.
    pub fn alone() -> Self {
        Self::start("local: {enabled: true}")
    }

    /// With `spec.sharedStorage`, and behind ` further ` more nodes of a Cluster; it is known how it stands.
    pub fn start(section: &str) -> Self {
        let (storage, queue) = Storage::new();
        let (reload, mut sections) = tokio::sync::mpsc::unbounded_channel::<String>();
        let (hand_over, counts) = mpsc::channel();
        let (told, prepared) = mpsc::channel();
        let for_task = storage.clone();
        let started = Instant::now();
        let quotas = Quotas::new(1, KEYS_MAX, move || Tick(started.elapsed().as_micros() as u64));
        let (ledger, now) = (quotas.ledger.clone(), quotas.now.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let stores = SharedStores::start(SystemResolver::default(), for_task, queue, quotas);
                hand_over.send(stores.counts()).expect("the test waits");
                while let Some(section) = sections.recv().await {
                    stores.prepare(&snapshot(&section)).await;
                    // The test may be over.
                    let _ = told.send(());
                }
            });
        });
        let counts = counts.recv().expect("it starts");
        let replica = Self { storage, counts, ledger, now, reload, prepared };
        replica.reload(section);
        replica
    }

    pub fn reload(&self, section: &str) {
        self.reload.send(section.to_owned()).expect("the thread lives");
        self.prepared.recv().expect("it prepares");
    }

    pub fn ask(&self, operation: Operation) -> Result<Answer, Unavailable> {
        ask(&self.storage, operation)
    }

    /// Asks again where a machine that has much to do did not answer in time. For what may be done twice.
    fn insist(&self, operation: Operation) -> Result<Answer, Unavailable> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.ask(operation.clone()) {
                Err(Unavailable::Late | Unavailable::Away) if Instant::now() < deadline => {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                answer => return answer,
            }
        }
    }

    pub fn get(&self, name: &str, scopes: &[&str]) -> (Option<Bytes>, Marks) {
        let scopes = scopes.iter().map(|scope| key(scope)).collect();
        match self.insist(Operation::Get { key: key(name), scopes }) {
            Ok(Answer::Found { value, marks }) => (value, marks),
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn put(&self, name: &str, value: impl Into<Bytes>, time_to_live: Duration, marks: Marks) {
        let put = Operation::Put { key: key(name), value: value.into(), time_to_live, marks };
        assert_eq!(self.insist(put), Ok(Answer::Done), "{name}");
    }

    pub fn add(&self, name: &str, value: &'static str, time_to_live: Duration) -> bool {
        match self.ask(Operation::Add { key: key(name), value: value.into(), time_to_live }) {
            Ok(Answer::Added(is_added)) => is_added,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn release(&self, name: &str, value: &'static str) {
        assert_eq!(self.ask(Operation::Release { key: key(name), value: value.into() }), Ok(Answer::Done));
    }

    pub fn purge(&self, scope: &str) {
        assert_eq!(self.ask(purge(scope)), Ok(Answer::Done));
    }

    pub fn state(&self) -> State {
        self.storage.state()
    }

    pub fn reason(&self) -> &'static str {
        self.counts.standing().fault.map_or("", |fault| fault.reason)
    }

    /// Waits until it has looked at the list of purges since now: whoever never has is told of none.
    pub fn has_looked(&self) {
        let before = self.counts.totals().commands;
        // Two for each beat, and the first may have been under way.
        wait("two beats", || self.counts.totals().commands >= before + 4);
    }

    pub fn wait_until(&self, state: State) {
        wait(state.name(), || self.state() == state);
    }

    pub fn expect(self, state: State, kind: &str) -> Self {
        let standing = self.counts.standing();
        assert_eq!((self.state(), standing.kind), (state, kind), "{:?}", standing.fault);
        self
    }
}

fn snapshot(section: &str) -> ringway::config::snapshot::Snapshot {
    let (section, further) = section.split_once(" further ").unwrap_or((section, ""));
    let text = CONFIGURATION.replace("SECTION", section).replace("FURTHER", further);
    let loaded = Loaded::from_texts(&[("c.yaml", &text)], Environment::default());
    let accepted = loaded.compile(1, &mut |_| SeriesId::default()).accept(false);
    accepted.unwrap_or_else(|problems| panic!("{text}{problems:?}"))
}

/// Waits for the answer.
pub fn ask(storage: &Storage, operation: Operation) -> Result<Answer, Unavailable> {
    let (wake, woken) = mpsc::channel();
    let mut pending = storage.ask(operation, move || wake.send(()).expect("the test waits"));
    if let Some(answer) = pending.take() {
        return answer;
    }
    woken.recv_timeout(LIMIT).expect("a wake");
    pending.take().expect("an answer when woken")
}

/// Of a part of `all`.
pub fn purge(scope: &str) -> Operation {
    Operation::Purge { scope: key(scope), whole: key("all"), time_to_live: LONG }
}

pub fn key(name: &str) -> Key {
    Key::of(&[b"test", name.as_bytes()])
}

/// One of a folder's configuration, ready.
pub fn launch(directory: &Path, driver: &str, flags: &[&str]) -> Gateway {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let management = ports::reserve();
    let launch = Launch { directory, driver, management, flags: &flags, environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("it starts");
    gateway.wait_live(true, LIMIT).expect("it is ready");
    gateway
}
