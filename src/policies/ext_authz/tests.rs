//! What the service is asked, and what of its answers cannot be said as a case.

use super::{
    messages::{CheckRequest, HttpRequest, Status},
    *,
};
use crate::{
    http::head::{BodyLength, Version},
    policies::envoy::{HeaderOption, HeaderValue, HttpStatus},
    policies::testing::{Trial, compile, faults, lines, owned, remarks},
    tls::Identity,
};

fn policy(more: &str) -> ExtAuthz {
    compile(&format!("{{uri: 'h2://authorizer:9000', {more}}}")).expect("valid")
}

fn asked(policy: &ExtAuthz, trial: &mut Trial) -> Direct {
    trial.with(0, |exchange| policy.question(exchange))
}

fn check(policy: &ExtAuthz, trial: &mut Trial) -> CheckRequest {
    let Direct { body, .. } = asked(policy, trial);
    assert_eq!(body[..5], [[0].as_slice(), &(body.len() as u32 - 5).to_be_bytes()].concat());
    CheckRequest::decode(&body[5..]).expect("a message of ours")
}

fn http(policy: &ExtAuthz, trial: &mut Trial) -> HttpRequest {
    check(policy, trial).attributes.and_then(|said| said.request).and_then(|said| said.http).expect("it is said")
}

fn entries(headers: &[HeaderValue]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|one| (text(&one.key), text(&[&one.value[..], &one.raw_value].concat()))).collect()
}

#[test]
fn the_service_is_told_who_sends_which_request() {
    let policy = policy("");
    let mut trial = Trial::new(
        "POST",
        "/a%2Fb",
        &[("Host", "api.example:8081"), ("x-request-id", "i"), ("X-A", "1"), ("x-a", "2")],
    );
    trial.request.query = b"?x=1".to_vec();
    trial.request.body = BodyLength::Chunked;
    let said = check(&policy, &mut trial).attributes.expect("it is said");
    let address = |peer: Option<messages::Peer>| {
        let socket = peer.and_then(|peer| peer.address).and_then(|address| address.socket).expect("an address");
        (socket.address, socket.port)
    };
    let principal = said.source.as_ref().map(|peer| (peer.principal.clone(), peer.certificate.clone()));
    assert_eq!(principal, Some((String::new(), String::new())));
    assert_eq!(address(said.source), ("192.0.2.1".to_owned(), Some(40000)));
    assert_eq!(address(said.destination), ("192.0.2.2".to_owned(), Some(8081)));
    let request = said.request.expect("it is said");
    assert!(request.time.expect("a time").seconds > 1_700_000_000);
    let HttpRequest { id, method, headers, path, host, scheme, size, protocol, header_map } =
        request.http.expect("it is said");
    assert_eq!(
        (&id[..], &method[..], &path[..], &host[..]),
        (&b"i"[..], &b"POST"[..], &b"/a%2Fb?x=1"[..], &b"api.example:8081"[..])
    );
    assert_eq!((&*scheme, size, &*protocol), ("http", -1, "HTTP/1.1"));
    let pseudo =
        [(":authority", "api.example:8081"), (":method", "POST"), (":path", "/a%2Fb?x=1"), (":scheme", "http")];
    let with = |more: &[(&str, &str)]| owned(&[&pseudo[..], more].concat());
    assert_eq!(entries(&headers), with(&[("x-request-id", "i"), ("x-a", "1,2")]));
    let map = header_map.expect("as bytes too").headers;
    assert_eq!(entries(&map), with(&[("x-request-id", "i"), ("x-a", "1"), ("x-a", "2")]));
    assert!(map.iter().all(|line| line.value.is_empty()) && headers.iter().all(|line| line.raw_value.is_empty()));
}

#[test]
fn lengths_and_versions() {
    for (body, content_length, expected) in [
        (BodyLength::None, None, 0),
        (BodyLength::Length(7), Some(7), 7),
        (BodyLength::Chunked, None, -1),
        (BodyLength::Chunked, Some(0), 0),
    ] {
        let mut trial = Trial::new("GET", "/", &[]);
        (trial.request.body, trial.request.content_length) = (body, content_length);
        assert_eq!(http(&policy(""), &mut trial).size, expected, "{body:?}");
    }
    for (version, expected) in [(Version::Http10, "HTTP/1.0"), (Version::Http2, "HTTP/2")] {
        let mut trial = Trial::new("GET", "/", &[]);
        trial.request.version = version;
        assert_eq!(http(&policy(""), &mut trial).protocol, expected);
    }
}

#[test]
fn text_is_text_and_bytes_are_bytes() {
    let mut trial = Trial::new("GET", "/", &[]);
    trial.request.fields.append(b"x-raw", b"a\xffb\xc3\xa4");
    let said = http(&policy(""), &mut trial);
    assert_eq!(said.headers.last().expect("a line").value, "a!b\u{e4}".as_bytes());
    assert_eq!(said.header_map.expect("as bytes").headers.last().expect("a line").raw_value, b"a\xffb\xc3\xa4");
}

