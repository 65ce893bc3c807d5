//! What an explanation does not show unless it is asked to: whoever reads a ticket or a screen is to learn no credentials.

use std::collections::BTreeSet;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL},
};

use super::report::Line;
use crate::{
    config::dump::{REDACTED, is_sensitive, names_credential},
    expression::query::decode,
};

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
            Some((name, _)) if self.hides_parameter(name) => format!("{name}={REDACTED}"),
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

    pub(super) fn hides_name(self, name: &[u8]) -> bool {
        self.hides(&String::from_utf8_lossy(name))
    }

    fn hides(self, name: &str) -> bool {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let known = CREDENTIALS.contains(&plain.as_str()) || CREDENTIAL_ENDS.iter().any(|end| plain.ends_with(end));
        self == Self::Hidden && (known || names_credential(name) || is_sensitive(&plain))
    }

    /// A name of a query, as it came.
    fn hides_parameter(self, name: &str) -> bool {
        let name = decode(name);
        let known = CREDENTIAL_PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known));
        self.hides(&name) || (self == Self::Hidden && known)
    }
}

/// Names of headers and parameters, without what parts their words.
const CREDENTIALS: [&str; 9] = [
    "setcookie",
    "cookie2",
    "xforwardedclientcert",
    "secwebsocketkey",
    "dpop",
    "session",
    "sessionid",
    "xsessionid",
    "xhubsignature256",
];
/// What such names end in.
const CREDENTIAL_ENDS: [&str; 3] = ["jwt", "assertion", "signature"];
/// Names that say so in a query, and not of a header.
const CREDENTIAL_PARAMETERS: [&str; 2] = ["code", "sig"];

/// Hides tokens in compact form (RFC 7515, section 3.1; RFC 7516), whatever they are a part of.
pub(super) fn hide_tokens(text: &mut String) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let (mut shown, mut rest) = (String::new(), text.as_str());
    while let Some(start) = rest.find(is_part) {
        let run = &rest[start..];
        let run = &run[..run.find(|c| !is_part(c)).unwrap_or(run.len())];
        shown.push_str(&rest[..start]);
        match token_start(run) {
            Some(at) => shown.extend([&run[..at], REDACTED]),
            None => shown.push_str(run),
        }
        rest = &rest[start + run.len()..];
    }
    shown.push_str(rest);
    *text = shown;
}

/// Where a header begins that at least two more parts follow.
fn token_start(run: &str) -> Option<usize> {
    let mut at = 0;
    let followed = run.matches('.').count().saturating_sub(1);
    for part in run.split('.').take(followed) {
        if let Some(inside) = header_start(part) {
            return Some(at + inside);
        }
        at += part.len() + 1;
    }
    None
}

/// Where an object of JSON begins in base64url: `{"` is `eyJ`, also behind something else.
fn header_start(part: &str) -> Option<usize> {
    let is_object = || {
        let bytes = BASE64_URL.decode(part).ok()?;
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).ok()
    };
    part.find("eyJ").or_else(|| is_object().map(|_| 0))
}

/// The credentials that a request shows and policies add, to be found again wherever they were copied to.
#[derive(Default)]
pub(super) struct Credentials(BTreeSet<String>);

/// Shorter ones are too likely to be something else as well.
const WHOLE_BYTES_MIN: usize = 4;
/// And below this they are looked for as a whole value alone.
const PART_BYTES_MIN: usize = 8;

