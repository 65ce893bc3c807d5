//! Frames of a fixed size: PRIORITY, RST_STREAM, PING, GOAWAY, WINDOW_UPDATE (RFC 9113 sections 6.3 to 6.9).

use super::{Header, STREAM_MAX, WINDOW_MAX};
use crate::http::h2::error::{Code, ConnectionError};

const SIZE: ConnectionError = ConnectionError::new(Code::FRAME_SIZE_ERROR, "frame_size");

/// The payload of a frame that must be `N` bytes, and is about a stream or about the connection.
pub fn fixed<const N: usize>(
    header: Header,
    payload: &[u8],
    about_stream: Option<bool>,
) -> Result<[u8; N], ConnectionError> {
    if about_stream.is_some_and(|about_stream| about_stream == (header.stream == 0)) {
        return Err(ConnectionError::protocol("frame_stream"));
    }
    payload.try_into().map_err(|_| SIZE)
}

pub fn reset(header: Header, payload: &[u8]) -> Result<Code, ConnectionError> {
    fixed(header, payload, Some(true)).map(|code| Code(u32::from_be_bytes(code)))
}

pub fn ping(header: Header, payload: &[u8]) -> Result<[u8; 8], ConnectionError> {
    fixed(header, payload, Some(false))
}

pub fn window_update(header: Header, payload: &[u8]) -> Result<u32, ConnectionError> {
    fixed(header, payload, None).map(|increment| u32::from_be_bytes(increment) & WINDOW_MAX)
}

/// Last stream and code; what follows is for people.
pub fn goaway(header: Header, payload: &[u8]) -> Result<(u32, Code), ConnectionError> {
    let (fixed_part, _) = payload.split_at_checked(8).ok_or(SIZE)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3] = fixed(header, fixed_part, Some(false))?;
    Ok((u32::from_be_bytes([l0, l1, l2, l3]) & STREAM_MAX, Code(u32::from_be_bytes([c0, c1, c2, c3]))))
}

/// Whether a PRIORITY frame makes its stream depend on itself; `None` where its size is wrong.
pub fn priority(header: Header, payload: &[u8]) -> Option<bool> {
    let &[d0, d1, d2, d3, _] = payload else { return None };
    Some(u32::from_be_bytes([d0, d1, d2, d3]) & STREAM_MAX == header.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_streams() {
        let on = |stream, len| Header { len, kind: 0, flags: 0, stream };
        assert_eq!(reset(on(1, 4), &[0, 0, 0, 8]), Ok(Code::CANCEL));
        assert_eq!(reset(on(0, 4), &[0; 4]).unwrap_err().code, Code::PROTOCOL_ERROR);
        assert_eq!(reset(on(1, 3), &[0; 3]).unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(ping(on(0, 8), b"12345678").as_ref(), Ok(b"12345678"));
        assert_eq!(ping(on(1, 8), &[0; 8]).unwrap_err().code, Code::PROTOCOL_ERROR);
        assert_eq!(ping(on(0, 9), &[0; 9]).unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(window_update(on(0, 4), &[0x80, 0, 0, 1]), Ok(1));
        assert_eq!(window_update(on(5, 5), &[0; 5]).unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(goaway(on(0, 9), &[0x80, 0, 0, 1, 0, 0, 0, 11, b'x']), Ok((1, Code::ENHANCE_YOUR_CALM)));
        assert_eq!(goaway(on(0, 7), &[0; 7]).unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(goaway(on(1, 8), &[0; 8]).unwrap_err().code, Code::PROTOCOL_ERROR);
        assert_eq!(priority(on(3, 5), &[0, 0, 0, 3, 0]), Some(true));
        assert_eq!(priority(on(3, 5), &[0, 0, 0, 1, 0]), Some(false));
        assert_eq!(priority(on(3, 4), &[0; 4]), None);
    }
}
