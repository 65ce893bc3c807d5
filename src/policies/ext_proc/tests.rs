//! What of a processor's replies cannot be said as a case.

use prost::Message as _;

use super::{
    messages::{HeaderMutation, ProcessingResponse},
    *,
};
use crate::{
    calls::talk::{Sort, Speaker},
    policies::{
        Headers,
        envoy::{Flag, HeaderOption, HeaderValue},
        testing::{Trial, compile, faults, lines, owned, remarks},
    },
};

fn policy(more: &str) -> ExtProc {
    compile(&format!("{{uri: 'h2://processor:9000', {more}}}")).expect("valid")
}

fn set(key: &str, value: &[u8], append: Option<bool>) -> HeaderOption {
    let header = HeaderValue { key: key.into(), raw_value: value.into(), ..HeaderValue::default() };
    HeaderOption { header: Some(header), append: append.map(|value| Flag { value }), append_action: 0 }
}

/// What a mutation makes of a request with `x-a: 1`, or why it makes nothing.
fn mutated(mutation: &HeaderMutation) -> Result<Vec<(String, String)>, String> {
    let mut trial = Trial::new("GET", "/a", &[("x-a", "1")]);
    let done = trial.with(0, |exchange| {
        let of = mutation::Of { side: Side::Request, replaces: false, length: &mut None };
        mutation::apply(mutation, of, exchange)
    });
    done.map(|()| lines(&trial.request.fields)).map_err(|fault| fault.text)
}

#[test]
fn headers_are_set_appended_and_removed_within_the_rules() {
    let check = |set_headers: Vec<HeaderOption>, remove: &[&str], expected: &[(&str, &str)]| {
        let remove_headers = remove.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(mutated(&HeaderMutation { set_headers, remove_headers }), Ok(owned(expected)));
    };
    check(vec![set("x-a", b"2", None)], &[], &[("x-a", "2")]);
    check(vec![set("x-a", b"2", Some(false))], &[], &[("x-a", "2")]);
    check(vec![set("x-a", b"2", Some(true))], &[], &[("x-a", "1"), ("x-a", "2")]);
    check(vec![set("x-a", b"2", None)], &["X-A"], &[("x-a", "2")]);
    for own in
        ["x-envoy-a", "X-Envoy", "host", "connection", "content-length", "transfer-encoding", ":method", ":scheme"]
    {
        check(vec![set(own, b"2", None)], &[own], &[("x-a", "1")]);
    }
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let check = |mutation: &HeaderMutation| {
        let mut trial = Trial::new("GET", "/a", &[("x-a", "1")]);
        let of = mutation::Of { side: Side::Request, replaces: false, length: &mut None };
        let done = trial.with(0, |exchange| mutation::apply(mutation, of, exchange));
        assert!(done.is_err(), "{mutation:?}");
        assert_eq!(lines(&trial.request.fields), owned(&[("x-a", "1")]), "{mutation:?}");
    };
    let sets = |options: Vec<HeaderOption>| HeaderMutation { set_headers: options, ..HeaderMutation::default() };
    for value in [&b"a\r\nb: c"[..], b"a\0", b" a", b"a\x7f"] {
        check(&sets(vec![set("x-a", b"2", None), set("x-b", value, None)]));
    }
    for name in ["", "x b", "x:b", "::path", "x-\u{e4}"] {
        check(&sets(vec![set("x-a", b"2", None), set(name, b"1", None)]));
    }
    check(&sets(vec![set("x-a", b"2", None); 101]));
    check(&HeaderMutation { remove_headers: vec![b"x-a".to_vec(); 101], ..HeaderMutation::default() });
    let large = sets((0..4).map(|at| set(&format!("x-{at}"), &[b'a'; 16 << 10], None)).collect());
    assert_eq!(mutated(&large), Err("it says headers of too many bytes".to_owned()));
}

#[test]
fn a_value_is_bytes_or_text_and_not_both() {
    let value = |value: &str, raw: &str| {
        let header = HeaderValue { key: b"x-a".to_vec(), value: value.into(), raw_value: raw.into() };
        let set_headers = vec![HeaderOption { header: Some(header), ..HeaderOption::default() }];
        mutated(&HeaderMutation { set_headers, ..HeaderMutation::default() }).ok()
    };
    assert_eq!(value("text", ""), Some(owned(&[("x-a", "text")])));
    assert_eq!(value("", "raw"), Some(owned(&[("x-a", "raw")])));
    assert_eq!(value("", ""), Some(owned(&[("x-a", "")])));
    assert_eq!(value("text", "raw"), None);
}

