use std::time::Duration;

use super::*;
use crate::{
    cache::Store,
    http::head::{BodyLength, ResponseHead},
    policies::testing::{self, Trial},
};

type Lines<'l> = &'l [(&'l str, &'l str)];

/// One core's policy, and a clock of its own.
struct Cache {
    policy: HttpCaching,
    state: State,
}

/// What an upstream answers.
type Answered<'l> = (u16, Lines<'l>, &'l str);

/// Sun, 06 Nov 1994 08:49:37 GMT.
const START: Duration = Duration::from_secs(784_111_777);

impl Cache {
    fn new(config: &str) -> Self {
        let policy: HttpCaching = testing::compile(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"));
        let state = policy.state(&Core::default());
        Self { policy, state }
    }

    fn telling(config: &str) -> Self {
        let cache = Self::new(config);
        Self { policy: HttpCaching { tells: true, ..cache.policy }, ..cache }
    }

    /// Another core of the replica.
    fn beside(&self) -> Self {
        let policy = Self::new("{}").policy;
        let State { partition, core, .. } = &self.state;
        Self { state: State { partition: partition.clone(), core: core + 1, ..policy.state(&Core::default()) }, policy }
    }

    /// A request's turn, so many seconds after the start.
    fn ask(&self, at: u64, line: &str, lines: Lines<'_>) -> Asking<'_> {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let mut trial = Trial::new(method, path, lines);
        trial.request.query = query.into();
        let mut asking = Asking { cache: self, trial, kept: Kept::default(), flow: Flow::Continue };
        asking.flow = asking.turn(at, |policy, turn, exchange| policy.on_request(turn, exchange));
        asking
    }

    /// A request and, where it goes on, its response. Returns what the client gets, after what the upstream was asked.
    fn exchange(&self, at: u64, line: &str, lines: Lines<'_>, upstream: Answered<'_>) -> String {
        let mut asking = self.ask(at, line, lines);
        match std::mem::replace(&mut asking.flow, Flow::Continue) {
            Flow::Respond(answer) | Flow::RespondAndGoOn(answer) => shown(&answer),
            Flow::Wait(_) | Flow::AskAgain(_) => panic!("nobody else asks"),
            Flow::Continue => format!("{}-> {}", asking.conditions(), asking.answered(at, upstream)),
        }
    }
}

struct Asking<'c> {
    cache: &'c Cache,
    trial: Trial,
    kept: Kept,
    flow: Flow,
}

impl Asking<'_> {
    fn turn(
        &mut self,
        at: u64,
        run: impl FnOnce(&HttpCaching, Turn<'_, HttpCaching>, &mut Exchange<'_>) -> Flow,
    ) -> Flow {
        let Self { cache: Cache { policy, state }, trial, kept, .. } = self;
        trial.with(0, |exchange| {
            exchange.set_now(Some(UNIX_EPOCH + START + Duration::from_secs(at)));
            run(policy, Turn { state, kept }, exchange)
        })
    }

    /// What the upstream is asked whether it is good still.
    fn conditions(&self) -> String {
        let fields = &self.trial.request.fields;
        let said = [&b"if-none-match"[..], b"if-modified-since"].into_iter().filter_map(|name| fields.get(name));
        said.map(|value| format!("{} ", String::from_utf8_lossy(value))).collect()
    }

