//! Field lines, of a head or of trailers (RFC 9112 section 5).

use crate::http::bytes;
use crate::http::head::Fields;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("a line ends without CR")]
    BareLf,
    #[error("a CR without LF")]
    BareCr,
    #[error("a control byte")]
    ControlByte,
    #[error("a field line begins with white space")]
    ObsoleteFold,
    #[error("a field name is empty or not a token")]
    Name,
    #[error("a field name is too long")]
    NameTooLong,
    #[error("too many field lines")]
    TooMany,
}

impl FieldError {
    /// 431 where a limit was reached, else 400.
    pub fn status(&self) -> u16 {
        match self {
            Self::NameTooLong | Self::TooMany => 431,
            Self::BareLf | Self::BareCr | Self::ControlByte | Self::ObsoleteFold | Self::Name => 400,
        }
    }

    pub fn reason(&self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::ControlByte => "control_byte",
            Self::ObsoleteFold => "obsolete_fold",
            Self::Name => "bad_field_name",
            Self::NameTooLong => "field_name_too_long",
            Self::TooMany => "too_many_fields",
        }
    }
}

/// Takes apart the field lines in `block`, which `check_bytes` let pass and which ends with an empty line.
pub fn parse(block: &[u8], count_max: usize, fields: &mut Fields) -> Result<(), FieldError> {
    fields.load(block);
    let mut at = 0;
    while block[at..] != *b"\r\n" {
        let line = &block[at..];
        let name_len = line.iter().take_while(|&&byte| bytes::is(byte, bytes::TOKEN)).count();
        match (name_len, line[name_len]) {
            (0, b' ' | b'\t') => return Err(FieldError::ObsoleteFold),
            (1.., b':') => {}
            _ => return Err(FieldError::Name),
        }
        if name_len > usize::from(u16::MAX) {
            return Err(FieldError::NameTooLong);
        }
        if fields.len() == count_max {
            return Err(FieldError::TooMany);
        }
        let after_colon = &line[name_len + 1..];
        let line_len = memchr::memchr(b'\n', after_colon).map_or(after_colon.len(), |lf| lf + 1);
        let mut value = &after_colon[..line_len];
        while let [b' ' | b'\t', rest @ ..] = value {
            value = rest;
        }
        let value_at = at + name_len + 1 + line_len - value.len();
        while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = value {
            value = rest;
        }
        fields.push_range(at..at + name_len, value_at..value_at + value.len());
        at += name_len + 1 + line_len;
    }
    Ok(())
}
