//! HPACK as far as a generator needs it: request blocks written once, and of a response the status and the length.
//!
//! Our SETTINGS allow the server no dynamic table, so an index into one is an error, and every block can be read by
//! itself. Our own blocks leave the server's table alone too: one text serves every request on every connection.

use crate::http1::Malformed;

/// Entries of the static table (RFC 7541, appendix A) that are used here.
const AUTHORITY: u8 = 1;
const METHOD: u8 = 2;
const PATH: u8 = 4;
const SCHEME_HTTP: u8 = 6;
const SCHEME_HTTPS: u8 = 7;
const STATUS: u64 = 8;
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
const CONTENT_LENGTH: u64 = 28;
const STATIC_ENTRIES: u64 = 61;

/// Codes of the digits (appendix B): `0` to `2` have five bits, the others six.
const DIGITS_OF_FIVE: u32 = 3;

/// A request's fields, in their order. `headers` have lower-case names.
pub fn request_block<'a>(
    method: &str,
    is_https: bool,
    authority: &str,
    path: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut block = Vec::new();
    match method {
        "GET" => block.push(0x80 | METHOD),
        "POST" => block.push(0x80 | (METHOD + 1)),
        _ => {
            block.push(METHOD);
            text(&mut block, method);
        }
    }
    block.push(0x80 | if is_https { SCHEME_HTTPS } else { SCHEME_HTTP });
    block.push(AUTHORITY);
    text(&mut block, authority);
    if path == "/" {
        block.push(0x80 | PATH);
    } else {
        block.push(PATH);
        text(&mut block, path);
    }
    for (name, value) in headers {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A string literal without Huffman coding.
fn text(block: &mut Vec<u8>, text: &str) {
    integer(block, 0, 7, text.len() as u64);
    block.extend_from_slice(text.as_bytes());
}

fn integer(block: &mut Vec<u8>, flags: u8, bits: u32, value: u64) {
    let most = (1 << bits) - 1;
    if value < most {
        return block.push(flags | value as u8);
    }
    block.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// What a response's fields say that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Absent in trailers.
    pub status: Option<u16>,
    pub content_length: Option<u64>,
}

/// Reads a whole block.
///
/// # Errors
/// It is cut off, or uses the table that the server was not given.
pub fn fields(block: &[u8]) -> Result<Fields, Malformed> {
    let mut fields = Fields::default();
    let mut rest = Reader(block);
    while let Some(&first) = rest.0.first() {
        let (name, is_literal) = match first {
            0x80.. => (rest.integer(7)?, false),
            0x40..0x80 => (rest.integer(6)?, true),
            0x20..0x40 => {
                if rest.integer(5)? > 0 {
                    return Err(Malformed("the server took an HPACK table that it was not given"));
                }
                continue;
            }
            _ => (rest.integer(4)?, true),
        };
        if name > STATIC_ENTRIES || name == 0 && !is_literal {
            return Err(Malformed("an HPACK index points nowhere"));
        }
        if !is_literal {
            if (STATUS..STATUS + 7).contains(&name) {
                fields.status = Some(STATUSES[(name - STATUS) as usize]);
            }
            continue;
        }
        let (mut is_status, mut is_length) = ((STATUS..STATUS + 7).contains(&name), name == CONTENT_LENGTH);
        if name == 0 {
            let (name, is_huffman) = rest.string()?;
            is_status = !is_huffman && name == b":status";
            is_length = !is_huffman && name == b"content-length";
        }
        let (value, is_huffman) = rest.string()?;
        let number = || if is_huffman { huffman_digits(value) } else { digits(value) };
        if is_status {
            let status = number().and_then(|status| u16::try_from(status).ok());
            fields.status = Some(status.ok_or(Malformed("the status is no number"))?);
        } else if is_length {
            fields.content_length = Some(number().ok_or(Malformed("content-length is no number"))?);
        }
    }
    Ok(fields)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// With a prefix of so many bits, on a byte that is there.
    fn integer(&mut self, bits: u32) -> Result<u64, Malformed> {
        let most = (1u64 << bits) - 1;
        let mut value = u64::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        // Five bytes hold more than any length that is let in here.
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("an HPACK number is too large"))
    }

    /// The bytes, and whether they are in Huffman code.
    fn string(&mut self) -> Result<(&'a [u8], bool), Malformed> {
        let is_huffman = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = usize::try_from(self.integer(7)?).unwrap_or(usize::MAX);
        let (string, rest) = self.0.split_at_checked(length).ok_or(Malformed("a header block is cut off"))?;
        self.0 = rest;
        Ok((string, is_huffman))
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed("a header block is cut off"))?;
        self.0 = rest;
        Ok(byte)
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().all(u8::is_ascii_digit).then_some(())?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number in Huffman code; `None` for anything else.
fn huffman_digits(code: &[u8]) -> Option<u64> {
    let (mut value, mut held, mut bits, mut seen) = (0u64, 0u32, 0u32, 0);
    let mut bytes = code.iter();
    loop {
        while bits < 6
            && let Some(&byte) = bytes.next()
        {
            held = held << 8 | u32::from(byte);
            bits += 8;
        }
        let top = |count: u32| held >> (bits - count) & ((1 << count) - 1);
        let digit = if bits >= 5 && top(5) < DIGITS_OF_FIVE {
            bits -= 5;
            held >> bits & 31
        } else if bits >= 6 && (0x19..0x20).contains(&top(6)) {
            bits -= 6;
            (held >> bits & 63) - 0x19 + DIGITS_OF_FIVE
        } else {
            // What is left is padding of ones, shorter than a byte.
            let is_padding = bits < 8 && bytes.next().is_none() && held & ((1 << bits) - 1) == (1 << bits) - 1;
            return Some(value).filter(|_| is_padding && seen > 0);
        };
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        seen += 1;
        held &= (1 << bits) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_with_static_entries_and_literals() {
        let block = request_block("GET", true, "a", "/", [("x-y", "z")].into_iter());
        assert_eq!(block, [0x82, 0x87, 1, 1, b'a', 0x84, 0, 3, b'x', b'-', b'y', 1, b'z']);
        let long = "v".repeat(200);
        let block = request_block("PUT", false, "a", "/b", [("n", long.as_str())].into_iter());
        assert_eq!(block[..13], [2, 3, b'P', b'U', b'T', 0x86, 1, 1, b'a', 4, 2, b'/', b'b']);
        assert_eq!(block[13..18], [0, 1, b'n', 0x7f, 73]);
    }

    #[test]
    fn a_status_is_read_in_every_form_a_server_may_choose() {
        let status = |block: &[u8]| fields(block).expect("well formed").status;
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8d]), Some(404));
        assert_eq!(status(&[0x48, 3, b'5', b'0', b'3']), Some(503));
        assert_eq!(status(&[0x08, 3, b'2', b'0', b'1']), Some(201));
        // `302` and `307` in Huffman code, as in RFC 7541, C.6.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status(b"\x00\x07:status\x03418"), Some(418));
        assert_eq!(status(b"\x00\x01x\x01y"), None);
        let both = fields(b"\x88\x0f\x0d\x041234").expect("well formed");
        assert_eq!(both, Fields { status: Some(200), content_length: Some(1234) });
    }

    #[test]
    fn a_block_that_lies_is_refused() {
        // An index into the dynamic table, index 0, a table that was not given, strings and numbers without an end.
        for block in [
            &[0xbe][..],
            &[0x80],
            &[0x3f, 0xe1, 0x1f],
            &[0x48, 3, b'2'],
            &[0xff],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(fields(block).is_err(), "{block:?}");
        }
        assert!(fields(b"\x48\x03abc").is_err());
        assert!(fields(b"\x88\x0f\x0d\x02-1").is_err());
        assert!(fields(&[0x48, 0x83, 0, 0, 0]).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut random = crate::schedule::Random::new(5);
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..random.below(24)).map(|_| random.next() as u8).collect();
            let _ = fields(&block);
        }
    }
}
