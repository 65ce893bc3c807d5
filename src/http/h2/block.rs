//! Header blocks that come: HEADERS, their CONTINUATIONs, and what becomes of the stream.

use std::time::Instant;

use super::{
    budget::{Work, price},
    connection::{Closing, Connection, Role},
    error::{Code, ConnectionError, StreamFault},
    event::{Event, StreamId},
    frame::{Header, flag, payload},
    hpack::Step,
    incoming::{FLOOD_FACTOR, Form, Incoming, Verdict},
    streams::{Gone, Stream},
};

/// Interim responses that may wait to be taken, and a stream's final one.
const HEADS_MAX: usize = 16;
/// A field that has not come to its end may be so much larger than a whole head.
const UNFINISHED_SLACK: usize = 64 << 10;

/// A block that goes on past so many times the size of a legal head ends the connection: nobody waits for its end to say 431.
const OPEN_FACTOR: usize = 2;

/// A header block, decoded as it comes.
pub struct Block {
    pub stream: u32,
    end: bool,
    incoming: Box<Incoming>,
    /// The beginning of a field that goes on in the next frame.
    unfinished: Vec<u8>,
    /// What its fields have taken from the header memory.
    memory: usize,
    /// The stream is reset with this when the block is complete.
    error: Option<StreamFault>,
    /// When it was first looked at and found incomplete.
    pub open_since: Option<Instant>,
}

impl Connection {
    pub(super) fn receive_headers(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        if header.stream == 0 {
            return Err(ConnectionError::protocol("frame_stream"));
        }
        let (fragment, on_itself) = payload::headers(header, payload)?;
        let end = header.has(flag::END_STREAM);
        let (form, mut error) = self.place(header.stream, end)?;
        if on_itself {
            error = Some((Code::PROTOCOL_ERROR, "depends_on_itself"));
        }
        if fragment.is_empty() {
            self.budget.spend(Work::EmptyFrame, price::EMPTY_FRAME)?;
        }
        self.decoder.begin_block();
        let incoming = self.memory.incoming(form);
        let block =
            Block { stream: header.stream, end, incoming, unfinished: Vec::new(), memory: 0, error, open_since: None };
        self.receive_fragment(block, fragment, header.has(flag::END_HEADERS))
    }

    pub(super) fn receive_continuation(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        let block = self.block.take().ok_or(ConnectionError::protocol("continuation"))?;
        self.budget.spend(Work::Continuation, price::CONTINUATION)?;
        if payload.is_empty() {
            self.budget.spend(Work::EmptyFrame, price::EMPTY_FRAME)?;
        }
        self.receive_fragment(*block, payload, header.has(flag::END_HEADERS))
    }

    /// What a block on this stream is, and what is wrong with it before it was read. Opens the stream of a request.
    fn place(&mut self, id: u32, end: bool) -> Result<(Form, Option<StreamFault>), ConnectionError> {
        const CLOSED: ConnectionError = ConnectionError::new(Code::STREAM_CLOSED, "headers_on_closed_stream");
        if let Some(stream) = self.streams.get(id) {
            return match stream {
                stream if stream.reset_by_peer => Err(CLOSED),
                // It crossed our RST_STREAM, or should have.
                stream if stream.reset => {
                    self.spend_closed()?;
                    Ok((Form::Nothing, None))
                }
                stream if stream.stop_reading && !stream.remote_ended => Ok((Form::Trailers, None)),
                stream if stream.is_complete() => match self.streams.gone(id) {
                    Gone::Reset => Ok((Form::Nothing, None)),
                    _ => Err(CLOSED),
                },
                stream if stream.remote_ended => Ok((Form::Nothing, Some((Code::STREAM_CLOSED, "headers_after_end")))),
                stream if self.role == Role::Client && !stream.has_head => Ok((Form::Response, None)),
                _ if !end => Ok((Form::Nothing, Some((Code::PROTOCOL_ERROR, "trailers_without_end")))),
                _ => Ok((Form::Trailers, None)),
            };
        }
        if self.is_idle_stream(id) {
            if self.role == Role::Client || id.is_multiple_of(2) {
                return Err(ConnectionError::protocol("stream_id"));
            }
            return self.open(id);
        }
        match self.streams.gone(id) {
            Gone::Skipped => Err(ConnectionError::protocol("stream_id")),
            Gone::Closed => Err(CLOSED),
            Gone::Reset => {
                self.spend_closed()?;
                Ok((Form::Nothing, None))
            }
        }
    }

