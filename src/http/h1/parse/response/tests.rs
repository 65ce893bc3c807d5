use super::*;
use crate::http::quirks::Quirk;
use FieldError::*;
use FramingError::*;
use ResponseError::{HeadTooLarge, Http2, LengthWithoutBody, StatusLine, Tls, UnsolicitedUpgrade};
use ResponseTo::{Head, Other, Upgrade};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 61_440, header_count: 200 };

fn parse(input: &str, request: ResponseTo) -> Result<ResponseHead, ResponseError> {
    let mut head = ResponseHead::default();
    let taken = parse_response(input.as_bytes(), &mut 0, &LIMITS, request, &mut head)?;
    assert_eq!(taken, Some(input.len()), "{}", input.escape_debug());
    Ok(head)
}

fn accepted(input: &str, request: ResponseTo) -> ResponseHead {
    parse(input, request).unwrap_or_else(|error| panic!("{error:?}: {}", input.escape_debug()))
}

fn refused(input: &str, error: impl Into<ResponseError>) {
    let error = error.into();
    assert_eq!(parse(input, Other).err(), Some(error), "{}", input.escape_debug());
    assert_eq!(error.status(), 502);
}

#[test]
fn status_lines() {
    for (line, status, version) in [
        ("HTTP/1.1 200 OK", 200, Version::Http11),
        ("HTTP/1.0 404 Not Found", 404, Version::Http10),
        ("HTTP/1.1 200 ", 200, Version::Http11),
        ("HTTP/1.1 200", 200, Version::Http11),
        ("HTTP/1.1 299  two  spaces ", 299, Version::Http11),
        ("HTTP/1.1 599 \u{e9}\t", 599, Version::Http11),
        ("HTTP/1.1 100 Continue", 100, Version::Http11),
    ] {
        let head = accepted(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), Other);
        assert_eq!((head.status, head.version), (status, version), "{line}");
    }
    for line in [
        "",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 2",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 0200 OK",
        "HTTP/1.1 099 x",
        "HTTP/1.1 000 x",
        "HTTP/1.1 +20 x",
        "HTTP/1.1 -20 x",
        "HTTP/1.1 2 0 x",
        "HTTP/1.1 20x OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1  ",
        "HTTP/1.1  0200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 OK 200",
        "HTTP/2.0 200 OK",
        "HTTP/2 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1. 200 OK",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "HTTPS/1.1 200 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "<html>",
        "GET / HTTP/1.1",
    ] {
        refused(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), StatusLine);
    }
}

#[test]
fn what_is_no_response_is_refused_at_once() {
    let check =
        |beginning: &str| parse_response(beginning.as_bytes(), &mut 0, &LIMITS, Other, &mut ResponseHead::default());
    for beginning in [
        "",
        "H",
        "HTTP/1.",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 200",
        "HTTP/1.1 200\r",
        "HTTP/1.1 200 OK\r",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 200 OK\r\nx: y\r\n\r",
        "HTTP/1.1 200 OK\r\nx: y\r\n z\r\nw",
    ] {
        assert_eq!(check(beginning), Ok(None), "{beginning:?}");
    }
    for (beginning, error) in [
        ("\n", StatusLine),
        ("SSH-2.0", StatusLine),
        ("<h", StatusLine),
        ("HTTP/2", StatusLine),
        ("\x15\x03\x03\0\x02\x02F", Tls),
        ("\x16\x03\x01", Tls),
        ("\0\0\x12\x04\0\0\0\0\0", Http2),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2),
        ("HTTP/1.x", StatusLine),
        ("HTTP/1.1x", StatusLine),
        ("HTTP/1.1 2x", StatusLine),
        ("HTTP/1.1 0", StatusLine),
        ("HTTP/1.1 20 ", StatusLine),
        ("HTTP/1.1 2000", StatusLine),
        ("HTTP/1.1 OK", StatusLine),
        ("HTTP/1.1 20\r\n", StatusLine),
        ("HTTP/1.1 200 OK\r\nnonsense\r\n", Name.into()),
        ("HTTP/1.1 200 OK\r\nx: y\r\n: z\r\n", Name.into()),
        ("HTTP/1.1 200 OK\r\n x: y\r\n", ObsoleteFold.into()),
        ("HTTP/1.1 200\0", ControlByte.into()),
        ("HTTP/1.1 200 OK\rx", BareCr.into()),
    ] {
        assert_eq!(check(beginning), Err(error), "{beginning:?}");
    }
}

