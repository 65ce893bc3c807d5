//! A limit is exact over the cores of one gateway: many clients ask at once, and as many pass as it says, not one more or less.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use support::{
    counting::{Asker, Counting},
    gateway::{Gateway, drivers, folder, on_two_cores},
    message::{Head, values},
    ports,
};

const LIMIT: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 86_400_000;
/// Enough for both of two cores to have some.
const CLIENTS: usize = 16;

/// A gateway of two cores with one rate limit, in front of an upstream that counts.
struct Bench {
    gateway: Gateway,
    port: u16,
    upstream: Counting,
}

impl Bench {
    fn start(name: &str, driver: &str, config: &str) -> Self {
        let directory = folder(&format!("rate-limits-{name}-{driver}"));
        let (port, upstream) = (ports::reserve(), Counting::start());
        let text = format!(
            "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}\nspec:\n  \
             address: http://127.0.0.1:{port}\n  services: {{s: {{address: 'http://{}'}}}}\n  \
             policies: [{{policyRef: {{name: rate-limiting-flex}}, config: {config}}}]\n",
            upstream.address
        );
        fs::write(directory.join("gateway.yaml"), text).expect("the directory is writable");
        let gateway = on_two_cores(&directory, driver, LIMIT);
        Self { gateway, port, upstream }
    }

    /// Has all clients ask at once, each as long as `next` says what, and returns all answers.
    fn ask(&self, next: impl Fn(usize, usize) -> Option<(String, String)> + Sync) -> Vec<Head> {
        let client = |id: usize| {
            let mut asker = Asker::connect(self.port, LIMIT).expect("the gateway listens");
            let mut answers = Vec::new();
            while let Some((target, key)) = next(id, answers.len()) {
                answers.push(asker.ask(&target, &[("x-key", &key)]).expect("an answer"));
            }
            answers
        };
        let answers = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|id| scope.spawn(move || client(id))).collect();
            clients.into_iter().flat_map(|client| client.join().expect("it ends")).collect()
        });
        let (_, page) = self.gateway.get("/metrics").expect("the page is there");
        let busy =
            page.lines().filter(|line| line.starts_with("ringway_core_requests_total{") && !line.ends_with(" 0"));
        assert_eq!(busy.count(), 2, "both cores have had some");
        answers
    }
}

fn count(answers: &[Head], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status() == Some(status)).count()
}

fn number(head: &Head, name: &str) -> u64 {
    let value = values(&head.fields, name).first().copied().unwrap_or_default();
    str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name}: {head:?}"))
}

#[test]
fn as_many_pass_as_the_limit_says() {
    for driver in drivers() {
        let config = format!("{{rateLimits: [{{maximumRequests: 997, timePeriodInMilliseconds: {DAY_MS}}}]}}");
        let bench = Bench::start("exact", &driver, &config);
        let answers = bench.ask(|_, asked| (asked < 100).then(|| ("/".to_owned(), String::new())));
        assert_eq!([count(&answers, 200), count(&answers, 429)], [997, CLIENTS * 100 - 997], "{driver}");
        assert_eq!(bench.upstream.asked().len(), 997, "{driver}");
    }
}

#[test]
fn each_client_is_told_what_is_left_behind_its_request() {
    for driver in drivers() {
        let config = format!(
            "{{rateLimits: [{{maximumRequests: 300, timePeriodInMilliseconds: {DAY_MS}}}], exposeHeaders: true}}"
        );
        let bench = Bench::start("told", &driver, &config);
        let answers = bench.ask(|_, asked| (asked < 25).then(|| ("/".to_owned(), String::new())));
        let (admitted, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status() == Some(200));
        let left: BTreeSet<u64> = admitted.iter().map(|answer| number(answer, "x-ratelimit-remaining")).collect();
        assert_eq!(left, (0..300).collect(), "{driver}: each number once");
        assert_eq!([admitted.len(), refused.len()], [300, 100], "{driver}");
        for answer in &refused {
            let said = ["limit", "remaining"].map(|what| number(answer, &format!("x-ratelimit-{what}")));
            assert_eq!(said, [300, 0], "{driver}");
            assert!((1..=DAY_MS).contains(&number(answer, "x-ratelimit-reset")), "{driver}: {answer:?}");
        }
    }
}

#[test]
fn each_key_has_all_of_its_limit() {
    for driver in drivers() {
        let config = format!(
            "{{rateLimits: [{{maximumRequests: 40, timePeriodInMilliseconds: {DAY_MS}}}, \
             {{maximumRequests: 35, timePeriodInMilliseconds: 3600000}}], keySelector: \"#[attributes.headers['x-key']]\"}}"
        );
        let bench = Bench::start("keys", &driver, &config);
        // Every client asks for every key.
        let next = |id: usize, asked: usize| {
            let key = (id + asked) % 5;
            (asked < 50).then(|| (format!("/{key}"), format!("k{key}")))
        };
        let answers = bench.ask(next);
        assert_eq!(count(&answers, 200), 5 * 35, "{driver}");
        let mut by_key = BTreeMap::new();
        for asked in bench.upstream.asked() {
            *by_key.entry(asked.target).or_insert(0) += 1;
        }
        let expected = (0..5).map(|key| (format!("/{key}"), 35)).collect();
        assert_eq!(by_key, expected, "{driver}");
    }
}

/// However long it takes: windows do not overlap, so there are not more of them than fit in the time.
#[test]
fn no_window_has_more_than_its_limit() {
    const PERIOD_MS: u64 = 50;
    const WINDOWS_MIN: usize = 10;
    for driver in drivers() {
        let config = format!("{{rateLimits: [{{maximumRequests: 20, timePeriodInMilliseconds: {PERIOD_MS}}}]}}");
        let bench = Bench::start("windows", &driver, &config);
        let began = Instant::now();
        // Until so many windows must have been opened.
        let next = |_, _| {
            let passed = bench.upstream.asked().len();
            (passed < 20 * WINDOWS_MIN).then(|| ("/".to_owned(), String::new()))
        };
        let answers = bench.ask(next);
        let windows = began.elapsed().as_millis() as u64 / PERIOD_MS + 1;
        let passed = count(&answers, 200);
        assert_eq!(bench.upstream.asked().len(), passed, "{driver}");
        assert!(passed as u64 <= 20 * windows, "{driver}: {passed} in {windows} windows");
        assert!(count(&answers, 429) > 0, "{driver}: the limit was never reached");
    }
}