    fn answered(&mut self, at: u64, (status, lines, body): Answered<'_>) -> String {
        let trial = std::mem::replace(&mut self.trial, Trial::new("GET", "/", &[]));
        self.trial = trial.answered(status, lines);
        let length = self.trial.response.fields.get(b"content-length").and_then(crate::http::bytes::decimal);
        self.trial.response.content_length = length.or_else(|| self.cache.policy.tells.then_some(body.len() as u64));
        let has_body = !body.is_empty() && self.trial.request.method != b"HEAD";
        self.trial.response.body = if has_body { BodyLength::Chunked } else { BodyLength::None };
        match self.turn(at, |policy, turn, exchange| policy.on_response(turn, exchange)) {
            Flow::Respond(answer) | Flow::RespondAndGoOn(answer) => return shown(&answer),
            Flow::Wait(_) => panic!("responses wait for nobody"),
            Flow::AskAgain(_) => return format!("again {}", self.conditions()),
            Flow::Continue => {}
        }
        let Self { cache: Cache { policy, state }, kept, .. } = self;
        for (index, byte) in body.bytes().enumerate().filter(|_| has_body) {
            let piece = Piece { side: Side::Response, bytes: &[byte], is_last: index + 1 == body.len() };
            assert!(matches!(policy.on_body(Turn { state, kept }, &piece), Flow::Continue));
        }
        let told = self.trial.response.fields.get(b"cache-status").map(|told| format!(" [{}]", text(told)));
        format!("{status} {body}{}", told.unwrap_or_default())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(answer: &LocalResponse) -> String {
    let header =
        |name: &str| answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_string());
    let mut shown = format!("{} {}", answer.status, text(&answer.body));
    if let Some(age) = header("age") {
        shown += &format!(" age {age}");
    }
    if let Some(range) = header("content-range") {
        shown += &format!(" ({range})");
    }
    if let Some(told) = header("cache-status") {
        shown += &format!(" [{told}]");
    }
    shown
}

const OK: Answered<'static> = (200, &[], "one");
const NEW: Answered<'static> = (200, &[], "two");

#[test]
fn a_response_is_an_answer_for_its_time_to_live() {
    let cache = Cache::new("{ttl: 60}");
    assert_eq!(cache.exchange(0, "GET /a", &[], OK), "-> 200 one");
    assert_eq!(cache.exchange(59, "GET /a", &[], NEW), "200 one age 59");
    assert_eq!(cache.beside().exchange(59, "GET /a", &[], NEW), "200 one age 59");
    assert_eq!(cache.exchange(60, "GET /a", &[], NEW), "-> 200 two");
    assert_eq!(cache.exchange(61, "GET /a", &[], NEW), "200 two age 1");
    let counts = cache.state.partition.counted();
    assert_eq!((counts.hits, counts.misses, counts.stores, counts.entries), (3, 2, 2, 1));
}

#[test]
fn the_documented_key_is_the_path_and_another_tells_more_apart() {
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a?x=1", &[("host", "one")], OK);
    assert_eq!(cache.exchange(1, "GET /a?x=2", &[("host", "two")], NEW), "200 one age 1");
    assert_eq!(cache.exchange(1, "GET /b", &[], NEW), "-> 200 two");
    let cache = Cache::new("{httpCachingKey: '#[attributes.requestUri]'}");
    cache.exchange(0, "GET /a?x=1", &[], OK);
    assert_eq!(cache.exchange(1, "GET /a?x=2", &[], NEW), "-> 200 two");
}

#[test]
fn without_a_key_it_steps_aside() {
    let cache = Cache::new("{httpCachingKey: \"#['k' ++ attributes.headers.k]\"}");
    cache.exchange(0, "GET /a", &[], OK);
    assert_eq!(cache.exchange(1, "GET /a", &[], NEW), "-> 200 two");
    cache.exchange(0, "GET /a", &[("k", "1")], OK);
    assert_eq!(cache.exchange(1, "GET /a", &[("k", "1")], NEW), "200 one age 1");
}

#[test]
fn a_key_of_bytes_that_cannot_be_told_apart_is_none() {
    let cache = Cache::new("{httpCachingKey: '#[attributes.headers.k]'}");
    for (value, expected) in [("caf\u{e9}", "200 one age 1"), ("\u{fffd}", "-> 200 two")] {
        cache.exchange(0, "GET /a", &[("k", value)], OK);
        assert_eq!(cache.exchange(1, "GET /a", &[("k", value)], NEW), expected, "{value}");
    }
    for byte in [0xfe, 0xff] {
        let mut trial = Trial::new("GET", "/a", &[]);
        trial.request.fields.append(b"k", &[byte]);
        let mut kept = Kept::default();
        trial.with(0, |exchange| cache.policy.on_request(Turn { state: &cache.state, kept: &mut kept }, exchange));
        assert!(matches!(kept, Kept::Passed(BYPASS)));
    }
}

#[test]
fn what_answers_a_body_is_for_nobody_else() {
    let cache = Cache::new("{requestExpression: ''}");
    for body in [BodyLength::Length(1), BodyLength::Chunked] {
        let mut trial = Trial::new("GET", "/a", &[]);
        trial.request.body = body;
        let mut asking = Asking { cache: &cache, trial, kept: Kept::default(), flow: Flow::Continue };
        let flow = asking.turn(0, |policy, turn, exchange| policy.on_request(turn, exchange));
        assert!(matches!(flow, Flow::Continue));
        // Nobody waits for it.
        assert_eq!(cache.exchange(0, "GET /a", &[], (404, &[("cache-control", "no-cache")], "none")), "-> 404 none");
        assert_eq!(asking.answered(0, OK), "200 one");
        assert_eq!(cache.state.partition.counted().entries, 0);
    }
}

#[test]
fn who_has_waited_for_nothing_goes_on_alone() {
    let cache = Cache::new("{}");
    let waiting = || Kept::Waiting(Box::new(Waiting { key: b"/a"[..].into(), since: START.as_millis() as Millis }));
    for _ in 0..3 {
        let trial = Trial::new("GET", "/a", &[]);
        let mut asking = Asking { cache: &cache, trial, kept: waiting(), flow: Flow::Continue };
        let flow = asking.turn(1, |policy, turn, exchange| policy.on_reply(turn, exchange, Reply::Signal));
        assert!(matches!(flow, Flow::Continue));
        assert!(matches!(&asking.kept, Kept::Asked(asked) if asked.lead.is_none()));
    }
    assert_eq!(cache.exchange(1, "GET /a", &[], OK), "-> 200 one", "none of them is waited for");
}

#[test]
fn expressions_choose_requests_and_responses() {
    let cache = Cache::new("{}");
    cache.exchange(0, "POST /a", &[], OK);
    assert_eq!(cache.exchange(1, "GET /a", &[], (500, &[], "bad")), "-> 500 bad");
    assert_eq!(cache.exchange(2, "GET /a", &[], OK), "-> 200 one");
    let cache = Cache::new("{requestExpression: '', responseExpression: ''}");
    cache.exchange(0, "POST /a", &[], (500, &[], "bad"));
    assert_eq!(cache.exchange(1, "POST /a", &[], OK), "500 bad age 1");
    assert_eq!(cache.exchange(1, "GET /a", &[], OK), "-> 200 one", "an answer to another method is none");
    let cache = Cache::new("{requestExpression: '', useHttpCacheHeaders: false}");
    cache.exchange(0, "POST /a", &[], OK);
    assert_eq!(cache.exchange(1, "GET /a", &[], NEW), "200 one age 1");
    let cache = Cache::new("{requestExpression: '#[attributes.headers.x]'}");
    cache.exchange(0, "GET /a", &[("x", "true")], OK);
    assert_eq!(cache.exchange(1, "GET /a", &[("x", "true")], NEW), "-> 200 two", "no truth, no cache");
}

#[test]
fn head_is_answered_from_a_get_and_brings_nothing() {
    let cache = Cache::new("{httpCachingKey: '#[attributes.method ++ attributes.requestPath]'}");
    cache.exchange(0, "HEAD /a", &[], (200, &[], ""));
    assert_eq!(cache.exchange(1, "HEAD /a", &[], (200, &[], "")), "-> 200 ");
    assert_eq!(cache.exchange(1, "GET /a", &[], OK), "-> 200 one");
    // The body is there for its length; the proxy sends none.
    assert_eq!(cache.exchange(2, "HEAD /a", &[], (200, &[], "")), "200 one age 1");
}

#[test]
fn what_the_header_says_is_forgotten() {
    let cache = Cache::new("{invalidationHeader: X-Forget, httpCachingKey: '#[attributes.requestPath]'}");
    let stored = |path: &str| cache.exchange(0, &format!("GET {path}"), &[], OK);
    stored("/a");
    stored("/b");
    assert_eq!(cache.exchange(1, "GET /a", &[("x-forget", "Invalidate")], NEW), "-> 200 two");
    assert_eq!(cache.exchange(1, "GET /a", &[("x-forget", "something")], OK), "200 two age 0");
    assert_eq!(cache.exchange(1, "GET /b", &[], NEW), "200 one age 1");
    assert_eq!(cache.exchange(1, "GET /b", &[("x-forget", "invalidate-all")], NEW), "-> 200 two");
    assert_eq!(cache.exchange(1, "GET /a", &[], OK), "-> 200 one");
}

#[test]
fn requests_say_what_they_take() {
    let fresh = (200, &[("cache-control", "max-age=60"), ("etag", "\"1\"")][..], "one");
    for (at, control, expected) in [
        (10, "", "200 one age 10"),
        (10, "no-cache", "-> 200 two"),
        (10, "no-store", "200 one age 10"),
        (10, "max-age=5", "\"1\" -> 200 two"),
        (10, "max-age=10", "200 one age 10"),
        (10, "min-fresh=51", "\"1\" -> 200 two"),
        (10, "only-if-cached", "200 one age 10"),
        (70, "", "\"1\" -> 200 two"),
        (70, "max-stale=10", "200 one age 70"),
        (70, "only-if-cached", "504 {\"error\":\"Not in the cache.\"}"),
    ] {
        let cache = Cache::new("{}");
        cache.exchange(0, "GET /a", &[], fresh);
        assert_eq!(cache.exchange(at, "GET /a", &[("cache-control", control)], NEW), expected, "{at}: {control}");
    }
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[("cache-control", "no-store")], fresh);
    assert_eq!(cache.exchange(1, "GET /a", &[("cache-control", "no-cache")], NEW), "-> 200 two");
    assert_eq!(cache.exchange(2, "GET /a", &[], fresh), "200 two age 1");
    assert_eq!(cache.exchange(2, "GET /b", &[("cache-control", "only-if-cached")], NEW).get(..3), Some("504"));
}

