//! Bodies as policies meet them: what a policy needs of one, a piece that passes, and a body that was read ahead.
//!
//! A body is what its message's framing carried: nothing of `content-encoding` is undone.

use crate::{
    http::head::Fields,
    net::{Buffer, buffer::LARGE_ROOM},
};

/// What a policy needs of the bodies of an exchange, decided with its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub request: Need,
    pub response: Need,
}

impl Needs {
    pub const NONE: Self = Self { request: Need::None, response: Need::None };

    pub fn of(self, side: Side) -> Need {
        match side {
            Side::Request => self.request,
            Side::Response => self.response,
        }
    }
}

/// The least that will do is the best: what is read ahead costs memory and time before the other side sees a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Need {
    /// The body passes unseen.
    #[default]
    None,
    /// Its first bytes, or all where it has fewer, when the policy's turn comes; the rest passes unseen.
    Peek(usize),
    /// Each piece as it passes, in [`Policy::on_body`](super::Policy::on_body). Costs no memory.
    Scan,
    /// All of it when the policy's turn comes, up to `limits.bufferedBodyBytes`.
    Buffer,
    /// Perhaps each piece as it passes, to change it: the policy says so when its turn ends
    /// ([`Policy::changes`](super::Policy::changes)).
    Change,
}

impl Need {
    /// What has to be read ahead, for a policy that is in shadow or not.
    pub fn wanted(self, shadow: bool) -> Option<Wanted> {
        match self {
            Self::None | Self::Scan | Self::Change => None,
            Self::Peek(bytes) => Some(Wanted::First(bytes)),
            Self::Buffer if shadow => Some(Wanted::WholeOrNothing),
            Self::Buffer => Some(Wanted::Whole),
        }
    }
}

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
}

/// Payload on its way.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub side: Side,
    /// As the framing brought it: where one piece ends and the next begins means nothing. Empty only at the end.
    pub bytes: &'a [u8],
    /// Nothing follows. Comes once for each body that is read to its end; a message without a body has no piece.
    pub is_last: bool,
}

/// A piece of a body on its way past those who may change it.
#[derive(Debug)]
pub struct Passing {
    pub side: Side,
    pub bytes: Vec<u8>,
    /// Nothing follows.
    pub is_last: bool,
    /// Behind the last piece.
    pub trailers: Fields,
}

/// What the chain wants to be read before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many bytes, or all where there are fewer.
    First(usize),
    /// All; a body that is too large is refused.
    Whole,
    /// All, unless it is too large: the policy that asks is in shadow, and nobody is refused for it.
    WholeOrNothing,
    /// What has come already, without waiting for more.
    Received,
}

/// What was read ahead of a body: its beginning, or all of it.
#[derive(Default)]
pub struct Body {
    pieces: Vec<Buffer>,
    is_whole: bool,
    /// Nobody who wants all of it has it, although all of it is here.
    is_too_large: bool,
    is_replaced: bool,
    /// What the message itself has sent of it goes nowhere, read or not.
    is_discarded: bool,
    /// What is here is another beginning than the message's own; the rest follows it.
    is_rewritten: bool,
    /// Behind one that is whole.
    trailers: Option<Fields>,
}

impl Body {
    /// `is_whole`: the message's end was read.
    pub fn new(pieces: Vec<Buffer>, is_whole: bool) -> Self {
        Self { pieces, is_whole, ..Self::default() }
    }

    pub fn with_trailers(self, trailers: Option<Fields>) -> Self {
        Self { trailers, ..self }
    }

    /// So many bytes may be read ahead. What came in one go may be more, which is too large all the same.
    pub fn limited(self, bytes_max: usize) -> Self {
        Self { is_too_large: self.len() > bytes_max, ..self }
    }

    /// A whole one of the gateway's own.
    pub fn whole(bytes: &[u8]) -> Self {
        let mut buffer = Buffer::with_room(bytes.len());
        buffer.extend(bytes);
        Self::new(vec![buffer], true)
    }

    /// What a policy has put in the place of the message's own.
    pub(super) fn replacing(bytes: &[u8]) -> Self {
        let pieces = bytes.chunks(LARGE_ROOM).map(|piece| {
            let mut buffer = Buffer::with_room(piece.len());
            buffer.extend(piece);
            buffer
        });
        Self { is_replaced: true, ..Self::new(pieces.collect(), true) }
    }

    /// A policy has put it in the place of the message's own, or lets it stand as one that is told by its length: only the
    /// trailers are left of what was sent.
    pub fn is_replaced(&self) -> bool {
        self.is_replaced
    }

    /// One that was replaced although it may not have been read to its end: what is left of it is nobody's.
    pub fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    /// A policy has put it in the place of the message's own beginning.
    pub fn is_rewritten(&self) -> bool {
        self.is_rewritten
    }

    pub(super) fn discarding(bytes: &[u8]) -> Self {
        Self { is_discarded: true, ..Self::replacing(bytes) }
    }

    /// Another beginning.
    pub(super) fn rewriting(bytes: &[u8]) -> Self {
        Self { is_replaced: false, is_whole: false, is_rewritten: true, ..Self::replacing(bytes) }
    }

    /// Of one that was read to its end.
    pub fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_ref()
    }

    pub(super) fn trailers_mut(&mut self) -> &mut Option<Fields> {
        &mut self.trailers
    }

    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    /// Whatever framed it before, it goes on as one whose length is known.
    pub(super) fn stand_for_itself(&mut self) {
        self.is_replaced |= self.is_whole;
    }

    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Buffer::bytes)
    }

    pub fn len(&self) -> usize {
        self.pieces.iter().map(Buffer::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.pieces().for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub fn into_pieces(self) -> Vec<Buffer> {
        self.pieces
    }

    /// Whether this is what `wanted` asks for.
    pub fn satisfies(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::First(bytes) => self.is_whole || self.len() >= bytes,
            Wanted::Whole | Wanted::WholeOrNothing => self.is_whole && !self.is_too_large,
            Wanted::Received => true,
        }
    }
}

/// What was read ahead in an exchange.
#[derive(Default)]
pub struct Bodies {
    pub request: Body,
    pub response: Body,
}

impl Bodies {
    pub fn of(&self, side: Side) -> &Body {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_enough_where_no_more_is_wanted() {
        let check = |is_whole: bool, expected: [bool; 3]| {
            let body = Body::new(Body::whole(b"abc").into_pieces(), is_whole);
            let wanted = [Wanted::First(3), Wanted::First(4), Wanted::Whole];
            assert_eq!(wanted.map(|wanted| body.satisfies(wanted)), expected);
            assert_eq!((body.to_vec(), body.len(), body.is_empty()), (b"abc".to_vec(), 3, false));
        };
        check(false, [true, false, false]);
        check(true, [true, true, true]);
        let limited = |max| Body::whole(b"abc").limited(max).satisfies(Wanted::Whole);
        assert!(limited(3) && !limited(2), "too large, although all of it is here");
        assert!(Body::whole(b"abc").limited(2).satisfies(Wanted::First(4)));
        assert!(Body::whole(b"").satisfies(Wanted::Whole) && Body::whole(b"").is_empty());
    }
}
