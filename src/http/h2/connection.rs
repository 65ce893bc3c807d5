//! One connection, of either role: its state, and what its owner takes from it. What comes is read in `receive.rs`, heads
//! in `block.rs`; what goes is written in `send.rs`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    http::head::{Fields, RequestHead, ResponseHead},
    net::Buffer,
};

use super::{
    block::Block,
    budget::Budget,
    error::{Code, ConnectionError},
    event::{Event, StreamId},
    flow::first_window,
    frame::{self, PREFACE, STREAM_MAX, kind, settings},
    hpack::{Decoder, Encoder},
    incoming::Incoming,
    limits::Limits,
    memory::HeaderMemory,
    receive::Payload,
    streams::{Stream, Streams},
    window::ReceiveWindow,
};

/// While so much waits to be sent, payload is not framed and nothing should be read.
pub(super) const OUTPUT_HIGH_WATER: usize = 64 << 10;
/// Answers to control frames that may wait to be sent.
pub(super) const CONTROL_BACKLOG_MAX: usize = 64 << 10;

const LIVENESS_PING: [u8; 8] = *b"liveness";
const SHUTDOWN_PING: [u8; 8] = *b"shutdown";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Preface,
    FirstSettings,
    Open,
}

/// How far we are with closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    No,
    Announced,
    /// New streams above this are refused.
    Final(u32),
}

pub struct Connection {
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) limits: Limits,
    pub(super) memory: HeaderMemory,
    pub(super) budget: Budget,
    pub(super) error: Option<ConnectionError>,
    pub(super) events: VecDeque<Event>,
    pub(super) output: Buffer,
    /// While so much waits in the output, payload is not framed: less than [`OUTPUT_HIGH_WATER`] where the socket takes less.
    pub(super) output_max: usize,
    /// Bytes of control frames in the output.
    pub(super) control_backlog: usize,

    pub(super) streams: Streams,
    /// The highest stream that the peer has opened.
    pub(super) last_peer_stream: u32,
    pub(super) next_stream: u32,
    pub(super) closing: Closing,
    /// The last stream of ours that the peer serves.
    pub(super) peer_goaway: Option<u32>,

    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    /// Header memory held by streams and by the block.
    pub(super) header_memory: usize,
    /// A header block whose CONTINUATION is to come.
    pub(super) block: Option<Box<Block>>,
    /// What was received ends within a frame, or within the preface; and when that was first seen.
    pub(super) is_unfinished: bool,
    pub(super) unfinished_since: Option<Instant>,
    /// A DATA frame whose payload is not complete.
    pub(super) payload: Option<Payload>,

    pub(super) peer: settings::Settings,
    /// Since when our SETTINGS wait for their acknowledgement.
    pub(super) settings_sent: Option<Instant>,
    /// What the peer believes of its streams' windows.
    pub(super) stream_window: u32,
    pub(super) send_window: i64,
    pub(super) receive_window: ReceiveWindow,
    /// Streams that could not send all, the longest waiting first.
    pub(super) waiting: VecDeque<u32>,
}

impl Connection {
    /// Expects a client's preface. SETTINGS are in the output.
    pub fn server(limits: &Limits, memory: &HeaderMemory, now: Instant) -> Self {
        Self::new(Role::Server, limits, memory, now)
    }

    /// The preface and SETTINGS are in the output; requests may be sent at once.
    pub fn client(limits: &Limits, memory: &HeaderMemory, now: Instant) -> Self {
        Self::new(Role::Client, limits, memory, now)
    }

    fn new(role: Role, limits: &Limits, memory: &HeaderMemory, now: Instant) -> Self {
        let mut limits = *limits;
        limits.stream_window = limits.stream_window.min(frame::WINDOW_MAX);
        limits.connection_window = limits.connection_window.min(frame::WINDOW_MAX);
        let mut connection = Self {
            role,
            phase: if role == Role::Server { Phase::Preface } else { Phase::FirstSettings },
            limits,
            memory: memory.clone(),
            budget: Budget::new(limits.work_per_second, now),
            error: None,
            events: VecDeque::new(),
            output: Buffer::none(),
            output_max: OUTPUT_HIGH_WATER,
            control_backlog: 0,
            streams: Streams::default(),
            last_peer_stream: 0,
            next_stream: 1,
            closing: Closing::No,
            peer_goaway: None,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            header_memory: 0,
            block: None,
            is_unfinished: false,
            unfinished_since: None,
            payload: None,
            peer: settings::Settings::INITIAL,
            settings_sent: Some(now),
            // A smaller one holds once the peer has acknowledged it.
            stream_window: first_window(role, &limits).max(settings::Settings::INITIAL.initial_window),
            send_window: i64::from(settings::Settings::INITIAL.initial_window),
            receive_window: ReceiveWindow::new(settings::Settings::INITIAL.initial_window),
            waiting: VecDeque::new(),
        };
        connection.write_settings();
        connection
    }

