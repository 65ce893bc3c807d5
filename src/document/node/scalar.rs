//! YAML 1.1 scalars, read as the type the field asks for.

use serde_json::Value as Json;

/// A scalar as written.
#[derive(Clone, Debug)]
pub struct Scalar {
    text: String,
    /// Quoted, a block, or tagged `!!str`: a string whatever it looks like.
    literal: bool,
}

/// What a plain scalar means when no field says what it should be.
pub enum Resolved<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    pub fn plain(text: String) -> Self {
        Self { text, literal: false }
    }

    pub fn literal(text: String) -> Self {
        Self { text, literal: true }
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_null(&self) -> bool {
        !self.literal && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The `<<` key, which merges another map.
    pub fn is_merge(&self) -> bool {
        !self.literal && self.text == "<<"
    }

    /// The text as it stands in the file, as keys are.
    pub fn into_written(self) -> String {
        self.text
    }

    /// As a string field reads it. A plain `yes` is the boolean in YAML 1.1, so as a string it is `true`, the same wherever it
    /// is written; numbers keep their spelling (`1.10` is a version, not 1.1).
    pub fn text(&self) -> &str {
        match self.resolved_bool() {
            Some(true) => "true",
            Some(false) => "false",
            None => &self.text,
        }
    }

    /// As it is written and as a string field reads it, where the two are not the same.
    pub fn converted(&self) -> Option<(&str, &str)> {
        (self.text() != self.text).then(|| (self.text.as_str(), self.text()))
    }

    pub fn as_bool(&self) -> Option<bool> {
        bool_of(self.text.trim())
    }

    pub fn as_integer(&self) -> Option<i128> {
        integer_of(self.text.trim())
    }

    pub fn as_float(&self) -> Option<f64> {
        float_of(self.text.trim())
    }

    pub fn resolve(&self) -> Resolved<'_> {
        if self.literal {
            return Resolved::Text(&self.text);
        }
        if self.is_null() {
            return Resolved::Null;
        }
        if let Some(value) = bool_of(&self.text) {
            return Resolved::Bool(value);
        }
        if let Some(value) = integer_of(&self.text) {
            if let Ok(value) = i64::try_from(value) {
                return Resolved::Signed(value);
            }
            if let Ok(value) = u64::try_from(value) {
                return Resolved::Unsigned(value);
            }
        }
        match float_of(&self.text) {
            Some(value) => Resolved::Float(value),
            None => Resolved::Text(&self.text),
        }
    }

    pub fn to_json(&self) -> Json {
        match self.resolve() {
            Resolved::Null => Json::Null,
            Resolved::Bool(value) => value.into(),
            Resolved::Signed(value) => value.into(),
            Resolved::Unsigned(value) => value.into(),
            // JSON has no infinity: such a value stays text.
            Resolved::Float(value) => {
                serde_json::Number::from_f64(value).map_or_else(|| self.text.clone().into(), Json::Number)
            }
            Resolved::Text(text) => text.into(),
        }
    }

    fn resolved_bool(&self) -> Option<bool> {
        if self.literal { None } else { bool_of(&self.text) }
    }
}

/// The words of YAML 1.1 but its single letters, which files use as plain strings.
fn bool_of(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn integer_of(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        _ => (10, digits),
    };
    if digits.len() > 64 || !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    Some(if negative { -value } else { value })
}

fn float_of(text: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // Rust also reads `inf` and `nan`, which are words in YAML.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E' | b'_'));
    if !numeric || !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_boolean_is_the_same_string_however_it_is_spelled() {
        for (written, read) in
            [("yes", "true"), ("True", "true"), ("off", "false"), ("y", "y"), ("1.10", "1.10"), ("Abc", "Abc")]
        {
            assert_eq!(Scalar::plain(written.into()).text(), read);
            assert_eq!(Scalar::literal(written.into()).text(), written);
        }
    }

    #[test]
    fn numbers_come_in_every_spelling_of_yaml() {
        for (written, value) in [
            ("8088", Some(8088)),
            ("-7", Some(-7)),
            ("0x1F", Some(31)),
            ("1_000", Some(1000)),
            ("_1", None),
            ("8o", None),
            ("", None),
            ("0x", None),
        ] {
            assert_eq!(Scalar::literal(written.into()).as_integer(), value, "{written}");
        }
        assert_eq!(Scalar::plain("1e3".into()).as_float(), Some(1000.0));
        assert_eq!(Scalar::plain("inf".into()).as_float(), None);
        assert_eq!(Scalar::plain(".inf".into()).as_float(), Some(f64::INFINITY));
    }
}
