//! A connection's bytes: plain or under TLS, sent from wherever they become due, received by one task.
//!
//! What is sent leaves by a plain system call while the read for the answer is pending already: one turn of the loop less
//! for each request. What the socket does not take at once follows in a task of its own; errors are left to the reader.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read},
    net::SocketAddr,
    os::fd::AsRawFd,
    rc::Rc,
};

use anyhow::{Context, Result, bail};
use monoio::{
    io::{AsyncReadRent, AsyncWriteRentExt, Splitable},
    net::{
        TcpStream,
        tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf},
    },
};
use rustls::{ClientConnection, HandshakeKind};

use crate::{http2, scenario::Prepared, sys, tls};

const BUFFER_BYTES: usize = 16 * 1024;
/// Once a large body is seen.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// A connection as its senders see it; the same one stands for each that follows on its place.
pub(super) struct Link {
    /// -1 while there is none.
    socket: Cell<i32>,
    /// Told apart from an earlier connection of the same place.
    generation: Cell<u64>,
    /// Absent while a task sends what did not fit.
    writer: RefCell<Option<TcpOwnedWriteHalf>>,
    /// Behind what that task sends.
    queued: RefCell<Vec<u8>>,
    tls: RefCell<Option<ClientConnection>>,
    /// Records on their way out; kept for its memory.
    records: RefCell<Vec<u8>>,
    pub(super) http2: RefCell<Option<http2::Connection>>,
    /// Requests of HTTP/2 are held back, to leave together.
    pub(super) corked: Cell<bool>,
}

/// A connection as the one task that reads it has it.
pub(super) struct Receiver {
    reader: TcpOwnedReadHalf,
    buffer: Vec<u8>,
    /// Under TLS.
    decrypted: Option<Decrypted>,
}

/// What came last, without its TLS.
#[derive(Default)]
struct Decrypted {
    bytes: Vec<u8>,
    is_read: bool,
    /// The server said that nothing follows.
    has_ended: bool,
}

pub(super) enum Received {
    /// [`Receiver::bytes`] has them.
    Bytes,
    /// Nothing more will come. Not clean: it broke off, or TLS was not ended as it should be.
    End { is_clean: bool },
    /// What came is no TLS.
    Malformed,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            socket: Cell::new(-1),
            generation: Cell::default(),
            writer: RefCell::default(),
            queued: RefCell::default(),
            tls: RefCell::default(),
            records: RefCell::default(),
            http2: RefCell::default(),
            corked: Cell::default(),
        }
    }
}

impl Link {
    /// Connects, and shakes hands where TLS is wanted. The last flight of a handshake waits for what is sent next.
    ///
    /// # Errors
    /// There is no connection, or not the TLS that was asked for; with the reason.
    pub(super) async fn connect(self: &Rc<Self>, target: SocketAddr, tls: Option<&tls::Client>) -> Result<Receiver> {
        let stream = TcpStream::connect_addr(target).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let socket = stream.as_raw_fd();
        let (reader, writer) = stream.into_split();
        self.generation.set(self.generation.get() + 1);
        self.writer.replace(Some(writer));
        self.queued.borrow_mut().clear();
        self.tls.replace(tls.map(tls::Client::connect).transpose().context("TLS cannot begin")?);
        self.socket.set(socket);
        let decrypted = tls.map(|_| Decrypted { is_read: true, ..Decrypted::default() });
        let mut receiver = Receiver { reader, buffer: Vec::with_capacity(BUFFER_BYTES), decrypted };
        if let Some(tls) = tls {
            self.shake_hands(tls, &mut receiver).await?;
        }
        Ok(receiver)
    }

    async fn shake_hands(self: &Rc<Self>, tls: &tls::Client, receiver: &mut Receiver) -> Result<()> {
        let is_done = || self.tls.borrow().as_ref().is_none_or(|session| !session.is_handshaking());
        while !is_done() {
            self.flush_tls();
            if receiver.fill().await.context("TLS handshake")? == 0 {
                bail!("TLS handshake: the server closed the connection");
            }
            if let Err(error) = receiver.decrypt(self) {
                self.flush_tls();
                bail!("TLS handshake: {error}");
            }
        }
        self.tls.borrow().as_ref().map_or(Ok(()), |session| tls.check(session))
    }

    /// Forgets the connection, before its descriptor is closed and given to another.
    pub(super) fn disconnect(&self) {
        self.socket.set(-1);
        self.writer.take();
        self.tls.take();
        self.http2.take();
        self.corked.set(false);
    }

    /// Gives back what TLS keeps, on a connection over which nothing more will go.
    pub(super) fn forget_tls(&self) {
        self.tls.take();
        self.records.take();
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.get() >= 0
    }

    /// Something of what was to be sent did not fit into the socket yet.
    pub(super) fn is_sending(&self) -> bool {
        self.writer.borrow().is_none()
    }

