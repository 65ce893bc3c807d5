//! One question at a time for all who have the same, and what was learned from it: for a replica, and bounded.
//!
//! Who comes first asks; who comes meanwhile waits for that answer. The lead that settles it goes along with the call, and to
//! drop it is to wake everybody empty-handed: nobody waits for a question that nobody asks.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::known::{Key, Known};

/// Called, on any thread, when there is something to look at; dropped where nobody will call it.
pub type Wake = Box<dyn FnOnce() + Send>;

/// Locks that cores spread over, at most.
const SHARDS_MAX: usize = 16;
/// Of fewer answers there is one lock, and as many of them as was said.
const SHARD_ANSWERS_MIN: usize = 4096;

/// Answers of one policy.
pub struct Flights<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    under_way: AtomicUsize,
    under_way_max: usize,
}

struct Shard<V> {
    known: Known<V>,
    /// Answers that whoever likes can bring about: they take no room of the others.
    refused: Known<V>,
    under_way: HashMap<Key, Arc<Flight<V>>>,
}

struct Flight<V> {
    /// `None` inside: there is no answer.
    outcome: OnceLock<Option<V>>,
    waiting: Mutex<Vec<Wake>>,
}

/// What there is at once.
pub enum Look<V> {
    Known(V),
    /// Whoever gets it asks, and waits as the others do.
    Asks(Lead<V>, Waits<V>),
    Waits(Waits<V>),
    /// Too many questions are under way, or nobody more can wait.
    Full,
}

/// The answer that somebody waits for.
pub struct Waits<V>(Arc<Flight<V>>);

/// How it stands with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands<V> {
    Coming,
    Here(V),
    /// Nobody asks any more.
    Lost,
}

/// The right and the duty to settle a question.
pub struct Lead<V> {
    flights: Arc<Flights<V>>,
    key: Key,
    flight: Arc<Flight<V>>,
}

impl<V: Clone + Send> Flights<V> {
    /// Keeps at most so many answers, and has at most so many questions under way.
    pub fn new(known_max: usize, under_way_max: usize) -> Arc<Self> {
        Self::with_refused(known_max, 0, under_way_max)
    }

    /// And so many of those that were [refused](Lead::settle_refused).
    pub fn with_refused(known_max: usize, refused_max: usize, under_way_max: usize) -> Arc<Self> {
        let count = (known_max / SHARD_ANSWERS_MIN).clamp(1, SHARDS_MAX);
        let shard = || Shard {
            known: Known::new(known_max.div_ceil(count)),
            refused: Known::new(refused_max.div_ceil(count)),
            under_way: HashMap::new(),
        };
        let shards = (0..count).map(|_| Mutex::new(shard())).collect();
        Arc::new(Self { shards, under_way: AtomicUsize::new(0), under_way_max })
    }

    /// `bell` makes what wakes whoever asks here, where something is still to come; without one it is as if there were no room.
    pub fn look(self: &Arc<Self>, key: &Key, now: Instant, bell: impl FnOnce() -> Option<Wake>) -> Look<V> {
        let mut shard = self.shard(key);
        if let Some(value) = shard.answer(key, now) {
            return Look::Known(value);
        }
        if let Some(flight) = shard.under_way.get(key).cloned() {
            let Some(wake) = bell() else { return Look::Full };
            flight.waiting().push(wake);
            return Look::Waits(Waits(flight));
        }
        if self.is_full() {
            return Look::Full;
        }
        let Some(wake) = bell() else { return Look::Full };
        let lead = self.begin(&mut shard, key);
        lead.flight.waiting().push(wake);
        let waits = Waits(lead.flight.clone());
        Look::Asks(lead, waits)
    }

    /// For whoever asks ahead of time and waits for nothing; `None` where it is asked already, or there is no room.
    pub fn lead(self: &Arc<Self>, key: &Key) -> Option<Lead<V>> {
        let mut shard = self.shard(key);
        let is_free = !shard.under_way.contains_key(key) && !self.is_full();
        is_free.then(|| self.begin(&mut shard, key))
    }

    fn begin(self: &Arc<Self>, shard: &mut Shard<V>, key: &Key) -> Lead<V> {
        let flight = Arc::new(Flight { outcome: OnceLock::new(), waiting: Mutex::default() });
        shard.under_way.insert(*key, flight.clone());
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Lead { flights: self.clone(), key: *key, flight }
    }
}

