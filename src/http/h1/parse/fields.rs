//! Field lines, of a head or of trailers (RFC 9112 section 5).

use crate::http::{
    bytes,
    head::{Fields, Known},
};

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

/// Takes apart the field lines at the start of `input`, up to the empty line behind them, and says how many bytes they all
/// took. `None`: there is no empty line yet. Fields are only what `check_bytes` lets pass too.
pub fn parse(input: &[u8], count_max: usize, fields: &mut Fields) -> Result<Option<usize>, FieldError> {
    fields.clear();
    let parsed = take_apart(input, count_max, fields);
    match parsed {
        Ok(Some(taken)) => fields.load(&input[..taken]),
        // What was found lies nowhere.
        Ok(None) | Err(_) => fields.clear(),
    }
    parsed
}

fn take_apart(input: &[u8], count_max: usize, fields: &mut Fields) -> Result<Option<usize>, FieldError> {
    let mut at = 0;
    while !input[at..].starts_with(b"\r\n") {
        let line = &input[at..];
        match line.first() {
            None => return Ok(None),
            Some(b' ' | b'\t') => return Err(FieldError::ObsoleteFold),
            Some(_) => {}
        }
        let name_len = bytes::find::<b':'>(line).ok_or(FieldError::Name)?;
        if !bytes::is_token(&line[..name_len]) {
            return Err(FieldError::Name);
        }
        if name_len > usize::from(u16::MAX) {
            return Err(FieldError::NameTooLong);
        }
        if fields.len() == count_max {
            return Err(FieldError::TooMany);
        }
        let after_colon = &line[name_len + 1..];
        let Some(lf) = bytes::find::<b'\n'>(after_colon) else { return Ok(None) };
        let line_len = lf + 1;
        // The usual line ends so, and what is left of it is taken off one by one.
        let mut value = after_colon[..lf].strip_suffix(b"\r").unwrap_or(&after_colon[..lf]);
        while let [rest @ .., b' ' | b'\t' | b'\r'] = value {
            value = rest;
        }
        let value_end = at + name_len + 1 + value.len();
        while let [b' ' | b'\t', rest @ ..] = value {
            value = rest;
        }
        fields.push_parsed(Known::of(&line[..name_len]), at..at + name_len, value_end - value.len()..value_end);
        at += name_len + 1 + line_len;
    }
    Ok(Some(at + 2))
}
