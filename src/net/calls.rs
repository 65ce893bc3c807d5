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
        let most = into.len().min(room.max(MIN_RECEIVE));
        let into = &mut into[..most];
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

/// What a socket would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// Little or nothing; the kernel tells when that has changed.
    No,
    /// About so many bytes at once.
    Room(usize),
}

/// Asks how much a socket takes. As the kernel counts, one is writable when a third of its buffer is free.
pub fn writable(fd: RawFd) -> Writable {
    let mut asked = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry is lent for the duration of a call that does not wait.
    match unsafe { libc::poll(&raw mut asked, 1, 0) } {
        0 => Writable::No,
        // A broken one takes anything, to say that it is broken.
        _ => Writable::Room(send_room(fd)),
    }
}

/// The free part of the socket's send buffer.
pub fn send_room(fd: RawFd) -> usize {
    // Of Linux' `sock_diag.h`: `SK_MEMINFO_SNDBUF`, `SK_MEMINFO_WMEM_QUEUED`, and how many values there are.
    const SNDBUF: usize = 3;
    const QUEUED: usize = 5;
    const COUNT: usize = 9;
    let mut values = [0u32; COUNT];
    let mut size = size_of_val(&values) as u32;
    // SAFETY: an array of the stack is lent, with its size, for the duration of the call.
    let asked =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, values.as_mut_ptr().cast(), &raw mut size) };
    match asked {
        0 => values[SNDBUF].saturating_sub(values[QUEUED]) as usize,
        // A kernel that does not say; whoever asked takes care of the rest.
        _ => 0,
    }
}

pub fn result(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
