//! The two directions of a message's bytes, whichever protocol carries them.
//!
//! HTTP/1.1 lends its connection to one exchange after the other; HTTP/2 has a stream for each. What moves a body asks
//! neither: it reads from an [`Incoming`] and writes to an [`Outgoing`].

use std::{
    io,
    task::{Context, Poll},
};

use super::{alone::Nobody, h2};
use crate::{
    http::h1::body::BodyReader,
    net::{Buffer, Receiver, Sender, Stream},
};

/// The client's side of one exchange.
pub enum Wire<'a> {
    Http1(&'a mut Stream),
    Http2(&'a h2::Stream),
    /// There is none: the exchange goes on without a client.
    Nobody(&'a Nobody),
}

/// Where a body comes from.
pub enum Incoming<'a> {
    Http1 {
        receiver: &'a mut Receiver,
        body: &'a mut BodyReader,
    },
    Http2(&'a h2::Stream),
    /// There is no body.
    Nobody,
}

/// Where a message goes.
#[derive(Clone)]
pub enum Outgoing {
    Http1(Sender),
    Http2(h2::Stream),
    /// Whatever is sent has arrived.
    Nobody(Nobody),
}

impl Wire<'_> {
    pub fn outgoing(&self) -> Outgoing {
        match self {
            Self::Http1(stream) => Outgoing::Http1(stream.sender.clone()),
            Self::Http2(stream) => Outgoing::Http2((*stream).clone()),
            Self::Nobody(nobody) => Outgoing::Nobody((*nobody).clone()),
        }
    }

    /// No byte is here that nobody has asked for.
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Http1(stream) => stream.receiver.buffered().is_empty(),
            Self::Http2(_) | Self::Nobody(_) => true,
        }
    }

    /// `body` is how far the request's body has been read, which HTTP/2's streams know themselves.
    pub fn incoming<'b>(&'b mut self, body: &'b mut BodyReader) -> Incoming<'b> {
        match self {
            Self::Http1(stream) => Incoming::Http1 { receiver: &mut stream.receiver, body },
            Self::Http2(stream) => Incoming::Http2(stream),
            Self::Nobody(_) => Incoming::Nobody,
        }
    }
}

impl Outgoing {
    /// Sends bytes that are framed already. A stream of HTTP/2 has taken its head, and has nothing to send here.
    pub async fn send(&self, out: Buffer) -> io::Result<()> {
        match self {
            Self::Http1(sender) => sender.send(out).await.0,
            Self::Http2(stream) => stream.alive(),
            Self::Nobody(_) => Ok(()),
        }
    }

    /// The same, where nobody needs to know when the bytes have left ([`Sender::post`]).
    pub async fn post(&self, out: Buffer) -> io::Result<()> {
        match self {
            Self::Http1(sender) => sender.post(out).await,
            Self::Http2(stream) => stream.alive(),
            Self::Nobody(_) => Ok(()),
        }
    }

    /// Whether everything posted has left.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_settled(),
            Self::Http2(_) | Self::Nobody(_) => true,
        }
    }

    /// Whether the peer has left: one that has only ended its side counts as gone if `unanswered`.
    pub fn is_gone(&self, unanswered: bool) -> bool {
        match self {
            Self::Http1(sender) => sender.peer_has_reset() || unanswered && sender.peer_has_ended(),
            Self::Http2(stream) => stream.alive().is_err(),
            Self::Nobody(nobody) => nobody.is_gone(),
        }
    }

    /// Whether the peer has left, or ended its side with all that it had to send, read or not.
    pub fn has_hung_up(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.peer_has_reset() || sender.peer_has_ended() || sender.has_hung_up(),
            Self::Http2(stream) => stream.alive().is_err(),
            Self::Nobody(nobody) => nobody.is_gone(),
        }
    }

    /// Ready when an HTTP/2 client has given its stream up; a connection of HTTP/1.1 is looked at with
    /// [`Outgoing::is_gone`].
    pub fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(_) | Self::Nobody(_) => Poll::Pending,
            Self::Http2(stream) => stream.wait(context).map(drop),
        }
    }

    /// Says that no more comes, where the message itself has not said so: behind a tunnel's last byte.
    pub async fn finish(&self) {
        match self {
            Self::Http1(sender) => {
                // A connection that broke has said its last word as well.
                let _ = sender.settle().await;
                sender.finish();
            }
            // Its last frame said so.
            Self::Http2(_) | Self::Nobody(_) => {}
        }
    }

    /// Makes the peer see that the message is not whole, where it could take the connection's end for its end.
    pub fn cut(&self) {
        match self {
            Self::Http1(sender) => sender.reset_on_close(),
            Self::Http2(stream) => stream.reset(),
            Self::Nobody(_) => {}
        }
    }
}
