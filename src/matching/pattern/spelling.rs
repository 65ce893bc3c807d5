//! Patterns of paths in the spelling that request paths are brought to: `/%61dmin` is `/admin`, `%c3` is `%C3`, `é` is `%C3%A9`.
//!
//! Only what a pattern says literally is rewritten, so that it means what it meant. A class of characters keeps its members; one
//! that lists a character which paths have as an escape gets the escape as a further choice.

use std::borrow::Cow;

use super::dialect;
use crate::http::{bytes, target};

/// A pattern of paths, rewritten, and what in it could not be.
pub struct Spelt<'t> {
    pub text: Cow<'t, str>,
    /// What is written so that it never holds for any path.
    pub odd: Option<&'static str>,
}

const BROKEN: &str = "a `%` without two hexadecimal digits directly behind it: \
    paths have whole escapes, in upper case, and none of letters, digits and `-._~`";
const REPEATED: &str = "an escape of which only the last digit is repeated: write it in a group, as `(?:%2F)*`";
const RANGE: &str = "a range of characters that paths have as escapes: list them one by one";
const LOWER_CASE: &str = "a class with `%` and without `A-F`: paths have escapes in upper case";
const NUL: &str = "`%00`, which no path may hold";

/// One piece of a pattern.
#[derive(Clone, Copy)]
struct Token<'t> {
    text: &'t str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// This character, however it was written.
    Literal(char),
    Class,
    /// `*`, `+`, `?` or `{2,3}`.
    Repetition,
    Other,
}

pub fn of_path(text: &str) -> Spelt<'_> {
    // Nearly every pattern has nothing but plain characters and `(`, `)`, `.`, `*`.
    let is_plain = |byte: u8| bytes::is(byte, bytes::PLAIN_PATH) || matches!(byte, b'?' | b'\\');
    if text.bytes().all(is_plain) && !text.contains(r"\x") && !text.contains(r"\u") {
        return Spelt { text: text.into(), odd: None };
    }
    let re2 = dialect::from_re2(text);
    let tokens = tokens(&re2);
    let mut out = String::with_capacity(text.len() + 8);
    let mut odd = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let is_repeated = |at: usize| tokens.get(at).is_some_and(|token| token.kind == Kind::Repetition);
        match token.kind {
            Kind::Literal('%') => {
                let digits = (digit(tokens.get(at)), digit(tokens.get(at + 1)));
                let followed_by_class = tokens.get(at).is_some_and(|token| token.kind == Kind::Class);
                match digits {
                    (Some('0'), Some('0')) => odd = odd.or(Some(NUL)),
                    (Some(_), Some(_)) if is_repeated(at + 2) => odd = odd.or(Some(REPEATED)),
                    (Some(high), Some(low)) => {
                        push(&format!("%{high}{low}"), &mut out);
                        at += 2;
                        continue;
                    }
                    // `%[0-9A-F]{2}` is whichever escape.
                    _ if followed_by_class => {}
                    _ => odd = odd.or(Some(BROKEN)),
                }
                out.push_str(token.text);
            }
            Kind::Literal(char) if is_escaped(char) => {
                let mut buffer = [0; 4];
                match is_repeated(at) {
                    true => {
                        out.push_str("(?:");
                        push(char.encode_utf8(&mut buffer), &mut out);
                        out.push(')');
                    }
                    false => push(char.encode_utf8(&mut buffer), &mut out),
                }
            }
            Kind::Class => odd = class(token.text, &mut out).or(odd),
            Kind::Literal(_) | Kind::Repetition | Kind::Other => out.push_str(token.text),
        }
    }
    Spelt { text: out.into(), odd }
}

/// A character that a path never has as it is, but may have as an escape.
fn is_escaped(char: char) -> bool {
    !char.is_ascii() || matches!(char, ' ' | '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}')
}

fn digit(token: Option<&Token<'_>>) -> Option<char> {
    match token?.kind {
        Kind::Literal(char) if char.is_ascii_hexdigit() => Some(char),
        _ => None,
    }
}

/// Adds a literal in the spelling of paths.
fn push(literal: &str, out: &mut String) {
    let mut spelt = Vec::new();
    target::spell(literal.as_bytes(), &mut spelt);
    let spelt = String::from_utf8(spelt).expect("what is spelt is ASCII");
    out.push_str(&regex_syntax::escape(&spelt));
}

