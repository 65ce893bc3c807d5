//! Limits that replicas share, against Redis itself: its script against the rule, and replicas against each other.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Arc, mpsc},
    time::Duration,
};

use ringway::{
    management::storage::quotas,
    quota::{
        Asked, Balances, Decision, Field, Limit, Limiter, Lost, OnStorageFailure, Question, Returned, Tick, Wake,
        authority::Authority,
    },
};
use support::{
    counting::{Asker, Counting},
    gateway::{Gateway, drivers},
    ports,
    redis::{self, Redis, wait},
    replica::{LIMIT, LONG, Replica, launch},
};

/// What a test may draw, the same for a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Periods are long, since the server's own clock goes on as well; its time is the test's.
const PERIODS: [u64; 3] = [3_600_000, 7_200_000, 86_400_000];

/// A question of one of few keys, about some of few limits, that may return what an earlier answer granted.
fn question(dice: &mut Dice, granted: &[(Arc<[u8]>, Returned)]) -> Question {
    let names: [Arc<[u8]>; 3] = [Arc::from(*b"a"), Arc::from(*b"b\r\n\0"), Arc::from(*b"{c}")];
    let key = names[dice.below(3) as usize].clone();
    let first = dice.below(3);
    let limits = (first..=first + dice.below(3)).map(|at| {
        let field = Field { period_ms: PERIODS[at as usize % 3], ordinal: (at / 3) as u32 };
        Asked { field, maximum: dice.below(40) }
    });
    let limits = limits.collect();
    let mine: Vec<_> = granted.iter().filter(|(of, _)| *of == key).collect();
    let returns = match mine.len() as u64 {
        0 => None,
        count => Some(mine[dice.below(count) as usize].1.clone()).filter(|_| dice.below(3) == 0),
    };
    let (need, want) = (dice.below(4), dice.below(20));
    Question { key, sequence: 1 + dice.below(400), limits, returns, need, want, share: dice.below(6) }
}

#[test]
fn redis_answers_questions_of_quotas_as_the_rule_says() {
    let server = Redis::start(&[]);
    let client = ::redis::Client::open(format!("redis://{}/", server.address())).expect("an address");
    let mut connection = client.get_connection().expect("a connection");
    // The same script, whose clock is the test's.
    let text = include_str!("../src/management/storage/scripts/quota.lua");
    let text = text.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}");
    assert!(text.contains("ARGV[#ARGV]"));
    for seed in 0..30 {
        let mut dice = Dice(seed);
        ::redis::cmd("FLUSHALL").exec(&mut connection).expect("it flushes");
        // One for each key, since a key is forgotten when it is asked about.
        let mut authorities: HashMap<Arc<[u8]>, Authority> = HashMap::new();
        let (mut now_ms, mut granted) = (1_700_000_000_000_u64, Vec::new());
        let mut grants = 0;
        for step in 0..150 {
            let replica = dice.below(2);
            let questions: Vec<Question> = (0..1 + dice.below(3)).map(|_| question(&mut dice, &granted)).collect();
            now_ms = match dice.below(12) {
                0 => now_ms + dice.below(2 * PERIODS[2]),
                1 => now_ms - dice.below(PERIODS[1]),
                _ => now_ms + dice.below(60_000),
            };
            let expected: Vec<_> = (questions.iter())
                .map(|question| {
                    let authority = authorities.entry(question.key.clone()).or_default();
                    authority.expire(now_ms);
                    let answer = authority.answer(replica, question, now_ms).ok_or(Lost::Unanswered);
                    authority.expire(now_ms);
                    answer
                })
                .collect();
            let mut call = ::redis::cmd("EVAL");
            call.arg(&text).arg(questions.len());
            for question in &questions {
                call.arg([b"q:", &question.key[..]].concat());
            }
            for argument in quotas::arguments(&replica.to_string(), &questions) {
                call.arg(&argument[..]);
            }
            call.arg(now_ms / 1000).arg(now_ms % 1000 * 1000);
            let answer = call.query::<::redis::Value>(&mut connection).unwrap_or_else(|error| panic!("{error}"));
            let answers = quotas::read(&questions, &answer).expect("answers to them");
            assert_eq!(answers, expected, "seed {seed}, step {step}, at {now_ms}: {questions:?}");
            for (question, answer) in questions.iter().zip(answers) {
                if let Ok(answer) =
                    answer.as_ref().map_err(|_| ()).and_then(|a| if a.granted > 0 { Ok(a) } else { Err(()) })
                {
                    grants += 1;
                    let windows =
                        question.limits.iter().zip(&answer.limits).map(|(asked, stands)| (asked.field, stands.window));
                    let count = dice.below(answer.granted + 2);
                    granted.push((question.key.clone(), Returned { windows: windows.collect(), count }));
                }
            }
        }
        assert!(grants > 20, "seed {seed}: only {grants} grants");
    }
}

