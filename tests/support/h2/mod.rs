//! HTTP/2 in cases: frames are written as they are said, and what comes is taken apart, acknowledged and kept until asked for.
//!
//! Nothing here is the gateway's own code, nor the `h2` crate's: malformed input must get out as it was written.

pub mod hpack;
pub mod script;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use self::{
    hpack::{Decoder, Field},
    script::{Action, Expected, Outgoing, Payload, Stream, flag, kind},
};
use super::{
    message::{Head, lossy},
    session::Session,
    text::{filler, show},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_BYTES_MAX: usize = 16_384;
const SHOWN_MAX: usize = 200;
const WINDOW: i64 = 65_535;

/// One connection's state; new with each connection.
pub struct Http2 {
    begun: bool,
    manual: bool,
    next: u32,
    last: u32,
    decoder: Decoder,
    /// What came and was not asked for yet, in order.
    inbox: VecDeque<Frame>,
    /// A head whose CONTINUATION is still to come.
    partial: Option<Frame>,
    /// Streams whose head, which was asked for, was all there is.
    ended: HashSet<u32>,
    /// What came of messages of gRPC that nobody has asked for yet.
    messages: HashMap<u32, Vec<u8>>,
    /// What the peer allows to send: on the connection, on each stream, on each new stream.
    connection_window: i64,
    windows: HashMap<u32, i64>,
    initial_window: i64,
}

#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
    /// Of a complete head.
    fields: Vec<Field>,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            begun: false,
            manual: false,
            next: 1,
            last: 0,
            decoder: Decoder::default(),
            inbox: VecDeque::new(),
            partial: None,
            ended: HashSet::new(),
            messages: HashMap::new(),
            connection_window: WINDOW,
            windows: HashMap::new(),
            initial_window: WINDOW,
        }
    }
}

impl Http2 {
    /// Requests, answers or bodies that no command asked for.
    pub fn unasked(&self) -> Option<String> {
        let frame = self.inbox.iter().find(|frame| matches!(frame.kind, kind::HEADERS | kind::DATA))?;
        Some(format!("more frames came than were expected: {}", frame.shown()))
    }

    pub fn is_begun(&self) -> bool {
        self.begun
    }

    fn stream(&mut self, stream: Stream) -> u32 {
        match stream {
            Stream::Is(id) => id,
            Stream::Last => self.last,
            Stream::Next => {
                self.next += 2;
                self.next - 2
            }
        }
    }
}

impl Frame {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    }

    fn value(&self, name: &str) -> String {
        self.fields.iter().find(|field| field.0 == name.as_bytes()).map_or_else(String::new, |field| lossy(&field.1))
    }

    fn shown(&self) -> String {
        let fields: Vec<String> = self.fields.iter().map(|(n, v)| format!("{}={}", show(n), show(v))).collect();
        let bytes = &self.payload[..self.payload.len().min(SHOWN_MAX)];
        let payload = if fields.is_empty() { show(bytes) } else { fields.join(" ") };
        let Self { kind, flags, stream, .. } = self;
        format!("frame {kind} flags={flags:#x} stream={stream} length={} {payload}", self.payload.len())
    }
}

