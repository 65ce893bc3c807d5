//! The path of a request target: which bytes it may have, and its one normal form.
//!
//! Routes, policies, the access log and the upstream all see the normal form (RFC 3986 section 6.2.2), so `/%61dmin` and
//! `/a/%2e%2e/admin` cannot be one path here and another there. Escapes of other bytes stay: an upstream may tell `%2F`
//! from `/`.

use super::bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the path does not start with a slash")]
    NotAbsolute,
    #[error("the path has a byte that must be escaped")]
    Byte,
    #[error("the path has a percent sign without two hexadecimal digits")]
    Escape,
    #[error("the path has an escaped NUL")]
    EscapedNul,
}

/// What a connection speaks, and what an absolute target names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    /// The port that an authority without one means.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Writes the path's normal form to `out` and returns true; returns false, with nothing in `out`, where the path is its
/// normal form already. In it no escape is of a letter, a digit or `-._~`, the hexadecimal digits of the others are in upper
/// case, what a path may not hold as it is (`|`) is escaped, and there is no dot segment (RFC 3986 section 5.2.4): `..` at the
/// root stays there, and repeated slashes are kept. The path has passed [`check_path`], which also said whether it is
/// plain, or is `*`.
pub fn normalise(path: &[u8], is_plain: bool, out: &mut Vec<u8>) -> bool {
    out.clear();
    if path == b"*" || is_plain && !has_dot_segments(path) {
        return false;
    }
    // Once: what is decoded here is decoded no further.
    spell(path, out);
    if has_dot_segments(out) {
        remove_dot_segments(out);
    }
    let changed = out != path;
    if !changed {
        out.clear();
    }
    changed
}

/// Refuses a path with a byte or an escape that parsers read differently. True: it is plain, and but for dot segments its own
/// normal form.
pub fn check_path(path: &[u8]) -> Result<bool, TargetError> {
    if path.first() != Some(&b'/') {
        return Err(TargetError::NotAbsolute);
    }
    let common = bytes::common(path, bytes::PATH | bytes::PLAIN_PATH);
    if common & bytes::PLAIN_PATH != 0 {
        return Ok(true);
    }
    if common & bytes::PATH == 0 {
        return Err(TargetError::Byte);
    }
    let mut rest = path;
    while let Some(at) = bytes::find::<b'%'>(rest) {
        rest = match &rest[at + 1..] {
            [b'0', b'0', ..] => return Err(TargetError::EscapedNul),
            [high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            _ => return Err(TargetError::Escape),
        };
    }
    Ok(false)
}

/// Whether a path that starts with a slash, or is empty, has a segment `.` or `..`.
pub fn has_dot_segments(path: &[u8]) -> bool {
    let is_segment = |rest: &[u8]| matches!(rest, [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..]);
    memchr::memchr_iter(b'.', path).any(|at| at > 0 && path[at - 1] == b'/' && is_segment(&path[at..]))
}

/// Adds the text with each byte in its one spelling: as it is, or as an escape in upper case.
pub fn spell(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match (first, behind.first_chunk().and_then(escaped)) {
            (b'%', Some(byte)) => {
                rest = &behind[2..];
                match bytes::is(byte, bytes::UNRESERVED) {
                    true => out.push(byte),
                    false => escape(byte, out),
                }
            }
            (b'%', None) => out.push(b'%'),
            _ if bytes::is(first, bytes::PLAIN_PATH) => out.push(first),
            _ => escape(first, out),
        }
    }
}

/// The byte that these two digits stand for.
fn escaped(digits: &[u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|byte| (byte as char).to_digit(16));
    Some((high? * 16 + low?) as u8)
}

