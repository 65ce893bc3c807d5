//! Three gateways of two cores and a Redis between them: no window admits more than its limit, whoever is killed, stopped or lost
//! meanwhile, and nobody is answered anything but 200 and 429 for it. What has passed is counted at the upstream.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use support::{
    counting::{Asker, Counting},
    gateway::{Gateway, drivers, folder, on_two_cores},
    namespace::Namespace,
    ports,
    redis::{Redis, wait},
};

const LIMIT: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 86_400_000;
const REPLICAS: usize = 3;
/// Of each replica, so that both of its cores have some.
const CLIENTS: usize = 6;

struct Replica {
    gateway: Gateway,
    port: u16,
}

struct Bench {
    redis: Redis,
    /// Servers besides it.
    others: Vec<Redis>,
    replicas: Vec<Replica>,
    upstream: Counting,
}

/// What one client was answered.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    admitted: u64,
    refused: u64,
    unavailable: u64,
    others: u64,
}

impl Answers {
    fn add(&mut self, status: u16) {
        *match status {
            200 => &mut self.admitted,
            429 => &mut self.refused,
            503 => &mut self.unavailable,
            _ => &mut self.others,
        } += 1;
    }
}

impl std::iter::Sum for Answers {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            admitted: sum.admitted + one.admitted,
            refused: sum.refused + one.refused,
            unavailable: sum.unavailable + one.unavailable,
            others: sum.others + one.others,
        })
    }
}

/// A load that goes on until it is stopped: all answers of all clients so far, by replica.
struct Load {
    stops: AtomicBool,
    answers: Vec<Mutex<Answers>>,
    began: Instant,
    /// The path that is asked for.
    key: AtomicUsize,
}

impl Load {
    fn of(&self, replica: usize) -> Answers {
        *self.answers[replica].lock().expect("no holder panics")
    }

    fn sum(&self) -> Answers {
        (0..REPLICAS).map(|replica| self.of(replica)).sum()
    }

    /// How many windows there can have been, since they do not overlap.
    fn windows(&self, period_ms: u64) -> u64 {
        self.began.elapsed().as_millis() as u64 / period_ms + 1
    }
}

impl Bench {
    fn start(name: &str, driver: &str, policy: &str) -> Self {
        let redis = Redis::start(&[]);
        let storage = format!("address: '{}'", redis.address());
        Self::start_with(name, driver, policy, redis, Vec::new(), &storage)
    }

    /// `storage` is what stands below `sharedStorage.redis`.
    fn start_with(name: &str, driver: &str, policy: &str, redis: Redis, others: Vec<Redis>, storage: &str) -> Self {
        let upstream = Counting::start();
        let replicas = (0..REPLICAS).map(|at| replica(name, driver, at, policy, storage, &upstream)).collect();
        let bench = Self { redis, others, replicas, upstream };
        for replica in &bench.replicas {
            let all = || replica.gateway.metric("ringway_storage_replicas").is_ok_and(|seen| seen == REPLICAS as f64);
            wait("all replicas to be seen", all);
        }
        bench
    }

