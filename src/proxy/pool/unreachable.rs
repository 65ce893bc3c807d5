//! Endpoints that could not be reached for one request: nothing of it was sent, so that another one may have it.

use std::rc::Rc;

use super::{Backend, Unavailable};

/// Endpoints that a request may be offered to after the first one could not be reached.
const NEXT_MAX: usize = 3;

/// Connects that may take all of their time. After the second one the request has waited about as long as for an
/// answer.
const TIMEOUTS_MAX: usize = 2;

#[derive(Default)]
pub(super) struct Unreachable {
    backends: Vec<Rc<Backend>>,
    timeouts: usize,
}

impl Unreachable {
    pub(super) fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    pub(super) fn has(&self, backend: &Rc<Backend>) -> bool {
        self.backends.iter().any(|known| Rc::ptr_eq(known, backend))
    }

    pub(super) fn note(&mut self, backend: Rc<Backend>, failed: &Unavailable) {
        self.backends.push(backend);
        self.timeouts += usize::from(failed.took_all_its_time());
    }

    pub(super) fn may_go_on(&self) -> bool {
        self.backends.len() <= NEXT_MAX && self.timeouts < TIMEOUTS_MAX
    }
}
