//! The management pages: probes, metrics, the running configuration and what it makes of a request, over HTTP/1. What changes
//! something is on the management socket alone.
//!
//! Whoever can reach the port must not be able to keep a probe out: a head has to come in time, a connection lives for a
//! minute at most, and where there are too many connections the oldest gives way to the newest.

use std::{collections::VecDeque, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, RawQuery, State},
    http::{StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Mutex, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    exposition::CONTENT_TYPE,
    metrics::{Metrics, Outside, unix_seconds},
    purge::{NotFound, Purge},
    socket::Socket,
    status::{Reached, Status, Tolerate, View},
    storage::Standing,
    supervise,
};
use crate::{
    document::problem::{Problem, Severity},
    explain::page::Asked,
    policies::wants::PublishedKeySet,
    telemetry::{core::CoreCopy, series},
};

const CONNECTIONS_MAX: usize = 64;
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Of a question to `/explain`.
const QUESTION_BYTES_MAX: usize = 64 << 10;
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

const INDEX: &str = "\
Ringway management

/probes/liveness    every core answers (also /livez)
/probes/readiness   ready for traffic (also /readyz); ?verbose
                    ?allowAPIErrors=true&allowEnvoyErrors=true&allowPolicyErrors=true
/metrics            Prometheus text
/config             the configuration that serves, and why
/explain            what would become of a request: ?method=GET&url=http://...
";

/// Behind the index, on the socket.
const SOCKET_INDEX: &str = "\
/cache/purge        POST: forget stored responses; {\"api\": .., \"policy\": .., \"key\": ..}, each for all where it is absent
";

/// Where the pages get what only the cores and the log writer know.
pub trait Source: Send + Sync + 'static {
    /// A copy from every core that answers in time.
    fn copies(&self) -> Pin<Box<dyn Future<Output = Vec<CoreCopy>> + Send + '_>>;

    /// What is counted outside of the cores.
    fn outside(&self) -> Outside;
}

/// What all pages share.
pub struct Admin {
    status: Arc<Status>,
    source: Arc<dyn Source>,
    /// One scrape at a time, so that nobody can make the cores do nothing else.
    metrics: Mutex<Arc<Metrics>>,
    /// One question at a time: whoever asks many takes one thread from the cores at most.
    explaining: Arc<Semaphore>,
}

impl Admin {
    pub fn new(status: Arc<Status>, source: Arc<dyn Source>) -> Arc<Self> {
        Arc::new(Self { status, source, metrics: Mutex::default(), explaining: Arc::new(Semaphore::new(1)) })
    }
}

/// Serves every page, on the management address. Returns never; aborting it closes its connections.
pub async fn serve(listener: Arc<TcpListener>, admin: Arc<Admin>) {
    accept(&*listener, pages(INDEX.to_owned()).with_state(admin)).await;
}

/// Serves every page on the management socket, and what changes something.
pub async fn serve_socket(socket: Arc<Socket>, admin: Arc<Admin>) {
    let purge = post(purge).layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX));
    accept(&socket.listener, pages([INDEX, SOCKET_INDEX].concat()).route("/cache/purge", purge).with_state(admin))
        .await;
}

/// Serves the probes only, on the port of `Configuration.probe`.
pub async fn serve_probes(listener: Arc<TcpListener>, admin: Arc<Admin>) {
    accept(&*listener, probes().with_state(admin)).await;
}

fn pages(index: String) -> Router<Arc<Admin>> {
    let explain = get(explain_query).post(explain_json).layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX));
    let pages = probes().route("/", get(index)).route("/metrics", get(metrics)).route("/config", get(config));
    pages.route("/explain", explain)
}

fn probes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/probes/liveness", get(liveness))
        .route("/livez", get(liveness))
        .route("/probes/readiness", get(readiness))
        .route("/readyz", get(readiness))
}

/// Something that connections come from.
trait Accepts {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    async fn accepted(&self) -> io::Result<Self::Stream>;
}

impl Accepts for TcpListener {
    type Stream = TcpStream;

