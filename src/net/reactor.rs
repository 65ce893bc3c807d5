//! This core's driver: completions from a ring, or readiness from epoll, behind the few operations that sockets need.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    os::fd::RawFd,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    buffer::{Buffer, SMALL_ROOM},
    calls::{self, Next, Writable},
    driver::Kind,
    epoll::{self, Epoll},
    ring::{Done, Op, Ring},
};

thread_local! {
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
}

#[allow(clippy::large_enum_variant)] // one per thread; a box would cost each operation a look-up
enum Reactor {
    Ring(Ring),
    Epoll(Epoll),
}

/// Makes this thread's driver. One per thread, for as long as the thread lives: the kernel may write into its buffers until
/// the process ends.
pub fn install(kind: Kind) -> io::Result<()> {
    let reactor = match kind {
        Kind::IoUring(flags) => Reactor::Ring(Ring::new(flags)?),
        Kind::Epoll => Reactor::Epoll(Epoll::new()?),
    };
    REACTOR.set(Some(reactor));
    Ok(())
}

/// Waits for the kernel, at most so long, and wakes whoever waited for what it says.
///
/// # Errors
/// The kernel refuses that for good.
pub fn park(wait: Option<Duration>) -> io::Result<()> {
    with(|reactor| match reactor {
        Reactor::Ring(ring) => ring.park(wait),
        Reactor::Epoll(epoll) => epoll.park(wait),
    })
}

fn with<R>(f: impl FnOnce(&mut Reactor) -> R) -> R {
    REACTOR
        .with_borrow_mut(|reactor| f(reactor.as_mut().expect("sockets live on a core, and a core installs its driver")))
}

/// For destructors, which may run when the thread's driver is gone.
fn with_any<R>(f: impl FnOnce(&mut Reactor) -> R) -> Option<R> {
    REACTOR.try_with(|reactor| reactor.try_borrow_mut().ok()?.as_mut().map(f)).ok().flatten()
}

/// An open descriptor; closed when the last owner is gone.
pub struct Fd {
    pub raw: RawFd,
    /// Its place in epoll's table.
    token: epoll::Token,
    /// With the ring: a send that was begun and that nobody has asked about since.
    posted: Cell<Option<Op>>,
}

impl Fd {
    /// Takes over a non-blocking socket.
    pub fn new(raw: RawFd) -> io::Result<Rc<Self>> {
        let token = with(|reactor| match reactor {
            Reactor::Ring(_) => Ok(epoll::Token::default()),
            Reactor::Epoll(epoll) => epoll.register(raw),
        });
        match token {
            Ok(token) => Ok(Rc::new(Self { raw, token, posted: Cell::new(None) })),
            Err(error) => {
                // SAFETY: the descriptor was ours to close, and nobody else knows it.
                unsafe { libc::close(raw) };
                Err(error)
            }
        }
    }