#[test]
fn what_is_stale_is_asked_after_and_lives_on() {
    let old = (200, &[("cache-control", "max-age=10"), ("etag", "\"1\""), ("x", "old")][..], "one");
    let cache = Cache::telling("{}");
    assert_eq!(cache.exchange(0, "GET /a", &[], old), "-> 200 one [ringway; fwd=miss; fwd-status=200; stored]");
    let same = (304, &[("cache-control", "max-age=20"), ("x", "new")][..], "");
    let validated = "200 one age 0 [ringway; fwd=stale; fwd-status=304; ttl=20; stored]";
    assert_eq!(cache.exchange(15, "GET /a", &[], same), format!("\"1\" -> {validated}"));
    assert_eq!(cache.exchange(30, "GET /a", &[], NEW), "200 one age 15 [ringway; hit; ttl=5]");
    // The client's own condition is judged here, of what the origin says.
    let had = [("if-none-match", "\"1\"")];
    let validated = "304  age 0 [ringway; fwd=stale; fwd-status=304; ttl=20; stored]";
    assert_eq!(cache.exchange(50, "GET /a", &had, same), format!("\"1\" -> {validated}"));
    assert_eq!(cache.exchange(80, "GET /a", &[], NEW), "\"1\" -> 200 two [ringway; fwd=stale; fwd-status=200; stored]");
    assert_eq!(cache.exchange(81, "GET /a", &[], OK), "200 two age 1 [ringway; hit; ttl=599]");
}

