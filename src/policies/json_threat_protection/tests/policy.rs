//! The policy: which bodies it looks at, and what it answers.

use super::super::*;
use crate::policies::{Side, testing};

/// How many of the pieces pass of a body that is JSON by this content type; the last one is the end.
fn passes(config: &str, content_type: &str, pieces: &[&str]) -> usize {
    let policy = testing::compile::<JsonThreatProtection>(config).expect("valid");
    let (state, mut kept) = (policy.state(&Core::default()), Scan::default());
    let mut trial = testing::Trial::new("POST", "/", &[("Content-Type", content_type)]);
    let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut kept }, exchange));
    assert!(matches!(flow, Flow::Continue), "nothing has come yet");
    let last = pieces.len() - 1;
    let pieces = pieces.iter().enumerate().map(|(at, piece)| (piece.as_bytes(), at == last));
    pieces
        .take_while(|&(bytes, is_last)| {
            let piece = Piece { side: Side::Request, bytes, is_last };
            match policy.on_body(Turn { state: &state, kept: &mut kept }, &piece) {
                Flow::Continue => true,
                flow => {
                    let Flow::Respond(answer) = flow else { panic!("it waits for nothing") };
                    assert_eq!((answer.status, answer.reason), (400, "json_threat"));
                    assert_eq!(&*answer.body, br#"{"error":"JSON threat detected"}"#);
                    false
                }
            }
        })
        .count()
}

const JSON: &str = "application/json";

#[test]
fn a_body_passes_up_to_where_it_breaks_a_limit() {
    assert_eq!(passes("{maxContainerDepth: 2}", JSON, &["[[1]", ",[2]]"]), 2);
    assert_eq!(passes("{maxContainerDepth: 2}", JSON, &["[[1]", ",[[2]]]"]), 1);
    assert_eq!(passes("{maxContainerDepth: 0}", JSON, &["[]"]), 0);
    assert_eq!(passes("{}", JSON, &["[1", "]", ""]), 3);
}

#[test]
fn what_does_not_end_as_json_is_refused_at_its_end() {
    assert_eq!(passes("{}", JSON, &["[1", "", ""]), 2);
    assert_eq!(passes("{}", JSON, &["[1"]), 0);
}

#[test]
fn only_bodies_that_say_so_are_json_and_an_empty_one_is_nothing() {
    assert_eq!(passes("{maxContainerDepth: 0}", "application/problem+json; charset=utf-8", &["[]"]), 0);
    assert_eq!(passes("{maxContainerDepth: 0}", "text/plain", &["[]"]), 1);
    assert_eq!(passes("{maxContainerDepth: 0}", JSON, &["", ""]), 2);
}

#[test]
fn limits_are_counts_or_none() {
    assert_eq!(
        testing::faults::<JsonThreatProtection>("{maxContainerDepth: -2, maxStringValueLength: -9000000000}"),
        [
            "config.maxContainerDepth: must be at least 0, or -1 for no limit",
            "config.maxStringValueLength: must be at least 0, or -1 for no limit",
        ]
    );
    let compiled = |config| testing::compile::<JsonThreatProtection>(config).expect("valid").limits;
    assert_eq!(compiled("{maxContainerDepth: 9000000000, maxArrayElementCount: -1}"), Limits::NONE);
    assert_eq!(compiled("{maxStringValueLength: 3}"), Limits { string: 3, ..Limits::NONE });
}
