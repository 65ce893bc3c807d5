//! What a connection receives: frames, one after the other, each held to its rules (RFC 9113 sections 4 to 6).

use std::time::Instant;

use crate::net::Buffer;

use super::{
    budget::{SMALL_INCREMENT, Work, price},
    connection::{CONTROL_BACKLOG_MAX, Connection, Phase, Role},
    error::{Code, ConnectionError, StreamFault},
    event::{Event, StreamId},
    flow::first_window,
    frame::{HEADER_BYTES, Header, PAYLOAD_MAX, PREFACE, WINDOW_MAX, control, flag, kind, payload, settings},
    streams::{Gone, Stream},
};

/// What stays free in a received buffer: the end of a chunk.
const TAILROOM: usize = 2;

/// A DATA frame whose head was read.
pub struct Payload {
    stream: u32,
    left: usize,
    padding: usize,
    end: bool,
    /// Nobody wants it.
    dropped: bool,
}

impl Connection {
    /// Takes what came and returns how many bytes of it are done with: whole frames, and DATA piecewise. The rest is to be
    /// given again with more behind it; a frame is at most 16,393 bytes. Leave what comes unread while
    /// [`may_receive`](Self::may_receive) is false. After an error every call returns the same error.
    pub fn receive(&mut self, input: &[u8], now: Instant) -> Result<usize, ConnectionError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.budget.fill(now);
        let taken = self.receive_all(input).map_err(|error| self.fail(error))?;
        if taken > 0 {
            self.unfinished_since = None;
        }
        self.is_unfinished = taken < input.len();
        Ok(taken)
    }

    fn receive_all(&mut self, input: &[u8]) -> Result<usize, ConnectionError> {
        let mut at = 0;
        if self.phase == Phase::Preface {
            let common = input.len().min(PREFACE.len());
            if input[..common] != PREFACE[..common] {
                return Err(ConnectionError::protocol("preface"));
            }
            if common < PREFACE.len() {
                return Ok(0);
            }
            at = PREFACE.len();
            self.phase = Phase::FirstSettings;
        }
        loop {
            let taken = self.receive_one(&input[at..])?;
            if taken == 0 {
                return Ok(at);
            }
            at += taken;
            if self.control_backlog > CONTROL_BACKLOG_MAX {
                return Err(ConnectionError::new(Code::ENHANCE_YOUR_CALM, "output_backlog"));
            }
        }
    }

    /// Takes one frame, or a piece of payload, from the beginning; 0 where more must come first.
    #[inline]
    fn receive_one(&mut self, input: &[u8]) -> Result<usize, ConnectionError> {
        if let Some(payload) = self.payload.take() {
            return self.receive_payload(payload, input);
        }
        let Some(header) = Header::read(input) else { return Ok(0) };
        if header.len > PAYLOAD_MAX {
            return Err(ConnectionError::new(Code::FRAME_SIZE_ERROR, "frame_too_large"));
        }
        if self.phase == Phase::FirstSettings && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(ConnectionError::protocol("first_frame"));
        }
        if let Some(block) = &self.block
            && (header.kind != kind::CONTINUATION || header.stream != block.stream)
        {
            return Err(ConnectionError::protocol("interrupted_header_block"));
        }
        let rest = &input[HEADER_BYTES..];
        if header.kind == kind::DATA {
            let Some(data) = payload::data(header, rest)? else { return Ok(0) };
            self.payload = Some(self.receive_data(header, data)?);
            return Ok(HEADER_BYTES + data.before);
        }
        let Some(payload) = rest.get(..header.len) else { return Ok(0) };
        self.receive_frame(header, payload)?;
        Ok(HEADER_BYTES + header.len)
    }

    fn receive_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        match header.kind {
            kind::HEADERS => self.receive_headers(header, payload),
            kind::CONTINUATION => self.receive_continuation(header, payload),
            kind::PRIORITY => self.receive_priority(header, payload),
            kind::RST_STREAM => self.receive_reset(header, payload),
            kind::SETTINGS => self.receive_settings(header, payload),
            kind::PING => self.receive_ping(header, payload),
            kind::GOAWAY => self.receive_goaway(header, payload),
            kind::WINDOW_UPDATE => self.receive_window_update(header, payload),
            // We are a server, or have said that we take none.
            kind::PUSH_PROMISE => Err(ConnectionError::protocol("push_promise")),
            _ => self.budget.spend(Work::UnknownFrame, price::UNKNOWN_FRAME),
        }
    }

    /// Checks a DATA frame before its payload is looked at. Padding counts for flow control, and is given back at once.
    fn receive_data(&mut self, header: Header, data: payload::Data) -> Result<Payload, ConnectionError> {
        let id = header.stream;
        if id == 0 {
            return Err(ConnectionError::protocol("frame_stream"));
        }
        if !self.receive_window.receive(header.len) {
            return Err(ConnectionError::new(Code::FLOW_CONTROL_ERROR, "connection_window"));
        }
        let end = header.has(flag::END_STREAM);
        if data.payload > 0 {
            self.budget.received_payload();
        } else if !end {
            self.budget.spend(Work::EmptyFrame, price::EMPTY_FRAME)?;
        }
        let error = match self.streams.get_mut(id) {
            Some(stream) if stream.reset_by_peer => {
                return Err(ConnectionError::new(Code::STREAM_CLOSED, "data_on_closed_stream"));
            }
            Some(stream) => stream.check_data(header.len, data.payload, self.role == Role::Client),
            None => self.check_closed_data(id)?,
        };
        let mut dropped = error.is_some();
        match error {
            Some(Some((code, reason))) => self.stream_error(id, code, reason)?,
            Some(None) => self.spend_closed()?,
            None => dropped = self.streams.get(id).is_none_or(|stream| stream.stop_reading),
        }
        let around = header.len - data.payload;
        if around > 0 {
            self.release_window(id, around);
        }
        Ok(Payload { stream: id, left: data.payload, padding: data.padding, end, dropped })
    }

    /// DATA on a stream that is not open is an error or, if it crossed our RST_STREAM, dropped.
    fn check_closed_data(&mut self, id: u32) -> Result<Option<Option<StreamFault>>, ConnectionError> {
        if self.is_idle_stream(id) {
            return Err(ConnectionError::protocol("data_on_idle_stream"));
        }
        if self.streams.gone(id) != Gone::Reset {
            return Err(ConnectionError::new(Code::STREAM_CLOSED, "data_on_closed_stream"));
        }
        Ok(Some(None))
    }

    fn receive_payload(&mut self, mut payload: Payload, input: &[u8]) -> Result<usize, ConnectionError> {
        let here = payload.left.min(input.len());
        if here > 0 {
            self.keep_payload(&payload, &input[..here]);
            payload.left -= here;
        }
        let skipped = if payload.left == 0 { payload.padding.min(input.len() - here) } else { 0 };
        payload.padding -= skipped;
        let taken = here + skipped;
        if payload.left > 0 || payload.padding > 0 {
            self.payload = Some(payload);
            return Ok(taken);
        }
        let is_open = |stream: &Stream| !stream.reset && !stream.remote_ended;
        if payload.end && self.streams.get(payload.stream).is_some_and(is_open) {
            self.end_remote(payload.stream)?;
        }
        // A frame without payload took no bytes here, and must not look like one that waits for some.
        if taken == 0 { self.receive_one(input) } else { Ok(taken) }
    }

    fn keep_payload(&mut self, payload: &Payload, bytes: &[u8]) {
        let id = payload.stream;
        match self.streams.get_mut(id) {
            Some(stream) if !payload.dropped && !stream.reset && !stream.stop_reading => {
                // Of an upload more follows at once; of a response so much that its reader has room for.
                let room = if self.role == Role::Server && bytes.len() > Buffer::SMALL { Buffer::LARGE } else { 0 };
                stream.keep(bytes, room);
                if !std::mem::replace(&mut stream.data_announced, true) {
                    self.events.push_back(Event::Data { stream: StreamId(id) });
                }
                self.kept(bytes.len());
            }
            _ => self.release_window(id, bytes.len()),
        }
    }

    /// Priorities are not used (RFC 9113 section 5.3); their frames must still make sense.
    fn receive_priority(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        self.budget.spend(Work::Priority, price::PRIORITY)?;
        if header.stream == 0 {
            return Err(ConnectionError::protocol("frame_stream"));
        }
        let (code, reason) = match control::priority(header, payload) {
            Some(false) => return Ok(()),
            Some(true) => (Code::PROTOCOL_ERROR, "depends_on_itself"),
            None => (Code::FRAME_SIZE_ERROR, "frame_size"),
        };
        match self.streams.get(header.stream).is_some_and(|stream| !stream.reset && !stream.is_complete()) {
            true => self.stream_error(header.stream, code, reason),
            // There is no stream to reset.
            false => Err(ConnectionError::new(code, reason)),
        }
    }

    fn receive_reset(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        let code = control::reset(header, payload)?;
        let id = header.stream;
        let Some(stream) = self.streams.get_mut(id) else {
            if self.is_idle_stream(id) {
                return Err(ConnectionError::protocol("reset_of_idle_stream"));
            }
            return self.spend_closed();
        };
        if stream.reset || stream.is_complete() {
            return self.spend_closed();
        }
        let stream_id = StreamId(id);
        if stream.remote_ended && code == Code::NO_ERROR && self.role == Role::Client {
            // RFC 9113 section 8.1: the response is complete, and our request's rest is not wanted.
            stream.reset = true;
            stream.waiting = false;
            let (stream_units, header_units) = (stream.stream_units, stream.header_units);
            self.waiting.retain(|&waiting| waiting != id);
            self.budget.pay_back(stream_units, header_units);
            self.events.push_back(Event::Reset { stream: stream_id, code, by_peer: true });
            return Ok(());
        }
        self.budget.spend(Work::PeerReset, price::PEER_RESET)?;
        let (delivered, code) = (stream.delivered, stream.refused(code));
        stream.reset_by_peer = true;
        self.silence(id);
        if delivered {
            self.events.push_back(Event::Reset { stream: stream_id, code, by_peer: true });
        } else {
            self.remove(id);
            self.events.push_back(Event::Rejected { stream: stream_id, code, reason: "reset_by_client" });
        }
        Ok(())
    }

    fn receive_settings(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        let entries = (header.len / 6) as u32;
        if settings::is_ack(header)? {
            if self.settings_sent.take().is_none() {
                return self.budget.spend(Work::Settings, price::SETTINGS);
            }
            let first = first_window(self.role, &self.limits);
            if self.stream_window != first {
                let before = std::mem::replace(&mut self.stream_window, first);
                for stream in self.streams.iter_mut() {
                    stream.receive_window.change(i64::from(first) - i64::from(before));
                }
            }
            return Ok(());
        }
        self.budget.spend(Work::Settings, price::SETTINGS + entries)?;
        let before = self.peer;
        self.peer.apply(payload, self.role == Role::Client)?;
        if self.peer.header_table_size != before.header_table_size || self.phase == Phase::FirstSettings {
            self.encoder.set_max(self.peer.header_table_size);
        }
        let change = i64::from(self.peer.initial_window) - i64::from(before.initial_window);
        if change != 0 {
            for stream in self.streams.iter_mut() {
                stream.send_window += change;
                if stream.send_window > i64::from(WINDOW_MAX) {
                    return Err(ConnectionError::new(Code::FLOW_CONTROL_ERROR, "initial_window_size"));
                }
            }
            self.wake();
        }
        self.write_control(kind::SETTINGS, flag::ACK, 0, &[]);
        if self.phase == Phase::FirstSettings {
            self.phase = Phase::Open;
            self.events.push_back(Event::Settings);
        }
        Ok(())
    }

    fn receive_ping(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        let payload = control::ping(header, payload)?;
        self.budget.spend_answer(Work::Ping, price::PING)?;
        match header.has(flag::ACK) {
            true => self.pong(payload),
            false => self.write_control(kind::PING, flag::ACK, 0, &payload),
        }
        Ok(())
    }

    fn receive_goaway(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        let (last, code) = control::goaway(header, payload)?;
        self.budget.spend(Work::Settings, price::SETTINGS)?;
        if self.peer_goaway.is_some_and(|before| last > before) {
            return Err(ConnectionError::protocol("goaway"));
        }
        self.peer_goaway = Some(last);
        self.events.push_back(Event::GoAway { last, code });
        if self.role == Role::Client {
            let behind = self.streams.iter().filter(|stream| stream.id > last && !stream.reset);
            let refused: Vec<_> = behind.map(|stream| (stream.id, stream.refused(Code::REFUSED_STREAM))).collect();
            for (id, code) in refused {
                self.silence(id);
                self.events.push_back(Event::Reset { stream: StreamId(id), code, by_peer: true });
            }
        }
        Ok(())
    }

    fn receive_window_update(&mut self, header: Header, payload: &[u8]) -> Result<(), ConnectionError> {
        let increment = control::window_update(header, payload)?;
        let units = if increment < SMALL_INCREMENT { price::SMALL_WINDOW_UPDATE } else { price::WINDOW_UPDATE };
        self.budget.spend_answer(Work::WindowUpdate, units)?;
        let id = header.stream;
        if id == 0 {
            self.send_window += i64::from(increment);
            if increment == 0 {
                return Err(ConnectionError::protocol("window_increment"));
            }
            if self.send_window > i64::from(WINDOW_MAX) {
                return Err(ConnectionError::new(Code::FLOW_CONTROL_ERROR, "connection_window"));
            }
            self.wake();
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(id) else {
            return if self.is_idle_stream(id) {
                Err(ConnectionError::protocol("window_update_on_idle_stream"))
            } else {
                Ok(())
            };
        };
        if stream.reset || stream.is_complete() {
            return Ok(());
        }
        stream.send_window += i64::from(increment);
        if increment == 0 {
            return self.stream_error(id, Code::PROTOCOL_ERROR, "window_increment");
        }
        if stream.send_window > i64::from(WINDOW_MAX) {
            return self.stream_error(id, Code::FLOW_CONTROL_ERROR, "stream_window");
        }
        if stream.waiting {
            self.wake();
        }
        Ok(())
    }

    /// For a frame on a stream that is no more.
    pub(super) fn spend_closed(&mut self) -> Result<(), ConnectionError> {
        let units = if self.is_server() { price::CLOSED_STREAM } else { price::CROSSED_RESET };
        self.budget.spend(Work::ClosedStream, units)
    }

    /// Nobody has opened it yet.
    pub(super) fn is_idle_stream(&self, id: u32) -> bool {
        match (id % 2, self.role) {
            (1, Role::Server) => id > self.last_peer_stream,
            (1, Role::Client) => id >= self.next_stream,
            // Nobody pushes.
            _ => true,
        }
    }
}