/// Adds `%` and the two digits of the byte.
pub fn escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// RFC 3986 section 5.2.4, of a path that starts with a slash. A dot segment at the end leaves a slash behind.
fn remove_dot_segments(path: &mut Vec<u8>) {
    // What is kept never ends behind where is read: a segment is moved whole, with its slash.
    let (mut read, mut kept) = (0, 0);
    let mut ends_in_dots = false;
    while read < path.len() {
        let end = memchr::memchr(b'/', &path[read + 1..]).map_or(path.len(), |at| read + 1 + at);
        ends_in_dots = true;
        match &path[read + 1..end] {
            b"." => {}
            b".." => kept = memchr::memrchr(b'/', &path[..kept]).unwrap_or(0),
            _ => {
                path.copy_within(read..end, kept);
                kept += end - read;
                ends_in_dots = false;
            }
        }
        read = end;
    }
    path.truncate(kept);
    if ends_in_dots {
        path.push(b'/');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> String {
        let mut out = b"left over".to_vec();
        let is_plain = path == "*" || check_path(path.as_bytes()).expect("a path");
        let changed = normalise(path.as_bytes(), is_plain, &mut out);
        assert_eq!(changed, !out.is_empty(), "{path}");
        if changed { String::from_utf8(out).unwrap() } else { path.to_owned() }
    }

    #[test]
    fn dot_segments_go() {
        for (path, expected) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/../..", "/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/%2E./b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a//b", "/a//b"),
            ("//", "//"),
            ("/a//../b", "/a/b"),
            ("//../a", "/a"),
            ("/./", "/"),
            ("/././/", "//"),
            ("/...", "/..."),
            ("/.../a", "/.../a"),
            ("/.a/..b/c..", "/.a/..b/c.."),
            ("/a%2e", "/a."),
            ("/%2e%2e%2e", "/..."),
            ("/a%2Fb/..%2F", "/a%2Fb/..%2F"),
            ("/a%5C..%5Cb", "/a%5C..%5Cb"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/..;/a", "/..;/a"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn each_byte_has_one_spelling() {
        for (path, expected) in [
            ("/%61dm%69n", "/admin"),
            ("/%41%5A%61%7A%30%39%2D%2E%5F%7E", "/AZaz09-._~"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%2f%2F%3b%25", "/%2F%2F%3B%25"),
            ("/%2561", "/%2561"),
            ("/%25%36%31", "/%2561"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/a|b", "/a%7Cb"),
            ("/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D"),
            ("/%7c", "/%7C"),
            ("/[0]%5b%5D", "/[0]%5B%5D"),
            ("/%2e%2E/%61/%2e/..", "/"),
            ("/a/%2E%2e", "/"),
            ("/%21%2a:@!$&'()*+,;=", "/%21%2A:@!$&'()*+,;="),
            ("/%7F%80%ff%20%09", "/%7F%80%FF%20%09"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn refused() {
        use TargetError::*;
        for (path, error) in [
            ("", NotAbsolute),
            ("a", NotAbsolute),
            ("**", NotAbsolute),
            ("./a", NotAbsolute),
            ("/a\\b", Byte),
            ("/a b", Byte),
            ("/a?b", Byte),
            ("/a#b", Byte),
            ("/\u{e9}", Byte),
            ("/a\0", Byte),
            ("/a\x7f", Byte),
            ("/a%00", EscapedNul),
            ("/%", Escape),
            ("/%2", Escape),
            ("/%zz", Escape),
            ("/%2g", Escape),
            ("/%%30", Escape),
            ("/a%2/b", Escape),
        ] {
            assert_eq!(check_path(path.as_bytes()), Err(error), "{path}");
        }
        for byte in *b"\"<>^`{|}" {
            assert_eq!(check_path(&[b'/', byte]), Ok(false), "{}", byte as char);
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_has_no_dot_segments_and_is_its_own_normal_form(
            path in "(/|\\.|%2e|%2E|a|%41|%25|41|2e|%2f|\\||%c3){0,20}"
        ) {
            let path = format!("/{path}");
            let once = normal(&path);
            prop_assert!(once.starts_with('/'));
            prop_assert!(once[1..].split('/').all(|segment| !matches!(segment, "." | "..")));
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn any_bytes_are_normalised_or_refused(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(is_plain) = check_path(&path) {
                let mut out = Vec::new();
                let changed = normalise(&path, is_plain, &mut out);
                let normal = if changed { &out } else { &path };
                prop_assert!(check_path(normal).is_ok() && !has_dot_segments(normal));
                prop_assert_eq!(changed, normalise(&path, false, &mut Vec::new()));
            }
        }
    }
}