#[test]
fn an_account_that_is_none_costs_no_other_its_answer() {
    let server = Redis::start(&[]);
    let client = ::redis::Client::open(format!("redis://{}/", server.address())).expect("an address");
    let mut connection = client.get_connection().expect("a connection");
    ::redis::cmd("SET").arg("q:text").arg("no hash").exec(&mut connection).expect("it is set");
    ::redis::cmd("HSET").arg("q:nonsense").arg("w60000.0").arg("yesterday").exec(&mut connection).expect("it is set");
    let limits = [Asked { field: Field { period_ms: 60_000, ordinal: 0 }, maximum: 3 }];
    let names: [Arc<[u8]>; 3] = [Arc::from(*b"text"), Arc::from(*b"nonsense"), Arc::from(*b"fine")];
    let questions = names.map(|key| Question {
        key,
        sequence: 1,
        limits: limits.into(),
        returns: None,
        need: 2,
        want: 0,
        share: 1,
    });
    let mut call = ::redis::cmd("EVAL");
    call.arg(include_str!("../src/management/storage/scripts/quota.lua")).arg(questions.len());
    questions.iter().for_each(|question| _ = call.arg([b"q:", &question.key[..]].concat()));
    quotas::arguments("1", &questions).iter().for_each(|argument| _ = call.arg(&argument[..]));
    let answer = call.query::<::redis::Value>(&mut connection).expect("one bad account is no error");
    let answers = quotas::read(&questions, &answer).expect("answers to them");
    let granted = answers.into_iter().map(|answer| answer.map(|answer| answer.granted)).collect::<Vec<_>>();
    assert_eq!(granted, [Err(Lost::Refused), Err(Lost::Refused), Ok(2)]);
}

/// Spends at one core of a replica until the key is exhausted. Returns how many were admitted.
fn spend(balances: &Balances, limiter: &Arc<Limiter>, key: &[u8], clock: &dyn Fn() -> Tick) -> u64 {
    let (mut admitted, mut waits_since) = (0, None);
    loop {
        let now = clock();
        let (wake, woken) = mpsc::channel();
        let bell = || Some(Box::new(move || _ = wake.send(())) as Wake);
        match balances.spend(limiter, key, now, waits_since, bell) {
            Decision::Admitted(_) => (admitted, waits_since) = (admitted + 1, None),
            Decision::Refused(_) => return admitted,
            Decision::Unavailable => panic!("it is there"),
            Decision::Wait { at_most_us } => {
                waits_since = waits_since.or(Some(now));
                // Nothing is lost where it does not ring in time.
                let _ = woken.recv_timeout(Duration::from_micros(at_most_us));
            }
        }
    }
}

#[test]
fn replicas_share_a_limit_and_use_all_of_it() {
    let (server, nodes) = (Redis::start(&[]), redis::start_cluster());
    for address in [server.address(), nodes[0].address()] {
        let section = format!("redis: {{address: '{address}'}}");
        let replicas: Vec<Replica> = (0..3).map(|_| Replica::start(&section)).collect();
        for (limit, period) in [(1, LONG), (7, LONG), (1000, LONG)] {
            let limits = [Limit { maximum: limit, period: period.as_micros() as u64 }];
            let admitted: u64 = std::thread::scope(|scope| {
                let spending: Vec<_> = (replicas.iter())
                    .map(|replica| {
                        let (ledger, now) = (replica.ledger.clone(), replica.now.clone());
                        scope.spawn(move || {
                            let limiter = Limiter::new(limit, limits, true, OnStorageFailure::Deny, false);
                            spend(&Balances::new(ledger, 0), &Arc::new(limiter), b"client", &*now)
                        })
                    })
                    .collect();
                spending.into_iter().map(|replica| replica.join().expect("it spends")).sum()
            });
            assert!(admitted <= limit, "{admitted} of {limit}");
            // What the last to ask was not given may lie with another that did not need it.
            assert!(admitted * 100 >= limit * 98, "{admitted} of {limit}");
        }
    }
}