impl Stream {
    /// `None`: the payload is welcome. Else it is dropped, and the stream reset where there is an error.
    fn check_data(&mut self, frame: usize, payload: usize, is_client: bool) -> Option<Option<StreamFault>> {
        if self.reset || self.remote_ended && self.stop_reading {
            return Some(None);
        }
        if self.remote_ended {
            return Some(Some((Code::STREAM_CLOSED, "data_after_end")));
        }
        if !self.receive_window.receive(frame) {
            return Some(Some((Code::FLOW_CONTROL_ERROR, "stream_window")));
        }
        if is_client && !self.has_head {
            return Some(Some((Code::PROTOCOL_ERROR, "data_before_head")));
        }
        if let Some(left) = &mut self.expected {
            match left.checked_sub(payload as u64) {
                Some(less) => *left = less,
                None if self.stop_reading => {}
                None => return Some(Some((Code::PROTOCOL_ERROR, "content_length_mismatch"))),
            }
        }
        None
    }

    /// In a new buffer with that much room, where the last one is full.
    fn keep(&mut self, bytes: &[u8], room: usize) {
        self.unreleased += bytes.len();
        match self.received.back_mut() {
            Some(last) if last.room() >= bytes.len() + TAILROOM => last.extend(bytes),
            _ => {
                let mut buffer = Buffer::with_room(room.max(bytes.len()));
                buffer.extend(bytes);
                self.received.push_back(buffer);
            }
        }
    }
}
