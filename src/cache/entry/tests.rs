use super::*;
use crate::cache::testing::fields;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: Millis = 784_111_777_000;
const AT: Exchanged = Exchanged { asked: NOW, answered: NOW };
const RULES: Rules = Rules { ttl: 600_000, heeds: true, unsaid: Unsaid::Ttl };

fn stored(request: &[(&str, &str)], status: u16, response: &[(&str, &str)], rules: Rules) -> Result<Entry, Unfit> {
    let request = fields(request);
    let asked = Asked { method: b"GET", fields: &request, forwarded: &request, authority: b"", at: AT };
    Entry::begin(&asked, status, &fields(response), rules)
}

fn control(text: &str) -> Control {
    Control::parse(std::iter::once(text.as_bytes()))
}

#[test]
fn what_may_be_stored_is() {
    let basic = &[("authorization", "Basic eDp5")][..];
    for (request, status, control, expected) in [
        (&[][..], 200, "", true),
        (&[], 404, "max-age=1", true),
        (&[], 200, "no-store", false),
        (&[], 200, "no-cache", false),
        (&[], 200, "private", false),
        (&[], 200, "private=\"x\", max-age=60", false),
        (&[], 200, "max-age=0", false),
        (&[], 200, "max-age=0, stale-if-error=60", true),
        (&[], 200, "max-age=0, stale-while-revalidate=60", true),
        (&[], 599, "max-age=60, must-understand", false),
        (&[], 200, "max-age=60, must-understand", true),
        (&[], 304, "max-age=60", false),
        (&[], 206, "max-age=60", false),
        (&[("range", "bytes=0-1")], 206, "max-age=60", true),
        (&[("range", "bytes=0-1"), ("if-range", "\"a\"")], 206, "max-age=60", false),
        (basic, 200, "max-age=60", false),
        (basic, 200, "max-age=60, public", true),
        (basic, 200, "max-age=60, must-revalidate", true),
        (basic, 200, "s-maxage=60", true),
        (basic, 200, "max-age=60, proxy-revalidate", false),
    ] {
        let outcome = stored(request, status, &[("cache-control", control)], RULES);
        assert_eq!(outcome.is_ok(), expected, "{request:?} {status} {control}");
    }
}

#[test]
fn who_heeds_nothing_stores_what_is_nobodys_own() {
    let rules = Rules { heeds: false, ..RULES };
    let entry = stored(&[], 200, &[("cache-control", "no-store, max-age=1"), ("vary", "*"), ("age", "9")], rules);
    let entry = entry.expect("it is stored");
    assert_eq!((entry.left(NOW), entry.age(NOW + 5000)), (600_000, 5000));
    assert!(stored(&[("authorization", "x")], 200, &[], rules).is_err());
    assert!(stored(&[("authorization", "x")], 200, &[("cache-control", "public")], rules).is_ok());
}

#[test]
fn what_a_policy_behind_put_in_chooses_for_nobody_else() {
    let (sent, forwarded) = (fields(&[("accept", "a")]), fields(&[("accept", "a"), ("x-user", "ada")]));
    let begin = |vary| {
        let asked = Asked { method: b"GET", fields: &sent, forwarded: &forwarded, authority: b"", at: AT };
        Entry::begin(&asked, 200, &fields(&[("vary", vary)]), RULES).is_ok()
    };
    assert_eq!([begin("accept"), begin("x-user")], [true, false]);
}

#[test]
fn a_lifetime_only_shortens_the_ttl() {
    let left = |lines: &[(&str, &str)]| stored(&[], 200, lines, RULES).expect("it is stored").left(NOW);
    assert_eq!(left(&[]), 600_000);
    assert_eq!(left(&[("cache-control", "max-age=3600")]), 600_000);
    assert_eq!(left(&[("cache-control", "max-age=60")]), 60_000);
    assert_eq!(left(&[("cache-control", "max-age=60"), ("age", "20")]), 40_000);
    assert_eq!(left(&[("age", "2000")]), 600_000);
    let never = Rules { unsaid: Unsaid::Never, ..RULES };
    assert!(stored(&[], 200, &[], never).is_err());
    assert_eq!(stored(&[], 200, &[("etag", "\"a\"")], never).expect("it can be asked after").left(NOW), 0);
}

