//! Coarse deadlines: one word per task that waits, looked through ten times a second.
//!
//! A timer per read costs 0.1 us and 640 bytes. Here setting a deadline is one store, and looking through the words of
//! 100,000 connections takes some 20 us per tick.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

const TICKS_PER_SECOND: u32 = 10;

/// How often deadlines are looked at: they fire up to this much late, never early.
pub const TICK: Duration = Duration::from_millis(1000 / TICKS_PER_SECOND as u64);

const NEVER: u32 = u32::MAX;

pub struct Deadlines {
    started: Instant,
    now: Cell<u32>,
    /// The tick at which each slot is over.
    at: RefCell<Vec<u32>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<u32>>,
    /// Counts up when every idle wait is to be looked at anew.
    interruptions: Cell<u32>,
    /// See [`Deadlines::end_all`].
    is_over: Cell<bool>,
}

/// One task's deadline. It is one for the whole task: setting it again replaces it.
pub struct Deadline {
    table: Rc<Deadlines>,
    slot: u32,
}

/// The deadline passed before the future was done. The future was dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired;

impl Deadlines {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now: Cell::new(0),
            at: RefCell::default(),
            wakers: RefCell::default(),
            free: RefCell::default(),
            interruptions: Cell::new(0),
            is_over: Cell::new(false),
        })
    }

    /// Moves the clock on and wakes every task whose deadline has passed.
    pub fn tick(&self) {
        let now = ticks(self.started.elapsed());
        self.now.set(now);
        let mut at = self.at.borrow_mut();
        let mut wakers = self.wakers.borrow_mut();
        for (slot, at) in at.iter_mut().enumerate() {
            if *at <= now
                && let Some(waker) = wakers[slot].take()
            {
                waker.wake();
            }
        }
    }

    /// In ticks, since the core began.
    pub fn now(&self) -> u32 {
        self.now.get()
    }

    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.at.borrow_mut().push(NEVER);
            self.wakers.borrow_mut().push(None);
            self.at.borrow().len() as u32 - 1
        });
        Deadline { table: self.clone(), slot }
    }

    /// Ends every [`Deadline::guard_idle`] of this core: what they wait for may have become pointless.
    pub fn interrupt_idle(&self) {
        self.interruptions.set(self.interruptions.get() + 1);
        for waker in self.wakers.borrow_mut().iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }

    /// Ends every wait that is under a deadline now, whatever that is. Those to come have their time: there may be a word to say.
    pub fn end_all(&self) {
        self.is_over.set(true);
        let (mut at, mut wakers) = (self.at.borrow_mut(), self.wakers.borrow_mut());
        for (at, waker) in at.iter_mut().zip(wakers.iter_mut()) {
            if let Some(waker) = waker.take() {
                *at = 0;
                waker.wake();
            }
        }
    }
}

impl Deadline {
    /// Whether the core has been told to end what is under way.
    pub fn is_core_over(&self) -> bool {
        self.table.is_over.get()
    }

    /// `None`: no limit.
    pub fn set(&self, after: Option<Duration>) {
        let at = match after {
            // One tick more: the current one has partly passed.
            Some(after) => self.table.now.get().saturating_add(ticks(after)).saturating_add(1),
            None => NEVER,
        };
        self.table.at.borrow_mut()[self.slot as usize] = at;
    }

    pub fn has_passed(&self) -> bool {
        self.table.at.borrow()[self.slot as usize] <= self.table.now.get()
    }

    /// Waits for the future, at most until the deadline, which may move while it waits.
    pub async fn guard<F: Future>(&self, future: F) -> Result<F::Output, Expired> {
        self.guard_unless(future, || false).await
    }

    /// As [`Deadline::guard`], but [`Deadlines::interrupt_idle`] ends it too.
    pub async fn guard_idle<F: Future>(&self, future: F) -> Result<F::Output, Expired> {
        let begun = self.table.interruptions.get();
        self.guard_unless(future, || self.table.interruptions.get() != begun).await
    }

    async fn guard_unless<F: Future>(&self, future: F, over: impl Fn() -> bool) -> Result<F::Output, Expired> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if self.has_passed() || over() {
                return Poll::Ready(Err(Expired));
            }
            let waker = &mut self.table.wakers.borrow_mut()[self.slot as usize];
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// Whole ticks, without the division of 128 bits that milliseconds would cost.
fn ticks(duration: Duration) -> u32 {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    seconds.saturating_mul(TICKS_PER_SECOND).saturating_add(duration.subsec_millis() / (1000 / TICKS_PER_SECOND))
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.table.at.borrow_mut()[self.slot as usize] = NEVER;
        self.table.wakers.borrow_mut()[self.slot as usize] = None;
        self.table.free.borrow_mut().push(self.slot);
    }
}
