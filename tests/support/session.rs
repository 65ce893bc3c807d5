//! One connection of a case, client's or upstream's side: plays script commands on it and keeps a transcript.

use std::{
    collections::HashSet,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rustls::ClientConfig;

use super::{
    h2::Http2,
    message::{Chunks, Framing, Head, lossy, values},
    script::{Action, Agreed, BodyCheck, Check, Command, Ending, Start},
    text::{diff, filler, regex, show},
    tls::{Options, Wire},
};

/// What placeholders stand for.
pub type Names = Arc<Vec<(&'static str, String)>>;

/// Replaces `{name}` for the names it knows; other braces stay.
pub fn expand(names: &Names, bytes: &[u8]) -> Vec<u8> {
    if !bytes.contains(&b'{') {
        return bytes.to_vec();
    }
    let mut out = bytes.to_vec();
    for (name, value) in names.iter() {
        let placeholder = format!("{{{name}}}");
        while let Some(at) = super::message::find(&out, placeholder.as_bytes()) {
            out.splice(at..at + placeholder.len(), value.bytes());
        }
    }
    out
}

pub fn expand_text(names: &Names, text: &str) -> String {
    lossy(&expand(names, text.as_bytes()))
}

/// Points that one script reaches and another waits for.
#[derive(Default)]
pub struct Marks {
    reached: Mutex<HashSet<String>>,
    changed: Condvar,
}

impl Marks {
    pub fn reach(&self, name: &str) {
        self.reached.lock().expect("no holder panics").insert(name.to_owned());
        self.changed.notify_all();
    }

    pub fn wait(&self, name: &str, limit: Duration) -> Result<(), String> {
        let reached = self.reached.lock().expect("no holder panics");
        let waited = self.changed.wait_timeout_while(reached, limit, |set| !set.contains(name));
        let (_reached, timeout) = waited.expect("no holder panics");
        if timeout.timed_out() { Err(format!("mark {name} was not reached in {limit:?}")) } else { Ok(()) }
    }
}

/// Why no more bytes came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Fin,
    Rst,
    Late,
}

#[derive(Debug)]
enum Body {
    Unread(Framing),
    Read,
}

pub struct Session {
    pub stream: Option<Wire>,
    /// How this client shakes hands, with the sessions it may take up again.
    resumable: Vec<(String, Arc<ClientConfig>)>,
    /// The connection's HTTP/2, once a script speaks it.
    pub(super) h2: Http2,
    names: Names,
    marks: Arc<Marks>,
    pub(super) buffer: Vec<u8>,
    pub(super) head: Head,
    body: Body,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
    filled: u64,
    pub(super) limit: Duration,
    transcript: Vec<String>,
}

impl Session {
    pub fn new(names: Names, marks: Arc<Marks>, limit: Duration) -> Self {
        Self {
            stream: None,
            h2: Http2::default(),
            resumable: Vec::new(),
            names,
            marks,
            buffer: Vec::new(),
            head: Head::default(),
            body: Body::Read,
            trailers: Vec::new(),
            filled: 0,
            limit,
            transcript: Vec::new(),
        }
    }

    /// Goes on with a new connection.
    pub fn attach(&mut self, stream: TcpStream) {
        // Cases say how bytes are cut into writes; the kernel should not join them.
        stream.set_nodelay(true).ok();
        stream.set_write_timeout(Some(Duration::from_secs(10))).ok();
        self.stream = Some(Wire::Plain(stream));
        self.h2 = Http2::default();
        self.buffer.clear();
        self.body = Body::Read;
        self.filled = 0;
    }

    pub fn transcript(&self) -> String {
        self.transcript.join("\n")
    }

    pub fn note(&mut self, text: String) {
        self.transcript.push(format!("    {text}"));
    }

    /// Plays one command that is about the connection it has; `Connect`, `Accept` and `Repeat` are the caller's.
    pub fn play(&mut self, command: &Command) -> Result<(), String> {
        match &command.action {
            Action::H2(action) => self.play_h2(action),
            Action::Send(bytes) => self.send(bytes),
            Action::SendPieces(size, bytes) => self.send_pieces(*size, bytes),
            Action::SendBeneath(bytes) => self.send_beneath(bytes),
            Action::Drip(pause, bytes) => self.drip(*pause, bytes),
            Action::Fill(count) => self.fill(*count),
            Action::FillTo(total) => self.fill(total - self.filled),
            Action::Stall(most) => self.stall(*most),
            Action::Expect(start) => self.expect(start),
            Action::Header(name, check) => compare("header", name, &self.head.fields, check, &self.names),
            Action::Trailer(name, check) => compare("trailer", name, &self.trailers, check, &self.names),
            Action::Body(check) => self.check_body(check),
            Action::Raw(bytes) => self.raw(bytes),
            Action::Quiet(millis) => self.quiet(Duration::from_millis(*millis)),
            Action::Closed(ending) => self.closed(*ending),
            Action::Ends => self.ends(),
            Action::Close => {
                self.stream = None;
                Ok(())
            }
            Action::Reset => self.reset(),
            Action::Shutdown => {
                self.stream.as_mut().ok_or("not connected")?.finish().map_err(|error| error.to_string())
            }
            Action::Mark(name) => {
                self.marks.reach(name);
                Ok(())
            }
            Action::Wait(name) => self.marks.wait(name, self.limit.max(Duration::from_secs(10))),
            Action::Within(seconds) => {
                self.limit = Duration::from_secs(*seconds);
                Ok(())
            }
            Action::UpdateKeys => self.stream.as_mut().ok_or("not connected")?.update_keys(),
            Action::Connect(_) | Action::Accept | Action::Repeat(..) | Action::Tls(..) => {
                unreachable!("played by client and upstream")
            }
        }
    }

    /// Shakes hands on the connection it has, as a client or as a server.
    pub fn secure(&mut self, options: &Options, agreed: &Agreed, as_client: bool) -> Result<(), String> {
        let wire = self.stream.take().ok_or("not connected")?;
        if wire.is_tls() {
            self.stream = Some(wire);
            return Ok(());
        }
        wire.socket().set_read_timeout(Some(self.limit)).ok();
        let client = if as_client { Some(self.client_config(options)?) } else { None };
        let done = wire.secure(options, client);
        self.note(format!("TLS: {:?}", done.as_ref().map(|(_, facts)| facts)));
        match (done, agreed) {
            (Ok((wire, facts)), Agreed::On(expected)) => {
                self.stream = Some(wire);
                match expected.iter().find(|word| !facts.contains(word)) {
                    Some(missing) => Err(format!("expected {missing}, agreed on {}", facts.join(" "))),
                    None => Ok(()),
                }
            }
            (Ok((_, facts)), Agreed::Fails(_)) => Err(format!("expected no handshake, agreed on {}", facts.join(" "))),
            (Err(why), Agreed::Fails(pattern)) if regex(pattern)?.is_match(&why) => Ok(()),
            (Err(why), _) => Err(format!("the handshake failed: {why}")),
        }
    }

    /// The same for the same options, so that a session may be taken up again.
    fn client_config(&mut self, options: &Options) -> Result<Arc<ClientConfig>, String> {
        let options_text = format!("{options:?}");
        if let Some((_, config)) = self.resumable.iter().find(|(text, _)| *text == options_text) {
            return Ok(Arc::clone(config));
        }
        let config = options.client()?;
        self.resumable.push((options_text, Arc::clone(&config)));
        Ok(config)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let bytes = expand(&self.names, bytes);
        self.note(format!("> {}", show(&bytes)));
        self.write(&bytes)
    }

    /// A peer may answer and go before it has taken everything: whether that was right, the next expectation says.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let stream = self.stream.as_mut().ok_or("not connected")?;
        if let Err(error) = stream.write_all(bytes) {
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                return Err("the peer takes no more bytes".into());
            }
            self.note(format!("  not all was taken: {error}"));
        }
        Ok(())
    }

    fn send_beneath(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.note(format!("> {} (on the socket)", show(bytes)));
        let mut socket = self.stream.as_ref().ok_or("not connected")?.socket();
        socket.write_all(bytes).map_err(|error| error.to_string())
    }

    fn send_pieces(&mut self, size: usize, bytes: &[u8]) -> Result<(), String> {
        let bytes = expand(&self.names, bytes);
        self.note(format!("> {} ({size} at a time)", show(&bytes)));
        bytes.chunks(size.max(1)).try_for_each(|piece| self.write(piece))
    }

    fn drip(&mut self, pause: u64, bytes: &[u8]) -> Result<(), String> {
        self.note(format!("> {} (one byte each {pause} ms)", show(bytes)));
        for byte in bytes {
            self.write(&[*byte])?;
            let before = self.buffer.len();
            // The pause is the wait for an answer: a peer that answers ends the drip.
            let end = self.read(Instant::now() + Duration::from_millis(pause));
            if end != Some(End::Late) || self.buffer.len() > before {
                break;
            }
        }
        Ok(())
    }

    fn fill(&mut self, count: u64) -> Result<(), String> {
        self.note(format!("> {count} bytes of filler"));
        let end = self.filled + count;
        while self.filled < end {
            let piece = filler(self.filled, (end - self.filled).min(65_536) as usize);
            self.write(&piece)?;
            self.filled += piece.len() as u64;
        }
        Ok(())
    }

    fn stall(&mut self, most: u64) -> Result<(), String> {
        let stream = self.stream.as_mut().ok_or("not connected")?;
        stream.socket().set_write_timeout(Some(Duration::from_millis(400))).ok();
        let stuck = loop {
            let piece = filler(self.filled, 65_536);
            match stream.write(&piece) {
                Ok(count) => self.filled += count as u64,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break Ok(()),
                Err(error) => break Err(format!("sending failed: {error}")),
            }
            if self.filled >= most {
                break Err(format!("the peer took {} bytes, though nobody reads them", self.filled));
            }
        };
        stream.socket().set_write_timeout(Some(Duration::from_secs(10))).ok();
        self.note(format!("> filler until nothing more was taken: {} bytes", self.filled));
        stuck
    }

    /// Reads once. `None`: bytes came.
    pub(super) fn read(&mut self, deadline: Instant) -> Option<End> {
        self.read_at_most(usize::MAX, deadline)
    }

    fn read_at_most(&mut self, most: usize, deadline: Instant) -> Option<End> {
        let Some(stream) = self.stream.as_mut() else { return Some(End::Fin) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(End::Late);
        }
        stream.socket().set_read_timeout(Some(left)).ok();
        let mut piece = [0; 65_536];
        let room = most.min(piece.len());
        match stream.read(&mut piece[..room]) {
            Ok(0) => Some(End::Fin),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                let shown = show(&piece[..count]);
                self.note(format!("< {shown}"));
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(End::Late),
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(_) => Some(End::Rst),
        }
    }

    fn expect(&mut self, start: &Start) -> Result<(), String> {
        if !self.next_head()? {
            return Err("the connection ended where a head was expected".into());
        }
        match start {
            Start::AnyRequest => self.body = Body::Unread(self.head.request_framing()),
            Start::Status { status, to_head } => {
                self.body = Body::Unread(self.head.response_framing(*to_head));
                if self.head.status() != Some(*status) {
                    return Err(format!("expected status {status}, seen {:?}", self.head.start));
                }
            }
            Start::Request { method, target } => {
                self.body = Body::Unread(self.head.request_framing());
                let expected = format!("{method} {} HTTP/1.1", expand_text(&self.names, target));
                if self.head.start != expected {
                    return Err(format!("expected{}", diff(expected.as_bytes(), self.head.start.as_bytes())));
                }
            }
        }
        Ok(())
    }

    /// Reads past the unread body and the next head. False: the connection ended cleanly before it.
    fn next_head(&mut self) -> Result<bool, String> {
        self.skip_body()?;
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some((head, len)) = Head::parse(&self.buffer)? {
                self.buffer.drain(..len);
                self.head = head;
                return Ok(true);
            }
            match self.read(deadline) {
                None => {}
                Some(End::Late) => return Err(format!("no head in {:?}; seen {:?}", self.limit, show(&self.buffer))),
                Some(_) if self.buffer.is_empty() => return Ok(false),
                Some(end) => return Err(format!("{end:?} inside a head: {:?}", show(&self.buffer))),
            }
        }
    }

    /// For loops: whether one more request comes on this connection.
    pub fn has_more(&mut self) -> Result<bool, String> {
        self.skip_body()?;
        while self.buffer.is_empty() {
            match self.read(Instant::now() + self.limit) {
                None => {}
                Some(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn skip_body(&mut self) -> Result<(), String> {
        let (_, end) = self.read_body()?;
        end.map_or(Ok(()), |end| Err(format!("the body was cut short: {end:?}")))
    }

    /// The whole body; with the reason if its framing's end never came.
    fn read_body(&mut self) -> Result<(Vec<u8>, Option<End>), String> {
        let Body::Unread(framing) = std::mem::replace(&mut self.body, Body::Read) else {
            return Ok((Vec::new(), None));
        };
        let mut body = Vec::new();
        let mut chunks = Chunks::default();
        self.trailers.clear();
        loop {
            let done = match framing {
                Framing::None => true,
                Framing::Length(length) => {
                    let want = (length - body.len() as u64).min(self.buffer.len() as u64) as usize;
                    body.extend(self.buffer.drain(..want));
                    body.len() as u64 == length
                }
                Framing::Chunked => chunks.take(&mut self.buffer, &mut body)?,
                Framing::UntilClose => {
                    body.append(&mut self.buffer);
                    false
                }
            };
            if done {
                self.trailers = chunks.trailers;
                return Ok((body, None));
            }
            // The limit is for each read: a body as a whole may take longer.
            match self.read(Instant::now() + self.limit) {
                None => {}
                Some(End::Fin) if framing == Framing::UntilClose => return Ok((body, None)),
                Some(End::Late) => return Err(format!("the body stands still after {} bytes", body.len())),
                Some(end) => return Ok((body, Some(end))),
            }
        }
    }

    fn check_body(&mut self, check: &BodyCheck) -> Result<(), String> {
        let (seen, cut) = self.read_body()?;
        if let BodyCheck::Truncated = check {
            return cut.map(|_| ()).ok_or_else(|| format!("a complete body came: {:?}", show(&seen)));
        }
        if let Some(end) = cut {
            return Err(format!("the body was cut short ({end:?}) after {} bytes", seen.len()));
        }
        self.compare_body(check, &seen)
    }

    /// A complete body.
    pub(super) fn compare_body(&self, check: &BodyCheck, seen: &[u8]) -> Result<(), String> {
        let expected = match check {
            BodyCheck::Any => return Ok(()),
            BodyCheck::None => Vec::new(),
            BodyCheck::Is(bytes) => expand(&self.names, bytes),
            BodyCheck::Fill(count) => filler(0, *count as usize),
            BodyCheck::Length(count) if seen.len() as u64 == *count => return Ok(()),
            BodyCheck::Length(count) => return Err(format!("expected a body of {count} bytes, seen {}", seen.len())),
            BodyCheck::Matches(pattern) if regex(pattern)?.is_match(seen) => return Ok(()),
            BodyCheck::Matches(pattern) => return Err(format!("the body does not match {pattern}: {}", show(seen))),
            BodyCheck::Truncated => return Err("a complete body came".into()),
        };
        if expected == seen { Ok(()) } else { Err(format!("the body differs{}", diff(&expected, seen))) }
    }

    pub(super) fn raw(&mut self, expected: &[u8]) -> Result<(), String> {
        let expected = expand(&self.names, expected);
        let deadline = Instant::now() + self.limit;
        while self.buffer.len() < expected.len() && self.buffer[..] == expected[..self.buffer.len()] {
            // What is behind them may be a handshake's, which reads the socket itself.
            if self.read_at_most(expected.len() - self.buffer.len(), deadline).is_some() {
                break;
            }
        }
        let seen = &self.buffer[..self.buffer.len().min(expected.len())];
        if seen != expected {
            return Err(format!("other bytes came{}", diff(&expected, seen)));
        }
        self.buffer.drain(..expected.len());
        // Who reads bytes as they are has taken the body into his own hands.
        self.body = Body::Read;
        Ok(())
    }

    fn quiet(&mut self, span: Duration) -> Result<(), String> {
        if self.buffer.is_empty() {
            match self.read(Instant::now() + span) {
                Some(End::Late) => return Ok(()),
                Some(end) => return Err(format!("the connection ended ({end:?}) where nothing was to happen")),
                None => {}
            }
        }
        Err(format!("bytes came where nothing was to happen: {}", show(&self.buffer)))
    }

    fn closed(&mut self, ending: Ending) -> Result<(), String> {
        self.skip_body()?;
        let end = self.rest(self.limit)?;
        self.stream = None;
        match (ending, end) {
            (_, End::Late) => Err(format!("the peer did not close in {:?}", self.limit)),
            (Ending::Cleanly, End::Rst) => Err("the peer reset the connection instead of closing it".into()),
            (Ending::Abruptly, End::Fin) => {
                Err("the peer closed the connection cleanly instead of resetting it".into())
            }
            _ => Ok(()),
        }
    }

    fn ends(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.limit;
        loop {
            match self.read(deadline) {
                None => self.buffer.clear(),
                Some(End::Late) => return Err(format!("the peer did not close in {:?}", self.limit)),
                Some(_) => break,
            }
        }
        self.stream = None;
        self.buffer.clear();
        self.body = Body::Read;
        Ok(())
    }

    /// Reads to the end of the connection, which must hold no more bytes.
    fn rest(&mut self, limit: Duration) -> Result<End, String> {
        let deadline = Instant::now() + limit;
        let end = loop {
            if !self.buffer.is_empty() {
                return Err(format!("more bytes came than were expected: {}", show(&self.buffer)));
            }
            if let Some(end) = self.read(deadline) {
                break end;
            }
        };
        Ok(end)
    }

    /// After a script: nothing more may have come. Called when the other side is gone.
    pub fn finish(&mut self) -> Result<(), String> {
        if self.stream.is_none() {
            return Ok(());
        }
        if self.h2.is_begun() {
            return self.finish_h2();
        }
        let unread = matches!(self.body, Body::Unread(_));
        if unread && self.read_body()?.1.is_some() {
            return Ok(());
        }
        self.rest(Duration::from_secs(5)).map(|_| ())
    }

    fn reset(&mut self) -> Result<(), String> {
        let stream = self.stream.take().ok_or("not connected")?;
        // With no time to linger, closing sends RST.
        socket2::SockRef::from(stream.socket()).set_linger(Some(Duration::ZERO)).map_err(|error| error.to_string())
    }

    pub fn names(&self) -> &Names {
        &self.names
    }
}

fn compare(what: &str, name: &str, fields: &[(String, Vec<u8>)], check: &Check, names: &Names) -> Result<(), String> {
    let seen = values(fields, name);
    let listed = || seen.iter().map(|value| show(value)).collect::<Vec<_>>();
    let holds = match check {
        Check::Absent => seen.is_empty(),
        Check::Present => !seen.is_empty(),
        Check::Is(expected) => seen == [expand(names, expected)],
        Check::Has(expected) => seen.contains(&expand(names, expected).as_slice()),
        Check::Matches(pattern) => {
            let pattern = regex(pattern)?;
            seen.iter().any(|value| pattern.is_match(*value))
        }
        Check::Count(count) => seen.len() == *count,
    };
    if holds { Ok(()) } else { Err(format!("{what} {name}: expected {check:?}, seen {:?}", listed())) }
}
