//! What is recognised, what matches, what the limits refuse; and that a recognised shape and the engine never differ.

use proptest::prelude::*;

use super::*;

/// Whether the pattern takes the subject and what its groups took; `None` where it reached its limit.
fn run(pattern: &Pattern, subject: &[u8]) -> Option<Option<Vec<Range<usize>>>> {
    let mut scratch = Scratch::new(1);
    let mut captures = Captures { grouped: true, ranges: vec![7..9, 1..2] };
    let matched = pattern.captures(subject, &mut scratch, &mut captures).ok()?;
    assert_eq!(pattern.is_match(subject, &mut scratch), Ok(matched));
    assert_eq!(captures.grouped, pattern.grouped());
    Some(matched.then_some(captures.ranges))
}

fn compile(text: &str) -> Pattern {
    Pattern::compile(text, &mut 0).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn check(text: &str, subject: &str, expected: Option<&[&str]>) {
    let found = run(&compile(text), subject.as_bytes()).expect("within its limit");
    let found = found.map(|ranges| ranges.into_iter().map(|range| &subject[range]).collect::<Vec<_>>());
    assert_eq!(found.as_deref(), expected, "{text} {subject}");
}

#[test]
fn usual_patterns_need_no_engine() {
    for text in [
        "",
        ".*",
        "/",
        "/api/foo",
        "/api/.*",
        "/api(/.*)",
        "/api.*",
        "(/api.*)",
        "(.*)",
        "/api/(.*)",
        "/api/.+",
        "^/api/.*$",
        "(?:/api)/.*",
        "(/api)",
        r"api\.example\.com",
        "GET",
        "GET|POST",
        "(GET|POST)",
        "PUT|POST|PATCH",
        "(?:GET|HEAD)",
        r"a\.com|b\.com:8080",
        "/a.*?",
        "(?P<rest>/.*)",
        "^$",
        "(?s).*",
    ] {
        let mut patterns = 0;
        let pattern = Pattern::compile(text, &mut patterns).expect(text);
        assert!(matches!(pattern.shape, Shape::Plain(_) | Shape::OneOf { .. }), "{text}: {:?}", pattern.shape);
        assert_eq!(patterns, 0, "{text}");
    }
    for text in
        ["/foo(/.*)/bar(/.*)", "/a/[^/]+", "(/a(/.*))", "(?i)get", "/a(/.*)?", "/a|/b.*", ".*/x", "a{2}", "(?-s).*"]
    {
        let mut patterns = 3;
        let pattern = Pattern::compile(text, &mut patterns).expect(text);
        assert!(matches!(pattern.shape, Shape::Linear { id: 3, .. }), "{text}: {:?}", pattern.shape);
        assert_eq!(patterns, 4, "{text}");
    }
}

#[test]
fn a_pattern_takes_the_whole_subject() {
    check("/api/foo/.*", "/foo/bar", None);
    check("/api/foo/.*", "/x/api/foo/bar", None);
    check("/api/foo/.*", "/api/foo", None);
    check("/api/foo/.*", "/api/foo/", Some(&[]));
    check("/api", "/api/", None);
    check("a|ab", "ab", Some(&[]));
    check("GET|POST", "GETPOST", None);
    check("^/a$|b", "b", Some(&[]));
    check("", "", Some(&[]));
    check("", "a", None);
    check("/a", "/A", None);
    check("/users/{id}", "/users/{id}", Some(&[]));
    check("/users/{id}", "/users/1", None);
}

#[test]
fn groups_are_taken_in_their_order() {
    check("/api(/.*)", "/api/x/y", Some(&["/x/y"]));
    check("/api(/.*)", "/api", None);
    check("/api(.*)", "/api", Some(&[""]));
    check("(/api.*)", "/api/x", Some(&["/api/x"]));
    check("/foo(/.*)/bar(/.*)", "/foo/a/bar/b", Some(&["/a", "/b"]));
    check("(/a(/.*))", "/a/b", Some(&["/a/b", "/b"]));
    check("/a(/x)?(/.*)", "/a/y", Some(&["/y"]));
    check("(GET|POST)", "POST", Some(&["POST"]));
}

#[test]
fn a_negative_look_ahead_backtracks() {
    for (subject, expected) in [
        ("/api/users", Some(&["/users"][..])),
        ("/api/internal", None),
        ("/api/internal/x", None),
        ("/api/internals", None),
    ] {
        check("/api(/(?!internal).*)", subject, expected);
    }
    check("(?!GET).*", "POST", Some(&[]));
    check("(?!GET).*", "GET", None);
    check("a(?!b)|ab", "ab", Some(&[]));
    // An escaped bracket is no group, and needs no backtracking.
    assert!(matches!(compile(r"\(?!a").shape, Shape::Linear { .. }));
}

#[test]
fn backtracking_has_a_limit() {
    let pattern = compile("/(?:a(?!x)|a(?!y))*c");
    assert_eq!(run(&pattern, b"/aac"), Some(Some(vec![])));
    assert_eq!(run(&pattern, format!("/{}", "a".repeat(64)).as_bytes()), None);
    assert_eq!(run(&pattern, b"/aac"), Some(Some(vec![])), "the limit is each subject's own");
}

#[test]
fn bytes_that_are_not_text_match_like_any_other() {
    for text in [".*", "caf.", "c.f.", "caf(?!e).", r"caf[^a-z]", r"caf\W"] {
        assert!(run(&compile(text), b"caf\xe9").expect("within its limit").is_some(), "{text}");
    }
    for text in ["cafe", r"caf\w", "caf", "caf(?!.).*"] {
        assert!(run(&compile(text), b"caf\xe9").expect("within its limit").is_none(), "{text}");
    }
    check("café", "café", Some(&[]));
    check("caf[éè]", "café", Some(&[]));
    check(r"\pL+", "café", Some(&[]));
}

#[test]
fn case_is_ignored_where_asked() {
    let check = |text: &str, subject: &str, expected: bool| {
        let pattern = Pattern::compile_ignoring_case(text, &mut 0).expect(text);
        assert_eq!(
            run(&pattern, subject.as_bytes()).expect("within its limit").is_some(),
            expected,
            "{text} {subject}"
        );
    };
    check("X-Trace", "x-tRACE", true);
    check("Access-Control.*", "access-control-max-age", true);
    check("a|bc", "BC", true);
    check("x-[a-c]+", "X-ABC", true);
    check("x-(?!keep).*", "X-GO", true);
    check("x-(?!keep).*", "X-KEEP", false);
    check("x-[a-c]+", "X-ABD", false);
}

#[test]
fn what_is_no_pattern_says_so_in_one_line() {
    for (text, problem) in [
        ("a(", "not a regular expression: unclosed group, at character 2"),
        ("[", "not a regular expression: unclosed character class, at character 1"),
        ("*", "not a regular expression: repetition operator missing expression, at character 1"),
        (r"(a)\1", "not a regular expression: backreferences are not supported, at character 4"),
        (
            "(?=a)b",
            "not a regular expression: look-around, including look-ahead and look-behind, is not supported, at character 1",
        ),
    ] {
        assert_eq!(Pattern::compile(text, &mut 0).expect_err(text), problem);
    }
    for text in ["a)|(?:(?!b)", "(?!", "(?x)a(?!b) # c"] {
        let problem = Pattern::compile(text, &mut 0).expect_err(text);
        assert!(problem.starts_with("not a regular expression: ") && !problem.contains('\n'), "{problem}");
    }
}

#[test]
fn patterns_have_limits() {
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(
        Pattern::compile(&long, &mut 0).expect_err("too long"),
        "a pattern of 4097 bytes; at most 4096 are allowed"
    );
    assert!(Pattern::compile(&long[1..], &mut 0).is_ok());
    assert_eq!(
        Pattern::compile("(?:[ab]{500}){500}", &mut 0).expect_err("too large"),
        "the pattern compiles to more than 1048576 bytes"
    );
    let deep = format!("{}{}", "(".repeat(200), ")".repeat(200));
    assert!(Pattern::compile(&deep, &mut 0).expect_err("too deep").contains("maximum number of nested"));
}

/// An engine built from the text alone, as a second opinion.
fn by_engine(text: &str, subject: &[u8]) -> Option<Vec<Range<usize>>> {
    let syntax = regex_automata::util::syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
    let regex = Regex::builder()
        .syntax(syntax)
        .configure(meta::Config::new().utf8_empty(false))
        .build(&format!(r"\A(?:{text})\z"))
        .expect(text);
    let mut captures = regex.create_captures();
    regex.captures(subject, &mut captures);
    captures.is_match().then(|| captures.iter().skip(1).flatten().map(|span| span.range()).collect())
}

/// Patterns out of the pieces that recognition knows, in orders it may not know.
fn patterns() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("a"),
        Just("/a"),
        Just(".*"),
        Just(".+"),
        Just("(/.*)"),
        Just("(.*)"),
        Just("(a)"),
        Just("(a.*)"),
        Just("()"),
        Just("^"),
        Just("$"),
        Just("|"),
        Just(r"\."),
        Just("(a|b)"),
        Just("(?:a.*)"),
        Just("a?"),
        Just("(?i)"),
        Just("(/(a))"),
        Just("(?:^a)"),
        Just("(a$)"),
        Just(".*?"),
        Just("GET|POST"),
        Just("."),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recognised_shape_and_the_engine_agree(
        text in patterns(),
        subjects in prop::collection::vec("(/|a|A|b|\\.|/a|GET|POST|\n){0,5}", 8),
    ) {
        // Pieces side by side can be no pattern at all (`^` repeated is one, `a?` repeated too).
        if let Ok(pattern) = Pattern::compile(&text, &mut 0) {
            for subject in subjects {
                let found = run(&pattern, subject.as_bytes()).expect("nothing here backtracks");
                prop_assert_eq!(found, by_engine(&text, subject.as_bytes()), "{} {}", text, subject);
            }
        }
    }

    #[test]
    fn no_text_and_no_subject_panics(text in "[a-z/.*+?()|\\[\\]{}^$\\\\!:<=,0-9é]{0,12}", subject in prop::collection::vec(any::<u8>(), 0..16)) {
        if let Ok(pattern) = Pattern::compile(&text, &mut 0) {
            run(&pattern, &subject);
        }
    }
}

#[test]
fn an_engine_is_asked_only_behind_its_literal_beginning() {
    for (text, expected) in [
        ("/orders/[0-9]+", "/orders/"),
        ("/orders(/[0-9]+)", "/orders/"),
        ("^/a/(?:b)/[0-9]", "/a/b/"),
        ("/a/?", "/a"),
        ("/a+", "/"),
        ("/(a|b)/c.d", "/"),
        ("[a-z]+/x", ""),
        ("(?i)/a[0-9]", "/"),
        ("a[0-9]|b[0-9]", ""),
    ] {
        match compile(text).shape {
            Shape::Linear { prefix, .. } => assert_eq!(&*prefix, expected.as_bytes(), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
