//! What responses say of a limit. All policies that limit a rate write it here, so that clients find one form.
//!
//! Nothing is allocated for a response: what is always the same is written once, numbers into memory of a fixed size.

use std::io::Write;

use super::{Headers, Options, headers::HeaderName};

/// Which headers a policy writes; as a rule none.
#[derive(Debug)]
pub struct RateHeaders {
    exposed: Option<Exposed>,
    standard: Option<Standard>,
    retry_after: Option<HeaderName>,
}

/// With `exposeHeaders`.
#[derive(Debug)]
struct Exposed {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

/// With `standardHeaders`: draft-ietf-httpapi-ratelimit-headers-10.
#[derive(Debug)]
struct Standard {
    policy: HeaderName,
    limit: HeaderName,
}

/// How a limit stood when a request was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stood {
    pub limit: u64,
    pub remaining: u64,
    pub reset_ms: u64,
    /// Its place in the [`Advertised`] list.
    pub place: u32,
    /// The request was refused for it.
    pub refused: bool,
}

/// The limits of a policy as the standard's fields call them: `"NAME";q=100;w=60` is one of 100 requests a minute.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// The value of `RateLimit-Policy`; empty where nobody is told.
    policy: Vec<u8>,
    /// How the item of each limit begins in `RateLimit`.
    items: Vec<Vec<u8>>,
}

/// Of a name: what is longer is cut.
const NAME_BYTES_MAX: usize = 128;
/// Room for an item: its name with a number, and two numbers of 20 digits.
const ITEM_BYTES_MAX: usize = NAME_BYTES_MAX + 80;
/// The largest whole number of a structured field (RFC 9651 section 3.3.1).
const INTEGER_MAX: u64 = 999_999_999_999_999;

impl RateHeaders {
    pub fn new(exposes: bool, options: Options) -> Self {
        let name = |name| HeaderName::new(name).expect("a token, and not one of the gateway's");
        let exposed = || Exposed {
            limit: name("x-ratelimit-limit"),
            remaining: name("x-ratelimit-remaining"),
            reset: name("x-ratelimit-reset"),
        };
        let standard = || Standard { policy: name("ratelimit-policy"), limit: name("ratelimit") };
        Self {
            exposed: exposes.then(exposed),
            standard: (options.standard_headers == Some(true)).then(standard),
            retry_after: (options.retry_after == Some(true)).then(|| name("retry-after")),
        }
    }

    /// Whether anything is ever written.
    pub fn are_none(&self) -> bool {
        self.exposed.is_none() && self.standard.is_none() && self.retry_after.is_none()
    }

    /// Whether the limits must have names.
    pub fn are_standard(&self) -> bool {
        self.standard.is_some()
    }

    /// Writes them to a response. What an upstream says of limits of its own in `x-ratelimit-...` gives way; in the standard's
    /// fields, which are lists, it stays, since both hold.
    pub fn write(&self, headers: &mut Headers<'_>, stood: &Stood, advertised: &Advertised) {
        let Stood { limit, remaining, reset_ms, place, refused } = *stood;
        if let Some(Exposed { limit: of_limit, remaining: of_remaining, reset }) = &self.exposed {
            set(headers, of_limit, limit);
            set(headers, of_remaining, remaining);
            set(headers, reset, reset_ms);
        }
        if let (Some(names), Some(item)) = (&self.standard, advertised.items.get(place as usize)) {
            let mut line = Line::default();
            line.put(item);
            line.number(remaining);
            if reset_ms > 0 {
                line.put(b";t=");
                line.number(seconds(reset_ms));
            }
            headers.append(&names.policy, &advertised.policy).expect("made of printable ASCII");
            headers.append(&names.limit, line.bytes()).expect("made of printable ASCII");
        }
        if let Some(name) = self.retry_after.as_ref().filter(|_| refused) {
            // A 0 would have the client come at once.
            set(headers, name, seconds(reset_ms).max(1));
        }
    }
}

impl Advertised {
    /// `limits`: how many requests in how many milliseconds. The second one has a 2 behind its name, and so on.
    pub fn new(name: &str, limits: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut advertised = Self::default();
        // What a string of a structured field cannot hold, or only behind a backslash (RFC 9651 section 3.3.3).
        let plain = |c: char| if c.is_ascii_graphic() && !matches!(c, '"' | '\\') { c } else { '-' };
        let name: String = name.chars().map(plain).take(NAME_BYTES_MAX).collect();
        for (at, (maximum, period_ms)) in limits.into_iter().enumerate() {
            let number = if at == 0 { String::new() } else { format!("-{}", at + 1) };
            let between = if at == 0 { "" } else { ", " };
            let policy = &mut advertised.policy;
            write!(policy, "{between}\"{name}{number}\";q={}", maximum.min(INTEGER_MAX)).expect("memory takes it");
            // Whole seconds are all that it can tell.
            if period_ms.is_multiple_of(1000) {
                write!(policy, ";w={}", period_ms / 1000).expect("memory takes it");
            }
            advertised.items.push(format!("\"{name}{number}\";r=").into_bytes());
        }
        advertised
    }
}

