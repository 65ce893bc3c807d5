//! Listening sockets: bound by the management thread, one per core and address, accepted from by the cores.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    rc::Rc,
    task::{Poll, Waker},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    Stream,
    reactor::{Fd, Pending},
};

/// Connections that may wait to be accepted, per core and address; the kernel's `somaxconn` bounds it too.
const BACKLOG: i32 = 4096;

/// Binds one socket per core.
///
/// # Errors
/// The address cannot be bound, or somebody else listens on it: that is found out with a socket that does not share, since
/// with `SO_REUSEPORT` a second gateway would silently take half of the traffic.
///
/// `shared`: this process listens on the port already, on another address that may overlap; then that is not asked.
pub fn bind(address: SocketAddr, cores: usize, shared: bool) -> io::Result<Vec<StdListener>> {
    if !shared {
        drop(bind_one(address, false)?);
    }
    (0..cores).map(|_| bind_one(address, true)).collect()
}

fn bind_one(address: SocketAddr, share: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it: no system call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A core's own listener.
pub struct Listener {
    accepting: RefCell<Pending>,
    /// The same socket, for taking what still waits when the listener goes.
    last: StdListener,
    closing: Rc<Closing>,
}

/// Ends a [`Listener`] from another task of the core.
pub struct Closer(Rc<Closing>);

#[derive(Default)]
struct Closing {
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Listener {
    pub fn open(socket: StdListener) -> io::Result<(Self, Closer)> {
        let last = socket.try_clone()?;
        let accepting = RefCell::new(Pending::new(Fd::new(OwnedFd::from(socket).into_raw_fd())?));
        let closing = Rc::<Closing>::default();
        Ok((Self { accepting, last, closing: closing.clone() }, Closer(closing)))
    }

    /// The next connection. `Ok(None)`: the listener was closed, and nothing that the driver had accepted is left.
    pub async fn accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        let accepted = poll_fn(|context| {
            if self.closing.closed.get() {
                // The driver stops before anybody looks what still waits.
                return Poll::Ready(None);
            }
            self.closing.waker.replace(Some(context.waker().clone()));
            self.accepting.borrow_mut().poll_accept(context).map(Some)
        });
        let Some(accepted) = accepted.await.transpose()? else { return Ok(None) };
        // SAFETY: the driver hands over a socket that nobody else has.
        connection(unsafe { OwnedFd::from_raw_fd(accepted) }).map(Some)
    }

    /// What had been completed by the kernel when the listener was closed; then nothing more.
    pub fn accept_waiting(&self) -> Option<(Stream, SocketAddr)> {
        let (tcp, _) = self.last.accept().ok()?;
        tcp.set_nonblocking(true).ok()?;
        connection(tcp.into()).ok()
    }
}

fn connection(socket: OwnedFd) -> io::Result<(Stream, SocketAddr)> {
    let peer = SockRef::from(&socket).peer_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((Stream::new(socket)?, peer))
}

impl Closer {
    pub fn close(self) {
        self.0.closed.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}
