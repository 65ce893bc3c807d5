//! HPACK (RFC 7541) as a case sees it: literals out, everything in. It shares no code with the gateway.

use std::collections::VecDeque;

use super::super::text::show;

/// Name and value as they came.
pub type Field = (Vec<u8>, Vec<u8>);

/// Fields as literals without indexing and without Huffman's code: whatever a case says goes out as it stands.
pub fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            length(&mut out, text.len());
            out.extend_from_slice(text);
        }
    }
    out
}

/// A string's length: an integer of seven bits (section 5.1).
fn length(out: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return out.push(length as u8);
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// One direction's dynamic table, of the size that both sides begin with.
#[derive(Default)]
pub struct Decoder {
    dynamic: VecDeque<Field>,
}

const TABLE_BYTES: usize = 4096;

impl Decoder {
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, String> {
        let input = &mut block;
        let mut fields = Vec::new();
        while let Some(&first) = input.first() {
            match first {
                0x80.. => {
                    let index = integer(input, 7)?;
                    fields.push(self.entry(index)?);
                }
                0x40..0x80 => {
                    let field = self.literal(input, 6)?;
                    self.dynamic.push_front(field.clone());
                    let size =
                        |table: &VecDeque<Field>| table.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>();
                    while size(&self.dynamic) > TABLE_BYTES {
                        self.dynamic.pop_back();
                    }
                    fields.push(field);
                }
                0x20..0x40 => {
                    // What fits a table of this size is for the encoder to keep; a case never asks for another.
                    if integer(input, 5)? == 0 {
                        self.dynamic.clear();
                    }
                }
                _ => fields.push(self.literal(input, 4)?),
            }
        }
        Ok(fields)
    }

    fn literal(&self, input: &mut &[u8], prefix: u32) -> Result<Field, String> {
        let name = match integer(input, prefix)? {
            0 => string(input)?,
            index => self.entry(index)?.0,
        };
        Ok((name, string(input)?))
    }

    fn entry(&self, index: usize) -> Result<Field, String> {
        let (fixed, dynamic) = (STATIC.get(index.wrapping_sub(1)), index.wrapping_sub(1 + STATIC.len()));
        match fixed {
            Some((name, value)) => Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.dynamic.get(dynamic).cloned().ok_or_else(|| format!("HPACK: no entry {index}")),
        }
    }
}

fn integer(input: &mut &[u8], prefix: u32) -> Result<usize, String> {
    let most = (1usize << prefix) - 1;
    let mut value = usize::from(take(input, 1)?[0]) & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = take(input, 1)?[0];
        value += usize::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err("HPACK: an integer beyond all use".into())
}

fn string(input: &mut &[u8]) -> Result<Vec<u8>, String> {
    let coded = input.first().is_some_and(|first| first & 128 != 0);
    let length = integer(input, 7)?;
    let bytes = take(input, length)?;
    if coded { huffman(bytes) } else { Ok(bytes.to_vec()) }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = input.split_at_checked(count).ok_or("HPACK: a block that ends too early")?;
    *input = rest;
    Ok(taken)
}

/// The code is canonical: its lengths say all (RFC 7541 appendix B).
fn huffman(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut by_length: Vec<(u8, usize)> =
        LENGTHS.iter().enumerate().map(|(symbol, &length)| (length, symbol)).collect();
    by_length.sort_unstable();
    let (mut out, mut code, mut length) = (Vec::new(), 0u32, 0u8);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some(symbol) = symbol(&by_length, code, length) {
            out.push(u8::try_from(symbol).map_err(|_| "HPACK: the end of a string within it")?);
            (code, length) = (0, 0);
        }
    }
    let padding_fits = length < 8 && code == (1 << length) - 1;
    if padding_fits { Ok(out) } else { Err(format!("HPACK: bad padding of {}", show(bytes))) }
}

fn symbol(by_length: &[(u8, usize)], code: u32, length: u8) -> Option<usize> {
    let (mut first, mut before) = (0u32, 0u8);
    for (at, &(of, _)) in by_length.iter().enumerate() {
        first <<= of - before;
        before = of;
        if of == length {
            let same = by_length[at..].iter().take_while(|(of, _)| *of == length).count() as u32;
            return (code >= first && code < first + same).then(|| by_length[at + (code - first) as usize].1);
        }
        if of > length {
            return None;
        }
        first += 1;
    }
    None
}

/// Bits of each symbol's code, the end of a string last.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6,
    12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15,
    5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20,
    22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22,
    23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26,
    27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];
