//! What an explanation does not show unless it is asked to: whoever reads a ticket or a screen is to learn no credentials.

use super::report::Line;
use crate::config::dump::{REDACTED, is_sensitive, names_credential};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Hidden,
    Shown,
}

impl Secrets {
    /// A header line; of a credential only its scheme is shown.
    pub fn line(self, name: &[u8], value: &[u8]) -> Line {
        Line { name: self.text(name), value: self.value(name, value) }
    }

    pub fn value(self, name: &[u8], value: &[u8]) -> String {
        let (name, value) = (String::from_utf8_lossy(name), self.text(value));
        if !self.hides(&name) {
            return value;
        }
        match value.split_once(' ').filter(|_| name.to_ascii_lowercase().ends_with("authorization")) {
            Some((scheme, _)) => format!("{scheme} {REDACTED}"),
            None => REDACTED.to_owned(),
        }
    }

    /// A query, with its `?`.
    pub fn query(self, query: &[u8]) -> String {
        let query = self.text(query);
        let Some(pairs) = query.strip_prefix('?') else { return query };
        let shown = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if self.hides(name) => format!("{name}={REDACTED}"),
            _ => pair.to_owned(),
        };
        format!("?{}", pairs.split('&').map(shown).collect::<Vec<_>>().join("&"))
    }

    /// A line of message logging: it may have any value that there is, so it is hidden whole.
    pub fn logged(self, line: &str) -> String {
        match self {
            Self::Hidden => REDACTED.to_owned(),
            Self::Shown => self.text(line.as_bytes()),
        }
    }

    /// Bytes for a terminal, which obeys control characters.
    pub fn text(self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    fn hides(self, name: &str) -> bool {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let known = ["setcookie", "xforwardedclientcert", "secwebsocketkey"].contains(&plain.as_str());
        self == Self::Hidden && (known || names_credential(name) || is_sensitive(&plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let hidden = |name: &str, value: &str| Secrets::Hidden.line(name.as_bytes(), value.as_bytes()).value;
        assert_eq!(hidden("Authorization", "Basic YTpi"), "Basic ***");
        assert_eq!(hidden("authorization", "YTpi"), "***");
        for name in ["cookie", "set-cookie", "x-api-key", "client_secret", "X-Access-Token", "proxy-authorization"] {
            assert!(!hidden(name, "hunter2").contains("hunter2"), "{name}");
        }
        assert_eq!(hidden("x-trace", "a\x1b[31m"), "a [31m");
        assert_eq!(
            Secrets::Hidden.query(b"?a=1&client_secret=x&access_token=y&b"),
            "?a=1&client_secret=***&access_token=***&b"
        );
        assert_eq!(Secrets::Shown.query(b"?client_secret=x"), "?client_secret=x");
        assert_eq!(Secrets::Shown.line(b"cookie", b"a=b").value, "a=b");
    }
}
