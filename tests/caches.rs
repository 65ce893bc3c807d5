//! Caches of several gateways and processes, by what their upstream is asked: replicas that share what is stored through Redis,
//! and what outlives a process.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use support::{
    gateway::{Gateway, Launch, binary, drivers, get},
    ports,
    redis::{Redis, wait},
};

const LIMIT: Duration = Duration::from_secs(30);
const UP: &str = "ringway_storage_up{kind=\"redis\"}";

/// Answers every request with how many there were, once it is let.
struct Upstream {
    address: String,
    asked: Arc<AtomicUsize>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Upstream {
    fn start(head: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let (asked, gate) = (Arc::<AtomicUsize>::default(), Arc::new((Mutex::new(true), Condvar::new())));
        let upstream = Self { address, asked, gate };
        let (asked, gate) = (upstream.asked.clone(), upstream.gate.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, asked, gate) = (stream.expect("a connection"), asked.clone(), gate.clone());
                // A connection that the gateway has closed is no failure.
                std::thread::spawn(move || drop(answer(&stream, head, &asked, &gate)));
            }
        });
        upstream
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn set_open(&self, open: bool) {
        *self.gate.0.lock().expect("no holder panics") = open;
        self.gate.1.notify_all();
    }
}

fn answer(stream: &TcpStream, head: &str, asked: &AtomicUsize, gate: &(Mutex<bool>, Condvar)) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let wait = || {
        let open = gate.0.lock().expect("no holder panics");
        drop(gate.1.wait_while(open, |open| !*open).expect("no holder panics"));
    };
    loop {
        // Of such a target the first body comes in part.
        let is_halved = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??.contains("/half");
        while !lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??.is_empty() {}
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        let is_halved = is_halved && number == 1;
        if !is_halved {
            wait();
        }
        let body = format!("answer {number}");
        let (first, rest) = body.split_at(3);
        let mut stream = stream;
        write!(stream, "HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n{first}", body.len())?;
        if is_halved {
            wait();
        }
        stream.write_all(rest.as_bytes())?;
    }
}

/// One gateway with a cache.
struct Replica {
    gateway: Option<Gateway>,
    folder: tempfile::TempDir,
    driver: String,
    port: u16,
}

