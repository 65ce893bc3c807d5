//! Frames of HTTP/2: nine bytes of head, then what they carry.

use crate::http1::Malformed;

const HEAD_BYTES: usize = 9;
/// We ask for no larger ones.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flags {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn without_padding(&self) -> Result<&'a [u8], Malformed> {
        if !self.has(flags::PADDED) {
            return Ok(self.payload);
        }
        let (&padding, rest) = self.payload.split_first().ok_or(Malformed("a frame lacks its padding"))?;
        let length = rest.len().checked_sub(usize::from(padding)).ok_or(Malformed("a frame lacks its padding"))?;
        Ok(&rest[..length])
    }

    /// The header block in HEADERS.
    pub fn without_priority(&self) -> Result<&'a [u8], Malformed> {
        let block = self.without_padding()?;
        if !self.has(flags::PRIORITY) {
            return Ok(block);
        }
        block.get(5..).ok_or(Malformed("HEADERS lack their priority"))
    }
}

/// The first frame and its length; `None` while it is not complete.
pub fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(Malformed("a frame is larger than was asked for"));
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Ok(Some((Frame { kind: head[3], flags: head[4], stream, payload }, HEAD_BYTES + length)))
}

pub fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
