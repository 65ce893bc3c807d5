//! One core's lines of a log, until the management thread fetches them.
//!
//! A core never waits for a disk: lines gather in a buffer of fixed size, and what does not fit meanwhile is dropped, whole, and
//! counted.

use std::cell::{Cell, RefCell};

/// Lines that wait on one core: about 3,000 of the access log.
pub const BUFFER_BYTES_MAX: usize = 1 << 20;

/// One core's lines that nobody has fetched yet.
#[derive(Debug)]
pub struct Lines {
    bytes: RefCell<Vec<u8>>,
    dropped: Cell<u64>,
    bytes_max: usize,
}

impl Lines {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: RefCell::default(), dropped: Cell::new(0), bytes_max }
    }

    /// Writes a line behind the others, or counts it as dropped where there is no room. `write` answers false where there is
    /// no line after all; whatever it has written is gone then.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let mut bytes = self.bytes.borrow_mut();
        let before = bytes.len();
        if !write(&mut bytes) {
            bytes.truncate(before);
        } else if bytes.len() > self.bytes_max {
            bytes.truncate(before);
            self.dropped.set(self.dropped.get() + 1);
        }
    }

    /// Takes everything; whole lines only.
    pub fn drain(&self) -> Vec<u8> {
        let mut bytes = self.bytes.borrow_mut();
        // The next lines are likely to need as much room as these did.
        let next = Vec::with_capacity(bytes.len());
        std::mem::replace(&mut bytes, next)
    }

    /// Takes back what was drained just now, since nobody was there to have it.
    pub fn put_back(&self, mut untaken: Vec<u8>) {
        let mut bytes = self.bytes.borrow_mut();
        untaken.append(&mut bytes);
        *bytes = untaken;
    }

    pub fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new(BUFFER_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lines: &Lines, line: &[u8]) {
        lines.push(|bytes| {
            bytes.extend_from_slice(line);
            true
        });
    }

    #[test]
    fn a_full_buffer_drops_whole_lines_and_counts_them() {
        let lines = Lines::new(10);
        (0..5).for_each(|_| push(&lines, b"four\n"));
        assert_eq!((lines.len(), lines.dropped()), (10, 3));
        assert_eq!(lines.drain(), b"four\nfour\n");
        assert!(lines.is_empty());
        push(&lines, b"four\n");
        assert_eq!((lines.len(), lines.dropped()), (5, 3));
    }

    #[test]
    fn what_nobody_took_is_taken_back_ahead_of_what_came_since() {
        let lines = Lines::default();
        push(&lines, b"one\n");
        let untaken = lines.drain();
        push(&lines, b"two\n");
        lines.put_back(untaken);
        assert_eq!(lines.drain(), b"one\ntwo\n");
    }

    #[test]
    fn a_line_that_is_none_leaves_nothing_and_is_not_counted() {
        let lines = Lines::default();
        push(&lines, b"one\n");
        lines.push(|bytes| {
            bytes.extend_from_slice(b"half a li");
            false
        });
        assert_eq!((lines.drain(), lines.dropped()), (b"one\n".to_vec(), 0));
    }
}
