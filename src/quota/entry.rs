//! One key of a limiter: its windows, and the cells that its cores spend from.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    Limiter, Standing, Tick,
    cell::Cell,
    windows::{Exhausted, Windows},
};

/// A core's balance at most: what it takes at a time matters little once it comes for more so rarely.
const LENT_MAX: u64 = 4096;

#[derive(Debug)]
pub struct Entry {
    pub name: Arc<[u8]>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub struct State {
    limiter: Arc<Limiter>,
    windows: Windows,
    /// One of each core that has spent from the key.
    cells: Vec<Arc<Cell>>,
    /// The ledger does not know it any more: whoever still holds it looks for another.
    forgotten: bool,
}

/// What a core is told that has nothing to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its cell has been filled with what it may spend until then.
    Admitted {
        standing: Standing,
        until: Tick,
    },
    Refused(Exhausted),
    Forgotten,
}

impl Entry {
    pub fn new(name: Arc<[u8]>, limiter: Arc<Limiter>) -> Self {
        let windows = Windows::new(&limiter.limits);
        Self { name, state: Mutex::new(State { limiter, windows, cells: Vec::new(), forgotten: false }) }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with a key in hand")
    }
}

impl State {
    /// Takes a core's cell among those that are emptied before anything is refused. `false` where the key is forgotten.
    pub fn attach(&mut self, cell: &Arc<Cell>) -> bool {
        if !self.forgotten {
            self.cells.push(cell.clone());
        }
        !self.forgotten
    }

    /// Spends one request of this cell's core, and lends it more for those to come, where there are more. Of `cores` each
    /// may have as much.
    pub fn spend(&mut self, limiter: &Arc<Limiter>, cell: &Cell, cores: u64, now: Tick) -> Spent {
        if self.forgotten {
            return Spent::Forgotten;
        }
        self.adopt(limiter);
        if self.windows.have_ended(now) {
            self.recall();
            self.windows.close(now);
        }
        self.windows.give_back(cell.empty());
        if self.windows.free(&self.limiter.limits) == 0 {
            self.recall();
        }
        let limits = &self.limiter.limits;
        let free = self.windows.free(limits);
        if free == 0 {
            return Spent::Refused(self.windows.exhausted(limits, now));
        }
        let lent = if self.limiter.tells { 0 } else { ((free - 1) / (2 * cores)).min(LENT_MAX) };
        let until = self.windows.take(limits, 1 + lent, now);
        cell.fill(lent);
        Spent::Admitted { standing: self.windows.standing(limits, now), until }
    }

    /// A later limiter of the same identity takes this one's place; an earlier one changes nothing.
    fn adopt(&mut self, limiter: &Arc<Limiter>) {
        if limiter.age <= self.limiter.age {
            return;
        }
        if limiter.limits != self.limiter.limits {
            self.recall();
            self.windows = self.windows.carried(&self.limiter.limits, &limiter.limits);
        }
        self.limiter = limiter.clone();
    }

    /// Empties all cells. Those whose core has left are dropped.
    fn recall(&mut self) {
        let unspent = self.cells.iter().map(|cell| cell.empty()).sum();
        self.windows.give_back(unspent);
        self.cells.retain(|cell| Arc::strong_count(cell) > 1);
    }

    /// Whether it can be forgotten and made anew without anybody noticing.
    pub fn is_idle(&self, now: Tick) -> bool {
        self.windows.are_over(now)
    }

    pub fn forget(&mut self) {
        self.forgotten = true;
        for cell in self.cells.drain(..) {
            cell.empty();
            cell.die();
        }
    }
}
