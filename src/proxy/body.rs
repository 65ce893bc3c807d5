//! What was taken of a request's body, kept in case it must be sent again.
//!
//! Kept until an upstream's answer begins: until then it may say that it has not looked at the request, and whoever sends
//! it again has to have all of it. A body that grows beyond its limit, or for which the core has no memory, is kept no
//! longer, and what was kept of it is freed.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
};

use super::{
    core::Core,
    pump::{Direction, Framing, write_end, write_piece},
    wire::Outgoing,
};
use crate::{
    http::head::Fields,
    net::{Buffer, buffer::LARGE_ROOM},
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

    /// How much may be kept, decided before anything is taken: later there would be a gap.
    pub fn keep_up_to(&self, bytes: usize) {
        if self.bytes.get() == 0 {
            self.max.set(bytes);
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
        if self.state.get() == State::Whole && !payload.is_empty() && !self.copy(payload) {
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

    /// Whether it could be kept.
    fn copy(&self, payload: &[u8]) -> bool {
        let bytes = self.bytes.get() + payload.len() as u64;
        self.bytes.set(bytes);
        if bytes > self.max.get() as u64 {
            return false;
        }
        let mut pieces = self.pieces.borrow_mut();
        let mut rest = payload;
        if let Some(last) = pieces.last_mut() {
            let (fits, behind) = rest.split_at(rest.len().min(last.room()));
            last.extend(fits);
            rest = behind;
        }
        if rest.is_empty() {
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
        true
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
    fn take(&self, bytes: usize) -> bool {
        let all = self.core.buffered.get() + bytes;
        if all > self.max {
            return false;
        }
        self.core.buffered.set(all);
        self.bytes.set(self.bytes.get() + bytes);
        true
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