#[test]
fn a_304_that_is_for_one_client_is_given_to_that_one_alone() {
    let old = (200, &[("cache-control", "max-age=10"), ("etag", "\"1\"")][..], "one");
    for update in [("cache-control", "private"), ("cache-control", "no-store"), ("vary", "*")] {
        let cache = Cache::telling("{}");
        cache.exchange(0, "GET /a", &[], old);
        let own = (304, &[update, ("set-cookie", "ada")][..], "");
        let given = cache.exchange(15, "GET /a", &[], own);
        assert_eq!(given, "\"1\" -> 200 one age 0 [ringway; fwd=stale; fwd-status=304]", "{update:?}");
        assert_eq!(cache.exchange(16, "GET /a", &[], (404, &[], "none")).get(..12), Some("-> 404 none "), "{update:?}");
    }
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[], old);
    let same = (304, &[("cache-control", "max-age=60")][..], "");
    assert_eq!(cache.exchange(15, "GET /a", &[("cache-control", "no-store")], same), "\"1\" -> 200 one age 0");
    assert_eq!(cache.exchange(16, "GET /a", &[], same), "\"1\" -> 200 one age 0", "it was not stored, nor lost");
    assert_eq!(cache.exchange(17, "GET /a", &[], NEW), "200 one age 1");
}

