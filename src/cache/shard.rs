//! A part of a partition, behind one lock that is held for a look-up or a change and never longer.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    sync::Arc,
};

use super::{Millis, entry::Entry};

/// Variants of one key; the oldest goes first.
const VARIANTS_MAX: usize = 64;
/// Keys that are remembered as invalidated.
const RECENT_MAX: usize = 1024;
/// Keys that are remembered as bringing nothing to store.
const FRUITLESS_MAX: usize = 1024;

/// A body that takes longer is given to a client that is slow, or comes from an upstream that is: others do not wait for that.
const FILLING_MS_MAX: Millis = 1000;

/// Ends somebody's wait, on whatever core.
pub type Wake = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Shard {
    entries: HashMap<Arc<[u8]>, Vec<Slot>>,
    /// Keys that somebody asks the upstream for.
    asked: HashMap<Arc<[u8]>, Asking>,
    /// Of the next that asks for one: none is given twice.
    next: u64,
    /// Keys whose last response could not be stored, by their hashes, until when they are not waited for.
    fruitless: HashMap<u64, Millis>,
    /// Counts what was invalidated: what was asked for before is not stored afterwards.
    invalidations: u64,
    /// Of the last invalidations of single keys which it was, by the key's hash; all others were before `known_since`.
    recent: HashMap<u64, u64>,
    known_since: u64,
}

/// Somebody asks the upstream for a key.
struct Asking {
    /// Who.
    number: u64,
    waiting: Vec<Wake>,
    /// When the head of the response came. Its body comes as fast as that one's client takes it.
    filling_since: Option<Millis>,
}

/// Who is to ask the upstream for a key.
pub(super) enum Asks<'s> {
    /// Whoever wants to know.
    First(u64),
    /// Another does, and wakes these.
    Another(&'s mut Vec<Wake>),
}

/// A variant, and its place in the order of all.
pub(super) struct Slot {
    pub(super) entry: Arc<Entry>,
    pub(super) sequence: u64,
    pub(super) bytes: usize,
}

/// What went, for who accounts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Gone {
    fn add(&mut self, slot: &Slot) {
        self.entries += 1;
        self.bytes += slot.bytes;
    }
}

impl Shard {
    /// The newest variant that this holds for.
    pub(super) fn find(&self, key: &[u8], fits: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        self.entries.get(key)?.iter().rev().find(|slot| fits(&slot.entry)).map(|slot| slot.entry.clone())
    }

    /// In the place of the variant for the same requests, if there is one.
    pub(super) fn insert(&mut self, key: Arc<[u8]>, slot: Slot) -> Gone {
        let mut gone = Gone::default();
        let variants = self.entries.entry(key).or_default();
        variants.retain(|known| {
            let stays = !is_for_the_same(&known.entry, &slot.entry);
            if !stays {
                gone.add(known);
            }
            stays
        });
        if variants.len() == VARIANTS_MAX {
            gone.add(&variants.remove(0));
        }
        variants.push(slot);
        gone
    }

