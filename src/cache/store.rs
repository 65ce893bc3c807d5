//! The replica's store: one for all cores and policies, bounded in bytes. Each policy has a partition of its own.
//!
//! Where there is no more room, the partition that takes the most gives up its oldest entry: a policy that stores much cannot
//! push out all that another has.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::partition::Partition;
use crate::storage::Purged;

/// What it may take where nobody says.
pub const BYTES_MAX: usize = 256 << 20;

/// A handle; all clones are of one store.
#[derive(Clone)]
pub struct Store(Arc<Space>);

impl Default for Store {
    fn default() -> Self {
        Self(Arc::new(Space {
            bytes: AtomicUsize::new(0),
            max: AtomicUsize::new(BYTES_MAX),
            partitions: Mutex::default(),
        }))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Store {
    /// The partition of a policy, by what it is known by over reloads: as long as anybody holds it, it is the same one.
    pub fn partition(&self, identity: u64, entries_max: usize) -> Arc<Partition> {
        let mut partitions = self.0.lock();
        if let Some(known) = partitions.get(&identity).and_then(Weak::upgrade) {
            return known;
        }
        partitions.retain(|_, partition| partition.strong_count() > 0);
        let new = Arc::new(Partition::new(self.0.clone(), entries_max));
        partitions.insert(identity, Arc::downgrade(&new));
        new
    }

    /// The same, where it is there already.
    pub fn known(&self, identity: u64) -> Option<Arc<Partition>> {
        self.0.lock().get(&identity).and_then(Weak::upgrade)
    }

    /// What other replicas have purged goes here too.
    pub fn hear(&self, purged: &Purged) {
        let partitions: Vec<_> = self.0.lock().values().filter_map(Weak::upgrade).collect();
        for partition in partitions {
            if let Some(shared) = partition.shared() {
                shared.hear(purged, &partition);
            }
        }
    }

    /// From here on it takes no more than this.
    pub fn set_bytes_max(&self, max: usize) {
        self.0.max.store(max, Ordering::Relaxed);
        self.0.make_room();
    }

    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

/// What all partitions share: the memory.
pub(super) struct Space {
    bytes: AtomicUsize,
    max: AtomicUsize,
    partitions: Mutex<BTreeMap<u64, Weak<Partition>>>,
}

impl Space {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Weak<Partition>>> {
        // A map of handles is whole, whoever panicked.
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn may_hold(&self, bytes: usize) -> bool {
        bytes <= self.max.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Lets the oldest entries go until there is room; false: there is none even without them.
    pub(super) fn make_room(&self) -> bool {
        while self.bytes.load(Ordering::Relaxed) > self.max.load(Ordering::Relaxed) {
            // Upgraded behind the lock: the last holder of a partition takes it to say that it is gone.
            let partitions: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
            let largest = partitions.iter().max_by_key(|partition| partition.bytes());
            if !largest.is_some_and(|largest| largest.evict_oldest()) {
                return false;
            }
        }
        true
    }
}

/// Memory for a body that is still coming; given back when this is dropped.
pub struct Reserved {
    space: Arc<Space>,
    bytes: usize,
}

impl Reserved {
    pub(super) fn new(space: Arc<Space>) -> Self {
        Self { space, bytes: 0 }
    }

    /// False: there is no room for so much, and nothing more was taken.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        self.space.take(more);
        self.bytes += more;
        if self.space.make_room() {
            return true;
        }
        self.space.give_back(more);
        self.bytes -= more;
        false
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.space.give_back(self.bytes);
    }
}
