//! Purges that the shared storage has not acknowledged: kept until it has, or until nothing can live that they end.
//!
//! Nobody waits for them. As long as a purge of a scope is kept here, what the storage has of that scope is of no use.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Key, WAIT_MAX};

/// That wait to be sent, of the parts of one whole; one purge of the whole stands for more. There are as many wholes as policies.
const PARTS_MAX: usize = 1000;

#[derive(Default)]
pub(super) struct Unsent {
    purges: Mutex<HashMap<Key, Purge>>,
    /// As many as there are, for those who look often and mostly find none.
    count: AtomicUsize,
    /// Of the next: none is given twice.
    next: AtomicU64,
}

struct Purge {
    /// What goes with it has the same one.
    whole: Key,
    /// Of several of one scope the last counts.
    number: u64,
    time_to_live: Duration,
    /// Nothing lives longer that was put before.
    until: Instant,
    stands: Stands,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Nobody knows yet.
    UnderWay,
    Waits,
    /// It was sent late. What was asked before then may still be answered.
    Taken(Instant),
}

/// A purge that waits to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    pub scope: Key,
    pub time_to_live: Duration,
    number: u64,
}

/// A purge that is under way: it waits to be sent again, should this be dropped before it is acknowledged.
pub(super) struct UnderWay {
    unsent: Arc<Unsent>,
    scope: Key,
    number: u64,
}

impl Unsent {
    /// `whole` is the scope itself where it is no part of another.
    pub fn begin(self: &Arc<Self>, scope: Key, whole: Key, time_to_live: Duration) -> UnderWay {
        let (mut purges, now) = (self.purges(), Instant::now());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let purge = Purge { whole, number, time_to_live, until: now + time_to_live, stands: Stands::UnderWay };
        purges.insert(scope.clone(), purge);
        self.count.store(purges.len(), Ordering::Release);
        drop(purges);
        UnderWay { unsent: self.clone(), scope, number }
    }