impl Session {
    pub fn play_h2(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Serve(_) if self.h2.begun => Ok(()),
            Action::Serve(settings) => {
                self.raw(PREFACE)?;
                self.h2.begun = true;
                self.frame(kind::SETTINGS, 0, 0, settings)
            }
            Action::Begin(settings) => self.begin(settings),
            Action::Manual => {
                self.h2.manual = true;
                Ok(())
            }
            Action::Send(outgoing) => {
                if !self.h2.begun {
                    self.begin(&[])?;
                }
                self.send_h2(outgoing)
            }
            Action::Expect(Expected::Refused, stream) => self.refused(*stream),
            Action::Expect(expected, stream) => self.expect_h2(expected, *stream),
            Action::Body(check, stream) => {
                let stream = self.h2.stream(*stream);
                let seen = self.body_h2(stream)?;
                self.compare_body(check, &seen)
            }
            Action::Message(check, stream) => {
                let stream = self.h2.stream(*stream);
                let seen = self.message_h2(stream)?;
                self.compare_body(check, &seen)
            }
        }
    }

    fn begin(&mut self, settings: &[u8]) -> Result<(), String> {
        self.h2.begun = true;
        self.write(PREFACE)?;
        self.frame(kind::SETTINGS, 0, 0, settings)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), String> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        let fields = Vec::new();
        self.note(format!("> {}", Frame { kind, flags, stream, payload: payload.to_vec(), fields }.shown()));
        self.write(&bytes)
    }

    fn send_h2(&mut self, outgoing: &Outgoing) -> Result<(), String> {
        let Outgoing { kind, flags, .. } = *outgoing;
        let stream = self.h2.stream(outgoing.stream);
        if kind == kind::HEADERS {
            self.h2.last = stream;
        }
        let payload = match &outgoing.payload {
            Payload::Bytes(bytes) => bytes.clone(),
            Payload::Fields(fields) => hpack::encode(fields),
            Payload::Fill(count) => return self.fill_h2(stream, flags, *count),
        };
        if kind == kind::DATA {
            self.spend(stream, payload.len() as i64);
        }
        self.frame(kind, flags, stream, &payload)
    }

    fn spend(&mut self, stream: u32, bytes: i64) {
        let initial = self.h2.initial_window;
        self.h2.connection_window -= bytes;
        *self.h2.windows.entry(stream).or_insert(initial) -= bytes;
    }

    /// Sends filler as the peer's windows allow, and waits where they do not.
    fn fill_h2(&mut self, stream: u32, flags: u8, count: u64) -> Result<(), String> {
        let mut sent = 0;
        while sent < count {
            let initial = self.h2.initial_window;
            let window = (*self.h2.windows.entry(stream).or_insert(initial)).min(self.h2.connection_window);
            if window <= 0 {
                let deadline = Instant::now() + self.limit;
                self.receive(deadline).map_err(|why| format!("{sent} of {count} bytes were taken: {why}"))?;
                continue;
            }
            let len = (count - sent).min(window as u64).min(FRAME_BYTES_MAX as u64);
            let flags = if sent + len == count { flags } else { 0 };
            self.spend(stream, len as i64);
            self.frame(kind::DATA, flags, stream, &filler(sent, len as usize))?;
            sent += len;
        }
        Ok(())
    }

    /// Reads until there is one more frame in the inbox, or some state has changed.
    fn receive(&mut self, deadline: Instant) -> Result<(), String> {
        loop {
            if let Some(header) = self.buffer.first_chunk::<9>() {
                let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
                let (kind, flags) = (header[3], header[4]);
                let stream = u32::from_be_bytes([header[5] & 127, header[6], header[7], header[8]]);
                if self.buffer.len() >= 9 + len {
                    let payload = self.buffer[9..9 + len].to_vec();
                    self.buffer.drain(..9 + len);
                    return self.came(Frame { kind, flags, stream, payload, fields: Vec::new() });
                }
            }
            if let Some(end) = self.read(deadline) {
                return Err(format!("no more frames: {end:?}"));
            }
        }
    }

    fn came(&mut self, mut frame: Frame) -> Result<(), String> {
        if frame.kind == kind::CONTINUATION {
            let mut head = self.h2.partial.take().ok_or("a CONTINUATION without its HEADERS")?;
            head.payload.extend(&frame.payload);
            head.flags |= frame.flags & flag::END_HEADERS;
            frame = head;
        } else if self.h2.partial.is_some() {
            return Err(format!("within a head: {}", frame.shown()));
        }
        match frame.kind {
            kind::HEADERS if !frame.has(flag::END_HEADERS) => {
                self.h2.partial = Some(frame);
                return Ok(());
            }
            kind::HEADERS => {
                let skipped = if frame.has(flag::PRIORITY) { 5 } else { 0 };
                if frame.has(flag::PADDED) {
                    return Err("a padded head: no sender has a reason to".into());
                }
                frame.fields = self.h2.decoder.decode(frame.payload.get(skipped..).unwrap_or_default())?;
            }
            kind::DATA if !self.h2.manual && !frame.payload.is_empty() => {
                let more = (frame.payload.len() as u32).to_be_bytes();
                self.frame(kind::WINDOW_UPDATE, 0, 0, &more)?;
                if !frame.has(flag::END_STREAM) {
                    self.frame(kind::WINDOW_UPDATE, 0, frame.stream, &more)?;
                }
            }
            kind::SETTINGS if !frame.has(flag::ACK) => {
                for setting in frame.payload.chunks_exact(6).filter(|setting| setting[..2] == [0, 4]) {
                    let initial = i64::from(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]));
                    let change = initial - self.h2.initial_window;
                    self.h2.windows.values_mut().for_each(|window| *window += change);
                    self.h2.initial_window = initial;
                }
                if !self.h2.manual {
                    self.frame(kind::SETTINGS, flag::ACK, 0, &[])?;
                }
            }
            kind::PING if !frame.has(flag::ACK) && !self.h2.manual => {
                self.frame(kind::PING, flag::ACK, 0, &frame.payload)?;
            }
            kind::WINDOW_UPDATE if frame.stream == 0 => self.h2.connection_window += i64::from(frame.number(0)),
            kind::WINDOW_UPDATE => {
                let initial = self.h2.initial_window;
                *self.h2.windows.entry(frame.stream).or_insert(initial) += i64::from(frame.number(0));
            }
            _ => {}
        }
        self.note(format!("  {}", frame.shown()));
        self.h2.inbox.push_back(frame);
        Ok(())
    }

    /// The first frame that is asked for; what came before it stays for others to ask.
    fn first(&mut self, asked: impl Fn(&Frame) -> bool, ends: impl Fn(&Frame) -> bool) -> Result<Frame, String> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(at) = self.h2.inbox.iter().position(&asked) {
                let frame = self.h2.inbox.remove(at).expect("it is there");
                if frame.kind == kind::HEADERS && frame.has(flag::END_STREAM) {
                    self.h2.ended.insert(frame.stream);
                }
                return Ok(frame);
            }
            if let Some(end) = self.h2.inbox.iter().find(|frame| ends(frame)) {
                return Err(format!("seen instead: {}", end.shown()));
            }
            self.receive(deadline)?;
        }
    }

    fn expect_h2(&mut self, expected: &Expected, stream: Stream) -> Result<(), String> {
        let is_request = matches!(expected, Expected::Request { .. });
        let stream = if is_request { 0 } else { self.h2.stream(stream) };
        let gone = move |frame: &Frame| {
            frame.kind == kind::GOAWAY && frame.number(4) != 0
                || frame.kind == kind::RST_STREAM && frame.stream == stream && stream != 0
        };
        let here = move |kind: u8| move |frame: &Frame| frame.kind == kind && frame.stream == stream;
        let never = |_: &Frame| false;
        match expected {
            Expected::Status(status) => {
                let head = self.first(here(kind::HEADERS), gone)?;
                let seen = head.value(":status");
                self.head = Head { start: format!("HTTP/2 {seen}"), fields: named(&head.fields) };
                if seen == *status { Ok(()) } else { Err(format!("expected status {status}, seen {}", head.shown())) }
            }
            Expected::Request { method, path } => {
                let head = self.first(|frame| frame.kind == kind::HEADERS, gone)?;
                self.h2.last = head.stream;
                self.head = Head { start: "HTTP/2".into(), fields: named(&head.fields) };
                let fits = head.value(":method") == *method && head.value(":path") == *path;
                if fits { Ok(()) } else { Err(format!("expected {method} {path}, seen {}", head.shown())) }
            }
            Expected::Trailers => {
                let trailers = self.first(here(kind::HEADERS), gone)?;
                self.trailers = named(&trailers.fields);
                let ends = trailers.has(flag::END_STREAM);
                if ends { Ok(()) } else { Err(format!("no trailers: {}", trailers.shown())) }
            }
            Expected::Reset(code) => {
                self.first(here(kind::RST_STREAM), never).and_then(|frame| is_code(&frame, 0, *code))
            }
            Expected::Cut => {
                self.first(here(kind::RST_STREAM), never)?;
                self.h2.inbox.retain(|frame| frame.stream != stream);
                Ok(())
            }
            Expected::GoAway(code) => {
                let frame = self.first(|frame| frame.kind == kind::GOAWAY, never)?;
                is_code(&frame, 4, *code)
            }
            Expected::Settings => {
                self.first(|frame| frame.kind == kind::SETTINGS && !frame.has(flag::ACK), gone).map(drop)
            }
            Expected::SettingsAck => {
                self.first(|frame| frame.kind == kind::SETTINGS && frame.has(flag::ACK), gone).map(drop)
            }
            Expected::Ping(payload) => {
                let is_it = |frame: &Frame| frame.kind == kind::PING && frame.payload == *payload;
                self.first(is_it, gone).map(drop)
            }
            Expected::Window => self.first(here(kind::WINDOW_UPDATE), gone).map(drop),
            Expected::Refused => unreachable!("has a function of its own"),
        }
    }

    /// A reset of the stream, a GOAWAY with an error, a 4xx, or the end of the connection. What is served is no refusal.
    fn refused(&mut self, stream: Stream) -> Result<(), String> {
        let stream = self.h2.stream(stream);
        let refusal = |frame: &Frame| match frame.kind {
            kind::RST_STREAM => frame.stream == stream,
            kind::GOAWAY => frame.number(4) != 0,
            kind::HEADERS => frame.stream == stream && frame.value(":status").starts_with('4'),
            _ => false,
        };
        let served = |frame: &Frame| frame.kind == kind::HEADERS && frame.stream == stream;
        match self.first(refusal, served) {
            Err(why) if why.starts_with("no more frames") && !why.ends_with("Late") => Ok(()),
            done => done.map(drop),
        }
    }

    /// The rest of a stream; trailers end it too.
    fn body_h2(&mut self, stream: u32) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        if self.h2.ended.contains(&stream) {
            return Ok(body);
        }
        loop {
            let part = |frame: &Frame| frame.stream == stream && matches!(frame.kind, kind::DATA | kind::HEADERS);
            let gone = |frame: &Frame| frame.kind == kind::RST_STREAM && frame.stream == stream;
            let frame = self.first(part, gone).map_err(|why| format!("after {} bytes of body: {why}", body.len()))?;
            match frame.kind {
                kind::DATA => body.extend(&frame.payload),
                _ => self.trailers = named(&frame.fields),
            }
            if frame.has(flag::END_STREAM) {
                return Ok(body);
            }
        }
    }

    /// A stream's next message of gRPC, without its prefix.
    fn message_h2(&mut self, stream: u32) -> Result<Vec<u8>, String> {
        loop {
            let come = self.h2.messages.entry(stream).or_default();
            if let Some([0, length @ ..]) = come.first_chunk::<5>() {
                let end = 5 + u32::from_be_bytes(*length) as usize;
                if come.len() >= end {
                    return Ok(come.drain(..end).skip(5).collect());
                }
            }
            let part = |frame: &Frame| frame.stream == stream && frame.kind == kind::DATA;
            let gone = |frame: &Frame| frame.kind == kind::RST_STREAM && frame.stream == stream;
            let frame = self.first(part, gone)?;
            if frame.has(flag::END_STREAM) {
                return Err("the stream has ended, without another message".into());
            }
            self.h2.messages.entry(stream).or_default().extend(frame.payload);
        }
    }

    /// At the end of a case: what is left must be housekeeping.
    pub fn finish_h2(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.limit;
        while self.receive(deadline).is_ok() {}
        self.h2.unasked().map_or(Ok(()), Err)
    }
}

fn named(fields: &[Field]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (lossy(name), value.clone())).collect()
}

fn is_code(frame: &Frame, at: usize, code: u32) -> Result<(), String> {
    if frame.number(at) == code {
        Ok(())
    } else {
        Err(format!("expected the error code {code}, seen {}", frame.shown()))
    }
}
