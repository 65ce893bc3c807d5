//! Key sets by their address: which to fetch now, and what is published of them. Does no I/O.
//!
//! One that has come is used until the next has, however long its server is away: a token's issuer that cannot be reached must
//! not take the APIs with it. It is fetched anew before its time is over, after a failure with growing pauses, and when cores
//! meet keys that they do not know, which strangers can make them do: so that has a pause of its own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    config::{address::WebAddress, endpoints::Fault},
    policies::{
        jwt::key_set::KeySet,
        wants::{KeySetWant, PublishedKeySet, Refresh},
    },
};

/// After a failure: 1 s, doubling.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The part of its time after which a set is fetched anew, and the part up to which chance puts that off: replicas that started
/// together do not ask together.
const FRESH: f64 = 0.8;
const SPREAD: f64 = 0.1;

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
    sets: HashMap<WebAddress, State>,
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
    pub fn keep(&mut self, wanted: &HashMap<WebAddress, KeySetWant>, now: Instant) -> bool {
        let before = self.sets.len();
        self.sets.retain(|address, _| wanted.contains_key(address));
        let mut changed = self.sets.len() != before;
        for (address, want) in wanted {
            match self.sets.get_mut(address) {
                Some(state) => state.wanted(want, now),
                None => {
                    self.sets.insert(address.clone(), State::new(want, now, self.wake.clone()));
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
    pub fn answered(&mut self, address: &WebAddress, come: Result<Come, Fault>, now: Instant) {
        let Some(state) = self.sets.get_mut(address) else {
            return; // not wanted any more
        };
        match come {
            Ok(come) => state.came(come, now, (self.chance)()),
            Err(fault) => state.failed(fault, now, (self.chance)()),
        }
        state.published.refresh.done();
    }

    pub fn published(&self) -> HashMap<WebAddress, PublishedKeySet> {
        self.sets.iter().map(|(address, state)| (address.clone(), state.published.clone())).collect()
    }
}

impl State {
    fn new(want: &KeySetWant, now: Instant, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let published = PublishedKeySet {
            set: None,
            fetched_at: None,
            fault: None,
            fetches: BTreeMap::new(),
            refresh: Arc::new(Refresh::new(move || wake())),
        };
        let (want, body) = (want.clone(), Vec::new());
        Self { want, body, published, came: None, failures: 0, due: Some(now), caused: None }
    }

    /// Another configuration wants it in another way, or in the same.
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
            tracing::info!(url = %self.want.address, "the key set can be fetched again");
        }
        self.published.fetched_at = Some(SystemTime::now());
        (self.came, self.failures) = (Some(now), 0);
        self.due = Some(now + self.want.time_to_live.mul_f64(FRESH + SPREAD * chance));
    }

    fn replace(&mut self, Come { set, unusable, body }: Come) {
        let (url, keys) = (self.want.address.to_string(), set.len());
        tracing::info!(url, keys, "a key set has come");
        if !unusable.is_empty() {
            tracing::warn!(url, "keys that cannot be used: {}", unusable.join("; "));
        }
        (self.published.set, self.body) = (Some(Arc::new(set)), body);
    }

    fn failed(&mut self, fault: Fault, now: Instant, chance: f64) {
        self.count(fault.reason);
        if self.published.fault.as_ref() != Some(&fault) {
            let Fault { reason, text } = &fault;
            let goes_on = if self.came.is_some() { "the one before stays in use" } else { "there is none yet" };
            tracing::warn!(url = %self.want.address, reason, text, "a key set cannot be fetched; {goes_on}");
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
