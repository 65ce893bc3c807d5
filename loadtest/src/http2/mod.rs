//! HTTP/2 as a generator needs it, without I/O: requests in, bytes out; bytes in, answers out.
//!
//! A request is a header block that was written before the load began, so sending one is a copy; an answer's body is
//! counted and not kept. What breaks the protocol ends the connection and is counted: a harness that forgives would hide
//! what it is there to find.

mod frame;
mod hpack;

use std::sync::Arc;

use self::frame::{Frame, flags, kind};
pub use self::hpack::request_block;
use crate::http1::Malformed;

/// Streams that one connection may carry at a time.
pub const STREAMS_MAX: usize = 1000;
/// What the server may send of one body before it must wait; h2load's too.
const STREAM_WINDOW: u32 = (1 << 30) - 1;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW;
/// Of a connection, before anybody says otherwise.
const DEFAULT_WINDOW: i64 = 65_535;
/// Header blocks in CONTINUATION frames may grow up to this.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// A body is told to the server in its frames, of the size that it may have.
const FRAME_BYTES: usize = 16 * 1024;
const CANCEL: u32 = 8;

/// A request, written out.
pub struct Request<'a> {
    pub block: &'a [u8],
    pub body: &'a Arc<[u8]>,
    pub is_head: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Complete {
        slot: usize,
        status: u16,
        bytes: u64,
    },
    /// The server reset its stream.
    Reset {
        slot: usize,
    },
    /// The server went away before it looked at the request.
    Refused {
        slot: usize,
    },
}

/// One connection.
pub struct Connection {
    /// Frames to be sent.
    pub out: Vec<u8>,
    streams: Vec<Stream>,
    next_id: u32,
    /// The beginning of a frame that did not come in one piece.
    partial: Vec<u8>,
    /// A header block that goes on: its stream, whether it ends that, and what came so far.
    block: Option<(u32, bool, Vec<u8>)>,
    /// What we may still send of bodies.
    window: i64,
    initial_window: i64,
    /// Received since the last update.
    unacknowledged: u32,
    /// Of the server, once its SETTINGS came.
    streams_max: Option<u32>,
    going_away: bool,
}

/// Of one slot; `id` 0: nothing is under way.
#[derive(Default)]
struct Stream {
    id: u32,
    status: u16,
    to_head: bool,
    content_length: Option<u64>,
    received: u64,
    unacknowledged: u32,
    window: i64,
    body: Option<Arc<[u8]>>,
    sent: usize,
}

impl Connection {
    /// With the client's preface in `out`.
    pub fn new(slots: usize) -> Self {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = Vec::new();
        for (id, value) in
            [(frame::HEADER_TABLE_SIZE, 0), (frame::ENABLE_PUSH, 0), (frame::INITIAL_WINDOW_SIZE, STREAM_WINDOW)]
        {
            settings.extend_from_slice(&id.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame::write(&mut out, kind::SETTINGS, 0, 0, &settings);
        frame::write(&mut out, kind::WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW - DEFAULT_WINDOW as u32).to_be_bytes());
        Self {
            out,
            streams: (0..slots).map(|_| Stream::default()).collect(),
            next_id: 1,
            partial: Vec::new(),
            block: None,
            window: DEFAULT_WINDOW,
            initial_window: DEFAULT_WINDOW,
            unacknowledged: 0,
            streams_max: None,
            going_away: false,
        }
    }

    /// How many streams the server takes at a time; `None` until it said so.
    pub fn streams_max(&self) -> Option<u32> {
        self.streams_max
    }

    /// No request will be taken any more: the server said so, or the numbers of streams are used up.
    pub fn is_going_away(&self) -> bool {
        self.going_away || self.next_id >= 1 << 31
    }

    pub fn is_quiet(&self) -> bool {
        self.streams.iter().all(|stream| stream.id == 0)
    }

    /// Puts a request into a free slot.
    pub fn request(&mut self, slot: usize, request: &Request<'_>) {
        let id = self.next_id;
        self.next_id += 2;
        let has_body = !request.body.is_empty();
        let ends = if has_body { 0 } else { flags::END_STREAM };
        let mut pieces = request.block.chunks(FRAME_BYTES).peekable();
        let mut kind = kind::HEADERS;
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { flags::END_HEADERS } else { 0 };
            frame::write(&mut self.out, kind, last | if kind == kind::HEADERS { ends } else { 0 }, id, piece);
            kind = kind::CONTINUATION;
        }
        self.streams[slot] = Stream {
            id,
            to_head: request.is_head,
            window: self.initial_window,
            body: has_body.then(|| request.body.clone()),
            ..Stream::default()
        };
        if has_body {
            self.send_body(slot);
        }
    }

