//! Order, rules, answers, waits and shadow; what is told of decisions.

use super::*;
use crate::{
    http::head::Fields,
    matching::rule::RawRule,
    policies::{Compiled, compile, testing},
    telemetry::series::SeriesId,
};

/// A chain of `(name, config, path of its rule or empty)`.
fn chain(written: &[(&str, &str, &str)]) -> (Vec<BoundPolicy>, Scratch) {
    let mut patterns = 0;
    let mut problems = Vec::new();
    let mut rules = |path: &str| -> Vec<Rule> {
        let raw = RawRule { path: Some(path.to_owned()), ..RawRule::default() };
        if path.is_empty() { Vec::new() } else { vec![Rule::compile(&raw, &mut patterns).expect("valid")] }
    };
    let chain = written.iter().enumerate().map(|(at, (name, config, path))| BoundPolicy {
        name: (*name).to_owned(),
        reference: (*name).to_owned(),
        location: Default::default(),
        identity: at as u64,
        series: SeriesId(0),
        policy: compile(name, &testing::node(config), "config", &mut testing::site(), &mut problems),
        rules: rules(path),
        needs: crate::policies::Needs::NONE,
        shadow: false,
    });
    let chain = chain.collect();
    (chain, Scratch::new(patterns))
}

/// What the chain does with `GET path`, where 4 bytes are the API's base: the headers that go upstream and the reason of
/// a refusal, then the headers of the response.
fn run(chain: &[BoundPolicy], scratch: &mut Scratch, path: &str) -> (String, Option<&'static str>, String) {
    let ran = run_waiting(chain, scratch, path);
    assert_eq!(ran.waited, "", "{path}");
    (ran.request, ran.refused, ran.response)
}

/// How a chain was run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ran {
    request: String,
    refused: Option<&'static str>,
    /// The reason of an answer in the place of the response.
    replaced: Option<&'static str>,
    response: String,
    /// The seconds of each wait.
    waited: String,
}

