//! The operational access log: one line per exchange, formatted on the core that served it.
//!
//! Every byte that came from a peer is escaped, so that no request can forge a line (or end one).

use std::{io::Write, net::SocketAddr};

use super::lines::Lines;

/// One exchange as the log tells it. Names as in the snapshot; empty where there was none.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the request head was complete: microseconds since 1970, UTC.
    pub at_us: u64,
    pub core: usize,
    pub client: SocketAddr,
    pub tls: Option<Tls<'a>>,
    pub method: &'a [u8],
    /// As routed, without the query string: queries carry secrets.
    pub path: &'a [u8],
    pub api: &'a str,
    pub route: &'a str,
    pub upstream: &'a str,
    /// 0 where the client left before there was one.
    pub status: u16,
    /// Reason code of an answer the gateway made, or of a failure.
    pub reason: &'a str,
    /// Reason code of the answer that the first policy in shadow would have given; empty where none would.
    pub shadow_deny: &'a str,
    pub request_id: &'a [u8],
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub total_ns: u64,
    pub upstream_ns: Option<u64>,
    pub overhead_ns: Option<u64>,
    pub waited_ns: Option<u64>,
}

/// How the client's connection is secured.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    pub version: &'a str,
    pub cipher: &'a str,
    pub resumed: bool,
    /// Of the client's verified certificate; empty where it showed none.
    pub subject: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `name=value` behind a timestamp; values with spaces in quotes.
    Text,
    /// One JSON object per line, OpenTelemetry's attribute names.
    Json,
}

/// Writes a line behind the others.
pub fn push(lines: &Lines, format: Format, entry: &Entry<'_>) {
    lines.push(|line| {
        match format {
            Format::Text => text(line, entry),
            Format::Json => json(line, entry),
        }
        true
    });
}

fn json(line: &mut Vec<u8>, entry: &Entry<'_>) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    timestamp(line, entry.at_us);
    let mut string = |name: &[u8], value: &[u8]| {
        line.extend_from_slice(name);
        escape(line, value);
    };
    // Each name closes the string before it.
    string(b"\",\"http.request.method\":\"", entry.method);
    string(b"\",\"url.path\":\"", entry.path);
    string(b"\",\"api\":\"", entry.api.as_bytes());
    string(b"\",\"http.route\":\"", entry.route.as_bytes());
    string(b"\",\"upstream\":\"", entry.upstream.as_bytes());
    string(b"\",\"flags\":\"", entry.reason.as_bytes());
    if !entry.shadow_deny.is_empty() {
        string(b"\",\"shadow_deny\":\"", entry.shadow_deny.as_bytes());
    }
    string(b"\",\"request_id\":\"", entry.request_id);
    if let Some(tls) = &entry.tls {
        string(b"\",\"tls.protocol.version\":\"", tls.version.as_bytes());
        string(b"\",\"tls.cipher\":\"", tls.cipher.as_bytes());
        string(b"\",\"tls.client.subject\":\"", tls.subject.as_bytes());
    }
    print(line, format_args!("\",\"client.address\":\"{}\"", entry.client.ip()));
    if let Some(tls) = &entry.tls {
        print(line, format_args!(",\"tls.resumed\":{}", tls.resumed));
    }
    let mut number = |name: &[u8], value: u64| {
        line.extend_from_slice(name);
        decimal(line, value);
    };
    number(b",\"client.port\":", entry.client.port().into());
    number(b",\"http.response.status_code\":", entry.status.into());
    number(b",\"bytes_in\":", entry.bytes_in);
    number(b",\"bytes_out\":", entry.bytes_out);
    number(b",\"duration_us\":", entry.total_ns / 1000);
    if let Some(duration) = entry.overhead_ns {
        number(b",\"gateway_us\":", duration / 1000);
    }
    if let Some(duration) = entry.upstream_ns {
        number(b",\"upstream_us\":", duration / 1000);
    }
    if let Some(duration) = entry.waited_ns {
        number(b",\"policies_us\":", duration / 1000);
    }
    number(b",\"core\":", entry.core as u64);
    line.extend_from_slice(b"}\n");
}

