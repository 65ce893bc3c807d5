//! One connection, of either role.

use std::time::Instant;

use crate::http::head::{FieldRef, Fields, RequestHead, ResponseHead};
use crate::net::Buffer;

use super::{
    error::{Code, ConnectionError, Refused},
    event::{Event, StreamId},
    limits::Limits,
    memory::HeaderMemory,
};

/// A request to send, without its fields. Everything in it was checked by whoever parsed it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// `CONNECT` where there is a `protocol`.
    pub method: &'a [u8],
    /// `http` or `https`; left out for a CONNECT without protocol, as is the path.
    pub scheme: &'a [u8],
    pub authority: &'a [u8],
    pub path: &'a [u8],
    /// With its `?`, or empty.
    pub query: &'a [u8],
    /// RFC 8441: `websocket`.
    pub protocol: Option<&'a [u8]>,
}

pub struct Connection {
    output: Buffer,
    limits: Limits,
    memory: HeaderMemory,
}

impl Connection {
    /// Expects a client's preface. SETTINGS are in the output.
    pub fn server(limits: &Limits, memory: &HeaderMemory, now: Instant) -> Self {
        let _ = now;
        Self { output: Buffer::none(), limits: *limits, memory: memory.clone() }
    }

    /// The preface and SETTINGS are in the output; requests may be sent at once.
    pub fn client(limits: &Limits, memory: &HeaderMemory, now: Instant) -> Self {
        Self::server(limits, memory, now)
    }

    /// Takes what came and returns how many bytes of it are done with: whole frames, and DATA piecewise. The rest is to be
    /// given again with more behind it; a frame is at most 16,393 bytes. Leave what comes unread while
    /// [`may_receive`](Self::may_receive) is false. After an error every call returns the same error.
    pub fn receive(&mut self, input: &[u8], now: Instant) -> Result<usize, ConnectionError> {
        let _ = (input, now, &self.limits, &self.memory);
        Ok(0)
    }

    /// False while the peer does not take what it has caused to be sent.
    pub fn may_receive(&self) -> bool {
        true
    }

    pub fn next_event(&mut self) -> Option<Event> {
        None
    }

    /// Moves a request's head out; false where there is none to take. The old content of `into` is cleared and its memory
    /// used again. An extended CONNECT for a WebSocket comes as a GET with `websocket` set, and no body.
    pub fn take_request(&mut self, stream: StreamId, into: &mut RequestHead) -> bool {
        let _ = (stream, into);
        false
    }

    /// Moves the oldest head of the stream's responses out; false where there is none to take.
    pub fn take_response(&mut self, stream: StreamId, into: &mut ResponseHead) -> bool {
        let _ = (stream, into);
        false
    }

    /// Payload that came and was not taken yet, with headroom in front and room for a chunk's end behind.
    pub fn take_data(&mut self, stream: StreamId) -> Option<Buffer> {
        let _ = stream;
        None
    }

    pub fn take_trailers(&mut self, stream: StreamId) -> Option<Fields> {
        let _ = stream;
        None
    }

    /// The peer has ended its message, all payload of it was taken, and the stream was not reset.
    pub fn is_ended(&self, stream: StreamId) -> bool {
        let _ = stream;
        false
    }

    /// So many bytes of taken payload have gone their way: the peer may send as many more. Window updates are batched.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        let _ = (stream, bytes);
    }

    /// Opens a stream. Names of fields may be in any case; those that belong to one HTTP/1 connection are left out.
    pub fn send_request<'a>(
        &mut self,
        request: &Outgoing<'_>,
        fields: impl Iterator<Item = FieldRef<'a>>,
        end: bool,
    ) -> Result<StreamId, Refused> {
        let _ = (request, fields, end);
        Err(Refused::GoingAway)
    }

    /// Sends a response's head; a status of 1xx is an interim one, and never with `end`. Nothing is sent on a stream that
    /// was reset meanwhile.
    pub fn send_response<'a>(
        &mut self,
        stream: StreamId,
        status: u16,
        fields: impl Iterator<Item = FieldRef<'a>>,
        end: bool,
    ) {
        let _ = (stream, status, fields, end);
    }

    /// Frames as much of `data` as windows and the output's high-water mark allow, and returns how much that was. If it is
    /// less than all, [`Event::Window`] comes when there is more room. `end` counts only when all was taken.
    pub fn send_data(&mut self, stream: StreamId, data: &[u8], end: bool, now: Instant) -> usize {
        let _ = (stream, data, end, now);
        0
    }

    /// Sends trailers and ends the stream.
    pub fn send_trailers<'a>(&mut self, stream: StreamId, fields: impl Iterator<Item = FieldRef<'a>>) {
        let _ = (stream, fields);
    }

    /// Ends the stream in both directions. No event follows for it.
    pub fn reset(&mut self, stream: StreamId, code: Code) {
        let _ = (stream, code);
    }

    /// The answer is, or will be, complete without the rest of the request: what comes of it is dropped, and a
    /// RST_STREAM(NO_ERROR) follows the answer's end (RFC 9113 section 8.1).
    pub fn stop_reading(&mut self, stream: StreamId) {
        let _ = stream;
    }

    /// The owner is done with the stream: it stops counting as concurrent. One that is still open is reset.
    pub fn forget(&mut self, stream: StreamId) {
        let _ = stream;
    }

    /// A server says that it is about to close (GOAWAY with the highest stream id) and, with the next call or when a
    /// PING has come back, which stream is the last. A client just says goodbye.
    pub fn shutdown(&mut self) {}

    /// Shutting down, and no stream is open: send the output and close.
    pub fn is_finished(&self) -> bool {
        false
    }

    /// No stream is open.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Streams that were not forgotten.
    pub fn open_streams(&self) -> usize {
        0
    }

    /// A client may send a request now.
    pub fn may_open(&self) -> bool {
        false
    }

    /// The peer has announced extended CONNECT (RFC 8441).
    pub fn peer_takes_extended_connect(&self) -> bool {
        false
    }

    /// Asks for a sign of life; [`Event::Pong`] is it.
    pub fn ping(&mut self) {}

    /// When to call [`on_time`](Self::on_time) at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Ends what has waited too long for its peer.
    pub fn on_time(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let _ = now;
        Ok(())
    }

    /// There is something to send.
    pub fn wants_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// What is to be sent now; what is written afterwards goes behind it.
    pub fn take_output(&mut self) -> Buffer {
        std::mem::take(&mut self.output)
    }
}
