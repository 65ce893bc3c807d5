//! The static table of RFC 7541 appendix A, and how to find a field in it.

use std::sync::LazyLock;

use super::{
    hash::hash,
    kind::{Kind, Pseudo},
};
use crate::http::head::Known;

type Entry = (&'static [u8], &'static [u8], Kind);

/// The field with index 1 comes first.
#[rustfmt::skip]
static ENTRIES: [Entry; LEN] = [
    (b":authority", b"", Kind::Pseudo(Pseudo::Authority)),
    (b":method", b"GET", Kind::Pseudo(Pseudo::Method)),
    (b":method", b"POST", Kind::Pseudo(Pseudo::Method)),
    (b":path", b"/", Kind::Pseudo(Pseudo::Path)),
    (b":path", b"/index.html", Kind::Pseudo(Pseudo::Path)),
    (b":scheme", b"http", Kind::Pseudo(Pseudo::Scheme)),
    (b":scheme", b"https", Kind::Pseudo(Pseudo::Scheme)),
    (b":status", b"200", Kind::Pseudo(Pseudo::Status)),
    (b":status", b"204", Kind::Pseudo(Pseudo::Status)),
    (b":status", b"206", Kind::Pseudo(Pseudo::Status)),
    (b":status", b"304", Kind::Pseudo(Pseudo::Status)),
    (b":status", b"400", Kind::Pseudo(Pseudo::Status)),
    (b":status", b"404", Kind::Pseudo(Pseudo::Status)),
    (b":status", b"500", Kind::Pseudo(Pseudo::Status)),
    (b"accept-charset", b"", Kind::Field(Known::Other)),
    (b"accept-encoding", b"gzip, deflate", Kind::Field(Known::Other)),
    (b"accept-language", b"", Kind::Field(Known::Other)),
    (b"accept-ranges", b"", Kind::Field(Known::Other)),
    (b"accept", b"", Kind::Field(Known::Other)),
    (b"access-control-allow-origin", b"", Kind::Field(Known::Other)),
    (b"age", b"", Kind::Field(Known::Other)),
    (b"allow", b"", Kind::Field(Known::Other)),
    (b"authorization", b"", Kind::Field(Known::Authorization)),
    (b"cache-control", b"", Kind::Field(Known::Other)),
    (b"content-disposition", b"", Kind::Field(Known::Other)),
    (b"content-encoding", b"", Kind::Field(Known::Other)),
    (b"content-language", b"", Kind::Field(Known::Other)),
    (b"content-length", b"", Kind::Field(Known::ContentLength)),
    (b"content-location", b"", Kind::Field(Known::Other)),
    (b"content-range", b"", Kind::Field(Known::Other)),
    (b"content-type", b"", Kind::Field(Known::Other)),
    (b"cookie", b"", Kind::Cookie),
    (b"date", b"", Kind::Field(Known::Date)),
    (b"etag", b"", Kind::Field(Known::Other)),
    (b"expect", b"", Kind::Field(Known::Expect)),
    (b"expires", b"", Kind::Field(Known::Other)),
    (b"from", b"", Kind::Field(Known::Other)),
    (b"host", b"", Kind::Field(Known::Host)),
    (b"if-match", b"", Kind::Field(Known::Other)),
    (b"if-modified-since", b"", Kind::Field(Known::Other)),
    (b"if-none-match", b"", Kind::Field(Known::Other)),
    (b"if-range", b"", Kind::Field(Known::Other)),
    (b"if-unmodified-since", b"", Kind::Field(Known::Other)),
    (b"last-modified", b"", Kind::Field(Known::Other)),
    (b"link", b"", Kind::Field(Known::Other)),
    (b"location", b"", Kind::Field(Known::Other)),
    (b"max-forwards", b"", Kind::Field(Known::Other)),
    (b"proxy-authenticate", b"", Kind::Field(Known::ProxyAuthenticate)),
    (b"proxy-authorization", b"", Kind::Field(Known::ProxyAuthorization)),
    (b"range", b"", Kind::Field(Known::Other)),
    (b"referer", b"", Kind::Field(Known::Other)),
    (b"refresh", b"", Kind::Field(Known::Other)),
    (b"retry-after", b"", Kind::Field(Known::Other)),
    (b"server", b"", Kind::Field(Known::Server)),
    (b"set-cookie", b"", Kind::Field(Known::Other)),
    (b"strict-transport-security", b"", Kind::Field(Known::Other)),
    (b"transfer-encoding", b"", Kind::ConnectionSpecific),
    (b"user-agent", b"", Kind::Field(Known::Other)),
    (b"vary", b"", Kind::Field(Known::Other)),
    (b"via", b"", Kind::Field(Known::Other)),
    (b"www-authenticate", b"", Kind::Field(Known::Other)),
];

