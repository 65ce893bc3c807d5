//! Listening sockets: bound by the management thread, one per core and address, accepted from by the cores.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
    rc::Rc,
    sync::{Arc, OnceLock, Weak},
    task::{Poll, Waker, ready},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    Stream, executor,
    pace::UNSENT_MAX,
    reactor::{Fd, Pending},
};

/// Connections that may wait to be accepted, per core and address; the kernel's `somaxconn` bounds it too.
const BACKLOG: i32 = 4096;

/// After so many connections in a row that waited already a listener lets the others have their turn. Under epoll whoever
/// connects fast enough would otherwise keep a core to himself.
const AT_ONCE_MAX: u32 = 64;

/// A core's socket of an address, bound and listening, before a core accepts from it.
pub struct Bound {
    socket: StdListener,
    /// Goes after the socket.
    open: Arc<()>,
}

/// Whether any socket of one [`bind`] is still open, on whichever core.
pub struct Presence(Weak<()>);

#[cfg(test)]
impl Bound {
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[cfg(test)]
impl From<StdListener> for Bound {
    fn from(socket: StdListener) -> Self {
        Self { socket, open: Arc::default() }
    }
}

impl Presence {
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Binds one socket per core.
///
/// # Errors
/// The address cannot be bound, or somebody else listens on it: that is found out with a socket that does not share, since
/// with `SO_REUSEPORT` a second gateway would silently take half of the traffic.
///
/// `shared`: this process listens on the port already, on another address that may overlap; then that is not asked.
pub fn bind(address: SocketAddr, cores: usize, shared: bool) -> io::Result<(Vec<Bound>, Presence)> {
    if !shared {
        drop(bind_one(address, false)?);
    }
    let open = Arc::new(());
    let presence = Presence(Arc::downgrade(&open));
    let bound = (0..cores).map(|_| Ok(Bound { socket: bind_one(address, true)?, open: open.clone() }));
    Ok((bound.collect::<io::Result<_>>()?, presence))
}

fn bind_one(address: SocketAddr, share: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit it: no system call per connection.
    socket.set_tcp_nodelay(true)?;
    // Nor for this; a kernel that cannot do it serves all the same.
    let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX as u32);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Clients may have this part of the descriptors; each of their requests needs one more, for its upstream.
const FOR_OTHERS: u64 = 4;
const FOR_OTHERS_MAX: u64 = 1024;

/// The kernel gives the lowest free number, so that a number says how many are in use.
pub fn is_for_clients(descriptor: i32) -> bool {
    static FIRST_RESERVED: OnceLock<u64> = OnceLock::new();
    let first = FIRST_RESERVED.get_or_init(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel fills a structure that is lent for the call.
        match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
            0 => limit.rlim_cur - (limit.rlim_cur / FOR_OTHERS).min(FOR_OTHERS_MAX),
            _ => u64::MAX,
        }
    });
    u64::try_from(descriptor).is_ok_and(|descriptor| descriptor < *first)
}

/// Whether another client may be accepted.
pub fn has_room() -> bool {
    // SAFETY: a descriptor is made and handed over to its only owner.
    let probe = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if probe < 0 {
        return false;
    }
    // SAFETY: as above.
    drop(unsafe { OwnedFd::from_raw_fd(probe) });
    is_for_clients(probe)
}

/// A core's own listener.
pub struct Listener {
    accepting: RefCell<Pending>,
    fd: Rc<Fd>,
    closing: Rc<Closing>,
    /// Accepts in a row that did not wait.
    at_once: Cell<u32>,
    /// The last field: it goes after the socket.
    _open: Arc<()>,
}

/// A connection that no driver knows yet, so that any core may take it.
pub struct Accepted {
    socket: OwnedFd,
    pub peer: SocketAddr,
}

impl Accepted {
    /// Takes it for this core, for good.
    pub fn open(self) -> io::Result<(Stream, SocketAddr)> {
        Ok((Stream::accepted(self.socket)?, self.peer))
    }

    /// Whether the descriptors that clients may take are taken with this one; the rest is for upstreams, files, probes.
    pub fn takes_the_last_room(&self) -> bool {
        !is_for_clients(self.socket.as_raw_fd())
    }
}

/// Ends a [`Listener`] from another task of the core.
pub struct Closer(Rc<Closing>);

