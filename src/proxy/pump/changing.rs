//! A body that policies change on its way: a piece is taken, shown to them, and what they have made of it goes on. One piece at a
//! time; the next is not read before it has left.
//!
//! Whatever framed it before, nobody knows how long it will be. What waits lies with those who look on (`Scanning`), so that
//! nothing is lost where this is given up for another try.

use super::{
    Direction, Framing, PumpError,
    http1::{next_room, send, write_end, write_piece},
    trailers,
};
use crate::{
    http::{
        h1::body::{BodyReader, Step},
        head::Fields,
    },
    net::{Buffer, Receiver, buffer::SMALL_ROOM},
    policies::{Passed, Passing, Question, Reply, Side},
    proxy::{
        body::{Changing, Held, Scanning, UnderWay},
        h2::Stream,
        talk,
        wire::{Incoming, Outgoing},
    },
};

pub async fn pump(
    from: &mut Incoming<'_>,
    to: &Outgoing,
    framing: Framing,
    out: Buffer,
    direction: &Direction<'_>,
    scanning: &Scanning,
    changing: &Changing,
) -> Result<u64, PumpError> {
    let held = direction.sees.and_then(|sees| sees.held);
    let mut payload = 0;
    if !out.is_empty() {
        // The head does not wait for what becomes of the body.
        if let Outgoing::Http1(to) = to {
            drop(send(to, out, direction, false).await?);
        }
    }
    let mut taken = 0;
    loop {
        if changing.under_way.borrow().is_none() {
            direction.reads();
            taken = take(from, scanning.side(), changing, held).await?;
        }
        // Whom it waits for now is no peer's to say.
        direction.watch.wait_for(direction.writing.0, None);
        let Passing { bytes, is_last, trailers, .. } = pass(scanning, changing).await?;
        if let Some(held) = held {
            held.keep(&bytes);
            if is_last {
                held.keep_end(&trailers);
            }
        }
        write(to, &bytes, is_last.then_some(&trailers), framing, direction).await?;
        payload += bytes.len() as u64;
        if let Incoming::Http2(stream) = from {
            stream.release(direction.settle(taken), room(to));
        }
        if is_last {
            return Ok(payload);
        }
    }
}

/// Takes the next piece, which is under way then. Returns how long it was.
pub async fn take(
    from: &mut Incoming<'_>,
    side: Side,
    changing: &Changing,
    held: Option<&Held>,
) -> Result<usize, PumpError> {
    let (bytes, end) = match from {
        Incoming::Http1 { receiver, body } => next_http1(receiver, body).await?,
        Incoming::Http2(stream) => next_http2(stream).await?,
        Incoming::Nobody => (Vec::new(), Some(Fields::default())),
    };
    if let Some(held) = held {
        held.owe(bytes.len());
    }
    let taken = bytes.len();
    let passing = Passing { side, bytes, is_last: end.is_some(), trailers: end.unwrap_or_default() };
    changing.under_way.replace(Some(UnderWay { passing, at: 0, waits: None }));
    Ok(taken)
}

/// The piece that is under way, as all of them have left it.
pub async fn pass(scanning: &Scanning, changing: &Changing) -> Result<Passing, PumpError> {
    loop {
        let waits = changing.under_way.borrow().as_ref().and_then(|under_way| under_way.waits.clone());
        let reply = match waits {
            None => None,
            Some(hear) => Some(Reply::Heard(talk::hear(&changing.core, &changing.serving, &hear).await)),
        };
        let mut under_way = changing.under_way.take().expect("a piece was taken");
        under_way.waits = None;
        match scanning.pass(&mut under_way, reply) {
            Passed::Whole => return Ok(under_way.passing),
            Passed::Refused(answer) => return Err(PumpError::Refused(answer)),
            Passed::Waits(question) => {
                if let Question::Hear(hear) = *question {
                    under_way.waits = Some(hear);
                }
                changing.under_way.replace(Some(under_way));
            }
        }
    }
}

/// The next payload, and the trailers where it is the last.
async fn next_http1(from: &mut Receiver, body: &mut BodyReader) -> Result<(Vec<u8>, Option<Fields>), PumpError> {
    let mut room = next_room(body, SMALL_ROOM);
    loop {
        match body.step(from.buffered())? {
            Step::Data { start, len } => {
                let bytes = from.buffered()[start..start + len].to_vec();
                from.consume(start + len);
                // One of known length ends with its last byte.
                return Ok((bytes, body.is_done().then(|| body.trailers().clone())));
            }
            Step::Done { consumed } => {
                from.consume(consumed);
                return Ok((Vec::new(), Some(body.trailers().clone())));
            }
            Step::NeedMore { consumed } => {
                from.consume(consumed);
                from.want(room);
                let received = from.fill().await.map_err(PumpError::Read)?;
                if received == 0 {
                    body.finish_on_eof().map_err(|_| PumpError::Truncated)?;
                    return Ok((Vec::new(), Some(body.trailers().clone())));
                }
                room = next_room(body, received);
            }
        }
    }
}

async fn next_http2(from: &Stream) -> Result<(Vec<u8>, Option<Fields>), PumpError> {
    let piece = from.data().await.map_err(|_| PumpError::Truncated)?;
    let end = from.is_ended().then(|| from.take_trailers().unwrap_or_default());
    Ok((piece.map(|piece| piece.bytes().to_vec()).unwrap_or_default(), end))
}

/// `end`: nothing follows but these trailers.
async fn write(
    to: &Outgoing,
    bytes: &[u8],
    end: Option<&Fields>,
    framing: Framing,
    direction: &Direction<'_>,
) -> Result<(), PumpError> {
    match to {
        Outgoing::Http1(to) => {
            let mut out = Buffer::with_room(bytes.len() + SMALL_ROOM);
            if !bytes.is_empty() {
                write_piece(&mut out, bytes, framing);
            }
            if let Some(end) = end {
                write_end(&mut out, framing, end);
            }
            if !out.is_empty() {
                drop(send(to, out, direction, end.is_some()).await?);
            }
        }
        Outgoing::Http2(to) => {
            let is_all = end.is_some_and(Fields::is_empty);
            if !bytes.is_empty() {
                direction.writes();
                to.send(bytes, is_all).await.map_err(PumpError::Write)?;
                direction.watch.progress();
            }
            if let Some(end) = end {
                direction.writes();
                to.finish(trailers(end));
            }
        }
        Outgoing::Nobody(_) => {}
    }
    Ok(())
}

fn room(to: &Outgoing) -> usize {
    match to {
        Outgoing::Http1(_) | Outgoing::Nobody(_) => Buffer::LARGE,
        Outgoing::Http2(stream) => stream.room_now(),
    }
}
