//! The path of a request target: which bytes it may have, and its one normal form.
//!
//! Routes, policies and the upstream all see the normal form, so `/a/%2e%2e/admin` cannot be one path here and another
//! there. Escapes other than those of a dot segment stay as they were sent: an upstream may tell `%2F` from `/`.

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

/// Writes the path without its dot segments (RFC 3986 section 5.2.4) to `out` and returns true; returns false, with
/// nothing in `out`, where the path is in its normal form already. `%2e` counts as a dot, repeated slashes are kept,
/// and `..` at the root stays there. The path has passed [`check_path`], or is `*`.
pub fn normalise(path: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    if path == b"*" || !may_have_dot_segments(path) {
        return false;
    }
    // `out` is always empty or starts with a slash. A dot segment at the end leaves a slash behind.
    let mut ends_in_dots = false;
    for segment in path[1..].split(|&byte| byte == b'/') {
        let dots = dots(segment);
        match dots {
            Some(1) => {}
            Some(_) => out.truncate(memchr::memrchr(b'/', out).unwrap_or(0)),
            None => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
        ends_in_dots = dots.is_some();
    }
    if ends_in_dots {
        out.push(b'/');
    }
    let changed = out != path;
    if !changed {
        out.clear();
    }
    changed
}

/// Refuses a path with a byte or an escape that parsers read differently.
pub fn check_path(path: &[u8]) -> Result<(), TargetError> {
    if path.first() != Some(&b'/') {
        return Err(TargetError::NotAbsolute);
    }
    if !bytes::all(path, bytes::PATH) {
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
    Ok(())
}

/// Whether a path that starts with a slash is not in its normal form.
pub fn has_dot_segments(path: &[u8]) -> bool {
    may_have_dot_segments(path) && path.split(|&byte| byte == b'/').any(|segment| dots(segment).is_some())
}

/// A dot segment starts with a dot or an escape right behind a slash.
fn may_have_dot_segments(path: &[u8]) -> bool {
    memchr::memchr2_iter(b'.', b'%', path).any(|at| path[at - 1] == b'/')
}

/// How many dots the segment is made of, if it is a dot segment.
fn dots(segment: &[u8]) -> Option<usize> {
    let mut rest = segment;
    let mut count = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return None,
        };
        count += 1;
    }
    (1..=2).contains(&count).then_some(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> String {
        let mut out = b"left over".to_vec();
        let changed = normalise(path.as_bytes(), &mut out);
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
            ("/a%2e", "/a%2e"),
            ("/%2e%2e%2e", "/%2e%2e%2e"),
            ("/a%2fb/..%2f", "/a%2fb/..%2f"),
            ("/a%5c..%5cb", "/a%5c..%5cb"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/..;/a", "/..;/a"),
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
            assert_eq!(check_path(&[b'/', byte]), Err(Byte), "{}", byte as char);
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_has_no_dot_segments_and_is_its_own_normal_form(path in "(/|\\.|%2e|%2E|a|%41){0,20}") {
            let path = format!("/{path}");
            let once = normal(&path);
            prop_assert!(once.starts_with('/'));
            prop_assert!(once[1..].split('/').all(|segment| dots(segment.as_bytes()).is_none()));
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn any_bytes_are_normalised_or_refused(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            if check_path(&path).is_ok() {
                normalise(&path, &mut Vec::new());
            }
        }
    }
}
