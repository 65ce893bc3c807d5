//! One HTTP/2 connection: the task that reads and writes it, and what it shares with the tasks of its streams.
//!
//! The protocol's state is borrowed for the length of a call and never across a wait. A stream's task writes by putting
//! frames into the protocol's output; this task sends what all of them have put there in one go.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::stream::{Cut, Owned, Shared, Stream};
use crate::{
    http::h2::{Code, Connection, ConnectionError, Event, StreamId},
    net::{
        Buffer, Receiver, Sender,
        buffer::{LARGE_ROOM, SMALL_ROOM},
        pace::Pace,
        task::{self, join_until},
        tls::{Failure, HandshakeError},
    },
};

/// How long a peer has to take the last frames.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a client has to hear that it is to go on elsewhere.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// A peer that has answered a PING and goes on to be silent is asked again after so many looks: gRPC's servers end
/// connections on which more is asked without anything else being said.
const LOOKS_BETWEEN_PINGS: u32 = 300;

pub struct Link {
    pub protocol: RefCell<Connection>,
    /// Ascending ids: streams are begun in this order, so a new one goes to the end, and nothing is hashed.
    streams: RefCell<Vec<(StreamId, Rc<Shared>)>>,
    /// Whoever sends the output, and whoever reads no more until it is sent.
    writer: RefCell<Option<Waker>>,
    reader: RefCell<Option<Waker>>,
    /// No more streams are begun; the connection ends with the last.
    leaving: Cell<bool>,
    /// Since when the client knows that it is to go on elsewhere. What it begins until it has heard is served yet.
    retiring_since: Cell<Option<Instant>>,
    /// Looks in a row that found no stream.
    idle_looks: Cell<u32>,
    /// Whether anything has come since the last look; and whether a stream was begun, or something has come for one.
    heard: Cell<bool>,
    moved: Cell<bool>,
    /// Looks in a row with streams for which nothing came; and those since a PING without any sign of life.
    quiet_looks: Cell<u32>,
    unanswered_looks: Cell<Option<u32>>,
    /// Everything asked for is done, and no more will be.
    over: Cell<bool>,
    /// The peer's settings have come; and who waits for them.
    settled: Cell<bool>,
    settling: RefCell<Vec<Waker>>,
    /// The peer ended the connection behind the TLS handshake, before it had said anything.
    refusal: Cell<Option<Failure>>,
    /// What the peer said first was no SETTINGS frame.
    speaks_otherwise: Cell<bool>,
    /// What ends the connection whatever it waits for, and who is to see it.
    failure: Cell<Option<ConnectionError>>,
    driver: RefCell<Option<Waker>>,
    /// Since when the socket has not taken what is sent, and how long it may.
    sending_since: Cell<Option<Instant>>,
    send_timeout: Option<Duration>,
}

/// Why a connection ended.
pub enum End {
    /// The peer closed, or everything was done.
    Closed,
    Lost(io::Error),
    /// The peer broke the protocol or used up its budget; it was told.
    Refused(ConnectionError),
}

impl Link {
    pub fn new(protocol: Connection, send_timeout: Option<Duration>) -> Rc<Self> {
        Rc::new(Self {
            protocol: RefCell::new(protocol),
            streams: RefCell::default(),
            writer: RefCell::default(),
            reader: RefCell::default(),
            leaving: Cell::new(false),
            retiring_since: Cell::new(None),
            idle_looks: Cell::new(0),
            heard: Cell::new(false),
            moved: Cell::new(false),
            quiet_looks: Cell::new(0),
            unanswered_looks: Cell::new(None),
            over: Cell::new(false),
            settled: Cell::new(false),
            settling: RefCell::default(),
            refusal: Cell::new(None),
            speaks_otherwise: Cell::new(false),
            failure: Cell::new(None),
            driver: RefCell::default(),
            sending_since: Cell::new(None),
            send_timeout,
        })
    }

    /// Takes a stream into an exchange's hands.
    pub fn own(self: &Rc<Self>, id: StreamId) -> Owned {
        let shared = Shared::new(self.clone(), id);
        let mut streams = self.streams.borrow_mut();
        let at = streams.partition_point(|&(known, _)| known < id);
        streams.insert(at, (id, shared.clone()));
        self.moved.set(true);
        drop(streams);
        Owned { stream: Stream::of(shared) }
    }

    /// An exchange is done with its stream. What is not complete is cut: the message of ours, or the peer's that nobody
    /// reads any more (RFC 9113 section 8.1).
    pub fn forget(&self, id: StreamId, sent: bool) {
        let at = self.find(id);
        let forgotten = at.map(|at| self.streams.borrow_mut().remove(at));
        drop(forgotten);
        {
            let mut protocol = self.protocol.borrow_mut();
            if !sent && protocol.is_server() {
                protocol.reset(id, Code::INTERNAL_ERROR);
            }
            protocol.forget(id);
        }
        if self.leaving.get() && self.is_empty() {
            self.over.set(true);
        }
        self.end_if_retired();
        self.wake_writer();
    }

