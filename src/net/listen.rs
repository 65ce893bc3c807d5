//! Listening sockets: bound by the management thread, one per core and address, accepted from by the cores.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
};

use monoio::{
    io::{CancelHandle, Canceller},
    net::{TcpListener, TcpStream},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::Stream;

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
    tcp: TcpListener,
    /// The same socket, for taking what still waits when the listener goes.
    last: StdListener,
    closing: CancelHandle,
}

/// Ends a [`Listener`] from another task of the core.
pub struct Closer(Canceller);

impl Listener {
    pub fn open(socket: StdListener) -> io::Result<(Self, Closer)> {
        let last = socket.try_clone()?;
        let canceller = Canceller::new();
        let closing = canceller.handle();
        Ok((Self { tcp: TcpListener::from_std(socket)?, last, closing }, Closer(canceller)))
    }

    /// The next connection. `Ok(None)`: the listener was closed.
    pub async fn accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        match self.tcp.cancelable_accept(self.closing.clone()).await {
            Ok((tcp, peer)) => Ok(Some((Stream::new(tcp), peer))),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What had been completed by the kernel when the listener was closed; then nothing more.
    pub fn accept_waiting(&self) -> Option<(Stream, SocketAddr)> {
        let (tcp, peer) = self.last.accept().ok()?;
        tcp.set_nonblocking(true).ok()?;
        Some((Stream::new(TcpStream::from_std(tcp).ok()?), peer))
    }
}

impl Closer {
    pub fn close(self) {
        self.0.cancel();
    }
}
