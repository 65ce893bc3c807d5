//! A body, read piece by piece as it comes: of a known length, chunked (RFC 9112 section 7.1), or until the connection ends.
//!
//! Payload is never copied; the caller is told where in its buffer it lies. Chunk framing is read byte by byte and nothing
//! of it is kept, so a chunk that drips in costs linear time and no memory. The grammar is the RFC's without its optional
//! white space: where a chunk ends must not depend on who reads it. A response may stray from it where that is read alike by
//! all: see [`Quirk`].
//!
//! ```text
//! 1a;name=value CRLF <26 bytes> CRLF ... 0 CRLF trailers CRLF
//! Size Extension SizeLf Data DataCr DataLf ... Trailers
//! ```

use super::parse::{FieldError, check_bytes, fields};
use crate::http::{
    bytes,
    head::{BodyLength, FieldRef, Fields, Known},
    quirks::{Quirk, Quirks},
};

/// As many hexadecimal digits as 64 bits have. Leading zeros are legal, an endless run of them is not.
const SIZE_DIGITS_MAX: u8 = 16;

#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    pub trailer_bytes: usize,
    /// Of all chunks of one body together.
    pub chunk_extension_bytes: usize,
    /// Trailer lines.
    pub header_count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the connection ended before the body did")]
    Truncated,
    #[error("a chunk size is not hexadecimal, too long, or not followed by CRLF")]
    ChunkSize,
    #[error("a chunk extension is malformed")]
    ChunkExtension,
    #[error("chunk extensions are too long")]
    ChunkExtensionsTooLong,
    #[error("chunk data is not followed by CRLF")]
    ChunkEnd,
    #[error(transparent)]
    Trailer(#[from] FieldError),
    #[error("the trailers are too long")]
    TrailersTooLong,
    #[error("a trailer would change the framing or the routing of the message")]
    FramingTrailer,
}

impl BodyError {
    /// What a client is told if the body was its own.
    pub fn status(&self) -> u16 {
        match self {
            Self::TrailersTooLong => 431,
            Self::Trailer(error) => error.status(),
            _ => 400,
        }
    }

    /// A short code for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated => "body_truncated",
            Self::ChunkSize => "bad_chunk_size",
            Self::ChunkExtension => "bad_chunk_extension",
            Self::ChunkExtensionsTooLong => "chunk_extensions_too_long",
            Self::ChunkEnd => "bad_chunk_end",
            Self::Trailer(error) => error.reason(),
            Self::TrailersTooLong => "trailers_too_long",
            Self::FramingTrailer => "framing_trailer",
        }
    }
}

/// What [`BodyReader::step`] found in its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Drop `consumed` bytes of the input, then more bytes are needed.
    NeedMore { consumed: usize },
    /// The payload is `input[start..start + len]`, `len` more than 0; drop `start + len` bytes and step again.
    Data { start: usize, len: usize },
    /// Drop `consumed` bytes; the body has ended. What follows is another message.
    Done { consumed: usize },
}

pub struct BodyReader {
    state: State,
    limits: BodyLimits,
    /// Also of white space and zeros that a size does not need.
    extension_bytes: usize,
    is_lenient: bool,
    quirks: Quirks,
    /// Trailer lines as they came; empty for most bodies.
    trailer_block: Vec<u8>,
    trailers: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    /// More than 0 bytes are left.
    Length(u64),
    UntilClose,
    Size {
        size: u64,
        digits: u8,
    },
    /// White space behind a size.
    SizeSpace {
        size: u64,
    },
    Extension {
        size: u64,
        at: Extension,
    },
    /// The CR behind a size was seen.
    SizeLf {
        size: u64,
    },
    /// More than 0 bytes of this chunk are left.
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

/// Where in `;name[=token|="quoted"]` the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Token,
    Quoted,
    QuotedPair,
    QuotedEnd,
    /// Not understood; it ends with its line.
    Skipped,
}

