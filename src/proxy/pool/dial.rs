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

/// A dial that others may wait for; dropped before it succeeded, it failed or was given up.
pub(super) struct Dialling<'a> {
    dial: &'a Dial,
    succeeded: bool,
}

impl<'a> Dialling<'a> {
    pub(super) fn begin(dial: &'a Dial) -> Self {
        dial.under_way.set(true);
        Self { dial, succeeded: false }
    }

    pub(super) fn succeeded(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.dial.under_way.set(false);
        self.dial.failed.set(!self.succeeded);
        self.dial.waiting.take().into_iter().for_each(Waker::wake);
    }
}
