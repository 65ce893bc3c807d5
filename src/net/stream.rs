//! A TCP connection as two halves: a receiver that owns what was read and not consumed, and a sender.
//!
//! A receive that was begun is never dropped, since its bytes would be lost: it belongs to the receiver, not to whoever
//! waits for it. So a waiter may give up at any time and a later one goes on where it stopped.

use std::{
    future::poll_fn,
    io,
    mem::ManuallyDrop,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use rustls::{ProtocolVersion, pki_types::CertificateDer};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    buffer::{Buffer, SMALL_ROOM},
    calls::Next,
    executor,
    reactor::{Clearing, Fd, Pending, Sending},
    tls::{self, Established, Facts, HandshakeError, Layer, Session, Side},
};

pub struct Stream {
    pub receiver: Receiver,
    pub sender: Sender,
}

impl Stream {
    /// Takes over a connected, non-blocking socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let fd = Fd::new(socket.into_raw_fd())?;
        Ok(Self::of(Pending::new(fd.clone()), fd))
    }

    /// The same of a client that was just accepted: it speaks first, and has most likely done so.
    pub fn accepted(socket: OwnedFd) -> io::Result<Self> {
        let fd = Fd::new(socket.into_raw_fd())?;
        Ok(Self::of(Pending::hasty(fd.clone()), fd))
    }

    fn of(receiving: Pending, fd: Rc<Fd>) -> Self {
        let receiver =
            Receiver { receiving, buffer: Buffer::none(), room: SMALL_ROOM, at_once: 0, layer: Layer::Plain };
        Self { receiver, sender: Sender { fd, layer: Layer::Plain } }
    }

    /// Shakes hands; from then on what is sent and received is encrypted. The caller bounds the time. `after_step` runs
    /// after each step of the library, before anything else can run on this core, and may end it: see
    /// [`HandshakeError::Fallback`]. Returns what was agreed on, and the peer's certificate.
    ///
    /// # Errors
    /// The peer does not speak TLS, has left, or one side refuses the other; it has been told why.
    pub async fn secure(
        &mut self,
        side: Side,
        after_step: impl FnMut(Option<ProtocolVersion>) -> Result<(), HandshakeError>,
    ) -> Result<(Facts, Option<CertificateDer<'static>>), HandshakeError> {
        let Receiver { receiving, buffer, .. } = &mut self.receiver;
        let done = tls::handshake(&self.sender.fd, receiving, buffer, side, after_step).await?;
        let Established { session, plain, facts, peer } = done;
        self.receiver.buffer = plain;
        self.receiver.layer = Layer::Tls(session.clone());
        self.sender.layer = Layer::Tls(session);
        Ok((facts, peer))
    }

    /// Connects; the caller bounds the time.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let fd = Fd::new(socket.into_raw_fd())?;
        let mut connecting = Pending::new(fd.clone());
        poll_fn(|context| connecting.poll_connect(address, context)).await?;
        Ok(Self::of(Pending::new(fd.clone()), fd))
    }
}

pub struct Receiver {
    receiving: Pending,
    buffer: Buffer,
    /// How much the next receive may bring.
    room: usize,
    /// Receives in a row that were over as soon as they were asked for.
    at_once: u32,
    layer: Layer,
}

/// After so many receives that did not wait a connection lets the others have their turn: a peer that is fast enough would
/// otherwise keep its core to itself.
const AT_ONCE_MAX: u32 = 16;

