//! One task that knows where every upstream is: it asks for names, checks health, and publishes a table when either
//! changed.
//!
//! A reload happens in two steps, so that no core ever looks for an endpoint that is not in its table: `prepare` adds the
//! new set to the old one and waits a moment for first answers; `commit`, after the swap, lets the old set go.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    health::{Check, Checks, Target},
    resolver::{Answer, Names, Resolve},
    supervise,
};
use crate::{
    config::{endpoints::EndpointTable, snapshot::Service},
    document::address::Endpoint,
    telemetry::fault::Fault,
};

/// How long a start or a reload waits for names it has not seen before.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(2);
/// Questions and checks under way at the same time.
const UNDER_WAY_MAX: usize = 64;

/// The orchestration's end of the task.
#[derive(Debug)]
pub struct Endpoints {
    wanted: watch::Sender<Wanted>,
    settled: watch::Receiver<u64>,
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    version: u64,
    committed: Arc<[Arc<Service>]>,
    prepared: Arc<[Arc<Service>]>,
}

impl Endpoints {
    /// Starts the task on the current runtime. `publish` is called with every new table, from that task: it must not
    /// block.
    pub fn start<R: Resolve>(resolver: R, publish: impl Fn(Arc<EndpointTable>) + Send + Sync + 'static) -> Self {
        let (wanted, wanted_by) = watch::channel(Wanted::default());
        let (settle, settled) = watch::channel(0);
        let (resolver, publish, settle) = (Arc::new(resolver), Arc::new(publish), Arc::new(settle));
        supervise::spawn("endpoints", move || {
            let task = Task {
                resolver: resolver.clone(),
                publish: publish.clone(),
                names: Names::default(),
                checks: Checks::default(),
                published: EndpointTable::default(),
            };
            task.run(wanted_by.clone(), settle.clone())
        });
        Self { wanted, settled }
    }

    /// Makes the endpoints of a coming snapshot known beside those of the running one. Returns when every name has been
    /// answered once, or after two seconds.
    pub async fn prepare(&self, services: impl IntoIterator<Item = &Arc<Service>>) {
        let prepared = services.into_iter().cloned().collect();
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            wanted.prepared = prepared;
        });
        let version = self.wanted.borrow().version;
        let mut settled = self.settled.clone();
        let all = settled.wait_for(|settled| *settled >= version);
        if timeout(FIRST_ANSWER_MAX, all).await.is_err() {
            tracing::warn!("some upstream names have no answer yet; going on without");
        }
    }

    /// The prepared snapshot will not run; what only it needed goes.
    pub fn abort(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            wanted.prepared = wanted.committed.clone();
        });
    }

    /// The prepared snapshot runs; what only the one before it needed goes.
    pub fn commit(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            wanted.committed = wanted.prepared.clone();
        });
    }
}

struct Task<R, P> {
    resolver: Arc<R>,
    publish: Arc<P>,
    names: Names,
    checks: Checks,
    published: EndpointTable,
}

enum Event {
    Name(String, Result<Answer, String>),
    Health(Target, Result<(), Fault>),
}

