//! A request head: `method SP target SP version`, fields, and what follows from them.

use super::{FieldError, FramingError, HeadLimits, check_bytes, fields, find_end, framing::Framing};
use crate::http::{
    authority::Authority,
    bytes,
    head::{BodyLength, Known, RequestHead, Version},
    target::{Scheme, TargetError, check_path},
};

/// Longer than any registered method.
const METHOD_BYTES_MAX: usize = 32;
/// RFC 9112 section 2.2 wants at least one ignored: some clients send it behind a body.
const EMPTY_LINES_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the request line is not `method target version`")]
    RequestLine,
    #[error("the method is not a short upper-case token")]
    Method,
    #[error("the request target does not fit the method, or is none")]
    Target,
    #[error(transparent)]
    Path(#[from] TargetError),
    #[error("the query has a byte that must be escaped")]
    Query,
    #[error("a version other than HTTP/1.0 and HTTP/1.1")]
    UnsupportedVersion,
    #[error("the head is too large")]
    HeadTooLarge,
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error("Host is missing")]
    MissingHost,
    #[error("several Host lines")]
    SeveralHosts,
    #[error("Host is not `host[:port]`")]
    BadHost,
    #[error("Host differs from the request target")]
    HostMismatch,
    #[error("Expect is other than `100-continue`")]
    UnknownExpectation,
}

impl RequestError {
    pub fn status(&self) -> u16 {
        match self {
            Self::HeadTooLarge => 431,
            Self::UnsupportedVersion => 505,
            Self::UnknownExpectation => 417,
            Self::Field(error) => error.status(),
            _ => 400,
        }
    }

    /// A short code for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::RequestLine => "bad_request_line",
            Self::Method => "bad_method",
            Self::Target | Self::Path(_) | Self::Query => "bad_target",
            Self::UnsupportedVersion => "unsupported_version",
            Self::HeadTooLarge => "head_too_large",
            Self::Field(error) => error.reason(),
            Self::Framing(error) => error.reason(),
            Self::MissingHost => "missing_host",
            Self::SeveralHosts => "several_hosts",
            Self::BadHost => "bad_host",
            Self::HostMismatch => "host_mismatch",
            Self::UnknownExpectation => "unknown_expectation",
        }
    }
}

/// Reads a request head from the start of `input`. `None`: more bytes are needed. `Some(n)`: the head took `n` bytes, empty
/// lines before it included. `scheme` is what the connection speaks. The caller keeps `scanned` with the input and sets it to
/// 0 for each message.
///
/// After an error `head` has the method and the path if they could be read; the rest of it means nothing.
pub fn parse_request(
    input: &[u8],
    scanned: &mut usize,
    limits: &HeadLimits,
    scheme: Scheme,
    head: &mut RequestHead,
) -> Result<Option<usize>, RequestError> {
    let Some(start) = skip_empty_lines(input)? else { return Ok(None) };
    // Nearly always the head is whole when its first byte comes, and legal.
    if *scanned == 0
        && let Ok(Some(taken)) = read_whole(&input[start..], limits, scheme, head)
    {
        return Ok(Some(start + taken));
    }
    let searched = *scanned;
    let Some(end) = find_end(input, start, scanned) else {
        return check_beginning(&input[start..], searched.saturating_sub(start), limits, scheme, head).map(|()| None);
    };
    let message = &input[start..end];
    if message.len() > limits.head_bytes_max() {
        return Err(too_large(message, scheme, head));
    }
    // In this order, so that a head with several faults is refused for the one that comes first.
    read_request_line(split_line(message).0, scheme, head)?;
    check_bytes(message, 0)?;
    Ok(read_whole(message, limits, scheme, head)?.map(|taken| start + taken))
}

/// Reads a head that is all there, in one go. `None`: it is not, or it is too large.
fn read_whole(
    input: &[u8],
    limits: &HeadLimits,
    scheme: Scheme,
    head: &mut RequestHead,
) -> Result<Option<usize>, RequestError> {
    let (line, block) = split_line(input);
    let scheme = read_request_line(line, scheme, head)?;
    let Some(block_len) = fields::parse(block, limits.header_count, &mut head.fields)? else { return Ok(None) };
    let len = input.len() - block.len() + block_len;
    if len > limits.head_bytes_max() {
        return Ok(None);
    }
    check_bytes(&input[..len], 0)?;
    read_host(scheme, head)?;
    read_framing(head)?;
    Ok(Some(len))
}