#[test]
fn body_lengths() {
    use BodyLength::{Chunked, Length, None, UntilClose};
    for (status, lines, request, body, content_length) in [
        (200, "", Other, UntilClose, Option::None),
        (200, "Content-Length: 5\r\n", Other, Length(5), Some(5)),
        (200, "Content-Length: 0\r\n", Other, None, Some(0)),
        (200, "Transfer-Encoding: chunked\r\n", Other, Chunked, Option::None),
        (200, "", Head, None, Option::None),
        (200, "Content-Length: 5\r\n", Head, None, Some(5)),
        (200, "Transfer-Encoding: chunked\r\n", Head, None, Option::None),
        (200, "Content-Length: 5\r\n", Upgrade, Length(5), Some(5)),
        (404, "", Head, None, Option::None),
        (304, "", Other, None, Option::None),
        (304, "Content-Length: 5\r\n", Other, None, Some(5)),
        (304, "Transfer-Encoding: chunked\r\n", Other, None, Option::None),
        (204, "", Other, None, Option::None),
        (204, "Content-Length: 0\r\n", Other, None, Some(0)),
        (205, "", Other, UntilClose, Option::None),
        (100, "", Other, None, Option::None),
        (103, "Link: </a>\r\n", Head, None, Option::None),
        (500, "", Other, UntilClose, Option::None),
    ] {
        let head = accepted(&format!("HTTP/1.1 {status} x\r\n{lines}\r\n"), request);
        assert_eq!((head.body, head.content_length), (body, content_length), "{status} {lines} {request:?}");
    }
}