    pub fn is_empty(&self) -> bool {
        self.streams.borrow().is_empty()
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.get() || self.over.get()
    }

    /// Tells a client to go on elsewhere (GOAWAY): first without a last stream, so that nothing is lost that it has sent
    /// meanwhile; which one is the last it learns when it has heard that, or after a while (RFC 9113 section 6.8). The
    /// connection ends with it.
    pub fn retire(&self) {
        if self.retiring_since.get().is_none() {
            self.retiring_since.set(Some(Instant::now()));
            self.shut_down();
        }
    }

    fn end_if_retired(&self) {
        if self.retiring_since.get().is_some() && self.is_empty() && self.protocol.borrow().is_finished() {
            self.over.set(true);
        }
    }

    /// Says one step further that no more streams are taken.
    fn shut_down(&self) {
        self.protocol.borrow_mut().shutdown();
        self.wake_writer();
    }

    /// Begins no more streams; ends the connection with the last, its output sent.
    pub fn leave(&self) {
        self.shut_down();
        self.leaving.set(true);
        if self.is_empty() {
            // Nothing is under way that a grace period would be for.
            self.shut_down();
            self.over.set(true);
            self.wake_writer();
        }
    }

    /// Once a second, for a connection of ours: ends it where it was idle for so many looks, or the peer has stalled, or does
    /// not answer when it is asked whether it is there.
    pub fn look(&self, idle_looks_max: u32, ping_looks: Option<u32>) {
        let idle = if self.is_empty() { self.idle_looks.get() + 1 } else { 0 };
        self.idle_looks.set(idle);
        if let Some(looks) = ping_looks {
            self.ask_for_life(looks.max(1));
        }
        self.on_time(Instant::now());
        if idle > idle_looks_max {
            self.leave();
        }
    }

    /// As [`Link::leave`], for one that has its only request still before it.
    pub fn leave_when_used(&self) {
        self.leaving.set(true);
    }

    /// Ends one that was to leave, if its request did not come.
    pub fn leave_if_unused(&self) {
        if self.leaving.get() && self.is_empty() {
            self.leave();
        }
    }

    /// Ends what has waited too long: streams that stall alone, the connection where it does not move at all.
    pub fn on_time(&self, now: Instant) {
        let is_late = |(since, limit): (Instant, Duration)| now.saturating_duration_since(since) >= limit;
        let is_stuck = self.sending_since.get().zip(self.send_timeout).is_some_and(is_late);
        if self.retiring_since.get().is_some_and(|since| is_late((since, HEARD_MAX))) {
            self.shut_down();
        }
        let on_time = self.protocol.borrow_mut().on_time(now);
        if let Err(error) = if is_stuck { Err(ConnectionError::STUCK) } else { on_time } {
            self.fail(error);
        }
        // Whose stream was reset learns it now, and not when the peer has taken the frame that says so.
        self.dispatch(&|_| {});
    }

    fn ask_for_life(&self, looks: u32) {
        let (heard, moved) = (self.heard.take(), self.moved.take());
        let quiet = if !moved && !self.is_empty() { self.quiet_looks.get() + 1 } else { 0 };
        self.quiet_looks.set(quiet);
        let unanswered = self.unanswered_looks.get().filter(|_| !heard).map(|looks| looks + 1);
        self.unanswered_looks.set(unanswered);
        match unanswered {
            Some(unanswered) if unanswered >= looks => self.fail(ConnectionError::SILENT),
            None if quiet >= looks && (quiet - looks).is_multiple_of(LOOKS_BETWEEN_PINGS) => {
                self.protocol.borrow_mut().ping();
                self.unanswered_looks.set(Some(0));
                self.wake_writer();
            }
            _ => {}
        }
    }