#[test]
fn a_path_stays_below_the_base_of_its_api_and_is_spelled_once() {
    let check = |target: &[u8], expected: Option<(&str, &str)>| {
        let mut trial = Trial::new("GET", "/base/a", &[]);
        trial.request.query = b"?x=1".to_vec();
        let done = trial.with(5, |exchange| exchange.set_target(target));
        assert_eq!(done.is_ok(), expected.is_some(), "{}", String::from_utf8_lossy(target));
        let (path, query) = expected.unwrap_or(("/base/a", "?x=1"));
        assert_eq!((&trial.request.path[..], &trial.request.query[..]), (path.as_bytes(), query.as_bytes()));
    };
    check(b"/base/b?y=2", Some(("/base/b", "?y=2")));
    check(b"/base", Some(("/base", "")));
    check(b"/base/%61/../c", Some(("/base/c", "")));
    for odd in [&b""[..], b"base", b"/", b"/other", b"/based", b"/base/../other", b"*"] {
        check(odd, None);
    }
    for odd in [&b"/base/a b"[..], b"/base/%00", b"/base/a#b", b"/base/%zz", b"/base/\xff", b"/base/a?b c"] {
        check(odd, None);
    }
}

#[test]
fn a_method_is_changed_where_bodies_are_read_alike() {
    let check = |before: &str, method: &[u8], expected: &str| {
        let mut trial = Trial::new(before, "/a", &[]);
        trial.with(0, |exchange| exchange.set_method(method));
        assert_eq!(String::from_utf8_lossy(&trial.request.method), expected);
    };
    check("GET", b"POST", "POST");
    for (before, odd) in [("HEAD", &b"GET"[..]), ("GET", b"HEAD"), ("GET", b"CONNECT"), ("GET", b"A B"), ("GET", b"")] {
        check(before, odd, before);
    }
}

#[test]
fn messages_are_sorted_by_what_they_say() {
    let sort = |said: ProcessingResponse| wire::sort(&said.encode_to_vec()).ok();
    let none = ProcessingResponse::default;
    let said = || Some(messages::Processed::default());
    assert_eq!(sort(ProcessingResponse { request_body: said(), ..none() }), Some(Sort::Reply(Speaker::Request)));
    assert_eq!(sort(ProcessingResponse { response_headers: said(), ..none() }), Some(Sort::Reply(Speaker::Response)));
    assert_eq!(sort(ProcessingResponse { immediate_response: Some(Default::default()), ..none() }), Some(Sort::Last));
    let time = Some(messages::Time { seconds: 1, nanos: 500_999_999 });
    let more = Sort::MoreTime(Duration::from_millis(1500));
    assert_eq!(sort(ProcessingResponse { override_message_timeout: time, request_body: said(), ..none() }), Some(more));
    assert_eq!(sort(none()), None);
    assert_eq!(sort(ProcessingResponse { request_body: said(), response_body: said(), ..none() }), None);
    assert_eq!(wire::sort(b"\xff").ok(), None);
}

#[test]
fn odd_times_are_none() {
    let time = |seconds, nanos| messages::Time { seconds, nanos }.duration();
    assert_eq!(time(0, 999_999), Duration::ZERO);
    assert_eq!(time(-1, -1), Duration::ZERO);
    assert_eq!(time(i64::MAX, i32::MAX), Duration::from_millis(u64::MAX));
}

#[test]
fn replies_are_told_as_json() {
    let told = |written: &str| wire::told(written.as_bytes()).map(|messages| messages.len());
    assert_eq!(told("{}"), Ok(1));
    let replaces =
        r#"{"requestHeaders": {"response": {"status": "CONTINUE_AND_REPLACE", "bodyMutation": {"body": "a"}}}}"#;
    assert_eq!(told(&format!(" [{{}}, {replaces}]")), Ok(2));
    assert_eq!(told("{\"modeOverride\": {\"requestBodyMode\": \"BUFFERED\"}}"), Ok(1));
    for odd in ["", "[", "{\"odd\": 1}", "{\"modeOverride\": {\"requestBodyMode\": \"FULL\"}}", "1"] {
        assert!(told(odd).is_err(), "{odd}");
    }
}

#[test]
fn what_is_written_wrong_is_told() {
    assert_eq!(faults::<ExtProc>("{uri: 'h2://p', messageTimeout: 0}").len(), 2);
    assert_eq!(faults::<ExtProc>("{}"), ["config.uri: required, but missing"]);
    assert_eq!(remarks::<ExtProc>("{uri: 'h2://p:1'}"), Vec::<String>::new());
}

#[test]
fn an_exchange_that_waits_keeps_little() {
    assert!(size_of::<Processing>() <= 256, "{}", size_of::<Processing>());
    let _ = policy("requestBodyMode: streamed");
    let mut fields = crate::http::head::Fields::default();
    let mutation = HeaderMutation { set_headers: vec![set("x-a", b"1", None)], ..HeaderMutation::default() };
    assert!(mutation::write(&mutation, &mut Headers::of(&mut fields)).is_ok());
    assert_eq!(lines(&fields), owned(&[("x-a", "1")]), "trailers change in the same way");
}
