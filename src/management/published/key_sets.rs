//! Key sets by what they are: which to fetch now, and what is published of them. Does no I/O.
//!
//! One that has come is used until the next has, however long its server is away: a token's issuer that cannot be reached must
//! not take the APIs with it. It is fetched anew before its time is over, after a failure with growing pauses, and when cores
//! meet keys that they do not know, which strangers can make them do: so that has a pause of its own.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    document::address::WebAddress,
    policies::{
        jwt::key_set::KeySet,
        wants::{KeySetId, KeySetWant, PublishedKeySet},
    },
    telemetry::fault::Fault,
};

/// After a failure: 1 s, doubling.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The part of its time after which a set is fetched anew, and the part up to which chance puts that off: replicas that started
/// together do not ask together.
const FRESH: f64 = 0.8;
const SPREAD: f64 = 0.1;

/// Of the keys of a set that cannot be used.
const TOLD_MAX: usize = 8;

/// A set as it has come.
pub struct Come {
    set: KeySet,
    /// Keys that cannot be used, and why.
    unusable: Vec<String>,
    /// What it was read from: the same bytes are the same set.
    body: Vec<u8>,
}

impl Come {
    pub fn read(body: Vec<u8>) -> Result<Self, Fault> {
        let (set, unusable) = KeySet::parse(&body).map_err(|text| Fault::new("not_a_key_set", text))?;
        Ok(Self { set, unusable, body })
    }
}

/// A random number from 0 to 1.
pub type Chance = fn() -> f64;

pub struct KeySets {
    sets: HashMap<KeySetId, State>,
    chance: Chance,
    wake: Arc<dyn Fn() + Send + Sync>,
}

struct State {
    want: KeySetWant,
    /// Of the set that is published.
    body: Vec<u8>,
    published: PublishedKeySet,
    /// Of the last fetch that brought a set.
    came: Option<Instant>,
    /// Fetches in a row that brought none.
    failures: u32,
    /// `None`: a fetch is under way.
    due: Option<Instant>,
    /// When cores have last caused a fetch.
    caused: Option<Instant>,
}

impl KeySets {
    /// `wake` is called from any core that asks for a fetch, once for each fetch.
    pub fn new(chance: Chance, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { sets: HashMap::new(), chance, wake }
    }

    /// From now on these are kept; others are forgotten. True where there is another one than before.
    pub fn keep(&mut self, wanted: &HashMap<KeySetId, KeySetWant>, now: Instant) -> bool {
        let before = self.sets.len();
        self.sets.retain(|id, _| wanted.contains_key(id));
        let mut changed = self.sets.len() != before;
        for (id, want) in wanted {
            match self.sets.get_mut(id) {
                Some(state) => state.wanted(want, now),
                None => {
                    self.sets.insert(id.clone(), State::new(want, now, self.wake.clone()));
                    changed = true;
                }
            }
        }
        changed
    }

    /// Sets to fetch now, at most `count`; each stays out of the next lists until it is [`KeySets::answered`].
    pub fn take_due(&mut self, now: Instant, count: usize) -> Vec<KeySetWant> {
        let due = self.sets.values_mut().filter(|state| state.next_due().is_some_and(|due| due <= now));
        let taken = due.take(count).map(|state| {
            // What is due by the clock was not caused by anybody.
            if state.due.is_some_and(|due| due > now) {
                state.caused = Some(now);
            }
            state.due = None;
            state.want.clone()
        });
        taken.collect()
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.sets.values().filter_map(State::next_due).min()
    }

    /// Each has been asked for once, with or without success.
    pub fn settled(&self) -> bool {
        self.sets.values().all(|state| state.came.is_some() || state.failures > 0)
    }

    /// Takes what a fetch has brought.
    pub fn answered(&mut self, id: &KeySetId, come: Result<Come, Fault>, now: Instant) {
        let Some(state) = self.sets.get_mut(id) else {
            return; // not wanted any more
        };
        match come {
            Ok(come) => state.came(come, now, (self.chance)()),
            Err(fault) => state.failed(fault, now, (self.chance)()),
        }
        state.published.refresh.done();
    }

