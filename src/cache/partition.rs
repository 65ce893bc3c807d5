//! One policy's part of the store: its entries by key, in the order in which they came, and who asks for which key.
//!
//! All cores share it. Its keys lie in shards, each behind a lock of its own; the order is behind another, which only what stores
//! and evicts takes.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    Millis,
    entry::Entry,
    shard::{Asks, Gone, Shard, Slot, Wake},
    shared::Shared,
    store::{Reserved, Space},
};

const SHARDS: usize = 64;
/// Counters of cores that are this far apart in number are one.
const CORES: usize = 32;
/// So long nobody waits for a key whose response could not be stored.
const FRUITLESS_MS: Millis = 10_000;

pub struct Partition {
    space: Arc<Space>,
    entries_max: usize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// First in, first out. What has gone otherwise may still stand here.
    order: Mutex<VecDeque<(Arc<[u8]>, u64)>>,
    sequence: AtomicU64,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    counts: Box<[CoreCounts]>,
    shared: OnceLock<Arc<Shared>>,
}

/// What one core counts, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub struct CoreCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    stores: AtomicU64,
    evictions: AtomicU64,
}

impl CoreCounts {
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }
}

/// A count of what a partition has done, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub stores: u64,
    pub evictions: u64,
    pub entries: u64,
    pub bytes: u64,
}

/// When a key was asked for: what is invalidated later is not stored over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64);

/// Whether one is the first to ask the upstream for a key.
pub enum Leading {
    Leads(Lead),
    /// Another does, and wakes this one when it knows.
    Follows,
    /// Nobody waits for anybody: what comes for the key cannot be stored.
    Alone,
}

/// The first to ask for a key, until it knows what comes: dropped, those that wait may look.
pub struct Lead {
    partition: Arc<Partition>,
    key: Arc<[u8]>,
    number: u64,
}

impl Lead {
    /// The head has come, and the body is on its way through to a client. One that is slow loses the lead to the next that asks.
    pub fn fills(&self, now: Millis) {
        self.partition.shard(&self.key).fills(&self.key, self.number, now);
    }
}

impl Partition {
    pub(super) fn new(space: Arc<Space>, entries_max: usize) -> Self {
        Self {
            space,
            entries_max,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            order: Mutex::default(),
            sequence: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            counts: (0..CORES).map(|_| CoreCounts::default()).collect(),
            shared: OnceLock::new(),
        }
    }

    /// The newest variant of a key that this holds for.
    pub fn find(&self, key: &[u8], fits: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        self.shard(key).find(key, fits)
    }

    pub fn stamp(&self, key: &[u8]) -> Stamp {
        Stamp(self.shard(key).stamp())
    }

    /// Whether so much has room at all, where everything else has gone.
    pub fn may_hold(&self, bytes: usize) -> bool {
        self.space.may_hold(bytes)
    }

    /// False: the key was invalidated since it was asked for, or there is no room.
    pub fn insert(&self, core: usize, key: &Arc<[u8]>, entry: Arc<Entry>, asked: Stamp) -> bool {
        let bytes = entry.bytes() + key.len();
        if !self.space.may_hold(bytes) {
            return false;
        }
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let gone = {
            let hash = self.hasher.hash_one(&**key);
            let mut shard = self.shard_of(hash);
            if shard.is_invalidated_since(hash, asked.0) {
                return false;
            }
            self.entries.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            shard.insert(key.clone(), Slot { entry, sequence, bytes })
        };
        self.space.take(bytes);
        self.account(gone);
        self.order().push_back((key.clone(), sequence));
        self.counts(core).stores.fetch_add(1, Ordering::Relaxed);
        while self.entries.load(Ordering::Relaxed) > self.entries_max && self.evict_oldest() {}
        self.space.make_room();
        self.compact();
        true
    }

