//! A head or trailers, while they are decoded: RFC 9113 section 8 and the grammar of our HTTP/1 parser.
//!
//! What is decoded here may leave as HTTP/1 text, so nothing passes that could end a line, a field or a message there.
//! The first thing that is wrong is remembered and the block is decoded on, keeping nothing, for the sake of HPACK.

use crate::http::{
    authority::Authority,
    bytes,
    h1::body::{changes_framing, may_be_trailer},
    head::{BodyLength, Fields, Known, RequestHead, ResponseHead, Version},
    quirks::{Quirk, Quirks},
    target::check_path,
};

use super::{
    hpack::{Decoded, ENTRY_OVERHEAD, Kind, Pseudo},
    limits::Limits,
};

/// As in HTTP/1.
const METHOD_BYTES_MAX: usize = 32;
/// A block is decoded so many times the size of a legal head before the connection ends.
pub const FLOOD_FACTOR: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Request,
    Response,
    Trailers,
    /// Belongs to no stream: only HPACK must see it.
    Nothing,
}

/// Why a head is not what its stream could go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A stream error (RFC 9113 section 8.1.1).
    Malformed(&'static str),
    /// Can be answered.
    Refuse(u16, &'static str),
    /// No memory is left for it; the peer may try again.
    NoMemory,
}

impl Verdict {
    /// What a request is told: one that is malformed is answered as in HTTP/1.
    pub fn answered(self) -> Self {
        match self {
            Self::Malformed(reason) => Self::Refuse(400, reason),
            verdict => verdict,
        }
    }
}

/// One is filled for each block. Its memory goes round: to the owner of the connection, and back from it.
#[derive(Debug, Default)]
pub struct Incoming {
    pub form: Form,
    pub request: RequestHead,
    pub status: u16,
    pub content_length: Option<u64>,
    quirks: Quirks,
    pub verdict: Option<Verdict>,
    /// Bytes of the fields, with their overhead, kept or not.
    pub size: usize,
    count: usize,
    cookies: u32,
    hosts: u32,
    is_https: bool,
    /// One bit for each pseudo-field.
    seen: u8,
    past_pseudo: bool,
    protocol_is_websocket: bool,
}

impl Incoming {
    pub fn begin(&mut self, form: Form) {
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        *self = Self { form, request, ..Self::default() };
    }

    /// Takes the field that was decoded behind `start` of the writer. `keep` asks for memory, and may say no.
    #[inline]
    pub fn add(&mut self, start: usize, field: Decoded, limits: &Limits, keep: impl FnOnce(usize) -> bool) {
        let size = field.name_len + field.value_len + ENTRY_OVERHEAD;
        self.size += size;
        if let Some(malformed) = self.check(start, &field) {
            self.malformed(malformed);
        }
        let bytes_max = if self.form == Form::Trailers { limits.trailer_bytes } else { limits.head_bytes };
        if self.verdict.is_none() {
            if self.size > bytes_max {
                self.verdict = Some(Verdict::Refuse(431, "head_too_large"));
            } else if self.count == limits.header_count && !matches!(field.kind, Kind::Pseudo(_)) {
                self.verdict = Some(Verdict::Refuse(431, "too_many_fields"));
            } else if self.form != Form::Nothing && !keep(size) {
                self.verdict = Some(Verdict::NoMemory);
            }
        }
        match field.kind {
            _ if self.verdict.is_some() || self.form == Form::Nothing => {
                self.request.fields.writer().truncate(start);
            }
            Kind::Field(known) => self.push(start, &field, known),
            Kind::Cookie => {
                self.cookies += 1;
                self.push(start, &field, Known::Other);
            }
            Kind::Pseudo(pseudo) => self.pseudo(pseudo, start, field.name_len),
            Kind::Lookalike => {
                self.quirks.add(Quirk::FramingLookalike);
                self.request.fields.writer().truncate(start);
            }
            Kind::ConnectionSpecific | Kind::BadName => {}
        }
    }

    fn push(&mut self, start: usize, field: &Decoded, known: Known) {
        self.past_pseudo = true;
        self.count += 1;
        self.request.fields.push_written(start, field.name_len, field.value_len, known);
    }

    fn malformed(&mut self, reason: &'static str) {
        if !matches!(self.verdict, Some(Verdict::Malformed(_))) {
            self.verdict = Some(Verdict::Malformed(reason));
        }
    }

    /// What is wrong with the field in itself, or here.
    #[inline]
    fn check(&mut self, start: usize, field: &Decoded) -> Option<&'static str> {
        if !field.value_is_legal {
            return Some("bad_field_value");
        }
        match field.kind {
            Kind::Field(Known::Other) | Kind::Cookie => None,
            Kind::Field(known) => {
                let value = start + field.name_len..start + field.name_len + field.value_len;
                self.check_known(known, value)
            }
            Kind::Pseudo(pseudo) => {
                let bit = 1 << pseudo as u8;
                let belongs = match self.form {
                    Form::Request => pseudo != Pseudo::Status,
                    Form::Response => pseudo == Pseudo::Status,
                    Form::Trailers => false,
                    Form::Nothing => true,
                };
                let is_wrong = !belongs || self.past_pseudo || self.seen & bit != 0;
                self.seen |= bit;
                is_wrong.then_some("bad_pseudo_field")
            }
            Kind::ConnectionSpecific => Some("connection_specific_field"),
            // Nobody reads a response's fields as CGI does: there it is left out.
            Kind::Lookalike => (self.form != Form::Response).then_some("framing_lookalike"),
            Kind::BadName => Some("bad_field_name"),
        }
    }

    fn check_known(&mut self, known: Known, value: std::ops::Range<usize>) -> Option<&'static str> {
        let value = &self.request.fields.writer()[value];
        match known {
            Known::Te if !value.eq_ignore_ascii_case(b"trailers") => Some("bad_te"),
            Known::ContentLength => {
                if self.content_length.is_some() {
                    return Some("several_content_lengths");
                }
                self.content_length = bytes::decimal(value);
                self.content_length.is_none().then_some("bad_content_length")
            }
            Known::Host => {
                self.hosts += 1;
                (self.hosts > 1).then_some("several_hosts")
            }
            _ => None,
        }
    }

    /// Moves a pseudo-field's value out of the fields' bytes to its place.
    fn pseudo(&mut self, pseudo: Pseudo, start: usize, name_len: usize) {
        let request = &mut self.request;
        let written = request.fields.writer();
        let value = &written[start + name_len..];
        match pseudo {
            Pseudo::Method => request.method.extend_from_slice(value),
            Pseudo::Authority => request.authority.extend_from_slice(value),
            // With its query, until the head is complete.
            Pseudo::Path => request.path.extend_from_slice(value),
            Pseudo::Scheme => {
                self.is_https = value.eq_ignore_ascii_case(b"https");
                if !self.is_https && !value.eq_ignore_ascii_case(b"http") {
                    self.verdict = Some(Verdict::Malformed("bad_scheme"));
                }
            }
            Pseudo::Protocol => self.protocol_is_websocket = value.eq_ignore_ascii_case(b"websocket"),
            Pseudo::Status => match *value {
                [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
                    let digit = |byte: u8| u16::from(byte - b'0');
                    self.status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
                    if self.status > 599 {
                        self.quirks.add(Quirk::StatusAbove599);
                    }
                }
                _ => self.verdict = Some(Verdict::Malformed("bad_status")),
            },
        }
        request.fields.writer().truncate(start);
    }

    fn has(&self, pseudo: Pseudo) -> bool {
        self.seen & 1 << pseudo as u8 != 0
    }

    /// The block is complete. `end`: so is the message. `extended_connect`: we have announced it.
    pub fn finish(&mut self, end: bool, extended_connect: bool) {
        if self.verdict.is_none() {
            self.verdict = self.finish_form(end, extended_connect).err();
        }
        if self.verdict.is_some() && self.form == Form::Request {
            self.salvage();
        }
    }

    fn finish_form(&mut self, end: bool, extended_connect: bool) -> Result<(), Verdict> {
        if self.cookies > 1 {
            // RFC 9113 section 8.2.3: HTTP/1 knows one.
            self.request.fields.join(b"cookie", b"; ");
        }
        match self.form {
            Form::Request => self.finish_request(end, extended_connect),
            Form::Response => self.finish_response(end),
            Form::Trailers => self.finish_trailers(end),
            Form::Nothing => Ok(()),
        }
    }

    /// Of a request that is refused: leaves what the log may say of it.
    #[cold]
    fn salvage(&mut self) {
        let request = &mut self.request;
        request.version = Version::Http2;
        request.keep_alive = true;
        request.websocket = false;
        if !is_method(&request.method) {
            request.method.clear();
        }
        if Authority::parse(&request.authority).is_none() {
            request.authority.clear();
        }
        if split_target(request).is_err() {
            request.path.clear();
            request.query.clear();
        }
    }

    fn finish_request(&mut self, end: bool, extended_connect: bool) -> Result<(), Verdict> {
        use Verdict::Malformed;
        let request = &mut self.request;
        request.version = Version::Http2;
        request.keep_alive = true;
        let has = |pseudo: Pseudo| self.seen & 1 << pseudo as u8 != 0;
        let method = &request.method[..];
        if !is_method(method) {
            return Err(Malformed("bad_method"));
        }
        let is_connect = method == b"CONNECT";
        let is_extended = has(Pseudo::Protocol);
        if is_extended && !(is_connect && extended_connect) {
            return Err(Malformed("bad_pseudo_field"));
        }
        let is_tunnel = is_connect && !is_extended;
        if has(Pseudo::Scheme) == is_tunnel || has(Pseudo::Path) == is_tunnel {
            return Err(Malformed("bad_pseudo_field"));
        }
        read_authority(request, is_tunnel, self.is_https, has(Pseudo::Authority))?;
        if !is_tunnel {
            split_target(request)?;
        }
        if is_connect {
            if self.content_length.is_some() || end && is_extended {
                return Err(Malformed("bad_content_length"));
            }
            if is_extended && !self.protocol_is_websocket {
                return Err(Verdict::Refuse(501, "unknown_protocol"));
            }
            if is_extended {
                request.method.clear();
                request.method.extend_from_slice(b"GET");
                request.websocket = true;
            }
            return Ok(());
        }
        request.body = body_length(end, self.content_length);
        request.content_length = self.content_length;
        if end && self.content_length.is_some_and(|length| length > 0) {
            return Err(Malformed("content_length_mismatch"));
        }
        let mut expectations = request.fields.known_values(Known::Expect);
        let expects = expectations.next();
        let known = expects.is_none_or(|value| value.eq_ignore_ascii_case(b"100-continue"));
        if !known || expectations.next().is_some() {
            return Err(Verdict::Refuse(417, "unknown_expectation"));
        }
        request.expects_continue = expects.is_some() && !end && self.content_length != Some(0);
        Ok(())
    }

    fn finish_response(&mut self, end: bool) -> Result<(), Verdict> {
        let interim = matches!(self.status, 100..=199);
        // 101 has no meaning here (RFC 9113 section 8.6), and an interim response ends nothing.
        if !self.has(Pseudo::Status) || self.status == 101 || interim && end {
            return Err(Verdict::Malformed("bad_status"));
        }
        if (interim || self.status == 204) && self.content_length.is_some_and(|length| length > 0) {
            return Err(Verdict::Malformed("length_without_body"));
        }
        Ok(())
    }

    fn finish_trailers(&mut self, end: bool) -> Result<(), Verdict> {
        if !end {
            return Err(Verdict::Malformed("trailers_without_end"));
        }
        if self.request.fields.iter().any(|trailer| changes_framing(&trailer)) {
            return Err(Verdict::Malformed("framing_trailer"));
        }
        self.request.fields.retain(|trailer| may_be_trailer(&trailer));
        Ok(())
    }

    /// `has_body` is false for an answer to HEAD, 204 and 304, whatever its fields say.
    pub fn take_response(&mut self, into: &mut ResponseHead, end: bool, has_body: bool) {
        into.clear();
        std::mem::swap(&mut into.fields, &mut self.request.fields);
        into.status = self.status;
        into.version = Version::Http2;
        into.content_length = self.content_length;
        into.quirks = self.quirks;
        into.body = if has_body { body_length(end, self.content_length) } else { BodyLength::None };
        into.keep_alive = true;
    }

    pub fn take_trailers(&mut self) -> Fields {
        std::mem::take(&mut self.request.fields)
    }

    /// The memory it holds for the next block.
    pub fn capacity(&self) -> usize {
        self.request.fields.capacity() + self.request.path.capacity() + self.request.query.capacity()
    }
}