    /// Has all clients of all replicas ask while `meanwhile` runs, and stops when that has ended.
    fn under_load(&mut self, meanwhile: impl FnOnce(&mut Self, &Load)) -> Load {
        let load = Load {
            stops: AtomicBool::new(false),
            answers: (0..REPLICAS).map(|_| Mutex::default()).collect(),
            began: Instant::now(),
            key: AtomicUsize::new(0),
        };
        let ports: Vec<u16> = self.replicas.iter().map(|replica| replica.port).collect();
        std::thread::scope(|scope| {
            for (replica, port) in ports.into_iter().enumerate() {
                for _ in 0..CLIENTS {
                    let load = &load;
                    scope.spawn(move || ask_on(port, replica, load));
                }
            }
            // Whatever fails in it, the clients come to an end.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meanwhile(self, &load)));
            load.stops.store(true, Ordering::Relaxed);
            self.replicas.iter().for_each(|replica| signal(&replica.gateway, libc::SIGCONT));
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
        load
    }

    /// So many requests for the key have come through.
    fn admitted(&self, key: usize) -> usize {
        let target = format!("/{key}");
        self.upstream.asked().iter().filter(|asked| asked.target == target).count()
    }

    fn wait_storage(&self, up: bool) {
        for replica in &self.replicas {
            let stands = || replica.gateway.metric_of("ringway_storage_up{").is_ok_and(|value| (value == 1.0) == up);
            wait("the storage's state to be known", stands);
        }
    }
}

fn replica(name: &str, driver: &str, at: usize, policy: &str, storage: &str, upstream: &Counting) -> Replica {
    let directory = folder(&format!("replicas-{name}-{driver}-{at}"));
    let port = ports::reserve();
    let text = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}\nspec:\n  \
         address: http://127.0.0.1:{port}\n  services: {{s: {{address: 'http://{}'}}}}\n  policies: [{policy}]\n---\n\
         apiVersion: gateway.mulesoft.com/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec:\n  \
         sharedStorage: {{redis: {{{storage}}}}}\n  ringway: {{name: {name}, redis: {{replicas: {REPLICAS}}}}}\n",
        upstream.address
    );
    fs::write(directory.join("gateway.yaml"), text).expect("the directory is writable");
    let gateway = on_two_cores(&directory, driver, LIMIT);
    Replica { gateway, port }
}

/// Until the load stops or the gateway is gone. One that has stopped does not hold up the end.
fn ask_on(port: u16, replica: usize, load: &Load) {
    let Some(mut asker) = Asker::connect(port, LIMIT) else { return };
    while !load.stops.load(Ordering::Relaxed) {
        let target = format!("/{}", load.key.load(Ordering::Relaxed));
        let Some(status) = asker.ask(&target, &[]).and_then(|head| head.status()) else { return };
        load.answers[replica].lock().expect("no holder panics").add(status);
    }
}

fn signal(gateway: &Gateway, signal: i32) {
    // SAFETY: kill takes no pointers; the pid is our own child's, which has not been waited for elsewhere.
    unsafe { libc::kill(gateway.pid() as libc::pid_t, signal) };
}

fn limit(maximum: u64, period_ms: u64, options: &str) -> String {
    format!(
        "{{policyRef: {{name: rate-limiting-flex}}, ringway: {{{options}}}, config: {{rateLimits: \
         [{{maximumRequests: {maximum}, timePeriodInMilliseconds: {period_ms}}}]}}}}"
    )
}

#[test]
fn replicas_together_admit_what_the_limit_says() {
    for driver in drivers() {
        let mut bench = Bench::start("together", &driver, &limit(5000, DAY_MS, ""));
        // Until each has refused some: then nobody has anything left.
        let load = bench.under_load(|_, load| {
            wait("every replica to refuse", || (0..REPLICAS).all(|replica| load.of(replica).refused > 100));
        });
        let Answers { admitted, unavailable, others, .. } = load.sum();
        assert_eq!([unavailable, others], [0, 0], "{driver}");
        assert_eq!(admitted, 5000, "{driver}");
        assert_eq!(bench.upstream.asked().len(), 5000, "{driver}");
        assert!((0..REPLICAS).all(|replica| load.of(replica).admitted > 0), "{driver}: each had a part");
    }
}

#[test]
fn windows_are_shared_and_used() {
    const PERIOD_MS: u64 = 500;
    let driver = &drivers()[0];
    let mut bench = Bench::start("windows", driver, &limit(200, PERIOD_MS, ""));
    let load = bench.under_load(|bench, _| {
        wait("some windows", || bench.upstream.asked().len() >= 1000);
    });
    let (Answers { admitted, unavailable, others, .. }, windows) = (load.sum(), load.windows(PERIOD_MS));
    assert_eq!([unavailable, others], [0, 0]);
    assert!(admitted <= 200 * windows, "{admitted} in {windows} windows");
}