    fn write_settings(&mut self) {
        let limits = self.limits;
        let mut payload = Vec::with_capacity(24);
        match self.role {
            Role::Client => {
                self.output.extend(PREFACE);
                settings::entry(&mut payload, settings::ENABLE_PUSH, 0);
            }
            Role::Server => {
                settings::entry(&mut payload, settings::MAX_CONCURRENT_STREAMS, limits.concurrent_streams);
                if limits.extended_connect {
                    settings::entry(&mut payload, settings::ENABLE_CONNECT_PROTOCOL, 1);
                }
            }
        }
        settings::entry(&mut payload, settings::INITIAL_WINDOW_SIZE, first_window(self.role, &limits));
        let list_size = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
        settings::entry(&mut payload, settings::MAX_HEADER_LIST_SIZE, list_size);
        self.write_frame(kind::SETTINGS, 0, 0, &payload);
        if let Some(increment) = self.receive_window.grow(limits.connection_window) {
            self.write_frame(kind::WINDOW_UPDATE, 0, 0, &increment.to_be_bytes());
        }
    }

    pub fn is_server(&self) -> bool {
        self.role == Role::Server
    }

    /// False while the peer does not take what it has caused to be sent.
    pub fn may_receive(&self) -> bool {
        self.output.len() < 2 * OUTPUT_HIGH_WATER
    }

    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Request { stream, .. } | Event::Refuse { stream, .. } = event
            && let Some(stream) = self.streams.get_mut(stream.0)
        {
            stream.delivered = true;
        }
        Some(event)
    }

    /// Moves a request's head out; false where there is none to take. The old content of `into` is cleared and its memory
    /// used again. An extended CONNECT for a WebSocket comes as a GET with `websocket` set, and no body.
    pub fn take_request(&mut self, stream: StreamId, into: &mut RequestHead) -> bool {
        let Some((mut incoming, _)) = self.take_head(stream) else { return false };
        into.clear();
        std::mem::swap(into, &mut incoming.request);
        self.memory.reuse(incoming);
        true
    }

    /// Moves the oldest head of the stream's responses out; false where there is none to take.
    pub fn take_response(&mut self, stream: StreamId, into: &mut ResponseHead) -> bool {
        let Some((mut incoming, end)) = self.take_head(stream) else { return false };
        let is_head = self.streams.get(stream.0).is_some_and(|stream| stream.is_head);
        let has_body = !is_head && !matches!(incoming.status, 100..=199 | 204 | 304);
        incoming.take_response(into, end, has_body);
        self.memory.reuse(incoming);
        true
    }

    fn take_head(&mut self, stream: StreamId) -> Option<(Box<Incoming>, bool)> {
        self.streams.get_mut(stream.0)?.heads.pop_front()
    }

    /// Payload that came and was not taken yet, with headroom in front and room for a chunk's end behind.
    pub fn take_data(&mut self, stream: StreamId) -> Option<Buffer> {
        let stream = self.streams.get_mut(stream.0)?;
        let data = stream.received.pop_front();
        stream.data_announced = !stream.received.is_empty();
        data
    }

    pub fn take_trailers(&mut self, stream: StreamId) -> Option<Fields> {
        self.streams.get_mut(stream.0)?.trailers.take().map(|mut incoming| incoming.take_trailers())
    }

    /// The peer has ended its message, all payload of it was taken, and the stream was not reset.
    pub fn is_ended(&self, stream: StreamId) -> bool {
        let ended = |stream: &Stream| stream.remote_ended && stream.received.is_empty();
        self.streams.get(stream.0).is_some_and(ended)
    }

    /// Ends the stream in both directions. No event follows for it.
    pub fn reset(&mut self, stream: StreamId, code: Code) {
        let Some(entry) = self.streams.get(stream.0) else { return };
        if !entry.reset && !entry.is_complete() {
            self.write_reset(stream.0, code);
        }
        self.silence(stream.0);
    }

    /// The answer is, or will be, complete without the rest of the request: what comes of it is dropped, and a
    /// RST_STREAM(NO_ERROR) follows the answer's end (RFC 9113 section 8.1).
    pub fn stop_reading(&mut self, stream: StreamId) {
        let Some(entry) = self.streams.get_mut(stream.0) else { return };
        entry.stop_reading = true;
        entry.trailers = None;
        self.events
            .retain(|event| !matches!(event, Event::Data { stream: of } | Event::End { stream: of } if *of == stream));
        self.drop_payload(stream.0);
        self.finish_if_done(stream.0);
    }

    /// The owner is done with the stream: it stops counting as concurrent. One that is still open is reset.
    pub fn forget(&mut self, stream: StreamId) {
        let Some(entry) = self.streams.get_mut(stream.0) else { return };
        // Both sides have ended it, so the client has its answer; this says what was wrong (RFC 9113 section 8.1.1). One that is
        // still sending is told NO_ERROR: it would take its answer for a failure.
        let is_told = entry.malformed && entry.remote_ended && !entry.reset;
        if self.role == Role::Server && entry.local_ended {
            if entry.expected == Some(0) && !entry.remote_ended && !entry.reset {
                // All that was announced has come, and the empty frame that says so is on its way. Some clients take a
                // reset for a failure, though it says NO_ERROR and their answer is whole (httpx).
                entry.remote_ended = true;
                self.streams.remember_reset(stream.0);
            }
            if is_told {
                self.write_reset(stream.0, Code::PROTOCOL_ERROR);
            }
            self.stop_reading(stream);
        }
        self.reset(stream, Code::CANCEL);
        self.remove(stream.0);
    }

    /// A server says that it is about to close (GOAWAY with the highest stream id) and, with the next call or when a
    /// PING has come back, which stream is the last. A client just says goodbye.
    pub fn shutdown(&mut self) {
        if self.error.is_some() {
            return;
        }
        match (self.closing, self.role) {
            (Closing::No, Role::Server) => {
                self.closing = Closing::Announced;
                self.write_goaway(STREAM_MAX, Code::NO_ERROR);
                self.write_frame(kind::PING, 0, 0, &SHUTDOWN_PING);
            }
            (Closing::No | Closing::Announced, _) => {
                self.closing = Closing::Final(self.last_peer_stream);
                self.write_goaway(self.last_peer_stream, Code::NO_ERROR);
            }
            (Closing::Final(_), _) => {}
        }
    }

    /// Shutting down, or refused by the peer, and no stream is open: send the output and close.
    pub fn is_finished(&self) -> bool {
        let closing = matches!(self.closing, Closing::Final(_)) || self.peer_goaway.is_some();
        self.error.is_some() || closing && self.streams.is_empty()
    }

    /// No stream is open.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.block.is_none()
    }

    /// Streams that were not forgotten.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// A client may send a request now.
    pub fn may_open(&self) -> bool {
        self.refusal().is_none()
    }

    /// The peer has announced extended CONNECT (RFC 8441).
    pub fn peer_takes_extended_connect(&self) -> bool {
        self.peer.extended_connect
    }

    /// Asks for a sign of life; [`Event::Pong`] is it.
    pub fn ping(&mut self) {
        if self.error.is_none() {
            self.write_frame(kind::PING, 0, 0, &LIVENESS_PING);
        }
    }

    pub(super) fn pong(&mut self, payload: [u8; 8]) {
        match payload {
            LIVENESS_PING => self.events.push_back(Event::Pong),
            SHUTDOWN_PING if self.closing == Closing::Announced => self.shutdown(),
            _ => {}
        }
    }

    /// Ends what has waited too long for its peer. To be called once a second or so.
    pub fn on_time(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let is_late = |since: Instant, timeout: Duration| now.saturating_duration_since(since) >= timeout;
        if self.settings_sent.is_some_and(|sent| is_late(sent, self.limits.stall_timeout)) {
            return Err(self.fail(ConnectionError::new(Code::SETTINGS_TIMEOUT, "settings_timeout")));
        }
        if self.phase != Phase::Open && self.settings_sent.is_some_and(|sent| is_late(sent, self.limits.head_timeout)) {
            return Err(self.fail(ConnectionError::new(Code::ENHANCE_YOUR_CALM, "preface_timeout")));
        }
        // Nothing can be said of any stream before the frame's end. While it is us who do not read, that is nobody's fault.
        if !(self.is_unfinished && self.may_receive()) {
            self.unfinished_since = None;
        } else if is_late(*self.unfinished_since.get_or_insert(now), self.limits.head_timeout) {
            return Err(self.fail(ConnectionError::new(Code::ENHANCE_YOUR_CALM, "head_timeout")));
        }
        if let Some(block) = &mut self.block
            && is_late(*block.open_since.get_or_insert(now), self.limits.head_timeout)
        {
            return Err(self.fail(ConnectionError::new(Code::ENHANCE_YOUR_CALM, "head_timeout")));
        }
        let mut at = 0;
        while let Some(&id) = self.waiting.get(at) {
            let stalled = self.streams.get(id).and_then(|stream| stream.stalled);
            if stalled.is_some_and(|(since, _)| is_late(since, self.limits.stall_timeout)) {
                self.write_reset(id, Code::CANCEL);
                self.silence(id);
                self.events.push_back(Event::Reset { stream: StreamId(id), code: Code::CANCEL, by_peer: false });
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// There is something to send.
    pub fn wants_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// What is to be sent now; what is written afterwards goes behind it. Senders that had filled it may go on.
    pub fn take_output(&mut self) -> Buffer {
        self.control_backlog = 0;
        let output = std::mem::take(&mut self.output);
        if !self.waiting.is_empty() {
            self.wake();
        }
        output
    }

    /// Ends the connection: says so to the peer, and from now on the same to the owner.
    #[cold]
    pub(super) fn fail(&mut self, error: ConnectionError) -> ConnectionError {
        self.error = Some(error);
        self.block = None;
        self.payload = None;
        self.waiting.clear();
        self.write_goaway(self.last_peer_stream, error.code);
        error
    }

    /// Nothing more comes of the stream, and nothing of it is kept.
    pub(super) fn silence(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.is_complete() {
            stream.reset = true;
            stream.remote_ended = false;
        }
        if std::mem::take(&mut stream.waiting) {
            self.waiting.retain(|&waiting| waiting != id);
        }
        stream.stalled = None;
        stream.trailers = None;
        let heads = std::mem::take(&mut stream.heads);
        self.drop_payload(id);
        for (head, _) in heads {
            self.memory.reuse(head);
        }
        let is_of = |event: &Event| match *event {
            Event::Request { stream, .. }
            | Event::Refuse { stream, .. }
            | Event::Response { stream, .. }
            | Event::Data { stream }
            | Event::End { stream }
            | Event::Window { stream } => stream.0 == id,
            Event::Rejected { .. } | Event::Reset { .. } | Event::GoAway { .. } | Event::Settings | Event::Pong => {
                false
            }
        };
        self.events.retain(|event| !is_of(event));
    }

    pub(super) fn remove(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(id) else { return };
        self.header_memory -= stream.memory;
        self.memory.give_back(stream.memory);
        for (head, _) in stream.heads {
            self.memory.reuse(head);
        }
        if stream.waiting {
            self.waiting.retain(|&waiting| waiting != id);
        }
    }

    /// Called when either side of a stream has ended.
    pub(super) fn finish_if_done(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !stream.local_ended || stream.reset {
            return;
        }
        if stream.remote_ended || stream.stop_reading {
            let (stream_units, header_units) = (stream.stream_units, stream.header_units);
            (stream.stream_units, stream.header_units) = (0, 0);
            let is_cut_short = !std::mem::replace(&mut stream.remote_ended, true);
            self.budget.pay_back(stream_units, header_units);
            if is_cut_short {
                self.write_reset(id, Code::NO_ERROR);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.memory.give_back(self.header_memory);
    }
}