impl<R: Resolve, P: Fn(Arc<EndpointTable>) + Send + Sync + 'static> Task<R, P> {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>, settle: Arc<watch::Sender<u64>>) {
        let mut under_way = JoinSet::new();
        let mut current = wanted.borrow_and_update().clone();
        let mut changed = true;
        loop {
            if changed {
                self.update(&current);
            }
            if self.names.settled() {
                settle.send_replace(current.version);
            }
            self.ask(&mut under_way);
            // The minute is for when nothing is due; a change or an answer comes on its own.
            let due = [self.names.next_due(), self.checks.next_due()].into_iter().flatten().min();
            let room = under_way.len() < UNDER_WAY_MAX;
            let wake_at = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            changed = tokio::select! {
                news = wanted.changed() => {
                    if news.is_err() {
                        return; // the orchestration has gone
                    }
                    current = wanted.borrow_and_update().clone();
                    true
                }
                Some(event) = under_way.join_next() => self.take(event.expect("its panics are caught inside")),
                () = sleep_until(wake_at), if room => false,
            };
        }
    }

    /// Takes over a new set of services or new answers, and publishes the table if it became another one.
    fn update(&mut self, wanted: &Wanted) {
        let now = Instant::now();
        let services = || wanted.committed.iter().chain(wanted.prepared.iter());
        let endpoints = || services().flat_map(|service| service.dialled()).map(|(endpoint, _)| endpoint);
        let hosts: HashSet<&str> =
            endpoints().map(|endpoint| endpoint.host.as_str()).filter(|host| literal(host).is_none()).collect();
        self.names.keep(&hosts, now);

        let known = |endpoint: &Endpoint| (endpoint.clone(), self.addresses(endpoint));
        let by_endpoint = endpoints().map(known).filter(|(_, found)| !found.is_empty()).collect();
        let mut table = EndpointTable { by_endpoint, ..EndpointTable::default() };
        let mut checked = HashMap::new();
        for service in services() {
            let Some(check) = Check::of(service) else { continue };
            checked.extend(table.places(service).map(|place| ((service.identity, place), check.clone())));
        }
        self.checks.keep(checked, now);

        table.unhealthy = self.checks.unhealthy().collect();
        table.unresolved = self.names.unresolved().collect();
        if table != self.published {
            self.published = table.clone();
            (self.publish)(Arc::new(table));
        }
    }

    fn addresses(&self, endpoint: &Endpoint) -> Vec<SocketAddr> {
        match literal(&endpoint.host) {
            Some(address) => vec![SocketAddr::new(address, endpoint.port)],
            None => {
                let found = self.names.addresses(&endpoint.host).iter();
                found.map(|address| SocketAddr::new(*address, endpoint.port)).collect()
            }
        }
    }

    /// Starts what is due, as far as there is room.
    fn ask(&mut self, under_way: &mut JoinSet<Event>) {
        let now = Instant::now();
        for host in self.names.take_due(now, UNDER_WAY_MAX.saturating_sub(under_way.len())) {
            let (resolver, name) = (self.resolver.clone(), host.clone());
            under_way.spawn(async move {
                let answer = supervise::catch("resolver", async move { resolver.resolve(&name).await }).await;
                Event::Name(host, answer.unwrap_or_else(|| Err("the resolver failed".to_owned())))
            });
        }
        for (target, check) in self.checks.take_due(now, UNDER_WAY_MAX.saturating_sub(under_way.len())) {
            under_way.spawn(async move {
                let result = supervise::catch("health check", async move { check.run(target.1).await }).await;
                Event::Health(target, result.unwrap_or_else(|| Err(Fault::new("failed", "the check itself failed"))))
            });
        }
    }

    fn take(&mut self, event: Event) -> bool {
        let now = Instant::now();
        match event {
            Event::Name(name, answer) => self.names.answered(&name, answer, now),
            Event::Health(target, result) => self.checks.answered(target, result, now),
        }
    }
}