#[test]
fn framing_that_is_refused() {
    let ok = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    for value in ["", "+5", "-5", "0x5", "5,6", "5,", ",5", "5,,5", "5, x", "1 1", "5a", "1.0", "9223372036854775808"] {
        refused(&ok(&format!("Content-Length: {value}\r\n")), BadContentLength);
    }
    refused(&ok("Content-Length: 5\r\nContent-Length: x\r\n"), SeveralContentLengths);
    refused(&ok("Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding);
    refused(&ok("Content-Length: 5\r\ncontent-length: 50\r\n"), SeveralContentLengths);
    refused(&ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding);
    for value in ["", "identity", "gzip", "gzip, chunked", "chunked, chunked", "chunked, identity", "chunked;x"] {
        refused(&ok(&format!("Transfer-Encoding: {value}\r\n")), BadTransferEncoding);
    }
    refused(&ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), BadTransferEncoding);
    let both = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
    refused(both, LengthAndCoding);
    for status in [100, 102, 103, 199, 204] {
        refused(&format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n"), LengthWithoutBody);
        refused(&format!("HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\n\r\n"), LengthWithoutBody);
    }
    refused(&ok(&format!("Connection: {}\r\n", "a,".repeat(33))), BadConnection);
}

#[test]
fn field_lines_that_are_refused() {
    let ok = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    for line in [": a", "a", "a b: c", "a b : c", "\u{e9}: a"] {
        refused(&ok(&format!("{line}\r\n")), Name);
    }
    refused(&ok(" a: b\r\n"), ObsoleteFold);
    refused(&ok("a: b\rc: d\r\n"), BareCr);
    refused(&ok("a: \0\r\n"), ControlByte);
    refused(&ok("a: \x7f\r\n"), ControlByte);
    refused("HTTP/1.1 200 a\0b\r\n\r\n", ControlByte);
    refused("HTTP/1.1 200 a\rb\r\n\r\n", BareCr);
    refused(&ok("a: \0b\r\n c\r\n"), ControlByte);
    refused(&ok("a: b\r\r\n"), BareCr);
    refused(&ok(&"a: b\r\n".repeat(201)), TooMany);
    accepted(&ok(&"a: b\r\n".repeat(200)), Other);
}

#[test]
fn what_strays_and_has_one_reading() {
    for (input, quirks, status, version, body, fields) in [
        (
            "HTTP/1.1 200 OK\nContent-Length: 5\nA: b\n\n",
            &[Quirk::BareLf][..],
            200,
            Version::Http11,
            BodyLength::Length(5),
            &[("Content-Length", "5"), ("A", "b")][..],
        ),
        ("HTTP/1.1 204\n\r\n", &[Quirk::BareLf], 204, Version::Http11, BodyLength::None, &[]),
        (
            "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 5\r\n\n",
            &[Quirk::BareLf],
            200,
            Version::Http11,
            BodyLength::Length(5),
            &[("A", "b"), ("Content-Length", "5")],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length : 5\r\nA\t : b\r\n\r\n",
            &[Quirk::SpaceBeforeColon],
            200,
            Version::Http11,
            BodyLength::Length(5),
            &[("Content-Length", "5"), ("A", "b")],
        ),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\n\t c \r\n \r\nContent-Length:\r\n 5\r\n\r\n",
            &[Quirk::ObsoleteFold],
            200,
            Version::Http11,
            BodyLength::Length(5),
            &[("A", "b c"), ("Content-Length", "5")],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05, 5\r\n\r\n",
            &[Quirk::ContentLengthRepeated],
            200,
            Version::Http11,
            BodyLength::Length(5),
            &[("Content-Length", "5")],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent_Length: 9\r\n 9\r\nTransfer_Encoding: x\r\nContent-Length: 5\r\n\r\n",
            &[Quirk::FramingLookalike, Quirk::ObsoleteFold],
            200,
            Version::Http11,
            BodyLength::Length(5),
            &[("Content-Length", "5")],
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
            &[Quirk::Http10Chunked],
            200,
            Version::Http10,
            BodyLength::Chunked,
            &[("Transfer-Encoding", "chunked"), ("Connection", "keep-alive")],
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: a b, close, (x)\r\nConnection: y\r\n\r\n",
            &[Quirk::ConnectionOption],
            200,
            Version::Http11,
            BodyLength::UntilClose,
            &[("Connection", "close, y")],
        ),
        ("HTTP/1.2 200 OK\r\n\r\n", &[Quirk::MinorVersion], 200, Version::Http11, BodyLength::UntilClose, &[]),
        ("HTTP/1.0   404\r\n\r\n", &[Quirk::StatusLineSpaces], 404, Version::Http10, BodyLength::UntilClose, &[]),
        ("HTTP/1.1 999 No\r\n\r\n", &[Quirk::StatusAbove599], 999, Version::Http11, BodyLength::UntilClose, &[]),
    ] {
        // At once, and byte by byte.
        for pieces in [false, true] {
            let mut head = ResponseHead::default();
            let mut scanned = 0;
            if pieces {
                for end in 0..input.len() {
                    let read = parse_response(&input.as_bytes()[..end], &mut scanned, &LIMITS, Other, &mut head);
                    assert_eq!(read, Ok(None), "{}", input[..end].escape_debug());
                }
            }
            let read = parse_response(input.as_bytes(), &mut scanned, &LIMITS, Other, &mut head);
            assert_eq!(read, Ok(Some(input.len())), "{}", input.escape_debug());
            assert_eq!(head.quirks.iter().collect::<Vec<_>>(), quirks, "{}", input.escape_debug());
            assert_eq!((head.status, head.version, head.body), (status, version, body), "{}", input.escape_debug());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let read: Vec<_> = head.fields.iter().map(|field| (text(field.name), text(field.value))).collect();
            let read: Vec<_> = read.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            assert_eq!(read, fields, "{}", input.escape_debug());
        }
    }
    let head = accepted("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", Other);
    assert!(!head.keep_alive);
}

#[test]
fn keep_alive() {
    for (version, status, lines, request, keep_alive) in [
        ("1.1", 200, "Content-Length: 5\r\n", Other, true),
        ("1.1", 200, "Transfer-Encoding: chunked\r\n", Other, true),
        ("1.1", 200, "Content-Length: 5\r\nConnection: close\r\n", Other, false),
        ("1.1", 200, "", Other, false),
        ("1.1", 200, "Connection: keep-alive\r\n", Other, false),
        ("1.1", 200, "", Head, true),
        ("1.1", 204, "", Other, true),
        ("1.0", 200, "Content-Length: 5\r\n", Other, false),
        ("1.0", 200, "Content-Length: 5\r\nConnection: keep-alive\r\n", Other, true),
        ("1.0", 200, "Connection: keep-alive\r\n", Other, false),
        ("1.0", 304, "Connection: keep-alive\r\n", Other, true),
        ("1.0", 200, "Content-Length: 5\r\nConnection: keep-alive, close\r\n", Other, false),
    ] {
        let head = accepted(&format!("HTTP/{version} {status} x\r\n{lines}\r\n"), request);
        assert_eq!(head.keep_alive, keep_alive, "{version} {status} {lines}");
    }
}

#[test]
fn an_upgrade_must_have_been_asked_for() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let head = accepted(SWITCH, Upgrade);
    assert_eq!((head.status, head.body, head.keep_alive), (101, BodyLength::None, false));
    for request in [Other, Head] {
        assert_eq!(parse(SWITCH, request).err(), Some(UnsolicitedUpgrade));
    }
    for lines in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
    ] {
        let input = format!("HTTP/1.1 101 x\r\n{lines}\r\n");
        assert_eq!(parse(&input, Upgrade).err(), Some(UnsolicitedUpgrade), "{lines}");
    }
    let old = SWITCH.replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(parse(&old, Upgrade).err(), Some(UnsolicitedUpgrade));
    let long = SWITCH.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(parse(&long, Upgrade).err(), Some(LengthWithoutBody));
}

#[test]
fn a_head_has_a_size() {
    let limits = HeadLimits { head_bytes: 32, header_count: 3 };
    let check = |input: &str| parse_response(input.as_bytes(), &mut 0, &limits, Other, &mut ResponseHead::default());
    let of_size = |size: usize| format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(size - 17));
    assert_eq!(check(&of_size(32)), Ok(Some(32)));
    assert_eq!(check(&of_size(33)), Err(HeadTooLarge));
    assert_eq!(check(&of_size(40)[..31]), Ok(None));
    assert_eq!(check(&of_size(40)[..32]), Err(HeadTooLarge));
}

#[test]
fn a_head_leaves_nothing_to_the_next() {
    let mut head = accepted("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Other);
    let next = b"HTTP/1.1 204 x\r\n\r\nleft over";
    assert_eq!(parse_response(next, &mut 0, &LIMITS, Other, &mut head), Ok(Some(18)));
    assert_eq!((head.status, head.body, head.content_length, head.fields.len()), (204, BodyLength::None, None, 0));
}
