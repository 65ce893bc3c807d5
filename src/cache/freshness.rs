//! How old a response is and how long it is fresh (RFC 9111 section 4.2).

use super::{
    Millis,
    control::{Control, SECONDS_MAX},
    date,
};
use crate::http::{
    bytes::decimal,
    head::{Fields, Known},
};

/// No age and no lifetime counts for more: what is reckoned with them fits, whoever says them.
pub const TIME_MAX: Millis = SECONDS_MAX * 1000;

/// When the request went out, and when its response's head had come.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged {
    pub asked: Millis,
    pub answered: Millis,
}

/// How long a response is fresh that does not say so itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsaid {
    /// As long as the policy keeps it.
    #[default]
    Ttl,
    /// A tenth of its age since it was modified (section 4.2.2), where that is known; else not at all.
    Heuristic,
    /// Not at all: it is asked after each time.
    Never,
}

/// The age of a response when it came (section 4.2.3). An age that cannot be read makes the response as old as it can be.
pub fn initial_age(fields: &Fields, exchanged: Exchanged) -> Millis {
    let said = match says_age(fields) {
        Ok(seconds) => seconds.unwrap_or(0).saturating_mul(1000),
        Err(Unreadable) => return TIME_MAX,
    };
    let apparent = match date_of(fields, exchanged.answered) {
        Some(date) => exchanged.answered.saturating_sub(date.saturating_mul(1000).saturating_add(999)),
        None => 0,
    };
    let delay = exchanged.answered.saturating_sub(exchanged.asked);
    apparent.max(said.saturating_add(delay)).min(TIME_MAX)
}

struct Unreadable;

fn says_age(fields: &Fields) -> Result<Option<u64>, Unreadable> {
    let mut values = fields.values(b"age");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.iter().all(u8::is_ascii_digit) && !value.is_empty() => {
            Ok(Some(decimal(value).unwrap_or(SECONDS_MAX)))
        }
        (Some(_), _) => Err(Unreadable),
    }
}

/// How long it says it is fresh from when it was made, for a shared cache: `s-maxage`, else `max-age`, else `Expires`. `None`:
/// it does not say.
pub fn said_lifetime(fields: &Fields, control: &Control, answered: Millis) -> Option<Millis> {
    if let Some(seconds) = control.s_maxage.or(control.max_age) {
        return Some(at_most(seconds, 1000));
    }
    let mut values = fields.values(b"expires");
    let expires = values.next()?;
    // One that cannot be read is past (section 5.3), as are several.
    let expires = date::parse(expires, answered / 1000).filter(|_| values.next().is_none());
    let made = date_of(fields, answered).unwrap_or(answered / 1000);
    Some(expires.map_or(0, |expires| at_most(expires.saturating_sub(made), 1000)))
}

/// What is assumed where it does not say; `None`: no limit of its own.
pub fn assumed_lifetime(fields: &Fields, unsaid: Unsaid, answered: Millis) -> Option<Millis> {
    match unsaid {
        Unsaid::Ttl => None,
        Unsaid::Never => Some(0),
        Unsaid::Heuristic => {
            let modified = fields.get(b"last-modified").and_then(|value| date::parse(value, answered / 1000));
            let made = date_of(fields, answered).unwrap_or(answered / 1000);
            Some(modified.map_or(0, |modified| at_most(made.saturating_sub(modified), 100)))
        }
    }
}

fn at_most(seconds: u64, millis: Millis) -> Millis {
    seconds.saturating_mul(millis).min(TIME_MAX)
}

fn date_of(fields: &Fields, now: Millis) -> Option<u64> {
    fields.known(Known::Date).and_then(|value| date::parse(value, now / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::fields;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: Millis = 784_111_777_000;

    #[test]
    fn age_is_the_larger_of_what_is_said_and_what_appears() {
        let exchanged = Exchanged { asked: NOW - 2000, answered: NOW };
        for (lines, expected) in [
            (&[][..], 2000),
            (&[("age", "7")], 9000),
            (&[("age", "0")], 2000),
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT")], 9001),
            (&[("date", "Sun, 06 Nov 1994 08:49:27 GMT"), ("age", "20")], 22_000),
            (&[("date", "Sun, 06 Nov 1994 09:00:00 GMT")], 2000),
            (&[("date", "foo")], 2000),
            (&[("age", "abc")], TIME_MAX),
            (&[("age", "-7200")], TIME_MAX),
            (&[("age", "7200.0")], TIME_MAX),
            (&[("age", "7200;foo=bar")], TIME_MAX),
            (&[("age", "0"), ("age", "0")], TIME_MAX),
            (&[("age", "")], TIME_MAX),
        ] {
            assert_eq!(initial_age(&fields(lines), exchanged), expected, "{lines:?}");
        }
        for age in ["9223372036854775", "9223372036854776", "9223372036854775807", "99999999999999999999"] {
            assert_eq!(initial_age(&fields(&[("age", age)]), exchanged), TIME_MAX, "{age}");
        }
    }

    #[test]
    fn the_shared_lifetime_goes_first_then_the_other_then_the_date() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let later = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        for (control, lines, expected) in [
            ("", &[][..], None),
            ("max-age=5", &[], Some(5000)),
            ("max-age=5, s-maxage=9", &[], Some(9000)),
            ("s-maxage=1, max-age=3600", &[date, later], Some(1000)),
            ("max-age=0", &[date, later], Some(0)),
            ("", &[date, later], Some(60_000)),
            ("", &[later], Some(60_000)),
            ("", &[date, ("expires", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(0)),
            ("", &[date, ("expires", "Sun, 06 Nov 1993 08:49:37 GMT")], Some(0)),
            ("", &[date, ("expires", "0")], Some(0)),
            ("", &[date, later, later], Some(0)),
            ("", &[("date", "foo"), later], Some(60_000)),
        ] {
            let control = Control::parse(std::iter::once(control.as_bytes()));
            assert_eq!(said_lifetime(&fields(lines), &control, NOW), expected, "{control:?} {lines:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_assumed_as_it_is_wanted() {
        let modified =
            fields(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("last-modified", "Sun, 06 Nov 1994 08:39:37 GMT")]);
        assert_eq!(assumed_lifetime(&modified, Unsaid::Ttl, NOW), None);
        assert_eq!(assumed_lifetime(&modified, Unsaid::Never, NOW), Some(0));
        assert_eq!(assumed_lifetime(&modified, Unsaid::Heuristic, NOW), Some(60_000));
        assert_eq!(assumed_lifetime(&fields(&[]), Unsaid::Heuristic, NOW), Some(0));
    }
}