/// An address as such: nothing to resolve.
fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        config::snapshot::{LoadBalancing, Retries, ServiceLimits},
        telemetry::series::SeriesId,
    };

    fn service(identity: u64, hosts: &[&str]) -> Arc<Service> {
        Arc::new(Service {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
            location: Default::default(),
            identity,
            series: SeriesId(0),
            endpoints: hosts.iter().map(|host| endpoint(host)).collect(),
            authority: "orders".to_owned(),
            load_balancing: LoadBalancing::RoundRobin,
            multiplexes: false,
            keeps_host: false,
            proxy_protocol: None,
            retries: Retries {
                attempts: 0,
                connect_failure: true,
                reset: false,
                gateway_error: false,
                budget_percent: 20,
            },
            limits: ServiceLimits {
                connections: 1,
                pending_requests: 1,
                requests: 1,
                retries: 1,
                connection_idle: None,
            },
            health_check: None,
            tls: None,
            carried: None,
            policies: Vec::new(),
        })
    }

    fn endpoint(host: &str) -> Endpoint {
        Endpoint { host: host.to_owned(), port: 8080 }
    }

    fn address(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().expect("a literal address"), 8080)
    }

    /// `up` has a new address every 10 s, `silent` never answers, `broken` makes the resolver panic.
    struct Fake(Instant);

    impl Resolve for Fake {
        async fn resolve(&self, host: &str) -> Result<Answer, String> {
            match host {
                "up" => {
                    let last = 1 + (self.0.elapsed().as_secs() / 10) as u8;
                    Ok(Answer { addresses: vec![IpAddr::from([192, 0, 2, last])], ttl: Duration::from_secs(10) })
                }
                "silent" => std::future::pending().await,
                "broken" => panic!("a bug in the resolver"),
                _ => Err("unknown".to_owned()),
            }
        }
    }

    fn start() -> (Endpoints, mpsc::UnboundedReceiver<Arc<EndpointTable>>) {
        let (sender, tables) = mpsc::unbounded_channel();
        let publish = move |table| sender.send(table).expect("the test listens");
        (Endpoints::start(Fake(Instant::now()), publish), tables)
    }

    #[tokio::test(start_paused = true)]
    async fn names_and_literals_are_known_when_prepare_returns() {
        let (endpoints, mut tables) = start();
        let began = Instant::now();
        endpoints.prepare(&[service(1, &["up", "192.0.2.99", "::1", "unknown", "broken"])]).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut table = tables.recv().await.expect("a table");
        while let Ok(later) = tables.try_recv() {
            table = later;
        }
        assert_eq!(table.addresses(&endpoint("up")), [address("192.0.2.1")]);
        assert_eq!(table.addresses(&endpoint("192.0.2.99")), [address("192.0.2.99")]);
        assert_eq!(table.addresses(&endpoint("::1")), [address("::1")]);
        assert_eq!(table.addresses(&endpoint("unknown")), []);
        // Ten seconds later the name means something else.
        let later = tables.recv().await.expect("a table");
        assert_eq!(later.addresses(&endpoint("up")), [address("192.0.2.2")]);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_holds_a_start_up_for_two_seconds_only() {
        let (endpoints, mut tables) = start();
        let began = Instant::now();
        endpoints.prepare(&[service(1, &["silent", "192.0.2.99"])]).await;
        assert_eq!(began.elapsed(), FIRST_ANSWER_MAX);
        let table = tables.recv().await.expect("literals do not wait for names");
        assert_eq!(table.addresses(&endpoint("192.0.2.99")), [address("192.0.2.99")]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_set_stays_until_the_commit() {
        let (endpoints, mut tables) = start();
        endpoints.prepare(&[service(1, &["192.0.2.1"])]).await;
        endpoints.commit();
        endpoints.prepare(&[service(2, &["192.0.2.2"])]).await;
        endpoints.commit();
        let counts = async {
            let mut counts = Vec::new();
            while counts.len() < 3 {
                counts.push(tables.recv().await.expect("a table").by_endpoint.len());
            }
            counts
        };
        assert_eq!(counts.await, [1, 2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_refuses_becomes_unhealthy() {
        let (endpoints, mut tables) = start();
        let mut checked = Arc::into_inner(service(7, &["127.0.0.1"])).expect("held once");
        checked.endpoints[0].port = 1; // nobody listens there
        checked.health_check = Some(crate::config::snapshot::HealthCheck {
            path: "/".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 2,
            healthy_threshold: 1,
        });
        endpoints.prepare(&[Arc::new(checked)]).await;
        let target = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        assert!(tables.recv().await.expect("a table").is_healthy(7, target));
        let table = tables.recv().await.expect("a table");
        assert!(!table.is_healthy(7, target));
        assert!(table.is_healthy(8, target), "another Service has its own view");
    }
}
