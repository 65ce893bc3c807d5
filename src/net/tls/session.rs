//! One connection's keys, and what of its records is on the way.
//!
//! Both halves of a stream share it: a peer's KeyUpdate is answered by the next send. An end without close_notify is an
//! error, since anybody on the way could have made it.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

use rustls::{
    CommonState, Error,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

use crate::net::{
    buffer::{Buffer, LARGE_ROOM, SMALL_ROOM},
    reactor::{Fd, Pending},
};

/// Content of a record (RFC 8446 section 5.1).
const RECORD_CONTENT_MAX: usize = 16 * 1024;
/// Header, explicit nonce, content type and tag, whatever the version.
const RECORD_OVERHEAD: usize = 64;
/// Header of a record: type, version, length.
pub(super) const RECORD_HEADER: usize = 5;
/// So much is encrypted for one send: as many full records as a large buffer holds.
const SEND_CONTENT_MAX: usize = 3 * RECORD_CONTENT_MAX;
/// What a peer may send in records that bring nothing: tickets and key updates are a few hundred bytes.
const EMPTY_BYTES_MAX: usize = 64 * 1024;
/// What may wait in front of a whole record or message; the library accepts handshake messages of 64 KiB.
const INCOMING_MAX: usize = 128 * 1024;
/// An alert, encrypted, in any version: header, explicit nonce, two bytes, content type, tag.
const ALERT_RECORD_MAX: usize = RECORD_HEADER + 8 + 2 + 1 + 16;

/// Which side of the connection is ours.
pub enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

pub(in crate::net) struct Session {
    fd: Rc<Fd>,
    side: RefCell<Side>,
    /// Received and not decrypted: at most an incomplete record, between two receives.
    incoming: RefCell<Buffer>,
    /// Encoded and not sent: the end of a handshake, which goes with the first send.
    waiting: RefCell<Vec<u8>>,
    /// The peer said that it ends (close_notify).
    peer_closed: Cell<bool>,
    /// Nothing more may be said: we have ended, something failed, or the connection is to look broken.
    mute: Cell<bool>,
    /// The peer broke the protocol: what else it sends is not looked at.
    failed: Cell<bool>,
    /// A send is under way; what is written beside it would be torn into it.
    sending: Cell<bool>,
    /// Bytes of records since the last that brought something.
    empty_bytes: Cell<usize>,
}

/// What processing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was done, and there may be more to do.
    Again,
    /// Only more bytes of the peer help.
    Blocked,
    /// As `Blocked`, and data may be sent.
    Open,
    PeerClosed,
}

impl Side {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }

    /// One step: returns how many bytes of `incoming` are done with. Data goes behind `plain`, what is to be sent behind
    /// `out`.
    pub(super) fn step(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Buffer,
        out: &mut Vec<u8>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Server(connection) => taken(connection.process_tls_records(incoming), plain, out),
            Self::Client(connection) => taken(connection.process_tls_records(incoming), plain, out),
        }
    }

    /// What the library has to say about its last error: an alert. Once: asked again it looks at the bad bytes again.
    pub(super) fn last_words(&mut self, incoming: &mut Buffer, out: &mut Vec<u8>) {
        let (discard, _) = self.step(incoming.bytes_mut(), &mut Buffer::none(), out);
        incoming.consume(discard);
    }

    /// Encrypts behind what `out` holds, which has the room. `incoming` is what [`Side::step`] left: the library remembers
    /// where in it a message has begun.
    fn encrypt(&mut self, incoming: &mut [u8], content: &[u8], out: &mut Buffer) -> io::Result<()> {
        out.receive(|into| match self {
            Self::Server(connection) => encrypt(connection.process_tls_records(incoming), content, into),
            Self::Client(connection) => encrypt(connection.process_tls_records(incoming), content, into),
        })
        .map(drop)
    }

    fn close_notify(&mut self, incoming: &mut [u8], into: &mut [u8]) -> usize {
        match self {
            Self::Server(connection) => close_notify(connection.process_tls_records(incoming), into),
            Self::Client(connection) => close_notify(connection.process_tls_records(incoming), into),
        }
    }
}

