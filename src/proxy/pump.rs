//! Moves a body from one connection to the other: decodes its framing, encodes the other side's, at the slower one's pace.
//!
//! Nothing passes that was not decoded. Small pieces are copied behind each other into one send; a large piece leaves in the
//! buffer it came in, with the head and its chunk header written into the headroom before it.

use std::{
    cell::{Cell, RefCell},
    io,
    time::Duration,
};

use crate::{
    http::{
        h1::{
            body::{BodyError, BodyReader, Step},
            emit,
        },
        head::{BodyLength, Fields},
    },
    net::{
        Buffer, Receiver, Sender,
        buffer::{LARGE_ROOM, SMALL_ROOM},
    },
    proxy::watch::{Waiting, Watch},
};

/// From this size on a piece is sent from the buffer it came in.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// How the body is framed towards its reader.
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
}

/// What is waited for, and for how long without progress.
pub type Wait = (Waiting, Option<Duration>);

/// One direction of an exchange: what its waits mean, and what is kept of it.
pub struct Direction<'a> {
    pub watch: &'a Watch<'a>,
    /// Changes when the response begins.
    pub reading: Cell<Wait>,
    pub writing: Wait,
    /// Set when the first byte is sent.
    pub begun: &'a Cell<bool>,
    pub replay: Option<&'a RefCell<Replay>>,
}

/// What was sent of a request body, encoded, in case another try must send it again.
#[derive(Default)]
pub struct Replay {
    /// Bytes of the head, which goes first and is made anew for another try.
    pub head_bytes: usize,
    pub bytes: Vec<u8>,
    pub bytes_max: usize,
    /// More was sent than is kept: there is no other try.
    pub overflowed: bool,
}

impl Replay {
    fn keep(&mut self, out: &[u8]) {
        let out = &out[self.head_bytes.min(out.len())..];
        self.head_bytes = 0;
        if self.bytes.len() + out.len() > self.bytes_max {
            self.overflowed = true;
            self.bytes = Vec::new();
        }
        if !self.overflowed {
            self.bytes.extend_from_slice(out);
        }
    }
}

/// Sends `out` (a head, or nothing) and behind it the body, to its end. Returns how many payload bytes passed.
pub async fn pump(
    from: &mut Receiver,
    body: &mut BodyReader,
    to: &Sender,
    framing: Framing,
    mut out: Buffer,
    direction: &Direction<'_>,
) -> Result<u64, PumpError> {
    let mut payload = 0;
    from.want(next_room(body, SMALL_ROOM));
    loop {
        let gathered = gather(from, body, framing, &mut out)?;
        payload += gathered.payload;
        // Both are taken, and kept for another try, before either is sent: what was decoded is decoded only once.
        let mut large = match gathered.next {
            Next::Large { start, len } => {
                payload += len as u64;
                Some(frame_in_place(from.take(), start, len, framing))
            }
            Next::Done | Next::More => None,
        };
        keep(out.bytes(), direction);
        keep(large.as_ref().map_or(&[], Buffer::bytes), direction);
        if let Some(large) = &mut large
            && out.len() <= large.headroom()
        {
            large.prepend(out.bytes());
            out = Buffer::none();
        }
        if !out.is_empty() {
            out = send(to, out, direction).await?;
        }
        if let Some(large) = large {
            drop(send(to, large, direction).await?);
        }
        match gathered.next {
            Next::Done => return Ok(payload),
            Next::Large { .. } => {}
            Next::More => {
                // Waiting, the exchange holds one buffer: the one that is read into.
                out = Buffer::none();
                let (waiting, limit) = direction.reading.get();
                direction.watch.wait_for(waiting, limit);
                let received = from.fill().await.map_err(PumpError::Read)?;
                if received == 0 {
                    body.finish_on_eof().map_err(|_| PumpError::Truncated)?;
                    if framing == Framing::Chunked {
                        let mut end = Vec::with_capacity(8);
                        emit::last_chunk(&mut end, None);
                        out.extend(&end);
                        drop(send(to, out, direction).await?);
                    }
                    return Ok(payload);
                }
                from.want(next_room(body, received));
            }
        }
    }
}

fn keep(out: &[u8], direction: &Direction<'_>) {
    if let Some(replay) = direction.replay {
        replay.borrow_mut().keep(out);
    }
}

async fn send(to: &Sender, out: Buffer, direction: &Direction<'_>) -> Result<Buffer, PumpError> {
    direction.begun.set(true);
    direction.watch.wait_for(direction.writing.0, direction.writing.1);
    let (result, out) = to.send(out).await;
    direction.watch.progress();
    result.map_err(PumpError::Write)?;
    Ok(out)
}

/// How much to receive where a message is to come like one that had such a body: with its head, or as much as goes.
pub fn usual_room(body: BodyLength) -> usize {
    match body {
        BodyLength::Length(length) if length > SMALL_ROOM as u64 / 2 => LARGE_ROOM,
        _ => SMALL_ROOM,
    }
}

/// A large buffer where much is to come: known from the length, or seen from a read that was filled.
fn next_room(body: &BodyReader, received: usize) -> usize {
    match body.remaining() {
        Some(remaining) if remaining <= SMALL_ROOM as u64 => SMALL_ROOM,
        Some(_) => LARGE_ROOM,
        None if received >= SMALL_ROOM => LARGE_ROOM,
        None => SMALL_ROOM,
    }
}

struct Gathered {
    payload: u64,
    next: Next,
}

enum Next {
    More,
    Done,
    /// A piece to send as it lies: payload at `start`, `len` bytes, the last bytes of the buffer.
    Large {
        start: usize,
        len: usize,
    },
}

/// Decodes what was received and appends it, encoded, to `out`.
fn gather(
    from: &mut Receiver,
    body: &mut BodyReader,
    framing: Framing,
    out: &mut Buffer,
) -> Result<Gathered, BodyError> {
    let mut payload = 0;
    loop {
        match body.step(from.buffered())? {
            Step::NeedMore { consumed } => {
                from.consume(consumed);
                return Ok(Gathered { payload, next: Next::More });
            }
            Step::Done { consumed } => {
                from.consume(consumed);
                if framing == Framing::Chunked {
                    let mut end = Vec::with_capacity(8);
                    emit::last_chunk(&mut end, trailers(body));
                    out.extend(&end);
                }
                return Ok(Gathered { payload, next: Next::Done });
            }
            Step::Data { start, len } => {
                if len >= COPY_BYTES_MAX && start + len == from.buffered().len() {
                    return Ok(Gathered { payload, next: Next::Large { start, len } });
                }
                let piece = &from.buffered()[start..start + len];
                match framing {
                    Framing::Plain => out.extend(piece),
                    Framing::Chunked => {
                        out.extend(ChunkHeader::of(len).bytes());
                        out.extend(piece);
                        out.extend(emit::CHUNK_END);
                    }
                }
                from.consume(start + len);
                payload += len as u64;
            }
        }
    }
}

fn trailers(body: &BodyReader) -> Option<&Fields> {
    Some(body.trailers()).filter(|trailers| !trailers.is_empty())
}

fn frame_in_place(mut buffer: Buffer, start: usize, len: usize, framing: Framing) -> Buffer {
    buffer.consume(start);
    buffer.truncate(len);
    if framing == Framing::Chunked {
        buffer.prepend(ChunkHeader::of(len).bytes());
        buffer.extend(emit::CHUNK_END);
    }
    buffer
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