    /// Begins to send all of a buffer, so that whoever has nothing else to do need not be woken for its end. What comes back
    /// is to be sent in the ordinary way: with epoll a call says at once what the socket took, and a ring makes sends
    /// overtake one another.
    pub fn post(&self, mut buffer: Buffer) -> io::Result<Buffer> {
        with(|reactor| match reactor {
            Reactor::Ring(_) if buffer.is_empty() || buffer.len() >= AT_ONCE_MIN || self.has_posted() => Ok(buffer),
            Reactor::Ring(ring) => {
                self.posted.set(Some(ring.post(self.raw, buffer)));
                Ok(Buffer::none())
            }
            Reactor::Epoll(_) => match calls::send(self.raw, buffer.bytes(), Next::Anything) {
                Ok(sent) => {
                    buffer.consume(sent);
                    Ok(buffer)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(buffer),
                Err(error) => Err(error),
            },
        })
    }

    /// Whether something was posted that [`Fd::poll_posted`] has not said the end of.
    pub fn has_posted(&self) -> bool {
        let op = self.posted.take();
        let has = op.is_some();
        self.posted.set(op);
        has
    }

    /// How what was posted ended.
    pub fn poll_posted(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(mut op) = self.posted.take() else { return Poll::Ready(Ok(())) };
        with(|reactor| {
            // With epoll nothing stays posted.
            let Reactor::Ring(ring) = reactor else { return Poll::Ready(Ok(())) };
            loop {
                match ring.poll(&op, context) {
                    Poll::Pending => {
                        self.posted.set(Some(op));
                        return Poll::Pending;
                    }
                    Poll::Ready(Done { result: Err(error), .. }) => return Poll::Ready(Err(error)),
                    Poll::Ready(Done { buffer, .. }) if buffer.is_empty() => return Poll::Ready(Ok(())),
                    Poll::Ready(Done { result: Ok(0), .. }) => {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Done { result: Ok(sent), mut buffer }) => {
                        buffer.consume(sent);
                        op = ring.post(self.raw, buffer);
                    }
                }
            }
        })
    }

    /// Sends what the socket takes without waiting: last words, which nobody waits for.
    pub fn send_at_once(&self, bytes: &[u8]) {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the bytes are lent for the duration of a call that does not block.
        unsafe { libc::send(self.raw, bytes.as_ptr().cast(), bytes.len(), flags) };
    }

    /// Has the kernel acknowledge what it received now, instead of with our next bytes or 40 ms later.
    pub fn acknowledge_now(&self) {
        let on: libc::c_int = 1;
        // SAFETY: the option's value is lent for the duration of the call, with its size.
        unsafe {
            libc::setsockopt(
                self.raw,
                libc::IPPROTO_TCP,
                libc::TCP_QUICKACK,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as u32,
            );
        }
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        give_up(self.posted.take());
        let under_way = with_any(|reactor| match reactor {
            Reactor::Ring(ring) => ring.close(self.raw),
            Reactor::Epoll(epoll) => {
                epoll.forget(self.token);
                false
            }
        });
        if under_way != Some(true) {
            // SAFETY: the last owner is going, so nobody uses the descriptor any more.
            unsafe { libc::close(self.raw) };
        }
    }
}

/// A receive, an accept or a connect that goes on between polls; dropping it gives it up.
pub struct Pending {
    fd: Rc<Fd>,
    op: Option<Op>,
    /// With the ring: `op` waits for something to receive, and receives nothing itself.
    waits: bool,
    /// With the ring: there may be something, to be received by a call.
    readable: bool,
    /// With the ring: the first receive tries before it waits.
    hasty: bool,
}

impl Pending {
    pub fn new(fd: Rc<Fd>) -> Self {
        Self { fd, op: None, waits: false, readable: false, hasty: false }
    }

    /// Of a peer that has most likely sent something already.
    pub fn hasty(fd: Rc<Fd>) -> Self {
        Self { fd, op: None, waits: false, readable: false, hasty: true }
    }

    /// Receives behind what `buffer` holds. The ring brings a buffer of its own when there is something to put into it, so
    /// a connection that waits holds none; epoll takes one when there is something to read.
    pub fn poll_receive(
        &mut self,
        buffer: &mut Buffer,
        room: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        with(|reactor| match reactor {
            Reactor::Ring(ring) => loop {
                if self.readable && self.op.is_none() {
                    match calls::receive(self.fd.raw, buffer, room) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                        Err(error) => return Poll::Ready(Err(error)),
                        Ok((received, more)) => {
                            self.readable = more;
                            return Poll::Ready(Ok(received));
                        }
                    }
                }
                let op = self.op.get_or_insert_with(|| {
                    self.waits = room > SMALL_ROOM;
                    match self.waits {
                        true => ring.wait_readable(self.fd.raw),
                        false => ring.receive(self.fd.raw, std::mem::take(&mut self.hasty)),
                    }
                });
                let done = ready!(ring.poll(op, context));
                self.op = None;
                match done.result {
                    // Too many came at once; the buffers are there again.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok(_) if self.waits => self.readable = true,
                    Ok(received) => {
                        self.readable = received == SMALL_ROOM;
                        if buffer.is_empty() {
                            *buffer = done.buffer;
                        } else {
                            buffer.extend(done.buffer.bytes());
                        }
                        return Poll::Ready(Ok(received));
                    }
                }
            },
            Reactor::Epoll(epoll) => epoll.poll_receive(self.fd.token, self.fd.raw, buffer, room, context),
        })
    }

