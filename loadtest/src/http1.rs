//! HTTP/1.1 as a generator and an upstream need it: where a message ends, and whether the connection goes on.
//!
//! Heads are parsed with `httparse`; bodies are counted, not kept. What is malformed ends the connection and is counted
//! as an error: a harness that forgives would hide what it is there to find.

use std::{error::Error, fmt};

/// Headers that a head may have. More is an error of the server, not a reason to allocate.
const HEADERS_MAX: usize = 100;

/// A head that is still incomplete at this size will not be waited for.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Malformed {}

/// A response head and where it ends.
#[derive(Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    /// The connection ends with this message.
    pub close: bool,
    pub body: Body,
    pub head_bytes: usize,
}

/// A request head as the upstream sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    pub is_head: bool,
    pub path: &'a str,
    pub close: bool,
    pub expects_continue: bool,
    pub body: Body,
    pub head_bytes: usize,
}

/// `Ok(None)`: the head is not complete yet. `to_head`: the request was HEAD, so no body follows.
pub fn response(bytes: &[u8], to_head: bool) -> Result<Option<ResponseHead>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(Malformed("the response head is too long")),
        Err(_) => return Err(Malformed("the response head is malformed")),
    };
    let status = head.code.unwrap_or_default();
    let fields = Fields::of(head.headers)?;
    let without_body = to_head || status < 200 || status == 204 || status == 304;
    let body = match fields.framing {
        _ if without_body => Body::Length(0),
        Some(framing) => framing,
        None => Body::UntilClose,
    };
    let close = fields.close || head.version == Some(0) && !fields.keep_alive || body == Body::UntilClose;
    Ok(Some(ResponseHead { status, close, body, head_bytes }))
}

/// As [`response`], for the other direction.
pub fn request(bytes: &[u8]) -> Result<Option<RequestHead<'_>>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(Malformed("the request head is too long")),
        Err(_) => return Err(Malformed("the request head is malformed")),
    };
    let fields = Fields::of(head.headers)?;
    Ok(Some(RequestHead {
        is_head: head.method == Some("HEAD"),
        path: head.path.unwrap_or("/"),
        close: fields.close || head.version == Some(0) && !fields.keep_alive,
        expects_continue: fields.expects_continue,
        body: fields.framing.unwrap_or(Body::Length(0)),
        head_bytes,
    }))
}

/// The headers that decide about framing and the connection.
#[derive(Default)]
struct Fields {
    framing: Option<Body>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn of(headers: &[httparse::Header<'_>]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for header in headers {
            // The lengths first: most headers are told apart by them.
            match header.name.len() {
                6 if header.name.eq_ignore_ascii_case("expect") => fields.expects_continue = true,
                10 if header.name.eq_ignore_ascii_case("connection") => {
                    for token in header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                        fields.close |= token.eq_ignore_ascii_case(b"close");
                        fields.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if header.name.eq_ignore_ascii_case("content-length") => {
                    let length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
                    let length = length.ok_or(Malformed("Content-Length is no number"))?;
                    if fields.framing.replace(Body::Length(length)).is_some() {
                        return Err(Malformed("the message has two lengths"));
                    }
                }
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed("the transfer coding is not chunked"));
                    }
                    if fields.framing.replace(Body::Chunked(Chunk::Size { value: 0, digits: 0 })).is_some() {
                        return Err(Malformed("the message has two lengths"));
                    }
                }
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// Reads one response from pieces of any size.
#[derive(Default)]
pub struct ResponseReader {
    /// The beginning of a head that did not come in one piece.
    partial: Vec<u8>,
    head: Option<ResponseHead>,
}

impl ResponseReader {
    /// Takes a piece; gives the head when the response is complete. Bytes behind it are an error, as nobody asked twice.
    pub fn feed(&mut self, bytes: &[u8], to_head: bool) -> Result<Option<&ResponseHead>, Malformed> {
        if self.head.is_some() {
            return self.feed_body(bytes);
        }
        let whole;
        let mut rest = bytes;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            whole = std::mem::take(&mut self.partial);
            rest = &whole;
        }
        while !rest.is_empty() {
            let Some(head) = response(rest, to_head)? else {
                self.partial = rest.to_vec();
                break;
            };
            rest = &rest[head.head_bytes..];
            // 100 and 103 announce another head; 101 is nothing we asked for.
            if head.status >= 200 {
                self.head = Some(head);
                return self.feed_body(rest);
            }
            if head.status == 101 {
                return Err(Malformed("the server changed the protocol"));
            }
        }
        Ok(None)
    }

    /// The connection ended. The status, if that also completes the response.
    pub fn end(&self) -> Option<u16> {
        self.head.as_ref().filter(|head| head.body == Body::UntilClose).map(|head| head.status)
    }

    fn feed_body(&mut self, bytes: &[u8]) -> Result<Option<&ResponseHead>, Malformed> {
        let Some(head) = &mut self.head else { return Ok(None) };
        let taken = head.body.take(bytes)?;
        if !head.body.is_done() {
            return Ok(None);
        }
        if taken < bytes.len() {
            return Err(Malformed("bytes behind the response"));
        }
        Ok(Some(head))
    }
}

/// What is still to come of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    Size {
        value: u64,
        digits: u8,
    },
    /// The rest of a size line: an extension, or the CR.
    SizeLine {
        value: u64,
    },
    Data {
        left: u64,
    },
    /// CR and LF behind the data.
    DataEnd {
        left: u8,
    },
    /// A trailer line of which so much was seen; an empty one ends the message.
    Trailer {
        length: u32,
    },
    Done,
}