impl BodyReader {
    pub fn new(length: BodyLength, limits: &BodyLimits) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(length) => State::Length(length),
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
            BodyLength::UntilClose => State::UntilClose,
        };
        Self {
            state,
            limits: *limits,
            extension_bytes: 0,
            is_lenient: false,
            quirks: Quirks::default(),
            trailer_block: Vec::new(),
            trailers: Fields::default(),
        }
    }

    /// Of an upstream's response, which may have quirks.
    pub fn of_response(length: BodyLength, limits: &BodyLimits) -> Self {
        Self { is_lenient: true, ..Self::new(length, limits) }
    }

    /// What it had until now.
    pub fn quirks(&self) -> Quirks {
        self.quirks
    }

    /// Reads on. After an error the connection is of no more use, and neither is this reader.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok(Step::Done { consumed: at }),
                State::Length(left) | State::Data(left) if at < input.len() => {
                    let len = (input.len() - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.took(left, len);
                    return Ok(Step::Data { start: at, len });
                }
                State::UntilClose if at < input.len() => {
                    return Ok(Step::Data { start: at, len: input.len() - at });
                }
                State::Trailers => {
                    at += self.read_trailers(&input[at..])?;
                    if self.state == State::Trailers {
                        return Ok(Step::NeedMore { consumed: at });
                    }
                }
                _ => {
                    let Some(&byte) = input.get(at) else { return Ok(Step::NeedMore { consumed: at }) };
                    self.state = self.after(byte)?;
                    at += 1;
                }
            }
        }
    }

    /// The connection has ended: fine for a body that ends with it, an error for one that is not complete.
    pub fn finish_on_eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is still to come of a body of known length.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Empty until the body is done. Fields that may not be trailers are left out.
    pub fn trailers(&self) -> &Fields {
        &self.trailers
    }

    pub fn take_trailers(&mut self) -> Fields {
        std::mem::take(&mut self.trailers)
    }

    fn took(&mut self, left: u64, len: usize) {
        let left = left - len as u64;
        self.state = match self.state {
            State::Data(_) if left == 0 => State::DataCr,
            State::Data(_) => State::Data(left),
            _ if left == 0 => State::Done,
            _ => State::Length(left),
        };
    }

    /// The state behind one byte of chunk framing.
    fn after(&mut self, byte: u8) -> Result<State, BodyError> {
        Ok(match self.state {
            State::Size { size, digits } => match (byte as char).to_digit(16) {
                Some(digit) if digits < SIZE_DIGITS_MAX || self.is_lenient => {
                    if digits >= SIZE_DIGITS_MAX {
                        self.count_extension_byte()?;
                        self.quirks.add(Quirk::ChunkSizeZeros);
                    }
                    // Not above 63 bits: some peers' sizes are signed.
                    let size = size.checked_mul(16).map(|size| size + u64::from(digit));
                    let size = size.filter(|&size| size <= i64::MAX as u64).ok_or(BodyError::ChunkSize)?;
                    State::Size { size, digits: digits.saturating_add(1) }
                }
                None if byte == b'\r' && digits > 0 => State::SizeLf { size },
                None if byte == b';' && digits > 0 => {
                    self.count_extension_byte()?;
                    State::Extension { size, at: Extension::NameStart }
                }
                None if is_space(byte) && digits > 0 && self.is_lenient => {
                    self.count_extension_byte()?;
                    self.quirks.add(Quirk::ChunkSizeSpace);
                    State::SizeSpace { size }
                }
                _ => return Err(BodyError::ChunkSize),
            },
            State::SizeSpace { size } => match byte {
                b'\r' => State::SizeLf { size },
                b';' | b' ' | b'\t' => {
                    self.count_extension_byte()?;
                    match byte {
                        b';' => State::Extension { size, at: Extension::NameStart },
                        _ => State::SizeSpace { size },
                    }
                }
                _ => return Err(BodyError::ChunkSize),
            },
            State::Extension { size, at: Extension::Name | Extension::Token | Extension::QuotedEnd }
                if byte == b'\r' =>
            {
                State::SizeLf { size }
            }
            State::Extension { size, at } => {
                self.count_extension_byte()?;
                match at.after(byte) {
                    Some(at) => State::Extension { size, at },
                    None if self.is_lenient => self.skip_extension(size, byte)?,
                    None => return Err(BodyError::ChunkExtension),
                }
            }
            State::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => State::Trailers,
                (b'\n', _) => State::Data(size),
                _ => return Err(BodyError::ChunkSize),
            },
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { size: 0, digits: 0 },
            State::DataCr | State::DataLf => return Err(BodyError::ChunkEnd),
            state @ (State::Done | State::Length(_) | State::UntilClose | State::Data(_) | State::Trailers) => state,
        })
    }

    /// An extension that is not understood is ignored (RFC 9112 section 7.1.1); where its line ends nobody doubts.
    fn skip_extension(&mut self, size: u64, byte: u8) -> Result<State, BodyError> {
        self.quirks.add(Quirk::ChunkExtension);
        match byte {
            b'\r' => Ok(State::SizeLf { size }),
            0x7f => Err(BodyError::ChunkExtension),
            b'\t' | b' '.. => Ok(State::Extension { size, at: Extension::Skipped }),
            _ => Err(BodyError::ChunkExtension),
        }
    }

    fn count_extension_byte(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > self.limits.chunk_extension_bytes {
            return Err(BodyError::ChunkExtensionsTooLong);
        }
        Ok(())
    }

    /// Collects lines up to the empty one and takes them apart; returns how many bytes it took.
    fn read_trailers(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let mut taken = 0;
        while taken < input.len() && self.state == State::Trailers {
            let rest = &input[taken..];
            let piece = &rest[..memchr::memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1)];
            let checked = self.trailer_block.len();
            // The empty line at the end is not counted: a limit of 0 still lets a body end.
            if checked + piece.len() > self.limits.trailer_bytes.saturating_add(2) {
                return Err(BodyError::TrailersTooLong);
            }
            self.trailer_block.extend_from_slice(piece);
            taken += piece.len();
            check_bytes(&self.trailer_block, checked)?;
            if self.trailer_block == b"\r\n" || self.trailer_block.ends_with(b"\n\r\n") {
                fields::parse(&self.trailer_block, self.limits.header_count, &mut self.trailers)?;
                if self.trailers.iter().any(|trailer| changes_framing(&trailer)) {
                    return Err(BodyError::FramingTrailer);
                }
                self.trailers.retain(|trailer| may_be_trailer(&trailer));
                self.state = State::Done;
            }
        }
        Ok(taken)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

