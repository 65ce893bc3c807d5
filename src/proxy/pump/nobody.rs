//! Towards nobody: a body is read for those who look on alone.

use super::{Direction, PumpError, http1::next_room};
use crate::{
    http::h1::body::{BodyReader, Step},
    net::{
        Receiver,
        buffer::{LARGE_ROOM, SMALL_ROOM},
    },
    proxy::h2::Stream,
};

pub async fn from_http1(
    from: &mut Receiver,
    body: &mut BodyReader,
    direction: &Direction<'_>,
) -> Result<u64, PumpError> {
    let mut payload = 0;
    let mut room = next_room(body, SMALL_ROOM);
    loop {
        match body.step(from.buffered())? {
            Step::Data { start, len } => {
                let seen = direction.see(&from.buffered()[start..start + len]);
                from.consume(start + len);
                seen?;
                payload += len as u64;
            }
            Step::Done { consumed } => {
                from.consume(consumed);
                direction.see_end(body.trailers())?;
                return Ok(payload);
            }
            Step::NeedMore { consumed } => {
                from.consume(consumed);
                direction.reads();
                from.want(room);
                let received = from.fill().await.map_err(PumpError::Read)?;
                direction.watch.progress();
                if received == 0 {
                    body.finish_on_eof().map_err(|_| PumpError::Truncated)?;
                    direction.see_end(body.trailers())?;
                    return Ok(payload);
                }
                room = next_room(body, received);
            }
        }
    }
}

pub async fn from_http2(from: &Stream, direction: &Direction<'_>) -> Result<u64, PumpError> {
    let mut payload = 0;
    loop {
        direction.reads();
        let piece = direction.took(from.data().await.map_err(|_| PumpError::Truncated)?)?;
        direction.watch.progress();
        if let Some(piece) = &piece {
            payload += piece.len() as u64;
            from.release(direction.settle(piece.len()), LARGE_ROOM);
        }
        if from.is_ended() {
            direction.see_end(&from.take_trailers().unwrap_or_default())?;
            return Ok(payload);
        }
    }
}