#[test]
fn listed_headers_alone_are_shown() {
    let lines = [("X-A", "1"), ("x-b", "2"), ("authorization", "t")];
    let said = http(&policy("allowedHeaders: [x-a, ':path']"), &mut Trial::new("GET", "/p", &lines));
    assert_eq!(entries(&said.headers), owned(&[(":path", "/p"), ("x-a", "1")]));
    assert_eq!(entries(&http(&policy("allowedHeaders: []"), &mut Trial::new("GET", "/p", &lines)).headers), []);
    let by_http = |more: &str| {
        let direct = asked(&policy(&format!("serverType: http, {more}")), &mut Trial::new("GET", "/p", &lines));
        (String::from_utf8(direct.target).expect("text"), crate::policies::testing::lines(&direct.fields))
    };
    assert_eq!(by_http(""), ("/p".to_owned(), owned(&[("authorization", "t")])));
    let added = "allowedHeaders: [X-B], pathPrefix: check/, serviceRequestHeadersToAdd: [{key: x-b, value: ' ours '}]";
    assert_eq!(by_http(added), ("/check/p".to_owned(), owned(&[("x-b", "ours"), ("authorization", "t")])));
}

#[test]
fn the_certificate_is_shown_where_it_is_asked_for() {
    let identity = Identity {
        subject: "CN=a".to_owned(),
        names: Vec::new(),
        fingerprint: String::new(),
        forwarded: String::new(),
        certificate: [0xfb; 50].into(),
    };
    let mut trial = Trial::new("GET", "/", &[]);
    let mut seen = |more: &str| {
        let policy = policy(more);
        trial.with(0, |exchange| {
            exchange.peer.certificate = Some(&identity);
            let Direct { body, .. } = policy.question(exchange);
            let said = CheckRequest::decode(&body[5..]).expect("a message of ours");
            let source = said.attributes.and_then(|said| said.source).expect("it is said");
            (source.principal, source.certificate)
        })
    };
    assert_eq!(seen(""), ("CN=a".to_owned(), String::new()));
    let encoded = "%2B/v7".replace('/', "%2F");
    let body = encoded.repeat(16) + "%0A%2B%2Fs%3D";
    let expected = format!("-----BEGIN%20CERTIFICATE-----%0A{body}%0A-----END%20CERTIFICATE-----%0A");
    assert_eq!(seen("includePeerCertificate: true").1, expected);
}

type Lines = Vec<(String, String)>;

/// What becomes of a request, and what its response has.
fn told(policy: &ExtAuthz, said: CheckResponse) -> (Flow, Lines, Lines) {
    let state = policy.state(&Core::default());
    let mut kept = Kept::default();
    let mut trial = Trial::new("GET", "/", &[("x-old", "before")]).answered(200, &[("x-from", "upstream")]);
    let reply = Reply::Called(Box::new(Ok(grpc::told(&said))));
    let flow = trial.with(0, |exchange| policy.on_reply(Turn { state: &state, kept: &mut kept }, exchange, reply));
    trial.with(0, |exchange| policy.on_response(Turn { state: &state, kept: &mut kept }, exchange));
    (flow, lines(&trial.request.fields), lines(&trial.response.fields))
}

fn option(key: &str, value: &[u8], raw: &[u8]) -> HeaderOption {
    let header = HeaderValue { key: key.into(), value: value.to_vec(), raw_value: raw.to_vec() };
    HeaderOption { header: Some(header), append: None, append_action: 0 }
}

#[test]
fn values_pass_as_they_are() {
    let ok = messages::Allowed {
        headers: vec![option("x-raw", b"", b"raw"), option("x-both", b"text", b"raw"), option("Host", b"evil", b"")],
        response_headers_to_add: vec![option("content-length", b"1", b""), option("x-r", b"\xff", b"")],
        ..messages::Allowed::default()
    };
    let said = CheckResponse { ok_response: Some(ok), ..CheckResponse::default() };
    let (flow, request, response) = told(&policy(""), said);
    assert!(matches!(flow, Flow::Continue));
    assert_eq!(request, owned(&[("x-old", "before"), ("x-raw", "raw"), ("x-both", "text")]));
    assert_eq!(response, owned(&[("x-from", "upstream"), ("x-r", "\u{fffd}")]));
}

#[test]
fn a_refusal_may_have_headers_that_are_no_text() {
    let denied = messages::Denied {
        status: Some(HttpStatus { code: 1000 }),
        headers: vec![option("x-raw", b"\xff", b""), option("X-Text", b"t", b""), option("bad name", b"1", b"")],
        body: b"no".to_vec(),
    };
    let said = CheckResponse { status: Some(Status { code: 7 }), denied_response: Some(denied), ..Default::default() };
    let (Flow::Respond(answer), _, response) = told(&policy(""), said) else { panic!("it is denied") };
    assert_eq!((answer.status, answer.content_type, answer.reason), (403, Some("text/plain"), DENIED));
    assert_eq!(answer.headers, [("x-text".into(), "t".into())]);
    assert_eq!(response, owned(&[("x-from", "upstream"), ("x-raw", "\u{fffd}")]));
}

#[test]
fn configurations() {
    assert!(matches!(policy("").speaks, Speaks::Grpc { raw_headers: true, .. }));
    assert_eq!(
        faults::<ExtAuthz>("{uri: 'ftp://a', requestTimeout: 0, allowedHeaders: ['a b']}"),
        [
            "config.uri: the protocol must be http, https or h2",
            "config.requestTimeout: must be at least 1",
            "config.allowedHeaders[0]: not a header name",
        ]
    );
    assert_eq!(
        remarks::<ExtAuthz>("{uri: 'http://a:1/p', pathPrefix: /x}"),
        [
            "config.pathPrefix: has no effect with `serverType: grpc`",
            "config.uri: the path has no effect: a gRPC service is called by its name",
        ]
    );
    assert_eq!(
        remarks::<ExtAuthz>("{uri: 'http://a:1/p', serverType: http, includePeerCertificate: true}"),
        ["config.includePeerCertificate: has no effect with `serverType: http`"]
    );
    assert!(!policy("").server.destination.address.secure && policy("").server.multiplexes);
}
