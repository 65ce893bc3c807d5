//! One key of a limiter: its windows, its lease, and the cells that its cores spend from.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    Answer, Limiter, Lost, OnStorageFailure, Question, Standing, Tick, Wake,
    cell::Cell,
    lease::{self, Lease, Margin, Sent},
    ledger::{Known, Storage},
    windows::{Exhausted, Share, Windows},
};

/// A core's balance at most: what it takes at a time matters little once it comes for more so rarely.
const LENT_MAX: u64 = 4096;

/// After an answer was missed a key is counted here for so long, or for its shortest window: a request that finds a slow storage
/// waits for it, and the next ones do not.
const ALONE_US: u64 = 1_000_000;

pub struct Entry {
    pub name: Arc<[u8]>,
    state: Mutex<State>,
}

pub struct State {
    limiter: Arc<Limiter>,
    /// What this replica counts for itself.
    windows: Windows,
    /// The last switch of the storage to being away, as of when the windows were spent from.
    switches: u64,
    /// Where the authority counts, or has done so.
    lease: Option<Box<Lease>>,
    /// One of each core that has spent from the key.
    cells: Vec<Arc<Cell>>,
    /// Where what is in the cells comes from, all of it.
    lent_by: Lender,
    /// An answer of the authority was missed: until then this replica counts for itself, as if the storage were away.
    alone_until: Tick,
    /// The ledger does not know it any more: whoever still holds it looks for another.
    forgotten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lender {
    Windows,
    Lease,
}

/// One request, and who wants to spend it.
pub struct Spending<'s> {
    pub limiter: &'s Arc<Limiter>,
    pub cell: &'s Cell,
    /// As many may spend from the key, each as much.
    pub cores: u64,
    pub storage: Known,
    pub now: Tick,
    pub waits_since: Option<Tick>,
}

/// What a core is told that has nothing to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its cell has been filled with what it may spend until then.
    Admitted {
        standing: Standing,
        until: Tick,
    },
    /// Where it `lasts`, it is so until then, unless limits or the storage change.
    Refused {
        exhausted: Exhausted,
        lasts: bool,
    },
    Unavailable,
    Wait {
        at_most_us: u64,
    },
    Forgotten,
}

/// What is to be done once the key is out of hand.
#[derive(Default)]
pub struct Errands {
    /// The key has a question.
    pub ask: bool,
    /// It has a lease, or somebody waits: it is to be looked after.
    pub watch: bool,
    /// The request was decided without an answer, while there should have been one.
    pub unanswered: bool,
    pub wakes: Vec<Wake>,
}

