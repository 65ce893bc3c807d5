//! Asks what `health-check-flex` policies want to know, once a minute each, counts the answers, and logs each change and those
//! that are not well.
//!
//! Nothing else comes of it: no endpoint leaves the balancing. A policy that a reload leaves alone keeps its minute.

mod standings;

use std::{collections::HashMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub use self::standings::Standings;
use super::{health::Check, resolver::Resolve, supervise};
use crate::{
    config::{
        endpoints::Place,
        snapshot::{Carried, HealthCheck, Snapshot},
    },
    policies::{Compiled, chain::BoundPolicy, health_check::Monitor},
    telemetry::fault::Fault,
};

/// From one question to the next, and before the first.
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Questions under way at the same time.
const UNDER_WAY_MAX: usize = 16;

/// By the policy's identity.
type Wanted = HashMap<u64, Watched>;

/// What a policy wants to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    pub binding: String,
    pub monitor: Arc<Monitor>,
}

/// The orchestration's end of the task.
#[derive(Debug)]
pub struct Monitors {
    wanted: watch::Sender<Wanted>,
    standings: Arc<Standings>,
}

impl Monitors {
    /// Starts the task on the current runtime.
    pub fn start<R: Resolve>(resolver: R) -> Self {
        let (wanted, wanted_by) = watch::channel(Wanted::new());
        let (resolver, standings) = (Arc::new(resolver), Arc::<Standings>::default());
        let counted = standings.clone();
        supervise::spawn("health check policies", move || {
            let resolver = resolver.clone();
            run(wanted_by.clone(), counted.clone(), move |monitor| ask(resolver.clone(), monitor))
        });
        Self { wanted, standings }
    }

    pub fn standings(&self) -> Arc<Standings> {
        self.standings.clone()
    }

    /// From now on these are asked, and no others.
    pub fn watch(&self, snapshot: &Snapshot) {
        let monitor = |bound: &BoundPolicy| match &bound.policy {
            Compiled::HealthCheck(policy) if !bound.shadow => {
                let (binding, monitor) = (bound.name.clone(), policy.monitor.clone());
                Some((bound.identity, Watched { binding, monitor }))
            }
            _ => None,
        };
        let wanted: Wanted = snapshot.apis.iter().flat_map(|api| &api.policies).filter_map(monitor).collect();
        self.wanted.send_if_modified(|current| {
            let changed = *current != wanted;
            *current = wanted;
            changed
        });
    }
}

/// Whose turn comes when; `None`: it is being asked.
type Due = HashMap<u64, Option<Instant>>;

async fn run<F>(mut wanted: watch::Receiver<Wanted>, standings: Arc<Standings>, ask: impl Fn(Arc<Monitor>) -> F)
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let (mut under_way, mut due) = (JoinSet::new(), Due::new());
    let mut monitors = wanted.borrow_and_update().clone();
    loop {
        let now = Instant::now();
        due.retain(|identity, _| monitors.contains_key(identity));
        standings.keep(&monitors);
        monitors.keys().for_each(|identity| _ = due.entry(*identity).or_insert(Some(now + INTERVAL)));
        let ready = due.iter_mut().filter(|(_, at)| at.is_some_and(|at| at <= now));
        for (identity, at) in ready.take(UNDER_WAY_MAX.saturating_sub(under_way.len())) {
            *at = None;
            let (identity, watched) = (*identity, monitors[identity].clone());
            let asked = supervise::catch("health check policy", ask(watched.monitor.clone()));
            under_way.spawn(async move { (identity, watched, asked.await) });
        }
        let next = due.values().flatten().min().copied();
        let room = under_way.len() < UNDER_WAY_MAX;
        tokio::select! {
            news = wanted.changed() => match news {
                Ok(()) => monitors = wanted.borrow_and_update().clone(),
                Err(_) => return, // the orchestration has gone
            },
            Some(done) = under_way.join_next() => {
                let (identity, watched, result) = done.expect("its panics are caught inside");
                let result = result.unwrap_or_else(|| Err(Fault::new("failed", "the check itself failed")));
                // What was asked for a policy that is gone says nothing to anybody.
                if monitors.contains_key(&identity) {
                    report(&watched, &result, standings.count(identity, &watched, &result));
                }
                due.entry(identity).and_modify(|at| *at = Some(Instant::now() + INTERVAL));
            }
            () = sleep_until(next.unwrap_or(now + INTERVAL)), if room => {}
        }
    }
}

