//! Spike control: smooths bursts. What has no room in a sliding window is held for a while and tried again, and refused if
//! there is none yet.
//!
//! Window and queue are of the replica: all cores share them, so that neither admits or holds one more than is written. A
//! request that is held is its exchange and a timer; when its client leaves, its place is free.

mod window;

use std::{
    fmt,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;

use self::window::Window;
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Question, Reply, Site,
    Turn, options,
    rate_headers::{Advertised, RateHeaders, Stood},
};

const SPIKE: Answers = Answers {
    status: 429,
    reason: "spike_control",
    when: "the window has no room, also after the delays, or too many requests are held already",
};

/// A slot of the window takes 8 bytes.
const REQUESTS_MAX: u64 = 1_000_000;
const PERIOD_MS_MAX: u64 = 86_400_000;
const DELAY_MS_MAX: u64 = 3_600_000;
const ATTEMPTS_MAX: u64 = 1000;
const HELD_MAX: u64 = 1_000_000;

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    maximum_requests: u64,
    time_period_in_milliseconds: u64,
    delay_time_in_millis: u64,
    delay_attempts: u64,
    #[serde(default)]
    queuing_limit: u64,
    #[serde(default)]
    expose_headers: bool,
}

pub struct SpikeControl {
    maximum_requests: u64,
    delay: Duration,
    delay_attempts: u32,
    window: Window,
    queue: Queue,
    /// The window's times count from here.
    started: Instant,
    headers: RateHeaders,
    advertised: Advertised,
}

/// What was configured, and not how its window stands.
impl fmt::Debug for SpikeControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { maximum_requests, delay, delay_attempts, queue, headers, .. } = self;
        let configured = (maximum_requests, delay, delay_attempts, queue, headers);
        f.debug_tuple("SpikeControl").field(&configured).finish_non_exhaustive()
    }
}

/// What it keeps of one exchange.
#[derive(Default)]
pub struct Kept {
    /// While the request is held.
    place: Option<Place>,
    delays: u32,
    /// Where a response is to say how the window stood when it was decided.
    stood: Option<Stood>,
}

/// Those that are held, on all cores.
#[derive(Clone, Debug)]
struct Queue {
    held: Arc<AtomicUsize>,
    held_max: usize,
}