/// Where the head starts; `None` where `input` may still be empty lines only.
fn skip_empty_lines(input: &[u8]) -> Result<Option<usize>, RequestError> {
    let mut start = 0;
    loop {
        match &input[start..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if start < 2 * EMPTY_LINES_MAX => start += 2,
            [b'\r', b'\n', ..] => return Err(RequestError::RequestLine),
            [b'\r', ..] => return Err(FieldError::BareCr.into()),
            _ => return Ok(Some(start)),
        }
    }
}

/// Refuses a head that cannot become a legal one, without waiting for its end. `searched` bytes of it were seen before.
#[cold]
fn check_beginning(
    beginning: &[u8],
    searched: usize,
    limits: &HeadLimits,
    scheme: Scheme,
    head: &mut RequestHead,
) -> Result<(), RequestError> {
    if beginning.len() >= limits.head_bytes_max() {
        return Err(too_large(beginning, scheme, head));
    }
    check_bytes(beginning, searched)?;
    if !bytes::is(beginning[0], bytes::METHOD) {
        return Err(RequestError::RequestLine);
    }
    // The first line, once its end has come. Looking back for a line end stops within the last line: a head that drips
    // in still costs linear time.
    let (seen, new) = beginning.split_at(searched.min(beginning.len()));
    if memchr::memchr(b'\n', new).is_some() && memchr::memrchr(b'\n', seen).is_none() {
        read_request_line(split_line(beginning).0, scheme, head)?;
    }
    Ok(())
}

#[cold]
fn too_large(message: &[u8], scheme: Scheme, head: &mut RequestHead) -> RequestError {
    // For the log only: whatever can be read of the line.
    let _ = read_request_line(split_line(message).0, scheme, head);
    RequestError::HeadTooLarge
}

/// The first line without its CRLF, and what follows.
fn split_line(message: &[u8]) -> (&[u8], &[u8]) {
    let line_len = bytes::find::<b'\n'>(message).map_or(message.len(), |lf| lf + 1);
    let (line, rest) = message.split_at(line_len);
    (line.strip_suffix(b"\r\n").unwrap_or(line), rest)
}

/// Returns the target's scheme: its own, or else the connection's.
fn read_request_line(line: &[u8], scheme: Scheme, head: &mut RequestHead) -> Result<Scheme, RequestError> {
    head.clear();
    let space = bytes::find::<b' '>(line).ok_or(RequestError::RequestLine)?;
    let method = &line[..space];
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !bytes::all(method, bytes::METHOD) {
        return Err(RequestError::Method);
    }
    head.method.extend_from_slice(method);

    let rest = &line[space + 1..];
    let target_len = rest.len().checked_sub(b" HTTP/1.1".len()).ok_or(RequestError::RequestLine)?;
    let (target, version) = rest.split_at(target_len);
    head.version = match version {
        b" HTTP/1.1" => Version::Http11,
        b" HTTP/1.0" => Version::Http10,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(RequestError::UnsupportedVersion);
        }
        _ => return Err(RequestError::RequestLine),
    };
    read_target(target, scheme, head)
}

/// The four forms of RFC 9112 section 3.2, each only where it belongs.
fn read_target(target: &[u8], scheme: Scheme, head: &mut RequestHead) -> Result<Scheme, RequestError> {
    if head.method == b"CONNECT" {
        // A tunnel has no default port (RFC 9110 section 9.3.6).
        if Authority::parse(target).is_none_or(|authority| authority.port.is_none()) {
            return Err(RequestError::Target);
        }
        head.authority.extend_from_slice(target);
        return Ok(scheme);
    }
    if target.first() == Some(&b'/') {
        return read_path_and_query(target, head).map(|()| scheme);
    }
    if target == b"*" && head.method == b"OPTIONS" {
        head.path.push(b'*');
        return Ok(scheme);
    }
    read_absolute(target, scheme, head)
}

