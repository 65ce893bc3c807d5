//! Query strings: `a=1&b=two+words`, decoded only where something is asked for.

use std::borrow::Cow;

/// The value of a parameter, decoded; of a repeated name the last. One without `=` is empty.
pub(super) fn find<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query
        .rsplit('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .find(|(written, _)| *decode(written) == *name)
        .map(|(_, value)| decode(value))
}

/// Every parameter, decoded, in the order they were sent; repeated ones too.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(name, value)| (decode(name), decode(value)))
}

/// A plus is a space, `%41` a byte; a percent sign without two digits stands for itself. No UTF-8 becomes U+FFFD.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, left) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, left @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, left),
                _ => (b'%', tail),
            },
            (byte, _) => (*byte, tail),
        };
        bytes.push(byte);
        rest = left;
    }
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_last_of_a_name_counts() {
        for (query, name, expected) in [
            ("a=1&b=2", "b", Some("2")),
            ("a=1&a=2", "a", Some("2")),
            ("a=two+words%21", "a", Some("two words!")),
            ("a%62=1", "ab", Some("1")),
            ("a", "a", Some("")),
            ("a=1=2", "a", Some("1=2")),
            ("a=%", "a", Some("%")),
            ("a=%4", "a", Some("%4")),
            ("a=%zz", "a", Some("%zz")),
            ("a=%ff", "a", Some("\u{fffd}")),
            ("a=%c3%a4", "a", Some("ä")),
            ("&&a=1&&", "a", Some("1")),
            ("&&", "", None),
            ("=1", "", Some("1")),
            ("", "a", None),
            ("A=1", "a", None),
        ] {
            assert_eq!(find(query, name).as_deref(), expected, "{query} {name}");
        }
    }
}
