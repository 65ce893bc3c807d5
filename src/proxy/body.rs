//! What was taken of a body: read ahead for a policy, or kept in case it must be sent again.
//!
//! A request's body is kept until an upstream's answer begins: until then it may say that it has not looked at the request,
//! and whoever sends it again has to have all of it. A body that grows beyond its limit, or for which the core has no memory,
//! is kept no longer, and what was kept of it is freed.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
};

use super::{
    client::Client,
    core::{Core, Serving},
    pump::{Direction, Framing, write_end, write_piece},
    respond,
    wire::Outgoing,
};
use crate::{
    calls::Hear,
    http::{
        h1::body::BodyReader,
        head::{Fields, RequestHead},
    },
    net::{
        Buffer,
        buffer::{LARGE, LARGE_ROOM},
    },
    policies::{Body, LocalResponse, Passed, Passing, Piece, Reply, Scans, Side},
};

pub struct Held {
    pieces: RefCell<Vec<Buffer>>,
    /// The trailers, once the end was read.
    end: RefCell<Option<Fields>>,
    bytes: Cell<u64>,
    max: Cell<usize>,
    state: Cell<State>,
    /// Taken from a client's stream, and not given back to its window.
    owed: Cell<usize>,
    share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everything that was taken is here.
    Whole,
    /// More was taken than is here: the request cannot be sent again.
    Overflowed,
    /// The answer has begun: nobody will ask.
    Released,
}

impl Held {
    /// Keeps nothing yet, and allocates nothing. `core_max` is what a core may keep of all bodies.
    pub fn new(core: &Rc<Core>, core_max: usize) -> Self {
        Self {
            pieces: RefCell::default(),
            end: RefCell::default(),
            bytes: Cell::new(0),
            max: Cell::new(0),
            state: Cell::new(State::Whole),
            owed: Cell::new(0),
            share: Share { core: core.clone(), max: core_max, bytes: Cell::new(0) },
        }
    }

    /// How much may be kept. Where some of what was taken is not here, that changes nothing: there would be a gap.
    pub fn keep_up_to(&self, bytes: usize) {
        if self.bytes.get() == 0 {
            self.max.set(bytes);
        } else if self.is_whole() {
            self.max.set(bytes.max(self.max.get()));
        }
    }

    /// Whether the request can be sent again as it was.
    pub fn is_whole(&self) -> bool {
        self.state.get() == State::Whole
    }

    /// Whether an earlier try has taken anything of the body, or seen its end.
    pub fn is_empty(&self) -> bool {
        self.bytes.get() == 0 && !self.is_ended()
    }

    /// The body was read to its end.
    pub fn is_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub fn keep(&self, payload: &[u8]) {
        if self.state.get() != State::Whole || payload.is_empty() {
            return;
        }
        let fits = self.bytes.get() + payload.len() as u64 <= self.max.get() as u64;
        if !fits || !self.store(payload) {
            self.bytes.set(self.bytes.get() + payload.len() as u64);
            self.state.set(State::Overflowed);
            self.free();
        }
    }

    pub fn keep_end(&self, trailers: &Fields) {
        if self.state.get() == State::Whole {
            self.end.replace(Some(trailers.clone()));
        }
    }

    /// The answer has begun, so there is no other try.
    pub fn release(&self) {
        self.state.set(State::Released);
        self.free();
    }

    /// So much was taken from the client's stream, and is on its way.
    pub fn owe(&self, bytes: usize) {
        self.owed.set(self.owed.get() + bytes);
    }

    /// What is on its way has arrived: how much there is to give back to the client's window.
    pub fn settle(&self) -> usize {
        self.owed.take()
    }