/// A gateway with a limit for each value of `key`.
const LIMITED: &str = r"
apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {name: FAILURE}
spec:
  address: http://127.0.0.1:PORT
  services: {up: {address: 'http://UPSTREAM', routes: [{}]}}
  policies:
  - policyRef: {name: rate-limiting-flex}
    config:
      rateLimits: [{maximumRequests: 60, timePeriodInMilliseconds: 3600000}]
      keySelector: '#[attributes.queryParams.key]'
    ringway: {onStorageFailure: FAILURE}
---
apiVersion: gateway.mulesoft.com/v1alpha1
kind: Configuration
metadata: {name: c}
spec:
  ringway: {name: shop}
  sharedStorage: {redis: {address: 'REDIS'}}
";

/// Sends so many requests to each port, all at the same time. Returns how many of them were answered with each status.
fn ask_all(ports: &[u16], target: &str, requests: usize) -> BTreeMap<u16, usize> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (ports.iter().flat_map(|port| [*port; 3]))
            .map(|port| {
                scope.spawn(move || {
                    let mut asker = Asker::connect(port, LIMIT).expect("it listens");
                    let status = |_| asker.ask(target, &[]).expect("an answer").status().expect("a status");
                    (0..requests).map(status).collect::<Vec<u16>>()
                })
            })
            .collect();
        let mut counts = BTreeMap::new();
        for status in asking.into_iter().flat_map(|asking| asking.join().expect("it asks")) {
            *counts.entry(status).or_default() += 1;
        }
        counts
    })
}

#[test]
fn gateways_share_a_limit_and_each_does_without_redis_what_its_policy_says() {
    let mut server = Redis::start(&[]);
    let upstream = Counting::start();
    let alone = [
        ("local", BTreeMap::from([(200, 30), (429, 30)])),
        ("deny", BTreeMap::from([(503, 60)])),
        ("allow", BTreeMap::from([(200, 60)])),
    ];
    for (failure, without) in alone {
        let folder = tempfile::tempdir().expect("a folder");
        let mut gateways: Vec<(u16, Gateway)> = (0..2)
            .map(|number| {
                let port = ports::reserve();
                let text = LIMITED
                    .replace("PORT", &port.to_string())
                    .replace("UPSTREAM", &upstream.address.to_string())
                    .replace("REDIS", &server.address())
                    .replace("FAILURE", failure);
                let directory = folder.path().join(number.to_string());
                fs::create_dir(&directory).expect("a folder");
                fs::write(directory.join("gateway.yaml"), text).expect("a file");
                (port, launch(&directory, &drivers()[0], &["--threads", "2"]))
            })
            .collect();
        wait("two replicas", || {
            gateways.iter().all(|(_, gateway)| gateway.metric("ringway_storage_replicas") == Ok(2.0))
        });
        let ports: Vec<u16> = gateways.iter().map(|(port, _)| *port).collect();
        let before = upstream.asked().len();
        let answers = ask_all(&ports, "/?key=a", 20);
        let admitted = upstream.asked().len() - before;
        assert!((59..=60).contains(&admitted), "{failure}: {admitted} admitted, {answers:?}");
        assert_eq!(answers, BTreeMap::from([(200, admitted), (429, 120 - admitted)]), "{failure}");

        server.kill();
        for (_, gateway) in &mut gateways {
            let up = |gateway: &Gateway| {
                gateway.get("/metrics").is_ok_and(|(_, page)| page.contains("storage_up{kind=\"redis\"} 0"))
            };
            wait("away", || up(gateway));
        }
        // A replica's own share of the limit, where it counts for itself.
        let answers = ask_all(&ports[..1], "/?key=b", 20);
        assert_eq!(answers, without, "{failure}");
        server.restart();
    }
}