    async fn accepted(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accepts for UnixListener {
    type Stream = UnixStream;

    async fn accepted(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

async fn accept(listener: &impl Accepts, pages: Router) {
    let pages = pages.layer(map_response(|page: Response| async { ([(header::CACHE_CONTROL, "no-store")], page) }));
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accepted().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, as a rule: some will be free again.
                tracing::warn!(%error, "a management connection cannot be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {} // its panics are caught and counted inside
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= CONNECTIONS_MAX
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        oldest_first
            .push_back(connections.spawn(supervise::catch("management page", connection(stream, pages.clone()))));
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, pages: Router) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    match timeout(CONNECTION_TIME_MAX, serving).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a management connection ended early"),
    }
}

async fn liveness(State(admin): State<Arc<Admin>>) -> Response {
    match admin.status.liveness() {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(dead) => (StatusCode::SERVICE_UNAVAILABLE, lines(&dead)).into_response(),
    }
}

async fn readiness(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let tolerate = Tolerate {
        api: flag(&query, "allowAPIErrors"),
        envoy: flag(&query, "allowEnvoyErrors"),
        policy: flag(&query, "allowPolicyErrors"),
    };
    match admin.status.readiness(tolerate) {
        Ok(notes) if flag(&query, "verbose") => (StatusCode::OK, format!("ok\n{}", lines(&notes))).into_response(),
        Ok(_) => (StatusCode::OK, "ok\n").into_response(),
        Err(errors) => (StatusCode::SERVICE_UNAVAILABLE, lines(&errors)).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let metrics = admin.metrics.lock().await;
    let copies = admin.source.copies().await;
    let (page, status, outside) = (metrics.clone(), admin.status.clone(), admin.source.outside());
    // Many series take milliseconds to print; the management thread has other things to do meanwhile.
    let render = move || page.render(copies, &status.view(), &series::names(), outside);
    let page = tokio::task::spawn_blocking(render).await.expect("rendering does not panic");
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response()
}

async fn config(State(admin): State<Arc<Admin>>) -> Response {
    let status = admin.status.clone();
    let render = move || serde_json::to_string_pretty(&describe(&status.view())).expect("a tree of values prints");
    let page = tokio::task::spawn_blocking(render).await.expect("rendering does not panic");
    ([(header::CONTENT_TYPE, "application/json")], page).into_response()
}

async fn explain_query(State(admin): State<Arc<Admin>>, Query(pairs): Query<Vec<(String, String)>>) -> Response {
    explained(&admin, Asked::from_pairs(pairs)).await
}

async fn explain_json(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    explained(&admin, Asked::from_json(&body)).await
}

/// Forgets stored responses, and says how many.
async fn purge(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    let purge = match Purge::parse(&body) {
        Ok(purge) => purge,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let View { running, cache, .. } = admin.status.view();
    let Some(running) = running else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no configuration serves\n").into_response();
    };
    match purge.carry_out(&running.snapshot, &cache) {
        Ok(entries) => {
            tracing::info!(?purge, entries, "purged the cache");
            (StatusCode::OK, format!("{}\n", json!({ "purged": entries }))).into_response()
        }
        Err(NotFound) => (StatusCode::NOT_FOUND, "no such API has such a cache\n").into_response(),
    }
}

/// By the configuration that serves, and what has been fetched for it.
async fn explained(admin: &Admin, asked: Result<Asked, String>) -> Response {
    let bad = |why: String| (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response();
    let asked = match asked {
        Ok(asked) => asked,
        Err(why) => return bad(why),
    };
    let permit = admin.explaining.clone().acquire_owned().await.expect("it is never closed");
    let View { running, published, .. } = admin.status.view();
    let Some(running) = running else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no configuration serves\n").into_response();
    };
    let told = tokio::task::spawn_blocking(move || {
        // It is held until the answer is there, also where nobody waits for it any more.
        let _permit = permit;
        asked.answer(running.snapshot, published)
    });
    match told.await {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, page.content_type)], page.text).into_response(),
        Ok(Err(why)) => bad(why),
        Err(error) => {
            tracing::error!(%error, "a question to /explain has no answer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Which set runs and why, and the resources it was made of.
fn describe(view: &View) -> Value {
    let running = view.running.as_ref().map(|running| {
        let listeners: Vec<_> = (running.listeners.iter())
            .map(|listening| json!({ "address": listening.address.to_string(), "error": listening.error }))
            .collect();
        json!({
            "hash": running.snapshot.hash,
            "generation": running.snapshot.generation,
            "appliedAt": unix_seconds(running.applied_at),
            "apis": running.snapshot.apis.len(),
            "brokenPolicies": running.policy_errors(),
            "listeners": listeners,
        })
    });
    let last_reload = view.last_reload.as_ref().map(|reload| {
        json!({
            "at": unix_seconds(reload.at),
            "applied": reload.applied,
            "problems": reload.problems.iter().map(problem).collect::<Vec<_>>(),
        })
    });
    let endpoints: Vec<_> = (view.upstreams().iter())
        .map(|Reached { service, endpoint, fault }| {
            json!({
                "namespace": service.namespace,
                "service": service.name,
                "endpoint": endpoint,
                "healthy": fault.is_none(),
                "reason": fault.map(|fault| fault.reason),
                "text": fault.map(|fault| &fault.text),
            })
        })
        .collect();
    json!({
        "running": running,
        "lastReload": last_reload,
        "endpoints": endpoints,
        "keySets": view.key_sets().into_iter().map(|(url, set)| key_set(&url, set)).collect::<Vec<_>>(),
        "storage": shared_storage(&view.storage.standing()),
        "draining": view.draining,
        "liveSnapshots": view.live_snapshots,
        "resources": view.running.as_ref().map(|running| (*running.resources).clone()),
    })
}

/// Where replicas keep what they share, and why not.
fn shared_storage(Standing { state, kind, fault, since, replicas, .. }: &Standing) -> Value {
    json!({
        "state": state.name(),
        "kind": kind,
        "since": unix_seconds(*since),
        "replicas": replicas,
        "reason": fault.as_ref().map(|fault| fault.reason),
        "text": fault.as_ref().map(|fault| &fault.text),
    })
}

/// How many keys there are, of when, and why there are no newer ones.
fn key_set(url: &str, PublishedKeySet { set, fetched_at, fault, .. }: &PublishedKeySet) -> Value {
    json!({
        "url": url,
        "keys": set.as_ref().map(|set| set.len()),
        "fetchedAt": fetched_at.map(unix_seconds),
        "reason": fault.as_ref().map(|fault| fault.reason),
        "text": fault.as_ref().map(|fault| &fault.text),
    })
}

fn problem(problem: &Problem) -> Value {
    let severity = match problem.severity {
        Severity::Warning => "warning",
        Severity::Policy => "policy",
        Severity::Error => "error",
    };
    json!({
        "severity": severity,
        "file": problem.location.file.display().to_string(),
        "line": problem.location.line,
        "column": problem.location.column,
        "path": problem.path,
        "text": problem.text,
    })
}

/// Whether a query asks for something: `name`, `name=true`, in any case of the name; `false` and `0` do not.
fn flag(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        key.eq_ignore_ascii_case(name) && !matches!(value, "false" | "0")
    })
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        management::{
            exposition,
            status::{Driver, tests::snapshot},
        },
        telemetry::core::CoreTelemetry,
    };

    struct OneCore;

    impl Source for OneCore {
        fn copies(&self) -> Pin<Box<dyn Future<Output = Vec<CoreCopy>> + Send + '_>> {
            Box::pin(async { vec![CoreTelemetry::new(0).copy()] })
        }

        fn outside(&self) -> Outside {
            Outside::default()
        }
    }

    /// A running admin server; the address to ask, and its status.
    async fn start(probes_only: bool) -> (std::net::SocketAddr, Arc<Status>) {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        let address = listener.local_addr().expect("a bound address");
        let status = Status::new(Driver::default());
        let admin = Admin::new(status.clone(), Arc::new(OneCore));
        match probes_only {
            true => tokio::spawn(serve_probes(listener, admin)),
            false => tokio::spawn(serve(listener, admin)),
        };
        (address, status)
    }

    /// Asks for one page: its status and body.
    async fn ask(address: std::net::SocketAddr, method: &str, target: &str) -> (u16, String) {
        send(address, format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    async fn post(address: std::net::SocketAddr, target: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}");
        send(address, format!("{head}\r\n\r\n{body}")).await
    }

    async fn send(address: std::net::SocketAddr, request: String) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.expect("a listener");
        stream.write_all(request.as_bytes()).await.expect("room");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    #[tokio::test]
    async fn probes_follow_the_status() {
        let (address, status) = start(true).await;
        let none = (503, "Gateway not started: no API instances registered\n".to_owned());
        assert_eq!(ask(address, "GET", "/probes/readiness").await, none);
        assert_eq!(ask(address, "GET", "/livez").await, (200, "ok\n".to_owned()));
        status.applied(snapshot(1, Some("bad")), Vec::new(), Value::Null);
        let broken = "Policy error: orders: orders-jwt-1: bad\n";
        assert_eq!(ask(address, "GET", "/readyz").await, (503, broken.to_owned()));
        let tolerant = "/probes/readiness?allowPolicyErrors=true";
        assert_eq!(ask(address, "GET", tolerant).await, (200, "ok\n".to_owned()));
        assert_eq!(ask(address, "GET", &format!("{tolerant}&verbose")).await, (200, format!("ok\n{broken}")));
        assert_eq!(ask(address, "GET", "/probes/readiness?allowPolicyErrors=false").await.0, 503);
        assert_eq!(ask(address, "GET", "/metrics").await.0, 404, "probes only");
    }

    #[tokio::test]
    async fn pages_are_read_only() {
        let (address, status) = start(false).await;
        status.applied(snapshot(1, None), Vec::new(), json!({ "apis": ["orders"] }));
        assert_eq!(ask(address, "HEAD", "/probes/readiness").await, (200, String::new()));
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask(address, method, "/config").await.0, 405);
        }
        assert!(ask(address, "GET", "/").await.1.contains("/metrics"));
        assert_eq!(ask(address, "GET", "/nothing").await.0, 404);
    }

