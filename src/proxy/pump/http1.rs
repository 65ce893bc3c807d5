//! Between two HTTP/1.1 connections.

use super::{ChunkHeader, Direction, Framing, PumpError, frame_in_place, trailers};
use crate::{
    http::{
        h1::{
            body::{BodyReader, Step},
            emit,
        },
        head::{BodyLength, Fields},
    },
    net::{
        Buffer, Receiver, Sender,
        buffer::{LARGE_ROOM, SMALL_ROOM},
        pace::Pace,
    },
};

/// From this size on a piece is sent from the buffer it came in.
pub const COPY_BYTES_MAX: usize = 8 * 1024;

pub async fn pump(
    from: &mut Receiver,
    body: &mut BodyReader,
    to: &Sender,
    framing: Framing,
    mut out: Buffer,
    direction: &Direction<'_>,
) -> Result<u64, PumpError> {
    let mut payload = 0;
    let mut pace = Pace::begin();
    let mut room = next_room(body, SMALL_ROOM);
    loop {
        let gathered = gather(from, body, framing, &mut out, direction)?;
        payload += gathered.payload;
        // Taken, and kept for another try, before anything is sent: what was decoded is decoded only once.
        let mut large = match gathered.next {
            Next::Large { start, len } => {
                payload += len as u64;
                let taken = from.take();
                direction.see(&taken.bytes()[start..start + len])?;
                if body.is_done() {
                    direction.see_end(body.trailers())?;
                }
                Some(frame_in_place(taken, start, len, framing))
            }
            Next::Done | Next::More => None,
        };
        let is_last = match gathered.next {
            Next::Done => true,
            Next::Large { .. } => body.is_done() && framing == Framing::Plain,
            Next::More => false,
        };
        if let Some(large) = &mut large {
            prepend(&mut out, large);
        }
        if !out.is_empty() {
            pace.sent(out.len());
            out = send(to, out, direction, is_last && large.is_none()).await?;
        }
        if let Some(large) = large {
            pace.sent(large.len());
            drop(send(to, large, direction, is_last).await?);
        }
        match gathered.next {
            Next::Done => return Ok(payload),
            Next::Large { .. } => {}
            Next::More => {
                // Waiting, the exchange holds one buffer: the one that is read into.
                out = Buffer::none();
                direction.reads();
                if room > SMALL_ROOM && pace.is_due() {
                    from.readable().await;
                    direction.makes_room();
                    pace.ask(to).await;
                    direction.reads();
                }
                from.want(room.min(pace.room()));
                let received = from.fill().await.map_err(PumpError::Read)?;
                if received == 0 {
                    body.finish_on_eof().map_err(|_| PumpError::Truncated)?;
                    direction.see_end(body.trailers())?;
                    write_end(&mut out, framing, body.trailers());
                    if !out.is_empty() {
                        drop(send(to, out, direction, true).await?);
                    }
                    return Ok(payload);
                }
                room = next_room(body, received);
            }
        }
    }
}

/// `is_last`: nothing of the message follows.
pub async fn send(to: &Sender, out: Buffer, direction: &Direction<'_>, is_last: bool) -> Result<Buffer, PumpError> {
    direction.writes();
    let (result, out) = match (is_last, direction.ends) {
        (true, true) => to.send_last(out).await,
        (true, false) => (to.post(out).await, Buffer::none()),
        (false, _) => to.send(out).await,
    };
    direction.watch.progress();
    result.map_err(PumpError::Write)?;
    Ok(out)
}

/// Writes what goes first into the room in front of what follows, where there is enough: one send for both.
pub fn prepend(out: &mut Buffer, large: &mut Buffer) {
    if out.len() <= large.headroom() {
        large.prepend(out.bytes());
        *out = Buffer::none();
    }
}

/// How much to receive where a message is to come like one that had such a body: with its head, or as much as goes.
pub fn usual_room(body: BodyLength) -> usize {
    match body {
        BodyLength::Length(length) if length > SMALL_ROOM as u64 / 2 => LARGE_ROOM,
        _ => SMALL_ROOM,
    }
}

/// A large buffer where much is to come: known from the length, or seen from a read that was filled.
pub fn next_room(body: &BodyReader, received: usize) -> usize {
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
    direction: &Direction<'_>,
) -> Result<Gathered, PumpError> {
    let mut payload = 0;
    loop {
        match body.step(from.buffered())? {
            Step::NeedMore { consumed } => {
                from.consume(consumed);
                return Ok(Gathered { payload, next: Next::More });
            }
            Step::Done { consumed } => {
                from.consume(consumed);
                direction.see_end(body.trailers())?;
                write_end(out, framing, body.trailers());
                return Ok(Gathered { payload, next: Next::Done });
            }
            Step::Data { start, len } => {
                if len >= COPY_BYTES_MAX && start + len == from.buffered().len() {
                    return Ok(Gathered { payload, next: Next::Large { start, len } });
                }
                let piece = &from.buffered()[start..start + len];
                write_piece(out, piece, framing);
                let seen = direction.see(piece);
                from.consume(start + len);
                payload += len as u64;
                seen?;
            }
        }
    }
}

pub fn write_piece(out: &mut Buffer, piece: &[u8], framing: Framing) {
    match framing {
        Framing::Plain => out.extend(piece),
        Framing::Chunked => {
            out.extend(ChunkHeader::of(piece.len()).bytes());
            out.extend(piece);
            out.extend(emit::CHUNK_END);
        }
    }
}

pub fn write_end(out: &mut Buffer, framing: Framing, fields: &Fields) {
    if framing == Framing::Chunked {
        let mut end = Vec::with_capacity(8);
        emit::last_chunk(&mut end, trailers(fields));
        out.extend(&end);
    }
}