    /// Of these, one for each address, those that are kept.
    pub fn published(&self, in_use: impl Iterator<Item = KeySetId>) -> HashMap<WebAddress, PublishedKeySet> {
        in_use
            .filter_map(|id| Some((self.sets.get(&id)?.published.clone(), id)))
            .map(|(published, id)| (id.address, published))
            .collect()
    }
}

impl State {
    fn new(want: &KeySetWant, now: Instant, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let published = PublishedKeySet::new(move || wake());
        let (want, body) = (want.clone(), Vec::new());
        Self { want, body, published, came: None, failures: 0, due: Some(now), caused: None }
    }

    /// Another configuration wants it more or less often, or as often.
    fn wanted(&mut self, want: &KeySetWant, now: Instant) {
        if self.want.time_to_live != want.time_to_live
            && self.failures == 0
            && let (Some(came), Some(due)) = (self.came, &mut self.due)
        {
            *due = (came + want.time_to_live.mul_f64(FRESH)).max(now);
        }
        self.want = want.clone();
    }

    /// Cores that ask have to wait until their pause is over, and while the server fails they do not count.
    fn next_due(&self) -> Option<Instant> {
        let due = self.due?;
        if self.failures > 0 || !self.published.refresh.is_asked() {
            return Some(due);
        }
        let paused_until = self.caused.map(|caused| caused + self.want.cool_down);
        Some(due.min(paused_until.or(self.came).unwrap_or(due)))
    }

    fn came(&mut self, come: Come, now: Instant, chance: f64) {
        self.count("ok");
        if self.published.set.is_none() || self.body != come.body {
            self.replace(come);
        }
        if self.published.fault.take().is_some() {
            tracing::info!(url = %self.want.address(), "the key set can be fetched again");
        }
        self.published.fetched_at = Some(SystemTime::now());
        (self.came, self.failures) = (Some(now), 0);
        self.due = Some(now + self.want.time_to_live.mul_f64(FRESH + SPREAD * chance));
    }

    fn replace(&mut self, Come { set, unusable, body }: Come) {
        let (url, keys) = (self.want.address().to_string(), set.len());
        tracing::info!(url, keys, "a key set has come");
        if !unusable.is_empty() {
            let (count, first) = (unusable.len(), unusable[..unusable.len().min(TOLD_MAX)].join("; "));
            tracing::warn!(url, count, "keys that cannot be used: {first}");
        }
        (self.published.set, self.body) = (Some(Arc::new(set)), body);
    }

    fn failed(&mut self, fault: Fault, now: Instant, chance: f64) {
        self.count(fault.reason);
        if self.published.fault.as_ref() != Some(&fault) {
            let Fault { reason, text } = &fault;
            let goes_on = if self.came.is_some() { "the one before stays in use" } else { "there is none yet" };
            tracing::warn!(url = %self.want.address(), reason, text, "a key set cannot be fetched; {goes_on}");
        }
        self.published.fault = Some(fault);
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        self.due = Some(now + pause.mul_f64(0.5 + 0.5 * chance));
    }