/// Adds `[...]`; what it lists that paths have as escapes becomes a further choice. Returns what stays odd.
fn class(text: &str, out: &mut String) -> Option<&'static str> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let Some(inner) = inner.filter(|inner| !inner.starts_with('^')) else {
        out.push_str(text);
        return None;
    };
    if inner.contains('%') {
        out.push_str(text);
        let has = |range: &str| inner.contains(range);
        let lower_case_alone = (has("a-f") || has("a-z")) && !(has("A-F") || has("A-Z") || has(r"\w"));
        return lower_case_alone.then_some(LOWER_CASE);
    }
    let members = tokens_of_class(inner);
    let mut odd = None;
    let mut escaped = Vec::new();
    for (at, member) in members.iter().enumerate() {
        let Some(char) = member.filter(|&char| is_escaped(char)) else { continue };
        let dash = |at: Option<usize>| at.and_then(|at| members.get(at)).is_some_and(|member| *member == Some('-'));
        let in_range = dash(at.checked_sub(1)) && at > 1 || dash(Some(at + 1)) && at + 2 < members.len();
        match in_range {
            // `[!-~]` is for whatever ASCII has.
            true if char.is_ascii() => {}
            true => odd = Some(RANGE),
            false => escaped.push(char),
        }
    }
    if escaped.is_empty() {
        out.push_str(text);
        return odd;
    }
    out.push_str("(?:");
    out.push_str(text);
    for char in escaped {
        out.push('|');
        push(char.encode_utf8(&mut [0; 4]), out);
    }
    out.push(')');
    odd
}

/// The members of a class, one by one; `None` for what is no single character.
fn tokens_of_class(inner: &str) -> Vec<Option<char>> {
    let mut members = Vec::new();
    let mut rest = inner;
    while let Some(char) = rest.chars().next() {
        let (length, member) = match char {
            '\\' => escape(rest),
            '[' => (rest.find(":]").map_or(1, |end| end + 2), None),
            char => (char.len_utf8(), Some(char)),
        };
        members.push(member);
        rest = &rest[length..];
    }
    members
}

/// Takes a pattern apart. What is no pattern comes out as it went in; the parser will say so.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let (length, kind) = match char {
            '\\' => match escape(rest) {
                (length, Some(char)) => (length, Kind::Literal(char)),
                (length, None) => (length, Kind::Other),
            },
            '[' => (class_length(rest), Kind::Class),
            '(' => (group_length(rest), Kind::Other),
            ')' | '|' | '^' | '$' | '.' => (1, Kind::Other),
            '*' | '+' | '?' => (1, Kind::Repetition),
            '{' => match rest.find('}') {
                Some(end) => (end + 1, Kind::Repetition),
                None => (1, Kind::Other),
            },
            char => (char.len_utf8(), Kind::Literal(char)),
        };
        tokens.push(Token { text: &rest[..length], kind });
        rest = &rest[length..];
    }
    tokens
}

/// The length of the escape that `rest` begins with, and the character that it stands for, where it is one.
fn escape(rest: &str) -> (usize, Option<char>) {
    let Some(second) = rest.chars().nth(1) else { return (rest.len(), None) };
    let length = 1 + second.len_utf8();
    let behind = &rest[length..];
    let braces = behind.strip_prefix('{').and_then(|inside| inside.find('}'));
    match (second, braces) {
        ('x' | 'u' | 'U', Some(end)) => {
            let code = u32::from_str_radix(&behind[1..=end], 16).ok().and_then(char::from_u32);
            (length + end + 2, code)
        }
        ('p' | 'P', Some(end)) => (length + end + 2, None),
        ('x', None) => match behind.get(..2).map(|digits| (digits, u8::from_str_radix(digits, 16))) {
            Some((_, Ok(code))) => (length + 2, Some(char::from(code)).filter(char::is_ascii)),
            _ => (length, None),
        },
        _ if second.is_ascii_punctuation() => (length, Some(second)),
        _ => (length, None),
    }
}

