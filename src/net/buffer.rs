//! Pooled byte buffers, one pool per core.
//!
//! A buffer keeps some bytes free in front of what it holds, so that a chunk header, or the head of a message, can be
//! written before a payload that was just received, and all leaves in one send without a copy.

use std::cell::RefCell;

/// Free bytes in front of received data: enough for the end of one chunk and the header of the next.
pub const HEADROOM: usize = 32;

/// The same in a large buffer, which a head may go into too: with what the peer's own head leaves free when it is consumed,
/// that is enough for one to which some fields were added.
const LARGE_HEADROOM: usize = 512;

/// Free bytes behind received data: the end of a chunk.
const TAILROOM: usize = 2;

/// Room for a typical head, with its body if that is small.
pub const SMALL: usize = 4 * 1024;
/// For what may lie a while: a full frame of HTTP/2, a record of TLS.
pub const MEDIUM: usize = 17 * 1024;
/// For bodies: with 16 KiB a megabyte costs more than twice the CPU.
pub const LARGE: usize = 64 * 1024;

/// What a buffer of each size takes for its user.
pub const SMALL_ROOM: usize = SMALL - HEADROOM - TAILROOM;
pub const MEDIUM_ROOM: usize = MEDIUM - LARGE_HEADROOM - TAILROOM;
pub const LARGE_ROOM: usize = LARGE - LARGE_HEADROOM - TAILROOM;

/// How many free buffers of each size a core keeps.
const POOLED_SMALL: usize = 256;
const POOLED_MEDIUM: usize = 64;
const POOLED_LARGE: usize = 64;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { small: Vec::new(), medium: Vec::new(), large: Vec::new() }) };
}

struct Pool {
    small: Vec<Box<[u8]>>,
    medium: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

/// Frees the core's spare buffers, for when it has become quieter.
pub fn trim() {
    POOL.with_borrow_mut(|pool| {
        pool.small = Vec::new();
        pool.medium = Vec::new();
        pool.large = Vec::new();
    });
}

/// Bytes `start..end` of an allocation. Dropping it gives the allocation back to the core's pool.
#[derive(Default)]
pub struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Holds no allocation.
    pub fn none() -> Self {
        Self::default()
    }

    /// An empty buffer with room for at least `bytes` behind its headroom, and for the end of a chunk.
    pub fn with_room(bytes: usize) -> Self {
        let data = Self::allocate(bytes);
        let start = headroom(&data);
        Self { data, start, end: start }
    }

    /// The largest of the small ones, and of the pooled ones: what protocols hold payload in.
    pub const SMALL: usize = SMALL_ROOM;
    pub const LARGE: usize = LARGE_ROOM;

    /// Where in a small allocation received bytes begin.
    pub(super) const RECEIVE_AT: usize = HEADROOM;

    /// The memory of a buffer with room for `bytes`.
    pub(super) fn allocate(bytes: usize) -> Box<[u8]> {
        POOL.with_borrow_mut(|pool| match bytes {
            small if small <= SMALL_ROOM => pool.small.pop().unwrap_or_else(|| zeroed(SMALL)),
            medium if medium <= MEDIUM_ROOM => pool.medium.pop().unwrap_or_else(|| zeroed(MEDIUM)),
            large if large <= LARGE_ROOM => pool.large.pop().unwrap_or_else(|| zeroed(LARGE)),
            _ => zeroed(LARGE_HEADROOM + bytes + TAILROOM),
        })
    }

    /// Memory from [`Buffer::allocate`], of a small buffer, into which `received` bytes have come.
    pub(super) fn filled(data: Box<[u8]>, received: usize) -> Self {
        assert!(data.len() == SMALL && received <= SMALL_ROOM, "no more is received than there is room for");
        Self { data, start: Self::RECEIVE_AT, end: Self::RECEIVE_AT + received }
    }

