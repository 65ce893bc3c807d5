//! Response heads that stray from the grammar, and are read all the same where there is one reading only.
//!
//! Such a head is written anew as the strict reader wants it, and read by that: nothing passes here that would not pass there.
//! Which quirks these are, and what other gateways make of them, stands in docs/decisions/0001-own-head-parser.md.

use super::{
    FieldError, HeadLimits, fields,
    framing::Framing,
    is_control,
    response::{ResponseError, ResponseTo, apply_framing, read_status_line},
};
use crate::http::{
    bytes,
    head::{Fields, Known, ResponseHead, Version},
    quirks::{Quirk, Quirks},
};

/// Any status of three digits.
const STATUS_HUNDREDS_MAX: u8 = b'9';

/// The end of the head: behind the first line that is empty but for its end. `scanned` as in `find_end`.
pub fn find_end(input: &[u8], scanned: &mut usize) -> Option<usize> {
    // The line end in front of the empty line may have been searched already.
    let mut at = scanned.saturating_sub(2).min(input.len());
    *scanned = input.len();
    while let Some(lf) = bytes::find::<b'\n'>(&input[at..]) {
        at += lf + 1;
        match &input[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Reads a head that ends with its empty line, and that the strict reader has refused.
#[cold]
pub fn read(
    message: &[u8],
    limits: &HeadLimits,
    request: ResponseTo,
    head: &mut ResponseHead,
) -> Result<(), ResponseError> {
    check_bytes(message, 0)?;
    let mut quirks = Quirks::default();
    let normal = normalise(message, limits.header_count, &mut quirks)?;
    head.clear();
    let line_len = bytes::find::<b'\n'>(&normal).map_or(normal.len(), |lf| lf + 1);
    let (line, block) = normal.split_at(line_len);
    read_status_line(line, STATUS_HUNDREDS_MAX, head)?;
    if head.status > 599 {
        quirks.add(Quirk::StatusAbove599);
    }
    fields::parse(block, limits.header_count, &mut head.fields)?;
    if join_lengths(&mut head.fields) {
        quirks.add(Quirk::ContentLengthRepeated);
    }
    if leave_tokens(&mut head.fields) {
        quirks.add(Quirk::ConnectionOption);
    }
    let is_http10_coded = head.version == Version::Http10 && head.fields.known(Known::TransferEncoding).is_some();
    let mut framing = Framing::of(&head.fields, if is_http10_coded { Version::Http11 } else { head.version })?;
    if is_http10_coded {
        quirks.add(Quirk::Http10Chunked);
        (framing.keep_alive, framing.websocket) = (false, false);
    }
    apply_framing(framing, request, head)?;
    head.quirks = quirks;
    Ok(())
}

/// Refuses a head that cannot become one, without waiting for its end. `searched` bytes of it were seen before.
#[cold]
pub fn check_beginning(beginning: &[u8], searched: usize, limits: &HeadLimits) -> Result<(), ResponseError> {
    let searched = searched.min(beginning.len());
    check_bytes(beginning, searched)?;
    let Some(last_lf) = memchr::memrchr(b'\n', &beginning[searched..]) else {
        return if searched < STATUS_LINE_LOOK { check_status(beginning) } else { Ok(()) };
    };
    // Only when a line has ended, and there are not many: a head that drips in costs little.
    let lines = &beginning[..=searched + last_lf];
    let normal = normalise(lines, limits.header_count, &mut Quirks::default())?;
    let line_len = bytes::find::<b'\n'>(&normal).map_or(normal.len(), |lf| lf + 1);
    read_status_line(&normal[..line_len], STATUS_HUNDREDS_MAX, &mut ResponseHead::default())
}

/// As far as this a first line is looked at before its end has come.
const STATUS_LINE_LOOK: usize = 32;

/// Whether this can go on as `HTTP/1.x status`.
fn check_status(beginning: &[u8]) -> Result<(), ResponseError> {
    let Some((version, rest)) = beginning.split_at_checked(b"HTTP/1.".len() + 1) else { return Ok(()) };
    let space_len = rest.iter().take_while(|&&byte| byte == b' ').count();
    let status = &rest[space_len..];
    let digits = status.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_possible = version[7].is_ascii_digit()
        && (space_len > 0 || rest.is_empty())
        && status.first() != Some(&b'0')
        && match status.get(digits) {
            None => digits <= 3,
            Some(byte) => digits == 3 && matches!(byte, b' ' | b'\r' | b'\n'),
        };
    is_possible.then_some(()).ok_or(ResponseError::StatusLine)
}

/// What speaks here, where it is not HTTP/1. Nothing more needs to come.
#[cold]
pub fn other_protocol(input: &[u8]) -> ResponseError {
    match *input {
        // An alert or a handshake record (RFC 8446 section 5.1).
        [21 | 22] | [21 | 22, 3, ..] => ResponseError::Tls,
        // A server's preface is a SETTINGS frame on stream 0 (RFC 9113 section 3.4).
        [0, _, _, 4, ..] => ResponseError::Http2,
        _ if input.starts_with(b"PRI * HTTP/2") => ResponseError::Http2,
        _ => ResponseError::StatusLine,
    }
}

/// Refuses what has no reading: control bytes, and a CR that ends no line. The bytes before `from` were checked before, but
/// for a CR as the last of them.
fn check_bytes(head: &[u8], from: usize) -> Result<(), FieldError> {
    let from = from.saturating_sub(1);
    for (at, &byte) in head.iter().enumerate().skip(from) {
        match byte {
            b'\r' if head.get(at + 1).is_some_and(|&next| next != b'\n') => return Err(FieldError::BareCr),
            b'\r' | b'\n' => {}
            _ if is_control(byte) => return Err(FieldError::ControlByte),
            _ => {}
        }
    }
    Ok(())
}

/// Writes whole lines anew as the grammar has them: CRLF behind each, one field in each, no white space that means nothing.
fn normalise(lines: &[u8], count_max: usize, quirks: &mut Quirks) -> Result<Vec<u8>, ResponseError> {
    // A line's end is written in front of the next one, which may go on with it.
    let mut out = Vec::with_capacity(lines.len() + 64);
    let mut count = 0;
    // Whether the line before was, and what goes on from it is to be.
    let mut is_dropped = false;
    for (index, line) in lines.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let line = match line {
            [line @ .., b'\r', b'\n'] => line,
            [line @ .., b'\n'] => {
                quirks.add(Quirk::BareLf);
                line
            }
            line => line,
        };
        if index == 0 {
            status_line(line, &mut out, quirks);
            continue;
        }
        if line.is_empty() {
            out.extend_from_slice(b"\r\n");
            break;
        }
        if count == count_max {
            return Err(FieldError::TooMany.into());
        }
        count += 1;
        if let [b' ' | b'\t', ..] = line {
            if count == 1 {
                return Err(FieldError::ObsoleteFold.into());
            }
            quirks.add(Quirk::ObsoleteFold);
            if !is_dropped {
                out.push(b' ');
                out.extend_from_slice(bytes::trim(line));
            }
            continue;
        }
        let colon = bytes::find::<b':'>(line).ok_or(FieldError::Name)?;
        let name = bytes::trim(&line[..colon]);
        if !bytes::is_token(name) {
            return Err(FieldError::Name.into());
        }
        if name.len() < colon {
            quirks.add(Quirk::SpaceBeforeColon);
        }
        is_dropped = Known::of(name) == Known::Lookalike;
        if is_dropped {
            quirks.add(Quirk::FramingLookalike);
            continue;
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name);
        out.extend_from_slice(&line[colon..]);
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// Another minor version is read as the highest we know (RFC 9110 section 2.5). What is no status line stays as it is.
fn status_line(line: &[u8], out: &mut Vec<u8>, quirks: &mut Quirks) {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9', b' ', rest @ ..] = line else {
        return out.extend_from_slice(line);
    };
    if *minor > b'1' {
        quirks.add(Quirk::MinorVersion);
    }
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    if spaces > 0 {
        quirks.add(Quirk::StatusLineSpaces);
    }
    out.extend_from_slice(if *minor == b'0' { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(&rest[spaces..]);
}

/// Leaves out of `Connection` what is no token, and so no field's name; says whether there was something.
fn leave_tokens(fields: &mut Fields) -> bool {
    let options = || fields.known_values(Known::Connection).flat_map(bytes::list);
    if options().all(bytes::is_token) {
        return false;
    }
    let tokens: Vec<_> = options().filter(|option| bytes::is_token(option)).collect();
    let tokens = tokens.join(&b", "[..]);
    fields.set_known(Known::Connection, b"connection", &tokens);
    true
}

/// Makes one of several equal lengths (RFC 9110 section 8.6), and says whether there were several. Others are left as they
/// are, to be refused.
fn join_lengths(fields: &mut Fields) -> bool {
    let mut lengths = fields.known_values(Known::ContentLength).flat_map(|value| value.split(|&byte| byte == b','));
    let Some(first) = lengths.next().and_then(|value| bytes::decimal(bytes::trim(value))) else { return false };
    let mut others = 0;
    for value in lengths {
        if bytes::decimal(bytes::trim(value)) != Some(first) {
            return false;
        }
        others += 1;
    }
    if others > 0 {
        fields.set_known(Known::ContentLength, b"content-length", first.to_string().as_bytes());
    }
    others > 0
}