/// The same, where each wait has its reply at once, and what was borrowed for the run before is new for the next.
fn run_waiting(chain: &[BoundPolicy], scratch: &mut Scratch, path: &str) -> Ran {
    let instances = Instances::default().chain(chain, &Core::default());
    let mut trial = testing::Trial::new("GET", path, &[]);
    let (mut turns, mut ran) = (Turns::default(), Ran::default());
    let mut reply = None;
    ran.refused = loop {
        let next = trial.with(4, |exchange| {
            run_request(chain, &instances, &mut turns, exchange, scratch, reply.take(), &mut Unwatched)
        });
        match next {
            Next::Done => break None,
            Next::Respond(answer) => break Some(answer.reason),
            Next::Wait(question) => reply = Some(ran.wait(&question)),
            other => panic!("{other:?}"),
        }
    };
    ran.replaced = loop {
        let render = |_: &mut ResponseHead, _: &LocalResponse| {};
        let next = trial.with(4, |exchange| {
            run_response(chain, &instances, &mut turns, exchange, &mut reply, &render, &mut Unwatched)
        });
        match next {
            Next::Done => break None,
            Next::Respond(answer) => break Some(answer.reason),
            Next::Wait(question) => reply = Some(ran.wait(&question)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(turns.seen, turns.ran.len(), "nothing is left to run twice");
    trial.with(4, |exchange| run_log(chain, &instances, &mut turns, exchange, &End::default(), &mut Unwatched));
    assert!(turns.is_empty() && !turns.is_held && turns.next == 0, "the next request finds nothing");
    ran.request = names(&trial.request.fields);
    ran.response = names(&trial.response.fields);
    ran
}

impl Ran {
    fn wait(&mut self, question: &Question) -> Reply {
        let Question::Time(time) = question else { panic!("{question:?}") };
        self.waited += &time.as_secs().to_string();
        Reply::Time
    }
}

fn names(fields: &Fields) -> String {
    testing::lines(fields).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

fn check(written: &[(&str, &str, &str)], path: &str, expected: (&str, Option<&'static str>, &str)) {
    let (chain, mut scratch) = chain(written);
    let (request, reason, response) = run(&chain, &mut scratch, path);
    assert_eq!((request.as_str(), reason, response.as_str()), expected, "{path}");
}

const A: &str = "{inboundHeaders: [{key: a, value: ''}], outboundHeaders: [{key: a, value: ''}]}";
const B: &str = "{inboundHeaders: [{key: b, value: ''}], outboundHeaders: [{key: b, value: ''}]}";
const C: &str = "{inboundHeaders: [{key: c, value: ''}], outboundHeaders: [{key: c, value: ''}]}";
const LOGIN: (&str, &str, &str) = ("http-basic-authentication", "{username: u, password: p}", "");

#[test]
fn policies_run_in_order_and_the_reverse_order() {
    check(&[], "/api/x", ("", None, ""));
    check(
        &[("header-injection", A, ""), ("header-injection", B, ""), ("header-injection", C, "")],
        "/api/x",
        ("a b c", None, "c b a"),
    );
}

#[test]
fn a_refusal_turns_the_chain_round() {
    check(
        &[("header-injection", A, ""), LOGIN, ("header-injection", B, "")],
        "/api/x",
        ("a", Some("authentication_missing"), "a"),
    );
}

#[test]
fn rules_see_the_path_below_the_base() {
    let written = [("header-injection", A, "/x"), ("header-injection", B, "/api/x"), ("header-injection", C, "/.*")];
    check(&written, "/api/x", ("a c", None, "c a"));
    check(&written, "/api/y", ("c", None, "c"));
    check(&written, "/api", ("c", None, "c"));
}

#[test]
fn rules_see_what_the_policies_before_have_changed() {
    let (mut chain, _) = chain(&[("header-injection", A, ""), ("header-injection", B, "")]);
    let raw = RawRule { headers: [("a".to_owned(), ".*".to_owned())].into(), ..RawRule::default() };
    chain[1].rules.push(Rule::compile(&raw, &mut 0).expect("valid"));
    assert_eq!(run(&chain, &mut Scratch::new(0), "/api").0, "a b");
    chain.swap(0, 1);
    assert_eq!(run(&chain, &mut Scratch::new(0), "/api").0, "a");
}

#[test]
fn a_policy_that_could_not_be_built_refuses_what_its_rules_select() {
    let written = [("header-injection", A, ""), ("xml-threat-protection", "{}", "/x"), ("header-injection", B, "")];
    check(&written, "/api/x", ("a", Some("policy_broken"), "a"));
    check(&written, "/api/y", ("a b", None, "b a"));
}

#[test]
fn a_rule_at_its_limit_refuses() {
    let path = format!("/api/{}", "a".repeat(64));
    let written = [("header-injection", A, ""), ("header-injection", B, "/(?:a(?!x)|a(?!y))*c")];
    check(&written, &path, ("a", Some("pattern_limit"), "a"));
}

#[test]
fn a_policy_in_shadow_decides_and_changes_nothing() {
    let (mut chain, mut scratch) = chain(&[("header-injection", A, ""), LOGIN, ("header-injection", B, "")]);
    chain[0].shadow = true;
    chain[1].shadow = true;
    assert_eq!(run(&chain, &mut scratch, "/api"), ("b".into(), None, "b".into()));
}

#[test]
fn a_wait_is_told_and_what_comes_of_it() {
    let refuses = ("test-waits", "{name: w, request: 2, answers: true}", "");
    let replaces = ("test-waits", "{name: w, response: 1, answers: true}", "");
    let decisions = |written, shadow| {
        let (mut chain, mut scratch) = chain(&[written]);
        chain[0].shadow = shadow;
        let instances = Instances::default().chain(&chain, &Core::default());
        let mut trial = testing::Trial::new("GET", "/api/x", &[]);
        let (mut turns, mut told, mut reply) = (Turns::default(), Decisions::default(), None);
        trial.with(4, |exchange| {
            let turns = &mut turns;
            let mut run = |reply| run_request(&chain, &instances, turns, exchange, &mut scratch, reply, &mut told);
            while let Next::Wait(_) = run(reply.take()) {
                reply = Some(Reply::Time);
            }
            let render = |_: &mut ResponseHead, _: &LocalResponse| {};
            let mut run = |reply: &mut _| run_response(&chain, &instances, turns, exchange, reply, &render, &mut told);
            while let Next::Wait(_) = run(&mut reply) {
                reply = Some(Reply::Time);
            }
        });
        told.0.into_iter().map(|(_, decision)| decision).collect::<Vec<_>>()
    };
    let waited = Decision::Respond("waited");
    // It answers in both directions.
    assert_eq!(decisions(refuses, false), [Decision::Wait, Decision::Wait, waited, waited]);
    assert_eq!(decisions(replaces, false), [Decision::Continue, Decision::Wait, waited]);
    assert_eq!(decisions(refuses, true), [Decision::Wait]);
}

fn check_waiting(written: &[(&str, &str, &str)], expected: (&str, Option<&'static str>, &str, &str)) {
    let (chain, mut scratch) = chain(written);
    let ran = run_waiting(&chain, &mut scratch, "/api/x");
    let answered = ran.refused.or(ran.replaced);
    assert_eq!((&*ran.request, answered, &*ran.response, &*ran.waited), expected, "{written:?}");
}

#[test]
fn a_chain_goes_on_where_a_policy_waits() {
    let injects = ("header-injection", A, "");
    let waits = ("test-waits", "{name: w, request: 3, response: 2}", "");
    check_waiting(&[injects, waits, ("header-injection", B, "")], ("a w b", None, "b w a", "12312"));
    let other = ("test-waits", "{name: v, request: 1, response: 1}", "");
    check_waiting(&[waits, other, injects], ("w v a", None, "a v w", "1231112"));
    check_waiting(&[("test-waits", "{name: w, request: 1}", "/y"), injects], ("a", None, "a", ""));
}

#[test]
fn a_policy_that_has_waited_may_answer() {
    let injects = ("header-injection", A, "");
    let refuses = ("test-waits", "{name: w, request: 2, answers: true}", "");
    check_waiting(&[injects, refuses, ("header-injection", B, "")], ("a w", Some("waited"), "w a", "12"));
    let replaces = ("test-waits", "{name: w, response: 1, answers: true}", "");
    check_waiting(&[injects, replaces, ("header-injection", B, "")], ("a w b", Some("waited"), "b w a", "1"));
}

#[test]
fn a_policy_in_shadow_holds_up_nobody() {
    let waits = ("test-waits", "{name: w, request: 1, response: 1}", "");
    let (mut chain, mut scratch) = chain(&[("header-injection", A, ""), waits, ("header-injection", B, "")]);
    chain[1].shadow = true;
    let expected = Ran { request: "a b".into(), response: "b a".into(), ..Ran::default() };
    assert_eq!(run_waiting(&chain, &mut scratch, "/api/x"), expected);
    let instances = Instances::default().chain(&chain, &Core::default());
    let mut turns = Turns::default();
    testing::Trial::new("GET", "/api/x", &[]).with(4, |exchange| {
        run_request(&chain, &instances, &mut turns, exchange, &mut scratch, None, &mut Unwatched);
    });
    let ran: Vec<usize> = turns.ran.iter().map(|(index, _)| *index).collect();
    assert_eq!(ran, [0, 2], "what it kept is gone");
    let waits = ("test-waits", "{name: w, response: 1, answers: true}", "");
    let (mut chain, mut scratch) = self::chain(&[("header-injection", A, ""), waits]);
    chain[1].shadow = true;
    let expected = Ran { request: "a".into(), response: "a".into(), ..Ran::default() };
    assert_eq!(run_waiting(&chain, &mut scratch, "/api/x"), expected);
}

#[test]
fn a_wait_that_is_cut_off_was_its_policys_turn() {
    let waits = ("test-waits", "{name: w, request: 1, response: 1}", "");
    let (chain, mut scratch) = chain(&[("header-injection", A, ""), waits, ("header-injection", B, "")]);
    let instances = Instances::default().chain(&chain, &Core::default());
    let mut trial = testing::Trial::new("GET", "/api/x", &[]);
    let mut turns = Turns::default();
    trial.with(4, |exchange| {
        let next = run_request(&chain, &instances, &mut turns, exchange, &mut scratch, None, &mut Unwatched);
        assert!(matches!(next, Next::Wait(_)));
        // It sees the response that comes instead, and waits once more.
        let render = |_: &mut ResponseHead, _: &LocalResponse| {};
        let next = run_response(&chain, &instances, &mut turns, exchange, &mut None, &render, &mut Unwatched);
        assert!(matches!(next, Next::Wait(_)));
        let next = run_response(&chain, &instances, &mut turns, exchange, &mut None, &render, &mut Unwatched);
        assert!(matches!(next, Next::Done));
    });
    assert_eq!((names(&trial.request.fields), names(&trial.response.fields)), ("a".into(), "a".into()));
}

/// What policies decided, in order, by series; and how many turns were measured.
#[derive(Default)]
struct Decisions(Vec<(u32, Decision)>, usize);

impl Watcher for Decisions {
    fn begins(&mut self) -> Option<Instant> {
        Some(Instant::now())
    }

    fn decided(&mut self, bound: &BoundPolicy, decision: Option<Decision>, began: Option<Instant>) {
        self.0.extend(decision.map(|decision| (bound.series.0, decision)));
        self.1 += usize::from(began.is_some());
    }
}

#[test]
fn each_decision_is_told_once() {
    let pattern = "/(?:a(?!x)|a(?!y))*c";
    let preflight = ("cors", "{publicResource: true}", "");
    let written = [
        LOGIN,
        preflight,
        ("xml-threat-protection", "{}", ""),
        ("header-injection", A, "/other"),
        ("header-injection", B, ""),
    ];
    let (mut chain, _) = chain(&written);
    let (mut patterns, mut scratch) = (1, Scratch::new(2));
    for (bound, series) in chain.iter_mut().zip(0..) {
        (bound.series, bound.shadow) = (SeriesId(series), true);
    }
    let sent = [("origin", "https://a.test"), ("access-control-request-method", "PUT")];
    let mut decisions = |chain: &[BoundPolicy], path: &str| {
        let instances = Instances::default().chain(chain, &Core::default());
        let mut trial = testing::Trial::new("OPTIONS", path, &sent);
        let (mut turns, mut told) = (Turns::default(), Decisions::default());
        trial.with(4, |exchange| {
            run_request(chain, &instances, &mut turns, exchange, &mut scratch, None, &mut told);
            run_response(chain, &instances, &mut turns, exchange, &mut None, &|_, _| {}, &mut told)
        });
        told
    };
    let shadow = |reason| Decision::ShadowDeny(reason);
    let Decisions(told, measured) = decisions(&chain, "/api");
    let denied = [(0, shadow("authentication_missing")), (1, Decision::Continue), (2, shadow("policy_broken"))];
    assert_eq!(told, [&denied[..], &[(4, Decision::Continue)]].concat());
    assert_eq!(measured, 8, "both directions");

    chain[1].shadow = false;
    assert_eq!(decisions(&chain, "/api").0, [denied[0], (1, Decision::Respond("cors_preflight"))]);
    chain[1].shadow = true;
    chain[2].shadow = false;
    assert_eq!(decisions(&chain, "/api").0, [denied[0], denied[1], (2, Decision::Fail("policy_broken"))]);

    // In shadow or not: what cannot be matched is refused.
    let raw = RawRule { path: Some(pattern.to_owned()), ..RawRule::default() };
    chain[0].rules.push(Rule::compile(&raw, &mut patterns).expect("valid"));
    let path = format!("/api/{}", "a".repeat(64));
    assert_eq!(decisions(&chain, &path).0, [(0, Decision::Fail("pattern_limit"))]);
}

#[test]
fn what_a_policy_owns_outlives_a_reload_that_does_not_change_it() {
    let (mut chain, _) = chain(&[("header-injection", A, ""), ("header-injection", B, "")]);
    let mut instances = Instances::default();
    let before = instances.chain(&chain, &Core::default());
    chain.swap(0, 1);
    chain[0].identity = 7;
    let after = instances.chain(&chain, &Core::default());
    assert!(Rc::ptr_eq(&before[0], &after[1]) && !Rc::ptr_eq(&before[1], &after[0]));
    instances.retain(|identity| identity == 7);
    assert_eq!(instances.0.len(), 1);
}

#[test]
fn a_chain_may_be_long() {
    let (chain, mut scratch) = chain(&vec![("header-injection", A, ""); 130]);
    let (request, _, response) = run(&chain, &mut scratch, "/api");
    assert_eq!((request.len(), response.len()), (259, 259));
    assert!(chain.iter().all(|bound| !matches!(bound.policy, Compiled::Broken(_))));
}
