//! What a connection tells its owner.

use std::fmt;

use super::error::Code;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// After [`Event::Reset`] nothing more comes for its stream, and what had not been delivered before never does.
///
/// A stream that appeared in `Request` or `Refuse`, or that `send_request` returned, stays open for the books until
/// [`forget`](super::Connection::forget) is called for it; the other events ask for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request's head is there: [`take_request`](super::Connection::take_request). `end`: nothing follows.
    Request { stream: StreamId, end: bool },
    /// A request that will not be served, because it is malformed or too large, and can still be answered, with this
    /// status. What could be read of its head is there to take, for the log.
    Refuse { stream: StreamId, status: u16, reason: &'static str },
    /// A request was reset or refused before it began. For logs and metrics; there is nothing to forget.
    Rejected { stream: StreamId, code: Code, reason: &'static str },
    /// A response's head is there, perhaps an interim one (1xx). `end`: nothing follows.
    Response { stream: StreamId, end: bool },
    /// There is payload to take. Comes once until the payload has been taken.
    Data { stream: StreamId },
    /// The message ended after its head: with the payload not taken yet, and perhaps with trailers.
    End { stream: StreamId },
    /// The stream is over. A `REFUSED_STREAM` by the peer says that it did nothing of the request; of one that had begun to
    /// answer it is not believed. With `NO_ERROR` by the peer behind a complete response, that response stays to be taken,
    /// and only the request's body is to stop.
    Reset { stream: StreamId, code: Code, by_peer: bool },
    /// A sender that `send_data` had cut short may go on.
    Window { stream: StreamId },
    /// The peer takes no new streams. Streams of ours above `last` have been reset, with `REFUSED_STREAM`.
    GoAway { last: u32, code: Code },
    /// The peer's first SETTINGS have come.
    Settings,
    /// The answer to [`ping`](super::Connection::ping).
    Pong,
}
