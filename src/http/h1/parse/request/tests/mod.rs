use super::*;
use FieldError::*;
use FramingError::*;
use RequestError::{
    BadHost, HeadTooLarge, HostMismatch, Method, MissingHost, Query, RequestLine, SeveralHosts, Target,
    UnknownExpectation, UnsupportedVersion,
};

mod framing;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 61_440, header_count: 200 };

fn parse(input: &[u8]) -> Result<RequestHead, RequestError> {
    parse_on(Scheme::Http, input)
}

fn parse_on(scheme: Scheme, input: &[u8]) -> Result<RequestHead, RequestError> {
    let mut head = RequestHead::default();
    let taken = parse_request(input, &mut 0, &LIMITS, scheme, &mut head)?;
    assert_eq!(taken, Some(input.len()), "{}", input.escape_ascii());
    Ok(head)
}

fn accepted(input: &str) -> RequestHead {
    parse(input.as_bytes()).unwrap_or_else(|error| panic!("{error:?}: {}", input.escape_debug()))
}

fn refused(input: &str, error: impl Into<RequestError>) {
    refused_bytes(input.as_bytes(), error);
}

fn refused_bytes(input: &[u8], error: impl Into<RequestError>) {
    assert_eq!(parse(input).err(), Some(error.into()), "{}", input.escape_ascii());
}

/// A GET with these field lines behind a Host.
fn with_fields(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_head_is_taken_apart() {
    let head = accepted(
        "GET /a/b?c=d HTTP/1.1\r\nHost: example.com:80\r\naccept:*/*\r\nX-Empty:\r\nx-odd: \t a  b \t\r\n\r\n",
    );
    assert_eq!((text(&head.method), text(&head.path), text(&head.query)), ("GET", "/a/b", "?c=d"));
    assert_eq!((text(&head.authority), head.version), ("example.com:80", Version::Http11));
    let fields: Vec<_> = head.fields.iter().map(|field| (text(field.name), text(field.value))).collect();
    assert_eq!(fields, [("Host", "example.com:80"), ("accept", "*/*"), ("X-Empty", ""), ("x-odd", "a  b")]);
    assert_eq!(
        (head.body, head.keep_alive, head.expects_continue, head.websocket),
        (BodyLength::None, true, false, false)
    );
}

#[test]
fn what_follows_the_head_is_left() {
    let mut head = RequestHead::default();
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\n\r\n";
    assert_eq!(parse_request(input, &mut 0, &LIMITS, Scheme::Http, &mut head), Ok(Some(27)));
    assert_eq!(head.path, b"/");
}

#[test]
fn a_head_leaves_nothing_to_the_next() {
    let mut head = RequestHead::default();
    let first = b"POST http://b/x?y HTTP/1.0\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(parse_request(first, &mut 0, &LIMITS, Scheme::Http, &mut head), Ok(Some(first.len())));
    let second = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(parse_request(second, &mut 0, &LIMITS, Scheme::Http, &mut head), Ok(Some(second.len())));
    assert_eq!(
        (text(&head.query), text(&head.authority), head.body, head.fields.len()),
        ("", "a", BodyLength::None, 1)
    );
}

#[test]
fn a_few_empty_lines_before_a_request_are_skipped() {
    for count in 0..=4 {
        accepted(&format!("{}{}", "\r\n".repeat(count), with_fields("")));
    }
    refused(&format!("{}{}", "\r\n".repeat(5), with_fields("")), RequestLine);
    refused("\n\r\n\r\n", RequestLine);
    refused("\r\n\n\r\n\r\n", RequestLine);
    refused("\r\r\n", BareCr);
    let mut head = RequestHead::default();
    for incomplete in ["", "\r", "\r\n", "\r\n\r", "\r\n\r\n"] {
        assert_eq!(
            parse_request(incomplete.as_bytes(), &mut 0, &LIMITS, Scheme::Http, &mut head),
            Ok(None),
            "{incomplete:?}"
        );
    }
}

#[test]
fn request_lines_that_are_refused() {
    for line in [
        "GET",
        "GET ",
        "GET /",
        "GET / ",
        "GET HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1,1",
        "GET / HTTP /1.1",
        "GET / HTTPS/1.1",
        "GET / HTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1 x",
        "GET / HTTP/1.x",
        "GET / HTTP/-1.1",
        "GET / HTTP/2",
    ] {
        let error = parse(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).err();
        assert_eq!(error, Some(RequestLine), "{line:?}");
    }
    for line in ["GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / x HTTP/1.1", "GET / HTTP/1.1 HTTP/1.1"] {
        let error = parse(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).expect_err(line);
        assert_eq!((error.status(), error.reason()), (400, "bad_target"), "{line:?}");
    }
    for line in [
        " / HTTP/1.1",
        " GET / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GE\"T / HTTP/1.1",
        "GET, / HTTP/1.1",
        "G:T / HTTP/1.1",
        "get / HTTP/1.1",
        "Get / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "{} / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "(GET) / HTTP/1.1",
    ] {
        refused(&format!("{line}\r\nHost: a\r\n\r\n"), Method);
    }
    accepted("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n");
    accepted(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(32)));
    refused(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33)), Method);
}