    /// What replicas share of it; said once, by whoever knows.
    pub fn share(&self, shared: impl FnOnce() -> Shared) -> &Arc<Shared> {
        self.shared.get_or_init(|| Arc::new(shared()))
    }

    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.get()
    }

    /// Every variant of the key, on all replicas that share it.
    pub fn invalidate(&self, key: &[u8]) -> usize {
        self.shared().into_iter().for_each(|shared| shared.purge(Some(key)));
        self.invalidate_here(key)
    }

    /// Everything, on all replicas that share it.
    pub fn clear(&self) -> usize {
        self.shared().into_iter().for_each(|shared| shared.purge(None));
        self.clear_here()
    }

    /// Of this replica alone.
    pub fn invalidate_here(&self, key: &[u8]) -> usize {
        let hash = self.hasher.hash_one(key);
        let gone = self.shard_of(hash).invalidate(hash, key);
        self.account(gone);
        gone.entries
    }

    /// Of this replica alone.
    pub fn clear_here(&self) -> usize {
        let mut cleared = 0;
        for shard in &self.shards {
            let gone = locked(shard).clear();
            self.account(gone);
            cleared += gone.entries;
        }
        self.compact();
        cleared
    }

    /// Of this replica alone, every key that this holds for.
    pub fn invalidate_where(&self, goes: impl Fn(&[u8]) -> bool) {
        for shard in &self.shards {
            let keys = locked(shard).keys(&goes);
            keys.iter().for_each(|key| {
                self.invalidate_here(key);
            });
        }
    }

    /// The first to ask for a key asks the upstream; `wake` makes what ends the wait of any other, if it may wait.
    pub fn lead(self: &Arc<Self>, key: &Arc<[u8]>, now: Millis, wake: impl FnOnce() -> Option<Wake>) -> Leading {
        let hash = self.hasher.hash_one(&**key);
        let mut shard = self.shard_of(hash);
        if shard.is_fruitless(hash, now) {
            return Leading::Alone;
        }
        match shard.ask(key, now) {
            Asks::First(number) => Leading::Leads(Lead { partition: self.clone(), key: key.clone(), number }),
            Asks::Another(waiting) => match wake() {
                Some(wake) => {
                    waiting.push(wake);
                    Leading::Follows
                }
                None => Leading::Alone,
            },
        }
    }

    /// Nothing that comes for the key can be stored: for a while nobody waits for it.
    pub fn set_fruitless(&self, key: &Arc<[u8]>, now: Millis) {
        let hash = self.hasher.hash_one(&**key);
        self.shard_of(hash).set_fruitless(hash, now, now + FRUITLESS_MS);
    }

    /// Memory for a body that is still coming.
    pub fn reserve(&self) -> Reserved {
        Reserved::new(self.space.clone())
    }

    pub fn counts(&self, core: usize) -> &CoreCounts {
        &self.counts[core % CORES]
    }

    /// Of all cores.
    pub fn counted(&self) -> Counts {
        let sum =
            |of: fn(&CoreCounts) -> &AtomicU64| self.counts.iter().map(|core| of(core).load(Ordering::Relaxed)).sum();
        Counts {
            hits: sum(|core| &core.hits),
            misses: sum(|core| &core.misses),
            stores: sum(|core| &core.stores),
            evictions: sum(|core| &core.evictions),
            entries: self.entries.load(Ordering::Relaxed) as u64,
            bytes: self.bytes() as u64,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// False: there is none.
    pub(super) fn evict_oldest(&self) -> bool {
        loop {
            let Some((key, sequence)) = self.order().pop_front() else { return false };
            let gone = self.shard(&key).remove_one(&key, sequence);
            if gone.entries > 0 {
                self.account(gone);
                self.counts[0].evictions.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
    }

    /// Where most of the order is of what has gone, it is cut down to what is there.
    fn compact(&self) {
        const SLACK: usize = 1024;
        let mut order = self.order();
        if order.len() > 2 * self.entries.load(Ordering::Relaxed) + SLACK {
            order.retain(|(key, sequence)| self.shard(key).holds(key, *sequence));
        }
    }

    fn account(&self, gone: Gone) {
        self.entries.fetch_sub(gone.entries, Ordering::Relaxed);
        self.bytes.fetch_sub(gone.bytes, Ordering::Relaxed);
        self.space.give_back(gone.bytes);
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        self.shard_of(self.hasher.hash_one(key))
    }

    fn shard_of(&self, hash: u64) -> MutexGuard<'_, Shard> {
        locked(&self.shards[hash as usize % SHARDS])
    }

    fn order(&self) -> MutexGuard<'_, VecDeque<(Arc<[u8]>, u64)>> {
        locked(&self.order)
    }
}

/// Each change is whole before the lock is left; a panic elsewhere on that thread changes nothing of it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.space.give_back(self.bytes());
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let waiting = self.partition.shard(&self.key).answered(&self.key, self.number);
        waiting.into_iter().for_each(|wake| wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{
            Store,
            entry::{Asked, Rules},
            freshness::{Exchanged, Unsaid},
        },
        http::head::Fields,
    };

    fn entry(body: &str, vary: Option<&str>) -> Arc<Entry> {
        let (mut request, mut response) = (Fields::default(), Fields::default());
        if let Some(value) = vary {
            request.append(b"x", value.as_bytes());
            response.append(b"vary", b"x");
        }
        let at = Exchanged { asked: 0, answered: 0 };
        let asked = Asked { method: b"GET", fields: &request, forwarded: &request, authority: b"", at };
        let rules = Rules { ttl: 1000, heeds: true, unsaid: Unsaid::Ttl };
        let mut entry = Entry::begin(&asked, 200, &response, rules).expect("it may be stored");
        entry.body = Arc::new(body.as_bytes().to_vec());
        Arc::new(entry)
    }

    fn key(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn store(partition: &Partition, name: &str, entry: Arc<Entry>) -> bool {
        partition.insert(0, &key(name), entry, partition.stamp(name.as_bytes()))
    }

    fn there(partition: &Partition, names: &[&str]) -> String {
        let is_there = |name: &&&str| partition.find(name.as_bytes(), |_| true).is_some();
        names.iter().filter(is_there).copied().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_first_in_is_the_first_out_however_often_it_is_read() {
        let partition = Store::default().partition(1, 2);
        for name in ["a", "b"] {
            store(&partition, name, entry("x", None));
        }
        assert!(partition.find(b"a", |_| true).is_some());
        store(&partition, "c", entry("x", None));
        assert_eq!(there(&partition, &["a", "b", "c"]), "b c");
        // What is stored anew is new.
        store(&partition, "b", entry("y", None));
        store(&partition, "d", entry("x", None));
        assert_eq!(there(&partition, &["b", "c", "d"]), "b d");
        assert_eq!((partition.counted().entries, partition.counted().evictions), (2, 2));
    }

    #[test]
    fn variants_count_and_go_together() {
        let partition = Store::default().partition(1, 10);
        for value in ["1", "2", "1"] {
            store(&partition, "a", entry("x", Some(value)));
        }
        assert_eq!(partition.counted().entries, 2);
        for value in 0..100 {
            store(&partition, "b", entry("x", Some(&value.to_string())));
        }
        assert_eq!(partition.counted().entries, 10);
        assert_eq!(there(&partition, &["a", "b"]), "b");
        assert_eq!(partition.invalidate(b"b"), 10);
        assert_eq!(partition.counted(), Counts { stores: 103, evictions: 92, ..Counts::default() });
    }

    #[test]
    fn memory_is_bounded_and_the_largest_gives_way() {
        let store_of_all = Store::default();
        let (large, small) = (store_of_all.partition(1, 1000), store_of_all.partition(2, 1000));
        store(&small, "s", entry("x", None));
        for name in 0..10 {
            store(&large, &name.to_string(), entry(&"x".repeat(10_000), None));
        }
        store_of_all.set_bytes_max(50_000);
        assert!(store_of_all.bytes() <= 50_000 && store_of_all.bytes() > 30_000, "{}", store_of_all.bytes());
        assert_eq!(there(&small, &["s"]), "s");
        assert_eq!(there(&large, &["0", "9"]), "9");
        assert!(small.may_hold(50_000) && !small.may_hold(50_001));
        let mut reserved = large.reserve();
        assert!(reserved.grow_to(45_000) && !reserved.grow_to(60_000));
        assert_eq!(there(&large, &["9"]), "");
        drop((reserved, large, small));
        assert_eq!(store_of_all.bytes(), 0);
        assert!(store_of_all.known(1).is_none());
    }

    #[test]
    fn partitions_share_nothing_and_are_found_again() {
        let store_of_all = Store::default();
        let (one, other) = (store_of_all.partition(1, 10), store_of_all.partition(2, 10));
        store(&one, "a", entry("x", None));
        assert_eq!(there(&other, &["a"]), "");
        assert!(Arc::ptr_eq(&one, &store_of_all.partition(1, 10)));
    }

    #[test]
    fn what_was_asked_for_before_it_was_invalidated_is_not_stored() {
        let partition = Store::default().partition(1, 10);
        let asked = partition.stamp(b"a");
        partition.invalidate(b"a");
        assert!(!partition.insert(0, &key("a"), entry("old", None), asked));
        let asked = partition.stamp(b"a");
        partition.clear();
        assert!(!partition.insert(0, &key("a"), entry("old", None), asked));
        assert_eq!(partition.counted(), Counts::default());
        let asked = partition.stamp(b"a");
        (0..2000).for_each(|other: u32| drop_count(partition.invalidate(&other.to_ne_bytes())));
        assert!(partition.insert(0, &key("a"), entry("new", None), asked), "others are others");
        (0..200_000).for_each(|other: u32| drop_count(partition.invalidate(&other.to_ne_bytes())));
        assert!(!partition.insert(0, &key("a"), entry("new", None), asked), "nobody knows any more");
    }

    fn drop_count(_: usize) {}

    #[test]
    fn one_asks_and_the_others_are_woken() {
        let partition = Store::default().partition(1, 10);
        let woken = Arc::new(AtomicUsize::new(0));
        let wake = || -> Option<Wake> {
            let woken = woken.clone();
            Some(Box::new(move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }))
        };
        let Leading::Leads(lead) = partition.lead(&key("a"), 0, wake) else { panic!("nobody else asks") };
        assert!(matches!(partition.lead(&key("a"), 0, wake), Leading::Follows));
        assert!(matches!(partition.lead(&key("a"), 0, || None), Leading::Alone));
        assert!(matches!(partition.lead(&key("b"), 0, wake), Leading::Leads(_)));
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        drop(lead);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        // One whose client is slow loses it, and wakes nobody then.
        let Leading::Leads(slow) = partition.lead(&key("c"), 0, wake) else { panic!("nobody else asks") };
        slow.fills(100);
        assert!(matches!(partition.lead(&key("c"), 1099, wake), Leading::Follows));
        let Leading::Leads(next) = partition.lead(&key("c"), 1100, wake) else { panic!("the first is slow") };
        assert!(matches!(partition.lead(&key("c"), 5000, wake), Leading::Follows));
        drop(slow);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        drop(next);
        assert_eq!(woken.load(Ordering::Relaxed), 3);
        partition.set_fruitless(&key("a"), 0);
        assert!(matches!(partition.lead(&key("a"), 9_999, wake), Leading::Alone));
        assert!(matches!(partition.lead(&key("a"), 10_000, wake), Leading::Leads(_)));
    }

    #[test]
    fn the_order_does_not_grow_with_what_is_stored_anew() {
        let partition = Store::default().partition(1, 10);
        for _ in 0..5000 {
            store(&partition, "a", entry("x", None));
        }
        assert!(partition.order().len() < 2000);
    }
}