impl<V> Flights<V> {
    fn is_full(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) >= self.under_way_max
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<V>> {
        self.shards[usize::from(key[0]) % self.shards.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Shard<V> {
    fn answer(&mut self, key: &Key, now: Instant) -> Option<V> {
        let Self { known, refused, .. } = self;
        known.find(key, now).or_else(|| refused.find(key, now)).cloned()
    }
}

impl<V> Flight<V> {
    fn waiting(&self) -> MutexGuard<'_, Vec<Wake>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Waits<V> {
    pub fn stands(&self) -> Stands<V> {
        match self.0.outcome.get() {
            None => Stands::Coming,
            Some(Some(value)) => Stands::Here(value.clone()),
            Some(None) => Stands::Lost,
        }
    }
}

impl<V: Clone> Lead<V> {
    /// Tells everybody who waits. Who comes later is told the same up to `until`.
    pub fn settle(self, value: V, until: Option<Instant>) {
        if let Some(until) = until {
            self.flights.shard(&self.key).known.keep(self.key, value.clone(), until);
        }
        self.tell(value);
    }

    /// The same with an answer that is kept apart, so that a flood of such pushes no other out.
    pub fn settle_refused(self, value: V, until: Option<Instant>) {
        if let Some(until) = until {
            self.flights.shard(&self.key).refused.keep(self.key, value.clone(), until);
        }
        self.tell(value);
    }

    fn tell(self, value: V) {
        // Nobody else settles it.
        let _ = self.flight.outcome.set(Some(value));
    }
}

/// Ends the flight, and wakes whoever waits for it.
impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        self.flights.shard(&self.key).under_way.remove(&self.key);
        self.flights.under_way.fetch_sub(1, Ordering::Relaxed);
        let _ = self.flight.outcome.set(None);
        let waiting = std::mem::take(&mut *self.flight.waiting());
        waiting.into_iter().for_each(|wake| wake());
    }
}

impl<V> fmt::Debug for Flights<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flights({} under way)", self.under_way.load(Ordering::Relaxed))
    }
}

impl<V> fmt::Debug for Lead<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lead")
    }
}

impl<V> fmt::Debug for Waits<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(number: u64) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key[0] = number as u8;
        key
    }

    fn silent() -> Option<Wake> {
        Some(Box::new(|| ()))
    }

    #[test]
    fn one_asks_and_the_others_have_its_answer() {
        let flights = Flights::new(16, 16);
        let (now, rung) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let bell = || {
            let rung = rung.clone();
            Some(Box::new(move || _ = rung.fetch_add(1, Ordering::Relaxed)) as Wake)
        };
        for until in [None, Some(now + Duration::from_secs(1))] {
            rung.store(0, Ordering::Relaxed);
            let Look::Asks(lead, first) = flights.look(&key(1), now, bell) else { panic!("nobody has asked") };
            let Look::Waits(second) = flights.look(&key(1), now, bell) else { panic!("somebody asks") };
            assert!(matches!(flights.look(&key(1), now, || None), Look::Full));
            assert!(flights.lead(&key(1)).is_none());
            assert_eq!((first.stands(), rung.load(Ordering::Relaxed)), (Stands::Coming, 0));
            lead.settle("v", until);
            assert_eq!((first.stands(), second.stands()), (Stands::Here("v"), Stands::Here("v")));
            assert_eq!(rung.load(Ordering::Relaxed), 2);
            assert_eq!(matches!(flights.look(&key(1), now, silent), Look::Known("v")), until.is_some());
        }
        let over = now + Duration::from_secs(1);
        assert!(matches!(flights.look(&key(1), over, silent), Look::Asks(..)));
    }

    #[test]
    fn a_lead_that_is_dropped_leaves_nobody_waiting() {
        let flights = Flights::<u8>::new(16, 16);
        let now = Instant::now();
        let Look::Asks(lead, waits) = flights.look(&key(1), now, silent) else { panic!("nobody has asked") };
        drop(lead);
        assert_eq!(waits.stands(), Stands::Lost);
        assert!(matches!(flights.look(&key(1), now, silent), Look::Asks(..)), "the next one asks again");
    }

    #[test]
    fn questions_and_answers_are_bounded_and_the_oldest_go() {
        let flights = Flights::with_refused(2, 3, 3);
        let (now, long) = (Instant::now(), Some(Instant::now() + Duration::from_secs(60)));
        let leads: Vec<_> = (0..3).filter_map(|number| flights.lead(&key(number))).collect();
        assert_eq!(leads.len(), 3);
        assert!(matches!(flights.look(&key(9), now, silent), Look::Full) && flights.lead(&key(9)).is_none());
        drop(leads);
        // One of them again and again.
        for number in (0..100).flat_map(|number| [0, number]) {
            flights.lead(&key(number)).expect("there is room").settle(number, long);
            flights.lead(&key(1000 + number)).expect("there is room").settle_refused(number, long);
        }
        let known = |from: u64| {
            let is_known = |number: &u64| matches!(flights.look(&key(from + number), now, || None), Look::Known(_));
            (0..100).filter(is_known).collect::<Vec<_>>()
        };
        assert_eq!((known(0), known(1000)), (vec![0, 99], vec![0, 98, 99]));
    }

    #[test]
    fn of_many_answers_there_are_several_locks() {
        let flights = Flights::new(SHARDS_MAX * SHARD_ANSWERS_MIN, 1);
        let until = Some(Instant::now() + Duration::from_secs(60));
        for number in 0..1000 {
            flights.lead(&key(number)).expect("there is room").settle(number, until);
        }
        assert_eq!(flights.shards.len(), SHARDS_MAX);
        let is_known =
            |number| matches!(flights.look(&key(number), Instant::now(), || None), Look::Known(n) if n == number);
        assert!((0..1000).all(is_known));
    }
}