/// A place in the queue, given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Queue {
    fn enter(&self) -> Option<Place> {
        let one_more = |held| (held < self.held_max).then_some(held + 1);
        let entered = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.ok().map(|_| Place(self.held.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Policy for SpikeControl {
    type Config = Config;
    /// The refusal, made once.
    type State = Rc<LocalResponse>;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = &[
        Field::new("maximumRequests", "Requests", "So many pass in a period.").range(1, REQUESTS_MAX as i64),
        Field::new("timePeriodInMilliseconds", "Period", "The length of the window.")
            .unit("milliseconds")
            .range(1, PERIOD_MS_MAX as i64),
        Field::new("delayTimeInMillis", "Delay", "How long a request is held before it is tried again.")
            .unit("milliseconds")
            .range(0, DELAY_MS_MAX as i64),
        Field::new("delayAttempts", "Attempts", "How often it is held.").range(0, ATTEMPTS_MAX as i64),
        Field::new("queuingLimit", "Queue", "How many may be held at a time. 0: none, whatever `delayAttempts` says.")
            .default("0")
            .range(0, HELD_MAX as i64),
        Field::new(
            "exposeHeaders",
            "Expose headers",
            "Every response says how the window stood. `x-ratelimit-limit`, `x-ratelimit-remaining`; in \
             `x-ratelimit-reset` the milliseconds until the oldest request leaves the window, 0 while there \
             is room.",
        )
        .default("false"),
    ];
    const OPTIONS: &'static [Field] = &[options::STANDARD_HEADERS, options::RETRY_AFTER];
    const ANSWERS: &'static [Answers] = &[SPIKE];

    fn remarks(config: &Config) -> Vec<Fault> {
        let idle = |field: &str, other: &str| Fault::at(field, format!("no effect: `{other}` is 0, and none is held"));
        match (config.delay_attempts, config.queuing_limit) {
            // One attempt and no queue is how the control plane fills its form in: nobody has asked for anything.
            (2.., 0) => vec![idle("delayAttempts", "queuingLimit")],
            (0, 1..) => vec![idle("queuingLimit", "delayAttempts")],
            _ => Vec::new(),
        }
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                error.add(Fault::at(field, format!("expected {least} to {most}")));
            }
            value.clamp(least, most)
        };
        let maximum_requests = within("maximumRequests", config.maximum_requests, 1, REQUESTS_MAX);
        let period_ms = within("timePeriodInMilliseconds", config.time_period_in_milliseconds, 1, PERIOD_MS_MAX);
        let delay_ms = within("delayTimeInMillis", config.delay_time_in_millis, 0, DELAY_MS_MAX);
        let delay_attempts = within("delayAttempts", config.delay_attempts, 0, ATTEMPTS_MAX);
        let held_max = within("queuingLimit", config.queuing_limit, 0, HELD_MAX);
        error.or(())?;
        let headers = RateHeaders::new(config.expose_headers, site.options());
        let advertised = match headers.are_standard() {
            true => Advertised::new(&site.policy().name, [(maximum_requests, period_ms)]),
            false => Advertised::default(),
        };
        Ok(Self {
            maximum_requests,
            delay: Duration::from_millis(delay_ms),
            delay_attempts: delay_attempts as u32,
            window: Window::new(maximum_requests as usize, period_ms * 1_000_000),
            queue: Queue { held: Arc::default(), held_max: held_max as usize },
            started: Instant::now(),
            headers,
            advertised,
        })
    }

    fn state(&self, _: &Core) -> Self::State {
        Rc::new(LocalResponse::error_json(SPIKE.status, "Too Many Requests", SPIKE.reason))
    }

    fn on_request(&self, turn: Turn<'_, Self>, _: &mut Exchange<'_>) -> Flow {
        self.decide(turn.state, turn.kept, self.now_ns())
    }

    fn on_reply(&self, turn: Turn<'_, Self>, _: &mut Exchange<'_>, _: Reply) -> Flow {
        self.decide(turn.state, turn.kept, self.now_ns())
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        if let Some(stood) = &turn.kept.stood {
            self.headers.write(&mut exchange.response_headers(), stood, &self.advertised);
        }
        Flow::Continue
    }
}

impl SpikeControl {
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Admits, holds or refuses a request, which may have been held before.
    fn decide(&self, refusal: &Rc<LocalResponse>, kept: &mut Kept, now_ns: u64) -> Flow {
        let admitted = self.window.admit(now_ns);
        if !admitted && kept.delays < self.delay_attempts {
            kept.place = kept.place.take().or_else(|| self.queue.enter());
            if kept.place.is_some() {
                kept.delays += 1;
                return Flow::Wait(Box::new(Question::Time(self.delay)));
            }
        }
        kept.place = None;
        if !self.headers.are_none() {
            kept.stood = Some(self.stands(now_ns, admitted));
        }
        if admitted { Flow::Continue } else { Flow::Respond(refusal.clone()) }
    }

    fn stands(&self, now_ns: u64, admitted: bool) -> Stood {
        Stood {
            limit: self.maximum_requests,
            remaining: self.window.remaining(now_ns),
            // To the next millisecond: who comes back then finds room.
            reset_ms: self.window.reset_ns(now_ns).div_ceil(1_000_000),
            place: 0,
            refused: !admitted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing::{self, Trial};

    const SECOND: u64 = 1_000_000_000;

    fn policy(more: &str) -> SpikeControl {
        let config = format!("{{maximumRequests: 2, timePeriodInMilliseconds: 1000, delayTimeInMillis: 300, {more}}}");
        testing::compile(&config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"))
    }

    /// What is decided at this time for a request that keeps `kept`, in a word.
    fn decide(policy: &SpikeControl, kept: &mut Kept, now_ns: u64) -> String {
        match policy.decide(&policy.state(&Core { id: 0, ..Core::default() }), kept, now_ns) {
            Flow::Continue => "passes".to_owned(),
            Flow::Respond(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
            Flow::Wait(question) => format!("{question:?}"),
            Flow::AskAgain(_) | Flow::RespondAndGoOn(_) => unreachable!("it looks at requests"),
        }
    }

    const REFUSED: &str = r#"429 {"error":"Too Many Requests"}"#;
    const HELD: &str = "Time(300ms)";

    #[test]
    fn without_a_queue_nothing_is_held() {
        let policy = policy("delayAttempts: 5");
        let decided = [0, 1, 2, SECOND - 1, SECOND].map(|now| decide(&policy, &mut Kept::default(), now));
        assert_eq!(decided, ["passes", "passes", REFUSED, REFUSED, "passes"]);
    }

    #[test]
    fn without_attempts_nothing_is_held() {
        let policy = policy("delayAttempts: 0, queuingLimit: 5");
        let decided = [0, 0, 0].map(|now| decide(&policy, &mut Kept::default(), now));
        assert_eq!(decided, ["passes", "passes", REFUSED]);
    }

    #[test]
    fn a_request_is_held_until_there_is_room_or_its_attempts_are_over() {
        let policy = policy("delayAttempts: 2, queuingLimit: 2");
        let (mut lucky, mut late) = (Kept::default(), Kept::default());
        assert_eq!([0, 0].map(|now| decide(&policy, &mut Kept::default(), now)), ["passes", "passes"]);
        assert_eq!([decide(&policy, &mut lucky, 1), decide(&policy, &mut late, 2)], [HELD, HELD]);
        assert_eq!(decide(&policy, &mut Kept::default(), 3), REFUSED, "the queue is full");
        assert_eq!([decide(&policy, &mut lucky, 4), decide(&policy, &mut late, 5)], [HELD, HELD]);
        assert_eq!(decide(&policy, &mut late, SECOND - 1), REFUSED);
        assert_eq!(decide(&policy, &mut lucky, SECOND), "passes");
        assert_eq!(policy.queue.held.load(Ordering::Relaxed), 0, "nobody is held any more");
    }

    #[test]
    fn who_leaves_gives_its_place_back() {
        let policy = policy("delayAttempts: 1, queuingLimit: 1");
        let held = || {
            let mut kept = Kept::default();
            (decide(&policy, &mut kept, 0), kept)
        };
        assert_eq!([held().0, held().0], ["passes", "passes"]);
        let (decided, leaves) = held();
        assert_eq!((decided.as_str(), held().0.as_str()), (HELD, REFUSED));
        drop(leaves);
        assert_eq!(held().0, HELD);
    }

    #[test]
    fn responses_say_how_the_window_stands_where_they_are_to() {
        let policy = policy("delayAttempts: 0, exposeHeaders: true");
        let mut said = Vec::new();
        for now in [0, SECOND / 2, SECOND / 2 + 1, SECOND] {
            let mut kept = Kept::default();
            decide(&policy, &mut kept, now);
            let mut trial = Trial::new("GET", "/", &[]).answered(200, &[("x-ratelimit-limit", "the upstream's")]);
            let state = policy.state(&Core { id: 0, ..Core::default() });
            trial.with(0, |exchange| policy.on_response(Turn { state: &state, kept: &mut kept }, exchange));
            let lines = testing::lines(&trial.response.fields);
            said.push(lines.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", "));
        }
        let expected = |remaining, reset| {
            format!("x-ratelimit-limit 2, x-ratelimit-remaining {remaining}, x-ratelimit-reset {reset}")
        };
        assert_eq!(said, [expected(1, 0), expected(0, 500), expected(0, 500), expected(0, 500)]);
    }

    #[test]
    fn nothing_is_said_unasked() {
        let policy = policy("delayAttempts: 0");
        let mut trial = Trial::new("GET", "/", &[]).answered(200, &[]);
        let (state, mut kept) = (policy.state(&Core { id: 0, ..Core::default() }), Kept::default());
        trial.with(0, |exchange| {
            policy.on_request(Turn { state: &state, kept: &mut kept }, exchange);
            policy.on_response(Turn { state: &state, kept: &mut kept }, exchange);
        });
        assert_eq!(testing::lines(&trial.response.fields), []);
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = testing::faults::<SpikeControl>;
        let missing = |field| format!("config.{field}: required, but missing");
        let required = ["maximumRequests", "timePeriodInMilliseconds", "delayTimeInMillis", "delayAttempts"];
        assert_eq!(faults("{queuingLimit: 1}"), required.map(missing));
        assert_eq!(
            faults(
                "{maximumRequests: 0, timePeriodInMilliseconds: 86400001, delayTimeInMillis: 3600001, delayAttempts: 1001, \
                 queuingLimit: 1000001}"
            ),
            [
                "config.maximumRequests: expected 1 to 1000000",
                "config.timePeriodInMilliseconds: expected 1 to 86400000",
                "config.delayTimeInMillis: expected 0 to 3600000",
                "config.delayAttempts: expected 0 to 1000",
                "config.queuingLimit: expected 0 to 1000000",
            ]
        );
    }
}