    /// Lets `receive` write behind what is held, leaving room for the end of a chunk; it says how much it wrote.
    pub(super) fn receive(
        &mut self,
        receive: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
    ) -> std::io::Result<usize> {
        let until = self.data.len() - TAILROOM;
        let received = receive(&mut self.data[self.end..until])?;
        self.end += received;
        assert!(self.end <= until, "no more is received than there is room for");
        Ok(received)
    }

    pub fn is_none(&self) -> bool {
        self.data.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// How many bytes may still be added behind.
    pub fn room(&self) -> usize {
        self.data.len() - self.end
    }

    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// To decrypt in place.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
    }

    /// Drops bytes from the front.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "more consumed than held");
        if self.start == self.end && !self.is_none() {
            self.start = headroom(&self.data);
            self.end = self.start;
        }
    }

    /// Drops bytes from the back.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len(), "more kept than held");
        self.end = self.start + len;
    }

    /// Adds bytes behind, growing if it must.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.data[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// How many bytes may be written in front of what is held.
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Writes bytes directly in front of what is held. There must be headroom for them.
    pub fn prepend(&mut self, bytes: &[u8]) {
        self.start = self.start.checked_sub(bytes.len()).expect("headroom for a chunk header is never used twice");
        self.data[self.start..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Moves to a smaller allocation, where what is held fits into one of the pool.
    pub fn shrink(&mut self) {
        let len = self.len();
        if self.data.len() <= SMALL || len > MEDIUM_ROOM || self.data.len() <= MEDIUM && len > SMALL_ROOM {
            return;
        }
        let mut smaller = if len == 0 { Self::none() } else { Self::with_room(len) };
        smaller.extend(self.bytes());
        *self = smaller;
    }

    /// Makes room for `bytes` more behind: by moving to the front, or into a larger allocation.
    pub fn reserve(&mut self, bytes: usize) {
        if self.room() >= bytes {
            return;
        }
        if self.is_none() {
            *self = Self::with_room(bytes);
            return;
        }
        let mut larger = Self::with_room((self.len() + bytes).max(self.len() * 2));
        larger.data[larger.end..][..self.len()].copy_from_slice(self.bytes());
        larger.end += self.len();
        *self = larger;
    }
}

/// Where in an allocation its contents begin.
fn headroom(data: &[u8]) -> usize {
    if data.len() <= SMALL { HEADROOM } else { LARGE_HEADROOM }
}

fn zeroed(bytes: usize) -> Box<[u8]> {
    vec![0; bytes].into_boxed_slice()
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.is_none() {
            return;
        }
        let data = std::mem::take(&mut self.data);
        // At thread exit the pool may be gone already; then the allocation is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if data.len() == SMALL && pool.small.len() < POOLED_SMALL {
                pool.small.push(data);
            } else if data.len() == MEDIUM && pool.medium.len() < POOLED_MEDIUM {
                pool.medium.push(data);
            } else if data.len() == LARGE && pool.large.len() < POOLED_LARGE {
                pool.large.push(data);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_keeps_its_bytes_and_prepends() {
        let mut buffer = Buffer::with_room(10);
        assert_eq!(buffer.room(), SMALL - HEADROOM);
        let long = vec![7; SMALL];
        buffer.extend(b"ab");
        buffer.extend(&long);
        assert_eq!(buffer.len(), SMALL + 2);
        buffer.consume(2);
        assert_eq!(buffer.bytes(), &long[..]);
        buffer.prepend(b"5\r\n");
        assert_eq!(&buffer.bytes()[..4], b"5\r\n\x07");
        assert!(buffer.headroom() > HEADROOM, "what was consumed is free, and a large buffer has more to begin with");
        buffer.truncate(3);
        assert_eq!(buffer.bytes(), b"5\r\n");
    }

    #[test]
    fn an_empty_one_holds_no_memory_and_a_dropped_one_is_used_again() {
        assert!(Buffer::none().is_none());
        let first = Buffer::with_room(1);
        let at = first.data.as_ptr();
        drop(first);
        assert_eq!(Buffer::with_room(1).data.as_ptr(), at);
    }
}
