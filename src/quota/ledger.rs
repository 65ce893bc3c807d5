//! One replica's accounts: every key that has an open window, found by its name.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    Answer, Limiter, Lost, Question, Tick, Wake,
    entry::{Entry, Errands, Spending, Spent, State},
    lease::{Margin, Sent},
    name,
};

/// Cores that look for different keys seldom meet at one lock.
const SHARDS: usize = 64;

/// Who needs room looks at so many keys for one that is idle.
const LOOKED_AT_FOR_ROOM: usize = 32;

/// A sweep looks at so many keys of each shard.
const LOOKED_AT_BY_SWEEP: usize = 64;

/// Between sweeps, at most and at least.
const SWEEP_US: u64 = 50_000;
const SWEEP_US_MIN: u64 = 2000;

/// The storage that replicas share, as far as a replica knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// None is configured: each replica counts for itself.
    #[default]
    None,
    /// It does not answer; so many replicas were there when it last did.
    Away {
        replicas: u64,
    },
    Here {
        replicas: u64,
    },
}

/// The storage, and how often it has gone away: two that are equal are of the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub state: Storage,
    pub switches: u64,
}

impl Known {
    const REPLICAS_BITS: u32 = 22;

    /// In one word: kind, replicas, switches.
    fn pack(self) -> u64 {
        let (kind, replicas) = match self.state {
            Storage::None => (0, 0),
            Storage::Away { replicas } => (1, replicas),
            Storage::Here { replicas } => (2, replicas),
        };
        kind | replicas.min((1 << Self::REPLICAS_BITS) - 1) << 2 | self.switches << (Self::REPLICAS_BITS + 2)
    }

    fn unpack(word: u64) -> Self {
        let replicas = (word >> 2) & ((1 << Self::REPLICAS_BITS) - 1);
        let state = match word & 3 {
            0 => Storage::None,
            1 => Storage::Away { replicas },
            _ => Storage::Here { replicas },
        };
        Self { state, switches: word >> (Self::REPLICAS_BITS + 2) }
    }
}

/// A question that has been taken: its answer comes with it.
pub struct Ticket {
    entry: Arc<Entry>,
    sent: Sent,
}

/// What has happened since the start, and how many keys there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub keys: u64,
    /// How often a core came with a key that there was no room for; it spent from the window that such keys share.
    pub without_room: u64,
    /// Keys that were forgotten before their windows had ended, as the authority counts them.
    pub forgotten_early: u64,
    /// Questions to the authority.
    pub questions: u64,
    /// Of those had no answer.
    pub lost: u64,
    /// Answers that came when nobody waited for them any more.
    pub late: u64,
    /// Requests that were decided without an answer, as none came in time.
    pub unanswered: u64,
}

#[derive(Default)]
struct Counters {
    keys: AtomicUsize,
    without_room: AtomicU64,
    forgotten_early: AtomicU64,
    questions: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
    unanswered: AtomicU64,
}

pub struct Ledger {
    cores: u64,
    keys_max: AtomicUsize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    margin: Margin,
    ring: Box<dyn Fn() + Send + Sync>,
    /// [`Known`], packed.
    storage: Alone,
    counters: Counters,
    /// The number of the last question.
    sequence: AtomicU64,
    /// Keys that have questions.
    queue: Mutex<VecDeque<Arc<Entry>>>,
    /// Keys that have leases, or that somebody waits for, and when to look after each.
    watched: Mutex<Vec<(Tick, Arc<Entry>)>>,
    /// When keys were last looked at that may be forgotten.
    forgot_at: AtomicU64,
}

/// In a cache line of its own: cores look at it with each request, and it seldom changes.
#[derive(Default)]
#[repr(align(64))]
struct Alone(AtomicU64);

/// Keys by name, and in a ring that a hand goes round.
#[derive(Default)]
struct Shard {
    places: HashMap<Arc<[u8]>, usize>,
    ring: Vec<Arc<Entry>>,
    hand: usize,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("cores", &self.cores).field("keys_max", &self.keys_max).finish_non_exhaustive()
    }
}

impl Ledger {
    /// For so many cores and keys. `ring` is called when there are questions to be taken; it must not call back.
    pub fn new(cores: usize, keys_max: usize, ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with(cores, keys_max, SHARDS, Margin::STATED, ring)
    }

