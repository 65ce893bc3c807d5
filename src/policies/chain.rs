//! A chain: policies in order on the request, in the reverse order on the response.
//!
//! Each policy's rules are asked when its turn comes, of the request as the policies before it left it. Only those that ran see
//! the response, also when one of them answered the request itself.
//!
//! A run stops where a policy waits, and goes on with the reply: where it stands is in its [`Turns`], so that nothing is
//! borrowed meanwhile.

use std::{collections::HashMap, rc::Rc, time::Instant};

use super::{Core, End, Exchange, Flow, Instance, Kept, LocalResponse, Question, Refusal, Reply, wants::Published};
use crate::{
    config::{
        rule::{PatternLimit, Rule, Scratch},
        snapshot::BoundPolicy,
    },
    http::head::ResponseHead,
    telemetry::policies::Decision,
};

/// One core's policies by identity: what they own outlives a reload that changes nothing for them.
#[derive(Default)]
pub struct Instances(HashMap<u64, Rc<Instance>>);

impl Instances {
    /// Those of a chain, in its order.
    pub fn chain(&mut self, chain: &[BoundPolicy], core: &Core) -> Vec<Rc<Instance>> {
        let instance =
            |bound: &BoundPolicy| self.0.entry(bound.identity).or_insert_with(|| bound.policy.instance(core)).clone();
        chain.iter().map(instance).collect()
    }

    /// Hands all of them what has been published.
    pub fn publish(&self, published: &Published) {
        self.0.values().for_each(|instance| instance.publish(published));
    }

    /// Drops those that no chain has any more. An exchange that began with one keeps it to its end.
    pub fn retain(&mut self, named: impl Fn(u64) -> bool) {
        self.0.retain(|identity, _| named(*identity));
    }
}

/// Which policies of one chain have run for one request, in order, with what each keeps; reused from request to request.
#[derive(Default)]
pub struct Turns {
    ran: Vec<(usize, Kept)>,
    /// How many of them, from the last, have had their turn in the response direction.
    seen: usize,
    /// Where the request direction goes on: the index behind the policy that waits.
    next: usize,
    /// The last of those that are not `seen` has had its turn in the response direction, and waits.
    is_held: bool,
    /// The policy that has answered, in either direction, and with which status.
    refused: Option<(usize, u16)>,
    /// The last answer that one gave in the place of the one that had come.
    answered: Option<Rc<LocalResponse>>,
}

impl Turns {
    pub fn clear(&mut self) {
        self.ran.clear();
        self.seen = 0;
        self.next = 0;
        self.is_held = false;
        self.refused = None;
        self.answered = None;
    }

    /// No policy has run.
    pub fn is_empty(&self) -> bool {
        self.ran.is_empty()
    }

    /// An answer has taken the place of the response's before this chain's part of the response direction begins.
    pub fn answered_before(&mut self, answer: Rc<LocalResponse>) {
        self.answered = Some(answer);
    }

    /// What the policy that has run last has decided for the request, the one behind it being `next`. `None`: that one's
    /// turn comes.
    fn decided(&mut self, flow: Flow, shadow: bool, next: usize) -> Option<Next> {
        match flow {
            Flow::Continue => None,
            Flow::Respond(answer) if !shadow => {
                self.refused = Some((next - 1, answer.status));
                Some(Next::Respond(answer))
            }
            Flow::Respond(_) => None,
            Flow::Wait(question) if !shadow => {
                self.next = next;
                Some(Next::Wait(question))
            }
            Flow::Wait(_) => {
                self.ran.pop();
                None
            }
        }
    }
}

/// What comes after a run of a chain.
#[derive(Debug)]
pub enum Next {
    /// Every policy has had its turn.
    Done,
    Respond(Rc<LocalResponse>),
    /// A policy waits: the same run goes on with the reply.
    Wait(Box<Question>),
}

