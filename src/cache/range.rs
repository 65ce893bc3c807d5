//! A part of a stored body (RFC 9110 section 14): one range of bytes. A request for several is answered with the whole, as it may
//! be (section 14.2).

use std::ops::Range;

use super::{Millis, condition, date};
use crate::http::{bytes::decimal, head::Fields};

/// What of a body a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Bytes(Range<usize>),
    /// Nothing of what it asks for is there.
    Unsatisfiable,
}

/// Of a body of so many bytes. `stored` are the fields of its response: those that `If-Range` is about.
pub fn part(request: &Fields, stored: &Fields, length: usize, now: Millis) -> Part {
    let mut ranges = request.values(b"range");
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    if !if_range_holds(request, stored, now) {
        return Part::Whole;
    }
    parse(range, length)
}

fn parse(range: &[u8], length: usize) -> Part {
    const UNIT: &[u8] = b"bytes=";
    let Some(spec) = range.split_at_checked(UNIT.len()).filter(|(unit, _)| unit.eq_ignore_ascii_case(UNIT)) else {
        return Part::Whole;
    };
    let Some(hyphen) = spec.1.iter().position(|&byte| byte == b'-') else { return Part::Whole };
    let (first, last) = (&spec.1[..hyphen], &spec.1[hyphen + 1..]);
    match (first.is_empty(), decimal(first), last.is_empty(), decimal(last)) {
        // The last so many.
        (true, _, _, Some(0)) => Part::Unsatisfiable,
        (true, _, _, Some(_)) if length == 0 => Part::Unsatisfiable,
        (true, _, _, Some(suffix)) => Part::Bytes(length.saturating_sub(suffix as usize)..length),
        (_, Some(first), true, _) if (first as usize) < length => Part::Bytes(first as usize..length),
        (_, Some(first), true, _) if first as usize >= length => Part::Unsatisfiable,
        (_, Some(first), _, Some(last)) if first > last => Part::Whole,
        (_, Some(first), _, Some(last)) if (first as usize) < length => {
            Part::Bytes(first as usize..length.min(last as usize + 1))
        }
        (_, Some(_), _, Some(_)) => Part::Unsatisfiable,
        _ => Part::Whole,
    }
}

/// Whether the client's part is of this very response (RFC 9110 section 13.1.5): the same strong validator.
fn if_range_holds(request: &Fields, stored: &Fields, now: Millis) -> bool {
    let Some(condition) = request.get(b"if-range") else { return true };
    if condition.first() == Some(&b'"') {
        return stored.get(b"etag").is_some_and(|etag| condition::is_same_strongly(etag, condition));
    }
    let parsed = |value| date::parse(value, now / 1000);
    parsed(condition).is_some_and(|date| stored.get(b"last-modified").and_then(parsed) == Some(date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_out_and_anything_else_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-1", Part::Bytes(0..2)),
            ("Bytes=1-", Part::Bytes(1..11)),
            ("bytes=-1", Part::Bytes(10..11)),
            ("bytes=-50", Part::Bytes(0..11)),
            ("bytes=3-99999", Part::Bytes(3..11)),
            ("bytes=10-10", Part::Bytes(10..11)),
            ("bytes=11-", Part::Unsatisfiable),
            ("bytes=11-12", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=1", Part::Whole),
            ("bytes", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=0-9223372036854775807", Part::Bytes(0..11)),
            ("bytes=0-99999999999999999999", Part::Whole),
        ] {
            assert_eq!(parse(range.as_bytes(), 11), expected, "{range}");
        }
        assert_eq!(parse(b"bytes=-1", 0), Part::Unsatisfiable);
        assert_eq!(parse(b"bytes=0-", 0), Part::Unsatisfiable);
    }

    #[test]
    fn a_part_of_another_response_is_no_part_of_this() {
        const NOW: Millis = 1_800_000_000_000;
        let fields = |lines: &[(&str, &str)]| {
            let mut fields = Fields::default();
            lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
            fields
        };
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (condition, stored, holds) in [
            ("\"a\"", &[("etag", "\"a\"")][..], true),
            ("\"a\"", &[("etag", "\"b\"")], false),
            ("\"a\"", &[("etag", "W/\"a\"")], false),
            ("W/\"a\"", &[("etag", "W/\"a\"")], false),
            ("\"a\"", &[], false),
            (DATE, &[("last-modified", DATE)], true),
            (DATE, &[("last-modified", "Sun, 06 Nov 1994 08:49:36 GMT")], false),
            ("junk", &[("last-modified", "junk")], false),
        ] {
            let request = fields(&[("range", "bytes=0-1"), ("if-range", condition)]);
            let expected = if holds { Part::Bytes(0..2) } else { Part::Whole };
            assert_eq!(part(&request, &fields(stored), 11, NOW), expected, "{condition} {stored:?}");
        }
        let twice = fields(&[("range", "bytes=0-1"), ("range", "bytes=0-2")]);
        assert_eq!(part(&twice, &fields(&[]), 11, NOW), Part::Whole);
    }
}
