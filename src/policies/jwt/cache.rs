//! Tokens that this core has verified, so that it need not do so for each request.
//!
//! An entry is found by the end of the token, which is the end of its signature, and counts only where the whole token is
//! the same. Two generations take turns: what was not asked for while the younger one filled up is forgotten with the older.

use std::{collections::HashMap, mem, rc::Rc};

use super::token::Verified;

/// Of one generation; there are two.
const TOKENS_MAX: usize = 512;
const TOKEN_BYTES_MAX: usize = 1 << 20;
const TAIL_BYTES: usize = 32;

type Tail = [u8; TAIL_BYTES];

#[derive(Default)]
pub struct Cache {
    young: HashMap<Tail, Rc<Verified>>,
    old: HashMap<Tail, Rc<Verified>>,
    /// Of the tokens in `young`.
    bytes: usize,
}

impl Cache {
    /// Allocates nothing.
    pub fn find(&mut self, token: &[u8]) -> Option<Rc<Verified>> {
        let tail = tail(token)?;
        let is_it = |verified: &&Rc<Verified>| verified.token().as_bytes() == token;
        if let Some(found) = self.young.get(tail).filter(is_it) {
            return Some(found.clone());
        }
        let found = self.old.get(tail).filter(is_it)?.clone();
        if self.young.len() < self.young.capacity() && self.has_room(token.len()) {
            self.bytes += token.len();
            self.old.remove(tail);
            self.young.insert(*tail, found.clone());
        }
        Some(found)
    }

    pub fn add(&mut self, verified: &Rc<Verified>) {
        let token = verified.token().as_bytes();
        let Some(tail) = tail(token) else { return };
        if !self.has_room(token.len()) {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.bytes = 0;
        }
        self.bytes += token.len();
        if let Some(before) = self.young.insert(*tail, verified.clone()) {
            self.bytes -= before.token().len();
        }
    }

    pub fn remove(&mut self, token: &[u8]) {
        let Some(tail) = tail(token) else { return };
        if let Some(gone) = self.young.remove(tail) {
            self.bytes -= gone.token().len();
        }
        self.old.remove(tail);
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.young.len() < TOKENS_MAX && self.bytes + bytes <= TOKEN_BYTES_MAX
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// What a token is looked for by. One that is shorter is not kept.
fn tail(token: &[u8]) -> Option<&Tail> {
    token.last_chunk()
}
