//! One task that fetches what policies want and publishes it.
//!
//! As with [`Endpoints`](super::endpoints::Endpoints) a reload happens in two steps: `prepare` adds what the new configuration
//! wants and waits a moment for it, so that no request meets a policy without keys where there are some; `commit`, after the
//! swap, lets go what only the old one wanted.

mod key_sets;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use self::key_sets::{Come, KeySets};
use super::{calls::Client, fetch::Fetch, resolver::Resolve, supervise};
use crate::{
    calls::chance::chance,
    policies::{
        clients::Contracts,
        jwt::key_set::KEY_SET_BYTES_MAX,
        wants::{KeySetId, KeySetWant, Published, Want},
    },
    telemetry::fault::Fault,
};

/// How long a start or a reload waits for what nobody has wanted before.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(2);
/// Fetches under way at the same time.
const UNDER_WAY_MAX: usize = 16;

/// The orchestration's end of the task.
#[derive(Debug)]
pub struct Publisher {
    wanted: watch::Sender<Wanted>,
    progress: watch::Receiver<Progress>,
}

/// How far the task has come, in versions of what is wanted.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// What there is of it is published.
    published: u64,
    /// Each set of it has been asked for once.
    settled: u64,
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    version: u64,
    committed: OfSnapshot,
    prepared: OfSnapshot,
}

#[derive(Clone, Debug, Default)]
struct OfSnapshot {
    wants: Arc<[Want]>,
    contracts: Contracts,
}

impl Publisher {
    /// Starts the task on the current runtime. `publish` is called with everything whenever something of it is another, from
    /// that task: it must not block.
    pub fn start<R: Resolve>(client: Arc<Client<R>>, publish: impl Fn(Arc<Published>) + Send + Sync + 'static) -> Self {
        let (wanted, wanted_by) = watch::channel(Wanted::default());
        let (report, progress) = watch::channel(Progress::default());
        let (publish, report) = (Arc::new(publish), Arc::new(report));
        supervise::spawn("what policies want", move || {
            let asked = Arc::new(Notify::new());
            let wake = {
                let asked = asked.clone();
                Arc::new(move || asked.notify_one())
            };
            let (client, publish) = (client.clone(), publish.clone());
            let task = Task { client, publish, asked, key_sets: KeySets::new(chance, wake) };
            task.run(wanted_by.clone(), report.clone())
        });
        Self { wanted, progress }
    }

    /// Has what a coming snapshot wants fetched beside what the running one does. Returns when there was one answer for each, or
    /// after two seconds. An API that has clients already keeps them until the commit.
    pub async fn prepare(&self, wants: &[Want], contracts: &Contracts) {
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            wanted.prepared = OfSnapshot { wants: wants.into(), contracts: contracts.clone() };
        });
        let version = self.wanted.borrow().version;
        let mut progress = self.progress.clone();
        let all = progress.wait_for(|progress| progress.settled >= version);
        if timeout(FIRST_ANSWER_MAX, all).await.is_err() {
            tracing::warn!("some key sets have not come yet; going on without");
        }
    }

    /// The prepared snapshot will not run; what only it wanted goes.
    pub fn abort(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            wanted.prepared = wanted.committed.clone();
        });
    }

    /// The prepared snapshot runs; what only the one before it wanted goes. Returns when the cores have been told so.
    pub async fn commit(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            wanted.committed = wanted.prepared.clone();
        });
        let version = self.wanted.borrow().version;
        let mut progress = self.progress.clone();
        // The task lives as long as its senders.
        let _ = progress.wait_for(|progress| progress.published >= version).await;
    }
}

impl Wanted {
    /// Of a set that both snapshots want the coming one says how often.
    fn key_sets(&self) -> HashMap<KeySetId, KeySetWant> {
        let all = self.committed.wants.iter().chain(self.prepared.wants.iter());
        all.map(|Want::KeySet(want)| (want.id(), want.clone())).collect()
    }

    /// The set of each address. Where the snapshots secure it in two ways it is that of the one that runs.
    fn in_use(&self) -> impl Iterator<Item = KeySetId> {
        let all = self.prepared.wants.iter().chain(self.committed.wants.iter());
        let by_address: HashMap<_, _> = all.map(|Want::KeySet(want)| (want.address(), want)).collect();
        by_address.into_values().map(KeySetWant::id)
    }

    fn contracts(&self) -> Contracts {
        self.committed.contracts.or(&self.prepared.contracts)
    }
}

struct Task<R, P> {
    client: Arc<Client<R>>,
    publish: Arc<P>,
    /// Some core asks for a fetch.
    asked: Arc<Notify>,
    key_sets: KeySets,
}

type Fetched = (KeySetId, Result<Come, Fault>);

