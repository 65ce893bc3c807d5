//! A response head: `version SP status [SP reason]`, fields, and what follows from them.
//!
//! An upstream is not trusted either: a response that two readers could end at different places lets one client's answer
//! become another's. What has one reading only, though the grammar has no place for it, is read by `lenient`.

use super::{FieldError, FramingError, HeadLimits, check_bytes, fields, framing::Framing, lenient};
use crate::http::{
    bytes,
    head::{BodyLength, ResponseHead, Version},
};

/// What the response answers, as far as its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseTo {
    Other,
    Head,
    /// A WebSocket upgrade was asked for.
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    #[error("the status line is not `HTTP/1.x status reason`")]
    StatusLine,
    #[error("the head is too large")]
    HeadTooLarge,
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error("a status without a body has a body length")]
    LengthWithoutBody,
    #[error("an upgrade that nobody asked for")]
    UnsolicitedUpgrade,
    #[error("a record of TLS, where plain HTTP was to come")]
    Tls,
    #[error("a frame of HTTP/2, where HTTP/1 was to come")]
    Http2,
}

impl ResponseError {
    /// What the gateway answers in place of such a response.
    pub fn status(&self) -> u16 {
        502
    }

    /// A short code for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::StatusLine => "bad_status_line",
            Self::HeadTooLarge => "head_too_large",
            Self::Field(error) => error.reason(),
            Self::Framing(error) => error.reason(),
            Self::LengthWithoutBody => "length_without_body",
            Self::UnsolicitedUpgrade => "unsolicited_upgrade",
            Self::Tls => "upstream_speaks_tls",
            Self::Http2 => "upstream_speaks_http2",
        }
    }
}

/// Reads a response head from the start of `input`; results and `scanned` as in [`super::parse_request`].
pub fn parse_response(
    input: &[u8],
    scanned: &mut usize,
    limits: &HeadLimits,
    request: ResponseTo,
    head: &mut ResponseHead,
) -> Result<Option<usize>, ResponseError> {
    const BEGINNING: &[u8] = b"HTTP/1.";
    let common = input.len().min(BEGINNING.len());
    if input[..common] != BEGINNING[..common] {
        return Err(lenient::other_protocol(input));
    }
    if *scanned == 0
        && let Ok(Some(taken)) = read_whole(input, limits, request, head)
    {
        return Ok(Some(taken));
    }
    let searched = *scanned;
    let Some(end) = lenient::find_end(input, scanned) else {
        if input.len() >= limits.head_bytes_max() {
            return Err(ResponseError::HeadTooLarge);
        }
        lenient::check_beginning(input, searched, limits)?;
        return Ok(None);
    };
    let message = &input[..end];
    if message.len() > limits.head_bytes_max() {
        return Err(ResponseError::HeadTooLarge);
    }
    match read_whole(message, limits, request, head) {
        Ok(Some(taken)) => Ok(Some(taken)),
        // Both end at the first empty line: they cannot differ in that.
        _ => lenient::read(message, limits, request, head).map(|()| Some(end)),
    }
}

/// Reads a head that is all there, in one go. `None`: it is not, or it is too large.
fn read_whole(
    input: &[u8],
    limits: &HeadLimits,
    request: ResponseTo,
    head: &mut ResponseHead,
) -> Result<Option<usize>, ResponseError> {
    head.clear();
    let Some(lf) = bytes::find::<b'\n'>(input) else { return Ok(None) };
    let (line, block) = input.split_at(lf + 1);
    read_status_line(line, STATUS_HUNDREDS_MAX, head)?;
    let Some(block_len) = fields::parse(block, limits.header_count, &mut head.fields)? else { return Ok(None) };
    let len = line.len() + block_len;
    if len > limits.head_bytes_max() {
        return Ok(None);
    }
    check_bytes(&input[..len], 0)?;
    let framing = Framing::of(&head.fields, head.version)?;
    apply_framing(framing, request, head)?;
    Ok(Some(len))
}

/// The first digit of the last status that RFC 9110 knows (section 15).
const STATUS_HUNDREDS_MAX: u8 = b'5';

/// The reason phrase is free text and is dropped; its absence is common, and so is that of the space before it.
pub(super) fn read_status_line(line: &[u8], hundreds_max: u8, head: &mut ResponseHead) -> Result<(), ResponseError> {
    let (version, rest) = line.split_at_checked(b"HTTP/1.1 ".len()).ok_or(ResponseError::StatusLine)?;
    head.version = match version {
        b"HTTP/1.1 " => Version::Http11,
        b"HTTP/1.0 " => Version::Http10,
        _ => return Err(ResponseError::StatusLine),
    };
    let &[hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ' | b'\r', ..] = rest else {
        return Err(ResponseError::StatusLine);
    };
    if hundreds > hundreds_max {
        return Err(ResponseError::StatusLine);
    }
    let digit = |byte: u8| u16::from(byte - b'0');
    head.status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    Ok(())
}

/// RFC 9112 section 6.3. The gateway never sends CONNECT, so its case is not among these.
pub(super) fn apply_framing(
    framing: Framing,
    request: ResponseTo,
    head: &mut ResponseHead,
) -> Result<(), ResponseError> {
    head.content_length = framing.content_length;

    let never_has_body = matches!(head.status, 100..=199 | 204);
    // RFC 9110 section 8.6 and RFC 9112 section 6.1 forbid both here. `Content-Length: 0` is common and harmless.
    if never_has_body && (framing.chunked || framing.content_length.is_some_and(|length| length > 0)) {
        return Err(ResponseError::LengthWithoutBody);
    }
    if head.status == 101 {
        if request != ResponseTo::Upgrade || !framing.websocket {
            return Err(ResponseError::UnsolicitedUpgrade);
        }
        // The connection is a tunnel from here on.
        return Ok(());
    }
    head.body = match framing.content_length {
        _ if never_has_body || head.status == 304 || request == ResponseTo::Head => BodyLength::None,
        _ if framing.chunked => BodyLength::Chunked,
        None => BodyLength::UntilClose,
        Some(0) => BodyLength::None,
        Some(length) => BodyLength::Length(length),
    };
    head.keep_alive = framing.keep_alive && head.body != BodyLength::UntilClose;
    Ok(())
}

#[cfg(test)]
mod tests;