    fn count(&mut self, result: &'static str) {
        *self.published.fetches.entry(result).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::calls::{Destination, Ways};
    use crate::tls::{ClientContext, ClientSettings, Trust, suites::Version};

    const MINUTE: Duration = Duration::from_secs(60);

    fn want(url: &str, time_to_live: Duration) -> KeySetWant {
        let address = WebAddress::parse(url).expect("an address");
        KeySetWant {
            destination: Arc::new(Destination::new(address, &Arc::default())),
            timeout: MINUTE,
            time_to_live,
            cool_down: Duration::from_secs(30),
        }
    }

    fn wanted(wants: &[KeySetWant]) -> HashMap<KeySetId, KeySetWant> {
        wants.iter().map(|want| (want.id(), want.clone())).collect()
    }

    fn keys(kid: &str) -> Result<Come, Fault> {
        Come::read(
            // RFC 8037, appendix A.2.
            format!(
                r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{}"}}]}}"#,
                "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
            )
            .into_bytes(),
        )
    }

    fn away() -> Result<Come, Fault> {
        Err(Fault::new("connect_refused", "nobody is there"))
    }

    /// One set that is wanted, and the clock of a test that passes no time.
    struct Trying {
        sets: KeySets,
        want: KeySetWant,
        now: Instant,
        woken: Arc<AtomicU32>,
    }

    impl Trying {
        fn new(chance: Chance) -> Self {
            let woken = Arc::<AtomicU32>::default();
            let wake = woken.clone();
            let sets = KeySets::new(chance, Arc::new(move || _ = wake.fetch_add(1, Ordering::Relaxed)));
            let mut trying = Self { sets, want: want("https://a/keys", 10 * MINUTE), now: Instant::now(), woken };
            assert!(trying.sets.keep(&wanted(std::slice::from_ref(&trying.want)), trying.now));
            trying
        }

        /// Passes the time until something is due, and says how long that was.
        fn wait(&mut self) -> Duration {
            let due = self.sets.next_due().expect("something is due");
            let passed = due.saturating_duration_since(self.now);
            if !passed.is_zero() {
                assert!(self.sets.take_due(due - Duration::from_millis(1), 9).is_empty(), "nothing is due before");
            }
            self.now += passed;
            passed
        }

        /// A fetch from its start to its end.
        fn fetch(&mut self, come: Result<Come, Fault>) {
            assert_eq!(self.sets.take_due(self.now, 9), std::slice::from_ref(&self.want), "it is due");
            assert!(self.sets.take_due(self.now + MINUTE, 9).is_empty(), "one fetch at a time");
            self.sets.answered(&self.want.id(), come, self.now);
        }

        fn seen(&self) -> PublishedKeySet {
            self.sets.published([self.want.id()].into_iter()).remove(self.want.address()).expect("it is wanted")
        }
    }

    #[test]
    fn a_set_is_fetched_anew_before_its_time_is_over() {
        for (chance, after) in [((|| 0.0) as Chance, 480), (|| 1.0, 540)] {
            let mut trying = Trying::new(chance);
            assert!(!trying.sets.settled());
            trying.fetch(keys("a"));
            assert!(trying.sets.settled());
            assert_eq!(trying.wait(), Duration::from_secs(after));
            let before = trying.seen().set.expect("keys");
            trying.fetch(keys("a"));
            assert!(Arc::ptr_eq(&before, &trying.seen().set.expect("keys")), "the same bytes are the same set");
            trying.wait();
            trying.fetch(keys("b"));
            assert_eq!(trying.seen().set.expect("keys").find("a").len(), 0);
            assert_eq!(trying.seen().fetches, [("ok", 3)].into());
        }
    }

    #[test]
    fn a_server_that_is_away_is_asked_with_growing_pauses_and_its_keys_stay() {
        let mut trying = Trying::new(|| 1.0);
        trying.fetch(keys("a"));
        trying.wait();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            trying.fetch(away());
            assert_eq!(trying.seen().set.expect("the old ones").find("a").len(), 1);
            pauses.push(trying.wait().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        trying.fetch(Come::read(b"<html>".to_vec()));
        assert_eq!(trying.seen().fault.expect("a fault").reason, "not_a_key_set");
        trying.wait();
        trying.fetch(keys("b"));
        let seen = trying.seen();
        assert_eq!((seen.fault, seen.set.expect("keys").find("b").len()), (None, 1));
        assert_eq!(seen.fetches, [("ok", 2), ("connect_refused", 9), ("not_a_key_set", 1)].into());
        assert_eq!(trying.wait(), Duration::from_secs(540), "no pause is left over");
        // Chance takes up to half of a pause.
        let mut trying = Trying::new(|| 0.0);
        trying.fetch(away());
        assert!(trying.sets.settled() && trying.seen().set.is_none());
        assert_eq!(trying.wait(), Duration::from_millis(500));
    }

    #[test]
    fn cores_cause_one_fetch_for_each_pause() {
        let mut trying = Trying::new(|| 0.0);
        trying.fetch(keys("a"));
        let ask = |trying: &Trying| (0..1000).for_each(|_| trying.seen().refresh.ask());
        ask(&trying);
        assert_eq!(trying.wait(), Duration::ZERO, "the first at once: keys change when they like");
        trying.fetch(keys("a"));
        // What is asked for within the pause is done when it is over, however often it is asked for.
        for fetched in 2..5 {
            ask(&trying);
            assert_eq!(trying.wait(), Duration::from_secs(30));
            ask(&trying);
            trying.fetch(keys("b"));
            assert_eq!(trying.woken.load(Ordering::Relaxed), fetched);
        }
        assert_eq!(trying.wait(), Duration::from_secs(480), "nobody asks any more");
    }

    #[test]
    fn while_a_server_fails_nobody_makes_it_be_asked_more_often() {
        let mut trying = Trying::new(|| 1.0);
        trying.fetch(keys("a"));
        trying.wait();
        for pause in [1, 2, 4, 8] {
            trying.fetch(away());
            trying.seen().refresh.ask();
            assert_eq!(trying.wait(), Duration::from_secs(pause));
        }
    }

    #[test]
    fn what_was_fetched_over_calls_secured_in_another_way_does_not_count() {
        let mut trying = Trying::new(|| 1.0);
        trying.fetch(keys("a"));
        let before = trying.want.clone();
        for identity in 1..=2 {
            trying.want.destination = secured(&trying.want, identity);
            assert!(trying.sets.keep(&wanted(std::slice::from_ref(&trying.want)), trying.now));
            assert!(trying.seen().set.is_none() && !trying.sets.settled());
            assert_eq!(trying.wait(), Duration::ZERO, "it is fetched at once");
            trying.sets.answered(&before.id(), keys("a"), trying.now);
            assert!(trying.seen().set.is_none(), "one that was under way comes too late");
            trying.fetch(away());
            assert!(trying.seen().set.is_none());
            trying.wait();
            trying.fetch(keys("b"));
        }
        // The same settings read again are the same way.
        trying.want.destination = secured(&trying.want, 2);
        assert!(!trying.sets.keep(&wanted(std::slice::from_ref(&trying.want)), trying.now));
        assert!(trying.seen().set.is_some());
    }

    fn secured(want: &KeySetWant, identity: u64) -> Arc<Destination> {
        let secure = move |host: &str| {
            let settings = ClientSettings {
                trust: Trust::Nobody,
                certificate: None,
                alpn: Vec::new(),
                min: Version::Tls12,
                max: Version::Tls13,
                suites_12: None,
            };
            ClientContext::new(host, settings, identity)
        };
        let ways = Arc::new(Ways { secure: Some(Box::new(secure)), ..Ways::default() });
        Arc::new(Destination::new(want.address().clone(), &ways))
    }

    #[test]
    fn a_reload_keeps_what_is_wanted_still() {
        let mut trying = Trying::new(|| 0.0);
        trying.fetch(keys("a"));
        let (other, sooner) = (want("https://b/keys", MINUTE), want("https://a/keys", MINUTE));
        assert!(trying.sets.keep(&wanted(&[trying.want.clone(), other.clone()]), trying.now));
        assert!(!trying.sets.settled());
        assert_eq!(trying.sets.take_due(trying.now, 9), std::slice::from_ref(&other));
        assert!(trying.seen().set.is_some());
        // One that is not wanted any more when it comes.
        assert!(trying.sets.keep(&wanted(std::slice::from_ref(&trying.want)), trying.now));
        trying.sets.answered(&other.id(), keys("a"), trying.now);
        assert!(trying.sets.published([other.id()].into_iter()).is_empty());
        assert!(!trying.sets.keep(&wanted(std::slice::from_ref(&trying.want)), trying.now));
        // Its time may become another.
        assert!(!trying.sets.keep(&wanted(std::slice::from_ref(&sooner)), trying.now));
        trying.want = sooner;
        assert_eq!(trying.wait(), Duration::from_secs(48));
        assert!(trying.sets.keep(&HashMap::new(), trying.now));
        assert!(
            trying.sets.published([trying.want.id()].into_iter()).is_empty()
                && trying.sets.next_due().is_none()
                && trying.sets.settled()
        );
    }
}
