//! A TCP connection as two halves: a receiver that owns what was read and not consumed, and a sender.
//!
//! A read that was begun is never dropped, since its bytes would be lost: it belongs to the receiver, not to whoever waits
//! for it. So a waiter may give up at any time and a later one goes on where it stopped.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use monoio::{
    io::{AsyncWriteRent, CancelableAsyncReadRent, Canceller},
    net::TcpStream,
};

use super::{
    buffer::{self, Buffer},
    listen,
};

pub struct Stream {
    pub receiver: Receiver,
    pub sender: Sender,
}

impl Stream {
    pub fn new(tcp: TcpStream) -> Self {
        let socket = Rc::new(Socket(UnsafeCell::new(tcp)));
        Self { receiver: Receiver::new(socket.clone()), sender: Sender { socket } }
    }

    /// Whether the descriptors that clients may take are taken with this one; the rest is for upstreams, files, probes.
    pub fn takes_the_last_room(&self) -> bool {
        !listen::is_for_clients(self.sender.socket.fd())
    }

    /// Connects; the caller bounds the time.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpStream::connect_addr(address).await?;
        tcp.set_nodelay(true)?;
        Ok(Self::new(tcp))
    }
}

/// The runtime wants `&mut` for each direction, though both only borrow the descriptor.
struct Socket(UnsafeCell<TcpStream>);

impl Socket {
    #[allow(clippy::mut_from_ref)]
    fn tcp(&self) -> &mut TcpStream {
        // SAFETY: one thread, and every operation of the runtime clones the shared descriptor before it first waits; no
        // reference into the `TcpStream` lives across an await that another call could overlap with a conflicting write.
        unsafe { &mut *self.0.get() }
    }

    fn fd(&self) -> i32 {
        self.tcp().as_raw_fd()
    }
}

/// What the read loop is asked for, and what came of it.
#[derive(Default)]
struct Exchange {
    job: Cell<Option<Job>>,
    done: Cell<Option<(io::Result<usize>, Buffer)>>,
    canceller: RefCell<Canceller>,
}

enum Job {
    Read(Buffer),
    /// Wait for bytes without holding a buffer for them.
    Ready,
}

pub struct Receiver {
    socket: Rc<Socket>,
    exchange: Rc<Exchange>,
    /// The read loop: lives as long as the connection, so a read in flight outlives every waiter.
    reading: Option<Pin<Box<dyn Future<Output = ()>>>>,
    pending: bool,
    /// What is pending is a wait for readiness, not a read.
    dozing: bool,
    cancelling: bool,
    buffer: Buffer,
    /// How large the next buffer should be.
    room: usize,
}

impl Receiver {
    fn new(socket: Rc<Socket>) -> Self {
        Self {
            socket,
            exchange: Rc::default(),
            reading: None,
            pending: false,
            dozing: false,
            cancelling: false,
            buffer: Buffer::none(),
            room: buffer::SMALL_ROOM,
        }
    }

    /// Received and not consumed. Empty while a read is in flight.
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

    /// Puts back what [`Receiver::take`] took.
    pub fn put_back(&mut self, buffer: Buffer) {
        debug_assert!(!self.pending && self.buffer.is_empty(), "bytes would change their order");
        self.buffer = buffer;
    }

