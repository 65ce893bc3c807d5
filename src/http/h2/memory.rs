//! How much memory the heads of all HTTP/2 connections of a core may take.
//!
//! A head that fits the limits of its stream can still be one of very many: HPACK turns a byte into kilobytes. So what is
//! decoded is counted while it is decoded, per connection and here, until its stream is forgotten.

use std::{cell::Cell, rc::Rc};

/// A core's account; clones share it.
#[derive(Clone, Debug)]
pub struct HeaderMemory(Rc<Account>);

#[derive(Debug)]
struct Account {
    used: Cell<usize>,
    max: Cell<usize>,
}

impl HeaderMemory {
    pub fn new(bytes_max: usize) -> Self {
        Self(Rc::new(Account { used: Cell::new(0), max: Cell::new(bytes_max) }))
    }

    /// Another limit, from now on; what is over it already stays.
    pub fn set_max(&self, bytes: usize) {
        self.0.max.set(bytes);
    }

    /// For metrics.
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// Takes from the account; false, and nothing taken, where it would go over.
    pub fn take(&self, bytes: usize) -> bool {
        let used = self.0.used.get().saturating_add(bytes);
        let fits = used <= self.0.max.get();
        if fits {
            self.0.used.set(used);
        }
        fits
    }

    pub fn give_back(&self, bytes: usize) {
        self.0.used.set(self.0.used.get().saturating_sub(bytes));
    }
}
