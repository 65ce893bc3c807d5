//! Where one side or both are streams of HTTP/2.
//!
//! What a stream brought is given back to its window only when the other side has taken it, so a reader that stalls costs one
//! window's worth of memory. From HTTP/1.1 nothing is read before there is a window for it.

use super::{
    Direction, Framing, PumpError, frame_in_place,
    http1::{COPY_BYTES_MAX, next_room, prepend, send, write_end, write_piece},
    trailers,
};
use crate::{
    http::{
        h1::body::{BodyReader, Step},
        head::Fields,
    },
    net::{Buffer, Receiver, Sender, buffer::SMALL_ROOM, pace::Pace},
    proxy::h2::Stream,
};

pub async fn from_http1(
    from: &mut Receiver,
    body: &mut BodyReader,
    to: &Stream,
    direction: &Direction<'_>,
) -> Result<u64, PumpError> {
    let mut payload = 0;
    let mut room = next_room(body, SMALL_ROOM);
    loop {
        match body.step(from.buffered())? {
            Step::Data { start, len } => {
                // Consumed also where the sending is given up: what was decoded is decoded only once.
                let taken = Taken { from, start, end: start + len };
                let piece = taken.payload();
                direction.see(piece)?;
                // A body of known length ends with its last byte, and so does the stream: no empty frame behind it.
                let last = body.is_done();
                if last {
                    direction.see_end(body.trailers())?;
                }
                direction.writes();
                to.send(piece, last).await.map_err(PumpError::Write)?;
                direction.watch.progress();
                drop(taken);
                payload += len as u64;
                if last {
                    return Ok(payload);
                }
            }
            Step::Done { consumed } => {
                from.consume(consumed);
                direction.see_end(body.trailers())?;
                direction.writes();
                to.finish(trailers(body.trailers()));
                return Ok(payload);
            }
            Step::NeedMore { consumed } => {
                from.consume(consumed);
                direction.reads();
                if room > SMALL_ROOM {
                    from.readable().await;
                    direction.makes_room();
                    let takes = to.room().await.map_err(PumpError::Write)?;
                    room = room.min(takes.max(SMALL_ROOM));
                    direction.reads();
                }
                from.want(room);
                let received = from.fill().await.map_err(PumpError::Read)?;
                if received == 0 {
                    body.finish_on_eof().map_err(|_| PumpError::Truncated)?;
                    direction.see_end(body.trailers())?;
                    direction.writes();
                    to.finish(None);
                    return Ok(payload);
                }
                room = next_room(body, received);
            }
        }
    }
}

/// A piece of payload in the buffer it came in, consumed when this is dropped.
struct Taken<'a> {
    from: &'a mut Receiver,
    start: usize,
    end: usize,
}

impl Taken<'_> {
    fn payload(&self) -> &[u8] {
        &self.from.buffered()[self.start..self.end]
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.from.consume(self.end);
    }
}

pub async fn to_http1(
    from: &Stream,
    to: &Sender,
    framing: Framing,
    mut out: Buffer,
    direction: &Direction<'_>,
) -> Result<u64, PumpError> {
    let mut payload = 0;
    let mut pace = Pace::begin();
    let mut next = None;
    loop {
        // What has come is taken, and goes in as few sends as its size allows.
        let mut taken = 0;
        let mut large = loop {
            let piece = match next.take() {
                None => direction.took(from.data_now())?,
                next => next,
            };
            let Some(piece) = piece else { break None };
            taken += piece.len();
            if piece.len() >= COPY_BYTES_MAX {
                let len = piece.len();
                break Some(frame_in_place(piece, 0, len, framing));
            }
            write_piece(&mut out, piece.bytes(), framing);
        };
        payload += taken as u64;
        let ended = large.is_none() && from.is_ended();
        if ended {
            let trailers = from.take_trailers().unwrap_or_default();
            direction.see_end(&trailers)?;
            write_end(&mut out, framing, &trailers);
        }
        if let Some(large) = &mut large {
            prepend(&mut out, large);
        }
        if !out.is_empty() {
            pace.sent(out.len());
            drop(send(to, std::mem::take(&mut out), direction, ended).await?);
        }
        let more = large.is_some();
        if let Some(large) = large {
            pace.sent(large.len());
            drop(send(to, large, direction, false).await?);
        }
        from.release(direction.settle(taken), pace.room());
        if ended {
            return Ok(payload);
        }
        if !more {
            direction.reads();
            next = direction.took(from.data().await.map_err(|_| PumpError::Truncated)?)?;
        }
        if pace.is_due() {
            // Until then what comes is held to its window.
            direction.makes_room();
            pace.ask(to).await;
        }
    }
}

pub async fn between(from: &Stream, to: &Stream, direction: &Direction<'_>) -> Result<u64, PumpError> {
    let mut payload = 0;
    loop {
        direction.reads();
        // Both are seen before anything is waited for: they are not taken a second time.
        let piece = direction.took(from.data().await.map_err(|_| PumpError::Truncated)?)?;
        let end = from.is_ended().then(|| from.take_trailers().unwrap_or_default());
        if let Some(fields) = &end {
            direction.see_end(fields)?;
        }
        if let Some(piece) = &piece {
            direction.writes();
            let last = end.as_ref().is_some_and(Fields::is_empty);
            to.send(piece.bytes(), last).await.map_err(PumpError::Write)?;
            direction.watch.progress();
            payload += piece.len() as u64;
            from.release(direction.settle(piece.len()), to.room_now());
        }
        if let Some(fields) = end {
            direction.writes();
            to.finish(trailers(&fields));
            return Ok(payload);
        }
    }
}