#[derive(Default)]
struct Closing {
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Listener {
    /// # Errors
    /// The driver has no room for it.
    pub fn open(bound: Bound) -> io::Result<(Self, Closer)> {
        let fd = Fd::new(OwnedFd::from(bound.socket).into_raw_fd())?;
        let accepting = RefCell::new(Pending::new(fd.clone()));
        let closing = Rc::<Closing>::default();
        let closer = Closer(closing.clone());
        Ok((Self { accepting, fd, closing, at_once: Cell::new(0), _open: bound.open }, closer))
    }

    /// The next connection. `Ok(None)`: the listener was closed, and nothing that the driver had accepted is left.
    pub async fn accept(&self) -> io::Result<Option<Accepted>> {
        if self.at_once.get() >= AT_ONCE_MAX {
            self.at_once.set(0);
            executor::yield_now().await;
        }
        self.at_once.set(self.at_once.get() + 1);
        let accepted = poll_fn(|context| {
            let mut accepting = self.accepting.borrow_mut();
            let closed = self.closing.closed.get();
            // The driver stops, and gives what it had accepted, before anybody looks what still waits.
            if closed && !accepting.end() {
                return Poll::Ready(None);
            }
            self.closing.waker.replace(Some(context.waker().clone()));
            let polled = accepting.poll_accept(context);
            if polled.is_pending() {
                self.at_once.set(0);
            }
            match ready!(polled) {
                Err(_) if closed => Poll::Ready(None),
                accepted => Poll::Ready(Some(accepted)),
            }
        });
        let Some(accepted) = accepted.await.transpose()? else { return Ok(None) };
        // SAFETY: the driver hands over a socket that nobody else has.
        connection(unsafe { OwnedFd::from_raw_fd(accepted) }).map(Some)
    }

    /// Has the driver accept no more on its own; what it had accepted is given by [`Listener::accept`], which fails once
    /// after it and then begins anew.
    pub fn pause(&self) {
        self.accepting.borrow_mut().end();
    }

    /// From now on the kernel begins no new connection here; those it has begun can still be accepted. Without it, whoever
    /// connects between the last accept and the close is reset. A SYN that is dropped is sent again a second later, and
    /// then refused, or taken by whoever listens there by then.
    pub fn begin_none(&self) -> io::Result<()> {
        const SYN: u32 = 0x02;
        const ACK: u32 = 0x10;
        const FLAGS_AT: u32 = 13;
        let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS_AT),
            statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
            statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the program is lent for the duration of the call, with its length; the kernel copies it.
        let result = unsafe {
            libc::setsockopt(
                self.fd.raw,
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                size_of::<libc::sock_fprog>() as u32,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// What had been completed by the kernel when the listener was closed; then nothing more.
    pub fn accept_waiting(&self) -> Option<Accepted> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        loop {
            // SAFETY: no address is asked for, and a descriptor that comes is handed over to its only owner.
            let socket = unsafe {
                match libc::accept4(self.fd.raw, std::ptr::null_mut(), std::ptr::null_mut(), flags) {
                    ..0 => return None,
                    accepted => OwnedFd::from_raw_fd(accepted),
                }
            };
            // One that has left again is none; others may wait behind it.
            if let Ok(connection) = connection(socket) {
                return Some(connection);
            }
        }
    }
}

impl Drop for Listener {
    /// A ring closes a descriptor in its own time. The address is free for others now, and who asks for its [`Presence`]
    /// is told the truth.
    fn drop(&mut self) {
        // SAFETY: a plain system call on a descriptor that is open for as long as `fd` is.
        unsafe { libc::shutdown(self.fd.raw, libc::SHUT_RD) };
    }
}

fn connection(socket: OwnedFd) -> io::Result<Accepted> {
    let peer = SockRef::from(&socket).peer_addr().map_err(|error| match error.raw_os_error() {
        // It was reset before we asked; a load balancer's probe does that. That is nothing to slow down for.
        Some(libc::ENOTCONN) => io::Error::from_raw_os_error(libc::ECONNABORTED),
        _ => error,
    })?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Accepted { socket, peer })
}

impl Closer {
    pub fn close(self) {
        self.0.closed.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream as StdStream, time::Duration};

    use super::*;
    use crate::net::driver::{self, Flags, Kind};

    #[test]
    fn the_last_descriptors_are_not_for_clients() {
        assert!(has_room(), "a test has few open");
        assert!(is_for_clients(3));
        assert!(!is_for_clients(i32::MAX));
        assert!(!is_for_clients(-1));
    }