#[test]
fn no_age_is_too_large_to_be_reckoned_with() {
    for age in ["9223372036854775", "9223372036854776", "9223372036854775807", "99999999999999999999"] {
        let lines = [("age", age), ("cache-control", "max-age=2147483648, stale-if-error=1"), ("etag", "\"a\"")];
        let entry = stored(&[], 200, &lines, RULES).expect("it can be asked after");
        for later in [0, 1, 60_000, Millis::MAX - NOW] {
            assert!(entry.left(NOW + later) <= 0, "{age}");
            assert_eq!(entry.use_for(&control("max-age=1"), NOW + later), Use::Revalidate, "{age}");
            assert_eq!(entry.stands_in(&control(""), NOW + later), later <= 1000, "{age}, {later} later");
        }
        assert_eq!(entry.use_for(&control("max-stale"), Millis::MAX), Use::Stale);
    }
}

#[test]
fn requests_say_what_will_do() {
    let fresh = "max-age=60";
    for (response, later, request, expected) in [
        (fresh, 0, "", Use::Fresh),
        (fresh, 59_999, "", Use::Fresh),
        (fresh, 60_000, "", Use::Revalidate),
        (fresh, 10_000, "max-age=10", Use::Fresh),
        (fresh, 10_001, "max-age=10", Use::Revalidate),
        (fresh, 1, "max-age=0", Use::Revalidate),
        (fresh, 30_000, "max-age=10, max-stale", Use::Fresh),
        (fresh, 30_000, "min-fresh=30", Use::Fresh),
        (fresh, 30_001, "min-fresh=30", Use::Revalidate),
        (fresh, 90_000, "max-stale", Use::Stale),
        (fresh, 90_000, "max-stale=30", Use::Stale),
        (fresh, 90_001, "max-stale=30", Use::Revalidate),
        (fresh, 90_000, "max-stale, min-fresh=1", Use::Revalidate),
        ("max-age=60, must-revalidate", 90_000, "max-stale", Use::Revalidate),
        ("max-age=60, proxy-revalidate", 90_000, "max-stale", Use::Revalidate),
        ("s-maxage=60", 90_000, "max-stale", Use::Revalidate),
        ("max-age=60, stale-while-revalidate=30", 90_000, "", Use::WhileRevalidated),
        ("max-age=60, stale-while-revalidate=30", 90_001, "", Use::Revalidate),
        ("max-age=60, stale-while-revalidate=30", 70_000, "max-age=65", Use::Revalidate),
        ("max-age=60, stale-while-revalidate=30, must-revalidate", 70_000, "", Use::Revalidate),
    ] {
        let entry = stored(&[], 200, &[("cache-control", response)], RULES).expect("it is stored");
        assert_eq!(entry.use_for(&control(request), NOW + later), expected, "{response}, {later} later: {request}");
    }
}

#[test]
fn an_old_answer_stands_in_for_an_error_where_that_is_said() {
    for (response, later, request, expected) in [
        ("max-age=60", 60_001, "", false),
        ("max-age=60, stale-if-error=30", 90_000, "", true),
        ("max-age=60, stale-if-error=30", 90_001, "", false),
        ("max-age=60", 90_000, "stale-if-error=30", true),
        ("max-age=60, must-revalidate", 70_000, "stale-if-error=30", false),
        ("s-maxage=60, stale-if-error=30", 70_000, "", false),
    ] {
        let entry = stored(&[], 200, &[("cache-control", response)], RULES).expect("it is stored");
        assert_eq!(entry.stands_in(&control(request), NOW + later), expected, "{response}, {later} later: {request}");
    }
}

#[test]
fn it_answers_the_same_method_variant_and_range() {
    let entry = stored(&[("a", "1")], 200, &[("vary", "a")], RULES).expect("it is stored");
    assert!(entry.answers(b"GET", (&fields(&[("a", "1")])).into(), true));
    assert!(!entry.answers(b"GET", (&fields(&[("a", "2")])).into(), true));
    assert!(!entry.answers(b"POST", (&fields(&[("a", "1")])).into(), true));
    assert!(entry.answers(b"POST", (&fields(&[("a", "1")])).into(), false));
    let part = stored(&[("range", "bytes=0-1")], 206, &[], RULES).expect("it is stored");
    assert!(part.answers(b"GET", (&fields(&[("range", "bytes=0-1")])).into(), true));
    assert!(!part.answers(b"GET", (&fields(&[("range", "bytes=0-2")])).into(), true));
    assert!(!part.answers(b"GET", (&fields(&[])).into(), true));
    assert!(!part.answers(b"GET", (&fields(&[("range", "bytes=0-1"), ("if-range", "\"a\"")])).into(), true));
}

