//! Plain calls that do not wait: all that epoll has, and for large bodies the better way beside a ring too.
//!
//! A core's receives through the ring all complete before the first of them is sent on: 64 KiB each, they push one another
//! out of the cache. Received and sent on by calls, a piece is still in it. 1 MiB then costs half.

use std::{io, os::fd::RawFd};

use super::buffer::Buffer;

/// Where this little room is left behind what is held, more is made.
const MIN_RECEIVE: usize = 512;

/// What follows what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing for now: it is to leave at once.
    Anything,
    /// The end of our side, at once: the last segment waits for it, and one segment says both.
    End,
}

impl Next {
    pub fn flag(self) -> libc::c_int {
        match self {
            Self::Anything => 0,
            Self::End => libc::MSG_MORE,
        }
    }
}

/// Receives behind what `buffer` holds, `room` bytes at most. True: there may be more.
pub fn receive(fd: RawFd, buffer: &mut Buffer, room: usize) -> io::Result<(usize, bool)> {
    if buffer.is_empty() && buffer.room() < room {
        *buffer = Buffer::with_room(room);
    } else {
        buffer.reserve(room.min(buffer.len()).max(MIN_RECEIVE));
    }
    let mut filled = true;
    let received = buffer.receive(|into| {
        // SAFETY: the kernel writes into a slice that is lent for the duration of the call.
        let n = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
        filled = n == into.len() as isize;
        result(n)
    });
    if buffer.is_empty() {
        *buffer = Buffer::none();
    }
    received.map(|received| (received, filled))
}

/// Sends as much as the kernel takes at once.
pub fn send(fd: RawFd, bytes: &[u8], next: Next) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | next.flag();
    // SAFETY: the kernel reads from a slice that is lent for the duration of the call.
    result(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

pub fn result(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