fn text(line: &mut Vec<u8>, entry: &Entry<'_>) {
    timestamp(line, entry.at_us);
    let mut word = |name: &[u8], value: &[u8]| {
        line.extend_from_slice(name);
        if !value.is_empty() && value.iter().all(|byte| is_plain(*byte) && *byte != b' ') {
            return line.extend_from_slice(value);
        }
        line.push(b'"');
        escape(line, value);
        line.push(b'"');
    };
    word(b" method=", entry.method);
    word(b" path=", entry.path);
    word(b" api=", entry.api.as_bytes());
    word(b" route=", entry.route.as_bytes());
    word(b" upstream=", entry.upstream.as_bytes());
    word(b" flags=", entry.reason.as_bytes());
    if !entry.shadow_deny.is_empty() {
        word(b" shadow_deny=", entry.shadow_deny.as_bytes());
    }
    word(b" request_id=", entry.request_id);
    if let Some(tls) = &entry.tls {
        word(b" tls=", tls.version.as_bytes());
        if !tls.subject.is_empty() {
            word(b" subject=", tls.subject.as_bytes());
        }
    }
    print(line, format_args!(" client={}", entry.client));
    let mut number = |name: &[u8], value: u64| {
        line.extend_from_slice(name);
        decimal(line, value);
    };
    number(b" status=", entry.status.into());
    number(b" bytes_in=", entry.bytes_in);
    number(b" bytes_out=", entry.bytes_out);
    number(b" duration_us=", entry.total_ns / 1000);
    if let Some(duration) = entry.overhead_ns {
        number(b" gateway_us=", duration / 1000);
    }
    if let Some(duration) = entry.upstream_ns {
        number(b" upstream_us=", duration / 1000);
    }
    if let Some(duration) = entry.waited_ns {
        number(b" policies_us=", duration / 1000);
    }
    number(b" core=", entry.core as u64);
    line.push(b'\n');
}

fn print(line: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    line.write_fmt(arguments).expect("writing to memory does not fail");
}

/// What `write!` does with a number, in a third of the time: a line has a dozen of them.
fn decimal(line: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return line.extend_from_slice(&digits[first..]);
        }
    }
}

/// The inside of a JSON string, ASCII only: a byte that is not printable ASCII becomes `\u00XX`, so that every line is
/// valid JSON whatever bytes a client sent, and the original bytes can still be told.
fn escape(line: &mut Vec<u8>, mut value: &[u8]) {
    while let Some(at) = value.iter().position(|byte| !is_plain(*byte)) {
        line.extend_from_slice(&value[..at]);
        match value[at] {
            byte @ (b'"' | b'\\') => line.extend_from_slice(&[b'\\', byte]),
            byte => print(line, format_args!("\\u{byte:04x}")),
        }
        value = &value[at + 1..];
    }
    line.extend_from_slice(value);
}

/// Stands for itself inside a JSON string.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// RFC 3339, UTC, microseconds: `2025-02-28T23:59:59.000001Z`.
fn timestamp(line: &mut Vec<u8>, at_us: u64) {
    date_time(line, at_us / 1_000_000);
    let micros = at_us % 1_000_000;
    let ([a, b], [c, d], [e, f]) = (two(micros / 10_000), two(micros / 100 % 100), two(micros % 100));
    line.extend_from_slice(&[b'.', a, b, c, d, e, f, b'Z']);
}

/// RFC 3339, without the fraction of the second and the zone.
pub(super) fn date_time(line: &mut Vec<u8>, seconds: u64) {
    let (year, month, day) = civil((seconds / 86_400) as i64);
    let (year, month, day, of_day) = (year as u64, month as u64, day as u64, seconds % 86_400);
    let ([c, e], [y, r], [m, o], [d, a]) = (two(year / 100 % 100), two(year % 100), two(month), two(day));
    let ([h, i], [n, t], [s, u]) = (two(of_day / 3600), two(of_day / 60 % 60), two(of_day % 60));
    let text = [c, e, y, r, b'-', m, o, b'-', d, a, b'T', h, i, b':', n, t, b':', s, u];
    line.extend_from_slice(&text);
}

/// Two decimal digits of a number below a hundred.
fn two(value: u64) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

