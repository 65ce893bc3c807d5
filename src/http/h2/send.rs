//! What a connection sends.

use std::time::Instant;

use crate::http::head::{FieldRef, Known};

use super::{
    connection::{Closing, Connection, Role},
    error::{Code, Refused},
    event::StreamId,
    frame::{HEADER_BYTES, Header, PAYLOAD_MAX, STREAM_MAX, flag, kind},
    streams::Stream,
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

impl Connection {
    /// Opens a stream. Names of fields may be in any case; those that belong to one HTTP/1 connection are left out.
    pub fn send_request<'a>(
        &mut self,
        request: &Outgoing<'_>,
        fields: impl Iterator<Item = FieldRef<'a>>,
        end: bool,
    ) -> Result<StreamId, Refused> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if request.protocol.is_some() && !self.peer.extended_connect {
            return Err(Refused::NoExtendedConnect);
        }
        let id = self.next_stream;
        self.next_stream += 2;
        let mut stream = Stream::new(id, self.peer.initial_window, self.stream_window);
        stream.delivered = true;
        stream.local_ended = end;
        stream.is_head = request.method == b"HEAD";
        self.streams.insert(stream);

        let mut block = self.begin_block();
        self.encoder.field(&mut block, b":method", request.method);
        if request.method != b"CONNECT" || request.protocol.is_some() {
            self.encoder.field(&mut block, b":scheme", request.scheme);
            match request.query {
                [] => self.encoder.field(&mut block, b":path", request.path),
                query => self.encoder.field(&mut block, b":path", &[request.path, query].concat()),
            }
        }
        self.encoder.field(&mut block, b":authority", request.authority);
        if let Some(protocol) = request.protocol {
            self.encoder.field(&mut block, b":protocol", protocol);
        }
        self.write_fields(&mut block, fields);
        self.write_block(block, id, end);
        Ok(StreamId(id))
    }

    pub(super) fn refusal(&self) -> Option<Refused> {
        let is_open = self.role == Role::Client && self.error.is_none() && self.closing == Closing::No;
        if !is_open || self.peer_goaway.is_some() {
            return Some(Refused::GoingAway);
        }
        let max = self.peer.concurrent_streams as usize;
        if self.streams.len() >= max && self.streams.active() >= max {
            return Some(Refused::TooManyStreams);
        }
        (self.next_stream > STREAM_MAX).then_some(Refused::OutOfStreams)
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
        debug_assert!(!end || status >= 200);
        if !self.may_send(stream) {
            return;
        }
        let mut block = self.begin_block();
        self.encoder.status(&mut block, status);
        self.write_fields(&mut block, fields);
        self.write_block(block, stream.0, end);
        self.sent_end(stream, end);
    }

    /// Frames as much of `data` as windows and the output's high-water mark allow, and returns how much that was. If it is
    /// less than all, [`Event::Window`](super::Event::Window) comes when there is more room. `end` counts only when all was
    /// taken.
    pub fn send_data(&mut self, stream: StreamId, data: &[u8], end: bool, now: Instant) -> usize {
        if !self.may_send(stream) {
            return 0;
        }
        let room = self.output_room(data.len());
        let Some(entry) = self.streams.get_mut(stream.0) else { return 0 };
        let window = entry.send_window.min(self.send_window).max(0) as usize;
        let len = data.len().min(window).min(room);
        let is_all = len == data.len();
        entry.note_progress(len, is_all, len == window && !is_all, now);
        entry.send_window -= len as i64;
        self.send_window -= len as i64;
        if !is_all && !entry.waiting {
            entry.waiting = true;
            self.waiting.push_back(stream.0);
        }
        let ends = end && is_all;
        self.write_payload(stream.0, &data[..len], ends);
        self.sent_end(stream, ends);
        len
    }

    fn write_payload(&mut self, id: u32, data: &[u8], end: bool) {
        let frame_max = self.peer.frame_size.min(PAYLOAD_MAX);
        // At once: frame by frame the output would grow by one size of buffers after the other.
        self.output.reserve(data.len() + data.len().div_ceil(frame_max) * HEADER_BYTES);
        let mut rest = data;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(frame_max));
            rest = after;
            let flags = if end && rest.is_empty() { flag::END_STREAM } else { 0 };
            self.write_frame(kind::DATA, flags, id, piece);
            self.budget.sent_payload(piece.len());
        }
        if data.is_empty() && end {
            self.write_frame(kind::DATA, flag::END_STREAM, id, &[]);
        }
    }

    /// Sends trailers and ends the stream.
    pub fn send_trailers<'a>(&mut self, stream: StreamId, fields: impl Iterator<Item = FieldRef<'a>>) {
        if !self.may_send(stream) {
            return;
        }
        let mut block = self.begin_block();
        let before = block.len();
        self.write_fields(&mut block, fields);
        if block.len() == before {
            // A header block of no fields is legal, and unusual enough that peers have stumbled over it.
            self.memory.reuse_block(block);
            self.write_payload(stream.0, &[], true);
        } else {
            self.write_block(block, stream.0, true);
        }
        self.sent_end(stream, true);
    }

    pub(super) fn may_send(&self, stream: StreamId) -> bool {
        self.error.is_none() && self.streams.get(stream.0).is_some_and(Stream::is_sendable)
    }

    fn sent_end(&mut self, stream: StreamId, end: bool) {
        if !end {
            return;
        }
        if let Some(stream) = self.streams.get_mut(stream.0) {
            stream.local_ended = true;
        }
        self.finish_if_done(stream.0);
    }

    /// A vector with room for a frame header in front.
    fn begin_block(&mut self) -> Vec<u8> {
        let mut block = self.memory.block();
        block.extend_from_slice(&[0; HEADER_BYTES]);
        self.encoder.begin_block(&mut block);
        block
    }

    fn write_fields<'a>(&mut self, block: &mut Vec<u8>, fields: impl Iterator<Item = FieldRef<'a>>) {
        for field in fields {
            match field.known {
                Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::TransferEncoding
                | Known::Upgrade => continue,
                Known::Te if !field.value.eq_ignore_ascii_case(b"trailers") => continue,
                _ => {}
            }
            if !field.name.iter().any(u8::is_ascii_uppercase) {
                self.encoder.field(block, field.name, field.value);
                continue;
            }
            let mut lower = [0; 64];
            match lower.get_mut(..field.name.len()) {
                Some(lower) => {
                    lower.copy_from_slice(field.name);
                    lower.make_ascii_lowercase();
                    self.encoder.field(block, lower, field.value);
                }
                None => self.encoder.field(block, &field.name.to_ascii_lowercase(), field.value),
            }
        }
    }

    /// Cuts a block into HEADERS and CONTINUATION frames.
    fn write_block(&mut self, mut block: Vec<u8>, id: u32, end: bool) {
        let frame_max = self.peer.frame_size.min(PAYLOAD_MAX);
        let end_stream = if end { flag::END_STREAM } else { 0 };
        let len = block.len() - HEADER_BYTES;
        if len <= frame_max {
            let header = Header { len, kind: kind::HEADERS, flags: end_stream | flag::END_HEADERS, stream: id };
            block[..HEADER_BYTES].copy_from_slice(&header.bytes());
            self.output.extend(&block);
        } else {
            let mut rest = &block[HEADER_BYTES..];
            let (mut frame, mut flags) = (kind::HEADERS, end_stream);
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(frame_max));
                rest = after;
                if rest.is_empty() {
                    flags |= flag::END_HEADERS;
                }
                self.write_frame(frame, flags, id, piece);
                (frame, flags) = (kind::CONTINUATION, 0);
            }
        }
        self.memory.reuse_block(block);
    }

    pub(super) fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let header = Header { len: payload.len(), kind, flags, stream };
        self.output.reserve(HEADER_BYTES + payload.len());
        self.output.extend(&header.bytes());
        self.output.extend(payload);
    }

    /// A frame that the peer has caused; `receive` ends the connection where too many wait.
    pub(super) fn write_control(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        if self.error.is_none() {
            self.control_backlog += HEADER_BYTES + payload.len();
            self.write_frame(kind, flags, stream, payload);
        }
    }

    pub(super) fn write_reset(&mut self, id: u32, code: Code) {
        self.streams.remember_reset(id);
        self.write_control(kind::RST_STREAM, 0, id, &code.0.to_be_bytes());
    }

    pub(super) fn write_goaway(&mut self, last: u32, code: Code) {
        let mut payload = [0; 8];
        payload[..4].copy_from_slice(&last.to_be_bytes());
        payload[4..].copy_from_slice(&code.0.to_be_bytes());
        self.write_frame(kind::GOAWAY, 0, 0, &payload);
    }
}
