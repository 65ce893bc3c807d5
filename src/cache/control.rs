//! `Cache-Control` (RFC 9111 section 5.2), as far as this cache goes by it.
//!
//! What says for how long a response is fresh and cannot be understood makes it stale (section 4.2.1): a mistake of an origin
//! costs it a request, never its clients an old answer.

use crate::http::bytes::trim;

/// No delta of seconds counts for more (RFC 9111 section 1.2.2).
pub(super) const SECONDS_MAX: u64 = 1 << 31;

/// The directives of one message, of a request or of a response. Times are in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub min_fresh: Option<u64>,
    /// `u64::MAX`: however stale.
    pub max_stale: Option<u64>,
    /// RFC 5861.
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
}

impl Control {
    /// Of all lines of the field.
    pub fn parse<'v>(values: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut control = Self::default();
        for value in values {
            // What its origin had to say behind the quote is not known.
            control.no_store |= is_unterminated(value);
            Members(value).for_each(|member| control.add(member));
        }
        control
    }

    /// Whether a stale response is no answer, whoever would take it (section 4.2.4).
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some()
    }

    /// Whether a response is nothing for a shared cache, or not before the origin was asked each time.
    pub fn keeps_out(&self) -> bool {
        self.no_store || self.no_cache || self.private
    }

    fn add(&mut self, member: &[u8]) {
        let (name, value) = match member.iter().position(|&byte| byte == b'=') {
            Some(at) => (trim(&member[..at]), Some(trim(&member[at + 1..]))),
            None => (member, None),
        };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("no-store") => self.no_store = true,
            // A list of fields is kept from the cache as the whole is: nobody gains from the difference (section 5.2.2.4).
            () if is("no-cache") => self.no_cache = true,
            () if is("private") => self.private = true,
            () if is("public") => self.public = true,
            () if is("must-revalidate") => self.must_revalidate = true,
            () if is("proxy-revalidate") => self.proxy_revalidate = true,
            () if is("must-understand") => self.must_understand = true,
            () if is("only-if-cached") => self.only_if_cached = true,
            () if is("max-age") => least(&mut self.max_age, Some(seconds(value).unwrap_or(0))),
            () if is("s-maxage") => least(&mut self.s_maxage, Some(seconds(value).unwrap_or(0))),
            () if is("min-fresh") => self.min_fresh = self.min_fresh.max(seconds(value)),
            () if is("max-stale") => least(&mut self.max_stale, value.map_or(Some(u64::MAX), |_| seconds(value))),
            () if is("stale-while-revalidate") => least(&mut self.stale_while_revalidate, seconds(value)),
            () if is("stale-if-error") => least(&mut self.stale_if_error, seconds(value)),
            () => {}
        }
    }
}

/// Of a directive that comes twice the smaller value counts; one that is not understood says nothing.
fn least(known: &mut Option<u64>, new: Option<u64>) {
    *known = match (*known, new) {
        (Some(known), Some(new)) => Some(known.min(new)),
        (known, new) => known.or(new),
    };
}

/// A number of seconds, as a token or as a quoted string.
fn seconds(value: Option<&[u8]>) -> Option<u64> {
    let value = value?;
    let value = match value {
        [b'"', quoted @ .., b'"'] => quoted,
        plain => plain,
    };
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = value.iter().map(|digit| u64::from(digit - b'0'));
    Some(digits.fold(0, |number: u64, digit| (number * 10 + digit).min(SECONDS_MAX)))
}

/// The members of a list in which commas within quoted strings part nothing.
pub struct Members<'v>(pub &'v [u8]);

impl<'v> Iterator for Members<'v> {
    type Item = &'v [u8];

    fn next(&mut self) -> Option<&'v [u8]> {
        while !self.0.is_empty() {
            let end = end_of_member(self.0);
            let member = trim(&self.0[..end]);
            self.0 = self.0.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Where its first comma is that stands in no quoted string, or its end.
pub(super) fn end_of_member(list: &[u8]) -> usize {
    let mut quotes = Quotes::default();
    list.iter().position(|&byte| !quotes.hold(byte) && byte == b',').unwrap_or(list.len())
}

/// A quoted string begins in it and does not end.
fn is_unterminated(value: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    value.iter().for_each(|&byte| {
        quotes.hold(byte);
    });
    quotes.quoted
}

#[derive(Default)]
struct Quotes {
    quoted: bool,
    escaped: bool,
}

impl Quotes {
    /// Whether the next byte is of a quoted string.
    fn hold(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            _ => return self.quoted,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Control {
        Control::parse(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn directives_are_read_in_any_case_and_spelling() {
        let fresh = |seconds| Control { max_age: Some(seconds), ..Control::default() };
        for (line, expected) in [
            ("", Control::default()),
            ("foobar, max-age=3600", fresh(3600)),
            ("MaX-aGe=3600", fresh(3600)),
            ("max-age=\"3600\"", fresh(3600)),
            ("max-age = 5", fresh(5)),
            ("max-age=003600", fresh(3600)),
            ("max-age=2147483649", fresh(1 << 31)),
            ("max-age=99999999999999999999999", fresh(1 << 31)),
            (",, max-age=1 ,", fresh(1)),
            ("extension=\"max-age=3600\", max-age=1", fresh(1)),
            ("extension=\"a, no-store, \\\", max-age=3600\", max-age=1", fresh(1)),
            ("a=\", max-age=1", Control { no_store: true, ..Control::default() }),
            ("max-age=1, a=\"\\\"", Control { no_store: true, ..fresh(1) }),
            ("No-StOrE", Control { no_store: true, ..Control::default() }),
            ("no-cache=\"set-cookie, a\"", Control { no_cache: true, ..Control::default() }),
            ("private=\"a\"", Control { private: true, ..Control::default() }),
            ("max-stale", Control { max_stale: Some(u64::MAX), ..Control::default() }),
            ("max-stale=3", Control { max_stale: Some(3), ..Control::default() }),
            ("no-storex, xmax-age=1", Control::default()),
        ] {
            assert_eq!(parse(&[line]), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_makes_stale() {
        for line in
            ["max-age=-3600", "max-age='3600'", "max-age=3600.0", "max-age=", "max-age", "max-age=\"\"", "max-age=1 2"]
        {
            assert_eq!(parse(&[line]).max_age, Some(0), "{line}");
        }
        for line in ["max-stale=x", "min-fresh=x", "stale-if-error=x", "stale-while-revalidate"] {
            assert_eq!(parse(&[line]), Control::default(), "{line}");
        }
    }

    #[test]
    fn of_several_the_strictest_counts() {
        assert_eq!(parse(&["max-age=1, max-age=3600"]).max_age, Some(1));
        assert_eq!(parse(&["max-age=3600", "s-maxage=5, max-age=x"]).max_age, Some(0));
        assert_eq!(parse(&["min-fresh=1, min-fresh=7"]).min_fresh, Some(7));
        assert_eq!(parse(&["max-stale, max-stale=4"]).max_stale, Some(4));
    }
}