#[test]
fn a_304_of_another_response_renews_nothing() {
    let old = (200, &[("cache-control", "max-age=10"), ("etag", "\"1\"")][..], "one");
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[], old);
    let other = (304, &[("etag", "\"2\"")][..], "");
    let mut asking = cache.ask(15, "GET /a", &[("if-none-match", "\"0\"")]);
    assert_eq!(asking.conditions(), "\"1\" ");
    assert_eq!(asking.answered(15, other), "again ", "the whole of it, without conditions");
    let refused = "502 {\"error\":\"The upstream's answer does not fit what it was asked.\"}";
    assert_eq!(asking.answered(15, other), refused, "and no third time");
    let mut asking = cache.ask(16, "GET /a", &[]);
    assert_eq!((asking.conditions(), asking.answered(16, old)), (String::new(), "200 one".into()), "it is gone");
    let mut asking = cache.ask(30, "GET /a", &[]);
    assert_eq!(asking.answered(30, other), "again ");
    assert_eq!(asking.answered(31, NEW), "200 two");
    assert_eq!(cache.exchange(32, "GET /a", &[], OK), "200 two age 2");
}

#[test]
fn what_answers_head_says_nothing_of_what_others_get() {
    let old = (200, &[("cache-control", "max-age=10"), ("etag", "\"1\"")][..], "one");
    for (line, lines) in [("HEAD /a", &[][..]), ("GET /a", &[("cache-control", "no-store")])] {
        let cache = Cache::new("{}");
        cache.exchange(0, "GET /a", &[], old);
        cache.exchange(15, line, lines, (200, &[], ""));
        assert_eq!(cache.exchange(16, "GET /a", &[], (304, &[], "")), "\"1\" -> 200 one age 0", "{line}");
    }
}

#[test]
fn who_heeds_nothing_asks_after_nothing() {
    let cache = Cache::new("{useHttpCacheHeaders: false, ttl: 10}");
    let old = (200, &[("etag", "\"1\""), ("cache-control", "max-age=1, stale-if-error=60")][..], "one");
    cache.exchange(0, "GET /a", &[], old);
    assert_eq!(
        cache.exchange(9, "GET /a", &[("if-none-match", "\"1\""), ("cache-control", "no-cache")], NEW),
        "200 one age 9"
    );
    assert_eq!(cache.exchange(10, "GET /a", &[], (503, &[], "bad")), "-> 503 bad");
    assert_eq!(cache.exchange(11, "GET /a", &[], NEW), "-> 200 two");
}

#[test]
fn an_error_is_stood_in_for_where_that_is_said() {
    let old = (200, &[("cache-control", "max-age=10, stale-if-error=60")][..], "one");
    let cache = Cache::telling("{}");
    cache.exchange(0, "GET /a", &[], old);
    let stands_in = "-> 200 one age 20 [ringway; fwd=stale; fwd-status=503; ttl=-10]";
    assert_eq!(cache.exchange(20, "GET /a", &[], (503, &[], "bad")), stands_in);
    assert_eq!(cache.exchange(20, "GET /a", &[], (404, &[], "none")).get(..6), Some("-> 404"));
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[], old);
    assert_eq!(cache.exchange(71, "GET /a", &[], (503, &[], "bad")), "-> 503 bad");
}

#[test]
fn the_origin_takes_back_what_it_has_said() {
    let old = (200, &[("cache-control", "max-age=10, stale-if-error=600")][..], "one");
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[], old);
    assert_eq!(cache.exchange(20, "GET /a", &[], (200, &[("cache-control", "private")], "own")), "-> 200 own");
    assert_eq!(cache.exchange(21, "GET /a", &[], (503, &[], "bad")), "-> 503 bad");
}

#[test]
fn parts_are_cut_from_the_whole() {
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[], (200, &[("etag", "\"1\"")], "0123456789"));
    for (lines, expected) in [
        (&[("range", "bytes=2-4")][..], "206 234 age 1 (bytes 2-4/10)"),
        (&[("range", "bytes=-1"), ("if-range", "\"1\"")], "206 9 age 1 (bytes 9-9/10)"),
        (&[("range", "bytes=-1"), ("if-range", "\"2\"")], "200 0123456789 age 1"),
        (&[("range", "bytes=10-")], "416  age 1 (bytes */10)"),
        (&[("range", "bytes=0-1,4-5")], "200 0123456789 age 1"),
        (&[("if-none-match", "\"1\""), ("range", "bytes=0-1")], "304  age 1"),
    ] {
        assert_eq!(cache.exchange(1, "GET /a", lines, NEW), expected, "{lines:?}");
    }
    let cache = Cache::new("{useHttpCacheHeaders: false}");
    cache.exchange(0, "GET /a", &[], (200, &[("etag", "\"1\"")], "0123456789"));
    assert_eq!(cache.exchange(1, "GET /a", &[("range", "bytes=2-4")], NEW), "200 0123456789 age 1");
}