    /// Sends what is kept, behind `out` if that is to be sent as well. Returns what there is to send in front of the rest,
    /// or, where the end was read, nothing.
    pub async fn send(
        &self,
        to: &Outgoing,
        mut out: Buffer,
        framing: Framing,
        direction: &Direction<'_>,
    ) -> io::Result<Buffer> {
        let lent = Lent::of(self);
        for piece in &lent.pieces {
            match to {
                Outgoing::Http1(sender) => {
                    write_piece(&mut out, piece.bytes(), framing);
                    direction.writes();
                    let (sent, room) = sender.send(out).await;
                    sent?;
                    out = room;
                }
                Outgoing::Http2(stream) => {
                    direction.writes();
                    stream.send(piece.bytes(), false).await?;
                }
            }
            direction.watch.progress();
        }
        if !self.is_ended() {
            return Ok(out);
        }
        match to {
            Outgoing::Http2(stream) => {
                let end = self.end.borrow();
                stream.finish(end.as_ref().filter(|trailers| !trailers.is_empty()));
            }
            Outgoing::Http1(sender) => {
                if let Some(trailers) = &*self.end.borrow() {
                    write_end(&mut out, framing, trailers);
                }
                if !out.is_empty() {
                    direction.writes();
                    sender.post(out).await?;
                }
            }
        }
        Ok(Buffer::none())
    }

    /// Stores what was read ahead. False: the core has no memory for it, and it is lost.
    pub fn store(&self, payload: &[u8]) -> bool {
        let bytes = self.bytes.get() + payload.len() as u64;
        let mut pieces = self.pieces.borrow_mut();
        let mut rest = payload;
        if let Some(last) = pieces.last_mut() {
            let (fits, behind) = rest.split_at(rest.len().min(last.room()));
            last.extend(fits);
            rest = behind;
        }
        if rest.is_empty() {
            self.bytes.set(bytes);
            return true;
        }
        // Many small pieces come to lie in few buffers, each larger than the one before.
        let so_much = (bytes as usize).clamp(rest.len(), rest.len().max(LARGE_ROOM));
        let mut piece = Buffer::with_room(so_much);
        if !self.share.take(piece.room()) {
            return false;
        }
        piece.extend(rest);
        pieces.push(piece);
        self.bytes.set(bytes);
        true
    }

    /// Whether the core has memory for another piece.
    pub fn has_room(&self) -> bool {
        self.share.has(LARGE)
    }

    /// Gives it to the policies, who may read so much of it, until [`Held::take_back`].
    pub fn lend(&self, bytes_max: usize) -> Body {
        Body::new(self.pieces.take(), self.is_ended()).with_trailers(self.end.borrow().clone()).limited(bytes_max)
    }

    pub fn take_back(&self, mut body: Body) {
        if let Some(trailers) = body.take_trailers() {
            self.end.replace(Some(trailers));
        }
        if body.is_rewritten() {
            // No more than may be read ahead of a body.
            self.free();
            self.share.add(body.len());
            self.bytes.set(body.len() as u64);
        }
        self.pieces.replace(body.into_pieces());
    }

    /// Keeps what a policy has put in the place of what was taken, whose trailers stay. False: the core has no memory for it.
    pub fn replace(&self, mut body: Body) -> bool {
        self.free();
        if let Some(trailers) = body.take_trailers() {
            self.end.replace(Some(trailers));
        }
        let bytes = body.len();
        if !self.share.take(bytes) {
            return false;
        }
        self.pieces.replace(body.into_pieces());
        self.bytes.set(bytes as u64);
        self.end.borrow_mut().get_or_insert_default();
        true
    }

    pub fn has_trailers(&self) -> bool {
        self.end.borrow().as_ref().is_some_and(|trailers| !trailers.is_empty())
    }

    fn free(&self) {
        self.pieces.take();
        self.share.give_back();
    }
}

/// What is kept, while it is being sent; it goes back also where the sending is given up for another try.
struct Lent<'a> {
    held: &'a Held,
    pieces: Vec<Buffer>,
}

impl<'a> Lent<'a> {
    fn of(held: &'a Held) -> Self {
        Self { held, pieces: held.pieces.take() }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if self.held.is_whole() {
            self.held.pieces.replace(std::mem::take(&mut self.pieces));
        }
    }
}

/// A part of what a core may keep.
struct Share {
    core: Rc<Core>,
    max: usize,
    bytes: Cell<usize>,
}