    #[test]
    fn a_listener_on_its_way_out_gives_what_was_begun_and_begins_nothing() {
        let checked = driver::run(Kind::Epoll, async {
            let address = SocketAddr::from(([127, 0, 0, 1], 0));
            let socket = bind_one(address, true).expect("a free port");
            let address = socket.local_addr().expect("it is bound");
            let (listener, _closer) = Listener::open(socket.into()).expect("a descriptor is free");
            let before = StdStream::connect(address).expect("it listens");
            listener.begin_none().expect("a filter needs no privilege");
            assert!(StdStream::connect_timeout(&address, Duration::from_millis(50)).is_err(), "nobody answers");
            let Accepted { peer, .. } = listener.accept_waiting().expect("the connection from before");
            assert_eq!(peer, before.local_addr().expect("it is connected"));
            assert!(listener.accept_waiting().is_none());
        });
        checked.expect("epoll is always there");
    }

    /// Nobody is told that an address is free which still clashes.
    #[test]
    fn an_address_is_there_until_its_last_socket_is_closed() {
        for kind in [Kind::Epoll, Kind::IoUring(Flags::DeferTaskrun)] {
            let checked = driver::run(kind, async {
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                let (mut bound, presence) = bind(any, 1, false).expect("a free port");
                let address = bound[0].local_address().expect("it is bound");
                let (never_opened, _) = bind(address, 1, true).expect("it is shared");
                let (listener, closer) = Listener::open(bound.remove(0)).expect("a descriptor is free");
                drop(never_opened);
                let client = StdStream::connect(address).expect("it listens");
                assert!(presence.is_open() && bind(address, 1, false).is_err());
                let _ = listener.accept().await;
                closer.close();
                while !matches!(listener.accept().await, Ok(None)) {}
                assert!(presence.is_open() && bind(address, 1, false).is_err());
                drop(listener);
                assert!(!presence.is_open() && bind(address, 1, false).is_ok());
                drop(client);
            });
            // A host without io_uring has nothing to check.
            assert!(checked.is_ok() || kind != Kind::Epoll);
        }
    }

    #[test]
    fn a_client_that_has_left_again_is_passed_over() {
        for kind in [Kind::Epoll, Kind::IoUring(Flags::DeferTaskrun)] {
            let checked = driver::run(kind, async {
                let socket = bind_one(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("a free port");
                let address = socket.local_addr().expect("it is bound");
                let (listener, _closer) = Listener::open(socket.into()).expect("a descriptor is free");
                connect_and_reset(address);
                let stays = StdStream::connect(address).expect("it listens");
                let gone = listener.accept().await.err().expect("it has left");
                assert_eq!(gone.raw_os_error(), Some(libc::ECONNABORTED), "as if it had never been accepted");
                let Accepted { peer, .. } = listener.accept().await.expect("one waits").expect("it is open");
                assert_eq!(peer, stays.local_addr().expect("it is connected"));
                listener.pause();
                while listener.accepting.borrow_mut().end() {
                    let ended = listener.accept().await.err().expect("nobody else comes");
                    assert_eq!(ended.raw_os_error(), Some(libc::ECANCELED));
                }
                connect_and_reset(address);
                let _stays = StdStream::connect(address).expect("it listens");
                assert!(listener.accept_waiting().is_some(), "behind the one that left");
            });
            // A host without io_uring has nothing to check.
            assert!(checked.is_ok() || kind != Kind::Epoll);
        }
    }

    #[test]
    fn clients_that_keep_coming_let_others_run() {
        let checked = driver::run(Kind::Epoll, async {
            let socket = bind_one(SocketAddr::from(([127, 0, 0, 1], 0)), true).expect("a free port");
            let address = socket.local_addr().expect("it is bound");
            let (listener, _closer) = Listener::open(socket.into()).expect("a descriptor is free");
            let mut clients = vec![StdStream::connect(address).expect("it listens")];
            // The first accept waits for the driver to tell that there is somebody.
            listener.accept().await.expect("one waits");
            let ran = Rc::new(Cell::new(false));
            let other = ran.clone();
            executor::spawn(async move { other.set(true) });
            for _ in 0..=AT_ONCE_MAX {
                clients.push(StdStream::connect(address).expect("it listens"));
                listener.accept().await.expect("one waits");
            }
            assert!(ran.get());
        });
        checked.expect("epoll is always there");
    }

    fn connect_and_reset(address: SocketAddr) {
        let client = StdStream::connect(address).expect("it listens");
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("an option of every socket");
    }
}
