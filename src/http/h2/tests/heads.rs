use super::*;
use crate::http::{
    bytes,
    head::{BodyLength, ResponseHead, Version},
};

/// The usual pseudo-fields, changed: a value of `-` leaves one out; other names come behind.
fn with(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut list = GET.to_vec();
    for &(name, value) in changes {
        match list.iter_mut().find(|field| field.0 == name && name.starts_with(':')) {
            Some(field) => field.1 = value,
            None => list.push((name, value)),
        }
    }
    list.retain(|field| field.1 != "-");
    list
}

fn accepted(list: &[(&str, &str)], end: bool) -> RequestHead {
    let mut server = server(&Limits::default());
    receive(&mut server, &headers(1, list, end));
    let stream = StreamId(1);
    assert_eq!(events(&mut server), [Event::Request { stream, end }], "{list:?}");
    let mut head = RequestHead::default();
    assert!(server.take_request(stream, &mut head) && !server.take_request(stream, &mut head));
    head
}

/// Answered with 400 and, where the client has ended its request, reset.
fn rejected(list: &[(&str, &str)], end: bool) {
    let mut server = server(&Limits::default());
    receive(&mut server, &headers(1, list, end));
    let events = events(&mut server);
    assert!(matches!(events[..], [Event::Refuse { status: 400, .. }]), "{list:?}: {events:?}");
    let mut head = RequestHead::default();
    assert!(server.take_request(StreamId(1), &mut head));
    // What the log may say of it is nothing that HTTP/1 would not let pass.
    assert!(bytes::all(&head.method, bytes::METHOD) && bytes::all(&head.path, bytes::PATH), "{list:?}");
    assert!(bytes::all(&head.query, bytes::QUERY) && head.version == Version::Http2, "{list:?}");
    server.send_response(StreamId(1), 400, no_fields(), true);
    server.forget(StreamId(1));
    let code = if end { Code::PROTOCOL_ERROR } else { Code::NO_ERROR };
    assert_eq!(was_reset(&mut server, 1), Some(code), "{list:?}");
    // The connection goes on, and holds nothing.
    receive(&mut server, &get(3));
    assert_eq!((server.open_streams(), server.header_memory), (1, server.memory.used()));
}

#[test]
fn a_head_is_what_http1_would_have_made_of_it() {
    let head = accepted(
        &with(&[
            (":path", "/a/b?c=d?e"),
            ("accept", "*/*"),
            ("cookie", "a=b"),
            ("x", ""),
            ("cookie", "c=d"),
            ("te", "trailers"),
        ]),
        true,
    );
    assert_eq!((&head.method[..], &head.path[..], &head.query[..]), (&b"GET"[..], &b"/a/b"[..], &b"?c=d?e"[..]));
    assert_eq!((&head.authority[..], head.version, head.body), (&b"a.test"[..], Version::Http2, BodyLength::None));
    let lines: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
    assert_eq!(lines, [(&b"accept"[..], &b"*/*"[..]), (b"cookie", b"a=b; c=d"), (b"x", b""), (b"te", b"trailers")]);
    assert!(head.keep_alive && !head.expects_continue && !head.websocket);

    let post =
        |list: &[(&'static str, &'static str)], end| accepted(&with(&[&[(":method", "POST")], list].concat()), end);
    assert_eq!(post(&[("content-length", "5")], false).body, BodyLength::Length(5));
    assert_eq!(post(&[], false).body, BodyLength::Chunked);
    assert_eq!(post(&[("content-length", "0")], false).body, BodyLength::Chunked);
    assert_eq!(post(&[("content-length", "0")], true).body, BodyLength::None);
    assert!(post(&[("expect", "100-continue")], false).expects_continue);
    assert_eq!(accepted(&with(&[(":method", "OPTIONS"), (":path", "*")]), true).path, b"*");
    assert_eq!(accepted(&with(&[(":authority", "-"), ("host", "b.test")]), true).authority, b"b.test");
    accepted(&with(&[(":authority", "A.test:443"), ("host", "a.test")]), true);
    accepted(&with(&[(":scheme", "http"), (":authority", "a.test:80"), ("host", "a.test")]), true);
}

