//! Conditions of a request that a cache answers itself (RFC 9111 section 4.3.2): `If-None-Match` and `If-Modified-Since`.

use super::{Millis, control::Members, date};
use crate::http::head::{Fields, Known};

/// Whether the client has what is stored, so that 304 is the answer.
pub fn is_not_modified(request: &Fields, stored: &Fields, now: Millis) -> bool {
    let mut tags = request.values(b"if-none-match").peekable();
    if tags.peek().is_some() {
        // With it the other counts for nothing (RFC 9110 section 13.1.3).
        let etag = stored.get(b"etag");
        return tags.flat_map(Members).any(|tag| tag == b"*" || etag.is_some_and(|etag| is_same_weakly(etag, tag)));
    }
    let parsed = |value| date::parse(value, now / 1000);
    let Some(since) = request.get(b"if-modified-since").and_then(parsed) else { return false };
    let modified = stored.get(b"last-modified").or_else(|| stored.known(Known::Date)).and_then(parsed);
    modified.is_some_and(|modified| modified <= since)
}

/// Conditions that are not a cache's to judge: only the origin knows what is there now.
pub fn is_for_the_origin(request: &Fields) -> bool {
    request.get(b"if-match").is_some() || request.get(b"if-unmodified-since").is_some()
}

/// RFC 9110 section 8.8.3.2.
fn is_same_weakly(one: &[u8], other: &[u8]) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").unwrap_or(tag);
    is_tag(opaque(one)) && opaque(one) == opaque(other)
}

pub fn is_same_strongly(one: &[u8], other: &[u8]) -> bool {
    is_tag(one) && one == other
}

fn is_tag(opaque: &[u8]) -> bool {
    matches!(opaque, [b'"', .., b'"'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::fields;

    #[test]
    fn the_client_has_it_by_tag_or_else_by_date() {
        const NOW: Millis = 1_800_000_000_000;
        const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const NEW: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        let tagged = &[("etag", "\"a\""), ("last-modified", OLD)][..];
        for (request, stored, expected) in [
            (&[("if-none-match", "\"a\"")][..], tagged, true),
            (&[("if-none-match", "W/\"a\"")], tagged, true),
            (&[("if-none-match", "\"b\", \"a\", \"c\"")], tagged, true),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], tagged, true),
            (&[("if-none-match", "\"b,\\\"a\\\"\"")], tagged, false),
            (&[("if-none-match", "*")], tagged, true),
            (&[("if-none-match", "\"b\"")], tagged, false),
            (&[("if-none-match", "a")], &[("etag", "a")], false),
            (&[("if-none-match", "\"a\"")], &[], false),
            (&[("if-none-match", "\"b\""), ("if-modified-since", NEW)], tagged, false),
            (&[("if-none-match", "\"a\""), ("if-modified-since", "Sun, 06 Nov 1993 08:49:37 GMT")], tagged, true),
            (&[("if-modified-since", OLD)], tagged, true),
            (&[("if-modified-since", NEW)], tagged, true),
            (&[("if-modified-since", OLD)], &[("last-modified", NEW)], false),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], tagged, true),
            (&[("if-modified-since", "soon")], tagged, false),
            (&[("if-modified-since", NEW)], &[("date", OLD)], true),
            (&[], tagged, false),
        ] {
            assert_eq!(is_not_modified(&fields(request), &fields(stored), NOW), expected, "{request:?} {stored:?}");
        }
    }
}