pub const LEN: usize = 61;

#[inline]
pub fn get(index: usize) -> Option<&'static Entry> {
    ENTRIES.get(index.wrapping_sub(1))
}

/// Index of each name's first entry by the remainder of its hash; the rare second name of a remainder stands behind it.
static BY_HASH: LazyLock<[u8; SLOTS]> = LazyLock::new(|| {
    let mut slots = [0; SLOTS];
    for (at, &(name, ..)) in ENTRIES.iter().enumerate() {
        if at > 0 && ENTRIES[at - 1].0 == name {
            continue;
        }
        let mut slot = hash(name) as usize % SLOTS;
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = at as u8 + 1;
    }
    slots
});

const SLOTS: usize = 256;

/// The index of a name's first entry.
#[inline]
pub fn find(name: &[u8], name_hash: u32) -> Option<usize> {
    let slots = &*BY_HASH;
    let mut slot = name_hash as usize % SLOTS;
    while slots[slot] != 0 {
        let index = usize::from(slots[slot]);
        if ENTRIES[index - 1].0 == name {
            return Some(index);
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

/// The index of the entry with this value, given that of its name's first entry.
#[inline]
pub fn find_value(name_index: usize, value: &[u8]) -> Option<usize> {
    let name = ENTRIES[name_index - 1].0;
    // Only the pseudo-fields and accept-encoding have values; what has none is not sent.
    ENTRIES[name_index - 1..]
        .iter()
        .take_while(|entry| entry.0 == name)
        .position(|entry| !value.is_empty() && entry.1 == value)
        .map(|at| name_index + at)
}

pub fn status(status: u16) -> Option<usize> {
    match status {
        200 => Some(8),
        204 => Some(9),
        206 => Some(10),
        304 => Some(11),
        400 => Some(12),
        404 => Some(13),
        500 => Some(14),
        _ => None,
    }
}

/// RFC 7541 section 7.1.3: credentials stay out of every table on their way.
pub fn is_sensitive(name_index: usize) -> bool {
    const AUTHORIZATION: usize = 23;
    const COOKIE: usize = 32;
    const PROXY_AUTHORIZATION: usize = 49;
    const SET_COOKIE: usize = 55;
    matches!(name_index, AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION | SET_COOKIE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_its_kind_and_is_found() {
        for (at, &(name, value, kind)) in ENTRIES.iter().enumerate() {
            assert_eq!(Kind::of(name), kind);
            let first = find(name, hash(name)).unwrap();
            assert!(first <= at + 1 && ENTRIES[first - 1].0 == name);
            if !value.is_empty() {
                assert_eq!(find_value(first, value), Some(at + 1));
            }
            if name == b":status" {
                assert_eq!(status(std::str::from_utf8(value).unwrap().parse().unwrap()), Some(at + 1));
            }
        }
        for name in [&b""[..], b"x", b"content", b":protocol", b"x-forwarded-for"] {
            assert_eq!(find(name, hash(name)), None);
        }
        for name in [&b"authorization"[..], b"cookie", b"proxy-authorization", b"set-cookie"] {
            assert!(is_sensitive(find(name, hash(name)).unwrap()));
        }
    }
}
