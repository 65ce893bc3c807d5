//! One stream as its exchange holds it: reads and writes that wait, on a protocol state that never does.
//!
//! A stream belongs to one task, so it has one waker: whatever happens to it wakes that task, which looks again.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::link::Link;
use crate::{
    http::{
        h2::{Code, Connection, StreamId},
        head::{Fields, ResponseHead},
    },
    net::{Buffer, tls::Failure},
};

/// Why a stream ended before its messages did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Reset by the peer.
    Reset(Code),
    /// Reset by us, since the peer broke the rules.
    Malformed,
    /// The connection is gone.
    Lost,
}

#[derive(Clone)]
pub struct Stream {
    shared: Rc<Shared>,
}

pub(super) struct Shared {
    link: Rc<Link>,
    id: StreamId,
    waker: RefCell<Option<Waker>>,
    cut: Cell<Option<Cut>>,
    /// The final head of a response was sent.
    answered: Cell<bool>,
    /// Our side has sent its last frame.
    sent: Cell<bool>,
}

impl Shared {
    pub fn new(link: Rc<Link>, id: StreamId) -> Rc<Self> {
        let (waker, cut) = (RefCell::default(), Cell::new(None));
        Rc::new(Self { link, id, waker, cut, answered: Cell::new(false), sent: Cell::new(false) })
    }

    pub fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub fn cut(&self, cut: Cut) {
        if self.cut.get().is_none() {
            self.cut.set(Some(cut));
        }
        self.wake();
    }
}

impl Stream {
    pub(super) fn of(shared: Rc<Shared>) -> Self {
        Self { shared }
    }

    fn protocol<R>(&self, call: impl FnOnce(&mut Connection, StreamId) -> R) -> R {
        let result = call(&mut self.shared.link.protocol.borrow_mut(), self.shared.id);
        self.shared.link.wake_writer();
        result
    }

    /// Received and not taken.
    pub fn data_now(&self) -> Option<Buffer> {
        self.protocol(|protocol, id| protocol.take_data(id))
    }

    /// The peer's message is complete, and all its data is taken.
    pub fn is_ended(&self) -> bool {
        self.protocol(|protocol, id| protocol.is_ended(id))
    }

    pub fn take_trailers(&self) -> Option<Fields> {
        self.protocol(|protocol, id| protocol.take_trailers(id))
    }

    /// Gives back to the window what the other side has taken, which has room for so much more.
    pub fn release(&self, bytes: usize, room: usize) {
        if bytes > 0 {
            self.protocol(|protocol, id| protocol.release(id, bytes, room));
        }
    }

    /// Waits for data to take; `None` is the end of the message.
    pub async fn data(&self) -> Result<Option<Buffer>, Cut> {
        poll_fn(|context| {
            // What came before a cut is still good: a server may answer in full and then refuse the rest of the request.
            if let Some(data) = self.data_now() {
                return Poll::Ready(Ok(Some(data)));
            }
            match self.is_ended() {
                true => Poll::Ready(Ok(None)),
                false => self.wait(context).map(Err),
            }
        })
        .await
    }

    /// How much can be sent now.
    pub fn room_now(&self) -> usize {
        self.shared.link.protocol.borrow().room_now(self.shared.id)
    }

    /// Waits until something can be sent, and says how much. Whoever asks has something to send.
    pub async fn room(&self) -> io::Result<usize> {
        poll_fn(|context| {
            self.alive()?;
            match self.protocol(|protocol, id| protocol.room(id, Instant::now())) {
                0 => self.wait(context).map(|_| Err(io::ErrorKind::BrokenPipe.into())),
                room => Poll::Ready(Ok(room)),
            }
        })
        .await
    }

    /// Sends all of it at the pace of the windows.
    pub async fn send(&self, bytes: &[u8], end: bool) -> io::Result<()> {
        let mut sent = 0;
        poll_fn(|context| {
            loop {
                self.alive()?;
                let taken = self.protocol(|protocol, id| protocol.send_data(id, &bytes[sent..], end, Instant::now()));
                sent += taken;
                if sent == bytes.len() {
                    self.shared.sent.set(self.shared.sent.get() || end);
                    return Poll::Ready(Ok(()));
                }
                if taken == 0 {
                    return self.wait(context).map(|_| Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        })
        .await
    }

    /// Ends our side, with trailers if there are any; nothing to do where its last frame said so.
    pub fn finish(&self, trailers: Option<&Fields>) {
        if self.alive().is_err() || self.shared.sent.replace(true) {
            return;
        }
        self.protocol(|protocol, id| match trailers {
            Some(trailers) => protocol.send_trailers(id, trailers.iter()),
            None => {
                protocol.send_data(id, b"", true, Instant::now());
            }
        });
    }

    /// Sends a response's head, interim or final.
    pub fn respond(&self, status: u16, fields: &Fields, end: bool) {
        if self.alive().is_ok() {
            self.protocol(|protocol, id| protocol.send_response(id, status, fields.iter(), end));
            self.shared.answered.set(status >= 200);
            self.shared.sent.set(end);
        }
    }

    pub fn is_answered(&self) -> bool {
        self.shared.answered.get()
    }

    /// The head that opened the stream was all that we send.
    pub(super) fn has_sent_all(&self) {
        self.shared.sent.set(true);
    }

    /// Waits for the next head of the response, which may be an interim one.
    pub async fn response(&self, into: &mut ResponseHead) -> Result<(), Cut> {
        poll_fn(|context| match self.protocol(|protocol, id| protocol.take_response(id, into)) {
            true => Poll::Ready(Ok(())),
            false => self.wait(context).map(Err),
        })
        .await
    }

    /// Why the upstream would not have us, where that is why the connection is gone.
    pub fn refusal(&self) -> Option<Failure> {
        self.shared.link.refusal()
    }

    /// The connection is gone since its peer spoke something else from the start.
    pub fn speaks_otherwise(&self) -> bool {
        self.shared.link.speaks_otherwise()
    }

    /// Ends the stream in both directions, in the middle of whatever it was doing.
    pub fn reset(&self) {
        if self.alive().is_ok() {
            self.protocol(|protocol, id| protocol.reset(id, Code::INTERNAL_ERROR));
            self.shared.cut(Cut::Lost);
        }
    }

    pub fn alive(&self) -> io::Result<()> {
        match self.shared.cut.get() {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ready when the stream was cut; else this task is woken by whatever happens to it.
    pub fn wait(&self, context: &mut Context<'_>) -> Poll<Cut> {
        if let Some(cut) = self.shared.cut.get() {
            return Poll::Ready(cut);
        }
        let mut waker = self.shared.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The exchange's hold on its stream: dropped, what is not complete is reset, and the stream no longer counts.
pub struct Owned {
    pub stream: Stream,
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Shared { link, id, sent, .. } = &*self.stream.shared;
        link.forget(*id, sent.get());
    }
}
