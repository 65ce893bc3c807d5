//! Writes heads and chunks, from parsed parts only; never a byte that was not taken apart before.
//!
//! Everything appends to one buffer that its owner reuses. Values that do not come from our own parser (policies,
//! configuration, HTTP/2) must have been checked by whoever brought them in.

use crate::http::head::Fields;

/// What ends a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// `method path[?query] HTTP/1.1`; the query comes with its `?`.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], path: &[u8], query: &[u8]) {
    debug_assert!(is_one_line(method) && is_one_line(path) && is_one_line(query));
    out.reserve(method.len() + path.len() + query.len() + 12);
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(path);
    out.extend_from_slice(query);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

pub fn status_line(out: &mut Vec<u8>, status: u16) {
    debug_assert!((100..=999).contains(&status));
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_one_line(name) && is_one_line(value));
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub fn end_of_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk's data. `len` is more than 0: a chunk of 0 is [`last_chunk`].
pub fn chunk_header(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0);
    let mut digits = [0; 2 * size_of::<usize>()];
    let mut at = digits.len();
    let mut rest = len;
    while rest > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    for trailer in trailers.into_iter().flat_map(Fields::iter) {
        field(out, trailer.name, trailer.value);
    }
    out.extend_from_slice(b"\r\n");
}

pub fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The phrase that the IANA registry has for a status; empty for one it does not know.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

fn is_one_line(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::h1::parse::{HeadLimits, ResponseTo, parse_request, parse_response};
    use crate::http::head::{RequestHead, ResponseHead};
    use crate::http::target::Scheme;

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 61_440, header_count: 200 };

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines() {
        assert_eq!(written(|out| request_line(out, b"GET", b"/a", b"?b=c")), "GET /a?b=c HTTP/1.1\r\n");
        assert_eq!(written(|out| status_line(out, 200)), "HTTP/1.1 200 OK\r\n");
        assert_eq!(written(|out| status_line(out, 299)), "HTTP/1.1 299 \r\n");
        assert_eq!(written(|out| field(out, b"a", b"")), "a: \r\n");
    }

    #[test]
    fn chunks() {
        for (len, expected) in
            [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n"), (usize::MAX, "ffffffffffffffff\r\n")]
        {
            assert_eq!(written(|out| chunk_header(out, len)), expected);
        }
        assert_eq!(written(|out| last_chunk(out, None)), "0\r\n\r\n");
        let mut trailers = Fields::default();
        trailers.append(b"x-sum", b"1");
        assert_eq!(written(|out| last_chunk(out, Some(&trailers))), "0\r\nx-sum: 1\r\n\r\n");
    }

    proptest! {
        #[test]
        fn decimals_are_what_the_standard_library_writes(number: u64) {
            prop_assert_eq!(written(|out| decimal(out, number)), number.to_string());
        }

        #[test]
        fn a_written_request_is_read_as_the_same(
            method in "[A-Z]{1,32}",
            path in "/[a-z0-9/._~-]{0,30}",
            query in "(\\?[ -~&&[^#<>\\\\ ]]{0,30})?",
            list in proptest::collection::vec(("x-[a-z!#$%&'*+.^_`|~0-9-]{1,20}", "([!-~\u{80}-\u{ff}]([ -~\t]{0,20}[!-~])?)?"), 0..10),
        ) {
            prop_assume!(method != "CONNECT");
            let mut out = Vec::new();
            request_line(&mut out, method.as_bytes(), path.as_bytes(), query.as_bytes());
            field(&mut out, b"host", b"a");
            for (name, value) in &list {
                field(&mut out, name.as_bytes(), value.as_bytes());
            }
            end_of_head(&mut out);

            let mut head = RequestHead::default();
            prop_assert_eq!(parse_request(&out, &mut 0, &LIMITS, Scheme::Http, &mut head), Ok(Some(out.len())));
            prop_assert_eq!((&head.method[..], &head.path[..], &head.query[..]), (method.as_bytes(), path.as_bytes(), query.as_bytes()));
            let read: Vec<_> = head.fields.iter().skip(1).map(|field| (field.name, field.value)).collect();
            let expected: Vec<_> = list.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_written_status_line_is_read_as_the_same(status in 200u16..=599) {
            let mut out = Vec::new();
            status_line(&mut out, status);
            end_of_head(&mut out);
            let mut head = ResponseHead::default();
            prop_assert_eq!(parse_response(&out, &mut 0, &LIMITS, ResponseTo::Other, &mut head), Ok(Some(out.len())));
            prop_assert_eq!(head.status, status);
        }
    }
}
