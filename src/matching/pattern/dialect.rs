//! Patterns are written for RE2. Our engine reads the same language but for a few spellings, which are translated here.
//!
//! Where RE2 takes a bracket or an operator for itself (`/users/{id}`, `[a[b]`), ours would see a repetition or an operation on
//! sets; and RE2 quotes with `\Q...\E`. Everything else is left for the parser to judge.

use std::borrow::Cow;

/// The pattern in our engine's spelling.
pub fn from_re2(text: &str) -> Cow<'_, str> {
    if !text.contains(['{', '[']) && !text.contains(r"\Q") && !text.contains(r"\<") && !text.contains(r"\>") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    // Within `[...]`, and how much of it is written: `]` stands for itself where it comes first.
    let mut class: Option<usize> = None;
    while let Some(char) = rest.chars().next() {
        let taken = match (char, class) {
            ('\\', _) => escape(rest, &mut out),
            ('{', None) => {
                out.push_str(if is_repetition(rest) { "{" } else { r"\{" });
                1
            }
            ('[', None) => {
                let opening = if rest.starts_with("[^") { "[^" } else { "[" };
                out.push_str(opening);
                class = Some(out.len());
                opening.len()
            }
            ('[', Some(_)) => match rest.find(":]") {
                Some(end) if rest.starts_with("[:") => {
                    out.push_str(&rest[..end + 2]);
                    end + 2
                }
                _ => {
                    out.push_str(r"\[");
                    1
                }
            },
            (']', Some(start)) if out.len() > start => {
                out.push(']');
                class = None;
                1
            }
            ('&' | '~', Some(_)) => {
                out.push('\\');
                out.push(char);
                1
            }
            _ => {
                out.push(char);
                char.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out.into()
}

/// Copies the escape that `rest` starts with; returns its length.
fn escape(rest: &str, out: &mut String) -> usize {
    if let Some(quoted) = rest.strip_prefix(r"\Q") {
        let (literal, length) = match quoted.split_once(r"\E") {
            Some((literal, _)) => (literal, literal.len() + 4),
            None => (quoted, rest.len()),
        };
        out.push_str(&regex_syntax::escape(literal));
        return length;
    }
    let length = 1 + rest.chars().nth(1).map_or(0, char::len_utf8);
    // In our engine these two are the edges of a word.
    let written = &rest[..length];
    out.push_str(if matches!(written, r"\<" | r"\>") { &written[1..] } else { written });
    // `\x{2F}` and `\p{Greek}`: the brackets are the escape's own.
    let braces = &rest[length..];
    match braces.find('}') {
        Some(end) if matches!(written, r"\x" | r"\p" | r"\P") && braces.starts_with('{') => {
            out.push_str(&braces[..=end]);
            length + end + 1
        }
        _ => length,
    }
}

/// `{3}`, `{3,}` or `{3,5}`; RE2 takes anything else literally.
fn is_repetition(rest: &str) -> bool {
    let Some((inside, _)) = rest[1..].split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_read_alike_stays() {
        for text in [
            "/api(/.*)",
            "a{2}",
            "a{2,}",
            "a{2,3}",
            "[a-z]",
            "[^/]+",
            "[[:alpha:]_]",
            "[]a]",
            "[^]a]",
            r"\{id\}",
            r"[\]]",
            r"\x{2F}",
            r"\pL\p{Greek}",
            r"\d\.\\",
            "é[é]{2}",
            "[a",
            "(",
            r"\",
            "[[:x",
            "a}",
        ] {
            let expected = text.replace("[[:x", r"[\[:x");
            assert_eq!(from_re2(text), expected, "{text}");
        }
    }

    #[test]
    fn what_re2_takes_literally_is_escaped() {
        for (text, expected) in [
            ("/users/{id}", r"/users/\{id}"),
            ("{", r"\{"),
            ("a{,3}", r"a\{,3}"),
            ("a{b}{2}", r"a\{b}{2}"),
            ("[a[b]", r"[a\[b]"),
            ("[a&&b]", r"[a\&\&b]"),
            ("[{}]", "[{}]"),
            (r"\<a\>", "<a>"),
            (r"/\Qa.b\E.*", r"/a\.b.*"),
            (r"\Qa.b", r"a\.b"),
            (r"\Q[\E[\Q]\E]", r"\[[\]]"),
        ] {
            assert_eq!(from_re2(text), expected, "{text}");
            assert!(regex_syntax::parse(&from_re2(text)).is_ok(), "{text}");
        }
    }
}