#[test]
fn a_part_is_stored_for_the_same_part_alone() {
    let part = (206, &[("content-range", "bytes 0-2/9")][..], "one");
    for config in ["{}", "{useHttpCacheHeaders: false}"] {
        let cache = Cache::new(config);
        cache.exchange(0, "GET /a", &[("range", "bytes=0-2")], part);
        assert_eq!(cache.exchange(1, "GET /a", &[("range", "bytes=0-2")], NEW), "206 one age 1", "{config}");
        assert_eq!(cache.exchange(1, "GET /a", &[("range", "bytes=0-3")], NEW), "-> 200 two", "{config}");
    }
}

#[test]
fn a_change_makes_what_it_changes_stale() {
    let cache = Cache::new("{httpCachingKey: '#[attributes.method ++ attributes.requestUri]'}");
    for (method, status, answer, path, expected) in [
        ("PUT", 200, &[][..], "/f/a?x", "-> 200 two"),
        ("POST", 303, &[], "/f/a?x", "-> 200 two"),
        ("PURGE", 200, &[], "/f/a?x", "-> 200 two"),
        ("DELETE", 500, &[], "/f/a?x", "200 one age 1"),
        ("OPTIONS", 200, &[], "/f/a?x", "200 one age 1"),
        ("POST", 201, &[("location", "/f/b")], "/f/b", "-> 200 two"),
        ("POST", 201, &[("location", "b?q=1#f")], "/f/b?q=1", "-> 200 two"),
        ("POST", 201, &[("location", "../c")], "/c", "-> 200 two"),
        ("POST", 201, &[("content-location", "http://API.example:8081/f/b")], "/f/b", "-> 200 two"),
        ("POST", 201, &[("location", "//api.example:8081/f/b")], "/f/b", "-> 200 two"),
        ("POST", 201, &[("location", "http://other.example/f/b")], "/f/b", "200 one age 1"),
    ] {
        cache.state.partition.clear();
        cache.exchange(0, &format!("GET {path}"), &[], OK);
        cache.exchange(1, &format!("{method} /f/a?x"), &[], (status, answer, ""));
        let then = cache.exchange(1, &format!("GET {path}"), &[], NEW);
        assert_eq!(then, expected, "{method} {status} {answer:?}: {path}");
    }
    let cache = Cache::new("{useHttpCacheHeaders: false}");
    cache.exchange(0, "GET /a", &[], OK);
    cache.exchange(1, "PUT /a", &[], (200, &[], ""));
    assert_eq!(cache.exchange(1, "GET /a", &[], NEW), "200 one age 1", "nobody asked it to look");
}

#[test]
fn what_is_the_gateways_own_is_not_stored() {
    let cache = Cache::new("{responseExpression: ''}");
    let mut asking = cache.ask(0, "GET /a", &[]);
    asking.trial.response = ResponseHead { status: 404, own: Some("no_api"), ..ResponseHead::default() };
    asking.turn(0, |policy, turn, exchange| policy.on_response(turn, exchange));
    assert_eq!(cache.exchange(1, "GET /a", &[], OK), "-> 200 one");
}

