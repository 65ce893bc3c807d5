//! What one core may spend without asking anybody: a balance of each key that it has seen.

use std::{cell::RefCell, collections::HashMap, fmt, sync::Arc};

use super::{
    Decision, Ledger, Limiter, Standing, Tick, Wake,
    cell::Cell,
    entry::{Entry, Spending, Spent},
    ledger::Known,
    name,
    windows::Exhausted,
};

/// For each new key so many old ones are looked at, and left where the ledger has forgotten them.
const LOOKED_AT: usize = 4;

/// One core's own.
pub struct Balances {
    ledger: Arc<Ledger>,
    core: usize,
    purse: RefCell<Purse>,
}

#[derive(Default)]
struct Purse {
    /// The name of the key that is being looked for.
    name: Vec<u8>,
    places: HashMap<Arc<[u8]>, usize>,
    held: Vec<Held>,
    /// Goes round, to leave what the ledger has forgotten.
    hand: usize,
}

struct Held {
    entry: Arc<Entry>,
    cell: Arc<Cell>,
    /// What the rest was found out for.
    limiter: Arc<Limiter>,
    storage: Known,
    /// The balance ends then.
    until: Tick,
    /// Until then there is nothing to ask for.
    exhausted: Exhausted,
}

impl fmt::Debug for Balances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balances").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Balances {
    pub fn new(ledger: Arc<Ledger>, core: usize) -> Self {
        Self { ledger, core, purse: RefCell::default() }
    }

    /// The core that it is of.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Spends one request of this key from all of the limiter's limits, or from none. `waits_since`: when it began to wait,
    /// if it has; `bell` is called where the answer is [`Decision::Wait`] alone, and gives none where too many wait already.
    pub fn spend(
        &self,
        limiter: &Arc<Limiter>,
        key: &[u8],
        now: Tick,
        waits_since: Option<Tick>,
        bell: impl FnOnce() -> Option<Wake>,
    ) -> Decision {
        let purse = &mut *self.purse.borrow_mut();
        name::write(&mut purse.name, limiter.identity, key);
        let storage = self.ledger.known();
        let mut bell = Some(bell);
        loop {
            let at = match purse.places.get(&purse.name[..]) {
                Some(at) => *at,
                None => purse.take_up(&self.ledger, limiter, now),
            };
            let held = &mut purse.held[at];
            if let Some(decision) = held.spend_own(limiter, storage, now) {
                return decision;
            }
            let cores = self.ledger.cores();
            let spending = Spending { limiter, cell: &held.cell, cores, storage, now, waits_since };
            let spent = self.ledger.spend(&held.entry, &spending, || bell.take().and_then(|bell| bell()));
            match held.learn(spent, limiter, storage, now) {
                Some(decision) => return decision,
                None => purse.leave(at),
            }
        }
    }
}

impl Held {
    /// Decides in this core's memory alone, where that is possible.
    fn spend_own(&self, limiter: &Arc<Limiter>, storage: Known, now: Tick) -> Option<Decision> {
        if !Arc::ptr_eq(&self.limiter, limiter) || self.storage != storage {
            return None;
        }
        if now < self.exhausted.until {
            return Some(Decision::Refused(self.exhausted.standing(now)));
        }
        (now < self.until && self.cell.spend()).then(|| {
            let limit = limiter.limits[0].maximum;
            Decision::Admitted(Standing {
                limit,
                remaining: self.cell.balance().min(limit),
                reset_ms: now.ms_until(self.until),
            })
        })
    }
}

impl Held {
    /// Keeps what the ledger has said, for the requests to come. None where the key is another one now.
    fn learn(&mut self, spent: Spent, limiter: &Arc<Limiter>, storage: Known, now: Tick) -> Option<Decision> {
        if !Arc::ptr_eq(&self.limiter, limiter) {
            self.limiter = limiter.clone();
        }
        (self.storage, self.until, self.exhausted) = (storage, Tick(0), Exhausted::NOTHING);
        match spent {
            Spent::Admitted { standing, until } => {
                self.until = until;
                Some(Decision::Admitted(standing))
            }
            Spent::Refused { exhausted, lasts } => {
                if lasts {
                    self.exhausted = exhausted;
                }
                Some(Decision::Refused(exhausted.standing(now)))
            }
            Spent::Unavailable => Some(Decision::Unavailable),
            Spent::Wait { at_most_us } => Some(Decision::Wait { at_most_us }),
            Spent::Forgotten => None,
        }
    }
}

impl Purse {
    /// Takes up the key of this name, or the one that stands for it. Returns its place.
    fn take_up(&mut self, ledger: &Ledger, limiter: &Arc<Limiter>, now: Tick) -> usize {
        self.leave_forgotten();
        loop {
            let entry = ledger.find(&mut self.name, limiter, now);
            if let Some(at) = self.places.get(&self.name[..]) {
                return *at;
            }
            let cell = Arc::<Cell>::default();
            if !entry.lock().attach(&cell) {
                continue;
            }
            self.places.insert(entry.name.clone(), self.held.len());
            let (limiter, storage, exhausted) = (limiter.clone(), ledger.known(), Exhausted::NOTHING);
            self.held.push(Held { entry, cell, limiter, storage, until: Tick(0), exhausted });
            return self.held.len() - 1;
        }
    }

    fn leave_forgotten(&mut self) {
        for _ in 0..LOOKED_AT.min(self.held.len()) {
            if self.hand >= self.held.len() {
                self.hand = 0;
            }
            if self.held.is_empty() {
                return;
            }
            if self.held[self.hand].cell.is_dead() { self.leave(self.hand) } else { self.hand += 1 }
        }
    }

    fn leave(&mut self, at: usize) {
        let left = self.held.swap_remove(at);
        self.places.remove(&left.entry.name);
        if let Some(moved) = self.held.get(at) {
            self.places.insert(moved.entry.name.clone(), at);
        }
    }
}
