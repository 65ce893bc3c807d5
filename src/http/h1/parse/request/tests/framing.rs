//! Length, keep-alive, expectations and upgrades.

use super::*;

#[test]
fn content_lengths() {
    for (value, body) in [
        ("5", BodyLength::Length(5)),
        ("0", BodyLength::None),
        ("\t 5 \t", BodyLength::Length(5)),
        ("010", BodyLength::Length(10)),
        ("9223372036854775807", BodyLength::Length(i64::MAX as u64)),
    ] {
        assert_eq!(accepted(&post(&format!("Content-Length:{value}\r\n"))).body, body, "{value:?}");
    }
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "5,",
        ",5",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5h",
        "5.0",
        "1e3",
        "1_000",
        "five",
        "\"5\"",
        "5;",
        "\u{665}",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999",
    ] {
        refused(&post(&format!("Content-Length: {value}\r\n")), BadContentLength);
    }
    refused(&post("Content-Length: 5\r\nContent-Length: 5\r\n"), SeveralContentLengths);
    refused(&post("Content-Length: 5\r\ncontent-length: 6\r\n"), SeveralContentLengths);
    refused(&post("Content-Length: 0\r\nx: y\r\nCONTENT-LENGTH: 6\r\n"), SeveralContentLengths);
    // A GET may have a body.
    assert_eq!(accepted(&with_fields("Content-Length: 3\r\n")).body, BodyLength::Length(3));
}

#[test]
fn transfer_encodings() {
    for value in ["chunked", "Chunked", "CHUNKED", " \tchunked\t "] {
        assert_eq!(accepted(&post(&format!("Transfer-Encoding:{value}\r\n"))).body, BodyLength::Chunked, "{value:?}");
    }
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;",
        "chunked;q=1",
        "chunked identity",
        "xchunked",
        "chunkedx",
        "chunke",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{a0}",
        "\u{a0}chunked",
        "ch\u{fc}nked",
        "c hunked",
    ] {
        refused(&post(&format!("Transfer-Encoding: {value}\r\n")), BadTransferEncoding);
    }
    refused(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), BadTransferEncoding);
    refused(&post("Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n"), BadTransferEncoding);
    refused(&post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), BadTransferEncoding);
    refused(&post("Transfer-Encoding: \x0bchunked\r\n"), ControlByte);
    refused(&post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), LengthAndCoding);
    refused(&post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding);
    refused(&post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding);
    refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInHttp10);
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", CodingInHttp10);
    for line in ["Transfer_Encoding: chunked", "transfer_encoding: x", "Content_Length: 5", "CONTENT_LENGTH: 5"] {
        refused(&post(&format!("{line}\r\n")), Lookalike);
    }
    accepted(&post("x-content-length: 7\r\nContent-Lengths: 7\r\nTransfer-Encodings: x\r\nContentXLength: 7\r\n"));
}

#[test]
fn keep_alive() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: ,close ,\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = accepted(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(head.keep_alive, keep_alive, "{version} {lines}");
    }
    for value in ["a b", "\"close\"", "close;", "a/b", "keep-alive, a b", "\u{e9}", "close\\"] {
        refused(&with_fields(&format!("Connection: {value}\r\n")), BadConnection);
    }
    accepted(&with_fields(&format!("Connection: {}\r\n", "a,".repeat(32))));
    refused(&with_fields(&format!("Connection: {}\r\n", "a,".repeat(33))), BadConnection);
}

#[test]
fn expectations() {
    for (lines, expects) in [
        ("Expect: 100-continue\r\nContent-Length: 5\r\n", true),
        ("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("Expect: 100-continue\r\n", false),
        ("Expect: 100-continue\r\nContent-Length: 0\r\n", false),
    ] {
        assert_eq!(accepted(&post(lines)).expects_continue, expects, "{lines}");
    }
    for value in
        ["", "x", "200-ok", "100-continue, x", "100-continue;q=1", "x 100-continue", "100-continue,100-continue", "100"]
    {
        refused(&post(&format!("Expect: {value}\r\nContent-Length: 5\r\n")), UnknownExpectation);
        refused(&with_fields(&format!("Expect: {value}\r\n")), UnknownExpectation);
    }
    refused(&post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"), UnknownExpectation);
    refused(&post("Expect:\r\n 100-continue\r\nContent-Length: 5\r\n"), ObsoleteFold);
    assert_eq!(UnknownExpectation.status(), 417);
    for value in ["100-continue", "x"] {
        let head = accepted(&format!("POST / HTTP/1.0\r\nExpect: {value}\r\nContent-Length: 5\r\n\r\n"));
        assert!(!head.expects_continue);
    }
}

#[test]
fn websocket_upgrades() {
    const ASKS: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
    assert!(accepted(&with_fields(ASKS)).websocket);
    for other in [
        post(ASKS),
        with_fields(&format!("{ASKS}Content-Length: 5\r\n")),
        with_fields(&format!("{ASKS}Transfer-Encoding: chunked\r\n")),
        format!("GET / HTTP/1.0\r\nHost: a\r\n{ASKS}\r\n"),
        with_fields("Connection: upgrade\r\n"),
        with_fields("Upgrade: websocket\r\n"),
        with_fields("Connection: close\r\nUpgrade: websocket\r\n"),
        with_fields("Connection: upgrade\r\nUpgrade: h2c\r\n"),
        with_fields("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"),
        with_fields("Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"),
    ] {
        assert!(!accepted(&other).websocket, "{other}");
    }
}

fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}