#[test]
fn a_replica_that_is_killed_takes_no_more_than_its_lease_along() {
    let driver = &drivers()[0];
    let mut bench = Bench::start("killed", driver, &limit(8000, DAY_MS, ""));
    let load = bench.under_load(|bench, load| {
        wait("some to pass everywhere", || (0..REPLICAS).all(|replica| load.of(replica).admitted > 100));
        bench.replicas[0].gateway.kill();
        wait("the others to refuse", || (1..REPLICAS).all(|replica| load.of(replica).refused > 100));
    });
    let passed = bench.upstream.asked().len() as u64;
    assert!(passed <= 8000, "{passed}");
    assert!(passed >= 6000, "{passed}: a lease is a part of what is left");
    for replica in 1..REPLICAS {
        let Answers { unavailable, others, .. } = load.of(replica);
        assert_eq!([unavailable, others], [0, 0], "of replica {replica}");
    }
}

#[test]
fn a_replica_that_was_stopped_spends_nothing_of_a_window_that_is_over() {
    const PERIOD_MS: u64 = 400;
    let driver = &drivers()[0];
    let mut bench = Bench::start("stopped", driver, &limit(300, PERIOD_MS, ""));
    let load = bench.under_load(|bench, load| {
        for _ in 0..2 {
            let before = load.of(0).admitted;
            wait("it to have a lease", || load.of(0).admitted > before + 20);
            signal(&bench.replicas[0].gateway, libc::SIGSTOP);
            let before = bench.upstream.asked().len();
            wait("the others to go on for two windows", || bench.upstream.asked().len() >= before + 600);
            signal(&bench.replicas[0].gateway, libc::SIGCONT);
        }
        let before = load.of(0).refused;
        wait("it to be there again", || load.of(0).refused > before + 100);
    });
    let windows = load.windows(PERIOD_MS);
    let passed = bench.upstream.asked().len() as u64;
    assert!(passed <= 300 * windows, "{passed} in {windows} windows");
    let Answers { unavailable, others, .. } = load.sum();
    assert_eq!([unavailable, others], [0, 0]);
}

/// When the window began that Redis has of the only key, and what is granted of it.
fn window(redis: &Redis, period_ms: u64) -> (u64, u64) {
    let found = redis.say(&format!(
        "EVAL \"for _, k in ipairs(redis.call('KEYS', '*')) do \
         local w = redis.call('TYPE', k).ok == 'hash' and redis.call('HGET', k, 'w{period_ms}.0') \
         if w then return w end end return '0:0'\" 0"
    ));
    let (start, used) = found.split_once(':').unwrap_or_else(|| panic!("no window: {found}"));
    (start.parse().expect("a time"), used.parse().expect("a number"))
}

#[test]
fn a_lease_that_outlived_a_stop_is_worth_nothing() {
    const PERIOD_MS: u64 = 1500;
    const MAXIMUM: u64 = 300;
    let driver = &drivers()[0];
    let bench = Bench::start("lease", driver, &limit(MAXIMUM, PERIOD_MS, ""));
    let mut askers: Vec<_> =
        bench.replicas.iter().map(|replica| Asker::connect(replica.port, LIMIT).expect("it listens")).collect();
    let stopped = &bench.replicas[0].gateway;
    let mut seen = 0;
    // A window may end while one looks: then it is tried again.
    while seen < 2 {
        let mut ask = |at: usize| askers[at].ask("/", &[]).and_then(|head| head.status()).expect("an answer");
        wait("it to get a lease", || (0..60).all(|_| ask(0) == 200));
        let (first, _) = window(&bench.redis, PERIOD_MS);
        signal(stopped, libc::SIGSTOP);
        let mut later = (0, 0);
        wait("the others to use up a later window", || {
            (1..REPLICAS).for_each(|at| while ask(at) == 200 {});
            later = window(&bench.redis, PERIOD_MS);
            later.0 != first && later.1 == MAXIMUM
        });
        signal(stopped, libc::SIGCONT);
        let answers: Vec<u16> = (0..20).map(|_| ask(0)).collect();
        if window(&bench.redis, PERIOD_MS) == later {
            assert_eq!(answers, [429; 20]);
            seen += 1;
        }
    }
}

