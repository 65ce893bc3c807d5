//! What a token must be good for.

use serde::Deserialize;

use crate::{
    expression::Datum,
    policies::{ConfigError, Fault},
};

/// Whether a token needs all of the scopes or one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Criterion {
    #[default]
    #[serde(rename = "AND")]
    And,
    #[serde(rename = "OR")]
    Or,
}

#[derive(Debug)]
pub struct Scopes {
    wanted: Box<[Box<str>]>,
    criterion: Criterion,
}

impl Scopes {
    /// `written`: with spaces between them; what is wrong goes to `error`.
    pub fn new(written: &str, criterion: Criterion, error: &mut ConfigError) -> Self {
        let wanted: Box<[Box<str>]> = written.split_ascii_whitespace().map(Box::from).collect();
        if let Some(at) = wanted.iter().position(|scope| !is_scope(scope)) {
            error.add(Fault::at("scopes", format!("scope {}: not a scope of RFC 6749, section 3.3", at + 1)));
        }
        Self { wanted, criterion }
    }

    pub fn wanted(&self) -> &[Box<str>] {
        &self.wanted
    }

    /// With spaces between them.
    pub fn joined(&self) -> String {
        self.wanted.join(" ")
    }

    /// Whether these are enough: text with spaces, or a list of texts, as some servers write it.
    pub fn are_met(&self, granted: Option<&Datum>) -> bool {
        let is_granted = |wanted: &str| match granted {
            Some(Datum::String(text)) => text.split_ascii_whitespace().any(|scope| scope == wanted),
            Some(Datum::List(list)) => list.iter().any(|one| matches!(one, Datum::String(scope) if **scope == *wanted)),
            _ => false,
        };
        match self.criterion {
            Criterion::And => self.wanted.iter().all(|wanted| is_granted(wanted)),
            Criterion::Or => self.wanted.is_empty() || self.wanted.iter().any(|wanted| is_granted(wanted)),
        }
    }
}

/// RFC 6749, section 3.3: nothing that would end a quoted text.
pub fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_one_of_the_scopes_must_be_granted() {
        let met = |wanted: &str, criterion, granted: &str| {
            let mut error = ConfigError::default();
            let scopes = Scopes::new(wanted, criterion, &mut error);
            assert_eq!(error, ConfigError::default());
            let granted = Datum::from_json(granted);
            scopes.are_met(granted.as_ref())
        };
        for (wanted, granted, all, one) in [
            ("", "", true, true),
            ("", "\"a\"", true, true),
            ("a", "\"b a c\"", true, true),
            ("a", "\"A aa\"", false, false),
            ("a  b", "\"a\"", false, true),
            ("a b", "\"b a\"", true, true),
            ("a b", "[\"b\", 1, \"a\"]", true, true),
            ("a b", "[\"a b\"]", false, false),
            ("a", "\"\"", false, false),
            ("a", "null", false, false),
            ("a", "{\"a\": true}", false, false),
            ("a", "", false, false),
        ] {
            assert_eq!(met(wanted, Criterion::And, granted), all, "{wanted} of {granted}");
            assert_eq!(met(wanted, Criterion::Or, granted), one, "one of {wanted} of {granted}");
        }
        let mut error = ConfigError::default();
        Scopes::new("good b\"ad", Criterion::And, &mut error);
        assert_eq!(error.faults.len(), 1);
    }
}
