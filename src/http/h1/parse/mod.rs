//! Heads, read for refusing: what two parsers could read differently is an error, never a guess.
//!
//! A head that is all there is taken apart line by line, then checked as a whole for bytes that may stand nowhere (one pass
//! that the compiler vectorises): every CR is followed by a LF and every LF preceded by a CR, or it is no head. Where that
//! fails its end is looked for first, and then what is wrong with it. Why not `httparse`: docs/decisions/0001-own-head-parser.md.

mod request;
mod response;

mod lenient;

pub(super) mod fields;
mod framing;

pub use fields::FieldError;
pub use framing::FramingError;
pub use request::{RequestError, parse_request};
pub use response::{ResponseError, ResponseTo, parse_response};

use crate::http::bytes;

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Start line, fields and the empty line behind them.
    pub head_bytes: usize,
    pub header_count: usize,
}

impl HeadLimits {
    /// Ranges within a head are 32 bits wide, whatever was configured.
    fn head_bytes_max(&self) -> usize {
        self.head_bytes.min(u32::MAX as usize)
    }
}

/// Finds the end of the head that starts at `start`: the empty line behind the first line. `scanned` is how far `input`
/// was searched before, so that a head that comes byte by byte costs as much as one that comes at once.
fn find_end(input: &[u8], start: usize, scanned: &mut usize) -> Option<usize> {
    // The line end in front of the empty line may have been searched already.
    let mut at = scanned.saturating_sub(2).clamp(start, input.len());
    *scanned = input.len();
    while let Some(lf) = bytes::find::<b'\n'>(&input[at..]) {
        at += lf + 1;
        if input[at..].starts_with(b"\r\n") {
            return Some(at + 2);
        }
    }
    None
}

/// Refuses bytes that may stand nowhere in a head: controls other than HTAB, CR without LF, LF without CR. The bytes
/// before `from` were checked before, and the last one may be the first half of a line end.
pub(super) fn check_bytes(head: &[u8], from: usize) -> Result<(), FieldError> {
    let from = from.min(head.len());
    let (before, new) = match from {
        0 => (head, head.get(1..).unwrap_or_default()),
        _ => (&head[from - 1..], &head[from..]),
    };
    let mut bad = from == 0 && head.first().is_some_and(|&first| is_control(first) && first != b'\r');
    for (&before, &byte) in before.iter().zip(new) {
        bad |= is_control(byte) & (byte != b'\r') & (byte != b'\n');
        bad |= (before == b'\r') ^ (byte == b'\n');
    }
    if bad { Err(name_bad_byte(head)) } else { Ok(()) }
}

#[inline]
fn is_control(byte: u8) -> bool {
    ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
}

#[cold]
fn name_bad_byte(head: &[u8]) -> FieldError {
    let mut before = 0;
    for &byte in head {
        match (before, byte) {
            (b'\r', b'\n') => {}
            (b'\r', _) => return FieldError::BareCr,
            (_, b'\n') => return FieldError::BareLf,
            (_, b'\r') => {}
            _ if is_control(byte) => break,
            _ => {}
        }
        before = byte;
    }
    FieldError::ControlByte
}

#[cfg(test)]
mod tests;
