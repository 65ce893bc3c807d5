//! How much memory the heads of all HTTP/2 connections of a core may take.
//!
//! A head that fits the limits of its stream can still be one of very many: HPACK turns a byte into kilobytes. So what is
//! decoded is counted while it is decoded, per connection and here, until its stream is forgotten. The core's spare
//! memory for heads is here too, so that an idle connection has none.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::incoming::{Form, Incoming};

/// Spare heads: so many are kept, and none that has grown larger than this.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 8 << 10;

/// A core's account; clones share it.
#[derive(Clone)]
pub struct HeaderMemory(Rc<Account>);

struct Account {
    used: Cell<usize>,
    max: Cell<usize>,
    #[expect(clippy::vec_box, reason = "streams hold them boxed, and the boxes go round too")]
    spare: RefCell<Vec<Box<Incoming>>>,
    /// Where header blocks are written before they are cut into frames.
    block: Cell<Vec<u8>>,
}

impl HeaderMemory {
    pub fn new(bytes_max: usize) -> Self {
        let spare = RefCell::new(Vec::new());
        Self(Rc::new(Account { used: Cell::new(0), max: Cell::new(bytes_max), spare, block: Cell::new(Vec::new()) }))
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
    pub(super) fn take(&self, bytes: usize) -> bool {
        let used = self.0.used.get().saturating_add(bytes);
        let fits = used <= self.0.max.get();
        if fits {
            self.0.used.set(used);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.0.used.set(self.0.used.get().saturating_sub(bytes));
    }

    pub(super) fn incoming(&self, form: Form) -> Box<Incoming> {
        let mut incoming = self.0.spare.borrow_mut().pop().unwrap_or_default();
        incoming.begin(form);
        incoming
    }

    pub(super) fn reuse(&self, incoming: Box<Incoming>) {
        let mut spare = self.0.spare.borrow_mut();
        if spare.len() < SPARE_MAX && incoming.capacity() <= SPARE_BYTES_MAX {
            spare.push(incoming);
        }
    }

    /// Empty; comes back with [`HeaderMemory::reuse_block`].
    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = self.0.block.take();
        block.clear();
        block
    }

    pub(super) fn reuse_block(&self, block: Vec<u8>) {
        if block.capacity() <= SPARE_BYTES_MAX {
            self.0.block.set(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_for_all_together() {
        let memory = HeaderMemory::new(100);
        let other = memory.clone();
        assert!(memory.take(60) && other.take(40));
        assert!(!memory.take(1));
        other.give_back(10);
        assert!(memory.take(10));
        assert_eq!(memory.used(), 100);
    }
}