    fn open(&mut self, id: u32) -> Result<(Form, Option<StreamFault>), ConnectionError> {
        self.budget.spend(Work::Stream, price::STREAM)?;
        self.streams.remember_gap(self.last_peer_stream, id);
        self.last_peer_stream = id;
        if matches!(self.closing, Closing::Final(_)) {
            return Ok((Form::Nothing, Some((Code::REFUSED_STREAM, "going_away"))));
        }
        let max = self.limits.concurrent_streams as usize;
        // Complete ones that their owner has not forgotten yet do not count, but are not unlimited either.
        let open = self.streams.len();
        if open >= max && (open >= max.saturating_mul(2) || self.streams.active() >= max) {
            return Ok((Form::Nothing, Some((Code::REFUSED_STREAM, "too_many_streams"))));
        }
        let mut stream = Stream::new(id, self.peer.initial_window, self.stream_window);
        stream.stream_units = price::STREAM;
        self.streams.insert(stream);
        Ok((Form::Request, None))
    }

    fn receive_fragment(&mut self, mut block: Block, fragment: &[u8], last: bool) -> Result<(), ConnectionError> {
        let decoded = self.decode(&mut block, fragment, last);
        if decoded.is_err() || last {
            // What a head holds goes over to its stream; all else is free again.
            let kept = block.incoming.verdict.is_none() && block.error.is_none();
            if !kept || decoded.is_err() {
                self.header_memory -= block.memory;
                self.memory.give_back(block.memory);
                block.memory = 0;
            }
        }
        decoded?;
        if last {
            return self.finish_block(block);
        }
        self.block = Some(Box::new(block));
        Ok(())
    }

    fn decode(&mut self, block: &mut Block, fragment: &[u8], last: bool) -> Result<(), ConnectionError> {
        const BROKEN: ConnectionError = ConnectionError::new(Code::COMPRESSION_ERROR, "hpack");
        const FLOOD: ConnectionError = ConnectionError::new(Code::ENHANCE_YOUR_CALM, "header_flood");
        let mut unfinished = std::mem::take(&mut block.unfinished);
        let goes_on = !unfinished.is_empty();
        if goes_on {
            unfinished.extend_from_slice(fragment);
        }
        let input = if goes_on { &unfinished } else { fragment };
        let size_before = block.incoming.size;
        let size_max = self.limits.head_bytes.saturating_mul(FLOOD_FACTOR);
        let mut at = 0;
        loop {
            let writer = block.incoming.request.fields.writer();
            let start = writer.len();
            match self.decoder.step(&input[at..], writer).map_err(|_| BROKEN)? {
                Step::NeedMore { consumed } => {
                    at += consumed;
                    break;
                }
                Step::Field(field) => {
                    at += field.consumed;
                    let (memory, used) = (&self.memory, &mut self.header_memory);
                    let used_max = self.limits.header_memory_per_connection;
                    let held = &mut block.memory;
                    block.incoming.add(start, field, &self.limits, |bytes| {
                        let fits = *used + bytes <= used_max && memory.take(bytes);
                        if fits {
                            *used += bytes;
                            *held += bytes;
                        }
                        fits
                    });
                    if block.incoming.size > size_max {
                        return Err(FLOOD);
                    }
                }
            }
        }
        let units = ((block.incoming.size - size_before) / price::HEADER_BYTES) as u32;
        self.budget.spend(Work::Header, units)?;
        let rest = &input[at..];
        if last {
            return if rest.is_empty() { Ok(()) } else { Err(BROKEN) };
        }
        let open_max = self.limits.head_bytes.saturating_mul(OPEN_FACTOR);
        if rest.len() > self.limits.head_bytes + UNFINISHED_SLACK || block.incoming.size > open_max {
            return Err(FLOOD);
        }
        if goes_on {
            unfinished.drain(..at);
        } else {
            unfinished = rest.to_vec();
        }
        block.unfinished = unfinished;
        Ok(())
    }