fn is_method(method: &[u8]) -> bool {
    !method.is_empty() && method.len() <= METHOD_BYTES_MAX && bytes::all(method, bytes::METHOD)
}

/// A message that says it is empty, and has not ended, may still bring trailers.
fn body_length(end: bool, content_length: Option<u64>) -> BodyLength {
    match content_length {
        _ if end => BodyLength::None,
        Some(length) if length > 0 => BodyLength::Length(length),
        _ => BodyLength::Chunked,
    }
}

/// `:authority` and `Host` say where the request goes; both are legal and agree, and one is there.
fn read_authority(
    request: &mut RequestHead,
    is_tunnel: bool,
    is_https: bool,
    has_authority: bool,
) -> Result<(), Verdict> {
    let host = request.fields.known(Known::Host);
    let named = match host.map(Authority::parse) {
        Some(None) => return Err(Verdict::Malformed("bad_host")),
        Some(Some(named)) => Some(named),
        None => None,
    };
    if !has_authority {
        let host = host.filter(|_| !is_tunnel).ok_or(Verdict::Malformed("missing_host"))?;
        request.authority_is_plain = named.is_some_and(|named| named.is_plain);
        request.authority.extend_from_slice(host);
        return Ok(());
    }
    let target = Authority::parse(&request.authority).ok_or(Verdict::Malformed("bad_authority"))?;
    let default = match is_tunnel {
        true => target.port.ok_or(Verdict::Malformed("bad_authority"))?,
        false if is_https => 443,
        false => 80,
    };
    if named.is_some_and(|named| !target.agrees_with(&named, default)) {
        return Err(Verdict::Malformed("host_mismatch"));
    }
    request.authority_is_plain = target.is_plain;
    Ok(())
}

/// `:path` as it came lies in `path`: its query goes where it belongs.
fn split_target(request: &mut RequestHead) -> Result<(), Verdict> {
    if request.path == b"*" && request.method == b"OPTIONS" {
        return Ok(());
    }
    if let Some(at) = memchr::memchr(b'?', &request.path) {
        request.query.extend_from_slice(&request.path[at..]);
        request.path.truncate(at);
    }
    request.path_is_plain = check_path(&request.path).map_err(|_| Verdict::Malformed("bad_target"))?;
    bytes::all(&request.query, bytes::QUERY).then_some(()).ok_or(Verdict::Malformed("bad_target"))
}