#[test]
fn what_is_too_large_or_ends_early_passes_unstored() {
    let cache = Cache::new("{}");
    let large = "x".repeat(crate::cache::BODY_BYTES_MAX + 1);
    assert_eq!(cache.exchange(0, "GET /a", &[], (200, &[], &large)).len(), large.len() + 7);
    assert_eq!(cache.exchange(0, "GET /a", &[], (200, &[("content-length", "1048577")], "x")), "-> 200 x");
    assert_eq!(
        cache.exchange(0, "GET /a", &[], (200, &[("content-length", "nine")], &large[2..])).len(),
        large.len() + 5
    );
    assert!(matches!(cache.ask(1, "GET /a", &[]).flow, Flow::Respond(_)), "one byte less is stored");
    let cache = Cache::new("{}");
    let mut cut = cache.ask(0, "GET /a", &[]);
    cut.trial.response.body = BodyLength::Chunked;
    cut.turn(0, |policy, turn, exchange| policy.on_response(turn, exchange));
    let piece = Piece { side: Side::Response, bytes: b"half", is_last: false };
    cache.policy.on_body(Turn { state: &cache.state, kept: &mut cut.kept }, &piece);
    drop(cut);
    assert_eq!(cache.exchange(1, "GET /a", &[], OK), "-> 200 one");
    assert_eq!(cache.state.partition.counted().bytes as usize, Store::default().bytes() + cache.bytes());
}

impl Cache {
    fn bytes(&self) -> usize {
        self.state.partition.find(b"/a", |_| true).map_or(0, |entry| entry.bytes() + 2)
    }
}

#[test]
fn a_stream_of_events_is_for_one() {
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[], (200, &[("content-type", "text/event-stream; charset=utf-8")], "one"));
    assert_eq!(cache.exchange(1, "GET /a", &[], NEW), "-> 200 two");
}

#[test]
fn empty_bodies_are_stored() {
    let cache = Cache::new("{}");
    assert_eq!(cache.exchange(0, "GET /a", &[], (204, &[], "")), "-> 204 ");
    assert_eq!(cache.exchange(1, "GET /a", &[], OK), "204  age 1");
}

#[test]
fn calls_and_other_protocols_pass() {
    let cache = Cache::new("{requestExpression: ''}");
    cache.exchange(0, "POST /a", &[("content-type", "application/grpc+proto")], OK);
    assert_eq!(cache.exchange(0, "POST /a", &[("content-type", "Application/gRPC")], OK), "-> 200 one");
    cache.exchange(0, "GET /a", &[], OK);
    let mut trial = Trial::new("GET", "/a", &[]);
    trial.request.websocket = true;
    let mut kept = Kept::default();
    let flow =
        trial.with(0, |exchange| cache.policy.on_request(Turn { state: &cache.state, kept: &mut kept }, exchange));
    assert!(matches!(flow, Flow::Continue));
}

#[test]
fn conditions_that_only_the_origin_can_judge_are_its_own() {
    let cache = Cache::new("{}");
    cache.exchange(0, "GET /a", &[], OK);
    assert_eq!(cache.exchange(1, "GET /a", &[("if-match", "\"1\"")], NEW), "-> 200 two");
    assert_eq!(cache.exchange(1, "GET /b", &[("if-unmodified-since", "x")], NEW), "-> 200 two");
}

#[test]
fn every_fault_is_reported() {
    let faults = testing::faults::<HttpCaching>;
    assert_eq!(
        faults(
            "{httpCachingKey: '', maxCacheEntries: 0, ttl: 315360001, invalidationHeader: 'a b', \
             requestExpression: 'true', responseExpression: '#[attributes.]'}"
        ),
        [
            "config.maxCacheEntries: expected 1 to 10000000",
            "config.ttl: expected 0 to 315360000",
            "config.httpCachingKey: expected an expression",
            "config.requestExpression: an expression stands in `#[` and `]`, at byte 1",
            "config.responseExpression: a name is expected before the end, at byte 14",
            "config.invalidationHeader: not a header name",
        ]
    );
}

#[test]
fn what_the_documented_key_leaves_out_is_remarked_on() {
    let remarks = testing::remarks::<HttpCaching>;
    let path = "config.httpCachingKey: requests that differ in host or query alone have one entry: the key is the path";
    assert_eq!(remarks("{}"), [path]);
    assert_eq!(remarks("{httpCachingKey: '#[attributes.requestPath]'}"), [path]);
    assert_eq!(remarks("{httpCachingKey: '#[attributes.requestUri]'}"), Vec::<String>::new());
    assert_eq!(
        remarks("{httpCachingKey: all}"),
        ["config.httpCachingKey: all requests have one entry: the key is no expression"]
    );
    assert_eq!(
        remarks("{httpCachingKey: '#[attributes.requestUri]', requestExpression: ' '}"),
        ["config.requestExpression: requests of every method are answered from the cache, POST and DELETE too: it is \
             empty"]
    );
}
