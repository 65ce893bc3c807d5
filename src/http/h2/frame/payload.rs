//! DATA and HEADERS: what stands around the payload (RFC 9113 sections 6.1 and 6.2).

use super::{Header, flag};
use crate::http::h2::error::{Code, ConnectionError};

/// How a DATA frame is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Bytes before the payload: the pad length.
    pub before: usize,
    pub payload: usize,
    pub padding: usize,
}

/// Reads what must be known of a DATA frame before its payload. `None`: the pad length has not come.
pub fn data(header: Header, payload: &[u8]) -> Result<Option<Data>, ConnectionError> {
    if !header.has(flag::PADDED) {
        return Ok(Some(Data { before: 0, payload: header.len, padding: 0 }));
    }
    if header.len == 0 {
        return Err(ConnectionError::new(Code::FRAME_SIZE_ERROR, "data_size"));
    }
    let Some(&padding) = payload.first() else { return Ok(None) };
    let padding = usize::from(padding);
    let payload = (header.len - 1).checked_sub(padding).ok_or(ConnectionError::protocol("padding"))?;
    Ok(Some(Data { before: 1, payload, padding }))
}

/// The header block's fragment of a HEADERS frame, and whether its stream depends on itself.
pub fn headers(header: Header, payload: &[u8]) -> Result<(&[u8], bool), ConnectionError> {
    const SIZE: ConnectionError = ConnectionError::new(Code::FRAME_SIZE_ERROR, "headers_size");
    let (mut rest, mut padding) = (payload, 0);
    if header.has(flag::PADDED) {
        let (&first, after) = rest.split_first().ok_or(SIZE)?;
        (rest, padding) = (after, usize::from(first));
    }
    let mut on_itself = false;
    if header.has(flag::PRIORITY) {
        let (dependency, after) = rest.split_first_chunk::<4>().ok_or(SIZE)?;
        (_, rest) = after.split_first().ok_or(SIZE)?;
        on_itself = u32::from_be_bytes(*dependency) & super::STREAM_MAX == header.stream;
    }
    let len = rest.len().checked_sub(padding).ok_or(ConnectionError::protocol("padding"))?;
    Ok((&rest[..len], on_itself))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, len: usize) -> Header {
        Header { len, kind: super::super::kind::HEADERS, flags, stream: 3 }
    }

    #[test]
    fn padding_of_data() {
        let plain = data(header(0, 5), b"").unwrap();
        assert_eq!(plain, Some(Data { before: 0, payload: 5, padding: 0 }));
        assert_eq!(data(header(flag::PADDED, 5), b""), Ok(None));
        assert_eq!(data(header(flag::PADDED, 5), &[4]), Ok(Some(Data { before: 1, payload: 0, padding: 4 })));
        assert_eq!(data(header(flag::PADDED, 5), &[5]).unwrap_err().code, Code::PROTOCOL_ERROR);
        assert_eq!(data(header(flag::PADDED, 0), b"").unwrap_err().code, Code::FRAME_SIZE_ERROR);
    }

    #[test]
    fn padding_and_priority_of_headers() {
        let read = |flags, payload: &'static [u8]| headers(header(flags, payload.len()), payload);
        assert_eq!(read(0, b"ab"), Ok((&b"ab"[..], false)));
        assert_eq!(read(flag::PADDED, b"\x02ab\0\0"), Ok((&b"ab"[..], false)));
        assert_eq!(read(flag::PADDED, b"\x04ab\0\0"), Ok((&b""[..], false)));
        assert_eq!(read(flag::PADDED, b"\x05ab\0\0").unwrap_err().code, Code::PROTOCOL_ERROR);
        assert_eq!(read(flag::PADDED, b"").unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(read(flag::PRIORITY, b"\0\0\0\x01\x10ab"), Ok((&b"ab"[..], false)));
        assert_eq!(read(flag::PRIORITY, b"\x80\0\0\x03\x10ab"), Ok((&b"ab"[..], true)));
        assert_eq!(read(flag::PRIORITY, b"\0\0\0\x01").unwrap_err().code, Code::FRAME_SIZE_ERROR);
        assert_eq!(read(flag::PRIORITY | flag::PADDED, b"\x01\0\0\0\x01\x10").unwrap_err().code, Code::PROTOCOL_ERROR);
    }
}