    #[tokio::test]
    async fn explain_answers_what_is_asked_and_no_more() {
        let (address, status) = start(false).await;
        let query = "/explain?method=GET&url=http://a.test:9/x&header=authorization:%20Bearer%20lovelace1";
        assert_eq!(ask(address, "GET", query).await.0, 503, "nothing serves yet");
        status.applied(snapshot(1, None), Vec::new(), Value::Null);
        let (code, page) = ask(address, "GET", query).await;
        assert_eq!(code, 200);
        assert!(page.contains("nothing listens on port 9") && !page.contains("lovelace1"), "{page}");
        let (code, page) = ask(address, "GET", &format!("{query}&format=json")).await;
        let page: Value = serde_json::from_str(&page).expect("JSON");
        assert_eq!((code, &page["outcome"]["is"]), (200, &json!("unreachable")));
        for wrong in ["/explain", "/explain?method=GET&url=nowhere", &format!("{query}&show-secrets=true")] {
            assert_eq!(ask(address, "GET", wrong).await.0, 400, "{wrong}");
        }
        assert_eq!(ask(address, "PUT", query).await.0, 405);
    }

    #[tokio::test]
    async fn a_question_may_be_json_and_is_bounded() {
        let (address, status) = start(false).await;
        status.applied(snapshot(1, None), Vec::new(), Value::Null);
        let small = json!({ "method": "GET", "url": "http://a.test:9/", "header": ["a: 1", "b: 2"] }).to_string();
        assert_eq!(post(address, "/explain", &small).await.0, 200);
        assert_eq!(post(address, "/explain", "{}").await.0, 400);
        let large = json!({ "method": "GET", "url": "http://a/", "data": "x".repeat(QUESTION_BYTES_MAX) }).to_string();
        assert_eq!(post(address, "/explain", &large).await.0, 413);
    }