    fn fail(&self, error: ConnectionError) {
        self.failure.set(Some(error));
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// The peer's settings have come.
    pub fn settle(&self) {
        self.settled.set(true);
        self.settling.take().into_iter().for_each(Waker::wake);
    }

    /// Ready with whether the peer's settings have come, or never will.
    pub fn poll_settled(&self, context: &mut Context<'_>) -> Poll<bool> {
        if self.settled.get() || self.over.get() {
            return Poll::Ready(self.settled.get());
        }
        self.settling.borrow_mut().push(context.waker().clone());
        Poll::Pending
    }

    pub fn refusal(&self) -> Option<Failure> {
        self.refusal.get()
    }

    pub fn speaks_otherwise(&self) -> bool {
        self.speaks_otherwise.get()
    }

    pub fn wake_writer(&self) {
        if (self.over.get() || self.protocol.borrow().wants_output())
            && let Some(waker) = self.writer.take()
        {
            waker.wake();
        }
    }

    /// Moves frames until the connection ends. `on` is told what concerns no stream that an exchange holds.
    pub async fn drive(self: &Rc<Self>, receiver: &mut Receiver, sender: &Sender, on: &dyn Fn(Event)) -> End {
        let reading = async {
            receiver.want(SMALL_ROOM);
            loop {
                let taken = self.protocol.borrow_mut().receive(receiver.buffered(), Instant::now());
                self.dispatch(on);
                match taken {
                    Ok(taken) => receiver.consume(taken),
                    Err(error) => {
                        self.speaks_otherwise.set(!self.settled.get());
                        return End::Refused(error);
                    }
                }
                poll_fn(|context| self.poll_may_receive(context)).await;
                let filled = receiver.fill().await;
                self.heard.set(true);
                match filled {
                    Ok(0) => return End::Closed,
                    Ok(received) => receiver.want(if received >= SMALL_ROOM { LARGE_ROOM } else { SMALL_ROOM }),
                    Err(error) => {
                        if !self.settled.get() {
                            self.refusal.set(HandshakeError::late(&error).map(|error| error.failure()));
                        }
                        return End::Lost(error);
                    }
                }
            }
        };
        let writing = async {
            let mut pace = Pace::begin();
            while let Some(out) = poll_fn(|context| self.poll_output(context)).await {
                self.sending_since.set(Some(Instant::now()));
                pace.sent(out.len());
                if let (Err(error), _) = sender.send(out).await {
                    return End::Lost(error);
                }
                if pace.is_due() && !self.over.get() {
                    // A peer that does not read would have its streams fill what nobody sends.
                    self.protocol.borrow_mut().set_output_max(0);
                    pace.ask(sender).await;
                }
                self.protocol.borrow_mut().set_output_max(pace.room());
                self.sending_since.set(None);
                // There is room for more.
                self.dispatch(on);
                if let Some(waker) = self.reader.take() {
                    waker.wake();
                }
            }
            End::Closed
        };
        let failing = poll_fn(|context| self.poll_failure(context));
        let mut reading = pin!(join_until(failing, reading, |_| true));
        let mut writing = pin!(writing);
        let (mut read, written) = join_until(reading.as_mut(), writing.as_mut(), |_| true).await;
        let is_upstream = !self.protocol.borrow().is_server();
        if is_upstream && let (None, Some(End::Lost(_))) = (&read, &written) {
            // An upstream that has closed said before which requests it has not looked at, and that may lie here unread.
            self.leaving.set(true);
            read = task::timeout(Some(LAST_WORDS), reading).await;
        }
        let read = read.and_then(|(failed, read)| failed.or(read));
        let ends_itself = written.is_some();
        let end = read.or(written).expect("one of them has ended");
        if !ends_itself && !matches!(end, End::Lost(_)) {
            // What is on its way already comes first, or the peer would see half a frame.
            self.over.set(true);
            let _ = task::timeout(Some(LAST_WORDS), writing).await;
        }
        self.cut_all();
        end
    }

    fn poll_may_receive(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.protocol.borrow().may_receive() {
            return Poll::Ready(());
        }
        self.reader.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn poll_failure(&self, context: &mut Context<'_>) -> Poll<End> {
        if let Some(error) = self.failure.get() {
            return Poll::Ready(End::Refused(error));
        }
        self.driver.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn poll_output(&self, context: &mut Context<'_>) -> Poll<Option<Buffer>> {
        let out = self.protocol.borrow_mut().take_output();
        if !out.is_empty() {
            return Poll::Ready(Some(out));
        }
        if self.over.get() {
            return Poll::Ready(None);
        }
        self.writer.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    fn dispatch(&self, on: &dyn Fn(Event)) {
        loop {
            let Some(event) = self.protocol.borrow_mut().next_event() else { break };
            match event {
                Event::Response { stream, .. }
                | Event::Data { stream }
                | Event::End { stream }
                | Event::Window { stream } => self.with(stream, Shared::wake),
                Event::Reset { stream, code, by_peer } => {
                    let cut = if by_peer { Cut::Reset(code) } else { Cut::Malformed };
                    self.with(stream, |stream| stream.cut(cut));
                }
                Event::Request { .. }
                | Event::Refuse { .. }
                | Event::Rejected { .. }
                | Event::GoAway { .. }
                | Event::Settings
                | Event::Pong => on(event),
            }
        }
        self.end_if_retired();
        self.wake_writer();
    }

    fn find(&self, id: StreamId) -> Option<usize> {
        self.streams.borrow().binary_search_by_key(&id, |&(known, _)| known).ok()
    }

    fn with(&self, id: StreamId, act: impl FnOnce(&Shared)) {
        self.moved.set(true);
        let at = self.find(id);
        let stream = at.map(|at| self.streams.borrow()[at].1.clone());
        if let Some(stream) = stream {
            act(&stream);
        }
    }

    fn cut_all(&self) {
        self.over.set(true);
        let streams = self.streams.borrow().clone();
        streams.iter().for_each(|(_, stream)| stream.cut(Cut::Lost));
        self.settling.take().into_iter().for_each(Waker::wake);
    }
}