/// Sees what becomes of each policy of a chain: those who serve count the decisions, `explain` wants to know all. What nobody
/// wants to know costs nothing.
pub trait Watcher {
    /// A policy's turn comes, and its rules hold for the request as it is now, or do not.
    fn turn(&mut self, _index: usize, _applies: &Result<bool, PatternLimit>, _exchange: &Exchange<'_>) {}
    /// It has had its turn, or a part of it where it waits: the same policy's next part comes next.
    fn ran(&mut self, _index: usize, _flow: &Flow, _exchange: &Exchange<'_>) {}
    /// When a turn begins, where its time is measured.
    fn begins(&mut self) -> Option<Instant> {
        None
    }
    /// What a policy has decided, in either direction; `None`: it has seen an answer, which passes. With when its turn began.
    fn decided(&mut self, _bound: &BoundPolicy, _decision: Option<Decision>, _began: Option<Instant>) {}
}

/// Nobody looks on.
pub struct Unwatched;

impl Watcher for Unwatched {}

/// The request direction. `chain` and `instances` belong together. `turns` is empty, or of the run that has ended with
/// [`Next::Wait`], which goes on with the `reply`.
pub fn run_request(
    chain: &[BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'_>,
    scratch: &mut Scratch,
    reply: Option<Reply>,
    watcher: &mut impl Watcher,
) -> Next {
    let next = std::mem::take(&mut turns.next);
    if let (Some(reply), Some((index, kept))) = (reply, turns.ran.last_mut()) {
        let (index, bound, instance) = (*index, &chain[*index], &instances[*index]);
        let flow = take_turn(bound, REQUEST, exchange, watcher, |exchange| instance.on_reply(kept, exchange, reply));
        watcher.ran(index, &flow, exchange);
        if let Some(next) = turns.decided(flow, bound.shadow, next) {
            return next;
        }
    }
    for (index, (bound, instance)) in chain.iter().zip(instances).enumerate().skip(next) {
        let applies = applies(&bound.rules, exchange, scratch);
        watcher.turn(index, &applies, exchange);
        match applies {
            Ok(true) => {}
            Ok(false) => continue,
            Err(PatternLimit) => {
                let answer = LocalResponse::pattern_limit();
                watcher.decided(bound, Some(Decision::Fail(answer.reason)), None);
                turns.refused = Some((index, answer.status));
                return Next::Respond(answer.into());
            }
        }
        turns.ran.push((index, instance.begin()));
        let (_, kept) = turns.ran.last_mut().expect("it was just pushed");
        let flow = take_turn(bound, REQUEST, exchange, watcher, |exchange| instance.on_request(kept, exchange));
        watcher.ran(index, &flow, exchange);
        if let Some(next) = turns.decided(flow, bound.shadow, index + 1) {
            return next;
        }
    }
    Next::Done
}

/// The response direction, once for an exchange: every policy that has run, in the reverse order. Where one answers itself,
/// `render` makes a head of that, which those before it see; the last such answer is what comes next. A run that has ended
/// with [`Next::Wait`] goes on with the `reply`, which is taken by who waits for it; without one the policy that waits has
/// had its turn.
pub fn run_response<'x>(
    chain: &'x [BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'x>,
    reply: &mut Option<Reply>,
    render: &dyn Fn(&mut ResponseHead, &LocalResponse),
    watcher: &mut impl Watcher,
) -> Next {
    let refused = |(index, status): (usize, u16)| Refusal { policy: &chain[index].reference, status };
    if let Some(before) = turns.refused {
        exchange.set_refusal(refused(before));
    }
    while let Some(last) = turns.ran.len().checked_sub(turns.seen + 1) {
        let (index, kept) = &mut turns.ran[last];
        let (index, bound, instance) = (*index, &chain[*index], &instances[*index]);
        turns.seen += 1;
        let reply = match std::mem::take(&mut turns.is_held) {
            false => None,
            true => match reply.take() {
                Some(reply) => Some(reply),
                None => continue,
            },
        };
        let flow = take_turn(bound, RESPONSE, exchange, watcher, |exchange| match reply {
            Some(reply) => instance.on_reply(kept, exchange, reply),
            None => instance.on_response(kept, exchange),
        });
        match flow {
            Flow::Wait(question) if !bound.shadow => {
                turns.seen -= 1;
                turns.is_held = true;
                return Next::Wait(question);
            }
            Flow::Respond(answer) if !bound.shadow => {
                render(exchange.response_head(), &answer);
                turns.refused = Some((index, answer.status));
                exchange.set_refusal(refused((index, answer.status)));
                turns.answered = Some(answer);
            }
            Flow::Continue | Flow::Respond(_) | Flow::Wait(_) => {}
        }
    }
    turns.answered.take().map_or(Next::Done, Next::Respond)
}

/// What it is called that a policy lets the exchange go on, in the direction of the request, and of the response: there it is
/// nothing that it decides.
const REQUEST: Option<Decision> = Some(Decision::Continue);
const RESPONSE: Option<Decision> = None;

/// A policy's turn, or what is left of it after a wait: the one place where its decision is known.
fn take_turn(
    bound: &BoundPolicy,
    goes_on: Option<Decision>,
    exchange: &mut Exchange<'_>,
    watcher: &mut impl Watcher,
    run: impl FnOnce(&mut Exchange<'_>) -> Flow,
) -> Flow {
    exchange.set_shadow(bound.shadow);
    let began = watcher.begins();
    let flow = run(exchange);
    let decision = match &flow {
        Flow::Continue => goes_on,
        Flow::Wait(_) => Some(Decision::Wait),
        Flow::Respond(answer) => match (answer.status, bound.shadow) {
            // One that would have answered and refused nothing, such as a preflight.
            (..400, true) => goes_on,
            (_, true) => Some(Decision::ShadowDeny(answer.reason)),
            (500.., false) => Some(Decision::Fail(answer.reason)),
            (_, false) => Some(Decision::Respond(answer.reason)),
        },
    };
    watcher.decided(bound, decision, began);
    flow
}

/// The end of the exchange, to every policy that has run, in the order of the response direction. Then `turns` is empty.
pub fn run_log<'x>(
    chain: &'x [BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'x>,
    end: &End,
) {
    if let Some((index, status)) = turns.refused {
        exchange.set_refusal(Refusal { policy: &chain[index].reference, status });
    }
    for (index, kept) in turns.ran.iter_mut().rev() {
        exchange.set_shadow(chain[*index].shadow);
        instances[*index].on_log(kept, exchange, end);
    }
    turns.clear();
}

fn applies(rules: &[Rule], exchange: &Exchange<'_>, scratch: &mut Scratch) -> Result<bool, PatternLimit> {
    if rules.is_empty() {
        return Ok(true);
    }
    let input = exchange.rule_input();
    for rule in rules {
        if rule.holds(&input, scratch)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{rule::RawRule, snapshot::SeriesId},
        policies::{Compiled, compile, testing},
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
            shadow: false,
        });
        let chain = chain.collect();
        (chain, Scratch::new(patterns))
    }