/// A line for each answer that is not well; and for each change one that alerts can wait for.
fn report(watched: &Watched, result: &Result<(), Fault>, has_changed: bool) {
    let (Monitor { api, authority, path, .. }, binding) = (&*watched.monitor, &watched.binding);
    match result {
        Ok(()) if has_changed => {
            tracing::info!(event = "healthy", api, binding, upstream = authority, path, "health check changed");
        }
        Ok(()) => {}
        Err(Fault { reason, text }) => {
            if has_changed {
                tracing::warn!(
                    event = "unhealthy",
                    api,
                    binding,
                    upstream = authority,
                    path,
                    reason,
                    text,
                    "health check changed"
                );
            }
            tracing::warn!(api, binding, upstream = authority, path, reason, text, "health check failed");
        }
    }
}

async fn ask<R: Resolve>(resolver: Arc<R>, monitor: Arc<Monitor>) -> Result<(), Fault> {
    let carried = Carried::of(monitor.proxy.as_ref(), std::slice::from_ref(&monitor.endpoint), monitor.is_plain());
    let dialled = match &carried {
        None => monitor.endpoint.clone(),
        Some(carried) => carried.proxy.server()?.address.endpoint.clone(),
    };
    let host = &dialled.host;
    let address = match host.parse() {
        Ok(address) => address,
        Err(_) => {
            let answer = resolver.resolve(host).await.map_err(|text| Fault::new("unresolved", text))?;
            *answer.addresses.first().ok_or_else(|| Fault::new("unresolved", "no address"))?
        }
    };
    let is_carried = carried.is_some();
    let check = Check {
        settings: HealthCheck {
            path: monitor.path.clone(),
            interval: INTERVAL,
            timeout: TIMEOUT,
            unhealthy_threshold: 1,
            healthy_threshold: 1,
        },
        authority: monitor.authority.clone(),
        proxy_protocol: None,
        tls: monitor.tls.clone(),
        multiplexes: monitor.multiplexes,
        endpoints: vec![monitor.endpoint.clone()],
        carried,
    };
    let address = SocketAddr::new(address, dialled.port);
    match check.status(Place { address, carried: is_carried.then_some(0) }).await? {
        status if status == monitor.status => Ok(()),
        status => Err(Fault::new("unexpected_status", format!("status {status}, not {}", monitor.status))),
    }
}