impl Extension {
    fn after(self, byte: u8) -> Option<Self> {
        let token = bytes::is(byte, bytes::TOKEN);
        match (self, byte) {
            (Self::NameStart | Self::Name, _) if token => Some(Self::Name),
            (Self::ValueStart | Self::Token, _) if token => Some(Self::Token),
            (Self::Name, b'=') => Some(Self::ValueStart),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::Quoted, b'"') => Some(Self::QuotedEnd),
            (Self::Quoted, b'\\') => Some(Self::QuotedPair),
            (Self::Quoted | Self::QuotedPair, b' '..=b'~') => Some(Self::Quoted),
            (Self::Name | Self::Token | Self::QuotedEnd, b';') => Some(Self::NameStart),
            _ => None,
        }
    }
}

/// These in a trailer are an attack or a broken peer; a reader that merges trailers into the head would act on them.
pub(in crate::http) fn changes_framing(trailer: &FieldRef<'_>) -> bool {
    matches!(trailer.known, Known::ContentLength | Known::TransferEncoding | Known::Host)
}

/// RFC 9110 section 6.5.1: not what routes, frames, authenticates, or says how to process the content. These are
/// dropped, as that section allows a recipient to do, since the body itself is sound.
pub(in crate::http) fn may_be_trailer(trailer: &FieldRef<'_>) -> bool {
    const FORBIDDEN: [&[u8]; 19] = [
        b"age",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expires",
        b"location",
        b"max-forwards",
        b"pragma",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"via",
        b"www-authenticate",
        b"x-real-ip",
    ];
    const PREFIXES: [&[u8]; 2] = [b"if-", b"x-forwarded-"];
    // Every name the gateway itself knows is one it acts on.
    trailer.known == Known::Other
        && !FORBIDDEN.iter().any(|name| trailer.name.eq_ignore_ascii_case(name))
        && !PREFIXES.iter().any(|prefix| {
            trailer.name.get(..prefix.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix))
        })
}

#[cfg(test)]
mod tests;