#[test]
fn other_versions_are_505() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        refused(&format!("GET / {version}\r\nHost: a\r\n\r\n"), UnsupportedVersion);
    }
    refused("PRI * HTTP/2.0\r\n\r\n", UnsupportedVersion);
    assert_eq!(UnsupportedVersion.status(), 505);
}

#[test]
fn target_forms() {
    for (method, target, path, query, authority) in [
        ("GET", "/", "/", "", "a"),
        ("GET", "//x/../y", "//x/../y", "", "a"),
        ("GET", "/?", "/", "?", "a"),
        ("GET", "/a?b?c/../d", "/a", "?b?c/../d", "a"),
        ("GET", "/%7Euser;v=1/(x)'!$&*+,=:@~_-.", "/%7Euser;v=1/(x)'!$&*+,=:@~_-.", "", "a"),
        ("GET", "/a[0]", "/a[0]", "", "a"),
        ("GET", "/a|b^c`\"<>{}", "/a|b^c`\"<>{}", "", "a"),
        ("GET", "/?a\\b<c>", "/", "?a\\b<c>", "a"),
        ("GET", "/?q={\"a\":[1|2^3`]}", "/", "?q={\"a\":[1|2^3`]}", "a"),
        ("GET", "/?100%", "/", "?100%", "a"),
        ("GET", "http://a", "/", "", "a"),
        ("GET", "HTTP://A:80/x?y", "/x", "?y", "A:80"),
        ("GET", "http://a?q", "/", "?q", "a"),
        ("OPTIONS", "*", "*", "", "a"),
        ("OPTIONS", "/", "/", "", "a"),
        ("OPTIONS", "http://a", "*", "", "a"),
        ("OPTIONS", "http://a/", "/", "", "a"),
        ("OPTIONS", "http://a?q", "/", "?q", "a"),
        ("CONNECT", "a:443", "", "", "a:443"),
    ] {
        let head = accepted(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let read = (text(&head.path), text(&head.query), text(&head.authority));
        assert_eq!(read, (path, query, authority), "{method} {target}");
    }
}

#[test]
fn targets_that_are_refused() {
    for (method, target) in [
        ("GET", ""),
        ("GET", "*"),
        ("GET", "a"),
        ("GET", "?q"),
        ("GET", "./a"),
        ("GET", "a:80"),
        ("GET", "a.b/c"),
        ("GET", "\\a"),
        ("GET", "https://a/"),
        ("GET", "ftp://a/"),
        ("GET", "ws://a/"),
        ("GET", "http:/a"),
        ("GET", "http:a"),
        ("GET", "http://"),
        ("GET", "http:///x"),
        ("GET", "http://?q"),
        ("GET", "http://:80/"),
        ("GET", "http://u@a/"),
        ("GET", "http://u:p@a/"),
        ("GET", "http://a:x/"),
        ("GET", "http://a:/"),
        ("GET", "http://a\\@b/"),
        ("GET", "http://a#b/"),
        ("GET", "http://a%2fb/"),
        ("GET", " http://a/"),
        ("OPTIONS", "**"),
        ("OPTIONS", "*?"),
        ("POST", "*"),
        ("CONNECT", "/"),
        ("CONNECT", "*"),
        ("CONNECT", "a"),
        ("CONNECT", "a:"),
        ("CONNECT", "a:80/"),
        ("CONNECT", "http://a:80"),
        ("CONNECT", "http://a/"),
        ("CONNECT", "u@a:80"),
    ] {
        refused(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"), Target);
    }
    for byte in (0..=0x20).chain(0x7f..=0xff).chain(*b"#\\") {
        if byte == b'\n' {
            continue;
        }
        let input = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        refused_bytes(&input, TargetError::Byte);
    }
    for byte in (0..=0x20).chain(0x7f..=0xff).chain(*b"#") {
        if byte == b'\n' {
            continue;
        }
        let input = [b"GET /?a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        refused_bytes(&input, Query);
    }
    for path in ["/%", "/%a", "/%zz", "/a%2"] {
        refused(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), TargetError::Escape);
    }
    refused("GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", TargetError::EscapedNul);
    refused("GET http://a/%00 HTTP/1.1\r\nHost: a\r\n\r\n", TargetError::EscapedNul);
}

#[test]
fn hosts() {
    for host in ["a", "example.com", "a:8080", "127.0.0.1", "[::1]", "[::1]:80", "A_b.c"] {
        assert_eq!(text(&accepted(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).authority), host);
    }
    assert_eq!(text(&accepted("GET / HTTP/1.0\r\n\r\n").authority), "");
    assert_eq!(text(&accepted("GET / HTTP/1.0\r\nHost: a\r\n\r\n").authority), "a");
    assert_eq!(text(&accepted("GET http://b/ HTTP/1.0\r\n\r\n").authority), "b");

    refused("GET / HTTP/1.1\r\n\r\n", MissingHost);
    refused("GET http://a/ HTTP/1.1\r\n\r\n", MissingHost);
    refused("CONNECT a:1 HTTP/1.1\r\n\r\n", MissingHost);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", SeveralHosts);
    refused("GET / HTTP/1.1\r\nHost: a\r\nx: y\r\nhost: b\r\n\r\n", SeveralHosts);
    refused("GET / HTTP/1.0\r\nHost: a\r\nHOST: b\r\n\r\n", SeveralHosts);
    for host in [
        "", " ", "a b", "a,b", "a/b", "http://a", "u@a", "a:", "a:x", "a:99999", "a#b", "a\\b", "[::1", "\u{e9}",
        "a..b", "*",
    ] {
        refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), BadHost);
        refused(&format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"), BadHost);
    }
    for (target, host) in [("http://a/", "b"), ("http://a/", "a:81"), ("http://a:81/", "a")] {
        refused(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), HostMismatch);
    }
    accepted("GET http://a/ HTTP/1.1\r\nHost: A.:80\r\n\r\n");
    for (target, host, agree) in [
        ("https://a/", "a", true),
        ("HTTPS://A:443/", "a", true),
        ("https://a", "a:443", true),
        ("https://a?q", "a", true),
        ("http://a/", "a", true),
        ("http://a:80/", "a", true),
        ("https://a:80/", "a", false),
        ("https://a/", "a:80", false),
        ("http://a/", "a:443", false),
        ("https://a/", "b", false),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let expected = if agree { None } else { Some(HostMismatch) };
        assert_eq!(parse_on(Scheme::Https, head.as_bytes()).err(), expected, "{target} {host}");
    }
    assert_eq!(parse_on(Scheme::Https, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n").err(), Some(Target));
    refused("CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n", HostMismatch);
    refused("CONNECT a:443 HTTP/1.1\r\nHost: a:80\r\n\r\n", HostMismatch);
    accepted("CONNECT a:443 HTTP/1.1\r\nHost: A:443\r\n\r\n");
}

#[test]
fn field_lines_that_are_refused() {
    for line in [
        ": a",
        ":",
        "a",
        "a b: c",
        "a : b",
        "a\t: b",
        "a\"b: c",
        "a(b): c",
        "a@b: c",
        "a[]: c",
        "a/b: c",
        "\u{e9}: c",
        "a\u{e9}: c",
        "a;b: c",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "Host : b",
        "a,b: c",
        "{a}: b",
        "a\\: b",
        "=: b",
    ] {
        refused(&with_fields(&format!("{line}\r\n")), Name);
    }
    for line in
        [" folded: a", "\tfolded: a", "a: b\r\n c", "a: b\r\n\tc", " ", "a: b\r\n ", "Transfer-Encoding:\r\n chunked"]
    {
        refused(&with_fields(&format!("{line}\r\n")), ObsoleteFold);
    }
    // White space between the request line and the first field.
    refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", ObsoleteFold);
    refused("GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", ObsoleteFold);
}

#[test]
fn line_ends_that_are_refused() {
    refused("GET / HTTP/1.1\nHost: a\r\n\r\n", RequestLine);
    refused("GET / HTTP/1.1\rHost: a\r\n\r\n", RequestLine);
    refused("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", RequestLine);
    refused("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", TargetError::Byte);
    refused(&with_fields("a: b\nc: d\r\n"), BareLf);
    refused(&with_fields("a: b\n c\r\n"), BareLf);
    refused(&with_fields("\na: b\r\n"), BareLf);
    refused(&with_fields("a: b\rc: d\r\n"), BareCr);
    refused(&with_fields("a: b\r\r\n"), BareCr);
    refused(&with_fields("a:\rb\r\n"), BareCr);
    refused(&with_fields("a\r: b\r\n"), BareCr);
    refused(&with_fields("Transfer-Encoding\r: chunked\r\n"), BareCr);
    refused(&with_fields("a: b\n\r\n"), BareLf);
    // An end of LF only must not be waited out.
    for input in ["GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\n\n"] {
        refused(input, BareLf);
    }
    refused("GET / HTTP/1.1\r\rHost: a\r\r", BareCr);
}

#[test]
fn control_bytes_are_refused_and_other_bytes_are_values() {
    for byte in 0..=0xffu8 {
        let input = [b"GET / HTTP/1.1\r\nHost: a\r\nx: a", &[byte][..], b"b\r\n\r\n"].concat();
        match byte {
            b'\r' => refused_bytes(&input, BareCr),
            b'\n' => refused_bytes(&input, BareLf),
            b'\t' | b' '..=b'~' | 0x80.. => {
                let head = parse(&input).unwrap_or_else(|error| panic!("{byte:#04x}: {error}"));
                assert_eq!(head.fields.get(b"x"), Some(&[b'a', byte, b'b'][..]));
            }
            _ => refused_bytes(&input, ControlByte),
        }
        // The same in a long value, where the vectorised check runs.
        let long = [b"GET / HTTP/1.1\r\nHost: a\r\nx: ", &[b'v'; 100][..], &[byte], &[b'v'; 77], b"\r\n\r\n"].concat();
        assert_eq!(parse(&long).is_ok(), parse(&input).is_ok(), "{byte:#04x}");
        let name = [b"GET / HTTP/1.1\r\nHost: a\r\nx", &[byte][..], b"y: b\r\n\r\n"].concat();
        assert_eq!(parse(&name).is_ok(), bytes::is(byte, bytes::TOKEN) || byte == b':', "{byte:#04x}");
    }
}

#[test]
fn a_head_has_a_size_and_a_number_of_fields() {
    let limits = HeadLimits { head_bytes: 64, header_count: 3 };
    let check =
        |input: &str| parse_request(input.as_bytes(), &mut 0, &limits, Scheme::Http, &mut RequestHead::default());
    let of_size = |size: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nx: \r\n\r\n";
        rest.replace("x: ", &format!("x: {}", "v".repeat(size - rest.len())))
    };
    assert_eq!(check(&of_size(64)), Ok(Some(64)));
    assert_eq!(check(&format!("\r\n{}", of_size(64))), Ok(Some(66)));
    assert_eq!(check(&of_size(65)), Err(HeadTooLarge));
    assert_eq!(check(&of_size(64)[..63]), Ok(None));
    assert_eq!(check(&of_size(65)[..64]), Err(HeadTooLarge));
    assert_eq!(check(&format!("GET /{}", "a".repeat(59))), Err(HeadTooLarge));
    assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\na: b\r\nc: d\r\n\r\n"), Ok(Some(39)));
    assert_eq!(check("GET / HTTP/1.1\r\nHost: a\r\na: b\r\nc: d\r\ne: f\r\n\r\n"), Err(TooMany.into()));
    for error in [HeadTooLarge, TooMany.into(), NameTooLong.into()] {
        assert_eq!(error.status(), 431);
    }
    let long_name = with_fields(&format!("{}: x\r\n", "n".repeat(65_536)));
    let limits = HeadLimits { head_bytes: 1 << 20, header_count: 200 };
    let error = parse_request(long_name.as_bytes(), &mut 0, &limits, Scheme::Http, &mut RequestHead::default());
    assert_eq!(error, Err(NameTooLong.into()));
}

#[test]
fn what_cannot_become_legal_is_refused_at_once() {
    for (beginning, error) in [
        ("\x16\x03\x01\x02", RequestError::from(ControlByte)),
        ("get", RequestLine),
        ("GET / HTTP/1.1\n", BareLf.into()),
        ("GET / HTTP/1.1\rX", BareCr.into()),
        ("GET /\0", ControlByte.into()),
        ("GET / HTTP/9.9\r\n", UnsupportedVersion),
        ("GET x HTTP/1.1\r\nHo", Target),
        ("GET / HTTP/1.1\r\nHost: a\n", BareLf.into()),
    ] {
        let error = Err(error);
        assert_eq!(
            parse_request(beginning.as_bytes(), &mut 0, &LIMITS, Scheme::Http, &mut RequestHead::default()),
            error,
            "{beginning:?}"
        );
        // And so when it drips in.
        let (mut head, mut scanned) = (RequestHead::default(), 0);
        let dripped = (1..=beginning.len()).find_map(|len| {
            parse_request(&beginning.as_bytes()[..len], &mut scanned, &LIMITS, Scheme::Http, &mut head).err()
        });
        assert_eq!(dripped.map(|error| error.status()), error.err().map(|error| error.status()), "{beginning:?}");
    }
}

#[test]
fn an_error_leaves_what_the_log_needs() {
    let check = |input: &str, limits: &HeadLimits, method: &str, path: &str| {
        let mut head = RequestHead::default();
        assert!(parse_request(input.as_bytes(), &mut 0, limits, Scheme::Http, &mut head).is_err(), "{input:?}");
        assert_eq!((text(&head.method), text(&head.path)), (method, path), "{input:?}");
    };
    check("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &LIMITS, "GET", "/a");
    check("GET /a HTTP/1.1\r\nHost: a\n\r\n", &LIMITS, "GET", "/a");
    check("GET /a?\x01 HTTP/1.1\r\n\r\n", &LIMITS, "GET", "/a");
    check("GET \\ HTTP/1.1\r\n\r\n", &LIMITS, "GET", "");
    let small = HeadLimits { head_bytes: 30, header_count: 1 };
    check("GET /a HTTP/1.1\r\nHost: a\r\nlong: er", &small, "GET", "/a");
    check("GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &small, "GET", "");
}

#[test]
fn a_position_beyond_the_input_does_no_harm() {
    for beginning in ["", "\r\n", "GET / HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let taken = parse_request(beginning.as_bytes(), &mut 1000, &LIMITS, Scheme::Http, &mut RequestHead::default());
        assert_eq!(taken, Ok(None), "{beginning:?}");
    }
}
