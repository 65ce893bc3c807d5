//! The `h2` commands of scripts, parsed before anything runs. A case says frames; nothing stops it from saying wrong ones.

use super::{
    super::{
        script::{self, BodyCheck, number},
        text::unescape,
    },
    hpack::Field,
};

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

#[derive(Clone, Debug)]
pub enum Action {
    /// The preface and these settings. Without it they are sent, empty, before the first frame.
    Begin(Vec<u8>),
    /// An upstream's beginning: the client's preface is read, settings are sent.
    Serve(Vec<u8>),
    /// From now on settings and pings are not acknowledged, and no window is given back.
    Manual,
    Send(Outgoing),
    Expect(Expected, Stream),
    Body(BodyCheck, Stream),
    /// The next message of a stream of gRPC.
    Message(BodyCheck, Stream),
}

#[derive(Clone, Debug)]
pub struct Outgoing {
    pub kind: u8,
    pub flags: u8,
    pub stream: Stream,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub enum Payload {
    Bytes(Vec<u8>),
    Fields(Vec<Field>),
    /// So many bytes of filler, in as many frames as the windows ask for.
    Fill(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stream {
    Is(u32),
    /// The client's next one, two above the one before.
    Next,
    /// The one of the last request, sent or seen.
    Last,
}

#[derive(Clone, Debug)]
pub enum Expected {
    Status(String),
    Request {
        method: String,
        path: String,
    },
    Trailers,
    Reset(u32),
    /// The stream is reset, for whatever reason.
    Cut,
    GoAway(u32),
    /// A stream error, a connection error or the end of the connection: refused, one way or the other.
    Refused,
    Settings,
    SettingsAck,
    Ping(Vec<u8>),
    Window,
}

/// What a command's words come to.
#[derive(Default)]
struct Words {
    plain: Vec<String>,
    quoted: Vec<u8>,
    fields: Vec<Field>,
    stream: Option<Stream>,
    flags: u8,
    fill: Option<u64>,
}

impl Words {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = Self::default();
        for word in split(text)? {
            if let Some(stream) = word.strip_prefix("stream=") {
                words.stream = Some(match stream {
                    "next" => Stream::Next,
                    "last" => Stream::Last,
                    id => Stream::Is(number(id)? as u32),
                });
            } else if let Some(flags) = word.strip_prefix("flags=") {
                words.flags = number(flags)? as u8;
            } else if let Some(count) = word.strip_prefix("fill=") {
                words.fill = Some(number(count)?);
            } else if let Some((times, text)) = repeated(&word) {
                words.quoted.extend(unescape(text)?.repeat(times));
            } else if word.starts_with('/') {
                words.plain.push(word);
            } else if let Some(at) = word.get(1..).and_then(|rest| rest.find('=')) {
                let (name, value) = (word[..=at].replace('"', ""), word[at + 2..].replace('"', ""));
                words.fields.push((unescape(&name)?, unescape(&value)?));
            } else {
                words.plain.push(word);
            }
        }
        Ok(words)
    }

    /// Takes a plain word, if it is there.
    fn has(&mut self, word: &str) -> bool {
        let before = self.plain.len();
        self.plain.retain(|plain| plain != word);
        self.plain.len() < before
    }

    fn one(&self, what: &str) -> Result<&str, String> {
        match &self.plain[..] {
            [word] => Ok(word),
            other => Err(format!("{other:?}? {what} is expected here")),
        }
    }

    fn send(self, kind: u8, flags: u8, stream: Stream, payload: Payload) -> Result<Action, String> {
        match &self.plain[..] {
            [] => Ok(Action::Send(Outgoing {
                kind,
                flags: flags | self.flags,
                stream: self.stream.unwrap_or(stream),
                payload,
            })),
            other => Err(format!("{other:?}? Nothing of that kind goes here")),
        }
    }
}

/// At spaces outside of quotes.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            ' ' if !quoted => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        word.push(c);
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    if quoted { Err("a string without its closing quote".into()) } else { Ok(words) }
}

/// `"text"` or `N*"text"`.
fn repeated(word: &str) -> Option<(usize, &str)> {
    let (times, text) = match word.split_once('*') {
        Some((times, text)) if text.starts_with('"') => (times.parse().ok()?, text),
        _ => (1, word),
    };
    Some((times, text.strip_prefix('"')?.strip_suffix('"')?))
}

pub fn parse(text: &str) -> Result<Action, String> {
    let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
    if let "body" | "message" | "say" = command {
        let (stream, rest) = match rest.trim().strip_prefix("stream=").and_then(|rest| rest.split_once(' ')) {
            Some((id, rest)) => (Stream::Is(number(id)? as u32), rest),
            None => (Stream::Last, rest.trim()),
        };
        return Ok(match command {
            "body" => Action::Body(script::body(rest)?, stream),
            "message" => Action::Message(script::body(rest)?, stream),
            _ => {
                let (flags, payload) = (0, Payload::Bytes(framed(rest)?));
                Action::Send(Outgoing { kind: kind::DATA, flags, stream, payload })
            }
        });
    }
    let mut words = Words::parse(rest)?;
    match command {
        "begin" => Ok(Action::Begin(settings(&words.fields)?)),
        "serve" => Ok(Action::Serve(settings(&words.fields)?)),
        "manual" => Ok(Action::Manual),
        "headers" | "continuation" => {
            let end = if words.has("end") { flag::END_STREAM } else { 0 };
            let whole = if words.has("open") { 0 } else { flag::END_HEADERS };
            let fields = Payload::Fields(std::mem::take(&mut words.fields));
            let kind = if command == "headers" { kind::HEADERS } else { kind::CONTINUATION };
            words.send(kind, end | whole, Stream::Last, fields)
        }
        "data" => {
            let end = if words.has("end") { flag::END_STREAM } else { 0 };
            let payload = words.fill.map_or_else(|| Payload::Bytes(words.quoted.clone()), Payload::Fill);
            words.send(kind::DATA, end, Stream::Last, payload)
        }
        "rst" => {
            let code = code(words.one("an error code")?)?;
            words.plain.clear();
            words.send(kind::RST_STREAM, 0, Stream::Last, Payload::Bytes(code.to_be_bytes().into()))
        }
        "settings" => {
            let flags = if words.has("ack") { flag::ACK } else { 0 };
            let payload = settings(&words.fields)?;
            words.send(kind::SETTINGS, flags, Stream::Is(0), Payload::Bytes(payload))
        }
        "ping" => {
            let payload = words.quoted.clone();
            words.send(kind::PING, 0, Stream::Is(0), Payload::Bytes(payload))
        }
        "window" => {
            let more = number(words.one("a number of bytes")?)? as u32;
            words.plain.clear();
            words.send(kind::WINDOW_UPDATE, 0, Stream::Is(0), Payload::Bytes(more.to_be_bytes().into()))
        }
        "goaway" => {
            let code = code(words.one("an error code")?)?;
            words.plain.clear();
            let payload = [0u32.to_be_bytes(), code.to_be_bytes()].concat();
            words.send(kind::GOAWAY, 0, Stream::Is(0), Payload::Bytes(payload))
        }
        "frame" => {
            let kind = number(words.one("the number of a frame type")?)? as u8;
            words.plain.clear();
            let payload = words.quoted.clone();
            words.send(kind, 0, Stream::Is(0), Payload::Bytes(payload))
        }
        "expect" => Ok(Action::Expect(expected(&words)?, words.stream.unwrap_or(Stream::Last))),
        method if method.bytes().all(|byte| byte.is_ascii_uppercase()) => request(method, words),
        other => Err(format!("h2 {other}?")),
    }
}

/// A message of gRPC, framed: `1{2="text" 3=4}` is the field 1, a message, with a text and a number.
fn framed(text: &str) -> Result<Vec<u8>, String> {
    let mut rest = text.trim();
    let message = fields(&mut rest)?;
    if !rest.is_empty() {
        return Err(format!("`{rest}`? A field is `N{{...}}`, `N=\"text\"` or `N=5`"));
    }
    Ok([&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat())
}

fn fields(rest: &mut &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0) {
        let (id, behind) = (number(&rest[..end])?, &rest[end..]);
        if let Some(inner) = behind.strip_prefix('{') {
            *rest = inner.trim_start();
            let inner = fields(rest)?;
            *rest = rest.strip_prefix('}').ok_or_else(|| format!("no `}}` in front of `{rest}`"))?;
            field(&mut out, id, &inner);
        } else if let Some(quoted) = behind.strip_prefix("=\"") {
            let end = quoted.find('"').ok_or("a string without its closing quote")?;
            field(&mut out, id, &unescape(&quoted[..end])?);
            *rest = &quoted[end + 1..];
        } else {
            let digits = behind.strip_prefix('=').ok_or_else(|| format!("`{behind}`?"))?;
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            varint(&mut out, id << 3);
            varint(&mut out, number(&digits[..end])?);
            *rest = &digits[end..];
        }
        *rest = rest.trim_start();
    }
    Ok(out)
}

fn field(out: &mut Vec<u8>, id: u64, bytes: &[u8]) {
    varint(out, id << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// `h2 GET /path name=value`: the usual pseudo-headers, less those that are written.
fn request(method: &str, mut words: Words) -> Result<Action, String> {
    let end = if words.has("more") { 0 } else { flag::END_STREAM };
    let path = words.one("a path")?.to_owned();
    words.plain.clear();
    let usual = [(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", &path)];
    let written = std::mem::take(&mut words.fields);
    let missing = usual.iter().filter(|(name, _)| !written.iter().any(|field| field.0 == name.as_bytes()));
    let mut fields: Vec<Field> =
        missing.map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())).collect();
    fields.extend(written);
    words.send(kind::HEADERS, flag::END_HEADERS | end, Stream::Next, Payload::Fields(fields))
}

fn expected(words: &Words) -> Result<Expected, String> {
    let plain: Vec<&str> = words.plain.iter().map(String::as_str).collect();
    Ok(match plain[..] {
        ["trailers"] => Expected::Trailers,
        ["cut"] => Expected::Cut,
        ["rst", name] => Expected::Reset(code(name)?),
        ["goaway", name] => Expected::GoAway(code(name)?),
        ["refused"] => Expected::Refused,
        ["settings"] => Expected::Settings,
        ["settings", "ack"] => Expected::SettingsAck,
        ["ping"] => Expected::Ping(words.quoted.clone()),
        ["window"] => Expected::Window,
        [status] if number(status).is_ok() => Expected::Status(status.to_owned()),
        [method, path] => Expected::Request { method: method.to_owned(), path: path.to_owned() },
        _ => return Err(format!("h2 expect {plain:?}?")),
    })
}

/// RFC 9113 section 6.5.2, or the number itself.
fn settings(fields: &[Field]) -> Result<Vec<u8>, String> {
    const NAMES: [&str; 6] = [
        "header-table-size",
        "enable-push",
        "max-concurrent-streams",
        "initial-window-size",
        "max-frame-size",
        "max-header-list-size",
    ];
    let mut payload = Vec::new();
    for (name, value) in fields {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let id = match NAMES.iter().position(|known| **known == *name) {
            Some(at) => at as u16 + 1,
            None => number(&name)? as u16,
        };
        payload.extend(id.to_be_bytes());
        payload.extend((number(&value)? as u32).to_be_bytes());
    }
    Ok(payload)
}

/// RFC 9113 section 7, or the number itself.
fn code(text: &str) -> Result<u32, String> {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.iter().position(|name| *name == text).map_or_else(|| number(text).map(|code| code as u32), |at| Ok(at as u32))
}