#[test]
fn tunnels() {
    let head = accepted(&[(":method", "CONNECT"), (":authority", "a.test:443")], false);
    assert_eq!(
        (&head.method[..], &head.authority[..], &head.path[..]),
        (&b"CONNECT"[..], &b"a.test:443"[..], &b""[..])
    );
    let extended = with(&[(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/chat?a")]);
    let mut server = server(&Limits::default());
    // Pseudo-fields in any order, before the others.
    receive(&mut server, &headers(1, &extended, false));
    let mut head = RequestHead::default();
    server.take_request(StreamId(1), &mut head);
    assert_eq!((&head.method[..], &head.path[..], head.websocket), (&b"GET"[..], &b"/chat"[..], true));

    rejected(&extended, true);
    rejected(&[(":method", "CONNECT"), (":authority", "a.test")], false);
    rejected(&[(":method", "CONNECT"), (":authority", "a.test:1"), (":path", "/")], false);
    rejected(&[(":method", "CONNECT"), ("host", "a.test:1")], false);
    rejected(&with(&[(":protocol", "websocket")]), false);
    let mut server = super::server(&Limits { extended_connect: false, ..Limits::default() });
    receive(&mut server, &headers(1, &extended, false));
    assert!(matches!(events(&mut server)[..], [Event::Refuse { status: 400, .. }]));
}

#[test]
fn malformed_heads_are_answered_and_reset() {
    for change in [
        (":method", "-"),
        (":method", ""),
        (":method", "get"),
        (":method", "GET "),
        (":method", "GET / HTTP/1.1\r\nx: y"),
        (":method", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        (":scheme", "-"),
        (":scheme", ""),
        (":scheme", "ftp"),
        (":scheme", "https://evil"),
        (":path", "-"),
        (":path", ""),
        (":path", "*"),
        (":path", "a"),
        (":path", "http://a.test/"),
        (":path", "/a b"),
        (":path", "/a\r\nx: y"),
        (":path", "/\0"),
        (":path", "/a#b"),
        (":path", "/a?b#c"),
        (":path", "/\\"),
        (":path", "/%"),
        (":path", "/%00"),
        (":path", "/\u{e9}"),
        (":authority", "-"),
        (":authority", ""),
        (":authority", "a.test/"),
        (":authority", "u@a.test"),
        (":authority", "a.test\r\nx: y"),
        (":authority", "a b"),
        ("host", "b.test"),
        ("host", "a.test:8443"),
        ("host", ""),
        (":status", "200"),
        (":unknown", "x"),
        (":", "x"),
        ("", "x"),
        ("Accept", "x"),
        ("a b", "x"),
        ("a\r\nb", "x"),
        ("a:b", "x"),
        ("a\0", "x"),
        ("\u{e9}", "x"),
        ("x", " a"),
        ("x", "a "),
        ("x", "\ta"),
        ("x", "a\r"),
        ("x", "a\nb"),
        ("x", "a\r\nb: c"),
        ("x", "a\0b"),
        ("x", "a\x01b"),
        ("x", "a\x7f"),
        ("connection", "close"),
        ("connection", "x"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("transfer_encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("content-length", "5"),
        ("content-length", "-1"),
        ("content-length", "+0"),
        ("content-length", ""),
        ("content-length", "0, 0"),
        ("content-length", "99999999999999999999"),
        ("content_length", "0"),
    ] {
        rejected(&with(&[change]), true);
    }
    let behind = |list: &[(&'static str, &'static str)]| rejected(&[&GET[..], list].concat(), true);
    behind(&[(":path", "/")]);
    behind(&[(":authority", "a.test")]);
    behind(&[("x", "y"), (":protocol", "websocket")]);
    behind(&[("host", "a.test"), ("host", "a.test")]);
    behind(&[("content-length", "0"), ("content-length", "0")]);
    rejected(&[GET[0], GET[1], ("x", "y"), GET[2], GET[3]], true);
}

#[test]
fn what_can_be_answered_is() {
    let refused = |list: &[(&str, &str)], status: u16, limits: &Limits| {
        let mut server = server(limits);
        receive(&mut server, &headers(1, list, false));
        let events = events(&mut server);
        assert!(matches!(events[..], [Event::Refuse { status: is, .. }] if is == status), "{events:?}");
        let stream = StreamId(1);
        let mut head = RequestHead::default();
        assert!(server.take_request(stream, &mut head));
        assert_eq!(head.path, b"/");
        // Its body is dropped and its window comes back; behind the answer comes NO_ERROR.
        for _ in 0..40 {
            receive(&mut server, &frame(kind::DATA, 0, 1, &[0; 4096]));
        }
        assert!(server.take_data(stream).is_none() && server.next_event().is_none());
        server.send_response(stream, status, no_fields(), true);
        server.forget(stream);
        assert_eq!(was_reset(&mut server, 1), Some(Code::NO_ERROR));
        // What crosses the reset does no harm, and HPACK is in step.
        receive(&mut server, &frame(kind::DATA, flag::END_STREAM, 1, b"x"));
        receive(&mut server, &headers(3, &[&GET[..], &[("x", "y")]].concat(), true));
        assert!(server.take_request(StreamId(3), &mut head));
        assert_eq!((head.fields.len(), server.open_streams()), (1, 1));
    };
    let limits = Limits::default();
    let long = "x".repeat(70_000);
    refused(&[&GET[..], &[("x", &long[..])]].concat(), 431, &limits);
    refused(&[&GET[..], &[("x", &long[..20_000]); 4]].concat(), 431, &limits);
    refused(&[&GET[..], &[("cookie", "a=b"); 201]].concat(), 431, &limits);
    refused(&with(&[("expect", "200-ok")]), 417, &limits);
    refused(&with(&[(":method", "CONNECT"), (":protocol", "ftp")]), 501, &limits);
}

#[test]
fn bodies_keep_to_their_content_length() {
    let post = |length: &'static str| headers(1, &with(&[(":method", "POST"), ("content-length", length)]), false);
    for (length, frames) in [
        ("5", vec![(&b"123456"[..], false)]),
        ("5", vec![(b"1234", true)]),
        ("5", vec![(b"123", false), (b"456", false)]),
        ("0", vec![(b"1", true)]),
        ("5", vec![(b"12345", false), (b"6", true)]),
    ] {
        let mut server = server(&Limits::default());
        receive(&mut server, &post(length));
        assert_eq!(events(&mut server).len(), 1);
        for (data, end) in frames {
            receive(&mut server, &frame(kind::DATA, u8::from(end), 1, data));
        }
        let reset = Event::Reset { stream: StreamId(1), code: Code::PROTOCOL_ERROR, by_peer: false };
        assert_eq!(events(&mut server), [reset]);
        assert!(server.take_data(StreamId(1)).is_none() && !server.is_ended(StreamId(1)));
    }
    let mut server = server(&Limits::default());
    receive(&mut server, &post("5"));
    receive(&mut server, &frame(kind::DATA, flag::PADDED, 1, b"\x02123\0\0"));
    receive(&mut server, &frame(kind::DATA, flag::END_STREAM, 1, b"45"));
    assert!(!server.is_ended(StreamId(1)));
    assert_eq!(server.take_data(StreamId(1)).unwrap().bytes(), b"12345");
    assert!(server.is_ended(StreamId(1)));
}

#[test]
fn trailers() {
    let check = |trailers: &[(&str, &str)], end: bool| {
        let mut server = server(&Limits::default());
        receive(&mut server, &post(1));
        events(&mut server);
        receive(&mut server, &headers(1, trailers, end));
        let last = events(&mut server).pop().unwrap();
        let trailers = server.take_trailers(StreamId(1));
        (
            last,
            trailers
                .map(|fields| fields.iter().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect::<Vec<_>>()),
        )
    };
    let stream = StreamId(1);
    let (event, names) = check(&[("x-sum", "1"), ("cookie", "a"), ("x-more", "2")], true);
    assert_eq!((event, names.unwrap()), (Event::End { stream }, vec!["x-sum".to_owned(), "x-more".to_owned()]));
    let reset = Event::Reset { stream, code: Code::PROTOCOL_ERROR, by_peer: false };
    let long = "x".repeat(9000);
    for bad in [
        (":path", "/"),
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
        ("host", "a"),
        ("X", "y"),
        ("x", "a\r\nb"),
        ("x", &long),
    ] {
        assert_eq!(check(&[bad], true), (reset, None), "{bad:?}");
    }
    assert_eq!(check(&[("x", "y")], false), (reset, None));
}

#[test]
fn responses() {
    let exchange = |method: &str, list: &[&[(&str, &str)]], end: bool| {
        let mut client = client(&Limits::default());
        let request = crate::http::h2::Outgoing {
            method: method.as_bytes(),
            scheme: b"https",
            authority: b"a.test",
            path: b"/",
            query: b"?q",
            protocol: None,
        };
        let stream = client.send_request(&request, no_fields(), true).unwrap();
        for (index, fields) in list.iter().enumerate() {
            receive(&mut client, &headers(1, fields, end && index + 1 == list.len()));
        }
        (client, stream)
    };
    let (mut client, stream) =
        exchange("GET", &[&[(":status", "103"), ("link", "a")], &[(":status", "200"), ("content-length", "5")]], false);
    let response = Event::Response { stream, end: false };
    assert_eq!(events(&mut client), [response, response]);
    let mut head = ResponseHead::default();
    assert!(client.take_response(stream, &mut head) && head.status == 103 && head.body == BodyLength::None);
    assert!(client.take_response(stream, &mut head) && head.status == 200);
    assert_eq!((head.body, head.content_length), (BodyLength::Length(5), Some(5)));
    assert!(!client.take_response(stream, &mut head));

    for (method, status, length) in [("HEAD", "200", "5"), ("GET", "304", "5"), ("GET", "204", "0")] {
        let (mut client, stream) = exchange(method, &[&[(":status", status), ("content-length", length)]], true);
        assert_eq!(events(&mut client), [Event::Response { stream, end: true }], "{method} {status}");
        client.take_response(stream, &mut head);
        assert_eq!(head.body, BodyLength::None);
        let (mut client, stream) = exchange(method, &[&[(":status", status)]], false);
        receive(&mut client, &frame(kind::DATA, flag::END_STREAM, 1, b"x"));
        let last = events(&mut client).pop();
        assert_eq!(last, Some(Event::Reset { stream, code: Code::PROTOCOL_ERROR, by_peer: false }));
    }
    for bad in [
        &[(":status", "101")][..],
        &[(":status", "99")],
        &[(":status", "099")],
        &[(":status", "2000")],
        &[(":status", "-20")],
        &[("x", "y")],
        &[(":status", "200"), (":path", "/")],
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "200"), ("content-length", "5")],
        &[(":status", "204"), ("content-length", "5")],
        &[(":status", "100")],
    ] {
        let (mut client, stream) = exchange("GET", &[bad], true);
        let reset = Event::Reset { stream, code: Code::PROTOCOL_ERROR, by_peer: false };
        assert_eq!(events(&mut client), [reset], "{bad:?}");
    }
}

#[test]
fn header_memory_is_bounded_and_comes_back() {
    let memory = HeaderMemory::new(10_000);
    let mut server = server_with(&Limits::default(), &memory);
    let long = "x".repeat(4000);
    let list = [&GET[..], &[("x", &long[..])]].concat();
    for stream in [1, 3] {
        receive(&mut server, &headers(stream, &list, true));
    }
    let used = memory.used();
    receive(&mut server, &headers(5, &list, true));
    assert_eq!(memory.used(), used);
    assert_eq!(was_reset(&mut server, 5), Some(Code::REFUSED_STREAM));
    for event in events(&mut server) {
        if let Event::Request { stream, .. } = event {
            answer(&mut server, stream);
        }
    }
    assert_eq!(memory.used(), 0);
    receive(&mut server, &headers(7, &list, true));
    assert!(memory.used() > 4000);
    // A block in the making counts too.
    receive(&mut server, &frame(kind::HEADERS, flag::END_STREAM, 9, &block(&list)));
    assert!(memory.used() > 8000);
    drop(server);
    assert_eq!(memory.used(), 0);

    let mut server = server_with(&Limits { header_memory_per_connection: 5000, ..Limits::default() }, &memory);
    receive(&mut server, &[headers(1, &list, true), headers(3, &list, true)].concat());
    assert_eq!(was_reset(&mut server, 3), Some(Code::REFUSED_STREAM));
}