    /// What the chain does with `GET path`, where 4 bytes are the API's base: the headers that go upstream and the reason of
    /// a refusal, then the headers of the response.
    fn run(chain: &[BoundPolicy], scratch: &mut Scratch, path: &str) -> (String, Option<&'static str>, String) {
        let instances = Instances::default().chain(chain, &Core::default());
        let mut trial = testing::Trial::new("GET", path, &[]);
        let mut turns = Turns::default();
        let reason = trial.with(4, |exchange| {
            match run_request(chain, &instances, &mut turns, exchange, scratch, None, &mut Unwatched) {
                Next::Done => None,
                Next::Respond(refusal) => Some(refusal.reason),
                Next::Wait(question) => panic!("nobody answers {question:?}"),
            }
        });
        trial.with(4, |exchange| {
            run_response(chain, &instances, &mut turns, exchange, &mut None, &|_, _| {}, &mut Unwatched)
        });
        assert_eq!(turns.seen, turns.ran.len(), "nothing is left to run twice");
        trial.with(4, |exchange| run_log(chain, &instances, &mut turns, exchange, &End::default()));
        assert!(turns.is_empty(), "the next request finds nothing");
        let names = |fields| testing::lines(fields).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        (names(&trial.request.fields), reason, names(&trial.response.fields))
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
        let written =
            [("header-injection", A, "/x"), ("header-injection", B, "/api/x"), ("header-injection", C, "/.*")];
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
        let written = [("header-injection", A, ""), ("rate-limiting", "{}", "/x"), ("header-injection", B, "")];
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
            ("rate-limiting", "{}", ""),
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
}