/// Rounded up: who comes back then is not too early.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000)
}

fn set(headers: &mut Headers<'_>, name: &HeaderName, value: u64) {
    let mut line = Line::default();
    line.put_number(value);
    headers.set(name, line.bytes()).expect("digits are a header value");
}

/// A value that is being written.
struct Line {
    bytes: [u8; ITEM_BYTES_MAX],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; ITEM_BYTES_MAX], len: 0 }
    }
}

impl Line {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// As the standard's fields take it.
    fn number(&mut self, value: u64) {
        self.put_number(value.min(INTEGER_MAX));
    }

    fn put_number(&mut self, value: u64) {
        let mut rest = &mut self.bytes[self.len..];
        let before = rest.len();
        write!(rest, "{value}").expect("the largest number has 20 digits");
        self.len += before - rest.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing::{self, Trial};

    fn all() -> Options {
        Options { standard_headers: Some(true), retry_after: Some(true), ..Options::default() }
    }

    const STOOD: Stood = Stood { limit: 10, remaining: 3, reset_ms: 1001, place: 0, refused: false };

    /// What a response has, that an upstream gave these lines.
    fn written(headers: &RateHeaders, stood: Stood, advertised: &Advertised, lines: &[(&str, &str)]) -> String {
        let mut trial = Trial::new("GET", "/", &[]).answered(200, lines);
        trial.with(0, |exchange| headers.write(&mut exchange.response_headers(), &stood, advertised));
        let lines = testing::lines(&trial.response.fields).into_iter();
        lines.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn nothing_is_said_unasked() {
        let headers = RateHeaders::new(false, Options::default());
        assert!(headers.are_none());
        assert_eq!(written(&headers, STOOD, &Advertised::default(), &[]), "");
    }

    #[test]
    fn all_that_is_asked_for_is_said() {
        let advertised = Advertised::new("orders", [(10, 1000), (100, 1500), (1000, 60_000)]);
        let policy = "ratelimit-policy: \"orders\";q=10;w=1, \"orders-2\";q=100, \"orders-3\";q=1000;w=60";
        let headers = RateHeaders::new(true, all());
        let exposed = "x-ratelimit-limit: 10\nx-ratelimit-remaining: 3\nx-ratelimit-reset: 1001";
        assert_eq!(
            written(&headers, STOOD, &advertised, &[]),
            format!("{exposed}\n{policy}\nratelimit: \"orders\";r=3;t=2")
        );
        let headers = RateHeaders::new(false, all());
        let refused = Stood { remaining: 0, reset_ms: 2000, place: 2, refused: true, ..STOOD };
        assert_eq!(
            written(&headers, refused, &advertised, &[]),
            format!("{policy}\nratelimit: \"orders-3\";r=0;t=2\nretry-after: 2")
        );
        let roomy = Stood { reset_ms: 0, ..STOOD };
        assert_eq!(written(&headers, roomy, &advertised, &[]), format!("{policy}\nratelimit: \"orders\";r=3"));
    }

    #[test]
    fn a_client_that_is_refused_never_comes_back_at_once() {
        let headers = RateHeaders::new(false, Options { standard_headers: None, ..all() });
        let after = |reset_ms| {
            let refused = Stood { reset_ms, refused: true, ..STOOD };
            written(&headers, refused, &Advertised::default(), &[("retry-after", "7")])
        };
        assert_eq!([0, 1, 1000, 1001].map(after), ["1", "1", "1", "2"].map(|after| format!("retry-after: {after}")));
        let admitted = Stood { refused: false, ..STOOD };
        assert_eq!(
            written(&headers, admitted, &Advertised::default(), &[("retry-after", "7")]),
            "retry-after: 7",
            "the upstream's own"
        );
    }

    #[test]
    fn an_upstreams_own_limits_stay_where_both_can_be_said() {
        let theirs = [("RateLimit", "\"theirs\";r=1"), ("X-RateLimit-Limit", "7")];
        let told = written(&RateHeaders::new(true, all()), STOOD, &Advertised::new("ours", [(10, 1000)]), &theirs);
        assert!(told.contains("RateLimit: \"theirs\";r=1"), "{told}");
        assert!(told.contains("ratelimit: \"ours\";r=3;t=2"), "{told}");
        assert!(!told.contains(": 7"), "{told}");
    }

    #[test]
    fn any_name_and_any_number_can_be_written() {
        let name = "\"w\\\u{e4}\r\n".to_owned() + &"n".repeat(300);
        let advertised = Advertised::new(&name, [(u64::MAX, 1), (1, u64::MAX)]);
        let most = Stood { limit: u64::MAX, remaining: u64::MAX, reset_ms: u64::MAX, place: 1, refused: true };
        let told = written(&RateHeaders::new(true, all()), most, &advertised, &[]);
        assert!(told.contains("ratelimit: \"-w----nnn"), "{told}");
        assert!(told.contains("-2\";r=999999999999999;t=999999999999999"), "{told}");
        assert!(told.contains("x-ratelimit-limit: 18446744073709551615"), "{told}");
    }
}
