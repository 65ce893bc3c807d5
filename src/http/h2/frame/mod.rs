//! Frames (RFC 9113 sections 4 and 6): nine bytes of header, and what each type says behind them.
//!
//! ```text
//! length (24) | type (8) | flags (8) | 0 (1) stream (31)
//! ```

pub mod control;
pub mod payload;
pub mod settings;

pub const HEADER_BYTES: usize = 9;

/// SETTINGS_MAX_FRAME_SIZE, ours and the least a peer can have. Larger frames would let one stream hold up the others.
pub const PAYLOAD_MAX: usize = 16_384;

pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const WINDOW_MAX: u32 = (1 << 31) - 1;
pub const STREAM_MAX: u32 = (1 << 31) - 1;

pub mod kind {
    //! Types of frames.
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    //! Flags of frames; what they mean depends on the type.
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub len: usize,
    pub kind: u8,
    pub flags: u8,
    /// Without the reserved bit.
    pub stream: u32,
}

impl Header {
    #[inline]
    pub fn read(input: &[u8]) -> Option<Self> {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3] = input.first_chunk::<HEADER_BYTES>()?;
        let len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        Some(Self { len, kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) & STREAM_MAX })
    }

    #[inline]
    pub fn bytes(self) -> [u8; HEADER_BYTES] {
        let [_, l0, l1, l2] = (self.len as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header { len: 0x01_02_03, kind: kind::DATA, flags: flag::PADDED, stream: 0x7fff_fffe };
        assert_eq!(Header::read(&header.bytes()), Some(header));
        assert_eq!(Header::read(&header.bytes()[..8]), None);
        let mut reserved = header.bytes();
        reserved[5] |= 0x80;
        assert_eq!(Header::read(&reserved), Some(header));
    }
}