    /// Ready when a receive would bring something; nothing is held meanwhile.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        with(|reactor| match reactor {
            Reactor::Ring(_) if self.readable && self.op.is_none() => Poll::Ready(()),
            Reactor::Ring(ring) => {
                let op = self.op.get_or_insert_with(|| {
                    self.waits = true;
                    ring.wait_readable(self.fd.raw)
                });
                ring.poll_done(op, context)
            }
            Reactor::Epoll(epoll) => epoll.poll_readable(self.fd.token, context),
        })
    }

    /// The next connection of a listener.
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<RawFd>> {
        with(|reactor| match reactor {
            Reactor::Ring(ring) => {
                let op = self.op.get_or_insert_with(|| ring.accept(self.fd.raw));
                let accepted = ready!(ring.poll_accept(op, context));
                if accepted.is_err() {
                    // The kernel has ended it.
                    self.op = None;
                }
                Poll::Ready(accepted)
            }
            Reactor::Epoll(epoll) => epoll.poll_accept(self.fd.token, self.fd.raw, context),
        })
    }

    /// Asks a [`Pending::poll_accept`] to end; it goes on until it fails. False: there is none in the kernel's hands.
    pub fn end(&mut self) -> bool {
        with(|reactor| match (reactor, &self.op) {
            (Reactor::Ring(ring), Some(op)) => {
                ring.cancel(op);
                true
            }
            _ => false,
        })
    }

    pub fn poll_connect(&mut self, address: SocketAddr, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(|reactor| match reactor {
            Reactor::Ring(ring) => {
                let op = self.op.get_or_insert_with(|| ring.connect(self.fd.raw, address));
                let done = ready!(ring.poll(op, context));
                self.op = None;
                Poll::Ready(done.result.map(|_| ()))
            }
            Reactor::Epoll(epoll) => epoll.poll_connect(self.fd.token, self.fd.raw, address, context),
        })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        give_up(self.op.take());
    }
}

/// A wait for a socket to take something; dropping it gives it up.
pub struct Clearing {
    fd: Rc<Fd>,
    op: Option<Op>,
}

impl Clearing {
    pub fn new(fd: Rc<Fd>) -> Self {
        Self { fd, op: None }
    }

    /// Ready with about how much the socket takes.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        with(|reactor| {
            if let (Reactor::Ring(ring), Some(op)) = (&mut *reactor, &self.op) {
                ready!(ring.poll(op, context));
                self.op = None;
                return Poll::Ready(calls::send_room(self.fd.raw));
            }
            if let Writable::Room(room) = calls::writable(self.fd.raw) {
                return Poll::Ready(room);
            }
            match reactor {
                Reactor::Ring(ring) => {
                    let op = self.op.insert(ring.wait_writable(self.fd.raw));
                    ring.poll(op, context).map(|_| 0)
                }
                Reactor::Epoll(epoll) => epoll.wait_writable(self.fd.token, context).map(|()| 0),
            }
        })
    }
}

impl Drop for Clearing {
    fn drop(&mut self) {
        give_up(self.op.take());
    }
}

/// A send under way. Dropping it gives it up; the kernel keeps the buffer until it is done with it.
pub struct Sending {
    fd: Rc<Fd>,
    /// With the ring, the kernel has it while `op` is there.
    buffer: Buffer,
    op: Option<Op>,
    /// With the ring: what the kernel takes at once is sent by a call first.
    at_once: bool,
    next: Next,
}

/// From this size on the ring is only asked for what does not go at once.
const AT_ONCE_MIN: usize = 8 * 1024;

impl Sending {
    pub fn new(fd: Rc<Fd>, buffer: Buffer, next: Next) -> Self {
        let at_once = buffer.len() >= AT_ONCE_MIN;
        Self { fd, buffer, op: None, at_once, next }
    }

    /// Sends everything; the buffer comes back empty, for the next use.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<(io::Result<()>, Buffer)> {
        with(|reactor| {
            loop {
                if self.buffer.is_empty() && self.op.is_none() {
                    return Poll::Ready((Ok(()), std::mem::take(&mut self.buffer)));
                }
                let sent = match reactor {
                    Reactor::Ring(_) if std::mem::take(&mut self.at_once) => {
                        match calls::send(self.fd.raw, self.buffer.bytes(), self.next) {
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                            sent => sent,
                        }
                    }
                    Reactor::Ring(ring) => {
                        let op = self
                            .op
                            .get_or_insert_with(|| ring.send(self.fd.raw, std::mem::take(&mut self.buffer), self.next));
                        let done = ready!(ring.poll(op, context));
                        self.op = None;
                        self.buffer = done.buffer;
                        done.result
                    }
                    Reactor::Epoll(epoll) => {
                        ready!(epoll.poll_send(self.fd.token, self.fd.raw, self.buffer.bytes(), self.next, context))
                    }
                };
                match sent {
                    Ok(0) => {
                        return Poll::Ready((Err(io::ErrorKind::WriteZero.into()), std::mem::take(&mut self.buffer)));
                    }
                    Ok(sent) => self.buffer.consume(sent),
                    Err(error) => return Poll::Ready((Err(error), std::mem::take(&mut self.buffer))),
                }
            }
        })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        give_up(self.op.take());
    }
}

fn give_up(op: Option<Op>) {
    let Some(op) = op else { return };
    with_any(|reactor| {
        if let Reactor::Ring(ring) = reactor {
            ring.give_up(op);
        }
    });
}
