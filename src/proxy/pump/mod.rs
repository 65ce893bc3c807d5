//! Moves a body from one side to the other: decodes its framing, encodes the other side's, at the slower one's pace.
//!
//! Nothing passes that was not decoded. Between two HTTP/1.1 connections small pieces are copied behind each other into one
//! send, and a large piece leaves in the buffer it came in, behind whatever fits in front of it; an HTTP/2 stream copies
//! what its windows allow into frames.

pub mod changing;
mod http1;
mod http2;

use std::{cell::Cell, io, rc::Rc, time::Duration};

pub use self::http1::{next_room, usual_room, write_end, write_piece};
use super::{
    body::{Held, Scanning},
    wire::{Incoming, Outgoing},
};
use crate::{
    http::{
        h1::{body::BodyError, emit},
        head::Fields,
    },
    net::Buffer,
    policies::LocalResponse,
    proxy::watch::{Waiting, Watch},
};

/// How the body is framed towards an HTTP/1.1 reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The head said how long it is; or the connection's end will.
    Plain,
    Chunked,
}

#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    #[error("reading: {0}")]
    Read(io::Error),
    #[error("the body ended early")]
    Truncated,
    #[error("{0}")]
    Malformed(#[from] BodyError),
    #[error("writing: {0}")]
    Write(io::Error),
    /// A policy does not let it pass, and answers this.
    #[error("refused: {}", .0.reason)]
    Refused(Rc<LocalResponse>),
}

/// What is waited for, and for how long without progress.
pub type Wait = (Waiting, Option<Duration>);

/// Who looks on while a body passes.
pub struct Sees<'a> {
    /// Keeps it, in case it must be sent again.
    pub held: Option<&'a Held>,
    pub scanning: Option<&'a Scanning>,
}

/// One direction of an exchange: what its waits mean, and who sees it.
pub struct Direction<'a> {
    pub watch: &'a Watch<'a>,
    /// Changes when the response begins.
    pub reading: Cell<Wait>,
    pub writing: Wait,
    /// Set when the first byte is sent.
    pub begun: &'a Cell<bool>,
    pub sees: Option<&'a Sees<'a>>,
    /// Our side of the connection ends with the body.
    pub ends: bool,
}

impl Direction<'_> {
    fn reads(&self) {
        let (waiting, limit) = self.reading.get();
        self.watch.wait_for(waiting, limit);
    }

    pub fn writes(&self) {
        self.begun.set(true);
        self.watch.wait_for(self.writing.0, self.writing.1);
    }

    /// There is something to send, and whoever is to take it has to make room first.
    fn makes_room(&self) {
        self.watch.wait_for(self.writing.0, self.writing.1);
    }

    /// Shows what was taken, before anything of it is sent; `Err`: it may not be.
    #[inline]
    fn see(&self, payload: &[u8]) -> Result<(), PumpError> {
        self.sees.map_or(Ok(()), |sees| sees.see(payload))
    }

    /// The same of the end. Twice is once.
    #[inline]
    fn see_end(&self, trailers: &Fields) -> Result<(), PumpError> {
        self.sees.map_or(Ok(()), |sees| sees.see_end(trailers))
    }

    /// The same of what was taken from a stream, whose window is owed so much until [`Direction::settle`].
    fn took(&self, payload: Option<Buffer>) -> Result<Option<Buffer>, PumpError> {
        if let (Some(payload), Some(sees)) = (&payload, self.sees) {
            sees.see(payload.bytes())?;
            if let Some(held) = sees.held {
                held.owe(payload.len());
            }
        }
        Ok(payload)
    }

    /// What was taken has gone its way: how much there is to give back.
    fn settle(&self, taken: usize) -> usize {
        self.sees.and_then(|sees| sees.held).map_or(taken, Held::settle)
    }
}

impl Sees<'_> {
    fn see(&self, payload: &[u8]) -> Result<(), PumpError> {
        if let Some(held) = self.held {
            held.keep(payload);
        }
        self.scanning.map_or(Ok(()), |scanning| scanning.see(payload)).map_err(PumpError::Refused)
    }

    fn see_end(&self, trailers: &Fields) -> Result<(), PumpError> {
        if let Some(held) = self.held {
            held.keep_end(trailers);
        }
        self.scanning.map_or(Ok(()), Scanning::end).map_err(PumpError::Refused)
    }
}

/// Sends `out` (a head, or nothing) and behind it the body, to its end. Returns how many payload bytes passed.
pub async fn pump(
    from: &mut Incoming<'_>,
    to: &Outgoing,
    framing: Framing,
    out: Buffer,
    direction: &Direction<'_>,
) -> Result<u64, PumpError> {
    if let Some(scanning) = direction.sees.and_then(|sees| sees.scanning)
        && let Some(changing) = scanning.changing()
    {
        // Boxed: few change what passes, and the others are not to keep room for it.
        return Box::pin(changing::pump(from, to, framing, out, direction, scanning, changing)).await;
    }
    match (from, to) {
        (Incoming::Http1 { receiver, body }, Outgoing::Http1(sender)) => {
            http1::pump(receiver, body, sender, framing, out, direction).await
        }
        (Incoming::Http1 { receiver, body }, Outgoing::Http2(stream)) => {
            http2::from_http1(receiver, body, stream, direction).await
        }
        (Incoming::Http2(stream), Outgoing::Http1(sender)) => {
            http2::to_http1(stream, sender, framing, out, direction).await
        }
        (Incoming::Http2(from), Outgoing::Http2(to)) => http2::between(from, to, direction).await,
    }
}

/// `None` where there are none: an empty block is no trailers.
fn trailers(fields: &Fields) -> Option<&Fields> {
    Some(fields).filter(|trailers| !trailers.is_empty())
}

/// `<hex>\r\n` on the stack.
struct ChunkHeader {
    text: [u8; 18],
    start: usize,
}

impl ChunkHeader {
    fn of(mut len: usize) -> Self {
        let mut text = [0; 18];
        text[16..].copy_from_slice(b"\r\n");
        let mut start = 16;
        loop {
            start -= 1;
            text[start] = b"0123456789abcdef"[len & 15];
            len >>= 4;
            if len == 0 {
                return Self { text, start };
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

/// Frames a buffer whose payload is `len` bytes from `start` on, and whose last bytes they are, where it lies.
fn frame_in_place(mut buffer: Buffer, start: usize, len: usize, framing: Framing) -> Buffer {
    buffer.consume(start);
    buffer.truncate(len);
    if framing == Framing::Chunked {
        buffer.prepend(ChunkHeader::of(len).bytes());
        buffer.extend(emit::CHUNK_END);
    }
    buffer
}