    pub(super) fn with(
        cores: usize,
        keys_max: usize,
        shards: usize,
        margin: Margin,
        ring: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            cores: cores.max(1) as u64,
            keys_max: AtomicUsize::new(keys_max),
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            margin,
            ring: Box::new(ring),
            storage: Alone::default(),
            forgot_at: AtomicU64::new(0),
            counters: Counters::default(),
            sequence: AtomicU64::new(0),
            queue: Mutex::default(),
            watched: Mutex::default(),
        }
    }

    /// Keys that have been taken up stay, however few there may be from now on.
    pub fn set_keys_max(&self, keys_max: usize) {
        self.keys_max.store(keys_max, Ordering::Relaxed);
    }

    /// Takes up to `max` questions, to be sent to the authority. Each ticket comes back by [`Ledger::answered`]; one that has not
    /// done so in [`super::WAIT_MAX_US`] is not waited for.
    pub fn questions(&self, now: Tick, max: usize) -> Vec<(Ticket, Question)> {
        let Storage::Here { replicas } = self.known().state else { return Vec::new() };
        let mut questions = Vec::new();
        while questions.len() < max {
            let Some(entry) = lock(&self.queue).pop_front() else { break };
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
            let Some(question) = entry.lock().question(&entry.name, sequence, replicas, now) else { continue };
            let Question { need, want, .. } = question;
            let sent = Sent { sequence, limits: question.limits.clone(), need, want };
            questions.push((Ticket { entry, sent }, question));
        }
        self.counters.questions.fetch_add(questions.len() as u64, Ordering::Relaxed);
        questions
    }

    /// `sent_at`: a time before the question was sent. The lease is counted from then.
    pub fn answered(&self, ticket: Ticket, sent_at: Tick, answer: Result<Answer, Lost>, now: Tick) {
        if answer.is_err() {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
        let Ticket { entry, sent } = ticket;
        let mut errands = Errands::default();
        if !entry.lock().answered(&sent, sent_at, answer, now, self.margin, &mut errands) {
            self.counters.late.fetch_add(1, Ordering::Relaxed);
        }
        self.run(&entry, errands);
    }

    /// How the storage does. When it goes, whoever waits for it looks again.
    pub fn storage(&self, state: Storage, now: Tick) {
        let changed = |word| {
            let known = Known::unpack(word);
            let goes = matches!(state, Storage::Away { .. }) && !matches!(known.state, Storage::Away { .. });
            Some(Known { state, switches: known.switches + u64::from(goes) }.pack())
        };
        let before = self.storage.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed);
        if before.is_ok_and(|before| Known::unpack(before).state != state) {
            self.tend(now, true);
        }
    }

    /// Every 50 ms: returns leases that nobody needs, and forgets keys that nobody would miss. Returns when it is worth to do
    /// so again, which for short windows may be earlier.
    pub fn sweep(&self, now: Tick) -> Tick {
        let due = self.tend(now, false);
        if now.since(Tick(self.forgot_at.load(Ordering::Relaxed))) >= SWEEP_US {
            self.forgot_at.store(now.0, Ordering::Relaxed);
            self.shards.iter().for_each(|shard| self.forget_idle(&mut lock(shard), now));
        }
        due.clamp(now.after(SWEEP_US_MIN), now.after(SWEEP_US))
    }

    fn forget_idle(&self, shard: &mut Shard, now: Tick) {
        for _ in 0..LOOKED_AT_BY_SWEEP.min(shard.ring.len()) {
            self.forget_next_if(shard, now, |state| state.is_idle(now));
        }
    }

    /// Looks after leases and those who wait, where it is time to do so, or after `all`. Returns when to do so again.
    fn tend(&self, now: Tick, all: bool) -> Tick {
        let watched = std::mem::take(&mut *lock(&self.watched));
        let mut kept = Vec::with_capacity(watched.len());
        for (due, entry) in watched {
            if due > now && !all {
                kept.push((due, entry));
                continue;
            }
            let mut errands = Errands::default();
            let due = entry.lock().tend(self.known(), now, &mut errands);
            self.run(&entry, errands);
            kept.extend(due.map(|due| (due, entry)));
        }
        let next = kept.iter().map(|(due, _)| *due).min().unwrap_or(Tick(u64::MAX));
        lock(&self.watched).append(&mut kept);
        next
    }

    pub fn counts(&self) -> Counts {
        let Counters { keys, without_room, forgotten_early, questions, lost, late, unanswered } = &self.counters;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            keys: keys.load(Ordering::Relaxed) as u64,
            without_room: read(without_room),
            forgotten_early: read(forgotten_early),
            questions: read(questions),
            lost: read(lost),
            late: read(late),
            unanswered: read(unanswered),
        }
    }

    pub(super) fn cores(&self) -> u64 {
        self.cores
    }

    /// How the storage does. When that changes, what cores know is of no use.
    pub(super) fn known(&self) -> Known {
        Known::unpack(self.storage.0.load(Ordering::Acquire))
    }

    /// Spends from a key what the core has no balance for.
    pub(super) fn spend(
        &self,
        entry: &Arc<Entry>,
        spending: &Spending<'_>,
        bell: impl FnOnce() -> Option<Wake>,
    ) -> Spent {
        let mut errands = Errands::default();
        let spent = entry.lock().spend(spending, &mut errands, bell);
        if errands.unanswered {
            self.counters.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        self.run(entry, errands);
        spent
    }

    /// Does what a key has to have done, when it is out of hand.
    fn run(&self, entry: &Arc<Entry>, errands: Errands) {
        if errands.watch {
            lock(&self.watched).push((Tick(0), entry.clone()));
        }
        if errands.ask {
            lock(&self.queue).push_back(entry.clone());
            (self.ring)();
        }
        errands.wakes.into_iter().for_each(|wake| wake());
    }

    /// The key of this name, a new one where there is room. Without room the name becomes that of the window which all such
    /// keys of the limiter share: to forget an open window would admit its requests twice, and whoever makes up keys could
    /// have any window forgotten. So a flood of keys can take quota from other *new* keys, and never add any. While that window
    /// is open no key of the limiter gets one of its own, since it may have spent from the shared one.
    ///
    /// (One that has, and got its own while the storage was there for a moment, has its share twice when it is away again.)
    ///
    /// Where the authority counts, a key makes room for any new one that nobody waits for, and those that somebody waits for
    /// are as few as may wait. Each shard may have one more than there is room for, as it looks no further than itself.
    pub(super) fn find(&self, name: &mut Vec<u8>, limiter: &Arc<Limiter>, now: Tick) -> Arc<Entry> {
        let counts_elsewhere = limiter.shared && matches!(self.known().state, Storage::Here { .. });
        {
            let mut shard = self.shard(name);
            if let Some(found) = shard.find(name) {
                return found;
            }
            if counts_elsewhere {
                self.make_room_for_one(&mut shard, now);
                return self.insert(&mut shard, name, limiter);
            }
        }
        let mut shared = name.clone();
        name::overflow(&mut shared);
        let has_been_full = self.counters.without_room.load(Ordering::Relaxed) > 0;
        if !has_been_full || !self.is_open(&shared, now) {
            let mut shard = self.shard(name);
            if let Some(found) = shard.find(name) {
                return found;
            }
            if self.make_room_for_one(&mut shard, now) {
                return self.insert(&mut shard, name, limiter);
            }
        }
        self.counters.without_room.fetch_add(1, Ordering::Relaxed);
        *name = shared;
        let mut shard = self.shard(name);
        let found = shard.find(name);
        found.unwrap_or_else(|| self.insert(&mut shard, name, limiter))
    }

    /// Whether this key has a window open.
    fn is_open(&self, name: &[u8], now: Tick) -> bool {
        let found = self.shard(name).find(name);
        found.is_some_and(|entry| !entry.lock().is_idle(now))
    }

    fn shard(&self, name: &[u8]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(name) as usize % self.shards.len()])
    }

    /// `false` where it finds none that may go.
    fn make_room_for_one(&self, shard: &mut Shard, now: Tick) -> bool {
        let counts_elsewhere = matches!(self.known().state, Storage::Here { .. });
        let has_room = self.make_room(shard, now, |state| state.is_idle(now));
        has_room || counts_elsewhere && self.make_room(shard, now, |state| state.is_counted_elsewhere(now))
    }

    fn make_room(&self, shard: &mut Shard, now: Tick, may_go: impl Fn(&State) -> bool) -> bool {
        let is_full = || self.counters.keys.load(Ordering::Relaxed) >= self.keys_max.load(Ordering::Relaxed);
        let mut looked_at = 0;
        while is_full() && looked_at < LOOKED_AT_FOR_ROOM.min(shard.ring.len()) {
            looked_at += 1;
            self.forget_next_if(shard, now, &may_go);
        }
        !is_full()
    }

    fn insert(&self, shard: &mut Shard, name: &[u8], limiter: &Arc<Limiter>) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(name.into(), limiter.clone()));
        shard.places.insert(entry.name.clone(), shard.ring.len());
        shard.ring.push(entry.clone());
        self.counters.keys.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// Moves the hand on, past a key that stays, or forgets the one that it is at.
    fn forget_next_if(&self, shard: &mut Shard, now: Tick, may_go: impl Fn(&State) -> bool) {
        if shard.hand >= shard.ring.len() {
            shard.hand = 0;
        }
        let entry = shard.ring[shard.hand].clone();
        let mut state = entry.lock();
        if !may_go(&state) {
            shard.hand += 1;
            return;
        }
        let early = u64::from(!state.is_idle(now));
        self.counters.forgotten_early.fetch_add(early, Ordering::Relaxed);
        state.forget();
        shard.places.remove(&entry.name);
        shard.ring.swap_remove(shard.hand);
        if let Some(moved) = shard.ring.get(shard.hand) {
            shard.places.insert(moved.name.clone(), shard.hand);
        }
        self.counters.keys.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shard {
    fn find(&self, name: &[u8]) -> Option<Arc<Entry>> {
        self.places.get(name).map(|place| self.ring[*place].clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it in hand")
}