impl<R: Resolve, P: Fn(Arc<Published>) + Send + Sync + 'static> Task<R, P> {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>, report: Arc<watch::Sender<Progress>>) {
        let mut under_way = JoinSet::new();
        let mut current = wanted.borrow_and_update().clone();
        let mut contracts = Contracts::default();
        let mut changed = self.key_sets.keep(&current.key_sets(), Instant::now());
        loop {
            let now = current.contracts();
            if changed || !now.are(&contracts) {
                contracts = now.clone();
                let key_sets = self.key_sets.published(current.in_use());
                (self.publish)(Arc::new(Published { key_sets, contracts: now }));
            }
            report.send_modify(|progress| {
                progress.published = current.version;
                if self.key_sets.settled() {
                    progress.settled = current.version;
                }
            });
            self.fetch(&mut under_way);
            // The minute is for when nothing is due; a change or an answer comes on its own.
            let wake_at = self.key_sets.next_due().unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            let room = under_way.len() < UNDER_WAY_MAX;
            changed = tokio::select! {
                news = wanted.changed() => {
                    if news.is_err() {
                        return; // the orchestration has gone
                    }
                    current = wanted.borrow_and_update().clone();
                    self.key_sets.keep(&current.key_sets(), Instant::now())
                }
                Some(fetched) = under_way.join_next() => {
                    let (id, come): Fetched = fetched.expect("its panics are caught inside");
                    self.key_sets.answered(&id, come, Instant::now());
                    true
                }
                () = self.asked.notified() => false,
                () = sleep_until(wake_at), if room => false,
            };
        }
    }

    /// Starts what is due, as far as there is room.
    fn fetch(&mut self, under_way: &mut JoinSet<Fetched>) {
        let room = UNDER_WAY_MAX.saturating_sub(under_way.len());
        for want in self.key_sets.take_due(Instant::now(), room) {
            let (id, client) = (want.id(), self.client.clone());
            let fetch =
                Fetch { destination: want.destination, time_max: want.timeout, body_bytes_max: KEY_SET_BYTES_MAX };
            under_way.spawn(async move {
                let fetching = async move { fetch.run(&client).await.and_then(Come::read) };
                let come = supervise::catch("fetch", fetching).await;
                (id, come.unwrap_or_else(|| Err(Fault::new("failed", "the fetch itself failed"))))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        calls::{Destination, ForwardProxy, ProxyServer, Ways},
        document::address::WebAddress,
        management::resolver::Answer,
    };

    /// `silent` never answers, `broken` makes the resolver panic, and nobody knows the others.
    struct Fake;

    impl Resolve for Fake {
        async fn resolve(&self, host: &str) -> Result<Answer, String> {
            match host {
                "silent" => std::future::pending().await,
                "broken" => panic!("a bug in the resolver"),
                _ => Err("unknown".to_owned()),
            }
        }
    }

    fn want(host: &str) -> Want {
        let address = WebAddress::parse(&format!("http://{host}/keys")).expect("an address");
        let destination = Arc::new(Destination::new(address, &Arc::default()));
        let (timeout, time_to_live) = (Duration::from_secs(10), Duration::from_secs(3600));
        Want::KeySet(KeySetWant { destination, timeout, time_to_live, cool_down: Duration::from_secs(30) })
    }

    fn start() -> (Publisher, mpsc::UnboundedReceiver<Arc<Published>>) {
        let (sender, published) = mpsc::unbounded_channel();
        let publish = move |published| sender.send(published).expect("the test listens");
        (Publisher::start(Arc::new(Client::new(Fake)), publish), published)
    }

    /// What is published next: each host, and the reason of its fault.
    async fn next(published: &mut mpsc::UnboundedReceiver<Arc<Published>>) -> Vec<String> {
        let published = published.recv().await.expect("the task lives");
        let mut told: Vec<String> = (published.key_sets.iter())
            .map(|(address, set)| {
                format!("{} {}", address.authority, set.fault.as_ref().map_or("", |fault| fault.reason))
            })
            .collect();
        told.sort();
        told
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_had_holds_nobody_up_and_is_asked_for_again() {
        let (publisher, mut published) = start();
        let began = Instant::now();
        publisher.prepare(&[want("a"), want("broken")], &Contracts::default()).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(next(&mut published).await, ["a ", "broken "]);
        next(&mut published).await;
        assert_eq!(next(&mut published).await, ["a name_unresolved", "broken failed"]);
        next(&mut published).await;
        assert!(began.elapsed() >= Duration::from_millis(500), "after a pause");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_holds_a_start_up_for_two_seconds_only() {
        let (publisher, mut published) = start();
        let began = Instant::now();
        publisher.prepare(&[want("silent")], &Contracts::default()).await;
        assert_eq!(began.elapsed(), FIRST_ANSWER_MAX);
        assert_eq!(next(&mut published).await, ["silent "]);
        assert_eq!(next(&mut published).await, ["silent timeout"]);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_running_configuration_wants_stays_until_the_commit() {
        let (publisher, mut published) = start();
        publisher.prepare(&[want("a")], &Contracts::default()).await;
        publisher.commit().await;
        publisher.prepare(&[want("b")], &Contracts::default()).await;
        publisher.abort();
        publisher.prepare(&[want("c")], &Contracts::default()).await;
        publisher.commit().await;
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last: &String| last != "c name_unresolved") {
            seen.push(next(&mut published).await.join(", "));
        }
        let both = ["a name_unresolved, b name_unresolved", "a name_unresolved, c name_unresolved"];
        assert!(both.iter().all(|both| seen.iter().any(|seen| seen == both)), "{seen:?}");
    }

    #[test]
    fn until_the_commit_keys_come_the_way_that_the_running_configuration_wants() {
        let old = want("a");
        let Want::KeySet(mut new) = old.clone();
        let address = WebAddress::parse("http://proxy:3128").expect("an address");
        let server = Some(ProxyServer { address, tls: None, authorization: None });
        let proxy = ForwardProxy { server, no_proxy: Vec::new() };
        let ways = Arc::new(Ways { proxy: Some(Arc::new(proxy)), ..Ways::default() });
        new.destination = Arc::new(Destination::new(new.address().clone(), &ways));
        let Want::KeySet(running) = &old;
        let of = |want| OfSnapshot { wants: [want].into(), ..OfSnapshot::default() };
        let mut wanted = Wanted { version: 1, committed: of(old.clone()), prepared: of(Want::KeySet(new.clone())) };
        assert_eq!(wanted.in_use().collect::<Vec<_>>(), [running.id()]);
        assert_eq!(wanted.key_sets().len(), 2, "the other way is tried already");
        wanted.committed = wanted.prepared.clone();
        assert_eq!(wanted.in_use().collect::<Vec<_>>(), [new.id()]);
    }
}
