//! `Authorization: Bearer TOKEN` (RFC 6750, section 2.1).

use crate::http::head::{Fields, Known};

const SCHEME: &[u8] = b"Bearer";

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBearer {
    /// No credentials of any kind.
    Missing,
    /// Of another scheme, or of several lines: they could be read differently behind us, and count as none.
    Other,
    /// Nothing stands behind the scheme.
    Empty,
}

/// What follows `Bearer `, in this case.
pub fn bearer(fields: &Fields) -> Result<&[u8], NoBearer> {
    token(fields, |scheme| scheme == SCHEME)
}

/// The same, with a scheme in any case (RFC 9110, section 11.1).
pub fn bearer_in_any_case(fields: &Fields) -> Result<&[u8], NoBearer> {
    token(fields, |scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

fn token(fields: &Fields, is_scheme: impl FnOnce(&[u8]) -> bool) -> Result<&[u8], NoBearer> {
    let mut values = fields.known_values(Known::Authorization);
    let value = values.next().ok_or(NoBearer::Missing)?;
    if values.next().is_some() {
        return Err(NoBearer::Other);
    }
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if is_scheme(scheme) => match rest {
            b"" | b" " => Err(NoBearer::Empty),
            [b' ', token @ ..] => Ok(token),
            _ => Err(NoBearer::Other),
        },
        _ => Err(NoBearer::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_behind_one_scheme_and_one_space() {
        use NoBearer::{Empty, Missing, Other};
        let read = |lines: &[&str]| {
            let mut fields = Fields::default();
            lines.iter().for_each(|value| fields.append(b"authorization", value.as_bytes()));
            let owned = |token: Result<&[u8], NoBearer>| token.map(|token| String::from_utf8_lossy(token).into_owned());
            (owned(bearer(&fields)), owned(bearer_in_any_case(&fields)))
        };
        let alike = |lines: &[&str], expected: Result<&str, NoBearer>| {
            let expected = expected.map(str::to_owned);
            assert_eq!(read(lines), (expected.clone(), expected), "{lines:?}");
        };
        alike(&["Bearer t"], Ok("t"));
        alike(&["Bearer  t"], Ok(" t"));
        alike(&[], Err(Missing));
        alike(&["Bearer"], Err(Empty));
        alike(&["Bearer "], Err(Empty));
        alike(&["Bearer t", "Bearer t"], Err(Other));
        alike(&["Bearert"], Err(Other));
        alike(&["Bear"], Err(Other));
        alike(&["Basic t"], Err(Other));
        assert_eq!(read(&["bEARER t"]), (Err(Other), Ok("t".to_owned())));
    }
}