impl Entry {
    pub fn new(name: Arc<[u8]>, limiter: Arc<Limiter>) -> Self {
        let state = State {
            windows: Windows::new(&limiter.limits),
            limiter,
            switches: 0,
            lease: None,
            cells: Vec::new(),
            lent_by: Lender::Windows,
            alone_until: Tick(0),
            forgotten: false,
        };
        Self { name, state: Mutex::new(state) }
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

    /// Spends one request of this cell's core, and lends it more for those to come, where there are more.
    pub fn spend(
        &mut self,
        spending: &Spending<'_>,
        errands: &mut Errands,
        bell: impl FnOnce() -> Option<Wake>,
    ) -> Spent {
        if self.forgotten {
            return Spent::Forgotten;
        }
        self.adopt(spending.limiter, spending.now);
        let storage = if self.limiter.shared { spending.storage.state } else { Storage::None };
        match storage {
            Storage::None => self.spend_counted(spending, Share::WHOLE, true),
            Storage::Away { replicas } => {
                let has_lease = self.lease.as_ref().is_some_and(|lease| lease.says(spending.now));
                let spent = has_lease.then(|| self.spend_leased(spending)).flatten();
                spent.unwrap_or_else(|| self.spend_without(spending, replicas, true))
            }
            Storage::Here { replicas } if spending.now < self.alone_until => {
                errands.unanswered = true;
                self.spend_without(spending, replicas, false)
            }
            Storage::Here { replicas } => {
                let spent = self.spend_leased(spending);
                let spent = spent.or_else(|| self.wait(spending, errands, bell));
                errands.unanswered = spent.is_none();
                let spent = spent.unwrap_or_else(|| {
                    self.count_alone(spending.now);
                    self.spend_without(spending, replicas, false)
                });
                self.refill(spending, errands);
                spent
            }
        }
    }

    /// A later limiter of the same identity takes this one's place; an earlier one changes nothing.
    fn adopt(&mut self, limiter: &Arc<Limiter>, now: Tick) {
        if limiter.age <= self.limiter.age {
            return;
        }
        self.recall();
        if limiter.limits != self.limiter.limits {
            self.windows = self.windows.carried(&self.limiter.limits, &limiter.limits);
            if let Some(lease) = &mut self.lease {
                lease.reload(&self.limiter.asked, now);
            }
        }
        self.limiter = limiter.clone();
    }

    /// Spends from this replica's own windows. What is not to last is neither lent nor remembered.
    fn spend_counted(&mut self, spending: &Spending<'_>, share: Share, lasts: bool) -> Spent {
        let now = spending.now;
        self.borrow_from(Lender::Windows);
        if self.windows.have_ended(now) {
            self.recall();
            self.windows.close(now);
        }
        self.windows.give_back(spending.cell.empty());
        if self.windows.free(&self.limiter.limits, share) == 0 {
            self.recall();
        }
        let limits = &self.limiter.limits;
        let free = self.windows.free(limits, share);
        if free == 0 {
            return Spent::Refused { exhausted: self.windows.exhausted(limits, share, now), lasts };
        }
        let lent = if lasts { lendable(free - 1, &self.limiter, spending.cores) } else { 0 };
        let until = self.windows.take(limits, 1 + lent, now);
        spending.cell.fill(lent);
        Spent::Admitted { standing: self.windows.standing(limits, share, now), until }
    }

    /// Spends what the authority has granted. None where that is nothing, and it has not said that there is nothing.
    fn spend_leased(&mut self, spending: &Spending<'_>) -> Option<Spent> {
        let now = spending.now;
        self.borrow_from(Lender::Lease);
        self.lease.get_or_insert_default().pool += spending.cell.empty();
        self.end_lease(now);
        if self.lease.as_ref().is_some_and(|lease| lease.pool == 0) {
            self.recall();
        }
        let lease = self.lease.as_mut()?;
        if lease.pool > 0 {
            lease.pool -= 1;
            let lent = lendable(lease.pool, &self.limiter, spending.cores);
            lease.pool -= lent;
            spending.cell.fill(lent);
            let standing = lease.standing(&self.limiter.limits, lease.pool + lent, now);
            return Some(Spent::Admitted { standing, until: lease.until() });
        }
        (now < lease.exhausted.until).then_some(Spent::Refused { exhausted: lease.exhausted, lasts: true })
    }

    /// Has the request wait for the authority. None where it has waited long enough, or cannot.
    fn wait(
        &mut self,
        spending: &Spending<'_>,
        errands: &mut Errands,
        bell: impl FnOnce() -> Option<Wake>,
    ) -> Option<Spent> {
        let Spending { now, waits_since, .. } = *spending;
        let lease = self.lease.as_mut()?;
        let (at_most_us, ask) = lease.wait(waits_since.unwrap_or(now), waits_since.is_some(), now, bell)?;
        errands.ask |= ask;
        self.watch(errands);
        Some(Spent::Wait { at_most_us })
    }

    /// Decides without the authority.
    fn spend_without(&mut self, spending: &Spending<'_>, replicas: u64, lasts: bool) -> Spent {
        match self.limiter.on_storage_failure {
            OnStorageFailure::Deny => Spent::Unavailable,
            OnStorageFailure::Allow => Spent::Admitted { standing: Standing::default(), until: Tick(0) },
            OnStorageFailure::Local => {
                // Of an authority's window no more than one local one may see, however often the storage comes and goes.
                if self.switches != spending.storage.switches {
                    self.switches = spending.storage.switches;
                    self.windows.prolong(&self.limiter.limits, spending.now);
                }
                self.spend_counted(spending, Share(replicas), lasts)
            }
        }
    }

    /// An answer that is late is a short switch to being away, for this key alone. What was granted since the last one may have
    /// been spent in the windows that are open here, which so last longer.
    fn count_alone(&mut self, now: Tick) {
        if self.limiter.on_storage_failure != OnStorageFailure::Local {
            return;
        }
        self.alone_until = now.after(self.limiter.shortest_period().min(ALONE_US));
        if self.lease.as_mut().is_some_and(|lease| std::mem::take(&mut lease.fresh)) {
            self.windows.prolong(&self.limiter.limits, now);
        }
    }

    fn refill(&mut self, spending: &Spending<'_>, errands: &mut Errands) {
        if let Some(lease) = self.lease.as_mut().filter(|_| self.lent_by == Lender::Lease) {
            errands.ask |= lease.wants_refill(lease.pool + spending.cell.balance(), spending.now);
        }
    }

    /// From now on what is in the cells comes from there.
    fn borrow_from(&mut self, lender: Lender) {
        if self.lent_by != lender {
            self.recall();
            self.lent_by = lender;
        }
    }

    /// Empties all cells. Those whose core has left are dropped.
    fn recall(&mut self) {
        let unspent = self.cells.iter().map(|cell| cell.empty()).sum();
        match (self.lent_by, &mut self.lease) {
            (Lender::Lease, Some(lease)) => lease.pool += unspent,
            _ => self.windows.give_back(unspent),
        }
        self.cells.retain(|cell| Arc::strong_count(cell) > 1);
    }

    /// Ends a lease whose time is over.
    fn end_lease(&mut self, now: Tick) {
        if self.lease.as_ref().is_some_and(|lease| lease.until() <= now) {
            if self.lent_by == Lender::Lease {
                self.recall();
            }
            self.lease.iter_mut().for_each(|lease| lease.end(&self.limiter.asked, now));
        }
    }

    /// What of the lease is not spent.
    fn held(&self) -> u64 {
        let lent = match self.lent_by {
            Lender::Lease => self.cells.iter().map(|cell| cell.balance()).sum(),
            Lender::Windows => 0,
        };
        self.lease.as_ref().map_or(0, |lease| lease.pool + lent)
    }

    fn watch(&mut self, errands: &mut Errands) {
        if let Some(lease) = &mut self.lease {
            errands.watch |= !std::mem::replace(&mut lease.watched, true);
        }
    }

    /// The question that the key has been queued for, if it still has one.
    pub fn question(&mut self, key: &Arc<[u8]>, sequence: u64, replicas: u64, now: Tick) -> Option<Question> {
        if self.forgotten {
            return None;
        }
        self.end_lease(now);
        let (held, slice) = (self.held(), self.limiter.shortest_period() / 4);
        let limits = self.limiter.asked.clone();
        let share = lease::share(replicas);
        let question = Question { key: key.clone(), sequence, limits, returns: None, need: 0, want: 0, share };
        self.lease.as_mut()?.question(question, held, slice, now)
    }

    /// The answer to a question, or that there is none. `false` where nobody waits for it any more.
    pub fn answered(
        &mut self,
        sent: &Sent,
        sent_at: Tick,
        answer: Result<Answer, Lost>,
        now: Tick,
        margin: Margin,
        errands: &mut Errands,
    ) -> bool {
        let is_expected = self.lease.as_mut().is_some_and(|lease| lease.is_expected(sent.sequence));
        if self.forgotten || !is_expected {
            return false;
        }
        let is_of_these = sent.limits == self.limiter.asked;
        let is_refused = answer == Err(Lost::Refused);
        let answer = answer.ok().filter(|answer| answer.limits.len() == sent.limits.len());
        if let Some(answer) = answer.as_ref().filter(|_| is_of_these) {
            self.take_in(sent, answer, (sent_at, now), margin);
        }
        let Some(lease) = &mut self.lease else { return false };
        match answer {
            Some(answer) if !is_of_these => lease.outdated(sent, &answer, now),
            Some(_) => {}
            None if is_refused => lease.refused(now),
            None => lease.lost(now),
        }
        errands.wakes = lease.wake();
        self.watch(errands);
        true
    }

    fn take_in(&mut self, sent: &Sent, answer: &Answer, at: (Tick, Tick), margin: Margin) {
        let is_of_others = self.lease.as_ref().is_some_and(|lease| !lease.is_of(answer));
        if answer.granted > 0 && is_of_others {
            if self.lent_by == Lender::Lease {
                self.recall();
            }
            self.lease.iter_mut().for_each(|lease| lease.end(&self.limiter.asked, at.1));
        }
        let held = self.held();
        if let Some(lease) = &mut self.lease {
            lease.answered(sent, answer, at, margin, held);
        }
    }

    /// Looks after a lease: what is idle is returned, and who waits without need is woken. Returns when to look again; none
    /// where there is nothing to look after, and then it is not watched any more.
    pub fn tend(&mut self, storage: Known, now: Tick, errands: &mut Errands) -> Option<Tick> {
        self.end_lease(now);
        let (held, period) = (self.held(), self.limiter.shortest_period());
        let is_here = matches!(storage.state, Storage::Here { .. });
        let lease = self.lease.as_mut()?;
        if is_here {
            let excess = lease.excess(held, period, now);
            if excess > 0 {
                self.return_excess(excess, now);
            }
        } else {
            errands.wakes = lease.wake();
        }
        let held = self.held();
        let lease = self.lease.as_mut()?;
        errands.ask = is_here && lease.is_to_ask(now);
        let due = lease.due(held, period, now).filter(|_| !self.forgotten);
        lease.watched = due.is_some();
        due
    }

    fn return_excess(&mut self, excess: u64, now: Tick) {
        if self.lent_by == Lender::Lease {
            self.recall();
        }
        if let Some(lease) = &mut self.lease {
            // Cores may have spent of it meanwhile.
            lease.return_excess(&self.limiter.asked, excess.min(lease.pool), now);
        }
    }

    /// Whether it can be forgotten and made anew without anybody noticing.
    pub fn is_idle(&self, now: Tick) -> bool {
        let leaves = |lease: &Lease| lease.is_busy(now) || now < lease.exhausted.until || now < lease.until();
        self.windows.are_over(now) && !self.lease.as_ref().is_some_and(|lease| leaves(lease))
    }

    /// Whether it can be forgotten without admitting anything twice or losing anything, at the price of asking again.
    pub fn is_counted_elsewhere(&self, now: Tick) -> bool {
        let has_some = || self.held() > 0 && self.lease.as_ref().is_some_and(|lease| now < lease.until());
        self.windows.are_over(now) && !self.lease.as_ref().is_some_and(|lease| lease.is_busy(now)) && !has_some()
    }

    pub fn forget(&mut self) {
        self.forgotten = true;
        for cell in self.cells.drain(..) {
            cell.empty();
            cell.die();
        }
    }
}

/// What of so many a core is lent, that others may come for too.
fn lendable(free: u64, limiter: &Limiter, cores: u64) -> u64 {
    if limiter.tells { 0 } else { (free / (2 * cores)).min(LENT_MAX) }
}