/// The proleptic Gregorian date of a day counted from 1970-01-01. Eras of 400 years begin on 1 March, so that the leap
/// day is the last of its year (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub fn civil(days: i64) -> (i64, i64, i64) {
    let since_era_0 = days + 719_468;
    let (era, day_of_era) = (since_era_0.div_euclid(146_097), since_era_0.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(path: &'a [u8]) -> Entry<'a> {
        Entry {
            at_us: 1_740_787_199_000_001,
            core: 2,
            client: "192.0.2.1:4000".parse().expect("a literal address"),
            tls: None,
            method: b"GET",
            path,
            api: "orders",
            route: "orders-a-route-1",
            upstream: "",
            status: 503,
            reason: "upstream_connect",
            shadow_deny: "",
            request_id: b"0-1",
            bytes_in: 10,
            bytes_out: 20,
            total_ns: 1_234_567,
            upstream_ns: None,
            overhead_ns: Some(2_000),
            waited_ns: None,
        }
    }

    fn line(format: Format, entry: &Entry<'_>) -> String {
        let lines = Lines::default();
        push(&lines, format, entry);
        String::from_utf8(lines.drain()).expect("lines are ASCII")
    }

    #[test]
    fn text_lines_read_left_to_right() {
        assert_eq!(
            line(Format::Text, &entry(b"/a")),
            "2025-02-28T23:59:59.000001Z method=GET path=/a api=orders route=orders-a-route-1 upstream=\"\" \
             flags=upstream_connect request_id=0-1 client=192.0.2.1:4000 status=503 bytes_in=10 bytes_out=20 \
             duration_us=1234 gateway_us=2 core=2\n"
        );
    }

    #[test]
    fn json_lines_parse_back() {
        let text = line(Format::Json, &entry(b"/a"));
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(value["timestamp"], "2025-02-28T23:59:59.000001Z");
        assert_eq!(value["url.path"], "/a");
        assert_eq!(value["client.address"], "192.0.2.1");
        assert_eq!(value["http.response.status_code"], 503);
        assert_eq!(value["flags"], "upstream_connect");
        assert_eq!(value["gateway_us"], 2);
        assert!(value.get("upstream_us").is_none());
    }

    #[test]
    fn what_policies_waited_is_told_where_they_did() {
        let entry = Entry { upstream_ns: Some(3_000), waited_ns: Some(7_999), ..entry(b"/a") };
        let text = line(Format::Text, &entry);
        assert!(text.ends_with(" gateway_us=2 upstream_us=3 policies_us=7 core=2\n"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&line(Format::Json, &entry)).expect("valid JSON");
        assert_eq!(value["policies_us"], 7);
    }

    #[test]
    fn tls_is_told_where_there_is_any() {
        let tls = Tls { version: "1.3", cipher: "TLS_AES_128_GCM_SHA256", resumed: true, subject: "CN=\"a\",O=b c" };
        let entry = Entry { tls: Some(tls), ..entry(b"/a") };
        let value: serde_json::Value = serde_json::from_str(&line(Format::Json, &entry)).expect("valid JSON");
        assert_eq!(value["tls.protocol.version"], "1.3");
        assert_eq!(value["tls.cipher"], "TLS_AES_128_GCM_SHA256");
        assert_eq!(value["tls.client.subject"], "CN=\"a\",O=b c");
        assert_eq!(value["tls.resumed"], true);
        let text = line(Format::Text, &entry);
        assert!(text.contains(r#" request_id=0-1 tls=1.3 subject="CN=\"a\",O=b c" client=192.0.2.1:4000 "#), "{text}");
        let text = line(Format::Text, &Entry { tls: Some(Tls { subject: "", ..tls }), ..entry });
        assert!(text.contains(" request_id=0-1 tls=1.3 client=192.0.2.1:4000 "), "{text}");
    }

    #[test]
    fn what_shadow_would_have_refused_is_told() {
        let entry = Entry { shadow_deny: "denied", ..entry(b"/a") };
        let text = line(Format::Text, &entry);
        assert!(text.contains(" flags=upstream_connect shadow_deny=denied request_id=0-1 "), "{text}");
        let value: serde_json::Value = serde_json::from_str(&line(Format::Json, &entry)).expect("valid JSON");
        assert_eq!(value["shadow_deny"], "denied");
    }

    #[test]
    fn a_request_cannot_forge_a_line() {
        let hostile = b"/\"}\n{\"a\":\"\\ \x00\x7f\xff\xc3\xa9 b";
        let text = line(Format::Text, &entry(hostile));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.contains(r#"path="/\"}\u000a{\"a\":\"\\ \u0000\u007f\u00ff\u00c3\u00a9 b" api="#), "{text}");
        let text = line(Format::Json, &entry(hostile));
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(value["url.path"], "/\"}\n{\"a\":\"\\ \u{0}\u{7f}\u{ff}\u{c3}\u{a9} b");
    }

    #[test]
    fn dates_are_gregorian() {
        let check = |seconds: u64, expected: &str| {
            let mut line = Vec::new();
            timestamp(&mut line, seconds * 1_000_000);
            assert_eq!(String::from_utf8_lossy(&line), expected);
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400, "2000-02-29T00:00:00.000000Z");
        check(1_709_251_199, "2024-02-29T23:59:59.000000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000000Z");
    }
}
