//! Lines of the message logging policies, in the form that log shippers of this format expect:
//!
//! ```text
//! 2025-02-28T23:59:59.000000001Z [flex-gateway-envoy][info] wasm log POLICY.NS.API.NS.svc main: [req: ID] [accessLog] TEXT
//! ```
//!
//! Whatever the text is made of, a line stays one line of bounded length: controls are escaped, and the rest is cut off.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{access_log::date_time, counts::Counter, lines::Lines};

/// A line with its newline: what container runtimes and syslog daemons take as one piece.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// Stands at the end of a line that has been cut off.
pub const TRUNCATED: &str = "...[truncated]";

/// What is told of a request's id.
const REQUEST_ID_BYTES_MAX: usize = 256;

/// What one core has of them.
#[derive(Debug, Default)]
pub struct Messages {
    pub lines: Lines,
    /// Lines left out as an expression had no value.
    pub failed: Counter,
}

/// Since 1970, UTC.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// RFC 3339, UTC, nanoseconds.
pub fn timestamp(out: &mut Vec<u8>, at: Duration) {
    date_time(out, at.as_secs());
    out.push(b'.');
    let mut nanos = at.subsec_nanos();
    let mut digits = [b'0'; 9];
    for digit in digits.iter_mut().rev() {
        *digit += (nanos % 10) as u8;
        nanos /= 10;
    }
    out.extend_from_slice(&digits);
    out.push(b'Z');
}

/// What stands around the id of the request in every line of one logger, up to where its text begins.
#[derive(Debug)]
pub struct Frame {
    before_id: Box<[u8]>,
    after_id: Box<[u8]>,
}

impl Frame {
    /// `level` in lower case; `policy` and `owner` as `(name, namespace)`. All text of the configuration, and so on one line.
    pub fn new(level: &str, policy: (&str, &str), owner: (&str, &str), category: &str) -> Self {
        let logger = format!("{}.{}.{}.{}.svc", policy.0, policy.1, owner.0, owner.1);
        let before_id = format!(" [flex-gateway-envoy][{level}] wasm log {logger} main: [req: ");
        let category = if category.is_empty() { String::new() } else { format!("{category}: ") };
        let after_id = format!("] [accessLog] {category}");
        Self { before_id: before_id.into_bytes().into(), after_id: after_id.into_bytes().into() }
    }
}

/// A line that is being written.
pub struct Line<'b> {
    bytes: &'b mut Vec<u8>,
    /// Where the text must end, so that the mark of a line that is cut off still fits.
    text_end: usize,
    is_cut: bool,
}

impl<'b> Line<'b> {
    pub fn begin(bytes: &'b mut Vec<u8>, at: Duration, frame: &Frame, request_id: &[u8]) -> Self {
        let text_end = bytes.len() + LINE_BYTES_MAX - TRUNCATED.len() - 1;
        timestamp(bytes, at);
        bytes.extend_from_slice(&frame.before_id);
        // A client that is trusted with the id is not trusted with the rest of the line.
        let is_plain = |byte| matches!(byte, b'!'..=b'~') && byte != b']';
        let id = request_id.iter().take(REQUEST_ID_BYTES_MAX);
        bytes.extend(id.map(|&byte| if is_plain(byte) { byte } else { b'?' }));
        bytes.extend_from_slice(&frame.after_id);
        Self { bytes, text_end, is_cut: false }
    }

    /// Adds to the text. Controls become what JSON makes of them, `\u000a`; everything else stands as it is.
    pub fn text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| !matches!(byte, b' '..=b'~')) {
            self.plain(&rest[..at]);
            let character = rest[at..].chars().next().expect("a byte stands there");
            let mut utf8 = [0; 4];
            match is_safe(character) {
                true => self.whole(character.encode_utf8(&mut utf8).as_bytes()),
                false => self.whole(&escaped(character)),
            }
            rest = &rest[at + character.len_utf8()..];
            if self.is_cut {
                return;
            }
        }
        self.plain(rest);
    }

    pub fn end(self) {
        if self.is_cut {
            self.bytes.extend_from_slice(TRUNCATED.as_bytes());
        }
        self.bytes.push(b'\n');
    }

    /// ASCII, of which a part may be taken.
    fn plain(&mut self, text: &str) {
        let room = if self.is_cut { 0 } else { self.text_end.saturating_sub(self.bytes.len()) };
        let taken = text.len().min(room);
        self.bytes.extend_from_slice(&text.as_bytes()[..taken]);
        self.is_cut |= taken < text.len();
    }

    /// One character, whole or not at all.
    fn whole(&mut self, character: &[u8]) {
        self.is_cut |= self.bytes.len() + character.len() > self.text_end;
        if !self.is_cut {
            self.bytes.extend_from_slice(character);
        }
    }
}

