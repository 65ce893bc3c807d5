//! SETTINGS (RFC 9113 section 6.5, RFC 8441 section 3).

use super::{Header, PAYLOAD_MAX, WINDOW_MAX, flag};
use crate::http::h2::error::{Code, ConnectionError};

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

const MAX_FRAME_SIZE_MAX: u32 = (1 << 24) - 1;

/// What has become of the other end's settings so far.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub header_table_size: u32,
    pub concurrent_streams: u32,
    pub initial_window: u32,
    pub frame_size: usize,
    pub extended_connect: bool,
}

impl Settings {
    /// Before any came. RFC 9113 sets no first limit of streams; this is the least it recommends.
    pub const INITIAL: Self = Self {
        header_table_size: 4096,
        concurrent_streams: 100,
        initial_window: 65_535,
        frame_size: PAYLOAD_MAX,
        extended_connect: false,
    };

    /// Applies a frame that is no acknowledgement. `from_server`: who sent it.
    pub fn apply(&mut self, payload: &[u8], from_server: bool) -> Result<(), ConnectionError> {
        let (entries, _) = payload.as_chunks::<6>();
        for &[i0, i1, v0, v1, v2, v3] in entries {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match (u16::from_be_bytes([i0, i1]), value) {
                (HEADER_TABLE_SIZE, _) => self.header_table_size = value,
                (ENABLE_PUSH, 0) => {}
                (ENABLE_PUSH, 1) if !from_server => {}
                (ENABLE_PUSH, _) => return Err(ConnectionError::protocol("enable_push")),
                (MAX_CONCURRENT_STREAMS, _) => self.concurrent_streams = value,
                (INITIAL_WINDOW_SIZE, 0..=WINDOW_MAX) => self.initial_window = value,
                (INITIAL_WINDOW_SIZE, _) => {
                    return Err(ConnectionError::new(Code::FLOW_CONTROL_ERROR, "initial_window_size"));
                }
                (MAX_FRAME_SIZE, value) if (PAYLOAD_MAX as u32..=MAX_FRAME_SIZE_MAX).contains(&value) => {
                    self.frame_size = value as usize;
                }
                (MAX_FRAME_SIZE, _) => return Err(ConnectionError::protocol("max_frame_size")),
                (ENABLE_CONNECT_PROTOCOL, 0) if !self.extended_connect => {}
                (ENABLE_CONNECT_PROTOCOL, 1) => self.extended_connect = true,
                (ENABLE_CONNECT_PROTOCOL, _) => return Err(ConnectionError::protocol("enable_connect_protocol")),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether the frame is an acknowledgement; an error where its size or stream is wrong.
pub fn is_ack(header: Header) -> Result<bool, ConnectionError> {
    if header.stream != 0 {
        return Err(ConnectionError::protocol("frame_stream"));
    }
    let is_ack = header.has(flag::ACK);
    if is_ack && header.len != 0 || !header.len.is_multiple_of(6) {
        return Err(ConnectionError::new(Code::FRAME_SIZE_ERROR, "settings_size"));
    }
    Ok(is_ack)
}

pub fn entry(out: &mut Vec<u8>, identifier: u16, value: u32) {
    out.extend_from_slice(&identifier.to_be_bytes());
    out.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(entries: &[(u16, u32)], from_server: bool) -> Result<Settings, ConnectionError> {
        let mut payload = Vec::new();
        for &(identifier, value) in entries {
            entry(&mut payload, identifier, value);
        }
        let mut settings = Settings::INITIAL;
        settings.apply(&payload, from_server).map(|()| settings)
    }

    #[test]
    fn legal_values_apply_and_unknown_ones_are_ignored() {
        let settings = apply(
            &[(1, 0), (2, 1), (3, 7), (4, WINDOW_MAX), (5, 16_777_215), (6, 1), (8, 1), (0x0a0a, 5), (9, 1)],
            false,
        )
        .unwrap();
        assert_eq!((settings.header_table_size, settings.concurrent_streams), (0, 7));
        assert_eq!((settings.initial_window, settings.frame_size), (WINDOW_MAX, 16_777_215));
        assert!(settings.extended_connect);
    }

    #[test]
    fn illegal_values_end_the_connection() {
        for (entries, code) in [
            (&[(2, 2)][..], Code::PROTOCOL_ERROR),
            (&[(4, WINDOW_MAX + 1)], Code::FLOW_CONTROL_ERROR),
            (&[(5, 16_383)], Code::PROTOCOL_ERROR),
            (&[(5, 16_777_216)], Code::PROTOCOL_ERROR),
            (&[(8, 2)], Code::PROTOCOL_ERROR),
            (&[(8, 1), (8, 0)], Code::PROTOCOL_ERROR),
        ] {
            assert_eq!(apply(entries, false).unwrap_err().code, code, "{entries:?}");
        }
        assert_eq!(apply(&[(2, 1)], true).unwrap_err().code, Code::PROTOCOL_ERROR);
    }

    #[test]
    fn sizes() {
        let header = |flags, len, stream| Header { len, kind: super::super::kind::SETTINGS, flags, stream };
        assert_eq!(is_ack(header(0, 12, 0)), Ok(false));
        assert_eq!(is_ack(header(flag::ACK, 0, 0)), Ok(true));
        assert_eq!(is_ack(header(flag::ACK, 6, 0)).unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(is_ack(header(0, 7, 0)).unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(is_ack(header(0, 6, 1)).unwrap_err().code, Code::PROTOCOL_ERROR);
    }
}
