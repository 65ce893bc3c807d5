//! Dates as HTTP writes them (RFC 9110 section 5.6.7), in seconds since 1970.

use crate::http::bytes::decimal;

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAY: u64 = 86_400;

/// All three forms; what is none of them is no date. `now` tells which century two digits mean.
pub fn parse(text: &[u8], now: u64) -> Option<u64> {
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).take(7).collect();
    match words[..] {
        // Sun, 06 Nov 1994 08:49:37 GMT
        [weekday, day, month, year, time, b"GMT"] if weekday.ends_with(b",") && year.len() == 4 => {
            seconds(decimal(year)?, month, day, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        [weekday, date, time, b"GMT"] if weekday.ends_with(b",") => {
            let mut parts = date.split(|byte| *byte == b'-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            if parts.next().is_some() || year.len() != 2 {
                return None;
            }
            seconds(century(decimal(year)?, now), month, day, time)
        }
        // Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] if year.len() == 4 => seconds(decimal(year)?, month, day, time),
        _ => None,
    }
}

/// What appears to be more than 50 years ahead is of the century before.
fn century(two_digits: u64, now: u64) -> u64 {
    let this_year = 1970 + now / (DAY * 365 + DAY / 4);
    let year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 { year - 100 } else { year }
}

fn seconds(year: u64, month: &[u8], day: &[u8], time: &[u8]) -> Option<u64> {
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let day = decimal(day).filter(|day| (1..=31).contains(day))?;
    let mut parts = time.split(|byte| *byte == b':');
    let mut part = |most| parts.next().filter(|part| part.len() == 2).and_then(decimal).filter(|part| *part <= most);
    let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
    if parts.next().is_some() || year < 1970 {
        return None;
    }
    Some(days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
}

/// Days since 1970 of a date of the Gregorian calendar, with years that begin in March.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn all_three_forms_are_read() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse(text.as_bytes(), NOW), Some(784_111_777), "{text}");
        }
        assert_eq!(parse(b"Thu, 01 Jan 1970 00:00:00 GMT", NOW), Some(0));
        assert_eq!(parse(b"Mon, 29 Feb 2016 12:00:00 GMT", NOW), Some(1_456_747_200));
        assert_eq!(parse(b"Monday, 11-Jan-38 11:11:11 GMT", NOW), Some(2_146_821_071));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "-1",
            "foo",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sunday, 06-Nov-94-1 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
        ] {
            assert_eq!(parse(text.as_bytes(), NOW), None, "{text}");
        }
    }
}