#[test]
fn without_redis_each_replica_admits_its_part_and_no_request_fails() {
    let driver = &drivers()[0];
    let mut bench = Bench::start("local", driver, &limit(300, DAY_MS, ""));
    let load = bench.under_load(|bench, load| {
        wait("all to refuse", || (0..REPLICAS).all(|replica| load.of(replica).refused > 100));
        assert!(bench.upstream.asked().len() <= 300, "before anything has happened");
        bench.redis.kill();
        bench.wait_storage(false);
        let refused: Vec<u64> = (0..REPLICAS).map(|replica| load.of(replica).refused).collect();
        wait("all to refuse again", || (0..REPLICAS).all(|replica| load.of(replica).refused > refused[replica] + 100));
        assert!(bench.upstream.asked().len() <= 600, "a window that was touched by the switch");
        bench.redis.restart();
        bench.wait_storage(true);
        let refused: Vec<u64> = (0..REPLICAS).map(|replica| load.of(replica).refused).collect();
        wait("all to refuse in the end", || {
            (0..REPLICAS).all(|replica| load.of(replica).refused > refused[replica] + 100)
        });
    });
    let Answers { unavailable, others, .. } = load.sum();
    assert_eq!([unavailable, others], [0, 0]);
    // The window of before, the parts while it was away, and one that Redis begins anew, since it has forgotten.
    assert!(bench.upstream.asked().len() <= 900, "{}", bench.upstream.asked().len());
}

#[test]
fn replicas_that_start_without_redis_admit_their_parts() {
    let mut redis = Redis::start(&[]);
    redis.kill();
    let storage = format!("address: '{}'", redis.address());
    let policy = limit(300, DAY_MS, "");
    let mut bench = Bench::start_with("never", &drivers()[0], &policy, redis, Vec::new(), &storage);
    let load = bench.under_load(|_, load| {
        wait("all to refuse", || (0..REPLICAS).all(|replica| load.of(replica).refused > 100));
    });
    let Answers { admitted, unavailable, others, .. } = load.sum();
    assert_eq!([admitted, unavailable, others], [300, 0, 0]);
}

/// Every key has a window of a day, so what came for a key is what its window admitted.
#[test]
fn redis_that_is_cut_off_is_done_without_and_no_request_fails() {
    const MAXIMUM: usize = 1500;
    let namespace = match Namespace::make() {
        Ok(namespace) => namespace,
        Err(why) => return println!("skipped: no network of its own for Redis: {why}"),
    };
    let redis = Redis::start_in(&namespace);
    let storage = format!("address: '{}'", redis.address());
    let policy = format!(
        "{{policyRef: {{name: rate-limiting-flex}}, config: {{keySelector: '#[attributes.requestPath]', rateLimits: \
         [{{maximumRequests: {MAXIMUM}, timePeriodInMilliseconds: {DAY_MS}}}]}}}}"
    );
    let mut bench = Bench::start_with("cut", &drivers()[0], &policy, redis, Vec::new(), &storage);
    let load = bench.under_load(|bench, load| {
        let refused = || [0, 1, 2].map(|replica| load.of(replica).refused);
        let all_refuse = || {
            let before = refused();
            wait("all to refuse", || (0..REPLICAS).all(|at| load.of(at).refused > before[at] + 100));
        };
        let take_another_key = || load.key.fetch_add(1, Ordering::Relaxed);
        all_refuse();
        take_another_key();
        wait("some of another key to pass", || bench.admitted(1) > 100);
        namespace.set_cut(true);
        bench.wait_storage(false);
        all_refuse();
        take_another_key();
        all_refuse();
        take_another_key();
        wait("some of another key to pass without it", || bench.admitted(3) > 100);
        namespace.set_cut(false);
        bench.wait_storage(true);
        all_refuse();
        take_another_key();
        all_refuse();
    });
    let Answers { unavailable, others, .. } = load.sum();
    assert_eq!([unavailable, others], [0, 0]);
    let admitted = [0, 1, 2, 3, 4].map(|key| bench.admitted(key));
    println!("of {MAXIMUM}: {admitted:?}");
    assert_eq!(
        [admitted[0], admitted[2], admitted[4]],
        [MAXIMUM; 3],
        "of windows before, while it was away, and after"
    );
    assert!([1, 3].iter().all(|key| admitted[*key] <= 2 * MAXIMUM), "{admitted:?}: of those that saw it go or come");
}