#[cfg(test)]
pub mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::mpsc,
        time::timeout,
    };

    use super::*;
    use crate::{
        calls::{ForwardProxy, ProxyServer},
        document::address::{Endpoint, WebAddress},
        management::{exposition::Page, resolver::Answer},
    };

    fn monitor(port: u16, status: u16) -> Arc<Monitor> {
        Arc::new(Monitor {
            api: "default/orders".into(),
            endpoint: Endpoint { host: "a.test".into(), port },
            authority: format!("a.test:{port}"),
            path: "/health".into(),
            status,
            tls: None,
            multiplexes: false,
            proxy: None,
        })
    }

    pub fn watched(port: u16) -> Watched {
        Watched { binding: format!("check-{port}"), monitor: monitor(port, 200) }
    }

    /// Time that passes at once, as nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn each_is_asked_once_a_minute_and_a_reload_changes_that_for_none_but_new_ones() {
        let (wanted, wanted_by) = watch::channel(Wanted::from([(1, watched(1))]));
        let (asked, mut questions) = mpsc::unbounded_channel();
        tokio::spawn(run(wanted_by, Arc::default(), move |monitor| {
            let _ = asked.send(monitor.endpoint.port);
            async { Err(Fault::new("a", "")) }
        }));
        let start = Instant::now();
        let mut next = async || {
            let port = questions.recv().await.expect("a question");
            (port, start.elapsed().as_secs())
        };
        assert_eq!([next().await, next().await], [(1, 60), (1, 120)]);
        tokio::time::advance(Duration::from_secs(30)).await;
        wanted.send_modify(|wanted| _ = wanted.insert(2, watched(2)));
        assert_eq!([next().await, next().await, next().await], [(1, 180), (2, 210), (1, 240)]);
        wanted.send_modify(|wanted| _ = wanted.remove(&1));
        assert_eq!([next().await, next().await], [(2, 270), (2, 330)]);
        wanted.send_modify(Wanted::clear);
        assert!(timeout(INTERVAL * 10, next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_counted_and_so_is_each_change_once() {
        let (_wanted, wanted_by) = watch::channel(Wanted::from([(1, watched(1))]));
        let standings = Arc::<Standings>::default();
        let mut answers = [true, false, false, true, false].into_iter();
        let answers = std::sync::Mutex::new(move || answers.next());
        let (asked, mut questions) = mpsc::unbounded_channel();
        tokio::spawn(run(wanted_by, standings.clone(), move |_| {
            let _ = asked.send(());
            let answer = answers.lock().expect("nobody panics")();
            async move {
                match answer {
                    Some(true) => Ok(()),
                    Some(false) => Err(Fault::new("unexpected_status", "")),
                    // Whether it is counted already nobody could say.
                    None => std::future::pending().await,
                }
            }
        }));
        for _ in 0..6 {
            questions.recv().await.expect("a question");
        }
        let mut page = Page::default();
        standings.render(&mut page);
        let page = page.finish();
        let labels = "namespace=\"default\",api=\"orders\",binding=\"check-1\"";
        for line in [
            format!("ringway_health_check_healthy{{{labels}}} 0"),
            format!("ringway_health_checks_total{{{labels},outcome=\"healthy\"}} 2"),
            format!("ringway_health_checks_total{{{labels},outcome=\"unexpected_status\"}} 3"),
            format!("ringway_health_check_changes_total{{{labels},to=\"healthy\"}} 1"),
            format!("ringway_health_check_changes_total{{{labels},to=\"unhealthy\"}} 2"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        standings.keep(&Wanted::new());
        let mut page = Page::default();
        standings.render(&mut page);
        assert_eq!(page.finish(), "");
    }

    struct Loopback;

    impl Resolve for Loopback {
        async fn resolve(&self, host: &str) -> Result<Answer, String> {
            let addresses = vec![[127, 0, 0, 1].into()];
            if host == "a.test" { Ok(Answer { addresses, ttl: INTERVAL }) } else { Err("no such name".into()) }
        }
    }

    #[tokio::test]
    async fn only_the_status_that_was_named_is_well() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            for status in [503, 200] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = vec![0; 1024];
                let count = stream.read(&mut request).await.expect("a request");
                seen.push(String::from_utf8_lossy(&request[..count]).into_owned());
                let answer = format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("it listens");
            }
            seen
        });
        let asked = ask(Arc::new(Loopback), monitor(port, 503)).await;
        assert_eq!(asked, Ok(()));
        let asked = ask(Arc::new(Loopback), monitor(port, 503)).await;
        assert_eq!(asked, Err(Fault::new("unexpected_status", "status 200, not 503")));
        let seen = server.await.expect("it answers");
        let begins = format!("GET /health HTTP/1.1\r\nhost: a.test:{port}\r\n");
        assert!(seen.iter().all(|request| request.starts_with(&begins)), "{seen:?}");
        let nobody = Monitor {
            endpoint: Endpoint { host: "b.test".into(), port },
            ..Arc::into_inner(monitor(port, 200)).expect("held once")
        };
        assert_eq!(ask(Arc::new(Loopback), Arc::new(nobody)).await, Err(Fault::new("unresolved", "no such name")));
    }

    #[tokio::test]
    async fn what_a_forward_proxy_carries_it_is_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            for status in [200, 407] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = vec![0; 1024];
                let count = stream.read(&mut request).await.expect("a request");
                seen.push(String::from_utf8_lossy(&request[..count]).into_owned());
                let answer = format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("it listens");
            }
            seen
        });
        let address = WebAddress::parse(&format!("http://{address}")).expect("an address");
        let server_of = |address| ProxyServer { address, tls: None, authorization: Some("Basic dTpw".to_owned()) };
        let through = |server: Option<ProxyServer>| {
            let endpoint = Endpoint { host: "b.test".into(), port: 8080 };
            let proxy = Some(Arc::new(ForwardProxy { server, no_proxy: Vec::new() }));
            Arc::new(Monitor { endpoint, proxy, ..Arc::into_inner(monitor(8080, 200)).expect("held once") })
        };
        let proxy = through(Some(server_of(address)));
        assert_eq!(ask(Arc::new(Loopback), proxy.clone()).await, Ok(()), "its name is not looked up");
        let refused = ask(Arc::new(Loopback), proxy).await.expect_err("407");
        assert_eq!(refused.reason, "proxy_authentication");
        let seen = server.await.expect("it answers");
        let begins =
            "GET http://a.test:8080/health HTTP/1.1\r\nhost: a.test:8080\r\nproxy-authorization: Basic dTpw\r\n";
        assert!(seen.iter().all(|request| request.starts_with(begins)), "{seen:?}");
        let nobody = ask(Arc::new(Loopback), through(None)).await.expect_err("nobody carries it");
        assert_eq!(nobody.reason, "proxy_misconfigured");
    }
}
