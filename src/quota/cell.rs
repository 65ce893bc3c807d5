//! One core's balance of one key: the core fills and spends it, and the ledger may empty it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Made by the core that spends from it: allocators give threads memory of their own, so cores do not meet in a cache line.
#[derive(Debug, Default)]
pub struct Cell {
    balance: AtomicU64,
    /// The ledger has forgotten the key.
    dead: AtomicBool,
}

impl Cell {
    /// Spends one, where there is one.
    pub fn spend(&self) -> bool {
        let mut balance = self.balance.load(Ordering::Relaxed);
        while balance > 0 {
            match self.balance.compare_exchange_weak(balance, balance - 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(found) => balance = found,
            }
        }
        false
    }

    pub fn balance(&self) -> u64 {
        self.balance.load(Ordering::Relaxed)
    }

    /// Only its core does so, under the key's lock and while it is empty.
    pub fn fill(&self, requests: u64) {
        self.balance.store(requests, Ordering::Release);
    }

    /// Takes back what is unspent.
    pub fn empty(&self) -> u64 {
        self.balance.swap(0, Ordering::AcqRel)
    }

    pub fn die(&self) {
        self.dead.store(true, Ordering::Release);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}
