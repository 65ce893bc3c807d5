//! What an expression may read of an exchange. Whoever evaluates implements it over what it has; all else is null.

use std::borrow::Cow;

use super::{payload::Payload, query, value::Value};

/// The values behind `attributes`, `authentication`, `payload` and `vars`.
///
/// Each is asked for only when an expression reads it, so none needs to be prepared. What a direction does not have, such
/// as the status of a request, is left out.
pub trait Context {
    /// A header's value, its lines joined with [`join`]. The name comes in lower case, or as a client's data spells it.
    fn header(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }
    /// Every header once, its name in lower case.
    fn headers<'a>(&'a self, _visit: &mut dyn FnMut(Cow<'a, str>, Cow<'a, str>)) {}
    fn method(&self) -> Option<Cow<'_, str>> {
        None
    }
    /// Without the question mark, as it was sent.
    fn query_string(&self) -> Option<&str> {
        None
    }
    fn request_path(&self) -> Option<Cow<'_, str>> {
        None
    }
    /// Path and query.
    fn request_uri(&self) -> Option<Cow<'_, str>> {
        None
    }
    /// With the port.
    fn local_address(&self) -> Option<Cow<'_, str>> {
        None
    }
    /// With the port.
    fn remote_address(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn scheme(&self) -> Option<Cow<'_, str>> {
        None
    }
    /// `HTTP/1.1` and the like.
    fn version(&self) -> Option<Cow<'_, str>> {
        None
    }
    fn status_code(&self) -> Option<u16> {
        None
    }
    fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        query::find(self.query_string()?, name)
    }
    fn client_id(&self) -> Option<&str> {
        None
    }
    fn client_name(&self) -> Option<&str> {
        None
    }
    /// Of the tier of the client's contract.
    fn sla_id(&self) -> Option<&str> {
        None
    }
    fn sla_name(&self) -> Option<&str> {
        None
    }
    fn principal(&self) -> Option<&str> {
        None
    }
    /// `authentication.properties`.
    fn properties(&self) -> Value<'_> {
        Value::Null
    }
    /// One that the bindings name. Null until the policy has set it.
    fn variable(&self, _name: &str) -> Value<'_> {
        Value::Null
    }
    fn payload(&self) -> Option<&Payload> {
        None
    }
    /// Random bits for `uuid()`.
    fn random(&self) -> u128 {
        0
    }
}

/// Several lines of one header as a single value. One line is not copied; bytes that are no UTF-8 become U+FFFD.
pub fn join<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<Cow<'a, str>> {
    let mut joined = text(lines.next()?);
    for line in lines {
        let whole = joined.to_mut();
        whole.push_str(", ");
        whole.push_str(&text(line));
    }
    Some(joined)
}

/// Nearly every value is ASCII, which the check takes in whole words and the repair byte by byte.
fn text(line: &[u8]) -> Cow<'_, str> {
    str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_header_are_joined() {
        let lines = |lines: &[&'static [u8]]| join(lines.iter().copied());
        assert_eq!(lines(&[]), None);
        assert!(matches!(lines(&[b"one"]), Some(Cow::Borrowed("one"))));
        assert_eq!(lines(&[b"one", b"", b"three"]).as_deref(), Some("one, , three"));
        assert_eq!(lines(&[b"\xff", "ä".as_bytes()]).as_deref(), Some("\u{fffd}, ä"));
    }
}
