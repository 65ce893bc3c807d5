//! What the fields say about the message's length and the connection's future (RFC 9112 sections 6, 7 and 9).

use crate::http::{
    bytes,
    head::{Fields, Known, KnownSet, Version},
};

const FRAMING: KnownSet =
    KnownSet::of(&[Known::Connection, Known::ContentLength, Known::Lookalike, Known::TransferEncoding, Known::Upgrade]);

/// `Connection` is compared with every field of the head; a long list would make that costly.
const CONNECTION_OPTIONS_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("Content-Length is not a decimal number that fits 63 bits")]
    BadContentLength,
    #[error("several Content-Length lines")]
    SeveralContentLengths,
    #[error("Transfer-Encoding is other than one `chunked`")]
    BadTransferEncoding,
    #[error("Content-Length beside Transfer-Encoding")]
    LengthAndCoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    #[error("Connection is not a short list of tokens")]
    BadConnection,
    #[error("a field name that some read as a framing field's")]
    Lookalike,
}

impl FramingError {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadContentLength => "bad_content_length",
            Self::SeveralContentLengths => "several_content_lengths",
            Self::BadTransferEncoding => "bad_transfer_encoding",
            Self::LengthAndCoding => "content_length_and_transfer_encoding",
            Self::CodingInHttp10 => "transfer_encoding_in_http10",
            Self::BadConnection => "bad_connection_field",
            Self::Lookalike => "framing_lookalike",
        }
    }
}

/// What the framing fields say, each of them legal.
#[derive(Debug, Default)]
pub struct Framing {
    pub content_length: Option<u64>,
    pub chunked: bool,
    pub keep_alive: bool,
    /// `Connection: upgrade` with `Upgrade: websocket` and nothing else, in HTTP/1.1.
    pub websocket: bool,
}

impl Framing {
    pub fn of(fields: &Fields, version: Version) -> Result<Self, FramingError> {
        let mut framing = Self::default();
        if !fields.names().meets(FRAMING) {
            framing.keep_alive = version == Version::Http11;
            return Ok(framing);
        }
        let mut connection = Connection::default();
        let mut upgrades = 0;
        let mut names_websocket = false;
        for field in fields.iter() {
            match field.known {
                Known::ContentLength if framing.content_length.is_some() => {
                    return Err(FramingError::SeveralContentLengths);
                }
                Known::ContentLength => {
                    let length = bytes::decimal(field.value).ok_or(FramingError::BadContentLength)?;
                    framing.content_length = Some(length);
                }
                Known::TransferEncoding => {
                    if framing.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(FramingError::BadTransferEncoding);
                    }
                    framing.chunked = true;
                }
                Known::Connection => connection.read(field.value)?,
                Known::Upgrade => {
                    upgrades += 1;
                    names_websocket = field.value.eq_ignore_ascii_case(b"websocket");
                }
                Known::Lookalike => return Err(FramingError::Lookalike),
                _ => {}
            }
        }
        if framing.chunked && version == Version::Http10 {
            return Err(FramingError::CodingInHttp10);
        }
        if framing.chunked && framing.content_length.is_some() {
            return Err(FramingError::LengthAndCoding);
        }
        framing.keep_alive = !connection.close && (version == Version::Http11 || connection.keep_alive);
        framing.websocket = version == Version::Http11 && connection.upgrade && upgrades == 1 && names_websocket;
        Ok(framing)
    }
}

/// The options of all `Connection` lines.
#[derive(Default)]
struct Connection {
    count: usize,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Connection {
    fn read(&mut self, value: &[u8]) -> Result<(), FramingError> {
        // What nearly all say who say anything.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.count += 1;
            self.keep_alive = true;
            return Ok(());
        }
        for option in bytes::list(value) {
            self.count += 1;
            if self.count > CONNECTION_OPTIONS_MAX || !bytes::is_token(option) {
                return Err(FramingError::BadConnection);
            }
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }
}