    /// Whether what the storage has of any of these scopes was purged, and it may not know.
    pub fn bars(&self, scopes: &[Key]) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let (purges, now) = (self.purges(), Instant::now());
        scopes.iter().filter_map(|scope| purges.get(scope)).any(|purge| match purge.stands {
            // Whatever is asked now is asked behind it, and looks again when it is answered.
            Stands::UnderWay => false,
            Stands::Waits => true,
            Stands::Taken(at) => now.duration_since(at) < WAIT_MAX,
        })
    }

    /// Those that wait to be sent. What needs to be known no more is forgotten.
    pub fn late(&self) -> Vec<Late> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let (mut purges, now) = (self.purges(), Instant::now());
        purges.retain(|_, purge| match purge.stands {
            Stands::UnderWay => true,
            Stands::Waits => purge.until > now,
            Stands::Taken(at) => now.duration_since(at) < WAIT_MAX,
        });
        self.count.store(purges.len(), Ordering::Release);
        let waits = purges.iter().filter(|(_, purge)| purge.stands == Stands::Waits);
        let late = |(scope, purge): (&Key, &Purge)| {
            let Purge { number, time_to_live, .. } = *purge;
            Late { scope: scope.clone(), time_to_live, number }
        };
        waits.map(late).collect()
    }

    /// One that was late has been sent.
    pub fn sent(&self, late: &Late) {
        let mut purges = self.purges();
        if let Some(purge) = purges.get_mut(&late.scope).filter(|purge| purge.number == late.number) {
            purge.stands = Stands::Taken(Instant::now());
        }
    }

    fn taken(&self, scope: &Key, number: u64) {
        let mut purges = self.purges();
        if purges.get(scope).is_some_and(|purge| purge.number == number) {
            purges.remove(scope);
        }
        self.count.store(purges.len(), Ordering::Release);
    }

    fn waits(&self, scope: &Key, number: u64) {
        let mut purges = self.purges();
        let Some(purge) = purges.get_mut(scope).filter(|purge| purge.number == number) else { return };
        purge.stands = Stands::Waits;
        let (whole, time_to_live, until) = (purge.whole.clone(), purge.time_to_live, purge.until);
        if *scope != whole && purges.len() > PARTS_MAX {
            let is_part = |purge: &Purge| purge.whole == whole && purge.stands == Stands::Waits;
            let stands_whole = purges.get(&whole).is_some_and(is_part);
            if stands_whole || purges.values().filter(|purge| is_part(purge)).count() > PARTS_MAX {
                purges.retain(|_, purge| !is_part(purge));
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let all = Purge { whole: whole.clone(), number, time_to_live, until, stands: Stands::Waits };
                purges.insert(whole, all);
            }
        }
        self.count.store(purges.len(), Ordering::Release);
    }

    fn purges(&self) -> MutexGuard<'_, HashMap<Key, Purge>> {
        // Each change is whole, whoever panicked.
        self.purges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    pub fn taken(self) {
        self.unsent.taken(&self.scope, self.number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // It is none any more where it was taken.
        self.unsent.waits(&self.scope, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn key(name: impl ToString) -> Key {
        Key::of(&[name.to_string().as_bytes()])
    }

    fn begin(unsent: &Arc<Unsent>, scope: impl ToString) -> UnderWay {
        unsent.begin(key(scope), key("all"), LONG)
    }

    fn scopes(unsent: &Unsent) -> Vec<Key> {
        unsent.late().into_iter().map(|late| late.scope).collect()
    }

    #[test]
    fn a_purge_that_nobody_took_bars_its_scope_until_it_was_sent() {
        let unsent = Arc::<Unsent>::default();
        begin(&unsent, "a").taken();
        assert!(unsent.purges().is_empty() && !unsent.bars(&[key("a")]));
        let (first, second) = (begin(&unsent, "a"), begin(&unsent, "a"));
        assert!(!unsent.bars(&[key("a")]) && unsent.late().is_empty(), "it is under way");
        drop(second);
        first.taken();
        assert!(unsent.bars(&[key("all"), key("a")]) && !unsent.bars(&[key("all"), key("b")]));
        let late = unsent.late();
        let again = begin(&unsent, "a");
        unsent.sent(&late[0]);
        drop(again);
        assert_eq!(scopes(&unsent), [key("a")], "one that came meanwhile is not yet sent");
        unsent.sent(&unsent.late()[0]);
        assert!(unsent.late().is_empty() && unsent.bars(&[key("a")]), "who asked before may still be answered");
        unsent.purges().get_mut(&key("a")).expect("it is there").stands = Stands::Taken(Instant::now() - WAIT_MAX);
        assert!(!unsent.bars(&[key("a")]));
        assert!(unsent.late().is_empty() && unsent.purges().is_empty());
    }

    #[test]
    fn too_many_are_one_of_the_whole() {
        let unsent = Arc::<Unsent>::default();
        drop(unsent.begin(key("other"), key("others"), LONG));
        let under_way = begin(&unsent, "under way");
        (0..PARTS_MAX).for_each(|scope| drop(begin(&unsent, scope)));
        assert_eq!(unsent.late().len(), PARTS_MAX + 1);
        drop(begin(&unsent, "one more"));
        let late = scopes(&unsent);
        assert!(late.len() == 2 && late.contains(&key("all")) && late.contains(&key("other")), "{late:?}");
        assert!(unsent.bars(&[key("all"), key("never heard of")]));
        under_way.taken();
        (0..3 * PARTS_MAX).for_each(|scope| drop(begin(&unsent, scope)));
        assert!(unsent.purges().len() <= PARTS_MAX + 2 && unsent.bars(&[key("all")]));
    }

    #[test]
    fn what_nothing_can_outlive_is_forgotten() {
        let unsent = Arc::<Unsent>::default();
        drop(unsent.begin(key("a"), key("a"), Duration::ZERO));
        assert!(unsent.late().is_empty() && unsent.purges().is_empty());
    }
}
