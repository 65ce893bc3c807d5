//! A chain: policies in order on the request, in the reverse order on the response.
//!
//! Each policy's rules are asked when its turn comes, of the request as the policies before it left it. Only those that ran see
//! the response, also when one of them answered the request itself.
//!
//! A run stops where a policy waits, and goes on with the reply: where it stands is in its [`Turns`], so that nothing is
//! borrowed meanwhile.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use super::{
    Core, Exchange, Flow, Instance, Kept, LocalResponse, Need, Needs, Question, Reply, Scan, Scans, Side, Wanted,
};
use crate::{
    config::{
        rule::{PatternLimit, Rule, Scratch},
        snapshot::BoundPolicy,
    },
    http::head::ResponseHead,
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

    /// Drops those that no chain has any more. An exchange that began with one keeps it to its end.
    pub fn retain(&mut self, named: impl Fn(u64) -> bool) {
        self.0.retain(|identity, _| named(*identity));
    }
}

/// Which policies of one chain have run for one request, in order, with what each keeps; reused from request to request.
#[derive(Default)]
pub struct Turns {
    ran: Vec<(usize, Keeps)>,
    /// Where the request direction goes on: the index behind the policy that waits.
    next: usize,
    /// The last of `ran` has had its turn in the response direction, and waits.
    is_held: bool,
    /// The policy at `next`, or the last of `ran`, applies and has asked for a body to be read ahead.
    reading: Option<Side>,
    request_scans: Scans,
    response_scans: Scans,
    /// The last answer that one gave in the place of the one that had come.
    answered: Option<Rc<LocalResponse>>,
}

impl Turns {
    pub fn clear(&mut self) {
        self.ran.clear();
        self.next = 0;
        self.is_held = false;
        self.reading = None;
        self.request_scans.clear();
        self.response_scans.clear();
        self.answered = None;
    }

    /// Those that have had their turn, and look at this body as it passes.
    pub fn scans(&mut self, side: Side) -> &mut Scans {
        match side {
            Side::Request => &mut self.request_scans,
            Side::Response => &mut self.response_scans,
        }
    }

