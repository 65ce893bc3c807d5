//! A point in time as people write it: RFC 3339, or seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-28T21:30:00Z`, with any offset and fractions of a second, or `1795901400`; not before 1970.
pub fn parse(text: &str) -> Result<SystemTime, String> {
    let wrong = || format!("`{text}` is no time: expected `2026-11-28T21:30:00Z`, or seconds since 1970");
    let seconds = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { rfc_3339(text) };
    let since = seconds.map(Duration::from_secs).and_then(|since| UNIX_EPOCH.checked_add(since));
    since.ok_or_else(wrong)
}

/// Fractions are cut off: nobody decides by them.
fn rfc_3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let is_one = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = seconds - offset(zone)?;
    u64::try_from(seconds).ok().filter(|_| is_one)
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let (sign, zone) = zone.strip_prefix('+').map(|zone| (1, zone)).or_else(|| Some((-1, zone.strip_prefix('-')?)))?;
    let [hours, minutes] = numbers(zone, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// So many numbers with exactly so many digits each.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let is_number =
        |(part, digits): (&&str, &usize)| part.len() == *digits && part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.len() != N || !parts.iter().zip(&digits).all(is_number) {
        return None;
    }
    let numbers: Vec<i64> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    numbers.try_into().ok()
}

fn days_of(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(next_year, next, 1) - days(year, month, 1)
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar: the way back of `telemetry::access_log::civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_log::civil;

    #[test]
    fn times_are_read_in_both_forms() {
        for (text, seconds) in [
            ("0", 0),
            ("1795901400", 1_795_901_400),
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-28T21:30:00Z", 1_795_901_400),
            ("2026-11-28t21:30:00.999z", 1_795_901_400),
            ("2026-11-28 23:00:00+01:30", 1_795_901_400),
            ("2026-11-28T16:30:00-05:00", 1_795_901_400),
            ("2024-02-29T00:00:00Z", 1_709_164_800),
        ] {
            assert_eq!(parse(text), Ok(UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "now",
            "99999999999999999999",
            "2026-11-28",
            "2026-11-28T21:30:00",
            "2026-11-28T21:30Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-28T24:00:00Z",
            "2026-11-28T21:30:00.Z",
            "2026-11-28T21:30:00+1:00",
            "2026-11-28T21:30:00+00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-+1-28T21:30:00Z",
            "２026-11-28T21:30:00Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_the_one_that_was_written() {
        for day in 0..146_097 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }
}