impl Share {
    fn has(&self, bytes: usize) -> bool {
        self.core.buffered.get() + bytes <= self.max
    }

    fn take(&self, bytes: usize) -> bool {
        if !self.has(bytes) {
            return false;
        }
        self.add(bytes);
        true
    }

    fn add(&self, bytes: usize) {
        self.core.buffered.set(self.core.buffered.get() + bytes);
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn give_back(&self) {
        self.core.buffered.set(self.core.buffered.get() - self.bytes.take());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A request's body, as far as it was read.
pub struct Taken {
    pub reader: BodyReader,
    pub held: Held,
}

impl Taken {
    /// Nothing yet.
    pub fn new(client: &Client, serving: &Serving, request: &RequestHead) -> Self {
        let reader = BodyReader::new(request.body, &respond::body_limits(serving));
        Self { reader, held: Held::new(&client.core, serving.snapshot.settings.limits.buffered_bytes_per_core) }
    }
}

/// The scans of one body, which is shown to them as it is taken.
pub struct Scanning {
    side: Side,
    scans: RefCell<Scans>,
    /// What is still to come of a body of known length: its end is seen with its last byte, which must not be sent before.
    left: Cell<Option<u64>>,
    /// The end was seen.
    is_over: Cell<bool>,
    /// Where some of them may change it. Boxed: few do.
    changing: Option<Box<Changing>>,
}

/// A body that is changed on its way: one piece at a time, past one after the other. The piece outlives whoever moves it, so
/// that another try goes on where the last one was given up.
pub struct Changing {
    pub core: Rc<Core>,
    pub serving: Rc<Serving>,
    pub under_way: RefCell<Option<UnderWay>>,
}

pub struct UnderWay {
    pub passing: Passing,
    /// Whose turn it is.
    pub at: usize,
    /// What that one waits for.
    pub waits: Option<Hear>,
}

impl Scanning {
    /// `left` is what is to come, where that is known.
    pub fn new(scans: Scans, side: Side, left: Option<u64>, core: &Rc<Core>, serving: &Rc<Serving>) -> Self {
        let changing = || Changing { core: core.clone(), serving: serving.clone(), under_way: RefCell::default() };
        let changing = scans.changes().then(|| Box::new(changing()));
        Self { side, scans: RefCell::new(scans), left: Cell::new(left), is_over: Cell::new(false), changing }
    }

    /// Whether the body may become another one: it goes past them by [`Scanning::pass`] alone then.
    pub fn changing(&self) -> Option<&Changing> {
        self.changing.as_deref()
    }

    /// One more step of the piece that is under way, which may have waited for this reply.
    pub fn pass(&self, under_way: &mut UnderWay, reply: Option<Reply>) -> Passed {
        let UnderWay { passing, at, .. } = under_way;
        self.scans.borrow_mut().pass(passing, at, reply)
    }

    pub fn side(&self) -> Side {
        self.side
    }

    pub fn into_scans(self) -> Scans {
        self.scans.into_inner()
    }

    /// They cannot be shown the body: the message has this answer.
    pub fn fail(&self, answer: &Rc<LocalResponse>) {
        self.scans.borrow_mut().fail(self.side, answer);
    }

    /// `Err`: the message is refused with this answer.
    pub fn see(&self, payload: &[u8]) -> Result<(), Rc<LocalResponse>> {
        if payload.is_empty() {
            return Ok(());
        }
        self.left.set(self.left.get().map(|left| left.saturating_sub(payload.len() as u64)));
        self.show(payload, self.left.get() == Some(0))
    }

    /// The same of the end. Twice is once.
    pub fn end(&self) -> Result<(), Rc<LocalResponse>> {
        match self.is_over.get() {
            true => Ok(()),
            false => self.show(b"", true),
        }
    }

    fn show(&self, bytes: &[u8], is_last: bool) -> Result<(), Rc<LocalResponse>> {
        self.is_over.set(is_last);
        self.scans.borrow_mut().see(&Piece { side: self.side, bytes, is_last })
    }
}