impl Receiver {
    /// Received and not consumed.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.bytes()
    }

    pub fn consume(&mut self, bytes: usize) {
        self.buffer.consume(bytes);
    }

    /// Takes the received bytes away, with their buffer.
    pub fn take(&mut self) -> Buffer {
        std::mem::take(&mut self.buffer)
    }

    /// Gives the buffer back where nothing is in it: whoever waits for something else first takes none meanwhile.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Buffer::none();
        }
    }

    /// How much the next receive may bring; a buffer of that size is taken when there is something.
    pub fn want(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Waits for more bytes behind those that are buffered. `Ok(0)`: the peer will send no more.
    pub async fn fill(&mut self) -> io::Result<usize> {
        if self.at_once >= AT_ONCE_MAX {
            self.at_once = 0;
            executor::yield_now().await;
        }
        self.at_once += 1;
        poll_fn(|context| {
            let polled = self.poll_fill(context);
            if polled.is_pending() {
                self.at_once = 0;
            }
            polled
        })
        .await
    }

    /// How much the next receive may bring.
    pub fn wanted(&self) -> usize {
        self.room
    }

    /// Waits until there is something to receive, and holds nothing of it: whoever has no place for it yet leaves it where
    /// it is.
    pub async fn readable(&mut self) {
        poll_fn(|context| {
            if self.buffer.is_empty() {
                self.buffer = Buffer::none();
            }
            if let Layer::Tls(session) = &self.layer {
                if session.is_over() {
                    return Poll::Ready(());
                }
                session.make_small();
            }
            self.receiving.poll_readable(context)
        })
        .await;
    }

    /// Begins a receive, so that whatever the peer sends meanwhile is noticed by [`Receiver::is_quiet`].
    pub fn listen_in(&mut self) {
        let _ = self.poll_fill(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether the receive begun by [`Receiver::listen_in`] still waits: no byte, no end, no error.
    pub fn is_quiet(&mut self) -> bool {
        self.buffer.is_empty() && self.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            // Waiting, a connection holds no memory to read into.
            self.buffer = Buffer::none();
        }
        match &self.layer {
            Layer::Plain => self.receiving.poll_receive(&mut self.buffer, self.room, context),
            Layer::Tls(session) => session.poll_receive(&mut self.receiving, &mut self.buffer, self.room, context),
        }
    }
}

/// The sending half. Clones send on the same connection; their owner keeps them in order.
#[derive(Clone)]
pub struct Sender {
    fd: Rc<Fd>,
    layer: Layer,
}

impl Sender {
    /// Sends everything; the buffer comes back empty, for the next use.
    pub async fn send(&self, buffer: Buffer) -> (io::Result<()>, Buffer) {
        match &self.layer {
            Layer::Plain => self.send_as_it_is(buffer, Next::Anything).await,
            Layer::Tls(session) => self.send_sealed(session, buffer).await,
        }
    }

    /// As [`Sender::send`], but where there is no TLS this returns when a small buffer is on its way; later sends wait for
    /// it. Whoever closes the connection asks [`Sender::settle`] first, or what has not left stays behind.
    ///
    /// # Errors
    /// Those of this send as far as they are known by now, and of the one before.
    pub async fn post(&self, buffer: Buffer) -> io::Result<()> {
        if let Layer::Tls(session) = &self.layer {
            return self.send_sealed(session, buffer).await.0;
        }
        self.settle().await?;
        let rest = self.fd.post(buffer)?;
        match rest.is_empty() {
            true => Ok(()),
            false => self.send_as_it_is(rest, Next::Anything).await.0,
        }
    }

    /// Waits until everything posted has left.
    pub async fn settle(&self) -> io::Result<()> {
        match self.fd.has_posted() {
            true => poll_fn(|context| self.fd.poll_posted(context)).await,
            false => Ok(()),
        }
    }

    /// Whether something was posted since it was last asked about.
    pub fn has_posted(&self) -> bool {
        self.fd.has_posted()
    }

    /// Whether everything posted has left by now.
    pub fn is_settled(&self) -> bool {
        matches!(self.fd.poll_posted(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Sends everything and ends our side, as [`Sender::finish`] does. Where there is no TLS, both may leave in
    /// one segment.
    pub async fn send_last(&self, buffer: Buffer) -> (io::Result<()>, Buffer) {
        let (sent, buffer) = match &self.layer {
            Layer::Plain => self.send_as_it_is(buffer, Next::End).await,
            Layer::Tls(session) => self.send_sealed(session, buffer).await,
        };
        if sent.is_ok() {
            self.finish();
        }
        (sent, buffer)
    }

    async fn send_as_it_is(&self, buffer: Buffer, next: Next) -> (io::Result<()>, Buffer) {
        if let Err(error) = self.settle().await {
            return (Err(error), buffer);
        }
        let mut sending = Sending::new(self.fd.clone(), buffer, next);
        poll_fn(|context| sending.poll(context)).await
    }

    /// Waits until the socket takes more than a little, and says about how much. One that is broken takes anything.
    pub async fn room(&self) -> usize {
        let mut clearing = Clearing::new(self.fd.clone());
        poll_fn(|context| clearing.poll(context)).await
    }

    /// Where the peer connected to, or what the kernel chose for a connection of ours.
    pub fn local_address(&self) -> SocketAddr {
        // SAFETY: the descriptor is open for as long as `self` lives, and the socket made of it is not dropped.
        let socket = unsafe { ManuallyDrop::new(Socket::from_raw_fd(self.fd.raw)) };
        let local = socket.local_addr().ok().and_then(|address| address.as_socket());
        local.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    async fn send_sealed(&self, session: &Session, mut buffer: Buffer) -> (io::Result<()>, Buffer) {
        while !buffer.is_empty() {
            let sealed = match session.seal(buffer.bytes()) {
                Ok((sealed, taken)) => {
                    buffer.consume(taken);
                    sealed
                }
                Err(error) => return (Err(error), buffer),
            };
            let (sent, _) = self.send_as_it_is(sealed, Next::Anything).await;
            session.sealed_was_sent(&sent);
            if sent.is_err() {
                return (sent, buffer);
            }
        }
        (Ok(()), buffer)
    }

    /// Whether the peer has ended its side, seen without consuming anything. It may have left; it may still read.
    pub fn peer_has_ended(&self) -> bool {
        match &self.layer {
            Layer::Plain => self.peek().is_ok_and(|bytes| bytes == 0),
            Layer::Tls(session) => session.peer_has_closed() || self.has_hung_up() && !self.holds_more_than_an_alert(),
        }
    }

    /// Whether the connection is broken: the peer neither sends nor reads any more.
    pub fn peer_has_reset(&self) -> bool {
        let quiet = |error: io::Error| matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR));
        self.peek().is_err_and(|error| !quiet(error))
    }

    /// Whether bytes of the peer wait that nobody has read.
    pub fn peer_has_sent(&self) -> bool {
        match &self.layer {
            Layer::Plain => self.peek().is_ok_and(|bytes| bytes > 0),
            Layer::Tls(session) => session.has_received() || self.holds_more_than_an_alert(),
        }
    }

    /// Whether the kernel has neither bytes, nor an end, nor an error from the peer.
    pub fn peer_is_silent(&self) -> bool {
        self.peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn peek(&self) -> io::Result<usize> {
        let mut byte = 0u8;
        // SAFETY: one byte of the stack is lent for the duration of a call that does not block.
        let n = unsafe { libc::recv(self.fd.raw, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Whether the peer has closed or shut down its side of the socket, whatever it has sent before.
    pub fn has_hung_up(&self) -> bool {
        let mut asked = libc::pollfd { fd: self.fd.raw, events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one entry is lent for the duration of a call that does not wait.
        unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
    }

    /// Whether the kernel holds bytes of the peer that are more than its goodbye.
    fn holds_more_than_an_alert(&self) -> bool {
        let mut bytes = [0u8; tls::PEEK];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: an array of the stack is lent, with its size, for the duration of a call that does not block.
        let n = unsafe { libc::recv(self.fd.raw, bytes.as_mut_ptr().cast(), bytes.len(), flags) };
        usize::try_from(n).is_ok_and(|n| !tls::is_at_most_an_alert(&bytes[..n]))
    }

    /// Tells the peer that no more will come (close_notify where there is TLS, and FIN).
    pub fn finish(&self) {
        if let Layer::Tls(session) = &self.layer {
            session.finish();
        }
        // SAFETY: a plain system call on a descriptor that `self` keeps open.
        unsafe { libc::shutdown(self.fd.raw, libc::SHUT_WR) };
    }

    /// Makes the close that follows a reset, so that the peer cannot take what it has for the whole.
    pub fn reset_on_close(&self) {
        if let Layer::Tls(session) = &self.layer {
            session.break_off();
        }
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the option's value is lent for the duration of the call, with its size.
        unsafe {
            libc::setsockopt(
                self.fd.raw,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as u32,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::net::{
        calls,
        driver::{self, Kind},
        task,
    };

    #[test]
    fn a_peer_that_is_always_ready_lets_others_run() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let others_ran = driver::run(Kind::Epoll, async move {
            let mut stream = Stream::connect(address).await.expect("the listener is there");
            let (peer, _) = listener.accept().expect("a connection waits");
            let sent = send_all_it_takes(peer);
            // The first read waits for the driver to tell that there is something.
            let mut received = stream.receiver.fill().await.expect("the peer is there");
            let ran = Rc::new(Cell::new(false));
            let other = ran.clone();
            task::spawn(async move { other.set(true) });
            while received < sent {
                received += stream.receiver.fill().await.expect("the peer is there");
                stream.receiver.consume(stream.receiver.buffered().len());
            }
            ran.get()
        });
        assert!(others_ran.expect("epoll is always there"));
    }

    #[test]
    fn what_is_posted_to_a_peer_that_does_not_read_arrives_when_it_does() {
        for kind in [Kind::Epoll, Kind::IoUring(driver::Flags::DeferTaskrun)] {
            let received = driver::run(kind, async move {
                let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
                let address = listener.local_addr().expect("it is bound");
                let stream = Stream::connect(address).await.expect("the listener is there");
                let (mut peer, _) = listener.accept().expect("a connection waits");
                let mut sent = 0;
                while let Ok(taken) = calls::send(stream.sender.fd.raw, &[b'.'; 65_536], Next::Anything) {
                    sent += taken;
                }
                let read_on = move || {
                    std::thread::spawn(move || {
                        let mut received = Vec::new();
                        peer.read_to_end(&mut received).map(|_| received)
                    })
                };
                let reader = if kind == Kind::Epoll {
                    let reader = read_on();
                    stream.sender.post(holding(b"one")).await.expect("the peer is there");
                    reader
                } else {
                    stream.sender.post(holding(b"one")).await.expect("the peer is there");
                    assert!(stream.sender.has_posted() && !stream.sender.is_settled(), "it cannot have left");
                    read_on()
                };
                stream.sender.send(holding(b"two")).await.0.expect("the peer reads");
                stream.sender.post(holding(b"three")).await.expect("the peer reads");
                stream.sender.settle().await.expect("the peer reads");
                assert!(!stream.sender.has_posted());
                stream.sender.finish();
                let received = reader.join().expect("it does not panic").expect("no error but the end");
                assert_eq!(received[sent..], *b"onetwothree");
            });
            assert!(received.is_ok() || kind != Kind::Epoll);
        }
    }

    fn holding(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::with_room(bytes.len());
        buffer.extend(bytes);
        buffer
    }

    fn send_all_it_takes(mut peer: TcpStream) -> usize {
        peer.set_nonblocking(true).expect("a socket can be made so");
        let mut sent = 0;
        while let Ok(bytes) = peer.write(&[0; 65_536]) {
            sent += bytes;
        }
        // The other end must not see an end.
        std::mem::forget(peer);
        sent
    }
}