    pub(super) fn keys(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<Arc<[u8]>> {
        self.entries.keys().filter(|key| wanted(key)).cloned().collect()
    }

    pub(super) fn holds(&self, key: &[u8], sequence: u64) -> bool {
        self.entries.get(key).is_some_and(|variants| variants.iter().any(|slot| slot.sequence == sequence))
    }

    /// The one variant with this place in the order, if it is still there.
    pub(super) fn remove_one(&mut self, key: &[u8], sequence: u64) -> Gone {
        let mut gone = Gone::default();
        let Some(variants) = self.entries.get_mut(key) else { return gone };
        if let Some(at) = variants.iter().position(|slot| slot.sequence == sequence) {
            gone.add(&variants.remove(at));
        }
        if variants.is_empty() {
            self.entries.remove(key);
        }
        gone
    }

    /// How much was invalidated until now.
    pub(super) fn stamp(&self) -> u64 {
        self.invalidations
    }

    /// Whether the key was, or may have been, since then.
    pub(super) fn is_invalidated_since(&self, hash: u64, stamp: u64) -> bool {
        self.known_since > stamp || self.recent.get(&hash).is_some_and(|last| *last > stamp)
    }

    /// Every variant.
    pub(super) fn invalidate(&mut self, hash: u64, key: &[u8]) -> Gone {
        self.invalidations += 1;
        if self.recent.len() >= RECENT_MAX {
            self.recent.clear();
            self.known_since = self.invalidations;
        }
        self.recent.insert(hash, self.invalidations);
        let mut gone = Gone::default();
        self.entries.remove(key).into_iter().flatten().for_each(|slot| gone.add(&slot));
        gone
    }

    pub(super) fn clear(&mut self) -> Gone {
        self.invalidations += 1;
        self.recent.clear();
        self.known_since = self.invalidations;
        self.fruitless.clear();
        let mut gone = Gone::default();
        self.entries.drain().flat_map(|(_, variants)| variants).for_each(|slot| gone.add(&slot));
        gone
    }

    /// The first to ask for a key does, and in the place of one whose client is slow the next.
    pub(super) fn ask(&mut self, key: &Arc<[u8]>, now: Millis) -> Asks<'_> {
        let number = self.next;
        self.next += 1;
        match self.asked.entry(key.clone()) {
            Place::Occupied(place) => {
                let asking = place.into_mut();
                if asking.filling_since.is_none_or(|since| now.saturating_sub(since) < FILLING_MS_MAX) {
                    return Asks::Another(&mut asking.waiting);
                }
                (asking.number, asking.filling_since) = (number, None);
            }
            Place::Vacant(place) => {
                place.insert(Asking { number, waiting: Vec::new(), filling_since: None });
            }
        }
        Asks::First(number)
    }

    /// The head of what that one has asked for has come.
    pub(super) fn fills(&mut self, key: &[u8], number: u64, now: Millis) {
        if let Some(asking) = self.asked.get_mut(key).filter(|asking| asking.number == number) {
            asking.filling_since = Some(now);
        }
    }

    /// Who asks knows. Those that waited for it are to be woken, without the lock; where another asks in its place they wait on.
    pub(super) fn answered(&mut self, key: &[u8], number: u64) -> Vec<Wake> {
        match self.asked.get(key).is_some_and(|asking| asking.number == number) {
            true => self.asked.remove(key).map(|asking| asking.waiting).unwrap_or_default(),
            false => Vec::new(),
        }
    }

    pub(super) fn is_fruitless(&self, hash: u64, now: Millis) -> bool {
        self.fruitless.get(&hash).is_some_and(|until| *until > now)
    }

    pub(super) fn set_fruitless(&mut self, hash: u64, now: Millis, until: Millis) {
        self.fruitless.retain(|_, until| *until > now);
        if self.fruitless.len() >= FRUITLESS_MAX {
            self.fruitless.clear();
        }
        self.fruitless.insert(hash, until);
    }
}

fn is_for_the_same(one: &Entry, other: &Entry) -> bool {
    one.method == other.method && one.selection == other.selection && one.range == other.range
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fruitless_is_forgotten_in_time_and_never_more_than_so_many() {
        let mut shard = Shard::default();
        shard.set_fruitless(1, 0, 10);
        assert_eq!(
            [shard.is_fruitless(1, 9), shard.is_fruitless(1, 10), shard.is_fruitless(2, 0)],
            [true, false, false]
        );
        shard.set_fruitless(2, 10, 20);
        assert_eq!(shard.fruitless.len(), 1);
        (0..5000).for_each(|hash| shard.set_fruitless(hash, 10, 20));
        assert!(shard.fruitless.len() <= FRUITLESS_MAX && shard.is_fruitless(4999, 10));
    }
}
