//! Problems for people: the line they are on, with a caret, and without what is secret in it.

use std::{env, io::IsTerminal};

use crate::{
    config::{
        dump::{REDACTED, is_sensitive, names_credential},
        files::SourceFile,
    },
    document::problem::Problem,
};

/// Characters of a source line that are shown.
const WIDTH_MAX: usize = 160;

/// Only for a person at a terminal who did not say otherwise (<https://no-color.org>).
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A problem with its label, its place, and its line where there is one.
pub fn problem(problem: &Problem, fatal: bool, files: &[SourceFile], colour: bool) -> String {
    let (label, code) = if fatal { ("error", "31") } else { ("warning", "33") };
    let paint = |code: &str, text: &str| if colour { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() };
    let mut text = format!("{}: {problem}\n", paint(code, label));
    let location = &problem.location;
    let file = files.iter().find(|file| file.path == location.file);
    let line = location.line.checked_sub(1).and_then(|index| file?.text.as_ref()?.lines().nth(index as usize));
    if let Some(line) = line {
        // Of a list of names with values, `key` is the name.
        let is_name = problem.path.ends_with("].key");
        let (shown, caret) = excerpt(line, location.column.saturating_sub(1) as usize, is_name);
        let number = location.line.to_string();
        let gutter = " ".repeat(number.len());
        let bar = paint("34", "|");
        text += &format!("{gutter} {bar}\n{number} {bar} {shown}\n");
        text += &format!("{gutter} {bar} {}{}\n", " ".repeat(caret), paint(code, "^"));
    }
    text
}

/// The part of a line around a column, and where in it the caret stands.
fn excerpt(line: &str, column: usize, key_is_name: bool) -> (String, usize) {
    // A terminal obeys control characters, and a tab is as wide as it likes.
    let line: Vec<char> = redacted(line, key_is_name).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let caret = column.min(line.len());
    let start = if caret < WIDTH_MAX { 0 } else { caret - WIDTH_MAX / 2 };
    let shown: String = line[start..].iter().take(WIDTH_MAX).collect();
    (shown.trim_end().to_owned(), caret - start)
}

/// The line up to the value of its first sensitive key. A line without a key may be the rest of a password or of a PEM block:
/// nothing of it.
fn redacted(line: &str, key_is_name: bool) -> String {
    let indent = &line[..line.len() - line.trim_start().len()];
    let item = line.trim_start().strip_prefix("- ");
    // A log output's header is an item `Authorization Basic ...`; a name alone is none.
    if let Some((name, _)) = item.and_then(|item| item.trim().split_once(' '))
        && names_credential(name.trim_start_matches(['"', '\'']))
    {
        return format!("{indent}- {name} {REDACTED}");
    }
    if item.is_none() && !line.contains(':') {
        return format!("{indent}{REDACTED}");
    }
    let cut = without_secrets_of_addresses(line);
    let line = cut.as_deref().unwrap_or(line);
    for (at, _) in line.match_indices(':') {
        let key = line[..at].trim_end_matches(['"', '\'', ' ']);
        let key = key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))).next().unwrap_or(key);
        let value = line[at + 1..].trim();
        // The values of header policies are secret unless they are expressions.
        let secret = is_sensitive(key) || (key.eq_ignore_ascii_case("value") && !value.contains("#["));
        let names_one = key.eq_ignore_ascii_case("key") && (key_is_name || line.contains("value"));
        if secret && !names_one && !matches!(value, "" | "|" | ">" | "|-" | ">-") {
            return format!("{}: {REDACTED}", &line[..at]);
        }
    }
    line.to_owned()
}

/// The line up to a password in an address, or up to a query, where there is one.
fn without_secrets_of_addresses(line: &str) -> Option<String> {
    let begin = line.find("://")?;
    let (before, address) = line.split_at(begin);
    match address.find('?') {
        _ if address.contains('@') => Some(format!("{before}://{REDACTED}")),
        Some(query) => Some(format!("{before}{}?{REDACTED}", &address[..query])),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (line, shown) in [
            ("  address: http://0.0.0.0:80", "  address: http://0.0.0.0:80"),
            ("    password: hunter2", "    password: ***"),
            ("    pasword: hunter2", "    pasword: ***"),
            ("  \"apiKey\" : [a, b]", "  \"apiKey\" : ***"),
            ("config: {username: u, password: p}", "config: {username: u, password: ***"),
            ("- {key: authorization, value: Basic abc}", "- {key: authorization, value: ***"),
            ("  value: \"#[attributes.method]\"", "  value: \"#[attributes.method]\""),
            ("  key: |", "  key: |"),
            ("    MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "    ***"),
            ("      hunter2", "      ***"),
            ("  - item", "  - item"),
            ("  - Authorization Basic abc", "  - Authorization ***"),
            ("  - 'Authorization Basic abc'", "  - 'Authorization ***"),
            ("  - X-Api-Key", "  - X-Api-Key"),
            ("  - key: x-token", "  - key: ***"),
            ("  address: http://ada:hunter2@host", "  address: http://***"),
            ("{password: hunter2, address: http://ada:hunter2@host}", "{password: ***"),
            ("  jwksUrl: https://a.test/keys?key=hunter2", "  jwksUrl: https://a.test/keys?***"),
            ("{jwksUrl: https://a.test/?hunter2, b: c}", "{jwksUrl: https://a.test/?***"),
            ("é: {\u{feff}password: hunter2}", "é: {\u{feff}password: ***"),
        ] {
            assert_eq!(redacted(line, false).trim_end_matches(" "), shown, "{line}");
        }
        assert_eq!(redacted("  - key: bad name", true), "  - key: bad name");
        assert_eq!(redacted("  - {key: bad name, value: v}", true), "  - {key: bad name, value: ***");
    }

    #[test]
    fn the_caret_stays_within_what_is_shown() {
        assert_eq!(excerpt("\ta: b\x1b[31m", 1, false), (" a: b [31m".into(), 1));
        let long = "x: y ".repeat(100);
        let (shown, caret) = excerpt(&long, 300, false);
        assert!(shown.len() <= WIDTH_MAX && caret <= shown.len());
        assert_eq!(excerpt("a:", 9, false), ("a:".into(), 2));
    }

    proptest! {
        /// Lines come from files that are not even YAML.
        #[test]
        fn any_line_can_be_shown(line in "([ -~]|\\PC){0,40}: ?\\PC{0,200}", column in 0usize..300) {
            let (shown, caret) = excerpt(&line, column, true);
            prop_assert!(shown.chars().count() <= WIDTH_MAX && caret <= WIDTH_MAX);
        }
    }
}