    /// What has to be read before this policy's turn, or `Err`: it has none. `asked`: it was asked for already.
    fn lacks(
        &mut self,
        bound: &BoundPolicy,
        side: Side,
        exchange: &Exchange<'_>,
        asked: bool,
    ) -> Result<Option<Wanted>, TooLarge> {
        let Some(wanted) = bound.needs.of(side).wanted(bound.shadow) else { return Ok(None) };
        match exchange.has_read(side, wanted) {
            true => Ok(None),
            false if !asked => {
                self.reading = Some(side);
                Ok(Some(wanted))
            }
            // A beginning longer than may be read ahead is what was read; only who changes nothing does without.
            false if wanted == Wanted::WholeOrNothing => Err(TooLarge),
            false => Ok(None),
        }
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
            Flow::Respond(answer) => (!shadow).then_some(Next::Respond(answer)),
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

/// The body is too large for a policy in shadow.
struct TooLarge;

/// What a policy keeps of the exchange: shared with the scans of its bodies, where it has any.
enum Keeps {
    Alone(Kept),
    Shared(Rc<RefCell<Kept>>),
}

impl Keeps {
    fn begin(instance: &Instance, needs: Needs) -> Self {
        let kept = instance.begin();
        match needs.request == Need::Scan || needs.response == Need::Scan {
            true => Self::Shared(Rc::new(RefCell::new(kept))),
            false => Self::Alone(kept),
        }
    }

    fn with<R>(&mut self, run: impl FnOnce(&mut Kept) -> R) -> R {
        match self {
            Self::Alone(kept) => run(kept),
            Self::Shared(kept) => run(&mut kept.borrow_mut()),
        }
    }

    /// A policy that lets the message go on looks at its body from here on, and now at what was read ahead of it. Returns what
    /// it has decided.
    fn scan(
        &self,
        flow: Flow,
        side: Side,
        bound: &BoundPolicy,
        instance: &Rc<Instance>,
        exchange: &Exchange<'_>,
        scans: &mut Scans,
    ) -> Flow {
        match (self, &flow) {
            (Self::Shared(kept), Flow::Continue) if bound.needs.of(side) == Need::Scan && exchange.has_body(side) => {
                let mut scan = Scan::new(instance.clone(), kept.clone(), bound.shadow);
                let seen = exchange.body(side).map_or(Ok(()), |body| scan.see_ahead(side, body));
                scans.push(scan);
                seen.map_or_else(Flow::Respond, |()| flow)
            }
            _ => flow,
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
    /// A policy's turn has come, and wants so much of the message's body read ahead: then the same run goes on.
    Body(Wanted),
}

/// Sees what becomes of each policy of a chain; those who serve look away, which costs nothing.
pub trait Watcher {
    /// A policy's turn comes, and its rules hold for the request as it is now, or do not.
    fn turn(&mut self, _index: usize, _applies: &Result<bool, PatternLimit>, _exchange: &Exchange<'_>) {}
    /// It has had its turn, or a part of it where it waits: the same policy's next part comes next.
    fn ran(&mut self, _index: usize, _flow: &Flow, _exchange: &Exchange<'_>) {}
}

/// Nobody looks on.
pub struct Unwatched;

impl Watcher for Unwatched {}

/// The request direction. `chain` and `instances` belong together. `turns` is empty, or of the run that has ended with
/// [`Next::Wait`], which goes on with the `reply`, or with
/// [`Next::Body`].
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
        let (index, shadow, instance) = (*index, chain[*index].shadow, &instances[*index]);
        exchange.set_shadow(shadow);
        let flow = kept.with(|kept| instance.on_reply(kept, exchange, reply));
        let flow = kept.scan(flow, Side::Request, &chain[index], instance, exchange, &mut turns.request_scans);
        watcher.ran(index, &flow, exchange);
        if let Some(next) = turns.decided(flow, shadow, next) {
            return next;
        }
    }
    for (index, (bound, instance)) in chain.iter().zip(instances).enumerate().skip(next) {
        let asked = turns.reading.take().is_some();
        if !asked {
            let applies = applies(&bound.rules, exchange, scratch);
            watcher.turn(index, &applies, exchange);
            match applies {
                Ok(true) => {}
                Ok(false) => continue,
                Err(PatternLimit) => return Next::Respond(LocalResponse::pattern_limit().into()),
            }
        }
        match turns.lacks(bound, Side::Request, exchange, asked) {
            Ok(None) => {}
            Ok(Some(wanted)) => {
                turns.next = index;
                return Next::Body(wanted);
            }
            Err(TooLarge) => continue,
        }
        turns.ran.push((index, Keeps::begin(instance, bound.needs)));
        let (_, kept) = turns.ran.last_mut().expect("it was just pushed");
        exchange.set_shadow(bound.shadow);
        let flow = kept.with(|kept| instance.on_request(kept, exchange));
        let flow = kept.scan(flow, Side::Request, bound, instance, exchange, &mut turns.request_scans);
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
pub fn run_response(
    chain: &[BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'_>,
    reply: &mut Option<Reply>,
    render: &dyn Fn(&mut ResponseHead, &LocalResponse),
) -> Next {
    while let Some((index, mut kept)) = turns.ran.pop() {
        let (bound, instance, shadow) = (&chain[index], &instances[index], chain[index].shadow);
        let asked = turns.reading.take() == Some(Side::Response);
        exchange.set_shadow(shadow);
        let flow = match std::mem::take(&mut turns.is_held) {
            false => match turns.lacks(bound, Side::Response, exchange, asked) {
                Ok(None) => kept.with(|kept| instance.on_response(kept, exchange)),
                Ok(Some(wanted)) => {
                    turns.ran.push((index, kept));
                    return Next::Body(wanted);
                }
                Err(TooLarge) => continue,
            },
            true => match reply.take() {
                Some(reply) => kept.with(|kept| instance.on_reply(kept, exchange, reply)),
                None => continue,
            },
        };
        match kept.scan(flow, Side::Response, bound, instance, exchange, &mut turns.response_scans) {
            Flow::Wait(question) if !shadow => {
                turns.ran.push((index, kept));
                turns.is_held = true;
                return Next::Wait(question);
            }
            Flow::Respond(answer) if !shadow => {
                render(exchange.response_head(), &answer);
                turns.answered = Some(answer);
            }
            Flow::Continue | Flow::Respond(_) | Flow::Wait(_) => {}
        }
    }
    turns.answered.take().map_or(Next::Done, Next::Respond)
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
        config::rule::RawRule,
        http::head::Fields,
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
            policy: compile(name, &testing::node(config), "config", &mut testing::site(), &mut problems),
            rules: rules(path),
            needs: Needs::NONE,
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
        let instances = Instances::default().chain(chain, &Core { id: 0 });
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
                Next::Body(wanted) => panic!("nobody reads {wanted:?}"),
            }
        };
        ran.replaced = loop {
            let render = |_: &mut ResponseHead, _: &LocalResponse| {};
            let next =
                trial.with(4, |exchange| run_response(chain, &instances, &mut turns, exchange, &mut reply, &render));
            match next {
                Next::Done => break None,
                Next::Respond(answer) => break Some(answer.reason),
                Next::Wait(question) => reply = Some(ran.wait(&question)),
                Next::Body(wanted) => panic!("nobody reads {wanted:?}"),
            }
        };
        assert!(turns.ran.is_empty() && !turns.is_held && turns.next == 0, "nothing is left to run twice");
        ran.request = names(&trial.request.fields);
        ran.response = names(&trial.response.fields);
        ran
    }

    impl Ran {
        fn wait(&mut self, question: &Question) -> Reply {
            let Question::Time(time) = question;
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
        let instances = Instances::default().chain(&chain, &Core { id: 0 });
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
        let instances = Instances::default().chain(&chain, &Core { id: 0 });
        let mut trial = testing::Trial::new("GET", "/api/x", &[]);
        let mut turns = Turns::default();
        trial.with(4, |exchange| {
            let next = run_request(&chain, &instances, &mut turns, exchange, &mut scratch, None, &mut Unwatched);
            assert!(matches!(next, Next::Wait(_)));
            // It sees the response that comes instead, and waits once more.
            let render = |_: &mut ResponseHead, _: &LocalResponse| {};
            let next = run_response(&chain, &instances, &mut turns, exchange, &mut None, &render);
            assert!(matches!(next, Next::Wait(_)));
            let next = run_response(&chain, &instances, &mut turns, exchange, &mut None, &render);
            assert!(matches!(next, Next::Done));
        });
        assert_eq!((names(&trial.request.fields), names(&trial.response.fields)), ("a".into(), "a".into()));
    }

    #[test]
    fn what_a_policy_owns_outlives_a_reload_that_does_not_change_it() {
        let (mut chain, _) = chain(&[("header-injection", A, ""), ("header-injection", B, "")]);
        let mut instances = Instances::default();
        let before = instances.chain(&chain, &Core { id: 0 });
        chain.swap(0, 1);
        chain[0].identity = 7;
        let after = instances.chain(&chain, &Core { id: 0 });
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
