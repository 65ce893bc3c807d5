//! The epoll driver: edge-triggered readiness of every socket, and plain non-blocking calls.
//!
//! Each socket is registered once, for both directions. What an edge said is remembered until a call shows that it is used
//! up, so a call that moved all it was asked for is not followed by one that only fails.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    task::{Context, Poll, Waker},
    time::Duration,
};

use socket2::SockAddr;

use super::{
    buffer::Buffer,
    calls::{self, Next, result},
    faults::Faults,
};

const EVENTS_PER_ROUND: usize = 1024;

pub struct Epoll {
    epoll: OwnedFd,
    sockets: Vec<Socket>,
    free: Vec<u32>,
    events: Vec<libc::epoll_event>,
    faults: Faults,
}

/// A socket's place in the table, and which of its consecutive owners it is: an event for an earlier one is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    index: u32,
    generation: u32,
}

#[derive(Default)]
struct Socket {
    generation: u32,
    readable: bool,
    writable: bool,
    /// The peer has ended its side or the connection is broken: there is no further edge to wait for.
    ended: bool,
    /// A connect was begun.
    connecting: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let none = libc::epoll_event { events: 0, u64: 0 };
        Ok(Self {
            epoll,
            sockets: Vec::new(),
            free: Vec::new(),
            events: vec![none; EVENTS_PER_ROUND],
            faults: Faults::default(),
        })
    }

    pub fn register(&mut self, fd: RawFd) -> io::Result<Token> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(Socket::default());
            self.sockets.len() as u32 - 1
        });
        let generation = self.sockets[index as usize].generation;
        let token = Token { index, generation };
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: events as u32, u64: token.to_u64() };
        // SAFETY: the event is lent for the duration of the call.
        if unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } < 0 {
            let error = io::Error::last_os_error();
            self.forget(token);
            return Err(error);
        }
        Ok(token)
    }

    /// The socket is about to be closed, which takes it out of the kernel's table.
    pub fn forget(&mut self, token: Token) {
        let generation = token.generation.wrapping_add(1);
        self.sockets[token.index as usize] = Socket { generation, ..Socket::default() };
        self.free.push(token.index);
    }

    /// Waits for events, and wakes whoever waited for them.
    ///
    /// # Errors
    /// The kernel refuses that for good.
    pub fn park(&mut self, wait: Option<Duration>) -> io::Result<()> {
        // Rounded up: a timer must be over when it is looked at.
        let milliseconds = match wait {
            None => -1,
            Some(wait) => i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX),
        };
        let room = self.events.len() as i32;
        // SAFETY: the kernel writes at most `room` events into a vector of that length.
        let ready = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, milliseconds) };
        let ready = match result(ready as isize) {
            Ok(ready) => ready,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return self.faults.back_off(error),
        };
        self.faults.over();
        for at in 0..ready {
            let event = self.events[at];
            self.dispatch(event.events as i32, Token::from_u64(event.u64));
        }
        Ok(())
    }

    pub fn poll_receive(
        &mut self,
        token: Token,
        fd: RawFd,
        buffer: &mut Buffer,
        room: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket(token);
        if !socket.readable {
            return Socket::wait(&mut socket.reader, context);
        }
        match calls::receive(fd, buffer, room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.readable = false;
                Socket::wait(&mut socket.reader, context)
            }
            Err(error) => Poll::Ready(Err(error)),
            Ok((received, more)) => {
                // A short read took all there was; whatever comes now is another edge. Unless the end came with it.
                socket.readable = more || socket.ended;
                Poll::Ready(Ok(received))
            }
        }
    }

    /// Ready when there is something to receive: bytes, the end or an error.
    pub fn poll_readable(&mut self, token: Token, context: &mut Context<'_>) -> Poll<()> {
        let socket = self.socket(token);
        if socket.readable { Poll::Ready(()) } else { Socket::wait(&mut socket.reader, context) }
    }

    /// Waits for the edge that follows when a socket was found not to be writable.
    pub fn wait_writable(&mut self, token: Token, context: &mut Context<'_>) -> Poll<()> {
        Socket::wait(&mut self.socket(token).writer, context)
    }

    pub fn poll_send(
        &mut self,
        token: Token,
        fd: RawFd,
        bytes: &[u8],
        next: Next,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match calls::send(fd, bytes, next) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Socket::wait(&mut self.socket(token).writer, context)
            }
            sent => Poll::Ready(sent),
        }
    }

    pub fn poll_accept(&mut self, token: Token, fd: RawFd, context: &mut Context<'_>) -> Poll<io::Result<RawFd>> {
        let socket = self.socket(token);
        if !socket.readable {
            return Socket::wait(&mut socket.reader, context);
        }
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no address is asked for.
        let accepted = unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        match result(accepted as isize) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.readable = false;
                Socket::wait(&mut socket.reader, context)
            }
            accepted => Poll::Ready(accepted.map(|fd| fd as RawFd)),
        }
    }

    pub fn poll_connect(
        &mut self,
        token: Token,
        fd: RawFd,
        address: SocketAddr,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.socket(token);
        if !socket.connecting {
            socket.connecting = true;
            // An unconnected socket is said to be writable when it is registered; that edge means nothing.
            socket.writable = false;
            let address = SockAddr::from(address);
            // SAFETY: the address is lent for the duration of the call, with its length.
            let begun = unsafe { libc::connect(fd, address.as_ptr().cast(), address.len()) };
            return match result(begun as isize) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                    Socket::wait(&mut socket.writer, context)
                }
                done => Poll::Ready(done.map(|_| ())),
            };
        }
        if !socket.writable {
            return Socket::wait(&mut socket.writer, context);
        }
        let mut error: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as u32;
        // SAFETY: the kernel writes one integer, whose size it is told.
        let asked =
            unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &mut size) };
        Poll::Ready(match (asked, error) {
            (0, 0) => Ok(()),
            (0, error) => Err(io::Error::from_raw_os_error(error)),
            _ => Err(io::Error::last_os_error()),
        })
    }

    fn socket(&mut self, token: Token) -> &mut Socket {
        &mut self.sockets[token.index as usize]
    }

    fn dispatch(&mut self, events: i32, token: Token) {
        let Some(socket) = self.sockets.get_mut(token.index as usize) else { return };
        if socket.generation != token.generation {
            return;
        }
        let broken = events & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
        socket.ended |= broken || events & libc::EPOLLRDHUP != 0;
        if broken || events & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0 {
            socket.readable = true;
            if let Some(waker) = socket.reader.take() {
                waker.wake();
            }
        }
        if broken || events & libc::EPOLLOUT != 0 {
            socket.writable = true;
            if let Some(waker) = socket.writer.take() {
                waker.wake();
            }
        }
    }
}

impl Socket {
    fn wait<T>(place: &mut Option<Waker>, context: &mut Context<'_>) -> Poll<T> {
        if !place.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *place = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Token {
    fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_u64(data: u64) -> Self {
        Self { index: data as u32, generation: (data >> 32) as u32 }
    }
}
