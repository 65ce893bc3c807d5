//! Reading a body ahead of its message, as far as a policy wants it, within the limits of one body and of the core.

use super::{
    body::{Changing, Held, Scanning},
    pump::{PumpError, changing, next_room},
    watch::Watch,
    wire::Incoming,
};
use crate::{
    http::{
        h1::body::{BodyReader, Step},
        head::Fields,
    },
    net::{Receiver, buffer::SMALL_ROOM},
    policies::{Passing, Wanted},
    proxy::h2::Stream,
};

/// Where what is read goes, and who looks on.
pub struct Ahead<'a> {
    pub held: &'a Held,
    pub scanning: Option<&'a Scanning>,
    pub watch: &'a Watch<'a>,
    /// `limits.bufferedBodyBytes`.
    pub bytes_max: usize,
}

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Wanted(Wanted),
    /// What has been received already.
    Received,
}

/// Why a message cannot go on.
#[derive(Debug)]
pub enum Unread {
    /// More than [`Ahead::bytes_max`].
    TooLarge,
    /// The core keeps as much of all bodies as it may.
    NoMemory,
    Broken(PumpError),
}

impl From<PumpError> for Unread {
    fn from(error: PumpError) -> Self {
        Self::Broken(error)
    }
}

impl Ahead<'_> {
    /// Refuses a body of this length before a byte of it is read.
    pub fn admit(&self, length: Option<u64>, wanted: Wanted) -> Result<(), Unread> {
        match length {
            Some(length) if wanted == Wanted::Whole && length > self.bytes_max as u64 => Err(Unread::TooLarge),
            _ => Ok(()),
        }
    }

    /// Reads on behind what is held already.
    pub async fn read(&self, from: &mut Incoming<'_>, reach: Reach) -> Result<(), Unread> {
        let reach = if reach == Reach::Wanted(Wanted::Received) { Reach::Received } else { reach };
        // Somebody who changes nothing may have had more read than another one may have.
        if reach == Reach::Wanted(Wanted::Whole) && self.held.bytes() > self.bytes_max as u64 {
            return Err(Unread::TooLarge);
        }
        if self.is_enough(reach) {
            return Ok(());
        }
        if let Some(scanning) = self.scanning
            && let Some(changing) = scanning.changing()
        {
            return Box::pin(self.read_changing(from, reach, scanning, changing)).await;
        }
        match from {
            Incoming::Http1 { receiver, body } => self.read_http1(receiver, body, reach).await,
            Incoming::Http2(stream) => self.read_http2(stream, reach).await,
        }
    }

    async fn read_http1(&self, from: &mut Receiver, body: &mut BodyReader, reach: Reach) -> Result<(), Unread> {
        let mut room = next_room(body, SMALL_ROOM);
        loop {
            match body.step(from.buffered()).map_err(PumpError::Malformed)? {
                Step::Data { start, len } => {
                    let taken = self.take(&from.buffered()[start..start + len], reach);
                    from.consume(start + len);
                    taken?;
                    // The last byte of a known length is the end: nobody waits to be told.
                    if body.is_done() {
                        return self.end(body.trailers());
                    }
                    if self.is_enough(reach) {
                        return Ok(());
                    }
                }
                Step::Done { consumed } => {
                    from.consume(consumed);
                    return self.end(body.trailers());
                }
                Step::NeedMore { consumed } => {
                    from.consume(consumed);
                    if reach == Reach::Received {
                        return Ok(());
                    }
                    from.want(room);
                    let received = from.fill().await.map_err(PumpError::Read)?;
                    self.watch.progress();
                    if received == 0 {
                        body.finish_on_eof().map_err(|_| PumpError::Truncated)?;
                        return self.end(body.trailers());
                    }
                    room = next_room(body, received);
                }
            }
        }
    }

    async fn read_http2(&self, from: &Stream, reach: Reach) -> Result<(), Unread> {
        loop {
            let piece = match reach {
                Reach::Received => from.data_now(),
                Reach::Wanted(_) => from.data().await.map_err(|_| PumpError::Truncated)?,
            };
            let Some(piece) = piece else { break };
            self.watch.progress();
            self.take(piece.bytes(), reach)?;
            from.release(piece.len(), self.bytes_max.saturating_sub(self.held.bytes() as usize));
            if !from.is_ended() && self.is_enough(reach) {
                return Ok(());
            }
        }
        match from.is_ended() {
            true => self.end(&from.take_trailers().unwrap_or_default()),
            false => Ok(()),
        }
    }

    /// What is read becomes another body on its way here.
    async fn read_changing(
        &self,
        from: &mut Incoming<'_>,
        reach: Reach,
        scanning: &Scanning,
        changing: &Changing,
    ) -> Result<(), Unread> {
        // What has come of a body that is changed is waited for like the rest of it.
        while reach != Reach::Received && !self.is_enough(reach) {
            let taken = changing::take(from, scanning.side(), changing, None).await?;
            self.watch.progress();
            let Passing { bytes, is_last, trailers, .. } = changing::pass(scanning, changing).await?;
            self.watch.progress();
            let left = (self.bytes_max as u64).saturating_sub(self.held.bytes());
            if reach == Reach::Wanted(Wanted::Whole) && bytes.len() as u64 > left {
                return Err(Unread::TooLarge);
            }
            if !self.held.store(&bytes) {
                return Err(Unread::NoMemory);
            }
            if is_last {
                self.held.keep_end(&trailers);
            }
            if let Incoming::Http2(stream) = from {
                stream.release(taken, self.bytes_max.saturating_sub(self.held.bytes() as usize));
            }
        }
        Ok(())
    }

    fn take(&self, payload: &[u8], reach: Reach) -> Result<(), Unread> {
        let left = (self.bytes_max as u64).saturating_sub(self.held.bytes());
        let is_too_large = reach == Reach::Wanted(Wanted::Whole) && payload.len() as u64 > left;
        // Those who look on see all that may be read, in however many pieces it comes: so the same body has the same answer.
        let seen = if is_too_large { &payload[..left as usize] } else { payload };
        if let Some(scanning) = self.scanning {
            scanning.see(seen).map_err(PumpError::Refused)?;
        }
        if is_too_large {
            return Err(Unread::TooLarge);
        }
        self.held.store(payload).then_some(()).ok_or(Unread::NoMemory)
    }

    fn end(&self, trailers: &Fields) -> Result<(), Unread> {
        self.held.keep_end(trailers);
        self.scanning.map_or(Ok(()), Scanning::end).map_err(|answer| PumpError::Refused(answer).into())
    }

    /// Without waiting for more.
    fn is_enough(&self, reach: Reach) -> bool {
        let held = self.held.bytes();
        self.held.is_ended()
            || match reach {
                Reach::Received | Reach::Wanted(Wanted::Whole | Wanted::Received) => false,
                Reach::Wanted(Wanted::First(bytes)) => held >= bytes.min(self.bytes_max) as u64,
                Reach::Wanted(Wanted::WholeOrNothing) => held > self.bytes_max as u64 || !self.held.has_room(),
            }
    }
}
