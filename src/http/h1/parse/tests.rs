//! Properties that hold for any bytes: nothing panics, pieces read as the whole does, and `httparse` reads the same.

use proptest::prelude::*;

use super::*;
use crate::http::{
    bytes::trim,
    head::{Fields, RequestHead, ResponseHead},
    target::Scheme,
};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 400, header_count: 20 };

/// Pieces that heads are made of, the ones that break them among these.
fn head_like(first_line: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    const LINES: &[&str] = &[
        "Host: a\r\n",
        "host: B.example:81\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, x-y\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "X-Value: \t a b \t\r\n",
        "X-Empty:\r\n",
        "X-Odd!#$: \u{e9}\r\n",
    ];
    const BREAKS: &[&str] =
        &["\r", "\n", "\0", " ", "\t", ":", ",", "\r\n", "\u{e9}", "\x7f", "a", "%", "\\", "\r\n\r\n"];
    let breaks =
        proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(BREAKS), any::<bool>()), 0..3);
    (prop::sample::select(first_line), proptest::collection::vec(prop::sample::select(LINES), 0..6), breaks).prop_map(
        |(first, lines, breaks)| {
            let mut head = [first, &lines.concat(), "\r\n"].concat().into_bytes();
            for (at, piece, replace) in breaks {
                let at = at.index(head.len());
                head.splice(at..at + usize::from(replace), piece.bytes());
            }
            head
        },
    )
}

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a/%2e?b={c} HTTP/1.1\r\n",
    "GET http://a/x HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "CONNECT a:80 HTTP/1.1\r\n",
    "GET /old HTTP/1.0\r\n",
    "\r\nGET / HTTP/1.1\r\n",
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 404 Not Found\r\n",
    "HTTP/1.1 204\r\n",
    "HTTP/1.1 304 \r\n",
    "HTTP/1.1 100 Continue\r\n",
    "HTTP/1.1 101 x\r\n",
];

type Outcome<T, E> = Result<Option<(usize, T)>, E>;

fn request(input: &[u8], cuts: &[usize]) -> Outcome<String, u16> {
    let (mut head, mut scanned) = (RequestHead::default(), 0);
    for &len in cuts.iter().chain([&input.len()]) {
        if let Some(taken) = parse_request(&input[..len], &mut scanned, &LIMITS, Scheme::Http, &mut head)
            .map_err(|error| error.status())?
        {
            return Ok(Some((taken, format!("{head:?}"))));
        }
    }
    Ok(None)
}

fn response(input: &[u8], cuts: &[usize], to: ResponseTo) -> Outcome<String, u16> {
    let (mut head, mut scanned) = (ResponseHead::default(), 0);
    for &len in cuts.iter().chain([&input.len()]) {
        if let Some(taken) =
            parse_response(&input[..len], &mut scanned, &LIMITS, to, &mut head).map_err(|error| error.status())?
        {
            return Ok(Some((taken, format!("{head:?}"))));
        }
    }
    Ok(None)
}

fn assert_same_fields(fields: &Fields, oracle: &[httparse::Header<'_>]) {
    let ours: Vec<_> = fields.iter().map(|field| (field.name, field.value)).collect();
    let theirs: Vec<_> = oracle.iter().map(|header| (header.name.as_bytes(), trim(header.value))).collect();
    assert_eq!(ours, theirs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = request(&input, &[]);
        let _ = response(&[b"HTTP/1.1 200 ", &input[..]].concat(), &[], ResponseTo::Upgrade);
        let _ = request(&[b"GET / HTTP/1.1\r\n", &input[..], b"\r\n\r\n"].concat(), &[]);
    }

    #[test]
    fn a_request_in_pieces_reads_as_the_whole(input in head_like(REQUEST_LINES), cuts in proptest::collection::vec(0usize..300, 0..6)) {
        let mut cuts: Vec<_> = cuts.into_iter().filter(|&cut| cut < input.len()).collect();
        cuts.sort_unstable();
        prop_assert_eq!(request(&input, &cuts), request(&input, &[]));
        let bytewise: Vec<_> = (0..input.len()).collect();
        prop_assert_eq!(request(&input, &bytewise), request(&input, &[]));
    }

    #[test]
    fn a_response_in_pieces_reads_as_the_whole(input in head_like(STATUS_LINES)) {
        let bytewise: Vec<_> = (0..input.len()).collect();
        for to in [ResponseTo::Other, ResponseTo::Head, ResponseTo::Upgrade] {
            prop_assert_eq!(response(&input, &bytewise, to), response(&input, &[], to));
        }
    }

    #[test]
    fn httparse_reads_a_request_we_accept_as_we_do(input in head_like(REQUEST_LINES)) {
        let mut head = RequestHead::default();
        if let Ok(Some(taken)) = parse_request(&input, &mut 0, &LIMITS, Scheme::Http, &mut head) {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut oracle = httparse::Request::new(&mut headers);
            prop_assert_eq!(oracle.parse(&input), Ok(httparse::Status::Complete(taken)));
            prop_assert_eq!(oracle.method.unwrap().as_bytes(), &head.method[..]);
            let target = oracle.path.unwrap().as_bytes();
            prop_assert!(target.ends_with(&[&head.path[..], &head.query[..]].concat()) || head.path == b"/" || head.path == b"*");
            assert_same_fields(&head.fields, oracle.headers);
        }
    }

    #[test]
    fn httparse_reads_a_response_we_accept_as_we_do(input in head_like(STATUS_LINES)) {
        let mut head = ResponseHead::default();
        let taken = parse_response(&input, &mut 0, &LIMITS, ResponseTo::Upgrade, &mut head);
        // What has quirks was written anew before it was read.
        if let Ok(Some(taken)) = taken && head.quirks.is_empty() {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut oracle = httparse::Response::new(&mut headers);
            prop_assert_eq!(oracle.parse(&input), Ok(httparse::Status::Complete(taken)));
            prop_assert_eq!(oracle.code, Some(head.status));
            assert_same_fields(&head.fields, oracle.headers);
        }
    }

    #[test]
    fn the_fast_check_and_the_slow_one_agree(input in "[a\t\r\n\0\x7f]{0,40}", from in 0usize..40) {
        let input = input.as_bytes();
        let slow = input.iter().enumerate().any(|(at, &byte)| match byte {
            b'\n' => at == 0 || input[at - 1] != b'\r',
            b'\r' => input.get(at + 1).is_some_and(|&next| next != b'\n'),
            _ => is_control(byte),
        });
        prop_assert_eq!(check_bytes(input, 0).is_err(), slow);
        let from = from.min(input.len());
        prop_assert_eq!(check_bytes(&input[..from], 0).and(check_bytes(input, from)).is_err(), slow);
    }
}