#[test]
fn a_fail_over_begins_no_window_anew_that_the_follower_knows() {
    const MAXIMUM: usize = 300;
    let master = Redis::start(&[]);
    let follower = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    wait("a follower", || follower.say("INFO replication").contains("master_link_status:up"));
    let sentinel = Redis::start_sentinel(&master, "");
    wait("the follower to be known", || sentinel.say("SENTINEL REPLICAS main").starts_with("*1"));
    let storage = format!("sentinel: {{addresses: ['{}'], masterName: main}}", sentinel.address());
    let policy = limit(MAXIMUM as u64, DAY_MS, "");
    let mut bench = Bench::start_with("sentinel", &drivers()[0], &policy, master, vec![follower, sentinel], &storage);
    let load = bench.under_load(|bench, load| {
        let refuses =
            |than: [u64; REPLICAS]| (0..REPLICAS).all(|replica| load.of(replica).refused > than[replica] + 100);
        wait("all to refuse", || refuses([0; REPLICAS]));
        assert_eq!(bench.redis.say("WAIT 1 10000"), ":1", "the follower has all of it");
        let connects = |replica: &Replica| replica.gateway.metric("ringway_storage_connects_total").expect("a number");
        let before: Vec<f64> = bench.replicas.iter().map(connects).collect();
        bench.redis.kill();
        wait("the follower to be followed", || {
            bench.replicas.iter().zip(&before).all(|(replica, before)| connects(replica) > *before)
        });
        bench.wait_storage(true);
        let refused = [0, 1, 2].map(|replica| load.of(replica).refused);
        wait("all to refuse again", || refuses(refused));
    });
    assert!(bench.others[0].say("INFO replication").contains("role:master"));
    let Answers { unavailable, others, .. } = load.sum();
    assert_eq!([unavailable, others], [0, 0]);
    // The parts of the replicas, while there was no master.
    assert!(bench.upstream.asked().len() <= 2 * MAXIMUM, "{}", bench.upstream.asked().len());
}

#[test]
fn with_deny_nothing_passes_that_redis_has_not_granted() {
    let driver = &drivers()[0];
    let mut bench = Bench::start("deny", driver, &limit(1_000_000, DAY_MS, "onStorageFailure: deny"));
    let load = bench.under_load(|bench, load| {
        wait("some to pass everywhere", || (0..REPLICAS).all(|replica| load.of(replica).admitted > 100));
        bench.redis.pause();
        wait("all to be unavailable", || (0..REPLICAS).all(|replica| load.of(replica).unavailable > 100));
        bench.redis.resume();
        bench.wait_storage(true);
        let before: Vec<u64> = (0..REPLICAS).map(|replica| load.of(replica).admitted).collect();
        wait("all to pass again", || (0..REPLICAS).all(|replica| load.of(replica).admitted > before[replica] + 100));
    });
    let Answers { refused, others, .. } = load.sum();
    assert_eq!([refused, others], [0, 0]);
}

#[test]
fn with_allow_all_pass_while_redis_hangs() {
    const MAXIMUM: u64 = 3000;
    let driver = &drivers()[0];
    let mut bench = Bench::start("allow", driver, &limit(MAXIMUM, DAY_MS, "onStorageFailure: allow"));
    let load = bench.under_load(|bench, load| {
        wait("some to pass everywhere", || (0..REPLICAS).all(|replica| load.of(replica).admitted > 50));
        bench.redis.pause();
        wait("more to pass than the limit", || load.sum().admitted > MAXIMUM + 1000);
        bench.redis.resume();
        wait("all to refuse", || (0..REPLICAS).all(|replica| load.of(replica).refused > 100));
    });
    let Answers { unavailable, others, .. } = load.sum();
    assert_eq!([unavailable, others], [0, 0]);
}