    fn finish_block(&mut self, mut block: Block) -> Result<(), ConnectionError> {
        let id = block.stream;
        if block.incoming.form == Form::Nothing || block.error.is_some() {
            self.memory.reuse(block.incoming);
            return match block.error {
                Some((code, reason)) => self.stream_error(id, code, reason),
                None => Ok(()),
            };
        }
        block.incoming.finish(block.end, self.limits.extended_connect);
        let verdict = block.incoming.verdict;
        if verdict.is_some() {
            self.header_memory -= block.memory;
            self.memory.give_back(std::mem::take(&mut block.memory));
        }
        let Some(stream) = self.streams.get_mut(id) else {
            self.memory.reuse(block.incoming);
            return Ok(());
        };
        stream.memory += block.memory;
        stream.header_units += (block.incoming.size / price::HEADER_BYTES) as u32;
        let is_request = block.incoming.form == Form::Request;
        if is_request && matches!(verdict, Some(Verdict::Malformed(_))) {
            self.budget.spend(Work::OwnReset, price::OWN_RESET)?;
            stream.malformed = true;
        }
        match verdict.map(|verdict| if is_request { verdict.answered() } else { verdict }) {
            None => {}
            Some(Verdict::Refuse(status, reason)) if is_request => {
                stream.header_units = 0;
                stream.stop_reading = true;
                stream.remote_ended = block.end;
                stream.heads.push_back((block.incoming, block.end));
                self.events.push_back(Event::Refuse { stream: StreamId(id), status, reason });
                return Ok(());
            }
            Some(Verdict::Malformed(reason) | Verdict::Refuse(_, reason)) => {
                self.memory.reuse(block.incoming);
                return self.stream_error(id, Code::PROTOCOL_ERROR, reason);
            }
            Some(Verdict::NoMemory) => {
                self.memory.reuse(block.incoming);
                return self.stream_error(id, Code::REFUSED_STREAM, "header_memory");
            }
        }
        match block.incoming.form {
            Form::Request => {
                stream.expected = block.incoming.content_length;
                stream.remote_ended = block.end;
                stream.heads.push_back((block.incoming, block.end));
                self.events.push_back(Event::Request { stream: StreamId(id), end: block.end });
                Ok(())
            }
            Form::Response => self.finish_response(block),
            Form::Trailers => {
                if stream.stop_reading {
                    self.memory.reuse(block.incoming);
                } else {
                    stream.trailers = Some(block.incoming);
                }
                self.end_remote(id)
            }
            Form::Nothing => Ok(()),
        }
    }

    fn finish_response(&mut self, block: Block) -> Result<(), ConnectionError> {
        let id = block.stream;
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        let status = block.incoming.status;
        if stream.heads.len() >= HEADS_MAX {
            self.memory.reuse(block.incoming);
            return self.stream_error(id, Code::ENHANCE_YOUR_CALM, "too_many_interim_responses");
        }
        stream.is_answered = true;
        if status >= 200 {
            stream.has_head = true;
            let is_empty = stream.is_head || matches!(status, 204 | 304);
            stream.expected = if is_empty { Some(0) } else { block.incoming.content_length };
        }
        stream.heads.push_back((block.incoming, block.end));
        if block.end && stream.expected.is_some_and(|left| left > 0) {
            return self.stream_error(id, Code::PROTOCOL_ERROR, "content_length_mismatch");
        }
        self.events.push_back(Event::Response { stream: StreamId(id), end: block.end });
        if block.end {
            stream_ended(self, id);
        }
        Ok(())
    }

    /// The peer has sent END_STREAM behind a head.
    pub(super) fn end_remote(&mut self, id: u32) -> Result<(), ConnectionError> {
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        if stream.expected.is_some_and(|left| left > 0) && !stream.stop_reading {
            return self.stream_error(id, Code::PROTOCOL_ERROR, "content_length_mismatch");
        }
        if !stream.stop_reading {
            self.events.push_back(Event::End { stream: StreamId(id) });
        }
        stream_ended(self, id);
        Ok(())
    }

    /// Resets a stream for what the peer did on it.
    #[cold]
    pub(super) fn stream_error(&mut self, id: u32, code: Code, reason: &'static str) -> Result<(), ConnectionError> {
        self.budget.spend(Work::OwnReset, price::OWN_RESET)?;
        self.write_reset(id, code);
        let stream = StreamId(id);
        let delivered = self.streams.get(id).is_some_and(|stream| stream.delivered && !stream.reset);
        self.silence(id);
        if delivered {
            self.events.push_back(Event::Reset { stream, code, by_peer: false });
        } else if self.streams.get(id).is_none_or(|stream| !stream.delivered) {
            self.remove(id);
            self.events.push_back(Event::Rejected { stream, code, reason });
        }
        Ok(())
    }
}

fn stream_ended(connection: &mut Connection, id: u32) {
    if let Some(stream) = connection.streams.get_mut(id) {
        stream.remote_ended = true;
    }
    connection.finish_if_done(id);
}
