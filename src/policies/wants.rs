//! What policies need from elsewhere, and what of it has come.
//!
//! It is pushed, not asked for: a configuration says what its policies want, the management thread fetches it and keeps it
//! fresh, and every core is handed what there is. So no policy waits, and no client can make the gateway fetch.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{clients::Contracts, jwt::key_set::KeySet};
use crate::{calls::Destination, document::address::WebAddress, telemetry::fault::Fault};

/// One thing to fetch, and to fetch again.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    KeySet(KeySetWant),
}

/// The keys that an issuer of tokens publishes. Whoever wants those of one address shares them.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySetWant {
    /// How it is reached, which is the replica's say and not the policy's.
    pub destination: Arc<Destination>,
    /// Of one fetch, from its name to the last byte.
    pub timeout: Duration,
    /// It is fetched anew before it is so old.
    pub time_to_live: Duration,
    /// The least time between two fetches that unknown keys give rise to.
    pub cool_down: Duration,
}

/// Which set it is. What was fetched over a connection that was secured in one way is not what another way would have brought.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySetId {
    pub address: WebAddress,
    /// The identity of its destination.
    reached: u64,
}

impl KeySetWant {
    pub fn id(&self) -> KeySetId {
        KeySetId { address: self.address().clone(), reached: self.destination.identity() }
    }

    pub fn address(&self) -> &WebAddress {
        &self.destination.address
    }
}

/// Everything that has come, or not yet. Cores take it over whole.
#[derive(Debug, Default)]
pub struct Published {
    pub key_sets: HashMap<WebAddress, PublishedKeySet>,
    pub contracts: Contracts,
}

impl Published {
    /// As it is now, for whoever must not cause a fetch.
    pub fn still(&self) -> Self {
        let still = |(address, one): (&WebAddress, &PublishedKeySet)| {
            (address.clone(), PublishedKeySet { refresh: Arc::new(Refresh::new(|| {})), ..one.clone() })
        };
        Self { key_sets: self.key_sets.iter().map(still).collect(), contracts: self.contracts.clone() }
    }
}

#[derive(Clone, Debug)]
pub struct PublishedKeySet {
    /// The last that came, however old; the same one as before where nothing in it is another.
    pub set: Option<Arc<KeySet>>,
    pub fetched_at: Option<SystemTime>,
    /// Why the last fetch brought none.
    pub fault: Option<Fault>,
    /// Fetches by how they ended: `ok`, or the reason of the fault.
    pub fetches: BTreeMap<&'static str, u64>,
    pub refresh: Arc<Refresh>,
}

impl PublishedKeySet {
    /// One that has never been fetched. `wake` is that of [`Refresh::new`].
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let refresh = Arc::new(Refresh::new(wake));
        Self { set: None, fetched_at: None, fault: None, fetches: BTreeMap::new(), refresh }
    }
}

/// How a core asks that something be fetched anew. What comes of it is the management thread's say.
pub struct Refresh {
    asked: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Refresh {
    /// `wake` is called from any thread, and must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { asked: AtomicBool::new(false), wake: Box::new(wake) }
    }

    /// A load, where somebody has asked already: however many do, it is asked for once.
    pub fn ask(&self) {
        if !self.is_asked() && !self.asked.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// It has been done: who asks from now on means what is there now.
    pub fn done(&self) {
        self.asked.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refresh").field(&self.is_asked()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn however_many_ask_it_is_asked_once_until_it_is_done() {
        let woken = Arc::new(AtomicU32::new(0));
        let refresh = Refresh::new({
            let woken = woken.clone();
            move || _ = woken.fetch_add(1, Ordering::Relaxed)
        });
        for times in 1..=2 {
            (0..1000).for_each(|_| refresh.ask());
            assert!(refresh.is_asked());
            assert_eq!(woken.load(Ordering::Relaxed), times);
            refresh.done();
        }
    }

    #[test]
    fn what_is_still_causes_no_fetch() {
        let address = WebAddress::parse("https://issuer.test/keys").expect("an address");
        let woken = Arc::new(AtomicU32::new(0));
        let one = PublishedKeySet::new({
            let woken = woken.clone();
            move || _ = woken.fetch_add(1, Ordering::Relaxed)
        });
        let key_sets = HashMap::from([(address.clone(), one)]);
        let published = Published { key_sets, ..Published::default() };
        published.still().key_sets[&address].refresh.ask();
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        published.key_sets[&address].refresh.ask();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }
}
