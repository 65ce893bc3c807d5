//! One replica's accounts: every key that has an open window, found by its name.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{Limiter, Tick, entry::Entry, name};

/// Cores that look for different keys seldom meet at one lock.
const SHARDS: usize = 64;

/// Who needs room looks at so many keys for one that is idle.
const LOOKED_AT_FOR_ROOM: usize = 32;

/// A sweep looks at so many keys of each shard.
const LOOKED_AT_BY_SWEEP: usize = 64;

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

/// What has happened since the start, and how many keys there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub keys: u64,
    /// Spent requests of keys without room, from the window that such keys share.
    pub without_room: u64,
}

pub struct Ledger {
    cores: u64,
    keys_max: usize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    keys: AtomicUsize,
    without_room: AtomicU64,
}

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
    pub fn new(cores: usize, keys_max: usize, _ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            cores: cores.max(1) as u64,
            keys_max,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            keys: AtomicUsize::new(0),
            without_room: AtomicU64::new(0),
        }
    }

    /// How the storage does.
    pub fn storage(&self, _state: Storage, _now: Tick) {}

    /// Every 50 ms: forgets keys that nobody would miss.
    pub fn sweep(&self, now: Tick) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            for _ in 0..LOOKED_AT_BY_SWEEP.min(shard.ring.len()) {
                self.forget_next_if_idle(&mut shard, now);
            }
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            keys: self.keys.load(Ordering::Relaxed) as u64,
            without_room: self.without_room.load(Ordering::Relaxed),
        }
    }

    pub(super) fn cores(&self) -> u64 {
        self.cores
    }

    /// The key of this name, a new one where there is room. Without room the name becomes that of the window which all such
    /// keys of the limiter share: to forget an open window would admit its requests twice, and whoever makes up keys could
    /// have any window forgotten. So a flood of keys can take quota from other *new* keys, and never add any.
    pub(super) fn find(&self, name: &mut Vec<u8>, limiter: &Arc<Limiter>, now: Tick) -> Arc<Entry> {
        {
            let mut shard = self.shard(name);
            if let Some(found) = shard.find(name) {
                return found;
            }
            if self.has_room(&mut shard, now) {
                return self.insert(&mut shard, name, limiter);
            }
        }
        self.without_room.fetch_add(1, Ordering::Relaxed);
        name::overflow(name);
        let mut shard = self.shard(name);
        shard.find(name).unwrap_or_else(|| self.insert(&mut shard, name, limiter))
    }

    fn shard(&self, name: &[u8]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(name) as usize % self.shards.len()])
    }

    fn has_room(&self, shard: &mut Shard, now: Tick) -> bool {
        let is_full = || self.keys.load(Ordering::Relaxed) >= self.keys_max;
        let mut looked_at = 0;
        while is_full() && looked_at < LOOKED_AT_FOR_ROOM.min(shard.ring.len()) {
            looked_at += 1;
            self.forget_next_if_idle(shard, now);
        }
        !is_full()
    }

    fn insert(&self, shard: &mut Shard, name: &[u8], limiter: &Arc<Limiter>) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(name.into(), limiter.clone()));
        shard.places.insert(entry.name.clone(), shard.ring.len());
        shard.ring.push(entry.clone());
        self.keys.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// Moves the hand on, past a key that is in use or over one that nobody would miss.
    fn forget_next_if_idle(&self, shard: &mut Shard, now: Tick) {
        if shard.hand >= shard.ring.len() {
            shard.hand = 0;
        }
        let entry = shard.ring[shard.hand].clone();
        let mut state = entry.lock();
        if !state.is_idle(now) {
            shard.hand += 1;
            return;
        }
        state.forget();
        shard.places.remove(&entry.name);
        shard.ring.swap_remove(shard.hand);
        if let Some(moved) = shard.ring.get(shard.hand) {
            shard.places.insert(moved.name.clone(), shard.hand);
        }
        self.keys.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shard {
    fn find(&self, name: &[u8]) -> Option<Arc<Entry>> {
        self.places.get(name).map(|place| self.ring[*place].clone())
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().expect("nobody panics with a shard in hand")
}