/// Up to the bracket that ends the class: one that comes first in it does not.
fn class_length(text: &str) -> usize {
    let mut at = if text.starts_with("[^") { 2 } else { 1 };
    if text[at..].starts_with(']') {
        at += 1;
    }
    while let Some(char) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match char {
            ']' => return at + 1,
            '\\' => escape(rest).0,
            '[' if rest.starts_with("[:") => rest.find(":]").map_or(1, |end| end + 2),
            char => char.len_utf8(),
        };
    }
    text.len()
}

/// A bracket with what says which kind of group it opens: `(?:`, `(?i)`, `(?P<name>`, `(?!`.
fn group_length(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("(?") else { return 1 };
    let name_end = |rest: &str| rest.find('>').map_or(text.len(), |end| text.len() - rest.len() + end + 1);
    match rest.as_bytes() {
        [b'<', b'=' | b'!', ..] => 4,
        [b'=' | b'!' | b'>', ..] => 3,
        [b'<' | b'P', ..] => name_end(rest),
        _ => rest.find([':', ')']).map_or(2, |end| 2 + end + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_spelt_as_paths_are() {
        for (text, expected) in [
            ("/admin(/.*)?", "/admin(/.*)?"),
            ("/%61dm%69n/.*", "/admin/.*"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café/.*", "/caf%C3%A9/.*"),
            ("/caf(?:é)+", "/caf(?:%C3%A9)+"),
            ("/é+", "/(?:%C3%A9)+"),
            ("/v1%2e0", r"/v1\.0"),
            ("/a%2fb(/.*)", "/a%2Fb(/.*)"),
            ("/%2561", "/%2561"),
            ("/a\"b`", "/a%22b%60"),
            (r"/a\|b\^c", "/a%7Cb%5Ec"),
            ("/users/{id}/x{2}", "/users/%7Bid%7D/x{2}"),
            ("/users/{é}", "/users/%7B%C3%A9%7D"),
            (r"/a\x7cb\x{7C}", "/a%7Cb%7C"),
            (r"/\Q%61|b\E", "/a%7Cb"),
            (r"/\<a\>", "/%3Ca%3E"),
            ("^/a|/b$", "^/a|/b$"),
            ("(?P<x>%61)(?i:%62)(?!/%63).*", "(?P<x>a)(?i:b)(?!/c).*"),
            ("(?<x>a)(?<!%61)(?i)%61", "(?<x>a)(?<!a)(?i)a"),
            ("[a-z|]+", "(?:[a-z|]|%7C)+"),
            ("[éè]", "(?:[éè]|%C3%A9|%C3%A8)"),
            (r"[a\|]", r"(?:[a\|]|%7C)"),
            ("[^|é]+/%61", "[^|é]+/a"),
            ("[]|]%61", "(?:[]|]|%7C)a"),
            ("[[:alpha:]]%61", "[[:alpha:]]a"),
            ("[!-}]+é", "[!-}]+%C3%A9"),
            ("%[0-9A-F]{2}", "%[0-9A-F]{2}"),
            ("[0-9A-Fa-f%]+", "[0-9A-Fa-f%]+"),
        ] {
            let spelt = of_path(text);
            assert_eq!((&*spelt.text, spelt.odd), (expected, None), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_rewritten_is_told() {
        for (text, problem) in [
            ("/100%", BROKEN),
            ("/%6[12]", BROKEN),
            ("/%zz", BROKEN),
            ("/%%41", BROKEN),
            ("/%61*", REPEATED),
            ("/%2F{2}", REPEATED),
            ("/[à-ü]+", RANGE),
            ("/[a-z0-9%]+", LOWER_CASE),
            ("/%00", NUL),
        ] {
            assert_eq!(of_path(text).odd, Some(problem), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_apart(text in "(\\PC|[%\\[\\](){}^\\\\|<>:?!=*-]|%61|\\\\x|\\(\\?){0,20}") {
            let joined: String = tokens(&text).iter().map(|token| token.text).collect();
            proptest::prop_assert_eq!(&joined, &text);
            of_path(&text);
        }

        #[test]
        fn a_pattern_stays_one(text in "(/|a|%61|%c3|é|\\||\\\\\\||[a-z|]|[é]|\\{|\\}|<|\\.\\*|\\(a\\)){0,12}") {
            if regex_syntax::parse(&dialect::from_re2(&text)).is_ok() {
                let spelt = of_path(&text).text;
                proptest::prop_assert!(regex_syntax::parse(&spelt).is_ok(), "{}", spelt);
            }
        }
    }
}