fn taken<D>(
    status: UnbufferedStatus<'_, '_, D>,
    plain: &mut Buffer,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => plain.extend(record.payload),
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut encode)) => {
            let before = out.len();
            match encode.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => {
                    out.resize(before + size.required_size, 0);
                    match encode.encode(&mut out[before..]) {
                        Ok(written) => {
                            out.truncate(before + written);
                            Ok(Step::Again)
                        }
                        Err(_) => Err(Error::General("a message could not be encoded".into())),
                    }
                }
                _ => Ok(Step::Again),
            }
        }
        // It is sent before anything that is encrypted later.
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Open),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        // Early data is never offered and never accepted.
        Ok(_) => Err(Error::General("early data".into())),
    };
    (discard, step)
}

fn encrypt<D>(status: UnbufferedStatus<'_, '_, D>, content: &[u8], into: &mut [u8]) -> io::Result<usize> {
    match status.state.map_err(io::Error::other)? {
        ConnectionState::WriteTraffic(mut traffic) => traffic.encrypt(content, into).map_err(cannot_encrypt),
        ConnectionState::TransmitTlsData(mut transmit) => {
            let mut traffic = transmit.may_encrypt_app_data().ok_or(io::ErrorKind::NotConnected)?;
            traffic.encrypt(content, into).map_err(cannot_encrypt)
        }
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

fn cannot_encrypt(error: EncryptError) -> io::Error {
    io::Error::other(error.to_string())
}

fn close_notify<D>(status: UnbufferedStatus<'_, '_, D>, into: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(into).unwrap_or_default(),
        _ => 0,
    }
}

impl Session {
    pub(super) fn new(fd: Rc<Fd>, side: Side, incoming: Buffer, waiting: Vec<u8>, peer_closed: bool) -> Rc<Self> {
        Rc::new(Self {
            fd,
            side: RefCell::new(side),
            incoming: RefCell::new(incoming),
            waiting: RefCell::new(waiting),
            peer_closed: Cell::new(peer_closed),
            mute: Cell::new(false),
            failed: Cell::new(false),
            sending: Cell::new(false),
            empty_bytes: Cell::new(0),
        })
    }

    /// As a plain receive: decrypts behind what `plain` holds. `Ok(0)` only where the peer said that it ends.
    pub(in crate::net) fn poll_receive(
        &self,
        receiving: &mut Pending,
        plain: &mut Buffer,
        room: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.failed.get() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let mut incoming = self.incoming.borrow_mut();
        loop {
            let opened = self.open(&mut incoming, plain);
            match opened {
                Err(error) => return Poll::Ready(Err(self.fail(&mut incoming, &error))),
                Ok(0) if self.peer_closed.get() => return Poll::Ready(Ok(0)),
                Ok(0) => {}
                Ok(bytes) => return Poll::Ready(Ok(bytes)),
            }
            if incoming.is_empty() {
                // Waiting, a connection holds no memory to read into.
                *incoming = Buffer::none();
            } else if incoming.len() > INCOMING_MAX {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let room = wanted(incoming.bytes()).max(room);
            match ready!(receiving.poll_receive(&mut incoming, room, context)) {
                Err(error) => {
                    self.mute.set(true);
                    return Poll::Ready(Err(error));
                }
                Ok(0) => {
                    self.mute.set(true);
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(_) => {}
            }
        }
    }

    /// Decrypts every whole record there is.
    fn open(&self, incoming: &mut Buffer, plain: &mut Buffer) -> Result<usize, Error> {
        if incoming.is_empty() || self.peer_closed.get() {
            return Ok(0);
        }
        let before = plain.len();
        let mut side = self.side.borrow_mut();
        loop {
            let (discard, step) = side.step(incoming.bytes_mut(), plain, &mut self.waiting.borrow_mut());
            incoming.consume(discard);
            self.empty_bytes.set(self.empty_bytes.get() + discard);
            match step? {
                Step::Again => {}
                Step::Blocked | Step::Open => break,
                Step::PeerClosed => {
                    self.peer_closed.set(true);
                    break;
                }
            }
        }
        let bytes = plain.len() - before;
        if bytes > 0 {
            self.empty_bytes.set(0);
        } else if self.empty_bytes.get() > EMPTY_BYTES_MAX {
            return Err(Error::General("too many records without data".into()));
        }
        Ok(bytes)
    }

    /// What waits for the rest of its record waits in a buffer of its size.
    pub(in crate::net) fn make_small(&self) {
        self.incoming.borrow_mut().shrink();
    }

    /// Says why, as far as the socket takes it at once.
    fn fail(&self, incoming: &mut Buffer, error: &Error) -> io::Error {
        let mut alert = Vec::new();
        self.side.borrow_mut().last_words(incoming, &mut alert);
        self.say(&alert);
        self.mute.set(true);
        self.failed.set(true);
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    }

    /// Whether nothing is left of what an earlier send was given, and how much of `content` the next one may take.
    pub(in crate::net) fn seal(&self, content: &[u8]) -> io::Result<(Buffer, usize)> {
        if self.mute.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let now = content.len().min(SEND_CONTENT_MAX);
        let mut waiting = self.waiting.borrow_mut();
        // A KeyUpdate may go ahead of the records.
        let room = now + (now.div_ceil(RECORD_CONTENT_MAX) + 1) * RECORD_OVERHEAD + waiting.len();
        let mut out = Buffer::with_room(room);
        out.extend(&waiting);
        *waiting = Vec::new();
        self.side.borrow_mut().encrypt(self.incoming.borrow_mut().bytes_mut(), &content[..now], &mut out)?;
        self.sending.set(true);
        Ok((out, now))
    }

    /// What [`Session::seal`] made has been sent, or not.
    pub(in crate::net) fn sealed_was_sent(&self, sent: &io::Result<()>) {
        self.sending.set(false);
        if sent.is_err() {
            self.mute.set(true);
        }
    }

    /// Tells the peer that no more will come (close_notify), as far as the socket takes it at once.
    pub(in crate::net) fn finish(&self) {
        let mut bytes = std::mem::take(&mut *self.waiting.borrow_mut());
        if self.mute.replace(true) {
            return;
        }
        let mut alert = [0; 2 * RECORD_OVERHEAD];
        let len = self.side.borrow_mut().close_notify(self.incoming.borrow_mut().bytes_mut(), &mut alert);
        bytes.extend_from_slice(&alert[..len]);
        self.say(&bytes);
    }

    /// From now on the connection's end is not to look like one that we meant.
    pub(in crate::net) fn break_off(&self) {
        self.mute.set(true);
    }

    fn say(&self, bytes: &[u8]) {
        if !self.sending.get() && !bytes.is_empty() {
            self.fd.send_at_once(bytes);
        }
    }

    /// Whether bytes of the peer wait here that nobody has read.
    pub(in crate::net) fn has_received(&self) -> bool {
        self.incoming.try_borrow().is_ok_and(|incoming| !incoming.is_empty())
    }

    /// A receive needs no more bytes of the peer to say how it ended.
    pub(in crate::net) fn is_over(&self) -> bool {
        self.peer_closed.get() || self.failed.get()
    }

    pub(in crate::net) fn peer_has_closed(&self) -> bool {
        self.peer_closed.get()
    }
}

impl Drop for Session {
    /// A connection that ends without a word looks cut off to its peer.
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether what the kernel holds is no more than a peer's goodbye.
pub(in crate::net) fn is_at_most_an_alert(bytes: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const APPLICATION_DATA: u8 = 23;
    match bytes {
        [] => true,
        // Since TLS 1.3 an alert is disguised: two bytes, the content type and the tag.
        [kind @ (ALERT | APPLICATION_DATA), _, _, high, low, ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let fits = if *kind == ALERT { RECORD_HEADER + len <= ALERT_RECORD_MAX } else { len == 19 };
            fits && bytes.len() <= RECORD_HEADER + len
        }
        _ => false,
    }
}

/// Peeked at to see whether there is more than an alert.
pub(in crate::net) const PEEK: usize = ALERT_RECORD_MAX + 1;

/// Room for the rest of the record that has begun.
fn wanted(incoming: &[u8]) -> usize {
    match incoming {
        [_, _, _, high, low, ..] => {
            let whole = RECORD_HEADER + usize::from(u16::from_be_bytes([*high, *low]));
            if whole.saturating_sub(incoming.len()) > SMALL_ROOM { LARGE_ROOM } else { SMALL_ROOM }
        }
        _ => SMALL_ROOM,
    }
}
