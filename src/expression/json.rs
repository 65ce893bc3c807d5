//! JSON to data: numbers keep their digits, depth and size have limits, and of a repeated key the last value counts.
//!
//! `serde_json` gives up the digits of a number or, with a feature that all its users then share, hides them in a map.

use super::{
    data::{Datum, Number, Object},
    payload::{DEPTH_MAX, NODES_MAX},
};

/// A whole document. None where it is malformed, deeper than [`DEPTH_MAX`] or has more than [`NODES_MAX`] values.
pub(super) fn parse(text: &str) -> Option<Datum> {
    Parser { text, at: 0, nodes: NODES_MAX, may_repeat: true }.document()
}

/// The same, and none where an object has a name twice.
pub(super) fn parse_without_repetition(text: &str) -> Option<Datum> {
    Parser { text, at: 0, nodes: NODES_MAX, may_repeat: false }.document()
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    nodes: usize,
    may_repeat: bool,
}

impl Parser<'_> {
    fn document(mut self) -> Option<Datum> {
        let datum = self.value(0)?;
        self.space();
        (self.at == self.text.len()).then_some(datum)
    }

    fn value(&mut self, depth: usize) -> Option<Datum> {
        self.nodes = self.nodes.checked_sub(1)?;
        self.space();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Datum::String),
            b't' => self.word("true", Datum::Boolean(true)),
            b'f' => self.word("false", Datum::Boolean(false)),
            b'n' => self.word("null", Datum::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Datum> {
        let mut entries = Vec::new();
        self.at += 1;
        if depth == DEPTH_MAX {
            return None;
        }
        self.space();
        if self.take(b'}') {
            return Some(Datum::Object(Object::default()));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            if !self.take(b':') {
                return None;
            }
            entries.push((name, self.value(depth + 1)?));
            self.space();
            if self.take(b'}') {
                let written = entries.len();
                let object = Object::new(entries);
                let is_whole = self.may_repeat || object.entries().len() == written;
                return is_whole.then_some(Datum::Object(object));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Datum> {
        let mut items = Vec::new();
        self.at += 1;
        if depth == DEPTH_MAX {
            return None;
        }
        self.space();
        if self.take(b']') {
            return Some(Datum::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take(b']') {
                return Some(Datum::List(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<Box<str>> {
        if !self.take(b'"') {
            return None;
        }
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')?;
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => return Some(out.into()),
                b'\\' => out.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.code_unit()? {
                high @ 0xd800..0xdc00 => {
                    if !(self.take(b'\\') && self.take(b'u')) {
                        return None;
                    }
                    let low = self.code_unit().filter(|low| (0xdc00..0xe000).contains(low))?;
                    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?
                }
                unit => char::from_u32(unit)?,
            },
            _ => return None,
        })
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }

    fn number(&mut self) -> Option<Datum> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return None;
        }
        if self.take(b'.') && self.digits() == 0 {
            return None;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return None;
            }
        }
        Number::parse(&self.text[start..self.at]).map(Datum::Number)
    }

    fn digits(&mut self) -> usize {
        let count = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn word(&mut self, word: &str, datum: Datum) -> Option<Datum> {
        let is_there = self.text[self.at..].starts_with(word);
        self.at += word.len();
        is_there.then_some(datum)
    }

    fn space(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What serde_json reads of the same text.
    fn oracle(value: &serde_json::Value) -> Datum {
        match value {
            serde_json::Value::Null => Datum::Null,
            serde_json::Value::Bool(value) => Datum::Boolean(*value),
            serde_json::Value::Number(number) => {
                Datum::Number(Number { value: number.as_f64().expect("a number"), written: "".into() })
            }
            serde_json::Value::String(text) => Datum::String(text.as_str().into()),
            serde_json::Value::Array(items) => Datum::List(items.iter().map(oracle).collect()),
            serde_json::Value::Object(fields) => {
                Datum::Object(fields.iter().map(|(name, value)| (name.as_str(), oracle(value))).collect())
            }
        }
    }

    /// Without digits and the order of keys, which serde_json does not keep.
    fn plain(datum: Datum) -> Datum {
        match datum {
            Datum::Number(number) => Datum::Number(Number { value: number.value, written: "".into() }),
            Datum::List(items) => Datum::List(items.into_iter().map(plain).collect()),
            Datum::Object(object) => {
                let mut entries: Vec<(Box<str>, Datum)> =
                    object.entries().iter().map(|(name, datum)| (name.clone(), plain(datum.clone()))).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Datum::Object(Object::new(entries))
            }
            other => other,
        }
    }

    proptest! {
        /// Text made of JSON's own pieces is read, or refused, as serde_json does.
        #[test]
        fn reads_what_serde_json_reads(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..14)) {
            let text = pieces.concat();
            let expected = serde_json::from_str(&text).ok().map(|value| plain(oracle(&value)));
            prop_assert_eq!(parse(&text).map(plain), expected, "{}", text);
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            parse(&text);
        }
    }

    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"",
        "\\n",
        "\\u00e4",
        "\\ud83d\\ude00",
        "\\ud83d",
        "1",
        "-",
        "0",
        "1.5",
        ".",
        "e3",
        "E",
        "+",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "ä",
        "\\",
        "1e999",
        "{\"a\":",
        "[1,",
        "\t",
        "\u{1}",
    ];

    #[test]
    fn limits() {
        assert!(parse(&format!("{}1{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX))).is_some());
        assert!(parse(&format!("{}1{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1))).is_none());
        assert!(parse(&"[".repeat(1 << 20)).is_none());
        assert!(parse(&format!("[{}1]", "1,".repeat(NODES_MAX - 2))).is_some());
        assert!(parse(&format!("[{}1]", "1,".repeat(NODES_MAX - 1))).is_none());
    }
}
