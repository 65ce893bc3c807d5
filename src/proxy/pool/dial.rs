//! Dials that others may wait for, where one connection will carry the requests of all.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// Who waits for a connection that many can share, instead of dialling one each.
#[derive(Default)]
pub(super) struct Dial {
    under_way: Cell<bool>,
    /// The last one failed: until one succeeds everybody dials, and learns why it fails.
    failed: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Dial {
    pub(super) fn is_worth_waiting_for(&self) -> bool {
        self.under_way.get() && !self.failed.get()
    }

    pub(super) async fn done(&self) {
        poll_fn(|context| match self.is_worth_waiting_for() {
            true => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
            false => Poll::Ready(()),
        })
        .await;
    }
}

/// A dial that others may wait for; dropped before its end is known, it was given up, which says nothing of the upstream.
pub(super) struct Dialling<'a> {
    dial: &'a Dial,
    failed: bool,
}

impl<'a> Dialling<'a> {
    pub(super) fn begin(dial: &'a Dial) -> Self {
        dial.under_way.set(true);
        Self { dial, failed: dial.failed.get() }
    }

    pub(super) fn ended(mut self, failed: bool) {
        self.failed = failed;
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.dial.under_way.set(false);
        self.dial.failed.set(self.failed);
        self.dial.waiting.take().into_iter().for_each(Waker::wake);
    }
}