#[test]
fn what_is_of_one_connection_or_one_answer_is_not_stored() {
    let sent = [
        ("content-length", "3"),
        ("age", "3"),
        ("proxy-authenticate", "x"),
        ("proxy-authentication-info", "x"),
        ("set-cookie", "a=b"),
        ("x", "1"),
        ("content-range", "odd"),
    ];
    let entry = stored(&[], 200, &sent, RULES).expect("it is stored");
    let names: Vec<_> = entry.fields.iter().map(|field| String::from_utf8_lossy(field.name).into_owned()).collect();
    assert_eq!(names, ["set-cookie", "x", "content-range"]);
}

#[test]
fn a_304_renews_what_it_names() {
    let old = [
        ("etag", "\"a\""),
        ("cache-control", "max-age=2"),
        ("x", "1"),
        ("x", "2"),
        ("y", "1"),
        ("content-encoding", "gzip"),
    ];
    let entry = stored(&[], 200, &old, RULES).expect("it is stored");
    let update = fields(&[
        ("ETag", "W/\"b\""),
        ("Cache-Control", "max-age=100"),
        ("X", "3"),
        ("content-encoding", "br"),
        ("content-length", "9"),
        ("age", "40"),
    ]);
    let later = Exchanged { asked: NOW + 5000, answered: NOW + 5000 };
    let request = Fields::default();
    let asked = Asked { method: b"GET", fields: &request, forwarded: &request, authority: b"", at: later };
    let (renewed, fits) = entry.renewed(&asked, &update, RULES);
    assert_eq!(fits, Ok(()));
    let lines: Vec<_> = renewed
        .fields
        .iter()
        .map(|field| format!("{}: {}", String::from_utf8_lossy(field.name), String::from_utf8_lossy(field.value)))
        .collect();
    assert_eq!(lines, ["etag: \"a\"", "y: 1", "content-encoding: gzip", "Cache-Control: max-age=100", "X: 3"]);
    assert_eq!(renewed.left(NOW + 5000), 60_000);
    assert!(Arc::ptr_eq(&renewed.body, &entry.body));
}

#[test]
fn a_304_is_judged_as_a_response_is() {
    let (request, basic) = (fields(&[("a", "1")]), fields(&[("authorization", "Basic eDp5"), ("a", "1")]));
    let entry = stored(&[("a", "1")], 200, &[("etag", "\"a\""), ("vary", "a")], RULES).expect("it is stored");
    for (sent, update, expected) in [
        (&request, ("x", "1"), true),
        (&request, ("cache-control", "private"), false),
        (&request, ("cache-control", "no-store"), false),
        (&request, ("cache-control", "no-cache=\"x\""), false),
        (&request, ("vary", "*"), false),
        (&request, ("vary", "b"), true),
        (&basic, ("x", "1"), false),
        (&basic, ("cache-control", "public"), true),
    ] {
        let asked = Asked { method: b"GET", fields: sent, forwarded: sent, authority: b"", at: AT };
        let (renewed, fits) = entry.renewed(&asked, &fields(&[update]), RULES);
        assert_eq!(fits.is_ok(), expected, "{update:?}");
        let is_for_others = renewed.answers(b"GET", (&fields(&[("a", "2")])).into(), true);
        assert_eq!(is_for_others && fits.is_ok(), update == ("vary", "b"), "{update:?}");
    }
}

#[test]
fn a_304_with_another_validator_is_of_something_else() {
    for (own, new, expected) in [
        ("\"a\"", "\"a\"", false),
        ("\"a\"", "\"b\"", true),
        ("\"a\"", "W/\"b\"", true),
        ("\"a\"", "W/\"a\"", false),
        ("W/\"a\"", "W/\"b\"", true),
        ("W/\"a\"", "\"a\"", false),
        ("W/\"a\"", "\"b\"", true),
    ] {
        let entry = stored(&[], 200, &[("etag", own)], RULES).expect("it is stored");
        assert_eq!(entry.is_other_than(&fields(&[("etag", new)])), expected, "{own} {new}");
        assert!(!entry.is_other_than(&Fields::default()));
    }
}
