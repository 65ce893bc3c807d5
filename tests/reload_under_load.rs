//! What cannot be said as a case: that reloads and drains under load fail no request.
//!
//! The load is small and its end is counted, so that the test takes seconds on two cores.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use support::{
    gateway::{Gateway, drivers, folder, on_two_cores},
    message::{Head, values},
    ports,
};

const CLIENTS: usize = 12;
const RELOADS: usize = 20;
const LIMIT: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET /orders HTTP/1.1\r\nHost: a.test\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// One load at a time: two would measure how the machine shares its cores out between them.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn no_request_fails_over_reloads() {
    let _alone = ALONE.lock();
    for driver in drivers() {
        let mut bench = Bench::start(&driver, "reload");
        let load = Load::start(bench.address, false);
        for round in 0..RELOADS {
            bench.write(round + 1);
            bench.gateway.wait_reload(LIMIT).unwrap_or_else(|problem| panic!("{driver}, reload {round}: {problem}"));
        }
        let (requests, failures) = load.stop();
        assert_eq!(failures, Vec::<String>::new(), "{driver}: of {requests} requests");
        assert!(requests > RELOADS * CLIENTS, "{driver}: only {requests} requests ran beside {RELOADS} reloads");
    }
}

#[test]
fn no_accepted_request_fails_in_a_drain() {
    let _alone = ALONE.lock();
    for driver in drivers() {
        let mut bench = Bench::start(&driver, "drain");
        let load = Load::start(bench.address, true);
        load.wait_for(200);
        bench.gateway.signal("TERM").expect("the gateway runs");
        let status = bench.gateway.wait_exit(LIMIT).expect("the drain ends");
        let (requests, failures) = load.stop();
        assert_eq!(failures, Vec::<String>::new(), "{driver}: of {requests} requests");
        assert_eq!(status.code(), Some(0), "{driver}");
    }
}

/// A gateway in front of an upstream of this process.
struct Bench {
    gateway: Gateway,
    address: SocketAddr,
    directory: PathBuf,
    upstream: SocketAddr,
}

impl Bench {
    fn start(driver: &str, name: &str) -> Self {
        let directory = folder(&format!("{name}-{driver}"));
        let upstream = serve();
        let address = SocketAddr::from(([127, 0, 0, 1], ports::reserve()));
        write(&directory, address, upstream, 0);
        // Two cores, so that connections are handed over meanwhile.
        let gateway = on_two_cores(&directory, driver, LIMIT);
        Self { gateway, address, directory, upstream }
    }

    fn write(&self, version: usize) {
        write(&self.directory, self.address, self.upstream, version);
    }
}

/// A version of the configuration: each has another destination path and, every other one, a further policy and API.
fn write(directory: &Path, address: SocketAddr, upstream: SocketAddr, version: usize) {
    let mut text = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {{name: orders}}
spec:
  address: http://{address}/orders
  services:
    upstream:
      address: http://{upstream}
      routes:
        - config: {{destinationPath: /v{version}}}
---
apiVersion: gateway.mulesoft.com/v1alpha1
kind: Configuration
metadata: {{name: settings}}
spec:
  ringway:
    timeouts: {{drainDelaySeconds: 1}}
"
    );
    if version % 2 == 1 {
        text.push_str(&format!(
            "---
apiVersion: gateway.mulesoft.com/v1alpha1
kind: PolicyBinding
metadata: {{name: injected}}
spec:
  targetRef: {{name: orders}}
  policyRef: {{name: header-injection-flex}}
  config: {{inboundHeaders: [{{key: x-version, value: \"{version}\"}}]}}
---
apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {{name: invoices}}
spec:
  address: http://{address}/invoices
  services: {{upstream: {{address: \"http://{upstream}\"}}}}
"
        ));
    }
    let temporary = directory.join(".new");
    fs::write(&temporary, text).expect("the directory is writable");
    fs::rename(temporary, directory.join("gateway.yaml")).expect("a rename in one directory");
}

/// An upstream that answers whatever comes, for as long as this process lives.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                while let Ok(Some(_)) = next_head(&mut stream, &mut bytes) {
                    if stream.write_all(ANSWER).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The next head of a connection; `None` where it ended before one began.
fn next_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<Head>, String> {
    loop {
        if let Some((head, len)) = Head::parse(bytes)? {
            bytes.drain(..len);
            return Ok(Some(head));
        }
        if !fill(stream, bytes)? {
            return if bytes.is_empty() { Ok(None) } else { Err("the connection ended inside a head".into()) };
        }
    }
}

fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<bool, String> {
    let mut piece = [0; 4096];
    let count = stream.read(&mut piece).map_err(|error| error.to_string())?;
    bytes.extend_from_slice(&piece[..count]);
    Ok(count > 0)
}

/// Clients that ask one request after the other until they are told to stop.
struct Load {
    threads: Vec<thread::JoinHandle<Vec<String>>>,
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Load {
    /// `until_refused`: the clients end by themselves when nobody listens any more.
    fn start(address: SocketAddr, until_refused: bool) -> Self {
        let (stop, requests) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = || {
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            thread::spawn(move || ask(address, until_refused, &stop, &requests))
        };
        let threads = (0..CLIENTS).map(|_| client()).collect();
        Self { threads, stop, requests }
    }

    fn wait_for(&self, requests: usize) {
        while self.requests.load(Ordering::Relaxed) < requests && self.threads.iter().any(|t| !t.is_finished()) {
            thread::yield_now();
        }
    }

    /// How many requests were answered, and what went wrong.
    fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.threads.into_iter().flat_map(|thread| thread.join().expect("a client does not panic"));
        let failures = failures.collect();
        (self.requests.load(Ordering::Relaxed), failures)
    }
}

fn ask(address: SocketAddr, until_refused: bool, stop: &AtomicBool, requests: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) && failures.len() < 10 {
        let Ok(mut stream) = TcpStream::connect(address) else {
            if until_refused {
                break;
            }
            failures.push("the listener refused a connection".into());
            continue;
        };
        stream.set_read_timeout(Some(LIMIT)).ok();
        let mut served = 0;
        while !stop.load(Ordering::Relaxed) {
            match exchange(&mut stream) {
                Ok(goes_on) => {
                    requests.fetch_add(1, Ordering::Relaxed);
                    served += 1;
                    if !goes_on {
                        break;
                    }
                }
                // The kernel completes a handshake that the gateway, closing its listener, never learns of: such a
                // connection was not accepted. One that has served a request was.
                Err(_) if until_refused && served == 0 && TcpStream::connect(address).is_err() => break,
                Err(problem) => {
                    failures.push(format!("request {served} of a connection: {problem}"));
                    break;
                }
            }
        }
    }
    failures
}

/// One request and its answer; whether the connection goes on.
fn exchange(stream: &mut TcpStream) -> Result<bool, String> {
    stream.write_all(REQUEST).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let head = next_head(stream, &mut bytes)?.ok_or("the connection ended without an answer")?;
    if head.status() != Some(200) {
        return Err(head.start);
    }
    while bytes.len() < 5 {
        if !fill(stream, &mut bytes)? {
            return Err("the body was cut short".into());
        }
    }
    if bytes != b"hello" {
        return Err(format!("another body came: {:?}", String::from_utf8_lossy(&bytes)));
    }
    Ok(!values(&head.fields, "connection").iter().any(|value| value.eq_ignore_ascii_case(b"close")))
}