impl Credentials {
    /// Header lines that hold one: the value, and what of it others may take out.
    pub fn learn<'l>(&mut self, lines: impl Iterator<Item = &'l (Vec<u8>, Vec<u8>)>) {
        for (name, value) in lines {
            let value = Secrets::Shown.text(value);
            if let Some((scheme, rest)) = value.split_once(' ') {
                self.add(rest.trim());
                if scheme.eq_ignore_ascii_case("basic") {
                    self.learn_basic(rest.trim());
                }
            }
            if [&b"cookie"[..], b"cookie2", b"set-cookie"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
                let pairs = value.split(';').filter_map(|pair| pair.split_once('='));
                pairs.for_each(|(_, value)| self.add(value.trim()));
            }
            self.add(&value);
        }
    }

    /// A query with its `?`: as it came, and as expressions read it.
    pub fn learn_query(&mut self, query: &[u8]) {
        let query = Secrets::Shown.text(query);
        for (name, value) in query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('=')) {
            if Secrets::Hidden.hides_parameter(name) {
                self.add(value);
                self.add(&decode(value));
            }
        }
    }

    fn learn_basic(&mut self, encoded: &str) {
        let decoded = BASE64.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            self.add(password);
        }
    }

    fn add(&mut self, value: &str) {
        if value.len() >= WHOLE_BYTES_MIN {
            self.0.insert(value.to_owned());
        }
    }

    /// The longest first: one may be part of another.
    pub fn hide(&self, text: &mut String) {
        if self.0.contains(text.as_str()) {
            *text = REDACTED.to_owned();
            return;
        }
        let mut parts: Vec<&String> = self.0.iter().filter(|known| known.len() >= PART_BYTES_MIN).collect();
        parts.sort_by_key(|known| std::cmp::Reverse(known.len()));
        for known in parts {
            if text.contains(known.as_str()) {
                *text = text.replace(known.as_str(), REDACTED);
            }
        }
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
        for name in [
            "jwt",
            "X-JWT",
            "x-user-jwt",
            "DPoP",
            "x-goog-iap-jwt-assertion",
            "session",
            "x-session-id",
            "signature",
            "x-hub-signature",
            "x-hub-signature-256",
            "cookie2",
        ] {
            assert_eq!(hidden(name, "hunter2"), "***", "{name}");
            assert_eq!(Secrets::Hidden.query(format!("?{name}=hunter2").as_bytes()), format!("?{name}=***"));
        }
        for name in ["%6Awt", "sig", "Code", "assertion", "client_assertion", "X-Amz-Signature"] {
            assert_eq!(Secrets::Hidden.query(format!("?{name}=hunter2").as_bytes()), format!("?{name}=***"));
        }
        assert_eq!(hidden("x-code", "7"), "7");
        assert_eq!(hidden("x-trace", "a\x1b[31m"), "a [31m");
        assert_eq!(hidden("access-control-allow-credentials", "true"), "true");
        assert_eq!(
            Secrets::Hidden.query(b"?a=1&client_secret=x&access_token=y&b"),
            "?a=1&client_secret=***&access_token=***&b"
        );
        assert_eq!(Secrets::Shown.query(b"?client_secret=x"), "?client_secret=x");
        assert_eq!(Secrets::Shown.line(b"cookie", b"a=b").value, "a=b");
    }

    #[test]
    fn tokens_are_hidden_whatever_they_are_called() {
        for (text, expected) in [
            ("eyJhbGciOiJ9.e30.c2ln", "***"),
            ("a=eyJhbGciOiJ9.e30.c2ln&b=1", "a=***&b=1"),
            ("/in/eyJhbGciOiJ9.e30./x, eyJhbGciOiJ9.a.b.c.d", "/in/***/x, ***"),
            ("%20eyJhbGciOiJ9.e30.c2ln", "%20***"),
            ("v1.eyJhbGciOiJ9.e30.c2ln", "v1.***"),
            // `{ "alg": "HS256" }`: white space is allowed.
            ("eyAiYWxnIjogIkhTMjU2IiB9.e30.c2ln", "***"),
            ("eyJhbGciOiJ9.e30", "eyJhbGciOiJ9.e30"),
            ("a.b.c é www.shop.example:80", "a.b.c é www.shop.example:80"),
            ("W10.a.b", "W10.a.b"),
            ("", ""),
        ] {
            let mut hidden = text.to_owned();
            hide_tokens(&mut hidden);
            assert_eq!(hidden, expected, "{text}");
        }
    }

    #[test]
    fn what_is_secret_is_found_again_where_it_was_copied_to() {
        let line = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let lines = [
            line("authorization", "Bearer eyJhbGciOiJ9.e30.c2ln"),
            line("proxy-authorization", "Basic YWRhOmxvdmVsYWNl"),
            line("cookie", "sid=0123456789; a=1; b=four"),
        ];
        let mut credentials = Credentials::default();
        credentials.learn(lines.iter());
        credentials.learn_query(b"?q=plain&access_token=a%2Fb%2Fc%2Fd");
        for (text, expected) in [
            ("eyJhbGciOiJ9.e30.c2ln", "***"),
            ("token eyJhbGciOiJ9.e30.c2ln!", "token ***!"),
            ("Bearer eyJhbGciOiJ9.e30.c2ln", "***"),
            ("YWRhOmxvdmVsYWNl", "***"),
            ("lovelace", "***"),
            ("0123456789", "***"),
            ("a/b/c/d", "***"),
            ("a%2Fb%2Fc%2Fd", "***"),
            ("four", "***"),
            ("fourteen", "fourteen"),
            ("1", "1"),
            ("plain", "plain"),
        ] {
            let mut hidden = text.to_owned();
            credentials.hide(&mut hidden);
            assert_eq!(hidden, expected, "{text}");
        }
    }
}