    /// Whether the handshake was a short one; `None` without TLS.
    pub(super) fn is_resumed(&self) -> Option<bool> {
        let tls = self.tls.borrow();
        Some(tls.as_ref()?.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Ends it as a peer that went away would; the reader notices.
    pub(super) fn shut_down(&self) {
        sys::shut_down(self.socket.get());
    }

    /// `slot`: its place among the streams of HTTP/2.
    pub(super) fn send_request(self: &Rc<Self>, slot: usize, request: &Prepared) {
        match self.http2.borrow_mut().as_mut() {
            None => return self.send(&request.bytes),
            Some(http2) => {
                let Prepared { bytes, body, is_head } = request;
                http2.request(slot, &http2::Request { block: bytes, body, is_head: *is_head });
            }
        }
        self.flush();
    }

    /// Gives the request in a slot of HTTP/2 up. Nothing more will come where that was the last of a connection.
    pub(super) fn cancel(self: &Rc<Self>, slot: usize) {
        if let Some(http2) = self.http2.borrow_mut().as_mut() {
            http2.cancel(slot);
            if http2.is_going_away() && http2.is_quiet() {
                return self.shut_down();
            }
        }
        self.flush();
    }

    pub(super) fn is_going_away(&self) -> bool {
        self.http2.borrow().as_ref().is_some_and(http2::Connection::is_going_away)
    }

    /// Sends what HTTP/2 has to say, unless that is held back.
    pub(super) fn flush(self: &Rc<Self>) {
        if self.corked.get() {
            return;
        }
        let out = self.http2.borrow_mut().as_mut().map(|http2| std::mem::take(&mut http2.out));
        let Some(mut out) = out.filter(|out| !out.is_empty()) else { return };
        self.send(&out);
        out.clear();
        if let Some(http2) = self.http2.borrow_mut().as_mut() {
            http2.out = out;
        }
    }

    pub(super) fn send(self: &Rc<Self>, bytes: &[u8]) {
        if let Some(session) = self.tls.borrow_mut().as_mut() {
            // Only a session that has ended takes nothing, which its reader learns.
            let _ = io::Write::write_all(&mut session.writer(), bytes);
        } else {
            return self.transmit(bytes);
        }
        self.flush_tls();
    }

    /// Sends the records that wait.
    pub(super) fn flush_tls(self: &Rc<Self>) {
        let mut records = self.records.take();
        if let Some(session) = self.tls.borrow_mut().as_mut() {
            while session.wants_write() && session.write_tls(&mut records).is_ok_and(|written| written > 0) {}
        }
        if !records.is_empty() {
            self.transmit(&records);
            records.clear();
        }
        self.records.replace(records);
    }

    fn transmit(self: &Rc<Self>, bytes: &[u8]) {
        if self.is_sending() {
            return self.queued.borrow_mut().extend_from_slice(bytes);
        }
        let sent = match sys::send(self.socket.get(), bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return,
        };
        if sent < bytes.len()
            && let Some(writer) = self.writer.take()
        {
            monoio::spawn(send_rest(self.clone(), writer, bytes[sent..].to_vec()));
        }
    }
}

async fn send_rest(link: Rc<Link>, mut writer: TcpOwnedWriteHalf, mut rest: Vec<u8>) {
    let generation = link.generation.get();
    loop {
        let (result, _) = writer.write_all(rest).await;
        if result.is_err() || link.generation.get() != generation || !link.is_open() {
            return;
        }
        rest = link.queued.take();
        if rest.is_empty() {
            link.writer.replace(Some(writer));
            return;
        }
    }
}

impl Receiver {
    /// Waits for what comes next.
    pub(super) async fn receive(&mut self, link: &Rc<Link>) -> Received {
        loop {
            match &mut self.decrypted {
                Some(decrypted) if !decrypted.is_read => {
                    decrypted.is_read = true;
                    return Received::Bytes;
                }
                Some(decrypted) if decrypted.has_ended => return Received::End { is_clean: true },
                _ => {}
            }
            match (self.fill().await, self.decrypted.is_some()) {
                (Ok(0), is_tls) => return Received::End { is_clean: !is_tls },
                (Err(_), _) => return Received::End { is_clean: false },
                (Ok(_), false) => return Received::Bytes,
                (Ok(_), true) => {}
            }
            if self.decrypt(link).is_err() {
                return Received::Malformed;
            }
            link.flush_tls();
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.decrypted.as_ref().map_or(&self.buffer, |decrypted| &decrypted.bytes)
    }

    /// Only the descriptor, for a connection that is held and no more.
    pub(super) fn into_reader(self) -> TcpOwnedReadHalf {
        self.reader
    }

    /// Reads once, as much as there is.
    async fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == buffer.capacity() && buffer.len() < BUFFER_BYTES_MAX {
            buffer.reserve_exact(2 * buffer.len());
        }
        let result;
        (result, self.buffer) = self.reader.read(buffer).await;
        // A failed read leaves what was there.
        if !matches!(result, Ok(received) if received > 0) {
            self.buffer.clear();
        }
        result
    }

    /// Takes the TLS off what was read.
    fn decrypt(&mut self, link: &Link) -> Result<(), rustls::Error> {
        let mut tls = link.tls.borrow_mut();
        let (Some(session), Some(decrypted)) = (tls.as_mut(), &mut self.decrypted) else { return Ok(()) };
        if decrypted.is_read {
            decrypted.bytes.clear();
        }
        let mut records = &self.buffer[..];
        while !records.is_empty() {
            // Nothing is taken of what follows the end.
            if !session.read_tls(&mut records).is_ok_and(|taken| taken > 0) {
                break;
            }
            let state = session.process_new_packets()?;
            decrypted.has_ended = state.peer_has_closed();
            // At once: TLS takes no more records while it holds too much that was not read.
            let (from, more) = (decrypted.bytes.len(), state.plaintext_bytes_to_read());
            decrypted.bytes.resize(from + more, 0);
            if session.reader().read_exact(&mut decrypted.bytes[from..]).is_err() {
                decrypted.bytes.truncate(from);
            }
        }
        decrypted.is_read = decrypted.bytes.is_empty();
        Ok(())
    }
}