impl Body {
    /// Counts bytes of the body off. Returns how many of `bytes` belong to it; [`Body::is_done`] says whether it is over.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Length(left) => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                Ok(taken as usize)
            }
            Self::UntilClose => Ok(bytes.len()),
            Self::Chunked(chunk) => {
                let mut at = 0;
                while at < bytes.len() && *chunk != Chunk::Done {
                    at += chunk.step(&bytes[at..])?;
                }
                Ok(at)
            }
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Done))
    }
}

impl Chunk {
    /// Takes at least one byte of `bytes`, which are not empty.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let byte = bytes[0];
        match *self {
            Self::Size { value, digits } => {
                *self = match (char::from(byte).to_digit(16), byte) {
                    (Some(_), _) if digits == 15 => return Err(Malformed("a chunk size is too long")),
                    (Some(digit), _) => Self::Size { value: value << 4 | u64::from(digit), digits: digits + 1 },
                    (None, b'\r' | b';' | b' ' | b'\t') if digits > 0 => Self::SizeLine { value },
                    _ => return Err(Malformed("a chunk size is no number")),
                };
            }
            Self::SizeLine { value } => {
                if byte == b'\n' {
                    *self = if value == 0 { Self::Trailer { length: 0 } } else { Self::Data { left: value } };
                }
            }
            Self::Data { left } => {
                let taken = left.min(bytes.len() as u64);
                *self = if taken == left { Self::DataEnd { left: 2 } } else { Self::Data { left: left - taken } };
                return Ok(taken as usize);
            }
            Self::DataEnd { left } => {
                if byte != if left == 2 { b'\r' } else { b'\n' } {
                    return Err(Malformed("a chunk is longer than its size"));
                }
                *self = if left == 2 { Self::DataEnd { left: 1 } } else { Self::Size { value: 0, digits: 0 } };
            }
            Self::Trailer { length } => {
                *self = match byte {
                    b'\n' if length == 0 => Self::Done,
                    b'\n' => Self::Trailer { length: 0 },
                    b'\r' => Self::Trailer { length },
                    _ if length as usize > HEAD_BYTES_MAX => return Err(Malformed("a trailer is too long")),
                    _ => Self::Trailer { length: length + 1 },
                };
            }
            Self::Done => return Ok(0),
        }
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_say_where_a_response_ends() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: Close\r\n\r\nabcHTTP";
        let mut head = response(text, false).expect("well formed").expect("complete");
        assert_eq!((head.status, head.close, head.body), (200, true, Body::Length(3)));
        assert_eq!(head.body.take(&text[head.head_bytes..]), Ok(3));
        assert!(head.body.is_done());
        assert_eq!(response(&text[..40], false), Ok(None));
    }

    #[test]
    fn what_has_no_body_has_none() {
        let no_body = |text: &[u8], to_head| response(text, to_head).expect("well formed").expect("complete").body;
        assert!(no_body(b"HTTP/1.1 304 x\r\ncontent-length: 9\r\n\r\n", false).is_done());
        assert!(no_body(b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\n", true).is_done());
        assert_eq!(no_body(b"HTTP/1.1 200 x\r\n\r\n", false), Body::UntilClose);
    }

    #[test]
    fn chunks_end_at_the_empty_trailer_however_they_are_cut() {
        let text = b"4;x=y\r\nWiki\r\n0A\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nnext";
        for cut in 0..text.len() - 4 {
            let mut body = Body::Chunked(Chunk::Size { value: 0, digits: 0 });
            let first = body.take(&text[..cut]).expect("well formed");
            assert_eq!(first, cut);
            assert!(!body.is_done());
            let rest = body.take(&text[cut..]).expect("well formed");
            assert_eq!(cut + rest, text.len() - 4);
            assert!(body.is_done());
        }
    }

    #[test]
    fn two_lengths_and_wrong_chunks_are_errors() {
        let refused = |text: &[u8]| response(text, false).expect_err("must be refused").0;
        assert_eq!(
            refused(b"HTTP/1.1 200 x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n"),
            "the message has two lengths"
        );
        assert_eq!(refused(b"HTTP/1.1 200 x\r\ncontent-length: -1\r\n\r\n"), "Content-Length is no number");
        assert_eq!(refused(b"HTTP/1.1 200 x\r\ntransfer-encoding: gzip\r\n\r\n"), "the transfer coding is not chunked");
        let mut body = Body::Chunked(Chunk::Size { value: 0, digits: 0 });
        assert_eq!(body.take(b"2\r\nabc"), Err(Malformed("a chunk is longer than its size")));
        let mut body = Body::Chunked(Chunk::Size { value: 0, digits: 0 });
        assert_eq!(body.take(b"\r\n"), Err(Malformed("a chunk size is no number")));
    }

    #[test]
    fn a_response_in_pieces_is_the_same_response() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nbody";
        for cut in 1..text.len() {
            let mut reader = ResponseReader::default();
            assert_eq!(reader.feed(&text[..cut], false), Ok(None));
            let head = reader.feed(&text[cut..], false).expect("well formed").expect("complete");
            assert_eq!(head.status, 201);
        }
        let mut reader = ResponseReader::default();
        assert_eq!(reader.feed(b"HTTP/1.1 204 x\r\n\r\nmore", false), Err(Malformed("bytes behind the response")));
        let mut reader = ResponseReader::default();
        assert_eq!(reader.feed(b"HTTP/1.1 200 x\r\n\r\nmore", false), Ok(None));
        assert_eq!(reader.end(), Some(200));
    }

    #[test]
    fn requests_say_their_path_and_body() {
        let text = b"POST /a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        let head = request(text).expect("well formed").expect("complete");
        assert_eq!((head.path, head.is_head, head.close, head.expects_continue), ("/a", false, false, true));
        assert_eq!(head.body, Body::Length(5));
    }
}