    /// How much the next read may bring; a buffer of that size is taken when it starts.
    pub fn want(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// Waits for more bytes behind those that are buffered. `Ok(0)`: the peer will send no more.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(context)).await
    }

    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.pending {
            let mut buffer = std::mem::take(&mut self.buffer);
            if buffer.is_none() || buffer.is_empty() && buffer.room() < self.room {
                buffer = Buffer::with_room(self.room);
            } else if buffer.room() < 512 {
                buffer.reserve(self.room.max(buffer.len()));
            }
            self.begin(Job::Read(buffer));
        }
        if self.dozing {
            ready!(self.poll_pending(context))?;
            return self.poll_fill(context);
        }
        self.poll_pending(context)
    }

    /// As [`Receiver::fill`], but gives its buffer back while `quiet` holds; whoever makes it hold polls this again.
    pub async fn fill_unless(&mut self, quiet: impl Fn() -> bool) -> io::Result<usize> {
        poll_fn(|context| {
            if quiet() && self.pending && !self.dozing && !self.cancelling {
                self.cancelling = true;
                self.cancel();
            }
            match ready!(self.poll_fill(context)) {
                Err(error) if self.cancelling && error.raw_os_error() == Some(libc::ECANCELED) => {
                    self.cancelling = false;
                    let job = if self.buffer.is_empty() { Job::Ready } else { Job::Read(self.take()) };
                    self.begin(job);
                    self.poll_fill(context)
                }
                result => {
                    self.cancelling = false;
                    Poll::Ready(result)
                }
            }
        })
        .await
    }

    /// Waits until there is something to read, holding no buffer. Only with nothing buffered and no read in flight.
    pub async fn readable(&mut self) -> io::Result<()> {
        debug_assert!(self.buffer.is_empty(), "what is buffered is readable");
        self.buffer = Buffer::none();
        poll_fn(|context| {
            if !self.pending {
                self.begin(Job::Ready);
            }
            self.poll_pending(context).map_ok(|_| ())
        })
        .await
    }

    /// Takes back the read in flight, and with it its buffer. `Ok(true)`: bytes (or the end) came first and are buffered.
    pub async fn release(&mut self) -> io::Result<bool> {
        if self.pending {
            self.cancel();
            match poll_fn(|context| self.poll_pending(context)).await {
                Ok(_) => return Ok(true),
                Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
                Err(error) => return Err(error),
            }
        }
        if self.buffer.is_empty() {
            self.buffer = Buffer::none();
            self.reading = None;
        }
        Ok(false)
    }

    /// Begins a read, so that whatever the peer sends meanwhile is noticed by [`Receiver::is_quiet`].
    pub fn listen_in(&mut self) {
        let _ = self.poll_fill(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether the wait begun by [`Receiver::listen_in`] or [`Receiver::doze`] still goes on: no byte, no end, no error.
    pub fn is_quiet(&mut self) -> bool {
        self.pending && self.poll_pending(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// As [`Receiver::listen_in`], but holding no buffer.
    pub fn doze(&mut self) {
        if !self.pending {
            self.begin(Job::Ready);
        }
        let _ = self.poll_pending(&mut Context::from_waker(Waker::noop()));
    }

    /// Asks for the read in flight to end; it may bring bytes all the same.
    fn cancel(&mut self) {
        let canceller = self.exchange.canceller.take();
        self.exchange.canceller.replace(canceller.cancel());
    }

    fn begin(&mut self, job: Job) {
        self.dozing = matches!(job, Job::Ready);
        if self.dozing {
            self.buffer = Buffer::none();
        }
        self.exchange.job.set(Some(job));
        self.pending = true;
        if self.reading.is_none() {
            self.reading = Some(Box::pin(read_loop(self.socket.clone(), self.exchange.clone())));
        }
    }

    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        // The loop never ends; what it has to say stands in `done`.
        let _ = reading.as_mut().poll(context);
        match self.exchange.done.take() {
            Some((result, buffer)) => {
                self.pending = false;
                self.dozing = false;
                self.buffer = buffer;
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }
}

async fn read_loop(socket: Rc<Socket>, exchange: Rc<Exchange>) {
    loop {
        let job = poll_fn(|_| exchange.job.take().map_or(Poll::Pending, Poll::Ready)).await;
        let done = match job {
            Job::Read(buffer) => {
                let cancel = exchange.canceller.borrow().handle();
                socket.tcp().cancelable_read(buffer, cancel).await
            }
            Job::Ready => (socket.tcp().readable(false).await.map(|()| 0), Buffer::none()),
        };
        exchange.done.set(Some(done));
    }
}

/// The sending half. Clones send on the same connection; their owner keeps them in order.
#[derive(Clone)]
pub struct Sender {
    socket: Rc<Socket>,
}

impl Sender {
    /// Sends everything; the buffer comes back empty, for the next use.
    pub async fn send(&self, mut buffer: Buffer) -> (io::Result<()>, Buffer) {
        while !buffer.is_empty() {
            let (result, back) = self.socket.tcp().write(buffer).await;
            buffer = back;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(sent) => buffer.consume(sent),
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Whether the peer has closed its side or reset the connection, seen without consuming anything.
    pub fn peer_is_gone(&self) -> bool {
        match self.peek() {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)),
        }
    }

    /// Whether bytes of the peer wait that nobody has read.
    pub fn peer_has_sent(&self) -> bool {
        self.peek().is_ok_and(|bytes| bytes > 0)
    }

    fn peek(&self) -> io::Result<usize> {
        let mut byte = 0u8;
        // SAFETY: one byte of the stack is lent for the duration of a call that does not block.
        let n = unsafe { libc::recv(self.socket.fd(), (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Tells the peer that no more will come (FIN).
    pub fn finish(&self) {
        // SAFETY: a plain system call on a descriptor that `self` keeps open.
        unsafe { libc::shutdown(self.socket.fd(), libc::SHUT_WR) };
    }

    /// Ends the connection in both directions; operations in flight complete with an error.
    pub fn abort(&self) {
        // SAFETY: as in `finish`.
        unsafe { libc::shutdown(self.socket.fd(), libc::SHUT_RDWR) };
    }

    /// Makes the close that follows a reset, so that the peer cannot take what it has for the whole.
    pub fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the option's value is lent for the duration of the call, with its size.
        unsafe {
            libc::setsockopt(
                self.socket.fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as u32,
            );
        }
    }
}