    /// Gives a request up.
    pub fn cancel(&mut self, slot: usize) {
        let id = std::mem::take(&mut self.streams[slot].id);
        if id > 0 {
            frame::write(&mut self.out, kind::RST_STREAM, 0, id, &CANCEL.to_be_bytes());
        }
    }

    /// Takes a piece of what the server sends.
    ///
    /// # Errors
    /// It breaks the protocol; the connection is of no more use.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Malformed> {
        let mut whole = std::mem::take(&mut self.partial);
        let mut rest = bytes;
        if !whole.is_empty() {
            whole.extend_from_slice(bytes);
            rest = &whole;
        }
        while let Some((frame, length)) = frame::read(rest)? {
            self.take(&frame, events)?;
            rest = &rest[length..];
        }
        self.partial = rest.to_vec();
        if self.unacknowledged > CONNECTION_WINDOW / 2 {
            let update = std::mem::take(&mut self.unacknowledged);
            frame::write(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &update.to_be_bytes());
        }
        Ok(())
    }

    fn take(&mut self, frame: &Frame<'_>, events: &mut Vec<Event>) -> Result<(), Malformed> {
        if self.block.is_some() != (frame.kind == kind::CONTINUATION) {
            return Err(Malformed("a header block is interrupted, or goes on without a beginning"));
        }
        if self.streams_max.is_none() && frame.kind != kind::SETTINGS {
            return Err(Malformed("the server's first frame is not SETTINGS"));
        }
        match frame.kind {
            kind::DATA => self.data(frame, events),
            kind::HEADERS => {
                let block = frame.without_priority()?;
                self.headers(frame, frame.has(flags::END_STREAM), block, events)
            }
            kind::CONTINUATION => {
                let Some((id, ends, mut block)) = self.block.take() else { return Ok(()) };
                if frame.stream != id || block.len() + frame.payload.len() > BLOCK_BYTES_MAX {
                    return Err(Malformed("a header block is too long, or of two streams"));
                }
                block.extend_from_slice(frame.payload);
                self.headers(frame, ends, &block, events)
            }
            kind::RST_STREAM => {
                if frame.payload.len() != 4 || frame.stream == 0 {
                    return Err(Malformed("RST_STREAM is malformed"));
                }
                if let Some(slot) = self.slot_of(frame.stream) {
                    self.streams[slot] = Stream::default();
                    events.push(Event::Reset { slot });
                }
                Ok(())
            }
            kind::SETTINGS => self.settings(frame),
            kind::PUSH_PROMISE => Err(Malformed("the server pushes, which was forbidden")),
            kind::PING => {
                if frame.payload.len() != 8 {
                    return Err(Malformed("PING is malformed"));
                }
                if !frame.has(flags::ACK) {
                    frame::write(&mut self.out, kind::PING, flags::ACK, 0, frame.payload);
                }
                Ok(())
            }
            kind::GOAWAY => self.go_away(frame, events),
            kind::WINDOW_UPDATE => self.window_update(frame),
            _ => Ok(()),
        }
    }

    fn data(&mut self, frame: &Frame<'_>, events: &mut Vec<Event>) -> Result<(), Malformed> {
        let body = frame.without_padding()?;
        let length = frame.payload.len() as u32;
        self.unacknowledged += length;
        // Of a stream that was given up: it counts against the connection only.
        let Some(slot) = self.slot_of(frame.stream) else { return Ok(()) };
        let stream = &mut self.streams[slot];
        if stream.status == 0 {
            return Err(Malformed("a body without a head"));
        }
        stream.received += body.len() as u64;
        stream.unacknowledged += length;
        if frame.has(flags::END_STREAM) {
            return self.end(slot, events);
        }
        if stream.unacknowledged > STREAM_WINDOW / 2 {
            let update = std::mem::take(&mut stream.unacknowledged);
            frame::write(&mut self.out, kind::WINDOW_UPDATE, 0, frame.stream, &update.to_be_bytes());
        }
        Ok(())
    }

    fn headers(
        &mut self,
        frame: &Frame<'_>,
        ends: bool,
        block: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Malformed> {
        if !frame.has(flags::END_HEADERS) {
            self.block = Some((frame.stream, ends, block.to_vec()));
            return Ok(());
        }
        let fields = hpack::fields(block)?;
        let Some(slot) = self.slot_of(frame.stream) else { return Ok(()) };
        let stream = &mut self.streams[slot];
        match fields.status {
            // 100 and 103 announce another head.
            Some(100..200) if !ends && stream.status == 0 => return Ok(()),
            Some(status) if stream.status == 0 && status >= 200 => {
                stream.status = status;
                stream.content_length = fields.content_length;
            }
            None if stream.status > 0 && ends => {}
            _ => return Err(Malformed("the response head is malformed")),
        }
        if ends { self.end(slot, events) } else { Ok(()) }
    }

    /// The server has said all of a response.
    fn end(&mut self, slot: usize, events: &mut Vec<Event>) -> Result<(), Malformed> {
        let stream = std::mem::take(&mut self.streams[slot]);
        let without_body = stream.to_head || stream.status == 204 || stream.status == 304;
        if stream.content_length.is_some_and(|length| length != stream.received && !without_body) {
            return Err(Malformed("the body is not as long as its head says"));
        }
        if stream.body.is_some_and(|body| stream.sent < body.len()) {
            // It does not want the rest.
            frame::write(&mut self.out, kind::RST_STREAM, 0, stream.id, &CANCEL.to_be_bytes());
        }
        events.push(Event::Complete { slot, status: stream.status, bytes: stream.received });
        Ok(())
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<(), Malformed> {
        let length = frame.payload.len();
        if frame.stream != 0 || !length.is_multiple_of(6) || frame.has(flags::ACK) && length > 0 {
            return Err(Malformed("SETTINGS are malformed"));
        }
        if frame.has(flags::ACK) {
            return Ok(());
        }
        let mut streams_max = self.streams_max.unwrap_or(u32::MAX);
        for setting in frame.payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                frame::MAX_CONCURRENT_STREAMS => streams_max = value,
                frame::INITIAL_WINDOW_SIZE => {
                    if value > i32::MAX as u32 {
                        return Err(Malformed("SETTINGS hold a window that is too large"));
                    }
                    let change = i64::from(value) - self.initial_window;
                    self.initial_window = i64::from(value);
                    self.streams.iter_mut().for_each(|stream| stream.window += change);
                }
                _ => {}
            }
        }
        self.streams_max = Some(streams_max);
        frame::write(&mut self.out, kind::SETTINGS, flags::ACK, 0, &[]);
        self.send_bodies();
        Ok(())
    }

    fn go_away(&mut self, frame: &Frame<'_>, events: &mut Vec<Event>) -> Result<(), Malformed> {
        let Some((last, _)) = frame.payload.split_first_chunk::<4>().filter(|(_, rest)| rest.len() >= 4) else {
            return Err(Malformed("GOAWAY is malformed"));
        };
        let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
        self.going_away = true;
        for (slot, stream) in self.streams.iter_mut().enumerate().filter(|(_, stream)| stream.id > last) {
            *stream = Stream::default();
            events.push(Event::Refused { slot });
        }
        Ok(())
    }

    fn window_update(&mut self, frame: &Frame<'_>) -> Result<(), Malformed> {
        let Ok(bytes) = <[u8; 4]>::try_from(frame.payload) else {
            return Err(Malformed("WINDOW_UPDATE is malformed"));
        };
        let by = i64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff);
        if frame.stream == 0 {
            self.window += by;
            if self.window > i64::from(i32::MAX) {
                return Err(Malformed("the connection's window is too large"));
            }
            self.send_bodies();
        } else if let Some(slot) = self.slot_of(frame.stream) {
            self.streams[slot].window += by;
            self.send_body(slot);
        }
        Ok(())
    }

    fn send_bodies(&mut self) {
        for slot in 0..self.streams.len() {
            self.send_body(slot);
        }
    }

    /// As much of a body as the windows let out.
    fn send_body(&mut self, slot: usize) {
        let stream = &mut self.streams[slot];
        let Some(body) = &stream.body else { return };
        while stream.id > 0 && stream.sent < body.len() {
            let room = stream.window.min(self.window).clamp(0, FRAME_BYTES as i64) as usize;
            let piece = &body[stream.sent..][..room.min(body.len() - stream.sent)];
            if piece.is_empty() {
                return;
            }
            stream.sent += piece.len();
            stream.window -= piece.len() as i64;
            self.window -= piece.len() as i64;
            let last = if stream.sent == body.len() { flags::END_STREAM } else { 0 };
            frame::write(&mut self.out, kind::DATA, last, stream.id, piece);
        }
    }

    fn slot_of(&self, id: u32) -> Option<usize> {
        self.streams.iter().position(|stream| stream.id == id).filter(|_| id > 0)
    }
}

#[cfg(test)]
mod tests;