/// Controls end a line or steer a terminal; U+2028 and U+2029 end lines for some readers, the marks of direction reorder what
/// people see, and a byte order mark is not seen at all.
fn is_safe(character: char) -> bool {
    const MARKS: [char; 4] = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{feff}'];
    let is_format = matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !is_format && !MARKS.contains(&character)
}

/// `\u000a`; all that is unsafe lies below U+10000.
fn escaped(character: char) -> [u8; 6] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u32| DIGITS[(u32::from(character) >> shift & 0xf) as usize];
    [b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::new(1_740_787_199, 1_020);

    fn frame() -> Frame {
        Frame::new("warn", ("logging", "default"), ("orders", "shop"), "")
    }

    fn line(frame: &Frame, id: &str, texts: &[&str]) -> String {
        let mut bytes = b"before\n".to_vec();
        let mut line = Line::begin(&mut bytes, AT, frame, id.as_bytes());
        texts.iter().for_each(|text| line.text(text));
        line.end();
        String::from_utf8(bytes).expect("UTF-8").strip_prefix("before\n").expect("it is still there").to_owned()
    }

    #[test]
    fn a_line_has_the_published_form() {
        assert_eq!(
            line(&frame(), "61c7fdcb-8d22-4cb1-852b-0d5073f23950", &["the ", "payload"]),
            "2025-02-28T23:59:59.000001020Z [flex-gateway-envoy][warn] wasm log logging.default.orders.shop.svc main: \
             [req: 61c7fdcb-8d22-4cb1-852b-0d5073f23950] [accessLog] the payload\n"
        );
        let frame = Frame::new("info", ("p", "n"), ("a", "n"), "org.example.Audit");
        assert!(line(&frame, "", &["x"]).ends_with("main: [req: ] [accessLog] org.example.Audit: x\n"));
    }

    #[test]
    fn a_text_cannot_end_its_line_or_steer_a_terminal() {
        let text = |text: &str| {
            let line = line(&frame(), "1", &[text]);
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            line.trim_end_matches('\n').split_once("[accessLog] ").expect("a text").1.to_owned()
        };
        assert_eq!(text("a\r\nb\0c\x1b[31md\x7f\te"), r"a\u000d\u000ab\u0000c\u001b[31md\u007f\u0009e");
        assert_eq!(
            text("\u{85}\u{9b}31m \u{2028}\u{2029}\u{202e}\u{2066}"),
            r"\u0085\u009b31m \u2028\u2029\u202e\u2066"
        );
        assert_eq!(text("a\u{61c}b\u{200e}c\u{200f}d\u{feff}"), r"a\u061cb\u200ec\u200fd\ufeff");
        assert_eq!(text("\u{e4}\u{1f600} \"q\" \\n {\"a\": 1}"), "\u{e4}\u{1f600} \"q\" \\n {\"a\": 1}");
        assert_eq!(text(""), "");
    }

    #[test]
    fn an_id_cannot_leave_its_brackets() {
        let line = line(&frame(), "a] [accessLog] b\n\x1b\u{e4}", &["x"]);
        assert!(line.ends_with("[req: a??[accessLog??b????] [accessLog] x\n"), "{line}");
    }

    #[test]
    fn a_long_line_is_cut_where_a_character_ends() {
        let frame = frame();
        let empty = line(&frame, "1", &[]).len();
        let room = LINE_BYTES_MAX - TRUNCATED.len() - empty;
        let fits = "a".repeat(room);
        assert!(!line(&frame, "1", &[&fits]).contains(TRUNCATED));
        for more in ["b", "\u{1f600}", "\n", "\u{e4}"] {
            let cut = line(&frame, "1", &[&fits[1..], more, "c"]);
            let expected = if more == "b" { "ab" } else { "aa" };
            assert!(cut.ends_with(&format!("{expected}{TRUNCATED}\n")) && cut.len() <= LINE_BYTES_MAX, "{more:?}");
        }
        assert_eq!(line(&frame, "1", &[&"a".repeat(LINE_BYTES_MAX * 2), "b"]).len(), LINE_BYTES_MAX);
        assert_eq!(line(&frame, &"1".repeat(LINE_BYTES_MAX), &[]).len(), empty - 1 + REQUEST_ID_BYTES_MAX);
    }
}