impl Replica {
    fn start(driver: &str, upstream: &Upstream, redis: &Redis, config: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), ports::reserve());
        // The port is not the same on all replicas: it is no part of what a policy is known by.
        let text = format!(
            "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: api}}\nspec:\n  \
             address: 'http://127.0.0.1:{port}'\n  services: {{upstream: {{address: 'http://{}'}}}}\n  policies:\n    \
             - policyRef: {{name: http-caching-flex}}\n      config: {config}\n---\n\
             apiVersion: gateway.mulesoft.com/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec:\n  \
             sharedStorage: {{redis: {{address: '{}'}}}}\n",
            upstream.address,
            redis.address()
        );
        fs::write(folder.path().join("gateway.yaml"), text).expect("a file");
        let mut replica = Self { gateway: None, folder, driver: driver.to_owned(), port };
        replica.launch();
        replica
    }

    fn launch(&mut self) {
        let flags = ["--gateway-name", "shop", "--threads", "2"].map(String::from);
        let (directory, driver, management) = (self.folder.path(), &self.driver, ports::reserve());
        let launch = Launch { directory, driver, management, flags: &flags, environment: &[] };
        let mut gateway = Gateway::launch(&launch).expect("it starts");
        gateway.wait_live(true, LIMIT).expect("it is ready");
        self.gateway = Some(gateway);
        wait("the storage", || self.gateway().metric(UP) == Ok(1.0));
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    /// Requests that wait for an answer, be it of the upstream or of who asks it.
    fn in_flight(&self) -> usize {
        let (_, page) = self.gateway().get("/metrics").expect("a page");
        let line = page.lines().find(|line| line.starts_with("ringway_requests_in_flight"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default() as usize
    }

    fn kill(&mut self) {
        self.gateway.take().expect("it runs").kill();
    }

    fn ask(&self, target: &str) -> String {
        let (status, body) = get(self.port, target).expect("an answer");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// With further lines of the head.
    fn ask_with(&self, target: &str, lines: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        write!(stream, "GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }

    fn purge(&self, flags: &[&str]) {
        let socket = self.folder.path().join("management.sock");
        let mut purge = Command::new(binary());
        purge.args(["cache", "purge", "--management-socket"]).arg(socket).args(flags);
        assert!(purge.output().expect("it runs").status.success());
    }
}

/// One test at a time: who waits for whom is a matter of milliseconds, and a storage that is late is gone without.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const DISTRIBUTED: &str = "{distributed: true, ttl: 600}";

#[test]
fn replicas_share_what_one_has_stored_and_forget_together() {
    let _alone = alone();
    for driver in drivers() {
        let (upstream, redis) = (Upstream::start("vary: x-kind\r\n"), Redis::start(&[]));
        let [one, other] = [0; 2].map(|_| Replica::start(&driver, &upstream, &redis, DISTRIBUTED));
        assert_eq!(one.ask("/a"), "answer 1");
        redis.wait_until("it is stored", "KEYS *:v:*", |keys| keys.starts_with("*2"));
        assert_eq!(other.ask("/a"), "answer 1");
        assert_eq!((one.ask("/a"), upstream.asked()), ("answer 1".into(), 1));
        // What both have in memory goes on both.
        one.purge(&["--key", "/a"]);
        wait("a new one", || other.ask("/a") != "answer 1");
        assert_eq!((one.ask("/a"), other.ask("/a"), upstream.asked()), ("answer 2".into(), "answer 2".into(), 2));
        other.ask("/b");
        other.purge(&[]);
        wait("a new one", || one.ask("/a") != "answer 2" && one.ask("/b") != "answer 3");
        assert_eq!(upstream.asked(), 5);
    }
}

#[test]
fn of_all_replicas_one_asks() {
    let _alone = alone();
    for driver in drivers() {
        let (upstream, redis) = (Upstream::start(""), Redis::start(&[]));
        let replicas = [0; 3].map(|_| Replica::start(&driver, &upstream, &redis, DISTRIBUTED));
        upstream.set_open(false);
        std::thread::scope(|scope| {
            let asked: Vec<_> = replicas
                .iter()
                .flat_map(|replica| [replica; 4])
                .map(|replica| scope.spawn(move || replica.ask("/slow")))
                .collect();
            wait("the upstream is asked", || upstream.asked() > 0);
            // Everybody has come: one waits for the upstream, the others for it or for its replica.
            // On a busy machine some come later, and find what is there by then.
            let until = Instant::now() + Duration::from_secs(2);
            wait("all wait", || replicas.iter().map(Replica::in_flight).sum::<usize>() >= 12 || Instant::now() > until);
            upstream.set_open(true);
            for asked in asked {
                assert_eq!(asked.join().expect("no panic"), "answer 1");
            }
        });
        assert_eq!(upstream.asked(), 1);
    }
}

#[test]
fn a_body_that_is_slow_holds_up_nobody() {
    let _alone = alone();
    for driver in drivers() {
        let (upstream, redis) = (Upstream::start(""), Redis::start(&[]));
        let replica = Replica::start(&driver, &upstream, &redis, "{}");
        upstream.set_open(false);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| replica.ask("/half"));
            wait("the upstream is asked", || upstream.asked() == 1);
            let second = scope.spawn(|| replica.ask("/half"));
            wait("the upstream is asked once more", || upstream.asked() == 2);
            // Whoever comes then waits for that one.
            let third = scope.spawn(|| replica.ask("/half"));
            wait("the third waits", || replica.in_flight() >= 3 || upstream.asked() > 2);
            upstream.set_open(true);
            assert_eq!(first.join().expect("no panic"), "answer 1");
            assert_eq!(second.join().expect("no panic"), "answer 2");
            third.join().expect("no panic");
        });
        assert_eq!(upstream.asked(), 2);
    }
}

#[test]
fn what_is_persisted_outlives_a_process_that_is_killed() {
    let _alone = alone();
    for driver in drivers() {
        let (upstream, redis) = (Upstream::start("cache-control: max-age=600\r\n"), Redis::start(&[]));
        let mut replica = Replica::start(&driver, &upstream, &redis, "{persistCache: true}");
        assert_eq!(replica.ask("/a"), "answer 1");
        redis.wait_until("it is stored", "KEYS *5:cache*", |keys| keys.starts_with('*') && keys != "*0");
        replica.kill();
        replica.launch();
        wait("its storage is there", || replica.gateway().metric(UP) == Ok(1.0));
        assert_eq!((replica.ask("/a"), upstream.asked()), ("answer 1".into(), 1));
    }
}

#[test]
fn what_was_purged_while_the_storage_was_away_is_never_served_again() {
    let _alone = alone();
    for driver in drivers() {
        let (upstream, redis) = (Upstream::start(""), Redis::start(&[]));
        let mut replica =
            Replica::start(&driver, &upstream, &redis, "{persistCache: true, invalidationHeader: x-cache}");
        assert_eq!(["/a", "/b", "/c"].map(|target| replica.ask(target)), ["answer 1", "answer 2", "answer 3"]);
        redis.wait_until("all are stored", "KEYS *5:cache*", |keys| keys.starts_with("*3"));
        redis.pause();
        wait("it is noticed", || replica.gateway().metric(UP) == Ok(0.0));
        replica.purge(&["--key", "/a"]);
        assert_eq!(replica.ask_with("/b", "x-cache: invalidate\r\n"), "answer 4");
        assert_eq!([replica.ask("/a"), replica.ask("/b"), replica.ask("/c")], ["answer 5", "answer 4", "answer 3"]);
        redis.resume();
        wait("it is back", || replica.gateway().metric(UP) == Ok(1.0));
        // Of a process without memory of its own.
        replica.kill();
        replica.launch();
        assert_eq!([replica.ask("/a"), replica.ask("/b"), replica.ask("/c")], ["answer 6", "answer 7", "answer 3"]);
    }
}

#[test]
fn without_the_storage_each_replica_goes_on() {
    let _alone = alone();
    for driver in drivers() {
        let (upstream, mut redis) = (Upstream::start(""), Redis::start(&[]));
        let replica = Replica::start(&driver, &upstream, &redis, DISTRIBUTED);
        assert_eq!(replica.ask("/a"), "answer 1");
        redis.kill();
        assert_eq!(replica.ask("/a"), "answer 1");
        assert_eq!(replica.ask("/b"), "answer 2");
        assert_eq!(replica.ask("/b"), "answer 2");
        wait("it is noticed", || replica.gateway().metric(UP) == Ok(0.0));
        assert_eq!(replica.ask("/c"), "answer 3");
        redis.restart();
        wait("it is back", || replica.gateway().metric(UP) == Ok(1.0));
        assert!(replica.ask("/b").starts_with("answer "));
    }
}
