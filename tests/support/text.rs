//! Bytes as text: escapes in cases, and how bytes are shown when they are not the expected ones.

use regex_automata::meta::Regex;

/// Undoes `\r \n \t \0 \" \\ \xHH`.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'0') => out.push(0),
            Some(b'"') => out.push(b'"'),
            Some(b'\\') => out.push(b'\\'),
            Some(b'x') => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                let digits = std::str::from_utf8(&digits).map_err(|_| "\\x needs two hex digits")?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| "\\x needs two hex digits")?);
            }
            other => return Err(format!("unknown escape \\{}", other.map_or(' ', char::from))),
        }
    }
    Ok(out)
}

/// A double-quoted string, or bare text as it stands. Escapes count in both.
pub fn literal(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    match text.strip_prefix('"') {
        Some(inner) => unescape(inner.strip_suffix('"').ok_or("a string without its closing quote")?),
        None => unescape(text),
    }
}

/// Bytes as they would be written in a case; long ones keep both ends.
pub fn show(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 1200;
    if bytes.len() > SHOWN_MAX {
        let (head, tail) = (&bytes[..SHOWN_MAX / 2], &bytes[bytes.len() - SHOWN_MAX / 4..]);
        return format!("{} ...{} bytes... {}", show(head), bytes.len() - head.len() - tail.len(), show(tail));
    }
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// Expected and seen, one above the other, with a caret under the first byte that differs.
pub fn diff(expected: &[u8], seen: &[u8]) -> String {
    let same = expected.iter().zip(seen).take_while(|(a, b)| a == b).count();
    // Both are shown from shortly before the difference, so that the caret is on the screen.
    let from = same.saturating_sub(40);
    let caret = show(&expected[from..same]).len();
    format!(
        "\n      expected {:?} bytes: {}\n      seen     {:?} bytes: {}\n      {}^ differs at byte {same}",
        expected.len(),
        show(&expected[from..]),
        seen.len(),
        show(&seen[from..]),
        " ".repeat(caret + format!("expected {:?} bytes: ", expected.len()).len()),
    )
}

/// A pattern of a case: matches anywhere unless it is anchored.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("the pattern {pattern:?} does not compile: {error}"))
}

/// The filler bytes that `fill` sends and `body fill` expects, from a position on.
pub fn filler(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|at| b'a' + (at % 26) as u8).collect()
}