/// `https` where the connection has no TLS would claim a security that it has not (RFC 9110 section 7.4). `http` is taken
/// everywhere: it claims nothing.
#[cold]
fn read_absolute(target: &[u8], on: Scheme, head: &mut RequestHead) -> Result<Scheme, RequestError> {
    let behind = |scheme: &[u8]| {
        let (beginning, rest) = target.split_at_checked(scheme.len())?;
        beginning.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (scheme, rest) = match (behind(b"http://"), on) {
        (Some(rest), _) => (Scheme::Http, rest),
        (None, Scheme::Https) => (Scheme::Https, behind(b"https://").ok_or(RequestError::Target)?),
        (None, Scheme::Http) => return Err(RequestError::Target),
    };
    let (authority, rest) = rest.split_at(memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len()));
    if Authority::parse(authority).is_none() {
        return Err(RequestError::Target);
    }
    head.authority.extend_from_slice(authority);
    match rest.first() {
        Some(b'/') => read_path_and_query(rest, head)?,
        // RFC 9112 section 3.2.4: this is how a client asks a proxy for `OPTIONS *`.
        None if head.method == b"OPTIONS" => head.path.push(b'*'),
        _ => {
            head.path.push(b'/');
            head.path_is_plain = true;
            read_query(rest, head)?;
        }
    }
    Ok(scheme)
}

fn read_path_and_query(target: &[u8], head: &mut RequestHead) -> Result<(), RequestError> {
    let (path, query) = target.split_at(bytes::find::<b'?'>(target).unwrap_or(target.len()));
    head.path_is_plain = check_path(path)?;
    head.path.extend_from_slice(path);
    read_query(query, head)
}

fn read_query(query: &[u8], head: &mut RequestHead) -> Result<(), RequestError> {
    if !bytes::all(query, bytes::QUERY) {
        return Err(RequestError::Query);
    }
    head.query.extend_from_slice(query);
    Ok(())
}

/// RFC 9112 section 3.2: exactly one legal `Host` in HTTP/1.1, and the same server as in the target if that names one.
fn read_host(scheme: Scheme, head: &mut RequestHead) -> Result<(), RequestError> {
    let mut hosts = head.fields.known_values(Known::Host);
    let Some(host) = hosts.next() else {
        return if head.version == Version::Http11 { Err(RequestError::MissingHost) } else { Ok(()) };
    };
    if hosts.next().is_some() {
        return Err(RequestError::SeveralHosts);
    }
    let named = Authority::parse(host).ok_or(RequestError::BadHost)?;
    let Some(target) = Authority::parse(&head.authority) else {
        head.authority_is_plain = named.is_plain;
        head.authority.extend_from_slice(host);
        return Ok(());
    };
    // `Host` beside CONNECT may leave the port to the target.
    let default = match target.port {
        Some(port) if head.method == b"CONNECT" => port,
        _ => scheme.default_port(),
    };
    if target.agrees_with(&named, default) { Ok(()) } else { Err(RequestError::HostMismatch) }
}

fn read_framing(head: &mut RequestHead) -> Result<(), RequestError> {
    let framing = Framing::of(&head.fields, head.version)?;
    head.body = match framing.content_length {
        _ if framing.chunked => BodyLength::Chunked,
        None | Some(0) => BodyLength::None,
        Some(length) => BodyLength::Length(length),
    };
    head.content_length = framing.content_length;
    head.keep_alive = framing.keep_alive;
    head.websocket = framing.websocket && head.method == b"GET" && head.body == BodyLength::None;

    // RFC 9110 section 10.1.1: HTTP/1.0 does not know the field.
    if head.version == Version::Http11 {
        let mut expectations = head.fields.known_values(Known::Expect);
        let expects = expectations.next();
        let known = expects.is_none_or(|value| value.eq_ignore_ascii_case(b"100-continue"));
        if !known || expectations.next().is_some() {
            return Err(RequestError::UnknownExpectation);
        }
        head.expects_continue = expects.is_some() && head.body != BodyLength::None;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
