use super::*;
use crate::policies::{
    Body,
    testing::{Trial, lines},
};

const LARGEST: usize = 1 << 20;

/// A request and its response, with bodies that were read, or not.
fn trial(are_read: bool) -> Trial {
    let sent = [
        ("content-type", "a/b"),
        ("Content-Encoding", "gzip"),
        ("Content-MD5", "x"),
        ("content-length", "3"),
        ("a", "b"),
    ];
    let mut trial = Trial::new("POST", "/", &sent).answered(200, &sent);
    (trial.request.body, trial.request.content_length) = (BodyLength::Length(3), Some(3));
    (trial.response.body, trial.response.content_length) = (BodyLength::Length(3), Some(3));
    if are_read {
        (trial.bodies.request, trial.bodies.response) = (Body::whole(b"abc"), Body::whole(b"abc"));
    }
    trial
}

#[test]
fn a_body_is_replaced_for_whoever_comes_behind() {
    let mut trial = trial(true);
    let whole = |exchange: &Exchange<'_>, side| exchange.body(side).map(Body::to_vec);
    let large = vec![b'x'; LARGEST];
    trial.with(0, |exchange| {
        assert_eq!(exchange.replace_request_body(&large), Ok(()));
        assert_eq!(exchange.replace_response_body(b"12345"), Ok(()));
        assert!(whole(exchange, Side::Request).is_some_and(|body| body == large));
        assert_eq!(whole(exchange, Side::Response), Some(b"12345".to_vec()));
        assert!(exchange.has_read(Side::Request, Wanted::Whole) && exchange.has_read(Side::Response, Wanted::Whole));
        assert_eq!(exchange.response_length(), Some(5));
    });
    for fields in [&trial.request.fields, &trial.response.fields] {
        let names: Vec<String> = lines(fields).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["content-type", "a"], "what speaks of other bytes goes");
    }
    assert_eq!(trial.request.body, BodyLength::Length(3), "the client's, which nobody else may read by another length");
    assert_eq!(trial.response.body, BodyLength::Length(5));
    assert!(trial.bodies.request.is_replaced() && trial.bodies.request.pieces().count() > 1);
}

#[test]
fn a_message_without_a_body_is_given_one_and_one_may_be_taken_away() {
    let mut trial = trial(true);
    (trial.request.body, trial.request.content_length) = (BodyLength::None, None);
    trial.bodies.request = Body::default();
    trial.with(0, |exchange| {
        assert!(exchange.body(Side::Request).is_none());
        assert_eq!(exchange.replace_request_body(b"new"), Ok(()));
        assert_eq!(exchange.body(Side::Request).map(Body::to_vec), Some(b"new".to_vec()));
        assert_eq!(exchange.replace_response_body(b""), Ok(()));
    });
    assert_eq!((trial.response.body, trial.response.content_length), (BodyLength::None, Some(0)));
    // To HEAD there is a length, and nothing else.
    trial.request.method = b"HEAD".into();
    trial.with(0, |exchange| assert_eq!(exchange.replace_response_body(b"1234"), Ok(())));
    assert_eq!((trial.response.body, trial.response.content_length), (BodyLength::None, Some(4)));
}

#[test]
fn what_cannot_be_replaced_stays() {
    let both = |trial: &mut Trial, bytes: &[u8]| {
        trial.with(0, |exchange| [exchange.replace_request_body(bytes), exchange.replace_response_body(bytes)])
    };
    assert_eq!(both(&mut trial(false), b"x"), [Err(NotReplaced::Unread); 2]);
    assert_eq!(both(&mut trial(true), &vec![0; LARGEST + 1]), [Err(NotReplaced::TooLarge); 2]);
    let mut begun = trial(true);
    begun.bodies.request = Body::new(Body::whole(b"ab").into_pieces(), false);
    begun.bodies.response = Body::new(Body::whole(b"ab").into_pieces(), false);
    assert_eq!(both(&mut begun, b"x"), [Err(NotReplaced::Unread); 2]);
    let mut tunnel = trial(true);
    (tunnel.request.websocket, tunnel.response.status) = (true, 101);
    assert_eq!(both(&mut tunnel, b"x"), [Err(NotReplaced::Unread); 2]);
    let mut own = trial(true);
    own.response.own = Some("reason");
    assert_eq!(both(&mut own, b"x"), [Ok(()), Err(NotReplaced::OwnAnswer)]);
    let mut shadow = trial(true);
    let line = RequestLine { method: "PUT", path: b"/".into(), query: Vec::new() };
    let told = shadow.with(0, |exchange| {
        exchange.set_shadow(true);
        exchange.set_upstream_line(line);
        let status = exchange.set_response_status(500);
        [exchange.replace_request_body(b"x"), exchange.replace_response_body(b"x"), status]
    });
    assert_eq!(told, [Ok(()); 3]);
    assert!(!shadow.bodies.request.is_replaced() && !shadow.bodies.response.is_replaced());
    assert_eq!(
        (shadow.response.status, shadow.request.fields.len(), shadow.response.content_length),
        (200, 5, Some(3))
    );
}

#[test]
fn a_status_is_a_final_one_of_an_upstream() {
    let set = |from: u16, to: u16| {
        let mut trial = trial(true);
        trial.response.status = from;
        trial.response.body = if from == 304 { BodyLength::None } else { trial.response.body };
        let set = trial.with(0, |exchange| exchange.set_response_status(to)).is_ok();
        (set, trial.response.status, trial.response.content_length)
    };
    assert_eq!(set(200, 503), (true, 503, Some(3)));
    assert_eq!(set(304, 200), (true, 200, None), "the length of what is not here");
    for (from, to) in [(200, 199), (200, 600), (200, 101), (101, 200), (0, 200)] {
        assert_eq!(set(from, to), (false, from, Some(3)), "{from} to {to}");
    }
}

#[test]
fn an_upstream_is_asked_for_something_else() {
    let mut trial = trial(true);
    let line = RequestLine { method: "PUT", path: b"/new".into(), query: b"?x".into() };
    trial.with(0, |exchange| {
        assert_eq!((exchange.upstream_line(), exchange.upstream_authority()), (None, &b"api.example:8081"[..]));
        exchange.set_upstream_line(line.clone());
        assert!(exchange.upstream_line().is_none(), "who does not know the upstream says nothing of it");
    });
    trial.with_upstream("a.test", b"/old", |exchange| {
        assert_eq!(exchange.upstream_line(), Some((&b"POST"[..], &b"/old"[..], &b""[..])));
        assert_eq!(exchange.upstream_authority(), b"a.test");
        exchange.set_upstream_line(line);
        assert_eq!(exchange.upstream_line(), Some((&b"PUT"[..], &b"/new"[..], &b"?x"[..])));
        assert_eq!(exchange.method(), b"POST");
    });
}