    #[tokio::test]
    async fn config_says_which_set_runs_and_why() {
        let (address, status) = start(false).await;
        status.applied(snapshot(1, None), Vec::new(), json!({ "apis": ["orders"] }));
        status.refused(vec![Problem {
            severity: Severity::Error,
            location: Default::default(),
            path: "orders.spec".to_owned(),
            text: "no address".to_owned(),
        }]);
        let page: Value = serde_json::from_str(&ask(address, "GET", "/config").await.1).expect("JSON");
        assert_eq!(page["running"]["hash"], "abc");
        assert_eq!(page["lastReload"]["applied"], false);
        assert_eq!(page["lastReload"]["problems"][0]["text"], "no address");
        assert_eq!(page["resources"]["apis"][0], "orders");
    }

    #[tokio::test]
    async fn metrics_are_a_valid_page() {
        let (address, _) = start(false).await;
        let (status, page) = ask(address, "GET", "/metrics").await;
        assert_eq!(status, 200);
        exposition::tests::parse(&page);
    }

    #[tokio::test]
    async fn silent_connections_do_not_keep_a_probe_out() {
        let (address, _) = start(true).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX * 2 {
            silent.push(TcpStream::connect(address).await.expect("a listener"));
        }
        assert_eq!(ask(address, "GET", "/probes/liveness").await.0, 200);
        let closed = silent[0].read_u8().await;
        assert!(closed.is_err(), "the oldest gave way");
    }
}
